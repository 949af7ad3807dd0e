/* fast_attention_chunk.c - one chunk of attention (queries, cache -> part) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three stages, each a small matrix product or a pass over its result:
 * scores (keys are turned into panels [d][16 positions] first, so that lanes
 * are positions), softmax, values (lanes are value elements). A tile of
 * queries shares what is read and converted.
 */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/fast_attention.h"

/* Shape of the innermost products: sums that fit the registers. */
#if VEC_REGISTERS >= 32
#define QUERY_BLOCK 6
#define COLUMN_BLOCK 4
#else
#define QUERY_BLOCK 3
#define COLUMN_BLOCK 2
#endif

/* The same as a position. */
#define TILE_TOKENS ((uint32_t)TILE_TOKEN_COUNT)

/* Value elements that are summed over all positions before the next ones. */
#define VALUE_BLOCK ((size_t)COLUMN_BLOCK * VEC_LANES)

/* From so many queries on it pays to make bf16 values floats once. */
#define WIDEN_QUERY_COUNT (2 * QUERY_BLOCK)

/* Positions relative to the chunk. */
struct span {
	uint32_t first, end;
};

/*
 * What will be read next: the same bytes of one position after the other.
 * The products ask for some of it at each step, so that memory works while
 * they compute, and never for more at once than it can have under way.
 */
struct ahead {
	const unsigned char *const *token;
	uint32_t next, end;
	size_t offset, bytes;
	uint32_t rate, credit; /* positions per step, in 1 / AHEAD_UNIT */
};

#define AHEAD_UNIT 65536u

/* Rounds of an innermost loop that make a step. */
#define AHEAD_STEP 8

/* What a chunk is of: positions begin .. end - 1 are read, relative to base. */
struct chunk {
	const struct attention_tile *tile;
	const struct attention_scratch *scratch;
	uint32_t base;
	uint32_t begin, end;
	uint32_t query_first, query_end; /* those that see some of it */
	struct span span[TILE_QUERY_COUNT_MAX]; /* [query] what it sees */
	const float *query[TILE_QUERY_COUNT_MAX]; /* [query][key_dim] */
	const unsigned char **token; /* [ATTENTION_CHUNK_TOKENS] in the cache */
	struct ahead *ahead;
};

/* What the row at `position` sees of the chunk at `base`: not nothing. */
static struct span span_of(
	const struct attention_args *args, uint32_t base, uint32_t position)
{
	uint32_t first = attention_first(args, position);
	uint32_t rest = position - base;
	struct span span = {
		.first = first > base ? first - base : 0,
		.end = rest < ATTENTION_CHUNK_TOKENS ? rest + 1
						     : ATTENTION_CHUNK_TOKENS,
	};

	return span;
}

/* Fill in what depends on the query; rows first .. end - 1 of the tile. */
static void find_queries(struct chunk *chunk, uint32_t first, uint32_t end)
{
	const struct attention_tile *tile = chunk->tile;
	const struct attention_args *args = tile->args;
	uint32_t i = first * tile->head_count;

	chunk->query_first = i;
	for (uint32_t row = first; row < end; row++) {
		struct span span =
			span_of(args, chunk->base, tile->position + row);
		const float *query =
			args->q +
			((size_t)(tile->row + row) * args->head_count +
				tile->head) *
				args->key_dim;

		for (uint32_t head = 0; head < tile->head_count; head++, i++) {
			chunk->span[i] = span;
			chunk->query[i] = query + (size_t)head * args->key_dim;
		}
	}
	chunk->query_end = i;
	chunk->begin = chunk->span[chunk->query_first].first;
	chunk->end = chunk->span[i - 1].end;
}

/* Queries for the next block: blocks as equal as can be. */
static uint32_t next_block(const struct chunk *chunk, uint32_t query)
{
	uint32_t rest = chunk->query_end - query;
	uint32_t blocks = (rest + QUERY_BLOCK - 1) / QUERY_BLOCK;

	assert(blocks > 0);
	return (rest + blocks - 1) / blocks;
}

/* --- scratch --------------------------------------------------------------- */

/* The next `bytes` of an area, NULL when there is none yet. */
static void *carve(unsigned char *base, size_t *used, size_t bytes)
{
	void *at = base ? base + *used : NULL;

	*used += (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES *
		 CACHE_LINE_BYTES;
	return at;
}

size_t FAST(attention_scratch_place)(struct attention_scratch *scratch,
	unsigned char *base, size_t key_dim, size_t value_dim)
{
	size_t chunk = ATTENTION_CHUNK_TOKENS, query = TILE_QUERY_COUNT_MAX;
	size_t used = 0;

	scratch->token = carve(base, &used, chunk * sizeof(*scratch->token));
	scratch->next_token =
		carve(base, &used, chunk * sizeof(*scratch->next_token));
	scratch->wide_row =
		carve(base, &used, chunk * sizeof(*scratch->wide_row));
	scratch->wide = carve(
		base, &used, TILE_TOKEN_COUNT * VALUE_BLOCK * sizeof(float));
	scratch->keys = carve(
		base, &used, TILE_DIM_COUNT * TILE_TOKEN_COUNT * sizeof(float));
	scratch->zeros = carve(base, &used, key_dim * sizeof(float));
	scratch->part_score =
		carve(base, &used, query * TILE_TOKEN_COUNT * sizeof(float));
	scratch->score = carve(base, &used, query * chunk * sizeof(float));
	scratch->out = carve(
		base, &used, query * ATTENTION_PAD(value_dim) * sizeof(float));
	scratch->part = carve(base, &used, query * sizeof(*scratch->part));
	scratch->total = carve(base, &used, query * sizeof(*scratch->total));
	return used;
}

/* Bytes before a tile's head among K/V heads of `width` elements. */
static size_t head_offset(const struct attention_tile *tile, size_t width)
{
	const struct attention_args *args = tile->args;
	uint32_t group = args->head_count / args->kv_head_count;

	return tile->head / group * width * dtype_size(args->kv.type);
}

/* Where positions base + begin .. base + end - 1 are in the cache. */
static void find_tokens(const struct attention_tile *tile, uint32_t base,
	struct span span, const unsigned char **out)
{
	const struct attention_args *args = tile->args;
	const struct kv_view *kv = &args->kv;
	uint32_t sequence = args->rows.sequence[tile->row];

	for (uint32_t t = span.first; t < span.end;) {
		uint32_t position = base + t;
		uint32_t rest = kv->block_tokens - position % kv->block_tokens;
		const unsigned char *token =
			kv_token(kv, args->layer, sequence, position);

		for (; rest > 0 && t < span.end; rest--, t++) {
			out[t] = token;
			token += kv->token_stride_bytes;
		}
	}
}

/* --- reading ahead --------------------------------------------------------- */

/* Read `span` ahead within `steps` steps. */
static void ahead_start(struct ahead *ahead, const unsigned char *const *token,
	struct span span, uint32_t steps)
{
	assert(steps > 0 && span.first <= span.end);
	ahead->token = token;
	ahead->next = span.first;
	ahead->end = span.end;
	ahead->credit = 0;
	ahead->rate = (span.end - span.first) * AHEAD_UNIT / steps + 1;
}

VEC_FN void ahead_step(struct ahead *ahead)
{
	ahead->credit += ahead->rate;
	for (; ahead->credit >= AHEAD_UNIT; ahead->credit -= AHEAD_UNIT) {
		const unsigned char *from;

		if (ahead->next == ahead->end)
			return;
		from = ahead->token[ahead->next++] + ahead->offset;
		for (size_t i = 0; i < ahead->bytes; i += CACHE_LINE_BYTES)
			_mm_prefetch((const void *)(from + i), _MM_HINT_T1);
	}
}

/* --- scores ---------------------------------------------------------------- */

/* Sixteen keys of f32 into columns of keys[d][TILE_TOKEN_COUNT]. */
static void turn_f32(
	const unsigned char *const key[VEC_LANES], size_t dims, float *keys)
{
	for (size_t d = 0; d < dims; d += VEC_LANES) {
		size_t n = dims - d < VEC_LANES ? dims - d : VEC_LANES;
		struct vec row[VEC_LANES];

#pragma GCC unroll 16
		for (size_t t = 0; t < VEC_LANES; t++) {
			const float *from = (const void *)key[t];

			row[t] = n == VEC_LANES ? vec_load(from + d)
						: vec_load_part(from + d, n);
		}
		vec_transpose(row);
#pragma GCC unroll 16
		for (size_t j = 0; j < VEC_LANES; j++)
			if (j < n)
				vec_store(keys + (d + j) * TILE_TOKEN_COUNT,
					row[j]);
	}
}

/* Store n, at most 32, elements of sixteen keys, two to a lane of row[]. */
VEC_FN void store_pairs(struct vec row[VEC_LANES], size_t n, float *keys)
{
#pragma GCC unroll 16
	for (size_t j = 0; j < VEC_LANES; j++) {
		struct vec lower, upper;

		vec_split_bf16(row[j], &lower, &upper);
		if (2 * j < n)
			vec_store(keys + 2 * j * TILE_TOKEN_COUNT, lower);
		if (2 * j + 1 < n)
			vec_store(keys + (2 * j + 1) * TILE_TOKEN_COUNT, upper);
	}
}

/* The same for bf16, where two elements move as one. */
static void turn_bf16(
	const unsigned char *const key[VEC_LANES], size_t dims, float *keys)
{
	enum { STEP = 2 * VEC_LANES };
	struct vec row[VEC_LANES];
	size_t d = 0;

	for (; d + STEP <= dims; d += STEP) {
#pragma GCC unroll 16
		for (size_t t = 0; t < VEC_LANES; t++)
			row[t] = vec_load((const void *)(key[t] + 2 * d));
		vec_transpose(row);
		store_pairs(row, STEP, keys + d * TILE_TOKEN_COUNT);
	}
	if (d == dims)
		return;
	for (size_t t = 0; t < VEC_LANES; t++) {
		uint16_t padded[STEP] = {0};

		memcpy(padded, key[t] + 2 * d, (dims - d) * 2);
		row[t] = vec_load((const void *)padded);
	}
	vec_transpose(row);
	store_pairs(row, dims - d, keys + d * TILE_TOKEN_COUNT);
}

/* The key of a position, or zeros where it is not read. */
static const unsigned char *key_of(
	const struct chunk *chunk, uint32_t position, size_t offset)
{
	if (position < chunk->begin || position >= chunk->end)
		return (const void *)chunk->scratch->zeros;
	return chunk->token[position] + offset;
}

/* Turn `dims` elements from d on of TILE_PANEL_COUNT panels from `first` on. */
static void turn_keys(
	const struct chunk *chunk, uint32_t first, size_t d, size_t dims)
{
	const struct attention_args *args = chunk->tile->args;
	uint32_t end = (chunk->end - 1) / VEC_LANES + 1;
	size_t offset = head_offset(chunk->tile, args->key_dim) +
			d * dtype_size(args->kv.type);

	for (uint32_t panel = 0; panel < TILE_PANEL_COUNT; panel++) {
		float *keys = chunk->scratch->keys + (size_t)panel * VEC_LANES;
		const unsigned char *key[VEC_LANES];

		/* Blocks of panels are whole, so the last ones need zeros. */
		for (size_t i = 0; first + panel >= end && i < dims; i++)
			vec_store(keys + i * TILE_TOKEN_COUNT, vec_set(0));
		if (first + panel >= end)
			continue;
		for (uint32_t j = 0; j < VEC_LANES; j++)
			key[j] = key_of(
				chunk, (first + panel) * VEC_LANES + j, offset);
		if (args->kv.type == DTYPE_F32)
			turn_f32(key, dims, keys);
		else
			turn_bf16(key, dims, keys);
	}
}

/*
 * A block of queries against a block of panels, elements first .. end - 1 of
 * the keys. In between, the sum of an unfinished chunk of elements is in part.
 */
struct score_job {
	const float *const *query; /* [queries] the keys' elements */
	const float *keys; /* first column of the first panel, element first */
	size_t first, end, dims;
	float scale;
	float *part; /* of the first query and panel; as score, but rows of
			TILE_TOKEN_COUNT */
	float *score; /* [query][ATTENTION_CHUNK_TOKENS] */
	struct ahead *ahead;
};

VEC_FN void score_store(
	const struct score_job *job, size_t query, size_t panel, struct vec sum)
{
	float *at =
		job->score + query * ATTENTION_CHUNK_TOKENS + panel * VEC_LANES;

	if (job->end < job->dims && job->end % FAST_CHUNK != 0) {
		vec_store(job->part + query * TILE_TOKEN_COUNT +
				  panel * VEC_LANES,
			sum);
		return;
	}
	sum = vec_add(job->end > FAST_CHUNK ? vec_load(at) : vec_set(0), sum);
	if (job->end == job->dims)
		sum = vec_mul(sum, vec_set(job->scale));
	vec_store(at, sum);
}

/* queries is a constant where this is called. */
VEC_FN void score_kernel(const struct score_job *job, size_t queries)
{
	bool fresh = job->first % FAST_CHUNK == 0;
	struct vec sum[QUERY_BLOCK][COLUMN_BLOCK];
	const float *query[QUERY_BLOCK];
	const float *keys = job->keys;

#pragma GCC unroll 8
	for (size_t i = 0; i < queries; i++) {
		query[i] = job->query[i];
#pragma GCC unroll 4
		for (size_t j = 0; j < COLUMN_BLOCK; j++)
			sum[i][j] = fresh ? vec_set(0)
					  : vec_load(job->part +
						     i * TILE_TOKEN_COUNT +
						     j * VEC_LANES);
	}
	for (size_t d = job->first; d < job->end; d++) {
		struct vec key[COLUMN_BLOCK];

#pragma GCC unroll 4
		for (size_t j = 0; j < COLUMN_BLOCK; j++)
			key[j] = vec_load(keys + j * VEC_LANES);
		keys += TILE_TOKEN_COUNT;
#pragma GCC unroll 8
		for (size_t i = 0; i < queries; i++) {
			struct vec q = vec_set(query[i][d]);

#pragma GCC unroll 4
			for (size_t j = 0; j < COLUMN_BLOCK; j++)
				sum[i][j] = vec_fma(q, key[j], sum[i][j]);
		}
		if (d % AHEAD_STEP == 0)
			ahead_step(job->ahead);
	}
#pragma GCC unroll 8
	for (size_t i = 0; i < queries; i++)
#pragma GCC unroll 4
		for (size_t j = 0; j < COLUMN_BLOCK; j++)
			score_store(job, i, j, sum[i][j]);
}

static void score_some(const struct score_job *job, uint32_t queries)
{
	switch (queries) {
	case 1:
		score_kernel(job, 1);
		break;
	case 2:
		score_kernel(job, 2);
		break;
	case 3:
		score_kernel(job, 3);
		break;
#if QUERY_BLOCK > 3
	case 4:
		score_kernel(job, 4);
		break;
	case 5:
		score_kernel(job, 5);
		break;
	default:
		score_kernel(job, 6);
#endif
	}
}

/* The queries from `query` on against the turned panels from `first` on. */
static void score_block(const struct chunk *chunk, struct score_job *job,
	uint32_t query, uint32_t count, uint32_t first)
{
	const struct attention_scratch *scratch = chunk->scratch;
	uint32_t from = chunk->span[query].first / VEC_LANES;
	uint32_t to = (chunk->span[query + count - 1].end - 1) / VEC_LANES;

	job->query = &chunk->query[query];
	for (uint32_t panel = 0; panel < TILE_PANEL_COUNT;
		panel += COLUMN_BLOCK) {
		size_t column = (size_t)panel * VEC_LANES;

		if (first + panel > to || first + panel + COLUMN_BLOCK <= from)
			continue;
		job->keys = scratch->keys + column;
		job->part =
			scratch->part_score + query * TILE_TOKEN_COUNT + column;
		job->score = scratch->score +
			     (size_t)query * ATTENTION_CHUNK_TOKENS +
			     (size_t)first * VEC_LANES + column;
		score_some(job, count);
	}
}

static void chunk_scores(const struct chunk *chunk)
{
	const struct attention_args *args = chunk->tile->args;
	struct score_job job = {.dims = args->key_dim,
		.scale = args->scale,
		.ahead = chunk->ahead};
	uint32_t first =
		chunk->begin / VEC_LANES / TILE_PANEL_COUNT * TILE_PANEL_COUNT;

	for (; first * VEC_LANES < chunk->end; first += TILE_PANEL_COUNT)
		for (job.first = 0; job.first < job.dims; job.first = job.end) {
			uint32_t query = chunk->query_first, count;
			size_t rest = job.dims - job.first;

			job.end = rest < TILE_DIM_COUNT
					  ? job.dims
					  : job.first + TILE_DIM_COUNT;
			turn_keys(chunk, first, job.first, job.end - job.first);
			for (; query < chunk->query_end; query += count) {
				count = next_block(chunk, query);
				score_block(chunk, &job, query, count, first);
			}
		}
}

/* --- softmax --------------------------------------------------------------- */

/* Scores become weights exp(s - max); what is outside of the span, 0. */
static struct softmax_part softmax_row(float *score, struct span span)
{
	uint32_t first = span.first / VEC_LANES * VEC_LANES;
	uint32_t end = (span.end + VEC_LANES - 1) / VEC_LANES * VEC_LANES;
	struct vec high = vec_set(-INFINITY), sum = vec_set(0), shift;
	struct softmax_part part;

	for (uint32_t t = first; t < span.first; t++)
		score[t] = -INFINITY;
	for (uint32_t t = span.end; t < end; t++)
		score[t] = -INFINITY;
	/* In this order of arguments a NaN is no maximum. */
	for (uint32_t t = first; t < end; t += VEC_LANES)
		high = vec_max(vec_load(score + t), high);
	part.max = vec_largest(high);
	shift = vec_set(part.max);
	for (uint32_t t = first; t < end; t += VEC_LANES) {
		struct vec p = vec_exp(vec_sub(vec_load(score + t), shift));

		vec_store(score + t, p);
		sum = vec_add(sum, p);
	}
	part.sum = vec_sum(sum);
	return part;
}

/* --- values ---------------------------------------------------------------- */

/* A block of queries times a block of value elements. */
struct value_job {
	const float *weight; /* [query][ATTENTION_CHUNK_TOKENS] */
	const unsigned char *const *row; /* [position] */
	size_t offset; /* bytes into each row */
	size_t columns; /* vectors of elements: COLUMN_BLOCK or 1 */
	bool bf16;
	float *out; /* [query][stride] */
	size_t stride;
	struct ahead *ahead;
};

VEC_FN struct vec value_load(const unsigned char *row, size_t i, bool bf16)
{
	return bf16 ? vec_load_bf16((const uint16_t *)(const void *)row + i)
		    : vec_load((const float *)(const void *)row + i);
}

/* queries, columns and bf16 are constants where this is called. */
VEC_FN void value_kernel(const struct value_job *job, struct span span,
	size_t queries, size_t columns, bool bf16)
{
	struct vec sum[QUERY_BLOCK][COLUMN_BLOCK];

#pragma GCC unroll 8
	for (size_t i = 0; i < queries; i++)
#pragma GCC unroll 4
		for (size_t j = 0; j < columns; j++)
			sum[i][j] = vec_load(
				job->out + i * job->stride + j * VEC_LANES);
	for (size_t t = span.first; t < span.end; t++) {
		const unsigned char *row = job->row[t] + job->offset;
		const float *weight = job->weight + t;
		struct vec value[COLUMN_BLOCK];

#pragma GCC unroll 4
		for (size_t j = 0; j < columns; j++)
			value[j] = value_load(row, j * VEC_LANES, bf16);
#pragma GCC unroll 8
		for (size_t i = 0; i < queries; i++) {
			struct vec p =
				vec_set(weight[i * ATTENTION_CHUNK_TOKENS]);

#pragma GCC unroll 4
			for (size_t j = 0; j < columns; j++)
				sum[i][j] = vec_fma(p, value[j], sum[i][j]);
		}
		if (t % AHEAD_STEP == 0)
			ahead_step(job->ahead);
	}
#pragma GCC unroll 8
	for (size_t i = 0; i < queries; i++)
#pragma GCC unroll 4
		for (size_t j = 0; j < columns; j++)
			vec_store(job->out + i * job->stride + j * VEC_LANES,
				sum[i][j]);
}

VEC_FN void value_some(const struct value_job *job, struct span span,
	uint32_t queries, size_t columns, bool bf16)
{
	switch (queries) {
	case 1:
		value_kernel(job, span, 1, columns, bf16);
		break;
	case 2:
		value_kernel(job, span, 2, columns, bf16);
		break;
	case 3:
		value_kernel(job, span, 3, columns, bf16);
		break;
#if QUERY_BLOCK > 3
	case 4:
		value_kernel(job, span, 4, columns, bf16);
		break;
	case 5:
		value_kernel(job, span, 5, columns, bf16);
		break;
	default:
		value_kernel(job, span, 6, columns, bf16);
#endif
	}
}

static void value_run(
	const struct value_job *job, struct span span, uint32_t queries)
{
	if (span.first >= span.end)
		return;
	if (job->columns == COLUMN_BLOCK && job->bf16)
		value_some(job, span, queries, COLUMN_BLOCK, true);
	else if (job->columns == COLUMN_BLOCK)
		value_some(job, span, queries, COLUMN_BLOCK, false);
	else if (job->bf16)
		value_some(job, span, queries, 1, true);
	else
		value_some(job, span, queries, 1, false);
}

/* A span of each query's own. */
static void value_ragged(
	const struct value_job *job, const struct span *spans, uint32_t queries)
{
	struct value_job one = *job;

	for (uint32_t i = 0; i < queries; i++) {
		one.weight = job->weight + (size_t)i * ATTENTION_CHUNK_TOKENS;
		one.out = job->out + i * job->stride;
		value_run(&one, spans[i], 1);
	}
}

static struct span clip(struct span span, struct span to)
{
	return (struct span){span.first > to.first ? span.first : to.first,
		span.end < to.end ? span.end : to.end};
}

/*
 * The positions of `part`, each query's own in ascending order: up to where
 * all have begun, what all see, and the rest. Later queries begin and end
 * later.
 */
static void value_block(const struct value_job *job, const struct span *spans,
	struct span part, uint32_t queries)
{
	struct span common = {
		clip(spans[queries - 1], part).first, clip(spans[0], part).end};
	struct span front[QUERY_BLOCK], back[QUERY_BLOCK];
	bool ragged = false;

	if (common.first >= common.end)
		common = (struct span){part.end, part.end};
	for (uint32_t i = 0; i < queries; i++) {
		struct span span = clip(spans[i], part);

		front[i] = clip(span, (struct span){part.first, common.first});
		back[i] = clip(span, (struct span){common.end, part.end});
		ragged = ragged || front[i].first < front[i].end ||
			 back[i].first < back[i].end;
	}
	if (ragged)
		value_ragged(job, front, queries);
	value_run(job, common, queries);
	if (ragged)
		value_ragged(job, back, queries);
}

/* A block of values as floats: VALUE_BLOCK elements of each position. */
static void widen_block(
	const struct chunk *chunk, size_t offset, struct span part)
{
	for (uint32_t t = part.first; t < part.end; t++) {
		const unsigned char *from = chunk->token[t] + offset;
		float *to = chunk->scratch->wide +
			    (size_t)(t % TILE_TOKEN_COUNT) * VALUE_BLOCK;
		struct vec value[COLUMN_BLOCK];

		chunk->scratch->wide_row[t] = (const void *)to;
#pragma GCC unroll 4
		for (size_t j = 0; j < COLUMN_BLOCK; j++)
			value[j] = value_load(from, j * VEC_LANES, true);
#pragma GCC unroll 4
		for (size_t j = 0; j < COLUMN_BLOCK; j++)
			vec_store(to + j * VEC_LANES, value[j]);
	}
}

/* The last elements, fewer than a vector: padded by zeros. */
static void widen_rest(const struct chunk *chunk, size_t offset, size_t width,
	struct span part)
{
	enum dtype type = chunk->tile->args->kv.type;

	for (uint32_t t = part.first; t < part.end; t++) {
		const unsigned char *from = chunk->token[t] + offset;
		float *to = chunk->scratch->wide +
			    (size_t)(t % TILE_TOKEN_COUNT) * VALUE_BLOCK;

		chunk->scratch->wide_row[t] = (const void *)to;
		for (size_t i = 0; i < VEC_LANES; i++)
			to[i] = i < width ? dtype_load(from, type, i) : 0;
	}
}

/* The positions of `part`, `width` elements, for all queries. */
static void value_part(const struct chunk *chunk, struct value_job *job,
	float *out, struct span part)
{
	uint32_t query = chunk->query_first, count;

	for (; query < chunk->query_end; query += count) {
		count = next_block(chunk, query);
		job->weight = chunk->scratch->score +
			      (size_t)query * ATTENTION_CHUNK_TOKENS;
		job->out = out + query * job->stride;
		value_block(job, &chunk->span[query], part, count);
	}
}

/*
 * `width` elements from byte `offset` of the positions on, at most
 * VALUE_BLOCK, for all queries, whose sums are at out. Where they are made
 * floats first, that is done for as many positions as the cache holds.
 */
static void chunk_columns(
	const struct chunk *chunk, size_t offset, size_t width, float *out)
{
	const struct attention_args *args = chunk->tile->args;
	uint32_t queries = chunk->query_end - chunk->query_first;
	bool whole = width == VALUE_BLOCK;
	struct value_job job = {
		.row = chunk->token,
		.offset = offset,
		.columns = whole ? COLUMN_BLOCK : 1,
		.bf16 = args->kv.type == DTYPE_BF16,
		.stride = ATTENTION_PAD(args->value_dim),
		.ahead = chunk->ahead,
	};
	struct span part = {chunk->begin, chunk->end};

	if (width >= VEC_LANES &&
		!(whole && job.bf16 && queries > WIDEN_QUERY_COUNT)) {
		value_part(chunk, &job, out, part);
		return;
	}
	job.row = chunk->scratch->wide_row;
	job.offset = 0;
	job.bf16 = false;
	for (; part.first < chunk->end; part.first = part.end) {
		part.end = (part.first / TILE_TOKENS + 1) * TILE_TOKENS;
		if (part.end > chunk->end)
			part.end = chunk->end;
		if (whole)
			widen_block(chunk, offset, part);
		else
			widen_rest(chunk, offset, width, part);
		value_part(chunk, &job, out, part);
	}
}

static void chunk_values(const struct chunk *chunk, float *out)
{
	const struct attention_args *args = chunk->tile->args;
	size_t value_dim = args->value_dim;
	size_t stride = ATTENTION_PAD(value_dim);
	size_t v = 0;

	memset(out + chunk->query_first * stride, 0,
		(chunk->query_end - chunk->query_first) * stride *
			sizeof(*out));
	while (v < value_dim) {
		size_t rest = value_dim - v;
		size_t width = rest >= VALUE_BLOCK ? VALUE_BLOCK
			       : rest >= VEC_LANES ? VEC_LANES
						   : rest;

		chunk_columns(chunk,
			args->kv.value_offset_bytes +
				head_offset(chunk->tile, value_dim) +
				v * dtype_size(args->kv.type),
			width, out + v);
		v += width;
	}
}

/* --- the chunk ------------------------------------------------------------- */

static uint32_t blocks_of(const struct chunk *chunk)
{
	return (chunk->query_end - chunk->query_first + QUERY_BLOCK - 1) /
	       QUERY_BLOCK;
}

/* Steps are counted too low rather than too high: else some is not read. */
static uint32_t at_least_one(uint32_t steps)
{
	return steps > 0 ? steps : 1;
}

/* While scores are computed, the values are read. */
static void read_values(const struct chunk *chunk)
{
	const struct attention_args *args = chunk->tile->args;
	uint32_t panels = (chunk->end - chunk->begin) / VEC_LANES;
	struct span span = {chunk->begin, chunk->end};

	/* MLA's values are keys that have just been read. */
	if (args->kv.value_offset_bytes == 0)
		span.end = span.first;
	chunk->ahead->offset = args->kv.value_offset_bytes +
			       head_offset(chunk->tile, args->value_dim);
	chunk->ahead->bytes = args->value_dim * dtype_size(args->kv.type);
	ahead_start(chunk->ahead, chunk->token, span,
		at_least_one(blocks_of(chunk) * (args->key_dim / AHEAD_STEP) *
			     (panels / COLUMN_BLOCK)));
}

/* While values are computed, the keys of what comes next are read. */
static void read_next_keys(
	const struct chunk *chunk, const struct attention_next *next)
{
	struct attention_tile tile = *chunk->tile;
	const struct attention_args *args = tile.args;
	const unsigned char **token = chunk->token;
	struct span span = {chunk->begin, chunk->begin};

	if (next) {
		tile.head = next->head;
		span.end = chunk->end;
	}
	if (next && next->base != chunk->base) {
		token = chunk->scratch->next_token;
		span = span_of(
			args, next->base, tile.position + tile.row_count - 1);
		find_tokens(&tile, next->base, span, token);
	}
	chunk->ahead->offset = head_offset(&tile, args->key_dim);
	chunk->ahead->bytes = args->key_dim * dtype_size(args->kv.type);
	ahead_start(chunk->ahead, token, span,
		at_least_one(blocks_of(chunk) *
			     ((chunk->end - chunk->begin) / AHEAD_STEP) *
			     (uint32_t)(args->value_dim / VALUE_BLOCK)));
}

void FAST(attention_chunk)(const struct attention_tile *tile, uint32_t base,
	const struct attention_next *next,
	const struct attention_scratch *scratch)
{
	const struct attention_args *args = tile->args;
	struct ahead ahead = {0};
	struct chunk chunk = {.tile = tile,
		.scratch = scratch,
		.base = base,
		.token = scratch->token,
		.ahead = &ahead};
	uint32_t row = base > tile->position ? base - tile->position : 0;
	uint32_t end = tile->row_count;

	while (end > row && attention_first(args, tile->position + end - 1) >=
				    base + ATTENTION_CHUNK_TOKENS)
		end--;
	assert(row < end);
	find_queries(&chunk, row, end);
	find_tokens(tile, base, (struct span){chunk.begin, chunk.end},
		scratch->token);
	memset(scratch->zeros, 0, args->key_dim * sizeof(float));
	read_values(&chunk);
	chunk_scores(&chunk);
	for (uint32_t i = chunk.query_first; i < chunk.query_end; i++)
		scratch->part[i] = softmax_row(
			scratch->score + (size_t)i * ATTENTION_CHUNK_TOKENS,
			chunk.span[i]);
	read_next_keys(&chunk, next);
	chunk_values(&chunk, scratch->out);
}
