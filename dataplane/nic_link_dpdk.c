/* nic_link_dpdk.c - links of ports, and what wakes us (ports -> nic) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Link:  a port of the kernel's (af_packet, tap) is up for DPDK as long as it
 *        runs; so its interface is asked, too.
 * Wake:  af_packet's driver has no interrupts, but its socket can be waited
 *        for while the frame that came last was not taken; it is found among
 *        our descriptors. Cards have interrupts of a queue, tap its own
 *        descriptor.
 */
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_packet.h>

#include "base/log.h"
#include "dataplane/nic_dpdk.h"

#define DESCRIPTOR_COUNT_MAX 1024 /* where a driver's socket may be */
#define STALE_BURSTS_MAX 64 /* of a port that stood by */

/* --- links ---------------------------------------------------------------------- */

static bool interface_runs(int ask_fd, uint32_t interface)
{
	struct ifreq request = {.ifr_ifindex = (int)interface};

	return ioctl(ask_fd, SIOCGIFNAME, &request) == 0 &&
	       ioctl(ask_fd, SIOCGIFFLAGS, &request) == 0 &&
	       (request.ifr_flags & IFF_UP) &&
	       (request.ifr_flags & IFF_RUNNING);
}

static bool is_up(const struct nic_device *device, const struct nic_port *port)
{
	struct rte_eth_link link = {0};

	if (rte_eth_link_get_nowait(port->id, &link) ||
		link.link_status != RTE_ETH_LINK_UP)
		return false;
	return port->interface == 0 || device->ask_fd < 0 ||
	       interface_runs(device->ask_fd, port->interface);
}

/*
 * A socket whose interface was down says so until it is asked, and would end
 * each sleep. Not before it is up: the driver needs to know, or it waits for
 * room that never comes.
 */
static void forget_error(
	const struct nic_device *device, const struct nic_port *port)
{
	socklen_t length = sizeof(int);
	int told;

	if (port->bell != NIC_BELL_READABLE)
		return;
	for (uint32_t i = 0; i < device->queue_count; i++)
		(void)getsockopt(port->bell_fds[i], SOL_SOCKET, SO_ERROR, &told,
			&length);
}

static int change_bell(const struct nic *nic, uint32_t port, int operation)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(nic->event_fd, operation,
		nic->device->ports[port].bell_fds[nic->queue], &event);
}

/* The bell is that of the active port, while it has a link. */
static void hang_bell(struct nic *nic)
{
	const struct nic_device *device = nic->device;
	uint32_t none = device->port_count;
	uint32_t wanted = device->ports[nic->active].up ? nic->active : none;

	if (nic->event_fd < 0 || wanted == nic->hung)
		return;
	if (nic->hung < none)
		(void)change_bell(nic, nic->hung, EPOLL_CTL_DEL);
	nic->hung = none;
	if (wanted == none)
		return;
	if (change_bell(nic, wanted, EPOLL_CTL_ADD))
		log_debug("the port's descriptor cannot be waited for: %s",
			strerror(errno));
	else
		nic->hung = wanted;
}

void nic_link_look(struct nic *nic)
{
	struct nic_device *device = nic->device;

	for (uint32_t i = 0; i < device->port_count; i++) {
		struct nic_port *port = &device->ports[i];
		bool up = is_up(device, port);

		nic->numbers.link_changes += up != port->up;
		if (up && !port->up)
			forget_error(device, port);
		port->up = up;
	}
	nic->numbers.link_up = device->ports[nic->active].up;
	hang_bell(nic);
}

/* --- what wakes ------------------------------------------------------------------- */

/*
 * The socket of af_packet's driver for a queue of an interface; -1 = not found.
 * They were opened one after the other, each with the next free number.
 */
static int find_socket(uint32_t interface, uint32_t queue)
{
	for (int fd = 0; fd < DESCRIPTOR_COUNT_MAX; fd++) {
		struct sockaddr_ll place = {0};
		socklen_t length = sizeof(int);
		int domain = 0;

		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) ||
			domain != AF_PACKET)
			continue;
		length = sizeof(place);
		if (getsockname(fd, (struct sockaddr *)&place, &length) == 0 &&
			place.sll_ifindex == (int)interface && queue-- == 0)
			return fd;
	}
	return -1;
}

static enum nic_bell find_bell(struct nic_port *port, uint16_t queue)
{
	int *fd = &port->bell_fds[queue];

	*fd = -1;
	if (strcmp(port->driver, "net_af_packet") == 0) {
		*fd = find_socket(port->interface, queue);
		return *fd >= 0 ? NIC_BELL_READABLE : NIC_BELL_NONE;
	}
	if (port->interrupts)
		*fd = rte_eth_dev_rx_intr_ctl_q_get_fd(port->id, queue);
	if (*fd < 0)
		return NIC_BELL_NONE;
	/* Tap gives the very descriptor that it reads frames from. */
	if (strcmp(port->driver, "net_tap") == 0)
		return NIC_BELL_READABLE;
	return rte_eth_dev_rx_intr_disable(port->id, queue) == 0 &&
			       rte_eth_rx_queue_count(port->id, queue) >= 0
		       ? NIC_BELL_INTERRUPT
		       : NIC_BELL_NONE;
}

/* All queues have one, or none has. */
static void find_bells(const struct nic_device *device, struct nic_port *port)
{
	for (uint16_t i = 0; i < device->queue_count; i++) {
		port->bell = find_bell(port, i);
		if (port->bell == NIC_BELL_NONE)
			return;
	}
}

int nic_event_fd(const struct nic *nic)
{
	return nic->event_fd;
}

bool nic_arm(struct nic *nic)
{
	const struct nic_port *port = &nic->device->ports[nic->active];

	if (nic->hung != nic->active)
		return false;
	if (port->bell == NIC_BELL_READABLE)
		return true;
	if (rte_eth_dev_rx_intr_enable(port->id, nic->queue))
		return false;
	/* One that came before tells nobody. */
	return rte_eth_rx_queue_count(port->id, nic->queue) == 0;
}

void nic_disarm(struct nic *nic)
{
	const struct nic_port *port = &nic->device->ports[nic->active];
	uint64_t told;

	if (port->bell != NIC_BELL_INTERRUPT)
		return;
	(void)rte_eth_dev_rx_intr_disable(port->id, nic->queue);
	/* It does not block; nothing there is as good. */
	if (read(port->bell_fds[nic->queue], &told, sizeof(told)) < 0)
		return;
}

void nic_link_open(struct nic_device *device)
{
	device->ask_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (uint32_t i = 0; i < device->queue_count; i++)
		device->queues[i]->hung = device->port_count;
	for (uint32_t i = 0; i < device->port_count; i++)
		find_bells(device, &device->ports[i]);
	/* With one that has none sleeps are short anyway. */
	for (uint32_t i = 0; i < device->port_count; i++)
		if (device->ports[i].bell == NIC_BELL_NONE)
			return;
	for (uint32_t i = 0; i < device->queue_count; i++)
		device->queues[i]->event_fd = epoll_create1(EPOLL_CLOEXEC);
}

void nic_link_close(struct nic_device *device)
{
	for (uint32_t i = 0; i < device->queue_count; i++)
		if (device->queues[i]->event_fd >= 0)
			close(device->queues[i]->event_fd);
	if (device->ask_fd >= 0)
		close(device->ask_fd);
}

/* --- taking over -------------------------------------------------------------------- */

/* What came while nobody looked is old, and was for all. */
static void forget_stale(const struct nic *nic)
{
	struct rte_mbuf *stale[NIC_BURST_COUNT];

	for (int i = 0; i < STALE_BURSTS_MAX; i++) {
		uint16_t count = rte_eth_rx_burst(
			nic->port, nic->queue, stale, NIC_BURST_COUNT);

		rte_pktmbuf_free_bulk(stale, count);
		if (count == 0)
			return;
	}
}

static void use_port(struct nic *nic, uint32_t port)
{
	nic->active = port;
	nic->port = nic->device->ports[port].id;
	nic->stuck_ns = 0;
	hang_bell(nic);
	forget_stale(nic);
}

/* The first pair of queues has decided. */
static void follow(struct nic *nic)
{
	uint32_t active = nic->device->active;

	if (active != nic->active)
		use_port(nic, active);
	else
		hang_bell(nic);
}

bool nic_watch(struct nic *nic)
{
	struct nic_device *device = nic->device;
	uint32_t other = device->port_count - 1 - nic->active;
	struct nic_numbers before;

	if (nic->queue > 0) {
		follow(nic);
		return false;
	}
	nic_link_look(nic);
	if (device->port_count < 2 || device->ports[nic->active].up ||
		!device->ports[other].up)
		return false;
	/* What both have lost is counted on. */
	nic_get_numbers(nic, &before);
	device->active = other;
	use_port(nic, other);
	nic->numbers.link_up = true;
	nic->numbers.takeovers++;
	log_warnx("the port's link is down; port %u takes over", other + 1);
	return true;
}
