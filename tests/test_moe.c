/* test_moe.c - experts by slot, and the sum of their outputs */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cpu/panels.h"
#include "tests/ops_case.h"

#define ROWS ((size_t)40)
#define TOPK ((size_t)3)
#define HIDDEN ((size_t)83) /* no multiple of anything that matters */
#define INTER ((size_t)45)
#define SLOTS ((size_t)30) /* slots with weights; others have garbage offsets */
#define SLOT_IDS ((size_t)900)
#define EXPERTS ((size_t)12)
#define LORA_ROWS ((size_t)2)
#define RANK ((size_t)5)
#define MATRICES ((size_t)3)

/* One slot is [gate | up | down] with gaps; the tensor has holes. */
#define SLOT_BYTES_MAX (3 * HIDDEN * INTER * 4 + 256)
#define TENSOR_BYTES (SLOTS * (SLOT_BYTES_MAX + 640))

struct bench {
	_Alignas(64) unsigned char tensor[TENSOR_BYTES];
	uint64_t slot_offset[SLOT_IDS];
	struct lora_pair lora[LORA_ROWS * EXPERTS * MATRICES];
	_Alignas(64) unsigned char packed[TENSOR_BYTES]; /* tensor repacked */
	struct ops ops;
	struct moe_args args;
	float x[ROWS * HIDDEN];
	uint16_t slot[ROWS * TOPK];
	uint16_t expert[ROWS * TOPK];
	uint32_t lora_row[ROWS];
	enum cpu_isa isa; /* of ops */
	uint16_t live[SLOTS]; /* ids of the slots that have weights */
	float low[LORA_ROWS * EXPERTS * MATRICES][2 * RANK * HIDDEN];
	float out[ROWS * TOPK * HIDDEN];
};

/* inter_max decides how many pairs the reference keeps at once. */
static struct bench *bench_create_isa(
	enum cpu_isa isa, uint32_t thread_count, uint32_t inter_max)
{
	const struct ops_limits limits = {.row_count = ROWS,
		.sample_count = 1,
		.hidden = HIDDEN,
		.vocab = 1,
		.expert_count = EXPERTS,
		.topk = TOPK,
		.inter = inter_max,
		.lora_rank = RANK};
	struct bench *bench =
		aligned_alloc(64, (sizeof(*bench) + 63) / 64 * 64);

	if (!bench)
		abort();
	memset(bench, 0, sizeof(*bench));
	if (ops_create_cpu(isa, &limits, thread_count, NULL, &bench->ops))
		abort();
	bench->isa = isa;
	return bench;
}

static struct bench *bench_create(uint32_t thread_count, uint32_t inter_max)
{
	return bench_create_isa(case_isa(), thread_count, inter_max);
}

static void bench_destroy(struct bench *bench)
{
	bench->ops.table->destroy(&bench->ops);
	free(bench);
}

static uint64_t align64(uint64_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

/* Weights of one slot; e4m3 codes other than NaN. */
static void fill_slot(struct bench *bench, uint16_t id, uint64_t *state)
{
	const struct moe_args *args = &bench->args;
	const uint64_t offset[] = {
		0, args->up_offset_bytes, args->down_offset_bytes};

	for (size_t m = 0; m < MATRICES; m++) {
		unsigned char *at =
			bench->tensor + bench->slot_offset[id] + offset[m];

		for (size_t i = 0; i < HIDDEN * INTER; i++) {
			if (args->type == DTYPE_F8_E4M3)
				at[i] = (unsigned char)(suite_below(state, 2)
								<< 7 |
							suite_below(
								state, 0x30));
			else
				dtype_store(at, args->type, i,
					0.15f * suite_gauss(state));
		}
	}
}

/* Slots in random order, with holes between them and in their ids. */
static void place_slots(struct bench *bench, uint64_t *state)
{
	const struct moe_args *args = &bench->args;
	uint64_t size = align64(args->down_offset_bytes +
				HIDDEN * INTER * dtype_size(args->type));
	uint64_t at = 64;

	memset(bench->tensor, 0xff, sizeof(bench->tensor)); /* NaN */
	for (uint32_t id = 0; id < SLOT_IDS; id++)
		bench->slot_offset[id] = UINT64_MAX / 2;
	for (uint32_t i = 0; i < SLOTS; i++) {
		uint16_t id = (uint16_t)(i * (SLOT_IDS / SLOTS) +
					 suite_below(state, SLOT_IDS / SLOTS));

		bench->live[i] = id;
		bench->slot_offset[id] = at;
		at += size + UINT64_C(64) * suite_below(state, 10);
		fill_slot(bench, id, state);
	}
	for (uint32_t i = SLOTS; i-- > 1;) {
		uint32_t j = suite_below(state, i + 1);
		uint16_t id = bench->live[i];

		bench->live[i] = bench->live[j];
		bench->live[j] = id;
	}
}

static void fill_lora(struct bench *bench, uint64_t *state)
{
	for (uint32_t i = 0; i < LORA_ROWS * EXPERTS * MATRICES; i++) {
		struct lora_pair *pair = &bench->lora[i];
		uint32_t cols = i % MATRICES == 2 ? INTER : HIDDEN;

		pair->rank = suite_below(state, RANK + 1);
		pair->scale = 0.5f + 0.25f * (float)suite_below(state, 4);
		pair->type = DTYPE_F32;
		pair->a = bench->low[i];
		pair->b = bench->low[i] + (size_t)pair->rank * cols;
		for (uint32_t j = 0; j < 2 * RANK * HIDDEN; j++)
			bench->low[i][j] = 0.2f * suite_gauss(state);
	}
}

static void bench_fill(struct bench *bench, enum dtype type, uint64_t *state)
{
	size_t matrix = HIDDEN * INTER * dtype_size(type);

	bench->args = (struct moe_args){
		.rows = {.count = ROWS},
		.topk = TOPK,
		.hidden = HIDDEN,
		.inter = INTER,
		.x = bench->x,
		.slot = bench->slot,
		.expert = bench->expert,
		.tensor = bench->tensor,
		.slot_offset = bench->slot_offset,
		.up_offset_bytes = align64(matrix),
		.down_offset_bytes = 2 * align64(matrix),
		.type = type,
		.out = bench->out,
	};
	place_slots(bench, state);
	for (uint32_t i = 0; i < ROWS * HIDDEN; i++)
		bench->x[i] = suite_gauss(state);
	for (uint32_t p = 0; p < ROWS * TOPK; p++) {
		bench->slot[p] = bench->live[suite_below(state, SLOTS)];
		bench->expert[p] = (uint16_t)suite_below(state, EXPERTS);
	}
	for (uint32_t r = 0; r < ROWS; r++)
		bench->lora_row[r] = r % 3 ? r % 3 - 1 : LORA_NONE;
	fill_lora(bench, state);
}

static void use_lora(struct bench *bench)
{
	bench->args.rows.lora = bench->lora_row;
	bench->args.lora = bench->lora;
	bench->args.lora_stride = EXPERTS * MATRICES;
}

/* The tensor as the back end wants it, at the same places. */
static void pack_slots(struct bench *bench, struct moe_args *args)
{
	const uint64_t offset[] = {
		0, args->up_offset_bytes, args->down_offset_bytes};

	memset(bench->packed, 0xff, sizeof(bench->packed)); /* NaN */
	for (size_t i = 0; i < SLOTS * MATRICES; i++) {
		uint64_t slot = bench->slot_offset[bench->live[i / MATRICES]];
		size_t m = i % MATRICES;
		struct panels panels = {
			.layout = cpu_isa_layout(bench->isa),
			.type = args->type,
			.rows = m == 2 ? HIDDEN : INTER,
			.cols = m == 2 ? INTER : HIDDEN,
		};

		if (slot < TENSOR_BYTES)
			panels_put(&panels, bench->packed + slot + offset[m], 0,
				HIDDEN * INTER,
				bench->tensor + slot + offset[m]);
	}
	args->tensor = bench->packed;
	args->layout = cpu_isa_layout(bench->isa);
}

static void bench_run(struct bench *bench)
{
	struct moe_args args = bench->args;

	memset(bench->out, 0xa5, sizeof(bench->out));
	pack_slots(bench, &args);
	CU_ASSERT_EQUAL(bench->ops.table->moe(&bench->ops, &args), 0);
	CU_ASSERT_EQUAL(bench->ops.table->fence(&bench->ops), 0);
}

/* Same inputs for another instance of the back end. */
static void bench_copy(struct bench *to, const struct bench *from)
{
	struct ops ops = to->ops;
	enum cpu_isa isa = to->isa;

	memcpy(to, from, sizeof(*to));
	to->ops = ops;
	to->isa = isa;
	to->args.x = to->x;
	to->args.slot = to->slot;
	to->args.expert = to->expert;
	to->args.tensor = to->tensor;
	to->args.slot_offset = to->slot_offset;
	to->args.out = to->out;
	if (from->args.lora)
		use_lora(to);
}

static bool same_bits(const void *a, const void *b, size_t count)
{
	return memcmp(a, b, count * sizeof(float)) == 0;
}

/* ---- the naive one: doubles, from the last element to the first ---- */

static double naive_product(const struct bench *bench, uint32_t pair,
	int matrix, size_t output, const double *x)
{
	const struct moe_args *args = &bench->args;
	const uint64_t offset[] = {
		0, args->up_offset_bytes, args->down_offset_bytes};
	const void *data = bench->tensor +
			   bench->slot_offset[bench->slot[pair]] +
			   offset[matrix];
	size_t cols = matrix == 2 ? INTER : HIDDEN;
	uint32_t lora_row = bench->lora_row[pair / TOPK];
	const struct lora_pair *lora;
	double sum = 0;

	for (size_t i = cols; i-- > 0;)
		sum += x[i] *
		       (double)dtype_load(data, args->type, output * cols + i);
	if (!args->lora || lora_row == LORA_NONE)
		return sum;
	lora = &bench->lora[(lora_row * EXPERTS + bench->expert[pair]) *
				    MATRICES +
			    (uint32_t)matrix];
	for (uint32_t j = 0; j < lora->rank; j++)
		for (uint32_t i = 0; i < cols; i++)
			sum += (double)lora->scale *
			       (double)((const float *)lora
						->b)[output * lora->rank + j] *
			       (double)((const float *)lora->a)[j * cols + i] *
			       x[i];
	return sum;
}

static void naive_pair(const struct bench *bench, uint32_t pair, double *out)
{
	double x[HIDDEN], hidden[INTER];

	for (uint32_t i = 0; i < HIDDEN; i++)
		x[i] = (double)bench->x[pair / TOPK * HIDDEN + i];
	for (uint32_t i = 0; i < INTER; i++) {
		double gate = naive_product(bench, pair, 0, i, x);
		double up = naive_product(bench, pair, 1, i, x);

		hidden[i] = gate / (1 + exp(-gate)) * up;
	}
	for (uint32_t o = 0; o < HIDDEN; o++)
		out[o] = naive_product(bench, pair, 2, o, hidden);
}

static void assert_naive(const struct bench *bench)
{
	double want[HIDDEN];

	for (uint32_t p = 0; p < bench->args.rows.count * TOPK; p++) {
		double most = 0;

		naive_pair(bench, p, want);
		for (uint32_t o = 0; o < HIDDEN; o++)
			most = fmax(most, fabs(want[o]));
		for (uint32_t o = 0; o < HIDDEN; o++)
			CU_ASSERT_DOUBLE_EQUAL(bench->out[p * HIDDEN + o],
				want[o], 1e-5 * most + 1e-30);
	}
}

/* ---- moe ---- */

static void test_moe__every_type_agrees_with_the_naive_one(void)
{
	uint64_t state = suite_seed(21);
	struct bench *bench = bench_create(2, INTER);

	for (int type = 0; type < DTYPE_COUNT; type++) {
		/* The reference alone has it. */
		if (type == DTYPE_F8_E4M3 && case_isa() != CPU_REFERENCE)
			continue;
		bench_fill(bench, (enum dtype)type, &state);
		bench_run(bench);
		assert_naive(bench);
	}
	bench_destroy(bench);
}

static void test_moe__lora_agrees_with_the_naive_one(void)
{
	uint64_t state = suite_seed(22);
	struct bench *bench = bench_create(2, INTER);

	bench_fill(bench, DTYPE_BF16, &state);
	use_lora(bench);
	bench_run(bench);
	assert_naive(bench);
	bench_destroy(bench);
}

static void test_moe__half_lora_pairs_agree_with_float_ones(void)
{
	uint64_t state = suite_seed(23);
	struct bench *bench = bench_create(1, INTER);
	static uint16_t half[2 * RANK * HIDDEN];
	struct lora_pair *pair = &bench->lora[0];
	float out[HIDDEN];

	bench_fill(bench, DTYPE_F32, &state);
	use_lora(bench);
	bench->args.rows.count = 1;
	bench->lora_row[0] = 0;
	bench->expert[0] = 0;
	pair->rank = RANK;
	pair->b = bench->low[0] + (size_t)RANK * HIDDEN;
	for (uint32_t i = 0; i < 2 * RANK * HIDDEN; i++) {
		half[i] = f32_to_bf16(bench->low[0][i]);
		bench->low[0][i] = bf16_to_f32(half[i]);
	}
	bench_run(bench);
	memcpy(out, bench->out, sizeof(out));
	pair->type = DTYPE_BF16;
	pair->a = half;
	pair->b = half + RANK * HIDDEN;
	bench_run(bench);
	CU_ASSERT(same_bits(out, bench->out, HIDDEN));
	bench_destroy(bench);
}

static void test_moe__rows_without_lora_keep_their_bits(void)
{
	uint64_t state = suite_seed(24);
	struct bench *bench = bench_create(2, INTER);
	static float plain[ROWS * TOPK * HIDDEN];
	size_t row_size = TOPK * HIDDEN;

	bench_fill(bench, DTYPE_BF16, &state);
	/* Rank 0 is no update either. */
	for (uint32_t i = 0; i < EXPERTS * MATRICES; i++)
		bench->lora[i].rank = 0;
	for (uint32_t i = 0; i < EXPERTS; i++)
		bench->lora[(EXPERTS + i) * MATRICES].rank = 1;
	bench_run(bench);
	memcpy(plain, bench->out, sizeof(plain));
	use_lora(bench);
	bench_run(bench);
	for (uint32_t r = 0; r < ROWS; r++) {
		bool has_none = bench->lora_row[r] != 1;

		CU_ASSERT_EQUAL(same_bits(plain + r * row_size,
					bench->out + r * row_size, row_size),
			has_none);
	}
	bench_destroy(bench);
}

/* Every thread count, and every number of pairs at once. */
static void test_moe__bits_do_not_depend_on_the_split(void)
{
	static const uint32_t threads[] = {1, 2, 3, 5};
	/* 1 Mi floats of hidden leave room for 4 pairs, 300 Ki for 13. */
	static const uint32_t inters[] = {INTER, 1u << 20, 300u << 10};
	uint64_t state = suite_seed(25);
	struct bench *first = bench_create(1, INTER);

	for (int lora = 0; lora < 2; lora++) {
		bench_fill(first, DTYPE_BF16, &state);
		/* One slot with far more pairs than fit into a tile. */
		for (uint32_t p = 0; p < ROWS * TOPK / 2; p++)
			first->slot[p] = first->live[7];
		if (lora)
			use_lora(first);
		bench_run(first);
		for (size_t i = 0; i < 12; i++) {
			struct bench *other =
				bench_create(threads[i % 4], inters[i / 4]);

			bench_copy(other, first);
			bench_run(other);
			CU_ASSERT(same_bits(
				first->out, other->out, ROWS * TOPK * HIDDEN));
			bench_destroy(other);
		}
	}
	bench_destroy(first);
}

static void move_row(struct bench *to, uint32_t row, const struct bench *from,
	uint32_t from_row)
{
	memcpy(to->x + row * HIDDEN, from->x + from_row * HIDDEN,
		HIDDEN * sizeof(float));
	memcpy(to->slot + row * TOPK, from->slot + from_row * TOPK,
		TOPK * sizeof(uint16_t));
	memcpy(to->expert + row * TOPK, from->expert + from_row * TOPK,
		TOPK * sizeof(uint16_t));
	to->lora_row[row] = from->lora_row[from_row];
}

static void test_moe__bits_do_not_depend_on_the_batch(void)
{
	uint64_t state = suite_seed(26);
	struct bench *all = bench_create(2, INTER);
	struct bench *other = bench_create(2, INTER);
	size_t row_size = TOPK * HIDDEN;

	bench_fill(all, DTYPE_F16, &state);
	use_lora(all);
	bench_run(all);
	bench_copy(other, all);
	for (uint32_t r = 0; r < ROWS; r++) /* 7 and 40 have no divisor */
		move_row(other, r, all, (7 * r + 5) % ROWS);
	bench_run(other);
	for (uint32_t r = 0; r < ROWS; r++)
		CU_ASSERT(same_bits(other->out + r * row_size,
			all->out + (7 * r + 5) % ROWS * row_size, row_size));
	other->args.rows.count = 1;
	for (uint32_t r = 0; r < ROWS; r++) {
		move_row(other, 0, all, r);
		bench_run(other);
		CU_ASSERT(same_bits(
			other->out, all->out + r * row_size, row_size));
	}
	bench_destroy(other);
	bench_destroy(all);
}

static void test_moe__poison_stays_in_its_row(void)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	uint64_t state = suite_seed(27);
	struct bench *bench = bench_create(2, INTER);
	static float clean[ROWS * TOPK * HIDDEN];
	size_t row_size = TOPK * HIDDEN;

	bench_fill(bench, DTYPE_BF16, &state);
	use_lora(bench);
	bench_run(bench);
	memcpy(clean, bench->out, sizeof(clean));
	for (uint32_t r = 0; r < ROWS; r += 4)
		for (uint32_t i = r % 3; i < HIDDEN; i += r + 1)
			bench->x[r * HIDDEN + i] = bad[i % 3];
	bench_run(bench);
	for (uint32_t r = 0; r < ROWS; r++)
		CU_ASSERT_EQUAL(same_bits(clean + r * row_size,
					bench->out + r * row_size, row_size),
			r % 4 != 0);
	bench_destroy(bench);
}

/* NaN weights in slots that nobody was sent to are never read. */
static void test_moe__untouched_slots_do_not_matter(void)
{
	uint64_t state = suite_seed(28);
	struct bench *bench = bench_create(2, INTER);
	static float clean[ROWS * TOPK * HIDDEN];

	bench_fill(bench, DTYPE_F32, &state);
	for (uint32_t p = 0; p < ROWS * TOPK; p++)
		bench->slot[p] = bench->live[p % 5];
	bench_run(bench);
	memcpy(clean, bench->out, sizeof(clean));
	for (uint32_t i = 5; i < SLOTS; i++)
		bench->slot_offset[bench->live[i]] = UINT64_MAX / 2;
	bench_run(bench);
	CU_ASSERT(same_bits(clean, bench->out, ROWS * TOPK * HIDDEN));
	bench_destroy(bench);
}

/*
 * Woven equals merged: rows of an instance whose experts lie in slots of its
 * own give the bits of a base that holds the same weights, also beside rows
 * of the base.
 */
static void test_moe__woven_equals_merged(void)
{
	uint64_t state = suite_seed(29);
	struct bench *woven = bench_create(2, INTER);
	struct bench *merged = bench_create(3, INTER);
	size_t size, row_size = TOPK * HIDDEN;

	bench_fill(woven, DTYPE_BF16, &state);
	size = woven->args.down_offset_bytes + HIDDEN * INTER * 2;
	/* Base: live 0 .. 9. The instance has 1, 4 and 7 in 20, 21, 22. */
	for (uint32_t p = 0; p < ROWS * TOPK; p++) {
		uint32_t e = suite_below(&state, 10);
		bool own = p / TOPK % 2 && e % 3 == 1;

		woven->slot[p] = woven->live[own ? 20 + e / 3 : e];
		woven->expert[p] = (uint16_t)e;
	}
	bench_copy(merged, woven);
	for (uint32_t i = 0; i < 3; i++)
		memcpy(merged->tensor +
				merged->slot_offset[merged->live[3 * i + 1]],
			woven->tensor + woven->slot_offset[woven->live[20 + i]],
			size);
	for (uint32_t p = 0; p < ROWS * TOPK; p++)
		merged->slot[p] = merged->live[merged->expert[p]];
	bench_run(woven);
	bench_run(merged);
	for (uint32_t r = 1; r < ROWS; r += 2)
		CU_ASSERT(same_bits(woven->out + r * row_size,
			merged->out + r * row_size, row_size));
	CU_ASSERT(!same_bits(woven->out, merged->out,
		ROWS * TOPK * HIDDEN)); /* base rows differ */
	bench_destroy(merged);
	bench_destroy(woven);
}

static void test_moe__avx2_and_avx512_are_equal(void)
{
	uint64_t state = suite_seed(33);
	struct bench *narrow, *wide;

	if (!cpu_isa_works(CPU_AVX512)) {
		suite_skip("this processor has no AVX-512");
		return;
	}
	narrow = bench_create_isa(CPU_AVX2, 2, INTER);
	wide = bench_create_isa(CPU_AVX512, 2, INTER);
	for (uint32_t i = 0; i < CASE_TYPE_COUNT; i++) {
		bench_fill(narrow, case_type(i), &state);
		if (i % 2)
			use_lora(narrow);
		bench_copy(wide, narrow);
		bench_run(narrow);
		bench_run(wide);
		CU_ASSERT(same_bits(
			narrow->out, wide->out, ROWS * TOPK * HIDDEN));
	}
	bench_destroy(wide);
	bench_destroy(narrow);
}

static void test_moe__one_row_may_use_a_slot_twice(void)
{
	uint64_t state = suite_seed(30);
	struct bench *bench = bench_create(2, INTER);

	bench_fill(bench, DTYPE_BF16, &state);
	bench->args.rows.count = 1;
	bench->slot[2] = bench->slot[0];
	bench_run(bench);
	assert_naive(bench);
	CU_ASSERT(same_bits(bench->out, bench->out + 2 * HIDDEN, HIDDEN));
	bench_destroy(bench);
}

static void test_moe__nothing_is_written_behind_the_rows(void)
{
	uint64_t state = suite_seed(31);
	struct bench *bench = bench_create(2, INTER);
	unsigned char rest[HIDDEN * sizeof(float)];

	bench_fill(bench, DTYPE_BF16, &state);
	bench->args.rows.count = 2;
	bench_run(bench);
	memset(rest, 0xa5, sizeof(rest));
	CU_ASSERT(same_bits(bench->out + 2 * TOPK * HIDDEN, rest, HIDDEN));
	bench->args.rows.count = 0;
	bench_run(bench);
	CU_ASSERT(same_bits(bench->out, rest, HIDDEN));
	bench_destroy(bench);
}

/* ---- combine ---- */

struct sum_bench {
	float out[ROWS * TOPK * HIDDEN];
	float weight[ROWS * TOPK];
	float shared[ROWS * HIDDEN];
	float x[ROWS * HIDDEN];
	float want[ROWS * HIDDEN];
};

/* a * b + c as the back end adds: the fast ones round once. */
static float add_product(float a, float b, float c)
{
	volatile float product = a * b;

	return case_isa() == CPU_REFERENCE ? c + product : fmaf(a, b, c);
}

/* The contract, term by term; every step is rounded to float. */
static void naive_combine(struct sum_bench *bench, float scale, bool shared)
{
	for (uint32_t at = 0; at < ROWS * HIDDEN; at++) {
		uint32_t row = at / HIDDEN;
		volatile float sum = 0;

		for (uint32_t k = 0; k < TOPK; k++)
			sum = add_product(bench->weight[row * TOPK + k],
				bench->out[(row * TOPK + k) * HIDDEN +
					   at % HIDDEN],
				sum);
		if (shared)
			sum = sum + bench->shared[at];
		bench->want[at] = add_product(scale, sum, bench->x[at]);
	}
}

static void test_combine__order_is_rank_then_shared(void)
{
	static const float scales[] = {1, 0.22f};
	static struct sum_bench bench;
	uint64_t state = suite_seed(32);

	for (uint32_t i = 0; i < 16; i++) {
		bool shared = i & 1;
		uint32_t threads = i / 4 % 4 + 1;
		struct bench *back = bench_create(threads, INTER);
		struct combine_args args = {ROWS, TOPK, HIDDEN, bench.out,
			bench.weight, shared ? bench.shared : NULL,
			scales[i / 2 % 2], bench.x};

		for (uint32_t j = 0; j < ROWS * TOPK * HIDDEN; j++)
			bench.out[j] =
				suite_gauss(&state) * (j % 3 ? 1.0f : 1e6f);
		for (uint32_t j = 0; j < ROWS * TOPK; j++)
			bench.weight[j] = suite_gauss(&state);
		for (uint32_t j = 0; j < ROWS * HIDDEN; j++) {
			bench.shared[j] = 1e5f * suite_gauss(&state);
			bench.x[j] = suite_gauss(&state);
		}
		naive_combine(&bench, args.scale, shared);
		CU_ASSERT_EQUAL(back->ops.table->combine(&back->ops, &args), 0);
		CU_ASSERT(same_bits(bench.x, bench.want, ROWS * HIDDEN));
		bench_destroy(back);
	}
}

static void test_combine__large_terms_cancel_in_order(void)
{
	const float out[] = {1e8f, 3, -1e8f};
	const float weight[] = {1, 1, 1};
	const float shared = 2;
	float x = 10;
	struct bench *back = bench_create(1, INTER);
	struct combine_args args = {1, 3, 1, out, weight, &shared, 0.5f, &x};

	/* (1e8 + 3) is 1e8 in float: 0 + shared remains. */
	CU_ASSERT_EQUAL(back->ops.table->combine(&back->ops, &args), 0);
	CU_ASSERT_EQUAL(x, 11);
	bench_destroy(back);
}

static const struct suite_case once[] = {
	SUITE_CASE(moe__avx2_and_avx512_are_equal),
};

static const struct suite_case each[] = {
	SUITE_CASE(moe__every_type_agrees_with_the_naive_one),
	SUITE_CASE(moe__lora_agrees_with_the_naive_one),
	SUITE_CASE(moe__half_lora_pairs_agree_with_float_ones),
	SUITE_CASE(moe__rows_without_lora_keep_their_bits),
	SUITE_CASE(moe__bits_do_not_depend_on_the_split),
	SUITE_CASE(moe__bits_do_not_depend_on_the_batch),
	SUITE_CASE(moe__poison_stays_in_its_row),
	SUITE_CASE(moe__untouched_slots_do_not_matter),
	SUITE_CASE(moe__woven_equals_merged),
	SUITE_CASE(moe__one_row_may_use_a_slot_twice),
	SUITE_CASE(moe__nothing_is_written_behind_the_rows),
	SUITE_CASE(combine__order_is_rank_then_shared),
	SUITE_CASE(combine__large_terms_cancel_in_order),
};

int main(void)
{
	return case_run("moe", CASE_LIST(once), CASE_LIST(each));
}
