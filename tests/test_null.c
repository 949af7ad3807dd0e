/* test_null.c - the engine that pretends, seen from the other side of its rings */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/null_private.h"
#include "tests/suite.h"

#define VOCAB 1000u
#define FIRST 10u
#define COUNT 900u
#define STEP_NS (100 * NS_PER_US)

static const uint32_t never;

/* The dataplane's part, played by the test. */
struct stage {
	struct segment segment;
	int fd;
	struct engine_place place;
	struct null_engine engine;
	struct mono now;
	uint32_t page_next; /* pages are handed out once, ascending */
	uint32_t generation[64];
	/* what the token ring said, by slot */
	uint32_t told[64], done[64];
};

static struct engine_null_options default_options(void)
{
	return (struct engine_null_options){
		.step_us = 100,
		.row_count = 4,
		.vocab = VOCAB,
		.position_count = 4096,
		.first_id = FIRST,
		.id_count = COUNT,
	};
}

static void open_stage(
	struct stage *stage, const struct engine_null_options *options)
{
	static const struct segment_shape shape = {64, 2000, 32, 2, 1};
	struct error err = {0};

	memset(stage, 0, sizeof(*stage));
	stage->place = (struct engine_place){
		.segment = &stage->segment, .rank = 1, .stop = &never};
	CU_ASSERT_EQUAL_FATAL(
		segment_create(&shape, &stage->segment, &stage->fd, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		null_open(&stage->place, options, &stage->engine, &err), 0);
	stage->now.ns = NS_PER_S;
}

static void close_stage(struct stage *stage)
{
	null_close(&stage->engine);
	segment_detach(&stage->segment);
	close(stage->fd);
}

static uint32_t take_pages(struct stage *stage, uint32_t count)
{
	uint32_t first = stage->page_next;

	for (uint32_t i = 0; i < count; i++)
		segment_page(&stage->segment, first + i)->next =
			i + 1 < count ? first + i + 1 : PAYLOAD_NONE;
	stage->page_next += count;
	return first;
}

/* A good request of one token, `output_max` to be made. */
static struct request_slot *prepare(
	struct stage *stage, uint32_t index, uint32_t output_max)
{
	struct request_slot *slot = segment_slot(&stage->segment, index);
	uint32_t id = 5;

	slot->front_state = FRONT_SUBMITTED;
	slot->generation = ++stage->generation[index];
	slot->rank = 1;
	slot->prompt_page = take_pages(stage, 1);
	slot->log_page = take_pages(
		stage, output_max / (uint32_t)PAYLOAD_RECORDS_PER_PAGE + 1);
	slot->top_page = PAYLOAD_NONE;
	memcpy(segment_page(&stage->segment, slot->prompt_page)->bytes, &id,
		sizeof(id));
	memset(&slot->params, 0, sizeof(slot->params));
	slot->params.seed = 42;
	slot->params.prompt_count = 1;
	slot->params.output_max = output_max;
	slot->params.bias_page = PAYLOAD_NONE;
	slot->params.stop_page = PAYLOAD_NONE;
	slot->params.mask = PAYLOAD_NONE;
	stage->told[index] = stage->done[index] = 0;
	return slot;
}

static void tell(struct stage *stage, enum ring_kind kind, uint32_t index,
	uint32_t value)
{
	struct ring_message message = {
		kind, index, stage->generation[index], value};

	CU_ASSERT_TRUE(ring_push(
		segment_request_ring(&stage->segment, 1), 32, &message));
}

static void hear(struct stage *stage)
{
	struct ring_message messages[32];
	uint32_t count = ring_pop(
		segment_token_ring(&stage->segment, 1), 32, messages, 32);

	for (uint32_t i = 0; i < count; i++) {
		const struct ring_message *m = &messages[i];

		CU_ASSERT_FATAL(m->slot < 64);
		CU_ASSERT_EQUAL(m->generation, stage->generation[m->slot]);
		if (m->kind == RING_TOKENS) {
			CU_ASSERT_EQUAL(stage->done[m->slot], 0);
			CU_ASSERT_EQUAL(m->value, stage->told[m->slot] + 1);
			stage->told[m->slot] = m->value;
		} else {
			CU_ASSERT_EQUAL(m->kind, RING_DONE);
			CU_ASSERT_EQUAL(
				m->value, segment_slot(&stage->segment, m->slot)
						  ->output_count);
			stage->done[m->slot]++;
		}
	}
}

/* Turns until the engine wants to sleep, then on to when it would wake. */
static void run_until(struct stage *stage, struct mono end)
{
	while (mono_before(stage->now, end)) {
		uint64_t next = null_turn(&stage->engine, stage->now);

		hear(stage);
		if (next > stage->now.ns)
			stage->now.ns = next;
	}
}

static void run_for(struct stage *stage, uint64_t ns)
{
	run_until(stage, mono_add(stage->now, ns));
}

static struct token_record record_at(
	struct stage *stage, uint32_t first_page, uint32_t index)
{
	struct token_record record;
	uint32_t page = first_page;

	for (; index >= PAYLOAD_RECORDS_PER_PAGE;
		index -= (uint32_t)PAYLOAD_RECORDS_PER_PAGE)
		page = segment_page(&stage->segment, page)->next;
	memcpy(&record,
		segment_page(&stage->segment, page)->bytes +
			index * sizeof(record),
		sizeof(record));
	return record;
}

static uint32_t id_at(
	struct stage *stage, const struct request_slot *slot, uint32_t index)
{
	return record_at(stage, slot->log_page, index).token_flags &
	       TOKEN_ID_MASK;
}

static void test_null__makes_as_many_tokens_as_asked(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;
	struct request_slot *slot;

	open_stage(&stage, &options);
	slot = prepare(&stage, 3, 1200);
	tell(&stage, RING_SUBMIT, 3, 0);
	run_for(&stage, 1300 * STEP_NS);
	CU_ASSERT_EQUAL(stage.told[3], 1200);
	CU_ASSERT_EQUAL(stage.done[3], 1);
	CU_ASSERT_EQUAL(slot->output_count, 1200);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FINISHED);
	CU_ASSERT_EQUAL(slot->finish, FINISH_LENGTH);
	for (uint32_t i = 0; i < 1200; i++) {
		struct token_record record =
			record_at(&stage, slot->log_page, i);
		uint32_t id = record.token_flags & TOKEN_ID_MASK;

		CU_ASSERT_TRUE(id >= FIRST && id < FIRST + COUNT);
		CU_ASSERT_EQUAL(
			!!(record.token_flags & TOKEN_FLAG_LAST), i == 1199);
		CU_ASSERT_EQUAL(record.logprob, 0);
	}
	CU_ASSERT_EQUAL(stage.engine.rank.counters->output_tokens_total, 1200);
	CU_ASSERT_EQUAL(stage.engine.rank.counters->prompt_tokens_total, 1);
	CU_ASSERT_EQUAL(stage.engine.rank.counters->steps_total, 1200);
	CU_ASSERT_TRUE(slot->engine_times.first_token_ns > 0);
	CU_ASSERT_EQUAL(slot->engine_times.last_token_ns -
				slot->engine_times.first_token_ns,
		1199 * STEP_NS);
	close_stage(&stage);
}

static void test_null__tokens_depend_on_seed_choice_and_position_only(void)
{
	struct engine_null_options options = default_options();
	struct request_slot *slots[5];
	struct stage stage;
	uint32_t same_seed = 0, same_choice = 0, shifted = 0;

	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 5; i++)
		slots[i] = prepare(&stage, i, 50);
	slots[2]->params.seed = 43;
	slots[3]->params.choice = 1;
	/* One token later in the same sequence of positions. */
	slots[4]->params.prompt_count = 2;
	/* The last but one comes later and beside others. */
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 7 * STEP_NS);
	for (uint32_t i = 1; i < 5; i++)
		tell(&stage, RING_SUBMIT, i, 0);
	run_for(&stage, 150 * STEP_NS);
	for (uint32_t i = 0; i < 49; i++) {
		uint32_t id = id_at(&stage, slots[0], i);

		CU_ASSERT_EQUAL(id_at(&stage, slots[1], i), id);
		same_seed += id_at(&stage, slots[2], i) == id;
		same_choice += id_at(&stage, slots[3], i) == id;
		shifted += id_at(&stage, slots[4], i) ==
			   id_at(&stage, slots[0], i + 1);
	}
	CU_ASSERT_TRUE(same_seed < 3);
	CU_ASSERT_TRUE(same_choice < 3);
	CU_ASSERT_EQUAL(shifted, 49);
	close_stage(&stage);
}

static void test_null__steps_keep_their_pace(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;

	open_stage(&stage, &options);
	prepare(&stage, 0, 1000);
	tell(&stage, RING_SUBMIT, 0, 0);
	/* 100 steps and not one more, though the clock is read late. */
	for (int i = 0; i < 100; i++) {
		stage.now.ns += STEP_NS + (i % 3 ? 0 : 7);
		while (null_turn(&stage.engine, stage.now) == 0)
			;
		hear(&stage);
		stage.now.ns -= i % 3 ? 0 : 7;
	}
	CU_ASSERT_EQUAL(stage.told[0], 99);
	close_stage(&stage);
}

static void test_null__rows_bound_what_runs_and_the_rest_waits_in_order(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;

	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 6; i++) {
		prepare(&stage, i, i == 0 ? 2 : 5);
		tell(&stage, RING_SUBMIT, i, 0);
	}
	run_for(&stage, STEP_NS + 1);
	CU_ASSERT_EQUAL(stage.engine.running_count, 4);
	CU_ASSERT_EQUAL(stage.engine.rank.waiting, 2);
	CU_ASSERT_EQUAL(stage.engine.rank.beat->pending, 6);
	CU_ASSERT_EQUAL(
		segment_slot(&stage.segment, 4)->engine_state, ENGINE_QUEUED);
	run_for(&stage, 2 * STEP_NS);
	CU_ASSERT_EQUAL(stage.done[0], 1);
	CU_ASSERT_EQUAL(
		segment_slot(&stage.segment, 4)->engine_state, ENGINE_RUNNING);
	CU_ASSERT_EQUAL(
		segment_slot(&stage.segment, 5)->engine_state, ENGINE_QUEUED);
	run_for(&stage, 20 * STEP_NS);
	for (uint32_t i = 0; i < 6; i++)
		CU_ASSERT_EQUAL(stage.done[i], 1);
	CU_ASSERT_EQUAL(stage.engine.rank.beat->pending, 0);
	close_stage(&stage);
}

/* The tokens that seed 42 gives at positions 1, 2, ... */
static void first_ids(uint32_t *ids, uint32_t count)
{
	struct engine_null_options options = default_options();
	struct stage stage;
	struct request_slot *slot;

	open_stage(&stage, &options);
	slot = prepare(&stage, 0, count);
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, (count + 2) * STEP_NS);
	for (uint32_t i = 0; i < count; i++)
		ids[i] = id_at(&stage, slot, i);
	close_stage(&stage);
}

static void test_null__eos_ends_unless_ignored_or_too_early(void)
{
	struct engine_null_options options = default_options();
	struct request_slot *slot[3];
	struct stage stage;
	uint32_t ids[10];

	first_ids(ids, 10);
	options.eos[0] = VOCAB - 1;
	options.eos[1] = ids[4];
	options.eos_count = 2;
	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 3; i++)
		slot[i] = prepare(&stage, i, 10);
	slot[1]->params.ignore_eos = true;
	slot[2]->params.output_min = 8;
	for (uint32_t i = 0; i < 3; i++)
		tell(&stage, RING_SUBMIT, i, 0);
	run_for(&stage, 20 * STEP_NS);
	CU_ASSERT_EQUAL(slot[0]->finish, FINISH_STOP_TOKEN);
	CU_ASSERT_EQUAL(slot[0]->output_count, 5);
	CU_ASSERT_EQUAL(id_at(&stage, slot[0], 4), ids[4]);
	CU_ASSERT_EQUAL(slot[1]->finish, FINISH_LENGTH);
	CU_ASSERT_EQUAL(slot[1]->output_count, 10);
	CU_ASSERT_EQUAL(id_at(&stage, slot[1], 4), ids[4]);
	CU_ASSERT_EQUAL(slot[2]->output_count, 10);
	CU_ASSERT_NOT_EQUAL(id_at(&stage, slot[2], 4), ids[4]);
	CU_ASSERT_EQUAL(id_at(&stage, slot[2], 5), ids[5]);
	close_stage(&stage);
}

static void test_null__stop_ids_end_even_when_eos_is_ignored(void)
{
	struct engine_null_options options = default_options();
	struct request_slot *slot;
	struct payload_page *page;
	struct stage stage;
	uint32_t ids[10];

	first_ids(ids, 10);
	open_stage(&stage, &options);
	slot = prepare(&stage, 0, 10);
	slot->params.ignore_eos = true;
	/* In the second page of a chain. */
	slot->params.stop_page = take_pages(&stage, 2);
	page = segment_page(&stage.segment, slot->params.stop_page);
	page->used_bytes = 0;
	page = segment_page(&stage.segment, page->next);
	memcpy(page->bytes, &ids[6], sizeof(ids[6]));
	page->used_bytes = sizeof(ids[6]);
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 20 * STEP_NS);
	CU_ASSERT_EQUAL(slot->finish, FINISH_STOP_TOKEN);
	CU_ASSERT_EQUAL(slot->output_count, 7);
	close_stage(&stage);
}

static void test_null__everything_masked_fails(void)
{
	struct engine_null_options options = default_options();
	struct request_slot *slot;
	struct stage stage;

	options.id_count = 1;
	options.eos[0] = FIRST;
	options.eos_count = 1;
	open_stage(&stage, &options);
	slot = prepare(&stage, 0, 10);
	slot->params.output_min = 2;
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 5 * STEP_NS);
	CU_ASSERT_EQUAL(slot->finish, FINISH_NO_TOKEN);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FAILED);
	CU_ASSERT_EQUAL(slot->output_count, 0);
	CU_ASSERT_EQUAL(stage.done[0], 1);
	close_stage(&stage);
}

static void test_null__logprobs_and_alternatives(void)
{
	struct engine_null_options options = default_options();
	struct request_slot *slot;
	struct stage stage;

	open_stage(&stage, &options);
	slot = prepare(&stage, 0, 300);
	slot->params.want_logprob = true;
	slot->params.logprob_count = 5;
	slot->top_page = take_pages(&stage, 3);
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 310 * STEP_NS);
	CU_ASSERT_EQUAL(slot->output_count, 300);
	for (uint32_t i = 0; i < 300; i++) {
		struct token_record chosen =
			record_at(&stage, slot->log_page, i);
		float above = 0;

		CU_ASSERT_TRUE(chosen.token_flags & TOKEN_FLAG_TOP);
		CU_ASSERT_TRUE(chosen.logprob <= 0 && chosen.logprob > -4);
		for (uint32_t k = 0; k < 5; k++) {
			struct token_record top =
				record_at(&stage, slot->top_page, i * 5 + k);

			CU_ASSERT_TRUE(top.token_flags >= FIRST &&
				       top.token_flags < FIRST + COUNT);
			CU_ASSERT_TRUE(k == 0 || top.logprob <= above);
			above = top.logprob;
		}
		CU_ASSERT_EQUAL(chosen.token_flags & TOKEN_ID_MASK,
			record_at(&stage, slot->top_page, i * 5).token_flags);
	}
	close_stage(&stage);
}

static void test_null__cancel_and_finish_at(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;

	options.row_count = 2;
	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 3; i++) {
		prepare(&stage, i, 100);
		tell(&stage, RING_SUBMIT, i, 0);
	}
	run_for(&stage, 10 * STEP_NS);
	tell(&stage, RING_CANCEL, 0, 0);
	tell(&stage, RING_FINISH_AT, 1, 4);
	tell(&stage, RING_CANCEL, 2, 0); /* still waits for a row */
	tell(&stage, RING_CANCEL, 2, 0);
	run_for(&stage, STEP_NS);
	for (uint32_t i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(stage.done[i], 1);
	CU_ASSERT_EQUAL(
		segment_slot(&stage.segment, 0)->finish, FINISH_CANCELLED);
	CU_ASSERT_EQUAL(
		segment_slot(&stage.segment, 1)->finish, FINISH_STOP_TEXT);
	CU_ASSERT_EQUAL(segment_slot(&stage.segment, 2)->output_count, 0);
	/* The slot of one that never ran serves again. */
	prepare(&stage, 2, 3);
	tell(&stage, RING_SUBMIT, 2, 0);
	run_for(&stage, 10 * STEP_NS);
	CU_ASSERT_EQUAL(stage.done[2], 1);
	CU_ASSERT_EQUAL(stage.told[2], 3);
	CU_ASSERT_EQUAL(stage.engine.rank.counters->bad_messages_total, 0);
	close_stage(&stage);
}

static void test_null__deadlines_of_rows_and_of_those_who_wait(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;

	options.row_count = 1;
	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 2; i++) {
		struct request_slot *slot = prepare(&stage, i, 3000);

		slot->params.deadline_ns =
			stage.now.ns + (i ? 60 : 150) * NS_PER_MS;
		tell(&stage, RING_SUBMIT, i, 0);
	}
	run_for(&stage, 300 * NS_PER_MS);
	for (uint32_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(stage.done[i], 1);
		CU_ASSERT_EQUAL(segment_slot(&stage.segment, i)->finish,
			FINISH_DEADLINE);
	}
	/* The first step of rank 1 of 2 was half a step. */
	CU_ASSERT_EQUAL(stage.told[0], 1500);
	CU_ASSERT_EQUAL(stage.told[1], 0);
	close_stage(&stage);
}

static void test_null__ranks_that_begin_together_do_not_speak_together(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;

	open_stage(&stage, &options); /* rank 1 of 2 */
	for (uint32_t life = 0; life < 2; life++) {
		const struct request_slot *slot = prepare(&stage, 0, 3);
		uint64_t begin_ns = stage.now.ns;

		tell(&stage, RING_SUBMIT, 0, 0);
		run_for(&stage, 10 * STEP_NS); /* it ends, and rests */
		CU_ASSERT_EQUAL(stage.done[0], 1);
		CU_ASSERT_EQUAL(slot->engine_times.first_token_ns - begin_ns,
			STEP_NS / 2);
		CU_ASSERT_EQUAL(slot->engine_times.last_token_ns - begin_ns,
			STEP_NS / 2 + 2 * STEP_NS);
	}
	close_stage(&stage);
}

static void test_null__stale_messages_are_dropped(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;

	open_stage(&stage, &options);
	prepare(&stage, 0, 20);
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 3 * STEP_NS);
	stage.generation[0]--;
	tell(&stage, RING_CANCEL, 0, 0);
	tell(&stage, RING_FINISH_AT, 0, 1);
	tell(&stage, RING_SUBMIT, 0, 0);
	stage.generation[0]++;
	run_for(&stage, 30 * STEP_NS);
	CU_ASSERT_EQUAL(stage.told[0], 20);
	close_stage(&stage);
}

static void test_null__a_full_token_ring_holds_the_steps(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;
	uint64_t next = 0;

	options.step_us = 0;
	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 4; i++) {
		prepare(&stage, i, 100);
		tell(&stage, RING_SUBMIT, i, 0);
	}
	/* Nobody listens: 32 messages fit, then steps stand still. */
	for (int i = 0; i < 1000; i++)
		next = null_turn(&stage.engine, stage.now);
	CU_ASSERT_TRUE(next > stage.now.ns);
	CU_ASSERT_EQUAL(stage.engine.rank.counters->steps_total, 9);
	CU_ASSERT_EQUAL(stage.engine.rank.unsent, 4);
	run_for(&stage, 100 * NS_PER_MS);
	for (uint32_t i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(stage.told[i], 100);
		CU_ASSERT_EQUAL(stage.done[i], 1);
	}
	close_stage(&stage);
}

/* What a front gone wrong may write into a slot. */
static void spoil(struct request_slot *slot, uint32_t how)
{
	static const unsigned char two = 2;

	switch (how) {
	case 0:
		slot->params.prompt_count = 0;
		break;
	case 1:
		slot->params.prompt_count = UINT32_MAX;
		break;
	case 2:
		slot->params.output_max = 0;
		break;
	case 3:
		slot->params.output_max = UINT32_MAX;
		break;
	case 4:
		slot->prompt_page = PAYLOAD_NONE;
		break;
	case 5:
		slot->log_page = 2000;
		break;
	case 6:
		slot->params.stop_page = 2000;
		break;
	case 7:
		slot->params.logprob_count = LOGPROB_TOP_MAX + 1;
		break;
	case 8:
		slot->params.want_logprob = true;
		slot->params.logprob_count = 3; /* and no page for them */
		break;
	case 9:
		slot->params.prompt_count = 2000; /* the chain is shorter */
		break;
	case 10:
		memcpy(&slot->params.ignore_eos, &two, 1);
		break;
	default:
		memcpy(&slot->params.want_logprob, &two, 1);
		break;
	}
}

static void test_null__bad_requests_fail_alone(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;

	open_stage(&stage, &options);
	prepare(&stage, 0, 50);
	tell(&stage, RING_SUBMIT, 0, 0);
	for (uint32_t i = 1; i <= 12; i++) {
		spoil(prepare(&stage, i, 5), i - 1);
		tell(&stage, RING_SUBMIT, i, 0);
	}
	run_for(&stage, 60 * STEP_NS);
	CU_ASSERT_EQUAL(stage.told[0], 50);
	for (uint32_t i = 1; i <= 12; i++) {
		const struct request_slot *slot =
			segment_slot(&stage.segment, i);

		CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FAILED);
		CU_ASSERT_EQUAL(stage.done[i], 1);
		CU_ASSERT_EQUAL(stage.told[i], 0);
	}
	CU_ASSERT_EQUAL(stage.engine.rank.counters->bad_messages_total, 12);
	close_stage(&stage);
}

static void test_null__an_id_beyond_the_vocabulary_fails(void)
{
	struct engine_null_options options = default_options();
	struct request_slot *slot;
	struct stage stage;
	uint32_t id = VOCAB;

	open_stage(&stage, &options);
	slot = prepare(&stage, 0, 5);
	slot->params.prompt_count = 1023; /* the second page's first */
	segment_page(&stage.segment, slot->prompt_page)->next =
		take_pages(&stage, 1);
	memcpy(segment_page(&stage.segment, stage.page_next - 1)->bytes, &id,
		sizeof(id));
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 5 * STEP_NS);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FAILED);
	slot = prepare(&stage, 1, 5);
	slot->params.prompt_count = 1023;
	segment_page(&stage.segment, slot->prompt_page)->next =
		take_pages(&stage, 1);
	tell(&stage, RING_SUBMIT, 1, 0);
	run_for(&stage, 10 * STEP_NS);
	CU_ASSERT_EQUAL(slot->finish, FINISH_LENGTH);
	close_stage(&stage);
}

static void test_null__a_log_without_room_fails_its_request(void)
{
	struct engine_null_options options = default_options();
	struct request_slot *slot;
	struct stage stage;

	open_stage(&stage, &options);
	slot = prepare(&stage, 0, 600);
	segment_page(&stage.segment, slot->log_page)->next = 2000;
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 700 * STEP_NS);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FAILED);
	CU_ASSERT_EQUAL(slot->output_count, PAYLOAD_RECORDS_PER_PAGE);
	CU_ASSERT_EQUAL(stage.done[0], 1);
	close_stage(&stage);
}

static void test_null__impossible_messages_are_counted(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;
	struct request_slot *slot;

	open_stage(&stage, &options);
	ring_push(segment_request_ring(&stage.segment, 1), 32,
		&(struct ring_message){RING_SUBMIT, 64, 0, 0});
	ring_push(segment_request_ring(&stage.segment, 1), 32,
		&(struct ring_message){99, 0, 1, 0});
	slot = prepare(&stage, 0, 5);
	slot->rank = 0; /* another's */
	tell(&stage, RING_SUBMIT, 0, 0);
	slot = prepare(&stage, 1, 5);
	slot->front_state = FRONT_PARSING;
	tell(&stage, RING_SUBMIT, 1, 0);
	slot = prepare(&stage, 2, 5);
	slot->engine_state = 1000;
	tell(&stage, RING_SUBMIT, 2, 0);
	prepare(&stage, 3, 5);
	tell(&stage, RING_SUBMIT, 3, 0);
	tell(&stage, RING_SUBMIT, 3, 0); /* twice */
	run_for(&stage, 10 * STEP_NS);
	CU_ASSERT_EQUAL(stage.engine.rank.counters->bad_messages_total, 6);
	CU_ASSERT_EQUAL(stage.told[3], 5);
	tell(&stage, RING_SUBMIT, 3, 0); /* again, after its end */
	run_for(&stage, 10 * STEP_NS);
	CU_ASSERT_EQUAL(stage.done[3], 1);
	CU_ASSERT_EQUAL(stage.engine.rank.counters->bad_messages_total, 7);
	close_stage(&stage);
}

static void test_null_open__ends_what_an_earlier_life_left(void)
{
	struct engine_null_options options = default_options();
	struct stage stage;
	struct error err = {0};

	options.row_count = 1;
	open_stage(&stage, &options);
	for (uint32_t i = 0; i < 2; i++) {
		prepare(&stage, i, 100);
		tell(&stage, RING_SUBMIT, i, 0);
	}
	segment_slot(&stage.segment, 2)->engine_state = ENGINE_RUNNING;
	segment_slot(&stage.segment, 2)->rank = 0; /* another's */
	run_for(&stage, 3 * STEP_NS);
	null_close(&stage.engine);
	prepare(&stage, 3, 5);
	tell(&stage, RING_SUBMIT, 3, 0); /* which nobody has seen */
	CU_ASSERT_EQUAL_FATAL(
		null_open(&stage.place, &options, &stage.engine, &err), 0);
	for (uint32_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(segment_slot(&stage.segment, i)->engine_state,
			ENGINE_FAILED);
		CU_ASSERT_EQUAL(segment_slot(&stage.segment, i)->finish,
			FINISH_ENGINE_LOST);
	}
	CU_ASSERT_EQUAL(
		segment_slot(&stage.segment, 2)->engine_state, ENGINE_RUNNING);
	run_for(&stage, 10 * STEP_NS);
	CU_ASSERT_EQUAL(stage.told[3], 0);
	/* A slot that failed serves the next request. */
	prepare(&stage, 0, 5);
	tell(&stage, RING_SUBMIT, 0, 0);
	run_for(&stage, 10 * STEP_NS);
	CU_ASSERT_EQUAL(stage.told[0], 5);
	close_stage(&stage);
}

static void test_null_open__options(void)
{
	struct engine_null_options good = default_options(), bad[6];
	struct stage stage;
	struct null_engine engine;

	for (int i = 0; i < 6; i++)
		bad[i] = good;
	bad[0].row_count = 0;
	bad[1].row_count = STEP_SEQUENCE_COUNT_MAX + 1;
	bad[2].step_us = ENGINE_NULL_STEP_US_MAX + 1;
	bad[3].id_count = 0;
	bad[4].id_count = VOCAB - FIRST + 1;
	bad[5].eos_count = ENGINE_NULL_EOS_COUNT_MAX + 1;
	open_stage(&stage, &good);
	for (int i = 0; i < 6; i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(null_open(&stage.place, &bad[i], &engine, &err),
			-EINVAL);
		CU_ASSERT_TRUE(error_is_set(&err));
	}
	close_stage(&stage);
}

struct runner {
	struct stage *stage;
	struct engine_null_options options;
	uint32_t stop;
	int rc;
};

static void *run_engine(void *arg)
{
	struct runner *runner = arg;
	struct error err = {0};

	runner->stage->place.stop = &runner->stop;
	runner->rc =
		engine_null_run(&runner->stage->place, &runner->options, &err);
	return NULL;
}

/* Until the dataplane's bell is rung; it may have been for the last time. */
static void sleep_on_bell(const struct stage *stage)
{
	struct pollfd bell = {
		.fd = segment_bell(&stage->segment), .events = POLLIN};
	eventfd_t rung;

	if (poll(&bell, 1, 30000) == 1)
		CU_ASSERT_EQUAL(eventfd_read(bell.fd, &rung), 0);
}

/* Sleep as the dataplane does until something is true. */
#define WAIT_FOR(stage, condition)                                             \
	do {                                                                   \
		struct wake *wake_ =                                           \
			segment_wake(&(stage)->segment, ROLE_INDEX_FRONT);     \
		struct mono end_ = mono_add(mono_now(), 30 * NS_PER_S);        \
		while (!(condition) && mono_before(mono_now(), end_)) {        \
			(void)wake_arm(wake_);                                 \
			hear(stage);                                           \
			if (!(condition))                                      \
				sleep_on_bell(stage);                          \
			wake_disarm(wake_);                                    \
		}                                                              \
		CU_ASSERT_TRUE(condition);                                     \
	} while (0)

static void test_engine_null_run__serves_in_its_own_thread_and_stops(void)
{
	struct engine_null_options options = default_options();
	struct runner runner = {.options = options};
	struct stage stage;
	struct role_beat *beat;
	pthread_t thread;

	open_stage(&stage, &options);
	runner.stage = &stage;
	runner.options.step_us = 0;
	beat = segment_beat(&stage.segment, ROLE_INDEX_RANK0 + 1);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, run_engine, &runner), 0);
	WAIT_FOR(&stage,
		__atomic_load_n(&beat->state, __ATOMIC_ACQUIRE) == BEAT_READY);
	for (uint32_t i = 0; i < 8; i++) {
		prepare(&stage, i, i == 7 ? 4000 : 200);
		if (i == 7)
			segment_slot(&stage.segment, 7)->params.deadline_ns = 0;
		tell(&stage, RING_SUBMIT, i, 0);
	}
	wake_post(stage.engine.rank.wake);
	WAIT_FOR(&stage, stage.told[7] > 0 && stage.done[6]);
	for (uint32_t i = 0; i < 7; i++)
		CU_ASSERT_EQUAL(stage.told[i], 200);
	__atomic_store_n(&runner.stop, 1, __ATOMIC_RELEASE);
	wake_post(stage.engine.rank.wake);
	pthread_join(thread, NULL);
	hear(&stage);
	CU_ASSERT_EQUAL(runner.rc, 0);
	CU_ASSERT_EQUAL(stage.done[7], 1);
	CU_ASSERT_EQUAL(beat->state, BEAT_ABSENT);
	CU_ASSERT_TRUE(beat->beat_ns > 0);
	close_stage(&stage);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(null__makes_as_many_tokens_as_asked),
		SUITE_CASE(
			null__tokens_depend_on_seed_choice_and_position_only),
		SUITE_CASE(null__steps_keep_their_pace),
		SUITE_CASE(
			null__rows_bound_what_runs_and_the_rest_waits_in_order),
		SUITE_CASE(null__eos_ends_unless_ignored_or_too_early),
		SUITE_CASE(null__stop_ids_end_even_when_eos_is_ignored),
		SUITE_CASE(null__everything_masked_fails),
		SUITE_CASE(null__logprobs_and_alternatives),
		SUITE_CASE(null__cancel_and_finish_at),
		SUITE_CASE(null__deadlines_of_rows_and_of_those_who_wait),
		SUITE_CASE(
			null__ranks_that_begin_together_do_not_speak_together),
		SUITE_CASE(null__stale_messages_are_dropped),
		SUITE_CASE(null__a_full_token_ring_holds_the_steps),
		SUITE_CASE(null__bad_requests_fail_alone),
		SUITE_CASE(null__an_id_beyond_the_vocabulary_fails),
		SUITE_CASE(null__a_log_without_room_fails_its_request),
		SUITE_CASE(null__impossible_messages_are_counted),
		SUITE_CASE(null_open__ends_what_an_earlier_life_left),
		SUITE_CASE(null_open__options),
		SUITE_CASE(engine_null_run__serves_in_its_own_thread_and_stops),
	};

	return SUITE_MAIN("null", cases);
}
