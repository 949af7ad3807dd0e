/* st_model.c - tiny checkpoints of every family (family -> config, tensors) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/st_model.h"

#define DEEPSEEK_FIELDS                                                        \
	"\"hidden_size\": 24, \"intermediate_size\": 20,\n"                    \
	" \"moe_intermediate_size\": 6, \"num_hidden_layers\": 3,\n"           \
	" \"num_attention_heads\": 2, \"num_key_value_heads\": 2,\n"           \
	" \"kv_lora_rank\": 10, \"qk_nope_head_dim\": 6,\n"                    \
	" \"qk_rope_head_dim\": 4, \"v_head_dim\": 5,\n"                       \
	" \"n_routed_experts\": 4, \"n_shared_experts\": 2,\n"                 \
	" \"num_experts_per_tok\": 2, \"first_k_dense_replace\": 1,\n"         \
	" \"max_position_embeddings\": 64, \"vocab_size\": 40,\n"              \
	" \"rms_norm_eps\": 1e-06, \"rope_theta\": 10000,\n"                   \
	" \"hidden_act\": \"silu\", \"eos_token_id\": 1"

#define DEEPSEEK_V3                                                            \
	"{\"model_type\": \"deepseek_v3\", \"q_lora_rank\": 8,\n"              \
	" \"n_group\": 2, \"topk_group\": 1, \"norm_topk_prob\": true,\n"      \
	" \"routed_scaling_factor\": 2.5, \"topk_method\": \"noaux_tc\",\n"    \
	" \"scoring_func\": \"sigmoid\",\n"                                    \
	" \"num_nextn_predict_layers\": 1,\n "

#define HEADS_FIELDS                                                           \
	"\"hidden_size\": 24, \"num_attention_heads\": 4,\n"                   \
	" \"max_position_embeddings\": 64, \"vocab_size\": 40,\n"              \
	" \"rope_theta\": 10000, \"hidden_act\": \"silu\",\n"                  \
	" \"num_experts_per_tok\": 2, \"eos_token_id\": 1"

static const char *const config_texts[FAMILY_COUNT] = {
	[FAMILY_DEEPSEEK_V2] =
		"{\"model_type\": \"deepseek_v2\", \"q_lora_rank\": null,\n"
		" \"topk_method\": \"greedy\",\n " DEEPSEEK_FIELDS "}",
	[FAMILY_DEEPSEEK_V3] = DEEPSEEK_V3 DEEPSEEK_FIELDS "}",
	[FAMILY_QWEN2_MOE] =
		"{\"model_type\": \"qwen2_moe\", \"num_experts\": 4,\n"
		" \"moe_intermediate_size\": 6, \"intermediate_size\": 20,\n"
		" \"shared_expert_intermediate_size\": 12,\n"
		" \"num_hidden_layers\": 3, \"mlp_only_layers\": [1],\n"
		" \"num_key_value_heads\": 2,\n " HEADS_FIELDS "}",
	[FAMILY_QWEN3_MOE] =
		"{\"model_type\": \"qwen3_moe\", \"num_experts\": 4,\n"
		" \"moe_intermediate_size\": 6, \"intermediate_size\": 20,\n"
		" \"num_hidden_layers\": 3, \"decoder_sparse_step\": 2,\n"
		" \"num_key_value_heads\": 2, \"head_dim\": 8,\n"
		" \"tie_word_embeddings\": true,\n " HEADS_FIELDS "}",
	[FAMILY_MIXTRAL] =
		"{\"model_type\": \"mixtral\", \"num_local_experts\": 4,\n"
		" \"intermediate_size\": 6, \"num_hidden_layers\": 2,\n"
		" \"num_key_value_heads\": 2,\n " HEADS_FIELDS "}",
	[FAMILY_OLMOE] =
		"{\"model_type\": \"olmoe\", \"num_experts\": 4,\n"
		" \"intermediate_size\": 6, \"num_hidden_layers\": 2,\n"
		" \"num_key_value_heads\": 2,\n " HEADS_FIELDS "}",
	[FAMILY_GRANITE_MOE] =
		"{\"model_type\": \"granitemoe\", \"num_local_experts\": 4,\n"
		" \"intermediate_size\": 6, \"num_hidden_layers\": 2,\n"
		" \"num_key_value_heads\": 2, \"logits_scaling\": 6,\n"
		" \"tie_word_embeddings\": true,\n " HEADS_FIELDS "}",
};

const char *st_model_config_text(enum model_family family)
{
	return config_texts[family];
}

const char *st_model_fp8_config_text(void)
{
	return DEEPSEEK_V3
		"\"quantization_config\": {\"quant_method\": \"fp8\",\n"
		"  \"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\",\n"
		"  \"weight_block_size\": [16, 8]},\n " DEEPSEEK_FIELDS "}";
}

/* Where the next tensors go. */
struct place {
	struct st_builder *b;
	const struct model_config *config;
	const char *type;
	char prefix[96]; /* before each name */
};

static void add(struct place *p, const char *name, uint32_t rank, ...)
{
	uint64_t shape[ST_RANK_MAX];
	char full[256];
	va_list args;

	va_start(args, rank);
	for (uint32_t i = 0; i < rank; i++)
		shape[i] = va_arg(args, uint32_t);
	va_end(args);
	snprintf(full, sizeof(full), "%s%s", p->prefix, name);
	st_add(p->b, full, p->type, rank, shape);
}

static uint64_t blocks(uint32_t size, uint32_t block)
{
	return (size + block - 1) / block;
}

/* A matrix of a linear layer: with scales where the model is in fp8. */
static void add_linear(
	struct place *p, const char *name, uint32_t rows, uint32_t cols)
{
	const struct model_config *c = p->config;
	uint64_t shape[] = {rows, cols};
	char full[256];

	snprintf(full, sizeof(full), "%s%s.weight", p->prefix, name);
	st_add(p->b, full, c->fp8 ? "F8_E4M3" : p->type, 2, shape);
	if (!c->fp8)
		return;
	shape[0] = blocks(rows, c->fp8_block_rows);
	shape[1] = blocks(cols, c->fp8_block_cols);
	snprintf(full, sizeof(full), "%s%s.weight_scale_inv", p->prefix, name);
	st_add(p->b, full, "F32", 2, shape);
}

static void add_mla(struct place *p)
{
	const struct model_config *c = p->config;
	uint32_t q = c->head_count * c->head_dim;

	if (c->q_lora_rank == 0) {
		add_linear(p, "self_attn.q_proj", q, c->hidden);
	} else {
		add_linear(p, "self_attn.q_a_proj", c->q_lora_rank, c->hidden);
		add(p, "self_attn.q_a_layernorm.weight", 1, c->q_lora_rank);
		add_linear(p, "self_attn.q_b_proj", q, c->q_lora_rank);
	}
	add_linear(p, "self_attn.kv_a_proj_with_mqa",
		c->kv_lora_rank + c->rope_dim, c->hidden);
	add(p, "self_attn.kv_a_layernorm.weight", 1, c->kv_lora_rank);
	add_linear(p, "self_attn.kv_b_proj",
		c->head_count * (c->nope_dim + c->value_dim), c->kv_lora_rank);
	add_linear(
		p, "self_attn.o_proj", c->hidden, c->head_count * c->value_dim);
}

static void add_attention(struct place *p)
{
	const struct model_config *c = p->config;
	uint32_t q = c->head_count * c->head_dim;
	uint32_t kv = c->kv_head_count * c->head_dim;
	bool full = c->family == FAMILY_OLMOE;

	if (c->attention == ATTENTION_MLA) {
		add_mla(p);
		return;
	}
	add_linear(p, "self_attn.q_proj", q, c->hidden);
	add_linear(p, "self_attn.k_proj", kv, c->hidden);
	add_linear(p, "self_attn.v_proj", kv, c->hidden);
	add_linear(p, "self_attn.o_proj", c->hidden, q);
	if (c->qkv_bias) {
		add(p, "self_attn.q_proj.bias", 1, q);
		add(p, "self_attn.k_proj.bias", 1, kv);
		add(p, "self_attn.v_proj.bias", 1, kv);
	}
	if (full || c->family == FAMILY_QWEN3_MOE) {
		add(p, "self_attn.q_norm.weight", 1, full ? q : c->head_dim);
		add(p, "self_attn.k_norm.weight", 1, full ? kv : c->head_dim);
	}
}

static void add_mlp(struct place *p, const char *name, uint32_t inter,
	const char *const parts[3])
{
	uint32_t hidden = p->config->hidden;
	char full[128];

	for (int i = 0; i < 3; i++) {
		snprintf(full, sizeof(full), "%s%s", name, parts[i]);
		add_linear(p, full, i < 2 ? inter : hidden,
			i < 2 ? hidden : inter);
	}
}

static const char *const plain_parts[3] = {"gate_proj", "up_proj", "down_proj"};
static const char *const mixtral_parts[3] = {"w1", "w3", "w2"};

static void add_router(struct place *p, enum st_layout_kind kind)
{
	const struct model_config *c = p->config;
	bool new = kind == ST_TRANSFORMERS5;
	const char *name = "mlp.gate.weight";

	if (c->family == FAMILY_GRANITE_MOE)
		name = new ? "block_sparse_moe.router.weight"
			   : "block_sparse_moe.router.layer.weight";
	if (c->family == FAMILY_MIXTRAL && !new)
		name = "block_sparse_moe.gate.weight";
	add(p, name, 2, c->router.expert_count, c->hidden);
	if (c->family == FAMILY_DEEPSEEK_V3)
		add(p, "mlp.gate.e_score_correction_bias", 1,
			c->router.expert_count);
}

static void add_experts(struct place *p, enum st_layout_kind kind)
{
	const struct model_config *c = p->config;
	uint32_t count = c->router.expert_count, inter = c->expert_inter;
	bool granite = c->family == FAMILY_GRANITE_MOE;
	bool mixtral = c->family == FAMILY_MIXTRAL;
	char name[64];

	if (kind == ST_TRANSFORMERS5 || granite) {
		const char *up = "mlp.experts.gate_up_proj";
		const char *down = "mlp.experts.down_proj";

		if (granite) {
			bool new = kind == ST_TRANSFORMERS5;

			up = new ? "block_sparse_moe.experts.gate_up_proj"
				 : "block_sparse_moe.input_linear.weight";
			down = new ? "block_sparse_moe.experts.down_proj"
				   : "block_sparse_moe.output_linear.weight";
		}
		add(p, up, 3, count, 2 * inter, c->hidden);
		add(p, down, 3, count, c->hidden, inter);
		return;
	}
	for (uint32_t e = 0; e < count; e++) {
		snprintf(name, sizeof(name), "%s.experts.%u.",
			mixtral ? "block_sparse_moe" : "mlp", e);
		add_mlp(p, name, inter, mixtral ? mixtral_parts : plain_parts);
	}
}

static void add_layer(
	struct place *p, uint32_t layer, bool moe, enum st_layout_kind kind)
{
	const struct model_config *c = p->config;

	snprintf(p->prefix, sizeof(p->prefix), "model.layers.%u.", layer);
	add(p, "input_layernorm.weight", 1, c->hidden);
	add_attention(p);
	add(p, "post_attention_layernorm.weight", 1, c->hidden);
	if (!moe) {
		add_mlp(p, "mlp.", c->dense_inter, plain_parts);
		return;
	}
	add_router(p, kind);
	add_experts(p, kind);
	if (c->family == FAMILY_QWEN2_MOE) {
		add_mlp(p, "mlp.shared_expert.", c->shared_inter, plain_parts);
		add(p, "mlp.shared_expert_gate.weight", 2, 1u, c->hidden);
	} else if (c->shared_inter > 0) {
		add_mlp(p, "mlp.shared_experts.", c->shared_inter, plain_parts);
	}
}

void st_model_add(struct st_builder *b, const struct model_config *config,
	enum st_layout_kind kind, const char *type)
{
	const struct model_config *c = config;
	struct place p = {.b = b, .config = c, .type = type};

	add(&p, "model.embed_tokens.weight", 2, c->vocab, c->hidden);
	for (uint32_t l = 0; l < c->layer_count; l++)
		add_layer(&p, l, c->is_moe[l], kind);
	p.prefix[0] = '\0';
	add(&p, "model.norm.weight", 1, c->hidden);
	if (!c->tied_head)
		add(&p, "lm_head.weight", 2, c->vocab, c->hidden);
}

void st_model_add_mtp(struct st_builder *b, const struct model_config *config)
{
	const struct model_config *c = config;
	struct place p = {.b = b, .config = c, .type = "BF16"};

	add_layer(&p, c->layer_count, true, ST_PUBLISHED);
	add(&p, "embed_tokens.weight", 2, c->vocab, c->hidden);
	add(&p, "enorm.weight", 1, c->hidden);
	add(&p, "hnorm.weight", 1, c->hidden);
	add(&p, "eh_proj.weight", 2, c->hidden, 2 * c->hidden);
	add(&p, "shared_head.norm.weight", 1, c->hidden);
	add(&p, "shared_head.head.weight", 2, c->vocab, c->hidden);
}
