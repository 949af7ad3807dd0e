/* test_lane_cores.c - a load keeps off the cores that compute */
/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lane_cores.h"
#include "tests/suite.h"

static cpu_set_t set_of(uint64_t bits)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (size_t i = 0; i < 64; i++)
		if (bits >> i & 1)
			CPU_SET(i, &set);
	return set;
}

static bool is(const cpu_set_t *set, uint64_t bits)
{
	cpu_set_t other = set_of(bits);

	return CPU_EQUAL(set, &other);
}

static void test_cores_split__first_and_rest(void)
{
	static const struct {
		uint64_t all;
		uint32_t count;
		uint64_t first, rest;
	} cases[] = {
		{0x3, 1, 0x1, 0x2},
		{0x3, 2, 0x3, 0},
		{0x3, 9, 0x3, 0},
		{0x3, 0, 0, 0x3},
		/* neither from 0 on nor neighbours */
		{0xa8, 2, 0x28, 0x80},
		{0xff, 3, 0x7, 0xf8},
		{0, 1, 0, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cpu_set_t all = set_of(cases[i].all), first, rest;

		cores_split(&all, cases[i].count, &first, &rest);
		CU_ASSERT(is(&first, cases[i].first));
		CU_ASSERT(is(&rest, cases[i].rest));
	}
}

static void test_lane_cores_count__all_where_one_is_spare(void)
{
	struct lane_cores cores = {set_of(0xff), set_of(0xf0)};

	CU_ASSERT_EQUAL(lane_cores_count(&cores, 3), 8);
	cores.beside = cores.all;
	CU_ASSERT_EQUAL(lane_cores_count(&cores, 3), 3);
	cores = (struct lane_cores){set_of(0), set_of(0)};
	CU_ASSERT_EQUAL(lane_cores_count(&cores, 1), 1);
}

static void test_lane_cores_init__of_what_the_caller_may_use(void)
{
	struct lane_cores cores;
	cpu_set_t own, first, rest;

	CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof(own), &own), 0);
	lane_cores_init(&cores, 0);
	CU_ASSERT(CPU_EQUAL(&cores.all, &own));
	CU_ASSERT(CPU_EQUAL(&cores.beside, &own));
	lane_cores_init(&cores, (uint32_t)CPU_COUNT(&own));
	CU_ASSERT(CPU_EQUAL(&cores.beside, &own)); /* none is left */
	lane_cores_init(&cores, 1);
	cores_split(&own, 1, &first, &rest);
	CU_ASSERT(CPU_EQUAL(&cores.all, &own));
	CU_ASSERT(
		CPU_EQUAL(&cores.beside, CPU_COUNT(&rest) > 0 ? &rest : &own));
}

/* Beside steps off the first core, and back when nothing runs. */
static void test_lane_cores_keep__moves_when_told_something_else(void)
{
	enum lane_place place = LANE_ANYWHERE;
	struct lane_cores cores;
	cpu_set_t own, now;

	CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof(own), &own), 0);
	lane_cores_init(&cores, 1);
	lane_cores_keep(&cores, true, &place);
	CU_ASSERT_EQUAL(place, LANE_BESIDE);
	CU_ASSERT_EQUAL(sched_getaffinity(0, sizeof(now), &now), 0);
	CU_ASSERT(CPU_EQUAL(&now, &cores.beside));
	CU_ASSERT_EQUAL(sched_setaffinity(0, sizeof(own), &own), 0);
	lane_cores_keep(&cores, true, &place); /* told already */
	CU_ASSERT_EQUAL(sched_getaffinity(0, sizeof(now), &now), 0);
	CU_ASSERT(CPU_EQUAL(&now, &own));
	place = LANE_ANYWHERE;
	lane_cores_keep(&cores, true, &place);
	lane_cores_keep(&cores, false, &place);
	CU_ASSERT_EQUAL(place, LANE_ALL);
	CU_ASSERT_EQUAL(sched_getaffinity(0, sizeof(now), &now), 0);
	CU_ASSERT(CPU_EQUAL(&now, &own));
	cores = (struct lane_cores){set_of(0), set_of(0)};
	lane_cores_keep(&cores, true, &place);
	CU_ASSERT_EQUAL(place, LANE_ALL); /* nowhere to go */
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(cores_split__first_and_rest),
		SUITE_CASE(lane_cores_count__all_where_one_is_spare),
		SUITE_CASE(lane_cores_init__of_what_the_caller_may_use),
		SUITE_CASE(lane_cores_keep__moves_when_told_something_else),
	};

	return SUITE_MAIN("lane_cores", cases);
}
