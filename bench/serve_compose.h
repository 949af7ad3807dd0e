/* serve_compose.h - the requests of a run (options, source -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     whole requests, head and body, are written out before the start.
 * Repeatable: the same options and seed give the same bytes and instants.
 * Memory:  refused with both numbers where the plan would exceed
 *          options.memory_max_bytes.
 */
#ifndef HEDDLE_BENCH_SERVE_COMPOSE_H
#define HEDDLE_BENCH_SERVE_COMPOSE_H

#include "bench/serve_plan.h"
#include "bench/serve_source.h"

/* How many requests, drawn with which seed. */
struct serve_draw {
	size_t count;
	uint64_t seed;
};

/* All of them, sealed. -EINVAL, -ENOMEM, -EFBIG; then *out is empty. */
int serve_compose(const struct serve_options *options,
	const struct serve_target *target, const struct serve_source *source,
	struct serve_draw draw, struct serve_plan *out, struct error *err);

/*
 * Append one request for a body that is there; for benchmarks with bodies of
 * their own. The plan is not yet sealed; item.offset and item.bytes are set.
 */
int serve_compose_add(struct serve_plan *plan, struct serve_bytes *data,
	const struct serve_target *target, const struct serve_call *call,
	struct serve_item item);

/*
 * Draws the model of each request by the law of the options, for tests too:
 * the sums of weights for serve_random_weighted(). out has model_count.
 */
void serve_model_sums(const struct serve_options *options, double *out);
uint32_t serve_model_draw(const struct serve_options *options,
	const double *sums, uint64_t index, struct serve_random *random);

#endif
