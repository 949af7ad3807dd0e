/* nic_dpdk.h - a network port by DPDK, shared by nic*_dpdk.c only */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_DATAPLANE_NIC_DPDK_H
#define HEDDLE_DATAPLANE_NIC_DPDK_H

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <stdatomic.h>

#undef NS_PER_S /* DPDK's, and ours: the same number */
#include "dataplane/nic_eal.h"

#define NIC_BURST_COUNT 64
#define NIC_SPARE_COUNT 32
#define NIC_PORT_COUNT 2

/* What tells of a frame while nobody looks. */
enum nic_bell {
	NIC_BELL_NONE,
	NIC_BELL_READABLE, /* a descriptor, as long as a frame is there */
	NIC_BELL_INTERRUPT /* one that is turned on before each sleep */
};

struct nic_port {
	char device[NIC_DEVICE_BYTES]; /* as the operator has named it */
	uint16_t id; /* RTE_MAX_ETHPORTS = none */
	bool started;
	_Atomic bool up; /* written by the first pair's thread */
	bool interrupts; /* it was started with them */
	char driver[32];
	uint32_t interface; /* of the kernel, under it; 0 = none */
	uint64_t in_lost, out_lost; /* of the port, when it was asked last */
	enum nic_bell bell; /* of each queue */
	int bell_fds[NIC_QUEUE_COUNT_MAX]; /* the driver's; -1 = none */
};

/* What all pairs of queues share; the first one owns it. */
struct nic_device {
	uint32_t port_count, queue_count;
	struct nic_port ports[NIC_PORT_COUNT];
	_Atomic uint32_t active; /* written by the first pair's thread */
	int ask_fd; /* owned: a socket, to ask for flags; -1 = none */
	struct nic *queues[NIC_QUEUE_COUNT_MAX]; /* owned */
};

struct nic {
	struct nic_device *device;
	uint16_t port; /* the id of the one that is used */
	uint16_t queue;
	uint32_t active; /* that this pair has seen */
	struct nic_facts facts;
	struct nic_numbers numbers;
	struct rte_mempool *small, *large; /* owned; large: NULL without TSO */
	uint32_t small_bytes, large_bytes;
	struct rte_mbuf *received[NIC_BURST_COUNT]; /* lent to the caller */
	uint32_t received_count;
	struct rte_mbuf *given; /* by frame_get(), not yet sent */
	struct rte_mbuf *spare[NIC_SPARE_COUNT]; /* small ones, to be given */
	uint32_t spare_count;
	struct rte_mbuf *waiting[NIC_SEND_COUNT];
	uint32_t waiting_count;
	uint64_t stuck_ns; /* since when none was taken; 0 = not */
	int event_fd; /* owned: an epoll of the active port's bell; -1 = none */
	uint32_t hung; /* the port whose bell is in it; port_count = none */
};

/* --- nic_link_dpdk.c: which port, and what wakes --------------------------- */

/* After the ports have started. What cannot be had is done without. */
void nic_link_open(struct nic_device *device);
void nic_link_close(struct nic_device *device);

/* The first pair's: looks at each port, counts what has changed. */
void nic_link_look(struct nic *nic);

#endif
