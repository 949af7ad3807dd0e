/* test_expert_sizes.c - bytes and addresses of experts at their true sizes */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "memmgr/experts.h"
#include "tests/esft_counts.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)
#define LARGE_PAGE ((size_t)2 << 20)
#define EXPERTS 8u

static const struct expert_shape small_shape = {
	.layer_count = 3,
	.base_count = EXPERTS,
	.hidden = 96,
	.inter = 128,
	.format = {.type = DTYPE_BF16},
};

/* --- shapes -------------------------------------------------------------------- */

static void test_expert_shape_finish__deepseek_v2_lite(void)
{
	struct expert_shape shape = {.layer_count = 26,
		.base_count = 64,
		.hidden = 2048,
		.inter = 1408,
		.format = {.type = DTYPE_BF16}};
	uint32_t pages = 0;

	CU_ASSERT_EQUAL(expert_shape_finish(&shape, NULL), 0);
	CU_ASSERT_EQUAL(shape.up_offset_bytes, 5767168);
	CU_ASSERT_EQUAL(shape.down_offset_bytes, 11534336);
	CU_ASSERT_EQUAL(shape.slot_size_bytes, 17301504);
	CU_ASSERT_EQUAL(expert_shape_run_pages(&shape, LARGE_PAGE, 4), 33);
	CU_ASSERT_EQUAL(expert_shape_run_pages(&shape, LARGE_PAGE, 5), 42);
	CU_ASSERT_EQUAL(expert_shape_run_pages(&shape, LARGE_PAGE, 0), 0);
	CU_ASSERT_EQUAL(expert_shape_base_pages(&shape, LARGE_PAGE, &pages), 0);
	CU_ASSERT_EQUAL(pages, 528);
}

static void test_expert_shape_finish__matrices_start_on_cache_lines(void)
{
	struct expert_shape shape = small_shape;

	shape.hidden = 33;
	shape.inter = 5;
	CU_ASSERT_EQUAL(expert_shape_finish(&shape, NULL), 0);
	/* 330 bytes a matrix. */
	CU_ASSERT_EQUAL(shape.up_offset_bytes, 384);
	CU_ASSERT_EQUAL(shape.down_offset_bytes, 768);
	CU_ASSERT_EQUAL(shape.slot_size_bytes, 1152);
}

static void test_expert_shape_finish__bad_shapes_are_refused(void)
{
	struct expert_shape shapes[11];
	uint32_t pages = 77;

	for (size_t i = 0; i < 11; i++)
		shapes[i] = small_shape;
	shapes[0].layer_count = 0;
	shapes[1].layer_count = MODEL_LAYER_COUNT_MAX + 1;
	shapes[2].base_count = 0;
	shapes[3].base_count = MODEL_EXPERT_COUNT_MAX + 1;
	shapes[4].hidden = 0;
	shapes[5].hidden = MODEL_HIDDEN_MAX + 1;
	shapes[6].inter = 0;
	shapes[7].inter = MODEL_INTERMEDIATE_MAX + 1;
	shapes[8].format.type = DTYPE_COUNT;
	shapes[9].format.scale_block_rows = 128;
	shapes[10].format.scale_block_cols = 128;
	for (size_t i = 0; i < 11; i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(expert_shape_finish(&shapes[i], &err), -EINVAL);
		CU_ASSERT_EQUAL(strncmp(err.text, "experts: ", 9), 0);
	}
	/* The largest of all is finished, but has too many pages. */
	shapes[0] = small_shape;
	shapes[0].base_count = MODEL_EXPERT_COUNT_MAX;
	shapes[0].hidden = MODEL_HIDDEN_MAX;
	shapes[0].inter = MODEL_INTERMEDIATE_MAX;
	shapes[0].format.type = DTYPE_F32;
	CU_ASSERT_EQUAL(expert_shape_finish(&shapes[0], NULL), 0);
	CU_ASSERT_EQUAL(
		expert_shape_base_pages(&shapes[0], PAGE, &pages), -EOVERFLOW);
	CU_ASSERT_EQUAL(
		expert_shape_base_pages(&shapes[0], 0, &pages), -EINVAL);
	CU_ASSERT_EQUAL(pages, 77);
}

/* --- the published adapters at their true size ----------------------------------------- */

struct real {
	struct vmm vmm;
	struct page_pool *pool;
	struct expert_store *store;
};

static void open_real(struct real *r, uint32_t movable_page_count)
{
	struct expert_store_config config = {
		.shape = {.layer_count = 26,
			.base_count = 64,
			.hidden = 2048,
			.inter = 1408,
			.format = {.type = DTYPE_BF16}},
		.instance_count_max = 16,
		.adapter_slot_count_max = 128};
	uint32_t extents[26];
	const struct page_pool_config pages = {
		.page_size_bytes = LARGE_PAGE,
		.movable_page_count = movable_page_count,
		.extent_page_counts = extents,
		.extent_count = 26,
		.extent_handle_bytes = 32 * LARGE_PAGE,
	};

	for (int l = 0; l < 26; l++)
		extents[l] = 528;
	fake_vmm_init(&r->vmm, LARGE_PAGE, NULL);
	CU_ASSERT_EQUAL_FATAL(
		page_pool_create(&r->vmm, &pages, &r->pool, NULL), 0);
	CU_ASSERT_EQUAL(expert_shape_finish(&config.shape, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(
		expert_store_create(r->pool, &config, &r->store, NULL), 0);
	expert_store_publish_base(r->store);
}

static void close_real(struct real *r)
{
	expert_store_check(r->store);
	expert_store_destroy(r->store);
	page_pool_destroy(r->pool, false);
	CU_ASSERT(fake_vmm_check_empty(&r->vmm));
	fake_vmm_destroy(&r->vmm);
}

static uint32_t add_counts(struct real *r, const uint32_t *counts)
{
	static const uint16_t list[] = {9, 3, 60, 0, 63, 31, 12, 44, 5};
	const uint16_t *ids[ESFT_LAYER_COUNT];
	uint32_t instance = INSTANCE_NONE;

	for (int l = 0; l < ESFT_LAYER_COUNT; l++)
		ids[l] = list;
	CU_ASSERT_EQUAL(
		expert_store_add(r->store, counts, ids, &instance, NULL), 0);
	return instance;
}

static void test_expert_store_books__published_adapters(void)
{
	struct expert_books before = {0}, books;
	struct real r;

	open_real(&r, 5000);
	CU_ASSERT_EQUAL(fake_vmm_live(&r.vmm).handle_bytes,
		(26u * 528 + 5000) * LARGE_PAGE);
	printf("\n");
	for (int i = 0; i < ESFT_ADAPTER_COUNT; i++) {
		uint64_t used, pages;
		double waste;

		expert_store_publish(
			r.store, add_counts(&r, esft_counts[i].counts));
		expert_store_books(r.store, &books);
		used = books.adapter_used_bytes - before.adapter_used_bytes;
		pages = books.adapter_page_bytes - before.adapter_page_bytes;
		waste = 100.0 * (double)(pages - used) / (double)used;
		printf("    %-11s %3u experts, %llu bytes, %4llu pages, "
		       "%.2f %% waste\n",
			esft_counts[i].name, esft_counts[i].total,
			(unsigned long long)used,
			(unsigned long long)(pages / LARGE_PAGE), waste);
		CU_ASSERT_EQUAL(
			used, esft_counts[i].total * UINT64_C(17301504));
		CU_ASSERT(waste <= 0.1); /* less than a page */
		before = books;
	}
	CU_ASSERT_EQUAL(books.instance_count, 4);
	CU_ASSERT_EQUAL(books.base_used_bytes, books.base_page_bytes);
	close_real(&r);
}

/*
 * The worst that the limits allow: every order of coming and going, runs from
 * one expert to all, until the slots are used up. first_fit() asserts that a
 * gap is found.
 */
static void test_expert_store_add__addresses_never_run_out(void)
{
	uint64_t seed = suite_seed(5);
	bool used[INSTANCE_COUNT_MAX] = {false};
	uint16_t list[64];
	const uint16_t *ids[26];
	struct real r;

	for (uint16_t i = 0; i < 64; i++)
		list[i] = i;
	for (int l = 0; l < 26; l++)
		ids[l] = list;
	open_real(&r, 28000);
	for (int i = 0; i < 1500; i++) {
		uint32_t instance = 1 + suite_below(&seed, 15);
		uint32_t counts[26];

		if (used[instance]) {
			CU_ASSERT_EQUAL(
				expert_store_remove(r.store, instance), 0);
			used[instance] = false;
			continue;
		}
		for (int l = 0; l < 26; l++)
			counts[l] = suite_below(&seed, 4) == 0
					    ? suite_below(&seed, 65)
					    : suite_below(&seed, 5);
		if (expert_store_add(r.store, counts, ids, &instance, NULL) ==
			0)
			used[instance] = true;
	}
	close_real(&r);
}

/*
 * Slots of nearly a page: three runs are left so that 13 pages of addresses
 * are needed although ten slots are all there are.
 */
static void test_expert_store_add__fits_into_cut_up_addresses(void)
{
	static const uint16_t list[] = {0, 1, 2, 3, 4, 5, 6, 7};
	static const uint16_t *const ids[] = {list};
	static const uint32_t counts[] = {3, 1, 3, 4, 5};
	struct expert_store_config config = {
		.shape = {.layer_count = 1,
			.base_count = EXPERTS,
			.hidden = 32,
			.inter = 341,
			.format = {.type = DTYPE_BF16}},
		.instance_count_max = 4,
		.adapter_slot_count_max = 10,
	};
	const uint32_t extent = EXPERTS;
	const struct page_pool_config pages = {
		.page_size_bytes = PAGE,
		.movable_page_count = 10,
		.extent_page_counts = &extent,
		.extent_count = 1,
		.extent_handle_bytes = PAGE,
	};
	uint32_t instances[5];
	struct real r;

	fake_vmm_init(&r.vmm, PAGE, NULL);
	CU_ASSERT_EQUAL_FATAL(
		page_pool_create(&r.vmm, &pages, &r.pool, NULL), 0);
	CU_ASSERT_EQUAL(expert_shape_finish(&config.shape, NULL), 0);
	CU_ASSERT_EQUAL(config.shape.slot_size_bytes, PAGE - 64);
	/* Eight slots beside two of one: 1 + 2 * 2 + 3 * 8 + 1. */
	CU_ASSERT_EQUAL(expert_store_area_pages(&config, PAGE), 30);
	CU_ASSERT_EQUAL_FATAL(
		expert_store_create(r.pool, &config, &r.store, NULL), 0);
	for (int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL_FATAL(expert_store_add(r.store, &counts[i], ids,
					      &instances[i], NULL),
			0);
		if (i == 2) {
			expert_store_remove(r.store, instances[0]);
			expert_store_remove(r.store, instances[2]);
		}
	}
	CU_ASSERT_EQUAL(expert_store_instance_slot(r.store, instances[4], 0, 0),
		expert_store_base_slot(r.store, 0, 0) + (8 + 8) * PAGE);
	expert_store_destroy(r.store);
	page_pool_destroy(r.pool, false);
	CU_ASSERT(fake_vmm_check_empty(&r.vmm));
	fake_vmm_destroy(&r.vmm);
}

/* No adapters at all: no addresses beyond the base. */
static void test_expert_store_area_pages__only_the_base(void)
{
	struct expert_store_config config = {.shape = small_shape,
		.instance_count_max = 1,
		.adapter_slot_count_max = 10};

	CU_ASSERT_EQUAL(expert_shape_finish(&config.shape, NULL), 0);
	CU_ASSERT_EQUAL(expert_store_area_pages(&config, PAGE), 0);
	config.instance_count_max = 4;
	config.adapter_slot_count_max = 0;
	CU_ASSERT_EQUAL(expert_store_area_pages(&config, PAGE), 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(expert_shape_finish__deepseek_v2_lite),
		SUITE_CASE(expert_shape_finish__matrices_start_on_cache_lines),
		SUITE_CASE(expert_shape_finish__bad_shapes_are_refused),
		SUITE_CASE(expert_store_books__published_adapters),
		SUITE_CASE(expert_store_add__addresses_never_run_out),
		SUITE_CASE(expert_store_add__fits_into_cut_up_addresses),
		SUITE_CASE(expert_store_area_pages__only_the_base),
	};

	return SUITE_MAIN("expert_sizes", cases);
}
