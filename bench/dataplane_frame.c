/* dataplane_frame.c - frames of far ends (numbers <-> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/dataplane_frame.h"
#include "dataplane/net_checksum.h"
#include "dataplane/net_wire.h"

enum {
	AT_IP = ETHERNET_BYTES,
	AT_SOURCE = AT_IP + 12,
	AT_TARGET = AT_IP + 16,
	AT_TCP = AT_IP + IP4_BYTES,
	AT_OPTIONS = AT_TCP + TCP_BYTES
};

#define PORT_FIRST 1024u
#define SYN_OPTION_BYTES 20u
#define OPTION_BYTES 12u
#define ARP_FRAME_BYTES 60u
#define OPTION_TIMESTAMPS 8u

static uint32_t address_of(const struct far_net *net, uint32_t i)
{
	return net->first + i / FAR_PORT_COUNT;
}

static size_t put_options(
	const struct far_net *net, const struct far_segment *s, uint8_t *p)
{
	static const uint8_t syn[SYN_OPTION_BYTES] = {
		2, 4, 5, 0xb4, 4, 2, 8, 10, [16] = 1, 3, 3, FAR_WINDOW_SCALE};
	static const uint8_t other[OPTION_BYTES] = {1, 1, 8, 10};
	bool is_syn = s->flags & FAR_SYN;
	size_t bytes = is_syn ? SYN_OPTION_BYTES : OPTION_BYTES;
	uint8_t *stamp = p + (is_syn ? 8 : 4);

	memcpy(p, is_syn ? syn : other, bytes);
	if (is_syn && net->no_sack)
		memset(p + 4, 1, 2);
	net_put32(stamp, s->ts_value);
	net_put32(stamp + 4, s->ts_echo);
	return bytes;
}

static void put_ip(
	const struct far_net *net, uint32_t i, size_t length, uint8_t *frame)
{
	static const uint8_t head[IP4_BYTES] = {
		0x45, [6] = 0x40, [8] = 64, [9] = IP_TCP};
	uint8_t *ip = frame + AT_IP;

	memcpy(frame, net->server_mac, 6);
	memcpy(frame + 6, net->mac, 6);
	net_put16(frame + 12, ETHER_IP4);
	memcpy(ip, head, sizeof(head));
	net_put16(ip + 2, (uint32_t)length);
	net_put32(frame + AT_SOURCE, address_of(net, i));
	net_put32(frame + AT_TARGET, net->server_address);
	net_sum_store(ip + 10, net_sum(0, ip, IP4_BYTES));
}

size_t far_frame_make(
	const struct far_net *net, const struct far_segment *s, uint8_t *out)
{
	uint8_t *t = out + AT_TCP;
	size_t header = TCP_BYTES + put_options(net, s, out + AT_OPTIONS);
	size_t bytes = header + s->length;
	uint8_t tail[4] = {0, IP_TCP};

	put_ip(net, s->i, IP4_BYTES + bytes, out);
	net_put16(t, PORT_FIRST + s->i % FAR_PORT_COUNT);
	net_put16(t + 2, net->server_port);
	net_put32(t + 4, s->seq);
	net_put32(t + 8, s->ack);
	t[12] = (uint8_t)(header / 4 << 4);
	t[13] = s->flags;
	net_put16(t + 14, s->window);
	net_put32(t + 16, 0);
	if (s->length > 0)
		memcpy(t + header, s->data, s->length);
	net_put16(tail + 2, (uint32_t)bytes);
	net_sum_store(t + 16,
		net_sum(net_sum(net_sum(0, out + AT_SOURCE, 8), tail, 4), t,
			bytes));
	return AT_TCP + bytes;
}

static void read_options(const uint8_t *p, size_t bytes, struct far_segment *s)
{
	size_t at = 0;

	while (at < bytes && p[at] != 0) {
		if (p[at] == 1) {
			at++;
			continue;
		}
		if (at + 1 >= bytes || p[at + 1] < 2 || at + p[at + 1] > bytes)
			return;
		if (p[at] == OPTION_TIMESTAMPS && p[at + 1] == 10) {
			s->ts_value = net_get32(p + at + 2);
			s->ts_echo = net_get32(p + at + 6);
		}
		at += p[at + 1];
	}
}

bool far_frame_read(const struct far_net *net, const uint8_t *frame,
	size_t length, struct far_segment *out)
{
	const uint8_t *t = frame + AT_TCP;
	size_t header, total;
	uint32_t port;

	if (length < AT_OPTIONS || net_get16(frame + 12) != ETHER_IP4 ||
		frame[AT_IP + 9] != IP_TCP ||
		net_get32(frame + AT_SOURCE) != net->server_address ||
		net_get16(t) != net->server_port)
		return false;
	header = (size_t)(t[12] >> 4) * 4;
	total = net_get16(frame + AT_IP + 2);
	port = net_get16(t + 2);
	if (header < TCP_BYTES || total < IP4_BYTES + header ||
		ETHERNET_BYTES + total > length || port < PORT_FIRST)
		return false;
	*out = (struct far_segment){
		.i = (net_get32(frame + AT_TARGET) - net->first) *
			     FAR_PORT_COUNT +
		     port - PORT_FIRST,
		.flags = t[13],
		.seq = net_get32(t + 4),
		.ack = net_get32(t + 8),
		.data = t + header,
		.length = (uint32_t)(total - IP4_BYTES - header)};
	read_options(t + TCP_BYTES, header - TCP_BYTES, out);
	return true;
}

/* --- ARP --- */

static const uint8_t arp_head[8] = {0, 1, 8, 0, 6, 4, 0, 1};

static size_t put_arp(
	const struct far_net *net, uint32_t own, bool answer, uint8_t *out)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
	uint8_t *arp = out + ETHERNET_BYTES;

	memset(out, 0, ARP_FRAME_BYTES);
	memcpy(out, answer ? net->server_mac : all, 6);
	memcpy(out + 6, net->mac, 6);
	net_put16(out + 12, ETHER_ARP);
	memcpy(arp, arp_head, sizeof(arp_head));
	arp[7] = answer ? 2 : 1;
	memcpy(arp + 8, net->mac, 6);
	net_put32(arp + 14, own);
	if (answer)
		memcpy(arp + 18, net->server_mac, 6);
	net_put32(arp + 24, net->server_address);
	return ARP_FRAME_BYTES;
}

size_t far_arp_ask(const struct far_net *net, uint32_t i, uint8_t *out)
{
	return put_arp(net, address_of(net, i), false, out);
}

size_t far_arp_input(
	struct far_net *net, const uint8_t *frame, size_t length, uint8_t *out)
{
	const uint8_t *arp = frame + ETHERNET_BYTES;

	if (length < ETHERNET_BYTES + ARP_BYTES ||
		net_get16(frame + 12) != ETHER_ARP ||
		net_get32(arp + 14) != net->server_address)
		return 0;
	memcpy(net->server_mac, arp + 8, 6);
	/* Nobody else is on this wire: whatever is asked for is ours. */
	if (arp[7] != 1)
		return 0;
	return put_arp(net, net_get32(arp + 24), true, out);
}
