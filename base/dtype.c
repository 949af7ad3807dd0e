/* dtype.c - number formats of weights and caches */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>

#include "base/dtype.h"

static const struct {
	size_t size;
	const char *name;
} formats[DTYPE_COUNT] = {
	[DTYPE_F32] = {4, "f32"},
	[DTYPE_BF16] = {2, "bf16"},
	[DTYPE_F16] = {2, "f16"},
	[DTYPE_F8_E4M3] = {1, "f8_e4m3"},
};

size_t dtype_size(enum dtype type)
{
	assert((unsigned)type < DTYPE_COUNT);
	return formats[type].size;
}

const char *dtype_name(enum dtype type)
{
	assert((unsigned)type < DTYPE_COUNT);
	return formats[type].name;
}

static uint32_t float_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static float bits_float(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

uint16_t f32_to_bf16(float value)
{
	uint32_t bits = float_bits(value);

	/* A NaN whose payload sits in the low half must not become Inf. */
	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)((bits >> 16) | 0x0040u);
	bits += 0x7fffu + ((bits >> 16) & 1u);
	return (uint16_t)(bits >> 16);
}

float f16_to_f32(uint16_t bits)
{
	uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
	uint32_t exponent = (bits >> 10) & 0x1fu;
	uint32_t fraction = bits & 0x3ffu;

	if (exponent == 0x1f)
		return bits_float(sign | 0x7f800000u | (fraction << 13));
	if (exponent == 0) {
		/* Zero and subnormals: fraction * 2^-24, exact in binary32. */
		float magnitude = (float)fraction * 0x1p-24f;

		return bits_float(sign | float_bits(magnitude));
	}
	return bits_float(sign | ((exponent + 112) << 23) | (fraction << 13));
}

uint16_t f32_to_f16(float value)
{
	uint32_t bits = float_bits(value);
	uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
	uint32_t magnitude = bits & 0x7fffffffu;

	if (magnitude > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00u);
	if (magnitude >= 0x477ff000u) /* 65520 and more round to infinity */
		return (uint16_t)(sign | 0x7c00u);
	if (magnitude < 0x38800000u) {
		/* Below 2^-14: count in units of 2^-24, ties to even. */
		float units = bits_float(magnitude) * 0x1p24f;

		return (uint16_t)(sign | (uint16_t)nearbyintf(units));
	}
	magnitude += 0xfffu + ((magnitude >> 13) & 1u);
	return (uint16_t)(sign | ((magnitude - (112u << 23)) >> 13));
}

float f8_e4m3_to_f32(uint8_t bits)
{
	uint32_t sign = (uint32_t)(bits & 0x80u) << 24;
	uint32_t exponent = (bits >> 3) & 0xfu;
	uint32_t fraction = bits & 0x7u;

	if ((bits & 0x7fu) == 0x7fu)
		return bits_float(sign | 0x7fc00000u);
	if (exponent == 0) {
		float magnitude = (float)fraction * 0x1p-9f;

		return bits_float(sign | float_bits(magnitude));
	}
	return bits_float(sign | ((exponent + 120) << 23) | (fraction << 20));
}

float dtype_load(const void *data, enum dtype type, size_t index)
{
	assert((unsigned)type < DTYPE_COUNT);
	switch (type) {
	case DTYPE_F32:
		return ((const float *)data)[index];
	case DTYPE_BF16:
		return bf16_to_f32(((const uint16_t *)data)[index]);
	case DTYPE_F16:
		return f16_to_f32(((const uint16_t *)data)[index]);
	case DTYPE_F8_E4M3:
	default:
		return f8_e4m3_to_f32(((const uint8_t *)data)[index]);
	}
}

void dtype_store(void *data, enum dtype type, size_t index, float value)
{
	assert(type == DTYPE_F32 || type == DTYPE_BF16 || type == DTYPE_F16);
	if (type == DTYPE_F32)
		((float *)data)[index] = value;
	else if (type == DTYPE_BF16)
		((uint16_t *)data)[index] = f32_to_bf16(value);
	else
		((uint16_t *)data)[index] = f32_to_f16(value);
}

size_t dtype_convert(void *to, enum dtype to_type, const void *from,
	enum dtype from_type, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		float value = dtype_load(from, from_type, i);

		dtype_store(to, to_type, i, value);
		if (isfinite(value) && !isfinite(dtype_load(to, to_type, i)))
			return i;
	}
	return count;
}
