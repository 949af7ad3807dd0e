/* siphash.h - a short keyed hash (key, bytes -> 64 bits) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   who does not know the key can neither make two inputs meet nor learn
 *        one from where it lies in a table: for hash tables, sequence numbers
 *        and cookies that a stranger can see or fill.
 * What:  SipHash of Aumasson and Bernstein (INDOCRYPT 2012): 2-4, whole or in
 *        any number of parts, where the value leaves the machine or stands
 *        for its input; 1-3 for tables.
 * Limits: 64 bits are no fingerprint: compare what the hash finds.
 * Threads: plain data.
 */
#ifndef HEDDLE_BASE_SIPHASH_H
#define HEDDLE_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_BYTES 16

/* The 16 bytes of a key as two little-endian words. */
struct siphash_key {
	uint64_t low, high;
};

struct siphash_key siphash_key_of(const uint8_t bytes[SIPHASH_KEY_BYTES]);

/* A key of its own for each use of one secret. */
struct siphash_key siphash_derive(
	const struct siphash_key *secret, const char *use);

uint64_t siphash_2_4(
	const struct siphash_key *key, const void *data, size_t length);
uint64_t siphash_1_3(
	const struct siphash_key *key, const void *data, size_t length);

/* 2-4 in parts. */
struct siphash {
	uint64_t v[4];
	uint64_t tail; /* bytes that make no word of 8 yet */
	uint64_t length_bytes;
};

void siphash_init(struct siphash *state, const uint8_t key[SIPHASH_KEY_BYTES]);
void siphash_add(struct siphash *state, const void *bytes, size_t size_bytes);
uint64_t siphash_end(struct siphash *state);

#endif
