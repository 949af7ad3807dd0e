/* fast_rows.c - the operations on rows: norm, rope, cache writes, sums */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows are independent and each is done by one thread, lane by lane, so
 * nothing here depends on the batch. Sums of squares have sixteen lanes in
 * chunks of FAST_CHUNK. These operations move memory: the cost that decides
 * about threads is bytes at 8 GB/s. In a chain they share one pass over the
 * threads, and a row is still in the cache when the next one takes it up.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "gpu/cpu/backend_fast.h"
#include "gpu/cpu/fast_attention.h"

#define PAIR_COUNT_MAX (MODEL_HEAD_DIM_MAX / 2)

/* Nanoseconds for `count` floats that are read or written. */
static uint64_t floats_ns(size_t count)
{
	return count / 2;
}

static struct vec load_up_to(const float *from, size_t count)
{
	return count >= VEC_LANES ? vec_load(from) : vec_load_part(from, count);
}

static void store_up_to(float *to, struct vec a, size_t count)
{
	if (count >= VEC_LANES)
		vec_store(to, a);
	else
		vec_store_part(to, a, count);
}

/* --- rms_norm -------------------------------------------------------------- */

static float sum_squares(const float *x, size_t count)
{
	float sum = 0;

	for (size_t k = 0; k < count; k += FAST_CHUNK) {
		size_t n = count - k < FAST_CHUNK ? count - k : FAST_CHUNK;
		struct vec lanes = vec_set(0);

		for (size_t i = 0; i < n; i += VEC_LANES) {
			struct vec a = load_up_to(x + k + i, n - i);

			lanes = vec_fma(a, a, lanes);
		}
		sum += vec_sum(lanes);
	}
	return sum;
}

static void norm_row(
	const struct rms_norm_args *args, const float *x, float *out)
{
	float mean = sum_squares(x, args->width) / (float)args->width;
	struct vec inverse = vec_set(1 / sqrtf(mean + args->epsilon));
	float clip = args->clip > 0 ? args->clip : INFINITY;
	struct vec high = vec_set(clip), low = vec_set(-clip);

	for (size_t i = 0; i < args->width; i += VEC_LANES) {
		size_t rest = args->width - i;
		struct vec y = vec_mul(load_up_to(x + i, rest), inverse);

		y = vec_mul(y, load_up_to(args->weight + i, rest));
		/* In this order of arguments a NaN stays one. */
		y = vec_max(low, vec_min(high, y));
		store_up_to(out + i, y, rest);
	}
}

static uint64_t norm_begin(const void *arg)
{
	const struct rms_norm_args *args = arg;

	assert(args->width > 0);
	assert(args->out != args->x || args->out_stride == args->x_stride);
	return floats_ns((size_t)args->row_count * args->width);
}

static void norm_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct rms_norm_args *args = arg;

	(void)worker;
	for (size_t r = first; r < end; r++)
		norm_row(args, args->x + r * args->x_stride,
			args->out + r * args->out_stride);
}

/* --- rope ------------------------------------------------------------------ */

/*
 * What a row's elements are multiplied with, by element when pairs are
 * interleaved (cosine twice, sine with the sign of its term), else by pair.
 */
struct rope_table {
	float cosine[2 * PAIR_COUNT_MAX];
	float sine[2 * PAIR_COUNT_MAX];
};

static void table_fill(
	const struct rope_args *args, uint32_t row, struct rope_table *table)
{
	float position = (float)args->rows.position[row];

	for (size_t i = 0; i < args->rotary / 2; i++) {
		float cosine, sine;

		sincosf(position * args->inv_freq[i], &sine, &cosine);
		cosine *= args->scale;
		sine *= args->scale;
		if (args->interleaved) {
			table->cosine[2 * i] = cosine;
			table->cosine[2 * i + 1] = cosine;
			table->sine[2 * i] = -sine;
			table->sine[2 * i + 1] = sine;
		} else {
			table->cosine[i] = cosine;
			table->sine[i] = sine;
		}
	}
}

static void rope_interleaved(
	const struct rope_table *table, uint32_t rotary, float *head)
{
	for (size_t i = 0; i < rotary; i += VEC_LANES) {
		size_t rest = rotary - i;
		struct vec x = load_up_to(head + i, rest);
		struct vec cosine = load_up_to(table->cosine + i, rest);
		struct vec sine = load_up_to(table->sine + i, rest);

		x = vec_fma(vec_swap_pairs(x), sine, vec_mul(x, cosine));
		store_up_to(head + i, x, rest);
	}
}

static void rope_halves(
	const struct rope_table *table, uint32_t half, float *head)
{
	for (size_t i = 0; i < half; i += VEC_LANES) {
		size_t rest = half - i;
		struct vec a = load_up_to(head + i, rest);
		struct vec b = load_up_to(head + half + i, rest);
		struct vec cosine = load_up_to(table->cosine + i, rest);
		struct vec sine = load_up_to(table->sine + i, rest);
		struct vec minus = vec_sub(vec_set(0), sine);

		store_up_to(
			head + i, vec_fma(b, minus, vec_mul(a, cosine)), rest);
		store_up_to(head + half + i,
			vec_fma(a, sine, vec_mul(b, cosine)), rest);
	}
}

static uint64_t rope_begin(const void *arg)
{
	const struct rope_args *args = arg;
	size_t elements = (size_t)args->rows.count * args->rotary;

	assert(args->rotary % 2 == 0 && args->rotary / 2 <= PAIR_COUNT_MAX);
	assert(args->head_count <= 1 || args->head_stride >= args->rotary);
	/* A pair of the table takes some 7 ns. */
	return 3 * elements + floats_ns(elements * args->head_count);
}

static void rope_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct rope_args *args = arg;
	struct rope_table table;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		table_fill(args, (uint32_t)r, &table);
		for (uint32_t h = 0; h < args->head_count; h++) {
			float *head = args->x + r * args->stride +
				      (size_t)h * args->head_stride;

			if (args->interleaved)
				rope_interleaved(&table, args->rotary, head);
			else
				rope_halves(&table, args->rotary / 2, head);
		}
	}
}

/* --- kv_write -------------------------------------------------------------- */

static void write_elements(
	unsigned char *to, enum dtype type, const float *from, size_t count)
{
	uint16_t *bf16 = (void *)to;
	size_t i = 0;

	if (type == DTYPE_F32) {
		memcpy(to, from, count * sizeof(*from));
		return;
	}
	for (; i + VEC_LANES <= count; i += VEC_LANES)
		vec_store_bf16(bf16 + i, vec_load(from + i));
	for (; i < count; i++)
		bf16[i] = f32_to_bf16(from[i]);
}

static uint64_t write_begin(const void *arg)
{
	const struct kv_write_args *args = arg;
	const struct kv_view *kv = &args->kv;
	size_t size = dtype_size(kv->type);
	size_t width = (size_t)args->key_width + args->value_width;

	kv_check(kv, args->layer);
	assert(args->key_width * size <= kv->token_stride_bytes);
	assert(args->value_width == 0 ||
		(args->key_width * size <= kv->value_offset_bytes &&
			kv->value_offset_bytes + args->value_width * size <=
				kv->token_stride_bytes));
	return floats_ns(2 * width * args->rows.count);
}

static void write_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct kv_write_args *args = arg;
	const struct kv_view *kv = &args->kv;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		unsigned char *token = kv_token(kv, args->layer,
			args->rows.sequence[r], args->rows.position[r]);

		write_elements(token, kv->type,
			args->key + r * args->key_stride, args->key_width);
		if (args->value_width > 0)
			write_elements(token + kv->value_offset_bytes, kv->type,
				args->value + r * args->value_stride,
				args->value_width);
	}
}

/* --- element-wise ---------------------------------------------------------- */

static void combine_row(const struct combine_args *args, size_t row)
{
	size_t hidden = args->hidden;
	const float *out = args->expert_out + row * args->topk * hidden;
	const float *weight = args->weight + row * args->topk;
	float *x = args->x + row * hidden;
	struct vec scale = vec_set(args->scale);

	for (size_t i = 0; i < hidden; i += VEC_LANES) {
		size_t rest = hidden - i;
		struct vec sum = vec_set(0);

		for (size_t k = 0; k < args->topk; k++)
			sum = vec_fma(vec_set(weight[k]),
				load_up_to(out + k * hidden + i, rest), sum);
		if (args->shared)
			sum = vec_add(
				sum, load_up_to(args->shared + row * hidden + i,
					     rest));
		store_up_to(x + i, vec_fma(scale, sum, load_up_to(x + i, rest)),
			rest);
	}
}

static uint64_t combine_begin(const void *arg)
{
	const struct combine_args *args = arg;
	size_t row_floats = (size_t)args->hidden * (args->topk + 3);

	return floats_ns(row_floats * args->row_count);
}

static void combine_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	(void)worker;
	for (size_t row = first; row < end; row++)
		combine_row(arg, row);
}

/* The product is rounded before it is added, as the reference does. */
static void add_row(const struct add_args *args, size_t row)
{
	const float *y = args->y + row * args->width;
	float *x = args->x + row * args->width;
	struct vec scale = vec_set(args->scale);

	for (size_t i = 0; i < args->width; i += VEC_LANES) {
		size_t rest = args->width - i;
		struct vec product = vec_mul(scale, load_up_to(y + i, rest));

		store_up_to(
			x + i, vec_add(load_up_to(x + i, rest), product), rest);
	}
}

static uint64_t add_begin(const void *arg)
{
	const struct add_args *args = arg;

	return floats_ns((size_t)args->row_count * args->width * 3);
}

static void add_rows(const void *arg, size_t first, size_t end, uint32_t worker)
{
	(void)worker;
	for (size_t row = first; row < end; row++)
		add_row(arg, row);
}

static uint64_t sigmoid_gate_begin(const void *arg)
{
	const struct sigmoid_gate_args *args = arg;

	return floats_ns((size_t)args->row_count * args->width * 2);
}

static void sigmoid_gate_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct sigmoid_gate_args *args = arg;
	struct vec one = vec_set(1);

	(void)worker;
	for (size_t r = first; r < end; r++) {
		struct vec gate = vec_sub(vec_set(0), vec_set(args->gate[r]));
		struct vec open = vec_div(one, vec_add(one, vec_exp(gate)));
		float *x = args->x + r * args->width;

		for (size_t i = 0; i < args->width; i += VEC_LANES) {
			size_t rest = args->width - i;

			store_up_to(x + i,
				vec_mul(load_up_to(x + i, rest), open), rest);
		}
	}
}

/* --- one by one, and in a chain -------------------------------------------- */

/* What an operation is: begin() checks and says what it costs in ns. */
static const struct {
	uint64_t (*begin)(const void *args);
	workers_fn rows;
} kinds[ROW_OP_KIND_COUNT] = {
	[ROW_RMS_NORM] = {norm_begin, norm_rows},
	[ROW_ROPE] = {rope_begin, rope_rows},
	[ROW_KV_WRITE] = {write_begin, write_rows},
	[ROW_COMBINE] = {combine_begin, combine_rows},
	[ROW_ADD] = {add_begin, add_rows},
	[ROW_SIGMOID_GATE] = {sigmoid_gate_begin, sigmoid_gate_rows},
};

static int run_one(
	struct ops *ops, enum row_op_kind kind, const void *args, size_t rows)
{
	workers_run_cost(fast_of(ops)->workers, rows, kinds[kind].begin(args),
		kinds[kind].rows, args);
	return 0;
}

int FAST(fast_rms_norm)(struct ops *ops, const struct rms_norm_args *args)
{
	return run_one(ops, ROW_RMS_NORM, args, args->row_count);
}

int FAST(fast_rope)(struct ops *ops, const struct rope_args *args)
{
	return run_one(ops, ROW_ROPE, args, args->rows.count);
}

int FAST(fast_kv_write)(struct ops *ops, const struct kv_write_args *args)
{
	return run_one(ops, ROW_KV_WRITE, args, args->rows.count);
}

int FAST(fast_combine)(struct ops *ops, const struct combine_args *args)
{
	return run_one(ops, ROW_COMBINE, args, args->row_count);
}

int FAST(fast_add)(struct ops *ops, const struct add_args *args)
{
	return run_one(ops, ROW_ADD, args, args->row_count);
}

int FAST(fast_sigmoid_gate)(
	struct ops *ops, const struct sigmoid_gate_args *args)
{
	return run_one(ops, ROW_SIGMOID_GATE, args, args->row_count);
}

static void chain_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct chain_args *args = arg;

	for (uint32_t i = 0; i < args->count; i++) {
		const struct row_op *op = &args->list[i];

		kinds[op->kind].rows(
			&op->args, first * op->group, end * op->group, worker);
	}
}

int FAST(fast_chain)(struct ops *ops, const struct chain_args *args)
{
	uint64_t cost_ns = 0;

	assert(args->count >= 1 && args->count <= OPS_CHAIN_COUNT_MAX);
	for (uint32_t i = 0; i < args->count; i++)
		cost_ns += kinds[args->list[i].kind].begin(&args->list[i].args);
	workers_run_cost(fast_of(ops)->workers, args->row_count, cost_ns,
		chain_rows, args);
	return 0;
}
