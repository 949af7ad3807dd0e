/* kv.h - the KV cache as blocks that are whole pages */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a block holds ALL layers of a span of tokens of one sequence, so a
 *        freed block is freed pages, a migrated block is a few descriptors,
 *        and pages move between KV and adapters while traffic runs.
 *
 * Layout: a block is pages_per_block pages, in general not neighbours. Layer
 *        l lives in page number l / layers_per_page of the block, at
 *        (l % layers_per_page) * layer_stride_bytes; token t of the block at
 *        + t * token_stride_bytes. One token of one layer is
 *            attention with K/V heads:  [K heads * head_dim | V heads * v_dim]
 *            MLA (latent):              [latent kv_lora | rotary key rope]
 *        in `type`; value_offset_bytes is where V begins in it.
 *        DeepSeek-V2-Lite in bf16: 27 layers, 1,152 bytes per token and layer,
 *        67 tokens = 2,083,968 bytes of one page of 2 MiB.
 *
 * Block table: a sequence's blocks as page numbers, pages_per_block entries
 *        per block: table[block * pages_per_block + page_of_layer(l)]. Address
 *        = window + page * page size + the offsets above. Block b holds
 *        the absolute positions [b * block_tokens, (b + 1) * block_tokens).
 *
 * Size:  block_tokens is a power of two where that wastes little, else the
 *        number of tokens that fills the pages: pages are the scarce thing,
 *        and 64 tokens of DeepSeek-V2-Lite would leave 5.1 % of each unused,
 *        67 leave 0.6 %. So blocks and attention's chunks (256 positions) are
 *        independent of each other: a chunk may straddle blocks, and its
 *        arithmetic depends on positions alone.
 * Invariants: every page of a block is owned as (PAGE_KV, block id).
 *        A block is cleared when it is taken, or before its first token is
 *        written: nobody reads another's tokens.
 * Sharing: blocks are reference counted; a shared block is read only.
 * Ownership: whoever takes a block holds one reference until put.
 * Threads: one thread (the rank's).
 */
#ifndef HEDDLE_MEMMGR_KV_H
#define HEDDLE_MEMMGR_KV_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "memmgr/pages.h"

#define KV_BLOCK_NONE UINT32_MAX

struct kv_shape {
	uint32_t layer_count;
	uint32_t key_width; /* elements of K per token and layer; MLA: the
			       latent and the rotary key together */
	uint32_t value_width; /* elements of V; 0 for MLA */
	enum dtype type; /* DTYPE_F32 or DTYPE_BF16 */
};

struct kv_layout {
	struct kv_shape shape;
	uint64_t page_size_bytes;
	uint32_t block_tokens;
	uint32_t pages_per_block;
	uint32_t layers_per_page;
	uint64_t token_stride_bytes;
	uint64_t layer_stride_bytes;
	uint64_t value_offset_bytes;
	uint64_t waste_bytes; /* per block */
};

/*
 * Choose block_tokens from 16 .. 256 and pages_per_block: of the powers of two
 * the one with the least waste per token (ties: fewer tokens); if that wastes
 * more than 1 % of its pages, the fewest tokens of any number that waste no
 * more, and if there are none, the least waste of all. Keys and values of
 * every token start on a multiple of 64 bytes where the waste has room for it;
 * waste_bytes counts such padding as waste. -EINVAL when a span of 16 tokens
 * of one layer does not fit a page, or all layers not KV_PAGES_PER_BLOCK_MAX
 * pages, or a width is over MODEL_HEAD_COUNT_MAX * MODEL_HEAD_DIM_MAX.
 */
int kv_layout_choose(const struct kv_shape *shape, size_t page_size_bytes,
	struct kv_layout *out, struct error *err);

/* Blocks that `token_count` tokens need. */
uint32_t kv_layout_blocks(const struct kv_layout *layout, uint64_t token_count);

struct kv_store; /* private */

/* block_count_max bounds the books; pages are taken as blocks are. */
int kv_store_create(struct page_pool *pool, const struct kv_layout *layout,
	uint32_t block_count_max, struct kv_store **out, struct error *err);

/*
 * NULL is allowed. Pages of blocks that are still taken stay on loan, so that
 * the pool finds them (see page_pool_destroy).
 */
void kv_store_destroy(struct kv_store *store);

const struct kv_layout *kv_store_layout(const struct kv_store *store);

/*
 * Take one block with one reference; its pages are zero. Writes its
 * pages_per_block page numbers to out_pages. -ENOMEM: no pages or no block
 * numbers are left; -EIO: clearing failed; nothing is taken then.
 */
int kv_block_take(
	struct kv_store *store, uint32_t *out_block, uint32_t *out_pages);

/*
 * The same, but the pages are as they were left: whoever takes it clears it
 * before its first token is written. Clearing what a long prompt needs takes
 * longer than a step may; block by block nobody waits for it.
 */
int kv_block_take_dirty(
	struct kv_store *store, uint32_t *out_block, uint32_t *out_pages);

/* Of a block with one reference. -EIO. */
int kv_block_clear(struct kv_store *store, uint32_t block);

/* One more, one less reference; the last one gives the pages back. */
void kv_block_get(struct kv_store *store, uint32_t block);
void kv_block_put(struct kv_store *store, uint32_t block);

uint32_t kv_block_references(const struct kv_store *store, uint32_t block);

/* The pages of a block, in order; valid until its last put. */
const uint32_t *kv_block_pages(const struct kv_store *store, uint32_t block);

/* As it was made with; the pool may have fewer pages. */
uint32_t kv_store_block_count_max(const struct kv_store *store);

/* Free pages of the pool, which others may take, too. */
uint32_t kv_store_free_pages(const struct kv_store *store);

/* Blocks that kv_block_take() could hand out now. */
uint32_t kv_store_free(const struct kv_store *store);

uint32_t kv_store_used(const struct kv_store *store); /* blocks */

void kv_store_check(const struct kv_store *store);

#endif
