/* config_parts.h - the pieces of model_config_parse() (internal) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   reading config.json is four subjects: what all families share
 *        (config.c), what differs between them (config_families.c), experts
 *        and routers (config_experts.c), and rotary frequencies (rope.c).
 * Order: config_read_family() first; it fills everything but config->rope
 *        and leaves attention_scale without YaRN's part. rope_read() needs
 *        head_dim and rope_dim and completes both.
 * Errors: in the reader (base/json_text.h): look at fields->rc at the end.
 */
#ifndef HEDDLE_ENGINE_CONFIG_PARTS_H
#define HEDDLE_ENGINE_CONFIG_PARTS_H

#include "base/json_text.h"
#include "engine/model.h"

static inline bool family_is_deepseek(enum model_family family)
{
	return family == FAMILY_DEEPSEEK_V2 || family == FAMILY_DEEPSEEK_V3;
}

static inline bool family_is_qwen(enum model_family family)
{
	return family == FAMILY_QWEN2_MOE || family == FAMILY_QWEN3_MOE;
}

/* Everything that depends on config->family, which is set. */
void config_read_family(struct fields *fields, struct model_config *config);

/* Parts of it, in this order: is_moe and dense_inter; widths; the router. */
void config_read_layers(struct fields *fields, struct model_config *config);
void config_read_experts(struct fields *fields, struct model_config *config);
void config_read_router(struct fields *fields, struct model_config *config);

/* config->rope, and YaRN's part of config->attention_scale. */
void rope_read(struct fields *fields, struct model_config *config);

#endif
