/* test_stream.c - the promises of stream.h, of whatever back end is linked */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/stream_case.h"
#include "tests/suite.h"

/* --- bytes both ways --- */

struct talker {
	int fd;
	uint64_t seed;
	size_t total, sent, received;
};

/* A random piece out, whatever came in; false on a fault. */
static bool talk(struct talker *t, uint64_t *random)
{
	static const uint32_t sizes[] = {1, 7, 300, 5000, 70000};
	uint8_t piece[70000];
	size_t length = suite_below(random, sizes[suite_below(random, 5)]) + 1;
	long got;

	if (length > t->total - t->sent)
		length = t->total - t->sent;
	if (length > 0) {
		pattern_fill(t->seed, t->sent, piece, length);
		got = client_try_send(t->fd, piece, length);
		if (got < 0 && got != -EAGAIN)
			return false;
		t->sent += got > 0 ? (size_t)got : 0;
	}
	got = client_try_receive(
		t->fd, piece, suite_below(random, sizeof(piece)) + 1);
	if (got == -EAGAIN)
		return true;
	if (got <= 0 ||
		!pattern_matches(t->seed, t->received, piece, (size_t)got))
		return false;
	t->received += (size_t)got;
	return true;
}

static void test_echo__random_sizes_and_splits(void)
{
	uint64_t random = suite_seed(20260), fine = 0;
	struct stream_limits limits = case_limits();
	struct talker talkers[12];
	struct stream_case c;

	/* Small bounds, so that both directions stand still at times. */
	limits.send_bytes = 20000;
	limits.receive_bytes = 3000;
	case_begin(&c, &limits, case_echo);
	for (size_t i = 0; i < 12; i++)
		talkers[i] = (struct talker){client_connect(&c), random + i,
			suite_below(&random, 400000) + 1, 0, 0};
	for (int turn = 0; turn < 200000 && fine < 12; turn++) {
		fine = 0;
		for (size_t i = 0; i < 12; i++) {
			CU_ASSERT_FATAL(talk(&talkers[i], &random));
			fine += talkers[i].received == talkers[i].total;
		}
		c.loop.ops->poll(&c.loop, mono_now());
	}
	CU_ASSERT_EQUAL(fine, 12);
	for (size_t i = 0; i < 12; i++)
		close(talkers[i].fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 12));
	for (size_t i = 0; i < limits.stream_count; i++)
		CU_ASSERT(c.records[i].opened_count == 0 ||
			  c.records[i].end == STREAM_END_CLEAN);
	case_end(&c);
}

static void test_opened__names_the_peer(void)
{
	struct stream_limits limits = case_limits();
	struct sockaddr_in own = {0};
	socklen_t length = sizeof(own);
	const struct stream_record *record;
	struct stream_case c;
	int fd;

	case_begin(&c, &limits, case_swallow);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	getsockname(fd, (struct sockaddr *)&own, &length);
	record = case_record(&c, c.last_opened);
	CU_ASSERT_EQUAL(record->peer.port, ntohs(own.sin_port));
	CU_ASSERT_EQUAL(memcmp(record->peer.address,
				"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12),
		0);
	CU_ASSERT_EQUAL(memcmp(record->peer.address + 12, &own.sin_addr, 4), 0);
	CU_ASSERT_EQUAL(record->listener, 0);
	close(fd);
	case_end(&c);
}

static void raise_descriptor_limit(rlim_t wanted)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < wanted && limit.rlim_max >= wanted)
		limit.rlim_cur = wanted;
	setrlimit(RLIMIT_NOFILE, &limit);
	CU_ASSERT_FATAL(limit.rlim_cur >= wanted);
}

static void test_streams__a_thousand(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	uint8_t piece[100];
	int fds[1000];

	raise_descriptor_limit(2100);
	limits.stream_count = 1000;
	limits.total_bytes = 64 << 20;
	case_begin(&c, &limits, case_echo);
	for (uint32_t i = 0; i < 1000; i++)
		fds[i] = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1000));
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 1000; i++) {
			pattern_fill(i, 0, piece, sizeof(piece));
			CU_ASSERT_TRUE(
				client_send(fds[i], piece, sizeof(piece)));
		}
		for (uint32_t i = 0; i < 1000; i++) {
			CU_ASSERT_TRUE(client_receive(
				&c, fds[i], piece, sizeof(piece)));
			CU_ASSERT_TRUE(
				pattern_matches(i, 0, piece, sizeof(piece)));
		}
	}
	for (uint32_t i = 0; i < 1000; i++)
		close(fds[i]);
	CU_ASSERT_TRUE(case_run_closed(&c, 1000));
	for (uint32_t i = 0; i < 1000; i++)
		CU_ASSERT_EQUAL(c.records[i].closed_count, 1);
	case_end(&c);
}

static void test_accept__stops_at_the_bound(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fds[6];

	limits.stream_count = 4;
	case_begin(&c, &limits, case_echo);
	for (int i = 0; i < 6; i++)
		fds[i] = client_connect(&c);
	CU_ASSERT_TRUE(case_run_opened(&c, 4));
	case_settle(&c);
	CU_ASSERT_EQUAL(c.opened_count, 4);
	close(fds[0]);
	CU_ASSERT_TRUE(case_run_opened(&c, 5));
	case_settle(&c);
	CU_ASSERT_EQUAL(c.opened_count, 5);
	for (int i = 1; i < 6; i++)
		close(fds[i]);
	CU_ASSERT_TRUE(case_run_closed(&c, 6));
	case_end(&c);
}

static void test_accept__a_busy_listener_leaves_room_for_a_quiet_one(void)
{
	struct stream_setup setup = {
		.limits = case_limits(), .listener_count = 2};
	struct stream_case c;
	int fds[8], last;

	setup.limits.stream_count = 4;
	case_begin_setup(&c, &setup, case_echo);
	for (int i = 0; i < 8; i++)
		fds[i] = client_connect_to(c.ports[0], 0);
	CU_ASSERT_TRUE(case_run_opened(&c, 3));
	case_settle(&c);
	CU_ASSERT_EQUAL(c.opened_count, 3);
	last = client_connect_to(c.ports[1], 0);
	CU_ASSERT_TRUE(case_run_opened(&c, 4));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->listener, 1);
	for (int i = 0; i < 8; i++)
		close(fds[i]);
	close(last);
	CU_ASSERT_TRUE(case_run_closed(&c, 9));
	case_end(&c);
}

/* --- sending --- */

static void test_send__a_slow_reader_is_bounded(void)
{
	struct stream_limits limits = case_limits();
	const struct stream_record *record;
	struct stream_case c;
	struct stream_id id;
	size_t sent;
	int fd;

	limits.send_bytes = 10000;
	case_begin(&c, &limits, case_swallow);
	fd = client_connect_to(c.ports[0], 4096);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	id = c.last_opened;
	record = case_record(&c, id);
	CU_ASSERT_EQUAL(case_room(&c, id), 10000);
	sent = case_fill(&c, id, 5, 700);
	CU_ASSERT_EQUAL(c.loop.ops->want(&c.loop, id, 10000), 0);
	CU_ASSERT_EQUAL(c.loop.ops->want(&c.loop, id, 10001), -EMSGSIZE);
	case_settle(&c);
	CU_ASSERT_EQUAL(record->writable_count, 0);
	CU_ASSERT_TRUE(client_receive_pattern(&c, fd, 5, sent));
	case_settle(&c);
	CU_ASSERT_EQUAL(record->writable_count, 1);
	CU_ASSERT_EQUAL(case_room(&c, id), 10000);
	close(fd);
	case_end(&c);
}

static void test_send__takes_all_or_nothing(void)
{
	struct stream_limits limits = case_limits();
	static uint8_t data[65537];
	struct stream_segment two[2] = {
		{data, 40000, false}, {data + 40000, 25536, false}};
	struct stream_case c;
	struct stream_id id;
	int fd;

	pattern_fill(8, 0, data, sizeof(data));
	case_begin(&c, &limits, case_swallow);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	id = c.last_opened;
	CU_ASSERT_EQUAL(case_send(&c, id, data, 65537), -EMSGSIZE);
	two[1].length = SIZE_MAX - 100;
	CU_ASSERT_EQUAL(c.loop.ops->send(&c.loop, id, two, 2), -EMSGSIZE);
	two[1].length = 25536;
	CU_ASSERT_EQUAL(c.loop.ops->send(&c.loop, id, two, 2), 0);
	CU_ASSERT_EQUAL(case_room(&c, id), 0);
	CU_ASSERT_EQUAL(case_send(&c, id, data, 1), -EAGAIN);
	CU_ASSERT_EQUAL(case_send(&c, id, data, 0), 0);
	CU_ASSERT_TRUE(client_receive_pattern(&c, fd, 8, 65536));
	case_settle(&c);
	CU_ASSERT_EQUAL(case_room(&c, id), 65536);
	CU_ASSERT_EQUAL(client_try_receive(fd, data, 1), -EAGAIN);
	close(fd);
	case_end(&c);
}

/* Constant and other segments of random sizes keep their order. */
static void test_send__constant_segments_in_order(void)
{
	uint64_t random = suite_seed(77);
	struct stream_limits limits = case_limits();
	static uint8_t data[60000];
	struct stream_case c;
	int fd;

	pattern_fill(9, 0, data, sizeof(data));
	case_begin(&c, &limits, case_swallow);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	for (int round = 0; round < 50; round++) {
		struct stream_segment segments[12];
		size_t at = 0;

		for (uint32_t i = 0; i < 12; i++) {
			size_t left = sizeof(data) - at;
			size_t length = suite_below(&random, 10000);

			segments[i].data = data + at;
			segments[i].length = length < left ? length : left;
			segments[i].constant = suite_below(&random, 2);
			at += segments[i].length;
		}
		CU_ASSERT_EQUAL(
			c.loop.ops->send(&c.loop, c.last_opened, segments, 12),
			0);
		CU_ASSERT_TRUE(client_receive_pattern(&c, fd, 9, at));
		case_settle(&c);
	}
	close(fd);
	case_end(&c);
}

/*
 * Streams share the bytes of all: when they are used up nobody's record is
 * cut, and room comes back to those who wait for it.
 */
static void test_send__the_pool_is_bounded(void)
{
	struct stream_limits limits = case_limits();
	struct stream_id ids[16];
	struct stream_case c;
	size_t sent[16];
	int fds[16], last = -1;

	limits.total_bytes = 300000;
	case_begin(&c, &limits, case_swallow);
	for (uint32_t i = 0; i < 16; i++) {
		fds[i] = client_connect_to(c.ports[0], 4096);
		CU_ASSERT_TRUE_FATAL(case_run_opened(&c, i + 1));
		ids[i] = c.last_opened;
		sent[i] = case_fill(&c, ids[i], i, 1000);
		if (case_room(&c, ids[i]) < 1000 && sent[i] < 2000)
			last = (int)i;
	}
	/* Some stream came too late to have any. */
	CU_ASSERT_FATAL(last > 0);
	CU_ASSERT_EQUAL(c.loop.ops->want(&c.loop, ids[last], 60000), 0);
	case_settle(&c);
	CU_ASSERT_EQUAL(case_record(&c, ids[last])->writable_count, 0);
	for (uint32_t i = 0; i < 16; i++)
		CU_ASSERT_TRUE(client_receive_pattern(&c, fds[i], i, sent[i]));
	case_settle(&c);
	CU_ASSERT_EQUAL(case_record(&c, ids[last])->writable_count, 1);
	CU_ASSERT_EQUAL(case_room(&c, ids[last]), limits.send_bytes);
	for (uint32_t i = 0; i < 16; i++)
		close(fds[i]);
	case_end(&c);
}

/* --- receiving --- */

static void test_data__unconsumed_stops_the_peer(void)
{
	struct stream_limits limits = case_limits();
	const struct stream_record *record;
	struct stream_case c;
	uint8_t piece[8192];
	size_t sent = 0;
	int fd, quiet = 0;

	case_begin(&c, &limits, case_refuse);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	record = case_record(&c, c.last_opened);
	while (quiet < 20) {
		long got;

		pattern_fill(3, sent, piece, sizeof(piece));
		got = client_try_send(fd, piece, sizeof(piece));
		sent += got > 0 ? (size_t)got : 0;
		quiet = got > 0 ? 0 : quiet + 1;
		case_turn(&c);
		/* A loop without back-pressure would take this for ever. */
		CU_ASSERT_FATAL(sent < (1u << 30));
	}
	CU_ASSERT_EQUAL(record->data_count, 1);
	CU_ASSERT_EQUAL(c.loop.ops->resume(&c.loop, c.last_opened), 0);
	case_settle(&c);
	CU_ASSERT_EQUAL(record->data_count, 2);
	c.handler = case_swallow;
	CU_ASSERT_EQUAL(c.loop.ops->resume(&c.loop, c.last_opened), 0);
	case_settle(&c);
	CU_ASSERT_EQUAL(record->received_bytes, sent);
	close(fd);
	case_end(&c);
}

/* Consumes whole groups of 1000 bytes, and checks them. */
static size_t take_groups(struct stream_case *c,
	const struct stream_event *event, struct stream_record *record)
{
	size_t groups = event->length / 1000 * 1000;

	(void)c;
	if (event->kind != STREAM_DATA)
		return 0;
	CU_ASSERT_TRUE(pattern_matches(
		4, record->received_bytes, event->data, event->length));
	return groups;
}

/*
 * Each piece fills at least one group, so that something is always consumed;
 * what is left of it comes again, at the front of the next.
 */
static void test_data__the_rest_comes_with_what_follows(void)
{
	uint64_t random = suite_seed(31), sent = 0;
	struct stream_limits limits = case_limits();
	const struct stream_record *record;
	struct stream_case c;
	uint8_t piece[1049];
	int fd;

	limits.receive_bytes = 2048;
	case_begin(&c, &limits, take_groups);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	record = case_record(&c, c.last_opened);
	for (int i = 0; i < 200; i++) {
		size_t length = 1000 + suite_below(&random, 50);

		pattern_fill(4, sent, piece, length);
		CU_ASSERT_TRUE(client_send(fd, piece, length));
		sent += length;
		case_settle(&c);
		CU_ASSERT_EQUAL(record->received_bytes, sent / 1000 * 1000);
	}
	close(fd);
	case_end(&c);
}

/* Says so often "again" as bytes remain; one byte each time. */
static size_t take_one(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record)
{
	if (event->kind != STREAM_DATA)
		return 0;
	CU_ASSERT_EQUAL(
		event->data[0], pattern_byte(6, record->received_bytes));
	c->loop.ops->resume(&c->loop, event->id);
	return 1;
}

static bool has_received(const struct stream_case *c, const void *arg)
{
	return case_record(c, c->last_opened)->received_bytes >=
	       *(const uint64_t *)arg;
}

static void test_resume__delivers_what_is_left(void)
{
	struct stream_limits limits = case_limits();
	uint64_t total = 3000;
	struct stream_case c;
	uint8_t data[3000];
	int fd;

	limits.receive_bytes = 500;
	pattern_fill(6, 0, data, sizeof(data));
	case_begin(&c, &limits, take_one);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	CU_ASSERT_TRUE(client_send(fd, data, sizeof(data)));
	CU_ASSERT_TRUE(case_run_until(&c, has_received, &total));
	/* Nothing is left: nothing is delivered. */
	c.loop.ops->resume(&c.loop, c.last_opened);
	case_settle(&c);
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->received_bytes, total);
	close(fd);
	case_end(&c);
}

/* One byte of the first, then all. */
static size_t take_one_then_all(struct stream_case *c,
	const struct stream_event *event, struct stream_record *record)
{
	(void)c;
	if (event->kind != STREAM_DATA)
		return 0;
	CU_ASSERT_TRUE(pattern_matches(
		7, record->received_bytes, event->data, event->length));
	return record->received_bytes == 0 ? 1 : event->length;
}

/* What is left is taken while the back end waits for what follows it. */
static void test_resume__while_more_is_awaited(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	uint64_t total = 1;
	uint8_t data[500];
	int fd;

	pattern_fill(7, 0, data, sizeof(data));
	case_begin(&c, &limits, take_one_then_all);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	CU_ASSERT_TRUE(client_send(fd, data, 100));
	CU_ASSERT_TRUE(case_run_until(&c, has_received, &total));
	case_settle(&c);
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->received_bytes, 1);
	CU_ASSERT_EQUAL(c.loop.ops->resume(&c.loop, c.last_opened), 0);
	total = 100;
	CU_ASSERT_TRUE(case_run_until(&c, has_received, &total));
	for (size_t at = 100; at < sizeof(data); at += 100) {
		CU_ASSERT_TRUE(client_send(fd, data + at, 100));
		total += 100;
		CU_ASSERT_TRUE(case_run_until(&c, has_received, &total));
	}
	close(fd);
	case_end(&c);
}

/* Many streams that hold bytes back leave buffers for those that do not. */
static void test_data__stalled_streams_are_bounded(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	uint8_t piece[30000] = {0};
	uint64_t total = sizeof(piece);
	int fds[8];

	limits.total_bytes = 1 << 20; /* 16 buffers of 16 KiB */
	case_begin(&c, &limits, case_refuse);
	for (uint32_t i = 0; i < 8; i++) {
		fds[i] = client_connect(&c);
		CU_ASSERT_TRUE_FATAL(case_run_opened(&c, i + 1));
		CU_ASSERT_TRUE(client_send(fds[i], piece, sizeof(piece)));
		case_settle(&c);
	}
	c.handler = case_swallow;
	fds[0] = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 9));
	CU_ASSERT_TRUE(client_send(fds[0], piece, sizeof(piece)));
	CU_ASSERT_TRUE(case_run_until(&c, has_received, &total));
	for (uint32_t i = 0; i < 8; i++)
		close(fds[i]);
	case_end(&c);
}

/* When all buffers are held, the others wait for one and get it. */
static void test_data__waits_for_a_buffer(void)
{
	struct stream_limits limits = case_limits();
	struct stream_id ids[4];
	struct stream_case c;
	uint8_t piece[5000] = {0};
	uint64_t total = sizeof(piece);
	int fds[4];

	limits.total_bytes = 2 * 16384 + 20 * 4096; /* two buffers */
	case_begin(&c, &limits, case_refuse);
	for (uint32_t i = 0; i < 4; i++) {
		fds[i] = client_connect(&c);
		CU_ASSERT_TRUE_FATAL(case_run_opened(&c, i + 1));
		ids[i] = c.last_opened;
		CU_ASSERT_TRUE(client_send(fds[i], piece, sizeof(piece)));
		case_settle(&c);
	}
	CU_ASSERT_EQUAL(case_record(&c, ids[1])->data_count, 1);
	CU_ASSERT_EQUAL(case_record(&c, ids[3])->data_count, 0);
	c.handler = case_swallow;
	CU_ASSERT_EQUAL(c.loop.ops->resume(&c.loop, ids[0]), 0);
	CU_ASSERT_TRUE(case_run_until(&c, has_received, &total));
	for (uint32_t i = 0; i < 4; i++)
		close(fds[i]);
	case_end(&c);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(echo__random_sizes_and_splits),
		SUITE_CASE(opened__names_the_peer),
		SUITE_CASE(streams__a_thousand),
		SUITE_CASE(accept__stops_at_the_bound),
		SUITE_CASE(accept__a_busy_listener_leaves_room_for_a_quiet_one),
		SUITE_CASE(send__a_slow_reader_is_bounded),
		SUITE_CASE(send__takes_all_or_nothing),
		SUITE_CASE(send__constant_segments_in_order),
		SUITE_CASE(send__the_pool_is_bounded),
		SUITE_CASE(data__unconsumed_stops_the_peer),
		SUITE_CASE(data__the_rest_comes_with_what_follows),
		SUITE_CASE(resume__delivers_what_is_left),
		SUITE_CASE(resume__while_more_is_awaited),
		SUITE_CASE(data__stalled_streams_are_bounded),
		SUITE_CASE(data__waits_for_a_buffer),
	};

	return SUITE_MAIN("stream", cases);
}
