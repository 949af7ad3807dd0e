/* test_linear.c - fixed-order sums, embed, linear, gather, the back end */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gpu/cpu/dot_ref.h"
#include "tests/ops_case.h"
#include "gpu/cpu/backend_ref.h"
#include "tests/suite.h"

#define ROUNDS 30

/* --- fixed-order sums ------------------------------------------------------ */

/*
 * The order of gpu/ops.h, word for word; volatile keeps the compiler from
 * any order of its own.
 */
static float literal_dot(const float *x, const float *w, size_t count)
{
	volatile float total = 0;

	for (size_t chunk = 0; chunk * 256 < count; chunk++) {
		volatile float lane[16];

		for (size_t j = 0; j < 16; j++) {
			lane[j] = 0;
			for (size_t k = chunk * 256 + j;
				k < count && k < (chunk + 1) * 256; k += 16) {
				volatile float product = x[k] * w[k];

				lane[j] = lane[j] + product;
			}
		}
		for (size_t j = 0; j < 8; j++)
			lane[j] = lane[j] + lane[j + 8];
		for (size_t j = 0; j < 4; j++)
			lane[j] = lane[j] + lane[j + 4];
		for (size_t j = 0; j < 2; j++)
			lane[j] = lane[j] + lane[j + 2];
		lane[0] = lane[0] + lane[1];
		total = total + lane[0];
	}
	return total;
}

/* Compare one length in every type; add the bits to the hash *hash. */
static void check_dot(struct pool *pool, size_t count, uint32_t *hash)
{
	float *x = pool_floats(pool, count, 1);
	float *ones = pool_get(pool, count * sizeof(*ones));

	for (size_t k = 0; k < count; k++)
		ones[k] = 1;
	for (uint32_t i = 0; i < CASE_TYPE_COUNT; i++) {
		enum dtype type = case_type(i);
		void *w = pool_elements(pool, count, type, 1);
		float *wide = pool_get(pool, count * sizeof(*wide));
		float got = dot_ref(x, w, type, count);

		for (size_t k = 0; k < count; k++)
			wide[k] = dtype_load(w, type, k);
		CU_ASSERT_EQUAL(
			case_bits(got), case_bits(literal_dot(x, wide, count)));
		*hash = (*hash ^ case_bits(got)) * 16777619u;
	}
	CU_ASSERT_EQUAL(case_bits(sum_squares_ref(x, count)),
		case_bits(literal_dot(x, x, count)));
	CU_ASSERT_EQUAL(case_bits(sum_ref(x, count)),
		case_bits(literal_dot(x, ones, count)));
}

static void test_dot_ref__order_is_literal(void)
{
	uint64_t seed = suite_seed(2);
	uint32_t hash = 0;

	for (size_t count = 1; count < 1100; count += count < 40 ? 1 : 53) {
		struct pool pool;

		pool_init(&pool, seed + count);
		check_dot(&pool, count, &hash);
		pool_release(&pool);
	}
}

static void test_dot_ref__bits_are_those_of_every_compiler(void)
{
	uint32_t hash = 2166136261u;

	for (size_t count = 1; count < 1100; count += count < 40 ? 1 : 53) {
		struct pool pool;

		pool_init(&pool, count);
		check_dot(&pool, count, &hash);
		pool_release(&pool);
	}
	/* The same from gcc and clang, optimised or not. */
	CU_ASSERT_EQUAL(hash, 0x075db6dau);
}

static void test_dot_ref__fp8_is_exact(void)
{
	uint8_t w[256];
	float x[256], wide[256];

	for (uint32_t i = 0; i < 256; i++) {
		w[i] = (uint8_t)(i & 0x7eu);
		x[i] = (float)i - 100;
		wide[i] = f8_e4m3_to_f32(w[i]);
	}
	CU_ASSERT_EQUAL(case_bits(dot_ref(x, w, DTYPE_F8_E4M3, 256)),
		case_bits(literal_dot(x, wide, 256)));
}

static void test_dot_rows_ref__row_is_dot_ref(void)
{
	struct pool pool;

	pool_init(&pool, suite_seed(3));
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t count = 1 + suite_below(&pool.random, 700);
		uint32_t rows =
			1 + suite_below(&pool.random, DOT_ROW_COUNT_MAX);
		enum dtype type = case_type(i);
		void *w = pool_elements(&pool, count, type, 1);
		float *all = pool_floats(&pool, (size_t)rows * count, 1);
		const float *x[DOT_ROW_COUNT_MAX];
		float out[DOT_ROW_COUNT_MAX];

		for (uint32_t r = 0; r < rows; r++)
			x[r] = all + (size_t)r * count;
		dot_rows_ref(x, rows, w, type, count, out);
		for (uint32_t r = 0; r < rows; r++)
			CU_ASSERT_EQUAL(case_bits(out[r]),
				case_bits(dot_ref(x[r], w, type, count)));
	}
	pool_release(&pool);
}

static void test_axpy_ref__order_is_ascending(void)
{
	struct pool pool;

	pool_init(&pool, suite_seed(4));
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t count = 1 + suite_below(&pool.random, 700);
		enum dtype type = case_type(i);
		void *w = pool_elements(&pool, count, type, 1);
		float *out = pool_floats(&pool, count, 1);
		float *before = pool_get(&pool, count * sizeof(*out));

		memcpy(before, out, count * sizeof(*out));
		axpy_ref(1.7f, w, type, count, out);
		for (uint32_t k = 0; k < count; k++) {
			volatile float product = 1.7f * dtype_load(w, type, k);

			CU_ASSERT_EQUAL(out[k], before[k] + product);
		}
	}
	pool_release(&pool);
}

/* --- linear ---------------------------------------------------------------- */

/* A random linear; its pool has all arrays but out. */
static struct linear_args random_linear(
	struct pool *pool, uint32_t i, uint32_t row_count)
{
	uint32_t k = 1 + suite_below(&pool->random, i % 4 == 0 ? 600 : 70);
	uint32_t n = 1 + suite_below(&pool->random, 40);
	struct linear_args args = {
		.rows.count = row_count,
		.x_stride = k + suite_below(&pool->random, 5),
		.weight = pool_weight(pool, case_type(i), n, k),
		.scale = i % 3 == 1 ? 0.37f : 1,
		.clip = i % 5 == 2 ? 4.5f : 0,
		.out_stride = n + suite_below(&pool->random, 5),
	};

	args.x = pool_floats(pool, (size_t)row_count * args.x_stride, 1);
	if (i % 2)
		args.bias = pool_floats(pool, n, 1);
	if (i % 3) {
		args.lora = pool_lora(pool, 4, 9, n, k);
		args.rows.lora = pool_lora_rows(pool, row_count, 4);
	}
	return args;
}

static float *pool_filled(struct pool *pool, size_t count, float fill)
{
	float *out = pool_get(pool, count * sizeof(float));

	for (size_t i = 0; i < count; i++)
		out[i] = fill;
	return out;
}

/* Run into a new buffer full of `fill`. */
static float *run_linear_isa(struct pool *pool, enum cpu_isa isa,
	uint32_t thread_count, struct linear_args args, float fill)
{
	size_t count = (size_t)args.rows.count * args.out_stride;
	struct ops ops = case_ops_isa(isa, thread_count);

	args.out = pool_filled(pool, count, fill);
	args.weight = case_weight(pool, isa, &args.weight);
	CU_ASSERT_EQUAL(ops.table->linear(&ops, &args, 1), 0);
	CU_ASSERT_EQUAL(ops.table->fence(&ops), 0);
	ops.table->destroy(&ops);
	return args.out;
}

static float *run_linear(struct pool *pool, uint32_t thread_count,
	struct linear_args args, float fill)
{
	return run_linear_isa(pool, case_isa(), thread_count, args, fill);
}

static const struct lora_pair *linear_pair(
	const struct linear_args *args, uint32_t r)
{
	if (!args->lora || args->rows.lora[r] == LORA_NONE)
		return NULL;
	return &args->lora[args->rows.lora[r]];
}

/* One output in doubles; *magnitude sums the absolute terms. */
static double naive_linear(const struct linear_args *args, uint32_t r,
	uint32_t n, double *magnitude)
{
	const struct weight *w = &args->weight;
	const struct lora_pair *pair = linear_pair(args, r);
	const float *x = args->x + (size_t)r * args->x_stride;
	double sum = args->bias ? (double)args->bias[n] : 0;
	double size = fabs(sum);

	for (uint32_t k = 0; k < w->cols; k++) {
		double term = (double)x[k] * dtype_load(w->data, w->type,
						     (size_t)n * w->cols + k);

		sum += term;
		size += fabs(term);
	}
	sum *= args->scale;
	size *= fabs((double)args->scale);
	for (uint32_t j = 0; pair && j < pair->rank; j++) {
		double b = (double)pair->scale *
			   dtype_load(pair->b, pair->type,
				   (size_t)n * pair->rank + j);

		for (uint32_t k = 0; k < w->cols; k++) {
			double term = b * x[k] *
				      dtype_load(pair->a, pair->type,
					      (size_t)j * w->cols + k);

			sum += term;
			size += fabs(term);
		}
	}
	*magnitude = size;
	if (args->clip > 0)
		sum = fmin(fmax(sum, -args->clip), args->clip);
	return sum;
}

static void test_linear__matches_doubles(void)
{
	uint64_t seed = suite_seed(5);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct linear_args args;
		uint32_t wrong = 0;
		float *out;

		pool_init(&pool, seed + i);
		args = random_linear(
			&pool, i, 1 + suite_below(&pool.random, 70));
		out = run_linear(&pool, 2, args, NAN);
		for (uint32_t r = 0; r < args.rows.count; r++)
			for (uint32_t n = 0; n < args.weight.rows; n++) {
				double size;
				double want = naive_linear(&args, r, n, &size);

				wrong += !case_close(
					out[(size_t)r * args.out_stride + n],
					want, size);
			}
		CU_ASSERT_EQUAL(wrong, 0);
		pool_release(&pool);
	}
}

static void test_linear__writes_only_its_columns(void)
{
	struct pool pool;
	struct linear_args args;
	float *out;

	pool_init(&pool, suite_seed(6));
	args = random_linear(&pool, 1, 11);
	args.out_stride = args.weight.rows + 3;
	out = run_linear(&pool, 3, args, 12345);
	for (uint32_t r = 0; r < 11; r++)
		for (uint32_t n = 0; n < args.out_stride; n++) {
			float got = out[r * args.out_stride + n];

			CU_ASSERT((got == 12345) == (n >= args.weight.rows));
		}
	pool_release(&pool);
}

/* The rows `order` alone give what they gave in the whole step. */
static bool subset_agrees(struct pool *pool, const struct linear_args *args,
	const float *all, const uint32_t *order, uint32_t count)
{
	struct linear_args part = *args;
	float *got, *want;

	part.rows.count = count;
	part.x = pool_pick(pool, args->x, order, count, args->x_stride);
	if (args->rows.lora)
		part.rows.lora =
			pool_pick(pool, args->rows.lora, order, count, 1);
	want = pool_pick(pool, all, order, count, args->out_stride);
	got = run_linear(pool, 2, part, 0);
	return case_same(got, want, (size_t)count * args->out_stride);
}

static void test_linear__batch_changes_no_bit(void)
{
	uint64_t seed = suite_seed(7);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct linear_args args;
		uint32_t *order, count;
		float *all;

		pool_init(&pool, seed + i);
		count = 2 + suite_below(&pool.random, 69);
		args = random_linear(&pool, i, count);
		all = run_linear(&pool, 3, args, 0);
		order = pool_shuffle(&pool, count);
		CU_ASSERT(subset_agrees(&pool, &args, all, order, count));
		CU_ASSERT(subset_agrees(&pool, &args, all, order, count / 2));
		for (uint32_t r = 0; r < count; r += 7)
			CU_ASSERT(
				subset_agrees(&pool, &args, all, order + r, 1));
		pool_release(&pool);
	}
}

static void test_linear__threads_change_no_bit(void)
{
	static const uint32_t counts[] = CASE_THREAD_COUNTS;
	uint64_t seed = suite_seed(8);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct linear_args args;
		float *first;

		pool_init(&pool, seed + i);
		args = random_linear(
			&pool, i, 1 + suite_below(&pool.random, 70));
		first = run_linear(&pool, counts[0], args, 0);
		for (size_t c = 1; c < sizeof(counts) / sizeof(counts[0]); c++)
			CU_ASSERT(case_same(first,
				run_linear(&pool, counts[c], args, 0),
				(size_t)args.rows.count * args.out_stride));
		pool_release(&pool);
	}
}

static void test_linear__others_lora_changes_no_bit(void)
{
	uint64_t seed = suite_seed(9);

	for (uint32_t i = 1; i < ROUNDS; i += 3) {
		struct pool pool;
		struct linear_args args, plain;
		uint32_t changed = 0;
		float *with, *without;

		pool_init(&pool, seed + i);
		args = random_linear(&pool, i, 40);
		args.clip = 0;
		plain = args;
		plain.rows.lora = NULL;
		with = run_linear(&pool, 2, args, 0);
		without = run_linear(&pool, 2, plain, 0);
		for (uint32_t r = 0; r < 40; r++) {
			size_t at = (size_t)r * args.out_stride;
			const struct lora_pair *pair = linear_pair(&args, r);
			bool same = case_same(
				with + at, without + at, args.out_stride);

			CU_ASSERT(same == (!pair || pair->rank == 0));
			changed += !same;
		}
		CU_ASSERT(changed > 0);
		pool_release(&pool);
	}
}

static void test_linear__poison_stays_in_its_row(void)
{
	static const float poisons[] = {NAN, INFINITY, -INFINITY};
	uint64_t seed = suite_seed(10);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct linear_args args;
		uint32_t count, bad;
		float *before, *after, *x;

		pool_init(&pool, seed + i);
		count = 2 + suite_below(&pool.random, 69);
		bad = suite_below(&pool.random, count);
		args = random_linear(&pool, i, count);
		args.clip = 0;
		before = run_linear(&pool, 2, args, 0);
		x = pool_copy(&pool, args.x, (size_t)count * args.x_stride);
		for (uint32_t k = 0; k < args.weight.cols; k++)
			x[bad * args.x_stride + k] = poisons[i % 3];
		args.x = x;
		after = run_linear(&pool, 2, args, 0);
		for (uint32_t r = 0; r < count; r++) {
			size_t at = (size_t)r * args.out_stride;

			CU_ASSERT(r == bad ? !isfinite(after[at])
					   : case_same(before + at, after + at,
						     args.out_stride));
		}
		pool_release(&pool);
	}
}

static void test_linear__clip_holds_both_ends(void)
{
	float x[] = {3, -3, 1, NAN}, w = 2, out[4];
	struct linear_args args = {
		.rows.count = 4,
		.x = x,
		.x_stride = 1,
		.weight = {&w, DTYPE_F32, cpu_isa_layout(case_isa()), 1, 1},
		.scale = 1,
		.clip = 4,
		.out = out,
		.out_stride = 1,
	};
	struct ops ops = case_ops(1);

	ops.table->linear(&ops, &args, 1);
	CU_ASSERT_EQUAL(out[0], 4);
	CU_ASSERT_EQUAL(out[1], -4);
	CU_ASSERT_EQUAL(out[2], 2);
	CU_ASSERT(isnan(out[3]));
	ops.table->destroy(&ops);
}

static void test_linear__no_rows_is_nothing(void)
{
	float w = 2;
	struct linear_args args = {
		.weight = {&w, DTYPE_F32, cpu_isa_layout(case_isa()), 1, 1},
		.scale = 1,
	};
	struct ops ops = case_ops(2);

	CU_ASSERT_EQUAL(ops.table->linear(&ops, &args, 1), 0);
	ops.table->destroy(&ops);
}

/* --- lists of linears -------------------------------------------------------- */

/* A list gives what its members give one by one, from one x or several. */
static void test_linear__list_is_one_by_one(void)
{
	uint64_t seed = suite_seed(13);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct linear_args *list;
		float *want[OPS_LINEAR_COUNT_MAX];
		uint32_t rows, count = 1 + i % OPS_LINEAR_COUNT_MAX;
		struct ops ops = case_ops(1 + i % 3);

		pool_init(&pool, seed + i);
		rows = i % 2 ? 1 : 2 + suite_below(&pool.random, 40);
		list = pool_get(&pool, count * sizeof(*list));
		for (uint32_t j = 0; j < count; j++) {
			list[j] = random_linear(&pool, i + j, rows);
			if (j > 0 && i % 3) {
				list[j] = list[0];
				list[j].weight = pool_weight(&pool,
					case_type(i + j), 1 + 17 * j,
					list[0].weight.cols);
				list[j].bias = NULL;
				list[j].lora = NULL;
				list[j].out_stride = 17 * j + 2;
			}
			want[j] = run_linear(&pool, 1, list[j], 0);
			list[j].out = pool_filled(
				&pool, (size_t)rows * list[j].out_stride, 0);
			list[j].weight =
				case_weight(&pool, case_isa(), &list[j].weight);
		}
		CU_ASSERT_EQUAL(ops.table->linear(&ops, list, count), 0);
		for (uint32_t j = 0; j < count; j++)
			CU_ASSERT(case_same(want[j], list[j].out,
				(size_t)rows * list[j].out_stride));
		ops.table->destroy(&ops);
		pool_release(&pool);
	}
}

/* More rows than fit into the area for packed rows, and many columns. */
static void test_linear__many_columns_take_passes(void)
{
	static const uint32_t rows[] = {1, 5, 130};
	uint64_t seed = suite_seed(14);

	for (uint32_t i = 0; i < 3; i++) {
		struct pool pool;
		struct linear_args args;
		float *all;

		pool_init(&pool, seed + i);
		args = random_linear(&pool, 0, rows[i]);
		args.weight = pool_weight(&pool, DTYPE_BF16, 33, 3001);
		args.x_stride = 3001;
		args.out_stride = 33;
		args.x = pool_floats(&pool, (size_t)rows[i] * args.x_stride, 1);
		all = run_linear(&pool, 2, args, 0);
		for (uint32_t r = 0; r < rows[i]; r += 31) {
			struct linear_args one = args;

			one.rows.count = 1;
			one.x += (size_t)r * args.x_stride;
			CU_ASSERT(case_same(run_linear(&pool, 1, one, 0),
				all + (size_t)r * 33, 33));
		}
		pool_release(&pool);
	}
}

/* --- gate_up ----------------------------------------------------------------- */

static struct gate_up_args random_gate_up(
	struct pool *pool, uint32_t i, uint32_t row_count)
{
	uint32_t k = 1 + suite_below(&pool->random, i % 4 == 0 ? 600 : 70);
	uint32_t n = 1 + suite_below(&pool->random, 70);
	struct gate_up_args args = {
		.rows.count = row_count,
		.x_stride = k + suite_below(&pool->random, 5),
		.gate = pool_weight(pool, case_type(i), n, k),
		.up = pool_weight(pool, case_type(i), n, k),
		.out_stride = n + suite_below(&pool->random, 5),
	};

	args.x = pool_floats(
		pool, (size_t)row_count * args.x_stride, 1 / sqrtf((float)k));
	if (i % 3) {
		args.gate_lora = pool_lora(pool, 4, 9, n, k);
		args.rows.lora = pool_lora_rows(pool, row_count, 4);
	}
	if (i % 3 == 2)
		args.up_lora = pool_lora(pool, 4, 9, n, k);
	return args;
}

static float *run_gate_up_isa(struct pool *pool, enum cpu_isa isa,
	uint32_t thread_count, struct gate_up_args args)
{
	struct ops ops = case_ops_isa(isa, thread_count);

	args.out = pool_filled(
		pool, (size_t)args.rows.count * args.out_stride, 77);
	args.gate = case_weight(pool, isa, &args.gate);
	args.up = case_weight(pool, isa, &args.up);
	CU_ASSERT_EQUAL(ops.table->gate_up(&ops, &args), 0);
	CU_ASSERT_EQUAL(ops.table->fence(&ops), 0);
	ops.table->destroy(&ops);
	return args.out;
}

static float *run_gate_up(
	struct pool *pool, uint32_t thread_count, struct gate_up_args args)
{
	return run_gate_up_isa(pool, case_isa(), thread_count, args);
}

/* One of the two products in doubles. */
static double naive_part(const struct gate_up_args *args, bool up, uint32_t r,
	uint32_t n, double *size)
{
	struct linear_args part = {
		.rows = args->rows,
		.x = args->x,
		.x_stride = args->x_stride,
		.weight = up ? args->up : args->gate,
		.scale = 1,
		.lora = up ? args->up_lora : args->gate_lora,
	};

	return naive_linear(&part, r, n, size);
}

/* How much silu(g) u moves when its arguments do, and its own roundings. */
static bool gated_close(float got, const double part[2], const double size[2])
{
	double sigmoid = 1 / (1 + exp(-part[0]));
	double silu = part[0] * sigmoid;
	double slope = fabs(sigmoid + silu * (1 - sigmoid));

	return case_close(got, silu * part[1],
		(slope + 1e-3) * size[0] * (fabs(part[1]) + 1e-3 * size[1]) +
			fabs(silu) * size[1] + fabs(silu * part[1]));
}

/* Elements of one row that are wrong; those behind it must be the fill. */
static uint32_t gate_up_wrong(
	const struct gate_up_args *args, uint32_t r, const float *row)
{
	uint32_t wrong = 0;

	for (uint32_t n = 0; n < args->out_stride; n++) {
		double part[2], size[2];

		if (n >= args->gate.rows) {
			wrong += row[n] != 77;
			continue;
		}
		part[0] = naive_part(args, false, r, n, &size[0]);
		part[1] = naive_part(args, true, r, n, &size[1]);
		wrong += !gated_close(row[n], part, size);
	}
	return wrong;
}

static void test_gate_up__matches_doubles(void)
{
	uint64_t seed = suite_seed(15);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct gate_up_args args;
		uint32_t rows, wrong = 0;
		float *out;

		pool_init(&pool, seed + i);
		rows = 1 + suite_below(&pool.random, 70);
		args = random_gate_up(&pool, i, rows);
		out = run_gate_up(&pool, 2, args);
		for (uint32_t r = 0; r < rows; r++)
			wrong += gate_up_wrong(
				&args, r, out + (size_t)r * args.out_stride);
		CU_ASSERT_EQUAL(wrong, 0);
		pool_release(&pool);
	}
}

static void test_gate_up__batch_and_threads_change_no_bit(void)
{
	static const uint32_t threads[] = CASE_THREAD_COUNTS;
	uint64_t seed = suite_seed(16);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct gate_up_args args;
		uint32_t rows;
		float *all;

		pool_init(&pool, seed + i);
		rows = 2 + suite_below(&pool.random, 69);
		args = random_gate_up(&pool, i, rows);
		all = run_gate_up(&pool, 1, args);
		for (size_t t = 1; t < sizeof(threads) / sizeof(threads[0]);
			t++)
			CU_ASSERT(case_same(all,
				run_gate_up(&pool, threads[t], args),
				(size_t)rows * args.out_stride));
		for (uint32_t r = 0; r < rows; r += 9) {
			struct gate_up_args one = args;

			one.rows.count = 1;
			one.x += (size_t)r * args.x_stride;
			if (one.rows.lora)
				one.rows.lora += r;
			CU_ASSERT(case_same(run_gate_up(&pool, 2, one),
				all + (size_t)r * args.out_stride,
				args.out_stride));
		}
		pool_release(&pool);
	}
}

static void test_gate_up__poison_stays_in_its_row(void)
{
	uint64_t seed = suite_seed(17);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct gate_up_args args;
		uint32_t rows, bad;
		float *before, *after, *x;

		pool_init(&pool, seed + i);
		rows = 2 + suite_below(&pool.random, 69);
		bad = suite_below(&pool.random, rows);
		args = random_gate_up(&pool, i, rows);
		before = run_gate_up(&pool, 2, args);
		x = pool_copy(&pool, args.x, (size_t)rows * args.x_stride);
		x[(size_t)bad * args.x_stride] = NAN;
		args.x = x;
		after = run_gate_up(&pool, 2, args);
		for (uint32_t r = 0; r < rows; r++) {
			size_t at = (size_t)r * args.out_stride;

			CU_ASSERT(r == bad ? isnan(after[at])
					   : case_same(before + at, after + at,
						     args.out_stride));
		}
		pool_release(&pool);
	}
}

/* --- AVX2 and AVX-512 ---------------------------------------------------------- */

static void test_linear__avx2_and_avx512_are_equal(void)
{
	uint64_t seed = suite_seed(18);

	if (!cpu_isa_works(CPU_AVX512)) {
		suite_skip("this processor has no AVX-512");
		return;
	}
	for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
		struct pool pool;
		struct linear_args args;
		struct gate_up_args gated;
		uint32_t rows;

		pool_init(&pool, seed + i);
		rows = 1 + suite_below(&pool.random, 70);
		args = random_linear(&pool, i, rows);
		gated = random_gate_up(&pool, i, rows);
		CU_ASSERT(case_same(run_linear_isa(&pool, CPU_AVX2, 2, args, 0),
			run_linear_isa(&pool, CPU_AVX512, 2, args, 0),
			(size_t)rows * args.out_stride));
		CU_ASSERT(case_same(run_gate_up_isa(&pool, CPU_AVX2, 2, gated),
			run_gate_up_isa(&pool, CPU_AVX512, 2, gated),
			(size_t)rows * gated.out_stride));
		pool_release(&pool);
	}
}

/* --- embed, gather --------------------------------------------------------- */

static void test_embed__rows_of_the_table(void)
{
	static const uint32_t counts[] = CASE_THREAD_COUNTS;
	struct pool pool;

	pool_init(&pool, suite_seed(11));
	for (uint32_t i = 0; i < 12; i++) {
		uint32_t width = 1 + suite_below(&pool.random, 90);
		uint32_t count = 1 + suite_below(&pool.random, 70);
		uint32_t *token = pool_get(&pool, count * sizeof(*token));
		struct embed_args args = {
			.rows = {.count = count, .token = token},
			.table = pool_weight(&pool, case_type(i), 50, width),
			.scale = i % 2 ? 1 : 2.5f,
			.out = pool_floats(&pool, (size_t)count * width, 1),
		};
		struct ops ops = case_ops(counts[i % 4]);
		struct weight table = args.table;

		args.table = case_weight(&pool, case_isa(), &table);
		for (uint32_t r = 0; r < count; r++)
			token[r] = r ? suite_below(&pool.random, 50) : 49;
		CU_ASSERT_EQUAL(ops.table->embed(&ops, &args), 0);
		for (uint32_t j = 0; j < count * width; j++) {
			size_t at =
				(size_t)token[j / width] * width + j % width;
			float want = args.scale *
				     dtype_load(table.data, table.type, at);

			CU_ASSERT_EQUAL(args.out[j], want);
		}
		ops.table->destroy(&ops);
	}
	pool_release(&pool);
}

static void test_gather__rows_in_any_order(void)
{
	static const uint32_t counts[] = CASE_THREAD_COUNTS;
	struct pool pool;

	pool_init(&pool, suite_seed(12));
	for (uint32_t i = 0; i < 12; i++) {
		uint32_t width = 1 + suite_below(&pool.random, 90);
		uint32_t count = 1 + suite_below(&pool.random, 70);
		uint32_t *index = pool_get(&pool, count * sizeof(*index));
		struct gather_args args = {
			.count = count,
			.width = width,
			.index = index,
			.x = pool_floats(&pool, (size_t)20 * width, 1),
			.out = pool_floats(&pool, (size_t)count * width, 1),
		};
		struct ops ops = case_ops(counts[i % 4]);

		for (uint32_t r = 0; r < count; r++)
			index[r] = r ? suite_below(&pool.random, 20) : 19;
		CU_ASSERT_EQUAL(ops.table->gather(&ops, &args), 0);
		CU_ASSERT(case_same(args.out,
			pool_pick(&pool, args.x, index, count, width),
			(size_t)count * width));
		ops.table->destroy(&ops);
	}
	pool_release(&pool);
}

/* --- the back end ---------------------------------------------------------- */

static void test_ops_create_cpu__too_large_is_refused(void)
{
	struct ops_limits limits = {
		.row_count = UINT32_MAX,
		.topk = UINT32_MAX,
	};
	struct ops ops = {0};

	CU_ASSERT_EQUAL(
		ops_create_cpu(case_isa(), &limits, 1, NULL, &ops), -ENOMEM);
	limits = (struct ops_limits){
		.row_count = UINT32_MAX, .lora_rank = UINT32_MAX};
	CU_ASSERT_EQUAL(
		ops_create_cpu(case_isa(), &limits, 1, NULL, &ops), -ENOMEM);
	CU_ASSERT_PTR_NULL(ops.table);
	CU_ASSERT_PTR_NULL(ops.context);
}

static void test_ops_create_cpu__has_every_operation(void)
{
	struct ops ops = case_ops(2);
	const void *const *entry = (const void *const *)ops.table;

	CU_ASSERT_STRING_EQUAL(ops.table->name, cpu_isa_name(case_isa()));
	for (size_t i = 0; i < sizeof(*ops.table) / sizeof(*entry); i++)
		CU_ASSERT_PTR_NOT_NULL(entry[i]);
	ops.table->destroy(&ops);
	CU_ASSERT_PTR_NULL(ops.table);
}

static const struct suite_case once[] = {
	SUITE_CASE(dot_ref__order_is_literal),
	SUITE_CASE(dot_ref__bits_are_those_of_every_compiler),
	SUITE_CASE(dot_ref__fp8_is_exact),
	SUITE_CASE(dot_rows_ref__row_is_dot_ref),
	SUITE_CASE(axpy_ref__order_is_ascending),
	SUITE_CASE(linear__avx2_and_avx512_are_equal),
};

static const struct suite_case each[] = {
	SUITE_CASE(linear__matches_doubles),
	SUITE_CASE(linear__writes_only_its_columns),
	SUITE_CASE(linear__batch_changes_no_bit),
	SUITE_CASE(linear__threads_change_no_bit),
	SUITE_CASE(linear__others_lora_changes_no_bit),
	SUITE_CASE(linear__poison_stays_in_its_row),
	SUITE_CASE(linear__clip_holds_both_ends),
	SUITE_CASE(linear__no_rows_is_nothing),
	SUITE_CASE(linear__list_is_one_by_one),
	SUITE_CASE(linear__many_columns_take_passes),
	SUITE_CASE(gate_up__matches_doubles),
	SUITE_CASE(gate_up__batch_and_threads_change_no_bit),
	SUITE_CASE(gate_up__poison_stays_in_its_row),
	SUITE_CASE(embed__rows_of_the_table),
	SUITE_CASE(gather__rows_in_any_order),
	SUITE_CASE(ops_create_cpu__too_large_is_refused),
	SUITE_CASE(ops_create_cpu__has_every_operation),
};

int main(void)
{
	return case_run("linear", CASE_LIST(once), CASE_LIST(each));
}
