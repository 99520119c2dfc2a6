// Hands out the squares of 1 to 5, and adds up the numbers that come in for them.
#include <stdio.h>
#include <stdlib.h>

#include "durun.h"

int main(void) {
	long sum = 0;
	for (int i = 1; i <= 5; i++) {
		char square[16];
		int len = snprintf(square, sizeof square, "%d", i * i);
		durun_yield(square, (size_t)len); // the program may rest here for as long as it takes

		char *received;
		if (durun_input_alloc(&received) < 0) return 1;
		sum += strtol(received, NULL, 10); // 0 for nothing
		free(received);
	}
	printf("received %ld\n", sum);
}
