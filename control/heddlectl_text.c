/* heddlectl_text.c - heddlectl's help, manual page and completion (-> text) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "control/command.h"
#include "control/heddlectl_text.h"

static const struct heddlectl_flag flags[HEDDLECTL_FLAG_COUNT] = {
	[HEDDLECTL_CONTROL] = {"--control", "PATH",
		"Socket of the node (HEDDLE_CONTROL; default " HEDDLECTL_PATH
		")."},
	[HEDDLECTL_OUTPUT] = {"-o", "FORM", "Answer as json or text."},
	[HEDDLECTL_WATCH] = {"--watch", NULL,
		"With stat: a line of rates each second."},
	[HEDDLECTL_COMPLETION] = {"--completion", "SHELL",
		"Print completion for a shell: bash."},
	[HEDDLECTL_MAN] = {"--man", NULL, "Print the manual page."},
	[HEDDLECTL_HELP] = {"--help", NULL, "Print this."},
	[HEDDLECTL_VERSION] = {"--version", NULL, "Print the version."},
};

const struct heddlectl_flag *heddlectl_flag(int index)
{
	assert(index >= 0 && index < HEDDLECTL_FLAG_COUNT);
	return &flags[index];
}

static void print_columns(
	const char *first, const char *second, const char *help, FILE *out)
{
	char left[64];

	snprintf(left, sizeof(left), "%s%s%s", first, second ? " " : "",
		second ? second : "");
	fprintf(out, "  %-18s %s\n", left, help);
}

void heddlectl_help(FILE *out)
{
	fputs("usage: heddlectl [OPTION]... COMMAND [ARGUMENT]\n\ncommands:\n",
		out);
	for (int i = 0; i < COMMAND_ID_COUNT; i++) {
		const struct command_spec *spec =
			command_spec((enum command_id)i);

		print_columns(spec->name, spec->argument, spec->help, out);
		if (spec->choices)
			print_columns("", NULL, spec->choices, out);
	}
	fputs("\noptions:\n", out);
	for (int i = 0; i < HEDDLECTL_FLAG_COUNT; i++)
		print_columns(
			flags[i].flag, flags[i].value, flags[i].help, out);
	fputs("\nexit status: 0 done, 1 the node refused, 2 wrong usage, 3 no "
	      "node answers\n",
		out);
}

/* A hyphen of a name is a minus sign for troff. */
static void print_roff(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (*text == '-' || *text == '\\')
			putc('\\', out);
		putc(*text, out);
	}
}

static void print_entry(
	const char *first, const char *second, const char *help, FILE *out)
{
	fputs(".TP\n.B ", out);
	print_roff(first, out);
	if (second)
		fprintf(out, " \\fI%s\\fR", second);
	putc('\n', out);
	print_roff(help, out);
	putc('\n', out);
}

void heddlectl_man(FILE *out)
{
	fputs(".TH HEDDLECTL 1 \"\" Heddle\n.SH NAME\nheddlectl \\- talk to a "
	      "node of Heddle\n.SH SYNOPSIS\n.B heddlectl\n[OPTION]... COMMAND "
	      "[ARGUMENT]\n.SH COMMANDS\n",
		out);
	for (int i = 0; i < COMMAND_ID_COUNT; i++) {
		const struct command_spec *spec =
			command_spec((enum command_id)i);

		print_entry(spec->name, spec->argument, spec->help, out);
		if (spec->choices)
			fprintf(out, "%s is one of: %s.\n", spec->argument,
				spec->choices);
	}
	fputs(".SH OPTIONS\n", out);
	for (int i = 0; i < HEDDLECTL_FLAG_COUNT; i++)
		print_entry(flags[i].flag, flags[i].value, flags[i].help, out);
	fputs(".SH PROTOCOL\nA line in, an answer out that ends with an empty "
	      "line; several lines on one connection. An answer that begins "
	      "with \"error: \" says why nothing was done. A word with blanks "
	      "stands in quotation marks, in which \\e\" and \\e\\e are one "
	      "of each; heddlectl sees to that itself. So\n.PP\n.B echo "
	      "info | socat \\- UNIX\\-CONNECT:" HEDDLECTL_PATH
	      "\n.PP\ndoes the same as\n.BR \"heddlectl info\" .\n"
	      ".SH EXIT STATUS\n0 done, 1 the node refused, 2 wrong usage, 3 "
	      "no "
	      "node answers.\n.SH SEE ALSO\n.BR heddled (8)\n",
		out);
}

/* Do two commands begin with the same word? */
static bool same_first_word(int a, int b)
{
	const char *x = command_spec((enum command_id)a)->name;
	const char *y = command_spec((enum command_id)b)->name;
	size_t length = strcspn(x, " ");

	return strcspn(y, " ") == length && strncmp(x, y, length) == 0;
}

static bool is_first_of_its_word(int id)
{
	for (int i = 0; i < id; i++)
		if (same_first_word(i, id))
			return false;
	return true;
}

static void print_words_after(int id, FILE *out)
{
	const char *name = command_spec((enum command_id)id)->name;
	const char *before = "";

	fprintf(out, "\t%.*s) words=\"", (int)strcspn(name, " "), name);
	for (int i = id; i < COMMAND_ID_COUNT; i++)
		if (same_first_word(id, i)) {
			fprintf(out, "%s%s", before,
				strchr(command_spec((enum command_id)i)->name,
					' ') +
					1);
			before = " ";
		}
	fputs("\" ;;\n", out);
}

/* The words that may follow a first one: "show" after "config", levels. */
static void print_second_words(FILE *out)
{
	for (int i = 0; i < COMMAND_ID_COUNT; i++) {
		const struct command_spec *spec =
			command_spec((enum command_id)i);

		if (strchr(spec->name, ' ') && is_first_of_its_word(i))
			print_words_after(i, out);
		else if (spec->choices)
			fprintf(out, "\t%s) words=\"%s\" ;;\n", spec->name,
				spec->choices);
	}
}

void heddlectl_completion(FILE *out)
{
	fputs("_heddlectl() {\n"
	      "\tlocal here=${COMP_WORDS[COMP_CWORD]} "
	      "before=${COMP_WORDS[COMP_CWORD-1]} words\n"
	      "\tcase $before in\n",
		out);
	print_second_words(out);
	fprintf(out,
		"\t%s) COMPREPLY=($(compgen -f -- \"$here\")); return ;;\n"
		"\t%s) words=\"json text\" ;;\n\t%s) words=bash ;;\n\t*) "
		"words=\"",
		flags[HEDDLECTL_CONTROL].flag, flags[HEDDLECTL_OUTPUT].flag,
		flags[HEDDLECTL_COMPLETION].flag);
	for (int i = 0; i < COMMAND_ID_COUNT; i++) {
		const char *name = command_spec((enum command_id)i)->name;

		if (is_first_of_its_word(i))
			fprintf(out, "%.*s ", (int)strcspn(name, " "), name);
	}
	for (int i = 0; i < HEDDLECTL_FLAG_COUNT; i++)
		fprintf(out, "%s%s", flags[i].flag,
			i + 1 < HEDDLECTL_FLAG_COUNT ? " " : "");
	fputs("\" ;;\n\tesac\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$here\"))\n}\n"
	      "complete -F _heddlectl heddlectl\n",
		out);
}
