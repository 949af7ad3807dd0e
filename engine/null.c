/* null.c - an engine that only pretends (request ring -> token ring) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "engine/null_private.h"

/* Deadlines of requests that wait are looked at this often. */
#define SWEEP_NS (50 * NS_PER_MS)

/* --- requests ---------------------------------------------------------------- */

static void enqueue(void *arg, uint32_t slot_index, struct mono now)
{
	struct null_engine *engine = arg;
	uint32_t count = engine->rank.segment->shape.slot_count;

	(void)now;
	/* A cancelled one left its index there: the new life takes its place. */
	if (engine->in_queue[slot_index])
		return;
	assert(engine->queue_count < count);
	engine->queue[(engine->queue_head + engine->queue_count) % count] =
		slot_index;
	engine->queue_count++;
	engine->in_queue[slot_index] = true;
}

static void end_request(
	void *arg, uint32_t slot_index, enum finish_reason reason)
{
	struct null_engine *engine = arg;

	rank_finish(&engine->rank, slot_index, reason);
}

/* From the queue to the rows, oldest first. */
static void admit(struct null_engine *engine, struct mono now)
{
	struct rank *rank = &engine->rank;

	while (engine->queue_count > 0 &&
		engine->running_count < engine->options.row_count) {
		uint32_t index = engine->queue[engine->queue_head];

		engine->queue_head = (engine->queue_head + 1) %
				     rank->segment->shape.slot_count;
		engine->queue_count--;
		engine->in_queue[index] = false;
		if (rank->requests[index].own != ENGINE_QUEUED)
			continue;
		rank_start(rank, index, now);
		counter_add(&rank->counters->prompt_tokens_total,
			rank->requests[index].params.prompt_count);
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
	const struct rank_request *request = &engine->rank.requests[slot_index];
	uint64_t deadline_ns = request->params.deadline_ns;
	enum null_outcome outcome;

	if (deadline_ns != 0 && now.ns >= deadline_ns) {
		rank_finish(&engine->rank, slot_index, FINISH_DEADLINE);
		return false;
	}
	outcome = null_emit(engine, slot_index, now);
	if (outcome == NULL_GOES_ON)
		return true;
	if (outcome == NULL_BAD_PAGES)
		counter_add(&engine->rank.counters->bad_messages_total, 1);
	rank_finish(&engine->rank, slot_index, reason_of[outcome]);
	return false;
}

/* Rows that a message ended since the last step. */
static void drop_ended(struct null_engine *engine)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < engine->running_count; i++) {
		uint32_t index = engine->running[i];

		if (engine->rank.requests[index].own == ENGINE_RUNNING)
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
	counter_add(&engine->rank.counters->rows_total, rows);
}

/* How much shorter the first step after a rest is: see null.h. */
static uint64_t head_start_ns(const struct null_engine *engine)
{
	const struct rank *rank = &engine->rank;

	return engine->options.step_us * NS_PER_US * rank->config.rank /
	       rank->segment->shape.rank_count;
}

static void begin_step(struct null_engine *engine, struct mono now)
{
	uint64_t length = engine->options.step_us * NS_PER_US;

	/* Steps that follow each other keep their pace. */
	engine->step_begin_ns = now.ns - engine->last_end_ns <= length
					? engine->last_end_ns
					: now.ns - head_start_ns(engine);
	engine->step_end_ns = engine->step_begin_ns + length;
	engine->in_step = true;
}

static void end_step(struct null_engine *engine, struct mono now)
{
	drop_ended(engine);
	run_rows(engine, now);
	engine->in_step = false;
	engine->last_end_ns = engine->step_end_ns;
	histogram_add(
		&engine->rank.counters->step, now.ns - engine->step_begin_ns);
	rank_progress(&engine->rank);
}

/* Requests that wait too long for a row. */
static void sweep(struct null_engine *engine, struct mono now)
{
	uint32_t count = engine->rank.segment->shape.slot_count;

	engine->sweep_ns = now.ns;
	for (uint32_t i = 0; i < engine->queue_count; i++) {
		uint32_t index =
			engine->queue[(engine->queue_head + i) % count];
		const struct rank_request *request =
			&engine->rank.requests[index];

		if (request->own == ENGINE_QUEUED &&
			request->params.deadline_ns != 0 &&
			now.ns >= request->params.deadline_ns)
			rank_finish(&engine->rank, index, FINISH_DEADLINE);
	}
}

/* --- the loop --------------------------------------------------------------------- */

static void beat(struct null_engine *engine, struct mono now)
{
	rank_beat(&engine->rank, engine->running_count, now);
}

/* The hook of rank_sleep(), and ours. */
static bool pending(void *arg)
{
	const struct null_engine *engine = arg;

	return !engine->in_step && engine->adapters &&
	       rank_adapters_due(engine->adapters);
}

uint64_t null_turn(struct null_engine *engine, struct mono now)
{
	uint32_t work = 0;

	if (!rank_flush(&engine->rank)) {
		beat(engine, now);
		return now.ns + RANK_RING_FULL_WAIT_NS;
	}
	if (engine->adapters && !engine->in_step)
		work += rank_adapters_turn(engine->adapters, now);
	work += rank_intake(&engine->rank, now);
	if (engine->adapters)
		rank_adapters_taken_in(engine->adapters, now);
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
	rank_flush(&engine->rank);
	beat(engine, now);
	if (work > 0 || pending(engine))
		return 0;
	if (engine->in_step && engine->step_end_ns < now.ns + RANK_BEAT_NS)
		return engine->step_end_ns;
	return now.ns + RANK_BEAT_NS;
}

void null_cancel_all(struct null_engine *engine, struct mono now)
{
	for (uint32_t i = 0; i < engine->rank.segment->shape.slot_count; i++)
		if (rank_is_live(&engine->rank.requests[i]))
			rank_finish(&engine->rank, i, FINISH_CANCELLED);
	engine->running_count = 0;
	rank_flush(&engine->rank);
	beat(engine, now);
}

static void serve(struct null_engine *engine, const uint32_t *stop)
{
	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		uint64_t until = null_turn(engine, mono_now());

		if (until != 0)
			rank_sleep(&engine->rank, stop, NULL,
				(struct mono){until});
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

static int allocate(struct null_engine *engine, struct error *err)
{
	uint32_t slots = engine->rank.segment->shape.slot_count;

	engine->in_queue = calloc(slots, sizeof(*engine->in_queue));
	engine->queue = calloc(slots, sizeof(*engine->queue));
	engine->running =
		calloc(engine->options.row_count, sizeof(*engine->running));
	if (!engine->in_queue || !engine->queue || !engine->running)
		return error_set(err, ENOMEM,
			"null engine: no memory for %u slots", slots);
	return 0;
}

/* Control may be late with them; requests come after. */
static void await_first_loads(struct null_engine *engine, const uint32_t *stop)
{
	struct rank *rank = &engine->rank;

	while (engine->adapters && rank_adapters_opening(engine->adapters) &&
		!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		uint32_t seen = wake_arm(rank->wake);
		struct mono now = mono_now();

		beat(engine, now);
		if (!rank_adapters_turn(engine->adapters, now))
			wake_wait(
				rank->wake, seen, mono_add(now, RANK_BEAT_NS));
		wake_disarm(rank->wake);
	}
}

int null_open(const struct engine_place *place,
	const struct engine_null_options *options, struct null_engine *out,
	struct error *err)
{
	struct rank_config config = {
		.rank = place->rank,
		.name = "null",
		.vocab = options->vocab,
		.position_count = options->position_count,
		.row_count = options->row_count,
		.eos_count = options->eos_count,
		.hooks = {out, enqueue, end_request, pending},
	};
	int rc;

	memset(out, 0, sizeof(*out));
	out->options = *options;
	rc = check_options(options, err);
	if (rc)
		return rc;
	memcpy(config.eos, options->eos, sizeof(options->eos));
	rc = rank_open(place->segment, &config, &out->rank, err);
	if (rc == 0)
		rc = allocate(out, err);
	if (rc == 0 && place->mail)
		rc = null_adapters_open(out, place->mail, err);
	if (rc) {
		null_close(out);
		return rc;
	}
	await_first_loads(out, place->stop);
	rank_take_over(&out->rank, (struct mono){0});
	return 0;
}

void null_close(struct null_engine *engine)
{
	null_adapters_close(engine);
	free(engine->running);
	free(engine->queue);
	free(engine->in_queue);
	rank_close(&engine->rank);
	memset(engine, 0, sizeof(*engine));
}

int engine_null_run(const struct engine_place *place,
	const struct engine_null_options *options, struct error *err)
{
	struct null_engine engine = {0};
	int rc = null_open(place, options, &engine, err);

	if (rc)
		return rc;
	/* A step of a few microseconds must not be rounded up to fifty. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	beat(&engine, mono_now());
	rank_set_state(&engine.rank, BEAT_READY);
	serve(&engine, place->stop);
	rank_set_state(&engine.rank, BEAT_ABSENT);
	null_cancel_all(&engine, mono_now());
	null_close(&engine);
	return 0;
}
