/* stream_case.h - a loop of streams under test, and its clients */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the promises of dataplane/stream.h are tested against that header
 *        alone; a program links one file that fills stream_backend(), and
 *        another back end is another program over the same cases.
 * Use:   case_begin(), then case_run_until() turns the loop on this thread
 *        until a condition holds; clients are plain blocking sockets of this
 *        thread, so that nothing runs at the same time as anything else.
 * Checks made on every event: a stream's first event is OPENED and its last
 *        is CLOSED, each once; PEER_DONE comes once; no event names a stream
 *        that is not open; DATA is never empty nor over the bound.
 */
#ifndef HEDDLE_TESTS_STREAM_CASE_H
#define HEDDLE_TESTS_STREAM_CASE_H

#include "dataplane/stream.h"
#include "tests/pattern.h"

#define CASE_LISTENER_COUNT 2

struct stream_setup {
	struct stream_limits limits;
	uint32_t listener_count; /* <= CASE_LISTENER_COUNT */
	bool tls; /* all of them */
	const char *certificate, *key; /* PEM texts */
	stream_handler *handler;
	void *arg;
};

/* What the tests need of a back end. */
struct stream_backend {
	const char *name;
	/* A loop that listens at 127.0.0.1; the ports that it got. */
	int (*create)(const struct stream_setup *setup, struct stream_loop *out,
		uint16_t *out_ports, struct error *err);
};

const struct stream_backend *stream_backend(void);

/* What has happened to the stream of an index. */
struct stream_record {
	struct stream_id id;
	struct stream_peer peer;
	uint32_t listener;
	bool open;
	uint32_t opened_count, closed_count; /* of this index, ever */
	uint32_t peer_done_count, writable_count, data_count; /* this stream */
	enum stream_end end;
	uint64_t received_bytes;
	void *note; /* the case's */
};

struct stream_case;
typedef size_t stream_case_handler(struct stream_case *c,
	const struct stream_event *event, struct stream_record *record);

struct stream_case {
	struct stream_loop loop;
	struct stream_limits limits;
	uint16_t ports[CASE_LISTENER_COUNT];
	struct stream_record *records; /* [stream_count] */
	stream_case_handler *handler;
	uint32_t opened_count, closed_count; /* in all */
	struct stream_id last_opened;
	void *note; /* the case's */
};

/* 64 streams of 64 KiB out and 16 KiB in, patience of 10 s. */
struct stream_limits case_limits(void);

/* Ends the program's test at once when there is no loop. */
void case_begin(struct stream_case *c, const struct stream_limits *limits,
	stream_case_handler *handler);
void case_begin_setup(struct stream_case *c, struct stream_setup *setup,
	stream_case_handler *handler);
void case_end(struct stream_case *c);

/* Turn the loop once, for at most 5 ms. */
void case_turn(struct stream_case *c);

/* Turn it until holds(c, arg); false when that takes more than 20 s. */
bool case_run_until(struct stream_case *c,
	bool (*holds)(const struct stream_case *c, const void *arg),
	const void *arg);
bool case_run_opened(struct stream_case *c, uint32_t count);
bool case_run_closed(struct stream_case *c, uint32_t count);

struct stream_record *case_record(
	const struct stream_case *c, struct stream_id id);

/* Send one piece of bytes. */
int case_send(struct stream_case *c, struct stream_id id, const void *data,
	size_t length);

/* A handler that sends back what comes, as fast as it may. */
size_t case_echo(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record);

/* A handler that consumes all, one that consumes nothing. */
size_t case_swallow(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record);
size_t case_refuse(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record);

/* Turn until nothing has happened for a few turns. */
void case_settle(struct stream_case *c);
size_t case_room(const struct stream_case *c, struct stream_id id);
/*
 * Send records of record_bytes (<= 8192) of the pattern until the stream has
 * had no room for a while; returns the bytes sent.
 */
size_t case_fill(struct stream_case *c, struct stream_id id, uint64_t seed,
	size_t record_bytes);

/* A connected blocking socket with a receive time-out of 20 s. */
int client_connect(const struct stream_case *c);
int client_connect_to(uint16_t port, int receive_buffer_bytes);
/* All of it, or false. */
bool client_send(int fd, const void *data, size_t length);
/*
 * Without waiting: bytes moved, 0 = end (receive) or would wait (send),
 * -EAGAIN, -errno.
 */
long client_try_send(int fd, const void *data, size_t length);
long client_try_receive(int fd, void *data, size_t length);
/* Turn the loop until `length` bytes came; false at an end or error. */
bool client_receive(struct stream_case *c, int fd, void *data, size_t length);
bool client_receive_pattern(
	struct stream_case *c, int fd, uint64_t seed, size_t total);
/* Turn the loop until the peer's end: 0 = clean, -ECONNRESET, -ETIMEDOUT. */
int client_receive_end(struct stream_case *c, int fd);
/* Close so that the peer gets a reset. */
void client_reset(int fd);

#endif
