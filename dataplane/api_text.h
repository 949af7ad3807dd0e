/* api_text.h - a growing text, and JSON written into it (values -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   every answer is written once, front to back. A buffer that keeps its
 *        memory between uses allocates nothing once it has grown.
 * Invariants: length <= capacity. After a failed allocation `failed` stays
 *        set until api_text_clear() and every write does nothing, so callers
 *        look once, at the end.
 * Ownership: the struct owns `data`; { 0 } is the empty text.
 * Threads: one at a time.
 */
#ifndef HEDDLE_DATAPLANE_API_TEXT_H
#define HEDDLE_DATAPLANE_API_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct api_text {
	char *data;
	size_t length;
	size_t capacity;
	bool failed;
};

void api_text_release(struct api_text *text);

/* Empty, its memory kept. */
void api_text_clear(struct api_text *text);

/* Room for `length` more bytes; false when there is no memory. */
bool api_text_reserve(struct api_text *text, size_t length);

void api_text_put(struct api_text *text, const char *bytes, size_t length);
void api_text_puts(struct api_text *text, const char *string);
void api_text_u64(struct api_text *text, uint64_t value);

/*
 * A number with nine digits, which give back every float. Infinities and NaN
 * have no JSON: they become -9999, as a log probability of nothing.
 */
void api_text_float(struct api_text *text, float value);

/*
 * The inside of a JSON string, without its quotes: escapes what must be and
 * puts U+FFFD where bytes are no UTF-8.
 */
void api_text_escape(struct api_text *text, const char *bytes, size_t length);

/* The same with its quotes. */
void api_text_string(struct api_text *text, const char *bytes, size_t length);

void api_text_printf(struct api_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
