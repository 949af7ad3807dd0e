/* program.h - a step as a list of operations (forward pass -> back end) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   between two operations of a large step the host's own code and data
 *        have left the processor's caches, so whatever the forward pass does
 *        there costs a memory access after the other. So it says all of its
 *        operations before the first one runs, to a table that only writes
 *        them down, side by side; to run them is a short loop. A step of the
 *        same shape runs the list again as it is.
 * Chains: operations that go row by row and follow each other become one
 *        (struct chain_args), if the back end has that: fewer passes over the
 *        threads. Their rows must be the program's, or a multiple that counts
 *        row by row.
 * Invariants: what runs is what was said, in that order, with arguments as
 *        they were then; arrays that arguments point to are as they are when
 *        it runs.
 * Ownership: the program owns the list; it borrows the back end.
 * Threads: one.
 * Limits: the room is fixed at create, and asserted.
 */
#ifndef HEDDLE_ENGINE_PROGRAM_H
#define HEDDLE_ENGINE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "gpu/ops.h"

struct program; /* private */

/* Room for a layer of any family. */
#define PROGRAM_LAYER_BYTES ((size_t)8192)

/* -ENOMEM. inner outlives the program. */
int program_create(struct ops *inner, size_t room_bytes, struct program **out);
void program_destroy(struct program *program); /* NULL is allowed */

/* Forget the list; the next one is of a step of `row_count` rows. */
void program_clear(struct program *program, uint32_t row_count);

/* Operations called here are added to the list; they return 0. */
struct ops *program_ops(struct program *program);

/*
 * Where the time of runs went, in ticks (base/ticks.h): in the back end's
 * functions, their code coming back into the caches included; all else is the
 * host's. Nothing is written between two operations, so that to measure
 * changes nothing but for some 20 ns each, which count as the host's.
 */
struct program_times {
	uint64_t inside_ticks;
	uint32_t call_count;
};

/* Run the list; the first error ends it. times is added to; NULL = none. */
int program_run(const struct program *program, struct program_times *times);

#endif
