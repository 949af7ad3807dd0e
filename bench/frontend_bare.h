/* frontend_bare.h - the least that could send the same bytes (recording -> sockets) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the floor under a front end: a loop on io_uring that does nothing
 *          but send, to as many sockets, the bytes that the real one sends,
 *          one send per event and socket. No HTTP is parsed beyond finding
 *          the end of a request.
 * What:    a forked process, so that its CPU time can be read apart.
 */
#ifndef HEDDLE_BENCH_FRONTEND_BARE_H
#define HEDDLE_BENCH_FRONTEND_BARE_H

#include <stdint.h>
#include <sys/types.h>

#include "bench/serve_client.h"

struct frontend_bare {
	pid_t pid; /* 0 = not running */
	struct serve_target target;
	uint64_t event_count; /* per stream: pieces of the recording */
};

/*
 * Serve `stream_count` requests, all of them at once, each with the recording,
 * then end. -errno.
 */
int frontend_bare_start(const struct serve_bytes *recording,
	uint32_t stream_count, struct frontend_bare *out, struct error *err);

/* Wait for its end; the CPU seconds that it took; -errno. */
int frontend_bare_end(
	struct frontend_bare *bare, double *cpu_s, struct error *err);

/*
 * Where the events of a recording end: after each blank line of an event with
 * the end of its HTTP chunk, and at the end. At most `room`; how many.
 */
size_t frontend_bare_cut(
	const char *data, size_t length, size_t *ends, size_t room);

#endif
