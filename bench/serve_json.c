/* serve_json.c - reading JSON on the fly (text -> values, in one pass) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/serve_json.h"

void serve_json_init(struct serve_json *json, const char *text, size_t length)
{
	memset(json, 0, sizeof(*json));
	json->at = text;
	json->end = text + length;
}

static void skip_blanks(struct serve_json *json)
{
	while (json->at < json->end &&
		(*json->at == ' ' || *json->at == '\n' || *json->at == '\r' ||
			*json->at == '\t'))
		json->at++;
}

/* The next character that is no blank, or 0 at the end or after a fault. */
static char peek(struct serve_json *json)
{
	if (json->bad)
		return '\0';
	skip_blanks(json);
	if (json->at == json->end)
		return '\0';
	return *json->at;
}

static bool fault(struct serve_json *json)
{
	json->bad = true;
	return false;
}

bool serve_json_open(struct serve_json *json, char bracket)
{
	if (peek(json) != bracket)
		return false;
	if (json->depth == SERVE_JSON_DEPTH_MAX)
		return fault(json);
	json->depth++;
	json->at++;
	json->first = true;
	return true;
}

/* At a comma before the next element, or at the closing bracket. */
static bool next_element(struct serve_json *json, char bracket)
{
	char c = peek(json);
	bool first = json->first;

	json->first = false;
	if (c == bracket) {
		json->at++;
		json->depth--;
		return false;
	}
	if (first)
		return c != '\0' || fault(json);
	if (c != ',')
		return fault(json);
	json->at++;
	return peek(json) != bracket || fault(json);
}

bool serve_json_item(struct serve_json *json)
{
	return next_element(json, ']');
}

bool serve_json_key(struct serve_json *json, struct serve_json_text *key)
{
	if (!next_element(json, '}'))
		return false;
	if (!serve_json_string(json, key) || peek(json) != ':')
		return fault(json);
	json->at++;
	return true;
}

static int hex_digit(char c)
{
	int lower = c | 0x20;

	if (c >= '0' && c <= '9')
		return c - '0';
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The four digits at `at`, or -1. */
static int32_t hex_unit(const char *at, const char *end)
{
	int32_t unit = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(at[i]);

		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

/* What a letter behind a backslash stands for; 0 = nothing. */
static char escape_value(char c)
{
	switch (c) {
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case '"':
	case '\\':
	case '/':
		return c;
	default:
		return '\0';
	}
}

/* How long the escape behind the backslash is; 0 = none there is. */
static size_t escape_length(const char *at, const char *end)
{
	int32_t unit, low;

	if (at == end)
		return 0;
	if (*at != 'u')
		return escape_value(*at) ? 1 : 0;
	unit = hex_unit(at + 1, end);
	if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000))
		return 0;
	if (unit < 0xd800 || unit > 0xdbff)
		return 5;
	if (end - at < 11 || at[5] != '\\' || at[6] != 'u')
		return 0;
	low = hex_unit(at + 7, end);
	return low >= 0xdc00 && low < 0xe000 ? 11 : 0;
}

/* Bytes of the UTF-8 sequence at `at` (RFC 3629); 0 = there is none. */
static size_t sequence_length(const char *text, const char *end)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t left = (size_t)(end - text), length;
	unsigned char low = 0x80, high = 0xbf;

	if (at[0] >= 0xc2 && at[0] <= 0xdf)
		length = 2;
	else if ((at[0] & 0xf0) == 0xe0)
		length = 3;
	else if (at[0] >= 0xf0 && at[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (at[0] == 0xe0)
		low = 0xa0;
	else if (at[0] == 0xed)
		high = 0x9f;
	else if (at[0] == 0xf0)
		low = 0x90;
	else if (at[0] == 0xf4)
		high = 0x8f;
	if (left < length || at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

bool serve_json_string(struct serve_json *json, struct serve_json_text *out)
{
	const char *at;

	if (peek(json) != '"')
		return false;
	at = json->at + 1;
	out->text = at;
	while (at < json->end && *at != '"') {
		unsigned char c = (unsigned char)*at;
		size_t length = 1;

		if (c < 0x20)
			return fault(json);
		if (c == '\\') {
			at++;
			length = escape_length(at, json->end);
		} else if (c >= 0x80) {
			length = sequence_length(at, json->end);
		}
		if (length == 0)
			return fault(json);
		at += length;
	}
	if (at >= json->end)
		return fault(json);
	out->length = (size_t)(at - out->text);
	json->at = at + 1;
	return true;
}

static size_t digits(const char *at, const char *end)
{
	const char *start = at;

	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return (size_t)(at - start);
}

/* The end of the number at json->at, NULL where there is none. */
static const char *number_end(const struct serve_json *json, bool *whole)
{
	const char *at = json->at, *end = json->end;
	size_t count;

	*whole = true;
	if (at < end && *at == '-')
		at++;
	count = digits(at, end);
	if (count == 0 || (count > 1 && *at == '0'))
		return NULL;
	at += count;
	if (at < end && *at == '.') {
		*whole = false;
		count = digits(at + 1, end);
		if (count == 0)
			return NULL;
		at += 1 + count;
	}
	if (at < end && (*at | 0x20) == 'e') {
		*whole = false;
		at++;
		if (at < end && (*at == '+' || *at == '-'))
			at++;
		count = digits(at, end);
		if (count == 0)
			return NULL;
		at += count;
	}
	return at;
}

bool serve_json_integer(struct serve_json *json, int64_t *out)
{
	char c = peek(json);
	const char *end, *at;
	bool whole, negative = c == '-';
	int64_t value = 0;

	if (c != '-' && !(c >= '0' && c <= '9'))
		return false;
	end = number_end(json, &whole);
	/* 18 digits always fit; nothing here counts further. */
	if (!end || !whole || end - json->at > 18)
		return fault(json);
	for (at = json->at + negative; at < end; at++)
		value = value * 10 + (*at - '0');
	*out = negative ? -value : value;
	json->at = end;
	return true;
}

static bool literal(struct serve_json *json, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(json->end - json->at) < length ||
		memcmp(json->at, word, length) != 0)
		return false;
	json->at += length;
	return true;
}

bool serve_json_null(struct serve_json *json)
{
	return peek(json) == 'n' && (literal(json, "null") || fault(json));
}

static void skip_scalar(struct serve_json *json, char c)
{
	struct serve_json_text text;
	const char *end;
	bool whole, ok;

	if (c == '"') {
		ok = serve_json_string(json, &text);
	} else if (c == 't' || c == 'f' || c == 'n') {
		ok = literal(json, "true") || literal(json, "false") ||
		     literal(json, "null");
	} else {
		end = c ? number_end(json, &whole) : NULL;
		ok = end != NULL;
		if (ok)
			json->at = end;
	}
	if (!ok)
		fault(json);
}

/* Recursion ends at SERVE_JSON_DEPTH_MAX, where opening is a fault. */
void serve_json_skip(struct serve_json *json)
{
	struct serve_json_text key;

	if (serve_json_open(json, '{')) {
		while (serve_json_key(json, &key))
			serve_json_skip(json);
	} else if (serve_json_open(json, '[')) {
		while (serve_json_item(json))
			serve_json_skip(json);
	} else if (!json->bad) {
		skip_scalar(json, peek(json));
	}
}

bool serve_json_at_end(struct serve_json *json)
{
	if (json->bad)
		return false;
	skip_blanks(json);
	return json->at == json->end && json->depth == 0;
}

bool serve_json_is(struct serve_json_text text, const char *literal_text)
{
	return text.length == strlen(literal_text) &&
	       memcmp(text.text, literal_text, text.length) == 0;
}

static size_t put_utf8(uint32_t point, char *out)
{
	if (point < 0x80) {
		out[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		out[0] = (char)(0xc0 | (point >> 6));
		out[1] = (char)(0x80 | (point & 0x3f));
		return 2;
	}
	if (point < 0x10000) {
		out[0] = (char)(0xe0 | (point >> 12));
		out[1] = (char)(0x80 | ((point >> 6) & 0x3f));
		out[2] = (char)(0x80 | (point & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | (point >> 18));
	out[1] = (char)(0x80 | ((point >> 12) & 0x3f));
	out[2] = (char)(0x80 | ((point >> 6) & 0x3f));
	out[3] = (char)(0x80 | (point & 0x3f));
	return 4;
}

/* One escape, whose form was checked; `at` is behind the backslash. */
static const char *decode_escape(
	const char *at, const char *end, char *out, size_t *count)
{
	uint32_t point;

	if (*at != 'u') {
		out[(*count)++] = escape_value(*at);
		return at + 1;
	}
	point = (uint32_t)hex_unit(at + 1, end);
	at += 5;
	if (point >= 0xd800 && point < 0xdc00) {
		uint32_t low = (uint32_t)hex_unit(at + 2, end);

		point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
		at += 6;
	}
	*count += put_utf8(point, out + *count);
	return at;
}

size_t serve_json_decode(struct serve_json_text text, char *out)
{
	const char *at = text.text, *end = at + text.length;
	size_t count = 0;

	while (at < end) {
		if (*at == '\\')
			at = decode_escape(at + 1, end, out, &count);
		else
			out[count++] = *at++;
	}
	return count;
}
