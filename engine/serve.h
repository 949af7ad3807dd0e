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
 * Adapters: come and go by the place's mail while requests run
 *        (rank_adapters.h). Their pages are the pool's, as those of KV are: a
 *        load takes free ones, then those of idle prefixes, then it waits for
 *        requests to end while none is begun, at most load_wait_ns; it never
 *        takes what one request of the greatest length needs. Nothing that
 *        runs is put aside for a load.
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
#include "engine/rank.h"

#define SERVE_CORE_COUNT_MAX 1024
#define SERVE_LOAD_WAIT_NS (30 * NS_PER_S)
/*
 * Unmapped in one gap between two steps, at most: half a millisecond where the
 * system's pages have 4 KiB (some 30 us for each MiB).
 */
#define SERVE_UNMAP_BYTES (UINT64_C(16) << 20)
/* Experts of a layer that an instance has room for, unless told. */
#define SERVE_ADAPTER_SLOTS 16u

struct engine_serve_options {
	uint32_t thread_count; /* that compute; 0 = one per core */
	uint32_t compute_core_count; /* of the cores that this process may use
					they keep to so many, the first ones;
					0 = all */
	uint32_t row_count; /* of a step */
	uint32_t sequence_count; /* requests that run at once */
	uint32_t position_count; /* prompt and output; 0 = the model's */
	uint32_t budget_percent; /* engine/sched.h */
	uint32_t kv_type; /* enum dtype: DTYPE_F32 or DTYPE_BF16 */
	uint64_t step_max_ns;
	uint64_t kv_token_count; /* that the cache may hold; 0 = as many as
				    the pool has pages */
	uint64_t pool_bytes; /* pages that KV and adapters share, 0 = what
				kv_token_count takes */
	uint64_t page_size_bytes; /* 0 = by the model's size */
	int32_t memory_fd; /* a memory file that outlives this process and is
			      borrowed, -1 = none */
	uint32_t resume; /* 1 = take over what an earlier life had begun */
	uint32_t adapter_count; /* instances at once, beside the base */
	uint32_t adapter_slot_count; /* experts of theirs in a layer, 0 = 16
					for each instance */
	uint32_t first_loads; /* LOADs in the mail that are answered before
				 the rank is ready */
	uint64_t load_wait_ns; /* how long a load waits for pages that
				  requests hold, 0 = SERVE_LOAD_WAIT_NS */
	uint64_t unmap_bytes; /* 0 = SERVE_UNMAP_BYTES */
};

/*
 * Load the model, measure how long steps take, answer the first loads, take
 * over what an earlier life left, say BEAT_READY, and serve until *stop is not
 * 0. What runs then is cancelled. The beat ends as BEAT_ABSENT. The files may
 * be closed afterwards. -EINVAL, -ENOMEM, -EIO: each names what it was.
 */
int engine_serve_run(const struct engine_place *place,
	const struct engine_serve_options *options,
	const struct model_files *files, struct error *err);

/* Tokens that a request can have at most with these options. */
static inline uint32_t engine_serve_positions(
	const struct engine_serve_options *options,
	uint32_t model_position_count)
{
	uint32_t count = model_position_count;

	if (options->position_count > 0 && options->position_count < count)
		count = options->position_count;
	return options->kv_token_count > 0 && options->kv_token_count < count
		       ? (uint32_t)options->kv_token_count
		       : count;
}

#endif
