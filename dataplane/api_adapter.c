/* api_adapter.c - vLLM's requests to load and unload adapters (JSON -> ask) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/json_text.h"
#include "dataplane/api_json.h"
#include "dataplane/utf8.h"

#define OBJECT_COUNT_MAX 64
#define ARRAY_COUNT_MAX 64
#define SEPARATOR_COUNT_MAX 256

static bool name_ok(const char *name)
{
	size_t length = strlen(name);

	return adapter_name_ok(name, length) &&
	       utf8_valid_prefix(name, length) == length;
}

static int check(const struct api_fields *fields, enum api_route route,
	struct front_ask *out)
{
	const char *name =
		api_field_text(fields, "lora_name", ADAPTER_NAME_BYTES - 1);
	const char *path = NULL;

	if (route == API_LOAD_ADAPTER)
		path = api_field_text(
			fields, "lora_path", FRONT_ASK_PATH_BYTES - 1);
	out->inplace = api_field_bool(fields, "load_inplace", false);
	if (fields->error->status)
		return -EINVAL;
	if (route == API_LOAD_ADAPTER && (!name || !path || !*name || !*path))
		return api_fail(fields->error, 400,
			name && *name ? "lora_path" : "lora_name",
			"Both 'lora_name' and 'lora_path' must be provided.");
	if (!name || !*name)
		return api_fail(fields->error, 400, "lora_name",
			"'lora_name' needs to be provided to unload a LoRA "
			"adapter.");
	if (!name_ok(name))
		return api_fail(fields->error, 400, "lora_name",
			"'lora_name' must have no quotes, backslashes or "
			"control characters, and not begin with a dash or a "
			"blank, nor end with one");
	for (const char *c = path; c && *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return api_fail(fields->error, 400, "lora_path",
				"'lora_path' holds a control character");
	memcpy(out->name, name, strlen(name) + 1);
	if (path)
		memcpy(out->path, path, strlen(path) + 1);
	return 0;
}

int api_adapter_parse(enum api_route route, const char *body, size_t length,
	struct front_ask *out, struct api_error *error)
{
	static const struct json_bounds bounds = {
		OBJECT_COUNT_MAX, ARRAY_COUNT_MAX, SEPARATOR_COUNT_MAX};
	struct api_fields fields = {NULL, error};
	struct error err = {0};
	int rc;

	memset(out, 0, sizeof(*out));
	out->kind =
		route == API_LOAD_ADAPTER ? FRONT_ASK_LOAD : FRONT_ASK_UNLOAD;
	if (length > API_ADAPTER_BODY_BYTES_MAX)
		return api_fail(error, 413, NULL,
			"the body is larger than %d bytes",
			API_ADAPTER_BODY_BYTES_MAX);
	rc = json_text_parse(body, length, &bounds, &fields.object, &err);
	if (rc == -ENOMEM)
		return api_fail(error, 500, NULL, "out of memory");
	if (rc)
		return api_fail_code(error, 400, "invalid_json",
			"the body is not one JSON object: %s", err.text);
	rc = check(&fields, route, out);
	json_decref(fields.object);
	return rc;
}
