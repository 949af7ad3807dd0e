/* test_timer_wheel.c - deadlines against a list that is searched */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dataplane/timer_wheel.h"
#include "tests/suite.h"

#define COUNT 200
#define TICK_NS (UINT64_C(1) << TIMER_WHEEL_TICK_SHIFT)

/* Turn to `now`: all that is due comes, nothing else does. */
static void turn(struct timer_wheel *w, uint64_t *deadlines, uint64_t now)
{
	uint32_t index;

	while ((index = timer_wheel_expire(w, now)) != TIMER_WHEEL_NONE) {
		CU_ASSERT_FATAL(index < COUNT);
		CU_ASSERT_TRUE(deadlines[index] != 0);
		CU_ASSERT_TRUE(deadlines[index] <= now);
		deadlines[index] = 0;
	}
	for (uint32_t i = 0; i < COUNT; i++)
		CU_ASSERT_TRUE(
			deadlines[i] == 0 || deadlines[i] + TICK_NS > now);
}

static void test_timer_wheel__against_a_list(void)
{
	uint64_t random = suite_seed(11), deadlines[COUNT] = {0};
	uint64_t now = 12345678;
	struct timer_wheel w;

	CU_ASSERT_EQUAL_FATAL(timer_wheel_init(&w, COUNT, now), 0);
	for (int step = 0; step < 200000; step++) {
		uint32_t index = suite_below(&random, COUNT), set = 0;
		/* Of every size, from one tick to days. */
		uint64_t span = suite_random(&random) >>
				(64 - 15 - suite_below(&random, 34));

		switch (suite_below(&random, 4)) {
		case 0:
		case 1:
			deadlines[index] = now + span + 1;
			timer_wheel_set(&w, index, now + span + 1);
			break;
		case 2:
			deadlines[index] = 0;
			timer_wheel_clear(&w, index);
			break;
		default:
			now += span >> suite_below(&random, 20);
			turn(&w, deadlines, now);
		}
		for (uint32_t i = 0; i < COUNT; i++)
			set += deadlines[i] != 0;
		CU_ASSERT_EQUAL_FATAL(w.set_count, set);
	}
	timer_wheel_release(&w);
}

static void test_timer_wheel__next_leads_to_each(void)
{
	uint64_t random = suite_seed(12), deadlines[COUNT] = {0}, now = 1;
	struct timer_wheel w;

	CU_ASSERT_EQUAL_FATAL(timer_wheel_init(&w, COUNT, now), 0);
	CU_ASSERT_EQUAL(timer_wheel_next_ns(&w), UINT64_MAX);
	for (uint32_t i = 0; i < COUNT; i++) {
		deadlines[i] = now + (suite_random(&random) >> (64 - 47));
		timer_wheel_set(&w, i, deadlines[i]);
	}
	for (int turns = 0; w.set_count > 0; turns++) {
		uint64_t next = timer_wheel_next_ns(&w);

		CU_ASSERT_FATAL(turns < COUNT * 8 && next != UINT64_MAX);
		CU_ASSERT_TRUE(next >= now);
		now = next;
		turn(&w, deadlines, now);
	}
	timer_wheel_release(&w);
}

static const struct suite_case cases[] = {
	SUITE_CASE(timer_wheel__against_a_list),
	SUITE_CASE(timer_wheel__next_leads_to_each),
};

int main(void)
{
	return SUITE_MAIN("timer_wheel", cases);
}
