/* siphash.h - a keyed hash that an outsider cannot steer (bytes -> 64 bits) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     hash tables, sequence numbers and cookies that a stranger can see
 *          or fill must not be predictable without a secret.
 * Source:  Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
 *          2-4 where the value leaves the machine, 1-3 for tables.
 * Threads: pure functions.
 */
#ifndef HEDDLE_DATAPLANE_SIPHASH_H
#define HEDDLE_DATAPLANE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t low, high;
};

uint64_t siphash_2_4(
	const struct siphash_key *key, const void *data, size_t length);
uint64_t siphash_1_3(
	const struct siphash_key *key, const void *data, size_t length);

/* A key of its own for each use of one secret. */
struct siphash_key siphash_derive(
	const struct siphash_key *secret, const char *use);

#endif
