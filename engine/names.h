/* names.h - names of tensors in published checkpoints (name <-> role) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   families call the same matrix by different names, and one matrix
 *        can have several: all of it is in the tables of names.c, and nothing
 *        else compares names.
 * Threads: pure functions.
 */
#ifndef HEDDLE_ENGINE_NAMES_H
#define HEDDLE_ENGINE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model.h"
#include "engine/plan.h"

enum name_kind {
	NAME_UNKNOWN, /* no tensor of this family */
	NAME_WEIGHT,
	NAME_SCALE, /* the fp8 scales of that weight */
	NAME_SKIPPED /* known and of no use here */
};

struct name_match {
	enum name_kind kind;
	enum tensor_role role; /* of weights and scales, as the rest is */
	uint32_t layer; /* < layer_count; 0 for tensors of no layer */
	uint32_t expert; /* < expert_count; 0 for what is no expert */
	bool fused; /* all experts of the layer */
};

/* Whether the model needs that role in that layer is not asked here. */
struct name_match name_match(
	const struct model_config *config, const char *name);

/*
 * The same for a tensor of an adapter, which holds single routed experts:
 * under the family's own names, or under those that ESFT publishes
 * (mlp.experts.E.gate_proj.weight and so on), with or without "model." in
 * front. Everything else is NAME_UNKNOWN.
 */
struct name_match name_match_adapter(
	const struct model_config *config, const char *name);

/*
 * The name of one matrix of one expert in an adapter that we write: the
 * family's own where it stores experts one by one, else ESFT's.
 */
void name_format_adapter(const struct model_config *config,
	enum tensor_role role, uint32_t layer, uint32_t expert, char *out,
	size_t size);

/* The name that the family publishes, for errors; truncated to size. */
void name_format(const struct model_config *config,
	const struct name_match *match, char *out, size_t size);

/* MoE layers are numbered 0.. in order: the number of a layer that is one. */
uint32_t model_moe_layer(const struct model_config *config, uint32_t layer);

/* The other way round. */
uint32_t model_layer(const struct model_config *config, uint32_t moe_layer);

/* What the model needs of a role. */
struct role_shape {
	uint32_t rows, cols; /* of one matrix; vectors have rows 1 */
	bool vector; /* stored with one dimension */
	bool expert; /* one for each routed expert */
};

/* False: the layer has no such tensor. */
bool role_shape(const struct model_config *config, enum tensor_role role,
	uint32_t layer, struct role_shape *out);

#endif
