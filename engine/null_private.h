/* null_private.h - the pretending engine's state, shared by null_*.c only */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request of this rank is a sequence, kept under the index of its slot:
 *
 *   request ring -> null_intake.c -> queue -> running (null.c) -> tokens
 *   (null_token.c) -> outbox -> token ring
 *
 * The outbox keeps what the token ring could not take; no step begins and no
 * message is taken in before it is empty, so it is bounded.
 */
#ifndef HEDDLE_ENGINE_NULL_PRIVATE_H
#define HEDDLE_ENGINE_NULL_PRIVATE_H

#include "base/clock.h"
#include "engine/null.h"

/* Messages taken from the request ring at a time. */
#define NULL_BURST 256

/* The place of the next record in a chain of payload pages. */
struct null_cursor {
	uint32_t page; /* index, checked; PAYLOAD_NONE = none */
	uint32_t used; /* records in it */
};

struct null_sequence {
	enum engine_state own; /* the truth; the slot is only told */
	uint32_t generation;
	bool in_queue; /* its index stands in the queue, live or not */
	/* parameters, copied and checked at intake */
	bool ignore_eos, want_logprob;
	uint32_t prompt_count, output_max, output_min;
	uint32_t choice, logprob_count, stop_page;
	uint64_t seed, deadline_ns, submitted_ns;
	/* output */
	uint32_t output_count;
	struct null_cursor log, top;
	struct engine_times times;
};

struct null_outbox {
	struct ring_message *messages; /* owned, [capacity] */
	uint32_t capacity, head, count;
};

struct null_engine {
	const struct segment *segment; /* borrowed */
	struct engine_null_options options;
	uint32_t rank;
	struct ring *request_ring, *token_ring, *control_ring;
	uint32_t request_count, token_count, control_count; /* entries */
	struct role_beat *beat;
	struct engine_counters *counters;
	struct wake *wake, *front_wake;

	struct null_sequence *sequences; /* owned, [slot_count] */
	uint32_t *queue; /* owned ring of slot indices, [slot_count] */
	uint32_t queue_head, queue_count;
	uint32_t waiting; /* of those, the live ones */
	uint32_t *running; /* owned, slot indices, [row_count] */
	uint32_t running_count;
	struct null_outbox outbox;

	bool in_step;
	uint64_t step_begin_ns, step_end_ns, last_end_ns;
	uint64_t beat_ns, sweep_ns;
};

int null_open(const struct segment *segment, uint32_t rank,
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

/* --- null_intake.c: messages in ------------------------------------------- */

/* Fail what an earlier life left, drop its messages. */
void null_take_over(struct null_engine *engine);

/* Returns how many messages were taken. */
uint32_t null_intake(struct null_engine *engine, struct mono now);

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

/* --- null.c ------------------------------------------------------------------ */

void null_send(struct null_engine *engine, enum ring_kind kind,
	uint32_t slot_index, uint32_t value);

/* The engine's half of a sequence becomes terminal. */
void null_finish(struct null_engine *engine, uint32_t slot_index,
	enum finish_reason reason);

void null_enqueue(struct null_engine *engine, uint32_t slot_index);

#endif
