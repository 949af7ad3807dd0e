/* test_live_adapters.c - adapters come and go while requests are served */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By the book, one command at a time; then anything in any order, with lives
 * that end in the middle. The engine that only pretends hears the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/live_case.h"
#include "tests/suite.h"

/* --- one at a time --------------------------------------------------------------------- */

static void check_woven(bool pretends)
{
	struct engine_serve_options options = live_options();
	struct live_world *w = suite_calloc(1, sizeof(*w));

	live_open(w, pretends ? NULL : &options);
	for (uint32_t e = 1; e <= LIVE_NAMES; e++)
		live_must_load(w, e, e - 1);
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		live_submit(
			w, i, 1 + i % (SERVE_KINDS - 1), i % (LIVE_NAMES + 1));
	live_settle(w);
	CU_ASSERT_EQUAL(w->finished, SERVE_SLOTS);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_leave(w);
	live_close(w);
	free(w);
}

static void test_live__mixed_requests_say_what_the_merged_say(void)
{
	check_woven(false);
}

static void test_live__the_pretending_engine_takes_the_same_commands(void)
{
	check_woven(true);
}

static void check_drops(bool pretends)
{
	struct engine_serve_options options = live_options();
	struct live_world *w = suite_calloc(1, sizeof(*w));
	struct adapter_book book;
	uint32_t number;

	live_open(w, pretends ? NULL : &options);
	live_must_load(w, 1, 0);
	number = w->current[1];
	live_submit(w, 0, 3, 1);
	live_submit(w, 1, 4, 1);
	for (uint32_t i = 0; i < 5; i++)
		live_turn(w);
	/* One that is in the ring when the drop comes counts, too. */
	live_submit(w, 2, 5, 1);
	live_unload(w, 1, false);
	live_turn(w);
	live_turn(w);
	CU_ASSERT_TRUE(
		adapter_book_read(segment_rank_books(&w->stage.segment, 0),
			number, w->serial, &book));
	CU_ASSERT_EQUAL(book.state, ADAPTER_DRAINING);
	CU_ASSERT_TRUE(book.user_count > 0);
	CU_ASSERT_TRUE(book.since_ns[ADAPTER_DRAINING] >=
		       book.since_ns[ADAPTER_RESIDENT]);
	CU_ASSERT_EQUAL(w->dropped, 0);
	live_settle(w);
	CU_ASSERT_EQUAL(w->dropped, 1);
	CU_ASSERT_EQUAL(w->finished, 3);
	CU_ASSERT_EQUAL(w->wrong, 0);
	/* Now: they end, within a step or two. */
	live_must_load(w, 1, 1);
	live_submit(w, 0, 3, 1);
	live_submit(w, 1, 3, 0);
	for (uint32_t i = 0; i < 5; i++)
		live_turn(w);
	live_unload(w, 1, true);
	for (uint32_t i = 0; i < 4; i++)
		live_turn(w);
	CU_ASSERT_EQUAL(w->cancelled, 1);
	CU_ASSERT_EQUAL(w->dropped, 2);
	live_settle(w);
	CU_ASSERT_EQUAL(w->finished, 4);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_leave(w);
	live_close(w);
	free(w);
}

static void test_live__a_drop_waits_for_its_users_or_ends_them(void)
{
	check_drops(false);
}

static void test_live__and_so_does_the_pretending_engine(void)
{
	check_drops(true);
}

/* Bound to what is not there, or was: it fails, alone. */
static void test_live__a_request_of_no_instance(void)
{
	struct engine_serve_options options = live_options();
	struct live_world *w = suite_calloc(1, sizeof(*w));
	/* Instance, and how far beside the serial of the one that is there. */
	static const uint32_t bad[][2] = {{1, 1}, {2, 0}, {0, 0},
		{INSTANCE_COUNT_MAX, 0}, {UINT32_MAX, 7}};

	for (int pretends = 0; pretends < 2; pretends++) {
		live_open(w, pretends ? NULL : &options);
		live_must_load(w, 1, 0);
		CU_ASSERT_EQUAL(w->current[1], 1);
		for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			struct request_slot *slot = serve_stage_prepare(
				&w->stage, 0, &live_library.base[1]);

			slot->instance = bad[i][0];
			slot->epoch = w->serial + bad[i][1];
			serve_stage_tell(&w->stage, RING_SUBMIT, 0);
			while (!w->stage.done[0])
				serve_stage_turn(&w->stage);
			CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FAILED);
			CU_ASSERT_EQUAL(slot->finish, FINISH_ENGINE_LOST);
		}
		/* A name beyond the table. */
		serve_stage_prepare(&w->stage, 0, &live_library.base[1])->name =
			ADAPTER_ENTRY_COUNT_MAX;
		serve_stage_tell(&w->stage, RING_SUBMIT, 0);
		while (!w->stage.done[0])
			serve_stage_turn(&w->stage);
		segment_slot(&w->stage.segment, 0)->name = 0;
		live_submit(w, 0, 1, 1);
		live_settle(w);
		CU_ASSERT_EQUAL(w->finished, 1);
		CU_ASSERT_EQUAL(w->wrong, 0);
		live_leave(w);
		live_close(w);
	}
	free(w);
}

/* --- anything, in any order ------------------------------------------------------------- */

static void random_submit(struct live_world *w)
{
	uint32_t index = suite_below(&w->random, SERVE_SLOTS);

	if (w->stage.kind[index] != SERVE_KINDS)
		return;
	live_submit(w, index, suite_below(&w->random, SERVE_KINDS),
		suite_below(&w->random, LIVE_NAMES + 1));
}

static void random_cancel(struct live_world *w)
{
	uint32_t index = suite_below(&w->random, SERVE_SLOTS);

	if (w->stage.kind[index] == SERVE_KINDS || w->stage.done[index])
		return;
	w->stage.cancelled[index] = true;
	serve_stage_tell(&w->stage, RING_CANCEL, index);
}

static void random_weight(struct live_world *w)
{
	struct engine_command command = {.kind = ENGINE_ADAPTER_WEIGHT,
		.entry = suite_below(&w->random, LIVE_NAMES + 1),
		.weight = 1 + suite_below(&w->random, ADAPTER_WEIGHT_MAX)};

	adapter_files_init(&command.files);
	CU_ASSERT_EQUAL(engine_mail_post(w->mail, &command), 0);
}

/* A load that is on its way, or a drop that waits, hears of another drop. */
static void random_drop(struct live_world *w)
{
	uint32_t number = 1 + suite_below(&w->random, LIVE_NUMBERS - 1);
	enum live_life life = w->naive[number].life;

	if (life == LIFE_LOADS || life == LIFE_LEAVES)
		live_post_drop(w, number, suite_below(&w->random, 2));
}

/* The next life is told first of all that was there or on its way. */
static void kill(struct live_world *w)
{
	enum live_life was[LIVE_NUMBERS];
	uint32_t loads = 0;

	serve_stage_kill(&w->stage);
	/* Of those who go on another may be before the one who was first. */
	memset(w->first_of, 0, sizeof(w->first_of));
	engine_mail_destroy(w->mail);
	live_open_mail(w);
	for (uint32_t i = 1; i < LIVE_NUMBERS; i++) {
		struct live_naive *it = &w->naive[i];

		was[i] = it->life;
		it->may_fail = false;
		if (was[i] < LIFE_THERE)
			continue;
		live_post_load(w, i);
		loads++;
	}
	/* What was on its way begins again, behind those. */
	for (uint32_t i = 1; i < LIVE_NUMBERS; i++)
		if (was[i] == LIFE_LOADS)
			live_post_load(w, i);
	for (uint32_t i = 1; i < LIVE_NUMBERS; i++) {
		uint32_t drops = w->naive[i].drops;

		/* Counted again. */
		for (w->naive[i].drops = 0; drops > 0; drops--)
			live_post_drop(w, i, w->naive[i].now);
	}
	w->stage.options.first_loads = loads;
	serve_stage_engine(&w->stage);
	w->kills++;
}

static void disturb(struct live_world *w, bool kills)
{
	uint32_t entry = 1 + suite_below(&w->random, LIVE_NAMES);

	switch (suite_below(&w->random, 24)) {
	case 0:
		live_load(w, entry, suite_below(&w->random, LIVE_SOURCES),
			suite_below(&w->random, 8) || w->stage.pretends);
		break;
	case 1:
		live_unload(w, entry, suite_below(&w->random, 4) == 0);
		break;
	case 2:
		random_drop(w);
		break;
	case 3:
		random_cancel(w);
		break;
	case 4:
		random_weight(w);
		break;
	case 5:
		if (kills && suite_below(&w->random, 10) == 0)
			kill(w);
		break;
	default:
		random_submit(w);
	}
}

static void check_random(
	const struct engine_serve_options *options, bool kills, uint32_t turns)
{
	struct live_world *w = suite_calloc(1, sizeof(*w));
	bool pretends = !options;
	/* A block of a large page is longer than a request: none is shared; and
	 * few fit, so that what happens how often hangs on who is slow. */
	bool large = options && options->page_size_bytes > PAGE_SIZE_BYTES_MIN;

	live_open(w, options);
	for (uint32_t i = 0; i < turns; i++) {
		disturb(w, kills);
		if (suite_below(&w->random, 2))
			disturb(w, false);
		live_turn(w);
	}
	live_settle(w);
	printf("%u served, %u ended early, %u with a prefix found, %u loads, "
	       "%u refused, %u replaced, %u dropped, %u lives; ",
		w->finished, w->cancelled, w->cached, w->loaded, w->refused,
		w->replaced, w->dropped, w->kills + 1);
	CU_ASSERT_EQUAL(w->wrong, 0);
	CU_ASSERT_EQUAL(w->foreign_hits, 0);
	CU_ASSERT(w->finished > turns / (large ? 200 : 50));
	CU_ASSERT(w->cancelled > turns / 100);
	CU_ASSERT(large || w->replaced > SUITE_FEWER(2) - 1);
	CU_ASSERT(w->dropped > turns / 200);
	CU_ASSERT(pretends || large || w->cached > 0);
	CU_ASSERT(pretends || w->refused > 0);
	CU_ASSERT_EQUAL(w->kills > 0, kills);
	live_leave(w);
	live_close(w);
	free(w);
}

/* Replaced by what nobody signed: refused, and those who are there go on. */
static void test_live__what_was_not_signed_changes_nothing(void)
{
	struct engine_serve_options options = live_options();
	struct live_world *w = suite_calloc(1, sizeof(*w));

	live_open(w, &options);
	w->signs = true;
	live_must_load(w, 1, 0);
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t before = w->current[1];

		w->changes = i % 4 > 0;
		live_submit(w, 0, i % SERVE_KINDS, 1);
		live_submit(w, 1, i % SERVE_KINDS, 0);
		live_load(w, 1, i % LIVE_SOURCES, true);
		while (w->next[1])
			live_turn(w);
		CU_ASSERT_EQUAL(w->current[1] == before, w->changes);
		live_settle(w);
	}
	CU_ASSERT_EQUAL(w->refused, 75);
	CU_ASSERT_EQUAL(w->replaced, 25);
	CU_ASSERT_EQUAL(w->wrong, 0);
	live_leave(w);
	live_close(w);
	free(w);
}

static void test_live__the_same_bits_whatever_comes_and_goes(void)
{
	const struct engine_serve_options options = live_options();

	check_random(&options, false, SUITE_FEWER(4000));
}

static void test_live__the_same_bits_after_any_death(void)
{
	const struct engine_serve_options options = live_options();

	check_random(&options, true, SUITE_FEWER(3000));
}

/* A page has parts of several layers; each life finds the base's again. */
static void test_live__the_same_bits_in_large_pages(void)
{
	struct engine_serve_options options = live_options();

	options.page_size_bytes = (size_t)2 << 20;
	options.pool_bytes = 40 * options.page_size_bytes;
	options.unmap_bytes = 2 * options.page_size_bytes;
	options.memory_fd = memfd_create("live", MFD_CLOEXEC);
	CU_ASSERT_FATAL(options.memory_fd >= 0);
	check_random(&options, true, SUITE_FEWER(3000));
	close(options.memory_fd);
}

static void test_live__the_pretending_engine_through_anything(void)
{
	check_random(NULL, false, SUITE_FEWER(40000));
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(live__mixed_requests_say_what_the_merged_say),
		SUITE_CASE(live__the_pretending_engine_takes_the_same_commands),
		SUITE_CASE(live__a_drop_waits_for_its_users_or_ends_them),
		SUITE_CASE(live__and_so_does_the_pretending_engine),
		SUITE_CASE(live__a_request_of_no_instance),
		SUITE_CASE(live__what_was_not_signed_changes_nothing),
		SUITE_CASE(live__the_same_bits_whatever_comes_and_goes),
		SUITE_CASE(live__the_same_bits_after_any_death),
		SUITE_CASE(live__the_same_bits_in_large_pages),
		SUITE_CASE(live__the_pretending_engine_through_anything),
	};
	int rc;

	log_open("test_live_adapters", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
	rc = SUITE_MAIN("live_adapters", cases);
	live_library_release();
	return rc;
}
