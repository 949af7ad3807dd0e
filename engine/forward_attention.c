/* forward_attention.c - attention of one layer (normed rows -> heads) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/forward_private.h"

/* Inner norms of MLA use this, whatever rms_norm_eps says: DeepSeek's own
 * modeling code builds them with the class default. */
#define MLA_NORM_EPSILON 1e-6f

/* Norm in place of `width` of every `stride` elements; clip 0 = none. */
static int norm_in_place(struct forward *f, float *x, uint32_t row_count,
	uint32_t stride, const struct rms_norm_args *how)
{
	struct rms_norm_args args = *how;

	args.row_count = row_count;
	args.x = x;
	args.x_stride = stride;
	args.out = x;
	args.out_stride = stride;
	return f->ops->table->rms_norm(f->ops, &args);
}

static int rope(struct forward *f, float *x, uint32_t head_count,
	uint32_t stride, uint32_t head_stride)
{
	const struct model_rope *config = &f->model->config.rope;

	return f->ops->table->rope(
		f->ops, &(struct rope_args){
				.rows = f->rows,
				.head_count = head_count,
				.rotary = config->dim,
				.interleaved = config->interleaved,
				.inv_freq = f->act.inv_freq,
				.scale = config->scale,
				.x = x,
				.stride = stride,
				.head_stride = head_stride,
			});
}

/* --- attention with K and V heads --- */

/* RMSNorm of q or k where the family has one, then OLMoE's clip. */
static int norm_heads(
	struct forward *f, float *x, const float *weight, uint32_t head_count)
{
	const struct model_config *c = &f->model->config;
	bool full = c->qk_norm == QK_NORM_FULL;
	uint32_t width = full ? head_count * c->head_dim : c->head_dim;
	uint32_t rows = full ? f->rows.count : f->rows.count * head_count;

	if (c->qk_norm == QK_NORM_NONE)
		return 0;
	return norm_in_place(f, x, rows, width,
		&(struct rms_norm_args){
			.width = width,
			.weight = weight,
			.epsilon = c->norm_epsilon,
			.clip = c->qkv_clip,
		});
}

static int project_heads(struct forward *f, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;
	struct activations *a = &f->act;
	/* With a norm the clip comes after it, without one at once. */
	float clip = c->qk_norm == QK_NORM_NONE ? c->qkv_clip : 0;
	struct linear_args q = {
		.rows = f->rows,
		.x = a->normed,
		.x_stride = c->hidden,
		.weight = w->matrix[ROLE_Q],
		.bias = w->vector[ROLE_Q_BIAS],
		.scale = 1,
		.clip = clip,
		.out = a->q,
		.out_stride = w->matrix[ROLE_Q].rows,
	};
	struct linear_args k = q, v = q;

	k.weight = w->matrix[ROLE_K];
	k.bias = w->vector[ROLE_K_BIAS];
	k.out = a->k;
	k.out_stride = k.weight.rows;
	v.weight = w->matrix[ROLE_V];
	v.bias = w->vector[ROLE_V_BIAS];
	v.clip = c->qkv_clip;
	v.out = a->v;
	v.out_stride = v.weight.rows;
	return f->ops->table->linear(
		f->ops, (struct linear_args[]){q, k, v}, 3);
}

static int write_kv(
	struct forward *f, uint32_t layer, const float *key, const float *value)
{
	const struct model_config *c = &f->model->config;
	uint32_t key_width = model_key_width(c);
	uint32_t value_width = model_value_width(c);

	return f->ops->table->kv_write(
		f->ops, &(struct kv_write_args){
				.rows = f->rows,
				.kv = f->kv,
				.layer = layer,
				.key_width = key_width,
				.value_width = value_width,
				.key = key,
				.key_stride = key_width,
				.value = value,
				.value_stride = value_width,
			});
}

static int attend_heads(
	struct forward *f, uint32_t layer, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;
	struct activations *a = &f->act;
	uint32_t d = c->head_dim;
	int rc;

	rc = project_heads(f, w);
	if (rc == 0)
		rc = norm_heads(f, a->q, w->vector[ROLE_Q_NORM], c->head_count);
	if (rc == 0)
		rc = norm_heads(
			f, a->k, w->vector[ROLE_K_NORM], c->kv_head_count);
	if (rc == 0)
		rc = rope(f, a->q, c->head_count, c->head_count * d, d);
	if (rc == 0)
		rc = rope(f, a->k, c->kv_head_count, c->kv_head_count * d, d);
	if (rc == 0)
		rc = write_kv(f, layer, a->k, a->v);
	if (rc)
		return rc;
	return f->ops->table->attention(
		f->ops, &(struct attention_args){
				.rows = f->rows,
				.kv = f->kv,
				.layer = layer,
				.head_count = c->head_count,
				.kv_head_count = c->kv_head_count,
				.key_dim = d,
				.value_dim = c->value_dim,
				.window = c->window[layer],
				.scale = c->attention_scale,
				.q = a->q,
				.out = a->heads,
			});
}

/* --- attention on latents (MLA, absorbed for every row) --- */

static int project_latent(struct forward *f, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;
	struct activations *a = &f->act;
	uint32_t width = c->kv_lora_rank + c->rope_dim;
	struct rms_norm_args inner = {.epsilon = MLA_NORM_EPSILON};
	struct linear_args down = {
		.rows = f->rows,
		.x = a->normed,
		.x_stride = c->hidden,
		.weight = w->matrix[c->q_lora_rank ? ROLE_Q_A : ROLE_Q],
		.scale = 1,
		.out = c->q_lora_rank ? a->q_latent : a->q,
	};
	struct linear_args latent = down;
	int rc;

	down.out_stride = down.weight.rows;
	latent.weight = w->matrix[ROLE_KV_A];
	latent.out = a->kv_latent;
	latent.out_stride = latent.weight.rows;
	rc = f->ops->table->linear(
		f->ops, (struct linear_args[]){down, latent}, 2);
	if (rc == 0 && c->q_lora_rank) {
		inner.width = c->q_lora_rank;
		inner.weight = w->vector[ROLE_Q_A_NORM];
		rc = norm_in_place(
			f, a->q_latent, f->rows.count, c->q_lora_rank, &inner);
		if (rc == 0)
			rc = forward_linear(f, a->q_latent,
				&w->matrix[ROLE_Q_B], NULL, a->q);
	}
	if (rc)
		return rc;
	/* Only the latent is normed, not the rotary key behind it. */
	inner.width = c->kv_lora_rank;
	inner.weight = w->vector[ROLE_KV_A_NORM];
	return norm_in_place(f, a->kv_latent, f->rows.count, width, &inner);
}

static struct mla_args mla_args(
	const struct forward *f, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;

	return (struct mla_args){
		.rows = f->rows,
		.head_count = c->head_count,
		.nope = c->nope_dim,
		.value = c->value_dim,
		.latent = c->kv_lora_rank,
		.kv_b = w->matrix[ROLE_KV_B],
	};
}

/* q [nope | rope] -> [latent | rope], so that it meets the cached rows. */
static int absorb_query(struct forward *f, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;
	struct mla_args args = mla_args(f, w);

	args.tail = c->rope_dim;
	args.x = f->act.q;
	args.x_stride = c->head_count * c->head_dim;
	args.x_head_stride = c->head_dim;
	args.out = f->act.q_absorbed;
	args.out_head_stride = c->kv_lora_rank + c->rope_dim;
	args.out_stride = c->head_count * args.out_head_stride;
	return f->ops->table->mla_absorb(f->ops, &args);
}

static int expand_value(struct forward *f, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;
	struct mla_args args = mla_args(f, w);

	args.x = f->act.mixed;
	args.x_stride = c->head_count * c->kv_lora_rank;
	args.x_head_stride = c->kv_lora_rank;
	args.out = f->act.heads;
	args.out_stride = c->head_count * c->value_dim;
	args.out_head_stride = c->value_dim;
	return f->ops->table->mla_expand(f->ops, &args);
}

static int attend_latent(
	struct forward *f, uint32_t layer, const struct layer_weights *w)
{
	const struct model_config *c = &f->model->config;
	struct activations *a = &f->act;
	uint32_t width = c->kv_lora_rank + c->rope_dim;
	int rc;

	rc = project_latent(f, w);
	if (rc == 0)
		rc = rope(f, a->q + c->nope_dim, c->head_count,
			c->head_count * c->head_dim, c->head_dim);
	if (rc == 0)
		rc = rope(f, a->kv_latent + c->kv_lora_rank, 1, width, width);
	if (rc == 0)
		rc = write_kv(f, layer, a->kv_latent, NULL);
	if (rc == 0)
		rc = absorb_query(f, w);
	if (rc == 0)
		rc = f->ops->table->attention(
			f->ops, &(struct attention_args){
					.rows = f->rows,
					.kv = f->kv,
					.layer = layer,
					.head_count = c->head_count,
					.kv_head_count = 1,
					.key_dim = width,
					.value_dim = c->kv_lora_rank,
					.window = c->window[layer],
					.scale = c->attention_scale,
					.q = a->q_absorbed,
					.out = a->mixed,
				});
	return rc ? rc : expand_value(f, w);
}

int forward_attend(struct forward *f, uint32_t layer)
{
	const struct layer_weights *w = &f->model->weights.layers[layer];

	return f->model->config.attention == ATTENTION_MLA
		       ? attend_latent(f, layer, w)
		       : attend_heads(f, layer, w);
}
