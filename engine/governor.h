/* governor.h - how fast a load may copy while requests run (steps -> waits) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a copy takes memory bandwidth and cores from the steps beside it.
 *        How much of both a machine has is not known, so the copy is given a
 *        share of the time and the share follows what steps then take.
 * Rule:  after so many bytes as took t to store, wait t * (1 / share - 1); of
 *        several lanes each has its part of the share.
 *        Steps that take longer than GOVERNOR_SLOW of what was predicted cut
 *        the share by a quarter, others add a little; it stays between
 *        GOVERNOR_SHARE_MIN and 1. While nothing runs it is 1, and when steps
 *        begin it is GOVERNOR_SHARE_MIN.
 * Prediction: the caller's, which must not learn from steps beside a copy.
 * Threads: governor_step(), governor_idle() and governor_busy() by the rank's,
 *        the others by any, a lane by its own.
 */
#ifndef HEDDLE_ENGINE_GOVERNOR_H
#define HEDDLE_ENGINE_GOVERNOR_H

#include <stdint.h>

/* In thousandths. A step may take 1.2 times what a quiet one does: the share
 * begins to fall before that. */
#define GOVERNOR_WHOLE 1000u
#define GOVERNOR_SHARE_MIN 250u
#define GOVERNOR_SLOW 1150u
#define GOVERNOR_RISE 10u

struct governor {
	uint32_t share; /* GOVERNOR_SHARE_MIN .. GOVERNOR_WHOLE */
};

/* Nothing runs. */
void governor_idle(struct governor *governor);

/* Steps begin to run: what they bear is not known yet. */
void governor_busy(struct governor *governor);

/* A step beside the copy took that long. */
void governor_step(
	struct governor *governor, uint64_t took_ns, uint64_t quiet_ns);

/* How long to wait after a stretch of copying that took busy_ns. */
uint64_t governor_wait_ns(const struct governor *governor, uint64_t busy_ns);

/*
 * What one lane of a copy owes: sleeping takes longer than it was asked to, so
 * short waits are gathered, and what was slept too long is given back. Zeroed,
 * then governor_begin().
 */
struct governor_lane {
	uint64_t since_ns; /* when it began to be busy, 0 = it has not */
	int64_t owed_ns;
};

/*
 * Bytes are about to be stored at now_ns: how long to sleep first, mostly 0.
 * lanes: so many copy, and have the share between them. Whoever slept calls
 * governor_slept() with how long; the lane is busy from now_ns on.
 */
uint64_t governor_owes(const struct governor *governor,
	struct governor_lane *lane, uint32_t lanes, uint64_t now_ns);
void governor_slept(
	struct governor_lane *lane, uint64_t slept_ns, uint64_t now_ns);

#endif
