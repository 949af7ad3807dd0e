/* serve_sse.c - server-sent events, client side (body bytes -> data) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_sse.h"

int serve_bytes_add(
	struct serve_bytes *bytes, const char *data, size_t length, size_t max)
{
	size_t room = bytes->room ? bytes->room : 512;
	char *larger;

	if (length > max || bytes->length > max - length)
		return -EMSGSIZE;
	while (room < bytes->length + length)
		room *= 2;
	if (room > bytes->room) {
		larger = realloc(bytes->data, room);
		if (!larger)
			return -ENOMEM;
		bytes->data = larger;
		bytes->room = room;
	}
	if (length)
		memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
	return 0;
}

void serve_bytes_release(struct serve_bytes *bytes)
{
	free(bytes->data);
	memset(bytes, 0, sizeof(*bytes));
}

void serve_sse_reset(struct serve_sse *sse)
{
	sse->has_data = false;
	sse->reason = NULL;
	sse->line.length = 0;
	sse->event.length = 0;
}

void serve_sse_release(struct serve_sse *sse)
{
	serve_bytes_release(&sse->line);
	serve_bytes_release(&sse->event);
}

bool serve_sse_is_whole(const struct serve_sse *sse)
{
	return !sse->has_data && sse->line.length == 0;
}

static enum serve_sse_event bad(struct serve_sse *sse, const char *reason)
{
	sse->reason = reason;
	return SERVE_SSE_BAD;
}

static bool keep(struct serve_bytes *bytes, const char *data, size_t length)
{
	return serve_bytes_add(
		       bytes, data, length, SERVE_SSE_EVENT_BYTES_MAX) == 0;
}

/* The pending data into the event buffer, unless it lies there. */
static bool settle(struct serve_sse *sse)
{
	if (sse->data == sse->event.data)
		return true;
	sse->event.length = 0;
	if (!keep(&sse->event, sse->data, sse->data_bytes))
		return false;
	sse->data = sse->event.data;
	return true;
}

/* A "data:" line; more than one are joined by line ends. */
static enum serve_sse_event data_line(
	struct serve_sse *sse, const char *value, size_t length)
{
	if (length && *value == ' ') {
		value++;
		length--;
	}
	if (!sse->has_data) {
		sse->has_data = true;
		sse->data = value;
		sse->data_bytes = length;
		return SERVE_SSE_MORE;
	}
	if (!settle(sse) || !keep(&sse->event, "\n", 1) ||
		!keep(&sse->event, value, length))
		return bad(sse, "event too long");
	sse->data = sse->event.data;
	sse->data_bytes = sse->event.length;
	return SERVE_SSE_MORE;
}

static enum serve_sse_event take_line(
	struct serve_sse *sse, const char *line, size_t length)
{
	static const char *const quiet[] = {"event", "id", "retry"};
	const char *colon = memchr(line, ':', length);
	size_t name = colon ? (size_t)(colon - line) : length;

	if (length == 0) {
		if (!sse->has_data)
			return SERVE_SSE_MORE;
		sse->has_data = false;
		return SERVE_SSE_DATA;
	}
	if (memchr(line, '\r', length))
		return bad(sse, "carriage return inside a line");
	if (colon == line)
		return SERVE_SSE_MORE;
	if (colon && name == 4 && memcmp(line, "data", 4) == 0)
		return data_line(sse, colon + 1, length - name - 1);
	for (size_t i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++)
		if (name == strlen(quiet[i]) &&
			memcmp(line, quiet[i], name) == 0)
			return SERVE_SSE_MORE;
	return bad(sse, "line that is no field of an event");
}

/* A whole line, without its LF; part of it may be held from before. */
static enum serve_sse_event line_done(
	struct serve_sse *sse, const char *line, size_t length)
{
	bool held = sse->line.length > 0;
	enum serve_sse_event event;

	if (held) {
		if (!keep(&sse->line, line, length))
			return bad(sse, "line too long");
		line = sse->line.data;
		length = sse->line.length;
		sse->line.length = 0;
	}
	if (length && line[length - 1] == '\r')
		length--;
	event = take_line(sse, line, length);
	/* The line's buffer is used again: what points into it moves. */
	if (held && event == SERVE_SSE_MORE && sse->has_data && !settle(sse))
		return bad(sse, "event too long");
	return event;
}

enum serve_sse_event serve_sse_feed(struct serve_sse *sse, const char *data,
	size_t length, size_t *out_taken)
{
	enum serve_sse_event event = SERVE_SSE_MORE;
	size_t at = 0;

	while (event == SERVE_SSE_MORE && at < length) {
		const char *end = memchr(data + at, '\n', length - at);
		size_t count = end ? (size_t)(end - data) - at : length - at;

		if (end)
			event = line_done(sse, data + at, count);
		else if (!keep(&sse->line, data + at, count))
			event = bad(sse, "line too long");
		at += count + (end ? 1 : 0);
	}
	*out_taken = at;
	if (event == SERVE_SSE_MORE && sse->has_data && !settle(sse))
		return bad(sse, "event too long");
	return event;
}
