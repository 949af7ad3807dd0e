/* config.c - what a model is (config.json -> struct model_config) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "engine/config_parts.h"

static const struct {
	const char *name;
	double norm_epsilon; /* where rms_norm_eps is absent */
} families[FAMILY_COUNT] = {
	[FAMILY_DEEPSEEK_V2] = {"deepseek_v2", 1e-6},
	[FAMILY_DEEPSEEK_V3] = {"deepseek_v3", 1e-6},
	[FAMILY_QWEN2_MOE] = {"qwen2_moe", 1e-6},
	[FAMILY_QWEN3_MOE] = {"qwen3_moe", 1e-6},
	[FAMILY_MIXTRAL] = {"mixtral", 1e-5},
	[FAMILY_OLMOE] = {"olmoe", 1e-5},
	[FAMILY_GRANITE_MOE] = {"granitemoe", 1e-6},
};

/* Far more than any published config.json holds. */
static const struct json_bounds config_bounds = {
	.object_max = 4096,
	.array_max = 4096,
	.separator_max = 65536,
};

const char *model_family_name(enum model_family family)
{
	assert((unsigned)family < FAMILY_COUNT);
	return families[family].name;
}

static void read_family(struct fields *fields, enum model_family *out)
{
	const char *text = fields_text_or(fields, "model_type", NULL);

	if (!text) {
		fields_refuse(fields, "model_type", "is missing");
		return;
	}
	for (unsigned i = 0; i < FAMILY_COUNT; i++) {
		if (strcmp(text, families[i].name) != 0)
			continue;
		*out = (enum model_family)i;
		return;
	}
	fields_refuse(fields, "model_type",
		"is \"%.40s\", which is not supported", text);
}

static void read_common(struct fields *fields, struct model_config *config)
{
	config->vocab = fields_u32(fields, "vocab_size", 1, MODEL_VOCAB_MAX);
	config->hidden = fields_u32(fields, "hidden_size", 1, MODEL_HIDDEN_MAX);
	config->layer_count = fields_u32(
		fields, "num_hidden_layers", 1, MODEL_LAYER_COUNT_MAX);
	config->head_count = fields_u32(
		fields, "num_attention_heads", 1, MODEL_HEAD_COUNT_MAX);
	config->position_count = fields_u32(
		fields, "max_position_embeddings", 1, MODEL_POSITION_COUNT_MAX);
	config->norm_epsilon = (float)fields_number_or(fields, "rms_norm_eps",
		1e-12, 1, families[config->family].norm_epsilon);
	config->tied_head =
		fields_bool_or(fields, "tie_word_embeddings", false);
	fields_expect(fields, "hidden_act", "silu");
}

static int read_config(
	json_t *root, struct model_config *out, struct error *err)
{
	struct model_config config = {0};
	struct fields fields;

	fields_init(&fields, root, "", err);
	read_family(&fields, &config.family);
	if (fields.rc)
		return fields.rc;
	read_common(&fields, &config);
	config_read_family(&fields, &config);
	rope_read(&fields, &config);
	if (fields.rc == 0)
		*out = config;
	return fields.rc;
}

int model_config_parse(const char *text, size_t length, const char *name,
	struct model_config *out, struct error *err)
{
	json_t *root;
	int rc;

	assert(text && name && out);
	rc = json_text_parse(text, length, &config_bounds, &root, err);
	if (rc == 0) {
		rc = read_config(root, out, err);
		json_decref(root);
	}
	if (rc)
		error_prefix(err, "%s", name);
	return rc;
}

uint32_t model_key_width(const struct model_config *config)
{
	if (config->attention == ATTENTION_MLA)
		return config->kv_lora_rank + config->rope_dim;
	return config->kv_head_count * config->head_dim;
}

uint32_t model_value_width(const struct model_config *config)
{
	if (config->attention == ATTENTION_MLA)
		return 0;
	return config->kv_head_count * config->value_dim;
}
