/* frontend_load.h - loads for the front end (what to send -> plan, figures) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: prompts of 16 ids, one of FRONTEND_SEED_COUNT seeds each. The null
 *          device's tokens depend on seed and position alone, so a stream is
 *          exact to the byte when its text is that of the answer that came
 *          whole for the same seed.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_FRONTEND_LOAD_H
#define HEDDLE_BENCH_FRONTEND_LOAD_H

#include "bench/serve_run.h"
#include "bench/serve_summary.h"

#define FRONTEND_SEED_COUNT 16

/* Long prompts that come while streams run; kind 1 of the items. */
struct frontend_intruders {
	uint32_t count; /* of each size; 0 = none */
	uint64_t every_ns, from_ns;
	uint32_t small_bytes, large_bytes;
};

struct frontend_load {
	const struct serve_target *target;
	uint32_t stream_count, token_count;
	double rate; /* streams started per second */
	const uint64_t *hashes; /* [FRONTEND_SEED_COUNT], NULL = unchecked */
	struct frontend_intruders intruders;
	uint32_t thread_count;
	bool progress;
	int signal_fd;
	/* Called once, when all streams should have been opened. */
	void (*all_open)(void *arg);
	void *all_open_arg;
};

struct frontend_outcome {
	size_t completed, failed; /* of streams */
	size_t intruders_done, intruders_failed;
	uint64_t event_count; /* chunks with text */
	double duration_s;
	size_t peak_in_flight;
	double itl_p99_s, itl_median_s;
	struct serve_faults faults;
	uint64_t refused_count; /* 429, sent again */
	bool interrupted;
};

/* The hashes of the texts of all seeds, from answers that come whole. */
int frontend_references(const struct serve_target *target, uint32_t token_count,
	uint64_t hashes[FRONTEND_SEED_COUNT], struct error *err);

/* One stream's answer, as it came: head, chunks and all. */
int frontend_record(const struct serve_target *target, uint32_t token_count,
	struct serve_bytes *out, struct error *err);

int frontend_load_run(const struct frontend_load *load,
	struct frontend_outcome *out, struct error *err);

#endif
