/* stream_kernel.c - byte streams over kernel sockets (io_uring <-> handler) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "dataplane/stream_kernel_private.h"

uint32_t stream_index(
	const struct stream_kernel *k, const struct kernel_stream *s)
{
	return (uint32_t)(s - k->streams);
}

/* NULL: dead, or never was. */
struct kernel_stream *stream_find(struct stream_kernel *k, struct stream_id id)
{
	struct kernel_stream *s;

	if (id.index >= k->limits.stream_count)
		return NULL;
	s = &k->streams[id.index];
	if (s->generation != id.generation || !s->opened ||
		s->state == STREAM_IS_CLOSING)
		return NULL;
	return s;
}

size_t stream_emit(struct stream_kernel *k, const struct kernel_stream *s,
	struct stream_event *event)
{
	event->id = (struct stream_id){stream_index(k, s), s->generation};
	k->event_count++;
	return k->handler(k->arg, event);
}

/* --- one turn --- */

/* Streams that lacked something go on when there may be some again. */
static void feed_starved(struct stream_kernel *k)
{
	bool due = k->retry_ns > 0 && k->retry_ns <= k->now_ns;
	struct kernel_stream *s, *next;

	if (!due && !k->returned)
		return;
	k->retry_ns = 0;
	k->returned = false;
	for (s = TAILQ_FIRST(&k->starved); s; s = next) {
		next = TAILQ_NEXT(s, link);
		stream_mark(k, s);
	}
}

static void settle_stream(struct stream_kernel *k, struct kernel_stream *s)
{
	if (s->state == STREAM_IS_FREE || s->state == STREAM_IS_CLOSING)
		return;
	stream_input_settle(k, s);
	stream_output_settle(k, s);
	stream_end_settle(k, s);
}

/*
 * Streams that handlers mark meanwhile are settled in the same turn, so that
 * what they send goes out with it; half a burst bounds it, the other half is
 * for what comes from the kernel.
 */
static void settle(struct stream_kernel *k)
{
	struct kernel_stream *s;

	stream_buffers_post(k);
	stream_listeners_settle(k);
	while ((s = TAILQ_FIRST(&k->dirty)) &&
		k->event_count < STREAM_BURST_COUNT / 2 &&
		stream_ring_space(k)) {
		stream_unqueue(k, s);
		settle_stream(k, s);
	}
}

static void arm_wake(struct stream_kernel *k)
{
	struct io_uring_sqe *sqe;

	if (k->wake_armed || !stream_ring_space(k))
		return;
	sqe = stream_ring_entry(k, 0, STREAM_OP_WAKE);
	io_uring_prep_read(
		sqe, k->wake_fd, &k->wake_value, sizeof(k->wake_value), 0);
	k->wake_armed = true;
}

/* Once for each wait that it ends: a loop that is awake is not told. */
static void arm_bell(struct stream_kernel *k)
{
	struct io_uring_sqe *sqe;

	if (k->bell_fd <= 0 || k->bell_armed || !stream_ring_space(k))
		return;
	sqe = stream_ring_entry(k, 0, STREAM_OP_BELL);
	io_uring_prep_poll_add(sqe, k->bell_fd, POLLIN);
	k->bell_armed = true;
}

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

/* Until when the kernel may be waited for; 0 = there is work. */
static uint64_t wait_until(const struct stream_kernel *k, struct mono until)
{
	uint64_t at_ns = earlier(until.ns, stream_listeners_deadline(k));

	if (k->event_count > 0 || !TAILQ_EMPTY(&k->dirty))
		return 0;
	if (!TAILQ_EMPTY(&k->lingering))
		at_ns = earlier(at_ns, TAILQ_FIRST(&k->lingering)->deadline_ns);
	if (k->returned && !TAILQ_EMPTY(&k->starved))
		return 0;
	if (k->retry_ns > 0)
		at_ns = earlier(at_ns, k->retry_ns);
	return at_ns;
}

static void complete(
	struct stream_kernel *k, uint64_t user_data, int res, uint32_t flags)
{
	enum stream_operation op = (enum stream_operation)(user_data >> 32);
	uint32_t index = (uint32_t)user_data;
	struct kernel_stream *s = &k->streams[index];
	/* A watch speaks more than once, see stream_kernel_input.c. */
	bool more = flags & IORING_CQE_F_MORE;

	if (!more)
		k->operation_count--;
	if (op == STREAM_OP_WAKE) {
		k->wake_armed = false;
		k->rung++;
		return;
	}
	if (op == STREAM_OP_BELL) {
		k->bell_armed = false;
		return;
	}
	if (op == STREAM_OP_DRAIN) {
		k->listeners[index].cancelling = false;
		return;
	}
	assert(s->in_flight & op);
	if (!more)
		s->in_flight &= (uint8_t)~op;
	switch (op) {
	case STREAM_OP_ACCEPT:
		stream_accepted(k, s, res);
		break;
	case STREAM_OP_RECEIVE:
		stream_received(k, s, res, flags);
		break;
	case STREAM_OP_SEND:
		stream_sent(k, s, res);
		break;
	case STREAM_OP_CANCEL:
		stream_cancelled(k, s);
		break;
	default:
		/* A close may report an old error; the descriptor is gone. */
		assert(op == STREAM_OP_CLOSE);
		stream_closed(k, s);
	}
}

/* What is there now; a later turn takes what comes meanwhile. */
static void reap(struct stream_kernel *k)
{
	unsigned count = io_uring_cq_ready(&k->ring);

	while (count-- > 0 && k->event_count < STREAM_BURST_COUNT) {
		struct io_uring_cqe *cqe, copy;

		if (io_uring_peek_cqe(&k->ring, &cqe))
			return;
		copy = *cqe;
		io_uring_cqe_seen(&k->ring, cqe);
		complete(k, copy.user_data, copy.res, copy.flags);
	}
}

struct instants {
	struct mono begun, entered, left; /* the turn; the kernel's part */
	uint64_t wait_ns; /* until when it was to wait */
	bool timed; /* this turn, for so many */
};

static void count(struct stream_kernel *k, const struct instants *at)
{
	struct poll_meter *meter = &k->meter;
	struct mono now;

	meter->turns++;
	meter->busy += k->event_count > 0;
	if (at->wait_ns > at->begun.ns)
		poll_meter_slept(meter, at->entered, (struct mono){at->wait_ns},
			at->left);
	else if (at->timed)
		poll_meter_add(meter, POLL_STACK,
			POLL_METER_SHARE * mono_diff(at->left, at->entered));
	if (at->timed) {
		now = mono_now();
		poll_meter_add(meter, POLL_FRONT,
			POLL_METER_SHARE * (mono_diff(at->entered, at->begun) +
						   mono_diff(now, at->left)));
		poll_meter_leave(meter, now, POLL_METER_SHARE);
	}
	if (poll_meter_due(meter, at->left))
		poll_meter_write(meter, at->left);
}

static uint32_t kernel_poll(struct stream_loop *loop, struct mono until)
{
	struct stream_kernel *k = loop->context;
	struct instants at;

	if (!k->ring_enabled) {
		/* liburing 2.3 declares io_uring_enable_rings() but does not
		 * export it. */
		int rc = io_uring_register((unsigned)k->ring.ring_fd,
			IORING_REGISTER_ENABLE_RINGS, NULL, 0);

		assert(rc == 0);
		k->ring_enabled = true;
	}
	k->event_count = 0;
	at.begun = mono_now();
	at.timed = poll_meter_chosen(&k->meter);
	k->now_ns = at.begun.ns;
	poll_meter_enter(&k->meter, at.begun);
	stream_timers_expire(k);
	feed_starved(k);
	arm_wake(k);
	settle(k);
	at.wait_ns = wait_until(k, until);
	if (at.wait_ns > k->now_ns)
		arm_bell(k);
	at.entered = at.begun;
	if (at.timed || (k->meter.out && at.wait_ns > k->now_ns))
		at.entered = mono_now();
	stream_ring_enter(k, at.wait_ns);
	/* Acquires what the waker wrote before it called. */
	(void)atomic_exchange(&k->woken, false);
	if (at.timed || at.wait_ns > k->now_ns)
		k->now_ns = mono_now().ns;
	at.left.ns = k->now_ns;
	reap(k);
	loop->rung = k->rung;
	count(k, &at);
	return k->event_count;
}

/* --- what handlers and the caller do --- */

static int kernel_send(struct stream_loop *loop, struct stream_id id,
	const struct stream_segment *segments, uint32_t count)
{
	struct stream_kernel *k = loop->context;
	struct kernel_stream *s = stream_find(k, id);

	if (!s || s->state != STREAM_IS_OPEN)
		return -ENOTCONN;
	return stream_output_add(k, s, segments, count);
}

static size_t kernel_room(const struct stream_loop *loop, struct stream_id id)
{
	struct stream_kernel *k = loop->context;
	const struct kernel_stream *s = stream_find(k, id);

	return s && s->state == STREAM_IS_OPEN ? stream_output_room(k, s) : 0;
}

static int kernel_want(
	struct stream_loop *loop, struct stream_id id, size_t want)
{
	struct stream_kernel *k = loop->context;
	struct kernel_stream *s = stream_find(k, id);

	if (!s || s->state != STREAM_IS_OPEN)
		return -ENOTCONN;
	if (want > k->limits.send_bytes)
		return -EMSGSIZE;
	s->want = (uint32_t)want;
	stream_mark(k, s);
	return 0;
}

static int kernel_resume(struct stream_loop *loop, struct stream_id id)
{
	struct stream_kernel *k = loop->context;
	struct kernel_stream *s = stream_find(k, id);

	if (!s || s->state != STREAM_IS_OPEN)
		return -ENOTCONN;
	s->resume = true;
	stream_mark(k, s);
	return 0;
}

static int kernel_close(struct stream_loop *loop, struct stream_id id)
{
	struct stream_kernel *k = loop->context;
	struct kernel_stream *s = stream_find(k, id);

	if (!s)
		return -ENOTCONN;
	if (s->state != STREAM_IS_OPEN)
		return 0;
	stream_begin_close(k, s, STREAM_END_CLEAN);
	return 0;
}

static int kernel_abort(struct stream_loop *loop, struct stream_id id)
{
	struct stream_kernel *k = loop->context;
	struct kernel_stream *s = stream_find(k, id);

	if (!s)
		return -ENOTCONN;
	stream_reset(k, s, STREAM_END_RESET);
	return 0;
}

static void kernel_drain(struct stream_loop *loop)
{
	struct stream_kernel *k = loop->context;

	k->draining = true;
}

static int kernel_identify(struct stream_loop *loop,
	const struct stream_identity *identity, struct error *err)
{
	(void)loop;
	(void)identity;
	return error_set(err, EINVAL, "no listener speaks TLS");
}

static void kernel_wake(struct stream_loop *loop)
{
	struct stream_kernel *k = loop->context;

	/* Pairs with stream_ring_enter(): one of the two sees the other. A
	 * loop that is awake looks at `woken` before it sleeps. */
	if (atomic_exchange(&k->woken, true) || !atomic_load(&k->sleeping))
		return;
	poll_meter_call(&k->meter);
	/* Fails only when it is full of wakes already. */
	(void)eventfd_write(k->wake_fd, 1);
}

const struct stream_ops stream_kernel_ops = {
	.name = "kernel",
	.poll = kernel_poll,
	.send = kernel_send,
	.room = kernel_room,
	.want = kernel_want,
	.resume = kernel_resume,
	.close = kernel_close,
	.abort = kernel_abort,
	.drain = kernel_drain,
	.identify = kernel_identify,
	.wake = kernel_wake,
	.destroy = stream_kernel_destroy,
};
