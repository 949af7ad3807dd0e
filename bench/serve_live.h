/* serve_live.h - the run as it goes (loop threads -> progress line) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a run of minutes must show that it is alive and sane. The figures
 *          of the report are exact; these are from buckets of about 9 %.
 * Threads: one loop thread writes a struct, any other reads it; relaxed
 *          atomics, for a line on a screen may be one event behind.
 */
#ifndef HEDDLE_BENCH_SERVE_LIVE_H
#define HEDDLE_BENCH_SERVE_LIVE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Eight buckets per doubling, from 1 us to 2^31 us. */
#define SERVE_LIVE_BUCKETS 256

struct serve_live_times {
	_Atomic uint32_t counts[SERVE_LIVE_BUCKETS];
};

struct serve_live {
	_Atomic uint64_t started, done, failed, tokens, in_flight;
	_Atomic uint64_t waited; /* requests that found no free connection */
	_Atomic uint64_t reconnects; /* kept-alive connections that had ended */
	_Atomic uint64_t retries; /* after 429 */
	struct serve_live_times ttft, itl;
};

/* Add by the one writer: no locked instruction is needed. */
static inline void serve_live_add(_Atomic uint64_t *counter, uint64_t count)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + count, memory_order_relaxed);
}

void serve_live_time(struct serve_live_times *times, uint64_t ns);

/*
 * Nanoseconds below which `percent` of the times of all lives lie; 0 without
 * any. `offset` is that of the times within struct serve_live.
 */
uint64_t serve_live_percentile(const struct serve_live *lives, size_t count,
	size_t offset, double percent);

/* A counter, over all lives. */
uint64_t serve_live_sum(
	const struct serve_live *lives, size_t count, size_t offset);

#endif
