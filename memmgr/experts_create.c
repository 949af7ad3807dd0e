/* experts_create.c - life and death of the expert store (pool -> tensors) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/limits.h"
#include "memmgr/experts_private.h"

static int check_config(struct page_pool *pool,
	const struct expert_store_config *config, struct error *err)
{
	const struct expert_shape *shape = &config->shape;
	uint32_t extents = page_pool_extent_count(pool);
	uint32_t pages;

	if (config->instance_count_max == 0 ||
		config->instance_count_max > INSTANCE_COUNT_MAX)
		return error_set(err, EINVAL,
			"experts: %u instances, 1 to %u are possible",
			config->instance_count_max, INSTANCE_COUNT_MAX);
	if (config->adapter_slot_count_max >
		EXPERT_SLOT_COUNT_MAX - shape->base_count)
		return error_set(err, EINVAL,
			"experts: %u adapter slots per layer, at most %u are "
			"possible beside %u base experts",
			config->adapter_slot_count_max,
			EXPERT_SLOT_COUNT_MAX - shape->base_count,
			shape->base_count);
	if (expert_shape_base_pages(shape, page_pool_page_size(pool), &pages) !=
		0)
		return error_set(
			err, EOVERFLOW, "experts: too many pages in one layer");
	if (config->first_extent > extents ||
		shape->layer_count > extents - config->first_extent)
		return error_set(err, EINVAL,
			"experts: %u layers from extent %u on, the pool has %u "
			"extents",
			shape->layer_count, config->first_extent, extents);
	for (uint32_t l = 0; l < shape->layer_count; l++)
		if (page_pool_extent_page_count(
			    pool, config->first_extent + l) != pages)
			return error_set(err, EINVAL,
				"experts: layer %u needs an extent of %u pages",
				l, pages);
	return 0;
}

static int allocate_books(struct expert_store *store, struct error *err)
{
	size_t layers = store->shape.layer_count;
	size_t instances = store->instance_count_max;
	size_t slots = layers * store->slot_stride;
	size_t pages = page_pool_page_count(store->pool);

	store->map = calloc(instances * layers * store->shape.base_count,
		sizeof(*store->map));
	store->slot_offset = calloc(slots, sizeof(*store->slot_offset));
	store->tensor = calloc(layers, sizeof(*store->tensor));
	store->published = calloc(instances, sizeof(*store->published));
	store->layers = calloc(layers, sizeof(*store->layers));
	store->instances = calloc(instances, sizeof(*store->instances));
	store->holdings = calloc(instances * layers, sizeof(*store->holdings));
	store->slot_expert = calloc(slots, sizeof(*store->slot_expert));
	store->next_slot = calloc(slots, sizeof(*store->next_slot));
	store->next_page = calloc(pages, sizeof(*store->next_page));
	store->scratch = calloc(pages, sizeof(*store->scratch));
	if (store->map && store->slot_offset && store->tensor &&
		store->published && store->layers && store->instances &&
		store->holdings && store->slot_expert && store->next_slot &&
		store->next_page && store->scratch)
		return 0;
	return error_set(err, ENOMEM,
		"experts: no memory for the books of %zu layers", layers);
}

static void free_books(struct expert_store *store)
{
	free(store->scratch);
	free(store->next_page);
	free(store->next_slot);
	free(store->slot_expert);
	free(store->holdings);
	free(store->instances);
	free(store->layers);
	free(store->published);
	free(store->tensor);
	free(store->slot_offset);
	free(store->map);
	free(store);
}

static int create_layer(struct expert_store *store, uint32_t index,
	const struct expert_store_config *config, struct error *err)
{
	struct layer *layer = &store->layers[index];
	size_t page = page_pool_page_size(store->pool);
	uint32_t extent = config->first_extent + index;
	uint64_t pages;
	int rc;

	layer->area_first_page =
		page_pool_extent_page_count(store->pool, extent);
	pages = layer->area_first_page + expert_store_area_pages(config, page);
	if (!u32_ok(pages, &layer->page_count))
		return error_set(err, EOVERFLOW,
			"experts: layer %u would need addresses for %llu pages",
			index, (unsigned long long)pages);
	layer->order = calloc(store->instance_count_max, sizeof(*layer->order));
	if (!layer->order ||
		number_set_init(&layer->free_slots, store->slot_stride) != 0)
		return error_set(err, ENOMEM,
			"experts: no memory for the books of layer %u", index);
	for (uint32_t s = store->shape.base_count; s < store->slot_stride; s++)
		number_set_add(&layer->free_slots, s);

	rc = range_init(&layer->range, store->pool, pages * page, err);
	if (rc != 0)
		goto err_prefix;
	rc = range_map_extent(&layer->range, &layer->base_run, 0, extent);
	if (rc != 0) {
		error_set(err, -rc, "cannot map %u pages of base experts",
			layer->area_first_page);
		goto err_prefix;
	}
	store->tensor[index] = layer->range.addr;
	for (uint32_t s = 0; s < store->slot_stride; s++)
		offsets_of(store, index)[s] =
			s < store->shape.base_count
				? s * store->shape.slot_size_bytes
				: SLOT_OFFSET_NONE;
	return 0;

err_prefix:
	error_prefix(err, "experts: layer %u", index);
	return rc;
}

/* Undo create_layer, complete or not; no step reads the layer any more. */
static void destroy_layer(struct layer *layer)
{
	if (layer->base_run.state == RUN_VISIBLE)
		range_retire(&layer->range, &layer->base_run);
	if (layer->base_run.state != RUN_ABSENT)
		range_unmap_fenced(&layer->range, &layer->base_run);
	range_release(&layer->range);
}

static void free_layers(struct expert_store *store)
{
	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		free(store->layers[l].order);
		number_set_release(&store->layers[l].free_slots);
	}
}

int expert_store_create(struct page_pool *pool,
	const struct expert_store_config *config, struct expert_store **out,
	struct error *err)
{
	struct expert_store *store;
	int rc = check_config(pool, config, err);

	if (rc != 0)
		return rc;
	assert(config->shape.slot_size_bytes > 0); /* finished */
	store = calloc(1, sizeof(*store));
	if (!store)
		return error_set(err, ENOMEM, "experts: no memory");
	store->pool = pool;
	store->shape = config->shape;
	store->instance_count_max = config->instance_count_max;
	store->slot_stride =
		config->shape.base_count + config->adapter_slot_count_max;
	rc = allocate_books(store, err);
	if (rc != 0)
		goto err_free_books;
	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		rc = create_layer(store, l, config, err);
		if (rc != 0)
			goto err_destroy_layers;
	}
	for (uint32_t i = 0; i < store->instance_count_max; i++)
		set_identity(store, i);
	store->instances[INSTANCE_BASE].state = INSTANCE_HIDDEN;
	*out = store;
	return 0;

err_destroy_layers:
	for (uint32_t l = 0; l < store->shape.layer_count; l++)
		destroy_layer(&store->layers[l]);
	free_layers(store);
err_free_books:
	free_books(store);
	return rc;
}

void expert_store_destroy(struct expert_store *store)
{
	struct vmm *vmm;

	if (!store)
		return;
	vmm = page_pool_vmm(store->pool);
	if (vmm->ops->fence(vmm) == 0) {
		for (uint32_t i = 1; i < store->instance_count_max; i++)
			if (store->instances[i].state != INSTANCE_FREE)
				expert_store_drop(store, i, UINT32_MAX);
		for (uint32_t l = 0; l < store->shape.layer_count; l++)
			destroy_layer(&store->layers[l]);
	}
	free_layers(store);
	free_books(store);
}

void expert_store_publish_base(struct expert_store *store)
{
	assert(store->instances[INSTANCE_BASE].state == INSTANCE_HIDDEN);
	for (uint32_t l = 0; l < store->shape.layer_count; l++)
		range_publish(
			&store->layers[l].range, &store->layers[l].base_run);
	store->instances[INSTANCE_BASE].state = INSTANCE_PUBLISHED;
	store->published[INSTANCE_BASE] = 1;
	next_epoch(store);
}
