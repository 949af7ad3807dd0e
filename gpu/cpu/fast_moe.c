/* fast_moe.c - the experts of a step (rows, slots -> rows) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pair is one (row, k). Pairs are sorted by slot, so that every touched
 * expert is a segment of the list, and done in groups of whole segments as
 * large as the area for activations allows: as a rule, one. In a group
 *
 *   1. the rows of x are packed into the tiles of each segment;
 *   2. hidden = silu(gate x) * (up x): an item is a panel of gate and the
 *      same panel of up, against all pairs of a segment; what comes out is
 *      packed for the next product at once;
 *   3. out = down hidden: an item is a pair of panels of down.
 *
 * So a weight comes from memory once. Low-rank updates are added as in
 * fast_linear.c; A x and A hidden are computed before 2 and 3.
 */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/fast_gemm.h"
#include "gpu/cpu/fast_lora.h"
#include "memmgr/experts.h"

/* Bytes of the area for x and hidden. */
#define ACTIVATION_MAX (2 * GEMM_PACKED_MAX)

enum { MATRIX_GATE, MATRIX_UP, MATRIX_DOWN, MATRIX_COUNT };

/* The pairs of one slot in a group; first counts from the group's first. */
struct segment {
	uint32_t slot;
	uint32_t first, count;
	uint32_t tile_first, tile_count;
};

/* What the shared area holds; the limits say how much of each. */
struct area {
	uint32_t *pair; /* [pairs] row * topk + k, by slot */
	uint32_t *spare; /* [pairs] for sorting */
	struct segment *segment; /* [pair_max] */
	struct gemm_tile *tile; /* [pair_max] of x */
	struct gemm_tile *hidden_tile; /* [pair_max] the same of hidden */
	float *low; /* [pair_max][2][lora_rank], of gate and up, later down */
	unsigned char *packed; /* [pair_max] rows of hidden columns */
	unsigned char *hidden; /* [pair_max] rows of inter columns */
};

struct job {
	struct fast_backend *fast;
	const struct moe_args *args;
	struct area area;
	const uint32_t *pair; /* of the group: where in area.pair it begins */
	uint32_t pair_count, segment_count, tile_count;
	bool has_lora;
	enum gemm_form form; /* of the tiles */
	uint32_t per_segment; /* items of the phase that runs */
};

/* Pairs that a group may have. */
static size_t pair_max(const struct ops_limits *limits)
{
	size_t all = fast_room(0, limits->row_count, limits->topk);
	size_t each =
		gemm_row_room(limits->hidden) + gemm_row_room(limits->inter);
	size_t most = ACTIVATION_MAX / (each > 0 ? each : 1);

	if (most > all)
		most = all;
	return most > 0 ? most : 1;
}

/* Lay the area out from `base`, or count its bytes when that is NULL. */
static size_t lay_out(
	const struct ops_limits *limits, unsigned char *base, struct area *area)
{
	size_t pairs = fast_room(0, limits->row_count, limits->topk);
	size_t most = pair_max(limits);
	size_t rank = limits->lora_rank;
	const size_t sizes[] = {
		fast_room(0, pairs, sizeof(*area->pair)),
		fast_room(0, pairs, sizeof(*area->spare)),
		fast_room(0, most, sizeof(*area->segment)),
		fast_room(0, most, sizeof(*area->tile)),
		fast_room(0, most, sizeof(*area->hidden_tile)),
		fast_room(0, most, fast_room(0, rank, 2 * sizeof(float))),
		fast_room(0, most, gemm_row_room(limits->hidden)),
		fast_room(0, most, gemm_row_room(limits->inter)),
	};
	void *at[sizeof(sizes) / sizeof(sizes[0])] = {NULL};
	size_t total = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (base)
			at[i] = base + total;
		total = fast_room(total, sizes[i], 1);
	}
	*area = (struct area){
		at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7]};
	return total;
}

static size_t scratch_bytes(const struct ops_limits *limits)
{
	/* A panel of B for gate and one for up, or a row of hidden. */
	return fast_room(2 * lora_panel_bytes(limits->lora_rank), limits->inter,
		sizeof(float));
}

struct fast_need FAST(fast_moe_need)(const struct ops_limits *limits)
{
	struct area area;
	struct fast_need need = {
		.shared = lay_out(limits, NULL, &area),
		.scratch = scratch_bytes(limits),
	};

	return need;
}

/* --- lists -----------------------------------------------------------------
 */

/* One pass of a radix sort, by eight bits of the slot; stable. */
static void sort_pass(const uint16_t *slot, const uint32_t *from, uint32_t *to,
	uint32_t count, uint32_t shift)
{
	uint32_t at[256] = {0};
	uint32_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		at[slot[from[i]] >> shift & 255]++;
	for (uint32_t d = 0; d < 256; d++) {
		uint32_t here = at[d];

		at[d] = sum;
		sum += here;
	}
	for (uint32_t i = 0; i < count; i++)
		to[at[slot[from[i]] >> shift & 255]++] = from[i];
}

static void sort_pairs(const struct moe_args *args, struct area *area)
{
	uint32_t count = args->rows.count * args->topk;

	for (uint32_t p = 0; p < count; p++) {
		assert(args->slot[p] != EXPERT_SLOT_NONE);
		area->pair[p] = p;
	}
	sort_pass(args->slot, area->pair, area->spare, count, 0);
	sort_pass(args->slot, area->spare, area->pair, count, 8);
}

/* Where the packed rows of a tile of the group are in `area`. */
static unsigned char *packed_tile(const struct job *job, unsigned char *area,
	const struct gemm_tile *tile, uint32_t cols)
{
	return area + tile->first * gemm_row_bytes(job->form, cols);
}

/* Tiles of a segment; a tile of one pair is its row of x. */
static void make_tiles(struct job *job, struct segment *segment)
{
	const struct moe_args *args = job->args;
	uint32_t count = gemm_tile_count(job->form, segment->count);

	segment->tile_first = job->tile_count;
	segment->tile_count = count;
	for (uint32_t t = 0; t < count; t++) {
		struct gemm_tile *tile = &job->area.tile[job->tile_count];
		struct gemm_tile *hidden =
			&job->area.hidden_tile[job->tile_count++];
		uint32_t first = gemm_tile_first(segment->count, count, t);
		uint32_t end = gemm_tile_first(segment->count, count, t + 1);

		tile->first = segment->first + first;
		tile->count = end - first;
		tile->x =
			packed_tile(job, job->area.packed, tile, args->hidden);
		if (tile->count == 1)
			tile->x = args->x + (size_t)job->pair[tile->first] /
						    args->topk * args->hidden;
		*hidden = *tile;
		hidden->x =
			packed_tile(job, job->area.hidden, tile, args->inter);
	}
}

/*
 * The group that begins at `done` of all pairs: whole segments while they
 * fit, or a part of one that is too large for any group. Returns its end.
 */
static uint32_t next_group(struct job *job, uint32_t done)
{
	const struct moe_args *args = job->args;
	uint32_t all = args->rows.count * args->topk;
	size_t most = pair_max(&job->fast->limits);

	job->pair = job->area.pair + done;
	job->pair_count = job->segment_count = job->tile_count = 0;
	while (done < all) {
		struct segment *segment =
			&job->area.segment[job->segment_count];
		uint32_t slot = args->slot[job->area.pair[done]];
		size_t room = most - job->pair_count;
		uint32_t end = done;

		while (end < all && args->slot[job->area.pair[end]] == slot)
			end++;
		if (end - done > room && job->pair_count > 0)
			break;
		segment->slot = slot;
		segment->first = job->pair_count;
		segment->count =
			end - done < room ? end - done : (uint32_t)room;
		make_tiles(job, segment);
		done += segment->count;
		job->pair_count += segment->count;
		job->segment_count++;
	}
	return done;
}

/* --- low-rank updates ------------------------------------------------------
 */

/* The update of a matrix for the pair at `at` of the group, NULL = none. */
static const struct lora_pair *pair_lora(
	const struct job *job, uint32_t at, uint32_t matrix)
{
	const struct moe_args *args = job->args;
	uint32_t pair = job->pair[at];
	uint32_t row = args->rows.lora[pair / args->topk];
	const struct lora_pair *lora;

	if (row == LORA_NONE)
		return NULL;
	lora = args->lora + (size_t)row * args->lora_stride +
	       (size_t)args->expert[pair] * MATRIX_COUNT + matrix;
	assert(lora->rank <= job->fast->limits.lora_rank);
	return lora->rank > 0 ? lora : NULL;
}

/* Gate and up share the two places of a pair; down takes the first. */
static float *low_place(const struct job *job, uint32_t at, uint32_t matrix)
{
	size_t place = 2 * (size_t)at + (matrix == MATRIX_UP);

	return job->area.low + place * job->fast->limits.lora_rank;
}

static void low_inputs(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	const struct moe_args *args = job->args;

	(void)worker;
	for (uint32_t at = (uint32_t)first; at < end; at++) {
		const float *x = args->x + (size_t)job->pair[at] / args->topk *
						   args->hidden;

		for (uint32_t m = MATRIX_GATE; m <= MATRIX_UP; m++) {
			const struct lora_pair *lora = pair_lora(job, at, m);

			if (lora)
				FAST(lora_down)
			(lora, x, args->hidden, low_place(job, at, m));
		}
	}
}

/* Items are tiles: a row of hidden lies among those of its tile. */
static void low_hidden(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	uint32_t inter = job->args->inter;
	float *row = fast_scratch(
		job->fast, worker, scratch_bytes(&job->fast->limits));

	for (size_t t = first; t < end; t++) {
		const struct gemm_tile *tile = &job->area.hidden_tile[t];

		for (uint32_t r = 0; r < tile->count; r++) {
			uint32_t at = tile->first + r;
			const struct lora_pair *lora =
				pair_lora(job, at, MATRIX_DOWN);

			if (!lora)
				continue;
			FAST(gemm_row)(job->form, tile, r, inter, row);
			FAST(lora_down)
			(lora, row, inter, low_place(job, at, MATRIX_DOWN));
		}
	}
}

/* --- products --------------------------------------------------------------
 */

static void pack_tiles(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	const struct moe_args *args = job->args;

	(void)worker;
	for (size_t t = first; t < end; t++) {
		const struct gemm_tile *tile = &job->area.tile[t];
		const float *rows[GEMM_TILE_ROWS];

		if (tile->count == 1)
			continue;
		for (uint32_t r = 0; r < tile->count; r++)
			rows[r] = args->x + (size_t)job->pair[tile->first + r] /
						    args->topk * args->hidden;
		FAST(gemm_pack)
		(job->form, rows, tile->count, args->hidden,
			packed_tile(job, job->area.packed, tile, args->hidden));
	}
}

/* A worker's place for the sums of a pair of panels. */
struct work {
	const struct job *job;
	const struct gemm_tile *tiles; /* of this sweep */
	uint32_t tile_count;
	float (*sum)[GEMM_WIDTH];
	struct lora_panel lora[2];
};

static struct work work_at(
	const struct job *job, uint32_t worker, float (*sum)[GEMM_WIDTH])
{
	uint32_t rank = job->fast->limits.lora_rank;
	unsigned char *scratch = fast_scratch(
		job->fast, worker, scratch_bytes(&job->fast->limits));

	return (struct work){
		.job = job,
		.sum = sum,
		.lora = {lora_panel_at(scratch, rank),
			lora_panel_at(scratch + lora_panel_bytes(rank), rank)},
	};
}

/* Add the update of `matrix` to outputs n .. n + width - 1 of a pair. */
static void update(struct work *work, uint32_t at, uint32_t matrix, size_t n,
	uint32_t width, float *value)
{
	const struct lora_pair *lora = pair_lora(work->job, at, matrix);

	if (lora)
		FAST(lora_up)
	(&work->lora[matrix == MATRIX_UP], lora, n, width,
		low_place(work->job, at, matrix), value);
}

/* The low-rank updates of a tile's rows, whose sums begin at `sum`. */
static void update_tile(struct work *work, const struct gemm_tile *tile,
	size_t n, uint32_t width, float *sum)
{
	for (uint32_t r = 0; r < tile->count; r++, sum += GEMM_WIDTH) {
		update(work, tile->first + r, MATRIX_GATE, n, width, sum);
		update(work, tile->first + r, MATRIX_UP, n, width,
			sum + PANEL_ROWS);
	}
}

/* Outputs n .. of gate and up become hidden, packed as down will read it. */
static void store_hidden(struct work *work, size_t n, uint32_t width)
{
	const struct job *job = work->job;
	uint32_t inter = job->args->inter;
	float *sum = work->sum[0];

	for (uint32_t t = 0; t < work->tile_count; t++) {
		const struct gemm_tile *tile = &work->tiles[t];
		struct vec row[VEC_LANES];

		if (job->has_lora)
			update_tile(work, tile, n, width, sum);
		for (size_t r = 0; r < tile->count; r++, sum += GEMM_WIDTH)
			row[r] = gemm_gated(
				vec_load(sum), vec_load(sum + PANEL_ROWS));
		FAST(gemm_put)
		(job->form, row, tile->count, inter, n,
			packed_tile(job, job->area.hidden, tile, inter));
	}
}

static void store_out(struct work *work, size_t n, uint32_t width)
{
	const struct job *job = work->job;
	const struct moe_args *args = job->args;
	uint32_t left = width < PANEL_ROWS ? width : PANEL_ROWS;
	uint32_t at = work->tiles[0].first;
	const struct gemm_tile *last = &work->tiles[work->tile_count - 1];
	uint32_t end = last->first + last->count;

	for (float *sum = work->sum[0]; at < end; at++, sum += GEMM_WIDTH) {
		float *out =
			args->out + (size_t)job->pair[at] * args->hidden + n;

		if (job->has_lora) {
			update(work, at, MATRIX_DOWN, n, left, sum);
			if (width > left)
				update(work, at, MATRIX_DOWN, n + left,
					width - left, sum + PANEL_ROWS);
		}
		vec_store_part(out, vec_load(sum), left);
		if (width > left)
			vec_store_part(out + left, vec_load(sum + PANEL_ROWS),
				width - left);
	}
}

static const unsigned char *slot_at(
	const struct moe_args *args, const struct segment *segment)
{
	return (const unsigned char *)args->tensor +
	       args->slot_offset[segment->slot];
}

/* Item i is panel i % per_segment of segment i / per_segment. */
static void gate_up_items(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	const struct moe_args *args = job->args;
	size_t line = args->hidden * dtype_size(args->type);
	float sum[GEMM_SWEEP_ROWS][GEMM_WIDTH];
	struct work work = work_at(job, worker, sum);
	unsigned int mode = gemm_begin(job->form);

	for (size_t item = first; item < end; item++) {
		const struct segment *segment =
			&job->area.segment[item / job->per_segment];
		size_t n = item % job->per_segment * PANEL_ROWS;
		size_t rest = args->inter - n;
		uint32_t width =
			rest < PANEL_ROWS ? (uint32_t)rest : PANEL_ROWS;
		const unsigned char *gate = slot_at(args, segment) + n * line;
		const unsigned char *up = gate + args->up_offset_bytes;
		struct gemm_pair pair = {
			.panel = {gate, up},
			.width = {width, width},
			.cols = args->hidden,
			.type = args->type,
			.form = job->form,
		};

		if (rest > PANEL_ROWS) {
			pair.next[0] = gate + PANEL_ROWS * line;
			pair.next[1] = up + PANEL_ROWS * line;
		}
		for (uint32_t t = 0; t < segment->tile_count;
			t += work.tile_count) {
			work.tiles = job->area.tile + segment->tile_first + t;
			work.tile_count = gemm_sweep_tiles(
				job->form, segment->tile_count - t);
			FAST(gemm_sweep)
			(&pair, work.tiles, work.tile_count, sum);
			store_hidden(&work, n, width);
		}
	}
	gemm_end(job->form, mode);
}

/* Item i is a pair of panels of segment i / per_segment. */
static void down_items(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	const struct moe_args *args = job->args;
	size_t line = args->inter * dtype_size(args->type);
	float sum[GEMM_SWEEP_ROWS][GEMM_WIDTH];
	struct work work = work_at(job, worker, sum);
	unsigned int mode = gemm_begin(job->form);

	for (size_t item = first; item < end; item++) {
		const struct segment *segment =
			&job->area.segment[item / job->per_segment];
		size_t n = item % job->per_segment * GEMM_WIDTH;
		size_t rest = args->hidden - n;
		uint32_t width =
			rest < GEMM_WIDTH ? (uint32_t)rest : GEMM_WIDTH;
		uint32_t left = width < PANEL_ROWS ? width : PANEL_ROWS;
		const unsigned char *down = slot_at(args, segment) +
					    args->down_offset_bytes + n * line;
		struct gemm_pair pair = {
			.panel = {down, down + PANEL_ROWS * line},
			.width = {left, width - left},
			.cols = args->inter,
			.type = args->type,
			.form = job->form,
		};

		for (uint32_t p = 0; p < 2 && rest > width; p++)
			pair.next[p] = pair.panel[p] + GEMM_WIDTH * line;
		for (uint32_t t = 0; t < segment->tile_count;
			t += work.tile_count) {
			work.tiles =
				job->area.hidden_tile + segment->tile_first + t;
			work.tile_count = gemm_sweep_tiles(
				job->form, segment->tile_count - t);
			FAST(gemm_sweep)
			(&pair, work.tiles, work.tile_count, sum);
			store_out(&work, n, width);
		}
	}
	gemm_end(job->form, mode);
}

static uint64_t phase_cost_ns(
	const struct job *job, uint64_t outputs, uint64_t cols)
{
	uint64_t cost_ns = 0;

	for (uint32_t i = 0; i < job->segment_count; i++)
		cost_ns += gemm_cost_ns(
			job->form, job->area.segment[i].count, outputs, cols);
	return cost_ns;
}

static void run_group(struct job *job)
{
	const struct moe_args *args = job->args;
	struct workers *workers = job->fast->workers;
	uint64_t rank = job->fast->limits.lora_rank;

	if (job->has_lora)
		workers_run_cost(workers, job->pair_count,
			gemm_cost_ns(GEMM_FLOATS, job->pair_count, 2 * rank,
				args->hidden),
			low_inputs, job);
	if (job->tile_count < job->pair_count)
		workers_run_cost(workers, job->tile_count,
			(uint64_t)job->pair_count * args->hidden / 2,
			pack_tiles, job);
	job->per_segment = (uint32_t)div_up(args->inter, PANEL_ROWS);
	workers_run_cost(workers, (size_t)job->per_segment * job->segment_count,
		phase_cost_ns(job, 2 * (uint64_t)args->inter, args->hidden),
		gate_up_items, job);
	if (job->has_lora)
		workers_run_cost(workers, job->tile_count,
			gemm_cost_ns(GEMM_FLOATS, job->pair_count, rank,
				args->inter),
			low_hidden, job);
	job->per_segment = (uint32_t)div_up(args->hidden, GEMM_WIDTH);
	workers_run_cost(workers, (size_t)job->per_segment * job->segment_count,
		phase_cost_ns(job, args->hidden, args->inter), down_items, job);
}

int FAST(fast_moe)(struct ops *ops, const struct moe_args *args)
{
	struct fast_backend *fast = fast_of(ops);
	const struct ops_limits *limits = &fast->limits;
	struct job job = {.fast = fast,
		.args = args,
		.form = gemm_form(fast, args->type)};
	struct area counted;
	uint32_t all = args->rows.count * args->topk;

	assert(args->rows.count <= limits->row_count);
	assert(args->topk > 0 && args->topk <= limits->topk);
	assert(args->inter > 0 && args->inter <= limits->inter);
	assert(args->hidden > 0 && args->hidden <= limits->hidden);
	assert(args->layout == WEIGHT_PANELS);
	lay_out(limits, fast_shared(fast, lay_out(limits, NULL, &counted)),
		&job.area);
	job.has_lora = args->lora && args->rows.lora;
	sort_pairs(args, &job.area);
	for (uint32_t done = 0; done < all;) {
		done = next_group(&job, done);
		run_group(&job);
	}
	return 0;
}
