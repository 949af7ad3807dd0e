/* fuzz_http.c - any bytes as what a client sends on a connection */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/http.h"
#include "tests/fuzz/fuzz.h"

#define BODY_BYTES 4096

/* What was understood, in a form that two runs can be compared by. */
struct outcome {
	uint64_t hash;
	uint32_t head_count, done_count;
	uint64_t body_bytes;
	int status;
};

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* FNV-1a. */
static void mix(struct outcome *o, const char *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		o->hash ^= (uint8_t)data[i];
		o->hash *= UINT64_C(0x100000001b3);
	}
}

static void mix_text(
	struct outcome *o, const struct http_text *text, const char *head)
{
	/* "/" of an absolute target without a path is not in the head. */
	require(text->length <= HTTP_HEAD_BYTES_MAX);
	require(text->length <= 1 ||
		(text->text >= head && text->text + text->length <=
					       head + HTTP_HEAD_BYTES_MAX));
	mix(o, text->text, text->length);
	mix(o, "|", 1);
}

/* What the layers above rely on. */
static void check_head(
	struct outcome *o, const struct http_request *r, const char *head)
{
	require(r->header_count <= HTTP_HEADER_COUNT_MAX && r->minor <= 9);
	require(r->target.length > 0 && r->path.length > 0);
	require(r->path.text[0] == '/' || r->path.text[0] == '*');
	require(!r->length_known || r->body_length <= BODY_BYTES);
	require(!r->expect_continue || r->has_body);
	require(memchr(r->path.text, '\0', r->path.length) == NULL);
	mix_text(o, &r->target, head);
	mix_text(o, &r->path, head);
	mix_text(o, &r->query, head);
	for (uint32_t i = 0; i < r->header_count; i++) {
		mix_text(o, &r->headers[i].name, head);
		mix_text(o, &r->headers[i].value, head);
	}
	o->head_count++;
}

static bool feed(struct http_parser *parser, const char *data, size_t length,
	struct outcome *o)
{
	uint64_t body_bytes = 0;

	for (;;) {
		size_t taken = length + 1;
		enum http_event event =
			http_parser_feed(parser, data, length, &taken);
		struct http_text piece;

		require(taken <= length);
		switch (event) {
		case HTTP_NEED_MORE:
			require(taken == length);
			return true;
		case HTTP_HEAD_DONE:
			check_head(o, &parser->request, parser->head);
			break;
		case HTTP_BODY_DATA:
			piece = http_parser_body(parser);
			require(piece.length > 0 && piece.text >= data);
			require(piece.text + piece.length == data + taken);
			body_bytes += piece.length;
			require(body_bytes <= BODY_BYTES);
			o->body_bytes += piece.length;
			mix(o, piece.text, piece.length);
			break;
		case HTTP_DONE:
			o->done_count++;
			body_bytes = 0;
			http_parser_next(parser);
			break;
		default:
			o->status = http_parser_status(parser);
			require(o->status >= 400 && o->status <= 505);
			return false;
		}
		data += taken;
		length -= taken;
	}
}

static struct outcome parse(const char *data, size_t length, size_t piece)
{
	static const struct http_limits limits = {.head_bytes = 4096,
		.header_count = 20,
		.body_bytes = BODY_BYTES};
	struct outcome o = {.hash = UINT64_C(0xcbf29ce484222325)};
	static char head[HTTP_HEAD_BYTES_MAX];
	struct http_parser parser;

	http_parser_init(&parser, &limits, head);
	for (size_t at = 0; at < length; at += piece) {
		size_t part = length - at < piece ? length - at : piece;

		if (!feed(&parser, data + at, part, &o))
			break;
	}
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct outcome whole, split;

	if (size < 2)
		return 0;
	/* The first byte says how the rest is cut. */
	whole = parse(text + 1, size - 1, size - 1);
	split = parse(text + 1, size - 1, (size_t)data[0] + 1);
	require(whole.hash == split.hash && whole.status == split.status);
	require(whole.head_count == split.head_count);
	require(whole.done_count == split.done_count);
	require(whole.body_bytes == split.body_bytes);
	return 0;
}
