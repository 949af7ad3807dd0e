/* tcp_move.c - a live connection as bytes, and back (connection <-> image) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image:  a head, the connection's structure, the queued bytes, the unread
 *         bytes with the islands behind them. Times are ages and times left
 *         in it, since two clocks have different zeros; so is the clock of
 *         the timestamps. It is of one build: the head says version and size.
 * Trust:  an import is looked at as if a stranger had sent it; what the other
 *         files assert has to hold afterwards.
 */
#include <math.h>

#include "dataplane/tcp_private.h"

#define IMAGE_MAGIC 0x31504354u /* "TCP1" */

struct image_head {
	uint32_t magic, connection_bytes;
	uint32_t queue_bytes, input_bytes;
	struct net_address local_address;
};

/* Fields that hold a moment of the past; 0 stays 0 ("never"). */
static void past_times(struct tcp_connection *c, uint64_t *out[8])
{
	uint64_t *all[8] = {&c->ts_recent_ns, &c->timed_ns, &c->rto_base_ns,
		&c->sent_ns, &c->progress_ns, &c->heard_ns, &c->challenge_ns,
		&c->cubic.epoch_ns};

	memcpy(out, all, sizeof(all));
}

static uint32_t extent_of(const struct tcp_connection *c)
{
	uint32_t end =
		c->range_count ? c->ranges[c->range_count - 1].end : c->rcv_nxt;

	return c->unread_bytes + (end - c->rcv_nxt);
}

size_t tcp_export_bytes(const struct tcp *t, struct tcp_id id)
{
	const struct tcp_connection *c = tcp_connection_of(t, id);

	return c ? sizeof(struct image_head) + sizeof(*c) + c->queued_bytes +
			       extent_of(c)
		 : 0;
}

/* The connection without what only means something here. */
static void pack(const struct tcp *t, struct tcp_connection *c)
{
	uint64_t *past[8];

	past_times(c, past);
	for (int i = 0; i < 8; i++)
		if (*past[i])
			*past[i] = t->now_ns - *past[i] + 1;
	for (int i = 0; i < TCP_TIMER_COUNT; i++)
		if (c->deadline_ns[i])
			c->deadline_ns[i] =
				c->deadline_ns[i] > t->now_ns
					? c->deadline_ns[i] - t->now_ns
					: 1;
	c->ts_offset += tcp_clock_ms(t);
	c->generation = 0;
	c->flush_next = c->ready_next = TCP_NONE;
	c->list_next = c->list_previous = TCP_NONE;
	c->flush_queued = c->ready_queued = false;
	c->first_block = c->last_block = c->cursor_block = UNIT_NONE;
	c->first_offset = c->last_used = c->block_count = c->cursor_seq = 0;
	c->slab = TCP_NONE;
	c->unread_start = 0;
}

int tcp_export(struct tcp *t, struct tcp_id id, uint8_t *out, size_t size,
	size_t *out_length)
{
	struct tcp_connection *c = tcp_connection_of(t, id), image;
	size_t length = tcp_export_bytes(t, id);
	struct image_head head = {IMAGE_MAGIC, sizeof(*c), 0, 0, {{0}}};

	if (!c)
		return -ENOTCONN;
	if (size < length)
		return -ENOSPC;
	head.queue_bytes = c->queued_bytes;
	head.input_bytes = extent_of(c);
	head.local_address = t->net->local[c->local];
	image = *c;
	pack(t, &image);
	memcpy(out, &head, sizeof(head));
	memcpy(out + sizeof(head), &image, sizeof(image));
	out += sizeof(head) + sizeof(image);
	if (c->queued_bytes > 0)
		tcp_queue_copy(t, c, c->snd_una, out, c->queued_bytes);
	if (head.input_bytes > 0)
		memcpy(out + c->queued_bytes,
			unit_pool_bytes(&t->slabs, c->slab) + c->unread_start,
			head.input_bytes);
	*out_length = length;
	/* Silently: the peer shall not notice, nor the layer above. */
	c->owned = false;
	t->open_count--;
	tcp_connection_end(t, c, TCP_END_CLEAN);
	return 0;
}

/* --- import --- */

static bool flags_are_sound(const struct tcp_connection *c)
{
	const uint8_t flags[] = {c->flush_queued, c->ready_queued,
		c->has_timestamps, c->has_sack, c->has_scale, c->owned,
		c->finishing, c->closing, c->news_opened, c->news_data,
		c->news_room, c->news_done, c->news_closed, c->fin_sent,
		c->ack_now, c->probe_sent, c->probe_was_resend, c->force_one,
		c->limited, c->timing, c->fin_received, c->has_fin_early};

	for (size_t i = 0; i < sizeof(flags); i++)
		if (flags[i] > 1)
			return false;
	return true;
}

/* Ascending, apart, within (low, high]. */
static bool ranges_are_sound(
	const struct tcp_range *r, uint32_t count, uint32_t low, uint32_t high)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!seq_lt(low, r[i].start) || !seq_lt(r[i].start, r[i].end) ||
			!seq_le(r[i].end, high))
			return false;
		low = r[i].end;
	}
	return true;
}

/* Do the flags of both FINs fit the state? */
static bool state_is_sound(const struct tcp_connection *c)
{
	bool finishing = c->state >= TCP_FIN_WAIT_1;
	bool done = c->state == TCP_CLOSE_WAIT || c->state == TCP_CLOSING ||
		    c->state == TCP_LAST_ACK || c->state == TCP_TIME_WAIT;

	if (c->state < TCP_ESTABLISHED || c->state > TCP_TIME_WAIT)
		return false;
	if (c->finishing != finishing || c->fin_received != done ||
		(c->fin_sent && !finishing) || (c->closing && !finishing))
		return false;
	if (c->state == TCP_TIME_WAIT && c->closing)
		return false; /* over: nobody could have exported it */
	return (c->state != TCP_FIN_WAIT_2 && c->state != TCP_TIME_WAIT) ||
	       (c->fin_sent && c->snd_una == c->snd_nxt);
}

static bool output_is_sound(const struct tcp *t, const struct tcp_connection *c)
{
	uint32_t flight = c->snd_nxt - c->snd_una;
	bool acked; /* the FIN and all before it */

	if (c->queued_bytes > t->config.send_bytes)
		return false;
	acked = flight == 0 && c->queued_bytes == 0 &&
		(c->state == TCP_FIN_WAIT_2 || c->state == TCP_TIME_WAIT ||
			(c->state == TCP_LAST_ACK && !c->closing));
	if (c->fin_sent ? !acked && flight != c->queued_bytes + 1
			: flight > c->queued_bytes)
		return false;
	return c->snd_wnd <= 1u << 30 && c->snd_wnd_max <= 1u << 30 &&
	       c->mss >= TCP_MSS_MIN && c->mss <= NET_MTU_BYTES_MAX &&
	       c->peer_mss >= TCP_MSS_MIN && c->snd_scale <= TCP_SCALE_MAX &&
	       c->recovery <= TCP_LOSS && c->resend <= TCP_RESEND_WINDOW &&
	       c->backoff <= TCP_BACKOFF_MAX &&
	       c->want <= t->config.send_bytes &&
	       c->sacked_count <= TCP_SACKED_COUNT_MAX &&
	       ranges_are_sound(
		       c->sacked, c->sacked_count, c->snd_una, c->snd_nxt);
}

static bool input_is_sound(const struct tcp *t, const struct tcp_connection *c)
{
	uint32_t window = c->rcv_edge - c->rcv_nxt;

	if (c->unread_bytes > t->config.receive_bytes ||
		window > t->config.receive_bytes - c->unread_bytes ||
		c->rcv_scale > TCP_SCALE_MAX ||
		c->range_count > TCP_RANGE_COUNT_MAX)
		return false;
	if (c->has_fin_early && c->fin_seq - c->rcv_nxt > window)
		return false;
	if ((c->closing && (c->unread_bytes || c->range_count)) ||
		(c->fin_received && (c->range_count || c->has_fin_early)))
		return false;
	return ranges_are_sound(
		c->ranges, c->range_count, c->rcv_nxt, c->rcv_edge);
}

/* Numbers that only have to be in a range are brought into it. */
static void unpack(const struct tcp *t, struct tcp_connection *c)
{
	uint64_t *past[8];

	past_times(c, past);
	for (int i = 0; i < 8; i++)
		if (*past[i])
			*past[i] = t->now_ns >= *past[i]
					   ? t->now_ns - *past[i] + 1
					   : 1;
	for (int i = 0; i < TCP_TIMER_COUNT; i++)
		if (c->deadline_ns[i])
			c->deadline_ns[i] =
				t->now_ns +
				min_u64(c->deadline_ns[i],
					30 * UINT64_C(86400) * NS_PER_S);
	c->ts_offset -= tcp_clock_ms(t);
	c->rto_ns = max_u64(c->rto_ns, 1 << TIMER_WHEEL_TICK_SHIFT);
	c->rto_ns = min_u64(c->rto_ns, t->config.rto_max_ns);
	c->srtt_ns = min_u64(c->srtt_ns, t->config.rto_max_ns);
	c->rttvar_ns = min_u64(c->rttvar_ns, t->config.rto_max_ns);
	c->cwnd = min_u32(max_u32(c->cwnd, c->mss), 1u << 30);
	c->ssthresh = max_u32(c->ssthresh, 2u * c->mss);
	c->lost_edge = seq_max(c->snd_una, seq_min(c->lost_edge, c->snd_nxt));
	c->resent_edge =
		seq_max(c->snd_una, seq_min(c->resent_edge, c->snd_nxt));
	if (!isfinite(c->cubic.w_max) || !isfinite(c->cubic.k_s) ||
		!isfinite(c->cubic.w_est))
		c->cubic = (struct tcp_cubic){0};
	c->owned = true;
	c->news_opened = c->news_closed = c->news_room = false;
	c->news_data = c->unread_bytes > 0;
	c->news_done = c->fin_received && !c->closing;
	c->end = TCP_END_CLEAN;
}

static int image_check(const struct tcp *t, const struct image_head *head,
	const struct tcp_connection *c, size_t rest)
{
	if (head->magic != IMAGE_MAGIC ||
		head->connection_bytes != sizeof(*c) ||
		rest < head->queue_bytes ||
		rest - head->queue_bytes != head->input_bytes)
		return -EINVAL;
	if (!flags_are_sound(c) || !state_is_sound(c) ||
		!output_is_sound(t, c) || !input_is_sound(t, c) ||
		head->queue_bytes != c->queued_bytes ||
		head->input_bytes != extent_of(c))
		return -EINVAL;
	if (c->local >= NET_LOCAL_COUNT || !t->net->local_set[c->local] ||
		!net_same(&head->local_address, &t->net->local[c->local]) ||
		net_is_ip4(&c->remote) != (c->local == NET_LOCAL_IP4))
		return -EADDRNOTAVAIL;
	return 0;
}

static int room_check(
	const struct tcp *t, const struct tcp_connection *image, uint32_t input)
{
	struct tcp_segment s = {.remote = &image->remote,
		.local = image->local,
		.local_port = image->local_port,
		.remote_port = image->remote_port};
	uint32_t blocks = image->queued_bytes / TCP_BLOCK_BYTES + 1;

	if (tcp_connection_find(t, &s))
		return -EEXIST;
	if (t->open_count >= t->config.open_count ||
		unit_pool_left(&t->blocks) < blocks ||
		(input > 0 && unit_pool_left(&t->slabs) == 0))
		return -ENOSPC;
	return 0;
}

/* Take the image's fields into a connection of this instance. */
static void adopt(struct tcp *t, struct tcp_connection *c,
	const struct tcp_connection *image)
{
	struct tcp_connection fresh = *c;

	*c = *image;
	unpack(t, c);
	c->generation = fresh.generation;
	c->flush_next = fresh.flush_next;
	c->ready_next = fresh.ready_next;
	c->flush_queued = fresh.flush_queued;
	c->ready_queued = fresh.ready_queued;
	c->first_block = c->last_block = c->cursor_block = UNIT_NONE;
	c->first_offset = c->last_used = c->block_count = 0;
	c->slab = TCP_NONE;
	c->unread_start = c->queued_bytes = 0;
	c->listener = 0;
	for (uint32_t i = 0; i < t->listener_count; i++)
		if (t->listeners[i].port == c->local_port)
			c->listener = (uint8_t)i;
	c->state = TCP_FREE;
	tcp_set_state(t, c, (enum tcp_state)image->state);
	tcp_connection_enter(t, c);
	t->open_count++;
}

int tcp_import(
	struct tcp *t, const uint8_t *data, size_t length, struct tcp_id *out)
{
	struct tcp_connection image, *c;
	struct image_head head;
	int rc;

	if (length < sizeof(head) + sizeof(image))
		return -EINVAL;
	memcpy(&head, data, sizeof(head));
	memcpy(&image, data + sizeof(head), sizeof(image));
	data += sizeof(head) + sizeof(image);
	t->now_ns = t->net->now.ns;
	rc = image_check(
		t, &head, &image, length - sizeof(head) - sizeof(image));
	if (rc == 0)
		rc = room_check(t, &image, head.input_bytes);
	if (rc)
		return rc;
	c = tcp_connection_get(t);
	if (!c)
		return -ENOSPC;
	adopt(t, c, &image);
	tcp_queue_add(t, c, data, head.queue_bytes);
	if (head.input_bytes > 0) {
		c->slab = unit_pool_get(&t->slabs);
		memcpy(unit_pool_bytes(&t->slabs, c->slab),
			data + head.queue_bytes, head.input_bytes);
	}
	for (int i = 0; i < TCP_TIMER_COUNT; i++)
		tcp_timer_set(t, c, (enum tcp_timer)i, c->deadline_ns[i]);
	*out = (struct tcp_id){tcp_index(t, c), c->generation};
	if (c->news_data || c->news_done)
		tcp_mark_ready(t, c);
	tcp_mark_flush(t, c);
	return 0;
}
