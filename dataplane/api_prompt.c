/* api_prompt.c - prompts as texts or as token ids (JSON -> api_prompt) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "dataplane/api_json.h"

static void no_memory(const struct api_fields *fields)
{
	api_fail(fields->error, 500, NULL, "out of memory");
}

static bool prompt_text(const struct api_fields *fields, const json_t *value,
	struct api_prompt *out)
{
	out->length = json_string_length(value);
	out->text = malloc(out->length + 1);
	if (!out->text) {
		no_memory(fields);
		return false;
	}
	memcpy(out->text, json_string_value(value), out->length + 1);
	return true;
}

static bool prompt_ids(const struct api_fields *fields, const char *key,
	const json_t *array, uint32_t vocab, struct api_prompt *out)
{
	size_t count = json_array_size(array);

	out->ids = malloc((count ? count : 1) * sizeof(*out->ids));
	if (!out->ids) {
		no_memory(fields);
		return false;
	}
	for (size_t i = 0; i < count; i++)
		if (!api_token_id(fields, key, json_array_get(array, i), vocab,
			    &out->ids[i]))
			return false;
	out->id_count = (uint32_t)count;
	return true;
}

static bool one_prompt(const struct api_fields *fields, const json_t *value,
	uint32_t vocab, struct api_prompt *out)
{
	if (json_is_string(value))
		return prompt_text(fields, value, out);
	if (json_is_array(value) && json_array_size(value) > 0)
		return prompt_ids(fields, "prompt", value, vocab, out);
	api_fail(fields->error, 400, "prompt",
		"'prompt' must be a string, an array of strings, an array of "
		"token ids or an array of such arrays, none of them empty");
	return false;
}

void api_prompts_parse(const struct api_fields *fields,
	const struct api_context *context, struct api_request *out)
{
	json_t *value = api_field(fields, "prompt");
	bool list = json_is_array(value) &&
		    (json_is_string(json_array_get(value, 0)) ||
			    json_is_array(json_array_get(value, 0)));
	size_t count = list ? json_array_size(value) : 1;
	size_t choices = out->sampling.choice_count;
	uint32_t most = context->limits->prompt_list_count;

	if (!value) {
		api_fail(fields->error, 400, "prompt", "'prompt' is missing");
		return;
	}
	if (count * (choices ? choices : 1) > most) {
		api_fail(fields->error, 400, count > 1 ? "prompt" : "n",
			"%zu prompts with %zu choices each are more than the "
			"%u that one request may ask for",
			count, choices, most);
		return;
	}
	out->prompts = calloc(count, sizeof(*out->prompts));
	if (!out->prompts) {
		no_memory(fields);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		out->prompt_count++;
		if (!one_prompt(fields, list ? json_array_get(value, i) : value,
			    context->model->vocab, &out->prompts[i]))
			return;
	}
}

void api_tokens_parse(const struct api_fields *fields,
	const struct api_context *context, struct api_request *out)
{
	json_t *array = api_field_array(fields, "tokens", SIZE_MAX);

	if (!array) {
		api_fail(fields->error, 400, "tokens",
			"'tokens' must be an array of token ids");
		return;
	}
	out->prompts = calloc(1, sizeof(*out->prompts));
	if (!out->prompts) {
		no_memory(fields);
		return;
	}
	out->prompt_count = 1;
	prompt_ids(fields, "tokens", array, context->model->vocab,
		&out->prompts[0]);
}
