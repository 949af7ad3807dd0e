/* backend_ref.c - the reference back end: its table and its memory */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/limits.h"
#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/dot_ref.h"
#include "memmgr/experts.h"

/* A sum of products that remembers whether anything did not fit. */
struct bound {
	size_t size;
	bool ok;
};

static void bound_add(struct bound *bound, size_t count, size_t unit)
{
	size_t size;

	bound->ok = bound->ok && mul_ok(count, unit, &size) &&
		    add_ok(bound->size, size, &bound->size);
}

static void bound_max(struct bound *most, struct bound other)
{
	most->ok = most->ok && other.ok;
	if (other.size > most->size)
		most->size = other.size;
}

/* Keep areas of different workers in different cache lines. */
static void bound_align(struct bound *bound)
{
	bound->ok = bound->ok &&
		    round_up_ok(bound->size, CACHE_LINE_BYTES, &bound->size);
}

/* The comment at ref_scratch() says what each operation needs. */
static struct bound scratch_bound(const struct ops_limits *limits)
{
	struct bound attention = {0, true}, mla = {0, true};
	struct bound router = {0, true}, sample = {0, true};
	struct bound most = {0, true};

	bound_add(&attention, limits->value_dim, sizeof(float));
	bound_add(&attention, ATTENTION_CHUNK_TOKENS, sizeof(float));
	bound_add(&mla, limits->lora_rank, sizeof(float));
	bound_add(&router, limits->expert_count, 4 * sizeof(float));
	bound_add(&sample, limits->vocab, sizeof(float) + sizeof(uint32_t));
	bound_max(&most, attention);
	bound_max(&most, mla);
	bound_max(&most, router);
	bound_max(&most, sample);
	bound_align(&most);
	return most;
}

static struct bound shared_bound(const struct ops_limits *limits)
{
	struct bound linear = {0, true}, moe = {0, true};
	size_t pair_max = moe_pair_max(limits);

	bound_add(&linear, (size_t)limits->row_count * limits->lora_rank,
		sizeof(float));
	bound_add(&moe, (size_t)limits->row_count * limits->topk,
		2 * sizeof(uint32_t));
	bound_add(&moe, (size_t)EXPERT_SLOT_NONE + 1, sizeof(uint32_t));
	bound_add(&moe, pair_max, 3 * sizeof(uint32_t));
	bound_add(&moe, pair_max * limits->inter, sizeof(float));
	bound_add(&moe, pair_max * limits->lora_rank, 2 * sizeof(float));
	bound_max(&linear, moe);
	bound_align(&linear);
	return linear;
}

static void ref_destroy(struct ops *ops);

static const struct ops_table table = {
	.name = "reference",
	.destroy = ref_destroy,
	.embed = ref_embed,
	.rms_norm = ref_rms_norm,
	.linear = ref_linear,
	.gate_up = ref_gate_up,
	.mla_absorb = ref_mla_absorb,
	.mla_expand = ref_mla_expand,
	.rope = ref_rope,
	.kv_write = ref_kv_write,
	.attention = ref_attention,
	.router = ref_router,
	.moe = ref_moe,
	.combine = ref_combine,
	.add = ref_add,
	.sigmoid_gate = ref_sigmoid_gate,
	.chain = ref_chain,
	.gather = ref_gather,
	.sample = ref_sample,
	.fence = ref_fence,
};

struct ref_backend *ref_of(struct ops *ops)
{
	assert(ops->table == &table);
	return ops->context;
}

void *ref_scratch(struct ref_backend *ref, uint32_t worker, size_t bytes)
{
	assert(worker < ref->thread_count);
	assert(bytes <= ref->scratch_size_bytes);
	return ref->arena + ref->shared_size_bytes +
	       worker * ref->scratch_size_bytes;
}

void *ref_shared(struct ref_backend *ref, size_t bytes)
{
	assert(bytes <= ref->shared_size_bytes);
	return ref->arena;
}

int ref_fence(struct ops *ops)
{
	/* Every operation has ended when it returns. */
	assert(ref_of(ops));
	return 0;
}

static void ref_destroy(struct ops *ops)
{
	struct ref_backend *ref = ref_of(ops);

	workers_destroy(ref->workers);
	free(ref->arena);
	free(ref);
	ops->table = NULL;
	ops->context = NULL;
}

static int arena_create(struct ref_backend *ref)
{
	struct bound scratch = scratch_bound(&ref->limits);
	struct bound all = shared_bound(&ref->limits);

	ref->shared_size_bytes = all.size;
	ref->scratch_size_bytes = scratch.size;
	bound_add(&all, scratch.size, ref->thread_count);
	if (!scratch.ok || !all.ok)
		return -ENOMEM;
	ref->arena = aligned_alloc(CACHE_LINE_BYTES, all.size);
	return ref->arena ? 0 : -ENOMEM;
}

int ops_create_reference(
	const struct ops_limits *limits, uint32_t thread_count, struct ops *out)
{
	struct ref_backend *ref;
	int status;

	assert(thread_count >= 1 && thread_count <= WORKER_COUNT_MAX);
	ref = calloc(1, sizeof(*ref));
	if (!ref)
		return -ENOMEM;
	ref->limits = *limits;
	ref->thread_count = thread_count;
	status = arena_create(ref);
	if (status)
		goto err_free_ref;
	status = workers_create(thread_count, NULL, &ref->workers);
	if (status)
		goto err_free_arena;
	out->table = &table;
	out->context = ref;
	return 0;

err_free_arena:
	free(ref->arena);
err_free_ref:
	free(ref);
	return status;
}
