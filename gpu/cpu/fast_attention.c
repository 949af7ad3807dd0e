/* fast_attention.c - attention cut into tiles and chunks, and merged */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of one sequence at consecutive positions share tiles
 * (gpu/cpu/fast_attention.h), one for each group of heads. A unit of work goes
 * through chunks in ascending order, and in each chunk through tiles, because
 * the heads of a position lie side by side in memory. Units of a group of rows
 * that would keep one thread busy while the others have ended are split: a
 * unit has a run of the chunks, the parts are kept, and a second pass merges.
 * Else the parts of a chunk are merged at once. The order is the same:
 *   (M, L, O) begin as the first chunk's (m, l, o); then, chunks ascending,
 *   N = max(M, m), a = exp(M - N), b = exp(m - N),
 *   L = L * a + l * b, O = O * a + o * b, M = N; out = O / L.
 */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/fast_attention.h"

/* Parts that are kept: their bytes, or chunks of all heads if that is more. */
#define PART_BYTES_MIN ((size_t)16 << 20)
#define PART_CHUNKS_MIN 64

/* Units that each thread should find. */
#define UNITS_PER_THREAD 8

/* Multiply-adds per nanosecond that one core does at least. */
#define FMA_PER_NS 20

struct unit_group {
	struct attention_tile tile; /* the first one */
	uint32_t chunk_first, chunk_count;
	uint64_t cost; /* row positions */
	bool split;
	uint32_t run_chunks, run_tiles; /* chunks and tiles of one unit */
	size_t unit_first; /* of its units */
	size_t part_first; /* split: of its parts [chunk][tile][query] */
	size_t query_first; /* split: of its queries in the second pass */
};

struct attention_plan {
	struct fast_backend *fast;
	const struct attention_args *args;
	uint32_t heads; /* query heads in a tile */
	uint32_t tiles; /* that a group of rows has */
	struct unit_group *groups; /* [group_count] */
	uint32_t group_count;
	size_t unit_count, part_count, query_count;
	uint64_t cost;
	struct softmax_part *part; /* [part] */
	float *values; /* [part][ATTENTION_PAD(value_dim)] */
	size_t part_max; /* parts that there is room for */
};

/* --- memory ---------------------------------------------------------------- */

static size_t groups_bytes(size_t row_count)
{
	return fast_room(0, row_count, sizeof(struct unit_group));
}

static size_t part_bytes(size_t value_dim)
{
	return ATTENTION_PAD(value_dim) * sizeof(float) +
	       sizeof(struct softmax_part);
}

/* Each of the two arrays of parts may end in an incomplete line. */
static size_t parts_bytes(const struct ops_limits *limits)
{
	size_t bytes = fast_room((size_t)2 * CACHE_LINE_BYTES,
		(size_t)limits->head_count * PART_CHUNKS_MIN,
		part_bytes(limits->value_dim));

	return bytes > PART_BYTES_MIN ? bytes : PART_BYTES_MIN;
}

struct fast_need FAST(fast_attention_need)(const struct ops_limits *limits)
{
	struct attention_scratch scratch;
	struct fast_need need = {
		.shared = fast_room(groups_bytes(limits->row_count), 1,
			parts_bytes(limits)),
		.scratch = FAST(attention_scratch_place)(
			&scratch, NULL, limits->key_dim, limits->value_dim),
	};

	return need;
}

static void place_shared(struct attention_plan *plan)
{
	const struct attention_args *args = plan->args;
	size_t groups = groups_bytes(args->rows.count);
	size_t parts = parts_bytes(&plan->fast->limits);
	unsigned char *shared = fast_shared(plan->fast, groups + parts);

	plan->groups = (void *)shared;
	plan->part_max = (parts - (size_t)2 * CACHE_LINE_BYTES) /
			 part_bytes(args->value_dim);
	plan->values = (void *)(shared + groups);
	plan->part = (void *)(shared + fast_room(groups, plan->part_max,
					       ATTENTION_PAD(args->value_dim) *
						       sizeof(float)));
}

/* --- the plan -------------------------------------------------------------- */

/* Rows that a tile may have: enough units for all threads come first. */
static uint32_t tile_rows(const struct attention_plan *plan)
{
	uint32_t threads = plan->fast->thread_count;
	uint32_t most = TILE_QUERY_COUNT_MAX / plan->heads;
	uint64_t wanted =
		(uint64_t)threads * UNITS_PER_THREAD / plan->tiles + 1;
	uint64_t rows = plan->args->rows.count / wanted;

	if (threads == 1 || rows >= most)
		return most;
	return rows > 1 ? (uint32_t)rows : 1;
}

static bool follows(const struct rows *rows, uint32_t row)
{
	return rows->sequence[row] == rows->sequence[row - 1] &&
	       rows->position[row] == rows->position[row - 1] + 1;
}

static void add_group(
	struct attention_plan *plan, uint32_t row, uint32_t row_count)
{
	const struct attention_args *args = plan->args;
	struct unit_group *group = &plan->groups[plan->group_count++];
	uint32_t position = args->rows.position[row];
	uint32_t first = attention_first(args, position);
	uint32_t last = position + row_count - 1;

	*group = (struct unit_group){
		.tile = {.args = args,
			.row = row,
			.row_count = row_count,
			.position = position,
			.head_count = plan->heads},
		.chunk_first = first / ATTENTION_CHUNK_TOKENS,
		.cost = (uint64_t)row_count * (last - first + 1),
	};
	group->chunk_count =
		last / ATTENTION_CHUNK_TOKENS - group->chunk_first + 1;
	plan->cost += group->cost;
}

static uint32_t count_runs(uint32_t count, uint32_t length)
{
	return (count + length - 1) / length;
}

/* Cut a group into units of about `fair` cost: chunks first, then tiles. */
static void split_group(const struct attention_plan *plan,
	struct unit_group *group, uint64_t fair)
{
	uint64_t wanted = group->cost / (fair > 0 ? fair : 1);
	uint64_t run = group->chunk_count / wanted;
	uint64_t tiles = (uint64_t)plan->tiles * group->chunk_count / wanted;

	group->split = true;
	group->run_chunks = run > 0 ? (uint32_t)run : 1;
	if (run == 0 && tiles < group->run_tiles)
		group->run_tiles = tiles > 0 ? (uint32_t)tiles : 1;
}

/* Number the units of the groups; split those that are too long. */
static void number_units(struct attention_plan *plan)
{
	uint64_t fair =
		plan->cost / plan->fast->thread_count / UNITS_PER_THREAD;

	for (uint32_t i = 0; i < plan->group_count; i++) {
		struct unit_group *group = &plan->groups[i];
		size_t queries =
			(size_t)group->tile.row_count * plan->args->head_count;
		size_t parts = queries * group->chunk_count;
		uint64_t limit = fair;

		group->unit_first = plan->unit_count;
		group->run_chunks = group->chunk_count;
		group->run_tiles = plan->tiles;
		/* Many queries: tiles are units, and use all that is read. */
		if (queries > TILE_QUERY_COUNT_MAX) {
			group->run_tiles = 1;
			limit *= plan->tiles;
		}
		if (plan->fast->thread_count > 1 && group->cost > limit &&
			group->chunk_count > 1 &&
			parts <= plan->part_max - plan->part_count)
			split_group(plan, group, fair);
		plan->unit_count += (size_t)count_runs(group->chunk_count,
					    group->run_chunks) *
				    count_runs(plan->tiles, group->run_tiles);
		if (!group->split)
			continue;
		group->part_first = plan->part_count;
		group->query_first = plan->query_count;
		plan->part_count += parts;
		plan->query_count += queries;
	}
}

static void make_plan(struct attention_plan *plan)
{
	const struct attention_args *args = plan->args;
	const struct rows *rows = &args->rows;
	uint32_t group = args->head_count / args->kv_head_count;
	uint32_t row = 0, most;

	/* The largest part of a group of heads that a tile can hold. */
	plan->heads = group;
	for (uint32_t cut = 2; plan->heads > TILE_QUERY_COUNT_MAX; cut++)
		if (group % cut == 0)
			plan->heads = group / cut;
	plan->tiles = args->head_count / plan->heads;
	place_shared(plan);
	most = tile_rows(plan);
	while (row < rows->count) {
		uint32_t end = row + 1;

		while (end < rows->count && end - row < most &&
			follows(rows, end))
			end++;
		add_group(plan, row, end - row);
		row = end;
	}
	number_units(plan);
}

/* --- units ----------------------------------------------------------------- */

static float exp_of(float x)
{
	float lane[VEC_LANES];

	vec_store(lane, vec_exp(vec_set(x)));
	return lane[0];
}

/* Merge a chunk's part and its values into *total and out, both padded. */
static void merge(struct softmax_part *total, struct softmax_part part,
	const float *values, size_t width, float *out)
{
	float max = part.max > total->max ? part.max : total->max;
	float a = exp_of(total->max - max), b = exp_of(part.max - max);

	for (size_t i = 0; i < width; i += VEC_LANES) {
		size_t n = width - i < VEC_LANES ? width - i : VEC_LANES;
		struct vec old = vec_mul(vec_load_part(out + i, n), vec_set(a));

		vec_store_part(out + i,
			vec_fma(vec_load(values + i), vec_set(b), old), n);
	}
	total->sum = total->sum * a + part.sum * b;
	total->max = max;
}

static void divide(float sum, size_t width, float *out)
{
	for (size_t i = 0; i < width; i += VEC_LANES) {
		size_t n = width - i < VEC_LANES ? width - i : VEC_LANES;

		vec_store_part(out + i,
			vec_div(vec_load_part(out + i, n), vec_set(sum)), n);
	}
}

static float *out_of(const struct attention_tile *tile, uint32_t query)
{
	const struct attention_args *args = tile->args;
	size_t row = tile->row + query / tile->head_count;
	size_t head = tile->head + query % tile->head_count;

	return args->out + (row * args->head_count + head) * args->value_dim;
}

/* Merge the chunk at `base` of those queries that see some of it. */
static void merge_chunk(const struct attention_tile *tile, uint32_t base,
	const struct attention_scratch *scratch)
{
	const struct attention_args *args = tile->args;
	size_t width = args->value_dim;

	for (uint32_t i = 0; i < tile->row_count * tile->head_count; i++) {
		uint32_t position = tile->position + i / tile->head_count;
		uint32_t first = attention_first(args, position);
		const float *values = scratch->out + i * ATTENTION_PAD(width);
		float *out = out_of(tile, i);

		if (position < base || first >= base + ATTENTION_CHUNK_TOKENS)
			continue;
		if (first >= base) {
			scratch->total[i] = scratch->part[i];
			memcpy(out, values, width * sizeof(*out));
		} else {
			merge(&scratch->total[i], scratch->part[i], values,
				width, out);
		}
	}
}

static void divide_all(const struct attention_tile *tile,
	const struct attention_scratch *scratch)
{
	for (uint32_t i = 0; i < tile->row_count * tile->head_count; i++)
		divide(scratch->total[i].sum, tile->args->value_dim,
			out_of(tile, i));
}

/* Chunks and tiles of a group, first .. end - 1. */
struct unit {
	const struct unit_group *group;
	uint32_t chunk_first, chunk_end;
	uint32_t tile_first, tile_end;
};

static struct unit find_unit(const struct attention_plan *plan,
	const struct unit_group *group, size_t index)
{
	uint32_t across = count_runs(plan->tiles, group->run_tiles);
	uint32_t chunk = (uint32_t)(index / across) * group->run_chunks;
	uint32_t tile = (uint32_t)(index % across) * group->run_tiles;
	struct unit unit = {
		group, chunk, group->chunk_count, tile, plan->tiles};

	if (unit.chunk_end - chunk > group->run_chunks)
		unit.chunk_end = chunk + group->run_chunks;
	if (unit.tile_end - tile > group->run_tiles)
		unit.tile_end = tile + group->run_tiles;
	return unit;
}

static uint32_t chunk_base(const struct unit *unit, uint32_t chunk)
{
	return (unit->group->chunk_first + chunk) * ATTENTION_CHUNK_TOKENS;
}

#ifdef __SANITIZE_THREAD__
/* The chunk's own loops are not watched: a byte of each token that it reads. */
static void show_tokens(const struct attention_tile *tile, uint32_t base)
{
	const struct attention_args *args = tile->args;
	uint32_t end = tile->position + tile->row_count;
	uint32_t first = base;

	if (args->window && tile->position + 1 > args->window &&
		first < tile->position + 1 - args->window)
		first = tile->position + 1 - args->window;
	if (end > base + ATTENTION_CHUNK_TOKENS)
		end = base + ATTENTION_CHUNK_TOKENS;
	for (; first < end; first++)
		(void)*(const volatile unsigned char *)kv_token(&args->kv,
			args->layer, args->rows.sequence[tile->row], first);
}
#endif

/* A tile's part of a chunk: kept where the unit is split, else merged. */
static void run_chunk(const struct attention_plan *plan,
	const struct unit *unit, const struct attention_scratch *scratch,
	uint32_t chunk, uint32_t index)
{
	const struct unit_group *group = unit->group;
	const struct attention_args *args = plan->args;
	struct attention_tile tile = group->tile;
	uint32_t queries = tile.row_count * plan->heads;
	uint32_t base = chunk_base(unit, chunk);
	bool last = index + 1 == unit->tile_end;
	struct attention_next next = {
		.base = last ? chunk_base(unit, chunk + 1) : base,
		.head = (last ? unit->tile_first : index + 1) * plan->heads,
	};
	bool more = !last || chunk + 1 < unit->chunk_end;
	struct attention_scratch view = *scratch;

	tile.head = index * plan->heads;
	if (group->split) {
		size_t part = group->part_first +
			      ((size_t)chunk * plan->tiles + index) * queries;

		view.part = plan->part + part;
		view.out = plan->values + part * ATTENTION_PAD(args->value_dim);
	} else {
		view.total += (size_t)(index - unit->tile_first) * queries;
	}
#ifdef __SANITIZE_THREAD__
	show_tokens(&tile, base);
#endif
	FAST(attention_chunk)(&tile, base, more ? &next : NULL, &view);
	if (!group->split)
		merge_chunk(&tile, base, &view);
	if (!group->split && chunk + 1 == unit->chunk_end)
		divide_all(&tile, &view);
}

/* The group that unit `unit` belongs to. */
static const struct unit_group *group_of_unit(
	const struct attention_plan *plan, size_t unit)
{
	uint32_t low = 0, high = plan->group_count;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (plan->groups[middle].unit_first <= unit)
			low = middle;
		else
			high = middle;
	}
	return &plan->groups[low];
}

static void run_units(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct attention_plan *plan = arg;
	const struct attention_args *args = plan->args;
	struct attention_scratch scratch;
	size_t bytes = FAST(attention_scratch_place)(
		&scratch, NULL, args->key_dim, args->value_dim);

	FAST(attention_scratch_place)
	(&scratch, fast_scratch(plan->fast, worker, bytes), args->key_dim,
		args->value_dim);
	for (size_t i = first; i < end; i++) {
		const struct unit_group *group = group_of_unit(plan, i);
		struct unit unit =
			find_unit(plan, group, i - group->unit_first);

		for (uint32_t chunk = unit.chunk_first; chunk < unit.chunk_end;
			chunk++)
			for (uint32_t tile = unit.tile_first;
				tile < unit.tile_end; tile++)
				run_chunk(plan, &unit, &scratch, chunk, tile);
	}
}

/* --- the second pass ------------------------------------------------------- */

/* Merge the kept parts of one query, by its number within the group. */
static void merge_query(const struct attention_plan *plan,
	const struct unit_group *group, size_t query)
{
	const struct attention_args *args = plan->args;
	const struct attention_tile *tile = &group->tile;
	size_t queries = (size_t)tile->row_count * args->head_count;
	size_t tile_queries = (size_t)tile->row_count * plan->heads;
	uint32_t row = (uint32_t)(query % tile_queries / plan->heads);
	size_t head = query / tile_queries * plan->heads + query % plan->heads;
	uint32_t position = tile->position + row;
	uint32_t c = attention_first(args, position) / ATTENTION_CHUNK_TOKENS -
		     group->chunk_first;
	uint32_t end =
		position / ATTENTION_CHUNK_TOKENS - group->chunk_first + 1;
	size_t width = args->value_dim;
	size_t part = group->part_first + c * queries + query;
	float *out =
		args->out +
		((tile->row + row) * (size_t)args->head_count + head) * width;
	struct softmax_part total = plan->part[part];

	memcpy(out, plan->values + part * ATTENTION_PAD(width),
		width * sizeof(*out));
	while (++c < end) {
		part += queries;
		merge(&total, plan->part[part],
			plan->values + part * ATTENTION_PAD(width), width, out);
	}
	divide(total.sum, width, out);
}

static void merge_queries(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct attention_plan *plan = arg;
	uint32_t i = 0;

	(void)worker;
	for (size_t query = first; query < end; query++) {
		const struct unit_group *group;

		for (;; i++) {
			group = &plan->groups[i];
			if (group->split &&
				query - group->query_first <
					(size_t)group->tile.row_count *
						plan->args->head_count)
				break;
		}
		merge_query(plan, group, query - group->query_first);
	}
}

int FAST(fast_attention)(struct ops *ops, const struct attention_args *args)
{
	struct attention_plan plan = {.fast = fast_of(ops), .args = args};
	size_t width = (size_t)args->key_dim + args->value_dim;

	kv_check(&args->kv, args->layer);
	assert(args->kv_head_count > 0);
	assert(args->head_count % args->kv_head_count == 0);
	make_plan(&plan);
	workers_run_cost(plan.fast->workers, plan.unit_count,
		plan.cost * args->head_count * width / FMA_PER_NS, run_units,
		&plan);
	workers_run_cost(plan.fast->workers, plan.query_count,
		plan.part_count * args->value_dim / FMA_PER_NS, merge_queries,
		&plan);
	return 0;
}
