/* fake_ports_dpdk.c - what DPDK's ports say of themselves, by the test's word */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include <rte_ethdev.h>

#include "tests/fake/fake_ports.h"

#define PORT_COUNT 8

struct fake_ports fake_ports;
static bool down[PORT_COUNT];

int __real_rte_eth_dev_info_get(uint16_t port, struct rte_eth_dev_info *out);
int __wrap_rte_eth_dev_info_get(uint16_t port, struct rte_eth_dev_info *out);
int __real_rte_eth_dev_configure(uint16_t port, uint16_t rx, uint16_t tx,
	const struct rte_eth_conf *conf);
int __wrap_rte_eth_dev_configure(uint16_t port, uint16_t rx, uint16_t tx,
	const struct rte_eth_conf *conf);
int __real_rte_eth_link_get_nowait(uint16_t port, struct rte_eth_link *out);
int __wrap_rte_eth_link_get_nowait(uint16_t port, struct rte_eth_link *out);

static const struct {
	unsigned fake;
	uint64_t bits;
} outs[] = {
	{FAKE_OUT_SUM, RTE_ETH_TX_OFFLOAD_TCP_CKSUM},
	{FAKE_OUT_IP, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM},
	{FAKE_OUT_CUT, RTE_ETH_TX_OFFLOAD_TCP_TSO},
	{FAKE_OTHER,
		RTE_ETH_TX_OFFLOAD_UDP_TSO | RTE_ETH_TX_OFFLOAD_SCTP_CKSUM},
};

#define OUT_COUNT (sizeof(outs) / sizeof(outs[0]))

int __wrap_rte_eth_dev_info_get(uint16_t port, struct rte_eth_dev_info *out)
{
	int rc = __real_rte_eth_dev_info_get(port, out);
	unsigned can;

	if (rc == 0 && fake_ports.queues)
		out->max_rx_queues = (uint16_t)fake_ports.queues;
	if (rc || !fake_ports.offers || fake_ports.asked == 2)
		return rc;
	can = fake_ports.can[fake_ports.asked++];
	out->rx_offload_capa =
		can & FAKE_IN_SUM ? RTE_ETH_RX_OFFLOAD_TCP_CKSUM : 0;
	out->tx_offload_capa = 0;
	for (size_t i = 0; i < OUT_COUNT; i++)
		if (can & outs[i].fake)
			out->tx_offload_capa |= outs[i].bits;
	return 0;
}

/* The port itself would refuse what it cannot. */
int __wrap_rte_eth_dev_configure(uint16_t port, uint16_t rx, uint16_t tx,
	const struct rte_eth_conf *conf)
{
	struct rte_eth_conf plain = *conf;

	fake_ports.wanted = conf->rxmode.offloads ? FAKE_IN_SUM : 0;
	for (size_t i = 0; i < OUT_COUNT; i++)
		if (conf->txmode.offloads & outs[i].bits)
			fake_ports.wanted |= outs[i].fake;
	if (fake_ports.offers)
		plain.rxmode.offloads = plain.txmode.offloads = 0;
	return __real_rte_eth_dev_configure(port, rx, tx, &plain);
}

int __wrap_rte_eth_link_get_nowait(uint16_t port, struct rte_eth_link *out)
{
	if (port < PORT_COUNT && down[port])
		return -EIO;
	return __real_rte_eth_link_get_nowait(port, out);
}

void fake_ports_link(const char *name, bool is_down)
{
	uint16_t port = PORT_COUNT;
	int rc = rte_eth_dev_get_port_by_name(name, &port);

	assert(rc == 0 && port < PORT_COUNT);
	down[port] = is_down;
}

void fake_ports_reset(void)
{
	memset(down, 0, sizeof(down));
	fake_ports = (struct fake_ports){.offers = false};
}
