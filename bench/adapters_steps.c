/* adapters_steps.c - what adapters cost a decode step (world -> pairs) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/adapters_steps.h"

/* How often the routers of a step run while they are timed. */
#define ROUTER_ROUNDS 4u

struct sides {
	struct world *w;
	struct world_step step[2];
};

static int run_side(void *arg, uint32_t side, uint32_t variant, double *out,
	struct error *err)
{
	const struct sides *sides = arg;
	struct world_step step = sides->step[side];

	step.variant = variant;
	return world_run(sides->w, &step, out, err);
}

int steps_idle(struct world *w, uint32_t pairs, struct pair_stats *out,
	struct error *err)
{
	struct sides sides = {
		w, {{.engine = &w->with, .rows = STEPS_ROWS},
			   {.engine = &w->without, .rows = STEPS_ROWS}}};

	return pairs_measure(pairs, false, run_side, &sides, out, err);
}

static int mean_bytes(struct world *w, const struct world_step *step,
	double *out, struct error *err)
{
	struct world_step each = *step;
	uint64_t bytes;
	int rc = 0;

	*out = 0;
	for (uint32_t v = 0; rc == 0 && v < PAIR_VARIANTS; v++) {
		each.variant = v;
		rc = world_step_bytes(w, &each, &bytes, err);
		*out += (double)bytes / PAIR_VARIANTS;
	}
	return rc;
}

int steps_mixed(struct world *w, uint32_t pairs, struct steps_mixed *out,
	struct error *err)
{
	struct sides sides = {
		w, {{.engine = &w->with,
			    .rows = out->rows,
			    .adapters = out->adapters},
			   {.engine = &w->with, .rows = out->rows}}};
	double mixed;
	int rc = mean_bytes(w, &sides.step[0], &mixed, err);

	if (rc == 0)
		rc = mean_bytes(w, &sides.step[1], &out->step_bytes, err);
	if (rc)
		return rc;
	out->byte_ratio = mixed / out->step_bytes;
	return pairs_measure(pairs, false, run_side, &sides, &out->time, err);
}

/* ---- the routers alone ---- */

struct routers {
	struct world *w;
	struct router_args args; /* all but gate and map */
	struct expert_view view;
};

static int run_routers(void *arg, uint32_t side, uint32_t variant, double *out,
	struct error *err)
{
	struct routers *r = arg;
	struct world_engine *engine = &r->w->with;
	struct ops *ops = &r->w->ops.inner;
	struct mono begin = mono_now();
	int rc = 0;

	(void)variant;
	for (uint32_t i = 0; i < ROUTER_ROUNDS; i++)
		for (uint32_t l = 0; rc == 0 && l < r->w->shape.layers; l++) {
			const struct layer_weights *layer =
				&engine->model->weights.layers[l];

			r->args.gate = layer->matrix[ROLE_ROUTER];
			r->args.map =
				side == 0 ? r->view.map +
						    (size_t)l *
							    r->view.layer_stride
					  : NULL;
			rc = ops->table->router(ops, &r->args);
		}
	*out = (double)mono_diff(mono_now(), begin) / ROUTER_ROUNDS;
	return rc ? error_set(err, -rc, "a router failed") : 0;
}

/* Rows of a step, each under an adapter of its own. */
static void open_routers(struct routers *r, struct world *w, float *x,
	uint16_t *ids, float *weights)
{
	uint32_t hidden = w->shape.hidden;

	for (uint32_t i = 0; i < STEPS_ROWS * hidden; i++)
		x[i] = (float)(i * 2654435761u >> 20) / 2048 - 1;
	expert_store_view(w->with.model->experts, &r->view);
	r->w = w;
	r->args = (struct router_args){
		.rows = {.count = STEPS_ROWS, .instance = w->instances},
		.params = w->with.model->config.router,
		.x = x,
		.instance_stride = r->view.instance_stride,
	};
	r->args.slot = ids;
	r->args.expert = ids + (size_t)STEPS_ROWS * w->shape.topk;
	r->args.weight = weights;
}

int steps_reroute(struct world *w, uint32_t pairs, struct steps_reroute *out,
	struct error *err)
{
	size_t choices = (size_t)STEPS_ROWS * w->shape.topk;
	float *x = calloc((size_t)STEPS_ROWS * w->shape.hidden, sizeof(*x));
	uint16_t *ids = calloc(2 * choices, sizeof(*ids));
	float *weights = calloc(choices, sizeof(*weights));
	struct sides sides = {
		w, {{.engine = &w->with, .rows = STEPS_ROWS},
			   {.engine = &w->with, .rows = STEPS_ROWS}}};
	struct pair_stats steps;
	struct routers r;
	int rc = x && ids && weights ? 0 : -ENOMEM;

	if (rc == 0)
		open_routers(&r, w, x, ids, weights);
	else
		error_set(err, ENOMEM, "no memory for a router");
	if (rc == 0)
		rc = pairs_measure(
			pairs, true, run_routers, &r, &out->routers, err);
	if (rc == 0)
		rc = pairs_measure(pairs < 100 ? pairs : 100, false, run_side,
			&sides, &steps, err);
	if (rc == 0)
		out->step_ns = steps.first;
	free(weights);
	free(ids);
	free(x);
	return rc;
}
