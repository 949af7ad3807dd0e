/* test_kv.c - layouts of KV blocks, and blocks taken, shared and put */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "memmgr/kv.h"
#include "tests/fake/aborts.h"
#include "tests/fake/fake_os.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)
#define LARGE_PAGE ((size_t)2 << 20)

/* --- layouts ----------------------------------------------------------------- */

static struct kv_layout choose(uint32_t layers, uint32_t keys, uint32_t values,
	enum dtype type, size_t page)
{
	const struct kv_shape shape = {layers, keys, values, type};
	struct kv_layout layout = {0};
	struct error err = {0};

	if (kv_layout_choose(&shape, page, &layout, &err) != 0) {
		printf("%s\n", err.text);
		CU_FAIL("layout");
	}
	return layout;
}

/* Everything a layout promises, whatever its shape. */
static void check_layout(const struct kv_layout *l)
{
	uint64_t element = dtype_size(l->shape.type);
	uint64_t keys = l->shape.key_width * element;
	uint64_t values = l->shape.value_width * element;

	CU_ASSERT(l->block_tokens >= 16 && l->block_tokens <= 256);
	CU_ASSERT(l->pages_per_block <= KV_PAGES_PER_BLOCK_MAX);
	CU_ASSERT(l->value_offset_bytes >= keys);
	CU_ASSERT(l->token_stride_bytes >= l->value_offset_bytes + values);
	CU_ASSERT(l->layer_stride_bytes >=
		  l->block_tokens * l->token_stride_bytes);
	/* All layers of a page fit it, all pages are needed and enough. */
	CU_ASSERT(l->layers_per_page * l->layer_stride_bytes <=
		  l->page_size_bytes);
	CU_ASSERT(l->pages_per_block * l->layers_per_page >=
		  l->shape.layer_count);
	CU_ASSERT((l->pages_per_block - 1) * l->layers_per_page <
		  l->shape.layer_count);
	CU_ASSERT_EQUAL(
		l->waste_bytes, l->pages_per_block * l->page_size_bytes -
					(keys + values) * l->shape.layer_count *
						l->block_tokens);
}

static void test_kv_layout_choose__published_models(void)
{
	static const struct {
		const char *name;
		uint32_t layers, keys, values;
		enum dtype type;
		size_t page;
		uint32_t tokens, pages;
	} models[] = {
		{"DeepSeek-V2-Lite", 27, 576, 0, DTYPE_BF16, LARGE_PAGE, 67, 1},
		{"DeepSeek-V2-Lite f32", 27, 576, 0, DTYPE_F32, LARGE_PAGE, 101,
			3},
		{"Qwen3-30B-A3B", 48, 512, 512, DTYPE_BF16, LARGE_PAGE, 64, 3},
		{"DeepSeek-V3", 61, 576, 0, DTYPE_BF16, LARGE_PAGE, 29, 1},
		{"Mixtral-8x7B", 32, 1024, 1024, DTYPE_BF16, LARGE_PAGE, 16, 1},
		{"Mixtral-8x7B on the host", 32, 1024, 1024, DTYPE_BF16, PAGE,
			16, 32},
		{"tiny MLA", 4, 40, 0, DTYPE_F32, PAGE, 102, 1},
		{"tiny heads", 2, 32, 32, DTYPE_BF16, PAGE, 256, 1},
	};

	printf("\n");
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		struct kv_layout l = choose(models[i].layers, models[i].keys,
			models[i].values, models[i].type, models[i].page);

		check_layout(&l);
		CU_ASSERT_EQUAL(l.block_tokens, models[i].tokens);
		CU_ASSERT_EQUAL(l.pages_per_block, models[i].pages);
		printf("    %-25s %3u tokens in %2u pages, %2u layers a page, "
		       "%4llu bytes a token, %.1f %% waste\n",
			models[i].name, l.block_tokens, l.pages_per_block,
			l.layers_per_page,
			(unsigned long long)l.token_stride_bytes,
			100.0 * (double)l.waste_bytes /
				(double)(l.pages_per_block *
					 l.page_size_bytes));
	}
}

static void test_kv_layout_choose__deepseek_v2_lite_exactly(void)
{
	struct kv_layout l = choose(27, 576, 0, DTYPE_BF16, LARGE_PAGE);

	CU_ASSERT_EQUAL(l.layers_per_page, 27);
	CU_ASSERT_EQUAL(l.token_stride_bytes, 1152);
	CU_ASSERT_EQUAL(l.value_offset_bytes, 1152);
	CU_ASSERT_EQUAL(l.layer_stride_bytes, UINT64_C(67) * 1152);
	CU_ASSERT_EQUAL(l.waste_bytes, LARGE_PAGE - 2083968);
}

static void test_kv_layout_choose__aligns_where_there_is_room(void)
{
	/* 508 and 510 bytes: 512 + 512 fit into the waste of a page. */
	struct kv_layout l = choose(1, 254, 255, DTYPE_BF16, PAGE);

	check_layout(&l);
	CU_ASSERT_EQUAL(l.block_tokens, 64);
	CU_ASSERT_EQUAL(l.token_stride_bytes, 1024);
	CU_ASSERT_EQUAL(l.value_offset_bytes, 512);
	/* 80 and 48 bytes fill a page to the last: no room, no padding. */
	l = choose(8, 40, 24, DTYPE_BF16, PAGE);
	check_layout(&l);
	CU_ASSERT_EQUAL(l.waste_bytes, 0);
	CU_ASSERT_EQUAL(l.token_stride_bytes, 128);
	CU_ASSERT_EQUAL(l.value_offset_bytes, 80);
}

static void test_kv_layout_choose__little_waste(void)
{
	uint64_t seed = suite_seed(11);

	for (int i = 0; i < 3000; i++) {
		const struct kv_shape shape = {1 + suite_below(&seed, 100),
			1 + suite_below(&seed, 1500), suite_below(&seed, 1500),
			DTYPE_BF16};
		uint64_t row =
			2 * (uint64_t)(shape.key_width + shape.value_width);
		double least = -1;
		uint32_t first = 0; /* that wastes no more than 1 % */
		struct kv_layout l;
		int rc = kv_layout_choose(&shape, LARGE_PAGE, &l, NULL);

		for (uint32_t tokens = 16; tokens <= 256; tokens++) {
			uint64_t fit = LARGE_PAGE / (tokens * row);
			uint64_t pages;
			double waste;

			if (fit == 0)
				continue;
			pages = (shape.layer_count + fit - 1) / fit;
			if (pages > KV_PAGES_PER_BLOCK_MAX)
				continue;
			waste = (double)(pages * LARGE_PAGE) / tokens -
				(double)(shape.layer_count * row);
			if (least < 0 || waste < least)
				least = waste;
			if (first == 0 && waste * tokens * 100 <=
						  (double)(pages * LARGE_PAGE))
				first = tokens;
		}
		CU_ASSERT_EQUAL(rc, least < 0 ? -EINVAL : 0);
		if (rc != 0)
			continue;
		check_layout(&l);
		CU_ASSERT(first == 0 || l.block_tokens == first ||
			  (l.block_tokens & (l.block_tokens - 1)) == 0);
		if (first > 0) {
			CU_ASSERT(l.waste_bytes * 100 <=
				  l.pages_per_block * l.page_size_bytes);
			continue;
		}
		CU_ASSERT_DOUBLE_EQUAL(
			(double)l.waste_bytes / l.block_tokens, least, 1e-6);
	}
}

static void test_kv_layout_choose__bad_shapes_are_refused(void)
{
	static const struct {
		struct kv_shape shape;
		const char *text;
	} bad[] = {
		{{0, 64, 64, DTYPE_BF16}, "0 layers"},
		{{257, 64, 64, DTYPE_BF16}, "257 layers"},
		{{4, 0, 64, DTYPE_BF16}, "no elements"},
		{{4, UINT32_MAX, 64, DTYPE_BF16}, "4294967295 and 64"},
		{{4, 64, UINT32_MAX, DTYPE_BF16}, "elements per token"},
		{{4, 64, 64, DTYPE_F16}, "f32 and bf16"},
		/* 16 tokens of a layer are more than a page. */
		{{4, 1024, 1025, DTYPE_BF16}, "do not fit"},
		/* 33 layers of a page each. */
		{{33, 1024, 1024, DTYPE_BF16}, "do not fit 32 pages"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct kv_layout layout = {.block_tokens = 77};
		struct error err = {0};

		CU_ASSERT_EQUAL(
			kv_layout_choose(&bad[i].shape, PAGE, &layout, &err),
			-EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].text));
		CU_ASSERT_EQUAL(layout.block_tokens, 77);
	}
}

static void test_kv_layout_blocks__rounds_up(void)
{
	struct kv_layout l = choose(27, 576, 0, DTYPE_BF16, LARGE_PAGE);

	CU_ASSERT_EQUAL(kv_layout_blocks(&l, 0), 0);
	CU_ASSERT_EQUAL(kv_layout_blocks(&l, 1), 1);
	CU_ASSERT_EQUAL(kv_layout_blocks(&l, 67), 1);
	CU_ASSERT_EQUAL(kv_layout_blocks(&l, 68), 2);
	CU_ASSERT_EQUAL(kv_layout_blocks(&l, 163840), 2446);
}

/* --- blocks ------------------------------------------------------------------- */

/* Blocks of two pages; a pool of nine. */
struct fixture {
	struct vmm host, vmm;
	struct page_pool *pool;
	struct kv_layout layout;
	struct kv_store *store;
};

static void open_fixture(struct fixture *f, uint32_t block_count_max)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	const struct page_pool_config pages = {
		.page_size_bytes = PAGE, .movable_page_count = 9};

	*f = (struct fixture){0};
	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&f->host, &config, NULL), 0);
	fake_vmm_init(&f->vmm, PAGE, &f->host);
	CU_ASSERT_EQUAL_FATAL(
		page_pool_create(&f->vmm, &pages, &f->pool, NULL), 0);
	f->layout = choose(2, 1024, 1024, DTYPE_BF16, PAGE);
	CU_ASSERT_EQUAL(f->layout.pages_per_block, 2);
	CU_ASSERT_EQUAL_FATAL(kv_store_create(f->pool, &f->layout,
				      block_count_max, &f->store, NULL),
		0);
}

static void close_fixture(struct fixture *f)
{
	kv_store_check(f->store);
	CU_ASSERT_EQUAL(kv_store_used(f->store), 0);
	kv_store_destroy(f->store);
	page_pool_check(f->pool);
	page_pool_destroy(f->pool, false);
	CU_ASSERT(fake_vmm_check_empty(&f->vmm));
	fake_vmm_destroy(&f->vmm);
	vmm_host_destroy(&f->host);
}

static uint64_t *words(struct fixture *f, uint32_t page)
{
	return f->vmm.ops->host_pointer(
		&f->vmm, page_pool_address(f->pool, page));
}

static void test_kv_block_take__pages_are_owned_and_zero(void)
{
	struct fixture f;
	uint32_t block, pages[2], id;

	open_fixture(&f, 8);
	CU_ASSERT_EQUAL(
		kv_store_layout(f.store)->block_tokens, f.layout.block_tokens);
	for (int round = 0; round < 3; round++) {
		CU_ASSERT_EQUAL(kv_block_take(f.store, &block, pages), 0);
		CU_ASSERT_EQUAL(kv_block_references(f.store, block), 1);
		CU_ASSERT_EQUAL(kv_store_used(f.store), 1);
		CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_KV), 2);
		for (int i = 0; i < 2; i++) {
			CU_ASSERT_EQUAL(page_pool_owner(f.pool, pages[i], &id),
				PAGE_KV);
			CU_ASSERT_EQUAL(id, block);
			CU_ASSERT_EQUAL(
				kv_block_pages(f.store, block)[i], pages[i]);
			for (size_t k = 0; k < PAGE / 8; k++)
				CU_ASSERT_EQUAL_FATAL(
					words(&f, pages[i])[k], 0);
			memset(words(&f, pages[i]), 0xee, PAGE);
		}
		kv_store_check(f.store);
		kv_block_put(f.store, block);
	}
	close_fixture(&f);
	kv_store_destroy(NULL);
}

/* Nothing is cleared before it is asked for, then all of it. */
static void test_kv_block_take_dirty__zero_once_cleared(void)
{
	struct fixture f;
	uint32_t block, pages[2];
	bool dirty = false;

	open_fixture(&f, 8);
	for (int round = 0; round < 8; round++) {
		CU_ASSERT_EQUAL(kv_block_take_dirty(f.store, &block, pages), 0);
		dirty = dirty || *words(&f, pages[0]) != 0;
		CU_ASSERT_EQUAL(kv_block_clear(f.store, block), 0);
		for (int i = 0; i < 2; i++) {
			for (size_t k = 0; k < PAGE / 8; k++)
				CU_ASSERT_EQUAL_FATAL(
					words(&f, pages[i])[k], 0);
			memset(words(&f, pages[i]), 0xee, PAGE);
		}
		kv_block_put(f.store, block);
	}
	CU_ASSERT_TRUE(dirty);
	close_fixture(&f);
}

static void test_kv_block_put__last_reference_gives_back(void)
{
	struct fixture f;
	uint32_t block, pages[2];

	open_fixture(&f, 8);
	CU_ASSERT_EQUAL(kv_block_take(f.store, &block, pages), 0);
	kv_block_get(f.store, block);
	kv_block_get(f.store, block);
	CU_ASSERT_EQUAL(kv_block_references(f.store, block), 3);
	kv_block_put(f.store, block);
	kv_block_put(f.store, block);
	CU_ASSERT_EQUAL(kv_store_used(f.store), 1);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), 7);
	kv_block_put(f.store, block);
	CU_ASSERT_EQUAL(kv_block_references(f.store, block), 0);
	CU_ASSERT_EQUAL(kv_store_used(f.store), 0);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), 9);
	close_fixture(&f);
}

static void test_kv_block_take__short_of_pages_or_numbers(void)
{
	struct fixture f;
	uint32_t blocks[5], pages[2];

	open_fixture(&f, 8);
	for (int i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(kv_block_take(f.store, &blocks[i], pages), 0);
	/* One page is left, a block needs two. */
	CU_ASSERT_EQUAL(kv_block_take(f.store, &blocks[4], pages), -ENOMEM);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), 1);
	CU_ASSERT_EQUAL(kv_store_used(f.store), 4);
	kv_store_check(f.store);
	for (int i = 0; i < 4; i++)
		kv_block_put(f.store, blocks[i]);
	close_fixture(&f);

	open_fixture(&f, 2);
	for (int i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(kv_block_take(f.store, &blocks[i], pages), 0);
	CU_ASSERT_EQUAL(kv_block_take(f.store, &blocks[2], pages), -ENOMEM);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_KV), 4);
	for (int i = 0; i < 2; i++)
		kv_block_put(f.store, blocks[i]);
	close_fixture(&f);
}

static void test_kv_block_take__failed_clear_takes_nothing(void)
{
	struct fixture f;
	uint32_t block = 99, pages[2];

	open_fixture(&f, 8);
	fake_vmm_fail(&f.vmm, FAKE_CLEAR, 1);
	CU_ASSERT_EQUAL(kv_block_take(f.store, &block, pages), -EIO);
	CU_ASSERT_EQUAL(block, 99);
	CU_ASSERT_EQUAL(kv_store_used(f.store), 0);
	CU_ASSERT_EQUAL(page_pool_count(f.pool, PAGE_FREE), 9);
	kv_store_check(f.store);
	CU_ASSERT_EQUAL(kv_block_take(f.store, &block, pages), 0);
	CU_ASSERT_EQUAL(block, 0);
	kv_block_put(f.store, block);
	close_fixture(&f);
}

static void test_kv_store_create__every_allocation_may_fail(void)
{
	struct kv_store *store = NULL;
	struct fixture f;
	uint64_t n = 0;
	int rc;

	open_fixture(&f, 8);
	do {
		struct error err = {0};
		struct fake_os_balance before = fake_os_live();

		fake_os_fail(FAKE_OS_ANY, ++n, ENOMEM);
		rc = kv_store_create(f.pool, &f.layout, 1000, &store, &err);
		if (rc == 0)
			break;
		CU_ASSERT_EQUAL(rc, -ENOMEM);
		CU_ASSERT_EQUAL(strncmp(err.text, "KV: ", 4), 0);
		CU_ASSERT_EQUAL(fake_os_live().allocations, before.allocations);
	} while (n < 100);
	CU_ASSERT_EQUAL(n, 4 + 1);
	fake_os_disarm();
	kv_store_destroy(store);
	close_fixture(&f);
}

static void test_kv_store_create__block_counts(void)
{
	struct kv_store *store = NULL;
	struct fixture f;

	open_fixture(&f, 8);
	CU_ASSERT_EQUAL(
		kv_store_create(f.pool, &f.layout, 0, &store, NULL), -EINVAL);
	CU_ASSERT_EQUAL(
		kv_store_create(f.pool, &f.layout, KV_BLOCK_NONE, &store, NULL),
		-EINVAL);
	close_fixture(&f);
}

static void put_free_block(void *argument)
{
	kv_block_put(argument, 3);
}

static void get_free_block(void *argument)
{
	kv_block_get(argument, 3);
}

static void pages_of_free_block(void *argument)
{
	(void)kv_block_pages(argument, 3);
}

static void get_unknown_block(void *argument)
{
	kv_block_get(argument, 8);
}

static void test_kv_block__mistakes_abort(void)
{
	struct fixture f;

	open_fixture(&f, 8);
	CU_ASSERT(aborts(put_free_block, f.store));
	CU_ASSERT(aborts(get_free_block, f.store));
	CU_ASSERT(aborts(pages_of_free_block, f.store));
	CU_ASSERT(aborts(get_unknown_block, f.store));
	close_fixture(&f);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(kv_layout_choose__published_models),
		SUITE_CASE(kv_layout_choose__deepseek_v2_lite_exactly),
		SUITE_CASE(kv_layout_choose__aligns_where_there_is_room),
		SUITE_CASE(kv_layout_choose__little_waste),
		SUITE_CASE(kv_layout_choose__bad_shapes_are_refused),
		SUITE_CASE(kv_layout_blocks__rounds_up),
		SUITE_CASE(kv_block_take__pages_are_owned_and_zero),
		SUITE_CASE(kv_block_take_dirty__zero_once_cleared),
		SUITE_CASE(kv_block_put__last_reference_gives_back),
		SUITE_CASE(kv_block_take__short_of_pages_or_numbers),
		SUITE_CASE(kv_block_take__failed_clear_takes_nothing),
		SUITE_CASE(kv_store_create__every_allocation_may_fail),
		SUITE_CASE(kv_store_create__block_counts),
		SUITE_CASE(kv_block__mistakes_abort),
	};

	return SUITE_MAIN("kv", cases);
}
