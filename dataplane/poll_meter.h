/* poll_meter.h - where a loop's time goes (loop -> struct poll_counters) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     both back ends of stream.h are measured alike: turns, stages,
 *          sleeps, how long a call takes to wake the thread, what idleness
 *          costs.
 * Cost:    reading the clock costs as much as a small stage. Where turns are
 *          short only every POLL_METER_SHARE-th is timed, and counts as so
 *          many: an odd number, so that halves of turns take turns.
 * Counters: added to shared memory by poll_meter_write(), ten times a second;
 *          histograms at once. They go on from what an earlier life has left.
 * Ownership: the counters stay the caller's; NULL = nothing is measured.
 * Threads: the loop's; poll_meter_call() any.
 */
#ifndef HEDDLE_DATAPLANE_POLL_METER_H
#define HEDDLE_DATAPLANE_POLL_METER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/counters.h"

#define POLL_METER_SHARE 7
#define POLL_METER_WRITE_NS (100 * NS_PER_MS)

struct poll_meter {
	struct poll_counters *out; /* borrowed; NULL = none */
	/* since the last write */
	uint64_t turns, busy, bursts, stage_ns[POLL_STAGE_COUNT], slept_ns;
	uint64_t written_ns, cpu_ns; /* at the last write; 0 = none yet */
	uint64_t left_ns; /* when the loop was left; 0 = that is not timed */
	uint32_t left_weight;
	uint32_t chance;
	_Atomic uint64_t called_ns; /* 0 = nobody has */
};

void poll_meter_init(struct poll_meter *meter, struct poll_counters *out);

/* Is this one timed? Without counters never. */
static inline bool poll_meter_chosen(struct poll_meter *meter)
{
	return meter->out && ++meter->chance % POLL_METER_SHARE == 0;
}

static inline void poll_meter_add(
	struct poll_meter *meter, enum poll_stage stage, uint64_t ns)
{
	meter->stage_ns[stage] += ns;
}

/*
 * The loop is entered, or left: what lies between is the role's own work. It
 * counts `weight` times.
 */
void poll_meter_enter(struct poll_meter *meter, struct mono now);
void poll_meter_leave(
	struct poll_meter *meter, struct mono now, uint32_t weight);

/* Before a call that ends a sleep. */
void poll_meter_call(struct poll_meter *meter);

/* Slept from..to, and meant to at most until then. */
void poll_meter_slept(struct poll_meter *meter, struct mono from,
	struct mono until, struct mono to);

/* Is it time to write? */
static inline bool poll_meter_due(
	const struct poll_meter *meter, struct mono now)
{
	return meter->out && now.ns - meter->written_ns >= POLL_METER_WRITE_NS;
}

void poll_meter_write(struct poll_meter *meter, struct mono now);

#endif
