/* sched_model.h - how long a step takes (rows, context -> nanoseconds) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: a + b * decode rows + c * prompt tokens + d * context of the decode
 *        rows + e * context of the prompt tokens, where the context of rows is
 *        the sum over them of the tokens that each attends to. Rows of a
 *        prompt share what they read of it, so theirs costs less.
 *        Calibrated at start, corrected after every step.
 * Correction: steps without prompts correct a, b and d; what a step with
 *        prompts takes beyond these corrects c and e. Else the part that sets
 *        the budget would grow with what the budget admits. An error is laid on
 *        the terms in proportion to the squares of what they had predicted.
 *        Terms stay above 0; one strange step moves them by no more than a
 *        bounded part.
 * Margin: however good the model, some steps take longer: others had the
 *        processor. What the last SCHED_MARGIN_STEPS took of what was predicted
 *        says how much room a plan has to leave for all but one in a hundred to
 *        stay within what was promised.
 * Threads: plain data.
 */
#ifndef HEDDLE_ENGINE_SCHED_MODEL_H
#define HEDDLE_ENGINE_SCHED_MODEL_H

#include <stdint.h>

struct sched_model {
	double step_ns, decode_ns, prefill_ns; /* a, b, c */
	double context_ns, prefill_context_ns; /* d, e */
};

struct sched_cost {
	uint64_t decode_count, prefill_count;
	uint64_t context_count, prefill_context_count;
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

#define SCHED_MARGIN_STEPS 256u
/* A longer step cannot be helped by shorter plans: something else is wrong. */
#define SCHED_MARGIN_MAX 1.5

struct sched_margin {
	float shares[SCHED_MARGIN_STEPS]; /* measured over predicted */
	uint32_t count, next;
};

/* A step has run. */
void sched_margin_note(struct sched_margin *margin, double share);

/* Second largest of the last shares; 1 .. SCHED_MARGIN_MAX. */
double sched_margin_of(const struct sched_margin *margin);

/* The context of tokens [first, first + count). */
uint64_t sched_context(uint32_t first, uint32_t count);

#endif
