/* pages.h - the pool of physical pages and the window over all of them */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   weights, adapters and KV cache share one pool of equal pages, so a
 *        page that an adapter leaves becomes KV capacity and back, with no
 *        fragmentation. All pages are created at start; afterwards only
 *        mappings of expert runs change.
 *
 * Window: every page is mapped once, at start, at window + page * page size,
 *        and stays so. KV, clearing, copying, checksums and transfers use the
 *        window and never map or unmap.
 *
 * Extents: the base model does not move, so its memory is made first, as
 *        extents of pages backed by larger handles (64 MiB on CUDA). An
 *        extent occupies consecutive pages of the window; it can be mapped a
 *        second time only as a whole (page_pool_map_extent).
 *
 * Invariants: every page has exactly one owner (kind, id); the counts per
 *        kind add up to the number of pages, always: page_pool_check().
 *        A page that becomes free is dirty; page_pool_take() clears it
 *        unless the taker promises to overwrite it before anyone reads it.
 *
 * Ownership: the pool owns handles and window; a page number is a loan from
 *        take to give.
 * Threads: one thread (the rank's). Counters may be read by others, torn
 *        between one another but never within one.
 */
#ifndef HEDDLE_MEMMGR_PAGES_H
#define HEDDLE_MEMMGR_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "memmgr/vmm.h"

#define PAGE_NONE UINT32_MAX

enum page_owner {
	PAGE_FREE,
	PAGE_BASE, /* id: extent */
	PAGE_EXPERTS, /* id: adapter instance */
	PAGE_LORA, /* id: adapter instance */
	PAGE_KV, /* id: block */
	PAGE_OWNER_COUNT
};

const char *page_owner_name(enum page_owner owner);

struct page_pool_config {
	size_t page_size_bytes; /* multiple of the granularity */
	uint32_t movable_page_count; /* pages beside the extents */
	const uint32_t *extent_page_counts; /* borrowed during create */
	uint32_t extent_count;
	size_t extent_handle_bytes; /* largest handle of an extent, a multiple
				       of page_size_bytes */
};

struct page_pool; /* private */

/*
 * Create every handle, reserve and map the window. All or nothing. `vmm` is
 * borrowed until destroy. -EINVAL for a config that breaks a rule above.
 */
int page_pool_create(struct vmm *vmm, const struct page_pool_config *config,
	struct page_pool **out, struct error *err);

/*
 * NULL is allowed. Pages still on loan are our bug, unless `abandon`. Calls
 * the fence; if that fails, mappings and handles are left to the end of the
 * process, because the device may still write to them.
 */
void page_pool_destroy(struct page_pool *pool, bool abandon);

uint32_t page_pool_page_count(const struct page_pool *pool);
size_t page_pool_page_size(const struct page_pool *pool);
uint32_t page_pool_count(const struct page_pool *pool, enum page_owner owner);
vmm_addr page_pool_window(const struct page_pool *pool);

/* Address of a page in the window. */
vmm_addr page_pool_address(const struct page_pool *pool, uint32_t page);

uint32_t page_pool_extent_count(const struct page_pool *pool);

/* First page of an extent; its pages are consecutive. */
uint32_t page_pool_extent_page(const struct page_pool *pool, uint32_t extent);
uint32_t page_pool_extent_page_count(
	const struct page_pool *pool, uint32_t extent);

/* Who has this page. */
enum page_owner page_pool_owner(
	const struct page_pool *pool, uint32_t page, uint32_t *out_id);

/*
 * Take `count` free pages for (owner, id), lowest numbers first; all or
 * nothing: -ENOMEM when fewer are free, -EIO when clearing failed (then
 * nothing is taken). clear = false only for pages that the taker overwrites
 * entirely before they can be read.
 */
int page_pool_take(struct page_pool *pool, enum page_owner owner, uint32_t id,
	uint32_t count, bool clear, uint32_t *out_pages);

/* Clear pages through the window, neighbours with one call. -EIO. */
int page_pool_clear(
	struct page_pool *pool, const uint32_t *pages, uint32_t count);

/* Return pages; each must be owned by (owner, id). */
void page_pool_give(struct page_pool *pool, enum page_owner owner, uint32_t id,
	const uint32_t *pages, uint32_t count);

/*
 * Map one movable page that is on loan, or a whole extent, a second time at
 * addr (reserved, unmapped); access is the caller's to set, over the whole
 * range at once. An extent is mapped as a whole or not at all.
 */
int page_pool_map_page(struct page_pool *pool, uint32_t page, vmm_addr addr);
int page_pool_map_extent(
	struct page_pool *pool, uint32_t extent, vmm_addr addr);

struct vmm *page_pool_vmm(struct page_pool *pool);

/* Assert all invariants; cost linear in the pages. For tests and debug. */
void page_pool_check(const struct page_pool *pool);

#endif
