/* sched_model.h - how long a step takes (rows, context -> nanoseconds) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: a + b * decode rows + c * prefill tokens + d * context, where the
 *        context of a step is the sum over its rows of the tokens that each
 *        attends to. Calibrated at start, corrected after every step.
 * Correction: an error is laid on the terms in proportion to the squares of
 *        what they had predicted, so a step without prompts teaches nothing
 *        about prompts. Terms stay above 0; one strange step moves them by no
 *        more than a bounded part.
 * Threads: plain data.
 */
#ifndef HEDDLE_ENGINE_SCHED_MODEL_H
#define HEDDLE_ENGINE_SCHED_MODEL_H

#include <stdint.h>

struct sched_model {
	double step_ns, decode_ns, prefill_ns, context_ns; /* a, b, c, d */
};

struct sched_cost {
	uint64_t decode_count, prefill_count, context_count;
};

/* Bring every term to where it can be corrected: finite and above 0. */
void sched_model_clamp(struct sched_model *model);

double sched_model_predict(
	const struct sched_model *model, const struct sched_cost *cost);

void sched_model_correct(struct sched_model *model,
	const struct sched_cost *cost, double measured_ns);

/*
 * Largest number of tokens, up to max, of a job that has `done`, with which a
 * step that costs `cost` already stays within budget_ns.
 */
uint32_t sched_model_fit(const struct sched_model *model,
	const struct sched_cost *cost, uint32_t done, uint32_t max,
	double budget_ns);

/* The context of tokens [first, first + count). */
uint64_t sched_context(uint32_t first, uint32_t count);

#endif
