/* http_head.c - the head of a request, strictly (bytes -> http_request) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>
#include <strings.h>

#include "dataplane/http_private.h"

/* Keep a byte of the head; false: there is no room. */
static bool store(struct http_parser *parser, char c)
{
	if (parser->head_bytes == parser->limits->head_bytes) {
		if (parser->state == HTTP_AT_TARGET)
			return http_refuse(parser, 414,
				"the target is longer than this server takes");
		return http_refuse(parser, 431,
			"the head is larger than this server takes");
	}
	parser->head[parser->head_bytes++] = c;
	return true;
}

/* The place where the next stored byte goes. */
static const char *here(const struct http_parser *parser)
{
	return parser->head + parser->head_bytes;
}

static size_t length_since(const struct http_parser *parser, const char *start)
{
	return (size_t)(here(parser) - start);
}

static bool method_byte(struct http_parser *parser, char c)
{
	struct http_text *method = &parser->piece;

	if (c == ' ' && parser->head_bytes > 0) {
		method->length = length_since(parser, method->text);
		parser->state = HTTP_AT_TARGET;
		if (!store(parser, c))
			return false;
		parser->request.target.text = here(parser);
		return true;
	}
	if (!http_is_token((unsigned char)c))
		return http_refuse(parser, 400, "this is no HTTP request");
	if (parser->head_bytes == HTTP_METHOD_BYTES_MAX)
		return http_refuse(parser, 501, "the method is unknown");
	return store(parser, c);
}

static enum http_method method_of(const struct http_text *name)
{
	static const struct {
		const char *name;
		enum http_method method;
	} table[] = {{"GET", HTTP_GET}, {"HEAD", HTTP_HEAD},
		{"POST", HTTP_POST}, {"OPTIONS", HTTP_OPTIONS}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strlen(table[i].name) == name->length &&
			memcmp(table[i].name, name->text, name->length) == 0)
			return table[i].method;
	return HTTP_OTHER;
}

static bool target_byte(struct http_parser *parser, char c)
{
	struct http_request *request = &parser->request;
	size_t length = length_since(parser, request->target.text);

	if (c == ' ' && length > 0) {
		request->target.length = length;
		request->method = method_of(&parser->piece);
		if (request->method == HTTP_OTHER &&
			parser->piece.length == 7 &&
			memcmp(parser->piece.text, "CONNECT", 7) == 0)
			return http_refuse(
				parser, 405, "this server is no tunnel");
		parser->state = HTTP_AT_VERSION;
		if (!store(parser, c))
			return false;
		parser->piece.text = here(parser);
		return true;
	}
	if (c <= ' ' || c == 0x7f)
		return http_refuse(
			parser, 400, "the target is malformed or missing");
	if (c == '#')
		return http_refuse(parser, 400, "the target has a fragment");
	if (length == HTTP_TARGET_BYTES_MAX)
		return http_refuse(parser, 414,
			"the target is longer than this server takes");
	return store(parser, c);
}

static bool version_byte(struct http_parser *parser, char c)
{
	const char *text = parser->piece.text;
	size_t length = length_since(parser, text);

	if (c != '\r') {
		if (length == 8 || !http_is_value((unsigned char)c))
			return http_refuse(
				parser, 400, "the request line is malformed");
		return store(parser, c);
	}
	if (length != 8 || memcmp(text, "HTTP/", 5) != 0 || text[5] < '0' ||
		text[5] > '9' || text[6] != '.' || text[7] < '0' ||
		text[7] > '9')
		return http_refuse(
			parser, 400, "the request line is malformed");
	if (text[5] != '1')
		return http_refuse(
			parser, 505, "this server speaks HTTP/1.1 and 1.0");
	parser->request.minor = (uint32_t)(text[7] - '0');
	parser->state = HTTP_AT_REQUEST_LF;
	return store(parser, c);
}

static bool name_byte(struct http_parser *parser, char c)
{
	struct http_request *request = &parser->request;
	struct http_header *header = &request->headers[request->header_count];
	size_t length = length_since(parser, header->name.text);

	if (c == ':' && length > 0) {
		header->name.length = length;
		parser->state = HTTP_AT_VALUE;
		if (!store(parser, c))
			return false;
		header->value.text = here(parser);
		return true;
	}
	if (!http_is_token((unsigned char)c))
		return http_refuse(parser, 400, "a header's name is malformed");
	if (c >= 'A' && c <= 'Z')
		c = (char)(c - 'A' + 'a');
	return store(parser, c);
}

/* The first byte of a line behind the request line. */
static bool line_byte(struct http_parser *parser, char c)
{
	struct http_request *request = &parser->request;

	if (c == '\r') {
		parser->state = HTTP_AT_HEAD_LF;
		return store(parser, c);
	}
	if (c == ' ' || c == '\t')
		return http_refuse(parser, 400, "a header is folded");
	if (request->header_count == parser->limits->header_count)
		return http_refuse(parser, 431, "there are too many headers");
	request->headers[request->header_count].name.text = here(parser);
	parser->state = HTTP_AT_NAME;
	return name_byte(parser, c);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct http_text trimmed(const char *text, size_t length)
{
	while (length > 0 && is_blank(text[0])) {
		text++;
		length--;
	}
	while (length > 0 && is_blank(text[length - 1]))
		length--;
	return (struct http_text){text, length};
}

static bool value_byte(struct http_parser *parser, char c)
{
	struct http_request *request = &parser->request;
	struct http_header *header = &request->headers[request->header_count];

	if (c == '\r') {
		header->value = trimmed(header->value.text,
			length_since(parser, header->value.text));
		request->header_count++;
		parser->state = HTTP_AT_VALUE_LF;
	} else if (!http_is_value((unsigned char)c)) {
		return http_refuse(
			parser, 400, "a header has a control character");
	}
	return store(parser, c);
}

static bool line_feed(struct http_parser *parser, char c, enum http_state next)
{
	if (c != '\n')
		return http_refuse(parser, 400, "a line does not end in CR LF");
	parser->state = (int)next;
	return next == HTTP_AT_METHOD || store(parser, c);
}

bool http_head_byte(struct http_parser *parser, char c)
{
	switch ((enum http_state)parser->state) {
	case HTTP_AT_START:
		/* RFC 9112 section 2.2: one empty line may come first. */
		if (c == '\r') {
			parser->state = HTTP_AT_START_LF;
			return true;
		}
		parser->state = HTTP_AT_METHOD;
		parser->piece.text = here(parser);
		return method_byte(parser, c);
	case HTTP_AT_START_LF:
		parser->piece.text = here(parser);
		return line_feed(parser, c, HTTP_AT_METHOD);
	case HTTP_AT_METHOD:
		return method_byte(parser, c);
	case HTTP_AT_TARGET:
		return target_byte(parser, c);
	case HTTP_AT_VERSION:
		return version_byte(parser, c);
	case HTTP_AT_REQUEST_LF:
	case HTTP_AT_VALUE_LF:
		return line_feed(parser, c, HTTP_AT_LINE);
	case HTTP_AT_LINE:
		return line_byte(parser, c);
	case HTTP_AT_NAME:
		return name_byte(parser, c);
	case HTTP_AT_VALUE:
		return value_byte(parser, c);
	default:
		assert(parser->state == HTTP_AT_HEAD_LF);
		return line_feed(parser, c, HTTP_AT_BODY) &&
		       http_head_finish(parser);
	}
}
