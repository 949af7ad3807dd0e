/* tcp_private.h - what the files of tcp*.c share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words:     una, nxt, wnd and the like are RFC 9293's SND.UNA and so on.
 *            "end of data" is the sequence number after the last queued byte,
 *            which is the FIN's when one is queued.
 * Output:    the queue's first byte is that of snd_una (or of snd_una + 1
 *            while the SYN is in flight). Bytes up to snd_nxt have been sent.
 * Input:     a slab holds the unread bytes from `start` on; behind them, at
 *            the place where they will be read, the islands that came early.
 * Recovery:  sacked[] are the peer's islands. Below lost_edge whatever is not
 *            sacked is taken to be lost, and below resent_edge has been sent
 *            again since. `pipe` follows from these (RFC 6675).
 * Lists:     `flush` = has something to send, `ready` = has news. A freed
 *            connection may still be on them; who takes it looks at what it
 *            is. So links and queued marks outlive the connection.
 */
#ifndef HEDDLE_DATAPLANE_TCP_PRIVATE_H
#define HEDDLE_DATAPLANE_TCP_PRIVATE_H

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "dataplane/net_private.h"
#include "dataplane/tcp.h"
#include "dataplane/timer_wheel.h"
#include "dataplane/unit_pool.h"

#define TCP_NONE UINT32_MAX
#define TCP_RANGE_COUNT_MAX 16 /* islands of input */
#define TCP_SACKED_COUNT_MAX 32 /* islands of output */
#define TCP_MSS_DEFAULT 536 /* RFC 9293, 3.7.1 */
#define TCP_MSS_MIN 64 /* less is a way to make us work */
#define TCP_SCALE_MAX 14
#define TCP_DUPLICATE_COUNT 3
#define TCP_SYN_RETRY_COUNT 5
#define TCP_BACKOFF_MAX 16
#define TCP_PROMPT_COUNT 24 /* Linux: 16 at once, then it delays */

enum tcp_flags {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_PSH = 8,
	TCP_ACK = 16,
	TCP_URG = 32
};

enum tcp_state {
	TCP_FREE,
	TCP_SYN_RECEIVED,
	TCP_ESTABLISHED,
	TCP_CLOSE_WAIT,
	TCP_FIN_WAIT_1,
	TCP_FIN_WAIT_2,
	TCP_CLOSING,
	TCP_LAST_ACK,
	TCP_TIME_WAIT,
	TCP_CLOSED /* over; the layer above has not been told yet */
};

enum tcp_recovery { TCP_OPEN, TCP_FAST, TCP_LOSS };

/* Deadlines of a connection; the wheel holds the soonest. */
enum tcp_timer {
	TCP_TIMER_RESEND, /* RTO, tail loss probe or window probe */
	TCP_TIMER_ACK,
	TCP_TIMER_USER,
	TCP_TIMER_KEEP_ALIVE,
	TCP_TIMER_WAIT, /* TIME_WAIT, FIN_WAIT_2 */
	TCP_TIMER_COUNT
};

enum tcp_resend { TCP_RESEND_RTO, TCP_RESEND_PROBE, TCP_RESEND_WINDOW };

struct tcp_range {
	uint32_t start, end; /* sequence numbers, start before end */
};

struct tcp_cubic {
	uint64_t epoch_ns; /* 0 = none */
	double w_max, k_s, w_est; /* segments, seconds, segments */
};

/*
 * Flags are uint8_t, since an import may hold any byte where one is.
 * With many connections a segment costs what its cache lines cost. So what
 * an event and its ACK touch where nothing is lost stands in the first five,
 * of which tcp_send() needs only the first; tcp_prefetch() fetches the others.
 */
struct tcp_connection {
	/* --- line 1: who, and what is queued; lists outlive it --- */
	_Alignas(CACHE_LINE_BYTES) uint32_t generation;
	uint32_t flush_next, ready_next;
	struct net_address remote;
	uint16_t local_port, remote_port;
	uint8_t state; /* enum tcp_state */
	uint8_t local; /* enum net_local */
	uint8_t flush_queued, ready_queued;
	uint8_t owned; /* the layer above has been told of it */
	uint8_t finishing; /* a FIN is queued behind the data */
	uint8_t closing; /* tcp_close(): input is dropped */
	uint8_t news_closed;
	uint32_t queued_bytes; /* from snd_una on */
	uint32_t first_block, last_block, block_count;
	uint32_t last_used; /* of the last block */
	uint32_t want; /* 0 = nobody waits for room */

	/* --- line 2: output --- */
	uint32_t snd_una, snd_nxt, snd_wnd, snd_wl1, snd_wl2;
	uint32_t snd_wnd_max;
	uint32_t first_offset; /* within the first block */
	uint32_t cursor_block, cursor_seq; /* seq of the block's first byte */
	uint32_t cwnd, ssthresh; /* bytes */
	uint16_t mss; /* of what we send, without options */
	uint8_t has_timestamps, has_sack, snd_scale, rcv_scale;
	uint8_t fin_sent;
	uint8_t ack_now;
	uint8_t recovery; /* enum tcp_recovery */
	uint8_t resend; /* enum tcp_resend */
	uint8_t backoff, keep_alive_count;
	uint8_t sacked_count, range_count;
	uint8_t probe_sent; /* tail loss probe */
	uint8_t force_one; /* send one segment whatever the window */
	uint8_t limited; /* the congestion window stopped us */
	uint8_t timing; /* a segment is being timed (Karn) */
	uint8_t prompt_count; /* ACKs in a row that a probe need not fear */

	/* --- line 3: recovery, input --- */
	uint32_t duplicate_count, lost_edge, resent_edge;
	uint32_t rcv_nxt, rcv_edge; /* edge: right one, ever advertised */
	uint32_t ack_sent; /* rcv_nxt as the peer knows it */
	uint32_t unread_bytes;
	uint32_t unacked_segments; /* full ones since our last ACK */
	struct tcp_range duplicate; /* to report (DSACK); empty = none */
	uint32_t timed_seq, fin_seq;
	uint32_t ts_offset; /* our clock = milliseconds + this */
	uint32_t ts_recent;
	uint64_t ts_recent_ns;

	/* --- lines 4 and 5: time --- */
	uint64_t timed_ns;
	uint64_t srtt_ns, rttvar_ns, rto_ns; /* srtt 0 = not measured */
	uint64_t rto_base_ns; /* the RTO runs from here */
	uint64_t sent_ns; /* last data out */
	uint64_t progress_ns; /* last time the peer took something */
	uint64_t heard_ns;
	uint64_t deadline_ns[TCP_TIMER_COUNT]; /* 0 = not set */

	/* --- the rest of line 5: bytes that come --- */
	uint32_t slab; /* TCP_NONE = no input */
	uint32_t unread_start;
	uint8_t fin_received;
	uint8_t has_fin_early; /* fin_seq is known, data is missing before it */
	uint8_t news_opened, news_data, news_room, news_done;
	uint8_t probe_was_resend;
	uint32_t probe_end;
	uint32_t range_latest; /* a number in the island that grew last */

	/* --- once in a life, or where something is missing --- */
	uint32_t list_next, list_previous; /* free, or TIME_WAIT by age */
	uint8_t listener, has_scale, syn_count;
	uint8_t end; /* enum tcp_end */
	uint16_t peer_mss; /* as the peer said */
	uint32_t iss, irs;
	uint32_t resent_mark, recover;
	uint64_t challenge_ns;
	struct tcp_cubic cubic;
	struct tcp_range ranges[TCP_RANGE_COUNT_MAX]; /* ascending */
	struct tcp_range sacked[TCP_SACKED_COUNT_MAX]; /* ascending */
};

#define TCP_HOT_BYTES ((size_t)5 * CACHE_LINE_BYTES)

static_assert(
	offsetof(struct tcp_connection, snd_una) == CACHE_LINE_BYTES &&
		offsetof(struct tcp_connection, duplicate_count) ==
			(size_t)2 * CACHE_LINE_BYTES &&
		offsetof(struct tcp_connection, timed_ns) ==
			(size_t)3 * CACHE_LINE_BYTES &&
		offsetof(struct tcp_connection, list_next) == TCP_HOT_BYTES,
	"the lines of a connection are as its comments say");

/*
 * The table by addresses: open addressing, each as near behind where its hash
 * points as may be. A place is 0 (empty) or eleven bits of the hash above the
 * index plus one, so whoever looks touches hardly any connection but the right
 * one.
 */
#define TCP_PLACE_INDEX_MASK ((1u << 21) - 1)
static_assert(TCP_CONNECTION_COUNT_MAX < TCP_PLACE_INDEX_MASK,
	"an index fits its place in the table");

struct tcp_list {
	uint32_t first, last;
};

struct tcp_listener {
	uint16_t port;
	uint32_t listener;
	uint64_t cookie_ns; /* when one was sent last; 0 = never */
};

/* A cookie that a connection was made of; in sets of a table, by its tag. */
#define TCP_SPENT_WAYS 4u
struct tcp_spent {
	uint64_t tag;
	uint64_t taken_ns;
};

struct tcp {
	struct net_stack *net;
	struct tcp_config config;
	struct siphash_key hash_key, isn_key, cookie_key, ts_key;
	uint64_t now_ns;
	bool draining;
	uint8_t rcv_scale;
	struct tcp_listener listeners[TCP_LISTENER_COUNT_MAX];
	uint32_t listener_count;
	struct tcp_connection *connections; /* owned */
	uint32_t *places; /* owned, [place_count] */
	uint32_t place_count; /* a power of two, at most half of it used */
	struct tcp_spent *spent; /* owned, [spent_count] */
	uint32_t spent_count;
	struct tcp_list free, time_wait; /* by list_next */
	struct tcp_list flush, ready; /* by their own links */
	uint32_t used_count, open_count, half_open_count, time_wait_count;
	struct timer_wheel wheel;
	struct unit_pool blocks, slabs;
	struct tcp_counters counters;
};

struct tcp_segment {
	const struct net_address *remote;
	uint8_t local;
	uint8_t flags;
	uint16_t remote_port, local_port;
	uint32_t seq, ack;
	uint32_t window; /* not scaled */
	const uint8_t *data;
	uint32_t length;
	/* Options. */
	bool has_mss, has_scale, has_sack_permitted, has_timestamps;
	uint8_t scale, sack_count;
	uint16_t mss;
	uint32_t ts_value, ts_echo;
	struct tcp_range sack[4]; /* not checked */
};

/* --- sequence numbers: modulo 2^32 --- */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool seq_le(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
	return seq_lt(a, b) ? b : a;
}

static inline uint32_t seq_min(uint32_t a, uint32_t b)
{
	return seq_lt(a, b) ? a : b;
}

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static inline uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint32_t tcp_index(
	const struct tcp *t, const struct tcp_connection *c)
{
	return (uint32_t)(c - t->connections);
}

/* It will be worked on in a moment: all that takes is asked for at once. */
static inline void tcp_prefetch(const struct tcp *t, uint32_t index)
{
	const uint8_t *at = (const uint8_t *)&t->connections[index];

	for (size_t i = 0; i < TCP_HOT_BYTES; i += CACHE_LINE_BYTES)
		__builtin_prefetch(at + i, 1);
	__builtin_prefetch(&t->wheel.links[index], 1);
}

/* After the last byte that is queued; nothing is while the SYN is in flight. */
static inline uint32_t tcp_data_end(const struct tcp_connection *c)
{
	return c->snd_una + c->queued_bytes;
}

/* Has the connection passed its handshake and not ended? */
static inline bool tcp_is_synchronized(const struct tcp_connection *c)
{
	return c->state > TCP_SYN_RECEIVED && c->state < TCP_CLOSED;
}

/* May data still come? */
static inline bool tcp_receives(const struct tcp_connection *c)
{
	return c->state == TCP_ESTABLISHED || c->state == TCP_FIN_WAIT_1 ||
	       c->state == TCP_FIN_WAIT_2;
}

/* --- tcp_connection.c: from free to free --- */
void tcp_set_state(struct tcp *t, struct tcp_connection *c, enum tcp_state to);
/* NULL: all are taken. */
struct tcp_connection *tcp_connection_get(struct tcp *t);
/* Put into the table under its addresses. */
void tcp_connection_enter(struct tcp *t, struct tcp_connection *c);
struct tcp_connection *tcp_connection_find(
	const struct tcp *t, const struct tcp_segment *s);
/* The same by what tcp_ahead() said. */
struct tcp_connection *tcp_connection_at(
	const struct tcp *t, const struct tcp_segment *s, uint32_t hash);
/* NULL: dead, or not known above. */
struct tcp_connection *tcp_connection_of(const struct tcp *t, struct tcp_id id);
/* It is over: drop all it holds, and tell the layer above if it knows. */
void tcp_connection_end(
	struct tcp *t, struct tcp_connection *c, enum tcp_end end);
/* Into TIME_WAIT; the layer above, if it has closed, is told. */
void tcp_connection_wait(struct tcp *t, struct tcp_connection *c);
/* The layer above has closed: in states that waited only for that, go on. */
void tcp_connection_closed(struct tcp *t, struct tcp_connection *c);
void tcp_connection_free(struct tcp *t, struct tcp_connection *c);
/* The end of the way: FIN_WAIT_2 and TIME_WAIT have lasted long enough. */
void tcp_waited(struct tcp *t, struct tcp_connection *c);
void tcp_mark_ready(struct tcp *t, struct tcp_connection *c);
void tcp_mark_flush(struct tcp *t, struct tcp_connection *c);
struct tcp_connection *tcp_take_ready(struct tcp *t);
struct tcp_connection *tcp_take_flush(struct tcp *t);

/* --- tcp_timer.c --- */
/* ns 0 clears. */
void tcp_timer_set(struct tcp *t, struct tcp_connection *c,
	enum tcp_timer timer, uint64_t ns);
void tcp_timers_clear(struct tcp *t, struct tcp_connection *c);
void tcp_timers_expire(struct tcp *t);
/* An ACK took so long: would a probe have come before it? */
void tcp_promptness_note(
	const struct tcp *t, struct tcp_connection *c, uint64_t ns);
/* Arm the resend timer for what is in flight, or disarm it. */
void tcp_resend_arm(struct tcp *t, struct tcp_connection *c);
void tcp_rtt_sample(struct tcp *t, struct tcp_connection *c, uint64_t ns);
/* The peer is there: keep-alive starts again. */
void tcp_heard(struct tcp *t, struct tcp_connection *c);

/* --- tcp_segment.c: the header --- */
/* False: malformed. */
bool tcp_segment_parse(const struct net_in *in, struct tcp_segment *out);
/* Options of a SYN+ACK or of any other segment; returns their bytes. */
size_t tcp_options_put(const struct tcp *t, const struct tcp_connection *c,
	bool syn, uint8_t *out);
/* Bytes that tcp_options_put() takes in a data segment now. */
size_t tcp_options_bytes(const struct tcp_connection *c);
uint32_t tcp_clock_ms(const struct tcp *t);

/* --- tcp_listen.c: SYNs and cookies --- */
/* after: what the sequence number must lie behind, or NULL. */
void tcp_syn_input(
	struct tcp *t, const struct tcp_segment *s, const uint32_t *after);
/* Of no connection here. in: of the packet that another stack may know; NULL =
 * nobody does. */
void tcp_stray_input(
	struct tcp *t, const struct tcp_segment *s, const struct net_in *in);
/* Does the segment bring back a cookie of ours? */
bool tcp_cookie_returns(struct tcp *t, const struct tcp_segment *s);
/* What the peer and the path take, now. */
void tcp_mss_set(struct tcp *t, struct tcp_connection *c);
uint16_t tcp_mss_local(const struct tcp *t, bool ip4);
/* The clock of a connection starts anywhere. */
uint32_t tcp_ts_offset(const struct tcp *t, const struct tcp_segment *s);

/* --- tcp_input.c: segments of connections --- */
void tcp_segment_input(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s);
void tcp_challenge(struct tcp *t, struct tcp_connection *c);

/* --- tcp_receive.c: bytes in --- */
/* Take the segment's data, trimmed to the window, and its FIN. */
void tcp_receive(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s);
/* The window to advertise now; moves the right edge. */
uint32_t tcp_window(struct tcp *t, struct tcp_connection *c);
/* Is an ACK worth it only for the window? */
bool tcp_window_grew(const struct tcp *t, const struct tcp_connection *c);
void tcp_input_consume(struct tcp *t, struct tcp_connection *c, uint32_t bytes);
void tcp_input_drop(struct tcp *t, struct tcp_connection *c);

/* --- tcp_queue.c: bytes out --- */
uint32_t tcp_queue_room(const struct tcp *t, const struct tcp_connection *c);
void tcp_queue_add(struct tcp *t, struct tcp_connection *c, const uint8_t *data,
	size_t length);
/* `bytes` from the front have arrived. */
void tcp_queue_drop(struct tcp *t, struct tcp_connection *c, uint32_t bytes);
void tcp_queue_clear(struct tcp *t, struct tcp_connection *c);
/* Copy what stands at `seq`. */
void tcp_queue_copy(struct tcp *t, struct tcp_connection *c, uint32_t seq,
	uint8_t *out, uint32_t length);

/* --- tcp_ack.c: what the peer says of our bytes --- */
/* False: the ACK cannot be, the segment is to be dropped. */
bool tcp_ack_input(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s);

/* --- tcp_recovery.c: what is lost, what is in flight --- */
/* Note the segment's SACKs; true when they told something new. */
bool tcp_sack_input(struct tcp *t, struct tcp_connection *c,
	const struct tcp_segment *s, bool *out_duplicate);
/* snd_una has moved. */
void tcp_sacked_trim(struct tcp_connection *c);
uint32_t tcp_pipe(const struct tcp_connection *c);
/* The next piece to send again; false = none. */
bool tcp_lost_next(
	const struct tcp_connection *c, uint32_t *out_seq, uint32_t *out_end);
void tcp_recovery_detect(struct tcp *t, struct tcp_connection *c);
void tcp_recovery_progress(
	struct tcp *t, struct tcp_connection *c, uint32_t acked);
/*
 * Nothing else is left to send: take all holes below the highest SACK for
 * lost (RFC 6675, NextSeg rule 3). False: there are none.
 */
bool tcp_recovery_rescue(struct tcp_connection *c);
void tcp_recovery_timeout(struct tcp *t, struct tcp_connection *c);

/* --- tcp_cubic.c: how much may be in flight --- */
void tcp_cwnd_init(struct tcp_connection *c);
void tcp_cwnd_acked(struct tcp *t, struct tcp_connection *c, uint32_t bytes);
/* Loss was seen: less from now on. */
void tcp_cwnd_reduce(struct tcp *t, struct tcp_connection *c);
/* Nothing was sent for long. */
void tcp_cwnd_idle(struct tcp *t, struct tcp_connection *c);

/* --- tcp_output.c: segments out --- */
/* Send all that may be sent; false: the device has no room for more. */
bool tcp_output(struct tcp *t, struct tcp_connection *c);
/* Again the last segment, or one more: is the tail lost? */
void tcp_output_tail(struct tcp *t, struct tcp_connection *c);
/* One without data; seq is snd_nxt, or one below the window as a probe. */
void tcp_output_ack(struct tcp *t, struct tcp_connection *c);
void tcp_output_probe(struct tcp *t, struct tcp_connection *c);
void tcp_output_syn(struct tcp *t, struct tcp_connection *c);
void tcp_output_reset(struct tcp *t, struct tcp_connection *c);
/* A reply to a segment of no connection, with no state. */
struct tcp_bare {
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;
	const uint8_t *options;
	size_t option_bytes; /* a multiple of 4 */
};
void tcp_output_bare(struct tcp *t, const struct tcp_segment *to,
	const struct tcp_bare *bare);

#endif
