/* serve_measure.c - how long steps take on this machine (steps -> model) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Five kinds of steps give the five terms of sched_model.h: one row, several
 * rows of several sequences, one row far behind, a chunk of a prompt, and a
 * chunk far behind. What lies before a far row is not computed: any keys take
 * as long. Each is run a few times and the shortest counts; running corrects
 * what is left.
 */
#include "engine/serve_private.h"

#define ROUNDS 3
#define CHUNK 32u /* tokens of a prompt */
#define FAR 2048u /* tokens before a row */
#define SEQUENCES 8u

struct probe {
	struct serve *serve;
	struct kv_chain chains[SEQUENCES];
	uint32_t count; /* chains that have blocks */
	uint32_t far_count; /* tokens that the first of them holds */
	struct error *err;
};

static int open_chains(struct probe *probe)
{
	struct serve *serve = probe->serve;
	const struct kv_key key = {0};

	/* Half of the blocks, so that the others have theirs. */
	probe->far_count = (uint32_t)(serve->options.kv_token_count / 2) + 1;
	if (probe->far_count > serve->position_count)
		probe->far_count = serve->position_count;
	if (probe->far_count > FAR)
		probe->far_count = FAR;
	for (uint32_t i = 0; i < SEQUENCES; i++) {
		const struct lane *lane = &serve->lanes[i];
		uint32_t tokens = i == 0 ? probe->far_count : 1;
		int rc;

		if (i == serve->options.sequence_count)
			break;
		kv_chain_init(&probe->chains[i], &key, lane->blocks,
			lane->pages, serve->block_max);
		rc = kv_cache_grow(serve->cache, &probe->chains[i], tokens);
		if (rc && i > 0)
			break; /* fewer will do */
		if (rc)
			return error_set(probe->err, -rc,
				"no KV blocks for a measurement");
		probe->count++;
	}
	return 0;
}

static void add_rows(
	struct probe *probe, uint32_t chain, uint32_t first, uint32_t count)
{
	struct step *step = &probe->serve->steps[0];
	uint32_t per_block =
		kv_store_layout(probe->serve->model->kv)->pages_per_block;
	const struct sample_params params = {
		.top_p = 1, .repetition_penalty = 1};
	uint32_t sequence = step_add_sequence(step, probe->chains[chain].pages,
		probe->chains[chain].block_count * per_block);
	uint32_t row = 0;

	for (uint32_t i = first; i < first + count; i++)
		row = step_add_row(step, 0, i, sequence, INSTANCE_BASE);
	step_add_sample(step, row, &params);
}

static void clear(struct probe *probe)
{
	step_clear(&probe->serve->steps[0], 0, probe->serve->rank.config.rank);
}

/* Run what has been added; the shortest of the rounds. */
static int run(struct probe *probe, double *out_ns)
{
	struct serve *serve = probe->serve;
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t took;
		int rc;

		compute_begin(serve->compute, &serve->steps[0]);
		rc = compute_end(serve->compute, &took, probe->err);
		if (rc)
			return rc;
		if (took < best)
			best = took;
		rank_beat(&serve->rank, 0, mono_now());
	}
	*out_ns = (double)best;
	return 0;
}

/* A step of `count` rows of each of the first `chains` chains. */
static int run_rows(struct probe *probe, uint32_t chains, uint32_t first,
	uint32_t count, double *out_ns)
{
	clear(probe);
	for (uint32_t i = 0; i < chains; i++)
		add_rows(probe, i, first, count);
	return run(probe, out_ns);
}

static int measure(struct probe *probe, struct sched_model *out)
{
	uint32_t room = probe->far_count;
	uint32_t chunk = room < CHUNK ? room : CHUNK;
	double one, many, far, prompt, prompt_far;
	uint64_t more; /* context of the far chunk beyond the near one's */
	int rc;

	if (chunk > probe->serve->options.row_count)
		chunk = probe->serve->options.row_count;
	more = sched_context(room - chunk, chunk) - sched_context(0, chunk);
	rc = run_rows(probe, 1, 0, 1, &one);
	if (rc == 0)
		rc = run_rows(probe, probe->count, 0, 1, &many);
	if (rc == 0)
		rc = run_rows(probe, 1, room - 1, 1, &far);
	if (rc == 0)
		rc = run_rows(probe, 1, 0, chunk, &prompt);
	if (rc == 0)
		rc = run_rows(probe, 1, room - chunk, chunk, &prompt_far);
	if (rc)
		return rc;
	out->decode_ns =
		probe->count > 1 ? (many - one) / (probe->count - 1) : one / 2;
	out->step_ns = one - out->decode_ns;
	out->prefill_ns = (prompt - out->step_ns) / chunk;
	out->context_ns = (far - one) / room;
	out->prefill_context_ns =
		more ? (prompt_far - prompt) / (double)more : out->context_ns;
	sched_model_clamp(out);
	return 0;
}

int serve_measure(
	struct serve *serve, struct sched_model *out, struct error *err)
{
	struct probe probe = {.serve = serve, .err = err};
	int rc = open_chains(&probe);

	if (rc == 0)
		rc = measure(&probe, out);
	for (uint32_t i = 0; i < probe.count; i++)
		kv_cache_release(serve->cache, &probe.chains[i]);
	return rc;
}
