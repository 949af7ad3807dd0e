/* test_tcp_segment.c - single segments and the answers of the RFCs */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/suite.h"
#include "tests/tcp_cases.h"

static unsigned run_all(const struct tcp_script *scripts)
{
	unsigned count = 0;

	for (; scripts->name; scripts++, count++)
		CU_ASSERT_TRUE(tcp_script_run(scripts));
	return count;
}

static void test_segment__open(void)
{
	CU_ASSERT_TRUE(run_all(tcp_cases_open) > 0);
}

static void test_segment__data(void)
{
	CU_ASSERT_TRUE(run_all(tcp_cases_data) > 0);
}

static void test_segment__loss(void)
{
	CU_ASSERT_TRUE(run_all(tcp_cases_loss) > 0);
}

static void test_segment__close(void)
{
	CU_ASSERT_TRUE(run_all(tcp_cases_close) > 0);
}

static void test_segment__attack(void)
{
	CU_ASSERT_TRUE(run_all(tcp_cases_attack) > 0);
}

/* The runner must see what is wrong. */
static void test_script__can_fail(void)
{
	static const struct tcp_script wrong[] = {
		{"wrong ack", "-", "< S seq 0;> SA ack 2"},
		{"wrong flags", "-", "< S seq 0;> A ack 1"},
		{"too many", "-", "< S seq 0"},
		{"too few", "-", "< S seq 0;> SA;> SA"},
		{"wrong news", "-", "< S seq 0;> SA;news opened"},
		{"wrong state", "-", "< S seq 0;> SA;state CLOSED"},
		{"unknown word", "-", "< S seq 0;> SA;dance"},
	};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CU_ASSERT_FALSE(tcp_script_run(&wrong[i]));
}

static const struct suite_case cases[] = {
	SUITE_CASE(segment__open),
	SUITE_CASE(segment__data),
	SUITE_CASE(segment__loss),
	SUITE_CASE(segment__close),
	SUITE_CASE(segment__attack),
	SUITE_CASE(script__can_fail),
};

int main(void)
{
	return SUITE_MAIN("tcp_segment", cases);
}
