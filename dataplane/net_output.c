/* net_output.c - packets on their way out (transport -> frames) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>

#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"

#define HOPS 64
#define BUCKET_NS (100 * NS_PER_MS)

bool net_bucket_take(struct net_bucket *b, struct mono now)
{
	if (now.ns - b->since_ns >= BUCKET_NS) {
		b->since_ns = now.ns;
		b->count = 0;
	}
	if (b->count >= b->max)
		return false;
	b->count++;
	return true;
}

size_t net_link_bytes(const struct net_stack *n)
{
	return ETHERNET_BYTES + (n->config.vlan ? VLAN_BYTES : 0);
}

static void put_link(const struct net_stack *n, uint8_t *frame,
	const uint8_t *mac, uint16_t type)
{
	memcpy(frame, mac, 6);
	memcpy(frame + 6, n->config.mac, 6);
	if (n->config.vlan) {
		net_put16(frame + 12, ETHER_VLAN);
		net_put16(frame + 14, n->config.vlan);
		net_put16(frame + 16, type);
	} else {
		net_put16(frame + 12, type);
	}
}

static uint8_t *frame_get(struct net_stack *n, size_t size)
{
	const struct net_device *d = &n->config.device;
	uint8_t *frame = d->frame_get(d->arg, size);

	if (!frame)
		n->counters.out_lost_device++;
	return frame;
}

static void frame_send(struct net_stack *n, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	const struct net_device *d = &n->config.device;

	n->counters.out_frames++;
	n->counters.out_bytes += length;
	d->frame_send(d->arg, frame, length, offload);
}

uint8_t *net_frame_begin(
	struct net_stack *n, const uint8_t *mac, uint16_t type, size_t bytes)
{
	uint8_t *frame = frame_get(n, net_link_bytes(n) + bytes);

	if (!frame)
		return NULL;
	put_link(n, frame, mac, type);
	return frame + net_link_bytes(n);
}

void net_frame_send(struct net_stack *n, uint8_t *payload, size_t bytes)
{
	static const struct net_offload none = {0};

	frame_send(n, payload - net_link_bytes(n), net_link_bytes(n) + bytes,
		&none);
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(a, b, whole) == 0 &&
	       (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

/* The neighbour that leads to `to`. */
static struct net_address next_hop(
	const struct net_stack *n, const struct net_address *to)
{
	static const uint8_t none[16];
	const struct net_config *c = &n->config;

	if (net_is_ip4(to)) {
		if (memcmp(c->gateway4, none, 4) == 0 ||
			same_prefix(to->bytes + 12, c->ip4, c->prefix4_bits))
			return *to;
		return net_ip4(c->gateway4);
	}
	if (memcmp(c->gateway6, none, 16) == 0 ||
		(to->bytes[0] == 0xfe && (to->bytes[1] & 0xc0) == 0x80) ||
		same_prefix(to->bytes, c->ip6, c->prefix6_bits))
		return *to;
	return net_ip6(c->gateway6);
}

int net_out_begin(struct net_stack *n, const struct net_address *to,
	uint8_t local, uint8_t protocol, size_t bytes, struct net_out *out)
{
	bool ip4 = net_is_ip4(to);
	size_t link = net_link_bytes(n), ip = ip4 ? IP4_BYTES : IP6_BYTES;
	struct net_address hop = next_hop(n, to);
	struct net_neighbor *neighbor = net_neighbor_for(n, &hop);
	bool waits = neighbor && neighbor->state == NEIGHBOR_ASKED;

	assert(local < NET_LOCAL_COUNT);
	if (!neighbor || (waits && !net_neighbor_has_room(
					   neighbor, link + ip + bytes))) {
		n->counters.out_lost_neighbor++;
		return -EHOSTUNREACH;
	}
	out->frame = waits ? n->scratch : frame_get(n, link + ip + bytes);
	if (!out->frame)
		return -EAGAIN;
	put_link(n, out->frame, neighbor->mac, ip4 ? ETHER_IP4 : ETHER_IP6);
	out->waits = waits ? neighbor : NULL;
	out->ip = out->frame + link;
	out->data = out->ip + ip;
	out->from = &n->local[local];
	out->to = to;
	out->protocol = protocol;
	return 0;
}

static void put_ip4(
	struct net_stack *n, const struct net_out *out, size_t bytes)
{
	uint8_t *ip = out->ip;

	ip[0] = 0x45;
	ip[1] = 0;
	net_put16(ip + 2, (uint32_t)(IP4_BYTES + bytes));
	net_put16(ip + 4, n->packet_id++);
	net_put16(ip + 6, 0x4000); /* do not fragment: path MTU */
	ip[8] = HOPS;
	ip[9] = out->protocol;
	net_put16(ip + 10, 0);
	memcpy(ip + 12, out->from->bytes + 12, 4);
	memcpy(ip + 16, out->to->bytes + 12, 4);
	net_sum_store(ip + 10, net_sum(0, ip, IP4_BYTES));
}

static void put_ip6(const struct net_out *out, size_t bytes)
{
	uint8_t *ip = out->ip;

	net_put32(ip, 0x60000000);
	net_put16(ip + 4, (uint32_t)bytes);
	ip[6] = out->protocol;
	/* Neighbour discovery is worth nothing from further away. */
	ip[7] = out->protocol == IP_ICMP6 && out->data[0] >= ICMP6_SOLICIT
			? 255
			: HOPS;
	memcpy(ip + 8, out->from->bytes, 16);
	memcpy(ip + 24, out->to->bytes, 16);
}

void net_out_send(struct net_stack *n, struct net_out *out, size_t bytes,
	uint16_t checksum_at, uint16_t segment_bytes)
{
	size_t length = (size_t)(out->data - out->frame) + bytes;
	struct net_offload offload = {.segment_bytes = segment_bytes};
	uint64_t sum = 0;

	if (net_is_ip4(out->to))
		put_ip4(n, out, bytes);
	else
		put_ip6(out, bytes);
	if (out->protocol != IP_ICMP4)
		sum = net_sum_pseudo(out->from, out->to, out->protocol, bytes);
	if (n->config.device.checksums && out->protocol == IP_TCP &&
		!out->waits) {
		uint16_t folded = net_sum_fold(sum);

		offload.checksum_start = (uint16_t)(out->data - out->frame);
		offload.checksum_at =
			(uint16_t)(offload.checksum_start + checksum_at);
		memcpy(out->data + checksum_at, &folded, 2);
	} else {
		memset(out->data + checksum_at, 0, 2);
		net_sum_store(out->data + checksum_at,
			net_sum(sum, out->data, bytes));
	}
	if (!out->waits) {
		frame_send(n, out->frame, length, &offload);
		return;
	}
	/* The port would have cut it; as a whole nobody takes it. */
	if (segment_bytes > 0)
		n->counters.out_lost_neighbor++;
	else
		net_neighbor_keep(out->waits, out->frame, length);
}
