/* gemm_amx_parts.h - what the files of the split form share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        rows are taken apart both where tiles are packed and where a row
 *             alone is multiplied; both kinds of products walk through panels
 *             in the same blocks.
 * Invariants: as gemm_amx.h. A step is some blocks of one tile or row; what it
 *             adds to lies with its caller from one step to the next.
 * Threads:    pure functions on the caller's memory.
 */
#ifndef HEDDLE_GPU_CPU_GEMM_AMX_PARTS_H
#define HEDDLE_GPU_CPU_GEMM_AMX_PARTS_H

#include "gpu/cpu/fast_gemm.h"

/* 16 outputs x AMX_COLS columns of a panel, and the line of one pair of them. */
#define BLOCK_BYTES 1024
#define LINE_BYTES 64

/* How far ahead weights are fetched, in blocks, for tiles and for a row. */
#define TILE_BLOCKS_AHEAD 2
#define ROW_BLOCKS_AHEAD 3

/* Sanitizers stay out of the kernels, as out of those of fast_gemm.c. */
#define KERNEL_ATTRIBUTES                                                      \
	__attribute__((no_sanitize("address", "undefined", "thread")))
#define KERNEL_FN KERNEL_ATTRIBUTES VEC_FN

_Static_assert(BLOCK_BYTES == PANEL_ROWS * AMX_COLS * 2, "whole panels");
_Static_assert(LINE_BYTES == AMX_COLS * 2, "a part's columns of a block");

/* Upper halves of the lanes are the parts of x, each exact as a bf16. */
struct parts {
	__m512i part[AMX_PARTS];
};

KERNEL_FN struct parts parts_of(__m512 x)
{
	const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
	/* Nothing is left of an infinity or a NaN but itself. */
	__mmask16 finite = (__mmask16)~_mm512_fpclass_ps_mask(x, 0x99);
	struct parts out;
	__m512 rest;

	out.part[0] = _mm512_and_si512(_mm512_castps_si512(x), upper);
	rest = _mm512_maskz_sub_ps(finite, x, _mm512_castsi512_ps(out.part[0]));
	out.part[1] = _mm512_and_si512(_mm512_castps_si512(rest), upper);
	rest = _mm512_sub_ps(rest, _mm512_castsi512_ps(out.part[1]));
	out.part[2] = _mm512_castps_si512(rest);
	return out;
}

/* Some blocks of one or two panels, and where those behind them are. */
struct blocks {
	const unsigned char *w[2];
	const unsigned char *next[2]; /* NULL = not known */
	size_t count;
	size_t cols; /* of x, which may end within the last block */
};

/* Block b, which may be one of those behind, or the last when none is known. */
KERNEL_FN const unsigned char *block_at(
	const struct blocks *blocks, size_t b, const int panel)
{
	if (b < blocks->count)
		return blocks->w[panel] + b * BLOCK_BYTES;
	if (!blocks->next[panel])
		return blocks->w[panel] + (blocks->count - 1) * BLOCK_BYTES;
	return blocks->next[panel] + (b - blocks->count) * BLOCK_BYTES;
}

/* A row's running sums of each part. */
struct row_sums {
	_Alignas(LINE_BYTES) float part[AMX_PARTS][GEMM_WIDTH];
};

/* sums += x, from the first column of the blocks on, times the blocks. */
void amx_row_step(const float *x, const struct blocks *blocks, int panels,
	struct row_sums *sums);

#endif
