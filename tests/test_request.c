/* test_request.c - states of a request slot */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/request.h"
#include "tests/suite.h"

static void test_front_edge_ok__exactly_these(void)
{
	static const uint8_t edges[][2] = {
		{FRONT_FREE, FRONT_PARSING},
		{FRONT_PARSING, FRONT_SUBMITTED},
		{FRONT_PARSING, FRONT_CLOSED},
		{FRONT_SUBMITTED, FRONT_STREAMING},
		{FRONT_SUBMITTED, FRONT_CLOSED},
		{FRONT_STREAMING, FRONT_CLOSED},
		{FRONT_CLOSED, FRONT_FREE},
	};
	uint32_t found = 0;

	for (int a = 0; a < FRONT_STATE_COUNT; a++)
		for (int b = 0; b < FRONT_STATE_COUNT; b++)
			found += front_edge_ok(
				(enum front_state)a, (enum front_state)b);
	CU_ASSERT_EQUAL(found, sizeof(edges) / sizeof(edges[0]));
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
		CU_ASSERT_TRUE(front_edge_ok((enum front_state)edges[i][0],
			(enum front_state)edges[i][1]));
}

static void test_engine_edge_ok__terminal_states_only_end(void)
{
	for (int b = 0; b < ENGINE_STATE_COUNT; b++) {
		enum engine_state to = (enum engine_state)b;

		CU_ASSERT_EQUAL(
			engine_edge_ok(ENGINE_FINISHED, to), to == ENGINE_IDLE);
		CU_ASSERT_EQUAL(
			engine_edge_ok(ENGINE_FAILED, to), to == ENGINE_IDLE);
		CU_ASSERT_EQUAL(
			engine_edge_ok(ENGINE_IDLE, to), to == ENGINE_QUEUED);
	}
	CU_ASSERT_TRUE(engine_edge_ok(ENGINE_RUNNING, ENGINE_PREEMPTED));
	CU_ASSERT_TRUE(engine_edge_ok(ENGINE_PREEMPTED, ENGINE_RUNNING));
	CU_ASSERT_FALSE(engine_edge_ok(ENGINE_QUEUED, ENGINE_PREEMPTED));
}

static void test_front_set_state__publishes(void)
{
	enum front_state own = FRONT_FREE, seen;
	struct request_slot slot;

	memset(&slot, 0, sizeof(slot));
	front_set_state(&slot, &own, FRONT_PARSING);
	CU_ASSERT_EQUAL(own, FRONT_PARSING);
	CU_ASSERT_TRUE(front_state_read(&slot, &seen));
	CU_ASSERT_EQUAL(seen, FRONT_PARSING);
}

static void test_engine_set_state__publishes(void)
{
	enum engine_state own = ENGINE_IDLE, seen;
	struct request_slot slot;

	memset(&slot, 0, sizeof(slot));
	engine_set_state(&slot, &own, ENGINE_QUEUED);
	engine_set_state(&slot, &own, ENGINE_RUNNING);
	CU_ASSERT_TRUE(engine_state_read(&slot, &seen));
	CU_ASSERT_EQUAL(seen, ENGINE_RUNNING);
	CU_ASSERT_TRUE(engine_state_terminal(ENGINE_FAILED));
	CU_ASSERT_FALSE(engine_state_terminal(ENGINE_PREEMPTED));
}

static void test_state_read__garbage_is_refused(void)
{
	enum front_state front = FRONT_CLOSED;
	enum engine_state engine = ENGINE_FAILED;
	struct request_slot slot;

	memset(&slot, 0xff, sizeof(slot));
	CU_ASSERT_FALSE(front_state_read(&slot, &front));
	CU_ASSERT_FALSE(engine_state_read(&slot, &engine));
	CU_ASSERT_EQUAL(front, FRONT_CLOSED);
	CU_ASSERT_EQUAL(engine, ENGINE_FAILED);
}

static void test_state_name__all_have_one(void)
{
	for (int i = 0; i < FRONT_STATE_COUNT; i++)
		CU_ASSERT_PTR_NOT_NULL(front_state_name((enum front_state)i));
	for (int i = 0; i < ENGINE_STATE_COUNT; i++)
		CU_ASSERT_PTR_NOT_NULL(engine_state_name((enum engine_state)i));
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(front_edge_ok__exactly_these),
		SUITE_CASE(engine_edge_ok__terminal_states_only_end),
		SUITE_CASE(front_set_state__publishes),
		SUITE_CASE(engine_set_state__publishes),
		SUITE_CASE(state_read__garbage_is_refused),
		SUITE_CASE(state_name__all_have_one),
	};

	return SUITE_MAIN("request", cases);
}
