/* experts.h - where every expert lives: slots, runs, the expert map */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   base and adapter experts have to look like one tensor to a kernel
 *        although adapters come and go and tune a different number of experts
 *        in every layer. Padding to the largest wastes 92 % of an adapter's
 *        memory; here only real experts have pages.
 *
 * Tensor: each MoE layer has one virtual tensor of slots. A slot is one whole
 *        expert, [gate | up | down], slot_size_bytes long:
 *            gate [inter][hidden], up [inter][hidden], down [hidden][inter]
 *        row major in format.type, gate at 0, up at up_offset_bytes, down at
 *        down_offset_bytes. Slots 0 .. base_count-1 are the base's experts.
 *        Each adapter instance owns one run per layer that it tunes; runs are
 *        backed only where an expert is real. The bytes of an instance lie one
 *        behind the other in its pages, layer after layer, so that only its
 *        last page has a tail: a page in which one layer's experts end and the
 *        next one's begin is mapped into the tensors of both, and a run's
 *        first slot begins anywhere in the run's first page.
 *
 * Addressing: slot s of layer l begins at tensor address + slot_offset[l][s].
 *        Kernels use slot_offset and never multiply an id by a stride, so a
 *        run may start anywhere.
 *
 * Map:   map[instance][layer][expert] -> slot, 16 bits. An instance's row is
 *        immutable from publish to retire. Row 0 is the base: the identity.
 *        A row is published whole before any request carries its index, and
 *        retired after the last request that carries it and a fence.
 *
 * Invariants: each entry of a published row is a base slot, or a slot of that
 *        instance's own VISIBLE runs. slot_offset of a slot never changes
 *        while a published row names it.
 * Ownership: the store owns ranges, map and slot_offset; pages are on loan
 *        from the pool as PAGE_EXPERTS with id = instance.
 * Threads: one thread changes the store. Steps in flight read map and
 *        slot_offset; a change touches only entries that no published row
 *        names, and publishes with a release store of the epoch.
 */
#ifndef HEDDLE_MEMMGR_EXPERTS_H
#define HEDDLE_MEMMGR_EXPERTS_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/weight_format.h"
#include "memmgr/pages.h"

#define EXPERT_SLOT_NONE UINT16_MAX
#define INSTANCE_BASE 0u
#define INSTANCE_NONE UINT32_MAX

/* How the weights of a slot are written; more forms are added here. */
struct expert_format {
	enum dtype type;
	enum weight_layout layout; /* WEIGHT_ROWS or WEIGHT_PANELS */
	uint32_t scale_block_rows; /* 0 = no block scales */
	uint32_t scale_block_cols;
};

struct expert_shape {
	uint32_t layer_count; /* MoE layers only, numbered 0.. in order */
	uint32_t base_count; /* routed experts per layer */
	uint32_t hidden;
	uint32_t inter;
	struct expert_format format;
	/* Filled by expert_shape_finish(). */
	uint64_t up_offset_bytes;
	uint64_t down_offset_bytes;
	uint64_t slot_size_bytes;
};

/*
 * Compute the derived fields; -EINVAL for a shape outside base/limits.h or a
 * format that is not supported. Each of the three matrices starts on a
 * multiple of 64 bytes, so a slot's size is a multiple of 64, too.
 */
int expert_shape_finish(struct expert_shape *shape, struct error *err);

/* Pages of `slot_count` slots one after another, from a page's beginning. */
uint64_t expert_shape_run_pages(const struct expert_shape *shape,
	size_t page_size_bytes, uint64_t slot_count);

/* Pages that the base's experts of one layer need; -EOVERFLOW: over 2^32. */
int expert_shape_base_pages(const struct expert_shape *shape,
	size_t page_size_bytes, uint32_t *out);

struct expert_store_config {
	struct expert_shape shape;
	uint32_t first_extent; /* extent of MoE layer l = first_extent + l */
	uint32_t instance_count_max; /* rows of the map, at least 1 (base) */
	uint32_t adapter_slot_count_max; /* slots per layer beyond the base */
};

/*
 * Pages of addresses (not of memory) that a layer's tensor keeps beyond its
 * base for adapters: enough that a gap is found for every run which the two
 * limits above allow, in whatever order instances come and go. The argument
 * stands in expert_shape.c. DeepSeek-V2-Lite in bf16 with 16 rows and 128
 * slots: 17.7 GB of addresses per layer, 0.46 TB in all; with 256 rows and
 * 2,295 slots 8.4 TB.
 */
uint64_t expert_store_area_pages(
	const struct expert_store_config *config, size_t page_size_bytes);

struct expert_store; /* private */

/*
 * Reserve one range per MoE layer, map the base's extents into them and
 * write row 0. The base's bytes are written afterwards by the loader through
 * expert_store_base_slot(); expert_store_publish_base() makes them visible.
 */
int expert_store_create(struct page_pool *pool,
	const struct expert_store_config *config, struct expert_store **out,
	struct error *err);

/*
 * Removes all instances and the base, after one fence. If the fence fails,
 * the mappings are left to the end of the process and the pages stay on loan
 * (so the pool is to be destroyed with abandon). NULL is allowed.
 */
void expert_store_destroy(struct expert_store *store);

void expert_store_publish_base(struct expert_store *store);

const struct expert_shape *expert_store_shape(const struct expert_store *store);

/* Address of base expert `expert` of MoE layer `layer`. */
vmm_addr expert_store_base_slot(
	const struct expert_store *store, uint32_t layer, uint32_t expert);

/*
 * Add an instance with counts[layer] experts of its own: `ids[layer]` lists
 * their logical ids (each < base_count, no duplicates, any order; slots are in
 * ascending order of ids); a count, or all of them, may be 0. Takes the pages,
 * finds a place in each layer's tensor, maps every run: all or nothing. The
 * last page's tail is cleared. The instance is not visible yet: write each slot
 * (see expert_store_instance_slot), then publish. *out is its row, 1 or more.
 * -ENOMEM pages or slots are short, or the system refused a mapping; -ENFILE
 * no free row; -EINVAL a bad list; -EIO clearing failed.
 */
int expert_store_add(struct expert_store *store, const uint32_t *counts,
	const uint16_t *const *ids, uint32_t *out, struct error *err);

/* Address of the slot in which the instance keeps its own `expert`. */
vmm_addr expert_store_instance_slot(const struct expert_store *store,
	uint32_t instance, uint32_t layer, uint32_t expert);

/* Make the row readable; from now on requests may carry it. */
void expert_store_publish(struct expert_store *store, uint32_t instance);

/*
 * Drop an instance (published or not) that no request carries any more:
 * fence, unmap, give the pages back. -EIO: the fence failed, nothing changed.
 */
int expert_store_remove(struct expert_store *store, uint32_t instance);

/*
 * The same a part at a time, for an instance whose pages take longer to unmap
 * than the gap between two steps lasts: at most page_count_max (1 or more)
 * pages a call, each behind a fence of its own. -EAGAIN: some are left, and
 * the next call goes on; nothing can name it any more, and all of its pages
 * stay its own until the call that returns 0. -EIO: the fence failed, this
 * call changed nothing.
 */
int expert_store_remove_some(
	struct expert_store *store, uint32_t instance, uint32_t page_count_max);

/*
 * Grows with every published change of map or slot_offset. Whoever reads it
 * (acquire) also sees what was written before it grew: a back end that keeps
 * a copy of both tables on the device renews it when the number has changed.
 */
uint64_t expert_store_epoch(const struct expert_store *store);

/* What kernels read. Valid until destroy; addresses never change. */
struct expert_view {
	const uint16_t *map; /* [instance][layer][expert] */
	uint32_t instance_stride; /* elements from one instance to the next */
	uint32_t layer_stride; /* elements from one layer to the next */
	const uint64_t *slot_offset; /* [layer][slot], bytes */
	uint32_t slot_stride; /* elements from one layer to the next */
	const vmm_addr *tensor; /* [layer] address of slot 0 */
	uint32_t instance_count; /* rows of the map */
	const uint8_t *published; /* [instance_count] 1 = rows of a step may
				     name it */
};

void expert_store_view(
	const struct expert_store *store, struct expert_view *out);

/* Bytes of pages that hold no expert: tails of runs and extents. */
struct expert_books {
	uint64_t base_used_bytes, base_page_bytes;
	uint64_t adapter_used_bytes, adapter_page_bytes;
	uint32_t instance_count; /* beside the base */
};

void expert_store_books(
	const struct expert_store *store, struct expert_books *out);

/* Assert all invariants, down to the owner of each page. */
void expert_store_check(const struct expert_store *store);

#endif
