/* serve_json.h - reading JSON on the fly (text -> values, in one pass) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the client parses every chunk of every stream while it measures;
 *          a tree per chunk would make the client the slow part. This is a
 *          cursor that walks the text once and allocates nothing.
 * Strict:  RFC 8259: no trailing commas, no control characters in strings,
 *          paired surrogates, UTF-8 throughout, nothing behind the value.
 *          The first fault stays in `bad`; afterwards every call says no.
 * Use:     struct serve_json_text key;
 *          serve_json_open(&json, '{');
 *          while (serve_json_key(&json, &key)) ...one value...;
 * Threads: pure.
 */
#ifndef HEDDLE_BENCH_SERVE_JSON_H
#define HEDDLE_BENCH_SERVE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVE_JSON_DEPTH_MAX 32

struct serve_json {
	const char *at, *end;
	bool bad;
	bool first; /* an object or list was just opened */
	unsigned depth;
};

/* A view: of a string, the bytes between its quotes, escapes unread. */
struct serve_json_text {
	const char *text;
	size_t length;
};

void serve_json_init(struct serve_json *json, const char *text, size_t length);

/* '{' or '['; false where something else stands there (no fault). */
bool serve_json_open(struct serve_json *json, char bracket);

/* The next key of an object; false at its end, which is taken. */
bool serve_json_key(struct serve_json *json, struct serve_json_text *key);

/* Is there another element of the list? false at its end, which is taken. */
bool serve_json_item(struct serve_json *json);

/* Each takes a value of its kind; false where another kind stands there. */
bool serve_json_string(struct serve_json *json, struct serve_json_text *out);
bool serve_json_integer(struct serve_json *json, int64_t *out);
bool serve_json_null(struct serve_json *json);

/* Any value. */
void serve_json_skip(struct serve_json *json);

/* Only blanks are left and nothing was wrong. */
bool serve_json_at_end(struct serve_json *json);

bool serve_json_is(struct serve_json_text text, const char *literal);

/*
 * The bytes that a string stands for, without its escapes. out has room for
 * text.length bytes; returns how many were written.
 */
size_t serve_json_decode(struct serve_json_text text, char *out);

#endif
