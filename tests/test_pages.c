/* test_pages.c - the pool of pages: owners, window, extents, failures */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "memmgr/pages.h"
#include "tests/fake/aborts.h"
#include "tests/fake/fake_os.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)

/* Extents of 3 and 5 pages in handles of 2: pages 0-2, 3-7; 8.. movable. */
static const uint32_t extent_counts[] = {3, 5};
#define EXTENT_PAGES 8u
#define MOVABLE_PAGES 16u
#define ALL_PAGES (EXTENT_PAGES + MOVABLE_PAGES)

static const struct page_pool_config small_config = {
	.page_size_bytes = PAGE,
	.movable_page_count = MOVABLE_PAGES,
	.extent_page_counts = extent_counts,
	.extent_count = 2,
	.extent_handle_bytes = 2 * PAGE,
};

struct fixture {
	struct vmm host;
	struct vmm vmm; /* checks; over host, so bytes are real */
	struct page_pool *pool;
};

static void open_vmm(struct fixture *f)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};

	*f = (struct fixture){0};
	if (vmm_host_init(&f->host, &config, NULL) != 0)
		CU_FAIL_FATAL("host");
	fake_vmm_init(&f->vmm, PAGE, &f->host);
}

static void close_vmm(struct fixture *f)
{
	CU_ASSERT(fake_vmm_check_empty(&f->vmm));
	fake_vmm_destroy(&f->vmm);
	vmm_host_destroy(&f->host);
}

static void open_pool(struct fixture *f)
{
	struct error err = {0};

	open_vmm(f);
	if (page_pool_create(&f->vmm, &small_config, &f->pool, &err) != 0)
		CU_FAIL_FATAL("pool");
}

static void close_pool(struct fixture *f)
{
	page_pool_check(f->pool);
	page_pool_destroy(f->pool, false);
	close_vmm(f);
}

static uint64_t *words(struct fixture *f, uint32_t page)
{
	return f->vmm.ops->host_pointer(
		&f->vmm, page_pool_address(f->pool, page));
}

static void test_page_pool_create__owners_and_window(void)
{
	struct fixture f;
	uint32_t id;

	open_pool(&f);
	page_pool_check(f.pool);
	CU_ASSERT_EQUAL(page_pool_page_count(f.pool), ALL_PAGES);
	CU_ASSERT_EQUAL(page_pool_page_size(f.pool), PAGE);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_BASE), EXTENT_PAGES);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), MOVABLE_PAGES);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_KV), 0);
	CU_ASSERT_EQUAL(page_pool_extent_count(f.pool), 2);
	CU_ASSERT_EQUAL(page_pool_extent_page(f.pool, 0), 0);
	CU_ASSERT_EQUAL(page_pool_extent_page(f.pool, 1), 3);
	CU_ASSERT_EQUAL(page_pool_extent_page_count(f.pool, 1), 5);
	CU_ASSERT_EQUAL(page_pool_owner(f.pool, 7, &id), PAGE_BASE);
	CU_ASSERT_EQUAL(id, 1);
	CU_ASSERT_EQUAL(page_pool_owner(f.pool, 8, &id), PAGE_FREE);
	CU_ASSERT_EQUAL(page_pool_vmm(f.pool), &f.vmm);
	for (uint32_t page = 0; page < ALL_PAGES; page++) {
		CU_ASSERT_EQUAL(page_pool_address(f.pool, page),
			page_pool_window(f.pool) + page * PAGE);
		*words(&f, page) = page; /* every page can be written */
	}
	/* Handles: 2 + 1 and 2 + 2 + 1 pages, and one per movable page. */
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_CREATE), 5 + MOVABLE_PAGES);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_RESERVE), 1);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_SET_ACCESS), 1);
	CU_ASSERT_EQUAL(fake_vmm_live(&f.vmm).handle_bytes, ALL_PAGES * PAGE);
	CU_ASSERT_STRING_EQUAL(page_owner_name(PAGE_LORA), "lora");
	close_pool(&f);
	page_pool_destroy(NULL, false);
}

static void test_page_pool_create__bad_configs_are_refused(void)
{
	static const uint32_t empty[] = {4, 0};
	static const uint32_t huge[] = {UINT32_MAX, UINT32_MAX};
	const struct {
		struct page_pool_config config;
		const char *text;
	} bad[] = {
		{{0, 4, NULL, 0, 0}, "page of 0 bytes"},
		{{PAGE + 1, 4, NULL, 0, 0}, "no multiple"},
		{{PAGE, 0, NULL, 0, 0}, "0 pages"},
		{{PAGE, PAGE_COUNT_MAX + 1, NULL, 0, 0}, "67108865 pages"},
		{{PAGE, 4, huge, 2, PAGE}, "8589934594 pages"},
		{{PAGE, 4, empty, 2, PAGE}, "extent 1 is empty"},
		{{PAGE, 4, extent_counts, 2, 0}, "extent handle of 0"},
		{{PAGE, 4, extent_counts, 2, PAGE + 1}, "extent handle"},
		{{(size_t)1 << 60, 1u << 20, NULL, 0, 0}, "1048576 pages"},
	};
	struct fixture f;

	open_vmm(&f);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(
			page_pool_create(&f.vmm, &bad[i].config, &f.pool, &err),
			-EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].text));
	}
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_ANY), 0);
	close_vmm(&f);
}

static void test_page_pool_create__every_device_call_may_fail(void)
{
	struct fixture f;
	struct error err;
	uint64_t n = 0;
	int rc;

	open_vmm(&f);
	do {
		err = (struct error){0};
		fake_vmm_fail(&f.vmm, FAKE_ANY, ++n);
		rc = page_pool_create(&f.vmm, &small_config, &f.pool, &err);
		if (rc == 0)
			break;
		CU_ASSERT_EQUAL(rc, -ENOMEM);
		CU_ASSERT_EQUAL(err.code, -ENOMEM);
		CU_ASSERT_EQUAL(strncmp(err.text, "page pool: ", 11), 0);
		CU_ASSERT(fake_vmm_check_empty(&f.vmm));
	} while (n < 1000);
	CU_ASSERT_FALSE(fake_vmm_has_failed(&f.vmm));
	/* 21 handles, 1 reservation, 21 mappings, 1 set_access, all tried. */
	CU_ASSERT_EQUAL(n, 44 + 1);
	fake_vmm_disarm(&f.vmm);
	close_pool(&f);
}

static void test_page_pool_create__every_system_call_may_fail(void)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	struct page_pool *pool;
	struct error err;
	struct vmm host;
	uint64_t n = 0;
	bool failed;

	do {
		fake_os_reset();
		CU_ASSERT_EQUAL_FATAL(vmm_host_init(&host, &config, NULL), 0);
		err = (struct error){0};
		fake_os_fail(FAKE_OS_ANY, ++n, ENOSPC);
		failed = page_pool_create(&host, &small_config, &pool, &err) !=
			 0;
		CU_ASSERT_EQUAL(failed, fake_os_has_failed());
		CU_ASSERT_EQUAL(err.code, failed ? -ENOMEM : 0);
		fake_os_disarm();
		/* The same again without a fault. */
		if (failed)
			CU_ASSERT_EQUAL_FATAL(
				page_pool_create(
					&host, &small_config, &pool, NULL),
				0);
		page_pool_destroy(pool, false);
		vmm_host_destroy(&host);
		CU_ASSERT(fake_os_check_empty());
	} while (failed && n < 1000);
	/* Books of both, growth of the file, two mmap. */
	CU_ASSERT(n > 10);
}

static void test_page_pool_take__lowest_first(void)
{
	struct fixture f;
	uint32_t a[MOVABLE_PAGES], b[4];
	uint32_t id;

	open_pool(&f);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 5, 6, true, a), 0);
	for (uint32_t i = 0; i < 6; i++)
		CU_ASSERT_EQUAL(a[i], EXTENT_PAGES + i);
	page_pool_give(f.pool, PAGE_KV, 5, a + 1, 2);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_LORA, 9, 3, true, b), 0);
	CU_ASSERT(b[0] == a[1] && b[1] == a[2] && b[2] == a[5] + 1);
	CU_ASSERT_EQUAL(page_pool_owner(f.pool, b[2], &id), PAGE_LORA);
	CU_ASSERT_EQUAL(id, 9);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_KV), 4);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_LORA), 3);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), 9);
	page_pool_check(f.pool);
	page_pool_give(f.pool, PAGE_LORA, 9, b, 3);
	page_pool_give(f.pool, PAGE_KV, 5, a, 1);
	page_pool_give(f.pool, PAGE_KV, 5, a + 3, 3);
	close_pool(&f);
}

static void test_page_pool_take__too_many_takes_nothing(void)
{
	struct fixture f;
	uint32_t a[MOVABLE_PAGES + 1];

	open_pool(&f);
	CU_ASSERT_EQUAL(
		page_pool_take(f.pool, PAGE_KV, 1, MOVABLE_PAGES + 1, true, a),
		-ENOMEM);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), MOVABLE_PAGES);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 1, 0, true, a), 0);
	CU_ASSERT_EQUAL(
		page_pool_take(f.pool, PAGE_KV, 1, MOVABLE_PAGES, true, a), 0);
	CU_ASSERT_EQUAL(
		page_pool_take(f.pool, PAGE_KV, 2, 1, true, a), -ENOMEM);
	page_pool_give(f.pool, PAGE_KV, 1, a, MOVABLE_PAGES);
	close_pool(&f);
}

static void test_page_pool_take__clears_what_another_left(void)
{
	struct fixture f;
	uint32_t a[MOVABLE_PAGES];

	open_pool(&f);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 1, 8, false, a), 0);
	for (uint32_t i = 0; i < 8; i++)
		memset(words(&f, a[i]), 0x5a, PAGE);
	page_pool_give(f.pool, PAGE_KV, 1, a, 8);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 2, 2, false, a), 0);
	CU_ASSERT_EQUAL(*words(&f, a[0]), UINT64_C(0x5a5a5a5a5a5a5a5a));
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 3, 2, true, a + 2), 0);
	page_pool_give(f.pool, PAGE_KV, 3, a + 2, 1);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 3, 3, true, a + 4), 0);
	for (uint32_t i = 3; i < 7; i++)
		for (size_t k = 0; k < PAGE / 8; k++)
			CU_ASSERT_EQUAL_FATAL(words(&f, a[i])[k], 0);
	/* Two takes, three spans of neighbours: one clear call each. */
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_CLEAR), 3);
	page_pool_give(f.pool, PAGE_KV, 2, a, 2);
	page_pool_give(f.pool, PAGE_KV, 3, a + 3, 4);
	close_pool(&f);
}

static void test_page_pool_take__failed_clear_takes_nothing(void)
{
	struct fixture f;
	uint32_t a[8], b[8];

	open_pool(&f);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 1, 3, true, a), 0);
	page_pool_give(f.pool, PAGE_KV, 1, a + 1, 1);
	fake_vmm_fail(&f.vmm, FAKE_CLEAR, 2); /* of two spans */
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_LORA, 1, 4, true, b), -EIO);
	CU_ASSERT(fake_vmm_has_failed(&f.vmm));
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_LORA), 0);
	page_pool_check(f.pool);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_LORA, 1, 4, true, b), 0);
	CU_ASSERT_EQUAL(b[0], a[1]);
	page_pool_give(f.pool, PAGE_LORA, 1, b, 4);
	page_pool_give(f.pool, PAGE_KV, 1, a, 1);
	page_pool_give(f.pool, PAGE_KV, 1, a + 2, 1);
	close_pool(&f);
}

static void test_page_pool_map__second_address_shows_the_same(void)
{
	struct fixture f;
	struct vmm *vmm = &f.vmm;
	vmm_addr addr;
	uint64_t *second;
	uint32_t page;

	open_pool(&f);
	CU_ASSERT_EQUAL(vmm->ops->reserve(vmm, 6 * PAGE, &addr), 0);
	CU_ASSERT_EQUAL(
		page_pool_take(f.pool, PAGE_EXPERTS, 1, 1, true, &page), 0);
	CU_ASSERT_EQUAL(page_pool_map_extent(f.pool, 1, addr), 0);
	CU_ASSERT_EQUAL(page_pool_map_page(f.pool, page, addr + 5 * PAGE), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 6 * PAGE), 0);
	*words(&f, 7) = 70; /* last page of extent 1 */
	*words(&f, page) = 80;
	second = vmm->ops->host_pointer(vmm, addr);
	CU_ASSERT_EQUAL(second[4 * PAGE / 8], 70);
	CU_ASSERT_EQUAL(second[5 * PAGE / 8], 80);
	vmm->ops->unmap(vmm, addr, 6 * PAGE);
	vmm->ops->unreserve(vmm, addr, 6 * PAGE);
	page_pool_give(f.pool, PAGE_EXPERTS, 1, &page, 1);
	close_pool(&f);
}

static void test_page_pool_map_extent__whole_or_nothing(void)
{
	struct fixture f;
	struct vmm *vmm = &f.vmm;
	vmm_addr addr;

	open_pool(&f);
	CU_ASSERT_EQUAL(vmm->ops->reserve(vmm, 5 * PAGE, &addr), 0);
	for (uint64_t n = 1; n <= 3; n++) {
		fake_vmm_fail(vmm, FAKE_MAP, n);
		CU_ASSERT_EQUAL(page_pool_map_extent(f.pool, 1, addr), -ENOMEM);
	}
	vmm->ops->unreserve(vmm, addr, 5 * PAGE); /* asserts: nothing mapped */
	close_pool(&f);
}

/* --- our own mistakes stop the process ------------------------------------- */

static void give_with_wrong_id(void *argument)
{
	uint32_t page = EXTENT_PAGES;

	page_pool_give(argument, PAGE_KV, 2, &page, 1);
}

static void give_with_wrong_owner(void *argument)
{
	uint32_t page = EXTENT_PAGES;

	page_pool_give(argument, PAGE_LORA, 1, &page, 1);
}

static void give_twice(void *argument)
{
	uint32_t pages[] = {EXTENT_PAGES, EXTENT_PAGES};

	page_pool_give(argument, PAGE_KV, 1, pages, 2);
}

static void give_base(void *argument)
{
	uint32_t page = 0;

	page_pool_give(argument, PAGE_BASE, 0, &page, 1);
}

static void map_free_page(void *argument)
{
	struct page_pool *pool = argument;
	struct vmm *vmm = page_pool_vmm(pool);
	vmm_addr addr;

	if (vmm->ops->reserve(vmm, PAGE, &addr) == 0)
		page_pool_map_page(pool, EXTENT_PAGES + 1, addr);
}

static void destroy_with_loans(void *argument)
{
	page_pool_destroy(argument, false);
}

static void test_page_pool__mistakes_abort(void)
{
	static void (*const mistakes[])(void *) = {give_with_wrong_id,
		give_with_wrong_owner, give_twice, give_base, map_free_page,
		destroy_with_loans};
	struct fixture f;
	uint32_t page;

	open_pool(&f);
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 1, 1, true, &page), 0);
	CU_ASSERT_EQUAL(page, EXTENT_PAGES);
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++)
		CU_ASSERT(aborts(mistakes[i], f.pool));
	page_pool_destroy(f.pool, true);
	close_vmm(&f);
}

static void test_page_pool_destroy__failed_fence_unmaps_nothing(void)
{
	struct page_pool *pool;
	struct vmm vmm;

	fake_vmm_init(&vmm, PAGE, NULL);
	CU_ASSERT_EQUAL(page_pool_create(&vmm, &small_config, &pool, NULL), 0);
	fake_vmm_work_begin(&vmm);
	fake_vmm_fail(&vmm, FAKE_FENCE, 1);
	page_pool_destroy(pool, false);
	CU_ASSERT_EQUAL(fake_vmm_calls(&vmm, FAKE_UNMAP), 0);
	CU_ASSERT_EQUAL(fake_vmm_live(&vmm).handles, 5 + MOVABLE_PAGES);
	fake_vmm_destroy(&vmm);
}

/* A pool as large as a card's, against an array of owners. */
#define MODEL_PAGES 40000u
#define MODEL_OWNERS 200u
#define MODEL_TAKE_MAX 400u

struct model {
	uint32_t owner_of[MODEL_PAGES]; /* 0 = free */
	uint32_t pages[MODEL_OWNERS][MODEL_TAKE_MAX];
	uint32_t count[MODEL_OWNERS];
	uint32_t free_count;
};

static void model_take(
	struct model *m, struct page_pool *pool, uint32_t owner, uint32_t count)
{
	uint32_t lowest = 0;
	int rc = page_pool_take(
		pool, PAGE_LORA, owner, count, true, m->pages[owner]);

	CU_ASSERT_EQUAL(rc, count > m->free_count ? -ENOMEM : 0);
	if (rc != 0)
		return;
	for (uint32_t i = 0; i < count; i++) {
		while (m->owner_of[lowest] != 0)
			lowest++;
		CU_ASSERT_EQUAL_FATAL(m->pages[owner][i], lowest);
		m->owner_of[lowest] = owner;
	}
	m->count[owner] = count;
	m->free_count -= count;
}

static void test_page_pool__random_against_array(void)
{
	const struct page_pool_config config = {.page_size_bytes = 32 * PAGE,
		.movable_page_count = MODEL_PAGES};
	struct model *m = calloc(1, sizeof(*m));
	uint64_t seed = suite_seed(7);
	struct page_pool *pool;
	struct vmm vmm;

	m->free_count = MODEL_PAGES;
	fake_vmm_init(&vmm, PAGE, NULL);
	CU_ASSERT_EQUAL_FATAL(page_pool_create(&vmm, &config, &pool, NULL), 0);
	for (int i = 0; i < 4000; i++) {
		uint32_t owner = 1 + suite_below(&seed, MODEL_OWNERS - 1);

		if (m->count[owner] == 0) {
			model_take(m, pool, owner,
				suite_below(&seed, MODEL_TAKE_MAX + 1));
			continue;
		}
		page_pool_give(pool, PAGE_LORA, owner, m->pages[owner],
			m->count[owner]);
		for (uint32_t k = 0; k < m->count[owner]; k++)
			m->owner_of[m->pages[owner][k]] = 0;
		m->free_count += m->count[owner];
		m->count[owner] = 0;
		CU_ASSERT_EQUAL(
			page_pool_count(pool, PAGE_FREE), m->free_count);
	}
	page_pool_check(pool);
	for (uint32_t page = 0; page < MODEL_PAGES; page++) {
		uint32_t id;

		CU_ASSERT_EQUAL(page_pool_owner(pool, page, &id) == PAGE_LORA,
			m->owner_of[page] != 0);
		CU_ASSERT_EQUAL(id, m->owner_of[page]);
	}
	page_pool_destroy(pool, true);
	CU_ASSERT(fake_vmm_check_empty(&vmm));
	fake_vmm_destroy(&vmm);
	free(m);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(page_pool_create__owners_and_window),
		SUITE_CASE(page_pool_create__bad_configs_are_refused),
		SUITE_CASE(page_pool_create__every_device_call_may_fail),
		SUITE_CASE(page_pool_create__every_system_call_may_fail),
		SUITE_CASE(page_pool_take__lowest_first),
		SUITE_CASE(page_pool_take__too_many_takes_nothing),
		SUITE_CASE(page_pool_take__clears_what_another_left),
		SUITE_CASE(page_pool_take__failed_clear_takes_nothing),
		SUITE_CASE(page_pool_map__second_address_shows_the_same),
		SUITE_CASE(page_pool_map_extent__whole_or_nothing),
		SUITE_CASE(page_pool__mistakes_abort),
		SUITE_CASE(page_pool_destroy__failed_fence_unmaps_nothing),
		SUITE_CASE(page_pool__random_against_array),
	};

	return SUITE_MAIN("pages", cases);
}
