/* router_ref.c - choosing experts (rows -> slots and weights) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order of the arithmetic, in float: a logit is a dot product (dot_ref.h);
 * a softmax subtracts the largest logit and divides by the sum of the
 * exponentials, added in ascending expert order (ROUTER_SOFTMAX) or in rank
 * order (ROUTER_TOPK_SOFTMAX); the sum that normalises is added in rank
 * order; then comes the scale.
 *
 * NaN: where experts or groups are compared, NaN counts as -inf, so that the
 *      ids are always experts of groups that won, no two of them equal.
 *      Scores keep their NaN: it reaches the row's weights and from there
 *      its logits, where the request fails by name. Other rows never see it.
 */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/dot_ref.h"
#include "gpu/cpu/router_rule.h"

struct router_job {
	struct ref_backend *ref;
	const struct router_args *args;
};

/* A worker's notes on one row. */
struct route {
	float *score; /* [E]: logits first */
	float *choice; /* [E] */
	float *group; /* [group_count] */
	bool *closed; /* [E]: lost its group, or taken already */
	bool *group_taken; /* [group_count] */
};

/* The largest of those that are not closed, ties to the lower index. */
static uint32_t best_open(
	const float *value, const bool *closed, uint32_t count)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < count; i++)
		if (!closed[i] &&
			(best == UINT32_MAX || value[i] > value[best]))
			best = i;
	assert(best != UINT32_MAX);
	return best;
}

static void softmax(float *value, uint32_t count)
{
	float most = -INFINITY, sum = 0;

	for (uint32_t i = 0; i < count; i++)
		if (value[i] > most)
			most = value[i];
	for (uint32_t i = 0; i < count; i++) {
		value[i] = expf(value[i] - most);
		sum += value[i];
	}
	for (uint32_t i = 0; i < count; i++)
		value[i] /= sum;
}

static void score_row(
	const struct router_args *args, const float *x, struct route *route)
{
	const struct weight *gate = &args->gate;
	uint32_t count = args->params.expert_count;

	for (uint32_t e = 0; e < count; e++)
		route->score[e] = dot_ref(x,
			row_ref(gate->data, gate->type, gate->cols, e),
			gate->type, gate->cols);
	if (args->params.score == ROUTER_SOFTMAX)
		softmax(route->score, count);
	for (uint32_t e = 0; e < count; e++) {
		float score = route->score[e];

		if (args->params.score == ROUTER_SIGMOID)
			score = 1.0f / (1.0f + expf(-score));
		route->score[e] = score;
		if (args->bias)
			score += args->bias[e];
		route->choice[e] = router_comparable(score);
	}
}

/* Close the experts of the groups that lose. */
static void close_groups(
	const struct router_params *params, struct route *route)
{
	uint32_t width = params->expert_count / params->group_count;

	for (uint32_t g = 0; g < params->group_count; g++) {
		route->group[g] = router_group_score(params->group,
			route->choice + (size_t)g * width, width);
		route->group_taken[g] = false;
	}
	memset(route->closed, true,
		params->expert_count * sizeof(*route->closed));
	for (uint32_t i = 0; i < params->group_topk; i++) {
		uint32_t g = best_open(
			route->group, route->group_taken, params->group_count);

		route->group_taken[g] = true;
		memset(route->closed + (size_t)g * width, false,
			width * sizeof(*route->closed));
	}
}

static void weigh(const struct router_params *params, float *weight)
{
	float sum = 0;

	if (params->score == ROUTER_TOPK_SOFTMAX)
		softmax(weight, params->topk);
	for (uint32_t k = 0; k < params->topk; k++)
		sum += weight[k];
	sum += params->normalise_epsilon;
	for (uint32_t k = 0; k < params->topk; k++) {
		if (params->normalise)
			weight[k] /= sum;
		weight[k] *= params->scale;
	}
}

static void route_row(
	const struct router_args *args, size_t row, struct route *route)
{
	const struct router_params *params = &args->params;
	const uint16_t *map = router_map(args, row);
	size_t first = row * params->topk;

	score_row(args, args->x + row * args->gate.cols, route);
	if (params->group == ROUTER_GROUP_NONE)
		memset(route->closed, false,
			params->expert_count * sizeof(*route->closed));
	else
		close_groups(params, route);
	for (uint32_t k = 0; k < params->topk; k++) {
		uint32_t e = best_open(
			route->choice, route->closed, params->expert_count);

		route->closed[e] = true;
		args->expert[first + k] = (uint16_t)e;
		args->slot[first + k] = map ? map[e] : (uint16_t)e;
		args->weight[first + k] = route->score[e];
	}
	weigh(params, args->weight + first);
}

static void route_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct router_job *job = arg;
	size_t count = job->args->params.expert_count;
	struct route route;

	/* No more groups than experts. */
	route.score = ref_scratch(job->ref, worker,
		count * (3 * sizeof(float) + 2 * sizeof(bool)));
	route.choice = route.score + count;
	route.group = route.choice + count;
	route.closed = (void *)(route.group + count);
	route.group_taken = route.closed + count;
	for (size_t row = first; row < end; row++)
		route_row(job->args, row, &route);
}

int ref_router(struct ops *ops, const struct router_args *args)
{
	struct router_job job = {ref_of(ops), args};

	router_check(args);
	workers_run(job.ref->workers, args->rows.count, route_rows, &job);
	return 0;
}
