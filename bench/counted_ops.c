/* counted_ops.c - an operation table that counts what it is asked for */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "bench/counted_ops.h"

#define SLOTS 65536

static struct counted_ops *counted_of(struct ops *ops)
{
	return ops->context;
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
	static int counted_##name(                                             \
		struct ops *ops, const struct args_type *args)                 \
	{                                                                      \
		struct counted_ops *counted = counted_of(ops);                 \
                                                                               \
		if (counted->is_idle)                                          \
			return 0;                                              \
		return counted->inner->table->name(counted->inner, args);      \
	}

OPERATIONS(DEFINE)

static int counted_linear(
	struct ops *ops, const struct linear_args *args, uint32_t count)
{
	struct counted_ops *counted = counted_of(ops);

	if (counted->is_idle)
		return 0;
	return counted->inner->table->linear(counted->inner, args, count);
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

static int counted_moe(struct ops *ops, const struct moe_args *args)
{
	struct counted_ops *counted = counted_of(ops);

	if (counted->is_idle)
		return 0;
	counted->expert_count += count_experts(args);
	return counted->inner->table->moe(counted->inner, args);
}

static int counted_fence(struct ops *ops)
{
	struct counted_ops *counted = counted_of(ops);

	return counted->inner->table->fence(counted->inner);
}

#define ENTRY(name, args_type) .name = counted_##name,

static const struct ops_table table = {.name = "counted",
	.destroy = destroy,
	.linear = counted_linear,
	.moe = counted_moe,
	.fence = counted_fence,
	OPERATIONS(ENTRY)};

void counted_ops_init(struct counted_ops *counted, struct ops *inner)
{
	*counted = (struct counted_ops){.inner = inner, .table = table};
	/* What the back end does not have. */
	if (!inner->table->chain)
		counted->table.chain = NULL;
	counted->outer =
		(struct ops){.table = &counted->table, .context = counted};
}
