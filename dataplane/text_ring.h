/* text_ring.h - messages between the network thread and a text worker */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a decode step makes a thousand events at once. Messages and the bytes
 *        that they carry cross in one ring without lock or allocation, and
 *        the other side is woken once per burst, only if it sleeps.
 * Invariants: tail <= head <= written <= tail + capacity, all free-running; a
 *        record is contiguous, a record of kind TEXT_SKIP fills up to the
 *        ring's end.
 * Ownership: a ring owns its memory. A peeked message is the ring's until it
 *        is popped.
 * Threads: one pushes, one peeks and pops. A bell may be rung by many.
 * When full: put and push return false. Who then waits publishes first.
 */
#ifndef HEDDLE_DATAPLANE_TEXT_RING_H
#define HEDDLE_DATAPLANE_TEXT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define TEXT_PIECE_BYTES_MAX ((size_t)16384) /* inline bytes of one record */

enum text_kind {
	TEXT_SKIP, /* the ring's own */
	/* network thread -> worker */
	TEXT_PARSE, /* request: body to parse and tokenise */
	TEXT_TOKENS, /* request, choice, value: tokens in the log */
	TEXT_DONE, /* request, choice, value, reason, cached */
	TEXT_FAIL, /* request, reason: answer with an error */
	TEXT_RELEASE, /* request: the last message about it */
	TEXT_QUIT,
	/* worker -> network thread */
	TEXT_PARSED, /* exchange, request: ready for admission, or an error */
	TEXT_BYTES, /* exchange, choice, value: tokens done; bytes inline */
	TEXT_BODY, /* exchange, value: status; body, size: the whole answer */
	TEXT_FINISH_AT, /* exchange, choice, value: tokens that count */
	TEXT_CHOICE, /* exchange, choice, value, reason: it has ended */
	TEXT_BAD, /* exchange, choice: the log held what cannot be */
	TEXT_END, /* exchange, value: the answer is complete; 1 = it failed */
	TEXT_RELEASED /* exchange: the worker has forgotten the request */
};

struct text_request;

struct text_message {
	uint32_t kind; /* enum text_kind */
	uint32_t length; /* inline bytes behind the message */
	uint32_t exchange, generation;
	uint32_t choice, value, reason, cached;
	uint64_t stamp_ns; /* when the tokens were published */
	uint64_t size; /* of body */
	struct text_request *request;
	char *body; /* ownership passes with the message */
};

_Static_assert(sizeof(struct text_message) == 64, "one cache line");

struct text_ring {
	_Alignas(CACHE_LINE_BYTES) char *data; /* owned */
	size_t capacity; /* a power of two */
	uint8_t pad0[CACHE_LINE_BYTES - 2 * sizeof(size_t)];
	/* the producer's; what lies from head to written is not to be seen */
	size_t head;
	size_t written;
	size_t tail_seen;
	uint8_t pad1[CACHE_LINE_BYTES - 3 * sizeof(size_t)];
	/* the consumer's */
	size_t tail;
	size_t head_seen;
	uint8_t pad2[CACHE_LINE_BYTES - 2 * sizeof(size_t)];
};

_Static_assert(offsetof(struct text_ring, head) == CACHE_LINE_BYTES &&
		       offsetof(struct text_ring, tail) ==
			       (size_t)2 * CACHE_LINE_BYTES,
	"one writer per line");

/* -EINVAL: capacity is no power of two or below 64 KiB; -ENOMEM. */
int text_ring_init(struct text_ring *ring, size_t capacity);
void text_ring_release(struct text_ring *ring);

/*
 * message->length bytes at `bytes`, at most TEXT_PIECE_BYTES_MAX. The other
 * side sees it after text_ring_publish(): one look then finds several, and the
 * line with the head is not sent to and fro for each.
 */
bool text_ring_put(struct text_ring *ring, const struct text_message *message,
	const char *bytes);
void text_ring_publish(struct text_ring *ring);
/* Both: with it all that was put before is seen. */
bool text_ring_push(struct text_ring *ring, const struct text_message *message,
	const char *bytes);

/* The pusher: would records of `size` bytes in all go in, whatever their
 * sizes? */
bool text_ring_has_room(struct text_ring *ring, size_t size);

/* The oldest message, its bytes behind it, or NULL. */
const struct text_message *text_ring_peek(struct text_ring *ring);
void text_ring_pop(struct text_ring *ring);
/* The one behind it, where it is known to be there already; else NULL. */
const struct text_message *text_ring_after(
	const struct text_ring *ring, const struct text_message *message);

/*
 * A bell: the sleeper sets it, whoever has pushed clears it and wakes.
 * Both sides change it by exchange, so either the sleeper sees what was
 * pushed or the pusher sees the sleeper.
 */
struct text_bell {
	_Alignas(CACHE_LINE_BYTES) uint32_t asleep;
	uint8_t pad[CACHE_LINE_BYTES - sizeof(uint32_t)];
};

/* The sleeper: afterwards look at the rings once more, then wait. */
void text_bell_set(struct text_bell *bell);
/* Sleep until the bell is cleared, at most `ns`; may wake early. */
void text_bell_wait(struct text_bell *bell, uint64_t ns);
/* The sleeper, awake again; any number of times. */
void text_bell_clear(struct text_bell *bell);

/* After a burst of pushes: true where the other side has to be woken. */
bool text_bell_take(struct text_bell *bell);
/* text_bell_take() and wake whoever sleeps in text_bell_wait(). */
void text_bell_strike(struct text_bell *bell);

#endif
