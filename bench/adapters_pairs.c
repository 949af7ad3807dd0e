/* adapters_pairs.c - A, B, A, B: how much longer one of two takes (-> ratio) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "bench/adapters_pairs.h"
#include "bench/median.h"

/* Of the normal distribution: 2.5 % lie beyond it. */
#define Z_95 1.96

double quantile(double *values, uint32_t count, double share)
{
	double rank = ceil(share * count) - 1;

	(void)median(values, count); /* sorts */
	if (rank < 0)
		rank = 0;
	return values[rank > count - 1 ? count - 1 : (uint32_t)rank];
}

/* Sides are half of all variants apart. */
static uint32_t variant_of(uint32_t side, uint32_t pair)
{
	return (pair + side * (PAIR_VARIANTS / 2)) % PAIR_VARIANTS;
}

/* The median of each variant on side 1; those that never ran: of all. */
static void measure_units(const double *times, uint32_t count, double *scratch,
	double units[PAIR_VARIANTS])
{
	for (uint32_t v = 0; v < PAIR_VARIANTS; v++) {
		uint32_t n = 0;

		for (uint32_t i = 0; i < count; i++)
			if (variant_of(1, i) == v)
				scratch[n++] = times[i];
		if (n == 0)
			for (; n < count; n++)
				scratch[n] = times[n];
		units[v] = median(scratch, n);
	}
}

/* Ratios into values. */
static void take_ratios(double *values, double *sides[2], uint32_t count)
{
	double units[PAIR_VARIANTS];

	measure_units(sides[1], count, values, units);
	for (uint32_t i = 0; i < count; i++)
		values[i] = sides[0][i] / units[variant_of(0, i)] *
			    units[variant_of(1, i)] / sides[1][i];
}

static void summarise(
	double *values, double *sides[2], uint32_t n, struct pair_stats *out)
{
	double half = Z_95 * sqrt(n) / 2;

	out->count = n;
	out->median = median(values, n);
	out->low = quantile(values, n, (n / 2.0 - half) / n);
	out->high = quantile(values, n, (n / 2.0 + half + 1) / n);
	out->first = median(sides[0], n);
	out->second = median(sides[1], n);
}

int pairs_measure(uint32_t count, bool difference, pair_fn side, void *arg,
	struct pair_stats *out, struct error *err)
{
	double *values = calloc((size_t)count * 3, sizeof(*values));
	double *sides[2];
	int rc = 0;

	assert(count > 0);
	if (!values)
		return error_set(err, ENOMEM, "no memory for %u pairs", count);
	sides[0] = values + count;
	sides[1] = sides[0] + count;
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		for (uint32_t s = 0; rc == 0 && s < 2; s++)
			rc = side(arg, s, variant_of(s, i), &sides[s][i], err);
		values[i] = sides[0][i] - sides[1][i];
	}
	if (rc == 0 && !difference)
		take_ratios(values, sides, count);
	if (rc == 0)
		summarise(values, sides, count, out);
	free(values);
	return rc;
}
