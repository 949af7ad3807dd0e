/* tokenizer_load_output.c - what runs behind the model (JSON -> small structs) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

/* --- post-processors --------------------------------------------------------- */

/* Add the ids of one special token of a template. */
static int template_ids(const json_t *node, const char *name,
	const struct tokenizer *tok, uint32_t *ids, uint32_t *count)
{
	const json_t *specials = json_object_get(node, "special_tokens");
	const json_t *list =
		json_object_get(json_object_get(specials, name), "ids");

	if (!name || json_array_size(list) == 0)
		return -EINVAL;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *value = json_array_get(list, i);
		json_int_t id = json_integer_value(value);

		if (!json_is_integer(value) || id < 0 ||
			id >= (json_int_t)tok->token_count)
			return -EINVAL;
		if (*count == TOKENIZER_TEMPLATE_IDS_MAX)
			return -E2BIG;
		ids[(*count)++] = (uint32_t)id;
	}
	return 0;
}

/*
 * One pass of a template puts its tokens around what earlier passes put: in
 * front of the ids before the text, behind the ids after it.
 */
static int load_template(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	static const char *const known[] = {
		"type", "single", "pair", "special_tokens", NULL};
	const json_t *single = json_object_get(node, "single");
	uint32_t before[TOKENIZER_TEMPLATE_IDS_MAX] = {0};
	uint32_t before_count = 0;
	uint32_t texts = 0;
	int rc = part_only(node, "TemplateProcessing", known, err);

	for (size_t i = 0; rc == 0 && i < json_array_size(single); i++) {
		const json_t *piece = json_array_get(single, i);
		const json_t *token = json_object_get(piece, "SpecialToken");
		const char *id = json_string_value(json_object_get(
			token ? token : json_object_get(piece, "Sequence"),
			"id"));

		if (token)
			rc = template_ids(node, id, tok,
				texts ? tok->after_ids : before,
				texts ? &tok->after_count : &before_count);
		else if (id && strcmp(id, "A") == 0)
			texts++;
		else
			rc = -EINVAL;
	}
	if (rc == 0 && texts != 1)
		rc = -EINVAL;
	if (rc == 0 &&
		before_count + tok->before_count > TOKENIZER_TEMPLATE_IDS_MAX)
		rc = -E2BIG;
	if (rc)
		return error_set(
			err, -rc, "post_processor: TemplateProcessing: single");
	memmove(tok->before_ids + before_count, tok->before_ids,
		tok->before_count * sizeof(*before));
	memcpy(tok->before_ids, before, before_count * sizeof(*before));
	tok->before_count += before_count;
	return 0;
}

static int load_post_step(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	/* ByteLevel trims offsets, of which there are none here. */
	if (part_is_type(node, "ByteLevel"))
		return 0;
	if (part_is_type(node, "TemplateProcessing"))
		return load_template(tok, node, err);
	return part_unsupported("post_processor", node, err);
}

int load_post_processor(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	if (!node || json_is_null(node))
		return 0;
	return part_each_step(tok, node, "processors", load_post_step, 0, err);
}

/* --- decoders ---------------------------------------------------------------- */

/* Steps of a decoder in the only order that is taken. */
enum decode_stage {
	STAGE_REPLACE,
	STAGE_BYTE_FALLBACK,
	STAGE_FUSE,
	STAGE_STRIP,
	STAGE_WHOLE, /* ByteLevel, Metaspace: alone */
};

static int load_strip(
	struct decoder *decoder, const json_t *node, struct error *err)
{
	static const char *const known[] = {
		"type", "content", "start", "stop", NULL};
	uint32_t stop;
	int rc = part_only(node, "Strip", known, err);

	if (rc == 0)
		rc = part_char(node, "content", decoder->strip,
			&decoder->strip_bytes, err);
	if (rc == 0)
		rc = part_count(node, "start", &decoder->strip_count, err);
	if (rc == 0)
		rc = part_count(node, "stop", &stop, err);
	if (rc == 0 && stop != 0)
		rc = error_set(err, ENOTSUP,
			"decoder: Strip from the end is not supported");
	return rc;
}

static int load_decode_metaspace(
	struct decoder *decoder, const json_t *node, struct error *err)
{
	static const char *const known[] = {"type", "replacement", "str_rep",
		"add_prefix_space", "prepend_scheme", "split", NULL};
	enum prepend_scheme scheme;
	int rc = part_only(node, "Metaspace", known, err);

	decoder->kind = DECODE_METASPACE;
	if (rc == 0)
		rc = part_char(node, "replacement", decoder->metaspace,
			&decoder->metaspace_bytes, err);
	if (rc == 0)
		rc = load_prepend_scheme(node, &scheme, err);
	if (rc == 0)
		decoder->drop_first = scheme != PREPEND_NEVER;
	return rc;
}

static int load_decode_stage(struct tokenizer *tok, const json_t *node,
	enum decode_stage *stage, struct error *err)
{
	struct decoder *decoder = &tok->decoder;

	if (part_is_type(node, "Replace")) {
		*stage = STAGE_REPLACE;
		if (decoder->replace_count == TOKENIZER_STEP_COUNT_MAX)
			return error_set(err, E2BIG, "decoder: too many steps");
		return load_replace(tok, node,
			&decoder->replace[decoder->replace_count++], err);
	}
	if (part_is_type(node, "ByteFallback")) {
		*stage = STAGE_BYTE_FALLBACK;
		decoder->byte_fallback = true;
		return 0;
	}
	if (part_is_type(node, "Fuse")) {
		*stage = STAGE_FUSE;
		return 0;
	}
	if (part_is_type(node, "Strip")) {
		*stage = STAGE_STRIP;
		return load_strip(decoder, node, err);
	}
	*stage = STAGE_WHOLE;
	if (part_is_type(node, "ByteLevel")) {
		decoder->kind = DECODE_BYTE_LEVEL;
		return 0;
	}
	if (part_is_type(node, "Metaspace"))
		return load_decode_metaspace(decoder, node, err);
	return part_unsupported("decoder", node, err);
}

int load_decoder(struct tokenizer *tok, const json_t *node, struct error *err)
{
	const json_t *list = json_object_get(node, "decoders");
	bool sequence = part_is_type(node, "Sequence");
	size_t count = sequence ? json_array_size(list) : 1;
	bool seen[STAGE_WHOLE + 1] = {false};
	enum decode_stage last = STAGE_REPLACE;

	tok->decoder.kind = DECODE_PIECES;
	if (!node || json_is_null(node) || count == 0)
		return error_set(err, ENOTSUP,
			"decoder: none (words joined by spaces) is not "
			"supported");
	for (size_t i = 0; i < count; i++) {
		const json_t *step = sequence ? json_array_get(list, i) : node;
		enum decode_stage stage = STAGE_WHOLE;
		int rc = load_decode_stage(tok, step, &stage, err);

		if (rc)
			return rc;
		if (stage < last || (seen[stage] && stage != STAGE_REPLACE) ||
			(stage == STAGE_STRIP && !seen[STAGE_FUSE]) ||
			(stage == STAGE_WHOLE && count > 1))
			return error_set(err, ENOTSUP,
				"decoder: %s in this place is not supported",
				part_type(step));
		seen[stage] = true;
		last = stage;
	}
	return 0;
}
