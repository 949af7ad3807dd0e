/* serve_random.c - seeded random numbers and laws of a load (seed -> draws) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>

#include "bench/serve_random.h"

static uint64_t scramble(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t serve_random_mix(uint64_t a, uint64_t b)
{
	return scramble(a ^ scramble(b + UINT64_C(0x9e3779b97f4a7c15)));
}

uint64_t serve_random_next(struct serve_random *random)
{
	random->state += UINT64_C(0x9e3779b97f4a7c15);
	return scramble(random->state);
}

double serve_random_unit(struct serve_random *random)
{
	uint64_t bits = serve_random_next(random) >> 11;

	return ((double)bits + 0.5) * 0x1p-53;
}

uint32_t serve_random_below(struct serve_random *random, uint32_t bound)
{
	assert(bound > 0);
	return (uint32_t)(((serve_random_next(random) >> 32) * bound) >> 32);
}

uint32_t serve_random_between(
	struct serve_random *random, uint32_t low, uint32_t high)
{
	assert(low <= high && high - low < UINT32_MAX);
	return low + serve_random_below(random, high - low + 1);
}

double serve_random_normal(struct serve_random *random)
{
	double radius = sqrt(-2.0 * log(serve_random_unit(random)));

	return radius * cos(2.0 * M_PI * serve_random_unit(random));
}

double serve_random_exponential(struct serve_random *random)
{
	return -log(serve_random_unit(random));
}

double serve_random_gamma(struct serve_random *random, double shape)
{
	double d, c;

	assert(shape > 0);
	/* Below 1 the method does not hold: a draw at shape + 1, thinned. */
	if (shape < 1)
		return serve_random_gamma(random, shape + 1) *
		       pow(serve_random_unit(random), 1 / shape);
	d = shape - 1.0 / 3;
	c = 1 / sqrt(9 * d);
	for (;;) {
		double x = serve_random_normal(random);
		double v = 1 + c * x;

		if (v <= 0)
			continue;
		v = v * v * v;
		if (log(serve_random_unit(random)) <
			0.5 * x * x + d - d * v + d * log(v))
			return d * v;
	}
}

uint32_t serve_random_power(
	struct serve_random *random, uint32_t count, double alpha)
{
	double share = pow(serve_random_unit(random), 1 / alpha);
	uint32_t index = (uint32_t)(share * count);

	assert(count > 0 && alpha > 0);
	return index < count ? index : count - 1;
}

uint32_t serve_random_weighted(
	struct serve_random *random, const double *sums, uint32_t count)
{
	double at = serve_random_unit(random) * sums[count - 1];
	uint32_t low = 0, high = count - 1;

	assert(count > 0 && sums[count - 1] > 0);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (sums[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}
