/* forward_arena.c - memory of the forward pass (capacity -> fixed addresses) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>

#include "base/check.h"
#include "engine/forward_private.h"

/* One pointer of the arena: where it is kept and what it points to. */
struct arena_part {
	void **pointer;
	size_t count[3]; /* product of the three */
	size_t size_bytes; /* of an element */
};

#define ARENA_ALIGN_BYTES 256
#define PART_COUNT_MAX 40

#define PART(field, a, b, c)                                                   \
	(struct arena_part)                                                    \
	{                                                                      \
		(void **)&(field), {(a), (b), (c)}, sizeof(*(field))           \
	}

static uint32_t widest_mlp(const struct model_config *config)
{
	uint32_t widest = config->shared_inter;

	for (uint32_t l = 0; l < config->layer_count; l++)
		if (!config->is_moe[l] && config->dense_inter > widest)
			widest = config->dense_inter;
	return widest;
}

static size_t list_step_parts(struct forward *f, struct arena_part *parts)
{
	size_t r = f->capacity.row_count, s = f->capacity.sample_count;
	struct device_step *d = &f->device;
	size_t n = 0;

	parts[n++] = PART(d->token, r, 1, 1);
	parts[n++] = PART(d->position, r, 1, 1);
	parts[n++] = PART(d->sequence, r, 1, 1);
	parts[n++] = PART(d->instance, r, 1, 1);
	parts[n++] = PART(d->lora, r, 1, 1);
	parts[n++] = PART(d->block_table, f->capacity.sequence_count,
		f->capacity.table_stride, 1);
	parts[n++] = PART(d->sample_row, s, 1, 1);
	parts[n++] = PART(d->sample, s, 1, 1);
	parts[n++] = PART(d->result, s, 1, 1);
	return n;
}

static size_t list_attention_parts(struct forward *f, struct arena_part *parts)
{
	const struct model_config *c = &f->model->config;
	size_t r = f->capacity.row_count;
	struct activations *a = &f->act;
	size_t n = 0;

	parts[n++] = PART(a->q, r, c->head_count, c->head_dim);
	parts[n++] = PART(a->heads, r, c->head_count, c->value_dim);
	parts[n++] = PART(a->inv_freq, c->rope.dim / 2, 1, 1);
	if (c->attention == ATTENTION_HEADS) {
		parts[n++] = PART(a->k, r, c->kv_head_count, c->head_dim);
		parts[n++] = PART(a->v, r, c->kv_head_count, c->value_dim);
		return n;
	}
	parts[n++] = PART(a->q_latent, r, c->q_lora_rank, 1);
	parts[n++] = PART(a->kv_latent, r, c->kv_lora_rank + c->rope_dim, 1);
	parts[n++] = PART(
		a->q_absorbed, r, c->head_count, c->kv_lora_rank + c->rope_dim);
	parts[n++] = PART(a->mixed, r, c->head_count, c->kv_lora_rank);
	return n;
}

static size_t list_mlp_parts(struct forward *f, struct arena_part *parts)
{
	const struct model_config *c = &f->model->config;
	size_t r = f->capacity.row_count, s = f->capacity.sample_count;
	size_t topk = c->router.topk;
	struct activations *a = &f->act;
	size_t n = 0;

	parts[n++] = PART(a->x, r, c->hidden, 1);
	parts[n++] = PART(a->normed, r, c->hidden, 1);
	parts[n++] = PART(a->branch, r, c->hidden, 1);
	parts[n++] = PART(a->hidden, r, widest_mlp(c), 1);
	parts[n++] = PART(a->shared_gate, r, 1, 1);
	parts[n++] = PART(a->slot, r, topk, 1);
	parts[n++] = PART(a->expert, r, topk, 1);
	parts[n++] = PART(a->expert_weight, r, topk, 1);
	parts[n++] = PART(a->expert_out, r, topk, c->hidden);
	parts[n++] = PART(a->sampled, s, c->hidden, 1);
	parts[n++] = PART(a->logits, s, c->vocab, 1);
	return n;
}

/*
 * Offsets of all parts from `base` on; with base 0 only the size is wanted
 * and the pointers are not set.
 */
static int place_parts(const struct arena_part *parts, size_t count,
	vmm_addr base, size_t *out_size)
{
	size_t end = 0;

	for (size_t i = 0; i < count; i++) {
		const struct arena_part *part = &parts[i];
		size_t size = part->size_bytes;

		for (int d = 0; d < 3; d++)
			if (!mul_ok(size, part->count[d], &size))
				return -EOVERFLOW;
		if (base)
			*part->pointer = (void *)(uintptr_t)(base + end);
		if (!add_ok(end, size, &end) ||
			!round_up_ok(end, ARENA_ALIGN_BYTES, &end))
			return -EOVERFLOW;
	}
	*out_size = end;
	return 0;
}

static int map_arena(struct forward *f)
{
	struct vmm *vmm = f->model->vmm;
	const struct vmm_ops *ops = vmm->ops;
	int rc;

	rc = ops->reserve(vmm, f->arena_bytes, &f->arena);
	if (rc)
		return rc;
	rc = ops->create(vmm, f->arena_bytes, &f->handle);
	if (rc)
		return rc;
	rc = ops->map(vmm, f->arena, f->arena_bytes, f->handle);
	if (rc)
		return rc;
	f->mapped = true;
	return ops->set_access(vmm, f->arena, f->arena_bytes);
}

int forward_arena_create(struct forward *f)
{
	struct arena_part parts[PART_COUNT_MAX];
	struct vmm *vmm = f->model->vmm;
	size_t n, size;
	int rc;

	n = list_step_parts(f, parts);
	n += list_attention_parts(f, parts + n);
	n += list_mlp_parts(f, parts + n);
	assert(n <= PART_COUNT_MAX);
	if (place_parts(parts, n, 0, &size) ||
		!round_up_ok(size, vmm->granularity_bytes, &f->arena_bytes))
		return -EOVERFLOW;
	rc = map_arena(f);
	if (rc)
		return rc;
	place_parts(parts, n, f->arena, &size);
	return vmm->ops->copy_in(vmm, (vmm_addr)(uintptr_t)f->act.inv_freq,
		f->model->config.rope.inv_freq,
		f->model->config.rope.dim / 2 * sizeof(float));
}

void forward_arena_destroy(struct forward *f)
{
	struct vmm *vmm = f->model->vmm;

	if (f->mapped)
		vmm->ops->unmap(vmm, f->arena, f->arena_bytes);
	if (f->handle.id)
		vmm->ops->release(vmm, f->handle);
	if (f->arena)
		vmm->ops->unreserve(vmm, f->arena, f->arena_bytes);
}
