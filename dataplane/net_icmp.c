/* net_icmp.c - echo, and errors in and out (RFC 792, RFC 4443) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"

#define TCP_QUOTED_BYTES 8 /* ports and sequence number: all that is sure */

static void drop(struct net_stack *n)
{
	n->counters.in_dropped_icmp++;
}

static void echo(struct net_stack *n, const struct net_in *in, bool ip4)
{
	struct net_out out;
	size_t header = ip4 ? IP4_BYTES : IP6_BYTES;

	if (in->broadcast || in->local == NET_LOCAL_NONE ||
		in->length + header > n->config.mtu_bytes)
		return drop(n);
	n->counters.in_echo++;
	if (net_out_begin(
		    n, &in->from, in->local, in->protocol, in->length, &out))
		return;
	memcpy(out.data, in->data, in->length);
	out.data[0] = ip4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
	net_out_send(n, &out, in->length, 2, 0);
}

/*
 * The packet that an error quotes: did we send it, to whom, and what is left
 * of its TCP header.
 */
static bool quoted(const struct net_in *in, bool ip4,
	struct net_address *out_to, const uint8_t **out_tcp)
{
	const uint8_t *p = in->data + ICMP_BYTES;
	size_t length = in->length - ICMP_BYTES;
	size_t header = IP6_BYTES;

	if (length < IP4_BYTES || p[0] >> 4 != (ip4 ? 4 : 6))
		return false;
	if (ip4)
		header = (size_t)(p[0] & 15) * 4;
	if (header < IP4_BYTES || length < header + TCP_QUOTED_BYTES)
		return false;
	/* We send no extension headers, so none is looked for. */
	if (p[ip4 ? 9 : 6] != IP_TCP)
		return false;
	if (memcmp(p + (ip4 ? 12 : 8), in->to.bytes + (ip4 ? 12 : 0),
		    ip4 ? 4 : 16) != 0)
		return false;
	*out_to = ip4 ? net_ip4(p + 16) : net_ip6(p + 24);
	*out_tcp = p + header;
	return true;
}

/* RFC 1191 section 7: what a router that names no size may have meant. */
static uint32_t plateau_below(uint32_t bytes)
{
	static const uint16_t plateaus[] = {8166, 4352, 2002, 1492, 1006, 552};

	for (size_t i = 0; i < sizeof(plateaus) / sizeof(plateaus[0]); i++)
		if (plateaus[i] < bytes)
			return plateaus[i];
	return 552;
}

static void error_input(
	struct net_stack *n, const struct net_in *in, bool ip4, bool too_big)
{
	struct net_address to;
	const uint8_t *tcp;
	uint32_t mtu = 0;

	net_tell(n, in);
	if (in->local == NET_LOCAL_NONE || !quoted(in, ip4, &to, &tcp))
		return drop(n);
	if (too_big)
		mtu = ip4 ? net_get16(in->data + 6) : net_get32(in->data + 4);
	if (too_big && mtu == 0)
		mtu = plateau_below(
			net_get16(in->data + ICMP_BYTES + (ip4 ? 2 : 4)));
	if (!too_big) {
		n->counters.in_icmp_errors++;
		tcp_icmp(n->tcp, &to, in->local, tcp, 0);
	} else if (tcp_icmp(n->tcp, &to, in->local, tcp, mtu)) {
		n->counters.in_too_big++;
	} else {
		n->counters.in_too_big_refused++;
	}
}

void net_icmp4_input(struct net_stack *n, const struct net_in *in)
{
	uint8_t type, code;

	if (in->length < ICMP_BYTES ||
		net_sum_fold(net_sum(0, in->data, in->length)) != 0xffff)
		return drop(n);
	type = in->data[0];
	code = in->data[1];
	if (type == ICMP4_ECHO)
		echo(n, in, true);
	else if (type == ICMP4_UNREACHABLE)
		error_input(n, in, true, code == 4);
	else if (type == ICMP4_TIME_EXCEEDED || type == ICMP4_PARAMETER)
		error_input(n, in, true, false);
	else
		drop(n); /* source quench too: RFC 6633 */
}

static void neighbor_input(struct net_stack *n, const struct net_in *in)
{
	net_tell(n, in);
	net_nd_input(n, in);
}

void net_icmp6_input(struct net_stack *n, const struct net_in *in)
{
	static const struct net_address nobody;
	uint64_t sum;
	uint8_t type;

	sum = net_sum_pseudo(&in->from, &in->to, IP_ICMP6, in->length);
	if (in->length < ICMP_BYTES ||
		net_sum_fold(net_sum(sum, in->data, in->length)) != 0xffff)
		return drop(n);
	type = in->data[0];
	/* Who has no address yet can ask for one's, and nothing else. */
	if (type != ICMP6_SOLICIT && net_same(&in->from, &nobody))
		return drop(n);
	if (type == ICMP6_ECHO)
		echo(n, in, false);
	else if (type == ICMP6_SOLICIT || type == ICMP6_ADVERTISE)
		neighbor_input(n, in);
	else if (type == ICMP6_QUERY)
		net_announce_query(n, in);
	else if (type == ICMP6_TOO_BIG)
		error_input(n, in, false, true);
	else if (type == ICMP6_UNREACHABLE || type == ICMP6_TIME_EXCEEDED ||
		 type == ICMP6_PARAMETER)
		error_input(n, in, false, false);
	else
		drop(n);
}

void net_icmp_unreachable(
	struct net_stack *n, const struct net_in *in, bool port)
{
	bool ip4 = net_is_ip4(&in->from);
	size_t quote = in->packet_length, bytes;
	size_t quote_max =
		ip4 ? 548 : NET_MTU_BYTES_MIN - IP6_BYTES - ICMP_BYTES;
	struct net_out out;

	if (in->broadcast || in->local == NET_LOCAL_NONE)
		return;
	if (!net_bucket_take(&n->errors, n->now)) {
		n->counters.out_errors_withheld++;
		return;
	}
	if (quote > quote_max)
		quote = quote_max;
	bytes = ICMP_BYTES + quote;
	if (net_out_begin(n, &in->from, in->local, ip4 ? IP_ICMP4 : IP_ICMP6,
		    bytes, &out))
		return;
	memset(out.data, 0, ICMP_BYTES);
	memcpy(out.data + ICMP_BYTES, in->packet, quote);
	if (ip4) {
		out.data[0] = ICMP4_UNREACHABLE;
		out.data[1] = port ? 3 : 2;
	} else {
		/* An unknown next header is a parameter problem there. */
		out.data[0] = port ? ICMP6_UNREACHABLE : ICMP6_PARAMETER;
		out.data[1] = port ? 4 : 1;
		if (!port)
			net_put32(out.data + 4, 6);
	}
	n->counters.out_errors++;
	net_out_send(n, &out, bytes, 2, 0);
}
