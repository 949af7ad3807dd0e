/* siphash.c - a keyed hash that an outsider cannot steer (bytes -> 64 bits) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <string.h>

#include "dataplane/siphash.h"

static inline uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void mix(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static inline void absorb(uint64_t v[4], uint64_t word, int rounds)
{
	v[3] ^= word;
	for (int i = 0; i < rounds; i++)
		mix(v);
	v[0] ^= word;
}

static inline uint64_t hash(const struct siphash_key *key, const uint8_t *data,
	size_t length, int rounds)
{
	uint64_t v[4] = {key->low ^ UINT64_C(0x736f6d6570736575),
		key->high ^ UINT64_C(0x646f72616e646f6d),
		key->low ^ UINT64_C(0x6c7967656e657261),
		key->high ^ UINT64_C(0x7465646279746573)};
	uint64_t last = (uint64_t)length << 56, word;
	size_t whole = length & ~(size_t)7;

	for (size_t i = 0; i < whole; i += 8) {
		memcpy(&word, data + i, 8);
		absorb(v, le64toh(word), rounds);
	}
	for (size_t i = whole; i < length; i++)
		last |= (uint64_t)data[i] << (8 * (i - whole));
	absorb(v, last, rounds);
	v[2] ^= 0xff;
	for (int i = 0; i < rounds + 2; i++)
		mix(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t siphash_2_4(
	const struct siphash_key *key, const void *data, size_t length)
{
	return hash(key, data, length, 2);
}

uint64_t siphash_1_3(
	const struct siphash_key *key, const void *data, size_t length)
{
	return hash(key, data, length, 1);
}

struct siphash_key siphash_derive(
	const struct siphash_key *secret, const char *use)
{
	size_t length = strlen(use);
	struct siphash_key swapped = {secret->high, secret->low};

	return (struct siphash_key){siphash_2_4(secret, use, length),
		siphash_2_4(&swapped, use, length)};
}
