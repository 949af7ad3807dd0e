/* node_setup.c - what the roles are started with (options -> setups) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "control/keys.h"
#include "control/node_setup.h"
#include "control/version.h"
#include "engine/model.h"

/* --- names ------------------------------------------------------------------------ */

/* The last part of a path, without slashes behind it. */
static void base_name(const char *path, char out[FRONT_NAME_BYTES_MAX])
{
	size_t end = strlen(path), begin;

	while (end > 1 && path[end - 1] == '/')
		end--;
	begin = end;
	while (begin > 0 && path[begin - 1] != '/')
		begin--;
	if (end - begin >= FRONT_NAME_BYTES_MAX)
		begin = end - FRONT_NAME_BYTES_MAX + 1;
	memcpy(out, path + begin, end - begin);
	out[end - begin] = '\0';
}

static int add_name(
	struct front_model *model, const char *name, struct error *err)
{
	if (strlen(name) >= FRONT_NAME_BYTES_MAX)
		return error_set(err, EINVAL,
			"the name \"%.32s...\" is longer than %d bytes", name,
			FRONT_NAME_BYTES_MAX - 1);
	for (uint32_t i = 0; i < model->name_count; i++)
		if (strcmp(model->name[i], name) == 0)
			return error_set(err, EINVAL,
				"the name \"%s\" is given twice", name);
	if (model->name_count == FRONT_NAME_COUNT_MAX)
		return error_set(err, EINVAL, "more than %d names",
			FRONT_NAME_COUNT_MAX);
	snprintf(model->name[model->name_count++], FRONT_NAME_BYTES_MAX, "%s",
		name);
	return 0;
}

static int set_names(const struct options *options, struct front_model *model,
	struct error *err)
{
	const struct option_value *alias = &options->value[OPTION_ALIAS];
	char own[FRONT_NAME_BYTES_MAX];
	const char *name = options_text(options, OPTION_NAME);
	int rc;

	if (name[0] == '\0') {
		base_name(options_text(options, OPTION_MODEL), own);
		name = own;
	}
	rc = add_name(model, name, err);
	for (uint32_t i = 0; rc == 0 && i < alias->count; i++)
		rc = add_name(model, alias->items[i], err);
	return rc;
}

/* --- the model ---------------------------------------------------------------------- */

static int parse_configs(const struct model_files *files,
	struct model_config *config, struct generation_config *generation,
	struct error *err)
{
	char *text = NULL, *more = NULL;
	size_t length = 0, more_length = 0;
	int rc = model_file_text(&files->config, &text, &length, err);

	if (rc == 0 && files->generation.fd >= 0)
		rc = model_file_text(
			&files->generation, &more, &more_length, err);
	if (rc == 0)
		rc = model_config_parse(
			text, length, "config.json", config, err);
	if (rc == 0)
		rc = generation_config_parse(more, more_length, text, length,
			config, generation, err);
	free(text);
	free(more);
	return rc;
}

static void set_model(const struct model_config *config,
	const struct generation_config *generation, struct front_model *model)
{
	_Static_assert(FRONT_EOS_COUNT_MAX >= EOS_TOKEN_COUNT_MAX, "all fit");
	model->vocab = config->vocab;
	model->position_count = config->position_count;
	model->eos_count = generation->eos_count;
	memcpy(model->eos, generation->eos, sizeof(generation->eos));
	model->temperature = generation->temperature;
	model->top_p = generation->top_p;
	model->top_k = generation->top_k;
	model->repetition_penalty = generation->repetition_penalty;
}

static int read_model(const struct options *options, struct front_model *model,
	struct error *err)
{
	const char *path = options_text(options, OPTION_MODEL);
	struct model_config *config;
	struct generation_config generation;
	struct model_files files;
	struct stat st;
	int rc = model_dir_open_config(path, &files, err);

	if (rc)
		return rc;
	config = malloc(sizeof(*config));
	rc = config ? parse_configs(&files, config, &generation, err)
		    : error_set(err, ENOMEM, "out of memory");
	if (config && rc == 0)
		set_model(config, &generation, model);
	else
		error_prefix(err, "%s", path);
	/* For clients that show how old a model is. */
	if (rc == 0 && fstat(files.config.fd, &st) == 0)
		model->created_s = (uint64_t)st.st_mtime;
	free(config);
	model_files_close(&files);
	return rc;
}

/* --- limits and keys ---------------------------------------------------------------- */

static uint32_t small(const struct options *options, enum option_id id)
{
	uint32_t value = 0;
	bool fits = u32_ok(options_number(options, id), &value);

	assert(fits); /* the table's bounds are below */
	(void)fits;
	return value;
}

static void set_limits(
	const struct options *options, struct front_limits *limits)
{
	*limits = (struct front_limits){
		.connection_count = small(options, OPTION_CONNECTIONS),
		.request_body_bytes = small(options, OPTION_BODY_BYTES),
		.header_bytes = small(options, OPTION_HEADER_BYTES),
		.header_count = small(options, OPTION_HEADER_COUNT),
		.pipelined_count = small(options, OPTION_PIPELINED),
		.prompt_list_count = small(options, OPTION_PROMPT_LIST),
		.output_default = small(options, OPTION_OUTPUT_DEFAULT),
		.header_timeout_ns =
			options_number(options, OPTION_HEADER_TIMEOUT),
		.body_timeout_ns = options_number(options, OPTION_BODY_TIMEOUT),
		.idle_timeout_ns = options_number(options, OPTION_IDLE_TIMEOUT),
		.stall_timeout_ns =
			options_number(options, OPTION_STALL_TIMEOUT),
		.request_timeout_ns =
			options_number(options, OPTION_REQUEST_TIMEOUT),
		.drain_timeout_ns =
			options_number(options, OPTION_DRAIN_TIMEOUT),
		.retry_after_ms =
			(uint32_t)(options_number(options, OPTION_RETRY_AFTER) /
				   NS_PER_MS),
	};
}

static int set_keys(const struct options *options, struct front_setup *front,
	struct error *err)
{
	front->key_count = 0;
	if (!options_is_set(options, OPTION_API_KEYS))
		return 0;
	return keys_load(options_text(options, OPTION_API_KEYS), front->keys,
		&front->key_count, err);
}

/* --- shape and devices ------------------------------------------------------------------ */

static int set_shape(const struct options *options, struct segment_shape *shape,
	struct error *err)
{
	size_t bytes;

	*shape = (struct segment_shape){
		.slot_count = small(options, OPTION_SLOTS),
		.page_count = small(options, OPTION_PAGES),
		.ring_count = small(options, OPTION_RING),
		.rank_count = options->value[OPTION_DEVICE].count,
		.front_count = small(options, OPTION_NIC_QUEUES),
	};
	if (!is_power_of_two(shape->ring_count))
		return error_set(err, EINVAL, "ring: %u is no power of two",
			shape->ring_count);
	if (segment_size(shape, &bytes))
		return error_set(err, EINVAL,
			"slots, pages, ring and devices are out of bounds");
	return 0;
}

static void set_devices(const struct options *options, struct node_setup *setup)
{
	const struct option_value *devices = &options->value[OPTION_DEVICE];

	assert(devices->count <= RANK_COUNT_MAX);
	for (uint32_t i = 0; i < devices->count; i++) {
		bool cpu = strcmp(devices->items[i], "cpu") == 0;

		setup->device[i] = cpu ? NODE_DEVICE_CPU : NODE_DEVICE_NULL;
		setup->cpu_count += cpu;
	}
}

static int check_addresses(const struct options *options, struct error *err)
{
	static const enum option_id ids[] = {OPTION_LISTEN, OPTION_ADMIN};
	uint32_t total = 0;

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		const struct option_value *list = &options->value[ids[i]];

		for (uint32_t j = 0; j < list->count; j++) {
			int rc = node_listen_check(list->items[j], err);

			if (rc) {
				error_prefix(
					err, "%s", option_spec(ids[i])->key);
				return rc;
			}
		}
		total += list->count;
	}
	if (total > FRONT_LISTENER_COUNT_MAX)
		return error_set(err, EINVAL,
			"%u addresses to listen on, at most %d", total,
			FRONT_LISTENER_COUNT_MAX);
	return 0;
}

/* --- all of it ---------------------------------------------------------------------------- */

static void set_null(const struct options *options, struct node_setup *setup)
{
	const struct front_model *model = &setup->front.model;

	_Static_assert(
		ENGINE_NULL_EOS_COUNT_MAX >= FRONT_EOS_COUNT_MAX, "all fit");
	setup->null = (struct engine_null_options){
		.step_us = small(options, OPTION_NULL_STEP_US),
		.row_count = small(options, OPTION_NULL_ROWS),
		.vocab = model->vocab,
		.position_count = model->position_count,
		.id_count = model->vocab,
		.eos_count = model->eos_count,
		.adapter_count = small(options, OPTION_ADAPTER_COUNT),
	};
	memcpy(setup->null.eos, model->eos, sizeof(model->eos));
}

/* Memory for each rank's pages, and the files that fill them. */
static int open_serve(const struct options *options, struct node_setup *setup,
	struct error *err)
{
	for (uint32_t i = 0; i < setup->shape.rank_count; i++) {
		if (setup->device[i] != NODE_DEVICE_CPU)
			continue;
		setup->memory_fd[i] = memfd_create("heddle-pages", MFD_CLOEXEC);
		if (setup->memory_fd[i] < 0)
			return error_set(err, errno,
				"cannot make a memory file: %s",
				strerror(errno));
	}
	return model_dir_open(
		options_text(options, OPTION_MODEL), &setup->files, err);
}

static int set_serve(const struct options *options, struct node_setup *setup,
	struct error *err)
{
	struct front_model *model = &setup->front.model;

	setup->serve = (struct engine_serve_options){
		.thread_count = small(options, OPTION_CPU_THREADS),
		.row_count = small(options, OPTION_CPU_ROWS),
		.sequence_count = small(options, OPTION_CPU_SEQUENCES),
		.position_count = small(options, OPTION_CONTEXT),
		.budget_percent = small(options, OPTION_STEP_BUDGET),
		.kv_type = options_number(options, OPTION_KV_TYPE) == 0
				   ? DTYPE_F32
				   : DTYPE_BF16,
		.step_max_ns = options_number(options, OPTION_STEP_MAX),
		.kv_token_count = options_number(options, OPTION_KV_TOKENS),
		.memory_fd = -1,
		.adapter_count = small(options, OPTION_ADAPTER_COUNT),
		.adapter_slot_count = small(options, OPTION_ADAPTER_SLOTS),
		.pool_bytes = options_number(options, OPTION_POOL_BYTES),
	};
	if (setup->cpu_count == 0)
		return 0;
	if (setup->serve.row_count < setup->serve.sequence_count)
		return error_set(err, EINVAL,
			"cpu-rows: %u rows are too few for cpu-sequences: %u",
			setup->serve.row_count, setup->serve.sequence_count);
	/* Whatever rank a request goes to, it fits. */
	model->position_count =
		engine_serve_positions(&setup->serve, model->position_count);
	return open_serve(options, setup, err);
}

static int open_text(const struct options *options, struct node_setup *setup,
	struct error *err)
{
	const char *path = options_text(options, OPTION_MODEL);
	int rc = text_files_open(path, &setup->text, err);

	if (rc)
		return rc;
	if (setup->text.tokenizer.fd < 0)
		return error_set(
			err, ENOENT, "%s: holds no tokenizer.json", path);
	setup->front.tokenizer_fd = setup->text.tokenizer.fd;
	setup->front.tokenizer_config_fd = setup->text.tokenizer_config.fd;
	setup->front.chat_template_fd = setup->text.chat_template.fd;
	return 0;
}

/* A loop's share holds something. */
static int check_loops(const struct segment_shape *shape,
	const struct front_setup *front, struct error *err)
{
	uint32_t loops = shape->front_count;

	/* Beside a polled port one is kept for sockets. */
	uint32_t each = front->polled ? 2 : 1;

	if (front->limits.connection_count < each * loops)
		return error_set(err, EINVAL,
			"nic-queues: %u loops share %u connections: each needs "
			"%s",
			loops, front->limits.connection_count,
			each == 1 ? "one" : "two");
	return 0;
}

static int open_all(const struct options *options, struct node_setup *setup,
	struct error *err)
{
	struct front_setup *front = &setup->front;
	int rc;

	if (!options_is_set(options, OPTION_MODEL))
		return error_set(err, EINVAL, "--model DIR is missing");
	if (options->value[OPTION_DEVICE].count > RANK_COUNT_MAX)
		return error_set(err, EINVAL, "device: %u ranks, at most %d",
			options->value[OPTION_DEVICE].count, RANK_COUNT_MAX);
	set_devices(options, setup);
	rc = set_shape(options, &setup->shape, err);
	if (rc == 0)
		rc = check_addresses(options, err);
	if (rc == 0)
		rc = set_names(options, &front->model, err);
	if (rc == 0)
		rc = read_model(options, &front->model, err);
	if (rc == 0)
		rc = set_serve(options, setup, err);
	if (rc == 0)
		rc = open_text(options, setup, err);
	if (rc == 0)
		rc = node_load_open(options, setup, err);
	if (rc == 0)
		rc = set_keys(options, front, err);
	if (rc == 0)
		rc = node_tls_open(options, front, err);
	if (rc == 0)
		rc = node_nic_open(options, front, err);
	if (rc)
		return rc;
	set_limits(options, &front->limits);
	set_null(options, setup);
	front->text_worker_count = small(options, OPTION_TEXT_WORKERS);
	rc = check_loops(&setup->shape, front, err);
	if (rc)
		return rc;
	snprintf(front->version, sizeof(front->version), "%s", HEDDLE_VERSION);
	if (getrandom(front->secret, sizeof(front->secret), 0) !=
		sizeof(front->secret))
		return error_set(err, EIO, "no random numbers");
	return 0;
}

int node_setup_open(const struct options *options, struct node_setup *out,
	struct error *err)
{
	static const struct model_file absent = {.fd = -1};
	int rc;

	memset(out, 0, sizeof(*out));
	out->text = (struct text_files){absent, absent, absent};
	out->front.certificate_fd = out->front.certificate_key_fd = -1;
	model_files_init(&out->files);
	for (uint32_t i = 0; i < RANK_COUNT_MAX; i++)
		out->memory_fd[i] = -1;
	rc = node_user_open(options, out, err);
	if (rc == 0)
		rc = open_all(options, out, err);
	if (rc)
		node_setup_close(out);
	return rc;
}

static int listen_on(struct node_setup *setup, const struct option_value *list,
	enum front_service service, struct error *err)
{
	struct front_setup *front = &setup->front;

	for (uint32_t i = 0; i < list->count; i++) {
		uint32_t at = front->listener_count;
		struct front_listener *listener = &front->listeners[at];
		bool polled = front->polled && service == FRONT_API;
		int rc;

		listener->fd = -1;
		rc = polled ? node_nic_listen(front, list->items[i],
				      &listener->tcp_port, setup->address[at],
				      err)
			    : node_listen(list->items[i], &listener->fd,
				      setup->address[at], err);
		if (rc)
			return rc;
		listener->service = service;
		listener->tls =
			service == FRONT_API && front->certificate_fd >= 0;
		front->listener_count++;
	}
	return 0;
}

int node_setup_listen(struct node_setup *setup, const struct options *options,
	struct error *err)
{
	int rc = listen_on(
		setup, &options->value[OPTION_LISTEN], FRONT_API, err);

	return rc ? rc
		  : listen_on(setup, &options->value[OPTION_ADMIN], FRONT_ADMIN,
			    err);
}

void node_setup_close_listeners(struct node_setup *setup)
{
	struct front_setup *front = &setup->front;

	while (front->listener_count > 0) {
		int fd = front->listeners[--front->listener_count].fd;

		if (fd >= 0)
			close(fd);
	}
}

int node_setup_reload(struct node_setup *setup, const struct options *options,
	struct error *err)
{
	struct front_setup *fresh = malloc(sizeof(*fresh));
	int rc;

	if (!fresh)
		return error_set(err, ENOMEM, "out of memory");
	*fresh = setup->front;
	rc = node_tls_open(options, fresh, err);
	/* The listeners were made with or without it. */
	if (rc == 0 && (fresh->certificate_fd < 0) !=
			       (setup->front.certificate_fd < 0))
		rc = error_set(err, EINVAL,
			"tls-certificate: TLS begins or ends with a restart");
	if (rc == 0)
		rc = set_keys(options, fresh, err);
	set_limits(options, &fresh->limits);
	/* The arrays were made for these. */
	fresh->limits.connection_count = setup->front.limits.connection_count;
	fresh->limits.pipelined_count = setup->front.limits.pipelined_count;
	if (rc == 0) {
		node_tls_close(&setup->front);
		setup->front = *fresh;
	} else {
		node_tls_close(fresh);
	}
	free(fresh);
	return rc;
}

void node_setup_close(struct node_setup *setup)
{
	node_setup_close_listeners(setup);
	text_files_close(&setup->text);
	node_tls_close(&setup->front);
	model_files_close(&setup->files);
	node_load_close(setup);
	for (uint32_t i = 0; i < RANK_COUNT_MAX; i++)
		if (setup->memory_fd[i] >= 0)
			close(setup->memory_fd[i]);
}
