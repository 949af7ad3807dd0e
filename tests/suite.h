/* suite.h - the frame of every test program (cases -> CUnit) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   one file per module, one suite per file, names function__case: the
 *        list of names is the specification.
 * Use:   static const struct suite_case cases[] = {
 *                SUITE_CASE(ring_push__full_is_refused), ...
 *        };
 *        int main(void) { return SUITE_MAIN("ring", cases); }
 *        where a case is a function test_<name>(void) of CU_ASSERTs.
 * Exit:  0 all passed, 1 something failed, 77 nothing could be run.
 */
#ifndef HEDDLE_TESTS_SUITE_H
#define HEDDLE_TESTS_SUITE_H

#include <CUnit/CUnit.h>
#include <stddef.h>
#include <stdint.h>

struct suite_case {
	const char *name;
	void (*run)(void);
};

#define SUITE_CASE(name)                                                       \
	{                                                                      \
#name, test_##name                                             \
	}
#define SUITE_MAIN(name, cases)                                                \
	suite_run((name), (cases), sizeof(cases) / sizeof((cases)[0]))

int suite_run(const char *name, const struct suite_case *cases, size_t count);

/*
 * Seed of this run: HEDDLE_TEST_SEED where set, else `fallback`; printed, so
 * that a failure can be repeated.
 */
uint64_t suite_seed(uint64_t fallback);

/* A small counter-based generator for tests: next value of *state. */
uint64_t suite_random(uint64_t *state);

/* Uniform in [0, bound), bound > 0. */
uint32_t suite_below(uint64_t *state, uint32_t bound);

/* Normal-like float, mean 0, deviation about 1. */
float suite_gauss(uint64_t *state);

/*
 * How often random tests do what takes ThreadSanitizer some thirty times as
 * long: there, half as often.
 */
#ifdef __SANITIZE_THREAD__
#define SUITE_FEWER(count) ((count) / 2)
#else
#define SUITE_FEWER(count) (count)
#endif

/* Zeroed memory, or the end of the test program: never NULL. */
void *suite_calloc(size_t count, size_t size_bytes);

/* Descriptors that this process holds, the one that counts among them. */
uint32_t suite_count_descriptors(void);

/* Record a skip with its reason; shown loudly at the end. */
void suite_skip(const char *reason);

#endif
