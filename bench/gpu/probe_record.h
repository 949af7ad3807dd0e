/*
 * probe_record.h - one line from a section's process to the probe
 *
 * Why:        each section runs in a process of its own, so that a crash or a
 *             hang costs that section only; what it learned until then has
 *             already crossed the pipe, line by line.
 * Invariants: parse(format(r)) == r, but for tabs, line breaks and cut text.
 * Ownership:  a record owns its text.
 * Threads:    no state.
 * Limits:     PROBE_LINE_MAX bytes per line, longer text is cut.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_RECORD_H
#define PROBE_RECORD_H

#include <stddef.h>

#define PROBE_NAME_MAX 64
#define PROBE_TEXT_MAX 320
#define PROBE_LINE_MAX 640

enum probe_record_kind {
	PROBE_ATTRIBUTE = 'A', /* name; text, or a number in value */
	PROBE_RESULT =
		'R', /* name, value, p99, limit, runs; text is the note */
	PROBE_STATUS =
		'S', /* name is ok, failed, skipped or nocard; text why */
};

struct probe_record {
	enum probe_record_kind kind;
	char name[PROBE_NAME_MAX];
	double value; /* NaN for none; the same holds for p99 and limit */
	double p99;
	double limit;
	unsigned long runs;
	char text[PROBE_TEXT_MAX];
};

/* Write `record` as one line ending in '\n'; returns its length. */
size_t probe_record_format(
	const struct probe_record *record, char line[PROBE_LINE_MAX]);

/* Read one line, with or without its '\n'. 0, or -EINVAL: nothing written. */
int probe_record_parse(const char *line, struct probe_record *record);

/* Set a text field, cut to fit. */
void probe_text_set(char *field, size_t size, const char *text);

#endif
