/* fast_router.c - choosing experts (rows -> slots and weights) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The logits of all rows are one linear; then a row at a time is chosen for,
 * by the rules of gpu/ops.h. The sum of a softmax takes sixteen lanes, expert
 * e in lane e % 16 ascending, and adds them in halves.
 *
 * NaN: as router_ref.c: where experts or groups are compared, NaN counts as
 *      -inf; scores keep it.
 */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/fast_gemm.h"
#include "gpu/cpu/router_rule.h"

struct job {
	struct fast_backend *fast;
	const struct router_args *args;
	const float *logits; /* [R][E] */
};

/* A worker's notes on one row. */
struct route {
	float *score; /* [E]: logits first */
	float *choice; /* [E] */
	float *group; /* [group_count] */
	bool *lost; /* [group_count] */
	uint32_t *taken; /* [topk] experts, best first */
};

static size_t score_room(const struct ops_limits *limits)
{
	return fast_room(0, limits->expert_count, sizeof(float));
}

/* score, choice, group, taken and lost, each with a place per expert. */
static size_t scratch_bytes(const struct ops_limits *limits)
{
	return fast_room(0, score_room(limits), 5);
}

struct fast_need FAST(fast_router_need)(const struct ops_limits *limits)
{
	struct fast_need need = FAST(fast_linear_need)(limits);

	need.shared = fast_room(need.shared,
		fast_room(0, limits->row_count, sizeof(float)),
		limits->expert_count);
	if (need.scratch < scratch_bytes(limits))
		need.scratch = scratch_bytes(limits);
	return need;
}

static size_t lanes_at(size_t first, size_t count)
{
	return count - first < VEC_LANES ? count - first : VEC_LANES;
}

static void softmax(float *value, uint32_t count)
{
	float most = -INFINITY;
	struct vec sum = vec_set(0);

	for (uint32_t i = 0; i < count; i++)
		if (value[i] > most)
			most = value[i];
	for (uint32_t i = 0; i < count; i += VEC_LANES) {
		size_t some = lanes_at(i, count);
		struct vec x = vec_load_part(value + i, some);

		vec_store_part(
			value + i, vec_exp(vec_sub(x, vec_set(most))), some);
		sum = vec_add(sum, vec_load_part(value + i, some));
	}
	sum = vec_set(vec_sum(sum));
	for (uint32_t i = 0; i < count; i += VEC_LANES) {
		size_t some = lanes_at(i, count);
		struct vec x = vec_load_part(value + i, some);

		vec_store_part(value + i, vec_div(x, sum), some);
	}
}

/* e^x / (1 + e^x), which is 0 where e^x is. */
static void sigmoid(float *value, uint32_t count)
{
	struct vec one = vec_set(1);

	for (uint32_t i = 0; i < count; i += VEC_LANES) {
		size_t some = lanes_at(i, count);
		struct vec e = vec_exp(vec_load_part(value + i, some));

		vec_store_part(value + i, vec_div(e, vec_add(one, e)), some);
	}
}

static void score_row(const struct router_args *args, const float *logits,
	struct route *route)
{
	uint32_t count = args->params.expert_count;

	memcpy(route->score, logits, count * sizeof(*logits));
	if (args->params.score == ROUTER_SOFTMAX)
		softmax(route->score, count);
	else if (args->params.score == ROUTER_SIGMOID)
		sigmoid(route->score, count);
	for (uint32_t e = 0; e < count; e++)
		route->choice[e] = router_comparable(
			args->bias ? route->score[e] + args->bias[e]
				   : route->score[e]);
}

/* Mark the groups that lose; ties go to the lower one. */
static void close_groups(
	const struct router_params *params, struct route *route)
{
	uint32_t width = params->expert_count / params->group_count;

	for (uint32_t g = 0; g < params->group_count; g++) {
		route->group[g] = router_group_score(params->group,
			route->choice + (size_t)g * width, width);
		route->lost[g] = true;
	}
	for (uint32_t i = 0; i < params->group_topk; i++) {
		uint32_t best = UINT32_MAX;

		for (uint32_t g = 0; g < params->group_count; g++)
			if (route->lost[g] &&
				(best == UINT32_MAX ||
					route->group[g] > route->group[best]))
				best = g;
		assert(best != UINT32_MAX);
		route->lost[best] = false;
	}
}

/*
 * Take experts first .. end-1 into the sorted list of at most `topk`; one
 * that equals another stays behind it. Returns how many it holds.
 */
static uint32_t take(const struct route *route, uint32_t first, uint32_t end,
	uint32_t held, uint32_t topk)
{
	const float *choice = route->choice;
	uint32_t *taken = route->taken;

	for (uint32_t e = first; e < end; e++) {
		uint32_t at = held;

		if (held == topk && !(choice[e] > choice[taken[topk - 1]]))
			continue;
		if (held < topk)
			held++;
		else
			at--;
		for (; at > 0 && choice[e] > choice[taken[at - 1]]; at--)
			taken[at] = taken[at - 1];
		taken[at] = e;
	}
	return held;
}

static void choose(const struct router_params *params, struct route *route)
{
	uint32_t width, held = 0;

	if (params->group == ROUTER_GROUP_NONE) {
		take(route, 0, params->expert_count, 0, params->topk);
		return;
	}
	close_groups(params, route);
	width = params->expert_count / params->group_count;
	for (uint32_t g = 0; g < params->group_count; g++)
		if (!route->lost[g])
			held = take(route, g * width, (g + 1) * width, held,
				params->topk);
	assert(held == params->topk);
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

static void route_row(const struct job *job, size_t row, struct route *route)
{
	const struct router_args *args = job->args;
	const struct router_params *params = &args->params;
	const uint16_t *map = router_map(args, row);
	size_t first = row * params->topk;

	score_row(args, job->logits + row * params->expert_count, route);
	choose(params, route);
	for (uint32_t k = 0; k < params->topk; k++) {
		uint32_t e = route->taken[k];

		args->expert[first + k] = (uint16_t)e;
		args->slot[first + k] = map ? map[e] : (uint16_t)e;
		args->weight[first + k] = route->score[e];
	}
	weigh(params, args->weight + first);
}

static void route_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct job *job = arg;
	size_t room = score_room(&job->fast->limits);
	unsigned char *scratch = fast_scratch(
		job->fast, worker, scratch_bytes(&job->fast->limits));
	struct route route = {
		/* No more groups than experts, nor chosen ones. */
		.score = (void *)scratch,
		.choice = (void *)(scratch + room),
		.group = (void *)(scratch + 2 * room),
		.taken = (void *)(scratch + 3 * room),
		.lost = (void *)(scratch + 4 * room),
	};

	for (size_t row = first; row < end; row++)
		route_row(job, row, &route);
}

int FAST(fast_router)(struct ops *ops, const struct router_args *args)
{
	struct fast_backend *fast = fast_of(ops);
	struct fast_need linear = FAST(fast_linear_need)(&fast->limits);
	struct fast_need need = FAST(fast_router_need)(&fast->limits);
	/* The linear has the beginning of the area to itself. */
	unsigned char *shared = fast_shared(fast, need.shared);
	float *logits = (float *)(void *)(shared + linear.shared);
	struct job job = {fast, args, logits};
	struct linear_args gate = {
		.rows.count = args->rows.count,
		.x = args->x,
		.x_stride = args->gate.cols,
		.weight = args->gate,
		.scale = 1,
		.out = logits,
		.out_stride = args->params.expert_count,
	};

	router_check(args);
	assert(args->rows.count <= fast->limits.row_count);
	assert(args->params.expert_count <= fast->limits.expert_count);
	FAST(fast_linear)(ops, &gate, 1);
	workers_run_cost(fast->workers, args->rows.count,
		(uint64_t)args->rows.count * args->params.expert_count * 4,
		route_rows, &job);
	return 0;
}
