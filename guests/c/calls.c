// Calls and little else: each of them may suspend, and almost none does.
//
//	calls            prints "name seconds" for each part, and a checksum
//	calls sleep      smaller; sleeps 2 ms every so often, in the middle of everything; prints checksums only
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned countdown, period;

static __attribute__((noinline, cold)) void rest(void) {
	struct timespec t = {0, 2000000};
	countdown = period;
	if (period) nanosleep(&t, NULL);
}

// The compiler can't know that this is hardly ever true.
static inline void maybe(void) {
	if (__builtin_expect(--countdown == 0, 0)) rest();
}

static __attribute__((noinline)) int fib(int n) {
	maybe();
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static int ascending(const void *a, const void *b) {
	maybe();
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	return x < y ? -1 : x > y;
}

struct node {
	struct node *left, *right;
	unsigned key;
};

static struct node *insert(struct node *n, unsigned key) {
	maybe();
	if (!n) {
		n = calloc(1, sizeof *n);
		n->key = key;
	} else if (key < n->key) {
		n->left = insert(n->left, key);
	} else {
		n->right = insert(n->right, key);
	}
	return n;
}

static uint64_t walk(const struct node *n, uint64_t h) {
	maybe();
	if (!n) return h;
	h = walk(n->left, h);
	h = (h ^ n->key) * 1099511628211u;
	return walk(n->right, h);
}

typedef double (*op)(double, int64_t);
static __attribute__((noinline)) double grow(double x, int64_t n) { maybe(); return x + (double)n; }
static __attribute__((noinline)) double shrink(double x, int64_t n) { maybe(); return x * (n & 1 ? 0.5 : 0.25); }
static __attribute__((noinline)) double flip(double x, int64_t n) { maybe(); return (double)n - x; }
static __attribute__((noinline)) double same(double x, int64_t n) { (void)n; maybe(); return x; }
static op ops[4] = {grow, shrink, flip, same};

// No calls: what the transform costs where there is nothing to suspend.
static unsigned grid[256][256];
static __attribute__((noinline)) unsigned leaf(int rounds) {
	for (int k = 0; k < rounds; k++)
		for (int i = 1; i < 255; i++)
			for (int j = 1; j < 255; j++)
				for (unsigned q = 0; q < 8; q++) grid[i][j] += grid[i - 1][j + 1] * 3 + grid[i][j - 1] + q;
	return grid[254][254];
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double began;
static int quiet;
static void start(void) { began = now(); }
static void stop(const char *name, uint64_t sum) {
	if (quiet) printf("%s %016llx\n", name, (unsigned long long)sum);
	else printf("%s %f\n", name, now() - began);
	fflush(stdout);
}

int main(int argc, char **argv) {
	quiet = argc > 1 && strcmp(argv[1], "sleep") == 0;
	int scale = quiet ? 1 : 40;
	period = quiet ? 20011 : 0;
	countdown = period;
	uint64_t sum = 0, part;

	start();
	part = (uint64_t)fib(quiet ? 22 : 35);
	stop("fib", part);
	sum = part;

	size_t n = 10000 * (size_t)scale;
	unsigned *a = malloc(n * sizeof *a), s = 1;
	for (size_t i = 0; i < n; i++) a[i] = (s = s * 1103515245u + 12345u) >> 8;
	start();
	qsort(a, n, sizeof *a, ascending);
	part = 0;
	for (size_t i = 0; i < n; i++) part = part * 31 + a[i];
	stop("qsort", part);
	sum = sum * 31 + part;

	start();
	struct node *root = NULL;
	for (int i = 0; i < 2000 * scale; i++) root = insert(root, (s = s * 1103515245u + 12345u) >> 8);
	part = 0;
	for (int i = 0; i < 10; i++) part = walk(root, part);
	stop("tree", part);
	sum = sum * 31 + part;

	start();
	double x = 1;
	for (int64_t i = 0; i < 250000 * scale; i++) x = ops[((uint64_t)i * 2654435761u >> 13) & 3](x, i);
	memcpy(&part, &x, sizeof part);
	stop("dispatch", part);
	sum = sum * 31 + part;

	start();
	part = leaf(quiet ? 1 : 500);
	stop("leaf", part);
	sum = sum * 31 + part;

	printf("checksum %016llx\n", (unsigned long long)sum);
	return 0;
}
