/* tokenizer_load.c - a tokenizer from its file (JSON -> struct tokenizer) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/limits.h"
#include "dataplane/tokenizer_private.h"

/* No merge may make a special token: its pair becomes one nobody asks for. */
static void drop_special_merges(struct tokenizer *tok)
{
	for (size_t i = 0; i <= tok->merge_mask; i++) {
		struct merge *merge = &tok->merges[i];

		if (merge->pair != UINT64_MAX &&
			tokenizer_is_special(tok, merge->id))
			merge->pair = UINT64_MAX - 1;
	}
}

/* --- the file ------------------------------------------------------------------ */

static int load_parts(
	struct tokenizer *tok, const json_t *root, struct error *err)
{
	static const char *const known[] = {"version", "truncation", "padding",
		"added_tokens", "normalizer", "pre_tokenizer", "post_processor",
		"decoder", "model", NULL};
	const char *version =
		json_string_value(json_object_get(root, "version"));
	int rc;

	rc = part_only(root, "tokenizer", known, err);
	if (rc == 0 && version && strcmp(version, "1.0") != 0)
		rc = error_set(
			err, ENOTSUP, "version %s is not supported", version);
	/* The model's spelling depends on ByteLevel, added tokens on both. */
	if (rc == 0)
		rc = load_pre_tokenizer(
			tok, json_object_get(root, "pre_tokenizer"), err);
	if (rc == 0)
		rc = load_normalizer(
			tok, json_object_get(root, "normalizer"), err);
	if (rc == 0)
		rc = load_model(tok, json_object_get(root, "model"), err);
	if (rc == 0)
		rc = load_added(
			tok, json_object_get(root, "added_tokens"), err);
	if (rc == 0)
		rc = load_post_processor(
			tok, json_object_get(root, "post_processor"), err);
	if (rc == 0)
		rc = load_decoder(tok, json_object_get(root, "decoder"), err);
	if (rc)
		return rc;
	drop_special_merges(tok);
	return load_token_texts(tok, err);
}

/*
 * What a parse may build: the largest vocabulary and all merges as pairs, and
 * added tokens with all their members, twice over for the steps.
 */
static const struct json_bounds file_bounds = {
	.object_max = 2 * (size_t)TOKENIZER_ADDED_COUNT_MAX,
	.array_max = TOKENIZER_MERGE_COUNT_MAX + TOKENIZER_ADDED_COUNT_MAX,
	.separator_max =
		2 * ((size_t)MODEL_VOCAB_MAX + TOKENIZER_MERGE_COUNT_MAX +
			    16 * (size_t)TOKENIZER_ADDED_COUNT_MAX),
};

static int read_json(
	const char *json, size_t length, json_t **root, struct error *err)
{
	if (length > (size_t)MODEL_JSON_BYTES_MAX)
		return error_set(err, E2BIG, "%zu bytes of JSON", length);
	return json_text_parse(json, length, &file_bounds, root, err);
}

int tokenizer_create(const char *json, size_t length, const char *name,
	struct tokenizer **out, struct error *err)
{
	struct tokenizer *tok = calloc(1, sizeof(*tok));
	struct error local = {0};
	json_t *root = NULL;
	int rc;

	if (!err)
		err = &local;
	if (!tok) {
		error_set(err, ENOMEM, "%s: no memory", name);
		return -ENOMEM;
	}
	rc = read_json(json, length, &root, err);
	if (rc == 0)
		rc = load_parts(tok, root, err);
	json_decref(root);
	if (rc) {
		tokenizer_destroy(tok);
		error_prefix(err, "%s", name);
		return rc;
	}
	*out = tok;
	return 0;
}

void tokenizer_destroy(struct tokenizer *tok)
{
	if (!tok)
		return;
	for (uint32_t i = 0; i < tok->split_count; i++)
		pattern_destroy(tok->splits[i].pattern);
	for (uint32_t form = 0; form < FORM_COUNT; form++)
		free(tok->plain[form]);
	free(tok->normalized.nodes);
	free(tok->raw.nodes);
	free(tok->added);
	free(tok->char_id);
	free(tok->merges);
	free(tok->text_table);
	free(tok->tokens);
	free(tok->blob.data);
	free(tok);
}
