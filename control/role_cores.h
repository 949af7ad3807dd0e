/* role_cores.h - which cores a role keeps to (cores of the node -> a part) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the kernel leaves a thread that wakes up where it slept, even beside
 *        one that computes while another core idles; on a small machine every
 *        token that is sent on then stops the step that makes the next one.
 * Rule:  ranks that compute share the cores out in parts, ascending, where
 *        there is one for each. Of a part whose rank has fewer threads than
 *        cores, the threads float over the first cores and the dataplane has
 *        the others: half of what is spare, and one at least for each loop of
 *        the dataplane, as far as there are so many spare; the loops are
 *        shared out over the parts. A load beside steps keeps to what the
 *        threads do not have, too. Where a rank has a thread for each core,
 *        the dataplane has all but the first of its part: there the rank's own
 *        thread computes what no other takes off it. Its loops float over what
 *        the dataplane has.
 * Limits: CPU_SETSIZE cores.
 */
#ifndef HEDDLE_CONTROL_ROLE_CORES_H
#define HEDDLE_CONTROL_ROLE_CORES_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Ranks that compute, and the threads of each; 0 = one per core. Loops of the
 * dataplane; 0 = one.
 */
struct role_cores {
	uint32_t rank_count, thread_count, loop_count;
};

/* The part of rank `index`; false: there is none of its own. */
bool role_cores_rank(const cpu_set_t *all, const struct role_cores *cores,
	uint32_t index, cpu_set_t *out);

/* The dataplane's; false: nothing would be left for it. */
bool role_cores_front(
	const cpu_set_t *all, const struct role_cores *cores, cpu_set_t *out);

/* Has each loop of the dataplane a core on which no rank's thread computes? */
bool role_cores_apart(const cpu_set_t *all, const struct role_cores *cores);

/* Over how many first cores of a part of `count` a rank's threads float. */
uint32_t role_cores_compute(const struct role_cores *cores, uint32_t count);

#endif
