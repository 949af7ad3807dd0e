/* test_poll_meter.c - where a loop's time goes */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dataplane/poll_meter.h"
#include "tests/suite.h"

static uint64_t now_ns;

/* --- time: instead of base/clock.c --- */

struct mono mono_now(void)
{
	return (struct mono){now_ns};
}

uint64_t mono_diff(struct mono later, struct mono earlier)
{
	return later.ns > earlier.ns ? later.ns - earlier.ns : 0;
}

static struct mono at(uint64_t ns)
{
	return (struct mono){ns};
}

static void test_poll_meter__without_counters_nothing_is_timed(void)
{
	struct poll_meter meter;

	poll_meter_init(&meter, NULL);
	for (int i = 0; i < 100; i++)
		CU_ASSERT_FALSE(poll_meter_chosen(&meter));
	CU_ASSERT_FALSE(poll_meter_due(&meter, at(NS_PER_S)));
	poll_meter_slept(&meter, at(1), at(2), at(3));
	poll_meter_call(&meter);
	CU_ASSERT_EQUAL(meter.called_ns, 0);
}

static void test_poll_meter__a_share_is_timed_of_both_halves(void)
{
	struct poll_counters c = {0};
	struct poll_meter meter;
	uint32_t seen[2] = {0};

	poll_meter_init(&meter, &c);
	for (int i = 0; i < 140; i++)
		seen[i % 2] += poll_meter_chosen(&meter);
	CU_ASSERT_EQUAL(seen[0], 10);
	CU_ASSERT_EQUAL(seen[1], 10);
}

static void test_poll_meter__adds_to_what_is_there(void)
{
	struct poll_counters c = {
		.turns_total = 100, .stage_ns_total = {[POLL_TX] = 7}};
	struct poll_meter meter;

	poll_meter_init(&meter, &c);
	meter.turns = 10;
	meter.busy = 4;
	meter.bursts = 3;
	poll_meter_add(&meter, POLL_TX, 5);
	poll_meter_enter(&meter, at(900));
	poll_meter_leave(&meter, at(1000), 3);
	poll_meter_enter(&meter, at(1100));
	/* The next stay outside is not timed. */
	poll_meter_enter(&meter, at(1300));
	CU_ASSERT_FALSE(poll_meter_due(&meter, at(POLL_METER_WRITE_NS - 1)));
	CU_ASSERT(poll_meter_due(&meter, at(POLL_METER_WRITE_NS)));
	poll_meter_write(&meter, at(POLL_METER_WRITE_NS));
	CU_ASSERT_EQUAL(c.turns_total, 110);
	CU_ASSERT_EQUAL(c.busy_turns_total, 4);
	CU_ASSERT_EQUAL(c.empty_turns_total, 6);
	CU_ASSERT_EQUAL(c.bursts_total, 3);
	CU_ASSERT_EQUAL(c.stage_ns_total[POLL_TX], 12);
	CU_ASSERT_EQUAL(c.stage_ns_total[POLL_FRONT], 300);
	CU_ASSERT_EQUAL(c.idle_ns_total, 0);
	/* Nothing twice; a time without work is idle. */
	meter.turns = 2;
	poll_meter_write(&meter, at(3 * POLL_METER_WRITE_NS));
	CU_ASSERT_EQUAL(c.turns_total, 112);
	CU_ASSERT_EQUAL(c.busy_turns_total, 4);
	CU_ASSERT_EQUAL(c.stage_ns_total[POLL_FRONT], 300);
	CU_ASSERT_EQUAL(c.idle_ns_total, 2 * POLL_METER_WRITE_NS);
	CU_ASSERT(c.idle_cpu_ns_total <= c.cpu_ns_total);
	meter.turns = meter.busy = 1;
	poll_meter_write(&meter, at(4 * POLL_METER_WRITE_NS));
	CU_ASSERT_EQUAL(c.idle_ns_total, 2 * POLL_METER_WRITE_NS);
}

static void test_poll_meter__what_waking_takes(void)
{
	struct poll_counters c = {0};
	struct poll_meter meter;

	poll_meter_init(&meter, &c);
	/* Ended by a socket, before its time: nobody knows since when. */
	poll_meter_slept(&meter, at(1000), at(9000), at(5000));
	CU_ASSERT_EQUAL(c.sleep.count, 1);
	CU_ASSERT_EQUAL(c.sleep.sum_ns, 4000);
	CU_ASSERT_EQUAL(c.wake.count, 0);
	/* Its time was up. */
	poll_meter_slept(&meter, at(6000), at(9000), at(9300));
	CU_ASSERT_EQUAL(c.wake.count, 1);
	CU_ASSERT_EQUAL(c.wake.sum_ns, 300);
	/* Called. */
	now_ns = 10500;
	poll_meter_call(&meter);
	poll_meter_slept(&meter, at(10000), at(20000), at(11000));
	CU_ASSERT_EQUAL(c.wake.count, 2);
	CU_ASSERT_EQUAL(c.wake.sum_ns, 800);
	/* Called before it slept: that is no waking. */
	now_ns = 11500;
	poll_meter_call(&meter);
	poll_meter_slept(&meter, at(12000), at(20000), at(12100));
	CU_ASSERT_EQUAL(c.wake.count, 2);
	CU_ASSERT_EQUAL(c.sleep.count, 4);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(poll_meter__without_counters_nothing_is_timed),
		SUITE_CASE(poll_meter__a_share_is_timed_of_both_halves),
		SUITE_CASE(poll_meter__adds_to_what_is_there),
		SUITE_CASE(poll_meter__what_waking_takes),
	};

	return SUITE_MAIN("poll_meter", cases);
}
