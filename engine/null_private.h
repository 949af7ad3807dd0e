/* null_private.h - the pretending engine's state, shared by null_*.c only */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   engine/rank.h -> queue -> running (null.c) -> tokens (null_token.c)
 *        -> engine/rank.h
 */
#ifndef HEDDLE_ENGINE_NULL_PRIVATE_H
#define HEDDLE_ENGINE_NULL_PRIVATE_H

#include "base/clock.h"
#include "engine/null.h"
#include "engine/rank_adapters.h"

/* What is pretended to be there of an instance. */
struct null_adapter {
	bool there;
	uint64_t file_bytes;
};

struct null_engine {
	struct rank rank;
	struct engine_null_options options;
	bool *in_queue; /* owned, [slot_count] its index stands in the queue,
			   live or not */
	uint32_t *queue; /* owned ring of slot indices, [slot_count] */
	uint32_t queue_head, queue_count;
	uint32_t *running; /* owned, slot indices, [row_count] */
	uint32_t running_count;

	struct rank_adapters *adapters; /* NULL = none come or go */
	struct null_adapter *instances; /* owned, [INSTANCE_COUNT_MAX] */
	uint32_t instance_count; /* that are there */
	uint64_t adapter_pages;

	bool in_step;
	uint64_t step_begin_ns, step_end_ns, last_end_ns;
	uint64_t sweep_ns;
};

int null_open(const struct engine_place *place,
	const struct engine_null_options *options, struct null_engine *out,
	struct error *err);
void null_close(struct null_engine *engine);

/*
 * Do what there is to do at `now`. Returns the instant at which there may be
 * more without a message: 0 = at once.
 */
uint64_t null_turn(struct null_engine *engine, struct mono now);

/* Cancel what is queued or runs, and tell the dataplane. */
void null_cancel_all(struct null_engine *engine, struct mono now);

/* --- null_adapters.c: adapters that come and go ------------------------------ */

/* Takes the mail from now on. -ENOMEM. */
int null_adapters_open(struct null_engine *engine, struct engine_mail *mail,
	struct error *err);
void null_adapters_close(struct null_engine *engine);

/* --- null_token.c: one token ------------------------------------------------ */

/* What a token makes of its sequence. */
enum null_outcome {
	NULL_GOES_ON,
	NULL_STOPPED, /* an end-of-sequence or stop token */
	NULL_FULL, /* output_max */
	NULL_NO_TOKEN, /* every token is masked */
	NULL_BAD_PAGES /* the log has no room or is not what it should be */
};

/* Draw a token and append it to the log, count published last. */
enum null_outcome null_emit(
	struct null_engine *engine, uint32_t slot_index, struct mono now);

#endif
