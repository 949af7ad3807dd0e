/* tcp_speed.c - what a segment costs our TCP (argv -> table, JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pair is a token's event: 220 bytes are sent on one connection, a frame
 * leaves, its ACK comes. Connections take turns in bursts of 64, so that each
 * is cold again when its turn comes. No NIC: frames are built in place and
 * forgotten; the device does checksums but for the row that says otherwise.
 * Beside it the kernel's: the same bytes over loopback from one end of a
 * socket pair to the other, both ends and their ACKs in one figure.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/median.h"
#include "bench/report.h"
#include "bench/tcp_speed.h"
#include "dataplane/net.h"
#include "dataplane/net_wire.h"

#define EVENT_BYTES 220
#define BURST_COUNT 64
#define RUN_COUNT 7
#define PORT 80
#define KERNEL_PAIR_COUNT 64
#define FRAME_BYTES 2048

/* One connection's peer. */
struct far_end {
	struct tcp_id id;
	uint32_t seq, ack;
};

struct speed {
	struct net_stack *net;
	struct tcp *tcp;
	struct mono now;
	struct far_end *ends;
	uint32_t count;
	uint8_t out[FRAME_BYTES];
	uint32_t out_seq, out_length; /* of the frame that left last */
	uint64_t frame_count;
	uint32_t burst[BURST_COUNT]; /* the ACK numbers that are due */
	uint32_t burst_count;
	uint8_t in[64];
	struct report report;
	struct error err;
	bool missed;
};

static uint8_t *frame_get(void *arg, size_t size)
{
	struct speed *s = arg;

	return size <= sizeof(s->out) ? s->out : NULL;
}

static void frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	struct speed *s = arg;

	(void)offload;
	s->frame_count++;
	if (frame[23] != IP_TCP)
		return;
	s->out_seq = net_get32(frame + 38);
	s->out_length = (uint32_t)length - 34 - (uint32_t)(frame[46] >> 4) * 4;
	if (s->burst_count < BURST_COUNT)
		s->burst[s->burst_count++] = s->out_seq + s->out_length;
}

/* A segment of far end `i`; the checksum is said to have been verified. */
static void input(
	struct speed *s, uint32_t i, uint8_t flags, uint32_t seq, uint32_t ack)
{
	uint8_t *p = s->in + 14, *t = p + 20;
	uint32_t address = 0xac100000 + i / 1000, sum = 0;

	net_put32(p + 12, address);
	net_put16(p + 10, 0);
	for (int k = 0; k < 20; k += 2)
		sum += net_get16(p + k);
	sum = (sum & 0xffff) + (sum >> 16);
	net_put16(p + 10, ~(sum + (sum >> 16)));
	net_put16(t, 1024 + i % 1000);
	net_put32(t + 4, seq);
	net_put32(t + 8, ack);
	t[13] = flags;
	net_input(s->net, s->in, 54, true, s->now);
}

static void make_template(struct speed *s)
{
	static const uint8_t head[34] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2,
		0x08, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, IP_TCP, [30] = 10, 0,
		0, 1};

	memcpy(s->in, head, sizeof(head));
	net_put16(s->in + 36, PORT);
	s->in[46] = 0x50;
	net_put16(s->in + 48, 65535);
}

/* The gateway's MAC, so that nothing has to wait. */
static void greet(struct speed *s)
{
	static const uint8_t arp[42] = {255, 255, 255, 255, 255, 255, 2, 0, 0,
		0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0,
		0, 254, [38] = 10, 0, 0, 1};

	net_input(s->net, arp, sizeof(arp), false, s->now);
}

static int begin(struct speed *s, uint32_t count, bool checksums)
{
	struct net_config config = {.mac = {2, 0, 0, 0, 0, 1},
		.mtu_bytes = 1500,
		.ip4 = {10, 0, 0, 1},
		.gateway4 = {10, 0, 0, 254},
		.prefix4_bits = 24,
		.device = {s, frame_get, frame_send, checksums, 0},
		.tcp = {.connection_count = count + 16,
			.half_open_count = 16,
			.send_bytes = 65536,
			.receive_bytes = 16384,
			.send_total_bytes = (uint64_t)count * 4096 + (1 << 20),
			.receive_total_bytes = 1 << 20}};
	int rc = net_stack_create(&config, s->now, &s->net, &s->err);

	if (rc)
		return rc;
	s->tcp = net_stack_tcp(s->net);
	s->count = count;
	s->ends = calloc(count, sizeof(*s->ends));
	if (!s->ends)
		return error_set(&s->err, ENOMEM, "no memory");
	tcp_listen(s->tcp, PORT, 0);
	make_template(s);
	greet(s);
	return 0;
}

static void end(struct speed *s)
{
	net_stack_destroy(s->net);
	free(s->ends);
	s->ends = NULL;
}

static int open_all(struct speed *s)
{
	struct tcp_news news;

	for (uint32_t i = 0; i < s->count; i++) {
		struct far_end *e = &s->ends[i];

		e->seq = i * 77;
		input(s, i, 2, e->seq++, 0);
		e->ack = s->out_seq + 1;
		input(s, i, 16, e->seq, e->ack);
		if (!tcp_next(s->tcp, &news) || !news.opened)
			return error_set(&s->err, EPROTO,
				"connection %u did not open", i);
		e->id = news.id;
		net_poll(s->net, s->now);
	}
	return 0;
}

/* Send on, and acknowledge, `burst` connections from `first` on. */
static void turn(struct speed *s, uint32_t first, uint32_t burst)
{
	static const uint8_t event[EVENT_BYTES];
	const struct tcp_piece piece = {event, sizeof(event)};

	s->burst_count = 0;
	s->now.ns += 20 * NS_PER_US;
	for (uint32_t i = 0; i < burst; i++)
		tcp_send(s->tcp, s->ends[first + i].id, &piece, 1);
	net_poll(s->net, s->now);
	s->now.ns += 20 * NS_PER_US;
	for (uint32_t i = 0; i < s->burst_count; i++)
		input(s, first + i, 16, s->ends[first + i].seq, s->burst[i]);
	net_poll(s->net, s->now);
}

/* Nanoseconds of a pair: the median of some runs over all connections. */
static double pair_ns(struct speed *s)
{
	uint32_t rounds = 200000 / s->count + 1;
	double runs[RUN_COUNT];

	for (int run = 0; run < RUN_COUNT; run++) {
		struct mono from = mono_now();
		uint64_t pairs = 0;

		for (uint32_t r = 0; r < rounds; r++)
			for (uint32_t i = 0; i + BURST_COUNT <= s->count;
				i += BURST_COUNT) {
				turn(s, i, BURST_COUNT);
				pairs += BURST_COUNT;
			}
		runs[run] = (double)mono_diff(mono_now(), from) / (double)pairs;
	}
	return median(runs, RUN_COUNT);
}

/* One SYN of a flood, answered by a cookie. */
static double cookie_ns(struct speed *s)
{
	const uint32_t count = 200000;
	struct mono from = mono_now();

	/* Far ends that have no connection; the half-open ones come first. */
	for (uint32_t i = 0; i < count; i++)
		input(s, s->count + i, 2, i, 0);
	return (double)mono_diff(mono_now(), from) / count;
}

/*
 * The share of their rate that streams keep while SYNs come at half of what
 * could be taken: for each burst of pairs as many SYNs as cost the same.
 */
static double flood_kept(struct speed *s, double alone_ns, double syn_ns)
{
	uint32_t syns = (uint32_t)(BURST_COUNT * alone_ns / syn_ns) + 1;
	uint32_t next = s->count;
	uint64_t flood_total = 0, all = 0, pairs = 0;

	for (uint32_t round = 0; round < 2000; round++) {
		uint32_t at = round * BURST_COUNT % s->count;
		struct mono from = mono_now(), between;

		if (at + BURST_COUNT > s->count)
			continue;
		for (uint32_t i = 0; i < syns; i++)
			input(s, next++ % (1u << 24), 2, i, 0);
		between = mono_now();
		turn(s, at, BURST_COUNT);
		flood_total += mono_diff(between, from);
		all += mono_diff(mono_now(), from);
		pairs += BURST_COUNT;
	}
	return 100 * alone_ns * (double)pairs / (double)(all - flood_total);
}

/* --- the kernel's --- */

static bool make_pair(int listener, const struct sockaddr_in *at, int out[2])
{
	const int one = 1;

	out[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (out[0] < 0 ||
		connect(out[0], (const struct sockaddr *)at, sizeof(*at)))
		return false;
	setsockopt(out[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	out[1] = accept(listener, NULL, NULL);
	return out[1] >= 0;
}

static double kernel_runs(int pairs[][2])
{
	uint8_t event[EVENT_BYTES] = {0};
	double runs[RUN_COUNT];

	for (int run = 0; run < RUN_COUNT; run++) {
		struct mono from = mono_now();
		uint64_t done = 0;

		for (int r = 0; r < 200; r++)
			for (int i = 0; i < KERNEL_PAIR_COUNT; i++)
				done += send(pairs[i][0], event, sizeof(event),
						MSG_NOSIGNAL) > 0 &&
					recv(pairs[i][1], event, sizeof(event),
						0) > 0;
		if (done == 0)
			return 0;
		runs[run] = (double)mono_diff(mono_now(), from) / (double)done;
	}
	return median(runs, RUN_COUNT);
}

/* 0 = there is no loopback. */
static double kernel_pair_ns(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(at);
	int pairs[KERNEL_PAIR_COUNT][2], made = 0;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	double ns = 0;

	if (listener >= 0 &&
		bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 &&
		listen(listener, KERNEL_PAIR_COUNT) == 0 &&
		getsockname(listener, (struct sockaddr *)&at, &length) == 0)
		while (made < KERNEL_PAIR_COUNT &&
			make_pair(listener, &at, pairs[made]))
			made++;
	if (made == KERNEL_PAIR_COUNT)
		ns = kernel_runs(pairs);
	for (int i = 0; i < made; i++) {
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
	if (listener >= 0)
		close(listener);
	return ns;
}

/* --- the figures --- */

static void add(struct speed *s, const struct report_row *row)
{
	report_add(&s->report, row);
	s->missed |= row->limit > 0 && row->value > row->limit;
}

static int measure(
	struct speed *s, uint32_t count, bool checksums, double *out_ns)
{
	int rc = begin(s, count, checksums);

	if (rc == 0)
		rc = open_all(s);
	if (rc == 0)
		*out_ns = pair_ns(s);
	return rc;
}

static int measure_all(struct speed *s, uint32_t count_max)
{
	static const struct {
		uint32_t count;
		const char *name;
	} sizes[] = {{64, "tcp.pair.c64"}, {1024, "tcp.pair.c1024"},
		{10048, "tcp.pair.c10k"}, {100032, "tcp.pair.c100k"}};
	double kernel = kernel_pair_ns(), ns = 0, first = 0, syn, kept;
	struct tcp_usage usage = {0};
	int rc;

	for (size_t i = 0; i < 4 && sizes[i].count <= count_max; i++) {
		rc = measure(s, sizes[i].count, true, &ns);
		if (rc)
			return rc;
		first = i == 0 ? ns : first;
		add(s, &(struct report_row){.name = sizes[i].name,
			       .value = ns,
			       .unit = "ns",
			       .limit = i ? 1.5 * first : 0,
			       .peer = kernel > 0 ? "kernel loopback" : NULL,
			       .peer_value = kernel,
			       .less_is_better = true});
		tcp_get_usage(s->tcp, &usage);
		end(s);
	}
	rc = measure(s, 1024, false, &ns);
	if (rc)
		return rc;
	add(s, &(struct report_row){.name = "tcp.pair.software-checksum",
		       .value = ns,
		       .unit = "ns",
		       .less_is_better = true});
	syn = cookie_ns(s);
	add(s, &(struct report_row){.name = "tcp.syn.cookie",
		       .value = syn,
		       .unit = "ns",
		       .less_is_better = true});
	kept = flood_kept(s, ns, syn);
	report_add(&s->report, &(struct report_row){.name = "tcp.flood.kept",
				       .value = kept,
				       .unit = "%",
				       .limit = 100,
				       .goal_share = 0.9});
	s->missed |= kept < 90;
	end(s);
	add(s, &(struct report_row){.name = "tcp.idle",
		       .value = (double)usage.idle_bytes,
		       .unit = "bytes",
		       .limit = 2048,
		       .less_is_better = true});
	return 0;
}

static void usage_text(FILE *out)
{
	fprintf(out,
		"usage: heddle-bench tcp [--json FILE] "
		"[--connections MAX]\n\n"
		"What an event of 220 bytes and its ACK cost our TCP, from "
		"64 connections to\nMAX (100032), beside the kernel's "
		"loopback.\n");
}

int tcp_speed_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", required_argument, NULL, 'j'},
		{"connections", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'}, {0}};
	static struct speed s = {.now = {NS_PER_S}};
	const char *json = NULL;
	uint32_t count_max = UINT32_MAX;
	int id, rc;

	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'j') {
			json = optarg;
		} else if (id == 'c') {
			count_max = (uint32_t)strtoul(optarg, NULL, 10);
		} else {
			usage_text(id == 'h' ? stdout : stderr);
			return id == 'h' ? 0 : 2;
		}
	}
	rc = measure_all(&s, count_max);
	report_print_table(&s.report, stdout);
	if (rc == 0 && json)
		rc = report_write_json(&s.report, json, &s.err);
	if (rc) {
		fprintf(stderr, "heddle-bench tcp: %s\n", s.err.text);
		return 2;
	}
	return s.missed ? 1 : 0;
}
