/* test_detokenizer.c - streamed text against all of it decoded at once */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model decodes the whole list of ids in the plainest way, cuts it at the
 * first stop string, and says after each token how much of it may be known:
 * everything but the longest end that begins a stop string.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/fake_os.h"
#include "tests/suite.h"
#include "tests/text_case.h"

#define IDS_MAX 64
#define TEXT_MAX 65536

struct buffer {
	char bytes[TEXT_MAX];
	size_t length;
};

static void put(struct buffer *b, const char *bytes, size_t length)
{
	if (length > sizeof(b->bytes) - b->length)
		CU_FAIL_FATAL("the buffer is too small");
	memcpy(b->bytes + b->length, bytes, length);
	b->length += length;
}

/* --- the model ------------------------------------------------------------------ */

/*
 * All bytes as text. `complete` is false while more may come: then a
 * sequence that is cut short at the end is left out.
 */
static void put_lossy(
	struct buffer *out, const char *bytes, size_t length, bool complete)
{
	for (size_t i = 0; i < length;) {
		struct utf8_item item = utf8_next(bytes + i, length - i);

		if (item.kind == UTF8_PARTIAL && !complete)
			return;
		if (item.kind == UTF8_CHAR)
			put(out, bytes + i, item.size_bytes);
		else
			put(out, UTF8_REPLACEMENT, UTF8_REPLACEMENT_BYTES);
		i += item.size_bytes;
	}
}

static void decode_bytes(const struct tokenizer *tok, const uint32_t *ids,
	size_t count, bool complete, struct buffer *out)
{
	static struct buffer bytes;

	bytes.length = 0;
	for (size_t i = 0; i < count; i++) {
		size_t length;
		const char *text = tokenizer_token_bytes(tok, ids[i], &length);

		if (text)
			put(&bytes, text, length);
	}
	put_lossy(out, bytes.bytes, bytes.length, complete);
}

/* Mixtral: byte tokens are the ids 3 to 258 of the golden file. */
static bool is_byte(uint32_t id)
{
	return id >= 3 && id < 259;
}

static void put_run(struct buffer *out, const struct buffer *run)
{
	if (utf8_valid_prefix(run->bytes, run->length) == run->length) {
		put(out, run->bytes, run->length);
		return;
	}
	for (size_t i = 0; i < run->length; i++)
		put(out, UTF8_REPLACEMENT, UTF8_REPLACEMENT_BYTES);
}

static void decode_pieces(const struct tokenizer *tok, const uint32_t *ids,
	size_t count, bool complete, struct buffer *out)
{
	static struct buffer all;
	static struct buffer run;
	size_t skip;

	all.length = 0;
	run.length = 0;
	for (size_t i = 0; i < count; i++) {
		size_t length;
		const char *text = tokenizer_token_bytes(tok, ids[i], &length);

		if (text && is_byte(ids[i])) {
			put(&run, text, length);
		} else if (text) {
			put_run(&all, &run);
			run.length = 0;
			put(&all, text, length);
		}
	}
	if (complete)
		put_run(&all, &run);
	skip = all.length && all.bytes[0] == ' ';
	put(out, all.bytes + skip, all.length - skip);
}

typedef void decode_fn(const struct tokenizer *tok, const uint32_t *ids,
	size_t count, bool complete, struct buffer *out);

struct stop_list {
	const char *text[STOP_COUNT_MAX];
	size_t length[STOP_COUNT_MAX];
	size_t count;
};

/* The stop string that ends first, at equal ends the longest. */
static int find_stop(
	const struct stop_list *stops, const struct buffer *text, size_t *begin)
{
	for (size_t end = 1; end <= text->length; end++) {
		int best = -1;

		for (size_t s = 0; s < stops->count; s++)
			if (stops->length[s] <= end &&
				memcmp(text->bytes + end - stops->length[s],
					stops->text[s],
					stops->length[s]) == 0 &&
				(best < 0 ||
					stops->length[s] > stops->length[best]))
				best = (int)s;
		if (best >= 0) {
			*begin = end - stops->length[best];
			return best;
		}
	}
	return -1;
}

/* Bytes at the end that begin a stop string. */
static size_t held_by(const struct stop_list *stops, const struct buffer *text)
{
	size_t held = 0;

	for (size_t s = 0; s < stops->count; s++)
		for (size_t n = 1; n < stops->length[s] && n <= text->length;
			n++)
			if (memcmp(text->bytes + text->length - n,
				    stops->text[s], n) == 0 &&
				n > held)
				held = n;
	return held;
}

/* --- one stream beside the model ------------------------------------------------ */

static bool follows_model(const struct tokenizer *tok, decode_fn *decode,
	const uint32_t *ids, size_t count, const struct stop_list *stops)
{
	static struct buffer wanted;
	static struct buffer got;
	static struct stop_set set;
	struct detokenizer d;
	bool stopped = false;

	CU_ASSERT_FATAL(stop_set_init(&set, stops->text, stops->length,
				stops->count) == 0);
	detokenizer_init(&d, tok, &set, false);
	got.length = 0;
	for (size_t i = 0; i <= count; i++) {
		struct detokenizer_text part =
			i < count ? detokenizer_push(&d, ids[i])
				  : detokenizer_finish(&d);
		size_t known;
		int stop;

		put(&got, part.text, part.length);
		if (stopped && part.length)
			return false;
		wanted.length = 0;
		decode(tok, ids, i < count ? i + 1 : count, i == count,
			&wanted);
		stop = find_stop(stops, &wanted, &known);
		if (stop < 0)
			known = wanted.length -
				(i < count ? held_by(stops, &wanted) : 0);
		if (part.stop != stop || got.length != known ||
			memcmp(got.bytes, wanted.bytes, known) != 0)
			return false;
		if (stop >= 0 && !stopped && part.stop_token != i)
			return false;
		if (stop >= 0 && part.stop_offset != known)
			return false;
		stopped = stop >= 0;
	}
	return true;
}

static void check_random(const char *family, decode_fn *decode, uint64_t seed)
{
	/* Bytes that the ids below decode to, so that stops are met. */
	static const char *const pieces[] = {" ", "a", "aa", "\n", "e", "th",
		"\xef\xbf\xbd", "\xc3\xa9", "in", "of ", "1", "aaa"};
	uint64_t state = suite_seed(seed);
	struct tokenizer *tok = text_tokenizer(family);
	uint32_t vocab = tokenizer_vocab_size(tok);

	for (int round = 0; round < 3000; round++) {
		char texts[STOP_COUNT_MAX][64];
		struct stop_list stops = {.count = suite_below(&state, 5)};
		size_t count = suite_below(&state, IDS_MAX);
		uint32_t pool = suite_below(&state, 2) ? vocab + 2 : 290;
		uint32_t ids[IDS_MAX];

		for (size_t s = 0; s < stops.count; s++) {
			int used = 0;

			for (uint32_t k = 1 + suite_below(&state, 4); k; k--)
				used += snprintf(texts[s] + used,
					sizeof(texts[s]) - (size_t)used, "%s",
					pieces[suite_below(&state, 12)]);
			stops.text[s] = texts[s];
			stops.length[s] = (size_t)used;
		}
		for (size_t i = 0; i < count; i++)
			ids[i] =
				suite_below(&state, 3) && i
					? ids[i - 1 -
						  suite_below(&state,
							  (uint32_t)(i < 3 ? i
									   : 3))]
					: suite_below(&state, pool);
		CU_ASSERT_FATAL(follows_model(tok, decode, ids, count, &stops));
	}
	tokenizer_destroy(tok);
}

static void test_push__bytes_as_all_at_once(void)
{
	check_random("deepseek_v3", decode_bytes, 1);
	check_random("qwen", decode_bytes, 2);
}

static void test_push__pieces_as_all_at_once(void)
{
	check_random("mixtral", decode_pieces, 3);
}

/* Ids of single bytes of a byte-level tokenizer. */
static void byte_ids(const struct tokenizer *tok, uint32_t of[256])
{
	for (uint32_t id = 0; id < tokenizer_vocab_size(tok); id++) {
		size_t length;
		const char *bytes = tokenizer_token_bytes(tok, id, &length);

		if (bytes && length == 1)
			of[(unsigned char)*bytes] = id;
	}
}

/* A stop string byte by byte, with every false start. */
static void test_push__holds_exactly_what_may_be_a_stop(void)
{
	static const char text[] = "aab aabaa aabaab \xe2\x82\xac\xe2\x82 "
				   "aabaabaac\xf0\x9f\x98\x80 aabaac tail";
	static const struct stop_list stops = {
		{"aabaac tail", "\xe2\x82\xac!", "\xf0\x9f\x98\x81"},
		{11, 4, 4}, 3};
	struct tokenizer *tok = text_tokenizer("qwen");
	uint32_t of[256] = {0};
	uint32_t ids[sizeof(text)];

	byte_ids(tok, of);
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		ids[i] = of[(unsigned char)text[i]];
	for (size_t count = 0; count < sizeof(text); count++)
		CU_ASSERT(follows_model(tok, decode_bytes, ids, count, &stops));
	tokenizer_destroy(tok);
}

static void test_push__whole_utf8_only(void)
{
	struct tokenizer *tok = text_tokenizer("qwen");
	uint32_t of[256] = {0};
	struct detokenizer_text part;
	struct detokenizer d;

	byte_ids(tok, of);
	detokenizer_init(&d, tok, NULL, false);
	CU_ASSERT(detokenizer_push(&d, of[0xe4]).length == 0);
	CU_ASSERT(detokenizer_push(&d, of[0xb8]).length == 0);
	part = detokenizer_push(&d, of[0xad]);
	CU_ASSERT(
		part.length == 3 && memcmp(part.text, "\xe4\xb8\xad", 3) == 0);
	CU_ASSERT(detokenizer_push(&d, of[0xf0]).length == 0);
	part = detokenizer_push(&d, of['x']);
	CU_ASSERT(part.length == 4 &&
		  memcmp(part.text, UTF8_REPLACEMENT "x", 4) == 0);
	CU_ASSERT(detokenizer_push(&d, of[0xe2]).length == 0);
	CU_ASSERT(detokenizer_held(&d) == 0);
	part = detokenizer_finish(&d);
	CU_ASSERT(part.length == 3 &&
		  memcmp(part.text, UTF8_REPLACEMENT, 3) == 0);
	tokenizer_destroy(tok);
}

static void test_push__special_tokens_may_be_left_out(void)
{
	struct tokenizer *tok = text_tokenizer("mixtral");
	uint32_t of = tokenizer_id_of(tok, "\xe2\x96\x81of", 5);
	struct detokenizer_text part;
	struct detokenizer d;

	CU_ASSERT_FATAL(of != TOKENIZER_NONE);
	detokenizer_init(&d, tok, NULL, true);
	CU_ASSERT(detokenizer_push(&d, 1).length == 0);
	part = detokenizer_push(&d, of);
	CU_ASSERT(part.length == 2 && memcmp(part.text, "of", 2) == 0);
	detokenizer_init(&d, tok, NULL, false);
	CU_ASSERT(detokenizer_push(&d, 1).length == 3);
	part = detokenizer_push(&d, of);
	CU_ASSERT(part.length == 3 && memcmp(part.text, " of", 3) == 0);
	CU_ASSERT(detokenizer_push(&d, 1u << 30).length == 0);
	tokenizer_destroy(tok);
}

/* A run of byte tokens longer than is held: parts, and nothing is lost. */
static void test_push__a_long_run_of_byte_tokens(void)
{
	static const unsigned char letter[] = {0xe1, 0x88, 0xa0};
	struct tokenizer *tok = text_tokenizer("mixtral");
	static struct buffer got;
	struct detokenizer_text part;
	struct detokenizer d;

	got.length = 0;
	detokenizer_init(&d, tok, NULL, false);
	for (size_t i = 0; i < (size_t)3 * DETOKENIZER_RUN_BYTES; i++) {
		part = detokenizer_push(&d, 3u + letter[i % 3]);
		put(&got, part.text, part.length);
	}
	part = detokenizer_finish(&d);
	put(&got, part.text, part.length);
	CU_ASSERT(got.length == (size_t)3 * DETOKENIZER_RUN_BYTES);
	for (size_t i = 0; i < got.length; i++)
		CU_ASSERT_FATAL((unsigned char)got.bytes[i] == letter[i % 3]);
	/* Bytes that are no text at all. */
	got.length = 0;
	detokenizer_init(&d, tok, NULL, false);
	for (size_t i = 0; i < (size_t)DETOKENIZER_RUN_BYTES + 1; i++) {
		part = detokenizer_push(&d, 3 + 0xff);
		put(&got, part.text, part.length);
	}
	part = detokenizer_finish(&d);
	put(&got, part.text, part.length);
	CU_ASSERT(got.length == (size_t)3 * (DETOKENIZER_RUN_BYTES + 1));
	tokenizer_destroy(tok);
}

static void test_push__allocates_nothing(void)
{
	static const char *const families[] = {
		"qwen", "mixtral", "metaspace_words"};

	for (size_t f = 0; f < 3; f++) {
		struct tokenizer *tok = text_tokenizer(families[f]);
		uint64_t state = suite_seed(5);
		struct stop_set stops;
		struct detokenizer d;
		const char *const text = "the end";
		const size_t length = 7;

		CU_ASSERT_FATAL(stop_set_init(&stops, &text, &length, 1) == 0);
		fake_os_reset();
		detokenizer_init(&d, tok, &stops, true);
		for (int i = 0; i < 10000; i++)
			(void)detokenizer_push(&d,
				suite_below(&state, tokenizer_vocab_size(tok)));
		(void)detokenizer_finish(&d);
		CU_ASSERT(fake_os_calls(FAKE_OS_ALLOCATE) == 0);
		tokenizer_destroy(tok);
	}
}

static void test_stop_set_init__refuses(void)
{
	static char long_text[STOP_BYTES_MAX + 1];
	const char *texts[STOP_COUNT_MAX + 1];
	size_t lengths[STOP_COUNT_MAX + 1];
	struct stop_set set;

	memset(long_text, 'a', sizeof(long_text));
	for (size_t i = 0; i <= STOP_COUNT_MAX; i++) {
		texts[i] = long_text;
		lengths[i] = STOP_BYTES_MAX;
	}
	CU_ASSERT(stop_set_init(&set, texts, lengths, STOP_COUNT_MAX) == 0);
	CU_ASSERT(stop_set_init(&set, texts, lengths, STOP_COUNT_MAX + 1) ==
		  -E2BIG);
	lengths[1] = STOP_BYTES_MAX + 1;
	CU_ASSERT(stop_set_init(&set, texts, lengths, 2) == -E2BIG);
	lengths[1] = 0;
	CU_ASSERT(stop_set_init(&set, texts, lengths, 2) == -EINVAL);
	long_text[0] = '\xff';
	CU_ASSERT(stop_set_init(&set, texts, lengths, 1) == -EINVAL);
	CU_ASSERT(stop_set_init(&set, texts, lengths, 0) == 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(push__bytes_as_all_at_once),
		SUITE_CASE(push__pieces_as_all_at_once),
		SUITE_CASE(push__holds_exactly_what_may_be_a_stop),
		SUITE_CASE(push__whole_utf8_only),
		SUITE_CASE(push__special_tokens_may_be_left_out),
		SUITE_CASE(push__a_long_run_of_byte_tokens),
		SUITE_CASE(push__allocates_nothing),
		SUITE_CASE(stop_set_init__refuses),
	};

	return SUITE_MAIN("detokenizer", cases);
}
