/* http_fields.c - what a head means (headers -> path, framing, keep-alive) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "dataplane/http_private.h"

static bool text_is(const struct http_text *text, const char *wanted)
{
	return text->length == strlen(wanted) &&
	       strncasecmp(text->text, wanted, text->length) == 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/*
 * Decode the path into the room behind the head: the target stays as sent. A
 * control character in a path can only forge lines in somebody's log.
 */
static bool decode_path(struct http_parser *parser)
{
	struct http_text *path = &parser->request.path;
	char *out = parser->head + parser->head_bytes;
	size_t room = parser->limits->head_bytes - parser->head_bytes;
	size_t length = 0;

	if (!memchr(path->text, '%', path->length))
		return true;
	for (size_t i = 0; i < path->length; i++) {
		int c = (unsigned char)path->text[i];

		if (c == '%') {
			int high = i + 2 < path->length
					   ? hex_value(path->text[i + 1])
					   : -1;
			int low = high < 0 ? -1 : hex_value(path->text[i + 2]);

			if (low < 0)
				return http_refuse(parser, 400,
					"the path has a bad escape");
			c = high * 16 + low;
			i += 2;
		}
		if (c < ' ' || c == 0x7f)
			return http_refuse(parser, 400,
				"the path has a control character");
		if (length == room)
			return http_refuse(parser, 431,
				"the head is larger than this server takes");
		out[length++] = (char)c;
	}
	*path = (struct http_text){out, length};
	return true;
}

/* Origin form, absolute form, or '*' of OPTIONS (RFC 9112 section 3.2). */
static bool split_target(struct http_parser *parser)
{
	struct http_request *request = &parser->request;
	const char *text = request->target.text;
	const char *end = text + request->target.length;
	const char *mark;

	if (request->target.length >= 7 && !strncasecmp(text, "http://", 7))
		text += 7;
	else if (request->target.length >= 8 &&
		 !strncasecmp(text, "https://", 8))
		text += 8;
	else if (text[0] != '/' &&
		 !(request->method == HTTP_OPTIONS &&
			 request->target.length == 1 && text[0] == '*'))
		return http_refuse(parser, 400, "the target is no path");
	if (text != request->target.text) {
		size_t name = 0;

		while (text + name < end && text[name] != '/' &&
			text[name] != '?')
			name++;
		if (name == 0)
			return http_refuse(
				parser, 400, "the target names no host");
		text += name;
	}
	mark = memchr(text, '?', (size_t)(end - text));
	request->path =
		(struct http_text){text, (size_t)((mark ? mark : end) - text)};
	request->query =
		mark ? (struct http_text){mark + 1, (size_t)(end - mark - 1)}
		     : (struct http_text){end, 0};
	if (request->path.length == 0)
		request->path = (struct http_text){"/", 1};
	return decode_path(parser);
}

/* The characters of host and port; the rest would split or hide a name. */
static bool is_host(const struct http_text *value)
{
	for (size_t i = 0; i < value->length; i++) {
		char c = value->text[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') &&
			!(c >= 'a' && c <= 'z') &&
			(c == '\0' || !strchr("-._~%!$&'()*+;=:[]", c)))
			return false;
	}
	return true;
}

/* What the walk over the headers finds out. */
struct findings {
	uint32_t host_count;
	uint32_t length_count;
	uint32_t coding_count;
	uint64_t length;
	bool close, keep;
};

/* Digits only; what does not fit in 64 bits is larger than any limit. */
static bool take_length(struct http_parser *parser,
	const struct http_text *value, struct findings *found)
{
	uint64_t length = 0;

	for (size_t i = 0; i < value->length; i++) {
		char c = value->text[i];

		if (c < '0' || c > '9')
			return http_refuse(
				parser, 400, "Content-Length is not a number");
		if (__builtin_mul_overflow(length, 10, &length) ||
			__builtin_add_overflow(
				length, (uint64_t)(c - '0'), &length))
			return http_refuse(parser, 413,
				"the body is larger than this server takes");
	}
	if (value->length == 0)
		return http_refuse(
			parser, 400, "Content-Length is not a number");
	if (found->length_count > 0 && found->length != length)
		return http_refuse(
			parser, 400, "there are two different Content-Lengths");
	found->length_count++;
	found->length = length;
	return true;
}

static bool take_coding(struct http_parser *parser,
	const struct http_text *value, struct findings *found)
{
	if (found->coding_count++ > 0)
		return http_refuse(
			parser, 400, "there are two Transfer-Encodings");
	if (!text_is(value, "chunked"))
		return http_refuse(parser, 501,
			"a Transfer-Encoding other than chunked alone");
	return true;
}

/* A comma-separated list of options. */
static void take_connection(
	const struct http_text *value, struct findings *found)
{
	const char *at = value->text, *end = at + value->length;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		struct http_text item = {
			at, (size_t)((comma ? comma : end) - at)};

		while (item.length > 0 && strchr(" \t", item.text[0])) {
			item.text++;
			item.length--;
		}
		while (item.length > 0 &&
			strchr(" \t", item.text[item.length - 1]))
			item.length--;
		found->close |= text_is(&item, "close");
		found->keep |= text_is(&item, "keep-alive");
		at = comma ? comma + 1 : end;
	}
}

static bool take_header(struct http_parser *parser,
	const struct http_header *header, struct findings *found)
{
	const struct http_text *name = &header->name, *value = &header->value;

	if (text_is(name, "content-length"))
		return take_length(parser, value, found);
	if (text_is(name, "transfer-encoding"))
		return take_coding(parser, value, found);
	if (text_is(name, "connection")) {
		take_connection(value, found);
	} else if (text_is(name, "host")) {
		found->host_count++;
		if (!is_host(value))
			return http_refuse(parser, 400, "Host is malformed");
	} else if (text_is(name, "expect")) {
		if (!text_is(value, "100-continue"))
			return http_refuse(parser, 417,
				"an expectation other than 100-continue");
		parser->request.expect_continue = true;
	}
	return true;
}

/* Which bytes behind the head are its body (RFC 9112 section 6.3). */
static bool take_framing(
	struct http_parser *parser, const struct findings *found)
{
	struct http_request *request = &parser->request;
	bool chunked = found->coding_count > 0;

	if (chunked && found->length_count > 0)
		return http_refuse(parser, 400,
			"both Content-Length and Transfer-Encoding");
	if (chunked && request->minor == 0)
		return http_refuse(
			parser, 400, "a Transfer-Encoding in HTTP/1.0");
	if (request->minor == 0 && request->method == HTTP_POST &&
		found->length_count == 0)
		return http_refuse(
			parser, 411, "POST in HTTP/1.0 needs a Content-Length");
	if (found->length > parser->limits->body_bytes)
		return http_refuse(parser, 413,
			"the body is larger than this server takes");
	request->length_known = !chunked;
	request->body_length = found->length;
	request->has_body = chunked || found->length > 0;
	parser->body_left = found->length;
	parser->state = chunked             ? HTTP_AT_CHUNK_SIZE
			: request->has_body ? HTTP_AT_BODY
					    : HTTP_AT_DONE;
	return true;
}

bool http_head_finish(struct http_parser *parser)
{
	struct http_request *request = &parser->request;
	struct findings found = {0};

	request->expect_continue = false;
	for (uint32_t i = 0; i < request->header_count; i++)
		if (!take_header(parser, &request->headers[i], &found))
			return false;
	if (found.host_count > 1)
		return http_refuse(parser, 400, "there are two Hosts");
	if (found.host_count == 0 && request->minor > 0)
		return http_refuse(parser, 400, "there is no Host");
	if (!split_target(parser) || !take_framing(parser, &found))
		return false;
	request->keep_alive =
		!found.close && (request->minor > 0 || found.keep);
	/* RFC 9110 section 10.1.1: nothing to wait for without a body, and
	 * HTTP/1.0 does not know the answer. */
	if (request->minor == 0 || !request->has_body)
		request->expect_continue = false;
	parser->piece = (struct http_text){NULL, 0};
	return true;
}
