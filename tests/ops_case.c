/* ops_case.c - what the tests of the operations share */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/ops_case.h"
#include "tests/suite.h"

void pool_init(struct pool *pool, uint64_t seed)
{
	pool->random = seed;
	pool->count = 0;
}

void pool_release(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->count; i++)
		munmap(pool->buffers[i].base, pool->buffers[i].size_bytes);
	pool->count = 0;
}

void *pool_get(struct pool *pool, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t room = (bytes + page - 1) / page * page;
	unsigned char *base = mmap(NULL, room + page, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED || pool->count == POOL_BUFFER_MAX ||
		mprotect(base + room, page, PROT_NONE) != 0)
		CU_FAIL_FATAL("no memory for the test");
	pool->buffers[pool->count].base = base;
	pool->buffers[pool->count].size_bytes = room + page;
	pool->count++;
	return base + room - bytes;
}

float *pool_copy(struct pool *pool, const float *from, size_t count)
{
	return memcpy(pool_get(pool, count * sizeof(*from)), from,
		count * sizeof(*from));
}

void *pool_elements(
	struct pool *pool, size_t count, enum dtype type, float scale)
{
	void *data = pool_get(pool, count * dtype_size(type));

	for (size_t i = 0; i < count; i++)
		dtype_store(data, type, i, scale * suite_gauss(&pool->random));
	return data;
}

float *pool_floats(struct pool *pool, size_t count, float scale)
{
	return pool_elements(pool, count, DTYPE_F32, scale);
}

struct weight pool_weight(
	struct pool *pool, enum dtype type, uint32_t rows, uint32_t cols)
{
	struct weight weight = {
		.data = pool_elements(pool, (size_t)rows * cols, type, 1),
		.type = type,
		.rows = rows,
		.cols = cols,
	};

	return weight;
}

struct lora_pair *pool_lora(struct pool *pool, uint32_t count,
	uint32_t rank_max, uint32_t out, uint32_t in)
{
	struct lora_pair *pairs = pool_get(pool, count * sizeof(*pairs));

	for (uint32_t i = 0; i < count; i++) {
		struct lora_pair *pair = &pairs[i];

		pair->type = case_type(i);
		pair->rank = i == 0 ? rank_max
				    : suite_below(&pool->random, rank_max + 1);
		pair->scale = suite_gauss(&pool->random);
		pair->a = pool_elements(
			pool, (size_t)pair->rank * in, pair->type, 1);
		pair->b = pool_elements(
			pool, (size_t)out * pair->rank, pair->type, 1);
	}
	return pairs;
}

uint32_t *pool_lora_rows(struct pool *pool, uint32_t count, uint32_t pair_count)
{
	uint32_t *rows = pool_get(pool, count * sizeof(*rows));

	for (uint32_t r = 0; r < count; r++)
		rows[r] = suite_below(&pool->random, 2)
				  ? suite_below(&pool->random, pair_count)
				  : LORA_NONE;
	return rows;
}

uint32_t *pool_shuffle(struct pool *pool, uint32_t count)
{
	uint32_t *order = pool_get(pool, count * sizeof(*order));

	for (uint32_t i = 0; i < count; i++) {
		uint32_t j = suite_below(&pool->random, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	return order;
}

void *pool_pick(struct pool *pool, const void *from, const uint32_t *index,
	uint32_t count, size_t width)
{
	uint32_t *out = pool_get(pool, count * width * sizeof(*out));
	const uint32_t *source = from;

	for (uint32_t i = 0; i < count; i++)
		memcpy(out + i * width, source + index[i] * width,
			width * sizeof(*out));
	return out;
}

enum dtype case_type(uint32_t i)
{
	static const enum dtype types[CASE_TYPE_COUNT] = {
		DTYPE_F32,
		DTYPE_BF16,
		DTYPE_F16,
	};

	return types[i % CASE_TYPE_COUNT];
}

struct ops case_ops(uint32_t thread_count)
{
	static const struct ops_limits limits = {
		.row_count = 1024,
		.sample_count = 64,
		.hidden = 1024,
		.vocab = 1024,
		.expert_count = 64,
		.topk = 8,
		.inter = 1024,
		.head_count = 64,
		.key_dim = 1024,
		.value_dim = 1024,
		.lora_rank = 80,
	};
	struct ops ops = {0};

	if (ops_create_reference(&limits, thread_count, &ops) != 0)
		CU_FAIL_FATAL("no back end");
	return ops;
}

bool case_close(float got, double want, double magnitude)
{
	/* About 50 roundings of binary32 in the worst order. */
	return fabs((double)got - want) <= 3e-6 * magnitude + 1e-30;
}

uint32_t case_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

bool case_same(const float *a, const float *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (isnan(a[i]) && isnan(b[i]))
			continue;
		if (case_bits(a[i]) != case_bits(b[i]))
			return false;
	}
	return true;
}
