/* serve_sse.h - server-sent events, client side (body bytes -> data) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    lines that end in LF or CRLF; "data:" lines up to a blank one make
 *          an event; lines that begin with ':' are comments; event, id and
 *          retry are let through unread; any other line is a fault, since
 *          no OpenAI server sends one.
 * Memory:  events that lie whole in the piece that was fed are views into
 *          it; others are put together in buffers that grow to
 *          SERVE_SSE_EVENT_BYTES_MAX and are kept for the next event.
 * Threads: one per connection.
 */
#ifndef HEDDLE_BENCH_SERVE_SSE_H
#define HEDDLE_BENCH_SERVE_SSE_H

#include <stdbool.h>
#include <stddef.h>

#define SERVE_SSE_EVENT_BYTES_MAX ((size_t)1 << 20)

/* Bytes that grow; shared with whoever collects a body. */
struct serve_bytes {
	char *data; /* owned */
	size_t length, room;
};

/* Append; -ENOMEM, or -EMSGSIZE where it would exceed `max` bytes. */
int serve_bytes_add(
	struct serve_bytes *bytes, const char *data, size_t length, size_t max);
void serve_bytes_release(struct serve_bytes *bytes);

enum serve_sse_event { SERVE_SSE_MORE, SERVE_SSE_DATA, SERVE_SSE_BAD };

struct serve_sse {
	const char *data; /* of SERVE_SSE_DATA, until the next feed */
	size_t data_bytes;
	const char *reason; /* of SERVE_SSE_BAD */
	bool has_data; /* private from here on */
	struct serve_bytes line, event;
};

/* Ready for a new body; the buffers of a zeroed or used struct are kept. */
void serve_sse_reset(struct serve_sse *sse);

enum serve_sse_event serve_sse_feed(struct serve_sse *sse, const char *data,
	size_t length, size_t *out_taken);

/* At the end of the body: no event is half there. */
bool serve_sse_is_whole(const struct serve_sse *sse);
void serve_sse_release(struct serve_sse *sse);

#endif
