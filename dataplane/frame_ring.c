/* frame_ring.c - frames from one loop to another (loop -> bounded ring -> loop) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/frame_ring.h"

/* Before each frame; a multiple of it is what a frame takes. */
struct record {
	uint32_t length; /* SKIP: the frames go on at the ring's begin */
	uint32_t tag;
};

#define SKIP UINT32_MAX

static size_t record_bytes(size_t length)
{
	const size_t unit = sizeof(struct record);

	return unit + (length + unit - 1) / unit * unit;
}

struct frame_ring *frame_ring_create(void)
{
	struct frame_ring *ring =
		aligned_alloc(CACHE_LINE_BYTES, sizeof(struct frame_ring));

	if (!ring)
		return NULL;
	/* Not the bytes: nobody has touched them yet. */
	memset(ring, 0, offsetof(struct frame_ring, bytes));
	return ring;
}

void frame_ring_destroy(struct frame_ring *ring)
{
	free(ring);
}

static bool has_room(struct frame_ring *ring, uint64_t head, size_t need)
{
	if (FRAME_RING_BYTES - (head - ring->tail_seen) >= need)
		return true;
	/* Pairs with the release: those frames are read. */
	ring->tail_seen =
		atomic_load_explicit(&ring->tail, memory_order_acquire);
	return FRAME_RING_BYTES - (head - ring->tail_seen) >= need;
}

static void put_record(
	struct frame_ring *ring, uint64_t at, uint32_t length, uint32_t tag)
{
	const struct record record = {length, tag};

	memcpy(ring->bytes + at % FRAME_RING_BYTES, &record, sizeof(record));
}

bool frame_ring_push(
	struct frame_ring *ring, const void *frame, size_t length, uint32_t tag)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	size_t left = FRAME_RING_BYTES - head % FRAME_RING_BYTES;
	size_t need = record_bytes(length);
	size_t skip = left < need ? left : 0;

	if (length > FRAME_RING_FRAME_BYTES_MAX ||
		!has_room(ring, head, skip + need))
		return false;
	if (skip)
		put_record(ring, head, SKIP, 0);
	head += skip;
	put_record(ring, head, (uint32_t)length, tag);
	memcpy(ring->bytes + head % FRAME_RING_BYTES + sizeof(struct record),
		frame, length);
	atomic_store(&ring->head, head + need);
	return true;
}

const uint8_t *frame_ring_peek(
	struct frame_ring *ring, size_t *out_length, uint32_t *out_tag)
{
	/* Pairs with the store in push: the frame is there. */
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
	struct record record;
	const uint8_t *at;

	if (ring->next == head)
		return NULL;
	at = ring->bytes + ring->next % FRAME_RING_BYTES;
	memcpy(&record, at, sizeof(record));
	if (record.length == SKIP) {
		ring->next += FRAME_RING_BYTES - ring->next % FRAME_RING_BYTES;
		at = ring->bytes;
		memcpy(&record, at, sizeof(record));
	}
	ring->next += record_bytes(record.length);
	*out_length = record.length;
	*out_tag = record.tag;
	return at + sizeof(record);
}

void frame_ring_release(struct frame_ring *ring)
{
	atomic_store_explicit(&ring->tail, ring->next, memory_order_release);
}

bool frame_ring_is_empty(const struct frame_ring *ring)
{
	return atomic_load(&ring->head) == ring->next;
}
