/* error.c - what went wrong, in one line a person can act on */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

int error_setv(struct error *err, int code, const char *format, va_list args)
{
	assert(code > 0);
	if (err && err->code == 0) {
		err->code = -code;
		vsnprintf(err->text, sizeof(err->text), format, args);
		make_printable(err->text);
	}
	return -code;
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = error_setv(err, code, format, args);
	va_end(args);
	return rc;
}

int error_prefix(struct error *err, const char *format, ...)
{
	char joined[ERROR_TEXT_BYTES];
	va_list args;
	int length;

	if (!err || err->code == 0)
		return 0;
	va_start(args, format);
	length = vsnprintf(joined, sizeof(joined), format, args);
	va_end(args);
	assert(length >= 0);
	/* A text that no longer fits is cut: its beginning says where. */
	if ((size_t)length < sizeof(joined))
		length = snprintf(joined + length,
			sizeof(joined) - (size_t)length, ": %s", err->text);
	assert(length >= 0);
	memcpy(err->text, joined, sizeof(joined));
	make_printable(err->text);
	return err->code;
}

bool error_is_set(const struct error *err)
{
	return err && err->code != 0;
}

void error_clear(struct error *err)
{
	err->code = 0;
	err->text[0] = '\0';
}
