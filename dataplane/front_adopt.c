/* front_adopt.c - what an earlier life of this role left (segment -> closed) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clients of those requests are gone with their connections. A slot that
 * no engine works on is free at once. The others are zombies: cancelled, and
 * free when the engine says so. An engine may still write into a zombie's
 * pages, so those stay out of use until the last zombie is gone; which pages
 * they are is read from shared memory, with every index checked.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "dataplane/front_private.h"

/* Take a page out of use: once, and only one of ours. */
static bool hold(struct front *front, bool *held, uint32_t page)
{
	if (page < front->page_share.first ||
		page - front->page_share.first >= front->page_share.count ||
		held[page])
		return false;
	held[page] = true;
	front->zombie_pages[front->zombie_page_count++] = page;
	return true;
}

static void hold_chain(struct front *front, bool *held, uint32_t first)
{
	uint32_t at = first;

	/* Ends at a page that is held already: so also in a circle. */
	while (hold(front, held, at))
		at = __atomic_load_n(&segment_page(front->segment, at)->next,
			__ATOMIC_RELAXED);
}

static void hold_pages(
	struct front *front, bool *held, const struct request_slot *shared)
{
	hold_chain(front, held, shared->prompt_page);
	hold_chain(front, held, shared->log_page);
	hold_chain(front, held, shared->top_page);
	hold_chain(front, held, shared->params.bias_page);
	hold_chain(front, held, shared->params.stop_page);
}

/* Does an engine have it, as far as its half of the slot says? */
static bool engine_has(
	const struct front *front, const struct request_slot *shared)
{
	enum engine_state state;

	if (shared->front_state != FRONT_SUBMITTED &&
		shared->front_state != FRONT_STREAMING &&
		shared->front_state != FRONT_CLOSED)
		return false;
	if (shared->rank >= front->segment->shape.rank_count)
		return false;
	return engine_state_read(shared, &state) &&
	       !engine_state_terminal(state);
}

static void adopt_slot(struct front *front, bool *held, uint32_t index)
{
	struct request_slot *shared = segment_slot(front->segment, index);
	struct front_slot *slot = &front->slots[index];
	enum front_state state = FRONT_CLOSED;
	bool known = front_state_read(shared, &state);

	*slot = slot_blank(shared->generation, known ? state : FRONT_CLOSED);
	if (slot->own == FRONT_FREE)
		return;
	front->slot_used++;
	slot->engine_done = !engine_has(front, shared);
	if (!slot->engine_done) {
		slot->zombie = true;
		slot->rank = shared->rank;
		slot->output_max = shared->params.output_max;
		front->ranks[slot->rank].active++;
		front->zombie_count++;
		hold_pages(front, held, shared);
	}
	if (slot->own != FRONT_CLOSED)
		slot_set_state(front, slot, FRONT_CLOSED);
}

/* The free pages, without those that zombies hold. */
static void list_free_pages(struct front *front, const bool *held)
{
	const struct segment_share *own = &front->page_share;

	front->page_free = FRONT_NONE;
	for (uint32_t i = own->first + own->count; i-- > own->first;) {
		if (held[i])
			continue;
		front->page_next[i] = front->page_free;
		front->page_free = i;
	}
	front->page_used = front->zombie_page_count;
}

int front_adopt(struct front *front)
{
	const struct segment_share *own = &front->slot_share;
	bool *held = calloc(front->segment->shape.page_count, sizeof(*held));

	if (!held)
		return -ENOMEM;
	for (uint32_t i = own->first; i < own->first + own->count; i++)
		adopt_slot(front, held, i);
	list_free_pages(front, held);
	free(held);
	front->slot_free = FRONT_NONE;
	for (uint32_t i = own->first + own->count; i-- > own->first;) {
		struct front_slot *slot = &front->slots[i];

		if (slot->own == FRONT_FREE) {
			slot->next = front->slot_free;
			front->slot_free = i;
		} else if (slot->zombie) {
			slot_cancel(front, slot);
		} else {
			slot_try_free(front, slot);
		}
	}
	return 0;
}

void front_zombie_gone(struct front *front)
{
	assert(front->zombie_count > 0);
	if (--front->zombie_count > 0)
		return;
	for (uint32_t i = 0; i < front->zombie_page_count; i++) {
		front->page_next[front->zombie_pages[i]] = FRONT_NONE;
		front_pages_give(front, front->zombie_pages[i]);
	}
	front->zombie_page_count = 0;
}
