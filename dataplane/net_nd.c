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
	const size_t bytes = ND_BYTES + OPTION_BYTES;
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
	nd[ND_BYTES] = body[0] == ICMP6_SOLICIT ? OPTION_SOURCE : OPTION_TARGET;
	nd[ND_BYTES + 1] = 1;
	memcpy(nd + ND_BYTES + 2, n->config.mac, 6);
	net_sum_store(nd + 2,
		net_sum(net_sum_pseudo(from, to, IP_ICMP6, bytes), nd, bytes));
	net_frame_send(n, p, IP6_BYTES + bytes);
}

void net_nd_ask(struct net_stack *n, const struct net_address *address,
	const uint8_t *mac)
{
	struct net_address group = {.bytes = {0xff, 2, [11] = 1, 0xff}};
	uint8_t group_mac[6] = {0x33, 0x33, 0xff};
	uint8_t body[ND_BYTES] = {ICMP6_SOLICIT};
	bool near = address->bytes[0] == 0xfe;

	memcpy(group.bytes + 13, address->bytes + 13, 3);
	memcpy(group_mac + 3, address->bytes + 13, 3);
	memcpy(body + 8, address->bytes, 16);
	send_nd(n, mac ? mac : group_mac,
		&n->local[near ? NET_LOCAL_LINK : NET_LOCAL_IP6],
		mac ? address : &group, body);
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
	static const struct net_address nobody,
		all = {.bytes = {0xff, 2, [15] = 1}};
	static const uint8_t all_mac[6] = {0x33, 0x33, [5] = 1};
	uint8_t body[ND_BYTES] = {ICMP6_ADVERTISE};
	bool probe = net_same(&in->from, &nobody);

	body[4] = probe ? FLAG_OVERRIDE : FLAG_SOLICITED | FLAG_OVERRIDE;
	memcpy(body + 8, target->bytes, 16);
	if (!probe && mac)
		net_neighbor_heard(n, &in->from, mac, true);
	send_nd(n, probe ? all_mac : in->mac, target, probe ? &all : &in->from,
		body);
}

void net_nd_input(struct net_stack *n, const struct net_in *in)
{
	bool asks = in->data[0] == ICMP6_SOLICIT;
	struct net_address target;
	const uint8_t *mac;

	if (in->hops != 255 || in->data[1] != 0 || in->length < ND_BYTES ||
		!find_mac(in, asks ? OPTION_SOURCE : OPTION_TARGET, &mac)) {
		n->counters.in_dropped_icmp++;
		return;
	}
	target = net_ip6(in->data + 8);
	if (!asks) {
		if (mac && target.bytes[0] != 0xff)
			net_neighbor_heard(n, &target, mac, false);
		return;
	}
	for (int i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++)
		if (n->local_set[i] && net_same(&target, &n->local[i]))
			answer(n, in, &n->local[i], mac);
}
