/* gemm_amx.c - rows times panels of bf16 by AMX, exact in the rows */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gpu/cpu/gemm_amx_parts.h"

/*
 * Blocks of a chunk: those of two panels, and as much of the next two, stay in
 * the second cache while the tiles of a sweep go by. Smaller chunks, for the
 * first cache, lose by storing and loading sums what they gain.
 */
#define CHUNK_BLOCKS 64
#define CHUNK_COLS ((size_t)CHUNK_BLOCKS * AMX_COLS)

_Static_assert(AMX_TILE_ROWS <= GEMM_TILE_ROWS, "arrays of rows hold a tile");
_Static_assert(AMX_SWEEP_ROWS <= GEMM_SWEEP_ROWS, "sums hold a sweep");

/* --- whether it is there ---------------------------------------------------
 */

#define CPUID_AMX_BF16 (1u << 22)
#define CPUID_AMX_TILE (1u << 24)
#define CPUID_OSXSAVE (1u << 27)
#define XCR0_TILES (3u << 17)
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

static bool kernel_saves_tiles(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & CPUID_OSXSAVE))
		return false;
	__asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return (eax & XCR0_TILES) == XCR0_TILES &&
	       syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM,
		       XFEATURE_XTILEDATA) == 0;
}

bool amx_works(void)
{
	unsigned int eax, ebx, ecx, edx;
	unsigned int need = CPUID_AMX_BF16 | CPUID_AMX_TILE;

	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
	       (edx & need) == need && kernel_saves_tiles();
}

/* --- one tile --------------------------------------------------------------
 */

/*
 * Tile registers, which the instructions name by constants: sums of two
 * registers of rows by two panels, rows, weights.
 */
#define SUM_00 0
#define SUM_01 1
#define SUM_10 2
#define SUM_11 3
#define ROWS_0 4
#define ROWS_1 5
#define PANEL_0 6
#define PANEL_1 7

/* Lines, a row's parts, of the first and of the second register. */
struct shape {
	uint32_t lines[2];
};

static struct shape shape_of(uint32_t rows)
{
	uint32_t first = rows > AMX_TILE_ROWS / 2 ? (rows + 1) / 2 : rows;

	return (struct shape){{first * AMX_PARTS, (rows - first) * AMX_PARTS}};
}

/*
 * The rows for which this thread's tile registers are configured. They stay
 * so from one sweep to the next: to configure them waits for every load that
 * is under way.
 */
static _Thread_local uint32_t configured;

KERNEL_FN void configure(uint32_t rows, struct shape shape)
{
	struct amx_tile_config config = {.palette = 1};

	if (rows == configured)
		return;
	configured = rows;
	for (int i = 0; i < 8; i++) {
		config.line_bytes[i] = LINE_BYTES;
		config.rows[i] = PANEL_ROWS;
	}
	config.rows[SUM_00] = config.rows[SUM_01] = config.rows[ROWS_0] =
		(uint8_t)shape.lines[0];
	/* A register that is not used has rows all the same. */
	config.rows[SUM_10] = config.rows[SUM_11] = config.rows[ROWS_1] =
		(uint8_t)(shape.lines[1] > 0 ? shape.lines[1] : 1);
	_tile_loadconfig(&config);
}

/* One chunk of blocks for one tile. */
struct step {
	const unsigned char *x; /* the tile's lines of the chunk */
	struct blocks blocks;
	struct shape shape;
	float (*sum)[GEMM_WIDTH]; /* of each line */
	bool is_first; /* sets the sums, which later ones add to */
	bool near; /* of a tile alone: fetch the weights, a little ahead */
	size_t far_lines; /* for each block, of the next ones; 0 = none */
	const unsigned char *far[2];
};

#define SUM_STRIDE (GEMM_WIDTH * sizeof(float))

KERNEL_FN void load_sums(
	const struct step *step, const int groups, const int panels)
{
	float(*second)[GEMM_WIDTH] = step->sum + step->shape.lines[0];

	_tile_loadd(SUM_00, step->sum[0], SUM_STRIDE);
	if (panels > 1)
		_tile_loadd(SUM_01, step->sum[0] + PANEL_ROWS, SUM_STRIDE);
	if (groups > 1)
		_tile_loadd(SUM_10, second[0], SUM_STRIDE);
	if (groups > 1 && panels > 1)
		_tile_loadd(SUM_11, second[0] + PANEL_ROWS, SUM_STRIDE);
}

KERNEL_FN void store_sums(
	const struct step *step, const int groups, const int panels)
{
	float(*second)[GEMM_WIDTH] = step->sum + step->shape.lines[0];

	_tile_stored(SUM_00, step->sum[0], SUM_STRIDE);
	if (panels > 1)
		_tile_stored(SUM_01, step->sum[0] + PANEL_ROWS, SUM_STRIDE);
	if (groups > 1)
		_tile_stored(SUM_10, second[0], SUM_STRIDE);
	if (groups > 1 && panels > 1)
		_tile_stored(SUM_11, second[0] + PANEL_ROWS, SUM_STRIDE);
}

/*
 * Load a line for nothing but its way through the caches: loads of vectors
 * set the hardware's own fetching going, which tiles and prefetches do not.
 */
KERNEL_FN void touch(const unsigned char *line)
{
	const __m512i *at = (const void *)line;

	__asm__ volatile("" : : "v"(_mm512_loadu_si512(at)));
}

/* Block b of a panel comes to the first cache, and the way is paved for more. */
KERNEL_FN void fetch_near(const struct step *step, size_t b, const int panel)
{
	const unsigned char *w = step->blocks.w[panel] + b * BLOCK_BYTES;
	const unsigned char *ahead =
		block_at(&step->blocks, b + TILE_BLOCKS_AHEAD, panel);

	for (size_t at = 0; at < BLOCK_BYTES && step->near; at += LINE_BYTES) {
		_mm_prefetch((const char *)ahead + at, _MM_HINT_T0);
		touch(w + at);
	}
}

/* The share of block b in what comes to the second cache. */
KERNEL_FN void fetch_far(const struct step *step, size_t b, const int panel)
{
	size_t bytes = step->far_lines * LINE_BYTES;

	for (size_t i = b * bytes; i < (b + 1) * bytes; i += LINE_BYTES)
		_mm_prefetch((const char *)step->far[panel] + i, _MM_HINT_T1);
}

/* Panel `panel` of block b to its register. */
#define LOAD_PANEL(register, step, b, panel)                                   \
	do {                                                                   \
		fetch_near(step, b, panel);                                    \
		fetch_far(step, b, panel);                                     \
		_tile_loadd(register,                                          \
			(step)->blocks.w[panel] + (b)*BLOCK_BYTES,             \
			LINE_BYTES);                                           \
	} while (0)

/* The body of every kernel: groups of lines and panels are constants. */
KERNEL_FN void run_step(
	const struct step *step, const int groups, const int panels)
{
	const unsigned char *x = step->x;
	size_t second = step->shape.lines[0] * (size_t)LINE_BYTES;
	size_t next = second + step->shape.lines[1] * (size_t)LINE_BYTES;

	if (step->is_first) {
		_tile_zero(SUM_00);
		_tile_zero(SUM_01);
		_tile_zero(SUM_10);
		_tile_zero(SUM_11);
	} else {
		load_sums(step, groups, panels);
	}
	for (size_t b = 0; b < step->blocks.count; b++, x += next) {
		_tile_loadd(ROWS_0, x, LINE_BYTES);
		LOAD_PANEL(PANEL_0, step, b, 0);
		_tile_dpbf16ps(SUM_00, ROWS_0, PANEL_0);
		if (groups > 1) {
			_tile_loadd(ROWS_1, x + second, LINE_BYTES);
			_tile_dpbf16ps(SUM_10, ROWS_1, PANEL_0);
		}
		if (panels > 1) {
			LOAD_PANEL(PANEL_1, step, b, 1);
			_tile_dpbf16ps(SUM_01, ROWS_0, PANEL_1);
		}
		if (groups > 1 && panels > 1)
			_tile_dpbf16ps(SUM_11, ROWS_1, PANEL_1);
	}
	store_sums(step, groups, panels);
}

KERNEL_ATTRIBUTES static void step_1_1(const struct step *step)
{
	run_step(step, 1, 1);
}

KERNEL_ATTRIBUTES static void step_1_2(const struct step *step)
{
	run_step(step, 1, 2);
}

KERNEL_ATTRIBUTES static void step_2_1(const struct step *step)
{
	run_step(step, 2, 1);
}

KERNEL_ATTRIBUTES static void step_2_2(const struct step *step)
{
	run_step(step, 2, 2);
}

/* By groups of lines and by panels. */
static void (*const steps[2][2])(const struct step *) = {
	{step_1_1, step_1_2}, {step_2_1, step_2_2}};

/* --- a chunk of panels -----------------------------------------------------
 */

/* A panel's blocks of a chunk, filled up with zeros where they are not whole. */
struct filled {
	_Alignas(LINE_BYTES) unsigned char block[CHUNK_BLOCKS][BLOCK_BYTES];
};

/* The chunk of `cols` columns from k on, outputs and columns as a panel's. */
static void fill(const struct gemm_pair *pair, int panel, size_t k, size_t cols,
	struct filled *out)
{
	size_t width = pair->width[panel];
	const unsigned char *from =
		pair->panel[panel] + k * width * sizeof(uint16_t);
	unsigned char *to = out->block[0];
	size_t pairs = cols / 2;

	memset(to, 0, div_up(cols, AMX_COLS) * BLOCK_BYTES);
	for (size_t i = 0; i < pairs; i++, from += 4 * width, to += LINE_BYTES)
		memcpy(to, from, 4 * width);
	/* The last of an odd number of columns has no other beside it. */
	for (size_t j = 0; cols % 2 == 1 && j < width; j++)
		memcpy(to + 4 * j, from + 2 * j, sizeof(uint16_t));
}

static size_t chunk_cols(const struct gemm_pair *pair, size_t k)
{
	size_t rest = pair->cols - k;

	return rest < CHUNK_COLS ? rest : CHUNK_COLS;
}

/* The chunk from column k on, in whole blocks. */
static struct blocks chunk_at(const struct gemm_pair *pair, int panels,
	size_t k, struct filled *filled)
{
	struct blocks out = {.cols = chunk_cols(pair, k)};
	bool is_last = k + out.cols == pair->cols;

	out.count = div_up(out.cols, AMX_COLS);
	for (int p = 0; p < panels; p++) {
		const unsigned char *panel = pair->panel[p];

		if (pair->width[p] < PANEL_ROWS || out.cols % AMX_COLS > 0) {
			fill(pair, p, k, out.cols, &filled[p]);
			out.w[p] = filled[p].block[0];
			continue;
		}
		out.w[p] = panel + k * PANEL_ROWS * sizeof(uint16_t);
		out.next[p] = is_last ? pair->next[p]
				      : out.w[p] + out.count * BLOCK_BYTES;
	}
	return out;
}

/* --- a sweep ---------------------------------------------------------------
 */

/* (lower + middle) + upper. */
KERNEL_FN void join(const float (*part)[GEMM_WIDTH], size_t width, float *sum)
{
	for (size_t j = 0; j < width; j += VEC_LANES)
		vec_store(sum + j, vec_add(vec_add(vec_load(part[2] + j),
						   vec_load(part[1] + j)),
					   vec_load(part[0] + j)));
}

static void sweep_row(const struct gemm_pair *pair, const float *x, int panels,
	float (*sum)[GEMM_WIDTH])
{
	struct row_sums sums = {0};
	struct filled filled[2];

	for (size_t k = 0; k < pair->cols; k += CHUNK_COLS) {
		struct blocks blocks = chunk_at(pair, panels, k, filled);

		amx_row_step(x + k, &blocks, panels, &sums);
	}
	join((const float(*)[GEMM_WIDTH])sums.part, (size_t)panels * PANEL_ROWS,
		sum[0]);
}

/*
 * Several tiles go through the same weights: while they do, the same chunk of
 * the next panels comes to the second cache, a share of it with each tile.
 */
static void plan_far(struct step *step, const struct gemm_pair *pair,
	uint32_t tile_count, size_t k, int panels)
{
	if (tile_count == 1 || !pair->next[0])
		return;
	for (int p = 0; p < panels; p++) {
		step->far[p] = pair->next[p] ? pair->next[p] : pair->next[0];
		step->far[p] += k * PANEL_ROWS * sizeof(uint16_t);
	}
	step->far_lines = div_up(BLOCK_BYTES / LINE_BYTES, tile_count);
}

/* All tiles go through the chunk in turn. */
static void sweep_chunk(struct step *step, const struct gemm_tile *tiles,
	uint32_t tile_count, size_t k, int panels)
{
	size_t far = step->far_lines * LINE_BYTES * step->blocks.count;

	for (uint32_t t = 0; t < tile_count; t++) {
		uint32_t rows = tiles[t].count;

		step->x = (const unsigned char *)tiles[t].x +
			  rows * amx_row_bytes(k);
		step->shape = shape_of(rows);
		configure(rows, step->shape);
		steps[step->shape.lines[1] > 0][panels - 1](step);
		step->sum += (size_t)rows * AMX_PARTS;
		for (int p = 0; p < panels && far > 0; p++)
			step->far[p] += far;
	}
}

/* Lines of all tiles. */
static uint32_t line_count(const struct gemm_tile *tiles, uint32_t tile_count)
{
	uint32_t rows = 0;

	for (uint32_t t = 0; t < tile_count; t++) {
		assert(tiles[t].count > 1 && tiles[t].count <= AMX_TILE_ROWS);
		rows += tiles[t].count;
	}
	assert(rows <= AMX_SWEEP_ROWS);
	return rows * AMX_PARTS;
}

static void sweep_tiles(const struct gemm_pair *pair,
	const struct gemm_tile *tiles, uint32_t tile_count, int panels,
	float (*sum)[GEMM_WIDTH])
{
	_Alignas(LINE_BYTES) float part[AMX_SWEEP_ROWS * AMX_PARTS][GEMM_WIDTH];
	uint32_t lines = line_count(tiles, tile_count);
	struct filled filled[2];

	for (size_t k = 0; k < pair->cols; k += CHUNK_COLS) {
		struct step step = {
			.blocks = chunk_at(pair, panels, k, filled),
			.sum = part,
			.is_first = k == 0,
			.near = tile_count == 1,
		};

		plan_far(&step, pair, tile_count, k, panels);
		sweep_chunk(&step, tiles, tile_count, k, panels);
	}
	for (uint32_t i = 0; i < lines; i += AMX_PARTS)
		join((const float(*)[GEMM_WIDTH])part + i,
			(size_t)panels * PANEL_ROWS, sum[i / AMX_PARTS]);
}

void amx_sweep(const struct gemm_pair *pair, const struct gemm_tile *tiles,
	uint32_t tile_count, float (*sum)[GEMM_WIDTH])
{
	int panels = pair->width[1] > 0 ? 2 : 1;

	if (tiles[0].count == 1) {
		assert(tile_count == 1);
		sweep_row(pair, tiles[0].x, panels, sum);
	} else {
		sweep_tiles(pair, tiles, tile_count, panels, sum);
	}
}
