/* dataplane_packet.c - an interface as a wire (frames <-> packet socket) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that come lie in a ring that the kernel fills, so that an empty one
 * costs no system call; those that go are handed over together.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/dataplane_wire.h"

#define SLOT_BYTES 2048u
#define SLOT_COUNT 16384u
#define BLOCK_BYTES 65536u
#define STATION_AT 5 /* the last byte of the MAC that a frame goes to */
#define STATION_BIT 0x80u

struct packet_wire {
	struct dataplane_wire wire; /* the first: what the callers have */
	int fd; /* owned */
	uint8_t *ring; /* owned mapping */
	uint32_t next; /* slot that is looked at next */
	uint32_t lent; /* slots before it that the caller still reads */
	uint8_t out[DATAPLANE_WIRE_BURST][DATAPLANE_WIRE_FRAME_BYTES];
	struct mmsghdr messages[DATAPLANE_WIRE_BURST];
	struct iovec pieces[DATAPLANE_WIRE_BURST];
	uint32_t waiting_count;
	bool untaken_first;
};

static struct packet_wire *of(struct dataplane_wire *wire)
{
	return (struct packet_wire *)wire;
}

static struct tpacket2_hdr *slot_at(const struct packet_wire *p, uint32_t i)
{
	return (void *)(p->ring + (size_t)(i % SLOT_COUNT) * SLOT_BYTES);
}

static uint32_t packet_receive(
	struct dataplane_wire *wire, struct net_frame *out, uint32_t max)
{
	struct packet_wire *p = of(wire);
	uint32_t count = 0;

	for (; p->lent > 0; p->lent--)
		__atomic_store_n(&slot_at(p, p->next - p->lent)->tp_status,
			TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	while (count < max) {
		const struct tpacket2_hdr *h = slot_at(p, p->next);

		/* Pairs with the kernel's, after it has written the frame. */
		if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) &
			    TP_STATUS_USER))
			break;
		out[count++] = (struct net_frame){
			.bytes = (const uint8_t *)h + h->tp_mac,
			.length = h->tp_snaplen,
			.checksum_good = true};
		p->next++;
		p->lent++;
	}
	return count;
}

/* All that waits; how many went. */
static uint32_t send_waiting(struct packet_wire *p)
{
	uint32_t done = 0;

	while (done < p->waiting_count) {
		int sent = sendmmsg(p->fd, p->messages + done,
			p->waiting_count - done, MSG_DONTWAIT);

		if (sent <= 0)
			break;
		done += (uint32_t)sent;
	}
	return done;
}

static uint64_t thread_ns(void)
{
	struct timespec used = {0};

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

/* To a station that is not there, or, the next time, to the one that is. */
static void turn_away(struct packet_wire *p)
{
	for (uint32_t i = 0; i < p->waiting_count; i++)
		p->out[i][STATION_AT] ^= STATION_BIT;
}

static void send_untaken(struct packet_wire *p)
{
	uint64_t from_ns;

	turn_away(p);
	from_ns = thread_ns();
	(void)send_waiting(p);
	p->wire.untaken_ns += thread_ns() - from_ns;
	turn_away(p);
}

/* Which of the two is the first changes: the second finds all at hand. */
static uint32_t send_both(struct packet_wire *p)
{
	uint64_t from_ns;
	uint32_t done;

	p->untaken_first = !p->untaken_first;
	if (p->untaken_first)
		send_untaken(p);
	from_ns = thread_ns();
	done = send_waiting(p);
	p->wire.taken_ns += thread_ns() - from_ns;
	if (!p->untaken_first)
		send_untaken(p);
	return done;
}

static void packet_flush(struct dataplane_wire *wire)
{
	struct packet_wire *p = of(wire);

	if (p->waiting_count == 0)
		return;
	wire->lost += p->waiting_count -
		      (wire->compares ? send_both(p) : send_waiting(p));
	p->waiting_count = 0;
}

static uint8_t *packet_frame_get(struct dataplane_wire *wire)
{
	struct packet_wire *p = of(wire);

	return p->out[p->waiting_count];
}

static void packet_frame_send(struct dataplane_wire *wire, size_t length)
{
	struct packet_wire *p = of(wire);

	p->pieces[p->waiting_count++].iov_len = length;
	if (p->waiting_count == DATAPLANE_WIRE_BURST)
		packet_flush(wire);
}

static void packet_close(struct dataplane_wire *wire)
{
	struct packet_wire *p = of(wire);

	if (p->ring)
		munmap(p->ring, (size_t)SLOT_BYTES * SLOT_COUNT);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

static int open_ring(
	struct packet_wire *p, const char *interface, struct error *err)
{
	const int version = TPACKET_V2, yes = 1;
	const struct tpacket_req ring = {.tp_block_size = BLOCK_BYTES,
		.tp_block_nr = SLOT_COUNT / (BLOCK_BYTES / SLOT_BYTES),
		.tp_frame_size = SLOT_BYTES,
		.tp_frame_nr = SLOT_COUNT};
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(interface)};
	void *map;

	if (at.sll_ifindex == 0)
		return error_set(err, ENODEV, "%s: there is no such interface",
			interface);
	p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return error_set(
			err, errno, "a packet socket: %s", strerror(errno));
	if (setsockopt(p->fd, SOL_PACKET, PACKET_VERSION, &version,
		    sizeof(version)) ||
		setsockopt(p->fd, SOL_PACKET, PACKET_RX_RING, &ring,
			sizeof(ring)) ||
		setsockopt(p->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes,
			sizeof(yes)) ||
		setsockopt(p->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes,
			sizeof(yes)))
		return error_set(err, errno, "%s: a ring of packets: %s",
			interface, strerror(errno));
	map = mmap(NULL, (size_t)SLOT_BYTES * SLOT_COUNT,
		PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (map == MAP_FAILED)
		return error_set(err, errno, "%s: a ring of packets: %s",
			interface, strerror(errno));
	p->ring = map;
	if (bind(p->fd, (const struct sockaddr *)&at, sizeof(at)))
		return error_set(
			err, errno, "%s: %s", interface, strerror(errno));
	return 0;
}

int dataplane_wire_packet(
	const char *interface, struct dataplane_wire **out, struct error *err)
{
	struct packet_wire *p = calloc(1, sizeof(*p));
	int rc;

	*out = NULL;
	if (!p)
		return error_set(err, ENOMEM, "no memory for a wire");
	p->wire = (struct dataplane_wire){.receive = packet_receive,
		.frame_get = packet_frame_get,
		.frame_send = packet_frame_send,
		.flush = packet_flush,
		.close = packet_close};
	p->fd = -1;
	for (uint32_t i = 0; i < DATAPLANE_WIRE_BURST; i++) {
		p->pieces[i].iov_base = p->out[i];
		p->messages[i].msg_hdr.msg_iov = &p->pieces[i];
		p->messages[i].msg_hdr.msg_iovlen = 1;
	}
	rc = open_ring(p, interface, err);
	if (rc) {
		packet_close(&p->wire);
		return rc;
	}
	*out = &p->wire;
	return 0;
}
