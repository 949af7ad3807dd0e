/* clock.h - monotonic time as a type of its own */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     wall clocks jump; durations and instants get mixed when both are
 *          plain integers. An instant is a struct, so it cannot be added to
 *          an integer by accident; a duration is a uint64_t that ends in _ns.
 * Threads: pure functions; mono_now() is a vDSO call, no lock.
 */
#ifndef HEDDLE_BASE_CLOCK_H
#define HEDDLE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

struct mono {
	uint64_t ns; /* since an arbitrary start; 0 = "never" */
};

struct mono mono_now(void);

/* The instant `ns` later; saturates at the end of time. */
struct mono mono_add(struct mono from, uint64_t ns);

/* Nanoseconds from `earlier` to `later`; 0 if the order is reversed. */
uint64_t mono_diff(struct mono later, struct mono earlier);

static inline bool mono_before(struct mono a, struct mono b)
{
	return a.ns < b.ns;
}

#endif
