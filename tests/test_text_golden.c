/* test_text_golden.c - ids and texts as Hugging Face's library gives them */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/golden-text/NAME has a small tokenizer in the manner of each family
 * and what `tokenizers` made of many texts; the format of cases.txt is in
 * tools/text/make_text_goldens.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"
#include "tests/text_case.h"

#define TEXT_COUNT_MAX 1024
#define TEXT_BYTES 4096
#define CASE_COUNT_MIN 500

struct golden_text {
	char bytes[TEXT_BYTES];
	size_t length;
};

struct golden_texts {
	struct golden_text *list;
	size_t count;
};

static size_t from_hex(const char *hex, char *out)
{
	size_t length = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;

	for (size_t i = 0; i < length; i++) {
		char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		out[i] = (char)strtoul(digits, NULL, 16);
	}
	return length;
}

/* 64-bit FNV-1a. */
static uint64_t hash_of(const void *bytes, size_t length)
{
	const unsigned char *p = bytes;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static struct golden_texts load_texts(void)
{
	struct golden_texts texts = {
		calloc(TEXT_COUNT_MAX, sizeof(struct golden_text)), 0};
	size_t length;
	char *file = text_file(TEXT_FOLDER "/texts.txt", &length);
	char *rest = file;
	const char *line;

	while ((line = strsep(&rest, "\n")) && *line &&
		texts.count < TEXT_COUNT_MAX) {
		struct golden_text *text = &texts.list[texts.count++];

		text->length = from_hex(line, text->bytes);
	}
	free(file);
	return texts;
}

/* Is "~COUNT:HASH" that of these bytes? */
static bool hash_fits(
	const char *field, size_t count, const void *bytes, size_t length)
{
	char wanted[64];

	snprintf(wanted, sizeof(wanted), "~%zu:%llx", count,
		(unsigned long long)hash_of(bytes, length));
	return strcmp(field, wanted) == 0;
}

static bool ids_fit(const char *field, const uint32_t *ids, size_t count)
{
	char shown[TEXT_BYTES] = "";
	size_t used = 0;

	if (*field == '~')
		return hash_fits(field, count, ids, count * sizeof(*ids));
	for (size_t i = 0; i < count && used < sizeof(shown) - 16; i++)
		used += (size_t)snprintf(shown + used, sizeof(shown) - used,
			i ? " %u" : "%u", ids[i]);
	return strcmp(field, shown) == 0;
}

/* What the library reads: every broken sequence replaced. */
static size_t clean(const struct golden_text *text, char *out)
{
	size_t used = 0;

	for (size_t i = 0; i < text->length;) {
		struct utf8_item item =
			utf8_next(text->bytes + i, text->length - i);
		bool good = item.kind == UTF8_CHAR;
		size_t size = good ? item.size_bytes : UTF8_REPLACEMENT_BYTES;

		memcpy(out + used, good ? text->bytes + i : UTF8_REPLACEMENT,
			size);
		used += size;
		i += item.size_bytes;
	}
	return used;
}

static bool text_fits(const char *field, const struct golden_text *text,
	const char *decoded, size_t length)
{
	char wanted[3 * TEXT_BYTES];
	size_t wanted_length;

	if (*field == '~')
		return hash_fits(field, length, decoded, length);
	if (strcmp(field, "=") == 0)
		wanted_length = clean(text, wanted);
	else
		wanted_length = from_hex(field, wanted);
	return length == wanted_length && memcmp(wanted, decoded, length) == 0;
}

static bool case_fits(const struct tokenizer *tok,
	struct tokenizer_scratch *scratch, char *line,
	const struct golden_texts *texts)
{
	static const char tab[] = "\t";
	unsigned flags = (unsigned)strtoul(strsep(&line, tab), NULL, 16);
	const char *shown = strsep(&line, tab);
	const char *ids_field = strsep(&line, tab);
	static struct golden_text own;
	const struct golden_text *text = &own;
	static uint32_t ids[TEXT_BYTES];
	static char decoded[8 * TEXT_BYTES];
	size_t count;

	if (*shown == '#')
		text = &texts->list[strtoul(shown + 1, NULL, 10)];
	else
		own.length = from_hex(shown, own.bytes);
	{
		const struct text_span span = {text->length, true};
		const struct tokenizer_input input = {.text = text->bytes,
			.length = text->length,
			.spans = flags & 2 ? &span : NULL,
			.span_count = flags & 2 ? 1 : 0,
			.add_special = flags & 1,
			.markup_everywhere = true};

		if (tokenizer_encode(scratch, &input, ids, TEXT_BYTES, &count))
			return false;
	}
	return ids_fit(ids_field, ids, count) &&
	       text_fits(line, text, decoded,
		       text_decode(tok, ids, count, flags & 8, decoded));
}

static void check_family(const char *family)
{
	struct golden_texts texts = load_texts();
	struct tokenizer *tok = text_tokenizer(family);
	struct tokenizer_scratch *scratch;
	char path[256];
	size_t length;
	char *file;
	char *rest;
	char *line;
	size_t count = 0;
	size_t wrong = 0;

	snprintf(path, sizeof(path), TEXT_FOLDER "/%s/cases.txt", family);
	file = text_file(path, &length);
	rest = file;
	CU_ASSERT_FATAL(
		tokenizer_scratch_create(tok, TEXT_BYTES, &scratch) == 0);
	while ((line = strsep(&rest, "\n")) && *line) {
		count++;
		if (case_fits(tok, scratch, line, &texts))
			continue;
		if (wrong++ < 3)
			printf("%s: line %zu ", path, count);
	}
	CU_ASSERT(wrong == 0);
	CU_ASSERT(count >= CASE_COUNT_MIN);
	tokenizer_scratch_destroy(scratch);
	tokenizer_destroy(tok);
	free(file);
	free(texts.list);
}

static void test_encode__deepseek_v2(void)
{
	check_family("deepseek_v2");
}

static void test_encode__deepseek_v3(void)
{
	check_family("deepseek_v3");
}

static void test_encode__qwen(void)
{
	check_family("qwen");
}

static void test_encode__olmoe(void)
{
	check_family("olmoe");
}

static void test_encode__granite(void)
{
	check_family("granite");
}

static void test_encode__mixtral(void)
{
	check_family("mixtral");
}

static void test_encode__mistral_with_metaspace(void)
{
	check_family("mistral_metaspace");
}

static void test_encode__metaspace_words(void)
{
	check_family("metaspace_words");
}

static void test_encode__llama3(void)
{
	check_family("llama3");
}

static void test_encode__added_tokens_of_every_rule(void)
{
	check_family("odd_words");
}

static void test_encode__splits_of_every_behavior(void)
{
	check_family("odd_splits");
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(encode__deepseek_v2),
		SUITE_CASE(encode__deepseek_v3),
		SUITE_CASE(encode__qwen),
		SUITE_CASE(encode__olmoe),
		SUITE_CASE(encode__granite),
		SUITE_CASE(encode__mixtral),
		SUITE_CASE(encode__mistral_with_metaspace),
		SUITE_CASE(encode__metaspace_words),
		SUITE_CASE(encode__llama3),
		SUITE_CASE(encode__added_tokens_of_every_rule),
		SUITE_CASE(encode__splits_of_every_behavior),
	};

	return SUITE_MAIN("text_golden", cases);
}
