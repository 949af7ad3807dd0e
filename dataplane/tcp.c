/* tcp.c - what the layers above and below call (net.h, streams <-> TCP) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/mman.h>

#include "dataplane/net_checksum.h"
#include "dataplane/tcp_private.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define DEFAULT(field, value)                                                  \
	((field) = (field) ? (field) : (value)) /* 0 = not set */

static void set_defaults(struct tcp_config *c)
{
	DEFAULT(c->open_count, c->connection_count);
	DEFAULT(c->half_open_count, (c->connection_count + 3) / 4);
	DEFAULT(c->rto_min_ns, 200 * NS_PER_MS);
	DEFAULT(c->rto_initial_ns, 1 * NS_PER_S);
	DEFAULT(c->rto_max_ns, 60 * NS_PER_S);
	DEFAULT(c->delayed_ack_ns, 10 * NS_PER_MS);
	DEFAULT(c->probe_slack_ns, 2 * NS_PER_MS);
	DEFAULT(c->peer_ack_delay_ns, 60 * NS_PER_MS);
	DEFAULT(c->user_timeout_ns, 60 * NS_PER_S);
	DEFAULT(c->keep_alive_ns, 7200 * NS_PER_S);
	DEFAULT(c->keep_alive_interval_ns, 75 * NS_PER_S);
	DEFAULT(c->keep_alive_count, 9);
	DEFAULT(c->time_wait_ns, 60 * NS_PER_S);
	DEFAULT(c->fin_wait_2_ns, 60 * NS_PER_S);
}

static int check_config(const struct tcp_config *c, struct error *err)
{
	if (c->connection_count == 0 ||
		c->connection_count > TCP_CONNECTION_COUNT_MAX ||
		c->open_count > c->connection_count)
		return error_set(err, EINVAL, "%u connections, %u open",
			c->connection_count, c->open_count);
	if (c->send_bytes < TCP_BUFFER_BYTES_MIN ||
		c->send_bytes > TCP_BUFFER_BYTES_MAX ||
		c->receive_bytes < TCP_BUFFER_BYTES_MIN ||
		c->receive_bytes > TCP_BUFFER_BYTES_MAX)
		return error_set(err, EINVAL,
			"buffers of %u and %u bytes are not in %u to %u",
			c->send_bytes, c->receive_bytes, TCP_BUFFER_BYTES_MIN,
			TCP_BUFFER_BYTES_MAX);
	if (c->send_total_bytes < c->send_bytes ||
		c->receive_total_bytes < c->receive_bytes ||
		c->send_total_bytes / TCP_BLOCK_BYTES >= UINT32_MAX ||
		c->receive_total_bytes / c->receive_bytes >= UINT32_MAX)
		return error_set(err, EINVAL, "total bytes are out of range");
	return 0;
}

/*
 * Zeroed memory in large pages where there are any: with 100,000 connections
 * most of what a segment costs is otherwise spent on finding pages.
 */
static void *table_alloc(size_t count, size_t size)
{
	size_t bytes = count * size; /* bounded by TCP_CONNECTION_COUNT_MAX */
	void *memory = NULL;

	if (posix_memalign(&memory,
		    bytes < HUGE_BYTES ? CACHE_LINE_BYTES : HUGE_BYTES, bytes))
		return NULL;
	if (bytes >= HUGE_BYTES)
		(void)madvise(memory, bytes, MADV_HUGEPAGE);
	memset(memory, 0, bytes);
	return memory;
}

static int make_tables(struct tcp *t)
{
	const struct tcp_config *c = &t->config;
	uint32_t slab_bytes = (c->receive_bytes + 7) & ~7u;

	t->place_count = 1;
	while (t->place_count < c->connection_count * 2)
		t->place_count *= 2;
	t->connections =
		table_alloc(c->connection_count, sizeof(*t->connections));
	t->places = table_alloc(t->place_count, sizeof(*t->places));
	t->spent_count = t->place_count < 2 * TCP_SPENT_WAYS
				 ? TCP_SPENT_WAYS
				 : t->place_count / 2;
	t->spent = table_alloc(t->spent_count, sizeof(*t->spent));
	if (!t->connections || !t->places || !t->spent)
		return -ENOMEM;
	if (timer_wheel_init(&t->wheel, c->connection_count, t->now_ns) ||
		unit_pool_init(&t->blocks, TCP_BLOCK_BYTES,
			(uint32_t)(c->send_total_bytes / TCP_BLOCK_BYTES)) ||
		unit_pool_init(&t->slabs, slab_bytes,
			(uint32_t)(c->receive_total_bytes / c->receive_bytes)))
		return -ENOMEM;
	t->free = t->time_wait = t->flush = t->ready =
		(struct tcp_list){TCP_NONE, TCP_NONE};
	for (uint32_t i = c->connection_count; i-- > 0;) {
		t->connections[i].list_next = t->free.first;
		t->free.first = i;
	}
	return 0;
}

int tcp_create(struct net_stack *n, const struct tcp_config *config,
	struct tcp **out, struct error *err)
{
	struct siphash_key secret;
	int rc = check_config(config, err);
	struct tcp *t;

	if (rc)
		return rc;
	t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(err, ENOMEM, "no memory for TCP");
	t->net = n;
	t->config = *config;
	t->now_ns = n->now.ns;
	set_defaults(&t->config);
	memcpy(&secret, n->config.secret, sizeof(secret));
	t->hash_key = siphash_derive(&secret, "tcp table");
	t->isn_key = siphash_derive(&secret, "tcp isn");
	t->cookie_key = siphash_derive(&secret, "tcp cookie");
	t->ts_key = siphash_derive(&secret, "tcp timestamp");
	while (config->receive_bytes >> t->rcv_scale > UINT16_MAX)
		t->rcv_scale++;
	if (make_tables(t)) {
		tcp_destroy(t);
		return error_set(err, ENOMEM, "no memory for connections");
	}
	*out = t;
	return 0;
}

void tcp_destroy(struct tcp *t)
{
	unit_pool_release(&t->slabs);
	unit_pool_release(&t->blocks);
	timer_wheel_release(&t->wheel);
	free(t->spent);
	free(t->places);
	free(t->connections);
	free(t);
}

/* --- from below --- */

void tcp_input(struct tcp *t, const struct net_in *in)
{
	uint32_t hash = in->hash ? in->hash : tcp_ahead(t, in);
	struct tcp_connection *c;
	struct tcp_segment s;

	t->now_ns = t->net->now.ns;
	t->counters.in_segments++;
	if (!in->checksum_good &&
		net_sum_fold(net_sum(
			net_sum_pseudo(&in->from, &in->to, IP_TCP, in->length),
			in->data, in->length)) != 0xffff) {
		t->counters.in_bad_checksum++;
		return;
	}
	if (!tcp_segment_parse(in, &s)) {
		t->counters.in_malformed++;
		return;
	}
	t->counters.in_bytes += s.length;
	c = tcp_connection_at(t, &s, hash);
	if (c)
		tcp_segment_input(t, c, &s);
	else if ((s.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN)
		tcp_syn_input(t, &s, NULL);
	else
		tcp_stray_input(t, &s, in);
}

bool tcp_icmp(struct tcp *t, const struct net_address *remote, uint8_t local,
	const uint8_t *header, uint32_t mtu_bytes)
{
	struct tcp_segment s = {.remote = remote,
		.local = local,
		.local_port = net_get16(header),
		.remote_port = net_get16(header + 2)};
	struct tcp_connection *c = tcp_connection_find(t, &s);
	uint32_t seq = net_get32(header + 4);
	uint16_t mss_before;

	t->now_ns = t->net->now.ns;
	if (!c || seq_lt(seq, c->snd_una) || !seq_lt(seq, c->snd_nxt))
		return false;
	if (mtu_bytes == 0)
		return true;
	net_path_learn(t->net, remote, mtu_bytes);
	mss_before = c->mss;
	tcp_mss_set(t, c);
	/* Not congestion: what was too large goes again, cut smaller. */
	if (c->mss < mss_before && c->recovery == TCP_OPEN &&
		tcp_is_synchronized(c)) {
		c->recovery = TCP_LOSS;
		c->recover = c->lost_edge = c->snd_nxt;
		c->resent_edge = c->snd_una;
		c->force_one = true;
		c->timing = false;
		tcp_mark_flush(t, c);
	}
	return true;
}

void tcp_expire(struct tcp *t)
{
	t->now_ns = t->net->now.ns;
	tcp_timers_expire(t);
}

void tcp_flush(struct tcp *t)
{
	struct tcp_connection *c;
	bool room = true;

	t->now_ns = t->net->now.ns;
	while (room && (c = tcp_take_flush(t))) {
		room = tcp_output(t, c);
		if (!room)
			tcp_mark_flush(t, c);
	}
}

uint64_t tcp_deadline_ns(const struct tcp *t)
{
	if (t->flush.first != TCP_NONE)
		return t->now_ns;
	return timer_wheel_next_ns(&t->wheel);
}

/* --- from above --- */

void tcp_ahead_of_send(const struct tcp *t, struct tcp_id id)
{
	if (id.index < t->config.connection_count)
		tcp_prefetch(t, id.index);
}

int tcp_listen(struct tcp *t, uint16_t port, uint32_t listener)
{
	if (t->listener_count == TCP_LISTENER_COUNT_MAX)
		return -ENOSPC;
	t->listeners[t->listener_count++] =
		(struct tcp_listener){port, listener, 0};
	return 0;
}

void tcp_drain(struct tcp *t)
{
	t->draining = true;
}

bool tcp_next(struct tcp *t, struct tcp_news *out)
{
	struct tcp_connection *c = tcp_take_ready(t);

	if (!c)
		return false;
	*out = (struct tcp_news){
		.id = {tcp_index(t, c), c->generation},
		.opened = c->news_opened,
		.data = c->news_data,
		.room = c->news_room,
		.peer_done = c->news_done,
		.closed = c->news_closed,
		.end = (enum tcp_end)c->end,
		.remote = c->remote,
		.remote_port = c->remote_port,
		.listener = t->listeners[c->listener].listener,
	};
	c->news_opened = c->news_data = c->news_room = c->news_done = false;
	if (c->news_closed) {
		c->news_closed = c->owned = false;
		t->open_count--;
		if (c->state == TCP_CLOSED)
			tcp_connection_free(t, c);
	}
	return true;
}

const uint8_t *tcp_unread(
	const struct tcp *t, struct tcp_id id, size_t *out_length)
{
	const struct tcp_connection *c = tcp_connection_of(t, id);

	*out_length = 0;
	if (!c || c->unread_bytes == 0)
		return NULL;
	*out_length = c->unread_bytes;
	return unit_pool_bytes(&t->slabs, c->slab) + c->unread_start;
}

int tcp_consume(struct tcp *t, struct tcp_id id, size_t bytes)
{
	struct tcp_connection *c = tcp_connection_of(t, id);

	if (!c)
		return -ENOTCONN;
	assert(bytes <= c->unread_bytes);
	if (bytes > 0)
		tcp_input_consume(t, c, (uint32_t)bytes);
	return 0;
}

/* May more be queued? */
static struct tcp_connection *sender_of(const struct tcp *t, struct tcp_id id)
{
	struct tcp_connection *c = tcp_connection_of(t, id);

	return c && !c->finishing && tcp_is_synchronized(c) ? c : NULL;
}

int tcp_send(struct tcp *t, struct tcp_id id, const struct tcp_piece *pieces,
	uint32_t count)
{
	struct tcp_connection *c;
	size_t total = 0;

	/* For net_poll(): it comes while the others are sent on. */
	if (id.index < t->config.connection_count)
		tcp_prefetch(t, id.index);
	c = sender_of(t, id);
	if (!c)
		return -ENOTCONN;
	for (uint32_t i = 0; i < count; i++) {
		if (pieces[i].length > t->config.send_bytes - total)
			return -EMSGSIZE;
		total += pieces[i].length;
	}
	if (total > tcp_queue_room(t, c))
		return -EAGAIN;
	for (uint32_t i = 0; i < count; i++)
		tcp_queue_add(t, c, pieces[i].data, pieces[i].length);
	tcp_mark_flush(t, c);
	return 0;
}

size_t tcp_room(const struct tcp *t, struct tcp_id id)
{
	const struct tcp_connection *c = sender_of(t, id);

	return c ? tcp_queue_room(t, c) : 0;
}

int tcp_want(struct tcp *t, struct tcp_id id, size_t bytes)
{
	struct tcp_connection *c = sender_of(t, id);

	if (!c)
		return -ENOTCONN;
	if (bytes > t->config.send_bytes)
		return -EMSGSIZE;
	c->want = (uint32_t)bytes;
	if (tcp_queue_room(t, c) >= bytes && bytes > 0) {
		c->want = 0;
		c->news_room = true;
		tcp_mark_ready(t, c);
	}
	return 0;
}

int tcp_finish(struct tcp *t, struct tcp_id id)
{
	struct tcp_connection *c = sender_of(t, id);

	if (!c)
		return -ENOTCONN;
	c->finishing = true;
	c->want = 0;
	tcp_set_state(t, c,
		c->state == TCP_ESTABLISHED ? TCP_FIN_WAIT_1 : TCP_LAST_ACK);
	tcp_mark_flush(t, c);
	return 0;
}

int tcp_close(struct tcp *t, struct tcp_id id)
{
	struct tcp_connection *c = tcp_connection_of(t, id);

	if (!c || c->closing)
		return -ENOTCONN;
	if (!c->finishing)
		tcp_finish(t, id);
	c->closing = true;
	c->news_data = c->news_room = c->news_done = false;
	tcp_input_drop(t, c);
	tcp_connection_closed(t, c);
	return 0;
}

int tcp_abort(struct tcp *t, struct tcp_id id)
{
	struct tcp_connection *c = tcp_connection_of(t, id);

	if (!c)
		return -ENOTCONN;
	c->news_opened = c->news_data = c->news_room = c->news_done = false;
	tcp_output_reset(t, c);
	tcp_connection_end(t, c, TCP_END_RESET);
	return 0;
}

const struct tcp_counters *tcp_get_counters(const struct tcp *t)
{
	return &t->counters;
}

void tcp_get_usage(const struct tcp *t, struct tcp_usage *out)
{
	*out = (struct tcp_usage){
		.connections = t->used_count,
		.open = t->open_count,
		.half_open = t->half_open_count,
		.time_wait = t->time_wait_count,
		.timers = t->wheel.set_count,
		.blocks = t->blocks.used_count,
		.slabs = t->slabs.used_count,
		.idle_bytes = sizeof(struct tcp_connection) +
			      sizeof(struct timer_wheel_link) +
			      t->place_count * sizeof(*t->places) /
				      t->config.connection_count,
	};
}
