/* node_load.c - adapters that are there from the start (options -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "control/adapter_trust.h"
#include "control/manifest_keys.h"
#include "control/node_setup.h"
#include "dataplane/utf8.h"

static int split(const char *item, struct node_adapter *out, struct error *err)
{
	const char *equals = strchr(item, '=');
	size_t length = equals ? (size_t)(equals - item) : 0;

	if (!equals || !equals[1])
		return error_set(err, EINVAL,
			"adapter: \"%.128s\" is not NAME=DIR", item);
	if (!adapter_name_ok(item, length) ||
		utf8_valid_prefix(item, length) != length)
		return error_set(err, EINVAL,
			"adapter: \"%.128s\": is no name of an adapter", item);
	if (strlen(equals + 1) >= sizeof(out->directory))
		return error_set(err, EINVAL,
			"adapter: \"%.128s\": the path is too long", item);
	memcpy(out->name, item, length);
	out->name[length] = '\0';
	snprintf(out->directory, sizeof(out->directory), "%s", equals + 1);
	return 0;
}

static int check_name(const struct node_setup *setup,
	const struct node_adapter *adapter, struct error *err)
{
	const struct front_model *model = &setup->front.model;
	const char *name = adapter->name;

	for (uint32_t i = 0; i < model->name_count; i++)
		if (strcmp(model->name[i], name) == 0)
			return error_set(err, EEXIST,
				"adapter: \"%s\" is a name of the model", name);
	for (uint32_t i = 0; i < setup->adapter_count; i++)
		if (strcmp(setup->adapters[i].name, name) == 0)
			return error_set(err, EEXIST,
				"adapter: \"%s\" is there twice", name);
	return 0;
}

/* A typing error is told at the start, not by the first load. */
static int check_keys(const char *path, struct error *err)
{
	struct manifest_keys keys;

	if (path[0] && manifest_keys_read(path, &keys, err))
		return error_prefix(err, "adapter-keys");
	return 0;
}

int node_load_open(const struct options *options, struct node_setup *setup,
	struct error *err)
{
	const struct option_value *list = &options->value[OPTION_ADAPTER];
	const struct adapter_trust trust = {
		.keys = options_text(options, OPTION_ADAPTER_KEYS)};
	int rc = check_keys(trust.keys, err);

	for (uint32_t i = 0; rc == 0 && i < list->count; i++) {
		struct node_adapter *adapter = &setup->adapters[i];

		rc = split(list->items[i], adapter, err);

		if (rc == 0)
			rc = check_name(setup, adapter, err);
		if (rc)
			return rc;
		rc = adapter_trust_open(&trust, adapter->name,
			adapter->directory, &adapter->files, err);
		if (rc) {
			error_prefix(err, "adapter \"%s\"", adapter->name);
			return rc;
		}
		setup->adapter_count++;
	}
	return rc;
}

void node_load_close(struct node_setup *setup)
{
	while (setup->adapter_count > 0)
		adapter_files_close(
			&setup->adapters[--setup->adapter_count].files);
}
