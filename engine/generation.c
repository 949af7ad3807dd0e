/* generation.c - where a model stops and how it samples (JSON -> values) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/json_text.h"
#include "engine/model.h"

static const struct json_bounds generation_bounds = {
	.object_max = 4096,
	.array_max = 4096,
	.separator_max = 65536,
};

static void add_eos(struct fields *fields, const json_t *value, uint32_t vocab,
	struct generation_config *out)
{
	uint32_t token;

	if (!json_u32_ok(value, vocab - 1, &token)) {
		fields_refuse(fields, "eos_token_id",
			"is no token of a vocabulary of %u", vocab);
		return;
	}
	for (uint32_t i = 0; i < out->eos_count; i++)
		if (out->eos[i] == token)
			return;
	if (out->eos_count == EOS_TOKEN_COUNT_MAX) {
		fields_refuse(fields, "eos_token_id",
			"holds more than %d tokens", EOS_TOKEN_COUNT_MAX);
		return;
	}
	out->eos[out->eos_count++] = token;
}

/* One token or a list of them. */
static void read_eos(
	struct fields *fields, uint32_t vocab, struct generation_config *out)
{
	json_t *value = json_object_get(fields->object, "eos_token_id");

	if (!json_is_array(value)) {
		add_eos(fields, value, vocab, out);
		return;
	}
	for (size_t i = 0; i < json_array_size(value); i++)
		add_eos(fields, json_array_get(value, i), vocab, out);
}

/* What is still unknown of the two; the first text that speaks decides. */
static void read_tokens(struct fields *fields, uint32_t vocab, bool *eos_known,
	struct generation_config *out)
{
	if (!*eos_known && fields_has(fields, "eos_token_id")) {
		read_eos(fields, vocab, out);
		*eos_known = true;
	}
	if (out->bos == UINT32_MAX)
		out->bos = fields_u32_or(
			fields, "bos_token_id", 0, vocab - 1, UINT32_MAX);
}

static void read_sampling(struct fields *fields, struct generation_config *out)
{
	out->has_sampling = fields_bool_or(fields, "do_sample", false);
	out->temperature =
		(float)fields_number_or(fields, "temperature", 0, 100, 1);
	out->top_p = (float)fields_number_or(fields, "top_p", 1e-6, 1, 1);
	out->top_k = fields_u32_or(fields, "top_k", 0, INT32_MAX, 0);
	out->repetition_penalty = (float)fields_number_or(
		fields, "repetition_penalty", 1e-3, 1e3, 1);
}

static int read_text(const char *text, size_t length, const char *name,
	json_t **out, struct error *err)
{
	int rc = json_text_parse(text, length, &generation_bounds, out, err);

	if (rc)
		error_prefix(err, "%s", name);
	return rc;
}

static int read_generation(const char *text, size_t length, uint32_t vocab,
	bool *eos_known, struct generation_config *out, struct error *err)
{
	struct fields fields;
	json_t *root;
	int rc = read_text(text, length, "generation_config.json", &root, err);

	if (rc)
		return rc;
	fields_init(&fields, root, "generation_config.json: ", err);
	read_tokens(&fields, vocab, eos_known, out);
	read_sampling(&fields, out);
	json_decref(root);
	return fields.rc;
}

/* NOLINTNEXTLINE(readability-function-size): two texts with lengths */
int generation_config_parse(const char *text, size_t length,
	const char *config_text, size_t config_length,
	const struct model_config *config, struct generation_config *out,
	struct error *err)
{
	struct generation_config generation = {
		.bos = UINT32_MAX,
		.temperature = 1,
		.top_p = 1,
		.repetition_penalty = 1,
	};
	bool eos_known = false;
	struct fields fields;
	json_t *root;
	int rc;

	assert(config_text && config && config->vocab > 0 && out);
	if (text) {
		rc = read_generation(text, length, config->vocab, &eos_known,
			&generation, err);
		if (rc)
			return rc;
	}
	rc = read_text(config_text, config_length, "config.json", &root, err);
	if (rc)
		return rc;
	fields_init(&fields, root, "config.json: ", err);
	read_tokens(&fields, config->vocab, &eos_known, &generation);
	json_decref(root);
	if (fields.rc == 0)
		*out = generation;
	return fields.rc;
}
