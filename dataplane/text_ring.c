/* text_ring.c - messages between the network thread and a text worker */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "dataplane/text_ring.h"

#define CAPACITY_MIN ((size_t)65536)
#define RECORD_ALIGN sizeof(struct text_message)

int text_ring_init(struct text_ring *ring, size_t capacity)
{
	*ring = (struct text_ring){0};
	if (!is_power_of_two(capacity) || capacity < CAPACITY_MIN)
		return -EINVAL;
	ring->data = aligned_alloc(CACHE_LINE_BYTES, capacity);
	if (!ring->data)
		return -ENOMEM;
	ring->capacity = capacity;
	return 0;
}

void text_ring_release(struct text_ring *ring)
{
	free(ring->data);
	*ring = (struct text_ring){0};
}

static size_t record_size(uint32_t length)
{
	size_t size = sizeof(struct text_message) + length;

	return (size + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

static bool has_room(struct text_ring *ring, size_t need)
{
	if (ring->capacity - (ring->written - ring->tail_seen) >= need)
		return true;
	/* Pairs with the release in text_ring_pop(): those records are read. */
	ring->tail_seen = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	return ring->capacity - (ring->written - ring->tail_seen) >= need;
}

bool text_ring_has_room(struct text_ring *ring, size_t size)
{
	/* What is left at the ring's end may be too short for one of them. */
	return has_room(ring,
		size + sizeof(struct text_message) + TEXT_PIECE_BYTES_MAX);
}

bool text_ring_put(struct text_ring *ring, const struct text_message *message,
	const char *bytes)
{
	size_t size = record_size(message->length);
	size_t at = ring->written & (ring->capacity - 1);
	size_t skip = ring->capacity - at < size ? ring->capacity - at : 0;

	assert(message->length <= TEXT_PIECE_BYTES_MAX);
	if (!has_room(ring, skip + size))
		return false;
	if (skip > 0) {
		struct text_message filler = {.kind = TEXT_SKIP};

		memcpy(ring->data + at, &filler, sizeof(filler));
		at = 0;
	}
	memcpy(ring->data + at, message, sizeof(*message));
	if (message->length > 0)
		memcpy(ring->data + at + sizeof(*message), bytes,
			message->length);
	ring->written += skip + size;
	return true;
}

void text_ring_publish(struct text_ring *ring)
{
	if (ring->head == ring->written)
		return;
	/* Pairs with the acquire in text_ring_peek(). */
	__atomic_store_n(&ring->head, ring->written, __ATOMIC_RELEASE);
}

bool text_ring_push(struct text_ring *ring, const struct text_message *message,
	const char *bytes)
{
	if (!text_ring_put(ring, message, bytes))
		return false;
	text_ring_publish(ring);
	return true;
}

static const struct text_message *at_tail(const struct text_ring *ring)
{
	const char *record = ring->data + (ring->tail & (ring->capacity - 1));

	return (const struct text_message *)(const void *)record;
}

const struct text_message *text_ring_peek(struct text_ring *ring)
{
	const struct text_message *message;

	if (ring->tail == ring->head_seen) {
		ring->head_seen =
			__atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
		if (ring->tail == ring->head_seen)
			return NULL;
	}
	message = at_tail(ring);
	if (message->kind != TEXT_SKIP)
		return message;
	/* Behind a filler there is always the record that needed it. */
	__atomic_store_n(&ring->tail,
		ring->tail + ring->capacity -
			(ring->tail & (ring->capacity - 1)),
		__ATOMIC_RELEASE);
	return at_tail(ring);
}

const struct text_message *text_ring_after(
	const struct text_ring *ring, const struct text_message *message)
{
	size_t mask = ring->capacity - 1;
	size_t at = (size_t)((const char *)message - ring->data) +
		    record_size(message->length);
	size_t distance = (at - ring->tail) & mask;
	const char *record = ring->data + (at & mask);
	const struct text_message *next = (const void *)record;

	if (distance == 0 || distance >= ring->head_seen - ring->tail)
		return NULL;
	return next->kind == TEXT_SKIP ? NULL : next;
}

void text_ring_pop(struct text_ring *ring)
{
	const struct text_message *message = at_tail(ring);

	__atomic_store_n(&ring->tail, ring->tail + record_size(message->length),
		__ATOMIC_RELEASE);
}

void text_bell_set(struct text_bell *bell)
{
	__atomic_exchange_n(&bell->asleep, 1, __ATOMIC_ACQ_REL);
}

void text_bell_clear(struct text_bell *bell)
{
	__atomic_exchange_n(&bell->asleep, 0, __ATOMIC_ACQ_REL);
}

bool text_bell_take(struct text_bell *bell)
{
	return __atomic_exchange_n(&bell->asleep, 0, __ATOMIC_ACQ_REL) == 1;
}

void text_bell_wait(struct text_bell *bell, uint64_t ns)
{
	struct timespec timeout = {.tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S)};

	syscall(SYS_futex, &bell->asleep, FUTEX_WAIT_PRIVATE, 1, &timeout, NULL,
		0);
}

void text_bell_strike(struct text_bell *bell)
{
	if (text_bell_take(bell))
		syscall(SYS_futex, &bell->asleep, FUTEX_WAKE_PRIVATE, INT_MAX,
			NULL, NULL, 0);
}
