/* stream_kernel_end.c - the end of a stream, by whomever (causes -> CLOSED) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#include "dataplane/stream_kernel_private.h"

/*
 * close():  FLUSHING until all is sent, then our side is shut and the stream
 *           LINGERS: what still comes is dropped until the peer ends too, or
 *           STREAM_LINGER_NS are over. Closing at once with bytes unread would
 *           send a reset, which can destroy an answer that the peer has not
 *           read yet (RFC 9112 section 9.6).
 * all else: ENDING at once: what is in flight is called back.
 * CLOSED is delivered when nothing is in flight, so that no memory is in the
 * kernel's hands after it.
 */

enum stream_end stream_end_of(int error)
{
	switch (error) {
	case ETIMEDOUT:
		return STREAM_END_TIMEOUT;
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENODEV:
		return STREAM_END_LINK;
	default:
		return STREAM_END_RESET;
	}
}

bool stream_is_passing(int error)
{
	return error == EAGAIN || error == EINTR || error == ENOBUFS ||
	       error == ENOMEM;
}

void stream_finish(
	struct stream_kernel *k, struct kernel_stream *s, enum stream_end end)
{
	if (s->state >= STREAM_IS_ENDING)
		return;
	stream_linger_end(k, s);
	stream_set_state(s, STREAM_IS_ENDING);
	s->end = (uint8_t)end;
	s->want = 0;
	stream_mark(k, s);
}

void stream_reset(
	struct stream_kernel *k, struct kernel_stream *s, enum stream_end end)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};

	if (s->state >= STREAM_IS_ENDING)
		return;
	/* Without it the peer sees an ordinary end: not worth an error. */
	(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	stream_finish(k, s, end);
}

void stream_begin_close(
	struct stream_kernel *k, struct kernel_stream *s, enum stream_end end)
{
	stream_linger_end(k, s);
	stream_set_state(s, STREAM_IS_FLUSHING);
	s->end = (uint8_t)end;
	s->want = 0;
	stream_mark(k, s);
}

/* All is with the kernel: say our end, wait for the peer's. */
static void flushed(struct stream_kernel *k, struct kernel_stream *s)
{
	if (s->socket_done || shutdown(s->fd, SHUT_WR)) {
		stream_finish(k, s, (enum stream_end)s->end);
		return;
	}
	stream_set_state(s, STREAM_IS_LINGERING);
	stream_linger(k, s);
}

/* Nothing is in flight: tell, and close the descriptor. */
static void finished(struct stream_kernel *k, struct kernel_stream *s)
{
	struct stream_event event = {
		.kind = STREAM_CLOSED, .end = (enum stream_end)s->end};
	struct io_uring_sqe *sqe;

	stream_input_drop(k, s);
	stream_output_drop(k, s);
	stream_set_state(s, STREAM_IS_CLOSING);
	if (s->opened)
		stream_emit(k, s, &event);
	/* 0 is never a generation: a zeroed id names nothing. */
	if (++s->generation == 0)
		s->generation = 1;
	sqe = stream_ring_entry(k, stream_index(k, s), STREAM_OP_CLOSE);
	io_uring_prep_close(sqe, s->fd);
	s->in_flight = STREAM_OP_CLOSE;
	s->fd = -1;
}

/* One at a time; the end of this one brings the stream here again. */
static void call_back(struct stream_kernel *k, struct kernel_stream *s)
{
	uint32_t index = stream_index(k, s);

	if (s->in_flight & STREAM_OP_CANCEL)
		return;
	stream_ring_cancel(k, index,
		s->in_flight & STREAM_OP_SEND ? STREAM_OP_SEND
					      : STREAM_OP_RECEIVE,
		STREAM_OP_CANCEL, index);
	s->in_flight |= STREAM_OP_CANCEL;
}

void stream_end_settle(struct stream_kernel *k, struct kernel_stream *s)
{
	if (s->state == STREAM_IS_FLUSHING && !s->first)
		flushed(k, s);
	if (s->state == STREAM_IS_LINGERING && s->socket_done)
		stream_finish(k, s, (enum stream_end)s->end);
	if (s->state != STREAM_IS_ENDING)
		return;
	if (s->in_flight == 0)
		finished(k, s);
	else
		call_back(k, s);
}

void stream_cancelled(struct stream_kernel *k, struct kernel_stream *s)
{
	assert(s->state == STREAM_IS_ENDING);
	/* There may be a second operation, or this one was just on its way to
	 * be tried again and was missed: the next turn looks. */
	stream_mark(k, s);
}

void stream_closed(struct stream_kernel *k, struct kernel_stream *s)
{
	uint32_t generation = s->generation;

	assert(s->state == STREAM_IS_CLOSING && s->in_flight == 0);
	stream_unqueue(k, s);
	stream_set_state(s, STREAM_IS_FREE);
	*s = (struct kernel_stream){
		.fd = -1, .generation = generation, .loop = k};
	TAILQ_INSERT_HEAD(&k->free, s, link);
	s->queue = STREAM_ON_FREE;
	/* A descriptor is free again for those that had none. */
	for (uint32_t i = 0; i < k->listener_count; i++)
		k->listeners[i].retry_ns = 0;
}

void stream_timers_expire(struct stream_kernel *k)
{
	struct kernel_stream *s;

	while ((s = TAILQ_FIRST(&k->lingering)) && s->deadline_ns <= k->now_ns)
		stream_finish(k, s, (enum stream_end)s->end);
}
