// Files under a mounted folder that stay open while the program sleeps.
//
//	files DIR
//
// DIR holds in.txt. Reads it line by line, a sleep after each, copies it to out.txt in capitals, appends to log.txt,
// seeks about, lists the folder with a sleep between entries, and prints what it found. What fails is printed with the
// name of its errno. The exit code is 0, or the number of the step that failed where it should not.
#include <ctype.h>
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
	struct timespec t = {0, 5000000};
	fflush(stdout);
	nanosleep(&t, NULL);
}

static const char *errname(int e) {
	switch (e) {
	case 0: return "OK";
	case EACCES: return "EACCES";
	case EBADF: return "EBADF";
	case EEXIST: return "EEXIST";
	case EINVAL: return "EINVAL";
	case EIO: return "EIO";
	case EISDIR: return "EISDIR";
	case ENOENT: return "ENOENT";
	case ENOTDIR: return "ENOTDIR";
	case ENOTEMPTY: return "ENOTEMPTY";
	case ENOTSUP: return "ENOTSUP";
	case EPERM: return "EPERM";
	case EROFS: return "EROFS";
	case ESTALE: return "ESTALE";
	case ENOTCAPABLE: return "ENOTCAPABLE";
	default: return "other";
	}
}

static char dir[256];
static const char *path(const char *name) {
	static char buf[4][512];
	static int i;
	char *p = buf[i++ & 3];
	snprintf(p, sizeof buf[0], "%s/%s", dir, name);
	return p;
}

static void step(int n, int ok, const char *what) {
	if (ok) return;
	printf("step %d: %s: %s\n", n, what, errname(errno));
	fflush(stdout);
	exit(n);
}

static void expect(const char *what, int result, int want) {
	int e = result < 0 ? errno : 0;
	printf("%s: %s%s\n", what, errname(e), e == want ? "" : " (unexpected)");
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int main(int argc, char **argv) {
	snprintf(dir, sizeof dir, "%s", argc > 1 ? argv[1] : "/d");

	// Two streams open across every sleep, both in the middle of a file.
	FILE *in = fopen(path("in.txt"), "r");
	step(1, in != NULL, "open in.txt");
	FILE *out = fopen(path("out.txt"), "w+");
	step(2, out != NULL, "open out.txt");
	setvbuf(in, NULL, _IONBF, 0); // each byte is a read from where the descriptor stands
	char line[256];
	int lines = 0;
	while (fgets(line, sizeof line, in)) {
		printf("%d %ld %s", ++lines, ftell(in), line);
		for (char *p = line; *p; p++) *p = (char)toupper((unsigned char)*p);
		fputs(line, out);
		if (lines % 2) fflush(out); // every other line is in the stream's buffer while it sleeps
		rest();
	}
	if (ferror(in)) printf("read in.txt: %s\n", errname(errno));

	// Back to the middle, over the end, and what the copy says.
	step(3, fseek(in, -6, SEEK_END) == 0, "seek in.txt");
	rest();
	step(4, fgets(line, sizeof line, in) != NULL, "read after seek");
	printf("last %s", line);
	rewind(out);
	rest();
	for (lines = 0; fgets(line, sizeof line, out); lines++) printf("copy %s", line);
	printf("copied %d\n", lines);

	// Append: the place is the file's end, wherever it was when the descriptor was opened.
	int log = open(path("log.txt"), O_WRONLY | O_CREAT | O_APPEND, 0644);
	step(5, log >= 0, "open log.txt");
	for (int i = 0; i < 4; i++) {
		int n = snprintf(line, sizeof line, "entry %d\n", i);
		step(6, write(log, line, (size_t)n) == n, "append");
		rest();
	}
	struct stat st;
	step(7, fstat(log, &st) == 0, "fstat");
	printf("log %lld bytes\n", (long long)st.st_size);

	// A descriptor read with pread, one at its own offset, one that shares the file.
	int a = open(path("log.txt"), O_RDONLY), b = open(path("log.txt"), O_RDWR);
	step(8, a >= 0 && b >= 0, "open log.txt twice");
	step(9, read(a, line, 8) == 8 && lseek(b, 8, SEEK_SET) == 8, "read and seek");
	rest();
	step(10, pwrite(b, "ENTRY", 5, 16) == 5, "pwrite");
	step(11, pread(a, line, 7, 16) == 7, "pread");
	line[7] = 0;
	printf("pread %s, at %lld and %lld\n", line, (long long)lseek(a, 0, SEEK_CUR), (long long)lseek(b, 0, SEEK_CUR));
	rest();
	step(12, ftruncate(b, 20) == 0, "ftruncate");
	step(13, read(a, line, 100) == 12, "read to the end");
	step(14, close(a) == 0 && close(b) == 0, "close");

	// A folder listed with a sleep after each entry.
	step(15, mkdir(path("sub"), 0755) == 0, "mkdir");
	for (int i = 0; i < 6; i++) {
		snprintf(line, sizeof line, "sub/f%d", i);
		int fd = open(path(line), O_CREAT | O_WRONLY, 0644);
		step(16, fd >= 0 && close(fd) == 0, "create");
	}
	DIR *d = opendir(path("sub"));
	step(17, d != NULL, "opendir");
	char *names[32];
	int count = 0;
	for (struct dirent *e; (e = readdir(d)) && count < 32;) {
		if (e->d_name[0] == '.') continue;
		names[count++] = strdup(e->d_name);
		rest();
	}
	closedir(d);
	qsort(names, (size_t)count, sizeof *names, by_name);
	for (int i = 0; i < count; i++) printf("%s%c", names[i], i + 1 < count ? ' ' : '\n');

	// Errors keep their names.
	expect("open missing", open(path("missing"), O_RDONLY), ENOENT);
	expect("mkdir again", mkdir(path("sub"), 0755), EEXIST);
	expect("rmdir full", rmdir(path("sub")), ENOTEMPTY);
	expect("open under a file", open(path("in.txt/x"), O_RDONLY), ENOTDIR);
	expect("read a closed descriptor", (int)read(a, line, 1), EBADF);
	rest();
	for (int i = 0; i < count; i++) {
		snprintf(line, sizeof line, "sub/%s", names[i]);
		step(18, unlink(path(line)) == 0, "unlink");
	}
	step(19, rename(path("sub"), path("gone")) == 0 && rmdir(path("gone")) == 0, "rename, rmdir");
	expect("stat removed", stat(path("gone"), &st), ENOENT);
	step(20, fclose(in) == 0 && fclose(out) == 0 && close(log) == 0, "close all");
	puts("done");
	return 0;
}
