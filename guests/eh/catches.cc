// Exceptions in loops, with locals of several types that change in try before the throw and are read in catch: what an
// engine that restores locals at a catch would get wrong. Waits in try, in catch, and between.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct stop { int at; long long sum; };
static bool thrown; // an exception is on its way: nothing can wait then
static void wait() { usleep(500); }

__attribute__((noinline)) static void maybe(int i, int every, bool slow) {
	if (slow)
		wait();
	if (i % every == every - 1)
		thrown = true, throw stop{i, (long long)i * i};
}

__attribute__((noinline)) static double work(int n, int every, bool slow_try, bool slow_catch) {
	int i = 0, caught = 0;
	long long sum = 0;
	double scale = 1;
	float low = 3.5f;
	while (i < n) {
		int before = i;
		try {
			for (; i < n; i++) {
				sum += i * 3;
				scale *= 1.01;
				low -= 0.25f;
				before++;
				maybe(i, every, slow_try && i % 4 == 0);
				sum ^= 5;
			}
		} catch (stop &s) {
			thrown = false;
			if (slow_catch)
				wait();
			caught++;
			sum += s.sum + before + s.at;
			i = s.at + 1;
			scale += low;
		}
	}
	printf("  %d %d %lld %.6f %.2f\n", i, caught, sum, scale, low);
	return scale + sum + caught;
}

__attribute__((noinline)) static int nested(int n) {
	int a = n, b = 0;
	try {
		a += 10;
		try {
			b = a * 2;
			maybe(n, 2, true);
			b++;
		} catch (stop &s) {
			thrown = false;
			a -= s.at;
			b += 100;
			maybe(n + 1, 3, true);
			a += 1000;
			thrown = true, throw;
		}
		a *= 2;
	} catch (stop &s) {
		thrown = false;
		wait();
		b += s.at;
	} catch (...) {
		thrown = false;
		return -1;
	}
	return a * 10000 + b;
}

template <int N> __attribute__((noinline)) static int tower(int x) {
	struct d { int &x; ~d() { x += N; if (N % 3 == 1 && !thrown) wait(); } };
	int y = x;
	try {
		d g{y};
		if constexpr (N > 0)
			y = tower<N - 1>(x + 1);
		else
			maybe(x, 2, true);
		if (y % 5 == 0)
			thrown = true, throw y;
	} catch (int v) {
		thrown = false;
		y += v + N;
		if (N % 4 == 2)
			wait();
		if (v % 2)
			thrown = true, throw;
	}
	return y;
}

int main() {
	double total = 0;
	for (int every = 2; every < 8; every++)
		for (int mode = 0; mode < 4; mode++)
			total += work(30, every, mode & 1, mode & 2);
	printf("total %.6f\n", total);
	for (int n = 0; n < 12; n++)
		printf("nested %d: %d\n", n, nested(n));
	// Not from 1: wazero 1.12 runs that wrong, and these programs are compared with what it does.
	for (int x = 2; x < 12; x++) {
		try {
			printf("tower %d: %d\n", x, tower<9>(x));
		} catch (int v) {
			thrown = false;
			printf("tower %d throws %d\n", x, v);
		} catch (stop &s) {
			thrown = false;
			printf("tower %d stops at %d, %lld\n", x, s.at, s.sum);
		}
	}
	return 7;
}
