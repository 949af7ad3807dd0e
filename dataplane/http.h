/* http.h - HTTP/1.1 over a byte stream, server side (bytes <-> messages) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  requests of RFC 9112 in, responses out: keep-alive, pipelining,
 *        Content-Length and chunked bodies, Expect: 100-continue.
 * Strict where leniency has let requests be smuggled (RFC 9112 sections 3, 5,
 *        6, 11.2): both Content-Length and Transfer-Encoding, two different
 *        Content-Lengths, a transfer coding other than chunked alone, a space
 *        before a header's colon, a folded header, a bare CR, a NUL, no Host
 *        or two in HTTP/1.1 are refused; the connection ends after such an
 *        answer.
 * Parser: struct http_parser takes bytes as they come, in pieces of any
 *        size, copies the head into bounded storage of its own and the body
 *        into the buffer that the caller gives; it allocates nothing.
 * Threads: one per connection.
 */
#ifndef HEDDLE_DATAPLANE_HTTP_H
#define HEDDLE_DATAPLANE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_BYTES_MAX 16384
#define HTTP_HEADER_COUNT_MAX 100
#define HTTP_TARGET_BYTES_MAX 2048

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OPTIONS, HTTP_OTHER };

/* A view into the head: valid until http_parser_next(). */
struct http_text {
	const char *text;
	size_t length;
};

struct http_header {
	struct http_text name; /* lower case */
	struct http_text value; /* without surrounding blanks */
};

struct http_request {
	enum http_method method;
	struct http_text target; /* as sent */
	struct http_text path; /* up to '?', percent-decoded */
	struct http_text query;
	uint32_t minor; /* HTTP/1.minor */
	struct http_header headers[HTTP_HEADER_COUNT_MAX];
	uint32_t header_count;
	bool keep_alive;
	bool expect_continue;
	bool has_body;
	bool length_known;
	uint64_t body_length; /* if length_known */
};

enum http_event {
	HTTP_NEED_MORE, /* all bytes taken */
	HTTP_HEAD_DONE, /* request() is complete; say where the body goes */
	HTTP_BODY_DATA, /* a piece of the body, see http_parser_body() */
	HTTP_DONE, /* the message is complete; bytes behind it are not taken */
	HTTP_BAD /* error_status() and error_text() say what; close */
};

struct http_limits {
	uint32_t head_bytes; /* <= HTTP_HEAD_BYTES_MAX */
	uint32_t header_count; /* <= HTTP_HEADER_COUNT_MAX */
	uint64_t body_bytes;
};

struct http_parser {
	const struct http_limits *limits; /* borrowed */
	struct http_request request;
	int state; /* private from here on */
	uint32_t head_bytes;
	uint64_t body_left;
	uint64_t body_seen;
	uint32_t chunk_digits;
	uint32_t trailer_bytes;
	struct http_text piece;
	int status;
	const char *reason;
	char *head; /* the caller's, head_bytes of the limits */
};

/*
 * `head` has room for limits->head_bytes and stays the caller's. A path with
 * escapes is decoded into the same room, behind the head.
 */
void http_parser_init(struct http_parser *parser,
	const struct http_limits *limits, char *head);

/*
 * Take up to `length` bytes; *out_taken says how many. Call again with the
 * rest, also when that is empty, until HTTP_NEED_MORE.
 */
enum http_event http_parser_feed(struct http_parser *parser, const char *data,
	size_t length, size_t *out_taken);

/* The piece of the body of the last HTTP_BODY_DATA, inside `data`. */
struct http_text http_parser_body(const struct http_parser *parser);

/* Has a byte of a request come that is not complete yet? */
bool http_parser_begun(const struct http_parser *parser);

/* After HTTP_DONE: ready for the next request of the connection. */
void http_parser_next(struct http_parser *parser);

/* After HTTP_BAD: 400, 405, 411, 413, 414, 417, 431, 501 or 505. */
int http_parser_status(const struct http_parser *parser);
const char *http_parser_reason(const struct http_parser *parser);

/* NULL when there is none; the first of several. */
const struct http_header *http_find(
	const struct http_request *request, const char *lower_case_name);

/* "OK", "Bad Request", ... */
const char *http_status_text(int status);

#endif
