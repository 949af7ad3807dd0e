/* model.h - what a model is: families, shapes, constants of one forward pass */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   seven families of checkpoints differ in names and in a handful of
 *        semantics; everything after config.json speaks of this struct only
 *        and never asks which family it came from (except to print it).
 * Invariants: filled only by model_config_parse(), which refuses what this
 *        engine would compute differently from the original: an unknown
 *        family, activation, rope scaling, quantisation, or a field whose
 *        value changes the arithmetic and is not supported.
 * Ownership: plain data, no pointers.
 * Threads: immutable after parse.
 */
#ifndef HEDDLE_ENGINE_MODEL_H
#define HEDDLE_ENGINE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "gpu/ops.h"

enum model_family {
	FAMILY_DEEPSEEK_V2,
	FAMILY_DEEPSEEK_V3,
	FAMILY_QWEN2_MOE,
	FAMILY_QWEN3_MOE,
	FAMILY_MIXTRAL,
	FAMILY_OLMOE,
	FAMILY_GRANITE_MOE,
	FAMILY_COUNT
};

/* The model_type of config.json: "deepseek_v2", ... */
const char *model_family_name(enum model_family family);

enum model_attention {
	ATTENTION_HEADS, /* K and V heads, grouped (MHA is the case kv = q) */
	ATTENTION_MLA /* one latent per token (DeepSeek-V2, section 2.1) */
};

enum model_qk_norm {
	QK_NORM_NONE,
	QK_NORM_HEAD, /* RMSNorm over each head, after the split (Qwen3) */
	QK_NORM_FULL /* RMSNorm over the full width, before it (OLMoE) */
};

struct model_rope {
	uint32_t dim; /* rotary elements per head */
	bool interleaved; /* pairs (2i, 2i+1), as in DeepSeek */
	float scale; /* on cos and sin: YaRN's mscale ratio, else 1 */
	float inv_freq[MODEL_HEAD_DIM_MAX / 2]; /* [dim / 2] */
};

struct model_config {
	enum model_family family;
	uint32_t vocab, hidden, layer_count;
	uint32_t position_count; /* max_position_embeddings */
	float norm_epsilon;
	bool tied_head; /* lm_head is the embedding */

	enum model_attention attention;
	uint32_t head_count, kv_head_count; /* kv_head_count 1 for MLA */
	uint32_t head_dim; /* of q and k; MLA: nope + rope */
	uint32_t q_lora_rank; /* MLA; 0 = plain q_proj */
	uint32_t kv_lora_rank, nope_dim, rope_dim; /* MLA */
	uint32_t value_dim; /* per head */
	bool qkv_bias;
	enum model_qk_norm qk_norm;
	float qkv_clip; /* 0 = none (OLMoE's clip_qkv) */
	float attention_scale; /* softmax scale, mscale^2 included */
	uint32_t window[MODEL_LAYER_COUNT_MAX]; /* sliding window, 0 = all */
	struct model_rope rope;

	bool is_moe[MODEL_LAYER_COUNT_MAX];
	uint32_t moe_layer_count;
	uint32_t dense_inter; /* width of dense layers' MLP */
	uint32_t expert_inter;
	uint32_t shared_inter; /* all shared experts as one MLP; 0 = none */
	bool shared_gate; /* sigmoid gate on the shared expert (Qwen2) */
	bool router_bias; /* e_score_correction_bias is expected */
	struct router_params router;

	float embed_scale, residual_scale, logit_scale; /* factors; 1 = none */

	bool fp8; /* weights come as F8_E4M3 with block scales */
	uint32_t fp8_block_rows, fp8_block_cols;
	uint32_t mtp_layer_count; /* next-token-prediction layers that the
				     files may hold and we do not load */
};

#define EOS_TOKEN_COUNT_MAX 16

/* From generation_config.json, and config.json where that is silent. */
struct generation_config {
	uint32_t eos[EOS_TOKEN_COUNT_MAX];
	uint32_t eos_count;
	uint32_t bos; /* UINT32_MAX = none */
	bool has_sampling; /* do_sample was true */
	float temperature, top_p; /* 1, 1 where absent */
	uint32_t top_k; /* 0 where absent */
	float repetition_penalty; /* 1 where absent */
};

/*
 * Parse the text of config.json. name is used in errors ("config.json").
 * -EINVAL with a text that names the field, -ENOMEM.
 */
int model_config_parse(const char *text, size_t length, const char *name,
	struct model_config *out, struct error *err);

/*
 * Parse generation_config.json; text may be NULL (no such file). Takes eos
 * and bos from the text of config.json where the former is silent.
 */
int generation_config_parse(const char *text, size_t length,
	const char *config_text, size_t config_length,
	const struct model_config *config, struct generation_config *out,
	struct error *err);

/* Width of K and of V per token and layer in the KV cache (memmgr/kv.h). */
uint32_t model_key_width(const struct model_config *config);
uint32_t model_value_width(const struct model_config *config);

#endif
