/* forward_mlp.c - the MLP of one layer (normed rows -> residual stream) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/forward_private.h"

/* act.hidden = silu(gate x) * up x. */
static int gate_up(
	struct forward *f, const struct weight *gate, const struct weight *up)
{
	return f->ops->table->gate_up(f->ops, &(struct gate_up_args){
						      .rows = f->rows,
						      .x = f->act.normed,
						      .x_stride = gate->cols,
						      .gate = *gate,
						      .up = *up,
						      .out = f->act.hidden,
						      .out_stride = gate->rows,
					      });
}

static int dense_mlp(struct forward *f, const struct layer_weights *w)
{
	struct activations *a = &f->act;
	int rc;

	rc = gate_up(f, &w->matrix[ROLE_DENSE_GATE], &w->matrix[ROLE_DENSE_UP]);
	if (rc == 0)
		rc = forward_linear(f, a->hidden, &w->matrix[ROLE_DENSE_DOWN],
			NULL, a->branch);
	return rc ? rc : forward_add(f, a->branch);
}

/*
 * The shared experts' output in act.branch. Their gate reads the same rows as
 * they do, so it goes along with their last product.
 */
static int shared_mlp(struct forward *f, const struct layer_weights *w)
{
	const struct weight *sigmoid = &w->matrix[ROLE_SHARED_SIGMOID];
	struct activations *a = &f->act;
	bool gated = f->model->config.shared_gate;
	struct linear_args down = {
		.rows = f->rows,
		.x = a->hidden,
		.weight = w->matrix[ROLE_SHARED_DOWN],
		.scale = 1,
		.out = a->branch,
	};
	struct linear_args gate = down;
	int rc;

	down.x_stride = down.weight.cols;
	down.out_stride = down.weight.rows;
	gate.x = a->normed;
	gate.x_stride = sigmoid->cols;
	gate.weight = *sigmoid;
	gate.out = a->shared_gate;
	gate.out_stride = 1;
	rc = gate_up(
		f, &w->matrix[ROLE_SHARED_GATE], &w->matrix[ROLE_SHARED_UP]);
	if (rc == 0)
		rc = f->ops->table->linear(f->ops,
			(struct linear_args[]){down, gate}, gated ? 2 : 1);
	if (rc || !gated)
		return rc;
	return f->ops->table->sigmoid_gate(
		f->ops, &(struct sigmoid_gate_args){
				.row_count = f->rows.count,
				.width = f->model->config.hidden,
				.gate = a->shared_gate,
				.x = a->branch,
			});
}

static int route(struct forward *f, const struct layer_weights *w)
{
	const struct expert_view *view = &f->experts;

	return f->ops->table->router(
		f->ops, &(struct router_args){
				.rows = f->rows,
				.params = f->model->config.router,
				.x = f->act.normed,
				.gate = w->matrix[ROLE_ROUTER],
				.bias = w->vector[ROLE_ROUTER_BIAS],
				.map = view->map + (size_t)w->moe_layer *
							   view->layer_stride,
				.instance_stride = view->instance_stride,
				.slot = f->act.slot,
				.expert = f->act.expert,
				.weight = f->act.expert_weight,
			});
}

static int run_experts(struct forward *f, const struct layer_weights *w)
{
	const struct expert_shape *shape =
		expert_store_shape(f->model->experts);
	const struct expert_view *view = &f->experts;

	return f->ops->table->moe(f->ops,
		&(struct moe_args){
			.rows = f->rows,
			.topk = f->model->config.router.topk,
			.hidden = shape->hidden,
			.inter = shape->inter,
			.x = f->act.normed,
			.slot = f->act.slot,
			.expert = f->act.expert,
			.tensor = (const void *)(uintptr_t)
					  view->tensor[w->moe_layer],
			.slot_offset = view->slot_offset +
				       (size_t)w->moe_layer * view->slot_stride,
			.up_offset_bytes = shape->up_offset_bytes,
			.down_offset_bytes = shape->down_offset_bytes,
			.type = shape->format.type,
			.layout = shape->format.layout,
			.out = f->act.expert_out,
		});
}

static int moe_mlp(struct forward *f, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;
	int rc;

	rc = route(f, w);
	if (rc == 0)
		rc = run_experts(f, w);
	if (rc == 0 && c->shared_inter)
		rc = shared_mlp(f, w);
	if (rc)
		return rc;
	return f->ops->table->combine(f->ops,
		&(struct combine_args){
			.row_count = f->rows.count,
			.topk = c->router.topk,
			.hidden = c->hidden,
			.expert_out = f->act.expert_out,
			.weight = f->act.expert_weight,
			.shared = c->shared_inter ? f->act.branch : NULL,
			.scale = c->residual_scale,
			.x = f->act.x,
		});
}

int forward_mlp(struct forward *f, uint32_t layer)
{
	const struct layer_weights *w = &f->model->weights.layers[layer];

	return w->moe_layer == LAYER_NOT_MOE ? dense_mlp(f, w) : moe_mlp(f, w);
}
