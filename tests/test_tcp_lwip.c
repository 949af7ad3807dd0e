/* test_tcp_lwip.c - our TCP and liblwip's over bad lines, in virtual time */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lwIP has neither SACK nor timestamps as Debian builds it, and clocks of
 * 250 ms: what NewReno and coarse timers do to us. It gives up after some
 * minutes of loss, so lines lose 10 % at most.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lwip_host.h"
#include "tests/pattern.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"

#define CLIENT_COUNT 3u
#define SEED_COUNT 300u

static struct wire wire;
static struct tcp_case server;

struct lwip_stream {
	int client;
	uint64_t send_seed, receive_seed, send_total;
	uint64_t sent, received;
	bool shut, ended, wrong;
	int error;
};

static struct lwip_stream streams[CLIENT_COUNT];
static uint32_t stream_count;

static void frame_out(void *arg, const uint8_t *frame, size_t length)
{
	wire_send(arg, 1, frame, length);
}

static void input(
	void *arg, const uint8_t *frame, size_t length, struct mono now)
{
	(void)arg;
	lwip_host_set_time(now.ns);
	lwip_host_input(frame, length);
}

static void drive(struct lwip_stream *s)
{
	uint8_t piece[4096];
	long got;

	if (s->error || lwip_client_state(s->client) == 0)
		return;
	while (s->sent < s->send_total) {
		uint64_t length = s->send_total - s->sent;

		if (length > sizeof(piece))
			length = sizeof(piece);
		pattern_fill(s->send_seed, s->sent, piece, (size_t)length);
		got = lwip_client_send(s->client, piece, (size_t)length);
		if (got <= 0)
			break;
		s->sent += (uint64_t)got;
	}
	if (s->sent == s->send_total && !s->shut) {
		s->shut = true;
		lwip_client_shutdown(s->client);
	}
	while ((got = lwip_client_receive(s->client, piece, sizeof(piece))) >
		0) {
		s->wrong |= !pattern_matches(
			s->receive_seed, s->received, piece, (size_t)got);
		s->received += (uint64_t)got;
	}
	if (got == 0)
		s->ended = true;
	else if (got != -EAGAIN)
		s->error = (int)got;
}

static void poll(void *arg, struct mono now)
{
	(void)arg;
	lwip_host_set_time(now.ns);
	lwip_host_poll();
	for (uint32_t i = 0; i < stream_count; i++)
		drive(&streams[i]);
}

static struct mono deadline(void *arg)
{
	uint32_t ms = lwip_host_sleep_ms();

	(void)arg;
	/* lwIP counts whole milliseconds. */
	return mono_add((struct mono){wire.now.ns / NS_PER_MS * NS_PER_MS},
		(uint64_t)(ms ? ms : 1) * NS_PER_MS);
}

static bool all_over(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < stream_count; i++)
		if ((!streams[i].ended && !streams[i].error) ||
			server.streams[i].open)
			return false;
	return true;
}

static bool is_empty(void *arg)
{
	(void)arg;
	return case_is_empty(&server);
}

static void add_stream(uint64_t *r, uint32_t i)
{
	struct lwip_stream *s = &streams[i];

	*s = (struct lwip_stream){.client = lwip_client_connect(CASE_PORT),
		.send_seed = suite_random(r),
		.receive_seed = suite_random(r),
		.send_total = suite_below(r, 60000)};
	CU_ASSERT_FATAL(s->client >= 0);
	server.streams[i] = (struct case_stream){
		.port = lwip_client_port(s->client),
		.send_seed = s->receive_seed,
		.receive_seed = s->send_seed,
		.send_total = suite_below(r, 60000),
		.ending = suite_below(r, 2) ? CASE_AFTER_PEER : CASE_HALF,
		.piece_max = suite_below(r, 2) ? 400 : 8192,
		.lazy = suite_below(r, 4) == 0};
	server.stream_count = stream_count = i + 1;
}

/* Streams that were whole at both ends. */
static uint32_t judge(uint64_t seed)
{
	uint32_t whole = 0;

	for (uint32_t i = 0; i < stream_count; i++) {
		const struct lwip_stream *s = &streams[i];
		const struct case_stream *c = &server.streams[i];

		CU_ASSERT_FALSE(s->wrong || c->wrong);
		CU_ASSERT_TRUE(s->received <= c->send_total);
		CU_ASSERT_TRUE(!s->ended || s->received == c->send_total);
		CU_ASSERT_TRUE(c->opened_count == c->closed_count);
		if (s->wrong || c->wrong || c->opened_count != c->closed_count)
			printf("seed %llu ", (unsigned long long)seed);
		whole += s->ended && c->received == s->send_total &&
			 c->end == TCP_END_CLEAN;
	}
	return whole;
}

static uint32_t run_seed(uint64_t seed, uint64_t *now_ns)
{
	struct net_config config = case_config();
	uint64_t r = seed;
	uint32_t whole;

	wire_init(&wire, seed);
	/* lwIP's clock goes on from where the last seed left it. */
	wire.now.ns = *now_ns;
	for (int i = 0; i < 2; i++) {
		wire.lines[i] = wire_line_random(&r);
		wire.lines[i].loss /= 2;
		wire.lines[i].corrupt /= 2;
	}
	config.tcp.user_timeout_ns = 120 * NS_PER_S;
	config.tcp.keep_alive_ns = 60 * NS_PER_S;
	config.tcp.keep_alive_interval_ns = 10 * NS_PER_S;
	case_init(&server, &wire, 0, &config);
	server.random = seed;
	wire.ends[1] = (struct wire_end){NULL, input, poll, deadline};
	stream_count = 0;
	CU_ASSERT_FATAL(lwip_host_start(frame_out, &wire));
	lwip_host_set_time(wire.now.ns);
	for (uint32_t i = 0; i < CLIENT_COUNT; i++)
		add_stream(&r, i);
	CU_ASSERT_TRUE(wire_run(
		&wire, mono_add(wire.now, 3600 * NS_PER_S), all_over, NULL));
	whole = judge(seed);
	stream_count = 0;
	lwip_host_clear();
	CU_ASSERT_TRUE(wire_run(
		&wire, mono_add(wire.now, 600 * NS_PER_S), is_empty, NULL));
	tcp_check(server.tcp);
	*now_ns = wire.now.ns;
	case_release(&server);
	wire_release(&wire);
	return whole;
}

static void test_lwip__over_bad_lines(void)
{
	uint64_t now_ns = NS_PER_S;
	uint32_t whole = 0;

	for (uint64_t seed = 1; seed <= SEED_COUNT; seed++)
		whole += run_seed(seed, &now_ns);
	printf("%u of %u streams whole ", whole, SEED_COUNT * CLIENT_COUNT);
	CU_ASSERT_TRUE(whole * 100 >= SEED_COUNT * CLIENT_COUNT * 95);
}

static const struct suite_case cases[] = {
	SUITE_CASE(lwip__over_bad_lines),
};

int main(void)
{
	if (!lwip_host_start(frame_out, &wire)) {
		printf("no liblwip.so.0 here\n");
		return 77;
	}
	return SUITE_MAIN("tcp_lwip", cases);
}
