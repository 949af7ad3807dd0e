/* adapters_steps.h - what adapters cost a decode step (world -> pairs) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
  * Pairs:   bench/adapters_pairs.h; a variant is a set of tokens.
 * Threads: one, beside the back end's.
 */
#ifndef HEDDLE_BENCH_ADAPTERS_STEPS_H
#define HEDDLE_BENCH_ADAPTERS_STEPS_H

#include "bench/adapters_pairs.h"
#include "bench/adapters_world.h"

#define STEPS_ROWS 8u

/* Base rows, with all adapters loaded / with none. */
int steps_idle(struct world *w, uint32_t pairs, struct pair_stats *out,
	struct error *err);

struct steps_mixed {
	uint32_t adapters, rows;
	struct pair_stats time; /* mixed / base */
	double byte_ratio; /* of what both read, over all variants */
	double step_bytes; /* of the base's step, mean */
};

/* Rows over out->adapters adapters / the same rows of the base. */
int steps_mixed(struct world *w, uint32_t pairs, struct steps_mixed *out,
	struct error *err);

struct steps_reroute {
	struct pair_stats routers; /* of all layers, with the map - without */
	double step_ns; /* median of a step */
};

int steps_reroute(struct world *w, uint32_t pairs, struct steps_reroute *out,
	struct error *err);

#endif
