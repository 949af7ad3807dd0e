/* detokenizer.h - token ids to text as they come (ids -> UTF-8, stop strings) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a stream of tokens becomes a stream of text that can be sent at
 *        once and never has to be taken back: whole UTF-8 only, nothing that
 *        may still become a stop string, and nothing decoded twice.
 * Invariants: what all calls returned, one behind the other, is what the
 *        `tokenizers` library's decode() gives for all tokens at once
 *        (without clean_up_tokenization_spaces), cut off where the first stop
 *        string begins. So:
 *        - bytes that are no UTF-8 become U+FFFD as utf8.h says; for byte
 *          tokens (<0x0A>) a run of them that is not UTF-8 as a whole becomes
 *          one U+FFFD per byte, which is known when the run ends. A run is
 *          therefore held back; one that is longer than DETOKENIZER_RUN_BYTES
 *          goes out in parts, each judged for itself.
 *        - the leading space that a SentencePiece model starts with goes.
 *        - ids that stand for nothing give nothing.
 * Bounds: all storage is in the struct; a push allocates nothing and takes
 *        time proportional to the token's bytes x the stop strings.
 * Ownership: the caller's storage. Tokenizer and stop set are borrowed until
 *        the last call. Returned text is valid until the next call.
 * Threads: one at a time.
 */
#ifndef HEDDLE_DATAPLANE_DETOKENIZER_H
#define HEDDLE_DATAPLANE_DETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/stop_set.h"
#include "dataplane/tokenizer.h"
#include "dataplane/utf8.h"

#define DETOKENIZER_RUN_BYTES 512 /* byte tokens that are held back */

/* What one call can add: a run that goes bad, or a token of stray bytes, at 3
   bytes each, with what was held back for its sake. */
#define DETOKENIZER_NEW_BYTES                                                  \
	(3 * (TOKENIZER_TOKEN_BYTES_MAX + DETOKENIZER_RUN_BYTES +              \
		     UTF8_BYTES_MAX))

struct detokenizer {
	/* set by init */
	const struct tokenizer *tok; /* borrowed */
	const struct stop_set *stops; /* borrowed; NULL: none */
	bool skip_special;

	/* from token to bytes */
	bool is_first; /* no token with a text yet */
	uint32_t strip_left; /* characters that Strip may still take */
	uint32_t run_bytes;
	char run[DETOKENIZER_RUN_BYTES];

	/* from bytes to UTF-8 */
	uint32_t partial_bytes; /* of a character that is not complete */
	char partial[UTF8_BYTES_MAX];

	/* from UTF-8 to what may be sent */
	struct stop_states states;
	uint32_t text_bytes; /* in text[] */
	uint32_t taken_bytes; /* at the front: returned by the last call */
	uint64_t token_count; /* pushed */
	uint64_t sent_bytes; /* returned */
	uint64_t stop_token; /* in which the stop string ended */
	int stop; /* index of the stop string that was hit, or -1 */
	char text[STOP_BYTES_MAX + DETOKENIZER_NEW_BYTES];
};

struct detokenizer_text {
	const char *text; /* new, to be sent; valid until the next call */
	size_t length; /* may be 0 */
	int stop; /* -1, or the stop string that ends the text here */
	uint64_t stop_token; /* it ended in the token of this number, from 0;
				after finish(): the number of tokens */
	uint64_t stop_offset; /* and began at this byte of the whole text */
};

/*
 * Begin a stream. `stops` may be NULL. skip_special leaves special tokens
 * out of the text.
 */
void detokenizer_init(struct detokenizer *d, const struct tokenizer *tok,
	const struct stop_set *stops, bool skip_special);

/*
 * The next token. Where it completes a stop string, the text before that is
 * returned with `stop` set; afterwards every call returns no text and the
 * same stop.
 */
struct detokenizer_text detokenizer_push(struct detokenizer *d, uint32_t id);

/* The end: everything that was held back. Call it once, last. */
struct detokenizer_text detokenizer_finish(struct detokenizer *d);

/* Bytes of text that are known but not returned, for tests and counters. */
size_t detokenizer_held(const struct detokenizer *d);

#endif
