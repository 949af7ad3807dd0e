/* range.c - a reserved virtual range into which page runs come and go */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>

#include "memmgr/range.h"

const char *run_state_name(enum run_state state)
{
	static const char *const names[] = {
		"absent", "mapping", "mapped", "visible", "retiring"};

	assert(state <= RUN_RETIRING);
	return names[state];
}

static void range_run_set_state(struct range_run *run, enum run_state to)
{
	enum run_state from = run->state;

	switch (to) {
	case RUN_MAPPING:
		assert(from == RUN_ABSENT);
		break;
	case RUN_MAPPED:
		assert(from == RUN_MAPPING);
		break;
	case RUN_VISIBLE:
		assert(from == RUN_MAPPED);
		break;
	case RUN_RETIRING:
		assert(from == RUN_VISIBLE);
		break;
	case RUN_ABSENT:
		assert(from == RUN_MAPPING || from == RUN_MAPPED ||
			from == RUN_RETIRING);
		break;
	}
	run->state = to;
}

/* An absent run has no pages, so that sums over runs need no look at states. */
static void end_run(struct range_run *run)
{
	range_run_set_state(run, RUN_ABSENT);
	run->offset_bytes = 0;
	run->page_count = 0;
}

static uint64_t run_bytes(
	const struct range *range, const struct range_run *run)
{
	return run->page_count * page_pool_page_size(range->pool);
}

int range_init(struct range *range, struct page_pool *pool, uint64_t size_bytes,
	struct error *err)
{
	struct vmm *vmm = page_pool_vmm(pool);
	vmm_addr addr;
	int rc;

	assert(size_bytes > 0 && size_bytes % page_pool_page_size(pool) == 0);
	*range = (struct range){0};
	rc = vmm->ops->reserve(vmm, size_bytes, &addr);
	if (rc != 0)
		return error_set(err, -rc, "range: no addresses for %llu bytes",
			(unsigned long long)size_bytes);
	*range = (struct range){
		.pool = pool, .addr = addr, .size_bytes = size_bytes};
	return 0;
}

void range_release(struct range *range)
{
	struct vmm *vmm;

	if (range->addr == 0)
		return;
	assert(range->mapped_page_count == 0);
	vmm = page_pool_vmm(range->pool);
	vmm->ops->unreserve(vmm, range->addr, range->size_bytes);
	*range = (struct range){0};
}

/* Where a new run goes, checked against the range. */
static vmm_addr begin_run(struct range *range, struct range_run *run,
	uint64_t offset_bytes, uint32_t page_count)
{
	size_t page = page_pool_page_size(range->pool);

	assert(run->state == RUN_ABSENT);
	assert(page_count > 0 && offset_bytes % page == 0);
	assert(offset_bytes <= range->size_bytes);
	assert(page_count <= (range->size_bytes - offset_bytes) / page);
	run->offset_bytes = offset_bytes;
	run->page_count = page_count;
	range_run_set_state(run, RUN_MAPPING);
	return range->addr + offset_bytes;
}

/* All pages of the run are mapped: give access, or take all of it back. */
static int finish_run(struct range *range, struct range_run *run)
{
	struct vmm *vmm = page_pool_vmm(range->pool);
	vmm_addr addr = range->addr + run->offset_bytes;
	int rc = vmm->ops->set_access(vmm, addr, run_bytes(range, run));

	if (rc != 0) {
		vmm->ops->unmap(vmm, addr, run_bytes(range, run));
		end_run(run);
		return rc;
	}
	range->mapped_page_count += run->page_count;
	range_run_set_state(run, RUN_MAPPED);
	return 0;
}

int range_map(struct range *range, struct range_run *run, uint64_t offset_bytes,
	const uint32_t *pages, uint32_t page_count)
{
	struct vmm *vmm = page_pool_vmm(range->pool);
	size_t page = page_pool_page_size(range->pool);
	vmm_addr addr = begin_run(range, run, offset_bytes, page_count);

	for (uint32_t i = 0; i < page_count; i++) {
		int rc = page_pool_map_page(
			range->pool, pages[i], addr + i * page);

		if (rc != 0) {
			if (i > 0)
				vmm->ops->unmap(vmm, addr, i * page);
			end_run(run);
			return rc;
		}
	}
	return finish_run(range, run);
}

int range_map_extent(struct range *range, struct range_run *run,
	uint64_t offset_bytes, uint32_t extent)
{
	vmm_addr addr = begin_run(range, run, offset_bytes,
		page_pool_extent_page_count(range->pool, extent));
	int rc = page_pool_map_extent(range->pool, extent, addr);

	if (rc != 0) {
		end_run(run);
		return rc;
	}
	return finish_run(range, run);
}

void range_publish(struct range *range, struct range_run *run)
{
	assert(range->addr != 0);
	range_run_set_state(run, RUN_VISIBLE);
}

void range_retire(struct range *range, struct range_run *run)
{
	assert(range->addr != 0);
	range_run_set_state(run, RUN_RETIRING);
}

int range_unmap(struct range *range, struct range_run *run)
{
	struct vmm *vmm = page_pool_vmm(range->pool);

	assert(run->state == RUN_MAPPED || run->state == RUN_RETIRING);
	if (vmm->ops->fence(vmm) != 0)
		return -EIO;
	range_unmap_fenced(range, run);
	return 0;
}

void range_unmap_fenced(struct range *range, struct range_run *run)
{
	range_unmap_last(range, run, run->page_count);
}

void range_unmap_last(
	struct range *range, struct range_run *run, uint32_t page_count)
{
	struct vmm *vmm = page_pool_vmm(range->pool);
	size_t page = page_pool_page_size(range->pool);
	uint32_t left = run->page_count - page_count;

	assert(run->state == RUN_MAPPED || run->state == RUN_RETIRING);
	assert(page_count > 0 && page_count <= run->page_count);
	assert(range->mapped_page_count >= page_count);
	vmm->ops->unmap(vmm, range_address(range, run) + left * page,
		page_count * page);
	range->mapped_page_count -= page_count;
	run->page_count = left;
	if (left == 0)
		end_run(run);
}

vmm_addr range_address(const struct range *range, const struct range_run *run)
{
	assert(run->state != RUN_ABSENT);
	return range->addr + run->offset_bytes;
}
