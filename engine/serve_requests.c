/* serve_requests.c - requests between rank, scheduler and lanes */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/check.h"
#include "engine/serve_private.h"

static struct lane *lane_of(struct serve *serve, uint32_t slot_index)
{
	uint32_t lane = serve->lane_of[slot_index];

	return lane >= LANE_DOOMED ? NULL : &serve->lanes[lane];
}

static void refuse(struct serve *serve, uint32_t slot_index)
{
	counter_add(&serve->rank.counters->bad_messages_total, 1);
	rank_finish(&serve->rank, slot_index, FINISH_NONE);
}

void serve_submitted(void *arg, uint32_t slot_index, struct mono now)
{
	struct serve *serve = arg;
	const struct rank_request *r = &serve->rank.requests[slot_index];
	const struct sched_job job = {
		.name = r->name,
		.priority = r->params.priority,
		.token_count = r->params.prompt_count + r->output_count,
		.token_max = r->params.prompt_count + r->params.output_max,
		.deadline_ns = r->params.deadline_ns,
	};

	(void)now;
	if (!lane_params_ok(serve, r) ||
		!sched_submit(serve->sched, slot_index, &job))
		refuse(serve, slot_index);
}

void serve_finish(
	struct serve *serve, uint32_t slot_index, enum finish_reason reason)
{
	sched_remove(serve->sched, slot_index);
	serve->lane_of[slot_index] = LANE_NONE;
	rank_finish(&serve->rank, slot_index, reason);
}

/* Its blocks may be in use until the step has run. */
void serve_end(void *arg, uint32_t slot_index, enum finish_reason reason)
{
	struct serve *serve = arg;
	struct lane *lane = lane_of(serve, slot_index);

	if (!lane || !serve->in_flight) {
		serve_finish(serve, slot_index, reason);
	} else if (!lane->ends) {
		lane->ends = true;
		lane->ending = reason;
	}
}

/* What a cancelled request's last step made is nobody's. */
static void drop_outcome(struct serve *serve, uint32_t slot_index)
{
	for (uint32_t i = 0; i < serve->outcome_count; i++)
		if (serve->outcomes[i].slot == slot_index)
			serve->outcomes[i].slot = SLOT_NONE;
}

void serve_end_due(struct serve *serve)
{
	assert(!serve->in_flight);
	for (uint32_t i = 0; i < serve->options.sequence_count; i++) {
		const struct lane *lane = &serve->lanes[i];
		uint32_t slot = lane->slot;

		if (slot == SLOT_NONE || !lane->ends)
			continue;
		drop_outcome(serve, slot);
		serve_finish(serve, slot, lane->ending);
	}
}

/* --- what the scheduler asks for --------------------------------------------------- */

static uint32_t free_lane(const struct serve *serve)
{
	uint32_t i = 0;

	/* There are as many as the scheduler lets run. */
	while (serve->lanes[i].slot != SLOT_NONE)
		i++;
	assert(i < serve->options.sequence_count);
	return i;
}

/* Of its prompt; what an earlier start found stands. */
static void note_cached(
	const struct serve *serve, const struct lane *lane, uint32_t found)
{
	struct request_slot *slot =
		segment_slot(serve->rank.segment, lane->slot);

	if (lane->count == lane->prompt_count)
		__atomic_store_n(&slot->cached_count, found, __ATOMIC_RELAXED);
}

uint32_t serve_start(void *arg, uint32_t slot_index)
{
	struct serve *serve = arg;
	uint32_t number = free_lane(serve), found;
	struct lane *lane = &serve->lanes[number];

	if (serve->lane_of[slot_index] == LANE_DOOMED ||
		!lane_fill(serve, lane, slot_index)) {
		serve->lane_of[slot_index] = LANE_NONE;
		refuse(serve, slot_index);
		return SCHED_REFUSED;
	}
	serve->lane_of[slot_index] = number;
	found = kv_cache_match(serve->cache, &lane->chain, lane->tokens,
		lane->count, lane->prompt_count);
	note_cached(serve, lane, found);
	rank_start(&serve->rank, slot_index, serve->now);
	return found;
}

bool serve_grow(void *arg, uint32_t slot_index, uint32_t token_count)
{
	struct serve *serve = arg;

	return kv_cache_grow(serve->cache, &lane_of(serve, slot_index)->chain,
		       token_count) == 0;
}

void serve_stop(void *arg, uint32_t slot_index, bool preempted)
{
	struct serve *serve = arg;
	struct lane *lane = lane_of(serve, slot_index);

	assert(!serve->in_flight);
	kv_cache_release(serve->cache, &lane->chain);
	lane->slot = SLOT_NONE;
	serve->lane_of[slot_index] = LANE_NONE;
	/* It starts again from its log, which must hold all its tokens. */
	for (uint32_t i = 0; preempted && i < serve->outcome_count; i++)
		if (serve->outcomes[i].slot == slot_index &&
			!serve_tell(serve, &serve->outcomes[i]))
			serve->lane_of[slot_index] = LANE_DOOMED;
	if (preempted)
		rank_preempt(&serve->rank, slot_index);
}

uint32_t serve_available(void *arg)
{
	const struct serve *serve = arg;
	uint32_t blocks = kv_cache_available(serve->cache);
	uint32_t per_block = kv_store_layout(serve->model->kv)->pages_per_block;
	uint32_t wanted = (uint32_t)div_up(serve->wanted_pages, per_block);

	/* What a load waits for is not for requests that come later. */
	return blocks > wanted ? blocks - wanted : 0;
}
