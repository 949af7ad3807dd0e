/* batch_steps.h - the engine's own account of its steps (log -> gaps) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     between an engine and a client lie a front end, a socket and a
 *          client that must get a core; what the scheduler promises is about
 *          the steps. At debug level each rank writes a line per step.
 * Gap:     every stream that decodes in a step had its last token in the step
 *          before, so a step with n decode rows gives n gaps, each from the
 *          end of the step before to its own end.
 * Ownership: batch_steps_release() frees.
 */
#ifndef HEDDLE_BENCH_BATCH_STEPS_H
#define HEDDLE_BENCH_BATCH_STEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "bench/serve_stats.h"

struct batch_step {
	uint64_t end_ns, predicted_ns, took_ns;
	uint32_t decode_count, prefill_count;
	uint64_t context_count; /* of the decode rows */
};

struct batch_steps {
	struct batch_step *steps; /* owned */
	size_t count, room;
};

/* The steps that the file names from byte *offset on; it moves to the end. */
int batch_steps_read(const char *path, long *offset, struct batch_steps *out,
	struct error *err);
void batch_steps_release(struct batch_steps *steps);

/* A step's line; false: it is another one. */
bool batch_step_parse(const char *line, struct batch_step *out);

enum batch_kind {
	BATCH_STEPS_QUIET, /* no prompt is computed */
	BATCH_STEPS_PROMPTS /* beside a prompt */
};

/* Steps with as many decode rows or more, and contexts of these in a range. */
struct batch_choice {
	enum batch_kind kind;
	uint32_t streams;
	uint64_t context_min, context_max;
};

/*
 * The range of contexts that the steps of this kind have; none is below its
 * least where there was no such step. For others to be compared with at the
 * same lengths: a step takes the longer the further its streams are.
 */
void batch_steps_range(
	const struct batch_steps *steps, struct batch_choice *choice);

/* Gaps of the chosen steps, in seconds; all 0 where there was none. -ENOMEM. */
int batch_steps_gaps(const struct batch_steps *steps,
	const struct batch_choice *choice, struct serve_figures *out);

/* Measured over predicted time of these steps. */
int batch_steps_errors(const struct batch_steps *steps,
	const struct batch_choice *choice, struct serve_figures *out);

#endif
