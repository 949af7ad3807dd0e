/* tcp_listen.c - SYNs, cookies, segments of nobody (RFC 9293, 4987, 6528) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cookie:  the sequence number of a SYN+ACK for which nothing is kept:
 *          5 bits  the minute (of 64 s) when it was made,
 *          3 bits  which of eight MSS the peer named,
 *          24 bits a keyed hash of all that and both addresses and the peer's
 *                  sequence number.
 *          With timestamps the lowest 6 bits of ours say the peer's window
 *          scale (15 = none) and whether it takes SACK. One blind ACK in 2^24
 *          is taken, and only within 2 minutes after a cookie was sent.
 */
#include "dataplane/tcp_private.h"

#define COOKIE_AGE_COUNT 2 /* the minute it was made in, and the next */
#define COOKIE_NS (64 * NS_PER_S)
#define COOKIE_OPTION_MASK 63u
#define COOKIE_NO_SCALE 15u

static const uint16_t cookie_mss[8] = {
	256, 536, 1220, 1360, 1400, 1440, 1460, 8940};

uint16_t tcp_mss_local(const struct tcp *t, bool ip4)
{
	return (uint16_t)(t->net->config.mtu_bytes - TCP_BYTES -
			  (ip4 ? IP4_BYTES : IP6_BYTES));
}

void tcp_mss_set(struct tcp *t, struct tcp_connection *c)
{
	bool ip4 = net_is_ip4(&c->remote);
	uint32_t path = net_path_mtu(t->net, &c->remote) - TCP_BYTES -
			(ip4 ? IP4_BYTES : IP6_BYTES);

	c->mss = (uint16_t)min_u32(path, c->peer_mss);
}

static uint32_t sequence_start(struct tcp *t, const struct tcp_segment *s)
{
	uint8_t key[24] = {0};

	memcpy(key, s->remote->bytes, 16);
	net_put16(key + 16, s->remote_port);
	net_put16(key + 18, s->local_port);
	key[20] = s->local;
	/* RFC 6528: a clock of 4 us on top of a secret of the addresses. */
	return (uint32_t)siphash_2_4(&t->isn_key, key, sizeof(key)) +
	       (uint32_t)(t->now_ns / (4 * NS_PER_US));
}

static uint32_t cookie_of(struct tcp *t, const struct tcp_segment *s,
	uint32_t irs, uint64_t minute, uint32_t mss_index)
{
	uint8_t key[40] = {0};

	memcpy(key, s->remote->bytes, 16);
	net_put16(key + 16, s->remote_port);
	net_put16(key + 18, s->local_port);
	net_put32(key + 20, irs);
	net_put32(key + 24, (uint32_t)minute);
	key[28] = (uint8_t)mss_index;
	key[29] = s->local;
	return (uint32_t)(minute & 31) << 27 | mss_index << 24 |
	       ((uint32_t)siphash_2_4(&t->cookie_key, key, sizeof(key)) >> 8);
}

static struct tcp_listener *listener_of(struct tcp *t, uint16_t port)
{
	for (uint32_t i = 0; i < t->listener_count && !t->draining; i++)
		if (t->listeners[i].port == port)
			return &t->listeners[i];
	return NULL;
}

/* A peer's MSS: what it said, what silence means, never absurdly little. */
static uint16_t mss_said(const struct tcp_segment *s)
{
	uint16_t silent = net_is_ip4(s->remote) ? TCP_MSS_DEFAULT : 1220;
	uint16_t mss = s->has_mss ? s->mss : silent;

	return mss < TCP_MSS_MIN ? TCP_MSS_MIN : mss;
}

/* A connection in SYN_RECEIVED, of a SYN or of a cookie that came back. */
static struct tcp_connection *make(struct tcp *t, const struct tcp_segment *s,
	const struct tcp_listener *l, uint32_t irs, uint32_t iss)
{
	struct tcp_connection *c = tcp_connection_get(t);

	if (!c)
		return NULL;
	c->local = s->local;
	c->local_port = s->local_port;
	c->remote = *s->remote;
	c->remote_port = s->remote_port;
	c->listener = (uint8_t)(l - t->listeners);
	c->irs = irs;
	c->rcv_nxt = c->ack_sent = irs + 1;
	c->iss = c->snd_una = iss;
	c->snd_nxt = c->recover = iss + 1;
	c->lost_edge = c->resent_edge = iss;
	c->rto_ns = t->config.rto_initial_ns;
	c->ts_offset = tcp_ts_offset(t, s);
	c->rcv_edge = c->rcv_nxt + min_u32(t->config.receive_bytes, UINT16_MAX);
	tcp_set_state(t, c, TCP_SYN_RECEIVED);
	tcp_connection_enter(t, c);
	return c;
}

static void agree(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	c->peer_mss = mss_said(s);
	tcp_mss_set(t, c);
	c->has_sack = s->has_sack_permitted;
	c->has_scale = s->has_scale;
	c->snd_scale = s->has_scale ? s->scale : 0;
	c->rcv_scale = s->has_scale ? t->rcv_scale : 0;
	c->has_timestamps = s->has_timestamps;
	c->ts_recent = s->ts_value;
	c->ts_recent_ns = t->now_ns;
}

static void send_cookie(
	struct tcp *t, const struct tcp_segment *s, struct tcp_listener *l)
{
	struct tcp_connection shadow = {.remote = *s->remote};
	uint8_t options[40];
	uint32_t index = 7, bits, stamp;
	struct tcp_bare bare = {
		.flags = TCP_SYN | TCP_ACK,
		.ack = s->seq + 1,
		.window =
			(uint16_t)min_u32(t->config.receive_bytes, UINT16_MAX),
		.options = options,
	};

	agree(t, &shadow, s);
	while (index > 0 && cookie_mss[index] > shadow.peer_mss)
		index--;
	bare.seq = cookie_of(t, s, s->seq, t->now_ns / COOKIE_NS, index);
	/* What no timestamp can carry is not agreed on. */
	shadow.has_scale = s->has_scale && s->has_timestamps;
	shadow.has_sack = s->has_sack_permitted && s->has_timestamps;
	if (shadow.has_timestamps) {
		bits = shadow.has_scale ? shadow.snd_scale : COOKIE_NO_SCALE;
		bits |= shadow.has_sack ? 16 : 0;
		stamp = tcp_clock_ms(t) + tcp_ts_offset(t, s);
		/* Not ahead of the clock that goes on from here. */
		shadow.ts_offset = (stamp & ~COOKIE_OPTION_MASK) -
				   (COOKIE_OPTION_MASK + 1) + bits -
				   tcp_clock_ms(t);
	}
	bare.option_bytes = tcp_options_put(t, &shadow, true, options);
	l->cookie_ns = t->now_ns;
	t->counters.cookies_sent++;
	tcp_output_bare(t, s, &bare);
}

void tcp_syn_input(
	struct tcp *t, const struct tcp_segment *s, const uint32_t *after)
{
	struct tcp_listener *l = listener_of(t, s->local_port);
	struct tcp_connection *c;
	uint32_t iss;

	if (!l) {
		tcp_stray_input(t, s, NULL);
		return;
	}
	if (t->open_count >= t->config.open_count) {
		t->counters.syn_dropped++;
		return;
	}
	iss = sequence_start(t, s);
	if (after && seq_le(iss, *after))
		iss = *after + 1;
	c = t->half_open_count < t->config.half_open_count
		    ? make(t, s, l, s->seq, iss)
		    : NULL;
	if (!c) {
		send_cookie(t, s, l);
		return;
	}
	agree(t, c, s);
	c->timing = true;
	c->timed_ns = t->now_ns;
	c->timed_seq = c->snd_nxt;
	tcp_output_syn(t, c);
	tcp_timer_set(t, c, TCP_TIMER_RESEND, t->now_ns + c->rto_ns);
}

/* The MSS of a cookie of ours that has come back; 0 = it is none. */
static uint16_t cookie_check(
	struct tcp *t, const struct tcp_segment *s, uint32_t cookie)
{
	uint64_t minute = t->now_ns / COOKIE_NS;
	uint32_t index = cookie >> 24 & 7;

	for (uint64_t age = 0; age < COOKIE_AGE_COUNT && age <= minute; age++)
		if (cookie == cookie_of(t, s, s->seq - 1, minute - age, index))
			return cookie_mss[index];
	return 0;
}

/* Were cookies sent there so lately that one may come back? */
static bool cookies_are_out(struct tcp *t, const struct tcp_listener *l)
{
	return l && l->cookie_ns &&
	       t->now_ns - l->cookie_ns < COOKIE_AGE_COUNT * COOKIE_NS;
}

/*
 * The peer's SYN, by addresses and sequence number: a connection was made of it
 * while its cookie is good. A segment that comes late and twice, after that
 * connection's end, must not make another: the peer's request would be served
 * again. There is room for as many as there are connections, in sets of
 * TCP_SPENT_WAYS; in a full one the oldest is forgotten.
 */
static struct tcp_spent *spent_set(
	struct tcp *t, const struct tcp_segment *s, uint64_t *out_tag)
{
	uint8_t key[32] = {0};

	memcpy(key, s->remote->bytes, 16);
	net_put16(key + 16, s->remote_port);
	net_put16(key + 18, s->local_port);
	net_put32(key + 20, s->seq - 1);
	key[24] = s->local;
	*out_tag = siphash_2_4(&t->cookie_key, key, sizeof(key));
	return &t->spent[*out_tag % (t->spent_count / TCP_SPENT_WAYS) *
			 TCP_SPENT_WAYS];
}

static bool cookie_is_spent(struct tcp *t, const struct tcp_segment *s)
{
	uint64_t tag;
	const struct tcp_spent *set = spent_set(t, s, &tag);

	for (uint32_t i = 0; i < TCP_SPENT_WAYS; i++)
		if (set[i].taken_ns && set[i].tag == tag &&
			t->now_ns - set[i].taken_ns <
				COOKIE_AGE_COUNT * COOKIE_NS)
			return true;
	return false;
}

static void spend_cookie(struct tcp *t, const struct tcp_segment *s)
{
	uint64_t tag;
	struct tcp_spent *set = spent_set(t, s, &tag), *oldest = set;

	for (uint32_t i = 1; i < TCP_SPENT_WAYS; i++)
		if (set[i].taken_ns < oldest->taken_ns)
			oldest = &set[i];
	*oldest = (struct tcp_spent){tag, t->now_ns};
}

bool tcp_cookie_returns(struct tcp *t, const struct tcp_segment *s)
{
	return cookies_are_out(t, listener_of(t, s->local_port)) &&
	       cookie_check(t, s, s->ack - 1) != 0;
}

/* An ACK that ends a handshake of which we kept nothing? */
static bool cookie_input(struct tcp *t, const struct tcp_segment *s)
{
	const struct tcp_listener *l = listener_of(t, s->local_port);
	struct tcp_segment syn = *s;
	struct tcp_connection *c;
	uint32_t bits = s->ts_echo & COOKIE_OPTION_MASK;

	if (!cookies_are_out(t, l))
		return false;
	syn.mss = cookie_check(t, s, s->ack - 1);
	if (syn.mss == 0) {
		t->counters.cookies_bad++;
		return false;
	}
	if (cookie_is_spent(t, s)) {
		t->counters.cookies_spent++;
		return false;
	}
	/* No room now: the peer will send again, to the same cookie. */
	if (t->open_count >= t->config.open_count) {
		t->counters.syn_dropped++;
		return true;
	}
	c = make(t, s, l, s->seq - 1, s->ack - 1);
	if (!c) {
		t->counters.syn_dropped++;
		return true;
	}
	syn.has_mss = true;
	syn.has_sack_permitted = s->has_timestamps && (bits & 16);
	syn.scale = bits & 15;
	syn.has_scale = s->has_timestamps && syn.scale <= TCP_SCALE_MAX;
	agree(t, c, &syn);
	spend_cookie(t, s);
	t->counters.cookies_taken++;
	tcp_segment_input(t, c, s);
	return true;
}

/* RFC 9293, 3.10.7.1: an answer that the sender's state accepts. */
void tcp_stray_input(
	struct tcp *t, const struct tcp_segment *s, const struct net_in *in)
{
	struct tcp_bare bare = {.flags = TCP_RST};

	if ((s->flags & (TCP_ACK | TCP_SYN | TCP_RST)) == TCP_ACK &&
		cookie_input(t, s))
		return;
	if (in && net_pass(t->net, in))
		return;
	t->counters.in_unknown++;
	if (s->flags & TCP_RST)
		return;
	if (s->flags & TCP_ACK) {
		bare.seq = s->ack;
	} else {
		bare.flags |= TCP_ACK;
		bare.ack = s->seq + s->length + !!(s->flags & TCP_SYN) +
			   !!(s->flags & TCP_FIN);
	}
	t->counters.out_resets++;
	tcp_output_bare(t, s, &bare);
}
