/* fast_mla.c - the per-head products of latent attention (rows -> rows) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Either half of a head of kv_b_proj is a matrix in panels of its own
 * (WEIGHT_MLA_PANELS): absorb multiplies along nope and gives latent outputs,
 * expand multiplies along latent and gives value outputs. An item is a head
 * and as many rows as one sweep takes.
 */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/fast_gemm.h"
#include "gpu/cpu/fast_lora.h"

struct job {
	struct fast_backend *fast;
	const struct mla_args *args;
	bool absorb;
	enum gemm_form form; /* of the tiles */
	uint32_t outputs, cols; /* of a head's half */
	uint32_t block_rows; /* rows of an item */
	uint32_t block_count;
};

/* One head, some rows; memory of the worker. */
struct work {
	const struct job *job;
	uint32_t head, first, count;
	struct gemm_tile tiles[GEMM_SWEEP_TILES];
	uint32_t tile_count;
	unsigned char *packed;
	float *low; /* [lora_rank] */
	struct lora_panel lora;
};

static size_t packed_bytes(const struct ops_limits *limits)
{
	return fast_room(0, gemm_row_room(limits->key_dim), GEMM_SWEEP_ROWS);
}

struct fast_need FAST(fast_mla_need)(const struct ops_limits *limits)
{
	struct fast_need need = {0, lora_panel_bytes(limits->lora_rank)};

	need.scratch =
		fast_room(need.scratch, limits->lora_rank, sizeof(float));
	need.scratch = fast_room(need.scratch, packed_bytes(limits), 1);
	return need;
}

static const float *input(const struct work *work, size_t r)
{
	const struct mla_args *args = work->job->args;

	return args->x + r * args->x_stride +
	       (size_t)work->head * args->x_head_stride;
}

static float *output(const struct work *work, size_t r)
{
	const struct mla_args *args = work->job->args;

	return args->out + r * args->out_stride +
	       (size_t)work->head * args->out_head_stride;
}

static void make_tiles(struct work *work)
{
	enum gemm_form form = work->job->form;
	uint32_t cols = work->job->cols;
	unsigned char *to = work->packed;

	work->tile_count = gemm_tile_count(form, work->count);
	for (uint32_t t = 0; t < work->tile_count; t++) {
		struct gemm_tile *tile = &work->tiles[t];
		const float *rows[GEMM_TILE_ROWS];

		tile->first = work->first +
			      gemm_tile_first(work->count, work->tile_count, t);
		tile->count =
			work->first +
			gemm_tile_first(work->count, work->tile_count, t + 1) -
			tile->first;
		for (uint32_t r = 0; r < tile->count; r++)
			rows[r] = input(work, tile->first + r);
		tile->x = input(work, tile->first);
		if (tile->count == 1)
			continue;
		FAST(gemm_pack)(form, rows, tile->count, cols, to);
		tile->x = to;
		to += tile->count * gemm_row_bytes(form, cols);
	}
}

static void multiply(struct work *work)
{
	const struct job *job = work->job;
	const struct weight *w = &job->args->kv_b;
	const struct mla_args *args = job->args;
	size_t line = job->cols * dtype_size(w->type);
	size_t begin = (size_t)work->head * (args->nope + args->value) +
		       (job->absorb ? 0 : args->nope);
	const unsigned char *panels =
		(const unsigned char *)w->data +
		begin * args->latent * dtype_size(w->type);
	float sum[GEMM_SWEEP_ROWS][GEMM_WIDTH];

	for (uint32_t n = 0; n < job->outputs; n += GEMM_WIDTH) {
		uint32_t rest = job->outputs - n;
		uint32_t width = rest < GEMM_WIDTH ? rest : GEMM_WIDTH;
		uint32_t left = width < PANEL_ROWS ? width : PANEL_ROWS;
		struct gemm_pair pair = {
			.panel = {panels + n * line,
				panels + (n + PANEL_ROWS) * line},
			.width = {left, width - left},
			.cols = job->cols,
			.type = w->type,
			.form = job->form,
		};

		for (uint32_t p = 0; p < 2 && rest > width; p++)
			pair.next[p] = pair.panel[p] + GEMM_WIDTH * line;
		FAST(gemm_sweep)(&pair, work->tiles, work->tile_count, sum);
		for (uint32_t r = 0; r < work->count; r++)
			memcpy(output(work, work->first + r) + n, sum[r],
				width * sizeof(float));
	}
}

/* The part of the query that is carried over, and the update. */
static void absorb_rest(
	struct work *work, size_t r, const struct lora_pair *pair)
{
	const struct mla_args *args = work->job->args;
	const float *x = input(work, r);
	float *out = output(work, r);
	size_t head_row = (size_t)work->head * (args->nope + args->value);

	memcpy(out + args->latent, x + args->nope, args->tail * sizeof(*out));
	if (!pair)
		return;
	memset(work->low, 0, pair->rank * sizeof(*work->low));
	FAST(lora_across)
	(&(struct lora_columns){(const unsigned char *)pair->b +
					head_row * pair->rank *
						dtype_size(pair->type),
		 pair->type, pair->rank},
		x, args->nope, 1, work->low);
	FAST(lora_across)
	(&(struct lora_columns){pair->a, pair->type, args->latent}, work->low,
		pair->rank, pair->scale, out);
}

static void expand_rest(
	struct work *work, size_t r, const struct lora_pair *pair)
{
	const struct mla_args *args = work->job->args;
	size_t first =
		(size_t)work->head * (args->nope + args->value) + args->nope;
	float *out = output(work, r);
	float value[PANEL_ROWS];

	if (!pair)
		return;
	FAST(lora_down)(pair, input(work, r), args->latent, work->low);
	for (uint32_t n = 0; n < args->value; n += PANEL_ROWS) {
		uint32_t rest = args->value - n;
		uint32_t width = rest < PANEL_ROWS ? rest : PANEL_ROWS;

		vec_store(value, vec_load_part(out + n, width));
		FAST(lora_up)
		(&work->lora, pair, first + n, width, work->low, value);
		vec_store_part(out + n, vec_load(value), width);
	}
}

/* Item i is block i % block_count of head i / block_count. */
static void do_items(const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	const struct mla_args *args = job->args;
	const struct ops_limits *limits = &job->fast->limits;
	size_t lora_room = lora_panel_bytes(limits->lora_rank);
	size_t low_room = fast_room(0, limits->lora_rank, sizeof(float));
	unsigned char *scratch = fast_scratch(
		job->fast, worker, lora_room + low_room + packed_bytes(limits));
	unsigned int mode = gemm_begin(job->form);
	struct work work = {.job = job};

	work.lora = lora_panel_at(scratch, limits->lora_rank);
	work.low = (float *)(void *)(scratch + lora_room);
	work.packed = scratch + lora_room + low_room;
	for (size_t item = first; item < end; item++) {
		uint32_t rest;

		work.head = (uint32_t)(item / job->block_count);
		work.first =
			(uint32_t)(item % job->block_count) * job->block_rows;
		rest = args->rows.count - work.first;
		work.count = rest < job->block_rows ? rest : job->block_rows;
		make_tiles(&work);
		multiply(&work);
		for (uint32_t i = 0; i < work.count; i++) {
			size_t r = work.first + i;
			const struct lora_pair *pair =
				lora_find(args->lora, &args->rows, r);

			assert(!pair || pair->rank <= limits->lora_rank);
			if (job->absorb)
				absorb_rest(&work, r, pair);
			else
				expand_rest(&work, r, pair);
		}
	}
	gemm_end(job->form, mode);
}

static int mla_run(struct ops *ops, const struct mla_args *args, bool absorb)
{
	struct fast_backend *fast = fast_of(ops);
	size_t fit = packed_bytes(&fast->limits);
	struct job job = {
		.fast = fast,
		.args = args,
		.absorb = absorb,
		.form = gemm_form(fast, args->kv_b.type),
		.outputs = absorb ? args->latent : args->value,
		.cols = absorb ? args->nope : args->latent,
	};

	assert(args->kv_b.data && args->kv_b.cols == args->latent);
	assert(args->kv_b.layout == WEIGHT_MLA_PANELS);
	assert(args->kv_b.rows ==
		args->head_count * (args->nope + args->value));
	if (job.cols > 0)
		fit /= gemm_row_bytes(job.form, job.cols);
	if (fit < 1)
		fit = 1;
	job.block_rows = gemm_sweep_rows(job.form);
	if (fit < job.block_rows)
		job.block_rows = (uint32_t)fit;
	job.block_count = (uint32_t)div_up(args->rows.count, job.block_rows);
	workers_run_cost(fast->workers,
		(size_t)args->head_count * job.block_count,
		gemm_cost_ns(job.form, args->rows.count,
			(uint64_t)args->head_count * job.outputs, job.cols),
		do_items, &job);
	return 0;
}

int FAST(fast_mla_absorb)(struct ops *ops, const struct mla_args *args)
{
	return mla_run(ops, args, true);
}

int FAST(fast_mla_expand)(struct ops *ops, const struct mla_args *args)
{
	return mla_run(ops, args, false);
}
