/* weight_format.h - how the elements of a matrix lie in memory */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:    a checkpoint stores a matrix row by row, one output after the
 *         other. A CPU kernel wants sixteen outputs side by side, so that
 *         one vector register holds sixteen sums and a weight is read once,
 *         in the order in which memory delivers it. The loader repacks once.
 *
 * Layouts of a matrix [rows][cols], rows = outputs (n), cols = inputs (k):
 *   WEIGHT_ROWS     element (n, k) at n * cols + k.
 *   WEIGHT_PANELS   panels of 16 rows, one after the other; the last panel
 *                   has w = rows % 16 rows when that is not 0, and no padding.
 *                   Panel p begins at element 16 * p * cols. In a panel of w
 *                   rows element (n, k) is
 *                     f32, f16: at k * w + n % 16;
 *                     bf16:     at (k / 2) * 2 * w + (n % 16) * 2 + k % 2
 *                     (columns in pairs, so that one 64-byte load gives both
 *                     columns of a pair by a shift and a mask); the last
 *                     column of an odd count stands alone: at k * w + n % 16.
 *   WEIGHT_MLA_PANELS  MLA's kv_b_proj [heads * (nope + value)][latent]: head
 *                   h begins at element h * (nope + value) * latent with its
 *                   key part transposed, the panels of [latent][nope], then
 *                   its value part, the panels of [value][latent]: either
 *                   half is then multiplied along its inner dimension.
 *
 * Invariants: a matrix takes rows * cols elements in every layout, and bytes
 *         are moved, never changed. The layout does not depend on the
 *         instruction set.
 */
#ifndef HEDDLE_BASE_WEIGHT_FORMAT_H
#define HEDDLE_BASE_WEIGHT_FORMAT_H

#define PANEL_ROWS 16

enum weight_layout {
	WEIGHT_ROWS,
	WEIGHT_PANELS,
	WEIGHT_MLA_PANELS,
	WEIGHT_LAYOUT_COUNT
};

#endif
