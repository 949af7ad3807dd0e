/* null.h - an engine that only pretends (requests -> pseudo-random tokens) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  the rank of `--device null`. It speaks the whole protocol of
 *        base/request.h and base/segment.h and computes nothing, so that
 *        everything around an engine can be built, proven and measured by
 *        itself.
 * Tokens: a function of (seed, choice, position) and of nothing else, all
 *        from one range of ids; log probabilities and alternatives are
 *        plausible numbers. Sampling parameters that would change a
 *        distribution are accepted and have no meaning here.
 * Adapters: come and go by the place's mail as on a rank that computes
 *        (rank_adapters.h), with bytes counted by their files' sizes; nothing
 *        is read, and tokens do not depend on them.
 * Steps: up to row_count requests run, each gets one token a step. A step
 *        lasts step_us; with 0 the next one begins as soon as the token ring
 *        has taken the messages of the last. The first step after a rest is
 *        shorter by rank / ranks of it, so that ranks that begin together do
 *        not all speak at the same moment ever after, as devices would not.
 * Trust: whatever is read from the segment is copied once and checked; a bad
 *        value fails its request, or is counted and dropped.
 * Threads: runs on the calling thread; *stop may be set by any.
 */
#ifndef HEDDLE_ENGINE_NULL_H
#define HEDDLE_ENGINE_NULL_H

#include <stdint.h>

#include "base/error.h"
#include "base/segment.h"
#include "engine/rank.h"

#define ENGINE_NULL_EOS_COUNT_MAX RANK_EOS_COUNT_MAX
#define ENGINE_NULL_STEP_US_MAX 1000000u

struct engine_null_options {
	uint32_t step_us;
	uint32_t row_count; /* >= 1 */
	uint32_t vocab; /* ids of prompts are below this */
	uint32_t position_count; /* prompt and output together */
	/* Ids that are drawn: [first_id, first_id + id_count). */
	uint32_t first_id, id_count;
	uint32_t eos[ENGINE_NULL_EOS_COUNT_MAX];
	uint32_t eos_count;
	uint32_t adapter_count; /* instances at once, 0 = as many as numbers */
	uint32_t first_loads; /* LOADs in the mail that are answered before
				 the rank is ready */
};

/*
 * Take over the rank: fail what an earlier life left running, empty its
 * request ring, answer the first loads, say BEAT_READY, and serve until *stop
 * is not 0. What runs then is cancelled. The beat ends as
 * BEAT_ABSENT. -EINVAL for options that make no sense, -ENOMEM.
 */
int engine_null_run(const struct engine_place *place,
	const struct engine_null_options *options, struct error *err);

#endif
