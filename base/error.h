/* error.h - what went wrong, in one line a person can act on */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        -errno says what kind of failure, not which tensor of which
 *             file; libraries never print, so the text has to travel.
 * Invariants: the first failure wins: error_set() on a struct that already
 *             carries a text keeps the text, because the first one is the
 *             cause and the later ones are its echoes. The text has no
 *             newline and no control character, whatever the input held
 *             (a hostile tensor name must not forge a log line).
 * Ownership:  the caller's storage, usually on its stack; { 0 } is "none".
 * Threads:    one thread at a time.
 */
#ifndef HEDDLE_BASE_ERROR_H
#define HEDDLE_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

#define ERROR_TEXT_BYTES 512

struct error {
	int code; /* negative errno, 0 = no error */
	char text[ERROR_TEXT_BYTES];
};

/*
 * Record `code` (a positive errno) and a text; returns -code so that a
 * failing function can say: return error_set(err, EINVAL, "...", ...).
 * err may be NULL: then only the code is returned.
 */
int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int error_setv(struct error *err, int code, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

/*
 * Put "prefix: " before an existing text, to say where (a file, a line);
 * returns err->code. Does nothing but return 0 where there is no error.
 */
int error_prefix(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

bool error_is_set(const struct error *err);
void error_clear(struct error *err);

#endif
