/* api_request.c - the body of a POST (JSON -> api_request, or refusal) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "dataplane/api_json.h"

#define OBJECT_COUNT_MAX 65536
#define ARRAY_COUNT_MAX 65536
#define DOCUMENT_COUNT_MAX 1024

/* Separators beside those between token ids. */
#define SEPARATOR_COUNT_SPARE 262144

static bool is_adapter(const struct api_context *context, const char *name)
{
	struct adapter_entry entry;

	return context->adapters && adapter_table_find(context->adapters, name,
					    strlen(name), &entry, NULL) != 0;
}

static void parse_model(const struct api_fields *fields,
	const struct api_context *context, bool required,
	struct api_request *out)
{
	const char *name =
		api_field_text(fields, "model", FRONT_NAME_BYTES_MAX - 1);

	if (!name && !required)
		name = context->model->name[0];
	if (!name) {
		api_fail(fields->error, 400, "model",
			"'model' is missing: name the model to use");
		return;
	}
	if (!api_model_known(context->model, name, strlen(name)) &&
		!is_adapter(context, name)) {
		api_fail_code(fields->error, 404, "model_not_found",
			"the model '%s' does not exist", name);
		return;
	}
	memcpy(out->model, name, strlen(name) + 1);
}

static void parse_chat(const struct api_fields *fields, struct api_request *out)
{
	api_messages_parse(fields, &out->messages);
	out->documents = json_incref(
		api_field_array(fields, "documents", DOCUMENT_COUNT_MAX));
	out->kwargs =
		json_incref(api_field_object(fields, "chat_template_kwargs"));
	out->add_generation_prompt =
		api_field_bool(fields, "add_generation_prompt", true);
	out->add_special = api_field_bool(fields, "add_special_tokens", false);
}

static void parse_tokenize(const struct api_fields *fields,
	const struct api_context *context, struct api_request *out)
{
	const char *prompt;

	out->return_token_strs =
		api_field_bool(fields, "return_token_strs", false);
	if (api_field(fields, "messages")) {
		parse_chat(fields, out);
		return;
	}
	prompt = api_field_text(fields, "prompt", SIZE_MAX);
	if (!prompt) {
		api_fail(fields->error, 400, "prompt",
			"'prompt' must be a string, or 'messages' be there");
		return;
	}
	out->add_special = api_field_bool(fields, "add_special_tokens", true);
	api_prompts_parse(fields, context, out);
}

static void parse_route(const struct api_fields *fields,
	const struct api_context *context, struct api_request *out)
{
	uint32_t most = context->limits->prompt_list_count;

	out->sampling.choice_count = 1;
	switch (out->route) {
	case API_COMPLETIONS:
		api_sampling_parse(fields, out->route, context, &out->sampling);
		out->add_special =
			api_field_bool(fields, "add_special_tokens", true);
		api_prompts_parse(fields, context, out);
		break;
	case API_CHAT:
		api_sampling_parse(fields, out->route, context, &out->sampling);
		if (out->sampling.choice_count > most)
			api_fail(fields->error, 400, "n",
				"'n' must be at most %u", most);
		parse_chat(fields, out);
		break;
	case API_TOKENIZE:
		parse_tokenize(fields, context, out);
		break;
	default:
		assert(out->route == API_DETOKENIZE);
		api_tokens_parse(fields, context, out);
	}
}

static int parse_json(const char *body, size_t length,
	const struct api_context *context, json_t **out,
	struct api_error *error)
{
	const struct json_bounds bounds = {OBJECT_COUNT_MAX, ARRAY_COUNT_MAX,
		(size_t)2 * context->model->position_count +
			SEPARATOR_COUNT_SPARE};
	struct error err = {0};
	int rc = json_text_parse(body, length, &bounds, out, &err);

	if (rc == -ENOMEM)
		return api_fail(error, 500, NULL, "out of memory");
	if (rc)
		return api_fail_code(error, 400, "invalid_json",
			"the body is not one JSON object: %s", err.text);
	return 0;
}

int api_request_parse(enum api_route route, const char *body, size_t length,
	const struct api_context *context, struct api_request *out,
	struct api_error *error)
{
	struct api_fields fields = {NULL, error};

	*out = (struct api_request){.route = route};
	if (parse_json(body, length, context, &fields.object, error))
		goto err_clear;
	parse_model(&fields, context,
		route == API_COMPLETIONS || route == API_CHAT, out);
	api_unsupported_check(&fields, route);
	if (!error->status)
		parse_route(&fields, context, out);
	json_decref(fields.object);
	if (!error->status)
		return 0;
err_clear:
	api_request_release(out);
	return -EINVAL;
}

void api_request_release(struct api_request *request)
{
	for (uint32_t i = 0; i < request->prompt_count; i++) {
		free(request->prompts[i].text);
		free(request->prompts[i].ids);
	}
	free(request->prompts);
	free(request->sampling.stops);
	json_decref(request->messages);
	json_decref(request->documents);
	json_decref(request->kwargs);
	*request = (struct api_request){0};
}
