/* test_counters.c - times in buckets */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/counters.h"
#include "tests/suite.h"

static bool has_bound(uint64_t ns)
{
	for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++)
		if (histogram_bound_ns(i) == ns)
			return true;
	return false;
}

static void test_histogram_bound_ns__ascends_to_no_bound(void)
{
	for (uint32_t i = 1; i < HISTOGRAM_BUCKET_COUNT; i++)
		CU_ASSERT_TRUE(
			histogram_bound_ns(i - 1) < histogram_bound_ns(i));
	CU_ASSERT_EQUAL(
		histogram_bound_ns(HISTOGRAM_BUCKET_COUNT - 1), UINT64_MAX);
}

static void test_histogram_bound_ns__fine_enough_for_tokens(void)
{
	CU_ASSERT_TRUE(has_bound(NS_PER_MS / 2));
	CU_ASSERT_TRUE(has_bound(1 * NS_PER_MS));
	CU_ASSERT_TRUE(has_bound(2 * NS_PER_MS));
	CU_ASSERT_TRUE(has_bound(5 * NS_PER_MS));
}

static void test_histogram_add__a_bound_belongs_to_its_bucket(void)
{
	for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
		struct histogram h;
		uint64_t bound = histogram_bound_ns(i);

		memset(&h, 0, sizeof(h));
		histogram_add(&h, bound);
		CU_ASSERT_EQUAL(h.bucket[i], 1);
		if (i + 1 < HISTOGRAM_BUCKET_COUNT) {
			histogram_add(&h, bound + 1);
			CU_ASSERT_EQUAL(h.bucket[i + 1], 1);
			CU_ASSERT_EQUAL(h.sum_ns, 2 * bound + 1);
			CU_ASSERT_EQUAL(h.count, 2);
		}
	}
}

static void test_histogram_add__every_value_is_counted_once(void)
{
	struct histogram h;
	uint64_t seed = suite_seed(7), sum = 0, inside = 0;

	memset(&h, 0, sizeof(h));
	histogram_add(&h, 0);
	CU_ASSERT_EQUAL(h.bucket[0], 1);
	for (int i = 0; i < 10000; i++) {
		uint64_t value = suite_random(&seed) >> (20 + i % 40);

		sum += value;
		histogram_add(&h, value);
	}
	for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++)
		inside += h.bucket[i];
	CU_ASSERT_EQUAL(h.count, 10001);
	CU_ASSERT_EQUAL(inside, 10001);
	CU_ASSERT_EQUAL(h.sum_ns, sum);
}

static void test_tally_add__a_bound_belongs_to_its_bucket(void)
{
	CU_ASSERT_EQUAL(tally_bound(0), 1);
	CU_ASSERT_EQUAL(tally_bound(4), 20);
	CU_ASSERT_EQUAL(tally_bound(18), 1000000);
	CU_ASSERT_EQUAL(tally_bound(TALLY_BUCKET_COUNT - 1), UINT64_MAX);
	for (uint32_t i = 0; i + 1 < TALLY_BUCKET_COUNT; i++) {
		struct tally t = {0};
		uint64_t bound = tally_bound(i);

		tally_add(&t, bound);
		tally_add(&t, bound + 1);
		CU_ASSERT_EQUAL(t.bucket[i], 1);
		CU_ASSERT_EQUAL(t.bucket[i + 1], 1);
		CU_ASSERT_EQUAL(t.sum, 2 * bound + 1);
		CU_ASSERT_EQUAL(t.count, 2);
	}
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(histogram_bound_ns__ascends_to_no_bound),
		SUITE_CASE(histogram_bound_ns__fine_enough_for_tokens),
		SUITE_CASE(histogram_add__a_bound_belongs_to_its_bucket),
		SUITE_CASE(histogram_add__every_value_is_counted_once),
		SUITE_CASE(tally_add__a_bound_belongs_to_its_bucket),
	};

	return SUITE_MAIN("counters", cases);
}
