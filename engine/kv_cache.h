/* kv_cache.h - blocks of keys and values that are found again (prefix cache) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   requests that begin alike need not compute the beginning twice. The
 *        bits of a block depend on its tokens and those before, on the adapter
 *        and on the weights, and on nothing else (gpu/ops.h), so a block that
 *        one request computed is the block of another.
 *
 * Key:   a tenant's secret, the epoch, the adapter instance, then the chain of
 *        blocks of tokens. The hash is keyed with the tenant's secret, and what
 *        it finds is compared in full (key, tokens, and the block before), so
 *        that no collision can ever serve other tokens or another tenant's.
 *
 * Life of a block:
 *        taken by a chain -> full and committed: found by others -> held by
 *        no chain: idle, kept for the next -> evicted when blocks are needed.
 *        A chain that commits a block which another has committed meanwhile
 *        takes that one and gives its own back, so a held block's predecessors
 *        are held, too, and an idle one's successors are idle.
 * Phase: idle blocks of generated text go before those of prompts, and in each
 *        phase the one that was not used for the longest time. A chain lets go
 *        from its end, so the block that goes first has no successors.
 *
 * Invariants: every block is with some chain, idle, or free: at the end of all
 *        chains and after kv_cache_clear() the store has none in use.
 * Ownership: the cache owns its books and holds one reference of the store for
 *        each block that it knows; a chain holds one for each of its own. The
 *        store is borrowed until destroy. A chain's arrays are the caller's.
 * Threads: one (the rank's); chains change between steps only.
 */
#ifndef HEDDLE_ENGINE_KV_CACHE_H
#define HEDDLE_ENGINE_KV_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "memmgr/kv.h"

#define KV_TENANT_BYTES 32

struct kv_key {
	uint8_t tenant[KV_TENANT_BYTES]; /* secret, made by the dataplane */
	uint64_t epoch;
	uint32_t instance;
};

/* The blocks of one sequence, in order. */
struct kv_chain {
	struct kv_key key;
	uint32_t *blocks; /* [capacity] borrowed */
	uint32_t *pages; /* [capacity][pages_per_block] borrowed: a block table
			    as steps want it */
	uint32_t capacity;
	uint32_t block_count;
	uint32_t known_count; /* of those, the first ones the cache knows */
	uint64_t hash; /* of the known ones */
};

struct kv_cache_counts {
	uint64_t queried_tokens; /* that were sought */
	uint64_t found_tokens;
	uint64_t evicted_blocks;
};

struct kv_cache; /* private */

/* block_count: as the store was made with. -ENOMEM. */
int kv_cache_create(
	struct kv_store *store, uint32_t block_count, struct kv_cache **out);

/* NULL is allowed. Every chain must have been released. */
void kv_cache_destroy(struct kv_cache *cache);

/* An empty chain whose arrays, [capacity] blocks, are the caller's. */
void kv_chain_init(struct kv_chain *chain, const struct kv_key *key,
	uint32_t *blocks, uint32_t *pages, uint32_t capacity);

/*
 * Give an empty chain the longest run of known blocks that tokens[0, count)
 * begin with, at least one token short of all: the last one must be computed.
 * Of prompt_count tokens it is known that they are a prompt. Returns how many
 * tokens were found.
 */
uint32_t kv_cache_match(struct kv_cache *cache, struct kv_chain *chain,
	const uint32_t *tokens, uint32_t count, uint32_t prompt_count);

/*
 * Room for token_count tokens, idle blocks evicted as needed. All or nothing:
 * -ENOMEM: there are not enough. They are as they were left until
 * kv_cache_prepare().
 */
int kv_cache_grow(
	struct kv_cache *cache, struct kv_chain *chain, uint32_t token_count);

/*
 * Tokens [first, first + count) are about to be computed: blocks that begin
 * with one of them are cleared. -EIO.
 */
int kv_cache_prepare(struct kv_cache *cache, const struct kv_chain *chain,
	uint32_t first, uint32_t count);

/*
 * The first `done` of `tokens` are computed: blocks that they fill become
 * known to the cache. Blocks of the chain may change for others that hold
 * the same.
 */
void kv_cache_commit(struct kv_cache *cache, struct kv_chain *chain,
	const uint32_t *tokens, uint32_t done, uint32_t prompt_count);

/* The chain lets go of all its blocks; those that are known become idle. */
void kv_cache_release(struct kv_cache *cache, struct kv_chain *chain);

/* Blocks that kv_cache_grow() could still hand out. */
uint32_t kv_cache_available(const struct kv_cache *cache);

/* Evict all that is idle. */
void kv_cache_clear(struct kv_cache *cache);

/* Evict what is idle until so many pages of the pool are free. False: it took
 * all that was idle, and they are not. */
bool kv_cache_free_pages(struct kv_cache *cache, uint32_t page_count);

/* Evict what is idle of that adapter instance; returns how many blocks. */
uint32_t kv_cache_drop_instance(struct kv_cache *cache, uint32_t instance);

uint32_t kv_cache_idle(const struct kv_cache *cache);
const struct kv_cache_counts *kv_cache_counts(const struct kv_cache *cache);

/* Assert all invariants; cost linear in the blocks. For tests and debug. */
void kv_cache_check(const struct kv_cache *cache);

#endif
