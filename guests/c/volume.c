// Files in a volume, across suspensions.
//
//	volume DIR            keeps a journal, a scratch file without a name and links; sleeps between the steps
//	volume DIR MIB STEPS  makes a file of so many MiB, then changes a byte of it in each step, and sleeps
//
// The exit code is 0, or 1 with a line that says what is wrong.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void rest(void) {
	struct timespec t = {0, 1000000};
	fflush(stdout);
	nanosleep(&t, NULL);
}

static void check(int ok, const char *what) {
	if (ok) return;
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

static const char *dir;

static const char *path(const char *name) {
	static char buf[2][512];
	static int i;
	char *p = buf[i++ & 1];
	snprintf(p, sizeof buf[0], "%s/%s", dir, name);
	return p;
}

static void big(int mib, int steps) {
	static char block[65536];
	int fd = open(path("big"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(fd >= 0, "create");
	unsigned x = 1;
	for (int n = 0; n < mib * 16; n++) {
		for (size_t k = 0; k < sizeof block; k++) {
			x = x * 1664525 + 1013904223;
			block[k] = x >> 24;
		}
		check(write(fd, block, sizeof block) == sizeof block, "write");
	}
	for (int n = 0; n < steps; n++) {
		rest();
		x = x * 1664525 + 1013904223;
		off_t at = x % ((unsigned)mib << 20);
		char c = 0;
		check(pread(fd, &c, 1, at) == 1, "pread");
		c++;
		check(pwrite(fd, &c, 1, at) == 1, "pwrite");
	}
}

int main(int argc, char **argv) {
	check(argc == 2 || argc == 4, "usage: volume DIR [MIB STEPS]");
	dir = argv[1];
	if (argc == 4) {
		big(atoi(argv[2]), atoi(argv[3]));
		puts("done");
		return 0;
	}
	int journal = open(path("journal"), O_WRONLY | O_CREAT | O_APPEND, 0600);
	int scratch = open(path("scratch"), O_RDWR | O_CREAT | O_EXCL, 0600);
	check(journal >= 0 && scratch >= 0, "create");
	check(unlink(path("scratch")) == 0, "unlink of an open file");
	check(mkdir(path("d"), 0700) == 0 && link(path("journal"), path("d/hard")) == 0, "mkdir and link");
	check(symlink("d/hard", path("soft")) == 0, "symlink");
	for (int n = 1; n <= 3; n++) {
		check(dprintf(journal, "entry %d\n", n) > 0, "append");
		check(pwrite(scratch, &n, sizeof n, 100000 * n) == sizeof n, "sparse write");
		rest();
		int got = 0;
		check(pread(scratch, &got, sizeof got, 100000 * n) == sizeof got && got == n, "read from a file without a name");
		check(access(path("scratch"), F_OK) != 0 && errno == ENOENT, "its name");
	}
	check(rename(path("journal"), path("d/journal")) == 0, "rename");
	rest();
	struct stat st;
	check(stat(path("soft"), &st) == 0 && st.st_nlink == 2, "links");
	char line[64];
	FILE *f = fopen(path("soft"), "r");
	check(f != NULL, "open by a symbolic link");
	while (fgets(line, sizeof line, f)) fputs(line, stdout);
	fclose(f);
	DIR *d = opendir(dir);
	check(d != NULL, "opendir");
	int found = 0; // in no order
	for (struct dirent *e; (e = readdir(d)) != NULL; rest()) {
		if (strcmp(e->d_name, "d") == 0) found += 1;
		else if (strcmp(e->d_name, "soft") == 0) found += 10;
		else check(e->d_name[0] == '.', e->d_name);
	}
	closedir(d);
	check(found == 11, "entries");
	return 0;
}
