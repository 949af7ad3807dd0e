/* fast_gemm.c - rows times panels of weights, the core of every product */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "gpu/cpu/fast_gemm.h"

/* How far ahead weights and x are fetched. */
#define WEIGHTS_AHEAD 2048 /* bytes */
#define COLUMNS_AHEAD 16

/*
 * Sanitizers stay out of the kernels, which would take minutes to compile:
 * the tests end weights and x at unmapped pages.
 */
#define KERNEL_ATTRIBUTES                                                      \
	__attribute__((no_sanitize("address", "undefined", "thread")))
#define KERNEL_FN KERNEL_ATTRIBUTES VEC_FN

/* One chunk of columns for one tile. */
struct step {
	const float *x;
	const unsigned char *w[2];
	size_t count; /* columns, at most FAST_CHUNK */
	float *sum; /* [rows][GEMM_WIDTH] */
	bool is_first; /* sets the sums, which later ones add to */
};

/* Columns k and k + 1 of sixteen outputs; returns what comes next. */
KERNEL_FN const unsigned char *load_two(const unsigned char *from,
	const enum dtype type, struct vec *even, struct vec *odd)
{
	const void *at = from;
	const float *f32 = at;
	const uint16_t *half = at;

	if (type == DTYPE_F32) {
		*even = vec_load(f32);
		*odd = vec_load(f32 + VEC_LANES);
		return from + sizeof(float) * 2 * VEC_LANES;
	}
	if (type == DTYPE_BF16) {
		vec_load_bf16_pairs(half, even, odd);
	} else {
		*even = vec_load_f16(half);
		*odd = vec_load_f16(half + VEC_LANES);
	}
	return from + sizeof(uint16_t) * 2 * VEC_LANES;
}

/* The last column of an odd count. */
KERNEL_FN struct vec load_one(const unsigned char *from, const enum dtype type)
{
	const void *at = from;

	if (type == DTYPE_F32)
		return vec_load(at);
	return type == DTYPE_BF16 ? vec_load_bf16(at) : vec_load_f16(at);
}

/* Ask for the cache lines of `bytes` bytes; any address is allowed. */
KERNEL_FN void fetch(const void *from, const size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)from + i, _MM_HINT_T0);
}

/* One column of `rows` rows against `panels` panels. */
KERNEL_FN void multiply(const float *x, const struct vec *w,
	struct vec (*sum)[2], const size_t rows, const int panels)
{
#pragma GCC unroll 12
	for (size_t r = 0; r < rows; r++) {
		struct vec value = vec_set(x[r]);

		sum[r][0] = vec_fma(value, w[0], sum[r][0]);
		if (panels > 1)
			sum[r][1] = vec_fma(value, w[1], sum[r][1]);
	}
}

/* Where a kernel is on its way through a chunk. */
struct place {
	const unsigned char *w[2];
	const float *x;
};

/*
 * Two columns. Weights are fetched far ahead, because the hardware stops at
 * the end of a page; x, which lies in the second cache, a few columns ahead.
 */
KERNEL_FN void two_columns(struct place *at, struct vec (*sum)[2],
	const enum dtype type, const size_t rows, const int panels)
{
	struct vec even[2], odd[2];

	for (int p = 0; p < panels; p++) {
		fetch(at->w[p] + WEIGHTS_AHEAD, type == DTYPE_F32 ? 128 : 64);
		at->w[p] = load_two(at->w[p], type, &even[p], &odd[p]);
	}
	if (rows > 1)
		fetch(at->x + COLUMNS_AHEAD * rows, rows > 8 ? 128 : 64);
	multiply(at->x, even, sum, rows, panels);
	multiply(at->x + rows, odd, sum, rows, panels);
	at->x += 2 * rows;
}

KERNEL_FN void put_sum(const struct step *step, float *to, const struct vec sum)
{
	vec_store(to, step->is_first ? sum : vec_add(vec_load(to), sum));
}

/*
 * The body of every kernel: rows, panels and type are constants in each.
 * Sums never leave the registers on the way through the chunk.
 */
KERNEL_FN void run_step(const struct step *step, const enum dtype type,
	const size_t rows, const int panels)
{
	struct place at = {{step->w[0], step->w[1]}, step->x};
	struct vec sum[GEMM_TILE_ROWS][2], last[2];
	float *out = step->sum;
	size_t k = 0;

#pragma GCC unroll 12
	for (size_t r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = vec_set(0);
	for (; rows > 1 && k + 4 <= step->count; k += 4) {
		two_columns(&at, sum, type, rows, panels);
		two_columns(&at, sum, type, rows, panels);
	}
	for (; k + 2 <= step->count; k += 2)
		two_columns(&at, sum, type, rows, panels);
	if (k < step->count) {
		for (int p = 0; p < panels; p++)
			last[p] = load_one(at.w[p], type);
		multiply(at.x, last, sum, rows, panels);
	}
#pragma GCC unroll 12
	for (size_t r = 0; r < rows; r++) {
		float *to = out + r * GEMM_WIDTH;

		put_sum(step, to, sum[r][0]);
		if (panels > 1)
			put_sum(step, to + VEC_LANES, sum[r][1]);
	}
}

#define KERNEL(type, rows, panels)                                             \
	KERNEL_ATTRIBUTES static void step_##type##_##rows##_##panels(         \
		const struct step *step)                                       \
	{                                                                      \
		run_step(step, DTYPE_##type, rows, panels);                    \
	}
#define ENTRY(type, rows, panels) step_##type##_##rows##_##panels,

/* Every tile that the registers hold. */
#ifdef __AVX512F__
#define TILES(M, type, panels)                                                 \
	M(type, 1, panels)                                                     \
	M(type, 2, panels)                                                     \
	M(type, 3, panels)                                                     \
	M(type, 4, panels)                                                     \
	M(type, 5, panels)                                                     \
	M(type, 6, panels)                                                     \
	M(type, 7, panels)                                                     \
	M(type, 8, panels)                                                     \
	M(type, 9, panels)                                                     \
	M(type, 10, panels)                                                    \
	M(type, 11, panels)                                                    \
	M(type, 12, panels)
#define WIDE_ROWS 12
#define WIDE_TILES(M, type) TILES(M, type, 2)
#else
#define TILES(M, type, panels)                                                 \
	M(type, 1, panels)                                                     \
	M(type, 2, panels)                                                     \
	M(type, 3, panels)                                                     \
	M(type, 4, panels)                                                     \
	M(type, 5, panels)                                                     \
	M(type, 6, panels)
#define WIDE_ROWS 2
#define WIDE_TILES(M, type)                                                    \
	M(type, 1, 2)                                                          \
	M(type, 2, 2)
#endif

TILES(KERNEL, F32, 1)
TILES(KERNEL, BF16, 1)
TILES(KERNEL, F16, 1)
WIDE_TILES(KERNEL, F32)
WIDE_TILES(KERNEL, BF16)
WIDE_TILES(KERNEL, F16)

static void (*const narrow[DTYPE_COUNT][GEMM_TILE_ROWS])(
	const struct step *) = {
	[DTYPE_F32] = {TILES(ENTRY, F32, 1)},
	[DTYPE_BF16] = {TILES(ENTRY, BF16, 1)},
	[DTYPE_F16] = {TILES(ENTRY, F16, 1)},
};

static void (*const wide[DTYPE_COUNT][WIDE_ROWS])(const struct step *) = {
	[DTYPE_F32] = {WIDE_TILES(ENTRY, F32)},
	[DTYPE_BF16] = {WIDE_TILES(ENTRY, BF16)},
	[DTYPE_F16] = {WIDE_TILES(ENTRY, F16)},
};

static size_t chunk_count(size_t first, size_t count)
{
	return count - first < FAST_CHUNK ? count - first : FAST_CHUNK;
}

/* The tiles and their sums; all rows go through the same chunk in turn. */
struct sweep {
	const struct gemm_pair *pair;
	const struct gemm_tile *tiles;
	uint32_t tile_count;
	float (*sum)[GEMM_WIDTH];
};

/* The beginning of the next panel, which no run through this one reaches. */
static void fetch_next(const struct gemm_pair *pair, int panel)
{
	if (pair->next[panel])
		for (size_t i = 0; i < WEIGHTS_AHEAD; i += 64)
			fetch(pair->next[panel] + i, 64);
}

/* Panels first .. first + panels - 1, all of PANEL_ROWS outputs. */
static void sweep_full(const struct sweep *sweep, int first, int panels)
{
	const struct gemm_pair *pair = sweep->pair;
	size_t line = PANEL_ROWS * dtype_size(pair->type);

	for (size_t k = 0; k < pair->cols; k += FAST_CHUNK) {
		struct step step = {.count = chunk_count(k, pair->cols),
			.is_first = k == 0};
		float *sum = sweep->sum[0] + (size_t)first * PANEL_ROWS;

		for (int p = 0; p < panels; p++) {
			step.w[p] = pair->panel[first + p] + k * line;
			if (k + step.count == pair->cols)
				fetch_next(pair, first + p);
		}
		for (uint32_t t = 0; t < sweep->tile_count; t++) {
			const struct gemm_tile *tile = &sweep->tiles[t];

			step.x = (const float *)tile->x + k * tile->count;
			step.sum = sum;
			if (panels == 2)
				wide[pair->type][tile->count - 1](&step);
			else
				narrow[pair->type][tile->count - 1](&step);
			sum += (size_t)tile->count * GEMM_WIDTH;
		}
	}
}

/* Columns k .. k + count - 1 of a panel of `width` outputs as floats. */
static void widen(const struct gemm_pair *pair, int panel, size_t k,
	size_t count, float *out)
{
	size_t width = pair->width[panel];
	size_t size = dtype_size(pair->type);
	const unsigned char *from = pair->panel[panel] + k * width * size;
	size_t i = 0;

	if (pair->type == DTYPE_BF16) {
		for (; i + 2 <= count; i += 2, from += 2 * width * size) {
			struct vec even, odd;

			vec_split_bf16_pairs(
				vec_load_part((const void *)from, width), &even,
				&odd);
			vec_store(out + i * PANEL_ROWS, even);
			vec_store(out + (i + 1) * PANEL_ROWS, odd);
		}
	}
	for (; i < count; i++, from += width * size) {
		uint16_t half[PANEL_ROWS] = {0};
		struct vec value;

		if (pair->type == DTYPE_F32) {
			value = vec_load_part((const void *)from, width);
		} else {
			memcpy(half, from, width * size);
			value = pair->type == DTYPE_BF16 ? vec_load_bf16(half)
							 : vec_load_f16(half);
		}
		vec_store(out + i * PANEL_ROWS, value);
	}
}

/* A panel of fewer outputs: the rest of the lanes works on zeros. */
static void sweep_part(const struct sweep *sweep, int panel)
{
	const struct gemm_pair *pair = sweep->pair;
	float buffer[FAST_CHUNK * PANEL_ROWS];

	for (size_t k = 0; k < pair->cols; k += FAST_CHUNK) {
		float *sum = sweep->sum[0] + (size_t)panel * PANEL_ROWS;
		struct step step = {.count = chunk_count(k, pair->cols),
			.is_first = k == 0};

		widen(pair, panel, k, step.count, buffer);
		step.w[0] = (const unsigned char *)buffer;
		for (uint32_t t = 0; t < sweep->tile_count; t++) {
			const struct gemm_tile *tile = &sweep->tiles[t];

			step.x = (const float *)tile->x + k * tile->count;
			step.sum = sum;
			narrow[DTYPE_F32][tile->count - 1](&step);
			sum += (size_t)tile->count * GEMM_WIDTH;
		}
	}
}

void FAST(gemm_sweep)(const struct gemm_pair *pair,
	const struct gemm_tile *tiles, uint32_t tile_count,
	float (*sum)[GEMM_WIDTH])
{
	struct sweep sweep = {pair, tiles, tile_count, sum};
	bool is_wide = true;
	uint32_t rows = 0;

	if (pair->form == GEMM_SPLIT) {
		amx_sweep(pair, tiles, tile_count, sum);
		return;
	}
	for (uint32_t t = 0; t < tile_count; t++) {
		assert(tiles[t].count >= 1 && tiles[t].count <= GEMM_TILE_ROWS);
		rows += tiles[t].count;
		is_wide = is_wide && tiles[t].count <= WIDE_ROWS;
	}
	assert(rows <= GEMM_SWEEP_ROWS);
	if (is_wide && pair->width[0] == PANEL_ROWS &&
		pair->width[1] == PANEL_ROWS) {
		sweep_full(&sweep, 0, 2);
		return;
	}
	for (int p = 0; p < 2 && pair->width[p] > 0; p++) {
		if (pair->width[p] == PANEL_ROWS)
			sweep_full(&sweep, p, 1);
		else
			sweep_part(&sweep, p);
	}
}

/* Four columns of four rows. */
static void pack_square(
	const float *const *rows, uint32_t count, size_t k, float *out)
{
	__m128 a = _mm_loadu_ps(rows[0] + k), b = _mm_loadu_ps(rows[1] + k);
	__m128 c = _mm_loadu_ps(rows[2] + k), d = _mm_loadu_ps(rows[3] + k);

	_MM_TRANSPOSE4_PS(a, b, c, d);
	_mm_storeu_ps(out + k * count, a);
	_mm_storeu_ps(out + (k + 1) * count, b);
	_mm_storeu_ps(out + (k + 2) * count, c);
	_mm_storeu_ps(out + (k + 3) * count, d);
}

static void pack_floats(
	const float *const *rows, uint32_t count, uint32_t cols, float *out)
{
	size_t whole = cols - cols % 4;

	/* The last four rows may have been among those before. */
	for (uint32_t r = 0; count >= 4 && r < count; r += 4) {
		uint32_t first = r < count - 4 ? r : count - 4;

		for (size_t k = 0; k < whole; k += 4)
			pack_square(rows + first, count, k, out + first);
	}
	for (uint32_t r = 0; r < count; r++)
		for (size_t k = count >= 4 ? whole : 0; k < cols; k++)
			out[k * count + r] = rows[r][k];
}

void FAST(gemm_pack)(enum gemm_form form, const float *const *rows,
	uint32_t count, uint32_t cols, void *out)
{
	if (form == GEMM_SPLIT)
		amx_pack(rows, count, cols, out);
	else
		pack_floats(rows, count, cols, out);
}

/* The rows are side by side in the tile: turned around in registers. */
static void put_floats(
	struct vec row[VEC_LANES], uint32_t count, size_t width, float *to)
{
	if (count == 1) {
		vec_store_part(to, row[0], width);
		return;
	}
	for (size_t r = count; r < VEC_LANES; r++)
		row[r] = vec_set(0);
	vec_transpose(row);
	for (size_t j = 0; j < width; j++)
		vec_store_part(to + j * count, row[j], count);
}

void FAST(gemm_put)(enum gemm_form form, struct vec row[VEC_LANES],
	uint32_t count, size_t cols, size_t n, void *tile)
{
	size_t width = cols - n < PANEL_ROWS ? cols - n : PANEL_ROWS;
	float value[VEC_LANES];

	if (form == GEMM_FLOATS || count == 1) {
		put_floats(row, count, width, (float *)tile + n * count);
		return;
	}
	for (uint32_t r = 0; r < count; r++) {
		vec_store(value, row[r]);
		amx_put(tile, count, r, cols, n, value);
	}
}

void FAST(gemm_row)(enum gemm_form form, const struct gemm_tile *tile,
	uint32_t r, size_t cols, float *out)
{
	const float *x = tile->x;

	if (form == GEMM_SPLIT && tile->count > 1) {
		amx_row(tile->x, tile->count, r, cols, out);
		return;
	}
	for (size_t i = 0; i < cols; i++)
		out[i] = x[i * tile->count + r];
}

#define DOT_STEP 64

/*
 * Four sums of sixteen lanes take sixteen elements each in turn; they are
 * added in pairs, then the lanes in halves.
 */
float FAST(gemm_dot)(
	const float *x, const void *w, enum dtype type, size_t count)
{
	struct vec sum[4] = {vec_set(0), vec_set(0), vec_set(0), vec_set(0)};
	size_t k = 0;

	for (; k + DOT_STEP <= count; k += DOT_STEP)
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++) {
			size_t at = k + i * VEC_LANES;

			sum[i] = vec_fma(vec_load(x + at),
				gemm_load(w, type, at), sum[i]);
		}
	for (size_t i = 0; k < count; i++, k += VEC_LANES) {
		size_t some = count - k < VEC_LANES ? count - k : VEC_LANES;

		sum[i] = vec_fma(vec_load_part(x + k, some),
			gemm_load_part(w, type, k, some), sum[i]);
	}
	return vec_sum(
		vec_add(vec_add(sum[0], sum[1]), vec_add(sum[2], sum[3])));
}
