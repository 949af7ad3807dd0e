/* nic_dpdk.c - a network port by DPDK (frames <-> poll-mode driver) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/prefetch.h"
#include "dataplane/nic_dpdk.h"

#define DESCRIPTOR_COUNT 1024
/* Both rings, what waits, a burst, and the pool's cache; 2^n - 1 packs best. */
#define BUFFER_COUNT 4095
#define CACHE_COUNT 256
#define SPARE_AHEAD 2 /* whose memory is asked for */
#define FRAME_HOT_BYTES 320 /* of an event */
#define LARGE_COUNT 63 /* frames that the port cuts */
#define LINK_BYTES_MAX 22 /* Ethernet, two tags */
#define CLOSE_TRIES 1000
#define POOL "heddle"
/* What a hash over ports is good for. */
#define SPREAD_TCP (RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP)

/* --- frames that come --- */

static bool take(struct nic *nic, struct rte_mbuf *m, struct net_frame *out)
{
	if (unlikely(m->nb_segs > 1)) {
		nic->numbers.in_pieces++;
		return false;
	}
	if (unlikely(m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) &&
		rte_vlan_insert(&m))
		return false;
	nic->numbers.in_frames++;
	nic->numbers.in_bytes += m->data_len;
	*out = (struct net_frame){.bytes = rte_pktmbuf_mtod(m, const uint8_t *),
		.length = m->data_len,
		.checksum_good = (m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) ==
				 RTE_MBUF_F_RX_L4_CKSUM_GOOD};
	return true;
}

static void give_back(struct nic *nic)
{
	rte_pktmbuf_free_bulk(nic->received, nic->received_count);
	nic->received_count = 0;
}

uint32_t nic_receive(struct nic *nic, struct net_frame *out, uint32_t max)
{
	uint32_t count = 0;

	give_back(nic);
	if (max > NIC_BURST_COUNT)
		max = NIC_BURST_COUNT;
	nic->received_count = rte_eth_rx_burst(
		nic->port, nic->queue, nic->received, (uint16_t)max);
	for (uint32_t i = 0; i < nic->received_count; i++)
		count += take(nic, nic->received[i], &out[count]);
	return count;
}

/* --- frames that go --- */

/* One that is written soon, from a pool that is larger than any cache. */
static struct rte_mbuf *spare_take(struct nic *nic)
{
	struct rte_mbuf *m;

	if (nic->spare_count == 0) {
		if (rte_pktmbuf_alloc_bulk(
			    nic->small, nic->spare, NIC_SPARE_COUNT))
			return rte_pktmbuf_alloc(nic->small);
		nic->spare_count = NIC_SPARE_COUNT;
	}
	m = nic->spare[--nic->spare_count];
	if (nic->spare_count >= SPARE_AHEAD) {
		const struct rte_mbuf *next =
			nic->spare[nic->spare_count - SPARE_AHEAD];

		prefetch(rte_pktmbuf_mtod(next, const char *), FRAME_HOT_BYTES);
	}
	return m;
}

uint8_t *nic_frame_get(struct nic *nic, size_t size)
{
	bool large = size > nic->small_bytes;

	if (nic->waiting_count == NIC_SEND_COUNT)
		return NULL;
	/* One that was asked for and never sent. */
	if (nic->given)
		rte_pktmbuf_free(nic->given);
	nic->given = NULL;
	if (size > (nic->large ? nic->large_bytes : nic->small_bytes))
		return NULL;
	nic->given = large ? rte_pktmbuf_alloc(nic->large) : spare_take(nic);
	return nic->given ? rte_pktmbuf_mtod(nic->given, uint8_t *) : NULL;
}

/* The port fills in the checksum; it may cut too, then IPv4's as well. */
static void set_offload(
	struct rte_mbuf *m, uint8_t *frame, const struct net_offload *offload)
{
	uint16_t type, link = RTE_ETHER_HDR_LEN;
	bool ip4;

	memcpy(&type, frame + 12, sizeof(type));
	if (type == RTE_BE16(RTE_ETHER_TYPE_VLAN))
		link += (uint16_t)sizeof(struct rte_vlan_hdr);
	ip4 = frame[link] >> 4 == 4;
	m->tx_offload = rte_mbuf_tx_offload(link,
		(uint64_t)offload->checksum_start - link,
		(uint64_t)(frame[offload->checksum_start + 12] >> 4) * 4,
		offload->segment_bytes, 0, 0, 0);
	m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM |
		       (ip4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6);
	if (offload->segment_bytes) {
		struct rte_ipv4_hdr *header = (void *)(frame + link);
		uint16_t sum;

		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		if (ip4) {
			m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
			header->hdr_checksum = 0;
		}
		/* Of each part the length is another: it is left out. */
		sum = ip4 ? rte_ipv4_phdr_cksum(header, m->ol_flags)
			  : rte_ipv6_phdr_cksum(
				    (const void *)header, m->ol_flags);
		memcpy(frame + offload->checksum_at, &sum, sizeof(sum));
	}
}

void nic_frame_send(struct nic *nic, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	struct rte_mbuf *m = nic->given;

	assert(m && frame == rte_pktmbuf_mtod(m, uint8_t *));
	assert(length <= rte_pktmbuf_tailroom(m));
	nic->given = NULL;
	m->data_len = (uint16_t)length;
	m->pkt_len = (uint32_t)length;
	if (offload->checksum_start)
		set_offload(m, frame, offload);
	nic->numbers.out_frames++;
	nic->numbers.out_bytes += length;
	nic->waiting[nic->waiting_count++] = m;
	/* While more is written the port works. */
	if (nic->waiting_count % NIC_BURST_COUNT == 0)
		(void)nic_flush(nic);
}

/* The first `count` are gone; the rest keeps its order. */
static void waiting_drop(struct nic *nic, uint32_t count)
{
	nic->waiting_count -= count;
	memmove(nic->waiting, nic->waiting + count,
		nic->waiting_count * sizeof(struct rte_mbuf *));
}

static void drop_first(struct nic *nic)
{
	rte_pktmbuf_free(nic->waiting[0]);
	waiting_drop(nic, 1);
	nic->numbers.out_lost++;
	nic->stuck_ns = 0;
}

/* A frame that the port will never take must not stop those behind it. */
static void look_at_stuck(struct nic *nic)
{
	uint64_t now_ns = mono_now().ns;

	if (nic->stuck_ns == 0)
		nic->stuck_ns = now_ns;
	if (now_ns - nic->stuck_ns >= NIC_STUCK_NS)
		drop_first(nic);
}

bool nic_flush(struct nic *nic)
{
	uint16_t ready = (uint16_t)nic->waiting_count, sent;

	if (ready == 0)
		return true;
	if (nic->facts.checksums_out)
		ready = rte_eth_tx_prepare(
			nic->port, nic->queue, nic->waiting, ready);
	sent = ready ? rte_eth_tx_burst(
			       nic->port, nic->queue, nic->waiting, ready)
		     : 0;
	if (sent > 0) {
		waiting_drop(nic, sent);
		nic->stuck_ns = 0;
	}
	/* What the port could not prepare for, it will not. */
	if (sent == ready && nic->waiting_count > 0)
		drop_first(nic);
	else if (sent == 0)
		look_at_stuck(nic);
	return nic->waiting_count == 0;
}

/* --- what is known of the port --- */

void nic_get_facts(const struct nic *nic, struct nic_facts *out)
{
	*out = nic->facts;
}

static void count_lost(struct nic *nic, struct nic_port *port)
{
	struct rte_eth_stats stats = {0};
	uint64_t in, out;

	if (rte_eth_stats_get(port->id, &stats))
		return;
	in = stats.imissed + stats.ierrors + stats.rx_nombuf;
	out = stats.oerrors;
	/* One that stands by loses what nobody takes: that is no loss. */
	if (port == &nic->device->ports[nic->active]) {
		nic->numbers.in_lost += in - port->in_lost;
		nic->numbers.out_lost += out - port->out_lost;
	}
	port->in_lost = in;
	port->out_lost = out;
}

void nic_get_numbers(struct nic *nic, struct nic_numbers *out)
{
	struct nic_device *device = nic->device;

	for (uint32_t i = 0; nic->queue == 0 && i < device->port_count; i++)
		count_lost(nic, &device->ports[i]);
	if (nic->queue == 0)
		nic_link_look(nic);
	*out = nic->numbers;
	out->port_count = device->port_count;
	out->active = nic->active;
}

uint32_t nic_buffers_out(const struct nic *nic)
{
	return rte_mempool_in_use_count(nic->small) - nic->spare_count +
	       (nic->large ? rte_mempool_in_use_count(nic->large) : 0);
}

/* --- opening --- */

static int refuse(
	const char *device, int rc, const char *what, struct error *err)
{
	char cause[256];

	nic_eal_cause(cause, sizeof(cause));
	return error_set(err, -rc, "%s: %s: %s%s%s", device, what,
		rte_strerror(-rc), cause[0] ? "; DPDK says: " : "", cause);
}

static uint32_t frame_bytes(const struct nic_config *config)
{
	return config->mtu_bytes + LINK_BYTES_MAX;
}

/* Two drivers want to be told how many queues they shall have. */
static void name_queues(
	const char *device, uint32_t count, char *out, size_t size)
{
	const char *word = strncmp(device, "net_af_packet", 13) == 0 ? "qpairs"
			   : strncmp(device, "net_af_xdp", 10) == 0
				   ? "queue_count"
				   : NULL;
	char sought[24];

	snprintf(sought, sizeof(sought), ",%s=", word ? word : "");
	if (word && count > 1 && !strstr(device, sought))
		snprintf(out, size, "%s%s%u", device, sought, count);
	else
		snprintf(out, size, "%s", device);
}

static int probe(struct nic_port *port, uint32_t queue_count, struct error *err)
{
	const char *device = port->device;
	char name[NIC_DEVICE_BYTES], arguments[NIC_DEVICE_BYTES + 48];
	int rc = 0;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(device, ","), device);
	/* Cards are there from the start, and what others have made. */
	if (rte_eth_dev_get_port_by_name(name, &port->id) == 0)
		return 0;
	name_queues(device, queue_count, arguments, sizeof(arguments));
	if (!nic_eal_is_card(device))
		rc = rte_dev_probe(arguments);
	/* What it calls a bad address is a word that no driver knows. */
	if (rc)
		return refuse(device, rc == -EFAULT ? -EINVAL : rc,
			"the port cannot be made", err);
	if (rte_eth_dev_get_port_by_name(name, &port->id))
		return refuse(device, -ENODEV,
			"DPDK has no driver for it, or the kernel's keeps it",
			err);
	return 0;
}

/* What all ports can, and how large a frame each takes. */
struct offers {
	uint64_t in, out; /* RTE_ETH_..._OFFLOAD_... */
	uint64_t spread; /* RTE_ETH_RSS_... */
	uint32_t frame_bytes;
	bool tap;
};

/*
 * Each frame comes to a queue that is looked at, and with those that belong to
 * it: a card has to be told; software ports have their own way.
 */
static int check_queues(const struct nic_port *port,
	const struct rte_eth_dev_info *info, uint32_t count, struct error *err)
{
	bool fixed = strcmp(port->driver, "net_af_packet") == 0;
	uint32_t has = info->max_rx_queues < info->max_tx_queues
			       ? info->max_rx_queues
			       : info->max_tx_queues;

	if (has < count || (fixed && has != count))
		return error_set(err, ENOTSUP,
			"%s: nic-queues: %u, and the port has %s%u",
			port->device, count, has < count ? "only " : "", has);
	if (count > 1 && nic_eal_is_card(port->device) &&
		!(info->flow_type_rss_offloads & SPREAD_TCP))
		return error_set(err, ENOTSUP,
			"%s: nic-queues: %u, and the port cannot spread "
			"connections over them (no RSS)",
			port->device, count);
	return 0;
}

static int ask_port(const struct nic_device *device, struct nic_port *port,
	uint32_t mtu_bytes, struct offers *offers, struct error *err)
{
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(port->id, &info);

	if (rc)
		return refuse(port->device, rc,
			"the port does not say what it can", err);
	snprintf(port->driver, sizeof(port->driver), "%s", info.driver_name);
	port->interface = info.if_index;
	if (info.max_mtu && mtu_bytes > info.max_mtu)
		return error_set(err, EINVAL, "%s: an MTU of %u; at most %u",
			port->device, mtu_bytes, info.max_mtu);
	rc = check_queues(port, &info, device->queue_count, err);
	if (rc)
		return rc;
	offers->spread &= info.flow_type_rss_offloads;
	offers->in &= info.rx_offload_capa;
	offers->out &= info.tx_offload_capa;
	offers->tap |= strcmp(port->driver, "net_tap") == 0;
	if (info.max_rx_pktlen < offers->frame_bytes)
		offers->frame_bytes = info.max_rx_pktlen;
	return 0;
}

/*
 * When it cuts, DPDK's tap compares whole frames with its MTU, and one that is
 * too large stops all behind it. It gets an MTU that holds them, or whole
 * segments.
 */
static void suit_tap(
	struct nic *nic, const struct offers *offers, struct rte_eth_conf *conf)
{
	const uint32_t link = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

	if (conf->rxmode.mtu + LINK_BYTES_MAX + link <= offers->frame_bytes)
		conf->rxmode.mtu += LINK_BYTES_MAX;
	else
		nic->facts.tso_bytes = 0;
}

/* What not every port can is left to software. */
static void choose_offloads(struct nic *nic, const struct nic_config *config,
	const struct offers *offers, struct rte_eth_conf *conf)
{
	const uint64_t cut =
		RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;

	conf->rxmode.mtu = config->mtu_bytes;
	if (offers->in & RTE_ETH_RX_OFFLOAD_TCP_CKSUM) {
		conf->rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
		nic->facts.checksums_in = true;
	}
	if (offers->out & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) {
		conf->txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
		nic->facts.checksums_out = true;
	}
	if (nic->facts.checksums_out && (offers->out & cut) == cut) {
		conf->txmode.offloads |= cut;
		nic->facts.tso_bytes = NIC_TSO_BYTES_MAX;
	}
	if (offers->tap)
		suit_tap(nic, offers, conf);
	if (nic->device->queue_count > 1 && nic_eal_is_card(config->device)) {
		conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf->rx_adv_conf.rss_conf.rss_hf =
			offers->spread & (RTE_ETH_RSS_IP | SPREAD_TCP);
	}
}

/* The first queue's is POOL, which says that a port is open. */
static void pool_name(
	const struct nic *nic, const char *kind, char out[RTE_MEMPOOL_NAMESIZE])
{
	char number[8] = "";

	if (nic->queue > 0)
		snprintf(number, sizeof(number), "-%u", nic->queue);
	snprintf(out, RTE_MEMPOOL_NAMESIZE, "%s%s%s", POOL, kind, number);
}

static int make_pools(
	struct nic *nic, const struct nic_config *config, struct error *err)
{
	uint32_t room = RTE_MAX(frame_bytes(config), 2048u);
	char name[RTE_MEMPOOL_NAMESIZE];

	nic->small_bytes = room;
	pool_name(nic, "", name);
	nic->small = rte_pktmbuf_pool_create(name,
		nic->device->port_count * (BUFFER_COUNT + 1) - 1, CACHE_COUNT,
		0, (uint16_t)(RTE_PKTMBUF_HEADROOM + room), SOCKET_ID_ANY);
	if (!nic->small)
		return refuse(config->device, -rte_errno,
			"no memory for frames", err);
	if (nic->facts.tso_bytes == 0)
		return 0;
	nic->large_bytes = NIC_TSO_BYTES_MAX + NET_HEADER_BYTES_MAX;
	pool_name(nic, "-large", name);
	nic->large = rte_pktmbuf_pool_create(name, LARGE_COUNT, 0, 0,
		(uint16_t)(RTE_PKTMBUF_HEADROOM + nic->large_bytes),
		SOCKET_ID_ANY);
	return nic->large ? 0
			  : refuse(config->device, -rte_errno,
				    "no memory for large frames", err);
}

static int start_port(const struct nic_device *device, struct nic_port *port,
	const struct rte_eth_conf *conf)
{
	uint16_t in = DESCRIPTOR_COUNT, out = DESCRIPTOR_COUNT;
	uint16_t count = (uint16_t)device->queue_count;
	int rc = rte_eth_dev_configure(port->id, count, count, conf);

	if (rc == 0)
		rc = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &in, &out);
	for (uint16_t i = 0; rc == 0 && i < count; i++)
		rc = rte_eth_rx_queue_setup(port->id, i, in,
			(unsigned)SOCKET_ID_ANY, NULL,
			device->queues[i]->small);
	for (uint16_t i = 0; rc == 0 && i < count; i++)
		rc = rte_eth_tx_queue_setup(
			port->id, i, out, (unsigned)SOCKET_ID_ANY, NULL);
	if (rc == 0)
		rc = rte_eth_dev_start(port->id);
	port->started = rc == 0;
	return rc;
}

/* With interrupts where it has some; who has says only when it starts. */
static int set_up(const struct nic_device *device, struct nic_port *port,
	const struct rte_eth_conf *wanted)
{
	struct rte_eth_conf conf = *wanted;
	int rc;

	port->interrupts = nic_eal_is_card(port->device) ||
			   strcmp(port->driver, "net_tap") == 0;
	conf.intr_conf.rxq = port->interrupts;
	rc = start_port(device, port, &conf);
	if (rc == 0 || !port->interrupts)
		return rc;
	port->interrupts = false;
	return start_port(device, port, wanted);
}

/* The second answers for the first's address, or takes all that it hears. */
static int share_address(struct nic *nic)
{
	const struct nic_device *device = nic->device;
	struct rte_ether_addr mac;
	int rc = rte_eth_macaddr_get(device->ports[0].id, &mac);

	if (rc)
		return rc;
	memcpy(nic->facts.mac, mac.addr_bytes, sizeof(nic->facts.mac));
	for (uint32_t i = 1; i < device->port_count; i++)
		if (rte_eth_dev_default_mac_addr_set(
			    device->ports[i].id, &mac) &&
			rte_eth_promiscuous_enable(device->ports[i].id))
			log_warnx("port %u takes frames for its own MAC alone",
				i + 1);
	return 0;
}

static int start_all(struct nic_device *device, const struct rte_eth_conf *conf,
	struct error *err)
{
	for (uint32_t i = 0; i < device->port_count; i++) {
		struct nic_port *port = &device->ports[i];
		int rc = set_up(device, port, conf);

		if (rc)
			return refuse(port->device, rc,
				"the port does not start", err);
		/* Neighbour discovery asks groups. The stack drops what is not
		 * its. */
		if (rte_eth_allmulticast_enable(port->id))
			(void)rte_eth_promiscuous_enable(port->id);
	}
	return 0;
}

static int bring_up(
	struct nic *nic, const struct nic_config *config, struct error *err)
{
	struct nic_device *device = nic->device;
	struct rte_eth_conf conf = {0};
	struct offers offers = {
		UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX, false};
	uint32_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < device->port_count; i++)
		rc = ask_port(device, &device->ports[i], config->mtu_bytes,
			&offers, err);
	if (rc)
		return rc;
	choose_offloads(nic, config, &offers, &conf);
	memcpy(nic->facts.driver, device->ports[0].driver,
		sizeof(nic->facts.driver));
	for (i = 0; rc == 0 && i < device->queue_count; i++) {
		device->queues[i]->facts = nic->facts;
		rc = make_pools(device->queues[i], config, err);
	}
	if (rc == 0)
		rc = start_all(device, &conf, err);
	if (rc)
		return rc;
	rc = share_address(nic);
	if (rc)
		return refuse(config->device, rc, "it has no address", err);
	for (i = 1; i < device->queue_count; i++)
		device->queues[i]->facts = nic->facts;
	return 0;
}

bool nic_is_built(void)
{
	return true;
}

static int probe_all(struct nic_device *device, const struct nic_config *config,
	struct error *err)
{
	struct nic_port *ports = device->ports;
	int rc;

	memcpy(ports[0].device, config->device, NIC_DEVICE_BYTES);
	memcpy(ports[1].device, config->standby, NIC_DEVICE_BYTES);
	device->port_count = config->standby[0] ? 2 : 1;
	rc = probe(&ports[0], device->queue_count, err);
	if (rc == 0 && device->port_count == 2)
		rc = probe(&ports[1], device->queue_count, err);
	if (rc == 0 && ports[1].id == ports[0].id) {
		ports[1].id = RTE_MAX_ETHPORTS; /* it is closed once */
		rc = refuse(
			config->standby, -EEXIST, "it is the first port", err);
	}
	for (uint32_t i = 0; i < device->queue_count; i++)
		device->queues[i]->port = ports[0].id;
	return rc;
}

static void destroy(struct nic_device *device)
{
	for (uint32_t i = 0; i < NIC_QUEUE_COUNT_MAX; i++)
		free(device->queues[i]);
	free(device);
}

static struct nic_device *create(uint32_t queue_count)
{
	struct nic_device *device = calloc(1, sizeof(*device));

	if (!device)
		return NULL;
	device->queue_count = queue_count;
	device->ask_fd = -1;
	for (uint32_t i = 0; i < NIC_PORT_COUNT; i++)
		device->ports[i].id = RTE_MAX_ETHPORTS;
	for (uint32_t i = 0; i < queue_count; i++) {
		struct nic *nic = calloc(1, sizeof(*nic));

		if (!nic) {
			destroy(device);
			return NULL;
		}
		nic->device = device;
		nic->queue = (uint16_t)i;
		nic->event_fd = -1;
		device->queues[i] = nic;
	}
	return device;
}

int nic_open(
	const struct nic_config *config, struct nic **out, struct error *err)
{
	size_t memory_bytes = (size_t)NIC_PORT_COUNT * BUFFER_COUNT *
				      (frame_bytes(config) + 1024) +
			      LARGE_COUNT * ((size_t)NIC_TSO_BYTES_MAX + 1024);
	uint32_t queue_count = config->queue_count ? config->queue_count : 1;
	struct nic_device *device;
	int rc;

	*out = NULL;
	assert(queue_count <= NIC_QUEUE_COUNT_MAX);
	assert(config->mtu_bytes >= NET_MTU_BYTES_MIN &&
		config->mtu_bytes <= NET_MTU_BYTES_MAX);
	rc = nic_eal_start(config, queue_count * memory_bytes, err);
	if (rc)
		return rc;
	nic_eal_listen();
	if (rte_mempool_lookup(POOL))
		return error_set(
			err, EBUSY, "%s: another port is open", config->device);
	device = create(queue_count);
	if (!device)
		return error_set(err, ENOMEM, "no memory for the port");
	rc = probe_all(device, config, err);
	if (rc == 0)
		rc = bring_up(device->queues[0], config, err);
	nic_eal_speak();
	if (rc) {
		nic_close(device->queues[0]);
		return rc;
	}
	nic_link_open(device);
	*out = device->queues[0];
	return 0;
}

struct nic *nic_open_queue(struct nic *first, uint32_t queue)
{
	assert(queue > 0 && queue < first->device->queue_count);
	return first->device->queues[queue];
}

void nic_enter(struct nic *nic)
{
	/* Who has a number has caches of its pools: without it is only slower.
	 * Who opened the port has one. */
	if (nic->queue > 0 && rte_lcore_id() == LCORE_ID_ANY &&
		rte_thread_register())
		log_debug("no caches of buffers for queue %u", nic->queue);
}

static void close_port(const struct nic_port *port)
{
	struct rte_eth_dev_info info;
	struct rte_device *device = NULL;

	if (rte_eth_dev_info_get(port->id, &info) == 0)
		device = info.device;
	if (port->started)
		(void)rte_eth_dev_stop(port->id);
	(void)rte_eth_dev_close(port->id);
	if (device)
		(void)rte_dev_remove(device);
}

static void release(struct nic *nic)
{
	for (int i = 0; i < CLOSE_TRIES && !nic_flush(nic); i++)
		;
	give_back(nic);
	rte_pktmbuf_free(nic->given);
	rte_pktmbuf_free_bulk(nic->spare, nic->spare_count);
	rte_pktmbuf_free_bulk(nic->waiting, nic->waiting_count);
	nic->given = NULL;
	nic->spare_count = nic->waiting_count = 0;
}

void nic_close(struct nic *nic)
{
	struct nic_device *device;

	if (!nic)
		return;
	device = nic->device;
	if (device->ports[nic->active].started)
		release(nic);
	if (nic->queue > 0)
		return;
	nic_link_close(device);
	for (uint32_t i = 0; i < NIC_PORT_COUNT; i++)
		if (device->ports[i].id != RTE_MAX_ETHPORTS)
			close_port(&device->ports[i]);
	for (uint32_t i = 0; i < device->queue_count; i++) {
		rte_mempool_free(device->queues[i]->small);
		rte_mempool_free(device->queues[i]->large);
	}
	destroy(device);
}
