/* serve_options.h - what a run is to be (command line -> struct) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names:   those of vLLM's benchmark where the meaning is the same.
 * Ownership: texts point into argv; the lists are freed by release.
 */
#ifndef HEDDLE_BENCH_SERVE_OPTIONS_H
#define HEDDLE_BENCH_SERVE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "bench/serve_arrivals.h"

#define SERVE_MODEL_COUNT_MAX 4096
#define SERVE_THREAD_COUNT_MAX 64

enum serve_model_law {
	SERVE_MODELS_WEIGHTED,
	SERVE_MODELS_ROUND_ROBIN,
	SERVE_MODELS_POWER, /* S-LoRA */
	SERVE_MODELS_ZIPF
};

struct serve_model {
	char *name; /* owned */
	double weight;
};

struct serve_range {
	uint32_t low, high; /* high = 0: not said */
};

/* In milliseconds; 0 = not asked for. */
struct serve_goodput {
	double ttft_ms, tpot_ms, e2el_ms;
};

struct serve_options {
	const char *url, *api_key, *label;
	struct serve_model *models; /* owned */
	uint32_t model_count;
	enum serve_model_law law;
	double law_parameter;
	bool chat, no_stream, no_usage, exact_chunks, ignore_eos, fresh;
	bool detail, quiet;
	const char *extra_body; /* JSON object, its members go into each body */
	struct serve_arrivals arrivals;
	uint32_t max_concurrency;
	const char *trace;
	double trace_speed;
	uint32_t prompt_count; /* 0: not said */
	uint32_t warmup_count;
	double duration_s; /* 0: until every request has ended */
	uint64_t seed;
	const char *prompts;
	struct serve_range input, output;
	uint32_t vocab; /* 0: ids that /tokenize gives */
	struct serve_goodput goodput;
	const char *result, *html;
	double timeout_s;
	uint32_t retry_max, connection_max, thread_count;
	uint64_t memory_max_bytes;
};

/*
 * argv[0] is the subcommand. 0; 1 = help was asked for; -EINVAL with the
 * option that is wrong.
 */
int serve_options_parse(
	int argc, char **argv, struct serve_options *out, struct error *err);
void serve_options_release(struct serve_options *options);
void serve_options_help(FILE *out);

/* Add a model; -EINVAL (too many), -ENOMEM. */
int serve_options_add_model(
	struct serve_options *options, const char *name, double weight);

/* Is any of the limits set? */
bool serve_goodput_is_set(const struct serve_goodput *goodput);

/* "ttft:200 tpot:50 e2el:5000", also with commas; -EINVAL. */
int serve_goodput_parse(
	const char *text, struct serve_goodput *out, struct error *err);

#endif
