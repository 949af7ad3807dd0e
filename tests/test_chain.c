/* test_chain.c - operations on rows in a chain, and one by one */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "tests/ops_case.h"
#include "tests/suite.h"

#define ROUNDS 60
#define TOPK 2
#define BLOCK_TOKENS 7u

static const uint32_t thread_counts[] = CASE_THREAD_COUNTS;

#define THREAD_COUNTS (sizeof(thread_counts) / sizeof(thread_counts[0]))

/* What the links of a chain work on: one's output is another's input. */
struct state {
	uint32_t rows, hidden, heads, head_dim, blocks;
	size_t float_count;
	float *x, *normed,
		*q; /* [rows][hidden], the same, [rows][heads][dim] */
	float *cache; /* [block][BLOCK_TOKENS][heads * dim + hidden] */
	const float *branch, *gate, *expert_out, *expert_weight;
	const float *weight, *inv_freq; /* of norms, of rope */
	const uint32_t *position, *sequence, *table;
};

static uint32_t *counting(struct pool *pool, uint32_t count, uint32_t first)
{
	uint32_t *out = pool_get(pool, count * sizeof(*out));

	for (uint32_t i = 0; i < count; i++)
		out[i] = first + i;
	return out;
}

static void make_state(struct pool *pool, struct state *s)
{
	uint32_t heads, head_dim;
	size_t row;

	*s = (struct state){
		.rows = 1 + suite_below(&pool->random, 300),
		.hidden = 1 + suite_below(&pool->random, 90),
		.heads = 1 + suite_below(&pool->random, 4),
		.head_dim = 2 * (1 + suite_below(&pool->random, 20)),
	};
	heads = s->heads;
	head_dim = s->head_dim;
	s->blocks = (s->rows + 9) / BLOCK_TOKENS + 1;
	row = (size_t)heads * head_dim;
	s->float_count = 2 * (size_t)s->rows * s->hidden + s->rows * row +
			 (size_t)s->blocks * BLOCK_TOKENS * (row + s->hidden);
	s->x = pool_floats(pool, s->float_count, 1);
	s->normed = s->x + (size_t)s->rows * s->hidden;
	s->q = s->normed + (size_t)s->rows * s->hidden;
	s->cache = s->q + s->rows * row;
	s->branch = pool_floats(pool, (size_t)s->rows * s->hidden, 1);
	s->gate = pool_floats(pool, s->rows, 1);
	s->expert_out =
		pool_floats(pool, (size_t)s->rows * TOPK * s->hidden, 1);
	s->expert_weight = pool_floats(pool, (size_t)s->rows * TOPK, 1);
	s->weight = pool_floats(pool, (size_t)s->hidden + head_dim, 1);
	s->inv_freq = pool_floats(pool, head_dim / 2, 0.1f);
	s->position = counting(pool, s->rows, suite_below(&pool->random, 9));
	s->sequence = pool_get(pool, s->rows * sizeof(uint32_t));
	s->table = pool_shuffle(pool, s->blocks);
}

static struct kv_write_args write_args(const struct state *s, struct rows rows)
{
	uint32_t row = s->heads * s->head_dim;
	uint64_t token = (row + s->hidden) * sizeof(float);

	return (struct kv_write_args){.rows = rows,
		.kv = {.window = s->cache,
			.page_size_bytes = BLOCK_TOKENS * token,
			.layer_stride_bytes = BLOCK_TOKENS * token,
			.token_stride_bytes = token,
			.value_offset_bytes = row * sizeof(float),
			.block_tokens = BLOCK_TOKENS,
			.pages_per_block = 1,
			.layers_per_page = 1,
			.type = DTYPE_F32,
			.block_table = s->table,
			.table_stride = s->blocks},
		.key_width = row,
		.value_width = s->hidden,
		.key = s->q,
		.key_stride = row,
		.value = s->normed,
		.value_stride = s->hidden};
}

/* A norm of x into normed, or of the heads of q in place. */
static struct rms_norm_args norm_args(const struct state *s, bool of_heads)
{
	struct rms_norm_args args = {.row_count = s->rows,
		.width = s->hidden,
		.x = s->x,
		.x_stride = s->hidden,
		.weight = s->weight,
		.epsilon = 1e-5f,
		.out = s->normed,
		.out_stride = s->hidden};

	if (of_heads) {
		args.row_count *= s->heads;
		args.width = args.x_stride = args.out_stride = s->head_dim;
		args.x = args.out = s->q;
	}
	return args;
}

static struct row_op make_link(const struct state *s, uint64_t *random)
{
	struct rows rows = {.count = s->rows,
		.position = s->position,
		.sequence = s->sequence};
	struct row_op op = {.kind = (enum row_op_kind)suite_below(
				    random, ROW_OP_KIND_COUNT),
		.group = 1};
	bool of_heads = suite_below(random, 2);

	if (op.kind == ROW_RMS_NORM) {
		op.group = of_heads ? s->heads : 1;
		op.args.rms_norm = norm_args(s, of_heads);
	} else if (op.kind == ROW_ROPE) {
		op.args.rope = (struct rope_args){.rows = rows,
			.head_count = s->heads,
			.rotary = s->head_dim,
			.interleaved = of_heads,
			.inv_freq = s->inv_freq,
			.scale = 1,
			.x = s->q,
			.stride = s->heads * s->head_dim,
			.head_stride = s->head_dim};
	} else if (op.kind == ROW_KV_WRITE) {
		op.args.kv_write = write_args(s, rows);
	} else if (op.kind == ROW_COMBINE) {
		op.args.combine = (struct combine_args){s->rows, TOPK,
			s->hidden, s->expert_out, s->expert_weight,
			of_heads ? s->normed : NULL, 0.5f, s->x};
	} else if (op.kind == ROW_ADD) {
		op.args.add = (struct add_args){s->rows, s->hidden,
			of_heads ? s->normed : s->branch, 0.25f, s->x};
	} else {
		op.args.sigmoid_gate = (struct sigmoid_gate_args){
			s->rows, s->hidden, s->gate, s->normed};
	}
	return op;
}

static int run_link(struct ops *ops, const struct row_op *op)
{
	switch (op->kind) {
	case ROW_RMS_NORM:
		return ops->table->rms_norm(ops, &op->args.rms_norm);
	case ROW_ROPE:
		return ops->table->rope(ops, &op->args.rope);
	case ROW_KV_WRITE:
		return ops->table->kv_write(ops, &op->args.kv_write);
	case ROW_COMBINE:
		return ops->table->combine(ops, &op->args.combine);
	case ROW_ADD:
		return ops->table->add(ops, &op->args.add);
	default:
		return ops->table->sigmoid_gate(ops, &op->args.sigmoid_gate);
	}
}

static void check_chain(struct pool *pool, uint32_t thread_count)
{
	struct ops ops = case_ops(thread_count);
	struct row_op list[OPS_CHAIN_COUNT_MAX];
	struct chain_args args = {.list = list};
	struct state s;
	float *before, *one_by_one;

	make_state(pool, &s);
	args.row_count = s.rows;
	args.count = 1 + suite_below(&pool->random, OPS_CHAIN_COUNT_MAX);
	for (uint32_t i = 0; i < args.count; i++)
		list[i] = make_link(&s, &pool->random);
	before = pool_copy(pool, s.x, s.float_count);
	for (uint32_t i = 0; i < args.count; i++)
		CU_ASSERT_EQUAL(run_link(&ops, &list[i]), 0);
	one_by_one = pool_copy(pool, s.x, s.float_count);
	memcpy(s.x, before, s.float_count * sizeof(*s.x));
	CU_ASSERT_EQUAL(ops.table->chain(&ops, &args), 0);
	CU_ASSERT(case_same(one_by_one, s.x, s.float_count));
	ops.table->destroy(&ops);
}

static void test_chain__is_one_by_one(void)
{
	uint64_t seed = suite_seed(1);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;

		pool_init(&pool, seed + i);
		check_chain(&pool, thread_counts[i % THREAD_COUNTS]);
		pool_release(&pool);
	}
}

static const struct suite_case each[] = {
	SUITE_CASE(chain__is_one_by_one),
};

int main(void)
{
	return case_run("chain", (struct case_list){NULL, 0}, CASE_LIST(each));
}
