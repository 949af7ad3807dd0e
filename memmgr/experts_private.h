/* experts_private.h - the books behind experts.h (experts*.c only) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   create and destroy (experts_create.c), change (experts.c) and check
 *        (experts_check.c) share these books; nobody else includes this.
 *
 * Layer: a layer's range is [base pages | adapter area]. A run goes into the
 *        first gap of the area that holds it; the area is so large that one
 *        always does (expert_store_area_pages), so the address space never
 *        refuses an adapter, however it is cut up.
 * Memory: everything is allocated at create; adding, publishing and removing
 *        allocate nothing. Lists of pages and slots are chains through arrays
 *        with one entry per page and per slot.
 */
#ifndef HEDDLE_MEMMGR_EXPERTS_PRIVATE_H
#define HEDDLE_MEMMGR_EXPERTS_PRIVATE_H

#include <assert.h>

#include "memmgr/experts.h"
#include "memmgr/number_set.h"
#include "memmgr/range.h"

#define SLOT_OFFSET_NONE UINT64_MAX /* no kernel survives reading it */

enum instance_state {
	INSTANCE_FREE,
	INSTANCE_HIDDEN, /* mapped, being written */
	INSTANCE_PUBLISHED,
	INSTANCE_LEAVING /* its row is gone, some of its pages are unmapped */
};

struct instance {
	enum instance_state state;
	uint32_t slot_count; /* over all layers */
	uint32_t page_count;
	uint32_t first_page; /* of the chain next_page, in order of bytes */
};

/* What one instance has in one layer. */
struct holding {
	struct range_run run;
	uint64_t head_bytes; /* of its first page: the layer before has them */
	uint32_t slot_count;
	uint32_t first_slot; /* of the chain next_slot, ascending experts */
};

struct layer {
	struct range range;
	struct range_run base_run;
	struct number_set free_slots;
	uint32_t *order; /* owned; instances by ascending run offset */
	uint32_t run_count;
	uint32_t area_first_page; /* of the adapter area in the range */
	uint32_t page_count; /* of the range */
};

struct expert_store {
	/* Set at create. */
	struct page_pool *pool; /* borrowed */
	struct expert_shape shape;
	uint32_t instance_count_max;
	uint32_t slot_stride; /* slots per layer, base and adapters */

	/* What kernels read; owned. */
	uint16_t *map; /* [instance][layer][expert] */
	uint64_t *slot_offset; /* [layer][slot] */
	vmm_addr *tensor; /* [layer] */
	uint8_t *published; /* [instance] */
	uint64_t epoch;

	/* The rank's thread changes these; owned. */
	struct layer *layers; /* [layer] */
	struct instance *instances; /* [instance], 0 = base */
	struct holding *holdings; /* [instance][layer] */
	uint16_t *slot_expert; /* [layer][slot], adapter slots only */
	uint16_t *next_slot; /* [layer][slot] */
	uint32_t *next_page; /* [page of the pool] */
	uint32_t *scratch; /* pages of one instance */
};

static inline struct holding *holding_of(
	const struct expert_store *store, uint32_t instance, uint32_t layer)
{
	assert(instance < store->instance_count_max);
	assert(layer < store->shape.layer_count);
	return &store->holdings[(size_t)instance * store->shape.layer_count +
				layer];
}

static inline uint16_t *map_row(
	const struct expert_store *store, uint32_t instance, uint32_t layer)
{
	return store->map +
	       ((size_t)instance * store->shape.layer_count + layer) *
		       store->shape.base_count;
}

static inline uint64_t *offsets_of(
	const struct expert_store *store, uint32_t layer)
{
	return store->slot_offset + (size_t)layer * store->slot_stride;
}

static inline size_t slot_index(
	const struct expert_store *store, uint32_t layer, uint32_t slot)
{
	assert(slot < store->slot_stride);
	return (size_t)layer * store->slot_stride + slot;
}

static inline void set_identity(struct expert_store *store, uint32_t instance)
{
	for (uint32_t l = 0; l < store->shape.layer_count; l++) {
		uint16_t *row = map_row(store, instance, l);

		for (uint32_t e = 0; e < store->shape.base_count; e++)
			row[e] = (uint16_t)e;
	}
}

/* What was written to map and offsets is seen by who reads the new epoch. */
static inline void next_epoch(struct expert_store *store)
{
	__atomic_store_n(&store->epoch, store->epoch + 1, __ATOMIC_RELEASE);
}

/*
 * After a fence: unmap at most so many pages of an instance. True: it is gone,
 * with all that it had (experts.c).
 */
bool expert_store_drop(
	struct expert_store *store, uint32_t instance, uint32_t page_count_max);

#endif
