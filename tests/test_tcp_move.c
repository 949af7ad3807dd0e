/* test_tcp_move.c - live connections go from one stack to another */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pattern.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"
#include "tests/wire_peer.h"

#define IMAGE_BYTES (1 << 18)

static struct wire wire;
static struct tcp_case servers[2]; /* one of them is on the wire */
static struct peer_host host;
static uint8_t image[IMAGE_BYTES];
static uint32_t here; /* which one */
static uint32_t ended_at[CASE_STREAM_COUNT]; /* 2 = it lives */
static uint64_t move_count, next_move_ns;
/* The second stack's clock has another zero. */
static const uint64_t clock_ahead_ns[2] = {0, 987654321 * UINT64_C(1000)};

static struct mono clock_of(uint32_t server)
{
	return mono_add(wire.now, clock_ahead_ns[server]);
}

/* Everything that is open goes to the other stack. */
static void move_all(void)
{
	struct tcp_case *from = &servers[here], *to = &servers[!here];

	net_poll(to->net, clock_of(!here));
	for (uint32_t i = 0; i < from->stream_count; i++) {
		struct case_stream *s = &from->streams[i];
		size_t length = 0;

		if (s->open) {
			size_t bytes = tcp_export_bytes(from->tcp, s->id);

			CU_ASSERT_FATAL(bytes > 0 && bytes <= IMAGE_BYTES);
			CU_ASSERT_EQUAL(tcp_export(from->tcp, s->id, image,
						bytes - 1, &length),
				-ENOSPC);
			CU_ASSERT_EQUAL_FATAL(tcp_export(from->tcp, s->id,
						      image, bytes, &length),
				0);
			CU_ASSERT_EQUAL(length, bytes);
			CU_ASSERT_EQUAL_FATAL(
				tcp_import(to->tcp, image, length, &s->id), 0);
			CU_ASSERT_EQUAL(tcp_import(to->tcp, image, length,
						&(struct tcp_id){0}),
				-EEXIST);
			move_count++;
		}
		to->streams[i] = *s;
	}
	to->stream_count = from->stream_count;
	tcp_check(from->tcp);
	tcp_check(to->tcp);
	here = !here;
}

static void end_input(
	void *arg, const uint8_t *frame, size_t length, struct mono now)
{
	uint32_t at = here, port = 0;

	(void)arg;
	(void)now;
	/* What is over stays where it ended, with its TIME_WAIT. */
	if (length >= 38 && frame[12] == 8 && frame[13] == 0 &&
		frame[14] == 0x45)
		port = (uint32_t)frame[34] << 8 | frame[35];
	if (port >= 2000 && port < 2000 + CASE_STREAM_COUNT &&
		ended_at[port - 2000] < 2)
		at = ended_at[port - 2000];
	net_input(servers[at].net, frame, length, false, clock_of(at));
}

static void serve_here(void)
{
	struct tcp_case *c = &servers[here];

	case_serve(c);
	for (uint32_t i = 0; i < c->stream_count; i++)
		if (c->streams[i].closed_count && ended_at[i] == 2)
			ended_at[i] = here;
}

static void end_poll(void *arg, struct mono now)
{
	uint64_t *random = arg;
	struct tcp_case *c = &servers[here];
	struct tcp_news news;
	bool handshakes = false;

	net_poll(servers[!here].net, clock_of(!here));
	net_poll(c->net, clock_of(here));
	serve_here();
	net_poll(c->net, clock_of(here));
	/* Only what is open can go: half-open ones stay, so wait for them. */
	for (uint32_t i = 0; i < c->stream_count; i++)
		handshakes |= c->streams[i].opened_count == 0;
	if (now.ns < next_move_ns || handshakes)
		return;
	serve_here();
	move_all();
	CU_ASSERT_FALSE(tcp_next(servers[!here].tcp, &news));
	net_poll(servers[here].net, clock_of(here));
	next_move_ns = now.ns + suite_below(random, 20000) * NS_PER_US + 1;
}

static struct mono end_deadline(void *arg)
{
	uint64_t soonest = UINT64_MAX;

	(void)arg;
	for (uint32_t i = 0; i < 2; i++) {
		uint64_t ns = net_deadline(servers[i].net).ns;

		if (ns != UINT64_MAX && ns - clock_ahead_ns[i] < soonest)
			soonest = ns - clock_ahead_ns[i];
	}
	if (next_move_ns > wire.now.ns && next_move_ns < soonest)
		soonest = next_move_ns;
	return (struct mono){soonest};
}

static bool ended(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < servers[here].stream_count; i++)
		if (servers[here].streams[i].closed_count == 0)
			return false;
	return peers_ended(&host);
}

static bool add_stream(uint64_t *r, uint32_t i)
{
	struct peer_config p = {.sack = suite_below(r, 4) != 0,
		.timestamps = suite_below(r, 2),
		.scale = true,
		.mss = 1460,
		.receive_bytes = 60000,
		.send_window = 20000,
		.read_bytes_per_s = suite_below(r, 3) ? 0 : 100000,
		.ack_delay_ns = 20 * NS_PER_MS * suite_below(r, 2),
		.send_seed = suite_random(r),
		.receive_seed = suite_random(r),
		.send_total = suite_below(r, 100000),
		.give_up_ns = 300 * NS_PER_S,
		.port = (uint16_t)(2000 + i),
		.server_port = CASE_PORT};

	servers[0].streams[i] = (struct case_stream){.port = p.port,
		.send_seed = p.receive_seed,
		.receive_seed = p.send_seed,
		.send_total = suite_below(r, 100000),
		.ending = (enum case_ending)suite_below(r, 3),
		.piece_max = 3000,
		.lazy = suite_below(r, 3) == 0};
	p.close_last = servers[0].streams[i].ending != CASE_AFTER_PEER &&
		       suite_below(r, 2);
	servers[0].stream_count++;
	return peer_connect(&host, &p) != NULL;
}

static void run_moves(uint64_t seed)
{
	struct net_config config = case_config();
	uint64_t r = seed, random = seed + 1;

	wire_init(&wire, seed);
	for (int i = 0; i < 2; i++)
		wire.lines[i] = (struct wire_line){
			.loss = suite_below(&r, 2) * suite_below(&r, 50000),
			.reorder = suite_below(&r, 2) * 50000,
			.delay_ns = suite_below(&r, 10000) * NS_PER_US,
			.reorder_ns = 3 * NS_PER_MS};
	case_init(&servers[0], &wire, 0, &config);
	memcpy(config.secret, "another secret.", 16);
	case_init(&servers[1], &wire, 0, &config);
	servers[0].random = servers[1].random = seed;
	wire.ends[0] =
		(struct wire_end){&random, end_input, end_poll, end_deadline};
	peer_host_init(&host, &wire, 1);
	here = 0;
	next_move_ns = 0;
	for (uint32_t i = 0; i < CASE_STREAM_COUNT; i++)
		ended_at[i] = 2;
	for (uint32_t i = 0; i < 4; i++)
		add_stream(&r, i);
	CU_ASSERT_TRUE(wire_run(
		&wire, mono_add(wire.now, 3600 * NS_PER_S), ended, NULL));
	for (uint32_t i = 0; i < 4; i++) {
		const struct case_stream *s = &servers[here].streams[i];
		const struct wire_peer *p = &host.peers[i];

		CU_ASSERT_EQUAL(p->state, PEER_DONE);
		CU_ASSERT_FALSE(p->corrupt_bytes || s->wrong);
		CU_ASSERT_EQUAL(p->received, s->send_total);
		CU_ASSERT_TRUE(s->ending == CASE_FIRST ||
			       s->received == p->config.send_total);
		CU_ASSERT_EQUAL(s->end, TCP_END_CLEAN);
		CU_ASSERT_EQUAL(s->closed_count, 1);
	}
	for (uint32_t i = 0; i < 2; i++) {
		net_poll(servers[i].net, mono_add(clock_of(i), 120 * NS_PER_S));
		tcp_check(servers[i].tcp);
		CU_ASSERT_TRUE(case_is_empty(&servers[i]));
		case_release(&servers[i]);
	}
	wire_release(&wire);
}

static void test_move__mid_stream(void)
{
	move_count = 0;
	for (uint64_t seed = 1; seed <= 100; seed++)
		run_moves(seed);
	printf("%llu moves ", (unsigned long long)move_count);
	CU_ASSERT_TRUE(move_count >= 5000);
}

/* Open one connection with bytes both ways; its id. */
static struct tcp_id open_one(uint64_t seed)
{
	struct net_config config = case_config();
	uint64_t r = seed;

	wire_init(&wire, seed);
	wire.lines[0].delay_ns = wire.lines[1].delay_ns = 5 * NS_PER_MS;
	case_init(&servers[0], &wire, 0, &config);
	peer_host_init(&host, &wire, 1);
	add_stream(&r, 0);
	host.peers[0].config.send_total = 100000;
	servers[0].streams[0].lazy = true;
	servers[0].streams[0].send_total = 100000;
	wire_run(&wire, mono_add(wire.now, 60 * NS_PER_MS), NULL, NULL);
	CU_ASSERT_TRUE_FATAL(servers[0].streams[0].open);
	return servers[0].streams[0].id;
}

/* Whatever the image says, an import is refused or leaves sound state. */
static void test_import__changed_images(void)
{
	uint64_t random = suite_seed(5), taken = 0, refused = 0;
	static uint8_t copy[IMAGE_BYTES];
	struct tcp_id id = open_one(7), other;
	struct tcp *tcp = servers[0].tcp;
	struct tcp_news news;
	size_t length = 0;

	CU_ASSERT_EQUAL_FATAL(
		tcp_export(tcp, id, image, IMAGE_BYTES, &length), 0);
	for (int i = 0; i < 20000; i++) {
		size_t size = length;

		memcpy(copy, image, length);
		for (uint32_t k = suite_below(&random, 3) + 1; k > 0; k--)
			copy[suite_below(&random, 1100)] ^=
				(uint8_t)(1u << suite_below(&random, 8));
		if (suite_below(&random, 8) == 0)
			size = suite_below(&random, (uint32_t)length);
		if (tcp_import(tcp, copy, size, &other)) {
			refused++;
			continue;
		}
		taken++;
		net_poll(servers[0].net, wire.now);
		tcp_check(tcp);
		net_poll(servers[0].net, mono_add(wire.now, NS_PER_S));
		tcp_check(tcp);
		tcp_abort(tcp, other);
		while (tcp_next(tcp, &news))
			;
	}
	tcp_check(tcp);
	CU_ASSERT_TRUE(taken > 100 && refused > 100);
	CU_ASSERT_EQUAL(tcp_import(tcp, image, length - 1, &other), -EINVAL);
	CU_ASSERT_EQUAL(tcp_import(tcp, image, 0, &other), -EINVAL);
	case_release(&servers[0]);
	wire_release(&wire);
}

static void test_export__dead_ids(void)
{
	struct tcp_id id = open_one(9), wrong = id;
	size_t length;

	wrong.generation++;
	CU_ASSERT_EQUAL(
		tcp_export(servers[0].tcp, wrong, image, IMAGE_BYTES, &length),
		-ENOTCONN);
	CU_ASSERT_EQUAL(tcp_export_bytes(servers[0].tcp, wrong), 0);
	CU_ASSERT_EQUAL(
		tcp_export(servers[0].tcp, id, image, IMAGE_BYTES, &length), 0);
	/* It is silently gone. */
	CU_ASSERT_EQUAL(
		tcp_export(servers[0].tcp, id, image, IMAGE_BYTES, &length),
		-ENOTCONN);
	CU_ASSERT_EQUAL(tcp_close(servers[0].tcp, id), -ENOTCONN);
	CU_ASSERT_TRUE(case_is_empty(&servers[0]));
	case_release(&servers[0]);
	wire_release(&wire);
}

static const struct suite_case cases[] = {
	SUITE_CASE(move__mid_stream),
	SUITE_CASE(import__changed_images),
	SUITE_CASE(export__dead_ids),
};

int main(void)
{
	return SUITE_MAIN("tcp_move", cases);
}
