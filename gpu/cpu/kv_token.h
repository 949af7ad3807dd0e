/* kv_token.h - where a token's keys and values lie (position -> address) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the layout of the cache is memmgr/kv.h's; every CPU back end reads
 *          and writes it by this one rule.
 * Threads: pure.
 */
#ifndef HEDDLE_GPU_CPU_KV_TOKEN_H
#define HEDDLE_GPU_CPU_KV_TOKEN_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu/ops.h"

/* Where a sequence keeps `position` of a layer (memmgr/kv.h). */
static inline unsigned char *kv_token(const struct kv_view *kv, uint32_t layer,
	uint32_t sequence, uint32_t position)
{
	size_t entry =
		(size_t)(position / kv->block_tokens) * kv->pages_per_block +
		layer / kv->layers_per_page;
	uint64_t page;

	assert(entry < kv->table_stride);
	page = kv->block_table[(size_t)sequence * kv->table_stride + entry];
	return (unsigned char *)kv->window + page * kv->page_size_bytes +
	       layer % kv->layers_per_page * kv->layer_stride_bytes +
	       position % kv->block_tokens * kv->token_stride_bytes;
}

#endif
