/* roles.c - which tensors a model needs, and their shapes (config -> shape) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "engine/names.h"

static const char *const role_names[ROLE_COUNT] = {
	[ROLE_EMBED] = "embed",
	[ROLE_FINAL_NORM] = "final_norm",
	[ROLE_HEAD] = "head",
	[ROLE_ATTENTION_NORM] = "attention_norm",
	[ROLE_Q] = "q",
	[ROLE_K] = "k",
	[ROLE_V] = "v",
	[ROLE_O] = "o",
	[ROLE_Q_BIAS] = "q_bias",
	[ROLE_K_BIAS] = "k_bias",
	[ROLE_V_BIAS] = "v_bias",
	[ROLE_Q_NORM] = "q_norm",
	[ROLE_K_NORM] = "k_norm",
	[ROLE_Q_A] = "q_a",
	[ROLE_Q_A_NORM] = "q_a_norm",
	[ROLE_Q_B] = "q_b",
	[ROLE_KV_A] = "kv_a",
	[ROLE_KV_A_NORM] = "kv_a_norm",
	[ROLE_KV_B] = "kv_b",
	[ROLE_MLP_NORM] = "mlp_norm",
	[ROLE_DENSE_GATE] = "dense_gate",
	[ROLE_DENSE_UP] = "dense_up",
	[ROLE_DENSE_DOWN] = "dense_down",
	[ROLE_ROUTER] = "router",
	[ROLE_ROUTER_BIAS] = "router_bias",
	[ROLE_SHARED_GATE] = "shared_gate",
	[ROLE_SHARED_UP] = "shared_up",
	[ROLE_SHARED_DOWN] = "shared_down",
	[ROLE_SHARED_SIGMOID] = "shared_sigmoid",
	[ROLE_EXPERT_GATE] = "expert_gate",
	[ROLE_EXPERT_UP] = "expert_up",
	[ROLE_EXPERT_GATE_UP] = "expert_gate_up",
	[ROLE_EXPERT_DOWN] = "expert_down",
};

const char *tensor_role_name(enum tensor_role role)
{
	assert((unsigned)role < ROLE_COUNT);
	return role_names[role];
}

static bool matrix(
	bool needed, uint32_t rows, uint32_t cols, struct role_shape *out)
{
	*out = (struct role_shape){.rows = rows, .cols = cols};
	return needed;
}

static bool vector(bool needed, uint32_t cols, struct role_shape *out)
{
	*out = (struct role_shape){.rows = 1, .cols = cols, .vector = true};
	return needed;
}

static bool expert(
	bool needed, uint32_t rows, uint32_t cols, struct role_shape *out)
{
	*out = (struct role_shape){.rows = rows, .cols = cols, .expert = true};
	return needed;
}

/* Width of the K norm relative to the Q norm: full width or one head. */
static uint32_t norm_width(const struct model_config *c, uint32_t head_count)
{
	return c->qk_norm == QK_NORM_FULL ? head_count * c->head_dim
					  : c->head_dim;
}

static bool attention_shape(const struct model_config *c, enum tensor_role role,
	struct role_shape *out)
{
	bool mla = c->attention == ATTENTION_MLA;
	bool lora = mla && c->q_lora_rank > 0;
	bool norm = c->qk_norm != QK_NORM_NONE;
	uint32_t q = c->head_count * c->head_dim;
	uint32_t k = c->kv_head_count * c->head_dim;
	uint32_t v = c->kv_head_count * c->value_dim;

	switch (role) {
	case ROLE_Q:
		return matrix(!lora, q, c->hidden, out);
	case ROLE_K:
		return matrix(!mla, k, c->hidden, out);
	case ROLE_V:
		return matrix(!mla, v, c->hidden, out);
	case ROLE_O:
		return matrix(
			true, c->hidden, c->head_count * c->value_dim, out);
	case ROLE_Q_BIAS:
		return vector(c->qkv_bias, q, out);
	case ROLE_K_BIAS:
		return vector(c->qkv_bias, k, out);
	case ROLE_V_BIAS:
		return vector(c->qkv_bias, v, out);
	case ROLE_Q_NORM:
		return vector(norm, norm_width(c, c->head_count), out);
	case ROLE_K_NORM:
		return vector(norm, norm_width(c, c->kv_head_count), out);
	case ROLE_Q_A:
		return matrix(lora, c->q_lora_rank, c->hidden, out);
	case ROLE_Q_A_NORM:
		return vector(lora, c->q_lora_rank, out);
	case ROLE_Q_B:
		return matrix(lora, q, c->q_lora_rank, out);
	case ROLE_KV_A:
		return matrix(
			mla, c->kv_lora_rank + c->rope_dim, c->hidden, out);
	case ROLE_KV_A_NORM:
		return vector(mla, c->kv_lora_rank, out);
	case ROLE_KV_B:
		return matrix(mla, c->head_count * (c->nope_dim + c->value_dim),
			c->kv_lora_rank, out);
	default:
		return false;
	}
}

static bool mlp_shape(const struct model_config *c, enum tensor_role role,
	bool moe, struct role_shape *out)
{
	bool shared = moe && c->shared_inter > 0;
	uint32_t experts = c->router.expert_count;

	switch (role) {
	case ROLE_DENSE_GATE:
	case ROLE_DENSE_UP:
		return matrix(!moe, c->dense_inter, c->hidden, out);
	case ROLE_DENSE_DOWN:
		return matrix(!moe, c->hidden, c->dense_inter, out);
	case ROLE_ROUTER:
		return matrix(moe, experts, c->hidden, out);
	case ROLE_ROUTER_BIAS:
		return vector(moe && c->router_bias, experts, out);
	case ROLE_SHARED_GATE:
	case ROLE_SHARED_UP:
		return matrix(shared, c->shared_inter, c->hidden, out);
	case ROLE_SHARED_DOWN:
		return matrix(shared, c->hidden, c->shared_inter, out);
	case ROLE_SHARED_SIGMOID:
		return matrix(shared && c->shared_gate, 1, c->hidden, out);
	case ROLE_EXPERT_GATE:
	case ROLE_EXPERT_UP:
		return expert(moe, c->expert_inter, c->hidden, out);
	case ROLE_EXPERT_GATE_UP:
		return expert(moe, 2 * c->expert_inter, c->hidden, out);
	case ROLE_EXPERT_DOWN:
		return expert(moe, c->hidden, c->expert_inter, out);
	default:
		return false;
	}
}

bool role_shape(const struct model_config *config, enum tensor_role role,
	uint32_t layer, struct role_shape *out)
{
	const struct model_config *c = config;

	assert(layer < c->layer_count);
	switch (role) {
	case ROLE_EMBED:
		return matrix(layer == 0, c->vocab, c->hidden, out);
	case ROLE_HEAD:
		return matrix(
			layer == 0 && !c->tied_head, c->vocab, c->hidden, out);
	case ROLE_FINAL_NORM:
		return vector(layer == 0, c->hidden, out);
	case ROLE_ATTENTION_NORM:
	case ROLE_MLP_NORM:
		return vector(true, c->hidden, out);
	default:
		return attention_shape(c, role, out) ||
		       mlp_shape(c, role, c->is_moe[layer], out);
	}
}

uint32_t model_moe_layer(const struct model_config *config, uint32_t layer)
{
	uint32_t moe_layer = 0;

	assert(layer < config->layer_count && config->is_moe[layer]);
	for (uint32_t l = 0; l < layer; l++)
		moe_layer += config->is_moe[l];
	return moe_layer;
}

uint32_t model_layer(const struct model_config *config, uint32_t moe_layer)
{
	uint32_t layer = 0;

	assert(moe_layer < config->moe_layer_count);
	while (!config->is_moe[layer] || moe_layer-- > 0)
		layer++;
	assert(layer < config->layer_count);
	return layer;
}
