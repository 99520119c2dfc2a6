// A small stack language: text is compiled to bytecode, and a dispatch loop runs it, one C call of the loop per call in
// the program, as most interpreters do. No setjmp.
//
//	interp           runs a program that sleeps now and then
//	interp bench     computes only; prints "name seconds" for each part, and a checksum
//	interp -c TEXT   runs TEXT
//
// The language: numbers, "strings", `: name … ;` definitions, `if … else … then`, `begin … until`, and the words below.
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum kind { NUMBER, REAL, STRING };

struct text {
	int refs;
	size_t len;
	char bytes[];
};

struct value {
	enum kind kind;
	union {
		int64_t n;
		double d;
		struct text *s;
	};
};

enum op { PUSH, WORD, CALL, JUMP, JUMPZ, RETURN, ADD, SUB, MUL, LESS, EQUAL, DUP, DROP, SWAP, OVER, LOAD, STORE };

struct code {
	enum op op;
	int arg;
	struct value value;
};

struct vm {
	struct code *code;
	int len, cap;
	struct value stack[4096];
	int sp;
	struct value vars[26];
	struct {
		char name[32];
		int at;
	} defs[128];
	int ndefs;
};

static void fail(const char *what, const char *detail) {
	fprintf(stderr, "interp: %s: %s\n", what, detail);
	exit(2);
}

static struct value number(int64_t n) {
	struct value v = {.kind = NUMBER, .n = n};
	return v;
}

static struct value real(double d) {
	struct value v = {.kind = REAL, .d = d};
	return v;
}

static struct value string(const char *s, size_t len) {
	struct text *t = malloc(sizeof *t + len + 1);
	t->refs = 1;
	t->len = len;
	memcpy(t->bytes, s, len);
	t->bytes[len] = 0;
	struct value v = {.kind = STRING, .s = t};
	return v;
}

static struct value keep(struct value v) {
	if (v.kind == STRING) v.s->refs++;
	return v;
}

static void release(struct value v) {
	if (v.kind == STRING && --v.s->refs == 0) free(v.s);
}

static void push(struct vm *vm, struct value v) {
	if (vm->sp == 4096) fail("stack", "overflow");
	vm->stack[vm->sp++] = v;
}

static struct value pop(struct vm *vm) {
	if (vm->sp == 0) fail("stack", "underflow");
	return vm->stack[--vm->sp];
}

static double as_real(struct value v) { return v.kind == REAL ? v.d : (double)v.n; }

static void show(struct value v, char *buf, size_t cap) {
	switch (v.kind) {
	case NUMBER: snprintf(buf, cap, "%lld", (long long)v.n); break;
	case REAL: snprintf(buf, cap, "%.12g", v.d); break;
	case STRING: snprintf(buf, cap, "%s", v.s->bytes); break;
	}
}

// Words, reached through a table of function pointers.

static void word_print(struct vm *vm) {
	char buf[256];
	struct value v = pop(vm);
	show(v, buf, sizeof buf);
	printf("%s ", buf);
	release(v);
}

static void word_line(struct vm *vm) {
	(void)vm;
	printf("\n");
	fflush(stdout);
}

static void word_sleep(struct vm *vm) {
	int64_t ms = pop(vm).n;
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&t, NULL);
}

static void word_concat(struct vm *vm) {
	char a[256], b[256];
	struct value y = pop(vm), x = pop(vm);
	show(x, a, sizeof a);
	show(y, b, sizeof b);
	release(x);
	release(y);
	size_t la = strlen(a), lb = strlen(b);
	char *both = malloc(la + lb + 1);
	memcpy(both, a, la);
	memcpy(both + la, b, lb + 1);
	push(vm, string(both, la + lb));
	free(both);
}

static void word_hash(struct vm *vm) {
	struct value v = pop(vm);
	uint32_t h = 2166136261u;
	if (v.kind != STRING) fail("hash", "not a string");
	for (size_t i = 0; i < v.s->len; i++) h = (h ^ (unsigned char)v.s->bytes[i]) * 16777619u;
	release(v);
	push(vm, number(h));
}

static void word_divide(struct vm *vm) {
	double y = as_real(pop(vm)), x = as_real(pop(vm));
	push(vm, real(x / y));
}

static void word_mod(struct vm *vm) {
	int64_t y = pop(vm).n, x = pop(vm).n;
	push(vm, number(y ? x % y : 0));
}

static const struct {
	const char *name;
	void (*run)(struct vm *);
} words[] = {{".", word_print},   {"cr", word_line}, {"sleep", word_sleep}, {"&", word_concat},
             {"hash", word_hash}, {"/", word_divide}, {"mod", word_mod}};

static const struct {
	const char *name;
	enum op op;
} operators[] = {{"+", ADD}, {"-", SUB}, {"*", MUL},     {"<", LESS},     {"=", EQUAL},
                 {"dup", DUP}, {"drop", DROP}, {"swap", SWAP}, {"over", OVER}, {"exit", RETURN}};

// The compiler.

static int emit(struct vm *vm, enum op op, int arg) {
	if (vm->len == vm->cap) {
		vm->cap = vm->cap ? vm->cap * 2 : 64;
		vm->code = realloc(vm->code, (size_t)vm->cap * sizeof *vm->code);
	}
	struct code c = {.op = op, .arg = arg};
	vm->code[vm->len] = c;
	return vm->len++;
}

static int find(struct vm *vm, const char *name) {
	for (int i = vm->ndefs - 1; i >= 0; i--)
		if (strcmp(vm->defs[i].name, name) == 0) return vm->defs[i].at;
	return -1;
}

// Compiles text; returns where the code outside of definitions starts.
static int compile(struct vm *vm, const char *p) {
	int fix[32], depth = 0, defining = -1;
	int skip = emit(vm, JUMP, 0), start = skip;
	while (*p) {
		char tok[64];
		size_t n = 0;
		while (isspace((unsigned char)*p)) p++;
		if (!*p) break;
		if (*p == '"') {
			const char *end = strchr(++p, '"');
			if (!end) fail("string", "no closing quote");
			vm->code[emit(vm, PUSH, 0)].value = string(p, (size_t)(end - p));
			p = end + 1;
			continue;
		}
		while (*p && !isspace((unsigned char)*p) && n < sizeof tok - 1) tok[n++] = *p++;
		tok[n] = 0;
		if (strcmp(tok, ":") == 0) {
			while (isspace((unsigned char)*p)) p++;
			n = 0;
			while (*p && !isspace((unsigned char)*p) && n < 31) vm->defs[vm->ndefs].name[n++] = *p++;
			vm->defs[vm->ndefs].name[n] = 0;
			defining = emit(vm, JUMP, 0); // code outside of definitions jumps over this one
			vm->defs[vm->ndefs++].at = vm->len;
		} else if (strcmp(tok, ";") == 0) {
			if (defining < 0) fail("unexpected", tok);
			emit(vm, RETURN, 0);
			vm->code[defining].arg = vm->len;
			defining = -1;
		} else if (strcmp(tok, "if") == 0) {
			fix[depth++] = emit(vm, JUMPZ, 0);
		} else if (strcmp(tok, "else") == 0) {
			int over = emit(vm, JUMP, 0);
			vm->code[fix[depth - 1]].arg = vm->len;
			fix[depth - 1] = over;
		} else if (strcmp(tok, "then") == 0) {
			vm->code[fix[--depth]].arg = vm->len;
		} else if (strcmp(tok, "begin") == 0) {
			fix[depth++] = vm->len;
		} else if (strcmp(tok, "until") == 0) {
			emit(vm, JUMPZ, fix[--depth]);
		} else if (tok[0] == '@' && islower((unsigned char)tok[1]) && !tok[2]) {
			emit(vm, LOAD, tok[1] - 'a');
		} else if (tok[0] == '!' && islower((unsigned char)tok[1]) && !tok[2]) {
			emit(vm, STORE, tok[1] - 'a');
		} else {
			int done = 0, at = find(vm, tok);
			if (at >= 0) {
				emit(vm, CALL, at);
				continue;
			}
			for (size_t i = 0; !done && i < sizeof words / sizeof *words; i++)
				if (strcmp(tok, words[i].name) == 0) done = 1, emit(vm, WORD, (int)i);
			for (size_t i = 0; !done && i < sizeof operators / sizeof *operators; i++)
				if (strcmp(tok, operators[i].name) == 0) done = 1, emit(vm, operators[i].op, 0);
			if (done) continue;
			char *end;
			int64_t v = strtoll(tok, &end, 10);
			if (*end == '.') vm->code[emit(vm, PUSH, 0)].value = real(strtod(tok, NULL));
			else if (*end) fail("unknown word", tok);
			else vm->code[emit(vm, PUSH, 0)].value = number(v);
		}
	}
	emit(vm, RETURN, 0);
	vm->code[skip].arg = skip + 1;
	return start;
}

// The dispatch loop.

static void run(struct vm *vm, int pc) {
	for (;;) {
		const struct code *c = &vm->code[pc++];
		struct value x, y;
		switch (c->op) {
		case PUSH: push(vm, keep(c->value)); break;
		case WORD: words[c->arg].run(vm); break;
		case CALL: run(vm, c->arg); break;
		case JUMP: pc = c->arg; break;
		case JUMPZ:
			if (pop(vm).n == 0) pc = c->arg;
			break;
		case RETURN: return;
		case ADD:
			y = pop(vm), x = pop(vm);
			push(vm, x.kind == REAL || y.kind == REAL ? real(as_real(x) + as_real(y)) : number(x.n + y.n));
			break;
		case SUB:
			y = pop(vm), x = pop(vm);
			push(vm, x.kind == REAL || y.kind == REAL ? real(as_real(x) - as_real(y)) : number(x.n - y.n));
			break;
		case MUL:
			y = pop(vm), x = pop(vm);
			push(vm, x.kind == REAL || y.kind == REAL ? real(as_real(x) * as_real(y)) : number(x.n * y.n));
			break;
		case LESS:
			y = pop(vm), x = pop(vm);
			push(vm, number(as_real(x) < as_real(y)));
			break;
		case EQUAL:
			y = pop(vm), x = pop(vm);
			push(vm, number(as_real(x) == as_real(y)));
			break;
		case DUP:
			x = pop(vm);
			push(vm, x);
			push(vm, keep(x));
			break;
		case DROP: release(pop(vm)); break;
		case SWAP:
			y = pop(vm), x = pop(vm);
			push(vm, y);
			push(vm, x);
			break;
		case OVER:
			if (vm->sp < 2) fail("stack", "underflow");
			push(vm, keep(vm->stack[vm->sp - 2]));
			break;
		case LOAD: push(vm, keep(vm->vars[c->arg])); break;
		case STORE:
			release(vm->vars[c->arg]);
			vm->vars[c->arg] = pop(vm);
			break;
		}
	}
}

static const char demo[] =
    ": fib dup 2 < if exit then dup 1 - fib swap 2 - fib + ;\n"
    ": deep dup 0 = if 3 sleep drop 0 exit then dup 1 - deep + ;\n" // sleeps at the bottom, its numbers waiting above
    ": name \"fib(\" swap & \")\" & ;\n"
    ": step @i name . @i fib . @i 4 * deep . 5 sleep \"h\" @s & !s @s hash . @i 7 / . cr @i 1 + !i ;\n"
    "1 !i \"\" !s begin step @i 16 = until @s . cr\n";

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int64_t timed(struct vm *vm, const char *name, const char *text) {
	double t = now();
	run(vm, compile(vm, text));
	printf("%s %f\n", name, now() - t);
	return pop(vm).n;
}

static int bench(struct vm *vm) {
	int64_t sum = 0;
	sum += timed(vm, "fib", ": fib dup 2 < if exit then dup 1 - fib swap 2 - fib + ; 29 fib");
	sum = sum * 31 + timed(vm, "loop", "0 !s 1000000 !i begin @s @i @i * + !s @i 1 - !i @i 0 = until @s");
	sum = sum * 31 + timed(vm, "strings", "0 !h 100000 !i begin @h \"key\" @i & \"/\" & hash + !h @i 1 - !i @i 0 = until @h");
	printf("checksum %lld\n", (long long)sum);
	return 0;
}

int main(int argc, char **argv) {
	static struct vm vm;
	if (argc > 1 && strcmp(argv[1], "bench") == 0) return bench(&vm);
	run(&vm, compile(&vm, argc > 2 && strcmp(argv[1], "-c") == 0 ? argv[2] : demo));
	return vm.sp;
}
