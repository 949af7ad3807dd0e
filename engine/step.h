/* step.h - what one step of the engine is (scheduler -> forward -> sampling) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the scheduler decides what runs, the forward pass only runs it. A
 *        step is plain arrays at fixed addresses, so the next one can be
 *        prepared while this one runs, and a captured graph can replay it.
 *
 * Rows:  a step has row_count rows: first the decode rows (one token of a
 *        sequence each), then prefill chunks, each a stretch of consecutive
 *        positions of one sequence. The order of rows never changes a
 *        result. Row r computes token[r] at position[r] of the sequence whose
 *        block table is row sequence[r], under adapter instance[r].
 *
 * Samples: sample_count rows need a next token: sample_row[s] is the row,
 *        sample[s] how to draw. Prefill rows that are not a chunk's last one,
 *        or whose prompt goes on, have none. A score-only run (log
 *        probabilities of given tokens) asks for every row.
 *
 * Epoch: the step runs under `epoch`: expert map rows and block tables that
 *        it names stay as they are until its fence. Whoever changes what
 *        is served waits for that fence before pages move.
 *
 * Invariants (step_check): counts within the capacity; every id below the
 *        vocabulary; positions of a sequence's rows consecutive and
 *        ascending; block tables long enough for the last position;
 *        instance rows published; a sequence appears once.
 *
 * Ownership: struct step owns its arrays from init to release; the scheduler
 *        fills, the backend reads until the fence.
 * Threads: one filler, then one runner; handed over, never shared.
 */
#ifndef HEDDLE_ENGINE_STEP_H
#define HEDDLE_ENGINE_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "gpu/ops.h"

struct step_capacity {
	uint32_t row_count;
	uint32_t sequence_count;
	uint32_t sample_count;
	uint32_t table_stride; /* pages of the longest block table */
};

struct step {
	struct step_capacity capacity;
	uint64_t epoch;
	uint32_t rank;

	uint32_t row_count;
	uint32_t *token; /* [row_count] */
	uint32_t *position; /* [row_count] */
	uint32_t *sequence; /* [row_count] row of block_table */
	uint32_t *instance; /* [row_count] row of the expert map, 0 = base */
	uint32_t *lora; /* [row_count] LORA_NONE = none */
	bool has_lora; /* some row has one */

	uint32_t sequence_count;
	uint32_t *block_table; /* [sequence_count][table_stride] pages */
	uint32_t *page_count; /* [sequence_count] of those that are meant */
	uint32_t page_count_max; /* of a sequence of this step */

	uint32_t sample_count;
	uint32_t *sample_row; /* [sample_count] index of a row */
	struct sample_params *sample; /* [sample_count] */
	struct sample_result *result; /* [sample_count], written by the run */
};

/* Allocate for the capacity; -ENOMEM leaves a zeroed struct. */
int step_init(struct step *step, const struct step_capacity *capacity);
void step_release(struct step *step); /* a zeroed struct is allowed */

/* Empty it for the next filling. */
void step_clear(struct step *step, uint64_t epoch, uint32_t rank);

/*
 * Append a row; returns its index. The capacity is the scheduler's to
 * respect (asserted).
 */
uint32_t step_add_row(struct step *step, uint32_t token, uint32_t position,
	uint32_t sequence, uint32_t instance);

/*
 * Append a sequence whose block table is `pages` (page_count <= stride);
 * returns its row of the block table.
 */
uint32_t step_add_sequence(
	struct step *step, const uint32_t *pages, uint32_t page_count);

/* Ask for a token after row `row`; returns the sample's index. */
uint32_t step_add_sample(
	struct step *step, uint32_t row, const struct sample_params *params);

/* What step_check() needs to know of the model and the store. */
struct step_bounds {
	uint32_t vocab;
	uint32_t position_count;
	uint32_t instance_count; /* rows of the expert map */
	const uint8_t *published; /* [instance_count] 1 = rows may name it */
	uint32_t page_count;
	uint32_t block_tokens, pages_per_block;
};

/*
 * Verify all invariants above: a step comes from shared memory's contents in
 * the end, so this is an error, not an assert: -EINVAL names row and field.
 */
int step_check(const struct step *step, const struct step_bounds *bounds,
	struct error *err);

#endif
