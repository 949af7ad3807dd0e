/* dataplane_ring_dpdk.c - a wire in memory (frames <-> DPDK's net_ring) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#undef NS_PER_S /* DPDK's, and ours: the same number */
#include "bench/dataplane_wire.h"
#include "dataplane/nic_eal.h"

#define FRAME_COUNT 8191
#define CACHE_COUNT 256
#define RING_COUNT 4096
#define FREE_COUNT DATAPLANE_WIRE_BURST
/* Ours and those of the port, each with its header. */
#define MEMORY_BYTES ((size_t)64 << 20)

struct ring_wire {
	struct dataplane_wire wire; /* the first: what the callers have */
	struct rte_ring *in, *out; /* owned; as the server names them */
	struct rte_mempool *pool; /* owned */
	struct rte_mbuf *received[FREE_COUNT]; /* lent to the caller */
	uint32_t received_count;
	struct rte_mbuf *given, *waiting[DATAPLANE_WIRE_BURST];
	uint32_t waiting_count;
};

static struct ring_wire *of(struct dataplane_wire *wire)
{
	return (struct ring_wire *)wire;
}

static uint32_t ring_receive(
	struct dataplane_wire *wire, struct net_frame *out, uint32_t max)
{
	struct ring_wire *r = of(wire);

	rte_pktmbuf_free_bulk(r->received, r->received_count);
	r->received_count = rte_ring_dequeue_burst(r->out, (void **)r->received,
		RTE_MIN(max, (uint32_t)FREE_COUNT), NULL);
	for (uint32_t i = 0; i < r->received_count; i++)
		out[i] = (struct net_frame){
			.bytes = rte_pktmbuf_mtod(
				r->received[i], const uint8_t *),
			.length = r->received[i]->data_len,
			.checksum_good = true};
	return r->received_count;
}

static void ring_flush(struct dataplane_wire *wire)
{
	struct ring_wire *r = of(wire);
	uint32_t sent = rte_ring_enqueue_burst(
		r->in, (void **)r->waiting, r->waiting_count, NULL);

	wire->lost += r->waiting_count - sent;
	rte_pktmbuf_free_bulk(r->waiting + sent, r->waiting_count - sent);
	r->waiting_count = 0;
}

static uint8_t *ring_frame_get(struct dataplane_wire *wire)
{
	struct ring_wire *r = of(wire);

	if (!r->given)
		r->given = rte_pktmbuf_alloc(r->pool);
	return r->given ? rte_pktmbuf_mtod(r->given, uint8_t *) : NULL;
}

static void ring_frame_send(struct dataplane_wire *wire, size_t length)
{
	struct ring_wire *r = of(wire);

	r->given->data_len = (uint16_t)length;
	r->given->pkt_len = (uint32_t)length;
	r->waiting[r->waiting_count++] = r->given;
	r->given = NULL;
	if (r->waiting_count == DATAPLANE_WIRE_BURST)
		ring_flush(wire);
}

static uint32_t ring_buffers_out(const struct dataplane_wire *wire)
{
	const struct ring_wire *r = (const void *)wire;

	return rte_mempool_in_use_count(r->pool) - (r->given != NULL);
}

static void drain(struct rte_ring *ring)
{
	void *m;

	while (ring && rte_ring_dequeue(ring, &m) == 0)
		rte_pktmbuf_free(m);
}

static void ring_close(struct dataplane_wire *wire)
{
	struct ring_wire *r = of(wire);

	rte_pktmbuf_free_bulk(r->received, r->received_count);
	rte_pktmbuf_free(r->given);
	drain(r->in);
	/* What the server has sent lay in its own pool, which is gone. */
	rte_ring_free(r->in);
	rte_ring_free(r->out);
	rte_mempool_free(r->pool);
	free(r);
}

static int make(struct ring_wire *r, struct error *err)
{
	const unsigned flags = RING_F_SP_ENQ | RING_F_SC_DEQ;
	struct rte_ether_addr mac = {{2, 0, 0, 0, 0, 1}};
	int port;

	r->in = rte_ring_create(
		"heddle-in", RING_COUNT, (int)SOCKET_ID_ANY, flags);
	r->out = rte_ring_create(
		"heddle-out", RING_COUNT, (int)SOCKET_ID_ANY, flags);
	r->pool = rte_pktmbuf_pool_create("heddle-bench", FRAME_COUNT,
		CACHE_COUNT, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!r->in || !r->out || !r->pool)
		return error_set(err, ENOMEM, "no memory for a wire of DPDK's");
	port = rte_eth_from_rings("wire", &r->in, 1, &r->out, 1, 0);
	/* Its first place for an address is empty. */
	if (port < 0 || rte_eth_dev_mac_addr_add((uint16_t)port, &mac, 0))
		return error_set(err, EIO, "DPDK makes no port of rings");
	return 0;
}

int dataplane_wire_ring(struct dataplane_wire **out, struct error *err)
{
	const struct nic_config config = {.device = "net_ring_wire"};
	struct ring_wire *r;
	int rc = nic_eal_start(&config, MEMORY_BYTES, err);

	*out = NULL;
	if (rc)
		return rc;
	r = calloc(1, sizeof(*r));
	if (!r)
		return error_set(err, ENOMEM, "no memory for a wire");
	r->wire = (struct dataplane_wire){.receive = ring_receive,
		.frame_get = ring_frame_get,
		.frame_send = ring_frame_send,
		.flush = ring_flush,
		.buffers_out = ring_buffers_out,
		.close = ring_close};
	snprintf(r->wire.device, sizeof(r->wire.device), "%s", config.device);
	rc = make(r, err);
	if (rc) {
		ring_close(&r->wire);
		return rc;
	}
	*out = &r->wire;
	return 0;
}
