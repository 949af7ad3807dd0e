/* expert_shape.c - sizes of slots, runs and tensors (model shape -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/check.h"
#include "base/limits.h"
#include "memmgr/experts.h"

/* Round a part of a slot up, so that every matrix starts on a cache line. */
static uint64_t align_part(uint64_t size_bytes)
{
	return div_up(size_bytes, CACHE_LINE_BYTES) * CACHE_LINE_BYTES;
}

int expert_shape_finish(struct expert_shape *shape, struct error *err)
{
	const struct expert_format *format = &shape->format;
	uint64_t matrix;

	if (shape->layer_count == 0 ||
		shape->layer_count > MODEL_LAYER_COUNT_MAX ||
		shape->base_count == 0 ||
		shape->base_count > MODEL_EXPERT_COUNT_MAX)
		return error_set(err, EINVAL,
			"experts: %u layers of %u experts, 1 to %u of 1 to %u "
			"are possible",
			shape->layer_count, shape->base_count,
			MODEL_LAYER_COUNT_MAX, MODEL_EXPERT_COUNT_MAX);
	if (shape->hidden == 0 || shape->hidden > MODEL_HIDDEN_MAX ||
		shape->inter == 0 || shape->inter > MODEL_INTERMEDIATE_MAX)
		return error_set(err, EINVAL,
			"experts: hidden size %u and intermediate size %u, 1 "
			"to %u and 1 to %u are possible",
			shape->hidden, shape->inter, MODEL_HIDDEN_MAX,
			MODEL_INTERMEDIATE_MAX);
	if (format->type >= DTYPE_COUNT || format->layout > WEIGHT_PANELS ||
		format->scale_block_rows != 0 || format->scale_block_cols != 0)
		return error_set(err, EINVAL,
			"experts: only rows or panels without block scales "
			"are supported");
	/* Bounded by the limits above: at most 2^38 bytes. */
	matrix = (uint64_t)shape->hidden * shape->inter *
		 dtype_size(format->type);
	shape->up_offset_bytes = align_part(matrix);
	shape->down_offset_bytes = 2 * shape->up_offset_bytes;
	shape->slot_size_bytes = 3 * shape->up_offset_bytes;
	return 0;
}

uint64_t expert_shape_run_pages(const struct expert_shape *shape,
	size_t page_size_bytes, uint64_t slot_count)
{
	return div_up(slot_count * shape->slot_size_bytes, page_size_bytes);
}

int expert_shape_base_pages(
	const struct expert_shape *shape, size_t page_size_bytes, uint32_t *out)
{
	if (page_size_bytes == 0)
		return -EINVAL;
	if (!u32_ok(expert_shape_run_pages(
			    shape, page_size_bytes, shape->base_count),
		    out))
		return -EOVERFLOW;
	return 0;
}

/*
 * Pages of an adapter area in which a gap is found for every run that the
 * limits on slots and instances allow. Let a run of r slots be asked for while
 * k other runs live in the layer. A run begins and ends anywhere in a page, so
 * n bytes lie in at most floor(n / page) + 2 pages, and also in at most one
 * more than from a page's beginning on: the run has p <= pages(r) + 1. The
 * others have at least a slot each, so k <= min(I, S - r) with I other
 * instances and S slots, and together at most floor((S - r) * slot / page) +
 * 2 k pages. The area has at most k + 1 gaps; were all of them too short, they
 * would have at most (k + 1) * (p - 1) pages. One page more than the sum is
 * therefore enough.
 */
uint64_t expert_store_area_pages(
	const struct expert_store_config *config, size_t page_size_bytes)
{
	const struct expert_shape *shape = &config->shape;
	uint64_t slots = config->adapter_slot_count_max;
	uint64_t most = 0;

	if (config->instance_count_max < 2)
		return 0;
	for (uint32_t r = 1; r <= shape->base_count && r <= slots; r++) {
		uint64_t k = config->instance_count_max - 2;
		uint64_t need =
			(slots - r) * shape->slot_size_bytes / page_size_bytes;

		if (k > slots - r)
			k = slots - r;
		need += 2 * k +
			(k + 1) * expert_shape_run_pages(
					  shape, page_size_bytes, r) +
			1;
		if (need > most)
			most = need;
	}
	return most;
}
