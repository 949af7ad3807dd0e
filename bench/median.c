/* median.c - the middle of some measurements */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "bench/median.h"

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return a < b ? -1 : a > b;
}

double median(double *values, uint32_t count)
{
	assert(count > 0);
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}
