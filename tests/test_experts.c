/* test_experts.c - slots, runs and the expert map as instances come and go */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "memmgr/experts.h"
#include "tests/fake/aborts.h"
#include "tests/fake/fake_os.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)
#define LAYERS 3u
#define EXPERTS 8u
#define SLOT_BYTES ((size_t)3 * 96 * 128 * 2)
#define MOVABLE_PAGES 40u
#define SLOT_WORDS (SLOT_BYTES / 8)

/*
 * Slots of 73,728 bytes = 1.125 pages: the base of a layer takes nine whole
 * pages, runs begin and end within pages.
 */
static const struct expert_shape small_shape = {
	.layer_count = LAYERS,
	.base_count = EXPERTS,
	.hidden = 96,
	.inter = 128,
	.format = {.type = DTYPE_BF16},
};

struct fixture {
	struct vmm host, vmm;
	struct page_pool *pool;
	struct expert_store_config config;
	struct expert_store *store;
	struct expert_view view;
};

static void open_pool_on(struct fixture *f, bool memory)
{
	const struct vmm_host_config host = {.granularity_bytes = PAGE};
	/* One extent before those of the layers, for other base weights. */
	const uint32_t extents[1 + LAYERS] = {5, 9, 9, 9};
	const struct page_pool_config pages = {
		.page_size_bytes = PAGE,
		.movable_page_count = MOVABLE_PAGES,
		.extent_page_counts = extents,
		.extent_count = 1 + LAYERS,
		.extent_handle_bytes = 4 * PAGE,
	};

	*f = (struct fixture){.config = {.shape = small_shape,
				      .first_extent = 1,
				      .instance_count_max = 4,
				      .adapter_slot_count_max = 10}};
	if (memory)
		CU_ASSERT_EQUAL_FATAL(vmm_host_init(&f->host, &host, NULL), 0);
	fake_vmm_init(&f->vmm, PAGE, memory ? &f->host : NULL);
	CU_ASSERT_EQUAL_FATAL(
		page_pool_create(&f->vmm, &pages, &f->pool, NULL), 0);
	CU_ASSERT_EQUAL(expert_shape_finish(&f->config.shape, NULL), 0);
}

static void open_pool(struct fixture *f)
{
	open_pool_on(f, true);
}

static void open_store(struct fixture *f)
{
	struct error err = {0};

	open_pool(f);
	if (expert_store_create(f->pool, &f->config, &f->store, &err) != 0) {
		printf("%s\n", err.text);
		CU_FAIL_FATAL("store");
	}
	expert_store_view(f->store, &f->view);
	expert_store_check(f->store);
	expert_store_publish_base(f->store);
}

static void close_pool(struct fixture *f)
{
	page_pool_check(f->pool);
	page_pool_destroy(f->pool, false);
	CU_ASSERT(fake_vmm_check_empty(&f->vmm));
	fake_vmm_destroy(&f->vmm);
	vmm_host_destroy(&f->host);
}

static void close_store(struct fixture *f)
{
	expert_store_check(f->store);
	expert_store_destroy(f->store);
	close_pool(f);
}

static uint64_t *words(struct fixture *f, vmm_addr at)
{
	return f->vmm.ops->host_pointer(&f->vmm, at);
}

static uint32_t slot_of(const struct fixture *f, uint32_t instance,
	uint32_t layer, uint32_t expert)
{
	return f->view.map[instance * f->view.instance_stride +
			   layer * f->view.layer_stride + expert];
}

/* As a kernel finds it. */
static vmm_addr address_of(const struct fixture *f, uint32_t instance,
	uint32_t layer, uint32_t expert)
{
	uint32_t slot = slot_of(f, instance, layer, expert);

	return f->view.tensor[layer] +
	       f->view.slot_offset[layer * f->view.slot_stride + slot];
}

/* An adapter with experts {7, 2, 5}, none, {0}. */
static const uint16_t list_a0[] = {7, 2, 5};
static const uint16_t list_a2[] = {0};
static const uint32_t counts_a[LAYERS] = {3, 0, 1};
static const uint16_t *const ids_a[LAYERS] = {list_a0, NULL, list_a2};

/* {2, 1}, all eight, {3}. */
static const uint16_t list_b0[] = {2, 1};
static const uint16_t list_b1[] = {7, 6, 5, 4, 3, 2, 1, 0};
static const uint16_t list_b2[] = {3};
static const uint32_t counts_b[LAYERS] = {2, 8, 1};
static const uint16_t *const ids_b[LAYERS] = {list_b0, list_b1, list_b2};

static uint32_t add(
	struct fixture *f, const uint32_t *counts, const uint16_t *const *ids)
{
	struct error err = {0};
	uint32_t instance = INSTANCE_NONE;

	if (expert_store_add(f->store, counts, ids, &instance, &err) != 0) {
		printf("%s\n", err.text);
		CU_FAIL("add");
	}
	expert_store_check(f->store);
	return instance;
}

/* --- the base ------------------------------------------------------------------ */

static void test_expert_store_create__base_is_the_identity(void)
{
	struct fixture f;
	struct expert_books books;

	open_store(&f);
	for (uint32_t l = 0; l < LAYERS; l++) {
		uint32_t page = page_pool_extent_page(f.pool, 1 + l);
		vmm_addr window = page_pool_address(f.pool, page);

		for (uint32_t e = 0; e < EXPERTS; e++) {
			vmm_addr at = expert_store_base_slot(f.store, l, e);

			CU_ASSERT_EQUAL(slot_of(&f, INSTANCE_BASE, l, e), e);
			CU_ASSERT_EQUAL(address_of(&f, 0, l, e), at);
			*words(&f, at) = 1000 + l * EXPERTS + e;
			CU_ASSERT_EQUAL(*words(&f, window + e * SLOT_BYTES),
				1000 + l * EXPERTS + e);
		}
	}
	expert_store_books(f.store, &books);
	CU_ASSERT_EQUAL(books.base_used_bytes, SLOT_BYTES * LAYERS * EXPERTS);
	CU_ASSERT_EQUAL(books.base_page_bytes, 9 * PAGE * LAYERS);
	CU_ASSERT_EQUAL(books.instance_count, 0);
	CU_ASSERT_EQUAL(books.adapter_page_bytes, 0);
	CU_ASSERT_EQUAL(
		expert_store_shape(f.store)->slot_size_bytes, SLOT_BYTES);
	close_store(&f);
	expert_store_destroy(NULL);
}

static void test_expert_store_create__bad_configs_are_refused(void)
{
	struct expert_store_config configs[7];
	static const char *const texts[] = {"0 instances", "257 instances",
		"65528 adapter slots", "from extent 2 on", "from extent 9 on",
		"layer 0 needs an extent of 9 pages",
		"layer 0 needs an extent of 6 pages"};
	struct fixture f;

	open_pool(&f);
	for (size_t i = 0; i < 7; i++)
		configs[i] = f.config;
	configs[0].instance_count_max = 0;
	configs[1].instance_count_max = INSTANCE_COUNT_MAX + 1;
	configs[2].adapter_slot_count_max = 65528;
	configs[3].first_extent = 2;
	configs[4].first_extent = 9;
	configs[5].first_extent = 0;
	configs[6].shape.base_count = 5;
	for (size_t i = 0; i < 7; i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(expert_store_create(
					f.pool, &configs[i], &f.store, &err),
			-EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, texts[i]));
	}
	close_pool(&f);
}

static void test_expert_store_create__every_call_may_fail(void)
{
	struct fixture f;
	bool seen[2] = {false};
	struct error err;
	int rc;

	open_pool(&f);
	for (int kind = 0; kind < 2; kind++) {
		uint64_t n = 0;

		do {
			struct fake_os_balance before = fake_os_live();
			struct fake_vmm_live live = fake_vmm_live(&f.vmm);

			err = (struct error){0};
			n++;
			fake_os_fail(FAKE_OS_ANY, kind == 0 ? n : 0, ENOMEM);
			fake_vmm_fail(&f.vmm, FAKE_ANY, kind == 1 ? n : 0);
			rc = expert_store_create(
				f.pool, &f.config, &f.store, &err);
			fake_os_disarm();
			fake_vmm_disarm(&f.vmm);
			if (rc == 0) {
				expert_store_check(f.store);
				expert_store_destroy(f.store);
				break;
			}
			seen[kind] = true;
			CU_ASSERT_EQUAL(rc, -ENOMEM);
			CU_ASSERT_EQUAL(err.code, -ENOMEM);
			CU_ASSERT_EQUAL(strncmp(err.text, "experts: ", 9), 0);
			CU_ASSERT_EQUAL(
				fake_vmm_live(&f.vmm).mappings, live.mappings);
			CU_ASSERT_EQUAL(fake_vmm_live(&f.vmm).reservations,
				live.reservations);
			/* The host's table of reservations may have grown. */
			CU_ASSERT(fake_os_live().allocations <=
				  before.allocations + 1);
		} while (n < 1000);
		CU_ASSERT_EQUAL(rc, 0);
	}
	CU_ASSERT(seen[0] && seen[1]);
	close_pool(&f);
}

/* --- one instance and its neighbours --------------------------------------------- */

static void test_expert_store_add__row_is_base_until_published(void)
{
	struct fixture f;
	uint64_t epoch;
	uint32_t a;

	open_store(&f);
	a = add(&f, counts_a, ids_a);
	CU_ASSERT_EQUAL(a, 1);
	CU_ASSERT_TRUE(f.view.published[INSTANCE_BASE]);
	CU_ASSERT_FALSE(f.view.published[a]);
	epoch = expert_store_epoch(f.store);
	for (uint32_t l = 0; l < LAYERS; l++)
		for (uint32_t e = 0; e < EXPERTS; e++)
			CU_ASSERT_EQUAL(slot_of(&f, a, l, e), e);
	expert_store_publish(f.store, a);
	expert_store_check(f.store);
	CU_ASSERT_TRUE(f.view.published[a]);
	CU_ASSERT(expert_store_epoch(f.store) > epoch);
	for (uint32_t l = 0; l < LAYERS; l++)
		for (uint32_t e = 0; e < EXPERTS; e++) {
			bool own = (l == 0 && (e == 7 || e == 2 || e == 5)) ||
				   (l == 2 && e == 0);

			CU_ASSERT_EQUAL(slot_of(&f, a, l, e) >= EXPERTS, own);
			CU_ASSERT_EQUAL(slot_of(&f, 0, l, e), e);
			if (own)
				CU_ASSERT_EQUAL(address_of(&f, a, l, e),
					expert_store_instance_slot(
						f.store, a, l, e));
		}
	CU_ASSERT_EQUAL(expert_store_remove(f.store, a), 0);
	CU_ASSERT_FALSE(f.view.published[a]);
	for (uint32_t l = 0; l < LAYERS; l++)
		for (uint32_t e = 0; e < EXPERTS; e++)
			CU_ASSERT_EQUAL(slot_of(&f, a, l, e), e);
	close_store(&f);
}

static void test_expert_store_add__run_is_packed_in_order_of_ids(void)
{
	struct fixture f;
	uint32_t a;
	vmm_addr at;

	open_store(&f);
	a = add(&f, counts_a, ids_a);
	at = expert_store_instance_slot(f.store, a, 0, 2);
	CU_ASSERT_EQUAL((at - f.view.tensor[0]) % PAGE, 0);
	CU_ASSERT_EQUAL(
		expert_store_instance_slot(f.store, a, 0, 5), at + SLOT_BYTES);
	CU_ASSERT_EQUAL(expert_store_instance_slot(f.store, a, 0, 7),
		at + 2 * SLOT_BYTES);
	expert_store_publish(f.store, a);
	CU_ASSERT_EQUAL(slot_of(&f, a, 0, 2), EXPERTS);
	CU_ASSERT_EQUAL(slot_of(&f, a, 0, 5), EXPERTS + 1);
	CU_ASSERT_EQUAL(slot_of(&f, a, 0, 7), EXPERTS + 2);
	CU_ASSERT_EQUAL(slot_of(&f, a, 2, 0), EXPERTS);
	close_store(&f); /* destroy removes what is left */
}

static void fill_slot(struct fixture *f, vmm_addr at, uint64_t word)
{
	uint64_t *to = words(f, at);

	for (size_t i = 0; i < SLOT_WORDS; i++)
		to[i] = word + i;
}

static bool slot_holds(struct fixture *f, vmm_addr at, uint64_t word)
{
	const uint64_t *from = words(f, at);

	for (size_t i = 0; i < SLOT_WORDS; i++)
		if (from[i] != word + i)
			return false;
	return true;
}

static void fill_instance(struct fixture *f, uint32_t instance,
	const uint32_t *counts, const uint16_t *const *ids)
{
	for (uint32_t l = 0; l < LAYERS; l++)
		for (uint32_t i = 0; i < counts[l]; i++)
			fill_slot(f,
				expert_store_instance_slot(
					f->store, instance, l, ids[l][i]),
				(uint64_t)instance << 32 | l << 24 |
					(uint64_t)ids[l][i] << 16);
}

static void check_instance(struct fixture *f, uint32_t instance,
	const uint32_t *counts, const uint16_t *const *ids)
{
	for (uint32_t l = 0; l < LAYERS; l++)
		for (uint32_t i = 0; i < counts[l]; i++)
			CU_ASSERT(slot_holds(f,
				address_of(f, instance, l, ids[l][i]),
				(uint64_t)instance << 32 | l << 24 |
					(uint64_t)ids[l][i] << 16));
}

static void test_expert_store__bytes_survive_neighbours(void)
{
	struct fixture f;
	uint32_t a, b, c;

	open_store(&f);
	for (uint32_t e = 0; e < EXPERTS; e++)
		fill_slot(&f, expert_store_base_slot(f.store, 1, e), e << 16);
	a = add(&f, counts_a, ids_a);
	fill_instance(&f, a, counts_a, ids_a);
	expert_store_publish(f.store, a);
	b = add(&f, counts_b, ids_b);
	fill_instance(&f, b, counts_b, ids_b);
	expert_store_publish(f.store, b);
	CU_ASSERT_EQUAL(expert_store_remove(f.store, a), 0);
	expert_store_check(f.store);
	c = add(&f, counts_a, ids_a);
	CU_ASSERT_EQUAL(c, a); /* the lowest free row */
	fill_instance(&f, c, counts_a, ids_a);
	check_instance(&f, b, counts_b, ids_b);
	expert_store_publish(f.store, c);
	check_instance(&f, b, counts_b, ids_b);
	check_instance(&f, c, counts_a, ids_a);
	for (uint32_t e = 0; e < EXPERTS; e++)
		CU_ASSERT(slot_holds(&f, address_of(&f, 0, 1, e), e << 16));
	close_store(&f);
}

static void test_expert_store_add__the_tail_is_cleared(void)
{
	struct fixture f;
	uint32_t dirty[MOVABLE_PAGES];
	uint32_t a;
	vmm_addr last;

	open_store(&f);
	CU_ASSERT_EQUAL(
		page_pool_take(f.pool, PAGE_KV, 0, MOVABLE_PAGES, false, dirty),
		0);
	for (uint32_t i = 0; i < MOVABLE_PAGES; i++)
		memset(words(&f, page_pool_address(f.pool, dirty[i])), 0x77,
			PAGE);
	page_pool_give(f.pool, PAGE_KV, 0, dirty, MOVABLE_PAGES);
	a = add(&f, counts_a, ids_a);
	/* 4 slots = 294,912 bytes of 5 pages; the last one is in layer 2. */
	last = expert_store_instance_slot(f.store, a, 2, 0);
	for (size_t i = SLOT_BYTES; i < SLOT_BYTES + 5 * PAGE - 4 * SLOT_BYTES;
		i += 8)
		CU_ASSERT_EQUAL_FATAL(*words(&f, last + i), 0);
	close_store(&f);
}

/* What ends in a page and what begins in it are in one page of memory. */
static void test_expert_store_add__layers_share_a_page(void)
{
	struct fixture f;
	struct expert_books books;
	uint64_t *last;
	uint32_t a;
	vmm_addr at;

	open_store(&f);
	a = add(&f, counts_a, ids_a);
	expert_store_books(f.store, &books);
	CU_ASSERT_EQUAL(books.adapter_used_bytes, 4 * SLOT_BYTES);
	CU_ASSERT_EQUAL(books.adapter_page_bytes, 5 * PAGE);
	/* Layer 0 has 3.375 pages: layer 2 begins in the fourth. */
	at = expert_store_instance_slot(f.store, a, 2, 0);
	CU_ASSERT_EQUAL((at - f.view.tensor[2]) % PAGE, 3 * SLOT_BYTES % PAGE);
	fill_slot(&f, at, 1000);
	last = words(
		&f, expert_store_instance_slot(f.store, a, 0, 7) + SLOT_BYTES);
	CU_ASSERT_EQUAL(*last, 1000);
	close_store(&f);
}

static void test_expert_store_add__empty_lists_make_a_row(void)
{
	static const uint32_t none[LAYERS] = {0};
	static const uint16_t *const no_ids[LAYERS] = {NULL};
	struct fixture f;
	struct expert_books books;
	uint32_t a;

	open_store(&f);
	a = add(&f, none, no_ids);
	expert_store_publish(f.store, a);
	expert_store_check(f.store);
	for (uint32_t e = 0; e < EXPERTS; e++)
		CU_ASSERT_EQUAL(slot_of(&f, a, 1, e), e);
	expert_store_books(f.store, &books);
	CU_ASSERT_EQUAL(books.instance_count, 1);
	CU_ASSERT_EQUAL(books.adapter_page_bytes, 0);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_EXPERTS), 0);
	CU_ASSERT_EQUAL(expert_store_remove(f.store, a), 0);
	close_store(&f);
}

/* --- refusals ---------------------------------------------------------------------- */

static void refuse(struct fixture *f, const uint32_t *counts,
	const uint16_t *const *ids, int code, const char *text)
{
	struct error err = {0};
	uint32_t instance = 77;
	uint32_t free_pages = page_pool_count(f->pool, PAGE_FREE);
	uint64_t calls = fake_vmm_calls(&f->vmm, FAKE_ANY);

	CU_ASSERT_EQUAL(
		expert_store_add(f->store, counts, ids, &instance, &err), code);
	CU_ASSERT_EQUAL(err.code, code);
	if (!strstr(err.text, text)) {
		printf("%s\n", err.text);
		CU_FAIL("text");
	}
	CU_ASSERT_EQUAL(instance, 77);
	CU_ASSERT_EQUAL(page_pool_count(f->pool, PAGE_FREE), free_pages);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f->vmm, FAKE_ANY), calls);
	expert_store_check(f->store);
}

static void test_expert_store_add__bad_lists_are_refused(void)
{
	static const uint16_t outside[] = {3, 8};
	static const uint16_t none[] = {3, UINT16_MAX};
	static const uint16_t twice[] = {3, 4, 3};
	static const uint16_t many[9] = {0, 1, 2, 3, 4, 5, 6, 7, 0};
	static const struct {
		uint32_t count;
		const uint16_t *list;
		const char *text;
	} bad[] = {
		{2, outside, "layer 1 lists expert 8, the model has 8"},
		{2, none, "layer 1 lists expert 65535"},
		{3, twice, "layer 1 lists expert 3 twice"},
		{9, many, "layer 1 lists 9 experts"},
	};
	struct fixture f;

	open_store(&f);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t counts[LAYERS] = {3, bad[i].count, 0};
		const uint16_t *ids[LAYERS] = {list_a0, bad[i].list, NULL};

		refuse(&f, counts, ids, -EINVAL, bad[i].text);
	}
	close_store(&f);
}

static void test_expert_store_add__no_room_is_refused(void)
{
	static const uint32_t none[LAYERS] = {0};
	static const uint16_t *const no_ids[LAYERS] = {NULL};
	struct fixture f;
	uint32_t pages[MOVABLE_PAGES], b;

	open_store(&f);
	b = add(&f, counts_b, ids_b); /* 11 slots in 13 pages */
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_EXPERTS), 13);
	/* Eight of ten slots of layer 1 are taken. */
	refuse(&f, counts_b, ids_b, -ENOMEM, "layer 1 needs 8 slots, 2 are");
	/* 5 pages are needed. */
	CU_ASSERT_EQUAL(page_pool_take(f.pool, PAGE_KV, 1, MOVABLE_PAGES - 17,
				false, pages),
		0);
	refuse(&f, counts_a, ids_a, -ENOMEM, "5 pages are needed, 4 are free");
	page_pool_give(f.pool, PAGE_KV, 1, pages, 1);
	add(&f, counts_a, ids_a);
	page_pool_give(f.pool, PAGE_KV, 1, pages + 1, MOVABLE_PAGES - 18);
	add(&f, none, no_ids);
	refuse(&f, none, no_ids, -ENFILE, "all 3 instances");
	CU_ASSERT_EQUAL(expert_store_remove(f.store, b), 0);
	add(&f, counts_b, ids_b);
	close_store(&f);
}

/* With the n-th call failing: nothing changed, and the next attempt works. */
static void test_expert_store_add__every_call_may_fail(void)
{
	struct fixture f;
	struct fake_vmm_live live;
	uint32_t neighbour, instance = 77;
	struct error err;
	uint64_t n = 0;
	int rc;

	open_store(&f);
	neighbour = add(&f, counts_a, ids_a);
	fill_instance(&f, neighbour, counts_a, ids_a);
	expert_store_publish(f.store, neighbour);
	live = fake_vmm_live(&f.vmm);
	for (;;) {
		uint64_t epoch = expert_store_epoch(f.store);

		/* A step runs: what it may read must not be unmapped. */
		fake_vmm_work_begin(&f.vmm);
		err = (struct error){0};
		fake_vmm_fail(&f.vmm, FAKE_ANY, ++n);
		rc = expert_store_add(
			f.store, counts_b, ids_b, &instance, &err);
		if (!fake_vmm_has_failed(&f.vmm))
			break;
		CU_ASSERT(rc == -ENOMEM || rc == -EIO);
		CU_ASSERT_EQUAL(err.code, rc);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "13 pages"));
		CU_ASSERT_EQUAL(instance, 77);
		CU_ASSERT_EQUAL(fake_vmm_live(&f.vmm).mappings, live.mappings);
		CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_EXPERTS), 5);
		CU_ASSERT_EQUAL(expert_store_epoch(f.store), epoch);
		expert_store_check(f.store);
		page_pool_check(f.pool);
		check_instance(&f, neighbour, counts_a, ids_a);
	}
	/* One tail, 13 pages of which two are mapped twice, 3 runs. */
	CU_ASSERT_EQUAL(n, 1 + 15 + 3 + 1);
	CU_ASSERT_EQUAL(rc, 0);
	fake_vmm_disarm(&f.vmm);
	expert_store_check(f.store);
	expert_store_publish(f.store, instance);
	expert_store_check(f.store);
	close_store(&f);
}

static void test_expert_store_add__allocates_nothing(void)
{
	struct fixture f;
	uint32_t a;
	uint64_t count;

	open_store(&f);
	a = add(&f, counts_b, ids_b);
	CU_ASSERT_EQUAL(expert_store_remove(f.store, a), 0);
	count = fake_os_calls(FAKE_OS_ALLOCATE);
	a = add(&f, counts_b, ids_b);
	expert_store_publish(f.store, a);
	/* The fake's books of 15 mappings, and nothing else. */
	CU_ASSERT_EQUAL(fake_os_calls(FAKE_OS_ALLOCATE) - count, 15);
	close_store(&f);
}

/* --- leaving -------------------------------------------------------------------------- */

static void test_expert_store_remove__one_fence_before_any_unmap(void)
{
	struct fixture f;
	uint64_t fences, unmaps;
	uint32_t a, b;

	open_store(&f);
	a = add(&f, counts_a, ids_a);
	expert_store_publish(f.store, a);
	b = add(&f, counts_b, ids_b);
	fences = fake_vmm_calls(&f.vmm, FAKE_FENCE);
	unmaps = fake_vmm_calls(&f.vmm, FAKE_UNMAP);
	/* From here on the fake stops at an unmap without a fence before. */
	fake_vmm_work_begin(&f.vmm);
	CU_ASSERT_EQUAL(expert_store_remove(f.store, a), 0);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_FENCE), fences + 1);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_UNMAP), unmaps + 2);
	/* One that was never published leaves in the same way. */
	fake_vmm_work_begin(&f.vmm);
	CU_ASSERT_EQUAL(expert_store_remove(f.store, b), 0);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_FENCE), fences + 2);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_UNMAP), unmaps + 5);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_EXPERTS), 0);
	close_store(&f);
}

/* Between two parts others come, work runs, and the pages stay its own. */
static void test_expert_store_remove_some__a_part_at_a_time(void)
{
	struct fixture f;
	uint32_t a, b = INSTANCE_BASE, pages, free_pages, parts = 0;
	uint64_t unmaps, epoch;
	int rc;

	open_store(&f);
	a = add(&f, counts_a, ids_a);
	expert_store_publish(f.store, a);
	pages = page_pool_count(f.pool, PAGE_EXPERTS);
	epoch = expert_store_epoch(f.store);
	do {
		free_pages = page_pool_count(f.pool, PAGE_FREE);
		unmaps = fake_vmm_calls(&f.vmm, FAKE_UNMAP);
		fake_vmm_work_begin(&f.vmm);
		rc = expert_store_remove_some(f.store, a, 1);
		parts++;
		CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_UNMAP), unmaps + 1);
		expert_store_check(f.store);
		CU_ASSERT_EQUAL(expert_store_epoch(f.store), epoch + 1);
		if (parts == 1) {
			/* A fence that fails now loses nothing. */
			fake_vmm_fail(&f.vmm, FAKE_FENCE, 1);
			CU_ASSERT_EQUAL(
				expert_store_remove_some(f.store, a, 1), -EIO);
			fake_vmm_disarm(&f.vmm);
			expert_store_check(f.store);
		}
		if (parts == 2) {
			/* Its place is not theirs before it is gone. */
			b = add(&f, counts_b, ids_b);
			CU_ASSERT_NOT_EQUAL(b, a);
			fill_instance(&f, b, counts_b, ids_b);
			expert_store_publish(f.store, b);
			epoch++;
			check_instance(&f, b, counts_b, ids_b);
		}
		if (rc == -EAGAIN && parts != 2)
			CU_ASSERT_EQUAL(
				page_pool_count(f.pool, PAGE_FREE), free_pages);
	} while (rc == -EAGAIN);
	CU_ASSERT_EQUAL(rc, 0);
	CU_ASSERT(parts >= pages && parts > 2);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), free_pages + pages);
	check_instance(&f, b, counts_b, ids_b);
	/* What is left in the middle is the store's to end. */
	CU_ASSERT_EQUAL(expert_store_remove_some(f.store, b, 1), -EAGAIN);
	close_store(&f);
}

static void test_expert_store_remove__every_call_may_fail(void)
{
	struct fixture f;
	uint64_t epoch;
	uint32_t a;

	open_store(&f);
	a = add(&f, counts_a, ids_a);
	fill_instance(&f, a, counts_a, ids_a);
	expert_store_publish(f.store, a);
	epoch = expert_store_epoch(f.store);
	fake_vmm_work_begin(&f.vmm);
	fake_vmm_fail(&f.vmm, FAKE_ANY, 1); /* the fence is the only one */
	CU_ASSERT_EQUAL(expert_store_remove(f.store, a), -EIO);
	CU_ASSERT(fake_vmm_has_failed(&f.vmm));
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_UNMAP), 0);
	CU_ASSERT_EQUAL(expert_store_epoch(f.store), epoch);
	expert_store_check(f.store);
	check_instance(&f, a, counts_a, ids_a);
	fake_vmm_fail(&f.vmm, FAKE_ANY, 2);
	CU_ASSERT_EQUAL(expert_store_remove(f.store, a), 0);
	CU_ASSERT_FALSE(fake_vmm_has_failed(&f.vmm));
	fake_vmm_disarm(&f.vmm);
	close_store(&f);
}

static void test_expert_store_destroy__failed_fence_unmaps_nothing(void)
{
	struct fixture f;

	open_pool_on(&f, false);
	CU_ASSERT_EQUAL_FATAL(
		expert_store_create(f.pool, &f.config, &f.store, NULL), 0);
	expert_store_publish_base(f.store);
	expert_store_publish(f.store, add(&f, counts_a, ids_a));
	fake_vmm_work_begin(&f.vmm);
	fake_vmm_fail(&f.vmm, FAKE_FENCE, 1);
	expert_store_destroy(f.store);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_UNMAP), 0);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_EXPERTS), 5);
	fake_vmm_fail(&f.vmm, FAKE_FENCE, 1);
	page_pool_destroy(f.pool, true);
	CU_ASSERT_EQUAL(fake_vmm_calls(&f.vmm, FAKE_UNMAP), 0);
	/* The process would end here. */
	fake_vmm_destroy(&f.vmm);
}

/* --- mistakes ------------------------------------------------------------------------- */

static void publish_twice(void *argument)
{
	struct fixture *f = argument;

	expert_store_publish(f->store, 1);
}

static void publish_free(void *argument)
{
	struct fixture *f = argument;

	expert_store_publish(f->store, 2);
}

static void publish_base_twice(void *argument)
{
	struct fixture *f = argument;

	expert_store_publish_base(f->store);
}

static void remove_base(void *argument)
{
	struct fixture *f = argument;

	expert_store_remove(f->store, INSTANCE_BASE);
}

static void remove_free(void *argument)
{
	struct fixture *f = argument;

	expert_store_remove(f->store, 2);
}

static void ask_for_foreign_slot(void *argument)
{
	struct fixture *f = argument;

	(void)expert_store_instance_slot(f->store, 1, 0, 3);
}

static void ask_for_unknown_layer(void *argument)
{
	struct fixture *f = argument;

	(void)expert_store_base_slot(f->store, LAYERS, 0);
}

static void publish_without_base(void *argument)
{
	struct fixture *f = argument;
	struct fixture other;

	(void)f;
	open_pool(&other);
	if (expert_store_create(
		    other.pool, &other.config, &other.store, NULL) == 0)
		expert_store_publish(other.store, add(&other, counts_a, ids_a));
}

static void test_expert_store__mistakes_abort(void)
{
	static void (*const mistakes[])(void *) = {publish_twice, publish_free,
		publish_base_twice, remove_base, remove_free,
		ask_for_foreign_slot, ask_for_unknown_layer,
		publish_without_base};
	struct fixture f;

	open_store(&f);
	CU_ASSERT_EQUAL(add(&f, counts_a, ids_a), 1);
	expert_store_publish(f.store, 1);
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++)
		CU_ASSERT(aborts(mistakes[i], &f));
	close_store(&f);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(expert_store_create__base_is_the_identity),
		SUITE_CASE(expert_store_create__bad_configs_are_refused),
		SUITE_CASE(expert_store_create__every_call_may_fail),
		SUITE_CASE(expert_store_add__row_is_base_until_published),
		SUITE_CASE(expert_store_add__run_is_packed_in_order_of_ids),
		SUITE_CASE(expert_store__bytes_survive_neighbours),
		SUITE_CASE(expert_store_add__the_tail_is_cleared),
		SUITE_CASE(expert_store_add__layers_share_a_page),
		SUITE_CASE(expert_store_add__empty_lists_make_a_row),
		SUITE_CASE(expert_store_add__bad_lists_are_refused),
		SUITE_CASE(expert_store_add__no_room_is_refused),
		SUITE_CASE(expert_store_add__every_call_may_fail),
		SUITE_CASE(expert_store_add__allocates_nothing),
		SUITE_CASE(expert_store_remove__one_fence_before_any_unmap),
		SUITE_CASE(expert_store_remove_some__a_part_at_a_time),
		SUITE_CASE(expert_store_remove__every_call_may_fail),
		SUITE_CASE(expert_store_destroy__failed_fence_unmaps_nothing),
		SUITE_CASE(expert_store__mistakes_abort),
	};

	return SUITE_MAIN("experts", cases);
}
