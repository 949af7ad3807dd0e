/* timed_ops.c - an operation table that knows how long it was inside */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "bench/timed_ops.h"

#define SLOTS 65536

static struct timed_ops *timed_of(struct ops *ops)
{
	return ops->context;
}

static void leave(struct timed_ops *timed, uint64_t start)
{
	timed->inside_ticks += timed_ops_ticks() - start;
	timed->call_count++;
}

static void destroy(struct ops *ops)
{
	(void)ops; /* whoever made the inner ones destroys them */
}

/* Every operation of one argument is the same but for names: one table. */
#define OPERATIONS(X)                                                          \
	X(embed, embed_args)                                                   \
	X(rms_norm, rms_norm_args)                                             \
	X(gate_up, gate_up_args)                                               \
	X(mla_absorb, mla_args)                                                \
	X(mla_expand, mla_args)                                                \
	X(rope, rope_args)                                                     \
	X(kv_write, kv_write_args)                                             \
	X(attention, attention_args)                                           \
	X(router, router_args)                                                 \
	X(combine, combine_args)                                               \
	X(add, add_args)                                                       \
	X(sigmoid_gate, sigmoid_gate_args)                                     \
	X(chain, chain_args)                                                   \
	X(gather, gather_args)                                                 \
	X(sample, sample_args)

#define DEFINE(name, args_type)                                                \
	static int timed_##name(struct ops *ops, const struct args_type *args) \
	{                                                                      \
		struct timed_ops *timed = timed_of(ops);                       \
		uint64_t start = timed_ops_ticks();                            \
		int rc = 0;                                                    \
                                                                               \
		if (!timed->is_idle)                                           \
			rc = timed->inner->table->name(timed->inner, args);    \
		leave(timed, start);                                           \
		return rc;                                                     \
	}

OPERATIONS(DEFINE)

static int timed_linear(
	struct ops *ops, const struct linear_args *args, uint32_t count)
{
	struct timed_ops *timed = timed_of(ops);
	uint64_t start = timed_ops_ticks();
	int rc = 0;

	if (!timed->is_idle)
		rc = timed->inner->table->linear(timed->inner, args, count);
	leave(timed, start);
	return rc;
}

/* Different slots among the rows' choices. */
static uint64_t count_experts(const struct moe_args *args)
{
	uint64_t seen[SLOTS / 64] = {0};
	uint64_t count = 0;

	for (size_t i = 0; i < (size_t)args->rows.count * args->topk; i++) {
		uint64_t bit = UINT64_C(1) << args->slot[i] % 64;

		count += !(seen[args->slot[i] / 64] & bit);
		seen[args->slot[i] / 64] |= bit;
	}
	return count;
}

/* Counting takes a microsecond, and is not the host's work. */
static int timed_moe(struct ops *ops, const struct moe_args *args)
{
	struct timed_ops *timed = timed_of(ops);
	uint64_t start = timed_ops_ticks();
	int rc = 0;

	if (!timed->is_idle) {
		timed->expert_count += count_experts(args);
		rc = timed->inner->table->moe(timed->inner, args);
	}
	leave(timed, start);
	return rc;
}

static int timed_fence(struct ops *ops)
{
	struct timed_ops *timed = timed_of(ops);
	uint64_t start = timed_ops_ticks();
	int rc = timed->inner->table->fence(timed->inner);

	leave(timed, start);
	return rc;
}

#define ENTRY(name, args_type) .name = timed_##name,

static const struct ops_table table = {.name = "timed",
	.destroy = destroy,
	.linear = timed_linear,
	.moe = timed_moe,
	.fence = timed_fence,
	OPERATIONS(ENTRY)};

void timed_ops_init(struct timed_ops *timed, struct ops *inner)
{
	*timed = (struct timed_ops){.inner = inner, .table = table};
	/* What the back end does not have. */
	if (!inner->table->chain)
		timed->table.chain = NULL;
	timed->outer = (struct ops){.table = &timed->table, .context = timed};
}

void timed_ops_clear(struct timed_ops *timed)
{
	timed->inside_ticks = timed->call_count = timed->expert_count = 0;
}
