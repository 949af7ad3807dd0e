/* fast_table.c - the table of one instruction set, and how to make one */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "gpu/cpu/backend_fast.h"

#define TEXT2(name) #name
#define TEXT(name) TEXT2(name)

static void destroy(struct ops *ops)
{
	fast_backend_destroy(fast_of(ops));
	ops->table = NULL;
	ops->context = NULL;
}

/* Every operation has ended when it returns. */
static int fence(struct ops *ops)
{
	(void)ops;
	return 0;
}

/* One for each name: what differs is in the context. */
#define TABLE(called)                                                          \
	{                                                                      \
		.name = (called), .destroy = destroy,                          \
		.embed = FAST(fast_embed), .rms_norm = FAST(fast_rms_norm),    \
		.linear = FAST(fast_linear), .gate_up = FAST(fast_gate_up),    \
		.mla_absorb = FAST(fast_mla_absorb),                           \
		.mla_expand = FAST(fast_mla_expand), .rope = FAST(fast_rope),  \
		.kv_write = FAST(fast_kv_write),                               \
		.attention = FAST(fast_attention),                             \
		.router = FAST(fast_router), .moe = FAST(fast_moe),            \
		.combine = FAST(fast_combine), .add = FAST(fast_add),          \
		.sigmoid_gate = FAST(fast_sigmoid_gate),                       \
		.chain = FAST(fast_chain), .gather = FAST(fast_gather),        \
		.sample = FAST(fast_sample), .fence = fence                    \
	}

static const struct ops_table table = TABLE(TEXT(FAST_ISA));

static void need_most(struct fast_need *most, struct fast_need need)
{
	if (need.shared > most->shared)
		most->shared = need.shared;
	if (need.scratch > most->scratch)
		most->scratch = need.scratch;
}

static int create(const struct ops_limits *limits, uint32_t thread_count,
	const uint32_t *cores, struct ops *out)
{
	struct fast_need need = {0, 0};
	struct fast_backend *fast;
	int status;

	need_most(&need, FAST(fast_linear_need)(limits));
	need_most(&need, FAST(fast_mla_need)(limits));
	need_most(&need, FAST(fast_router_need)(limits));
	need_most(&need, FAST(fast_moe_need)(limits));
	need_most(&need, FAST(fast_attention_need)(limits));
	need_most(&need, FAST(fast_sample_need)(limits));
	status = fast_backend_create(limits, &need, thread_count, cores, &fast);
	if (status)
		return status;
	out->table = &table;
	out->context = fast;
	return 0;
}

int FAST(ops_create)(const struct ops_limits *limits, uint32_t thread_count,
	const uint32_t *cores, struct ops *out)
{
	return create(limits, thread_count, cores, out);
}

#ifdef __AVX512F__

/* All but the products of bf16 is AVX-512's. */
int ops_create_amx(const struct ops_limits *limits, uint32_t thread_count,
	const uint32_t *cores, struct ops *out)
{
	static const struct ops_table amx_table = TABLE("amx");
	int status = create(limits, thread_count, cores, out);

	if (status)
		return status;
	out->table = &amx_table;
	fast_of(out)->has_amx = true;
	return 0;
}

#endif
