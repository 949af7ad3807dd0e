/* experts.c - where every expert lives: slots, runs, the expert map */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "memmgr/experts_private.h"

#define SEEN_WORDS (MODEL_EXPERT_COUNT_MAX / 64)

/* Take the instance's runs out of the tensors; nobody was told of them. */
static void unmap_runs(struct expert_store *store, uint32_t instance)
{
	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		struct holding *holding = holding_of(store, instance, l);

		if (holding->run.state != RUN_ABSENT)
			range_unmap_fenced(
				&store->layers[l].range, &holding->run);
		holding->head_bytes = 0;
	}
}

static void remove_from_order(struct layer *layer, uint32_t instance)
{
	uint32_t at = 0;

	while (at < layer->run_count && layer->order[at] != instance)
		at++;
	assert(at < layer->run_count);
	layer->run_count--;
	memmove(layer->order + at, layer->order + at + 1,
		(layer->run_count - at) * sizeof(*layer->order));
}

/* The run of a layer is gone: so are its slots, and its place in the order. */
static void drop_slots(
	struct expert_store *store, uint32_t instance, uint32_t layer)
{
	struct holding *holding = holding_of(store, instance, layer);
	uint32_t slot = holding->first_slot;

	assert(holding->run.state == RUN_ABSENT);
	for (uint32_t i = 0; i < holding->slot_count; i++) {
		offsets_of(store, layer)[slot] = SLOT_OFFSET_NONE;
		number_set_add(&store->layers[layer].free_slots, slot);
		slot = store->next_slot[slot_index(store, layer, slot)];
	}
	remove_from_order(&store->layers[layer], instance);
	*holding = (struct holding){0};
}

/* At most `count` pages out of the tensors, layer after layer. */
static void drop_runs(
	struct expert_store *store, uint32_t instance, uint32_t count)
{
	for (uint32_t l = 0; count > 0 && l < store->shape.layer_count; l++) {
		struct range_run *run = &holding_of(store, instance, l)->run;
		uint32_t part =
			run->page_count < count ? run->page_count : count;

		if (run->state == RUN_ABSENT)
			continue;
		range_unmap_last(&store->layers[l].range, run, part);
		if (run->state == RUN_ABSENT)
			drop_slots(store, instance, l);
		count -= part;
	}
}

static void give_pages(struct expert_store *store, uint32_t instance)
{
	const struct instance *it = &store->instances[instance];
	uint32_t page = it->first_page;

	for (uint32_t i = 0; i < it->page_count; i++) {
		store->scratch[i] = page;
		page = store->next_page[page];
	}
	page_pool_give(store->pool, PAGE_EXPERTS, instance, store->scratch,
		it->page_count);
}

/* The row goes first: nothing may name what is unmapped. */
static void begin_leaving(struct expert_store *store, uint32_t instance)
{
	store->published[instance] = 0;
	set_identity(store, instance);
	next_epoch(store);
	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		struct range_run *run = &holding_of(store, instance, l)->run;

		if (run->state == RUN_VISIBLE)
			range_retire(&store->layers[l].range, run);
	}
	store->instances[instance].state = INSTANCE_LEAVING;
}

bool expert_store_drop(
	struct expert_store *store, uint32_t instance, uint32_t page_count_max)
{
	uint32_t left = 0;

	if (store->instances[instance].state != INSTANCE_LEAVING)
		begin_leaving(store, instance);
	drop_runs(store, instance, page_count_max);
	for (uint32_t l = 0; l < store->shape.layer_count; l++)
		left += holding_of(store, instance, l)->run.page_count;
	if (left > 0)
		return false;
	give_pages(store, instance);
	store->instances[instance] = (struct instance){0};
	return true;
}

const struct expert_shape *expert_store_shape(const struct expert_store *store)
{
	return &store->shape;
}

vmm_addr expert_store_base_slot(
	const struct expert_store *store, uint32_t layer, uint32_t expert)
{
	assert(layer < store->shape.layer_count);
	assert(expert < store->shape.base_count);
	return store->tensor[layer] + offsets_of(store, layer)[expert];
}

/* One bit per listed expert. -EINVAL: out of range or listed twice. */
static int read_list(const struct expert_store *store, uint32_t layer,
	uint32_t count, const uint16_t *ids, uint64_t *seen, struct error *err)
{
	memset(seen, 0, SEEN_WORDS * sizeof(*seen));
	if (count > store->shape.base_count)
		return error_set(err, EINVAL,
			"adapter: layer %u lists %u experts, the model has %u",
			layer, count, store->shape.base_count);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t bit = UINT64_C(1) << ids[i] % 64;

		if (ids[i] >= store->shape.base_count)
			return error_set(err, EINVAL,
				"adapter: layer %u lists expert %u, the model "
				"has %u",
				layer, ids[i], store->shape.base_count);
		if (seen[ids[i] / 64] & bit)
			return error_set(err, EINVAL,
				"adapter: layer %u lists expert %u twice",
				layer, ids[i]);
		seen[ids[i] / 64] |= bit;
	}
	return 0;
}

/* Check the lists and the room; nothing is changed. */
static int check_request(const struct expert_store *store,
	const uint32_t *counts, const uint16_t *const *ids, uint32_t *out_pages,
	struct error *err)
{
	uint64_t seen[SEEN_WORDS];
	uint64_t pages, slots = 0;
	uint32_t free_pages = page_pool_count(store->pool, PAGE_FREE);

	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		int rc = read_list(store, l, counts[l], ids[l], seen, err);

		if (rc != 0)
			return rc;
		if (counts[l] > store->layers[l].free_slots.count)
			return error_set(err, ENOMEM,
				"adapter: layer %u needs %u slots, %u are free",
				l, counts[l],
				store->layers[l].free_slots.count);
		slots += counts[l];
	}
	pages = expert_shape_run_pages(
		&store->shape, page_pool_page_size(store->pool), slots);
	if (pages > free_pages)
		return error_set(err, ENOMEM,
			"adapter: %llu pages are needed, %u are free",
			(unsigned long long)pages, free_pages);
	*out_pages = (uint32_t)pages;
	return 0;
}

/* First page of the first gap of the layer's area that holds `pages`. */
static uint32_t first_fit(
	const struct expert_store *store, uint32_t index, uint32_t pages)
{
	const struct layer *layer = &store->layers[index];
	size_t page = page_pool_page_size(store->pool);
	uint32_t at = layer->area_first_page;

	for (uint32_t i = 0; i < layer->run_count; i++) {
		const struct range_run *run =
			&holding_of(store, layer->order[i], index)->run;
		uint32_t next = (uint32_t)(run->offset_bytes / page);

		assert(next >= at);
		if (next - at >= pages)
			return at;
		at = next + run->page_count;
	}
	assert(pages <= layer->page_count - at); /* expert_store_area_pages() */
	return at;
}

/*
 * The last page has a tail that belongs to no expert and that the loader does
 * not write: clear it, it may hold another tenant's bytes.
 */
static int clear_tail(
	struct expert_store *store, const uint32_t *counts, uint32_t page_count)
{
	struct vmm *vmm = page_pool_vmm(store->pool);
	size_t page = page_pool_page_size(store->pool);
	uint64_t tail = page_count * page;

	for (uint32_t l = 0; l < store->shape.layer_count; l++)
		tail -= counts[l] * store->shape.slot_size_bytes;
	assert(tail < page);
	if (tail > 0 && vmm->ops->clear(vmm,
				page_pool_address(store->pool,
					store->scratch[page_count - 1]) +
					page - tail,
				tail) != 0)
		return -EIO;
	return 0;
}

/* The run of a layer, whose bytes begin at `begin` of the instance's. */
static int map_run(struct expert_store *store, uint32_t instance,
	uint32_t layer, uint64_t begin, uint64_t end)
{
	size_t page = page_pool_page_size(store->pool);
	struct holding *holding = holding_of(store, instance, layer);
	uint64_t first = begin / page;
	uint32_t count = (uint32_t)(div_up(end, page) - first);
	int rc = range_map(&store->layers[layer].range, &holding->run,
		first_fit(store, layer, count) * page, store->scratch + first,
		count);

	if (rc == 0)
		holding->head_bytes = begin % page;
	return rc;
}

static int map_runs(
	struct expert_store *store, uint32_t instance, const uint32_t *counts)
{
	uint64_t begin = 0;

	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		uint64_t end = begin + counts[l] * store->shape.slot_size_bytes;
		int rc = counts[l] > 0 ? map_run(store, instance, l, begin, end)
				       : 0;

		if (rc != 0) {
			/* Nobody was told an address: no fence is needed. */
			unmap_runs(store, instance);
			return rc;
		}
		begin = end;
	}
	return 0;
}

static void insert_in_order(
	struct expert_store *store, uint32_t instance, uint32_t index)
{
	struct layer *layer = &store->layers[index];
	uint64_t offset = holding_of(store, instance, index)->run.offset_bytes;
	uint32_t at = layer->run_count;

	for (; at > 0; at--) {
		uint32_t left = layer->order[at - 1];

		if (holding_of(store, left, index)->run.offset_bytes < offset)
			break;
		layer->order[at] = left;
	}
	layer->order[at] = instance;
	layer->run_count++;
}

/* Give a slot to each expert of the list, in ascending order of experts. */
static void take_slots(struct expert_store *store, uint32_t instance,
	uint32_t layer, uint32_t count, const uint16_t *ids)
{
	struct holding *holding = holding_of(store, instance, layer);
	uint64_t seen[SEEN_WORDS];
	uint32_t last = 0;
	int rc = read_list(store, layer, count, ids, seen, NULL);

	assert(rc == 0); /* check_request() has read it before */
	for (uint32_t e = 0; e < store->shape.base_count; e++) {
		uint32_t slot;

		if (!(seen[e / 64] >> e % 64 & 1))
			continue;
		slot = number_set_take(&store->layers[layer].free_slots);
		assert(slot != NUMBER_NONE);
		if (holding->slot_count == 0)
			holding->first_slot = slot;
		else
			store->next_slot[slot_index(store, layer, last)] =
				(uint16_t)slot;
		store->slot_expert[slot_index(store, layer, slot)] =
			(uint16_t)e;
		offsets_of(store, layer)[slot] =
			holding->run.offset_bytes + holding->head_bytes +
			holding->slot_count * store->shape.slot_size_bytes;
		holding->slot_count++;
		last = slot;
	}
	assert(holding->slot_count == count);
}

static void keep_pages(
	struct expert_store *store, uint32_t instance, uint32_t count)
{
	struct instance *it = &store->instances[instance];

	it->page_count = count;
	if (count == 0)
		return;
	it->first_page = store->scratch[0];
	for (uint32_t i = 1; i < count; i++)
		store->next_page[store->scratch[i - 1]] = store->scratch[i];
}

int expert_store_add(struct expert_store *store, const uint32_t *counts,
	const uint16_t *const *ids, uint32_t *out, struct error *err)
{
	uint32_t instance = 1;
	uint32_t pages = 0;
	int rc = check_request(store, counts, ids, &pages, err);

	if (rc != 0)
		return rc;
	while (instance < store->instance_count_max &&
		store->instances[instance].state != INSTANCE_FREE)
		instance++;
	if (instance >= store->instance_count_max)
		return error_set(err, ENFILE,
			"adapter: all %u instances are in use",
			store->instance_count_max - 1);
	rc = page_pool_take(store->pool, PAGE_EXPERTS, instance, pages, false,
		store->scratch);
	assert(rc == 0); /* check_request() has counted */
	rc = clear_tail(store, counts, pages);
	if (rc == 0)
		rc = map_runs(store, instance, counts);
	if (rc != 0) {
		page_pool_give(store->pool, PAGE_EXPERTS, instance,
			store->scratch, pages);
		return error_set(err, -rc,
			"adapter: the system cannot map %u pages", pages);
	}
	keep_pages(store, instance, pages);
	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		if (counts[l] == 0)
			continue;
		take_slots(store, instance, l, counts[l], ids[l]);
		insert_in_order(store, instance, l);
		store->instances[instance].slot_count += counts[l];
	}
	store->instances[instance].state = INSTANCE_HIDDEN;
	*out = instance;
	return 0;
}

vmm_addr expert_store_instance_slot(const struct expert_store *store,
	uint32_t instance, uint32_t layer, uint32_t expert)
{
	const struct holding *holding = holding_of(store, instance, layer);
	uint32_t slot = holding->first_slot;
	uint32_t left = holding->slot_count;

	assert(instance != INSTANCE_BASE);
	for (; left > 0; left--) {
		if (store->slot_expert[slot_index(store, layer, slot)] ==
			expert)
			break;
		slot = store->next_slot[slot_index(store, layer, slot)];
	}
	assert(left > 0); /* the instance has this expert */
	return store->tensor[layer] + offsets_of(store, layer)[slot];
}

void expert_store_publish(struct expert_store *store, uint32_t instance)
{
	assert(instance != INSTANCE_BASE &&
		instance < store->instance_count_max);
	assert(store->instances[INSTANCE_BASE].state == INSTANCE_PUBLISHED);
	assert(store->instances[instance].state == INSTANCE_HIDDEN);
	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		struct holding *holding = holding_of(store, instance, l);
		uint16_t *row = map_row(store, instance, l);
		uint32_t slot = holding->first_slot;

		if (holding->slot_count == 0)
			continue;
		range_publish(&store->layers[l].range, &holding->run);
		for (uint32_t i = 0; i < holding->slot_count; i++) {
			size_t at = slot_index(store, l, slot);

			row[store->slot_expert[at]] = (uint16_t)slot;
			slot = store->next_slot[at];
		}
	}
	store->instances[instance].state = INSTANCE_PUBLISHED;
	store->published[instance] = 1;
	next_epoch(store);
}

int expert_store_remove(struct expert_store *store, uint32_t instance)
{
	return expert_store_remove_some(store, instance, UINT32_MAX);
}

int expert_store_remove_some(
	struct expert_store *store, uint32_t instance, uint32_t page_count_max)
{
	struct vmm *vmm = page_pool_vmm(store->pool);

	assert(page_count_max > 0);
	assert(instance != INSTANCE_BASE &&
		instance < store->instance_count_max);
	assert(store->instances[instance].state != INSTANCE_FREE);
	if (vmm->ops->fence(vmm) != 0)
		return -EIO;
	return expert_store_drop(store, instance, page_count_max) ? 0 : -EAGAIN;
}

uint64_t expert_store_epoch(const struct expert_store *store)
{
	return __atomic_load_n(&store->epoch, __ATOMIC_ACQUIRE);
}

void expert_store_view(
	const struct expert_store *store, struct expert_view *out)
{
	*out = (struct expert_view){
		.map = store->map,
		.instance_stride =
			store->shape.layer_count * store->shape.base_count,
		.layer_stride = store->shape.base_count,
		.slot_offset = store->slot_offset,
		.slot_stride = store->slot_stride,
		.tensor = store->tensor,
		.instance_count = store->instance_count_max,
		.published = store->published,
	};
}

void expert_store_books(
	const struct expert_store *store, struct expert_books *out)
{
	size_t page = page_pool_page_size(store->pool);
	uint64_t slot = store->shape.slot_size_bytes;
	uint64_t layers = store->shape.layer_count;

	*out = (struct expert_books){
		.base_used_bytes = layers * store->shape.base_count * slot,
		.base_page_bytes =
			layers * store->layers[0].area_first_page * page,
	};
	for (uint32_t i = 1; i < store->instance_count_max; i++) {
		const struct instance *it = &store->instances[i];

		if (it->state == INSTANCE_FREE)
			continue;
		out->instance_count++;
		out->adapter_used_bytes += it->slot_count * slot;
		out->adapter_page_bytes += it->page_count * page;
	}
}
