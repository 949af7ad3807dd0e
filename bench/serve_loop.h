/* serve_loop.h - the client loop: sends on time, reads at once (io_uring) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    one thread that carries every stride-th item of a plan. Open loop:
 *          an item is sent when it is due, whatever else is under way; closed
 *          loop: `concurrency` items are under way at all times.
 * Connections are kept alive and used again; a kept one that turns out to
 *          have ended before a byte of the answer costs a new connection,
 *          not a failure. When connection_max are open, due items wait, and
 *          their latency counts from when they were due.
 * 429:     counted as a failure, or sent again after the time that the server
 *          asks for, up to retry_max times.
 * Memory:  connection_max structs, touched as they are used, and 16 MiB of
 *          receive buffers; nothing is allocated per token.
 * Threads: serve_loop_run() on the calling thread; setup.stop and the live
 *          figures are shared.
 */
#ifndef HEDDLE_BENCH_SERVE_LOOP_H
#define HEDDLE_BENCH_SERVE_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/error.h"
#include "bench/serve_live.h"
#include "bench/serve_plan.h"

/* How often each fault was seen, and the first case of it. */
struct serve_faults {
	uint64_t counts[SERVE_FAULT_COUNT];
	char examples[SERVE_FAULT_COUNT][SERVE_EXAMPLE_BYTES];
	uint64_t statuses[600]; /* of SERVE_FAULT_STATUS, by number */
};

struct serve_loop_setup {
	struct sockaddr_storage address;
	socklen_t address_bytes;
	const struct serve_plan *plan; /* its results are written */
	uint32_t first, stride; /* items first, first + stride, ... */
	uint32_t concurrency; /* closed loop; 0 = open */
	uint32_t connection_max; /* > 0 */
	uint32_t retry_max;
	uint64_t timeout_ns; /* of one request, from its sending */
	bool fresh; /* a new connection for every request */
	struct mono start;
	const atomic_bool *stop; /* cancels what is under way and returns */
	struct serve_live *live;
};

/*
 * Until every item has ended or stop is set. *faults is filled. -errno only
 * where the loop itself cannot run (no io_uring, no memory).
 */
int serve_loop_run(const struct serve_loop_setup *setup,
	struct serve_faults *faults, struct error *err);

#endif
