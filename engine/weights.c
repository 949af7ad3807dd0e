/* weights.c - where each weight of the model lies, by role */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/weights.h"

bool tensor_role_is_vector(enum tensor_role role)
{
	switch (role) {
	case ROLE_FINAL_NORM:
	case ROLE_ATTENTION_NORM:
	case ROLE_MLP_NORM:
	case ROLE_Q_BIAS:
	case ROLE_K_BIAS:
	case ROLE_V_BIAS:
	case ROLE_Q_NORM:
	case ROLE_K_NORM:
	case ROLE_Q_A_NORM:
	case ROLE_KV_A_NORM:
	case ROLE_ROUTER_BIAS:
		return true;
	default:
		return false;
	}
}

bool tensor_role_is_expert(enum tensor_role role)
{
	return role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP ||
	       role == ROLE_EXPERT_GATE_UP || role == ROLE_EXPERT_DOWN;
}

enum dtype plan_item_loaded_type(const struct plan_item *item)
{
	if (tensor_role_is_vector(item->role))
		return DTYPE_F32;
	return item->type == DTYPE_F8_E4M3 ? FP8_EXPANDED_TYPE : item->type;
}

enum weight_layout plan_item_layout(
	const struct plan_item *item, enum weight_layout layout)
{
	assert(layout == WEIGHT_ROWS || layout == WEIGHT_PANELS);
	if (layout == WEIGHT_ROWS || tensor_role_is_vector(item->role))
		return WEIGHT_ROWS;
	return item->role == ROLE_KV_B ? WEIGHT_MLA_PANELS : WEIGHT_PANELS;
}

int weights_place(const struct model_plan *plan, uint64_t *out_offset,
	uint64_t *out_size_bytes)
{
	size_t end = 0;

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];
		size_t size;

		out_offset[i] = 0;
		if (tensor_role_is_expert(item->role))
			continue;
		if (!mul_ok(item->rows, item->cols, &size) ||
			!mul_ok(size, dtype_size(plan_item_loaded_type(item)),
				&size) ||
			!round_up_ok(end, WEIGHT_ALIGN_BYTES, &end))
			return -EOVERFLOW;
		out_offset[i] = end;
		if (!add_ok(end, size, &end))
			return -EOVERFLOW;
	}
	*out_size_bytes = end;
	return 0;
}

static void bind_item(struct model_weights *weights,
	const struct plan_item *item, enum weight_layout layout,
	const void *data)
{
	struct layer_weights *layer = &weights->layers[item->layer];
	struct weight matrix = {
		.data = data,
		.type = plan_item_loaded_type(item),
		.layout = plan_item_layout(item, layout),
		.rows = item->rows,
		.cols = item->cols,
	};

	if (item->role == ROLE_EMBED)
		weights->embed = matrix;
	else if (item->role == ROLE_HEAD)
		weights->head = matrix;
	else if (item->role == ROLE_FINAL_NORM)
		weights->final_norm = data;
	else if (tensor_role_is_vector(item->role))
		layer->vector[item->role] = data;
	else
		layer->matrix[item->role] = matrix;
}

int weights_bind(const struct model_plan *plan,
	const struct model_config *config, enum weight_layout layout,
	const uint64_t *offset, vmm_addr base, struct model_weights *out)
{
	uint32_t moe_layer = 0;

	*out = (struct model_weights){0};
	out->layers = calloc(config->layer_count, sizeof(*out->layers));
	if (!out->layers)
		return -ENOMEM;
	for (uint32_t l = 0; l < config->layer_count; l++)
		out->layers[l].moe_layer =
			config->is_moe[l] ? moe_layer++ : LAYER_NOT_MOE;
	assert(moe_layer == config->moe_layer_count);
	for (uint32_t i = 0; i < plan->count; i++) {
		assert(plan->items[i].layer < config->layer_count);
		if (!tensor_role_is_expert(plan->items[i].role))
			bind_item(out, &plan->items[i], layout,
				(const void *)(uintptr_t)(base + offset[i]));
	}
	if (config->tied_head)
		out->head = out->embed;
	return 0;
}

void weights_release(struct model_weights *weights)
{
	free(weights->layers);
	*weights = (struct model_weights){0};
}

int weights_expert_shape(const struct model_plan *plan,
	const struct model_config *config, enum weight_layout layout,
	struct expert_shape *out, struct error *err)
{
	*out = (struct expert_shape){
		.layer_count = config->moe_layer_count,
		.base_count = config->router.expert_count,
		.hidden = config->hidden,
		.inter = config->expert_inter,
		.format = {.type = plan->expert_type, .layout = layout},
	};
	return expert_shape_finish(out, err);
}
