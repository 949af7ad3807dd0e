/* api_json.c - typed fields of a client's JSON (object -> values, or refusal) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "dataplane/api_json.h"

json_t *api_field(const struct api_fields *fields, const char *key)
{
	json_t *value = json_object_get(fields->object, key);

	return json_is_null(value) ? NULL : value;
}

int64_t api_field_integer(const struct api_fields *fields, const char *key,
	int64_t min, int64_t max, int64_t absent)
{
	const json_t *value = api_field(fields, key);
	int64_t number;

	if (!value)
		return absent;
	if (!json_is_integer(value)) {
		api_fail(fields->error, 400, key, "'%s' must be an integer",
			key);
		return absent;
	}
	number = json_integer_value(value);
	if (number < min || number > max) {
		api_fail(fields->error, 400, key,
			"'%s' must be between %lld and %lld, not %lld", key,
			(long long)min, (long long)max, (long long)number);
		return absent;
	}
	return number;
}

uint32_t api_field_u32(const struct api_fields *fields, const char *key,
	uint32_t min, uint32_t max, uint32_t absent)
{
	return (uint32_t)api_field_integer(fields, key, min, max, absent);
}

float api_field_float(const struct api_fields *fields, const char *key,
	struct api_range range, float absent)
{
	const json_t *value = api_field(fields, key);
	double number;

	if (!value)
		return absent;
	if (!json_is_number(value)) {
		api_fail(fields->error, 400, key, "'%s' must be a number", key);
		return absent;
	}
	number = json_number_value(value);
	if (!isfinite(number) || number < range.min || number > range.max ||
		(range.open && number <= range.min)) {
		api_fail(fields->error, 400, key,
			"'%s' must be %s %g and at most %g", key,
			range.open ? "above" : "at least", range.min,
			range.max);
		return absent;
	}
	return (float)number;
}

bool api_field_bool(
	const struct api_fields *fields, const char *key, bool absent)
{
	const json_t *value = api_field(fields, key);

	if (!value)
		return absent;
	if (!json_is_boolean(value)) {
		api_fail(fields->error, 400, key, "'%s' must be true or false",
			key);
		return absent;
	}
	return json_is_true(value);
}

const char *api_field_text(
	const struct api_fields *fields, const char *key, size_t bytes_max)
{
	const json_t *value = api_field(fields, key);

	if (!value)
		return NULL;
	if (!json_is_string(value)) {
		api_fail(fields->error, 400, key, "'%s' must be a string", key);
		return NULL;
	}
	if (json_string_length(value) > bytes_max) {
		api_fail(fields->error, 400, key,
			"'%s' must be at most %zu bytes long, not %zu", key,
			bytes_max, json_string_length(value));
		return NULL;
	}
	return json_string_value(value);
}

json_t *api_field_array(
	const struct api_fields *fields, const char *key, size_t count_max)
{
	json_t *value = api_field(fields, key);

	if (!value)
		return NULL;
	if (!json_is_array(value)) {
		api_fail(fields->error, 400, key, "'%s' must be an array", key);
		return NULL;
	}
	if (json_array_size(value) > count_max) {
		api_fail(fields->error, 400, key,
			"'%s' must have at most %zu elements, not %zu", key,
			count_max, json_array_size(value));
		return NULL;
	}
	return value;
}

json_t *api_field_object(const struct api_fields *fields, const char *key)
{
	json_t *value = api_field(fields, key);

	if (value && !json_is_object(value)) {
		api_fail(
			fields->error, 400, key, "'%s' must be an object", key);
		return NULL;
	}
	return value;
}

bool api_token_id(const struct api_fields *fields, const char *key,
	const json_t *value, uint32_t vocab, uint32_t *out)
{
	int64_t id;

	if (!json_is_integer(value)) {
		api_fail(fields->error, 400, key,
			"'%s' must hold token ids, which are integers", key);
		return false;
	}
	id = json_integer_value(value);
	if (id < 0 || id >= (int64_t)vocab) {
		api_fail(fields->error, 400, key,
			"'%s' holds token id %lld; this model's ids are 0 to "
			"%u",
			key, (long long)id, vocab - 1);
		return false;
	}
	*out = (uint32_t)id;
	return true;
}
