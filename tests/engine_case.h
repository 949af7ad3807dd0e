/* engine_case.h - a whole engine for tests: directory -> steps -> logits */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the tests of the forward pass share this: a model from a directory
 *        on the host back end, any number of sequences with their KV blocks,
 *        and steps made of any mix of their rows.
 * Failures while opening are fatal CUnit assertions.
 */
#ifndef HEDDLE_TESTS_ENGINE_CASE_H
#define HEDDLE_TESTS_ENGINE_CASE_H

#include "engine/forward.h"
#include "engine/load.h"
#include "engine/step.h"
#include "gpu/cpu/cpu.h"

struct engine_case_config {
	const char *directory;
	enum cpu_isa isa; /* one that works here */
	enum dtype kv_type;
	uint32_t thread_count;
	uint32_t row_count; /* capacity of a step */
	uint32_t sequence_count; /* sequences alive at a time */
	uint32_t token_count; /* longest sequence */
	uint32_t instance_count; /* rows of the expert map, 0 = the base's */
	uint32_t adapter_slot_count, adapter_page_count;
};

struct engine_case {
	struct engine_case_config config;
	struct vmm vmm;
	struct model *model;
	struct ops ops;
	struct forward *forward;
	struct step step;
};

/* One sequence: its tokens and the blocks that it holds. */
struct engine_sequence {
	const uint32_t *ids; /* borrowed */
	uint32_t count;
	uint32_t done; /* positions that are in the cache */
	uint32_t *blocks, *pages; /* owned */
	uint32_t block_count;
	uint32_t instance; /* that its rows carry; the base unless set */
};

void engine_case_open(
	struct engine_case *c, const struct engine_case_config *config);
void engine_case_close(struct engine_case *c);

void engine_sequence_open(struct engine_case *c, struct engine_sequence *s,
	const uint32_t *ids, uint32_t count);

/* Drop what is cached: the sequence starts again from position 0. */
void engine_sequence_evict(struct engine_case *c, struct engine_sequence *s);
void engine_sequence_close(struct engine_case *c, struct engine_sequence *s);

/*
 * Append the next `count` rows of the sequence to c->step, each sampled
 * greedily with top_count alternatives; returns the index of the first
 * sample.
 */
uint32_t engine_sequence_step(struct engine_case *c, struct engine_sequence *s,
	uint32_t count, uint32_t top_count);

/* Run c->step; any error fails the test by its text. */
void engine_case_run(struct engine_case *c);

/* Logits of sample `index` of the last step, [vocab]. */
const float *engine_case_logits(const struct engine_case *c, uint32_t index);

/* Prompts of a golden file, one JSON object per line. */
struct golden_line {
	uint32_t *ids;
	uint32_t count;
	double *logprobs; /* [count - 1] */
	double *margins; /* [count] */
	uint32_t *out; /* greedy.jsonl only */
	uint32_t out_count;
	double *gaps; /* [out_count], greedy.jsonl only */
};

struct golden_file {
	struct golden_line *lines;
	uint32_t count;
};

void golden_open(
	struct golden_file *file, const char *directory, const char *name);
void golden_close(struct golden_file *file);

#endif
