/* fast_lora.h - low-rank updates, one row and one panel of outputs at a time */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        y += scale * B (A x) belongs to rows, not to steps: it is added
 *             where a row's sums are finished, and it is small.
 * Arithmetic: A x is gemm_dot(); B . (A x) is one chain of fused
 *             multiply-adds from +0, rank ascending; then scale times that is
 *             added by one more.
 * Ownership:  struct lora_panel borrows its memory from the operation's
 *             scratch.
 * Threads:    one lora_panel per worker.
 */
#ifndef HEDDLE_GPU_CPU_FAST_LORA_H
#define HEDDLE_GPU_CPU_FAST_LORA_H

#include "gpu/cpu/fast_gemm.h"

/* Sixteen outputs of a B, turned; kept while the same ones are asked for. */
struct lora_panel {
	const struct lora_pair *pair; /* NULL = none yet */
	size_t first;
	float *turned; /* [rank][PANEL_ROWS] */
	float *wide; /* [PANEL_ROWS][rank] */
};

static inline size_t lora_panel_bytes(uint32_t rank_max)
{
	return fast_room(0, rank_max, sizeof(float) * 2 * PANEL_ROWS);
}

static inline struct lora_panel lora_panel_at(void *scratch, uint32_t rank_max)
{
	float *turned = scratch;

	return (struct lora_panel){
		.turned = turned,
		.wide = turned + (size_t)rank_max * PANEL_ROWS,
	};
}

/* The update of row r, NULL = none. */
static inline const struct lora_pair *lora_find(
	const struct lora_pair *pairs, const struct rows *rows, size_t r)
{
	const struct lora_pair *pair;

	if (!pairs || !rows->lora || rows->lora[r] == LORA_NONE)
		return NULL;
	pair = &pairs[rows->lora[r]];
	return pair->rank > 0 ? pair : NULL;
}

/* low[j] = row j of A . x, cols of them, for all of the rank. */
void FAST(lora_down)(
	const struct lora_pair *pair, const float *x, size_t cols, float *low);

/*
 * value[j] += scale * (row first + j of B . low) for j < width, at most
 * PANEL_ROWS; value has PANEL_ROWS places.
 */
void FAST(lora_up)(struct lora_panel *panel, const struct lora_pair *pair,
	size_t first, uint32_t width, const float *low, float *value);

/* A matrix of which columns are multiplied: element (n, c) at n * cols + c. */
struct lora_columns {
	const void *data;
	enum dtype type;
	size_t cols;
};

/*
 * out[c] += scale * (sum over n < count of x[n] * w[n][c]) for every column,
 * in the arithmetic of B . (A x).
 */
void FAST(lora_across)(const struct lora_columns *w, const float *x,
	size_t count, float scale, float *out);

#endif
