/* serve_lane.c - a request that runs (prompt pages, log -> tokens, samples) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/serve_private.h"

/* Stop ids that output_min has to mask. */
#define STOP_COUNT_MAX 8192

static size_t mask_words(const struct serve *serve)
{
	return div_up(serve->model->config.vocab, 32);
}

int lane_init(const struct serve *serve, struct lane *lane)
{
	uint32_t per_block = kv_store_layout(serve->model->kv)->pages_per_block;
	size_t positions = serve->position_count;

	*lane = (struct lane){.slot = SLOT_NONE};
	lane->tokens = calloc(positions, sizeof(*lane->tokens));
	lane->blocks = calloc(serve->block_max, sizeof(*lane->blocks));
	lane->pages = calloc(
		(size_t)serve->block_max * per_block, sizeof(*lane->pages));
	lane->uses = calloc(positions, sizeof(*lane->uses));
	lane->use_table =
		calloc(serve->use_mask + (size_t)1, sizeof(*lane->use_table));
	lane->biases = calloc(LOGIT_BIAS_COUNT_MAX, sizeof(*lane->biases));
	lane->mask = calloc(mask_words(serve), sizeof(*lane->mask));
	if (lane->tokens && lane->blocks && lane->pages && lane->uses &&
		lane->use_table && lane->biases && lane->mask)
		return 0;
	lane_release(lane);
	return -ENOMEM;
}

void lane_release(struct lane *lane)
{
	free(lane->tokens);
	free(lane->blocks);
	free(lane->pages);
	free(lane->uses);
	free(lane->use_table);
	free(lane->biases);
	free(lane->mask);
	*lane = (struct lane){.slot = SLOT_NONE};
}

/* --- parameters ----------------------------------------------------------------- */

static bool in_range(float value, float least, float most)
{
	return value >= least && value <= most; /* false for NaN */
}

bool lane_params_ok(const struct serve *serve, const struct rank_request *r)
{
	const struct request_params *p = &r->params;

	return in_range(p->temperature, 0, 1e6f) && in_range(p->top_p, 0, 1) &&
	       in_range(p->min_p, 0, 1) &&
	       in_range(p->repetition_penalty, 1e-6f, 1e6f) &&
	       in_range(p->presence_penalty, -1e6f, 1e6f) &&
	       in_range(p->frequency_penalty, -1e6f, 1e6f) &&
	       p->mask == PAYLOAD_NONE &&
	       rank_top_count(r) <= serve->model->config.vocab;
}

/* Where a token stands, or would stand, in the table of uses. */
static uint32_t *use_place(
	const struct serve *serve, const struct lane *lane, uint32_t token)
{
	/* Odd, so that neighbours spread over the whole table. */
	uint32_t at = token * UINT32_C(0x9e3779b1);

	for (;; at++) {
		uint32_t *place = &lane->use_table[at & serve->use_mask];

		if (*place == 0 || lane->uses[*place - 1].token == token)
			return place;
	}
}

static void note_use(const struct serve *serve, struct lane *lane,
	uint32_t token, bool output)
{
	uint32_t *place = use_place(serve, lane, token);
	struct token_use *use;

	if (*place == 0) {
		lane->uses[lane->use_count] =
			(struct token_use){.token = token};
		*place = ++lane->use_count;
	}
	use = &lane->uses[*place - 1];
	if (output)
		use->output_count++;
	else
		use->prompt_count++;
}

static void fill_uses(const struct serve *serve, struct lane *lane)
{
	const struct sample_params *p = &lane->params;

	lane->use_count = 0;
	lane->has_uses = p->repetition_penalty != 1 ||
			 p->presence_penalty != 0 || p->frequency_penalty != 0;
	if (!lane->has_uses)
		return;
	memset(lane->use_table, 0,
		(serve->use_mask + (size_t)1) * sizeof(*lane->use_table));
	for (uint32_t i = 0; i < lane->count; i++)
		note_use(serve, lane, lane->tokens[i], i >= lane->prompt_count);
	lane->params.uses = lane->uses;
}

/* Copied out, then each checked; tokens must be distinct. */
static bool fill_biases(
	const struct serve *serve, struct lane *lane, uint32_t first_page)
{
	const struct segment *segment = serve->rank.segment;
	const struct payload_page *page;
	uint32_t used;

	if (first_page == PAYLOAD_NONE)
		return true;
	if (first_page >= segment->shape.page_count)
		return false;
	page = segment_page(segment, first_page);
	used = __atomic_load_n(&page->used_bytes, __ATOMIC_RELAXED);
	if (used > LOGIT_BIAS_COUNT_MAX * sizeof(*lane->biases))
		return false;
	used /= sizeof(*lane->biases);
	memcpy(lane->biases, page->bytes, used * sizeof(*lane->biases));
	for (uint32_t i = 0; i < used; i++) {
		if (lane->biases[i].token >= serve->model->config.vocab ||
			!isfinite(lane->biases[i].bias))
			return false;
		for (uint32_t k = 0; k < i; k++)
			if (lane->biases[k].token == lane->biases[i].token)
				return false;
	}
	lane->params.biases = lane->biases;
	lane->params.bias_count = used;
	return true;
}

static void forbid(const struct serve *serve, struct lane *lane, uint32_t token)
{
	if (token < serve->model->config.vocab)
		lane->mask[token / 32] &= ~(UINT32_C(1) << (token % 32));
}

/* Every token but those that would end the text. */
static void fill_mask(const struct serve *serve, struct lane *lane,
	const struct rank_request *r)
{
	uint32_t ids[STOP_COUNT_MAX], count;

	if (r->params.output_min == 0)
		return;
	memset(lane->mask, 0xff, mask_words(serve) * sizeof(*lane->mask));
	for (uint32_t i = 0;
		!r->params.ignore_eos && i < serve->rank.config.eos_count; i++)
		forbid(serve, lane, serve->rank.config.eos[i]);
	count = rank_stop_ids(&serve->rank, r, ids, STOP_COUNT_MAX);
	for (uint32_t i = 0; i < count; i++)
		forbid(serve, lane, ids[i]);
}

struct sample_params lane_params(
	const struct serve *serve, const struct lane *lane, uint32_t position)
{
	const struct rank_request *r = &serve->rank.requests[lane->slot];
	struct sample_params params = lane->params;

	params.position = position;
	params.use_count = lane->use_count;
	params.mask = lane->count - lane->prompt_count < r->params.output_min
			      ? lane->mask
			      : NULL;
	return params;
}

static void copy_params(
	const struct request_params *from, struct sample_params *out)
{
	*out = (struct sample_params){
		.temperature = from->temperature,
		.top_k = from->top_k,
		.top_p = from->top_p,
		.min_p = from->min_p,
		.repetition_penalty = from->repetition_penalty,
		.presence_penalty = from->presence_penalty,
		.frequency_penalty = from->frequency_penalty,
		.seed = from->seed,
		.choice = from->choice,
		.top_count = from->want_logprob ? from->logprob_count : 0,
	};
}

/* --- tokens ------------------------------------------------------------------------ */

bool lane_fill(const struct serve *serve, struct lane *lane, uint32_t slot)
{
	const struct rank_request *r = &serve->rank.requests[slot];
	const struct request_params *p = &r->params;
	struct kv_key key = {.epoch = r->epoch, .instance = r->instance};

	_Static_assert(sizeof(key.tenant) == sizeof(p->tenant), "same secret");
	assert(lane->slot == SLOT_NONE);
	/* Checked at intake: they fit the arrays. */
	assert(p->prompt_count + p->output_max <= serve->position_count);
	if (!rank_read_ids(&serve->rank, r->prompt_page, p->prompt_count,
		    lane->tokens) ||
		!rank_read_log(
			&serve->rank, slot, lane->tokens + p->prompt_count))
		return false;
	lane->count = p->prompt_count + r->output_count;
	lane->prompt_count = p->prompt_count;
	lane->row = serve_adapters_row(serve, r->instance);
	lane->ends = false;
	copy_params(p, &lane->params);
	if (!fill_biases(serve, lane, p->bias_page))
		return false;
	fill_uses(serve, lane);
	fill_mask(serve, lane, r);
	memcpy(key.tenant, p->tenant, sizeof(key.tenant));
	kv_chain_init(&lane->chain, &key, lane->blocks, lane->pages,
		serve->block_max);
	lane->slot = slot;
	return true;
}

void lane_add(const struct serve *serve, struct lane *lane, uint32_t token)
{
	assert(lane->count < serve->position_count);
	lane->tokens[lane->count++] = token;
	if (lane->has_uses)
		note_use(serve, lane, token, true);
}
