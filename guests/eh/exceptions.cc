// C++ exceptions in the form of try_table: thrown across frames that wait, out of frames that have waited, caught by type,
// rethrown, with destructors that wait.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct error {
	int code;
	char text[24];
	error(int c, const char *t) : code(c) { snprintf(text, sizeof text, "%s-%d", t, c); }
	virtual const char *name() const { return "error"; }
	virtual ~error() {}
};
struct worse : error {
	worse(int c) : error(c, "worse") {}
	const char *name() const override { return "worse"; }
};

static int live, closed;
static bool thrown; // an exception is on its way: nothing can wait then
static void wait() { usleep(1000); }

struct guard {
	const char *name;
	int n;
	guard(const char *name, int n) : name(name), n(n) { live++; }
	~guard() {
		live--;
		closed += n;
		if (n % 3 == 0 && !thrown)
			wait();
	}
};

template <typename T> [[noreturn]] static void raise(T x) {
	thrown = true;
	throw x;
}


__attribute__((noinline)) static long deep(int n, long acc, double x) {
	guard g("deep", n);
	if (n == 0) {
		wait();
		if (acc % 7 == 1)
			raise(error((int)acc, "deep"));
		if (acc % 7 == 2)
			raise(worse((int)acc));
		if (acc % 7 == 3)
			raise((int)acc);
		return acc;
	}
	long r = deep(n - 1, acc * 3 + n, x * 1.5);
	if (n == 4)
		wait();
	return r + (long)x + g.n;
}

__attribute__((noinline)) static long middle(int n, long acc) {
	try {
		return deep(n, acc, 1.25);
	} catch (worse &w) {
		thrown = false;
		wait();
		printf("  middle: %s %s\n", w.name(), w.text);
		thrown = true;
		throw;
	} catch (int i) {
		thrown = false;
		wait();
		printf("  middle: int %d\n", i);
		try {
			raise(error(i, "from int"));
		} catch (error &e) {
			thrown = false;
			wait();
			return e.code * 2;
		}
	}
}

static long round(int n, long acc) {
	try {
		guard g("round", 1);
		long r = middle(n, acc);
		wait();
		return r;
	} catch (error &e) {
		thrown = false;
		wait();
		printf("  round: %s %s %d\n", e.name(), e.text, live);
		return -e.code;
	} catch (...) {
		thrown = false;
		wait();
		puts("  round: something");
		return -1;
	}
}

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 12;
	long sum = 0;
	for (int i = 0; i < rounds; i++) {
		long r = round(i % 6, i * 5 + sum % 11);
		sum += r;
		printf("round %d: %ld, sum %ld, live %d, closed %d\n", i, r, sum, live, closed);
	}
	try {
		for (int i = 0;; i++) {
			try {
				wait();
				if (i == 5)
					raise(worse(i));
				if (i % 2)
					raise(1.5);
			} catch (double d) {
				thrown = false;
				wait();
				printf("double %.1f in %d\n", d, i);
			}
		}
	} catch (error &e) {
		thrown = false;
		printf("end: %s\n", e.text);
	}
	return (int)(sum & 63);
}
