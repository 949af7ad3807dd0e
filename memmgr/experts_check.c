/* experts_check.c - what is always true of the expert store */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "memmgr/experts_private.h"

/* In which state the run of a layer that the instance tunes has to be. */
static enum run_state run_state_of(const struct instance *it)
{
	if (it->state == INSTANCE_LEAVING)
		return RUN_RETIRING;
	return it->state == INSTANCE_PUBLISHED ? RUN_VISIBLE : RUN_MAPPED;
}

/* The map, the slots and the run of one instance in one layer. */
static void check_holding(
	const struct expert_store *store, uint32_t instance, uint32_t layer)
{
	const struct instance *it = &store->instances[instance];
	const struct holding *holding = holding_of(store, instance, layer);
	const uint16_t *row = map_row(store, instance, layer);
	uint32_t slot = holding->first_slot;
	uint32_t own = 0;
	uint64_t offset = holding->run.offset_bytes + holding->head_bytes;
	const struct range_run *run = &holding->run;

	assert(holding->head_bytes < page_pool_page_size(store->pool));
	for (uint32_t e = 0; e < store->shape.base_count; e++)
		own += row[e] != e;
	assert(own ==
		(it->state == INSTANCE_PUBLISHED ? holding->slot_count : 0));
	assert(holding->slot_count > 0 || holding->run.state == RUN_ABSENT);
	for (uint32_t i = 0; i < holding->slot_count; i++) {
		size_t at = slot_index(store, layer, slot);
		uint32_t expert = store->slot_expert[at];

		assert(slot >= store->shape.base_count);
		assert(!number_set_has(&store->layers[layer].free_slots, slot));
		assert(expert < store->shape.base_count);
		assert(store->slot_offset[at] == offset);
		assert(row[expert] ==
			(it->state == INSTANCE_PUBLISHED ? slot : expert));
		assert(run->state == run_state_of(it) ||
			(it->state == INSTANCE_LEAVING &&
				run->state == RUN_MAPPED));
		offset += store->shape.slot_size_bytes;
		slot = store->next_slot[at];
	}
	assert(it->state == INSTANCE_LEAVING ||
		offset <= run->offset_bytes +
				  run->page_count *
					  page_pool_page_size(store->pool));
}

static void check_instance(const struct expert_store *store, uint32_t instance)
{
	const struct instance *it = &store->instances[instance];
	uint32_t page = it->first_page;
	bool leaves = it->state == INSTANCE_LEAVING;
	uint32_t slots = 0;
	uint32_t id;

	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		const struct holding *holding = holding_of(store, instance, l);
		size_t size = page_pool_page_size(store->pool);
		uint64_t at = slots * store->shape.slot_size_bytes;

		check_holding(store, instance, l);
		assert(holding->slot_count == 0 || leaves ||
			holding->head_bytes == at % size);
		slots += holding->slot_count;
	}
	assert(leaves ? slots <= it->slot_count : slots == it->slot_count);
	assert(it->page_count == expert_shape_run_pages(&store->shape,
					 page_pool_page_size(store->pool),
					 it->slot_count));
	assert(it->state != INSTANCE_FREE || slots == 0);
	for (uint32_t i = 0; i < it->page_count; i++) {
		assert(page_pool_owner(store->pool, page, &id) == PAGE_EXPERTS);
		assert(id == instance);
		page = store->next_page[page];
	}
}

static void check_layer(const struct expert_store *store, uint32_t index)
{
	const struct layer *layer = &store->layers[index];
	size_t page = page_pool_page_size(store->pool);
	uint64_t end = layer->area_first_page * page;
	uint32_t slots = store->shape.base_count + layer->free_slots.count;
	uint32_t pages = layer->base_run.page_count;

	number_set_check(&layer->free_slots);
	for (uint32_t i = 0; i < layer->run_count; i++) {
		const struct holding *holding =
			holding_of(store, layer->order[i], index);

		assert(holding->run.offset_bytes >= end);
		end = holding->run.offset_bytes +
		      holding->run.page_count * page;
		slots += holding->slot_count;
		pages += holding->run.page_count;
	}
	assert(end <= layer->range.size_bytes);
	assert(slots == store->slot_stride);
	assert(pages == layer->range.mapped_page_count);
	for (uint32_t s = 0; s < store->slot_stride; s++)
		assert((offsets_of(store, index)[s] == SLOT_OFFSET_NONE) ==
			number_set_has(&layer->free_slots, s));
}

void expert_store_check(const struct expert_store *store)
{
	uint32_t pages = 0;

	for (uint32_t i = 0; i < store->instance_count_max; i++) {
		check_instance(store, i);
		pages += store->instances[i].page_count;
	}
	/* One store per pool: every such page is one of ours. */
	assert(pages == page_pool_count(store->pool, PAGE_EXPERTS));
	for (uint32_t l = 0; l < store->shape.layer_count; l++)
		check_layer(store, l);
}
