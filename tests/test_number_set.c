/* test_number_set.c - the set that gives its lowest number */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "memmgr/number_set.h"
#include "tests/fake/aborts.h"
#include "tests/suite.h"

static void test_number_set_take__empty_gives_none(void)
{
	struct number_set set;

	CU_ASSERT_EQUAL(number_set_init(&set, 0), 0);
	CU_ASSERT_EQUAL(number_set_take(&set), NUMBER_NONE);
	number_set_check(&set);
	number_set_release(&set);
	CU_ASSERT_EQUAL(number_set_init(&set, 1000), 0);
	CU_ASSERT_EQUAL(number_set_take(&set), NUMBER_NONE);
	number_set_release(&set);
}

static void test_number_set_take__lowest_first(void)
{
	static const uint32_t numbers[] = {300000, 64, 4096, 63, 0, 299999};
	static const uint32_t sorted[] = {0, 63, 64, 4096, 299999, 300000};
	struct number_set set;

	CU_ASSERT_EQUAL(number_set_init(&set, 300001), 0);
	for (int i = 0; i < 6; i++)
		number_set_add(&set, numbers[i]);
	number_set_check(&set);
	CU_ASSERT_EQUAL(set.count, 6);
	for (int i = 0; i < 6; i++)
		CU_ASSERT_EQUAL(number_set_take(&set), sorted[i]);
	CU_ASSERT_EQUAL(number_set_take(&set), NUMBER_NONE);
	number_set_release(&set);
}

static void test_number_set__random_against_array(void)
{
	static const uint32_t bounds[] = {1, 63, 64, 65, 4096, 4097, 5000};
	static bool model[5000];
	uint64_t seed = suite_seed(1);

	for (size_t b = 0; b < sizeof(bounds) / sizeof(bounds[0]); b++) {
		struct number_set set;

		memset(model, 0, sizeof(model));
		CU_ASSERT_EQUAL(number_set_init(&set, bounds[b]), 0);
		for (int i = 0; i < 3000; i++) {
			uint32_t n = suite_below(&seed, bounds[b]);
			uint32_t lowest = 0;

			CU_ASSERT_EQUAL(number_set_has(&set, n), model[n]);
			if (!model[n]) {
				number_set_add(&set, n);
				model[n] = true;
			}
			if (suite_below(&seed, 2) == 0)
				continue;
			while (!model[lowest])
				lowest++;
			CU_ASSERT_EQUAL(number_set_take(&set), lowest);
			model[lowest] = false;
		}
		number_set_check(&set);
		number_set_release(&set);
	}
}

static void add_twice(void *argument)
{
	struct number_set set;

	(void)argument;
	if (number_set_init(&set, 10) != 0)
		return;
	number_set_add(&set, 3);
	number_set_add(&set, 3);
}

static void add_outside(void *argument)
{
	struct number_set set;

	(void)argument;
	if (number_set_init(&set, 10) == 0)
		number_set_add(&set, 10);
}

static void test_number_set_add__twice_or_outside_aborts(void)
{
	CU_ASSERT(aborts(add_twice, NULL));
	CU_ASSERT(aborts(add_outside, NULL));
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(number_set_take__empty_gives_none),
		SUITE_CASE(number_set_take__lowest_first),
		SUITE_CASE(number_set__random_against_array),
		SUITE_CASE(number_set_add__twice_or_outside_aborts),
	};

	return SUITE_MAIN("number_set", cases);
}
