/* timer_wheel.c - many deadlines, few of which come (index, time -> index) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "dataplane/timer_wheel.h"

#define LEVEL_BITS 6
/* Of the fields of a link; 2^54 ticks are 18,000 years. */
#define TICK_MASK ((UINT64_C(1) << 54) - 1)
#define SLOT_MASK 1023u
#define SPAN_TICKS (UINT64_C(1) << (LEVEL_BITS * TIMER_WHEEL_LEVEL_COUNT))

int timer_wheel_init(struct timer_wheel *w, uint32_t count, uint64_t now_ns)
{
	*w = (struct timer_wheel){.count = count,
		.tick = (now_ns >> TIMER_WHEEL_TICK_SHIFT) + 1,
		.soonest = UINT64_MAX};
	w->links = calloc(count, sizeof(*w->links));
	if (!w->links)
		return -ENOMEM;
	for (uint32_t i = 0; i < sizeof(w->heads) / sizeof(w->heads[0]); i++)
		w->heads[i] = TIMER_WHEEL_NONE;
	return 0;
}

void timer_wheel_release(struct timer_wheel *w)
{
	free(w->links);
	w->links = NULL;
}

static void insert(struct timer_wheel *w, uint32_t index, uint64_t tick)
{
	struct timer_wheel_link *link = &w->links[index];
	uint64_t ahead = tick - w->tick, empty;
	unsigned level = 0, slot;

	while (level < TIMER_WHEEL_LEVEL_COUNT - 1 &&
		ahead >> (LEVEL_BITS * (level + 1)))
		level++;
	slot = (unsigned)(tick >> (LEVEL_BITS * level)) % 64;
	link->tick = tick & TICK_MASK;
	link->slot = (level * 64 + slot) & SLOT_MASK;
	link->previous = TIMER_WHEEL_NONE;
	link->next = w->heads[link->slot];
	if (link->next != TIMER_WHEEL_NONE)
		w->links[link->next].previous = index;
	w->heads[link->slot] = index;
	w->occupied[level] |= UINT64_C(1) << slot;
	empty = tick >> (LEVEL_BITS * level) << (LEVEL_BITS * level);
	if (empty < w->soonest)
		w->soonest = empty;
}

static void take_out(struct timer_wheel *w, uint32_t index)
{
	struct timer_wheel_link *link = &w->links[index];

	if (link->next != TIMER_WHEEL_NONE)
		w->links[link->next].previous = link->previous;
	if (link->previous != TIMER_WHEEL_NONE)
		w->links[link->previous].next = link->next;
	else
		w->heads[link->slot] = link->next;
	if (w->heads[link->slot] == TIMER_WHEEL_NONE) {
		w->occupied[link->slot / 64] &=
			~(UINT64_C(1) << (link->slot % 64));
		w->stale = true;
	}
	link->tick = 0;
}

void timer_wheel_set(struct timer_wheel *w, uint32_t index, uint64_t ns)
{
	/* Rounded up: never early. */
	uint64_t tick = (ns >> TIMER_WHEEL_TICK_SHIFT) + 1;

	assert(index < w->count);
	timer_wheel_clear(w, index);
	if (tick < w->tick)
		tick = w->tick;
	if (tick - w->tick >= SPAN_TICKS)
		tick = w->tick + SPAN_TICKS - 1;
	insert(w, index, tick);
	w->set_count++;
}

void timer_wheel_clear(struct timer_wheel *w, uint32_t index)
{
	assert(index < w->count);
	if (w->links[index].tick == 0)
		return;
	take_out(w, index);
	w->set_count--;
}

/* Slots ahead of `at` until one that is occupied; 64 = none. */
static unsigned ahead_of(uint64_t occupied, unsigned at)
{
	uint64_t turned =
		at ? occupied >> at | occupied << (64 - at) : occupied;

	return turned ? (unsigned)__builtin_ctzll(turned) : 64;
}

/*
 * The next tick at which a slot of `level` has to be emptied. The slot that
 * the time stands in is, for higher levels, a whole turn away: what was in it
 * has moved down when the time entered it.
 */
static uint64_t next_tick(const struct timer_wheel *w, unsigned level)
{
	unsigned shift = LEVEL_BITS * level, ahead;
	uint64_t base = w->tick >> shift;
	bool entered = (w->tick & ((UINT64_C(1) << shift) - 1)) != 0;

	if (entered)
		base++;
	ahead = ahead_of(w->occupied[level], (unsigned)(base % 64));
	return ahead == 64 ? UINT64_MAX : (base + ahead) << shift;
}

static uint64_t soonest_tick(const struct timer_wheel *w, unsigned *out_level)
{
	uint64_t soonest = UINT64_MAX;

	/* From above: what moves down may be due at the same tick. */
	for (unsigned level = TIMER_WHEEL_LEVEL_COUNT; level-- > 0;) {
		uint64_t tick = next_tick(w, level);

		if (tick < soonest) {
			soonest = tick;
			*out_level = level;
		}
	}
	return soonest;
}

/* Move what is in the slot of `level` at w->tick down. */
static void cascade(struct timer_wheel *w, unsigned level)
{
	unsigned slot = (unsigned)(w->tick >> (LEVEL_BITS * level)) % 64;
	uint32_t index = w->heads[level * 64 + slot];

	w->heads[level * 64 + slot] = TIMER_WHEEL_NONE;
	w->occupied[level] &= ~(UINT64_C(1) << slot);
	while (index != TIMER_WHEEL_NONE) {
		uint32_t next = w->links[index].next;

		insert(w, index, w->links[index].tick);
		index = next;
	}
}

/* One of the slot that the time stands in. */
static uint32_t take_due(struct timer_wheel *w)
{
	uint32_t index = w->heads[w->tick % 64];

	assert(index != TIMER_WHEEL_NONE);
	w->due_tick = w->tick;
	take_out(w, index);
	w->set_count--;
	return index;
}

uint32_t timer_wheel_expire(struct timer_wheel *w, uint64_t now_ns)
{
	uint64_t until = now_ns >> TIMER_WHEEL_TICK_SHIFT;
	unsigned level = 0;

	/* More of the last one's tick, mostly. */
	if (w->tick == w->due_tick && w->tick <= until &&
		w->heads[w->tick % 64] != TIMER_WHEEL_NONE)
		return take_due(w);
	while (w->stale || w->soonest <= until) {
		w->soonest = soonest_tick(w, &level);
		w->stale = false;
		if (w->soonest > until)
			break;
		w->tick = w->soonest;
		if (level == 0)
			return take_due(w);
		cascade(w, level);
	}
	if (w->tick <= until)
		w->tick = until + 1;
	return TIMER_WHEEL_NONE;
}

uint64_t timer_wheel_next_ns(const struct timer_wheel *w)
{
	unsigned level = 0;
	uint64_t tick = w->stale ? soonest_tick(w, &level) : w->soonest;

	return tick == UINT64_MAX ? UINT64_MAX : tick << TIMER_WHEEL_TICK_SHIFT;
}
