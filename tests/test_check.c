/* test_check.c - arithmetic on sizes that come from outside */
/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "tests/suite.h"

static void test_add_ok__wraps_are_refused(void)
{
	size_t out = 7;

	CU_ASSERT_FALSE(add_ok(SIZE_MAX, 1, &out));
	CU_ASSERT_EQUAL(out, 7);
	CU_ASSERT_TRUE(add_ok(SIZE_MAX - 1, 1, &out));
	CU_ASSERT_EQUAL(out, SIZE_MAX);
}

static void test_mul_ok__wraps_are_refused(void)
{
	size_t out = 7;

	CU_ASSERT_FALSE(mul_ok(SIZE_MAX / 2 + 1, 2, &out));
	CU_ASSERT_EQUAL(out, 7);
	CU_ASSERT_TRUE(mul_ok(SIZE_MAX, 0, &out));
	CU_ASSERT_EQUAL(out, 0);
	CU_ASSERT_TRUE(mul_ok(SIZE_MAX / 2, 2, &out));
	CU_ASSERT_EQUAL(out, SIZE_MAX - 1);
}

static void test_round_up_ok__any_unit(void)
{
	size_t out = 7;

	CU_ASSERT_TRUE(round_up_ok(0, 3, &out));
	CU_ASSERT_EQUAL(out, 0);
	CU_ASSERT_TRUE(round_up_ok(10, 3, &out));
	CU_ASSERT_EQUAL(out, 12);
	CU_ASSERT_TRUE(round_up_ok(12, 3, &out));
	CU_ASSERT_EQUAL(out, 12);
	CU_ASSERT_FALSE(round_up_ok(SIZE_MAX, 4096, &out));
	CU_ASSERT_FALSE(round_up_ok(1, 0, &out));
	CU_ASSERT_EQUAL(out, 12);
}

static void test_div_up__counts(void)
{
	CU_ASSERT_EQUAL(div_up(0, 5), 0);
	CU_ASSERT_EQUAL(div_up(1, 5), 1);
	CU_ASSERT_EQUAL(div_up(5, 5), 1);
	CU_ASSERT_EQUAL(div_up(6, 5), 2);
	CU_ASSERT_EQUAL(div_up(SIZE_MAX, 1), SIZE_MAX);
}

static void test_u32_ok__narrows(void)
{
	uint32_t out = 7;

	CU_ASSERT_FALSE(u32_ok((size_t)UINT32_MAX + 1, &out));
	CU_ASSERT_EQUAL(out, 7);
	CU_ASSERT_TRUE(u32_ok(UINT32_MAX, &out));
	CU_ASSERT_EQUAL(out, UINT32_MAX);
}

static void test_is_power_of_two__edges(void)
{
	CU_ASSERT_FALSE(is_power_of_two(0));
	CU_ASSERT_TRUE(is_power_of_two(1));
	CU_ASSERT_FALSE(is_power_of_two(3));
	CU_ASSERT_TRUE(is_power_of_two((size_t)1 << 63));
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(add_ok__wraps_are_refused),
		SUITE_CASE(mul_ok__wraps_are_refused),
		SUITE_CASE(round_up_ok__any_unit),
		SUITE_CASE(div_up__counts),
		SUITE_CASE(u32_ok__narrows),
		SUITE_CASE(is_power_of_two__edges),
	};

	return SUITE_MAIN("check", cases);
}
