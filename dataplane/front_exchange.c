/* front_exchange.c - the life of one request (head -> answer -> forgotten) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/front_private.h"

#define BODY_FIRST_BYTES 1024

struct exchange *exchange_of(
	struct front *front, uint32_t index, uint32_t generation)
{
	struct exchange *exchange;

	if (index >= front->exchange_count)
		return NULL;
	exchange = &front->exchanges[index];
	if (!exchange->used || exchange->generation != generation)
		return NULL;
	return exchange;
}

static struct exchange *take(struct front *front)
{
	uint32_t index = front->exchange_free, generation;
	struct exchange *exchange;

	if (index != FRONT_NONE)
		front->exchange_free = front->exchanges[index].next;
	else if (front->exchange_fresh < front->exchange_count)
		index = front->exchange_fresh++;
	else
		return NULL;
	exchange = &front->exchanges[index];
	generation = exchange->generation;
	*exchange = (struct exchange){.index = index,
		.generation = generation,
		.used = true,
		.connection = FRONT_NONE,
		.next = FRONT_NONE,
		.first_slot = FRONT_NONE};
	exchange->timer.owner = index;
	front->exchange_used++;
	return exchange;
}

struct exchange *exchange_create(
	struct front *front, struct connection *connection)
{
	struct exchange *exchange = take(front);

	if (!exchange)
		return NULL;
	exchange->connection = (uint32_t)(connection - front->connections);
	if (connection->first == FRONT_NONE)
		connection->first = exchange->index;
	else
		front->exchanges[connection->last].next = exchange->index;
	connection->last = exchange->index;
	connection->count++;
	exchange->received_ns = front->now_ns;
	front_make_id(front, exchange->id);
	counter_add(&front->counters->requests_total, 1);
	return exchange;
}

static void drop_body(struct front *front, struct exchange *exchange)
{
	front->body_bytes -= exchange->body_capacity;
	free(exchange->body);
	exchange->body = NULL;
	exchange->body_length = exchange->body_capacity = 0;
}

void exchange_try_free(struct front *front, struct exchange *exchange)
{
	if (!exchange->used || exchange->connection != FRONT_NONE ||
		exchange->text || exchange->dirty)
		return;
	assert(exchange->slot_count == 0 && !exchange->parsing);
	front_timer_stop(&exchange->timer);
	drop_body(front, exchange);
	free(exchange->pending);
	exchange->pending = NULL;
	exchange->used = false;
	exchange->generation++;
	exchange->next = front->exchange_free;
	front->exchange_free = exchange->index;
	front->exchange_used--;
}

/* Slots that were taken before the request came to the engine. */
static void close_slots(struct front *front, struct exchange *exchange)
{
	uint32_t at = exchange->first_slot;

	exchange->first_slot = FRONT_NONE;
	exchange->slot_count = 0;
	while (at != FRONT_NONE) {
		struct front_slot *slot = &front->slots[at];

		at = slot->next;
		slot_close(front, slot);
	}
}

/* Nobody wants the answer: the engine and the worker may forget it. */
static void abandon(struct front *front, struct exchange *exchange)
{
	uint32_t at;

	if (exchange->parsing) {
		__atomic_store_n(
			&exchange->text->cancelled, 1, __ATOMIC_RELAXED);
		return;
	}
	if (!exchange->known_to_out) {
		close_slots(front, exchange);
		text_request_destroy(exchange->text);
		exchange->text = NULL;
		return;
	}
	for (at = exchange->first_slot; at != FRONT_NONE;) {
		struct front_slot *slot = &front->slots[at];

		at = slot->next;
		slot_cancel(front, slot);
	}
	exchange->release_due = true;
	exchange_pump(front, exchange);
}

void exchange_detach(struct front *front, struct exchange *exchange)
{
	struct connection *connection =
		&front->connections[exchange->connection];

	assert(connection->first == exchange->index);
	connection->first = exchange->next;
	if (connection->first == FRONT_NONE)
		connection->last = FRONT_NONE;
	connection->count--;
	exchange->connection = FRONT_NONE;
	exchange->next = FRONT_NONE;
	exchange->pending_length = exchange->pending_at = 0;
	front_timer_stop(&exchange->timer);
	if (exchange->text)
		abandon(front, exchange);
	else
		close_slots(front, exchange);
	exchange_try_free(front, exchange);
}

/* --- the request comes in ---------------------------------------------------- */

static bool is_label(char c)
{
	return c > ' ' && c < 0x7f;
}

/* Visible characters only, or nothing: it goes into our header. */
static void copy_label(const struct http_request *request, const char *name,
	char *out, size_t bytes_max)
{
	const struct http_header *header = http_find(request, name);

	out[0] = '\0';
	if (!header || header->value.length > bytes_max)
		return;
	for (size_t i = 0; i < header->value.length; i++)
		if (!is_label(header->value.text[i]))
			return;
	memcpy(out, header->value.text, header->value.length);
	out[header->value.length] = '\0';
}

void exchange_head(struct front *front, struct exchange *exchange,
	const struct http_request *request)
{
	struct api_error error = {0};

	exchange->receiving = true;
	exchange->http_10 = request->minor == 0;
	exchange->is_head = request->method == HTTP_HEAD;
	exchange->keep_alive = request->keep_alive;
	copy_label(request, "x-request-id", exchange->label, FRONT_LABEL_BYTES);
	copy_label(request, "traceparent", exchange->trace, FRONT_TRACE_BYTES);
	if (exchange_check_head(front, exchange, request, &error)) {
		/* Whether the body still comes is then not known. */
		if (request->expect_continue && request->has_body)
			exchange->keep_alive = false;
		exchange_refuse(front, exchange, &error);
		exchange_try_finish(front, exchange);
		return;
	}
	if (!request->expect_continue || !request->has_body)
		return;
	exchange->want_continue = true;
	if (exchange_is_first(front, exchange))
		exchange_send_continue(front, exchange);
}

static bool grow_body(
	struct front *front, struct exchange *exchange, size_t need)
{
	size_t capacity = exchange->body_capacity ? exchange->body_capacity
						  : BODY_FIRST_BYTES;
	char *grown;

	if (need <= exchange->body_capacity)
		return true;
	while (capacity < need)
		capacity *= 2;
	if (front->body_bytes + capacity - exchange->body_capacity >
		front->body_bytes_max)
		return false;
	grown = realloc(exchange->body, capacity);
	if (!grown)
		return false;
	front->body_bytes += capacity - exchange->body_capacity;
	exchange->body = grown;
	exchange->body_capacity = capacity;
	return true;
}

void exchange_body(
	struct front *front, struct exchange *exchange, struct http_text piece)
{
	struct api_error error = {0};

	if (exchange->discard)
		return;
	if (!grow_body(front, exchange, exchange->body_length + piece.length)) {
		drop_body(front, exchange);
		(void)api_fail(&error, 429, NULL,
			"too many bodies are being received; try again");
		exchange_refuse(front, exchange, &error);
		exchange_try_finish(front, exchange);
		return;
	}
	memcpy(exchange->body + exchange->body_length, piece.text,
		piece.length);
	exchange->body_length += piece.length;
}

void exchange_received(struct front *front, struct exchange *exchange)
{
	exchange->receiving = false;
	if (!exchange->answered) {
		exchange->received_ns = front->now_ns;
		front_timer_start(front, &exchange->timer, FRONT_TIMER_REQUEST);
		exchange_dispatch(front, exchange);
	}
	exchange_try_finish(front, exchange);
}

/* --- bad ends ------------------------------------------------------------------ */

void exchange_fail(struct front *front, struct exchange *exchange,
	enum finish_reason reason)
{
	uint32_t at = exchange->first_slot;

	if (!exchange->known_to_out || exchange->release_due ||
		exchange->fail_due || exchange->fail_sent)
		return;
	exchange->fail_due = true;
	exchange->fail_reason = reason;
	while (at != FRONT_NONE) {
		struct front_slot *slot = &front->slots[at];

		at = slot->next;
		slot_cancel(front, slot);
	}
	exchange_pump(front, exchange);
}

void exchange_timeout(struct front *front, struct exchange *exchange)
{
	struct api_error error = {0};

	if (exchange->receiving) {
		exchange->keep_alive = false;
		(void)api_fail(
			&error, 408, NULL, "the body did not come in time");
		exchange_refuse(front, exchange, &error);
		exchange_try_finish(front, exchange);
		return;
	}
	exchange->timed_out = true;
	if (exchange->asked) {
		exchange->asked = false;
		(void)api_fail_code(&error, 504, "request_timeout",
			"control did not answer in time; what was asked for "
			"may still be done");
		exchange_refuse(front, exchange, &error);
		exchange_try_finish(front, exchange);
		return;
	}
	exchange_fail(front, exchange, FINISH_DEADLINE);
}
