/* test_front_faults.c - the dataplane role when clients and engines misbehave */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/front_case.h"
#include "tests/suite.h"
#include "tests/text_case.h"

#define TEXT "{\"model\":\"alias\",\"prompt\":\"Hi\""
#define STREAM TEXT ",\"stream\":true}"

static struct front_case c;

static void expect(uint32_t client, const char *text)
{
	CU_ASSERT(front_case_expect(&c, client, text));
}

static bool has(uint32_t client, const char *text)
{
	return strstr(fake_stream_output(client, NULL), text) != NULL;
}

static uint32_t post(const char *body)
{
	uint32_t client = front_case_connect(&c, 0);

	front_case_post(client, "/v1/completions", "", body);
	return client;
}

static struct request_slot *slot_of(const struct ring_message *m)
{
	return segment_slot(&c.segment, m->slot);
}

static uint32_t some_id(void)
{
	uint32_t id = 0;

	(void)text_encode(c.tok, ".", 1, &id, 1);
	return id;
}

/* The request still answers, and nothing was lost. */
static void check_alive(void)
{
	uint32_t client = post(TEXT "}");
	struct ring_message m;

	do
		m = front_case_pop(&c, 0);
	while (m.kind != RING_SUBMIT);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "\"text\":\".\"");
	front_case_settle(&c);
}

static bool is_aborted(struct front_case *unused, void *arg)
{
	(void)unused;
	return fake_stream_was_aborted(*(uint32_t *)arg) &&
	       fake_stream_is_closed(*(uint32_t *)arg);
}

static bool is_closed(struct front_case *unused, void *arg)
{
	(void)unused;
	return fake_stream_is_closed(*(uint32_t *)arg);
}

/* --- clients that go ------------------------------------------------------------------ */

static void gone(void (*leave)(uint32_t client))
{
	struct ring_message m, cancel;
	uint32_t client;

	front_case_open(&c);
	client = post(STREAM);
	m = front_case_pop(&c, 0);
	front_case_run(&c, m.slot);
	front_case_write(&c, m.slot, some_id(), 0);
	front_case_tell(&c, &m);
	expect(client, "\"text\":\".\"");
	leave(client);
	cancel = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(cancel.kind, RING_CANCEL);
	CU_ASSERT_EQUAL(cancel.slot, m.slot);
	CU_ASSERT_EQUAL(cancel.generation, m.generation);
	front_case_settle(&c);
	/* The engine has not answered: its slot is not used again. */
	CU_ASSERT_EQUAL(c.front->slot_used, 1);
	front_case_finish(&c, &m, FINISH_CANCELLED);
	front_case_settle(&c);
	CU_ASSERT_EQUAL(c.front->slot_used, 0);
	check_alive();
	front_case_close(&c);
}

static void test_front__client_resets(void)
{
	gone(fake_stream_reset);
}

/* As `nc -N`: the end of the client's side is not the end of its interest. */
static void test_front__half_closed_client_is_answered(void)
{
	static const char *const bodies[] = {STREAM, TEXT "}"};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct ring_message m;
		uint32_t client;

		front_case_open(&c);
		client = post(bodies[i]);
		m = front_case_pop(&c, 0);
		fake_stream_peer_done(client);
		front_case_settle(&c);
		front_case_answer(&c, &m, "...", FINISH_LENGTH);
		CU_ASSERT(front_case_turn(&c, is_closed, &client));
		CU_ASSERT(!fake_stream_was_aborted(client));
		CU_ASSERT(has(client, "HTTP/1.1 200 "));
		CU_ASSERT(has(client, i == 0 ? "data: [DONE]\n\n\r\n0\r\n\r\n"
					     : "\"text\":\"...\""));
		front_case_settle(&c);
		check_alive();
		front_case_close(&c);
	}
}

/* Three requests for a row of two, and then the end: all are answered. */
static void test_front__half_closed_row_is_answered(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_prepare(&c, 1);
	c.setup.limits.pipelined_count = 2;
	front_case_start(&c);
	client = front_case_connect(&c, 0);
	for (int i = 0; i < 3; i++)
		front_case_post(client, "/v1/completions", "", TEXT "}");
	fake_stream_peer_done(client);
	for (int i = 0; i < 3; i++) {
		m = front_case_pop(&c, 0);
		front_case_answer(&c, &m,
			i == 0   ? "."
			: i == 1 ? ".."
				 : "...",
			FINISH_LENGTH);
	}
	CU_ASSERT(front_case_turn(&c, is_closed, &client));
	CU_ASSERT(has(client, "\"text\":\".\""));
	CU_ASSERT(has(client, "\"text\":\"..\""));
	CU_ASSERT(has(client, "\"text\":\"...\""));
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__half_closed_in_a_request(void)
{
	static const char cut_body[] =
		"POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
		"Content-Length: 10\r\n\r\n{";
	static const char *const parts[] = {"GET /v", cut_body, ""};

	front_case_open(&c);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		uint32_t client = front_case_connect(&c, 0);

		front_case_say(client, parts[i]);
		fake_stream_peer_done(client);
		CU_ASSERT(front_case_turn(&c, is_closed, &client));
		CU_ASSERT_EQUAL(has(client, "HTTP/1.1 400 "), i < 2);
		CU_ASSERT_EQUAL(
			fake_stream_output(client, NULL)[0] == '\0', i == 2);
	}
	check_alive();
	front_case_close(&c);
}

/* Nothing is sent that a client that is gone could reset: it is asked. */
static void test_front__half_closed_client_is_probed(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = post(TEXT "}");
	m = front_case_pop(&c, 0);
	fake_stream_peer_done(client);
	expect(client, "HTTP/1.1 100 Continue\r\n\r\n");
	fake_stream_reset(client);
	CU_ASSERT_EQUAL(front_case_pop(&c, 0).kind, RING_CANCEL);
	front_case_run(&c, m.slot);
	front_case_finish(&c, &m, FINISH_CANCELLED);
	front_case_settle(&c);
	check_alive();
	front_case_close(&c);
}

/* Its end does not free a client from reading. */
static void test_front__half_closed_client_that_never_reads(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_prepare(&c, 1);
	c.setup.limits.stall_timeout_ns = 1;
	front_case_start(&c);
	client = post(STREAM);
	m = front_case_pop(&c, 0);
	fake_stream_room(client, 10);
	fake_stream_peer_done(client);
	front_case_run(&c, m.slot);
	front_case_write(&c, m.slot, some_id(), 0);
	front_case_tell(&c, &m);
	CU_ASSERT(front_case_turn(&c, is_aborted, &client));
	CU_ASSERT_EQUAL(front_case_pop(&c, 0).kind, RING_CANCEL);
	front_case_finish(&c, &m, FINISH_CANCELLED);
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__client_goes_while_its_prompt_is_parsed(void)
{
	uint32_t client;

	front_case_open(&c);
	client = post(STREAM);
	/* One turn hands the body over; the next one sees the reset. */
	front_turn(c.front, mono_now());
	fake_stream_reset(client);
	front_case_settle(&c);
	{
		struct ring_message m;

		while (front_case_pop_now(&c, 0, &m))
			if (m.kind == RING_CANCEL)
				front_case_finish(&c, &m, FINISH_CANCELLED);
	}
	front_case_settle(&c);
	check_alive();
	front_case_close(&c);
}

static void test_front__client_that_does_not_read(void)
{
	struct ring_message m;
	uint32_t client, sent = 0;
	const char *at;

	front_case_open(&c);
	client = post(TEXT ",\"max_tokens\":400,\"stream\":true}");
	m = front_case_pop(&c, 0);
	front_case_run(&c, m.slot);
	fake_stream_room(client, 700);
	for (uint32_t i = 0; i < 300; i++) {
		front_case_write(&c, m.slot, some_id(), 0);
		front_case_tell(&c, &m);
		if (i % 32 == 0)
			front_case_settle(&c);
	}
	front_case_settle(&c);
	/* No more than what was in flight waits outside of the log. */
	CU_ASSERT(c.front->slots[m.slot].posted <= 2 * FRONT_FLIGHT_TOKENS);
	CU_ASSERT(c.front->exchanges[0].pending_length < 65536);
	fake_stream_room(client, SIZE_MAX);
	front_case_finish(&c, &m, FINISH_LENGTH);
	expect(client, "data: [DONE]\n\n");
	front_case_settle(&c);
	for (at = fake_stream_output(client, NULL);
		(at = strstr(at, "\"text\":\"")) != NULL;) {
		at += 8;
		for (; *at == '.'; at++)
			sent++;
	}
	CU_ASSERT_EQUAL(sent, 300);
	front_case_close(&c);
}

static void test_front__client_that_never_reads_is_cut_off(void)
{
	struct ring_message m, cancel;
	uint32_t client;

	front_case_prepare(&c, 1);
	c.setup.limits.stall_timeout_ns = 1;
	front_case_start(&c);
	client = post(STREAM);
	m = front_case_pop(&c, 0);
	fake_stream_room(client, 10);
	front_case_run(&c, m.slot);
	front_case_write(&c, m.slot, some_id(), 0);
	front_case_tell(&c, &m);
	CU_ASSERT(front_case_turn(&c, is_aborted, &client));
	cancel = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(cancel.kind, RING_CANCEL);
	front_case_finish(&c, &m, FINISH_CANCELLED);
	front_case_settle(&c);
	front_case_close(&c);
}

/* --- time ---------------------------------------------------------------------------------- */

static void test_front__slow_header_idle_and_body(void)
{
	uint32_t client;

	front_case_prepare(&c, 1);
	c.setup.limits.header_timeout_ns = 1;
	c.setup.limits.idle_timeout_ns = 1;
	c.setup.limits.body_timeout_ns = 1;
	front_case_start(&c);
	client = front_case_connect(&c, 0);
	CU_ASSERT(front_case_turn(&c, is_closed, &client));
	client = front_case_connect(&c, 0);
	front_case_say(client, "GET /v");
	CU_ASSERT(front_case_turn(&c, is_closed, &client));
	CU_ASSERT_STRING_EQUAL(fake_stream_output(client, NULL), "");
	client = front_case_connect(&c, 0);
	front_case_get(client, "/version");
	CU_ASSERT(front_case_turn(&c, is_closed, &client));
	CU_ASSERT(has(client, "0.0.1"));
	client = front_case_connect(&c, 0);
	front_case_say(client, "POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
			       "Content-Length: 10\r\n\r\n{");
	expect(client, "HTTP/1.1 408 ");
	CU_ASSERT(front_case_turn(&c, is_closed, &client));
	CU_ASSERT(has(client, "\"code\":\"request_timeout\""));
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__request_takes_too_long(void)
{
	struct ring_message m, cancel;
	uint32_t client;

	front_case_prepare(&c, 1);
	c.setup.limits.request_timeout_ns = 200 * NS_PER_MS;
	front_case_start(&c);
	client = post(STREAM);
	m = front_case_pop(&c, 0);
	CU_ASSERT(slot_of(&m)->params.deadline_ns > 0);
	cancel = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(cancel.kind, RING_CANCEL);
	expect(client, "HTTP/1.1 504 ");
	expect(client, "\"code\":\"request_timeout\"");
	front_case_finish(&c, &m, FINISH_CANCELLED);
	front_case_settle(&c);
	front_case_close(&c);
}

/* --- overload -------------------------------------------------------------------------------- */

static void test_front__no_slot_is_429_at_once(void)
{
	struct ring_message m[FRONT_CASE_SLOTS];
	uint32_t client[FRONT_CASE_SLOTS], last;

	front_case_open(&c);
	for (int i = 0; i < FRONT_CASE_SLOTS; i++) {
		client[i] = post(TEXT "}");
		m[i] = front_case_pop(&c, 0);
	}
	last = post(TEXT "}");
	expect(last, "HTTP/1.1 429 ");
	CU_ASSERT(has(last, "retry-after-ms: 250\r\nretry-after: 1\r\n"
			    "x-should-retry: true\r\n"));
	CU_ASSERT(has(last, "\"type\":\"rate_limit_error\""));
	CU_ASSERT_EQUAL(c.front->counters->refused_total[REFUSAL_BUSY], 1);
	for (int i = 0; i < FRONT_CASE_SLOTS; i++)
		front_case_answer(&c, &m[i], ".", FINISH_LENGTH);
	front_case_settle(&c);
	for (int i = 0; i < FRONT_CASE_SLOTS; i++)
		CU_ASSERT(has(client[i], "\"text\":\".\""));
	check_alive();
	front_case_close(&c);
}

static void test_front__a_full_request_ring_is_429(void)
{
	struct ring *ring;
	struct ring_message m;
	uint32_t first, second, tail;

	front_case_open(&c);
	ring = segment_request_ring(&c.segment, 0);
	tail = ring->tail;
	/* As if the engine had taken nothing for a ring's length. */
	ring->tail_seen = ring->head - FRONT_CASE_RING;
	__atomic_store_n(&ring->tail, ring->tail_seen, __ATOMIC_RELEASE);
	first = post(TEXT "}");
	front_case_settle_except_slots(&c);
	second = post(TEXT "}");
	expect(second, "HTTP/1.1 429 ");
	CU_ASSERT(has(second, "the engine's queue is full"));
	CU_ASSERT_EQUAL(c.front->ranks[0].waiting, 1);
	__atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
	m = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(c.front->ranks[0].waiting, 0);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(first, "\"text\":\".\"");
	front_case_settle(&c);
	check_alive();
	front_case_close(&c);
}

/* Text that waits for a worker says nothing about the engine's queue. */
static void test_front__a_busy_worker_is_no_429(void)
{
	struct text_ring *jobs;
	struct ring_message m, next;
	uint32_t client, other;
	size_t capacity;

	front_case_open(&c);
	client = post(STREAM);
	m = front_case_pop(&c, 0);
	front_case_run(&c, m.slot);
	front_case_settle(&c);
	jobs = &c.front->workers[0].text.out_jobs;
	/* Empty, so the worker does not look at it; to us it is full. */
	capacity = jobs->capacity;
	jobs->capacity = 0;
	front_case_write(&c, m.slot, some_id(), 0);
	front_case_tell(&c, &m);
	front_case_settle_except_slots(&c);
	CU_ASSERT_EQUAL(c.front->dirty_slots, m.slot);
	other = post(TEXT "}");
	next = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(next.kind, RING_SUBMIT);
	jobs->capacity = capacity;
	front_case_answer(&c, &next, ".", FINISH_LENGTH);
	expect(other, "\"text\":\".\"");
	front_case_finish(&c, &m, FINISH_LENGTH);
	expect(client, "[DONE]");
	front_case_settle(&c);
	check_alive();
	front_case_close(&c);
}

static void test_front__no_page_is_429_and_too_many_is_400(void)
{
	struct ring_message m[8];
	uint32_t count = 0, last;

	front_case_open(&c);
	/* 2000 tokens of log and 20 alternatives each: more than there is. */
	last = post(TEXT ",\"max_tokens\":2000,\"logprobs\":20}");
	expect(last, "HTTP/1.1 400 ");
	CU_ASSERT(has(last, "this server has 8 and 64"));
	/* A log of 28 pages each: two fit. */
	for (;;) {
		last = post(TEXT ",\"max_tokens\":1000,\"logprobs\":12}");
		front_case_settle(&c);
		if (!front_case_pop_now(&c, 0, &m[count]))
			break;
		count++;
	}
	CU_ASSERT_EQUAL(count, 2);
	expect(last, "HTTP/1.1 429 ");
	while (count-- > 0)
		front_case_answer(&c, &m[count], ".", FINISH_LENGTH);
	front_case_settle(&c);
	check_alive();
	front_case_close(&c);
}

static void test_front__prompt_too_long_names_both_numbers(void)
{
	char *body = suite_calloc(1, 65536);
	uint32_t client;
	size_t at;

	front_case_open(&c);
	client = post(TEXT ",\"max_tokens\":2047}");
	expect(client, "the prompt has 2 tokens and 2047 were asked for; this "
		       "model's context holds 2048,");
	CU_ASSERT(has(client, "\"param\":\"max_tokens\",\"code\":"
			      "\"context_length_exceeded\""));
	at = (size_t)sprintf(body, "{\"model\":\"alias\",\"prompt\":[1");
	for (int i = 0; i < 2999; i++)
		at += (size_t)sprintf(body + at, ",1");
	memcpy(body + at, "]}", 3);
	client = post(body);
	expect(client, "the prompt has 3000 tokens; this model's context "
		       "holds 2048,");
	front_case_settle(&c);
	front_case_close(&c);
	free(body);
}

/* --- engines ------------------------------------------------------------------------------------ */

static void push_raw(uint32_t kind, const struct ring_message *m,
	uint32_t generation, uint32_t value)
{
	front_case_push(
		&c, 0, (struct ring_message){kind, m->slot, generation, value});
}

static void test_front__stale_and_impossible_messages_are_counted(void)
{
	const struct front_counters *counters;
	struct ring_message m, far = {.slot = UINT32_MAX};
	uint32_t client;

	front_case_open(&c);
	counters = c.front->counters;
	client = post(TEXT "}");
	m = front_case_pop(&c, 0);
	push_raw(RING_TOKENS, &m, m.generation + 1, 1);
	push_raw(RING_DONE, &m, m.generation - 1, 1);
	push_raw(RING_TOKENS, &far, 0, 1);
	push_raw(RING_KIND_COUNT, &m, m.generation, 1);
	push_raw(RING_SUBMIT, &m, m.generation, 1);
	front_case_settle(&c);
	CU_ASSERT_EQUAL(counters->stale_messages_total, 2);
	CU_ASSERT_EQUAL(counters->bad_messages_total, 3);
	/* None of them concerned this request. */
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "\"text\":\".\"");
	front_case_settle(&c);
	front_case_close(&c);
}

enum lie {
	LIE_COUNT_BEYOND_LOG,
	LIE_COUNT_BEYOND_MAX,
	LIE_COUNT_SHRINKS,
	LIE_TOKEN_ID,
	LIE_REASON,
	LIE_NOT_TERMINAL,
	LIE_CACHED,
	LIE_TOTAL
};

static void tell_lie(const struct ring_message *m, enum lie lie)
{
	struct request_slot *slot = slot_of(m);
	bool with_id = lie == LIE_TOKEN_ID;

	front_case_run(&c, m->slot);
	front_case_write(&c, m->slot, with_id ? TOKEN_ID_MASK : some_id(), 0);
	slot->finish = lie == LIE_REASON ? 99 : FINISH_LENGTH;
	slot->cached_count = lie == LIE_CACHED ? 3 : 0;
	switch (lie) {
	case LIE_COUNT_BEYOND_LOG:
		push_raw(RING_TOKENS, m, m->generation, 2);
		break;
	case LIE_COUNT_BEYOND_MAX:
		slot->output_count = 17;
		push_raw(RING_TOKENS, m, m->generation, 17);
		break;
	case LIE_COUNT_SHRINKS:
		push_raw(RING_TOKENS, m, m->generation, 1);
		push_raw(RING_TOKENS, m, m->generation, 0);
		break;
	case LIE_TOKEN_ID:
		push_raw(RING_TOKENS, m, m->generation, 1);
		break;
	default:
		if (lie != LIE_NOT_TERMINAL)
			slot->engine_state = ENGINE_FINISHED;
		push_raw(RING_DONE, m, m->generation, 1);
	}
}

static void lied_to(enum lie lie, const char *body)
{
	struct ring_message m, cancel;
	uint32_t client = post(body);
	uint64_t before = c.front->counters->bad_messages_total;

	m = front_case_pop(&c, 0);
	tell_lie(&m, lie);
	expect(client, "\"code\":\"internal_error\"");
	front_case_settle(&c);
	CU_ASSERT_EQUAL(c.front->counters->bad_messages_total, before + 1);
	if (front_case_pop_now(&c, 0, &cancel)) {
		CU_ASSERT_EQUAL(cancel.kind, RING_CANCEL);
		slot_of(&m)->output_count = c.front->slots[m.slot].seen;
		slot_of(&m)->cached_count = 0;
		front_case_finish(&c, &m, FINISH_CANCELLED);
	}
	front_case_settle(&c);
	CU_ASSERT_EQUAL(c.front->slot_used, 0);
}

static void test_front__lies_fail_only_their_request(void)
{
	front_case_open(&c);
	for (int lie = 0; lie < LIE_TOTAL; lie++) {
		lied_to((enum lie)lie, STREAM);
		/* Only a streamed text looks at each token as it comes. */
		if (lie != LIE_TOKEN_ID)
			lied_to((enum lie)lie, TEXT "}");
	}
	check_alive();
	front_case_close(&c);
}

static void close_rank(uint32_t rank, uint32_t life)
{
	const struct ring_message message = {
		.kind = RING_CLOSE, .generation = life, .value = rank};

	CU_ASSERT(ring_push(segment_control_ring(&c.segment, ROLE_INDEX_FRONT),
		FRONT_CASE_RING, &message));
}

static void test_front__dead_rank_ends_its_requests(void)
{
	uint32_t silent, streaming, other;
	struct ring_message a, b, d;

	front_case_prepare(&c, 2);
	front_case_start(&c);
	silent = post(TEXT "}");
	a = front_case_pop(&c, 0);
	other = post(TEXT "}");
	d = front_case_pop(&c, 1);
	streaming = post(STREAM);
	b = front_case_pop(&c, 0);
	front_case_run(&c, b.slot);
	front_case_write(&c, b.slot, some_id(), 0);
	front_case_tell(&c, &b);
	expect(streaming, "\"text\":\".\"");
	segment_beat(&c.segment, ROLE_INDEX_RANK0)->state = BEAT_DEAD;
	close_rank(0, 0);
	expect(silent, "HTTP/1.1 500 ");
	expect(silent, "\"code\":\"engine_lost\"");
	expect(streaming, "data: {\"error\":{");
	expect(streaming, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	CU_ASSERT(!has(streaming, "[DONE]"));
	CU_ASSERT(fake_stream_is_closed(streaming));
	CU_ASSERT(!fake_stream_is_closed(silent));
	CU_ASSERT_EQUAL(c.front->slot_used, 1);
	front_case_answer(&c, &d, ".", FINISH_LENGTH);
	expect(other, "\"text\":\".\"");
	/* The rank that lives serves on. */
	other = post(TEXT "}");
	d = front_case_pop(&c, 1);
	/* A late message of the dead one is stale. */
	front_case_finish(&c, &a, FINISH_LENGTH);
	front_case_answer(&c, &d, ".", FINISH_LENGTH);
	expect(other, "\"text\":\".\"");
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__close_of_an_earlier_life_spares_the_next(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_prepare(&c, 1);
	segment_beat(&c.segment, ROLE_INDEX_RANK0)->life = 2;
	front_case_start(&c);
	client = post(TEXT "}");
	m = front_case_pop(&c, 0);
	close_rank(0, 1);
	front_case_settle(&c);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "\"text\":\".\"");
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__no_engine_is_503(void)
{
	uint32_t client;

	front_case_prepare(&c, 1);
	segment_beat(&c.segment, ROLE_INDEX_RANK0)->state = BEAT_STARTING;
	front_case_start(&c);
	client = post(TEXT "}");
	expect(client, "HTTP/1.1 503 ");
	CU_ASSERT(has(client, "\"code\":\"engine_not_ready\""));
	front_case_get(client, "/ready");
	expect(client, "{\"status\":\"unavailable\"}");
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__health_is_red_without_beat_or_progress(void)
{
	struct role_beat *beat;
	struct front *front;
	uint64_t now;

	front_case_open(&c);
	front = c.front;
	beat = segment_beat(&c.segment, ROLE_INDEX_RANK0);
	now = front->now_ns;
	beat->beat_ns = now;
	beat->pending = 0;
	front->now_ns = now + FRONT_STANDSTILL_NS - 1;
	front_rank_look(front, 0);
	CU_ASSERT_TRUE(front_is_healthy(front));
	front->now_ns = now + FRONT_STANDSTILL_NS;
	front_rank_look(front, 0);
	CU_ASSERT_FALSE(front_is_healthy(front));
	/* It beats, it has work, and it does none. */
	beat->beat_ns = now = front->now_ns;
	front_rank_look(front, 0);
	beat->pending = 1;
	beat->beat_ns = front->now_ns = now + FRONT_STANDSTILL_NS - 1;
	front_rank_look(front, 0);
	CU_ASSERT_TRUE(front_is_healthy(front));
	beat->beat_ns = front->now_ns = now + FRONT_STANDSTILL_NS;
	front_rank_look(front, 0);
	CU_ASSERT_FALSE(front_is_healthy(front));
	beat->progress++;
	front_rank_look(front, 0);
	CU_ASSERT_TRUE(front_is_healthy(front));
	front_case_close(&c);
}

/* --- another life of the role ------------------------------------------------------------------ */

static void test_front__adopts_the_slots_of_an_earlier_life(void)
{
	struct ring_message m[3], cancel;
	uint32_t held;

	front_case_open(&c);
	post(TEXT ",\"n\":2}");
	m[0] = front_case_pop(&c, 0);
	m[1] = front_case_pop(&c, 0);
	post(STREAM);
	m[2] = front_case_pop(&c, 0);
	for (int i = 0; i < 3; i++)
		front_case_run(&c, m[i].slot);
	/* One that the engine had ended is free at once. */
	slot_of(&m[2])->engine_state = ENGINE_FINISHED;
	held = c.front->page_used;
	front_case_restart(&c);
	CU_ASSERT_EQUAL(c.front->slot_used, 2);
	CU_ASSERT_EQUAL(c.front->page_used, held - 2);
	for (int i = 0; i < 2; i++) {
		cancel = front_case_pop(&c, 0);
		CU_ASSERT_EQUAL(cancel.kind, RING_CANCEL);
	}
	check_alive();
	CU_ASSERT_EQUAL(c.front->page_used, held - 2);
	for (int i = 0; i < 2; i++)
		front_case_finish(&c, &m[i], FINISH_CANCELLED);
	front_case_settle(&c);
	CU_ASSERT_EQUAL(c.front->page_used, 0);
	check_alive();
	front_case_close(&c);
}

static void test_front__adopts_a_damaged_segment(void)
{
	uint64_t state;

	front_case_prepare(&c, 1);
	state = suite_seed(20);
	for (uint32_t i = 0; i < FRONT_CASE_SLOTS; i++) {
		struct request_slot *slot = segment_slot(&c.segment, i);
		uint8_t *bytes = (uint8_t *)slot;

		for (size_t b = 0; b < sizeof(*slot); b++)
			bytes[b] = (uint8_t)suite_random(&state);
		slot->front_state = i % 7;
		slot->engine_state = ENGINE_FINISHED;
		slot->rank = i % 2;
	}
	front_case_start(&c);
	CU_ASSERT_EQUAL(c.front->slot_used, 0);
	check_alive();
	front_case_close(&c);
}

/* --- HTTP and keys ------------------------------------------------------------------------------- */

static void test_front__bad_http_is_answered_and_closed(void)
{
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_say(client, "GET / HTTP/1.1\r\nHost : h\r\n\r\n");
	expect(client, "HTTP/1.1 400 ");
	CU_ASSERT(front_case_turn(&c, is_closed, &client));
	CU_ASSERT(has(client, "\"code\":\"bad_http\""));
	client = front_case_connect(&c, 0);
	front_case_say(client, "POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
			       "Content-Length: 70000\r\n\r\n");
	expect(client, "HTTP/1.1 413 ");
	CU_ASSERT(front_case_turn(&c, is_closed, &client));
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__keys_on_all_routes_but_health(void)
{
	/* SHA-256 of "secret". */
	static const uint8_t digest[32] = {0x2b, 0xb8, 0x0d, 0x53, 0x7b, 0x1d,
		0xa3, 0xe3, 0x8b, 0xd3, 0x03, 0x61, 0xaa, 0x85, 0x56, 0x86,
		0xbd, 0xe0, 0xea, 0xcd, 0x71, 0x62, 0xfe, 0xf6, 0xa2, 0x5f,
		0xe9, 0x7b, 0xf5, 0x27, 0xa2, 0x5b};
	static const char *const closed[] = {
		"/v1/models", "/v1/models/alias", "/version", "/nothing"};
	struct ring_message m;
	uint32_t client;

	front_case_prepare(&c, 1);
	memcpy(c.setup.keys[0].sha256, digest, sizeof(digest));
	strcpy(c.setup.keys[0].tenant, "one");
	c.setup.key_count = 1;
	front_case_start(&c);
	client = front_case_connect(&c, 0);
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
		fake_stream_clear(client);
		front_case_get(client, closed[i]);
		expect(client, "HTTP/1.1 401 ");
		CU_ASSERT(has(client, "www-authenticate: Bearer\r\n"));
		CU_ASSERT(has(client, "\"code\":\"invalid_api_key\""));
	}
	fake_stream_clear(client);
	front_case_get(client, "/health");
	expect(client, "HTTP/1.1 200 ");
	/* The body of a refused request is thrown away, not taken for one. */
	fake_stream_clear(client);
	front_case_post(client, "/v1/completions", "", TEXT "}");
	expect(client, "HTTP/1.1 401 ");
	front_case_post(client, "/v1/completions",
		"Authorization: Bearer secret\r\n", TEXT "}");
	m = front_case_pop(&c, 0);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "\"text\":\".\"");
	front_case_settle(&c);
	front_case_close(&c);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(front__client_resets),
		SUITE_CASE(front__half_closed_client_is_answered),
		SUITE_CASE(front__half_closed_row_is_answered),
		SUITE_CASE(front__half_closed_in_a_request),
		SUITE_CASE(front__half_closed_client_is_probed),
		SUITE_CASE(front__half_closed_client_that_never_reads),
		SUITE_CASE(front__client_goes_while_its_prompt_is_parsed),
		SUITE_CASE(front__client_that_does_not_read),
		SUITE_CASE(front__client_that_never_reads_is_cut_off),
		SUITE_CASE(front__slow_header_idle_and_body),
		SUITE_CASE(front__request_takes_too_long),
		SUITE_CASE(front__no_slot_is_429_at_once),
		SUITE_CASE(front__a_full_request_ring_is_429),
		SUITE_CASE(front__a_busy_worker_is_no_429),
		SUITE_CASE(front__no_page_is_429_and_too_many_is_400),
		SUITE_CASE(front__prompt_too_long_names_both_numbers),
		SUITE_CASE(front__stale_and_impossible_messages_are_counted),
		SUITE_CASE(front__lies_fail_only_their_request),
		SUITE_CASE(front__dead_rank_ends_its_requests),
		SUITE_CASE(front__close_of_an_earlier_life_spares_the_next),
		SUITE_CASE(front__no_engine_is_503),
		SUITE_CASE(front__health_is_red_without_beat_or_progress),
		SUITE_CASE(front__adopts_the_slots_of_an_earlier_life),
		SUITE_CASE(front__adopts_a_damaged_segment),
		SUITE_CASE(front__bad_http_is_answered_and_closed),
		SUITE_CASE(front__keys_on_all_routes_but_health),
	};

	return SUITE_MAIN("front_faults", cases);
}
