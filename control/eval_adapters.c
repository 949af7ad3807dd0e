/* eval_adapters.c - the adapters of a session (--adapter NAME=DIR -> instances) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/eval.h"
#include "control/model_dir.h"

static int find_adapter(
	const struct eval_options *options, const char *name, uint32_t *out)
{
	for (uint32_t i = 0; i < options->adapter_count; i++)
		if (strcmp(options->adapters[i].name, name) == 0) {
			*out = i;
			return 0;
		}
	return -ENOENT;
}

/* "a=b" -> "a"; "x/y/" -> "y". A '=' after a '/' belongs to the path. */
static int split(const char *text, struct eval_adapter *out, struct error *err)
{
	size_t length = strcspn(text, "=/");
	const char *name = text;

	out->directory = text + length + 1;
	if (text[length] != '=') {
		size_t end = strlen(text);

		while (end > 1 && text[end - 1] == '/')
			end--;
		for (name = text + end; name > text && name[-1] != '/'; name--)
			;
		length = (size_t)(text + end - name);
		out->directory = text;
	}
	if (length == 0 || length >= sizeof(out->name) || !*out->directory)
		return error_set(err, EINVAL,
			"--adapter: \"%.64s\" is not NAME=DIR", text);
	memcpy(out->name, name, length);
	out->name[length] = '\0';
	return 0;
}

int eval_add_adapter(
	struct eval_options *options, const char *text, struct error *err)
{
	const uint32_t max =
		sizeof(options->adapters) / sizeof(options->adapters[0]);
	uint32_t found;
	int rc;

	if (options->adapter_count == max)
		return error_set(
			err, EINVAL, "--adapter: more than %u of them", max);
	rc = split(text, &options->adapters[options->adapter_count], err);
	if (rc)
		return rc;
	if (find_adapter(options,
		    options->adapters[options->adapter_count].name,
		    &found) == 0)
		return error_set(err, EINVAL,
			"--adapter: \"%s\" is there twice",
			options->adapters[found].name);
	options->adapter_count++;
	return 0;
}

static int measure(const struct eval_adapter *adapter,
	const struct model_config *config, struct model_options *out,
	struct error *err)
{
	struct adapter_files files;
	struct adapter_plan plan = {0};
	uint32_t most = 0;
	int rc = adapter_dir_open(adapter->directory, &files, err);

	if (rc)
		return rc;
	rc = adapter_plan_create(&files, config, NULL, &plan, err);
	adapter_files_close(&files);
	if (rc)
		return error_prefix(err, "%s", adapter->directory);
	for (uint32_t l = 0; l < plan.config.layer_count; l++) {
		out->adapter_run_count += plan.config.counts[l] > 0;
		if (plan.config.counts[l] > most)
			most = plan.config.counts[l];
	}
	out->adapter_expert_count += plan.config.total;
	out->adapter_slot_count_max += most;
	adapter_plan_release(&plan);
	return 0;
}

int eval_adapters_measure(const struct eval_options *options,
	const struct model_files *base, struct model_options *out,
	struct error *err)
{
	struct generation_config generation;
	struct model_config *config;
	int rc;

	if (options->adapter_count == 0)
		return 0;
	config = malloc(sizeof(*config));
	if (!config)
		return error_set(err, ENOMEM, "no memory for a configuration");
	rc = model_read_config(base, config, &generation, err);
	if (rc)
		error_prefix(err, "%s", options->model);
	for (uint32_t i = 0; rc == 0 && i < options->adapter_count; i++)
		rc = measure(&options->adapters[i], config, out, err);
	free(config);
	out->instance_count_max = options->adapter_count + 1;
	return rc;
}

static int load(const struct eval_adapter *adapter,
	struct eval_session *session, uint32_t lane_count, struct error *err)
{
	struct adapter_files files;
	int rc = adapter_dir_open(adapter->directory, &files, err);

	if (rc)
		return rc;
	rc = adapter_load(
		session->adapters, adapter->name, &files, lane_count, err);
	adapter_files_close(&files);
	if (rc)
		return rc;
	rc = adapter_bind(session->adapters, adapter->name,
		&session->instances[session->instance_count]);
	session->instance_count += rc == 0;
	return rc;
}

int eval_adapters_open(const struct eval_options *options,
	struct eval_session *session, uint32_t lane_count, struct error *err)
{
	int rc;

	if (options->adapter_count == 0)
		return 0;
	if (lane_count > READER_LANE_COUNT_MAX)
		lane_count = READER_LANE_COUNT_MAX;
	rc = adapter_set_create(session->model, &session->adapters, err);
	for (uint32_t i = 0; rc == 0 && i < options->adapter_count; i++)
		rc = load(&options->adapters[i], session, lane_count, err);
	return rc;
}

void eval_adapters_close(struct eval_session *session)
{
	while (session->instance_count > 0)
		adapter_release(session->adapters,
			session->instances[--session->instance_count]);
	adapter_set_destroy(session->adapters);
	session->adapters = NULL;
}

void eval_session_use(struct eval_session *session, uint32_t adapter)
{
	session->instance = adapter == EVAL_ADAPTER_BASE
				    ? INSTANCE_BASE
				    : session->instances[adapter];
}

/* What the field says; NULL: it is not there. */
static int take_field(const struct eval_options *options, const json_t *field,
	const char *where, uint32_t *out, struct error *err)
{
	if (json_is_null(field)) {
		*out = EVAL_ADAPTER_BASE;
		return 0;
	}
	if (field && !json_is_string(field))
		return error_set(err, EINVAL,
			"%s: \"adapter\" is neither a name nor null", where);
	if (field && find_adapter(options, json_string_value(field), out))
		return error_set(err, EINVAL,
			"%s: no --adapter has the name \"%.64s\"", where,
			json_string_value(field));
	if (!field && options->adapter_count > 1)
		return error_set(err, EINVAL,
			"%s: has no \"adapter\", and there are %u", where,
			options->adapter_count);
	if (!field)
		*out = options->adapter_count ? 0 : EVAL_ADAPTER_BASE;
	return 0;
}

int eval_adapter_of_line(const struct eval_options *options, const char *line,
	size_t length, const char *where, uint32_t *out, struct error *err)
{
	json_t *root = json_loadb(
		line, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	int rc = take_field(options,
		json_is_object(root) ? json_object_get(root, "adapter") : NULL,
		where, out, err);

	json_decref(root);
	return rc;
}
