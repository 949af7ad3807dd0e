/* serve_loop_connection.c - one connection's life (item -> bytes -> reply) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "bench/serve_loop_private.h"
#include "bench/serve_stats.h"

static struct io_uring_sqe *get_sqe(struct serve_loop *loop,
	const struct connection *connection, enum loop_op op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
	uint64_t index = (uint64_t)(connection - loop->connections);

	if (!sqe) {
		(void)io_uring_submit(&loop->ring);
		sqe = io_uring_get_sqe(&loop->ring);
	}
	/* After a submission the queue is empty. */
	assert(sqe);
	sqe->user_data = index << LOOP_OP_BITS | op;
	return sqe;
}

/* --- operations ------------------------------------------------------------ */

static void arm_recv(struct serve_loop *loop, struct connection *connection)
{
	struct io_uring_sqe *sqe = get_sqe(loop, connection, LOOP_RECV);
	uint64_t user_data = sqe->user_data;

	io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = SERVE_BUFFER_GROUP;
	sqe->user_data = user_data;
	connection->recv_armed = true;
}

static void send_rest(struct serve_loop *loop, struct connection *connection)
{
	const struct serve_item *item = &loop->plan->items[connection->item];
	struct io_uring_sqe *sqe = get_sqe(loop, connection, LOOP_SEND);
	uint64_t user_data = sqe->user_data;

	io_uring_prep_send(sqe, connection->fd,
		loop->plan->data + item->offset + connection->sent_bytes,
		item->bytes - connection->sent_bytes,
		MSG_NOSIGNAL | MSG_WAITALL);
	sqe->user_data = user_data;
	connection->send_pending = true;
}

static void begin_item(struct serve_loop *loop, struct connection *connection)
{
	struct serve_result *result = &loop->plan->results[connection->item];

	connection->state = CONNECTION_BUSY;
	connection->sent_bytes = 0;
	result->sent_ns = loop_now(loop);
	connection->deadline_ns = result->sent_ns + loop->setup->timeout_ns;
	if (!connection->recv_armed)
		arm_recv(loop, connection);
	send_rest(loop, connection);
}

static void prepare_reply(
	struct serve_loop *loop, struct connection *connection, uint32_t index)
{
	const struct serve_item *item = &loop->plan->items[index];
	struct serve_expect expect;
	uint32_t *gaps = loop->plan->gaps;

	connection->item = index;
	serve_reply_start(&connection->reply, loop_expect(loop, index, &expect),
		gaps ? gaps + item->gap_offset : NULL, item->gap_room);
}

/* --- taking and letting go ------------------------------------------------- */

static struct connection *take_free(struct serve_loop *loop)
{
	struct connection *connection;

	if (loop->free_list != NO_CONNECTION) {
		connection = &loop->connections[loop->free_list];
		loop->free_list = connection->next;
		return connection;
	}
	if (loop->opened == loop->setup->connection_max)
		return NULL;
	return &loop->connections[loop->opened++];
}

static void give_free(struct serve_loop *loop, struct connection *connection)
{
	connection->state = CONNECTION_FREE;
	connection->next = loop->free_list;
	loop->free_list = (uint32_t)(connection - loop->connections);
}

static void settle_closing(
	struct serve_loop *loop, struct connection *connection)
{
	if (connection->connect_pending || connection->send_pending ||
		connection->recv_armed)
		return;
	close(connection->fd);
	connection->fd = -1;
	loop->open_count--;
	serve_reply_release(&connection->reply);
	give_free(loop, connection);
}

void loop_connection_close(
	struct serve_loop *loop, struct connection *connection)
{
	assert(connection->state != CONNECTION_FREE);
	connection->state = CONNECTION_CLOSING;
	if (connection->connect_pending) {
		struct io_uring_sqe *sqe =
			get_sqe(loop, connection, LOOP_CANCEL);
		uint64_t user_data = sqe->user_data;

		io_uring_prep_cancel64(
			sqe, (user_data & ~UINT64_C(3)) | LOOP_CONNECT, 0);
		sqe->user_data = user_data;
	} else {
		/* Ends what is pending; each comes back as a completion. */
		(void)shutdown(connection->fd, SHUT_RDWR);
	}
	settle_closing(loop, connection);
}

static void remove_idle(struct serve_loop *loop, struct connection *connection)
{
	uint32_t index = (uint32_t)(connection - loop->connections);
	uint32_t *link = &loop->idle_list;

	while (*link != index) {
		assert(*link != NO_CONNECTION);
		link = &loop->connections[*link].next;
	}
	*link = connection->next;
}

/* The fault of a failed connect ends the item; the slot is given back. */
static bool open_socket(struct serve_loop *loop, struct connection *connection)
{
	const struct serve_loop_setup *setup = loop->setup;
	struct io_uring_sqe *sqe;
	uint64_t user_data;
	int one = 1;

	connection->fd =
		socket(setup->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		return false;
	(void)setsockopt(
		connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	connection->state = CONNECTION_OPENING;
	connection->is_reused = false;
	connection->connect_pending = true;
	connection->deadline_ns = loop->now_ns + setup->timeout_ns;
	loop->open_count++;
	sqe = get_sqe(loop, connection, LOOP_CONNECT);
	user_data = sqe->user_data;
	io_uring_prep_connect(sqe, connection->fd,
		(const struct sockaddr *)&setup->address, setup->address_bytes);
	sqe->user_data = user_data;
	return true;
}

bool connection_start(struct serve_loop *loop, uint32_t item)
{
	struct connection *connection;
	bool is_idle = loop->idle_list != NO_CONNECTION;

	if (is_idle) {
		connection = &loop->connections[loop->idle_list];
		loop->idle_list = connection->next;
	} else {
		connection = take_free(loop);
		if (!connection)
			return false;
	}
	loop->active_count++;
	prepare_reply(loop, connection, item);
	if (is_idle) {
		begin_item(loop, connection);
	} else if (!open_socket(loop, connection)) {
		const char *text = strerror(errno);

		serve_reply_fault(&connection->reply, SERVE_FAULT_CONNECT, text,
			strlen(text));
		loop->active_count--;
		loop_item_done(loop, item, &connection->reply, SERVE_FAILED);
		give_free(loop, connection);
	}
	return true;
}

/* --- the item ends --------------------------------------------------------- */

static void item_ended(struct serve_loop *loop, struct connection *connection,
	enum serve_outcome outcome)
{
	loop->active_count--;
	loop_item_done(loop, connection->item, &connection->reply, outcome);
}

void connection_fail(struct serve_loop *loop, struct connection *connection,
	enum serve_fault fault, const char *example)
{
	serve_reply_fault(&connection->reply, fault, example,
		example ? strlen(example) : 0);
	item_ended(loop, connection, SERVE_FAILED);
	loop_connection_close(loop, connection);
}

/* A kept connection had ended before we knew: the item goes on another. */
static bool went_stale(struct serve_loop *loop, struct connection *connection)
{
	if (!connection->is_reused ||
		!serve_http_is_fresh(&connection->reply.http) ||
		!loop_resend(loop, connection->item, loop->now_ns))
		return false;
	serve_live_add(&loop->setup->live->reconnects, 1);
	loop->active_count--;
	loop_connection_close(loop, connection);
	return true;
}

/* Refused for now, and the server is to be asked again. */
static bool put_off(struct serve_loop *loop, struct connection *connection)
{
	struct serve_result *result = &loop->plan->results[connection->item];
	const struct serve_http *http = &connection->reply.http;
	uint64_t wait_ms = http->has_retry_after ? http->retry_after_ms : 500;

	if (http->status != 429 ||
		result->retry_count >= loop->setup->retry_max ||
		!loop_resend(loop, connection->item,
			loop->now_ns + wait_ms * NS_PER_MS))
		return false;
	result->retry_count++;
	serve_live_add(&loop->setup->live->retries, 1);
	loop->active_count--;
	return true;
}

static void reply_done(
	struct serve_loop *loop, struct connection *connection, bool is_clean)
{
	bool keep = is_clean && connection->reply.http.keep_alive &&
		    !connection->send_pending && connection->recv_armed &&
		    !loop->setup->fresh;
	bool failed = connection->reply.verdict.fault != SERVE_FAULT_NONE;

	if (!put_off(loop, connection))
		item_ended(loop, connection,
			failed ? SERVE_FAILED : SERVE_COMPLETED);
	if (!keep) {
		loop_connection_close(loop, connection);
		return;
	}
	connection->is_reused = true;
	connection->state = CONNECTION_IDLE;
	connection->next = loop->idle_list;
	loop->idle_list = (uint32_t)(connection - loop->connections);
}

/* --- completions ----------------------------------------------------------- */

/* The live figures of the chunks that this piece brought. */
static void count_chunks(struct serve_loop *loop,
	const struct connection *connection, uint32_t before)
{
	const struct serve_reply *reply = &connection->reply;
	const struct serve_result *result =
		&loop->plan->results[connection->item];
	struct serve_live *live = loop->setup->live;
	uint32_t after = reply->verdict.chunk_count;

	if (after == before)
		return;
	serve_live_add(&live->tokens, after - before);
	if (before == 0)
		serve_live_time(&live->ttft, loop->now_ns - result->due_ns);
	for (uint32_t i = before ? before : 1; i < after; i++)
		if (i - 1 < reply->gap_room)
			serve_live_time(&live->itl,
				(uint64_t)reply->gaps[i - 1] * SERVE_TICK_NS);
}

static void take_data(struct serve_loop *loop, struct connection *connection,
	const char *data, size_t length)
{
	uint32_t before = connection->reply.verdict.chunk_count;
	enum serve_reply_state state;
	size_t taken;

	if (connection->state == CONNECTION_IDLE) {
		/* Bytes that nobody asked for. */
		loop->faults->counts[SERVE_FAULT_TRAILING]++;
		remove_idle(loop, connection);
		loop_connection_close(loop, connection);
		return;
	}
	if (connection->state != CONNECTION_BUSY)
		return;
	loop_now(loop);
	state = serve_reply_feed(
		&connection->reply, data, length, loop->now_ns, &taken);
	count_chunks(loop, connection, before);
	if (state == SERVE_REPLY_MORE)
		return;
	if (taken < length && state == SERVE_REPLY_DONE)
		serve_reply_fault(
			&connection->reply, SERVE_FAULT_TRAILING, NULL, 0);
	reply_done(
		loop, connection, state == SERVE_REPLY_DONE && taken == length);
}

static void take_end(
	struct serve_loop *loop, struct connection *connection, int error)
{
	if (connection->state == CONNECTION_IDLE) {
		remove_idle(loop, connection);
		loop_connection_close(loop, connection);
		return;
	}
	if (connection->state != CONNECTION_BUSY ||
		went_stale(loop, connection))
		return;
	if (error) {
		connection_fail(
			loop, connection, SERVE_FAULT_RECEIVE, strerror(error));
		return;
	}
	(void)serve_reply_eof(&connection->reply);
	reply_done(loop, connection, false);
}

static void give_buffer(struct serve_loop *loop, uint16_t id)
{
	io_uring_buf_ring_add(loop->buffer_ring,
		loop->buffers + (size_t)id * SERVE_BUFFER_BYTES,
		SERVE_BUFFER_BYTES, id,
		io_uring_buf_ring_mask(SERVE_BUFFER_COUNT), 0);
	io_uring_buf_ring_advance(loop->buffer_ring, 1);
}

static void on_recv(struct serve_loop *loop, struct connection *connection,
	const struct io_uring_cqe *cqe)
{
	if (!(cqe->flags & IORING_CQE_F_MORE))
		connection->recv_armed = false;
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);

		if (cqe->res > 0)
			take_data(loop, connection,
				loop->buffers + (size_t)id * SERVE_BUFFER_BYTES,
				(size_t)cqe->res);
		give_buffer(loop, id);
	}
	/* Out of buffers: they are back once this batch has been read. */
	if (cqe->res <= 0 && cqe->res != -ENOBUFS)
		take_end(loop, connection, -cqe->res);
	if (!connection->recv_armed &&
		(connection->state == CONNECTION_BUSY ||
			connection->state == CONNECTION_IDLE))
		arm_recv(loop, connection);
}

static void on_send(struct serve_loop *loop, struct connection *connection,
	const struct io_uring_cqe *cqe)
{
	const struct serve_item *item = &loop->plan->items[connection->item];

	connection->send_pending = false;
	if (connection->state != CONNECTION_BUSY)
		return;
	if (cqe->res <= 0) {
		/* The server may have said why before it closed: read that. */
		if (connection->recv_armed &&
			(cqe->res == -EPIPE || cqe->res == -ECONNRESET))
			return;
		if (!went_stale(loop, connection))
			connection_fail(loop, connection, SERVE_FAULT_SEND,
				strerror(-cqe->res));
		return;
	}
	connection->sent_bytes += (size_t)cqe->res;
	if (connection->sent_bytes < item->bytes)
		send_rest(loop, connection);
}

static void on_connect(struct serve_loop *loop, struct connection *connection,
	const struct io_uring_cqe *cqe)
{
	connection->connect_pending = false;
	if (connection->state != CONNECTION_OPENING)
		return;
	if (cqe->res < 0)
		connection_fail(loop, connection, SERVE_FAULT_CONNECT,
			strerror(-cqe->res));
	else
		begin_item(loop, connection);
}

void connection_event(struct serve_loop *loop, const struct io_uring_cqe *cqe)
{
	uint64_t index = cqe->user_data >> LOOP_OP_BITS;
	struct connection *connection = &loop->connections[index];

	switch (cqe->user_data & ((1u << LOOP_OP_BITS) - 1)) {
	case LOOP_CONNECT:
		on_connect(loop, connection, cqe);
		break;
	case LOOP_SEND:
		on_send(loop, connection, cqe);
		break;
	case LOOP_RECV:
		on_recv(loop, connection, cqe);
		break;
	default:
		return;
	}
	if (connection->state == CONNECTION_CLOSING)
		settle_closing(loop, connection);
}
