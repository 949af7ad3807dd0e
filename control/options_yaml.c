/* options_yaml.c - the configuration file (YAML text -> options) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mapping of keys to values or to lists of values. Anchors, tags, nested
 * mappings and further documents are refused: nothing here needs them, and
 * each of them can hide what a file says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "control/options.h"

struct reader {
	yaml_parser_t parser;
	yaml_event_t event; /* the current one; zeroed = none */
	struct options *options;
	const char *name;
	bool seen[OPTION_ID_COUNT];
	struct error *err;
};

/* An error at a place; marks count from 0, people from 1. */
__attribute__((format(printf, 3, 4))) static int refuse(
	struct reader *reader, const yaml_mark_t *mark, const char *format, ...)
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = error_setv(reader->err, EINVAL, format, args);
	va_end(args);
	error_prefix(reader->err, "%s:%zu:%zu", reader->name, mark->line + 1,
		mark->column + 1);
	return rc;
}

static int parser_error(struct reader *reader)
{
	const yaml_parser_t *parser = &reader->parser;
	yaml_mark_t mark = parser->problem_mark;

	if (parser->error == YAML_MEMORY_ERROR)
		return error_set(
			reader->err, ENOMEM, "%s: out of memory", reader->name);
	/* The reader of bytes gives an offset and no place. */
	if (parser->error == YAML_READER_ERROR)
		return error_set(reader->err, EINVAL, "%s: byte %zu: %s",
			reader->name, parser->problem_offset,
			parser->problem ? parser->problem : "cannot be read");
	return refuse(reader, &mark, "%s%s%s",
		parser->context ? parser->context : "",
		parser->context ? ": " : "",
		parser->problem ? parser->problem : "is no YAML");
}

/* The next event takes the place of the current one. */
static int next(struct reader *reader)
{
	yaml_event_delete(&reader->event);
	memset(&reader->event, 0, sizeof(reader->event));
	if (!yaml_parser_parse(&reader->parser, &reader->event))
		return parser_error(reader);
	return 0;
}

/* The text of a plain scalar event, or an error that says what is there. */
static int scalar(struct reader *reader, const char *what, const char **out)
{
	const yaml_event_t *event = &reader->event;
	const char *text = (const char *)event->data.scalar.value;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(reader, &event->start_mark,
			"%s must be a single value", what);
	if (event->data.scalar.anchor || event->data.scalar.tag)
		return refuse(reader, &event->start_mark,
			"anchors and tags are not supported");
	if (strlen(text) != event->data.scalar.length)
		return refuse(reader, &event->start_mark,
			"%s holds a zero byte", what);
	*out = text;
	return 0;
}

static int read_key(struct reader *reader, enum option_id *out)
{
	const yaml_mark_t *mark = &reader->event.start_mark;
	const char *text = "";
	int rc = scalar(reader, "a key", &text);

	if (rc)
		return rc;
	*out = option_find(text, strlen(text));
	if (*out == OPTION_ID_COUNT)
		return refuse(reader, mark,
			"unknown key \"%.64s\"; the nearest is \"%s\"", text,
			option_nearest(text, strlen(text)));
	if (reader->seen[*out])
		return refuse(reader, mark, "%s stands here twice",
			option_spec(*out)->key);
	reader->seen[*out] = true;
	return 0;
}

struct items {
	char *text[OPTION_ITEM_COUNT_MAX]; /* owned */
	uint32_t count;
};

static void items_release(struct items *items)
{
	for (uint32_t i = 0; i < items->count; i++)
		free(items->text[i]);
}

static int add_item(struct reader *reader, const char *key, struct items *items)
{
	const char *text = "";
	int rc = scalar(reader, key, &text);

	if (rc)
		return rc;
	if (items->count == OPTION_ITEM_COUNT_MAX)
		return refuse(reader, &reader->event.start_mark,
			"%s: more than %d items", key, OPTION_ITEM_COUNT_MAX);
	items->text[items->count] = strdup(text);
	if (!items->text[items->count])
		return error_set(
			reader->err, ENOMEM, "%s: out of memory", reader->name);
	items->count++;
	return 0;
}

/* One value, or a sequence of them. */
static int read_items(
	struct reader *reader, const char *key, struct items *items)
{
	int rc;

	if (reader->event.type != YAML_SEQUENCE_START_EVENT)
		return add_item(reader, key, items);
	if (reader->event.data.sequence_start.anchor ||
		reader->event.data.sequence_start.tag)
		return refuse(reader, &reader->event.start_mark,
			"anchors and tags are not supported");
	rc = next(reader);
	while (rc == 0 && reader->event.type != YAML_SEQUENCE_END_EVENT) {
		rc = add_item(reader, key, items);
		if (rc == 0)
			rc = next(reader);
	}
	return rc;
}

static int set_items(struct reader *reader, enum option_id id,
	const yaml_mark_t *mark, const struct items *items)
{
	const char *list[OPTION_ITEM_COUNT_MAX];
	char where[sizeof(((struct option_value *)0)->where)];
	const struct option_origin origin = {OPTION_FILE, where};
	int rc;

	for (uint32_t i = 0; i < items->count; i++)
		list[i] = items->text[i];
	/* What is in force names the line; an error the column too. */
	snprintf(where, sizeof(where), "%s:%zu", reader->name, mark->line + 1);
	rc = options_set(
		reader->options, id, &origin, list, items->count, reader->err);
	if (rc)
		error_prefix(reader->err, "%s:%zu:%zu", reader->name,
			mark->line + 1, mark->column + 1);
	return rc;
}

static int read_value(struct reader *reader, enum option_id id)
{
	yaml_mark_t mark = reader->event.start_mark;
	struct items items = {0};
	int rc = read_items(reader, option_spec(id)->key, &items);

	if (rc == 0)
		rc = set_items(reader, id, &mark, &items);
	items_release(&items);
	return rc;
}

static int read_mapping(struct reader *reader)
{
	int rc = next(reader);

	while (rc == 0 && reader->event.type != YAML_MAPPING_END_EVENT) {
		enum option_id id = OPTION_ID_COUNT;

		rc = read_key(reader, &id);
		if (rc == 0)
			rc = next(reader);
		if (rc == 0)
			rc = read_value(reader, id);
		if (rc == 0)
			rc = next(reader);
	}
	return rc;
}

/* stream: start, an optional document of one mapping, end. */
static int read_stream(struct reader *reader)
{
	int rc = next(reader);

	if (rc == 0)
		rc = next(reader);
	if (rc || reader->event.type == YAML_STREAM_END_EVENT)
		return rc;
	rc = next(reader);
	if (rc)
		return rc;
	if (reader->event.type != YAML_MAPPING_START_EVENT ||
		reader->event.data.mapping_start.anchor ||
		reader->event.data.mapping_start.tag)
		return refuse(reader, &reader->event.start_mark,
			"must be lines of \"key: value\"");
	rc = read_mapping(reader);
	if (rc == 0)
		rc = next(reader); /* the document's end */
	if (rc == 0)
		rc = next(reader);
	if (rc == 0 && reader->event.type != YAML_STREAM_END_EVENT)
		return refuse(
			reader, &reader->event.start_mark, "a second document");
	return rc;
}

int options_parse_yaml(struct options *options, const char *text, size_t length,
	const char *name, struct error *err)
{
	struct reader reader = {.options = options, .name = name, .err = err};
	int rc;

	if (length > OPTION_FILE_BYTES_MAX)
		return error_set(err, EFBIG, "%s: larger than %zu bytes", name,
			OPTION_FILE_BYTES_MAX);
	if (!yaml_parser_initialize(&reader.parser))
		return error_set(err, ENOMEM, "%s: out of memory", name);
	yaml_parser_set_input_string(
		&reader.parser, (const unsigned char *)text, length);
	rc = read_stream(&reader);
	yaml_event_delete(&reader.event);
	yaml_parser_delete(&reader.parser);
	return rc;
}
