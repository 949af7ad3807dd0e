/* net_private.h - what the files of net*.c and tcp*.c share */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_DATAPLANE_NET_PRIVATE_H
#define HEDDLE_DATAPLANE_NET_PRIVATE_H

#include "base/siphash.h"
#include "dataplane/net.h"
#include "dataplane/net_wire.h"

#define NET_LOCAL_COUNT 3
#define NET_PATH_COUNT 256
#define NET_NEIGHBOR_WAYS 4

enum net_local { NET_LOCAL_IP4, NET_LOCAL_IP6, NET_LOCAL_LINK, NET_LOCAL_NONE };

/* Of our addresses; without config.ip6_announce all are READY. */
enum net_ip6_state { NET_IP6_READY, NET_IP6_TENTATIVE, NET_IP6_DUPLICATE };

enum net_neighbor_state {
	NEIGHBOR_FREE,
	NEIGHBOR_ASKED, /* no MAC yet */
	NEIGHBOR_KNOWN,
	NEIGHBOR_PROBED /* MAC in use while it is asked whether it holds */
};

struct net_neighbor {
	struct net_address address;
	uint64_t used_ns, confirmed_ns, asked_ns;
	uint8_t mac[6];
	uint8_t state; /* enum net_neighbor_state */
	uint8_t ask_count;
	/* frames that wait, each behind its length in two bytes */
	uint16_t pending_length;
	uint8_t pending[NET_PENDING_BYTES];
};

/* What is known of the way to an address. */
struct net_path {
	struct net_address address;
	uint64_t until_ns; /* 0 = nothing */
	uint32_t mtu_bytes;
};

/* At most `max` in each 100 ms. */
struct net_bucket {
	uint64_t since_ns;
	uint32_t count, max;
};

struct net_stack {
	struct net_config config;
	struct net_address local[NET_LOCAL_COUNT];
	bool local_set[NET_LOCAL_COUNT];
	uint8_t ip6_states[NET_LOCAL_COUNT]; /* enum net_ip6_state */
	bool announce_asked; /* the solicitations of the check are out */
	bool report_asked; /* the next report answers a query */
	uint8_t gateways_unasked; /* a bit for each enum net_local */
	uint8_t reports_left;
	uint64_t announce_due_ns, report_due_ns;
	struct siphash_key table_key;
	struct tcp *tcp;
	struct mono now;
	struct net_neighbor *neighbor_last; /* that was found; may be NULL */
	struct net_neighbor *neighbors; /* owned, [set_count][WAYS] */
	uint32_t neighbor_set_count; /* a power of two */
	uint32_t asked_count; /* ASKED or PROBED */
	uint64_t neighbor_due_ns; /* with asked_count > 0 */
	struct net_path paths[NET_PATH_COUNT];
	struct net_bucket errors;
	struct net_counters counters;
	uint16_t packet_id;
	uint8_t scratch[NET_PENDING_BYTES]; /* frames that have to wait */
};

/* A packet that came. */
struct net_in {
	struct net_address from, to;
	const uint8_t *mac; /* whose frame it was */
	const uint8_t *packet; /* from the IP header on, for errors */
	size_t packet_length;
	const uint8_t *data; /* the transport's */
	size_t length;
	uint8_t local; /* enum net_local; NONE = multicast to us */
	uint8_t protocol, hops;
	bool broadcast; /* of the link or of IP: nothing answers errors */
	bool checksum_good;
	bool told; /* as struct net_frame has them */
	uint8_t passes;
	uint32_t hash; /* of its connection, as tcp_ahead() said; 0 = unknown */
};

/* A packet that is being built. */
struct net_out {
	uint8_t *frame, *ip, *data; /* data: the transport's */
	struct net_neighbor *waits; /* the frame goes there, or NULL */
	const struct net_address *from, *to;
	uint8_t protocol;
};

static inline bool net_is_ip4(const struct net_address *a)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(a->bytes, mapped, 12) == 0;
}

static inline struct net_address net_ip4(const uint8_t ip4[4])
{
	struct net_address a = {.bytes = {[10] = 0xff, [11] = 0xff}};

	memcpy(a.bytes + 12, ip4, 4);
	return a;
}

static inline struct net_address net_ip6(const uint8_t ip6[16])
{
	struct net_address a;

	memcpy(a.bytes, ip6, 16);
	return a;
}

static inline bool net_same(
	const struct net_address *a, const struct net_address *b)
{
	return memcmp(a->bytes, b->bytes, 16) == 0;
}

/* --- net.c --- */
/* What concerns all stacks of our addresses, who have it from here alone. */
void net_tell(struct net_stack *n, const struct net_in *in);
/* To the next stack; false: there is none that was not asked. */
bool net_pass(struct net_stack *n, const struct net_in *in);

/* --- net_output.c --- */
/*
 * Begin a packet with room for `bytes` of transport. -EAGAIN: the device has
 * no room; -EHOSTUNREACH: lost, the neighbour is still being asked for.
 */
int net_out_begin(struct net_stack *n, const struct net_address *to,
	uint8_t local, uint8_t protocol, size_t bytes, struct net_out *out);
/*
 * Send it with `bytes` of transport; the checksum field is `checksum_at` into
 * it (0 = none). segment_bytes: as in struct net_offload.
 */
void net_out_send(struct net_stack *n, struct net_out *out, size_t bytes,
	uint16_t checksum_at, uint16_t segment_bytes);
/* A frame that is whole already, to `mac`. */
uint8_t *net_frame_begin(
	struct net_stack *n, const uint8_t *mac, uint16_t type, size_t bytes);
void net_frame_send(struct net_stack *n, uint8_t *payload, size_t bytes);
/* The size of Ethernet's header here. */
size_t net_link_bytes(const struct net_stack *n);
bool net_bucket_take(struct net_bucket *b, struct mono now);

/* --- net_neighbor.c --- */
int net_neighbors_init(struct net_stack *n);
void net_neighbors_release(struct net_stack *n);
/* The entry to send by, made if need be; NULL: no room, or none answers. */
struct net_neighbor *net_neighbor_for(
	struct net_stack *n, const struct net_address *hop);
/* A frame waits for its MAC: is there room, and put it there. */
bool net_neighbor_has_room(const struct net_neighbor *e, size_t length);
void net_neighbor_keep(
	struct net_neighbor *e, const uint8_t *frame, size_t length);
/*
 * `address` has said that it is at `mac`; may_create: it asked us. What another
 * has said of it within a second holds.
 */
void net_neighbor_heard(struct net_stack *n, const struct net_address *address,
	const uint8_t *mac, bool may_create);
/*
 * An advertisement says so (RFC 4861, 7.2.5); mac NULL = the same as before.
 * Without `override` it changes no MAC that is known; without `solicited` it
 * is no proof that packets get there.
 */
struct net_advertised {
	const struct net_address *address;
	const uint8_t *mac;
	bool solicited, override;
};
void net_neighbor_advertised(
	struct net_stack *n, const struct net_advertised *a);
/* Who asked us says where it is: no proof either (RFC 4861, 7.2.3). */
void net_neighbor_suggested(struct net_stack *n,
	const struct net_address *address, const uint8_t *mac);
void net_neighbors_poll(struct net_stack *n);
/* Gateways are asked for as soon as we may: nobody waits for them then. */
void net_gateways_poll(struct net_stack *n);

/* --- net_arp.c, net_nd.c --- */
/* told: another stack has answered. */
void net_arp_input(
	struct net_stack *n, const uint8_t *data, size_t length, bool told);
/* Ask for ip4; mac NULL = everybody. */
void net_arp_ask(struct net_stack *n, const uint8_t *ip4, const uint8_t *mac);
void net_arp_announce(struct net_stack *n); /* we have our address: to all */
void net_nd_input(struct net_stack *n, const struct net_in *in);
void net_nd_ask(struct net_stack *n, const struct net_address *address,
	const uint8_t *mac);

/* "Has anybody this address?", "I have it": to all, for net_announce.c. */
void net_nd_probe(struct net_stack *n, const struct net_address *address);
void net_nd_announce(struct net_stack *n, const struct net_address *address);

/* --- net_announce.c --- */
void net_announce_init(struct net_stack *n);
void net_announce_poll(struct net_stack *n);
uint64_t net_announce_due_ns(const struct net_stack *n); /* UINT64_MAX: never */
void net_announce_query(struct net_stack *n, const struct net_in *in);
/* Somebody else has it. */
void net_announce_duplicate(struct net_stack *n, uint8_t local);

/* --- net_ip.c --- */
void net_ip4_input(struct net_stack *n, const uint8_t *packet, size_t length,
	struct net_in *in);
void net_ip6_input(struct net_stack *n, const uint8_t *packet, size_t length,
	struct net_in *in);

/* tcp_ahead() of a segment that is plain enough; else 0. */
uint32_t net_ip4_ahead(
	const struct net_stack *n, const uint8_t *packet, size_t length);
uint32_t net_ip6_ahead(
	const struct net_stack *n, const uint8_t *packet, size_t length);

/* --- net_icmp.c --- */
void net_icmp4_input(struct net_stack *n, const struct net_in *in);
void net_icmp6_input(struct net_stack *n, const struct net_in *in);
/* "Nobody here": the protocol, or the port of one. */
void net_icmp_unreachable(
	struct net_stack *n, const struct net_in *in, bool port);

/* --- net_path.c --- */
uint32_t net_path_mtu(const struct net_stack *n, const struct net_address *to);
void net_path_learn(
	struct net_stack *n, const struct net_address *to, uint32_t mtu_bytes);

/* --- tcp.c: what the layer below calls --- */
int tcp_create(struct net_stack *n, const struct tcp_config *config,
	struct tcp **out, struct error *err);
void tcp_destroy(struct tcp *t);
void tcp_input(struct tcp *t, const struct net_in *in);
/*
 * Of a segment that will be input soon: its connection's hash, whose place in
 * the table is then on its way from memory. Later: so is the connection.
 */
uint32_t tcp_ahead(const struct tcp *t, const struct net_in *in);
void tcp_ahead_more(const struct tcp *t, uint32_t hash);
/*
 * An error about a segment that we are said to have sent: 8 bytes of its TCP
 * header. mtu_bytes 0: not about size. False: no such segment is in flight.
 */
bool tcp_icmp(struct tcp *t, const struct net_address *remote, uint8_t local,
	const uint8_t *header, uint32_t mtu_bytes);
void tcp_expire(struct tcp *t);
void tcp_flush(struct tcp *t);
uint64_t tcp_deadline_ns(const struct tcp *t);

#endif
