/* philox.h - counter-based random numbers (key, counter -> 128 bits) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a draw must not depend on what else is in the batch, on the order
 *          of the work or on how often it is repeated; so a random number is
 *          a function of what it is for, and there is no state to keep.
 * Source:  Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random
 *          numbers: as easy as 1, 2, 3", SC 2011, sections 3.3 and 4; the
 *          constants are table 2's and the text's.
 * Threads: pure functions.
 */
#ifndef HEDDLE_GPU_CPU_PHILOX_H
#define HEDDLE_GPU_CPU_PHILOX_H

#include <stdint.h>

#define PHILOX_ROUNDS 10

/* Multipliers of the two halves, and what a round adds to the key. */
#define PHILOX_MULTIPLIER_0 UINT32_C(0xd2511f53)
#define PHILOX_MULTIPLIER_1 UINT32_C(0xcd9e8d57)
#define PHILOX_WEYL_0 UINT32_C(0x9e3779b9)
#define PHILOX_WEYL_1 UINT32_C(0xbb67ae85)

static inline void philox4x32_10(
	const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t c0 = counter[0], c1 = counter[1];
	uint32_t c2 = counter[2], c3 = counter[3];
	uint32_t k0 = key[0], k1 = key[1];

	for (int round = 0; round < PHILOX_ROUNDS; round++) {
		uint64_t a = (uint64_t)PHILOX_MULTIPLIER_0 * c0;
		uint64_t b = (uint64_t)PHILOX_MULTIPLIER_1 * c2;

		c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)b;
		c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)a;
		k0 += PHILOX_WEYL_0;
		k1 += PHILOX_WEYL_1;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

/*
 * The middle of one of 2^52 equal parts of (0, 1), chosen by the upper 52
 * bits: exact in a double, at least 2^-53 and at most 1 - 2^-53, so that
 * neither log(u) nor log(-log(u)) can overflow.
 */
static inline double philox_uniform(uint64_t bits)
{
	return ((double)(bits >> 12) + 0.5) * 0x1p-52;
}

#endif
