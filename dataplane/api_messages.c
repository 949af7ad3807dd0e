/* api_messages.c - a conversation, checked (JSON -> messages for a template) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dataplane/api_json.h"
#include "dataplane/api_text.h"

#define ROLE_BYTES_MAX 64

/* The text of one part of a content array; NULL: refused. */
static const json_t *part_text(
	const struct api_fields *fields, const json_t *part, size_t message)
{
	const json_t *type = json_object_get(part, "type");
	const json_t *text = json_object_get(part, "text");

	if (!json_is_string(type)) {
		api_fail(fields->error, 400, "messages",
			"'messages[%zu].content' has a part without a type",
			message);
		return NULL;
	}
	if (strcmp(json_string_value(type), "text") != 0) {
		api_fail(fields->error, 400, "messages",
			"'messages[%zu].content' has a part of a type that is "
			"not supported; this model takes text only",
			message);
		return NULL;
	}
	if (!json_is_string(text)) {
		api_fail(fields->error, 400, "messages",
			"'messages[%zu].content' has a text part without text",
			message);
		return NULL;
	}
	return text;
}

/* Parts become one string, a newline between them, as in vLLM. */
static json_t *join_parts(
	const struct api_fields *fields, const json_t *parts, size_t message)
{
	struct api_text text = {0};
	json_t *joined = NULL;

	for (size_t i = 0; i < json_array_size(parts); i++) {
		const json_t *part =
			part_text(fields, json_array_get(parts, i), message);

		if (!part)
			goto out;
		if (i > 0)
			api_text_puts(&text, "\n");
		api_text_put(&text, json_string_value(part),
			json_string_length(part));
	}
	if (!text.failed)
		joined = json_stringn_nocheck(
			text.data ? text.data : "", text.length);
	if (!joined)
		api_fail(fields->error, 500, NULL, "out of memory");
out:
	api_text_release(&text);
	return joined;
}

static bool role_ok(
	const struct api_fields *fields, const json_t *message, size_t index)
{
	const json_t *role = json_object_get(message, "role");

	if (json_is_string(role) && json_string_length(role) > 0 &&
		json_string_length(role) <= ROLE_BYTES_MAX)
		return true;
	api_fail(fields->error, 400, "messages",
		"'messages[%zu].role' must be a string of 1 to %d bytes", index,
		ROLE_BYTES_MAX);
	return false;
}

static bool message_ok(
	const struct api_fields *fields, json_t *message, size_t index)
{
	const json_t *content = json_object_get(message, "content");
	json_t *joined;

	if (!json_is_object(message)) {
		api_fail(fields->error, 400, "messages",
			"'messages[%zu]' must be an object", index);
		return false;
	}
	if (!role_ok(fields, message, index))
		return false;
	if (!content || json_is_null(content) || json_is_string(content))
		return true;
	if (!json_is_array(content)) {
		api_fail(fields->error, 400, "messages",
			"'messages[%zu].content' must be a string or an array "
			"of parts",
			index);
		return false;
	}
	joined = join_parts(fields, content, index);
	return joined && json_object_set_new(message, "content", joined) == 0;
}

void api_messages_parse(const struct api_fields *fields, json_t **out)
{
	json_t *messages =
		api_field_array(fields, "messages", API_MESSAGE_COUNT_MAX);

	if (json_array_size(messages) == 0) {
		api_fail(fields->error, 400, "messages",
			"'messages' must be an array with at least one "
			"message");
		return;
	}
	for (size_t i = 0; i < json_array_size(messages); i++)
		if (!message_ok(fields, json_array_get(messages, i), i))
			return;
	*out = json_incref(messages);
}
