/* serve_live.c - the run as it goes (loop threads -> progress line) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve_live.h"

#define PER_DOUBLING_BITS 3

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned doubling, index;

	if (us < 8)
		return (unsigned)us;
	doubling = 63 - (unsigned)__builtin_clzll(us);
	index = (doubling - 2) << PER_DOUBLING_BITS |
		(unsigned)((us >> (doubling - PER_DOUBLING_BITS)) & 7);
	return index < SERVE_LIVE_BUCKETS ? index : SERVE_LIVE_BUCKETS - 1;
}

/* The first time above the bucket. */
static uint64_t bucket_end_ns(unsigned index)
{
	unsigned doubling = (index >> PER_DOUBLING_BITS) + 2;

	if (index < 8)
		return (index + 1) * UINT64_C(1000);
	return ((8 + (index & 7) + 1) * UINT64_C(1000))
	       << (doubling - PER_DOUBLING_BITS);
}

void serve_live_time(struct serve_live_times *times, uint64_t ns)
{
	_Atomic uint32_t *count = &times->counts[bucket_of(ns)];
	uint32_t value = atomic_load_explicit(count, memory_order_relaxed);

	atomic_store_explicit(count, value + 1, memory_order_relaxed);
}

static const struct serve_live_times *times_of(
	const struct serve_live *live, size_t offset)
{
	return (const struct serve_live_times *)((const char *)live + offset);
}

uint64_t serve_live_percentile(const struct serve_live *lives, size_t count,
	size_t offset, double percent)
{
	uint64_t sums[SERVE_LIVE_BUCKETS], total = 0;

	for (unsigned i = 0; i < SERVE_LIVE_BUCKETS; i++) {
		for (size_t k = 0; k < count; k++)
			total += atomic_load_explicit(
				&times_of(&lives[k], offset)->counts[i],
				memory_order_relaxed);
		sums[i] = total;
	}
	for (unsigned i = 0; total && i < SERVE_LIVE_BUCKETS; i++)
		if ((double)sums[i] >= percent / 100 * (double)total)
			return bucket_end_ns(i);
	return 0;
}

uint64_t serve_live_sum(
	const struct serve_live *lives, size_t count, size_t offset)
{
	uint64_t sum = 0;

	for (size_t k = 0; k < count; k++) {
		const char *live = (const char *)&lives[k];
		const _Atomic uint64_t *counter =
			(const _Atomic uint64_t *)(const void *)(live + offset);

		sum += atomic_load_explicit(counter, memory_order_relaxed);
	}
	return sum;
}
