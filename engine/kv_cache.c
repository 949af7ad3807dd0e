/* kv_cache.c - blocks of keys and values that are found again (prefix cache) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/siphash.h"
#include "engine/kv_cache.h"

enum phase { PHASE_DECODE, PHASE_PROMPT, PHASE_COUNT };

/* A block that the cache knows. */
struct node {
	bool known, idle;
	enum phase phase;
	uint64_t hash;
	struct kv_key key;
	uint32_t parent; /* the block before, KV_BLOCK_NONE = it is the first */
	uint32_t child_count;
	uint32_t bucket_next;
	uint32_t idle_next, idle_previous;
};

/* Idle blocks, the one that was used longest ago first. */
struct idle_list {
	uint32_t first, last, count;
};

struct kv_cache {
	struct kv_store *store; /* borrowed */
	uint32_t block_count, block_tokens, pages_per_block;
	struct node *nodes; /* owned, [block_count] */
	uint32_t *tokens; /* owned, [block_count][block_tokens] */
	uint32_t *buckets; /* owned, [bucket_mask + 1] */
	uint32_t bucket_mask;
	struct idle_list idle[PHASE_COUNT];
	struct kv_cache_counts counts;
};

int kv_cache_create(
	struct kv_store *store, uint32_t block_count, struct kv_cache **out)
{
	const struct kv_layout *layout = kv_store_layout(store);
	struct kv_cache *cache = calloc(1, sizeof(*cache));
	size_t buckets = 1;

	if (!cache)
		return -ENOMEM;
	for (int p = 0; p < PHASE_COUNT; p++)
		cache->idle[p] =
			(struct idle_list){KV_BLOCK_NONE, KV_BLOCK_NONE, 0};
	while (buckets < 2 * (size_t)block_count)
		buckets *= 2;
	cache->store = store;
	cache->block_count = block_count;
	cache->block_tokens = layout->block_tokens;
	cache->pages_per_block = layout->pages_per_block;
	cache->bucket_mask = (uint32_t)(buckets - 1);
	cache->nodes = calloc(block_count, sizeof(*cache->nodes));
	cache->tokens = calloc(block_count,
		(size_t)layout->block_tokens * sizeof(*cache->tokens));
	cache->buckets = calloc(buckets, sizeof(*cache->buckets));
	if (!cache->nodes || !cache->tokens || !cache->buckets) {
		kv_cache_destroy(cache);
		return -ENOMEM;
	}
	memset(cache->buckets, 0xff, buckets * sizeof(*cache->buckets));
	*out = cache;
	return 0;
}

void kv_cache_destroy(struct kv_cache *cache)
{
	if (!cache)
		return;
	if (cache->buckets)
		kv_cache_clear(cache);
	free(cache->buckets);
	free(cache->tokens);
	free(cache->nodes);
	free(cache);
}

/* --- idle blocks ---------------------------------------------------------------- */

static void idle_add(struct kv_cache *cache, uint32_t block)
{
	struct node *node = &cache->nodes[block];
	struct idle_list *list = &cache->idle[node->phase];

	node->idle = true;
	node->idle_next = KV_BLOCK_NONE;
	node->idle_previous = list->last;
	if (list->last == KV_BLOCK_NONE)
		list->first = block;
	else
		cache->nodes[list->last].idle_next = block;
	list->last = block;
	list->count++;
}

static void idle_remove(struct kv_cache *cache, uint32_t block)
{
	struct node *node = &cache->nodes[block];
	struct idle_list *list = &cache->idle[node->phase];

	if (node->idle_previous == KV_BLOCK_NONE)
		list->first = node->idle_next;
	else
		cache->nodes[node->idle_previous].idle_next = node->idle_next;
	if (node->idle_next == KV_BLOCK_NONE)
		list->last = node->idle_previous;
	else
		cache->nodes[node->idle_next].idle_previous =
			node->idle_previous;
	list->count--;
	node->idle = false;
}

/* --- the table ------------------------------------------------------------------- */

static uint32_t *tokens_of(const struct kv_cache *cache, uint32_t block)
{
	return cache->tokens + (size_t)block * cache->block_tokens;
}

static uint64_t hash_root(const struct kv_key *key)
{
	struct siphash state;

	siphash_init(&state, key->tenant);
	siphash_add(&state, key->tenant + SIPHASH_KEY_BYTES,
		KV_TENANT_BYTES - SIPHASH_KEY_BYTES);
	siphash_add(&state, &key->epoch, sizeof(key->epoch));
	siphash_add(&state, &key->instance, sizeof(key->instance));
	return siphash_end(&state);
}

static uint64_t hash_next(const struct kv_cache *cache,
	const struct kv_key *key, uint64_t hash, const uint32_t *tokens)
{
	struct siphash state;

	siphash_init(&state, key->tenant);
	siphash_add(&state, &hash, sizeof(hash));
	siphash_add(&state, tokens, cache->block_tokens * sizeof(*tokens));
	return siphash_end(&state);
}

static bool same_key(const struct kv_key *a, const struct kv_key *b)
{
	return a->epoch == b->epoch && a->instance == b->instance &&
	       memcmp(a->tenant, b->tenant, KV_TENANT_BYTES) == 0;
}

/* The known block of these tokens behind `parent`, or KV_BLOCK_NONE. */
static uint32_t find(const struct kv_cache *cache, const struct kv_chain *chain,
	uint64_t hash, uint32_t parent, const uint32_t *tokens)
{
	uint32_t block = cache->buckets[hash & cache->bucket_mask];

	for (; block != KV_BLOCK_NONE;
		block = cache->nodes[block].bucket_next) {
		const struct node *node = &cache->nodes[block];

		if (node->hash == hash && node->parent == parent &&
			same_key(&node->key, &chain->key) &&
			memcmp(tokens_of(cache, block), tokens,
				cache->block_tokens * sizeof(*tokens)) == 0)
			return block;
	}
	return KV_BLOCK_NONE;
}

static void forget(struct kv_cache *cache, uint32_t block)
{
	struct node *node = &cache->nodes[block];
	uint32_t *link = &cache->buckets[node->hash & cache->bucket_mask];

	assert(node->known && !node->idle && node->child_count == 0);
	while (*link != block)
		link = &cache->nodes[*link].bucket_next;
	*link = node->bucket_next;
	if (node->parent != KV_BLOCK_NONE)
		cache->nodes[node->parent].child_count--;
	node->known = false;
	kv_block_put(cache->store, block);
}

/* Give up the idle block that is worth least; false: there is none. */
static bool evict(struct kv_cache *cache)
{
	for (int p = 0; p < PHASE_COUNT; p++) {
		uint32_t block = cache->idle[p].first;

		if (block == KV_BLOCK_NONE)
			continue;
		idle_remove(cache, block);
		forget(cache, block);
		cache->counts.evicted_blocks++;
		return true;
	}
	return false;
}

/* --- chains ------------------------------------------------------------------------ */

void kv_chain_init(struct kv_chain *chain, const struct kv_key *key,
	/* NOLINTNEXTLINE(readability-non-const-parameter): chains write it */
	uint32_t *blocks, uint32_t *pages, uint32_t capacity)
{
	*chain = (struct kv_chain){
		.key = *key,
		.blocks = blocks,
		.pages = pages,
		.capacity = capacity,
		.hash = hash_root(key),
	};
}

/* Block number `at` of the chain is `block`. */
static void place(const struct kv_cache *cache, struct kv_chain *chain,
	uint32_t at, uint32_t block)
{
	assert(at < chain->capacity);
	chain->blocks[at] = block;
	memcpy(chain->pages + (size_t)at * cache->pages_per_block,
		kv_block_pages(cache->store, block),
		cache->pages_per_block * sizeof(*chain->pages));
}

static uint32_t last_known(const struct kv_chain *chain)
{
	return chain->known_count ? chain->blocks[chain->known_count - 1]
				  : KV_BLOCK_NONE;
}

/* One more reference to a known block, of a request in this phase. */
static void hold(struct kv_cache *cache, uint32_t block, enum phase phase)
{
	struct node *node = &cache->nodes[block];

	if (node->idle)
		idle_remove(cache, block);
	if (phase == PHASE_PROMPT)
		node->phase = PHASE_PROMPT;
	kv_block_get(cache->store, block);
}

/* Of block number `at`, when so many tokens are a prompt. */
static enum phase phase_of(
	const struct kv_cache *cache, uint32_t at, uint32_t prompt_count)
{
	return (at + (uint64_t)1) * cache->block_tokens <= prompt_count
		       ? PHASE_PROMPT
		       : PHASE_DECODE;
}

uint32_t kv_cache_match(struct kv_cache *cache, struct kv_chain *chain,
	const uint32_t *tokens, uint32_t count, uint32_t prompt_count)
{
	uint32_t span = cache->block_tokens, found = 0;

	assert(chain->block_count == 0 && count > 0);
	cache->counts.queried_tokens += count;
	while ((uint64_t)found + span < count) {
		const uint32_t *at = tokens + found;
		uint64_t hash = hash_next(cache, &chain->key, chain->hash, at);
		uint32_t block =
			find(cache, chain, hash, last_known(chain), at);

		if (block == KV_BLOCK_NONE)
			break;
		hold(cache, block,
			phase_of(cache, chain->known_count, prompt_count));
		place(cache, chain, chain->known_count, block);
		chain->block_count = ++chain->known_count;
		chain->hash = hash;
		found += span;
	}
	cache->counts.found_tokens += found;
	return found;
}

int kv_cache_grow(
	struct kv_cache *cache, struct kv_chain *chain, uint32_t token_count)
{
	uint32_t need =
		kv_layout_blocks(kv_store_layout(cache->store), token_count);
	uint32_t before = chain->block_count;

	assert(need <= chain->capacity);
	if (need > before && need - before > kv_cache_available(cache))
		return -ENOMEM;
	while (chain->block_count < need) {
		uint32_t at = chain->block_count;
		int rc = kv_block_take_dirty(cache->store, &chain->blocks[at],
			chain->pages + (size_t)at * cache->pages_per_block);

		if (rc == -ENOMEM && evict(cache))
			continue;
		if (rc) {
			while (chain->block_count > before)
				kv_block_put(cache->store,
					chain->blocks[--chain->block_count]);
			return rc;
		}
		chain->block_count++;
	}
	return 0;
}

int kv_cache_prepare(struct kv_cache *cache, const struct kv_chain *chain,
	uint32_t first, uint32_t count)
{
	uint32_t span = kv_store_layout(cache->store)->block_tokens;
	uint32_t end = (uint32_t)div_up((uint64_t)first + count, span);
	int rc = 0;

	assert(end <= chain->block_count);
	for (uint32_t i = (uint32_t)div_up(first, span); rc == 0 && i < end;
		i++)
		rc = kv_block_clear(cache->store, chain->blocks[i]);
	return rc;
}

/* Make the next block of the chain known. */
static void remember(struct kv_cache *cache, struct kv_chain *chain,
	uint64_t hash, const uint32_t *tokens, enum phase phase)
{
	uint32_t block = chain->blocks[chain->known_count];
	uint32_t *bucket = &cache->buckets[hash & cache->bucket_mask];
	struct node *node = &cache->nodes[block];

	assert(!node->known);
	*node = (struct node){
		.known = true,
		.phase = phase,
		.hash = hash,
		.key = chain->key,
		.parent = last_known(chain),
		.bucket_next = *bucket,
	};
	*bucket = block;
	if (node->parent != KV_BLOCK_NONE)
		cache->nodes[node->parent].child_count++;
	memcpy(tokens_of(cache, block), tokens,
		cache->block_tokens * sizeof(*tokens));
	kv_block_get(cache->store, block);
}

void kv_cache_commit(struct kv_cache *cache, struct kv_chain *chain,
	const uint32_t *tokens, uint32_t done, uint32_t prompt_count)
{
	uint32_t span = cache->block_tokens;

	while ((chain->known_count + (uint64_t)1) * span <= done) {
		uint32_t at = chain->known_count;
		const uint32_t *part = tokens + (size_t)at * span;
		enum phase phase = phase_of(cache, at, prompt_count);
		uint64_t hash =
			hash_next(cache, &chain->key, chain->hash, part);
		uint32_t twin =
			find(cache, chain, hash, last_known(chain), part);

		assert(at < chain->block_count);
		if (twin == KV_BLOCK_NONE) {
			remember(cache, chain, hash, part, phase);
		} else {
			hold(cache, twin, phase);
			kv_block_put(cache->store, chain->blocks[at]);
			place(cache, chain, at, twin);
		}
		chain->known_count++;
		chain->hash = hash;
	}
}

void kv_cache_release(struct kv_cache *cache, struct kv_chain *chain)
{
	while (chain->block_count > 0) {
		uint32_t block = chain->blocks[--chain->block_count];

		kv_block_put(cache->store, block);
		if (chain->block_count < chain->known_count &&
			kv_block_references(cache->store, block) == 1)
			idle_add(cache, block);
	}
	chain->known_count = 0;
	chain->hash = hash_root(&chain->key);
}

uint32_t kv_cache_available(const struct kv_cache *cache)
{
	/* An idle block's pages are a block again, wherever they lie. */
	return kv_store_free(cache->store) + kv_cache_idle(cache);
}

bool kv_cache_free_pages(struct kv_cache *cache, uint32_t page_count)
{
	while (kv_store_free_pages(cache->store) < page_count)
		if (!evict(cache))
			return false;
	return true;
}

uint32_t kv_cache_drop_instance(struct kv_cache *cache, uint32_t instance)
{
	uint32_t count = 0, next;

	/* The lists have successors before what they follow. */
	for (int p = 0; p < PHASE_COUNT; p++)
		for (uint32_t b = cache->idle[p].first; b != KV_BLOCK_NONE;
			b = next) {
			next = cache->nodes[b].idle_next;
			if (cache->nodes[b].key.instance != instance)
				continue;
			idle_remove(cache, b);
			forget(cache, b);
			cache->counts.evicted_blocks++;
			count++;
		}
	return count;
}

void kv_cache_clear(struct kv_cache *cache)
{
	while (evict(cache))
		;
}

uint32_t kv_cache_idle(const struct kv_cache *cache)
{
	uint32_t count = 0;

	for (int p = 0; p < PHASE_COUNT; p++)
		count += cache->idle[p].count;
	return count;
}

const struct kv_cache_counts *kv_cache_counts(const struct kv_cache *cache)
{
	return &cache->counts;
}

/* --- to look at ------------------------------------------------------------------------ */

static void check_node(const struct kv_cache *cache, uint32_t block)
{
	const struct node *node = &cache->nodes[block];
	const struct node *parent;

	assert(kv_block_references(cache->store, block) >= 1);
	assert(node->idle == (kv_block_references(cache->store, block) == 1));
	if (node->parent == KV_BLOCK_NONE)
		return;
	parent = &cache->nodes[node->parent];
	assert(parent->known && parent->child_count > 0);
	assert(same_key(&parent->key, &node->key));
	assert(parent->phase >= node->phase);
	assert(node->idle || !parent->idle);
}

static uint32_t check_list(const struct kv_cache *cache, enum phase phase)
{
	const struct idle_list *list = &cache->idle[phase];
	uint32_t previous = KV_BLOCK_NONE, count = 0;

	for (uint32_t b = list->first; b != KV_BLOCK_NONE;
		b = cache->nodes[b].idle_next) {
		const struct node *node = &cache->nodes[b];

		assert(node->known && node->idle && node->phase == phase);
		assert(node->idle_previous == previous);
		previous = b;
		count++;
	}
	assert(list->last == previous && list->count == count);
	return count;
}

void kv_cache_check(const struct kv_cache *cache)
{
	uint32_t known = 0, idle = 0, reached = 0, children = 0, behind = 0;

	for (uint32_t b = 0; b < cache->block_count; b++) {
		const struct node *node = &cache->nodes[b];

		if (!node->known)
			continue;
		check_node(cache, b);
		known++;
		idle += node->idle;
		children += node->child_count;
		behind += node->parent != KV_BLOCK_NONE;
	}
	for (uint32_t i = 0; i <= cache->bucket_mask; i++)
		for (uint32_t b = cache->buckets[i]; b != KV_BLOCK_NONE;
			b = cache->nodes[b].bucket_next, reached++)
			assert(cache->nodes[b].known);
	assert(known == reached && children == behind);
	assert(idle == check_list(cache, PHASE_DECODE) +
			       check_list(cache, PHASE_PROMPT));
	assert(known <= kv_store_used(cache->store));
}
