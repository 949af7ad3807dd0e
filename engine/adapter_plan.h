/* adapter_plan.h - every tensor of an ESFT adapter found and checked */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   an adapter is used only when each matrix of each expert that it names
 *        is there exactly once, in the right shape, and nothing else is; all
 *        of it is decided before a byte of weights is read.
 * Form:  expert_cfg.json (adapter_config.h) and any number of *.safetensors,
 *        all of which count, as in deepseek-ai/ESFT; an index is not read.
 *        Tensors are [I, H], [I, H] and [H, I] in F32, BF16 or F16, each in
 *        its own type if need be, under the names of names.h.
 * Proof: of files that have a hash (files.h) all bytes are hashed first; what
 *        is parsed are those very bytes, kept while they were hashed.
 * Base:  a config.json beside them, if any, has to describe the same experts
 *        as the base's; without it, names and shapes have to fit.
 * Ownership: the plan owns its arrays; files and config are borrowed for the
 *        call.
 * Threads: immutable after create.
 */
#ifndef HEDDLE_ENGINE_ADAPTER_PLAN_H
#define HEDDLE_ENGINE_ADAPTER_PLAN_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "engine/adapter_config.h"
#include "engine/files.h"
#include "engine/model.h"

enum adapter_part {
	ADAPTER_GATE, /* [I, H] */
	ADAPTER_UP, /* [I, H] */
	ADAPTER_DOWN, /* [H, I] */
	ADAPTER_PART_COUNT
};

struct adapter_tensor {
	uint32_t file; /* index into model.weights */
	enum dtype type; /* as stored */
	uint64_t offset_bytes, size_bytes; /* in that file */
};

struct adapter_plan {
	struct adapter_config config;
	struct adapter_tensor (*tensors)[ADAPTER_PART_COUNT]; /* [total] */
	uint64_t size_bytes; /* of all tensors, as stored */
};

/* Who else needs the machine while bytes are hashed or moved. */
struct adapter_pace {
	/*
	 * So many bytes are about to be stored, or were hashed: wait as long
	 * as they shall. Called by all lanes at once, lane < the count of
	 * lanes; not 0 = end with that.
	 */
	int (*wait)(void *arg, uint32_t lane, size_t size_bytes);
	void *arg;
};

/*
 * -EINVAL with file, tensor and reason; -EBADMSG; -EIO; -EFBIG; -ENOMEM; what
 * the pace says. pace (NULL = none): a file that has a hash is read to its
 * end, which takes as long as a copy.
 */
int adapter_plan_create(const struct adapter_files *files,
	const struct model_config *config, const struct adapter_pace *pace,
	struct adapter_plan *out, struct error *err);

/* A zeroed struct is allowed. */
void adapter_plan_release(struct adapter_plan *plan);

#endif
