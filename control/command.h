/* command.h - what one can say to a node (line -> command -> answer) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   one table feeds the parser, the help, the manual page and the
 *        completion of heddlectl, so they cannot disagree.
 * Form:  a line is a command, its argument, and "-o json" or "-o text"
 *        anywhere after it. The answer is lines, of which none is empty, and
 *        then an empty one. An answer that begins with "error: " (or as JSON
 *        has the key "error") says why the command did nothing.
 * Threads: pure functions.
 */
#ifndef HEDDLE_CONTROL_COMMAND_H
#define HEDDLE_CONTROL_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

#define COMMAND_LINE_BYTES_MAX 1024
#define COMMAND_ARGUMENT_BYTES 64

enum command_id {
	COMMAND_HELP,
	COMMAND_INFO,
	COMMAND_STAT,
	COMMAND_CONFIG_SHOW,
	COMMAND_DRAIN,
	COMMAND_RELOAD,
	COMMAND_SHUTDOWN,
	COMMAND_LOG,
	COMMAND_ID_COUNT
};

struct command_spec {
	const char *name; /* one or two words */
	const char *argument; /* its name in help; NULL = takes none */
	const char *choices; /* "a b c" that it may be */
	const char *help;
};

const struct command_spec *command_spec(enum command_id id);

struct command_call {
	enum command_id id;
	bool json;
	char argument[COMMAND_ARGUMENT_BYTES]; /* "" = none */
};

/*
 * A line without its newline. out->json is right on error too. -EINVAL: no
 * such command, no such argument; the line may hold
 * any bytes.
 */
int command_parse(const char *line, size_t length, struct command_call *out,
	struct error *err);

/* What a handler gives back; zeroed = "ok". */
struct command_answer {
	json_t *json; /* owned; NULL = {"ok": true} */
	char *text; /* owned, malloc()ed; NULL = made of json */
	struct error err; /* set: the command failed */
};

void command_answer_release(struct command_answer *answer);

/*
 * The bytes to send, with the empty line at the end; malloc()ed. NULL: no
 * memory. As text, nested objects become "outer.inner: value".
 */
char *command_render(
	const struct command_answer *answer, bool json, size_t *out_length);

/* The table for people. */
json_t *command_help_json(void);
void command_help(FILE *out);

#endif
