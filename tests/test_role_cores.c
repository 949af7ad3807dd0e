/* test_role_cores.c - dataplane and ranks share the cores out */
/* SPDX-License-Identifier: Apache-2.0 */
#include "control/role_cores.h"
#include "tests/suite.h"

/* Cores 3, 5, 7, ..: those of a node need not begin at 0 nor be neighbours. */
static cpu_set_t odd_cores(uint32_t count)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (size_t i = 0; i < count; i++)
		CPU_SET(3 + 2 * i, &set);
	return set;
}

/* Bit i: the i-th of odd_cores(). */
static uint64_t bits_of(const cpu_set_t *set)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < 64; i++)
		if (CPU_ISSET(3 + 2 * i, set))
			bits |= UINT64_C(1) << i;
	return bits;
}

struct share {
	uint32_t total;
	struct role_cores cores;
	uint64_t front; /* 0 = none of its own */
	uint64_t rank[3];
	bool apart; /* the loops have cores on which nothing computes */
};

static const struct share shares[] = {
	/* A thread for each core, by default or because it was said. */
	{2, {1, 0, 1}, 0x2, {0x3}, false},
	{2, {1, 2, 1}, 0x2, {0x3}, false},
	{4, {1, 5, 1}, 0xe, {0xf}, false},
	{1, {1, 0, 1}, 0, {0x1}, false},
	/* Spare cores: half of them, at least one, are the dataplane's. */
	{2, {1, 1, 1}, 0x2, {0x3}, true},
	{4, {1, 3, 1}, 0x8, {0xf}, true},
	{4, {1, 2, 1}, 0x8, {0xf}, true},
	{16, {1, 4, 1}, 0xfc00, {0xffff}, true},
	/* Several ranks, parts of unequal size. */
	{4, {2, 0, 1}, 0xa, {0x3, 0xc}, false},
	{4, {2, 1, 1}, 0xa, {0x3, 0xc}, true},
	{5, {2, 2, 1}, 0x14, {0x7, 0x18}, false},
	{3, {3, 0, 1}, 0, {0x1, 0x2, 0x4}, false},
	{2, {3, 0, 1}, 0, {0, 0, 0}, false},
	/* Each loop has one, as far as they are spare; said by nobody: one. */
	{4, {1, 1, 0}, 0xc, {0xf}, true},
	{4, {1, 2, 2}, 0xc, {0xf}, true},
	{4, {1, 1, 3}, 0xe, {0xf}, true},
	{4, {1, 2, 8}, 0xc, {0xf}, false},
	{16, {1, 4, 2}, 0xfc00, {0xffff}, true},
	{16, {1, 12, 4}, 0xf000, {0xffff}, true},
	{4, {1, 0, 8}, 0xe, {0xf}, false},
	/* Two loops of four in each part, then one of two. */
	{8, {2, 1, 4}, 0xcc, {0xf, 0xf0}, true},
	{6, {2, 1, 3}, 0x36, {0x7, 0x38}, true},
	{6, {2, 1, 2}, 0x24, {0x7, 0x38}, true},
};

static void test_role_cores__front_and_ranks(void)
{
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		const struct share *s = &shares[i];
		cpu_set_t all = odd_cores(s->total), out;

		CU_ASSERT_EQUAL(
			role_cores_front(&all, &s->cores, &out), s->front != 0);
		CU_ASSERT_EQUAL(bits_of(&out), s->front);
		CU_ASSERT_EQUAL(role_cores_apart(&all, &s->cores), s->apart);
		for (uint32_t r = 0; r < s->cores.rank_count; r++) {
			CU_ASSERT_EQUAL(
				role_cores_rank(&all, &s->cores, r, &out),
				s->rank[r] != 0);
			CU_ASSERT_EQUAL(bits_of(&out), s->rank[r]);
		}
	}
}

/* Whoever computes and the dataplane never meet where a core is spare. */
static void test_role_cores__spare_cores_part_them(void)
{
	for (uint32_t total = 1; total <= 40; total++)
		for (uint32_t threads = 1; threads <= total + 1; threads++) {
			const struct role_cores cores = {
				1, threads, 1 + (total + threads) % 4};
			cpu_set_t all = odd_cores(total), front;
			uint32_t own = role_cores_compute(&cores, total);

			CU_ASSERT_FATAL(own >= threads || own == total);
			CU_ASSERT_FATAL(own <= total);
			if (threads >= total)
				continue;
			CU_ASSERT_FATAL(role_cores_front(&all, &cores, &front));
			CU_ASSERT_EQUAL_FATAL(
				bits_of(&front) >> own << own, bits_of(&front));
			CU_ASSERT_EQUAL_FATAL(
				own + (uint32_t)CPU_COUNT(&front), total);
		}
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(role_cores__front_and_ranks),
		SUITE_CASE(role_cores__spare_cores_part_them),
	};

	return SUITE_MAIN("role_cores", cases);
}
