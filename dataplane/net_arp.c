/* net_arp.c - IPv4's neighbours (RFC 826, RFC 5227) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/net_private.h"

enum { ARP_REQUEST = 1, ARP_REPLY = 2 };

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void send_arp(struct net_stack *n, uint16_t operation,
	const uint8_t *to_mac, const uint8_t *target_mac,
	const uint8_t *target_ip4)
{
	uint8_t *p = net_frame_begin(n, to_mac, ETHER_ARP, ARP_BYTES);

	if (!p)
		return;
	net_put16(p, 1); /* Ethernet */
	net_put16(p + 2, ETHER_IP4);
	p[4] = 6;
	p[5] = 4;
	net_put16(p + 6, operation);
	memcpy(p + 8, n->config.mac, 6);
	memcpy(p + 14, n->config.ip4, 4);
	memcpy(p + 18, target_mac, 6);
	memcpy(p + 24, target_ip4, 4);
	net_frame_send(n, p, ARP_BYTES);
}

void net_arp_ask(struct net_stack *n, const uint8_t *ip4, const uint8_t *mac)
{
	static const uint8_t unknown[6];

	send_arp(n, ARP_REQUEST, mac ? mac : everybody, unknown, ip4);
}

/* A request for our own address, which nobody answers. */
void net_arp_announce(struct net_stack *n)
{
	static const uint8_t unknown[6];

	send_arp(n, ARP_REQUEST, everybody, unknown, n->config.ip4);
}

/*
 * Who asks us is learnt, since an answer goes there next. Whatever else is
 * heard only renews what is known: nobody fills the table unasked.
 */
void net_arp_input(
	struct net_stack *n, const uint8_t *data, size_t length, bool told)
{
	static const uint8_t nobody[4];
	struct net_address sender;
	bool for_us;

	if (length < ARP_BYTES || net_get16(data) != 1 ||
		net_get16(data + 2) != ETHER_IP4 || data[4] != 6 ||
		data[5] != 4) {
		n->counters.in_dropped_link++;
		return;
	}
	for_us = memcmp(data + 24, n->config.ip4, 4) == 0;
	/* A probe for an address in use has no sender yet (RFC 5227). */
	if (memcmp(data + 14, nobody, 4) != 0 &&
		memcmp(data + 14, n->config.ip4, 4) != 0) {
		sender = net_ip4(data + 14);
		net_neighbor_heard(n, &sender, data + 8,
			for_us && net_get16(data + 6) == ARP_REQUEST);
	}
	if (for_us && !told && net_get16(data + 6) == ARP_REQUEST)
		send_arp(n, ARP_REPLY, data + 8, data + 8, data + 14);
}
