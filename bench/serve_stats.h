/* serve_stats.h - exact figures of many samples (samples -> percentiles) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a percentile from buckets is a guess; tails are what a serving
 *          benchmark is about, so every sample is kept and sorted.
 * Percentile: of n sorted samples, p lies at rank p/100 * (n-1), linear
 *          between neighbours (numpy's default, so that figures compare).
 * Deviation: of the population (divided by n), as numpy's default.
 * Ticks:   gaps between chunks are kept as 32-bit counts of 100 ns; what
 *          exceeds 429 s stays at the largest count.
 * Threads: pure.
 */
#ifndef HEDDLE_BENCH_SERVE_STATS_H
#define HEDDLE_BENCH_SERVE_STATS_H

#include <stddef.h>
#include <stdint.h>

#define SERVE_TICK_NS 100

enum serve_point {
	SERVE_P50,
	SERVE_P90,
	SERVE_P95,
	SERVE_P99,
	SERVE_P999,
	SERVE_POINT_COUNT
};

/* 50, 90, 95, 99, 99.9. */
double serve_point_percent(enum serve_point point);

/* All in the unit of the samples; all 0 when there was none. */
struct serve_figures {
	size_t count;
	double mean, median, std, min, max;
	double points[SERVE_POINT_COUNT];
};

/* values[count] ascending, count > 0, percent in [0, 100]. */
double serve_percentile(const double *values, size_t count, double percent);

/* Sorts values. */
void serve_figures_of(double *values, size_t count, struct serve_figures *out);

/* Of ticks, in seconds; sorts them. scratch has room for count. */
void serve_figures_of_ticks(uint32_t *ticks, size_t count, uint32_t *scratch,
	struct serve_figures *out);

uint32_t serve_ticks(uint64_t ns);

#endif
