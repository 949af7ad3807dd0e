/* sched_model.c - how long a step takes (rows, context -> nanoseconds) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdbool.h>

#include "engine/sched_model.h"

#define TERM_NS_MIN 1e-3
#define TERM_NS_MAX 1e12
/* Part of an error that one step corrects. */
#define RATE 0.2
/* A measured time counts at most as this many times the predicted one. */
#define OUTLIER 1.5
/* Terms of steps without prompts come first, then those of prompts. */
#define TERM_COUNT 5
#define DECODE_TERM_COUNT 3

static void terms(const struct sched_model *model,
	const struct sched_cost *cost, double out[TERM_COUNT])
{
	out[0] = model->step_ns;
	out[1] = model->decode_ns * (double)cost->decode_count;
	out[2] = model->context_ns * (double)cost->context_count;
	out[3] = model->prefill_ns * (double)cost->prefill_count;
	out[4] =
		model->prefill_context_ns * (double)cost->prefill_context_count;
}

static double clamped(double value)
{
	if (!(value > TERM_NS_MIN))
		return TERM_NS_MIN;
	return value < TERM_NS_MAX ? value : TERM_NS_MAX;
}

void sched_model_clamp(struct sched_model *model)
{
	model->step_ns = clamped(model->step_ns);
	model->decode_ns = clamped(model->decode_ns);
	model->prefill_ns = clamped(model->prefill_ns);
	model->context_ns = clamped(model->context_ns);
	model->prefill_context_ns = clamped(model->prefill_context_ns);
}

double sched_model_predict(
	const struct sched_model *model, const struct sched_cost *cost)
{
	double term[TERM_COUNT];

	terms(model, cost, term);
	return term[0] + term[1] + term[2] + term[3] + term[4];
}

void sched_model_correct(struct sched_model *model,
	const struct sched_cost *cost, double measured_ns)
{
	double *const weight[TERM_COUNT] = {&model->step_ns, &model->decode_ns,
		&model->context_ns, &model->prefill_ns,
		&model->prefill_context_ns};
	double term[TERM_COUNT], sum = 0, squares = 0, error;
	bool prompts = cost->prefill_count > 0;
	int from = prompts ? DECODE_TERM_COUNT : 0;
	int to = prompts ? TERM_COUNT : DECODE_TERM_COUNT;

	terms(model, cost, term);
	for (int i = 0; i < from; i++)
		measured_ns -= term[i];
	for (int i = from; i < to; i++) {
		sum += term[i];
		squares += term[i] * term[i];
	}
	measured_ns = fmin(fmax(measured_ns, sum / OUTLIER), sum * OUTLIER);
	error = measured_ns - sum;
	/* term += RATE * error * term^2 / squares, by way of its weight. */
	for (int i = from; i < to; i++)
		*weight[i] *= 1 + RATE * error * term[i] / squares;
	sched_model_clamp(model);
}

void sched_margin_note(struct sched_margin *margin, double share)
{
	margin->shares[margin->next] = (float)fmin(share, SCHED_MARGIN_MAX);
	margin->next = (margin->next + 1) % SCHED_MARGIN_STEPS;
	if (margin->count < SCHED_MARGIN_STEPS)
		margin->count++;
}

double sched_margin_of(const struct sched_margin *margin)
{
	float first = 1, second = 1;

	for (uint32_t i = 0; i < margin->count; i++) {
		float share = margin->shares[i];

		if (share > first) {
			second = first;
			first = share;
		} else if (share > second) {
			second = share;
		}
	}
	return (double)second;
}

uint64_t sched_context(uint32_t first, uint32_t count)
{
	uint64_t n = count;

	return n * first + n * (n + 1) / 2;
}

uint32_t sched_model_fit(const struct sched_model *model,
	const struct sched_cost *cost, uint32_t done, uint32_t max,
	double budget_ns)
{
	double left = budget_ns - sched_model_predict(model, cost);
	uint32_t low = 0, high = max;

	/* The cost grows with the count: the last one that fits. */
	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;
		double more = model->prefill_ns * middle +
			      model->prefill_context_ns *
				      (double)sched_context(done, middle);

		if (more <= left)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}
