/* sample_ref.c - choosing the next token (logits, parameters -> token) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The definition that other back ends follow:
 *
 *   l[v]   the logits after bias, mask (-inf), repetition, presence and
 *          frequency penalty, each rounded to float, in this order.
 *   order  of tokens: larger l first, ties to the lower id. Every filter
 *          keeps a beginning of it, which always holds the first token. A
 *          token with l = -inf is never in it.
 *   z[v] = (l[v] - max l) / temperature, in double: at most 0, and finite
 *          for any finite logits and any temperature > 0 that a float holds.
 *   e[v] = exp(z[v]); the first token has 1.
 *   top-k  keeps the first k.
 *   top-p  S = sum of e over what top-k kept, ascending v; keeps the first
 *          tokens until their e, added in order, reach top_p * S.
 *   min-p  keeps e[v] >= min_p.
 *   draw   argmax over the kept v of z[v] + g[v], ties to the lower id: a
 *          draw from softmax(z) (Gumbel, 1954: the Gumbel-max trick), which
 *          needs no sum and no order, so that a cut token changes nothing
 *          for the others. g[v] = -log(-log(u)), u = philox_uniform(words 0
 *          and 1, the low word first) of Philox4x32-10 with key = seed, low
 *          word first, and counter = (v, position, choice, SAMPLE_STREAM).
 *
 *   logprob[v] = logits[v] - (M + log(sum over ascending v of
 *          exp(logits[v] - M))), M = max logits, in double, then rounded.
 *          Alternatives: larger logit first, ties to the lower id; those of
 *          probability zero (-inf) are left out.
 *
 * No token (UINT32_MAX, logprob 0, no alternatives): a logit is NaN or +inf,
 * before or after the changes, or no token is left with l > -inf.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/sample_rule.h"

#define TOKEN_NONE UINT32_MAX

/* One row's choice on its way. */
struct draw {
	const struct sample_params *params;
	uint32_t vocab;
	float *logit; /* [vocab] l; -inf = out */
	struct token_heap heap; /* of the tokens with l > -inf */
	uint32_t best; /* the first in order */
	uint32_t edge; /* the last one kept; TOKEN_NONE = all are */
};

static bool is_kept(const struct draw *draw, uint32_t token)
{
	if (draw->logit[token] == -INFINITY)
		return false;
	return draw->edge == TOKEN_NONE ||
	       !token_before(draw->logit, draw->edge, token);
}

static double scaled(const struct draw *draw, uint32_t token)
{
	double best = (double)draw->logit[draw->best];

	return ((double)draw->logit[token] - best) /
	       (double)draw->params->temperature;
}

static void change_logits(struct draw *draw, const float *logits)
{
	const struct sample_params *params = draw->params;
	const uint32_t *mask = params->mask;

	memcpy(draw->logit, logits, draw->vocab * sizeof(*logits));
	for (uint32_t i = 0; i < params->bias_count; i++) {
		assert(params->biases[i].token < draw->vocab);
		draw->logit[params->biases[i].token] += params->biases[i].bias;
	}
	for (uint32_t v = 0; mask && v < draw->vocab; v++)
		if (!(mask[v / 32] >> (v % 32) & 1u))
			draw->logit[v] = -INFINITY;
	for (uint32_t i = 0; i < params->use_count; i++) {
		const struct token_use *use = &params->uses[i];

		assert(use->token < draw->vocab);
		sample_penalise(params, use, &draw->logit[use->token]);
	}
}

/* List the tokens and find the first; false: there is nothing to draw. */
static bool collect(struct draw *draw)
{
	draw->heap.count = 0;
	draw->best = TOKEN_NONE;
	draw->edge = TOKEN_NONE;
	for (uint32_t v = 0; v < draw->vocab; v++) {
		float logit = draw->logit[v];

		if (isnan(logit) || logit == INFINITY)
			return false;
		if (logit == -INFINITY)
			continue;
		draw->heap.tokens[draw->heap.count++] = v;
		if (draw->best == TOKEN_NONE || logit > draw->logit[draw->best])
			draw->best = v;
	}
	return draw->heap.count > 0;
}

static void cut_top_p(struct draw *draw, uint32_t keep)
{
	double total = 0, sum = 0;

	for (uint32_t v = 0; v < draw->vocab; v++)
		if (is_kept(draw, v))
			total += exp(scaled(draw, v));
	for (uint32_t rank = 0; rank < keep; rank++) {
		uint32_t token = token_heap_ranked(&draw->heap, rank);

		sum += exp(scaled(draw, token));
		if (sum >= (double)draw->params->top_p * total) {
			draw->edge = token;
			return;
		}
	}
}

/* Move the edge to where top-k and top-p put it. */
static void cut(struct draw *draw)
{
	const struct sample_params *params = draw->params;
	uint32_t keep = draw->heap.count;

	if (params->top_k > 0 && params->top_k < keep)
		keep = params->top_k;
	if (keep == draw->heap.count && params->top_p >= 1)
		return;
	token_heap_build(&draw->heap);
	if (keep < draw->heap.count)
		draw->edge = token_heap_ranked(&draw->heap, keep - 1);
	if (params->top_p < 1)
		cut_top_p(draw, keep);
}

static double gumbel(const struct sample_params *params, uint32_t token)
{
	return -log(-log(philox_uniform(sample_random(params, token))));
}

static uint32_t draw_token(const struct draw *draw)
{
	double min_p = (double)draw->params->min_p;
	uint32_t winner = TOKEN_NONE;
	double winner_value = -INFINITY;

	for (uint32_t v = 0; v < draw->vocab; v++) {
		double z, value;

		if (!is_kept(draw, v))
			continue;
		z = scaled(draw, v);
		/* No g can lift it above the winner: the same result. */
		if (z + GUMBEL_MAX < winner_value)
			continue;
		if (min_p > 0 && exp(z) < min_p)
			continue;
		value = z + gumbel(draw->params, v);
		if (value > winner_value) {
			winner_value = value;
			winner = v;
		}
	}
	return winner;
}

/*
 * log of the sum of exp(logits). NaN where the logits are no distribution: a
 * NaN among them stays one, and so does the largest minus itself if it is
 * infinite.
 */
static double log_sum(const float *logits, uint32_t vocab)
{
	float best = -INFINITY;
	double sum = 0;

	for (uint32_t v = 0; v < vocab; v++)
		if (logits[v] > best)
			best = logits[v];
	for (uint32_t v = 0; v < vocab; v++)
		sum += exp((double)logits[v] - (double)best);
	assert(!(sum < 1)); /* the largest adds exp(0) */
	return (double)best + log(sum);
}

/* The best `count` of the model's own logits, by insertion. */
static void list_top(const float *logits, uint32_t vocab, uint32_t count,
	struct sample_result *out)
{
	uint32_t *top = out->top_token;
	uint32_t held = 0;

	for (uint32_t v = 0; count > 0 && v < vocab; v++) {
		uint32_t at = held;

		if (logits[v] == -INFINITY)
			continue;
		if (held == count && !(logits[v] > logits[top[held - 1]]))
			continue;
		if (held < count)
			held++;
		else
			at--;
		for (; at > 0 && logits[v] > logits[top[at - 1]]; at--)
			top[at] = top[at - 1];
		top[at] = v;
	}
	out->top_count = held;
}

static void sample_row(
	struct draw *draw, const float *logits, struct sample_result *out)
{
	const struct sample_params *params = draw->params;
	double total = log_sum(logits, draw->vocab);

	sample_check(params);
	memset(out, 0, sizeof(*out));
	out->token = TOKEN_NONE;
	change_logits(draw, logits);
	if (isnan(total) || !collect(draw))
		return;
	out->token = draw->best;
	if (params->temperature > 0) {
		cut(draw);
		out->token = draw_token(draw);
	}
	out->logprob = (float)((double)logits[out->token] - total);
	list_top(logits, draw->vocab, params->top_count, out);
	for (uint32_t i = 0; i < out->top_count; i++)
		out->top_logprob[i] =
			(float)((double)logits[out->top_token[i]] - total);
}

struct sample_job {
	struct ref_backend *ref;
	const struct sample_args *args;
};

static void sample_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct sample_job *job = arg;
	const struct sample_args *args = job->args;
	size_t vocab = args->vocab;
	struct draw draw = {.vocab = args->vocab};

	draw.logit = ref_scratch(job->ref, worker,
		vocab * (sizeof(*draw.logit) + sizeof(*draw.heap.tokens)));
	draw.heap.logit = draw.logit;
	draw.heap.tokens = (void *)(draw.logit + vocab);
	for (size_t row = first; row < end; row++) {
		draw.params = &args->params[row];
		sample_row(&draw, args->logits + row * vocab, &args->out[row]);
	}
}

int ref_sample(struct ops *ops, const struct sample_args *args)
{
	struct sample_job job = {ref_of(ops), args};

	assert(args->vocab > 0);
	workers_run(job.ref->workers, args->count, sample_rows, &job);
	return 0;
}
