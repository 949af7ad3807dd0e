/* test_invariance.c - the same bits in any company (one arithmetic) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each sequence is run alone, in one chunk, on one thread: its logits are
 * the truth. Then random mixes: several sequences at once, chunks of any
 * length, steps in any order, evictions in the middle (cache dropped, computed
 * again), other numbers of threads, other sequences full of other tokens.
 * Every row's logits must be the same to the bit. So it is on every back end
 * that runs here, and AVX2 and AVX-512 have the same truth.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engine_case.h"
#include "tests/suite.h"

#define SEQUENCES 5
#define TOKENS_MAX 330
#define ROWS 340
#define MIXES 4

struct truth {
	uint32_t ids[TOKENS_MAX];
	uint32_t count, vocab;
	float *logits; /* [count][vocab], owned */
};

static void open_case(struct engine_case *c, const char *directory,
	enum cpu_isa isa, uint32_t threads)
{
	struct engine_case_config config = {
		.isa = isa,
		.directory = directory,
		.kv_type = DTYPE_F32,
		.thread_count = threads,
		.row_count = ROWS,
		.sequence_count = SEQUENCES,
		.token_count = TOKENS_MAX,
	};

	engine_case_open(c, &config);
}

/* Lengths around the attention chunk of 256 and the block sizes. */
static void make_truth(
	struct engine_case *c, struct truth *truth, uint64_t *state)
{
	static const uint32_t lengths[] = {1, 16, 65, 257, 300};
	uint32_t vocab = c->model->config.vocab;
	struct engine_sequence s;

	truth->vocab = vocab;
	truth->count = lengths[suite_below(state, 5)];
	truth->count += suite_below(state, 30);
	for (uint32_t i = 0; i < truth->count; i++)
		truth->ids[i] = suite_below(state, vocab);
	truth->logits =
		suite_calloc((size_t)truth->count * vocab, sizeof(float));
	engine_sequence_open(c, &s, truth->ids, truth->count);
	step_clear(&c->step, 0, 0);
	engine_sequence_step(c, &s, truth->count, 0);
	engine_case_run(c);
	memcpy(truth->logits, engine_case_logits(c, 0),
		(size_t)truth->count * vocab * sizeof(float));
	engine_sequence_close(c, &s);
}

/* Rows [from, from + count) of the truth against samples of the step. */
static uint32_t count_wrong(const struct engine_case *c,
	const struct truth *truth, uint32_t from, uint32_t count,
	uint32_t sample)
{
	uint32_t vocab = c->model->config.vocab;
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < count; i++)
		wrong += memcmp(engine_case_logits(c, sample + i),
				 truth->logits + (size_t)(from + i) * vocab,
				 vocab * sizeof(float)) != 0;
	return wrong;
}

struct part {
	uint32_t sequence, from, count, sample;
};

/* One step: a random part of a random choice of sequences. */
static uint32_t mixed_step(struct engine_case *c,
	struct engine_sequence *sequences, const struct truth *truths,
	uint32_t *evictions, uint64_t *state)
{
	struct part parts[SEQUENCES];
	uint32_t part_count = 0, rows = 0, wrong = 0;
	uint32_t start = suite_below(state, SEQUENCES);

	step_clear(&c->step, 0, 0);
	for (uint32_t k = 0; k < SEQUENCES; k++) {
		uint32_t i = (start + k) % SEQUENCES;
		struct engine_sequence *s = &sequences[i];
		uint32_t left, count;

		/* Each sequence loses its cache at most twice, half-way. */
		if (s->done > 0 && s->done < s->count && evictions[i] < 2 &&
			suite_below(state, 8) == 0) {
			engine_sequence_evict(c, s);
			evictions[i]++;
		}
		left = s->count - s->done;
		if (left == 0 || suite_below(state, 4) == 0)
			continue;
		count = suite_below(state, 3) ? suite_below(state, 40) + 1 : 1;
		if (count > left)
			count = left;
		if (rows + count > ROWS)
			continue;
		rows += count;
		parts[part_count] = (struct part){i, s->done, count, 0};
		parts[part_count++].sample =
			engine_sequence_step(c, s, count, 0);
	}
	engine_case_run(c);
	for (uint32_t p = 0; p < part_count; p++)
		wrong += count_wrong(c, &truths[parts[p].sequence],
			parts[p].from, parts[p].count, parts[p].sample);
	return wrong;
}

static bool all_done(const struct engine_sequence *sequences)
{
	for (uint32_t i = 0; i < SEQUENCES; i++)
		if (sequences[i].done < sequences[i].count)
			return false;
	return true;
}

static uint32_t run_mix(
	struct engine_case *c, const struct truth *truths, uint64_t *state)
{
	struct engine_sequence sequences[SEQUENCES];
	uint32_t evictions[SEQUENCES] = {0};
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < SEQUENCES; i++)
		engine_sequence_open(
			c, &sequences[i], truths[i].ids, truths[i].count);
	while (!all_done(sequences))
		wrong += mixed_step(c, sequences, truths, evictions, state);
	for (uint32_t i = 0; i < SEQUENCES; i++)
		engine_sequence_close(c, &sequences[i]);
	return wrong;
}

/* Truth of one back end, held by every mix. */
static void check_isa(const char *directory, enum cpu_isa isa, uint64_t state,
	struct truth *truths)
{
	static const uint32_t threads[] = {1, 2, 3, 5};
	struct engine_case c;

	open_case(&c, directory, isa, 1);
	for (uint32_t i = 0; i < SEQUENCES; i++)
		make_truth(&c, &truths[i], &state);
	engine_case_close(&c);
	for (uint32_t mix = 0; mix < MIXES; mix++) {
		open_case(&c, directory, isa, threads[mix % 4]);
		CU_ASSERT_EQUAL(run_mix(&c, truths, &state), 0);
		engine_case_close(&c);
	}
}

/* Rows whose logits differ in some bit. */
static uint64_t count_different(const struct truth *a, const struct truth *b)
{
	uint64_t different = 0;

	for (uint32_t i = 0; i < SEQUENCES; i++) {
		CU_ASSERT_EQUAL_FATAL(a[i].count, b[i].count);
		for (size_t r = 0; r < a[i].count; r++)
			different += memcmp(a[i].logits + r * a[i].vocab,
					     b[i].logits + r * a[i].vocab,
					     a[i].vocab * sizeof(float)) != 0;
	}
	return different;
}

static void check_family(const char *name)
{
	struct truth truths[CPU_ISA_COUNT][SEQUENCES] = {0};
	uint64_t seed = suite_seed(20260101);
	char directory[256];

	snprintf(directory, sizeof(directory), "tests/golden/%s", name);
	for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++)
		if (cpu_isa_works(isa))
			check_isa(directory, isa, seed, truths[isa]);
	if (cpu_isa_works(CPU_AVX2) && cpu_isa_works(CPU_AVX512))
		CU_ASSERT_EQUAL(
			count_different(truths[CPU_AVX2], truths[CPU_AVX512]),
			0);
	for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++)
		for (uint32_t i = 0; i < SEQUENCES; i++)
			free(truths[isa][i].logits);
}

#define FAMILY(name)                                                           \
	static void test_any_mix__##name(void)                                 \
	{                                                                      \
		check_family(#name);                                           \
	}

FAMILY(deepseek_v2_lite)
FAMILY(deepseek_v2_full)
FAMILY(deepseek_v3)
FAMILY(qwen2_moe)
FAMILY(qwen3_moe)
FAMILY(mixtral)
FAMILY(mixtral_top1)
FAMILY(olmoe)
FAMILY(granitemoe)

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(any_mix__deepseek_v2_lite),
		SUITE_CASE(any_mix__deepseek_v2_full),
		SUITE_CASE(any_mix__deepseek_v3),
		SUITE_CASE(any_mix__qwen2_moe),
		SUITE_CASE(any_mix__qwen3_moe),
		SUITE_CASE(any_mix__mixtral),
		SUITE_CASE(any_mix__mixtral_top1),
		SUITE_CASE(any_mix__olmoe),
		SUITE_CASE(any_mix__granitemoe),
	};

	return SUITE_MAIN("invariance", cases);
}
