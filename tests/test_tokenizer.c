/* test_tokenizer.c - loading, refusals, trust, limits, vocabulary */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/fake_os.h"
#include "tests/suite.h"
#include "tests/text_case.h"

#define IDS 4096

/* Small, with a merge, a special token, a word and a run of spaces. */
static const char small[] =
	"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
	"\"added_tokens\":["
	"{\"id\":5,\"content\":\"<s>\",\"special\":true},"
	"{\"id\":6,\"content\":\"<think>\",\"special\":false},"
	"{\"id\":7,\"content\":\"heddle\",\"special\":false}],"
	"\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\","
	"\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
	"\"[a-c]+|\\\\s+$\"},\"behavior\":\"Isolated\",\"invert\":false},"
	"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
	"\"use_regex\":false}]},\"post_processor\":null,"
	"\"decoder\":{\"type\":\"ByteLevel\"},"
	"\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\","
	"\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"?\":3,\"\\u0120\":4},"
	"\"merges\":[\"a b\"]}}";

static const char composed[] =
	"{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":null,"
	"\"added_tokens\":[{\"id\":1,\"content\":\"\\u00c5x\","
	"\"normalized\":true}],"
	"\"post_processor\":null,\"decoder\":{\"type\":\"Fuse\"},"
	"\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";

/* --- refusals ----------------------------------------------------------------- */

struct refusal {
	const char *at; /* members from the root, separated by dots */
	const char *value; /* JSON that is put there */
	int code;
	const char *says; /* a part of the message */
};

/* Put `value` at a path of objects. */
static void put_at(json_t *root, const char *path, const char *value)
{
	char copy[128];
	char *rest = copy;
	const char *key;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((key = strsep(&rest, ".")) && rest)
		root = json_object_get(root, key);
	CU_ASSERT_FATAL(key && json_is_object(root));
	CU_ASSERT_FATAL(json_object_set_new(root, key,
				json_loads(value, JSON_DECODE_ANY, NULL)) == 0);
}

static void check_refusal(const struct refusal *refusal, const char *family)
{
	json_t *root = text_tokenizer_json(family);
	struct tokenizer *tok = NULL;
	struct error err = {0};
	char *json;
	int rc;

	put_at(root, refusal->at, refusal->value);
	json = json_dumps(root, 0);
	if (!json) {
		CU_FAIL_FATAL("no JSON");
		return;
	}
	rc = tokenizer_create(json, strlen(json), "the-name", &tok, &err);
	if (rc != refusal->code || !strstr(err.text, refusal->says) ||
		strncmp(err.text, "the-name: ", 10) != 0)
		printf("%s = %s: %d %s\n", refusal->at, refusal->value, rc,
			err.text);
	CU_ASSERT(rc == refusal->code);
	CU_ASSERT(strstr(err.text, refusal->says) != NULL);
	CU_ASSERT(strncmp(err.text, "the-name: ", 10) == 0);
	CU_ASSERT(tok == NULL);
	tokenizer_destroy(tok);
	free(json);
	json_decref(root);
}

static void test_create__refuses_other_models_by_name(void)
{
	static const struct refusal list[] = {
		{"model", "null", -EINVAL, "no model"},
		{"model.type", "\"Unigram\"", -ENOTSUP, "Unigram"},
		{"model.dropout", "0.1", -ENOTSUP, "dropout"},
		{"model.end_of_word_suffix", "\"</w>\"", -ENOTSUP,
			"end_of_word_suffix"},
		{"model.continuing_subword_prefix", "\"##\"", -ENOTSUP,
			"continuing_subword_prefix"},
		{"model.byte_fallback", "true", -ENOTSUP, "byte_fallback"},
		{"model.fuse_unk", "1", -EINVAL, "fuse_unk"},
		{"model.unk_token", "\"no such token\"", -EINVAL, "unk_token"},
		{"model.cache", "1", -ENOTSUP, "cache"},
		{"model.vocab", "{}", -EINVAL, "vocab"},
		{"model.vocab", "{\"a\":1,\"b\":1}", -EINVAL, "id 1"},
		{"model.vocab", "{\"a\":-1}", -EINVAL, "\"a\""},
		{"model.vocab", "{\"a\":99999999}", -E2BIG, "99999999"},
		{"model.merges", "[\"a b c\"]", -EINVAL, "entry 0"},
		{"model.merges", "[[\"a\"]]", -EINVAL, "entry 0"},
		{"model.merges", "[\"a zzzzz\"]", -EINVAL, "entry 0"},
		{"version", "\"2.0\"", -ENOTSUP, "2.0"},
		{"surprise", "1", -ENOTSUP, "surprise"},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++)
		check_refusal(&list[i], "qwen");
}

static void test_create__refuses_other_steps_by_name(void)
{
	static const struct refusal list[] = {
		{"normalizer", "{\"type\":\"Lowercase\"}", -ENOTSUP,
			"Lowercase"},
		{"normalizer",
			"{\"type\":\"Precompiled\","
			"\"precompiled_charsmap\":\"\"}",
			-ENOTSUP, "Precompiled"},
		{"normalizer",
			"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x\"},"
			"\"content\":\"\"}",
			-ENOTSUP, "Regex"},
		{"normalizer", "{\"type\":\"NFC\",\"extra\":1}", -ENOTSUP,
			"extra"},
		{"pre_tokenizer", "{\"type\":\"BertPreTokenizer\"}", -ENOTSUP,
			"BertPreTokenizer"},
		{"pre_tokenizer",
			"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\h\"},"
			"\"behavior\":\"Isolated\"}",
			-ENOTSUP, "\\h"},
		{"pre_tokenizer",
			"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a*\"},"
			"\"behavior\":\"Isolated\"}",
			-ENOTSUP, "empty"},
		{"pre_tokenizer",
			"{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},"
			"\"behavior\":\"Sideways\"}",
			-ENOTSUP, "Sideways"},
		{"post_processor", "{\"type\":\"BertProcessing\"}", -ENOTSUP,
			"BertProcessing"},
		{"post_processor",
			"{\"type\":\"TemplateProcessing\",\"single\":[]}",
			-EINVAL, "single"},
		{"decoder", "null", -ENOTSUP, "decoder"},
		{"decoder", "{\"type\":\"WordPiece\"}", -ENOTSUP, "WordPiece"},
		{"decoder",
			"{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
			"\"Fuse\"},{\"type\":\"ByteFallback\"}]}",
			-ENOTSUP, "ByteFallback"},
		{"decoder",
			"{\"type\":\"Strip\",\"content\":\" \",\"start\":1,"
			"\"stop\":1}",
			-ENOTSUP, "Strip"},
		{"added_tokens", "[{\"id\":99999,\"content\":\"<x>\"}]",
			-EINVAL, "99999"},
		{"added_tokens", "[{\"id\":1,\"content\":\"\"}]", -EINVAL,
			"content"},
		{"added_tokens", "[{\"id\":1}]", -EINVAL, "content"},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++)
		check_refusal(&list[i], "qwen");
}

static void test_create__refuses_what_is_no_json(void)
{
	static const char *const list[] = {
		"", "{", "[]", "{\"a\":\"\xff\"}", "{\"model\":1,\"model\":2}"};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		struct tokenizer *tok = NULL;
		struct error err = {0};

		CU_ASSERT(tokenizer_create(list[i], strlen(list[i]), "n", &tok,
				  &err) < 0);
		CU_ASSERT(error_is_set(&err) && tok == NULL);
		CU_ASSERT(tokenizer_create(list[i], strlen(list[i]), "n", &tok,
				  NULL) < 0);
	}
}

/* --- memory ------------------------------------------------------------------- */

/* Returns how many allocations a load takes, the JSON parser's among them. */
static uint64_t fail_each_allocation(const char *json)
{
	uint64_t nth = 0;
	bool failed = true;

	while (failed) {
		struct tokenizer *tok = NULL;
		struct error err = {0};
		int rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, ++nth, ENOMEM);
		rc = tokenizer_create(json, strlen(json), "n", &tok, &err);
		failed = fake_os_has_failed();
		fake_os_disarm();
		/* Without memory for the JIT, the interpreter does. */
		CU_ASSERT(rc == 0 ||
			  (failed && rc == -ENOMEM && error_is_set(&err)));
		tokenizer_destroy(tok);
		CU_ASSERT_FATAL(fake_os_check_empty());
	}
	return nth;
}

static void test_create__every_allocation_may_fail(void)
{
	CU_ASSERT(fail_each_allocation(small) > 150);
	CU_ASSERT(fail_each_allocation(composed) > 60);
}

static void test_scratch_create__every_allocation_may_fail(void)
{
	struct tokenizer *tok = text_tokenizer_of(small);
	bool failed = true;
	uint64_t nth = 0;

	while (failed) {
		struct tokenizer_scratch *scratch = NULL;
		int rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, ++nth, ENOMEM);
		rc = tokenizer_scratch_create(tok, 1000, &scratch);
		failed = fake_os_has_failed();
		fake_os_disarm();
		CU_ASSERT(rc == 0 || (failed && rc == -ENOMEM && !scratch));
		tokenizer_scratch_destroy(scratch);
		CU_ASSERT(fake_os_check_empty());
	}
	CU_ASSERT(nth > 5);
	tokenizer_destroy(tok);
}

static void test_encode__allocates_nothing(void)
{
	static const char *const families[] = {
		"deepseek_v3", "qwen", "mixtral", "odd_splits"};
	static char text[8192];
	static uint32_t ids[2 * sizeof(text)];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "ab 0.\n\xc3\xa9 \xcc\x81xy"[i % 14];
	for (size_t f = 0; f < 4; f++) {
		struct tokenizer *tok = text_tokenizer(families[f]);
		const struct tokenizer_input input = {
			.text = text, .length = sizeof(text)};
		struct tokenizer_scratch *scratch;
		size_t count;

		CU_ASSERT_FATAL(tokenizer_scratch_create(
					tok, 3 * sizeof(text), &scratch) == 0);
		fake_os_reset();
		for (int i = 0; i < 3; i++)
			CU_ASSERT(tokenizer_encode(scratch, &input, ids,
					  2 * sizeof(text), &count) == 0);
		CU_ASSERT(fake_os_calls(FAKE_OS_ALLOCATE) == 0);
		CU_ASSERT(count > 1000);
		tokenizer_scratch_destroy(scratch);
		tokenizer_destroy(tok);
	}
}

/* --- limits ------------------------------------------------------------------- */

static int encode_in(struct tokenizer_scratch *scratch, const char *text,
	size_t length, size_t capacity, size_t *count)
{
	static uint32_t ids[IDS];
	const struct tokenizer_input input = {.text = text, .length = length};

	CU_ASSERT_FATAL(capacity <= IDS);
	return tokenizer_encode(scratch, &input, ids, capacity, count);
}

static void test_encode__keeps_to_its_limits(void)
{
	struct tokenizer *tok = text_tokenizer("qwen");
	struct tokenizer_scratch *scratch;
	char text[101];
	size_t count;
	size_t exact;

	memset(text, '~', sizeof(text));
	CU_ASSERT(tokenizer_scratch_create(tok, 0, &scratch) == -EINVAL);
	CU_ASSERT(tokenizer_scratch_create(tok, TOKENIZER_TEXT_BYTES_MAX + 1ul,
			  &scratch) == -EINVAL);
	CU_ASSERT_FATAL(tokenizer_scratch_create(tok, 100, &scratch) == 0);
	CU_ASSERT(encode_in(scratch, text, 101, IDS, &count) == -E2BIG);
	CU_ASSERT(count == 0);
	CU_ASSERT(encode_in(scratch, text, 100, IDS, &exact) == 0);
	CU_ASSERT(exact > 0 && exact <= 100);
	CU_ASSERT(encode_in(scratch, text, 100, exact, &count) == 0);
	CU_ASSERT(count == exact);
	CU_ASSERT(encode_in(scratch, text, 100, exact - 1, &count) == -ENOSPC);
	CU_ASSERT(count == 0);
	CU_ASSERT(encode_in(scratch, text, 0, 0, &count) == 0 && count == 0);
	/* Each bad byte becomes three. */
	memset(text, 0xff, sizeof(text));
	CU_ASSERT(encode_in(scratch, text, 33, IDS, &count) == 0);
	CU_ASSERT(encode_in(scratch, text, 34, IDS, &count) == -E2BIG);
	tokenizer_scratch_destroy(scratch);
	tokenizer_destroy(tok);
}

static void test_encode__spans_must_cover_the_text(void)
{
	struct tokenizer *tok = text_tokenizer("qwen");
	struct tokenizer_scratch *scratch;
	struct text_span spans[2] = {{2, true}, {1, false}};
	struct tokenizer_input input = {
		.text = "abc", .length = 3, .spans = spans, .span_count = 2};
	uint32_t ids[8];
	size_t count;

	CU_ASSERT_FATAL(tokenizer_scratch_create(tok, 100, &scratch) == 0);
	CU_ASSERT(tokenizer_encode(scratch, &input, ids, 8, &count) == 0);
	input.span_count = 1;
	CU_ASSERT(tokenizer_encode(scratch, &input, ids, 8, &count) == -EINVAL);
	input.span_count = 2;
	spans[1].length = 2;
	CU_ASSERT(tokenizer_encode(scratch, &input, ids, 8, &count) == -EINVAL);
	spans[1].length = SIZE_MAX;
	CU_ASSERT(tokenizer_encode(scratch, &input, ids, 8, &count) == -EINVAL);
	tokenizer_scratch_destroy(scratch);
	tokenizer_destroy(tok);
}

/* --- trust -------------------------------------------------------------------- */

struct trust_text {
	char bytes[2048];
	size_t length;
	struct text_span spans[64];
	size_t span_count;
};

static void append(
	struct trust_text *text, const char *part, size_t length, bool trusted)
{
	memcpy(text->bytes + text->length, part, length);
	text->length += length;
	text->spans[text->span_count++] = (struct text_span){length, trusted};
}

/* How often ids of control tokens occur. */
static size_t count_control(const struct tokenizer *tok,
	const struct trust_text *text, bool markup_everywhere)
{
	const struct tokenizer_input input = {.text = text->bytes,
		.length = text->length,
		.spans = text->spans,
		.span_count = text->span_count,
		.markup_everywhere = markup_everywhere};
	struct tokenizer_scratch *scratch;
	static uint32_t ids[IDS];
	size_t count;
	size_t control = 0;

	CU_ASSERT_FATAL(tokenizer_scratch_create(tok, 8192, &scratch) == 0);
	CU_ASSERT_FATAL(
		tokenizer_encode(scratch, &input, ids, IDS, &count) == 0);
	for (size_t i = 0; i < count; i++)
		control += tokenizer_is_control(tok, ids[i]);
	tokenizer_scratch_destroy(scratch);
	return control;
}

static void test_encode__control_tokens_need_trust(void)
{
	struct tokenizer *tok = text_tokenizer_of(small);
	struct trust_text text = {.length = 0};

	append(&text, "<s>", 3, true);
	append(&text, "<s><think> heddle", 17, false);
	CU_ASSERT(count_control(tok, &text, false) == 1);
	CU_ASSERT(count_control(tok, &text, true) == 2);
	text.spans[1].trusted = true;
	CU_ASSERT(count_control(tok, &text, false) == 3);
	text.spans[0].trusted = false;
	CU_ASSERT(count_control(tok, &text, false) == 2);
	tokenizer_destroy(tok);
}

static void test_encode__a_token_across_a_border_is_text(void)
{
	struct tokenizer *tok = text_tokenizer_of(small);
	struct trust_text text = {.length = 0};

	append(&text, "<s", 2, true);
	append(&text, "><s>", 4, false);
	CU_ASSERT(count_control(tok, &text, false) == 0);
	/* What hangs over from a client does not hide the server's token. */
	append(&text, "<thi<", 5, false);
	append(&text, "<think>", 7, true);
	CU_ASSERT(count_control(tok, &text, false) == 1);
	tokenizer_destroy(tok);
}

static void test_encode__words_are_found_everywhere(void)
{
	struct tokenizer *tok = text_tokenizer_of(small);
	uint32_t ids[8];

	/* "heddle" is an added token, but no markup. */
	CU_ASSERT(text_encode(tok, "heddle", 6, ids, 8) == 1);
	CU_ASSERT(ids[0] == 7);
	CU_ASSERT(!tokenizer_is_control(tok, 7));
	tokenizer_destroy(tok);
}

/* Trusted whole tokens between whatever clients write: exactly they count. */
static void check_random_trust(const char *family, const char *const *tokens,
	size_t token_count, uint64_t *state)
{
	struct tokenizer *tok = text_tokenizer(family);

	for (int round = 0; round < 300; round++) {
		struct trust_text text = {.length = 0};
		size_t wanted = 0;

		for (int i = 0; i < 20; i++) {
			const char *token = tokens[suite_below(
				state, (uint32_t)token_count)];
			size_t length = strlen(token);
			bool trusted = suite_below(state, 3) == 0;

			wanted += trusted;
			if (!trusted && suite_below(state, 2))
				length = 1 + suite_below(state,
						     (uint32_t)length - 1);
			append(&text, token, length, trusted);
		}
		CU_ASSERT_FATAL(count_control(tok, &text, false) == wanted);
	}
	tokenizer_destroy(tok);
}

static void test_encode__trust_in_random_texts(void)
{
	static const char *const qwen[] = {
		"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>"};
	static const char *const llama[] = {"<|begin_of_text|>", "<|eot_id|>"};
	static const char *const deepseek[] = {
		"<think>", "</think>", "<\xef\xbd\x9cUser\xef\xbd\x9c>"};
	uint64_t state = suite_seed(1);

	check_random_trust("qwen", qwen, 4, &state);
	check_random_trust("llama3", llama, 2, &state);
	check_random_trust("deepseek_v3", deepseek, 3, &state);
	check_random_trust(
		"mixtral", (const char *const[]){"<s>", "</s>"}, 2, &state);
}

static void test_encode__no_merge_makes_a_special_token(void)
{
	static const char json[] =
		"{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\","
		"\"special\":true}],\"decoder\":{\"type\":\"Fuse\"},"
		"\"model\":{\"type\":\"BPE\",\"vocab\":{\"<\":0,\"s\":1,"
		"\">\":2,\"<s>\":3,\"s>\":4},"
		"\"merges\":[\"s >\",\"< s>\"]}}";
	struct tokenizer *tok = text_tokenizer_of(json);
	struct trust_text text = {.length = 0};
	uint32_t ids[8];

	CU_ASSERT(text_encode(tok, "<s>", 3, ids, 8) == 2);
	CU_ASSERT(ids[0] == 0 && ids[1] == 4);
	append(&text, "<s>", 3, true);
	CU_ASSERT(count_control(tok, &text, false) == 1);
	tokenizer_destroy(tok);
}

/* --- vocabulary --------------------------------------------------------------- */

static bool bytes_are(
	const struct tokenizer *tok, uint32_t id, const char *wanted)
{
	size_t length;
	const char *bytes = tokenizer_token_bytes(tok, id, &length);

	return bytes && length == strlen(wanted) &&
	       memcmp(bytes, wanted, length) == 0;
}

static void test_vocabulary__ids_bytes_and_flags(void)
{
	struct tokenizer *tok = text_tokenizer_of(small);
	size_t length;

	CU_ASSERT(tokenizer_vocab_size(tok) == 8);
	CU_ASSERT(tokenizer_id_of(tok, "ab", 2) == 2);
	CU_ASSERT(tokenizer_id_of(tok, "\xc4\xa0", 2) == 4);
	CU_ASSERT(tokenizer_id_of(tok, " ", 1) == TOKENIZER_NONE);
	CU_ASSERT(tokenizer_id_of(tok, "<s>", 3) == 5);
	CU_ASSERT(tokenizer_id_of(tok, "\xff", 1) == TOKENIZER_NONE);
	CU_ASSERT(bytes_are(tok, 4, " "));
	CU_ASSERT(bytes_are(tok, 5, "<s>"));
	CU_ASSERT(tokenizer_token_bytes(tok, 8, &length) == NULL);
	CU_ASSERT(tokenizer_is_special(tok, 5));
	CU_ASSERT(!tokenizer_is_special(tok, 6));
	CU_ASSERT(tokenizer_is_control(tok, 6));
	CU_ASSERT(!tokenizer_is_special(tok, UINT32_MAX));
	tokenizer_destroy(tok);
	tok = text_tokenizer("mixtral");
	CU_ASSERT(bytes_are(tok, tokenizer_id_of(tok, "<0x0A>", 6), "\n"));
	CU_ASSERT(bytes_are(
		tok, tokenizer_id_of(tok, "\xe2\x96\x81of", 5), " of"));
	tokenizer_destroy(tok);
}

static void test_destroy__takes_nothing(void)
{
	tokenizer_destroy(NULL);
	tokenizer_scratch_destroy(NULL);
	CU_PASS("nothing broke");
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(create__refuses_other_models_by_name),
		SUITE_CASE(create__refuses_other_steps_by_name),
		SUITE_CASE(create__refuses_what_is_no_json),
		SUITE_CASE(create__every_allocation_may_fail),
		SUITE_CASE(scratch_create__every_allocation_may_fail),
		SUITE_CASE(encode__allocates_nothing),
		SUITE_CASE(encode__keeps_to_its_limits),
		SUITE_CASE(encode__spans_must_cover_the_text),
		SUITE_CASE(encode__control_tokens_need_trust),
		SUITE_CASE(encode__a_token_across_a_border_is_text),
		SUITE_CASE(encode__words_are_found_everywhere),
		SUITE_CASE(encode__trust_in_random_texts),
		SUITE_CASE(encode__no_merge_makes_a_special_token),
		SUITE_CASE(vocabulary__ids_bytes_and_flags),
		SUITE_CASE(destroy__takes_nothing),
	};

	return SUITE_MAIN("tokenizer", cases);
}
