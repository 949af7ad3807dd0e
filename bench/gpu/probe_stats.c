/* probe_stats.c - median and p99 of a set of measurements */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_stats.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *left, const void *right)
{
	const double *a = (const double *)left;
	const double *b = (const double *)right;

	return (*a > *b) - (*a < *b);
}

/* Index of the ceil(percent / 100 * count)-th smallest, counted from 0. */
static size_t rank(size_t count, size_t percent)
{
	size_t hundreds = count / 100;
	size_t rest = count % 100;

	return hundreds * percent + (rest * percent + 99) / 100 - 1;
}

struct probe_stats probe_stats_of(double *sample, size_t count)
{
	struct probe_stats stats = {NAN, NAN, NAN, NAN, 0};

	if (count == 0)
		return stats;
	qsort(sample, count, sizeof(*sample), compare);
	stats.median = sample[rank(count, 50)];
	stats.p99 = sample[rank(count, 99)];
	stats.low = sample[0];
	stats.high = sample[count - 1];
	stats.count = count;
	return stats;
}

double probe_peak_gb_s(int clock_khz, int bus_bits)
{
	if (clock_khz <= 0 || bus_bits <= 0)
		return NAN;
	return 2.0 * clock_khz * 1e3 * bus_bits / 8.0 / 1e9;
}
