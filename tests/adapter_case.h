/* adapter_case.h - random ESFT adapters in memory files (model -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   an adapter for any model, right in every way that the form allows,
 *        with its values kept so that a test knows what each byte must be.
 * Use:   adapter_case_make(), change names, shapes, texts, adapter_case_open()
 *        as often as wanted, adapter_case_release().
 * Errors: none are returned; a test that cannot make its input aborts.
 */
#ifndef HEDDLE_TESTS_ADAPTER_CASE_H
#define HEDDLE_TESTS_ADAPTER_CASE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/adapter_plan.h"
#include "engine/load.h"
#include "tests/st_builder.h"

#define ADAPTER_CASE_FILES_MAX 3

struct adapter_case_options {
	uint64_t seed;
	enum dtype type; /* F32, BF16, F16 */
	uint32_t file_count; /* 1 .. ADAPTER_CASE_FILES_MAX */
	uint32_t layer_expert_max; /* experts of a layer, 0 = any number */
	bool every_expert; /* is tuned */
	bool with_model_prefix;
	bool odd; /* data begins at an odd offset */
};

struct adapter_case {
	struct adapter_case_options options;
	const struct model_config *config; /* borrowed */
	bool *has; /* [MoE layer * experts + expert] */
	uint32_t total; /* experts */
	float *values; /* [MoE layer * experts + expert][3][I * H], those
			  that it has; exact in options.type */
	void *bytes; /* of all tensors */
	char *config_text; /* expert_cfg.json, owned; NULL = absent */
	char *base_text; /* config.json, owned; NULL = absent */
	struct st_builder files[ADAPTER_CASE_FILES_MAX];
};

/* Tunes at least one expert. config is borrowed until release. */
void adapter_case_make(struct adapter_case *a,
	const struct model_config *config,
	const struct adapter_case_options *options);
void adapter_case_release(struct adapter_case *a);

/* The tensor of that name in any file; it has to be there. */
struct st_tensor *adapter_case_find(struct adapter_case *a, const char *name);

/* Open files, as control would hand them over. */
void adapter_case_open(const struct adapter_case *a, struct adapter_files *out);

/* Give each file the hash of what it holds now, as a manifest would. */
void adapter_case_hash(struct adapter_files *files);

/* Turn one bit of an open file over. */
void adapter_case_flip(const struct model_file *file, uint64_t bit);

/* Values of one matrix; `part` as enum adapter_part. */
const float *adapter_case_values(const struct adapter_case *a,
	uint32_t moe_layer, uint32_t expert, uint32_t part);

/* Overwrite the base's own experts in memory: the merged model. */
void adapter_case_merge(const struct adapter_case *a, struct model *model);

/* Elements of the instance's slots that are not what they have to be. */
uint64_t adapter_case_wrong(const struct adapter_case *a,
	const struct model *model, uint32_t instance);

#endif
