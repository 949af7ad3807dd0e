/* null_token.c - one pseudo-random token (seed, choice, position -> log) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/null_private.h"

/* Draws before it is believed that every token is masked. */
#define DRAW_MAX 64u

/* SplitMix64's output function (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t draw(
	const struct rank_request *request, uint32_t position, uint32_t lane)
{
	uint64_t where = (uint64_t)request->params.choice << 32 | position;

	return mix(mix(mix(request->params.seed) ^ where) + lane);
}

/* Of the token to come. */
static uint32_t position_of(const struct rank_request *request)
{
	return request->params.prompt_count + request->output_count;
}

static uint32_t scale(uint64_t bits, uint32_t count)
{
	return (uint32_t)(((bits >> 32) * count) >> 32);
}

/* Stop tokens are masked before output_min; false: nothing is left. */
static bool choose(const struct null_engine *engine,
	const struct rank_request *request, uint32_t *out_id, bool *out_stop)
{
	bool masked = request->output_count < request->params.output_min;

	for (uint32_t i = 0; i < DRAW_MAX; i++) {
		uint32_t id = engine->options.first_id +
			      scale(draw(request, position_of(request), i),
				      engine->options.id_count);

		*out_stop = rank_is_stop(&engine->rank, request, id);
		if (!*out_stop || !masked) {
			*out_id = id;
			return true;
		}
	}
	return false;
}

/* In (-4, 0]. */
static float logprob(uint64_t bits)
{
	return -4.0f * (float)(uint32_t)(bits >> 40) / (float)(1u << 24);
}

/* The drawn token first, then others, each less likely than the last. */
static void make_alternatives(const struct null_engine *engine,
	const struct rank_request *request, struct token_record record,
	struct token_record *out)
{
	uint32_t offset = record.token_flags - engine->options.first_id;

	for (uint32_t k = 0; k < rank_top_count(request); k++) {
		out[k] = record;
		offset = (offset + 1) % engine->options.id_count;
		record.token_flags = engine->options.first_id + offset;
		record.logprob +=
			logprob(draw(request, position_of(request), ~k));
	}
}

enum null_outcome null_emit(
	struct null_engine *engine, uint32_t slot_index, struct mono now)
{
	const struct rank_request *request = &engine->rank.requests[slot_index];
	struct token_record top[LOGPROB_TOP_MAX];
	struct token_record record = {0};
	bool stop, full;
	uint32_t id;

	if (!choose(engine, request, &id, &stop))
		return NULL_NO_TOKEN;
	full = request->output_count + 1 == request->params.output_max;
	record.token_flags = id;
	if (request->params.want_logprob)
		record.logprob =
			logprob(draw(request, position_of(request), DRAW_MAX));
	make_alternatives(engine, request, record, top);
	record.token_flags |= stop || full ? TOKEN_FLAG_LAST : 0;
	if (!rank_append(&engine->rank, slot_index, record, top, now))
		return NULL_BAD_PAGES;
	if (stop)
		return NULL_STOPPED;
	return full ? NULL_FULL : NULL_GOES_ON;
}
