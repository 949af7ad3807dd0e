/* command.c - what one can say to a node (line -> command -> answer) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/command.h"

static const struct command_spec specs[COMMAND_ID_COUNT] = {
	[COMMAND_HELP] = {"help", NULL, NULL, "List the commands."},
	[COMMAND_INFO] = {"info", NULL, NULL,
		"Show what runs here: model, addresses, roles, state."},
	[COMMAND_STAT] = {"stat", NULL, NULL,
		"Show counters and latencies since the start."},
	[COMMAND_CONFIG_SHOW] = {"config show", NULL, NULL,
		"Show the options in force and where each comes from."},
	[COMMAND_DRAIN] = {"drain", NULL, NULL,
		"Take no new requests, let the open ones end, then stop."},
	[COMMAND_RELOAD] = {"reload", NULL, NULL,
		"Read the configuration file again."},
	[COMMAND_SHUTDOWN] = {"shutdown", NULL, NULL,
		"Stop at once; open requests are answered with an error."},
	[COMMAND_LOG] = {"log", "LEVEL", "error warn info debug",
		"Set what control writes to its log."},
};

const struct command_spec *command_spec(enum command_id id)
{
	assert((unsigned)id < COMMAND_ID_COUNT);
	return &specs[id];
}

/* --- lines in --------------------------------------------------------------------- */

#define WORD_COUNT_MAX 8

struct word {
	const char *text;
	size_t length;
};

static bool word_is(struct word word, const char *text)
{
	return strlen(text) == word.length &&
	       memcmp(word.text, text, word.length) == 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Words of a line; false: there are too many. */
static bool split(const char *line, size_t length, struct word *words,
	uint32_t *out_count)
{
	size_t at = 0;

	*out_count = 0;
	for (;;) {
		while (at < length && is_space(line[at]))
			at++;
		if (at == length)
			return true;
		if (*out_count == WORD_COUNT_MAX)
			return false;
		words[*out_count] = (struct word){line + at, 0};
		while (at < length && !is_space(line[at]))
			at++;
		words[*out_count].length =
			(size_t)(line + at - words[*out_count].text);
		(*out_count)++;
	}
}

/* Take "-o FORM" out of the words. */
static int take_form(struct word *words, uint32_t *count,
	struct command_call *out, struct error *err)
{
	uint32_t kept = 0;
	int rc = 0;

	for (uint32_t i = 0; i < *count; i++) {
		if (!word_is(words[i], "-o")) {
			words[kept++] = words[i];
			continue;
		}
		i++;
		if (i < *count && word_is(words[i], "json"))
			out->json = true;
		else if (i == *count || !word_is(words[i], "text"))
			rc = error_set(err, EINVAL, "-o takes json or text");
	}
	*count = kept;
	return rc;
}

/* How many of the words are this command's name; 0 = it is another. */
static uint32_t match_name(
	const char *name, const struct word *words, uint32_t count)
{
	const char *space = strchr(name, ' ');
	size_t first = space ? (size_t)(space - name) : strlen(name);

	if (count == 0 || words[0].length != first ||
		memcmp(words[0].text, name, first) != 0)
		return 0;
	if (!space)
		return 1;
	return count > 1 && word_is(words[1], space + 1) ? 2 : 0;
}

static bool is_choice(const char *choices, struct word word)
{
	const char *at = choices;

	while (at) {
		const char *space = strchr(at, ' ');
		size_t length = space ? (size_t)(space - at) : strlen(at);

		if (length == word.length && memcmp(at, word.text, length) == 0)
			return true;
		at = space ? space + 1 : NULL;
	}
	return false;
}

static int take_argument(const struct word *words, uint32_t count,
	struct command_call *out, struct error *err)
{
	const struct command_spec *spec = &specs[out->id];

	if (!spec->argument)
		return count == 0 ? 0
				  : error_set(err, EINVAL,
					    "%s takes no argument", spec->name);
	if (count != 1 || !is_choice(spec->choices, words[0]))
		return error_set(err, EINVAL, "%s takes one of: %s", spec->name,
			spec->choices);
	assert(words[0].length < sizeof(out->argument));
	memcpy(out->argument, words[0].text, words[0].length);
	out->argument[words[0].length] = '\0';
	return 0;
}

int command_parse(const char *line, size_t length, struct command_call *out,
	struct error *err)
{
	struct word words[WORD_COUNT_MAX];
	uint32_t count = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	if (!split(line, length, words, &count))
		return error_set(
			err, EINVAL, "more than %d words", WORD_COUNT_MAX);
	rc = take_form(words, &count, out, err);
	if (rc)
		return rc;
	if (count == 0)
		return error_set(err, EINVAL, "no command; see help");
	for (int i = 0; i < COMMAND_ID_COUNT; i++) {
		uint32_t used = match_name(specs[i].name, words, count);

		if (used == 0)
			continue;
		out->id = (enum command_id)i;
		return take_argument(words + used, count - used, out, err);
	}
	return error_set(err, EINVAL, "\"%.*s\" is no command; see help",
		(int)(words[0].length < 64 ? words[0].length : 64),
		words[0].text);
}

/* --- answers out -------------------------------------------------------------------- */

void command_answer_release(struct command_answer *answer)
{
	json_decref(answer->json);
	free(answer->text);
	memset(answer, 0, sizeof(*answer));
}

static void print_scalar(const json_t *value, FILE *out)
{
	if (json_is_string(value))
		fputs(json_string_value(value), out);
	else if (json_is_integer(value))
		fprintf(out, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		fprintf(out, "%.6g", json_real_value(value));
	else if (json_is_boolean(value))
		fputs(json_is_true(value) ? "yes" : "no", out);
	else
		putc('-', out);
}

static void print_array(const json_t *array, FILE *out)
{
	for (size_t i = 0; i < json_array_size(array); i++) {
		if (i > 0)
			putc(' ', out);
		print_scalar(json_array_get(array, i), out);
	}
}

/* Two levels are as deep as answers go. */
static void print_members(json_t *object, const char *prefix, FILE *out)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		char path[128];

		snprintf(path, sizeof(path), "%s%s%s", prefix,
			prefix[0] ? "." : "", key);
		if (json_is_object(value)) {
			print_members(value, path, out);
			continue;
		}
		fprintf(out, "%s: ", path);
		if (json_is_array(value))
			print_array(value, out);
		else
			print_scalar(value, out);
		putc('\n', out);
	}
}

static void print_text(const struct command_answer *answer, FILE *out)
{
	if (error_is_set(&answer->err))
		fprintf(out, "error: %s\n", answer->err.text);
	else if (answer->text)
		fputs(answer->text, out);
	else if (answer->json)
		print_members(answer->json, "", out);
	else
		fputs("ok\n", out);
}

static void print_json(const struct command_answer *answer, FILE *out)
{
	json_t *own = NULL;
	const json_t *json = answer->json;

	if (error_is_set(&answer->err)) {
		json_t *reason = json_string(answer->err.text);

		/* Bytes of the line that was refused may be no UTF-8. */
		if (!reason)
			reason = json_string("the line is no command");
		json = own = json_pack("{s:o}", "error", reason);
	}
	if (!json)
		json = own = json_pack("{s:b}", "ok", 1);
	if (json)
		json_dumpf(json, out, JSON_COMPACT);
	putc('\n', out);
	json_decref(own);
}

/* No empty line but the last: it would end the answer early. */
static size_t squeeze(char *text, size_t length)
{
	size_t kept = 0;

	for (size_t i = 0; i < length; i++)
		if (text[i] != '\n' || (kept > 0 && text[kept - 1] != '\n'))
			text[kept++] = text[i];
	return kept;
}

char *command_render(
	const struct command_answer *answer, bool json, size_t *out_length)
{
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	if (json)
		print_json(answer, out);
	else
		print_text(answer, out);
	/* Room for a last newline and the empty line. */
	fputs("\n\n", out);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	length = squeeze(text, length);
	text[length++] = '\n';
	text[length] = '\0';
	*out_length = length;
	return text;
}

void command_help(FILE *out)
{
	for (int i = 0; i < COMMAND_ID_COUNT; i++)
		fprintf(out, "%s%s%s: %s\n", specs[i].name,
			specs[i].argument ? " " : "",
			specs[i].argument ? specs[i].argument : "",
			specs[i].help);
}

json_t *command_help_json(void)
{
	json_t *all = json_object();

	for (int i = 0; i < COMMAND_ID_COUNT; i++)
		json_object_set_new(
			all, specs[i].name, json_string(specs[i].help));
	return all;
}
