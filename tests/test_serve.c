/* test_serve.c - the rank that computes, seen from the other side of its rings */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each kind of request is served alone, by an engine of its own: its records,
 * to the bit, are the truth. Then random mixes of all kinds, in a cache that is
 * too small, with prompts that begin alike, priorities, cancellations, bad
 * pages, and engines that end in the middle and are followed by another one.
 * Whatever was not cancelled must have the records of the truth.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/mail.h"
#include "tests/engine_case.h"
#include "tests/fake/fake_os.h"
#include "tests/serve_case.h"
#include "tests/suite.h"

#define QWEN "tests/golden/qwen3_moe" /* K and V heads */
#define DEEPSEEK "tests/golden/deepseek_v2_lite" /* latents */

static const char *model = QWEN; /* of the case that runs */

/* --- the truth is the engine's --------------------------------------------------------- */

/* Greedy, token by token, as heddle-eval does it. */
static void test_serve__alone_it_is_what_the_forward_pass_gives(void)
{
	struct engine_case_config config = {.directory = model,
		.kv_type = DTYPE_F32,
		.thread_count = 1,
		.row_count = 400,
		.sequence_count = 1,
		.token_count = 400};
	struct serve_kind *kinds = suite_calloc(SERVE_KINDS, sizeof(*kinds));
	uint64_t state = suite_seed(1);
	struct engine_sequence s;
	struct engine_case c;
	uint32_t ids[400], at;
	struct serve_kind *kind = &kinds[6];

	serve_kinds_make(kinds, &state);
	kind->params = (struct request_params){.top_p = 1,
		.repetition_penalty = 1,
		.want_logprob = true,
		.ignore_eos = true};
	serve_kind_alone(kind, model, NULL);
	CU_ASSERT_EQUAL_FATAL(kind->output_count, kind->output_max);
	CU_ASSERT_EQUAL(kind->finish, FINISH_LENGTH);
	CU_ASSERT_EQUAL_FATAL(cpu_isa_choose(&config.isa, NULL), 0);
	engine_case_open(&c, &config);
	at = kind->prompt_count;
	memcpy(ids, kind->prompt, at * sizeof(ids[0]));
	engine_sequence_open(&c, &s, ids, at + kind->output_max);
	for (uint32_t i = 0; i < kind->output_max; i++) {
		uint32_t rows = i == 0 ? at : 1, first;
		const struct sample_result *result;

		step_clear(&c.step, 0, 0);
		first = engine_sequence_step(&c, &s, rows, 0);
		engine_case_run(&c);
		result = &c.step.result[first + rows - 1];
		ids[at + i] = result->token;
		CU_ASSERT_EQUAL(result->token,
			kind->records[i].token_flags & TOKEN_ID_MASK);
		CU_ASSERT_TRUE(serve_same_bits(
			result->logprob, kind->records[i].logprob));
	}
	engine_sequence_close(&c, &s);
	engine_case_close(&c);
	free(kinds);
}

/* A greedy request of one token, for what follows to change. */
static void make_plain(struct serve_kind *kind, uint32_t output_max)
{
	memset(kind, 0, sizeof(*kind));
	kind->prompt_count = 12;
	for (uint32_t i = 0; i < kind->prompt_count; i++)
		kind->prompt[i] = 20 + 3 * i;
	kind->output_max = output_max;
	kind->params = (struct request_params){.top_p = 1,
		.repetition_penalty = 1,
		.want_logprob = true,
		.ignore_eos = true};
}

static uint32_t token_at(const struct serve_kind *kind, uint32_t at)
{
	return kind->records[at].token_flags & TOKEN_ID_MASK;
}

static uint32_t count_token(
	const struct serve_kind *kind, uint32_t token, uint32_t before)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < before && i < kind->output_count; i++)
		count += token_at(kind, i) == token;
	return count;
}

static void test_serve__biases_and_penalties_reach_the_samples(void)
{
	struct serve_kind *kind = suite_calloc(2, sizeof(*kind));
	uint32_t repeated = 0;

	make_plain(&kind[0], 60);
	serve_kind_alone(&kind[0], model, NULL);
	make_plain(&kind[1], 60);
	kind[1].biases[0] = (struct logit_bias){42, 100};
	kind[1].bias_count = 1;
	serve_kind_alone(&kind[1], model, NULL);
	CU_ASSERT_EQUAL(count_token(&kind[1], 42, 60), 60);
	/* What the model itself would have said of it. */
	CU_ASSERT_TRUE(kind[1].records[0].logprob < kind[0].records[0].logprob);
	make_plain(&kind[1], 60);
	kind[1].params.presence_penalty = 1000;
	serve_kind_alone(&kind[1], model, NULL);
	for (uint32_t i = 0; i < 60; i++) {
		repeated += count_token(&kind[0], token_at(&kind[0], i), i);
		CU_ASSERT_EQUAL(
			count_token(&kind[1], token_at(&kind[1], i), i), 0);
	}
	CU_ASSERT_TRUE(repeated > 0); /* else nothing was shown */
	free(kind);
}

static void test_serve__stop_ids_and_the_least_length(void)
{
	struct serve_kind *kind = suite_calloc(2, sizeof(*kind));
	uint32_t stop;

	make_plain(&kind[0], 30);
	serve_kind_alone(&kind[0], model, NULL);
	stop = token_at(&kind[0], 0);
	make_plain(&kind[1], 30);
	kind[1].stop_ids[0] = stop;
	kind[1].stop_count = 1;
	serve_kind_alone(&kind[1], model, NULL);
	CU_ASSERT_EQUAL(kind[1].finish, FINISH_STOP_TOKEN);
	CU_ASSERT_EQUAL(kind[1].output_count, 1);
	CU_ASSERT_EQUAL(kind[1].records[0].token_flags, stop | TOKEN_FLAG_LAST);
	kind[1].params.output_min = 7;
	serve_kind_alone(&kind[1], model, NULL);
	CU_ASSERT_TRUE(kind[1].output_count > 7);
	CU_ASSERT_EQUAL(count_token(&kind[1], stop, 7), 0);
	/* The model's own end of sequence, which is one of its 211 tokens. */
	kind[1].stop_count = 0;
	kind[1].params.output_min = 0;
	kind[1].params.ignore_eos = false;
	kind[1].biases[0] = (struct logit_bias){7, 100};
	kind[1].bias_count = 1;
	serve_kind_alone(&kind[1], model, NULL);
	CU_ASSERT_EQUAL(kind[1].output_count, 1);
	CU_ASSERT_EQUAL(kind[1].finish, FINISH_STOP_TOKEN);
	free(kind);
}

static void test_serve__seed_and_choice_decide_the_draw(void)
{
	struct serve_kind *kind = suite_calloc(4, sizeof(*kind));

	for (uint32_t i = 0; i < 4; i++) {
		make_plain(&kind[i], 40);
		kind[i].params.temperature = 1.5f;
		kind[i].params.seed = i == 1;
		kind[i].params.choice = i == 2;
		serve_kind_alone(&kind[i], model, NULL);
	}
	for (uint32_t i = 1; i < 4; i++)
		CU_ASSERT_EQUAL(serve_records_different(kind[i].records,
					kind[0].records, 40) == 0,
			i == 3);
	free(kind);
}

/* --- ends ------------------------------------------------------------------------------- */

/* Running in slot 0, and waiting in slot 1 behind as many as may run. */
static void open_busy(struct serve_stage *stage, struct serve_kind *kind)
{
	struct engine_serve_options options = serve_stage_plain;

	options.sequence_count = 1;
	make_plain(kind, SERVE_OUTPUT_MAX);
	serve_stage_open(stage, model, &options, NULL);
	for (uint32_t i = 0; i < 2; i++) {
		serve_stage_prepare(stage, i, kind);
		serve_stage_tell(stage, RING_SUBMIT, i);
	}
	while (stage->told[0] < 3)
		serve_stage_turn(stage);
	CU_ASSERT_EQUAL(
		segment_slot(&stage->segment, 1)->engine_state, ENGINE_QUEUED);
}

static void test_serve__ends_within_one_step(void)
{
	static const enum ring_kind kinds[] = {RING_CANCEL, RING_FINISH_AT};
	static const enum finish_reason reasons[] = {
		FINISH_CANCELLED, FINISH_STOP_TEXT};
	struct serve_kind *kind = suite_calloc(1, sizeof(*kind));

	for (int k = 0; k < 2; k++) {
		struct serve_stage stage;
		const struct request_slot *slots[2];

		open_busy(&stage, kind);
		for (uint32_t i = 0; i < 2; i++) {
			slots[i] = segment_slot(&stage.segment, i);
			serve_stage_tell(&stage, kinds[k], i);
		}
		serve_stage_turn(&stage); /* takes them in, beside a step */
		serve_stage_turn(&stage);
		serve_stage_hear(&stage);
		for (uint32_t i = 0; i < 2; i++) {
			CU_ASSERT_EQUAL(stage.done[i], 1);
			CU_ASSERT_EQUAL(slots[i]->finish, reasons[k]);
			CU_ASSERT_EQUAL(stage.told[i], slots[i]->output_count);
		}
		CU_ASSERT_TRUE(slots[0]->output_count < 10);
		serve_stage_close(&stage);
	}
	free(kind);
}

static void test_serve__deadlines_of_what_runs_and_what_waits(void)
{
	struct serve_kind *kind = suite_calloc(1, sizeof(*kind));
	struct engine_serve_options options = serve_stage_plain;
	struct serve_stage stage;

	options.sequence_count = 1;
	make_plain(kind, SERVE_OUTPUT_MAX);
	serve_stage_open(&stage, model, &options, NULL);
	for (uint32_t i = 0; i < 2; i++) {
		serve_stage_prepare(&stage, i, kind)->params.deadline_ns = 1;
		serve_stage_tell(&stage, RING_SUBMIT, i);
	}
	while (!stage.done[0] || !stage.done[1])
		serve_stage_turn(&stage);
	for (uint32_t i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(segment_slot(&stage.segment, i)->finish,
			FINISH_DEADLINE);
	serve_stage_close(&stage);
	free(kind);
}

/* --- random mixes ------------------------------------------------------------------------- */

struct mix {
	struct serve_stage stage;
	struct serve_kind *kinds;
	uint64_t random;
	uint32_t finished, cancelled, kills, wrong, cached;
};

/* Broken in one of several ways; it must fail, and fail alone. */
static void spoil(struct mix *mix, struct request_slot *slot)
{
	switch (suite_below(&mix->random, 5)) {
	case 0:
		slot->params.top_p = -1;
		break;
	case 1:
		slot->params.bias_page = SERVE_PAGES;
		break;
	case 2:
		slot->instance = 7;
		break;
	case 3: /* the log ends where it begins */
		slot->params.output_max = 400;
		slot->params.prompt_count = 1;
		break;
	default:
		slot->params.prompt_count = 5000;
	}
}

static void random_submit(struct mix *mix)
{
	struct serve_stage *stage = &mix->stage;
	uint32_t index = suite_below(&mix->random, SERVE_SLOTS);
	uint32_t kind = suite_below(&mix->random, SERVE_KINDS);
	struct request_slot *slot;

	if (stage->kind[index] != SERVE_KINDS)
		return;
	slot = serve_stage_prepare(stage, index, &mix->kinds[kind]);
	slot->instance = 0;
	slot->params.tenant[5] = (uint8_t)suite_below(&mix->random, 2);
	slot->params.priority = suite_below(&mix->random, 2);
	stage->kind[index] = kind;
	if (suite_below(&mix->random, 20) == 0) {
		spoil(mix, slot);
		stage->cancelled[index] = true;
	}
	serve_stage_tell(stage, RING_SUBMIT, index);
}

static void random_cancel(struct mix *mix)
{
	struct serve_stage *stage = &mix->stage;
	uint32_t index = suite_below(&mix->random, SERVE_SLOTS);

	if (stage->kind[index] == SERVE_KINDS || stage->cancelled[index] ||
		stage->done[index])
		return;
	stage->cancelled[index] = true;
	if (suite_below(&mix->random, 2)) {
		serve_stage_tell(stage, RING_CANCEL, index);
	} else {
		segment_slot(&stage->segment, index)->finish_at = 1;
		serve_stage_tell(stage, RING_FINISH_AT, index);
	}
}

/* The engine is gone, in whatever it was doing; another one comes. */
static void kill_engine(struct mix *mix)
{
	serve_close(mix->stage.serve);
	serve_stage_engine(&mix->stage);
	mix->kills++;
}

static void take_done(struct mix *mix)
{
	struct serve_stage *stage = &mix->stage;

	for (uint32_t i = 0; i < SERVE_SLOTS; i++) {
		struct request_slot *slot = segment_slot(&stage->segment, i);

		if (stage->kind[i] == SERVE_KINDS || !stage->done[i])
			continue;
		CU_ASSERT_EQUAL(stage->told[i], slot->output_count);
		if (stage->cancelled[i]) {
			mix->cancelled++;
		} else {
			mix->finished++;
			mix->cached += slot->cached_count > 0;
			mix->wrong += serve_kind_wrong(
				stage, i, &mix->kinds[stage->kind[i]]);
		}
		slot->front_state = FRONT_FREE;
		stage->kind[i] = SERVE_KINDS;
	}
}

static bool anything_runs(const struct serve_stage *stage)
{
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		if (stage->kind[i] != SERVE_KINDS)
			return true;
	return false;
}

/* HEDDLE_TEST_MIXES=N: as many requests are compared, or more. */
static uint32_t mix_count(void)
{
	const char *text = getenv("HEDDLE_TEST_MIXES");

	return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

static void run_mix(struct mix *mix, uint32_t turns, uint32_t kills)
{
	uint32_t wanted = mix_count();
	bool more = true;

	for (uint32_t i = 0; more || anything_runs(&mix->stage); i++) {
		uint32_t what = suite_below(&mix->random, 20);

		more = i < turns || mix->finished < wanted;
		if (more && what < 8)
			random_submit(mix);
		else if (more && what == 8 && suite_below(&mix->random, 3) == 0)
			random_cancel(mix);
		if (kills && suite_below(&mix->random, 60) == 0)
			kill_engine(mix);
		serve_stage_turn(&mix->stage);
		take_done(mix);
		CU_ASSERT_FATAL(i < 100 * (turns + 100 * wanted));
	}
}

/* Pages that outlive the engine, as control keeps them. */
static int make_memory(void)
{
	int fd = memfd_create("test-pages", MFD_CLOEXEC);

	CU_ASSERT_FATAL(fd >= 0);
	return fd;
}

static void check_mixes(uint32_t threads, uint32_t kills)
{
	struct mix *mix = suite_calloc(1, sizeof(*mix));
	struct engine_serve_options options = serve_stage_plain;
	uint64_t state = suite_seed(20260810);

	mix->kinds = suite_calloc(SERVE_KINDS, sizeof(*mix->kinds));
	serve_kinds_make(mix->kinds, &state);
	for (uint32_t k = 0; k < SERVE_KINDS; k++)
		serve_kind_alone(&mix->kinds[k], model, NULL);
	options.thread_count = threads;
	if (kills)
		options.memory_fd = make_memory();
	mix->random = state;
	serve_stage_open(&mix->stage, model, &options, NULL);
	run_mix(mix, SUITE_FEWER(3500), kills);
	CU_ASSERT_EQUAL(mix->wrong, 0);
	/* Else it was too easy. */
	CU_ASSERT_TRUE(mix->finished > SUITE_FEWER(60));
	CU_ASSERT_TRUE(mix->cancelled > SUITE_FEWER(10));
	CU_ASSERT_TRUE(mix->cached > 0 || SUITE_FEWER(2) < 2);
	CU_ASSERT_TRUE(segment_engine_counters(&mix->stage.segment, 0)
			       ->preemptions_total > SUITE_FEWER(10));
	CU_ASSERT_EQUAL(mix->kills > 5, kills);
	/* All lives but the first found the weights where they were. */
	CU_ASSERT_EQUAL(mix->stage.serve->model->was_kept, kills);
	if (kills)
		close(options.memory_fd);
	printf("%u served, %u ended early, %u with a prefix found, %llu put "
	       "aside, %u lives; ",
		mix->finished, mix->cancelled, mix->cached,
		(unsigned long long)segment_engine_counters(
			&mix->stage.segment, 0)
			->preemptions_total,
		mix->kills + 1);
	serve_stage_close(&mix->stage);
	free(mix->kinds);
	free(mix);
}

static void test_serve__the_same_bits_in_any_company(void)
{
	check_mixes(1, 0);
}

static void test_serve__the_same_bits_after_any_death(void)
{
	check_mixes(2, 1);
}

static void test_serve__the_same_bits_of_latent_attention(void)
{
	model = DEEPSEEK;
	check_mixes(1, 0);
	model = QWEN;
}

/* --- life --------------------------------------------------------------------------------- */

/* Weights of another model, or that were half written, are read again. */
static void test_serve__kept_weights_are_known_by_their_fingerprint(void)
{
	struct engine_serve_options options = serve_stage_plain;
	struct model_keep *keep;
	struct serve_stage stage;

	options.memory_fd = make_memory();
	serve_stage_open(&stage, model, &options, NULL);
	CU_ASSERT_FALSE(stage.serve->model->was_kept);
	keep = mmap(NULL, sizeof(*keep), PROT_READ | PROT_WRITE, MAP_SHARED,
		options.memory_fd, 0);
	CU_ASSERT_FATAL(keep != MAP_FAILED);
	CU_ASSERT_EQUAL(keep->filled, 1);
	for (int i = 0; i < 3; i++) {
		serve_close(stage.serve);
		keep->fingerprint += i == 1;
		keep->filled = i != 2;
		serve_stage_engine(&stage);
		CU_ASSERT_EQUAL(stage.serve->model->was_kept, i == 0);
	}
	munmap(keep, sizeof(*keep));
	serve_stage_close(&stage);
	close(options.memory_fd);
}

/* Pages that were written after they were filled are found out. */
static void test_serve__kept_weights_that_changed_are_read_again(void)
{
	struct engine_serve_options options = serve_stage_plain;
	struct serve_kind *kind = suite_calloc(2, sizeof(*kind));
	const struct serve_keep *keep;
	struct error err = {0};
	struct serve_stage stage;
	uint64_t until;
	int rc = 0;

	make_plain(&kind[0], 20);
	serve_kind_alone(&kind[0], model, NULL);
	options.memory_fd = make_memory();
	serve_stage_open(&stage, model, &options, NULL);
	keep = stage.serve->keep;
	while (!__atomic_load_n(&keep->sum.known, __ATOMIC_ACQUIRE))
		serve_stage_turn(&stage);
	serve_close(stage.serve);
	CU_ASSERT_EQUAL(
		pwrite(options.memory_fd, "x", 1, PAGE_SIZE_BYTES_MIN + 4321),
		1);
	serve_stage_engine(&stage);
	CU_ASSERT_TRUE(stage.serve->model->was_kept);
	while (rc == 0)
		rc = serve_turn(stage.serve, &until, &err);
	CU_ASSERT_EQUAL(rc, -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "not what was read"));
	serve_close(stage.serve);
	serve_stage_engine(&stage);
	CU_ASSERT_FALSE(stage.serve->model->was_kept);
	serve_stage_prepare(&stage, 0, &kind[0]);
	serve_stage_tell(&stage, RING_SUBMIT, 0);
	while (!stage.done[0])
		serve_stage_turn(&stage);
	CU_ASSERT_EQUAL(serve_kind_wrong(&stage, 0, &kind[0]), 0);
	serve_stage_close(&stage);
	close(options.memory_fd);
	free(kind);
}

struct runner {
	struct serve_stage *stage;
	uint32_t stop;
	int rc;
};

static void *run_engine(void *arg)
{
	struct runner *runner = arg;
	struct error err = {0};

	runner->stage->place.stop = &runner->stop;
	runner->rc = engine_serve_run(&runner->stage->place,
		&runner->stage->options, &runner->stage->files, &err);
	return NULL;
}

static void test_engine_serve_run__serves_and_stops(void)
{
	struct serve_kind *kinds = suite_calloc(SERVE_KINDS, sizeof(*kinds));
	uint64_t state = suite_seed(2);
	struct runner runner = {0};
	const struct role_beat *beat;
	struct serve_stage stage;
	pthread_t thread;

	serve_kinds_make(kinds, &state);
	serve_stage_open(&stage, model, &serve_stage_plain, NULL);
	serve_close(stage.serve);
	runner.stage = &stage;
	serve_stage_prepare(&stage, 0, &kinds[2]);
	serve_stage_tell(&stage, RING_SUBMIT, 0);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, run_engine, &runner), 0);
	while (!stage.done[0])
		serve_stage_hear(&stage);
	beat = segment_beat(&stage.segment, ROLE_INDEX_RANK0);
	CU_ASSERT_EQUAL(beat->state, BEAT_READY);
	CU_ASSERT_TRUE(beat->progress > 0);
	/* One that is not done when it is stopped is cancelled. */
	serve_stage_prepare(&stage, 1, &kinds[3]);
	segment_slot(&stage.segment, 1)->params.ignore_eos = true;
	serve_stage_tell(&stage, RING_SUBMIT, 1);
	wake_post(segment_wake(&stage.segment, ROLE_INDEX_RANK0));
	while (!stage.told[1])
		serve_stage_hear(&stage);
	__atomic_store_n(&runner.stop, 1, __ATOMIC_RELEASE);
	wake_post(segment_wake(&stage.segment, ROLE_INDEX_RANK0));
	pthread_join(thread, NULL);
	serve_stage_hear(&stage);
	CU_ASSERT_EQUAL(runner.rc, 0);
	CU_ASSERT_EQUAL(stage.done[1], 1);
	CU_ASSERT_EQUAL(beat->state, BEAT_ABSENT);
	serve_stage_engine(&stage);
	serve_stage_close(&stage);
	free(kinds);
}

/* As random_submit(), told as the dataplane tells it. */
static void run_submit(struct mix *mix, uint32_t *cancel_at)
{
	uint32_t index = suite_below(&mix->random, SERVE_SLOTS);
	uint32_t kind = suite_below(&mix->random, SERVE_KINDS);
	struct serve_stage *stage = &mix->stage;
	struct request_slot *slot;

	if (stage->kind[index] != SERVE_KINDS)
		return;
	slot = serve_stage_prepare(stage, index, &mix->kinds[kind]);
	slot->params.tenant[5] = (uint8_t)suite_below(&mix->random, 2);
	slot->params.priority = suite_below(&mix->random, 2);
	stage->kind[index] = kind;
	cancel_at[index] = suite_below(&mix->random, 4)
				   ? UINT32_MAX
				   : 1 + suite_below(&mix->random, 20);
	serve_stage_tell(stage, RING_SUBMIT, index);
	wake_post(segment_wake(&stage->segment, ROLE_INDEX_RANK0));
}

static void run_cancels(struct mix *mix, const uint32_t *cancel_at)
{
	struct serve_stage *stage = &mix->stage;

	for (uint32_t i = 0; i < SERVE_SLOTS; i++) {
		if (stage->kind[i] == SERVE_KINDS || stage->cancelled[i] ||
			stage->done[i] || stage->told[i] < cancel_at[i])
			continue;
		stage->cancelled[i] = true;
		serve_stage_tell(stage, RING_CANCEL, i);
		wake_post(segment_wake(&stage->segment, ROLE_INDEX_RANK0));
	}
}

/*
 * The engine's two threads take turns: steps follow each other by themselves
 * while requests come and go beside them.
 */
static void test_engine_serve_run__the_same_bits_in_any_company(void)
{
	struct mix *mix = suite_calloc(1, sizeof(*mix));
	struct engine_serve_options options = serve_stage_plain;
	uint64_t state = suite_seed(20260811);
	uint32_t cancel_at[SERVE_SLOTS] = {0};
	struct runner runner = {.stage = &mix->stage};
	pthread_t thread;

	mix->kinds = suite_calloc(SERVE_KINDS, sizeof(*mix->kinds));
	serve_kinds_make(mix->kinds, &state);
	for (uint32_t k = 0; k < SERVE_KINDS; k++)
		serve_kind_alone(&mix->kinds[k], model, NULL);
	mix->random = state;
	options.thread_count = 2;
	serve_stage_open(&mix->stage, model, &options, NULL);
	serve_close(mix->stage.serve);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, run_engine, &runner), 0);
	while (mix->finished < SUITE_FEWER(120) || anything_runs(&mix->stage)) {
		if (mix->finished < SUITE_FEWER(120))
			run_submit(mix, cancel_at);
		serve_stage_hear(&mix->stage);
		run_cancels(mix, cancel_at);
		take_done(mix);
		sched_yield();
	}
	__atomic_store_n(&runner.stop, 1, __ATOMIC_RELEASE);
	wake_post(segment_wake(&mix->stage.segment, ROLE_INDEX_RANK0));
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(runner.rc, 0);
	CU_ASSERT_EQUAL(mix->wrong, 0);
	/* Else it was too easy. */
	CU_ASSERT_TRUE(mix->cancelled > 10);
	CU_ASSERT_TRUE(segment_engine_counters(&mix->stage.segment, 0)
			       ->preemptions_total > 0);
	printf("%u served, %u ended early; ", mix->finished, mix->cancelled);
	serve_stage_engine(&mix->stage);
	serve_stage_close(&mix->stage);
	free(mix->kinds);
	free(mix);
}

static void test_engine_serve_run__options(void)
{
	struct engine_serve_options bad[5];
	struct serve_stage stage;
	uint32_t stop = 1;

	serve_stage_open(&stage, model, &serve_stage_plain, NULL);
	stage.place.stop = &stop;
	for (int i = 0; i < 5; i++)
		bad[i] = serve_stage_plain;
	bad[0].sequence_count = 0;
	bad[1].row_count = bad[1].sequence_count - 1;
	bad[2].kv_type = DTYPE_F16;
	bad[3].kv_token_count = 1;
	bad[4].adapter_count = INSTANCE_COUNT_MAX;
	for (int i = 0; i < 5; i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(engine_serve_run(&stage.place, &bad[i],
					&stage.files, &err),
			-EINVAL);
		CU_ASSERT_TRUE(err.text[0] != '\0');
	}
	serve_stage_close(&stage);
}

static void hear_nothing(void *arg, const struct engine_answer *answer)
{
	(void)arg;
	(void)answer;
}

/* Every call that takes memory fails once; the engine says so and is gone. */
static void test_serve_open__every_allocation_may_fail(void)
{
	struct engine_serve_options options = serve_stage_plain;
	struct engine_mail *mail = NULL;
	struct serve_stage stage;
	uint64_t n = 0, failures = 0;
	int rc;

	options.adapter_count = 3;
	serve_stage_open(&stage, model, &options, NULL);
	serve_close(stage.serve);
	CU_ASSERT_EQUAL_FATAL(engine_mail_create(segment_wake(&stage.segment,
							 ROLE_INDEX_RANK0),
				      hear_nothing, NULL, &mail),
		0);
	stage.place.mail = mail;
	do {
		struct error err = {0};

		fake_os_reset();
		/* The many of the model's own load are tested with it. */
		n += n < 40 ? 1 : 7;
		fake_os_fail(FAKE_OS_ALLOCATE, n, ENOMEM);
		rc = serve_open(&stage.place, &stage.options, &stage.files,
			&stage.serve, &err);
		CU_ASSERT_EQUAL(rc, fake_os_has_failed() ? -ENOMEM : 0);
		CU_ASSERT_EQUAL(err.text[0] != '\0', rc != 0);
		fake_os_disarm();
		failures += rc != 0;
		if (rc)
			CU_ASSERT_TRUE(fake_os_check_empty());
	} while (rc);
	CU_ASSERT_TRUE(failures > 30);
	serve_stage_close(&stage);
	engine_mail_destroy(mail);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(serve__alone_it_is_what_the_forward_pass_gives),
		SUITE_CASE(serve__biases_and_penalties_reach_the_samples),
		SUITE_CASE(serve__stop_ids_and_the_least_length),
		SUITE_CASE(serve__seed_and_choice_decide_the_draw),
		SUITE_CASE(serve__ends_within_one_step),
		SUITE_CASE(serve__deadlines_of_what_runs_and_what_waits),
		SUITE_CASE(serve__the_same_bits_in_any_company),
		SUITE_CASE(serve__the_same_bits_after_any_death),
		SUITE_CASE(serve__the_same_bits_of_latent_attention),
		SUITE_CASE(serve__kept_weights_are_known_by_their_fingerprint),
		SUITE_CASE(serve__kept_weights_that_changed_are_read_again),
		SUITE_CASE(engine_serve_run__serves_and_stops),
		SUITE_CASE(engine_serve_run__the_same_bits_in_any_company),
		SUITE_CASE(engine_serve_run__options),
		SUITE_CASE(serve_open__every_allocation_may_fail),
	};

	/* Lives that follow each other say so each time. */
	log_open("test_serve", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
	return SUITE_MAIN("serve", cases);
}
