/* siphash.c - a short keyed hash (key, bytes -> 64 bits) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <string.h>

#include "base/siphash.h"

static inline uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline uint64_t load_word(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return le64toh(word);
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

static inline void begin(uint64_t v[4], const struct siphash_key *key)
{
	v[0] = key->low ^ UINT64_C(0x736f6d6570736575);
	v[1] = key->high ^ UINT64_C(0x646f72616e646f6d);
	v[2] = key->low ^ UINT64_C(0x6c7967656e657261);
	v[3] = key->high ^ UINT64_C(0x7465646279746573);
}

static inline void absorb(uint64_t v[4], uint64_t word, int rounds)
{
	v[3] ^= word;
	for (int i = 0; i < rounds; i++)
		mix(v);
	v[0] ^= word;
}

/* The last word holds the rest of the input and its length. */
static inline uint64_t finish(uint64_t v[4], uint64_t last, int rounds)
{
	absorb(v, last, rounds);
	v[2] ^= 0xff;
	for (int i = 0; i < rounds + 2; i++)
		mix(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline uint64_t hash(const struct siphash_key *key, const uint8_t *data,
	size_t length, int rounds)
{
	uint64_t last = (uint64_t)length << 56, v[4];
	size_t whole = length & ~(size_t)7;

	begin(v, key);
	for (size_t i = 0; i < whole; i += 8)
		absorb(v, load_word(data + i), rounds);
	for (size_t i = whole; i < length; i++)
		last |= (uint64_t)data[i] << (8 * (i - whole));
	return finish(v, last, rounds);
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

struct siphash_key siphash_key_of(const uint8_t bytes[SIPHASH_KEY_BYTES])
{
	return (struct siphash_key){load_word(bytes), load_word(bytes + 8)};
}

struct siphash_key siphash_derive(
	const struct siphash_key *secret, const char *use)
{
	size_t length = strlen(use);
	struct siphash_key swapped = {secret->high, secret->low};

	return (struct siphash_key){siphash_2_4(secret, use, length),
		siphash_2_4(&swapped, use, length)};
}

/* --- in parts ------------------------------------------------------------------ */

void siphash_init(struct siphash *state, const uint8_t key[SIPHASH_KEY_BYTES])
{
	struct siphash_key words = siphash_key_of(key);

	*state = (struct siphash){.length_bytes = 0};
	begin(state->v, &words);
}

void siphash_add(struct siphash *state, const void *bytes, size_t size_bytes)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size_bytes; i++) {
		uint32_t filled = state->length_bytes++ % 8;

		state->tail |= (uint64_t)at[i] << (8 * filled);
		if (filled == 7) {
			absorb(state->v, state->tail, 2);
			state->tail = 0;
		}
	}
}

uint64_t siphash_end(struct siphash *state)
{
	return finish(state->v, state->tail | state->length_bytes << 56, 2);
}
