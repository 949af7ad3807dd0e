/* test_memmgr.c - experts and KV on one pool, against a naive model */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model is an array of owners, one per page, and for each instance a
 * table of the experts it has. It knows nothing of bitmaps, chains, gaps or
 * mappings; it only says which pages must be whose, and which row must name
 * what. Calls fail at random; then nothing may have changed. Steps begin at
 * random; then the fake stops at every unmap without a fence.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "memmgr/experts.h"
#include "memmgr/kv.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)
#define LAYERS 3u
#define EXPERTS 8u
#define SLOT_BYTES ((size_t)73728) /* 1.125 pages */
#define EXTENT_PAGES (LAYERS * 9u)
#define MOVABLE_PAGES 60u
#define ALL_PAGES (EXTENT_PAGES + MOVABLE_PAGES)
#define INSTANCES 6u
#define ADAPTER_SLOTS 20u
#define BLOCKS 16u
#define BLOCK_PAGES 2u

struct model_instance {
	bool used, published;
	bool has[LAYERS][EXPERTS];
	uint32_t count[LAYERS];
	uint64_t serial; /* of the bytes in its slots */
};

struct model {
	enum page_owner owner[ALL_PAGES];
	uint32_t id[ALL_PAGES];
	struct model_instance instances[INSTANCES];
	uint32_t references[BLOCKS];
	uint32_t first_page[BLOCKS];
	uint64_t block_serial[BLOCKS];
};

struct run {
	struct vmm host, vmm;
	bool memory;
	struct page_pool *pool;
	struct expert_store *experts;
	struct expert_view view;
	struct kv_store *kv;
	struct model model;
	uint64_t seed;
	uint64_t serial;
	uint32_t done[8], refused[8], failed[8]; /* operations by kind */
};

enum operation {
	OP_ADD,
	OP_PUBLISH,
	OP_REMOVE,
	OP_TAKE,
	OP_GET,
	OP_PUT,
	OP_COUNT
};

static void open_run(struct run *r, bool memory)
{
	const struct vmm_host_config host = {.granularity_bytes = PAGE};
	const uint32_t extents[LAYERS] = {9, 9, 9};
	const struct page_pool_config pages = {
		.page_size_bytes = PAGE,
		.movable_page_count = MOVABLE_PAGES,
		.extent_page_counts = extents,
		.extent_count = LAYERS,
		.extent_handle_bytes = 4 * PAGE,
	};
	struct expert_store_config config = {
		.shape = {.layer_count = LAYERS,
			.base_count = EXPERTS,
			.hidden = 96,
			.inter = 128,
			.format = {.type = DTYPE_BF16}},
		.instance_count_max = INSTANCES,
		.adapter_slot_count_max = ADAPTER_SLOTS,
	};
	const struct kv_shape kv = {2, 1024, 1024, DTYPE_BF16};
	struct kv_layout layout;

	r->memory = memory;
	if (memory)
		CU_ASSERT_EQUAL_FATAL(vmm_host_init(&r->host, &host, NULL), 0);
	fake_vmm_init(&r->vmm, PAGE, memory ? &r->host : NULL);
	CU_ASSERT_EQUAL_FATAL(
		page_pool_create(&r->vmm, &pages, &r->pool, NULL), 0);
	CU_ASSERT_EQUAL(expert_shape_finish(&config.shape, NULL), 0);
	CU_ASSERT_EQUAL(config.shape.slot_size_bytes, SLOT_BYTES);
	CU_ASSERT_EQUAL_FATAL(
		expert_store_create(r->pool, &config, &r->experts, NULL), 0);
	expert_store_view(r->experts, &r->view);
	expert_store_publish_base(r->experts);
	CU_ASSERT_EQUAL(kv_layout_choose(&kv, PAGE, &layout, NULL), 0);
	CU_ASSERT_EQUAL(layout.pages_per_block, BLOCK_PAGES);
	CU_ASSERT_EQUAL_FATAL(
		kv_store_create(r->pool, &layout, BLOCKS, &r->kv, NULL), 0);
	for (uint32_t i = 0; i < EXTENT_PAGES; i++) {
		r->model.owner[i] = PAGE_BASE;
		r->model.id[i] = i / 9;
	}
}

static void close_run(struct run *r)
{
	for (uint32_t b = 0; b < BLOCKS; b++)
		while (kv_block_references(r->kv, b) > 0)
			kv_block_put(r->kv, b);
	kv_store_destroy(r->kv);
	expert_store_destroy(r->experts);
	page_pool_check(r->pool);
	page_pool_destroy(r->pool, false);
	CU_ASSERT(fake_vmm_check_empty(&r->vmm));
	fake_vmm_destroy(&r->vmm);
	vmm_host_destroy(&r->host);
}

/* --- the model ----------------------------------------------------------------- */

static uint32_t model_free(const struct model *m)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ALL_PAGES; i++)
		count += m->owner[i] == PAGE_FREE;
	return count;
}

static uint32_t model_take(
	struct model *m, enum page_owner owner, uint32_t id, uint32_t count)
{
	uint32_t first = PAGE_NONE;

	for (uint32_t i = 0; i < ALL_PAGES && count > 0; i++) {
		if (m->owner[i] != PAGE_FREE)
			continue;
		m->owner[i] = owner;
		m->id[i] = id;
		if (first == PAGE_NONE)
			first = i;
		count--;
	}
	return first;
}

static void model_give(struct model *m, enum page_owner owner, uint32_t id)
{
	for (uint32_t i = 0; i < ALL_PAGES; i++) {
		if (m->owner[i] != owner || m->id[i] != id)
			continue;
		m->owner[i] = PAGE_FREE;
		m->id[i] = 0;
	}
}

static uint32_t model_slots(const struct model *m, uint32_t layer)
{
	uint32_t count = 0;

	for (uint32_t i = 1; i < INSTANCES; i++)
		count += m->instances[i].count[layer];
	return count;
}

/* --- bytes: what was written to a slot or block is found there ------------------ */

static uint64_t *words(struct run *r, vmm_addr at)
{
	return r->vmm.ops->host_pointer(&r->vmm, at);
}

static vmm_addr slot_address(
	const struct run *r, uint32_t instance, uint32_t layer, uint32_t expert)
{
	uint32_t slot = r->view.map[instance * r->view.instance_stride +
				    layer * r->view.layer_stride + expert];

	return r->view.tensor[layer] +
	       r->view.slot_offset[layer * r->view.slot_stride + slot];
}

static uint64_t mark(uint64_t serial, uint32_t layer, uint32_t expert)
{
	return serial << 16 | (uint64_t)layer << 8 | expert;
}

static void write_slots(struct run *r, uint32_t instance)
{
	struct model_instance *it = &r->model.instances[instance];

	it->serial = ++r->serial;
	for (uint32_t l = 0; r->memory && l < LAYERS; l++)
		for (uint32_t e = 0; e < EXPERTS; e++) {
			uint64_t *to;

			if (!it->has[l][e])
				continue;
			to = words(r, expert_store_instance_slot(
					      r->experts, instance, l, e));
			to[0] = mark(it->serial, l, e);
			to[SLOT_BYTES / 8 - 1] = mark(it->serial, l, e);
		}
}

static void check_bytes(struct run *r)
{
	const struct model *m = &r->model;

	for (uint32_t i = 1; i < INSTANCES; i++)
		for (uint32_t l = 0; l < LAYERS; l++)
			for (uint32_t e = 0; e < EXPERTS; e++) {
				const struct model_instance *it =
					&m->instances[i];
				const uint64_t *at;

				if (!it->published || !it->has[l][e])
					continue;
				at = words(r, slot_address(r, i, l, e));
				CU_ASSERT_EQUAL(at[0], mark(it->serial, l, e));
				CU_ASSERT_EQUAL(at[SLOT_BYTES / 8 - 1],
					mark(it->serial, l, e));
			}
	for (uint32_t b = 0; b < BLOCKS; b++)
		if (m->references[b] > 0)
			CU_ASSERT_EQUAL(*words(r, page_pool_address(r->pool,
							  m->first_page[b])),
				m->block_serial[b]);
}

/* --- books: the real ones against the model --------------------------------------- */

static void check_pages(struct run *r)
{
	for (uint32_t i = 0; i < ALL_PAGES; i++) {
		uint32_t id;

		CU_ASSERT_EQUAL_FATAL(
			page_pool_owner(r->pool, i, &id), r->model.owner[i]);
		CU_ASSERT_EQUAL_FATAL(id, r->model.id[i]);
	}
	CU_ASSERT_EQUAL(
		page_pool_count(r->pool, PAGE_FREE), model_free(&r->model));
}

static void check_map(struct run *r)
{
	for (uint32_t i = 0; i < INSTANCES; i++) {
		const struct model_instance *it = &r->model.instances[i];

		for (uint32_t l = 0; l < LAYERS; l++)
			for (uint32_t e = 0; e < EXPERTS; e++) {
				const uint16_t slot =
					r->view.map[i * r->view.instance_stride +
						    l * r->view.layer_stride +
						    e];
				bool own = it->published && it->has[l][e];

				CU_ASSERT_EQUAL_FATAL(slot >= EXPERTS, own);
				CU_ASSERT(own || slot == e);
				CU_ASSERT(slot < EXPERTS + ADAPTER_SLOTS);
			}
	}
}

/* No two slots that a row may name share a byte. */
static void check_disjoint(struct run *r)
{
	for (uint32_t l = 0; l < LAYERS; l++) {
		vmm_addr at[INSTANCES * EXPERTS] = {0};
		uint32_t count = 0;

		for (uint32_t i = 0; i < INSTANCES; i++)
			for (uint32_t e = 0; e < EXPERTS; e++)
				if (i == 0 ||
					(r->model.instances[i].published &&
						r->model.instances[i]
							.has[l][e]))
					at[count++] = slot_address(r, i, l, e);
		for (uint32_t i = 0; i < count; i++)
			for (uint32_t k = 0; k < i; k++)
				CU_ASSERT(at[i] >= at[k] + SLOT_BYTES ||
					  at[k] >= at[i] + SLOT_BYTES);
	}
}

static void check_all(struct run *r)
{
	expert_store_check(r->experts);
	kv_store_check(r->kv);
	page_pool_check(r->pool);
	check_disjoint(r);
	if (r->memory)
		check_bytes(r);
}

/* --- operations ------------------------------------------------------------------- */

static void count(struct run *r, enum operation op, int rc)
{
	if (rc == 0)
		r->done[op]++;
	else if (fake_vmm_has_failed(&r->vmm))
		r->failed[op]++;
	else
		r->refused[op]++;
}

/* A random list per layer; one in 50 names an expert twice. */
static bool make_lists(struct run *r, struct model_instance *it,
	uint16_t lists[LAYERS][EXPERTS], uint32_t *counts)
{
	bool valid = true;

	for (uint32_t l = 0; l < LAYERS; l++) {
		uint32_t most = suite_below(&r->seed, 5) == 0 ? EXPERTS : 4;

		counts[l] = suite_below(&r->seed, most + 1);
		for (uint32_t i = 0; i < counts[l]; i++) {
			uint32_t e = suite_below(&r->seed, EXPERTS);

			while (it->has[l][e])
				e = (e + 1) % EXPERTS;
			it->has[l][e] = true;
			lists[l][i] = (uint16_t)e;
		}
		it->count[l] = counts[l];
		if (counts[l] > 1 && suite_below(&r->seed, 50) == 0) {
			lists[l][counts[l] - 1] = lists[l][0];
			valid = false;
		}
	}
	return valid;
}

static void do_add(struct run *r)
{
	struct model *m = &r->model;
	struct model_instance it = {.used = true};
	uint16_t lists[LAYERS][EXPERTS];
	const uint16_t *ids[LAYERS] = {lists[0], lists[1], lists[2]};
	uint32_t counts[LAYERS], instance = INSTANCE_NONE, row = 1;
	uint32_t slots = 0, pages;
	bool possible = make_lists(r, &it, lists, counts);
	int rc;

	while (row < INSTANCES && m->instances[row].used)
		row++;
	for (uint32_t l = 0; l < LAYERS; l++) {
		slots += counts[l];
		possible = possible &&
			   counts[l] + model_slots(m, l) <= ADAPTER_SLOTS;
	}
	pages = (uint32_t)((slots * SLOT_BYTES + PAGE - 1) / PAGE);
	possible = possible && row < INSTANCES && pages <= model_free(m);
	rc = expert_store_add(r->experts, counts, ids, &instance, NULL);
	count(r, OP_ADD, rc);
	CU_ASSERT_EQUAL_FATAL(
		rc == 0, possible && !fake_vmm_has_failed(&r->vmm));
	if (rc != 0)
		return;
	CU_ASSERT_EQUAL_FATAL(instance, row);
	m->instances[row] = it;
	model_take(m, PAGE_EXPERTS, row, pages);
}

static void do_publish(struct run *r, uint32_t instance)
{
	struct model_instance *it = &r->model.instances[instance];

	if (!it->used || it->published)
		return;
	write_slots(r, instance);
	expert_store_publish(r->experts, instance);
	it->published = true;
	count(r, OP_PUBLISH, 0);
}

static void do_remove(struct run *r, uint32_t instance)
{
	int rc;

	if (!r->model.instances[instance].used)
		return;
	rc = expert_store_remove(r->experts, instance);
	count(r, OP_REMOVE, rc);
	CU_ASSERT_EQUAL_FATAL(rc, fake_vmm_has_failed(&r->vmm) ? -EIO : 0);
	if (rc != 0)
		return;
	model_give(&r->model, PAGE_EXPERTS, instance);
	r->model.instances[instance] = (struct model_instance){0};
}

static void do_take(struct run *r)
{
	struct model *m = &r->model;
	uint32_t number = 0, block, pages[BLOCK_PAGES];
	bool possible = model_free(m) >= BLOCK_PAGES;
	int rc = kv_block_take(r->kv, &block, pages);

	count(r, OP_TAKE, rc);
	while (number < BLOCKS && m->references[number] > 0)
		number++;
	possible = possible && number < BLOCKS;
	CU_ASSERT_EQUAL_FATAL(
		rc == 0, possible && !fake_vmm_has_failed(&r->vmm));
	if (rc != 0)
		return;
	CU_ASSERT_EQUAL_FATAL(block, number);
	m->references[block] = 1;
	m->first_page[block] = model_take(m, PAGE_KV, block, BLOCK_PAGES);
	CU_ASSERT_EQUAL(pages[0], m->first_page[block]);
	if (!r->memory)
		return;
	for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
		uint64_t *at = words(r, page_pool_address(r->pool, pages[i]));

		for (size_t k = 0; k < PAGE / 8; k += 64)
			CU_ASSERT_EQUAL_FATAL(at[k], 0);
		memset(at, 0xdb, PAGE);
	}
	m->block_serial[block] = ++r->serial;
	*words(r, page_pool_address(r->pool, pages[0])) = r->serial;
}

static void do_get_or_put(struct run *r, enum operation op)
{
	uint32_t block = suite_below(&r->seed, BLOCKS);
	uint32_t *references = &r->model.references[block];

	if (*references == 0)
		return;
	count(r, op, 0);
	if (op == OP_GET && *references < 4) {
		kv_block_get(r->kv, block);
		++*references;
		return;
	}
	kv_block_put(r->kv, block);
	if (--*references == 0)
		model_give(&r->model, PAGE_KV, block);
	CU_ASSERT_EQUAL(kv_block_references(r->kv, block), *references);
}

static void do_one(struct run *r)
{
	uint32_t instance = 1 + suite_below(&r->seed, INSTANCES - 1);

	if (suite_below(&r->seed, 3) == 0)
		fake_vmm_work_begin(&r->vmm);
	/* The first call, or a later one: add makes many, the others one. */
	if (suite_below(&r->seed, 6) == 0)
		fake_vmm_fail(&r->vmm, FAKE_ANY,
			1 + suite_below(&r->seed, 2) *
					suite_below(&r->seed, 20));
	switch (suite_below(&r->seed, OP_COUNT)) {
	case OP_ADD:
		do_add(r);
		break;
	case OP_PUBLISH:
		do_publish(r, instance);
		break;
	case OP_REMOVE:
		do_remove(r, instance);
		break;
	case OP_TAKE:
		do_take(r);
		break;
	case OP_GET:
		do_get_or_put(r, OP_GET);
		break;
	default:
		do_get_or_put(r, OP_PUT);
		break;
	}
	fake_vmm_disarm(&r->vmm);
}

static void run_operations(bool memory, uint32_t operation_count)
{
	static const char *const names[OP_COUNT] = {
		"add", "publish", "remove", "take", "get", "put"};
	struct run *r = calloc(1, sizeof(*r));

	assert(r);
	r->seed = suite_seed(17);
	open_run(r, memory);
	for (uint32_t i = 0; i < operation_count; i++) {
		do_one(r);
		check_pages(r);
		check_map(r);
		if (i % 50 == 0)
			check_all(r);
	}
	check_all(r);
	for (int op = 0; op < OP_COUNT; op++) {
		printf("\n    %-8s %6u done %6u refused %6u failed", names[op],
			r->done[op], r->refused[op], r->failed[op]);
		/* A run in which something never happens shows nothing. */
		CU_ASSERT(r->done[op] > operation_count / 100);
	}
	printf("\n");
	CU_ASSERT(r->refused[OP_ADD] > 0 && r->refused[OP_TAKE] > 0);
	CU_ASSERT(r->failed[OP_ADD] > 0 && r->failed[OP_TAKE] > 0);
	CU_ASSERT(r->failed[OP_REMOVE] > 0);
	close_run(r);
	free(r);
}

static void test_memmgr__books_after_100000_operations(void)
{
	run_operations(false, 100000);
}

static void test_memmgr__bytes_after_5000_operations(void)
{
	run_operations(true, 5000);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(memmgr__books_after_100000_operations),
		SUITE_CASE(memmgr__bytes_after_5000_operations),
	};

	return SUITE_MAIN("memmgr", cases);
}
