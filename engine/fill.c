/* fill.c - fill the model's memory from its files (plan -> bytes in place) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/ahead.h"
#include "engine/fill.h"
#include "engine/matrix.h"
#include "engine/weights.h"

/* What happens to the bytes of a segment. */
enum piece_kind {
	PIECE_MATRIX, /* to `to`, in the layout that is wanted */
	PIECE_FP8, /* the same, expanded before */
	PIECE_HOST /* kept in `host` until all is read */
};

struct piece {
	struct read_segment segment;
	enum piece_kind kind;
	uint32_t item;
	vmm_addr to;
	uint8_t *host;
	const float *scales; /* PIECE_FP8 */
};

struct state {
	const struct fill *fill;
	struct piece *pieces;
	struct read_segment *segments; /* the pieces' own, for the reader */
	uint32_t count;
	uint8_t *host; /* scales, then vectors as stored */
	uint64_t scale_bytes, vector_bytes;
	uint16_t *expanded; /* [lane_count] one chunk of fp8, expanded */
	struct ahead ahead; /* its places are the pieces */
	uint64_t total_bytes;
};

/* Elements of one matrix of the item. */
static uint64_t matrix_size(const struct plan_item *item)
{
	return (uint64_t)item->rows * item->cols;
}

static bool is_fp8(const struct plan_item *item)
{
	return item->type == DTYPE_F8_E4M3;
}

/* Segments that an item becomes. */
static uint32_t piece_count(const struct plan_item *item)
{
	uint32_t count = item->expert_count ? item->expert_count : 1;

	return item->role == ROLE_EXPERT_GATE_UP ? 2 * count : count;
}

/* Where in a slot a matrix of this role begins. */
static uint64_t slot_part(
	const struct expert_shape *shape, enum tensor_role role)
{
	if (role == ROLE_EXPERT_UP)
		return shape->up_offset_bytes;
	if (role == ROLE_EXPERT_DOWN)
		return shape->down_offset_bytes;
	return 0;
}

/* One piece of `part_bytes` of an expert item. */
static void expert_piece(const struct state *state, uint32_t index,
	uint32_t part, uint64_t part_bytes, struct piece *out)
{
	const struct fill *fill = state->fill;
	const struct plan_item *item = &fill->plan->items[index];
	const struct expert_shape *shape = expert_store_shape(fill->experts);
	bool gate_up = item->role == ROLE_EXPERT_GATE_UP;
	uint32_t expert = item->expert + (gate_up ? part / 2 : part);
	enum tensor_role role = item->role;
	uint32_t layer = 0;

	if (gate_up)
		role = part % 2 ? ROLE_EXPERT_UP : ROLE_EXPERT_GATE;
	for (uint32_t l = 0; l < item->layer; l++)
		layer += fill->config->is_moe[l];
	*out = (struct piece){
		.segment = {.file = item->file,
			.offset_bytes = item->offset_bytes + part * part_bytes,
			.size_bytes = part_bytes},
		.kind = is_fp8(item) ? PIECE_FP8 : PIECE_MATRIX,
		.item = index,
		.to = expert_store_base_slot(fill->experts, layer, expert) +
		      slot_part(shape, role),
	};
}

static void dense_piece(
	const struct state *state, uint32_t index, struct piece *out)
{
	const struct fill *fill = state->fill;
	const struct plan_item *item = &fill->plan->items[index];

	*out = (struct piece){
		.segment = {.file = item->file,
			.offset_bytes = item->offset_bytes,
			.size_bytes = item->size_bytes},
		.kind = is_fp8(item) ? PIECE_FP8 : PIECE_MATRIX,
		.item = index,
		.to = fill->dense + fill->offset[index],
	};
	if (tensor_role_is_vector(item->role))
		out->kind = PIECE_HOST;
}

/* Cut every item into pieces; the host parts get their places. */
static void cut_items(struct state *state)
{
	const struct model_plan *plan = state->fill->plan;
	uint64_t scale_at = 0, vector_at = state->scale_bytes;
	uint32_t n = 0;

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];
		uint32_t parts = piece_count(item);
		const float *scales = NULL;

		if (is_fp8(item)) {
			scales = (const float *)(const void *)(state->host +
							       scale_at);
			scale_at += item->scale_size_bytes;
		}
		for (uint32_t part = 0; part < parts; part++, n++) {
			struct piece *piece = &state->pieces[n];

			if (tensor_role_is_expert(item->role))
				expert_piece(state, i, part,
					item->size_bytes / parts, piece);
			else
				dense_piece(state, i, piece);
			piece->scales = scales;
			if (piece->kind != PIECE_HOST)
				continue;
			piece->host = state->host + vector_at;
			vector_at += item->size_bytes;
		}
	}
	assert(n == state->count);
}

static int compare_pieces(const void *left, const void *right)
{
	const struct read_segment *a = &((const struct piece *)left)->segment;
	const struct read_segment *b = &((const struct piece *)right)->segment;

	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	if (a->offset_bytes != b->offset_bytes)
		return a->offset_bytes < b->offset_bytes ? -1 : 1;
	return 0;
}

static void sort_pieces(struct state *state)
{
	qsort(state->pieces, state->count, sizeof(*state->pieces),
		compare_pieces);
	for (uint32_t i = 0; i < state->count; i++)
		state->segments[i] = state->pieces[i].segment;
}

/* The matrix that a piece is part of. */
static struct panels panels_of(
	const struct fill *fill, const struct plan_item *item)
{
	bool both = item->role == ROLE_EXPERT_GATE_UP;

	return (struct panels){
		.layout = plan_item_layout(item, fill->layout),
		.type = plan_item_loaded_type(item),
		.rows = both ? item->rows / 2 : item->rows,
		.cols = item->cols,
		.nope = fill->config->nope_dim,
		.value = fill->config->value_dim,
	};
}

static int begin_ahead(struct state *state)
{
	struct ahead_place *places = calloc(state->count + 1, sizeof(*places));
	int rc;

	if (!places)
		return -ENOMEM;
	for (uint32_t i = 0; i < state->count; i++) {
		const struct piece *piece = &state->pieces[i];
		struct panels panels = panels_of(
			state->fill, &state->fill->plan->items[piece->item]);

		if (piece->kind == PIECE_HOST)
			continue;
		places[i] = (struct ahead_place){
			piece->to, (uint64_t)panels.rows * panels.cols *
					   dtype_size(panels.type)};
	}
	rc = ahead_begin(state->fill->vmm, places, state->count,
		state->fill->lane_count, &state->ahead);
	free(places);
	return rc;
}

/* Bytes [offset, offset + length) of a matrix, as stored, to their places. */
static int put(const struct fill *fill, const struct piece *piece,
	uint64_t offset, const uint8_t *data, size_t length)
{
	struct matrix_place place = {
		.vmm = fill->vmm,
		.to = piece->to,
		.panels = panels_of(fill, &fill->plan->items[piece->item]),
	};

	return matrix_put(&place, offset, data, length);
}

/* bf16(fp8 value * scale of its block), element by element. */
static int take_fp8(const struct state *state, const struct piece *piece,
	uint32_t lane, uint64_t offset, const uint8_t *data, size_t length)
{
	const struct fill *fill = state->fill;
	const struct plan_item *item = &fill->plan->items[piece->item];
	uint16_t *expanded =
		state->expanded + (size_t)lane * READER_CHUNK_BYTES;
	uint32_t block_rows = fill->config->fp8_block_rows;
	uint32_t block_cols = fill->config->fp8_block_cols;
	size_t scale_cols = div_up(item->cols, block_cols);

	_Static_assert(FP8_EXPANDED_TYPE == DTYPE_BF16, "expanded to 16 bits");

	for (size_t i = 0; i < length; i++) {
		uint64_t at = offset + i;
		size_t row = at / item->cols / block_rows;
		size_t col = at % item->cols / block_cols;

		expanded[i] =
			f32_to_bf16(f8_e4m3_to_f32(data[i]) *
				    piece->scales[row * scale_cols + col]);
	}
	return put(fill, piece, offset * sizeof(*expanded),
		(const uint8_t *)expanded, length * sizeof(*expanded));
}

static int take(void *arg, uint32_t lane, uint32_t segment, uint64_t offset,
	const uint8_t *data, size_t length)
{
	struct state *state = arg;
	const struct piece *piece = &state->pieces[segment];

	ahead_reached(&state->ahead, segment);
	switch (piece->kind) {
	case PIECE_FP8:
		return take_fp8(state, piece, lane, offset, data, length);
	case PIECE_HOST:
		memcpy(piece->host + offset, data, length);
		return 0;
	case PIECE_MATRIX:
	default:
		return put(state->fill, piece, offset, data, length);
	}
}

static void progress(void *arg, uint64_t done_bytes)
{
	const struct state *state = arg;

	if (state->fill->progress)
		state->fill->progress(state->fill->progress_arg, done_bytes,
			state->total_bytes);
}

static int take_scale(void *arg, uint32_t lane, uint32_t segment,
	uint64_t offset, const uint8_t *data, size_t length)
{
	struct state *state = arg;

	(void)lane; /* there is one */
	memcpy(state->pieces[segment].host + offset, data, length);
	return 0;
}

static int check_scales(const struct state *state, struct error *err)
{
	const struct model_plan *plan = state->fill->plan;
	const float *scale = (const float *)(const void *)state->host;

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];
		size_t count = item->scale_size_bytes / sizeof(*scale);

		for (size_t k = 0; k < count; k++)
			if (!isfinite(scale[k]))
				return error_set(err, EINVAL,
					"%s: tensor "
					"\"%s\": block scale %zu is not a "
					"finite number",
					state->fill->files
						->weights[item->scale_file]
						.name,
					item->name, k);
		scale += count;
	}
	return 0;
}

/* The scales come first, because blocks are expanded as they pass by. */
static int read_scales(struct state *state, struct error *err)
{
	const struct model_plan *plan = state->fill->plan;
	struct reader_sink sink = {.take = take_scale, .arg = state};
	struct reader_info info;
	uint64_t at = 0;
	uint32_t n = 0;
	int rc;

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];

		if (!is_fp8(item))
			continue;
		state->pieces[n++] = (struct piece){
			.segment = {.file = item->scale_file,
				.offset_bytes = item->scale_offset_bytes,
				.size_bytes = item->scale_size_bytes},
			.kind = PIECE_HOST,
			.item = i,
			.host = state->host + at,
		};
		at += item->scale_size_bytes;
	}
	if (n == 0)
		return 0;
	qsort(state->pieces, n, sizeof(*state->pieces), compare_pieces);
	for (uint32_t i = 0; i < n; i++)
		state->segments[i] = state->pieces[i].segment;
	rc = reader_run(
		state->fill->files, state->segments, n, &sink, &info, err);
	return rc ? rc : check_scales(state, err);
}

/* Vectors to float, into their places. */
static int store_vectors(struct state *state, struct error *err)
{
	const struct fill *fill = state->fill;

	for (uint32_t i = 0; i < state->count; i++) {
		const struct piece *piece = &state->pieces[i];
		const struct plan_item *item = &fill->plan->items[piece->item];
		uint64_t width = matrix_size(item);
		float *wide;
		int rc;

		if (piece->kind != PIECE_HOST)
			continue;
		wide = malloc(width * sizeof(*wide));
		if (!wide)
			return error_set(err, ENOMEM,
				"no memory to convert "
				"tensor \"%s\"",
				item->name);
		for (uint64_t k = 0; k < width; k++)
			wide[k] = dtype_load(piece->host, item->type, k);
		rc = fill->vmm->ops->copy_in(
			fill->vmm, piece->to, wide, width * sizeof(*wide));
		free(wide);
		if (rc)
			return error_set(err, -rc,
				"storing tensor \"%s\" "
				"failed: %s",
				item->name, strerror(-rc));
	}
	return 0;
}

/* Count what will be needed; false when a sum does not fit. */
static bool measure(struct state *state)
{
	const struct model_plan *plan = state->fill->plan;
	size_t pieces = 0, total = 0;

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];

		if (!add_ok(pieces, piece_count(item), &pieces) ||
			!add_ok(total, item->size_bytes, &total))
			return false;
		if (is_fp8(item))
			state->scale_bytes += item->scale_size_bytes;
		if (tensor_role_is_vector(item->role))
			state->vector_bytes += item->size_bytes;
	}
	state->total_bytes = total;
	return u32_ok(pieces, &state->count);
}

static bool allocate(struct state *state)
{
	uint64_t host = state->scale_bytes + state->vector_bytes;

	state->pieces = calloc(state->count + 1, sizeof(*state->pieces));
	state->segments = calloc(state->count + 1, sizeof(*state->segments));
	state->host = malloc(host ? host : 1);
	state->expanded = malloc(sizeof(*state->expanded) *
				 state->fill->lane_count * READER_CHUNK_BYTES);
	return state->pieces && state->segments && state->host &&
	       state->expanded;
}

int fill_run(
	const struct fill *fill, struct reader_info *out, struct error *err)
{
	struct state state = {.fill = fill};
	struct reader_sink sink = {
		.take = take,
		.progress = progress,
		.arg = &state,
		.lane_count = fill->lane_count,
	};
	int rc;

	if (!measure(&state))
		return error_set(err, EOVERFLOW,
			"the model has more tensors "
			"or bytes than this machine can count");
	if (allocate(&state))
		rc = read_scales(&state, err);
	else
		rc = error_set(err, ENOMEM,
			"no memory to plan the reading of "
			"%u tensors",
			fill->plan->count);
	if (rc == 0) {
		cut_items(&state);
		sort_pieces(&state);
		rc = begin_ahead(&state);
		if (rc)
			error_set(err, -rc,
				"no plan of the memory of %u "
				"tensors: %s",
				fill->plan->count, strerror(-rc));
	}
	if (rc == 0)
		rc = reader_run(fill->files, state.segments, state.count, &sink,
			out, err);
	if (rc == 0)
		rc = store_vectors(&state, err);
	ahead_end(&state.ahead);
	free(state.expanded);
	free(state.host);
	free(state.segments);
	free(state.pieces);
	return rc;
}
