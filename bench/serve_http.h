/* serve_http.h - HTTP/1.1 answers, client side (bytes -> status and body) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a load generator that trusts the server measures nothing: framing
 *          is checked to the byte (RFC 9112: status line, headers, chunk
 *          sizes, trailers), whatever the pieces in which bytes come.
 * Memory:  one line of the head is held; a longer one is a fault. Nothing is
 *          allocated.
 * Threads: one per connection.
 */
#ifndef HEDDLE_BENCH_SERVE_HTTP_H
#define HEDDLE_BENCH_SERVE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVE_HTTP_LINE_BYTES 1024
#define SERVE_HTTP_HEAD_BYTES_MAX 32768

enum serve_http_event {
	SERVE_HTTP_MORE, /* all bytes taken */
	SERVE_HTTP_BODY, /* serve_http.piece */
	SERVE_HTTP_END, /* the answer is whole; later bytes are not taken */
	SERVE_HTTP_BAD /* reason says what; the connection is of no more use */
};

enum serve_http_type { SERVE_TYPE_OTHER, SERVE_TYPE_JSON, SERVE_TYPE_EVENTS };

struct serve_http {
	int status;
	enum serve_http_type type;
	bool keep_alive;
	bool has_retry_after;
	uint32_t retry_after_ms;
	const char *reason; /* of SERVE_HTTP_BAD */
	const char *piece; /* of SERVE_HTTP_BODY, inside the data fed */
	size_t piece_bytes;
	int state; /* private from here on */
	bool chunked, has_length, has_exact_retry;
	uint64_t left; /* of the chunk or the body */
	uint64_t head_bytes;
	uint32_t line_length;
	char line[SERVE_HTTP_LINE_BYTES];
};

void serve_http_init(struct serve_http *http);

/* Take up to `length` bytes; call again with the rest until MORE. */
enum serve_http_event serve_http_feed(struct serve_http *http, const char *data,
	size_t length, size_t *out_taken);

/* The connection ended: END for a body that ends so, BAD otherwise. */
enum serve_http_event serve_http_eof(struct serve_http *http);

/* No byte of an answer has come yet. */
bool serve_http_is_fresh(const struct serve_http *http);

#endif
