/* tokenizer.h - text to token ids as the model's own file says (text -> ids) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  reads a Hugging Face tokenizer.json (byte-level BPE and
 *        SentencePiece-style BPE with byte fallback) and encodes text to the
 *        ids that the `tokenizers` library gives.
 * Why:   one wrong id makes a model worse and nothing complains, so whatever
 *        is not implemented is refused by name when the file is loaded.
 *
 * Understood: model BPE (unk_token, fuse_unk, byte_fallback, ignore_merges;
 *        merges in both spellings). Normalizers Sequence, NFC, NFD, NFKC,
 *        NFKD, Prepend, Replace of a String. Pre-tokenizers Sequence, Split
 *        (String or Regex, every behavior), Digits, ByteLevel (last),
 *        Metaspace (first). Post-processors ByteLevel, TemplateProcessing,
 *        Sequence. Decoders ByteLevel; Metaspace; Replace of a String,
 *        ByteFallback, Fuse, Strip from the start, in that order. Of a
 *        regex: what tokenizer_pattern.h lists. `truncation` and `padding`
 *        are ignored, as transformers ignores them in a plain call.
 *
 * Trust: a CONTROL token is one that tells the model who speaks: every
 *        added token marked special, and every other added token that is
 *        written as markup: the first byte one of < [ { | and the last one of
 *        > ] } | (DeepSeek lists its role marks without marking them special).
 *        A control token is recognised only where all its bytes are trusted
 *        (text_span.h); elsewhere its text is ordinary text. Other added
 *        tokens (runs of spaces, words of a tuned model) are recognised
 *        everywhere. No merge and no ignore_merges hit yields a special
 *        token either, which the library does not prevent. Normalisation and
 *        pre-tokenisation run over the whole text: the border of a span does
 *        not split words. Where normalisation replaces bytes, a result is
 *        trusted if all bytes that it came from are.
 *
 * Invalid UTF-8: replaced as utf8.h says, before anything else.
 *
 * Unicode: classes of regexes are those of PCRE2, normal forms those of
 *        utf8proc; a code point assigned later than their Unicode is "not
 *        assigned" here and may be a letter for a newer `tokenizers`.
 *
 * Bounds: the constants below; text and everything derived from it by the
 *        scratch; each regex match by PCRE2's match limit. Merging takes
 *        O(n log n) of a piece, whatever it holds. Finding added tokens takes
 *        O(n x longest added token).
 * Ownership: a tokenizer owns all that it needs; a scratch borrows its
 *        tokenizer until it is destroyed.
 * Threads: a tokenizer never changes: any number of threads share it. A
 *        scratch is for one thread at a time.
 */
#ifndef HEDDLE_DATAPLANE_TOKENIZER_H
#define HEDDLE_DATAPLANE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "dataplane/text_span.h"

#define TOKENIZER_NONE UINT32_MAX /* no token */
#define TOKENIZER_TOKEN_BYTES_MAX 1024 /* of one token's text */
#define TOKENIZER_MERGE_COUNT_MAX (1u << 22)
#define TOKENIZER_ADDED_COUNT_MAX 65536
#define TOKENIZER_STEP_COUNT_MAX 16 /* normalizers; splits; decoders */
#define TOKENIZER_NESTING_MAX 4 /* Sequence in Sequence */
#define TOKENIZER_TEMPLATE_IDS_MAX 64 /* before the text, and after it */
#define TOKENIZER_TEXT_BYTES_MAX (64u << 20) /* most that a scratch takes */

struct tokenizer; /* private to tokenizer_*.c and detokenizer.c */
struct tokenizer_scratch;

/*
 * Load `json` of `length` bytes; `name` stands in front of messages. Errors:
 * -EINVAL (malformed, contradictory), -ENOTSUP (a construct that is not
 * implemented, named), -E2BIG (over a limit), -ENOMEM.
 */
int tokenizer_create(const char *json, size_t length, const char *name,
	struct tokenizer **out, struct error *err);
void tokenizer_destroy(struct tokenizer *tok);

/*
 * Working memory for encoding texts of up to text_bytes_max bytes: about 64
 * bytes of address space per byte of text, touched only as texts need it.
 * -EINVAL: 0 or above TOKENIZER_TEXT_BYTES_MAX; -ENOMEM.
 */
int tokenizer_scratch_create(const struct tokenizer *tok, size_t text_bytes_max,
	struct tokenizer_scratch **out);
void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch);

struct tokenizer_input {
	const char *text; /* borrowed for the call */
	size_t length; /* bytes */
	const struct text_span *spans; /* cover the text; NULL: no trust */
	size_t span_count;
	bool add_special; /* what the post_processor adds, such as BOS */
	bool markup_everywhere; /* take control tokens that are not marked
				   special from untrusted bytes too */
};

/*
 * Encode. Stores up to `capacity` ids and their count. Allocates nothing.
 * Errors: -E2BIG: the text, or what it becomes, is over the scratch's caps,
 * or a regex over its limits; -ENOSPC: the ids do not fit; -EINVAL: the spans
 * do not cover the text. After an error *count is 0 and ids are undefined.
 */
int tokenizer_encode(struct tokenizer_scratch *scratch,
	const struct tokenizer_input *input, uint32_t *ids, size_t capacity,
	size_t *count);

/* One above the highest id; ids between may stand for nothing. */
uint32_t tokenizer_vocab_size(const struct tokenizer *tok);

/*
 * The bytes that a token adds to decoded text, before bytes are joined to
 * UTF-8: one raw byte for <0x0A>, " the" for the token of "the" behind a
 * space. NULL where the id stands for nothing. The first token of a text may
 * lose a leading space: see detokenizer.h.
 */
const char *tokenizer_token_bytes(
	const struct tokenizer *tok, uint32_t id, size_t *length);

/* Marked special in the file: what skip_special_tokens leaves out. */
bool tokenizer_is_special(const struct tokenizer *tok, uint32_t id);

/* A control token: see Trust. */
bool tokenizer_is_control(const struct tokenizer *tok, uint32_t id);

/* The id of a token by its spelling in the file, or TOKENIZER_NONE. */
uint32_t tokenizer_id_of(
	const struct tokenizer *tok, const char *text, size_t length);

#endif
