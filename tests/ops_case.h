/* ops_case.h - what the tests of the operations share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        every operation is tried in the same ways: against doubles,
 *             alone and in batches, with several numbers of threads, with
 *             memory that ends at an unmapped page.
 * Ownership:  a pool owns all buffers that it gave; pool_release() frees
 *             them together.
 * Threads:    one.
 */
#ifndef HEDDLE_TESTS_OPS_CASE_H
#define HEDDLE_TESTS_OPS_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "gpu/cpu/cpu.h"
#include "gpu/ops.h"
#include "tests/suite.h"

#define POOL_BUFFER_MAX 1024

struct pool {
	uint64_t random; /* state of suite_random() */
	uint32_t count;
	struct {
		void *base;
		size_t size_bytes;
	} buffers[POOL_BUFFER_MAX]; /* owns */
};

void pool_init(struct pool *pool, uint64_t seed);
void pool_release(struct pool *pool);

/* Zeroed memory whose last byte is followed by an unmapped page. */
void *pool_get(struct pool *pool, size_t bytes);

/* A copy of `count` floats. */
float *pool_copy(struct pool *pool, const float *from, size_t count);

/* Random floats with deviation `scale`. */
float *pool_floats(struct pool *pool, size_t count, float scale);

/* Random elements of a type; a matrix of them. */
void *pool_elements(
	struct pool *pool, size_t count, enum dtype type, float scale);
struct weight pool_weight(
	struct pool *pool, enum dtype type, uint32_t rows, uint32_t cols);

/* `count` updates of ranks 0 .. rank_max, type by turns. */
struct lora_pair *pool_lora(struct pool *pool, uint32_t count,
	uint32_t rank_max, uint32_t out, uint32_t in);

/* [count] random rows of a lora_pair array, about half of them LORA_NONE. */
uint32_t *pool_lora_rows(
	struct pool *pool, uint32_t count, uint32_t pair_count);

/* The numbers 0 .. count-1 in random order. */
uint32_t *pool_shuffle(struct pool *pool, uint32_t count);

/* from[index[i]] for each i, `width` elements of 4 bytes each. */
void *pool_pick(struct pool *pool, const void *from, const uint32_t *index,
	uint32_t count, size_t width);

/* One of f32, bf16, f16. */
enum dtype case_type(uint32_t i);

#define CASE_TYPE_COUNT 3

/*
 * Run `once` as they are and `each` for every instruction set that works
 * here; one that does not is a skip. As suite_run().
 */
struct case_list {
	const struct suite_case *cases;
	size_t count;
};
int case_run(const char *name, struct case_list once, struct case_list each);

#define CASE_LIST(cases)                                                       \
	((struct case_list){(cases), sizeof(cases) / sizeof((cases)[0])})

/* What the running case is for; outside of `each`, the reference. */
enum cpu_isa case_isa(void);

/* A back end for tests: small limits with room for every test. */
struct ops case_ops(uint32_t thread_count); /* of case_isa() */
struct ops case_ops_isa(enum cpu_isa isa, uint32_t thread_count);

/*
 * The same matrix as the back end wants it, in memory that ends at an
 * unmapped page; for MLA's kv_b_proj with the rows of a head's two parts.
 */
struct weight case_weight(
	struct pool *pool, enum cpu_isa isa, const struct weight *weight);
struct weight case_kv_b(struct pool *pool, enum cpu_isa isa,
	const struct weight *weight, uint32_t nope, uint32_t value);

/* The numbers of threads that are compared. */
#define CASE_THREAD_COUNTS                                                     \
	{                                                                      \
		1, 2, 3, 5                                                     \
	}

/*
 * |got - want| is small against `magnitude`, the sum of the absolute values
 * that were added up; false for a NaN.
 */
bool case_close(float got, double want, double magnitude);

uint32_t case_bits(float value);

/* The same bits; NaN equals any NaN. */
bool case_same(const float *a, const float *b, size_t count);

#endif
