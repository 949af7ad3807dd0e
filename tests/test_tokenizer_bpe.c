/* test_tokenizer_bpe.c - merging against the plainest way to do it */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random vocabularies over few letters, with merges in random order, so that
 * ranks go up and down as tokens grow; random texts, among them long runs.
 * The model looks for the lowest rank, of equal ranks the leftmost, merges,
 * and starts again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"
#include "tests/text_case.h"

#define TOKEN_COUNT_MAX 200
#define LETTER_COUNT_MAX 16
#define TEXT_BYTES 3000

struct pair {
	uint32_t left, right, merged;
};

/* A BPE whose merges are in order of rank. */
struct model {
	char token[TOKEN_COUNT_MAX][64];
	uint32_t token_count;
	struct pair merges[2 * TOKEN_COUNT_MAX];
	uint32_t merge_count;
};

static uint32_t find_token(const struct model *model, const char *text)
{
	uint32_t id = 0;

	while (id < model->token_count && strcmp(model->token[id], text) != 0)
		id++;
	return id;
}

/* Letters, then tokens that join two others; every way to make one of them. */
static void make_model(struct model *model, uint32_t letters, uint64_t *state)
{
	uint32_t wanted = letters + 4 + suite_below(state, 10 * letters);

	memset(model, 0, sizeof(*model));
	for (uint32_t i = 0; i < letters; i++)
		model->token[model->token_count++][0] = (char)('a' + i);
	for (int tries = 0; tries < 2000 && model->token_count < wanted &&
			    model->merge_count < 2 * TOKEN_COUNT_MAX;
		tries++) {
		struct pair pair = {suite_below(state, model->token_count),
			suite_below(state, model->token_count), 0};
		char joined[128];
		bool known = false;

		snprintf(joined, sizeof(joined), "%s%s",
			model->token[pair.left], model->token[pair.right]);
		if (strlen(joined) > 40)
			continue;
		for (uint32_t i = 0; i < model->merge_count; i++)
			known |= model->merges[i].left == pair.left &&
				 model->merges[i].right == pair.right;
		if (known)
			continue;
		pair.merged = find_token(model, joined);
		if (pair.merged == model->token_count)
			memcpy(model->token[model->token_count++], joined, 64);
		model->merges[model->merge_count++] = pair;
	}
	/* Shuffle: the rank is the place. */
	for (uint32_t i = model->merge_count; i > 1; i--) {
		uint32_t other = suite_below(state, i);
		struct pair swapped = model->merges[i - 1];

		model->merges[i - 1] = model->merges[other];
		model->merges[other] = swapped;
	}
}

/* As a byte-level file, or as one of characters. */
static struct tokenizer *build(const struct model *model, bool byte_level)
{
	static const char steps[] =
		"\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false,"
		"\"add_prefix_space\":false},";
	struct tokenizer *tok;
	char json[65536];
	int used = snprintf(json, sizeof(json),
		"{%s\"decoder\":{\"type\":\"%s\"},\"model\":{\"type\":\"BPE\","
		"\"vocab\":{",
		byte_level ? steps : "", byte_level ? "ByteLevel" : "Fuse");

	for (uint32_t i = 0; i < model->token_count; i++)
		used += snprintf(json + used, sizeof(json) - (size_t)used,
			"%s\"%s\":%u", i ? "," : "", model->token[i], i);
	used += snprintf(
		json + used, sizeof(json) - (size_t)used, "},\"merges\":[");
	for (uint32_t i = 0; i < model->merge_count; i++)
		used += snprintf(json + used, sizeof(json) - (size_t)used,
			"%s[\"%s\",\"%s\"]", i ? "," : "",
			model->token[model->merges[i].left],
			model->token[model->merges[i].right]);
	used += snprintf(json + used, sizeof(json) - (size_t)used, "]}}");
	CU_ASSERT_FATAL((size_t)used < sizeof(json));
	tok = text_tokenizer_of(json);
	return tok;
}

static uint32_t rank_of(
	const struct model *model, uint32_t left, uint32_t right)
{
	uint32_t rank = 0;

	while (rank < model->merge_count &&
		(model->merges[rank].left != left ||
			model->merges[rank].right != right))
		rank++;
	return rank;
}

static size_t merge_plainly(const struct model *model, const char *text,
	size_t length, uint32_t *ids)
{
	size_t count = length;

	for (size_t i = 0; i < length; i++)
		ids[i] = (uint32_t)(text[i] - 'a');
	for (;;) {
		uint32_t lowest = model->merge_count;
		size_t at = 0;

		for (size_t i = 0; i + 1 < count; i++) {
			uint32_t rank = rank_of(model, ids[i], ids[i + 1]);

			if (rank < lowest) {
				lowest = rank;
				at = i;
			}
		}
		if (lowest == model->merge_count)
			return count;
		ids[at] = model->merges[lowest].merged;
		count--;
		memmove(&ids[at + 1], &ids[at + 2],
			(count - at - 1) * sizeof(*ids));
	}
}

static size_t make_text(char *text, uint32_t letters, uint64_t *state)
{
	static const size_t sizes[] = {5, 39, 40, 41, 42, 100, 300, 700};
	size_t length = sizes[suite_below(state, 8)];
	uint32_t run = suite_below(state, 4) ? 1 : 1 + suite_below(state, 200);

	/* One in three repeats up to five letters, mostly whole. */
	if (suite_below(state, 3) == 0) {
		size_t period = 1 + suite_below(state, 5) % 5;

		for (size_t i = 0; i < period; i++)
			text[i] = (char)('a' + suite_below(state, letters));
		for (size_t i = period; i < length + period; i++)
			text[i] = text[i - period];
		return suite_below(state, 4) ? length - length % period
					     : length;
	}
	for (size_t i = 0; i < length;) {
		char letter = (char)('a' + suite_below(state, letters));

		for (uint32_t k = 0; k < run && i < length; k++)
			text[i++] = letter;
	}
	return length;
}

static void check_models(bool byte_level, uint64_t seed)
{
	static uint32_t wanted[TEXT_BYTES];
	static uint32_t ids[TEXT_BYTES];
	uint64_t state = suite_seed(seed);
	char text[TEXT_BYTES] = {0};

	for (int round = 0; round < 300; round++) {
		uint32_t letters =
			1 +
			suite_below(&state, round % 2 ? 3 : LETTER_COUNT_MAX);
		struct tokenizer *tok;
		struct model model;

		make_model(&model, letters, &state);
		tok = build(&model, byte_level);
		for (int i = 0; i < 8; i++) {
			size_t length = make_text(text, letters, &state);
			size_t count =
				merge_plainly(&model, text, length, wanted);

			CU_ASSERT_FATAL(text_encode(tok, text, length, ids,
						TEXT_BYTES) == count);
			CU_ASSERT_FATAL(
				memcmp(ids, wanted, count * sizeof(*ids)) == 0);
		}
		tokenizer_destroy(tok);
	}
}

static void test_encode__bytes_as_the_plain_way(void)
{
	check_models(true, 1);
}

static void test_encode__characters_as_the_plain_way(void)
{
	check_models(false, 2);
}

/* Many merges of many ranks in one piece, of which few ranks repeat. */
static void test_encode__a_long_piece_with_a_trained_vocabulary(void)
{
	static char text[20000];
	static char decoded[3 * sizeof(text)];
	static uint32_t ids[sizeof(text)];
	uint64_t state = suite_seed(3);
	struct tokenizer *tok = text_tokenizer("qwen");
	size_t count;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + suite_below(&state, 26));
	count = text_encode(tok, text, sizeof(text), ids, sizeof(text));
	CU_ASSERT(count < sizeof(text));
	CU_ASSERT(text_decode(tok, ids, count, false, decoded) == sizeof(text));
	CU_ASSERT(memcmp(decoded, text, sizeof(text)) == 0);
	tokenizer_destroy(tok);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(encode__bytes_as_the_plain_way),
		SUITE_CASE(encode__characters_as_the_plain_way),
		SUITE_CASE(encode__a_long_piece_with_a_trained_vocabulary),
	};

	return SUITE_MAIN("tokenizer_bpe", cases);
}
