/* serve_loop.c - the client loop: sends on time, reads at once (io_uring) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "bench/serve_loop_private.h"

#define RING_ENTRIES 4096
#define COMPLETIONS_MAX 65536
#define TICK_NS (50 * NS_PER_MS)

uint64_t loop_now(struct serve_loop *loop)
{
	uint64_t now_ns = mono_diff(mono_now(), loop->setup->start);

	/* 0 stands for "never". */
	loop->now_ns = now_ns ? now_ns : 1;
	return loop->now_ns;
}

const struct serve_expect *loop_expect(
	const struct serve_loop *loop, uint32_t item, struct serve_expect *out)
{
	*out = loop->plan->expect;
	out->output_tokens = loop->plan->items[item].output_tokens;
	return out;
}

/* --- items ----------------------------------------------------------------- */

static void count_fault(
	struct serve_faults *faults, const struct serve_reply *reply)
{
	enum serve_fault fault = reply->verdict.fault;
	int status = reply->verdict.status;

	if (fault == SERVE_FAULT_NONE)
		return;
	if (faults->counts[fault]++ == 0)
		memcpy(faults->examples[fault], reply->example,
			sizeof(reply->example));
	if (fault == SERVE_FAULT_STATUS && status >= 100 && status < 600)
		faults->statuses[status]++;
}

void loop_item_done(struct serve_loop *loop, uint32_t item,
	struct serve_reply *reply, enum serve_outcome outcome)
{
	struct serve_result *result = &loop->plan->results[item];
	const struct serve_verdict *verdict = &reply->verdict;
	struct serve_live *live = loop->setup->live;
	uint64_t hash = loop->plan->items[item].text_hash;

	if (outcome == SERVE_COMPLETED && hash && hash != verdict->text_hash) {
		serve_reply_fault(reply, SERVE_FAULT_TEXT, NULL, 0);
		outcome = SERVE_FAILED;
	}
	result->outcome = (uint8_t)outcome;
	result->fault = (uint8_t)verdict->fault;
	result->finish = (uint8_t)verdict->finish;
	result->status = (uint16_t)verdict->status;
	result->first_ns = verdict->first_ns;
	result->last_ns = verdict->last_ns;
	result->end_ns = loop_now(loop);
	result->text_hash = verdict->text_hash;
	result->text_bytes = verdict->text_bytes;
	result->byte_count = verdict->byte_count;
	result->chunk_count = verdict->chunk_count;
	result->gap_count = verdict->chunk_count ? verdict->chunk_count - 1 : 0;
	if (result->gap_count > loop->plan->items[item].gap_room)
		result->gap_count = loop->plan->items[item].gap_room;
	result->has_usage = verdict->has_usage;
	result->prompt_tokens = verdict->prompt_tokens;
	result->completion_tokens = verdict->completion_tokens;
	result->cached_tokens = verdict->cached_tokens;
	if (reply->expect.keep_text && reply->text.length)
		result->text = strndup(reply->text.data, reply->text.length);
	if (outcome == SERVE_FAILED)
		count_fault(loop->faults, reply);
	loop->left_count--;
	serve_live_add(outcome == SERVE_COMPLETED ? &live->done : &live->failed,
		outcome != SERVE_CANCELLED);
	atomic_store_explicit(
		&live->in_flight, loop->active_count, memory_order_relaxed);
}

/* A heap: the smallest at_ns is at 0. */
bool loop_resend(struct serve_loop *loop, uint32_t item, uint64_t at_ns)
{
	struct resend *heap = loop->resends;
	size_t at = loop->resend_count;

	if (at == loop->resend_room) {
		size_t room = at ? 2 * at : 64;

		heap = reallocarray(loop->resends, room, sizeof(*heap));
		if (!heap)
			return false;
		loop->resends = heap;
		loop->resend_room = room;
	}
	loop->resend_count++;
	while (at > 0 && heap[(at - 1) / 2].at_ns > at_ns) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = (struct resend){at_ns, item};
	return true;
}

static void pop_resend(struct serve_loop *loop)
{
	struct resend *heap = loop->resends;
	size_t count = --loop->resend_count, at = 0;
	struct resend last = heap[count];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < count &&
			heap[child + 1].at_ns < heap[child].at_ns)
			child++;
		if (child >= count || heap[child].at_ns >= last.at_ns)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
}

/* --- what is due ----------------------------------------------------------- */

static bool is_closed_loop(const struct serve_loop *loop)
{
	return loop->setup->concurrency > 0;
}

static bool may_start(const struct serve_loop *loop)
{
	if (loop->next >= loop->plan->count)
		return false;
	if (is_closed_loop(loop))
		return loop->active_count < loop->setup->concurrency;
	return loop->plan->items[loop->next].due_ns <= loop->now_ns;
}

static void start_next(struct serve_loop *loop, bool *blocked)
{
	uint32_t item = (uint32_t)loop->next;
	struct serve_result *result = &loop->plan->results[item];

	result->due_ns = is_closed_loop(loop) ? loop->now_ns
					      : loop->plan->items[item].due_ns;
	result->outcome = SERVE_RUNNING;
	*blocked = !connection_start(loop, item);
	if (*blocked) {
		result->outcome = SERVE_NOT_SENT;
		if (!loop->is_waiting)
			serve_live_add(&loop->setup->live->waited, 1);
		loop->is_waiting = true;
		return;
	}
	loop->is_waiting = false;
	loop->next += loop->setup->stride;
	serve_live_add(&loop->setup->live->started, 1);
}

static void start_due(struct serve_loop *loop)
{
	bool blocked = false;

	loop_now(loop);
	while (!blocked && loop->resend_count &&
		loop->resends[0].at_ns <= loop->now_ns) {
		blocked = !connection_start(loop, loop->resends[0].item);
		if (!blocked)
			pop_resend(loop);
	}
	while (!blocked && may_start(loop))
		start_next(loop, &blocked);
	atomic_store_explicit(&loop->setup->live->in_flight, loop->active_count,
		memory_order_relaxed);
}

/* How long there is nothing to send. */
static uint64_t wait_ns(const struct serve_loop *loop)
{
	uint64_t until = loop->now_ns + TICK_NS;

	if (loop->is_waiting)
		return TICK_NS;
	if (!is_closed_loop(loop) && loop->next < loop->plan->count &&
		loop->plan->items[loop->next].due_ns < until)
		until = loop->plan->items[loop->next].due_ns;
	if (loop->resend_count && loop->resends[0].at_ns < until)
		until = loop->resends[0].at_ns;
	return until > loop->now_ns ? until - loop->now_ns : 0;
}

/* --- time-outs and the end ------------------------------------------------- */

static bool has_item(const struct connection *connection)
{
	return connection->state == CONNECTION_OPENING ||
	       connection->state == CONNECTION_BUSY;
}

static void expire(struct serve_loop *loop)
{
	for (uint32_t i = 0; i < loop->opened; i++) {
		struct connection *connection = &loop->connections[i];

		if (has_item(connection) &&
			connection->deadline_ns <= loop->now_ns)
			connection_fail(loop, connection, SERVE_FAULT_TIMEOUT,
				connection->state == CONNECTION_OPENING
					? "while connecting"
					: NULL);
	}
}

static int reap(struct serve_loop *loop, uint64_t timeout_ns)
{
	struct __kernel_timespec timeout = {
		.tv_sec = (int64_t)(timeout_ns / NS_PER_S),
		.tv_nsec = (int64_t)(timeout_ns % NS_PER_S)};
	struct io_uring_cqe *cqe;
	unsigned head, count = 0;
	int rc = io_uring_submit_and_wait_timeout(
		&loop->ring, &cqe, 1, &timeout, NULL);

	if (rc < 0 && rc != -ETIME && rc != -EINTR && rc != -EBUSY)
		return rc;
	io_uring_for_each_cqe(&loop->ring, head, cqe)
	{
		count++;
		connection_event(loop, cqe);
	}
	io_uring_cq_advance(&loop->ring, count);
	return 0;
}

/* End every connection and wait until the kernel has let go of them. */
static int wind_down(struct serve_loop *loop)
{
	int rc = 0;

	for (uint32_t i = 0; i < loop->opened; i++) {
		struct connection *connection = &loop->connections[i];

		if (has_item(connection)) {
			loop->active_count--;
			loop_item_done(loop, connection->item,
				&connection->reply, SERVE_CANCELLED);
		}
		if (connection->state != CONNECTION_FREE &&
			connection->state != CONNECTION_CLOSING)
			loop_connection_close(loop, connection);
	}
	while (rc == 0 && loop->open_count)
		rc = reap(loop, TICK_NS);
	return rc;
}

static int run(struct serve_loop *loop)
{
	uint64_t expire_ns = TICK_NS;
	int rc = 0;

	while (rc == 0 && loop->left_count &&
		!atomic_load_explicit(
			loop->setup->stop, memory_order_relaxed)) {
		start_due(loop);
		if (!loop->left_count)
			break;
		rc = reap(loop, wait_ns(loop));
		if (loop_now(loop) >= expire_ns) {
			expire(loop);
			expire_ns = loop->now_ns + TICK_NS;
		}
	}
	if (rc == 0)
		rc = wind_down(loop);
	return rc;
}

/* --- setting up ------------------------------------------------------------ */

static void *map(size_t size_bytes)
{
	void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static int make_buffers(struct serve_loop *loop)
{
	const size_t ring_bytes =
		SERVE_BUFFER_COUNT * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg registration = {
		.ring_entries = SERVE_BUFFER_COUNT, .bgid = SERVE_BUFFER_GROUP};
	int mask = io_uring_buf_ring_mask(SERVE_BUFFER_COUNT);

	loop->buffer_ring = map(ring_bytes);
	loop->buffers = map((size_t)SERVE_BUFFER_COUNT * SERVE_BUFFER_BYTES);
	if (!loop->buffer_ring || !loop->buffers)
		return -ENOMEM;
	registration.ring_addr = (uintptr_t)loop->buffer_ring;
	io_uring_buf_ring_init(loop->buffer_ring);
	for (uint16_t i = 0; i < SERVE_BUFFER_COUNT; i++)
		io_uring_buf_ring_add(loop->buffer_ring,
			loop->buffers + (size_t)i * SERVE_BUFFER_BYTES,
			SERVE_BUFFER_BYTES, i, mask, i);
	io_uring_buf_ring_advance(loop->buffer_ring, (int)SERVE_BUFFER_COUNT);
	return io_uring_register_buf_ring(&loop->ring, &registration, 0);
}

/*
 * One thread's ring may be mapped where another's was until now. Only the
 * kernel sees that order; held around both it is one of threads, too.
 */
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;

static int make_ring(struct serve_loop *loop)
{
	struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE |
						  IORING_SETUP_SINGLE_ISSUER |
						  IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = COMPLETIONS_MAX};
	int rc;

	pthread_mutex_lock(&ring_lock);
	rc = io_uring_queue_init_params(RING_ENTRIES, &loop->ring, &params);
	/* Older kernels know no deferred work. */
	if (rc == -EINVAL) {
		memset(&params, 0, sizeof(params));
		params.flags = IORING_SETUP_CQSIZE;
		params.cq_entries = COMPLETIONS_MAX;
		rc = io_uring_queue_init_params(
			RING_ENTRIES, &loop->ring, &params);
	}
	pthread_mutex_unlock(&ring_lock);
	return rc;
}

static void unmake_ring(struct serve_loop *loop)
{
	pthread_mutex_lock(&ring_lock);
	io_uring_queue_exit(&loop->ring);
	pthread_mutex_unlock(&ring_lock);
}

static void unmake(struct serve_loop *loop)
{
	for (uint32_t i = 0; i < loop->opened; i++)
		serve_reply_release(&loop->connections[i].reply);
	free(loop->connections);
	free(loop->resends);
	if (loop->buffer_ring)
		munmap(loop->buffer_ring,
			SERVE_BUFFER_COUNT * sizeof(struct io_uring_buf));
	if (loop->buffers)
		munmap(loop->buffers,
			(size_t)SERVE_BUFFER_COUNT * SERVE_BUFFER_BYTES);
}

static uint64_t count_items(const struct serve_loop_setup *setup)
{
	size_t count = setup->plan->count;

	if (setup->first >= count)
		return 0;
	return (count - setup->first - 1) / setup->stride + 1;
}

int serve_loop_run(const struct serve_loop_setup *setup,
	struct serve_faults *faults, struct error *err)
{
	struct serve_loop loop = {.setup = setup,
		.plan = setup->plan,
		.faults = faults,
		.free_list = NO_CONNECTION,
		.idle_list = NO_CONNECTION,
		.next = setup->first,
		.left_count = count_items(setup)};
	int rc;

	assert(setup->stride > 0 && setup->connection_max > 0);
	memset(faults, 0, sizeof(*faults));
	/* The default slack of 50 us would show in every instant. */
	(void)prctl(PR_SET_TIMERSLACK, 1);
	loop.connections =
		calloc(setup->connection_max, sizeof(*loop.connections));
	if (!loop.connections)
		return error_set(err, ENOMEM, "no memory for connections");
	rc = make_ring(&loop);
	if (rc) {
		error_set(err, -rc, "io_uring: %s", strerror(-rc));
		unmake(&loop);
		return rc;
	}
	rc = make_buffers(&loop);
	if (rc == 0)
		rc = run(&loop);
	if (rc)
		error_set(err, -rc, "client loop: %s", strerror(-rc));
	unmake_ring(&loop);
	unmake(&loop);
	return rc;
}
