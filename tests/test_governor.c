/* test_governor.c - the share of the time that a copy has beside steps */
/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "engine/governor.h"
#include "tests/suite.h"

#define QUIET_NS (10 * NS_PER_MS)

static void test_governor__all_of_the_time_while_nothing_runs(void)
{
	struct governor governor = {0};

	governor_idle(&governor);
	CU_ASSERT_EQUAL(governor.share, GOVERNOR_WHOLE);
	CU_ASSERT_EQUAL(governor_wait_ns(&governor, NS_PER_MS), 0);
}

static void test_governor__falls_fast_to_a_quarter_and_rises_slowly(void)
{
	struct governor governor = {0};
	uint32_t steps = 0;

	governor_idle(&governor);
	for (; governor.share > GOVERNOR_SHARE_MIN; steps++)
		governor_step(&governor, 2 * QUIET_NS, QUIET_NS);
	CU_ASSERT(steps <= 5);
	/* Three times as long as it copied: a quarter of the time. */
	CU_ASSERT_EQUAL(governor_wait_ns(&governor, NS_PER_MS), 3 * NS_PER_MS);
	governor_step(&governor, 2 * QUIET_NS, QUIET_NS);
	CU_ASSERT_EQUAL(governor.share, GOVERNOR_SHARE_MIN);
	for (steps = 0; governor.share < GOVERNOR_WHOLE; steps++)
		governor_step(&governor, QUIET_NS, QUIET_NS);
	CU_ASSERT(steps > 20);
	CU_ASSERT_EQUAL(governor_wait_ns(&governor, NS_PER_MS), 0);
}

/* A machine on which a copy that has all the time makes steps twice as long. */
static void test_governor__settles_where_steps_are_within_bounds(void)
{
	struct governor governor = {0};
	uint32_t slow = 0;
	uint64_t shares = 0;

	governor_idle(&governor);
	for (uint32_t i = 0; i < 10000; i++) {
		uint64_t took = QUIET_NS +
				QUIET_NS / 3 * governor.share / GOVERNOR_WHOLE;

		governor_step(&governor, took, QUIET_NS);
		shares += governor.share;
		slow += took * 5 > QUIET_NS * 6;
	}
	/* 1.2 times as long as a quiet one: one step in a hundred at most. */
	CU_ASSERT(slow <= 100);
	CU_ASSERT(shares / 10000 > GOVERNOR_SHARE_MIN);
}

/* The first steps beside a copy do not pay for what is not known yet. */
static void test_governor__begins_with_little(void)
{
	struct governor governor = {0};

	governor_idle(&governor);
	governor_busy(&governor);
	CU_ASSERT_EQUAL(governor.share, GOVERNOR_SHARE_MIN);
	governor_step(&governor, QUIET_NS, QUIET_NS);
	CU_ASSERT(governor.share > GOVERNOR_SHARE_MIN);
	governor_idle(&governor);
	CU_ASSERT_EQUAL(governor.share, GOVERNOR_WHOLE);
}

/* With a core of its own a copy slows nothing; now and then a step is slow for
 * reasons of its own: nearly all of the time is the copy's. */
static void test_governor__what_slows_nothing_runs_free(void)
{
	uint64_t state = suite_seed(4);

	for (uint32_t percent = 0; percent <= 2; percent++) {
		struct governor governor = {.share = GOVERNOR_SHARE_MIN};
		uint64_t shares = 0;

		for (uint32_t i = 0; i < 10000; i++) {
			bool slow = suite_below(&state, 100) < percent;

			governor_step(&governor, slow ? 2 * QUIET_NS : QUIET_NS,
				QUIET_NS);
			shares += governor.share;
		}
		CU_ASSERT(shares / 10000 > GOVERNOR_WHOLE * 85 / 100);
		CU_ASSERT(percent > 0 || governor.share == GOVERNOR_WHOLE);
	}
}

static void test_governor__a_stretch_is_bounded(void)
{
	struct governor governor = {.share = GOVERNOR_SHARE_MIN};

	CU_ASSERT(governor_wait_ns(&governor, UINT64_MAX) <= NS_PER_S);
	governor.share = 0; /* never set */
	CU_ASSERT_EQUAL(governor_wait_ns(&governor, NS_PER_MS), 3 * NS_PER_MS);
}

/* Sleeps that take longer than asked: still a quarter of the time, or a half
 * of that for each of two. */
static void test_governor__lanes_keep_their_shares(void)
{
	const struct governor governor = {.share = GOVERNOR_SHARE_MIN};
	uint64_t state = suite_seed(3);

	for (uint32_t lanes = 1; lanes <= 4; lanes++) {
		struct governor_lane lane = {0};
		uint64_t now = NS_PER_S, busy = 0, sleeps = 0;
		const uint64_t begin = now;

		for (uint32_t i = 0; i < 10000; i++) {
			uint64_t took = 10000 + suite_below(&state, 90000);
			uint64_t wait =
				governor_owes(&governor, &lane, lanes, now);

			if (wait > 0) {
				uint64_t slept = wait + 60000 +
						 suite_below(&state, 50000);

				now += slept;
				sleeps++;
				governor_slept(&lane, slept, now);
			}
			now += took;
			busy += took;
		}
		CU_ASSERT(sleeps > 100 && sleeps < 9000);
		CU_ASSERT_DOUBLE_EQUAL((double)busy / (double)(now - begin),
			0.25 / lanes, 0.005);
	}
}

static void test_governor__a_lane_owes_nothing_while_nothing_runs(void)
{
	struct governor governor = {.share = GOVERNOR_SHARE_MIN};
	struct governor_lane lane = {0};
	uint64_t now = NS_PER_S;

	CU_ASSERT_EQUAL(governor_owes(&governor, &lane, 2, now), 0);
	now += 50000;
	CU_ASSERT_EQUAL(governor_owes(&governor, &lane, 2, now), 0);
	CU_ASSERT(lane.owed_ns > 0);
	governor_idle(&governor);
	CU_ASSERT_EQUAL(governor_owes(&governor, &lane, 2, now + 1), 0);
	CU_ASSERT_EQUAL(lane.owed_ns, 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(governor__all_of_the_time_while_nothing_runs),
		SUITE_CASE(governor__falls_fast_to_a_quarter_and_rises_slowly),
		SUITE_CASE(governor__settles_where_steps_are_within_bounds),
		SUITE_CASE(governor__begins_with_little),
		SUITE_CASE(governor__what_slows_nothing_runs_free),
		SUITE_CASE(governor__a_stretch_is_bounded),
		SUITE_CASE(governor__lanes_keep_their_shares),
		SUITE_CASE(governor__a_lane_owes_nothing_while_nothing_runs),
	};

	return SUITE_MAIN("governor", cases);
}
