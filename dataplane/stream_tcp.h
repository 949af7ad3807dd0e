/* stream_tcp.h - byte streams over our own TCP (stream.h <- tcp.h) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       the back end of stream.h for a NIC that is polled: frames come
 *             from a port, go through net.h and tcp.h, and what happens to
 *             connections becomes events. Nothing here knows which NIC.
 * Accepting:  connections beyond the streams wait, opened, up to
 *             backlog_count; one listener cannot take the last stream from
 *             another. Listeners are plain; stream_tls.h stands on top.
 * Ownership:  the stack is the loop's; the port and handler's arg stay the
 *             caller's and outlive it.
 * Memory:     total_bytes: a quarter is for receiving (in units of
 *             receive_bytes), the rest for sending (2 KiB each); reserved,
 *             not touched. A receive buffer has room for two segments more
 *             than receive_bytes, so that a rest that was not consumed does
 *             not close the window to what follows. send_bytes counts all that the peer has not
 *             acknowledged. Constant segments are copied too.
 * Lingering:  close() drops what the peer still sends for up to 1 s.
 * Threads:    as stream.h.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_TCP_H
#define HEDDLE_DATAPLANE_STREAM_TCP_H

#include "dataplane/net.h"
#include "dataplane/stream.h"

struct poll_meter;

/* Where frames come from; where they go is in struct net_device. */
struct stream_port {
	void *arg;
	/*
	 * The next frames that came, at most `max` of them; how many, 0 = none
	 * now. They stay valid until the next call.
	 */
	uint32_t (*frames_next)(void *arg, struct net_frame *out, uint32_t max);
	/* Return when there may be a frame, at `until`, or after wake(). */
	void (*wait)(void *arg, struct mono until);
	void (*wake)(void *arg); /* any thread; remembered until a wait */
};

struct stream_tcp_config {
	/* tcp's bounds follow from limits; its times are taken as they are. */
	struct net_config net;
	struct stream_port port;
	struct stream_limits limits;
	uint16_t listen_ports[TCP_LISTENER_COUNT_MAX];
	uint32_t listener_count;
	uint32_t backlog_count; /* 0 = a quarter of the streams, at least 16 */
	struct poll_meter *meter; /* borrowed; NULL = stages are not timed */
	stream_handler *handler;
	void *arg;
};

/* -EINVAL, -ENOMEM, each with a text. */
int stream_tcp_create(const struct stream_tcp_config *config,
	struct stream_loop *out, struct error *err);

/* Of a loop made here, for those who count. */
struct net_stack *stream_tcp_stack(const struct stream_loop *loop);

/* Take frames and run timers, without events: a poll() that is not due yet. */
void stream_tcp_turn(struct stream_loop *loop);

#endif
