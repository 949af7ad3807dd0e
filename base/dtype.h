/* dtype.h - number formats of weights and caches */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     files, memory manager and kernels have to mean the same thing by
 *          "bf16"; conversions live here once.
 * Exact:   bf16, f16 and fp8 to float are exact. float to bf16 and f16 round
 *          to nearest even; NaN stays NaN.
 * Source:  bf16 is the upper half of IEEE 754 binary32; f16 is binary16;
 *          F8_E4M3 is the "FN" variant of OCP 8-bit floating point (OFP8
 *          1.0): no infinities, S.1111.111 is NaN, largest 448.
 * Threads: pure functions.
 */
#ifndef HEDDLE_BASE_DTYPE_H
#define HEDDLE_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F8_E4M3, DTYPE_COUNT };

/* Bytes of one element. */
size_t dtype_size(enum dtype type);

/* "f32", "bf16", "f16", "f8_e4m3". */
const char *dtype_name(enum dtype type);

static inline float bf16_to_f32(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;

	memcpy(&value, &wide, sizeof(value));
	return value;
}

uint16_t f32_to_bf16(float value);
float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);
float f8_e4m3_to_f32(uint8_t bits);

/* Element `index` of an array of `type` as float. */
float dtype_load(const void *data, enum dtype type, size_t index);

/* Store a float as element `index`; type is f32, bf16 or f16. */
void dtype_store(void *data, enum dtype type, size_t index, float value);

/*
 * Convert `count` elements; `to` and `from` do not overlap. Returns how many:
 * it stops at the first finite value that the new type has no finite value
 * for (only f16 is too small for that, and bf16 within a rounding of f32's
 * largest).
 */
size_t dtype_convert(void *to, enum dtype to_type, const void *from,
	enum dtype from_type, size_t count);

#endif
