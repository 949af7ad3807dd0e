/* net.h - Ethernet and IP of our own under TCP (frames <-> tcp.h) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a poll-mode NIC gives frames, not sockets. This is all that a
 *          server needs below TCP: ARP and neighbour discovery, IPv4 and
 *          IPv6, echo and the ICMP errors that matter, path MTU.
 * Model:   frames in by net_input(), frames out through net_device, time by
 *          the caller: nothing here reads a clock or sleeps. net_poll() runs
 *          what has fallen due and sends what was queued above.
 * Rules:   - Frames for other MACs, VLANs and addresses are dropped, counted.
 *          - IPv4 fragments are dropped: TCP's segments fit the path, and a
 *            reassembly queue is an attacker's memory. IPv6 fragments too,
 *            but for one that is the whole packet (RFC 6946).
 *          - IPv4 options are skipped; a source route is dropped (RFC 7126).
 *          - IPv6 hop-by-hop and destination options are skipped, at most 8
 *            headers; an unknown option whose type says "discard" does, a
 *            routing header with segments left does (RFC 5095).
 *          - Errors are never sent about ICMP errors, fragments, broadcast or
 *            multicast (RFC 1122 3.2.2), and at most 100 in 100 ms.
 *          - Echo is answered to unicast only, as much as fits the MTU.
 *          - Packet-too-big counts only when the TCP header inside belongs
 *            to data in flight (RFC 5927); other ICMP errors are counted and
 *            end no connection. A path's size is kept 10 minutes.
 *          - Small frames (NET_PENDING_BYTES, a dozen that answer a SYN) wait
 *            per neighbour that is being asked for; TCP repeats what was lost.
 *          - Addresses are the operator's: no router discovery. With
 *            ip6_announce those of IPv6 are checked for duplicates (RFC 4862)
 *            and their groups are reported (RFC 3810).
 *          - Several stacks may have the same addresses, each with a part of
 *            the frames: struct net_peers.
 * Ownership: net_stack_create() takes all memory; nothing later does.
 * Threads: one thread per stack.
 */
#ifndef HEDDLE_DATAPLANE_NET_H
#define HEDDLE_DATAPLANE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "dataplane/tcp.h"

#define NET_MTU_BYTES_MIN 1280
#define NET_MTU_BYTES_MAX 9216
#define NET_TSO_BYTES_MAX 65000 /* payload of one send */
#define NET_HEADER_BYTES_MAX 128 /* Ethernet to TCP, with all options */
#define NET_PENDING_BYTES 1024
#define NET_NEIGHBOR_COUNT_MAX (1u << 20)

/* What the device has still to do to a frame; all 0 = nothing. */
struct net_offload {
	/*
	 * Where to put the TCP checksum and where its sum starts; the field
	 * holds the sum of the pseudo header. 0 = it is already there.
	 */
	uint16_t checksum_at, checksum_start;
	/* Cut the payload into TCP segments of this size; 0 = do not. */
	uint16_t segment_bytes;
};

/* Where frames go. */
struct net_device {
	void *arg;
	/* Room for a frame of `size`; NULL = none now, the frame is lost. */
	uint8_t *(*frame_get)(void *arg, size_t size);
	/* Send what frame_get() gave last. */
	void (*frame_send)(void *arg, uint8_t *frame, size_t length,
		const struct net_offload *offload);
	bool checksums; /* the device fills in TCP checksums */
	uint32_t tso_bytes; /* largest payload it cuts itself; 0 = none */
};

/*
 * Other stacks of the same addresses: of a port of several queues, which gives
 * all of a connection to one of them. What concerns all is told to them: who is
 * at which MAC, and errors about what somebody has sent. They learn from it
 * and answer nothing: the stack that has the frame itself does. A segment of no
 * connection here, that opens none, may be of one there: it is passed on from
 * one to the next, and the last, whom nobody is left to ask, resets it. So it
 * does no harm when a port gives a connection to another queue meanwhile.
 */
struct net_peers {
	void *arg;
	uint32_t count; /* of the others; 0 = alone, the rest is not used */
	/* Another one checks and announces the addresses of IPv6. */
	bool follows;
	/* To be input there with `told`. */
	void (*tell)(void *arg, const uint8_t *frame, size_t length);
	/* To the next of them, to be input with `passes`. */
	void (*pass)(
		void *arg, const uint8_t *frame, size_t length, uint8_t passes);
};

struct net_config {
	uint8_t mac[6];
	uint16_t vlan; /* 0 = untagged */
	uint32_t mtu_bytes;
	/* All zero = this family is off. */
	uint8_t ip4[4], gateway4[4];
	uint8_t ip6[16], gateway6[16]; /* the link-local one comes from mac */
	uint8_t prefix4_bits, prefix6_bits;
	/*
	 * IPv6 addresses are used a second after the start, if nobody else
	 * has them; switches and routers hear of their groups. Off: at once.
	 */
	bool ip6_announce;
	uint8_t secret[16]; /* random, for sequence numbers and tables */
	uint32_t neighbor_count; /* 0 = 1024 */
	struct net_device device;
	struct net_peers peers;
	struct tcp_config tcp;
};

struct net_counters {
	uint64_t in_frames, out_frames, out_bytes;
	uint64_t in_dropped_link; /* not for us, too short */
	uint64_t in_dropped_ip; /* header, address, checksum, rule */
	uint64_t in_dropped_fragments;
	uint64_t in_dropped_icmp;
	uint64_t out_told, out_passed; /* frames, for struct net_peers */
	uint64_t in_echo, in_too_big, in_too_big_refused, in_icmp_errors;
	uint64_t out_errors, out_errors_withheld;
	uint64_t out_lost_device; /* no room there */
	uint64_t out_lost_neighbor; /* nobody answered, or one waits */
	uint64_t neighbor_asked, neighbor_failed;
	uint64_t ip6_duplicates; /* of our addresses: they are not used */
};

struct net_stack;

/* -EINVAL with a text, -ENOMEM. */
int net_stack_create(const struct net_config *config, struct mono now,
	struct net_stack **out, struct error *err);
void net_stack_destroy(struct net_stack *n);

struct tcp *net_stack_tcp(struct net_stack *n);
const struct net_counters *net_stack_counters(const struct net_stack *n);

/*
 * A frame from the wire; it is the caller's again on return. checksum_good:
 * the device has verified the TCP checksum.
 */
void net_input(struct net_stack *n, const uint8_t *frame, size_t length,
	bool checksum_good, struct mono now);

/* A frame of a burst; as net_input() takes it. */
struct net_frame {
	const uint8_t *bytes;
	size_t length;
	bool checksum_good;
	/* Of struct net_peers: from another stack; how many have passed it. */
	bool told;
	uint8_t passes;
};

#define NET_BURST_COUNT_MAX 64

/*
 * net_input() for at most NET_BURST_COUNT_MAX frames that came together: what
 * they need from memory is asked for before the first is looked at.
 */
void net_input_burst(struct net_stack *n, const struct net_frame *frames,
	uint32_t count, struct mono now);

/* Run timers and send what waits; after each burst of input and of calls. */
void net_poll(struct net_stack *n, struct mono now);

/*
 * We are at another place of the network now: tells those who know our
 * addresses, and switches, unasked (RFC 5227, 3; RFC 4861, 7.2.6).
 */
void net_announce(struct net_stack *n, struct mono now);

/*
 * The same in two parts, for who may be kept from running in between. Timers
 * run at a moment up to which all frames have been handed in, else what lies
 * in the port is taken for what never came. What is sent bears the moment at
 * which it is.
 */
void net_expire(struct net_stack *n, struct mono now);
void net_flush(struct net_stack *n, struct mono now);

/* When to call net_poll() at the latest; UINT64_MAX ns = no need. */
struct mono net_deadline(const struct net_stack *n);

#endif
