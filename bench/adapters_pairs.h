/* adapters_pairs.h - A, B, A, B: how much longer one of two takes (-> ratio) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:    what adapters cost a step is less than what a shared machine adds to
 *         one. Both sides of a pair are measured one right behind the other,
 *         so what lasts disturbs both, and what does not moves no median.
  * Variants: the two sides of a pair run different variants of the work, so
 *         that neither finds in the processor's cache what the other has just
 *         read; over PAIR_VARIANTS pairs both run all. Each time counts in units
 *         of its variant's median on side 1, so a variant that is more work
 *         than another moves no ratio.
 * Bound:  the true median lies below the value of rank n / 2 + 1.96 sqrt(n) / 2
 *         with 97.5 % probability, whatever the distribution (the number of
 *         values below the median is binomial): the upper end of a two-sided
 *         95 % interval by order statistics.
 * Threads: pure.
 */
#ifndef HEDDLE_BENCH_ADAPTERS_PAIRS_H
#define HEDDLE_BENCH_ADAPTERS_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define PAIR_VARIANTS 16u

struct pair_stats {
	uint32_t count;
	double median; /* of the pairs' ratios or differences */
	double low, high; /* of its 95 % interval */
	double first, second; /* medians of both sides, ns */
};

/* One measurement of a side: its time in ns; variant < PAIR_VARIANTS. */
typedef int (*pair_fn)(void *arg, uint32_t side, uint32_t variant,
	double *out_ns, struct error *err);

/*
 * `count` pairs of side 0 and side 1: ratios side 0 / side 1, or with
 * `difference` the differences in ns. -ENOMEM, and what a side says.
 */
int pairs_measure(uint32_t count, bool difference, pair_fn side, void *arg,
	struct pair_stats *out, struct error *err);

/* Sorts values[count]; the value below which `share` of them lie. */
double quantile(double *values, uint32_t count, double share);

#endif
