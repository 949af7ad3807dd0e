/* front_reply.c - answers to clients (status, body, pieces -> stream) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dataplane/front_private.h"

#define HEAD_BYTES 1536
#define PENDING_KEEP_BYTES ((size_t)65536)
#define PIECES_MAX 4

bool exchange_is_first(
	const struct front *front, const struct exchange *exchange)
{
	return exchange->connection != FRONT_NONE &&
	       front->connections[exchange->connection].first ==
		       exchange->index;
}

/* --- bytes out ------------------------------------------------------------- */

static bool keep(struct exchange *exchange, const char *bytes, size_t length)
{
	size_t need = exchange->pending_length + length;
	size_t capacity =
		exchange->pending_capacity ? exchange->pending_capacity : 4096;
	char *grown;

	if (need > exchange->pending_capacity) {
		while (capacity < need)
			capacity *= 2;
		grown = realloc(exchange->pending, capacity);
		if (!grown)
			return false;
		exchange->pending = grown;
		exchange->pending_capacity = capacity;
	}
	memcpy(exchange->pending + exchange->pending_length, bytes, length);
	exchange->pending_length = need;
	return true;
}

static void keep_all(struct front *front, struct exchange *exchange,
	const struct stream_segment *pieces, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (keep(exchange, pieces[i].data, pieces[i].length))
			continue;
		connection_abort(
			front, &front->connections[exchange->connection]);
		return;
	}
}

/* True when everything went out at once. */
static bool put(struct front *front, struct exchange *exchange,
	const struct stream_segment *pieces, uint32_t count)
{
	struct connection *connection;
	size_t total = 0;
	int rc;

	if (exchange->connection == FRONT_NONE)
		return false;
	connection = &front->connections[exchange->connection];
	for (uint32_t i = 0; i < count; i++)
		total += pieces[i].length;
	if (!exchange_is_first(front, exchange) ||
		exchange->pending_length > 0) {
		keep_all(front, exchange, pieces, count);
		return false;
	}
	rc = front->loop.ops->send(&front->loop, connection->id, pieces, count);
	if (rc == 0) {
		counter_add(&front->counters->sent_bytes_total, total);
		return true;
	}
	if (rc == -ENOTCONN)
		return false;
	keep_all(front, exchange, pieces, count);
	if (exchange->connection != FRONT_NONE)
		exchange_flush(front, exchange);
	return false;
}

static void wait_for_room(struct front *front, struct connection *connection,
	const struct exchange *exchange)
{
	size_t left = exchange->pending_length - exchange->pending_at;
	size_t want = left < FRONT_SEND_BYTES / 2 ? left : FRONT_SEND_BYTES / 2;

	if (!connection->waiting)
		front_timer_start(
			front, &connection->stall_timer, FRONT_TIMER_STALL);
	connection->waiting = true;
	(void)front->loop.ops->want(&front->loop, connection->id, want);
}

static void pending_empty(struct front *front, struct exchange *exchange)
{
	struct connection *connection =
		&front->connections[exchange->connection];

	exchange->pending_at = exchange->pending_length = 0;
	if (exchange->pending_capacity > PENDING_KEEP_BYTES) {
		free(exchange->pending);
		exchange->pending = NULL;
		exchange->pending_capacity = 0;
	}
	connection->waiting = false;
	front_timer_stop(&connection->stall_timer);
}

bool exchange_flush(struct front *front, struct exchange *exchange)
{
	struct connection *connection =
		&front->connections[exchange->connection];
	size_t before = exchange->pending_at;

	assert(exchange_is_first(front, exchange));
	while (exchange->pending_at < exchange->pending_length) {
		size_t left = exchange->pending_length - exchange->pending_at;
		size_t room =
			front->loop.ops->room(&front->loop, connection->id);
		struct stream_segment piece = {
			exchange->pending + exchange->pending_at,
			left < room ? left : room, false};

		if (room == 0 || front->loop.ops->send(&front->loop,
					 connection->id, &piece, 1) != 0) {
			/* Progress starts the time of patience anew. */
			if (exchange->pending_at > before)
				connection->waiting = false;
			wait_for_room(front, connection, exchange);
			return false;
		}
		exchange->pending_at += piece.length;
		counter_add(&front->counters->sent_bytes_total, piece.length);
	}
	pending_empty(front, exchange);
	return true;
}

/* --- heads -------------------------------------------------------------------
 */

static const char *date_now(struct front *front)
{
	time_t now = time(NULL);
	struct tm utc;

	if (now == front->date_s && front->date[0])
		return front->date;
	gmtime_r(&now, &utc);
	strftime(front->date, sizeof(front->date), "%a, %d %b %Y %H:%M:%S GMT",
		&utc);
	front->date_s = now;
	return front->date;
}

struct head {
	char text[HEAD_BYTES];
	size_t length;
};

static void add(struct head *head, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct head *head, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(head->text + head->length,
		sizeof(head->text) - head->length, format, args);
	va_end(args);
	/* All parts are bounded: see FRONT_LABEL_BYTES and its like. */
	assert(length >= 0 &&
		(size_t)length < sizeof(head->text) - head->length);
	head->length += (size_t)length;
}

static void begin_head(struct front *front, struct exchange *exchange,
	int status, const char *type, struct head *head)
{
	head->length = 0;
	add(head, "HTTP/1.1 %d %s\r\ndate: %s\r\ncontent-type: %s\r\n", status,
		http_status_text(status), date_now(front), type);
	add(head, "x-request-id: %s\r\n",
		exchange->label[0] ? exchange->label : exchange->id);
	if (exchange->trace[0])
		add(head, "traceparent: %s\r\n", exchange->trace);
	exchange->answered = true;
}

static void end_head(
	struct front *front, const struct exchange *exchange, struct head *head)
{
	(void)front;
	if (!exchange->keep_alive)
		add(head, "connection: close\r\n");
	else if (exchange->http_10)
		add(head, "connection: keep-alive\r\n");
	add(head, "\r\n");
}

static void add_hints(const struct front *front,
	const struct exchange *exchange, int status, struct head *head)
{
	uint32_t ms = front->setup.limits.retry_after_ms;

	if (status == 429 || status == 503)
		add(head,
			"retry-after-ms: %u\r\nretry-after: %u\r\n"
			"x-should-retry: true\r\n",
			ms, (ms + 999) / 1000);
	else if (status >= 400 && status < 500 && status != 408)
		add(head, "x-should-retry: false\r\n");
	if (status == 401)
		add(head, "www-authenticate: Bearer\r\n");
	if (status == 405)
		add(head, "allow: %s\r\n", api_route_methods(exchange->route));
}

static void make_head(struct front *front, struct exchange *exchange,
	int status, const char *type, struct head *head)
{
	if (front->draining)
		exchange->keep_alive = false;
	begin_head(front, exchange, status, type, head);
}

/* --- whole answers ------------------------------------------------------------
 */

void exchange_answer(struct front *front, struct exchange *exchange, int status,
	const char *type, struct http_text body)
{
	struct stream_segment pieces[2];
	struct head head;

	if (exchange->connection == FRONT_NONE || exchange->answered)
		return;
	make_head(front, exchange, status, type, &head);
	add(&head, "content-length: %zu\r\n", body.length);
	add_hints(front, exchange, status, &head);
	end_head(front, exchange, &head);
	pieces[0] = (struct stream_segment){head.text, head.length, false};
	pieces[1] = (struct stream_segment){body.text, body.length, false};
	put(front, exchange, pieces,
		exchange->is_head || body.length == 0 ? 1 : 2);
	exchange->complete = true;
}

void exchange_answer_take(struct front *front, struct exchange *exchange,
	int status, char *body, size_t length)
{
	static const char nothing[] =
		"{\"error\":{\"message\":\"out of memory\",\"type\":"
		"\"server_error\",\"param\":null,\"code\":"
		"\"internal_error\"}}";
	struct http_text text = {
		body ? body : nothing, body ? length : sizeof(nothing) - 1};

	exchange_answer(front, exchange, status, "application/json", text);
	free(body);
}

static enum refusal refusal_of(int status)
{
	switch (status) {
	case 401:
		return REFUSAL_KEY;
	case 404:
		return REFUSAL_MODEL;
	case 413:
	case 431:
		return REFUSAL_SIZE;
	case 408:
		return REFUSAL_TIMEOUT;
	case 429:
		return REFUSAL_BUSY;
	case 503:
		return REFUSAL_DRAINING;
	default:
		return status >= 500 ? REFUSAL_INTERNAL : REFUSAL_BAD;
	}
}

void exchange_refuse(struct front *front, struct exchange *exchange,
	const struct api_error *error)
{
	struct http_text body;

	if (exchange->connection == FRONT_NONE || exchange->answered)
		return;
	api_text_clear(&front->page);
	api_error_write(error, &front->page);
	body.text = front->page.data;
	body.length = front->page.length;
	if (front->page.failed)
		body = (struct http_text){"{}", 2};
	counter_add(
		&front->counters->refused_total[refusal_of(error->status)], 1);
	front_clock(front);
	histogram_add(&front->counters->refusal,
		front->now_ns - exchange->received_ns);
	exchange->discard = exchange->receiving;
	exchange_answer(
		front, exchange, error->status, "application/json", body);
}

/* --- streamed answers --------------------------------------------------------- */

static void stream_head(
	struct front *front, struct exchange *exchange, struct head *head)
{
	if (exchange->http_10)
		exchange->keep_alive = false;
	make_head(
		front, exchange, 200, "text/event-stream; charset=utf-8", head);
	add(head, "cache-control: no-cache\r\n");
	if (!exchange->http_10)
		add(head, "transfer-encoding: chunked\r\n");
	end_head(front, exchange, head);
}

/* "length in hex, CR, LF", without a library call for each token. */
static size_t chunk_size(size_t length, char out[20])
{
	static const char digits[] = "0123456789abcdef";
	char reversed[16];
	size_t count = 0, at = 0;

	for (; length > 0; length >>= 4)
		reversed[count++] = digits[length & 15];
	while (count > 0)
		out[at++] = reversed[--count];
	out[at++] = '\r';
	out[at++] = '\n';
	return at;
}

bool exchange_stream(
	struct front *front, struct exchange *exchange, struct http_text piece)
{
	struct stream_segment pieces[PIECES_MAX];
	struct head head;
	char size[20];
	uint32_t count = 0;

	if (exchange->connection == FRONT_NONE || piece.length == 0 ||
		exchange->complete)
		return false;
	if (!exchange->answered) {
		stream_head(front, exchange, &head);
		pieces[count++] =
			(struct stream_segment){head.text, head.length, false};
	}
	if (!exchange->http_10)
		pieces[count++] = (struct stream_segment){
			size, chunk_size(piece.length, size), false};
	pieces[count++] =
		(struct stream_segment){piece.text, piece.length, false};
	if (!exchange->http_10)
		pieces[count++] = (struct stream_segment){"\r\n", 2, true};
	return put(front, exchange, pieces, count);
}

void exchange_stream_end(
	struct front *front, struct exchange *exchange, bool failed)
{
	const struct stream_segment last = {"0\r\n\r\n", 5, true};

	if (exchange->connection == FRONT_NONE || exchange->complete)
		return;
	/* What comes after a failed answer could be taken for its rest. */
	if (failed)
		exchange->keep_alive = false;
	if (!exchange->http_10)
		put(front, exchange, &last, 1);
	exchange->complete = true;
}

void exchange_send_continue(struct front *front, struct exchange *exchange)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	const struct stream_segment piece = {text, sizeof(text) - 1, true};

	exchange->want_continue = false;
	put(front, exchange, &piece, 1);
}

void exchange_try_finish(struct front *front, struct exchange *exchange)
{
	struct connection *connection;

	if (exchange->connection == FRONT_NONE || !exchange->complete ||
		exchange->pending_length > 0 ||
		!exchange_is_first(front, exchange))
		return;
	connection = &front->connections[exchange->connection];
	/* The rest of a body that was refused is read before the next one. */
	if (exchange->receiving && exchange->keep_alive)
		return;
	if (!exchange->keep_alive) {
		connection_close(front, connection);
		return;
	}
	exchange_detach(front, exchange);
	connection_advance(front, connection);
}
