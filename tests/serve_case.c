/* serve_case.c - an engine seen from the other side of its rings, for tests */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/model_dir.h"
#include "tests/serve_case.h"
#include "tests/suite.h"

static const uint32_t never;

static const struct engine_null_options null_options = {
	.row_count = 6,
	.vocab = 1000,
	.position_count = 1000,
	.first_id = 10,
	.id_count = 900,
};

const struct engine_serve_options serve_stage_plain = {
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

void serve_stage_engine(struct serve_stage *stage)
{
	struct error err = {0};
	int rc;

	if (stage->pretends) {
		rc = null_open(
			&stage->place, &null_options, &stage->null, &err);
		stage->rank = &stage->null.rank;
		stage->adapters = stage->null.adapters;
	} else {
		rc = serve_open(&stage->place, &stage->options, &stage->files,
			&stage->serve, &err);
		stage->rank = rc ? NULL : &stage->serve->rank;
		stage->adapters = stage->rank ? stage->rank->adapters : NULL;
	}
	if (rc)
		printf("%s; ", err.text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
}

void serve_stage_open(struct serve_stage *stage, const char *directory,
	const struct engine_serve_options *options, struct engine_mail *mail)
{
	static const struct segment_shape shape = {
		SERVE_SLOTS, SERVE_PAGES, SERVE_RING, 1, 1};
	struct error err = {0};

	*stage = (struct serve_stage){
		.pretends = options == NULL, .options = serve_stage_plain};
	if (options)
		stage->options = *options;
	stage->place = (struct engine_place){
		.segment = &stage->segment, .mail = mail, .stop = &never};
	for (uint32_t i = 0; i < SERVE_SLOTS; i++)
		stage->kind[i] = SERVE_KINDS;
	CU_ASSERT_EQUAL_FATAL(
		segment_create(&shape, &stage->segment, &stage->fd, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_dir_open(directory, &stage->files, &err), 0);
	serve_stage_engine(stage);
}

void serve_stage_kill(struct serve_stage *stage)
{
	if (stage->pretends)
		null_close(&stage->null);
	else
		serve_close(stage->serve);
}

/* An engine that has nothing to do has nothing. */
void serve_stage_check_idle(struct serve_stage *stage)
{
	struct serve *serve = stage->serve;

	if (stage->pretends) {
		CU_ASSERT_EQUAL(stage->null.rank.waiting, 0);
		CU_ASSERT_EQUAL(stage->null.running_count, 0);
		return;
	}
	CU_ASSERT_EQUAL(serve->rank.waiting, 0);
	CU_ASSERT_EQUAL(sched_running(serve->sched), 0);
	CU_ASSERT_EQUAL(sched_waiting(serve->sched), 0);
	kv_cache_check(serve->cache);
	kv_cache_clear(serve->cache);
	CU_ASSERT_EQUAL(kv_store_used(serve->model->kv), 0);
	CU_ASSERT_EQUAL(page_pool_count(serve->model->pool, PAGE_KV), 0);
	page_pool_check(serve->model->pool);
}

void serve_stage_close(struct serve_stage *stage)
{
	serve_stage_check_idle(stage);
	serve_stage_kill(stage);
	model_files_close(&stage->files);
	segment_detach(&stage->segment);
	close(stage->fd);
}

/* --- the dataplane's part -------------------------------------------------------- */

/* A chain of the slot's own pages, from its page number `at` on. */
static uint32_t make_chain(struct serve_stage *stage, uint32_t index,
	uint32_t *at, const void *bytes, size_t size_bytes)
{
	uint32_t first = index * SERVE_SLOT_PAGES + *at;
	const uint8_t *from = bytes;

	do {
		struct payload_page *page = segment_page(
			&stage->segment, index * SERVE_SLOT_PAGES + (*at)++);
		size_t part = size_bytes < sizeof(page->bytes)
				      ? size_bytes
				      : sizeof(page->bytes);

		if (from)
			memcpy(page->bytes, from, part);
		from = from ? from + part : NULL;
		page->used_bytes = (uint32_t)part;
		size_bytes -= part;
		page->next = size_bytes > 0 ? index * SERVE_SLOT_PAGES + *at
					    : PAYLOAD_NONE;
	} while (size_bytes > 0);
	CU_ASSERT_FATAL(*at <= SERVE_SLOT_PAGES);
	return first;
}

void serve_stage_tell(
	struct serve_stage *stage, enum ring_kind kind, uint32_t index)
{
	const struct ring_message message = {kind, index,
		segment_slot(&stage->segment, index)->generation, 0};

	CU_ASSERT_TRUE(ring_push(segment_request_ring(&stage->segment, 0),
		SERVE_RING, &message));
}

struct request_slot *serve_stage_prepare(struct serve_stage *stage,
	uint32_t index, const struct serve_kind *kind)
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
		(size_t)kind->output_max * SERVE_TOP *
			sizeof(struct token_record));
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

void serve_stage_hear(struct serve_stage *stage)
{
	struct ring_message messages[SERVE_RING];
	uint32_t count = ring_pop(segment_token_ring(&stage->segment, 0),
		SERVE_RING, messages, SERVE_RING);

	for (uint32_t i = 0; i < count; i++) {
		const struct ring_message *m = &messages[i];

		CU_ASSERT_FATAL(m->slot < SERVE_SLOTS);
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
void serve_stage_turn(struct serve_stage *stage)
{
	struct serve *serve = stage->serve;
	struct error err = {0};
	uint64_t until;

	if (stage->pretends) {
		null_turn(&stage->null, mono_now());
		serve_stage_hear(stage);
		return;
	}
	CU_ASSERT_EQUAL_FATAL(serve_turn(serve, &until, &err), 0);
	serve_stage_hear(stage);
	while (serve->in_flight && !compute_is_done(serve->compute))
		serve_sleep(
			serve, &never, mono_add(mono_now(), 10 * NS_PER_MS));
}

static void read_chain(struct serve_stage *stage, uint32_t first,
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

bool serve_same_bits(float a, float b)
{
	uint32_t x, y;

	memcpy(&x, &a, sizeof(x));
	memcpy(&y, &b, sizeof(y));
	return x == y;
}

uint32_t serve_records_different(const struct token_record *a,
	const struct token_record *b, uint32_t count)
{
	uint32_t different = 0;

	for (uint32_t i = 0; i < count; i++)
		different += a[i].token_flags != b[i].token_flags ||
			     !serve_same_bits(a[i].logprob, b[i].logprob);
	return different;
}

/* Records that differ from the truth in some bit. */
uint32_t serve_kind_wrong(struct serve_stage *stage, uint32_t index,
	const struct serve_kind *kind)
{
	const struct request_slot *slot = segment_slot(&stage->segment, index);
	struct token_record records[SERVE_OUTPUT_MAX],
		top[SERVE_OUTPUT_MAX * SERVE_TOP];
	uint32_t count = slot->output_count, wrong;

	if (count != kind->output_count || slot->finish != kind->finish)
		return 1000;
	read_chain(stage, slot->log_page, records, count);
	wrong = serve_records_different(records, kind->records, count);
	if (!kind->params.want_logprob || kind->params.logprob_count == 0)
		return wrong;
	read_chain(stage, slot->top_page, top, count * SERVE_TOP);
	return wrong +
	       serve_records_different(top, kind->top, count * SERVE_TOP);
}

/* --- kinds of requests -------------------------------------------------------------- */

static void set_params(
	struct serve_kind *kind, uint32_t number, uint64_t *state)
{
	struct request_params *p = &kind->params;

	*p = (struct request_params){.seed = suite_random(state),
		.top_p = 1,
		.repetition_penalty = 1,
		.choice = number % 2};
	p->want_logprob = number % 3 != 2;
	p->logprob_count = number % 3 == 0 ? SERVE_TOP : 0;
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
void serve_kinds_make(struct serve_kind *kinds, uint64_t *state)
{
	uint32_t common[2][200];

	for (uint32_t i = 0; i < 400; i++)
		common[i / 200][i % 200] = suite_below(state, 130);
	for (uint32_t k = 0; k < SERVE_KINDS; k++) {
		struct serve_kind *kind = &kinds[k];
		uint32_t shared = 40 + suite_below(state, 160);

		memset(kind, 0, sizeof(*kind));
		kind->prompt_count = k == 0 ? 1 : shared + k * 10;
		kind->output_max =
			10 + suite_below(state, SERVE_OUTPUT_MAX - 10);
		memcpy(kind->prompt, common[k % 2],
			shared * sizeof(kind->prompt[0]));
		for (uint32_t i = shared; i < SERVE_PROMPT_MAX; i++)
			kind->prompt[i] = suite_below(state, 130);
		set_params(kind, k, state);
	}
}

void serve_kind_alone(struct serve_kind *kind, const char *directory,
	const struct adapter_case *merged)
{
	struct request_slot *slot;
	struct serve_stage stage;

	serve_stage_open(&stage, directory, &serve_stage_plain, NULL);
	if (merged)
		adapter_case_merge(merged, stage.serve->model);
	slot = serve_stage_prepare(&stage, 0, kind);
	serve_stage_tell(&stage, RING_SUBMIT, 0);
	while (!stage.done[0])
		serve_stage_turn(&stage);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FINISHED);
	kind->output_count = slot->output_count;
	kind->finish = slot->finish;
	read_chain(&stage, slot->log_page, kind->records, kind->output_count);
	if (kind->params.want_logprob && kind->params.logprob_count)
		read_chain(&stage, slot->top_page, kind->top,
			kind->output_count * SERVE_TOP);
	CU_ASSERT_EQUAL(slot->cached_count, 0);
	serve_stage_close(&stage);
}
