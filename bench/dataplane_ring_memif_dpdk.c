/* dataplane_ring_memif_dpdk.c - a wire in shared memory (frames <-> memif) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends are in this process. The driver keeps its sockets by their names
 * and takes none for both ends: so the server's end has another spelling of
 * the same path.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#undef NS_PER_S /* DPDK's, and ours: the same number */
#include "bench/dataplane_wire.h"
#include "dataplane/nic_eal.h"

#define FRAME_COUNT 8191
#define CACHE_COUNT 256
#define DESCRIPTOR_COUNT 1024
#define MEMORY_BYTES ((size_t)64 << 20)
#define SOCKET_FORMAT "/tmp/%sheddle-bench-%d.memif"

struct memif_wire {
	struct dataplane_wire wire; /* the first: what the callers have */
	uint16_t port;
	bool probed, started;
	struct rte_mempool *pool; /* owned */
	struct rte_mbuf *received[DATAPLANE_WIRE_BURST]; /* lent */
	uint16_t received_count;
	struct rte_mbuf *given, *waiting[DATAPLANE_WIRE_BURST];
	uint16_t waiting_count;
	char socket[64];
};

static struct memif_wire *of(struct dataplane_wire *wire)
{
	return (struct memif_wire *)wire;
}

static uint32_t memif_receive(
	struct dataplane_wire *wire, struct net_frame *out, uint32_t max)
{
	struct memif_wire *m = of(wire);

	rte_pktmbuf_free_bulk(m->received, m->received_count);
	m->received_count = rte_eth_rx_burst(m->port, 0, m->received,
		(uint16_t)RTE_MIN(max, (uint32_t)DATAPLANE_WIRE_BURST));
	for (uint32_t i = 0; i < m->received_count; i++)
		out[i] = (struct net_frame){
			.bytes = rte_pktmbuf_mtod(
				m->received[i], const uint8_t *),
			.length = m->received[i]->data_len,
			.checksum_good = true};
	return m->received_count;
}

static void memif_flush(struct dataplane_wire *wire)
{
	struct memif_wire *m = of(wire);
	uint16_t sent = m->waiting_count > 0
				? rte_eth_tx_burst(m->port, 0, m->waiting,
					  m->waiting_count)
				: 0;

	wire->lost += (uint64_t)(m->waiting_count - sent);
	rte_pktmbuf_free_bulk(
		m->waiting + sent, (unsigned)(m->waiting_count - sent));
	m->waiting_count = 0;
}

static uint8_t *memif_frame_get(struct dataplane_wire *wire)
{
	struct memif_wire *m = of(wire);

	if (!m->given)
		m->given = rte_pktmbuf_alloc(m->pool);
	return m->given ? rte_pktmbuf_mtod(m->given, uint8_t *) : NULL;
}

static void memif_frame_send(struct dataplane_wire *wire, size_t length)
{
	struct memif_wire *m = of(wire);

	m->given->data_len = (uint16_t)length;
	m->given->pkt_len = (uint32_t)length;
	m->waiting[m->waiting_count++] = m->given;
	m->given = NULL;
	if (m->waiting_count == DATAPLANE_WIRE_BURST)
		memif_flush(wire);
}

static void close_port(const struct memif_wire *m)
{
	struct rte_eth_dev_info info;
	struct rte_device *device = NULL;

	if (rte_eth_dev_info_get(m->port, &info) == 0)
		device = info.device;
	if (m->started)
		(void)rte_eth_dev_stop(m->port);
	(void)rte_eth_dev_close(m->port);
	if (device)
		(void)rte_dev_remove(device);
}

static void memif_close(struct dataplane_wire *wire)
{
	struct memif_wire *m = of(wire);

	rte_pktmbuf_free_bulk(m->received, m->received_count);
	rte_pktmbuf_free_bulk(m->waiting, m->waiting_count);
	rte_pktmbuf_free(m->given);
	if (m->probed)
		close_port(m);
	rte_mempool_free(m->pool);
	(void)unlink(m->socket);
	free(m);
}

static int start(struct memif_wire *m)
{
	const struct rte_eth_conf conf = {0};
	int rc = rte_eth_dev_configure(m->port, 1, 1, &conf);

	if (rc == 0)
		rc = rte_eth_rx_queue_setup(m->port, 0, DESCRIPTOR_COUNT,
			(unsigned)SOCKET_ID_ANY, NULL, m->pool);
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(m->port, 0, DESCRIPTOR_COUNT,
			(unsigned)SOCKET_ID_ANY, NULL);
	if (rc == 0)
		rc = rte_eth_dev_start(m->port);
	m->started = rc == 0;
	return rc;
}

static int make(struct memif_wire *m, struct error *err)
{
	char far[200];
	int rc;

	snprintf(
		m->socket, sizeof(m->socket), SOCKET_FORMAT, "", (int)getpid());
	snprintf(far, sizeof(far),
		"net_memif_far,role=server,id=0,rsize=10,socket=%s,"
		"socket-abstract=no,mac=02:00:00:00:00:02",
		m->socket);
	snprintf(m->wire.device, sizeof(m->wire.device),
		"net_memif_near,role=client,id=0,rsize=10,socket=" SOCKET_FORMAT
		",socket-abstract=no,mac=02:00:00:00:00:01",
		"./", (int)getpid());
	m->pool = rte_pktmbuf_pool_create("heddle-bench", FRAME_COUNT,
		CACHE_COUNT, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!m->pool)
		return error_set(err, ENOMEM, "no memory for a wire of DPDK's");
	rc = rte_dev_probe(far);
	if (rc)
		return error_set(err, ENODEV,
			"DPDK has no net_memif here, or it does not start: %s",
			rte_strerror(-rc));
	if (rte_eth_dev_get_port_by_name("net_memif_far", &m->port))
		return error_set(err, EIO, "DPDK makes no port of memif");
	m->probed = true;
	rc = start(m);
	return rc ? error_set(err, EIO, "DPDK's memif does not start: %s",
			    rte_strerror(-rc))
		  : 0;
}

int dataplane_wire_memif(struct dataplane_wire **out, struct error *err)
{
	const struct nic_config config = {.device = "net_memif_near"};
	struct memif_wire *m;
	int rc = nic_eal_start(&config, MEMORY_BYTES, err);

	*out = NULL;
	if (rc)
		return rc;
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(err, ENOMEM, "no memory for a wire");
	m->wire = (struct dataplane_wire){.receive = memif_receive,
		.frame_get = memif_frame_get,
		.frame_send = memif_frame_send,
		.flush = memif_flush,
		.close = memif_close};
	rc = make(m, err);
	if (rc) {
		memif_close(&m->wire);
		return rc;
	}
	*out = &m->wire;
	return 0;
}
