/* gemm_amx_row.c - one row times panels of bf16, with the bits of tiles */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A row alone would leave tile registers nearly empty, and vectors of weights
 * come from memory faster than tiles of them do: the arithmetic of TDPBF16PS,
 * step by step.
 */
#include "gpu/cpu/gemm_amx_parts.h"

/* The parts of a block's columns as floats, zeros behind the last. */
struct columns {
	_Alignas(LINE_BYTES) float part[AMX_PARTS][AMX_COLS];
};

KERNEL_FN void split_columns(
	const float *row, size_t count, struct columns *out)
{
	size_t left = count < VEC_LANES ? count : VEC_LANES;
	struct parts a = parts_of(vec_load_part(row, left).v);
	struct parts b = parts_of(vec_load_part(row + left, count - left).v);

#pragma GCC unroll 3
	for (size_t i = 0; i < AMX_PARTS; i++) {
		_mm512_store_si512(out->part[i], a.part[i]);
		_mm512_store_si512(out->part[i] + VEC_LANES, b.part[i]);
	}
}

/* The running sums while they are in registers. */
struct totals {
	struct vec part[AMX_PARTS][2];
};

/* Block b of each panel. */
KERNEL_FN void row_block(const struct blocks *blocks, size_t b,
	const struct columns *x, struct totals *total, const int panels)
{
	struct vec even[AMX_PARTS][2], odd[AMX_PARTS][2], weight[2][2];
	const unsigned char *w[2], *ahead[2];

	for (int p = 0; p < panels; p++) {
		w[p] = blocks->w[p] + b * BLOCK_BYTES;
		ahead[p] = block_at(blocks, b + ROW_BLOCKS_AHEAD, p);
	}
#pragma GCC unroll 3
	for (size_t i = 0; i < AMX_PARTS; i++)
		even[i][0] = even[i][1] = odd[i][0] = odd[i][1] = vec_set(0);
	for (size_t k = 0; k < AMX_COLS; k += 2) {
		for (int p = 0; p < panels; p++) {
			const void *line = w[p] + k / 2 * LINE_BYTES;

			_mm_prefetch(
				(const char *)ahead[p] + k / 2 * LINE_BYTES,
				_MM_HINT_T0);
			vec_load_bf16_pairs(line, &weight[0][p], &weight[1][p]);
		}
#pragma GCC unroll 3
		for (size_t i = 0; i < AMX_PARTS; i++)
			for (int p = 0; p < panels; p++) {
				even[i][p] = vec_fma(vec_set(x->part[i][k]),
					weight[0][p], even[i][p]);
				odd[i][p] = vec_fma(vec_set(x->part[i][k + 1]),
					weight[1][p], odd[i][p]);
			}
	}
#pragma GCC unroll 3
	for (size_t i = 0; i < AMX_PARTS; i++)
		for (int p = 0; p < panels; p++)
			total->part[i][p] = vec_add(total->part[i][p],
				vec_add(even[i][p], odd[i][p]));
}

KERNEL_FN void run_row(const float *x, const struct blocks *blocks,
	struct row_sums *sums, const int panels)
{
	struct totals total;
	struct columns columns;

	for (size_t i = 0; i < AMX_PARTS; i++)
		for (int p = 0; p < panels; p++)
			total.part[i][p] = vec_load(
				sums->part[i] + (size_t)p * PANEL_ROWS);
	for (size_t b = 0; b < blocks->count; b++) {
		size_t rest = blocks->cols - b * AMX_COLS;

		split_columns(x + b * AMX_COLS,
			rest < AMX_COLS ? rest : AMX_COLS, &columns);
		row_block(blocks, b, &columns, &total, panels);
	}
	for (size_t i = 0; i < AMX_PARTS; i++)
		for (int p = 0; p < panels; p++)
			vec_store(sums->part[i] + (size_t)p * PANEL_ROWS,
				total.part[i][p]);
}

KERNEL_ATTRIBUTES static void row_1(
	const float *x, const struct blocks *blocks, struct row_sums *sums)
{
	run_row(x, blocks, sums, 1);
}

KERNEL_ATTRIBUTES static void row_2(
	const float *x, const struct blocks *blocks, struct row_sums *sums)
{
	run_row(x, blocks, sums, 2);
}

void amx_row_step(const float *x, const struct blocks *blocks, int panels,
	struct row_sums *sums)
{
	if (panels == 2)
		row_2(x, blocks, sums);
	else
		row_1(x, blocks, sums);
}
