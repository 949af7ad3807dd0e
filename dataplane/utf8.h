/* utf8.h - UTF-8 read from anywhere, and what becomes of bytes that are none */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   text comes from clients and from the model, so every byte sequence
 *        must have one meaning. The rule is that of Unicode 3.9 (table 3-7)
 *        and "substitution of maximal subparts": the longest beginning of a
 *        well-formed sequence that is cut short becomes one U+FFFD, every
 *        other stray byte becomes one U+FFFD. Python's errors="replace" and
 *        Rust's from_utf8_lossy do the same.
 * Threads: pure functions.
 */
#ifndef HEDDLE_DATAPLANE_UTF8_H
#define HEDDLE_DATAPLANE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BYTES_MAX 4 /* of one code point */
#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define UTF8_REPLACEMENT_BYTES 3

/* What utf8_next() found at the start of the bytes. */
enum utf8_kind {
	UTF8_CHAR, /* a well-formed code point */
	UTF8_BROKEN, /* a maximal subpart that can never become one */
	UTF8_PARTIAL, /* the bytes end inside a sequence that is good so far */
};

struct utf8_item {
	enum utf8_kind kind;
	uint32_t size_bytes; /* 1 to 4: how far to go on */
	uint32_t code_point; /* of a UTF8_CHAR */
};

/* The first item of `length` > 0 bytes. */
struct utf8_item utf8_next(const char *bytes, size_t length);

/*
 * The code point at `text`, which is known to be well formed; stores its size
 * in *size_bytes.
 */
static inline uint32_t utf8_get(const char *text, uint32_t *size_bytes)
{
	const unsigned char *p = (const unsigned char *)text;

	if (p[0] < 0x80) {
		*size_bytes = 1;
		return p[0];
	}
	if (p[0] < 0xe0) {
		*size_bytes = 2;
		return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
	}
	if (p[0] < 0xf0) {
		*size_bytes = 3;
		return (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 |
		       (p[2] & 0x3fu);
	}
	*size_bytes = 4;
	return (p[0] & 7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 |
	       (p[3] & 0x3fu);
}

/* Write a code point below 0x110000, no surrogate; returns its size. */
uint32_t utf8_put(char out[UTF8_BYTES_MAX], uint32_t code_point);

/* How many bytes from the start are well formed: `length` where all are. */
size_t utf8_valid_prefix(const char *bytes, size_t length);

/* Unicode White_Space, as \s in Rust and in Oniguruma. */
bool utf8_is_space(uint32_t code_point);

/* \w as Rust's regex means it: letters, marks, digits, connectors, joiners. */
bool utf8_is_word(uint32_t code_point);

#endif
