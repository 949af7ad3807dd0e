/* test_gemm_amx.c - products in tile registers, bit for bit as documented */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model below does what the manual says that TDPBF16PS does, one number at
 * a time. Rows alone, which vectors multiply, are held to the same model.
 */
#include <math.h>
#include <string.h>

#include "gpu/cpu/cpu.h"
#include "gpu/cpu/gemm_amx.h"
#include "gpu/cpu/panels.h"
#include "tests/ops_case.h"
#include "tests/suite.h"

#define ROWS_MAX 200
#define CASES 60

/* --- the model -------------------------------------------------------------
 */

static float from_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* Numbers below the smallest normal one are zeros of their sign. */
static float flushed(float value)
{
	uint32_t bits = case_bits(value);

	return (bits & 0x7f800000) ? value : from_bits(bits & 0x80000000);
}

static float model_fma(float a, float b, float c)
{
	return flushed(fmaf(flushed(a), flushed(b), flushed(c)));
}

/* The upper, middle and lower parts of an f32. */
static void model_split(float x, float part[3])
{
	part[0] = from_bits(case_bits(x) & 0xffff0000);
	part[1] = part[2] = 0;
	if (!isfinite(x))
		return;
	part[1] = from_bits(case_bits(x - part[0]) & 0xffff0000);
	part[2] = x - part[0] - part[1];
}

/* One output: weight(k) of cols columns, every second from k on. */
static float model_chain(
	const float *x, const float *w, size_t first, size_t end, int part)
{
	float sum = 0;

	for (size_t k = first; k < end; k += 2) {
		float parts[3];

		model_split(x[k], parts);
		sum = model_fma(parts[part], w[k], sum);
	}
	return sum;
}

static float model_dot(const float *x, const float *w, size_t cols)
{
	float total[3] = {0, 0, 0};

	for (size_t k = 0; k < cols; k += AMX_COLS) {
		size_t end = k + AMX_COLS < cols ? k + AMX_COLS : cols;

		for (int i = 0; i < AMX_PARTS; i++) {
			float even = model_chain(x, w, k, end, i);
			float odd = model_chain(x, w, k + 1, end, i);

			total[i] = flushed(total[i] + flushed(even + odd));
		}
	}
	return flushed(flushed(total[2] + total[1]) + total[0]);
}

/* --- cases -----------------------------------------------------------------
 */

static float element(uint64_t *random, bool wide)
{
	uint32_t bits = (uint32_t)suite_random(random);
	uint32_t exponent = 120 + bits % 10;

	if (wide)
		exponent = bits % 256; /* infinities, NaN and tiny ones, too */
	return from_bits((bits & 0x807fffff) | exponent << 23);
}

struct product {
	struct linear_args args; /* weights as in a checkpoint */
	float *weights; /* [rows][cols] as floats */
};

static struct product make(struct pool *pool, bool wide)
{
	uint32_t rows = (uint32_t)(1 + suite_random(&pool->random) % ROWS_MAX);
	uint32_t outputs = (uint32_t)(1 + suite_random(&pool->random) % 70);
	uint32_t cols = (uint32_t)(1 + suite_random(&pool->random) % 300);
	size_t count = (size_t)outputs * cols;
	uint16_t *w = pool_get(pool, count * sizeof(*w));
	float *x = pool_get(pool, (size_t)rows * cols * sizeof(*x));
	struct product p = {.weights = pool_get(pool, count * sizeof(float)),
		.args = {
			.rows.count = rows,
			.x = x,
			.x_stride = cols,
			.weight = {w, DTYPE_BF16, WEIGHT_ROWS, outputs, cols},
			.scale = 1,
			.out_stride = outputs,
		}};

	if (suite_random(&pool->random) % 2 == 0)
		p.args.rows.count = 1;
	for (size_t i = 0; i < count; i++) {
		w[i] = (uint16_t)(case_bits(element(&pool->random, wide)) >>
				  16);
		p.weights[i] = from_bits((uint32_t)w[i] << 16);
	}
	for (size_t i = 0; i < (size_t)rows * cols; i++)
		x[i] = element(&pool->random, wide);
	return p;
}

static size_t count_wrong(struct pool *pool, struct ops *ops, bool wide)
{
	struct product p = make(pool, wide);
	struct linear_args args = p.args;
	uint32_t outputs = args.weight.rows, cols = args.weight.cols;
	float *out = pool_get(
		pool, (size_t)args.rows.count * outputs * sizeof(*out));
	size_t wrong = 0;

	args.weight = case_weight(pool, CPU_AMX, &p.args.weight);
	args.out = out;
	CU_ASSERT_EQUAL(ops->table->linear(ops, &args, 1), 0);
	for (uint32_t r = 0; r < args.rows.count; r++)
		for (uint32_t n = 0; n < outputs; n++) {
			float want = model_dot(args.x + (size_t)r * cols,
				p.weights + (size_t)n * cols, cols);

			wrong += !case_same(
				&out[(size_t)r * outputs + n], &want, 1);
		}
	return wrong;
}

static bool has_amx(void)
{
	bool works = cpu_isa_works(CPU_AMX);

	if (!works)
		suite_skip("this processor has no AMX, or the kernel keeps it");
	return works;
}

static void compare(bool wide)
{
	uint64_t seed = suite_seed(2097);

	if (!has_amx())
		return;
	for (uint64_t i = 0; i < CASES; i++) {
		struct ops ops = case_ops_isa(CPU_AMX, 1 + i % 2);
		struct pool pool;

		pool_init(&pool, seed + i);
		CU_ASSERT_EQUAL(count_wrong(&pool, &ops, wide), 0);
		pool_release(&pool);
		ops.table->destroy(&ops);
	}
}

static void test_amx_sweep__is_the_instruction_step_by_step(void)
{
	compare(false);
}

static void test_amx_sweep__flushes_and_overflows_as_the_instruction(void)
{
	compare(true);
}

/* Three parts lose nothing: what is packed comes out again. */
static void test_amx_row__gives_back_what_was_packed(void)
{
	uint64_t random = suite_seed(2098);

	if (!has_amx())
		return;
	for (uint32_t cols = 1; cols < 100; cols++) {
		float x[3][100], out[100];
		const float *rows[3] = {x[0], x[1], x[2]};
		unsigned char packed[128 * AMX_PARTS * 2 * 3];

		for (uint32_t i = 0; i < 300; i++)
			x[i / 100][i % 100] = element(&random, false);
		amx_pack(rows, 3, cols, packed);
		for (uint32_t r = 0; r < 3; r++) {
			amx_row(packed, 3, r, cols, out);
			CU_ASSERT_EQUAL(
				memcmp(out, x[r], cols * sizeof(float)), 0);
		}
	}
}

/* Columns put sixteen at a time are those of a whole row. */
static void test_amx_put__packs_as_amx_pack(void)
{
	uint64_t random = suite_seed(2099);

	if (!has_amx())
		return;
	for (uint32_t cols = 1; cols < 100; cols++) {
		float x[2][112];
		const float *rows[2] = {x[0], x[1]};
		unsigned char want[128 * AMX_PARTS * 2 * 2];
		unsigned char got[sizeof(want)];

		for (uint32_t i = 0; i < 224; i++)
			x[i / 112][i % 112] = element(&random, false);
		memset(got, 0xff, sizeof(got));
		memset(want, 0xff, sizeof(want));
		amx_pack(rows, 2, cols, want);
		for (uint32_t r = 0; r < 2; r++)
			for (size_t n = 0; n < cols; n += PANEL_ROWS)
				amx_put(got, 2, r, cols, n, x[r] + n);
		CU_ASSERT_EQUAL(memcmp(got, want, sizeof(want)), 0);
	}
}

static const struct suite_case cases[] = {
	SUITE_CASE(amx_sweep__is_the_instruction_step_by_step),
	SUITE_CASE(amx_sweep__flushes_and_overflows_as_the_instruction),
	SUITE_CASE(amx_row__gives_back_what_was_packed),
	SUITE_CASE(amx_put__packs_as_amx_pack),
};

int main(void)
{
	return suite_run("gemm_amx", cases, sizeof(cases) / sizeof(cases[0]));
}
