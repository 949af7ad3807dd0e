/* test_net_peers.c - several stacks of the same addresses, frame by frame */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"
#include "tests/wire_peer.h"

#define SENT_COUNT 8
#define STRAY_BYTES (ETHERNET_BYTES + IP4_BYTES + TCP_BYTES)

/* A stack whose frames are kept, and what it has handed to others. */
static struct {
	struct net_stack *net;
	struct mono now;
	uint8_t frames[SENT_COUNT][1600], frame[1600];
	uint32_t count, told_count, passed_count, passes;
} b;

static uint8_t *frame_get(void *arg, size_t size)
{
	(void)arg;
	return size <= sizeof(b.frame) ? b.frame : NULL;
}

static void frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	(void)arg;
	(void)offload;
	CU_ASSERT_FATAL(b.count < SENT_COUNT && length <= 1600);
	memcpy(b.frames[b.count++], frame, length);
}

static void tell(void *arg, const uint8_t *frame, size_t length)
{
	(void)arg;
	CU_ASSERT(frame[12] == 8 && length == 42);
	b.told_count++;
}

static void pass(void *arg, const uint8_t *frame, size_t length, uint8_t passes)
{
	(void)arg;
	CU_ASSERT(frame[12] == 8 && length == STRAY_BYTES);
	b.passed_count++;
	b.passes = passes;
}

static void begin(uint32_t count, bool follows, bool announce)
{
	struct net_config config = case_config();
	struct error err = {0};

	memset(&b, 0, sizeof(b));
	b.now.ns = NS_PER_S;
	config.ip6_announce = announce;
	config.neighbor_count = 16;
	config.device = (struct net_device){
		.frame_get = frame_get, .frame_send = frame_send};
	config.peers = (struct net_peers){
		.count = count, .follows = follows, .tell = tell, .pass = pass};
	CU_ASSERT_EQUAL_FATAL(
		net_stack_create(&config, b.now, &b.net, &err), 0);
	tcp_listen(net_stack_tcp(b.net), CASE_PORT, 0);
}

static void end(void)
{
	net_stack_destroy(b.net);
}

static void input(
	const uint8_t *frame, size_t length, bool told, uint8_t passes)
{
	const struct net_frame one = {.bytes = frame,
		.length = length,
		.checksum_good = true,
		.told = told,
		.passes = passes};

	net_input_burst(b.net, &one, 1, b.now);
	net_poll(b.net, b.now);
}

static uint8_t *put_ethernet(uint8_t *f, const uint8_t *to, uint16_t type)
{
	memcpy(f, to, 6);
	memcpy(f + 6, peer_mac, 6);
	net_put16(f + 12, type);
	return f + ETHERNET_BYTES;
}

/* Who has the server's address? */
static size_t put_request(uint8_t *f)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
	uint8_t *p = put_ethernet(f, all, ETHER_ARP);

	memset(p, 0, ARP_BYTES);
	net_put16(p, 1);
	net_put16(p + 2, ETHER_IP4);
	p[4] = 6;
	p[5] = 4;
	net_put16(p + 6, 1);
	memcpy(p + 8, peer_mac, 6);
	memcpy(p + 14, peer_ip4, 4);
	memcpy(p + 24, server_ip4, 4);
	return ETHERNET_BYTES + ARP_BYTES;
}

/* A bare ACK, or a reset, of no connection. */
static size_t put_stray(uint8_t *f, uint8_t flags)
{
	uint8_t *ip = put_ethernet(f, server_mac, ETHER_IP4);
	uint8_t *tcp = ip + IP4_BYTES;

	memset(ip, 0, IP4_BYTES + TCP_BYTES);
	ip[0] = 0x45;
	net_put16(ip + 2, IP4_BYTES + TCP_BYTES);
	ip[8] = 64;
	ip[9] = IP_TCP;
	memcpy(ip + 12, peer_ip4, 4);
	memcpy(ip + 16, server_ip4, 4);
	net_sum_store(ip + 10, net_sum(0, ip, IP4_BYTES));
	net_put16(tcp, 1234);
	net_put16(tcp + 2, CASE_PORT);
	net_put32(tcp + 8, 77);
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	return STRAY_BYTES;
}

enum { RST = 4, ACK = 16 };

static void test_peers__hear_of_neighbours_and_answer_nothing(void)
{
	uint8_t f[64];

	begin(2, false, false);
	input(f, put_request(f), false, 0);
	CU_ASSERT_EQUAL(b.told_count, 1);
	CU_ASSERT_EQUAL(b.count, 1);
	end();
	/* Who is told answers nothing, and knows the way: it need not ask. */
	begin(2, false, false);
	input(f, put_request(f), true, 0);
	CU_ASSERT_EQUAL(b.told_count + b.count, 0);
	input(f, put_stray(f, ACK), false, 2);
	CU_ASSERT_EQUAL(b.count, 1);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->neighbor_asked, 0);
	end();
}

static void test_peers__the_last_one_resets_a_stray(void)
{
	uint8_t f[64];

	begin(2, false, false);
	input(f, put_request(f), true, 0);
	for (uint8_t passes = 0; passes < 2; passes++) {
		input(f, put_stray(f, ACK), false, passes);
		CU_ASSERT_EQUAL(b.count, 0);
		CU_ASSERT_EQUAL(b.passes, passes + 1u);
	}
	input(f, put_stray(f, ACK), false, 2);
	CU_ASSERT_EQUAL(b.passed_count, 2);
	CU_ASSERT_EQUAL(b.count, 1);
	CU_ASSERT_EQUAL(b.frames[0][ETHERNET_BYTES + IP4_BYTES + 13], RST);
	/* A reset may be for another's, and is never answered. */
	input(f, put_stray(f, RST), false, 0);
	CU_ASSERT_EQUAL(b.passed_count, 3);
	input(f, put_stray(f, RST), false, 2);
	CU_ASSERT_EQUAL(b.passed_count, 3);
	CU_ASSERT_EQUAL(b.count, 1);
	end();
}

static void test_peers__who_is_alone_hands_over_nothing(void)
{
	uint8_t f[64];

	begin(0, false, false);
	input(f, put_request(f), false, 0);
	input(f, put_stray(f, ACK), false, 0);
	CU_ASSERT_EQUAL(b.told_count + b.passed_count, 0);
	CU_ASSERT_EQUAL(b.count, 2);
	end();
}

static void test_peers__a_follower_announces_nothing(void)
{
	begin(1, true, true);
	CU_ASSERT_EQUAL(b.net->ip6_states[NET_LOCAL_IP6], NET_IP6_TENTATIVE);
	for (int i = 0; i < 30; i++) {
		b.now = mono_add(b.now, NS_PER_S / 10);
		net_poll(b.net, b.now);
	}
	CU_ASSERT_EQUAL(b.count, 0);
	/* It has waited as long as the others. */
	CU_ASSERT_EQUAL(b.net->ip6_states[NET_LOCAL_IP6], NET_IP6_READY);
	end();
}

static const struct suite_case cases[] = {
	SUITE_CASE(peers__hear_of_neighbours_and_answer_nothing),
	SUITE_CASE(peers__the_last_one_resets_a_stray),
	SUITE_CASE(peers__who_is_alone_hands_over_nothing),
	SUITE_CASE(peers__a_follower_announces_nothing),
};

int main(void)
{
	return SUITE_MAIN("net_peers", cases);
}
