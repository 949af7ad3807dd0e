/* test_front_adapters.c - models by name, and what clients ask of control */
/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "tests/front_case.h"
#include "tests/suite.h"

#define TUNED "{\"model\":\"tuned\",\"prompt\":\"Hi\"}"
#define BASE "{\"model\":\"alias\",\"prompt\":\"Hi\"}"
#define LOAD "/v1/load_lora_adapter"
#define UNLOAD "/v1/unload_lora_adapter"
#define GOOD "{\"lora_name\":\"tuned\",\"lora_path\":\"a/b\"}"

static struct front_case c;

static struct adapter_table *table(void)
{
	return segment_adapter_table(&c.segment);
}

static uint64_t set(
	uint32_t index, uint32_t instance, const char *name, uint32_t rank_mask)
{
	struct adapter_entry entry = {.instance = instance,
		.serial = 100 + instance,
		.weight = 1,
		.rank_mask = rank_mask,
		.created_s = 7};

	snprintf(entry.name, sizeof(entry.name), "%s", name);
	return adapter_table_set(table(), index, &entry);
}

static uint64_t seen(void)
{
	return __atomic_load_n(&table()->seen[0], __ATOMIC_ACQUIRE);
}

static uint32_t post(const char *body)
{
	uint32_t client = front_case_connect(&c, 0);

	front_case_post(client, "/v1/completions", "", body);
	return client;
}

static void expect(uint32_t client, const char *text)
{
	CU_ASSERT(front_case_expect(&c, client, text));
}

/* --- names ----------------------------------------------------------------------- */

static void test_names__a_request_is_bound_to_what_the_table_says(void)
{
	const struct request_slot *slot;
	const struct name_counters *names;
	struct ring_message m;
	uint32_t client;

	front_case_prepare(&c, 2);
	(void)set(9, 5, "tuned", 2);
	front_case_start(&c);
	names = segment_front_counters(&c.segment)->names;
	client = post(TUNED);
	m = front_case_pop(&c, 1);
	slot = segment_slot(&c.segment, m.slot);
	CU_ASSERT_EQUAL(slot->instance, 5);
	CU_ASSERT_EQUAL(slot->epoch, 105);
	CU_ASSERT_EQUAL(slot->name, 9);
	CU_ASSERT_EQUAL(slot->rank, 1);
	front_case_answer(&c, &m, "..", FINISH_LENGTH);
	expect(client, "\"model\":\"tuned\"");
	front_case_settle(&c);
	CU_ASSERT_EQUAL(counter_read(&names[9].requests_total), 1);
	CU_ASSERT_TRUE(counter_read(&names[9].prompt_tokens_total) > 0);
	CU_ASSERT_TRUE(counter_read(&names[9].output_tokens_total) > 0);
	/* Another instance for the next one; the base stays the base. */
	(void)set(9, 6, "tuned", 3);
	client = post(TUNED);
	m = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(segment_slot(&c.segment, m.slot)->instance, 6);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "200 OK");
	front_case_settle(&c);
	client = post(BASE);
	m = front_case_pop(&c, 0);
	slot = segment_slot(&c.segment, m.slot);
	CU_ASSERT_EQUAL(slot->instance + slot->epoch + slot->name, 0);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "200 OK");
	front_case_settle(&c);
	CU_ASSERT_EQUAL(counter_read(&names[0].requests_total), 1);
	/* Another name under the entry counts from nothing. */
	(void)set(9, 7, "else", 3);
	front_case_settle(&c);
	CU_ASSERT_EQUAL(counter_read(&names[9].requests_total), 0);
	front_case_close(&c);
}

static void test_names__unknown_gone_and_nowhere(void)
{
	uint32_t client;

	front_case_open(&c);
	client = post(TUNED);
	expect(client, "HTTP/1.1 404 ");
	expect(client, "\"code\":\"model_not_found\"");
	(void)set(1, 1, "tuned", 0);
	client = post(TUNED);
	expect(client, "HTTP/1.1 503 ");
	expect(client, "retry-after-ms: ");
	expect(client, "\"code\":\"adapter_not_ready\"");
	(void)set(1, 0, "", 0);
	client = post(TUNED);
	expect(client, "\"code\":\"model_not_found\"");
	front_case_settle(&c);
	front_case_close(&c);
}

static bool is_with_worker(struct front_case *unused, void *arg)
{
	(void)unused;
	(void)arg;
	for (uint32_t i = 0; i < c.front->exchange_fresh; i++)
		if (c.front->exchanges[i].used && c.front->exchanges[i].parsing)
			return true;
	return false;
}

/* The worker has let it pass; at admission the name is gone. */
static void test_names__gone_between_the_worker_and_admission(void)
{
	const struct text_ring *jobs;
	uint32_t client;

	front_case_open(&c);
	(void)set(1, 1, "tuned", 1);
	client = post(TUNED);
	CU_ASSERT(front_case_turn(&c, is_with_worker, NULL));
	jobs = &c.front->workers[0].text.in_jobs;
	while (__atomic_load_n(&jobs->tail, __ATOMIC_ACQUIRE) != jobs->head)
		sched_yield();
	(void)set(1, 0, "", 0);
	expect(client, "\"code\":\"model_not_found\"");
	front_case_settle(&c);
	front_case_close(&c);
}

static bool has_seen(struct front_case *unused, void *arg)
{
	(void)unused;
	return seen() == *(const uint64_t *)arg;
}

static void test_names__seen_waits_for_what_is_not_in_its_ring(void)
{
	const struct ring_message junk = {
		.kind = RING_CANCEL, .slot = UINT32_MAX};
	uint64_t first, second;
	uint32_t client, wakes;
	struct ring_message m;

	front_case_open(&c);
	first = set(1, 1, "tuned", 1);
	wakes = segment_wake(&c.segment, ROLE_INDEX_CONTROL)->word;
	CU_ASSERT(front_case_turn(&c, has_seen, &first));
	CU_ASSERT_NOT_EQUAL(
		segment_wake(&c.segment, ROLE_INDEX_CONTROL)->word, wakes);
	while (ring_push(
		segment_request_ring(&c.segment, 0), FRONT_CASE_RING, &junk)) {
	}
	client = post(TUNED);
	for (int i = 0; i < 1000 && c.front->ranks[0].waiting == 0; i++)
		front_turn(c.front, mono_add(mono_now(), NS_PER_MS));
	CU_ASSERT_EQUAL_FATAL(c.front->ranks[0].waiting, 1);
	/* The request is bound by the first; so much is not yet seen. */
	second = set(1, 2, "tuned", 1);
	front_case_settle_except_slots(&c);
	CU_ASSERT_EQUAL(seen(), first);
	do
		m = front_case_pop(&c, 0);
	while (m.kind != RING_SUBMIT);
	CU_ASSERT_EQUAL(segment_slot(&c.segment, m.slot)->instance, 1);
	CU_ASSERT(front_case_turn(&c, has_seen, &second));
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "200 OK");
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_models__adapters_are_listed(void)
{
	uint32_t client;

	front_case_open(&c);
	(void)set(3, 1, "tuned/\xc3\xa4", 1);
	client = front_case_connect(&c, 0);
	front_case_get(client, "/v1/models");
	expect(client, "{\"id\":\"tuned/\xc3\xa4\",\"object\":\"model\","
		       "\"created\":7,\"owned_by\":\"heddle\",\"root\":"
		       "\"tuned/\xc3\xa4\",\"parent\":\"qwen/test\"");
	client = front_case_connect(&c, 0);
	(void)set(4, 2, "tuned/b", 1);
	front_case_get(client, "/v1/models/tuned/b");
	expect(client, "\"parent\":\"qwen/test\"");
	client = front_case_connect(&c, 0);
	front_case_get(client, "/v1/models/tuned");
	expect(client, "\"code\":\"model_not_found\"");
	front_case_settle(&c);
	front_case_close(&c);
}

/* --- asks ------------------------------------------------------------------------- */

struct control {
	struct front_ask asks[FRONT_ASK_COUNT_MAX];
	uint32_t count;
	int rc;
};

static struct control control;

static int take_ask(void *arg, const struct front_ask *ask)
{
	struct control *to = arg;

	if (to->rc)
		return to->rc;
	CU_ASSERT_FATAL(to->count < FRONT_ASK_COUNT_MAX);
	to->asks[to->count++] = *ask;
	return 0;
}

static void open_asking(void)
{
	const struct front_control hooks = {&control, take_ask};

	memset(&control, 0, sizeof(control));
	front_case_open(&c);
	front_set_control(c.front, &hooks);
}

static uint32_t ask(const char *path, const char *body)
{
	uint32_t client = front_case_connect(&c, 1);

	front_case_post(client, path, "", body);
	return client;
}

static bool has_asked(struct front_case *unused, void *arg)
{
	(void)unused;
	return control.count == *(const uint32_t *)arg;
}

static void wait_asked(uint32_t count)
{
	CU_ASSERT_FATAL(front_case_turn(&c, has_asked, &count));
}

static void test_ask__control_answers(void)
{
	uint32_t client;

	open_asking();
	client = ask(LOAD, "{\"lora_name\":\"tuned\",\"lora_path\":\"a/b\","
			   "\"load_inplace\":true,\"lora_int_id\":3}");
	wait_asked(1);
	CU_ASSERT_EQUAL(control.asks[0].kind, FRONT_ASK_LOAD);
	CU_ASSERT_STRING_EQUAL(control.asks[0].name, "tuned");
	CU_ASSERT_STRING_EQUAL(control.asks[0].path, "a/b");
	CU_ASSERT_TRUE(control.asks[0].inplace);
	CU_ASSERT_EQUAL(*fake_stream_output(client, NULL), '\0');
	/* Not of anything that was asked. */
	front_control_answer(c.front, 999, 200, "no");
	front_control_answer(c.front, control.asks[0].id, 200, "Success: x");
	expect(client, "HTTP/1.1 200 ");
	expect(client, "\r\n\r\nSuccess: x");
	front_control_answer(c.front, control.asks[0].id, 200, "twice");
	client = ask(UNLOAD, "{\"lora_name\":\"tuned\"}");
	wait_asked(2);
	CU_ASSERT_EQUAL(control.asks[1].kind, FRONT_ASK_UNLOAD);
	CU_ASSERT_NOT_EQUAL(control.asks[1].id, control.asks[0].id);
	front_control_answer(c.front, control.asks[1].id, 404, "no \"x\"");
	expect(client, "HTTP/1.1 404 ");
	expect(client, "\"message\":\"no \\\"x\\\"\"");
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_ask__bounds(void)
{
	uint32_t clients[FRONT_ASK_COUNT_MAX], client;

	open_asking();
	control.rc = -11;
	client = ask(LOAD, GOOD);
	expect(client, "HTTP/1.1 503 ");
	control.rc = 0;
	/* One that leaves is still answered, to nobody. */
	for (uint32_t i = 0; i < 8; i++) {
		clients[i] = ask(LOAD, GOOD);
		wait_asked(i + 1);
		fake_stream_reset(clients[i]);
		front_case_settle(&c);
	}
	for (uint32_t i = 8; i < FRONT_ASK_COUNT_MAX; i++) {
		clients[i] = ask(LOAD, GOOD);
		wait_asked(i + 1);
		if (i % 2)
			continue;
		fake_stream_reset(clients[i]);
		front_case_settle(&c);
	}
	client = ask(LOAD, GOOD);
	expect(client, "HTTP/1.1 429 ");
	for (uint32_t i = 0; i < FRONT_ASK_COUNT_MAX; i++)
		front_control_answer(
			c.front, control.asks[i].id, 200, "Success");
	for (uint32_t i = 9; i < FRONT_ASK_COUNT_MAX; i += 2)
		expect(clients[i], "\r\n\r\nSuccess");
	control.count = 0;
	client = ask(LOAD, GOOD);
	wait_asked(1);
	front_control_answer(c.front, control.asks[0].id, 409, "busy");
	expect(client, "HTTP/1.1 409 Conflict");
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_ask__bad_bodies(void)
{
	static const struct {
		const char *path, *body, *text;
	} cases[] = {
		{LOAD, "", "invalid_json"},
		{LOAD, "[]", "invalid_json"},
		{LOAD, "{\"lora_name\":\"x\"}", "must be provided"},
		{LOAD, "{\"lora_path\":\"x\"}", "must be provided"},
		{LOAD, "{\"lora_name\":\"\",\"lora_path\":\"x\"}",
			"must be provided"},
		{LOAD, "{\"lora_name\":3,\"lora_path\":\"x\"}",
			"'lora_name' must be a string"},
		{LOAD, "{\"lora_name\":\"a b \",\"lora_path\":\"x\"}",
			"must have no quotes"},
		{LOAD, "{\"lora_name\":\"a\",\"lora_path\":\"x\\ny\"}",
			"control character"},
		{LOAD, "{\"lora_name\":\"a\",\"lora_path\":\"x\\u0000\"}",
			"invalid_json"},
		{LOAD,
			"{\"lora_name\":\"a\",\"lora_path\":\"x\","
			"\"load_inplace\":1}",
			"'load_inplace' must be"},
		{UNLOAD, "{}", "needs to be provided"},
		{UNLOAD, "{\"lora_name\":\"-x\"}", "must have no"},
	};

	open_asking();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t client = ask(cases[i].path, cases[i].body);

		expect(client, "HTTP/1.1 400 ");
		expect(client, cases[i].text);
	}
	CU_ASSERT_EQUAL(control.count, 0);
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_ask__without_control(void)
{
	uint32_t client;

	front_case_open(&c);
	client = ask(LOAD, GOOD);
	expect(client, "HTTP/1.1 503 ");
	client = front_case_connect(&c, 0);
	front_case_post(client, LOAD, "", GOOD);
	expect(client, "HTTP/1.1 404 ");
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_ask__control_takes_too_long(void)
{
	uint32_t client;

	memset(&control, 0, sizeof(control));
	front_case_prepare(&c, 1);
	c.setup.limits.request_timeout_ns = 20 * NS_PER_MS;
	front_case_start(&c);
	front_set_control(c.front, &(struct front_control){&control, take_ask});
	client = ask(LOAD, GOOD);
	wait_asked(1);
	expect(client, "HTTP/1.1 504 ");
	front_control_answer(c.front, control.asks[0].id, 200, "late");
	front_case_settle(&c);
	CU_ASSERT_PTR_NULL(strstr(fake_stream_output(client, NULL), "late"));
	front_case_close(&c);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(names__a_request_is_bound_to_what_the_table_says),
		SUITE_CASE(names__unknown_gone_and_nowhere),
		SUITE_CASE(names__gone_between_the_worker_and_admission),
		SUITE_CASE(names__seen_waits_for_what_is_not_in_its_ring),
		SUITE_CASE(models__adapters_are_listed),
		SUITE_CASE(ask__control_answers),
		SUITE_CASE(ask__bounds),
		SUITE_CASE(ask__bad_bodies),
		SUITE_CASE(ask__without_control),
		SUITE_CASE(ask__control_takes_too_long),
	};

	return SUITE_MAIN("front_adapters", cases);
}
