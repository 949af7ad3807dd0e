/* test_sample.c - choosing the next token, and the numbers behind it */
/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "gpu/cpu/philox.h"
#include "gpu/ops.h"
#include "tests/ops_case.h"
#include "tests/suite.h"

#define VOCAB_MAX 4099
#define ROWS 24
#define NONE UINT32_MAX
#define DRAWS 20000

/* As gpu/cpu/sample_ref.c states it. */
#define STREAM UINT32_C(0x746f6b65)

struct bench {
	struct ops ops;
	uint32_t vocab;
	float logits[ROWS * VOCAB_MAX];
	float before[ROWS * VOCAB_MAX];
	struct sample_params params[ROWS];
	struct sample_result out[ROWS];
};

static const struct sample_params plain = {.temperature = 1,
	.top_p = 1,
	.repetition_penalty = 1,
	.seed = 0x123456789abcdef0u};

static struct bench *bench_create_isa(
	enum cpu_isa isa, uint32_t thread_count, uint32_t vocab)
{
	const struct ops_limits limits = {.row_count = 1,
		.sample_count = ROWS,
		.hidden = 1,
		.vocab = VOCAB_MAX,
		.expert_count = 1,
		.topk = 1,
		.inter = 1};
	struct bench *bench = calloc(1, sizeof(*bench));

	if (!bench ||
		ops_create_cpu(isa, &limits, thread_count, NULL, &bench->ops))
		abort();
	bench->vocab = vocab;
	for (uint32_t r = 0; r < ROWS; r++)
		bench->params[r] = plain;
	return bench;
}

static struct bench *bench_create(uint32_t thread_count, uint32_t vocab)
{
	return bench_create_isa(case_isa(), thread_count, vocab);
}

static void bench_destroy(struct bench *bench)
{
	bench->ops.table->destroy(&bench->ops);
	free(bench);
}

static void bench_run(struct bench *bench, uint32_t count)
{
	struct sample_args args = {
		count, bench->vocab, bench->logits, bench->params, bench->out};
	size_t size = (size_t)count * bench->vocab * sizeof(*bench->logits);

	memcpy(bench->before, bench->logits, size);
	memset(bench->out, 0xa5, sizeof(bench->out));
	CU_ASSERT_EQUAL(bench->ops.table->sample(&bench->ops, &args), 0);
	CU_ASSERT_EQUAL(bench->ops.table->fence(&bench->ops), 0);
	CU_ASSERT_EQUAL(memcmp(bench->before, bench->logits, size), 0);
}

/* The token of row 0. */
static uint32_t bench_token(struct bench *bench)
{
	bench_run(bench, 1);
	return bench->out[0].token;
}

static struct bench *bench_of(const float *logits, uint32_t count)
{
	struct bench *bench = bench_create(1, count);

	memcpy(bench->logits, logits, count * sizeof(*logits));
	return bench;
}

/* ---- the naive one: sort everything, then cut ---- */

struct ranked {
	double logit; /* after the changes */
	double p; /* after temperature */
	uint32_t token;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *ra = a, *rb = b;

	if (ra->logit != rb->logit)
		return ra->logit > rb->logit ? -1 : 1;
	return ra->token < rb->token ? -1 : 1;
}

static float naive_logit(
	const struct sample_params *params, float logit, uint32_t token)
{
	for (uint32_t i = 0; i < params->bias_count; i++)
		if (params->biases[i].token == token)
			logit += params->biases[i].bias;
	if (params->mask && !(params->mask[token >> 5] & 1u << (token & 31)))
		logit = -INFINITY;
	for (uint32_t i = 0; i < params->use_count; i++) {
		const struct token_use *use = &params->uses[i];

		if (use->token != token)
			continue;
		if (use->prompt_count + use->output_count > 0)
			logit = logit > 0 ? logit / params->repetition_penalty
					  : logit * params->repetition_penalty;
		logit -= use->output_count ? params->presence_penalty : 0;
		logit -= params->frequency_penalty * (float)use->output_count;
	}
	return logit;
}

/* Number of tokens kept; list has them best first. */
static uint32_t naive_kept(const struct sample_params *params,
	const float *logits, uint32_t vocab, struct ranked *list)
{
	uint32_t count = 0, keep;
	double sum = 0, reached = 0;

	for (uint32_t v = vocab; v-- > 0;) {
		float logit = naive_logit(params, logits[v], v);

		if (logit > -INFINITY)
			list[count++] = (struct ranked){(double)logit, 0, v};
	}
	qsort(list, count, sizeof(*list), compare_ranked);
	if (params->top_k > 0 && params->top_k < count)
		count = params->top_k;
	for (uint32_t i = 0; i < count; i++) {
		list[i].p = exp((list[i].logit - list[0].logit) /
				(double)params->temperature);
		sum += list[i].p;
	}
	keep = count;
	for (uint32_t i = 0; i < count && params->top_p < 1; i++) {
		reached += list[i].p / sum;
		if (reached >= (double)params->top_p) {
			keep = i + 1;
			break;
		}
	}
	while (keep > 1 && list[keep - 1].p < (double)params->min_p)
		keep--;
	return keep;
}

static uint32_t naive_draw(
	const struct sample_params *params, const float *logits, uint32_t vocab)
{
	static struct ranked list[VOCAB_MAX];
	uint32_t keep = naive_kept(params, logits, vocab, list);
	const uint32_t key[] = {(uint32_t)(params->seed & UINT32_MAX),
		(uint32_t)(params->seed >> 32)};
	double best = -DBL_MAX;
	uint32_t winner = NONE;

	for (uint32_t i = 0; i < keep; i++) {
		const uint32_t counter[] = {list[i].token, params->position,
			params->choice, STREAM};
		uint32_t word[4];
		double u, value;

		philox4x32_10(counter, key, word);
		u = (word[1] * 0x1p20 + (word[0] >> 12) + 0.5) * 0x1p-52;
		value = (list[i].logit - list[0].logit) /
				(double)params->temperature -
			log(-log(u));
		if (value > best || (value == best && list[i].token < winner)) {
			best = value;
			winner = list[i].token;
		}
	}
	return winner;
}

/* ---- the generator ---- */

static void test_philox__known_answers(void)
{
	/* kat_vectors of Random123, the authors' own library. */
	static const uint32_t vectors[][10] = {
		{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c,
			0x9b00dbd8},
		{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
			0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
			0x6d5451fd},
		{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822,
			0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
			0x24126ea1},
	};
	uint32_t out[4];

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		philox4x32_10(vectors[i], vectors[i] + 4, out);
		for (size_t j = 0; j < 4; j++)
			CU_ASSERT_EQUAL(out[j], vectors[i][6 + j]);
	}
}

static void test_philox__uniform_is_never_0_or_1(void)
{
	double low = philox_uniform(0), high = philox_uniform(UINT64_MAX);

	CU_ASSERT_EQUAL(low, 0x1p-53);
	CU_ASSERT_EQUAL(high, 1 - 0x1p-53);
	CU_ASSERT(isfinite(-log(-log(low))));
	CU_ASSERT(-log(-log(high)) < 36.75);
	CU_ASSERT_EQUAL(philox_uniform(UINT64_C(1) << 63), 0.5 + 0x1p-53);
}

/* ---- greedy, temperature ---- */

static void test_sample__greedy_takes_the_lower_of_equals(void)
{
	static const float logits[] = {-1, 4, 2, 4, 4};
	struct bench *bench = bench_of(logits, 5);

	bench->params[0].temperature = 0;
	for (uint64_t seed = 0; seed < 20; seed++) {
		bench->params[0].seed = seed;
		CU_ASSERT_EQUAL(bench_token(bench), 1);
	}
	bench_destroy(bench);
}

static void test_sample__tiny_temperature_does_not_overflow(void)
{
	static const float logits[] = {-FLT_MAX, 12, FLT_MAX, 3, -80};
	static const float temperatures[] = {1e-6f, FLT_MIN, FLT_TRUE_MIN};
	struct bench *bench = bench_of(logits, 5);

	for (int i = 0; i < 3; i++) {
		bench->params[0].temperature = temperatures[i];
		bench->params[0].top_p = 0.9f;
		bench->params[0].min_p = 0.1f;
		CU_ASSERT_EQUAL(bench_token(bench), 2);
		bench->params[0].top_p = 1;
		bench->params[0].min_p = 0;
		CU_ASSERT_EQUAL(bench_token(bench), 2);
	}
	bench_destroy(bench);
}

/* ---- the distribution ---- */

/* Sum over the kept of (seen - expected)^2 / expected. */
static double chi_square(
	const uint32_t *seen, const struct ranked *list, uint32_t kept)
{
	double sum = 0, chi = 0;

	for (uint32_t i = 0; i < kept; i++)
		sum += list[i].p;
	for (uint32_t i = 0; i < kept; i++) {
		double expected = DRAWS * list[i].p / sum;
		double off = seen[list[i].token] - expected;

		chi += off * off / expected;
	}
	return chi;
}

/*
 * Count DRAWS tokens while one part of the counter or the key runs; tokens
 * that are cut must not show up.
 */
static double draw_many(struct bench *bench, int what)
{
	struct ranked list[16] = {{0, 0, 0}};
	uint32_t seen[16] = {0};
	uint32_t kept, total = 0;
	struct sample_params *params = &bench->params[0];

	params->seed = 7;
	params->position = 11;
	params->choice = 0;
	kept = naive_kept(params, bench->logits, bench->vocab, list);
	for (uint32_t i = 0; i < DRAWS; i++) {
		if (what == 0)
			params->position = i;
		else if (what == 1)
			params->choice = i;
		else
			params->seed = (uint64_t)i << 20;
		seen[bench_token(bench) % 16]++;
	}
	for (uint32_t i = 0; i < kept; i++)
		total += seen[list[i].token];
	CU_ASSERT_EQUAL(total, DRAWS);
	return chi_square(seen, list, kept);
}

static const float sixteen[] = {0, 1, -1, 2, 0.5f, 0.25f, 1.5f, -2, 0, 0.1f,
	1.9f, 1.1f, -0.5f, 0.7f, 0.3f, -1.5f};

static void test_sample__draws_follow_the_softmax(void)
{
	struct bench *bench = bench_of(sixteen, 16);

	/* 99.9 % of chi-square with 15 degrees of freedom lie below. */
	for (int what = 0; what < 3; what++)
		CU_ASSERT(draw_many(bench, what) < 37.70);
	bench->params[0].temperature = 2.5f;
	CU_ASSERT(draw_many(bench, 0) < 37.70);
	bench_destroy(bench);
}

static void test_sample__draws_follow_the_softmax_of_the_kept(void)
{
	struct bench *bench = bench_of(sixteen, 16);

	/* Five tokens: 4 degrees of freedom. */
	bench->params[0].top_k = 5;
	CU_ASSERT(draw_many(bench, 0) < 18.47);
	/* Two more filters; fewer than 16 tokens stay. */
	bench->params[0].top_k = 12;
	bench->params[0].top_p = 0.9f;
	bench->params[0].min_p = 0.2f;
	bench->params[0].temperature = 0.8f;
	CU_ASSERT(draw_many(bench, 0) < 31.26); /* 11 degrees at most */
	bench_destroy(bench);
}

/* ---- filters ---- */

static void test_sample__top_k_edge_takes_lower_ids(void)
{
	static const float logits[] = {1, 2, 1, 1, 1, 2};
	struct bench *bench = bench_of(logits, 6);
	bool seen[6] = {false};

	/* Kept: 1, 5, then 0 and 2 of the four that are equal. */
	bench->params[0].top_k = 4;
	for (uint32_t i = 0; i < 400; i++) {
		bench->params[0].position = i;
		seen[bench_token(bench) % 6] = true;
	}
	CU_ASSERT(seen[0] && seen[1] && seen[2] && seen[5]);
	CU_ASSERT(!seen[3] && !seen[4]);
	bench_destroy(bench);
}

/* How many of the tokens show up in `count` draws. */
static uint32_t count_seen(struct bench *bench, uint32_t count)
{
	bool seen[16] = {false};
	uint32_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t token;

		bench->params[0].position = i;
		token = bench_token(bench) % 16;
		sum += !seen[token];
		seen[token] = true;
	}
	return sum;
}

static void test_sample__top_p_is_the_smallest_set_that_reaches(void)
{
	/* Equal probabilities of 1/8: the sums are exact. */
	static const float even[8];
	static const struct {
		float top_p;
		uint32_t kept;
	} wanted[] = {{0, 1}, {0.125f, 1}, {0.126f, 2}, {0.5f, 4}, {0.51f, 5},
		{0.99f, 8}, {1, 8}, {2, 8}};
	struct bench *bench = bench_of(even, 8);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		bench->params[0].top_p = wanted[i].top_p;
		CU_ASSERT_EQUAL(count_seen(bench, 300), wanted[i].kept);
	}
	/* After top-k the rest is the whole: 0.5 of 4 tokens is 2. */
	bench->params[0].top_k = 4;
	bench->params[0].top_p = 0.5f;
	CU_ASSERT_EQUAL(count_seen(bench, 300), 2);
	bench_destroy(bench);
}

static void test_sample__min_p_is_relative_to_the_best(void)
{
	/* Probabilities 1, 1/2, 1/4 and 1/8 of the best. */
	float logits[] = {0, -logf(2), -logf(4), -logf(8)};
	struct bench *bench = bench_of(logits, 4);

	bench->params[0].min_p = 0.24f;
	CU_ASSERT_EQUAL(count_seen(bench, 400), 3);
	bench->params[0].min_p = 0.6f;
	CU_ASSERT_EQUAL(count_seen(bench, 400), 1);
	bench->params[0].min_p = 1;
	CU_ASSERT_EQUAL(count_seen(bench, 400), 1);
	/* Temperature 2 comes first: the roots, 1, 0.71, 0.5, 0.35. */
	bench->params[0].temperature = 2;
	bench->params[0].min_p = 0.4f;
	CU_ASSERT_EQUAL(count_seen(bench, 400), 3);
	bench_destroy(bench);
}

static void random_params(struct sample_params *params, uint64_t *state)
{
	static const float top_ps[] = {1, 1, 0.2f, 0.7f, 0.95f, 0.999f};
	static const float min_ps[] = {0, 0, 0.01f, 0.1f, 0.5f};
	static const uint32_t top_ks[] = {0, 0, 1, 2, 10, 50, 400, 5000};

	*params = plain;
	params->temperature = 0.1f + 0.2f * (float)suite_below(state, 10);
	params->top_p = top_ps[suite_below(state, 6)];
	params->min_p = min_ps[suite_below(state, 5)];
	params->top_k = top_ks[suite_below(state, 8)];
	params->seed = suite_random(state);
	params->position = suite_below(state, 1u << 24);
	params->choice = suite_below(state, 128);
	params->top_count = suite_below(state, LOGPROB_TOP_MAX + 1);
}

static void test_sample__filters_agree_with_the_naive_ones(void)
{
	static const uint32_t vocabs[] = {1, 2, 31, 97, 1000, VOCAB_MAX};
	uint64_t state = suite_seed(41);
	struct bench *bench = bench_create(2, 1);

	for (uint32_t i = 0; i < 60; i++) {
		bench->vocab = vocabs[i % 6];
		for (uint32_t r = 0; r < ROWS; r++) {
			float *row = bench->logits + (size_t)r * bench->vocab;

			random_params(&bench->params[r], &state);
			/* Every fourth has many equal logits. */
			for (uint32_t v = 0; v < bench->vocab; v++) {
				row[v] = 2.5f * suite_gauss(&state);
				if (r % 4 == 0)
					row[v] = roundf(row[v]);
			}
		}
		bench_run(bench, ROWS);
		for (uint32_t r = 0; r < ROWS; r++)
			CU_ASSERT_EQUAL(bench->out[r].token,
				naive_draw(&bench->params[r],
					bench->logits +
						(size_t)r * bench->vocab,
					bench->vocab));
	}
	bench_destroy(bench);
}

/* A cut changes the draw only if it cuts the token that had won. */
static void test_sample__a_cut_of_others_changes_nothing(void)
{
	struct bench *bench = bench_of(sixteen, 16);
	struct sample_params *params = &bench->params[0];
	uint32_t allowed[] = {0};
	uint32_t *mask = allowed;

	for (uint32_t i = 0; i < 300; i++) {
		uint32_t token, next;

		*params = plain;
		params->position = i;
		token = bench_token(bench);
		mask[0] = 1u << token | 0x5a5au;
		params->mask = mask;
		CU_ASSERT_EQUAL(bench_token(bench), token);
		mask[0] = ~(1u << token);
		next = bench_token(bench);
		CU_ASSERT(next != token && next < 16);
	}
	bench_destroy(bench);
}

/* ---- the changes before ---- */

/*
 * Token 1 has exactly the changed logit `want`: a token 0 with that logit
 * wins as the lower id, with the next lower one it loses.
 */
static void assert_changed(struct bench *bench, float want)
{
	bench->params[0].temperature = 0;
	bench->logits[0] = want;
	CU_ASSERT_EQUAL(bench_token(bench), 0);
	bench->logits[0] = nextafterf(want, -INFINITY);
	CU_ASSERT_EQUAL(bench_token(bench), 1);
}

static void set_counts(struct token_use *use, uint32_t prompt, uint32_t output)
{
	use->prompt_count = prompt;
	use->output_count = output;
}

static void test_sample__penalties_are_exact(void)
{
	static const float logits[] = {0, 3, -100};
	struct bench *bench = bench_of(logits, 3);
	struct sample_params *params = &bench->params[0];
	struct token_use use = {1, 0, 2};

	params->uses = &use;
	params->use_count = 1;
	params->repetition_penalty = 1.3f;
	params->presence_penalty = 0.7f;
	params->frequency_penalty = 0.1f;
	assert_changed(bench, 3 / 1.3f); /* in the prompt alone */
	set_counts(&use, 2, 3);
	assert_changed(bench, 3 / 1.3f - 0.7f - 0.1f * 3);
	bench->logits[1] = -3;
	assert_changed(bench, -3 * 1.3f - 0.7f - 0.1f * 3);
	set_counts(&use, 0, 3);
	assert_changed(bench, -3 * 1.3f - 0.7f - 0.1f * 3);
	set_counts(&use, 0, 0);
	assert_changed(bench, -3);
	params->use_count = 0;
	assert_changed(bench, -3);
	bench_destroy(bench);
}

static void test_sample__negative_penalties_reward(void)
{
	static const float logits[] = {0, 1, -100};
	struct bench *bench = bench_of(logits, 3);
	struct token_use use = {1, 2, 0};

	bench->params[0].uses = &use;
	bench->params[0].use_count = 1;
	bench->params[0].presence_penalty = -1;
	bench->params[0].frequency_penalty = -0.5f;
	bench->params[0].repetition_penalty = 0.5f;
	assert_changed(bench, 4); /* 1 / 0.5 + 1 + 2 * 0.5 */
	bench_destroy(bench);
}

static void test_sample__bias_comes_before_the_penalties(void)
{
	static const float logits[] = {0, 1, -100};
	struct bench *bench = bench_of(logits, 3);
	struct token_use use = {1, 1, 0};
	struct logit_bias bias = {1, 3};

	bench->params[0].uses = &use;
	bench->params[0].use_count = 1;
	bench->params[0].repetition_penalty = 2;
	bench->params[0].presence_penalty = 0.5f;
	bench->params[0].biases = &bias;
	bench->params[0].bias_count = 1;
	assert_changed(bench, 1.5f); /* (1 + 3) / 2 - 0.5 */
	bias.bias = -3;
	assert_changed(bench, -4.5f); /* (1 - 3) * 2 - 0.5 */
	bench_destroy(bench);
}

static void test_sample__bias_makes_a_token_certain_or_impossible(void)
{
	struct bench *bench = bench_of(sixteen, 16);
	struct logit_bias biases[] = {{7, 100}, {3, -100}};
	struct logit_bias *bias = biases;

	bench->params[0].biases = bias;
	bench->params[0].bias_count = 2;
	CU_ASSERT_EQUAL(count_seen(bench, 200), 1);
	CU_ASSERT_EQUAL(bench_token(bench), 7);
	bias[0].bias = 0;
	for (uint32_t i = 0; i < 200; i++) {
		bench->params[0].position = i;
		CU_ASSERT(bench_token(bench) != 3);
	}
	bench_destroy(bench);
}

static void test_sample__mask_of_any_vocab(void)
{
	static const uint32_t vocabs[] = {1, 31, 32, 33, 45, 64, 95};
	uint64_t state = suite_seed(42);
	struct bench *bench = bench_create(1, 1);

	for (size_t i = 0; i < sizeof(vocabs) / sizeof(vocabs[0]); i++) {
		uint32_t vocab = vocabs[i], words = (vocab + 31) / 32;
		uint32_t *mask = calloc(words, sizeof(*mask));
		uint32_t only = suite_below(&state, vocab);

		if (!mask)
			abort();
		bench->vocab = vocab;
		for (uint32_t v = 0; v < vocab; v++)
			bench->logits[v] = suite_gauss(&state);
		bench->params[0].mask = mask;
		/* Bits behind the vocabulary mean nothing. */
		if (vocab % 32)
			mask[words - 1] = UINT32_MAX << vocab % 32;
		for (int greedy = 0; greedy < 2; greedy++) {
			bench->params[0].temperature = greedy ? 0 : 1;
			CU_ASSERT_EQUAL(bench_token(bench), NONE);
			mask[only / 32] |= 1u << only % 32;
			CU_ASSERT_EQUAL(bench_token(bench), only);
			mask[only / 32] &= ~(1u << only % 32);
		}
		free(mask);
	}
	bench_destroy(bench);
}

static void test_sample__changes_agree_with_the_naive_ones(void)
{
	enum { VOCAB = 333, USES = 40, BIASES = 30 };
	uint64_t state = suite_seed(43);
	struct bench *bench = bench_create(3, VOCAB);
	struct token_use uses[USES];
	struct logit_bias biases[BIASES];
	uint32_t mask[VOCAB / 32 + 1];

	for (uint32_t i = 0; i < 20; i++) {
		for (uint32_t j = 0; j < USES; j++)
			uses[j] = (struct token_use){3 * j + i % 3,
				suite_below(&state, 4), suite_below(&state, 3)};
		for (uint32_t j = 0; j < BIASES; j++)
			biases[j] = (struct logit_bias){
				5 * j, 3 * suite_gauss(&state)};
		for (uint32_t j = 0; j < sizeof(mask) / 4; j++)
			mask[j] = (uint32_t)suite_random(&state);
		for (uint32_t v = 0; v < ROWS * VOCAB; v++)
			bench->logits[v] = 2 * suite_gauss(&state);
		for (uint32_t r = 0; r < ROWS; r++) {
			struct sample_params *params = &bench->params[r];

			random_params(params, &state);
			params->repetition_penalty = 0.5f + 0.2f * (float)r;
			params->presence_penalty = 0.1f * (float)r - 1;
			params->frequency_penalty = 1 - 0.1f * (float)r;
			params->uses = uses;
			params->use_count = r % 2 ? USES : 0;
			params->biases = biases;
			params->bias_count = r % 3 ? BIASES : 0;
			params->mask = r % 4 ? mask : NULL;
		}
		bench_run(bench, ROWS);
		for (uint32_t r = 0; r < ROWS; r++)
			CU_ASSERT_EQUAL(bench->out[r].token,
				naive_draw(&bench->params[r],
					bench->logits + (size_t)r * VOCAB,
					VOCAB));
	}
	bench_destroy(bench);
}

/* ---- nothing to draw ---- */

static void assert_none(const struct sample_result *out)
{
	CU_ASSERT_EQUAL(out->token, NONE);
	CU_ASSERT_EQUAL(out->top_count, 0);
	CU_ASSERT_EQUAL(out->logprob, 0);
}

static void test_sample__no_distribution_is_no_token(void)
{
	static const float bad[][3] = {{1, NAN, 2}, {NAN, 1, 2},
		{1, 2, INFINITY}, {-INFINITY, -INFINITY, -INFINITY}};
	static const uint32_t mask = 5; /* without token 1 */
	struct bench *bench = bench_create(2, 3);

	for (uint32_t r = 0; r < ROWS; r++) {
		memcpy(bench->logits + (size_t)r * 3, bad[r % 4],
			sizeof(bad[0]));
		bench->params[r].temperature = r % 8 < 4 ? 0 : 1;
		bench->params[r].mask = r % 16 < 8 ? NULL : &mask;
		bench->params[r].top_count = 3;
	}
	bench_run(bench, ROWS);
	for (uint32_t r = 0; r < ROWS; r++)
		assert_none(&bench->out[r]);
	bench_destroy(bench);
}

static void test_sample__changes_to_infinity_are_no_token(void)
{
	static const float logits[] = {1, FLT_MAX, 2};
	static const float changes[] = {INFINITY, NAN, FLT_MAX};
	struct bench *bench = bench_of(logits, 3);
	struct logit_bias bias = {1, 0};
	struct token_use use = {1, 1, 0};

	bench->params[0].biases = &bias;
	bench->params[0].bias_count = 1;
	for (int i = 0; i < 3; i++) {
		bias.bias = changes[i];
		bench_run(bench, 1);
		assert_none(&bench->out[0]);
	}
	bench->params[0].bias_count = 0;
	bench->params[0].uses = &use;
	bench->params[0].use_count = 1;
	bench->params[0].repetition_penalty = 0.5f;
	bench_run(bench, 1);
	assert_none(&bench->out[0]);
	bench_destroy(bench);
}

static void test_sample__some_minus_inf_is_fine(void)
{
	static const float logits[] = {-INFINITY, 0, -INFINITY, 0};
	struct bench *bench = bench_of(logits, 4);

	bench->params[0].top_p = 0.999f;
	bench->params[0].top_count = 4;
	CU_ASSERT_EQUAL(count_seen(bench, 200), 2);
	CU_ASSERT_DOUBLE_EQUAL(bench->out[0].logprob, -log(2), 1e-7);
	CU_ASSERT_EQUAL(bench->out[0].top_count, 2);
	CU_ASSERT_EQUAL(bench->out[0].top_token[0], 1);
	CU_ASSERT_EQUAL(bench->out[0].top_token[1], 3);
	bench_destroy(bench);
}

/* ---- log probabilities ---- */

static void assert_logprobs(const struct bench *bench, uint32_t row)
{
	static struct ranked list[VOCAB_MAX];
	const float *logits = bench->logits + (size_t)row * bench->vocab;
	const struct sample_result *out = &bench->out[row];
	uint32_t count = naive_kept(&plain, logits, bench->vocab, list);
	uint32_t top = bench->params[row].top_count;
	double sum = 0;

	for (uint32_t i = count; i-- > 0;)
		sum += list[i].p;
	CU_ASSERT_EQUAL(out->top_count, top < count ? top : count);
	for (uint32_t i = 0; i < out->top_count; i++) {
		CU_ASSERT_EQUAL(out->top_token[i], list[i].token);
		CU_ASSERT_DOUBLE_EQUAL(
			out->top_logprob[i], log(list[i].p / sum), 1e-5);
	}
	for (uint32_t i = 0; i < count; i++)
		if (list[i].token == out->token)
			CU_ASSERT_DOUBLE_EQUAL(
				out->logprob, log(list[i].p / sum), 1e-5);
}

static void test_sample__logprobs_are_the_models_own(void)
{
	static const uint32_t vocabs[] = {1, 7, 20, 21, 500};
	static const struct logit_bias bias = {0, 50};
	uint64_t state = suite_seed(44);
	struct bench *bench = bench_create(2, 1);

	for (uint32_t i = 0; i < 15; i++) {
		bench->vocab = vocabs[i % 5];
		for (uint32_t v = 0; v < ROWS * bench->vocab; v++) {
			bench->logits[v] = 3 * suite_gauss(&state);
			if (i >= 5) /* many equal ones */
				bench->logits[v] = roundf(bench->logits[v]);
		}
		for (uint32_t r = 0; r < ROWS; r++) {
			random_params(&bench->params[r], &state);
			bench->params[r].top_count = r % 21;
			bench->params[r].biases = &bias;
			bench->params[r].bias_count = r % 2;
		}
		bench_run(bench, ROWS);
		for (uint32_t r = 0; r < ROWS; r++)
			assert_logprobs(bench, r);
	}
	bench_destroy(bench);
}

/* ---- independence ---- */

static bool same_bits(const void *a, const void *b, size_t bytes)
{
	return memcmp(a, b, bytes) == 0;
}

static void test_sample__a_row_does_not_depend_on_the_batch(void)
{
	static const uint32_t threads[] = {1, 2, 3, 5};
	enum { VOCAB = 517 };
	uint64_t state = suite_seed(45);
	struct bench *all = bench_create(2, VOCAB);

	for (uint32_t v = 0; v < ROWS * VOCAB; v++)
		all->logits[v] = 2 * suite_gauss(&state);
	for (uint32_t r = 0; r < ROWS; r++)
		random_params(&all->params[r], &state);
	bench_run(all, ROWS);
	for (uint32_t i = 0; i < 4; i++) {
		struct bench *other = bench_create(threads[i], VOCAB);
		uint32_t count = i ? ROWS : 1;

		for (uint32_t r = 0; r < ROWS; r++) {
			uint32_t from = (5 * r + i) % ROWS;

			memcpy(other->logits + (size_t)r * VOCAB,
				all->logits + (size_t)from * VOCAB,
				VOCAB * sizeof(float));
			other->params[r] = all->params[from];
		}
		/* A poisoned neighbour changes nothing either. */
		if (i)
			other->logits[3 * VOCAB + 9] = NAN;
		bench_run(other, count);
		for (uint32_t r = 0; r < count; r++)
			CU_ASSERT_EQUAL(same_bits(&other->out[r],
						&all->out[(5 * r + i) % ROWS],
						sizeof(all->out[0])),
				i == 0 || r != 3);
		bench_destroy(other);
	}
	bench_destroy(all);
}

static void test_sample__seed_position_and_choice_repeat(void)
{
	enum { DRAW_COUNT = 64 };
	struct bench *bench = bench_of(sixteen, 16);
	uint32_t first[DRAW_COUNT], differ[4] = {0};

	for (uint32_t i = 0; i < DRAW_COUNT; i++) {
		bench->params[0] = plain;
		bench->params[0].position = i;
		first[i] = bench_token(bench);
	}
	for (uint32_t i = 0; i < DRAW_COUNT; i++) {
		struct sample_params *params = &bench->params[0];

		*params = plain;
		params->position = i;
		differ[0] += bench_token(bench) != first[i];
		params->choice = 1;
		differ[1] += bench_token(bench) != first[i];
		params->choice = 0;
		params->seed ^= 1;
		differ[2] += bench_token(bench) != first[i];
		params->seed ^= 1 | UINT64_C(1) << 40;
		differ[3] += bench_token(bench) != first[i];
	}
	CU_ASSERT_EQUAL(differ[0], 0);
	for (int i = 1; i < 4; i++)
		CU_ASSERT(differ[i] > DRAW_COUNT / 2);
	bench_destroy(bench);
}

/* ---- against the reference, at the size of a model ---- */

enum { MODEL_VOCAB = 50021, MODEL_ROWS = 12 };

struct model {
	struct pool pool;
	float *logits; /* [MODEL_ROWS][MODEL_VOCAB], ends at an unmapped page */
	struct sample_params params[MODEL_ROWS];
	struct sample_result out[CPU_ISA_COUNT][MODEL_ROWS];
};

static void model_run(struct model *model, enum cpu_isa isa, uint32_t count)
{
	const struct ops_limits limits = {.row_count = 1,
		.sample_count = MODEL_ROWS,
		.hidden = 1,
		.vocab = MODEL_VOCAB,
		.expert_count = 1,
		.topk = 1,
		.inter = 1};
	struct sample_args args = {MODEL_ROWS - count, MODEL_VOCAB,
		model->logits, model->params, model->out[isa]};
	struct ops ops;

	CU_ASSERT_EQUAL_FATAL(ops_create_cpu(isa, &limits, 3, NULL, &ops), 0);
	ops.table->sample(&ops, &args);
	/* The last ones in a batch of their own. */
	args.logits += (size_t)args.count * MODEL_VOCAB;
	args.params += args.count;
	args.out += args.count;
	args.count = count;
	ops.table->sample(&ops, &args);
	ops.table->destroy(&ops);
}

static struct model *model_create(uint64_t seed, uint32_t i)
{
	struct model *model = suite_calloc(1, sizeof(*model));
	size_t count = (size_t)MODEL_ROWS * MODEL_VOCAB;

	pool_init(&model->pool, seed);
	model->logits = pool_floats(&model->pool, count, i % 2 ? 0.5f : 3);
	for (size_t v = 0; i % 3 == 2 && v < count; v++)
		model->logits[v] = roundf(4 * model->logits[v]) / 4;
	for (uint32_t r = 0; r < MODEL_ROWS; r++) {
		random_params(&model->params[r], &model->pool.random);
		model->params[r].top_count = r % 21;
		if (r % 3 == 0)
			model->params[r].top_p = 1;
		if (r % 4 == 0)
			model->params[r].top_k = 0;
		if (r % 5 == 0)
			model->params[r].temperature = 0;
		model->logits[r * MODEL_VOCAB + 7 * r] = -INFINITY;
	}
	return model;
}

static void assert_like_reference(
	const struct sample_result *got, const struct sample_result *want)
{
	CU_ASSERT_EQUAL(got->token, want->token);
	CU_ASSERT_DOUBLE_EQUAL(got->logprob, want->logprob, 1e-5);
	CU_ASSERT_EQUAL(got->top_count, want->top_count);
	for (uint32_t i = 0; i < want->top_count; i++) {
		CU_ASSERT_EQUAL(got->top_token[i], want->top_token[i]);
		CU_ASSERT_DOUBLE_EQUAL(
			got->top_logprob[i], want->top_logprob[i], 1e-5);
	}
}

/*
 * Log probabilities within 1e-5; tokens the same. Where top-p cuts, a sum of
 * floats decides: should a token's sum of probabilities lie within 1e-6 of
 * top_p, the edge may be the next one and, if that one wins, the token. None
 * of these seeds is such a case.
 */
static void test_sample__large_vocab_is_like_the_reference(void)
{
	uint64_t seed = suite_seed(46);

	for (uint32_t i = 0; i < 6; i++) {
		struct model *model = model_create(seed + i, i);

		model_run(model, CPU_REFERENCE, i);
		for (enum cpu_isa isa = CPU_AVX2; isa < CPU_ISA_COUNT; isa++) {
			if (!cpu_isa_works(isa))
				continue;
			model_run(model, isa, (i + isa) % MODEL_ROWS);
			for (uint32_t r = 0; r < MODEL_ROWS; r++)
				assert_like_reference(&model->out[isa][r],
					&model->out[CPU_REFERENCE][r]);
		}
		if (cpu_isa_works(CPU_AVX512))
			CU_ASSERT(same_bits(model->out[CPU_AVX2],
				model->out[CPU_AVX512],
				sizeof(model->out[CPU_AVX2])));
		pool_release(&model->pool);
		free(model);
	}
}

static const struct suite_case once[] = {
	SUITE_CASE(philox__known_answers),
	SUITE_CASE(philox__uniform_is_never_0_or_1),
	SUITE_CASE(sample__large_vocab_is_like_the_reference),
};

static const struct suite_case each[] = {
	SUITE_CASE(sample__greedy_takes_the_lower_of_equals),
	SUITE_CASE(sample__tiny_temperature_does_not_overflow),
	SUITE_CASE(sample__draws_follow_the_softmax),
	SUITE_CASE(sample__draws_follow_the_softmax_of_the_kept),
	SUITE_CASE(sample__top_k_edge_takes_lower_ids),
	SUITE_CASE(sample__top_p_is_the_smallest_set_that_reaches),
	SUITE_CASE(sample__min_p_is_relative_to_the_best),
	SUITE_CASE(sample__filters_agree_with_the_naive_ones),
	SUITE_CASE(sample__a_cut_of_others_changes_nothing),
	SUITE_CASE(sample__penalties_are_exact),
	SUITE_CASE(sample__negative_penalties_reward),
	SUITE_CASE(sample__bias_comes_before_the_penalties),
	SUITE_CASE(sample__bias_makes_a_token_certain_or_impossible),
	SUITE_CASE(sample__mask_of_any_vocab),
	SUITE_CASE(sample__changes_agree_with_the_naive_ones),
	SUITE_CASE(sample__no_distribution_is_no_token),
	SUITE_CASE(sample__changes_to_infinity_are_no_token),
	SUITE_CASE(sample__some_minus_inf_is_fine),
	SUITE_CASE(sample__logprobs_are_the_models_own),
	SUITE_CASE(sample__a_row_does_not_depend_on_the_batch),
	SUITE_CASE(sample__seed_position_and_choice_repeat),
};

int main(void)
{
	return case_run("sample", CASE_LIST(once), CASE_LIST(each));
}
