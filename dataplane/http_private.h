/* http_private.h - what http.c and http_head.c share */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_DATAPLANE_HTTP_PRIVATE_H
#define HEDDLE_DATAPLANE_HTTP_PRIVATE_H

#include "dataplane/http.h"

/* Longer than any method that is registered. */
#define HTTP_METHOD_BYTES_MAX 32
/* Chunk extensions and trailers of one message, in all. */
#define HTTP_EXTRA_BYTES_MAX 4096

/* Where the next byte belongs; _LF: a CR has come, its LF has not. */
enum http_state {
	HTTP_AT_START,
	HTTP_AT_START_LF,
	HTTP_AT_METHOD,
	HTTP_AT_TARGET,
	HTTP_AT_VERSION,
	HTTP_AT_REQUEST_LF,
	HTTP_AT_LINE,
	HTTP_AT_NAME,
	HTTP_AT_VALUE,
	HTTP_AT_VALUE_LF,
	HTTP_AT_HEAD_LF,
	HTTP_AT_BODY, /* the first state behind the head */
	HTTP_AT_CHUNK_SIZE,
	HTTP_AT_CHUNK_EXTENSION,
	HTTP_AT_CHUNK_SIZE_LF,
	HTTP_AT_CHUNK_DATA,
	HTTP_AT_CHUNK_CR,
	HTTP_AT_CHUNK_LF,
	HTTP_AT_TRAILER_LINE,
	HTTP_AT_TRAILER_NAME,
	HTTP_AT_TRAILER_VALUE,
	HTTP_AT_TRAILER_LF,
	HTTP_AT_END_LF,
	HTTP_AT_DONE,
	HTTP_AT_BAD
};

/* Characters of a token (RFC 9110 section 5.6.2). */
bool http_is_token(unsigned char c);

/* Characters of a field value: blanks, visible ones, bytes above 127. */
bool http_is_value(unsigned char c);

/* Remember why the message is refused; returns false. */
bool http_refuse(struct http_parser *parser, int status, const char *reason);

/* Take the next byte of the head; false: refused. */
bool http_head_byte(struct http_parser *parser, char byte);

/*
 * The head is whole: decide what it means and where the body is; false:
 * refused.
 */
bool http_head_finish(struct http_parser *parser);

#endif
