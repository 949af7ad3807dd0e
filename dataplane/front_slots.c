/* front_slots.c - this side's half of requests (state, messages both ways) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "dataplane/front_private.h"

uint32_t slot_index(const struct front *front, const struct front_slot *slot)
{
	return (uint32_t)(slot - front->slots);
}

static struct request_slot *shared_slot(
	const struct front *front, const struct front_slot *slot)
{
	return segment_slot(front->segment, slot_index(front, slot));
}

void slot_set_state(
	struct front *front, struct front_slot *slot, enum front_state to)
{
	front_set_state(shared_slot(front, slot), &slot->own, to);
}

struct front_slot slot_blank(uint32_t generation, enum front_state own)
{
	return (struct front_slot){.generation = generation,
		.own = own,
		.exchange = FRONT_NONE,
		.next = FRONT_NONE,
		.parent = FRONT_NONE,
		.rank = FRONT_NONE,
		.prompt_page = FRONT_NONE,
		.log_page = FRONT_NONE,
		.top_page = FRONT_NONE,
		.bias_page = FRONT_NONE,
		.stop_page = FRONT_NONE};
}

struct front_slot *slot_take(struct front *front)
{
	struct front_slot *slot;
	uint32_t index = front->slot_free;

	if (index == FRONT_NONE)
		return NULL;
	slot = &front->slots[index];
	assert(slot->own == FRONT_FREE);
	front->slot_free = slot->next;
	*slot = slot_blank(slot->generation, FRONT_FREE);
	front->slot_used++;
	slot_set_state(front, slot, FRONT_PARSING);
	return slot;
}

static void give_pages(struct front *front, struct front_slot *slot)
{
	front_pages_give(front, slot->prompt_page);
	front_pages_give(front, slot->log_page);
	front_pages_give(front, slot->top_page);
	front_pages_give(front, slot->bias_page);
	front_pages_give(front, slot->stop_page);
}

static void free_one(struct front *front, struct front_slot *slot)
{
	struct request_slot *shared = shared_slot(front, slot);

	give_pages(front, slot);
	if (slot->rank != FRONT_NONE)
		front->ranks[slot->rank].active--;
	slot->generation++;
	__atomic_store_n(
		&shared->generation, slot->generation, __ATOMIC_RELEASE);
	slot_set_state(front, slot, FRONT_FREE);
	slot->next = front->slot_free;
	front->slot_free = slot_index(front, slot);
	front->slot_used--;
	if (slot->zombie)
		front_zombie_gone(front);
	slot->zombie = false;
}

static bool can_free(const struct front_slot *slot)
{
	return slot->own == FRONT_CLOSED && slot->engine_done &&
	       slot->children == 0 && !slot->dirty && !slot->swept;
}

void slot_try_free(struct front *front, struct front_slot *slot)
{
	while (can_free(slot)) {
		uint32_t parent = slot->parent;

		free_one(front, slot);
		if (parent == FRONT_NONE)
			return;
		slot = &front->slots[parent];
		assert(slot->children > 0);
		slot->children--;
	}
}

void slot_close(struct front *front, struct front_slot *slot)
{
	/* Never submitted: there is no engine's half to wait for. */
	if (slot->own == FRONT_PARSING)
		slot->engine_done = true;
	slot->exchange = FRONT_NONE;
	slot_set_state(front, slot, FRONT_CLOSED);
	slot_try_free(front, slot);
}

static void mark_slot(struct front *front, struct front_slot *slot)
{
	if (slot->dirty)
		return;
	slot->dirty = true;
	slot->next_dirty = front->dirty_slots;
	front->dirty_slots = slot_index(front, slot);
}

/* The rank's ring took no message: it is given no new request meanwhile. */
static void mark_ring_full(struct front *front, struct front_slot *slot)
{
	mark_slot(front, slot);
	if (slot->ring_was_full)
		return;
	slot->ring_was_full = true;
	front->ranks[slot->rank].waiting++;
}

static bool push(struct front *front, const struct front_slot *slot,
	enum ring_kind kind, uint32_t value)
{
	struct front_rank *rank = &front->ranks[slot->rank];
	const struct ring_message message = {.kind = kind,
		.slot = slot_index(front, slot),
		.generation = slot->generation,
		.value = value};

	rank->rung = true;
	if (ring_push(rank->request_ring, rank->request_count, &message))
		return true;
	counter_add(&front->counters->ring_full_total, 1);
	return false;
}

/* To the engine, in the order of a request's life; false: no room. */
static bool pump_engine(struct front *front, struct front_slot *slot)
{
	if (slot->submit_due) {
		if (!push(front, slot, RING_SUBMIT, 0))
			return false;
		slot->submit_due = false;
	}
	/* Its half is terminal: it waits for no word of ours. */
	if (slot->engine_done)
		slot->finish_due = slot->cancel_due = false;
	if (slot->finish_due) {
		if (!push(front, slot, RING_FINISH_AT, slot->finish_at))
			return false;
		slot->finish_due = false;
	}
	if (slot->cancel_due) {
		if (!push(front, slot, RING_CANCEL, 0))
			return false;
		slot->cancel_due = false;
	}
	return true;
}

static bool post_tokens(struct front *front, struct exchange *exchange,
	struct front_slot *slot, bool joined)
{
	uint32_t room = FRONT_FLIGHT_TOKENS - (slot->posted - slot->acked);
	uint32_t count = slot->seen - slot->posted;
	struct text_message message = {.kind = TEXT_TOKENS,
		.choice = slot->choice,
		.reason = joined ? TEXT_TOKENS_JOINED : 0,
		.stamp_ns = slot->stamp_ns};

	/* Without stop strings an unstreamed text is made at its end. */
	if (!exchange->streams && !exchange->text->api.sampling.stops)
		return true;
	/* A client that does not read: its output waits in the log. */
	if (exchange->streams && (!exchange_is_first(front, exchange) ||
					 exchange->pending_length > 0))
		return true;
	if (count > room)
		count = room;
	if (count == 0)
		return true;
	message.value = slot->posted + count;
	if (!front_post(front, exchange, &message))
		return false;
	slot->posted += count;
	return true;
}

static bool post_done(
	struct front *front, struct exchange *exchange, struct front_slot *slot)
{
	const struct text_message message = {.kind = TEXT_DONE,
		.choice = slot->choice,
		.value = slot->seen,
		.reason = slot->reason,
		.cached = slot->cached,
		.stamp_ns = slot->stamp_ns};

	if (!slot->engine_done || slot->done_sent)
		return true;
	if (exchange->streams && slot->posted < slot->seen)
		return true;
	if (!front_post(front, exchange, &message))
		return false;
	slot->done_sent = true;
	return true;
}

static bool pump_worker(
	struct front *front, struct front_slot *slot, bool joined)
{
	struct exchange *exchange;

	if (slot->exchange == FRONT_NONE)
		return true;
	exchange = &front->exchanges[slot->exchange];
	if (exchange->release_due || exchange->fail_due || exchange->fail_sent)
		return true;
	return post_tokens(front, exchange, slot, joined) &&
	       post_done(front, exchange, slot);
}

void slot_pump(struct front *front, struct front_slot *slot, bool joined)
{
	bool engine = slot->rank == FRONT_NONE || pump_engine(front, slot);
	bool worker = pump_worker(front, slot, joined);

	if (!engine)
		mark_ring_full(front, slot);
	if (!worker)
		mark_slot(front, slot);
}

void slot_cancel(struct front *front, struct front_slot *slot)
{
	if (slot->rank == FRONT_NONE || slot->engine_done || slot->cancelled)
		return;
	slot->cancelled = slot->cancel_due = true;
	slot_pump(front, slot, false);
}

static void mark_exchange(struct front *front, struct exchange *exchange)
{
	if (exchange->dirty)
		return;
	exchange->dirty = true;
	exchange->next_dirty = front->dirty_exchanges;
	front->dirty_exchanges = exchange->index;
}

void exchange_pump(struct front *front, struct exchange *exchange)
{
	struct text_message fail = {
		.kind = TEXT_FAIL, .reason = exchange->fail_reason};
	const struct text_message release = {.kind = TEXT_RELEASE};

	if (exchange->fail_due && !exchange->release_due) {
		if (!front_post(front, exchange, &fail)) {
			mark_exchange(front, exchange);
			return;
		}
		exchange->fail_due = false;
		exchange->fail_sent = true;
	}
	if (exchange->release_due && !exchange->release_sent) {
		if (!front_post(front, exchange, &release)) {
			mark_exchange(front, exchange);
			return;
		}
		exchange->release_sent = true;
	}
}

static uint32_t retry_slots(struct front *front)
{
	uint32_t at = front->dirty_slots, count = 0;

	front->dirty_slots = FRONT_NONE;
	while (at != FRONT_NONE) {
		struct front_slot *slot = &front->slots[at];

		at = slot->next_dirty;
		slot->dirty = false;
		if (slot->ring_was_full)
			front->ranks[slot->rank].waiting--;
		slot->ring_was_full = false;
		slot_pump(front, slot, false);
		slot_try_free(front, slot);
		count++;
	}
	return count;
}

uint32_t front_retry(struct front *front)
{
	uint32_t at = front->dirty_exchanges, count = retry_slots(front);

	front->dirty_exchanges = FRONT_NONE;
	while (at != FRONT_NONE) {
		struct exchange *exchange = &front->exchanges[at];

		at = exchange->next_dirty;
		exchange->dirty = false;
		exchange_pump(front, exchange);
		count++;
	}
	return count;
}
