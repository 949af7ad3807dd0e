/* net.c - a stack: made, given frames, turned (frames -> IP) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "dataplane/net_private.h"

static bool is_zero(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i])
			return false;
	return true;
}

static int check_config(const struct net_config *c, struct error *err)
{
	if (c->mtu_bytes < NET_MTU_BYTES_MIN ||
		c->mtu_bytes > NET_MTU_BYTES_MAX)
		return error_set(err, EINVAL, "mtu %u is not in %u to %u",
			c->mtu_bytes, NET_MTU_BYTES_MIN, NET_MTU_BYTES_MAX);
	if (c->vlan > 4094)
		return error_set(err, EINVAL, "vlan %u is above 4094", c->vlan);
	if ((c->mac[0] & 1) || is_zero(c->mac, 6))
		return error_set(err, EINVAL, "mac is not a station's");
	if (c->prefix4_bits > 32 || c->prefix6_bits > 128)
		return error_set(
			err, EINVAL, "prefix is longer than addresses");
	if (is_zero(c->ip4, 4) && is_zero(c->ip6, 16))
		return error_set(err, EINVAL, "no address");
	if (c->ip4[0] >= 224 || c->ip6[0] == 0xff)
		return error_set(err, EINVAL, "address is multicast");
	if (c->neighbor_count > NET_NEIGHBOR_COUNT_MAX)
		return error_set(err, EINVAL, "too many neighbours");
	if (c->device.tso_bytes > NET_TSO_BYTES_MAX ||
		(c->device.tso_bytes && !c->device.checksums))
		return error_set(err, EINVAL,
			"segmentation offload needs checksums, and at most %u "
			"bytes",
			NET_TSO_BYTES_MAX);
	return 0;
}

/* RFC 4291, appendix A. */
static struct net_address link_local(const uint8_t mac[6])
{
	struct net_address a = {.bytes = {0xfe, 0x80, [11] = 0xff, 0xfe}};

	memcpy(a.bytes + 8, mac, 3);
	memcpy(a.bytes + 13, mac + 3, 3);
	a.bytes[8] ^= 2;
	return a;
}

static void set_locals(struct net_stack *n)
{
	const struct net_config *c = &n->config;

	n->local[NET_LOCAL_IP4] = net_ip4(c->ip4);
	n->local_set[NET_LOCAL_IP4] = !is_zero(c->ip4, 4);
	n->local[NET_LOCAL_IP6] = net_ip6(c->ip6);
	n->local[NET_LOCAL_LINK] = link_local(c->mac);
	n->local_set[NET_LOCAL_IP6] = !is_zero(c->ip6, 16);
	n->local_set[NET_LOCAL_LINK] = n->local_set[NET_LOCAL_IP6];
	n->gateways_unasked =
		(uint8_t)(!is_zero(c->gateway4, 4) << NET_LOCAL_IP4 |
			  !is_zero(c->gateway6, 16) << NET_LOCAL_IP6);
}

int net_stack_create(const struct net_config *config, struct mono now,
	struct net_stack **out, struct error *err)
{
	struct siphash_key secret;
	struct net_stack *n;
	int rc = check_config(config, err);

	if (rc)
		return rc;
	n = calloc(1, sizeof(*n));
	if (!n)
		return error_set(err, ENOMEM, "no memory for the stack");
	n->config = *config;
	n->now = now;
	n->errors.max = 100;
	memcpy(&secret, config->secret, sizeof(secret));
	n->table_key = siphash_derive(&secret, "net table");
	set_locals(n);
	rc = net_neighbors_init(n);
	if (rc) {
		error_set(err, -rc, "no memory for the neighbours");
		goto err_free_stack;
	}
	net_announce_init(n);
	rc = tcp_create(n, &config->tcp, &n->tcp, err);
	if (rc)
		goto err_free_neighbors;
	*out = n;
	return 0;

err_free_neighbors:
	net_neighbors_release(n);
err_free_stack:
	free(n);
	return rc;
}

void net_stack_destroy(struct net_stack *n)
{
	tcp_destroy(n->tcp);
	net_neighbors_release(n);
	free(n);
}

struct tcp *net_stack_tcp(struct net_stack *n)
{
	return n->tcp;
}

const struct net_counters *net_stack_counters(const struct net_stack *n)
{
	return &n->counters;
}

static void set_now(struct net_stack *n, struct mono now)
{
	/* A clock that goes back would wrap differences. */
	if (mono_before(n->now, now))
		n->now = now;
}

/*
 * Skip the VLAN's header; returns the bytes of it all, 0 = not ours. A tag of
 * VLAN 0 carries a priority only.
 */
static size_t link_header(const struct net_stack *n, const uint8_t *frame,
	size_t length, uint16_t *out_type)
{
	uint16_t vlan = 0;
	size_t bytes = ETHERNET_BYTES;

	if (length < ETHERNET_BYTES)
		return 0;
	*out_type = net_get16(frame + 12);
	if (*out_type == ETHER_VLAN) {
		bytes += VLAN_BYTES;
		if (length < bytes)
			return 0;
		vlan = net_get16(frame + 14) & 0xfff;
		*out_type = net_get16(frame + 16);
	}
	return vlan == n->config.vlan ? bytes : 0;
}

static void tell(struct net_stack *n, const uint8_t *frame, size_t length)
{
	n->counters.out_told++;
	n->config.peers.tell(n->config.peers.arg, frame, length);
}

/* Its frame: from Ethernet's header to the packet's end. */
static size_t frame_of(const struct net_in *in, const uint8_t **out_frame)
{
	*out_frame = in->mac - 6;
	return (size_t)(in->packet - *out_frame) + in->packet_length;
}

void net_tell(struct net_stack *n, const struct net_in *in)
{
	const uint8_t *frame;
	size_t length = frame_of(in, &frame);

	if (n->config.peers.count > 0 && !in->told)
		tell(n, frame, length);
}

bool net_pass(struct net_stack *n, const struct net_in *in)
{
	const struct net_peers *peers = &n->config.peers;
	const uint8_t *frame;
	size_t length = frame_of(in, &frame);

	if (in->passes >= peers->count)
		return false;
	n->counters.out_passed++;
	peers->pass(peers->arg, frame, length, (uint8_t)(in->passes + 1));
	return true;
}

static void input_arp(
	struct net_stack *n, const struct net_frame *of, size_t link)
{
	if (n->config.peers.count > 0 && !of->told)
		tell(n, of->bytes, of->length);
	net_arp_input(n, of->bytes + link, of->length - link, of->told);
}

static void input(
	struct net_stack *n, const struct net_frame *of, uint32_t hash)
{
	struct net_in in = {.checksum_good = of->checksum_good,
		.told = of->told,
		.passes = of->passes,
		.hash = hash};
	const uint8_t *frame = of->bytes;
	size_t length = of->length;
	uint16_t type = 0;
	size_t bytes = link_header(n, frame, length, &type);

	n->counters.in_frames++;
	/* A source that is a group could be taught to us as a neighbour. */
	if (bytes == 0 || (frame[6] & 1) ||
		(!(frame[0] & 1) && memcmp(frame, n->config.mac, 6) != 0)) {
		n->counters.in_dropped_link++;
		return;
	}
	in.broadcast = frame[0] & 1;
	in.mac = frame + 6;
	frame += bytes;
	length -= bytes;
	if (type == ETHER_IP4 && n->local_set[NET_LOCAL_IP4])
		net_ip4_input(n, frame, length, &in);
	else if (type == ETHER_IP6 && n->local_set[NET_LOCAL_IP6])
		net_ip6_input(n, frame, length, &in);
	else if (type == ETHER_ARP && n->local_set[NET_LOCAL_IP4])
		input_arp(n, of, bytes);
	else
		n->counters.in_dropped_link++;
}

void net_input(struct net_stack *n, const uint8_t *frame, size_t length,
	bool checksum_good, struct mono now)
{
	const struct net_frame one = {.bytes = frame,
		.length = length,
		.checksum_good = checksum_good};

	set_now(n, now);
	input(n, &one, 0);
}

static uint32_t ahead(const struct net_stack *n, const struct net_frame *of)
{
	uint16_t type = 0;
	size_t bytes = link_header(n, of->bytes, of->length, &type);

	if (bytes && type == ETHER_IP4 && n->local_set[NET_LOCAL_IP4])
		return net_ip4_ahead(n, of->bytes + bytes, of->length - bytes);
	if (bytes && type == ETHER_IP6 && n->local_set[NET_LOCAL_IP6])
		return net_ip6_ahead(n, of->bytes + bytes, of->length - bytes);
	return 0;
}

void net_input_burst(struct net_stack *n, const struct net_frame *frames,
	uint32_t count, struct mono now)
{
	uint32_t hashes[NET_BURST_COUNT_MAX];

	assert(count <= NET_BURST_COUNT_MAX);
	set_now(n, now);
	for (uint32_t i = 0; i < count; i++)
		hashes[i] = ahead(n, &frames[i]);
	for (uint32_t i = 0; i < count; i++)
		if (hashes[i])
			tcp_ahead_more(n->tcp, hashes[i]);
	for (uint32_t i = 0; i < count; i++)
		input(n, &frames[i], hashes[i]);
}

void net_expire(struct net_stack *n, struct mono now)
{
	set_now(n, now);
	net_announce_poll(n);
	net_gateways_poll(n);
	net_neighbors_poll(n);
	tcp_expire(n->tcp);
}

void net_flush(struct net_stack *n, struct mono now)
{
	set_now(n, now);
	tcp_flush(n->tcp);
}

void net_poll(struct net_stack *n, struct mono now)
{
	net_expire(n, now);
	net_flush(n, now);
}

struct mono net_deadline(const struct net_stack *n)
{
	uint64_t ns = tcp_deadline_ns(n->tcp);
	uint64_t announce = net_announce_due_ns(n);

	if (announce < ns)
		ns = announce;

	if (n->asked_count > 0 && n->neighbor_due_ns < ns)
		ns = n->neighbor_due_ns;
	return (struct mono){ns};
}
