/* forward.c - one step through the model (rows -> logits -> tokens) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/forward_private.h"

/* --- life --- */

void forward_ops_limits(const struct model_config *config,
	const struct step_capacity *capacity, struct ops_limits *out)
{
	bool mla = config->attention == ATTENTION_MLA;

	*out = (struct ops_limits){
		.row_count = capacity->row_count,
		.sample_count = capacity->sample_count,
		.hidden = config->hidden,
		.vocab = config->vocab,
		.expert_count = config->router.expert_count,
		.topk = config->router.topk,
		.inter = config->expert_inter,
		.head_count = config->head_count,
		.key_dim = mla ? config->kv_lora_rank + config->rope_dim
			       : config->head_dim,
		.value_dim = mla ? config->kv_lora_rank : config->value_dim,
	};
}

int forward_create(struct model *model, struct ops *ops,
	const struct step_capacity *capacity, struct forward **out,
	struct error *err)
{
	struct forward *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return error_set(err, ENOMEM, "no memory for the forward pass");
	f->model = model;
	f->capacity = *capacity;
	expert_store_view(model->experts, &f->experts);
	rc = program_create(ops,
		(model->config.layer_count + (size_t)2) * PROGRAM_LAYER_BYTES,
		&f->program);
	if (rc) {
		forward_destroy(f);
		return error_set(err, -rc, "no memory for the forward pass");
	}
	f->ops = program_ops(f->program);
	f->packed = calloc(
		(size_t)capacity->sequence_count * capacity->table_stride + 1,
		sizeof(*f->packed));
	rc = f->packed ? forward_arena_create(f) : -ENOMEM;
	if (rc) {
		error_set(err, -rc, "no memory for %zu bytes of activations",
			f->arena_bytes);
		forward_destroy(f);
		return rc;
	}
	*out = f;
	return 0;
}

void forward_destroy(struct forward *f)
{
	if (!f)
		return;
	forward_arena_destroy(f);
	program_destroy(f->program);
	free(f->packed);
	free(f);
}

void forward_time(struct forward *f, struct program_times *times)
{
	f->times = times;
}

const float *forward_logits(const struct forward *f)
{
	return f->act.logits;
}

uint64_t forward_bytes(const struct forward *f)
{
	return f->arena_bytes;
}

/* --- shared with the other files --- */

int forward_linear(struct forward *f, const float *x,
	const struct weight *weight, const float *bias, float *out)
{
	struct linear_args args = {
		.rows = f->rows,
		.x = x,
		.x_stride = weight->cols,
		.weight = *weight,
		.bias = bias,
		.scale = 1,
		.out_stride = weight->rows,
	};

	args.out = out;
	return f->ops->table->linear(f->ops, &args, 1);
}

int forward_add(struct forward *f, const float *branch)
{
	return f->ops->table->add(
		f->ops, &(struct add_args){
				.row_count = f->rows.count,
				.width = f->model->config.hidden,
				.y = branch,
				.scale = f->model->config.residual_scale,
				.x = f->act.x,
			});
}

/* --- the pass --- */

static int norm(struct forward *f, const float *x, const float *weight,
	float *out, uint32_t rows)
{
	uint32_t hidden = f->model->config.hidden;

	return f->ops->table->rms_norm(
		f->ops, &(struct rms_norm_args){
				.row_count = rows,
				.width = hidden,
				.x = x,
				.x_stride = hidden,
				.weight = weight,
				.epsilon = f->model->config.norm_epsilon,
				.out = out,
				.out_stride = hidden,
			});
}

static int run_layer(struct forward *f, uint32_t layer)
{
	const struct layer_weights *w = &f->model->weights.layers[layer];
	struct activations *a = &f->act;
	int rc;

	rc = norm(f, a->x, w->vector[ROLE_ATTENTION_NORM], a->normed,
		f->rows.count);
	if (rc == 0)
		rc = forward_attend(f, layer);
	if (rc == 0)
		rc = forward_linear(
			f, a->heads, &w->matrix[ROLE_O], NULL, a->branch);
	if (rc == 0)
		rc = forward_add(f, a->branch);
	if (rc == 0)
		rc = norm(f, a->x, w->vector[ROLE_MLP_NORM], a->normed,
			f->rows.count);
	return rc ? rc : forward_mlp(f, layer);
}

static int run_head(struct forward *f, uint32_t sample_count)
{
	const struct model_config *c = &f->model->config;
	const struct weight *head = &f->model->weights.head;
	struct activations *a = &f->act;
	int rc;

	if (sample_count == 0)
		return 0;
	rc = f->ops->table->gather(
		f->ops, &(struct gather_args){
				.count = sample_count,
				.width = c->hidden,
				.index = f->device.sample_row,
				.x = a->x,
				.out = a->sampled,
			});
	if (rc == 0)
		rc = norm(f, a->sampled, f->model->weights.final_norm,
			a->sampled, sample_count);
	if (rc == 0)
		rc = f->ops->table->linear(f->ops,
			&(struct linear_args){
				.rows = {.count = sample_count},
				.x = a->sampled,
				.x_stride = c->hidden,
				.weight = *head,
				.scale = c->logit_scale,
				.out = a->logits,
				.out_stride = c->vocab,
			},
			1);
	if (rc)
		return rc;
	return f->ops->table->sample(f->ops, &(struct sample_args){
						     .count = sample_count,
						     .vocab = c->vocab,
						     .logits = a->logits,
						     .params = f->device.sample,
						     .out = f->device.result,
					     });
}

static int copy_array(struct forward *f, void *to, const void *from,
	size_t count, size_t size_bytes)
{
	struct vmm *vmm = f->model->vmm;

	if (count == 0)
		return 0;
	return vmm->ops->copy_in(
		vmm, (vmm_addr)(uintptr_t)to, from, count * size_bytes);
}

/* The used columns of the block tables, side by side: one copy of what counts. */
static int copy_tables(struct forward *f, const struct step *step)
{
	size_t width = step->page_count_max;
	uint32_t *to = f->packed;

	for (uint32_t i = 0; i < step->sequence_count; i++, to += width)
		memcpy(to,
			step->block_table +
				(size_t)i * step->capacity.table_stride,
			step->page_count[i] * sizeof(*to));
	f->kv.block_table = f->device.block_table;
	f->kv.table_stride = step->page_count_max;
	return copy_array(f, f->device.block_table, f->packed,
		step->sequence_count * width, sizeof(*to));
}

static int copy_step(struct forward *f, const struct step *step)
{
	struct device_step *d = &f->device;
	size_t rows = step->row_count, samples = step->sample_count;
	size_t word = sizeof(uint32_t);
	int rc;

	rc = copy_array(f, d->token, step->token, rows, word);
	if (rc == 0)
		rc = copy_array(f, d->position, step->position, rows, word);
	if (rc == 0)
		rc = copy_array(f, d->sequence, step->sequence, rows, word);
	if (rc == 0)
		rc = copy_array(f, d->instance, step->instance, rows, word);
	if (rc == 0)
		rc = copy_array(f, d->lora, step->lora, rows, word);
	model_kv_view(f->model, &f->kv);
	if (rc == 0)
		rc = copy_tables(f, step);
	if (rc == 0)
		rc = copy_array(
			f, d->sample_row, step->sample_row, samples, word);
	if (rc == 0)
		rc = copy_array(f, d->sample, step->sample, samples,
			sizeof(*d->sample));
	f->rows = (struct rows){
		.count = step->row_count,
		.token = d->token,
		.position = d->position,
		.sequence = d->sequence,
		.instance = d->instance,
		.lora = step->has_lora ? d->lora : NULL,
	};
	return rc;
}

static int check_step(
	const struct forward *f, const struct step *step, struct error *err)
{
	const struct kv_layout *layout = kv_store_layout(f->model->kv);
	struct step_bounds bounds = {
		.vocab = f->model->config.vocab,
		.position_count = f->model->config.position_count,
		.instance_count = f->experts.instance_count,
		.published = f->experts.published,
		.page_count = page_pool_page_count(f->model->pool),
		.block_tokens = layout->block_tokens,
		.pages_per_block = layout->pages_per_block,
	};

	if (step->capacity.table_stride != f->capacity.table_stride ||
		step->row_count > f->capacity.row_count ||
		step->sequence_count > f->capacity.sequence_count ||
		step->sample_count > f->capacity.sample_count)
		return error_set(err, EINVAL,
			"the step is larger than the "
			"forward pass was made for");
	return step_check(step, &bounds, err);
}

/* Say all operations of the step. */
static int list_all(struct forward *f, const struct step *step)
{
	int rc;

	rc = f->ops->table->embed(
		f->ops, &(struct embed_args){
				.rows = f->rows,
				.table = f->model->weights.embed,
				.scale = f->model->config.embed_scale,
				.out = f->act.x,
			});
	for (uint32_t l = 0; rc == 0 && l < f->model->config.layer_count; l++)
		rc = run_layer(f, l);
	if (rc == 0)
		rc = run_head(f, step->sample_count);
	return rc ? rc : f->ops->table->fence(f->ops);
}

/* Arrays have fixed addresses, so a list serves all steps of its shape. */
static int run_all(struct forward *f, const struct step *step)
{
	struct step_shape *known = &f->shape;
	struct step_shape shape = {.row_count = step->row_count,
		.sample_count = step->sample_count,
		.table_stride = f->kv.table_stride,
		.has_lora = step->has_lora};
	int rc;

	if (known->row_count != shape.row_count ||
		known->sample_count != shape.sample_count ||
		known->table_stride != shape.table_stride ||
		known->has_lora != shape.has_lora) {
		program_clear(f->program, shape.row_count);
		*known = shape;
		rc = list_all(f, step);
		assert(rc == 0); /* to write them down cannot fail */
	}
	return program_run(f->program, f->times);
}

int forward_run(struct forward *f, struct step *step, struct error *err)
{
	struct vmm *vmm = f->model->vmm;
	int rc;

	rc = check_step(f, step, err);
	if (rc || step->row_count == 0)
		return rc;
	rc = copy_step(f, step);
	if (rc == 0)
		rc = run_all(f, step);
	if (rc == 0 && step->sample_count)
		rc = vmm->ops->copy_out(vmm, step->result,
			(vmm_addr)(uintptr_t)f->device.result,
			step->sample_count * sizeof(*step->result));
	if (rc)
		return error_set(err, -rc,
			"the device failed in a step of %u "
			"rows: %s",
			step->row_count, strerror(-rc));
	return 0;
}
