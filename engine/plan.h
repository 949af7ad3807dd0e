/* plan.h - every tensor of a model found, checked and given its role */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a checkpoint is used only when each tensor that the model needs is
 *        there exactly once, in the right shape, and none is left over. All of
 *        it is decided from the headers, before a byte of weights is read:
 *        no silent degradation.
 *
 * Names: those of the published checkpoints of each family, and the fused
 *        expert layouts: Granite's input_linear / output_linear, and what
 *        transformers 5 writes (mlp.experts.gate_up_proj [E, 2I, H], gate
 *        half first, mlp.experts.down_proj [E, H, I]). Known and unused
 *        tensors (rotary inv_freq buffers, next-token-prediction layers) are
 *        counted as skipped, everything else that is not needed is surplus
 *        and refused.
 *
 * Files: model.safetensors alone if it is there and no index is; otherwise
 *        what the index names: each tensor in the file that the index says,
 *        each named file present. *.safetensors files that the index does not
 *        name are ignored and listed by `inspect`.
 *
 * Invariants of a finished plan: one item per needed tensor; sizes agree with
 *        the config's shapes; fp8 weights have their scales; all routed
 *        experts share one stored type (fp8 counts as the type that it is
 *        expanded to).
 * Ownership: the plan owns its arrays; it borrows nothing.
 * Threads: immutable after create.
 */
#ifndef HEDDLE_ENGINE_PLAN_H
#define HEDDLE_ENGINE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "engine/files.h"
#include "engine/model.h"

/* What a tensor is for. Shapes in comments are [outputs, inputs]. */
enum tensor_role {
	ROLE_EMBED, /* [V, H] */
	ROLE_FINAL_NORM, /* [H] */
	ROLE_HEAD, /* [V, H]; absent when tied */
	/* per layer: attention */
	ROLE_ATTENTION_NORM, /* [H] input_layernorm */
	ROLE_Q, /* [heads * head_dim, H] */
	ROLE_K, /* [kv_heads * head_dim, H] */
	ROLE_V, /* [kv_heads * value_dim, H] */
	ROLE_O, /* [H, heads * value_dim] */
	ROLE_Q_BIAS,
	ROLE_K_BIAS,
	ROLE_V_BIAS,
	ROLE_Q_NORM,
	ROLE_K_NORM, /* [head_dim] or [full width] */
	ROLE_Q_A, /* [q_lora, H] */
	ROLE_Q_A_NORM, /* [q_lora] */
	ROLE_Q_B, /* [heads * head_dim, q_lora] */
	ROLE_KV_A, /* [kv_lora + rope, H] */
	ROLE_KV_A_NORM, /* [kv_lora] */
	ROLE_KV_B, /* [heads * (nope + value), kv_lora] */
	/* per layer: MLP */
	ROLE_MLP_NORM, /* [H] post_attention_layernorm */
	ROLE_DENSE_GATE,
	ROLE_DENSE_UP, /* [dense_inter, H] */
	ROLE_DENSE_DOWN, /* [H, dense_inter] */
	ROLE_ROUTER, /* [E, H] */
	ROLE_ROUTER_BIAS, /* [E] */
	ROLE_SHARED_GATE,
	ROLE_SHARED_UP,
	ROLE_SHARED_DOWN,
	ROLE_SHARED_SIGMOID, /* [1, H] */
	/* per layer and expert; a fused tensor holds all experts */
	ROLE_EXPERT_GATE,
	ROLE_EXPERT_UP, /* [I, H] */
	ROLE_EXPERT_GATE_UP, /* [E, 2I, H], fused only */
	ROLE_EXPERT_DOWN, /* [H, I], or fused [E, H, I] */
	ROLE_COUNT
};

const char *tensor_role_name(enum tensor_role role);

#define PLAN_NO_ITEM UINT32_MAX

struct plan_item {
	enum tensor_role role;
	uint32_t layer; /* 0 for tensors of no layer */
	uint32_t expert; /* first logical expert it holds */
	uint32_t expert_count; /* 0 for what is no expert; E when fused */
	uint32_t rows, cols; /* of one matrix; vectors have rows 1 */
	enum dtype type; /* as stored; F8_E4M3 has scales */
	uint32_t file; /* index into model_files.weights */
	uint64_t offset_bytes, size_bytes; /* in that file */
	uint32_t scale_file; /* fp8: where its f32 [ceil(rows / block),
				ceil(cols / block)] scales are */
	uint64_t scale_offset_bytes, scale_size_bytes; /* 0 = none */
	char *name; /* owned by the plan */
};

struct model_plan {
	struct plan_item *items;
	uint32_t count;
	enum dtype expert_type; /* of all routed experts, after expansion */
	uint32_t skipped_count; /* known and unused tensors */
	uint64_t skipped_bytes;
	char (*ignored_files)[256]; /* weight files that nothing names */
	uint32_t ignored_file_count;
};

/* The type that fp8 blocks are expanded to at load. */
#define FP8_EXPANDED_TYPE DTYPE_BF16

/*
 * Read the index (if any) and all headers, match, check. -EINVAL with file,
 * tensor and reason; -EIO; -ENOMEM. Nothing is left behind on error.
 */
int model_plan_create(const struct model_files *files,
	const struct model_config *config, struct model_plan *out,
	struct error *err);

/* Is that a weight file that nothing names? */
bool model_plan_ignores(const struct model_plan *plan, const char *name);

/* A zeroed struct is allowed. */
void model_plan_release(struct model_plan *plan);

#endif
