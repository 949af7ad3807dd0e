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

/* `adapter`: NULL where it is a name of the base. */
static void card(const struct front_model *model, const char *name,
	const struct adapter_entry *adapter, struct api_text *out)
{
	const char *base = model->name[0], *root = adapter ? name : base;

	api_text_puts(out, "{\"id\":");
	api_text_string(out, name, strlen(name));
	api_text_puts(out, ",\"object\":\"model\",\"created\":");
	api_text_u64(out, adapter ? adapter->created_s : model->created_s);
	api_text_puts(out, ",\"owned_by\":\"heddle\",\"root\":");
	api_text_string(out, root, strlen(root));
	api_text_puts(out, ",\"parent\":");
	if (adapter)
		api_text_string(out, base, strlen(base));
	else
		api_text_puts(out, "null");
	api_text_puts(out, ",\"max_model_len\":");
	api_text_u64(out, model->position_count);
	api_text_puts(out, ",\"permission\":[]}");
}

void api_models_write(const struct front_model *model,
	const struct adapter_entry *adapters, struct api_text *out)
{
	api_text_puts(out, "{\"object\":\"list\",\"data\":[");
	for (uint32_t i = 0; i < model->name_count; i++) {
		if (i > 0)
			api_text_puts(out, ",");
		card(model, model->name[i], NULL, out);
	}
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
		if (!adapters[i].instance)
			continue;
		api_text_puts(out, ",");
		card(model, adapters[i].name, &adapters[i], out);
	}
	api_text_puts(out, "]}");
}

static bool name_is(const char *name, struct http_text text)
{
	return strlen(name) == text.length &&
	       memcmp(name, text.text, text.length) == 0;
}

int api_model_write(const struct front_model *model,
	const struct adapter_entry *adapters, struct http_text name,
	struct api_text *out, struct api_error *error)
{
	for (uint32_t i = 0; i < model->name_count; i++) {
		if (!name_is(model->name[i], name))
			continue;
		card(model, model->name[i], NULL, out);
		return 0;
	}
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
		if (!adapters[i].instance || !name_is(adapters[i].name, name))
			continue;
		card(model, adapters[i].name, &adapters[i], out);
		return 0;
	}
	return api_fail_code(error, 404, "model_not_found",
		"the model '%.*s' does not exist",
		name.length < FRONT_NAME_BYTES_MAX ? (int)name.length
						   : FRONT_NAME_BYTES_MAX,
		name.text);
}
