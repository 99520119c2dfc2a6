// Sends an e-mail to every address of a list, in parallel, and stores the results. Its input: {"opid": "op-1", "emails": ["…"]}.
//
// How fast the e-mails go out, and how often each is tried, is up to whoever runs the handler send_email.
#include <stdio.h>
#include <stdlib.h>

#include "durun.h"
#include "json.h"

static int fail(const char *what, int32_t code) {
	fprintf(stderr, "%s: %s\n", what, durun_code_name(code));
	return 1;
}

// Says which of the operations failed, and why.
static int why(const durun_op *ops, size_t n, int32_t code) {
	for (size_t i = 0; i < n; i++) {
		char *message;
		if (durun_message_alloc(ops[i], &message) > 0) fprintf(stderr, "send_email: %s\n", message);
		free(message);
	}
	return fail("send_email", code);
}

// Begins one call for each address. Returns how many; the operations are in *ops.
static size_t send_all(struct json emails, durun_op **ops) {
	size_t n = 0;
	*ops = NULL;
	struct json rest = json_within(emails);
	for (struct json email; (email = json_next(&rest)).data != NULL; n++) {
		size_t size = email.len + sizeof "{\"to\":}";
		char *body = malloc(size);
		*ops = realloc(*ops, (n + 1) * sizeof **ops);
		if (body == NULL || *ops == NULL) abort();
		// The address stays as it is written in the input, quotes and all.
		int len = snprintf(body, size, "{\"to\":%.*s}", (int)email.len, email.data);
		(*ops)[n] = durun_call("send_email", body, (size_t)len);
		free(body);
	}
	return n;
}

int main(void) {
	char *text;
	int32_t len = durun_input_alloc(&text);
	if (len < 0) return fail("input", len);
	struct json rest = {text, (size_t)len}, input = json_next(&rest);
	struct json opid = json_get(input, "\"opid\"");
	if (opid.data == NULL) return fail("input", -DURUN_INVALID);

	durun_op *ops;
	size_t n = send_all(json_get(input, "\"emails\""), &ops);
	int32_t code = durun_all(ops, n, DURUN_FOREVER);
	if (code < 0) return why(ops, n, code);

	size_t size = opid.len + sizeof "{\"opid\":,\"results\":[]}";
	for (size_t i = 0; i < n; i++) size += (size_t)durun_result(ops[i], NULL, 0) + 1;
	char *body = malloc(size);
	if (body == NULL) return fail("store_results", -DURUN_LIMIT);
	char *p = body + sprintf(body, "{\"opid\":%.*s,\"results\":[", (int)opid.len, opid.data);
	for (size_t i = 0; i < n; i++) {
		if (i > 0) *p++ = ',';
		p += durun_result(ops[i], p, size);
	}
	memcpy(p, "]}", 2);
	code = durun_await(durun_call("store_results", body, (size_t)(p + 2 - body)), DURUN_FOREVER);
	if (code < 0) return fail("store_results", code);
	printf("stored %zu\n", n);
}
