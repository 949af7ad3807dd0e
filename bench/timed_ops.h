/* timed_ops.h - an operation table that knows how long it was inside */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     what a step costs outside its operations is the host's own work;
 *          it is the step's time less the time in here. The table also counts
 *          what a step touched, so that its floor can be computed.
 * Ticks:   the processor's time stamp counter, which runs at one rate on all
 *          cores; a clock read through the kernel costs more than some of the
 *          operations do.
 * Error:   an operation that streams weights leaves this table's own code out
 *          of the caches, and what it takes to come in counts as the host's,
 *          as does the loop's: of some 1000 ns for each operation of a large
 *          step, 30 to 80 lie between the loop's return from one and its call
 *          of the next (seen with stamps in engine/program.c).
 * Ownership: borrows the inner operations; the outer ones must not outlive it.
 * Threads: as gpu/ops.h.
 */
#ifndef HEDDLE_BENCH_TIMED_OPS_H
#define HEDDLE_BENCH_TIMED_OPS_H

#include <stdbool.h>
#include <stdint.h>
#include <x86intrin.h>

#include "gpu/ops.h"

static inline uint64_t timed_ops_ticks(void)
{
	return __rdtsc();
}

struct timed_ops {
	struct ops outer; /* give this to the forward pass */
	struct ops_table table; /* outer's */
	struct ops *inner;
	bool is_idle; /* operations do nothing: what is left is the host's */
	uint64_t inside_ticks;
	uint64_t call_count;
	uint64_t expert_count; /* different experts, summed over layers */
};

void timed_ops_init(struct timed_ops *timed, struct ops *inner);

/* Before each step. */
void timed_ops_clear(struct timed_ops *timed);

#endif
