/* front_notes.c - jobs for text workers, and what they say (both ways) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "base/prefetch.h"
#include "dataplane/front_private.h"

#define CLOCK_NOTES 16 /* between two looks at it */
/* Of a turn: while a worker goes on, what it has made has to go out. */
#define NOTES_MAX 128

/* --- jobs ------------------------------------------------------------------------ */

bool front_post(struct front *front, struct exchange *exchange,
	const struct text_message *message)
{
	struct front_worker *worker = &front->workers[exchange->worker];
	struct text_message job = *message;

	job.request = exchange->text;
	if (!text_ring_push(&worker->text.out_jobs, &job, NULL))
		return false;
	worker->out_rung = true;
	return true;
}

/* The worker with the fewest bytes before it. */
static uint32_t choose_worker(const struct front *front)
{
	uint32_t best = (uint32_t)(front->turn_count % front->worker_count);

	for (uint32_t i = 0; i < front->worker_count; i++)
		if (front->workers[i].queued_bytes <
			front->workers[best].queued_bytes)
			best = i;
	return best;
}

bool front_post_parse(struct front *front, struct exchange *exchange)
{
	const struct text_message job = {
		.kind = TEXT_PARSE, .request = exchange->text};
	struct front_worker *worker;

	exchange->worker = choose_worker(front);
	worker = &front->workers[exchange->worker];
	if (!text_ring_push(&worker->text.in_jobs, &job, NULL))
		return false;
	worker->in_rung = true;
	worker->queued_bytes += exchange->body_capacity;
	exchange->parsing = true;
	return true;
}

void front_help(struct front *front)
{
	for (uint32_t i = 0; i < front->worker_count; i++) {
		struct front_worker *worker = &front->workers[i];

		if (worker->out_rung && text_worker_help(&worker->text))
			worker->out_rung = false;
	}
}

void front_strike_workers(struct front *front)
{
	for (uint32_t i = 0; i < front->worker_count; i++) {
		struct front_worker *worker = &front->workers[i];

		if (worker->in_rung)
			text_bell_strike(&worker->text.in_bell);
		if (worker->out_rung)
			text_bell_strike(&worker->text.out_bell);
		worker->in_rung = worker->out_rung = false;
	}
}

void front_strike(struct front *front)
{
	front_strike_workers(front);
	for (uint32_t i = 0; i < front->segment->shape.rank_count; i++) {
		if (front->ranks[i].rung)
			wake_post(segment_wake(
				front->segment, ROLE_INDEX_RANK0 + i));
		front->ranks[i].rung = false;
	}
}

/* --- parsed ------------------------------------------------------------------------ */

static void forget_text(struct front *front, struct exchange *exchange)
{
	uint32_t at = exchange->first_slot;

	text_request_destroy(exchange->text);
	exchange->text = NULL;
	exchange->first_slot = FRONT_NONE;
	exchange->slot_count = 0;
	if (at != FRONT_NONE)
		slot_close(front, &front->slots[at]);
}

static void reply(struct front *front, struct exchange *exchange)
{
	struct api_text body = exchange->text->reply;

	exchange->text->reply = (struct api_text){0};
	exchange_answer_take(front, exchange, 200, body.data, body.length);
}

static void count_asked(struct front *front, const struct exchange *exchange)
{
	const struct text_request *text = exchange->text;
	const struct api_sampling *sampling = &text->api.sampling;
	uint32_t at = exchange->first_slot;

	tally_add(&front->counters->choices_asked, sampling->choice_count);
	tally_add(&front->counters->output_asked, sampling->output_max);
	for (; at != FRONT_NONE; at = front->slots[at].next) {
		const struct text_choice *choice =
			&text->choices[front->slots[at].choice];

		front->slots[at].prompt_count =
			text->api.prompts[choice->prompt].id_count;
	}
}

static void on_parsed(struct front *front, struct exchange *exchange)
{
	struct front_worker *worker = &front->workers[exchange->worker];
	struct api_error error = exchange->text->error;

	exchange->parsing = false;
	worker->queued_bytes -= exchange->body_capacity;
	front->body_bytes -= exchange->body_capacity;
	exchange->body_capacity = 0;
	if (exchange->connection == FRONT_NONE) {
		forget_text(front, exchange);
		exchange_try_free(front, exchange);
		return;
	}
	if (exchange->timed_out)
		(void)api_fail_code(&error, 504, "request_timeout",
			"the request took longer than this server allows");
	if (!error.status && exchange->first_slot != FRONT_NONE &&
		front_admit(front, exchange, &error) == 0) {
		count_asked(front, exchange);
		return;
	}
	if (error.status)
		exchange_refuse(front, exchange, &error);
	else
		reply(front, exchange);
	forget_text(front, exchange);
	exchange_try_finish(front, exchange);
}

/* --- answers ------------------------------------------------------------------------ */

/* The n-th choice's slot: the row is in the order of the choices. */
static struct front_slot *slot_of(
	struct front *front, const struct exchange *exchange, uint32_t choice)
{
	uint32_t at = exchange->first_slot;

	while (at != FRONT_NONE && front->slots[at].choice != choice)
		at = front->slots[at].next;
	return at == FRONT_NONE ? NULL : &front->slots[at];
}

void slot_first_token(struct front *front, struct front_slot *slot)
{
	const struct exchange *exchange = &front->exchanges[slot->exchange];

	slot->first_ns = slot->last_ns = front->now_ns;
	segment_slot(front->segment, slot_index(front, slot))
		->times.sent_first_ns = front->now_ns;
	histogram_add(&front->counters->first_token,
		front->now_ns - exchange->received_ns);
}

static void count_token(struct front *front, struct front_slot *slot)
{
	if (slot->first_ns == 0) {
		slot_first_token(front, slot);
		return;
	}
	histogram_add(
		&front->counters->inter_token, front->now_ns - slot->last_ns);
	slot->last_ns = front->now_ns;
}

/* Would slot_pump() find nothing to say, to either side? */
static bool slot_is_told(const struct front_slot *slot)
{
	return slot->posted == slot->seen && !slot->engine_done &&
	       !slot->submit_due && !slot->finish_due && !slot->cancel_due;
}

static void on_bytes(struct front *front, struct exchange *exchange,
	const struct text_message *note, const char *bytes)
{
	const struct http_text piece = {bytes, note->length};
	struct front_slot *slot = slot_of(front, exchange, note->choice);
	bool out = exchange_stream(front, exchange, piece);

	if (!slot)
		return;
	if (out && note->stamp_ns > 0 && note->value > slot->acked)
		histogram_add(&front->counters->token_to_socket,
			front->now_ns > note->stamp_ns
				? front->now_ns - note->stamp_ns
				: 0);
	if (note->value > slot->acked) {
		if (exchange->streams)
			count_token(front, slot);
		slot->acked = note->value;
	}
	/* Mostly all that the rank has said is at the worker already. */
	if (!slot_is_told(slot))
		slot_pump(front, slot, false);
}

static void on_finish_at(struct front *front, struct exchange *exchange,
	const struct text_message *note)
{
	struct front_slot *slot = slot_of(front, exchange, note->choice);
	struct request_slot *shared;

	if (!slot || slot->engine_done)
		return;
	shared = segment_slot(front->segment, slot_index(front, slot));
	slot->finish_at = note->value;
	__atomic_store_n(&shared->finish_at, note->value, __ATOMIC_RELEASE);
	slot->finish_due = true;
	slot_pump(front, slot, false);
}

static void on_choice(struct front *front, struct exchange *exchange,
	const struct text_message *note)
{
	struct front_slot *slot = slot_of(front, exchange, note->choice);
	struct front_counters *counters = front->counters;
	uint64_t first;

	if (!slot)
		return;
	tally_add(&counters->prompt_tokens, slot->prompt_count);
	tally_add(&counters->output_tokens, note->value);
	counter_add(&counters->finished_total[note->reason], 1);
	histogram_add(
		&counters->end_to_end, front->now_ns - exchange->received_ns);
	first = slot->first_ns ? slot->first_ns : slot->submitted_ns;
	segment_slot(front->segment, slot_index(front, slot))
		->times.sent_last_ns = front->now_ns;
	if (note->value > 1)
		histogram_add(&counters->per_token,
			(front->now_ns - first) / (note->value - 1));
}

static void on_end(struct front *front, struct exchange *exchange, bool failed)
{
	uint32_t at;

	if (failed)
		for (at = exchange->first_slot; at != FRONT_NONE;) {
			struct front_slot *slot = &front->slots[at];

			at = slot->next;
			slot_cancel(front, slot);
		}
	if (failed)
		counter_add(
			&front->counters->refused_total[REFUSAL_INTERNAL], 1);
	exchange_stream_end(front, exchange, failed);
	exchange->release_due = true;
	exchange_pump(front, exchange);
	exchange_try_finish(front, exchange);
}

/* Nobody reads the logs any more. */
static void on_released(struct front *front, struct exchange *exchange)
{
	uint32_t at = exchange->first_slot;

	exchange->first_slot = FRONT_NONE;
	exchange->slot_count = 0;
	exchange->text = NULL;
	while (at != FRONT_NONE) {
		struct front_slot *slot = &front->slots[at];

		at = slot->next;
		slot_close(front, slot);
	}
	exchange_try_free(front, exchange);
}

static void on_note(struct front *front, const struct text_message *note)
{
	const char *bytes = (const char *)(note + 1);
	struct exchange *exchange =
		exchange_of(front, note->exchange, note->generation);

	/* An exchange is kept until its worker has forgotten it. */
	assert(exchange);
	switch (note->kind) {
	case TEXT_PARSED:
		on_parsed(front, exchange);
		break;
	case TEXT_BYTES:
		on_bytes(front, exchange, note, bytes);
		break;
	case TEXT_BODY:
		exchange_answer_take(front, exchange, (int)note->value,
			note->body, note->size);
		break;
	case TEXT_FINISH_AT:
		on_finish_at(front, exchange, note);
		break;
	case TEXT_CHOICE:
		on_choice(front, exchange, note);
		break;
	case TEXT_BAD:
		counter_add(&front->counters->bad_messages_total, 1);
		break;
	case TEXT_END:
		on_end(front, exchange, note->value != 0);
		break;
	default:
		assert(note->kind == TEXT_RELEASED);
		on_released(front, exchange);
	}
}

/* Of the third note on the exchange, of the second what that has named. */
static void look_ahead(struct front *front, const struct text_ring *ring,
	const struct text_message *note)
{
	const struct text_message *next = text_ring_after(ring, note);
	const struct exchange *exchange;

	if (!next || (next = text_ring_after(ring, next)) == NULL)
		return;
	exchange = &front->exchanges[next->exchange];
	if (exchange->first_slot != FRONT_NONE)
		prefetch(&front->slots[exchange->first_slot],
			sizeof(struct front_slot));
	if (exchange->connection != FRONT_NONE) {
		prefetch(&front->connections[exchange->connection],
			CACHE_LINE_BYTES);
		if (front->loop.ops->ahead)
			front->loop.ops->ahead(
				&front->loop, exchange->connection);
	}
	next = text_ring_after(ring, next);
	if (next)
		prefetch(&front->exchanges[next->exchange], EXCHANGE_HOT_BYTES);
}

static uint32_t drain(struct front *front, struct text_ring *ring)
{
	const struct text_message *note;
	uint32_t count = 0;

	while (count < NOTES_MAX && (note = text_ring_peek(ring)) != NULL) {
		look_ahead(front, ring, note);
		if (count % CLOCK_NOTES == 0)
			front_clock(front);
		on_note(front, note);
		text_ring_pop(ring);
		count++;
	}
	return count;
}

uint32_t front_notes_poll(struct front *front)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < front->worker_started; i++) {
		count += drain(front, &front->workers[i].text.in_notes);
		count += drain(front, &front->workers[i].text.out_notes);
	}
	return count;
}

static void drop(struct front *front, struct text_ring *ring)
{
	const struct text_message *note;

	while ((note = text_ring_peek(ring)) != NULL) {
		struct exchange *exchange =
			exchange_of(front, note->exchange, note->generation);

		if (note->kind == TEXT_RELEASED && exchange)
			exchange->text = NULL;
		free(note->body);
		text_ring_pop(ring);
	}
}

void front_notes_drop(struct front *front)
{
	for (uint32_t i = 0; i < front->worker_started; i++) {
		drop(front, &front->workers[i].text.in_notes);
		drop(front, &front->workers[i].text.out_notes);
	}
}
