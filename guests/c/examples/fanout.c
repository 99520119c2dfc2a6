// Has five children square a number each, all at once, and adds up what they found. Each child is a program of its own, with
// snapshots of its own: this one, with arguments.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "durun.h"

static int square(const char *number) {
	long n = strtol(number, NULL, 10);
	if (durun_sleep(50 * DURUN_MILLISECOND) < 0) return 1;
	char result[24];
	int len = snprintf(result, sizeof result, "%ld", n * n);
	durun_output(result, (size_t)len);
	return 0;
}

int main(int argc, char **argv) {
	if (argc == 3 && strcmp(argv[1], "square") == 0) return square(argv[2]);

	durun_op children[5];
	for (int i = 0; i < 5; i++) {
		char number[16];
		snprintf(number, sizeof number, "%d", i + 1);
		children[i] = durun_spawn_args("", 2, (const char *[]){"square", number}, NULL, 0);
	}
	int32_t code = durun_all(children, 5, DURUN_FOREVER);
	if (code < 0) {
		fprintf(stderr, "square: %s\n", durun_code_name(code));
		return 1;
	}
	long sum = 0;
	for (int i = 0; i < 5; i++) {
		char *result;
		if (durun_result_alloc(children[i], &result) < 0) return 1;
		sum += strtol(result, NULL, 10);
		free(result);
	}
	printf("sum %ld\n", sum);
}
