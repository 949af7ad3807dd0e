/* serve_measure.c - how long steps take on this machine (steps -> model) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four kinds of steps give the four terms of sched_model.h: one row, several
 * rows of several sequences, a chunk of a prompt, and one row far behind. Each
 * is run a few times and the shortest counts; running corrects what is left.
 */
#include "engine/serve_private.h"

#define ROUNDS 3
#define CHUNK 32u /* tokens of a prompt */
#define FAR 256u /* tokens before a row */
#define SEQUENCES 8u

struct probe {
	struct serve *serve;
	struct kv_chain chains[SEQUENCES];
	uint32_t count; /* chains that have blocks */
	struct error *err;
};

static int open_chains(struct probe *probe)
{
	struct serve *serve = probe->serve;
	const struct kv_key key = {0};

	for (uint32_t i = 0; i < SEQUENCES; i++) {
		const struct lane *lane = &serve->lanes[i];
		uint32_t tokens = i == 0 ? FAR : 1;
		int rc;

		if (i == serve->options.sequence_count)
			break;
		if (tokens > serve->position_count)
			tokens = serve->position_count;
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

static int measure(struct probe *probe, struct sched_model *out)
{
	uint32_t room = probe->serve->position_count < FAR
				? probe->serve->position_count
				: FAR;
	uint32_t chunk = room < CHUNK ? room : CHUNK;
	double one, many, prompt, far;
	int rc;

	if (chunk > probe->serve->options.row_count)
		chunk = probe->serve->options.row_count;
	clear(probe);
	add_rows(probe, 0, 0, 1);
	rc = run(probe, &one);
	clear(probe);
	for (uint32_t i = 0; i < probe->count; i++)
		add_rows(probe, i, 0, 1);
	if (rc == 0)
		rc = run(probe, &many);
	clear(probe);
	add_rows(probe, 0, 0, chunk);
	if (rc == 0)
		rc = run(probe, &prompt);
	clear(probe);
	add_rows(probe, 0, room - 1, 1);
	if (rc == 0)
		rc = run(probe, &far);
	if (rc)
		return rc;
	out->decode_ns =
		probe->count > 1 ? (many - one) / (probe->count - 1) : one / 2;
	out->step_ns = one - out->decode_ns;
	out->prefill_ns = (prompt - out->step_ns) / chunk;
	out->context_ns = (far - one) / room;
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
