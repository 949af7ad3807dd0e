/* rank_intake.c - messages to an engine (request ring -> checked requests) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/rank_adapters.h"

static void drop_bad(struct rank *rank)
{
	counter_add(&rank->counters->bad_messages_total, 1);
}

static void end_request(
	struct rank *rank, uint32_t slot_index, enum finish_reason reason)
{
	const struct rank_hooks *hooks = &rank->config.hooks;

	hooks->end(hooks->arg, slot_index, reason);
}

/* Is the message about the life of the slot that we know? */
static bool is_current(
	const struct rank *rank, const struct ring_message *message)
{
	const struct rank_request *request = &rank->requests[message->slot];

	return request->generation == message->generation &&
	       rank_is_live(request);
}

/*
 * A bool of shared memory may hold any byte, and reading such a one as bool
 * is undefined: 0 stands in for it.
 */
static bool copy_bool(void *own, const void *field)
{
	uint8_t byte;

	memcpy(&byte, field, 1);
	*(bool *)own = byte == 1;
	return byte <= 1;
}

static bool copy_params(
	const struct request_params *params, struct request_params *out)
{
	memcpy(out, params, sizeof(*out));
	return (int)copy_bool(&out->ignore_eos, &out->ignore_eos) &
	       (int)copy_bool(&out->want_logprob, &out->want_logprob);
}

static bool page_ok(const struct rank *rank, uint32_t page)
{
	return page < rank->segment->shape.page_count;
}

static bool request_ok(
	const struct rank *rank, const struct rank_request *request)
{
	const struct request_params *params = &request->params;
	uint32_t positions = rank->config.position_count;

	return request->name < ADAPTER_ENTRY_COUNT_MAX &&
	       params->prompt_count >= 1 && params->prompt_count < positions &&
	       params->output_max >= 1 &&
	       params->output_max <= positions - params->prompt_count &&
	       params->logprob_count <= LOGPROB_TOP_MAX &&
	       page_ok(rank, request->log.page) &&
	       (rank_top_count(request) == 0 ||
		       page_ok(rank, request->top.page)) &&
	       (params->stop_page == PAYLOAD_NONE ||
		       page_ok(rank, params->stop_page)) &&
	       rank_read_ids(
		       rank, request->prompt_page, params->prompt_count, NULL);
}

/* Copy what the dataplane sealed; false: no request of this rank. */
static bool copy_request(struct rank *rank, uint32_t slot_index,
	uint32_t generation, struct rank_request *out, bool *out_good)
{
	const struct request_slot *slot =
		segment_slot(rank->segment, slot_index);
	enum front_state front;

	if (!front_state_read(slot, &front) || front < FRONT_SUBMITTED ||
		slot->rank != rank->config.rank)
		return false;
	*out = (struct rank_request){
		.generation = generation,
		.prompt_page = slot->prompt_page,
		.log_page = slot->log_page,
		.instance = slot->instance,
		.epoch = slot->epoch,
		.name = slot->name,
		.top = {slot->top_page, 0},
		.submitted_ns = slot->times.submitted_ns,
	};
	out->log = (struct rank_cursor){out->log_page, 0};
	*out_good = copy_params(&slot->params, &out->params) &&
		    request_ok(rank, out);
	return true;
}

/* The engine's fields as a new request finds them; state IDLE. */
static bool begin_request(
	struct request_slot *slot, struct rank_request *request)
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
	request->own = seen;
	if (seen != ENGINE_IDLE)
		engine_set_state(slot, &request->own, ENGINE_IDLE);
	/* From now on what stands in the fields above is of this request. */
	__atomic_store_n(&slot->engine_generation, request->generation,
		__ATOMIC_RELAXED);
	return true;
}

/* A checked request goes to the engine, with its adapter if it has one. */
static void hand_on(struct rank *rank, uint32_t slot_index, struct mono now)
{
	struct rank_request *request = &rank->requests[slot_index];

	bool base = request->instance == 0 && request->epoch == 0;

	if (!base)
		request->holds = rank->adapters &&
				 rank_adapters_hold(rank->adapters,
					 request->instance, request->epoch);
	if (base || request->holds)
		rank->config.hooks.submitted(
			rank->config.hooks.arg, slot_index, now);
	else
		rank_finish(rank, slot_index, FINISH_ENGINE_LOST);
}

/* Of a request that was taken over the message may come once more. */
static bool is_known(
	const struct rank *rank, const struct ring_message *message)
{
	const struct rank_request *request = &rank->requests[message->slot];

	return rank_is_live(request) ||
	       (request->own != ENGINE_IDLE &&
		       request->generation == message->generation);
}

static void submit(
	struct rank *rank, const struct ring_message *message, struct mono now)
{
	struct rank_request *request = &rank->requests[message->slot];
	struct request_slot *slot = segment_slot(rank->segment, message->slot);
	struct rank_request fresh;
	bool good;

	if (rank->config.resume && is_known(rank, message) &&
		request->generation == message->generation)
		return;
	if (is_known(rank, message) ||
		!copy_request(rank, message->slot, message->generation, &fresh,
			&good) ||
		!begin_request(slot, &fresh)) {
		drop_bad(rank);
		return;
	}
	*request = fresh;
	request->times.queued_ns = now.ns;
	slot->engine_times = request->times;
	engine_set_state(slot, &request->own, ENGINE_QUEUED);
	rank->waiting++;
	if (!good) {
		drop_bad(rank);
		rank_finish(rank, message->slot, FINISH_NONE);
		return;
	}
	hand_on(rank, message->slot, now);
}

/* A front may speak of its own slots alone. */
static void take(struct rank *rank, uint32_t front,
	const struct ring_message *message, struct mono now)
{
	const struct request_slot *slot;

	if (message->slot >= rank->segment->shape.slot_count ||
		segment_slot_front(rank->segment, message->slot) != front) {
		drop_bad(rank);
		return;
	}
	switch (message->kind) {
	case RING_SUBMIT:
		slot = segment_slot(rank->segment, message->slot);
		/* Else it is of an earlier life of the slot. */
		if (__atomic_load_n(&slot->generation, __ATOMIC_ACQUIRE) ==
			message->generation)
			submit(rank, message, now);
		break;
	case RING_CANCEL:
		if (is_current(rank, message))
			end_request(rank, message->slot, FINISH_CANCELLED);
		break;
	case RING_FINISH_AT:
		if (is_current(rank, message))
			end_request(rank, message->slot, FINISH_STOP_TEXT);
		break;
	default:
		drop_bad(rank);
	}
}

static uint32_t take_front(struct rank *rank, uint32_t index, struct mono now)
{
	const struct rank_front *front = &rank->fronts[index];
	struct ring_message messages[RANK_BURST];
	uint32_t count = ring_pop(front->request_ring, front->request_count,
		messages, RANK_BURST);

	for (uint32_t i = 0; i < count; i++)
		take(rank, index, &messages[i], now);
	return count;
}

uint32_t rank_intake(struct rank *rank, struct mono now)
{
	struct ring_message messages[RANK_BURST];
	uint32_t count = 0;

	for (uint32_t i = 0; i < rank->front_count; i++)
		count += take_front(rank, i, now);
	/* Epochs change nothing yet; the ring is kept empty. */
	count += ring_pop(
		rank->control_ring, rank->control_count, messages, RANK_BURST);
	return count;
}

struct rank_mark rank_ring_mark(const struct rank *rank)
{
	struct rank_mark mark = {.head = {0}};

	for (uint32_t i = 0; i < rank->front_count; i++)
		mark.head[i] = __atomic_load_n(
			&rank->fronts[i].request_ring->head, __ATOMIC_ACQUIRE);
	return mark;
}

bool rank_ring_passed(const struct rank *rank, const struct rank_mark *mark)
{
	for (uint32_t i = 0; i < rank->front_count; i++)
		if ((int32_t)(rank->fronts[i].request_ring->tail -
			      mark->head[i]) < 0)
			return false;
	return true;
}

void rank_sweep_closed(struct rank *rank)
{
	for (uint32_t i = 0; i < rank->segment->shape.slot_count; i++) {
		enum front_state front;

		if (!rank_is_live(&rank->requests[i]))
			continue;
		if (!front_state_read(segment_slot(rank->segment, i), &front) ||
			front == FRONT_CLOSED)
			end_request(rank, i, FINISH_CANCELLED);
	}
}

/* --- what an earlier life left ------------------------------------------------ */

static void fail_left(struct rank *rank)
{
	const struct segment *segment = rank->segment;
	struct ring_message dropped[RANK_BURST];

	for (uint32_t i = 0; i < rank->front_count; i++)
		while (ring_pop(rank->fronts[i].request_ring,
			       rank->fronts[i].request_count, dropped,
			       RANK_BURST) > 0)
			;
	for (uint32_t i = 0; i < segment->shape.slot_count; i++) {
		struct request_slot *slot = segment_slot(segment, i);
		enum engine_state own;

		if (slot->rank != rank->config.rank ||
			!engine_state_read(slot, &own) || own == ENGINE_IDLE ||
			engine_state_terminal(own))
			continue;
		slot->finish = FINISH_ENGINE_LOST;
		engine_set_state(slot, &own, ENGINE_FAILED);
	}
}

/* Its last token may have been written, and its end not. */
static enum finish_reason reason_of_last(const struct rank *rank,
	const struct rank_request *request, uint32_t last_id)
{
	const struct request_params *params = &request->params;

	if (request->output_count > params->output_min &&
		rank_is_stop(rank, request, last_id))
		return FINISH_STOP_TOKEN;
	return request->output_count == params->output_max ? FINISH_LENGTH
							   : FINISH_NONE;
}

/* The record behind which the next one comes. */
static bool read_last(const struct rank *rank,
	const struct rank_request *request, struct token_record *out)
{
	const struct rank_cursor *log = &request->log;

	if (log->used == 0)
		return false;
	memcpy(out,
		segment_page(rank->segment, log->page)->bytes +
			(log->used - 1) * sizeof(*out),
		sizeof(*out));
	return true;
}

/* What an earlier life had begun goes on, or ends if it had got so far. */
static void go_on(struct rank *rank, uint32_t slot_index,
	enum engine_state seen, struct mono now)
{
	struct rank_request *request = &rank->requests[slot_index];
	struct request_slot *slot = segment_slot(rank->segment, slot_index);
	uint32_t count = __atomic_load_n(&slot->output_count, __ATOMIC_ACQUIRE);
	struct token_record last;
	enum finish_reason reason = FINISH_NONE;

	request->own = seen;
	request->times.queued_ns = now.ns;
	if (seen == ENGINE_RUNNING)
		engine_set_state(slot, &request->own, ENGINE_PREEMPTED);
	rank->waiting += request->own == ENGINE_QUEUED;
	if (!rank_recover_log(rank, slot_index, count)) {
		drop_bad(rank);
		rank_finish(rank, slot_index, FINISH_NONE);
		return;
	}
	if (count > 0)
		rank_send(rank, RING_TOKENS, slot_index, count);
	if (read_last(rank, request, &last))
		reason = reason_of_last(
			rank, request, last.token_flags & TOKEN_ID_MASK);
	if (__atomic_load_n(&slot->finish_at, __ATOMIC_ACQUIRE) != UINT32_MAX)
		reason = FINISH_STOP_TEXT;
	if (reason != FINISH_NONE)
		rank_finish(rank, slot_index, reason);
	else
		hand_on(rank, slot_index, now);
}

/*
 * A request that no life has begun: it comes as if it were new. One that was
 * closed since is only answered: the dataplane may free its slot at any
 * instant, so nothing is written to it, and a RING_SUBMIT that is still on its
 * way finds it known.
 */
static void begin_left(struct rank *rank, uint32_t slot_index,
	uint32_t generation, struct mono now)
{
	struct rank_request *request = &rank->requests[slot_index];
	const struct ring_message message = {.kind = RING_SUBMIT,
		.slot = slot_index,
		.generation = generation};
	enum front_state front;

	*request = (struct rank_request){0};
	if (!front_state_read(segment_slot(rank->segment, slot_index), &front))
		return;
	if (front != FRONT_CLOSED) {
		submit(rank, &message, now);
		return;
	}
	request->own = ENGINE_FINISHED;
	request->generation = generation;
	rank_send(rank, RING_DONE, slot_index, 0);
}

/*
 * One slot of this rank. Its RING_SUBMIT may have been read and lost; its
 * RING_DONE may have been lost. A message too many is recognised by the other
 * side, so both are said again.
 */
static void resume_slot(struct rank *rank, uint32_t slot_index, struct mono now)
{
	struct request_slot *slot = segment_slot(rank->segment, slot_index);
	struct rank_request *request = &rank->requests[slot_index];
	uint32_t generation =
		__atomic_load_n(&slot->generation, __ATOMIC_ACQUIRE);
	enum engine_state seen;
	bool good;

	if (!engine_state_read(slot, &seen) ||
		!copy_request(rank, slot_index, generation, request, &good)) {
		*request = (struct rank_request){0};
		return;
	}
	if (slot->engine_generation != generation || seen == ENGINE_IDLE) {
		begin_left(rank, slot_index, generation, now);
		return;
	}
	request->output_count =
		__atomic_load_n(&slot->output_count, __ATOMIC_ACQUIRE);
	if (engine_state_terminal(seen)) {
		request->own = seen;
		rank_send(rank, RING_DONE, slot_index, request->output_count);
		return;
	}
	if (good) {
		go_on(rank, slot_index, seen, now);
		return;
	}
	drop_bad(rank);
	request->own = seen;
	rank->waiting += seen == ENGINE_QUEUED;
	rank_finish(rank, slot_index, FINISH_NONE);
}

void rank_take_over(struct rank *rank, struct mono now)
{
	if (!rank->config.resume) {
		fail_left(rank);
		return;
	}
	for (uint32_t i = 0; i < rank->segment->shape.slot_count; i++)
		resume_slot(rank, i, now);
	rank_sweep_closed(rank);
}
