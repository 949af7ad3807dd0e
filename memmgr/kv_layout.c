/* kv_layout.c - how the tokens of a block lie in its pages (shape -> strides) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#include "base/check.h"
#include "base/limits.h"
#include "memmgr/kv.h"

/* A layout that wastes one part of so many, or less, is good enough. */
#define KV_WASTE_PARTS 100

#define ELEMENT_COUNT_MAX (MODEL_HEAD_COUNT_MAX * MODEL_HEAD_DIM_MAX)

/* Bytes of a token in one layer, without padding. */
static uint64_t token_bytes(const struct kv_shape *shape)
{
	return ((uint64_t)shape->key_width + shape->value_width) *
	       dtype_size(shape->type);
}

static int check_shape(const struct kv_shape *shape, struct error *err)
{
	if (shape->layer_count == 0 ||
		shape->layer_count > MODEL_LAYER_COUNT_MAX)
		return error_set(err, EINVAL,
			"KV: %u layers, 1 to %u are possible",
			shape->layer_count, MODEL_LAYER_COUNT_MAX);
	if (shape->key_width == 0)
		return error_set(err, EINVAL, "KV: keys have no elements");
	if (shape->key_width > ELEMENT_COUNT_MAX ||
		shape->value_width > ELEMENT_COUNT_MAX)
		return error_set(err, EINVAL,
			"KV: %u and %u elements per token and layer, at most "
			"%u of each are possible",
			shape->key_width, shape->value_width,
			ELEMENT_COUNT_MAX);
	if (shape->type != DTYPE_F32 && shape->type != DTYPE_BF16)
		return error_set(err, EINVAL,
			"KV: the cache can hold f32 and bf16 only");
	return 0;
}

/* The layout for one number of tokens; false when it does not fit. */
static bool try_tokens(struct kv_layout *layout, uint32_t tokens)
{
	uint32_t layers = layout->shape.layer_count;
	uint64_t span = tokens * token_bytes(&layout->shape);
	uint64_t fit = layout->page_size_bytes / span;
	uint32_t pages;

	if (fit == 0)
		return false;
	pages = (uint32_t)div_up(layers, fit);
	if (pages > KV_PAGES_PER_BLOCK_MAX)
		return false;
	layout->block_tokens = tokens;
	layout->pages_per_block = pages;
	/* Spread evenly: the same pages, and more room in each for padding. */
	layout->layers_per_page = (uint32_t)div_up(layers, pages);
	layout->waste_bytes = pages * layout->page_size_bytes - layers * span;
	return true;
}

/*
 * Strides of a chosen block. Keys and values of every token start on a
 * multiple of 64 bytes if that fits into what the block wastes anyway; else
 * tokens lie without gaps.
 */
static void set_strides(struct kv_layout *layout)
{
	const struct kv_shape *shape = &layout->shape;
	uint64_t element = dtype_size(shape->type);
	uint64_t lines = div_up(shape->key_width * element, CACHE_LINE_BYTES) +
			 div_up(shape->value_width * element, CACHE_LINE_BYTES);
	uint64_t padded = lines * CACHE_LINE_BYTES;

	layout->token_stride_bytes = token_bytes(shape);
	layout->value_offset_bytes = shape->key_width * element;
	if (padded * layout->block_tokens * layout->layers_per_page <=
		layout->page_size_bytes) {
		layout->token_stride_bytes = padded;
		layout->value_offset_bytes =
			div_up(shape->key_width * element, CACHE_LINE_BYTES) *
			CACHE_LINE_BYTES;
	}
	layout->layer_stride_bytes =
		layout->block_tokens * layout->token_stride_bytes;
}

/* Does `layout` waste less per token than `best`, or is it the first? */
static bool is_better(
	const struct kv_layout *layout, const struct kv_layout *best)
{
	/* Compared without a division. */
	return best->block_tokens == 0 ||
	       layout->waste_bytes * best->block_tokens <
		       best->waste_bytes * layout->block_tokens;
}

/* Is so little wasted that a better layout is not looked for? */
static bool is_thrifty(const struct kv_layout *layout)
{
	return layout->block_tokens > 0 &&
	       layout->waste_bytes * KV_WASTE_PARTS <=
		       layout->pages_per_block * layout->page_size_bytes;
}

static void choose_power(struct kv_layout *best)
{
	for (uint32_t tokens = KV_BLOCK_TOKENS_MIN;
		tokens <= KV_BLOCK_TOKENS_MAX; tokens *= 2) {
		struct kv_layout layout = *best;

		if (try_tokens(&layout, tokens) && is_better(&layout, best))
			*best = layout;
	}
}

/* Fewest tokens first: a sequence's last block is half empty on average. */
static void choose_any(struct kv_layout *best)
{
	for (uint32_t tokens = KV_BLOCK_TOKENS_MIN;
		tokens <= KV_BLOCK_TOKENS_MAX && !is_thrifty(best); tokens++) {
		struct kv_layout layout = *best;

		if (try_tokens(&layout, tokens) && is_better(&layout, best))
			*best = layout;
	}
}

int kv_layout_choose(const struct kv_shape *shape, size_t page_size_bytes,
	struct kv_layout *out, struct error *err)
{
	struct kv_layout best = {
		.shape = *shape, .page_size_bytes = page_size_bytes};
	int rc = check_shape(shape, err);

	if (rc != 0)
		return rc;
	choose_power(&best);
	choose_any(&best);
	if (best.block_tokens == 0)
		return error_set(err, EINVAL,
			"KV: %u tokens of %u layers (%llu bytes per token and "
			"layer) do not fit %u pages of %zu bytes",
			KV_BLOCK_TOKENS_MIN, shape->layer_count,
			(unsigned long long)token_bytes(shape),
			KV_PAGES_PER_BLOCK_MAX, page_size_bytes);
	set_strides(&best);
	*out = best;
	return 0;
}

uint32_t kv_layout_blocks(const struct kv_layout *layout, uint64_t token_count)
{
	uint32_t blocks;
	bool fits = u32_ok(div_up(token_count, layout->block_tokens), &blocks);

	assert(fits); /* positions are bounded in base/limits.h */
	return blocks;
}
