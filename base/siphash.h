/* siphash.h - a short keyed hash (key, bytes -> 64 bits) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   who does not know the key can neither make two inputs meet nor learn
 *        one from where it lies in a table.
 * What:  SipHash-2-4 of Aumasson and Bernstein (INDOCRYPT 2012), taken in any
 *        number of parts.
 * Limits: 64 bits are no fingerprint: compare what the hash finds.
 * Threads: plain data.
 */
#ifndef HEDDLE_BASE_SIPHASH_H
#define HEDDLE_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_BYTES 16

struct siphash {
	uint64_t v[4];
	uint64_t tail; /* bytes that make no word of 8 yet */
	uint64_t length_bytes;
};

void siphash_init(struct siphash *state, const uint8_t key[SIPHASH_KEY_BYTES]);
void siphash_add(struct siphash *state, const void *bytes, size_t size_bytes);
uint64_t siphash_end(struct siphash *state);

#endif
