/* tokenizer_part.c - members of a part of the file, checked (JSON -> values) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

const char *part_type(const json_t *node)
{
	const char *type = json_string_value(json_object_get(node, "type"));

	return type ? type : "(no type)";
}

bool part_is_type(const json_t *node, const char *type)
{
	return strcmp(part_type(node), type) == 0;
}

int part_unsupported(const char *where, const json_t *node, struct error *err)
{
	return error_set(err, ENOTSUP, "%s: %s is not supported", where,
		part_type(node));
}

int part_only(const json_t *node, const char *where, const char *const *known,
	struct error *err)
{
	void *iter = json_object_iter((json_t *)(uintptr_t)node);

	for (; iter;
		iter = json_object_iter_next((json_t *)(uintptr_t)node, iter)) {
		const char *key = json_object_iter_key(iter);
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return error_set(err, ENOTSUP,
				"%s: member \"%s\" is not supported", where,
				key);
	}
	return 0;
}

int part_flag(const json_t *node, const char *key, bool fallback, bool *out,
	struct error *err)
{
	const json_t *value = json_object_get(node, key);

	if (value && !json_is_null(value) && !json_is_boolean(value))
		return error_set(err, EINVAL, "%s: %s is not a boolean",
			part_type(node), key);
	*out = value && !json_is_null(value) ? json_is_true(value) : fallback;
	return 0;
}

/* A member that must be a string; a view into the JSON. */
int part_text(const json_t *node, const char *key, struct text_view *out,
	struct error *err)
{
	const json_t *value = json_object_get(node, key);

	if (!json_is_string(value))
		return error_set(err, EINVAL, "%s: %s is not a string",
			part_type(node), key);
	*out = (struct text_view){
		json_string_value(value), NULL, json_string_length(value)};
	return 0;
}

/* A member that must be one character. */
int part_char(const json_t *node, const char *key, char out[UTF8_BYTES_MAX],
	uint32_t *size, struct error *err)
{
	struct text_view text = {NULL, NULL, 0};
	int rc = part_text(node, key, &text, err);

	if (rc)
		return rc;
	*size = 0;
	if (text.length > 0)
		(void)utf8_get(text.text, size);
	if (text.length == 0 || text.length != *size)
		return error_set(err, EINVAL, "%s: %s is not one character",
			part_type(node), key);
	memcpy(out, text.text, *size);
	return 0;
}

int part_count(
	const json_t *node, const char *key, uint32_t *out, struct error *err)
{
	const json_t *value = json_object_get(node, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
		json_integer_value(value) > 65536)
		return error_set(err, EINVAL, "%s: %s is not a small number",
			part_type(node), key);
	*out = (uint32_t)json_integer_value(value);
	return 0;
}

typedef int step_fn(
	struct tokenizer *tok, const json_t *node, struct error *err);

/* Run `step` over a step, or over the leaves of a Sequence of them. */
int part_each_step(struct tokenizer *tok, const json_t *node,
	const char *list_key, part_step_fn *step, int depth, struct error *err)
{
	const char *const known[] = {"type", list_key, NULL};
	const json_t *list = json_object_get(node, list_key);
	int rc;

	if (!part_is_type(node, "Sequence"))
		return step(tok, node, err);
	if (depth == TOKENIZER_NESTING_MAX)
		return error_set(err, E2BIG, "%s: nested too deep", list_key);
	if (!json_is_array(list))
		return error_set(err, EINVAL, "Sequence: no list %s", list_key);
	rc = part_only(node, "Sequence", known, err);
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++)
		rc = part_each_step(tok, json_array_get(list, i), list_key,
			step, depth + 1, err);
	return rc;
}
