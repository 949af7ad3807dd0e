/* json_text.h - JSON that nobody vouches for (text -> fields) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   config.json, generation_config.json, tokenizer.json, the index and
 *        the headers of safetensors files are all JSON from outside. This is the one place
 *        where such text meets the parser (libjansson), and the one way in
 *        which fields are read: typed, in a range, with the field's name in
 *        the error.
 * Memory: a value of one or two bytes of text costs the parser up to about
 *        100 bytes, and an empty object about 250. So structural characters
 *        are counted before the parser starts; what exceeds struct
 *        json_bounds is refused without an allocation.
 * Out of memory: libjansson 2.14 drops characters when the buffer of its
 *        lexer cannot grow and may then read on past it. Within a parse
 *        our allocator therefore fails for good after it has failed once,
 *        which ends that parse before the text is looked at again. The
 *        allocator is set with json_set_alloc_funcs(), which is of the whole
 *        process: nobody else may set another.
 * Threads: any; a json_t belongs to one thread.
 */
#ifndef HEDDLE_BASE_JSON_TEXT_H
#define HEDDLE_BASE_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* How many structural characters, outside of strings, a text may hold. */
struct json_bounds {
	size_t object_max; /* { */
	size_t array_max; /* [ */
	size_t separator_max; /* commas and colons together */
};

/*
 * Parse one JSON object; repeated keys, bytes after it and a NUL anywhere
 * are refused. Errors carry line and column, not the name of the file.
 * -EINVAL, -ENOMEM. On success the caller owns *out (json_decref).
 */
int json_text_parse(const char *text, size_t length,
	const struct json_bounds *bounds, json_t **out, struct error *err);

/*
 * A reader of one object's fields. The first failure stays in rc and err,
 * and everything read afterwards is its default: read all, then look at rc.
 */
struct fields {
	json_t *object; /* borrows */
	const char *path; /* before each key in errors: "" or "rope_scaling." */
	int rc;
	struct error *err;
};

void fields_init(struct fields *fields, json_t *object, const char *path,
	struct error *err);

/* Record that `key` cannot be used, with the reason; returns -EINVAL. */
int fields_refuse(struct fields *fields, const char *key, const char *format,
	...) __attribute__((format(printf, 3, 4)));

/* Present and not null. */
bool fields_has(const struct fields *fields, const char *key);

/*
 * An integer in [min, max]. 2048.0, "2048", true and what exceeds 64 bits are
 * refused. The first must be there; the second may be absent or null.
 */
uint32_t fields_u32(
	struct fields *fields, const char *key, uint32_t min, uint32_t max);
uint32_t fields_u32_or(struct fields *fields, const char *key, uint32_t min,
	uint32_t max, uint32_t absent);

/* An integer or a real in [min, max]; may be absent or null. */
double fields_number_or(struct fields *fields, const char *key, double min,
	double max, double absent);

/* true or false; may be absent, but not null. */
bool fields_bool_or(struct fields *fields, const char *key, bool absent);

/* A string; may be absent or null. It lives as long as the object. */
const char *fields_text_or(
	struct fields *fields, const char *key, const char *absent);

/* A string that may be absent, which means the only supported value. */
void fields_expect(
	struct fields *fields, const char *key, const char *expected);

/* An object or array; NULL where absent or null. */
json_t *fields_object(struct fields *fields, const char *key);
json_t *fields_array(struct fields *fields, const char *key);

/* A u32 in [0, max] that is an element of an array. */
bool json_u32_ok(const json_t *value, uint32_t max, uint32_t *out);

#endif
