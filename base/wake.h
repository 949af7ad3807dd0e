/* wake.h - sleep until another role has work for you (role -> role) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a role that has nothing to do should cost nothing, and one that gets
 *        work should start within microseconds. A futex word in shared memory
 *        does both: posting to a role that is awake is one atomic add and one
 *        load, no system call.
 * Use:   the sleeper, when its rings are empty:
 *                seen = wake_arm(wake);
 *                if (nothing in any ring)
 *                        wake_wait(wake, seen, until);
 *                wake_disarm(wake);
 *        the other side, once after a burst of pushes: wake_post(wake).
 *        Either the sleeper sees what was pushed, or its word has changed and
 *        it does not sleep.
 * Trust: the word is a hint. A process gone wrong can wake a role too often
 *        or never; the sleeper's `until` bounds the latter.
 * Bell:  a role that also waits for sockets cannot wait for the word. It waits
 *        for an eventfd, its bell, and others call wake_ring() with theirs of
 *        it; arming and disarming are the same.
 * Threads: one sleeps (wake_arm to wake_disarm), any number post.
 */
#ifndef HEDDLE_BASE_WAKE_H
#define HEDDLE_BASE_WAKE_H

#include <stdint.h>

#include "base/clock.h"
#include "base/limits.h"

struct wake {
	_Alignas(CACHE_LINE_BYTES) uint32_t word; /* grows with each post */
	uint32_t asleep; /* the sleeper's mark: it is about to wait */
};

/* Say that a wait may follow; returns the word to wait on. */
uint32_t wake_arm(struct wake *wake);

/* Sleep while the word is `seen`, at most until `until`; may wake early. */
void wake_wait(struct wake *wake, uint32_t seen, struct mono until);

void wake_disarm(struct wake *wake);

/* There is something to do. Async-signal-safe. */
void wake_post(struct wake *wake);

/* The same to a role that sleeps on its bell, an eventfd; -1: wake_post(). */
void wake_ring(struct wake *wake, int bell_fd);

#endif
