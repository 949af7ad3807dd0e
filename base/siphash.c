/* siphash.c - a short keyed hash (key, bytes -> 64 bits) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"

static uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static uint64_t load_le64(const uint8_t *bytes)
{
	uint64_t x = 0;

	for (int i = 0; i < 8; i++)
		x |= (uint64_t)bytes[i] << (8 * i);
	return x;
}

static void round_once(uint64_t v[4])
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

static void compress(struct siphash *state, uint64_t word)
{
	state->v[3] ^= word;
	round_once(state->v);
	round_once(state->v);
	state->v[0] ^= word;
}

void siphash_init(struct siphash *state, const uint8_t key[SIPHASH_KEY_BYTES])
{
	uint64_t k0 = load_le64(key), k1 = load_le64(key + 8);

	*state = (struct siphash){
		.v = {k0 ^ UINT64_C(0x736f6d6570736575),
			k1 ^ UINT64_C(0x646f72616e646f6d),
			k0 ^ UINT64_C(0x6c7967656e657261),
			k1 ^ UINT64_C(0x7465646279746573)},
	};
}

void siphash_add(struct siphash *state, const void *bytes, size_t size_bytes)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size_bytes; i++) {
		uint32_t filled = state->length_bytes++ % 8;

		state->tail |= (uint64_t)at[i] << (8 * filled);
		if (filled == 7) {
			compress(state, state->tail);
			state->tail = 0;
		}
	}
}

uint64_t siphash_end(struct siphash *state)
{
	compress(state, state->tail | state->length_bytes << 56);
	state->v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		round_once(state->v);
	return state->v[0] ^ state->v[1] ^ state->v[2] ^ state->v[3];
}
