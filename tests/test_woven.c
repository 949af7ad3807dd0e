/* test_woven.c - a woven adapter computes what the merged model computes */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For each golden family: the truth is a base whose own experts were
 * overwritten in memory (no code of the loader or of merge), one sequence
 * alone. Then random mixes in one engine: rows of the base and of three
 * random adapters in the same steps, while a fourth is loaded, unloaded and
 * replaced (its bytes are copied by another thread, beside the steps) and one
 * of the three is replaced under its requests.
 * Every row's logits must be the same to the bit, on every back end that
 * runs here.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter.h"
#include "tests/adapter_case.h"
#include "tests/engine_case.h"
#include "tests/suite.h"

#define SIDES 5 /* the base, three adapters, and what replaces the third */
#define SEQUENCES 6
#define TOKENS 70
#define ROWS 80

/* A load whose bytes another thread copies while steps run. */
struct copying {
	pthread_t thread;
	struct adapter_files files;
	struct adapter *adapter; /* NULL: there is none */
	struct error err;
	int rc;
};

struct woven {
	const char *directory;
	enum cpu_isa isa;
	struct engine_case c;
	struct adapter_set *set;
	struct adapter_case adapters[SIDES]; /* [0] is not used */
	struct adapter_case guest; /* comes and goes, nobody uses it */
	struct copying copying;
	bool guest_there;
	uint32_t ids[SEQUENCES][TOKENS];
	uint32_t side[SEQUENCES];
	float *truth[SEQUENCES]; /* [TOKENS][vocab] */
	uint64_t state;
	uint32_t wrong, steps;
};

static void open_case(struct woven *w, struct engine_case *c)
{
	struct engine_case_config config = {
		.directory = w->directory,
		.isa = w->isa,
		.kv_type = DTYPE_F32,
		.thread_count = 2,
		.row_count = ROWS,
		.sequence_count = SEQUENCES,
		.token_count = TOKENS,
		.instance_count = 8,
		.adapter_slot_count = 400,
		.adapter_page_count = 800,
	};

	engine_case_open(c, &config);
}

static void must(int rc, const struct error *err)
{
	if (rc)
		printf("error %d: %s; ", rc, err->text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void make_adapters(struct woven *w)
{
	static const enum dtype types[] = {DTYPE_BF16, DTYPE_F32, DTYPE_F16};

	for (uint32_t i = 1; i <= SIDES; i++) {
		struct adapter_case_options options = {
			.seed = suite_random(&w->state),
			.type = types[suite_below(&w->state, 3)],
			.file_count = 1 + suite_below(&w->state, 3),
			.with_model_prefix = suite_below(&w->state, 2) > 0,
			.odd = suite_below(&w->state, 4) == 0,
		};

		adapter_case_make(i == SIDES ? &w->guest : &w->adapters[i],
			&w->c.model->config, &options);
	}
}

/* Each side's sequences alone, on a base that is the merged model. */
static void make_truth(
	struct woven *w, uint32_t side, const struct adapter_case *adapter)
{
	struct engine_case c;
	uint32_t vocab;

	open_case(w, &c);
	vocab = c.model->config.vocab;
	if (adapter)
		adapter_case_merge(adapter, c.model);
	for (uint32_t i = 0; i < SEQUENCES; i++) {
		size_t bytes = (size_t)TOKENS * vocab * sizeof(float);
		struct engine_sequence s;

		if (w->side[i] != side)
			continue;
		w->truth[i] = suite_calloc(1, bytes);
		engine_sequence_open(&c, &s, w->ids[i], TOKENS);
		step_clear(&c.step, 0, 0);
		engine_sequence_step(&c, &s, TOKENS, 0);
		engine_case_run(&c);
		memcpy(w->truth[i], engine_case_logits(&c, 0), bytes);
		engine_sequence_close(&c, &s);
	}
	engine_case_close(&c);
}

static void load(
	struct woven *w, const char *name, struct adapter_case *a, bool replace)
{
	struct adapter_files files;
	struct error err = {0};

	adapter_case_open(a, &files);
	must(replace ? adapter_replace(w->set, name, &files, 2, &err)
		     : adapter_load(w->set, name, &files, 2, &err),
		&err);
	adapter_files_close(&files);
}

static void *copy(void *arg)
{
	struct copying *copying = arg;
	struct reader_info info;

	copying->rc =
		adapter_copy(copying->adapter, 1, NULL, &info, &copying->err);
	return NULL;
}

static void begin_copy(struct woven *w)
{
	struct copying *c = &w->copying;

	*c = (struct copying){0};
	adapter_case_open(&w->guest, &c->files);
	must(adapter_stage(w->set, "guest", w->guest_there, &c->files,
		     &c->adapter, &c->err),
		&c->err);
	must(adapter_map(w->set, c->adapter, &c->err), &c->err);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&c->thread, NULL, copy, c), 0);
}

static void end_copy(struct woven *w, bool keep)
{
	struct copying *c = &w->copying;

	if (!c->adapter)
		return;
	pthread_join(c->thread, NULL);
	must(c->rc, &c->err);
	if (keep)
		adapter_publish(w->set, c->adapter);
	else
		adapter_abandon(w->set, c->adapter);
	w->guest_there = w->guest_there || keep;
	adapter_files_close(&c->files);
	c->adapter = NULL;
	adapter_reap(w->set, NULL);
}

/* What others do between two steps. */
static void disturb(struct woven *w)
{
	struct error err = {0};

	switch (suite_below(&w->state, 4)) {
	case 0:
		end_copy(w, suite_below(&w->state, 4) > 0);
		break;
	case 1:
		if (!w->copying.adapter && w->guest_there) {
			must(adapter_unload(w->set, "guest", &err), &err);
			w->guest_there = false;
		}
		break;
	case 2:
		if (!w->copying.adapter)
			begin_copy(w);
		break;
	default:
		break;
	}
	adapter_set_check(w->set);
}

static void mixed_step(struct woven *w, struct engine_sequence *sequences)
{
	struct {
		uint32_t sequence, from, count, sample;
	} parts[SEQUENCES];
	uint32_t vocab = w->c.model->config.vocab, part_count = 0, rows = 0;

	step_clear(&w->c.step, 0, 0);
	for (uint32_t i = 0; i < SEQUENCES; i++) {
		struct engine_sequence *s = &sequences[i];
		uint32_t left = s->count - s->done;
		uint32_t count = 1 + suite_below(&w->state, 7);

		if (count > left)
			count = left;
		if (count == 0 || rows + count > ROWS ||
			suite_below(&w->state, 4) == 0)
			continue;
		rows += count;
		parts[part_count].sequence = i;
		parts[part_count].from = s->done;
		parts[part_count].count = count;
		parts[part_count++].sample =
			engine_sequence_step(&w->c, s, count, 0);
	}
	if (rows == 0)
		return;
	engine_case_run(&w->c);
	w->steps++;
	for (uint32_t p = 0; p < part_count; p++)
		for (uint32_t i = 0; i < parts[p].count; i++)
			w->wrong +=
				memcmp(engine_case_logits(
					       &w->c, parts[p].sample + i),
					w->truth[parts[p].sequence] +
						(size_t)(parts[p].from + i) *
							vocab,
					vocab * sizeof(float)) != 0;
}

static const char *const side_names[SIDES] = {
	NULL, "one", "two", "three", "three"};

static void bind(struct woven *w, uint32_t i, struct engine_sequence *s)
{
	engine_sequence_open(&w->c, s, w->ids[i], TOKENS);
	if (w->side[i] > 0)
		CU_ASSERT_EQUAL_FATAL(
			adapter_bind(
				w->set, side_names[w->side[i]], &s->instance),
			0);
}

static void run_mix(struct woven *w)
{
	struct engine_sequence sequences[SEQUENCES];
	uint32_t done = 0;

	for (uint32_t i = 1; i < SIDES - 1; i++)
		load(w, side_names[i], &w->adapters[i], false);
	for (uint32_t i = 0; i < SEQUENCES; i++)
		if (w->side[i] < SIDES - 1)
			bind(w, i, &sequences[i]);
	/* "three" is replaced under its requests; new ones get the new. */
	load(w, "three", &w->adapters[SIDES - 1], true);
	for (uint32_t i = 0; i < SEQUENCES; i++)
		if (w->side[i] == SIDES - 1)
			bind(w, i, &sequences[i]);
	CU_ASSERT_EQUAL(adapter_count(w->set), SIDES - 1);
	while (done < SEQUENCES * TOKENS) {
		disturb(w);
		mixed_step(w, sequences);
		done = 0;
		for (uint32_t i = 0; i < SEQUENCES; i++)
			done += sequences[i].done;
	}
	end_copy(w, true);
	for (uint32_t i = 0; i < SEQUENCES; i++) {
		if (w->side[i] > 0)
			adapter_release(w->set, sequences[i].instance);
		engine_sequence_close(&w->c, &sequences[i]);
	}
	CU_ASSERT_EQUAL(adapter_reap(w->set, NULL), 0);
	for (uint32_t i = 1; i < SIDES - 1; i++)
		must(adapter_unload(w->set, side_names[i], NULL),
			&(struct error){0});
}

/* How many rows the adapters change at all: else nothing was tested. */
static uint32_t count_changed(const struct woven *w)
{
	uint32_t changed = 0;
	size_t row = w->c.model->config.vocab;

	for (uint32_t i = 1; i < SEQUENCES; i++)
		for (uint32_t t = 0; t < TOKENS; t++)
			changed += memcmp(w->truth[0] + t * row,
					   w->truth[i] + t * row,
					   row * sizeof(float)) != 0;
	return changed;
}

static void weave(const char *directory, enum cpu_isa isa)
{
	/* Every side once, the first adapter twice; the same tokens. */
	static const uint32_t sides[SEQUENCES] = {0, 1, 2, 3, 4, 1};
	struct woven w = {
		.directory = directory,
		.isa = isa,
		.state = suite_seed(91),
	};
	uint32_t free_pages;
	struct error err = {0};

	open_case(&w, &w.c);
	must(adapter_set_create(w.c.model, &w.set, &err), &err);
	free_pages = page_pool_count(w.c.model->pool, PAGE_FREE);
	make_adapters(&w);
	for (uint32_t t = 0; t < TOKENS; t++)
		w.ids[0][t] = suite_below(&w.state, w.c.model->config.vocab);
	for (uint32_t i = 0; i < SEQUENCES; i++) {
		w.side[i] = sides[i];
		memcpy(w.ids[i], w.ids[0], sizeof(w.ids[0]));
	}
	for (uint32_t side = 0; side < SIDES; side++)
		make_truth(&w, side, side ? &w.adapters[side] : NULL);
	CU_ASSERT(count_changed(&w) > (SEQUENCES - 1) * TOKENS / 2);
	run_mix(&w);
	printf("%s: %u steps, %u wrong; ", cpu_isa_name(isa), w.steps, w.wrong);
	CU_ASSERT(w.steps > 5);
	CU_ASSERT_EQUAL(w.wrong, 0);
	adapter_set_destroy(w.set);
	CU_ASSERT_EQUAL(
		page_pool_count(w.c.model->pool, PAGE_FREE), free_pages);
	for (uint32_t i = 1; i < SIDES; i++)
		adapter_case_release(&w.adapters[i]);
	adapter_case_release(&w.guest);
	for (uint32_t i = 0; i < SEQUENCES; i++)
		free(w.truth[i]);
	engine_case_close(&w.c);
}

#ifdef __SANITIZE_THREAD__
#define FIRST_ISA (CPU_ISA_COUNT - 1) /* slow, and the races are the same */
#else
#define FIRST_ISA 0
#endif

static void weave_on_all(const char *name)
{
	char directory[256];
	bool woven = false;

	snprintf(directory, sizeof(directory), "tests/golden/%s", name);
	for (enum cpu_isa isa = FIRST_ISA; isa < CPU_ISA_COUNT; isa++)
		if (cpu_isa_works(isa)) {
			weave(directory, isa);
			woven = true;
		}
	if (!woven)
		weave(directory, 0);
}

#define FAMILY(name)                                                           \
	static void test_woven__##name(void)                                   \
	{                                                                      \
		weave_on_all(#name);                                           \
	}

FAMILY(deepseek_v2_lite)
FAMILY(deepseek_v2_full)
FAMILY(deepseek_v2_norm)
FAMILY(deepseek_v3)
FAMILY(deepseek_v3_fp8)
FAMILY(qwen2_moe)
FAMILY(qwen3_moe)
FAMILY(qwen3_moe_v5)
FAMILY(mixtral)
FAMILY(mixtral_top1)
FAMILY(olmoe)
FAMILY(granitemoe)

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(woven__deepseek_v2_lite),
		SUITE_CASE(woven__deepseek_v2_full),
		SUITE_CASE(woven__deepseek_v2_norm),
		SUITE_CASE(woven__deepseek_v3),
		SUITE_CASE(woven__deepseek_v3_fp8),
		SUITE_CASE(woven__qwen2_moe),
		SUITE_CASE(woven__qwen3_moe),
		SUITE_CASE(woven__qwen3_moe_v5),
		SUITE_CASE(woven__mixtral),
		SUITE_CASE(woven__mixtral_top1),
		SUITE_CASE(woven__olmoe),
		SUITE_CASE(woven__granitemoe),
	};

	return SUITE_MAIN("woven", cases);
}
