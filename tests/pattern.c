/* pattern.c - a stream of bytes that can be checked at any offset */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/pattern.h"
#include "tests/suite.h"

static uint64_t word_at(uint64_t seed, uint64_t offset)
{
	uint64_t state = seed + offset / 8 * UINT64_C(0x9e3779b97f4a7c15);

	return suite_random(&state);
}

uint8_t pattern_byte(uint64_t seed, uint64_t offset)
{
	return (uint8_t)(word_at(seed, offset) >> (offset % 8 * 8));
}

void pattern_fill(uint64_t seed, uint64_t offset, uint8_t *out, size_t length)
{
	uint64_t word = word_at(seed, offset);

	for (size_t i = 0; i < length; i++, offset++) {
		if (offset % 8 == 0)
			word = word_at(seed, offset);
		out[i] = (uint8_t)(word >> (offset % 8 * 8));
	}
}

bool pattern_matches(
	uint64_t seed, uint64_t offset, const uint8_t *data, size_t length)
{
	uint64_t word = word_at(seed, offset);

	for (size_t i = 0; i < length; i++, offset++) {
		if (offset % 8 == 0)
			word = word_at(seed, offset);
		if (data[i] != (uint8_t)(word >> (offset % 8 * 8)))
			return false;
	}
	return true;
}
