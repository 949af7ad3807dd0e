/* batch_load.h - requests for an engine that computes (lengths -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prompts: token ids of cpu_model_token(), so that no two requests of a run
 *          begin alike and the prefix cache helps nobody.
 * Samples: the whole distribution, whatever the model's own advice is: others
 *          who are compared draw so, too.
 * Ownership: the plan is the caller's, to serve_plan_release().
 * Threads: one, beside the client's loop.
 */
#ifndef HEDDLE_BENCH_BATCH_LOAD_H
#define HEDDLE_BENCH_BATCH_LOAD_H

#include "bench/serve_client.h"
#include "bench/serve_run.h"

/* Requests of a kind, sent from from_ns on. */
struct batch_group {
	uint32_t count, prompt_tokens, output_tokens;
	uint64_t from_ns;
	double rate; /* per second by chance (Poisson); 0 = all at once */
};

struct batch_load {
	const struct serve_target *target;
	uint32_t vocab;
	struct batch_group groups[2]; /* their number is the item's kind */
	uint32_t concurrency; /* closed loop; 0 = when they are due */
	uint64_t duration_ns; /* 0 = until all have ended */
	uint32_t seed; /* of tokens and instants: each run has its own */
	int signal_fd;
};

/* What a refusal is, is the caller's to judge. -errno with a text. */
int batch_load_run(const struct batch_load *load, struct serve_plan *out,
	struct error *err);

/* "[1,2,3]", to be freed; NULL = no memory. */
char *batch_prompt(uint32_t vocab, uint32_t sequence, uint32_t count);

#endif
