// A program whose memory and table are imported, as the linker makes it for hosts that give a module its memory. It sleeps
// below function pointers, with data in the heap, on the stack and in segments.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*step)(char *text, int n);

static int total = 100;

static int turn(char *text, int n) {
	usleep(1000);
	char first = text[0];
	memmove(text, text + 1, strlen(text) - 1);
	text[strlen(text) - 1] = first;
	return n + first;
}

static int count(char *text, int n) {
	char copy[64];
	strncpy(copy, text, sizeof copy);
	copy[sizeof copy - 1] = 0;
	usleep(1000);
	total += (int)strlen(copy);
	return n ^ strcmp(copy, text);
}

static step steps[] = {turn, count, turn};

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 2;
	char *text = strdup("imported memory");
	int n = 0;
	for (int i = 0; i < rounds; i++) {
		// More than the memory has at first.
		char *block = malloc(400000);
		memset(block, i, 400000);
		for (unsigned s = 0; s < sizeof steps / sizeof *steps; s++)
			n = steps[s](text, n);
		printf("%s %d %d %d\n", text, n, total, block[399999]);
	}
	return total % 100;
}
