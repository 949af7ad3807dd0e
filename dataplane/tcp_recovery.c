/* tcp_recovery.c - what is lost, what is in flight (RFC 6675, 6582, 8985) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Below lost_edge, whatever the peer has not sacked is lost; what of that is
 * below resent_edge has been sent again. After a timeout lost_edge is all that
 * was sent. In fast recovery it rises to where three segments above it have
 * arrived. A hole that was sent again, above which three segments that left
 * later have arrived, is lost once more: resent_edge goes back.
 * RFC 2018 lets a peer take SACKs back; from the second timeout in a row on
 * they are forgotten.
 */
#include "dataplane/tcp_private.h"

#define BLACK_HOLE_COUNT 3 /* timeouts before segments get smaller */

static uint32_t highest_sacked(const struct tcp_connection *c)
{
	return c->sacked_count ? c->sacked[c->sacked_count - 1].end
			       : c->snd_una;
}

/* Sacked bytes in [from, to). */
static uint32_t sacked_within(
	const struct tcp_connection *c, uint32_t from, uint32_t to)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < c->sacked_count; i++) {
		uint32_t start = seq_max(c->sacked[i].start, from);
		uint32_t end = seq_min(c->sacked[i].end, to);

		if (seq_lt(start, end))
			bytes += end - start;
	}
	return bytes;
}

/* Enter a range; false = all of it was known, or there is no place for it. */
static bool sacked_add(struct tcp_connection *c, uint32_t start, uint32_t end)
{
	struct tcp_range *r = c->sacked;
	uint32_t first = 0, last;

	while (first < c->sacked_count && seq_lt(r[first].end, start))
		first++;
	last = first;
	while (last < c->sacked_count && seq_le(r[last].start, end))
		last++;
	if (first == last) {
		if (c->sacked_count == TCP_SACKED_COUNT_MAX)
			return false;
		memmove(&r[first + 1], &r[first],
			(c->sacked_count - first) * sizeof(*r));
		r[first] = (struct tcp_range){start, end};
		c->sacked_count++;
		return true;
	}
	if (seq_le(r[first].start, start) && seq_le(end, r[first].end))
		return false;
	r[first].start = seq_min(r[first].start, start);
	r[first].end = seq_max(r[last - 1].end, end);
	memmove(&r[first + 1], &r[last], (c->sacked_count - last) * sizeof(*r));
	c->sacked_count = (uint8_t)(c->sacked_count - (last - first - 1));
	return true;
}

/* RFC 2883: the first block tells of bytes that came twice. */
static bool is_duplicate_report(const struct tcp_segment *s)
{
	const struct tcp_range *a = &s->sack[0], *b = &s->sack[1];

	return s->sack_count > 0 &&
	       (seq_le(a->end, s->ack) ||
		       (s->sack_count > 1 && seq_le(b->start, a->start) &&
			       seq_le(a->end, b->end)));
}

bool tcp_sack_input(struct tcp *t, struct tcp_connection *c,
	const struct tcp_segment *s, bool *out_duplicate)
{
	uint32_t low = seq_max(s->ack, c->snd_una);
	bool news = false;

	(void)t;
	*out_duplicate = is_duplicate_report(s);
	for (uint32_t i = *out_duplicate; i < s->sack_count; i++) {
		const struct tcp_range *r = &s->sack[i];

		if (seq_lt(r->start, r->end) && seq_lt(low, r->start) &&
			seq_le(r->end, c->snd_nxt))
			news |= sacked_add(c, r->start, r->end);
	}
	return news;
}

void tcp_sacked_trim(struct tcp_connection *c)
{
	uint32_t count = 0;

	while (count < c->sacked_count &&
		seq_le(c->sacked[count].end, c->snd_una))
		count++;
	c->sacked_count = (uint8_t)(c->sacked_count - count);
	memmove(c->sacked, c->sacked + count,
		c->sacked_count * sizeof(c->sacked[0]));
	/* An ACK into the middle of one: the peer has all before. */
	if (c->sacked_count > 0 && seq_lt(c->sacked[0].start, c->snd_una))
		c->sacked[0].start = c->snd_una;
	c->lost_edge = seq_max(c->lost_edge, c->snd_una);
	c->resent_edge = seq_max(c->resent_edge, c->snd_una);
}

uint32_t tcp_pipe(const struct tcp_connection *c)
{
	uint32_t flight = c->snd_nxt - c->snd_una, gone;

	gone = sacked_within(c, c->snd_una, c->snd_nxt);
	if (seq_lt(c->resent_edge, c->lost_edge))
		gone += c->lost_edge - c->resent_edge -
			sacked_within(c, c->resent_edge, c->lost_edge);
	if (!c->has_sack)
		gone += min_u32(c->duplicate_count, flight / c->mss) * c->mss;
	return flight > gone ? flight - gone : 0;
}

bool tcp_lost_next(
	const struct tcp_connection *c, uint32_t *out_seq, uint32_t *out_end)
{
	uint32_t from = c->resent_edge, end = c->lost_edge;

	for (uint32_t i = 0; i < c->sacked_count; i++) {
		const struct tcp_range *r = &c->sacked[i];

		if (seq_le(r->end, from))
			continue;
		if (seq_lt(from, r->start)) {
			end = seq_min(end, r->start);
			break;
		}
		from = r->end;
	}
	*out_seq = from;
	*out_end = end;
	return c->recovery != TCP_OPEN && seq_lt(from, end);
}

/* Raise lost_edge to below three segments that have arrived. */
static void mark_lost(struct tcp_connection *c)
{
	uint32_t bytes = 0, count = 0;

	for (uint32_t i = c->sacked_count; i-- > 0;) {
		bytes += c->sacked[i].end - c->sacked[i].start;
		count++;
		if (bytes > (TCP_DUPLICATE_COUNT - 1) * c->mss ||
			count >= TCP_DUPLICATE_COUNT) {
			c->lost_edge =
				seq_max(c->lost_edge, c->sacked[i].start);
			return;
		}
	}
}

/* The first hole at least: as long as the peer has named its end. */
static void mark_first(struct tcp_connection *c)
{
	uint32_t end = c->sacked_count
			       ? c->sacked[0].start
			       : seq_min(c->snd_una + c->mss, c->snd_nxt);

	c->lost_edge = seq_max(c->lost_edge, end);
}

bool tcp_recovery_rescue(struct tcp_connection *c)
{
	uint32_t edge = c->sacked_count ? c->sacked[c->sacked_count - 1].start
					: c->snd_una;

	if (c->recovery != TCP_FAST || seq_le(edge, c->lost_edge))
		return false;
	c->lost_edge = edge;
	return true;
}

static void fast_begin(struct tcp *t, struct tcp_connection *c)
{
	t->counters.fast_recoveries++;
	tcp_cwnd_reduce(t, c);
	c->recovery = TCP_FAST;
	c->recover = c->resent_mark = c->snd_nxt;
	c->resent_edge = c->lost_edge = c->snd_una;
	c->force_one = true;
	c->timing = false;
	mark_first(c);
	mark_lost(c);
}

void tcp_recovery_detect(struct tcp *t, struct tcp_connection *c)
{
	uint32_t sacked = sacked_within(c, c->snd_una, c->snd_nxt);

	if (c->recovery == TCP_OPEN) {
		if (c->duplicate_count >= TCP_DUPLICATE_COUNT ||
			sacked > (TCP_DUPLICATE_COUNT - 1) * c->mss ||
			c->sacked_count >= TCP_DUPLICATE_COUNT)
			fast_begin(t, c);
		return;
	}
	mark_lost(c);
	if (c->sacked_count > 0 && seq_lt(c->snd_una, c->resent_edge) &&
		seq_lt(c->resent_mark + TCP_DUPLICATE_COUNT * c->mss,
			highest_sacked(c))) {
		c->resent_edge = c->snd_una;
		c->resent_mark = c->snd_nxt;
	}
}

static void recovery_end(struct tcp_connection *c)
{
	c->recovery = TCP_OPEN;
	c->duplicate_count = 0;
	c->lost_edge = c->resent_edge = c->snd_una;
	c->force_one = false;
}

void tcp_recovery_progress(
	struct tcp *t, struct tcp_connection *c, uint32_t acked)
{
	if (c->recovery == TCP_OPEN) {
		c->duplicate_count = 0;
		tcp_cwnd_acked(t, c, acked);
		if (c->sacked_count > 0)
			tcp_recovery_detect(t, c);
		return;
	}
	if (seq_le(c->recover, c->snd_una)) {
		recovery_end(c);
		if (c->sacked_count > 0)
			tcp_recovery_detect(t, c);
		return;
	}
	if (c->recovery == TCP_LOSS) {
		tcp_cwnd_acked(t, c, acked);
		return;
	}
	/* A partial ACK (RFC 6582): the next hole is lost too. */
	if (!c->has_sack) {
		c->duplicate_count -=
			min_u32(c->duplicate_count, acked / c->mss);
		c->resent_edge = c->snd_una;
		c->force_one = true;
	}
	mark_first(c);
	mark_lost(c);
}

/* Segments vanish for good: perhaps only the large ones do (RFC 4821). */
static void shrink(struct tcp_connection *c)
{
	uint16_t small = net_is_ip4(&c->remote) ? 536 : 1220;

	if (c->mss > small)
		c->mss = small;
}

void tcp_recovery_timeout(struct tcp *t, struct tcp_connection *c)
{
	if (c->recovery != TCP_LOSS)
		tcp_cwnd_reduce(t, c);
	if (c->backoff >= 1)
		c->sacked_count = 0;
	if (c->backoff >= BLACK_HOLE_COUNT)
		shrink(c);
	c->recovery = TCP_LOSS;
	c->cwnd = c->mss;
	c->cubic.epoch_ns = 0;
	c->recover = c->lost_edge = c->resent_mark = c->snd_nxt;
	c->resent_edge = c->snd_una;
	c->duplicate_count = 0;
	c->force_one = true;
	c->timing = false;
	c->probe_sent = false;
}
