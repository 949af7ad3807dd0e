/* adapter_config.c - which experts an adapter tunes (expert_cfg.json -> lists) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "engine/adapter_config.h"
#include "engine/names.h"

#define SEEN_WORDS (MODEL_EXPERT_COUNT_MAX / 64)

struct parser {
	const char *name; /* of the file */
	const struct model_config *model;
	struct adapter_config *out;
	struct error *err;
};

/* What replacing routed experts cannot serve. */
static int check_flags(const struct parser *p, json_t *root)
{
	static const char *const flags[] = {
		"shared_experts", "non_expert_modules"};
	struct fields fields;

	fields_init(&fields, root, "", p->err);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (fields_bool_or(&fields, flags[i], false))
			fields_refuse(&fields, flags[i],
				"is true: this adapter changes more than "
				"routed experts and cannot be served as one");
	return fields.rc;
}

/* A misspelt flag would be an adapter that is served without its half. */
static int check_keys(const struct parser *p, json_t *root)
{
	static const char *const known[] = {
		"experts", "shared_experts", "non_expert_modules"};
	const char *key;
	json_t *value;

	json_object_foreach(root, key, value)
	{
		size_t i = 0;

		while (i < sizeof(known) / sizeof(known[0]) &&
			strcmp(key, known[i]) != 0)
			i++;
		if (i == sizeof(known) / sizeof(known[0]))
			return error_set(
				p->err, EINVAL, "\"%.64s\" is not known", key);
	}
	return 0;
}

/* "12" -> 12, in the one spelling that it has. */
static bool parse_layer(const char *key, uint32_t *out)
{
	char again[16];

	*out = (uint32_t)strtoul(key, NULL, 10);
	snprintf(again, sizeof(again), "%u", *out);
	return strcmp(key, again) == 0;
}

/* Experts of one layer as bits. */
static int read_list(const struct parser *p, uint32_t layer, const json_t *list,
	uint64_t *seen)
{
	uint32_t expert_count = p->model->router.expert_count;
	const json_t *value;
	size_t i;

	memset(seen, 0, SEEN_WORDS * sizeof(*seen));
	if (!json_is_array(list))
		return error_set(
			p->err, EINVAL, "experts: layer %u: is no list", layer);
	json_array_foreach(list, i, value)
	{
		uint32_t id;

		if (!json_u32_ok(value, UINT32_MAX, &id))
			return error_set(p->err, EINVAL,
				"experts: layer %u: entry %zu is no number of "
				"an expert",
				layer, i);
		if (id >= expert_count)
			return error_set(p->err, EINVAL,
				"experts: layer %u: expert %u, but the model "
				"has %u in each layer",
				layer, id, expert_count);
		if (seen[id / 64] >> id % 64 & 1)
			return error_set(p->err, EINVAL,
				"experts: layer %u: expert %u is there twice",
				layer, id);
		seen[id / 64] |= UINT64_C(1) << id % 64;
	}
	return 0;
}

/* Layers come in any order: count first, then write to each its place. */
static int each_layer(const struct parser *p, json_t *experts,
	void (*take)(struct adapter_config *out, uint32_t moe_layer,
		uint32_t expert))
{
	const struct model_config *model = p->model;
	uint64_t seen[SEEN_WORDS];
	const char *key;
	json_t *list;

	json_object_foreach(experts, key, list)
	{
		uint32_t layer, moe_layer;
		int rc;

		if (!parse_layer(key, &layer))
			return error_set(p->err, EINVAL,
				"experts: \"%.32s\" is no number of a layer",
				key);
		if (layer >= model->layer_count || !model->is_moe[layer])
			return error_set(p->err, EINVAL,
				"experts: the model has no routed experts in "
				"layer %u",
				layer);
		rc = read_list(p, layer, list, seen);
		if (rc)
			return rc;
		moe_layer = model_moe_layer(model, layer);
		for (uint32_t e = 0; e < model->router.expert_count; e++)
			if (seen[e / 64] >> e % 64 & 1)
				take(p->out, moe_layer, e);
	}
	return 0;
}

static void count_expert(
	struct adapter_config *out, uint32_t moe_layer, uint32_t expert)
{
	(void)expert;
	out->counts[moe_layer]++;
	out->total++;
}

static void write_expert(
	struct adapter_config *out, uint32_t moe_layer, uint32_t expert)
{
	out->ids[out->first[moe_layer] + out->counts[moe_layer]++] =
		(uint16_t)expert;
}

static int read_experts(const struct parser *p, json_t *experts)
{
	struct adapter_config *out = p->out;
	uint32_t first = 0;
	int rc = each_layer(p, experts, count_expert);

	if (rc)
		return rc;
	if (out->total == 0)
		return error_set(p->err, EINVAL, "experts: names no expert");
	out->ids = calloc(out->total, sizeof(*out->ids));
	if (!out->ids)
		return error_set(p->err, ENOMEM,
			"no memory for a list of %u experts", out->total);
	for (uint32_t l = 0; l < out->layer_count; l++) {
		out->first[l] = first;
		out->lists[l] = out->ids + first;
		first += out->counts[l];
		out->counts[l] = 0;
	}
	rc = each_layer(p, experts, write_expert);
	assert(rc == 0); /* it was read before */
	return rc;
}

static int read_root(const struct parser *p, json_t *root)
{
	struct adapter_config *out = p->out;
	json_t *experts = json_object_get(root, "experts");
	int rc = check_flags(p, root);

	if (rc == 0)
		rc = check_keys(p, root);
	if (rc)
		return rc;
	if (!json_is_object(experts))
		return error_set(p->err, EINVAL, "experts: is no object");
	out->layer_count = p->model->moe_layer_count;
	out->counts = calloc(out->layer_count, sizeof(*out->counts));
	out->first = calloc(out->layer_count, sizeof(*out->first));
	out->lists = calloc(out->layer_count, sizeof(*out->lists));
	if (!out->counts || !out->first || !out->lists)
		return error_set(p->err, ENOMEM, "no memory for %u layers",
			out->layer_count);
	return read_experts(p, experts);
}

int adapter_config_parse(const char *text, size_t length, const char *name,
	const struct model_config *model, struct adapter_config *out,
	struct error *err)
{
	/* Of any base: what is for another one is to be refused by name. */
	static const struct json_bounds bounds = {
		.object_max = 2,
		.array_max = MODEL_LAYER_COUNT_MAX,
		.separator_max = (size_t)MODEL_LAYER_COUNT_MAX *
				 (MODEL_EXPERT_COUNT_MAX + 2),
	};
	struct parser p = {name, model, out, err};
	json_t *root = NULL;
	int rc;

	assert(model->moe_layer_count > 0);
	*out = (struct adapter_config){0};
	rc = json_text_parse(text, length, &bounds, &root, err);
	if (rc == 0)
		rc = read_root(&p, root);
	json_decref(root);
	if (rc) {
		adapter_config_release(out);
		error_prefix(err, "%s", name);
	}
	return rc;
}

void adapter_config_release(struct adapter_config *config)
{
	free(config->lists);
	free(config->ids);
	free(config->first);
	free(config->counts);
	*config = (struct adapter_config){0};
}
