/* tokenize_records.c - encode and decode many texts (records -> records) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: tokenize_records TOKENIZER.json < RECORDS > RESULTS
 * What compare_tokenizers.py runs. All numbers are 32 bits, little endian.
 * Record:  flags (1 add special tokens, 2 the text is trusted, 4 markup
 *          everywhere, 8 skip special tokens when decoding, 16 the bytes
 *          are ids and are only decoded), length, bytes.
 * Result:  count, ids, length, bytes of the streamed decoding of the ids.
 *          Where encoding failed: count 0xffffffff, then -errno.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/detokenizer.h"
#include "dataplane/tokenizer.h"

#define TEXT_BYTES_MAX (8u << 20)
#define IDS_MAX ((size_t)2 * TEXT_BYTES_MAX)
#define JSON_BYTES_MAX (64u << 20)

struct driver {
	struct tokenizer *tok;
	struct tokenizer_scratch *scratch;
	char *text;
	char *decoded;
	uint32_t *ids;
};

static void put_u32(uint32_t value)
{
	if (fwrite(&value, sizeof(value), 1, stdout) != 1)
		exit(1);
}

static uint32_t decode(struct driver *driver, size_t count, bool skip)
{
	struct detokenizer d;
	struct detokenizer_text new;
	uint32_t used = 0;

	detokenizer_init(&d, driver->tok, NULL, skip);
	for (size_t i = 0; i <= count; i++) {
		new = i < count ? detokenizer_push(&d, driver->ids[i])
				: detokenizer_finish(&d);
		if (new.length > 4 * TEXT_BYTES_MAX - used)
			exit(1);
		memcpy(driver->decoded + used, new.text, new.length);
		used += (uint32_t) new.length;
	}
	return used;
}

static void answer(struct driver *driver, uint32_t flags, uint32_t length)
{
	const struct text_span span = {length, true};
	const struct tokenizer_input input = {.text = driver->text,
		.length = length,
		.spans = flags & 2 && length ? &span : NULL,
		.span_count = flags & 2 && length ? 1 : 0,
		.add_special = flags & 1,
		.markup_everywhere = flags & 4};
	size_t count;
	uint32_t used;
	int rc = 0;

	if (flags & 16) {
		count = length / sizeof(*driver->ids);
		memcpy(driver->ids, driver->text, length);
	} else {
		rc = tokenizer_encode(
			driver->scratch, &input, driver->ids, IDS_MAX, &count);
	}
	if (rc) {
		put_u32(UINT32_MAX);
		put_u32((uint32_t)rc);
		return;
	}
	put_u32((uint32_t)count);
	if (fwrite(driver->ids, sizeof(uint32_t), count, stdout) != count)
		exit(1);
	used = decode(driver, count, flags & 8);
	put_u32(used);
	if (fwrite(driver->decoded, 1, used, stdout) != used)
		exit(1);
}

static int load_tokenizer(struct driver *driver, FILE *file, const char *path)
{
	struct error err = {0};
	char *json = malloc(JSON_BYTES_MAX);
	size_t length;
	int rc;

	if (!json)
		return 1;
	length = fread(json, 1, JSON_BYTES_MAX, file);
	rc = tokenizer_create(json, length, path, &driver->tok, &err);
	free(json);
	if (rc)
		fprintf(stderr, "%s\n", err.text);
	return rc;
}

static int load(struct driver *driver, const char *path)
{
	FILE *file = fopen(path, "rb");
	int rc;

	if (!file) {
		perror(path);
		return 1;
	}
	rc = load_tokenizer(driver, file, path);
	fclose(file);
	if (rc)
		return 1;
	driver->text = malloc(TEXT_BYTES_MAX);
	driver->decoded = malloc(4 * (size_t)TEXT_BYTES_MAX);
	driver->ids = malloc(IDS_MAX * sizeof(uint32_t));
	return tokenizer_scratch_create(
		       driver->tok, TEXT_BYTES_MAX, &driver->scratch) != 0 ||
	       !driver->text || !driver->decoded || !driver->ids;
}

int main(int argc, char **argv)
{
	struct driver driver = {0};
	uint32_t head[2];

	if (argc != 2 || load(&driver, argv[1]))
		return 1;
	while (fread(head, sizeof(head), 1, stdin) == 1) {
		if (head[1] > TEXT_BYTES_MAX ||
			fread(driver.text, 1, head[1], stdin) != head[1])
			return 1;
		answer(&driver, head[0], head[1]);
	}
	free(driver.ids);
	free(driver.decoded);
	free(driver.text);
	tokenizer_scratch_destroy(driver.scratch);
	tokenizer_destroy(driver.tok);
	return 0;
}
