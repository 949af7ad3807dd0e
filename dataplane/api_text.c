/* api_text.c - a growing text, and JSON written into it (values -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "dataplane/api_text.h"
#include "dataplane/utf8.h"

#define CAPACITY_FIRST ((size_t)1024)
#define LOGPROB_NONE (-9999.0f)

void api_text_release(struct api_text *text)
{
	free(text->data);
	*text = (struct api_text){0};
}

void api_text_clear(struct api_text *text)
{
	text->length = 0;
	text->failed = false;
}

bool api_text_reserve(struct api_text *text, size_t length)
{
	size_t need,
		capacity = text->capacity ? text->capacity : CAPACITY_FIRST;
	char *data;

	if (text->failed)
		return false;
	if (length <= text->capacity - text->length)
		return true;
	if (!add_ok(text->length, length, &need) || need > SIZE_MAX / 2)
		goto fail;
	while (capacity < need)
		capacity *= 2;
	data = realloc(text->data, capacity);
	if (!data)
		goto fail;
	text->data = data;
	text->capacity = capacity;
	return true;
fail:
	text->failed = true;
	return false;
}

void api_text_put(struct api_text *text, const char *bytes, size_t length)
{
	if (length == 0 || !api_text_reserve(text, length))
		return;
	memcpy(text->data + text->length, bytes, length);
	text->length += length;
}

void api_text_puts(struct api_text *text, const char *string)
{
	api_text_put(text, string, strlen(string));
}

void api_text_u64(struct api_text *text, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	api_text_put(text, digits + at, sizeof(digits) - at);
}

void api_text_float(struct api_text *text, float value)
{
	if (!isfinite(value))
		value = LOGPROB_NONE;
	api_text_printf(text, "%.9g", (double)value);
}

static void put_control(struct api_text *text, char c)
{
	static const char hex[] = "0123456789abcdef";
	char out[6] = {'\\', 'u', '0', '0', hex[(c >> 4) & 1], hex[c & 15]};

	switch (c) {
	case '"':
	case '\\':
		out[1] = c;
		break;
	case '\n':
		out[1] = 'n';
		break;
	case '\r':
		out[1] = 'r';
		break;
	case '\t':
		out[1] = 't';
		break;
	default:
		api_text_put(text, out, 6);
		return;
	}
	api_text_put(text, out, 2);
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/*
 * Characters that some readers take for the end of a line though JSON and
 * server-sent events do not: a client that splits a stream by Unicode's rules
 * (as httpx does) would see half an event. NULL = none of them.
 */
static const char *line_end_escape(uint32_t code_point)
{
	switch (code_point) {
	case 0x85:
		return "\\u0085";
	case 0x2028:
		return "\\u2028";
	case 0x2029:
		return "\\u2029";
	default:
		return NULL;
	}
}

/* The bytes of something that is not plain ASCII; *out = what stands for it,
 * NULL = itself. */
static size_t escape_wide(const char *at, size_t left, const char **out)
{
	struct utf8_item item = utf8_next(at, left);

	*out = item.kind == UTF8_CHAR ? line_end_escape(item.code_point)
				      : UTF8_REPLACEMENT;
	return item.size_bytes;
}

void api_text_escape(struct api_text *text, const char *bytes, size_t length)
{
	size_t from = 0, at = 0, size;

	while (at < length) {
		unsigned char c = (unsigned char)bytes[at];
		const char *instead = NULL;

		size = 1;
		if (c >= 0x80)
			size = escape_wide(bytes + at, length - at, &instead);
		if (is_plain(c) || (c >= 0x80 && !instead)) {
			at += size;
			continue;
		}
		api_text_put(text, bytes + from, at - from);
		if (instead)
			api_text_puts(text, instead);
		else
			put_control(text, (char)c);
		at += size;
		from = at;
	}
	api_text_put(text, bytes + from, length - from);
}

void api_text_string(struct api_text *text, const char *bytes, size_t length)
{
	api_text_put(text, "\"", 1);
	api_text_escape(text, bytes, length);
	api_text_put(text, "\"", 1);
}

void api_text_printf(struct api_text *text, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	assert(length >= 0);
	if (!api_text_reserve(text, (size_t)length + 1))
		return;
	va_start(args, format);
	vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
	va_end(args);
	text->length += (size_t)length;
}
