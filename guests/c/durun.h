/*
 * durun.h: what a C or C++ program says to durun. Version 1 of the import module "durun", see hostabi/ABI.md.
 *
 *     clang --target=wasm32-wasi -O2 -o program.wasm program.c
 *
 * C99 and C++11, this header alone, nothing to link. Only functions whose names end in _alloc, and durun_spawn_args, allocate.
 *
 * A program waits for operations: timers, calls of handlers outside, children, messages. durun_timer, durun_call, durun_spawn
 * and durun_recv begin one and return its number without waiting, so many can be under way at once:
 *
 *     durun_op op = durun_call("greet", "ada", 3);
 *     char *answer;
 *     int32_t n = durun_await(op, DURUN_FOREVER);    // the program may go on in another process, or next month
 *     if (n < 0) fprintf(stderr, "greet: %s\n", durun_code_name(n));
 *     else if ((n = durun_result_alloc(op, &answer)) >= 0) puts(answer);
 *     durun_drop(op);
 *
 * Functions that return int32_t return a code of enum durun_code, negated, where something is wrong, and else at least 0. An
 * operation that could not begin has such a code for its number. Functions that wait return it as it is, so that a program can
 * check once.
 *
 * Times are nanoseconds. Texts that go out are UTF-8.
 */
#ifndef DURUN_H
#define DURUN_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The number of an operation, from 1; or a negated code, if it could not begin. */
typedef int32_t durun_op;

/* What can be wrong. Functions return these negated. Take one that is not in the list for a failure. */
enum durun_code {
	DURUN_OK = 0,
	DURUN_PENDING = 1,   /* the operation has not ended; of a wait: the time was up before */
	DURUN_UNKNOWN = 2,   /* there is no such operation, or it was dropped */
	DURUN_INVALID = 3,   /* the arguments make no sense */
	DURUN_LIMIT = 4,     /* too many operations, or too much; of a function that allocates: no memory */
	DURUN_DENIED = 5,    /* the run was given no handler or module of that name */
	DURUN_FAILED = 6,    /* the handler says that it is of no use to try again; the child failed */
	DURUN_TIMEOUT = 7,   /* the handler's time was up */
	DURUN_CANCELLED = 8, /* the operation was cancelled; of a wait: the program is to clean up and end */
	DURUN_EXHAUSTED = 9, /* all attempts of the handler failed */
};

enum durun_kind {
	DURUN_KIND_TIMER = 1,
	DURUN_KIND_CALL = 2,
	DURUN_KIND_SPAWN = 3,
	DURUN_KIND_RECV = 4,
};

#define DURUN_MILLISECOND INT64_C(1000000)
#define DURUN_SECOND INT64_C(1000000000)
#define DURUN_FOREVER INT64_C(-1) /* a timeout that never comes */

/* Added to durun_wait's min: only operations that succeeded count. */
#define DURUN_SUCCESSES UINT32_C(0x80000000)

#ifdef __wasm__
#define DURUN_IMPORT(name) __attribute__((import_module("durun"), import_name(name)))
#else /* a test that has functions of its own for them */
#define DURUN_IMPORT(name)
#endif

/*
 * The functions of the import module. "Copies at most cap bytes, and returns the full length" is meant as for snprintf: with
 * cap 0 they tell the length. Nothing is added at the end, no NUL.
 */

/* Copies at most cap bytes of the current value to buf, and returns its full length. The current value is the program's
   input at first, and after each durun_yield what that received. */
DURUN_IMPORT("input") int32_t durun_input(void *buf, size_t cap);

/* Sets the program's result, to a copy. The last call wins. */
DURUN_IMPORT("output") void durun_output(const void *data, size_t len);

/* Hands a value to the driver, and waits until it goes on. Returns the length of what was received, for durun_input to read. */
DURUN_IMPORT("yield") int32_t durun_yield(const void *data, size_t len);

/* Makes all that has happened so far durable. */
DURUN_IMPORT("checkpoint") void durun_checkpoint(void);

/* Copies at most cap bytes of the program's id to buf, and returns its full length, at most 128. `durun send` takes it. A child
   finds its parent's in the environment, as DURUN_PARENT. */
DURUN_IMPORT("id") int32_t durun_id(char *buf, size_t cap);

/* Begins an operation. What name and body are depends on the kind: see the functions below, which are easier to use. Both are
   copied. It starts when the program next waits. */
DURUN_IMPORT("begin")
durun_op durun_begin(uint32_t kind, const char *name, size_t name_len, const void *body, size_t body_len);

/* Waits until min of the n operations have ended, or until the timeout. Returns how many have, or DURUN_CANCELLED or
   DURUN_UNKNOWN, negated. See also the joins below. */
DURUN_IMPORT("wait") int32_t durun_wait(const durun_op *ops, size_t n, uint32_t min, int64_t timeout);

/* Copies at most cap bytes of the operation's result to buf, and returns its full length; or why there is none, negated. */
DURUN_IMPORT("result") int32_t durun_result(durun_op op, void *buf, size_t cap);

/* Copies at most cap bytes of a text that says why the operation failed, and returns its full length: 0 if it has not. For 0 it
   says why the last operation that was begun could not begin, until the program next waits. */
DURUN_IMPORT("message") int32_t durun_message(durun_op op, char *buf, size_t cap);

/* Gives an operation up that has not ended. It ends with DURUN_CANCELLED; a child when it has ended, which it may do well. */
DURUN_IMPORT("cancel") int32_t durun_cancel(durun_op op);

/* Cancels an operation, if it has not ended, and forgets it. Results are kept until then. */
DURUN_IMPORT("drop") int32_t durun_drop(durun_op op);

#undef DURUN_IMPORT

/* Returns the name of what a function returned: "ok" if that is at least 0, a length for example, and else the code's: "pending",
   for example. */
static inline const char *durun_code_name(int32_t returned) {
	if (returned >= 0) return "ok";
	switch (-returned) {
	case DURUN_PENDING: return "pending";
	case DURUN_UNKNOWN: return "unknown";
	case DURUN_INVALID: return "invalid";
	case DURUN_LIMIT: return "limit";
	case DURUN_DENIED: return "denied";
	case DURUN_FAILED: return "failed";
	case DURUN_TIMEOUT: return "timeout";
	case DURUN_CANCELLED: return "cancelled";
	case DURUN_EXHAUSTED: return "exhausted";
	}
	return "another code";
}

/*
 * Operations.
 */

/* Begins a timer. It counts from now, on the wall clock, also while nobody drives the program. */
static inline durun_op durun_timer(int64_t nanoseconds) {
	/* As it is: WebAssembly is little-endian. */
	return durun_begin(DURUN_KIND_TIMER, NULL, 0, &nanoseconds, sizeof nanoseconds);
}

/* Begins a call of the handler of that name, with len bytes as its argument. Its result is the handler's. */
static inline durun_op durun_call(const char *name, const void *body, size_t len) {
	return durun_begin(DURUN_KIND_CALL, name, strlen(name), body, len);
}

/* Begins to receive the next message of that name that nobody has received yet. The message is the result. */
static inline durun_op durun_recv(const char *name) {
	return durun_begin(DURUN_KIND_RECV, name, strlen(name), NULL, 0);
}

/* Starts a child, with len bytes as its input; its output is the result. The target is "" for this program, else a function that
   it exports, "module:NAME" or "module:NAME/EXPORT". The child has this program's arguments. One that exits with another code than
   0 has failed, and its output, if that is text, is part of the message. */
static inline durun_op durun_spawn(const char *target, const void *input, size_t len) {
	return durun_begin(DURUN_KIND_SPAWN, target, strlen(target), input, len);
}

/* As durun_spawn, with argc arguments of its own, from argv[0] on: the child's argv[1] and so on. Allocates, and frees again. */
static inline durun_op durun_spawn_args(const char *target, int argc, const char *const argv[], const void *input, size_t len) {
	/* What the ABI takes as name: the target, and each argument after a NUL. */
	size_t size = strlen(target);
	for (int i = 0; i < argc; i++) size += 1 + strlen(argv[i]);
	char *name = (char *)malloc(size + 1);
	if (name == NULL) return -DURUN_LIMIT;
	char *end = name + strlen(target);
	memcpy(name, target, strlen(target) + 1);
	for (int i = 0; i < argc; i++) {
		end++;
		memcpy(end, argv[i], strlen(argv[i]) + 1);
		end += strlen(argv[i]);
	}
	durun_op op = durun_begin(DURUN_KIND_SPAWN, name, size, input, len);
	free(name);
	return op;
}

/*
 * Waiting. A timeout counts from the call; when it is up, DURUN_PENDING comes back, negated. Any wait returns DURUN_CANCELLED,
 * negated, once, if the program is to be cancelled: it cleans up, for which it may begin and wait as ever, and ends.
 */

/* Waits until the operation has ended, and returns its result's length; or why it failed, negated. */
static inline int32_t durun_await(durun_op op, int64_t timeout) {
	if (op < 0) return op;
	int32_t ended = durun_wait(&op, 1, 1, timeout);
	return ended < 0 ? ended : durun_result(op, NULL, 0);
}

/* Sleeps. Returns 0, or a negated code. */
static inline int32_t durun_sleep(int64_t nanoseconds) {
	durun_op op = durun_timer(nanoseconds);
	int32_t ended = durun_await(op, DURUN_FOREVER);
	if (op > 0) durun_drop(op);
	return ended;
}

/* Waits until min of the operations have ended, whatever their ends. Returns how many have, or a negated code. */
static inline int32_t durun_some(const durun_op *ops, size_t n, uint32_t min, int64_t timeout) {
	for (size_t i = 0; i < n; i++)
		if (ops[i] < 0) return ops[i];
	if (min > n) min = (uint32_t)n;
	int32_t ended = durun_wait(ops, n, min, timeout);
	return ended >= 0 && (uint32_t)ended < min ? -DURUN_PENDING : ended;
}

/* Waits until all operations have ended, whatever their ends. Returns 0, or a negated code. */
static inline int32_t durun_all_settled(const durun_op *ops, size_t n, int64_t timeout) {
	int32_t ended = durun_some(ops, n, (uint32_t)n, timeout);
	return ended < 0 ? ended : 0;
}

/* Waits until all operations have succeeded, or one has failed. Returns 0; or why the first in the list that failed did, or
   another code, negated. */
static inline int32_t durun_all(const durun_op *ops, size_t n, int64_t timeout) {
	for (size_t i = 0; i < n; i++)
		if (ops[i] < 0) return ops[i];
	int32_t ended = durun_wait(ops, n, DURUN_SUCCESSES | (uint32_t)n, timeout);
	if (ended < 0) return ended;
	int32_t pending = 0;
	for (size_t i = 0; i < n; i++) {
		int32_t r = durun_result(ops[i], NULL, 0);
		if (r == -DURUN_PENDING) pending = r;
		else if (r < 0) return r;
	}
	return pending;
}

/* Waits until one of the operations has ended, whatever its end. Returns its index in the list, the lowest if there are
   several, or a negated code: DURUN_INVALID if the list is empty. */
static inline int32_t durun_race(const durun_op *ops, size_t n, int64_t timeout) {
	if (n == 0) return -DURUN_INVALID;
	int32_t ended = durun_some(ops, n, 1, timeout);
	if (ended < 0) return ended;
	for (size_t i = 0; i < n; i++)
		if (durun_result(ops[i], NULL, 0) != -DURUN_PENDING) return (int32_t)i;
	return -DURUN_PENDING;
}

/* Waits until one of the operations has succeeded. Returns its index in the list, the lowest if there are several, or a negated
   code: DURUN_FAILED if all have failed, and durun_result of each says how; DURUN_INVALID if the list is empty. */
static inline int32_t durun_any(const durun_op *ops, size_t n, int64_t timeout) {
	if (n == 0) return -DURUN_INVALID;
	for (size_t i = 0; i < n; i++)
		if (ops[i] < 0) return ops[i];
	int32_t ended = durun_wait(ops, n, DURUN_SUCCESSES | 1, timeout);
	if (ended < 0) return ended;
	int32_t code = -DURUN_FAILED;
	for (size_t i = 0; i < n; i++) {
		int32_t r = durun_result(ops[i], NULL, 0);
		if (r >= 0) return (int32_t)i;
		if (r == -DURUN_PENDING) code = r;
	}
	return code;
}

/*
 * Values in memory of their own. Each function sets *data to what malloc returned, for the caller to free, with a NUL after the
 * bytes, and returns the length without it. Where it returns a negated code, *data is NULL.
 */

/* The current value. */
static inline int32_t durun_input_alloc(char **data) {
	int32_t len = durun_input(NULL, 0);
	*data = (char *)malloc((size_t)len + 1);
	if (*data == NULL) return -DURUN_LIMIT;
	durun_input(*data, (size_t)len);
	(*data)[len] = 0;
	return len;
}

/* An operation's result. */
static inline int32_t durun_result_alloc(durun_op op, char **data) {
	*data = NULL;
	if (op < 0) return op;
	int32_t len = durun_result(op, NULL, 0);
	if (len < 0) return len;
	*data = (char *)malloc((size_t)len + 1);
	if (*data == NULL) return -DURUN_LIMIT;
	durun_result(op, *data, (size_t)len);
	(*data)[len] = 0;
	return len;
}

/* Why an operation failed, for people; for 0, why the last one could not begin, see durun_message. Empty if it has not. */
static inline int32_t durun_message_alloc(durun_op op, char **data) {
	*data = NULL;
	if (op < 0) return op;
	int32_t len = durun_message(op, NULL, 0);
	if (len < 0) return len;
	*data = (char *)malloc((size_t)len + 1);
	if (*data == NULL) return -DURUN_LIMIT;
	durun_message(op, *data, (size_t)len);
	(*data)[len] = 0;
	return len;
}

#ifdef __cplusplus
}
#endif

#endif
