/* test_rank.c - a rank that takes over what its earlier life had begun */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "engine/rank.h"
#include "tests/suite.h"

#define SLOTS 16u
#define VOCAB 1000u
#define EOS 7u

/* The dataplane's part and the engine's, both played by the test. */
struct stage {
	struct segment segment;
	int fd;
	struct rank rank;
	uint32_t page_next; /* pages are handed out once, ascending */
	/* what the hooks heard, by slot */
	uint32_t submitted[SLOTS], ended[SLOTS];
	/* what the token ring said */
	uint32_t told[SLOTS], done[SLOTS];
};

static void on_submitted(void *arg, uint32_t slot_index, struct mono now)
{
	struct stage *stage = arg;

	(void)now;
	stage->submitted[slot_index]++;
}

static void on_end(void *arg, uint32_t slot_index, enum finish_reason reason)
{
	struct stage *stage = arg;

	stage->ended[slot_index]++;
	rank_finish(&stage->rank, slot_index, reason);
}

static void open_rank(struct stage *stage)
{
	const struct rank_config config = {
		.rank = 1,
		.name = "test",
		.vocab = VOCAB,
		.position_count = 4096,
		.row_count = 4,
		.eos = {EOS},
		.eos_count = 1,
		.resume = true,
		.hooks = {.arg = stage,
			.submitted = on_submitted,
			.end = on_end},
	};
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(
		rank_open(&stage->segment, &config, &stage->rank, &err), 0);
	memset(stage->submitted, 0, sizeof(stage->submitted));
	memset(stage->ended, 0, sizeof(stage->ended));
	memset(stage->told, 0, sizeof(stage->told));
	memset(stage->done, 0, sizeof(stage->done));
	rank_take_over(&stage->rank, (struct mono){1});
}

static void open_stage_of(struct stage *stage, uint32_t front_count)
{
	const struct segment_shape shape = {SLOTS, 600, 64, 2, front_count};
	struct error err = {0};

	memset(stage, 0, sizeof(*stage));
	CU_ASSERT_EQUAL_FATAL(
		segment_create(&shape, &stage->segment, &stage->fd, &err), 0);
	open_rank(stage);
}

static void open_stage(struct stage *stage)
{
	open_stage_of(stage, 1);
}

static void close_stage(struct stage *stage)
{
	rank_close(&stage->rank);
	segment_detach(&stage->segment);
	close(stage->fd);
}

static void hear(struct stage *stage)
{
	struct ring_message messages[64];
	uint32_t count;

	CU_ASSERT_TRUE(rank_flush(&stage->rank));
	count = ring_pop(
		segment_token_ring(&stage->segment, 1), 64, messages, 64);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t slot = messages[i].slot;

		CU_ASSERT_FATAL(slot < SLOTS);
		if (messages[i].kind == RING_DONE)
			stage->done[slot]++;
		else
			stage->told[slot] = messages[i].value;
	}
}

/* The engine is gone with all that it knew; another one comes. */
static void die_and_live(struct stage *stage)
{
	rank_close(&stage->rank);
	open_rank(stage);
	hear(stage);
}

static uint32_t take_pages(struct stage *stage, uint32_t count)
{
	uint32_t first = stage->page_next;

	for (uint32_t i = 0; i < count; i++)
		segment_page(&stage->segment, first + i)->next =
			i + 1 < count ? first + i + 1 : PAYLOAD_NONE;
	stage->page_next += count;
	CU_ASSERT_FATAL(stage->page_next <= 600);
	return first;
}

static struct request_slot *prepare(
	struct stage *stage, uint32_t index, uint32_t output_max)
{
	struct request_slot *slot = segment_slot(&stage->segment, index);
	uint32_t id = 5;

	slot->front_state = FRONT_SUBMITTED;
	slot->generation++;
	slot->rank = 1;
	slot->instance = slot->epoch = slot->name = 0;
	slot->finish_at = UINT32_MAX;
	slot->prompt_page = take_pages(stage, 1);
	slot->log_page = take_pages(
		stage, output_max / (uint32_t)PAYLOAD_RECORDS_PER_PAGE + 1);
	slot->top_page = PAYLOAD_NONE;
	memcpy(segment_page(&stage->segment, slot->prompt_page)->bytes, &id,
		sizeof(id));
	memset(&slot->params, 0, sizeof(slot->params));
	slot->params.prompt_count = 1;
	slot->params.output_max = output_max;
	slot->params.bias_page = PAYLOAD_NONE;
	slot->params.stop_page = PAYLOAD_NONE;
	slot->params.mask = PAYLOAD_NONE;
	return slot;
}

static void submit(struct stage *stage, uint32_t index)
{
	const struct ring_message message = {RING_SUBMIT, index,
		segment_slot(&stage->segment, index)->generation, 0};

	CU_ASSERT_TRUE(ring_push(
		segment_request_ring(&stage->segment, 1), 64, &message));
}

/* Submitted, started, and given tokens 100, 101, ... */
static struct request_slot *run_some(struct stage *stage, uint32_t index,
	uint32_t count, uint32_t output_max)
{
	struct request_slot *slot = prepare(stage, index, output_max);

	submit(stage, index);
	rank_intake(&stage->rank, (struct mono){2});
	CU_ASSERT_EQUAL_FATAL(stage->submitted[index], 1);
	rank_start(&stage->rank, index, (struct mono){3});
	for (uint32_t i = 0; i < count; i++) {
		const struct token_record record = {100 + i % 800, -1};

		CU_ASSERT_TRUE_FATAL(rank_append(&stage->rank, index, record,
			NULL, (struct mono){4 + i}));
		hear(stage);
	}
	return slot;
}

static void test_resume__goes_on_behind_the_last_record(void)
{
	/* Around the edges of a page of records. */
	static const uint32_t counts[] = {0, 1, 510, 511, 512, 1022, 1023};
	struct stage stage;

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct token_record record = {77, -2};
		uint32_t ids[1200], count = counts[i];
		struct request_slot *slot;

		open_stage(&stage);
		slot = run_some(&stage, 3, count, 1100);
		die_and_live(&stage);
		CU_ASSERT_EQUAL(stage.submitted[3], 1);
		CU_ASSERT_EQUAL(stage.told[3], count);
		CU_ASSERT_EQUAL(slot->engine_state, ENGINE_PREEMPTED);
		rank_start(&stage.rank, 3, (struct mono){9});
		CU_ASSERT_TRUE(rank_append(
			&stage.rank, 3, record, NULL, (struct mono){9}));
		CU_ASSERT_EQUAL(slot->output_count, count + 1);
		CU_ASSERT_TRUE(rank_read_log(&stage.rank, 3, ids));
		for (uint32_t k = 0; k < count; k++)
			CU_ASSERT_EQUAL(ids[k], 100 + k % 800);
		CU_ASSERT_EQUAL(ids[count], 77);
		close_stage(&stage);
	}
}

static void test_resume__what_waited_waits(void)
{
	struct stage stage;
	const struct request_slot *slot;

	open_stage(&stage);
	slot = prepare(&stage, 2, 10);
	submit(&stage, 2);
	rank_intake(&stage.rank, (struct mono){2});
	die_and_live(&stage);
	CU_ASSERT_EQUAL(stage.submitted[2], 1);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_QUEUED);
	CU_ASSERT_EQUAL(stage.rank.waiting, 1);
	close_stage(&stage);
}

static void test_resume__a_lost_submit_is_found_and_comes_once(void)
{
	struct ring_message lost;
	struct stage stage;

	open_stage(&stage);
	prepare(&stage, 2, 10);
	submit(&stage, 2);
	/* Read by the life that ended, and never acted upon. */
	CU_ASSERT_EQUAL(
		ring_pop(segment_request_ring(&stage.segment, 1), 64, &lost, 1),
		1);
	prepare(&stage, 4, 10);
	submit(&stage, 4);
	die_and_live(&stage);
	rank_intake(&stage.rank, (struct mono){5});
	CU_ASSERT_EQUAL(stage.submitted[2], 1);
	CU_ASSERT_EQUAL(stage.submitted[4], 1);
	CU_ASSERT_EQUAL(stage.rank.waiting, 2);
	CU_ASSERT_EQUAL(stage.rank.counters->bad_messages_total, 0);
	close_stage(&stage);
}

static void test_resume__a_lost_end_is_told_again(void)
{
	struct stage stage;
	const struct request_slot *slot;

	open_stage(&stage);
	slot = run_some(&stage, 1, 3, 10);
	rank_finish(&stage.rank, 1, FINISH_STOP_TOKEN);
	die_and_live(&stage); /* with the message in its outbox */
	CU_ASSERT_EQUAL(stage.done[1], 1);
	CU_ASSERT_EQUAL(stage.submitted[1], 0);
	CU_ASSERT_EQUAL(slot->engine_state, ENGINE_FINISHED);
	CU_ASSERT_EQUAL(slot->finish, FINISH_STOP_TOKEN);
	close_stage(&stage);
}

static void test_resume__what_was_complete_ends(void)
{
	const struct token_record eos = {EOS | TOKEN_FLAG_LAST, -1};
	struct request_slot *slots[4];
	struct stage stage;

	open_stage(&stage);
	slots[0] = run_some(&stage, 0, 10, 10);
	slots[1] = run_some(&stage, 1, 2, 10);
	CU_ASSERT_TRUE(
		rank_append(&stage.rank, 1, eos, NULL, (struct mono){9}));
	slots[2] = run_some(&stage, 2, 2, 10);
	slots[2]->params.ignore_eos = true;
	CU_ASSERT_TRUE(
		rank_append(&stage.rank, 2, eos, NULL, (struct mono){9}));
	slots[3] = run_some(&stage, 3, 6, 10);
	slots[3]->finish_at = 4;
	die_and_live(&stage);
	CU_ASSERT_EQUAL(slots[0]->finish, FINISH_LENGTH);
	CU_ASSERT_EQUAL(slots[1]->finish, FINISH_STOP_TOKEN);
	CU_ASSERT_EQUAL(slots[2]->engine_state, ENGINE_PREEMPTED);
	CU_ASSERT_EQUAL(slots[3]->finish, FINISH_STOP_TEXT);
	for (uint32_t i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(stage.done[i], i != 2);
		CU_ASSERT_EQUAL(stage.submitted[i], i == 2);
	}
	close_stage(&stage);
}

static void test_resume__what_the_dataplane_closed_is_let_go(void)
{
	struct request_slot *slots[2];
	struct stage stage;

	open_stage(&stage);
	slots[0] = run_some(&stage, 0, 3, 10);
	slots[0]->front_state = FRONT_CLOSED;
	/* Never begun: answered, and nothing written that is the front's. */
	slots[1] = prepare(&stage, 1, 10);
	slots[1]->front_state = FRONT_CLOSED;
	submit(&stage, 1);
	die_and_live(&stage);
	rank_intake(&stage.rank, (struct mono){5});
	CU_ASSERT_EQUAL(stage.ended[0], 1);
	CU_ASSERT_EQUAL(slots[0]->finish, FINISH_CANCELLED);
	CU_ASSERT_EQUAL(slots[1]->engine_state, ENGINE_IDLE);
	CU_ASSERT_EQUAL(stage.submitted[1], 0);
	CU_ASSERT_EQUAL(stage.done[1], 1);
	close_stage(&stage);
}

static void test_resume__an_impossible_log_fails_alone(void)
{
	struct request_slot *slots[3];
	struct stage stage;

	open_stage(&stage);
	for (uint32_t i = 0; i < 3; i++)
		slots[i] = run_some(&stage, i, 3, 600);
	slots[0]->output_count = 601;
	slots[1]->output_count = 512; /* its second page is cut off */
	segment_page(&stage.segment, slots[1]->log_page)->next = 600;
	die_and_live(&stage);
	CU_ASSERT_EQUAL(slots[0]->engine_state, ENGINE_FAILED);
	CU_ASSERT_EQUAL(slots[1]->engine_state, ENGINE_FAILED);
	CU_ASSERT_EQUAL(slots[2]->engine_state, ENGINE_PREEMPTED);
	CU_ASSERT_EQUAL(stage.rank.counters->bad_messages_total, 2);
	close_stage(&stage);
}

static void test_resume__slots_of_other_ranks_and_other_lives_stay(void)
{
	struct request_slot *slot;
	struct stage stage;

	open_stage(&stage);
	slot = run_some(&stage, 0, 3, 10);
	slot->rank = 0;
	/* Freed and given to another client, who is still being read. */
	slot = run_some(&stage, 1, 3, 10);
	rank_finish(&stage.rank, 1, FINISH_LENGTH);
	hear(&stage);
	slot->generation++;
	slot->front_state = FRONT_PARSING;
	die_and_live(&stage);
	for (uint32_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(stage.submitted[i], 0);
		CU_ASSERT_EQUAL(stage.done[i], 0);
	}
	close_stage(&stage);
}

/* --- a dataplane gone wrong --------------------------------------------------- */

static void spoil(void *bytes, size_t size_bytes, uint64_t *random)
{
	uint8_t *at = bytes;

	for (uint32_t i = suite_below(random, 12); i > 0; i--)
		at[suite_below(random, (uint32_t)size_bytes)] =
			suite_below(random, 2)
				? (uint8_t)suite_below(random, 256)
				: (uint8_t)suite_below(random, 4);
}

/* Any message, mostly about slots that there are. */
static void send_any(struct stage *stage, uint64_t *random)
{
	uint32_t index = suite_below(random, SLOTS + 1);
	const struct ring_message message = {
		.kind = suite_below(random, RING_KIND_COUNT + 1),
		.slot = index,
		.generation = index < SLOTS && suite_below(random, 8)
				      ? segment_slot(&stage->segment, index)
						->generation
				      : suite_below(random, 5),
		.value = suite_below(random, 2000),
	};

	(void)ring_push(segment_request_ring(&stage->segment, 1), 64, &message);
}

/* The engine's part: whatever it was given, it runs and ends. */
static bool run_any(struct stage *stage, uint64_t *random)
{
	uint32_t index = suite_below(random, SLOTS);
	const struct rank_request *request = &stage->rank.requests[index];
	const struct token_record record = {suite_below(random, VOCAB), -1};
	uint32_t ids[4200];

	if (!rank_is_live(request))
		return false;
	if (request->own != ENGINE_RUNNING)
		rank_start(&stage->rank, index, (struct mono){5});
	(void)rank_read_log(&stage->rank, index, ids);
	(void)rank_is_stop(&stage->rank, request, record.token_flags);
	if (request->output_count == request->params.output_max ||
		!rank_append(&stage->rank, index, record,
			(const struct token_record[LOGPROB_TOP_MAX]){{0, 0}},
			(struct mono){6}))
		rank_finish(&stage->rank, index, FINISH_LENGTH);
	else if (suite_below(random, 4) == 0)
		rank_preempt(&stage->rank, index);
	return true;
}

static void test_rank__whatever_the_dataplane_writes(void)
{
	uint64_t random = suite_seed(99);
	struct stage stage;
	uint64_t begun = 0;

	open_stage(&stage);
	for (uint32_t round = 0; round < 60000; round++) {
		uint32_t index = suite_below(&random, SLOTS);
		struct request_slot *slot = segment_slot(&stage.segment, index);

		/* Pages are few, so chains cross and go in circles. */
		if (suite_below(&random, 3) == 0) {
			stage.page_next = suite_below(&random, 20);
			prepare(&stage, index, 1 + suite_below(&random, 900));
			if (!rank_is_live(&stage.rank.requests[index]))
				slot->engine_state = ENGINE_IDLE;
		}
		if (suite_below(&random, 3) == 0)
			spoil(slot, offsetof(struct request_slot, engine_state),
				&random);
		if (suite_below(&random, 20) == 0)
			spoil(&slot->engine_state,
				sizeof(*slot) - offsetof(struct request_slot,
							engine_state),
				&random);
		if (suite_below(&random, 3) == 0)
			spoil(segment_page(
				      &stage.segment, suite_below(&random, 20)),
				64, &random);
		send_any(&stage, &random);
		rank_intake(&stage.rank, (struct mono){round});
		begun += run_any(&stage, &random);
		CU_ASSERT_TRUE(rank_flush(&stage.rank));
		ring_init(segment_token_ring(&stage.segment, 1), 64,
			ring_size(64));
		if (suite_below(&random, 50) == 0) {
			rank_close(&stage.rank);
			open_rank(&stage);
			rank_sweep_closed(&stage.rank);
			(void)rank_flush(&stage.rank);
			ring_init(segment_token_ring(&stage.segment, 1), 64,
				ring_size(64));
		}
	}
	CU_ASSERT_TRUE(begun > 1000);
	close_stage(&stage);
}

/* --- several fronts ------------------------------------------------------------- */

static uint32_t heard_by(
	const struct segment *view, struct ring_message *out, uint32_t max)
{
	return ring_pop(segment_token_ring(view, 1), 64, out, max);
}

/* Each hears of its own alone, and may speak of its own alone. */
static void test_rank__fronts_are_served_apart(void)
{
	const uint32_t slots[2] = {0, SLOTS - 1};
	struct ring_message said[4];
	struct segment views[2];
	struct stage stage;
	struct rank_mark mark;

	open_stage_of(&stage, 2);
	for (uint32_t f = 0; f < 2; f++) {
		const struct ring_message other = {RING_SUBMIT, slots[1 - f],
			segment_slot(&stage.segment, slots[1 - f])->generation,
			0};

		views[f] = segment_view(&stage.segment, f);
		CU_ASSERT_TRUE(ring_push(
			segment_request_ring(&views[f], 1), 64, &other));
	}
	CU_ASSERT_EQUAL(rank_intake(&stage.rank, (struct mono){1}), 2);
	CU_ASSERT_EQUAL(stage.rank.counters->bad_messages_total, 2);
	for (uint32_t f = 0; f < 2; f++) {
		const struct request_slot *slot = prepare(&stage, slots[f], 4);
		const struct ring_message own = {
			RING_SUBMIT, slots[f], slot->generation, 0};

		CU_ASSERT_TRUE(ring_push(
			segment_request_ring(&views[f], 1), 64, &own));
	}
	/* What one ring holds is not passed because the other is empty. */
	mark = rank_ring_mark(&stage.rank);
	CU_ASSERT_FALSE(rank_ring_passed(&stage.rank, &mark));
	CU_ASSERT_EQUAL(rank_intake(&stage.rank, (struct mono){2}), 2);
	CU_ASSERT_TRUE(rank_ring_passed(&stage.rank, &mark));
	for (uint32_t f = 0; f < 2; f++)
		CU_ASSERT_EQUAL(stage.submitted[slots[f]], 1);
	rank_finish(&stage.rank, slots[1], FINISH_CANCELLED);
	CU_ASSERT_TRUE(rank_flush(&stage.rank));
	CU_ASSERT_EQUAL(heard_by(&views[0], said, 4), 0);
	CU_ASSERT_EQUAL_FATAL(heard_by(&views[1], said, 4), 1);
	CU_ASSERT_EQUAL(said[0].kind, RING_DONE);
	CU_ASSERT_EQUAL(said[0].slot, slots[1]);
	/* One that does not read holds up what is for it, and is waited for. */
	for (uint32_t i = 0; i < 65; i++)
		rank_send(&stage.rank, RING_TOKENS, slots[0], 0);
	rank_send(&stage.rank, RING_TOKENS, slots[1], 0);
	CU_ASSERT_FALSE(rank_flush(&stage.rank));
	CU_ASSERT_EQUAL(heard_by(&views[1], said, 4), 1);
	CU_ASSERT_EQUAL(heard_by(&views[0], said, 4), 4);
	CU_ASSERT_TRUE(rank_flush(&stage.rank));
	close_stage(&stage);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(resume__goes_on_behind_the_last_record),
		SUITE_CASE(resume__what_waited_waits),
		SUITE_CASE(resume__a_lost_submit_is_found_and_comes_once),
		SUITE_CASE(resume__a_lost_end_is_told_again),
		SUITE_CASE(resume__what_was_complete_ends),
		SUITE_CASE(resume__what_the_dataplane_closed_is_let_go),
		SUITE_CASE(resume__an_impossible_log_fails_alone),
		SUITE_CASE(resume__slots_of_other_ranks_and_other_lives_stay),
		SUITE_CASE(rank__whatever_the_dataplane_writes),
		SUITE_CASE(rank__fronts_are_served_apart),
	};

	return SUITE_MAIN("rank", cases);
}
