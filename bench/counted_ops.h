/* counted_ops.h - an operation table that counts what it is asked for */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     what a step's floor is depends on the experts that it touches; and
 *          what the host does by itself is seen when no operation does
 *          anything.
 * Ownership: borrows the inner operations; the outer ones must not outlive it.
 * Threads: as gpu/ops.h.
 */
#ifndef HEDDLE_BENCH_COUNTED_OPS_H
#define HEDDLE_BENCH_COUNTED_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "gpu/ops.h"

struct counted_ops {
	struct ops outer; /* give this to the forward pass */
	struct ops_table table; /* outer's */
	struct ops *inner;
	bool is_idle; /* operations do nothing: what is left is the host's */
	uint64_t expert_count; /* different experts, summed over layers */
};

void counted_ops_init(struct counted_ops *counted, struct ops *inner);

#endif
