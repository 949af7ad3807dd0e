/* stream.h - a byte stream under HTTP: kernel sockets or DPDK with our TCP */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   HTTP, TLS and the protocol code are written once, above this. Two
 *        back ends fill the table: `kernel` (io_uring) and `dpdk` (poll-mode
 *        NIC and the appliance's own TCP). Neither leaks upwards: no file
 *        descriptor, no mbuf, no errno of one of them.
 *
 * Model: one stream_loop per poll-mode core; everything about a stream
 *        happens on its core. A stream is named by index and generation
 *        (struct stream_id), so a late event of a dead stream is dropped.
 *        The loop calls poll(), which delivers events in a burst; handlers
 *        may send and close at once.
 *
 * Bytes in: DATA carries a view that is valid until the handler returns; the
 *        handler says how much it consumed, the rest is delivered again
 *        together with what follows. A handler that consumes nothing is told
 *        again only after stream_resume(): that is back-pressure, the
 *        peer's window closes.
 *
 * Bytes out: send() copies into the stream's bounded buffer, or takes
 *        constant segments by reference; it takes all or nothing (-EAGAIN),
 *        so a record is never half queued. WRITABLE follows when there is
 *        room for `want` bytes again. Order is kept. Unacknowledged bytes
 *        stay owned by the back end.
 *
 * End:   close() flushes then closes; abort() resets. CLOSED is the last
 *        event of a stream and comes exactly once, whoever ended it; after
 *        it the id is dead. Half-close by the peer is PEER_DONE: sending goes
 *        on; bytes that were not consumed yet can still be resumed. A peer
 *        that is gone altogether looks alike, until it answers what is sent
 *        with a reset: CLOSED. No other event follows close() or abort().
 *
 * Bounds: streams, buffer bytes per stream and in all are fixed at create;
 *        accepting stops (backlog, SYN cookies) when they are used up.
 * Errors: 0 or -EAGAIN (no room now), -ENOTCONN (dead id), -EMSGSIZE (larger
 *        than the whole buffer: never possible).
 * Threads: one thread per loop; wake() and identify() from any.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_H
#define HEDDLE_DATAPLANE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"

struct stream_id {
	uint32_t index;
	uint32_t generation;
};

enum stream_event_kind {
	STREAM_OPENED, /* accepted; peer is known */
	STREAM_DATA,
	STREAM_WRITABLE,
	STREAM_PEER_DONE,
	STREAM_CLOSED
};

enum stream_end {
	STREAM_END_CLEAN, /* both directions closed */
	STREAM_END_RESET, /* by the peer or by abort() */
	STREAM_END_TIMEOUT, /* user timeout, keep-alive */
	STREAM_END_LINK /* the device is gone */
};

struct stream_peer {
	uint8_t address[16]; /* IPv6, or IPv4 mapped */
	uint16_t port;
};

struct stream_event {
	enum stream_event_kind kind;
	struct stream_id id;
	const uint8_t *data; /* STREAM_DATA: valid during the handler */
	size_t length;
	struct stream_peer peer; /* STREAM_OPENED */
	uint32_t listener; /* STREAM_OPENED: index in the loop's listeners */
	enum stream_end end; /* STREAM_CLOSED */
};

/*
 * Handle one event; for STREAM_DATA returns the bytes consumed (<= length),
 * otherwise 0.
 */
typedef size_t stream_handler(void *arg, const struct stream_event *event);

/* A piece of output; constant segments are not copied. */
struct stream_segment {
	const void *data;
	size_t length;
	bool constant; /* stays valid and unchanged until STREAM_CLOSED */
};

/* Who a server is: PEM texts. */
struct stream_identity {
	const char *certificate, *key;
	size_t certificate_length, key_length;
};

struct stream_limits {
	uint32_t stream_count;
	size_t send_bytes; /* per stream */
	size_t receive_bytes; /* per stream */
	size_t total_bytes;
	/* Without progress; a back end may wait for some times as long. */
	uint64_t user_timeout_ns;
};

struct stream_loop {
	const struct stream_ops *ops;
	void *context; /* the back end's */
	/*
	 * So long after the last work poll() is better called again at once
	 * than with a time to wait until; 0 = waiting is cheap.
	 */
	uint64_t spin_ns;
	/* Waits that wake() or the descriptor for it has ended; poll()'s. */
	uint32_t rung;
};

struct stream_ops {
	const char *name; /* "kernel", "dpdk" */

	/*
	 * Run for at most one burst, or wait until `until` when there is
	 * nothing to do; returns the number of events handled.
	 */
	uint32_t (*poll)(struct stream_loop *loop, struct mono until);

	/* All segments or nothing. */
	int (*send)(struct stream_loop *loop, struct stream_id id,
		const struct stream_segment *segments, uint32_t count);

	/* Bytes that send() would take now. */
	size_t (*room)(const struct stream_loop *loop, struct stream_id id);

	/*
	 * A send() to the stream with this index follows soon: its memory may
	 * be asked for. NULL where that is of no use.
	 */
	void (*ahead)(const struct stream_loop *loop, uint32_t index);

	/* Ask for WRITABLE once room() >= want. */
	int (*want)(struct stream_loop *loop, struct stream_id id, size_t want);

	/* Deliver unconsumed data again. */
	int (*resume)(struct stream_loop *loop, struct stream_id id);

	int (*close)(struct stream_loop *loop, struct stream_id id);
	int (*abort)(struct stream_loop *loop, struct stream_id id);

	/* Stop accepting; streams that are open go on. */
	void (*drain)(struct stream_loop *loop);

	/*
	 * Be someone else to streams that are accepted from now on; those
	 * that are open stay. For loops with a TLS listener; any thread.
	 * -EINVAL (said what is wrong), -ENOMEM: nothing has changed.
	 */
	int (*identify)(struct stream_loop *loop,
		const struct stream_identity *identity, struct error *err);

	/* Make poll() return soon; any thread. */
	void (*wake)(struct stream_loop *loop);

	void (*destroy)(struct stream_loop *loop);
};

#endif
