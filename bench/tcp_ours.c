/* tcp_ours.c - our TCP with far ends, without a NIC (calls -> frames) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "bench/tcp_frame.h"
#include "bench/tcp_ours.h"
#include "bench/tcp_side.h"

#define FRAME_BYTES_MAX 2048
#define RTT_NS (5 * NS_PER_US)
#define FAR_ADDRESS 0xac100000u /* 172.16.0.0 */
#define GATEWAY_ADDRESS 0x0a0000feu
#define GREET_NS (10 * NS_PER_S) /* neighbours are believed for 30 s */

/* One connection's peer. */
struct far_end {
	struct tcp_id id;
	uint32_t seq, ack;
};

struct tcp_ours {
	struct net_stack *net;
	struct tcp *tcp;
	struct mono now, greeted;
	struct far_end *ends; /* owned */
	uint32_t count;
	uint64_t frame_count;
	struct tcp_frame in[NET_BURST_COUNT_MAX];
	uint32_t in_count; /* frames that have come and wait */
	uint8_t out[FRAME_BYTES_MAX];
};

static uint8_t *frame_get(void *arg, size_t size)
{
	struct tcp_ours *o = arg;

	return size <= sizeof(o->out) ? o->out : NULL;
}

static void frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	struct tcp_ours *o = arg;
	uint32_t i, ack;

	(void)offload;
	o->frame_count++;
	/* What a SYN of a flood is answered with goes to nobody. */
	if (tcp_frame_read(&o->in[0], frame, length, &i, &ack) && i < o->count)
		o->ends[i].ack = ack;
}

/* What has come, as a burst. */
static void input(struct tcp_ours *o)
{
	struct net_frame frames[NET_BURST_COUNT_MAX];

	for (uint32_t i = 0; i < o->in_count; i++)
		frames[i] = (struct net_frame){.bytes = o->in[i].bytes,
			.length = TCP_FRAME_BYTES,
			.checksum_good = true};
	net_input_burst(o->net, frames, o->in_count, o->now);
	o->in_count = 0;
}

static void arrive(struct tcp_ours *o, uint32_t i, uint8_t flags, uint32_t seq,
	uint32_t ack)
{
	tcp_frame_make(&o->in[o->in_count++], i, flags, seq, ack);
	if (o->in_count == NET_BURST_COUNT_MAX)
		input(o);
}

/* The gateway's MAC, so that nothing has to wait. */
static void greet(struct tcp_ours *o)
{
	uint8_t arp[TCP_FRAME_ARP_BYTES];

	tcp_frame_arp(&o->in[0], GATEWAY_ADDRESS, arp);
	net_input(o->net, arp, sizeof(arp), false, o->now);
	o->greeted = o->now;
}

static int open_all(struct tcp_ours *o, struct error *err)
{
	struct tcp_news news;

	for (uint32_t i = 0; i < o->count; i++) {
		struct far_end *e = &o->ends[i];

		e->seq = i * 77;
		arrive(o, i, FRAME_SYN, e->seq++, 0);
		input(o);
		arrive(o, i, FRAME_ACK, e->seq, e->ack);
		input(o);
		if (!tcp_next(o->tcp, &news) || !news.opened)
			return error_set(
				err, EPROTO, "connection %u did not open", i);
		e->id = news.id;
		net_poll(o->net, o->now);
	}
	return 0;
}

int tcp_ours_create(uint32_t count, bool checksums, struct tcp_ours **out,
	struct error *err)
{
	struct net_config config = {.mac = {2, 0, 0, 0, 0, 1},
		.mtu_bytes = 1500,
		.ip4 = {10, 0, 0, 1},
		.gateway4 = {10, 0, 0, 254},
		.prefix4_bits = 24,
		.device = {NULL, frame_get, frame_send, checksums, 0},
		.tcp = {.connection_count = count + 16,
			.half_open_count = 16,
			.send_bytes = 65536,
			.receive_bytes = 16384,
			.send_total_bytes = (uint64_t)count * 4096 + (1 << 20),
			.receive_total_bytes = 1 << 20}};
	struct tcp_ours *o = calloc(1, sizeof(*o));
	int rc;

	if (!o)
		return error_set(err, ENOMEM, "no memory");
	config.device.arg = o;
	o->now.ns = NS_PER_S;
	o->count = count;
	o->ends = calloc(count, sizeof(*o->ends));
	rc = o->ends ? net_stack_create(&config, o->now, &o->net, err)
		     : error_set(err, ENOMEM, "no memory");
	if (rc)
		goto err_free;
	o->tcp = net_stack_tcp(o->net);
	tcp_listen(o->tcp, TCP_FRAME_PORT, 0);
	for (int i = 0; i < NET_BURST_COUNT_MAX; i++)
		tcp_frame_init(
			&o->in[i], config.mac, config.ip4, FAR_ADDRESS, 1000);
	greet(o);
	rc = open_all(o, err);
	if (rc)
		goto err_destroy;
	*out = o;
	return 0;

err_destroy:
	net_stack_destroy(o->net);
err_free:
	free(o->ends);
	free(o);
	return rc;
}

void tcp_ours_destroy(struct tcp_ours *o)
{
	net_stack_destroy(o->net);
	free(o->ends);
	free(o);
}

void tcp_ours_pass(struct tcp_ours *o, uint64_t ns)
{
	o->now.ns += ns;
}

bool tcp_ours_send(struct tcp_ours *o, uint32_t i)
{
	static const uint8_t event[TCP_SIDE_EVENT_BYTES];
	const struct tcp_piece piece = {event, sizeof(event)};

	return tcp_send(o->tcp, o->ends[i].id, &piece, 1) == 0;
}

void tcp_ours_ack(struct tcp_ours *o, uint32_t i)
{
	arrive(o, i, FRAME_ACK, o->ends[i].seq, o->ends[i].ack);
}

void tcp_ours_syn(struct tcp_ours *o, uint32_t i)
{
	/* 15 million of them, none of which has a connection. */
	arrive(o, o->count + i % 15000000, FRAME_SYN, i, 0);
}

void tcp_ours_poll(struct tcp_ours *o)
{
	if (mono_diff(o->now, o->greeted) > GREET_NS)
		greet(o);
	input(o);
	net_poll(o->net, o->now);
}

uint64_t tcp_ours_frame_count(const struct tcp_ours *o)
{
	return o->frame_count;
}

void tcp_ours_usage(const struct tcp_ours *o, struct tcp_usage *out)
{
	tcp_get_usage(o->tcp, out);
}

/* --- as one of the sides --- */

static bool turn(void *arg, uint32_t first)
{
	struct tcp_ours *o = arg;
	uint64_t before = o->frame_count;
	bool fine = true;

	for (uint32_t i = 0; i < TCP_SIDE_BURST; i++)
		fine &= tcp_ours_send(o, first + i);
	net_poll(o->net, o->now);
	fine &= o->frame_count - before >= TCP_SIDE_BURST;
	o->now.ns += RTT_NS;
	for (uint32_t i = 0; i < TCP_SIDE_BURST; i++)
		tcp_ours_ack(o, first + i);
	tcp_ours_poll(o);
	o->now.ns += TCP_SIDE_INTERVAL_NS * TCP_SIDE_BURST / o->count - RTT_NS;
	return fine;
}

static void end(void *arg)
{
	tcp_ours_destroy(arg);
}

int tcp_side_ours(
	uint32_t count, bool checksums, struct tcp_side *out, struct error *err)
{
	struct tcp_ours *o;
	int rc = tcp_ours_create(count, checksums, &o, err);

	if (rc == 0)
		*out = (struct tcp_side){o, turn, end, count, 0};
	return rc;
}
