/* tcp_ack.c - what the peer says of our bytes (RFC 9293, 5681, 5961, 8985) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

/* RFC 5961, 5.2: neither of the future nor older than any window. */
static bool ack_is_possible(
	const struct tcp_connection *c, const struct tcp_segment *s)
{
	return seq_le(s->ack, c->snd_nxt) &&
	       seq_le(c->snd_una - c->snd_wnd_max, s->ack);
}

static void window_take(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	uint32_t window = s->window << c->snd_scale;

	if (!seq_lt(c->snd_wl1, s->seq) &&
		(c->snd_wl1 != s->seq || seq_lt(s->ack, c->snd_wl2)))
		return;
	/* It opens: what the probes have learnt of patience is over. */
	if (c->snd_wnd == 0 && window > 0 && c->snd_una == c->snd_nxt) {
		c->backoff = 0;
		tcp_timer_set(t, c, TCP_TIMER_RESEND, 0);
	}
	c->snd_wnd = window;
	c->snd_wnd_max = max_u32(c->snd_wnd_max, window);
	c->snd_wl1 = s->seq;
	c->snd_wl2 = s->ack;
}

/*
 * The probe's fate (RFC 8985, 7.4): answered without a sign that it came
 * twice, it has repaired a loss, which counts as one.
 */
static void probe_judge(
	struct tcp *t, struct tcp_connection *c, uint32_t ack, bool duplicate)
{
	if (!c->probe_sent || seq_lt(ack, c->probe_end))
		return;
	c->probe_sent = false;
	if (!c->probe_was_resend)
		return;
	if (duplicate)
		t->counters.spurious_probes++;
	else if (c->recovery == TCP_OPEN)
		tcp_cwnd_reduce(t, c);
}

static void fin_acked(struct tcp *t, struct tcp_connection *c)
{
	if (c->state == TCP_FIN_WAIT_1) {
		tcp_set_state(t, c, TCP_FIN_WAIT_2);
		if (c->closing)
			tcp_timer_set(t, c, TCP_TIMER_WAIT,
				t->now_ns + t->config.fin_wait_2_ns);
	} else if (c->state == TCP_CLOSING) {
		tcp_connection_wait(t, c);
	} else if (c->state == TCP_LAST_ACK && c->closing) {
		tcp_connection_end(t, c, TCP_END_CLEAN);
	}
}

static void room_grew(struct tcp *t, struct tcp_connection *c)
{
	if (c->want == 0 || tcp_queue_room(t, c) < c->want)
		return;
	c->want = 0;
	c->news_room = true;
	tcp_mark_ready(t, c);
}

static void advance(
	struct tcp *t, struct tcp_connection *c, uint32_t ack, bool duplicate)
{
	uint32_t acked = ack - c->snd_una;
	bool fin = c->fin_sent && ack == c->snd_nxt;

	if (c->timing && seq_le(c->timed_seq, ack)) {
		tcp_promptness_note(t, c, t->now_ns - c->timed_ns);
		tcp_rtt_sample(t, c, t->now_ns - c->timed_ns);
		c->timing = false;
	}
	/* It was lost, or we have waited for too short a time. */
	if (c->probe_sent)
		c->prompt_count = 0;
	tcp_queue_drop(t, c, acked - fin);
	c->snd_una = ack;
	c->backoff = 0;
	c->rto_base_ns = c->progress_ns = t->now_ns;
	probe_judge(t, c, ack, duplicate);
	tcp_sacked_trim(c);
	tcp_recovery_progress(t, c, acked);
	room_grew(t, c);
	if (fin)
		fin_acked(t, c);
}

/* RFC 5681: an ACK that tells nothing but that something came. */
static bool is_duplicate(const struct tcp_connection *c,
	const struct tcp_segment *s, uint32_t window_before)
{
	return s->ack == c->snd_una && s->length == 0 &&
	       !(s->flags & TCP_FIN) && c->snd_una != c->snd_nxt &&
	       c->snd_wnd == window_before;
}

bool tcp_ack_input(
	struct tcp *t, struct tcp_connection *c, const struct tcp_segment *s)
{
	uint32_t window_before = c->snd_wnd;
	bool news = false, duplicate = false;

	if (!ack_is_possible(c, s)) {
		t->counters.in_bad_ack++;
		tcp_challenge(t, c);
		return false;
	}
	if (seq_le(c->snd_una, s->ack))
		window_take(t, c, s);
	if (c->has_sack)
		news = tcp_sack_input(t, c, s, &duplicate);
	if (seq_lt(c->snd_una, s->ack)) {
		advance(t, c, s->ack, duplicate);
	} else if (c->has_sack ? news : is_duplicate(c, s, window_before)) {
		c->duplicate_count++;
		tcp_recovery_detect(t, c);
	}
	if (s->ack == c->snd_una && duplicate && tcp_is_synchronized(c))
		probe_judge(t, c, s->ack, true);
	if (tcp_is_synchronized(c) && c->state != TCP_TIME_WAIT)
		tcp_resend_arm(t, c);
	return true;
}
