/* capture.h - frames of a polled port into a file (loop -> ring -> pcap) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     what the kernel does not see, tcpdump does not show. Each loop
 *          copies frames into a ring of its own, its tap; a thread that lives
 *          as long as a capture writes them out, one tap after the other: each
 *          loop's frames are in their order. A full ring drops, counted:
 *          nobody waits for a disk.
 * Form:    pcap with nanoseconds, whole frames as the port gave or got them:
 *          where it computes checksums or cuts segments, what goes out shows
 *          neither.
 * Bound:   a record that would make the file larger than max_bytes ends the
 *          capture.
 * Ownership: the descriptor is the capture's from start() on, with an error
 *          too. The counters stay the caller's.
 * Threads: one loop puts into a tap; start(), stop() and destroy() any, one at
 *          a time by a lock. The loops must have ended before destroy().
 */
#ifndef HEDDLE_DATAPLANE_CAPTURE_H
#define HEDDLE_DATAPLANE_CAPTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/counters.h"
#include "base/error.h"
#include "base/limits.h"

#define CAPTURE_RING_BYTES ((size_t)4 << 20)
#define CAPTURE_BYTES_MIN 4096

struct capture;

/* Where one loop puts its frames. */
struct capture_tap {
	/* the loop's line */
	_Alignas(64) _Atomic uint64_t head; /* free-running bytes */
	const struct capture *capture;
	struct capture_counters *counters; /* borrowed: `dropped` */
	uint8_t *ring; /* owned, from the first start on */
	/* the writing thread's line */
	_Alignas(64) _Atomic uint64_t tail;
};

struct capture {
	struct capture_tap taps[FRONT_COUNT_MAX]; /* on lines of their own */
	/* 0 = nobody captures; else the serial of the capture. Set by those who
	 * start and stop, read by the loops. */
	_Atomic uint64_t serial;
	pthread_mutex_t lock; /* of starting and stopping */
	pthread_t thread;
	bool started; /* the thread is to be joined */
	uint32_t tap_count;
	struct capture_counters *counters; /* borrowed, the first tap's */
	uint64_t own_serial, max_bytes; /* of the capture */
	uint64_t epoch_ns; /* what to add to mono for the time of day */
	/* the writing thread's */
	uint64_t written_bytes;
	uint8_t *block; /* owned: gathers what is written at once */
	size_t block_bytes;
	int fd;
	_Atomic bool ending; /* write what is there, then end */
};

/*
 * With a tap for each of 1 .. FRONT_COUNT_MAX loops. In counters[i] is what its
 * tap has dropped; all else is in the first's. A capture that was running in an
 * earlier life has failed. -ENOMEM.
 */
int capture_create(struct capture_counters *const *counters, uint32_t count,
	struct capture **out);

/* Stops. NULL is allowed. */
void capture_destroy(struct capture *capture);

/*
 * serial: not 0, another than before. -EBUSY (one runs), -EINVAL (max_bytes
 * below CAPTURE_BYTES_MIN), -ENOMEM, -EAGAIN, or what writing the head of the
 * file said.
 */
int capture_start(struct capture *capture, int fd, uint64_t max_bytes,
	uint64_t serial, struct error *err);

/* Returns when all is written. -ENOENT: none runs. */
int capture_stop(struct capture *capture, struct error *err);

/* The loop: is it worth to look at frames? NULL is allowed. */
static inline bool capture_wants(const struct capture_tap *tap)
{
	return tap && atomic_load_explicit(
			      &tap->capture->serial, memory_order_relaxed) != 0;
}

/* The loop: a frame at an instant. */
void capture_put(struct capture_tap *tap, const void *frame, size_t length,
	struct mono now);

#endif
