/* memmgr_model.h - DeepSeek-V2-Lite's bytes, on the real policy code */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     how much memory adapters waste, and how many tokens of KV are left,
 *          is decided by page_pool, expert_store and kv_layout; here they run
 *          at the true shape over a back end without bytes, so that 80 GB
 *          cost only their books.
 * Source:  config.json of deepseek-ai/DeepSeek-V2-Lite and ESFT-vanilla-lite;
 *          experts per layer of the four published adapters: esft_counts.h.
 * Ownership: a run owns its back end, pool and store.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_MEMMGR_MODEL_H
#define HEDDLE_BENCH_MEMMGR_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "memmgr/experts.h"
#include "memmgr/kv.h"

#define MEMMGR_PAGE_BYTES ((size_t)2 << 20)
#define MEMMGR_LAYERS 26u /* with routed experts, of 27 */
#define MEMMGR_EXPERTS 64u
#define MEMMGR_SLOT_BYTES UINT64_C(17301504)
#define MEMMGR_TOKEN_BYTES UINT64_C(31104) /* of KV: (512 + 64) * 2 * 27 */

struct memmgr_run {
	struct vmm vmm;
	bool on_host;
	struct page_pool *pool;
	struct expert_store *store;
};

/* Everything but routed experts, in bf16. */
uint64_t memmgr_dense_bytes(void);

/* All of the base, and the pages that it takes. */
uint64_t memmgr_base_bytes(void);
uint64_t memmgr_base_pages(void);

/* What a token keeps in each layer. */
extern const struct kv_shape memmgr_kv_shape;

/* Base in place and `movable_pages` beside it; -ENOMEM, -EINVAL. */
int memmgr_open(
	struct memmgr_run *run, uint32_t movable_pages, struct error *err);

/* The same on the host back end, whose books are an engine's. */
int memmgr_open_host(
	struct memmgr_run *run, uint32_t movable_pages, struct error *err);
void memmgr_close(struct memmgr_run *run); /* a zeroed struct is allowed */

/* Add and publish published adapter `which` (modulo their number). */
int memmgr_add(struct memmgr_run *run, uint32_t which, uint32_t *out_instance,
	struct error *err);

/* Its experts over all layers, and the most of one layer. */
uint32_t memmgr_total(uint32_t which);
uint32_t memmgr_widest(uint32_t which);

/* Tokens of KV that `pages` pages hold. */
uint64_t memmgr_tokens(uint64_t pages);

#endif
