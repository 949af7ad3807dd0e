/* front_connection.c - a client's stream (events -> requests in a row) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests are taken in while there is a place in the row; when it is full
 * nothing more is consumed and the client's window closes.
 */
#include <assert.h>
#include <string.h>

#include "dataplane/front_private.h"

bool connection_is_idle(const struct connection *connection)
{
	return connection->open && connection->count == 0 &&
	       connection->parser == FRONT_NONE;
}

static uint32_t index_of(
	const struct front *front, const struct connection *connection)
{
	return (uint32_t)(connection - front->connections);
}

/* --- parsers ------------------------------------------------------------------ */

/* Their number is that of the connections: there is always one. */
static void parser_take(struct front *front, struct connection *connection)
{
	uint32_t index = front->parser_free;
	struct front_parser *parser;

	if (index != FRONT_NONE)
		front->parser_free = front->parsers[index].next_free;
	else
		index = front->parser_fresh++;
	assert(index < front->setup.limits.connection_count);
	parser = &front->parsers[index];
	connection->parser = index;
	http_parser_init(&parser->http, &front->http_limits, parser->head);
}

static void parser_give(struct front *front, struct connection *connection)
{
	if (connection->parser == FRONT_NONE)
		return;
	front->parsers[connection->parser].next_free = front->parser_free;
	front->parser_free = connection->parser;
	connection->parser = FRONT_NONE;
}

/* --- the end -------------------------------------------------------------------
 */

/* The client is gone: nobody waits for these answers. */
/* What it holds, before its stream is closed or reset. */
static void let_go(struct front *front, struct connection *connection)
{
	connection->closing = true;
	connection->receiving = FRONT_NONE;
	while (connection->first != FRONT_NONE)
		exchange_detach(front, &front->exchanges[connection->first]);
	parser_give(front, connection);
	front_timer_stop(&connection->read_timer);
	front_timer_stop(&connection->stall_timer);
}

void connection_close(struct front *front, struct connection *connection)
{
	if (!connection->open || connection->closing)
		return;
	let_go(front, connection);
	(void)front->loop.ops->close(&front->loop, connection->id);
}

void connection_abort(struct front *front, struct connection *connection)
{
	if (!connection->open)
		return;
	let_go(front, connection);
	(void)front->loop.ops->abort(&front->loop, connection->id);
}

/* --- requests in ---------------------------------------------------------------- */

static void bad_request(struct front *front, struct connection *connection,
	int status, const char *reason)
{
	struct exchange *exchange;
	struct api_error error = {0};

	(void)api_fail_code(&error, status, "bad_http", "%s", reason);
	if (connection->receiving != FRONT_NONE)
		exchange = &front->exchanges[connection->receiving];
	else
		exchange = exchange_create(front, connection);
	connection->deaf = true;
	connection->receiving = FRONT_NONE;
	parser_give(front, connection);
	front_timer_stop(&connection->read_timer);
	if (!exchange) {
		connection_abort(front, connection);
		return;
	}
	exchange->receiving = false;
	exchange->keep_alive = false;
	exchange_refuse(front, exchange, &error);
	exchange_try_finish(front, exchange);
}

static void head_done(struct front *front, struct connection *connection)
{
	struct http_parser *http = &front->parsers[connection->parser].http;
	struct exchange *exchange = exchange_create(front, connection);

	if (!exchange) {
		connection_abort(front, connection);
		return;
	}
	connection->receiving = exchange->index;
	front_timer_start(front, &connection->read_timer, FRONT_TIMER_BODY);
	exchange_head(front, exchange, &http->request);
}

static void message_done(struct front *front, struct connection *connection)
{
	struct exchange *exchange = &front->exchanges[connection->receiving];

	connection->receiving = FRONT_NONE;
	http_parser_next(&front->parsers[connection->parser].http);
	parser_give(front, connection);
	front_timer_stop(&connection->read_timer);
	exchange_received(front, exchange);
}

static bool row_is_full(
	const struct front *front, const struct connection *connection)
{
	return connection->receiving == FRONT_NONE &&
	       connection->count >= front->start_limits.pipelined_count;
}

/* One event of the parser; false: stop feeding. */
static bool take_event(struct front *front, struct connection *connection,
	enum http_event event)
{
	struct http_parser *http = &front->parsers[connection->parser].http;

	switch (event) {
	case HTTP_HEAD_DONE:
		head_done(front, connection);
		break;
	case HTTP_BODY_DATA:
		exchange_body(front, &front->exchanges[connection->receiving],
			http_parser_body(http));
		break;
	case HTTP_DONE:
		message_done(front, connection);
		break;
	case HTTP_BAD:
		bad_request(front, connection, http_parser_status(http),
			http_parser_reason(http));
		break;
	default:
		return false;
	}
	return !connection->closing && !connection->deaf;
}

/*
 * A client that has ended its side says no more: when all that it had said is
 * taken in, the last answer ends the connection.
 */
static void half_close(struct front *front, struct connection *connection)
{
	if (connection->closing || connection->deaf || connection->paused)
		return;
	if (connection->receiving != FRONT_NONE ||
		(connection->parser != FRONT_NONE &&
			http_parser_begun(
				&front->parsers[connection->parser].http))) {
		bad_request(front, connection, 400,
			"the connection ended before the request did");
		return;
	}
	parser_give(front, connection);
	front_timer_stop(&connection->read_timer);
	if (connection->first == FRONT_NONE) {
		connection_close(front, connection);
		return;
	}
	connection->deaf = true;
	front->exchanges[connection->last].keep_alive = false;
	front_timer_start(front, &connection->read_timer, FRONT_TIMER_PROBE);
}

/*
 * A client that is gone looks like one that only said its end, and before the
 * answer begins nothing is sent that it could reset. So a client from which
 * nothing can come is sent what every HTTP/1.1 client may discard (RFC 9110
 * section 15.2): if it is gone, what is generated for it ends.
 */
void connection_probe(struct front *front, struct connection *connection)
{
	struct exchange *exchange;

	if (connection->first == FRONT_NONE)
		return;
	exchange = &front->exchanges[connection->first];
	if (!exchange->answered && !exchange->http_10)
		exchange_send_continue(front, exchange);
}

static size_t on_data(struct front *front, struct connection *connection,
	const struct stream_event *event)
{
	const char *data = (const char *)event->data;
	bool more = true;
	size_t at = 0;

	counter_add(&front->counters->received_bytes_total, event->length);
	while (more && !connection->closing && !connection->deaf) {
		size_t taken = 0;
		enum http_event what;

		if (connection->parser == FRONT_NONE) {
			if (at == event->length)
				break;
			if (row_is_full(front, connection)) {
				connection->paused = true;
				return at;
			}
			parser_take(front, connection);
			front_timer_start(front, &connection->read_timer,
				FRONT_TIMER_HEADER);
		}
		what = http_parser_feed(
			&front->parsers[connection->parser].http, data + at,
			event->length - at, &taken);
		at += taken;
		more = take_event(front, connection, what);
	}
	if (connection->half_closed)
		half_close(front, connection);
	return connection->closing || connection->deaf ? event->length : at;
}

/* --- events ----------------------------------------------------------------------
 */

static void on_opened(struct front *front, const struct stream_event *event)
{
	struct connection *connection = &front->connections[event->id.index];

	assert(!connection->open);
	*connection = (struct connection){.id = event->id,
		.open = true,
		.service = front->setup.listeners[event->listener].service,
		.first = FRONT_NONE,
		.last = FRONT_NONE,
		.receiving = FRONT_NONE,
		.parser = FRONT_NONE};
	connection->read_timer.owner = index_of(front, connection);
	connection->stall_timer.owner = index_of(front, connection);
	counter_add(&front->counters->connections_open, 1);
	counter_add(&front->counters->connections_total, 1);
	/* The first request has the time of a header, later ones more. */
	front_timer_start(front, &connection->read_timer, FRONT_TIMER_HEADER);
}

static void on_closed(struct front *front, struct connection *connection)
{
	let_go(front, connection);
	connection->open = false;
	counter_add(&front->counters->connections_open, UINT64_MAX);
}

size_t front_on_event(void *arg, const struct stream_event *event)
{
	struct front *front = arg;
	struct connection *connection;

	assert(event->id.index < front->start_limits.connection_count);
	front_clock(front);
	connection = &front->connections[event->id.index];
	if (event->kind == STREAM_OPENED) {
		on_opened(front, event);
		return 0;
	}
	if (!connection->open ||
		connection->id.generation != event->id.generation)
		return event->length;
	switch (event->kind) {
	case STREAM_DATA:
		return on_data(front, connection, event);
	case STREAM_WRITABLE:
		if (connection->first != FRONT_NONE)
			connection_advance(front, connection);
		break;
	case STREAM_PEER_DONE:
		connection->half_closed = true;
		half_close(front, connection);
		break;
	default:
		on_closed(front, connection);
	}
	return 0;
}

/* --- the row moves on ----------------------------------------------------------- */

/* The first exchange may send now, and what waited in the log goes on. */
static void serve_first(struct front *front, struct exchange *exchange)
{
	bool waited = exchange->pending_length > 0;
	uint32_t at;

	if (waited && !exchange_flush(front, exchange))
		return;
	if (exchange->want_continue)
		exchange_send_continue(front, exchange);
	for (at = exchange->first_slot; at != FRONT_NONE;) {
		struct front_slot *slot = &front->slots[at];

		at = slot->next;
		slot_pump(front, slot, waited);
	}
	exchange_try_finish(front, exchange);
}

void connection_advance(struct front *front, struct connection *connection)
{
	if (connection->closing)
		return;
	if (connection->paused && !row_is_full(front, connection)) {
		connection->paused = false;
		(void)front->loop.ops->resume(&front->loop, connection->id);
	}
	if (connection->first != FRONT_NONE) {
		serve_first(front, &front->exchanges[connection->first]);
		return;
	}
	if (front->ending && connection->parser == FRONT_NONE)
		connection_close(front, connection);
	else if (connection->parser == FRONT_NONE)
		front_timer_start(
			front, &connection->read_timer, FRONT_TIMER_IDLE);
}
