/* test_kv_cache.c - the prefix cache against a naive list of what is known */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts are strings of letters, a block of tokens each, so that many of them
 * begin alike. What a sequence computes is written into its blocks as a mark
 * of (key, all tokens so far): wherever a block is found, the marks tell whose
 * it is. The same runs with a hash of two bits, where nearly everything
 * collides.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/siphash.h"
#include "engine/kv_cache.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)
#define SPAN 16u /* tokens of a block */
#define LETTERS 3u
#define DEPTH 8u /* blocks of the longest text */
#define KEYS 4u
#define CHAINS 6u
#define ENTRIES 64u

uint64_t __real_siphash_end(struct siphash *state);
uint64_t __wrap_siphash_end(struct siphash *state);
static uint64_t hash_mask = UINT64_MAX;

uint64_t __wrap_siphash_end(struct siphash *state)
{
	return __real_siphash_end(state) & hash_mask;
}

struct text {
	uint32_t key;
	uint32_t letters[DEPTH];
};

struct sequence {
	bool open;
	struct text text;
	uint32_t tokens[DEPTH * SPAN];
	uint32_t count, prompt_count, done;
	struct kv_chain chain;
	uint32_t blocks[DEPTH], pages[DEPTH];
	/* the naive model's: entries that it holds, KV_BLOCK_NONE = own */
	uint32_t entries[DEPTH];
};

/* A known block: the first `depth` letters of a text. */
struct entry {
	bool used;
	struct text text;
	uint32_t depth;
	uint32_t phase; /* 1 = of a prompt */
	uint32_t holders;
	uint64_t released; /* when the last holder let go */
};

struct fixture {
	struct vmm vmm;
	struct page_pool *pool;
	struct kv_store *store;
	struct kv_cache *cache;
	uint32_t block_count;
	struct sequence sequences[CHAINS];
	struct entry entries[ENTRIES];
	uint64_t clock, random;
	uint64_t queried, found, evicted;
};

static void open_fixture(struct fixture *f, uint32_t blocks, uint64_t random)
{
	const struct vmm_host_config host = {.granularity_bytes = PAGE};
	const struct page_pool_config pages = {.page_size_bytes = PAGE,
		.movable_page_count = blocks,
		.extent_handle_bytes = PAGE};
	const struct kv_shape shape = {1, 512, 512, DTYPE_F32};
	struct kv_layout layout;

	memset(f, 0, sizeof(*f));
	f->block_count = blocks;
	f->random = random;
	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&f->vmm, &host, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(
		page_pool_create(&f->vmm, &pages, &f->pool, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(kv_layout_choose(&shape, PAGE, &layout, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(layout.block_tokens, SPAN);
	CU_ASSERT_EQUAL_FATAL(layout.pages_per_block, 1);
	CU_ASSERT_EQUAL_FATAL(
		kv_store_create(f->pool, &layout, blocks, &f->store, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(kv_cache_create(f->store, blocks, &f->cache), 0);
}

static void close_fixture(struct fixture *f)
{
	kv_cache_check(f->cache);
	kv_cache_clear(f->cache);
	CU_ASSERT_EQUAL(kv_cache_idle(f->cache), 0);
	CU_ASSERT_EQUAL(kv_store_used(f->store), 0);
	CU_ASSERT_EQUAL(page_pool_count(f->pool, PAGE_FREE), f->block_count);
	kv_cache_destroy(f->cache);
	kv_store_check(f->store);
	kv_store_destroy(f->store);
	page_pool_destroy(f->pool, false);
	vmm_host_destroy(&f->vmm);
}

/* --- texts and marks ------------------------------------------------------------ */

static struct kv_key key_of(uint32_t number)
{
	struct kv_key key = {.epoch = number / 3, .instance = number % 2};

	/* Two tenants, who differ in the last byte only. */
	memset(key.tenant, 0xab, sizeof(key.tenant));
	key.tenant[KV_TENANT_BYTES - 1] = (uint8_t)(number / 2);
	return key;
}

static uint32_t token_of(const struct text *text, uint32_t at)
{
	/* Letters differ in the last token of a block only. */
	return at % SPAN == SPAN - 1 ? text->letters[at / SPAN] : at % 5;
}

static uint64_t mark_of(const struct sequence *s, uint32_t at)
{
	uint64_t mark = s->text.key + 1;

	for (uint32_t i = 0; i <= at; i++)
		mark = mark * UINT64_C(0x9e3779b97f4a7c15) + s->tokens[i] + 1;
	return mark;
}

static uint64_t *place_of(
	struct fixture *f, const struct sequence *s, uint32_t at)
{
	uint8_t *page = f->vmm.ops->host_pointer(
		&f->vmm, page_pool_address(f->pool, s->pages[at / SPAN]));

	return (uint64_t *)(void *)(page + (at % SPAN) * PAGE / SPAN);
}

static bool same_start(
	const struct text *a, const struct text *b, uint32_t depth)
{
	return a->key == b->key &&
	       memcmp(a->letters, b->letters, depth * sizeof(uint32_t)) == 0;
}

/* --- the naive model -------------------------------------------------------------- */

static uint32_t naive_find(
	const struct fixture *f, const struct text *text, uint32_t depth)
{
	for (uint32_t i = 0; i < ENTRIES; i++)
		if (f->entries[i].used && f->entries[i].depth == depth &&
			same_start(&f->entries[i].text, text, depth))
			return i;
	return KV_BLOCK_NONE;
}

static void naive_hold(
	struct fixture *f, struct sequence *s, uint32_t at, uint32_t entry)
{
	s->entries[at] = entry;
	f->entries[entry].holders++;
	if ((at + 1) * SPAN <= s->prompt_count)
		f->entries[entry].phase = 1;
}

static uint32_t naive_match(struct fixture *f, struct sequence *s)
{
	uint32_t depth = 0, entry;

	f->queried += s->count;
	while ((depth + 1) * SPAN < s->count &&
		(entry = naive_find(f, &s->text, depth + 1)) != KV_BLOCK_NONE)
		naive_hold(f, s, depth++, entry);
	f->found += (uint64_t)depth * SPAN;
	return depth * SPAN;
}

/* Blocks in the store: known ones, and those that one sequence has alone. */
static uint32_t naive_used(const struct fixture *f, uint32_t *out_idle)
{
	uint32_t used = 0;

	*out_idle = 0;
	for (uint32_t i = 0; i < ENTRIES; i++) {
		used += f->entries[i].used;
		*out_idle += f->entries[i].used && f->entries[i].holders == 0;
	}
	for (uint32_t i = 0; i < CHAINS; i++)
		for (uint32_t b = 0; f->sequences[i].open &&
				     b < f->sequences[i].chain.block_count;
			b++)
			used += f->sequences[i].entries[b] == KV_BLOCK_NONE;
	return used;
}

static void naive_evict(struct fixture *f)
{
	struct entry *worst = NULL;

	for (uint32_t i = 0; i < ENTRIES; i++) {
		struct entry *e = &f->entries[i];

		if (e->used && e->holders == 0 &&
			(!worst || e->phase < worst->phase ||
				(e->phase == worst->phase &&
					e->released < worst->released)))
			worst = e;
	}
	CU_ASSERT_FATAL(worst != NULL);
	worst->used = false;
	f->evicted++;
}

static void naive_commit(struct fixture *f, struct sequence *s)
{
	for (uint32_t at = 0; (at + 1) * SPAN <= s->done; at++) {
		uint32_t entry;

		if (s->entries[at] != KV_BLOCK_NONE)
			continue;
		entry = naive_find(f, &s->text, at + 1);
		for (uint32_t i = 0; entry == KV_BLOCK_NONE && i < ENTRIES; i++)
			if (!f->entries[i].used) {
				entry = i;
				f->entries[i] = (struct entry){.used = true,
					.text = s->text,
					.depth = at + 1};
			}
		CU_ASSERT_FATAL(entry != KV_BLOCK_NONE);
		naive_hold(f, s, at, entry);
	}
}

static void naive_release(struct fixture *f, struct sequence *s)
{
	for (uint32_t at = DEPTH; at-- > 0;) {
		struct entry *e;

		if (s->entries[at] == KV_BLOCK_NONE)
			continue;
		e = &f->entries[s->entries[at]];
		if (--e->holders == 0)
			e->released = ++f->clock;
	}
}

/* --- operations ------------------------------------------------------------------------ */

static void begin(struct fixture *f, struct sequence *s)
{
	struct kv_key key;
	uint32_t found;

	*s = (struct sequence){.open = true,
		.text.key = suite_below(&f->random, KEYS),
		.count = 1 + suite_below(&f->random, DEPTH * SPAN)};
	memset(s->entries, 0xff, sizeof(s->entries));
	for (uint32_t i = 0; i < DEPTH; i++)
		s->text.letters[i] = suite_below(&f->random, 4) == 0
					     ? suite_below(&f->random, LETTERS)
					     : 0;
	for (uint32_t i = 0; i < s->count; i++)
		s->tokens[i] = token_of(&s->text, i);
	s->prompt_count = 1 + suite_below(&f->random, s->count);
	key = key_of(s->text.key);
	kv_chain_init(&s->chain, &key, s->blocks, s->pages, DEPTH);
	found = kv_cache_match(
		f->cache, &s->chain, s->tokens, s->count, s->prompt_count);
	CU_ASSERT_EQUAL(found, naive_match(f, s));
	CU_ASSERT_TRUE(found < s->count);
	s->done = found;
}

/* Some more tokens, if there are blocks; all that is found is its own. */
static void compute(struct fixture *f, struct sequence *s)
{
	uint32_t more = suite_below(&f->random, s->count - s->done + 1);
	uint32_t need = (s->done + more + SPAN - 1) / SPAN, idle;
	uint32_t used = naive_used(f, &idle), have = s->chain.block_count;
	uint32_t missing = need > have ? need - have : 0;
	bool fits = missing <= f->block_count - used + idle;

	CU_ASSERT_EQUAL(kv_cache_grow(f->cache, &s->chain, s->done + more),
		fits ? 0 : -ENOMEM);
	if (!fits)
		return;
	for (; used + missing > f->block_count; used--)
		naive_evict(f);
	for (uint32_t i = 0; i < more; i++, s->done++)
		*place_of(f, s, s->done) = mark_of(s, s->done);
	kv_cache_commit(
		f->cache, &s->chain, s->tokens, s->done, s->prompt_count);
	naive_commit(f, s);
}

static void end(struct fixture *f, struct sequence *s)
{
	kv_cache_release(f->cache, &s->chain);
	naive_release(f, s);
	s->open = false;
}

static void check_all(struct fixture *f)
{
	const struct kv_cache_counts *counts = kv_cache_counts(f->cache);
	uint32_t idle, used = naive_used(f, &idle), wrong = 0;

	kv_cache_check(f->cache);
	CU_ASSERT_EQUAL(kv_store_used(f->store), used);
	CU_ASSERT_EQUAL(kv_cache_idle(f->cache), idle);
	CU_ASSERT_EQUAL(
		kv_cache_available(f->cache), f->block_count - used + idle);
	CU_ASSERT_EQUAL(counts->queried_tokens, f->queried);
	CU_ASSERT_EQUAL(counts->found_tokens, f->found);
	CU_ASSERT_EQUAL(counts->evicted_blocks, f->evicted);
	for (uint32_t i = 0; i < CHAINS; i++) {
		const struct sequence *s = &f->sequences[i];

		for (uint32_t t = 0; s->open && t < s->done; t++)
			wrong += *place_of(f, s, t) != mark_of(s, t);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static void run_random(uint64_t seed)
{
	struct fixture f;
	uint64_t found = 0, evicted = 0;

	for (uint32_t round = 0; round < 12; round++) {
		open_fixture(&f, 10 + 2 * round, seed + round);
		for (uint32_t i = 0; i < 400; i++) {
			struct sequence *s =
				&f.sequences[suite_below(&f.random, CHAINS)];

			if (!s->open)
				begin(&f, s);
			else if (s->done == s->count ||
				 suite_below(&f.random, 6) == 0)
				end(&f, s);
			else
				compute(&f, s);
			check_all(&f);
		}
		for (uint32_t i = 0; i < CHAINS; i++)
			if (f.sequences[i].open)
				end(&f, &f.sequences[i]);
		found += f.found;
		evicted += f.evicted;
		close_fixture(&f);
	}
	/* Else the rounds were too easy. */
	CU_ASSERT_TRUE(found > 1000);
	CU_ASSERT_TRUE(evicted > 100);
}

static void test_kv_cache__finds_what_the_naive_list_finds(void)
{
	run_random(suite_seed(31));
}

static void test_kv_cache__a_collision_never_serves_other_tokens(void)
{
	hash_mask = 3;
	run_random(suite_seed(32));
	hash_mask = UINT64_MAX;
}

/* A text of `count` tokens, computed and let go. */
static void compute_text(struct fixture *f, struct sequence *s, uint32_t letter,
	uint32_t count, uint32_t prompt_count)
{
	struct kv_key key = key_of(0);

	*s = (struct sequence){.count = count};
	for (uint32_t i = 0; i < DEPTH; i++)
		s->text.letters[i] = letter;
	for (uint32_t i = 0; i < count; i++)
		s->tokens[i] = token_of(&s->text, i);
	kv_chain_init(&s->chain, &key, s->blocks, s->pages, DEPTH);
	s->done = kv_cache_match(
		f->cache, &s->chain, s->tokens, count, prompt_count);
	CU_ASSERT_EQUAL(kv_cache_grow(f->cache, &s->chain, count), 0);
	kv_cache_commit(f->cache, &s->chain, s->tokens, count, prompt_count);
}

static void test_kv_cache__prompts_outlive_generated_text(void)
{
	struct sequence s;
	struct fixture f;

	open_fixture(&f, 8, 1);
	compute_text(&f, &s, 0, 3 * SPAN, 3 * SPAN); /* a prompt, first */
	kv_cache_release(f.cache, &s.chain);
	compute_text(&f, &s, 1, 5 * SPAN, SPAN); /* four blocks of output */
	kv_cache_release(f.cache, &s.chain);
	CU_ASSERT_EQUAL(kv_cache_idle(f.cache), 8);
	compute_text(&f, &s, 2, 4 * SPAN, 4 * SPAN);
	kv_cache_release(f.cache, &s.chain);
	compute_text(&f, &s, 0, 3 * SPAN, 3 * SPAN);
	CU_ASSERT_EQUAL(s.done, 2 * SPAN); /* all but what must be computed */
	kv_cache_release(f.cache, &s.chain);
	close_fixture(&f);
}

static void test_kv_cache__others_find_nothing(void)
{
	struct sequence s, other;
	struct fixture f;

	open_fixture(&f, 8, 1);
	compute_text(&f, &s, 0, 3 * SPAN, 3 * SPAN);
	for (uint32_t number = 0; number < KEYS; number++) {
		struct kv_key key = key_of(number);

		kv_chain_init(
			&other.chain, &key, other.blocks, other.pages, DEPTH);
		CU_ASSERT_EQUAL(kv_cache_match(f.cache, &other.chain, s.tokens,
					s.count, s.count),
			number == 0 ? 2 * SPAN : 0);
		kv_cache_release(f.cache, &other.chain);
	}
	kv_cache_release(f.cache, &s.chain);
	close_fixture(&f);
}

static void test_kv_cache__grow_takes_all_or_nothing(void)
{
	struct sequence s, more;
	struct kv_key key = key_of(1);
	struct fixture f;

	open_fixture(&f, 4, 1);
	compute_text(&f, &s, 0, 2 * SPAN, SPAN);
	kv_chain_init(&more.chain, &key, more.blocks, more.pages, DEPTH);
	CU_ASSERT_EQUAL(kv_cache_grow(f.cache, &more.chain, 3 * SPAN), -ENOMEM);
	CU_ASSERT_EQUAL(more.chain.block_count, 0);
	CU_ASSERT_EQUAL(kv_store_used(f.store), 2);
	kv_cache_release(f.cache, &s.chain);
	CU_ASSERT_EQUAL(kv_cache_grow(f.cache, &more.chain, 3 * SPAN), 0);
	CU_ASSERT_EQUAL(kv_cache_counts(f.cache)->evicted_blocks, 1);
	kv_cache_release(f.cache, &more.chain);
	close_fixture(&f);
}

/* Only blocks whose first token is to come are cleared. */
static void test_kv_cache__prepare_clears_what_begins(void)
{
	struct sequence s;
	struct kv_key key = key_of(1);
	struct fixture f;

	open_fixture(&f, 4, 1);
	s = (struct sequence){0};
	kv_chain_init(&s.chain, &key, s.blocks, s.pages, DEPTH);
	CU_ASSERT_EQUAL(kv_cache_grow(f.cache, &s.chain, 3 * SPAN), 0);
	for (uint32_t i = 0; i < 3; i++)
		*place_of(&f, &s, i * SPAN) = 7;
	CU_ASSERT_EQUAL(kv_cache_prepare(f.cache, &s.chain, 1, SPAN), 0);
	CU_ASSERT_EQUAL(*place_of(&f, &s, 0), 7);
	CU_ASSERT_EQUAL(*place_of(&f, &s, SPAN), 0);
	CU_ASSERT_EQUAL(*place_of(&f, &s, 2 * SPAN), 7);
	CU_ASSERT_EQUAL(kv_cache_prepare(f.cache, &s.chain, 0, 1), 0);
	CU_ASSERT_EQUAL(*place_of(&f, &s, 0), 0);
	kv_cache_release(f.cache, &s.chain);
	close_fixture(&f);
}

static void test_kv_cache_create__every_allocation_may_fail(void)
{
	struct fixture f;
	uint64_t n = 0;
	int rc;

	open_fixture(&f, 8, 1);
	do {
		struct kv_cache *cache = NULL;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, ++n, ENOMEM);
		rc = kv_cache_create(f.store, 8, &cache);
		CU_ASSERT_EQUAL(rc, fake_os_has_failed() ? -ENOMEM : 0);
		fake_os_disarm();
		if (rc == 0)
			kv_cache_destroy(cache);
		CU_ASSERT_TRUE(fake_os_check_empty());
	} while (rc);
	CU_ASSERT_EQUAL(n, 5);
	kv_cache_destroy(NULL);
	close_fixture(&f);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(kv_cache__finds_what_the_naive_list_finds),
		SUITE_CASE(kv_cache__a_collision_never_serves_other_tokens),
		SUITE_CASE(kv_cache__prompts_outlive_generated_text),
		SUITE_CASE(kv_cache__others_find_nothing),
		SUITE_CASE(kv_cache__grow_takes_all_or_nothing),
		SUITE_CASE(kv_cache__prepare_clears_what_begins),
		SUITE_CASE(kv_cache_create__every_allocation_may_fail),
	};

	return SUITE_MAIN("kv_cache", cases);
}
