/* probe_record.c - one line from a section's process to the probe */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_record.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELD_COUNT = 7 };

void probe_text_set(char *field, size_t size, const char *text)
{
	size_t length = strnlen(text, size - 1);

	memmove(field, text, length);
	field[length] = '\0';
}

/* Tabs and line breaks part fields and records: they become spaces. */
static void blank(char *text)
{
	for (; *text != '\0'; text++)
		if (*text == '\t' || *text == '\n' || *text == '\r')
			*text = ' ';
}

size_t probe_record_format(
	const struct probe_record *record, char line[PROBE_LINE_MAX])
{
	struct probe_record clean = *record;
	int length;

	blank(clean.name);
	blank(clean.text);
	length = snprintf(line, PROBE_LINE_MAX,
		"%c\t%s\t%.17g\t%.17g\t%.17g\t%lu\t%s\n", (char)clean.kind,
		clean.name, clean.value, clean.p99, clean.limit, clean.runs,
		clean.text);
	return (size_t)length;
}

static int parse_double(const char *text, double *value)
{
	char *end = NULL;
	double read = strtod(text, &end);

	if (end == text || *end != '\0')
		return -EINVAL;
	*value = read;
	return 0;
}

static int parse_count(const char *text, unsigned long *value)
{
	char *end = NULL;
	unsigned long read;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	read = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0')
		return -EINVAL;
	*value = read;
	return 0;
}

/* Cut `line` at its tabs; the last field takes the rest. */
static int split(char *line, char *field[FIELD_COUNT])
{
	for (int i = 0; i < FIELD_COUNT; i++) {
		field[i] = line;
		if (i + 1 == FIELD_COUNT)
			break;
		line = strchr(line, '\t');
		if (line == NULL)
			return -EINVAL;
		*line++ = '\0';
	}
	field[FIELD_COUNT - 1][strcspn(field[FIELD_COUNT - 1], "\n")] = '\0';
	return 0;
}

int probe_record_parse(const char *line, struct probe_record *record)
{
	char copy[PROBE_LINE_MAX];
	char *field[FIELD_COUNT];
	struct probe_record read = {.kind = PROBE_STATUS};

	if (strlen(line) >= sizeof(copy))
		return -EINVAL;
	probe_text_set(copy, sizeof(copy), line);
	if (split(copy, field) != 0)
		return -EINVAL;
	if (strlen(field[0]) != 1 || strchr("ARS", field[0][0]) == NULL ||
		field[1][0] == '\0')
		return -EINVAL;
	if (strlen(field[1]) >= sizeof(read.name) ||
		strlen(field[6]) >= sizeof(read.text))
		return -EINVAL;
	if (parse_double(field[2], &read.value) != 0 ||
		parse_double(field[3], &read.p99) != 0 ||
		parse_double(field[4], &read.limit) != 0 ||
		parse_count(field[5], &read.runs) != 0)
		return -EINVAL;
	read.kind = (enum probe_record_kind)field[0][0];
	probe_text_set(read.name, sizeof(read.name), field[1]);
	probe_text_set(read.text, sizeof(read.text), field[6]);
	*record = read;
	return 0;
}
