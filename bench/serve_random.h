/* serve_random.h - seeded random numbers and laws of a load (seed -> draws) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a run must be repeatable from its seed, on every machine: the laws
 *          are computed here and not taken from a library.
 * Threads: one at a time per generator.
 */
#ifndef HEDDLE_BENCH_SERVE_RANDOM_H
#define HEDDLE_BENCH_SERVE_RANDOM_H

#include <stdint.h>

struct serve_random {
	uint64_t state;
};

/* Two seeds into one, so that parts of a run draw apart from each other. */
uint64_t serve_random_mix(uint64_t a, uint64_t b);

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
uint64_t serve_random_next(struct serve_random *random);

/* In (0, 1): neither end, so that a logarithm is finite. */
double serve_random_unit(struct serve_random *random);

/* Uniform in [0, bound), bound > 0. */
uint32_t serve_random_below(struct serve_random *random, uint32_t bound);

/* Uniform in [low, high], low <= high. */
uint32_t serve_random_between(
	struct serve_random *random, uint32_t low, uint32_t high);

/* Mean 0, deviation 1 (Box and Muller). */
double serve_random_normal(struct serve_random *random);

/* Mean 1. */
double serve_random_exponential(struct serve_random *random);

/* Mean `shape`, variance `shape`; shape > 0 (Marsaglia, Tsang 2000). */
double serve_random_gamma(struct serve_random *random, double shape);

/*
 * The index that S-LoRA's workload takes: floor(count * power(alpha)), where
 * power(alpha) has the density alpha * x^(alpha-1) on [0, 1]. Small alpha:
 * mostly index 0; 1: uniform. count > 0, alpha > 0.
 */
uint32_t serve_random_power(
	struct serve_random *random, uint32_t count, double alpha);

/*
 * Index i with a probability in proportion to the weights whose running sums
 * are in sums[count]; the last one is positive.
 */
uint32_t serve_random_weighted(
	struct serve_random *random, const double *sums, uint32_t count);

#endif
