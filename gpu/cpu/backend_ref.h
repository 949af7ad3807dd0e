/* backend_ref.h - what the files of the reference back end share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        gpu/ops.h says what each operation computes; the files *_ref.c
 *             are its plain C. They share a pool of threads and memory for
 *             partial results.
 * Invariants: scratch is sized once, from struct ops_limits; an operation
 *             that asks for more than it was granted asserts. Scratch holds
 *             nothing from one operation to the next.
 * Ownership:  struct ref_backend owns workers and arena, struct ops_table's
 *             destroy frees both.
 * Threads:    as gpu/ops.h: one caller. Inside workers_run(), worker i uses
 *             ref_scratch(.., i, ..) alone; the shared area is written in
 *             ranges that belong to items.
 */
#ifndef HEDDLE_GPU_CPU_BACKEND_REF_H
#define HEDDLE_GPU_CPU_BACKEND_REF_H

#include <stddef.h>
#include <stdint.h>

#include "gpu/cpu/workers.h"
#include "gpu/ops.h"

/* ops_create_cpu() for CPU_REFERENCE, bound to no cores. */
int ops_create_reference(const struct ops_limits *limits, uint32_t thread_count,
	struct ops *out);

struct ref_backend {
	struct workers *workers; /* owns */
	uint32_t thread_count;
	struct ops_limits limits;
	unsigned char *arena; /* owns: the shared area, then one per worker */
	size_t shared_size_bytes;
	size_t scratch_size_bytes; /* of one worker */
};

/*
 * The area of one worker, at least `bytes` long and aligned to a cache line,
 * contents undefined. There is one: asking again gives the same address, so
 * an operation asks once for all that it needs. A worker's area holds the
 * largest of
 *   attention: value_dim + ATTENTION_CHUNK_TOKENS floats
 *   mla:       lora_rank floats
 *   router:    4 * expert_count floats
 *   sample:    vocab floats and vocab uint32_t
 */
void *ref_scratch(struct ref_backend *ref, uint32_t worker, size_t bytes);

/*
 * The area that all workers of an operation see, under the same rules; holds
 * the largest of
 *   linear: row_count * lora_rank floats
 *   moe:    EXPERT_SLOT_NONE + 1 + 2 * row_count * topk uint32_t, and for
 *           each of moe_pair_max() pairs 3 uint32_t and inter +
 *           2 * lora_rank floats
 */
void *ref_shared(struct ref_backend *ref, size_t bytes);

/*
 * Pairs (row, k) whose hidden activations moe keeps at once: at most
 * MOE_PAIR_COUNT_MAX, fewer where inter is so large that they would exceed
 * MOE_HIDDEN_BYTES_MAX, at least 1. No result depends on it.
 */
#define MOE_PAIR_COUNT_MAX 512
#define MOE_HIDDEN_BYTES_MAX (UINT64_C(16) << 20)
uint32_t moe_pair_max(const struct ops_limits *limits);

/* The back end behind the table; asserts that it is one of this kind. */
struct ref_backend *ref_of(struct ops *ops);

/* The table's entries; gpu/ops.h is their contract. */
int ref_embed(struct ops *ops, const struct embed_args *args);
int ref_rms_norm(struct ops *ops, const struct rms_norm_args *args);
int ref_linear(struct ops *ops, const struct linear_args *args, uint32_t count);
int ref_gate_up(struct ops *ops, const struct gate_up_args *args);
int ref_mla_absorb(struct ops *ops, const struct mla_args *args);
int ref_mla_expand(struct ops *ops, const struct mla_args *args);
int ref_rope(struct ops *ops, const struct rope_args *args);
int ref_kv_write(struct ops *ops, const struct kv_write_args *args);
int ref_attention(struct ops *ops, const struct attention_args *args);
int ref_router(struct ops *ops, const struct router_args *args);
int ref_moe(struct ops *ops, const struct moe_args *args);
int ref_combine(struct ops *ops, const struct combine_args *args);
int ref_add(struct ops *ops, const struct add_args *args);
int ref_sigmoid_gate(struct ops *ops, const struct sigmoid_gate_args *args);
int ref_chain(struct ops *ops, const struct chain_args *args);
int ref_gather(struct ops *ops, const struct gather_args *args);
int ref_sample(struct ops *ops, const struct sample_args *args);
int ref_fence(struct ops *ops);

#endif
