/* median.h - the middle of some measurements */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a shared machine disturbs some runs and speeds up none; the median
 *          is moved by neither a few slow ones nor a lucky one.
 * Threads: pure.
 */
#ifndef HEDDLE_BENCH_MEDIAN_H
#define HEDDLE_BENCH_MEDIAN_H

#include <stdint.h>

/* The (upper) median of values[count], which are sorted; count > 0. */
double median(double *values, uint32_t count);

#endif
