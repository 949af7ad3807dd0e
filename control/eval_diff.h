/* eval_diff.h - what diff found, and the adapter that it becomes */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   comparing (eval_diff.c) and writing (eval_diff_write.c) share this;
 *        nobody else includes it.
 */
#ifndef HEDDLE_CONTROL_EVAL_DIFF_H
#define HEDDLE_CONTROL_EVAL_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "control/eval.h"
#include "engine/expert_source.h"
#include "engine/plan.h"

/* One of the two checkpoints. */
struct diff_side {
	struct model_config config;
	struct model_files files;
	struct model_plan plan;
	struct expert_sources sources;
};

struct diff {
	const struct eval_options *options;
	struct diff_side base, model;
	void *buffers[2]; /* a piece of either side */
	bool *changed; /* [MoE layer * experts + expert] */
	uint32_t changed_count;
};

/*
 * expert_cfg.json, model.safetensors and the model's config.json, in the
 * directory options->out, which must not be there. The same difference gives
 * the same bytes.
 */
int diff_write_adapter(struct diff *d, struct error *err);

#endif
