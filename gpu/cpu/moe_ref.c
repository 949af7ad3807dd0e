/* moe_ref.c - the experts of a step (rows, slots -> rows) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pair is one (row, k). Pairs are listed by slot and done in groups of
 * whole slots, up to moe_pair_max() pairs at a time; a slot with more pairs
 * than that is split. In a group each output element is a dot product of its
 * own, so neither the grouping nor the split of the work over threads shows
 * in a result; weights are read once per group.
 *
 *   hidden[i] = silu(g) * u, g = gate[i] . x (+ scale * (B[i] . (A x)))
 *   out[o]    = down[o] . hidden (+ scale * (B[o] . (A hidden)))
 *
 * The part in brackets is there only for a pair that has a low-rank update
 * of that matrix. silu(g) = g / (1 + exp(-g)), in float.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/dot_ref.h"
#include "memmgr/experts.h"

/* Outputs of one item of work. */
#define MOE_BLOCK 32

enum { MATRIX_GATE, MATRIX_UP, MATRIX_DOWN, MATRIX_COUNT };

/* The pairs of one slot in a group; first counts from the group's first. */
struct segment {
	uint32_t slot;
	uint32_t first;
	uint32_t count;
};

/* Up to DOT_ROW_COUNT_MAX pairs of a segment. */
struct tile {
	const unsigned char *slot;
	uint32_t first;
	uint32_t count;
};

struct moe_job;

/* Output `output` of the phase that runs, for every pair of the tile. */
typedef void (*tile_fn)(
	const struct moe_job *job, const struct tile *tile, uint32_t output);

struct moe_job {
	const struct moe_args *args;
	tile_fn fn;
	uint32_t outputs; /* of the phase that runs */
	const uint32_t *pair; /* [pair_count] row * topk + k, of the group */
	uint32_t pair_count;
	const struct segment *segment; /* [segment_count] */
	uint32_t segment_count;
	float *hidden; /* [pair_count][inter] */
	float *low; /* [pair_count][2][low_stride], A x of gate and up, later
		       A hidden; NULL = no adapters */
	uint32_t low_stride;
};

/* The lists in the shared area. */
struct lists {
	uint32_t *end; /* [EXPERT_SLOT_NONE + 1] of each slot's pairs */
	uint32_t *touched; /* [row_count * topk] slots, first touched first */
	uint32_t touched_count;
	uint32_t *pair; /* [row_count * topk] by slot */
	uint32_t done; /* pairs given to groups */
	uint32_t slot_done; /* of touched */
	struct segment *segment; /* [moe_pair_max()] */
};

uint32_t moe_pair_max(const struct ops_limits *limits)
{
	uint64_t inter = limits->inter ? limits->inter : 1;
	uint64_t count = MOE_HIDDEN_BYTES_MAX / (inter * sizeof(float));
	uint64_t all = (uint64_t)limits->row_count * limits->topk;

	if (count > MOE_PAIR_COUNT_MAX)
		count = MOE_PAIR_COUNT_MAX;
	if (count > all)
		count = all;
	return count > 0 ? (uint32_t)count : 1;
}

static const struct lora_pair *pair_lora(
	const struct moe_args *args, uint32_t pair, uint32_t matrix)
{
	uint32_t row = args->rows.lora[pair / args->topk];
	const struct lora_pair *lora;

	if (row == LORA_NONE)
		return NULL;
	lora = args->lora + (size_t)row * args->lora_stride +
	       (size_t)args->expert[pair] * MATRIX_COUNT + matrix;
	return lora->rank > 0 ? lora : NULL;
}

/* Gate and up share the two places of a pair; down takes the first. */
static float *low_place(const struct moe_job *job, uint32_t at, uint32_t matrix)
{
	size_t place = 2 * (size_t)at + (matrix == MATRIX_UP);

	return job->low + place * job->low_stride;
}

static uint32_t matrix_cols(const struct moe_args *args, uint32_t matrix)
{
	return matrix == MATRIX_DOWN ? args->inter : args->hidden;
}

/* What the matrix is applied to for the pair at `at` of the group. */
static const float *pair_input(
	const struct moe_job *job, uint32_t at, uint32_t matrix)
{
	const struct moe_args *args = job->args;
	size_t row = job->pair[at] / args->topk;

	if (matrix == MATRIX_DOWN)
		return job->hidden + (size_t)at * args->inter;
	return args->x + row * args->hidden;
}

/* A x of one matrix for the pair at `at`. */
static void low_product(const struct moe_job *job, uint32_t at, uint32_t matrix)
{
	const struct lora_pair *lora =
		pair_lora(job->args, job->pair[at], matrix);
	uint32_t cols = matrix_cols(job->args, matrix);
	float *low = low_place(job, at, matrix);

	if (!lora)
		return;
	assert(lora->rank <= job->low_stride);
	for (uint32_t i = 0; i < lora->rank; i++)
		low[i] = dot_ref(pair_input(job, at, matrix),
			row_ref(lora->a, lora->type, cols, i), lora->type,
			cols);
}

static void low_inputs(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	(void)worker;
	for (size_t at = first; at < end; at++) {
		low_product(arg, (uint32_t)at, MATRIX_GATE);
		low_product(arg, (uint32_t)at, MATRIX_UP);
	}
}

static void low_hidden(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	(void)worker;
	for (size_t at = first; at < end; at++)
		low_product(arg, (uint32_t)at, MATRIX_DOWN);
}

static const unsigned char *matrix_data(
	const struct moe_args *args, const struct tile *tile, uint32_t matrix)
{
	if (matrix == MATRIX_GATE)
		return tile->slot;
	return tile->slot + (matrix == MATRIX_UP ? args->up_offset_bytes
						 : args->down_offset_bytes);
}

/* Output `output` of one matrix for every pair of the tile. */
static void tile_product(const struct moe_job *job, const struct tile *tile,
	uint32_t matrix, uint32_t output, float *out)
{
	const struct moe_args *args = job->args;
	uint32_t cols = matrix_cols(args, matrix);
	const float *x[DOT_ROW_COUNT_MAX];

	for (uint32_t i = 0; i < tile->count; i++)
		x[i] = pair_input(job, tile->first + i, matrix);
	dot_rows_ref(x, tile->count,
		row_ref(matrix_data(args, tile, matrix), args->type, cols,
			output),
		args->type, cols, out);
	for (uint32_t i = 0; job->low && i < tile->count; i++) {
		uint32_t at = tile->first + i;
		const struct lora_pair *lora =
			pair_lora(args, job->pair[at], matrix);

		if (!lora)
			continue;
		out[i] += lora->scale * dot_ref(low_place(job, at, matrix),
						row_ref(lora->b, lora->type,
							lora->rank, output),
						lora->type, lora->rank);
	}
}

static void tile_hidden(
	const struct moe_job *job, const struct tile *tile, uint32_t output)
{
	float gate[DOT_ROW_COUNT_MAX], up[DOT_ROW_COUNT_MAX];

	tile_product(job, tile, MATRIX_GATE, output, gate);
	tile_product(job, tile, MATRIX_UP, output, up);
	for (uint32_t i = 0; i < tile->count; i++) {
		float silu = gate[i] / (1.0f + expf(-gate[i]));
		size_t at = tile->first + i;

		job->hidden[at * job->args->inter + output] = silu * up[i];
	}
}

static void tile_down(
	const struct moe_job *job, const struct tile *tile, uint32_t output)
{
	const struct moe_args *args = job->args;
	float out[DOT_ROW_COUNT_MAX];

	tile_product(job, tile, MATRIX_DOWN, output, out);
	for (uint32_t i = 0; i < tile->count; i++) {
		size_t pair = job->pair[tile->first + i];

		args->out[pair * args->hidden + output] = out[i];
	}
}

/* One output of all pairs of a segment, so that a weight row is read once. */
static void segment_output(const struct moe_job *job,
	const struct segment *segment, uint32_t output)
{
	const struct moe_args *args = job->args;
	struct tile tile;

	tile.slot = (const unsigned char *)args->tensor +
		    args->slot_offset[segment->slot];
	for (uint32_t i = 0; i < segment->count; i += tile.count) {
		tile.first = segment->first + i;
		tile.count = segment->count - i;
		if (tile.count > DOT_ROW_COUNT_MAX)
			tile.count = DOT_ROW_COUNT_MAX;
		job->fn(job, &tile, output);
	}
}

/* Item i is block i / segment_count of segment i % segment_count. */
static void output_blocks(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct moe_job *job = arg;

	(void)worker;
	for (size_t item = first; item < end; item++) {
		const struct segment *segment =
			&job->segment[item % job->segment_count];
		size_t output = item / job->segment_count * MOE_BLOCK;
		size_t last = output + MOE_BLOCK;

		for (; output < last && output < job->outputs; output++)
			segment_output(job, segment, (uint32_t)output);
	}
}

static void run_outputs(struct workers *workers, struct moe_job *job,
	tile_fn fn, uint32_t outputs)
{
	size_t block_count = ((size_t)outputs + MOE_BLOCK - 1) / MOE_BLOCK;

	job->fn = fn;
	job->outputs = outputs;
	workers_run(
		workers, block_count * job->segment_count, output_blocks, job);
}

static void run_group(struct workers *workers, struct moe_job *job)
{
	if (job->low)
		workers_run(workers, job->pair_count, low_inputs, job);
	run_outputs(workers, job, tile_hidden, job->args->inter);
	if (job->low)
		workers_run(workers, job->pair_count, low_hidden, job);
	run_outputs(workers, job, tile_down, job->args->hidden);
}

/* List the pairs by slot. */
static void list_pairs(const struct moe_args *args, struct lists *lists)
{
	uint32_t count = args->rows.count * args->topk;
	uint32_t sum = 0;

	memset(lists->end, 0,
		((size_t)EXPERT_SLOT_NONE + 1) * sizeof(*lists->end));
	lists->touched_count = 0;
	lists->done = 0;
	lists->slot_done = 0;
	for (uint32_t p = 0; p < count; p++) {
		assert(args->slot[p] != EXPERT_SLOT_NONE);
		if (lists->end[args->slot[p]]++ == 0)
			lists->touched[lists->touched_count++] = args->slot[p];
	}
	for (uint32_t i = 0; i < lists->touched_count; i++) {
		uint32_t slot = lists->touched[i];
		uint32_t slot_count = lists->end[slot];

		lists->end[slot] = sum;
		sum += slot_count;
	}
	for (uint32_t p = 0; p < count; p++)
		lists->pair[lists->end[args->slot[p]]++] = p;
}

/* Carve the shared area, in the order of its comment. */
static void carve(
	struct ref_backend *ref, struct lists *lists, struct moe_job *job)
{
	size_t slots = (size_t)EXPERT_SLOT_NONE + 1;
	size_t pairs = (size_t)ref->limits.row_count * ref->limits.topk;
	size_t pair_max = moe_pair_max(&ref->limits);
	size_t hidden = pair_max * ref->limits.inter;
	size_t low = 2 * pair_max * ref->limits.lora_rank;

	lists->end = ref_shared(ref, (slots + 2 * pairs) * sizeof(uint32_t) +
					     pair_max * sizeof(struct segment) +
					     (hidden + low) * sizeof(float));
	lists->touched = lists->end + slots;
	lists->pair = lists->touched + pairs;
	lists->segment = (struct segment *)(lists->pair + pairs);
	job->segment = lists->segment;
	job->hidden = (float *)(lists->segment + pair_max);
	job->low = job->hidden + hidden;
	job->low_stride = ref->limits.lora_rank;
	if (!job->args->lora || !job->args->rows.lora)
		job->low = NULL;
}

/*
 * Fill the next group: whole slots while they fit, or a part of one that is
 * too large for any group. False: all pairs are done.
 */
static bool next_group(
	struct lists *lists, uint32_t pair_max, struct moe_job *job)
{
	uint32_t at = lists->done;

	job->pair = lists->pair + at;
	job->pair_count = 0;
	job->segment_count = 0;
	while (lists->slot_done < lists->touched_count) {
		struct segment *segment = &lists->segment[job->segment_count];
		uint32_t slot = lists->touched[lists->slot_done];
		uint32_t left = lists->end[slot] - at;
		uint32_t room = pair_max - job->pair_count;

		if (left > room && job->pair_count > 0)
			break;
		segment->slot = slot;
		segment->first = job->pair_count;
		segment->count = left < room ? left : room;
		at += segment->count;
		job->pair_count += segment->count;
		job->segment_count++;
		if (segment->count == left)
			lists->slot_done++;
	}
	lists->done = at;
	return job->pair_count > 0;
}

int ref_moe(struct ops *ops, const struct moe_args *args)
{
	struct ref_backend *ref = ref_of(ops);
	uint32_t pair_max = moe_pair_max(&ref->limits);
	struct moe_job job = {.args = args};
	struct lists lists;

	assert(args->rows.count <= ref->limits.row_count);
	assert(args->topk > 0 && args->topk <= ref->limits.topk);
	assert(args->inter <= ref->limits.inter);
	assert(args->layout == WEIGHT_ROWS);
	carve(ref, &lists, &job);
	list_pairs(args, &lists);
	while (next_group(&lists, pair_max, &job))
		run_group(ref->workers, &job);
	return 0;
}

static void combine_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct combine_args *args = arg;
	size_t hidden = args->hidden;

	(void)worker;
	for (size_t row = first; row < end; row++) {
		const float *out = args->expert_out + row * args->topk * hidden;
		const float *weight = args->weight + row * args->topk;

		for (size_t i = 0; i < hidden; i++) {
			float sum = 0;

			for (size_t k = 0; k < args->topk; k++)
				sum += weight[k] * out[k * hidden + i];
			if (args->shared)
				sum += args->shared[row * hidden + i];
			args->x[row * hidden + i] += args->scale * sum;
		}
	}
}

int ref_combine(struct ops *ops, const struct combine_args *args)
{
	workers_run(ref_of(ops)->workers, args->row_count, combine_rows, args);
	return 0;
}
