/* test_tcp_attack.c - who is not on the path, beside a stream that is */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "dataplane/tcp_private.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"
#include "tests/wire_peer.h"

#define STREAM_BYTES 300000
#define FLAG_RST 4
#define FLAG_SYN 2
#define FLAG_ACK 16

static struct wire wire;
static struct tcp_case server;
static struct peer_host host;

struct forged {
	uint32_t source; /* address; 0 = the peer's own */
	uint16_t port;
	uint8_t flags;
	uint32_t seq, ack;
	size_t length;
};

static void forge(const struct forged *a)
{
	static uint8_t f[1600];
	uint8_t *p = f + 14, *t = p + 20;
	size_t rest = 20 + a->length;
	uint32_t sum = 6 + (uint32_t)rest;

	memset(f, 'x', sizeof(f));
	memcpy(f, server_mac, 6);
	memcpy(f + 6, peer_mac, 6);
	net_put16(f + 12, ETHER_IP4);
	memset(p, 0, 40);
	p[0] = 0x45;
	net_put16(p + 2, (uint32_t)(20 + rest));
	p[8] = 64;
	p[9] = IP_TCP;
	memcpy(p + 12, peer_ip4, 4);
	if (a->source)
		net_put32(p + 12, a->source);
	memcpy(p + 16, server_ip4, 4);
	net_put16(p + 10, peer_checksum(0, p, 20));
	net_put16(t, a->port);
	net_put16(t + 2, CASE_PORT);
	net_put32(t + 4, a->seq);
	net_put32(t + 8, a->ack);
	t[12] = 0x50;
	t[13] = a->flags;
	net_put16(t + 14, 4000);
	for (int i = 12; i < 20; i += 2)
		sum += net_get16(p + i);
	net_put16(t + 16, peer_checksum(sum, t, rest));
	wire_send(&wire, 1, f, 34 + rest);
}

/* A stream both ways, slow enough to be attacked for long. */
static void begin(void)
{
	struct net_config config = case_config();
	struct peer_config peer = {.sack = true,
		.mss = 1460,
		.receive_bytes = 30000,
		.send_window = 20000,
		.send_seed = 1,
		.receive_seed = 2,
		.send_total = STREAM_BYTES,
		.give_up_ns = 100 * NS_PER_S,
		.port = 2000,
		.server_port = CASE_PORT};

	config.tcp.half_open_count = 4;
	config.tcp.connection_count = 16;
	wire_init(&wire, 1);
	wire.lines[0].delay_ns = wire.lines[1].delay_ns = 5 * NS_PER_MS;
	case_init(&server, &wire, 0, &config);
	server.streams[0] = (struct case_stream){.port = 2000,
		.send_seed = 2,
		.receive_seed = 1,
		.send_total = STREAM_BYTES,
		.piece_max = 8192};
	server.stream_count = 1;
	peer_host_init(&host, &wire, 1);
	peer_connect(&host, &peer);
	wire_run(&wire, mono_add(wire.now, 30 * NS_PER_MS), NULL, NULL);
	CU_ASSERT_EQUAL_FATAL(server.streams[0].opened_count, 1);
}

static bool is_over(void *arg)
{
	(void)arg;
	return peers_ended(&host) && server.streams[0].closed_count > 0;
}

static void end(void)
{
	const struct case_stream *s = &server.streams[0];
	const struct wire_peer *p = &host.peers[0];

	CU_ASSERT_TRUE(wire_run(
		&wire, mono_add(wire.now, 300 * NS_PER_S), is_over, NULL));
	CU_ASSERT_EQUAL(p->state, PEER_DONE);
	CU_ASSERT_FALSE(p->corrupt_bytes || s->wrong);
	CU_ASSERT_EQUAL(p->received, STREAM_BYTES);
	CU_ASSERT_EQUAL(s->received, STREAM_BYTES);
	CU_ASSERT_EQUAL(s->end, TCP_END_CLEAN);
	tcp_check(server.tcp);
	case_release(&server);
	wire_release(&wire);
}

static struct tcp_connection *victim(void)
{
	struct net_address remote = net_ip4(peer_ip4);
	struct tcp_segment key = {.remote = &remote,
		.local = NET_LOCAL_IP4,
		.local_port = CASE_PORT,
		.remote_port = 2000};

	return tcp_connection_find(server.tcp, &key);
}

static void pass_time(void)
{
	wire_run(&wire, mono_add(wire.now, 20 * NS_PER_US), NULL, NULL);
}

static void test_flood__keeps_no_state(void)
{
	uint64_t random = suite_seed(3);
	struct tcp_usage usage;

	begin();
	for (int i = 0; i < 20000; i++) {
		/* Of the whole Internet; they answer nothing. */
		forge(&(struct forged){
			.source = 0x0b000000 + suite_below(&random, 1 << 28),
			.port = (uint16_t)suite_random(&random),
			.flags = FLAG_SYN,
			.seq = (uint32_t)suite_random(&random)});
		pass_time();
		tcp_get_usage(server.tcp, &usage);
		CU_ASSERT_TRUE(usage.half_open <= 4 && usage.connections <= 5);
		/* Beyond those four nobody gets anything at all. */
		CU_ASSERT_TRUE(usage.timers <= 5 && usage.open <= 1);
		CU_ASSERT_TRUE(usage.slabs <= 1);
		if (tcp_get_counters(server.tcp)->cookies_sent > 0)
			CU_ASSERT_EQUAL(usage.half_open, 4);
	}
	CU_ASSERT_TRUE(tcp_get_counters(server.tcp)->cookies_sent > 19000);
	end();
}

/* In the window, but beside the one number that counts. */
static void test_blind__resets_and_syns(void)
{
	uint64_t random = suite_seed(4);

	begin();
	for (int i = 0; i < 20000; i++) {
		const struct tcp_connection *c = victim();
		/* Further than the peer itself gets meanwhile. */
		uint32_t beside = 25000 + suite_below(&random, 5000);

		if (!c)
			break;
		forge(&(struct forged){.port = 2000,
			.flags = i % 2 ? FLAG_RST : FLAG_SYN,
			.seq = c->rcv_nxt + beside});
		pass_time();
	}
	CU_ASSERT_TRUE(tcp_get_counters(server.tcp)->challenges > 0);
	CU_ASSERT_TRUE(tcp_get_counters(server.tcp)->challenges_withheld > 0);
	end();
}

/* In the window, but with an ACK that is a guess. */
static void test_blind__data(void)
{
	uint64_t random = suite_seed(5);

	begin();
	for (int i = 0; i < 20000; i++) {
		const struct tcp_connection *c = victim();
		uint32_t guess =
			1000000 + suite_below(&random, UINT32_MAX - 3000000);

		if (!c)
			break;
		forge(&(struct forged){.port = 2000,
			.flags = FLAG_ACK,
			.seq = c->rcv_nxt,
			.ack = c->snd_nxt + guess,
			.length = 100});
		pass_time();
	}
	CU_ASSERT_TRUE(tcp_get_counters(server.tcp)->in_bad_ack > 1000);
	end();
}

/* One in 2^24 is what a blind guess at a cookie is worth. */
static void test_cookies__guesses_open_nothing(void)
{
	uint64_t random = suite_seed(6);
	const struct tcp_counters *k;

	begin();
	k = tcp_get_counters(server.tcp);
	for (int i = 0; i < 30; i++)
		forge(&(struct forged){.source = 0x0b000001 + (uint32_t)i,
			.port = 5,
			.flags = FLAG_SYN});
	pass_time();
	wire_run(&wire, mono_add(wire.now, 10 * NS_PER_MS), NULL, NULL);
	for (int i = 0; i < 20000; i++) {
		forge(&(struct forged){.source = 0x0b000001,
			.port = (uint16_t)(6 + i % 50000),
			.flags = FLAG_ACK,
			.seq = (uint32_t)suite_random(&random),
			.ack = (uint32_t)suite_random(&random)});
		pass_time();
	}
	CU_ASSERT_TRUE(k->cookies_bad > 19000);
	CU_ASSERT_EQUAL(k->cookies_taken, 0);
	CU_ASSERT_EQUAL(k->opened, 1);
	end();
}

/* Sequence numbers of many connections say nothing of the next one's. */
static void test_isn__differs_by_peer(void)
{
	uint32_t last = 0, near_count = 0;

	begin();
	for (uint16_t port = 3000; port < 3400; port++) {
		struct net_address remote = net_ip4(peer_ip4);
		struct tcp_segment key = {.remote = &remote,
			.local = NET_LOCAL_IP4,
			.local_port = CASE_PORT,
			.remote_port = port};
		const struct tcp_connection *c;

		forge(&(struct forged){.port = port, .flags = FLAG_SYN});
		wire_run(&wire, mono_add(wire.now, 6 * NS_PER_MS), NULL, NULL);
		c = tcp_connection_find(server.tcp, &key);
		CU_ASSERT_PTR_NOT_NULL(c);
		if (!c)
			break;
		near_count += c->iss - last < 1u << 24;
		last = c->iss;
		forge(&(struct forged){
			.port = port, .flags = FLAG_RST, .seq = 1});
		wire_run(&wire, mono_add(wire.now, 6 * NS_PER_MS), NULL, NULL);
	}
	/* By chance one or two of 400 would be that near. */
	CU_ASSERT_TRUE(near_count < 12);
	end();
}

static const struct suite_case cases[] = {
	SUITE_CASE(flood__keeps_no_state),
	SUITE_CASE(blind__resets_and_syns),
	SUITE_CASE(blind__data),
	SUITE_CASE(cookies__guesses_open_nothing),
	SUITE_CASE(isn__differs_by_peer),
};

int main(void)
{
	return SUITE_MAIN("tcp_attack", cases);
}
