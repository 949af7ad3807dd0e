/* adapter_plan.c - every tensor of an ESFT adapter found and checked */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter_plan.h"
#include "engine/names.h"
#include "engine/safetensors.h"

/* ROLE of each part. */
static const enum tensor_role part_roles[ADAPTER_PART_COUNT] = {
	[ADAPTER_GATE] = ROLE_EXPERT_GATE,
	[ADAPTER_UP] = ROLE_EXPERT_UP,
	[ADAPTER_DOWN] = ROLE_EXPERT_DOWN,
};

struct builder {
	const struct adapter_files *files;
	const struct model_config *config;
	struct adapter_plan *plan;
	struct error *err;
	const struct adapter_pace *pace; /* NULL = none */
};

static int refuse(struct builder *b, uint32_t file,
	const struct safetensors_tensor *tensor, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int refuse(struct builder *b, uint32_t file,
	const struct safetensors_tensor *tensor, const char *format, ...)
{
	char reason[160];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	return error_set(b->err, EINVAL, "%s: tensor \"%s\": %s",
		b->files->model.weights[file].name, tensor->name, reason);
}

static enum adapter_part part_of(enum tensor_role role)
{
	return role == ROLE_EXPERT_GATE ? ADAPTER_GATE
	       : role == ROLE_EXPERT_UP ? ADAPTER_UP
					: ADAPTER_DOWN;
}

static int compare_id(const void *key, const void *id)
{
	return (int)*(const uint16_t *)key - (int)*(const uint16_t *)id;
}

/* The parts of that expert, or NULL: expert_cfg.json does not list it. */
static struct adapter_tensor *find_expert(
	struct builder *b, const struct name_match *match)
{
	const struct adapter_config *config = &b->plan->config;
	uint16_t expert = (uint16_t)match->expert;
	uint32_t layer = model_moe_layer(b->config, match->layer);
	const uint16_t *found;

	found = bsearch(&expert, config->lists[layer], config->counts[layer],
		sizeof(expert), compare_id);
	return found ? b->plan->tensors[found - config->ids] : NULL;
}

static int check_tensor(struct builder *b, uint32_t file,
	const struct safetensors_tensor *tensor, const struct name_match *match)
{
	struct role_shape shape;
	bool needed = role_shape(b->config, match->role, match->layer, &shape);

	assert(needed && shape.expert);
	if (tensor->rank != 2 || tensor->shape[0] != shape.rows ||
		tensor->shape[1] != shape.cols)
		return refuse(b, file, tensor,
			"shape [%llu, %llu] of rank %u, this base needs "
			"[%u, %u]",
			(unsigned long long)(tensor->rank > 0 ? tensor->shape[0]
							      : 0),
			(unsigned long long)(tensor->rank > 1 ? tensor->shape[1]
							      : 0),
			tensor->rank, shape.rows, shape.cols);
	if (tensor->type != DTYPE_F32 && tensor->type != DTYPE_BF16 &&
		tensor->type != DTYPE_F16)
		return refuse(b, file, tensor,
			"type %s, adapters are F32, BF16 or F16",
			tensor->type_name);
	return 0;
}

static int place_tensor(struct builder *b, uint32_t file,
	const struct safetensors_tensor *tensor)
{
	struct name_match match = name_match_adapter(b->config, tensor->name);
	struct adapter_tensor *parts, *part;
	int rc;

	if (match.kind != NAME_WEIGHT)
		return refuse(b, file, tensor,
			"is surplus: it is no routed expert of this %s base",
			model_family_name(b->config->family));
	parts = find_expert(b, &match);
	if (!parts)
		return refuse(b, file, tensor,
			"is surplus: %s does not list expert %u of layer %u",
			b->files->experts.name, match.expert, match.layer);
	rc = check_tensor(b, file, tensor, &match);
	if (rc)
		return rc;
	part = &parts[part_of(match.role)];
	if (part->size_bytes > 0)
		return refuse(b, file, tensor,
			"is there twice, the first time in %s",
			b->files->model.weights[part->file].name);
	*part = (struct adapter_tensor){
		.file = file,
		.type = tensor->type,
		.offset_bytes = tensor->offset_bytes,
		.size_bytes = tensor->size_bytes,
	};
	b->plan->size_bytes += tensor->size_bytes;
	return 0;
}

/* What is kept of a file while it is hashed: its header. */
struct kept {
	const struct adapter_pace *pace; /* NULL = none */
	uint64_t file_bytes;
	uint8_t prefix[SAFETENSORS_LENGTH_BYTES];
	uint64_t length; /* of json; 0 until the prefix is there, or bad */
	char *json; /* owned */
};

/* Copy what of a piece of the file is in [from, from + size) to `out`. */
static void keep_range(const uint8_t *data, uint64_t offset, size_t length,
	uint64_t from, uint64_t size, void *out)
{
	uint64_t begin = offset > from ? offset : from;
	uint64_t end =
		offset + length < from + size ? offset + length : from + size;

	if (begin < end)
		memcpy((uint8_t *)out + (begin - from), data + (begin - offset),
			end - begin);
}

static int keep_header(
	void *arg, uint64_t offset, const uint8_t *data, size_t length)
{
	struct kept *kept = arg;
	int rc = kept->pace ? kept->pace->wait(kept->pace->arg, 0, length) : 0;

	if (rc)
		return rc;
	keep_range(data, offset, length, 0, sizeof(kept->prefix), kept->prefix);
	/* Whether it is good is said once the file is proven. */
	if (!kept->json && offset + length >= sizeof(kept->prefix) &&
		offset < sizeof(kept->prefix) &&
		safetensors_header_length(kept->prefix, kept->file_bytes,
			&kept->length, NULL) == 0) {
		kept->json = malloc(kept->length);
		if (!kept->json)
			return -ENOMEM;
	}
	if (kept->json)
		keep_range(data, offset, length, sizeof(kept->prefix),
			kept->length, kept->json);
	return 0;
}

static int parse_kept(const struct model_file *file, struct kept *kept,
	struct safetensors_header *out, struct error *err)
{
	int rc = safetensors_header_length(
		kept->prefix, kept->file_bytes, &kept->length, err);

	if (rc == 0)
		rc = safetensors_parse(kept->json, kept->length,
			kept->file_bytes - sizeof(kept->prefix) - kept->length,
			out, err);
	return rc ? error_prefix(err, "%s", file->name) : 0;
}

static int read_proven(const struct model_file *file,
	const struct adapter_pace *pace, struct safetensors_header *out,
	struct error *err)
{
	struct kept kept = {.pace = pace, .file_bytes = file->size_bytes};
	const struct file_sink sink = {keep_header, &kept};
	int rc = model_file_prove(file, &sink, err);

	if (rc == 0)
		rc = parse_kept(file, &kept, out, err);
	free(kept.json);
	return rc;
}

static int place_file(struct builder *b, uint32_t file)
{
	const struct model_file *weights = &b->files->model.weights[file];
	struct safetensors_header header = {0};
	int rc = weights->has_hash
			 ? read_proven(weights, b->pace, &header, b->err)
			 : safetensors_read(
				   weights->fd, weights->name, &header, b->err);

	if (rc)
		return rc;
	rc = safetensors_check_size(
		&header, weights->name, weights->size_bytes, b->err);
	for (uint32_t i = 0; rc == 0 && i < header.count; i++)
		rc = place_tensor(b, file, &header.tensors[i]);
	safetensors_release(&header);
	return rc;
}

/* ---- completeness ---- */

static int check_missing(struct builder *b)
{
	const struct adapter_config *config = &b->plan->config;
	char name[SAFETENSORS_NAME_BYTES_MAX];
	size_t missing = 0;

	for (uint32_t l = 0; l < config->layer_count; l++)
		for (uint32_t i = 0; i < config->counts[l]; i++)
			for (int part = 0; part < ADAPTER_PART_COUNT; part++) {
				uint32_t at = config->first[l] + i;

				if (b->plan->tensors[at][part].size_bytes > 0)
					continue;
				if (missing++ == 0)
					name_format_adapter(b->config,
						part_roles[part],
						model_layer(b->config, l),
						config->ids[at], name,
						sizeof(name));
			}
	if (missing == 0)
		return 0;
	return error_set(b->err, EINVAL,
		"tensor \"%s\" is missing (%zu missing in all)", name, missing);
}

/* ---- the base ---- */

static int compare_number(
	struct builder *b, const char *what, uint32_t own, uint32_t base)
{
	if (own == base)
		return 0;
	return error_set(b->err, EINVAL,
		"%s: is for another base: %s %u, this one has %u",
		b->files->model.config.name, what, own, base);
}

static int compare_base(struct builder *b, const struct model_config *own)
{
	const struct model_config *base = b->config;
	int rc;

	if (own->family != base->family)
		return error_set(b->err, EINVAL,
			"%s: is for another base: a %s, this is a %s",
			b->files->model.config.name,
			model_family_name(own->family),
			model_family_name(base->family));
	rc = compare_number(b, "layers", own->layer_count, base->layer_count);
	if (rc == 0)
		rc = compare_number(b, "layers with routed experts",
			own->moe_layer_count, base->moe_layer_count);
	if (rc == 0)
		rc = compare_number(b, "experts per layer",
			own->router.expert_count, base->router.expert_count);
	if (rc == 0)
		rc = compare_number(
			b, "hidden size", own->hidden, base->hidden);
	if (rc == 0)
		rc = compare_number(b, "expert width", own->expert_inter,
			base->expert_inter);
	for (uint32_t l = 0; rc == 0 && l < base->layer_count; l++)
		if (own->is_moe[l] != base->is_moe[l])
			rc = error_set(b->err, EINVAL,
				"%s: is for another base: layer %u %s routed "
				"experts",
				b->files->model.config.name, l,
				own->is_moe[l] ? "has" : "has no");
	return rc;
}

static int check_base(struct builder *b)
{
	const struct model_file *file = &b->files->model.config;
	struct model_config *own;
	char *text = NULL;
	size_t length;
	int rc;

	if (file->fd < 0)
		return 0;
	own = malloc(sizeof(*own));
	if (!own)
		return error_set(
			b->err, ENOMEM, "no memory for a configuration");
	rc = model_file_text(file, &text, &length, b->err);
	if (rc == 0)
		rc = model_config_parse(text, length, file->name, own, b->err);
	if (rc == 0)
		rc = compare_base(b, own);
	free(text);
	free(own);
	return rc;
}

static int read_config(struct builder *b)
{
	const struct model_file *file = &b->files->experts;
	char *text = NULL;
	size_t length;
	int rc = model_file_text(file, &text, &length, b->err);

	if (rc == 0)
		rc = adapter_config_parse(text, length, file->name, b->config,
			&b->plan->config, b->err);
	free(text);
	return rc;
}

static int build(struct builder *b)
{
	struct adapter_plan *plan = b->plan;
	int rc = check_base(b);

	if (rc == 0)
		rc = read_config(b);
	if (rc)
		return rc;
	plan->tensors = calloc(plan->config.total, sizeof(*plan->tensors));
	if (!plan->tensors)
		return error_set(b->err, ENOMEM, "no memory for %u experts",
			plan->config.total);
	for (uint32_t i = 0; rc == 0 && i < b->files->model.weight_count; i++)
		rc = place_file(b, i);
	return rc ? rc : check_missing(b);
}

int adapter_plan_create(const struct adapter_files *files,
	const struct model_config *config, const struct adapter_pace *pace,
	struct adapter_plan *out, struct error *err)
{
	struct builder b = {files, config, out, err, pace};
	int rc;

	assert(files && config && out);
	*out = (struct adapter_plan){0};
	if (files->experts.fd < 0)
		return error_set(err, ENOENT, "expert_cfg.json is missing");
	rc = build(&b);
	if (rc)
		adapter_plan_release(out);
	return rc;
}

void adapter_plan_release(struct adapter_plan *plan)
{
	free(plan->tensors);
	adapter_config_release(&plan->config);
	*plan = (struct adapter_plan){0};
}
