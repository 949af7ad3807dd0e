/* text_case.c - golden tokenizers and texts for tests (files -> memory) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/text_case.h"

static void need(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "text_case: %s\n", what);
	exit(1);
}

char *text_file(const char *path, size_t *length)
{
	FILE *file = fopen(path, "rb");
	size_t capacity = 4u << 20;
	char *text = malloc(capacity);

	need(file && text, path);
	*length = fread(text, 1, capacity - 1, file);
	need(*length > 0 && *length < capacity - 1, path);
	text[*length] = '\0';
	fclose(file);
	return text;
}

json_t *text_tokenizer_json(const char *family)
{
	char path[256];
	size_t length;
	char *text;
	json_t *json;

	snprintf(path, sizeof(path), TEXT_FOLDER "/%s/tokenizer.json", family);
	text = text_file(path, &length);
	json = json_loadb(text, length, 0, NULL);
	free(text);
	need(json != NULL, path);
	return json;
}

static struct tokenizer *create(
	const char *json, size_t length, const char *name)
{
	struct tokenizer *tok = NULL;
	struct error err = {0};

	(void)tokenizer_create(json, length, name, &tok, &err);
	need(tok != NULL, err.text);
	return tok;
}

struct tokenizer *text_tokenizer(const char *family)
{
	struct tokenizer *tok;
	char path[256];
	size_t length;
	char *text;

	snprintf(path, sizeof(path), TEXT_FOLDER "/%s/tokenizer.json", family);
	text = text_file(path, &length);
	tok = create(text, length, family);
	free(text);
	return tok;
}

struct tokenizer *text_tokenizer_of(const char *json)
{
	return create(json, strlen(json), "inline");
}

size_t text_encode(const struct tokenizer *tok, const char *text, size_t length,
	uint32_t *ids, size_t capacity)
{
	const struct tokenizer_input input = {.text = text, .length = length};
	struct tokenizer_scratch *scratch = NULL;
	size_t count = 0;

	need(tokenizer_scratch_create(tok, length + 64, &scratch) == 0,
		"no scratch");
	need(tokenizer_encode(scratch, &input, ids, capacity, &count) == 0,
		"a text that cannot be encoded");
	tokenizer_scratch_destroy(scratch);
	return count;
}

size_t text_decode(const struct tokenizer *tok, const uint32_t *ids,
	size_t count, bool skip_special, char *out)
{
	struct detokenizer d;
	struct detokenizer_text part;
	size_t used = 0;

	detokenizer_init(&d, tok, NULL, skip_special);
	for (size_t i = 0; i <= count; i++) {
		part = i < count ? detokenizer_push(&d, ids[i])
				 : detokenizer_finish(&d);
		memcpy(out + used, part.text, part.length);
		used += part.length;
	}
	return used;
}
