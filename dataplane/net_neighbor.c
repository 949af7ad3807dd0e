/* net_neighbor.c - who is at which MAC (ARP, ND <-> packets out) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules:  RFC 4861's, for both families. An entry is asked for at most three
 *         times, a second apart, then it is gone with what waited. 30 s after
 *         it was last confirmed it is asked again, unicast, while it stays in
 *         use. A table full of others' addresses drops the entry that was
 *         used least recently of the four where the address may be; the
 *         place is chosen by a keyed hash, so nobody can aim at the router's.
 * Who:    a host with several ports on the link may answer ARP by each, and by
 *         one of them for an address that is another's: the first answer holds
 *         for a second, as Linux has it. Our own MAC is never another's: a
 *         port that stands by has it too, and where the kernel keeps that port
 *         it answers for the machine's other addresses.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "dataplane/net_private.h"

#define ASK_COUNT 3
#define ASK_NS (1 * NS_PER_S)
#define REACHABLE_NS (30 * NS_PER_S)
#define HOLD_NS (1 * NS_PER_S)
#define STALE_NS (5 * NS_PER_S) /* RFC 4861's DELAY_FIRST_PROBE_TIME */
#define NEIGHBOR_COUNT 1024

int net_neighbors_init(struct net_stack *n)
{
	uint32_t wanted = n->config.neighbor_count ? n->config.neighbor_count
						   : NEIGHBOR_COUNT;

	n->neighbor_set_count = 1;
	while (n->neighbor_set_count * NET_NEIGHBOR_WAYS < wanted)
		n->neighbor_set_count *= 2;
	n->neighbors = calloc((size_t)n->neighbor_set_count * NET_NEIGHBOR_WAYS,
		sizeof(*n->neighbors));
	return n->neighbors ? 0 : -ENOMEM;
}

void net_neighbors_release(struct net_stack *n)
{
	free(n->neighbors);
	n->neighbors = NULL;
}

static bool is_asked(const struct net_neighbor *e)
{
	return e->state == NEIGHBOR_ASKED || e->state == NEIGHBOR_PROBED;
}

static void set_state(
	struct net_stack *n, struct net_neighbor *e, enum net_neighbor_state to)
{
	if (is_asked(e))
		n->asked_count--;
	e->state = (uint8_t)to;
	if (is_asked(e))
		n->asked_count++;
}

static struct net_neighbor *set_of(
	const struct net_stack *n, const struct net_address *address)
{
	uint64_t hash = siphash_1_3(&n->table_key, address->bytes, 16);

	return n->neighbors +
	       (hash & (n->neighbor_set_count - 1)) * NET_NEIGHBOR_WAYS;
}

static bool is_of(
	const struct net_neighbor *e, const struct net_address *address)
{
	return e->state != NEIGHBOR_FREE && net_same(&e->address, address);
}

/* Mostly it is the one that was asked for last: the gateway. */
static struct net_neighbor *find(
	struct net_stack *n, const struct net_address *address)
{
	struct net_neighbor *set;

	if (n->neighbor_last && is_of(n->neighbor_last, address))
		return n->neighbor_last;
	set = set_of(n, address);
	for (int i = 0; i < NET_NEIGHBOR_WAYS; i++)
		if (is_of(&set[i], address))
			return n->neighbor_last = &set[i];
	return NULL;
}

/* A free place, or that of the one used least recently. */
static struct net_neighbor *make(
	struct net_stack *n, const struct net_address *address)
{
	struct net_neighbor *set = set_of(n, address), *e = set;

	for (int i = 1; i < NET_NEIGHBOR_WAYS; i++)
		if (e->state != NEIGHBOR_FREE &&
			(set[i].state == NEIGHBOR_FREE ||
				set[i].used_ns < e->used_ns))
			e = &set[i];
	set_state(n, e, NEIGHBOR_FREE);
	e->address = *address;
	e->used_ns = n->now.ns;
	e->pending_length = 0;
	e->ask_count = 0;
	memset(e->mac, 0, sizeof(e->mac));
	return e;
}

static void ask(struct net_stack *n, struct net_neighbor *e)
{
	const uint8_t *mac = e->state == NEIGHBOR_PROBED ? e->mac : NULL;
	uint64_t due = n->now.ns + ASK_NS;

	e->ask_count++;
	e->asked_ns = n->now.ns;
	if (n->asked_count == 1 || due < n->neighbor_due_ns)
		n->neighbor_due_ns = due;
	n->counters.neighbor_asked++;
	if (net_is_ip4(&e->address))
		net_arp_ask(n, e->address.bytes + 12, mac);
	else
		net_nd_ask(n, &e->address, mac);
}

struct net_neighbor *net_neighbor_for(
	struct net_stack *n, const struct net_address *hop)
{
	struct net_neighbor *e = find(n, hop);

	if (!e) {
		e = make(n, hop);
		set_state(n, e, NEIGHBOR_ASKED);
		ask(n, e);
	} else if (e->state == NEIGHBOR_KNOWN &&
		   n->now.ns - e->confirmed_ns >= REACHABLE_NS) {
		e->ask_count = 0;
		set_state(n, e, NEIGHBOR_PROBED);
		ask(n, e);
	}
	e->used_ns = n->now.ns;
	return e;
}

bool net_neighbor_has_room(const struct net_neighbor *e, size_t length)
{
	return length + 2 <= sizeof(e->pending) - e->pending_length;
}

void net_neighbor_keep(
	struct net_neighbor *e, const uint8_t *frame, size_t length)
{
	uint8_t *at = e->pending + e->pending_length;

	assert(net_neighbor_has_room(e, length));
	net_put16(at, (uint32_t)length);
	memcpy(at + 2, frame, length);
	e->pending_length = (uint16_t)(e->pending_length + 2 + length);
}

static void send_one(struct net_stack *n, const struct net_neighbor *e,
	const uint8_t *frame, size_t length)
{
	size_t link = net_link_bytes(n);
	uint8_t *payload = net_frame_begin(n, e->mac,
		net_is_ip4(&e->address) ? ETHER_IP4 : ETHER_IP6, length - link);

	if (!payload)
		return;
	memcpy(payload, frame + link, length - link);
	net_frame_send(n, payload, length - link);
}

static void send_pending(struct net_stack *n, struct net_neighbor *e)
{
	uint32_t length;

	for (uint32_t at = 0; at < e->pending_length; at += 2 + length) {
		length = net_get16(e->pending + at);
		send_one(n, e, e->pending + at + 2, length);
	}
	e->pending_length = 0;
}

/* One host's, and not ours. */
static bool is_foreign(const struct net_stack *n, const uint8_t *mac)
{
	return !(mac[0] & 1) && memcmp(mac, n->config.mac, 6) != 0;
}

static bool holds(const struct net_stack *n, const struct net_neighbor *e,
	const uint8_t *mac)
{
	return e->state == NEIGHBOR_KNOWN &&
	       n->now.ns - e->confirmed_ns < HOLD_NS &&
	       memcmp(e->mac, mac, sizeof(e->mac)) != 0;
}

void net_neighbor_heard(struct net_stack *n, const struct net_address *address,
	const uint8_t *mac, bool may_create)
{
	struct net_neighbor *e = find(n, address);

	if ((!e && !may_create) || !is_foreign(n, mac) ||
		(e && holds(n, e, mac)))
		return;
	if (!e)
		e = make(n, address);
	memcpy(e->mac, mac, 6);
	e->confirmed_ns = n->now.ns;
	set_state(n, e, NEIGHBOR_KNOWN);
	send_pending(n, e);
}

/* Known by no proof: asked again when it is used 5 s from now or later. */
static void stale(struct net_stack *n, struct net_neighbor *e)
{
	set_state(n, e, NEIGHBOR_KNOWN);
	e->confirmed_ns = n->now.ns - (REACHABLE_NS - STALE_NS);
}

void net_neighbor_suggested(struct net_stack *n,
	const struct net_address *address, const uint8_t *mac)
{
	struct net_neighbor *e = find(n, address);

	if (!is_foreign(n, mac) || (e && e->state != NEIGHBOR_ASKED &&
					   memcmp(e->mac, mac, 6) == 0))
		return;
	if (!e)
		e = make(n, address);
	memcpy(e->mac, mac, 6);
	stale(n, e);
	send_pending(n, e);
}

void net_neighbor_advertised(
	struct net_stack *n, const struct net_advertised *a)
{
	struct net_neighbor *e = find(n, a->address);
	bool other;

	if (!e || (a->mac && !is_foreign(n, a->mac)))
		return;
	if (e->state == NEIGHBOR_ASKED && !a->mac)
		return;
	other = a->mac && memcmp(e->mac, a->mac, 6) != 0;
	if (e->state != NEIGHBOR_ASKED && other && !a->override) {
		if (e->state == NEIGHBOR_KNOWN)
			stale(n, e);
		return;
	}
	if (a->mac)
		memcpy(e->mac, a->mac, 6);
	if (a->solicited) {
		set_state(n, e, NEIGHBOR_KNOWN);
		e->confirmed_ns = n->now.ns;
	} else if (other) {
		stale(n, e);
	}
	send_pending(n, e);
}

void net_neighbors_poll(struct net_stack *n)
{
	uint64_t next = UINT64_MAX;

	if (n->asked_count == 0 || n->now.ns < n->neighbor_due_ns)
		return;
	for (size_t i = 0;
		i < (size_t)n->neighbor_set_count * NET_NEIGHBOR_WAYS; i++) {
		struct net_neighbor *e = &n->neighbors[i];

		if (!is_asked(e))
			continue;
		if (n->now.ns - e->asked_ns >= ASK_NS) {
			if (e->ask_count >= ASK_COUNT) {
				n->counters.neighbor_failed++;
				set_state(n, e, NEIGHBOR_FREE);
				continue;
			}
			ask(n, e);
		}
		if (e->asked_ns + ASK_NS < next)
			next = e->asked_ns + ASK_NS;
	}
	n->neighbor_due_ns = next;
}

void net_gateways_poll(struct net_stack *n)
{
	if (n->gateways_unasked == 0)
		return;
	for (uint32_t i = NET_LOCAL_IP4; i <= NET_LOCAL_IP6; i++) {
		struct net_address gateway =
			i == NET_LOCAL_IP4 ? net_ip4(n->config.gateway4)
					   : net_ip6(n->config.gateway6);

		if (!(n->gateways_unasked & 1u << i) ||
			n->ip6_states[i] != NET_IP6_READY)
			continue;
		n->gateways_unasked &= (uint8_t) ~(1u << i);
		(void)net_neighbor_for(n, &gateway);
	}
}
