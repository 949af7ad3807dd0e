/* test_live_pool.c - what adapters that come and go share with requests */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/live_case.h"
#include "tests/suite.h"

/* --- shares ------------------------------------------------------------------------------- */

/* Requests of one name, as many as there are slots for it, without end. */
static void keep_busy(struct live_world *w, uint32_t from, uint32_t to,
	uint32_t entry, uint32_t kind)
{
	for (uint32_t i = from; i < to; i++)
		if (w->stage.kind[i] == SERVE_KINDS)
			live_submit(w, i, kind, entry);
}

static uint32_t count_waiting(
	const struct live_world *w, uint32_t from, uint32_t to)
{
	uint32_t waiting = 0;

	for (uint32_t i = from; i < to; i++)
		waiting += sched_job_state(w->stage.serve->sched, i) ==
			   SCHED_WAITING;
	return waiting;
}

static double least_served(const struct live_world *w)
{
	double one = sched_service(w->stage.serve->sched, 1);
	double two = sched_service(w->stage.serve->sched, 2);

	return one < two ? one : two;
}

/*
 * Many short ones against few long ones: as long as both wait, what they were
 * served, by weight, differs by no more than a step and a request.
 */
static void check_shares(uint32_t weight)
{
	struct engine_serve_options options = live_options();
	struct engine_command command = {
		.kind = ENGINE_ADAPTER_WEIGHT, .entry = 1, .weight = weight};
	struct live_world *w = suite_calloc(1, sizeof(*w));
	double most = 0, bound = SERVE_PROMPT_MAX;
	uint32_t both = 0, other = 2;

	options.sequence_count = 1;
	live_open(w, &options);
	live_must_load(w, 1, 0);
	live_must_load(w, 2, 1);
	adapter_files_init(&command.files);
	CU_ASSERT_EQUAL(engine_mail_post(w->mail, &command), 0);
	command.entry = 2;
	command.weight = 1;
	CU_ASSERT_EQUAL(engine_mail_post(w->mail, &command), 0);
	bound += SCHED_OUTPUT_COST * SERVE_OUTPUT_MAX + options.row_count;
	for (uint32_t i = 0; both < 1000 || least_served(w) < 3 * bound; i++) {
		const struct sched *sched = w->stage.serve->sched;
		double apart;

		CU_ASSERT_FATAL(i < 100000);
		keep_busy(w, 0, 12, 1, 2);
		keep_busy(w, 12, SERVE_SLOTS, other, 7);
		live_turn(w);
		apart = sched_service(sched, 1) - sched_service(sched, 2);
		if (count_waiting(w, 0, 12) == 0 ||
			count_waiting(w, 12, SERVE_SLOTS) == 0)
			continue;
		both++;
		most = apart > most ? apart : most;
		most = -apart > most ? -apart : most;
	}
	printf("weight %u: %.0f apart at most, %.0f and %.0f served; ", weight,
		most, sched_service(w->stage.serve->sched, 1) * weight,
		sched_service(w->stage.serve->sched, 2));
	CU_ASSERT(most <= bound);
	live_settle(w);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_leave(w);
	live_close(w);
	free(w);
}

static void test_live__names_get_their_shares(void)
{
	check_shares(1);
	check_shares(4);
}

/* --- one pool ---------------------------------------------------------------------------- */

static uint64_t kv_total(const struct live_world *w)
{
	return segment_engine_counters(&w->stage.segment, 0)->kv_pages_total;
}

/*
 * A pool of one long request and some adapters of that source: not a page more
 * than needed.
 */
static void open_tight(struct live_world *w, uint32_t adapters, uint32_t source,
	uint64_t wait_ns, uint64_t *out_pages)
{
	struct engine_serve_options options = live_options();
	const struct serve *serve;
	uint64_t kv;

	live_open(w, &options);
	live_must_load(w, 1, source);
	*out_pages = segment_rank_books(&w->stage.segment, 0)->adapter_pages;
	serve = w->stage.serve;
	kv = (uint64_t)serve->block_max *
	     kv_store_layout(serve->model->kv)->pages_per_block;
	live_leave(w);
	live_close(w);
	options.kv_token_count = 0;
	options.position_count = (uint32_t)serve_stage_plain.kv_token_count;
	options.load_wait_ns = wait_ns;
	options.pool_bytes = (kv + adapters * *out_pages) * PAGE_SIZE_BYTES_MIN;
	live_open(w, &options);
}

static void test_live__pages_become_cache_and_back(void)
{
	struct live_world *w = suite_calloc(1, sizeof(*w));
	uint64_t before, pages, evicted;

	open_tight(w, 2, 0, 0, &pages);
	before = kv_total(w);
	live_must_load(w, 1, 0);
	CU_ASSERT(pages > 1);
	CU_ASSERT_EQUAL(kv_total(w), before - pages);
	/* Prefixes take the rest, and make room for the next. */
	for (uint32_t i = 0; i < 40; i++) {
		live_submit(w, 0, 7, 0);
		segment_slot(&w->stage.segment, 0)->params.tenant[0] =
			(uint8_t)i;
		live_settle(w);
	}
	evicted = kv_cache_counts(w->stage.serve->cache)->evicted_blocks;
	CU_ASSERT(evicted > 0);
	CU_ASSERT(page_pool_count(w->stage.serve->model->pool, PAGE_FREE) <
		  pages);
	live_must_load(w, 2, 0);
	CU_ASSERT(kv_cache_counts(w->stage.serve->cache)->evicted_blocks >
		  evicted);
	CU_ASSERT_EQUAL(kv_total(w), before - 2 * pages);
	live_unload(w, 1, false);
	live_settle(w);
	CU_ASSERT_EQUAL(kv_total(w), before - pages);
	live_leave(w);
	CU_ASSERT_EQUAL(kv_total(w), before);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_close(w);
	free(w);
}

/* The one that runs for the longest time, of those with three blocks or so. */
static uint32_t longest_kind(void)
{
	const struct serve_kind *kinds = live_library.base;
	uint32_t longest = SERVE_KINDS;

	for (uint32_t k = 0; k < SERVE_KINDS; k++)
		if (kinds[k].prompt_count > 128 &&
			(longest == SERVE_KINDS ||
				kinds[k].output_count >
					kinds[longest].output_count))
			longest = k;
	CU_ASSERT_FATAL(longest < SERVE_KINDS);
	CU_ASSERT_FATAL(kinds[longest].output_count > 10);
	return longest;
}

/*
 * As many requests as leave fewer pages than an adapter needs, though without
 * them there would be room for it; others wait.
 */
static void open_crowded(struct live_world *w, uint64_t wait_ns)
{
	struct engine_serve_options options;
	const struct serve *serve;
	uint32_t kind, need, most, count, left;
	uint64_t pages;

	open_tight(w, 1, 0, wait_ns, &pages);
	serve = w->stage.serve;
	kind = longest_kind();
	need = kv_layout_blocks(kv_store_layout(serve->model->kv),
		live_library.base[kind].prompt_count + 1);
	CU_ASSERT_EQUAL(kv_store_layout(serve->model->kv)->pages_per_block, 1);
	most = serve->block_max + (uint32_t)pages;
	left = (uint32_t)pages - 1;
	count = (most - left + need - 1) / need;
	CU_ASSERT_FATAL(count >= 2 && count <= 4);
	live_leave(w);
	options = w->stage.options;
	live_close(w);
	options.pool_bytes =
		(count * need + left) * (uint64_t)PAGE_SIZE_BYTES_MIN;
	/* Whole prompts, or the first request ends before the last begins. */
	options.budget_percent = 0;
	live_open(w, &options);
	for (uint32_t i = 0; i < SERVE_SLOTS; i++) {
		live_submit(w, i, kind, 0);
		segment_slot(&w->stage.segment, i)->params.tenant[0] =
			(uint8_t)i;
	}
	while (sched_running(w->stage.serve->sched) < count) {
		CU_ASSERT_EQUAL_FATAL(w->finished, 0);
		live_turn(w);
	}
	live_load(w, 1, 0, true);
	live_turn(w);
	/* None of them ends while the loader looks at the files. */
	while (!rank_adapters_due(w->stage.adapters))
		sched_yield();
	live_turn(w);
	CU_ASSERT_EQUAL(w->stage.serve->wanted_pages, pages);
}

static void close_crowded(struct live_world *w)
{
	live_settle(w);
	CU_ASSERT_EQUAL(w->stage.serve->wanted_pages, 0);
	CU_ASSERT_EQUAL(w->finished, SERVE_SLOTS);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_leave(w);
	live_close(w);
	free(w);
}

static void test_live__a_load_waits_for_requests_to_end(void)
{
	struct live_world *w = suite_calloc(1, sizeof(*w));

	open_crowded(w, 3600 * NS_PER_S);
	while (w->next[1])
		live_turn(w);
	CU_ASSERT_EQUAL(w->current[1], 1);
	/* It did not wait for all of them: nothing began in its place. */
	CU_ASSERT(w->finished < SERVE_SLOTS);
	/* There is no room for another: that is said at once. */
	live_load(w, 2, 0, true);
	while (w->next[2])
		live_turn(w);
	CU_ASSERT_EQUAL(w->naive[2].rc, -ENOMEM);
	CU_ASSERT(w->finished < SERVE_SLOTS);
	close_crowded(w);
}

static void test_live__a_load_does_not_wait_for_ever(void)
{
	struct live_world *w = suite_calloc(1, sizeof(*w));

	open_crowded(w, 1);
	while (w->next[1])
		live_turn(w);
	CU_ASSERT_EQUAL(w->naive[1].rc, -ENOMEM);
	CU_ASSERT_EQUAL(w->current[1], 0);
	CU_ASSERT(w->finished < SERVE_SLOTS);
	close_crowded(w);
}

/* --- adapters that go ------------------------------------------------------------------- */

/* The source with the fewest pages, or with the most. */
static uint32_t source_of_size(bool most)
{
	struct engine_serve_options options = live_options();
	struct live_world *w = suite_calloc(1, sizeof(*w));
	uint64_t best = 0;
	uint32_t found = 0;

	live_open(w, &options);
	for (uint32_t s = 0; s < LIVE_SOURCES; s++) {
		uint64_t pages;

		live_must_load(w, 1, s);
		pages = segment_rank_books(&w->stage.segment, 0)->adapter_pages;
		live_leave(w);
		if (s == 0 || (most ? pages > best : pages < best)) {
			best = pages;
			found = s;
		}
	}
	live_close(w);
	free(w);
	return found;
}

/*
 * A pool with room for one of that source; it is there, a request uses it, and
 * it was told to go. Name 1, slot 0.
 */
static void open_leaving(
	struct live_world *w, uint32_t source, uint64_t wait_ns)
{
	uint64_t pages;

	open_tight(w, 1, source, wait_ns, &pages);
	live_must_load(w, 1, source);
	live_submit(w, 0, longest_kind(), 1);
	while (sched_running(w->stage.serve->sched) == 0)
		live_turn(w);
	live_unload(w, 1, false);
}

static void close_leaving(struct live_world *w)
{
	live_settle(w);
	CU_ASSERT_EQUAL(w->wrong, 0);
	CU_ASSERT_EQUAL(w->stage.serve->wanted_pages, 0);
	live_leave(w);
	live_close(w);
	free(w);
}

/* The one that is done first. */
static uint32_t shortest_kind(void)
{
	const struct serve_kind *kinds = live_library.base;
	uint32_t shortest = 0;

	for (uint32_t k = 1; k < SERVE_KINDS; k++)
		if (kinds[k].prompt_count + 8 * kinds[k].output_count <
			kinds[shortest].prompt_count +
				8 * kinds[shortest].output_count)
			shortest = k;
	return shortest;
}

static void test_live__a_load_waits_for_an_adapter_that_goes(void)
{
	struct live_world *w = suite_calloc(1, sizeof(*w));

	open_leaving(w, 0, 3600 * NS_PER_S);
	live_load(w, 2, 0, true);
	/* The base is served meanwhile. */
	live_submit(w, 1, shortest_kind(), 0);
	while (w->stage.kind[1] != SERVE_KINDS)
		live_turn(w);
	CU_ASSERT_EQUAL(w->finished, 1);
	CU_ASSERT_NOT_EQUAL(w->next[2], 0);
	for (uint32_t i = 0; w->next[2]; i++) {
		CU_ASSERT_FATAL(i < 1000000);
		live_turn(w);
	}
	CU_ASSERT_EQUAL(w->refused, 0);
	CU_ASSERT_NOT_EQUAL(w->current[2], 0);
	CU_ASSERT_EQUAL(w->finished, 2);
	CU_ASSERT_EQUAL(w->dropped, 1);
	live_submit(w, 0, 2, 2);
	close_leaving(w);
}

static void test_live__but_not_for_ever(void)
{
	struct live_world *w = suite_calloc(1, sizeof(*w));

	open_leaving(w, 0, 1);
	live_load(w, 2, 0, true);
	while (w->next[2])
		live_turn(w);
	CU_ASSERT_EQUAL(w->refused, 1);
	CU_ASSERT_EQUAL(w->finished, 0);
	CU_ASSERT_EQUAL(w->dropped, 0);
	live_settle(w);
	/* Its end is still an end. */
	live_must_load(w, 2, 0);
	close_leaving(w);
}

/* What goes is less than what is needed, or does not go before we do. */
static void test_live__nobody_waits_for_what_does_not_help(void)
{
	struct live_world *w = suite_calloc(1, sizeof(*w));
	uint32_t small = source_of_size(false);

	open_leaving(w, small, 3600 * NS_PER_S);
	live_load(w, 2, source_of_size(true), true);
	while (w->next[2])
		live_turn(w);
	CU_ASSERT_EQUAL(w->naive[2].rc, -ENOMEM);
	CU_ASSERT_EQUAL(w->finished, 0);
	live_settle(w);
	/* The one behind it was told to stop: it has no page to give. */
	live_must_load(w, 1, small);
	live_load(w, 2, small, true);
	live_load(w, 3, small, true);
	live_post_drop(w, w->next[3], false);
	for (uint32_t i = 0; w->next[2]; i++) {
		CU_ASSERT_FATAL(i < 1000000);
		live_turn(w);
	}
	CU_ASSERT_EQUAL(w->refused, 3);
	close_leaving(w);
}

/* --- faults ------------------------------------------------------------------------------ */

/* The n-th effect on memory fails: the host's own functions, counted. */
static struct {
	const struct vmm_ops *real;
	struct vmm_ops ops;
	uint64_t left; /* calls until one fails, 0 = none does */
	bool failed;
} faulty;

static bool fails(void)
{
	uint64_t left = __atomic_load_n(&faulty.left, __ATOMIC_RELAXED);

	if (left > 0)
		__atomic_store_n(&faulty.left, left - 1, __ATOMIC_RELAXED);
	if (left == 1)
		faulty.failed = true;
	return left == 1;
}

static int fail_map(struct vmm *vmm, vmm_addr addr, size_t size_bytes,
	struct vmm_handle handle)
{
	return fails() ? -ENOMEM
		       : faulty.real->map(vmm, addr, size_bytes, handle);
}

static int fail_access(struct vmm *vmm, vmm_addr addr, size_t size_bytes)
{
	return fails() ? -ENOMEM
		       : faulty.real->set_access(vmm, addr, size_bytes);
}

static int fail_fence(struct vmm *vmm)
{
	return fails() ? -EIO : faulty.real->fence(vmm);
}

static int fail_copy(
	struct vmm *vmm, vmm_addr to, const void *from, size_t size_bytes)
{
	return fails() ? -EIO : faulty.real->copy_in(vmm, to, from, size_bytes);
}

static int fail_clear(struct vmm *vmm, vmm_addr at, size_t size_bytes)
{
	return fails() ? -EIO : faulty.real->clear(vmm, at, size_bytes);
}

static void make_faulty(struct live_world *w)
{
	struct vmm *vmm = &w->stage.serve->vmm;

	faulty.real = vmm->ops;
	faulty.ops = *vmm->ops;
	faulty.ops.map = fail_map;
	faulty.ops.set_access = fail_access;
	faulty.ops.fence = fail_fence;
	faulty.ops.copy_in = fail_copy;
	faulty.ops.clear = fail_clear;
	vmm->ops = &faulty.ops;
}

/* Nothing of a failed load is left, and what was there is as it was. */
static void test_live__every_effect_of_a_load_fails_once(void)
{
	struct engine_serve_options options = live_options();
	struct live_world *w = suite_calloc(1, sizeof(*w));
	uint32_t failures = 0, survived = 0;
	uint64_t n = 0;

	live_open(w, &options);
	live_must_load(w, 1, 0);
	make_faulty(w);
	do {
		uint32_t refused = w->refused;

		faulty.failed = false;
		faulty.left = ++n;
		live_load(w, 2, 1, true);
		w->naive[w->next[2]].may_fail = true;
		while (w->next[2])
			live_turn(w);
		faulty.left = 0;
		for (uint32_t i = 0; i < 3; i++)
			live_submit(w, i, (uint32_t)(1 + (n + i) % 7), i % 2);
		failures += w->refused > refused;
		survived += faulty.failed && w->refused == refused;
		if (w->current[2])
			live_unload(w, 2, false);
		live_settle(w);
	} while (faulty.failed);
	printf("%u loads failed, %u survived; ", failures, survived);
	CU_ASSERT(failures > 20);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_must_load(w, 2, 1);
	live_submit(w, 0, 3, 2);
	live_settle(w);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_leave(w);
	w->stage.serve->vmm.ops = faulty.real;
	live_close(w);
	free(w);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(live__names_get_their_shares),
		SUITE_CASE(live__pages_become_cache_and_back),
		SUITE_CASE(live__a_load_waits_for_requests_to_end),
		SUITE_CASE(live__a_load_does_not_wait_for_ever),
		SUITE_CASE(live__a_load_waits_for_an_adapter_that_goes),
		SUITE_CASE(live__but_not_for_ever),
		SUITE_CASE(live__nobody_waits_for_what_does_not_help),
		SUITE_CASE(live__every_effect_of_a_load_fails_once),
	};
	int rc;

	log_open("test_live_pool", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
	rc = SUITE_MAIN("live_pool", cases);
	live_library_release();
	return rc;
}
