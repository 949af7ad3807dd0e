/* fill.h - fill the model's memory from its files (plan -> bytes in place) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   each weight goes from the file to where it stays, once, in the
 *        layout that the back end reads (base/weight_format.h). fp8 blocks are
 *        expanded to FP8_EXPANDED_TYPE on the way; vectors become float; a
 *        fused tensor of all experts is taken apart into slots.
 * Ownership: everything is borrowed for the call.
 * Threads: one calls; `lane_count` read and repack, each its own elements.
 */
#ifndef HEDDLE_ENGINE_FILL_H
#define HEDDLE_ENGINE_FILL_H

#include <stdint.h>

#include "base/error.h"
#include "engine/files.h"
#include "engine/model.h"
#include "engine/plan.h"
#include "engine/reader.h"
#include "memmgr/experts.h"

struct fill {
	const struct model_files *files;
	const struct model_plan *plan;
	const struct model_config *config;
	enum weight_layout layout; /* WEIGHT_PANELS: vmm is the host's */
	uint32_t lane_count; /* 1 .. READER_LANE_COUNT_MAX */
	const uint64_t *offset; /* [plan->count], from weights_place() */
	vmm_addr dense; /* start of extent 0 */
	struct expert_store *experts;
	struct vmm *vmm;
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *progress_arg;
};

/* -EIO, -ENOMEM, -EINVAL (a scale that is not a number), each by name. */
int fill_run(
	const struct fill *fill, struct reader_info *out, struct error *err);

#endif
