/* frame_ring.h - frames from one loop to another (loop -> bounded ring -> loop) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   of a port of several queues each loop has its own, and what comes
 *        there is sometimes another loop's business (net.h, struct net_peers).
 * Invariants: tail <= head <= tail + capacity, both free-running bytes; a frame
 *        lies in one piece, a mark fills up to the ring's end.
 * Ownership: a ring owns its memory, which is reserved, not touched. A frame
 *        that was peeked is the ring's until it is released.
 * Threads: one pushes, one peeks and releases. Push and is_empty() are
 *        sequentially consistent, so that a sleeper and its waker, who each
 *        write first and look then, cannot miss each other.
 * When full: push returns false.
 */
#ifndef HEDDLE_DATAPLANE_FRAME_RING_H
#define HEDDLE_DATAPLANE_FRAME_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define FRAME_RING_BYTES ((size_t)128 << 10)
#define FRAME_RING_FRAME_BYTES_MAX ((size_t)16 << 10)

struct frame_ring {
	/* whoever pushes */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t head;
	uint64_t tail_seen;
	/* whoever takes */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t tail;
	uint64_t next; /* the first that was not peeked */
	/* frames */
	_Alignas(CACHE_LINE_BYTES) uint8_t bytes[FRAME_RING_BYTES];
};

/* NULL: no memory. */
struct frame_ring *frame_ring_create(void);
void frame_ring_destroy(struct frame_ring *ring); /* NULL is allowed */

/* tag: the caller's. False: there is no room, or it is too large. */
bool frame_ring_push(struct frame_ring *ring, const void *frame, size_t length,
	uint32_t tag);

/* The next that was not peeked yet; NULL = none. */
const uint8_t *frame_ring_peek(
	struct frame_ring *ring, size_t *out_length, uint32_t *out_tag);
/* All that was peeked. */
void frame_ring_release(struct frame_ring *ring);

/* By whoever takes: has all been peeked? */
bool frame_ring_is_empty(const struct frame_ring *ring);

#endif
