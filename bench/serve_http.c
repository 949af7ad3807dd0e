/* serve_http.c - HTTP/1.1 answers, client side (bytes -> status and body) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "bench/serve_http.h"

/* Chunk sizes beyond this are no answer of an API. */
#define CHUNK_DIGITS_MAX 8
#define LENGTH_DIGITS_MAX 15
#define RETRY_S_MAX UINT64_C(86400)
#define RETRY_MS_MAX (RETRY_S_MAX * 1000)

enum {
	STATUS_LINE,
	HEADER_LINE,
	BODY_LENGTH, /* `left` bytes */
	BODY_CLOSE, /* until the connection ends */
	CHUNK_SIZE,
	CHUNK_DATA,
	CHUNK_END, /* the line end behind the data */
	TRAILER,
	ENDED,
	BROKEN
};

void serve_http_init(struct serve_http *http)
{
	memset(http, 0, offsetof(struct serve_http, line));
}

bool serve_http_is_fresh(const struct serve_http *http)
{
	return http->state == STATUS_LINE && http->head_bytes == 0;
}

static enum serve_http_event broken(struct serve_http *http, const char *reason)
{
	http->state = BROKEN;
	http->reason = reason;
	return SERVE_HTTP_BAD;
}

static bool number(const char *text, size_t digits_max, uint64_t *out)
{
	size_t count = strspn(text, "0123456789");

	*out = 0;
	if (count == 0 || count > digits_max || text[count] != '\0')
		return false;
	for (size_t i = 0; i < count; i++)
		*out = *out * 10 + (uint64_t)(text[i] - '0');
	return true;
}

/* --- the head ------------------------------------------------------------- */

static bool status_line(struct serve_http *http)
{
	const char *line = http->line;
	bool old = strncmp(line, "HTTP/1.0 ", 9) == 0;

	if (!old && strncmp(line, "HTTP/1.1 ", 9) != 0)
		return false;
	if (strspn(line + 9, "0123456789") != 3 || line[9] < '1' ||
		line[9] > '5' || (line[12] != ' ' && line[12] != '\0'))
		return false;
	http->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 +
		       (line[11] - '0');
	http->keep_alive = !old;
	return true;
}

static void content_type(struct serve_http *http, const char *value)
{
	size_t length = strcspn(value, "; \t");

	if (length == 17 && strncasecmp(value, "text/event-stream", 17) == 0)
		http->type = SERVE_TYPE_EVENTS;
	else if (length == 16 &&
		 strncasecmp(value, "application/json", 16) == 0)
		http->type = SERVE_TYPE_JSON;
}

static bool content_length(struct serve_http *http, const char *value)
{
	uint64_t length;

	if (!number(value, LENGTH_DIGITS_MAX, &length))
		return false;
	if (http->has_length && http->left != length)
		return false;
	http->has_length = true;
	http->left = length;
	return true;
}

/* retry-after-ms is the finer one and wins; a date is left unread. */
static void retry_after(struct serve_http *http, const char *value, bool exact)
{
	uint64_t count;

	if (!number(value, LENGTH_DIGITS_MAX, &count) ||
		(http->has_exact_retry && !exact))
		return;
	if (!exact)
		count = count < RETRY_S_MAX ? count * 1000 : RETRY_MS_MAX;
	http->has_retry_after = true;
	http->has_exact_retry = exact;
	http->retry_after_ms =
		(uint32_t)(count < RETRY_MS_MAX ? count : RETRY_MS_MAX);
}

/* A header whose name matters. */
static bool header(struct serve_http *http, const char *name, const char *value)
{
	if (strcasecmp(name, "content-type") == 0)
		content_type(http, value);
	else if (strcasecmp(name, "content-length") == 0)
		return content_length(http, value);
	else if (strcasecmp(name, "retry-after") == 0)
		retry_after(http, value, false);
	else if (strcasecmp(name, "retry-after-ms") == 0)
		retry_after(http, value, true);
	else if (strcasecmp(name, "connection") == 0)
		http->keep_alive =
			strcasecmp(value, "close") != 0 && http->keep_alive;
	if (strcasecmp(name, "transfer-encoding") == 0) {
		/* Nothing but chunked, and once. */
		if (http->chunked || strcasecmp(value, "chunked") != 0)
			return false;
		http->chunked = true;
	}
	return true;
}

static bool header_line(struct serve_http *http)
{
	char *colon = strchr(http->line, ':'), *value, *end;
	size_t length;

	if (!colon || colon == http->line)
		return false;
	*colon = '\0';
	length = strlen(http->line);
	if (strcspn(http->line, " \t\"(),/;<=>?@[\\]{}") != length)
		return false;
	value = colon + 1 + strspn(colon + 1, " \t");
	end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
	return header(http, http->line, value);
}

/* The head is whole: what kind of body follows. */
static enum serve_http_event head_done(struct serve_http *http)
{
	if (http->chunked && http->has_length)
		return broken(http, "both a length and chunks");
	if (http->status < 200) {
		/* 100 Continue and its kin: the answer itself follows. */
		serve_http_init(http);
		return SERVE_HTTP_MORE;
	}
	if (http->chunked)
		http->state = CHUNK_SIZE;
	else if (http->status == 204 || http->status == 304)
		http->state = ENDED;
	else if (http->has_length)
		http->state = http->left ? BODY_LENGTH : ENDED;
	else
		http->state = BODY_CLOSE;
	if (http->state == BODY_CLOSE)
		http->keep_alive = false;
	return http->state == ENDED ? SERVE_HTTP_END : SERVE_HTTP_MORE;
}

/* --- lines ---------------------------------------------------------------- */

static bool chunk_size(struct serve_http *http)
{
	size_t count = strspn(http->line, "0123456789abcdefABCDEF");

	if (count == 0 || count > CHUNK_DIGITS_MAX)
		return false;
	if (http->line[count] != '\0' && http->line[count] != ';')
		return false;
	http->left = 0;
	for (size_t i = 0; i < count; i++) {
		int c = http->line[i] | 0x20;

		http->left = http->left * 16 +
			     (uint64_t)(c > '9' ? c - 'a' + 10 : c - '0');
	}
	http->state = http->left ? CHUNK_DATA : TRAILER;
	return true;
}

static enum serve_http_event take_line(struct serve_http *http)
{
	bool blank = http->line[0] == '\0';

	switch (http->state) {
	case STATUS_LINE:
		if (!status_line(http))
			return broken(http, "status line");
		http->state = HEADER_LINE;
		break;
	case HEADER_LINE:
		if (blank)
			return head_done(http);
		if (!header_line(http))
			return broken(http, "header line");
		break;
	case CHUNK_SIZE:
		if (!chunk_size(http))
			return broken(http, "chunk size");
		break;
	case CHUNK_END:
		if (!blank)
			return broken(http, "chunk longer than its size");
		http->state = CHUNK_SIZE;
		break;
	default: /* TRAILER */
		if (!blank && !strchr(http->line, ':'))
			return broken(http, "trailer");
		if (blank) {
			http->state = ENDED;
			return SERVE_HTTP_END;
		}
		break;
	}
	return SERVE_HTTP_MORE;
}

/* Up to and with the next line end; a line is CRLF, nothing less. */
static enum serve_http_event feed_line(
	struct serve_http *http, const char *data, size_t length, size_t *taken)
{
	const char *end = memchr(data, '\n', length);
	size_t count = end ? (size_t)(end - data) + 1 : length;
	bool in_head = http->state <= HEADER_LINE || http->state == TRAILER;

	*taken = count;
	http->head_bytes += in_head ? count : 0;
	if (count > SERVE_HTTP_LINE_BYTES - 1 - http->line_length ||
		http->head_bytes > SERVE_HTTP_HEAD_BYTES_MAX)
		return broken(http, "line or head too long");
	memcpy(http->line + http->line_length, data, count);
	http->line_length += (uint32_t)count;
	if (http->state == CHUNK_END && http->line[0] != '\r')
		return broken(http, "chunk longer than its size");
	if (!end)
		return SERVE_HTTP_MORE;
	count = http->line_length;
	http->line_length = 0;
	if (count < 2 || http->line[count - 2] != '\r')
		return broken(http, "line without a carriage return");
	http->line[count - 2] = '\0';
	if (strlen(http->line) != count - 2 || strchr(http->line, '\r'))
		return broken(http, "control character in a line");
	return take_line(http);
}

/* --- the body ------------------------------------------------------------- */

static enum serve_http_event feed_body(
	struct serve_http *http, const char *data, size_t length, size_t *taken)
{
	size_t count = length;

	if (http->state != BODY_CLOSE) {
		if (count > http->left)
			count = (size_t)http->left;
		http->left -= count;
	}
	*taken = count;
	http->piece = data;
	http->piece_bytes = count;
	if (http->state == CHUNK_DATA && http->left == 0)
		http->state = CHUNK_END;
	else if (http->state == BODY_LENGTH && http->left == 0)
		http->state = ENDED;
	return SERVE_HTTP_BODY;
}

enum serve_http_event serve_http_feed(struct serve_http *http, const char *data,
	size_t length, size_t *out_taken)
{
	size_t at = 0, taken = 0;
	enum serve_http_event event = SERVE_HTTP_MORE;

	*out_taken = 0;
	if (http->state == ENDED)
		return SERVE_HTTP_END;
	if (http->state == BROKEN)
		return SERVE_HTTP_BAD;
	while (event == SERVE_HTTP_MORE && at < length) {
		bool is_body = http->state == BODY_LENGTH ||
			       http->state == BODY_CLOSE ||
			       http->state == CHUNK_DATA;

		event = is_body ? feed_body(
					  http, data + at, length - at, &taken)
				: feed_line(
					  http, data + at, length - at, &taken);
		at += taken;
	}
	*out_taken = at;
	return event;
}

enum serve_http_event serve_http_eof(struct serve_http *http)
{
	if (http->state == ENDED || http->state == BODY_CLOSE) {
		http->state = ENDED;
		return SERVE_HTTP_END;
	}
	if (http->state == BROKEN)
		return SERVE_HTTP_BAD;
	return broken(http, "connection ended inside the answer");
}
