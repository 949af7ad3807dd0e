/* net_nd.c - IPv6's neighbours (RFC 4861) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"

#define ND_BYTES 24 /* header and target */
#define OPTION_BYTES 8

enum { OPTION_SOURCE = 1, OPTION_TARGET = 2 };
enum { FLAG_SOLICITED = 0x40, FLAG_OVERRIDE = 0x20 };

/* A whole packet: neighbour discovery cannot ask for neighbours itself. */
static void send_nd(struct net_stack *n, const uint8_t *mac,
	const struct net_address *from, const struct net_address *to,
	const uint8_t body[ND_BYTES])
{
	static const struct net_address nobody;
	bool option = !net_same(from, &nobody);
	const size_t bytes = ND_BYTES + (option ? OPTION_BYTES : 0);
	uint8_t *p = net_frame_begin(n, mac, ETHER_IP6, IP6_BYTES + bytes);
	uint8_t *nd;

	if (!p)
		return;
	nd = p + IP6_BYTES;
	net_put32(p, 0x60000000);
	net_put16(p + 4, (uint32_t)bytes);
	p[6] = IP_ICMP6;
	p[7] = 255;
	memcpy(p + 8, from->bytes, 16);
	memcpy(p + 24, to->bytes, 16);
	memcpy(nd, body, ND_BYTES);
	if (option) {
		nd[ND_BYTES] = body[0] == ICMP6_SOLICIT ? OPTION_SOURCE
							: OPTION_TARGET;
		nd[ND_BYTES + 1] = 1;
		memcpy(nd + ND_BYTES + 2, n->config.mac, 6);
	}
	net_sum_store(nd + 2,
		net_sum(net_sum_pseudo(from, to, IP_ICMP6, bytes), nd, bytes));
	net_frame_send(n, p, IP6_BYTES + bytes);
}

/* Ask for `address`; mac NULL = its group. */
static void solicit(struct net_stack *n, const struct net_address *from,
	const struct net_address *address, const uint8_t *mac)
{
	struct net_address group = {.bytes = {0xff, 2, [11] = 1, 0xff}};
	uint8_t group_mac[6] = {0x33, 0x33, 0xff};
	uint8_t body[ND_BYTES] = {ICMP6_SOLICIT};

	memcpy(group.bytes + 13, address->bytes + 13, 3);
	memcpy(group_mac + 3, address->bytes + 13, 3);
	memcpy(body + 8, address->bytes, 16);
	send_nd(n, mac ? mac : group_mac, from, mac ? address : &group, body);
}

void net_nd_ask(struct net_stack *n, const struct net_address *address,
	const uint8_t *mac)
{
	bool near = address->bytes[0] == 0xfe;

	solicit(n, &n->local[near ? NET_LOCAL_LINK : NET_LOCAL_IP6], address,
		mac);
}

void net_nd_probe(struct net_stack *n, const struct net_address *address)
{
	static const struct net_address nobody;

	solicit(n, &nobody, address, NULL);
}

static const struct net_address all_nodes = {.bytes = {0xff, 2, [15] = 1}};
static const uint8_t all_nodes_mac[6] = {0x33, 0x33, [5] = 1};

void net_nd_announce(struct net_stack *n, const struct net_address *address)
{
	uint8_t body[ND_BYTES] = {ICMP6_ADVERTISE, [4] = FLAG_OVERRIDE};

	memcpy(body + 8, address->bytes, 16);
	send_nd(n, all_nodes_mac, address, &all_nodes, body);
}

/* The link-layer address in option `kind`; false = the options are bad. */
static bool find_mac(
	const struct net_in *in, uint8_t kind, const uint8_t **out_mac)
{
	size_t at = ND_BYTES;

	*out_mac = NULL;
	while (at < in->length) {
		const uint8_t *option = in->data + at;
		size_t left = in->length - at, bytes;

		if (left < 2)
			return false;
		bytes = (size_t)option[1] * 8;
		if (bytes == 0 || bytes > left)
			return false;
		if (option[0] == kind && option[1] == 1)
			*out_mac = option + 2;
		at += bytes;
	}
	return true;
}

static void answer(struct net_stack *n, const struct net_in *in,
	const struct net_address *target, const uint8_t *mac)
{
	static const struct net_address nobody;
	uint8_t body[ND_BYTES] = {
		ICMP6_ADVERTISE, [4] = FLAG_SOLICITED | FLAG_OVERRIDE};

	/* Who checks whether it may have our address: all shall hear. */
	if (net_same(&in->from, &nobody)) {
		if (!in->told)
			net_nd_announce(n, target);
		return;
	}
	memcpy(body + 8, target->bytes, 16);
	if (mac)
		net_neighbor_suggested(n, &in->from, mac);
	if (!in->told)
		send_nd(n, in->mac, target, &in->from, body);
}

static void solicited(struct net_stack *n, const struct net_in *in,
	uint8_t local, const uint8_t *mac)
{
	static const struct net_address nobody;

	if (n->ip6_states[local] == NET_IP6_READY)
		answer(n, in, &n->local[local], mac);
	/* Another checks the same address; our own may come back to us. */
	else if (net_same(&in->from, &nobody) &&
		 memcmp(in->mac, n->config.mac, 6) != 0)
		net_announce_duplicate(n, local);
}

static void advertised(struct net_stack *n, const struct net_in *in,
	const struct net_address *target, const uint8_t *mac)
{
	const struct net_advertised a = {.address = target,
		.mac = mac,
		.solicited = in->data[4] & FLAG_SOLICITED,
		.override = in->data[4] & FLAG_OVERRIDE};

	for (uint8_t i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++)
		if (n->local_set[i] && net_same(target, &n->local[i]) &&
			memcmp(in->mac, n->config.mac, 6) != 0)
			net_announce_duplicate(n, i);
	net_neighbor_advertised(n, &a);
}

/* RFC 4861, 7.1: what no neighbour sends. */
static bool is_sound(const struct net_in *in, bool asks, const uint8_t *mac)
{
	static const struct net_address nobody;
	bool group = in->to.bytes[0] == 0xff;

	if (in->hops != 255 || in->data[1] != 0 || in->data[8] == 0xff)
		return false;
	if (asks)
		return !net_same(&in->from, &nobody) || (group && !mac);
	return !group || !(in->data[4] & FLAG_SOLICITED);
}

void net_nd_input(struct net_stack *n, const struct net_in *in)
{
	bool asks = in->data[0] == ICMP6_SOLICIT;
	struct net_address target;
	const uint8_t *mac;

	if (in->length < ND_BYTES ||
		!find_mac(in, asks ? OPTION_SOURCE : OPTION_TARGET, &mac) ||
		!is_sound(in, asks, mac)) {
		n->counters.in_dropped_icmp++;
		return;
	}
	target = net_ip6(in->data + 8);
	if (!asks) {
		advertised(n, in, &target, mac);
		return;
	}
	for (uint8_t i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++)
		if (n->local_set[i] && net_same(&target, &n->local[i]))
			solicited(n, in, i, mac);
}
