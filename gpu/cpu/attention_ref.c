/* attention_ref.c - kv_write and attention in plain C */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of attention, for one row and head (softmax in chunks: Milakov
 * and Gimelshein, arXiv 1805.02867):
 *   for each chunk of ATTENTION_CHUNK_TOKENS positions that holds a visible
 *   one, in ascending order:
 *      s[t] = scale * (q . K[t])           the dot product of dot_ref.h
 *      m = the largest s[t]
 *      p[t] = expf(s[t] - m)               0 where t is not visible
 *      l = sum of p                        in dot_ref.h's order, from the
 *                                          beginning of the chunk
 *      o = sum of p[t] * V[t]              t ascending from +0
 *   merge (m, l, o) of the chunk into (M, L, O), which begin as the first
 *   chunk's:
 *      N = max(M, m), a = expf(M - N), b = expf(m - N)
 *      L = L * a + l * b, O = O * a + o * b, M = N
 *   out = O / L
 * Positions that a row may not see are never read, so what they hold, a NaN
 * too, is without effect.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/dot_ref.h"
#include "gpu/cpu/kv_token.h"

static void kv_check(const struct kv_view *kv, uint32_t layer)
{
	assert(kv->type == DTYPE_F32 || kv->type == DTYPE_BF16);
	assert(kv->block_tokens > 0);
	assert(layer / kv->layers_per_page < kv->pages_per_block);
}

static void kv_write_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct kv_write_args *args = arg;
	const struct kv_view *kv = &args->kv;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		unsigned char *token = kv_token(kv, args->layer,
			args->rows.sequence[r], args->rows.position[r]);
		const float *key = args->key + r * args->key_stride;

		for (uint32_t i = 0; i < args->key_width; i++)
			dtype_store(token, kv->type, i, key[i]);
		for (uint32_t i = 0; i < args->value_width; i++)
			dtype_store(token + kv->value_offset_bytes, kv->type, i,
				args->value[r * args->value_stride + i]);
	}
}

int ref_kv_write(struct ops *ops, const struct kv_write_args *args)
{
	struct ref_backend *ref = ref_of(ops);
	size_t size = dtype_size(args->kv.type);

	kv_check(&args->kv, args->layer);
	assert(args->key_width * size <= args->kv.token_stride_bytes);
	assert(args->value_width == 0 ||
		(args->key_width * size <= args->kv.value_offset_bytes &&
			args->kv.value_offset_bytes +
					args->value_width * size <=
				args->kv.token_stride_bytes));
	workers_run(ref->workers, args->rows.count, kv_write_rows, args);
	return 0;
}

struct attention_job {
	struct ref_backend *ref;
	const struct attention_args *args;
};

/* One row and head, and where its chunks are computed. */
struct attention_item {
	const struct attention_args *args;
	uint32_t sequence;
	size_t key_offset_bytes,
		value_offset_bytes; /* of the head in a token */
	const float *q; /* [key_dim] */
	float *p; /* [ATTENTION_CHUNK_TOKENS] */
	float *o; /* [value_dim] */
};

struct softmax_part {
	float max, sum;
};

/*
 * The part of positions first .. end-1, which lie in the chunk that begins at
 * `base`; o gets the weighted values.
 */
static struct softmax_part attention_chunk(const struct attention_item *item,
	uint32_t base, uint32_t first, uint32_t end)
{
	const struct attention_args *args = item->args;
	const struct kv_view *kv = &args->kv;
	struct softmax_part part = {-INFINITY, 0};
	float *p = item->p;

	memset(p, 0, (first - base) * sizeof(*p));
	for (uint32_t t = first; t < end; t++) {
		const unsigned char *token =
			kv_token(kv, args->layer, item->sequence, t);
		float score = args->scale *
			      dot_ref(item->q, token + item->key_offset_bytes,
				      kv->type, args->key_dim);

		p[t - base] = score;
		part.max = score > part.max ? score : part.max;
	}
	for (uint32_t t = first; t < end; t++)
		p[t - base] = expf(p[t - base] - part.max);
	part.sum = sum_ref(p, end - base);
	memset(item->o, 0, args->value_dim * sizeof(*item->o));
	for (uint32_t t = first; t < end; t++)
		axpy_ref(p[t - base],
			kv_token(kv, args->layer, item->sequence, t) +
				item->value_offset_bytes,
			kv->type, args->value_dim, item->o);
	return part;
}

/* Merge a chunk's part and values o into *total and out. */
static void attention_merge(struct softmax_part *total,
	struct softmax_part part, const float *o, uint32_t width, float *out)
{
	float max = part.max > total->max ? part.max : total->max;
	float a = expf(total->max - max);
	float b = expf(part.max - max);

	for (uint32_t i = 0; i < width; i++)
		out[i] = out[i] * a + o[i] * b;
	total->sum = total->sum * a + part.sum * b;
	total->max = max;
}

static void attention_row(
	const struct attention_item *item, uint32_t position, float *out)
{
	const struct attention_args *args = item->args;
	uint32_t width = args->value_dim;
	uint32_t first = args->window > 0 && position >= args->window
				 ? position - args->window + 1
				 : 0;
	uint32_t start =
		first / ATTENTION_CHUNK_TOKENS * ATTENTION_CHUNK_TOKENS;
	struct softmax_part total = {0};

	for (uint32_t base = start; base <= position;
		base += ATTENTION_CHUNK_TOKENS) {
		uint32_t from = base > first ? base : first;
		uint32_t rest = position - base;
		uint32_t end = rest < ATTENTION_CHUNK_TOKENS
				       ? position + 1
				       : base + ATTENTION_CHUNK_TOKENS;
		struct softmax_part part =
			attention_chunk(item, base, from, end);

		if (base == start) {
			total = part;
			memcpy(out, item->o, width * sizeof(*out));
		} else {
			attention_merge(&total, part, item->o, width, out);
		}
	}
	for (uint32_t i = 0; i < width; i++)
		out[i] /= total.sum;
}

static void attention_items(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct attention_job *job = arg;
	const struct attention_args *args = job->args;
	const struct kv_view *kv = &args->kv;
	size_t size = dtype_size(kv->type);
	uint32_t group = args->head_count / args->kv_head_count;
	float *scratch = ref_scratch(job->ref, worker,
		(ATTENTION_CHUNK_TOKENS + (size_t)args->value_dim) *
			sizeof(float));

	for (size_t i = first; i < end; i++) {
		size_t r = i / args->head_count;
		size_t g = i % args->head_count / group;
		struct attention_item item = {
			.args = args,
			.sequence = args->rows.sequence[r],
			.key_offset_bytes = g * args->key_dim * size,
			.value_offset_bytes = kv->value_offset_bytes +
					      g * args->value_dim * size,
			.q = args->q + i * args->key_dim,
			.p = scratch,
			.o = scratch + ATTENTION_CHUNK_TOKENS,
		};

		attention_row(&item, args->rows.position[r],
			args->out + i * args->value_dim);
	}
}

int ref_attention(struct ops *ops, const struct attention_args *args)
{
	struct ref_backend *ref = ref_of(ops);
	struct attention_job job = {.ref = ref, .args = args};

	kv_check(&args->kv, args->layer);
	assert(args->kv_head_count > 0);
	assert(args->head_count % args->kv_head_count == 0);
	workers_run(ref->workers, (size_t)args->rows.count * args->head_count,
		attention_items, &job);
	return 0;
}
