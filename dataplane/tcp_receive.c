/* tcp_receive.c - bytes in, in order and early (segments -> slab) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

#define ACK_EVERY 2 /* segments with data; RFC 9293, 3.8.6.3 */

static bool holds_input(const struct tcp_connection *c)
{
	return c->unread_bytes > 0 || c->range_count > 0;
}

static void slab_release(struct tcp *t, struct tcp_connection *c)
{
	if (c->slab != TCP_NONE)
		unit_pool_put(&t->slabs, c->slab);
	c->slab = TCP_NONE;
	c->unread_start = 0;
}

void tcp_input_drop(struct tcp *t, struct tcp_connection *c)
{
	c->unread_bytes = 0;
	c->range_count = 0;
	slab_release(t, c);
}

void tcp_input_consume(struct tcp *t, struct tcp_connection *c, uint32_t bytes)
{
	c->unread_start += bytes;
	c->unread_bytes -= bytes;
	if (!holds_input(c))
		slab_release(t, c);
	if (tcp_window_grew(t, c)) {
		c->ack_now = true;
		tcp_mark_flush(t, c);
	}
}

/* --- the window --- */

/* The right edge that the free room allows. */
static uint32_t edge_possible(
	const struct tcp *t, const struct tcp_connection *c)
{
	uint32_t room = t->config.receive_bytes - c->unread_bytes;

	return c->rcv_nxt + min_u32(room, (uint32_t)UINT16_MAX << c->rcv_scale);
}

/* RFC 9293, 3.8.6.2.2: the least step worth telling; a quarter, not half, so
 * that a small buffer is no stop-and-wait. */
static uint32_t step_of(const struct tcp *t, uint32_t segments)
{
	return min_u32(
		t->config.receive_bytes / 2, segments * tcp_mss_local(t, true));
}

bool tcp_window_grew(const struct tcp *t, const struct tcp_connection *c)
{
	uint32_t gain = edge_possible(t, c) - c->rcv_edge;

	return tcp_receives(c) && !c->closing && (int32_t)gain > 0 &&
	       gain >= step_of(t, 2);
}

uint32_t tcp_window(struct tcp *t, struct tcp_connection *c)
{
	uint32_t edge = edge_possible(t, c);
	uint32_t value;

	if ((int32_t)(edge - c->rcv_edge) < (int32_t)step_of(t, 1))
		edge = c->rcv_edge;
	value = (edge - c->rcv_nxt) >> c->rcv_scale;
	if (value > UINT16_MAX)
		value = UINT16_MAX;
	c->rcv_edge =
		seq_max(c->rcv_edge, c->rcv_nxt + (value << c->rcv_scale));
	return value;
}

/* --- islands --- */

/*
 * Enter [start, end) among the islands; false = it would be one too many.
 * *out_known: all of it was there.
 */
static bool island_add(
	struct tcp_connection *c, uint32_t start, uint32_t end, bool *out_known)
{
	struct tcp_range *r = c->ranges;
	uint32_t first = 0, last;

	while (first < c->range_count && seq_lt(r[first].end, start))
		first++;
	last = first;
	while (last < c->range_count && seq_le(r[last].start, end))
		last++;
	*out_known = false;
	if (first == last) {
		if (c->range_count == TCP_RANGE_COUNT_MAX)
			return false;
		memmove(&r[first + 1], &r[first],
			(c->range_count - first) * sizeof(*r));
		r[first] = (struct tcp_range){start, end};
		c->range_count++;
	} else {
		*out_known = seq_le(r[first].start, start) &&
			     seq_le(end, r[first].end);
		r[first].start = seq_min(r[first].start, start);
		r[first].end = seq_max(r[last - 1].end, end);
		memmove(&r[first + 1], &r[last],
			(c->range_count - last) * sizeof(*r));
		c->range_count = (uint8_t)(c->range_count - (last - first - 1));
	}
	c->range_latest = start;
	return true;
}

/* Islands that rcv_nxt has reached are in order now. */
static bool islands_join(struct tcp_connection *c)
{
	uint32_t count = 0;

	while (count < c->range_count &&
		seq_le(c->ranges[count].start, c->rcv_nxt)) {
		c->rcv_nxt = seq_max(c->rcv_nxt, c->ranges[count].end);
		count++;
	}
	c->range_count = (uint8_t)(c->range_count - count);
	memmove(c->ranges, c->ranges + count,
		c->range_count * sizeof(c->ranges[0]));
	return count > 0;
}

/* --- storing --- */

/* The bytes from unread_start to the end of the last island. */
static uint32_t extent_of(const struct tcp_connection *c)
{
	uint32_t end =
		c->range_count ? c->ranges[c->range_count - 1].end : c->rcv_nxt;

	return c->unread_bytes + (end - c->rcv_nxt);
}

/* Where the byte at `seq` belongs, with room for `length`. */
static uint8_t *place_of(
	struct tcp *t, struct tcp_connection *c, uint32_t seq, uint32_t length)
{
	uint8_t *slab = unit_pool_bytes(&t->slabs, c->slab);
	uint32_t at = c->unread_bytes + (seq - c->rcv_nxt);

	assert(at + length <= t->config.receive_bytes);
	if (c->unread_start + at + length > t->config.receive_bytes) {
		memmove(slab, slab + c->unread_start, extent_of(c));
		c->unread_start = 0;
	}
	return slab + c->unread_start + at;
}

/* What needs no buffer: the layer above has closed. */
static bool swallow(struct tcp_connection *c, uint32_t seq, uint32_t length)
{
	c->ack_now = true;
	if (seq != c->rcv_nxt)
		return false;
	c->rcv_nxt += length;
	return true;
}

/* False: not taken, the peer will send it again. */
static bool store(struct tcp *t, struct tcp_connection *c, uint32_t seq,
	const uint8_t *data, uint32_t length)
{
	bool early = seq != c->rcv_nxt, known;
	uint32_t before = c->rcv_nxt;

	if (c->slab == TCP_NONE)
		c->slab = unit_pool_get(&t->slabs);
	if (c->slab == TCP_NONE) {
		t->counters.in_no_slab++;
		return false;
	}
	/* First the place: it is found by islands that are not moved yet. */
	memcpy(place_of(t, c, seq, length), data, length);
	if (early) {
		t->counters.in_out_of_order++;
		c->ack_now = true;
		if (!island_add(c, seq, seq + length, &known)) {
			/* Islands hold the slab already. */
			t->counters.in_no_island++;
			return false;
		}
		if (known)
			c->duplicate = (struct tcp_range){seq, seq + length};
		return true;
	}
	c->rcv_nxt += length;
	if (islands_join(c))
		c->ack_now = true;
	c->unread_bytes += c->rcv_nxt - before;
	c->news_data = true;
	tcp_mark_ready(t, c);
	return true;
}

/* --- FIN --- */

static void fin_take(struct tcp *t, struct tcp_connection *c)
{
	c->rcv_nxt++;
	/* The FIN has a number of its own, behind the window if need be. */
	c->rcv_edge = seq_max(c->rcv_edge, c->rcv_nxt);
	c->fin_received = true;
	c->has_fin_early = false;
	c->ack_now = true;
	if (!c->closing) {
		c->news_done = true;
		tcp_mark_ready(t, c);
	}
	if (c->state == TCP_ESTABLISHED)
		tcp_set_state(t, c, TCP_CLOSE_WAIT);
	else if (c->state == TCP_FIN_WAIT_1)
		tcp_set_state(t, c, TCP_CLOSING);
	else
		tcp_connection_wait(t, c);
}

static void ack_policy(struct tcp *t, struct tcp_connection *c)
{
	if (++c->unacked_segments >= ACK_EVERY)
		c->ack_now = true;
	else if (c->deadline_ns[TCP_TIMER_ACK] == 0)
		tcp_timer_set(t, c, TCP_TIMER_ACK,
			t->now_ns + t->config.delayed_ack_ns);
}

/* Cut what lies outside of what may come; false = nothing is left. */
static bool trim(struct tcp_connection *c, struct tcp_segment *s)
{
	uint32_t limit = c->has_fin_early ? seq_min(c->rcv_edge, c->fin_seq)
					  : c->rcv_edge;
	uint32_t skip;

	if (seq_lt(s->seq, c->rcv_nxt)) {
		skip = min_u32(c->rcv_nxt - s->seq, s->length);
		if (skip > 0)
			c->duplicate =
				(struct tcp_range){s->seq, s->seq + skip};
		s->seq += skip;
		s->data += skip;
		s->length -= skip;
		c->ack_now = true;
		/* Of a FIN alone that is old nothing can be left. */
		if (seq_lt(s->seq, c->rcv_nxt))
			return false;
	}
	if (seq_lt(limit, s->seq + s->length)) {
		c->ack_now = true;
		s->length = seq_lt(s->seq, limit) ? limit - s->seq : 0;
		s->flags &= (uint8_t)~TCP_FIN;
	}
	return s->length > 0 || (s->flags & TCP_FIN);
}

void tcp_receive(struct tcp *t, struct tcp_connection *c,
	const struct tcp_segment *segment)
{
	struct tcp_segment s = *segment;
	bool taken = true;

	if (s.length == 0 && !(s.flags & TCP_FIN))
		return;
	if (!tcp_receives(c)) {
		c->ack_now = true;
		return;
	}
	if (!trim(c, &s))
		return;
	if (s.length > 0) {
		taken = c->closing ? swallow(c, s.seq, s.length)
				   : store(t, c, s.seq, s.data, s.length);
		if (taken)
			ack_policy(t, c);
	}
	if (!taken) {
		c->ack_now = true;
		return;
	}
	if (s.flags & TCP_FIN) {
		c->has_fin_early = true;
		c->fin_seq = s.seq + s.length;
	}
	if (c->has_fin_early && c->fin_seq == c->rcv_nxt)
		fin_take(t, c);
	else if (s.flags & TCP_FIN)
		c->ack_now = true;
}
