/* fuzz_encode.c - any bytes as text, with any trust, by several tokenizers */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte 0 chooses the tokenizer, byte 1 where trust begins and ends; the rest
 * is the text. What has to hold: ids are in range, nothing that is not
 * trusted becomes special, a byte-level tokenizer without a normal form gives
 * back the text, and the same call gives the same ids.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/text_case.h"

#define TEXT_MAX 16384
#define IDS_MAX ((size_t)4 * TEXT_MAX)
#define FAMILY_COUNT 8

static const char *const families[FAMILY_COUNT] = {"deepseek_v2", "deepseek_v3",
	"llama3", "qwen", "mixtral", "metaspace_words", "odd_words",
	"odd_splits"};
static struct tokenizer *toks[FAMILY_COUNT];
static struct tokenizer_scratch *scratches[FAMILY_COUNT];

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_text(const struct tokenizer *tok, const char *text,
	size_t length, const uint32_t *ids, size_t count)
{
	static char decoded[8 * TEXT_MAX];
	size_t used = text_decode(tok, ids, count, false, decoded);
	size_t at = 0;

	for (size_t i = 0; i < length;) {
		struct utf8_item item = utf8_next(text + i, length - i);
		bool good = item.kind == UTF8_CHAR;
		size_t size = good ? item.size_bytes : UTF8_REPLACEMENT_BYTES;

		require(at + size <= used);
		require(memcmp(decoded + at, good ? text + i : UTF8_REPLACEMENT,
				size) == 0);
		at += size;
		i += item.size_bytes;
	}
	require(at == used);
}

static void run(size_t which, uint8_t border, const char *text, size_t length)
{
	static uint32_t ids[IDS_MAX];
	static uint32_t again[IDS_MAX];
	const size_t trusted = length * border / 255;
	const struct text_span spans[2] = {
		{trusted, true}, {length - trusted, false}};
	const struct tokenizer_input input = {.text = text,
		.length = length,
		.spans = trusted ? spans : NULL,
		.span_count = 2};
	const struct tokenizer *tok = toks[which];
	size_t count;
	size_t count_again;
	int rc = tokenizer_encode(
		scratches[which], &input, ids, IDS_MAX, &count);

	require(rc == tokenizer_encode(scratches[which], &input, again, IDS_MAX,
			      &count_again));
	require(count == count_again);
	require(memcmp(ids, again, count * sizeof(*ids)) == 0);
	for (size_t i = 0; i < count; i++) {
		require(ids[i] < tokenizer_vocab_size(tok));
		/* <unk> is special, and means that a text has no token. */
		if (!trusted && which != 5)
			require(!tokenizer_is_control(tok, ids[i]));
	}
	if (rc == 0 && which < 3)
		check_text(tok, text, length, ids, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t which;

	if (size < 2 || size - 2 > TEXT_MAX / 3)
		return 0;
	which = data[0] % FAMILY_COUNT;
	if (!toks[which]) {
		toks[which] = text_tokenizer(families[which]);
		require(tokenizer_scratch_create(
				toks[which], TEXT_MAX, &scratches[which]) == 0);
	}
	run(which, data[1], (const char *)data + 2, size - 2);
	return 0;
}
