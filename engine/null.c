/* null.c - an engine that only pretends (request ring -> token ring) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/check.h"
#include "engine/null_private.h"

#define BEAT_NS (100 * NS_PER_MS)
/* A full token ring is looked at again after this long. */
#define RING_FULL_WAIT_NS (50 * NS_PER_US)
/* Deadlines of requests that wait are looked at this often. */
#define SWEEP_NS (50 * NS_PER_MS)

/* --- messages out ----------------------------------------------------------- */

void null_send(struct null_engine *engine, enum ring_kind kind,
	uint32_t slot_index, uint32_t value)
{
	struct null_outbox *outbox = &engine->outbox;
	uint32_t at = outbox->head + outbox->count;

	/* null_turn() takes nothing in that it could not hold. */
	assert(outbox->count < outbox->capacity);
	if (at >= outbox->capacity)
		at -= outbox->capacity;
	outbox->messages[at] = (struct ring_message){
		.kind = kind,
		.slot = slot_index,
		.generation = engine->sequences[slot_index].generation,
		.value = value,
	};
	outbox->count++;
}

/* One wake for the whole burst. */
static void flush(struct null_engine *engine)
{
	struct null_outbox *outbox = &engine->outbox;
	uint32_t pushed = 0;

	while (outbox->count > 0 &&
		ring_push(engine->token_ring, engine->token_count,
			&outbox->messages[outbox->head])) {
		if (++outbox->head == outbox->capacity)
			outbox->head = 0;
		outbox->count--;
		pushed++;
	}
	if (pushed > 0)
		wake_post(engine->front_wake);
}

/* --- a sequence -------------------------------------------------------------- */

void null_enqueue(struct null_engine *engine, uint32_t slot_index)
{
	struct null_sequence *sequence = &engine->sequences[slot_index];
	uint32_t count = engine->segment->shape.slot_count;

	/* A cancelled one left its index there: the new life takes its place. */
	if (sequence->in_queue)
		return;
	assert(engine->queue_count < count);
	engine->queue[(engine->queue_head + engine->queue_count) % count] =
		slot_index;
	engine->queue_count++;
	sequence->in_queue = true;
}

static void record_times(
	struct null_engine *engine, const struct null_sequence *sequence)
{
	const struct engine_times *times = &sequence->times;

	if (times->first_token_ns == 0)
		return;
	histogram_add(&engine->counters->prefill,
		times->first_token_ns - times->scheduled_ns);
	histogram_add(&engine->counters->decode,
		times->last_token_ns - times->first_token_ns);
}

void null_finish(struct null_engine *engine, uint32_t slot_index,
	enum finish_reason reason)
{
	struct null_sequence *sequence = &engine->sequences[slot_index];
	struct request_slot *slot = segment_slot(engine->segment, slot_index);
	bool failed = reason == FINISH_NONE || reason == FINISH_NO_TOKEN;

	if (sequence->own == ENGINE_QUEUED)
		engine->waiting--;
	record_times(engine, sequence);
	/* The last token's time is there since the token. */
	slot->engine_times.scheduled_ns = sequence->times.scheduled_ns;
	slot->engine_times.first_token_ns = sequence->times.first_token_ns;
	slot->finish = reason;
	engine_set_state(
		slot, &sequence->own, failed ? ENGINE_FAILED : ENGINE_FINISHED);
	null_send(engine, RING_DONE, slot_index, sequence->output_count);
}

/* From the queue to the rows, oldest first. */
static void admit(struct null_engine *engine, struct mono now)
{
	while (engine->queue_count > 0 &&
		engine->running_count < engine->options.row_count) {
		uint32_t index = engine->queue[engine->queue_head];
		struct null_sequence *sequence = &engine->sequences[index];

		engine->queue_head = (engine->queue_head + 1) %
				     engine->segment->shape.slot_count;
		engine->queue_count--;
		sequence->in_queue = false;
		if (sequence->own != ENGINE_QUEUED)
			continue;
		engine->waiting--;
		engine_set_state(segment_slot(engine->segment, index),
			&sequence->own, ENGINE_RUNNING);
		sequence->times.scheduled_ns = now.ns;
		histogram_add(&engine->counters->queue,
			mono_diff(now, (struct mono){sequence->submitted_ns}));
		counter_add(&engine->counters->prompt_tokens_total,
			sequence->prompt_count);
		engine->running[engine->running_count++] = index;
	}
}

/* --- a step -------------------------------------------------------------------- */

static const enum finish_reason reason_of[] = {
	[NULL_STOPPED] = FINISH_STOP_TOKEN,
	[NULL_FULL] = FINISH_LENGTH,
	[NULL_NO_TOKEN] = FINISH_NO_TOKEN,
	[NULL_BAD_PAGES] = FINISH_NONE,
};

/* One token for one row; false: the sequence has ended. */
static bool run_row(
	struct null_engine *engine, uint32_t slot_index, struct mono now)
{
	struct null_sequence *sequence = &engine->sequences[slot_index];
	enum null_outcome outcome;
	uint32_t before = sequence->output_count;

	if (sequence->deadline_ns != 0 && now.ns >= sequence->deadline_ns) {
		null_finish(engine, slot_index, FINISH_DEADLINE);
		return false;
	}
	outcome = null_emit(engine, slot_index, now);
	if (sequence->output_count > before) {
		counter_add(&engine->counters->output_tokens_total, 1);
		null_send(engine, RING_TOKENS, slot_index,
			sequence->output_count);
	}
	if (outcome == NULL_GOES_ON)
		return true;
	if (outcome == NULL_BAD_PAGES)
		counter_add(&engine->counters->bad_messages_total, 1);
	null_finish(engine, slot_index, reason_of[outcome]);
	return false;
}

/* Rows that a message ended since the last step. */
static void drop_ended(struct null_engine *engine)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < engine->running_count; i++) {
		uint32_t index = engine->running[i];

		if (engine->sequences[index].own == ENGINE_RUNNING)
			engine->running[kept++] = index;
	}
	engine->running_count = kept;
}

static void run_rows(struct null_engine *engine, struct mono now)
{
	uint32_t kept = 0, rows = engine->running_count;

	for (uint32_t i = 0; i < rows; i++) {
		uint32_t index = engine->running[i];

		if (run_row(engine, index, now))
			engine->running[kept++] = index;
	}
	engine->running_count = kept;
	counter_add(&engine->counters->rows_total, rows);
}

static void begin_step(struct null_engine *engine, struct mono now)
{
	uint64_t length = engine->options.step_us * NS_PER_US;

	/* Steps that follow each other keep their pace. */
	engine->step_begin_ns = now.ns - engine->last_end_ns <= length
					? engine->last_end_ns
					: now.ns;
	engine->step_end_ns = engine->step_begin_ns + length;
	engine->in_step = true;
}

static void end_step(struct null_engine *engine, struct mono now)
{
	drop_ended(engine);
	run_rows(engine, now);
	engine->in_step = false;
	engine->last_end_ns = engine->step_end_ns;
	counter_add(&engine->counters->steps_total, 1);
	histogram_add(&engine->counters->step, now.ns - engine->step_begin_ns);
	__atomic_store_n(&engine->beat->progress, engine->beat->progress + 1,
		__ATOMIC_RELAXED);
}

/* --- signs of life --------------------------------------------------------------- */

static void beat(struct null_engine *engine, struct mono now)
{
	uint64_t pending = engine->running_count + engine->waiting;

	counter_set(&engine->counters->running, engine->running_count);
	counter_set(&engine->counters->waiting, engine->waiting);
	__atomic_store_n(&engine->beat->pending, pending, __ATOMIC_RELAXED);
	__atomic_store_n(&engine->beat->beat_ns, now.ns, __ATOMIC_RELAXED);
	engine->beat_ns = now.ns;
}

static void set_beat_state(struct null_engine *engine, enum beat_state state)
{
	/* Pairs with whoever looks whether the rank takes requests. */
	__atomic_store_n(
		&engine->beat->state, (uint32_t)state, __ATOMIC_RELEASE);
	wake_post(engine->front_wake);
}

/* Requests that wait too long for a row. */
static void sweep(struct null_engine *engine, struct mono now)
{
	uint32_t count = engine->segment->shape.slot_count;

	engine->sweep_ns = now.ns;
	for (uint32_t i = 0; i < engine->queue_count; i++) {
		uint32_t index =
			engine->queue[(engine->queue_head + i) % count];
		const struct null_sequence *sequence =
			&engine->sequences[index];

		if (sequence->own == ENGINE_QUEUED &&
			sequence->deadline_ns != 0 &&
			now.ns >= sequence->deadline_ns)
			null_finish(engine, index, FINISH_DEADLINE);
	}
}

/* --- the loop --------------------------------------------------------------------- */

uint64_t null_turn(struct null_engine *engine, struct mono now)
{
	uint32_t work = 0;

	flush(engine);
	if (engine->outbox.count > 0) {
		beat(engine, now);
		return now.ns + RING_FULL_WAIT_NS;
	}
	work += null_intake(engine, now);
	if (engine->queue_count > 0 && now.ns - engine->sweep_ns >= SWEEP_NS)
		sweep(engine, now);
	if (!engine->in_step) {
		drop_ended(engine);
		admit(engine, now);
		if (engine->running_count > 0)
			begin_step(engine, now);
	}
	if (engine->in_step && now.ns >= engine->step_end_ns) {
		end_step(engine, now);
		work++;
	}
	flush(engine);
	beat(engine, now);
	if (work > 0)
		return 0;
	if (engine->in_step && engine->step_end_ns < now.ns + BEAT_NS)
		return engine->step_end_ns;
	return now.ns + BEAT_NS;
}

void null_cancel_all(struct null_engine *engine, struct mono now)
{
	for (uint32_t i = 0; i < engine->segment->shape.slot_count; i++)
		if (engine->sequences[i].own == ENGINE_QUEUED ||
			engine->sequences[i].own == ENGINE_RUNNING)
			null_finish(engine, i, FINISH_CANCELLED);
	engine->running_count = 0;
	flush(engine);
	beat(engine, now);
}

static bool has_messages(const struct ring *ring)
{
	return __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) != ring->tail;
}

static void serve(struct null_engine *engine, const uint32_t *stop)
{
	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		uint64_t until = null_turn(engine, mono_now());
		uint32_t seen;

		if (until == 0)
			continue;
		seen = wake_arm(engine->wake);
		/* What came between the turn and the arming, and a stop. */
		if (!__atomic_load_n(stop, __ATOMIC_ACQUIRE) &&
			(engine->outbox.count > 0 ||
				!has_messages(engine->request_ring)))
			wake_wait(engine->wake, seen, (struct mono){until});
		wake_disarm(engine->wake);
	}
}

/* --- life ------------------------------------------------------------------------- */

static int check_options(
	const struct engine_null_options *options, struct error *err)
{
	if (options->row_count < 1 ||
		options->row_count > STEP_SEQUENCE_COUNT_MAX)
		return error_set(err, EINVAL,
			"null engine: %u rows, must be 1 to %d",
			options->row_count, STEP_SEQUENCE_COUNT_MAX);
	if (options->step_us > ENGINE_NULL_STEP_US_MAX)
		return error_set(err, EINVAL,
			"null engine: a step of %u us, at most %u",
			options->step_us, ENGINE_NULL_STEP_US_MAX);
	if (options->vocab > MODEL_VOCAB_MAX || options->id_count < 1 ||
		options->first_id >= options->vocab ||
		options->id_count > options->vocab - options->first_id)
		return error_set(err, EINVAL,
			"null engine: ids %u to %u of a vocabulary of %u",
			options->first_id,
			options->first_id + options->id_count, options->vocab);
	if (options->eos_count > ENGINE_NULL_EOS_COUNT_MAX)
		return error_set(err, EINVAL,
			"null engine: %u end-of-sequence tokens, at most %d",
			options->eos_count, ENGINE_NULL_EOS_COUNT_MAX);
	return 0;
}

static int attach_rings(struct null_engine *engine, struct error *err)
{
	const struct segment *segment = engine->segment;
	uint32_t role = ROLE_INDEX_RANK0 + engine->rank;
	size_t stride = segment->ring_stride;

	engine->request_ring = segment_request_ring(segment, engine->rank);
	engine->token_ring = segment_token_ring(segment, engine->rank);
	engine->control_ring = segment_control_ring(segment, role);
	if (ring_attach(engine->request_ring, stride, &engine->request_count) ||
		ring_attach(engine->token_ring, stride, &engine->token_count) ||
		ring_attach(
			engine->control_ring, stride, &engine->control_count))
		return error_set(err, EINVAL,
			"null engine: the rings of rank %u are broken",
			engine->rank);
	return 0;
}

static int allocate(struct null_engine *engine, struct error *err)
{
	uint32_t slots = engine->segment->shape.slot_count;
	uint32_t rows = engine->options.row_count;

	/*
	 * A turn begins with an empty outbox and adds at most a RING_DONE for
	 * each slot and for each message taken in, and a RING_TOKENS for each
	 * row; the end adds a RING_DONE for each slot that has had none.
	 */
	engine->outbox.capacity = slots + rows + 2 * NULL_BURST;
	engine->outbox.messages = calloc(
		engine->outbox.capacity, sizeof(*engine->outbox.messages));
	engine->sequences = calloc(slots, sizeof(*engine->sequences));
	engine->queue = calloc(slots, sizeof(*engine->queue));
	engine->running = calloc(rows, sizeof(*engine->running));
	if (!engine->outbox.messages || !engine->sequences || !engine->queue ||
		!engine->running)
		return error_set(err, ENOMEM,
			"null engine: no memory for %u slots", slots);
	return 0;
}

int null_open(const struct segment *segment, uint32_t rank,
	const struct engine_null_options *options, struct null_engine *out,
	struct error *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	out->segment = segment;
	out->rank = rank;
	out->options = *options;
	out->beat = segment_beat(segment, ROLE_INDEX_RANK0 + rank);
	out->wake = segment_wake(segment, ROLE_INDEX_RANK0 + rank);
	out->front_wake = segment_wake(segment, ROLE_INDEX_FRONT);
	out->counters = segment_engine_counters(segment, rank);
	rc = check_options(options, err);
	if (rc == 0)
		rc = attach_rings(out, err);
	if (rc == 0)
		rc = allocate(out, err);
	if (rc) {
		null_close(out);
		return rc;
	}
	null_take_over(out);
	return 0;
}

void null_close(struct null_engine *engine)
{
	free(engine->running);
	free(engine->queue);
	free(engine->sequences);
	free(engine->outbox.messages);
	memset(engine, 0, sizeof(*engine));
}

int engine_null_run(const struct segment *segment, uint32_t rank,
	const struct engine_null_options *options, const uint32_t *stop,
	struct error *err)
{
	struct null_engine engine;
	int rc = null_open(segment, rank, options, &engine, err);

	if (rc)
		return rc;
	/* A step of a few microseconds must not be rounded up to fifty. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	beat(&engine, mono_now());
	set_beat_state(&engine, BEAT_READY);
	serve(&engine, stop);
	set_beat_state(&engine, BEAT_ABSENT);
	null_cancel_all(&engine, mono_now());
	null_close(&engine);
	return 0;
}
