/* wire.h - two ends and a bad line between them, in virtual time */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   what loss, duplication, reordering, corruption, jitter, a slow line
 *        and a dead one do to a stack, the same for the same seed, as fast as
 *        the machine computes.
 * Use:   wire_init(), wire_attach() both ends, wire_run() until a time or a
 *        condition. An end sends with wire_send(). Nothing reads a clock.
 * Trace: a hash over the time, direction, fate and bytes of every frame; with
 *        HEDDLE_WIRE_PCAP=FILE in the environment, every frame that is
 *        delivered is written to that file too (nanosecond pcap).
 */
#ifndef HEDDLE_TESTS_WIRE_H
#define HEDDLE_TESTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"

#define WIRE_FRAME_BYTES 70000

/* One direction; shares are in parts of 1,000,000. */
struct wire_line {
	uint32_t loss, duplicate, reorder, corrupt;
	uint64_t delay_ns, jitter_ns;
	uint64_t reorder_ns; /* a reordered frame is so much later */
	uint64_t bytes_per_s; /* 0 = no limit */
	uint32_t queue_bytes; /* what waits at the limit; the rest is lost */
	uint64_t dead_from_ns, dead_until_ns;
};

struct wire_end {
	void *arg;
	void (*input)(void *arg, const uint8_t *frame, size_t length,
		struct mono now);
	void (*poll)(void *arg, struct mono now);
	struct mono (*deadline)(void *arg); /* UINT64_MAX = none */
};

struct wire_frame {
	uint64_t ns, order;
	uint8_t *bytes;
	uint32_t length;
	uint8_t to; /* the end it goes to */
};

struct wire {
	struct wire_line lines[2]; /* [from] */
	struct wire_end ends[2];
	struct mono now;
	uint64_t random;
	uint64_t hash;
	uint64_t order;
	uint64_t line_free_ns[2]; /* the line is busy until then */
	uint64_t sent_count[2], lost_count[2], delivered_count[2];
	struct wire_frame *heap; /* by ns, then order */
	uint32_t heap_count, heap_size;
	uint8_t frame[WIRE_FRAME_BYTES];
	FILE *pcap;
};

void wire_init(struct wire *w, uint64_t seed);
void wire_release(struct wire *w);

/* Send from end `from` (0, 1); the frame is copied. */
void wire_send(
	struct wire *w, uint8_t from, const uint8_t *frame, size_t length);

/* Let time pass until `until`, or until done(arg); true when it was done. */
bool wire_run(
	struct wire *w, struct mono until, bool (*done)(void *arg), void *arg);

/* A line drawn from a seed: nothing to 20 % of each fault. */
struct wire_line wire_line_random(uint64_t *random);

#endif
