/* ring.c - bounded single-producer single-consumer queue of messages */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/ring.h"

#define RING_MAGIC UINT32_C(0x68645247) /* "GRdh" */
#define RING_COUNT_MAX (UINT32_C(1) << 30)

size_t ring_size(uint32_t count)
{
	if (!is_power_of_two(count) || count > RING_COUNT_MAX)
		return 0;
	return sizeof(struct ring) +
	       (size_t)count * sizeof(struct ring_message);
}

int ring_init(struct ring *ring, uint32_t count, size_t size_bytes)
{
	size_t need = ring_size(count);

	if (need == 0 || size_bytes < need)
		return -EINVAL;
	assert((uintptr_t)ring % CACHE_LINE_BYTES == 0);
	memset(ring, 0, need);
	ring->magic = RING_MAGIC;
	ring->count = count;
	return 0;
}

int ring_attach(const struct ring *ring, size_t size_bytes, uint32_t *out_count)
{
	uint32_t count;
	size_t need;

	if (size_bytes < sizeof(*ring))
		return -EINVAL;
	count = __atomic_load_n(&ring->count, __ATOMIC_RELAXED);
	need = ring_size(count);
	if (ring->magic != RING_MAGIC || need == 0 || size_bytes < need)
		return -EINVAL;
	*out_count = count;
	return 0;
}

bool ring_push(
	struct ring *ring, uint32_t count, const struct ring_message *message)
{
	uint32_t head = ring->head;

	if (head - ring->tail_seen >= count) {
		/* Pairs with the release store of tail in ring_pop(): entries
		 * below it have been copied out. */
		uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);

		if (head - tail > count) {
			ring->producer_broken++;
			return false;
		}
		ring->tail_seen = tail;
		if (head - tail == count) {
			ring->full_total++;
			return false;
		}
	}
	ring->entries[head & (count - 1)] = *message;
	/* Pairs with the acquire load of head in ring_pop(). */
	__atomic_store_n(&ring->head, head + 1, __ATOMIC_RELEASE);
	return true;
}

uint32_t ring_pop(struct ring *ring, uint32_t count, struct ring_message *out,
	uint32_t max)
{
	uint32_t tail = ring->tail;
	uint32_t ready = ring->head_seen - tail;

	if (ready == 0 || ready > count) {
		/* Pairs with the release store of head in ring_push(): entries
		 * below it are whole. */
		uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);

		ready = head - tail;
		if (ready > count) {
			ring->consumer_broken++;
			return 0;
		}
		ring->head_seen = head;
	}
	if (ready > max)
		ready = max;
	for (uint32_t i = 0; i < ready; i++)
		out[i] = ring->entries[(tail + i) & (count - 1)];
	if (ready)
		/* Pairs with the acquire load of tail in ring_push(). */
		__atomic_store_n(&ring->tail, tail + ready, __ATOMIC_RELEASE);
	return ready;
}

uint32_t ring_broken(const struct ring *ring)
{
	return __atomic_load_n(&ring->producer_broken, __ATOMIC_RELAXED) +
	       __atomic_load_n(&ring->consumer_broken, __ATOMIC_RELAXED);
}
