/* lane_cores.h - where the lanes of a load run (cores of a rank -> a part) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   threads that compute keep to the first cores of a rank where there
 *        are more (compute_core_count of engine/serve.h). Beside steps a load
 *        keeps to the others, so that it takes no time from a step; while
 *        nothing runs it has them all.
 * Invariants: a lane is told once for each change; without a core to spare both
 *        parts are all cores.
 * Threads: lane_cores_init() before there are any; lane_cores_keep() by a lane
 *        about itself.
 */
#ifndef HEDDLE_ENGINE_LANE_CORES_H
#define HEDDLE_ENGINE_LANE_CORES_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

struct lane_cores {
	cpu_set_t all, beside; /* empty: nothing is known, nothing is done */
};

/* What a lane was told last; zeroed = nothing. */
enum lane_place { LANE_ANYWHERE, LANE_ALL, LANE_BESIDE };

/* The first `count` of the set's cores, or the others. */
void cores_split(const cpu_set_t *all, uint32_t count, cpu_set_t *first,
	cpu_set_t *rest);

/*
 * Of the cores that the caller may use; its first compute_count are those
 * of the threads that compute, 0 = they have all.
 */
void lane_cores_init(struct lane_cores *cores, uint32_t compute_count);

/* How many cores a load has while nothing runs, where `threads` compute. */
uint32_t lane_cores_count(const struct lane_cores *cores, uint32_t threads);

/* The calling lane, while steps run beside it or while none does. */
void lane_cores_keep(
	const struct lane_cores *cores, bool beside, enum lane_place *place);

#endif
