/* fast_gemm.h - rows times panels of weights, the core of every product */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        a linear, an expert, a router and a half of MLA's kv_b_proj are
 *             the same loop: some rows of x against two panels of weights
 *             (base/weight_format.h) that are read once, for any number of
 *             rows.
 * Forms:      rows are packed in tiles, as floats or, for the tile registers of
 *             AMX, split (gpu/cpu/gemm_amx.h); the back end and the weights'
 *             type say which.
 * Tiles:      the sums of a tile's rows, at most GEMM_TILE_ROWS, stay in
 *             registers for a chunk of columns. A tile of one row is the row
 *             itself; floats of more have x[k] of all of them side by side.
 *             One sweep takes GEMM_SWEEP_ROWS at most, as many as have their
 *             inputs in the second cache.
 * Invariants: an output's order of arithmetic is that of backend_fast.h or of
 *             gemm_amx.h, whatever tile its row is in and whatever panel
 *             stands beside.
 * Threads:    pure functions on the caller's memory.
 */
#ifndef HEDDLE_GPU_CPU_FAST_GEMM_H
#define HEDDLE_GPU_CPU_FAST_GEMM_H

#include <string.h>

#include "gpu/cpu/backend_fast.h"
#include "gpu/cpu/gemm_amx.h"

#ifdef __AVX512F__
#define GEMM_TILE_ROWS 12
#define GEMM_SWEEP_ROWS 96
#else
#define GEMM_TILE_ROWS 6
#define GEMM_SWEEP_ROWS 48
#endif

/* Tiles of a sweep at most, of whichever form. */
#define GEMM_SWEEP_TILES 9

/* Outputs of a pair of panels. */
#define GEMM_WIDTH 32

_Static_assert(GEMM_WIDTH == 2 * PANEL_ROWS, "two panels");
_Static_assert(GEMM_SWEEP_ROWS % GEMM_TILE_ROWS == 0, "whole tiles");
_Static_assert(GEMM_SWEEP_ROWS / GEMM_TILE_ROWS <= GEMM_SWEEP_TILES, "floats");
_Static_assert(AMX_SWEEP_ROWS / AMX_TILE_ROWS <= GEMM_SWEEP_TILES, "split");

/*
 * Bytes of the area for packed rows: enough for all of a step or, where that
 * would be very much, for what keeps the processor busy; operations take as
 * many passes as they need.
 */
#define GEMM_PACKED_MAX ((size_t)32 << 20)

enum gemm_form { GEMM_FLOATS, GEMM_SPLIT };

struct gemm_tile {
	const void *x; /* floats: [cols][count], as of one row */
	uint32_t first; /* row, for the user */
	uint32_t count; /* 1 .. GEMM_TILE_ROWS */
};

/* Two panels of matrices of the same type and number of columns. */
struct gemm_pair {
	const unsigned char *panel[2];
	const unsigned char *next[2]; /* needed next; NULL = not known */
	uint32_t width[2]; /* outputs, 1 .. PANEL_ROWS; [1] may be 0 */
	uint32_t cols;
	enum dtype type;
	enum gemm_form form; /* of the tiles */
};

/* How rows for weights of `type` are packed. */
static inline enum gemm_form gemm_form(
	const struct fast_backend *fast, enum dtype type)
{
	return fast->has_amx && type == DTYPE_BF16 ? GEMM_SPLIT : GEMM_FLOATS;
}

/* Bytes of a packed row; the most of any form. */
static inline size_t gemm_row_bytes(enum gemm_form form, size_t cols)
{
	return form == GEMM_SPLIT ? amx_row_bytes(cols) : cols * sizeof(float);
}

static inline size_t gemm_row_room(size_t cols)
{
	return amx_row_bytes(cols);
}

/*
 * sum[i][j] = row i of the tiles, in their order, . output j of the pair;
 * output j of the second panel is at PANEL_ROWS + j. The rows of all tiles
 * are at most GEMM_SWEEP_ROWS. Outputs beyond a panel's width are undefined.
 */
void FAST(gemm_sweep)(const struct gemm_pair *pair,
	const struct gemm_tile *tiles, uint32_t tile_count,
	float (*sum)[GEMM_WIDTH]);

/* The packed form of the rows rows[0 .. count - 1], a tile. */
void FAST(gemm_pack)(enum gemm_form form, const float *const *rows,
	uint32_t count, uint32_t cols, void *out);

/*
 * Columns n .. n + width - 1 of a tile of `count` rows, n a multiple of
 * PANEL_ROWS: row[r] has those of row r; what is behind them is overwritten.
 */
void FAST(gemm_put)(enum gemm_form form, struct vec row[VEC_LANES],
	uint32_t count, size_t cols, size_t n, void *tile);

/* Row r of a packed tile. */
void FAST(gemm_row)(enum gemm_form form, const struct gemm_tile *tile,
	uint32_t r, size_t cols, float *out);

/* x[0 .. count - 1] . w[0 .. count - 1], in an order of its own. */
float FAST(gemm_dot)(
	const float *x, const void *w, enum dtype type, size_t count);

/* Elements first .. first + 15 of an array of `type` as floats. */
VEC_FN struct vec gemm_load(const void *w, enum dtype type, size_t first)
{
	const uint16_t *half = (const uint16_t *)w + first;

	if (type == DTYPE_F32)
		return vec_load((const float *)w + first);
	return type == DTYPE_BF16 ? vec_load_bf16(half) : vec_load_f16(half);
}

/* The first `count` of them, at most 16, and zeros behind. */
static inline struct vec gemm_load_part(
	const void *w, enum dtype type, size_t first, size_t count)
{
	uint16_t half[VEC_LANES] = {0};

	if (type == DTYPE_F32)
		return vec_load_part((const float *)w + first, count);
	memcpy(half, (const uint16_t *)w + first, count * sizeof(*half));
	return type == DTYPE_BF16 ? vec_load_bf16(half) : vec_load_f16(half);
}

/* silu(g) * u, where silu(g) = g / (1 + exp(-g)). */
VEC_FN struct vec gemm_gated(struct vec g, struct vec u)
{
	struct vec e = vec_exp(vec_sub(vec_set(0), g));

	return vec_mul(vec_div(g, vec_add(vec_set(1), e)), u);
}

static inline uint32_t gemm_tile_rows(enum gemm_form form)
{
	return form == GEMM_SPLIT ? AMX_TILE_ROWS : GEMM_TILE_ROWS;
}

static inline uint32_t gemm_sweep_rows(enum gemm_form form)
{
	return form == GEMM_SPLIT ? AMX_SWEEP_ROWS : GEMM_SWEEP_ROWS;
}

/* How many tiles `rows` rows make, all of about the same size. */
static inline uint32_t gemm_tile_count(enum gemm_form form, uint32_t rows)
{
	return (uint32_t)div_up(rows, gemm_tile_rows(form));
}

/* The first row of tile `tile`; that of tile `count` is `rows`. */
static inline uint32_t gemm_tile_first(
	uint32_t rows, uint32_t count, uint32_t tile)
{
	uint32_t extra = rows % count;

	return rows / count * tile + (tile < extra ? tile : extra);
}

/* As many of the next `tiles` tiles as one sweep takes. */
static inline uint32_t gemm_sweep_tiles(enum gemm_form form, uint32_t tiles)
{
	uint32_t most = gemm_sweep_rows(form) / gemm_tile_rows(form);

	return tiles < most ? tiles : most;
}

/* Numbers below 2^-126 are zeros, going in and coming out. */
#define GEMM_FLUSHES 0x8040u

/*
 * Before the sweeps of a range and after them, with what the first returned.
 * Whatever is computed between, for any number of rows, flushes as the tile
 * registers do. Once for a range: to change the mode waits for all arithmetic
 * that is under way.
 */
static inline unsigned int gemm_begin(enum gemm_form form)
{
	unsigned int before = _mm_getcsr();

	if (form == GEMM_SPLIT)
		_mm_setcsr(before | GEMM_FLUSHES);
	return before;
}

static inline void gemm_end(enum gemm_form form, unsigned int before)
{
	if (form == GEMM_SPLIT)
		_mm_setcsr(before);
}

/* What a product costs one core, roughly: for workers_run_cost(). */
static inline uint64_t gemm_cost_ns(
	enum gemm_form form, uint64_t rows, uint64_t outputs, uint64_t cols)
{
	uint64_t memory_ns = outputs * cols / 4;
	uint64_t arithmetic_ns =
		rows * outputs * cols / (form == GEMM_SPLIT ? 128 : 32);

	return memory_ns > arithmetic_ns ? memory_ns : arithmetic_ns;
}

#endif
