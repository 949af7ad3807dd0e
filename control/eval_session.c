/* eval_session.c - a loaded model and one sequence (directory -> steps) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/eval.h"
#include "control/model_dir.h"

int eval_read_config(const char *model, struct model_config *config,
	struct generation_config *generation, struct error *err)
{
	struct model_files files;
	int rc = model_dir_open(model, &files, err);

	if (rc)
		return rc;
	rc = model_read_config(&files, config, generation, err);
	if (rc)
		error_prefix(err, "%s", model);
	model_files_close(&files);
	return rc;
}

static void show_progress(void *arg, uint64_t done, uint64_t total)
{
	struct mono *last = arg;
	struct mono now = mono_now();

	if (done < total && mono_diff(now, *last) < NS_PER_S / 5)
		return;
	*last = now;
	fprintf(stderr, "\rloading %3.0f %% of %.2f GB%s",
		total ? 100.0 * (double)done / (double)total : 100.0,
		(double)total / 1e9, done < total ? "" : "\n");
}

static uint32_t thread_count(const struct eval_options *options)
{
	cpu_set_t set;

	if (options->cores.count)
		return options->cores.count;
	if (options->thread_count)
		return options->thread_count;
	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return (uint32_t)CPU_COUNT(&set);
}

static int load(struct eval_session *session,
	const struct eval_options *options, uint32_t token_max,
	struct error *err)
{
	struct mono shown = {0};
	struct model_files files;
	struct model_options load_options = {
		.layout = cpu_isa_layout(session->isa),
		.thread_count = thread_count(options),
		.page_size_bytes = options->page_size_bytes,
		.kv_type = options->kv_type,
		.kv_token_count = token_max,
	};
	int rc;

	if (isatty(STDERR_FILENO)) {
		load_options.progress = show_progress;
		load_options.progress_arg = &shown;
	}
	rc = model_dir_open(options->model, &files, err);
	if (rc)
		return rc;
	rc = eval_adapters_measure(options, &files, &load_options, err);
	if (rc) {
		model_files_close(&files);
		return rc;
	}
	rc = model_load(
		&session->vmm, &files, &load_options, &session->model, err);
	if (rc)
		error_prefix(err, "%s", options->model);
	model_files_close(&files);
	return rc ? rc
		  : eval_adapters_open(
			    options, session, load_options.thread_count, err);
}

static int open_engine(struct eval_session *session,
	const struct eval_options *options, uint32_t token_max,
	struct error *err)
{
	const struct kv_layout *layout = kv_store_layout(session->model->kv);
	struct step_capacity capacity = {
		.row_count = options->chunk_rows,
		.sequence_count = 1,
		.sample_count = options->chunk_rows,
	};
	struct ops_limits limits;
	uint32_t threads = thread_count(options);
	int rc;

	session->block_max = kv_layout_blocks(layout, token_max);
	capacity.table_stride = session->block_max * layout->pages_per_block;
	forward_ops_limits(&session->model->config, &capacity, &limits);
	rc = ops_create_cpu(session->isa, &limits, threads,
		options->cores.count ? options->cores.core : NULL,
		&session->ops);
	if (rc)
		return error_set(err, -rc,
			"starting %u compute threads "
			"failed: %s",
			threads, strerror(-rc));
	rc = forward_create(session->model, &session->ops, &capacity,
		&session->forward, err);
	if (rc)
		return rc;
	session->blocks = calloc(session->block_max, sizeof(uint32_t));
	session->pages = calloc(capacity.table_stride, sizeof(uint32_t));
	if (!session->blocks || !session->pages ||
		step_init(&session->step, &capacity))
		return error_set(err, ENOMEM,
			"no memory for a step of %u "
			"rows",
			capacity.row_count);
	return 0;
}

int eval_session_open(const struct eval_options *options, uint32_t token_max,
	struct eval_session *out, struct error *err)
{
	int rc;

	*out = (struct eval_session){0};
	rc = cpu_isa_choose(&out->isa, err);
	if (rc)
		return rc;
	rc = vmm_host_init(&out->vmm,
		&(struct vmm_host_config){
			.granularity_bytes = PAGE_SIZE_BYTES_MIN},
		err);
	if (rc)
		return rc;
	rc = load(out, options, token_max, err);
	if (rc == 0)
		rc = open_engine(out, options, token_max, err);
	if (rc)
		eval_session_close(out);
	return rc;
}

void eval_session_close(struct eval_session *session)
{
	eval_session_reset(session);
	step_release(&session->step);
	free(session->pages);
	free(session->blocks);
	forward_destroy(session->forward);
	eval_adapters_close(session);
	if (session->ops.table)
		session->ops.table->destroy(&session->ops);
	model_destroy(session->model);
	vmm_host_destroy(&session->vmm);
	*session = (struct eval_session){0};
}

int eval_session_grow(
	struct eval_session *session, uint32_t token_count, struct error *err)
{
	struct kv_store *kv = session->model->kv;
	const struct kv_layout *layout = kv_store_layout(kv);
	uint32_t need = kv_layout_blocks(layout, token_count);

	while (session->block_count < need) {
		uint32_t at = session->block_count;
		int rc;

		assert(at < session->block_max);
		rc = kv_block_take(kv, &session->blocks[at],
			session->pages + (size_t)at * layout->pages_per_block);
		if (rc)
			return error_set(err, -rc, "no KV block for token %u",
				at * layout->block_tokens);
		session->block_count++;
	}
	return 0;
}

void eval_session_reset(struct eval_session *session)
{
	while (session->block_count > 0)
		kv_block_put(session->model->kv,
			session->blocks[--session->block_count]);
}

void eval_session_fill(struct eval_session *session, const uint32_t *ids,
	uint32_t first, uint32_t count)
{
	const struct kv_layout *layout = kv_store_layout(session->model->kv);
	struct step *step = &session->step;
	uint32_t sequence;

	step_clear(step, 0, 0);
	sequence = step_add_sequence(step, session->pages,
		session->block_count * layout->pages_per_block);
	for (uint32_t i = 0; i < count; i++)
		step_add_row(step, ids[first + i], first + i, sequence,
			session->instance);
}

void eval_print_number(double value)
{
	if (isfinite(value))
		printf("%.9g", value);
	else
		fputs("null", stdout);
}

void eval_print_top(const struct sample_result *result)
{
	putchar('[');
	for (uint32_t i = 0; i < result->top_count; i++) {
		printf("%s[%u,", i ? "," : "", result->top_token[i]);
		eval_print_number((double)result->top_logprob[i]);
		putchar(']');
	}
	putchar(']');
}

static int take_ids(const json_t *array, const char *where, uint32_t vocab,
	uint32_t *ids, struct error *err)
{
	const json_t *value;
	size_t i;

	json_array_foreach(array, i, value)
	{
		json_int_t id = json_integer_value(value);

		if (!json_is_integer(value))
			return error_set(err, EINVAL,
				"%s: entry %zu of the "
				"ids is no whole number",
				where, i);
		if (id < 0 || id >= (json_int_t)vocab)
			return error_set(err, EINVAL,
				"%s: entry %zu of the "
				"ids is %" JSON_INTEGER_FORMAT ", but the "
				"vocabulary has %u",
				where, i, id, vocab);
		ids[i] = (uint32_t)id;
	}
	return 0;
}

/* The array itself, or the object's member "ids"; NULL = neither. */
static const json_t *find_ids(const json_t *root)
{
	const json_t *array =
		json_is_object(root) ? json_object_get(root, "ids") : root;

	return json_is_array(array) && json_array_size(array) > 0 ? array
								  : NULL;
}

static int copy_ids(const json_t *root, const char *where, uint32_t vocab,
	struct token_list *out, struct error *err)
{
	const json_t *array = find_ids(root);
	uint32_t *ids;
	int rc;

	if (!array)
		return error_set(err, EINVAL,
			"%s: no \"ids\": a list of at least one token id is "
			"needed",
			where);
	if (json_array_size(array) > MODEL_POSITION_COUNT_MAX)
		return error_set(err, EINVAL, "%s: %zu ids are too many", where,
			json_array_size(array));
	ids = calloc(json_array_size(array), sizeof(*ids));
	if (!ids)
		return error_set(
			err, ENOMEM, "%s: no memory for the ids", where);
	rc = take_ids(array, where, vocab, ids, err);
	if (rc) {
		free(ids);
		return rc;
	}
	*out = (struct token_list){ids, (uint32_t)json_array_size(array)};
	return 0;
}

int eval_parse_ids(const char *text, size_t length, const char *where,
	uint32_t vocab, struct token_list *out, struct error *err)
{
	json_error_t at;
	json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &at);
	int rc;

	if (!root)
		return error_set(err, EINVAL, "%s: column %d: %s", where,
			at.column, at.text);
	rc = copy_ids(root, where, vocab, out, err);
	json_decref(root);
	return rc;
}
