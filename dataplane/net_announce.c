/* net_announce.c - our IPv6 addresses, before and while they are used */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check:   RFC 4862, 5.4: one solicitation for each address from nobody; for
 *          a second nothing is sent from it nor taken for it. Whoever answers,
 *          or asks the same, has it: then it is never used here.
 * Then:    one advertisement that nobody asked for, so that who knew another
 *          MAC of it learns ours (RFC 4861, 7.2.6).
 * Groups:  RFC 3810: the groups of neighbour discovery are reported at the
 *          start, a second later again, and when a router asks. Switches that
 *          watch these reports would keep solicitations from us otherwise.
 *          Reports are of version 2 alone.
 * Follower: of several stacks with these addresses one does all this. The
 *          others wait as long, and hear of duplicates as it does.
 */
#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"

#define CHECK_NS (1 * NS_PER_S)
#define REPORT_COUNT 2 /* unasked ones */
#define REPORT_DELAY_MS_MAX 10000u
#define HOP_BYTES 8 /* hop-by-hop header: router alert (RFC 2711) */
#define REPORT_BYTES 8
#define RECORD_BYTES 20

enum { RECORD_IS_EXCLUDE = 2, RECORD_TO_EXCLUDE = 4 };

static bool is_any(const struct net_stack *n, enum net_ip6_state state)
{
	for (int i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++)
		if (n->local_set[i] && n->ip6_states[i] == state)
			return true;
	return false;
}

void net_announce_init(struct net_stack *n)
{
	if (!n->config.ip6_announce || !n->local_set[NET_LOCAL_IP6])
		return;
	for (int i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++)
		n->ip6_states[i] = NET_IP6_TENTATIVE;
	n->reports_left = n->config.peers.follows ? 0 : REPORT_COUNT;
	n->report_due_ns = n->announce_due_ns = n->now.ns;
}

static size_t put_records(const struct net_stack *n, uint8_t *p, uint8_t type)
{
	static const uint8_t group[13] = {0xff, 2, [11] = 1, 0xff};
	size_t bytes = 0;

	for (int i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++) {
		if (n->ip6_states[i] == NET_IP6_DUPLICATE)
			continue;
		memset(p + bytes, 0, RECORD_BYTES);
		p[bytes] = type;
		memcpy(p + bytes + 4, group, sizeof(group));
		memcpy(p + bytes + 17, n->local[i].bytes + 13, 3);
		bytes += RECORD_BYTES;
	}
	return bytes;
}

static void report(struct net_stack *n, uint8_t type)
{
	static const struct net_address nobody,
		routers = {.bytes = {0xff, 2, [15] = 0x16}};
	static const uint8_t mac[6] = {0x33, 0x33, [5] = 0x16};
	static const uint8_t alert[HOP_BYTES] = {IP_ICMP6, 0, 5, 2, 0, 0, 1, 0};
	const struct net_address *from =
		n->ip6_states[NET_LOCAL_LINK] == NET_IP6_READY
			? &n->local[NET_LOCAL_LINK]
			: &nobody;
	uint8_t *p = net_frame_begin(n, mac, ETHER_IP6,
		IP6_BYTES + HOP_BYTES + REPORT_BYTES + 2 * RECORD_BYTES);
	uint8_t *icmp;
	size_t bytes;

	if (!p)
		return;
	icmp = p + IP6_BYTES + HOP_BYTES;
	memset(icmp, 0, REPORT_BYTES);
	icmp[0] = ICMP6_REPORT;
	bytes = REPORT_BYTES + put_records(n, icmp + REPORT_BYTES, type);
	net_put16(icmp + 6, (uint32_t)((bytes - REPORT_BYTES) / RECORD_BYTES));
	net_put32(p, 0x60000000);
	net_put16(p + 4, (uint32_t)(HOP_BYTES + bytes));
	p[6] = IP_HOP_BY_HOP;
	p[7] = 1;
	memcpy(p + 8, from->bytes, 16);
	memcpy(p + 24, routers.bytes, 16);
	memcpy(p + IP6_BYTES, alert, HOP_BYTES);
	net_sum_store(icmp + 2,
		net_sum(net_sum_pseudo(from, &routers, IP_ICMP6, bytes), icmp,
			bytes));
	net_frame_send(n, p, IP6_BYTES + HOP_BYTES + bytes);
}

/* RFC 3810, 5.1.14: a query is of the link's own router, one hop away. */
void net_announce_query(struct net_stack *n, const struct net_in *in)
{
	uint32_t delay_ms;
	uint64_t due;

	if (!n->config.ip6_announce || in->length < 24 || in->hops != 1 ||
		in->from.bytes[0] != 0xfe || (in->from.bytes[1] & 0xc0) != 0x80)
		return;
	delay_ms = net_get16(in->data + 4);
	if (delay_ms > REPORT_DELAY_MS_MAX)
		delay_ms = REPORT_DELAY_MS_MAX;
	/* Anywhere within it, so that not all hosts answer at once. */
	due = n->now.ns + siphash_1_3(&n->table_key, n->config.mac, 6) %
				  (delay_ms + 1) * NS_PER_MS;
	if (n->reports_left == 0 || due < n->report_due_ns)
		n->report_due_ns = due;
	if (n->reports_left == 0)
		n->reports_left = 1;
	n->report_asked = true;
}

static void reports_poll(struct net_stack *n)
{
	if (n->reports_left == 0 || n->now.ns < n->report_due_ns)
		return;
	report(n, n->report_asked ? RECORD_IS_EXCLUDE : RECORD_TO_EXCLUDE);
	n->report_asked = false;
	n->reports_left--;
	n->report_due_ns = n->now.ns + CHECK_NS;
}

static void check_begin(struct net_stack *n)
{
	for (int i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++)
		if (n->ip6_states[i] == NET_IP6_TENTATIVE &&
			!n->config.peers.follows)
			net_nd_probe(n, &n->local[i]);
	n->announce_asked = true;
	n->announce_due_ns = n->now.ns + CHECK_NS;
}

static void check_end(struct net_stack *n)
{
	for (int i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++) {
		if (n->ip6_states[i] != NET_IP6_TENTATIVE)
			continue;
		n->ip6_states[i] = NET_IP6_READY;
		if (!n->config.peers.follows)
			net_nd_announce(n, &n->local[i]);
	}
}

void net_announce_poll(struct net_stack *n)
{
	reports_poll(n);
	if (!is_any(n, NET_IP6_TENTATIVE) || n->now.ns < n->announce_due_ns)
		return;
	if (n->announce_asked)
		check_end(n);
	else
		check_begin(n);
}

uint64_t net_announce_due_ns(const struct net_stack *n)
{
	uint64_t ns = n->reports_left ? n->report_due_ns : UINT64_MAX;

	if (is_any(n, NET_IP6_TENTATIVE) && n->announce_due_ns < ns)
		ns = n->announce_due_ns;
	return ns;
}

void net_announce(struct net_stack *n, struct mono now)
{
	n->now = now;
	if (n->local_set[NET_LOCAL_IP4])
		net_arp_announce(n);
	for (int i = NET_LOCAL_IP6; i < NET_LOCAL_COUNT; i++)
		if (n->local_set[i] && n->ip6_states[i] == NET_IP6_READY)
			net_nd_announce(n, &n->local[i]);
	/* The switch asks nobody which groups are at the new place. */
	if (n->config.ip6_announce && n->local_set[NET_LOCAL_IP6])
		report(n, RECORD_TO_EXCLUDE);
}

void net_announce_duplicate(struct net_stack *n, uint8_t local)
{
	if (n->ip6_states[local] != NET_IP6_TENTATIVE)
		return;
	n->ip6_states[local] = NET_IP6_DUPLICATE;
	n->counters.ip6_duplicates++;
}
