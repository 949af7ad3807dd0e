/* adapter_fill.c - an adapter's bytes into its slots (plan -> memory) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "engine/adapter_fill.h"
#include "engine/matrix.h"

/* One matrix of one expert. */
struct piece {
	struct read_segment segment;
	struct matrix_place place;
	enum dtype type; /* as stored */
	uint8_t *host; /* where a matrix to be converted is gathered */
};

struct state {
	const struct adapter_fill *fill;
	struct piece *pieces; /* those of the base's type first */
	struct read_segment *segments;
	uint32_t count, direct_count;
	uint64_t before_bytes; /* of the runs of the reader that have ended */
};

static uint64_t part_offset(
	const struct expert_shape *shape, enum adapter_part part)
{
	if (part == ADAPTER_UP)
		return shape->up_offset_bytes;
	if (part == ADAPTER_DOWN)
		return shape->down_offset_bytes;
	return 0;
}

static struct piece make_piece(const struct adapter_fill *fill, uint32_t expert,
	enum adapter_part part)
{
	const struct adapter_tensor *tensor =
		&fill->plan->tensors[expert][part];
	const struct expert_shape *shape = fill->shape;
	bool down = part == ADAPTER_DOWN;

	return (struct piece){
		.segment = {.file = tensor->file,
			.offset_bytes = tensor->offset_bytes,
			.size_bytes = tensor->size_bytes,
			.unit_bytes = PANEL_ROWS *
				      (uint32_t)dtype_size(tensor->type) *
				      (down ? shape->inter : shape->hidden)},
		.place = {.vmm = fill->vmm,
			.to = fill->slots[expert] + part_offset(shape, part),
			.panels = {.layout = shape->format.layout,
				.type = shape->format.type,
				.rows = down ? shape->hidden : shape->inter,
				.cols = down ? shape->inter : shape->hidden}},
		.type = tensor->type,
	};
}

/* In the order in which the files lie. */
static int compare_places(const void *left, const void *right)
{
	const struct piece *x = left, *y = right;
	const struct read_segment *a = &x->segment, *b = &y->segment;

	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	if (a->offset_bytes != b->offset_bytes)
		return a->offset_bytes < b->offset_bytes ? -1 : 1;
	return 0;
}

/* Those of the base's type before the others; within them as files lie. */
static int compare_pieces(const void *left, const void *right)
{
	const struct piece *x = left, *y = right;
	bool x_converts = x->type != x->place.panels.type;
	bool y_converts = y->type != y->place.panels.type;

	if (x_converts != y_converts)
		return x_converts ? 1 : -1;
	return compare_places(left, right);
}

/* All have a hash, or none. */
static bool is_proven(const struct adapter_fill *fill)
{
	const struct model_files *files = &fill->files->model;

	for (uint32_t i = 0; i < files->weight_count; i++)
		assert(files->weights[i].has_hash ==
			files->weights[0].has_hash);
	return files->weight_count > 0 && files->weights[0].has_hash;
}

static void cut(struct state *state)
{
	const struct adapter_fill *fill = state->fill;
	uint32_t n = 0;

	for (uint32_t i = 0; i < fill->plan->config.total; i++)
		for (int part = 0; part < ADAPTER_PART_COUNT; part++)
			state->pieces[n++] =
				make_piece(fill, i, (enum adapter_part)part);
	assert(n == state->count);
	qsort(state->pieces, n, sizeof(*state->pieces),
		is_proven(fill) ? compare_places : compare_pieces);
	for (uint32_t i = 0; i < n; i++) {
		state->segments[i] = state->pieces[i].segment;
		state->direct_count +=
			state->pieces[i].type == fill->shape->format.type;
	}
}

static int keep_pace(
	const struct adapter_fill *fill, uint32_t lane, size_t size_bytes)
{
	return fill->pace ? fill->pace->wait(fill->pace->arg, lane, size_bytes)
			  : 0;
}

/* Once for each matrix; a lane that was ahead has touched some of it. */
static void prepare(const struct state *state, const struct piece *piece)
{
	struct vmm *vmm = state->fill->vmm;
	const struct panels *panels = &piece->place.panels;

	vmm->ops->prepare(vmm, piece->place.to,
		(size_t)panels->rows * panels->cols * dtype_size(panels->type));
}

static int take_direct(void *arg, uint32_t lane, uint32_t segment,
	uint64_t offset, const uint8_t *data, size_t length)
{
	const struct state *state = arg;
	int rc = keep_pace(state->fill, lane, length);

	if (rc == 0 && offset == 0)
		prepare(state, &state->pieces[segment]);
	return rc ? rc
		  : matrix_put(&state->pieces[segment].place, offset, data,
			    length);
}

static int take_host(void *arg, uint32_t lane, uint32_t segment,
	uint64_t offset, const uint8_t *data, size_t length)
{
	const struct piece *piece = arg;

	(void)lane; /* there is one */
	(void)segment; /* and one */
	memcpy(piece->host + offset, data, length);
	return 0;
}

static void progress(void *arg, uint64_t done_bytes)
{
	const struct state *state = arg;

	if (state->fill->done_bytes)
		__atomic_store_n(state->fill->done_bytes,
			state->before_bytes + done_bytes, __ATOMIC_RELAXED);
}

static int fill_direct(
	struct state *state, struct reader_info *out, struct error *err)
{
	struct reader_sink sink = {
		.take = take_direct,
		.progress = progress,
		.arg = state,
		.lane_count = state->fill->lane_count,
		.cached = true,
	};
	int rc;

	if (state->direct_count == 0)
		return 0;
	rc = reader_run(&state->fill->files->model, state->segments,
		state->direct_count, &sink, out, err);
	for (uint32_t i = 0; rc == 0 && i < state->direct_count; i++)
		state->before_bytes += state->segments[i].size_bytes;
	return rc;
}

static int convert(const struct state *state, struct piece *piece,
	uint8_t *converted, struct error *err)
{
	const struct panels *panels = &piece->place.panels;
	size_t count = (size_t)panels->rows * panels->cols;
	size_t done = dtype_convert(
		converted, panels->type, piece->host, piece->type, count);
	const struct model_files *files = &state->fill->files->model;
	int rc = keep_pace(state->fill, 0, count * dtype_size(piece->type));

	if (rc)
		return error_set(err, -rc, "it was told to end");
	if (done < count) {
		uint64_t at = piece->segment.offset_bytes +
			      done * dtype_size(piece->type);

		return error_set(err, ERANGE,
			"%s: offset %llu: a value has no room in %s, the type "
			"of the base's experts",
			files->weights[piece->segment.file].name,
			(unsigned long long)at, dtype_name(panels->type));
	}
	prepare(state, piece);
	rc = matrix_put(
		&piece->place, 0, converted, count * dtype_size(panels->type));
	return rc ? error_set(err, -rc, "storing an expert failed: %s",
			    strerror(-rc))
		  : 0;
}

/* A read may end inside an element, so a whole matrix is gathered first. */
static int fill_converted(
	struct state *state, struct reader_info *total, struct error *err)
{
	const struct expert_shape *shape = state->fill->shape;
	size_t count = (size_t)shape->hidden * shape->inter;
	uint8_t *host, *converted;
	int rc = 0;

	if (state->direct_count == state->count)
		return 0;
	host = malloc(count * dtype_size(DTYPE_F32));
	converted = malloc(count * dtype_size(shape->format.type));
	if (!host || !converted)
		rc = error_set(err, ENOMEM,
			"no memory to convert an expert of %zu values", count);
	for (uint32_t i = state->direct_count; rc == 0 && i < state->count;
		i++) {
		struct piece *piece = &state->pieces[i];
		struct reader_sink sink = {
			.take = take_host, .arg = piece, .cached = true};
		struct reader_info info = {0};

		piece->host = host;
		rc = reader_run(&state->fill->files->model, &state->segments[i],
			1, &sink, &info, err);
		if (rc == 0)
			rc = convert(state, piece, converted, err);
		total->read_bytes += info.read_bytes;
		state->before_bytes += piece->segment.size_bytes;
		progress(state, 0);
	}
	free(converted);
	free(host);
	return rc;
}

/* Everything in one go, in the order in which the files lie. */
struct proof {
	struct state *state;
	struct error *err;
	uint32_t file;
	uint32_t next; /* the piece that comes */
	uint8_t *host, *converted; /* a matrix of another type; owned */
	uint64_t done_bytes;
};

static int store_proven(struct proof *proof, struct piece *piece,
	uint64_t offset, const uint8_t *data, size_t length)
{
	if (piece->type == proof->state->fill->shape->format.type)
		return take_direct(
			proof->state, 0, proof->next, offset, data, length);
	piece->host = proof->host;
	memcpy(piece->host + offset, data, length);
	return offset + length < piece->segment.size_bytes
		       ? 0
		       : convert(proof->state, piece, proof->converted,
				 proof->err);
}

static int take_proven(
	void *arg, uint64_t offset, const uint8_t *data, size_t length)
{
	struct proof *proof = arg;
	struct state *state = proof->state;

	while (proof->next < state->count) {
		struct piece *piece = &state->pieces[proof->next];
		uint64_t begin = piece->segment.offset_bytes;
		uint64_t end = begin + piece->segment.size_bytes;
		uint64_t from = begin > offset ? begin : offset;
		uint64_t to = end < offset + length ? end : offset + length;
		int rc;

		if (piece->segment.file != proof->file ||
			begin >= offset + length)
			break;
		rc = store_proven(proof, piece, from - begin,
			data + (from - offset), to - from);
		if (rc)
			return rc;
		proof->done_bytes += to - from;
		progress(state, proof->done_bytes);
		if (end > offset + length)
			break;
		proof->next++;
	}
	return 0;
}

static int fill_proven(
	struct state *state, struct reader_info *out, struct error *err)
{
	const struct model_files *files = &state->fill->files->model;
	const struct expert_shape *shape = state->fill->shape;
	size_t count = (size_t)shape->hidden * shape->inter;
	struct proof proof = {.state = state, .err = err};
	const struct file_sink sink = {take_proven, &proof};
	int rc = 0;

	proof.host = malloc(count * dtype_size(DTYPE_F32));
	proof.converted = malloc(count * dtype_size(shape->format.type));
	if (!proof.host || !proof.converted)
		rc = error_set(err, ENOMEM,
			"no memory to convert an expert of %zu values", count);
	out->lane_count = 1;
	for (uint32_t i = 0; rc == 0 && i < files->weight_count; i++) {
		proof.file = i;
		rc = model_file_prove(&files->weights[i], &sink, err);
		out->read_bytes += files->weights[i].size_bytes;
	}
	assert(rc || proof.next == state->count);
	free(proof.converted);
	free(proof.host);
	return rc;
}

/*
 * A matrix may end before the next one's cache line; what is between them
 * may hold another tenant's bytes.
 */
static int clear_gaps(const struct adapter_fill *fill, struct error *err)
{
	static const uint8_t zeros[CACHE_LINE_BYTES];
	const struct expert_shape *shape = fill->shape;
	uint64_t size = (uint64_t)shape->hidden * shape->inter *
			dtype_size(shape->format.type);
	uint64_t gap = shape->up_offset_bytes - size;
	int rc = 0;

	assert(gap < sizeof(zeros));
	for (uint32_t i = 0; gap > 0 && i < fill->plan->config.total; i++)
		for (int part = 0; rc == 0 && part < ADAPTER_PART_COUNT; part++)
			rc = fill->vmm->ops->copy_in(fill->vmm,
				fill->slots[i] +
					part_offset(shape,
						(enum adapter_part)part) +
					size,
				zeros, gap);
	return rc ? error_set(err, -rc, "clearing between experts failed: %s",
			    strerror(-rc))
		  : 0;
}

static int fill_unproven(
	struct state *state, struct reader_info *out, struct error *err)
{
	int rc = fill_direct(state, out, err);

	return rc ? rc : fill_converted(state, out, err);
}

int adapter_fill_run(const struct adapter_fill *fill, struct reader_info *out,
	struct error *err)
{
	struct state state = {
		.fill = fill,
		.count = fill->plan->config.total * ADAPTER_PART_COUNT,
	};
	int rc;

	*out = (struct reader_info){0};
	state.pieces = calloc(state.count, sizeof(*state.pieces));
	state.segments = calloc(state.count, sizeof(*state.segments));
	if (state.pieces && state.segments) {
		cut(&state);
		rc = clear_gaps(fill, err);
		if (rc == 0 && is_proven(fill))
			rc = fill_proven(&state, out, err);
		else if (rc == 0)
			rc = fill_unproven(&state, out, err);
	} else {
		rc = error_set(err, ENOMEM,
			"no memory to plan the reading of %u tensors",
			state.count);
	}
	free(state.segments);
	free(state.pieces);
	return rc;
}
