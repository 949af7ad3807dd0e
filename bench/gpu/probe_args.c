/* probe_args.c - command line of gpu-probe */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_args.h"
#include "probe_names.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parser {
	struct probe_args *args;
	char *message;
	size_t message_size;
};

__attribute__((format(printf, 2, 0))) static void write_message(
	struct parser *parser, const char *format, va_list list)
{
	vsnprintf(parser->message, parser->message_size, format, list);
}

__attribute__((format(printf, 2, 3))) static int refuse(
	struct parser *parser, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	write_message(parser, format, list);
	va_end(list);
	return -EINVAL;
}

static int parse_number(struct parser *parser, const char *option,
	const char *text, unsigned low, unsigned high)
{
	char *end = NULL;
	unsigned long value = 0;

	errno = 0;
	if (text[0] >= '0' && text[0] <= '9')
		value = strtoul(text, &end, 10);
	if (end == NULL || *end != '\0' || errno != 0 || value < low ||
		value > high)
		return refuse(parser, "%s: '%s' is no number from %u to %u",
			option, text, low, high);
	return (int)value;
}

static int parse_sections(struct parser *parser, const char *text)
{
	uint32_t sections = 0;

	for (;;) {
		size_t length = strcspn(text, ",");
		int id = probe_section_find(text, length);

		if (id < 0 || id >= PROBE_SECTION_COUNT)
			return refuse(parser,
				"--sections: no section is named '%.*s'",
				(int)length, text);
		sections |= UINT32_C(1) << id;
		if (text[length] == '\0')
			break;
		text += length + 1;
	}
	parser->args->sections = sections;
	return 0;
}

/* 1: `option` was taken; 0: it is not one that has a value; or -EINVAL. */
static int parse_valued(
	struct parser *parser, const char *option, const char *value)
{
	struct probe_args *args = parser->args;
	int number = 0;

	if (strcmp(option, "--sections") == 0) {
		number = parse_sections(parser, value);
	} else if (strcmp(option, "--json") == 0) {
		if (value[0] == '\0')
			return refuse(parser, "--json: the path is empty");
		args->json_path = value;
	} else if (strcmp(option, "--device") == 0) {
		number = parse_number(parser, option, value, 0, 63);
		args->device = number;
	} else if (strcmp(option, "--time-limit") == 0) {
		number = parse_number(parser, option, value, 3, 3600);
		args->time_limit_s = (unsigned)number;
	} else if (strcmp(option, "--section-limit") == 0) {
		number = parse_number(parser, option, value, 1, 3600);
		args->section_limit_s = (unsigned)number;
	} else if (strcmp(option, "--child-limit") == 0) {
		number = parse_number(parser, option, value, 1, 3600);
		args->child_limit_s = (unsigned)number;
	} else if (strcmp(option, "--child") == 0) {
		args->child = probe_section_find(value, strlen(value));
		if (args->child < 0)
			return refuse(
				parser, "--child: no process is '%s'", value);
	}
	return number < 0 ? -EINVAL : 1;
}

static bool takes_value(const char *option)
{
	static const char *const valued[] = {"--sections", "--json", "--device",
		"--time-limit", "--section-limit", "--child-limit", "--child"};

	for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++)
		if (strcmp(option, valued[i]) == 0)
			return true;
	return false;
}

static int parse_flag(struct parser *parser, const char *option)
{
	if (strcmp(option, "--quick") == 0)
		parser->args->quick = true;
	else if (strcmp(option, "--list") == 0)
		parser->args->list = true;
	else if (strcmp(option, "--help") == 0)
		parser->args->help = true;
	else
		return refuse(parser, "'%s' is no option (see --help)", option);
	return 0;
}

int probe_args_parse(struct probe_args *args, int argc, char **argv,
	char *message, size_t message_size)
{
	struct parser parser = {args, message, message_size};

	assert(message_size > 0);
	message[0] = '\0';
	*args = (struct probe_args){
		.sections = (UINT32_C(1) << PROBE_SECTION_COUNT) - 1,
		.json_path = PROBE_JSON_PATH,
		.time_limit_s = PROBE_TIME_LIMIT_S,
		.child_limit_s = 30,
		.child = -1,
	};
	for (int i = 1; i < argc; i++) {
		if (!takes_value(argv[i])) {
			if (parse_flag(&parser, argv[i]) != 0)
				return -EINVAL;
			continue;
		}
		if (i + 1 == argc)
			return refuse(
				&parser, "%s: its value is missing", argv[i]);
		if (parse_valued(&parser, argv[i], argv[i + 1]) < 0)
			return -EINVAL;
		i++;
	}
	return 0;
}
