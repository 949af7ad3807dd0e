/* gemm_amx.h - rows times panels of bf16 by AMX, exact in the rows */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        AMX multiplies bf16 by bf16 and adds in f32, many times as fast
 *             as vectors multiply f32. A weight is a bf16; an activation is an
 *             f32, whose 24 bits are three bf16 of 8 bits each, without any
 *             rounding. So three products give what one of f32 would, and no
 *             bit of an activation is lost.
 * Packed:     a tile of `count` > 1 rows is [blocks][3 * count][32] bf16: for
 *             each 32 columns, row r's upper, middle and lower parts at 3 r,
 *             3 r + 1 and 3 r + 2; columns behind the last are zeros. One row
 *             is itself, and multiplied by vectors. 16 outputs x 32 columns of
 *             a panel (base/weight_format.h) are, as they lie, a tile register.
 * Arithmetic: of each block of 32 columns, products of even and of odd columns
 *             are added apart, ascending, from +0, by fused multiply-adds; the
 *             two sums are added to each other, and that to the running sum of
 *             the part, which begins at +0. An output is (lower + middle) +
 *             upper. No result depends on the number of rows, the tile that a
 *             row is in, or the panel beside. Source: Intel 64 and IA-32
 *             Architectures Software Developer's Manual, TDPBF16PS.
 * Limits:     numbers below 2^-126 count as zeros, as the instruction takes
 *             them; so does a part below that. Infinities and quiet NaN stay.
 *             Vectors do so in a mode of the thread, in which sweeps are made
 *             and what follows them is computed: gemm_begin().
 * Threads:    pure functions on the caller's memory. The tile registers of the
 *             threads that sweep are this module's alone: they stay configured.
 */
#ifndef HEDDLE_GPU_CPU_GEMM_AMX_H
#define HEDDLE_GPU_CPU_GEMM_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Columns that one multiplication takes, and parts of an activation. */
#define AMX_COLS 32
#define AMX_PARTS 3

/* Rows of a tile and of a sweep: 3 * 10 parts are two tile registers. */
#define AMX_TILE_ROWS 10
#define AMX_SWEEP_ROWS 90

struct gemm_pair;
struct gemm_tile;

/* LDTILECFG's operand: eight registers of at most 16 rows of 64 bytes. */
struct amx_tile_config {
	uint8_t palette, start;
	uint8_t reserved[14];
	uint16_t line_bytes[16];
	uint8_t rows[16];
};

_Static_assert(
	sizeof(struct amx_tile_config) == 64, "as the processor reads it");

/*
 * Has the processor the instructions, and lets the kernel this process use
 * them? Asks the kernel for them, which holds for all threads.
 */
bool amx_works(void);

/* Bytes of one packed row. */
static inline size_t amx_row_bytes(size_t cols)
{
	return (cols + AMX_COLS - 1) / AMX_COLS * AMX_COLS * AMX_PARTS *
	       sizeof(uint16_t);
}

/* gemm_sweep() for pairs of bf16 and tiles in this form, between gemm_begin()
 * and gemm_end(). */
void amx_sweep(const struct gemm_pair *pair, const struct gemm_tile *tiles,
	uint32_t tile_count, float (*sum)[32]);

/* Pack rows[0 .. count - 1], cols columns of each. */
void amx_pack(
	const float *const *rows, uint32_t count, uint32_t cols, void *out);

/*
 * Columns n .. n + width - 1 of row `row` of a packed tile of `count` rows;
 * n is a multiple of 16, width at most 16 and less only where the row ends.
 * value has 16 places.
 */
void amx_put(void *tile, uint32_t count, uint32_t row, size_t cols, size_t n,
	const float *value);

/* Row `row` of a packed tile of `count` rows, as it was. */
void amx_row(const void *tile, uint32_t count, uint32_t row, size_t cols,
	float *out);

#endif
