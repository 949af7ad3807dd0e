/* linear_ref.c - embed, linear and gather in plain C */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/dot_ref.h"

/*
 * Outputs whose weights stay in the cache while all rows pass by: a weight is
 * read from memory once per step. The order within an output is the same for
 * every value.
 */
#define TILE_OUTPUTS 16

static void embed_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct embed_args *args = arg;
	const struct weight *table = &args->table;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		size_t token = args->rows.token[r];
		float *out = args->out + r * table->cols;

		assert(token < table->rows);
		for (size_t i = 0; i < table->cols; i++)
			out[i] = args->scale * dtype_load(table->data,
						       table->type,
						       token * table->cols + i);
	}
}

int ref_embed(struct ops *ops, const struct embed_args *args)
{
	struct ref_backend *ref = ref_of(ops);

	workers_run(ref->workers, args->rows.count, embed_rows, args);
	return 0;
}

struct linear_job {
	const struct linear_args *args;
	float *low; /* [R][low_stride]: A x of the rows that have an update */
	size_t low_stride;
	bool gated; /* out holds g: it becomes silu(g) times the output */
};

/* The update of row r, NULL = none. */
static const struct lora_pair *row_pair(
	const struct linear_args *args, size_t r)
{
	const struct lora_pair *pair;

	if (!args->lora || !args->rows.lora || args->rows.lora[r] == LORA_NONE)
		return NULL;
	pair = &args->lora[args->rows.lora[r]];
	return pair->rank > 0 ? pair : NULL;
}

static void linear_low_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct linear_job *job = arg;
	const struct linear_args *args = job->args;
	size_t cols = args->weight.cols;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		const struct lora_pair *pair = row_pair(args, r);
		uint32_t rank = pair ? pair->rank : 0;

		assert(rank <= job->low_stride);
		for (uint32_t j = 0; j < rank; j++)
			job->low[r * job->low_stride + j] =
				dot_ref(args->x + r * args->x_stride,
					row_ref(pair->a, pair->type, cols, j),
					pair->type, cols);
	}
}

/* Everything after the dot product of row r and output n. */
static float linear_finish(
	const struct linear_job *job, size_t r, size_t n, float sum)
{
	const struct linear_args *args = job->args;
	const struct lora_pair *pair = row_pair(args, r);

	if (args->bias)
		sum += args->bias[n];
	sum *= args->scale;
	if (pair)
		sum += pair->scale *
		       dot_ref(job->low + r * job->low_stride,
			       row_ref(pair->b, pair->type, pair->rank, n),
			       pair->type, pair->rank);
	if (args->clip > 0 && sum > args->clip)
		return args->clip;
	if (args->clip > 0 && sum < -args->clip)
		return -args->clip;
	return sum;
}

static void linear_store(
	const struct linear_job *job, size_t r, size_t n, float sum)
{
	float *out = job->args->out + r * job->args->out_stride + n;
	float value = linear_finish(job, r, n, sum);

	*out = job->gated ? *out / (1 + expf(-*out)) * value : value;
}

/* Outputs first .. end-1 of the rows row .. row + row_count - 1. */
static void linear_tile(const struct linear_job *job, size_t first, size_t end,
	size_t row, uint32_t row_count)
{
	const struct linear_args *args = job->args;
	const struct weight *weight = &args->weight;
	const float *x[DOT_ROW_COUNT_MAX];
	float sum[DOT_ROW_COUNT_MAX];

	for (uint32_t i = 0; i < row_count; i++)
		x[i] = args->x + (row + i) * args->x_stride;
	for (size_t n = first; n < end; n++) {
		dot_rows_ref(x, row_count,
			row_ref(weight->data, weight->type, weight->cols, n),
			weight->type, weight->cols, sum);
		for (uint32_t i = 0; i < row_count; i++)
			linear_store(job, row + i, n, sum[i]);
	}
}

static void linear_outputs(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct linear_job *job = arg;
	size_t row_count = job->args->rows.count;

	(void)worker;
	for (size_t n = first; n < end; n += TILE_OUTPUTS) {
		size_t n_end = end - n < TILE_OUTPUTS ? end : n + TILE_OUTPUTS;

		for (size_t r = 0; r < row_count; r += DOT_ROW_COUNT_MAX) {
			size_t rest = row_count - r;

			linear_tile(job, n, n_end, r,
				rest < DOT_ROW_COUNT_MAX ? (uint32_t)rest
							 : DOT_ROW_COUNT_MAX);
		}
	}
}

static void linear_one(
	struct ref_backend *ref, const struct linear_args *args, bool gated)
{
	struct linear_job job = {.args = args, .gated = gated};

	assert(args->weight.data && args->weight.cols > 0);
	assert(args->weight.layout == WEIGHT_ROWS);
	assert(args->rows.count <= 1 ||
		(args->x_stride >= args->weight.cols &&
			args->out_stride >= args->weight.rows));
	if (args->lora && args->rows.lora) {
		job.low_stride = ref->limits.lora_rank;
		job.low = ref_shared(
			ref, args->rows.count * job.low_stride * sizeof(float));
		workers_run(
			ref->workers, args->rows.count, linear_low_rows, &job);
	}
	workers_run(ref->workers, args->weight.rows, linear_outputs, &job);
}

int ref_linear(struct ops *ops, const struct linear_args *args, uint32_t count)
{
	assert(count >= 1 && count <= OPS_LINEAR_COUNT_MAX);
	for (uint32_t i = 0; i < count; i++)
		linear_one(ref_of(ops), &args[i], false);
	return 0;
}

int ref_gate_up(struct ops *ops, const struct gate_up_args *args)
{
	struct linear_args part = {
		.rows = args->rows,
		.x = args->x,
		.x_stride = args->x_stride,
		.weight = args->gate,
		.scale = 1,
		.lora = args->gate_lora,
		.out = args->out,
		.out_stride = args->out_stride,
	};

	assert(args->gate.rows == args->up.rows);
	linear_one(ref_of(ops), &part, false);
	part.weight = args->up;
	part.lora = args->up_lora;
	linear_one(ref_of(ops), &part, true);
	return 0;
}

static void gather_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct gather_args *args = arg;
	size_t width = args->width;

	(void)worker;
	for (size_t i = first; i < end; i++)
		memcpy(args->out + i * width, args->x + args->index[i] * width,
			width * sizeof(float));
}

int ref_gather(struct ops *ops, const struct gather_args *args)
{
	struct ref_backend *ref = ref_of(ops);

	workers_run(ref->workers, args->count, gather_rows, args);
	return 0;
}
