/* tokenizer_unicode.h - where the original's Unicode differs from ours (tables) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the `tokenizers` library has one Unicode version in its regexes
 *          (newer than PCRE2 10.42's) and another in its normal forms (as old
 *          as Unicode 9). A model was trained with what the library does, so
 *          that is what counts.
 * Content: tokenizer_unicode.c is made by tools/text/make_unicode_tables.py,
 *          which asks the library.
 * Threads: constants.
 */
#ifndef HEDDLE_DATAPLANE_TOKENIZER_UNICODE_H
#define HEDDLE_DATAPLANE_TOKENIZER_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* Code points that PCRE2 10.42 calls not assigned, with what they are. */
struct unicode_later {
	uint32_t first;
	uint32_t last;
	char name[4]; /* a general category of two letters, or a script */
};

extern const struct unicode_later unicode_later[];
extern const size_t unicode_later_count;

/*
 * Code points that the library's normal forms leave as they are, with class
 * 0, and that utf8proc orders, decomposes or composes: first and last,
 * ascending.
 */
extern const uint32_t unicode_inert[][2];
extern const size_t unicode_inert_count;

#endif
