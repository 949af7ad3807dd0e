/* stream_case.c - a loop of streams under test, and its clients */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/stream_case.h"
#include "tests/suite.h"

#define PATIENCE_NS (20 * NS_PER_S)

struct stream_limits case_limits(void)
{
	return (struct stream_limits){
		.stream_count = 64,
		.send_bytes = 65536,
		.receive_bytes = 16384,
		.total_bytes = 16 << 20,
		.user_timeout_ns = 10 * NS_PER_S,
	};
}

static void record_opened(struct stream_case *c, struct stream_record *record,
	const struct stream_event *event)
{
	CU_ASSERT_FALSE(record->open);
	CU_ASSERT_NOT_EQUAL(event->id.generation, record->id.generation);
	record->id = event->id;
	record->peer = event->peer;
	record->listener = event->listener;
	record->open = true;
	record->opened_count++;
	record->peer_done_count = 0;
	record->writable_count = 0;
	record->data_count = 0;
	record->received_bytes = 0;
	record->note = NULL;
	c->opened_count++;
	c->last_opened = event->id;
}

static void check_data(
	const struct stream_case *c, const struct stream_event *event)
{
	CU_ASSERT_TRUE(event->length > 0);
	CU_ASSERT_TRUE(event->length <= c->limits.receive_bytes);
}

static size_t take_event(void *arg, const struct stream_event *event)
{
	struct stream_case *c = arg;
	struct stream_record *record;
	size_t consumed;

	CU_ASSERT_FATAL(event->id.index < c->limits.stream_count);
	record = &c->records[event->id.index];
	if (event->kind == STREAM_OPENED)
		record_opened(c, record, event);
	CU_ASSERT_TRUE(record->open);
	CU_ASSERT_EQUAL(record->id.generation, event->id.generation);
	if (event->kind == STREAM_DATA) {
		check_data(c, event);
		record->data_count++;
	} else if (event->kind == STREAM_PEER_DONE) {
		CU_ASSERT_EQUAL(record->peer_done_count, 0);
		record->peer_done_count++;
	} else if (event->kind == STREAM_WRITABLE) {
		record->writable_count++;
	} else if (event->kind == STREAM_CLOSED) {
		record->end = event->end;
	}
	consumed = c->handler(c, event, record);
	record->received_bytes += consumed;
	if (event->kind == STREAM_CLOSED) {
		record->open = false;
		record->closed_count++;
		c->closed_count++;
	}
	return consumed;
}

void case_begin_setup(struct stream_case *c, struct stream_setup *setup,
	stream_case_handler *handler)
{
	struct error err = {0};
	int rc;

	*c = (struct stream_case){.limits = setup->limits, .handler = handler};
	setup->handler = take_event;
	setup->arg = c;
	c->records =
		suite_calloc(setup->limits.stream_count, sizeof(*c->records));
	rc = stream_backend()->create(setup, &c->loop, c->ports, &err);
	if (rc)
		printf("%s: %s\n", stream_backend()->name, err.text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
}

void case_begin(struct stream_case *c, const struct stream_limits *limits,
	stream_case_handler *handler)
{
	struct stream_setup setup = {.limits = *limits, .listener_count = 1};

	case_begin_setup(c, &setup, handler);
}

void case_end(struct stream_case *c)
{
	c->loop.ops->destroy(&c->loop);
	free(c->records);
	c->records = NULL;
}

void case_turn(struct stream_case *c)
{
	c->loop.ops->poll(&c->loop, mono_add(mono_now(), 5 * NS_PER_MS));
}

bool case_run_until(struct stream_case *c,
	bool (*holds)(const struct stream_case *c, const void *arg),
	const void *arg)
{
	struct mono end = mono_add(mono_now(), PATIENCE_NS);

	while (!holds(c, arg)) {
		if (!mono_before(mono_now(), end))
			return false;
		case_turn(c);
	}
	return true;
}

static bool has_opened(const struct stream_case *c, const void *arg)
{
	return c->opened_count >= *(const uint32_t *)arg;
}

static bool has_closed(const struct stream_case *c, const void *arg)
{
	return c->closed_count >= *(const uint32_t *)arg;
}

bool case_run_opened(struct stream_case *c, uint32_t count)
{
	return case_run_until(c, has_opened, &count);
}

bool case_run_closed(struct stream_case *c, uint32_t count)
{
	return case_run_until(c, has_closed, &count);
}

struct stream_record *case_record(
	const struct stream_case *c, struct stream_id id)
{
	return &c->records[id.index];
}

int case_send(struct stream_case *c, struct stream_id id, const void *data,
	size_t length)
{
	struct stream_segment segment = {data, length, false};

	return c->loop.ops->send(&c->loop, id, &segment, 1);
}

size_t case_echo(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record)
{
	const struct stream_ops *ops = c->loop.ops;
	size_t room;

	(void)record;
	switch (event->kind) {
	case STREAM_DATA:
		room = ops->room(&c->loop, event->id);
		if (room > event->length)
			room = event->length;
		if (room < event->length)
			CU_ASSERT_EQUAL(ops->want(&c->loop, event->id, 1), 0);
		if (room > 0)
			CU_ASSERT_EQUAL(
				case_send(c, event->id, event->data, room), 0);
		return room;
	case STREAM_WRITABLE:
		CU_ASSERT_EQUAL(ops->resume(&c->loop, event->id), 0);
		return 0;
	case STREAM_PEER_DONE:
		CU_ASSERT_EQUAL(ops->close(&c->loop, event->id), 0);
		return 0;
	default:
		return 0;
	}
}

size_t case_swallow(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record)
{
	(void)c;
	(void)record;
	return event->kind == STREAM_DATA ? event->length : 0;
}

size_t case_refuse(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record)
{
	(void)c;
	(void)event;
	(void)record;
	return 0;
}

void case_settle(struct stream_case *c)
{
	for (int quiet = 0; quiet < 8; quiet++)
		if (c->loop.ops->poll(
			    &c->loop, mono_add(mono_now(), NS_PER_MS)))
			quiet = 0;
}

size_t case_room(const struct stream_case *c, struct stream_id id)
{
	return c->loop.ops->room(&c->loop, id);
}

size_t case_fill(struct stream_case *c, struct stream_id id, uint64_t seed,
	size_t record_bytes)
{
	uint8_t record[8192];
	size_t sent = 0;
	int quiet = 0;

	CU_ASSERT_FATAL(record_bytes <= sizeof(record));
	while (quiet < 20) {
		int rc;

		pattern_fill(seed, sent, record, record_bytes);
		rc = case_send(c, id, record, record_bytes);
		CU_ASSERT_FATAL(rc == 0 || rc == -EAGAIN);
		if (rc == 0) {
			sent += record_bytes;
			quiet = 0;
		} else {
			CU_ASSERT_TRUE(case_room(c, id) < record_bytes);
			quiet++;
			c->loop.ops->poll(
				&c->loop, mono_add(mono_now(), NS_PER_MS));
		}
	}
	return sent;
}

int client_connect_to(uint16_t port, int receive_buffer_bytes)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 20};
	const int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(fd >= 0);
	if (receive_buffer_bytes > 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes,
			sizeof(receive_buffer_bytes));
	/* What a client sends is there when the loop turns next. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		close(fd);
		return -errno;
	}
	return fd;
}

int client_connect(const struct stream_case *c)
{
	int fd = client_connect_to(c->ports[0], 0);

	CU_ASSERT_FATAL(fd >= 0);
	return fd;
}

bool client_send(int fd, const void *data, size_t length)
{
	return send(fd, data, length, MSG_NOSIGNAL) == (ssize_t)length;
}

long client_try_send(int fd, const void *data, size_t length)
{
	ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

	return sent < 0 ? -errno : (long)sent;
}

long client_try_receive(int fd, void *data, size_t length)
{
	ssize_t got = recv(fd, data, length, MSG_DONTWAIT);

	return got < 0 ? -errno : (long)got;
}

bool client_receive(struct stream_case *c, int fd, void *data, size_t length)
{
	struct mono end = mono_add(mono_now(), PATIENCE_NS);
	uint8_t *to = data;

	while (length > 0 && mono_before(mono_now(), end)) {
		long got = client_try_receive(fd, to, length);

		if (got == -EAGAIN) {
			case_turn(c);
			continue;
		}
		if (got <= 0)
			return false;
		to += got;
		length -= (size_t)got;
	}
	return length == 0;
}

int client_receive_end(struct stream_case *c, int fd)
{
	struct mono end = mono_add(mono_now(), PATIENCE_NS);

	while (mono_before(mono_now(), end)) {
		uint8_t byte;
		long got = client_try_receive(fd, &byte, 1);

		if (got <= 0 && got != -EAGAIN)
			return (int)got;
		if (got == -EAGAIN)
			case_turn(c);
	}
	return -ETIMEDOUT;
}

bool client_receive_pattern(
	struct stream_case *c, int fd, uint64_t seed, size_t total)
{
	uint8_t piece[4096];

	for (size_t at = 0; at < total;) {
		size_t length =
			total - at < sizeof(piece) ? total - at : sizeof(piece);

		if (!client_receive(c, fd, piece, length) ||
			!pattern_matches(seed, at, piece, length))
			return false;
		at += length;
	}
	return true;
}

void client_reset(int fd)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
}
