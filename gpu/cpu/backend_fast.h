/* backend_fast.h - what the files of the AVX2 and AVX-512 back ends share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        the files fast_*.c hold the operations of gpu/ops.h for vectors
 *             of sixteen floats (gpu/cpu/simd.h); each is compiled once per
 *             instruction set, its public names through FAST().
 * Arithmetic: one output element is one lane. k ascends in chunks of
 *             FAST_CHUNK; a chunk's sum begins at +0 and takes each product
 *             by a fused multiply-add; the sum is added to the running sum,
 *             which begins at +0. So no result depends on the width of a
 *             register, the number of rows in a tile, or threads. AMX, which
 *             is AVX-512 but for products of bf16, has an order of its own
 *             for those (gpu/cpu/gemm_amx.h).
 * Invariants: scratch is sized once, from struct ops_limits; an operation
 *             that asks for more than it was granted asserts. Scratch holds
 *             nothing from one operation to the next.
 * Ownership:  struct fast_backend owns workers and arena.
 * Threads:    as gpu/ops.h: one caller. Inside workers_run(), worker i uses
 *             fast_scratch(.., i, ..) alone.
 */
#ifndef HEDDLE_GPU_CPU_BACKEND_FAST_H
#define HEDDLE_GPU_CPU_BACKEND_FAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/limits.h"
#include "gpu/cpu/workers.h"
#include "gpu/ops.h"

#define FAST_CHUNK 256

struct fast_backend {
	struct workers *workers; /* owns */
	uint32_t thread_count;
	bool has_amx; /* products of bf16 use tile registers */
	struct ops_limits limits;
	unsigned char *arena; /* owns: the shared area, then one per worker */
	size_t shared_size_bytes;
	size_t scratch_size_bytes; /* of one worker */
};

/* Bytes that an operation needs; SIZE_MAX when they cannot be counted. */
struct fast_need {
	size_t shared;
	size_t scratch; /* per worker */
};

/* Bytes of arrays one after the other, each on cache lines of its own. */
static inline size_t fast_room(size_t before, size_t count, size_t unit)
{
	size_t size;

	if (!mul_ok(count, unit, &size) ||
		!round_up_ok(size, CACHE_LINE_BYTES, &size) ||
		!add_ok(before, size, &size))
		return SIZE_MAX;
	return size;
}

/*
 * The area of one worker, at least `bytes` long and aligned to a cache line,
 * contents undefined. There is one: an operation asks once for all it needs.
 */
void *fast_scratch(struct fast_backend *fast, uint32_t worker, size_t bytes);

/* The area that all workers of an operation see, under the same rules. */
void *fast_shared(struct fast_backend *fast, size_t bytes);

static inline struct fast_backend *fast_of(struct ops *ops)
{
	return ops->context;
}

/*
 * The arena and the workers for a table; the need of the largest operation.
 * -ENOMEM, -EAGAIN, -EINVAL as ops_create_cpu().
 */
int fast_backend_create(const struct ops_limits *limits,
	const struct fast_need *need, uint32_t thread_count,
	const uint32_t *cores, struct fast_backend **out);
void fast_backend_destroy(struct fast_backend *fast);

/* ops_create_cpu() for one instruction set; there only on x86-64. */
int ops_create_avx2(const struct ops_limits *limits, uint32_t thread_count,
	const uint32_t *cores, struct ops *out);
int ops_create_avx512(const struct ops_limits *limits, uint32_t thread_count,
	const uint32_t *cores, struct ops *out);
int ops_create_amx(const struct ops_limits *limits, uint32_t thread_count,
	const uint32_t *cores, struct ops *out);

#ifdef FAST_ISA

#include "gpu/cpu/simd.h"

/* The table's entries, gpu/ops.h is their contract. */
int FAST(fast_linear)(
	struct ops *ops, const struct linear_args *args, uint32_t count);
int FAST(fast_embed)(struct ops *ops, const struct embed_args *args);
int FAST(fast_rms_norm)(struct ops *ops, const struct rms_norm_args *args);
int FAST(fast_gate_up)(struct ops *ops, const struct gate_up_args *args);
int FAST(fast_mla_absorb)(struct ops *ops, const struct mla_args *args);
int FAST(fast_mla_expand)(struct ops *ops, const struct mla_args *args);
int FAST(fast_rope)(struct ops *ops, const struct rope_args *args);
int FAST(fast_kv_write)(struct ops *ops, const struct kv_write_args *args);
int FAST(fast_attention)(struct ops *ops, const struct attention_args *args);
int FAST(fast_router)(struct ops *ops, const struct router_args *args);
int FAST(fast_moe)(struct ops *ops, const struct moe_args *args);
int FAST(fast_combine)(struct ops *ops, const struct combine_args *args);
int FAST(fast_add)(struct ops *ops, const struct add_args *args);
int FAST(fast_sigmoid_gate)(
	struct ops *ops, const struct sigmoid_gate_args *args);
int FAST(fast_chain)(struct ops *ops, const struct chain_args *args);
int FAST(fast_gather)(struct ops *ops, const struct gather_args *args);
int FAST(fast_sample)(struct ops *ops, const struct sample_args *args);

/* What the operations that use scratch need of it; the others need none. */
struct fast_need FAST(fast_linear_need)(const struct ops_limits *limits);
struct fast_need FAST(fast_mla_need)(const struct ops_limits *limits);
struct fast_need FAST(fast_attention_need)(const struct ops_limits *limits);
struct fast_need FAST(fast_router_need)(const struct ops_limits *limits);
struct fast_need FAST(fast_moe_need)(const struct ops_limits *limits);
struct fast_need FAST(fast_sample_need)(const struct ops_limits *limits);

#endif

#endif
