/* forward_private.h - what the files of the forward pass share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to engine/forward*.c. The pass is cut by what it computes: arena
 * (memory), attention, mlp, and the pass itself.
 */
#ifndef HEDDLE_ENGINE_FORWARD_PRIVATE_H
#define HEDDLE_ENGINE_FORWARD_PRIVATE_H

#include "engine/forward.h"

/* Arrays of one step on the device, at fixed addresses. */
struct device_step {
	uint32_t *token, *position, *sequence, *instance, *lora;
	uint32_t *block_table;
	uint32_t *sample_row;
	struct sample_params *sample;
	struct sample_result *result;
};

/* Activations; R rows, S samples. */
struct activations {
	float *x; /* [R][H] the residual stream */
	float *normed; /* [R][H] */
	float *q; /* [R][heads][head_dim] */
	float *k, *v; /* [R][kv_heads][head_dim], [value_dim] */
	float *q_latent; /* [R][q_lora_rank] */
	float *kv_latent; /* [R][kv_lora_rank + rope_dim] */
	float *q_absorbed; /* [R][heads][kv_lora_rank + rope_dim] */
	float *mixed; /* [R][heads][kv_lora_rank] */
	float *heads; /* [R][heads][value_dim] */
	float *branch; /* [R][H] */
	float *hidden; /* [R][widest MLP] */
	float *shared_gate; /* [R] */
	uint16_t *slot, *expert; /* [R][K] */
	float *expert_weight; /* [R][K] */
	float *expert_out; /* [R][K][H] */
	float *sampled; /* [S][H] */
	float *logits; /* [S][V] */
	float *inv_freq; /* [rope.dim / 2] */
};

/* What the list of a step's operations depends on, next to the model. */
struct step_shape {
	uint32_t row_count, sample_count, table_stride;
	bool has_lora;
};

struct forward {
	struct model *model;
	struct ops *ops; /* the program's: said now, run by program_run() */
	struct program *program; /* owned */
	struct program_times *times; /* borrowed; NULL = nobody asks */
	struct step_shape shape; /* of the program; row_count 0 = none */
	struct step_capacity capacity;
	struct device_step device;
	struct activations act;
	struct expert_view experts;
	/* the arena */
	struct vmm_handle handle;
	vmm_addr arena;
	size_t arena_bytes; /* as created */
	bool mapped;
	/* of the step that runs */
	uint32_t *packed; /* owned, [sequence_count x table_stride] */
	struct rows rows;
	struct kv_view kv;
};

/* Activations and step arrays in one mapping; on error forward_arena_destroy()
 * undoes what was done. */
int forward_arena_create(struct forward *f);
void forward_arena_destroy(struct forward *f);

/* out = x weight^T (+ bias), rows packed. */
int forward_linear(struct forward *f, const float *x,
	const struct weight *weight, const float *bias, float *out);

/* x += residual_scale * branch. */
int forward_add(struct forward *f, const float *branch);

/* act.normed -> act.heads: attention of one layer, before o_proj. */
int forward_attend(struct forward *f, uint32_t layer);

/* act.normed -> added to act.x: dense MLP, or experts and shared experts. */
int forward_mlp(struct forward *f, uint32_t layer);

#endif
