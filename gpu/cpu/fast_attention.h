/* fast_attention.h - attention of a tile over one chunk (files fast_*.c) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        fast_attention.c cuts the work and merges; fast_attention_chunk.c
 *             computes the chunks. This is what they share.
 * Tile:       rows of one sequence at consecutive positions, times query
 *             heads that read the same K/V head. Query i of a tile is row
 *             i / head_count, head i % head_count. So all positions from the
 *             first that its first row sees to the last that its last row
 *             sees are seen by some row, and may be read.
 * Arithmetic: of one query and one chunk of ATTENTION_CHUNK_TOKENS positions:
 *               s[t] = (q . K[t]) * scale, lanes = positions, d ascending as
 *                      gpu/cpu/backend_fast.h says
 *               m = max s[t], p[t] = vec_exp(s[t] - m)
 *               l = sum of p[t]: lane j adds t % 16 == j ascending, then
 *                   vec_sum()
 *               o[v] = sum of p[t] * V[t][v], t ascending, fused, from +0
 *             Positions that the query does not see take part in nothing.
 *             No result depends on the tile.
 * Threads:    pure functions of their arguments and the scratch.
 */
#ifndef HEDDLE_GPU_CPU_FAST_ATTENTION_H
#define HEDDLE_GPU_CPU_FAST_ATTENTION_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "gpu/cpu/backend_fast.h"
#include "gpu/cpu/kv_token.h"

/* Queries of a tile: enough to pay for turning the keys around. */
#define TILE_QUERY_COUNT_MAX 96

/* Keys that are turned around at once: positions, elements of each. */
#define TILE_PANEL_COUNT 4
#define TILE_DIM_COUNT ((size_t)64)
#define TILE_TOKEN_COUNT ((size_t)TILE_PANEL_COUNT * VEC_LANES)

struct softmax_part {
	float max, sum;
};

struct attention_tile {
	const struct attention_args *args;
	uint32_t row, row_count;
	uint32_t position; /* of the first row */
	uint32_t head, head_count; /* first query head; all of one K/V head */
};

/* Scratch of one worker, each part aligned to a cache line. */
struct attention_scratch {
	const unsigned char **token; /* [ATTENTION_CHUNK_TOKENS] in the cache */
	const unsigned char **next_token; /* those of the next chunk */
	const unsigned char **wide_row; /* [ATTENTION_CHUNK_TOKENS] of wide */
	float *wide; /* [TILE_TOKEN_COUNT][VALUE_BLOCK] values as floats */
	float *keys; /* [TILE_DIM_COUNT][TILE_TOKEN_COUNT] keys, turned */
	float *part_score; /* [query][TILE_TOKEN_COUNT] sums under way */
	float *zeros; /* [key_dim] the key of a position outside */
	float *score; /* [query][ATTENTION_CHUNK_TOKENS] */
	float *out; /* [query][ATTENTION_PAD(value_dim)] */
	struct softmax_part *part, *total; /* [query] */
};

/* Floats from one query's values to the next one's. */
#define ATTENTION_PAD(value_dim) (((size_t)(value_dim) + 15) / 16 * 16)

/* Lay the scratch out at `base`, NULL allowed; returns its size in bytes. */
size_t FAST(attention_scratch_place)(struct attention_scratch *scratch,
	unsigned char *base, size_t key_dim, size_t value_dim);

/* First position that the row at `position` sees. */
static inline uint32_t attention_first(
	const struct attention_args *args, uint32_t position)
{
	return args->window > 0 && position >= args->window
		       ? position - args->window + 1
		       : 0;
}

/* What the caller will want at once after a chunk of a tile. */
struct attention_next {
	uint32_t base; /* this chunk or the next one */
	uint32_t head; /* first query head of the tile; rows as before */
};

/*
 * The chunk that begins at position `base`, for the rows of the tile that see
 * some of it, query i: (max, sum) into scratch->part[i], values into
 * scratch->out + i * ATTENTION_PAD(value_dim). Entries of the other rows are
 * left alone. next: read ahead of this; or NULL.
 */
void FAST(attention_chunk)(const struct attention_tile *tile, uint32_t base,
	const struct attention_next *next,
	const struct attention_scratch *scratch);

static inline void kv_check(const struct kv_view *kv, uint32_t layer)
{
	assert(kv->type == DTYPE_F32 || kv->type == DTYPE_BF16);
	assert(kv->block_tokens > 0);
	assert(layer / kv->layers_per_page < kv->pages_per_block);
}

#endif
