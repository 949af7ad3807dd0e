/* stream_kernel_ring.c - the io_uring under the streams (entries <-> kernel) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/stream_kernel_private.h"

/*
 * One thread submits and completions are handed over only when it asks
 * (Linux 6.1); without interrupting it (5.19); else plain. The ring starts
 * disabled so that its one thread is the one that polls, not the one that
 * creates.
 */
static int init_ring(struct io_uring *ring, unsigned entries)
{
	static const unsigned choices[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_SUBMIT_ALL,
		0,
	};
	int rc = -EINVAL;

	for (size_t i = 0; i < 3 && rc == -EINVAL; i++)
		rc = io_uring_queue_init(
			entries, ring, choices[i] | IORING_SETUP_R_DISABLED);
	return rc;
}

static unsigned entry_count(uint32_t stream_count)
{
	unsigned count = 64;

	while (count < STREAM_SUBMISSION_COUNT_MAX && count < stream_count)
		count *= 2;
	return count;
}

static int refuse(struct error *err, const char *call, int rc)
{
	if (rc == -ENOMEM)
		return error_set(err, ENOMEM, "%s: no memory", call);
	if (rc == -EMFILE || rc == -ENFILE)
		return error_set(err, ENOMEM, "%s: %s", call, strerror(-rc));
	return error_set(err, ENOSYS,
		"%s: %s; kernel sockets need io_uring of Linux 5.19 or newer "
		"(6.1 is better): look at sysctl kernel.io_uring_disabled and "
		"at the container's seccomp profile",
		call, strerror(-rc));
}

int stream_ring_create(struct stream_kernel *k, struct error *err)
{
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)k->posted,
		.ring_entries = k->posted_ring_count,
		.bgid = STREAM_BUFFER_GROUP,
	};
	int rc = init_ring(&k->ring, entry_count(k->limits.stream_count));

	if (rc)
		return refuse(err, "io_uring_setup", rc);
	k->ring_ready = true;
	if (!(k->ring.features & IORING_FEAT_EXT_ARG))
		return refuse(err, "io_uring_setup", -ENOSYS);
	rc = io_uring_register_buf_ring(&k->ring, &reg, 0);
	if (rc)
		return refuse(err, "io_uring_register (buffer ring)", rc);
	io_uring_buf_ring_init(k->posted);
	return 0;
}

/*
 * -EBUSY and -EAGAIN: completions must be taken first, or the kernel lacks
 * memory; the entries stay where they are and go with the next turn. The rest
 * would be a second thread or a broken ring.
 */
static void check_submit(struct stream_kernel *k, int rc)
{
	assert(rc >= 0 || rc == -EBUSY || rc == -EAGAIN || rc == -EINTR ||
		rc == -ETIME || rc == -ENOMEM);
	if (io_uring_sq_ready(&k->ring) == 0)
		k->message_count = 0;
}

bool stream_ring_space(struct stream_kernel *k)
{
	if (io_uring_sq_space_left(&k->ring) >= STREAM_SETTLE_COUNT &&
		k->message_count < STREAM_MESSAGE_COUNT)
		return true;
	check_submit(k, io_uring_submit(&k->ring));
	return io_uring_sq_space_left(&k->ring) >= STREAM_SETTLE_COUNT &&
	       k->message_count < STREAM_MESSAGE_COUNT;
}

struct io_uring_sqe *stream_ring_entry(
	struct stream_kernel *k, uint32_t index, enum stream_operation op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&k->ring);

	assert(sqe);
	/* The prep functions leave user_data alone. */
	io_uring_sqe_set_data64(sqe, (uint64_t)op << 32 | index);
	k->operation_count++;
	return sqe;
}

void stream_ring_cancel(struct stream_kernel *k, uint32_t index,
	enum stream_operation op, enum stream_operation as, uint32_t as_index)
{
	struct io_uring_sqe *sqe = stream_ring_entry(k, as_index, as);

	/* By what the entry was called, which the kernel finds at once: by
	 * descriptor it would look at all that is in flight. */
	io_uring_prep_cancel64(sqe, (uint64_t)op << 32 | index, 0);
}

void stream_ring_enter(struct stream_kernel *k, uint64_t wait_until_ns)
{
	struct io_uring_cqe *cqe;
	struct __kernel_timespec left;
	uint64_t wait_ns;

	if (wait_until_ns <= k->now_ns || io_uring_cq_ready(&k->ring) > 0) {
		check_submit(k, io_uring_submit(&k->ring));
		return;
	}
	/* Pairs with stream_loop_wake(): one of the two sees the other. */
	atomic_store(&k->sleeping, true);
	if (atomic_load(&k->woken)) {
		check_submit(k, io_uring_submit(&k->ring));
	} else {
		wait_ns = wait_until_ns - k->now_ns;
		left.tv_sec = (long long)(wait_ns / NS_PER_S);
		left.tv_nsec = (long long)(wait_ns % NS_PER_S);
		check_submit(k, io_uring_submit_and_wait_timeout(
					&k->ring, &cqe, 1, &left, NULL));
	}
	atomic_store(&k->sleeping, false);
}

/* Without handlers: only what is in flight, and what must be closed. */
static void forget_completions(struct stream_kernel *k)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_for_each_cqe(&k->ring, head, cqe)
	{
		uint64_t op = cqe->user_data >> 32;
		uint32_t index = (uint32_t)cqe->user_data;

		seen++;
		if (cqe->flags & IORING_CQE_F_MORE)
			continue;
		if (op == STREAM_OP_ACCEPT && cqe->res >= 0)
			close(cqe->res);
		if (op == STREAM_OP_WAKE)
			k->wake_armed = false;
		else if (op == STREAM_OP_BELL)
			k->bell_armed = false;
		else if (op != STREAM_OP_DRAIN)
			k->streams[index].in_flight &= (uint8_t)~op;
		k->operation_count--;
	}
	io_uring_cq_advance(&k->ring, seen);
}

static void call_back_one(
	struct stream_kernel *k, uint32_t index, enum stream_operation op)
{
	if (!stream_ring_space(k))
		forget_completions(k);
	if (stream_ring_space(k))
		stream_ring_cancel(k, index, op, STREAM_OP_DRAIN, 0);
}

static void call_back_all(struct stream_kernel *k)
{
	static const enum stream_operation ops[] = {
		STREAM_OP_ACCEPT, STREAM_OP_RECEIVE, STREAM_OP_SEND};

	if (k->wake_armed)
		call_back_one(k, 0, STREAM_OP_WAKE);
	if (k->bell_armed)
		call_back_one(k, 0, STREAM_OP_BELL);
	for (uint32_t i = 0; i < k->limits.stream_count; i++)
		for (size_t o = 0; o < 3; o++)
			if (k->streams[i].in_flight & ops[o])
				call_back_one(k, i, ops[o]);
}

/*
 * Call everything back and wait for it: the kernel must not write into memory
 * that is about to be freed. A thread other than the one that polled is
 * refused (-EEXIST); that one has ended then, and what it began is no longer
 * written anywhere without it. A round that misses something is followed by
 * another.
 */
static void call_back(struct stream_kernel *k)
{
	if (io_uring_submit_and_get_events(&k->ring) == -EEXIST)
		return;
	forget_completions(k);
	while (k->operation_count > 0) {
		int rc = 0;

		call_back_all(k);
		while (k->operation_count > 0 && rc != -ETIME) {
			struct __kernel_timespec wait = {
				.tv_nsec = STREAM_RETRY_NS};
			struct io_uring_cqe *cqe;

			rc = io_uring_submit_and_wait_timeout(
				&k->ring, &cqe, 1, &wait, NULL);
			check_submit(k, rc);
			forget_completions(k);
		}
	}
}

void stream_ring_destroy(struct stream_kernel *k)
{
	if (!k->ring_ready)
		return;
	if (k->ring_enabled)
		call_back(k);
	io_uring_queue_exit(&k->ring);
	k->ring_ready = false;
}
