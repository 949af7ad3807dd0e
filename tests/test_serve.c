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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "control/model_dir.h"
#include "engine/serve_private.h"
#include "tests/engine_case.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

#define QWEN "tests/golden/qwen3_moe" /* K and V heads */
#define DEEPSEEK "tests/golden/deepseek_v2_lite" /* latents */
#define SLOTS 16u
#define PAGES 600u
#define SLOT_PAGES 32u /* that each slot of the test has for itself */
#define RING 256u
#define TOP 3u
#define KINDS 8u
#define OUTPUT_MAX 90u
#define PROMPT_MAX 330u

/* What a client asks for. */
struct kind {
	uint32_t prompt[PROMPT_MAX];
	uint32_t prompt_count, output_max;
	struct request_params params;
	uint32_t stop_ids[4], stop_count;
	struct logit_bias biases[3];
	uint32_t bias_count;
	/* the truth */
	struct token_record records[OUTPUT_MAX], top[OUTPUT_MAX * TOP];
	uint32_t output_count, finish;
};

struct stage {
	struct segment segment;
	int fd;
	struct model_files files;
	struct engine_serve_options options;
	struct serve *serve;
	uint32_t kind[SLOTS]; /* that the slot runs; KINDS = none */
	bool cancelled[SLOTS];
	uint32_t told[SLOTS], done[SLOTS];
};

static const char *model = QWEN; /* of the case that runs */

static const struct engine_serve_options plain = {
	.thread_count = 1,
	.row_count = 64,
	.sequence_count = 6,
	.budget_percent = 200,
	.kv_type = DTYPE_F32,
	.step_max_ns = 50 * NS_PER_MS,
	.kv_token_count = 512,
	.page_size_bytes = PAGE_SIZE_BYTES_MIN,
	.memory_fd = -1,
	.resume = 1,
};

static void open_engine(struct stage *stage)
{
	struct error err = {0};
	int rc = serve_open(&stage->segment, 0, &stage->options, &stage->files,
		&stage->serve, &err);

	if (rc)
		printf("%s; ", err.text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void open_stage(
	struct stage *stage, const struct engine_serve_options *options)
{
	static const struct segment_shape shape = {SLOTS, PAGES, RING, 1};
	struct error err = {0};

	memset(stage, 0, sizeof(*stage));
	stage->options = *options;
	for (uint32_t i = 0; i < SLOTS; i++)
		stage->kind[i] = KINDS;
	CU_ASSERT_EQUAL_FATAL(
		segment_create(&shape, &stage->segment, &stage->fd, &err), 0);
	CU_ASSERT_EQUAL_FATAL(model_dir_open(model, &stage->files, &err), 0);
	open_engine(stage);
}

/* An engine that has nothing to do has nothing. */
static void check_idle(struct stage *stage)
{
	struct serve *serve = stage->serve;

	CU_ASSERT_EQUAL(sched_running(serve->sched), 0);
	CU_ASSERT_EQUAL(sched_waiting(serve->sched), 0);
	CU_ASSERT_EQUAL(serve->rank.waiting, 0);
	kv_cache_check(serve->cache);
	kv_cache_clear(serve->cache);
	CU_ASSERT_EQUAL(kv_store_used(serve->model->kv), 0);
	CU_ASSERT_EQUAL(page_pool_count(serve->model->pool, PAGE_KV), 0);
	page_pool_check(serve->model->pool);
}

static void close_stage(struct stage *stage)
{
	check_idle(stage);
	serve_close(stage->serve);
	model_files_close(&stage->files);
	segment_detach(&stage->segment);
	close(stage->fd);
}

/* --- the dataplane's part -------------------------------------------------------- */

/* A chain of the slot's own pages, from its page number `at` on. */
static uint32_t make_chain(struct stage *stage, uint32_t index, uint32_t *at,
	const void *bytes, size_t size_bytes)
{
	uint32_t first = index * SLOT_PAGES + *at;
	const uint8_t *from = bytes;

	do {
		struct payload_page *page = segment_page(
			&stage->segment, index * SLOT_PAGES + (*at)++);
		size_t part = size_bytes < sizeof(page->bytes)
				      ? size_bytes
				      : sizeof(page->bytes);

		if (from)
			memcpy(page->bytes, from, part);
		from = from ? from + part : NULL;
		page->used_bytes = (uint32_t)part;
		size_bytes -= part;
		page->next = size_bytes > 0 ? index * SLOT_PAGES + *at
					    : PAYLOAD_NONE;
	} while (size_bytes > 0);
	CU_ASSERT_FATAL(*at <= SLOT_PAGES);
	return first;
}

static void tell(struct stage *stage, enum ring_kind kind, uint32_t index)
{
	const struct ring_message message = {kind, index,
		segment_slot(&stage->segment, index)->generation, 0};

	CU_ASSERT_TRUE(ring_push(
		segment_request_ring(&stage->segment, 0), RING, &message));
}

static struct request_slot *prepare(
	struct stage *stage, uint32_t index, const struct kind *kind)
{
	struct request_slot *slot = segment_slot(&stage->segment, index);
	uint32_t at = 0;

	slot->front_state = FRONT_SUBMITTED;
	slot->generation++;
	slot->rank = 0;
	slot->finish_at = UINT32_MAX;
	slot->params = kind->params;
	slot->params.prompt_count = kind->prompt_count;
	slot->params.output_max = kind->output_max;
	slot->prompt_page = make_chain(stage, index, &at, kind->prompt,
		kind->prompt_count * sizeof(kind->prompt[0]));
	slot->log_page = make_chain(stage, index, &at, NULL,
		kind->output_max * sizeof(struct token_record));
	slot->top_page = make_chain(stage, index, &at, NULL,
		(size_t)kind->output_max * TOP * sizeof(struct token_record));
	slot->params.mask = PAYLOAD_NONE;
	slot->params.stop_page = slot->params.bias_page = PAYLOAD_NONE;
	if (kind->stop_count)
		slot->params.stop_page =
			make_chain(stage, index, &at, kind->stop_ids,
				kind->stop_count * sizeof(kind->stop_ids[0]));
	if (kind->bias_count)
		slot->params.bias_page =
			make_chain(stage, index, &at, kind->biases,
				kind->bias_count * sizeof(kind->biases[0]));
	stage->told[index] = stage->done[index] = 0;
	stage->cancelled[index] = false;
	return slot;
}

static void hear(struct stage *stage)
{
	struct ring_message messages[RING];
	uint32_t count = ring_pop(
		segment_token_ring(&stage->segment, 0), RING, messages, RING);

	for (uint32_t i = 0; i < count; i++) {
		const struct ring_message *m = &messages[i];

		CU_ASSERT_FATAL(m->slot < SLOTS);
		if (m->generation !=
			segment_slot(&stage->segment, m->slot)->generation)
			continue;
		/* A new life may say what the last one has said. */
		CU_ASSERT_TRUE(m->value >= stage->told[m->slot]);
		stage->told[m->slot] = m->value;
		stage->done[m->slot] += m->kind == RING_DONE;
	}
}

/* One turn, and the step that it began. */
static void turn(struct stage *stage)
{
	static const uint32_t never;
	struct serve *serve = stage->serve;
	struct error err = {0};
	uint64_t until;

	CU_ASSERT_EQUAL_FATAL(serve_turn(serve, &until, &err), 0);
	hear(stage);
	while (serve->in_flight && !compute_is_done(serve->compute))
		serve_sleep(
			serve, &never, mono_add(mono_now(), 10 * NS_PER_MS));
}

static void read_chain(struct stage *stage, uint32_t first,
	struct token_record *out, uint32_t count)
{
	uint32_t at = first;

	while (count > 0) {
		const struct payload_page *page =
			segment_page(&stage->segment, at);
		uint32_t part = count < PAYLOAD_RECORDS_PER_PAGE
					? count
					: (uint32_t)PAYLOAD_RECORDS_PER_PAGE;

		memcpy(out, page->bytes, part * sizeof(*out));
		out += part;
		count -= part;
		at = page->next;
	}
}

static bool same_bits(float a, float b)
{
	uint32_t x, y;

	memcpy(&x, &a, sizeof(x));
	memcpy(&y, &b, sizeof(y));
	return x == y;
}

static uint32_t count_different(const struct token_record *a,
	const struct token_record *b, uint32_t count)
{
	uint32_t different = 0;

	for (uint32_t i = 0; i < count; i++)
		different += a[i].token_flags != b[i].token_flags ||
			     !same_bits(a[i].logprob, b[i].logprob);
	return different;
}

/* Records that differ from the truth in some bit. */
static uint32_t count_wrong(
	struct stage *stage, uint32_t index, const struct kind *kind)
{
	const struct request_slot *slot = segment_slot(&stage->segment, index);
	struct token_record records[OUTPUT_MAX], top[OUTPUT_MAX * TOP];
	uint32_t count = slot->output_count, wrong;

	if (count != kind->output_count || slot->finish != kind->finish)
		return 1000;
	read_chain(stage, slot->log_page, records, count);
	wrong = count_different(records, kind->records, count);
	if (!kind->params.want_logprob || kind->params.logprob_count == 0)
		return wrong;
	read_chain(stage, slot->top_page, top, count * TOP);
	return wrong + count_different(top, kind->top, count * TOP);
}

/* --- kinds of requests -------------------------------------------------------------- */

static void set_params(struct kind *kind, uint32_t number, uint64_t *state)
{
	struct request_params *p = &kind->params;

	*p = (struct request_params){.seed = suite_random(state),
		.top_p = 1,
		.repetition_penalty = 1,
		.choice = number % 2};
	p->want_logprob = number % 3 != 2;
	p->logprob_count = number % 3 == 0 ? TOP : 0;
	p->ignore_eos = number % 4 != 3;
	if (number % 2) {
		p->temperature = 0.7f + 0.1f * (float)number;
		p->top_p = 0.95f;
		p->top_k = 50;
	}
	if (number == 3 || number == 6) {
		p->repetition_penalty = 1.2f;
		p->presence_penalty = 0.3f;
		p->frequency_penalty = 0.2f;
	}
	if (number == 4 || number == 5) {
		kind->biases[0] = (struct logit_bias){17, 2.5f};
		kind->biases[1] = (struct logit_bias){3, -100};
		kind->bias_count = 2;
	}
	/* Half of the vocabulary would be too rare a stop: these are not. */
	if (number == 5 || number == 7) {
		for (uint32_t i = 0; i < 4; i++)
			kind->stop_ids[i] = 10 + 30 * i;
		kind->stop_count = 4;
		p->output_min = 20;
	}
}

/* Prompts come in two families that begin alike. */
static void make_kinds(struct kind *kinds, uint64_t *state)
{
	uint32_t common[2][200];

	for (uint32_t i = 0; i < 400; i++)
		common[i / 200][i % 200] = suite_below(state, 130);
	for (uint32_t k = 0; k < KINDS; k++) {
		struct kind *kind = &kinds[k];
		uint32_t shared = 40 + suite_below(state, 160);

		memset(kind, 0, sizeof(*kind));
		kind->prompt_count = k == 0 ? 1 : shared + k * 10;
		kind->output_max = 10 + suite_below(state, OUTPUT_MAX - 10);
		memcpy(kind->prompt, common[k % 2],
			shared * sizeof(kind->prompt[0]));
		for (uint32_t i = shared; i < PROMPT_MAX; i++)
			kind->prompt[i] = suite_below(state, 130);
		set_params(kind, k, state);
	}
}

static void serve_alone(struct kind *kind)
{
	struct request_slot *slot;
	struct stage stage;

	open_stage(&stage, &plain);
	slot = prepare(&stage, 0, kind);
	tell(&stage, RING_SUBMIT, 0);
	while (!stage.done[0])
		turn(&stage);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FINISHED);
	kind->output_count = slot->output_count;
	kind->finish = slot->finish;
	read_chain(&stage, slot->log_page, kind->records, kind->output_count);
	if (kind->params.want_logprob && kind->params.logprob_count)
		read_chain(&stage, slot->top_page, kind->top,
			kind->output_count * TOP);
	CU_ASSERT_EQUAL(slot->cached_count, 0);
	close_stage(&stage);
}

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
	struct kind *kinds = suite_calloc(KINDS, sizeof(*kinds));
	uint64_t state = suite_seed(1);
	struct engine_sequence s;
	struct engine_case c;
	uint32_t ids[400], at;
	struct kind *kind = &kinds[6];

	make_kinds(kinds, &state);
	kind->params = (struct request_params){.top_p = 1,
		.repetition_penalty = 1,
		.want_logprob = true,
		.ignore_eos = true};
	serve_alone(kind);
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
		CU_ASSERT_TRUE(
			same_bits(result->logprob, kind->records[i].logprob));
	}
	engine_sequence_close(&c, &s);
	engine_case_close(&c);
	free(kinds);
}

/* A greedy request of one token, for what follows to change. */
static void make_plain(struct kind *kind, uint32_t output_max)
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

static uint32_t token_at(const struct kind *kind, uint32_t at)
{
	return kind->records[at].token_flags & TOKEN_ID_MASK;
}

static uint32_t count_token(
	const struct kind *kind, uint32_t token, uint32_t before)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < before && i < kind->output_count; i++)
		count += token_at(kind, i) == token;
	return count;
}

static void test_serve__biases_and_penalties_reach_the_samples(void)
{
	struct kind *kind = suite_calloc(2, sizeof(*kind));
	uint32_t repeated = 0;

	make_plain(&kind[0], 60);
	serve_alone(&kind[0]);
	make_plain(&kind[1], 60);
	kind[1].biases[0] = (struct logit_bias){42, 100};
	kind[1].bias_count = 1;
	serve_alone(&kind[1]);
	CU_ASSERT_EQUAL(count_token(&kind[1], 42, 60), 60);
	/* What the model itself would have said of it. */
	CU_ASSERT_TRUE(kind[1].records[0].logprob < kind[0].records[0].logprob);
	make_plain(&kind[1], 60);
	kind[1].params.presence_penalty = 1000;
	serve_alone(&kind[1]);
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
	struct kind *kind = suite_calloc(2, sizeof(*kind));
	uint32_t stop;

	make_plain(&kind[0], 30);
	serve_alone(&kind[0]);
	stop = token_at(&kind[0], 0);
	make_plain(&kind[1], 30);
	kind[1].stop_ids[0] = stop;
	kind[1].stop_count = 1;
	serve_alone(&kind[1]);
	CU_ASSERT_EQUAL(kind[1].finish, FINISH_STOP_TOKEN);
	CU_ASSERT_EQUAL(kind[1].output_count, 1);
	CU_ASSERT_EQUAL(kind[1].records[0].token_flags, stop | TOKEN_FLAG_LAST);
	kind[1].params.output_min = 7;
	serve_alone(&kind[1]);
	CU_ASSERT_TRUE(kind[1].output_count > 7);
	CU_ASSERT_EQUAL(count_token(&kind[1], stop, 7), 0);
	/* The model's own end of sequence, which is one of its 211 tokens. */
	kind[1].stop_count = 0;
	kind[1].params.output_min = 0;
	kind[1].params.ignore_eos = false;
	kind[1].biases[0] = (struct logit_bias){7, 100};
	kind[1].bias_count = 1;
	serve_alone(&kind[1]);
	CU_ASSERT_EQUAL(kind[1].output_count, 1);
	CU_ASSERT_EQUAL(kind[1].finish, FINISH_STOP_TOKEN);
	free(kind);
}

static void test_serve__seed_and_choice_decide_the_draw(void)
{
	struct kind *kind = suite_calloc(4, sizeof(*kind));

	for (uint32_t i = 0; i < 4; i++) {
		make_plain(&kind[i], 40);
		kind[i].params.temperature = 1.5f;
		kind[i].params.seed = i == 1;
		kind[i].params.choice = i == 2;
		serve_alone(&kind[i]);
	}
	for (uint32_t i = 1; i < 4; i++)
		CU_ASSERT_EQUAL(count_different(kind[i].records,
					kind[0].records, 40) == 0,
			i == 3);
	free(kind);
}

/* --- ends ------------------------------------------------------------------------------- */

/* Running in slot 0, and waiting in slot 1 behind as many as may run. */
static void open_busy(struct stage *stage, struct kind *kind)
{
	struct engine_serve_options options = plain;

	options.sequence_count = 1;
	make_plain(kind, OUTPUT_MAX);
	open_stage(stage, &options);
	for (uint32_t i = 0; i < 2; i++) {
		prepare(stage, i, kind);
		tell(stage, RING_SUBMIT, i);
	}
	while (stage->told[0] < 3)
		turn(stage);
	CU_ASSERT_EQUAL(
		segment_slot(&stage->segment, 1)->engine_state, ENGINE_QUEUED);
}

static void test_serve__ends_within_one_step(void)
{
	static const enum ring_kind kinds[] = {RING_CANCEL, RING_FINISH_AT};
	static const enum finish_reason reasons[] = {
		FINISH_CANCELLED, FINISH_STOP_TEXT};
	struct kind *kind = suite_calloc(1, sizeof(*kind));

	for (int k = 0; k < 2; k++) {
		struct stage stage;
		const struct request_slot *slots[2];

		open_busy(&stage, kind);
		for (uint32_t i = 0; i < 2; i++) {
			slots[i] = segment_slot(&stage.segment, i);
			tell(&stage, kinds[k], i);
		}
		turn(&stage); /* takes them in, beside a step */
		turn(&stage);
		hear(&stage);
		for (uint32_t i = 0; i < 2; i++) {
			CU_ASSERT_EQUAL(stage.done[i], 1);
			CU_ASSERT_EQUAL(slots[i]->finish, reasons[k]);
			CU_ASSERT_EQUAL(stage.told[i], slots[i]->output_count);
		}
		CU_ASSERT_TRUE(slots[0]->output_count < 10);
		close_stage(&stage);
	}
	free(kind);
}

static void test_serve__deadlines_of_what_runs_and_what_waits(void)
{
	struct kind *kind = suite_calloc(1, sizeof(*kind));
	struct engine_serve_options options = plain;
	struct stage stage;

	options.sequence_count = 1;
	make_plain(kind, OUTPUT_MAX);
	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 2; i++) {
		prepare(&stage, i, kind)->params.deadline_ns = 1;
		tell(&stage, RING_SUBMIT, i);
	}
	while (!stage.done[0] || !stage.done[1])
		turn(&stage);
	for (uint32_t i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(segment_slot(&stage.segment, i)->finish,
			FINISH_DEADLINE);
	close_stage(&stage);
	free(kind);
}

/* --- random mixes ------------------------------------------------------------------------- */

struct mix {
	struct stage stage;
	struct kind *kinds;
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
		slot->params.bias_page = PAGES;
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
	struct stage *stage = &mix->stage;
	uint32_t index = suite_below(&mix->random, SLOTS);
	uint32_t kind = suite_below(&mix->random, KINDS);
	struct request_slot *slot;

	if (stage->kind[index] != KINDS)
		return;
	slot = prepare(stage, index, &mix->kinds[kind]);
	slot->instance = 0;
	slot->params.tenant[5] = (uint8_t)suite_below(&mix->random, 2);
	slot->params.priority = suite_below(&mix->random, 2);
	stage->kind[index] = kind;
	if (suite_below(&mix->random, 20) == 0) {
		spoil(mix, slot);
		stage->cancelled[index] = true;
	}
	tell(stage, RING_SUBMIT, index);
}

static void random_cancel(struct mix *mix)
{
	struct stage *stage = &mix->stage;
	uint32_t index = suite_below(&mix->random, SLOTS);

	if (stage->kind[index] == KINDS || stage->cancelled[index] ||
		stage->done[index])
		return;
	stage->cancelled[index] = true;
	if (suite_below(&mix->random, 2)) {
		tell(stage, RING_CANCEL, index);
	} else {
		segment_slot(&stage->segment, index)->finish_at = 1;
		tell(stage, RING_FINISH_AT, index);
	}
}

/* The engine is gone, in whatever it was doing; another one comes. */
static void kill_engine(struct mix *mix)
{
	serve_close(mix->stage.serve);
	open_engine(&mix->stage);
	mix->kills++;
}

static void take_done(struct mix *mix)
{
	struct stage *stage = &mix->stage;

	for (uint32_t i = 0; i < SLOTS; i++) {
		struct request_slot *slot = segment_slot(&stage->segment, i);

		if (stage->kind[i] == KINDS || !stage->done[i])
			continue;
		CU_ASSERT_EQUAL(stage->told[i], slot->output_count);
		if (stage->cancelled[i]) {
			mix->cancelled++;
		} else {
			mix->finished++;
			mix->cached += slot->cached_count > 0;
			mix->wrong += count_wrong(
				stage, i, &mix->kinds[stage->kind[i]]);
		}
		slot->front_state = FRONT_FREE;
		stage->kind[i] = KINDS;
	}
}

static bool anything_runs(const struct stage *stage)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		if (stage->kind[i] != KINDS)
			return true;
	return false;
}

static void run_mix(struct mix *mix, uint32_t turns, uint32_t kills)
{
	for (uint32_t i = 0; i < turns || anything_runs(&mix->stage); i++) {
		uint32_t what = suite_below(&mix->random, 20);

		if (i < turns && what < 8)
			random_submit(mix);
		else if (i < turns && what == 8 &&
			 suite_below(&mix->random, 3) == 0)
			random_cancel(mix);
		if (kills && suite_below(&mix->random, 60) == 0)
			kill_engine(mix);
		turn(&mix->stage);
		take_done(mix);
		CU_ASSERT_FATAL(i < 100 * turns);
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
	struct engine_serve_options options = plain;
	uint64_t state = suite_seed(20260810);

	mix->kinds = suite_calloc(KINDS, sizeof(*mix->kinds));
	make_kinds(mix->kinds, &state);
	for (uint32_t k = 0; k < KINDS; k++)
		serve_alone(&mix->kinds[k]);
	options.thread_count = threads;
	if (kills)
		options.memory_fd = make_memory();
	mix->random = state;
	open_stage(&mix->stage, &options);
	run_mix(mix, 3500, kills);
	CU_ASSERT_EQUAL(mix->wrong, 0);
	/* Else it was too easy. */
	CU_ASSERT_TRUE(mix->finished > 60);
	CU_ASSERT_TRUE(mix->cancelled > 10);
	CU_ASSERT_TRUE(mix->cached > 0);
	CU_ASSERT_TRUE(segment_engine_counters(&mix->stage.segment, 0)
			       ->preemptions_total > 10);
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
	close_stage(&mix->stage);
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
	struct engine_serve_options options = plain;
	struct model_keep *keep;
	struct stage stage;

	options.memory_fd = make_memory();
	open_stage(&stage, &options);
	CU_ASSERT_FALSE(stage.serve->model->was_kept);
	keep = mmap(NULL, sizeof(*keep), PROT_READ | PROT_WRITE, MAP_SHARED,
		options.memory_fd, 0);
	CU_ASSERT_FATAL(keep != MAP_FAILED);
	CU_ASSERT_EQUAL(keep->filled, 1);
	for (int i = 0; i < 3; i++) {
		serve_close(stage.serve);
		keep->fingerprint += i == 1;
		keep->filled = i != 2;
		open_engine(&stage);
		CU_ASSERT_EQUAL(stage.serve->model->was_kept, i == 0);
	}
	munmap(keep, sizeof(*keep));
	close_stage(&stage);
	close(options.memory_fd);
}

/* Pages that were written after they were filled are found out. */
static void test_serve__kept_weights_that_changed_are_read_again(void)
{
	struct engine_serve_options options = plain;
	struct kind *kind = suite_calloc(2, sizeof(*kind));
	const struct serve_keep *keep;
	struct error err = {0};
	struct stage stage;
	uint64_t until;
	int rc = 0;

	make_plain(&kind[0], 20);
	serve_alone(&kind[0]);
	options.memory_fd = make_memory();
	open_stage(&stage, &options);
	keep = stage.serve->keep;
	while (!__atomic_load_n(&keep->sum.known, __ATOMIC_ACQUIRE))
		turn(&stage);
	serve_close(stage.serve);
	CU_ASSERT_EQUAL(
		pwrite(options.memory_fd, "x", 1, PAGE_SIZE_BYTES_MIN + 4321),
		1);
	open_engine(&stage);
	CU_ASSERT_TRUE(stage.serve->model->was_kept);
	while (rc == 0)
		rc = serve_turn(stage.serve, &until, &err);
	CU_ASSERT_EQUAL(rc, -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "not what was read"));
	serve_close(stage.serve);
	open_engine(&stage);
	CU_ASSERT_FALSE(stage.serve->model->was_kept);
	prepare(&stage, 0, &kind[0]);
	tell(&stage, RING_SUBMIT, 0);
	while (!stage.done[0])
		turn(&stage);
	CU_ASSERT_EQUAL(count_wrong(&stage, 0, &kind[0]), 0);
	close_stage(&stage);
	close(options.memory_fd);
	free(kind);
}

struct runner {
	struct stage *stage;
	uint32_t stop;
	int rc;
};

static void *run_engine(void *arg)
{
	struct runner *runner = arg;
	struct error err = {0};

	runner->rc = engine_serve_run(&runner->stage->segment, 0,
		&runner->stage->options, &runner->stage->files, &runner->stop,
		&err);
	return NULL;
}

static void test_engine_serve_run__serves_and_stops(void)
{
	struct kind *kinds = suite_calloc(KINDS, sizeof(*kinds));
	uint64_t state = suite_seed(2);
	struct runner runner = {0};
	const struct role_beat *beat;
	struct stage stage;
	pthread_t thread;

	make_kinds(kinds, &state);
	open_stage(&stage, &plain);
	serve_close(stage.serve);
	runner.stage = &stage;
	prepare(&stage, 0, &kinds[2]);
	tell(&stage, RING_SUBMIT, 0);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, run_engine, &runner), 0);
	while (!stage.done[0])
		hear(&stage);
	beat = segment_beat(&stage.segment, ROLE_INDEX_RANK0);
	CU_ASSERT_EQUAL(beat->state, BEAT_READY);
	CU_ASSERT_TRUE(beat->progress > 0);
	/* One that is not done when it is stopped is cancelled. */
	prepare(&stage, 1, &kinds[3]);
	segment_slot(&stage.segment, 1)->params.ignore_eos = true;
	tell(&stage, RING_SUBMIT, 1);
	wake_post(segment_wake(&stage.segment, ROLE_INDEX_RANK0));
	while (!stage.told[1])
		hear(&stage);
	__atomic_store_n(&runner.stop, 1, __ATOMIC_RELEASE);
	wake_post(segment_wake(&stage.segment, ROLE_INDEX_RANK0));
	pthread_join(thread, NULL);
	hear(&stage);
	CU_ASSERT_EQUAL(runner.rc, 0);
	CU_ASSERT_EQUAL(stage.done[1], 1);
	CU_ASSERT_EQUAL(beat->state, BEAT_ABSENT);
	open_engine(&stage);
	close_stage(&stage);
	free(kinds);
}

static void test_engine_serve_run__options(void)
{
	struct engine_serve_options bad[4];
	struct stage stage;
	uint32_t stop = 1;

	open_stage(&stage, &plain);
	for (int i = 0; i < 4; i++)
		bad[i] = plain;
	bad[0].sequence_count = 0;
	bad[1].row_count = bad[1].sequence_count - 1;
	bad[2].kv_type = DTYPE_F16;
	bad[3].kv_token_count = 1;
	for (int i = 0; i < 4; i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(engine_serve_run(&stage.segment, 0, &bad[i],
					&stage.files, &stop, &err),
			-EINVAL);
		CU_ASSERT_TRUE(err.text[0] != '\0');
	}
	close_stage(&stage);
}

/* Every call that takes memory fails once; the engine says so and is gone. */
static void test_serve_open__every_allocation_may_fail(void)
{
	struct stage stage;
	uint64_t n = 0, failures = 0;
	int rc;

	open_stage(&stage, &plain);
	serve_close(stage.serve);
	do {
		struct error err = {0};

		fake_os_reset();
		/* The many of the model's own load are tested with it. */
		n += n < 40 ? 1 : 7;
		fake_os_fail(FAKE_OS_ALLOCATE, n, ENOMEM);
		rc = serve_open(&stage.segment, 0, &stage.options, &stage.files,
			&stage.serve, &err);
		CU_ASSERT_EQUAL(rc, fake_os_has_failed() ? -ENOMEM : 0);
		CU_ASSERT_EQUAL(err.text[0] != '\0', rc != 0);
		fake_os_disarm();
		failures += rc != 0;
		if (rc)
			CU_ASSERT_TRUE(fake_os_check_empty());
	} while (rc);
	CU_ASSERT_TRUE(failures > 30);
	close_stage(&stage);
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
		SUITE_CASE(engine_serve_run__options),
		SUITE_CASE(serve_open__every_allocation_may_fail),
	};

	/* Lives that follow each other say so each time. */
	log_open("test_serve", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
	return SUITE_MAIN("serve", cases);
}
