// Just enough JSON for the examples: it finds values in a text that is taken to be valid, and leaves them as they stand. What is
// cut off or isn't JSON at all reads as absent, never beyond its end.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// A value's text, in somebody else's memory. Its data is NULL if there is no such value.
struct json {
	const char *data;
	size_t len;
};

static inline const char *json_space(const char *p, const char *end) {
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
	return p;
}

// Returns where the value that starts at p ends, NULL if it doesn't.
static inline const char *json_end(const char *p, const char *end) {
	int depth = 0;
	bool string = false;
	for (const char *start = p; p < end; p++) {
		if (string) {
			if (*p == '\\') p++;
			else if (*p == '"') string = false;
		} else if (*p == '"') {
			string = true;
		} else if (*p == '{' || *p == '[') {
			depth++;
		} else if (depth == 0) { // a number or a word: up to what can't be part of it
			if (strchr(",:]} \t\r\n", *p)) return p > start ? p : NULL;
			continue;
		} else if (*p == '}' || *p == ']') {
			depth--;
		}
		if (depth == 0 && !string) return p < end ? p + 1 : NULL;
	}
	return string || depth > 0 ? NULL : p;
}

// Takes one value off the front of rest, with the comma or colon before it.
static inline struct json json_next(struct json *rest) {
	struct json none = {NULL, 0};
	if (rest->data == NULL) return none;
	const char *end = rest->data + rest->len, *p = json_space(rest->data, end);
	if (p < end && (*p == ',' || *p == ':')) p = json_space(p + 1, end);
	const char *stop = p < end ? json_end(p, end) : NULL;
	if (stop == NULL) return none;
	rest->data = stop;
	rest->len = (size_t)(end - stop);
	struct json value = {p, (size_t)(stop - p)};
	return value;
}

// Returns what is within an array or object, for json_next.
static inline struct json json_within(struct json value) {
	if (value.len < 2) value.data = NULL;
	if (value.data == NULL) return value;
	value.data++;
	value.len -= 2;
	return value;
}

static inline bool json_is(struct json value, const char *text) {
	return value.data != NULL && value.len == strlen(text) && memcmp(value.data, text, value.len) == 0;
}

// Returns the value of an object's key, which is given as it is written, with its quotes.
static inline struct json json_get(struct json object, const char *key) {
	struct json rest = json_within(object), k, value;
	do {
		k = json_next(&rest);
		value = json_next(&rest);
	} while (k.data != NULL && !json_is(k, key));
	return value;
}

#endif
