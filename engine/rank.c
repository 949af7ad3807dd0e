/* rank.c - what every engine has in common (an engine -> token ring, beat) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/rank_adapters.h"

/* --- messages out ----------------------------------------------------------- */

void rank_send(struct rank *rank, enum ring_kind kind, uint32_t slot_index,
	uint32_t value)
{
	struct rank_outbox *outbox =
		&rank->fronts[segment_slot_front(rank->segment, slot_index)]
			 .outbox;
	uint32_t at = outbox->head + outbox->count;

	/* A turn takes nothing in that it could not hold. */
	assert(outbox->count < outbox->capacity);
	if (at >= outbox->capacity)
		at -= outbox->capacity;
	outbox->messages[at] = (struct ring_message){
		.kind = kind,
		.slot = slot_index,
		.generation = rank->requests[slot_index].generation,
		.value = value,
	};
	outbox->count++;
	rank->unsent++;
}

static uint32_t flush_front(struct rank_front *front)
{
	struct rank_outbox *outbox = &front->outbox;
	uint32_t pushed = 0;

	while (outbox->count > 0 &&
		ring_push(front->token_ring, front->token_count,
			&outbox->messages[outbox->head])) {
		if (++outbox->head == outbox->capacity)
			outbox->head = 0;
		outbox->count--;
		pushed++;
	}
	/* One wake for the whole burst. */
	if (pushed > 0)
		wake_ring(front->wake, front->bell_fd);
	return pushed;
}

bool rank_flush(struct rank *rank)
{
	for (uint32_t i = 0; rank->unsent > 0 && i < rank->front_count; i++)
		rank->unsent -= flush_front(&rank->fronts[i]);
	return rank->unsent == 0;
}

/* --- a request -------------------------------------------------------------- */

bool rank_is_live(const struct rank_request *request)
{
	return request->own == ENGINE_QUEUED ||
	       request->own == ENGINE_RUNNING ||
	       request->own == ENGINE_PREEMPTED;
}

void rank_start(struct rank *rank, uint32_t slot_index, struct mono now)
{
	struct rank_request *request = &rank->requests[slot_index];

	if (request->own == ENGINE_QUEUED)
		rank->waiting--;
	engine_set_state(segment_slot(rank->segment, slot_index), &request->own,
		ENGINE_RUNNING);
	if (request->times.scheduled_ns != 0)
		return; /* it was preempted: it has waited before */
	request->times.scheduled_ns = now.ns;
	histogram_add(&rank->counters->queue,
		mono_diff(now, (struct mono){request->submitted_ns}));
}

void rank_preempt(struct rank *rank, uint32_t slot_index)
{
	struct rank_request *request = &rank->requests[slot_index];

	engine_set_state(segment_slot(rank->segment, slot_index), &request->own,
		ENGINE_PREEMPTED);
	counter_add(&rank->counters->preemptions_total, 1);
}

static void record_times(struct rank *rank, const struct engine_times *times)
{
	/* A resumed one has no first token of this life. */
	if (times->first_token_ns == 0 || times->scheduled_ns == 0)
		return;
	histogram_add(&rank->counters->prefill,
		mono_diff((struct mono){times->first_token_ns},
			(struct mono){times->scheduled_ns}));
	histogram_add(&rank->counters->decode,
		mono_diff((struct mono){times->last_token_ns},
			(struct mono){times->first_token_ns}));
}

void rank_finish(
	struct rank *rank, uint32_t slot_index, enum finish_reason reason)
{
	struct rank_request *request = &rank->requests[slot_index];
	struct request_slot *slot = segment_slot(rank->segment, slot_index);
	bool failed = reason == FINISH_NONE || reason == FINISH_NO_TOKEN ||
		      reason == FINISH_ENGINE_LOST;

	if (request->own == ENGINE_QUEUED)
		rank->waiting--;
	if (request->holds)
		rank_adapters_release(rank->adapters, request->instance);
	request->holds = false;
	record_times(rank, &request->times);
	/* The last token's time is there since the token. */
	slot->engine_times.scheduled_ns = request->times.scheduled_ns;
	slot->engine_times.first_token_ns = request->times.first_token_ns;
	slot->finish = reason;
	engine_set_state(
		slot, &request->own, failed ? ENGINE_FAILED : ENGINE_FINISHED);
	rank_send(rank, RING_DONE, slot_index, request->output_count);
}

/* --- signs of life ------------------------------------------------------------ */

void rank_beat(struct rank *rank, uint32_t running, struct mono now)
{
	uint64_t pending = (uint64_t)running + rank->waiting;

	counter_set(&rank->counters->running, running);
	counter_set(&rank->counters->waiting, rank->waiting);
	__atomic_store_n(&rank->beat->pending, pending, __ATOMIC_RELAXED);
	__atomic_store_n(&rank->beat->beat_ns, now.ns, __ATOMIC_RELAXED);
}

void rank_progress(struct rank *rank)
{
	counter_add(&rank->counters->steps_total, 1);
	__atomic_store_n(&rank->beat->progress, rank->beat->progress + 1,
		__ATOMIC_RELAXED);
}

void rank_set_state(struct rank *rank, enum beat_state state)
{
	/* Pairs with whoever looks whether the rank takes requests. */
	__atomic_store_n(&rank->beat->state, (uint32_t)state, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < rank->front_count; i++)
		wake_ring(rank->fronts[i].wake, rank->fronts[i].bell_fd);
}

static bool has_messages(const struct rank *rank)
{
	for (uint32_t i = 0; i < rank->front_count; i++) {
		const struct ring *ring = rank->fronts[i].request_ring;

		if (__atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) !=
			ring->tail)
			return true;
	}
	return false;
}

bool rank_sleep_begin(struct rank *rank, const uint32_t *stop,
	const uint32_t *ready, uint32_t *out_seen)
{
	*out_seen = wake_arm(rank->wake);
	/* What came between the turn and the arming, and a stop. */
	return !__atomic_load_n(stop, __ATOMIC_ACQUIRE) &&
	       !(ready && __atomic_load_n(ready, __ATOMIC_ACQUIRE)) &&
	       !(rank->config.hooks.pending &&
		       rank->config.hooks.pending(rank->config.hooks.arg)) &&
	       (rank->unsent > 0 || !has_messages(rank));
}

void rank_sleep_end(
	struct wake *wake, bool sleeps, uint32_t seen, struct mono until)
{
	if (sleeps)
		wake_wait(wake, seen, until);
	wake_disarm(wake);
}

void rank_sleep(struct rank *rank, const uint32_t *stop, const uint32_t *ready,
	struct mono until)
{
	uint32_t seen;
	bool sleeps = rank_sleep_begin(rank, stop, ready, &seen);

	rank_sleep_end(rank->wake, sleeps, seen, until);
}

/* --- life ---------------------------------------------------------------------- */

static int attach_front(struct rank *rank, uint32_t index)
{
	const struct segment view = segment_view(rank->segment, index);
	struct rank_front *front = &rank->fronts[index];
	size_t stride = view.ring_stride;
	int rc;

	front->request_ring = segment_request_ring(&view, rank->config.rank);
	front->token_ring = segment_token_ring(&view, rank->config.rank);
	front->wake = segment_wake(&view, ROLE_INDEX_FRONT);
	front->bell_fd = segment_bell(&view);
	rc = ring_attach(front->request_ring, stride, &front->request_count);
	return rc ? rc
		  : ring_attach(front->token_ring, stride, &front->token_count);
}

static int attach_rings(struct rank *rank, struct error *err)
{
	const struct segment *segment = rank->segment;
	uint32_t number = rank->config.rank;
	int rc;

	rank->control_ring =
		segment_control_ring(segment, ROLE_INDEX_RANK0 + number);
	rc = ring_attach(
		rank->control_ring, segment->ring_stride, &rank->control_count);
	for (uint32_t i = 0; rc == 0 && i < rank->front_count; i++)
		rc = attach_front(rank, i);
	if (rc)
		return error_set(err, EINVAL,
			"%s engine: the rings of rank %u are broken",
			rank->config.name, number);
	return 0;
}

static int allocate(struct rank *rank, struct error *err)
{
	uint32_t slots = rank->segment->shape.slot_count;
	bool all = true;

	/*
	 * A turn begins with empty outboxes and adds at most a RING_DONE for
	 * each slot and for each message taken in, and a RING_TOKENS for each
	 * row; the end adds a RING_DONE for each slot that has had none. To
	 * take over is a RING_TOKENS and a RING_DONE for each slot.
	 */
	for (uint32_t i = 0; i < rank->front_count; i++) {
		struct rank_outbox *outbox = &rank->fronts[i].outbox;

		outbox->capacity =
			2 * slots + rank->config.row_count + 2 * RANK_BURST;
		outbox->messages =
			calloc(outbox->capacity, sizeof(*outbox->messages));
		all = all && outbox->messages;
	}
	rank->requests = calloc(slots, sizeof(*rank->requests));
	if (!all || !rank->requests)
		return error_set(err, ENOMEM,
			"%s engine: no memory for %u slots", rank->config.name,
			slots);
	return 0;
}

int rank_open(const struct segment *segment, const struct rank_config *config,
	struct rank *out, struct error *err)
{
	uint32_t role = ROLE_INDEX_RANK0 + config->rank;
	int rc;

	assert(config->eos_count <= RANK_EOS_COUNT_MAX);
	memset(out, 0, sizeof(*out));
	out->segment = segment;
	out->config = *config;
	out->beat = segment_beat(segment, role);
	out->wake = segment_wake(segment, role);
	out->front_count = segment->shape.front_count;
	out->counters = segment_engine_counters(segment, config->rank);
	rc = attach_rings(out, err);
	if (rc == 0)
		rc = allocate(out, err);
	if (rc)
		rank_close(out);
	return rc;
}

void rank_close(struct rank *rank)
{
	free(rank->requests);
	for (uint32_t i = 0; i < rank->front_count; i++)
		free(rank->fronts[i].outbox.messages);
	memset(rank, 0, sizeof(*rank));
}
