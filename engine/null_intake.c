/* null_intake.c - messages to the pretending engine (request ring -> queue) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/null_private.h"

static void drop_bad(struct null_engine *engine)
{
	counter_add(&engine->counters->bad_messages_total, 1);
}

static bool is_live(const struct null_sequence *sequence)
{
	return sequence->own == ENGINE_QUEUED ||
	       sequence->own == ENGINE_RUNNING;
}

/* Is the message about the life of the slot that we know? */
static bool is_current(
	const struct null_engine *engine, const struct ring_message *message)
{
	const struct null_sequence *sequence =
		&engine->sequences[message->slot];

	return sequence->generation == message->generation && is_live(sequence);
}

/*
 * A bool of shared memory may hold any byte, and reading such a one as bool
 * is undefined.
 */
static bool copy_bool(const void *field, bool *out)
{
	uint8_t byte;

	memcpy(&byte, field, 1);
	*out = byte == 1;
	return byte <= 1;
}

static bool copy_params(
	const struct request_params *params, struct null_sequence *out)
{
	out->seed = params->seed;
	out->deadline_ns = params->deadline_ns;
	out->prompt_count = params->prompt_count;
	out->output_max = params->output_max;
	out->output_min = params->output_min;
	out->choice = params->choice;
	out->logprob_count = params->logprob_count;
	out->stop_page = params->stop_page;
	return copy_bool(&params->ignore_eos, &out->ignore_eos) &&
	       copy_bool(&params->want_logprob, &out->want_logprob);
}

static bool page_ok(const struct null_engine *engine, uint32_t page)
{
	return page < engine->segment->shape.page_count;
}

static bool params_ok(const struct null_engine *engine,
	const struct null_sequence *sequence, uint32_t prompt_page)
{
	uint32_t positions = engine->options.position_count;
	bool wants_top = sequence->want_logprob && sequence->logprob_count > 0;

	return sequence->prompt_count >= 1 &&
	       sequence->prompt_count < positions &&
	       sequence->output_max >= 1 &&
	       sequence->output_max <= positions - sequence->prompt_count &&
	       sequence->logprob_count <= LOGPROB_TOP_MAX &&
	       page_ok(engine, prompt_page) &&
	       page_ok(engine, sequence->log.page) &&
	       (!wants_top || page_ok(engine, sequence->top.page)) &&
	       (sequence->stop_page == PAYLOAD_NONE ||
		       page_ok(engine, sequence->stop_page));
}

/* Every id of a page's first `count`, copied out and checked. */
static bool ids_ok(
	const struct payload_page *page, uint32_t count, uint32_t vocab)
{
	uint32_t ids[PAYLOAD_IDS_PER_PAGE];
	uint32_t over = 0;

	memcpy(ids, page->bytes, count * sizeof(ids[0]));
	for (uint32_t i = 0; i < count; i++)
		over |= ids[i] >= vocab;
	return over == 0;
}

static bool prompt_ok(
	const struct null_engine *engine, uint32_t first, uint32_t count)
{
	uint32_t at = first;

	while (count > 0) {
		const struct payload_page *page;
		uint32_t part = count < PAYLOAD_IDS_PER_PAGE
					? count
					: (uint32_t)PAYLOAD_IDS_PER_PAGE;

		if (!page_ok(engine, at))
			return false;
		page = segment_page(engine->segment, at);
		if (!ids_ok(page, part, engine->options.vocab))
			return false;
		count -= part;
		at = __atomic_load_n(&page->next, __ATOMIC_RELAXED);
	}
	return true;
}

/* The engine's fields as a new life finds them; state IDLE. */
static bool begin_life(
	struct request_slot *slot, struct null_sequence *sequence)
{
	enum engine_state seen;

	if (!engine_state_read(slot, &seen))
		return false;
	if (seen != ENGINE_IDLE && !engine_state_terminal(seen))
		return false;
	slot->finish = FINISH_NONE;
	slot->cached_count = 0;
	slot->engine_times = (struct engine_times){0};
	__atomic_store_n(&slot->output_count, 0, __ATOMIC_RELAXED);
	sequence->own = seen;
	if (seen != ENGINE_IDLE)
		engine_set_state(slot, &sequence->own, ENGINE_IDLE);
	return true;
}

/* Copy what the dataplane sealed; false: no request of this rank. */
static bool copy_request(struct null_engine *engine,
	const struct ring_message *message, struct null_sequence *out,
	bool *out_good)
{
	const struct request_slot *slot =
		segment_slot(engine->segment, message->slot);
	enum front_state front;
	uint32_t prompt_page;

	if (!front_state_read(slot, &front) || front < FRONT_SUBMITTED ||
		slot->rank != engine->rank)
		return false;
	*out = (struct null_sequence){
		.generation = message->generation,
		.log = {slot->log_page, 0},
		.top = {slot->top_page, 0},
		.submitted_ns = slot->times.submitted_ns,
	};
	prompt_page = slot->prompt_page;
	*out_good = copy_params(&slot->params, out) &&
		    params_ok(engine, out, prompt_page) &&
		    prompt_ok(engine, prompt_page, out->prompt_count);
	return true;
}

static void submit(struct null_engine *engine,
	const struct ring_message *message, struct mono now)
{
	struct null_sequence *sequence = &engine->sequences[message->slot];
	struct request_slot *slot =
		segment_slot(engine->segment, message->slot);
	struct null_sequence fresh;
	bool good;

	if (is_live(sequence) ||
		(sequence->own != ENGINE_IDLE &&
			sequence->generation == message->generation) ||
		!copy_request(engine, message, &fresh, &good) ||
		!begin_life(slot, &fresh)) {
		drop_bad(engine);
		return;
	}
	fresh.in_queue = sequence->in_queue;
	*sequence = fresh;
	sequence->times.queued_ns = now.ns;
	slot->engine_times = sequence->times;
	engine_set_state(slot, &sequence->own, ENGINE_QUEUED);
	engine->waiting++;
	if (!good) {
		drop_bad(engine);
		null_finish(engine, message->slot, FINISH_NONE);
		return;
	}
	null_enqueue(engine, message->slot);
}

static void take(struct null_engine *engine, const struct ring_message *message,
	struct mono now)
{
	const struct request_slot *slot;

	if (message->slot >= engine->segment->shape.slot_count) {
		drop_bad(engine);
		return;
	}
	switch (message->kind) {
	case RING_SUBMIT:
		slot = segment_slot(engine->segment, message->slot);
		/* Else it is of an earlier life of the slot. */
		if (__atomic_load_n(&slot->generation, __ATOMIC_ACQUIRE) ==
			message->generation)
			submit(engine, message, now);
		break;
	case RING_CANCEL:
		if (is_current(engine, message))
			null_finish(engine, message->slot, FINISH_CANCELLED);
		break;
	case RING_FINISH_AT:
		if (is_current(engine, message))
			null_finish(engine, message->slot, FINISH_STOP_TEXT);
		break;
	default:
		drop_bad(engine);
	}
}

uint32_t null_intake(struct null_engine *engine, struct mono now)
{
	struct ring_message messages[NULL_BURST];
	uint32_t count = ring_pop(engine->request_ring, engine->request_count,
		messages, NULL_BURST);

	for (uint32_t i = 0; i < count; i++)
		take(engine, &messages[i], now);
	/* Epochs change nothing here; the ring is kept empty. */
	count += ring_pop(engine->control_ring, engine->control_count, messages,
		NULL_BURST);
	return count;
}

void null_take_over(struct null_engine *engine)
{
	const struct segment *segment = engine->segment;
	struct ring_message dropped[NULL_BURST];

	while (ring_pop(engine->request_ring, engine->request_count, dropped,
		       NULL_BURST) > 0)
		;
	for (uint32_t i = 0; i < segment->shape.slot_count; i++) {
		struct request_slot *slot = segment_slot(segment, i);
		enum engine_state own;

		if (slot->rank != engine->rank ||
			!engine_state_read(slot, &own) || own == ENGINE_IDLE ||
			engine_state_terminal(own))
			continue;
		slot->finish = FINISH_ENGINE_LOST;
		engine_set_state(slot, &own, ENGINE_FAILED);
	}
}
