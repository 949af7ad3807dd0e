/* pattern.h - a stream of bytes that can be checked at any offset */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_TESTS_PATTERN_H
#define HEDDLE_TESTS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The byte at `offset` of the stream that `seed` stands for. */
uint8_t pattern_byte(uint64_t seed, uint64_t offset);
void pattern_fill(uint64_t seed, uint64_t offset, uint8_t *out, size_t length);
bool pattern_matches(
	uint64_t seed, uint64_t offset, const uint8_t *data, size_t length);

#endif
