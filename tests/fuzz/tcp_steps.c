/* tcp_steps.c - any bytes as what happens to a stack in some state */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps:  one byte says which, the rest is its own:
 *         frame    length (2 bytes), that many bytes
 *         segment  flags, seq and ack (2 bytes each, less 32768, from where
 *                  the connection is), window (2), options (1 byte: count of
 *                  bytes that follow), length (1, times 16)
 *         time     1 byte: 2^n microseconds
 *         call     which, and how many bytes
 */
#include <stdlib.h>
#include <string.h>

#include "dataplane/net_checksum.h"
#include "dataplane/tcp_private.h"
#include "tests/fuzz/tcp_steps.h"

#define PORT 80
#define PEER_PORT 4000

struct steps {
	struct net_stack *net;
	struct tcp *tcp;
	struct mono now;
	struct tcp_id id;
	const uint8_t *data;
	size_t size;
	uint32_t peer_seq; /* when there is no connection */
};

static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t own_ip4[4] = {10, 0, 0, 1}, peer_ip4[4] = {10, 0, 0, 2};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static uint8_t *frame_get(void *arg, size_t size)
{
	static uint8_t frame[NET_MTU_BYTES_MAX + 64];

	(void)arg;
	require(size <= sizeof(frame));
	return frame;
}

/* What leaves is well formed, whatever came. */
static void frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	uint32_t total = net_get16(frame + 16);

	(void)arg;
	require(length >= 42 && !(offload->segment_bytes));
	if (net_get16(frame + 12) != ETHER_IP4)
		return;
	require(14 + total == length && length <= 1514);
	require(net_sum_fold(net_sum(0, frame + 14, 20)) == 0xffff);
}

static uint8_t take(struct steps *s)
{
	if (s->size == 0)
		return 0;
	s->size--;
	return *s->data++;
}

static uint16_t take16(struct steps *s)
{
	uint16_t high = take(s);

	return (uint16_t)(high << 8 | take(s));
}

static void input(struct steps *s, const uint8_t *frame, size_t length)
{
	/* Exactly as long, so that a sanitizer sees the end. */
	uint8_t *copy = malloc(length + (length == 0));

	require(copy != NULL);
	memcpy(copy, frame, length);
	net_input(s->net, copy, length, true, s->now);
	free(copy);
}

static struct tcp_connection *connection(const struct steps *s)
{
	struct net_address remote = net_ip4(peer_ip4);
	struct tcp_segment key = {.remote = &remote,
		.local = NET_LOCAL_IP4,
		.local_port = PORT,
		.remote_port = PEER_PORT};

	return tcp_connection_find(s->tcp, &key);
}

/* A segment, its header sound but for what the bytes say. */
static void send_segment(struct steps *s, uint8_t flags, uint32_t seq,
	uint32_t ack, uint16_t window, size_t rest)
{
	static uint8_t f[2048];
	uint8_t *t = f + 34;
	size_t options = rest >> 16, length = rest & 0xffff;

	memset(f, 0, sizeof(f));
	memcpy(f, own_mac, 6);
	memcpy(f + 6, peer_mac, 6);
	net_put16(f + 12, ETHER_IP4);
	f[14] = 0x45;
	options = options > 40 ? 40 : options;
	for (size_t i = 0; i < options; i++)
		t[20 + i] = take(s);
	options = (options + 3) / 4 * 4;
	net_put16(f + 16, (uint32_t)(40 + options + length));
	f[22] = 64;
	f[23] = IP_TCP;
	memcpy(f + 26, peer_ip4, 4);
	memcpy(f + 30, own_ip4, 4);
	net_sum_store(f + 24, net_sum(0, f + 14, 20));
	net_put16(t, PEER_PORT);
	net_put16(t + 2, PORT);
	net_put32(t + 4, seq);
	net_put32(t + 8, ack);
	t[12] = (uint8_t)((20 + options) / 4 << 4);
	t[13] = flags;
	net_put16(t + 14, window);
	input(s, f, 54 + options + length);
}

static void step_segment(struct steps *s)
{
	const struct tcp_connection *c = connection(s);
	uint32_t seq = c ? c->rcv_nxt : s->peer_seq;
	uint32_t ack = c ? c->snd_nxt : 0;
	uint8_t flags = take(s);
	uint16_t window;
	size_t options, length;

	/* 32768 stands for "where it is". */
	seq += take16(s) - 32768u;
	ack += take16(s) - 32768u;
	window = take16(s);
	options = take(s) % 41;
	length = (size_t)(take(s) % 80) * 16;
	send_segment(s, flags, seq, ack, window, options << 16 | length);
}

static void step_frame(struct steps *s)
{
	size_t length = take16(s) % 2048;

	if (length > s->size)
		length = s->size;
	input(s, s->data, length);
	s->data += length;
	s->size -= length;
}

static void step_call(struct steps *s)
{
	static uint8_t bytes[4096];
	uint8_t which = take(s);
	size_t amount = take(s) * (size_t)16;
	struct tcp_piece piece = {bytes, amount};
	size_t unread;

	switch (which % 6) {
	case 0:
		tcp_send(s->tcp, s->id, &piece, 1);
		break;
	case 1:
		tcp_unread(s->tcp, s->id, &unread);
		if (unread > amount)
			unread = amount;
		tcp_consume(s->tcp, s->id, unread);
		break;
	case 2:
		tcp_finish(s->tcp, s->id);
		break;
	case 3:
		tcp_close(s->tcp, s->id);
		break;
	case 4:
		tcp_want(s->tcp, s->id, amount);
		break;
	default:
		tcp_abort(s->tcp, s->id);
	}
}

static void take_news(struct steps *s)
{
	struct tcp_news news;

	while (tcp_next(s->tcp, &news))
		if (news.opened && !news.closed)
			s->id = news.id;
}

static void settle(struct steps *s)
{
	net_poll(s->net, s->now);
	take_news(s);
	net_poll(s->net, s->now);
	tcp_check(s->tcp);
}

static void pass_time(struct steps *s, uint64_t ns)
{
	struct mono until = mono_add(s->now, ns);

	for (int i = 0; i < 4000; i++) {
		struct mono next = net_deadline(s->net);

		if (!mono_before(next, until))
			break;
		if (mono_before(s->now, next))
			s->now = next;
		settle(s);
	}
	s->now = until;
	settle(s);
}

static void begin(struct steps *s, enum tcp_steps_state state)
{
	struct net_config config = {.mac = {2, 0, 0, 0, 0, 1},
		.mtu_bytes = 1500,
		.ip4 = {10, 0, 0, 1},
		.ip6 = {0xfd, [15] = 1},
		.prefix4_bits = 24,
		.prefix6_bits = 64,
		.device = {NULL, frame_get, frame_send, false, 0},
		.tcp = {.connection_count = 8,
			.half_open_count = 2,
			.send_bytes = 16384,
			.receive_bytes = 8192,
			.send_total_bytes = 65536,
			.receive_total_bytes = 32768,
			.user_timeout_ns = 30 * NS_PER_S}};
	struct error err = {0};
	static const uint8_t request[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
	uint8_t arp[42] = {0};

	require(net_stack_create(&config, s->now, &s->net, &err) == 0);
	s->tcp = net_stack_tcp(s->net);
	require(tcp_listen(s->tcp, PORT, 0) == 0);
	memset(arp, 0xff, 6);
	memcpy(arp + 6, peer_mac, 6);
	memcpy(arp + 12, request, sizeof(request));
	memcpy(arp + 22, peer_mac, 6);
	memcpy(arp + 28, peer_ip4, 4);
	memcpy(arp + 38, own_ip4, 4);
	input(s, arp, sizeof(arp));
	if (state == STEPS_LISTEN)
		return;
	s->peer_seq = 1000;
	send_segment(s, TCP_SYN, 1000, 0, 60000, 0);
	settle(s);
	send_segment(s, TCP_ACK, 1001, connection(s)->snd_nxt, 60000, 0);
	settle(s);
	require(connection(s)->state == TCP_ESTABLISHED);
	if (state == STEPS_CLOSING) {
		tcp_close(s->tcp, s->id);
		settle(s);
	}
}

void tcp_steps_run(enum tcp_steps_state state, const uint8_t *data, size_t size)
{
	struct steps s = {.now = {NS_PER_S}};
	struct tcp_usage usage;

	begin(&s, state);
	s.data = data;
	s.size = size;
	for (int i = 0; i < 200 && s.size > 0; i++) {
		switch (take(&s) % 8) {
		case 0:
			step_frame(&s);
			break;
		case 1:
			pass_time(&s, NS_PER_US << take(&s) % 26);
			break;
		case 2:
			step_call(&s);
			break;
		default:
			step_segment(&s);
		}
		settle(&s);
	}
	for (uint32_t i = 0; i < 8; i++)
		tcp_abort(s.tcp,
			(struct tcp_id){i, s.tcp->connections[i].generation});
	take_news(&s);
	pass_time(&s, 1000 * NS_PER_S);
	tcp_get_usage(s.tcp, &usage);
	require(usage.connections == 0 && usage.timers == 0 &&
		usage.blocks == 0 && usage.slabs == 0);
	net_stack_destroy(s.net);
}
