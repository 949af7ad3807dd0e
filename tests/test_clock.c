/* test_clock.c - monotonic time */
/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/suite.h"

static void test_mono_now__never_goes_back(void)
{
	struct mono last = mono_now();

	CU_ASSERT_NOT_EQUAL(last.ns, 0);
	for (int i = 0; i < 100000; i++) {
		struct mono now = mono_now();

		if (mono_before(now, last))
			CU_FAIL("time went back");
		last = now;
	}
}

static void test_mono_add__saturates(void)
{
	struct mono late = {UINT64_MAX - 5};

	CU_ASSERT_EQUAL(mono_add(late, 5).ns, UINT64_MAX);
	CU_ASSERT_EQUAL(mono_add(late, 6).ns, UINT64_MAX);
	CU_ASSERT_EQUAL(mono_add((struct mono){10}, 5).ns, 15);
}

static void test_mono_diff__reversed_is_zero(void)
{
	struct mono a = {10}, b = {25};

	CU_ASSERT_EQUAL(mono_diff(b, a), 15);
	CU_ASSERT_EQUAL(mono_diff(a, b), 0);
	CU_ASSERT_EQUAL(mono_diff(a, a), 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(mono_now__never_goes_back),
		SUITE_CASE(mono_add__saturates),
		SUITE_CASE(mono_diff__reversed_is_zero),
	};

	return SUITE_MAIN("clock", cases);
}
