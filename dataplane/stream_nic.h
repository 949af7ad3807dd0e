/* stream_nic.h - byte streams over a polled port (stream.h <- stream_tcp.h) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       the `dpdk` back end of stream.h: a port (nic.h) under our own
 *             TCP (stream_tcp.h), and beside it, for listeners that are
 *             sockets, the kernel's streams (stream_kernel.h): one loop, one
 *             handler, one thread. Streams of the port have the low indices.
 * A turn:     burst in -> TCP -> events -> what was sent since -> burst out,
 *             to completion; sockets are looked at once a millisecond.
 * Idle:       struct stream_loop says for how long after the last work to
 *             poll on (spin_ns): then neither workers nor other roles have to
 *             wake anybody. A poll() that may wait sleeps in the kernel's
 *             loop, where sockets and wake() end the sleep at once, and a
 *             port that can tell of frames. Where it cannot, a sleep is an
 *             eighth of the quiet time so far, and sleep_ns at most: what a
 *             frame may wait for.
 * Link:       looked at ten times a second; when the port that stood by takes
 *             over the network is told where we are.
 * Sockets:    a sixteenth of the streams, 64 at most, at least one.
 * Queues:     a port of several has a loop for each, with a stack and listeners
 *             of its own on the same addresses; the first one has the sockets
 *             for all, watches the link and speaks for the addresses. They
 *             share the port and what struct net_peers is for: frames that
 *             concern others cross in bounded rings; what finds no room there
 *             is dropped, counted. All are made before the first poll(), by
 *             one thread, and the first one is destroyed last.
 * Counters:   written by the loop's thread, ten times a second.
 * Ownership:  the loop owns the port, and the sockets as stream_kernel.h
 *             says. handler's arg and counters stay the caller's.
 * TLS:        where a listener has it, stream_tls.h stands on top of both.
 * Threads:    as stream.h; the thread of the first poll() is the loop's, and
 *             is put on the core.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_NIC_H
#define HEDDLE_DATAPLANE_STREAM_NIC_H

#include "base/counters.h"
#include "dataplane/capture.h"
#include "dataplane/nic.h"
#include "dataplane/stream_kernel.h"

/* What an operator says of the port; plain data. */
struct stream_nic_link {
	struct nic_config port;
	uint16_t vlan; /* 0 = untagged */
	uint8_t prefix4_bits, prefix6_bits;
	/* all zero = none */
	uint8_t ip4[4], gateway4[4];
	uint8_t ip6[16], gateway6[16];
	int32_t cores[NIC_QUEUE_COUNT_MAX]; /* each loop's own; -1 = none */
	uint64_t spin_ns, sleep_ns;
};

struct stream_nic_listener {
	int fd; /* a socket as in stream_kernel.h; -1: of the port */
	uint16_t tcp_port; /* where fd is -1; each one once */
	bool tls;
};

struct stream_nic_config {
	struct stream_nic_link link; /* each loop of a port has the same */
	uint32_t queue; /* which loop this is, below link.port.queue_count */
	const struct stream_loop *first; /* with queue > 0: the loop of 0 */
	struct stream_nic_listener listeners[STREAM_LISTENER_COUNT_MAX];
	uint32_t listener_count;
	struct stream_limits limits;
	struct stream_identity identity; /* for listeners with tls */
	struct nic_counters *counters; /* may be NULL; so may poll */
	struct poll_counters *poll;
	struct capture_tap *capture; /* borrowed; may be NULL */
	int wake_fd; /* as struct stream_kernel_config */
	stream_handler *handler;
	void *arg;
};

/*
 * As nic_open(), stream_tcp_create(), stream_kernel_create() and
 * stream_tls_create(). Only the first loop needs a socket, and may have any.
 */
int stream_nic_create(const struct stream_nic_config *config,
	struct stream_loop *out, struct error *err);

/*
 * Of a loop made here, for those who count: turns so far that had something to
 * do, and the stack below.
 */
uint64_t stream_nic_busy_turns(const struct stream_loop *loop);
struct net_stack *stream_nic_stack(const struct stream_loop *loop);

#endif
