/* tcp_lwip.c - Debian's liblwip beside our TCP (turns -> pairs) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unmodified: it walks one list to find whom an ACK is for. A list is put in
 * its place for each side here, since lwIP is one stack per process. It sums
 * in software, both ways. Its timers are not run, which spares it a walk over
 * all connections in 250 ms.
 */
#include <errno.h>
#include <stdlib.h>

#include "bench/tcp_frame.h"
#include "bench/tcp_side.h"
#include "dataplane/net_wire.h"
#include "tests/lwip_host.h"

#define FAR_ADDRESS 0x0a000064u /* 10.0.0.100 */
#define FAR_PER_ADDRESS 60000u

struct far_end {
	void *connection; /* lwIP's */
	uint32_t seq, ack;
};

struct side {
	struct tcp_frame in;
	struct far_end *ends; /* owned */
	void *list; /* lwIP's connections of this side, while not in use */
	uint32_t count;
	uint64_t frame_count;
};

static void frame_out(void *arg, const uint8_t *frame, size_t length)
{
	struct side *s = arg;
	uint32_t i, ack;

	s->frame_count++;
	if (tcp_frame_read(&s->in, frame, length, &i, &ack) && i < s->count)
		s->ends[i].ack = ack;
}

static void enter(struct side *s)
{
	lwip_host_start(frame_out, s);
	lwip_server_swap(s->list);
}

static void leave(struct side *s)
{
	s->list = lwip_server_swap(NULL);
}

static void acknowledge(struct side *s, uint32_t i)
{
	tcp_frame_make(&s->in, i, FRAME_ACK, s->ends[i].seq, s->ends[i].ack);
	lwip_host_input(s->in.bytes, TCP_FRAME_BYTES);
}

static bool turn(void *arg, uint32_t first)
{
	static const uint8_t event[TCP_SIDE_EVENT_BYTES];
	struct side *s = arg;
	uint64_t before = s->frame_count;
	bool fine = true;

	enter(s);
	for (uint32_t i = first; i < first + TCP_SIDE_BURST; i++)
		fine &= lwip_server_send(
			s->ends[i].connection, event, sizeof(event));
	fine &= s->frame_count - before == TCP_SIDE_BURST;
	for (uint32_t i = first; i < first + TCP_SIDE_BURST; i++)
		acknowledge(s, i);
	leave(s);
	return fine;
}

static void end(void *arg)
{
	struct side *s = arg;

	enter(s);
	lwip_host_clear();
	leave(s);
	free(s->ends);
	free(s);
}

/* Far ends answer no ARP, so they say where they are before. */
static void greet(struct side *s)
{
	uint8_t arp[TCP_FRAME_ARP_BYTES];

	for (uint32_t i = 0; i <= s->count / FAR_PER_ADDRESS; i++) {
		tcp_frame_arp(&s->in, FAR_ADDRESS + i, arp);
		lwip_host_input(arp, sizeof(arp));
	}
}

static int open_all(struct side *s, struct error *err)
{
	for (uint32_t i = 0; i < s->count; i++) {
		struct far_end *e = &s->ends[i];

		e->seq = i * 77;
		tcp_frame_make(&s->in, i, FRAME_SYN, e->seq++, 0);
		lwip_server_input_syn(s->in.bytes, TCP_FRAME_BYTES);
		acknowledge(s, i);
		e->connection = lwip_server_accept();
		if (!e->connection)
			return error_set(err, EPROTO,
				"liblwip: connection %u did not open", i);
	}
	return 0;
}

int tcp_side_lwip(uint32_t count, struct tcp_side *out, struct error *err)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
	static const uint8_t ip4[4] = {10, 0, 0, 2};
	static bool listens;
	struct side *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return error_set(err, ENOMEM, "no memory");
	s->count = count;
	s->ends = calloc(count, sizeof(*s->ends));
	rc = s->ends ? 0 : error_set(err, ENOMEM, "no memory");
	if (rc == 0 && !lwip_host_start(frame_out, s))
		rc = error_set(err, ENOTSUP, "no liblwip.so.0 here");
	if (rc)
		goto err_free;
	tcp_frame_init(&s->in, mac, ip4, FAR_ADDRESS, FAR_PER_ADDRESS);
	s->in.checksum = true;
	/* One listener serves all sides. */
	if (!listens)
		listens = lwip_server_listen(TCP_FRAME_PORT);
	greet(s);
	rc = open_all(s, err);
	leave(s);
	if (rc) {
		end(s);
		return rc;
	}
	*out = (struct tcp_side){s, turn, end, count, 0};
	return 0;

err_free:
	free(s->ends);
	free(s);
	return rc;
}
