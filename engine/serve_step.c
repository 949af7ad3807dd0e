/* serve_step.c - one step (plan -> rows, samples -> log and messages) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>

#include "base/log.h"
#include "engine/serve_private.h"

/* A step that takes so much longer than predicted is worth a line ... */
#define SLOW_FACTOR 10
#define SLOW_NS NS_PER_S
/* ... but no more than one in this time. */
#define SLOW_WARN_NS (10 * NS_PER_S)

static struct lane *lane_of_part(
	struct serve *serve, const struct sched_part *part)
{
	uint32_t number = serve->lane_of[part->job];

	assert(number < serve->options.sequence_count);
	return &serve->lanes[number];
}

/* --- plan -> rows ----------------------------------------------------------------- */

static int fill_part(
	struct serve *serve, struct step *step, const struct sched_part *part)
{
	const struct lane *lane = lane_of_part(serve, part);
	uint32_t per_block = kv_store_layout(serve->model->kv)->pages_per_block;
	uint32_t sequence = step_add_sequence(
		step, lane->pages, lane->chain.block_count * per_block);
	uint32_t row = 0;

	for (uint32_t i = part->first; i < part->first + part->count; i++)
		row = step_add_row(
			step, lane->tokens[i], i, sequence, lane->row);
	if (part->sample) {
		struct sample_params params =
			lane_params(serve, lane, lane->count);

		step_add_sample(step, row, &params);
	}
	return kv_cache_prepare(
		serve->cache, &lane->chain, part->first, part->count);
}

int serve_begin(struct serve *serve, struct error *err)
{
	const struct sched_plan *plan = sched_plan(serve->sched);
	struct step *step = &serve->steps[serve->step_next];
	int rc = 0;

	if (plan->part_count == 0)
		return 0;
	step_clear(step, 0, serve->rank.config.rank);
	for (uint32_t i = 0; rc == 0 && i < plan->part_count; i++)
		rc = fill_part(serve, step, &plan->parts[i]);
	if (rc)
		return error_set(err, -rc, "rank %u: clearing blocks failed",
			serve->rank.config.rank);
	serve->plan = plan;
	serve->in_flight = true;
	compute_begin(serve->compute, step);
	serve->step_next ^= 1;
	return 0;
}

/* --- samples -> tokens -------------------------------------------------------------- */

static enum finish_reason reason_of(
	const struct serve *serve, const struct lane *lane, uint32_t token)
{
	const struct rank_request *r = &serve->rank.requests[lane->slot];

	if (rank_is_stop(&serve->rank, r, token))
		return FINISH_STOP_TOKEN;
	return lane->count == r->params.prompt_count + r->params.output_max
		       ? FINISH_LENGTH
		       : FINISH_NONE;
}

/* The lane's sample; one that ends anyway gets no token more. */
static void take_sample(struct serve *serve, struct lane *lane,
	const struct sample_result *result)
{
	struct outcome *outcome = &serve->outcomes[serve->outcome_count];
	uint32_t slot = lane->slot;

	if (lane->ends)
		return;
	*outcome = (struct outcome){.slot = slot,
		.token = result->token,
		.reason = FINISH_NO_TOKEN,
		.result = result};
	if (result->token < serve->model->config.vocab) {
		lane_add(serve, lane, result->token);
		outcome->reason = reason_of(serve, lane, result->token);
	}
	serve->outcome_count++;
	if (outcome->reason == FINISH_NONE)
		sched_token(serve->sched, slot);
	else
		sched_remove(serve->sched, slot);
}

static void take_parts(struct serve *serve, const struct step *step)
{
	const struct sched_plan *plan = serve->plan;
	uint32_t sample = 0;

	for (uint32_t i = 0; i < plan->part_count; i++) {
		const struct sched_part *part = &plan->parts[i];
		struct lane *lane = lane_of_part(serve, part);

		kv_cache_commit(serve->cache, &lane->chain, lane->tokens,
			part->first + part->count, lane->prompt_count);
		if (part->sample)
			take_sample(serve, lane, &step->result[sample++]);
	}
	assert(sample == step->sample_count);
}

static void note_step(struct serve *serve, uint64_t took_ns)
{
	const struct sched_plan *plan = serve->plan;
	struct engine_counters *counters = serve->rank.counters;

	histogram_add(&counters->step, took_ns);
	counter_add(&counters->rows_total, plan->row_count);
	counter_add(&counters->prompt_tokens_total, plan->cost.prefill_count);
	rank_progress(&serve->rank);
	log_debug("rank %u: step: %u decode rows, %u prompt tokens, context "
		  "%llu and %llu; %llu ns expected, %llu taken, end %llu",
		serve->rank.config.rank, plan->decode_count,
		(uint32_t)plan->cost.prefill_count,
		(unsigned long long)plan->cost.context_count,
		(unsigned long long)plan->cost.prefill_context_count,
		(unsigned long long)plan->predicted_ns,
		(unsigned long long)took_ns, (unsigned long long)serve->now.ns);
	if (took_ns < SLOW_NS || took_ns / SLOW_FACTOR < plan->predicted_ns ||
		serve->now.ns - serve->warned_ns < SLOW_WARN_NS)
		return;
	serve->warned_ns = serve->now.ns;
	log_warnx("rank %u: a step of %u rows took %.1f s, %.3f s were "
		  "expected",
		serve->rank.config.rank, plan->row_count,
		(double)took_ns / (double)NS_PER_S,
		(double)plan->predicted_ns / (double)NS_PER_S);
}

int serve_collect(struct serve *serve, struct error *err)
{
	const struct step *step = &serve->steps[serve->step_next ^ 1];
	uint64_t took_ns;
	int rc = compute_end(serve->compute, &took_ns, err);

	serve->in_flight = false;
	if (rc)
		return rc;
	/* What a copy costs is the governor's to see, not the model's. */
	sched_ran(serve->sched,
		serve_adapters_beside(serve, took_ns, serve->plan->predicted_ns)
			? 0
			: took_ns);
	note_step(serve, took_ns);
	assert(serve->outcome_count == 0);
	take_parts(serve, step);
	return 0;
}

/* --- tokens -> dataplane --------------------------------------------------------------- */

/* As many as were asked for; a small vocabulary's missing ones are no token. */
static void make_top(const struct sample_result *result, uint32_t count,
	struct token_record *out)
{
	for (uint32_t i = 0; i < count; i++)
		if (i < result->top_count)
			out[i] = (struct token_record){
				result->top_token[i], result->top_logprob[i]};
		else
			out[i] = (struct token_record){0, -INFINITY};
}

static bool append(struct serve *serve, const struct outcome *outcome)
{
	const struct rank_request *r = &serve->rank.requests[outcome->slot];
	struct token_record top[LOGPROB_TOP_MAX];
	struct token_record record = {.token_flags = outcome->token};

	if (outcome->reason != FINISH_NONE)
		record.token_flags |= TOKEN_FLAG_LAST;
	if (r->params.want_logprob)
		record.logprob = outcome->result->logprob;
	make_top(outcome->result, rank_top_count(r), top);
	return rank_append(
		&serve->rank, outcome->slot, record, top, serve->now);
}

bool serve_tell(struct serve *serve, struct outcome *outcome)
{
	enum finish_reason reason = outcome->reason;
	uint32_t slot = outcome->slot;
	bool good = true;

	if (slot == SLOT_NONE)
		return true;
	if (reason != FINISH_NO_TOKEN)
		good = append(serve, outcome);
	outcome->slot = SLOT_NONE;
	if (!good)
		counter_add(&serve->rank.counters->bad_messages_total, 1);
	if (reason == FINISH_NONE)
		return good;
	/* The scheduler let go of it when the step was collected. */
	rank_finish(&serve->rank, slot, good ? reason : FINISH_NONE);
	return true;
}

void serve_tell_all(struct serve *serve)
{
	for (uint32_t i = 0; i < serve->outcome_count; i++) {
		uint32_t slot = serve->outcomes[i].slot;

		if (!serve_tell(serve, &serve->outcomes[i]))
			serve_end(serve, slot, FINISH_NONE);
	}
	serve->outcome_count = 0;
}
