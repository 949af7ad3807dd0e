/* timer_wheel.h - many deadlines, few of which come (index, time -> index) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        every connection has a timer and nearly all are moved before
 *             they fire, so setting one must cost the same for 64 and for
 *             100,000 of them.
 * How:        six levels of 64 slots. A slot of level n spans 64^n ticks of
 *             32.768 us; what is in a slot of a higher level moves down when
 *             the time gets there. A bit map per level finds the next slot.
 * Invariants: a timer never fires before its deadline, and at the latest
 *             one tick after it (when the wheel is turned then).
 * Limits:     deadlines further than 26 days away are brought nearer; the
 *             owner compares with its own deadline and sets again.
 * Ownership:  the arrays are the wheel's.
 * Threads:    one.
 */
#ifndef HEDDLE_DATAPLANE_TIMER_WHEEL_H
#define HEDDLE_DATAPLANE_TIMER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define TIMER_WHEEL_NONE UINT32_MAX
#define TIMER_WHEEL_TICK_SHIFT 15 /* 32.768 us */
#define TIMER_WHEEL_LEVEL_COUNT 6
#define TIMER_WHEEL_SLOT_COUNT 64

/* 16 bytes, so that none lies in two cache lines. */
struct timer_wheel_link {
	uint32_t next, previous;
	uint64_t tick : 54; /* 0 = not set */
	uint64_t slot : 10; /* level * 64 + slot */
};

struct timer_wheel {
	struct timer_wheel_link *links; /* owned, [count] */
	uint32_t count;
	uint32_t set_count;
	uint64_t tick; /* every earlier one has been handled */
	/* When a slot has to be emptied next; not known while `stale`. */
	uint64_t soonest;
	bool stale;
	uint64_t due_tick; /* the last one of which something has come */
	uint64_t occupied[TIMER_WHEEL_LEVEL_COUNT];
	uint32_t heads[TIMER_WHEEL_LEVEL_COUNT * TIMER_WHEEL_SLOT_COUNT];
};

/* -ENOMEM. */
int timer_wheel_init(struct timer_wheel *w, uint32_t count, uint64_t now_ns);
void timer_wheel_release(struct timer_wheel *w);

/* Set or move; the past is "at the next turn". */
void timer_wheel_set(struct timer_wheel *w, uint32_t index, uint64_t ns);
void timer_wheel_clear(struct timer_wheel *w, uint32_t index);

/*
 * Take one whose time has come by `now_ns` out of the wheel and return it;
 * TIMER_WHEEL_NONE when there is none left.
 */
uint32_t timer_wheel_expire(struct timer_wheel *w, uint64_t now_ns);

/*
 * When the wheel wants to be turned next, UINT64_MAX = never; no later than
 * the soonest deadline's tick, possibly sooner.
 */
uint64_t timer_wheel_next_ns(const struct timer_wheel *w);

#endif
