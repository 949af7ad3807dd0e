/* tcp_timer.c - deadlines of connections (time -> actions; RFC 6298, 8985) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

static uint64_t soonest(const struct tcp_connection *c)
{
	uint64_t ns = 0;

	for (int i = 0; i < TCP_TIMER_COUNT; i++)
		if (c->deadline_ns[i] && (ns == 0 || c->deadline_ns[i] < ns))
			ns = c->deadline_ns[i];
	return ns;
}

/*
 * Deadlines mostly move away. Then the wheel keeps the old, earlier place and
 * sets again when that comes.
 */
static void wheel_set(struct tcp *t, const struct tcp_connection *c)
{
	uint32_t index = tcp_index(t, c);
	uint64_t ns = soonest(c), set = t->wheel.links[index].tick;

	if (ns && (set == 0 || (ns >> TIMER_WHEEL_TICK_SHIFT) + 1 < set))
		timer_wheel_set(&t->wheel, index, ns);
}

void tcp_timer_set(struct tcp *t, struct tcp_connection *c,
	enum tcp_timer timer, uint64_t ns)
{
	uint64_t set = t->wheel.links[tcp_index(t, c)].tick;

	c->deadline_ns[timer] = ns;
	/* The wheel's place is never behind any of the deadlines. */
	if (ns && (set == 0 || (ns >> TIMER_WHEEL_TICK_SHIFT) + 1 < set))
		wheel_set(t, c);
}

void tcp_timers_clear(struct tcp *t, struct tcp_connection *c)
{
	memset(c->deadline_ns, 0, sizeof(c->deadline_ns));
	timer_wheel_clear(&t->wheel, tcp_index(t, c));
}

/* RFC 6298, section 2, in nanoseconds. */
void tcp_rtt_sample(struct tcp *t, struct tcp_connection *c, uint64_t ns)
{
	uint64_t error;

	ns = max_u64(ns, 1);
	if (c->srtt_ns == 0) {
		c->srtt_ns = ns;
		c->rttvar_ns = ns / 2;
	} else {
		error = c->srtt_ns > ns ? c->srtt_ns - ns : ns - c->srtt_ns;
		c->rttvar_ns = c->rttvar_ns - c->rttvar_ns / 4 + error / 4;
		c->srtt_ns = c->srtt_ns - c->srtt_ns / 8 + ns / 8;
		c->srtt_ns = max_u64(c->srtt_ns, 1);
	}
	c->rto_ns = c->srtt_ns +
		    max_u64(4 * c->rttvar_ns, 1 << TIMER_WHEEL_TICK_SHIFT);
	c->rto_ns = max_u64(c->rto_ns, t->config.rto_min_ns);
	c->rto_ns = min_u64(c->rto_ns, t->config.rto_max_ns);
}

static uint64_t backed_off(const struct tcp *t, const struct tcp_connection *c)
{
	return min_u64(c->rto_ns << c->backoff, t->config.rto_max_ns);
}

/* Bytes or a FIN that were not sent yet. */
static bool has_unsent(const struct tcp_connection *c)
{
	return (c->finishing && !c->fin_sent) ||
	       seq_lt(c->snd_nxt, tcp_data_end(c));
}

static void user_arm(struct tcp *t, struct tcp_connection *c, bool waits)
{
	if (!waits)
		c->deadline_ns[TCP_TIMER_USER] = 0;
	else if (c->deadline_ns[TCP_TIMER_USER] == 0)
		c->progress_ns = t->now_ns;
	if (waits)
		tcp_timer_set(t, c, TCP_TIMER_USER,
			c->progress_ns + t->config.user_timeout_ns);
}

static uint64_t probe_wait_ns(
	const struct tcp *t, const struct tcp_connection *c)
{
	return 2 * c->srtt_ns + t->config.probe_slack_ns;
}

void tcp_promptness_note(
	const struct tcp *t, struct tcp_connection *c, uint64_t ns)
{
	if (ns > probe_wait_ns(t, c))
		c->prompt_count = 0;
	else if (c->prompt_count < TCP_PROMPT_COUNT)
		c->prompt_count++;
}

/*
 * When the last segment is probed. Until two full ones have come, a peer may
 * wait with its ACK (RFC 9293, 3.8.6.3; Linux: 40 ms and a tick), and what is
 * on its way to a reader of events is mostly less: asking sooner would send it
 * twice although nothing is lost. A peer that was prompt for longer than
 * Linux is at the beginning of a connection is taken to be so.
 */
static uint64_t probe_at(const struct tcp *t, const struct tcp_connection *c)
{
	uint32_t full = 2 * (c->mss - (uint32_t)tcp_options_bytes(c));
	bool may_wait = c->snd_nxt - c->snd_una < full &&
			c->prompt_count < TCP_PROMPT_COUNT;

	return c->sent_ns + probe_wait_ns(t, c) +
	       (may_wait ? t->config.peer_ack_delay_ns : 0);
}

void tcp_resend_arm(struct tcp *t, struct tcp_connection *c)
{
	bool in_flight = c->snd_una != c->snd_nxt, unsent = has_unsent(c);
	uint64_t at, probe;

	user_arm(t, c, in_flight || unsent);
	if (!in_flight) {
		if (unsent && c->resend == TCP_RESEND_WINDOW &&
			c->deadline_ns[TCP_TIMER_RESEND])
			return;
		c->resend = TCP_RESEND_WINDOW;
		tcp_timer_set(t, c, TCP_TIMER_RESEND,
			unsent ? t->now_ns + backed_off(t, c) : 0);
		return;
	}
	c->resend = TCP_RESEND_RTO;
	at = c->rto_base_ns + backed_off(t, c);
	/* RFC 8985, 7.2: not in recovery, and one only. */
	if (c->has_sack && c->recovery == TCP_OPEN && !c->probe_sent &&
		c->backoff == 0 && c->srtt_ns && c->sacked_count == 0) {
		probe = probe_at(t, c);
		if (probe < at) {
			c->resend = TCP_RESEND_PROBE;
			at = probe;
		}
	}
	tcp_timer_set(t, c, TCP_TIMER_RESEND, at);
}

void tcp_heard(struct tcp *t, struct tcp_connection *c)
{
	c->heard_ns = t->now_ns;
	if (c->deadline_ns[TCP_TIMER_KEEP_ALIVE] == 0 || c->keep_alive_count)
		tcp_timer_set(t, c, TCP_TIMER_KEEP_ALIVE,
			t->now_ns + t->config.keep_alive_ns);
	c->keep_alive_count = 0;
}

static void give_up(struct tcp *t, struct tcp_connection *c)
{
	tcp_output_reset(t, c);
	tcp_connection_end(t, c, TCP_END_TIMEOUT);
}

static void syn_timeout(struct tcp *t, struct tcp_connection *c)
{
	if (c->syn_count >= TCP_SYN_RETRY_COUNT) {
		tcp_connection_end(t, c, TCP_END_TIMEOUT);
		return;
	}
	c->timing = false;
	c->syn_count++;
	c->backoff++;
	tcp_output_syn(t, c);
	tcp_timer_set(t, c, TCP_TIMER_RESEND, t->now_ns + backed_off(t, c));
}

static void resend_timeout(struct tcp *t, struct tcp_connection *c)
{
	if (c->state == TCP_SYN_RECEIVED) {
		syn_timeout(t, c);
		return;
	}
	switch ((enum tcp_resend)c->resend) {
	case TCP_RESEND_WINDOW:
		if (c->backoff < TCP_BACKOFF_MAX)
			c->backoff++;
		if (c->snd_wnd == 0)
			tcp_output_probe(t, c);
		else
			c->force_one = true; /* RFC 9293, 3.8.6.2.1 */
		break;
	case TCP_RESEND_PROBE:
		t->counters.probes++;
		c->rto_base_ns = t->now_ns;
		tcp_output_tail(t, c);
		break;
	case TCP_RESEND_RTO:
		t->counters.timeouts++;
		tcp_recovery_timeout(t, c);
		if (c->backoff < TCP_BACKOFF_MAX)
			c->backoff++;
		c->rto_base_ns = t->now_ns;
		break;
	}
	tcp_resend_arm(t, c);
	tcp_mark_flush(t, c);
}

/* The deadline moves with what is heard; only its coming is looked at. */
static void keep_alive_timeout(struct tcp *t, struct tcp_connection *c)
{
	uint64_t due = c->heard_ns + t->config.keep_alive_ns;

	if (t->now_ns < due) {
		tcp_timer_set(t, c, TCP_TIMER_KEEP_ALIVE, due);
		return;
	}
	if (c->keep_alive_count >= t->config.keep_alive_count) {
		give_up(t, c);
		return;
	}
	c->keep_alive_count++;
	tcp_output_probe(t, c);
	tcp_timer_set(t, c, TCP_TIMER_KEEP_ALIVE,
		t->now_ns + t->config.keep_alive_interval_ns);
}

static void fire(struct tcp *t, struct tcp_connection *c, enum tcp_timer timer)
{
	switch (timer) {
	case TCP_TIMER_RESEND:
		resend_timeout(t, c);
		break;
	case TCP_TIMER_ACK:
		c->ack_now = true;
		tcp_mark_flush(t, c);
		break;
	case TCP_TIMER_USER:
		give_up(t, c);
		break;
	case TCP_TIMER_KEEP_ALIVE:
		keep_alive_timeout(t, c);
		break;
	default:
		tcp_waited(t, c);
		break;
	}
}

static bool is_alive(const struct tcp_connection *c)
{
	return c->state != TCP_FREE && c->state != TCP_CLOSED;
}

void tcp_timers_expire(struct tcp *t)
{
	uint32_t index;

	while ((index = timer_wheel_expire(&t->wheel, t->now_ns)) !=
		TIMER_WHEEL_NONE) {
		struct tcp_connection *c = &t->connections[index];

		for (int i = 0; i < TCP_TIMER_COUNT && is_alive(c); i++) {
			if (c->deadline_ns[i] == 0 ||
				c->deadline_ns[i] > t->now_ns)
				continue;
			c->deadline_ns[i] = 0;
			fire(t, c, (enum tcp_timer)i);
		}
		if (is_alive(c))
			wheel_set(t, c);
	}
}
