/* expert_source.h - where a checkpoint keeps each matrix of each expert */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   checkpoints store experts one by one or all of a layer in one tensor;
 *        merge and diff ask for gate, up or down of one expert and do not care.
 * Ownership: the table owns its array and borrows the plan's names.
 * Threads: immutable after create.
 */
#ifndef HEDDLE_ENGINE_EXPERT_SOURCE_H
#define HEDDLE_ENGINE_EXPERT_SOURCE_H

#include <stdint.h>

#include "engine/adapter_plan.h"
#include "engine/plan.h"

struct expert_source {
	const struct plan_item *item; /* the tensor that holds it */
	uint64_t offset_bytes, size_bytes; /* in the item's file */
};

struct expert_sources {
	uint32_t expert_count; /* of a layer */
	struct expert_source (*parts)[ADAPTER_PART_COUNT]; /* [MoE layer *
							      expert_count +
							      expert] */
};

/* -ENOMEM. */
int expert_sources_create(const struct model_plan *plan,
	const struct model_config *config, struct expert_sources *out,
	struct error *err);

/* A zeroed struct is allowed. */
void expert_sources_release(struct expert_sources *sources);

#endif
