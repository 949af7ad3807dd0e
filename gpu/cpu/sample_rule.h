/* sample_rule.h - what every CPU sampler does alike (logits -> order, numbers) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the back ends go through the vocabulary in their own ways, but the
 *          order of tokens, a penalty, the random number of a token and the
 *          possible parameters are one rule (gpu/ops.h, struct
 *          sample_params). A draw repeats only if all agree bit by bit.
 * Threads: pure functions on the caller's memory.
 */
#ifndef HEDDLE_GPU_CPU_SAMPLE_RULE_H
#define HEDDLE_GPU_CPU_SAMPLE_RULE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "gpu/cpu/philox.h"
#include "gpu/ops.h"

/* Word 3 of the counter: other uses of a seed take another value. */
#define SAMPLE_STREAM UINT32_C(0x746f6b65)

/* Above every g: -log(-log(1 - 2^-53)) = 53 log 2 = 36.7368... */
#define GUMBEL_MAX 36.75

/* Does token a come before b? By logit, ties to the lower id. */
static inline bool token_before(const float *logit, uint32_t a, uint32_t b)
{
	float la = logit[a], lb = logit[b];

	return la > lb || (la == lb && a < b);
}

/*
 * Tokens by rank without a sort of all: a heap in front, and behind it those
 * that were taken, the first of all at count - 1.
 */
struct token_heap {
	const float *logit; /* borrowed */
	uint32_t *tokens; /* [count], borrowed */
	uint32_t heap_count;
	uint32_t count;
};

static inline void token_heap_sift(struct token_heap *heap, uint32_t at)
{
	uint32_t *tokens = heap->tokens;
	uint32_t token = tokens[at];

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= heap->heap_count)
			break;
		if (child + 1 < heap->heap_count &&
			token_before(
				heap->logit, tokens[child + 1], tokens[child]))
			child++;
		if (!token_before(heap->logit, tokens[child], token))
			break;
		tokens[at] = tokens[child];
		at = child;
	}
	tokens[at] = token;
}

/* All `count` tokens are there, in any order: make the heap. */
static inline void token_heap_build(struct token_heap *heap)
{
	heap->heap_count = heap->count;
	for (uint32_t at = heap->count / 2; at-- > 0;)
		token_heap_sift(heap, at);
}

/* The token at `rank` in order; ranks are asked for in ascending order. */
static inline uint32_t token_heap_ranked(struct token_heap *heap, uint32_t rank)
{
	while (heap->heap_count > heap->count - 1 - rank) {
		uint32_t last = --heap->heap_count;
		uint32_t first = heap->tokens[0];

		heap->tokens[0] = heap->tokens[last];
		heap->tokens[last] = first;
		if (last > 0)
			token_heap_sift(heap, 0);
	}
	return heap->tokens[heap->count - 1 - rank];
}

/* Change a logit for a token that the sequence holds already. */
static inline void sample_penalise(const struct sample_params *params,
	const struct token_use *use, float *logit)
{
	if (use->prompt_count == 0 && use->output_count == 0)
		return;
	if (*logit > 0)
		*logit /= params->repetition_penalty;
	else
		*logit *= params->repetition_penalty;
	if (use->output_count == 0)
		return;
	*logit -= params->presence_penalty;
	*logit -= params->frequency_penalty * (float)use->output_count;
}

/* 64 random bits of a token in this draw. */
static inline uint64_t sample_random(
	const struct sample_params *params, uint32_t token)
{
	const uint32_t key[2] = {
		(uint32_t)params->seed, (uint32_t)(params->seed >> 32)};
	const uint32_t counter[4] = {
		token, params->position, params->choice, SAMPLE_STREAM};
	uint32_t word[4];

	philox4x32_10(counter, key, word);
	return (uint64_t)word[1] << 32 | word[0];
}

/* The engine's parameters; wrong ones are our bug. */
static inline void sample_check(const struct sample_params *params)
{
	assert(params->temperature >= 0);
	assert(params->top_p >= 0);
	assert(params->min_p >= 0 && params->min_p <= 1);
	assert(params->repetition_penalty > 0);
	assert(params->top_count <= LOGPROB_TOP_MAX);
}

#endif
