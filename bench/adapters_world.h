/* adapters_world.h - engines with and without adapters, on one base */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a step beside adapters is compared with one without in the same
 *          process. Two engines share the pages of one base and of the same
 *          sequences (the second finds what the first has read), so that no
 *          placement in memory favours one of them.
 * Model:   bench/cpu_model.h, written once into the directory. Adapters are
 *          random, written beside it, and in the page cache then: 6 of 32
 *          experts in every layer.
 * Steps:   decode rows at one position behind a prompt, the same for both;
 *          `variant` chooses the token, so that steps touch other experts.
 * Ownership: the world owns everything.
 * Threads: one, beside the back end's.
 */
#ifndef HEDDLE_BENCH_ADAPTERS_WORLD_H
#define HEDDLE_BENCH_ADAPTERS_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "bench/cpu_model.h"
#include "engine/adapter.h"
#include "engine/forward.h"

#define WORLD_ADAPTERS 20u
#define WORLD_ROWS WORLD_ADAPTERS /* of a step, at most */

/* The back end's operations; different experts of a step are counted. */
struct world_ops {
	struct ops ops; /* first: the table's functions get this */
	struct ops_table table;
	struct ops inner; /* the back end */
	uint64_t expert_count; /* summed over layers */
};

struct world_config {
	const char *directory;
	uint32_t thread_count;
	bool small; /* a model of some MB: does it work at all? */
};

struct world_sequence {
	uint32_t *blocks, *pages; /* owned */
	uint32_t block_count;
};

struct world_engine {
	struct vmm vmm;
	struct model *model;
	struct adapter_set *set;
	struct forward *forward;
	struct world_sequence sequences[WORLD_ROWS];
};

struct world {
	struct world_config config;
	struct cpu_model shape;
	uint32_t tuned; /* experts of an adapter in a layer */
	uint32_t context; /* tokens before the row of a step */
	int memory_fd;
	struct model_keep keep;
	struct world_ops ops; /* of both engines */
	struct step step;
	struct world_engine with, without;
	uint32_t instances[WORLD_ADAPTERS]; /* in `with` */
	uint16_t *values; /* of one matrix, the same for all */
	struct adapter_files files; /* of an adapter */
	struct adapter_files whole; /* of one that tunes every expert */
	uint64_t file_bytes, whole_bytes; /* of their tensors */
};

/* Both engines are there, the prompts are in the cache, nothing is loaded. */
int world_open(
	struct world *w, const struct world_config *config, struct error *err);
void world_close(struct world *w);

/* Load all adapters into `with`, and unload them. */
int world_load(struct world *w, struct error *err);
int world_unload(struct world *w, struct error *err);

/*
 * One decode row of each of the first `rows` sequences, row r under adapter
 * r % adapters (0 = all under the base); out_ns: of the pass alone.
 */
struct world_step {
	struct world_engine *engine;
	uint32_t rows, adapters, variant;
};
int world_run(struct world *w, const struct world_step *step, double *out_ns,
	struct error *err);

/* What such a step reads: fixed weights, different experts, KV. */
int world_step_bytes(struct world *w, const struct world_step *step,
	uint64_t *out, struct error *err);

#endif
