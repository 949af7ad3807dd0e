/* test_live_adapters.c - adapters come and go while requests are served */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test plays control and dataplane: it has a table of names, binds
 * requests by it, posts loads, replaces and drops, and knows by a naive list
 * what must be there. The truth of a request under an adapter is what an
 * engine whose base was merged with that adapter says to it alone, to the bit.
 * The same commands go to the engine that only pretends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "control/model_dir.h"
#include "engine/rank_adapters.h"
#include "tests/serve_case.h"
#include "tests/suite.h"

#define MODEL "tests/golden/qwen3_moe"
#define SOURCES 4u
#define NAMES 3u /* entries 1 .. NAMES of the table */
#define NUMBERS 8u /* instances 1 .. NUMBERS - 1 */

/* An adapter, and the truth of each kind of request under it. */
struct source {
	struct adapter_case a;
	struct serve_kind *kinds;
};

/* Shared by the cases: what a fixture costs is mostly its truth. */
struct library {
	struct model_config config;
	struct serve_kind *base;
	struct source sources[SOURCES];
	bool made;
};

static struct library library;

enum life { LIFE_NONE, LIFE_LOADS, LIFE_THERE, LIFE_LEAVES };

/* What the test knows of an instance. */
struct naive {
	enum life life;
	uint32_t serial, source, entry, drops;
	bool now; /* its requests may end as cancelled */
	bool may_fail; /* its files are not good, or change */
	int rc; /* of its load */
	uint32_t served; /* requests that were told to the engine */
};

struct world {
	struct serve_stage stage;
	struct engine_mail *mail;
	struct naive naive[NUMBERS];
	uint32_t current[NAMES + 1]; /* instance of a name, 0 = none */
	uint32_t next[NAMES + 1]; /* that is being loaded for it */
	uint32_t serial;
	/* of the request in a slot */
	uint32_t carries[SERVE_SLOTS], serial_of[SERVE_SLOTS];
	uint32_t source_of[SERVE_SLOTS];
	bool first_of[SERVE_SLOTS];
	uint64_t random;
	uint32_t finished, cancelled, loaded, refused, dropped, replaced;
	uint32_t kills, wrong, cached, foreign_hits;
};

/* --- truth ------------------------------------------------------------------------- */

static void read_config(struct model_config *out)
{
	struct generation_config generation;
	struct model_files files;
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(model_dir_open(MODEL, &files, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_read_config(&files, out, &generation, &err), 0);
	model_files_close(&files);
}

static void make_library(uint64_t seed)
{
	uint64_t state = seed;

	if (library.made)
		return;
	library.made = true;
	read_config(&library.config);
	library.base = suite_calloc(SERVE_KINDS, sizeof(*library.base));
	serve_kinds_make(library.base, &state);
	for (uint32_t s = 0; s < SOURCES; s++) {
		struct source *source = &library.sources[s];
		struct adapter_case_options options = {
			.seed = suite_random(&state),
			.type = s % 2 ? DTYPE_F32 : DTYPE_BF16,
			.file_count = 1 + s % 2,
			.layer_expert_max = 4,
		};

		adapter_case_make(&source->a, &library.config, &options);
		source->kinds =
			suite_calloc(SERVE_KINDS, sizeof(*source->kinds));
		memcpy(source->kinds, library.base,
			SERVE_KINDS * sizeof(*source->kinds));
		for (uint32_t k = 0; k < SERVE_KINDS; k++)
			serve_kind_alone(&source->kinds[k], MODEL, &source->a);
	}
	for (uint32_t k = 0; k < SERVE_KINDS; k++)
		serve_kind_alone(&library.base[k], MODEL, NULL);
}

static void drop_library(void)
{
	for (uint32_t s = 0; library.made && s < SOURCES; s++) {
		adapter_case_release(&library.sources[s].a);
		free(library.sources[s].kinds);
	}
	free(library.base);
}

static const struct serve_kind *truth_of(const struct world *w, uint32_t index)
{
	uint32_t kind = w->stage.kind[index];

	return w->carries[index] == 0
		       ? &library.base[kind]
		       : &library.sources[w->source_of[index]].kinds[kind];
}

/* --- control's part ------------------------------------------------------------------ */

static void post_drop(struct world *w, uint32_t number, bool now)
{
	struct naive *it = &w->naive[number];
	struct engine_command command = {.kind = ENGINE_ADAPTER_DROP,
		.instance = number,
		.serial = it->serial,
		.now = now};

	adapter_files_init(&command.files);
	it->drops++;
	it->now = it->now || now;
	if (it->life == LIFE_THERE)
		it->life = LIFE_LEAVES;
	CU_ASSERT_EQUAL(engine_mail_post(w->mail, &command), 0);
}

static void hear_load(
	struct world *w, struct naive *it, const struct engine_answer *answer)
{
	uint32_t number = answer->instance, old = w->current[it->entry];

	CU_ASSERT_EQUAL(it->life, LIFE_LOADS);
	it->rc = answer->rc;
	if (answer->rc) {
		w->refused++;
		CU_ASSERT_NOT_EQUAL(answer->err.text[0], '\0');
		CU_ASSERT(it->may_fail || answer->rc == -ENOMEM ||
			  (answer->rc == -ECANCELED && it->drops > 0));
		it->life = it->drops ? LIFE_LEAVES : LIFE_NONE;
	} else {
		w->loaded++;
		it->life = it->drops ? LIFE_LEAVES : LIFE_THERE;
	}
	if (w->next[it->entry] != number)
		return;
	w->next[it->entry] = 0;
	if (answer->rc)
		return;
	/* From here on the name is bound to the new one. */
	w->current[it->entry] = number;
	if (old) {
		w->replaced++;
		post_drop(w, old, suite_below(&w->random, 4) == 0);
	}
}

static void hear(void *arg, const struct engine_answer *answer)
{
	struct world *w = arg;
	struct naive *it;

	CU_ASSERT_FATAL(answer->instance >= 1 && answer->instance < NUMBERS);
	it = &w->naive[answer->instance];
	CU_ASSERT_EQUAL(answer->serial, it->serial);
	if (answer->kind == ENGINE_ADAPTER_LOAD) {
		hear_load(w, it, answer);
		return;
	}
	CU_ASSERT_EQUAL(answer->rc, 0);
	CU_ASSERT_EQUAL(it->life, LIFE_LEAVES);
	CU_ASSERT_FATAL(it->drops > 0);
	/* Nobody carries it, and nothing of it is in the books. */
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		if (w->stage.kind[i] != SERVE_KINDS &&
			w->carries[i] == answer->instance &&
			w->serial_of[i] == it->serial)
			CU_ASSERT_TRUE(
				!rank_is_live(&w->stage.rank->requests[i]));
	CU_ASSERT_FALSE(adapter_book_read(
		segment_rank_books(&w->stage.segment, 0), answer->instance,
		it->serial, &(struct adapter_book){0}));
	if (--it->drops == 0) {
		w->dropped++;
		*it = (struct naive){0};
	}
}

static void open_mail(struct world *w)
{
	CU_ASSERT_EQUAL_FATAL(engine_mail_create(segment_wake(&w->stage.segment,
							 ROLE_INDEX_RANK0),
				      hear, w, &w->mail),
		0);
	w->stage.place.mail = w->mail;
}

static void post_load(struct world *w, uint32_t number)
{
	struct naive *it = &w->naive[number];
	struct engine_command command = {.kind = ENGINE_ADAPTER_LOAD,
		.instance = number,
		.serial = it->serial,
		.entry = it->entry,
		.weight = 1 + suite_below(&w->random, 5)};

	snprintf(command.name, sizeof(command.name), "name %u", it->entry);
	adapter_case_open(&library.sources[it->source].a, &command.files);
	if (it->may_fail) {
		struct model_files *model = &command.files.model;
		uint64_t size = model->weights[0].size_bytes;

		/* Shorter from now on, or from the beginning. */
		CU_ASSERT_EQUAL(
			ftruncate(model->weights[0].fd,
				(off_t)suite_below(&w->random, (uint32_t)size)),
			0);
		if (suite_below(&w->random, 2))
			command.files.experts.size_bytes /= 2;
	}
	it->life = LIFE_LOADS;
	CU_ASSERT_EQUAL(engine_mail_post(w->mail, &command), 0);
}

/* A new instance for a name, which has one or not. */
static void load_name(struct world *w, uint32_t entry, uint32_t source)
{
	uint32_t number = 1;

	while (number < NUMBERS && w->naive[number].life != LIFE_NONE)
		number++;
	if (number == NUMBERS || w->next[entry])
		return;
	w->naive[number] = (struct naive){
		.serial = ++w->serial, .source = source, .entry = entry};
	w->next[entry] = number;
	w->naive[number].may_fail =
		suite_below(&w->random, 8) == 0 && !w->stage.pretends;
	post_load(w, number);
}

static void unload_name(struct world *w, uint32_t entry, bool now)
{
	uint32_t number = w->current[entry];

	if (number == 0)
		return;
	w->current[entry] = 0;
	post_drop(w, number, now);
}

/* --- fixture -------------------------------------------------------------------------- */

static struct engine_serve_options with_adapters(void)
{
	struct engine_serve_options options = serve_stage_plain;

	options.adapter_count = NUMBERS - 1;
	options.adapter_slot_count = 64;
	options.pool_bytes = 260 * PAGE_SIZE_BYTES_MIN;
	options.load_wait_ns = 20 * NS_PER_MS;
	return options;
}

static void open_world(
	struct world *w, const struct engine_serve_options *options)
{
	*w = (struct world){.random = suite_seed(20261122)};
	make_library(w->random);
	serve_stage_open(&w->stage, MODEL, options, NULL);
	serve_stage_kill(&w->stage);
	open_mail(w);
	serve_stage_engine(&w->stage);
}

static void close_world(struct world *w)
{
	serve_stage_close(&w->stage);
	engine_mail_destroy(w->mail);
}

static void check(struct world *w)
{
	const struct rank_books *books =
		segment_rank_books(&w->stage.segment, 0);

	rank_adapters_check(w->stage.adapters);
	if (!w->stage.pretends)
		serve_adapters_check(w->stage.serve);
	CU_ASSERT_EQUAL(books->base_pages + books->adapter_pages +
				books->kv_held_pages + books->kv_idle_pages +
				books->free_pages,
		books->page_count);
}

static void submit(
	struct world *w, uint32_t index, uint32_t kind, uint32_t entry)
{
	struct request_slot *slot =
		serve_stage_prepare(&w->stage, index, &library.base[kind]);
	uint32_t number = entry ? w->current[entry] : 0;

	w->stage.kind[index] = kind;
	w->carries[index] = number;
	w->serial_of[index] = w->naive[number].serial;
	w->source_of[index] = w->naive[number].source;
	w->first_of[index] = number && w->naive[number].served++ == 0;
	slot->instance = number;
	slot->epoch = number ? w->naive[number].serial : 0;
	slot->name = entry;
	serve_stage_tell(&w->stage, RING_SUBMIT, index);
}

/* What became of a request whose end was told. */
static void judge(struct world *w, uint32_t index)
{
	struct serve_stage *stage = &w->stage;
	struct request_slot *slot = segment_slot(&stage->segment, index);
	bool may_end = stage->cancelled[index];

	CU_ASSERT_EQUAL(stage->done[index] > 0, true);
	CU_ASSERT_EQUAL(stage->told[index], slot->output_count);
	if (slot->finish == FINISH_CANCELLED && may_end) {
		w->cancelled++;
	} else if (stage->pretends) {
		w->finished++;
		w->wrong += slot->engine_state != ENGINE_FINISHED;
	} else {
		w->finished++;
		w->wrong += serve_kind_wrong(stage, index, truth_of(w, index));
		w->cached += slot->cached_count > 0;
		w->foreign_hits += slot->cached_count > 0 && w->first_of[index];
	}
	slot->front_state = FRONT_FREE;
	stage->kind[index] = SERVE_KINDS;
}

static void turn(struct world *w)
{
	for (uint32_t i = 0; i < SERVE_SLOTS; i++) {
		const struct naive *it = &w->naive[w->carries[i]];

		if (w->carries[i] && it->serial == w->serial_of[i] && it->now)
			w->stage.cancelled[i] = true;
	}
	serve_stage_turn(&w->stage);
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		if (w->stage.kind[i] != SERVE_KINDS && w->stage.done[i])
			judge(w, i);
	check(w);
}

static bool anything_left(const struct world *w)
{
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		if (w->stage.kind[i] != SERVE_KINDS)
			return true;
	for (uint32_t i = 1; i < NUMBERS; i++)
		if (w->naive[i].life == LIFE_LOADS ||
			w->naive[i].life == LIFE_LEAVES)
			return true;
	return false;
}

/* Let everything come to its end. */
static void settle(struct world *w)
{
	for (uint32_t i = 0; anything_left(w); i++) {
		CU_ASSERT_FATAL(i < 1000000);
		turn(w);
	}
}

static void must_load(struct world *w, uint32_t entry, uint32_t source)
{
	uint64_t random = w->random;
	uint32_t before = w->loaded;

	/* Good files, whatever chance says. */
	do {
		load_name(w, entry, source);
		for (uint32_t i = 0; w->next[entry]; i++) {
			CU_ASSERT_FATAL(i < 1000000);
			turn(w);
		}
	} while (w->loaded == before);
	w->random = random + 1;
}

/* All names go; not a page is left. */
static void leave(struct world *w)
{
	for (uint32_t e = 1; e <= NAMES; e++)
		unload_name(w, e, false);
	settle(w);
	for (uint32_t e = 1; e <= NAMES; e++)
		unload_name(w, e, false);
	settle(w);
	if (!w->stage.pretends)
		CU_ASSERT_EQUAL(page_pool_count(w->stage.serve->model->pool,
					PAGE_EXPERTS),
			0);
	CU_ASSERT_EQUAL(
		segment_rank_books(&w->stage.segment, 0)->adapter_pages, 0);
}

/* --- one at a time --------------------------------------------------------------------- */

static void check_woven(bool pretends)
{
	struct engine_serve_options options = with_adapters();
	struct world *w = suite_calloc(1, sizeof(*w));

	open_world(w, pretends ? NULL : &options);
	for (uint32_t e = 1; e <= NAMES; e++)
		must_load(w, e, e - 1);
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		submit(w, i, 1 + i % (SERVE_KINDS - 1), i % (NAMES + 1));
	settle(w);
	CU_ASSERT_EQUAL(w->finished, SERVE_SLOTS);
	CU_ASSERT_EQUAL(w->wrong, 0);
	leave(w);
	close_world(w);
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
	struct engine_serve_options options = with_adapters();
	struct world *w = suite_calloc(1, sizeof(*w));
	struct adapter_book book;
	uint32_t number;

	open_world(w, pretends ? NULL : &options);
	must_load(w, 1, 0);
	number = w->current[1];
	submit(w, 0, 3, 1);
	submit(w, 1, 4, 1);
	for (uint32_t i = 0; i < 5; i++)
		turn(w);
	/* One that is in the ring when the drop comes counts, too. */
	submit(w, 2, 5, 1);
	unload_name(w, 1, false);
	turn(w);
	turn(w);
	CU_ASSERT_TRUE(
		adapter_book_read(segment_rank_books(&w->stage.segment, 0),
			number, w->serial, &book));
	CU_ASSERT_EQUAL(book.state, ADAPTER_DRAINING);
	CU_ASSERT_TRUE(book.user_count > 0);
	CU_ASSERT_TRUE(book.since_ns[ADAPTER_DRAINING] >=
		       book.since_ns[ADAPTER_RESIDENT]);
	CU_ASSERT_EQUAL(w->dropped, 0);
	settle(w);
	CU_ASSERT_EQUAL(w->dropped, 1);
	CU_ASSERT_EQUAL(w->finished, 3);
	CU_ASSERT_EQUAL(w->wrong, 0);
	/* Now: they end, within a step or two. */
	must_load(w, 1, 1);
	submit(w, 0, 3, 1);
	submit(w, 1, 3, 0);
	for (uint32_t i = 0; i < 5; i++)
		turn(w);
	unload_name(w, 1, true);
	for (uint32_t i = 0; i < 4; i++)
		turn(w);
	CU_ASSERT_EQUAL(w->cancelled, 1);
	CU_ASSERT_EQUAL(w->dropped, 2);
	settle(w);
	CU_ASSERT_EQUAL(w->finished, 4);
	CU_ASSERT_EQUAL(w->wrong, 0);
	leave(w);
	close_world(w);
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
	struct engine_serve_options options = with_adapters();
	struct world *w = suite_calloc(1, sizeof(*w));
	/* Instance, and how far beside the serial of the one that is there. */
	static const uint32_t bad[][2] = {{1, 1}, {2, 0}, {0, 0},
		{INSTANCE_COUNT_MAX, 0}, {UINT32_MAX, 7}};

	for (int pretends = 0; pretends < 2; pretends++) {
		open_world(w, pretends ? NULL : &options);
		must_load(w, 1, 0);
		CU_ASSERT_EQUAL(w->current[1], 1);
		for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			struct request_slot *slot = serve_stage_prepare(
				&w->stage, 0, &library.base[1]);

			slot->instance = bad[i][0];
			slot->epoch = w->serial + bad[i][1];
			serve_stage_tell(&w->stage, RING_SUBMIT, 0);
			while (!w->stage.done[0])
				serve_stage_turn(&w->stage);
			CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FAILED);
			CU_ASSERT_EQUAL(slot->finish, FINISH_ENGINE_LOST);
		}
		/* A name beyond the table. */
		serve_stage_prepare(&w->stage, 0, &library.base[1])->name =
			ADAPTER_ENTRY_COUNT_MAX;
		serve_stage_tell(&w->stage, RING_SUBMIT, 0);
		while (!w->stage.done[0])
			serve_stage_turn(&w->stage);
		segment_slot(&w->stage.segment, 0)->name = 0;
		submit(w, 0, 1, 1);
		settle(w);
		CU_ASSERT_EQUAL(w->finished, 1);
		CU_ASSERT_EQUAL(w->wrong, 0);
		leave(w);
		close_world(w);
	}
	free(w);
}

/* --- anything, in any order ------------------------------------------------------------- */

static void random_submit(struct world *w)
{
	uint32_t index = suite_below(&w->random, SERVE_SLOTS);

	if (w->stage.kind[index] != SERVE_KINDS)
		return;
	submit(w, index, suite_below(&w->random, SERVE_KINDS),
		suite_below(&w->random, NAMES + 1));
}

static void random_cancel(struct world *w)
{
	uint32_t index = suite_below(&w->random, SERVE_SLOTS);

	if (w->stage.kind[index] == SERVE_KINDS || w->stage.done[index])
		return;
	w->stage.cancelled[index] = true;
	serve_stage_tell(&w->stage, RING_CANCEL, index);
}

static void random_weight(struct world *w)
{
	struct engine_command command = {.kind = ENGINE_ADAPTER_WEIGHT,
		.entry = suite_below(&w->random, NAMES + 1),
		.weight = 1 + suite_below(&w->random, ADAPTER_WEIGHT_MAX)};

	adapter_files_init(&command.files);
	CU_ASSERT_EQUAL(engine_mail_post(w->mail, &command), 0);
}

/* A load that is on its way, or a drop that waits, hears of another drop. */
static void random_drop(struct world *w)
{
	uint32_t number = 1 + suite_below(&w->random, NUMBERS - 1);
	enum life life = w->naive[number].life;

	if (life == LIFE_LOADS || life == LIFE_LEAVES)
		post_drop(w, number, suite_below(&w->random, 2));
}

/* The next life is told first of all that was there or on its way. */
static void kill(struct world *w)
{
	enum life was[NUMBERS];
	uint32_t loads = 0;

	serve_stage_kill(&w->stage);
	engine_mail_destroy(w->mail);
	open_mail(w);
	for (uint32_t i = 1; i < NUMBERS; i++) {
		struct naive *it = &w->naive[i];

		was[i] = it->life;
		it->may_fail = false;
		if (was[i] < LIFE_THERE)
			continue;
		post_load(w, i);
		loads++;
	}
	/* What was on its way begins again, behind those. */
	for (uint32_t i = 1; i < NUMBERS; i++)
		if (was[i] == LIFE_LOADS)
			post_load(w, i);
	for (uint32_t i = 1; i < NUMBERS; i++) {
		uint32_t drops = w->naive[i].drops;

		/* Counted again. */
		for (w->naive[i].drops = 0; drops > 0; drops--)
			post_drop(w, i, w->naive[i].now);
	}
	w->stage.options.first_loads = loads;
	serve_stage_engine(&w->stage);
	w->kills++;
}

static void disturb(struct world *w, bool kills)
{
	uint32_t entry = 1 + suite_below(&w->random, NAMES);

	switch (suite_below(&w->random, 24)) {
	case 0:
		load_name(w, entry, suite_below(&w->random, SOURCES));
		break;
	case 1:
		unload_name(w, entry, suite_below(&w->random, 4) == 0);
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

static void check_random(bool pretends, bool kills, uint32_t turns)
{
	struct engine_serve_options options = with_adapters();
	struct world *w = suite_calloc(1, sizeof(*w));

	open_world(w, pretends ? NULL : &options);
	for (uint32_t i = 0; i < turns; i++) {
		disturb(w, kills);
		if (suite_below(&w->random, 2))
			disturb(w, false);
		turn(w);
	}
	settle(w);
	printf("%u served, %u ended early, %u with a prefix found, %u loads, "
	       "%u refused, %u replaced, %u dropped, %u lives; ",
		w->finished, w->cancelled, w->cached, w->loaded, w->refused,
		w->replaced, w->dropped, w->kills + 1);
	CU_ASSERT_EQUAL(w->wrong, 0);
	CU_ASSERT_EQUAL(w->foreign_hits, 0);
	CU_ASSERT(w->finished > turns / 50 && w->cancelled > turns / 100);
	CU_ASSERT(w->replaced > 3 && w->dropped > turns / 200);
	CU_ASSERT(pretends || (w->cached > 0 && w->refused > 0));
	CU_ASSERT_EQUAL(w->kills > 0, kills);
	leave(w);
	close_world(w);
	free(w);
}

static void test_live__the_same_bits_whatever_comes_and_goes(void)
{
	check_random(false, false, 4000);
}

static void test_live__the_same_bits_after_any_death(void)
{
	check_random(false, true, 3000);
}

static void test_live__the_pretending_engine_through_anything(void)
{
	check_random(true, false, 40000);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(live__mixed_requests_say_what_the_merged_say),
		SUITE_CASE(live__the_pretending_engine_takes_the_same_commands),
		SUITE_CASE(live__a_drop_waits_for_its_users_or_ends_them),
		SUITE_CASE(live__and_so_does_the_pretending_engine),
		SUITE_CASE(live__a_request_of_no_instance),
		SUITE_CASE(live__the_same_bits_whatever_comes_and_goes),
		SUITE_CASE(live__the_same_bits_after_any_death),
		SUITE_CASE(live__the_pretending_engine_through_anything),
	};
	int rc;

	log_open("test_live_adapters", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
	rc = SUITE_MAIN("live_adapters", cases);
	drop_library();
	return rc;
}
