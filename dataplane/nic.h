/* nic.h - a network port that is polled (frames <-> wire) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the one place that knows DPDK. Above it are frames in memory
 *          (stream_nic.h); tests put a port of their own in its place.
 * Does:    brings the port up, with one or more pairs of queues, checks what
 *          it can do and leaves the rest to software: facts() says what that
 *          is. A VLAN tag that the port has taken off is put back: the stack
 *          reads tags.
 * Rules:   - Huge pages where the caller says that there are some; else
 *            ordinary memory, which only software ports and those behind an
 *            IOMMU can use.
 *          - A frame in several pieces is dropped, counted: buffers hold the
 *            MTU.
 *          - What the port has no room for waits and keeps its order; once
 *            NIC_SEND_COUNT wait, frame_get() has none. After NIC_STUCK_NS
 *            in which none was taken the first is dropped, counted.
 * Queues:  struct nic is one pair of them, with buffers of its own; nic_open()
 *          makes all, and returns the first. The port gives what belongs
 *          together to one pair: a card by RSS, af_packet by a hash of the
 *          flow, after the kernel has joined IPv4's fragments (what is then
 *          too large for a frame is cut and dropped). It may change its mind:
 *          af_packet does while a ring is full, and all of them may with
 *          another port; struct net_peers is for that. A port that has not as
 *          many queues, or would give frames to others, is refused.
 * Two ports: one is used, the other stands by with the same MAC and without
 *          being looked at. When the link of the one is gone and the other
 *          has one, they change places, and stay so: going back would be
 *          another gap. What they can is what both can. The first pair's
 *          nic_watch() decides, the others' follow.
 * Sleeping: where a port can tell that a frame has come, event_fd() is
 *          readable then; see nic_arm().
 * Ownership: frames that came are read where the port has put them, and are
 *          the caller's until the next receive. A frame to send is written
 *          where the port takes it from. So the NIC costs no copy; TCP's own
 *          two (frame -> input, output -> frame) are all there are.
 * Limits:  one port at a time. What a process has started for its first port
 *          stays: a card on the bus can only be the first.
 * Threads: one opens, and closes the first pair last; a pair is its loop's.
 */
#ifndef HEDDLE_DATAPLANE_NIC_H
#define HEDDLE_DATAPLANE_NIC_H

#include "base/limits.h"
#include "dataplane/net.h"

#define NIC_DEVICE_BYTES 256
#define NIC_QUEUE_COUNT_MAX FRONT_COUNT_MAX
#define NIC_SEND_COUNT 512
#define NIC_STUCK_NS (100 * NS_PER_MS)
#define NIC_TSO_BYTES_MAX 15000 /* of payload: one buffer each */

struct nic_config {
	/*
	 * As DPDK names it: a software port with its arguments
	 * ("net_af_packet0,iface=eth1"), or a place on the bus
	 * ("0000:03:00.0").
	 */
	char device[NIC_DEVICE_BYTES];
	char standby[NIC_DEVICE_BYTES]; /* "" = none; of the same kind */
	uint32_t mtu_bytes;
	uint32_t queue_count; /* pairs; 0 = 1 */
	bool hugepages; /* there are free ones */
};

struct nic_facts {
	char driver[32];
	uint8_t mac[6];
	bool checksums_in; /* frames that came say whether TCP's is good */
	bool checksums_out;
	uint32_t tso_bytes; /* 0: TCP cuts */
};

/* Of a pair of queues; what is the port's own is the first pair's alone. */
struct nic_numbers {
	uint64_t in_frames, in_bytes;
	uint64_t in_lost; /* the port had no buffer, or found them broken */
	uint64_t in_pieces; /* dropped: in more than one buffer */
	uint64_t out_frames, out_bytes;
	uint64_t out_lost; /* by the port */
	uint64_t link_changes; /* of all ports */
	uint64_t takeovers; /* one has taken the other's place */
	uint32_t port_count, active;
	bool link_up; /* of the active one */
};

struct nic;

/* Does this build know DPDK? */
bool nic_is_built(void);

/*
 * -EINVAL (no such driver or argument), -ENODEV (no such interface or card),
 * -ENOMEM, -EPERM, -EBUSY (a port is open), -ENOTSUP (built without DPDK; too
 * few queues): each with what is missing and what to do.
 */
int nic_open(
	const struct nic_config *config, struct nic **out, struct error *err);

/* Another pair of the port that is open, by its first; it is closed before. */
struct nic *nic_open_queue(struct nic *first, uint32_t queue);

/* The thread that polls a pair is there. */
void nic_enter(struct nic *nic);

void nic_get_facts(const struct nic *nic, struct nic_facts *out);

/* The next frames that came, at most `max`; they stay until the next call. */
uint32_t nic_receive(struct nic *nic, struct net_frame *out, uint32_t max);

/* As struct net_device has it; nic_flush() sends. */
uint8_t *nic_frame_get(struct nic *nic, size_t size);
void nic_frame_send(struct nic *nic, uint8_t *frame, size_t length,
	const struct net_offload *offload);

/* Give to the port what was sent; false: some still waits for room. */
bool nic_flush(struct nic *nic);

/*
 * Looks at the links: not on every turn. True: the other port has taken over,
 * and the network should be told where we are now.
 */
bool nic_watch(struct nic *nic);

/* To be waited for, at any time; -1 = the ports tell nothing. */
int nic_event_fd(const struct nic *nic);

/*
 * Before a sleep that a frame shall end. False: it may not, since there is one
 * already, or the port tells nothing. After the sleep disarm, in any case.
 */
bool nic_arm(struct nic *nic);
void nic_disarm(struct nic *nic);

/* Asks the port, and looks at the link: not on every turn. */
void nic_get_numbers(struct nic *nic, struct nic_numbers *out);

/* Buffers that are not in their pools: what the port holds, and frames. */
uint32_t nic_buffers_out(const struct nic *nic);

/* What waits is sent where there is room; with the first pair the port is
 * closed. NULL is allowed. */
void nic_close(struct nic *nic);

#endif
