// The functions of WASI preview 1, by themselves: what the public suite of tests for WASI asks of each, and the corners that
// it leaves out. It calls them without the C library between, in the folder that is descriptor 3.
//
//	functions [CASE...]
//
// Prints the name of each case that has passed, or where it fails; then it exits with 1. The folder is empty again at the end.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#define DIR 3
#define FILE_RIGHTS (__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_WRITE)
#define FOLLOW __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW

typedef __wasi_errno_t err;

static const char *now; // the case

static void fail(int line, const char *what, int got, int want) {
	printf("%s, line %d: %s is %d, not %d\n", now, line, what, got, want);
	exit(1);
}

#define IS(got, want) do { int g_ = (int)(got), w_ = (int)(want); if (g_ != w_) fail(__LINE__, #got, g_, w_); } while (0)
#define OK(call) IS(call, __WASI_ERRNO_SUCCESS)
#define TRUE(cond) do { if (!(cond)) fail(__LINE__, #cond, 0, 1); } while (0)
#define ONE_OF(got, a, b) do { int one_ = (int)(got); if (one_ != (a)) IS(one_, b); } while (0)

static err open_as(int dir, const char *name, int dirflags, int oflags, __wasi_rights_t rights, int fdflags, __wasi_fd_t *fd) {
	return __wasi_path_open(dir, dirflags, name, oflags, rights, rights, fdflags, fd);
}

static __wasi_fd_t create(const char *name) {
	__wasi_fd_t fd;
	OK(open_as(DIR, name, 0, __WASI_OFLAGS_CREAT, FILE_RIGHTS, 0, &fd));
	return fd;
}

static err try_open(const char *name, int dirflags, int oflags) {
	__wasi_fd_t fd;
	err e = open_as(DIR, name, dirflags, oflags, __WASI_RIGHTS_FD_READ, 0, &fd);
	if (e == 0) OK(__wasi_fd_close(fd));
	return e;
}

static void make(const char *name) { OK(__wasi_fd_close(create(name))); }
static void drop(const char *name) { OK(__wasi_path_unlink_file(DIR, name)); }
static void folder(const char *name) { OK(__wasi_path_create_directory(DIR, name)); }
static void drop_folder(const char *name) { OK(__wasi_path_remove_directory(DIR, name)); }

static __wasi_fd_t open_folder(const char *name) {
	__wasi_fd_t fd;
	OK(open_as(DIR, name, 0, __WASI_OFLAGS_DIRECTORY, 0, 0, &fd));
	return fd;
}

static int put(__wasi_fd_t fd, const char *text) {
	__wasi_ciovec_t v = {(const uint8_t *)text, strlen(text)};
	__wasi_size_t n;
	OK(__wasi_fd_write(fd, &v, 1, &n));
	return n;
}

static const char *get(__wasi_fd_t fd, int size) {
	static char buf[256];
	__wasi_iovec_t v = {(uint8_t *)buf, size};
	__wasi_size_t n;
	OK(__wasi_fd_read(fd, &v, 1, &n));
	buf[n] = 0;
	return buf;
}

static int64_t seek(__wasi_fd_t fd, int64_t off, int whence) {
	__wasi_filesize_t at;
	OK(__wasi_fd_seek(fd, off, whence, &at));
	return at;
}

static __wasi_filestat_t stat_fd(__wasi_fd_t fd) {
	__wasi_filestat_t st;
	OK(__wasi_fd_filestat_get(fd, &st));
	return st;
}

static err stat_path(const char *name, int flags, __wasi_filestat_t *st) { return __wasi_path_filestat_get(DIR, flags, name, st); }

static void arguments(void) {
	__wasi_size_t count, size;
	OK(__wasi_args_sizes_get(&count, &size));
	uint8_t *argv[64], buf[1024];
	TRUE(count >= 1 && count <= 64 && size <= sizeof buf);
	OK(__wasi_args_get(argv, buf));
	size_t total = 0;
	for (size_t i = 0; i < count; i++) total += strlen((char *)argv[i]) + 1;
	IS(total, size);
	OK(__wasi_environ_sizes_get(&count, &size));
	TRUE(count <= 64 && size <= sizeof buf);
	OK(__wasi_environ_get(argv, buf));
	for (size_t i = 0; i < count; i++) TRUE(strchr((char *)argv[i], '=') != NULL);
}

static void random_bytes(void) {
	static uint8_t buf[4096];
	OK(__wasi_random_get(buf, 0));
	OK(__wasi_random_get(buf, sizeof buf));
	int different = 0;
	for (size_t i = 1; i < sizeof buf; i++) different += buf[i] != buf[0];
	TRUE(different > 3000);
}

static void clocks(void) {
	__wasi_timestamp_t a, b;
	for (__wasi_clockid_t id = __WASI_CLOCKID_REALTIME; id <= __WASI_CLOCKID_MONOTONIC; id++) {
		OK(__wasi_clock_res_get(id, &a));
		TRUE(a > 0 && a <= 1000000000);
		OK(__wasi_clock_time_get(id, 1, &a));
		OK(__wasi_clock_time_get(id, 0, &b));
		TRUE(a > 0 && b >= a);
	}
	IS(__wasi_clock_time_get(99, 0, &a), __WASI_ERRNO_INVAL);
	IS(__wasi_clock_res_get(99, &a), __WASI_ERRNO_INVAL);
	OK(__wasi_sched_yield());
}

static void stdio(void) {
	__wasi_fdstat_t st;
	for (int fd = 0; fd < 3; fd++) OK(__wasi_fd_fdstat_get(fd, &st));
	IS(put(1, ""), 0);
	IS(put(2, "to standard error\n"), 18);
	__wasi_ciovec_t v[2] = {{(const uint8_t *)"two ", 4}, {(const uint8_t *)"buffers\n", 8}};
	__wasi_size_t n;
	OK(__wasi_fd_write(1, v, 2, &n));
	IS(n, 12);
	IS(__wasi_fd_write(99, v, 2, &n), __WASI_ERRNO_BADF);
	IS(__wasi_fd_write(0, v, 2, &n), __WASI_ERRNO_BADF);
}

static void poll_stdio(void) {
	__wasi_subscription_t in[3] = {0};
	__wasi_event_t out[3];
	__wasi_size_t n;
	in[0].userdata = 1;
	in[0].u.tag = __WASI_EVENTTYPE_FD_WRITE;
	in[0].u.u.fd_write.file_descriptor = 1;
	in[1].userdata = 2;
	in[1].u.tag = __WASI_EVENTTYPE_CLOCK;
	in[1].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
	in[1].u.u.clock.timeout = 3000000000;
	OK(__wasi_poll_oneoff(in, out, 2, &n));
	IS(n, 1);
	IS(out[0].userdata, 1);
	in[1].u.u.clock.timeout = 1000000;
	OK(__wasi_poll_oneoff(in + 1, out, 1, &n));
	IS(n, 1);
	IS(out[0].userdata, 2);
	IS(out[0].error, 0);
	IS(__wasi_poll_oneoff(in, out, 0, &n), __WASI_ERRNO_INVAL);
}

static void dangling_fd(void) {
	__wasi_fd_t fd = create("f");
	put(fd, "x");
	drop("f");
	IS(try_open("f", 0, 0), __WASI_ERRNO_NOENT);
	make("f");
	IS(seek(fd, 0, __WASI_WHENCE_SET), 0);
	IS(strcmp(get(fd, 10), "x"), 0);
	IS(stat_fd(fd).nlink, 0);
	OK(__wasi_fd_close(fd));
	drop("f");
	folder("d");
	fd = open_folder("d");
	drop_folder("d");
	IS(try_open("d", 0, 0), __WASI_ERRNO_NOENT);
	OK(__wasi_fd_close(fd));
	IS(__wasi_fd_close(fd), __WASI_ERRNO_BADF);
}

static void symlinks(void) {
	OK(__wasi_path_symlink("target", DIR, "link"));
	IS(__wasi_path_symlink("other", DIR, "link"), __WASI_ERRNO_EXIST);
	IS(try_open("link", 0, 0), __WASI_ERRNO_LOOP);
	IS(try_open("link", 0, __WASI_OFLAGS_DIRECTORY), __WASI_ERRNO_NOTDIR);
	IS(try_open("link", FOLLOW, 0), __WASI_ERRNO_NOENT);
	__wasi_filestat_t st;
	OK(stat_path("link", 0, &st));
	IS(st.filetype, __WASI_FILETYPE_SYMBOLIC_LINK);
	IS(st.size, 6);
	IS(stat_path("link", FOLLOW, &st), __WASI_ERRNO_NOENT);
	uint8_t buf[16] = {0};
	__wasi_size_t n;
	OK(__wasi_path_readlink(DIR, "link", buf, sizeof buf, &n));
	IS(n, 6);
	IS(memcmp(buf, "target", 6), 0);
	__wasi_fd_t fd;
	OK(open_as(DIR, "link", FOLLOW, __WASI_OFLAGS_CREAT, FILE_RIGHTS, 0, &fd)); // makes the target
	put(fd, "hello");
	OK(__wasi_fd_close(fd));
	OK(stat_path("link", FOLLOW, &st));
	IS(st.filetype, __WASI_FILETYPE_REGULAR_FILE);
	IS(st.size, 5);
	IS(__wasi_path_readlink(DIR, "target", buf, sizeof buf, &n), __WASI_ERRNO_INVAL);
	drop("target");
	drop("link");
	OK(__wasi_path_symlink("loop", DIR, "loop"));
	IS(try_open("loop", 0, 0), __WASI_ERRNO_LOOP);
	IS(try_open("loop", FOLLOW, 0), __WASI_ERRNO_LOOP);
	drop("loop");
	IS(__wasi_path_symlink("/etc/passwd", DIR, "absolute"), __WASI_ERRNO_PERM);
	IS(__wasi_path_symlink("", DIR, "empty"), __WASI_ERRNO_INVAL);
	folder("d");
	OK(__wasi_path_symlink("d", DIR, "dl"));
	IS(try_open("dl", FOLLOW, __WASI_OFLAGS_DIRECTORY), 0);
	make("dl/f");
	IS(try_open("d/f", 0, 0), 0);
	drop("d/f");
	drop("dl");
	drop_folder("d");
}

static void folder_descriptors(void) {
	folder("d");
	__wasi_fd_t fd = open_folder("d");
	uint8_t b[8] = {0};
	__wasi_iovec_t r = {b, sizeof b};
	__wasi_ciovec_t w = {b, sizeof b};
	__wasi_size_t n;
	__wasi_filesize_t at;
	ONE_OF(__wasi_fd_read(fd, &r, 1, &n), __WASI_ERRNO_ISDIR, __WASI_ERRNO_BADF);
	ONE_OF(__wasi_fd_pread(fd, &r, 1, 0, &n), __WASI_ERRNO_ISDIR, __WASI_ERRNO_BADF);
	ONE_OF(__wasi_fd_write(fd, &w, 1, &n), __WASI_ERRNO_ISDIR, __WASI_ERRNO_BADF);
	ONE_OF(__wasi_fd_pwrite(fd, &w, 1, 0, &n), __WASI_ERRNO_ISDIR, __WASI_ERRNO_BADF);
	ONE_OF(__wasi_fd_seek(fd, 0, __WASI_WHENCE_CUR, &at), __WASI_ERRNO_ISDIR, __WASI_ERRNO_BADF);
	ONE_OF(__wasi_fd_tell(fd, &at), __WASI_ERRNO_ISDIR, __WASI_ERRNO_BADF);
	TRUE(__wasi_fd_filestat_set_size(fd, 0) != 0);
	__wasi_fdstat_t st;
	OK(__wasi_fd_fdstat_get(fd, &st));
	IS(st.fs_filetype, __WASI_FILETYPE_DIRECTORY);
	IS(st.fs_rights_base & __WASI_RIGHTS_FD_SEEK, 0);
	IS(open_as(DIR, "d", 0, 0, FILE_RIGHTS, 0, &fd), __WASI_ERRNO_ISDIR);
	drop_folder("d");
	make("f");
	__wasi_fd_t file;
	OK(open_as(DIR, "f", 0, 0, __WASI_RIGHTS_FD_READ, 0, &file));
	IS(open_as(file, "f", 0, __WASI_OFLAGS_CREAT, FILE_RIGHTS, 0, &fd), __WASI_ERRNO_NOTDIR);
	IS(try_open("f", 0, __WASI_OFLAGS_DIRECTORY), __WASI_ERRNO_NOTDIR);
	OK(__wasi_fd_close(file));
	drop("f");
}

static void advise_allocate(void) {
	__wasi_fd_t fd = create("f");
	OK(__wasi_fd_advise(fd, 0, 0, __WASI_ADVICE_WILLNEED));
	IS(stat_fd(fd).size, 0);
	OK(__wasi_fd_allocate(fd, 0, 100));
	IS(stat_fd(fd).size, 100);
	OK(__wasi_fd_allocate(fd, 10, 10)); // never makes it shorter
	IS(stat_fd(fd).size, 100);
	OK(__wasi_fd_allocate(fd, 90, 20));
	IS(stat_fd(fd).size, 110);
	OK(__wasi_fd_advise(fd, 10, 200, __WASI_ADVICE_DONTNEED));
	IS(__wasi_fd_advise(fd, 0, 0, 77), __WASI_ERRNO_INVAL);
	IS(__wasi_fd_advise(99, 0, 0, __WASI_ADVICE_NORMAL), __WASI_ERRNO_BADF);
	IS(__wasi_fd_allocate(99, 0, 1), __WASI_ERRNO_BADF);
	OK(__wasi_fd_sync(fd));
	OK(__wasi_fd_datasync(fd));
	OK(__wasi_fd_close(fd));
	drop("f");
}

static void times_of_files(void) {
	__wasi_fd_t fd = create("f");
	__wasi_filestat_t st = stat_fd(fd), other;
	IS(st.filetype, __WASI_FILETYPE_REGULAR_FILE);
	IS(st.size, 0);
	OK(__wasi_fd_filestat_set_size(fd, 100));
	IS(stat_fd(fd).size, 100);
	OK(__wasi_fd_filestat_set_times(fd, 0, 1000000000, __WASI_FSTFLAGS_MTIM));
	TRUE(stat_fd(fd).mtim == 1000000000);
	TRUE(stat_fd(fd).atim == st.atim);
	OK(__wasi_path_filestat_set_times(DIR, 0, "f", 2000000000, 3000000000, __WASI_FSTFLAGS_MTIM | __WASI_FSTFLAGS_ATIM));
	OK(stat_path("f", 0, &other));
	TRUE(other.atim == 2000000000 && other.mtim == 3000000000);
	TRUE(other.ino == st.ino && other.dev == st.dev && other.size == 100);
	int both = __WASI_FSTFLAGS_MTIM | __WASI_FSTFLAGS_MTIM_NOW;
	IS(__wasi_fd_filestat_set_times(fd, 0, 0, both), __WASI_ERRNO_INVAL);
	IS(__wasi_path_filestat_set_times(DIR, 0, "f", 0, 0, both), __WASI_ERRNO_INVAL);
	both = __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_ATIM_NOW;
	IS(__wasi_fd_filestat_set_times(fd, 0, 0, both), __WASI_ERRNO_INVAL);
	OK(__wasi_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_MTIM_NOW | __WASI_FSTFLAGS_ATIM_NOW));
	TRUE(stat_fd(fd).mtim > 3000000000);
	IS(__wasi_path_filestat_set_times(DIR, 0, "none", 0, 0, __WASI_FSTFLAGS_MTIM), __WASI_ERRNO_NOENT);
	OK(__wasi_fd_close(fd));
	drop("f");
}

static void flags(void) {
	__wasi_fd_t fd;
	OK(open_as(DIR, "f", 0, __WASI_OFLAGS_CREAT, FILE_RIGHTS, __WASI_FDFLAGS_APPEND, &fd));
	__wasi_fdstat_t st;
	OK(__wasi_fd_fdstat_get(fd, &st));
	IS(st.fs_flags & __WASI_FDFLAGS_APPEND, __WASI_FDFLAGS_APPEND);
	IS(st.fs_filetype, __WASI_FILETYPE_REGULAR_FILE);
	put(fd, "one");
	IS(seek(fd, 0, __WASI_WHENCE_SET), 0);
	put(fd, "two");
	IS(stat_fd(fd).size, 6);
	OK(__wasi_fd_fdstat_set_flags(fd, 0));
	OK(__wasi_fd_fdstat_get(fd, &st));
	IS(st.fs_flags & __WASI_FDFLAGS_APPEND, 0);
	seek(fd, 0, __WASI_WHENCE_SET);
	put(fd, "ONE");
	seek(fd, 0, __WASI_WHENCE_SET);
	IS(strcmp(get(fd, 100), "ONEtwo"), 0);
	OK(__wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND | __WASI_FDFLAGS_NONBLOCK));
	put(fd, "!");
	seek(fd, 0, __WASI_WHENCE_SET);
	IS(strcmp(get(fd, 100), "ONEtwo!"), 0);
	IS(__wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_DSYNC), __WASI_ERRNO_INVAL);
	IS(__wasi_fd_fdstat_set_flags(99, 0), __WASI_ERRNO_BADF);
	OK(__wasi_fd_close(fd));
	drop("f");
}

// entries counts what fd_readdir tells, with a buffer so small that it takes many calls, and sums up the lengths of the names.
static int entries(__wasi_fd_t fd, int *names) {
	uint8_t buf[64];
	__wasi_dircookie_t cookie = 0;
	int count = 0;
	*names = 0;
	for (;;) {
		__wasi_size_t used, at = 0;
		OK(__wasi_fd_readdir(fd, buf, sizeof buf, cookie, &used));
		TRUE(used <= sizeof buf);
		while (at + sizeof(__wasi_dirent_t) <= used) {
			__wasi_dirent_t d;
			memcpy(&d, buf + at, sizeof d);
			if (at + sizeof d + d.d_namlen > used) break;
			cookie = d.d_next;
			*names += d.d_namlen;
			count++;
			at += sizeof d + d.d_namlen;
		}
		if (used < sizeof buf) return count;
	}
}

static void readdir(void) {
	folder("d");
	__wasi_fd_t fd = open_folder("d");
	int names;
	IS(entries(fd, &names), 2);
	IS(names, 3);
	char name[32];
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "d/file-%02d", i);
		make(name);
	}
	IS(entries(fd, &names), 22);
	IS(names, 3 + 20 * 7);
	uint8_t buf[16];
	__wasi_size_t used;
	IS(__wasi_path_remove_directory(DIR, "d"), __WASI_ERRNO_NOTEMPTY);
	IS(__wasi_fd_readdir(1, buf, sizeof buf, 0, &used) != 0, 1);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "d/file-%02d", i);
		drop(name);
	}
	OK(__wasi_fd_close(fd));
	drop_folder("d");
}

static void pread_pwrite(void) {
	__wasi_fd_t fd = create("f");
	uint8_t zero[4] = {9, 9, 9, 9}, in[8];
	__wasi_ciovec_t w[2] = {{(const uint8_t *)"abc", 3}, {(const uint8_t *)"de", 2}};
	__wasi_iovec_t r[2] = {{in, 2}, {in + 2, 6}};
	__wasi_size_t n;
	OK(__wasi_fd_pwrite(fd, w, 2, 4, &n));
	IS(n, 5);
	IS(seek(fd, 0, __WASI_WHENCE_CUR), 0);
	OK(__wasi_fd_pread(fd, r, 2, 4, &n));
	IS(n, 5);
	IS(memcmp(in, "abcde", 5), 0);
	r[0] = (__wasi_iovec_t){zero, 4};
	OK(__wasi_fd_pread(fd, r, 1, 0, &n));
	IS(n, 4);
	IS(zero[0] | zero[1] | zero[2] | zero[3], 0);
	OK(__wasi_fd_pread(fd, r, 1, 9, &n));
	IS(n, 0);
	OK(__wasi_fd_pread(fd, r, 1, 8, &n));
	IS(n, 1);
	OK(__wasi_fd_close(fd));
	__wasi_fd_t append;
	OK(open_as(DIR, "f", 0, 0, FILE_RIGHTS, __WASI_FDFLAGS_APPEND, &append));
	OK(__wasi_fd_pwrite(append, w, 1, 0, &n)); // at the end, as on Linux
	IS(stat_fd(append).size, 12);
	OK(__wasi_fd_close(append));
	drop("f");
}

static void seek_tell(void) {
	__wasi_fd_t fd = create("f");
	__wasi_filesize_t at;
	put(fd, "0123456789");
	OK(__wasi_fd_tell(fd, &at));
	IS(at, 10);
	IS(seek(fd, -3, __WASI_WHENCE_CUR), 7);
	IS(seek(fd, -3, __WASI_WHENCE_END), 7);
	IS(seek(fd, 1000, __WASI_WHENCE_END), 1010);
	IS(__wasi_fd_seek(fd, -1, __WASI_WHENCE_SET, &at), __WASI_ERRNO_INVAL);
	IS(__wasi_fd_seek(fd, -2000, __WASI_WHENCE_CUR, &at), __WASI_ERRNO_INVAL);
	IS(__wasi_fd_seek(fd, 0, 3, &at), __WASI_ERRNO_INVAL);
	OK(__wasi_fd_tell(fd, &at));
	IS(at, 1010);
	IS(strcmp(get(fd, 5), ""), 0);
	put(fd, "x");
	IS(stat_fd(fd).size, 1011);
	IS(__wasi_fd_seek(99, 0, __WASI_WHENCE_SET, &at), __WASI_ERRNO_BADF);
	OK(__wasi_fd_close(fd));
	drop("f");
}

static void truncation(void) {
	__wasi_fd_t fd = create("f");
	put(fd, "content");
	OK(__wasi_fd_close(fd));
	IS(try_open("f", 0, __WASI_OFLAGS_CREAT | __WASI_OFLAGS_EXCL), __WASI_ERRNO_EXIST);
	OK(open_as(DIR, "f", 0, __WASI_OFLAGS_TRUNC, FILE_RIGHTS, 0, &fd));
	IS(stat_fd(fd).size, 0);
	put(fd, "abcdef");
	OK(__wasi_fd_filestat_set_size(fd, 3));
	OK(__wasi_fd_filestat_set_size(fd, 5));
	seek(fd, 0, __WASI_WHENCE_SET);
	IS(memcmp(get(fd, 10), "abc\0\0", 6), 0);
	IS(__wasi_fd_filestat_set_size(99, 0), __WASI_ERRNO_BADF);
	OK(__wasi_fd_close(fd));
	__wasi_fd_t only;
	OK(open_as(DIR, "f", 0, 0, __WASI_RIGHTS_FD_READ, 0, &only));
	__wasi_ciovec_t w = {(const uint8_t *)"x", 1};
	__wasi_size_t n;
	IS(__wasi_fd_write(only, &w, 1, &n), __WASI_ERRNO_BADF);
	TRUE(__wasi_fd_filestat_set_size(only, 0) != 0);
	OK(__wasi_fd_close(only));
	OK(open_as(DIR, "f", 0, 0, __WASI_RIGHTS_FD_WRITE, 0, &only));
	__wasi_iovec_t r = {(uint8_t *)&n, 1};
	IS(__wasi_fd_read(only, &r, 1, &n), __WASI_ERRNO_BADF);
	OK(__wasi_fd_close(only));
	drop("f");
}

static void paths(void) {
	folder("d");
	folder("d/nested");
	make("d/nested/f");
	IS(try_open("d/nested/f", 0, 0), 0);
	IS(try_open("d/.//nested/../../d/nested/../nested///./f", 0, 0), 0);
	IS(try_open("/d/nested/f", 0, 0), __WASI_ERRNO_PERM);
	IS(try_open("../d", 0, 0), __WASI_ERRNO_PERM);
	IS(try_open("d/../../d", 0, 0), __WASI_ERRNO_PERM);
	IS(try_open("d/nested/f/", 0, 0), __WASI_ERRNO_NOTDIR);
	IS(try_open("d/nested/f/x", 0, 0), __WASI_ERRNO_NOTDIR);
	IS(try_open("d/nested/", 0, __WASI_OFLAGS_DIRECTORY), 0);
	IS(try_open("none", 0, 0), __WASI_ERRNO_NOENT);
	IS(try_open("none/f", 0, __WASI_OFLAGS_CREAT), __WASI_ERRNO_NOENT);
	IS(try_open("", 0, 0) != 0, 1);
	IS(try_open(".", 0, __WASI_OFLAGS_DIRECTORY), 0);
	__wasi_filestat_t st;
	OK(stat_path("d", 0, &st));
	IS(st.filetype, __WASI_FILETYPE_DIRECTORY);
	OK(stat_path("d/", FOLLOW, &st));
	IS(stat_path("none", 0, &st), __WASI_ERRNO_NOENT);
	IS(__wasi_path_create_directory(DIR, "d"), __WASI_ERRNO_EXIST);
	IS(__wasi_path_create_directory(DIR, "d/nested/f"), __WASI_ERRNO_EXIST);
	IS(__wasi_path_create_directory(DIR, "x/y"), __WASI_ERRNO_NOENT);
	__wasi_fd_t d = open_folder("d"), fd;
	OK(open_as(d, "nested/f", 0, 0, __WASI_RIGHTS_FD_READ, 0, &fd));
	OK(__wasi_fd_close(fd));
	IS(open_as(d, "..", 0, 0, __WASI_RIGHTS_FD_READ, 0, &fd), __WASI_ERRNO_PERM);
	OK(__wasi_fd_close(d));
	drop("d/nested/f");
	drop_folder("d/nested");
	drop_folder("d");
}

static void slashes(void) {
	OK(__wasi_path_create_directory(DIR, "d/"));
	IS(__wasi_path_unlink_file(DIR, "d"), __WASI_ERRNO_ISDIR);
	IS(__wasi_path_unlink_file(DIR, "d/"), __WASI_ERRNO_ISDIR);
	OK(__wasi_path_rename(DIR, "d/", DIR, "e/"));
	OK(__wasi_path_remove_directory(DIR, "e/"));
	make("f");
	IS(__wasi_path_remove_directory(DIR, "f"), __WASI_ERRNO_NOTDIR);
	IS(__wasi_path_remove_directory(DIR, "f/"), __WASI_ERRNO_NOTDIR);
	IS(__wasi_path_unlink_file(DIR, "f/"), __WASI_ERRNO_NOTDIR);
	IS(__wasi_path_rename(DIR, "f/", DIR, "g"), __WASI_ERRNO_NOTDIR);
	IS(__wasi_path_rename(DIR, "f", DIR, "g/"), __WASI_ERRNO_NOTDIR);
	drop("f");
	IS(__wasi_path_unlink_file(DIR, "f"), __WASI_ERRNO_NOENT);
	IS(__wasi_path_remove_directory(DIR, "f"), __WASI_ERRNO_NOENT);
	TRUE(__wasi_path_symlink("x", DIR, "l/") != 0);
	TRUE(try_open("l", 0, 0) == __WASI_ERRNO_NOENT);
}

static void links(void) {
	__wasi_fd_t fd = create("f");
	put(fd, "x");
	OK(__wasi_path_link(DIR, 0, "f", DIR, "g"));
	__wasi_filestat_t a = stat_fd(fd), b;
	OK(stat_path("g", 0, &b));
	TRUE(a.ino == b.ino && a.dev == b.dev && b.nlink == 2);
	IS(__wasi_path_link(DIR, 0, "f", DIR, "g"), __WASI_ERRNO_EXIST);
	IS(__wasi_path_link(DIR, 0, "none", DIR, "h"), __WASI_ERRNO_NOENT);
	folder("d");
	IS(__wasi_path_link(DIR, 0, "f", DIR, "d"), __WASI_ERRNO_EXIST);
	IS(__wasi_path_link(DIR, 0, "d", DIR, "h"), __WASI_ERRNO_PERM);
	OK(__wasi_path_link(DIR, 0, "f", DIR, "d/h"));
	OK(__wasi_fd_close(fd));
	drop("f");
	IS(try_open("g", 0, 0), 0);
	drop("d/h");
	drop("g");
	drop_folder("d");
}

static void renames(void) {
	folder("a");
	make("a/f");
	OK(__wasi_path_rename(DIR, "a", DIR, "b"));
	IS(try_open("a", 0, 0), __WASI_ERRNO_NOENT);
	IS(try_open("b/f", 0, 0), 0);
	folder("c");
	OK(__wasi_path_rename(DIR, "b", DIR, "c")); // over an empty folder
	folder("b");
	IS(__wasi_path_rename(DIR, "b", DIR, "c"), __WASI_ERRNO_NOTEMPTY);
	IS(__wasi_path_rename(DIR, "b", DIR, "c/f"), __WASI_ERRNO_NOTDIR);
	IS(__wasi_path_rename(DIR, "c/f", DIR, "b"), __WASI_ERRNO_ISDIR);
	IS(__wasi_path_rename(DIR, "c", DIR, "c/below"), __WASI_ERRNO_INVAL);
	IS(__wasi_path_rename(DIR, "none", DIR, "x"), __WASI_ERRNO_NOENT);
	__wasi_fd_t fd;
	OK(open_as(DIR, "c/f", 0, 0, FILE_RIGHTS, 0, &fd));
	put(fd, "moved");
	OK(__wasi_path_rename(DIR, "c/f", DIR, "b/g"));
	put(fd, " on");
	seek(fd, 0, __WASI_WHENCE_SET);
	IS(strcmp(get(fd, 100), "moved on"), 0);
	make("b/h");
	OK(__wasi_path_rename(DIR, "b/g", DIR, "b/h")); // over a file
	OK(__wasi_fd_close(fd));
	OK(__wasi_path_rename(DIR, "b/h", DIR, "b/h"));
	drop("b/h");
	drop_folder("b");
	drop_folder("c");
}

static void renumber(void) {
	__wasi_fd_t a = create("a"), b = create("b");
	put(a, "a");
	IS(__wasi_fd_renumber(DIR, a), __WASI_ERRNO_NOTSUP);
	IS(__wasi_fd_renumber(a, DIR), __WASI_ERRNO_NOTSUP);
	IS(__wasi_fd_renumber(a, 99999), __WASI_ERRNO_BADF);
	IS(__wasi_fd_renumber(99, a), __WASI_ERRNO_BADF);
	OK(__wasi_fd_renumber(a, b));
	__wasi_fdstat_t st;
	IS(__wasi_fd_fdstat_get(a, &st), __WASI_ERRNO_BADF);
	seek(b, 0, __WASI_WHENCE_SET);
	IS(strcmp(get(b, 10), "a"), 0);
	OK(__wasi_fd_close(b));
	drop("a");
	drop("b");
}

static void many(void) {
	static __wasi_fd_t fds[500];
	make("f");
	for (int i = 0; i < 500; i++) OK(open_as(DIR, "f", 0, 0, __WASI_RIGHTS_FD_READ, i % 2 ? __WASI_FDFLAGS_NONBLOCK : 0, &fds[i]));
	for (int i = 1; i < 500; i++) IS(fds[i], fds[0] + i);
	OK(__wasi_fd_close(fds[100]));
	__wasi_fd_t again;
	OK(open_as(DIR, "f", 0, 0, __WASI_RIGHTS_FD_READ, 0, &again));
	IS(again, fds[100]); // the lowest that is free
	for (int i = 0; i < 500; i++) OK(__wasi_fd_close(fds[i]));
	drop("f");
}

static void preopens(void) {
	__wasi_prestat_t st;
	OK(__wasi_fd_prestat_get(DIR, &st));
	IS(st.tag, __WASI_PREOPENTYPE_DIR);
	uint8_t name[64];
	TRUE(st.u.dir.pr_name_len < sizeof name);
	OK(__wasi_fd_prestat_dir_name(DIR, name, st.u.dir.pr_name_len));
	IS(__wasi_fd_prestat_dir_name(DIR, name, st.u.dir.pr_name_len + 1), __WASI_ERRNO_NAMETOOLONG);
	IS(__wasi_fd_prestat_get(1, &st), __WASI_ERRNO_BADF);
	__wasi_fd_t fd = create("f");
	IS(__wasi_fd_prestat_get(fd, &st), __WASI_ERRNO_BADF);
	OK(__wasi_fd_close(fd));
	drop("f");
}

static void sockets(void) {
	__wasi_size_t n;
	uint8_t b;
	__wasi_iovec_t r = {&b, 1};
	__wasi_ciovec_t w = {&b, 1};
	__wasi_roflags_t flags;
	IS(__wasi_sock_shutdown(99, __WASI_SDFLAGS_RD), __WASI_ERRNO_BADF);
	IS(__wasi_sock_recv(99, &r, 1, 0, &n, &flags), __WASI_ERRNO_BADF);
	IS(__wasi_sock_send(99, &w, 1, 0, &n), __WASI_ERRNO_BADF);
	IS(__wasi_sock_shutdown(DIR, __WASI_SDFLAGS_RD), __WASI_ERRNO_NOTSOCK);
	IS(__wasi_sock_recv(DIR, &r, 1, 0, &n, &flags), __WASI_ERRNO_NOTSOCK);
	IS(__wasi_sock_send(DIR, &w, 1, 0, &n), __WASI_ERRNO_NOTSOCK);
}

static void close_preopen(void) { // the last: nothing can be opened any more
	__wasi_fdstat_t st;
	OK(__wasi_fd_close(DIR));
	IS(__wasi_fd_fdstat_get(DIR, &st), __WASI_ERRNO_BADF);
	IS(try_open("f", 0, __WASI_OFLAGS_CREAT), __WASI_ERRNO_BADF);
	__wasi_prestat_t pre;
	IS(__wasi_fd_prestat_get(DIR, &pre), __WASI_ERRNO_BADF);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"arguments", arguments}, {"random", random_bytes}, {"clocks", clocks}, {"stdio", stdio}, {"poll", poll_stdio},
	{"dangling", dangling_fd}, {"symlinks", symlinks}, {"folders", folder_descriptors}, {"advise", advise_allocate},
	{"times", times_of_files}, {"flags", flags}, {"readdir", readdir}, {"pread", pread_pwrite}, {"seek", seek_tell},
	{"truncate", truncation}, {"paths", paths}, {"slashes", slashes}, {"links", links}, {"renames", renames},
	{"renumber", renumber}, {"many", many}, {"preopens", preopens}, {"sockets", sockets}, {"close", close_preopen},
};

int main(int argc, char **argv) {
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int wanted = argc < 2;
		for (int k = 1; k < argc; k++) wanted |= strcmp(argv[k], cases[i].name) == 0;
		if (!wanted) continue;
		now = cases[i].name;
		cases[i].run();
		printf("%s\n", now);
		fflush(stdout);
	}
	return 0;
}
