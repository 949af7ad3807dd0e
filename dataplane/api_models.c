/* api_models.c - the list of models (names -> JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dataplane/api.h"

bool api_model_known(
	const struct front_model *model, const char *name, size_t length)
{
	for (uint32_t i = 0; i < model->name_count; i++)
		if (strlen(model->name[i]) == length &&
			memcmp(model->name[i], name, length) == 0)
			return true;
	return false;
}

static void card(
	const struct front_model *model, const char *name, struct api_text *out)
{
	api_text_puts(out, "{\"id\":");
	api_text_string(out, name, strlen(name));
	api_text_puts(out, ",\"object\":\"model\",\"created\":");
	api_text_u64(out, model->created_s);
	api_text_puts(out, ",\"owned_by\":\"heddle\",\"root\":");
	api_text_string(out, model->name[0], strlen(model->name[0]));
	api_text_puts(out, ",\"parent\":null,\"max_model_len\":");
	api_text_u64(out, model->position_count);
	api_text_puts(out, ",\"permission\":[]}");
}

void api_models_write(const struct front_model *model, struct api_text *out)
{
	api_text_puts(out, "{\"object\":\"list\",\"data\":[");
	for (uint32_t i = 0; i < model->name_count; i++) {
		if (i > 0)
			api_text_puts(out, ",");
		card(model, model->name[i], out);
	}
	api_text_puts(out, "]}");
}

int api_model_write(const struct front_model *model, struct http_text name,
	struct api_text *out, struct api_error *error)
{
	for (uint32_t i = 0; i < model->name_count; i++) {
		if (strlen(model->name[i]) != name.length ||
			memcmp(model->name[i], name.text, name.length) != 0)
			continue;
		card(model, model->name[i], out);
		return 0;
	}
	return api_fail_code(error, 404, "model_not_found",
		"the model '%.*s' does not exist",
		name.length < FRONT_NAME_BYTES_MAX ? (int)name.length
						   : FRONT_NAME_BYTES_MAX,
		name.text);
}
