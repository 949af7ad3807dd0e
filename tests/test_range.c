/* test_range.c - runs that come into a reserved range and go */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "memmgr/range.h"
#include "tests/fake/aborts.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)
#define RANGE_PAGES 12u
#define LOAN_COUNT 8u

static const uint32_t extent_counts[] = {3};

/* A pool of one extent and ten pages, eight of them on loan. */
struct fixture {
	struct vmm host, vmm;
	struct page_pool *pool;
	struct range range;
	uint32_t pages[LOAN_COUNT];
};

static void open_fixture(struct fixture *f)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	const struct page_pool_config pages = {
		.page_size_bytes = PAGE,
		.movable_page_count = 10,
		.extent_page_counts = extent_counts,
		.extent_count = 1,
		.extent_handle_bytes = 2 * PAGE,
	};

	*f = (struct fixture){0};
	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&f->host, &config, NULL), 0);
	fake_vmm_init(&f->vmm, PAGE, &f->host);
	CU_ASSERT_EQUAL_FATAL(
		page_pool_create(&f->vmm, &pages, &f->pool, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(page_pool_take(f->pool, PAGE_EXPERTS, 1,
				      LOAN_COUNT, true, f->pages),
		0);
	CU_ASSERT_EQUAL_FATAL(
		range_init(&f->range, f->pool, RANGE_PAGES * PAGE, NULL), 0);
}

static void close_fixture(struct fixture *f)
{
	range_release(&f->range);
	range_release(&f->range); /* a zeroed one is allowed */
	page_pool_give(f->pool, PAGE_EXPERTS, 1, f->pages, LOAN_COUNT);
	page_pool_destroy(f->pool, false);
	CU_ASSERT(fake_vmm_check_empty(&f->vmm));
	fake_vmm_destroy(&f->vmm);
	vmm_host_destroy(&f->host);
}

static uint64_t *words(struct fixture *f, vmm_addr at)
{
	return f->vmm.ops->host_pointer(&f->vmm, at);
}

static void test_range_map__goes_through_all_states(void)
{
	struct fixture f;
	struct range_run run = {0};

	open_fixture(&f);
	CU_ASSERT_EQUAL(range_map(&f.range, &run, 2 * PAGE, f.pages, 4), 0);
	CU_ASSERT_EQUAL(run.state, RUN_MAPPED);
	CU_ASSERT_EQUAL(f.range.mapped_page_count, 4);
	CU_ASSERT_EQUAL(range_address(&f.range, &run), f.range.addr + 2 * PAGE);
	/* The bytes are those of the pages in the window, in order. */
	*words(&f, range_address(&f.range, &run) + 3 * PAGE) = 33;
	CU_ASSERT_EQUAL(*words(&f, page_pool_address(f.pool, f.pages[3])), 33);
	range_publish(&f.range, &run);
	CU_ASSERT_EQUAL(run.state, RUN_VISIBLE);
	fake_vmm_work_begin(&f.vmm);
	range_retire(&f.range, &run);
	CU_ASSERT_EQUAL(run.state, RUN_RETIRING);
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), 0);
	CU_ASSERT_EQUAL(run.state, RUN_ABSENT);
	CU_ASSERT_EQUAL(run.page_count, 0);
	CU_ASSERT_EQUAL(f.range.mapped_page_count, 0);
	CU_ASSERT_EQUAL(*words(&f, page_pool_address(f.pool, f.pages[3])), 33);
	CU_ASSERT_STRING_EQUAL(run_state_name(RUN_RETIRING), "retiring");
	close_fixture(&f);
}

static void test_range_map__access_once_per_run(void)
{
	struct fixture f;
	struct range_run run = {0};

	open_fixture(&f);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_SET_ACCESS), 1);
	CU_ASSERT_EQUAL(range_map(&f.range, &run, 0, f.pages, 8), 0);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_SET_ACCESS), 2);
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), 0);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_UNMAP), 1);
	close_fixture(&f);
}

static void test_range_map__every_call_may_fail(void)
{
	struct fixture f;
	struct range_run run = {0};
	uint64_t n = 0;
	int rc;

	open_fixture(&f);
	/* The window is in use meanwhile: a rollback needs no fence. */
	fake_vmm_work_begin(&f.vmm);
	do {
		fake_vmm_fail(&f.vmm, FAKE_ANY, ++n);
		rc = range_map(&f.range, &run, 4 * PAGE, f.pages, 5);
		CU_ASSERT(rc == 0 || rc == -ENOMEM);
		CU_ASSERT_EQUAL(run.state, rc ? RUN_ABSENT : RUN_MAPPED);
		CU_ASSERT_EQUAL(run.page_count, rc ? 0 : 5);
		CU_ASSERT_EQUAL(f.range.mapped_page_count, rc ? 0 : 5);
	} while (rc != 0 && n < 100);
	CU_ASSERT_EQUAL(n, 5 + 1 + 1);
	CU_ASSERT_FALSE(fake_vmm_has_failed(&f.vmm));
	fake_vmm_disarm(&f.vmm);
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), 0);
	close_fixture(&f);
}

static void test_range_map_extent__every_call_may_fail(void)
{
	struct fixture f;
	struct range_run run = {0};
	uint64_t n = 0;
	int rc;

	open_fixture(&f);
	*words(&f, page_pool_address(f.pool, 2)) = 22;
	do {
		fake_vmm_fail(&f.vmm, FAKE_ANY, ++n);
		rc = range_map_extent(&f.range, &run, PAGE, 0);
		CU_ASSERT(rc == 0 || rc == -ENOMEM);
		CU_ASSERT_EQUAL(run.state, rc ? RUN_ABSENT : RUN_MAPPED);
	} while (rc != 0 && n < 100);
	CU_ASSERT_EQUAL(n, 2 + 1 + 1);
	fake_vmm_disarm(&f.vmm);
	CU_ASSERT_EQUAL(run.page_count, 3);
	CU_ASSERT_EQUAL(
		*words(&f, range_address(&f.range, &run) + 2 * PAGE), 22);
	range_publish(&f.range, &run);
	range_retire(&f.range, &run);
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), 0);
	close_fixture(&f);
}

static void test_range_unmap__failed_fence_changes_nothing(void)
{
	struct fixture f;
	struct range_run run = {0};

	open_fixture(&f);
	CU_ASSERT_EQUAL(range_map(&f.range, &run, 0, f.pages, 2), 0);
	fake_vmm_work_begin(&f.vmm);
	fake_vmm_fail(&f.vmm, FAKE_FENCE, 1);
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), -EIO);
	CU_ASSERT_EQUAL(run.state, RUN_MAPPED);
	range_publish(&f.range, &run);
	range_retire(&f.range, &run);
	fake_vmm_fail(&f.vmm, FAKE_FENCE, 1);
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), -EIO);
	CU_ASSERT_EQUAL(run.state, RUN_RETIRING);
	CU_ASSERT_EQUAL(f.range.mapped_page_count, 2);
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), 0);
	close_fixture(&f);
}

static void test_range_unmap_fenced__one_fence_for_many(void)
{
	struct fixture f;
	struct range_run runs[4] = {0};

	open_fixture(&f);
	for (uint32_t i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(
			range_map(&f.range, &runs[i], 3 * PAGE * (3 - i),
				&f.pages[(size_t)2 * i], 2),
			0);
		range_publish(&f.range, &runs[i]);
	}
	fake_vmm_work_begin(&f.vmm);
	CU_ASSERT_EQUAL(f.vmm.ops->fence(&f.vmm), 0);
	for (uint32_t i = 0; i < 4; i++) {
		range_retire(&f.range, &runs[i]);
		range_unmap_fenced(&f.range, &runs[i]);
	}
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_FENCE), 1);
	CU_ASSERT_EQUAL(f.range.mapped_page_count, 0);
	close_fixture(&f);
}

static void test_range_unmap_last__the_rest_stays(void)
{
	struct range_run run = {0};
	struct fixture f;

	open_fixture(&f);
	CU_ASSERT_EQUAL(range_map(&f.range, &run, PAGE, f.pages, 4), 0);
	range_publish(&f.range, &run);
	range_retire(&f.range, &run);
	range_unmap_last(&f.range, &run, 3);
	CU_ASSERT_EQUAL(run.state, RUN_RETIRING);
	CU_ASSERT_EQUAL(run.page_count, 1);
	CU_ASSERT_EQUAL(range_address(&f.range, &run), f.range.addr + PAGE);
	CU_ASSERT_EQUAL(f.range.mapped_page_count, 1);
	/* The fake stops where something is mapped already. */
	CU_ASSERT_EQUAL(f.vmm.ops->fence(&f.vmm), 0);
	range_unmap_last(&f.range, &run, 1);
	CU_ASSERT_EQUAL(run.state, RUN_ABSENT);
	CU_ASSERT_EQUAL(f.range.mapped_page_count, 0);
	CU_ASSERT_EQUAL(range_map(&f.range, &run, PAGE, f.pages, 4), 0);
	range_unmap_fenced(&f.range, &run);
	close_fixture(&f);
}

static void test_range_init__no_addresses(void)
{
	struct fixture f;
	struct range other = {.addr = 1};
	struct error err = {0};

	open_fixture(&f);
	fake_vmm_fail(&f.vmm, FAKE_RESERVE, 1);
	CU_ASSERT_EQUAL(range_init(&other, f.pool, PAGE, &err), -ENOMEM);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "65536 bytes"));
	range_release(&other); /* nothing was reserved */
	close_fixture(&f);
}

/* --- edges and places that do not exist ------------------------------------ */

struct mistake {
	struct fixture *f;
	struct range_run run;
	void (*make)(struct fixture *f, struct range_run *run);
};

static void publish(struct fixture *f, struct range_run *run)
{
	range_publish(&f->range, run);
}

static void retire(struct fixture *f, struct range_run *run)
{
	range_retire(&f->range, run);
}

static void unmap(struct fixture *f, struct range_run *run)
{
	range_unmap(&f->range, run);
}

static void unmap_fenced(struct fixture *f, struct range_run *run)
{
	range_unmap_fenced(&f->range, run);
}

static void map_again(struct fixture *f, struct range_run *run)
{
	range_map(&f->range, run, 6 * PAGE, f->pages + 4, 1);
}

static void release(struct fixture *f, struct range_run *run)
{
	(void)run;
	range_release(&f->range);
}

static void map_over(struct fixture *f, struct range_run *run)
{
	struct range_run other = {0};

	(void)run;
	range_map(&f->range, &other, PAGE, f->pages + 4, 1);
}

static void map_over_end(struct fixture *f, struct range_run *run)
{
	struct range_run other = {0};

	(void)run;
	range_map(&f->range, &other, (RANGE_PAGES - 1) * PAGE, f->pages + 4, 2);
}

static void map_unaligned(struct fixture *f, struct range_run *run)
{
	struct range_run other = {0};

	(void)run;
	range_map(&f->range, &other, 6 * PAGE + 64, f->pages + 4, 1);
}

static void make_mistake(void *argument)
{
	struct mistake *m = argument;

	m->make(m->f, &m->run);
}

static bool stops(struct fixture *f, const struct range_run *run,
	enum run_state state,
	void (*make)(struct fixture *f, struct range_run *run))
{
	struct mistake m = {f, *run, make};

	m.run.state = state;
	return aborts(make_mistake, &m);
}

static void test_range_run__only_the_drawn_edges(void)
{
	struct fixture f;
	struct range_run run = {0};

	open_fixture(&f);
	CU_ASSERT_EQUAL(range_map(&f.range, &run, 0, f.pages, 3), 0);
	for (int i = RUN_ABSENT; i <= RUN_RETIRING; i++) {
		enum run_state s = (enum run_state)i;
		bool may_unmap = s == RUN_MAPPED || s == RUN_RETIRING;

		CU_ASSERT_EQUAL(stops(&f, &run, s, publish), s != RUN_MAPPED);
		CU_ASSERT_EQUAL(stops(&f, &run, s, retire), s != RUN_VISIBLE);
		CU_ASSERT_EQUAL(stops(&f, &run, s, unmap), !may_unmap);
		CU_ASSERT_EQUAL(stops(&f, &run, s, unmap_fenced), !may_unmap);
		CU_ASSERT_EQUAL(stops(&f, &run, s, map_again), s != RUN_ABSENT);
	}
	CU_ASSERT(stops(&f, &run, RUN_MAPPED, release));
	CU_ASSERT(stops(&f, &run, RUN_MAPPED, map_over));
	CU_ASSERT(stops(&f, &run, RUN_MAPPED, map_over_end));
	CU_ASSERT(stops(&f, &run, RUN_MAPPED, map_unaligned));
	CU_ASSERT_EQUAL(range_unmap(&f.range, &run), 0);
	close_fixture(&f);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(range_map__goes_through_all_states),
		SUITE_CASE(range_map__access_once_per_run),
		SUITE_CASE(range_map__every_call_may_fail),
		SUITE_CASE(range_map_extent__every_call_may_fail),
		SUITE_CASE(range_unmap__failed_fence_changes_nothing),
		SUITE_CASE(range_unmap_fenced__one_fence_for_many),
		SUITE_CASE(range_unmap_last__the_rest_stays),
		SUITE_CASE(range_init__no_addresses),
		SUITE_CASE(range_run__only_the_drawn_edges),
	};

	return SUITE_MAIN("range", cases);
}
