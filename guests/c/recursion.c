// Deep recursion that sleeps at the bottom, on the way down and on the way up, partly through function pointers,
// with values of all types live across each sleep.
//
//	recursion [rounds [milliseconds [depth]]]
//
// Prints a line a round; the exit code is 0.
#include <alloca.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long pause_ns = 2000000;

static void rest(void) {
	struct timespec t = {pause_ns / 1000000000, pause_ns % 1000000000};
	nanosleep(&t, NULL);
}

// What a frame hands up: returned through memory by the C ABI.
struct sum {
	int i;
	long long l;
	float f;
	double d;
	char tag[8];
};

typedef struct sum (*walker)(int n, int i, long long l, float f, double d);

static struct sum direct(int n, int i, long long l, float f, double d);
static struct sum buffered(int n, int i, long long l, float f, double d);
static struct sum variable(int n, int i, long long l, float f, double d);

static walker const walkers[] = {direct, buffered, variable};

static struct sum next(int n, int i, long long l, float f, double d) {
	if (n == 0) {
		rest();
		struct sum s = {i, l, f, d, "bottom"};
		return s;
	}
	return walkers[n % 3](n - 1, i * 3 + n, l * 1000003 + i, f * 0.5f + (float)n, d / 1.0625 + n);
}

// All of i, l, f, d stay live over the call in locals.
static struct sum direct(int n, int i, long long l, float f, double d) {
	if (n % 50 == 1) rest();
	struct sum s = next(n, i + 1, l - 1, f + 0.25f, d + 0.125);
	s.i ^= i;
	s.l += l;
	s.f += f;
	s.d -= d;
	if (n % 64 == 0) rest();
	return s;
}

// Values that live in the shadow stack, reached by address from below.
static const char *above;
static struct sum buffered(int n, int i, long long l, float f, double d) {
	char text[48];
	const char *before = above;
	snprintf(text, sizeof text, "%d:%s", n, before ? before : "top");
	above = text;
	struct sum s = next(n, i, l, f, d);
	above = before;
	s.l += (long long)strlen(text) * text[0];
	s.d += f;
	return s;
}

// A frame whose size is known only when it runs.
static struct sum variable(int n, int i, long long l, float f, double d) {
	int len = 8 + n % 24;
	unsigned char *bytes = alloca((size_t)len);
	memset(bytes, n & 255, (size_t)len);
	struct sum s = next(n, i, l, f, d);
	for (int k = 0; k < len; k++) s.i += bytes[k];
	s.f -= (float)len;
	if (n % 97 == 0) rest();
	return s;
}

// Two functions in turn that keep 64-bit and floating values below the call as operands.
static double odd(long n, double x);
static double even(long n, double x) { return n == 0 ? (rest(), x) : x * 0.5 + odd(n - 1, x + 1.0) * 0.75; }
static double odd(long n, double x) { return n == 0 ? (rest(), -x) : (double)(n & 7) - even(n - 1, x * 0.999); }

// A tree of calls with a sleep in each leaf.
static uint64_t tree(int depth, uint64_t path) {
	if (depth == 0) {
		rest();
		return path * 0x9e3779b97f4a7c15u;
	}
	uint64_t left = tree(depth - 1, path * 2);
	return (left << 7 | left >> 57) ^ tree(depth - 1, path * 2 + 1);
}

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 4;
	if (argc > 2) pause_ns = atol(argv[2]) * 1000000;
	int depth = argc > 3 ? atoi(argv[3]) : 100;
	for (int r = 1; r <= rounds; r++) {
		struct sum s = walkers[r % 3](r * depth, r, r * 1234567LL, (float)r, r / 3.0);
		printf("round %d: %d %lld %.9g %.17g %s", r, s.i, s.l, (double)s.f, s.d, s.tag);
		printf(" %.17g %016llx\n", even(r * depth, r), (unsigned long long)tree(2, (uint64_t)r));
		fflush(stdout);
	}
	return 0;
}
