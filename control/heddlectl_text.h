/* heddlectl_text.h - heddlectl's help, manual page and completion (-> text) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of it is made from the table of command.h and the flags below.
 * Threads: pure functions.
 */
#ifndef HEDDLE_CONTROL_HEDDLECTL_TEXT_H
#define HEDDLE_CONTROL_HEDDLECTL_TEXT_H

#include <stdio.h>

#define HEDDLECTL_PATH "/run/heddle/control"

struct heddlectl_flag {
	const char *flag;
	const char *value; /* NULL = takes none */
	const char *help;
};

enum {
	HEDDLECTL_CONTROL,
	HEDDLECTL_OUTPUT,
	HEDDLECTL_WATCH,
	HEDDLECTL_COMPLETION,
	HEDDLECTL_MAN,
	HEDDLECTL_HELP,
	HEDDLECTL_VERSION,
	HEDDLECTL_FLAG_COUNT
};

const struct heddlectl_flag *heddlectl_flag(int index);

void heddlectl_help(FILE *out);
void heddlectl_man(FILE *out);
void heddlectl_completion(FILE *out); /* for bash */

#endif
