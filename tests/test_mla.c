/* test_mla.c - the per-head products of latent attention */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "gpu/cpu/dot_ref.h"
#include "tests/ops_case.h"
#include "tests/suite.h"

#define ROUNDS 20

/* Which of the two operations; what it reads and writes per head. */
struct half {
	bool absorb;
	uint32_t in, out; /* what is multiplied and what comes of it */
	uint32_t tail; /* carried over behind both */
};

static struct half half_of(const struct mla_args *args, bool absorb)
{
	struct half half = {
		.absorb = absorb,
		.in = absorb ? args->nope : args->latent,
		.out = absorb ? args->latent : args->value,
		.tail = absorb ? args->tail : 0,
	};

	return half;
}

/* Random sizes; every third shape crosses a chunk of 256 or 64 columns. */
static struct mla_args random_mla(struct pool *pool, uint32_t i, bool absorb)
{
	uint32_t wide = i % 3 == 0 ? 300 : 40;
	struct mla_args args = {
		.rows.count =
			2 + suite_below(&pool->random, wide > 40 ? 6 : 40),
		.head_count = 1 + suite_below(&pool->random, 4),
		.nope = 1 + suite_below(&pool->random, absorb ? wide : 40),
		.value = 1 + suite_below(&pool->random, 40),
		.latent = 1 + suite_below(&pool->random, wide),
		.tail = absorb && i % 4 ? suite_below(&pool->random, 9) : 0,
	};
	struct half half = half_of(&args, absorb);
	uint32_t rows = args.head_count * (args.nope + args.value);

	args.kv_b = pool_weight(pool, case_type(i), rows, args.latent);
	args.x_head_stride =
		half.in + half.tail + suite_below(&pool->random, 4);
	args.x_stride = args.head_count * args.x_head_stride +
			suite_below(&pool->random, 4);
	args.out_head_stride =
		half.out + half.tail + suite_below(&pool->random, 4);
	args.out_stride = args.head_count * args.out_head_stride +
			  suite_below(&pool->random, 4);
	args.x = pool_floats(pool, (size_t)args.rows.count * args.x_stride, 1);
	if (i % 2) {
		args.lora =
			pool_lora(pool, 4, i % 5 ? 9 : 70, rows, args.latent);
		args.rows.lora = pool_lora_rows(pool, args.rows.count, 4);
	}
	return args;
}

static size_t out_count(const struct mla_args *args)
{
	return (size_t)args->rows.count * args->out_stride;
}

/* Run into a new buffer full of `fill`. */
static float *run_mla_isa(struct pool *pool, enum cpu_isa isa,
	uint32_t thread_count, bool absorb, struct mla_args args, float fill)
{
	struct ops ops = case_ops_isa(isa, thread_count);

	args.kv_b = case_kv_b(pool, isa, &args.kv_b, args.nope, args.value);
	args.out = pool_get(pool, out_count(&args) * sizeof(float));
	for (size_t i = 0; i < out_count(&args); i++)
		args.out[i] = fill;
	CU_ASSERT_EQUAL(absorb ? ops.table->mla_absorb(&ops, &args)
			       : ops.table->mla_expand(&ops, &args),
		0);
	ops.table->destroy(&ops);
	return args.out;
}

static float *run_mla(struct pool *pool, uint32_t thread_count, bool absorb,
	struct mla_args args, float fill)
{
	return run_mla_isa(pool, case_isa(), thread_count, absorb, args, fill);
}

/*
 * Element (row, col) of kv_b with the row's update added, as the update is
 * defined: w + scale * B A. *size is the sum of absolute terms.
 */
static double merged_weight(const struct mla_args *args, uint32_t r, size_t row,
	size_t col, double *size)
{
	const struct weight *w = &args->kv_b;
	const struct lora_pair *pair = NULL;
	double sum = dtype_load(w->data, w->type, row * w->cols + col);

	if (args->lora && args->rows.lora[r] != LORA_NONE)
		pair = &args->lora[args->rows.lora[r]];
	*size = fabs(sum);
	for (uint32_t j = 0; pair && j < pair->rank; j++) {
		double term =
			(double)pair->scale *
			dtype_load(pair->b, pair->type, row * pair->rank + j) *
			dtype_load(
				pair->a, pair->type, (size_t)j * w->cols + col);

		sum += term;
		*size += fabs(term);
	}
	return sum;
}

static double naive_mla(const struct mla_args *args, const struct half *half,
	const size_t at[3], double *magnitude)
{
	uint32_t r = (uint32_t)at[0];
	size_t head_row = at[1] * (args->nope + args->value);
	const float *x =
		args->x + at[0] * args->x_stride + at[1] * args->x_head_stride;
	double sum = 0;

	*magnitude = 0;
	for (uint32_t k = 0; k < half->in; k++) {
		double size;
		double w = half->absorb ? merged_weight(args, r, head_row + k,
						  at[2], &size)
					: merged_weight(args, r,
						  head_row + args->nope + at[2],
						  k, &size);

		sum += x[k] * w;
		*magnitude += fabs((double)x[k]) * size;
	}
	return sum;
}

/* Elements that are wrong; those between heads must be the fill. */
static uint32_t count_wrong(const struct mla_args *args,
	const struct half *half, const float *out, float fill)
{
	uint32_t wrong = 0;

	for (size_t i = 0; i < out_count(args); i++) {
		size_t rest = i % args->out_stride;
		size_t at[3] = {i / args->out_stride,
			rest / args->out_head_stride,
			rest % args->out_head_stride};
		double size, want;

		if (at[1] < args->head_count && at[2] >= half->out &&
			at[2] < half->out + half->tail) {
			const float *x = args->x + at[0] * args->x_stride +
					 at[1] * args->x_head_stride;

			wrong += out[i] != x[half->in + at[2] - half->out];
			continue;
		}
		if (at[1] >= args->head_count || at[2] >= half->out) {
			wrong += out[i] != fill;
			continue;
		}
		want = naive_mla(args, half, at, &size);
		wrong += !case_close(out[i], want, size);
	}
	return wrong;
}

static void check_doubles(bool absorb, uint64_t seed)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct mla_args args;
		struct half half;
		float *out;

		pool_init(&pool, seed + i);
		args = random_mla(&pool, i, absorb);
		half = half_of(&args, absorb);
		out = run_mla(&pool, 2, absorb, args, 12345);
		CU_ASSERT_EQUAL(count_wrong(&args, &half, out, 12345), 0);
		pool_release(&pool);
	}
}

static void test_mla_absorb__matches_doubles(void)
{
	check_doubles(true, suite_seed(1));
}

static void test_mla_expand__matches_doubles(void)
{
	check_doubles(false, suite_seed(2));
}

/* Absorb sums down columns, in the order of a dot product along them. */
static void test_mla_absorb__order_is_that_of_a_dot_product(void)
{
	uint64_t seed = suite_seed(9);

	for (uint32_t i = 0; i < ROUNDS; i += 2) {
		struct pool pool;
		struct mla_args args;
		float *out, *column;

		pool_init(&pool, seed + i);
		args = random_mla(&pool, i, true);
		out = run_mla(&pool, 2, true, args, 0);
		column = pool_get(&pool, args.nope * sizeof(*column));
		for (uint32_t l = 0; l < args.latent; l++) {
			/* The last head of the last row. */
			size_t r = args.rows.count - 1;
			size_t h = args.head_count - 1;
			float want;

			for (uint32_t n = 0; n < args.nope; n++)
				column[n] = dtype_load(args.kv_b.data,
					args.kv_b.type,
					(h * (args.nope + args.value) + n) *
							args.latent +
						l);
			want = dot_ref(args.x + r * args.x_stride +
					       h * args.x_head_stride,
				column, DTYPE_F32, args.nope);
			CU_ASSERT(case_same(&want,
				out + r * args.out_stride +
					h * args.out_head_stride + l,
				1));
		}
		pool_release(&pool);
	}
}

static bool subset_agrees(struct pool *pool, bool absorb,
	const struct mla_args *args, const float *all, const uint32_t *order,
	uint32_t count)
{
	struct mla_args part = *args;

	part.rows.count = count;
	part.x = pool_pick(pool, args->x, order, count, args->x_stride);
	if (args->rows.lora)
		part.rows.lora =
			pool_pick(pool, args->rows.lora, order, count, 1);
	return case_same(run_mla(pool, 2, absorb, part, 0),
		pool_pick(pool, all, order, count, args->out_stride),
		out_count(&part));
}

static void check_bits(bool absorb, uint64_t seed)
{
	static const uint32_t threads[] = CASE_THREAD_COUNTS;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct mla_args args;
		uint32_t *order, count;
		float *all;

		pool_init(&pool, seed + i);
		args = random_mla(&pool, i, absorb);
		count = args.rows.count;
		all = run_mla(&pool, 1, absorb, args, 0);
		for (size_t t = 1; t < sizeof(threads) / sizeof(threads[0]);
			t++)
			CU_ASSERT(case_same(all,
				run_mla(&pool, threads[t], absorb, args, 0),
				out_count(&args)));
		order = pool_shuffle(&pool, count);
		CU_ASSERT(
			subset_agrees(&pool, absorb, &args, all, order, count));
		for (uint32_t r = 0; r < count; r += 5)
			CU_ASSERT(subset_agrees(
				&pool, absorb, &args, all, order + r, 1));
		pool_release(&pool);
	}
}

static void test_mla_absorb__batch_and_threads_change_no_bit(void)
{
	check_bits(true, suite_seed(3));
}

static void test_mla_expand__batch_and_threads_change_no_bit(void)
{
	check_bits(false, suite_seed(4));
}

/* Rows without an update compute the same bits beside rows that have one. */
static void check_plain_rows(bool absorb, uint64_t seed)
{
	for (uint32_t i = 1; i < ROUNDS; i += 2) {
		struct pool pool;
		struct mla_args args, plain;
		float *with, *without;

		pool_init(&pool, seed + i);
		args = random_mla(&pool, i, absorb);
		plain = args;
		plain.lora = NULL;
		with = run_mla(&pool, 2, absorb, args, 0);
		without = run_mla(&pool, 2, absorb, plain, 0);
		for (uint32_t r = 0; r < args.rows.count; r++) {
			size_t at = (size_t)r * args.out_stride;
			uint32_t row = args.rows.lora[r];
			bool has = row != LORA_NONE && args.lora[row].rank > 0;

			CU_ASSERT(has != case_same(with + at, without + at,
						 args.out_stride));
		}
		pool_release(&pool);
	}
}

static void test_mla_absorb__others_lora_changes_no_bit(void)
{
	check_plain_rows(true, suite_seed(5));
}

static void test_mla_expand__others_lora_changes_no_bit(void)
{
	check_plain_rows(false, suite_seed(6));
}

static void check_poison(bool absorb, uint64_t seed)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct mla_args args;
		uint32_t bad;
		float *before, *after, *x;

		pool_init(&pool, seed + i);
		args = random_mla(&pool, i, absorb);
		bad = suite_below(&pool.random, args.rows.count);
		before = run_mla(&pool, 2, absorb, args, 0);
		x = pool_copy(
			&pool, args.x, (size_t)args.rows.count * args.x_stride);
		x[(size_t)bad * args.x_stride] = i % 2 ? NAN : INFINITY;
		args.x = x;
		after = run_mla(&pool, 2, absorb, args, 0);
		for (uint32_t r = 0; r < args.rows.count; r++) {
			size_t at = (size_t)r * args.out_stride;

			CU_ASSERT(r == bad ? !isfinite(after[at])
					   : case_same(before + at, after + at,
						     args.out_stride));
		}
		pool_release(&pool);
	}
}

static void test_mla_absorb__poison_stays_in_its_row(void)
{
	check_poison(true, suite_seed(7));
}

static void test_mla_expand__poison_stays_in_its_row(void)
{
	check_poison(false, suite_seed(8));
}

static void test_mla__avx2_and_avx512_are_equal(void)
{
	uint64_t seed = suite_seed(10);

	if (!cpu_isa_works(CPU_AVX512)) {
		suite_skip("this processor has no AVX-512");
		return;
	}
	for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
		bool absorb = i % 2;
		struct pool pool;
		struct mla_args args;

		pool_init(&pool, seed + i);
		args = random_mla(&pool, i / 2, absorb);
		CU_ASSERT(case_same(
			run_mla_isa(&pool, CPU_AVX2, 2, absorb, args, 0),
			run_mla_isa(&pool, CPU_AVX512, 2, absorb, args, 0),
			out_count(&args)));
		pool_release(&pool);
	}
}

static const struct suite_case once[] = {
	SUITE_CASE(mla__avx2_and_avx512_are_equal),
	SUITE_CASE(mla_absorb__order_is_that_of_a_dot_product),
};

static const struct suite_case each[] = {
	SUITE_CASE(mla_absorb__matches_doubles),
	SUITE_CASE(mla_expand__matches_doubles),
	SUITE_CASE(mla_absorb__batch_and_threads_change_no_bit),
	SUITE_CASE(mla_expand__batch_and_threads_change_no_bit),
	SUITE_CASE(mla_absorb__others_lora_changes_no_bit),
	SUITE_CASE(mla_expand__others_lora_changes_no_bit),
	SUITE_CASE(mla_absorb__poison_stays_in_its_row),
	SUITE_CASE(mla_expand__poison_stays_in_its_row),
};

int main(void)
{
	return case_run("mla", CASE_LIST(once), CASE_LIST(each));
}
