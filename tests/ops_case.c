/* ops_case.c - what the tests of the operations share */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu/cpu/panels.h"
#include "tests/ops_case.h"

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

#define NAME_BYTES 128

static void skip_avx2(void)
{
	suite_skip("this processor has no AVX2");
}

static void skip_avx512(void)
{
	suite_skip("this processor has no AVX-512");
}

static void skip_amx(void)
{
	suite_skip("this processor has no AMX, or the kernel keeps it");
}

static void (*const skips[CPU_ISA_COUNT])(void) = {
	[CPU_AVX2] = skip_avx2,
	[CPU_AVX512] = skip_avx512,
	[CPU_AMX] = skip_amx,
};

/* The name carries the instruction set: case_isa() reads it there. */
static void name_case(struct suite_case *out, char *name,
	const struct suite_case *from, enum cpu_isa isa)
{
	snprintf(name, NAME_BYTES, "%s %s", from->name, cpu_isa_name(isa));
	out->name = name;
	out->run = from->run;
}

int case_run(const char *name, struct case_list once, struct case_list each)
{
	size_t most = once.count + CPU_ISA_COUNT * (each.count + 1);
	struct suite_case *cases = suite_calloc(most, sizeof(*cases));
	char(*names)[NAME_BYTES] = suite_calloc(most, sizeof(*names));
	size_t count = 0;
	int status;

	for (size_t i = 0; i < once.count; i++)
		cases[count++] = once.cases[i];
	for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++) {
		struct suite_case skip = {"isa_works", skips[isa]};

		for (size_t i = 0; cpu_isa_works(isa) && i < each.count; i++) {
			name_case(&cases[count], names[count], &each.cases[i],
				isa);
			count++;
		}
		if (!cpu_isa_works(isa)) {
			name_case(&cases[count], names[count], &skip, isa);
			count++;
		}
	}
	status = suite_run(name, cases, count);
	free(cases);
	free(names);
	return status;
}

enum cpu_isa case_isa(void)
{
	const char *space = strrchr(CU_get_current_test()->pName, ' ');

	for (enum cpu_isa isa = 0; space && isa < CPU_ISA_COUNT; isa++)
		if (strcmp(space + 1, cpu_isa_name(isa)) == 0)
			return isa;
	return CPU_REFERENCE;
}

static struct weight repack(
	struct pool *pool, const struct weight *weight, struct panels panels)
{
	struct weight packed = *weight;
	size_t count = (size_t)weight->rows * weight->cols;
	void *data = pool_get(pool, count * dtype_size(weight->type));

	panels.type = weight->type;
	panels.rows = weight->rows;
	panels.cols = weight->cols;
	panels_put(&panels, data, 0, count, weight->data);
	packed.data = data;
	packed.layout = panels.layout;
	return packed;
}

struct weight case_weight(
	struct pool *pool, enum cpu_isa isa, const struct weight *weight)
{
	struct panels panels = {.layout = cpu_isa_layout(isa)};

	return repack(pool, weight, panels);
}

struct weight case_kv_b(struct pool *pool, enum cpu_isa isa,
	const struct weight *weight, uint32_t nope, uint32_t value)
{
	struct panels panels = {.nope = nope, .value = value};

	if (cpu_isa_layout(isa) == WEIGHT_PANELS)
		panels.layout = WEIGHT_MLA_PANELS;
	return repack(pool, weight, panels);
}

struct ops case_ops(uint32_t thread_count)
{
	return case_ops_isa(case_isa(), thread_count);
}

struct ops case_ops_isa(enum cpu_isa isa, uint32_t thread_count)
{
	static const struct ops_limits limits = {
		.row_count = 2048,
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

	if (ops_create_cpu(isa, &limits, thread_count, NULL, &ops) != 0)
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
