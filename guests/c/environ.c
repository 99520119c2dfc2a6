// Arguments, environment, clocks, random numbers, and polling of several clocks at once. Prints nothing that differs from
// one run to the next; the exit code is 42, from exit() four calls down, with a handler that still prints.
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

extern char **environ;

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int64_t read_clock(clockid_t id) {
	struct timespec t;
	if (clock_gettime(id, &t) != 0) exit(2);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Sleeps by poll_oneoff on several clocks; prints which of them were over first.
static void poll_clocks(void) {
	static const struct {
		uint64_t id, ms;
		__wasi_clockid_t clock;
	} want[] = {
	    {100, 60000, __WASI_CLOCKID_MONOTONIC},
	    {200, 15, __WASI_CLOCKID_MONOTONIC},
	    {300, 90000, __WASI_CLOCKID_REALTIME},
	};
	__wasi_subscription_t subs[3];
	__wasi_event_t events[3];
	__wasi_size_t n = 0;
	memset(subs, 0, sizeof subs);
	for (int i = 0; i < 3; i++) {
		subs[i].userdata = want[i].id;
		subs[i].u.tag = __WASI_EVENTTYPE_CLOCK;
		subs[i].u.u.clock.id = want[i].clock;
		subs[i].u.u.clock.timeout = want[i].ms * 1000000;
	}
	__wasi_errno_t e = __wasi_poll_oneoff(subs, events, 3, &n);
	printf("poll: errno %d", e);
	for (__wasi_size_t i = 0; i < n; i++) {
		// wazero reports all subscriptions at once; durun those that are over
		if (events[i].userdata == 200) printf(", clock %d over, errno %d", (int)events[i].userdata, events[i].error);
	}
	printf("\n");
}

static void at_end(void) {
	puts("handler at exit");
	fflush(stdout);
}

static __attribute__((noinline)) void leave(int n) {
	if (n == 0) exit(42);
	leave(n - 1);
	puts("not reached");
}

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) printf("arg %d: %s\n", i, argv[i]);
	int vars = 0;
	while (environ && environ[vars]) vars++;
	char **sorted = malloc((size_t)(vars + 1) * sizeof *sorted);
	memcpy(sorted, environ, (size_t)vars * sizeof *sorted);
	qsort(sorted, (size_t)vars, sizeof *sorted, by_text);
	for (int i = 0; i < vars; i++) printf("env: %s\n", sorted[i]);

	int64_t mono = read_clock(CLOCK_MONOTONIC), wall = read_clock(CLOCK_REALTIME), back = 0, early = 0;
	printf("wall clock after 2020: %s\n", wall / 1000000000 > 1577836800 ? "yes" : "no");
	for (int i = 0; i < 8; i++) {
		struct timespec t = {0, 3000000};
		nanosleep(&t, NULL);
		int64_t m = read_clock(CLOCK_MONOTONIC);
		if (m < mono) back++;
		if (m - mono < 3000000) early++;
		mono = m;
	}
	printf("monotonic clock went back %lld times, woke early %lld times\n", (long long)back, (long long)early);
	printf("wall clock moved on: %s\n", read_clock(CLOCK_REALTIME) >= wall + 20000000 ? "yes" : "no");

	unsigned char bytes[2][32] = {{0}};
	int e = getentropy(bytes[0], 32) | getentropy(bytes[1], 32);
	int zero = 0;
	for (int i = 0; i < 32; i++) zero += !bytes[0][i];
	printf("random: errno %d, %s, %s\n", e, zero < 8 ? "not zero" : "zero", memcmp(bytes[0], bytes[1], 32) ? "differs" : "same");

	poll_clocks();
	printf("yield: %d\n", sched_yield());
	printf("usleep: %d\n", usleep(4000));
	atexit(at_end);
	fflush(stdout);
	leave(4);
}
