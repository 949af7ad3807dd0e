/* counters.c - what each role counts, in shared memory (roles -> /metrics) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/clock.h"
#include "base/counters.h"

/* 1, 2, 5 per decade, and the fine steps in which tokens follow each other. */
static const uint64_t bounds_ns[HISTOGRAM_BUCKET_COUNT] = {
	10 * NS_PER_US,
	20 * NS_PER_US,
	50 * NS_PER_US,
	100 * NS_PER_US,
	200 * NS_PER_US,
	500 * NS_PER_US,
	1 * NS_PER_MS,
	2 * NS_PER_MS,
	3 * NS_PER_MS,
	5 * NS_PER_MS,
	7500 * NS_PER_US,
	10 * NS_PER_MS,
	15 * NS_PER_MS,
	20 * NS_PER_MS,
	30 * NS_PER_MS,
	50 * NS_PER_MS,
	75 * NS_PER_MS,
	100 * NS_PER_MS,
	150 * NS_PER_MS,
	250 * NS_PER_MS,
	500 * NS_PER_MS,
	1 * NS_PER_S,
	2 * NS_PER_S,
	5 * NS_PER_S,
	10 * NS_PER_S,
	20 * NS_PER_S,
	40 * NS_PER_S,
	80 * NS_PER_S,
	160 * NS_PER_S,
	600 * NS_PER_S,
	UINT64_MAX,
};

uint64_t histogram_bound_ns(uint32_t bucket)
{
	assert(bucket < HISTOGRAM_BUCKET_COUNT);
	return bounds_ns[bucket];
}

_Static_assert(HISTOGRAM_BUCKET_COUNT == 31, "five steps find one of them");

/*
 * The first bucket whose bound is not below the value. Nobody can guess which
 * it is, a processor neither: so there is nothing to jump over.
 */
static uint32_t find_bucket(uint64_t value_ns)
{
	uint32_t at = 0;

	for (uint32_t step = 16; step > 0; step /= 2)
		at += step * (value_ns > bounds_ns[at + step - 1]);
	return at;
}

void histogram_add(struct histogram *histogram, uint64_t value_ns)
{
	counter_add(&histogram->bucket[find_bucket(value_ns)], 1);
	counter_add(&histogram->sum_ns, value_ns);
	counter_add(&histogram->count, 1);
}

uint64_t tally_bound(uint32_t bucket)
{
	static const uint64_t first[] = {1, 2, 5};
	uint64_t bound = 1;

	assert(bucket < TALLY_BUCKET_COUNT);
	if (bucket == TALLY_BUCKET_COUNT - 1)
		return UINT64_MAX;
	for (uint32_t i = 0; i < bucket / 3; i++)
		bound *= 10;
	return bound * first[bucket % 3];
}

void tally_add(struct tally *tally, uint64_t value)
{
	uint32_t i = 0;

	while (value > tally_bound(i))
		i++;
	counter_add(&tally->bucket[i], 1);
	counter_add(&tally->sum, value);
	counter_add(&tally->count, 1);
}
