/* config_families.c - what differs between families (config.json -> config) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: the configuration and modelling files of transformers (4.x and
 * 5.x) and of DeepSeek's own repositories. Where the library and DeepSeek's
 * code disagree, DeepSeek's code is the original.
 */
#include <math.h>
#include <string.h>

#include "engine/config_parts.h"

#define IN(family) (1u << (family))
#define DEEPSEEK (IN(FAMILY_DEEPSEEK_V2) | IN(FAMILY_DEEPSEEK_V3))
#define QWEN (IN(FAMILY_QWEN2_MOE) | IN(FAMILY_QWEN3_MOE))

/*
 * Fields that change the arithmetic and are honoured in some families only.
 * In the others they are refused unless they say what happens anyway: false
 * (null, false, 0) or 1.
 */
static const struct {
	const char *key;
	unsigned families; /* that read it themselves */
	double neutral;
} arithmetic_fields[] = {
	{"attention_bias", 0, 0},
	{"mlp_bias", 0, 0},
	{"qkv_bias", IN(FAMILY_QWEN2_MOE), 0},
	{"use_qk_norm", 0, 0},
	{"qk_layernorm", 0, 0},
	{"clip_qkv", IN(FAMILY_OLMOE), 0},
	{"sliding_window", QWEN | IN(FAMILY_MIXTRAL), 0},
	{"use_sliding_window", QWEN, 0},
	{"attention_chunk_size", 0, 0},
	{"attn_logit_softcapping", 0, 0},
	{"final_logit_softcapping", 0, 0},
	{"query_pre_attn_scalar", 0, 0},
	{"partial_rotary_factor", 0, 1},
	{"embedding_multiplier", IN(FAMILY_GRANITE_MOE), 1},
	{"residual_multiplier", IN(FAMILY_GRANITE_MOE), 1},
	{"logits_scaling", IN(FAMILY_GRANITE_MOE), 1},
	{"attention_multiplier", IN(FAMILY_GRANITE_MOE), 1},
	{"routed_scaling_factor", DEEPSEEK, 1},
	{"n_group", DEEPSEEK, 1},
	{"topk_group", DEEPSEEK, 1},
	{"n_shared_experts", DEEPSEEK, 0},
	{"first_k_dense_replace", DEEPSEEK, 0},
	{"moe_layer_freq", DEEPSEEK, 1},
	{"shared_expert_intermediate_size", IN(FAMILY_QWEN2_MOE), 0},
	{"shared_intermediate_size", 0, 0},
	{"decoder_sparse_step", QWEN, 1},
};

static bool is_neutral(const json_t *value, double neutral)
{
	if (!value || json_is_null(value))
		return true;
	if (json_is_boolean(value))
		return !json_is_true(value);
	return json_is_number(value) && json_number_value(value) == neutral;
}

static void refuse_foreign(struct fields *fields, enum model_family family)
{
	size_t count = sizeof(arithmetic_fields) / sizeof(arithmetic_fields[0]);

	for (size_t i = 0; i < count; i++) {
		const char *key = arithmetic_fields[i].key;
		const json_t *value = json_object_get(fields->object, key);

		if (!(arithmetic_fields[i].families & IN(family)) &&
			!is_neutral(value, arithmetic_fields[i].neutral))
			fields_refuse(fields, key,
				"is set, which is not supported for %s",
				model_family_name(family));
	}
}

/* ---- attention ---- */

static void read_mla(struct fields *fields, struct model_config *config)
{
	uint32_t kv_heads;

	config->attention = ATTENTION_MLA;
	kv_heads = fields_u32_or(fields, "num_key_value_heads", 1,
		MODEL_HEAD_COUNT_MAX, config->head_count);
	if (kv_heads != config->head_count)
		fields_refuse(fields, "num_key_value_heads",
			"is %u, latent attention has one for each of %u heads",
			kv_heads, config->head_count);
	config->kv_head_count = 1;
	/* null is a plain q_proj; absent is someone's default. */
	if (!json_object_get(fields->object, "q_lora_rank"))
		fields_refuse(fields, "q_lora_rank", "is missing");
	config->q_lora_rank =
		fields_u32_or(fields, "q_lora_rank", 1, MODEL_HIDDEN_MAX, 0);
	config->kv_lora_rank =
		fields_u32(fields, "kv_lora_rank", 1, MODEL_HEAD_DIM_MAX);
	config->nope_dim =
		fields_u32(fields, "qk_nope_head_dim", 1, MODEL_HEAD_DIM_MAX);
	config->rope_dim =
		fields_u32(fields, "qk_rope_head_dim", 2, MODEL_HEAD_DIM_MAX);
	config->value_dim =
		fields_u32(fields, "v_head_dim", 1, MODEL_HEAD_DIM_MAX);
	config->head_dim = config->nope_dim + config->rope_dim;
	if (config->head_dim > MODEL_HEAD_DIM_MAX)
		fields_refuse(fields, "qk_nope_head_dim",
			"and qk_rope_head_dim are %u together, at most %u",
			config->head_dim, MODEL_HEAD_DIM_MAX);
	if (config->kv_lora_rank + config->rope_dim > MODEL_HEAD_DIM_MAX)
		fields_refuse(fields, "kv_lora_rank",
			"and qk_rope_head_dim are %u together, at most %u",
			config->kv_lora_rank + config->rope_dim,
			MODEL_HEAD_DIM_MAX);
	config->attention_scale = (float)(1 / sqrt(config->head_dim));
}

static void read_head_dim(struct fields *fields, struct model_config *config)
{
	if (fields_has(fields, "head_dim")) {
		config->head_dim =
			fields_u32(fields, "head_dim", 2, MODEL_HEAD_DIM_MAX);
	} else {
		config->head_dim = config->hidden / config->head_count;
		if (config->hidden % config->head_count ||
			config->head_dim > MODEL_HEAD_DIM_MAX)
			fields_refuse(fields, "hidden_size",
				"is %u, which %u heads do not divide into "
				"at most %u each",
				config->hidden, config->head_count,
				MODEL_HEAD_DIM_MAX);
	}
	/* OLMoE's norms have the width of the hidden state. */
	if (config->family == FAMILY_OLMOE &&
		config->head_dim * config->head_count != config->hidden)
		fields_refuse(fields, "head_dim",
			"is %u, expected hidden_size / num_attention_heads",
			config->head_dim);
}

static void read_heads(struct fields *fields, struct model_config *config)
{
	config->attention = ATTENTION_HEADS;
	/* null is one for each head; absent is a number of the class. */
	if (!json_object_get(fields->object, "num_key_value_heads") &&
		(family_is_qwen(config->family) ||
			config->family == FAMILY_MIXTRAL))
		fields_refuse(fields, "num_key_value_heads", "is missing");
	config->kv_head_count = fields_u32_or(fields, "num_key_value_heads", 1,
		MODEL_HEAD_COUNT_MAX, config->head_count);
	if (config->head_count % config->kv_head_count)
		fields_refuse(fields, "num_key_value_heads",
			"is %u, which does not divide %u heads",
			config->kv_head_count, config->head_count);
	read_head_dim(fields, config);
	config->value_dim = config->head_dim;
	config->attention_scale = (float)(1 / sqrt(config->head_dim));
	if (config->family == FAMILY_QWEN2_MOE)
		config->qkv_bias = fields_bool_or(fields, "qkv_bias", true);
	if (config->family == FAMILY_QWEN3_MOE)
		config->qk_norm = QK_NORM_HEAD;
	if (config->family == FAMILY_OLMOE) {
		config->qk_norm = QK_NORM_FULL;
		config->qkv_clip = (float)fields_number_or(
			fields, "clip_qkv", 1e-6, 1e6, 0);
	}
}

/* ---- sliding windows ---- */

/*
 * The first layer with a window, by the family's own rule. Qwen's first
 * max_window_layers layers see everything. Newer versions of the library no
 * longer read that field of Qwen3.
 */
static uint32_t first_window_layer(
	struct fields *fields, const struct model_config *config)
{
	uint32_t first;

	if (config->family == FAMILY_MIXTRAL)
		return 0;
	if (!fields_bool_or(fields, "use_sliding_window", false))
		return config->layer_count;
	first = fields_u32_or(fields, "max_window_layers", 0,
		MODEL_LAYER_COUNT_MAX,
		config->family == FAMILY_QWEN2_MOE ? 28 : 0);
	if (config->family == FAMILY_QWEN3_MOE && first > 0)
		fields_refuse(fields, "max_window_layers",
			"is %u with a sliding window: versions of the "
			"original disagree on what that means",
			first);
	return first;
}

/* layer_types[layer], which only Qwen2 lets decide; others have to agree. */
static void apply_layer_type(struct fields *fields, const json_t *type,
	uint32_t layer, uint32_t window, struct model_config *config)
{
	const char *text = json_string_value(type);
	bool slides;

	if (!text || (strcmp(text, "full_attention") != 0 &&
			     strcmp(text, "sliding_attention") != 0)) {
		fields_refuse(fields, "layer_types",
			"[%u] is \"%.40s\", which is not supported", layer,
			text ? text : "");
		return;
	}
	slides = !strcmp(text, "sliding_attention");
	if (slides && window == 0)
		fields_refuse(fields, "layer_types",
			"[%u] slides, but there is no sliding_window", layer);
	if (config->family != FAMILY_QWEN2_MOE &&
		slides != (config->window[layer] > 0))
		fields_refuse(fields, "layer_types",
			"[%u] contradicts sliding_window", layer);
	config->window[layer] = slides ? window : 0;
}

static void read_windows(struct fields *fields, struct model_config *config)
{
	json_t *types = fields_array(fields, "layer_types");
	uint32_t window = 0, first = config->layer_count;

	if (family_is_qwen(config->family) ||
		config->family == FAMILY_MIXTRAL) {
		first = first_window_layer(fields, config);
		/* Without use_sliding_window the field may say anything. */
		if (first < config->layer_count ||
			fields_bool_or(fields, "use_sliding_window", false))
			window = fields_u32_or(fields, "sliding_window", 1,
				MODEL_POSITION_COUNT_MAX, 0);
	}
	for (uint32_t l = first; l < config->layer_count; l++)
		config->window[l] = window;
	if (!types)
		return;
	if (json_array_size(types) != config->layer_count) {
		fields_refuse(fields, "layer_types",
			"has %zu entries, expected %u", json_array_size(types),
			config->layer_count);
		return;
	}
	for (uint32_t l = 0; l < config->layer_count; l++)
		apply_layer_type(
			fields, json_array_get(types, l), l, window, config);
}

/* ---- the rest ---- */

static void read_granite(struct fields *fields, struct model_config *config)
{
	config->embed_scale = (float)fields_number_or(
		fields, "embedding_multiplier", 1e-6, 1e6, 1);
	config->residual_scale = (float)fields_number_or(
		fields, "residual_multiplier", 1e-6, 1e6, 1);
	config->logit_scale =
		(float)(1 / fields_number_or(
				    fields, "logits_scaling", 1e-6, 1e6, 1));
	config->attention_scale = (float)fields_number_or(
		fields, "attention_multiplier", 1e-6, 1e6, 1);
	fields_expect(fields, "position_embedding_type", "rope");
}

/* Blocks of e4m3 with one scale each; nothing else is expanded here. */
static void read_quantization(
	struct fields *fields, struct model_config *config)
{
	json_t *object = fields_object(fields, "quantization_config");
	unsigned expands = DEEPSEEK | QWEN;
	struct fields quant;
	json_t *block;

	if (!object)
		return;
	if (!(expands & IN(config->family))) {
		fields_refuse(fields, "quantization_config",
			"is not supported for %s",
			model_family_name(config->family));
		return;
	}
	fields_init(&quant, object, "quantization_config.", fields->err);
	if (!fields_has(&quant, "quant_method"))
		fields_refuse(&quant, "quant_method", "is missing");
	fields_expect(&quant, "quant_method", "fp8");
	fields_expect(&quant, "fmt", "e4m3");
	fields_expect(&quant, "activation_scheme", "dynamic");
	block = fields_array(&quant, "weight_block_size");
	config->fp8 = true;
	if (json_array_size(block) != 2 ||
		!json_u32_ok(json_array_get(block, 0), MODEL_HIDDEN_MAX,
			&config->fp8_block_rows) ||
		!json_u32_ok(json_array_get(block, 1), MODEL_HIDDEN_MAX,
			&config->fp8_block_cols) ||
		config->fp8_block_rows == 0 || config->fp8_block_cols == 0)
		fields_refuse(&quant, "weight_block_size",
			"is not [rows, columns], each 1 to %u",
			MODEL_HIDDEN_MAX);
	if (quant.rc)
		fields->rc = quant.rc;
}

/* transformers 5 has a second name for the field. */
static void read_mtp(struct fields *fields, struct model_config *config)
{
	const char *key = fields_has(fields, "num_mtp_layers")
				  ? "num_mtp_layers"
				  : "num_nextn_predict_layers";

	config->mtp_layer_count = fields_u32_or(fields, key, 0, 16, 0);
}

void config_read_family(struct fields *fields, struct model_config *config)
{
	refuse_foreign(fields, config->family);
	if (family_is_deepseek(config->family))
		read_mla(fields, config);
	else
		read_heads(fields, config);
	read_windows(fields, config);
	config_read_layers(fields, config);
	config_read_experts(fields, config);
	config_read_router(fields, config);
	config->embed_scale = 1;
	config->residual_scale = 1;
	config->logit_scale = 1;
	if (config->family == FAMILY_GRANITE_MOE)
		read_granite(fields, config);
	if (config->family == FAMILY_DEEPSEEK_V3)
		read_mtp(fields, config);
	read_quantization(fields, config);
}
