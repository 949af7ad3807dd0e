/* tokenizer_pattern.h - a model's regex, run by PCRE2 (Oniguruma -> PCRE2) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the patterns in tokenizer.json are written for Oniguruma. PCRE2
 *        reads most of them the same way, and some of them differently
 *        without a word: \s, \h, $, scripts, nested classes. So a pattern is
 *        translated piece by piece, and what is not known to mean the same
 *        is refused by name.
 * Known: literals; ( ) (?: ) (?> ) (?= ) (?! ) (?<= ) (?<! ) (?i: ) of plain
 *        letters; | . $ ; classes without nesting and &&; \s \S \p{..} \P{..}
 *        (general categories and scripts) \n \r \t \f \uHHHH \x{..} and
 *        escaped punctuation; ? * + {n} {n,} {n,m}, lazy and possessive
 *        as far as both agree.
 * Meaning: \s is Unicode White_Space (PCRE2 alone would add U+180E); $ is
 *        before a newline or at the end; \p{Han} is the script of a character
 *        and not its extensions; what tokenizer_unicode.h lists belongs to its
 *        category (but \p{Cn} and \p{C} are PCRE2's).
 * Speed: a pattern is compiled twice: as it is, and for ASCII, where a class is
 *        a plain set of bytes. The second one runs over stretches of ASCII in
 *        PCRE2's partial mode, which says if a match depended on what follows
 *        the stretch; then the first one decides. Where two bytes alone settle
 *        that the match is the first of them, a table says so.
 * Linear: `\s+$` alone, which is quadratic in a run of spaces that does not
 *        end a line, gets a guard that changes no match.
 * Bounds: PATTERN_ constants; a match over the limit is an error.
 * Threads: a pattern never changes; a pattern_state is for one thread.
 */
#ifndef HEDDLE_DATAPLANE_TOKENIZER_PATTERN_H
#define HEDDLE_DATAPLANE_TOKENIZER_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define PATTERN_BYTES_MAX 4096 /* as written */
#define PATTERN_TRANSLATED_BYTES_MAX ((size_t)16 * PATTERN_BYTES_MAX)
#define PATTERN_MATCH_LIMIT 20000000u /* PCRE2's count, for one match */
#define PATTERN_DEPTH_LIMIT 1000000u
#define PATTERN_HEAP_KIB_MAX 65536u
#define PATTERN_JIT_STACK_BYTES ((size_t)1 << 20)

struct pattern; /* compiled */
struct pattern_state; /* match data and stacks of one thread */

/*
 * Translate `source` to PCRE2's syntax into `out` of PATTERN_TRANSLATED_BYTES_
 * MAX + 1 bytes. -ENOTSUP: a construct that is not known, with its place;
 * -E2BIG: too long.
 */
int pattern_translate(
	const char *source, size_t length, char *out, struct error *err);

/*
 * The same regex for ASCII text: what pattern_translate() wrote, with every
 * class replaced by its ASCII members, for which `members` is asked (0 or
 * -errno); bit c of the set is code point c. `out` as above.
 */
int pattern_translate_ascii(const char *translated, char *out,
	int (*members)(const char *text, size_t length, uint8_t set[16]));

/*
 * Compile a regex, or a literal string where `literal`. -EINVAL where PCRE2
 * refuses it, -ENOTSUP where it may match nothing (the splits would be
 * empty), -ENOMEM, and those of pattern_translate().
 */
int pattern_create(const char *source, size_t length, bool literal,
	struct pattern **out, struct error *err);
void pattern_destroy(struct pattern *pattern);

int pattern_state_create(struct pattern_state **out); /* -ENOMEM */
void pattern_state_destroy(struct pattern_state *state);

/* A well-formed text, and the stretch of ASCII that was found in it last. */
struct pattern_text {
	const char *text;
	size_t length;
	size_t ascii_start; /* set both to 0 at first; pattern_find() moves them */
	size_t ascii_end;
};

/*
 * The first match at or behind `from`, which must not go back from one call to
 * the next. Returns 1 and the bytes [match[0], match[1]), 0 for no match,
 * -E2BIG over a limit.
 */
int pattern_find(const struct pattern *pattern, struct pattern_state *state,
	struct pattern_text *text, size_t from, size_t match[2]);

#endif
