/* plan.c - every tensor found, checked and given its role (headers -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/names.h"
#include "engine/plan.h"
#include "engine/safetensors.h"
#include "engine/weight_index.h"

/* Of one expert that is stored alone: gate, up and down. */
#define EXPERT_PARTS 3

/* Where one tensor of the model goes. */
struct slot {
	struct plan_item item; /* owns item.name */
	bool found;
	bool scale_found;
};

/*
 * Slots of a layer: one for each role (fused experts are there, too, and in
 * layer 0 the tensors of no layer), then EXPERT_PARTS for each expert.
 */
struct builder {
	const struct model_files *files;
	const struct model_config *config;
	struct error *err;
	struct weight_index index;
	struct slot *slots; /* [layer_count][stride] */
	size_t stride;
	struct model_plan plan; /* what is known of the result so far */
};

/* One tensor of one file. */
struct source {
	uint32_t file;
	struct safetensors_tensor *tensor;
};

static int refuse(struct builder *b, const struct source *source,
	const char *format, ...) __attribute__((format(printf, 3, 4)));

static int refuse(
	struct builder *b, const struct source *source, const char *format, ...)
{
	char reason[160];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	return error_set(b->err, EINVAL, "%s: tensor \"%s\": %s",
		b->files->weights[source->file].name, source->tensor->name,
		reason);
}

static uint32_t expert_part(enum tensor_role role)
{
	return role == ROLE_EXPERT_GATE ? 0 : role == ROLE_EXPERT_UP ? 1 : 2;
}

static struct slot *slot_at(
	struct builder *b, const struct name_match *match, bool expert)
{
	size_t at = match->role;

	if (expert && !match->fused)
		at = ROLE_COUNT + (size_t)match->expert * EXPERT_PARTS +
		     expert_part(match->role);
	assert(at < b->stride && match->layer < b->config->layer_count);
	return &b->slots[match->layer * b->stride + at];
}

/* ---- one tensor ---- */

/* "[2, 3]", for errors. */
static void format_dims(
	const uint64_t *dims, uint32_t rank, char *out, size_t size)
{
	size_t used = (size_t)snprintf(out, size, "[");

	for (uint32_t i = 0; i < rank && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%llu",
			i > 0 ? ", " : "", (unsigned long long)dims[i]);
	if (used < size)
		snprintf(out + used, size - used, "]");
}

static int check_dims(struct builder *b, const struct source *source,
	const uint64_t *dims, uint32_t rank)
{
	const struct safetensors_tensor *tensor = source->tensor;
	char got[72], want[72];

	if (tensor->rank == rank &&
		!memcmp(tensor->shape, dims, rank * sizeof(dims[0])))
		return 0;
	format_dims(tensor->shape, tensor->rank, got, sizeof(got));
	format_dims(dims, rank, want, sizeof(want));
	return refuse(b, source, "shape %s, expected %s", got, want);
}

static int check_shape(struct builder *b, const struct source *source,
	const struct role_shape *shape, bool fused)
{
	uint64_t dims[3];
	uint32_t rank = 0;

	if (fused)
		dims[rank++] = b->config->router.expert_count;
	if (!shape->vector)
		dims[rank++] = shape->rows;
	dims[rank++] = shape->cols;
	return check_dims(b, source, dims, rank);
}

static int check_type(struct builder *b, const struct source *source,
	const struct role_shape *shape, bool fused)
{
	const struct safetensors_tensor *tensor = source->tensor;
	bool fp8 = tensor->type == DTYPE_F8_E4M3;

	if (tensor->type == DTYPE_COUNT)
		return refuse(b, source, "type %s cannot be loaded",
			tensor->type_name);
	if (fp8 && !b->config->fp8)
		return refuse(
			b, source, "type F8_E4M3 without quantization_config");
	if (fp8 && shape->vector)
		return refuse(b, source, "type F8_E4M3 for a vector");
	if (fp8 && fused)
		return refuse(b, source,
			"type F8_E4M3 for fused experts is not supported");
	return 0;
}

static int place_weight(struct builder *b, const struct source *source,
	const struct name_match *match, const struct role_shape *shape)
{
	struct slot *slot = slot_at(b, match, shape->expert);
	struct safetensors_tensor *tensor = source->tensor;
	struct plan_item *item = &slot->item;
	int rc = check_shape(b, source, shape, match->fused);

	if (rc == 0)
		rc = check_type(b, source, shape, match->fused);
	if (rc)
		return rc;
	if (slot->found)
		return refuse(b, source, "is there twice, as \"%.100s\" in %s",
			item->name, b->files->weights[item->file].name);
	slot->found = true;
	item->role = match->role;
	item->layer = match->layer;
	item->expert = match->expert;
	if (shape->expert)
		item->expert_count =
			match->fused ? b->config->router.expert_count : 1;
	item->rows = shape->rows;
	item->cols = shape->cols;
	item->type = tensor->type;
	item->file = source->file;
	item->offset_bytes = tensor->offset_bytes;
	item->size_bytes = tensor->size_bytes;
	item->name = tensor->name;
	tensor->name = NULL;
	return 0;
}

static int place_scale(struct builder *b, const struct source *source,
	const struct name_match *match, const struct role_shape *shape)
{
	const struct model_config *config = b->config;
	const struct safetensors_tensor *tensor = source->tensor;
	struct slot *slot = slot_at(b, match, shape->expert);
	uint64_t dims[2];
	int rc;

	if (!config->fp8)
		return refuse(
			b, source, "fp8 scales without quantization_config");
	dims[0] = div_up(shape->rows, config->fp8_block_rows);
	dims[1] = div_up(shape->cols, config->fp8_block_cols);
	rc = check_dims(b, source, dims, 2);
	if (rc)
		return rc;
	if (tensor->type != DTYPE_F32)
		return refuse(b, source, "type %s, scales are F32",
			tensor->type_name);
	/* A second one would need a second name, and scales have one. */
	assert(!slot->scale_found);
	slot->scale_found = true;
	slot->item.scale_file = source->file;
	slot->item.scale_offset_bytes = tensor->offset_bytes;
	slot->item.scale_size_bytes = tensor->size_bytes;
	return 0;
}

static int skip_tensor(struct builder *b, const struct source *source)
{
	b->plan.skipped_count++;
	b->plan.skipped_bytes += source->tensor->size_bytes;
	return 0;
}

/* Some files of tied models hold the head as well: it is the embedding. */
static int skip_tied_head(struct builder *b, const struct source *source)
{
	struct role_shape shape;
	bool needed = role_shape(b->config, ROLE_EMBED, 0, &shape);
	int rc;

	assert(needed);
	rc = check_shape(b, source, &shape, false);
	return rc ? rc : skip_tensor(b, source);
}

static int place_tensor(struct builder *b, const struct source *source)
{
	struct name_match match = name_match(b->config, source->tensor->name);
	struct role_shape shape;
	bool scale = match.kind == NAME_SCALE;

	if (match.kind == NAME_SKIPPED)
		return skip_tensor(b, source);
	if (match.kind == NAME_WEIGHT && match.role == ROLE_HEAD &&
		b->config->tied_head)
		return skip_tied_head(b, source);
	if (match.kind == NAME_UNKNOWN ||
		!role_shape(b->config, match.role, match.layer, &shape) ||
		(scale && (shape.vector || match.fused)))
		return refuse(b, source,
			"is surplus: this %s model has no such tensor",
			model_family_name(b->config->family));
	return scale ? place_scale(b, source, &match, &shape)
		     : place_weight(b, source, &match, &shape);
}

/* ---- all files ---- */

static int place_file(struct builder *b, uint32_t file)
{
	const struct model_file *weights = &b->files->weights[file];
	struct safetensors_header header;
	int rc = safetensors_read(weights->fd, weights->name, &header, b->err);

	if (rc)
		return rc;
	rc = safetensors_check_size(
		&header, weights->name, weights->size_bytes, b->err);
	for (uint32_t i = 0; rc == 0 && i < header.count; i++) {
		struct source source = {file, &header.tensors[i]};

		rc = weight_index_claim(
			&b->index, file, source.tensor->name, b->err);
		if (rc == 0)
			rc = place_tensor(b, &source);
	}
	safetensors_release(&header);
	return rc;
}

static int place_files(struct builder *b)
{
	int rc = weight_index_read(b->files, &b->index, b->err);

	for (uint32_t i = 0; rc == 0 && i < b->files->weight_count; i++)
		if (b->index.used[i])
			rc = place_file(b, i);
	return rc ? rc : weight_index_finish(&b->index, b->err);
}

/* ---- completeness ---- */

/* Whether the layer's experts are stored fused; no expert: as published. */
static bool is_fused(struct builder *b, uint32_t layer)
{
	const struct slot *slots = &b->slots[layer * b->stride];
	bool separate = false;

	if (slots[ROLE_EXPERT_GATE_UP].found || slots[ROLE_EXPERT_DOWN].found)
		return true;
	for (size_t i = ROLE_COUNT; i < b->stride; i++)
		separate = separate || slots[i].found;
	return !separate && b->config->family == FAMILY_GRANITE_MOE;
}

/* What slot number `at` of a layer is for; false if it has to be empty. */
static bool slot_needed(struct builder *b, uint32_t layer, size_t at,
	bool fused, struct name_match *out)
{
	static const enum tensor_role parts[EXPERT_PARTS] = {
		ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN};
	bool alone = at >= ROLE_COUNT;
	struct role_shape shape;

	*out = (struct name_match){
		.kind = NAME_WEIGHT,
		.role = alone ? parts[(at - ROLE_COUNT) % EXPERT_PARTS]
			      : (enum tensor_role)at,
		.layer = layer,
		.expert = alone ? (uint32_t)((at - ROLE_COUNT) / EXPERT_PARTS)
				: 0,
	};
	if (!role_shape(b->config, out->role, layer, &shape))
		return false;
	if (!shape.expert)
		return true;
	out->fused = !alone;
	return alone ? !fused
		     : fused && (out->role == ROLE_EXPERT_GATE_UP ||
					out->role == ROLE_EXPERT_DOWN);
}

struct missing {
	size_t count;
	struct name_match first;
};

static void note_missing(struct missing *missing,
	const struct name_match *match, enum name_kind kind)
{
	if (missing->count++ == 0) {
		missing->first = *match;
		missing->first.kind = kind;
	}
}

static int check_slot(struct builder *b, const struct slot *slot,
	const struct name_match *match, struct missing *missing)
{
	bool fp8 = slot->found && slot->item.type == DTYPE_F8_E4M3;

	if (!slot->found)
		note_missing(missing, match, NAME_WEIGHT);
	else if (fp8 && !slot->scale_found)
		note_missing(missing, match, NAME_SCALE);
	else if (!fp8 && slot->scale_found)
		return error_set(b->err, EINVAL,
			"%s: tensor \"%s\": has fp8 scales, but is %s",
			b->files->weights[slot->item.file].name,
			slot->item.name, dtype_name(slot->item.type));
	return 0;
}

/* All routed experts are one pool of slots of one type. */
static int check_expert_type(struct builder *b, const struct plan_item *item)
{
	enum dtype type =
		item->type == DTYPE_F8_E4M3 ? FP8_EXPANDED_TYPE : item->type;

	if (item->expert_count == 0)
		return 0;
	if (b->plan.expert_type == DTYPE_COUNT)
		b->plan.expert_type = type;
	if (b->plan.expert_type == type)
		return 0;
	return error_set(b->err, EINVAL,
		"%s: tensor \"%s\": is %s, other experts are %s",
		b->files->weights[item->file].name, item->name,
		dtype_name(type), dtype_name(b->plan.expert_type));
}

static int check_layer(
	struct builder *b, uint32_t layer, struct missing *missing)
{
	bool fused = is_fused(b, layer);
	struct name_match match;
	int rc;

	for (size_t at = 0; at < b->stride; at++) {
		struct slot *slot = &b->slots[layer * b->stride + at];

		if (!slot_needed(b, layer, at, fused, &match)) {
			if (!slot->found && !slot->scale_found)
				continue;
			return error_set(b->err, EINVAL,
				"layer %u: experts are both fused and "
				"separate, \"%s\" is surplus",
				layer, slot->found ? slot->item.name : "scale");
		}
		rc = check_slot(b, slot, &match, missing);
		if (rc == 0 && slot->found)
			rc = check_expert_type(b, &slot->item);
		if (rc)
			return rc;
		b->plan.count++;
	}
	return 0;
}

static int check_all(struct builder *b)
{
	struct missing missing = {0};
	char name[SAFETENSORS_NAME_BYTES_MAX];
	int rc;

	b->plan.expert_type = DTYPE_COUNT;
	for (uint32_t l = 0; l < b->config->layer_count; l++) {
		rc = check_layer(b, l, &missing);
		if (rc)
			return rc;
	}
	if (missing.count == 0)
		return 0;
	name_format(b->config, &missing.first, name, sizeof(name));
	return error_set(b->err, EINVAL,
		"tensor \"%s\" is missing (%zu missing in all)", name,
		missing.count);
}

/* ---- the result ---- */

static void collect_items(struct builder *b)
{
	size_t slot_count = b->stride * b->config->layer_count;
	uint32_t count = 0;

	for (size_t i = 0; i < slot_count; i++) {
		if (!b->slots[i].found)
			continue;
		b->plan.items[count++] = b->slots[i].item;
		b->slots[i].item.name = NULL;
	}
	assert(count == b->plan.count);
}

static int collect_ignored(struct builder *b)
{
	struct model_plan *plan = &b->plan;
	uint32_t weight_count = b->files->weight_count;

	plan->ignored_files =
		calloc((size_t)weight_count + 1, sizeof(*plan->ignored_files));
	if (!plan->ignored_files)
		return error_set(
			b->err, ENOMEM, "no memory for %u files", weight_count);
	for (uint32_t i = 0; i < weight_count; i++)
		if (!b->index.used[i])
			memcpy(plan->ignored_files[plan->ignored_file_count++],
				b->files->weights[i].name,
				sizeof(*plan->ignored_files));
	return 0;
}

static int build(struct builder *b)
{
	int rc = place_files(b);

	if (rc == 0)
		rc = check_all(b);
	if (rc)
		return rc;
	b->plan.items = calloc(b->plan.count, sizeof(*b->plan.items));
	if (!b->plan.items)
		return error_set(b->err, ENOMEM, "no memory for %u tensors",
			b->plan.count);
	rc = collect_ignored(b);
	if (rc == 0) {
		collect_items(b);
	} else {
		free(b->plan.items);
		b->plan.items = NULL;
	}
	return rc;
}

static int alloc_slots(struct builder *b)
{
	const struct model_config *config = b->config;
	size_t count;

	b->stride =
		ROLE_COUNT + (size_t)config->router.expert_count * EXPERT_PARTS;
	count = b->stride * config->layer_count; /* within base/limits.h */
	b->slots = calloc(count, sizeof(*b->slots));
	if (!b->slots)
		return error_set(b->err, ENOMEM,
			"no memory for a plan of %zu tensors", count);
	return 0;
}

static void free_slots(struct builder *b)
{
	size_t count = b->stride * b->config->layer_count;

	for (size_t i = 0; i < count; i++)
		free(b->slots[i].item.name);
	free(b->slots);
}

int model_plan_create(const struct model_files *files,
	const struct model_config *config, struct model_plan *out,
	struct error *err)
{
	struct builder b = {.files = files, .config = config, .err = err};
	int rc;

	assert(files && config && out && config->moe_layer_count > 0);
	rc = alloc_slots(&b);
	if (rc)
		return rc;
	rc = build(&b);
	if (rc == 0)
		*out = b.plan;
	weight_index_release(&b.index);
	free_slots(&b);
	return rc;
}

bool model_plan_ignores(const struct model_plan *plan, const char *name)
{
	for (uint32_t i = 0; i < plan->ignored_file_count; i++)
		if (strcmp(plan->ignored_files[i], name) == 0)
			return true;
	return false;
}

void model_plan_release(struct model_plan *plan)
{
	for (uint32_t i = 0; i < plan->count; i++)
		free(plan->items[i].name);
	free(plan->items);
	free(plan->ignored_files);
	*plan = (struct model_plan){0};
}
