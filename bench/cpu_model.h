/* cpu_model.h - a random model of a given size (shape + seed -> directory) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     speed depends on a model's shape, not on what it learned; a random
 *          one of any size can be made anywhere. It is a Qwen3-MoE in bf16,
 *          as published models come: config.json and model.safetensors.
 *          Weights are uniform, scaled so that activations keep their size
 *          from layer to layer; the router's are wide enough that choices are
 *          seldom near.
 */
#ifndef HEDDLE_BENCH_CPU_MODEL_H
#define HEDDLE_BENCH_CPU_MODEL_H

#include <stdint.h>

#include "base/error.h"

struct cpu_model {
	uint32_t hidden, layers, vocab;
	uint32_t heads, kv_heads, head_dim;
	uint32_t experts, topk, inter;
	uint64_t seed;
};

/*
 * Write the model into `directory`, which is created; a directory that holds
 * the same model already is left as it is. -errno with a text.
 */
int cpu_model_write(const struct cpu_model *model, const char *directory,
	struct error *err);

/* Bytes of a layer's weights outside routed experts; of one expert; of the
 * output head. */
uint64_t cpu_model_layer_bytes(const struct cpu_model *model);
uint64_t cpu_model_expert_bytes(const struct cpu_model *model);
uint64_t cpu_model_head_bytes(const struct cpu_model *model);

/* Token `at` of sequence `sequence`: the same ids for everyone measured. */
uint32_t cpu_model_token(
	const struct cpu_model *model, uint32_t sequence, uint32_t at);

#endif
