/* serve.h - the rank that computes (requests -> tokens of the model) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  continuous batching of the real model over the protocol of
 *        base/request.h, on the CPU back end.
 *
 *   rank.h -> sched.h (what runs) -> lanes (tokens, blocks) -> step.h
 *        -> forward.h on a thread of its own -> rank.h
 *
 * Overlap: while step n runs, what step n - 1 made is written into the logs
 *        and told, messages are taken in and checked, and signs of life go
 *        on. Between two steps there is only: look at the samples, plan, fill
 *        the rows.
 * Same bits: a request's tokens and log probabilities depend on its tokens,
 *        its parameters and its adapter alone; not on what else runs, on how
 *        its prompt was cut, on preemption, on what was found in the prefix
 *        cache, nor on a death of the rank in between.
 * Resume: after a death the next life takes its requests over and computes
 *        their tokens again from prompt and log (base/segment.h); with
 *        memory_fd the weights are still in their pages.
 * Bounds: a request that cannot fit alone is refused by the rank's number of
 *        positions; waiting requests are bounded by the slots.
 * Threads: runs on the calling thread and starts those that compute; *stop may
 *        be set by any.
 */
#ifndef HEDDLE_ENGINE_SERVE_H
#define HEDDLE_ENGINE_SERVE_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/segment.h"
#include "engine/files.h"

#define SERVE_CORE_COUNT_MAX 1024

struct engine_serve_options {
	uint32_t thread_count; /* that compute; 0 = one per core */
	uint32_t row_count; /* of a step */
	uint32_t sequence_count; /* requests that run at once */
	uint32_t position_count; /* prompt and output; 0 = the model's */
	uint32_t budget_percent; /* engine/sched.h */
	uint32_t kv_type; /* enum dtype: DTYPE_F32 or DTYPE_BF16 */
	uint64_t step_max_ns;
	uint64_t kv_token_count; /* that the cache holds */
	uint64_t page_size_bytes; /* 0 = by the model's size */
	int32_t memory_fd; /* a memory file that outlives this process and is
			      borrowed, -1 = none */
	uint32_t resume; /* 1 = take over what an earlier life had begun */
};

/*
 * Load the model, measure how long steps take, take over what an earlier life
 * left, say BEAT_READY, and serve until *stop is not 0 (set it, then
 * wake_post() the rank's wake). What runs then is cancelled. The beat ends as
 * BEAT_ABSENT. The files may be closed afterwards. -EINVAL, -ENOMEM, -EIO:
 * each names what it was.
 */
int engine_serve_run(const struct segment *segment, uint32_t rank,
	const struct engine_serve_options *options,
	const struct model_files *files, const uint32_t *stop,
	struct error *err);

/* Tokens that a request can have at most with these options. */
static inline uint32_t engine_serve_positions(
	const struct engine_serve_options *options,
	uint32_t model_position_count)
{
	uint32_t count = model_position_count;

	if (options->position_count > 0 && options->position_count < count)
		count = options->position_count;
	return options->kv_token_count < count
		       ? (uint32_t)options->kv_token_count
		       : count;
}

#endif
