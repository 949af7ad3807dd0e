/* cpu_engine.h - our engine under the stop-watch (directory -> times) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the benchmark drives the forward pass as a scheduler would: steps
 *          of prompt rows and of decode rows, no server around it.
 * Tokens:  given, not drawn, so that every engine measured computes the same
 *          rows with the same experts; each step still samples greedily.
 * Threads: one, beside the back end's.
 */
#ifndef HEDDLE_BENCH_CPU_ENGINE_H
#define HEDDLE_BENCH_CPU_ENGINE_H

#include <stdint.h>

#include "base/error.h"
#include "bench/counted_ops.h"
#include "bench/cpu_model.h"
#include "engine/forward.h"
#include "gpu/cpu/cpu.h"

#define CPU_SEQUENCE_COUNT_MAX 8

struct cpu_engine_config {
	const char *directory;
	enum cpu_isa isa;
	uint32_t thread_count;
	const uint32_t *cores; /* [thread_count] */
	uint32_t row_count; /* of the largest step */
	uint32_t token_count; /* of the longest sequence */
};

struct cpu_sequence {
	uint32_t *blocks, *pages; /* owned */
	uint32_t block_count;
	uint32_t done; /* tokens in the cache */
};

struct cpu_engine {
	struct cpu_engine_config config;
	const struct cpu_model *model_shape;
	struct vmm vmm;
	struct model *model;
	struct ops ops;
	struct counted_ops counted;
	struct program_times times; /* of the last step */
	struct forward *forward;
	struct step step;
	struct cpu_sequence sequences[CPU_SEQUENCE_COUNT_MAX];
};

/* What one step took and touched. */
struct cpu_step_cost {
	uint64_t ns;
	uint64_t host_ns; /* outside operations (engine/program.h) */
	uint64_t expert_count; /* different ones, summed over layers */
};

int cpu_engine_open(struct cpu_engine *engine, const struct cpu_model *model,
	const struct cpu_engine_config *config, struct error *err);
void cpu_engine_close(struct cpu_engine *engine);

/* Forget what is cached. */
void cpu_engine_reset(struct cpu_engine *engine);

/*
 * One step: the next `rows` tokens of each of the first `sequences`
 * sequences. all_logits: every row is sampled, else each sequence's last.
 */
int cpu_engine_step(struct cpu_engine *engine, uint32_t sequences,
	uint32_t rows, bool all_logits, struct cpu_step_cost *out,
	struct error *err);

/* Logits of the last step, [samples][vocab]. */
const float *cpu_engine_logits(const struct cpu_engine *engine);

#endif
