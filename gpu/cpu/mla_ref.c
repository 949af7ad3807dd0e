/* mla_ref.c - the per-head products of latent attention in plain C */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/dot_ref.h"

/* Columns that are summed at once; a column is computed alone. */
#define COLUMN_COUNT 64

/* A matrix of which columns are multiplied: element (n, c) at n * cols + c. */
struct columns {
	const void *data;
	enum dtype type;
	size_t cols;
};

/* Lanes are added in halves, every column by itself. */
static void fold_columns(float lanes[DOT_LANES][COLUMN_COUNT])
{
	for (size_t half = DOT_LANES / 2; half > 0; half /= 2)
		for (size_t j = 0; j < half; j++)
			for (size_t c = 0; c < COLUMN_COUNT; c++)
				lanes[j][c] += lanes[j + half][c];
}

/*
 * sum[c] = x[0 .. count-1] . column (first + c) of w: a dot product in the
 * order of dot_ref.h, for up to COLUMN_COUNT columns side by side. Columns
 * beyond column_count are computed from zeros and dropped.
 */
static void dot_columns(const float *x, size_t count, const struct columns *w,
	size_t first, size_t column_count, float *sum)
{
	float lanes[DOT_LANES][COLUMN_COUNT];
	float row[COLUMN_COUNT] = {0};

	for (size_t c = 0; c < column_count; c++)
		sum[c] = 0;
	for (size_t k = 0; k < count; k += DOT_CHUNK) {
		size_t end = k + chunk_count_ref(k, count);

		memset(lanes, 0, sizeof(lanes));
		for (size_t n = k; n < end; n++) {
			float *lane = lanes[n % DOT_LANES];

			convert_ref(w->data, w->type, n * w->cols + first,
				column_count, row);
			for (size_t c = 0; c < COLUMN_COUNT; c++)
				lane[c] += x[n] * row[c];
		}
		fold_columns(lanes);
		for (size_t c = 0; c < column_count; c++)
			sum[c] += lanes[0][c];
	}
}

struct mla_job {
	struct ref_backend *ref;
	const struct mla_args *args;
};

/* The update of row r, NULL = none. */
static const struct lora_pair *row_pair(const struct mla_job *job, size_t r)
{
	const struct mla_args *args = job->args;
	const struct lora_pair *pair;

	if (!args->lora || !args->rows.lora || args->rows.lora[r] == LORA_NONE)
		return NULL;
	pair = &args->lora[args->rows.lora[r]];
	assert(pair->rank <= job->ref->limits.lora_rank);
	return pair->rank > 0 ? pair : NULL;
}

static size_t column_rest(size_t first, size_t end)
{
	return end - first < COLUMN_COUNT ? end - first : COLUMN_COUNT;
}

/* low[j] = x . column j of the nope rows of B that belong to the head. */
static void absorb_low(const struct mla_args *args,
	const struct lora_pair *pair, size_t head_row, const float *x,
	float *low)
{
	struct columns b = {
		.data = row_ref(pair->b, pair->type, pair->rank, head_row),
		.type = pair->type,
		.cols = pair->rank,
	};

	for (size_t j = 0; j < pair->rank; j += COLUMN_COUNT)
		dot_columns(x, args->nope, &b, j, column_rest(j, pair->rank),
			low + j);
}

static void absorb_head(const struct mla_args *args,
	const struct lora_pair *pair, size_t head_row, const float *x,
	float *low, float *out)
{
	size_t latent = args->latent;
	struct columns w = {
		.data = row_ref(
			args->kv_b.data, args->kv_b.type, latent, head_row),
		.type = args->kv_b.type,
		.cols = latent,
	};
	float update[COLUMN_COUNT];

	for (size_t l = 0; l < latent; l += COLUMN_COUNT)
		dot_columns(
			x, args->nope, &w, l, column_rest(l, latent), out + l);
	for (uint32_t t = 0; t < args->tail; t++)
		out[latent + t] = x[args->nope + t];
	if (!pair)
		return;
	absorb_low(args, pair, head_row, x, low);
	w = (struct columns){pair->a, pair->type, latent};
	for (size_t l = 0; l < latent; l += COLUMN_COUNT) {
		size_t count = column_rest(l, latent);

		dot_columns(low, pair->rank, &w, l, count, update);
		for (size_t c = 0; c < count; c++)
			out[l + c] += pair->scale * update[c];
	}
}

static void expand_head(const struct mla_args *args,
	const struct lora_pair *pair, size_t head_row, const float *x,
	float *low, float *out)
{
	const struct weight *w = &args->kv_b;
	size_t first = head_row + args->nope;

	for (uint32_t v = 0; v < args->value; v++)
		out[v] = dot_ref(x,
			row_ref(w->data, w->type, args->latent, first + v),
			w->type, args->latent);
	if (!pair)
		return;
	for (uint32_t j = 0; j < pair->rank; j++)
		low[j] = dot_ref(x,
			row_ref(pair->a, pair->type, args->latent, j),
			pair->type, args->latent);
	for (uint32_t v = 0; v < args->value; v++)
		out[v] += pair->scale * dot_ref(low,
						row_ref(pair->b, pair->type,
							pair->rank, first + v),
						pair->type, pair->rank);
}

typedef void (*mla_head_fn)(const struct mla_args *args,
	const struct lora_pair *pair, size_t head_row, const float *x,
	float *low, float *out);

/* Items are [head][row], so that a head's weights stay in the cache. */
static void mla_items(const struct mla_job *job, size_t first, size_t end,
	uint32_t worker, mla_head_fn head_fn)
{
	const struct mla_args *args = job->args;
	float *low = ref_scratch(
		job->ref, worker, job->ref->limits.lora_rank * sizeof(float));

	for (size_t i = first; i < end; i++) {
		size_t h = i / args->rows.count;
		size_t r = i % args->rows.count;

		head_fn(args, row_pair(job, r), h * (args->nope + args->value),
			args->x + r * args->x_stride + h * args->x_head_stride,
			low,
			args->out + r * args->out_stride +
				h * args->out_head_stride);
	}
}

static void absorb_items(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	mla_items(arg, first, end, worker, absorb_head);
}

static void expand_items(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	mla_items(arg, first, end, worker, expand_head);
}

static int mla_run(struct ops *ops, const struct mla_args *args, workers_fn fn)
{
	struct mla_job job = {.ref = ref_of(ops), .args = args};

	assert(args->kv_b.data && args->kv_b.cols == args->latent);
	assert(args->kv_b.rows ==
		args->head_count * (args->nope + args->value));
	workers_run(job.ref->workers,
		(size_t)args->rows.count * args->head_count, fn, &job);
	return 0;
}

int ref_mla_absorb(struct ops *ops, const struct mla_args *args)
{
	return mla_run(ops, args, absorb_items);
}

int ref_mla_expand(struct ops *ops, const struct mla_args *args)
{
	return mla_run(ops, args, expand_items);
}
