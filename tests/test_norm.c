/* test_norm.c - rms_norm, rope and the element-wise operations */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "tests/ops_case.h"
#include "tests/suite.h"

#define ROUNDS 24

static const uint32_t thread_counts[] = CASE_THREAD_COUNTS;

#define THREAD_COUNTS (sizeof(thread_counts) / sizeof(thread_counts[0]))

/* --- rms_norm -------------------------------------------------------------- */

static struct rms_norm_args random_norm(struct pool *pool, uint32_t i)
{
	uint32_t width = 1 + suite_below(&pool->random, i % 3 ? 70 : 700);
	struct rms_norm_args args = {
		.row_count = 2 + suite_below(&pool->random, 69),
		.width = width,
		.x_stride = width + suite_below(&pool->random, 5),
		.weight = pool_floats(pool, width, 1),
		.epsilon = 1e-5f,
		.clip = i % 2 ? 0 : 0.5f,
		.out_stride = width + suite_below(&pool->random, 5),
	};

	args.x = pool_floats(pool, (size_t)args.row_count * args.x_stride, 1);
	return args;
}

static float *run_norm(
	struct pool *pool, uint32_t thread_count, struct rms_norm_args args)
{
	struct ops ops = case_ops(thread_count);

	args.out = pool_get(
		pool, (size_t)args.row_count * args.out_stride * sizeof(float));
	CU_ASSERT_EQUAL(ops.table->rms_norm(&ops, &args), 0);
	ops.table->destroy(&ops);
	return args.out;
}

static void test_rms_norm__matches_doubles(void)
{
	uint64_t seed = suite_seed(1);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct rms_norm_args args;
		uint32_t wrong = 0;
		float *out;

		pool_init(&pool, seed + i);
		args = random_norm(&pool, i);
		out = run_norm(&pool, 2, args);
		for (uint32_t r = 0; r < args.row_count; r++) {
			const float *x = args.x + (size_t)r * args.x_stride;
			double mean = 0;

			for (uint32_t k = 0; k < args.width; k++)
				mean += (double)x[k] * x[k] / args.width;
			for (uint32_t k = 0; k < args.width; k++) {
				double want = x[k] * (double)args.weight[k] /
					      sqrt(mean + (double)args.epsilon);

				if (args.clip > 0)
					want = fmax(
						fmin(want, (double)args.clip),
						-(double)args.clip);
				wrong += !case_close(
					out[(size_t)r * args.out_stride + k],
					want, fabs(want));
			}
		}
		CU_ASSERT_EQUAL(wrong, 0);
		pool_release(&pool);
	}
}

static void test_rms_norm__zeros_stay_zeros(void)
{
	float x[300] = {0}, weight[300];
	struct rms_norm_args args = {
		.row_count = 1,
		.width = 300,
		.x = x,
		.x_stride = 300,
		.weight = weight,
		.epsilon = 1e-6f,
		.out = x,
		.out_stride = 300,
	};
	struct ops ops = case_ops(1);

	for (uint32_t k = 0; k < 300; k++)
		weight[k] = 2;
	ops.table->rms_norm(&ops, &args);
	for (uint32_t k = 0; k < 300; k++)
		CU_ASSERT_EQUAL(x[k], 0);
	ops.table->destroy(&ops);
}

static void test_rms_norm__batch_and_threads_change_no_bit(void)
{
	uint64_t seed = suite_seed(2);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct rms_norm_args args, part;
		uint32_t *order, count;
		float *all;

		pool_init(&pool, seed + i);
		args = random_norm(&pool, i);
		count = args.row_count;
		all = run_norm(&pool, 1, args);
		for (size_t t = 1; t < THREAD_COUNTS; t++)
			CU_ASSERT(case_same(all,
				run_norm(&pool, thread_counts[t], args),
				(size_t)count * args.out_stride));
		order = pool_shuffle(&pool, count);
		part = args;
		for (part.row_count = count; part.row_count > 0;
			part.row_count /= 3) {
			part.x = pool_pick(&pool, args.x, order, part.row_count,
				args.x_stride);
			CU_ASSERT(case_same(run_norm(&pool, 2, part),
				pool_pick(&pool, all, order, part.row_count,
					args.out_stride),
				(size_t)part.row_count * args.out_stride));
		}
		pool_release(&pool);
	}
}

static void test_rms_norm__in_place_is_the_same(void)
{
	uint64_t seed = suite_seed(3);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct rms_norm_args args;
		struct ops ops = case_ops(3);
		size_t count;
		float *apart, *x;

		pool_init(&pool, seed + i);
		args = random_norm(&pool, i);
		args.out_stride = args.x_stride;
		count = (size_t)args.row_count * args.x_stride;
		apart = run_norm(&pool, 2, args);
		x = pool_copy(&pool, args.x, count);
		/* Between rows, in place leaves x and apart leaves zeros. */
		for (size_t j = 0; j < count; j++)
			if (j % args.x_stride >= args.width)
				apart[j] = x[j];
		args.x = x;
		args.out = x;
		CU_ASSERT_EQUAL(ops.table->rms_norm(&ops, &args), 0);
		CU_ASSERT(case_same(x, apart, count));
		ops.table->destroy(&ops);
		pool_release(&pool);
	}
}

static void test_rms_norm__poison_stays_in_its_row(void)
{
	uint64_t seed = suite_seed(4);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct rms_norm_args args;
		uint32_t bad;
		float *before, *after, *x;

		pool_init(&pool, seed + i);
		args = random_norm(&pool, i);
		bad = suite_below(&pool.random, args.row_count);
		before = run_norm(&pool, 2, args);
		x = pool_copy(
			&pool, args.x, (size_t)args.row_count * args.x_stride);
		x[(size_t)bad * args.x_stride] = i % 2 ? NAN : INFINITY;
		args.x = x;
		after = run_norm(&pool, 2, args);
		for (uint32_t r = 0; r < args.row_count; r++) {
			size_t at = (size_t)r * args.out_stride;

			CU_ASSERT(r == bad ? isnan(after[at])
					   : case_same(before + at, after + at,
						     args.out_stride));
		}
		pool_release(&pool);
	}
}

/* --- rope ------------------------------------------------------------------ */

/* Random heads; gaps between heads and rows. */
static struct rope_args random_rope(struct pool *pool, uint32_t i)
{
	uint32_t row_count = 2 + suite_below(&pool->random, 69);
	uint32_t *position = pool_get(pool, row_count * sizeof(*position));
	struct rope_args args = {
		.rows = {.count = row_count, .position = position},
		.head_count = 1 + suite_below(&pool->random, 5),
		.rotary = 2 * (1 + suite_below(&pool->random, 33)),
		.interleaved = i % 2,
		.scale = i % 3 ? 1 : 0.7f,
	};
	float *inv_freq = pool_get(pool, args.rotary / 2 * sizeof(float));

	args.head_stride = args.rotary + suite_below(&pool->random, 4);
	args.stride = args.head_count * args.head_stride +
		      suite_below(&pool->random, 4);
	for (uint32_t k = 0; k < args.rotary / 2; k++)
		inv_freq[k] =
			powf(10000, -2.0f * (float)k / (float)args.rotary);
	args.inv_freq = inv_freq;
	for (uint32_t r = 0; r < row_count; r++)
		position[r] =
			suite_below(&pool->random, r % 2 ? 100 : 1u << 24);
	args.x = pool_floats(pool, (size_t)row_count * args.stride, 1);
	return args;
}

/* Turn a copy of x and return it. */
static float *run_rope(
	struct pool *pool, uint32_t thread_count, struct rope_args args)
{
	struct ops ops = case_ops(thread_count);
	size_t bytes = (size_t)args.rows.count * args.stride * sizeof(float);
	const float *x = args.x;

	args.x = pool_get(pool, bytes);
	memcpy(args.x, x, bytes);
	CU_ASSERT_EQUAL(ops.table->rope(&ops, &args), 0);
	ops.table->destroy(&ops);
	return args.x;
}

/* What element e of a head of row r becomes, in doubles. */
static double naive_rope(
	const struct rope_args *args, uint32_t r, const float *head, uint32_t e)
{
	uint32_t half = args->rotary / 2;
	uint32_t i = args->interleaved ? e / 2 : e % half;
	bool second = args->interleaved ? e % 2 : e >= half;
	uint32_t at_a = args->interleaved ? 2 * i : i;
	uint32_t at_b = args->interleaved ? 2 * i + 1 : i + half;
	float angle = (float)args->rows.position[r] * args->inv_freq[i];
	double c = cos((double)angle) * args->scale;
	double s = sin((double)angle) * args->scale;

	return second ? head[at_b] * c + head[at_a] * s
		      : head[at_a] * c - head[at_b] * s;
}

static void test_rope__matches_doubles(void)
{
	uint64_t seed = suite_seed(5);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct rope_args args;
		uint32_t wrong = 0;
		float *out;

		pool_init(&pool, seed + i);
		args = random_rope(&pool, i);
		out = run_rope(&pool, 2, args);
		for (size_t j = 0; j < (size_t)args.rows.count * args.stride;
			j++) {
			uint32_t r = (uint32_t)(j / args.stride);
			uint32_t h =
				(uint32_t)(j % args.stride) / args.head_stride;
			uint32_t e =
				(uint32_t)(j % args.stride) % args.head_stride;
			bool turned = h < args.head_count && e < args.rotary;

			wrong += turned ? !case_close(out[j],
						  naive_rope(&args, r,
							  args.x + j - e, e),
						  4)
					: out[j] != args.x[j];
		}
		CU_ASSERT_EQUAL(wrong, 0);
		pool_release(&pool);
	}
}

static void test_rope__position_zero_scales_only(void)
{
	uint32_t position = 0;
	float inv_freq[] = {1, 0.1f}, x[] = {1, 2, 3, 4};
	struct rope_args args = {
		.rows = {.count = 1, .position = &position},
		.head_count = 1,
		.rotary = 4,
		.inv_freq = inv_freq,
		.scale = 0.5f,
		.x = x,
		.stride = 4,
		.head_stride = 4,
	};
	struct ops ops = case_ops(1);

	ops.table->rope(&ops, &args);
	for (uint32_t e = 0; e < 4; e++)
		CU_ASSERT_EQUAL(x[e], 0.5f * (float)(e + 1));
	ops.table->destroy(&ops);
}

static void test_rope__batch_and_threads_change_no_bit(void)
{
	uint64_t seed = suite_seed(6);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct rope_args args, part;
		uint32_t *order, count;
		float *all;

		pool_init(&pool, seed + i);
		args = random_rope(&pool, i);
		count = args.rows.count;
		all = run_rope(&pool, 1, args);
		for (size_t t = 1; t < THREAD_COUNTS; t++)
			CU_ASSERT(case_same(all,
				run_rope(&pool, thread_counts[t], args),
				(size_t)count * args.stride));
		order = pool_shuffle(&pool, count);
		part = args;
		for (count = args.rows.count; count > 0; count /= 3) {
			part.rows.count = count;
			part.rows.position = pool_pick(
				&pool, args.rows.position, order, count, 1);
			part.x = pool_pick(
				&pool, args.x, order, count, args.stride);
			CU_ASSERT(case_same(run_rope(&pool, 2, part),
				pool_pick(
					&pool, all, order, count, args.stride),
				(size_t)count * args.stride));
		}
		pool_release(&pool);
	}
}

static void test_rope__poison_stays_in_its_pair(void)
{
	struct pool pool;
	struct rope_args args;
	float *before, *after;
	uint32_t changed = 0;

	pool_init(&pool, suite_seed(7));
	args = random_rope(&pool, 0);
	before = run_rope(&pool, 2, args);
	args.x[args.stride] = NAN;
	after = run_rope(&pool, 2, args);
	for (size_t j = 0; j < (size_t)args.rows.count * args.stride; j++)
		changed += !case_same(before + j, after + j, 1);
	CU_ASSERT_EQUAL(changed, 2);
	CU_ASSERT(isnan(after[args.stride]));
	CU_ASSERT(isnan(after[args.stride + args.rotary / 2]));
	pool_release(&pool);
}

/* --- element-wise ---------------------------------------------------------- */

static void test_add__is_one_product_and_one_sum(void)
{
	struct pool pool;

	pool_init(&pool, suite_seed(10));
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t rows = 1 + suite_below(&pool.random, 70);
		uint32_t width = 1 + suite_below(&pool.random, 70);
		size_t count = (size_t)rows * width;
		float *before = pool_floats(&pool, count, 1);
		struct add_args args = {
			.row_count = rows,
			.width = width,
			.y = pool_floats(&pool, count, 1),
			.scale = i % 2 ? 1 : 0.22f,
			.x = pool_copy(&pool, before, count),
		};
		struct ops ops = case_ops(thread_counts[i % THREAD_COUNTS]);

		CU_ASSERT_EQUAL(ops.table->add(&ops, &args), 0);
		for (size_t j = 0; j < count; j++) {
			volatile float product = args.scale * args.y[j];

			CU_ASSERT_EQUAL(args.x[j], before[j] + product);
		}
		ops.table->destroy(&ops);
	}
	pool_release(&pool);
}

static void test_sigmoid_gate__matches_doubles(void)
{
	struct pool pool;

	pool_init(&pool, suite_seed(11));
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t rows = 1 + suite_below(&pool.random, 70);
		uint32_t width = 1 + suite_below(&pool.random, 70);
		size_t count = (size_t)rows * width;
		float *before = pool_floats(&pool, count, 1);
		float *gate = pool_floats(&pool, rows, 4);
		struct sigmoid_gate_args args = {
			.row_count = rows,
			.width = width,
			.gate = gate,
			.x = pool_copy(&pool, before, count),
		};
		struct ops ops = case_ops(thread_counts[i % THREAD_COUNTS]);
		uint32_t wrong = 0;

		if (i % 2)
			gate[rows - 1] = NAN;
		CU_ASSERT_EQUAL(ops.table->sigmoid_gate(&ops, &args), 0);
		for (size_t j = 0; j < count; j++) {
			double want =
				before[j] / (1 + exp(-(double)gate[j / width]));
			bool close = case_close(args.x[j], want, fabs(want));

			wrong += !close && !(isnan(want) && isnan(args.x[j]));
		}
		CU_ASSERT_EQUAL(wrong, 0);
		ops.table->destroy(&ops);
	}
	pool_release(&pool);
}

/* --- AVX2 and AVX-512 ------------------------------------------------------ */

/* Every operation of this file on the same input, outputs one after the other. */
static float *run_all(
	struct pool *pool, enum cpu_isa isa, uint64_t seed, size_t *count)
{
	struct ops ops = case_ops_isa(isa, 2);
	struct pool input;
	struct rms_norm_args norm;
	struct rope_args rope;
	size_t norm_count, rope_count;
	float *out;

	pool_init(&input, seed);
	norm = random_norm(&input, (uint32_t)seed);
	rope = random_rope(&input, (uint32_t)seed);
	norm_count = (size_t)norm.row_count * norm.out_stride;
	rope_count = (size_t)rope.rows.count * rope.stride;
	*count = norm_count + rope_count;
	out = pool_get(pool, *count * sizeof(*out));
	norm.out = out;
	ops.table->rms_norm(&ops, &norm);
	memcpy(out + norm_count, rope.x, rope_count * sizeof(*out));
	rope.x = out + norm_count;
	ops.table->rope(&ops, &rope);
	ops.table->sigmoid_gate(
		&ops, &(struct sigmoid_gate_args){.row_count = norm.row_count,
			      .width = norm.out_stride,
			      .gate = norm.x,
			      .x = norm.out});
	ops.table->add(&ops, &(struct add_args){.row_count = 1,
				     .width = rope.stride,
				     .y = norm.out,
				     .scale = 0.3f,
				     .x = rope.x});
	ops.table->destroy(&ops);
	pool_release(&input);
	return out;
}

static void test_norm__avx2_is_avx512(void)
{
	uint64_t seed = suite_seed(12);

	if (!cpu_isa_works(CPU_AVX512)) {
		suite_skip("no AVX-512 here to compare AVX2 with");
		return;
	}
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		size_t count, same_count;
		float *a, *b;

		pool_init(&pool, 0);
		a = run_all(&pool, CPU_AVX2, seed + i, &count);
		b = run_all(&pool, CPU_AVX512, seed + i, &same_count);
		CU_ASSERT_EQUAL(count, same_count);
		CU_ASSERT(case_same(a, b, count));
		pool_release(&pool);
	}
}

static const struct suite_case once[] = {
	SUITE_CASE(norm__avx2_is_avx512),
};

static const struct suite_case each[] = {
	SUITE_CASE(rms_norm__matches_doubles),
	SUITE_CASE(rms_norm__zeros_stay_zeros),
	SUITE_CASE(rms_norm__batch_and_threads_change_no_bit),
	SUITE_CASE(rms_norm__in_place_is_the_same),
	SUITE_CASE(rms_norm__poison_stays_in_its_row),
	SUITE_CASE(rope__matches_doubles),
	SUITE_CASE(rope__position_zero_scales_only),
	SUITE_CASE(rope__batch_and_threads_change_no_bit),
	SUITE_CASE(rope__poison_stays_in_its_pair),
	SUITE_CASE(add__is_one_product_and_one_sum),
	SUITE_CASE(sigmoid_gate__matches_doubles),
};

int main(void)
{
	return case_run("norm", CASE_LIST(once), CASE_LIST(each));
}
