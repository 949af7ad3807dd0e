/* net_ip.c - IPv4 and IPv6 coming in (frames -> TCP, ICMP) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"

#define HEADER_COUNT_MAX 8

static void drop(struct net_stack *n)
{
	n->counters.in_dropped_ip++;
}

/* Options: only what could send packets elsewhere is refused. */
static bool ip4_options_pass(const uint8_t *options, size_t length)
{
	enum { END = 0, NOP = 1, LOOSE_ROUTE = 131, STRICT_ROUTE = 137 };

	for (size_t at = 0; at < length;) {
		if (options[at] == END)
			return true;
		if (options[at] == NOP) {
			at++;
			continue;
		}
		if (options[at] == LOOSE_ROUTE || options[at] == STRICT_ROUTE)
			return false;
		if (at + 1 >= length || options[at + 1] < 2)
			return false;
		at += options[at + 1];
	}
	return true;
}

static void dispatch(struct net_stack *n, struct net_in *in, bool ip4)
{
	if (in->protocol == IP_TCP) {
		/* Neither end of a connection is a group. */
		if (in->broadcast || in->local == NET_LOCAL_NONE)
			drop(n);
		else
			tcp_input(n->tcp, in);
	} else if (in->protocol == (ip4 ? IP_ICMP4 : IP_ICMP6)) {
		if (ip4)
			net_icmp4_input(n, in);
		else
			net_icmp6_input(n, in);
	} else {
		n->counters.in_dropped_ip++;
		net_icmp_unreachable(n, in, in->protocol == IP_UDP);
	}
}

/* A source that cannot be one: a group, the loop, nobody, ourselves. */
static bool ip4_source_bad(const struct net_stack *n, const uint8_t *from)
{
	return from[0] >= 224 || from[0] == 127 || from[0] == 0 ||
	       memcmp(from, n->config.ip4, 4) == 0;
}

void net_ip4_input(struct net_stack *n, const uint8_t *packet, size_t length,
	struct net_in *in)
{
	size_t header, total;

	if (length < IP4_BYTES || packet[0] >> 4 != 4)
		return drop(n);
	header = (size_t)(packet[0] & 15) * 4;
	total = net_get16(packet + 2);
	if (header < IP4_BYTES || total < header || total > length ||
		net_sum_fold(net_sum(0, packet, header)) != 0xffff)
		return drop(n);
	/* An address of the subnet's broadcast is nobody's here either. */
	if (memcmp(packet + 16, n->config.ip4, 4) != 0 ||
		ip4_source_bad(n, packet + 12))
		return drop(n);
	if (net_get16(packet + 6) & 0x3fff) {
		n->counters.in_dropped_fragments++;
		return;
	}
	if (!ip4_options_pass(packet + IP4_BYTES, header - IP4_BYTES))
		return drop(n);
	in->from = net_ip4(packet + 12);
	in->to = n->local[NET_LOCAL_IP4];
	in->local = NET_LOCAL_IP4;
	in->packet = packet;
	in->packet_length = total;
	in->protocol = packet[9];
	in->hops = packet[8];
	in->data = packet + header;
	in->length = total - header;
	dispatch(n, in, true);
}

uint32_t net_ip4_ahead(
	const struct net_stack *n, const uint8_t *packet, size_t length)
{
	struct net_in in = {.local = NET_LOCAL_IP4};

	if (length < IP4_BYTES + TCP_BYTES || packet[0] != 0x45 ||
		packet[9] != IP_TCP)
		return 0;
	in.from = net_ip4(packet + 12);
	in.data = packet + IP4_BYTES;
	in.length = length - IP4_BYTES;
	return tcp_ahead(n->tcp, &in);
}

/* The options of one hop-by-hop or destination header. */
static bool ip6_options_pass(const uint8_t *options, size_t length)
{
	for (size_t at = 0; at < length;) {
		if (options[at] == 0) { /* one byte of padding */
			at++;
			continue;
		}
		if (at + 1 >= length || at + 2 + options[at + 1] > length)
			return false;
		/* Unknown: the upper two bits say what to do. */
		if (options[at] >> 6 != 0)
			return false;
		at += 2u + options[at + 1];
	}
	return true;
}

/*
 * Skip one extension header; -1 = drop, 0 = it is the transport's, 1 = go on.
 */
static int ip6_skip(struct net_stack *n, struct net_in *in)
{
	size_t bytes;

	switch (in->protocol) {
	case IP_HOP_BY_HOP:
	case IP_DESTINATION:
	case IP_ROUTING:
		if (in->length < 8)
			return -1;
		bytes = ((size_t)in->data[1] + 1) * 8;
		if (bytes > in->length)
			return -1;
		if (in->protocol == IP_ROUTING
				? in->data[3] != 0
				: !ip6_options_pass(in->data + 2, bytes - 2))
			return -1;
		break;
	case IP_FRAGMENT:
		bytes = 8;
		if (in->length < bytes)
			return -1;
		if (net_get16(in->data + 2) & 0xfff9) {
			n->counters.in_dropped_fragments++;
			return -1;
		}
		break;
	default:
		return 0;
	}
	in->protocol = in->data[0];
	in->data += bytes;
	in->length -= bytes;
	return 1;
}

/* Which of our addresses; multicast that concerns us is NET_LOCAL_NONE. */
static bool ip6_is_ours(
	const struct net_stack *n, const uint8_t *to, uint8_t *out_local)
{
	static const uint8_t all[16] = {0xff, 2, [15] = 1};
	static const uint8_t group[13] = {0xff, 2, [11] = 1, 0xff};

	for (uint8_t i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++) {
		*out_local = i;
		if (memcmp(to, n->local[i].bytes, 16) == 0)
			return true;
		*out_local = NET_LOCAL_NONE;
		if (memcmp(to, group, 13) == 0 &&
			memcmp(to + 13, n->local[i].bytes + 13, 3) == 0)
			return true;
	}
	*out_local = NET_LOCAL_NONE;
	return memcmp(to, all, 16) == 0;
}

static bool ip6_source_bad(const struct net_stack *n, const uint8_t *from)
{
	static const uint8_t loop[16] = {[15] = 1};

	return from[0] == 0xff || memcmp(from, loop, 16) == 0 ||
	       memcmp(from, n->local[NET_LOCAL_IP6].bytes, 16) == 0 ||
	       memcmp(from, n->local[NET_LOCAL_LINK].bytes, 16) == 0;
}

void net_ip6_input(struct net_stack *n, const uint8_t *packet, size_t length,
	struct net_in *in)
{
	static const uint8_t nobody[16];
	int more = 1;

	if (length < IP6_BYTES || packet[0] >> 4 != 6 ||
		net_get16(packet + 4) > length - IP6_BYTES)
		return drop(n);
	if (!ip6_is_ours(n, packet + 24, &in->local) ||
		ip6_source_bad(n, packet + 8))
		return drop(n);
	/* What is for an address that is not ours yet, or never will be. */
	if (in->local != NET_LOCAL_NONE &&
		n->ip6_states[in->local] != NET_IP6_READY)
		return drop(n);
	in->from = net_ip6(packet + 8);
	/* A mapped address on the wire would pass for IPv4. */
	if (net_is_ip4(&in->from))
		return drop(n);
	in->to = net_ip6(packet + 24);
	in->packet = packet;
	in->packet_length = IP6_BYTES + (size_t)net_get16(packet + 4);
	in->protocol = packet[6];
	in->hops = packet[7];
	in->data = packet + IP6_BYTES;
	in->length = net_get16(packet + 4);
	for (int i = 0; i <= HEADER_COUNT_MAX && more > 0; i++)
		more = ip6_skip(n, in);
	/* Nobody may ask who is nobody, but for its own address (ND). */
	if (more != 0 || in->protocol == IP_NONE ||
		(memcmp(packet + 8, nobody, 16) == 0 &&
			in->protocol != IP_ICMP6))
		return drop(n);
	dispatch(n, in, false);
}

uint32_t net_ip6_ahead(
	const struct net_stack *n, const uint8_t *packet, size_t length)
{
	struct net_in in = {0};

	if (length < IP6_BYTES + TCP_BYTES || packet[6] != IP_TCP ||
		!ip6_is_ours(n, packet + 24, &in.local))
		return 0;
	in.from = net_ip6(packet + 8);
	in.data = packet + IP6_BYTES;
	in.length = length - IP6_BYTES;
	return tcp_ahead(n->tcp, &in);
}
