/* test_net.c - Ethernet, ARP, IP, ICMP below our TCP, frame by frame */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/net_private.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"
#include "tests/wire_peer.h"

#define SENT_COUNT 32

/* A stack whose frames are kept. */
struct bench {
	struct net_stack *net;
	struct mono now;
	uint8_t frames[SENT_COUNT][1600];
	size_t lengths[SENT_COUNT];
	uint32_t count;
	uint8_t frame[70000];
};

static struct bench b;
static bool announce; /* what the next one is made with */
static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};

/* Bytes of a literal, not a text. */
static void put_bytes(uint8_t *to, const char *bytes, size_t count)
{
	memcpy(to, bytes, count);
}

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
	memcpy(b.frames[b.count], frame, length);
	b.lengths[b.count++] = length;
}

static void begin(uint16_t vlan, bool gateway)
{
	struct net_config config = case_config();
	struct error err = {0};

	memset(&b, 0, sizeof(b));
	b.now.ns = NS_PER_S;
	config.vlan = vlan;
	config.ip6_announce = announce;
	config.neighbor_count = 16;
	if (gateway)
		put_bytes(config.gateway4, "\x0a\0\0\xfe", 4);
	if (gateway && announce)
		memcpy(config.gateway6, peer_ip6, 16);
	config.device =
		(struct net_device){NULL, frame_get, frame_send, false, 0};
	CU_ASSERT_EQUAL_FATAL(
		net_stack_create(&config, b.now, &b.net, &err), 0);
	tcp_listen(net_stack_tcp(b.net), CASE_PORT, 0);
}

static void end(void)
{
	net_stack_destroy(b.net);
}

static void input(const uint8_t *frame, size_t length)
{
	net_input(b.net, frame, length, false, b.now);
	net_poll(b.net, b.now);
}

static void pass_time(uint64_t ns)
{
	b.now = mono_add(b.now, ns);
	net_poll(b.net, b.now);
}

/* --- frames --- */

static size_t put_ethernet(uint8_t *f, const uint8_t *to, uint16_t type)
{
	memcpy(f, to, 6);
	memcpy(f + 6, peer_mac, 6);
	net_put16(f + 12, type);
	return 14;
}

static size_t put_arp(uint8_t *f, uint16_t operation, const uint8_t *sender,
	const uint8_t *target)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
	uint8_t *p = f + put_ethernet(f, all, ETHER_ARP);

	memset(p, 0, 28);
	put_bytes(p, "\0\1\x08\0\6\4", 6);
	net_put16(p + 6, operation);
	memcpy(p + 8, peer_mac, 6);
	memcpy(p + 14, sender, 4);
	memcpy(p + 24, target, 4);
	return 42;
}

/* IPv4 with `options` (a multiple of 4) and a payload that is there. */
static size_t put_ip4(uint8_t *f, uint8_t protocol, const char *options,
	size_t option_bytes, size_t payload)
{
	uint8_t *p = f + put_ethernet(f, server_mac, ETHER_IP4);
	size_t header = 20 + option_bytes;

	memset(p, 0, 20);
	p[0] = (uint8_t)(0x40 | header / 4);
	net_put16(p + 2, (uint32_t)(header + payload));
	p[8] = 64;
	p[9] = protocol;
	memcpy(p + 12, peer_ip4, 4);
	memcpy(p + 16, server_ip4, 4);
	if (option_bytes)
		memcpy(p + 20, options, option_bytes);
	net_put16(p + 10, peer_checksum(0, p, header));
	return 14 + header + payload;
}

static void put_echo4(uint8_t *icmp, size_t length)
{
	memset(icmp, 'e', length);
	put_bytes(icmp, "\x08\0\0\0\x12\x34\0\1", 8);
	net_put16(icmp + 2, peer_checksum(0, icmp, length));
}

static uint32_t sum6(const uint8_t *p, size_t length, uint8_t protocol)
{
	uint32_t sum = (uint32_t)length + protocol;

	for (size_t i = 8; i < 40; i += 2)
		sum += net_get16(p + i);
	return sum;
}

/* IPv6; the ICMP checksum at data + 2 is put in. */
static size_t put_ip6(uint8_t *f, const uint8_t *to, uint8_t next, uint8_t hops,
	size_t payload)
{
	static const uint8_t solicited[6] = {0x33, 0x33, 0xff, 0, 0, 1};
	uint8_t *p = f + put_ethernet(f, to[0] == 0xff ? solicited : server_mac,
				 ETHER_IP6);

	net_put32(p, 0x60000000);
	net_put16(p + 4, (uint32_t)payload);
	p[6] = next;
	p[7] = hops;
	memcpy(p + 8, peer_ip6, 16);
	memcpy(p + 24, to, 16);
	if (next == IP_ICMP6) {
		net_put16(p + 42, 0);
		net_put16(p + 42,
			peer_checksum(sum6(p, payload, next), p + 40, payload));
	}
	return 54 + payload;
}

static void learn_peer(void)
{
	uint8_t f[64];

	input(f, put_arp(f, 1, peer_ip4, server_ip4));
	b.count = 0;
}

/* --- ARP --- */

static void test_arp__answers_for_its_address(void)
{
	static const uint8_t other[4] = {10, 0, 0, 9};
	uint8_t f[64];

	begin(0, false);
	input(f, put_arp(f, 1, peer_ip4, server_ip4));
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(b.lengths[0], 42);
	CU_ASSERT_EQUAL(memcmp(b.frames[0], peer_mac, 6), 0);
	CU_ASSERT_EQUAL(net_get16(b.frames[0] + 20), 2);
	CU_ASSERT_EQUAL(memcmp(b.frames[0] + 22, server_mac, 6), 0);
	CU_ASSERT_EQUAL(memcmp(b.frames[0] + 28, server_ip4, 4), 0);
	input(f, put_arp(f, 1, peer_ip4, other));
	input(f, put_arp(f, 2, peer_ip4, server_ip4));
	input(f, 41);
	CU_ASSERT_EQUAL(b.count, 1);
	end();
}

static void test_arp__asks_thrice_then_gives_up(void)
{
	uint8_t f[128];
	size_t length;

	begin(0, false);
	put_echo4(f + 34, 40);
	length = put_ip4(f, IP_ICMP4, NULL, 0, 40);
	input(f, length);
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(net_get16(b.frames[0] + 12), ETHER_ARP);
	CU_ASSERT_EQUAL(memcmp(b.frames[0] + 38, peer_ip4, 4), 0);
	CU_ASSERT_EQUAL(net_deadline(b.net).ns, b.now.ns + NS_PER_S);
	pass_time(NS_PER_S);
	pass_time(NS_PER_S);
	CU_ASSERT_EQUAL(b.count, 3);
	pass_time(NS_PER_S);
	CU_ASSERT_EQUAL(b.count, 3);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->neighbor_failed, 1);
	end();
}

static void test_arp__what_waited_is_sent(void)
{
	/* Frames of 34 more, behind their lengths: all but the last fit. */
	static const size_t sizes[] = {40, 600, 262, 8};
	uint8_t f[700];

	begin(0, false);
	for (int i = 0; i < 4; i++) {
		put_echo4(f + 34, sizes[i]);
		input(f, put_ip4(f, IP_ICMP4, NULL, 0, sizes[i]));
	}
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->out_lost_neighbor, 1);
	/* An answer that nobody asked for is no answer; this one was. */
	input(f, put_arp(f, 2, peer_ip4, server_ip4));
	CU_ASSERT_EQUAL_FATAL(b.count, 4);
	for (uint32_t i = 1; i < 4; i++) {
		CU_ASSERT_EQUAL(b.lengths[i], 34 + sizes[i - 1]);
		CU_ASSERT_EQUAL(memcmp(b.frames[i], peer_mac, 6), 0);
		CU_ASSERT_EQUAL(b.frames[i][34], 0);
		CU_ASSERT_EQUAL(
			peer_checksum(0, b.frames[i] + 34, sizes[i - 1]), 0);
		CU_ASSERT_EQUAL(peer_checksum(0, b.frames[i] + 14, 20), 0);
	}
	/* And once. */
	input(f, put_arp(f, 2, peer_ip4, server_ip4));
	CU_ASSERT_EQUAL(b.count, 4);
	end();
}

static void test_arp__entries_age(void)
{
	uint8_t f[128];

	begin(0, false);
	learn_peer();
	put_echo4(f + 34, 40);
	put_ip4(f, IP_ICMP4, NULL, 0, 40);
	input(f, 74);
	CU_ASSERT_EQUAL(b.count, 1);
	pass_time(31 * NS_PER_S);
	input(f, 74);
	/* Asked again, unicast, and used meanwhile. */
	CU_ASSERT_EQUAL_FATAL(b.count, 3);
	CU_ASSERT_EQUAL(net_get16(b.frames[1] + 12), ETHER_ARP);
	CU_ASSERT_EQUAL(memcmp(b.frames[1], peer_mac, 6), 0);
	CU_ASSERT_EQUAL(net_get16(b.frames[2] + 12), ETHER_IP4);
	end();
}

static void test_arp__strangers_do_not_fill_the_table(void)
{
	uint8_t f[128], sender[4] = {10, 0, 0, 0};

	begin(0, false);
	learn_peer();
	for (int i = 3; i < 255; i++) {
		sender[3] = (uint8_t)i;
		input(f, put_arp(f, 2, sender, server_ip4));
	}
	put_echo4(f + 34, 40);
	input(f, put_ip4(f, IP_ICMP4, NULL, 0, 40));
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(net_get16(b.frames[0] + 12), ETHER_IP4);
	end();
}

/* The same host by its other port, or by one that shares our MAC. */
static void test_arp__first_answer_holds(void)
{
	struct net_address peer = net_ip4(peer_ip4);
	const struct net_neighbor *e;
	uint8_t f[64];

	begin(0, false);
	e = net_neighbor_for(b.net, &peer);
	put_arp(f, 2, peer_ip4, server_ip4);
	memcpy(f + 22, server_mac, 6);
	input(f, 42);
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_ASKED);
	input(f, put_arp(f, 2, peer_ip4, server_ip4));
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_KNOWN);
	memcpy(f + 22, other_mac, 6);
	input(f, 42);
	CU_ASSERT_EQUAL(memcmp(e->mac, peer_mac, 6), 0);
	/* A second later it has moved; to us it never does. */
	pass_time(NS_PER_S);
	input(f, 42);
	CU_ASSERT_EQUAL(memcmp(e->mac, other_mac, 6), 0);
	pass_time(NS_PER_S);
	memcpy(f + 22, server_mac, 6);
	input(f, 42);
	CU_ASSERT_EQUAL(memcmp(e->mac, other_mac, 6), 0);
	end();
}

static void test_route__others_are_reached_by_the_gateway(void)
{
	static const uint8_t gateway[4] = {10, 0, 0, 254};
	uint8_t f[128];

	begin(0, true);
	put_echo4(f + 34, 40);
	put_ip4(f, IP_ICMP4, NULL, 0, 40);
	put_bytes(f + 26, "\xc0\0\2\x09", 4);
	net_put16(f + 24, 0);
	net_put16(f + 24, peer_checksum(0, f + 14, 20));
	input(f, 74);
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(memcmp(b.frames[0] + 38, gateway, 4), 0);
	input(f, put_arp(f, 2, gateway, server_ip4));
	CU_ASSERT_EQUAL_FATAL(b.count, 2);
	CU_ASSERT_EQUAL(memcmp(b.frames[1] + 30, "\xc0\0\2\x09", 4), 0);
	end();
}

/* --- Ethernet --- */

static void test_ethernet__only_what_is_ours(void)
{
	uint8_t f[128];

	begin(0, false);
	learn_peer();
	put_echo4(f + 34, 40);
	put_ip4(f, IP_ICMP4, NULL, 0, 40);
	f[5] = 9;
	input(f, 74); /* another station's */
	f[5] = 1;
	f[6] |= 1;
	input(f, 74); /* from a group */
	f[6] &= 0xfe;
	for (size_t length = 0; length < 74; length++)
		input(f, length); /* cut short */
	CU_ASSERT_EQUAL(b.count, 0);
	input(f, 74);
	CU_ASSERT_EQUAL(b.count, 1);
	end();
}

static void test_vlan__tags_are_kept_to(void)
{
	uint8_t f[128], tagged[132];

	begin(7, false);
	input(f, put_arp(f, 1, peer_ip4, server_ip4));
	CU_ASSERT_EQUAL(b.count, 0);
	memcpy(tagged, f, 12);
	net_put16(tagged + 12, ETHER_VLAN);
	net_put16(tagged + 14, 0xe007); /* any priority */
	memcpy(tagged + 16, f + 12, 30);
	input(tagged, 46);
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(b.lengths[0], 46);
	CU_ASSERT_EQUAL(net_get16(b.frames[0] + 12), ETHER_VLAN);
	CU_ASSERT_EQUAL(net_get16(b.frames[0] + 14), 7);
	CU_ASSERT_EQUAL(net_get16(b.frames[0] + 16), ETHER_ARP);
	net_put16(tagged + 14, 8);
	input(tagged, 46);
	CU_ASSERT_EQUAL(b.count, 1);
	end();
}

/* --- IPv4 --- */

static void test_ip4__fragments_and_bad_headers_are_dropped(void)
{
	static const uint8_t at[] = {14, 15, 16, 17, 22, 24, 25, 26, 30};
	uint8_t f[128];

	begin(0, false);
	learn_peer();
	put_echo4(f + 34, 40);
	put_ip4(f, IP_ICMP4, NULL, 0, 40);
	for (size_t i = 0; i < sizeof(at); i++) {
		f[at[i]] ^= 0x21;
		input(f, 74);
		f[at[i]] ^= 0x21;
	}
	f[20] = 0x20; /* more fragments */
	net_put16(f + 24, 0);
	net_put16(f + 24, peer_checksum(0, f + 14, 20));
	input(f, 74);
	f[20] = 0;
	f[21] = 1; /* the second */
	net_put16(f + 24, 0);
	net_put16(f + 24, peer_checksum(0, f + 14, 20));
	input(f, 74);
	CU_ASSERT_EQUAL(b.count, 0);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->in_dropped_fragments, 2);
	end();
}

static void test_ip4__options_by_rule(void)
{
	static const struct {
		const char *bytes;
		bool passes;
	} options[] = {
		{"\1\1\1\0", true}, {"\x94\4\0\0", true}, /* router alert */
		{"\x44\4\5\0", true}, /* time stamp */
		{"\x83\4\4\0", false}, /* loose source route */
		{"\x89\4\4\0", false}, /* strict source route */
		{"\x94\0\0\0", false}, /* a length that is none */
		{"\1\1\1\x94", false}, /* no length */
	};
	uint8_t f[128];

	begin(0, false);
	learn_peer();
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		b.count = 0;
		put_echo4(f + 38, 40);
		input(f, put_ip4(f, IP_ICMP4, options[i].bytes, 4, 40));
		CU_ASSERT_EQUAL(b.count, options[i].passes);
	}
	end();
}

static void test_ip4__sources_that_cannot_be(void)
{
	static const uint8_t bad[][4] = {{0, 0, 0, 0}, {127, 0, 0, 1},
		{224, 0, 0, 1}, {255, 255, 255, 255}, {10, 0, 0, 1}};
	uint8_t f[128];

	begin(0, false);
	learn_peer();
	for (size_t i = 0; i < 5; i++) {
		put_echo4(f + 34, 40);
		put_ip4(f, IP_ICMP4, NULL, 0, 40);
		memcpy(f + 26, bad[i], 4);
		net_put16(f + 24, 0);
		net_put16(f + 24, peer_checksum(0, f + 14, 20));
		input(f, 74);
	}
	CU_ASSERT_EQUAL(b.count, 0);
	end();
}

static void test_icmp4__nobody_at_a_port(void)
{
	uint8_t f[128];

	begin(0, false);
	learn_peer();
	memset(f + 34, 0, 20);
	input(f, put_ip4(f, IP_UDP, NULL, 0, 20));
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(b.frames[0][34], ICMP4_UNREACHABLE);
	CU_ASSERT_EQUAL(b.frames[0][35], 3);
	CU_ASSERT_EQUAL(memcmp(b.frames[0] + 42, f + 14, 40), 0);
	/* A flood is not answered with one. */
	for (int i = 0; i < 1000; i++) {
		b.count = 0;
		input(f, 54);
	}
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->out_errors, 100);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->out_errors_withheld, 901);
	end();
}

/* --- path MTU --- */

static size_t put_syn(
	uint8_t *f, uint16_t port, uint8_t flags, uint32_t seq, uint32_t ack)
{
	uint8_t *t = f + 34;
	uint32_t sum = 6 + 24;

	memset(t, 0, 24);
	net_put16(t, port);
	net_put16(t + 2, CASE_PORT);
	net_put32(t + 4, seq);
	net_put32(t + 8, ack);
	t[12] = 0x60;
	t[13] = flags;
	net_put16(t + 14, 65535);
	put_bytes(t + 20, "\2\4\5\xb4", 4);
	put_ip4(f, IP_TCP, NULL, 0, 24);
	for (size_t i = 26; i < 34; i += 2)
		sum += net_get16(f + i);
	net_put16(t + 16, peer_checksum(sum, t, 24));
	return 58;
}

/* "Too big" about the segment at `seq`. */
static void too_big(uint32_t seq, uint16_t mtu)
{
	uint8_t f[128];
	uint8_t *icmp = f + 34;

	memset(icmp, 0, 36);
	icmp[0] = 3;
	icmp[1] = 4;
	net_put16(icmp + 6, mtu);
	icmp[8] = 0x45;
	net_put16(icmp + 10, 1500);
	icmp[17] = IP_TCP;
	memcpy(icmp + 20, server_ip4, 4);
	memcpy(icmp + 24, peer_ip4, 4);
	net_put16(icmp + 28, CASE_PORT);
	net_put16(icmp + 30, 999);
	net_put32(icmp + 32, seq);
	net_put16(icmp + 2, peer_checksum(0, icmp, 36));
	input(f, put_ip4(f, IP_ICMP4, NULL, 0, 36));
}

static void test_path__too_big_cuts_what_is_in_flight(void)
{
	static const uint8_t bytes[3000];
	const struct tcp_piece piece = {bytes, sizeof(bytes)};
	struct tcp *tcp;
	struct tcp_news news;
	uint8_t f[128];
	uint32_t isn;

	begin(0, false);
	tcp = net_stack_tcp(b.net);
	learn_peer();
	input(f, put_syn(f, 999, 2, 100, 0));
	isn = net_get32(b.frames[0] + 38);
	input(f, put_syn(f, 999, 16, 101, isn + 1));
	CU_ASSERT_TRUE_FATAL(tcp_next(tcp, &news) && news.opened);
	b.count = 0;
	CU_ASSERT_EQUAL(tcp_send(tcp, news.id, &piece, 1), 0);
	net_poll(b.net, b.now);
	CU_ASSERT_EQUAL(b.count, 3);
	CU_ASSERT_EQUAL(b.lengths[0], 1514);
	/* A guess beside what is in flight changes nothing. */
	too_big(isn + 4000, 600);
	too_big(isn, 600);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->in_too_big_refused, 2);
	CU_ASSERT_EQUAL(b.count, 3);
	too_big(isn + 1, 1006);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->in_too_big, 1);
	CU_ASSERT_TRUE_FATAL(b.count > 3);
	CU_ASSERT_EQUAL(b.lengths[3], 14 + 1006);
	/* The next connection to there begins with it. */
	b.count = 0;
	input(f, put_syn(f, 998, 2, 100, 0));
	isn = net_get32(b.frames[0] + 38);
	input(f, put_syn(f, 998, 16, 101, isn + 1));
	CU_ASSERT_TRUE_FATAL(tcp_next(tcp, &news) && news.opened);
	CU_ASSERT_EQUAL(tcp_send(tcp, news.id, &piece, 1), 0);
	b.count = 0;
	net_poll(b.net, b.now);
	CU_ASSERT_EQUAL(b.lengths[0], 14 + 1006);
	end();
}

static void test_path__is_never_pushed_below_552(void)
{
	static const uint8_t to[4] = {10, 0, 0, 77};
	struct net_address address = net_ip4(to);

	begin(0, false);
	net_path_learn(b.net, &address, 68);
	CU_ASSERT_EQUAL(net_path_mtu(b.net, &address), 552);
	net_path_learn(b.net, &address, 1400); /* larger: no news */
	CU_ASSERT_EQUAL(net_path_mtu(b.net, &address), 552);
	pass_time(601 * NS_PER_S);
	CU_ASSERT_EQUAL(net_path_mtu(b.net, &address), 1500);
	end();
}

/* --- IPv6 --- */

static size_t put_solicit(uint8_t *f, const uint8_t *to, uint8_t hops)
{
	uint8_t *nd = f + 54;

	memset(nd, 0, 32);
	nd[0] = ICMP6_SOLICIT;
	memcpy(nd + 8, server_ip6, 16);
	nd[24] = 1;
	nd[25] = 1;
	memcpy(nd + 26, peer_mac, 6);
	return put_ip6(f, to, IP_ICMP6, hops, 32);
}

static void test_nd__answers_neighbours_only(void)
{
	static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 1};
	uint8_t f[128];

	begin(0, false);
	input(f, put_solicit(f, group, 255));
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(b.frames[0][54], ICMP6_ADVERTISE);
	CU_ASSERT_EQUAL(b.frames[0][58], 0x60);
	CU_ASSERT_EQUAL(memcmp(b.frames[0] + 62, server_ip6, 16), 0);
	CU_ASSERT_EQUAL(memcmp(b.frames[0] + 80, server_mac, 6), 0);
	CU_ASSERT_EQUAL(b.frames[0][21], 255);
	CU_ASSERT_EQUAL(peer_checksum(sum6(b.frames[0] + 14, 32, IP_ICMP6),
				b.frames[0] + 54, 32),
		0);
	input(f, put_solicit(f, group, 254)); /* from beyond a router */
	CU_ASSERT_EQUAL(b.count, 1);
	end();
}

static size_t put_echo6(uint8_t *f)
{
	uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 1};

	input(f, put_solicit(f, group, 255));
	b.count = 0;
	memset(f + 54, 'e', 24);
	put_bytes(f + 54, "\x80\0\0\0\0\1\0\1", 8);
	return put_ip6(f, server_ip6, IP_ICMP6, 64, 24);
}

static void test_icmp6__echo(void)
{
	uint8_t f[128];
	size_t length;

	begin(0, false);
	length = put_echo6(f);
	input(f, length);
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(b.frames[0][54], ICMP6_ECHO_REPLY);
	CU_ASSERT_EQUAL(peer_checksum(sum6(b.frames[0] + 14, 24, IP_ICMP6),
				b.frames[0] + 54, 24),
		0);
	f[60] ^= 1; /* a wrong checksum */
	input(f, length);
	CU_ASSERT_EQUAL(b.count, 1);
	end();
}

/* One extension header before the echo; the answer comes or not. */
static bool passes(uint8_t kind, const char header[8])
{
	uint8_t f[128], g[128];
	size_t length;

	b.count = 0;
	length = put_echo6(f);
	memcpy(g, f, 54);
	g[20] = kind;
	net_put16(g + 18, net_get16(f + 18) + 8u);
	memcpy(g + 54, header, 8);
	g[54] = IP_ICMP6;
	memcpy(g + 62, f + 54, length - 54);
	input(g, length + 8);
	return b.count == 1;
}

static void test_ip6__extension_headers_by_rule(void)
{
	begin(0, false);
	CU_ASSERT_TRUE(passes(IP_HOP_BY_HOP, "\0\0\1\4\0\0\0\0"));
	CU_ASSERT_TRUE(passes(IP_DESTINATION, "\0\0\x1e\4\0\0\0\0"));
	CU_ASSERT_FALSE(passes(IP_DESTINATION, "\0\0\x5e\4\0\0\0\0"));
	CU_ASSERT_FALSE(passes(IP_HOP_BY_HOP, "\0\0\1\x9\0\0\0\0"));
	CU_ASSERT_TRUE(passes(IP_ROUTING, "\0\0\0\0\0\0\0\0"));
	CU_ASSERT_FALSE(passes(IP_ROUTING, "\0\0\0\1\0\0\0\0"));
	CU_ASSERT_TRUE(passes(IP_FRAGMENT, "\0\0\0\0\0\0\0\7"));
	CU_ASSERT_FALSE(passes(IP_FRAGMENT, "\0\0\0\1\0\0\0\7"));
	CU_ASSERT_FALSE(passes(IP_FRAGMENT, "\0\0\0\x8\0\0\0\7"));
	end();
}

/* --- IPv6: our own addresses, and what neighbours say of theirs --- */

static const uint8_t everyone[16] = {0xff, 2, [15] = 1};

static size_t put_advertisement(uint8_t *f, const uint8_t *to, uint8_t flags,
	const uint8_t *target, const uint8_t *mac)
{
	uint8_t *nd = f + 54;

	memset(nd, 0, 32);
	nd[0] = ICMP6_ADVERTISE;
	nd[4] = flags;
	memcpy(nd + 8, target, 16);
	if (mac) {
		nd[24] = 2;
		nd[25] = 1;
		memcpy(nd + 26, mac, 6);
	}
	return put_ip6(f, to, IP_ICMP6, 255, mac ? 32 : 24);
}

/* A solicitation as of a host that checks the address itself. */
static size_t put_probe(uint8_t *f)
{
	static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 1};

	put_solicit(f, group, 255);
	memset(f + 22, 0, 16);
	put_ip6(f, group, IP_ICMP6, 255, 24);
	memset(f + 22, 0, 16);
	net_put16(f + 56, 0);
	net_put16(
		f + 56, peer_checksum(sum6(f + 14, 24, IP_ICMP6), f + 54, 24));
	return 54 + 24;
}

/* What the stack has sent: so many ICMP messages of `type`. */
static uint32_t sent_count(uint8_t type, size_t at)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < b.count; i++)
		count += net_get16(b.frames[i] + 12) == ETHER_IP6 &&
			 b.frames[i][20] == (at == 54 ? IP_ICMP6 : 0) &&
			 b.frames[i][at] == type;
	return count;
}

static bool answers_solicitations(void)
{
	static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 1};
	uint8_t f[128];

	b.count = 0;
	input(f, put_solicit(f, group, 255));
	return sent_count(ICMP6_ADVERTISE, 54) == 1;
}

static void test_announce__addresses_are_checked_first(void)
{
	static const uint8_t nobody[16];
	const uint8_t *p = b.frames[1];

	announce = true;
	begin(0, false);
	announce = false;
	CU_ASSERT_EQUAL(net_deadline(b.net).ns, b.now.ns);
	pass_time(0);
	/* The groups, then one question for each address, of nobody. */
	CU_ASSERT_EQUAL(sent_count(ICMP6_REPORT, 62), 1);
	CU_ASSERT_EQUAL(sent_count(ICMP6_SOLICIT, 54), 2);
	CU_ASSERT_EQUAL_FATAL(b.count, 3);
	CU_ASSERT_EQUAL(b.lengths[1], 54 + 24);
	CU_ASSERT_EQUAL(p[21], 255);
	CU_ASSERT_EQUAL(memcmp(p + 22, nobody, 16), 0);
	CU_ASSERT_EQUAL(memcmp(p + 62, server_ip6, 16), 0);
	CU_ASSERT_EQUAL(
		peer_checksum(sum6(p + 14, 24, IP_ICMP6), p + 54, 24), 0);
	CU_ASSERT_FALSE(answers_solicitations());
	b.count = 0;
	pass_time(999 * NS_PER_MS);
	CU_ASSERT_EQUAL(b.count, 0);
	pass_time(2 * NS_PER_MS);
	/* Nobody had them: they are told to all, unasked. */
	CU_ASSERT_EQUAL(sent_count(ICMP6_REPORT, 62), 1);
	CU_ASSERT_EQUAL(sent_count(ICMP6_ADVERTISE, 54), 2);
	p = b.frames[b.count - 2];
	CU_ASSERT_EQUAL(p[58], 0x20);
	CU_ASSERT_EQUAL(memcmp(p + 38, everyone, 16), 0);
	CU_ASSERT_TRUE(answers_solicitations());
	b.count = 0;
	pass_time(100 * NS_PER_S);
	CU_ASSERT_EQUAL(b.count, 0);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->ip6_duplicates, 0);
	end();
}

/* Begin, and let one frame come in the middle of the check. */
static void check_with(const uint8_t *f, size_t length)
{
	announce = true;
	begin(0, false);
	announce = false;
	pass_time(0);
	pass_time(500 * NS_PER_MS);
	input(f, length);
	b.count = 0;
	pass_time(NS_PER_S);
}

static void test_announce__a_duplicate_is_never_used(void)
{
	uint8_t f[128];

	check_with(
		f, put_advertisement(f, everyone, 0x20, server_ip6, other_mac));
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->ip6_duplicates, 1);
	/* The link-local one is another. */
	CU_ASSERT_EQUAL(sent_count(ICMP6_ADVERTISE, 54), 1);
	CU_ASSERT_FALSE(answers_solicitations());
	end();
	/* Two check the same address: neither has it. */
	check_with(f, put_probe(f));
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->ip6_duplicates, 1);
	CU_ASSERT_FALSE(answers_solicitations());
	end();
	/* Our own question, brought back by a switch, is no answer. */
	put_probe(f);
	memcpy(f + 6, server_mac, 6);
	check_with(f, 54 + 24);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->ip6_duplicates, 0);
	CU_ASSERT_TRUE(answers_solicitations());
	end();
	/* Whoever only resolves it does not have it. */
	check_with(f, put_solicit(f, everyone, 255));
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->ip6_duplicates, 0);
	end();
}

/* RFC 3810, 5.1: a general query of the link's router, or of another. */
static void query(uint8_t hops)
{
	uint8_t f[128];

	memset(f + 54, 0, 28);
	f[54] = ICMP6_QUERY;
	net_put16(f + 58, 1000); /* ms, the longest delay */
	put_ip6(f, everyone, IP_ICMP6, hops, 28);
	memset(f + 22, 0, 16);
	f[22] = 0xfe;
	f[23] = 0x80;
	f[37] = 7;
	net_put16(f + 56, 0);
	net_put16(
		f + 56, peer_checksum(sum6(f + 14, 28, IP_ICMP6), f + 54, 28));
	b.count = 0;
	input(f, 54 + 28);
	pass_time(1001 * NS_PER_MS);
}

static void test_announce__routers_may_ask_for_groups(void)
{
	static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 1};
	const uint8_t *p = b.frames[0];

	announce = true;
	begin(0, false);
	announce = false;
	for (int i = 0; i < 4; i++)
		pass_time(NS_PER_S);
	query(1);
	CU_ASSERT_EQUAL_FATAL(b.count, 1);
	CU_ASSERT_EQUAL(sent_count(ICMP6_REPORT, 62), 1);
	CU_ASSERT_EQUAL(p[21], 1); /* hops */
	CU_ASSERT_EQUAL(memcmp(p + 54, "\x3a\0\5\2\0\0\1\0", 8), 0);
	CU_ASSERT_EQUAL(p[53], 0x16); /* ff02::16 */
	CU_ASSERT_EQUAL(net_get16(p + 68), 2);
	CU_ASSERT_EQUAL(p[70], 2); /* MODE_IS_EXCLUDE */
	CU_ASSERT_EQUAL(memcmp(p + 74, group, 16), 0);
	CU_ASSERT_EQUAL(
		peer_checksum(sum6(p + 14, 48, IP_ICMP6), p + 62, 48), 0);
	query(2); /* from beyond a router */
	CU_ASSERT_EQUAL(b.count, 0);
	end();
}

/* All that a switch, and who knows us, should hear. */
static void test_announce__at_another_place(void)
{
	const uint8_t *p = b.frames[0];

	announce = true;
	begin(0, false);
	announce = false;
	for (int i = 0; i < 4; i++)
		pass_time(NS_PER_S);
	b.count = 0;
	net_announce(b.net, b.now);
	CU_ASSERT_EQUAL_FATAL(b.count, 4);
	/* ARP for our own address, by us, to all. */
	CU_ASSERT_EQUAL(memcmp(p, "\xff\xff\xff\xff\xff\xff", 6), 0);
	CU_ASSERT_EQUAL(memcmp(p + 6, server_mac, 6), 0);
	CU_ASSERT_EQUAL(net_get16(p + 12), ETHER_ARP);
	CU_ASSERT_EQUAL(net_get16(p + 20), 1);
	CU_ASSERT_EQUAL(memcmp(p + 22, server_mac, 6), 0);
	CU_ASSERT_EQUAL(memcmp(p + 28, p + 38, 4), 0);
	CU_ASSERT_EQUAL(p[28], 10);
	CU_ASSERT_EQUAL(sent_count(ICMP6_ADVERTISE, 54), 2);
	CU_ASSERT_EQUAL(sent_count(ICMP6_REPORT, 62), 1);
	/* Nothing but that: it is over. */
	b.count = 0;
	pass_time(100 * NS_PER_S);
	CU_ASSERT_EQUAL(b.count, 0);
	end();
	/* Before the check nobody is told of an address of IPv6. */
	announce = true;
	begin(0, false);
	announce = false;
	net_announce(b.net, b.now);
	CU_ASSERT_EQUAL(sent_count(ICMP6_ADVERTISE, 54), 0);
	CU_ASSERT_EQUAL(net_get16(b.frames[0] + 12), ETHER_ARP);
	end();
}

/* Those who connect first do not wait for it. */
static void test_announce__gateways_are_asked_for_at_once(void)
{
	static const uint8_t gateway[4] = {10, 0, 0, 254};
	uint32_t before;

	announce = true;
	begin(0, true);
	announce = false;
	pass_time(0);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->neighbor_asked, 1);
	CU_ASSERT_EQUAL(net_get16(b.frames[b.count - 1] + 12), ETHER_ARP);
	CU_ASSERT_EQUAL(memcmp(b.frames[b.count - 1] + 38, gateway, 4), 0);
	before = b.count;
	pass_time(NS_PER_MS);
	CU_ASSERT_EQUAL(b.count, before);
	/* The other when there is an address to ask by. */
	pass_time(NS_PER_S);
	CU_ASSERT_EQUAL(sent_count(ICMP6_SOLICIT, 54), 3);
	CU_ASSERT_EQUAL(net_stack_counters(b.net)->neighbor_asked, 3);
	end();
}

/* RFC 4861, 7.2.5. */
static void test_nd__advertisements_by_rule(void)
{
	struct net_address peer = net_ip6(peer_ip6);
	const struct net_neighbor *e;
	uint8_t f[128];

	begin(0, false);
	e = net_neighbor_for(b.net, &peer);
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_ASKED);
	input(f, put_advertisement(f, server_ip6, 0x60, peer_ip6, server_mac));
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_ASKED);
	input(f, put_advertisement(f, server_ip6, 0x60, peer_ip6, NULL));
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_ASKED);
	/* Nobody was asked by a group, so nobody answers one. */
	input(f, put_advertisement(f, everyone, 0x60, peer_ip6, peer_mac));
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_ASKED);
	input(f, put_advertisement(f, server_ip6, 0x60, peer_ip6, peer_mac));
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_KNOWN);
	/* Another MAC without the override flag: doubt, no change. */
	input(f, put_advertisement(f, everyone, 0, peer_ip6, other_mac));
	CU_ASSERT_EQUAL(memcmp(e->mac, peer_mac, 6), 0);
	pass_time(6 * NS_PER_S);
	b.count = 0;
	net_neighbor_for(b.net, &peer);
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_PROBED);
	CU_ASSERT_EQUAL(sent_count(ICMP6_SOLICIT, 54), 1);
	CU_ASSERT_EQUAL(memcmp(b.frames[0], peer_mac, 6), 0);
	/* An answer needs no MAC where it is known. */
	input(f, put_advertisement(f, server_ip6, 0x40, peer_ip6, NULL));
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_KNOWN);
	/* With the flag it is changed, and proved by the next use. */
	input(f, put_advertisement(f, everyone, 0x20, peer_ip6, other_mac));
	CU_ASSERT_EQUAL(memcmp(e->mac, other_mac, 6), 0);
	pass_time(6 * NS_PER_S);
	net_neighbor_for(b.net, &peer);
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_PROBED);
	end();
}

static void test_nd__who_asks_has_proved_nothing(void)
{
	struct net_address peer = net_ip6(peer_ip6);
	const struct net_neighbor *e;

	begin(0, false);
	CU_ASSERT_TRUE(answers_solicitations());
	e = net_neighbor_for(b.net, &peer);
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_KNOWN);
	CU_ASSERT_EQUAL(memcmp(e->mac, peer_mac, 6), 0);
	pass_time(6 * NS_PER_S);
	net_neighbor_for(b.net, &peer);
	CU_ASSERT_EQUAL(e->state, NEIGHBOR_PROBED);
	end();
}

static void test_create__refuses_by_name(void)
{
	struct net_config config = case_config();
	struct net_stack *n;
	struct error err = {0};

	config.mtu_bytes = 1279;
	CU_ASSERT_EQUAL(net_stack_create(&config, b.now, &n, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "mtu"));
	config = case_config();
	config.mac[0] |= 1;
	err = (struct error){0};
	CU_ASSERT_EQUAL(net_stack_create(&config, b.now, &n, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "mac"));
	config = case_config();
	config.tcp.connection_count = 0;
	err = (struct error){0};
	CU_ASSERT_EQUAL(net_stack_create(&config, b.now, &n, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "connections"));
}

static const struct suite_case cases[] = {
	SUITE_CASE(arp__answers_for_its_address),
	SUITE_CASE(arp__asks_thrice_then_gives_up),
	SUITE_CASE(arp__what_waited_is_sent),
	SUITE_CASE(arp__entries_age),
	SUITE_CASE(arp__strangers_do_not_fill_the_table),
	SUITE_CASE(arp__first_answer_holds),
	SUITE_CASE(route__others_are_reached_by_the_gateway),
	SUITE_CASE(ethernet__only_what_is_ours),
	SUITE_CASE(vlan__tags_are_kept_to),
	SUITE_CASE(ip4__fragments_and_bad_headers_are_dropped),
	SUITE_CASE(ip4__options_by_rule),
	SUITE_CASE(ip4__sources_that_cannot_be),
	SUITE_CASE(icmp4__nobody_at_a_port),
	SUITE_CASE(path__too_big_cuts_what_is_in_flight),
	SUITE_CASE(path__is_never_pushed_below_552),
	SUITE_CASE(nd__answers_neighbours_only),
	SUITE_CASE(icmp6__echo),
	SUITE_CASE(ip6__extension_headers_by_rule),
	SUITE_CASE(announce__addresses_are_checked_first),
	SUITE_CASE(announce__a_duplicate_is_never_used),
	SUITE_CASE(announce__routers_may_ask_for_groups),
	SUITE_CASE(announce__at_another_place),
	SUITE_CASE(announce__gateways_are_asked_for_at_once),
	SUITE_CASE(nd__advertisements_by_rule),
	SUITE_CASE(nd__who_asks_has_proved_nothing),
	SUITE_CASE(create__refuses_by_name),
};

int main(void)
{
	return SUITE_MAIN("net", cases);
}
