/* test_http.c - requests as they come, and those that must not pass */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dataplane/http.h"
#include "tests/suite.h"

static const struct http_limits usual = {
	.head_bytes = 8192, .header_count = 64, .body_bytes = 1000};

/* --- what a connection's bytes mean, written down as text --- */

struct transcript {
	char text[65536];
	size_t length;
};

static void note(struct transcript *t, const char *text, size_t length)
{
	CU_ASSERT_FATAL(t->length + length < sizeof(t->text));
	memcpy(t->text + t->length, text, length);
	t->length += length;
	t->text[t->length] = '\0';
}

static void note_text(struct transcript *t, const struct http_text *text)
{
	note(t, text->text, text->length);
	note(t, " ", 1);
}

static void note_head(struct transcript *t, const struct http_request *r)
{
	char line[128];
	int length = snprintf(
		line, sizeof(line), "HEAD %d 1.%u ", (int)r->method, r->minor);

	note(t, line, (size_t)length);
	note_text(t, &r->target);
	note_text(t, &r->path);
	note_text(t, &r->query);
	for (uint32_t i = 0; i < r->header_count; i++) {
		note(t, "\n ", 2);
		note_text(t, &r->headers[i].name);
		note(t, "= ", 2);
		note_text(t, &r->headers[i].value);
	}
	length = snprintf(line, sizeof(line), "\n%s%s%s%s %llu\n",
		r->keep_alive ? "keep " : "", r->expect_continue ? "100 " : "",
		r->has_body ? "body " : "", r->length_known ? "known" : "",
		r->length_known ? (unsigned long long)r->body_length : 0);
	note(t, line, (size_t)length);
}

/* Feed all of `data`; false when the connection is to be closed. */
static bool feed(struct http_parser *parser, const char *data, size_t length,
	struct transcript *t)
{
	char line[256];
	size_t at = 0;

	for (;;) {
		size_t taken = 0;
		enum http_event event = http_parser_feed(
			parser, data + at, length - at, &taken);
		struct http_text piece;

		CU_ASSERT_FATAL(taken <= length - at);
		switch (event) {
		case HTTP_NEED_MORE:
			CU_ASSERT_EQUAL(taken, length - at);
			return true;
		case HTTP_HEAD_DONE:
			note_head(t, &parser->request);
			break;
		case HTTP_BODY_DATA:
			piece = http_parser_body(parser);
			CU_ASSERT_FATAL(piece.length > 0);
			CU_ASSERT_FATAL(piece.text >= data + at);
			CU_ASSERT_PTR_EQUAL(
				piece.text + piece.length, data + at + taken);
			note(t, piece.text, piece.length);
			break;
		case HTTP_DONE:
			note(t, "\nDONE\n", 6);
			http_parser_next(parser);
			break;
		default:
			CU_ASSERT_EQUAL(event, HTTP_BAD);
			snprintf(line, sizeof(line), "BAD %d %s\n",
				http_parser_status(parser),
				http_parser_reason(parser));
			note(t, line, strlen(line));
			return false;
		}
		at += taken;
	}
}

static void parse(const char *data, size_t length, size_t piece,
	const struct http_limits *limits, struct transcript *t)
{
	struct http_parser parser;
	char head[HTTP_HEAD_BYTES_MAX];

	t->length = 0;
	t->text[0] = '\0';
	http_parser_init(&parser, limits, head);
	for (size_t at = 0; at < length; at += piece) {
		size_t part = length - at < piece ? length - at : piece;

		if (!feed(&parser, data + at, part, t))
			return;
	}
}

static void expect(const char *data, const char *wanted)
{
	static struct transcript t;

	parse(data, strlen(data), strlen(data), &usual, &t);
	if (strcmp(t.text, wanted) != 0)
		printf("\n--- for\n%s\n--- wanted\n%s--- got\n%s", data, wanted,
			t.text);
	CU_ASSERT_STRING_EQUAL(t.text, wanted);
}

/* The status that `data` ends in; 0 = it was not refused. */
static int status_of(
	const char *data, size_t length, const struct http_limits *limits)
{
	static struct transcript t;
	const char *bad;

	parse(data, length, length ? length : 1, limits, &t);
	bad = strstr(t.text, "BAD ");
	return bad ? (int)strtol(bad + 4, NULL, 10) : 0;
}

static void refused(const char *data, int status)
{
	int got = status_of(data, strlen(data), &usual);

	if (got != status)
		printf("\n%s: %d, not %d\n", data, got, status);
	CU_ASSERT_EQUAL(got, status);
}

/* --- what is understood --- */

static void test_feed__get(void)
{
	expect("GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD 0 1.1 /v1/models /v1/models  \n host = a \n"
		"keep known 0\n\nDONE\n");
	expect("GET /x?a=b&c=%20 HTTP/1.0\r\n\r\n",
		"HEAD 0 1.0 /x?a=b&c=%20 /x a=b&c=%20 \nknown 0\n\nDONE\n");
	expect("HEAD / HTTP/1.1\r\nHOST:\r\nX-Y:\t a b \t\r\n\r\n",
		"HEAD 1 1.1 / /  \n host =  \n x-y = a b \n"
		"keep known 0\n\nDONE\n");
	expect("PATCH / HTTP/1.9\r\nHost: [::1]:80\r\n\r\n",
		"HEAD 4 1.9 / /  \n host = [::1]:80 \nkeep known 0\n\nDONE\n");
}

static void test_feed__targets(void)
{
	expect("GET http://h:1/p%2Fq?x HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD 0 1.1 http://h:1/p%2Fq?x /p/q x \n host = h \n"
		"keep known 0\n\nDONE\n");
	expect("GET HTTPS://h?x HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD 0 1.1 HTTPS://h?x / x \n host = h \n"
		"keep known 0\n\nDONE\n");
	expect("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD 3 1.1 * *  \n host = h \nkeep known 0\n\nDONE\n");
	expect("GET /v1/models/org%2fname%C3%A4%25 HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD 0 1.1 /v1/models/org%2fname%C3%A4%25 "
		"/v1/models/org/name\xC3\xA4%  \n host = h \n"
		"keep known 0\n\nDONE\n");
}

static void test_feed__bodies(void)
{
	expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"HEAD 2 1.1 / /  \n host = a \n content-length = 5 \n"
		"keep body known 5\nhello\nDONE\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n"
	       "content-length: 5\r\n\r\nhello",
		"HEAD 2 1.1 / /  \n host = a \n content-length = 005 \n"
		" content-length = 5 \nkeep body known 5\nhello\nDONE\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"HEAD 2 1.1 / /  \n host = a \n content-length = 0 \n"
		"keep known 0\n\nDONE\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD 2 1.1 / /  \n host = a \nkeep known 0\n\nDONE\n");
}

static void test_feed__chunked(void)
{
	expect("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n"
	       "\r\n5\r\nhello\r\n00a;n=v;\"q\"\r\n 0123\r\n678\r\n0\r\n\r\n",
		"HEAD 2 1.1 / /  \n host = a \n transfer-encoding = Chunked \n"
		"keep body  0\nhello 0123\r\n678\nDONE\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
	       "\r\n1\r\nx\r\n0\r\nContent-Length: 7\r\nA: \xC3\r\n\r\n"
	       "GET / HTTP/1.0\r\n\r\n",
		"HEAD 2 1.1 / /  \n host = a \n transfer-encoding = chunked \n"
		"keep body  0\nx\nDONE\n"
		"HEAD 0 1.0 / /  \nknown 0\n\nDONE\n");
}

static void test_feed__pipelined(void)
{
	expect("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
	       "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
	       "\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD 0 1.1 /1 /1  \n host = a \nkeep known 0\n\nDONE\n"
		"HEAD 2 1.1 /2 /2  \n host = a \n content-length = 3 \n"
		"keep body known 3\nabc\nDONE\n"
		"HEAD 0 1.1 /3 /3  \n host = a \nkeep known 0\n\nDONE\n");
}

static void test_feed__keep_alive(void)
{
	expect("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
		"HEAD 0 1.1 / /  \n host = a \n connection = x, Close \n"
		"known 0\n\nDONE\n");
	expect("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
		"HEAD 0 1.0 / /  \n connection = Keep-Alive \n"
		"keep known 0\n\nDONE\n");
	expect("GET / HTTP/1.0\r\nConnection: keep-alive\r\n"
	       "Connection: ,close\r\n\r\n",
		"HEAD 0 1.0 / /  \n connection = keep-alive \n"
		" connection = ,close \nknown 0\n\nDONE\n");
}

static void test_feed__expect(void)
{
	expect("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"
	       "Content-Length: 1\r\n\r\nx",
		"HEAD 2 1.1 / /  \n host = a \n expect = 100-Continue \n"
		" content-length = 1 \nkeep 100 body known 1\nx\nDONE\n");
	expect("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
		"HEAD 0 1.1 / /  \n host = a \n expect = 100-continue \n"
		"keep known 0\n\nDONE\n");
	expect("POST / HTTP/1.0\r\nExpect: 100-continue\r\n"
	       "Content-Length: 1\r\n\r\nx",
		"HEAD 2 1.0 / /  \n expect = 100-continue \n"
		" content-length = 1 \nbody known 1\nx\nDONE\n");
	refused("POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417);
}

/* --- what is refused --- */

static void test_feed__request_line_refused(void)
{
	refused("\r\n\r\nGET / HTTP/1.1\r\n", 400);
	refused("\rGET / HTTP/1.1\r\n", 400);
	refused("\nGET / HTTP/1.1\r\n", 400);
	refused(" GET / HTTP/1.1\r\n", 400);
	refused("G(T / HTTP/1.1\r\n", 400);
	refused("GET  / HTTP/1.1\r\n", 400);
	refused("GET /\r\n", 400);
	refused("GET / \r\n", 400);
	refused("GET / HTTP/1.1\n", 400);
	refused("GET / HTTP/1.1 \r\n", 400);
	refused("GET /  HTTP/1.1\r\n", 400);
	refused("GET / a HTTP/1.1\r\n", 400);
	refused("GET / http/1.1\r\n", 400);
	refused("GET / HTTP/1\r\n", 400);
	refused("GET / HTTP/1.x\r\n", 400);
	refused("GET / HTTP/11.1\r\n", 400);
	refused("GET / HTTP/1.1\rX", 400);
	refused("GET / HTTP/2.0\r\n", 505);
	refused("GET / HTTP/0.9\r\n", 505);
	refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
	refused("\x16\x03\x01", 400);
	refused("CONNECT a:80 HTTP/1.1\r\n", 405);
	refused("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", 501);
}

static void test_feed__targets_refused(void)
{
	refused("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /#x HTTP/1.1\r\n", 400);
	refused("GET /\xC3\xA4 HTTP/1.1\r\n", 400);
	refused("GET /\t HTTP/1.1\r\n", 400);
	refused("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /%0d HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /%7f HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /% HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /%g0 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /%0g HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused("GET /%4?1 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

#define LINE "GET / HTTP/1.1\r\n"

static void test_feed__headers_refused(void)
{
	refused(LINE "\r\n", 400);
	refused(LINE "Host: a\r\nHost: a\r\n\r\n", 400);
	refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400);
	refused(LINE "Host: a b\r\n\r\n", 400);
	refused(LINE "Host: a,b\r\n\r\n", 400);
	refused(LINE "Host: a/b\r\n\r\n", 400);
	refused(LINE "Host: u@a\r\n\r\n", 400);
	refused(LINE "Host : a\r\n\r\n", 400);
	refused(LINE "Host\t: a\r\n\r\n", 400);
	refused(LINE " Host: a\r\n\r\n", 400);
	refused(LINE "Host: a\r\n b\r\n\r\n", 400);
	refused(LINE "Host: a\r\n\tb\r\n\r\n", 400);
	refused(LINE "Host: a\rb: c\r\n\r\n", 400);
	refused(LINE "Host: a\nb: c\r\n\r\n", 400);
	refused(LINE "Host: a\x01\r\n\r\n", 400);
	refused(LINE "Host: a\x7f\r\n\r\n", 400);
	refused(LINE "Host: a\r\n: x\r\n\r\n", 400);
	refused(LINE "Host: a\r\nx\r\n\r\n", 400);
	refused(LINE "Host: a\r\nx y: z\r\n\r\n", 400);
	refused(LINE "Host: a\r\n\xC3: z\r\n\r\n", 400);
	refused(LINE "Host: a\r\n\rx", 400);
	CU_ASSERT_EQUAL(
		status_of("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
			sizeof("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n") - 1,
			&usual),
		400);
	CU_ASSERT_EQUAL(status_of("GET /\0 HTTP/1.1\r\n", 17, &usual), 400);
	CU_ASSERT_EQUAL(status_of("\0", 1, &usual), 400);
}

#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

static void test_feed__framing_refused(void)
{
	refused(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		400);
	refused(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
		400);
	refused(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400);
	refused(POST "Content-Length: 5\r\nContent-Length: \r\n\r\n", 400);
	refused(POST "Content-Length: 5, 5\r\n\r\n", 400);
	refused(POST "Content-Length:\r\n\r\n", 400);
	refused(POST "Content-Length: +5\r\n\r\n", 400);
	refused(POST "Content-Length: -5\r\n\r\n", 400);
	refused(POST "Content-Length: 0x5\r\n\r\n", 400);
	refused(POST "Content-Length: 5 5\r\n\r\n", 400);
	refused(POST "Content-Length: 5;\r\n\r\n", 400);
	refused(POST "Content-Length: 1e3\r\n\r\n", 400);
	refused(POST "Transfer-Encoding: chunked\r\n"
		     "Transfer-Encoding: chunked\r\n\r\n",
		400);
	refused(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501);
	refused(POST "Transfer-Encoding: chunked, chunked\r\n\r\n", 501);
	refused(POST "Transfer-Encoding: chunked, identity\r\n\r\n", 501);
	refused(POST "Transfer-Encoding: identity\r\n\r\n", 501);
	refused(POST "Transfer-Encoding: xchunked\r\n\r\n", 501);
	refused(POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 501);
	refused(POST "Transfer-Encoding: chunked;x\r\n\r\n", 501);
	refused(POST "Transfer-Encoding:\r\n\r\n", 501);
	refused(POST "Transfer-Encoding: \x0b"
		     "chunked\r\n\r\n",
		400);
	refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
	refused("POST / HTTP/1.0\r\n\r\n", 411);
}

#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static void test_feed__chunks_refused(void)
{
	refused(CHUNKED "\r\n", 400);
	refused(CHUNKED "g\r\n", 400);
	refused(CHUNKED "0x1\r\n", 400);
	refused(CHUNKED "-1\r\n", 400);
	refused(CHUNKED " 1\r\n", 400);
	refused(CHUNKED "1 \r\n", 400);
	refused(CHUNKED ";x\r\n", 400);
	refused(CHUNKED "1\nx", 400);
	refused(CHUNKED "1\rx", 400);
	refused(CHUNKED "1;a\nx", 400);
	refused(CHUNKED "1;a\x01", 400);
	refused(CHUNKED "1\r\nxy", 400);
	refused(CHUNKED "1\r\nx\n", 400);
	refused(CHUNKED "1\r\nx\rx", 400);
	refused(CHUNKED "00000000000000001\r\n", 400);
	refused(CHUNKED "ffffffffffffffff\r\n", 413);
	refused(CHUNKED "10\r\n0123456789abcdef\r\nfffffffffffffff8\r\n", 413);
	refused(CHUNKED "0\r\n\n", 400);
	refused(CHUNKED "0\r\n\rx", 400);
	refused(CHUNKED "0\r\n: x\r\n", 400);
	refused(CHUNKED "0\r\nx y: z\r\n", 400);
	refused(CHUNKED "0\r\n x: z\r\n", 400);
	refused(CHUNKED "0\r\nx\r\n", 400);
	refused(CHUNKED "0\r\nx: \x01\r\n", 400);
	refused(CHUNKED "0\r\nx: y\n", 400);
	refused(CHUNKED "0\r\nx: y\rz", 400);
}

/* --- limits: what just fits passes, one more is refused --- */

/* `before`, then `count` times `c`, then `after`. */
static int padded(const char *before, char c, size_t count, const char *after,
	const struct http_limits *limits)
{
	size_t front = strlen(before), back = strlen(after);
	size_t length = front + count + back;
	char *data = suite_calloc(length + 1, 1);
	int status;

	for (size_t i = 0; i < front; i++)
		data[i] = before[i];
	for (size_t i = 0; i < count; i++)
		data[front + i] = c;
	for (size_t i = 0; i < back; i++)
		data[front + count + i] = after[i];
	status = status_of(data, length, limits);
	free(data);
	return status;
}

static void test_limits__head(void)
{
	static const char before[] = LINE "Host: a\r\nX: ";
	struct http_limits limits = usual;
	size_t rest = sizeof(before) - 1 + 4;

	limits.head_bytes = 300;
	CU_ASSERT_EQUAL(
		padded(before, 'x', 300 - rest, "\r\n\r\n", &limits), 0);
	CU_ASSERT_EQUAL(
		padded(before, 'x', 301 - rest, "\r\n\r\n", &limits), 431);
	/* An endless head is refused before it ends. */
	CU_ASSERT_EQUAL(padded(before, 'x', 1000, "", &limits), 431);
	limits.head_bytes = HTTP_HEAD_BYTES_MAX;
	CU_ASSERT_EQUAL(padded(before, 'x', 20000, "", &limits), 431);
	/* The decoded path lies behind the head. */
	limits.head_bytes = sizeof("GET /%41 HTTP/1.1\r\nHost: a\r\n\r\n") + 1;
	CU_ASSERT_EQUAL(padded("GET /%41", 'x', 0,
				" HTTP/1.1\r\nHost: a\r\n\r\n", &limits),
		0);
	limits.head_bytes--;
	CU_ASSERT_EQUAL(padded("GET /%41", 'x', 0,
				" HTTP/1.1\r\nHost: a\r\n\r\n", &limits),
		431);
}

static void test_limits__target(void)
{
	static const char after[] = " HTTP/1.1\r\nHost: a\r\n\r\n";
	struct http_limits limits = usual;

	CU_ASSERT_EQUAL(
		padded("GET /", 'x', HTTP_TARGET_BYTES_MAX - 1, after, &limits),
		0);
	CU_ASSERT_EQUAL(
		padded("GET /", 'x', HTTP_TARGET_BYTES_MAX, after, &limits),
		414);
	limits.head_bytes = 100;
	CU_ASSERT_EQUAL(padded("GET /", 'x', 200, after, &limits), 414);
}

static void test_limits__header_count(void)
{
	struct http_limits limits = usual;

	limits.header_count = 3;
	CU_ASSERT_EQUAL(
		padded(LINE "Host: a\r\nb:\r\nc:\r\n\r\n", 'x', 0, "", &limits),
		0);
	CU_ASSERT_EQUAL(padded(LINE "Host: a\r\nb:\r\nc:\r\nd:\r\n\r\n", 'x', 0,
				"", &limits),
		431);
}

static void test_limits__body(void)
{
	static const char length_1001[] = POST "Content-Length: 1001\r\n\r\n";

	CU_ASSERT_EQUAL(padded(POST "Content-Length: 1000\r\n\r\n", 'x', 1000,
				"", &usual),
		0);
	CU_ASSERT_EQUAL(padded(length_1001, 'x', 0, "", &usual), 413);
	CU_ASSERT_EQUAL(
		padded(CHUNKED "3e8\r\n", 'x', 1000, "\r\n0\r\n\r\n", &usual),
		0);
	CU_ASSERT_EQUAL(padded(CHUNKED "3e9\r\n", 'x', 0, "", &usual), 413);
	CU_ASSERT_EQUAL(
		padded(CHUNKED "3e8\r\n", 'x', 1000, "\r\n1\r\n", &usual), 413);
	refused(POST "Content-Length: 18446744073709551616\r\n\r\n", 413);
	refused(POST "Content-Length: 99999999999999999999999\r\n\r\n", 413);
}

/* 4096 bytes of extensions and trailers in all. */
static void test_limits__extensions_and_trailers(void)
{
	CU_ASSERT_EQUAL(padded(CHUNKED "1;", 'x', 4096, "\r\nx", &usual), 0);
	CU_ASSERT_EQUAL(padded(CHUNKED "1;", 'x', 4097, "\r\nx", &usual), 431);
	CU_ASSERT_EQUAL(padded(CHUNKED "0\r\nT: ", 'x', 5000, "", &usual), 431);
	CU_ASSERT_EQUAL(
		padded(CHUNKED "1;a\r\nx\r\n1;", 'x', 4096, "", &usual), 431);
}

/* --- every way to cut the bytes gives the same --- */

static const char *const whole[] = {
	"GET /v1/models?x=1 HTTP/1.1\r\nHost: localhost:8000\r\n"
	"Accept: */*\r\n\r\n",
	"\r\nPOST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
	"Content-Length: 11\r\n\r\nhello world"
	"GET /a%2fb HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	"4;x=y\r\nwiki\r\n5\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n"
	"0\r\nT: v\r\n\r\n"
	"OPTIONS * HTTP/1.0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
	"Transfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nFolded: a\r\n b\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	"1\r\nxx\r\n0\r\n\r\n",
};

static void test_feed__every_split(void)
{
	static struct transcript wanted, got;

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		size_t length = strlen(whole[i]);

		parse(whole[i], length, length, &usual, &wanted);
		CU_ASSERT_TRUE(wanted.length > 0);
		for (size_t piece = 1; piece < length; piece++) {
			parse(whole[i], length, piece, &usual, &got);
			CU_ASSERT_STRING_EQUAL(got.text, wanted.text);
		}
	}
}

/* Two cuts at every pair of places, each piece against an unmapped page. */
static void test_feed__every_two_splits_at_a_wall(void)
{
	static struct transcript wanted, got;
	const size_t page = 4096;
	char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *data = whole[2];
	size_t length = strlen(data);

	CU_ASSERT_FATAL(memory != MAP_FAILED);
	CU_ASSERT_EQUAL_FATAL(mprotect(memory + page, page, PROT_NONE), 0);
	parse(data, length, length, &usual, &wanted);
	for (size_t a = 0; a <= length; a++) {
		for (size_t b = a; b <= length; b++) {
			size_t cuts[] = {0, a, b, length};
			char head[8192];
			struct http_parser parser;

			got.length = 0;
			http_parser_init(&parser, &usual, head);
			for (int i = 0; i < 3; i++) {
				size_t part = cuts[i + 1] - cuts[i];
				char *at = memory + page - part;

				memcpy(at, data + cuts[i], part);
				feed(&parser, at, part, &got);
			}
			CU_ASSERT_EQUAL(got.length, wanted.length);
			CU_ASSERT_EQUAL(
				memcmp(got.text, wanted.text, wanted.length),
				0);
		}
	}
	munmap(memory, 2 * page);
}

/* Random bytes, and good requests with a few bytes changed. */
static void test_feed__random_bytes(void)
{
	static const char likely[] =
		"\r\n\r\n :;0aGETPOSTHTTP/1.1%\t\0\x7f\xff";
	uint64_t random = suite_seed(4711);
	static struct transcript once, split;
	uint32_t refusals = 0;

	for (int round = 0; round < 20000; round++) {
		char data[600];
		size_t length = suite_below(&random, 300);

		for (size_t i = 0; i < length; i++)
			data[i] = likely[suite_below(
				&random, sizeof(likely) - 1)];
		if (round % 2) {
			const char *good = whole[suite_below(&random, 3)];

			length = strlen(good);
			memcpy(data, good, length);
			for (uint32_t i = suite_below(&random, 4); i > 0; i--)
				data[suite_below(&random, (uint32_t)length)] =
					likely[suite_below(
						&random, sizeof(likely) - 1)];
		}
		parse(data, length, 600, &usual, &once);
		parse(data, length, 1 + suite_below(&random, 40), &usual,
			&split);
		CU_ASSERT_EQUAL(once.length, split.length);
		CU_ASSERT_EQUAL(memcmp(once.text, split.text, once.length), 0);
		refusals += strstr(once.text, "BAD ") != NULL;
	}
	CU_ASSERT_TRUE(refusals > 10000);
}

static void test_feed__after_a_refusal(void)
{
	struct http_parser parser;
	char head[8192];
	size_t taken;

	http_parser_init(&parser, &usual, head);
	CU_ASSERT_EQUAL(
		http_parser_feed(&parser, "GET\n", 4, &taken), HTTP_BAD);
	CU_ASSERT_EQUAL(taken, 3);
	CU_ASSERT_EQUAL(http_parser_status(&parser), 400);
	CU_ASSERT_TRUE(strlen(http_parser_reason(&parser)) > 0);
	CU_ASSERT_EQUAL(http_parser_feed(&parser, "GET", 3, &taken), HTTP_BAD);
	CU_ASSERT_EQUAL(taken, 0);
}

static void test_find__first_of_several(void)
{
	static const char data[] = LINE "Host: a\r\nX-A: 1\r\nX-A: 2\r\n\r\n";
	struct http_parser parser;
	char head[8192];
	size_t taken;

	http_parser_init(&parser, &usual, head);
	CU_ASSERT_EQUAL(
		http_parser_feed(&parser, data, sizeof(data) - 1, &taken),
		HTTP_HEAD_DONE);
	CU_ASSERT_PTR_EQUAL(
		http_find(&parser.request, "x-a"), &parser.request.headers[1]);
	CU_ASSERT_PTR_NULL(http_find(&parser.request, "x-"));
	CU_ASSERT_PTR_NULL(http_find(&parser.request, "x-ab"));
}

static void test_status_text__known_and_unknown(void)
{
	CU_ASSERT_STRING_EQUAL(http_status_text(200), "OK");
	CU_ASSERT_STRING_EQUAL(http_status_text(429), "Too Many Requests");
	CU_ASSERT_STRING_EQUAL(http_status_text(299), "Unknown");
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(feed__get),
		SUITE_CASE(feed__targets),
		SUITE_CASE(feed__bodies),
		SUITE_CASE(feed__chunked),
		SUITE_CASE(feed__pipelined),
		SUITE_CASE(feed__keep_alive),
		SUITE_CASE(feed__expect),
		SUITE_CASE(feed__request_line_refused),
		SUITE_CASE(feed__targets_refused),
		SUITE_CASE(feed__headers_refused),
		SUITE_CASE(feed__framing_refused),
		SUITE_CASE(feed__chunks_refused),
		SUITE_CASE(limits__head),
		SUITE_CASE(limits__target),
		SUITE_CASE(limits__header_count),
		SUITE_CASE(limits__body),
		SUITE_CASE(limits__extensions_and_trailers),
		SUITE_CASE(feed__every_split),
		SUITE_CASE(feed__every_two_splits_at_a_wall),
		SUITE_CASE(feed__random_bytes),
		SUITE_CASE(feed__after_a_refusal),
		SUITE_CASE(find__first_of_several),
		SUITE_CASE(status_text__known_and_unknown),
	};

	return SUITE_MAIN("http", cases);
}
