/* http.c - HTTP/1.1 messages out of a stream of bytes (bytes -> events) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "dataplane/http_private.h"

bool http_is_token(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

bool http_is_value(unsigned char c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

bool http_refuse(struct http_parser *parser, int status, const char *reason)
{
	parser->state = HTTP_AT_BAD;
	parser->status = status;
	parser->reason = reason;
	return false;
}

void http_parser_init(struct http_parser *parser,
	const struct http_limits *limits, char *head)
{
	assert(limits->head_bytes > 0);
	assert(limits->head_bytes <= HTTP_HEAD_BYTES_MAX);
	assert(limits->header_count <= HTTP_HEADER_COUNT_MAX);
	parser->limits = limits;
	parser->head = head;
	parser->state = HTTP_AT_DONE;
	http_parser_next(parser);
}

void http_parser_next(struct http_parser *parser)
{
	assert(parser->state == HTTP_AT_DONE);
	/* headers[] are valid up to header_count; the table is too large to
	 * be cleared for each request. */
	parser->request.header_count = 0;
	parser->state = HTTP_AT_START;
	parser->head_bytes = 0;
	parser->body_left = 0;
	parser->body_seen = 0;
	parser->chunk_digits = 0;
	parser->trailer_bytes = 0;
	parser->piece = (struct http_text){NULL, 0};
	parser->status = 0;
	parser->reason = "";
}

bool http_parser_begun(const struct http_parser *parser)
{
	return parser->head_bytes > 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The line of a chunk's size has ended. */
static bool chunk_begin(struct http_parser *parser)
{
	uint64_t limit = parser->limits->body_bytes;

	parser->chunk_digits = 0;
	if (parser->body_left > limit - parser->body_seen)
		return http_refuse(parser, 413,
			"the body is larger than this server takes");
	parser->state = parser->body_left > 0 ? HTTP_AT_CHUNK_DATA
					      : HTTP_AT_TRAILER_LINE;
	return true;
}

static bool chunk_size_byte(struct http_parser *parser, char c)
{
	int digit = hex_digit(c);

	if (digit >= 0) {
		/* 16 digits fill the 64 bits of the size. */
		if (parser->chunk_digits == 16)
			return http_refuse(
				parser, 400, "a chunk size is too long");
		parser->chunk_digits++;
		parser->body_left = parser->body_left << 4 | (uint64_t)digit;
		return true;
	}
	if (parser->chunk_digits == 0 || (c != '\r' && c != ';'))
		return http_refuse(parser, 400,
			"a chunk size is not a hexadecimal number");
	parser->state =
		c == '\r' ? HTTP_AT_CHUNK_SIZE_LF : HTTP_AT_CHUNK_EXTENSION;
	return true;
}

/* A byte that means nothing to us; there may not be many. */
static bool count_extra(struct http_parser *parser)
{
	if (parser->trailer_bytes == HTTP_EXTRA_BYTES_MAX)
		return http_refuse(parser, 431,
			"chunk extensions and trailers are too large");
	parser->trailer_bytes++;
	return true;
}

static bool extension_byte(struct http_parser *parser, char c)
{
	if (c == '\r') {
		parser->state = HTTP_AT_CHUNK_SIZE_LF;
		return true;
	}
	if (!http_is_value((unsigned char)c))
		return http_refuse(parser, 400,
			"a chunk extension has a control character");
	return count_extra(parser);
}

/* Trailers are checked for their form and dropped. */
static bool trailer_byte(struct http_parser *parser, char c)
{
	if (parser->state == HTTP_AT_TRAILER_VALUE) {
		if (c == '\r')
			parser->state = HTTP_AT_TRAILER_LF;
		else if (!http_is_value((unsigned char)c))
			return http_refuse(parser, 400,
				"a trailer has a control character");
	} else if (parser->state == HTTP_AT_TRAILER_LINE && c == '\r') {
		parser->state = HTTP_AT_END_LF;
	} else if (parser->state == HTTP_AT_TRAILER_NAME && c == ':') {
		parser->state = HTTP_AT_TRAILER_VALUE;
	} else if (http_is_token((unsigned char)c)) {
		parser->state = HTTP_AT_TRAILER_NAME;
	} else {
		return http_refuse(parser, 400, "a trailer is malformed");
	}
	return count_extra(parser);
}

/* The one byte that may come here, and the state that it leads to. */
static bool fixed_byte(
	struct http_parser *parser, char c, char wanted, enum http_state next)
{
	if (c != wanted)
		return http_refuse(parser, 400,
			"a line of the chunked body does not end in CR LF");
	parser->state = (int)next;
	return true;
}

/* One byte of a chunked body that is framing, not data. */
static bool chunk_frame_byte(struct http_parser *parser, char c)
{
	switch ((enum http_state)parser->state) {
	case HTTP_AT_CHUNK_SIZE:
		return chunk_size_byte(parser, c);
	case HTTP_AT_CHUNK_EXTENSION:
		return extension_byte(parser, c);
	case HTTP_AT_CHUNK_SIZE_LF:
		return fixed_byte(parser, c, '\n', HTTP_AT_CHUNK_DATA) &&
		       chunk_begin(parser);
	case HTTP_AT_CHUNK_CR:
		return fixed_byte(parser, c, '\r', HTTP_AT_CHUNK_LF);
	case HTTP_AT_CHUNK_LF:
		return fixed_byte(parser, c, '\n', HTTP_AT_CHUNK_SIZE);
	case HTTP_AT_TRAILER_LF:
		return fixed_byte(parser, c, '\n', HTTP_AT_TRAILER_LINE);
	case HTTP_AT_END_LF:
		return fixed_byte(parser, c, '\n', HTTP_AT_DONE);
	default:
		return trailer_byte(parser, c);
	}
}

/* Hand out what of the body lies in front of us. */
static void take_piece(
	struct http_parser *parser, const char *data, size_t length)
{
	bool chunked = parser->state == HTTP_AT_CHUNK_DATA;

	if (length > parser->body_left)
		length = (size_t)parser->body_left;
	parser->piece = (struct http_text){data, length};
	parser->body_left -= length;
	parser->body_seen += length;
	if (parser->body_left == 0)
		parser->state = chunked ? HTTP_AT_CHUNK_CR : HTTP_AT_DONE;
}

static enum http_event feed_body(struct http_parser *parser, const char *data,
	size_t length, size_t *out_taken)
{
	size_t at = 0;

	for (;;) {
		*out_taken = at;
		if (parser->state == HTTP_AT_DONE)
			return HTTP_DONE;
		if (at == length)
			return HTTP_NEED_MORE;
		if (parser->state == HTTP_AT_BODY ||
			parser->state == HTTP_AT_CHUNK_DATA) {
			take_piece(parser, data + at, length - at);
			*out_taken = at + parser->piece.length;
			return HTTP_BODY_DATA;
		}
		if (!chunk_frame_byte(parser, data[at]))
			return HTTP_BAD;
		at++;
	}
}

enum http_event http_parser_feed(struct http_parser *parser, const char *data,
	size_t length, size_t *out_taken)
{
	size_t at = 0;

	*out_taken = 0;
	if (parser->state == HTTP_AT_BAD)
		return HTTP_BAD;
	if (parser->state >= HTTP_AT_BODY)
		return feed_body(parser, data, length, out_taken);
	while (at < length && parser->state < HTTP_AT_BODY) {
		*out_taken = at;
		if (!http_head_byte(parser, data[at]))
			return HTTP_BAD;
		at++;
	}
	*out_taken = at;
	return parser->state < HTTP_AT_BODY ? HTTP_NEED_MORE : HTTP_HEAD_DONE;
}

struct http_text http_parser_body(const struct http_parser *parser)
{
	return parser->piece;
}

int http_parser_status(const struct http_parser *parser)
{
	assert(parser->state == HTTP_AT_BAD);
	return parser->status;
}

const char *http_parser_reason(const struct http_parser *parser)
{
	assert(parser->state == HTTP_AT_BAD);
	return parser->reason;
}

const struct http_header *http_find(
	const struct http_request *request, const char *lower_case_name)
{
	size_t length = strlen(lower_case_name);

	for (uint32_t i = 0; i < request->header_count; i++) {
		const struct http_text *name = &request->headers[i].name;

		if (name->length == length &&
			memcmp(name->text, lower_case_name, length) == 0)
			return &request->headers[i];
	}
	return NULL;
}

const char *http_status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} table[] = {{100, "Continue"}, {200, "OK"}, {202, "Accepted"},
		{204, "No Content"}, {400, "Bad Request"},
		{401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"},
		{405, "Method Not Allowed"}, {408, "Request Timeout"},
		{409, "Conflict"}, {411, "Length Required"},
		{413, "Content Too Large"}, {414, "URI Too Long"},
		{415, "Unsupported Media Type"}, {417, "Expectation Failed"},
		{422, "Unprocessable Content"}, {429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"}, {501, "Not Implemented"},
		{503, "Service Unavailable"}, {504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].status == status)
			return table[i].text;
	return "Unknown";
}
