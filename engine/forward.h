/* forward.h - one step through the model (rows -> logits -> tokens) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the pass is written once, as a list of operations of gpu/ops.h; it
 *        knows families only by the shapes and constants in model_config.
 *
 *            embed -> [ norm -> attention -> + -> norm -> MLP -> + ] x layers
 *                  -> norm -> gather sampled rows -> head -> sample
 *
 * Memory: every activation lies in one arena of the device, allocated at
 *        create from the capacity; step arrays are copied to fixed
 *        addresses, so a captured graph can replay the pass.
 * Invariants: bits of a row depend on that row's sequence, parameters and
 *        adapter alone (gpu/ops.h says how).
 * Ownership: borrows model and ops until destroy.
 * Threads: one.
 */
#ifndef HEDDLE_ENGINE_FORWARD_H
#define HEDDLE_ENGINE_FORWARD_H

#include "base/error.h"
#include "engine/load.h"
#include "engine/program.h"
#include "engine/step.h"
#include "gpu/ops.h"

struct forward; /* private */

/* Upper bounds for ops_create_*(), from model and step capacity. */
void forward_ops_limits(const struct model_config *config,
	const struct step_capacity *capacity, struct ops_limits *out);

/* -ENOMEM, -EOVERFLOW. */
int forward_create(struct model *model, struct ops *ops,
	const struct step_capacity *capacity, struct forward **out,
	struct error *err);

/* NULL is allowed. */
void forward_destroy(struct forward *forward);

/*
 * Run the step: check it, write its keys and values, fill step->result.
 * -EINVAL when the step breaks a rule (then nothing was computed or
 * written), -EIO when the device failed.
 */
int forward_run(struct forward *forward, struct step *step, struct error *err);

/*
 * From now on what operations take is added to *times, which is borrowed; NULL
 * = no more.
 */
void forward_time(struct forward *forward, struct program_times *times);

/* Device address of the last step's logits, [sample_count][vocab]. */
const float *forward_logits(const struct forward *forward);

/* Bytes of activations, for the books. */
uint64_t forward_bytes(const struct forward *forward);

#endif
