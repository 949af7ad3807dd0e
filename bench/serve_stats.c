/* serve_stats.c - exact figures of many samples (samples -> percentiles) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_stats.h"

#define DIGIT_BITS 11
#define DIGIT_COUNT (1u << DIGIT_BITS)

double serve_point_percent(enum serve_point point)
{
	static const double percents[SERVE_POINT_COUNT] = {
		50, 90, 95, 99, 99.9};

	return percents[point];
}

/* The rank below and the way to the next one. */
static size_t rank_of(size_t count, double percent, double *fraction)
{
	double rank = percent / 100 * (double)(count - 1);
	size_t below = (size_t)rank;

	if (below > count - 1)
		below = count - 1;
	*fraction = rank - (double)below;
	return below;
}

double serve_percentile(const double *values, size_t count, double percent)
{
	double fraction;
	size_t at;

	assert(count > 0 && percent >= 0 && percent <= 100);
	at = rank_of(count, percent, &fraction);
	if (at + 1 >= count)
		return values[count - 1];
	return values[at] + fraction * (values[at + 1] - values[at]);
}

static int compare(const void *a, const void *b)
{
	const double *x = a;
	const double *y = b;

	return (*x > *y) - (*x < *y);
}

void serve_figures_of(double *values, size_t count, struct serve_figures *out)
{
	double sum = 0, squares = 0;

	memset(out, 0, sizeof(*out));
	if (!count)
		return;
	qsort(values, count, sizeof(*values), compare);
	for (size_t i = 0; i < count; i++)
		sum += values[i];
	out->count = count;
	out->mean = sum / (double)count;
	for (size_t i = 0; i < count; i++)
		squares += (values[i] - out->mean) * (values[i] - out->mean);
	out->std = sqrt(squares / (double)count);
	out->min = values[0];
	out->max = values[count - 1];
	for (int i = 0; i < SERVE_POINT_COUNT; i++)
		out->points[i] = serve_percentile(values, count,
			serve_point_percent((enum serve_point)i));
	out->median = out->points[SERVE_P50];
}

uint32_t serve_ticks(uint64_t ns)
{
	uint64_t ticks = (ns + SERVE_TICK_NS / 2) / SERVE_TICK_NS;

	return ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX;
}

/* By one digit, keeping the order of equal ones. */
static void sort_digit(
	const uint32_t *from, uint32_t *to, size_t count, unsigned shift)
{
	size_t starts[DIGIT_COUNT] = {0}, at = 0;

	for (size_t i = 0; i < count; i++)
		starts[(from[i] >> shift) & (DIGIT_COUNT - 1)]++;
	for (unsigned digit = 0; digit < DIGIT_COUNT; digit++) {
		size_t held = starts[digit];

		starts[digit] = at;
		at += held;
	}
	for (size_t i = 0; i < count; i++)
		to[starts[(from[i] >> shift) & (DIGIT_COUNT - 1)]++] = from[i];
}

static void sort_ticks(uint32_t *ticks, size_t count, uint32_t *scratch)
{
	sort_digit(ticks, scratch, count, 0);
	sort_digit(scratch, ticks, count, DIGIT_BITS);
	sort_digit(ticks, scratch, count, 2 * DIGIT_BITS);
	memcpy(ticks, scratch, count * sizeof(*ticks));
}

static double ticks_percentile(
	const uint32_t *ticks, size_t count, double percent)
{
	double fraction;
	size_t at = rank_of(count, percent, &fraction);
	double low = ticks[at];

	if (at + 1 < count)
		low += fraction * ((double)ticks[at + 1] - low);
	return low;
}

void serve_figures_of_ticks(uint32_t *ticks, size_t count, uint32_t *scratch,
	struct serve_figures *out)
{
	const double second = SERVE_TICK_NS * 1e-9;
	double squares = 0, mean;
	uint64_t sum = 0;

	memset(out, 0, sizeof(*out));
	if (!count)
		return;
	sort_ticks(ticks, count, scratch);
	for (size_t i = 0; i < count; i++)
		sum += ticks[i];
	mean = (double)sum / (double)count;
	for (size_t i = 0; i < count; i++)
		squares += (ticks[i] - mean) * (ticks[i] - mean);
	out->count = count;
	out->mean = mean * second;
	out->std = sqrt(squares / (double)count) * second;
	out->min = ticks[0] * second;
	out->max = ticks[count - 1] * second;
	for (int i = 0; i < SERVE_POINT_COUNT; i++)
		out->points[i] = second * ticks_percentile(ticks, count,
						  serve_point_percent(
							  (enum serve_point)i));
	out->median = out->points[SERVE_P50];
}
