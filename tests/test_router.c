/* test_router.c - choosing experts: every family's rule, ties, rerouting */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops_case.h"

#define ROWS ((size_t)48)
#define HIDDEN ((size_t)37)
#define EXPERTS ((size_t)256)
#define TOPK ((size_t)8)
#define INSTANCES ((size_t)3)
#define SLOT_SHIFT 1000 /* instance i keeps expert e in slot e + i * this */

/* A step's inputs and outputs; the caller changes what it is about. */
struct bench {
	struct ops ops;
	enum cpu_isa isa; /* of ops */
	struct router_args args;
	float x[ROWS * HIDDEN];
	float gate[EXPERTS * HIDDEN];
	unsigned char stored[EXPERTS * HIDDEN * sizeof(float)];
	float bias[EXPERTS];
	uint32_t instance[ROWS];
	uint16_t map[INSTANCES * EXPERTS];
	uint16_t slot[ROWS * TOPK];
	uint16_t expert[ROWS * TOPK];
	float weight[ROWS * TOPK];
};

static struct bench *bench_create_isa(enum cpu_isa isa, uint32_t thread_count)
{
	const struct ops_limits limits = {.row_count = ROWS,
		.sample_count = 1,
		.hidden = HIDDEN,
		.vocab = 1,
		.expert_count = EXPERTS,
		.topk = TOPK,
		.inter = 1};
	struct bench *bench = calloc(1, sizeof(*bench));

	if (!bench ||
		ops_create_cpu(isa, &limits, thread_count, NULL, &bench->ops))
		abort();
	bench->args = (struct router_args){
		.rows = {.count = ROWS, .instance = bench->instance},
		.params = {.expert_count = EXPERTS, .topk = TOPK, .scale = 1},
		.x = bench->x,
		.gate = {bench->gate, DTYPE_F32, WEIGHT_ROWS, EXPERTS, HIDDEN},
		.map = bench->map,
		.instance_stride = EXPERTS,
		.slot = bench->slot,
		.expert = bench->expert,
		.weight = bench->weight,
	};
	for (uint32_t i = 0; i < INSTANCES * EXPERTS; i++)
		bench->map[i] =
			(uint16_t)(i % EXPERTS + i / EXPERTS * SLOT_SHIFT);
	bench->isa = isa;
	return bench;
}

static struct bench *bench_create(uint32_t thread_count)
{
	return bench_create_isa(case_isa(), thread_count);
}

static void bench_destroy(struct bench *bench)
{
	bench->ops.table->destroy(&bench->ops);
	free(bench);
}

static void bench_run(struct bench *bench)
{
	struct router_args args = bench->args;
	struct pool pool;

	pool_init(&pool, 0);
	args.gate = case_weight(&pool, bench->isa, &bench->args.gate);
	CU_ASSERT_EQUAL(bench->ops.table->router(&bench->ops, &args), 0);
	CU_ASSERT_EQUAL(bench->ops.table->fence(&bench->ops), 0);
	pool_release(&pool);
}

static void bench_params(
	struct bench *bench, const struct router_params *params)
{
	bench->args.params = *params;
	bench->args.gate.rows = params->expert_count;
}

static void bench_fill(struct bench *bench, uint64_t *state)
{
	for (uint32_t i = 0; i < ROWS * HIDDEN; i++)
		bench->x[i] = suite_gauss(state);
	for (uint32_t i = 0; i < EXPERTS * HIDDEN; i++)
		bench->gate[i] = suite_gauss(state) / sqrtf(HIDDEN);
	for (uint32_t i = 0; i < EXPERTS; i++)
		bench->bias[i] = 0.3f * suite_gauss(state) - 0.5f;
	for (uint32_t r = 0; r < ROWS; r++)
		bench->instance[r] = r % INSTANCES;
}

/* One row whose logits are exactly these. */
static void bench_logits(
	struct bench *bench, const float *logits, uint32_t count)
{
	bench->args.rows.count = 1;
	memset(bench->x, 0, HIDDEN * sizeof(*bench->x));
	bench->x[3] = 1;
	memset(bench->gate, 0, sizeof(bench->gate));
	for (uint32_t e = 0; e < count; e++)
		bench->gate[e * HIDDEN + 3] = logits[e];
}

static bool same_bits(const void *a, const void *b, size_t bytes)
{
	return memcmp(a, b, bytes) == 0;
}

/* Row `a_row` of a and `b_row` of b chose the same, with the same weights. */
static bool same_row(const struct bench *a, size_t a_row, const struct bench *b,
	size_t b_row)
{
	size_t topk = a->args.params.topk;

	return same_bits(a->expert + a_row * topk, b->expert + b_row * topk,
		       topk * sizeof(*a->expert)) &&
	       same_bits(a->weight + a_row * topk, b->weight + b_row * topk,
		       topk * sizeof(*a->weight));
}

static void assert_experts(
	const struct bench *bench, const uint16_t *want, uint32_t count)
{
	for (uint32_t k = 0; k < count; k++) {
		CU_ASSERT_EQUAL(bench->expert[k], want[k]);
		CU_ASSERT_EQUAL(bench->slot[k], want[k]);
	}
}

/* ---- the naive one: doubles, and sorting instead of scanning ---- */

struct candidate {
	double choice;
	double score;
	uint32_t id;
	bool out;
};

static int compare_candidates(const void *a, const void *b)
{
	const struct candidate *ca = a, *cb = b;

	if (ca->out != cb->out)
		return ca->out ? 1 : -1;
	if (ca->choice != cb->choice)
		return ca->choice > cb->choice ? -1 : 1;
	return ca->id < cb->id ? -1 : ca->id > cb->id;
}

/* So near that float and double may differ about the order. */
static bool is_close(double a, double b)
{
	return a != b && fabs(a - b) < 1e-5 * fmax(fabs(a), fabs(b));
}

static void naive_softmax(struct candidate *list, uint32_t count)
{
	double sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += exp(list[i].score);
	for (uint32_t i = 0; i < count; i++)
		list[i].score = exp(list[i].score) / sum;
}

static bool naive_groups(
	const struct router_params *params, struct candidate *list)
{
	uint32_t width = params->expert_count / params->group_count;
	struct candidate group[64] = {{0}}, sorted[EXPERTS];
	bool clear = true;

	for (uint32_t g = 0; g < params->group_count; g++) {
		memcpy(sorted, list + (size_t)g * width,
			width * sizeof(*sorted));
		qsort(sorted, width, sizeof(*sorted), compare_candidates);
		group[g] = (struct candidate){.id = g};
		group[g].choice = sorted[0].choice;
		if (params->group == ROUTER_GROUP_TOP2)
			group[g].choice += sorted[1].choice;
	}
	qsort(group, params->group_count, sizeof(*group), compare_candidates);
	for (uint32_t i = params->group_topk; i < params->group_count; i++) {
		clear &= !is_close(group[i - 1].choice, group[i].choice);
		for (uint32_t e = 0; e < width; e++)
			list[group[i].id * width + e].out = true;
	}
	return clear;
}

/* False: too close to call. list[0 .. topk - 1] are the chosen. */
static bool naive_route(
	const struct bench *bench, uint32_t row, struct candidate *list)
{
	const struct router_args *args = &bench->args;
	const struct router_params *params = &args->params;
	uint32_t count = params->expert_count;
	bool clear = true;
	double sum = 0;

	for (uint32_t e = 0; e < count; e++) {
		list[e] = (struct candidate){.id = e};
		for (uint32_t i = HIDDEN; i-- > 0;)
			list[e].score +=
				(double)bench->x[row * HIDDEN + i] *
				(double)dtype_load(args->gate.data,
					args->gate.type, e * HIDDEN + i);
		if (params->score == ROUTER_SIGMOID)
			list[e].score = 1 / (1 + exp(-list[e].score));
	}
	if (params->score == ROUTER_SOFTMAX)
		naive_softmax(list, count);
	for (uint32_t e = 0; e < count; e++)
		list[e].choice = list[e].score +
				 (args->bias ? (double)args->bias[e] : 0);
	if (params->group != ROUTER_GROUP_NONE)
		clear = naive_groups(params, list);
	qsort(list, count, sizeof(*list), compare_candidates);
	for (uint32_t k = 1; k <= params->topk && k < count; k++)
		clear &= list[k].out ||
			 !is_close(list[k - 1].choice, list[k].choice);
	if (params->score == ROUTER_TOPK_SOFTMAX)
		naive_softmax(list, params->topk);
	for (uint32_t k = 0; k < params->topk; k++)
		sum += list[k].score;
	for (uint32_t k = 0; k < params->topk; k++)
		list[k].score *=
			(double)params->scale /
			(params->normalise ? sum + (double)params
							     ->normalise_epsilon
					   : 1);
	return clear;
}

static void assert_row(
	const struct bench *bench, uint32_t row, const struct candidate *want)
{
	uint32_t topk = bench->args.params.topk;

	for (uint32_t k = 0; k < topk; k++) {
		uint32_t at = row * topk + k;
		uint32_t slot = want[k].id + bench->instance[row] * SLOT_SHIFT;

		CU_ASSERT_EQUAL(bench->expert[at], want[k].id);
		CU_ASSERT_EQUAL(bench->slot[at], slot);
		CU_ASSERT_DOUBLE_EQUAL(bench->weight[at], want[k].score,
			1e-5 * fabs(want[k].score) + 1e-12);
	}
}

/* Run, and compare every row that is not too close to call. */
static void assert_naive(struct bench *bench)
{
	struct candidate list[EXPERTS];
	uint32_t skipped = 0;

	bench_run(bench);
	for (uint32_t row = 0; row < bench->args.rows.count; row++) {
		if (naive_route(bench, row, list))
			assert_row(bench, row, list);
		else
			skipped++;
	}
	CU_ASSERT(skipped <= bench->args.rows.count / 8);
}

/* ---- cases ---- */

static const struct {
	struct router_params params;
	bool bias;
} families[] = {
	/* DeepSeek-V2-Lite and ESFT: greedy, not normalised, scale 1 */
	{{ROUTER_SOFTMAX, ROUTER_GROUP_NONE, 64, 6, 0, 0, false, 0, 1}, false},
	/* DeepSeek-V2: group_limited_greedy, scale 16 */
	{{ROUTER_SOFTMAX, ROUTER_GROUP_MAX, 160, 6, 8, 3, false, 0, 16}, false},
	/* DeepSeek-V3: noaux_tc */
	{{ROUTER_SIGMOID, ROUTER_GROUP_TOP2, 256, 8, 8, 4, true, 1e-20f, 2.5f},
		true},
	/* Qwen1.5-MoE, Qwen3-MoE, Mixtral, OLMoE, Granite */
	{{ROUTER_SOFTMAX, ROUTER_GROUP_NONE, 60, 4, 0, 0, false, 0, 1}, false},
	{{ROUTER_SOFTMAX, ROUTER_GROUP_NONE, 128, 8, 0, 0, true, 0, 1}, false},
	{{ROUTER_SOFTMAX, ROUTER_GROUP_NONE, 8, 2, 0, 0, true, 0, 1}, false},
	{{ROUTER_SOFTMAX, ROUTER_GROUP_NONE, 64, 8, 0, 0, false, 0, 1}, false},
	{{ROUTER_TOPK_SOFTMAX, ROUTER_GROUP_NONE, 40, 8, 0, 0, false, 0, 1},
		false},
};

#define FAMILY_COUNT (sizeof(families) / sizeof(families[0]))
#define FAMILY_V2 1
#define FAMILY_V3 2
#define FAMILY_MIXTRAL 5
#define FAMILY_GRANITE 7

static void test_router__families_agree_with_the_naive_one(void)
{
	uint64_t state = suite_seed(11);
	struct bench *bench = bench_create(2);

	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		bench_fill(bench, &state);
		bench_params(bench, &families[i].params);
		bench->args.bias = families[i].bias ? bench->bias : NULL;
		assert_naive(bench);
	}
	bench_destroy(bench);
}

/* e4m3 has no store in base/dtype.h: any code but NaN (0x7f, 0xff). */
static void bench_store_gate(
	struct bench *bench, enum dtype type, uint64_t *state)
{
	for (size_t i = 0; i < EXPERTS * HIDDEN; i++) {
		if (type == DTYPE_F8_E4M3)
			bench->stored[i] =
				(unsigned char)(suite_below(state, 2) << 7 |
						(0x10 + suite_below(
								state, 0x20)));
		else
			dtype_store(bench->stored, type, i, bench->gate[i]);
	}
	bench->args.gate.data = bench->stored;
	bench->args.gate.type = type;
}

static void test_router__reads_every_weight_type(void)
{
	uint64_t state = suite_seed(12);
	struct bench *bench = bench_create(1);

	for (int type = 0; type < DTYPE_COUNT; type++) {
		/* The reference alone has it. */
		if (type == DTYPE_F8_E4M3 && case_isa() != CPU_REFERENCE)
			continue;
		bench_fill(bench, &state);
		bench_params(bench, &families[FAMILY_GRANITE].params);
		bench_store_gate(bench, (enum dtype)type, &state);
		assert_naive(bench);
	}
	bench_destroy(bench);
}

static void test_router__topk_1_to_8_of_odd_counts(void)
{
	static const uint32_t counts[] = {8, 9, 11, 17, 63, 255};
	uint64_t state = suite_seed(13);
	struct bench *bench = bench_create(3);
	struct router_params params = {.score = ROUTER_SOFTMAX, .scale = 1};

	bench_fill(bench, &state);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		params.expert_count = counts[i];
		for (params.topk = 1; params.topk <= TOPK; params.topk++) {
			bench_params(bench, &params);
			assert_naive(bench);
		}
	}
	bench_destroy(bench);
}

static void test_router__order_is_best_first(void)
{
	static const float logits[] = {0, 3, -1, 5, 4, 1};
	static const uint16_t want[] = {3, 4, 1, 5, 0, 2};
	struct router_params params = {
		.expert_count = 6, .topk = 6, .scale = 1};
	struct bench *bench = bench_create(1);

	for (int score = ROUTER_SOFTMAX; score <= ROUTER_TOPK_SOFTMAX;
		score++) {
		params.score = (enum router_score)score;
		bench_params(bench, &params);
		bench_logits(bench, logits, 6);
		bench_run(bench);
		assert_experts(bench, want, 6);
		for (int k = 1; k < 6; k++)
			CU_ASSERT(bench->weight[k] < bench->weight[k - 1]);
	}
	bench_destroy(bench);
}

static void test_router__ties_go_to_the_lower_expert(void)
{
	static const float logits[] = {1, 2, 0, 2, 1, 2, 1};
	static const uint16_t want[] = {1, 3, 5, 0, 4};
	struct router_params params = {
		.expert_count = 7, .topk = 5, .scale = 1};
	struct bench *bench = bench_create(1);

	for (int score = ROUTER_SOFTMAX; score <= ROUTER_TOPK_SOFTMAX;
		score++) {
		params.score = (enum router_score)score;
		bench_params(bench, &params);
		bench_logits(bench, logits, 7);
		bench_run(bench);
		assert_experts(bench, want, 5);
	}
	bench_destroy(bench);
}

static void test_router__ties_go_to_the_lower_group(void)
{
	/* Four groups of two; 1, 2 and 3 are equal by both rules. */
	static const float logits[] = {0, 0, 2, 1, 1, 2, 2, 1};
	static const uint16_t want[] = {2, 5, 3, 4};
	struct router_params params = {.score = ROUTER_SIGMOID,
		.expert_count = 8,
		.topk = 4,
		.group_count = 4,
		.group_topk = 2,
		.scale = 1};
	struct bench *bench = bench_create(1);

	for (int group = ROUTER_GROUP_MAX; group <= ROUTER_GROUP_TOP2;
		group++) {
		params.group = (enum router_group)group;
		bench_params(bench, &params);
		bench_logits(bench, logits, 8);
		bench_run(bench);
		assert_experts(bench, want, 4);
	}
	bench_destroy(bench);
}

static void test_router__group_rules_differ(void)
{
	/* Group 0 has the best expert, group 1 the best two. */
	static const float logits[] = {3, -9, 2, 2, 0, 0};
	static const uint16_t by_max[] = {0, 1};
	static const uint16_t by_two[] = {2, 3};
	struct router_params params = {.score = ROUTER_SIGMOID,
		.group = ROUTER_GROUP_MAX,
		.expert_count = 6,
		.topk = 2,
		.group_count = 3,
		.group_topk = 1,
		.scale = 1};
	struct bench *bench = bench_create(1);

	bench_params(bench, &params);
	bench_logits(bench, logits, 6);
	bench_run(bench);
	assert_experts(bench, by_max, 2);
	params.group = ROUTER_GROUP_TOP2;
	bench_params(bench, &params);
	bench_run(bench);
	assert_experts(bench, by_two, 2);
	bench_destroy(bench);
}

static void test_router__bias_chooses_and_does_not_weigh(void)
{
	static const float logits[] = {2, 1, 0, -3};
	static const uint16_t want[] = {3, 1};
	struct router_params params = {.score = ROUTER_SIGMOID,
		.expert_count = 4,
		.topk = 2,
		.scale = 1};
	struct bench *bench = bench_create(1);

	bench_params(bench, &params);
	bench_logits(bench, logits, 4);
	bench->bias[0] = -1;
	bench->bias[3] = 5;
	bench->args.bias = bench->bias;
	bench_run(bench);
	assert_experts(bench, want, 2);
	CU_ASSERT_DOUBLE_EQUAL(bench->weight[0], 1 / (1 + exp(3)), 1e-7);
	CU_ASSERT_DOUBLE_EQUAL(bench->weight[1], 1 / (1 + exp(-1)), 1e-7);
	bench_destroy(bench);
}

/*
 * All biased scores are negative: a group that is masked with 0 instead of
 * -inf would win every place.
 */
static void test_router__lost_groups_stay_out_below_zero(void)
{
	static const float logits[] = {1, 1, 1, 1, 0, 0, 0, 0};
	static const uint16_t want[] = {1, 3, 0, 2};
	struct router_params params = {.score = ROUTER_SIGMOID,
		.group = ROUTER_GROUP_TOP2,
		.expert_count = 8,
		.topk = 4,
		.group_count = 2,
		.group_topk = 1,
		.scale = 1};
	struct bench *bench = bench_create(1);

	bench_params(bench, &params);
	bench_logits(bench, logits, 8);
	for (uint32_t e = 0; e < 8; e++)
		bench->bias[e] = e % 2 ? -2.0f : -3.0f;
	bench->args.bias = bench->bias;
	bench_run(bench);
	assert_experts(bench, want, 4);
	bench_destroy(bench);
}

/* Not even what counts as -inf in the winning group yields to a loser. */
static void test_router__winning_group_of_minus_inf_keeps_losers_out(void)
{
	static const float logits[] = {-INFINITY, -INFINITY, -INFINITY,
		-INFINITY, -INFINITY, -INFINITY, -INFINITY, 5};
	static const uint16_t want[] = {7, 4, 5, 6};
	struct router_params params = {.score = ROUTER_TOPK_SOFTMAX,
		.group = ROUTER_GROUP_MAX,
		.expert_count = 8,
		.topk = 4,
		.group_count = 2,
		.group_topk = 1,
		.scale = 1};
	struct bench *bench = bench_create(1);

	bench_params(bench, &params);
	bench_logits(bench, logits, 8);
	bench_run(bench);
	assert_experts(bench, want, 4);
	CU_ASSERT_EQUAL(bench->weight[0], 1);
	CU_ASSERT_EQUAL(bench->weight[3], 0);
	bench_destroy(bench);
}

static void test_router__v2_normalised_skips_the_scale(void)
{
	static const float logits[] = {2, 1, 0, -3, 1, 1};
	struct router_params params = families[FAMILY_V2].params;
	struct bench *bench = bench_create(1);
	float sum = 0;

	/* norm_topk_prob true: configured as scale 1 (the factor is 16). */
	params.group = ROUTER_GROUP_NONE;
	params.expert_count = 6;
	params.topk = 3;
	params.normalise = true;
	params.scale = 1;
	bench_params(bench, &params);
	bench_logits(bench, logits, 6);
	bench_run(bench);
	for (int k = 0; k < 3; k++)
		sum += bench->weight[k];
	CU_ASSERT_DOUBLE_EQUAL(sum, 1, 1e-6);
	/* false: the scale alone. */
	params.normalise = false;
	params.scale = 16;
	bench_params(bench, &params);
	bench_run(bench);
	CU_ASSERT_DOUBLE_EQUAL(bench->weight[0],
		16 * exp(2) / (exp(2) + 3 * exp(1) + 1 + exp(-3)), 1e-5);
	bench_destroy(bench);
}

static void test_router__granite_softmax_is_over_the_chosen(void)
{
	static const float logits[] = {5, 4, 4.5f, 0, 3};
	struct router_params params = {.score = ROUTER_TOPK_SOFTMAX,
		.expert_count = 5,
		.topk = 2,
		.scale = 1};
	struct bench *bench = bench_create(1);

	bench_params(bench, &params);
	bench_logits(bench, logits, 5);
	bench_run(bench);
	CU_ASSERT_DOUBLE_EQUAL(bench->weight[0], 1 / (1 + exp(-0.5)), 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(bench->weight[1], 1 / (1 + exp(0.5)), 1e-6);
	bench_destroy(bench);
}

static void test_router__epsilon_is_added_to_the_sum(void)
{
	static const float small[] = {-200, -200, -200};
	static const float even[] = {0, 0, 0};
	struct router_params params = {.score = ROUTER_SIGMOID,
		.expert_count = 3,
		.topk = 2,
		.normalise = true,
		.normalise_epsilon = 1e-20f,
		.scale = 2};
	struct bench *bench = bench_create(1);

	bench_params(bench, &params);
	bench_logits(bench, small, 3);
	bench_run(bench);
	CU_ASSERT_EQUAL(bench->weight[0], 0); /* and not 0 / 0 */
	params.normalise_epsilon = 1;
	bench_params(bench, &params);
	bench_logits(bench, even, 3);
	bench_run(bench);
	CU_ASSERT_EQUAL(bench->weight[0], 0.5f); /* 2 * 0.5 / (1 + 1) */
	bench_destroy(bench);
}

static void test_router__large_logits_do_not_overflow(void)
{
	static const float logits[] = {1000, 999, -1000, 998};
	struct router_params params = {
		.expert_count = 4, .topk = 3, .scale = 1};
	struct bench *bench = bench_create(1);

	for (int score = ROUTER_SOFTMAX; score <= ROUTER_TOPK_SOFTMAX;
		score++) {
		params.score = (enum router_score)score;
		bench_params(bench, &params);
		bench_logits(bench, logits, 4);
		bench_run(bench);
		for (int k = 0; k < 3; k++)
			CU_ASSERT(isfinite(bench->weight[k]));
		CU_ASSERT_EQUAL(bench->expert[0], 0);
	}
	bench_destroy(bench);
}

/* A map of another instance moves slots and nothing else; none is the base. */
static void test_router__instances_only_change_slots(void)
{
	uint64_t state = suite_seed(14);
	struct bench *bench = bench_create(2);
	struct bench *base = bench_create(2);

	bench_params(bench, &families[FAMILY_V3].params);
	bench_params(base, &families[FAMILY_V3].params);
	bench_fill(bench, &state);
	memcpy(base->x, bench->x, sizeof(bench->x));
	memcpy(base->gate, bench->gate, sizeof(bench->gate));
	/* Instance 1 tunes three experts; the rest stay the base's. */
	for (uint32_t e = 0; e < EXPERTS; e++)
		bench->map[EXPERTS + e] = (uint16_t)(e % 3 ? e : e + 700);
	for (uint32_t r = 0; r < ROWS; r++)
		bench->instance[r] = r % 2;
	base->args.map = NULL;
	bench_run(bench);
	bench_run(base);
	CU_ASSERT(same_bits(bench->expert, base->expert, sizeof(base->expert)));
	CU_ASSERT(same_bits(bench->weight, base->weight, sizeof(base->weight)));
	for (uint32_t i = 0; i < ROWS * TOPK; i++) {
		bool tuned = i / TOPK % 2 && bench->expert[i] % 3 == 0;

		CU_ASSERT_EQUAL(base->slot[i], base->expert[i]);
		CU_ASSERT_EQUAL(
			bench->slot[i], base->slot[i] + (tuned ? 700 : 0));
	}
	bench_destroy(base);
	bench_destroy(bench);
}

/* Ids in range, all different, and only of as many groups as may win. */
static void assert_valid(const struct bench *bench, uint32_t row)
{
	const struct router_params *params = &bench->args.params;
	bool seen[EXPERTS] = {false}, group_seen[EXPERTS] = {false};
	uint32_t group_count = 0;

	for (uint32_t k = 0; k < params->topk; k++) {
		uint32_t at = row * params->topk + k;
		uint32_t e = bench->expert[at];
		uint32_t g = params->group == ROUTER_GROUP_NONE
				     ? 0
				     : e / (params->expert_count /
						   params->group_count);

		CU_ASSERT_FATAL(e < params->expert_count);
		CU_ASSERT(!seen[e]);
		seen[e] = true;
		group_count += !group_seen[g];
		group_seen[g] = true;
		CU_ASSERT_EQUAL(
			bench->slot[at], e + bench->instance[row] * SLOT_SHIFT);
	}
	CU_ASSERT(params->group == ROUTER_GROUP_NONE ||
		  group_count <= params->group_topk);
}

static void poison(struct bench *bench, uint32_t row)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};

	for (uint32_t i = 0; i < HIDDEN; i++)
		if (row % 2 || i == row % HIDDEN)
			bench->x[row * HIDDEN + i] = bad[row / 2 % 3];
}

static void test_router__poisoned_rows_stay_valid_and_alone(void)
{
	uint64_t state = suite_seed(15);
	struct bench *bench = bench_create(2);
	struct bench *clean = bench_create(2);

	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		bench_params(bench, &families[i].params);
		bench_params(clean, &families[i].params);
		bench_fill(bench, &state);
		memcpy(clean->x, bench->x, sizeof(bench->x));
		memcpy(clean->gate, bench->gate, sizeof(bench->gate));
		memcpy(clean->bias, bench->bias, sizeof(bench->bias));
		bench->args.bias = families[i].bias ? bench->bias : NULL;
		clean->args.bias = families[i].bias ? clean->bias : NULL;
		for (uint32_t r = 0; r < 12; r++)
			poison(bench, 4 * r);
		for (uint32_t r = 0; r < 12; r++)
			poison(bench, 4 * r + 1);
		bench_run(bench);
		bench_run(clean);
		for (uint32_t r = 0; r < ROWS; r++) {
			assert_valid(bench, r);
			CU_ASSERT(r % 4 < 2 || same_row(bench, r, clean, r));
		}
	}
	bench_destroy(clean);
	bench_destroy(bench);
}

static void test_router__nan_counts_as_minus_inf(void)
{
	static const float logits[] = {NAN, 1, NAN, 2, -INFINITY};
	static const uint16_t want[] = {3, 1, 0, 2};
	struct router_params params = {.score = ROUTER_SIGMOID,
		.expert_count = 5,
		.topk = 4,
		.scale = 1};
	struct bench *bench = bench_create(1);

	bench_params(bench, &params);
	bench_logits(bench, logits, 5);
	/* -inf logits are a score of 0 here, above NaN: make it -inf. */
	bench->bias[4] = -INFINITY;
	bench->args.bias = bench->bias;
	bench_run(bench);
	assert_experts(bench, want, 4);
	CU_ASSERT(isnan(bench->weight[2]) && isnan(bench->weight[3]));
	CU_ASSERT(isfinite(bench->weight[0]));
	bench_destroy(bench);
}

/* The same row gives the same bits wherever it stands. */
static void test_router__bits_do_not_depend_on_the_batch(void)
{
	static const uint32_t threads[] = {1, 2, 3, 5};
	uint64_t state = suite_seed(16);
	struct bench *all = bench_create(1);

	bench_fill(all, &state);
	bench_params(all, &families[FAMILY_V3].params);
	all->args.bias = all->bias;
	bench_run(all);
	for (size_t t = 0; t < sizeof(threads) / sizeof(threads[0]); t++) {
		struct bench *other = bench_create(threads[t]);
		uint32_t count = threads[t] == 1 ? 1 : ROWS - threads[t];

		bench_params(other, &families[FAMILY_V3].params);
		memcpy(other->gate, all->gate, sizeof(all->gate));
		other->args.bias = all->bias;
		other->args.rows.count = count;
		/* Row r of the other batch is row (7 r + 5) mod ROWS. */
		for (size_t r = 0; r < count; r++)
			memcpy(other->x + r * HIDDEN,
				all->x + (7 * r + 5) % ROWS * HIDDEN,
				HIDDEN * sizeof(float));
		bench_run(other);
		for (size_t r = 0; r < count; r++)
			CU_ASSERT(same_row(other, r, all, (7 * r + 5) % ROWS));
		bench_destroy(other);
	}
	bench_destroy(all);
}

static void test_router__avx2_and_avx512_are_equal(void)
{
	uint64_t state = suite_seed(17);
	struct bench *narrow, *wide;

	if (!cpu_isa_works(CPU_AVX512)) {
		suite_skip("this processor has no AVX-512");
		return;
	}
	narrow = bench_create_isa(CPU_AVX2, 2);
	wide = bench_create_isa(CPU_AVX512, 2);
	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		bench_fill(narrow, &state);
		memcpy(wide->x, narrow->x, sizeof(narrow->x));
		memcpy(wide->gate, narrow->gate, sizeof(narrow->gate));
		bench_params(narrow, &families[i].params);
		bench_params(wide, &families[i].params);
		bench_run(narrow);
		bench_run(wide);
		for (size_t r = 0; r < ROWS; r++)
			CU_ASSERT(same_row(narrow, r, wide, r));
	}
	bench_destroy(wide);
	bench_destroy(narrow);
}

static const struct suite_case once[] = {
	SUITE_CASE(router__avx2_and_avx512_are_equal),
};

static const struct suite_case each[] = {
	SUITE_CASE(router__families_agree_with_the_naive_one),
	SUITE_CASE(router__reads_every_weight_type),
	SUITE_CASE(router__topk_1_to_8_of_odd_counts),
	SUITE_CASE(router__order_is_best_first),
	SUITE_CASE(router__ties_go_to_the_lower_expert),
	SUITE_CASE(router__ties_go_to_the_lower_group),
	SUITE_CASE(router__group_rules_differ),
	SUITE_CASE(router__bias_chooses_and_does_not_weigh),
	SUITE_CASE(router__lost_groups_stay_out_below_zero),
	SUITE_CASE(router__winning_group_of_minus_inf_keeps_losers_out),
	SUITE_CASE(router__v2_normalised_skips_the_scale),
	SUITE_CASE(router__granite_softmax_is_over_the_chosen),
	SUITE_CASE(router__epsilon_is_added_to_the_sum),
	SUITE_CASE(router__large_logits_do_not_overflow),
	SUITE_CASE(router__instances_only_change_slots),
	SUITE_CASE(router__poisoned_rows_stay_valid_and_alone),
	SUITE_CASE(router__nan_counts_as_minus_inf),
	SUITE_CASE(router__bits_do_not_depend_on_the_batch),
};

int main(void)
{
	return case_run("router", CASE_LIST(once), CASE_LIST(each));
}
