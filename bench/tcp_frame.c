/* tcp_frame.c - frames of far ends that keep no state (numbers -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/tcp_frame.h"
#include "dataplane/net_checksum.h"
#include "dataplane/net_wire.h"

enum { AT_IP = 14, AT_SOURCE = 26, AT_TARGET = 30, AT_TCP = 34 };

#define PORT_FIRST 1024u

void tcp_frame_init(struct tcp_frame *f, const uint8_t mac[6],
	const uint8_t ip4[4], uint32_t address, uint32_t per_address)
{
	static const uint8_t head[AT_SOURCE] = {[6] = 2,
		[11] = 2,
		0x08,
		0,
		0x45,
		0,
		0,
		IP4_BYTES + TCP_BYTES,
		[22] = 64,
		IP_TCP};

	*f = (struct tcp_frame){.address = address, .per_address = per_address};
	memcpy(f->bytes, head, sizeof(head));
	memcpy(f->bytes, mac, 6);
	memcpy(f->bytes + AT_TARGET, ip4, 4);
	net_put16(f->bytes + AT_TCP + 2, TCP_FRAME_PORT);
	f->bytes[AT_TCP + 12] = 0x50;
	net_put16(f->bytes + AT_TCP + 14, 65535);
}

static void put_tcp_sum(struct tcp_frame *f)
{
	uint8_t *t = f->bytes + AT_TCP;
	uint8_t tail[4] = {0, IP_TCP, 0, TCP_BYTES};
	uint64_t sum = net_sum(0, f->bytes + AT_SOURCE, 8);

	net_put16(t + 16, 0);
	sum = net_sum(sum, tail, sizeof(tail));
	net_sum_store(t + 16, net_sum(sum, t, TCP_BYTES));
}

void tcp_frame_make(struct tcp_frame *f, uint32_t i, uint8_t flags,
	uint32_t seq, uint32_t ack)
{
	uint8_t *ip = f->bytes + AT_IP, *t = f->bytes + AT_TCP;

	net_put32(f->bytes + AT_SOURCE, f->address + i / f->per_address);
	net_put16(ip + 10, 0);
	net_sum_store(ip + 10, net_sum(0, ip, IP4_BYTES));
	net_put16(t, PORT_FIRST + i % f->per_address);
	net_put32(t + 4, seq);
	net_put32(t + 8, ack);
	t[13] = flags;
	if (f->checksum)
		put_tcp_sum(f);
}

bool tcp_frame_read(const struct tcp_frame *f, const uint8_t *frame,
	size_t length, uint32_t *out_i, uint32_t *out_ack)
{
	const uint8_t *t = frame + AT_TCP;
	size_t bytes;

	if (length < TCP_FRAME_BYTES || net_get16(frame + 12) != ETHER_IP4 ||
		frame[AT_IP + 9] != IP_TCP)
		return false;
	/* Short frames may be padded; the IP header knows. */
	bytes = net_get16(frame + AT_IP + 2) - IP4_BYTES -
		(size_t)(t[12] >> 4) * 4;
	*out_i = (net_get32(frame + AT_TARGET) - f->address) * f->per_address +
		 net_get16(t + 2) - PORT_FIRST;
	*out_ack = net_get32(t + 4) + (uint32_t)bytes + !!(t[13] & FRAME_SYN);
	return true;
}

void tcp_frame_arp(const struct tcp_frame *f, uint32_t address,
	uint8_t out[TCP_FRAME_ARP_BYTES])
{
	static const uint8_t head[28] = {255, 255, 255, 255, 255, 255,
		2, [11] = 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, [27] = 2};

	memset(out, 0, TCP_FRAME_ARP_BYTES);
	memcpy(out, head, sizeof(head));
	net_put32(out + 28, address);
	memcpy(out + 38, f->bytes + AT_TARGET, 4);
}
