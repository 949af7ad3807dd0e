/* command.c - what one can say to a node (line -> command -> answer) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/adapters.h"
#include "control/command.h"

#define COMMAND_WEIGHT_MAX ADAPTER_WEIGHT_MAX
#define COMMAND_BYTES_MIN UINT64_C(4096)
#define COMMAND_BYTES_MAX (UINT64_C(1) << 40)
_Static_assert(COMMAND_NAME_BYTES == ADAPTER_NAME_BYTES, "a name fits");

static const struct command_spec specs[COMMAND_ID_COUNT] = {
	[COMMAND_HELP] = {"help", NULL, NULL, "List the commands.", 0, 0,
		false},
	[COMMAND_INFO] = {"info", NULL, NULL,
		"Show what runs here: model, addresses, roles, state.", 0, 0,
		false},
	[COMMAND_STAT] = {"stat", NULL, NULL,
		"Show counters and latencies since the start.", 0, 0, false},
	[COMMAND_CONFIG_SHOW] = {"config show", NULL, NULL,
		"Show the options in force and where each comes from.", 0, 0,
		false},
	[COMMAND_DRAIN] = {"drain", NULL, NULL,
		"Take no new requests, let the open ones end, then stop.", 0, 0,
		false},
	[COMMAND_RELOAD] = {"reload", NULL, NULL,
		"Read the configuration file again.", 0, 0, false},
	[COMMAND_SHUTDOWN] = {"shutdown", NULL, NULL,
		"Stop at once; open requests are answered with an error.", 0, 0,
		false},
	[COMMAND_LOG] = {"log", "LEVEL", "error warn info debug",
		"Set what control writes to its log.", 0, 0, false},
	[COMMAND_MEM] = {"mem", NULL, NULL,
		"Show whose the memory is, to the page.", 0, 0, false},
	[COMMAND_ADAPTER_LOAD] = {"adapter load",
		"NAME DIR [--pin] [--weight W] [--no-wait]", NULL,
		"Load an adapter on all ranks; clients choose it by its name.",
		2,
		COMMAND_FLAG_PIN | COMMAND_FLAG_WEIGHT | COMMAND_FLAG_NO_WAIT,
		false},
	[COMMAND_ADAPTER_UNLOAD] = {"adapter unload",
		"NAME [--now] [--no-wait]", NULL,
		"Take it away after its last request, or with --now at once, "
		"and say what memory came back.",
		1, COMMAND_FLAG_NOW | COMMAND_FLAG_NO_WAIT, false},
	[COMMAND_ADAPTER_REPLACE] = {"adapter replace",
		"NAME DIR [--drain] [--no-wait]", NULL,
		"Give new requests other weights under the same name; --drain "
		"unloads the old ones first, where two copies do not fit.",
		2, COMMAND_FLAG_DRAIN | COMMAND_FLAG_NO_WAIT, false},
	[COMMAND_ADAPTER_LIST] = {"adapter list", NULL, NULL,
		"List the adapters, their states and sizes.", 0, 0, false},
	[COMMAND_ADAPTER_SHOW] = {"adapter show", "NAME", NULL,
		"Show all about one adapter.", 1, 0, false},
	[COMMAND_ADAPTER_PIN] = {"adapter pin", "NAME", NULL,
		"Keep it: nothing but unpin makes it unloadable again.", 1, 0,
		false},
	[COMMAND_ADAPTER_UNPIN] = {"adapter unpin", "NAME", NULL,
		"Allow to unload it again.", 1, 0, false},
	[COMMAND_ADAPTER_WEIGHT] = {"adapter weight", "NAME W", NULL,
		"Change its share, 1 to 1000, from the next step on.", 2, 0,
		true},
	[COMMAND_CAPTURE_START] = {"capture start", "FILE [--max-bytes N]",
		NULL,
		"Write the frames of the port (nic: dpdk) to a new file, as "
		"tcpdump reads it; 64 MiB at most unless N says otherwise.",
		COMMAND_WORDS_PATH, COMMAND_FLAG_MAX_BYTES, false},
	[COMMAND_CAPTURE_STOP] = {"capture stop", NULL, NULL,
		"End it; the file is whole when this answers.", 0, 0, false},
	[COMMAND_CAPTURE_SHOW] = {"capture show", NULL, NULL,
		"Show the last capture: file, frames, what was dropped.", 0, 0,
		false},
};

const struct command_spec *command_spec(enum command_id id)
{
	assert((unsigned)id < COMMAND_ID_COUNT);
	return &specs[id];
}

/* --- lines in --------------------------------------------------------------------- */

#define WORD_COUNT_MAX 12

struct word {
	const char *text; /* without quotation marks */
	size_t length;
	size_t at, line_length; /* how it stands in the line */
	bool quoted;
};

/* A line, and room for the words that were quoted in it. */
struct lexer {
	const char *line;
	size_t length, at;
	char text[COMMAND_LINE_BYTES_MAX];
	size_t used; /* of text */
};

/* Never of a quoted one. */
static bool word_is(struct word word, const char *text)
{
	return !word.quoted && strlen(text) == word.length &&
	       memcmp(word.text, text, word.length) == 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Behind the first quotation mark. */
static int take_quoted(struct lexer *x, struct word *out, struct error *err)
{
	out->quoted = true;
	out->text = x->text + x->used;
	for (x->at++; x->at < x->length && x->line[x->at] != '"'; x->at++) {
		if (x->line[x->at] == '\\') {
			x->at++;
			if (x->at == x->length ||
				(x->line[x->at] != '"' &&
					x->line[x->at] != '\\'))
				return error_set(err, EINVAL,
					"a backslash in quotation marks stands "
					"before one, or before another "
					"backslash");
		}
		x->text[x->used++] = x->line[x->at];
	}
	if (x->at == x->length)
		return error_set(err, EINVAL, "a quotation mark is not closed");
	x->at++;
	out->length = (size_t)(x->text + x->used - out->text);
	if (x->at < x->length && !is_space(x->line[x->at]))
		return error_set(err, EINVAL,
			"a word goes on behind its closing quotation mark");
	return 0;
}

static int take_next(struct lexer *x, struct word *out, struct error *err)
{
	size_t begin = x->at;
	int rc = 0;

	*out = (struct word){.text = x->line + begin, .at = begin};
	if (x->line[begin] == '"') {
		rc = take_quoted(x, out, err);
	} else {
		while (x->at < x->length && !is_space(x->line[x->at]))
			x->at++;
		out->length = x->at - begin;
	}
	out->line_length = x->at - begin;
	return rc;
}

/* Words of a line, which live as long as the lexer. */
static int split(struct lexer *x, struct word *words, uint32_t *out_count,
	struct error *err)
{
	*out_count = 0;
	for (;;) {
		int rc;

		while (x->at < x->length && is_space(x->line[x->at]))
			x->at++;
		if (x->at == x->length)
			return 0;
		if (*out_count == WORD_COUNT_MAX)
			return error_set(err, EINVAL, "more than %d words",
				WORD_COUNT_MAX);
		rc = take_next(x, &words[(*out_count)++], err);
		if (rc)
			return rc;
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

	if (count == 0 || words[0].quoted || words[0].length != first ||
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

		if (!word.quoted && length == word.length &&
			memcmp(at, word.text, length) == 0)
			return true;
		at = space ? space + 1 : NULL;
	}
	return false;
}

static const struct {
	const char *word;
	enum command_flag flag;
} flags[] = {
	{"--pin", COMMAND_FLAG_PIN},
	{"--weight", COMMAND_FLAG_WEIGHT},
	{"--now", COMMAND_FLAG_NOW},
	{"--drain", COMMAND_FLAG_DRAIN},
	{"--no-wait", COMMAND_FLAG_NO_WAIT},
	{"--max-bytes", COMMAND_FLAG_MAX_BYTES},
};

#define FLAG_COUNT (sizeof(flags) / sizeof(flags[0]))

bool command_is_flag(const char *word, bool *out_value)
{
	for (size_t i = 0; i < FLAG_COUNT; i++)
		if (strcmp(flags[i].word, word) == 0) {
			*out_value = flags[i].flag == COMMAND_FLAG_WEIGHT ||
				     flags[i].flag == COMMAND_FLAG_MAX_BYTES;
			return true;
		}
	return false;
}

static unsigned find_flag(const struct command_spec *spec, struct word word)
{
	for (size_t i = 0; i < FLAG_COUNT; i++)
		if ((spec->flags & flags[i].flag) &&
			word_is(word, flags[i].word))
			return flags[i].flag;
	return 0;
}

static int take_weight(
	struct word word, const char *what, uint32_t *out, struct error *err)
{
	uint32_t value = 0;

	for (size_t i = 0; i < word.length; i++) {
		if (word.text[i] < '0' || word.text[i] > '9' ||
			value > COMMAND_WEIGHT_MAX)
			goto err_range;
		value = 10 * value + (uint32_t)(word.text[i] - '0');
	}
	if (value < 1 || value > COMMAND_WEIGHT_MAX)
		goto err_range;
	*out = value;
	return 0;
err_range:
	return error_set(err, EINVAL, "%s takes a number from 1 to %u", what,
		COMMAND_WEIGHT_MAX);
}

/* Up to a terabyte. */
static int take_bytes(struct word word, uint64_t *out, struct error *err)
{
	uint64_t value = 0;

	for (size_t i = 0; i < word.length; i++) {
		if (word.text[i] < '0' || word.text[i] > '9')
			value = COMMAND_BYTES_MAX;
		value = 10 * value + (uint64_t)(word.text[i] - '0');
		if (value > COMMAND_BYTES_MAX)
			break;
	}
	if (value < COMMAND_BYTES_MIN || value > COMMAND_BYTES_MAX)
		return error_set(err, EINVAL,
			"--max-bytes takes a number from %llu to %llu",
			(unsigned long long)COMMAND_BYTES_MIN,
			(unsigned long long)COMMAND_BYTES_MAX);
	*out = value;
	return 0;
}

static int take_word(struct word word, char *out, size_t size, const char *what,
	struct error *err)
{
	if (word.length == 0)
		return error_set(err, EINVAL, "%s is empty", what);
	if (word.length >= size)
		return error_set(err, EINVAL, "%s is longer than %zu bytes",
			what, size - 1);
	if (memchr(word.text, '\0', word.length))
		return error_set(err, EINVAL, "%s holds a zero byte", what);
	memcpy(out, word.text, word.length);
	out[word.length] = '\0';
	return 0;
}

/* A name, then a path or a weight. */
static int take_operand(struct word word, uint32_t number,
	struct command_call *out, struct error *err)
{
	if (number == 0 && specs[out->id].words != COMMAND_WORDS_PATH)
		return take_word(
			word, out->name, sizeof(out->name), "the name", err);
	if (specs[out->id].weighs)
		return take_weight(word, "the weight", &out->weight, err);
	out->path_at = word.at;
	out->path_length = word.line_length;
	return take_word(word, out->path, sizeof(out->path), "the path", err);
}

/* NAME, DIR and flags in any order. */
static int take_words(const struct word *words, uint32_t count,
	struct command_call *out, struct error *err)
{
	const struct command_spec *spec = &specs[out->id];
	uint32_t wanted = spec->words == COMMAND_WORDS_PATH ? 1 : spec->words;
	uint32_t seen = 0;
	bool value;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		unsigned flag = find_flag(spec, words[i]);

		out->flags |= flag;
		value = flag == COMMAND_FLAG_WEIGHT ||
			flag == COMMAND_FLAG_MAX_BYTES;
		if (value && i + 1 == count)
			return error_set(err, EINVAL, "%.*s takes a number",
				(int)words[i].length, words[i].text);
		if (flag == COMMAND_FLAG_WEIGHT)
			rc = take_weight(
				words[++i], "--weight", &out->weight, err);
		else if (value)
			rc = take_bytes(words[++i], &out->max_bytes, err);
		if (flag)
			continue;
		if ((!words[i].quoted && words[i].text[0] == '-') ||
			seen == wanted)
			return error_set(err, EINVAL, "%s takes %s", spec->name,
				spec->argument);
		rc = take_operand(words[i], seen++, out, err);
	}
	if (rc == 0 && seen < wanted)
		return error_set(
			err, EINVAL, "%s takes %s", spec->name, spec->argument);
	return rc;
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
	struct lexer lexer = {.line = line, .length = length};
	struct word words[WORD_COUNT_MAX];
	uint32_t count = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	if (length > COMMAND_LINE_BYTES_MAX)
		return error_set(err, EINVAL, "more than %d bytes",
			COMMAND_LINE_BYTES_MAX);
	rc = split(&lexer, words, &count, err);
	if (rc)
		return rc;
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
		if (specs[i].words > 0)
			return take_words(words + used, count - used, out, err);
		return take_argument(words + used, count - used, out, err);
	}
	return error_set(err, EINVAL, "\"%.*s\" is no command; see help",
		(int)(words[0].length < 64 ? words[0].length : 64),
		words[0].text);
}

bool command_quote(const char *word, char *out, size_t size)
{
	bool quoted = word[0] == '\0' || word[0] == '"' ||
		      strpbrk(word, " \t\r") != NULL;
	size_t used = 0;

	if (strchr(word, '\n'))
		return false;
	if (quoted && used < size)
		out[used++] = '"';
	for (; *word && used + 2 < size; word++) {
		if (quoted && (*word == '"' || *word == '\\'))
			out[used++] = '\\';
		out[used++] = *word;
	}
	if (*word || used + 2 > size)
		return false;
	if (quoted)
		out[used++] = '"';
	out[used] = '\0';
	return true;
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
	else if (!answer->text && !answer->json)
		fputs("ok\n", out);
	else if (answer->json)
		print_members(answer->json, "", out);
	if (answer->text && !error_is_set(&answer->err))
		fputs(answer->text, out);
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
