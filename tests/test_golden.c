/* test_golden.c - our log-probabilities against Hugging Face transformers */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/golden/<case> are tiny checkpoints with what transformers computed
 * for them in float32 (tools/golden/README.md). Every token's log-probability
 * has to agree within 1e-3, on every back end that runs here. A position after which some routing decision was
 * nearer than 1e-4 may go either way: such positions are left out and
 * counted, and may be at most 0.5 % of all.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/engine_case.h"
#include "tests/suite.h"

#define TOLERANCE 1e-3
#define NEAR_TIE 1e-4
#define TIE_SHARE_MAX 0.005
#define CHUNK_ROWS 48

struct tally {
	uint32_t positions, near_ties;
	double worst;
};

/* log softmax(logits)[id], in double. */
static double logprob_of(const float *logits, uint32_t vocab, uint32_t id)
{
	/* logits[0] is in both from the start, so that the sum is positive. */
	double max = (double)logits[0], sum = 1;

	for (uint32_t v = 1; v < vocab; v++) {
		double next = fmax(max, (double)logits[v]);

		sum = sum * exp(max - next) + exp((double)logits[v] - next);
		max = next;
	}
	return (double)logits[id] - max - log(sum);
}

static void compare_line(
	struct engine_case *c, const struct golden_line *line, struct tally *t)
{
	uint32_t vocab = c->model->config.vocab;
	struct engine_sequence s;
	bool tie = false;

	engine_sequence_open(c, &s, line->ids, line->count);
	while (s.done < s.count) {
		uint32_t at = s.done;
		uint32_t left = s.count - at;
		uint32_t count = left < CHUNK_ROWS ? left : CHUNK_ROWS;

		step_clear(&c->step, 0, 0);
		engine_sequence_step(c, &s, count, 0);
		engine_case_run(c);
		for (uint32_t i = at; i < at + count && i + 1 < s.count; i++) {
			double got = logprob_of(engine_case_logits(c, i - at),
				vocab, line->ids[i + 1]);
			double off = fabs(got - line->logprobs[i]);

			/* What follows a flipped choice sees it in its
			 * context. */
			tie = tie || line->margins[i] < NEAR_TIE;
			t->positions++;
			t->near_ties += tie;
			if (!tie && !(off <= t->worst))
				t->worst = off;
		}
	}
	engine_sequence_close(c, &s);
}

static void compare_case(
	const char *name, enum cpu_isa isa, enum dtype kv_type, struct tally *t)
{
	struct engine_case_config config = {
		.isa = isa,
		.kv_type = kv_type,
		.thread_count = 2,
		.row_count = CHUNK_ROWS,
		.sequence_count = 1,
		.token_count = 512,
	};
	struct golden_file golden;
	struct engine_case c;
	char directory[256];

	snprintf(directory, sizeof(directory), "tests/golden/%s", name);
	config.directory = directory;
	golden_open(&golden, directory, "golden.jsonl");
	engine_case_open(&c, &config);
	for (uint32_t i = 0; i < golden.count; i++)
		compare_line(&c, &golden.lines[i], t);
	engine_case_close(&c);
	golden_close(&golden);
}

static void agree(const char *name)
{
	for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++) {
		struct tally t = {0};

		if (!cpu_isa_works(isa))
			continue;
		compare_case(name, isa, DTYPE_F32, &t);
		printf("%s: %u positions, worst %.2g, %u near ties; ",
			cpu_isa_name(isa), t.positions, t.worst, t.near_ties);
		CU_ASSERT(t.positions > 100);
		CU_ASSERT(t.worst <= TOLERANCE);
		CU_ASSERT((double)t.near_ties <= TIE_SHARE_MAX * t.positions);
	}
}

/* Draw greedily and follow the golden sequence as long as it is clear-cut. */
static void follow_greedy(const char *name, enum cpu_isa isa)
{
	struct engine_case_config config = {
		.isa = isa,
		.kv_type = DTYPE_F32,
		.thread_count = 1,
		.row_count = CHUNK_ROWS,
		.sequence_count = 1,
		.token_count = 256,
	};
	struct engine_sequence s;
	struct golden_file golden;
	struct golden_line *line;
	struct engine_case c;
	char directory[256];
	uint32_t *ids;

	snprintf(directory, sizeof(directory), "tests/golden/%s", name);
	config.directory = directory;
	golden_open(&golden, directory, "greedy.jsonl");
	line = &golden.lines[0];
	CU_ASSERT_FATAL(line->out_count >= 16 && line->count <= CHUNK_ROWS);
	ids = suite_calloc(line->count + line->out_count, sizeof(*ids));
	for (uint32_t i = 0; i < line->count; i++)
		ids[i] = line->ids[i];
	engine_case_open(&c, &config);
	engine_sequence_open(&c, &s, ids, line->count + line->out_count);
	for (uint32_t i = 0; i < line->out_count; i++) {
		uint32_t count = i ? 1 : line->count;
		uint32_t token;

		step_clear(&c.step, 0, 0);
		engine_sequence_step(&c, &s, count, 0);
		engine_case_run(&c);
		token = c.step.result[count - 1].token;
		CU_ASSERT_EQUAL(token, line->out[i]);
		ids[line->count + i] = line->out[i];
	}
	engine_sequence_close(&c, &s);
	engine_case_close(&c);
	golden_close(&golden);
	free(ids);
}

static void follow_on_all(const char *name)
{
	for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++)
		if (cpu_isa_works(isa))
			follow_greedy(name, isa);
}

#define FAMILY(name)                                                           \
	static void test_score__##name(void)                                   \
	{                                                                      \
		agree(#name);                                                  \
	}                                                                      \
	static void test_generate__##name(void)                                \
	{                                                                      \
		follow_on_all(#name);                                          \
	}

FAMILY(deepseek_v2_lite)
FAMILY(deepseek_v2_full)
FAMILY(deepseek_v2_norm)
FAMILY(deepseek_v3)
FAMILY(deepseek_v3_fp8)
FAMILY(qwen2_moe)
FAMILY(qwen3_moe)
FAMILY(qwen3_moe_v5)
FAMILY(mixtral)
FAMILY(mixtral_top1)
FAMILY(olmoe)
FAMILY(granitemoe)

/*
 * A bf16 cache rounds keys and values to 8 bits of precision: the typical
 * token moves little, and something does move.
 */
static void test_score__bf16_cache_stays_close(void)
{
	static const char *const names[] = {"deepseek_v2_lite", "mixtral"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++) {
			struct tally t = {0};

			if (!cpu_isa_works(isa))
				continue;
			compare_case(names[i], isa, DTYPE_BF16, &t);
			printf("%s %s worst %.2g; ", names[i],
				cpu_isa_name(isa), t.worst);
			CU_ASSERT(t.worst > 1e-5);
			CU_ASSERT(t.worst < 2.0);
		}
}

#define CASES(name) SUITE_CASE(score__##name), SUITE_CASE(generate__##name)

int main(void)
{
	static const struct suite_case cases[] = {
		CASES(deepseek_v2_lite),
		CASES(deepseek_v2_full),
		CASES(deepseek_v2_norm),
		CASES(deepseek_v3),
		CASES(deepseek_v3_fp8),
		CASES(qwen2_moe),
		CASES(qwen3_moe),
		CASES(qwen3_moe_v5),
		CASES(mixtral),
		CASES(mixtral_top1),
		CASES(olmoe),
		CASES(granitemoe),
		SUITE_CASE(score__bf16_cache_stays_close),
	};

	return SUITE_MAIN("golden", cases);
}
