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

/* The name that the family publishes, for errors; truncated to size. */
void name_format(const struct model_config *config,
	const struct name_match *match, char *out, size_t size);

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
