/* panels.h - repacking a matrix (rows as in a checkpoint <-> panels) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        weights are repacked once, while they are loaded: the reader
 *             delivers a tensor in pieces, and each piece goes straight to
 *             its place in the layout of base/weight_format.h.
 * Invariants: a piece writes the places of its own elements and no others, so
 *             pieces may come in any order and on several threads at once;
 *             when all have come, the matrix is complete. Bytes are moved,
 *             never changed.
 * Ownership:  everything is the caller's.
 * Threads:    pure functions.
 * Limits:     f32, bf16 and f16. A piece of many whole rows is fastest: the
 *             ends of a piece that are no whole groups of 16 rows go row by
 *             row. Memory needs no alignment.
 */
#ifndef HEDDLE_GPU_CPU_PANELS_H
#define HEDDLE_GPU_CPU_PANELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/weight_format.h"

/* A matrix [rows][cols] of `type` and how it lies in memory. */
struct panels {
	enum weight_layout layout;
	enum dtype type;
	uint32_t rows, cols;
	uint32_t nope, value; /* WEIGHT_MLA_PANELS: rows of the two parts of a
				 head, at least one > 0; else unused. rows is
				 a multiple of nope + value */
};

/*
 * Put the elements first .. first + count - 1, counted in row-major order and
 * found at data, into the matrix at out.
 */
void panels_put(const struct panels *panels, void *out, size_t first,
	size_t count, const void *data);

/* Where element (row, col) is, in elements from the beginning. */
size_t panels_index(const struct panels *panels, uint32_t row, uint32_t col);

/* Copy row `row` of the matrix at data into out, [cols] of its type. */
void panels_row(
	const struct panels *panels, const void *data, uint32_t row, void *out);

#endif
