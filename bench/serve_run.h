/* serve_run.h - a plan carried out by loops, with a line of progress */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads: starts thread_count loops and waits for them; the caller's thread
 *          prints progress to stderr and reads signals.
 * Signals: SIGINT and SIGTERM are blocked by serve_run_block_signals(), which
 *          is called once, before any thread; during a run they end it
 *          cleanly, with what was measured so far.
 */
#ifndef HEDDLE_BENCH_SERVE_RUN_H
#define HEDDLE_BENCH_SERVE_RUN_H

#include "bench/serve_client.h"
#include "bench/serve_loop.h"

struct serve_run_setup {
	const struct serve_target *target;
	struct serve_plan *plan; /* sealed; results are filled in */
	uint32_t thread_count, concurrency, connection_max, retry_max;
	uint64_t timeout_ns;
	uint64_t duration_ns; /* 0 = until every item has ended */
	bool fresh;
	bool progress;
	int signal_fd; /* -1 = none */
	/* Called once, by the caller's thread, note_ns after the start. */
	void (*note)(void *arg);
	void *note_arg;
	uint64_t note_ns;
};

struct serve_run {
	struct serve_faults faults;
	uint64_t waited, reconnects, retries;
	bool interrupted; /* by a signal */
};

/* A signalfd for SIGINT and SIGTERM; -errno. */
int serve_run_block_signals(void);

/* As many connections as descriptors allow, raised to the hard limit. */
uint32_t serve_run_connection_max(void);

int serve_run(const struct serve_run_setup *setup, struct serve_run *out,
	struct error *err);

#endif
