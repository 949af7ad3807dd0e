/* load.h - a model in memory, ready for steps (files -> struct model) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   one call from open files to a model whose base lives in the page
 *        pool, beside the pages that KV and adapters will share.
 * Order: parse, plan (all headers checked before a byte of weights is read),
 *        create every page, reserve every address, fill, publish.
 * Invariants: after success no page is created and no address reserved any
 *        more. All or nothing: on error nothing is left behind.
 * Ownership: the model owns pool, stores and tables; vmm is borrowed until
 *        model_destroy(); files may be closed after the load.
 * Threads: one; afterwards the rank's thread.
 */
#ifndef HEDDLE_ENGINE_LOAD_H
#define HEDDLE_ENGINE_LOAD_H

#include <stdint.h>

#include "base/error.h"
#include "engine/files.h"
#include "engine/model.h"
#include "engine/reader.h"
#include "engine/weights.h"
#include "memmgr/experts.h"
#include "memmgr/kv.h"
#include "memmgr/pages.h"

/*
 * What stands at the head of a memory file that outlives its engine
 * (memmgr/vmm.h): whether the base lies in it, and which. A life that finds its
 * own fingerprint there reads no file.
 */
struct model_keep {
	uint64_t fingerprint; /* of the files, the plan and the layout */
	uint32_t filled; /* 1 = every byte has been written */
};

struct model_options {
	enum weight_layout layout; /* WEIGHT_ROWS or WEIGHT_PANELS: what the
				      back end reads */
	uint32_t thread_count; /* that read and repack, 0 = one per core; at
				  most READER_LANE_COUNT_MAX are used */
	size_t page_size_bytes; /* 0 = by the model's size */
	size_t base_handle_bytes; /* largest handle of base weights, 0 = 64 MiB */
	enum dtype kv_type; /* DTYPE_F32 or DTYPE_BF16 */
	/* That the KV cache may hold; 0 = as many as the pool has pages. */
	uint64_t kv_token_count;
	/* Pages beside the base, for KV and adapters; 0 = what KV takes and
	 * the next three ask for. */
	uint64_t pool_bytes;
	uint32_t adapter_page_count; /* pages beside base and KV */
	uint64_t adapter_expert_count; /* room for so many experts besides, */
	uint32_t adapter_run_count; /* in so many runs (adapter and layer) */
	uint32_t instance_count_max; /* 0 = 1: the base alone */
	uint32_t adapter_slot_count_max; /* slots per layer beyond the base */
	struct model_keep *keep; /* NULL = nothing outlives the model */
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *progress_arg;
};

struct model {
	struct model_config config;
	struct generation_config generation;
	struct model_weights weights;
	struct page_pool *pool;
	struct expert_store *experts;
	struct kv_store *kv;
	struct vmm *vmm; /* borrowed */
	struct reader_info reader;
	bool was_kept; /* the base was there already */
	uint64_t dense_bytes; /* everything but routed experts */
};

/* Page size that suits weights of this many bytes on the host back end. */
size_t model_page_size(uint64_t weight_bytes);

/*
 * Only config.json and generation_config.json, for whoever wants to look at
 * a model without loading it.
 */
int model_read_config(const struct model_files *files,
	struct model_config *config, struct generation_config *generation,
	struct error *err);

/* -EINVAL, -EIO, -ENOMEM, each with file and reason. */
int model_load(struct vmm *vmm, const struct model_files *files,
	const struct model_options *options, struct model **out,
	struct error *err);

/* NULL is allowed. Every KV block and instance must have been returned. */
void model_destroy(struct model *model);

/* The KV cache as the operations see it; the block table is the step's. */
void model_kv_view(const struct model *model, struct kv_view *out);

#endif
