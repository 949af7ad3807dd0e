/* suite.c - the frame of every test program (cases -> CUnit) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <CUnit/Basic.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/suite.h"

static unsigned skip_count;

int suite_run(const char *name, const struct suite_case *cases, size_t count)
{
	CU_pSuite suite;
	unsigned failed;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite(name, NULL, NULL);
	if (!suite)
		return 1;
	for (size_t i = 0; i < count; i++)
		if (!CU_add_test(suite, cases[i].name, cases[i].run))
			return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_tests_failed();
	printf("suite %s: %u passed, %u failed, %u skipped\n", name,
		CU_get_number_of_tests_run() - failed - skip_count, failed,
		skip_count);
	CU_cleanup_registry();
	return failed != 0;
}

uint64_t suite_seed(uint64_t fallback)
{
	const char *text = getenv("HEDDLE_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : fallback;

	printf("seed %llu ", (unsigned long long)seed);
	return seed;
}

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
uint64_t suite_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint32_t suite_below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)(((suite_random(state) >> 32) * bound) >> 32);
}

float suite_gauss(uint64_t *state)
{
	float sum = 0;

	/* Twelve uniforms: mean 6, variance 1 (Irwin-Hall). */
	for (int i = 0; i < 12; i++)
		sum += (float)(suite_random(state) >> 40) * 0x1p-24f;
	return sum - 6.0f;
}

void *suite_calloc(size_t count, size_t size_bytes)
{
	void *memory = calloc(count ? count : 1, size_bytes);

	if (!memory) {
		fprintf(stderr, "suite: no memory\n");
		abort();
	}
	return memory;
}

uint32_t suite_count_descriptors(void)
{
	DIR *list = opendir("/proc/self/fd");
	uint32_t count = 0;

	while (readdir(list))
		count++;
	closedir(list);
	return count;
}

void suite_skip(const char *reason)
{
	skip_count++;
	printf("SKIP: %s ", reason);
}
