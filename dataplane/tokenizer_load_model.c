/* tokenizer_load_model.c - vocabulary and merges (JSON -> hash tables) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "dataplane/tokenizer_private.h"

/* The highest id of the vocabulary and of the added tokens beside it. */
static int highest_id(json_t *vocab, uint32_t *highest, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(vocab, key, value)
	{
		json_int_t id = json_integer_value(value);

		if (!json_is_integer(value) || id < 0)
			return error_set(err, EINVAL,
				"model: vocab: the id of \"%s\"", key);
		if (id >= (json_int_t)MODEL_VOCAB_MAX)
			return error_set(err, E2BIG,
				"model: vocab: id %lld is over the limit",
				(long long)id);
		if ((uint32_t)id > *highest)
			*highest = (uint32_t)id;
	}
	return 0;
}

static int add_token(
	struct tokenizer *tok, const char *text, uint32_t id, struct error *err)
{
	char bytes[TOKENIZER_TOKEN_BYTES_MAX];
	struct token *token = &tok->tokens[id];
	size_t length = strlen(text);
	int rc;

	if (token->flags)
		return error_set(
			err, EINVAL, "model: vocab: two tokens have id %u", id);
	if (length > sizeof(bytes))
		return error_set(err, E2BIG,
			"model: vocab: token %u is longer than %d bytes", id,
			TOKENIZER_TOKEN_BYTES_MAX);
	token->flags = TOKEN_EXISTS;
	if (tok->byte_level && byte_level_bytes(text, length, bytes, &length)) {
		token->flags |= TOKEN_BYTES;
		text = bytes;
	}
	token->text_bytes = (uint32_t)length;
	rc = blob_add(&tok->blob, text, length, &token->text);
	if (rc)
		return error_set(err, -rc, "model: vocab: too much text");
	return 0;
}

static int load_vocab(struct tokenizer *tok, json_t *vocab, struct error *err)
{
	size_t count = json_object_size(vocab);
	uint32_t highest = 0;
	const char *key;
	json_t *value;
	int rc;

	if (!json_is_object(vocab) || count == 0)
		return error_set(err, EINVAL, "model: no vocab");
	rc = highest_id(vocab, &highest, err);
	if (rc)
		return rc;
	tok->token_count = highest + 1;
	tok->model_count = (uint32_t)count;
	tok->tokens = calloc((size_t)highest + 1, sizeof(*tok->tokens));
	if (!tok->tokens || table_create(count, sizeof(*tok->text_table),
				    (void **)&tok->text_table, &tok->text_mask))
		return error_set(err, ENOMEM, "model: vocab: no memory");
	json_object_foreach(vocab, key, value)
	{
		uint32_t id = (uint32_t)json_integer_value(value);

		rc = add_token(tok, key, id, err);
		if (rc)
			return rc;
		vocab_insert(tok, id);
	}
	return 0;
}

/* The two sides of a merge: "a b", or ["a", "b"]. */
static int merge_sides(
	const json_t *node, const char *side[2], size_t length[2])
{
	const char *text = json_string_value(node);
	const char *space;

	if (!text) {
		for (size_t i = 0; i < 2; i++) {
			const json_t *part = json_array_get(node, i);

			side[i] = json_string_value(part);
			length[i] = json_string_length(part);
		}
		return json_array_size(node) == 2 && side[0] && side[1]
			       ? 0
			       : -EINVAL;
	}
	space = strchr(text, ' ');
	if (!space || strchr(space + 1, ' ') ||
		strlen(text) != json_string_length(node))
		return -EINVAL;
	side[0] = text;
	length[0] = (size_t)(space - text);
	side[1] = space + 1;
	length[1] = strlen(space + 1);
	return 0;
}

static void merge_put(
	struct tokenizer *tok, uint64_t pair, uint32_t rank, uint32_t id)
{
	uint32_t slot = merge_slot(pair, tok->merge_mask);

	while (tok->merges[slot].pair != UINT64_MAX &&
		tok->merges[slot].pair != pair)
		slot = (slot + 1) & tok->merge_mask;
	/* A pair that is listed again has its last rank. */
	tok->merges[slot] = (struct merge){pair, rank, id};
}

static int add_merge(struct tokenizer *tok, const json_t *node, uint32_t rank,
	struct error *err)
{
	char joined[TOKENIZER_TOKEN_BYTES_MAX];
	const char *side[2];
	size_t length[2];
	uint32_t id[3] = {TOKENIZER_NONE, TOKENIZER_NONE, TOKENIZER_NONE};

	if (merge_sides(node, side, length))
		return error_set(err, EINVAL,
			"model: merges: entry %u is not a pair", rank);
	if (length[0] <= sizeof(joined) &&
		length[1] <= sizeof(joined) - length[0]) {
		memcpy(joined, side[0], length[0]);
		memcpy(joined + length[0], side[1], length[1]);
		id[0] = vocab_find_spelling(tok, side[0], length[0]);
		id[1] = vocab_find_spelling(tok, side[1], length[1]);
		id[2] = vocab_find_spelling(tok, joined, length[0] + length[1]);
	}
	for (size_t i = 0; i < 3; i++)
		if (id[i] == TOKENIZER_NONE)
			return error_set(err, EINVAL,
				"model: merges: entry %u: a token that is not "
				"in the vocabulary",
				rank);
	merge_put(tok, merge_pair(id[0], id[1]), rank, id[2]);
	return 0;
}

static bool is_version_line(const json_t *node)
{
	const char *text = json_string_value(node);

	return text && strncmp(text, "#version", 8) == 0;
}

static int load_merges(
	struct tokenizer *tok, const json_t *list, struct error *err)
{
	size_t count = json_array_size(list);
	uint32_t rank = 0;
	int rc = 0;

	if (!json_is_array(list))
		return error_set(err, EINVAL, "model: no merges");
	if (count > TOKENIZER_MERGE_COUNT_MAX)
		return error_set(err, E2BIG, "model: %zu merges", count);
	if (table_create(count, sizeof(*tok->merges), (void **)&tok->merges,
		    &tok->merge_mask))
		return error_set(err, ENOMEM, "model: merges: no memory");
	for (size_t i = 0; i <= tok->merge_mask; i++)
		tok->merges[i].pair = UINT64_MAX;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		const json_t *node = json_array_get(list, i);

		if (is_version_line(node))
			continue;
		rc = add_merge(tok, node, rank++, err);
	}
	tok->merge_count = rank;
	return rc;
}

/* Byte tokens, single characters. */
static int find_symbols(struct tokenizer *tok, struct error *err)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		char text[8] = {(char)byte};

		if (tok->byte_level) {
			tok->byte_id[byte] = vocab_find(tok, text, 1, true);
			continue;
		}
		snprintf(text, sizeof(text), "<0x%02X>", byte);
		tok->byte_id[byte] = tok->byte_fallback
					     ? vocab_find(tok, text, 6, false)
					     : TOKENIZER_NONE;
	}
	if (tok->byte_level)
		return 0;
	tok->char_id = malloc(BMP_COUNT * sizeof(*tok->char_id));
	if (!tok->char_id)
		return error_set(err, ENOMEM, "model: no memory");
	for (uint32_t c = 0; c < BMP_COUNT; c++) {
		char text[UTF8_BYTES_MAX];
		uint32_t size = utf8_put(text, c);

		tok->char_id[c] = vocab_find(tok, text, size, false);
	}
	return 0;
}

/*
 * Does a text break before each block that follows something else? So it is
 * where no token that a merge makes has such a place inside, and where a
 * block is a token (unknown characters are not joined across it).
 */
static bool cuts_before_block(const struct tokenizer *tok)
{
	if (tok->byte_level || tok->ignore_merges ||
		tok->char_id[METASPACE] == TOKENIZER_NONE)
		return false;
	for (size_t i = 0; i <= tok->merge_mask; i++) {
		const struct merge *merge = &tok->merges[i];
		const struct token *token;
		const char *text;

		if (merge->pair == UINT64_MAX)
			continue;
		token = &tok->tokens[merge->id];
		text = blob_at(tok, token->text);
		for (size_t at = 1; at + 3 <= token->text_bytes; at++)
			if (memcmp(text + at, METASPACE_TEXT, 3) == 0 &&
				(at < 3 || memcmp(text + at - 3, METASPACE_TEXT,
						   3) != 0))
				return false;
	}
	return true;
}

static int load_unk(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	const json_t *unk = json_object_get(node, "unk_token");

	tok->unk_id = TOKENIZER_NONE;
	if (!unk || json_is_null(unk))
		return 0;
	if (!json_is_string(unk))
		return error_set(err, EINVAL, "model: unk_token: no string");
	tok->unk_id = vocab_find_spelling(
		tok, json_string_value(unk), json_string_length(unk));
	if (tok->unk_id == TOKENIZER_NONE)
		return error_set(err, EINVAL,
			"model: unk_token is not in the vocabulary");
	return 0;
}

/* What changes the ids and is not implemented. */
static int refuse_options(const json_t *node, struct error *err)
{
	static const char *const known[] = {"type", "dropout", "unk_token",
		"continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
		"byte_fallback", "ignore_merges", "vocab", "merges", NULL};
	static const char *const affixes[] = {
		"continuing_subword_prefix", "end_of_word_suffix"};
	const char *type = json_string_value(json_object_get(node, "type"));
	const json_t *dropout = json_object_get(node, "dropout");

	if (!type || strcmp(type, "BPE") != 0)
		return error_set(err, ENOTSUP,
			"model: type %s is not supported",
			type ? type : "(none)");
	if (dropout && !json_is_null(dropout) &&
		!(json_is_number(dropout) && json_number_value(dropout) == 0))
		return error_set(
			err, ENOTSUP, "model: dropout is not supported");
	for (size_t i = 0; i < 2; i++) {
		const json_t *affix = json_object_get(node, affixes[i]);

		if (affix && !json_is_null(affix) &&
			!(json_is_string(affix) &&
				json_string_length(affix) == 0))
			return error_set(err, ENOTSUP,
				"model: %s is not supported", affixes[i]);
	}
	return part_only(node, "model", known, err);
}

int load_model(struct tokenizer *tok, const json_t *node, struct error *err)
{
	int rc;

	if (!json_is_object(node))
		return error_set(err, EINVAL, "no model");
	rc = refuse_options(node, err);
	if (rc == 0)
		rc = part_flag(node, "fuse_unk", false, &tok->fuse_unk, err);
	if (rc == 0)
		rc = part_flag(
			node, "byte_fallback", false, &tok->byte_fallback, err);
	if (rc == 0)
		rc = part_flag(
			node, "ignore_merges", false, &tok->ignore_merges, err);
	if (rc)
		return rc;
	if (tok->byte_level && tok->byte_fallback)
		return error_set(err, ENOTSUP,
			"model: byte_fallback with ByteLevel is not supported");
	rc = load_vocab(tok, json_object_get(node, "vocab"), err);
	if (rc == 0)
		rc = load_unk(tok, node, err);
	if (rc == 0)
		rc = load_merges(tok, json_object_get(node, "merges"), err);
	if (rc == 0)
		rc = find_symbols(tok, err);
	if (rc == 0)
		tok->cut_before_block = cuts_before_block(tok);
	return rc;
}
