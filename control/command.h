/* command.h - what one can say to a node (line -> command -> answer) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   one table feeds the parser, the help, the manual page and the
 *        completion of heddlectl, so they cannot disagree.
 * Form:  a line is a command, its argument, and "-o json" or "-o text"
 *        anywhere after it; words are parted by blanks. A word that begins
 *        with a quotation mark ends with the next one, and holds what is
 *        between them, blanks too; \" and \\ in it are one of each. What is
 *        quoted is a name, a path or a number, never a command or a flag.
 *        Elsewhere quotation marks and backslashes are themselves. The answer
 *        is lines, of which none is empty, and then an empty one. An answer that begins with "error: " (or as JSON
 *        has the key "error") says why the command did nothing.
 * Threads: pure functions.
 */
#ifndef HEDDLE_CONTROL_COMMAND_H
#define HEDDLE_CONTROL_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define COMMAND_LINE_BYTES_MAX 1024
#define COMMAND_ARGUMENT_BYTES 64
#define COMMAND_NAME_BYTES 128 /* of an adapter, with the NUL */

enum command_id {
	COMMAND_HELP,
	COMMAND_INFO,
	COMMAND_STAT,
	COMMAND_CONFIG_SHOW,
	COMMAND_DRAIN,
	COMMAND_RELOAD,
	COMMAND_SHUTDOWN,
	COMMAND_LOG,
	COMMAND_MEM,
	COMMAND_ADAPTER_LOAD,
	COMMAND_ADAPTER_UNLOAD,
	COMMAND_ADAPTER_REPLACE,
	COMMAND_ADAPTER_LIST,
	COMMAND_ADAPTER_SHOW,
	COMMAND_ADAPTER_PIN,
	COMMAND_ADAPTER_UNPIN,
	COMMAND_ADAPTER_WEIGHT,
	COMMAND_CAPTURE_START,
	COMMAND_CAPTURE_STOP,
	COMMAND_CAPTURE_SHOW,
	COMMAND_ID_COUNT
};

#define COMMAND_WORDS_PATH 3 /* of a command: a path alone */

/* What may stand behind a command's words. */
enum command_flag {
	COMMAND_FLAG_PIN = 1,
	COMMAND_FLAG_WEIGHT = 2,
	COMMAND_FLAG_NOW = 4,
	COMMAND_FLAG_DRAIN = 8,
	COMMAND_FLAG_NO_WAIT = 16,
	COMMAND_FLAG_MAX_BYTES = 32
};

struct command_spec {
	const char *name; /* one or two words */
	const char *argument; /* what follows, in help; NULL = nothing */
	const char *choices; /* "a b c" that it may be */
	const char *help;
	/* 0, 1: a name, 2: a name and a path, COMMAND_WORDS_PATH */
	uint32_t words;
	unsigned flags; /* enum command_flag that it takes */
	bool weighs; /* of two words the second is a weight */
};

/* Is it one of the flags, and does a value follow it? */
bool command_is_flag(const char *word, bool *out_value);

const struct command_spec *command_spec(enum command_id id);

struct command_call {
	enum command_id id;
	bool json;
	char argument[COMMAND_ARGUMENT_BYTES]; /* of choices; "" = none */
	char name[COMMAND_NAME_BYTES]; /* "" = none */
	char path[COMMAND_LINE_BYTES_MAX]; /* "" = none */
	size_t path_at, path_length; /* how it stands in the line */
	unsigned flags; /* enum command_flag */
	uint32_t weight; /* 0 = not given */
	uint64_t max_bytes; /* 0 = not given */
	uint64_t ticket; /* whom control_socket_answer() is for */
};

/*
 * A line without its newline. out->json is right on error too. -EINVAL: no
 * such command, no such argument; the line may hold
 * any bytes.
 */
int command_parse(const char *line, size_t length, struct command_call *out,
	struct error *err);

/*
 * The word as a line may hold it: quoted where it has to be. False: `out` is
 * too small, or the word holds what no line can (a newline, a zero byte is
 * its end).
 */
bool command_quote(const char *word, char *out, size_t size);

/* What a handler gives back; zeroed = "ok". */
struct command_answer {
	json_t *json; /* owned; NULL = {"ok": true} */
	char *text; /* owned, malloc()ed; NULL = made of json alone; with both,
		       as text json's lines come first */
	struct error err; /* set: the command failed */
	bool later; /* control_socket_answer() follows */
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
