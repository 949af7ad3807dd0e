/* null_token.c - one pseudo-random token (seed, choice, position -> log) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/null_private.h"

/* Draws before it is believed that every token is masked. */
#define DRAW_MAX 64u
/* Stop ids in a page of the chain. */
#define STOP_PAGE_COUNT_MAX 8u

/* SplitMix64's output function (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t draw(
	const struct null_sequence *sequence, uint32_t position, uint32_t lane)
{
	uint64_t where = (uint64_t)sequence->choice << 32 | position;

	return mix(mix(mix(sequence->seed) ^ where) + lane);
}

static uint32_t scale(uint64_t bits, uint32_t count)
{
	return (uint32_t)(((bits >> 32) * count) >> 32);
}

static bool page_has(const struct payload_page *page, uint32_t id)
{
	uint32_t used = __atomic_load_n(&page->used_bytes, __ATOMIC_RELAXED);
	uint32_t ids[PAYLOAD_IDS_PER_PAGE];

	if (used > sizeof(page->bytes))
		return false;
	memcpy(ids, page->bytes, used);
	for (size_t i = 0; i < used / sizeof(ids[0]); i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool in_stop_pages(const struct null_engine *engine,
	const struct null_sequence *sequence, uint32_t id)
{
	uint32_t at = sequence->stop_page;

	for (uint32_t i = 0; i < STOP_PAGE_COUNT_MAX; i++) {
		const struct payload_page *page;

		if (at >= engine->segment->shape.page_count)
			return false;
		page = segment_page(engine->segment, at);
		if (page_has(page, id))
			return true;
		at = __atomic_load_n(&page->next, __ATOMIC_RELAXED);
	}
	return false;
}

static bool is_stop(const struct null_engine *engine,
	const struct null_sequence *sequence, uint32_t id)
{
	if (!sequence->ignore_eos)
		for (uint32_t i = 0; i < engine->options.eos_count; i++)
			if (engine->options.eos[i] == id)
				return true;
	return sequence->stop_page != PAYLOAD_NONE &&
	       in_stop_pages(engine, sequence, id);
}

/* Stop tokens are masked before output_min; false: nothing is left. */
static bool choose(const struct null_engine *engine,
	const struct null_sequence *sequence, uint32_t *out_id, bool *out_stop)
{
	uint32_t position = sequence->prompt_count + sequence->output_count;
	bool masked = sequence->output_count < sequence->output_min;

	for (uint32_t i = 0; i < DRAW_MAX; i++) {
		uint32_t id = engine->options.first_id +
			      scale(draw(sequence, position, i),
				      engine->options.id_count);

		*out_stop = is_stop(engine, sequence, id);
		if (!*out_stop || !masked) {
			*out_id = id;
			return true;
		}
	}
	return false;
}

/* Append a record to a chain; false: it has no further page. */
static bool put(const struct null_engine *engine, struct null_cursor *cursor,
	struct token_record record)
{
	struct payload_page *page;

	if (cursor->page == PAYLOAD_NONE)
		return false;
	page = segment_page(engine->segment, cursor->page);
	if (cursor->used == PAYLOAD_RECORDS_PER_PAGE) {
		uint32_t next = __atomic_load_n(&page->next, __ATOMIC_RELAXED);

		if (next >= engine->segment->shape.page_count)
			return false;
		*cursor = (struct null_cursor){next, 0};
		page = segment_page(engine->segment, next);
	}
	memcpy(page->bytes + cursor->used * sizeof(record), &record,
		sizeof(record));
	cursor->used++;
	return true;
}

/* In (-4, 0]. */
static float logprob(uint64_t bits)
{
	return -4.0f * (float)(uint32_t)(bits >> 40) / (float)(1u << 24);
}

/* The drawn token first, then others, each less likely than the last. */
static bool put_alternatives(const struct null_engine *engine,
	struct null_sequence *sequence, struct token_record record)
{
	uint32_t position = sequence->prompt_count + sequence->output_count;
	uint32_t offset = record.token_flags - engine->options.first_id;

	for (uint32_t k = 0; k < sequence->logprob_count; k++) {
		if (!put(engine, &sequence->top, record))
			return false;
		offset = (offset + 1) % engine->options.id_count;
		record.token_flags = engine->options.first_id + offset;
		record.logprob += logprob(draw(sequence, position, ~k));
	}
	return true;
}

static bool append(struct null_engine *engine, uint32_t slot_index,
	struct token_record record, struct mono now)
{
	struct null_sequence *sequence = &engine->sequences[slot_index];
	struct request_slot *slot = segment_slot(engine->segment, slot_index);

	if (sequence->want_logprob && sequence->logprob_count > 0) {
		struct token_record plain = {
			record.token_flags & TOKEN_ID_MASK, record.logprob};

		if (!put_alternatives(engine, sequence, plain))
			return false;
		record.token_flags |= TOKEN_FLAG_TOP;
	}
	if (!put(engine, &sequence->log, record))
		return false;
	if (sequence->output_count++ == 0)
		sequence->times.first_token_ns = now.ns;
	sequence->times.last_token_ns = now.ns;
	__atomic_store_n(
		&slot->engine_times.last_token_ns, now.ns, __ATOMIC_RELAXED);
	/* Pairs with the dataplane's acquire load: the records are whole. */
	__atomic_store_n(
		&slot->output_count, sequence->output_count, __ATOMIC_RELEASE);
	return true;
}

enum null_outcome null_emit(
	struct null_engine *engine, uint32_t slot_index, struct mono now)
{
	const struct null_sequence *sequence = &engine->sequences[slot_index];
	uint32_t position = sequence->prompt_count + sequence->output_count;
	struct token_record record = {0};
	bool stop, full;
	uint32_t id;

	if (!choose(engine, sequence, &id, &stop))
		return NULL_NO_TOKEN;
	full = sequence->output_count + 1 == sequence->output_max;
	record.token_flags = id | (stop || full ? TOKEN_FLAG_LAST : 0);
	if (sequence->want_logprob)
		record.logprob = logprob(draw(sequence, position, DRAW_MAX));
	if (!append(engine, slot_index, record, now))
		return NULL_BAD_PAGES;
	if (stop)
		return NULL_STOPPED;
	return full ? NULL_FULL : NULL_GOES_ON;
}
