/* fuzz_control_line.c - any bytes as a line to the control socket */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/command.h"
#include "tests/fuzz/fuzz.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What a client relies on: no empty line but the last. */
static void check_answer(const char *text, size_t length)
{
	require(length >= 3 && strlen(text) == length);
	require(strstr(text, "\n\n") == text + length - 2);
}

/* Said again, as it would be quoted, it is the same. */
static void check_words(const char *line, const struct command_call *call)
{
	char again[2 * COMMAND_LINE_BYTES_MAX], name[2 * COMMAND_NAME_BYTES];
	char path[COMMAND_LINE_BYTES_MAX] = "";
	struct command_call other;
	struct error err = {0};

	if (call->path[0] && line[call->path_at] != '"')
		require(call->path_length == strlen(call->path) &&
			memcmp(line + call->path_at, call->path,
				call->path_length) == 0);
	if (call->name[0] == '\0' || call->weight > 0 ||
		!command_quote(call->name, name, sizeof(name)) ||
		(call->path[0] &&
			!command_quote(call->path, path, sizeof(path))))
		return;
	snprintf(again, sizeof(again), "%s %s %s", command_spec(call->id)->name,
		name, path);
	/* What was quoted because it begins with a dash is no flag. */
	if (call->name[0] == '-' || call->path[0] == '-' ||
		strlen(again) > COMMAND_LINE_BYTES_MAX)
		return;
	require(command_parse(again, strlen(again), &other, &err) == 0);
	require(other.id == call->id && strcmp(other.name, call->name) == 0 &&
		strcmp(other.path, call->path) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct command_answer answer;
	struct command_call call;
	size_t length = 0;
	char *line, *text;

	memset(&answer, 0, sizeof(answer));
	if (size == 0 || size > COMMAND_LINE_BYTES_MAX)
		return 0;
	/* On the heap, so that a read past the end is seen. */
	line = malloc(size);
	require(line != NULL);
	memcpy(line, data, size);
	if (command_parse(line, size, &call, &answer.err)) {
		require(error_is_set(&answer.err));
	} else {
		require(call.id < COMMAND_ID_COUNT);
		require((call.argument[0] != '\0') ==
			(command_spec(call.id)->choices != NULL));
		require((call.name[0] != '\0') ==
			(command_spec(call.id)->words > 0));
		require((call.path[0] != '\0') ==
			(command_spec(call.id)->words > 1 &&
				!command_spec(call.id)->weighs));
		require(!command_spec(call.id)->weighs || call.weight > 0);
		require((call.flags & ~command_spec(call.id)->flags) == 0);
		check_words(line, &call);
		answer.json = command_help_json();
	}
	text = command_render(&answer, call.json, &length);
	require(text != NULL);
	check_answer(text, length);
	free(text);
	command_answer_release(&answer);
	free(line);
	return 0;
}
