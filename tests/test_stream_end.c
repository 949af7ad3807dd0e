/* test_stream_end.c - ends of streams and of loops, by the promises of stream.h */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fake/fake_os.h"
#include "tests/stream_case.h"
#include "tests/suite.h"

static bool has_peer_done(const struct stream_case *c, const void *arg)
{
	(void)arg;
	return case_record(c, c->last_opened)->peer_done_count > 0;
}

static void test_peer_done__sending_goes_on(void)
{
	struct stream_limits limits = case_limits();
	static uint8_t data[60000];
	struct stream_case c;
	int fd;

	pattern_fill(11, 0, data, sizeof(data));
	case_begin(&c, &limits, case_swallow);
	fd = client_connect(&c);
	CU_ASSERT_TRUE(client_send(fd, "bye", 3));
	CU_ASSERT_EQUAL(shutdown(fd, SHUT_WR), 0);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	CU_ASSERT_TRUE(case_run_until(&c, has_peer_done, NULL));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->received_bytes, 3);
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, data, sizeof(data)), 0);
	CU_ASSERT_TRUE(client_receive_pattern(&c, fd, 11, sizeof(data)));
	case_settle(&c);
	CU_ASSERT_EQUAL(c.closed_count, 0);
	CU_ASSERT_EQUAL(c.loop.ops->close(&c.loop, c.last_opened), 0);
	CU_ASSERT_EQUAL(client_receive_end(&c, fd), 0);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_CLEAN);
	close(fd);
	case_end(&c);
}

/* A peer that is gone looks like one that has ended, until it is sent to. */
static void test_peer_done__a_peer_that_is_gone(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd;

	case_begin(&c, &limits, case_swallow);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	close(fd);
	CU_ASSERT_TRUE(case_run_until(&c, has_peer_done, NULL));
	case_settle(&c);
	CU_ASSERT_EQUAL(c.closed_count, 0);
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, "news", 4), 0);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_RESET);
	case_end(&c);
}

static void test_closed__reset_by_the_peer(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd;

	case_begin(&c, &limits, case_swallow);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	client_reset(fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_RESET);
	case_end(&c);
}

static void test_closed__reset_while_sending(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd;

	case_begin(&c, &limits, case_swallow);
	fd = client_connect_to(c.ports[0], 4096);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	case_fill(&c, c.last_opened, 1, 5000);
	client_reset(fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_RESET);
	case_settle(&c);
	CU_ASSERT_EQUAL(c.closed_count, 1);
	case_end(&c);
}

static void test_close__flushes(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	struct stream_id id;
	size_t sent;
	int fd;

	case_begin(&c, &limits, case_swallow);
	fd = client_connect_to(c.ports[0], 4096);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	id = c.last_opened;
	sent = case_fill(&c, id, 12, 3000);
	CU_ASSERT_EQUAL(c.loop.ops->close(&c.loop, id), 0);
	CU_ASSERT_EQUAL(case_send(&c, id, "x", 1), -ENOTCONN);
	CU_ASSERT_EQUAL(case_room(&c, id), 0);
	CU_ASSERT_EQUAL(c.loop.ops->want(&c.loop, id, 1), -ENOTCONN);
	case_settle(&c);
	CU_ASSERT_EQUAL(c.closed_count, 0);
	CU_ASSERT_TRUE(client_receive_pattern(&c, fd, 12, sent));
	CU_ASSERT_EQUAL(client_receive_end(&c, fd), 0);
	close(fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, id)->end, STREAM_END_CLEAN);
	case_end(&c);
}

/* Answers the first bytes and closes: what was not read must not reset. */
static size_t answer_and_close(struct stream_case *c,
	const struct stream_event *event, struct stream_record *record)
{
	(void)record;
	if (event->kind != STREAM_DATA)
		return 0;
	CU_ASSERT_EQUAL(case_send(c, event->id, "too large", 9), 0);
	CU_ASSERT_EQUAL(c->loop.ops->close(&c->loop, event->id), 0);
	return 0;
}

static void test_close__unread_bytes_do_not_destroy_the_answer(void)
{
	struct stream_limits limits = case_limits();
	static uint8_t body[1 << 20];
	struct stream_case c;
	size_t sent = 0;
	char answer[9];
	int fd;

	case_begin(&c, &limits, answer_and_close);
	fd = client_connect(&c);
	while (sent < sizeof(body)) {
		long got =
			client_try_send(fd, body + sent, sizeof(body) - sent);

		CU_ASSERT_FATAL(got > 0 || got == -EAGAIN);
		sent += got > 0 ? (size_t)got : 0;
		case_turn(&c);
	}
	CU_ASSERT_TRUE(client_receive(&c, fd, answer, sizeof(answer)));
	CU_ASSERT_EQUAL(memcmp(answer, "too large", 9), 0);
	CU_ASSERT_EQUAL(client_receive_end(&c, fd), 0);
	close(fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	case_end(&c);
}

/* A peer that never ends its side does not keep a closed stream for ever. */
static void test_close__a_lingering_peer_is_bounded(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd;

	case_begin(&c, &limits, case_swallow);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	CU_ASSERT_EQUAL(c.loop.ops->close(&c.loop, c.last_opened), 0);
	CU_ASSERT_EQUAL(c.loop.ops->close(&c.loop, c.last_opened), 0);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_CLEAN);
	close(fd);
	case_end(&c);
}

static void test_abort__resets_the_peer(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd;

	case_begin(&c, &limits, case_swallow);
	fd = client_connect_to(c.ports[0], 4096);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	case_fill(&c, c.last_opened, 1, 5000);
	CU_ASSERT_EQUAL(c.loop.ops->close(&c.loop, c.last_opened), 0);
	CU_ASSERT_EQUAL(c.loop.ops->abort(&c.loop, c.last_opened), 0);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_RESET);
	CU_ASSERT_EQUAL(client_receive_end(&c, fd), -ECONNRESET);
	close(fd);
	case_end(&c);
}

/* Ends its stream from within each kind of event. */
static size_t abort_in_handler(struct stream_case *c,
	const struct stream_event *event, struct stream_record *record)
{
	(void)record;
	if (event->kind == *(const enum stream_event_kind *)c->note)
		c->loop.ops->abort(&c->loop, event->id);
	if (event->kind == STREAM_OPENED)
		c->loop.ops->want(&c->loop, event->id, 1);
	return event->kind == STREAM_DATA ? event->length : 0;
}

static void test_abort__from_within_any_event(void)
{
	static const enum stream_event_kind kinds[] = {STREAM_OPENED,
		STREAM_DATA, STREAM_WRITABLE, STREAM_PEER_DONE, STREAM_CLOSED};
	struct stream_limits limits = case_limits();
	struct stream_case c;

	case_begin(&c, &limits, abort_in_handler);
	for (uint32_t i = 0; i < 5; i++) {
		int fd = client_connect(&c);

		c.note = (void *)(uintptr_t)&kinds[i];
		/* These fail where the stream is gone already. */
		(void)client_send(fd, "x", 1);
		(void)shutdown(fd, SHUT_WR);
		if (kinds[i] == STREAM_CLOSED) {
			CU_ASSERT_TRUE(case_run_opened(&c, i + 1));
			case_settle(&c);
			c.loop.ops->close(&c.loop, c.last_opened);
		}
		CU_ASSERT_TRUE(case_run_closed(&c, i + 1));
		close(fd);
	}
	case_settle(&c);
	CU_ASSERT_EQUAL(c.closed_count, 5);
	case_end(&c);
}

static void test_ids__stale_ones_name_nothing(void)
{
	struct stream_limits limits = case_limits();
	const struct stream_ops *ops;
	struct stream_id old, zero = {0, 0}, wild = {5000, 1};
	struct stream_case c;
	char byte = 0;
	int fd;

	limits.stream_count = 1; /* so that the index is used again */
	case_begin(&c, &limits, case_swallow);
	ops = c.loop.ops;
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	old = c.last_opened;
	client_reset(fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_send(&c, old, "x", 1), -ENOTCONN);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 2));
	CU_ASSERT_EQUAL(c.last_opened.index, old.index);
	CU_ASSERT_EQUAL(case_send(&c, old, "x", 1), -ENOTCONN);
	CU_ASSERT_EQUAL(case_send(&c, zero, "x", 1), -ENOTCONN);
	CU_ASSERT_EQUAL(case_send(&c, wild, "x", 1), -ENOTCONN);
	CU_ASSERT_EQUAL(case_room(&c, old), 0);
	CU_ASSERT_EQUAL(ops->want(&c.loop, old, 1), -ENOTCONN);
	CU_ASSERT_EQUAL(ops->resume(&c.loop, old), -ENOTCONN);
	CU_ASSERT_EQUAL(ops->close(&c.loop, old), -ENOTCONN);
	CU_ASSERT_EQUAL(ops->abort(&c.loop, old), -ENOTCONN);
	case_settle(&c);
	CU_ASSERT_EQUAL(c.closed_count, 1);
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, "y", 1), 0);
	CU_ASSERT_TRUE(client_receive(&c, fd, &byte, 1));
	CU_ASSERT_EQUAL(byte, 'y');
	close(fd);
	case_end(&c);
}

/* Bytes wait that the peer does not take: the kernel's probes find out. */
static void test_closed__user_timeout(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd;

	limits.user_timeout_ns = 100 * NS_PER_MS;
	case_begin(&c, &limits, case_swallow);
	fd = client_connect_to(c.ports[0], 4096);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	while (c.closed_count == 0 &&
		case_send(&c, c.last_opened, &limits, sizeof(limits)) == 0)
		c.loop.ops->poll(&c.loop, mono_now());
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(
		case_record(&c, c.last_opened)->end, STREAM_END_TIMEOUT);
	close(fd);
	case_end(&c);
}

/* --- the loop --- */

static void test_drain__open_streams_go_on(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	char answer[4];
	int fd;

	case_begin(&c, &limits, case_echo);
	fd = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	c.loop.ops->drain(&c.loop);
	case_settle(&c);
	CU_ASSERT_EQUAL(client_connect_to(c.ports[0], 0), -ECONNREFUSED);
	CU_ASSERT_TRUE(client_send(fd, "ping", 4));
	CU_ASSERT_TRUE(client_receive(&c, fd, answer, 4));
	CU_ASSERT_EQUAL(memcmp(answer, "ping", 4), 0);
	c.loop.ops->drain(&c.loop);
	case_settle(&c);
	close(fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	case_end(&c);
}

static void test_drain__before_the_first_turn(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;

	case_begin(&c, &limits, case_echo);
	c.loop.ops->drain(&c.loop);
	case_settle(&c);
	CU_ASSERT_EQUAL(client_connect_to(c.ports[0], 0), -ECONNREFUSED);
	case_end(&c);
}

struct waker {
	struct stream_loop *loop;
	_Atomic uint32_t waits, wakes;
	_Atomic bool stop;
};

/* Each time that the loop is about to wait once more: wake it. */
static void *keep_waking(void *arg)
{
	struct waker *waker = arg;

	while (!waker->stop) {
		if (waker->wakes == waker->waits) {
			sched_yield();
			continue;
		}
		waker->wakes++;
		waker->loop->ops->wake(waker->loop);
	}
	return NULL;
}

static void test_wake__ends_a_wait(void)
{
	const struct mono never = {UINT64_MAX};
	struct stream_limits limits = case_limits();
	struct stream_case c;
	struct waker waker = {.loop = &c.loop};
	pthread_t thread;

	case_begin(&c, &limits, case_swallow);
	/* Before the wait: remembered. */
	c.loop.ops->wake(&c.loop);
	c.loop.ops->wake(&c.loop);
	c.loop.ops->poll(&c.loop, never);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, keep_waking, &waker), 0);
	/* A lost wake hangs here, until the runner's time limit. */
	for (uint32_t i = 0; i < 2000; i++) {
		uint32_t before = ++waker.waits;

		while (waker.wakes < before)
			c.loop.ops->poll(&c.loop, never);
	}
	waker.stop = true;
	pthread_join(thread, NULL);
	case_end(&c);
}

static void test_destroy__with_everything_in_flight(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fds[8];

	case_begin(&c, &limits, case_refuse);
	for (uint32_t i = 0; i < 8; i++) {
		fds[i] = client_connect_to(c.ports[0], 4096);
		CU_ASSERT_TRUE_FATAL(case_run_opened(&c, i + 1));
		CU_ASSERT_TRUE(client_send(fds[i], "hold this", 9));
		case_fill(&c, c.last_opened, i, 8000);
		if (i % 3 == 0)
			c.loop.ops->close(&c.loop, c.last_opened);
		if (i % 3 == 1)
			c.loop.ops->abort(&c.loop, c.last_opened);
	}
	case_end(&c);
	for (uint32_t i = 0; i < 8; i++) {
		uint8_t piece[4096];
		ssize_t got;

		/* Whatever was sent, then an end. */
		while ((got = recv(fds[i], piece, sizeof(piece), 0)) > 0)
			;
		CU_ASSERT(got == 0 || errno == ECONNRESET);
		close(fds[i]);
	}
}

static void test_events__allocate_nothing(void)
{
	struct stream_limits limits = case_limits();
	uint64_t before;
	struct stream_case c;
	uint8_t piece[230];
	int fds[32];

	case_begin(&c, &limits, case_echo);
	for (uint32_t i = 0; i < 32; i++)
		fds[i] = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 32));
	before = fake_os_calls(FAKE_OS_ALLOCATE);
	CU_ASSERT_TRUE(before > 0); /* the wrapping works */
	for (int round = 0; round < 50; round++)
		for (uint32_t i = 0; i < 32; i++) {
			pattern_fill(i, 0, piece, sizeof(piece));
			client_send(fds[i], piece, sizeof(piece));
			CU_ASSERT_TRUE(client_receive(
				&c, fds[i], piece, sizeof(piece)));
		}
	for (uint32_t i = 0; i < 32; i++)
		close(fds[i]);
	CU_ASSERT_TRUE(case_run_closed(&c, 32));
	CU_ASSERT_EQUAL(fake_os_calls(FAKE_OS_ALLOCATE), before);
	case_end(&c);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(peer_done__sending_goes_on),
		SUITE_CASE(peer_done__a_peer_that_is_gone),
		SUITE_CASE(closed__reset_by_the_peer),
		SUITE_CASE(closed__reset_while_sending),
		SUITE_CASE(close__flushes),
		SUITE_CASE(close__unread_bytes_do_not_destroy_the_answer),
		SUITE_CASE(close__a_lingering_peer_is_bounded),
		SUITE_CASE(abort__resets_the_peer),
		SUITE_CASE(abort__from_within_any_event),
		SUITE_CASE(ids__stale_ones_name_nothing),
		SUITE_CASE(closed__user_timeout),
		SUITE_CASE(drain__open_streams_go_on),
		SUITE_CASE(drain__before_the_first_turn),
		SUITE_CASE(wake__ends_a_wait),
		SUITE_CASE(destroy__with_everything_in_flight),
		SUITE_CASE(events__allocate_nothing),
	};

	return SUITE_MAIN("stream_end", cases);
}
