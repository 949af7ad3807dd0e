/* options_print.c - options for people (table, values -> help, manual, YAML) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "control/options.h"

static const char *const source_names[] = {
	[OPTION_DEFAULT] = "default",
	[OPTION_FILE] = "file",
	[OPTION_ENVIRONMENT] = "environment",
	[OPTION_FLAG] = "flag",
};

/* --- values ---------------------------------------------------------------------- */

/* Words that other readers of YAML take for something else than a text. */
static bool is_reserved(const char *text)
{
	static const char *const words[] = {
		"null", "true", "false", "yes", "no", "on", "off"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(words[i], text) == 0)
			return true;
	return false;
}

/* Does YAML read it as one plain text? Else it is put in quotes. */
static bool is_plain(const char *text)
{
	if (is_reserved(text))
		return false;
	if (!isalnum((unsigned char)text[0]) && text[0] != '/')
		return false;
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("_-./:+@", *c))
			return false;
	return text[strlen(text) - 1] != ':';
}

static void print_item(const char *text, FILE *out)
{
	if (is_plain(text)) {
		fputs(text, out);
		return;
	}
	putc('"', out);
	for (const char *c = text; *c; c++) {
		if (*c == '"' || *c == '\\')
			putc('\\', out);
		putc(*c, out);
	}
	putc('"', out);
}

static void print_value(const struct option_spec *spec,
	const struct option_value *value, FILE *out)
{
	bool is_list = spec->kind == OPTION_KIND_LIST;

	if (is_list)
		putc('[', out);
	for (uint32_t i = 0; i < value->count; i++) {
		if (i > 0)
			fputs(", ", out);
		print_item(value->items[i], out);
	}
	if (is_list)
		putc(']', out);
}

void options_print(const struct options *options, FILE *out)
{
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		const struct option_spec *spec = option_spec((enum option_id)i);
		const struct option_value *value = &options->value[i];

		if (value->count == 0) {
			fprintf(out, "# %s is not set\n", spec->key);
			continue;
		}
		fprintf(out, "%s: ", spec->key);
		print_value(spec, value, out);
		fprintf(out, "  # %s", source_names[value->source]);
		if (value->where[0])
			fprintf(out, " %s", value->where);
		putc('\n', out);
	}
}

static json_t *value_json(
	const struct option_spec *spec, const struct option_value *value)
{
	json_t *list;

	if (value->count == 0)
		return json_null();
	if (spec->kind == OPTION_KIND_NUMBER || spec->kind == OPTION_KIND_BYTES)
		return json_integer((json_int_t)value->number);
	if (spec->kind != OPTION_KIND_LIST)
		return json_string(value->items[0]);
	list = json_array();
	for (uint32_t i = 0; i < value->count; i++)
		json_array_append_new(list, json_string(value->items[i]));
	return list;
}

json_t *options_json(const struct options *options)
{
	json_t *all = json_object();

	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		const struct option_spec *spec = option_spec((enum option_id)i);
		const struct option_value *value = &options->value[i];
		json_t *one = json_pack("{s:o,s:s,s:s,s:b}", "value",
			value_json(spec, value), "source",
			source_names[value->source], "where", value->where,
			"reloadable", (int)spec->reloadable);

		if (json_object_set_new(all, spec->key, one)) {
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

/* --- help ------------------------------------------------------------------------ */

#define HELP_COLUMN 8
#define HELP_WIDTH 78

/* Words in lines of up to HELP_WIDTH, each after HELP_COLUMN spaces. */
static void print_wrapped(const char *text, FILE *out)
{
	int column = 0;

	while (*text) {
		size_t word = strcspn(text, " ");

		if (column > 0 && column + 1 + (int)word > HELP_WIDTH) {
			putc('\n', out);
			column = 0;
		}
		if (column == 0) {
			fprintf(out, "%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		} else {
			putc(' ', out);
			column++;
		}
		fprintf(out, "%.*s", (int)word, text);
		column += (int)word;
		text += word;
		while (*text == ' ')
			text++;
	}
	putc('\n', out);
}

static bool is_number(const struct option_spec *spec)
{
	return spec->kind == OPTION_KIND_NUMBER ||
	       spec->kind == OPTION_KIND_BYTES ||
	       spec->kind == OPTION_KIND_DURATION;
}

/* "Default 4, 1 to 64. HEDDLE_X. May change by reload." */
static void describe(enum option_id id, char *out, size_t size)
{
	const struct option_spec *spec = option_spec(id);
	char variable[64], low[64], high[64], bounds[160] = "";

	option_variable(id, variable);
	if (is_number(spec)) {
		option_print_number(spec, spec->min, low);
		option_print_number(spec, spec->max, high);
		snprintf(bounds, sizeof(bounds), ", %s to %s", low, high);
	}
	snprintf(out, size, "%s%s%s. %s.%s",
		spec->initial ? "Default " : "No default",
		spec->initial ? spec->initial : "", bounds, variable,
		spec->reloadable ? " May change by reload." : "");
}

void options_help(FILE *out)
{
	fputs("usage: heddled [-c FILE] [OPTION]...\n\n"
	      "Serve a model to clients of the OpenAI API. An option may stand "
	      "in the file\n"
	      "(\"key: value\", lists in brackets), in the environment and on "
	      "the command\n"
	      "line; the last of these wins.\n\n"
	      "  -c FILE             configuration file (HEDDLE_CONFIG)\n"
	      "  --check             check the configuration and the model's "
	      "files, and end\n"
	      "  --hash-key TENANT   read an API key, print its line for "
	      "api-keys\n"
	      "  --version, --help, --man\n\n",
		out);
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		const struct option_spec *spec = option_spec((enum option_id)i);
		char text[320];

		if (spec->file_only)
			continue;
		fprintf(out, "  --%s %s\n", spec->key, spec->value);
		print_wrapped(spec->help, out);
		describe((enum option_id)i, text, sizeof(text));
		print_wrapped(text, out);
	}
}

/* A hyphen of an option is a minus sign for troff. */
static void print_roff(const char *text, FILE *out)
{
	for (const char *c = text; *c; c++) {
		if (*c == '-' || *c == '\\')
			putc('\\', out);
		putc(*c, out);
	}
}

void options_man(FILE *out)
{
	fputs(".TH HEDDLED 8 \"\" Heddle\n.SH NAME\n"
	      "heddled \\- serve a model to clients of the OpenAI API\n"
	      ".SH SYNOPSIS\n.B heddled\n[\\-c FILE] [OPTION]...\n"
	      ".SH OPTIONS\nA flag wins over the environment, the environment "
	      "over the file, the file over the default.\n"
	      ".TP\n.B \\-c FILE\nConfiguration file, YAML; also "
	      "HEDDLE_CONFIG.\n"
	      ".TP\n.B \\-\\-check\nCheck the configuration and the model's "
	      "files, and end.\n"
	      ".TP\n.B \\-\\-hash\\-key TENANT\nRead an API key from standard "
	      "input and print its line for \\fBapi\\-keys\\fR.\n",
		out);
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		const struct option_spec *spec = option_spec((enum option_id)i);
		char text[320];

		if (spec->file_only)
			continue;
		fputs(".TP\n.B \\-\\-", out);
		print_roff(spec->key, out);
		fprintf(out, " %s\n", spec->value);
		print_roff(spec->help, out);
		putc('\n', out);
		describe((enum option_id)i, text, sizeof(text));
		print_roff(text, out);
		putc('\n', out);
	}
	fputs(".SH SIGNALS\nSIGTERM and SIGINT drain: readiness goes red, open "
	      "requests end, at most for \\fBdrain\\-timeout\\fR; a second one "
	      "ends quickly. SIGHUP reads the file again.\n"
	      ".SH SEE ALSO\n.BR heddlectl (1)\n",
		out);
}
