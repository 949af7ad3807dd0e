/* test_ring.c - the queue between two roles */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/ring.h"
#include "tests/suite.h"

static struct ring *make(uint32_t count)
{
	size_t size = ring_size(count);
	struct ring *ring = aligned_alloc(
		CACHE_LINE_BYTES, (size + CACHE_LINE_BYTES - 1) /
					  CACHE_LINE_BYTES * CACHE_LINE_BYTES);

	CU_ASSERT_PTR_NOT_NULL_FATAL(ring);
	CU_ASSERT_EQUAL_FATAL(ring_init(ring, count, size), 0);
	return ring;
}

static void test_ring_init__sizes(void)
{
	struct ring *ring = make(8);

	CU_ASSERT_EQUAL(ring_size(0), 0);
	CU_ASSERT_EQUAL(ring_size(6), 0);
	CU_ASSERT_EQUAL(ring_size(UINT32_C(1) << 31), 0);
	CU_ASSERT_EQUAL(ring_init(ring, 6, 4096), -EINVAL);
	CU_ASSERT_EQUAL(ring_init(ring, 8, ring_size(8) - 1), -EINVAL);
	free(ring);
}

static void test_ring_attach__checks_the_other_side(void)
{
	struct ring *ring = make(8);
	uint32_t count = 0;

	CU_ASSERT_EQUAL(ring_attach(ring, ring_size(8), &count), 0);
	CU_ASSERT_EQUAL(count, 8);
	CU_ASSERT_EQUAL(ring_attach(ring, ring_size(8) - 1, &count), -EINVAL);
	CU_ASSERT_EQUAL(ring_attach(ring, 4, &count), -EINVAL);
	ring->count = 1u << 20;
	CU_ASSERT_EQUAL(ring_attach(ring, ring_size(8), &count), -EINVAL);
	ring->count = 7;
	CU_ASSERT_EQUAL(ring_attach(ring, ring_size(8), &count), -EINVAL);
	ring->count = 8;
	ring->magic++;
	CU_ASSERT_EQUAL(ring_attach(ring, ring_size(8), &count), -EINVAL);
	free(ring);
}

static void test_ring_push__full_is_refused(void)
{
	struct ring *ring = make(4);
	struct ring_message m = {RING_SUBMIT, 0, 0, 0}, out[8];

	for (uint32_t i = 0; i < 4; i++) {
		m.slot = i;
		CU_ASSERT_TRUE(ring_push(ring, 4, &m));
	}
	CU_ASSERT_FALSE(ring_push(ring, 4, &m));
	CU_ASSERT_EQUAL(ring->full_total, 1);
	CU_ASSERT_EQUAL(ring_pop(ring, 4, out, 1), 1);
	CU_ASSERT_EQUAL(out[0].slot, 0);
	m.slot = 4;
	CU_ASSERT_TRUE(ring_push(ring, 4, &m));
	CU_ASSERT_EQUAL(ring_pop(ring, 4, out, 8), 3);
	CU_ASSERT_EQUAL(ring_pop(ring, 4, out + 3, 8), 1);
	for (uint32_t i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(out[i].slot, i + 1);
	CU_ASSERT_EQUAL(ring_pop(ring, 4, out, 8), 0);
	free(ring);
}

static void test_ring_push__indices_run_past_the_end(void)
{
	struct ring *ring = make(4);
	struct ring_message m = {RING_TOKENS, 0, 0, 0}, out[4];

	ring->head = ring->tail = UINT32_MAX - 1;
	ring->head_seen = ring->tail_seen = UINT32_MAX - 1;
	for (uint32_t i = 0; i < 20; i++) {
		m.value = i;
		CU_ASSERT_TRUE(ring_push(ring, 4, &m));
		CU_ASSERT_EQUAL(ring_pop(ring, 4, out, 4), 1);
		CU_ASSERT_EQUAL(out[0].value, i);
	}
	CU_ASSERT_EQUAL(ring_broken(ring), 0);
	free(ring);
}

static void test_ring_pop__impossible_head_is_empty(void)
{
	struct ring *ring = make(4);
	struct ring_message out[4];

	ring->head = 5000;
	CU_ASSERT_EQUAL(ring_pop(ring, 4, out, 4), 0);
	CU_ASSERT_EQUAL(ring_broken(ring), 1);
	free(ring);
}

static void test_ring_push__impossible_tail_is_full(void)
{
	struct ring *ring = make(4);
	struct ring_message m = {RING_TOKENS, 0, 0, 0};

	for (int i = 0; i < 4; i++)
		CU_ASSERT_TRUE(ring_push(ring, 4, &m));
	ring->tail = 3000;
	CU_ASSERT_FALSE(ring_push(ring, 4, &m));
	CU_ASSERT_EQUAL(ring_broken(ring), 1);
	free(ring);
}

#define MESSAGES 200000u

static void *produce(void *arg)
{
	struct ring *ring = arg;
	struct ring_message m = {RING_TOKENS, 0, 0, 0};

	for (uint32_t i = 0; i < MESSAGES;) {
		m.slot = i;
		m.generation = ~i;
		m.value = i * 3;
		if (ring_push(ring, 64, &m))
			i++;
		else
			sched_yield();
	}
	return NULL;
}

static void test_ring__two_threads_keep_order(void)
{
	struct ring *ring = make(64);
	struct ring_message out[32];
	uint32_t next = 0, wrong = 0;
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, produce, ring), 0);
	while (next < MESSAGES) {
		uint32_t got = ring_pop(ring, 64, out, 32);

		if (got == 0)
			sched_yield();
		for (uint32_t i = 0; i < got; i++, next++)
			wrong += out[i].slot != next ||
				 out[i].generation != ~next ||
				 out[i].value != next * 3;
	}
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(ring_broken(ring), 0);
	free(ring);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(ring_init__sizes),
		SUITE_CASE(ring_attach__checks_the_other_side),
		SUITE_CASE(ring_push__full_is_refused),
		SUITE_CASE(ring_push__indices_run_past_the_end),
		SUITE_CASE(ring_pop__impossible_head_is_empty),
		SUITE_CASE(ring_push__impossible_tail_is_full),
		SUITE_CASE(ring__two_threads_keep_order),
	};

	return SUITE_MAIN("ring", cases);
}
