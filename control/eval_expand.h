/* eval_expand.h - fp8 blocks -> bf16, a whole checkpoint (files -> directory) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   experts that were trained in bf16 have no place among scaled fp8
 *        blocks; a checkpoint that holds them has to be bf16 throughout, and
 *        must say so. A value becomes what the loader makes of it, so both
 *        checkpoints compute the same bits.
 * Out:   every file of weights that the model uses, tensor for tensor: fp8
 *        blocks as bf16, their scales left out, everything else as stored,
 *        but fp8 that nobody uses (layers that predict further tokens) left
 *        out, too; config.json without quantization_config; the index, if
 *        there is one, for what is there.
 * Ownership: everything is borrowed for the call.
 */
#ifndef HEDDLE_CONTROL_EVAL_EXPAND_H
#define HEDDLE_CONTROL_EVAL_EXPAND_H

#include <stdbool.h>

#include "control/out_dir.h"
#include "engine/plan.h"

struct expand {
	const struct model_files *files;
	const struct model_config *config;
	const struct model_plan *plan;
	struct out_dir *out;
};

/* Does it have any? */
bool expand_needed(const struct model_plan *plan);

/* -EIO, -ENOMEM, -EINVAL, each with the file's name. */
int expand_checkpoint(const struct expand *expand, struct error *err);

/* Is that a file that expand_checkpoint() wrote, beside the weights? */
bool expand_writes(const char *name);

#endif
