/* adapters_load.h - how fast an adapter is there, alone and beside decode */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load:     from files in the page cache to RESIDENT by some threads, of an
 *           adapter that tunes every expert; and memcpy of as many bytes by
 *           as many threads right behind it, in large pages. "Used" memory was
 *           written before, on both sides; "fresh" memory is touched by nobody
 *           yet, so that the system finds and clears each page: new pages of
 *           the engine's pool against a new mapping of a memory file. Both
 *           sides ask for large pages, each thread for its own.
 * Governor: one thread runs decode steps, as the rank's does, and between two
 *           of them maps, publishes and removes; another copies under the
 *           governor, beside steps on the cores that these leave. What the scheduler predicts for a quiet step is here the
 *           median of the quiet steps just before. Quiet stretches and
 *           stretches with loads take turns.
 */
#ifndef HEDDLE_BENCH_ADAPTERS_LOAD_H
#define HEDDLE_BENCH_ADAPTERS_LOAD_H

#include "bench/adapters_world.h"
#include "engine/lane_cores.h"

struct load_rates {
	double used, fresh; /* bytes per second, files to published; median */
	double copy_used, copy_fresh; /* of memcpy; median */
	/* where a load into used memory spends its time, ns; medians */
	double stage_ns, map_ns, copy_ns, publish_ns, unload_ns;
};

/* No adapter may be loaded. threads: 1 .. READER_LANE_COUNT_MAX. */
int load_measure(struct world *w, uint32_t rounds, uint32_t threads,
	struct load_rates *out, struct error *err);

struct load_governed {
	double quiet_p99_ns, beside_p99_ns; /* from step to step */
	double quiet_median_ns, beside_median_ns;
	double idle_rate, beside_rate; /* of the copies, bytes per second */
	uint32_t step_count, load_count; /* steps beside copies; loads */
};

int load_governed(struct world *w, const struct lane_cores *cores,
	uint32_t steps, struct load_governed *out, struct error *err);

#endif
