// Ends as it is told, after a sleep: `exit N` with that code, `exit trap` by a trap, `exit abort` by abort().
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv) {
	const char *how = argc > 1 ? argv[1] : "0";
	struct timespec t = {0, 5000000};
	printf("ending: %s\n", how);
	fflush(stdout);
	nanosleep(&t, NULL);
	if (strcmp(how, "trap") == 0) __builtin_trap();
	if (strcmp(how, "abort") == 0) abort();
	return atoi(how);
}
