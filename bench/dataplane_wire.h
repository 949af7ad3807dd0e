/* dataplane_wire.h - the other end of the server's wire (frames <-> frames) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    a ring of DPDK, whose other end is a port in this process that
 *          nic_open() takes under `device` (a frame that crosses is a pointer),
 *          or an interface by a packet socket, of a veth pair for instance.
 * Frames:  those that came stay until the next receive; one that is to go is
 *          written where frame_get() says, and goes by the flush. NULL from
 *          frame_get(): no room now.
 * Ownership: close() frees the struct too. A ring's port is closed before.
 * Threads: one; of a ring the port's.
 */
#ifndef HEDDLE_BENCH_DATAPLANE_WIRE_H
#define HEDDLE_BENCH_DATAPLANE_WIRE_H

#include "base/error.h"
#include "dataplane/net.h"

#define DATAPLANE_WIRE_FRAME_BYTES 1514
#define DATAPLANE_WIRE_BURST 64

struct dataplane_wire {
	char device[256]; /* for nic_open(); "" = the server is elsewhere */
	uint32_t (*receive)(struct dataplane_wire *wire, struct net_frame *out,
		uint32_t max);
	uint8_t *(*frame_get)(struct dataplane_wire *wire);
	void (*frame_send)(struct dataplane_wire *wire, size_t length);
	void (*flush)(struct dataplane_wire *wire);
	/* Frames of its own that are not back in their pool; may be NULL. */
	uint32_t (*buffers_out)(const struct dataplane_wire *wire);
	void (*close)(struct dataplane_wire *wire);
	uint64_t lost; /* frames for which there was no room, either way */
	/*
	 * Over a veth the kernel takes in a frame within the call that sends
	 * it. Where `compares`, each burst goes once more to a station that is
	 * not there, and both have their time, of the calling thread's
	 * processor: the difference is what the other end's kernel does with
	 * it behind its driver. Of a packet socket only.
	 */
	bool compares;
	uint64_t taken_ns, untaken_ns;
};

/* -ENOTSUP (built without DPDK), -ENOMEM, -EIO. */
int dataplane_wire_ring(struct dataplane_wire **out, struct error *err);
/*
 * Shared memory of DPDK's net_memif, both ends in this process: as above, but
 * each frame is copied. -ENODEV: this DPDK has no such driver.
 */
int dataplane_wire_memif(struct dataplane_wire **out, struct error *err);
/* -ENODEV, -EPERM, -ENOMEM, -EIO. */
int dataplane_wire_packet(
	const char *interface, struct dataplane_wire **out, struct error *err);

#endif
