/* probe_json_check.c - is a text one valid JSON document (text -> yes or no) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/probe_json_check.h"

#include <string.h>

enum { DEPTH_MAX = 32 };

/* Each reads one thing at *at and moves on; false: it is not there. */
static bool read_value(const char **at, int depth);

static void skip_blanks(const char **at)
{
	*at += strspn(*at, " \t\r\n");
}

static bool read_char(const char **at, char wanted)
{
	if (**at != wanted)
		return false;
	++*at;
	return true;
}

static bool read_word(const char **at, const char *word)
{
	size_t length = strlen(word);

	if (strncmp(*at, word, length) != 0)
		return false;
	*at += length;
	return true;
}

static bool read_digits(const char **at)
{
	size_t count = strspn(*at, "0123456789");

	*at += count;
	return count > 0;
}

static bool read_number(const char **at)
{
	(void)read_char(at, '-');
	if (!read_char(at, '0') && !read_digits(at))
		return false;
	if (read_char(at, '.') && !read_digits(at))
		return false;
	if (**at != 'e' && **at != 'E')
		return true;
	++*at;
	if (!read_char(at, '+'))
		(void)read_char(at, '-');
	return read_digits(at);
}

static bool read_escape(const char **at)
{
	if (**at == 'u') {
		++*at;
		if (strspn(*at, "0123456789abcdefABCDEF") < 4)
			return false;
		*at += 4;
		return true;
	}
	if (**at == '\0' || strchr("\"\\/bfnrt", **at) == NULL)
		return false;
	++*at;
	return true;
}

static bool read_string(const char **at)
{
	if (!read_char(at, '"'))
		return false;
	while (!read_char(at, '"')) {
		if ((unsigned char)**at < 0x20)
			return false;
		if (read_char(at, '\\')) {
			if (!read_escape(at))
				return false;
		} else {
			++*at;
		}
	}
	return true;
}

/* An object's members or an array's items, up to `close`. */
static bool read_items(const char **at, char close, int depth)
{
	skip_blanks(at);
	if (read_char(at, close))
		return true;
	do {
		skip_blanks(at);
		if (close == '}') {
			if (!read_string(at))
				return false;
			skip_blanks(at);
			if (!read_char(at, ':'))
				return false;
		}
		if (!read_value(at, depth + 1))
			return false;
		skip_blanks(at);
	} while (read_char(at, ','));
	return read_char(at, close);
}

static bool read_value(const char **at, int depth)
{
	skip_blanks(at);
	if (depth > DEPTH_MAX)
		return false;
	if (read_char(at, '{'))
		return read_items(at, '}', depth);
	if (read_char(at, '['))
		return read_items(at, ']', depth);
	if (**at == '"')
		return read_string(at);
	return read_word(at, "true") || read_word(at, "false") ||
	       read_word(at, "null") || read_number(at);
}

bool probe_json_valid(const char *text)
{
	if (!read_value(&text, 0))
		return false;
	skip_blanks(&text);
	return *text == '\0';
}
