/* test_text_ring.c - messages with bytes, and a look at those to come */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "dataplane/text_ring.h"
#include "tests/suite.h"

#define CAPACITY ((size_t)65536)
#define ROUND_COUNT 2000
#define SEEN_MAX 64

static uint32_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Some messages of some lengths; how many found room. */
static uint32_t push_some(
	struct text_ring *ring, uint64_t *random, uint32_t first)
{
	static const char bytes[4096];
	uint32_t count = next_random(random) % 40;

	for (uint32_t i = 0; i < count; i++) {
		const struct text_message message = {.kind = TEXT_BYTES,
			.value = first + i,
			.length = next_random(random) % sizeof(bytes)};

		if (!text_ring_push(ring, &message, bytes))
			return i;
	}
	return count;
}

/* The row of those behind the oldest is the row in which they come. */
static void test_text_ring_after__is_what_comes_next(void)
{
	uint64_t random = suite_seed(3);
	const struct text_message *seen[SEEN_MAX], *message;
	struct text_ring ring;
	uint32_t pushed = 0, taken = 0, ahead = 0;

	CU_ASSERT_EQUAL_FATAL(text_ring_init(&ring, CAPACITY), 0);
	for (int round = 0; round < ROUND_COUNT; round++) {
		uint32_t count = 0, at = 0, stop;

		pushed += push_some(&ring, &random, pushed);
		message = text_ring_peek(&ring);
		for (; message && count < SEEN_MAX;
			message = text_ring_after(&ring, message))
			seen[count++] = message;
		ahead += count > 1 ? count - 1 : 0;
		stop = next_random(&random) % 50;
		while (at < stop && (message = text_ring_peek(&ring))) {
			if (at < count)
				CU_ASSERT_PTR_EQUAL(message, seen[at]);
			CU_ASSERT_EQUAL(message->value, taken);
			text_ring_pop(&ring);
			at++;
			taken++;
		}
	}
	/* Nearly all were seen before it was their turn. */
	CU_ASSERT(taken > 1000 && ahead > taken / 2);
	text_ring_release(&ring);
}

/* Of messages that are put none is seen before all are. */
static void test_text_ring_put__is_seen_when_published(void)
{
	static const char bytes[4096];
	const struct text_message *message;
	struct text_message sent = {
		.kind = TEXT_BYTES, .length = sizeof(bytes)};
	struct text_ring ring;
	uint32_t put = 0, taken = 0;

	CU_ASSERT_EQUAL_FATAL(text_ring_init(&ring, CAPACITY), 0);
	for (int round = 0; round < 3; round++) {
		while (text_ring_put(&ring, &sent, bytes))
			sent.value = ++put;
		CU_ASSERT_PTR_NULL(text_ring_peek(&ring));
		text_ring_publish(&ring);
		while ((message = text_ring_peek(&ring))) {
			CU_ASSERT_EQUAL(message->value, taken);
			text_ring_pop(&ring);
			taken++;
		}
		CU_ASSERT_EQUAL(taken, put);
		/* The next round begins elsewhere. */
		CU_ASSERT(text_ring_push(&ring, &sent, bytes));
		sent.value = ++put;
		message = text_ring_peek(&ring);
		CU_ASSERT(message && message->value == taken);
		text_ring_pop(&ring);
		taken++;
	}
	CU_ASSERT(taken > 3 * 10);
	text_ring_release(&ring);
}

static const struct suite_case cases[] = {
	SUITE_CASE(text_ring_after__is_what_comes_next),
	SUITE_CASE(text_ring_put__is_seen_when_published),
};

int main(void)
{
	return SUITE_MAIN("text_ring", cases);
}
