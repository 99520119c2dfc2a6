// Fibers by Binaryen's Asyncify, which the module brings along: wasm-opt makes its functions unwind and rewind, into buffers
// in memory. Trees are walked by recursive fibers in step with each other, which sleep deep inside. So while the program
// sleeps, one fiber is on the stack and the others are in memory, and what is on the stack is code that can unwind itself.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASYNCIFY(name) __attribute__((import_module("asyncify"), import_name(#name))) void asyncify_##name
ASYNCIFY(start_unwind)(void *buffer);
ASYNCIFY(stop_unwind)(void);
ASYNCIFY(start_rewind)(void *buffer);
ASYNCIFY(stop_rewind)(void);

__asm__(".globaltype __stack_pointer, i32");

static inline char *stack_pointer(void) {
	char *sp;
	__asm__ volatile("global.get __stack_pointer\n\tlocal.set %0" : "=r"(sp));
	return sp;
}

static inline void set_stack_pointer(char *sp) {
	__asm__ volatile("local.get %0\n\tglobal.set __stack_pointer" : : "r"(sp));
}

enum { FRAMES = 8192, STACK = 16384 };

struct fiber {
	struct { char *at, *end; } buffer; // as Asyncify wants it
	void (*entry)(struct fiber *);
	enum { NEW, RUNNING, WAITING, DONE } state;
	int leaving;
	struct fiber *below; // who has resumed it
	char *sp, *sp_below;
	void *arg;
	int value; // that it hands out
	char frames[FRAMES];
	char stack[STACK] __attribute__((aligned(16)));
};

static struct fiber *current;
static int switches;

static struct fiber *make(void (*entry)(struct fiber *), void *arg) {
	struct fiber *f = calloc(1, sizeof *f);
	f->entry = entry;
	f->arg = arg;
	f->sp = f->stack + STACK;
	return f;
}

// call runs a fiber on its own stack, from its entry, where it is rewound from if it waited.
static __attribute__((noinline)) void call(struct fiber *f) {
	f->sp_below = stack_pointer();
	set_stack_pointer(f->stack + STACK);
	if (f->state == WAITING)
		asyncify_start_rewind(&f->buffer);
	f->state = RUNNING;
	f->entry(f);
	if (f->leaving)
		asyncify_stop_unwind();
	set_stack_pointer(f->sp_below);
}

// resume goes on with a fiber until it hands out a value, and returns 0 if it has ended instead.
static __attribute__((noinline)) int resume(struct fiber *f) {
	if (f->state == DONE)
		return 0;
	f->below = current;
	current = f;
	switches++;
	call(f);
	current = f->below;
	f->state = f->leaving ? WAITING : DONE;
	return f->state == WAITING;
}

// hand_out suspends the current fiber. It is called again when that is rewound.
static __attribute__((noinline)) void hand_out(int value) {
	struct fiber *f = current;
	if (f->leaving) {
		f->leaving = 0;
		asyncify_stop_rewind();
		set_stack_pointer(f->sp);
		return;
	}
	f->value = value;
	f->leaving = 1;
	f->sp = stack_pointer();
	f->buffer.at = f->frames;
	f->buffer.end = f->frames + FRAMES;
	asyncify_start_unwind(&f->buffer);
}

struct tree {
	struct tree *left, *right;
	int key;
};

static struct tree *insert(struct tree *t, int key) {
	if (!t) {
		t = calloc(1, sizeof *t);
		t->key = key;
	} else if (key < t->key) {
		t->left = insert(t->left, key);
	} else {
		t->right = insert(t->right, key);
	}
	return t;
}

static double depth_sum;

static __attribute__((noinline)) void walk(struct tree *t, int depth) {
	if (!t)
		return;
	char note[24];
	snprintf(note, sizeof note, "%d@%d", t->key, depth);
	double before = depth_sum;
	walk(t->left, depth + 1);
	if (t->key % 5 == 0)
		usleep(1000);
	hand_out(t->key);
	depth_sum = before + depth * 0.5;
	walk(t->right, depth + 1);
	if (atoi(note) != t->key)
		abort();
}

static void walker(struct fiber *f) { walk(f->arg, 0); }

// filter is a fiber that resumes another, and so on: each hands on what isn't a multiple of its number.
static void filter(struct fiber *f) {
	struct fiber *from = f->arg;
	while (resume(from)) {
		if (from->value % f->value == 0)
			continue;
		int number = f->value;
		hand_out(from->value);
		f->value = number;
	}
	usleep(1000);
}

static void counter(struct fiber *f) {
	for (int i = 2; i < *(int *)f->arg; i++) {
		if (i % 8 == 0)
			usleep(1000);
		hand_out(i);
	}
}

int main(int argc, char **argv) {
	int n = argc > 1 ? atoi(argv[1]) : 12;
	struct tree *a = 0, *b = 0;
	for (int i = 0; i < n; i++) {
		a = insert(a, i * 7 % n);
		b = insert(b, i * 5 % n);
	}
	struct fiber *fa = make(walker, a), *fb = make(walker, b);
	int same = 1, seen = 0;
	for (;;) {
		int more = resume(fa);
		if (more != resume(fb) || (more && fa->value != fb->value))
			same = 0;
		if (!more)
			break;
		seen++;
		printf("%d%s", fa->value, seen % 10 ? " " : "\n");
	}
	printf("\nsame fringe: %d of %d, %.1f\n", same, seen, depth_sum);

	// A sieve: a chain of fibers, one for each prime.
	int limit = n * 3;
	struct fiber *source = make(counter, &limit);
	while (resume(source)) {
		int prime = source->value;
		printf("prime %d\n", prime);
		struct fiber *f = make(filter, source);
		f->value = prime;
		source = f;
	}
	printf("%d switches\n", switches);
	return same ? switches % 100 : 1;
}
