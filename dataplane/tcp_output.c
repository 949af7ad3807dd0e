/* tcp_output.c - segments out (queue, state -> frames) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

#define CHECKSUM_AT 16

/* A segment to be made; length bytes of the queue from seq on. */
struct piece {
	uint32_t seq, length;
	uint8_t flags;
	uint16_t segment_bytes; /* larger than this: the device cuts */
};

static void put_header(uint8_t *p, const struct piece *piece, uint32_t ack,
	uint32_t window, size_t header)
{
	net_put32(p + 4, piece->seq);
	net_put32(p + 8, ack);
	p[12] = (uint8_t)(header / 4 << 4);
	p[13] = piece->flags;
	net_put16(p + 14, window);
	net_put32(p + 16, 0);
}

/*
 * -EAGAIN: nothing was sent. A segment that is lost below (nobody answers for
 * the next hop) is sent all the same, and repeated like any other.
 */
static int emit(
	struct tcp *t, struct tcp_connection *c, const struct piece *piece)
{
	bool syn = piece->flags & TCP_SYN;
	uint8_t options[40];
	size_t header = TCP_BYTES + tcp_options_put(t, c, syn, options);
	struct net_out out;
	uint8_t *p;
	int rc = net_out_begin(t->net, &c->remote, c->local, IP_TCP,
		header + piece->length, &out);

	if (rc == -EAGAIN)
		return rc;
	t->counters.out_segments++;
	t->counters.out_bytes += piece->length;
	if (rc == 0) {
		p = out.data;
		net_put16(p, c->local_port);
		net_put16(p + 2, c->remote_port);
		put_header(p, piece, piece->flags & TCP_ACK ? c->rcv_nxt : 0,
			syn ? min_u32(c->rcv_edge - c->rcv_nxt, UINT16_MAX)
			    : tcp_window(t, c),
			header);
		memcpy(p + TCP_BYTES, options, header - TCP_BYTES);
		if (piece->length > 0)
			tcp_queue_copy(
				t, c, piece->seq, p + header, piece->length);
		net_out_send(t->net, &out, header + piece->length, CHECKSUM_AT,
			piece->segment_bytes);
	}
	c->ack_now = false;
	c->ack_sent = c->rcv_nxt;
	c->unacked_segments = 0;
	c->duplicate = (struct tcp_range){0};
	c->deadline_ns[TCP_TIMER_ACK] = 0;
	return 0;
}

void tcp_output_syn(struct tcp *t, struct tcp_connection *c)
{
	struct piece piece = {.seq = c->iss, .flags = TCP_SYN | TCP_ACK};

	emit(t, c, &piece);
}

void tcp_output_ack(struct tcp *t, struct tcp_connection *c)
{
	struct piece piece = {.seq = c->snd_nxt, .flags = TCP_ACK};

	emit(t, c, &piece);
}

void tcp_output_probe(struct tcp *t, struct tcp_connection *c)
{
	struct piece piece = {.seq = c->snd_una - 1, .flags = TCP_ACK};

	emit(t, c, &piece);
}

void tcp_output_reset(struct tcp *t, struct tcp_connection *c)
{
	struct piece piece = {.seq = c->snd_nxt, .flags = TCP_RST | TCP_ACK};

	t->counters.out_resets++;
	emit(t, c, &piece);
}

void tcp_output_bare(struct tcp *t, const struct tcp_segment *to,
	const struct tcp_bare *bare)
{
	struct piece piece = {.seq = bare->seq, .flags = bare->flags};
	size_t header = TCP_BYTES + bare->option_bytes;
	struct net_out out;

	if (net_out_begin(t->net, to->remote, to->local, IP_TCP, header, &out))
		return;
	net_put16(out.data, to->local_port);
	net_put16(out.data + 2, to->remote_port);
	put_header(out.data, &piece, bare->ack, bare->window, header);
	if (bare->option_bytes > 0)
		memcpy(out.data + TCP_BYTES, bare->options, bare->option_bytes);
	t->counters.out_segments++;
	net_out_send(t->net, &out, header, CHECKSUM_AT, 0);
}

/* Payload of one segment now. */
static uint32_t segment_max(const struct tcp_connection *c)
{
	return c->mss - (uint32_t)tcp_options_bytes(c);
}

/*
 * Send [seq, seq + length) of the sequence space, the FIN included where it
 * stands at the end.
 */
static int send_range(
	struct tcp *t, struct tcp_connection *c, uint32_t seq, uint32_t length)
{
	uint32_t data_end = tcp_data_end(c), end = seq + length;
	bool fin = c->finishing && seq_lt(data_end, end);
	uint32_t max = segment_max(c);
	struct piece piece = {
		.seq = seq, .length = length - fin, .flags = TCP_ACK};
	int rc;

	if (fin)
		piece.flags |= TCP_FIN;
	if (piece.length > 0 && seq + piece.length == data_end)
		piece.flags |= TCP_PSH;
	if (piece.length > max)
		piece.segment_bytes = (uint16_t)max;
	rc = emit(t, c, &piece);
	if (rc)
		return rc;
	if (c->snd_una == c->snd_nxt)
		c->rto_base_ns = t->now_ns;
	c->sent_ns = t->now_ns;
	if (seq_lt(c->snd_nxt, end)) {
		if (!c->timing) {
			c->timing = true;
			c->timed_seq = end;
			c->timed_ns = t->now_ns;
		}
		c->snd_nxt = end;
		if (fin)
			c->fin_sent = true;
	} else {
		t->counters.out_retransmitted++;
		c->timing = false;
	}
	return 0;
}

/* 1 = sent, 0 = nothing to send again, or not now; -EAGAIN. */
static int send_lost(struct tcp *t, struct tcp_connection *c)
{
	uint32_t seq, end, length;
	int rc;

	if (!tcp_lost_next(c, &seq, &end))
		return 0;
	length = min_u32(end - seq, segment_max(c));
	if (!c->force_one && tcp_pipe(c) + length > c->cwnd) {
		c->limited = true;
		return 0;
	}
	rc = send_range(t, c, seq, length);
	if (rc)
		return rc;
	c->force_one = false;
	c->resent_edge = seq + length;
	c->resent_mark = c->snd_nxt;
	return 1;
}

/*
 * What the congestion window leaves. The pipe shrinks with what has arrived
 * out of order, so the first duplicates send one more each (RFC 3042).
 */
static uint32_t cwnd_left(const struct tcp_connection *c)
{
	uint32_t pipe = tcp_pipe(c);

	return c->cwnd > pipe ? c->cwnd - pipe : 0;
}

/* How much new data to send as one piece; 0 = none now. */
static uint32_t new_length(const struct tcp *t, struct tcp_connection *c)
{
	uint32_t unsent = tcp_data_end(c) - c->snd_nxt;
	uint32_t flight = c->snd_nxt - c->snd_una, max = segment_max(c);
	uint32_t window = c->snd_wnd > flight ? c->snd_wnd - flight : 0;
	uint32_t cwnd = cwnd_left(c), tso = t->net->config.device.tso_bytes;
	uint32_t least = min_u32(unsent, max), most;

	if (window < least && !(c->force_one && window > 0) &&
		(window == 0 || window < c->snd_wnd_max / 2))
		return 0;
	least = min_u32(least, window);
	if (cwnd < least && flight > 0) {
		c->limited = true;
		return 0;
	}
	most = max;
	if (tso > max && unsent > max) {
		most = min_u32(min_u32(window, max_u32(cwnd, least)), tso);
		most = most > max ? most - most % max : max;
	}
	return min_u32(min_u32(unsent, window), most);
}

/* As send_lost(), for what was never sent. */
static int send_new(struct tcp *t, struct tcp_connection *c)
{
	uint32_t length = 0;
	bool fin;
	int rc;

	if (c->fin_sent)
		return 0;
	if (seq_lt(c->snd_nxt, tcp_data_end(c))) {
		length = new_length(t, c);
		if (length == 0)
			return 0;
	}
	/* The FIN needs no window: RFC 9293 lets it stand at its edge. */
	fin = c->finishing && c->snd_nxt + length == tcp_data_end(c);
	if (length == 0 && !fin)
		return 0;
	rc = send_range(t, c, c->snd_nxt, length + fin);
	if (rc)
		return rc;
	c->force_one = false;
	return 1;
}

/* Slow start counts half a window in flight as tried. */
static void note_limit(struct tcp_connection *c)
{
	if (c->cwnd < c->ssthresh && c->snd_nxt - c->snd_una >= c->cwnd / 2)
		c->limited = true;
}

/* Lost segments first, then new ones, then what may be lost. */
static int send_all(struct tcp *t, struct tcp_connection *c)
{
	int rc;

	do {
		do
			rc = send_lost(t, c);
		while (rc > 0);
		while (rc >= 0 && (rc = send_new(t, c)) > 0)
			;
	} while (rc == 0 && c->snd_nxt - c->snd_una >= c->queued_bytes &&
		 tcp_recovery_rescue(c));
	return rc;
}

bool tcp_output(struct tcp *t, struct tcp_connection *c)
{
	int rc;

	if (c->state == TCP_SYN_RECEIVED || c->state == TCP_TIME_WAIT) {
		if (c->ack_now)
			tcp_output_ack(t, c);
		return true;
	}
	if (c->snd_una == c->snd_nxt)
		tcp_cwnd_idle(t, c);
	c->limited = false;
	rc = send_all(t, c);
	note_limit(c);
	if (c->ack_now)
		tcp_output_ack(t, c);
	tcp_resend_arm(t, c);
	return rc != -EAGAIN;
}

void tcp_output_tail(struct tcp *t, struct tcp_connection *c)
{
	uint32_t before = c->snd_nxt, length;

	c->probe_sent = true;
	c->probe_was_resend = false;
	if (seq_lt(c->snd_nxt, tcp_data_end(c)) &&
		c->snd_wnd > c->snd_nxt - c->snd_una)
		send_range(t, c, c->snd_nxt,
			min_u32(min_u32(tcp_data_end(c) - c->snd_nxt,
					segment_max(c)),
				c->snd_wnd - (c->snd_nxt - c->snd_una)));
	if (c->snd_nxt == before) {
		length = min_u32(c->snd_nxt - c->snd_una, segment_max(c));
		c->probe_was_resend = true;
		send_range(t, c, c->snd_nxt - length, length);
	}
	c->probe_end = c->snd_nxt;
}
