/* stream_kernel_input.c - bytes in (socket -> handler) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "dataplane/stream_kernel_private.h"

static bool is_reading(const struct kernel_stream *s)
{
	return s->state == STREAM_IS_OPEN;
}

/* After close(): what still comes is read and dropped, see lingering. */
static bool is_dropping(const struct kernel_stream *s)
{
	return s->state == STREAM_IS_FLUSHING ||
	       s->state == STREAM_IS_LINGERING;
}

void stream_input_drop(struct stream_kernel *k, struct kernel_stream *s)
{
	stream_buffer_put(k, &s->raw);
}

static void tell_peer_done(struct stream_kernel *k, struct kernel_stream *s)
{
	struct stream_event event = {.kind = STREAM_PEER_DONE};

	if (s->peer_done || s->state != STREAM_IS_OPEN)
		return;
	s->peer_done = true;
	stream_emit(k, s, &event);
}

/*
 * Hand a buffer's bytes to the handler. It may end the stream; the buffer is
 * dropped when the stream is settled.
 */
static void deliver(struct stream_kernel *k, struct kernel_stream *s,
	struct stream_buffer *buffer)
{
	uint32_t length = buffer->end - buffer->start;
	struct stream_event event = {
		.kind = STREAM_DATA,
		.data = buffer->memory + buffer->start,
		.length = length,
	};
	size_t consumed = stream_emit(k, s, &event);

	assert(consumed <= length);
	if (s->state != STREAM_IS_OPEN)
		return;
	s->stalled = consumed == 0;
	buffer->start += (uint32_t)consumed;
	/* The kernel may be about to write behind the last byte. */
	if (consumed == length && !s->behind)
		stream_buffer_put(k, buffer);
}

static void socket_ended(struct stream_kernel *k, struct kernel_stream *s)
{
	s->socket_done = true;
	tell_peer_done(k, s);
}

/* Take in what the kernel has written; false: nothing to read. */
static bool take_result(struct stream_kernel *k, struct kernel_stream *s,
	int res, uint32_t flags)
{
	if (flags & IORING_CQE_F_BUFFER) {
		uint32_t index = flags >> IORING_CQE_BUFFER_SHIFT;

		assert(index < k->buffer_count && k->posted_count > 0);
		assert(!s->raw.memory);
		k->posted_count--;
		s->raw = (struct stream_buffer){
			k->buffers + (size_t)index * k->limits.receive_bytes,
			index, 0, 0};
		if (res <= 0 || s->state == STREAM_IS_ENDING)
			stream_buffer_put(k, &s->raw);
	}
	s->behind = false;
	s->drained = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
	if (res > 0 && s->raw.memory)
		s->raw.end += (uint32_t)res;
	else if (s->raw.start == s->raw.end)
		stream_buffer_put(k, &s->raw);
	return res > 0 && s->raw.memory;
}

/*
 * After the peer's end there is nothing to receive, but a peer that is gone
 * altogether answers what we send with a reset, and only a poll tells of that.
 * A single one would end at once, as the kernel adds "the peer has ended" to
 * what it asks; a repeated one says so once and then waits.
 */
static void queue_watch(struct stream_kernel *k, struct kernel_stream *s)
{
	struct io_uring_sqe *sqe =
		stream_ring_entry(k, stream_index(k, s), STREAM_OP_RECEIVE);

	s->in_flight |= STREAM_OP_RECEIVE;
	io_uring_prep_poll_multishot(sqe, s->fd, 0);
}

static void watched(struct stream_kernel *k, struct kernel_stream *s, int res)
{
	socklen_t length = sizeof(int);
	int error = 0;

	if (s->state != STREAM_IS_ENDING && res > 0 &&
		res & (POLLERR | POLLHUP)) {
		(void)getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length);
		stream_finish(k, s, stream_end_of(error));
	}
	stream_mark(k, s);
}

void stream_received(struct stream_kernel *k, struct kernel_stream *s, int res,
	uint32_t flags)
{
	bool any;

	if (s->socket_done) {
		watched(k, s, res);
		return;
	}
	any = take_result(k, s, res, flags);
	if (s->state == STREAM_IS_ENDING) {
		stream_mark(k, s);
		return;
	}
	if (res < 0) {
		if (stream_is_passing(-res))
			stream_starve(k, s);
		else
			stream_finish(k, s, stream_end_of(-res));
		return;
	}
	stream_mark(k, s);
	if (is_dropping(s))
		stream_input_drop(k, s);
	else if (any && !s->stalled)
		deliver(k, s, &s->raw);
	if (res == 0)
		socket_ended(k, s);
}

/* With bytes held back: behind them; else into a buffer of the pool. */
static void queue_receive(struct stream_kernel *k, struct kernel_stream *s)
{
	struct io_uring_sqe *sqe =
		stream_ring_entry(k, stream_index(k, s), STREAM_OP_RECEIVE);

	s->in_flight |= STREAM_OP_RECEIVE;
	if (s->raw.memory) {
		uint32_t room = stream_buffer_compact(k, &s->raw);

		assert(room > 0);
		s->behind = true;
		io_uring_prep_recv(
			sqe, s->fd, s->raw.memory + s->raw.end, room, 0);
	} else {
		io_uring_prep_recv(sqe, s->fd, NULL, 0, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = STREAM_BUFFER_GROUP;
	}
	if (s->drained)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

static void deliver_again(struct stream_kernel *k, struct kernel_stream *s)
{
	s->resume = false;
	s->stalled = false;
	if (s->raw.start < s->raw.end)
		deliver(k, s, &s->raw);
}

void stream_input_settle(struct stream_kernel *k, struct kernel_stream *s)
{
	if (s->state == STREAM_IS_OPEN && s->resume)
		deliver_again(k, s);
	if (s->in_flight & STREAM_OP_RECEIVE)
		return;
	if (s->socket_done) {
		if (s->state == STREAM_IS_OPEN)
			queue_watch(k, s);
		return;
	}
	if (is_dropping(s))
		stream_input_drop(k, s);
	else if (!is_reading(s) || s->stalled)
		return;
	queue_receive(k, s);
}
