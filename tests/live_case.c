/* live_case.c - control and dataplane of adapters that come and go, for tests */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/model_dir.h"
#include "tests/live_case.h"
#include "tests/suite.h"

#define MODEL "tests/golden/qwen3_moe"

struct live_library live_library;

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

	if (live_library.made)
		return;
	live_library.made = true;
	read_config(&live_library.config);
	live_library.base =
		suite_calloc(SERVE_KINDS, sizeof(*live_library.base));
	serve_kinds_make(live_library.base, &state);
	for (uint32_t s = 0; s < LIVE_SOURCES; s++) {
		struct live_source *source = &live_library.sources[s];
		struct adapter_case_options options = {
			.seed = suite_random(&state),
			.type = s % 2 ? DTYPE_F32 : DTYPE_BF16,
			.file_count = 1 + s % 2,
			.layer_expert_max = 4,
			.every_expert = s == 0, /* some pages */
		};

		adapter_case_make(&source->a, &live_library.config, &options);
		source->kinds =
			suite_calloc(SERVE_KINDS, sizeof(*source->kinds));
		memcpy(source->kinds, live_library.base,
			SERVE_KINDS * sizeof(*source->kinds));
		for (uint32_t k = 0; k < SERVE_KINDS; k++)
			serve_kind_alone(&source->kinds[k], MODEL, &source->a);
	}
	for (uint32_t k = 0; k < SERVE_KINDS; k++)
		serve_kind_alone(&live_library.base[k], MODEL, NULL);
}

void live_library_release(void)
{
	for (uint32_t s = 0; live_library.made && s < LIVE_SOURCES; s++) {
		adapter_case_release(&live_library.sources[s].a);
		free(live_library.sources[s].kinds);
	}
	free(live_library.base);
}

static const struct serve_kind *truth_of(
	const struct live_world *w, uint32_t index)
{
	uint32_t kind = w->stage.kind[index];

	return w->carries[index] == 0
		       ? &live_library.base[kind]
		       : &live_library.sources[w->source_of[index]].kinds[kind];
}

/* --- control's part ------------------------------------------------------------------ */

void live_post_drop(struct live_world *w, uint32_t number, bool now)
{
	struct live_naive *it = &w->naive[number];
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

static void hear_load(struct live_world *w, struct live_naive *it,
	const struct engine_answer *answer)
{
	uint32_t number = answer->instance, old = w->current[it->entry];

	CU_ASSERT_EQUAL(it->life, LIFE_LOADS);
	it->rc = answer->rc;
	if (answer->rc) {
		w->refused++;
		CU_ASSERT_NOT_EQUAL(answer->err.text[0], '\0');
		CU_ASSERT(it->may_fail || answer->rc == -ENOMEM ||
			  (it->changed && answer->rc == -EBADMSG) ||
			  (answer->rc == -ECANCELED && it->drops > 0));
		it->life = it->drops ? LIFE_LEAVES : LIFE_NONE;
	} else {
		w->loaded++;
		CU_ASSERT_FALSE(it->changed);
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
		live_post_drop(w, old, suite_below(&w->random, 4) == 0);
	}
}

static void hear(void *arg, const struct engine_answer *answer)
{
	struct live_world *w = arg;
	struct live_naive *it;

	CU_ASSERT_FATAL(
		answer->instance >= 1 && answer->instance < LIVE_NUMBERS);
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
		*it = (struct live_naive){0};
	}
}

void live_open_mail(struct live_world *w)
{
	CU_ASSERT_EQUAL_FATAL(engine_mail_create(segment_wake(&w->stage.segment,
							 ROLE_INDEX_RANK0),
				      hear, w, &w->mail),
		0);
	w->stage.place.mail = w->mail;
}

/* One bit of one file. */
static void change(struct live_world *w, const struct adapter_files *files)
{
	uint32_t which = suite_below(&w->random, files->model.weight_count + 1);
	const struct model_file *file =
		which ? &files->model.weights[which - 1] : &files->experts;

	adapter_case_flip(
		file, suite_random(&w->random) % (file->size_bytes * 8));
}

void live_post_load(struct live_world *w, uint32_t number)
{
	struct live_naive *it = &w->naive[number];
	struct engine_command command = {.kind = ENGINE_ADAPTER_LOAD,
		.instance = number,
		.serial = it->serial,
		.entry = it->entry,
		.weight = 1 + suite_below(&w->random, 5)};

	snprintf(command.name, sizeof(command.name), "name %u", it->entry);
	adapter_case_open(&live_library.sources[it->source].a, &command.files);
	if (w->signs)
		adapter_case_hash(&command.files);
	if (it->changed)
		change(w, &command.files);
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
void live_load(struct live_world *w, uint32_t entry, uint32_t source, bool good)
{
	uint32_t number = 1;

	while (number < LIVE_NUMBERS && w->naive[number].life != LIFE_NONE)
		number++;
	if (number == LIVE_NUMBERS || w->next[entry])
		return;
	w->naive[number] = (struct live_naive){.serial = ++w->serial,
		.source = source,
		.entry = entry,
		.changed = w->changes};
	w->next[entry] = number;
	w->naive[number].may_fail = !good;
	live_post_load(w, number);
}

void live_unload(struct live_world *w, uint32_t entry, bool now)
{
	uint32_t number = w->current[entry];

	if (number == 0)
		return;
	w->current[entry] = 0;
	live_post_drop(w, number, now);
}

/* --- fixture -------------------------------------------------------------------------- */

struct engine_serve_options live_options(void)
{
	struct engine_serve_options options = serve_stage_plain;

	options.adapter_count = LIVE_NUMBERS - 1;
	options.adapter_slot_count = 80;
	options.pool_bytes = UINT64_C(260) * PAGE_SIZE_BYTES_MIN;
	options.load_wait_ns = 20 * NS_PER_MS;
	options.unmap_bytes = UINT64_C(8) * PAGE_SIZE_BYTES_MIN;
	return options;
}

void live_open(struct live_world *w, const struct engine_serve_options *options)
{
	*w = (struct live_world){.random = suite_seed(20261122)};
	/* The same whatever the seed: what some cases stand on. */
	make_library(20261122);
	serve_stage_open(&w->stage, MODEL, options, NULL);
	serve_stage_kill(&w->stage);
	live_open_mail(w);
	serve_stage_engine(&w->stage);
}

void live_close(struct live_world *w)
{
	serve_stage_close(&w->stage);
	engine_mail_destroy(w->mail);
}

static void check(struct live_world *w)
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

void live_submit(
	struct live_world *w, uint32_t index, uint32_t kind, uint32_t entry)
{
	struct request_slot *slot =
		serve_stage_prepare(&w->stage, index, &live_library.base[kind]);
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
static void judge(struct live_world *w, uint32_t index)
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

void live_turn(struct live_world *w)
{
	for (uint32_t i = 0; i < SERVE_SLOTS; i++) {
		const struct live_naive *it = &w->naive[w->carries[i]];

		if (w->carries[i] && it->serial == w->serial_of[i] && it->now)
			w->stage.cancelled[i] = true;
	}
	serve_stage_turn(&w->stage);
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		if (w->stage.kind[i] != SERVE_KINDS && w->stage.done[i])
			judge(w, i);
	check(w);
}

static bool anything_left(const struct live_world *w)
{
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		if (w->stage.kind[i] != SERVE_KINDS)
			return true;
	for (uint32_t i = 1; i < LIVE_NUMBERS; i++)
		if (w->naive[i].life == LIFE_LOADS ||
			w->naive[i].life == LIFE_LEAVES)
			return true;
	return false;
}

/* Let everything come to its end. */
void live_settle(struct live_world *w)
{
	for (uint32_t i = 0; anything_left(w); i++) {
		CU_ASSERT_FATAL(i < 1000000);
		live_turn(w);
	}
}

void live_must_load(struct live_world *w, uint32_t entry, uint32_t source)
{
	live_load(w, entry, source, true);
	for (uint32_t i = 0; w->next[entry]; i++) {
		CU_ASSERT_FATAL(i < 1000000);
		live_turn(w);
	}
	CU_ASSERT_NOT_EQUAL_FATAL(w->current[entry], 0);
}

/* All names go; not a page is left. */
void live_leave(struct live_world *w)
{
	for (uint32_t e = 1; e <= LIVE_NAMES; e++)
		live_unload(w, e, false);
	live_settle(w);
	for (uint32_t e = 1; e <= LIVE_NAMES; e++)
		live_unload(w, e, false);
	live_settle(w);
	if (!w->stage.pretends)
		CU_ASSERT_EQUAL(page_pool_count(w->stage.serve->model->pool,
					PAGE_EXPERTS),
			0);
	CU_ASSERT_EQUAL(
		segment_rank_books(&w->stage.segment, 0)->adapter_pages, 0);
}
