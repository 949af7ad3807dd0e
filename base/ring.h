/* ring.h - bounded single-producer single-consumer queue of messages */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        the only way two roles talk: no lock, no allocation, no system
 *             call; lies in shared memory, so it holds no pointer.
 * Invariants: 0 <= head - tail <= count in free-running 32-bit arithmetic,
 *             which is safe because count is a power of two below 2^31.
 *             head is written by the producer only, tail by the consumer
 *             only; each on a cache line of its own, beside the owner's
 *             cached copy of the other side.
 * Trust:      the other side may be a process gone wrong. A head or tail out
 *             of bounds makes push say "full" and pop say "empty" and counts
 *             in ring_broken(): it never makes this side touch memory
 *             outside. Messages are copied out once and validated after.
 * Ownership:  the memory is the caller's. A message names a request by index
 *             and generation; the bytes that it speaks of are in the slot.
 * Threads:    exactly one pushes, exactly one pops; init when neither runs.
 * When full:  push returns false; the caller counts it and keeps the work.
 */
#ifndef HEDDLE_BASE_RING_H
#define HEDDLE_BASE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/* What is said; each kind's fields are listed beside it. */
enum ring_kind {
	RING_NONE,
	/* request ring: dataplane -> engine */
	RING_SUBMIT, /* slot: a parsed request, admitted */
	RING_CANCEL, /* slot: the client is gone or said so */
	RING_FINISH_AT, /* slot, value: a stop string ended the text; output
			   tokens from number `value` on do not exist */
	/* token ring: engine -> dataplane */
	RING_TOKENS, /* slot, value: the log holds `value` tokens now */
	RING_DONE, /* slot, value: the engine's half is terminal */
	/* control -> either */
	RING_EPOCH, /* value: a new epoch is published */
	RING_CLOSE, /* value: rank whose half is closed, for the role died;
		       generation: the life that ended (base/segment.h) */
	RING_KIND_COUNT
};

struct ring_message {
	uint32_t kind; /* enum ring_kind; unknown values are dropped */
	uint32_t slot; /* index of the request slot */
	uint32_t generation; /* of that slot; stale messages are dropped */
	uint32_t value;
};

_Static_assert(sizeof(struct ring_message) == 16, "wire layout");

struct ring {
	/* read only after init */
	uint32_t magic;
	uint32_t count; /* entries, a power of two */
	uint8_t pad0[CACHE_LINE_BYTES - 8];
	/* written by the producer */
	uint32_t head;
	uint32_t tail_seen;
	uint32_t full_total; /* pushes refused */
	uint32_t producer_broken;
	uint8_t pad1[CACHE_LINE_BYTES - 16];
	/* written by the consumer */
	uint32_t tail;
	uint32_t head_seen;
	uint32_t consumer_broken;
	uint8_t pad2[CACHE_LINE_BYTES - 12];
	struct ring_message entries[];
};

_Static_assert(offsetof(struct ring, head) == CACHE_LINE_BYTES, "own line");
_Static_assert(offsetof(struct ring, tail) == (size_t)2 * CACHE_LINE_BYTES,
	"own line");

/* Bytes of a ring of `count` entries; 0 when count is not a power of two. */
size_t ring_size(uint32_t count);

/*
 * Make a ring in size_bytes of cache-line aligned memory. -EINVAL when count
 * is not a power of two or the memory is too small.
 */
int ring_init(struct ring *ring, uint32_t count, size_t size_bytes);

/*
 * Check a ring that another process made, before its first use: magic, count
 * and size. -EINVAL. `count` is read once; the caller keeps the copy.
 */
int ring_attach(
	const struct ring *ring, size_t size_bytes, uint32_t *out_count);

/* Producer. count is the caller's own copy, never re-read from memory. */
bool ring_push(
	struct ring *ring, uint32_t count, const struct ring_message *message);

/* Consumer: up to `max` messages; returns how many. */
uint32_t ring_pop(struct ring *ring, uint32_t count, struct ring_message *out,
	uint32_t max);

/* Times that either side saw an impossible index. */
uint32_t ring_broken(const struct ring *ring);

#endif
