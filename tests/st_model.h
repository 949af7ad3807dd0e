/* st_model.h - tiny checkpoints of every family (family -> config, tensors) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the plan and the loader need whole models that are right, to make
 *        them wrong one piece at a time. Names and shapes are written down
 *        here once more, as the families publish them, and share nothing with
 *        the code under test but struct model_config.
 * Threads: pure functions.
 */
#ifndef HEDDLE_TESTS_ST_MODEL_H
#define HEDDLE_TESTS_ST_MODEL_H

#include <stdbool.h>

#include "engine/model.h"
#include "tests/st_builder.h"

enum st_layout_kind {
	ST_PUBLISHED, /* as the family publishes */
	ST_TRANSFORMERS5 /* as transformers 5 names them in memory */
};

/* config.json of a tiny model: 3 layers, or 2 where all have experts. */
const char *st_model_config_text(enum model_family family);

/* The same for a DeepSeek-V3 in fp8 with blocks of 16 by 8. */
const char *st_model_fp8_config_text(void);

/* Every tensor of the model, in `type`, zeros; fp8 where the config says. */
void st_model_add(struct st_builder *b, const struct model_config *config,
	enum st_layout_kind kind, const char *type);

/* The layer that DeepSeek-V3 stores after the last, under its names. */
void st_model_add_mtp(struct st_builder *b, const struct model_config *config);

#endif
