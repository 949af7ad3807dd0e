/* governor.h - how fast a load may copy while requests run (steps -> waits) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a copy takes memory bandwidth and cores from the steps beside it.
 *        How much of both a machine has is not known, so the copy is given a
 *        share of the time and the share follows what steps then take.
 * Rule:  bytes that take t of the processor to store take t / share by the
 *        clock; of several lanes each has its part of the share. What another
 *        thread took of that time was waited already: where no core is spare
 *        a copy has its share of what it reaches alone, no less.
 *        Steps that take longer than GOVERNOR_SLOW of what was predicted cut
 *        the share by a quarter, others add a little: so little that it stays
 *        where one step in a hundred is slow (RISE / (share / 4)). It is
 *        between GOVERNOR_SHARE_MIN and 1; while nothing runs it is 1.
 * Prediction: the caller's, which must not learn from steps beside a copy.
 * Threads: governor_step() and governor_idle() by the rank's, the others by
 *        any, a lane by its own.
 */
#ifndef HEDDLE_ENGINE_GOVERNOR_H
#define HEDDLE_ENGINE_GOVERNOR_H

#include <stdint.h>

/* In thousandths. A step in a hundred may take 1.2 times what a quiet one
 * does: the share begins to fall just before that. */
#define GOVERNOR_WHOLE 1000u
#define GOVERNOR_SHARE_MIN 300u
#define GOVERNOR_SLOW 1180u
#define GOVERNOR_RISE 1u

struct governor {
	uint32_t share; /* GOVERNOR_SHARE_MIN .. GOVERNOR_WHOLE */
};

/* Nothing runs. */
void governor_idle(struct governor *governor);

/* A step beside the copy took that long. */
void governor_step(
	struct governor *governor, uint64_t took_ns, uint64_t quiet_ns);

/* How long to wait after a stretch of copying that took busy_ns of a core. */
uint64_t governor_wait_ns(const struct governor *governor, uint64_t busy_ns);

/*
 * What one lane of a copy owes: sleeping takes longer than it was asked to, so
 * short waits are gathered, and what was slept too long is given back. Zeroed,
 * then governor_begin().
 */
struct governor_lane {
	uint64_t since_ns; /* when it began to be busy, 0 = it has not */
	uint64_t worked_ns; /* of its thread's processor time then */
	int64_t owed_ns;
};

/*
 * Bytes are about to be stored at now_ns, at worked_ns of the thread's own
 * processor time: how long to sleep first, mostly 0. lanes: so many copy, and
 * have the share between them. Whoever slept calls governor_slept() with how
 * long; the lane is busy from now_ns on.
 */
uint64_t governor_owes(const struct governor *governor,
	struct governor_lane *lane, uint32_t lanes, uint64_t now_ns,
	uint64_t worked_ns);
void governor_slept(
	struct governor_lane *lane, uint64_t slept_ns, uint64_t now_ns);

#endif
