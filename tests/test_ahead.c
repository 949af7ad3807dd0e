/* test_ahead.c - memory that is prepared before it is written */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "engine/ahead.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

#define BASE (UINT64_C(7) << 30)
#define UNIT (AHEAD_BLOCK_BYTES / 64)
#define UNITS 1024 /* of memory in a random case */
#define PLACES 60

/* What was prepared, in order; each ends when it is let go. */
struct prepared {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct ahead_place parts[UNITS];
	uint32_t count;
	uint32_t let_go;
};

static void note(struct vmm *vmm, vmm_addr at, size_t size_bytes)
{
	struct prepared *prepared = vmm->context;
	uint32_t own;

	pthread_mutex_lock(&prepared->lock);
	own = prepared->count++;
	prepared->parts[own % UNITS] = (struct ahead_place){at, size_bytes};
	pthread_cond_broadcast(&prepared->changed);
	while (own >= prepared->let_go)
		pthread_cond_wait(&prepared->changed, &prepared->lock);
	pthread_mutex_unlock(&prepared->lock);
}

static const struct vmm_ops ops = {.name = "noting", .prepare = note};

static void open_prepared(struct prepared *prepared, uint32_t let_go)
{
	*prepared = (struct prepared){.let_go = let_go};
	pthread_mutex_init(&prepared->lock, NULL);
	pthread_cond_init(&prepared->changed, NULL);
}

/* Wait until so many were begun, then let so many end. */
static void let_go(struct prepared *prepared, uint32_t begun, uint32_t ends)
{
	pthread_mutex_lock(&prepared->lock);
	while (prepared->count < begun)
		pthread_cond_wait(&prepared->changed, &prepared->lock);
	prepared->let_go = ends;
	pthread_cond_broadcast(&prepared->changed);
	pthread_mutex_unlock(&prepared->lock);
}

/* All of them, then an end; how many that were. */
static uint32_t run_all(const struct ahead_place *places, uint32_t count,
	uint32_t threads, uint32_t blocks, struct prepared *prepared)
{
	struct vmm vmm = {.ops = &ops, .context = prepared};
	struct ahead ahead;

	open_prepared(prepared, UINT32_MAX);
	CU_ASSERT_EQUAL_FATAL(
		ahead_begin(&vmm, places, count, threads, &ahead), 0);
	let_go(prepared, blocks, UINT32_MAX);
	ahead_end(&ahead);
	return prepared->count;
}

static void check_part(const struct prepared *prepared, uint32_t index,
	vmm_addr at, uint64_t size)
{
	CU_ASSERT_EQUAL(prepared->parts[index].at, at);
	CU_ASSERT_EQUAL(prepared->parts[index].size_bytes, size);
}

/* Blocks as the places come, not as addresses lie. */
static void test_ahead_begin__in_the_order_of_places(void)
{
	const uint64_t block = AHEAD_BLOCK_BYTES;
	const struct ahead_place places[] = {
		{BASE + 3 * block + 4096, 2 * block}, /* three blocks */
		{BASE, 100}, {0, 0}, /* none */
		{BASE + 3 * block, 4096}, /* in the first one's */
		{BASE + 200, 50}, /* a gap in between: as one */
		{BASE + 300 + AHEAD_GAP_BYTES, 7}, /* a gap too wide */
	};
	struct prepared prepared;

	CU_ASSERT_EQUAL_FATAL(run_all(places, 6, 1, 5, &prepared), 5);
	check_part(&prepared, 0, BASE + 3 * block, block);
	check_part(&prepared, 1, BASE + 4 * block, block);
	check_part(&prepared, 2, BASE + 5 * block, 4096);
	check_part(&prepared, 3, BASE, 250);
	check_part(&prepared, 4, BASE + 300 + AHEAD_GAP_BYTES, 7);
}

/* One place in each of eight blocks. */
static void spread(struct ahead_place *places)
{
	for (uint32_t i = 0; i < 8; i++)
		places[i] = (struct ahead_place){
			BASE + i * AHEAD_BLOCK_BYTES, UNIT};
}

static void test_ahead_reached__leaves_out_what_is_written(void)
{
	struct ahead_place places[8];
	struct prepared prepared;
	struct vmm vmm = {.ops = &ops, .context = &prepared};
	struct ahead ahead;

	spread(places);
	open_prepared(&prepared, 0);
	CU_ASSERT_EQUAL_FATAL(ahead_begin(&vmm, places, 8, 1, &ahead), 0);
	CU_ASSERT_EQUAL(ahead.thread_count, 1);
	let_go(&prepared, 1, 0);
	ahead_reached(&ahead, 5);
	let_go(&prepared, 1, UINT32_MAX);
	let_go(&prepared, 4, UINT32_MAX);
	ahead_end(&ahead);
	CU_ASSERT_EQUAL_FATAL(prepared.count, 4);
	check_part(&prepared, 0, BASE, UNIT);
	for (uint32_t i = 1; i < 4; i++)
		check_part(&prepared, i, places[4 + i].at, UNIT);
}

/* What is being prepared is waited for, nothing else is begun. */
static void *let_go_soon(void *arg)
{
	const struct timespec soon = {.tv_nsec = 20000000};

	nanosleep(&soon, NULL);
	let_go(arg, 2, UINT32_MAX);
	return NULL;
}

static void test_ahead_end__in_the_middle(void)
{
	struct ahead_place places[8];
	struct prepared prepared;
	struct vmm vmm = {.ops = &ops, .context = &prepared};
	struct ahead ahead;
	pthread_t other;

	spread(places);
	open_prepared(&prepared, 0);
	CU_ASSERT_EQUAL_FATAL(ahead_begin(&vmm, places, 8, 2, &ahead), 0);
	let_go(&prepared, 2, 0);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&other, NULL, let_go_soon, &prepared), 0);
	ahead_end(&ahead);
	CU_ASSERT_EQUAL(prepared.count, 2);
	CU_ASSERT_EQUAL(prepared.let_go, UINT32_MAX);
	pthread_join(other, NULL);
}

static void test_ahead_begin__nothing(void)
{
	const struct ahead_place empty = {BASE, 0};
	struct ahead ahead = {0};
	struct prepared prepared;

	ahead_end(&ahead);
	CU_ASSERT_EQUAL(run_all(NULL, 0, 3, 0, &prepared), 0);
	CU_ASSERT_EQUAL(run_all(&empty, 1, 3, 0, &prepared), 0);
	CU_ASSERT_EQUAL(run_all(&empty, 1, 0, 0, &prepared), 0);
}

/* Beside an array of bytes: all of the places, nothing twice. */
static void check_random(uint64_t *state)
{
	static uint8_t wanted[UNITS], got[UNITS];
	struct ahead_place places[PLACES];
	struct prepared prepared;
	uint32_t count = (uint32_t)suite_below(state, PLACES + 1);
	uint32_t blocks = 0;

	memset(wanted, 0, sizeof(wanted));
	memset(got, 0, sizeof(got));
	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = suite_below(state, UNITS);
		uint64_t size = suite_below(state, 200);

		size = size < UNITS - at ? size : UNITS - at;
		places[i] = (struct ahead_place){BASE + at * UNIT, size * UNIT};
		memset(wanted + at, 1, size);
	}
	/* A block has 64 units. Without a unit between them places touch. */
	for (uint32_t u = 0; u < UNITS; u++)
		blocks += wanted[u] && (u % 64 == 0 || !wanted[u - 1]);
	CU_ASSERT_EQUAL_FATAL(
		run_all(places, count, 1 + (uint32_t)suite_below(state, 3),
			blocks, &prepared),
		blocks);
	for (uint32_t i = 0; i < prepared.count; i++) {
		const struct ahead_place *part = &prepared.parts[i];

		CU_ASSERT_EQUAL(part->at / AHEAD_BLOCK_BYTES,
			(part->at + part->size_bytes - 1) / AHEAD_BLOCK_BYTES);
		for (uint64_t u = 0; u < part->size_bytes / UNIT; u++)
			got[(part->at - BASE) / UNIT + u]++;
	}
	for (uint32_t u = 0; u < UNITS; u++)
		CU_ASSERT_EQUAL(got[u], wanted[u]);
}

static void test_ahead_begin__random_places(void)
{
	uint64_t state = suite_seed(31);

	for (int i = 0; i < 300; i++)
		check_random(&state);
}

static void test_ahead_begin__no_memory_and_too_much(void)
{
	const struct ahead_place one = {BASE, UNIT}, all = {0, UINT64_MAX};
	struct vmm vmm = {.ops = &ops};
	struct ahead ahead;

	CU_ASSERT_EQUAL(ahead_begin(&vmm, &all, 1, 1, &ahead), -EOVERFLOW);
	fake_os_reset();
	fake_os_fail(FAKE_OS_ALLOCATE, 1, ENOMEM);
	CU_ASSERT_EQUAL(ahead_begin(&vmm, &one, 1, 1, &ahead), -ENOMEM);
	fake_os_disarm();
	CU_ASSERT_TRUE(fake_os_check_empty());
	fake_os_reset();
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(ahead_begin__in_the_order_of_places),
		SUITE_CASE(ahead_reached__leaves_out_what_is_written),
		SUITE_CASE(ahead_end__in_the_middle),
		SUITE_CASE(ahead_begin__nothing),
		SUITE_CASE(ahead_begin__random_places),
		SUITE_CASE(ahead_begin__no_memory_and_too_much),
	};

	return SUITE_MAIN("ahead", cases);
}
