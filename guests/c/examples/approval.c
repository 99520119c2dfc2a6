// Waits for the message "approval", which is "yes" or something else in JSON, but not for ever: two seconds, or as many as the
// input says: {"timeout": 86400}.
#include <stdio.h>
#include <stdlib.h>

#include "durun.h"
#include "json.h"

int main(void) {
	char *text;
	int32_t len = durun_input_alloc(&text);
	if (len < 0) return 1;
	struct json rest = {text, (size_t)len}, timeout = json_get(json_next(&rest), "\"timeout\"");
	double seconds = timeout.data == NULL ? 2 : strtod(timeout.data, NULL);
	if (!(seconds < 1e9)) seconds = 1e9; // some thirty years

	durun_op approval = durun_recv("approval");
	int32_t code = durun_await(approval, (int64_t)(seconds * DURUN_SECOND));
	if (code == -DURUN_PENDING) {
		puts("timed out");
		return 0;
	}
	char *message;
	if (code >= 0) code = durun_result_alloc(approval, &message);
	if (code < 0) {
		fprintf(stderr, "approval: %s\n", durun_code_name(code));
		return 1;
	}
	struct json answer = {message, (size_t)code};
	puts(json_is(json_next(&answer), "\"yes\"") ? "approved" : "declined");
}
