/* serve_source.h - where prompts come from (file, trace, chance -> JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    a file of prompts, a trace with lengths, or random ids. Random ids
 *          are below --vocab, or among those that the server's /tokenize
 *          gives for a page of text, so that none is out of range or
 *          special. For chat, random prompts are words, about one token each.
 * Errors:  a bad line of a file is named with file, line and reason.
 * Threads: read only once opened.
 */
#ifndef HEDDLE_BENCH_SERVE_SOURCE_H
#define HEDDLE_BENCH_SERVE_SOURCE_H

#include "bench/serve_client.h"
#include "bench/serve_options.h"
#include "bench/serve_random.h"
#include "bench/serve_trace.h"

/* A member of a request's body. */
struct serve_prompt {
	char *member; /* owned: "prompt":... or "messages":... */
	size_t bytes;
	uint32_t input_tokens; /* 0 = not known */
	uint32_t output_tokens; /* 0 = not said */
};

struct serve_source {
	struct serve_prompt *prompts; /* owned; of a file */
	size_t prompt_count;
	struct serve_trace trace; /* count 0 = none */
	uint32_t *ids; /* owned; ids to draw from */
	uint32_t id_count; /* 0: any below vocab */
	uint32_t vocab;
	bool chat;
};

/* Everything that the options name. -errno with a text. */
int serve_source_open(const struct serve_options *options,
	const struct serve_target *target, struct serve_source *out,
	struct error *err);
void serve_source_release(struct serve_source *source);

/*
 * Append a random prompt of `tokens` tokens as a member; `row` (NULL = none)
 * says which blocks of it are shared with other rows. -ENOMEM.
 */
int serve_source_random(const struct serve_source *source, uint64_t seed,
	uint64_t index, uint32_t tokens, const struct serve_trace_row *row,
	struct serve_bytes *out);

#endif
