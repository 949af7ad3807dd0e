/*
 * probe_json.h - write JSON to a stream, one value at a time
 *
 * Why:        the results of a run are read by programs; commas and escapes
 *             are got right in one place.
 * Invariants: the text is valid JSON when every begin has met its end; a
 *             number that is not finite is written as null; bytes that are
 *             not UTF-8 are written as '?'.
 * Ownership:  the stream is the caller's; nothing is allocated.
 * Threads:    one.
 * Limits:     PROBE_JSON_DEPTH levels (asserted).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_JSON_H
#define PROBE_JSON_H

#include <stdbool.h>
#include <stdio.h>

#define PROBE_JSON_DEPTH 8

struct probe_json {
	FILE *file; /* borrows until the caller is done */
	int depth;
	bool filled[PROBE_JSON_DEPTH]; /* this level has a value already */
};

void probe_json_init(struct probe_json *json, FILE *file);

/* `key` is NULL inside an array and for the outermost value. */
void probe_json_begin(struct probe_json *json, const char *key, char bracket);
void probe_json_end(struct probe_json *json, char bracket);
void probe_json_string(
	struct probe_json *json, const char *key, const char *text);
void probe_json_number(struct probe_json *json, const char *key, double value);

/* 0, or -EIO when the stream refused a byte. Call after the last end. */
int probe_json_finish(struct probe_json *json);

#endif
