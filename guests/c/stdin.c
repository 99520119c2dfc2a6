// Prints the lines of standard input in capitals as they come; the exit code is their number.
#include <ctype.h>
#include <stdio.h>

int main(void) {
	char line[4096];
	int lines = 0;
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		lines++;
		printf("%d: ", lines);
		for (char *p = line; *p; p++) putchar(toupper((unsigned char)*p));
		fflush(stdout);
	}
	printf("end after %d\n", lines);
	return lines;
}
