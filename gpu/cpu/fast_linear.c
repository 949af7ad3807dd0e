/* fast_linear.c - linear, gate_up, embed and gather (rows -> rows) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linear and gate_up run in up to three phases over the threads: A x of the
 * rows that have a low-rank update; the rows packed into tiles; the products,
 * an item of which is one or two panels against all rows. A step of one row
 * has nothing to pack.
 *
 *   out = clamp((sum + bias) * scale + lora.scale * (B . (A x)))
 *
 * where A x is gemm_dot() and B . (A x) one fused chain, rank ascending.
 */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/fast_gemm.h"
#include "gpu/cpu/fast_lora.h"
#include "gpu/cpu/panels.h"

struct job {
	struct fast_backend *fast;
	const struct linear_args *args; /* [arg_count], or gate and up */
	uint32_t arg_count;
	bool gated; /* two arguments side by side */
	enum gemm_form form; /* of the tiles, the same for all arguments */
	uint32_t step; /* outputs of an item */
	uint32_t first, count; /* rows of this pass */
	struct gemm_tile *tiles[OPS_LINEAR_COUNT_MAX]; /* of each argument */
	uint32_t tile_count;
	size_t item_end[OPS_LINEAR_COUNT_MAX]; /* pairs of panels */
	unsigned char *packed;
	float *low; /* [arg_count][rows.count][lora_rank] */
};

static size_t packed_bytes(const struct ops_limits *limits)
{
	size_t most = fast_room(
		0, limits->row_count, fast_room(0, limits->hidden, 32));

	return most < GEMM_PACKED_MAX ? most : GEMM_PACKED_MAX;
}

static size_t low_floats(const struct ops_limits *limits)
{
	return fast_room(0, fast_room(0, limits->row_count, limits->lora_rank),
		OPS_LINEAR_COUNT_MAX);
}

struct fast_need FAST(fast_linear_need)(const struct ops_limits *limits)
{
	struct fast_need need = {0, lora_panel_bytes(limits->lora_rank)};
	size_t embed = fast_room(0, limits->hidden, sizeof(float));

	need.shared = fast_room(0, limits->row_count, sizeof(struct gemm_tile));
	need.shared = fast_room(need.shared, packed_bytes(limits), 1);
	need.shared = fast_room(need.shared, low_floats(limits), sizeof(float));
	if (need.scratch < embed)
		need.scratch = embed;
	return need;
}

/* --- low-rank updates ------------------------------------------------------
 */

/* The update of row r by argument i, NULL = none. */
static const struct lora_pair *row_pair(
	const struct job *job, uint32_t i, size_t r)
{
	const struct linear_args *args = &job->args[i];

	return lora_find(args->lora, &args->rows, r);
}

static float *row_low(const struct job *job, uint32_t i, size_t r)
{
	size_t row = (size_t)i * job->args->rows.count + r;

	return job->low + row * job->fast->limits.lora_rank;
}

/* Item i * rows.count + r is row r of argument i. */
static void low_rows(const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	uint32_t rows = job->args->rows.count;

	(void)worker;
	for (size_t item = first; item < end; item++) {
		uint32_t i = (uint32_t)(item / rows);
		size_t r = item % rows;
		const struct linear_args *args = &job->args[i];
		const struct lora_pair *pair = row_pair(job, i, r);

		if (!pair)
			continue;
		assert(pair->rank <= job->fast->limits.lora_rank);
		FAST(lora_down)
		(pair, args->x + r * args->x_stride, args->weight.cols,
			row_low(job, i, r));
	}
}

static void run_low(struct job *job)
{
	size_t rows = job->args->rows.count;
	uint64_t cost_ns = 0;

	for (uint32_t i = 0; i < job->arg_count; i++)
		if (job->args[i].lora && job->args[i].rows.lora)
			cost_ns += gemm_cost_ns(GEMM_FLOATS, rows,
				job->fast->limits.lora_rank,
				job->args[i].weight.cols);
	if (cost_ns > 0)
		workers_run_cost(job->fast->workers, job->arg_count * rows,
			cost_ns, low_rows, job);
}

/* --- products --------------------------------------------------------------
 */

/* A worker's place for the sums of a pair of panels. */
struct work {
	const struct job *job;
	const struct gemm_tile *tiles; /* of this sweep */
	uint32_t tile_count;
	float (*sum)[GEMM_WIDTH];
	struct lora_panel lora;
};

/* A panel's sums on their way out. */
struct panel_end {
	const struct linear_args *args;
	size_t n; /* its first output */
	uint32_t width;
	struct vec bias, scale, high, low;
};

static struct panel_end panel_end(const struct linear_args *args, size_t n)
{
	size_t rest = args->weight.rows - n;
	struct panel_end end = {.args = args,
		.n = n,
		.width = rest < PANEL_ROWS ? (uint32_t)rest : PANEL_ROWS,
		.bias = vec_set(0),
		.scale = vec_set(args->scale),
		.high = vec_set(args->clip),
		.low = vec_set(-args->clip)};

	if (args->bias)
		end.bias = vec_load_part(args->bias + n, end.width);
	return end;
}

/* (sum + bias) * scale; a sum of -0 stays one where there is no bias. */
VEC_FN struct vec scaled(const struct panel_end *end, struct vec sum)
{
	if (end->args->bias)
		sum = vec_add(sum, end->bias);
	return vec_mul(sum, end->scale);
}

VEC_FN struct vec clipped(const struct panel_end *end, struct vec value)
{
	if (end->args->clip > 0) {
		/* The bound first: a NaN in the value then stays. */
		value = vec_min(end->high, value);
		value = vec_max(end->low, value);
	}
	return value;
}

/* Nobody has an update: straight from the sums to the output. */
static void finish_plain(
	const struct panel_end *end, const float *sum, size_t row, size_t last)
{
	const struct linear_args *args = end->args;
	float *out = args->out + row * args->out_stride + end->n;

	for (; row < last; row++, sum += GEMM_WIDTH) {
		struct vec value = clipped(end, scaled(end, vec_load(sum)));

		if (end->width == PANEL_ROWS)
			vec_store(out, value);
		else
			vec_store_part(out, value, end->width);
		out += args->out_stride;
	}
}

/*
 * Bias, scale, update and clip of one panel of argument i, which begins at
 * output n; `column` is its place in the sums.
 */
static void finish_panel(
	struct work *work, uint32_t i, size_t n, uint32_t column)
{
	const struct job *job = work->job;
	const struct linear_args *args = &job->args[i];
	struct panel_end end = panel_end(args, n);
	const struct gemm_tile *tile = &work->tiles[work->tile_count - 1];
	size_t row = work->tiles[0].first, last = tile->first + tile->count;
	float *sum = work->sum[0] + column;

	if (!job->gated && !(args->lora && args->rows.lora)) {
		finish_plain(&end, sum, row, last);
		return;
	}
	for (; row < last; row++, sum += GEMM_WIDTH) {
		const struct lora_pair *pair = row_pair(job, i, row);

		vec_store(sum, scaled(&end, vec_load(sum)));
		if (pair)
			FAST(lora_up)
		(&work->lora, pair, n, end.width, row_low(job, i, row), sum);
		vec_store(sum, clipped(&end, vec_load(sum)));
		if (!job->gated)
			vec_store_part(args->out + row * args->out_stride + n,
				vec_load(sum), end.width);
	}
}

static void store_gated(struct work *work, size_t n)
{
	const struct linear_args *args = work->job->args;
	size_t rest = args->weight.rows - n;
	size_t width = rest < PANEL_ROWS ? rest : PANEL_ROWS;
	size_t row = work->tiles[0].first;
	float *out = args->out + row * args->out_stride + n;
	float *sum = work->sum[0];

	for (uint32_t t = 0; t < work->tile_count; t++) {
		for (uint32_t r = 0; r < work->tiles[t].count; r++) {
			vec_store_part(out,
				gemm_gated(vec_load(sum),
					vec_load(sum + PANEL_ROWS)),
				width);
			out += args->out_stride;
			sum += GEMM_WIDTH;
		}
	}
}

/* Point half `half` of the pair at the panel of `weight` with output n. */
static void aim(struct gemm_pair *pair, uint32_t half,
	const struct weight *weight, size_t n, size_t next)
{
	size_t line = weight->cols * dtype_size(weight->type);
	const unsigned char *data = weight->data;
	size_t rest = n < weight->rows ? weight->rows - n : 0;

	pair->panel[half] = data + n * line;
	pair->width[half] = rest < PANEL_ROWS ? (uint32_t)rest : PANEL_ROWS;
	pair->next[half] = next < weight->rows ? data + next * line : NULL;
}

/* Pair `index` of argument i, of both arguments when gated. */
static void do_pair(struct work *work, uint32_t i, size_t index)
{
	const struct job *job = work->job;
	const struct weight *weight = &job->args[i].weight;
	const struct gemm_tile *tiles = job->tiles[i];
	size_t n = index * job->step;
	struct gemm_pair pair = {
		.cols = weight->cols, .type = weight->type, .form = job->form};

	aim(&pair, 0, weight, n, n + job->step);
	if (job->gated)
		aim(&pair, 1, &job->args[1].weight, n, n + job->step);
	else if (job->step == GEMM_WIDTH)
		aim(&pair, 1, weight, n + PANEL_ROWS,
			n + PANEL_ROWS + GEMM_WIDTH);
	for (uint32_t t = 0; t < job->tile_count; t += work->tile_count) {
		work->tiles = tiles + t;
		work->tile_count =
			gemm_sweep_tiles(job->form, job->tile_count - t);
		FAST(gemm_sweep)
		(&pair, work->tiles, work->tile_count, work->sum);
		finish_panel(work, i, n, 0);
		if (job->gated) {
			finish_panel(work, 1, n, PANEL_ROWS);
			store_gated(work, n);
		} else if (pair.width[1] > 0) {
			finish_panel(work, i, n + PANEL_ROWS, PANEL_ROWS);
		}
	}
}

static void do_pairs(const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	uint32_t rank_max = job->fast->limits.lora_rank;
	float sum[GEMM_SWEEP_ROWS][GEMM_WIDTH];
	struct work work = {.job = job, .sum = sum};
	unsigned int mode = gemm_begin(job->form);
	uint32_t i = 0;

	work.lora = lora_panel_at(
		fast_scratch(job->fast, worker, lora_panel_bytes(rank_max)),
		rank_max);
	for (size_t item = first; item < end; item++) {
		while (item >= job->item_end[i])
			i++;
		do_pair(&work, i, item - (i > 0 ? job->item_end[i - 1] : 0));
	}
	gemm_end(job->form, mode);
}

/* A pair of panels is best, but few outputs go round only one by one. */
static uint32_t choose_step(const struct job *job)
{
	size_t pairs = 0;

	for (uint32_t i = 0; i < job->arg_count; i++)
		pairs += job->args[i].weight.rows / GEMM_WIDTH;
	return job->gated || pairs < 2 * (size_t)job->fast->thread_count
		       ? PANEL_ROWS
		       : GEMM_WIDTH;
}

static void run_pairs(struct job *job)
{
	uint32_t weights = job->gated ? 1 : job->arg_count;
	uint64_t cost_ns = 0;
	size_t items = 0;

	job->step = choose_step(job);
	for (uint32_t i = 0; i < weights; i++) {
		const struct weight *weight = &job->args[i].weight;

		items += div_up(weight->rows, job->step);
		job->item_end[i] = items;
		cost_ns += gemm_cost_ns(
			job->form, job->count, weight->rows, weight->cols);
	}
	if (job->gated)
		cost_ns *= 2;
	workers_run_cost(job->fast->workers, items, cost_ns, do_pairs, job);
}

static void pack_tiles(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	const struct linear_args *args = job->args;
	size_t row_bytes = gemm_row_bytes(job->form, args->weight.cols);

	(void)worker;
	for (size_t t = first; t < end; t++) {
		struct gemm_tile *tile = &job->tiles[0][t];
		const float *rows[GEMM_TILE_ROWS];
		size_t row = tile->first;
		unsigned char *to =
			job->packed + (row - job->first) * row_bytes;

		for (uint32_t r = 0; r < tile->count; r++)
			rows[r] = args->x + (row + r) * args->x_stride;
		FAST(gemm_pack)
		(job->form, rows, tile->count, args->weight.cols, to);
		tile->x = to;
	}
}

/* Rows job->first .. + count - 1, which all arguments have from one x. */
static void run_packed(struct job *job)
{
	uint32_t cols = job->args->weight.cols;

	job->tile_count = gemm_tile_count(job->form, job->count);
	for (uint32_t t = 0; t < job->tile_count; t++) {
		uint32_t first =
			gemm_tile_first(job->count, job->tile_count, t);
		uint32_t end =
			gemm_tile_first(job->count, job->tile_count, t + 1);

		job->tiles[0][t].first = job->first + first;
		job->tiles[0][t].count = end - first;
	}
	for (uint32_t i = 1; i < job->arg_count; i++)
		job->tiles[i] = job->tiles[0];
	workers_run_cost(job->fast->workers, job->tile_count,
		(uint64_t)job->count * cols / 2, pack_tiles, job);
	run_pairs(job);
}

/* Row job->first alone, which needs no packing. */
static void run_single(struct job *job)
{
	struct gemm_tile tile[OPS_LINEAR_COUNT_MAX];

	for (uint32_t i = 0; i < job->arg_count; i++) {
		const struct linear_args *args = &job->args[i];

		tile[i] = (struct gemm_tile){
			.x = args->x + (size_t)job->first * args->x_stride,
			.first = job->first,
			.count = 1,
		};
		job->tiles[i] = &tile[i];
	}
	job->tile_count = 1;
	run_pairs(job);
}

static void run_rows(struct job *job, struct gemm_tile *tiles)
{
	uint32_t rows = job->args->rows.count;
	size_t fit = packed_bytes(&job->fast->limits) /
		     gemm_row_bytes(job->form, job->args->weight.cols);

	for (job->first = 0; job->first < rows; job->first += job->count) {
		uint32_t rest = rows - job->first;

		job->count = rest < fit ? rest : (uint32_t)fit;
		job->tiles[0] = tiles;
		if (job->count > 1) {
			run_packed(job);
		} else {
			job->count = 1;
			run_single(job);
		}
	}
}

static void check(const struct linear_args *args)
{
	assert(args->weight.data && args->weight.cols > 0);
	assert(args->weight.layout == WEIGHT_PANELS);
	assert(args->rows.count <= 1 ||
		(args->x_stride >= args->weight.cols &&
			args->out_stride >= args->weight.rows));
}

/* Arguments that have the same x, or a step of one row. */
static void run_job(struct fast_backend *fast, const struct linear_args *args,
	uint32_t count, bool gated)
{
	const struct ops_limits *limits = &fast->limits;
	struct job job = {.fast = fast,
		.args = args,
		.arg_count = count,
		.gated = gated,
		.form = gemm_form(fast, args->weight.type)};
	struct gemm_tile *tiles;
	size_t tile_room = fast_room(0, limits->row_count, sizeof(*tiles));
	size_t packed_room = fast_room(0, packed_bytes(limits), 1);

	for (uint32_t i = 0; i < count; i++)
		check(&args[i]);
	assert(args->rows.count <= limits->row_count);
	tiles = fast_shared(fast,
		tile_room + packed_room + low_floats(limits) * sizeof(float));
	job.packed = (unsigned char *)tiles + tile_room;
	job.low = (float *)(void *)(job.packed + packed_room);
	run_low(&job);
	run_rows(&job, tiles);
}

/* Can both take their rows from the same tiles? One row has its own. */
static bool go_together(const struct fast_backend *fast,
	const struct linear_args *a, const struct linear_args *b)
{
	if (gemm_form(fast, a->weight.type) != gemm_form(fast, b->weight.type))
		return false;
	return a->rows.count <= 1 ||
	       (b->x == a->x && b->x_stride == a->x_stride &&
		       b->weight.cols == a->weight.cols);
}

int FAST(fast_linear)(
	struct ops *ops, const struct linear_args *args, uint32_t count)
{
	struct fast_backend *fast = fast_of(ops);
	uint32_t same;

	assert(count >= 1 && count <= OPS_LINEAR_COUNT_MAX);
	for (uint32_t i = 0; i < count; i += same) {
		same = 1;
		while (i + same < count &&
			go_together(fast, &args[i], &args[i + same]))
			same++;
		run_job(fast, args + i, same, false);
	}
	return 0;
}

int FAST(fast_gate_up)(struct ops *ops, const struct gate_up_args *args)
{
	struct linear_args part[2] = {
		{
			.rows = args->rows,
			.x = args->x,
			.x_stride = args->x_stride,
			.weight = args->gate,
			.scale = 1,
			.lora = args->gate_lora,
			.out = args->out,
			.out_stride = args->out_stride,
		},
	};

	assert(args->gate.rows == args->up.rows);
	assert(args->gate.cols == args->up.cols);
	assert(args->gate.type == args->up.type);
	part[1] = part[0];
	part[1].weight = args->up;
	part[1].lora = args->up_lora;
	run_job(fast_of(ops), part, 2, true);
	return 0;
}

/* --- embed, gather ---------------------------------------------------------
 */

struct embed_job {
	struct fast_backend *fast;
	const struct embed_args *args;
};

static void embed_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct embed_job *job = arg;
	const struct embed_args *args = job->args;
	const struct weight *table = &args->table;
	struct panels panels = {.layout = table->layout,
		.type = table->type,
		.rows = table->rows,
		.cols = table->cols};
	size_t cols = table->cols;
	void *row =
		fast_scratch(job->fast, worker, cols * dtype_size(table->type));

	for (size_t r = first; r < end; r++) {
		float *out = args->out + r * cols;

		assert(args->rows.token[r] < table->rows);
		panels_row(&panels, table->data, args->rows.token[r], row);
		for (size_t i = 0; i < cols; i += VEC_LANES) {
			size_t some =
				cols - i < VEC_LANES ? cols - i : VEC_LANES;
			struct vec value =
				gemm_load_part(row, table->type, i, some);

			vec_store_part(out + i,
				vec_mul(vec_set(args->scale), value), some);
		}
	}
}

int FAST(fast_embed)(struct ops *ops, const struct embed_args *args)
{
	struct embed_job job = {fast_of(ops), args};

	workers_run_cost(job.fast->workers, args->rows.count,
		(uint64_t)args->rows.count * args->table.cols, embed_rows,
		&job);
	return 0;
}

static void gather_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct gather_args *args = arg;
	size_t width = args->width;

	(void)worker;
	for (size_t i = first; i < end; i++)
		memcpy(args->out + i * width, args->x + args->index[i] * width,
			width * sizeof(float));
}

int FAST(fast_gather)(struct ops *ops, const struct gather_args *args)
{
	workers_run_cost(fast_of(ops)->workers, args->count,
		(uint64_t)args->count * args->width / 2, gather_rows, args);
	return 0;
}
