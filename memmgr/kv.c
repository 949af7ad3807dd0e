/* kv.c - the KV cache as blocks that are whole pages (pages <-> blocks) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "memmgr/kv.h"
#include "memmgr/number_set.h"

struct kv_store {
	struct page_pool *pool; /* borrowed */
	struct kv_layout layout;
	uint32_t block_count_max;
	uint32_t *references; /* owned; [block], 0 = free */
	uint32_t *pages; /* owned; [block][pages_per_block] */
	struct number_set free;
};

static uint32_t *pages_of(const struct kv_store *store, uint32_t block)
{
	assert(block < store->block_count_max);
	return store->pages + (size_t)block * store->layout.pages_per_block;
}

int kv_store_create(struct page_pool *pool, const struct kv_layout *layout,
	uint32_t block_count_max, struct kv_store **out, struct error *err)
{
	struct kv_store *store;
	size_t page_count;

	assert(layout->page_size_bytes == page_pool_page_size(pool));
	if (block_count_max == 0 || block_count_max == KV_BLOCK_NONE)
		return error_set(err, EINVAL, "KV: %u blocks are not possible",
			block_count_max);
	store = calloc(1, sizeof(*store));
	if (!store)
		return error_set(err, ENOMEM, "KV: no memory");
	store->pool = pool;
	store->layout = *layout;
	store->block_count_max = block_count_max;
	store->references = calloc(block_count_max, sizeof(*store->references));
	if (mul_ok(block_count_max, layout->pages_per_block, &page_count))
		store->pages = calloc(page_count, sizeof(*store->pages));
	if (!store->references || !store->pages ||
		number_set_init(&store->free, block_count_max) != 0) {
		kv_store_destroy(store);
		return error_set(err, ENOMEM,
			"KV: no memory for the books of %u blocks",
			block_count_max);
	}
	for (uint32_t i = 0; i < block_count_max; i++)
		number_set_add(&store->free, i);
	*out = store;
	return 0;
}

void kv_store_destroy(struct kv_store *store)
{
	if (!store)
		return;
	number_set_release(&store->free);
	free(store->pages);
	free(store->references);
	free(store);
}

const struct kv_layout *kv_store_layout(const struct kv_store *store)
{
	return &store->layout;
}

static int take(struct kv_store *store, bool clear, uint32_t *out_block,
	uint32_t *out_pages)
{
	uint32_t count = store->layout.pages_per_block;
	uint32_t block = number_set_take(&store->free);
	uint32_t *pages;
	int rc;

	if (block == NUMBER_NONE)
		return -ENOMEM;
	assert(store->references[block] == 0);
	pages = pages_of(store, block);
	rc = page_pool_take(store->pool, PAGE_KV, block, count, clear, pages);
	if (rc != 0) {
		number_set_add(&store->free, block);
		return rc;
	}
	store->references[block] = 1;
	for (uint32_t i = 0; i < count; i++)
		out_pages[i] = pages[i];
	*out_block = block;
	return 0;
}

int kv_block_take(
	struct kv_store *store, uint32_t *out_block, uint32_t *out_pages)
{
	return take(store, true, out_block, out_pages);
}

int kv_block_take_dirty(
	struct kv_store *store, uint32_t *out_block, uint32_t *out_pages)
{
	return take(store, false, out_block, out_pages);
}

int kv_block_clear(struct kv_store *store, uint32_t block)
{
	assert(block < store->block_count_max);
	assert(store->references[block] == 1);
	return page_pool_clear(store->pool, pages_of(store, block),
		store->layout.pages_per_block);
}

void kv_block_get(struct kv_store *store, uint32_t block)
{
	assert(block < store->block_count_max);
	assert(store->references[block] > 0);
	assert(store->references[block] < UINT32_MAX);
	store->references[block]++;
}

void kv_block_put(struct kv_store *store, uint32_t block)
{
	assert(block < store->block_count_max);
	assert(store->references[block] > 0);
	store->references[block]--;
	if (store->references[block] > 0)
		return;
	page_pool_give(store->pool, PAGE_KV, block, pages_of(store, block),
		store->layout.pages_per_block);
	number_set_add(&store->free, block);
}

uint32_t kv_block_references(const struct kv_store *store, uint32_t block)
{
	assert(block < store->block_count_max);
	return store->references[block];
}

const uint32_t *kv_block_pages(const struct kv_store *store, uint32_t block)
{
	assert(kv_block_references(store, block) > 0);
	return pages_of(store, block);
}

uint32_t kv_store_block_count_max(const struct kv_store *store)
{
	return store->block_count_max;
}

uint32_t kv_store_free_pages(const struct kv_store *store)
{
	return page_pool_count(store->pool, PAGE_FREE);
}

uint32_t kv_store_free(const struct kv_store *store)
{
	uint32_t by_pages =
		kv_store_free_pages(store) / store->layout.pages_per_block;

	return by_pages < store->free.count ? by_pages : store->free.count;
}

uint32_t kv_store_used(const struct kv_store *store)
{
	return store->block_count_max - store->free.count;
}

void kv_store_check(const struct kv_store *store)
{
	uint32_t used = 0;
	uint32_t id;

	number_set_check(&store->free);
	for (uint32_t b = 0; b < store->block_count_max; b++) {
		bool taken = store->references[b] > 0;

		assert(taken != number_set_has(&store->free, b));
		used += taken;
		for (uint32_t i = 0; taken && i < store->layout.pages_per_block;
			i++) {
			uint32_t page = pages_of(store, b)[i];

			assert(page_pool_owner(store->pool, page, &id) ==
				PAGE_KV);
			assert(id == b);
		}
	}
	assert(used == kv_store_used(store));
	/* One store per pool: every such page is one of ours. */
	assert(page_pool_count(store->pool, PAGE_KV) ==
		used * store->layout.pages_per_block);
}
