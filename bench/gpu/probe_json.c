/* probe_json.c - write JSON to a stream, one value at a time */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_json.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>

void probe_json_init(struct probe_json *json, FILE *file)
{
	*json = (struct probe_json){.file = file};
}

/*
 * Length of the UTF-8 sequence at `text`, 0 when it is none (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF).
 */
static size_t utf8_length(const unsigned char *text)
{
	size_t length = 0;
	unsigned char low = 0x80;
	unsigned char high = 0xbf;

	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		length = 2;
	else if ((text[0] & 0xf0) == 0xe0)
		length = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		length = 4;
	if (text[0] == 0xe0)
		low = 0xa0;
	else if (text[0] == 0xed)
		high = 0x9f;
	else if (text[0] == 0xf0)
		low = 0x90;
	else if (text[0] == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < length; i++) {
		if (text[i] < low || text[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return length;
}

/* Write one sequence, or '?' for a byte that begins none; bytes consumed. */
static size_t write_beyond_ascii(FILE *file, const unsigned char *text)
{
	size_t length = utf8_length(text);

	if (length == 0) {
		fputc('?', file);
		return 1;
	}
	fwrite(text, 1, length, file);
	return length;
}

static void write_string(FILE *file, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	fputc('"', file);
	while (*at != '\0') {
		size_t length = 1;

		if (*at == '"' || *at == '\\')
			fprintf(file, "\\%c", *at);
		else if (*at < 0x20 || *at == 0x7f)
			fprintf(file, "\\u%04x", *at);
		else if (*at < 0x80)
			fputc(*at, file);
		else
			length = write_beyond_ascii(file, at);
		at += length;
	}
	fputc('"', file);
}

/* Comma, line, indentation and key before a value. */
static void lead(struct probe_json *json, const char *key)
{
	if (json->depth > 0) {
		bool *filled = &json->filled[json->depth - 1];

		fputs(*filled ? ",\n" : "\n", json->file);
		fprintf(json->file, "%*s", 2 * json->depth, "");
		*filled = true;
	}
	if (key != NULL) {
		write_string(json->file, key);
		fputs(": ", json->file);
	}
}

void probe_json_begin(struct probe_json *json, const char *key, char bracket)
{
	assert(bracket == '{' || bracket == '[');
	assert(json->depth < PROBE_JSON_DEPTH);
	lead(json, key);
	fputc(bracket, json->file);
	json->filled[json->depth] = false;
	json->depth++;
}

void probe_json_end(struct probe_json *json, char bracket)
{
	assert(bracket == '}' || bracket == ']');
	assert(json->depth > 0);
	json->depth--;
	if (json->filled[json->depth])
		fprintf(json->file, "\n%*s", 2 * json->depth, "");
	fputc(bracket, json->file);
}

void probe_json_string(
	struct probe_json *json, const char *key, const char *text)
{
	lead(json, key);
	write_string(json->file, text);
}

void probe_json_number(struct probe_json *json, const char *key, double value)
{
	lead(json, key);
	if (isfinite(value))
		fprintf(json->file, "%.12g", value);
	else
		fputs("null", json->file);
}

int probe_json_finish(struct probe_json *json)
{
	assert(json->depth == 0);
	fputc('\n', json->file);
	if (fflush(json->file) != 0 || ferror(json->file) != 0)
		return -EIO;
	return 0;
}
