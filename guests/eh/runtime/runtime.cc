// What C++ exceptions need at run time, over WebAssembly's: throw of values, catches by type, catch (...), rethrow and
// destructors. Debian's libc++ for WebAssembly is built without.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct header {
	void *type;
	void *(*destroy)(void *);
	int handlers;
	header *next; // caught before
};

static header *caught;
static header *of(void *thrown) { return (header *)thrown - 1; }

extern "C" {

struct {
	uintptr_t lpad_index;
	const uint8_t *lsda;
	uintptr_t selector;
} __wasm_lpad_context;

void *__cxa_allocate_exception(size_t n) {
	header *h = (header *)calloc(1, sizeof(header) + n);
	return h + 1;
}
void __cxa_free_exception(void *p) { free(of(p)); }

[[noreturn]] void __cxa_throw(void *p, void *type, void *(*destroy)(void *)) {
	of(p)->type = type;
	of(p)->destroy = destroy;
	__builtin_wasm_throw(0, p);
}

void *__cxa_begin_catch(void *p) {
	header *h = of(p);
	h->handlers++;
	if (caught != h) {
		h->next = caught;
		caught = h;
	}
	return p;
}

void __cxa_end_catch() {
	header *h = caught;
	if (--h->handlers > 0)
		return;
	caught = h->next;
	if (h->handlers == 0) {
		if (h->destroy)
			h->destroy(h + 1);
		free(h);
	}
}

[[noreturn]] void __cxa_rethrow() {
	header *h = caught;
	caught = h->next;
	h->handlers = 0;
	__builtin_wasm_throw(0, h + 1);
}

[[noreturn]] void _ZSt9terminatev() { abort(); }
[[noreturn]] void __clang_call_terminate(void *) { abort(); }
int __gxx_wasm_personality_v0(int, ...) { return 0; }
// Objects whose addresses stand for classes of type information.
void *_ZTVN10__cxxabiv117__class_type_infoE[8];
void *_ZTVN10__cxxabiv120__si_class_type_infoE[8];
void *_ZTVN10__cxxabiv119__pointer_type_infoE[8];
void *_ZTIi[2], *_ZTId[2], *_ZTIPKc[2];
void __cxa_pure_virtual() { abort(); }
}

void operator delete(void *p) noexcept { free(p); }
void operator delete(void *p, size_t) noexcept { free(p); }
void *operator new(size_t n) { return malloc(n); }

static uint32_t uleb(const uint8_t *&p) {
	uint32_t v = 0, s = 0;
	do {
		v |= uint32_t(*p & 0x7f) << s;
		s += 7;
	} while (*p++ & 0x80);
	return v;
}

static int32_t sleb(const uint8_t *&p) {
	int32_t v = 0, s = 0;
	uint8_t b;
	do {
		b = *p++;
		v |= int32_t(b & 0x7f) << s;
		s += 7;
	} while (b & 0x80);
	if (s < 32 && (b & 0x40))
		v |= -(1 << s);
	return v;
}

static bool matches(void **want, void **type) {
	for (;;) {
		if (want == type)
			return true;
		if (type[0] != (void *)(_ZTVN10__cxxabiv120__si_class_type_infoE + 2))
			return false;
		type = (void **)type[2];
	}
}

// Finds the clause of the landing pad that takes the exception. The call site table of WebAssembly has landing pad's index
// and action for each.
extern "C" int _Unwind_CallPersonality(void *p) {
	const uint8_t *l = __wasm_lpad_context.lsda;
	__wasm_lpad_context.selector = 0;
	if (*l++ != 0xff)
		uleb(l);
	uint8_t encoding = *l++;
	const uint8_t *types = 0;
	if (encoding != 0xff) {
		uint32_t offset = uleb(l);
		types = l + offset;
	}
	l++; // encoding of call sites
	uint32_t length = uleb(l);
	const uint8_t *actions = l + length;
	for (const uint8_t *at = l; at < actions;) {
		uint32_t pad = uleb(at), action = uleb(at);
		if (pad != __wasm_lpad_context.lpad_index)
			continue;
		while (action) {
			const uint8_t *a = actions + action - 1;
			int32_t filter = sleb(a);
			const uint8_t *before = a;
			int32_t next = sleb(a);
			if (filter > 0) {
				void **want;
				memcpy(&want, types - filter * 4, 4);
				if (!want || matches(want, (void **)of(p)->type)) {
					__wasm_lpad_context.selector = filter;
					return 6;
				}
			}
			action = next ? (uint32_t)(before + next - actions) + 1 : 0;
		}
	}
	return 8;
}
