/* config_experts.c - layers with experts, their widths, the router (-> config) */
/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: see config_families.c. */
#include <string.h>

#include "engine/config_parts.h"

/* DeepSeek adds this to the sum that chosen weights are divided by. */
#define SUM_EPSILON 1e-20f

/* ---- which layers have experts ---- */

static void mark_deepseek_layers(
	struct fields *fields, struct model_config *config)
{
	uint32_t first, step;

	if (!fields_has(fields, "first_k_dense_replace"))
		fields_refuse(fields, "first_k_dense_replace", "is missing");
	first = fields_u32_or(
		fields, "first_k_dense_replace", 0, MODEL_LAYER_COUNT_MAX, 0);
	step = fields_u32_or(
		fields, "moe_layer_freq", 1, MODEL_LAYER_COUNT_MAX, 1);
	for (uint32_t l = first; l < config->layer_count; l++)
		config->is_moe[l] = l % step == 0;
}

static void mark_qwen_layers(struct fields *fields, struct model_config *config)
{
	json_t *dense = fields_array(fields, "mlp_only_layers");
	uint32_t step = fields_u32_or(
		fields, "decoder_sparse_step", 1, MODEL_LAYER_COUNT_MAX, 1);
	uint32_t layer;

	for (uint32_t l = 0; l < config->layer_count; l++)
		config->is_moe[l] = (l + 1) % step == 0;
	for (size_t i = 0; i < json_array_size(dense); i++) {
		if (json_u32_ok(json_array_get(dense, i),
			    config->layer_count - 1, &layer))
			config->is_moe[layer] = false;
		else
			fields_refuse(fields, "mlp_only_layers",
				"[%zu] is no layer of this model", i);
	}
}

void config_read_layers(struct fields *fields, struct model_config *config)
{
	if (family_is_deepseek(config->family)) {
		mark_deepseek_layers(fields, config);
	} else if (family_is_qwen(config->family)) {
		mark_qwen_layers(fields, config);
	} else {
		for (uint32_t l = 0; l < config->layer_count; l++)
			config->is_moe[l] = true;
	}
	for (uint32_t l = 0; l < config->layer_count; l++)
		config->moe_layer_count += config->is_moe[l];
	if (config->moe_layer_count == 0)
		fields_refuse(fields, "num_hidden_layers",
			"is %u, and no layer among them has experts",
			config->layer_count);
	if (config->moe_layer_count < config->layer_count)
		config->dense_inter = fields_u32(
			fields, "intermediate_size", 1, MODEL_INTERMEDIATE_MAX);
}

/* ---- experts ---- */

/*
 * Families named the field differently, and transformers 5 writes Qwen3's
 * num_experts as num_local_experts.
 */
static uint32_t read_expert_count(struct fields *fields)
{
	static const char *const keys[] = {
		"n_routed_experts", "num_experts", "num_local_experts"};
	uint32_t count = 0, other;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!fields_has(fields, keys[i]))
			continue;
		other = fields_u32(fields, keys[i], 1, MODEL_EXPERT_COUNT_MAX);
		if (count > 0 && other != count)
			fields_refuse(fields, keys[i],
				"is %u, another field says %u experts", other,
				count);
		count = other;
	}
	if (count == 0)
		fields_refuse(fields, "num_experts", "is missing");
	return count;
}

static void read_shared(struct fields *fields, struct model_config *config)
{
	uint32_t count;

	if (config->family == FAMILY_QWEN2_MOE) {
		config->shared_inter =
			fields_u32(fields, "shared_expert_intermediate_size", 1,
				MODEL_INTERMEDIATE_MAX);
		config->shared_gate = true;
	}
	if (!family_is_deepseek(config->family))
		return;
	/* null is none; absent is someone's default. */
	if (!json_object_get(fields->object, "n_shared_experts"))
		fields_refuse(fields, "n_shared_experts", "is missing");
	count = fields_u32_or(
		fields, "n_shared_experts", 0, MODEL_EXPERT_COUNT_MAX, 0);
	if (count > MODEL_INTERMEDIATE_MAX / config->expert_inter)
		fields_refuse(fields, "n_shared_experts",
			"is %u, at most %u wide together", count,
			MODEL_INTERMEDIATE_MAX);
	else
		config->shared_inter = count * config->expert_inter;
}

void config_read_experts(struct fields *fields, struct model_config *config)
{
	struct router_params *router = &config->router;
	bool own_width = family_is_deepseek(config->family) ||
			 family_is_qwen(config->family);

	router->expert_count = read_expert_count(fields);
	router->topk =
		fields_u32(fields, "num_experts_per_tok", 1, MODEL_TOPK_MAX);
	if (router->topk > router->expert_count)
		fields_refuse(fields, "num_experts_per_tok",
			"is %u of %u experts", router->topk,
			router->expert_count);
	config->expert_inter = fields_u32(fields,
		own_width ? "moe_intermediate_size" : "intermediate_size", 1,
		MODEL_INTERMEDIATE_MAX);
	read_shared(fields, config);
}

/* ---- the router ---- */

static void read_groups(struct fields *fields, enum router_group group,
	struct router_params *router)
{
	uint32_t count =
		fields_u32_or(fields, "n_group", 1, MODEL_GROUP_COUNT_MAX, 1);
	uint32_t each;

	router->group_count = 1;
	router->group_topk = 1;
	if (group == ROUTER_GROUP_NONE || count == 1)
		return;
	router->group = group;
	router->group_count = count;
	router->group_topk = fields_u32(fields, "topk_group", 1, count);
	each = router->expert_count / count;
	if (router->expert_count % count)
		fields_refuse(fields, "n_group",
			"is %u, which does not divide %u experts", count,
			router->expert_count);
	else if (group == ROUTER_GROUP_TOP2 && each < 2)
		fields_refuse(fields, "n_group",
			"is %u for %u experts, a group needs two", count,
			router->expert_count);
	else if (router->topk > router->group_topk * each)
		fields_refuse(fields, "num_experts_per_tok",
			"is %u, %u groups have %u experts", router->topk,
			router->group_topk, router->group_topk * each);
}

/*
 * DeepSeek-V2: with norm_topk_prob and more than one expert the weights are
 * normalised and not scaled, else scaled and not normalised.
 */
static void read_router_v2(struct fields *fields, struct router_params *router)
{
	const char *method = fields_text_or(fields, "topk_method", "greedy");
	bool greedy = !strcmp(method, "greedy");

	if (!greedy && strcmp(method, "group_limited_greedy") != 0)
		fields_refuse(fields, "topk_method",
			"is \"%.40s\", expected greedy or "
			"group_limited_greedy",
			method);
	fields_expect(fields, "scoring_func", "softmax");
	router->score = ROUTER_SOFTMAX;
	router->scale = (float)fields_number_or(
		fields, "routed_scaling_factor", 1e-6, 1e6, 1);
	if (fields_bool_or(fields, "norm_topk_prob", false) &&
		router->topk > 1) {
		router->normalise = true;
		router->normalise_epsilon = SUM_EPSILON;
		router->scale = 1;
	}
	read_groups(
		fields, greedy ? ROUTER_GROUP_NONE : ROUTER_GROUP_MAX, router);
}

static void read_router_v3(struct fields *fields, struct router_params *router)
{
	fields_expect(fields, "topk_method", "noaux_tc");
	fields_expect(fields, "scoring_func", "sigmoid");
	router->score = ROUTER_SIGMOID;
	router->normalise = fields_bool_or(fields, "norm_topk_prob", true);
	router->normalise_epsilon = SUM_EPSILON;
	if (!fields_has(fields, "routed_scaling_factor"))
		fields_refuse(fields, "routed_scaling_factor", "is missing");
	router->scale = (float)fields_number_or(
		fields, "routed_scaling_factor", 1e-6, 1e6, 1);
	if (router->normalise && router->topk == 1)
		fields_refuse(fields, "num_experts_per_tok",
			"is 1 with norm_topk_prob: versions of the original "
			"disagree on what that means");
	/* null is one group; absent is someone's default. */
	if (!json_object_get(fields->object, "n_group"))
		fields_refuse(fields, "n_group", "is missing");
	read_groups(fields, ROUTER_GROUP_TOP2, router);
}

void config_read_router(struct fields *fields, struct model_config *config)
{
	struct router_params *router = &config->router;

	switch (config->family) {
	case FAMILY_DEEPSEEK_V2:
		read_router_v2(fields, router);
		return;
	case FAMILY_DEEPSEEK_V3:
		read_router_v3(fields, router);
		config->router_bias = true;
		return;
	case FAMILY_GRANITE_MOE:
		router->score = ROUTER_TOPK_SOFTMAX;
		break;
	case FAMILY_MIXTRAL:
		router->score = ROUTER_SOFTMAX;
		router->normalise = true;
		break;
	default:
		router->score = ROUTER_SOFTMAX;
		router->normalise =
			fields_bool_or(fields, "norm_topk_prob", false);
		break;
	}
	router->scale = 1;
	router->group_count = 1;
	router->group_topk = 1;
}
