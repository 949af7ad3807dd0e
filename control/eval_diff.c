/* eval_diff.c - a fine-tuned checkpoint - its base -> an adapter (directories) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trainers that freeze all but some routed experts save whole checkpoints.
 * Everything but routed experts must be the same value for value; the experts
 * that differ become the adapter, in the type of the fine-tuned checkpoint.
 * What cannot be an adapter is refused with the tensors that say so.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "control/eval.h"
#include "control/eval_diff.h"
#include "control/model_dir.h"
#include "engine/expert_source.h"
#include "engine/names.h"
#include "engine/weights.h"

#define CHUNK_ELEMENTS ((size_t)1 << 18)
#define NAMES_MAX 3 /* of tensors that an error lists */

/* Elements of a tensor, one after the other, in a file. */
struct values {
	const struct model_file *file;
	uint64_t offset_bytes;
	uint64_t count;
	enum dtype type;
};

static struct values values_of(
	const struct diff_side *side, const struct plan_item *item)
{
	return (struct values){
		.file = &side->files.weights[item->file],
		.offset_bytes = item->offset_bytes,
		.count = item->size_bytes / dtype_size(item->type),
		.type = item->type,
	};
}

/* -0 and 0 differ, a NaN is equal to itself. */
static uint32_t bits(const void *values, enum dtype type, size_t index)
{
	float value = dtype_load(values, type, index);
	uint32_t out;

	memcpy(&out, &value, sizeof(out));
	return out;
}

static bool same_chunk(const struct diff *d, enum dtype base_type,
	enum dtype model_type, size_t count)
{
	if (base_type == model_type)
		return memcmp(d->buffers[0], d->buffers[1],
			       count * dtype_size(base_type)) == 0;
	for (size_t i = 0; i < count; i++)
		if (bits(d->buffers[0], base_type, i) !=
			bits(d->buffers[1], model_type, i))
			return false;
	return true;
}

/* Types may differ: a bf16 base that was saved in f32 has the same values. */
static int compare_values(struct diff *d, const struct values *base,
	const struct values *model, bool *out_same, struct error *err)
{
	*out_same = base->count == model->count;
	for (uint64_t at = 0; *out_same && at < base->count;
		at += CHUNK_ELEMENTS) {
		uint64_t left = base->count - at;
		size_t count =
			left < CHUNK_ELEMENTS ? (size_t)left : CHUNK_ELEMENTS;
		size_t base_size = dtype_size(base->type);
		size_t model_size = dtype_size(model->type);
		int rc = model_file_read(base->file,
			base->offset_bytes + at * base_size, count * base_size,
			d->buffers[0], err);

		if (rc == 0)
			rc = model_file_read(model->file,
				model->offset_bytes + at * model_size,
				count * model_size, d->buffers[1], err);
		if (rc)
			return rc;
		*out_same = same_chunk(d, base->type, model->type, count);
	}
	return 0;
}

/* fp8: equal blocks with other scales are other values. */
static int compare_scales(struct diff *d, const struct plan_item *base,
	const struct plan_item *model, bool *same, struct error *err)
{
	struct values a = {.offset_bytes = base->scale_offset_bytes,
		.count = base->scale_size_bytes / sizeof(float)};
	struct values b = {.offset_bytes = model->scale_offset_bytes,
		.count = model->scale_size_bytes / sizeof(float)};

	if (!*same || base->type != DTYPE_F8_E4M3)
		return 0;
	if (model->type != DTYPE_F8_E4M3) {
		*same = false;
		return 0;
	}
	a.type = b.type = DTYPE_F32;
	a.file = &d->base.files.weights[base->scale_file];
	b.file = &d->model.files.weights[model->scale_file];
	return compare_values(d, &a, &b, same, err);
}

/* ---- what has to be the same ---- */

static const struct plan_item *find_item(
	const struct model_plan *plan, enum tensor_role role, uint32_t layer)
{
	for (uint32_t i = 0; i < plan->count; i++)
		if (plan->items[i].role == role &&
			plan->items[i].layer == layer)
			return &plan->items[i];
	return NULL;
}

struct differing {
	uint32_t count;
	char names[320]; /* of the first ones */
};

static void note_differing(struct differing *all, const char *name)
{
	size_t used = strlen(all->names);

	if (all->count++ < NAMES_MAX)
		snprintf(all->names + used, sizeof(all->names) - used,
			"%s\"%.90s\"", used ? ", " : "", name);
}

static int compare_frozen(struct diff *d, struct error *err)
{
	struct differing all = {0};

	for (uint32_t i = 0; i < d->base.plan.count; i++) {
		const struct plan_item *item = &d->base.plan.items[i], *other;
		struct values base = values_of(&d->base, item), model;
		bool same = false;
		int rc = 0;

		if (tensor_role_is_expert(item->role))
			continue;
		other = find_item(&d->model.plan, item->role, item->layer);
		if (other) {
			model = values_of(&d->model, other);
			rc = compare_values(d, &base, &model, &same, err);
			if (rc == 0)
				rc = compare_scales(d, item, other, &same, err);
		}
		if (rc)
			return rc;
		if (!same)
			note_differing(&all, item->name);
	}
	if (all.count == 0)
		return 0;
	return error_set(err, EINVAL,
		"%s is no adapter of %s: %u tensors that are no routed experts "
		"differ: %s%s",
		d->options->model, d->options->base, all.count, all.names,
		all.count > NAMES_MAX ? ", ..." : "");
}

/* ---- what may differ ---- */

static int compare_part(struct diff *d, const struct expert_source *base,
	const struct expert_source *model, bool *same, struct error *err)
{
	struct values a = values_of(&d->base, base->item);
	struct values b = values_of(&d->model, model->item);
	int rc;

	a.offset_bytes = base->offset_bytes;
	a.count = base->size_bytes / dtype_size(a.type);
	b.offset_bytes = model->offset_bytes;
	b.count = model->size_bytes / dtype_size(b.type);
	rc = compare_values(d, &a, &b, same, err);
	if (rc == 0)
		rc = compare_scales(d, base->item, model->item, same, err);
	if (rc == 0 && !*same && model->item->type == DTYPE_F8_E4M3)
		rc = error_set(err, EINVAL,
			"%s is no adapter of %s: \"%s\" differs and is fp8, "
			"adapters are F32, BF16 or F16",
			d->options->model, d->options->base, model->item->name);
	return rc;
}

static int compare_experts(struct diff *d, struct error *err)
{
	size_t count = (size_t)d->base.config.moe_layer_count *
		       d->base.config.router.expert_count;

	d->changed = calloc(count, sizeof(*d->changed));
	if (!d->changed)
		return error_set(
			err, ENOMEM, "no memory for %zu experts", count);
	for (size_t i = 0; i < count; i++) {
		bool same = true;

		for (int p = 0; same && p < ADAPTER_PART_COUNT; p++) {
			int rc = compare_part(d, &d->base.sources.parts[i][p],
				&d->model.sources.parts[i][p], &same, err);

			if (rc)
				return rc;
		}
		d->changed[i] = !same;
		d->changed_count += !same;
	}
	if (d->changed_count == 0)
		return error_set(err, EINVAL,
			"%s and %s are the same: there is no adapter",
			d->options->model, d->options->base);
	return 0;
}

/* ---- the configurations ---- */

#define CONFIG_FIELD(field)                                                    \
	{                                                                      \
#field, offsetof(struct model_config, field),                  \
			sizeof(((struct model_config *)NULL)->field)           \
	}

/* What changes the arithmetic, or what tensors there are. */
static const struct {
	const char *name;
	size_t offset, size;
} config_fields[] = {
	CONFIG_FIELD(family),
	CONFIG_FIELD(vocab),
	CONFIG_FIELD(hidden),
	CONFIG_FIELD(layer_count),
	CONFIG_FIELD(norm_epsilon),
	CONFIG_FIELD(tied_head),
	CONFIG_FIELD(attention),
	CONFIG_FIELD(head_count),
	CONFIG_FIELD(kv_head_count),
	CONFIG_FIELD(head_dim),
	CONFIG_FIELD(q_lora_rank),
	CONFIG_FIELD(kv_lora_rank),
	CONFIG_FIELD(nope_dim),
	CONFIG_FIELD(rope_dim),
	CONFIG_FIELD(value_dim),
	CONFIG_FIELD(qkv_bias),
	CONFIG_FIELD(qk_norm),
	CONFIG_FIELD(qkv_clip),
	CONFIG_FIELD(attention_scale),
	CONFIG_FIELD(moe_layer_count),
	CONFIG_FIELD(dense_inter),
	CONFIG_FIELD(expert_inter),
	CONFIG_FIELD(shared_inter),
	CONFIG_FIELD(shared_gate),
	CONFIG_FIELD(router_bias),
	CONFIG_FIELD(router.score),
	CONFIG_FIELD(router.group),
	CONFIG_FIELD(router.normalise),
	CONFIG_FIELD(router.normalise_epsilon),
	CONFIG_FIELD(router.scale),
	CONFIG_FIELD(router.expert_count),
	CONFIG_FIELD(router.topk),
	CONFIG_FIELD(router.group_count),
	CONFIG_FIELD(router.group_topk),
	CONFIG_FIELD(embed_scale),
	CONFIG_FIELD(residual_scale),
	CONFIG_FIELD(logit_scale),
};

static int refuse_config(
	const struct diff *d, const char *field, struct error *err)
{
	return error_set(err, EINVAL,
		"%s is no adapter of %s: their configurations differ in %s",
		d->options->model, d->options->base, field);
}

static int compare_configs(const struct diff *d, struct error *err)
{
	const struct model_config *base = &d->base.config;
	const struct model_config *model = &d->model.config;

	for (size_t i = 0; i < sizeof(config_fields) / sizeof(config_fields[0]);
		i++)
		if (memcmp((const char *)base + config_fields[i].offset,
			    (const char *)model + config_fields[i].offset,
			    config_fields[i].size) != 0)
			return refuse_config(d, config_fields[i].name, err);
	for (uint32_t l = 0; l < base->layer_count; l++) {
		if (base->is_moe[l] != model->is_moe[l])
			return refuse_config(
				d, "which layers have experts", err);
		if (base->window[l] != model->window[l])
			return refuse_config(d, "sliding windows", err);
	}
	if (base->rope.dim != model->rope.dim ||
		base->rope.interleaved != model->rope.interleaved ||
		base->rope.scale < model->rope.scale ||
		base->rope.scale > model->rope.scale ||
		memcmp(base->rope.inv_freq, model->rope.inv_freq,
			base->rope.dim / 2 * sizeof(float)) != 0)
		return refuse_config(d, "rope", err);
	return 0;
}

/* ---- the whole ---- */

static int open_side(
	const char *path, struct diff_side *side, struct error *err)
{
	struct generation_config generation;
	int rc = model_dir_open(path, &side->files, err);

	if (rc)
		return rc;
	rc = model_read_config(&side->files, &side->config, &generation, err);
	if (rc == 0)
		rc = model_plan_create(
			&side->files, &side->config, &side->plan, err);
	if (rc == 0)
		rc = expert_sources_create(
			&side->plan, &side->config, &side->sources, err);
	return rc ? error_prefix(err, "%s", path) : 0;
}

static void close_side(struct diff_side *side)
{
	expert_sources_release(&side->sources);
	model_plan_release(&side->plan);
	model_files_close(&side->files);
}

static int compare(struct diff *d, struct error *err)
{
	int rc = open_side(d->options->base, &d->base, err);

	if (rc == 0)
		rc = open_side(d->options->model, &d->model, err);
	if (rc == 0)
		rc = compare_configs(d, err);
	for (int i = 0; rc == 0 && i < 2; i++) {
		d->buffers[i] = malloc(CHUNK_ELEMENTS * sizeof(float));
		if (!d->buffers[i])
			rc = error_set(err, ENOMEM, "no memory to compare");
	}
	if (rc == 0)
		rc = compare_frozen(d, err);
	if (rc == 0)
		rc = compare_experts(d, err);
	return rc;
}

int eval_diff(const struct eval_options *options, struct error *err)
{
	struct diff *d;
	int rc;

	if (!options->base || !options->model || !options->out)
		return error_set(err, EINVAL,
			"--base DIR, --model DIR and --out DIR are needed");
	d = calloc(1, sizeof(*d));
	if (!d)
		return error_set(err, ENOMEM, "no memory to compare");
	d->options = options;
	model_files_init(&d->base.files);
	model_files_init(&d->model.files);
	rc = compare(d, err);
	if (rc == 0)
		rc = diff_write_adapter(d, err);
	if (rc == 0)
		printf("%s: an adapter of %u experts\n", options->out,
			d->changed_count);
	free(d->buffers[0]);
	free(d->buffers[1]);
	free(d->changed);
	close_side(&d->base);
	close_side(&d->model);
	free(d);
	return rc;
}
