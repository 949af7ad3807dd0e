/* tcp.h - a TCP that is only ever called, never calls (segments <-> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the server's half of TCP for a poll-mode core: it listens, it does
 *          not connect. net.h feeds it and turns it; the layer above takes
 *          news by tcp_next() and calls back. No call enters another.
 * Does:    RFC 9293 (passive open, all closes), 6298 timers, 7323 scale and
 *          timestamps, 2018/2883 SACK and DSACK, 6675 recovery, the tail loss
 *          probe of 8985, 9438 CUBIC, 6582 without SACK, 5961 challenges,
 *          6528 sequence numbers, 4987 SYN cookies.
 * Rules:   - Urgent data is ordinary data: URG is ignored (RFC 6093).
 *          - Data in a SYN is not taken; the peer repeats it.
 *          - A segment with a malformed option is dropped: a forger cannot
 *            end a connection with one.
 *          - A closed window is probed by an empty segment below it, which
 *            every receiver has to answer.
 *          - No Nagle: what tcp_send() got goes out at the next net_poll(),
 *            whatever is in flight; several sends share segments.
 *          - RST in TIME_WAIT is ignored (RFC 1337); a SYN that is plainly
 *            newer takes the connection's place (RFC 6191).
 *          - After tcp_close() what the peer still sends is acknowledged and
 *            dropped for at most fin_wait_2_ns.
 *          - Out of order: at most TCP_RANGE_COUNT_MAX islands within the
 *            window; a segment that would make one more is dropped.
 * Bounds:  connections, blocks (output, 2 KiB each) and slabs (input,
 *          receive_bytes each, held only while there is input) are set at
 *          create. Segments that find no slab are dropped, the peer repeats.
 *          Half-open connections have a bound; beyond it SYNs are answered
 *          with cookies and no state is kept.
 * State:   a connection is one plain structure; tcp_export() gives it away
 *          with all its bytes and tcp_import() goes on with it elsewhere.
 * Errors:  0, -EAGAIN (no room now), -ENOTCONN (dead id), -EMSGSIZE (never
 *          possible).
 * Threads: the stack's.
 */
#ifndef HEDDLE_DATAPLANE_TCP_H
#define HEDDLE_DATAPLANE_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

#define TCP_LISTENER_COUNT_MAX 8
#define TCP_CONNECTION_COUNT_MAX (1u << 20)
#define TCP_BLOCK_BYTES 2048
#define TCP_BUFFER_BYTES_MIN 256
#define TCP_BUFFER_BYTES_MAX (1u << 24)

/* IPv6, or IPv4 mapped. */
struct net_address {
	uint8_t bytes[16];
};

struct tcp_config {
	uint32_t connection_count; /* all states together */
	uint32_t open_count; /* held by the layer above; 0 = all */
	uint32_t half_open_count; /* before cookies; 0 = a quarter */
	uint32_t send_bytes, receive_bytes; /* per connection */
	uint64_t send_total_bytes, receive_total_bytes;
	/* 0 = the default, in brackets. */
	uint64_t rto_min_ns; /* [200 ms] */
	uint64_t rto_initial_ns; /* [1 s] */
	uint64_t rto_max_ns; /* [60 s] */
	uint64_t delayed_ack_ns; /* [10 ms] */
	uint64_t probe_slack_ns; /* tail loss probe: 2 RTT + this [2 ms] */
	/* and this, where the peer may wait with its ACK [60 ms] */
	uint64_t peer_ack_delay_ns;
	uint64_t user_timeout_ns; /* no progress for so long [60 s] */
	uint64_t keep_alive_ns; /* silence before the first probe [2 h] */
	uint64_t keep_alive_interval_ns; /* [75 s] */
	uint32_t keep_alive_count; /* [9] */
	uint64_t time_wait_ns; /* two segment lifetimes [60 s] */
	uint64_t fin_wait_2_ns; /* [60 s] */
};

struct tcp_id {
	uint32_t index, generation;
};

enum tcp_end { TCP_END_CLEAN, TCP_END_RESET, TCP_END_TIMEOUT };

/* What has happened to a connection since it was asked last. */
struct tcp_news {
	struct tcp_id id;
	bool opened; /* the first of all */
	bool data; /* there is unread input */
	bool room; /* tcp_want() is satisfied */
	bool peer_done; /* after what is unread nothing follows */
	bool closed; /* the last of all: the id is dead */
	enum tcp_end end; /* with closed */
	struct net_address remote; /* with opened */
	uint16_t remote_port;
	uint32_t listener; /* as tcp_listen() was told */
};

struct tcp_piece {
	const void *data;
	size_t length;
};

struct tcp_counters {
	uint64_t in_segments, in_bytes, in_bad_checksum, in_malformed;
	uint64_t in_unknown; /* for no connection and no listener */
	uint64_t in_unacceptable, in_old_timestamp, in_bad_ack;
	uint64_t in_out_of_order, in_no_slab, in_no_island;
	uint64_t out_segments, out_bytes, out_resets, out_retransmitted;
	uint64_t opened, closed_clean, closed_reset, closed_timeout;
	uint64_t challenges, challenges_withheld;
	uint64_t syn_dropped, cookies_sent, cookies_taken, cookies_bad;
	uint64_t cookies_spent; /* that came once more, late */
	uint64_t timeouts, probes, fast_recoveries, spurious_probes;
	uint64_t time_wait_recycled;
};

/* What is in use; all 0 after the last connection. */
struct tcp_usage {
	uint32_t connections, open, half_open, time_wait, timers;
	uint32_t blocks, slabs;
	size_t idle_bytes; /* memory of one connection without bytes */
};

struct tcp;

/* Accept at a port of every local address; -ENOSPC. */
int tcp_listen(struct tcp *t, uint16_t port, uint32_t listener);
/* No new connection from now on; those that are open go on. */
void tcp_drain(struct tcp *t);

/* The next connection with news; false = none. */
bool tcp_next(struct tcp *t, struct tcp_news *out);

/* Unread input, in one piece; NULL when there is none or the id is dead. */
const uint8_t *tcp_unread(
	const struct tcp *t, struct tcp_id id, size_t *out_length);
/* `bytes` of it (at most all) are done with; the window opens. */
int tcp_consume(struct tcp *t, struct tcp_id id, size_t bytes);

/* Queue all pieces, copied, or none. */
int tcp_send(struct tcp *t, struct tcp_id id, const struct tcp_piece *pieces,
	uint32_t count);
/* tcp_send() follows soon. */
void tcp_ahead_of_send(const struct tcp *t, struct tcp_id id);
/* The bytes that tcp_send() would take now; 0 for a dead id. */
size_t tcp_room(const struct tcp *t, struct tcp_id id);
/* News `room` once there are `bytes` of it. */
int tcp_want(struct tcp *t, struct tcp_id id, size_t bytes);

/*
 * Nothing more will be sent; what comes is still taken, and the connection
 * stays until tcp_close().
 */
int tcp_finish(struct tcp *t, struct tcp_id id);
/* As tcp_finish(), and what comes is dropped. News: closed, nothing else. */
int tcp_close(struct tcp *t, struct tcp_id id);
/* Reset the peer and forget. News: closed. */
int tcp_abort(struct tcp *t, struct tcp_id id);

/* The most bytes that an export may take. */
size_t tcp_export_bytes(const struct tcp *t, struct tcp_id id);
/*
 * Write a live connection as plain bytes and forget it here, silently; the
 * id is dead. -ENOTCONN, -ENOSPC (size is below tcp_export_bytes()).
 */
int tcp_export(struct tcp *t, struct tcp_id id, uint8_t *out, size_t size,
	size_t *out_length);
/*
 * Go on with it, here, under the same addresses; what is unread is news.
 * -EINVAL (not an export, of another version, or one that cannot be),
 * -EADDRNOTAVAIL (not our address), -EEXIST, -ENOSPC (no room for it). With
 * an error nothing has changed.
 */
int tcp_import(
	struct tcp *t, const uint8_t *data, size_t length, struct tcp_id *out);

const struct tcp_counters *tcp_get_counters(const struct tcp *t);
void tcp_get_usage(const struct tcp *t, struct tcp_usage *out);
/* Walk all state and assert that it is consistent; for tests. */
void tcp_check(const struct tcp *t);

#endif
