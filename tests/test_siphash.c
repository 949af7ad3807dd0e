/* test_siphash.c - the keyed hash against published values */
/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"
#include "tests/suite.h"

static uint8_t bytes[64]; /* 0, 1, 2, ... */

static void fill(void)
{
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
}

/* Appendix A of the paper; the empty input is of the authors' test vectors. */
static void test_siphash_2_4__published_values(void)
{
	struct siphash_key key;

	fill();
	key = siphash_key_of(bytes);
	CU_ASSERT_EQUAL(key.low, UINT64_C(0x0706050403020100));
	CU_ASSERT_EQUAL(
		siphash_2_4(&key, bytes, 15), UINT64_C(0xa129ca6149be45e5));
	CU_ASSERT_EQUAL(
		siphash_2_4(&key, bytes, 0), UINT64_C(0x726fdb47dd0e0e31));
}

/* Of the test vectors of the Rust standard library. */
static void test_siphash_1_3__published_values(void)
{
	struct siphash_key key;

	fill();
	key = siphash_key_of(bytes);
	CU_ASSERT_EQUAL(
		siphash_1_3(&key, bytes, 0), UINT64_C(0xabac0158050fc4dc));
}

static void test_siphash__parts_are_the_whole(void)
{
	struct siphash_key key;

	fill();
	key = siphash_key_of(bytes);
	for (size_t length = 0; length <= sizeof(bytes); length++)
		for (size_t cut = 0; cut <= length; cut++) {
			struct siphash parts;

			siphash_init(&parts, bytes);
			siphash_add(&parts, bytes, cut);
			siphash_add(&parts, bytes + cut, length - cut);
			CU_ASSERT_EQUAL(siphash_end(&parts),
				siphash_2_4(&key, bytes, length));
		}
}

static void test_siphash_derive__keys_differ_by_use(void)
{
	struct siphash_key secret = {1, 2}, a, b;

	a = siphash_derive(&secret, "one");
	b = siphash_derive(&secret, "two");
	CU_ASSERT(a.low != b.low && a.high != b.high);
	CU_ASSERT(a.low != a.high);
	b = siphash_derive(&secret, "one");
	CU_ASSERT(a.low == b.low && a.high == b.high);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(siphash_2_4__published_values),
		SUITE_CASE(siphash_1_3__published_values),
		SUITE_CASE(siphash__parts_are_the_whole),
		SUITE_CASE(siphash_derive__keys_differ_by_use),
	};

	return SUITE_MAIN("siphash", cases);
}
