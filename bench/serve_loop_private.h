/* serve_loop_private.h - what the two halves of the client loop share */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_SERVE_LOOP_PRIVATE_H
#define HEDDLE_BENCH_SERVE_LOOP_PRIVATE_H

#include <liburing.h>

#include "bench/serve_loop.h"

#define SERVE_BUFFER_COUNT 2048u /* a power of two */
#define SERVE_BUFFER_BYTES 8192u
#define SERVE_BUFFER_GROUP 0

/* What a completion is of: the low bits of user_data. */
enum loop_op { LOOP_CONNECT, LOOP_SEND, LOOP_RECV, LOOP_CANCEL };

#define LOOP_OP_BITS 2

enum connection_state {
	CONNECTION_FREE,
	CONNECTION_OPENING, /* connecting; an item waits for it */
	CONNECTION_BUSY, /* an item is under way */
	CONNECTION_IDLE, /* kept alive */
	CONNECTION_CLOSING /* until its operations have ended */
};

struct connection {
	int fd;
	enum connection_state state;
	bool connect_pending, send_pending, recv_armed;
	bool is_reused; /* an answer has come on it before */
	uint32_t item;
	uint32_t next; /* in the free or idle list */
	size_t sent_bytes;
	uint64_t deadline_ns;
	struct serve_reply reply;
};

/* An item that is to be sent again. */
struct resend {
	uint64_t at_ns;
	uint32_t item;
};

#define NO_CONNECTION UINT32_MAX

struct serve_loop {
	const struct serve_loop_setup *setup;
	const struct serve_plan *plan;
	struct serve_faults *faults;
	struct io_uring ring;
	struct io_uring_buf_ring *buffer_ring; /* owned mapping */
	char *buffers; /* owned mapping */
	struct connection *connections; /* owned, connection_max */
	uint32_t opened; /* connections that were ever used: [0, opened) */
	uint32_t free_list, idle_list;
	uint32_t open_count, active_count;
	uint64_t next; /* the next item, by number */
	uint64_t left_count; /* items that have not ended */
	struct resend *resends; /* owned, a heap by at_ns */
	size_t resend_count, resend_room;
	uint64_t now_ns; /* after the start, never 0 */
	bool is_waiting; /* a due item found no connection */
};

uint64_t loop_now(struct serve_loop *loop);
const struct serve_expect *loop_expect(
	const struct serve_loop *loop, uint32_t item, struct serve_expect *out);

/* serve_loop_connection.c */

/* Carry the item now; false where no connection can be had. */
bool connection_start(struct serve_loop *loop, uint32_t item);
void connection_event(struct serve_loop *loop, const struct io_uring_cqe *cqe);

/* End the item that is under way with a fault, and the connection. */
void connection_fail(struct serve_loop *loop, struct connection *connection,
	enum serve_fault fault, const char *example);

/* Let go of the connection, whatever it does; its item has ended. */
void loop_connection_close(
	struct serve_loop *loop, struct connection *connection);

/* serve_loop.c */

/* The item has ended as the reply says. */
void loop_item_done(struct serve_loop *loop, uint32_t item,
	struct serve_reply *reply, enum serve_outcome outcome);

/* Send the item again at at_ns; false where there is no memory. */
bool loop_resend(struct serve_loop *loop, uint32_t item, uint64_t at_ns);

#endif
