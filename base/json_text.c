/* json_text.c - JSON that nobody vouches for (text -> fields) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"

/* libjansson's allocator has no argument to carry this in. */
static _Thread_local struct {
	bool parsing;
	bool failed;
} heap;

static void *heap_alloc(size_t size)
{
	void *memory;

	if (heap.parsing && heap.failed)
		return NULL;
	memory = malloc(size);
	if (!memory)
		heap.failed = true;
	return memory;
}

static void heap_free(void *memory)
{
	free(memory);
}

static void heap_set(void)
{
	json_set_alloc_funcs(heap_alloc, heap_free);
}

static json_t *parse(
	const char *text, size_t length, json_error_t *error, bool *out_failed)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	json_t *value;

	pthread_once(&once, heap_set);
	heap.parsing = true;
	heap.failed = false;
	value = json_loadb(text, length, JSON_REJECT_DUPLICATES, error);
	*out_failed = heap.failed;
	heap.parsing = false;
	heap.failed = false;
	return value;
}

/* Count what is outside of strings; whether it is JSON is not asked here. */
static bool within_bounds(
	const char *text, size_t length, const struct json_bounds *bounds)
{
	size_t objects = 0, arrays = 0, separators = 0;
	bool in_string = false;

	for (size_t i = 0; i < length; i++) {
		char c = text[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		in_string = c == '"';
		objects += c == '{';
		arrays += c == '[';
		separators += c == ',' || c == ':';
	}
	return objects <= bounds->object_max && arrays <= bounds->array_max &&
	       separators <= bounds->separator_max;
}

int json_text_parse(const char *text, size_t length,
	const struct json_bounds *bounds, json_t **out, struct error *err)
{
	json_error_t error = {0};
	bool failed;
	json_t *value;

	assert(text && bounds && out);
	if (!within_bounds(text, length, bounds))
		return error_set(err, EINVAL,
			"more than %zu objects, %zu arrays or %zu values",
			bounds->object_max, bounds->array_max,
			bounds->separator_max);
	value = parse(text, length, &error, &failed);
	if (failed) {
		json_decref(value);
		return error_set(
			err, ENOMEM, "no memory to parse %zu bytes", length);
	}
	if (!value)
		return error_set(err, EINVAL, "line %d column %d: %s",
			error.line, error.column, error.text);
	if (!json_is_object(value)) {
		json_decref(value);
		return error_set(err, EINVAL, "is not a JSON object");
	}
	*out = value;
	return 0;
}

void fields_init(struct fields *fields, json_t *object, const char *path,
	struct error *err)
{
	assert(json_is_object(object) && path);
	*fields = (struct fields){object, path, 0, err};
}

int fields_refuse(
	struct fields *fields, const char *key, const char *format, ...)
{
	char reason[256];
	va_list args;

	if (fields->rc)
		return fields->rc;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	fields->rc = error_set(
		fields->err, EINVAL, "%s%s %s", fields->path, key, reason);
	return fields->rc;
}

static json_t *get(const struct fields *fields, const char *key)
{
	json_t *value = json_object_get(fields->object, key);

	return json_is_null(value) ? NULL : value;
}

bool fields_has(const struct fields *fields, const char *key)
{
	return get(fields, key) != NULL;
}

bool json_u32_ok(const json_t *value, uint32_t max, uint32_t *out)
{
	json_int_t n;

	if (!json_is_integer(value))
		return false;
	n = json_integer_value(value);
	if (n < 0 || n > (json_int_t)max)
		return false;
	*out = (uint32_t)n;
	return true;
}

static uint32_t read_u32(
	struct fields *fields, const char *key, uint32_t min, uint32_t max)
{
	const json_t *value = get(fields, key);
	uint32_t n;

	if (json_u32_ok(value, max, &n) && n >= min)
		return n;
	if (json_is_integer(value))
		fields_refuse(fields, key,
			"is %" JSON_INTEGER_FORMAT ", expected %u to %u",
			json_integer_value(value), min, max);
	else
		fields_refuse(fields, key, "is no integer, expected %u to %u",
			min, max);
	return min;
}

uint32_t fields_u32(
	struct fields *fields, const char *key, uint32_t min, uint32_t max)
{
	assert(min <= max);
	if (fields_has(fields, key))
		return read_u32(fields, key, min, max);
	fields_refuse(fields, key, "is missing");
	return min;
}

uint32_t fields_u32_or(struct fields *fields, const char *key, uint32_t min,
	uint32_t max, uint32_t absent)
{
	assert(min <= max);
	return fields_has(fields, key) ? read_u32(fields, key, min, max)
				       : absent;
}

double fields_number_or(struct fields *fields, const char *key, double min,
	double max, double absent)
{
	const json_t *value = get(fields, key);
	double n;

	if (!value)
		return absent;
	if (!json_is_number(value)) {
		fields_refuse(fields, key, "is no number");
		return absent;
	}
	n = json_number_value(value);
	if (n >= min && n <= max)
		return n;
	fields_refuse(fields, key, "is %g, expected %g to %g", n, min, max);
	return absent;
}

bool fields_bool_or(struct fields *fields, const char *key, bool absent)
{
	const json_t *value = json_object_get(fields->object, key);

	if (!value)
		return absent;
	if (!json_is_boolean(value)) {
		fields_refuse(fields, key, "is neither true nor false");
		return absent;
	}
	return json_is_true(value);
}

const char *fields_text_or(
	struct fields *fields, const char *key, const char *absent)
{
	const json_t *value = get(fields, key);

	if (!value)
		return absent;
	if (!json_is_string(value)) {
		fields_refuse(fields, key, "is no string");
		return absent;
	}
	return json_string_value(value);
}

void fields_expect(struct fields *fields, const char *key, const char *expected)
{
	const char *text = fields_text_or(fields, key, expected);

	if (strcmp(text, expected) != 0)
		fields_refuse(fields, key,
			"is \"%.40s\", only \"%s\" is supported", text,
			expected);
}

json_t *fields_object(struct fields *fields, const char *key)
{
	json_t *value = get(fields, key);

	if (!value || json_is_object(value))
		return value;
	fields_refuse(fields, key, "is no object");
	return NULL;
}

json_t *fields_array(struct fields *fields, const char *key)
{
	json_t *value = get(fields, key);

	if (!value || json_is_array(value))
		return value;
	fields_refuse(fields, key, "is no array");
	return NULL;
}
