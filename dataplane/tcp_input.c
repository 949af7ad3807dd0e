/* tcp_input.c - a segment arrives (RFC 9293 3.10.7.4, 5961, 7323) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

#define CHALLENGE_NS (500 * NS_PER_MS)
/* RFC 7323, 5.5: after 24 days of silence a timestamp says nothing. */
#define TIMESTAMP_OLD_NS (24 * UINT64_C(86400) * NS_PER_S)

/*
 * An ACK that only tells where we are. One per connection in half a second:
 * a forger gets no echo chamber, and no clock of a shared counter.
 */
void tcp_challenge(struct tcp *t, struct tcp_connection *c)
{
	if (c->challenge_ns && t->now_ns - c->challenge_ns < CHALLENGE_NS) {
		t->counters.challenges_withheld++;
		return;
	}
	c->challenge_ns = t->now_ns;
	t->counters.challenges++;
	c->ack_now = true;
	tcp_mark_flush(t, c);
}

static void answer(struct tcp *t, struct tcp_connection *c)
{
	c->ack_now = true;
	tcp_mark_flush(t, c);
}

/* RFC 7323, 5.3: is the segment of this age of the sequence numbers? */
static bool timestamp_passes(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	if (!c->has_timestamps || (s->flags & TCP_RST))
		return true;
	if (!s->has_timestamps) {
		t->counters.in_old_timestamp++;
		return false;
	}
	if (!seq_lt(s->ts_value, c->ts_recent) ||
		t->now_ns - c->ts_recent_ns > TIMESTAMP_OLD_NS)
		return true;
	t->counters.in_old_timestamp++;
	if (s->length > 0)
		answer(t, c);
	else
		tcp_challenge(t, c);
	return false;
}

/*
 * RFC 9293's table 6, but for two edges that real peers touch: an empty
 * segment may stand right behind the window (bytes before it were lost), and
 * data at a closed window is let through for its ACK; its bytes are not taken.
 */
static bool is_acceptable(
	const struct tcp_connection *c, const struct tcp_segment *s)
{
	uint32_t length =
		s->length + !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
	uint32_t end = s->seq + length;

	if (length == 0)
		return seq_le(c->rcv_nxt, s->seq) &&
		       seq_le(s->seq, c->rcv_edge);
	if (c->rcv_edge == c->rcv_nxt)
		return s->seq == c->rcv_nxt;
	return seq_lt(c->rcv_nxt, end) && seq_lt(s->seq, c->rcv_edge);
}

/* The peer's FIN again in TIME_WAIT: it has not got our last ACK. */
static void unacceptable(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	uint32_t end = s->seq + s->length;

	t->counters.in_unacceptable++;
	if (s->flags & TCP_RST)
		return;
	if (c->state == TCP_SYN_RECEIVED && (s->flags & TCP_SYN) &&
		s->seq == c->irs) {
		tcp_output_syn(t, c);
		return;
	}
	if (c->state == TCP_TIME_WAIT && (s->flags & TCP_FIN))
		tcp_timer_set(t, c, TCP_TIMER_WAIT,
			t->now_ns + t->config.time_wait_ns);
	if (s->length == 0 && !(s->flags & TCP_FIN)) {
		tcp_challenge(t, c);
		return;
	}
	if (s->length > 0 && seq_le(end, c->rcv_nxt) &&
		c->state != TCP_SYN_RECEIVED)
		c->duplicate = (struct tcp_range){s->seq, end};
	answer(t, c);
}

/* RFC 5961, 3.2: only the exact number ends it. */
static void reset_input(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	if (c->state == TCP_TIME_WAIT)
		return;
	if (s->seq == c->rcv_nxt)
		tcp_connection_end(t, c, TCP_END_RESET);
	else
		tcp_challenge(t, c);
}

/* SYN_RECEIVED: the ACK that makes it a connection; false = it does not. */
static bool establish(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	struct tcp_bare bare = {.flags = TCP_RST, .seq = s->ack};

	/* The peer's SYN came twice, and it holds the cookie that the other
	 * one was answered with. */
	if (s->ack != c->snd_nxt && tcp_cookie_returns(t, s)) {
		tcp_connection_end(t, c, TCP_END_CLEAN);
		tcp_stray_input(t, s, NULL);
		return false;
	}
	if (s->ack != c->snd_nxt) {
		t->counters.out_resets++;
		tcp_output_bare(t, s, &bare);
		return false;
	}
	/* No room above now: our SYN+ACK will ask again. */
	if (t->open_count >= t->config.open_count || t->draining) {
		t->counters.syn_dropped++;
		return false;
	}
	tcp_set_state(t, c, TCP_ESTABLISHED);
	c->snd_una = s->ack;
	c->lost_edge = c->resent_edge = s->ack;
	c->snd_wl1 = s->seq;
	c->snd_wl2 = s->ack;
	c->snd_wnd = c->snd_wnd_max = s->window << c->snd_scale;
	if (c->timing)
		tcp_rtt_sample(t, c, t->now_ns - c->timed_ns);
	c->timing = false;
	c->backoff = 0;
	tcp_timer_set(t, c, TCP_TIMER_RESEND, 0);
	tcp_cwnd_init(c);
	c->owned = true;
	c->news_opened = true;
	t->open_count++;
	t->counters.opened++;
	tcp_mark_ready(t, c);
	return true;
}

static void timestamp_take(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	if (!c->has_timestamps || !s->has_timestamps ||
		!seq_le(s->seq, c->ack_sent) ||
		(seq_lt(s->ts_value, c->ts_recent) &&
			t->now_ns - c->ts_recent_ns <= TIMESTAMP_OLD_NS))
		return;
	c->ts_recent = s->ts_value;
	c->ts_recent_ns = t->now_ns;
}

/* RFC 6191: a SYN that cannot be an old one opens the next connection. */
static bool reopens(const struct tcp_connection *c, const struct tcp_segment *s)
{
	if (c->state != TCP_TIME_WAIT || c->owned ||
		(s->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return false;
	if (c->has_timestamps && s->has_timestamps &&
		s->ts_value != c->ts_recent)
		return seq_lt(c->ts_recent, s->ts_value);
	return seq_lt(c->rcv_nxt, s->seq);
}

static void reopen(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	uint32_t after = c->snd_nxt;

	tcp_connection_end(t, c, TCP_END_CLEAN);
	tcp_syn_input(t, s, &after);
}

/* The peer has all that there is, and nothing is to be told: no output. */
static bool is_at_rest(const struct tcp_connection *c)
{
	return c->state == TCP_ESTABLISHED && !c->ack_now &&
	       c->snd_una == c->snd_nxt && c->snd_nxt == tcp_data_end(c) &&
	       !c->finishing && c->recovery == TCP_OPEN;
}

void tcp_segment_input(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	if (reopens(c, s)) {
		reopen(t, c, s);
		return;
	}
	if (!timestamp_passes(t, c, s))
		return;
	if (!is_acceptable(c, s)) {
		unacceptable(t, c, s);
		return;
	}
	if (s->flags & TCP_RST) {
		reset_input(t, c, s);
		return;
	}
	if (s->flags & TCP_SYN) {
		tcp_challenge(t, c);
		return;
	}
	if (!(s->flags & TCP_ACK)) {
		t->counters.in_unacceptable++;
		return;
	}
	if (c->state == TCP_SYN_RECEIVED && !establish(t, c, s))
		return;
	timestamp_take(t, c, s);
	if (!tcp_ack_input(t, c, s))
		return;
	if (!tcp_is_synchronized(c))
		return;
	if (c->state != TCP_TIME_WAIT)
		tcp_heard(t, c);
	tcp_receive(t, c, s);
	if (!is_at_rest(c))
		tcp_mark_flush(t, c);
}
