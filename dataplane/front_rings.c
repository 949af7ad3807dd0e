/* front_rings.c - what engines and control say (rings -> slots) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side may be a process gone wrong. Every value is copied once and
 * compared with what this side knows; what cannot be fails the request that
 * it names, or is counted and dropped where it names none.
 *
 * Sweep: what a rank says is taken in first; then each slot that was named has
 *        its new tokens sent on, once. The sweep begins one slot later each
 *        time: engines name their rows in the same order step after step, and
 *        nobody shall always be the first or the last.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/prefetch.h"
#include "dataplane/front_private.h"

#define BURST 256
#define AHEAD_FAR 8
#define AHEAD_NEAR 4
#define SWEEP_MAX 2048 /* messages; then it is the port's turn */
#define STRIKE_SLOTS 64 /* of a burst: workers begin while it is sent on */

static int attach(struct ring *ring, uint32_t *out_count,
	const struct front *front, struct error *err)
{
	uint32_t count = front->segment->shape.ring_count;

	if (ring_attach(ring, ring_size(count), out_count) == 0 &&
		*out_count == count)
		return 0;
	return error_set(err, EINVAL, "a ring of the segment is damaged");
}

int front_rings_attach(struct front *front, struct error *err)
{
	const struct segment *segment = front->segment;
	int rc = 0;

	front->sweep = calloc(segment->shape.slot_count, sizeof(*front->sweep));
	if (!front->sweep)
		return error_set(err, ENOMEM, "no memory for a sweep");
	front->control_ring = segment_control_ring(segment, ROLE_INDEX_FRONT);
	rc = attach(front->control_ring, &front->control_count, front, err);
	for (uint32_t i = 0; rc == 0 && i < segment->shape.rank_count; i++) {
		struct front_rank *rank = &front->ranks[i];

		rank->request_ring = segment_request_ring(segment, i);
		rank->token_ring = segment_token_ring(segment, i);
		rc = attach(
			rank->request_ring, &rank->request_count, front, err);
		if (rc == 0)
			rc = attach(rank->token_ring, &rank->token_count, front,
				err);
	}
	return rc;
}

/* The slot that a message is about, or NULL: counted. */
static struct front_slot *slot_of(
	struct front *front, uint32_t rank, const struct ring_message *message)
{
	struct front_slot *slot;

	/* The arrays have all slots; only a share of them is ours. */
	if (message->slot - front->slot_share.first >=
		front->slot_share.count) {
		counter_add(&front->counters->bad_messages_total, 1);
		return NULL;
	}
	slot = &front->slots[message->slot];
	if (slot->own == FRONT_FREE ||
		slot->generation != message->generation || slot->engine_done) {
		counter_add(&front->counters->stale_messages_total, 1);
		return NULL;
	}
	/* Only the rank that serves a request may speak of it. */
	if (slot->rank != rank || slot->own == FRONT_PARSING) {
		counter_add(&front->counters->bad_messages_total, 1);
		return NULL;
	}
	return slot;
}

static void fail_slot(
	struct front *front, struct front_slot *slot, enum finish_reason reason)
{
	if (slot->exchange != FRONT_NONE)
		exchange_fail(front, &front->exchanges[slot->exchange], reason);
}

static void bad_value(struct front *front, struct front_slot *slot)
{
	counter_add(&front->counters->bad_messages_total, 1);
	slot_cancel(front, slot);
	fail_slot(front, slot, FINISH_NONE);
}

/*
 * When the newest token was put into the log: the engine's own time where it
 * can be true, else now.
 */
static uint64_t published(const struct front *front,
	const struct front_slot *slot, const struct request_slot *shared)
{
	uint64_t ns = __atomic_load_n(
		&shared->engine_times.last_token_ns, __ATOMIC_RELAXED);

	return ns >= slot->submitted_ns && ns <= front->now_ns ? ns
							       : front->now_ns;
}

static void note_progress(
	struct front *front, struct front_slot *slot, uint32_t count)
{
	const struct request_slot *shared =
		segment_slot(front->segment, slot_index(front, slot));

	if (count == slot->seen)
		return;
	if (slot->own == FRONT_SUBMITTED)
		slot_set_state(front, slot, FRONT_STREAMING);
	counter_add(&front->counters->output_tokens_total, count - slot->seen);
	counter_add(&front->counters->names[slot->name].output_tokens_total,
		count - slot->seen);
	slot->seen = count;
	slot->stamp_ns = published(front, slot, shared);
	if (slot->first_ns == 0 && slot->exchange != FRONT_NONE &&
		!front->exchanges[slot->exchange].streams)
		slot_first_token(front, slot);
}

/* Is `count` a possible length of the log? */
static bool count_ok(const struct front *front, const struct front_slot *slot,
	uint32_t count)
{
	const struct request_slot *shared =
		segment_slot(front->segment, slot_index(front, slot));
	/* Pairs with the engine's release: the records below are written. */
	uint32_t written =
		__atomic_load_n(&shared->output_count, __ATOMIC_ACQUIRE);

	return count >= slot->seen && count <= slot->output_max &&
	       count <= written;
}

static void sweep_add(struct front *front, struct front_slot *slot)
{
	if (!slot->swept)
		front->sweep[front->sweep_count++] = slot_index(front, slot);
	slot->swept = true;
}

static void on_tokens(struct front *front, struct front_slot *slot,
	const struct ring_message *message)
{
	if (!count_ok(front, slot, message->value)) {
		bad_value(front, slot);
		return;
	}
	note_progress(front, slot, message->value);
	sweep_add(front, slot);
}

static void on_done(struct front *front, struct front_slot *slot)
{
	const struct request_slot *shared =
		segment_slot(front->segment, slot_index(front, slot));
	enum engine_state state;
	bool state_ok = engine_state_read(shared, &state) &&
			engine_state_terminal(state);
	uint32_t count =
		__atomic_load_n(&shared->output_count, __ATOMIC_ACQUIRE);
	uint32_t reason = __atomic_load_n(&shared->finish, __ATOMIC_RELAXED);
	uint32_t cached =
		__atomic_load_n(&shared->cached_count, __ATOMIC_RELAXED);
	bool good = state_ok && count_ok(front, slot, count) &&
		    reason > FINISH_NONE && reason < FINISH_REASON_COUNT &&
		    cached <= shared->params.prompt_count;

	if (!good) {
		/* It said that it is done, so it gets no more messages. */
		counter_add(&front->counters->bad_messages_total, 1);
		slot->reason = FINISH_NONE;
		slot->engine_done = true;
		fail_slot(front, slot, FINISH_NONE);
		slot_try_free(front, slot);
		return;
	}
	note_progress(front, slot, count);
	slot->cached = cached;
	slot->reason = state == ENGINE_FAILED && reason < FINISH_CANCELLED
			       ? FINISH_NONE
			       : (enum finish_reason)reason;
	slot->engine_done = true;
	sweep_add(front, slot);
}

static void on_message(
	struct front *front, uint32_t rank, const struct ring_message *message)
{
	struct front_slot *slot;

	if (message->kind != RING_TOKENS && message->kind != RING_DONE) {
		counter_add(&front->counters->bad_messages_total, 1);
		return;
	}
	slot = slot_of(front, rank, message);
	if (!slot)
		return;
	if (message->kind == RING_TOKENS)
		on_tokens(front, slot, message);
	else
		on_done(front, slot);
}

/* What the message some places on is about. */
static void look_ahead(const struct front *front,
	const struct ring_message *messages, uint32_t i, uint32_t count)
{
	uint32_t at = i + AHEAD_FAR < count ? messages[i + AHEAD_FAR].slot
					    : UINT32_MAX;

	if (at >= front->segment->shape.slot_count)
		return;
	prefetch(&front->slots[at], sizeof(front->slots[at]));
	prefetch(&segment_slot(front->segment, at)->engine_state,
		CACHE_LINE_BYTES);
}

static uint32_t take_in(struct front *front, uint32_t index)
{
	struct front_rank *rank = &front->ranks[index];
	struct ring_message messages[BURST];
	uint32_t total = 0, count;

	do {
		count = ring_pop(
			rank->token_ring, rank->token_count, messages, BURST);
		for (uint32_t i = 0; i < count; i++) {
			look_ahead(front, messages, i, count);
			on_message(front, index, &messages[i]);
		}
		total += count;
	} while (count == BURST && total < SWEEP_MAX);
	return total;
}

static struct front_slot *swept(struct front *front, uint32_t at)
{
	uint32_t count = front->sweep_count;

	return &front->slots[front->sweep[at < count ? at : at - count]];
}

static void sweep(struct front *front)
{
	uint32_t count = front->sweep_count, first;

	if (count == 0)
		return;
	first = front->sweep_turn++ % count;
	for (uint32_t i = 0; i < count; i++) {
		struct front_slot *slot = swept(front, first + i);
		uint32_t at = FRONT_NONE;

		if (i + AHEAD_NEAR < count)
			at = swept(front, first + i + AHEAD_NEAR)->exchange;
		if (at != FRONT_NONE)
			prefetch(&front->exchanges[at], EXCHANGE_HOT_BYTES);
		slot->swept = false;
		slot_pump(front, slot, false);
		slot_try_free(front, slot);
		if (i % STRIKE_SLOTS == STRIKE_SLOTS - 1)
			front_strike_workers(front);
	}
	front->sweep_count = 0;
}

static uint32_t poll_rank(struct front *front, uint32_t index)
{
	uint32_t count = take_in(front, index);

	sweep(front);
	return count;
}

/*
 * The rank died: what it had said still counts, then its half is closed. What
 * a later life of it was given stays.
 */
static void close_rank(struct front *front, uint32_t rank, uint32_t life)
{
	const struct segment_share *own = &front->slot_share;

	while (poll_rank(front, rank) > 0) {
	}
	for (uint32_t i = own->first; i < own->first + own->count; i++) {
		struct front_slot *slot = &front->slots[i];

		if (slot->own == FRONT_FREE || slot->own == FRONT_PARSING ||
			slot->rank != rank || slot->engine_done ||
			slot->life > life)
			continue;
		slot->engine_done = true;
		slot->reason = FINISH_ENGINE_LOST;
		slot->submit_due = false;
		fail_slot(front, slot, FINISH_ENGINE_LOST);
		slot_pump(front, slot, false);
		slot_try_free(front, slot);
	}
}

uint32_t front_control_poll(struct front *front)
{
	struct ring_message messages[BURST];
	uint32_t count = ring_pop(
		front->control_ring, front->control_count, messages, BURST);

	for (uint32_t i = 0; i < count; i++) {
		if (messages[i].kind == RING_CLOSE &&
			messages[i].value < front->segment->shape.rank_count)
			close_rank(front, messages[i].value,
				messages[i].generation);
		else if (messages[i].kind != RING_EPOCH)
			counter_add(&front->counters->bad_messages_total, 1);
	}
	return count;
}

uint32_t front_rings_poll(struct front *front)
{
	uint32_t count = front_control_poll(front);

	for (uint32_t i = 0; i < front->segment->shape.rank_count; i++)
		count += poll_rank(front, i);
	return count;
}
