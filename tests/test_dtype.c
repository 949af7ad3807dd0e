/* test_dtype.c - number formats, against the processor and the standards */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "tests/suite.h"

/* From the format's definition: (-1)^s 2^(e-15) (1 + m/1024). */
static void test_f16_to_f32__all_values(void)
{
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < 65536; i++) {
		int exponent = (int)(i >> 10 & 31);
		int fraction = (int)(i & 1023);
		double magnitude =
			exponent ? ldexp(1.0 + fraction / 1024.0, exponent - 15)
				 : ldexp(fraction / 1024.0, -14);
		float got = f16_to_f32((uint16_t)i);

		if (exponent == 31 && fraction) {
			wrong += isnan(got) ? 0 : 1;
			continue;
		}
		if (exponent == 31)
			magnitude = INFINITY;
		wrong += (double)got != (i & 0x8000 ? -magnitude : magnitude);
		wrong += (uint32_t)(!signbit(got) != !(i & 0x8000));
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

/* Round to nearest even by comparing with both neighbours. */
static void test_f32_to_f16__nearest_even(void)
{
	uint64_t state = suite_seed(1);
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < 2000000; i++) {
		/* Random values in and below the range of binary16. */
		int exponent = (int)suite_below(&state, 46) - 30;
		double unit = (double)(suite_random(&state) >> 40) * 0x1p-24;
		float value = (float)ldexp(1.0 + unit, exponent);
		uint16_t got = f32_to_f16(value);
		double low, high, middle, v = (double)value;

		if (v >= 65504)
			continue;
		low = (double)f16_to_f32(got);
		if (low > v)
			low = (double)f16_to_f32((uint16_t)(got - 1));
		high = low == (double)f16_to_f32(got)
			       ? (double)f16_to_f32((uint16_t)(got + 1))
			       : (double)f16_to_f32(got);
		middle = (low + high) / 2;
		if (v < middle)
			wrong += (double)f16_to_f32(got) != low;
		else if (v > middle)
			wrong += (double)f16_to_f32(got) != high;
		else
			wrong += got & 1u;
		wrong += f32_to_f16(-value) != (got | 0x8000);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static void test_f32_to_f16__edges(void)
{
	CU_ASSERT_EQUAL(f32_to_f16(65504.0f), 0x7bff);
	CU_ASSERT_EQUAL(f32_to_f16(65519.996f), 0x7bff);
	CU_ASSERT_EQUAL(f32_to_f16(65520.0f), 0x7c00);
	CU_ASSERT_EQUAL(f32_to_f16(0x1p-24f), 0x0001);
	CU_ASSERT_EQUAL(f32_to_f16(0x1p-25f), 0x0000); /* tie to even */
	CU_ASSERT_EQUAL(f32_to_f16(0x1.8p-24f), 0x0002); /* tie to even */
	CU_ASSERT_EQUAL(f32_to_f16(-0.0f), 0x8000);
}

/* Round to nearest even by arithmetic instead of by bits. */
static void test_f32_to_bf16__nearest_even(void)
{
	uint64_t state = suite_seed(2);
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < 2000000; i++) {
		uint32_t bits = (uint32_t)suite_random(&state);
		double value, low, high, middle;
		uint16_t got;
		float f;

		memcpy(&f, &bits, sizeof(f));
		if (!isfinite(f) || fabsf(f) > 3e38f)
			continue;
		got = f32_to_bf16(f);
		value = (double)f;
		low = (double)bf16_to_f32((uint16_t)(bits >> 16));
		high = (double)bf16_to_f32((uint16_t)((bits >> 16) + 1));
		middle = (low + high) / 2;
		if (fabs(value) < fabs(middle))
			wrong += got != bits >> 16;
		else if (fabs(value) > fabs(middle))
			wrong += got != (bits >> 16) + 1;
		else
			wrong += got & 1u;
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_TRUE(isnan(bf16_to_f32(f32_to_bf16(NAN))));
	CU_ASSERT_EQUAL(f32_to_bf16(INFINITY), 0x7f80);
}

static void test_f32_to_bf16__low_payload_nan_stays_nan(void)
{
	uint32_t bits = 0x7f800001u;
	float value;

	memcpy(&value, &bits, sizeof(value));
	CU_ASSERT_TRUE(isnan(bf16_to_f32(f32_to_bf16(value))));
}

/* From the format's definition: (-1)^s 2^(e-7) (1 + m/8). */
static void test_f8_e4m3_to_f32__all_values(void)
{
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < 256; i++) {
		int exponent = (int)(i >> 3 & 15);
		int fraction = (int)(i & 7);
		double magnitude =
			exponent ? ldexp(1.0 + fraction / 8.0, exponent - 7)
				 : ldexp(fraction / 8.0, -6);
		float got = f8_e4m3_to_f32((uint8_t)i);

		if ((i & 0x7f) == 0x7f)
			wrong += isnan(got) ? 0 : 1;
		else
			wrong += (double)got !=
				 (i & 0x80 ? -magnitude : magnitude);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(f8_e4m3_to_f32(0x7e), 448.0f);
	CU_ASSERT_TRUE(signbit(f8_e4m3_to_f32(0x80)));
}

static void test_dtype_load__inverts_store(void)
{
	static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
	uint8_t buffer[16];

	for (size_t t = 0; t < 3; t++) {
		dtype_store(buffer, types[t], 1, -1.5f);
		dtype_store(buffer, types[t], 0, 0.25f);
		CU_ASSERT_EQUAL(dtype_load(buffer, types[t], 0), 0.25f);
		CU_ASSERT_EQUAL(dtype_load(buffer, types[t], 1), -1.5f);
	}
	buffer[3] = 0x38;
	CU_ASSERT_EQUAL(dtype_load(buffer, DTYPE_F8_E4M3, 3), 1.0f);
}

static void test_dtype_size__names_and_sizes(void)
{
	CU_ASSERT_EQUAL(dtype_size(DTYPE_F32), 4);
	CU_ASSERT_EQUAL(dtype_size(DTYPE_BF16), 2);
	CU_ASSERT_EQUAL(dtype_size(DTYPE_F16), 2);
	CU_ASSERT_EQUAL(dtype_size(DTYPE_F8_E4M3), 1);
	CU_ASSERT_STRING_EQUAL(dtype_name(DTYPE_BF16), "bf16");
}

static void test_dtype_convert__stops_where_a_value_has_no_room(void)
{
	static const float values[] = {1.5f, -65504.0f, INFINITY, 65520.0f, 2};
	uint16_t half[5] = {0}, brain[5];
	float back[5];

	CU_ASSERT_EQUAL(
		dtype_convert(half, DTYPE_F16, values, DTYPE_F32, 5), 3);
	CU_ASSERT_EQUAL(f16_to_f32(half[1]), -65504.0f);
	CU_ASSERT_EQUAL(half[4], 0);
	CU_ASSERT_EQUAL(
		dtype_convert(brain, DTYPE_BF16, values, DTYPE_F32, 5), 5);
	CU_ASSERT_EQUAL(
		dtype_convert(back, DTYPE_F32, brain, DTYPE_BF16, 5), 5);
	CU_ASSERT_EQUAL(back[0], 1.5f);
	CU_ASSERT_EQUAL(back[3], 65536.0f);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(f16_to_f32__all_values),
		SUITE_CASE(f32_to_f16__nearest_even),
		SUITE_CASE(f32_to_f16__edges),
		SUITE_CASE(f32_to_bf16__nearest_even),
		SUITE_CASE(f32_to_bf16__low_payload_nan_stays_nan),
		SUITE_CASE(f8_e4m3_to_f32__all_values),
		SUITE_CASE(dtype_load__inverts_store),
		SUITE_CASE(dtype_convert__stops_where_a_value_has_no_room),
		SUITE_CASE(dtype_size__names_and_sizes),
	};

	return SUITE_MAIN("dtype", cases);
}
