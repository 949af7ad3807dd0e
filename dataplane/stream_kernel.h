/* stream_kernel.h - byte streams over kernel sockets by io_uring */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       the `kernel` back end of stream.h: TCP sockets of the kernel,
 *             accepted, read, written and closed through one io_uring; one
 *             listener cannot take the last stream from another. Where a
 *             listener has TLS, stream_tls.h stands on top.
 * Ownership:  the loop owns the listening sockets once create has succeeded,
 *             and every connection. handler's arg stays the caller's.
 * Memory:     total_bytes is reserved, not touched: a quarter for receiving
 *             (in units of receive_bytes), the rest for sending (4 KiB each).
 *             An idle stream has its 192 bytes. send_bytes counts what has not yet been given
 *             to the kernel, which holds about as much again at most
 *             (TCP_NOTSENT_LOWAT) and what is in flight.
 * Lingering:  close() drops what the peer still sends for up to 1 s, so that
 *             no reset destroys the last answer.
 * Threads:    as stream.h; the thread of the first poll() is the loop's, and
 *             destroy() runs on it or after its end.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_KERNEL_H
#define HEDDLE_DATAPLANE_STREAM_KERNEL_H

#include "dataplane/stream.h"

#define STREAM_LISTENER_COUNT_MAX 8

struct poll_counters;

struct stream_listener {
	int fd; /* bound, listening, non-blocking */
	bool tls;
};

struct stream_kernel_config {
	struct stream_listener listeners[STREAM_LISTENER_COUNT_MAX];
	uint32_t listener_count;
	bool sleeps_only; /* there may be no listener */
	struct stream_limits limits;
	/* PEM texts, for listeners with tls; NULL when there is none. */
	const char *certificate, *key;
	size_t certificate_length, key_length;
	struct poll_counters *poll; /* borrowed; NULL = nothing is counted */
	int bell_fd; /* borrowed: readable ends a wait; 0 or -1 = none */
	/* Borrowed: a blocking eventfd that does what wake() does, and is read
	 * by it; 0 or -1 = nobody else has it. */
	int wake_fd;
	stream_handler *handler;
	void *arg;
};

/*
 * -EINVAL (bad certificate or key, said which), -ENOMEM, -ENOSYS (this kernel
 * or its seccomp has no io_uring; the text says what to do). With an error the
 * listening sockets stay the caller's.
 */
int stream_kernel_create(const struct stream_kernel_config *config,
	struct stream_loop *out, struct error *err);

#endif
