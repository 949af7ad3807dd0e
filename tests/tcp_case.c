/* tcp_case.c - a stack on a wire, with an application that checks bytes */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pattern.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"
#include "tests/wire_peer.h"

struct net_config case_config(void)
{
	struct net_config c = {
		.mtu_bytes = 1500,
		.prefix4_bits = 24,
		.prefix6_bits = 64,
		.secret = "no secret in te",
		.tcp = {.connection_count = 32,
			.send_bytes = 65536,
			.receive_bytes = 32768,
			.send_total_bytes = 1 << 20,
			.receive_total_bytes = 1 << 20},
	};

	memcpy(c.mac, server_mac, 6);
	memcpy(c.ip4, server_ip4, 4);
	memcpy(c.ip6, server_ip6, 16);
	return c;
}

/* --- the device --- */

uint8_t *case_frame_get(void *arg, size_t size)
{
	struct tcp_case *c = arg;

	return size <= sizeof(c->frame) ? c->frame : NULL;
}

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void send_one(struct tcp_case *c, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	if (offload->checksum_at) {
		uint16_t sum = peer_checksum(0, frame + offload->checksum_start,
			length - offload->checksum_start);

		put16(frame + offload->checksum_at, sum);
		c->checksum_count++;
	}
	wire_send(c->wire, c->end, frame, length);
}

/* Cut a large segment as a NIC does (IPv4, untagged). */
static void cut(struct tcp_case *c, const uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	static uint8_t small[WIRE_FRAME_BYTES];
	size_t tcp = offload->checksum_start;
	size_t header = tcp + (size_t)(frame[tcp + 12] >> 4) * 4;
	size_t payload = length - header, size = offload->segment_bytes;
	uint32_t seq = get16(frame + tcp + 4) << 16 | get16(frame + tcp + 6);
	/* The pseudo header's sum holds the length of the whole. */
	uint32_t pseudo = get16(frame + offload->checksum_at) +
			  (uint16_t) ~(uint16_t)(length - tcp);

	for (size_t at = 0; at < payload; at += size) {
		size_t part = payload - at < size ? payload - at : size;
		uint32_t sum = pseudo + (uint32_t)(header - tcp + part);

		memcpy(small, frame, header);
		memcpy(small + header, frame + header + at, part);
		put16(small + 16, (uint32_t)(header - 14 + part));
		put16(small + 24, 0);
		put16(small + 24, peer_checksum(0, small + 14, 20));
		put16(small + tcp + 4, (seq + (uint32_t)at) >> 16);
		put16(small + tcp + 6, seq + (uint32_t)at);
		if (at + part < payload)
			small[tcp + 13] &= (uint8_t)~9u; /* FIN, PSH */
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		put16(small + offload->checksum_at, sum);
		send_one(c, small, header + part, offload);
		c->cut_count++;
	}
}

void case_frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	struct tcp_case *c = arg;

	if (offload->segment_bytes)
		cut(c, frame, length, offload);
	else
		send_one(c, frame, length, offload);
}

/* --- the end of the wire --- */

static void input(
	void *arg, const uint8_t *frame, size_t length, struct mono now)
{
	struct tcp_case *c = arg;

	net_input(c->net, frame, length, false, now);
}

static void poll(void *arg, struct mono now)
{
	struct tcp_case *c = arg;

	net_poll(c->net, now);
	case_serve(c);
	net_poll(c->net, now);
}

static struct mono deadline(void *arg)
{
	const struct tcp_case *c = arg;
	struct mono at = net_deadline(c->net);

	/* Who reads lazily comes back by itself. */
	for (uint32_t i = 0; i < c->stream_count; i++) {
		const struct case_stream *s = &c->streams[i];
		struct mono soon = mono_add(c->wire->now, NS_PER_MS);
		size_t unread = 0;

		if (s->open && s->lazy)
			tcp_unread(c->tcp, s->id, &unread);
		if (unread > 0 && mono_before(soon, at))
			at = soon;
	}
	return at;
}

void case_init(struct tcp_case *c, struct wire *w, uint8_t end,
	const struct net_config *config)
{
	struct error err = {0};

	memset(c, 0, offsetof(struct tcp_case, frame));
	c->checksum_count = c->cut_count = 0;
	c->wire = w;
	c->end = end;
	c->config = *config;
	c->config.device.arg = c;
	c->config.device.frame_get = case_frame_get;
	c->config.device.frame_send = case_frame_send;
	if (net_stack_create(&c->config, w->now, &c->net, &err)) {
		printf("%s\n", err.text);
		abort();
	}
	c->tcp = net_stack_tcp(c->net);
	if (tcp_listen(c->tcp, CASE_PORT, 7))
		abort();
	w->ends[end] = (struct wire_end){c, input, poll, deadline};
}

void case_release(struct tcp_case *c)
{
	net_stack_destroy(c->net);
}

/* --- the application --- */

struct case_stream *case_stream_at(struct tcp_case *c, uint16_t port)
{
	for (uint32_t i = 0; i < c->stream_count; i++)
		if (c->streams[i].port == port)
			return &c->streams[i];
	return NULL;
}

static struct case_stream *stream_of(struct tcp_case *c, struct tcp_id id)
{
	for (uint32_t i = 0; i < c->stream_count; i++)
		if (c->streams[i].open && c->streams[i].id.index == id.index &&
			c->streams[i].id.generation == id.generation)
			return &c->streams[i];
	return NULL;
}

static void take_input(struct tcp_case *c, struct case_stream *s)
{
	size_t length;
	const uint8_t *data = tcp_unread(c->tcp, s->id, &length);

	if (!data)
		return;
	if (s->lazy && length > 1)
		length = suite_below(&c->random, (uint32_t)length) + 1;
	if (!pattern_matches(s->receive_seed, s->received, data, length))
		s->wrong = true;
	s->received += length;
	CU_ASSERT_EQUAL(tcp_consume(c->tcp, s->id, length), 0);
}

static void send_more(struct tcp_case *c, struct case_stream *s)
{
	uint8_t piece[8192];

	while (s->sent < s->send_total) {
		uint32_t length = suite_below(&c->random, s->piece_max) + 1;
		struct tcp_piece pieces[2];
		uint32_t half;

		if (length > s->send_total - s->sent)
			length = (uint32_t)(s->send_total - s->sent);
		pattern_fill(s->send_seed, s->sent, piece, length);
		half = length / 2;
		pieces[0] = (struct tcp_piece){piece, half};
		pieces[1] = (struct tcp_piece){piece + half, length - half};
		if (tcp_send(c->tcp, s->id, pieces, 2)) {
			CU_ASSERT_TRUE(tcp_room(c->tcp, s->id) < length);
			tcp_want(c->tcp, s->id, length);
			return;
		}
		s->sent += length;
	}
}

static void advance(struct tcp_case *c, struct case_stream *s)
{
	size_t unread;

	take_input(c, s);
	send_more(c, s);
	tcp_unread(c->tcp, s->id, &unread);
	if (s->sent < s->send_total || s->ending == CASE_NEVER)
		return;
	if (s->ending == CASE_HALF && !s->finished) {
		s->finished = true;
		CU_ASSERT_EQUAL(tcp_finish(c->tcp, s->id), 0);
	}
	if (!s->closed &&
		(s->ending == CASE_FIRST || (s->peer_done && unread == 0))) {
		s->closed = true;
		CU_ASSERT_EQUAL(tcp_close(c->tcp, s->id), 0);
	}
}

void case_push(struct tcp_case *c, struct case_stream *s)
{
	send_more(c, s);
	net_poll(c->net, c->wire->now);
}

static void take_news(struct tcp_case *c, const struct tcp_news *news)
{
	struct case_stream *s = news->opened
					? case_stream_at(c, news->remote_port)
					: stream_of(c, news->id);

	CU_ASSERT_FATAL(s != NULL);
	if (!s)
		return;
	if (news->opened) {
		CU_ASSERT_FALSE(s->open);
		CU_ASSERT_EQUAL(news->listener, 7);
		s->open = true;
		s->id = news->id;
		s->opened_count++;
		s->sent = s->received = 0;
		s->peer_done = s->finished = s->closed = false;
	}
	s->peer_done |= news->peer_done;
	if (news->closed) {
		s->open = false;
		s->closed_count++;
		s->end = news->end;
	} else {
		advance(c, s);
	}
}

void case_serve(struct tcp_case *c)
{
	struct tcp_news news;

	while (tcp_next(c->tcp, &news))
		take_news(c, &news);
	/* Who reads lazily looks again, whether or not something came. */
	for (uint32_t i = 0; i < c->stream_count; i++)
		if (c->streams[i].open && c->streams[i].lazy)
			advance(c, &c->streams[i]);
	while (tcp_next(c->tcp, &news))
		take_news(c, &news);
}

bool case_is_empty(const struct tcp_case *c)
{
	struct tcp_usage u;

	tcp_get_usage(c->tcp, &u);
	return u.connections == 0 && u.open == 0 && u.half_open == 0 &&
	       u.time_wait == 0 && u.timers == 0 && u.blocks == 0 &&
	       u.slabs == 0;
}
