/* weights.h - where each weight of the model lies, by role */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the forward pass names weights by what they do; the loader decides
 *        where they lie. Matrices keep the type that they were stored in (fp8
 *        is expanded), vectors are float.
 * Layout: everything but routed experts lies in extent 0 of the page pool,
 *        each tensor at a multiple of WEIGHT_ALIGN_BYTES; routed experts lie
 *        in the expert store, MoE layer l in extent 1 + l.
 * Ownership: addresses belong to the page pool.
 * Threads: immutable after load.
 */
#ifndef HEDDLE_ENGINE_WEIGHTS_H
#define HEDDLE_ENGINE_WEIGHTS_H

#include <stdint.h>

#include "engine/model.h"
#include "engine/plan.h"
#include "gpu/ops.h"
#include "memmgr/experts.h"
#include "memmgr/vmm.h"

#define WEIGHT_ALIGN_BYTES 64

#define LAYER_NOT_MOE UINT32_MAX

/* Unused ones have data NULL. Shapes are those of enum tensor_role. */
struct layer_weights {
	struct weight matrix[ROLE_COUNT]; /* two-dimensional roles */
	const float *vector[ROLE_COUNT]; /* norms and biases */
	uint32_t moe_layer; /* index in the expert store, or LAYER_NOT_MOE */
};

struct model_weights {
	struct weight embed, head; /* head is embed when tied */
	const float *final_norm;
	struct layer_weights *layers; /* [layer_count], owned */
};

/* Is the role a vector (kept as float)? */
bool tensor_role_is_vector(enum tensor_role role);

/* Is the role part of a routed expert? */
bool tensor_role_is_expert(enum tensor_role role);

/* Type of an item once loaded. */
enum dtype plan_item_loaded_type(const struct plan_item *item);

/*
 * Places of all items that are no routed expert: out_offset[i] is item i's
 * offset in the extent; *out_size_bytes the extent's size. -EOVERFLOW.
 */
int weights_place(const struct model_plan *plan, uint64_t *out_offset,
	uint64_t *out_size_bytes);

/*
 * How the item's matrix lies in memory when the back end wants `layout`
 * (WEIGHT_ROWS or WEIGHT_PANELS): panels of MLA's kv_b_proj are those of its
 * halves; a vector has no layout but rows.
 */
enum weight_layout plan_item_layout(
	const struct plan_item *item, enum weight_layout layout);

/*
 * Fill the table: item i (no routed expert) lies at base + offset[i].
 * -ENOMEM.
 */
int weights_bind(const struct model_plan *plan,
	const struct model_config *config, enum weight_layout layout,
	const uint64_t *offset, vmm_addr base, struct model_weights *out);

/* A zeroed struct is allowed. */
void weights_release(struct model_weights *weights);

/* The routed experts' shape, finished; -EINVAL, -EOVERFLOW. */
int weights_expert_shape(const struct model_plan *plan,
	const struct model_config *config, enum weight_layout layout,
	struct expert_shape *out, struct error *err);

#endif
