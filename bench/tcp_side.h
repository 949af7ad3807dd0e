/* tcp_side.h - TCPs to be compared, each with connections that take turns */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pair is a token's event: 220 bytes are sent on one connection, and their
 * ACK comes. A turn makes pairs on TCP_SIDE_BURST connections: all send, then
 * all ACKs come; the next turn takes the next ones, so that with many
 * connections each is cold again when its turn comes.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_TCP_SIDE_H
#define HEDDLE_BENCH_TCP_SIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define TCP_SIDE_BURST 64u
#define TCP_SIDE_EVENT_BYTES 220
/* Each connection has an event so often, however many there are. */
#define TCP_SIDE_INTERVAL_NS (20 * NS_PER_MS)

struct tcp_side {
	void *arg; /* owned */
	/* Pairs of `first` and those after it; false: not all came about. */
	bool (*turn)(void *arg, uint32_t first);
	void (*end)(void *arg);
	uint32_t count; /* connections, a multiple of TCP_SIDE_BURST */
	uint32_t next; /* whose turn it is */
};

/* Open `count` connections. -ENOMEM, -EPROTO with a text. */
int tcp_side_ours(uint32_t count, bool checksums, struct tcp_side *out,
	struct error *err);
/* Debian's liblwip in this process; -ENOTSUP where there is none. */
int tcp_side_lwip(uint32_t count, struct tcp_side *out, struct error *err);
/* The kernel's over loopback: both ends are in its figure. */
int tcp_side_kernel(uint32_t count, struct tcp_side *out, struct error *err);
/* The first `count` of another side's connections; that one ends them. */
void tcp_side_first_of(
	const struct tcp_side *of, uint32_t count, struct tcp_side *out);

/* At least `pairs` pairs; how many, 0 = a turn failed. */
uint64_t tcp_side_run(struct tcp_side *side, uint64_t pairs);

#endif
