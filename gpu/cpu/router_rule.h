/* router_rule.h - what every CPU router decides alike (scores -> order) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the back ends compute scores in their own order of sums, but which
 *          parameters are possible, how a NaN compares and what a group is
 *          worth is one rule (gpu/ops.h, struct router_args).
 * Threads: pure functions.
 */
#ifndef HEDDLE_GPU_CPU_ROUTER_RULE_H
#define HEDDLE_GPU_CPU_ROUTER_RULE_H

#include <assert.h>
#include <math.h>
#include <stdint.h>

#include "gpu/ops.h"

/* A NaN loses every comparison. */
static inline float router_comparable(float value)
{
	return isnan(value) ? -INFINITY : value;
}

/* The worth of a group of `count` experts with comparable choices. */
static inline float router_group_score(
	enum router_group rule, const float *choice, uint32_t count)
{
	float best = -INFINITY, second = -INFINITY;

	for (uint32_t i = 0; i < count; i++) {
		if (choice[i] > best) {
			second = best;
			best = choice[i];
		} else if (choice[i] > second) {
			second = choice[i];
		}
	}
	return rule == ROUTER_GROUP_MAX ? best
					: router_comparable(best + second);
}

/* The row of the expert map that a row runs under; NULL: there is no map. */
static inline const uint16_t *router_map(
	const struct router_args *args, size_t row)
{
	return args->map ? args->map + (size_t)args->rows.instance[row] *
					       args->instance_stride
			 : NULL;
}

/* The engine's arguments; wrong ones are our bug. */
static inline void router_check(const struct router_args *args)
{
	const struct router_params *params = &args->params;
	uint32_t width;

	assert(args->gate.rows == params->expert_count);
	assert(params->topk > 0 && params->topk <= params->expert_count);
	assert(params->expert_count <= (uint32_t)UINT16_MAX + 1);
	if (params->group == ROUTER_GROUP_NONE)
		return;
	assert(params->group_count > 0);
	assert(params->expert_count % params->group_count == 0);
	width = params->expert_count / params->group_count;
	assert(params->group != ROUTER_GROUP_TOP2 || width >= 2);
	assert(params->group_topk <= params->group_count);
	/* The groups that win hold enough to choose from. */
	assert((uint64_t)params->group_topk * width >= params->topk);
}

#endif
