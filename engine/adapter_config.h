/* adapter_config.h - which experts an adapter tunes (expert_cfg.json -> lists) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Format: {"experts": {"LAYER": [expert, ...], ...}, "shared_experts": false,
 *        "non_expert_modules": false}; LAYER is the absolute number of a layer
 *        with routed experts, lists are in any order (deepseek-ai/ESFT,
 *        README and esft.py). An adapter for which one of the two flags is true
 *        changes more than routed experts and cannot be served by replacing
 *        these: it is refused.
 * Invariants: after success every list is ascending, without repeats, each
 *        expert below the model's count, and at least one is not empty.
 * Ownership: the struct owns its arrays until release.
 * Threads: immutable after parse.
 */
#ifndef HEDDLE_ENGINE_ADAPTER_CONFIG_H
#define HEDDLE_ENGINE_ADAPTER_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/model.h"

struct adapter_config {
	uint32_t layer_count; /* MoE layers of the model, as experts.h counts */
	uint32_t total; /* experts over all layers */
	uint32_t *counts; /* [layer_count] */
	uint32_t *first; /* [layer_count] index of the layer's first expert */
	uint16_t *ids; /* [total] layer after layer */
	const uint16_t **lists; /* [layer_count] into ids */
};

/* name is used in errors. -EINVAL with layer and expert; -ENOMEM. */
int adapter_config_parse(const char *text, size_t length, const char *name,
	const struct model_config *model, struct adapter_config *out,
	struct error *err);

/* A zeroed struct is allowed. */
void adapter_config_release(struct adapter_config *config);

#endif
