/* pages.c - the pool of physical pages and the window over all of them */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/limits.h"
#include "memmgr/number_set.h"
#include "memmgr/pages.h"

struct extent {
	uint32_t first_page;
	uint32_t page_count;
	uint32_t first_handle;
	uint32_t handle_count; /* all full but the last */
};

/*
 * Pages 0 .. movable_first-1 belong to the extents, in order; the others are
 * movable and have a handle each. Handles are kept in the order of the window.
 */
struct page_pool {
	/* Set at create. */
	struct vmm *vmm; /* borrowed */
	size_t page_size_bytes;
	size_t extent_handle_bytes;
	uint32_t page_count;
	uint32_t movable_first;
	struct extent *extents; /* owned */
	uint32_t extent_count;
	struct vmm_handle *handles; /* owned */
	uint32_t handle_count; /* created so far */
	uint32_t extent_handle_count;
	vmm_addr window; /* 0 = not mapped */

	/* The rank's thread changes these. */
	uint8_t *owners; /* owned; enum page_owner per page */
	uint32_t *ids; /* owned; whose of that kind */
	struct number_set free;
	_Atomic uint32_t counts[PAGE_OWNER_COUNT];
};

const char *page_owner_name(enum page_owner owner)
{
	static const char *const names[PAGE_OWNER_COUNT] = {
		"free", "base", "experts", "lora", "kv"};

	assert(owner < PAGE_OWNER_COUNT);
	return names[owner];
}

static size_t window_bytes(const struct page_pool *pool)
{
	return pool->page_count * pool->page_size_bytes;
}

static void count_move(struct page_pool *pool, enum page_owner from,
	enum page_owner to, uint32_t count)
{
	/* One writer: load and store, no locked instruction is needed. */
	uint32_t left =
		atomic_load_explicit(&pool->counts[from], memory_order_relaxed);
	uint32_t right =
		atomic_load_explicit(&pool->counts[to], memory_order_relaxed);

	assert(left >= count);
	atomic_store_explicit(
		&pool->counts[from], left - count, memory_order_relaxed);
	atomic_store_explicit(
		&pool->counts[to], right + count, memory_order_relaxed);
}

/* Are the sizes usable, and how many pages and handles are they? */
static int count_pages(struct page_pool *pool,
	const struct page_pool_config *config, struct error *err)
{
	size_t page = config->page_size_bytes;
	size_t pages = config->movable_page_count;
	size_t handles = 0;
	size_t bytes;

	if (page == 0 || page % pool->vmm->granularity_bytes != 0)
		return error_set(err, EINVAL,
			"page pool: a page of %zu bytes is no multiple of %zu",
			page, pool->vmm->granularity_bytes);
	if (config->extent_count > 0 &&
		(config->extent_handle_bytes == 0 ||
			config->extent_handle_bytes % page != 0))
		return error_set(err, EINVAL,
			"page pool: an extent handle of %zu bytes is no "
			"multiple of the page (%zu)",
			config->extent_handle_bytes, page);
	for (uint32_t i = 0; i < config->extent_count; i++) {
		if (config->extent_page_counts[i] == 0)
			return error_set(err, EINVAL,
				"page pool: extent %u is empty", i);
		pages += config->extent_page_counts[i];
		handles += div_up(config->extent_page_counts[i],
			config->extent_handle_bytes / page);
	}
	if (pages == 0 || pages > PAGE_COUNT_MAX ||
		!mul_ok(pages, page, &bytes))
		return error_set(err, EINVAL,
			"page pool: %zu pages of %zu bytes, 1 to %u are "
			"possible",
			pages, page, PAGE_COUNT_MAX);
	pool->page_size_bytes = page;
	pool->extent_handle_bytes = config->extent_handle_bytes;
	pool->extent_count = config->extent_count;
	pool->page_count = (uint32_t)pages;
	pool->movable_first = (uint32_t)pages - config->movable_page_count;
	pool->extent_handle_count = (uint32_t)handles;
	return 0;
}

static int allocate_books(struct page_pool *pool, struct error *err)
{
	uint32_t handles = pool->extent_handle_count + pool->page_count -
			   pool->movable_first;

	assert(pool->page_count > 0 && handles > 0);
	pool->owners = calloc(pool->page_count, sizeof(*pool->owners));
	pool->ids = calloc(pool->page_count, sizeof(*pool->ids));
	pool->handles = calloc(handles, sizeof(*pool->handles));
	/* One too many, so that a pool without extents asks for something. */
	pool->extents =
		calloc(pool->extent_count + (size_t)1, sizeof(*pool->extents));
	if (!pool->owners || !pool->ids || !pool->handles || !pool->extents ||
		number_set_init(&pool->free, pool->page_count) != 0)
		return error_set(err, ENOMEM,
			"page pool: no memory for the books of %u pages",
			pool->page_count);
	return 0;
}

static void fill_books(struct page_pool *pool, const uint32_t *page_counts)
{
	uint32_t page = 0;
	uint32_t handle = 0;

	for (uint32_t i = 0; i < pool->extent_count; i++) {
		struct extent *extent = &pool->extents[i];

		extent->first_page = page;
		extent->page_count = page_counts[i];
		extent->first_handle = handle;
		extent->handle_count = (uint32_t)div_up(page_counts[i],
			pool->extent_handle_bytes / pool->page_size_bytes);
		handle += extent->handle_count;
		for (uint32_t k = 0; k < page_counts[i]; k++, page++) {
			pool->owners[page] = PAGE_BASE;
			pool->ids[page] = i;
		}
	}
	assert(page == pool->movable_first);
	assert(handle == pool->extent_handle_count);
	for (; page < pool->page_count; page++)
		number_set_add(&pool->free, page);
	atomic_init(&pool->counts[PAGE_BASE], pool->movable_first);
	atomic_init(&pool->counts[PAGE_FREE], pool->free.count);
}

static size_t extent_handle_size(const struct page_pool *pool,
	const struct extent *extent, uint32_t index)
{
	size_t before = index * pool->extent_handle_bytes;
	size_t left = extent->page_count * pool->page_size_bytes - before;

	return left < pool->extent_handle_bytes ? left
						: pool->extent_handle_bytes;
}

static int create_handles(struct page_pool *pool, struct error *err)
{
	struct vmm *vmm = pool->vmm;
	int rc = 0;

	for (uint32_t i = 0; i < pool->extent_count && rc == 0; i++) {
		const struct extent *extent = &pool->extents[i];

		for (uint32_t k = 0; k < extent->handle_count && rc == 0; k++) {
			rc = vmm->ops->create(vmm,
				extent_handle_size(pool, extent, k),
				&pool->handles[pool->handle_count]);
			pool->handle_count += rc == 0;
		}
	}
	for (uint32_t page = pool->movable_first;
		page < pool->page_count && rc == 0; page++) {
		rc = vmm->ops->create(vmm, pool->page_size_bytes,
			&pool->handles[pool->handle_count]);
		pool->handle_count += rc == 0;
	}
	if (rc != 0)
		return error_set(err, -rc,
			"page pool: memory for %u pages of %zu bytes: the "
			"system refused handle %u",
			pool->page_count, pool->page_size_bytes,
			pool->handle_count);
	return 0;
}

static void release_handles(struct page_pool *pool)
{
	while (pool->handle_count > 0)
		pool->vmm->ops->release(
			pool->vmm, pool->handles[--pool->handle_count]);
}

/* All of an extent's handles from `addr` on, or none. */
static int map_extent(
	struct page_pool *pool, const struct extent *extent, vmm_addr addr)
{
	struct vmm *vmm = pool->vmm;
	vmm_addr at = addr;

	for (uint32_t k = 0; k < extent->handle_count; k++) {
		size_t size = extent_handle_size(pool, extent, k);
		int rc = vmm->ops->map(
			vmm, at, size, pool->handles[extent->first_handle + k]);

		if (rc != 0) {
			if (at > addr)
				vmm->ops->unmap(vmm, addr, at - addr);
			return rc;
		}
		at += size;
	}
	return 0;
}

static struct vmm_handle movable_handle(
	const struct page_pool *pool, uint32_t page)
{
	assert(page >= pool->movable_first && page < pool->page_count);
	return pool->handles[pool->extent_handle_count + page -
			     pool->movable_first];
}

/* Map every page in order; *out_pages says how many are mapped on error. */
static int map_all(struct page_pool *pool, vmm_addr window, uint32_t *out_pages)
{
	size_t size = pool->page_size_bytes;
	uint32_t page = 0;
	int rc = 0;

	for (uint32_t i = 0; i < pool->extent_count && rc == 0; i++) {
		rc = map_extent(pool, &pool->extents[i], window + page * size);
		if (rc == 0)
			page += pool->extents[i].page_count;
	}
	for (; page < pool->page_count && rc == 0; page += rc == 0)
		rc = pool->vmm->ops->map(pool->vmm, window + page * size, size,
			movable_handle(pool, page));
	*out_pages = page;
	return rc;
}

static int map_window(struct page_pool *pool, struct error *err)
{
	const struct vmm_ops *ops = pool->vmm->ops;
	uint32_t mapped;
	vmm_addr window;
	int rc = ops->reserve(pool->vmm, window_bytes(pool), &window);

	if (rc != 0)
		return error_set(err, -rc,
			"page pool: no addresses for a window of %zu bytes",
			window_bytes(pool));
	rc = map_all(pool, window, &mapped);
	if (rc == 0)
		rc = ops->set_access(pool->vmm, window, window_bytes(pool));
	if (rc == 0) {
		pool->window = window;
		return 0;
	}
	if (mapped > 0)
		ops->unmap(pool->vmm, window, mapped * pool->page_size_bytes);
	ops->unreserve(pool->vmm, window, window_bytes(pool));
	return error_set(err, -rc,
		"page pool: cannot map the window of %u pages (%u are mapped)",
		pool->page_count, mapped);
}

static void free_books(struct page_pool *pool)
{
	number_set_release(&pool->free);
	free(pool->extents);
	free(pool->handles);
	free(pool->ids);
	free(pool->owners);
	free(pool);
}

int page_pool_create(struct vmm *vmm, const struct page_pool_config *config,
	struct page_pool **out, struct error *err)
{
	struct page_pool *pool = calloc(1, sizeof(*pool));
	int rc;

	if (!pool)
		return error_set(err, ENOMEM, "page pool: no memory");
	pool->vmm = vmm;
	rc = count_pages(pool, config, err);
	if (rc != 0)
		goto err_free;
	rc = allocate_books(pool, err);
	if (rc != 0)
		goto err_free;
	fill_books(pool, config->extent_page_counts);
	rc = create_handles(pool, err);
	if (rc != 0)
		goto err_release_handles;
	rc = map_window(pool, err);
	if (rc != 0)
		goto err_release_handles;
	*out = pool;
	return 0;

err_release_handles:
	release_handles(pool);
err_free:
	free_books(pool);
	return rc;
}

void page_pool_destroy(struct page_pool *pool, bool abandon)
{
	struct vmm *vmm;

	if (!pool)
		return;
	vmm = pool->vmm;
	assert(abandon ||
		pool->free.count == pool->page_count - pool->movable_first);
	/*
	 * A device that cannot be waited for may still be writing: then the
	 * memory is left to the end of the process.
	 */
	if (vmm->ops->fence(vmm) == 0) {
		vmm->ops->unmap(vmm, pool->window, window_bytes(pool));
		vmm->ops->unreserve(vmm, pool->window, window_bytes(pool));
		release_handles(pool);
	}
	free_books(pool);
}

uint32_t page_pool_page_count(const struct page_pool *pool)
{
	return pool->page_count;
}

size_t page_pool_page_size(const struct page_pool *pool)
{
	return pool->page_size_bytes;
}

uint32_t page_pool_count(const struct page_pool *pool, enum page_owner owner)
{
	assert(owner < PAGE_OWNER_COUNT);
	return atomic_load_explicit(&pool->counts[owner], memory_order_relaxed);
}

vmm_addr page_pool_window(const struct page_pool *pool)
{
	return pool->window;
}

vmm_addr page_pool_address(const struct page_pool *pool, uint32_t page)
{
	assert(page < pool->page_count);
	return pool->window + page * pool->page_size_bytes;
}

uint32_t page_pool_extent_count(const struct page_pool *pool)
{
	return pool->extent_count;
}

uint32_t page_pool_extent_page(const struct page_pool *pool, uint32_t extent)
{
	assert(extent < pool->extent_count);
	return pool->extents[extent].first_page;
}

uint32_t page_pool_extent_page_count(
	const struct page_pool *pool, uint32_t extent)
{
	assert(extent < pool->extent_count);
	return pool->extents[extent].page_count;
}

enum page_owner page_pool_owner(
	const struct page_pool *pool, uint32_t page, uint32_t *out_id)
{
	assert(page < pool->page_count);
	*out_id = pool->ids[page];
	return pool->owners[page];
}

int page_pool_clear(
	struct page_pool *pool, const uint32_t *pages, uint32_t count)
{
	uint32_t end;

	for (uint32_t i = 0; i < count; i = end) {
		for (end = i + 1; end < count; end++)
			if (pages[end] != pages[end - 1] + 1)
				break;
		if (pool->vmm->ops->clear(pool->vmm,
			    page_pool_address(pool, pages[i]),
			    (end - i) * pool->page_size_bytes) != 0)
			return -EIO;
	}
	return 0;
}

int page_pool_take(struct page_pool *pool, enum page_owner owner, uint32_t id,
	uint32_t count, bool clear, uint32_t *out_pages)
{
	assert(owner > PAGE_BASE && owner < PAGE_OWNER_COUNT);
	if (count > pool->free.count)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		out_pages[i] = number_set_take(&pool->free);
	if (clear && page_pool_clear(pool, out_pages, count) != 0) {
		for (uint32_t i = 0; i < count; i++)
			number_set_add(&pool->free, out_pages[i]);
		return -EIO;
	}
	for (uint32_t i = 0; i < count; i++) {
		assert(pool->owners[out_pages[i]] == PAGE_FREE);
		pool->owners[out_pages[i]] = (uint8_t)owner;
		pool->ids[out_pages[i]] = id;
	}
	count_move(pool, PAGE_FREE, owner, count);
	return 0;
}

void page_pool_give(struct page_pool *pool, enum page_owner owner, uint32_t id,
	const uint32_t *pages, uint32_t count)
{
	assert(owner > PAGE_BASE && owner < PAGE_OWNER_COUNT);
	for (uint32_t i = 0; i < count; i++) {
		assert(pages[i] < pool->page_count);
		assert(pool->owners[pages[i]] == owner);
		assert(pool->ids[pages[i]] == id);
		pool->owners[pages[i]] = PAGE_FREE;
		pool->ids[pages[i]] = 0;
		number_set_add(&pool->free, pages[i]);
	}
	count_move(pool, owner, PAGE_FREE, count);
}

int page_pool_map_page(struct page_pool *pool, uint32_t page, vmm_addr addr)
{
	assert(pool->owners[page] != PAGE_FREE);
	return pool->vmm->ops->map(pool->vmm, addr, pool->page_size_bytes,
		movable_handle(pool, page));
}

int page_pool_map_extent(struct page_pool *pool, uint32_t extent, vmm_addr addr)
{
	assert(extent < pool->extent_count);
	return map_extent(pool, &pool->extents[extent], addr);
}

struct vmm *page_pool_vmm(struct page_pool *pool)
{
	return pool->vmm;
}

void page_pool_check(const struct page_pool *pool)
{
	uint32_t counts[PAGE_OWNER_COUNT] = {0};

	number_set_check(&pool->free);
	for (uint32_t page = 0; page < pool->page_count; page++) {
		enum page_owner owner = pool->owners[page];

		assert(owner < PAGE_OWNER_COUNT);
		counts[owner]++;
		assert((owner == PAGE_BASE) == (page < pool->movable_first));
		assert((owner == PAGE_FREE) ==
			number_set_has(&pool->free, page));
	}
	for (uint32_t i = 0; i < pool->extent_count; i++) {
		const struct extent *extent = &pool->extents[i];

		for (uint32_t k = 0; k < extent->page_count; k++)
			assert(pool->ids[extent->first_page + k] == i);
	}
	for (enum page_owner i = PAGE_FREE; i < PAGE_OWNER_COUNT; i++)
		assert(counts[i] == page_pool_count(pool, i));
}
