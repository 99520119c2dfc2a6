// All ways to wait for several operations, and all ways in which operations end. It asks for the handlers "echo", which answers with
// its argument, "fail", which fails, and "stop", which has this program cancelled.
#include <stdio.h>
#include <stdlib.h>

#include "durun.h"

static void show(const char *what, int32_t value) {
	if (value < 0) printf("%s: %s\n", what, durun_code_name(value));
	else printf("%s: %d\n", what, (int)value);
}

static void drop(const durun_op *ops, size_t n) {
	for (size_t i = 0; i < n; i++) durun_drop(ops[i]);
}

static void timers(void) {
	durun_op ops[] = {durun_timer(3600 * DURUN_SECOND), durun_timer(DURUN_MILLISECOND), durun_timer(0)};
	show("some", durun_some(ops, 3, 2, DURUN_FOREVER) >= 2);
	show("race", durun_race(ops + 1, 2, DURUN_FOREVER)); // both are over: the first in the list
	show("all settled in 2 ms", durun_all_settled(ops, 3, 2 * DURUN_MILLISECOND));
	show("all settled of those that end", durun_all_settled(ops + 1, 2, DURUN_FOREVER));
	show("race in 0 ms", durun_race(ops, 1, 0));
	show("any in 1 ms", durun_any(ops, 1, DURUN_MILLISECOND));
	show("all in 1 ms", durun_all(ops, 3, DURUN_MILLISECOND));
	show("cancel", durun_cancel(ops[0]));
	show("all", durun_all(ops, 3, DURUN_FOREVER));
	show("all settled", durun_all_settled(ops, 3, DURUN_FOREVER));
	drop(ops, 3);
	show("dropped", durun_await(ops[0], DURUN_FOREVER));
}

static void calls(void) {
	durun_op ops[] = {durun_call("fail", "me", 2), durun_call("echo", "hello", 5), durun_call("no such handler", NULL, 0)};
	show("any", durun_any(ops, 3, DURUN_FOREVER));
	char *text;
	if (durun_result_alloc(ops[1], &text) >= 0) printf("echo: %s\n", text);
	free(text);
	printf("it is: %s\n", durun_code_name(durun_await(ops[1], DURUN_FOREVER)));
	show("fail", durun_await(ops[0], DURUN_FOREVER));
	if (durun_message_alloc(ops[0], &text) >= 0) printf("why: %s\n", text);
	free(text);
	show("no such handler", durun_await(ops[2], DURUN_FOREVER));
	durun_op failures[] = {ops[0], ops[2]};
	show("any of failures", durun_any(failures, 2, DURUN_FOREVER));
	show("all", durun_all(ops, 3, DURUN_FOREVER));
	show("race", durun_race(failures, 2, DURUN_FOREVER));
	drop(ops, 3);
}

// What is wrong from the start waits for nothing.
static void mistakes(void) {
	durun_op ops[] = {durun_timer(0), durun_call("", NULL, 0)};
	show("begin", ops[1]);
	char *text;
	if (durun_message_alloc(0, &text) >= 0) printf("why: %s\n", text);
	free(text);
	show("await", durun_await(ops[1], DURUN_FOREVER));
	show("all settled", durun_all_settled(ops, 2, DURUN_FOREVER));
	show("any", durun_any(ops, 2, DURUN_FOREVER));
	show("race of nothing", durun_race(NULL, 0, DURUN_FOREVER));
	show("all settled of nothing", durun_all_settled(NULL, 0, DURUN_FOREVER));
	durun_drop(ops[0]);
}

int main(void) {
	char id[128];
	printf("id: %.*s\n", (int)durun_id(id, sizeof id), id);
	timers();
	calls();
	mistakes();
	durun_checkpoint();

	durun_call("stop", NULL, 0);
	show("sleep", durun_sleep(3600 * DURUN_SECOND));
	show("sleep, to clean up", durun_sleep(DURUN_MILLISECOND));
	durun_output("done", 4);
}
