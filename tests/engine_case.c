/* engine_case.c - a whole engine for tests: directory -> steps -> logits */
/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/model_dir.h"
#include "tests/engine_case.h"
#include "tests/suite.h"

/* A failed call ends the test with its text. */
static void must(int rc, const struct error *err)
{
	if (rc)
		printf("error %d: %s; ", rc, err->text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void open_model(struct engine_case *c)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_options options = {
		.layout = cpu_isa_layout(c->config.isa),
		.thread_count = c->config.thread_count,
		.kv_type = c->config.kv_type,
		.page_size_bytes = PAGE_SIZE_BYTES_MIN,
		.instance_count_max = c->config.instance_count,
		.adapter_slot_count_max = c->config.adapter_slot_count,
		.adapter_page_count = c->config.adapter_page_count,
	};
	struct model_files files;
	struct error err = {0};

	/* Room for every sequence's last, partly filled block. */
	options.kv_token_count = (uint64_t)c->config.sequence_count *
				 (c->config.token_count + KV_BLOCK_TOKENS_MAX);
	must(vmm_host_init(&c->vmm, &host, &err), &err);
	must(model_dir_open(c->config.directory, &files, &err), &err);
	must(model_load(&c->vmm, &files, &options, &c->model, &err), &err);
	model_files_close(&files);
}

void engine_case_open(
	struct engine_case *c, const struct engine_case_config *config)
{
	struct step_capacity capacity = {
		.row_count = config->row_count,
		.sequence_count = config->sequence_count,
		.sample_count = config->row_count,
	};
	const struct kv_layout *layout;
	struct ops_limits limits;
	struct error err = {0};

	*c = (struct engine_case){.config = *config};
	open_model(c);
	layout = kv_store_layout(c->model->kv);
	capacity.table_stride = kv_layout_blocks(layout, config->token_count) *
				layout->pages_per_block;
	forward_ops_limits(&c->model->config, &capacity, &limits);
	must(ops_create_cpu(
		     config->isa, &limits, config->thread_count, NULL, &c->ops),
		&err);
	must(forward_create(c->model, &c->ops, &capacity, &c->forward, &err),
		&err);
	must(step_init(&c->step, &capacity), &err);
	step_clear(&c->step, 0, 0);
}

void engine_case_close(struct engine_case *c)
{
	step_release(&c->step);
	forward_destroy(c->forward);
	c->ops.table->destroy(&c->ops);
	CU_ASSERT_EQUAL(kv_store_used(c->model->kv), 0);
	page_pool_check(c->model->pool);
	expert_store_check(c->model->experts);
	kv_store_check(c->model->kv);
	model_destroy(c->model);
	vmm_host_destroy(&c->vmm);
}

void engine_sequence_open(struct engine_case *c, struct engine_sequence *s,
	const uint32_t *ids, uint32_t count)
{
	const struct kv_layout *layout = kv_store_layout(c->model->kv);
	uint32_t blocks = kv_layout_blocks(layout, count);

	CU_ASSERT_FATAL(count <= c->config.token_count);
	*s = (struct engine_sequence){.ids = ids, .count = count};
	s->blocks = suite_calloc(blocks, sizeof(*s->blocks));
	s->pages = suite_calloc(
		(size_t)blocks * layout->pages_per_block, sizeof(*s->pages));
}

void engine_sequence_evict(struct engine_case *c, struct engine_sequence *s)
{
	while (s->block_count > 0)
		kv_block_put(c->model->kv, s->blocks[--s->block_count]);
	s->done = 0;
}

void engine_sequence_close(struct engine_case *c, struct engine_sequence *s)
{
	engine_sequence_evict(c, s);
	free(s->blocks);
	free(s->pages);
	*s = (struct engine_sequence){0};
}

uint32_t engine_sequence_step(struct engine_case *c, struct engine_sequence *s,
	uint32_t count, uint32_t top_count)
{
	const struct kv_layout *layout = kv_store_layout(c->model->kv);
	uint32_t need = kv_layout_blocks(layout, s->done + count);
	uint32_t first = c->step.sample_count, sequence;
	struct sample_params params = {
		.top_p = 1,
		.repetition_penalty = 1,
		.top_count = top_count,
	};

	CU_ASSERT_FATAL(s->done + count <= s->count);
	while (s->block_count < need) {
		uint32_t at = s->block_count;
		int rc = kv_block_take(c->model->kv, &s->blocks[at],
			s->pages + (size_t)at * layout->pages_per_block);

		CU_ASSERT_EQUAL_FATAL(rc, 0);
		s->block_count++;
	}
	sequence = step_add_sequence(
		&c->step, s->pages, s->block_count * layout->pages_per_block);
	for (uint32_t i = 0; i < count; i++, s->done++) {
		uint32_t row = step_add_row(&c->step, s->ids[s->done], s->done,
			sequence, s->instance);

		params.position = s->done + 1;
		step_add_sample(&c->step, row, &params);
	}
	return first;
}

void engine_case_run(struct engine_case *c)
{
	struct error err = {0};

	must(forward_run(c->forward, &c->step, &err), &err);
}

const float *engine_case_logits(const struct engine_case *c, uint32_t index)
{
	return forward_logits(c->forward) +
	       (size_t)index * c->model->config.vocab;
}

static uint32_t *take_ids(const json_t *array, uint32_t *out_count)
{
	uint32_t count = (uint32_t)json_array_size(array);
	uint32_t *ids = suite_calloc(count, sizeof(*ids));

	for (uint32_t i = 0; i < count; i++)
		ids[i] = (uint32_t)json_integer_value(json_array_get(array, i));
	*out_count = count;
	return ids;
}

static double *take_numbers(const json_t *array)
{
	size_t count = json_array_size(array);
	double *numbers = suite_calloc(count, sizeof(*numbers));

	for (size_t i = 0; i < count; i++)
		numbers[i] = json_number_value(json_array_get(array, i));
	return numbers;
}

static void take_line(const json_t *root, struct golden_line *line)
{
	line->ids = take_ids(json_object_get(root, "ids"), &line->count);
	line->logprobs = take_numbers(json_object_get(root, "logprobs"));
	line->margins = take_numbers(json_object_get(root, "margin"));
	line->out = take_ids(json_object_get(root, "out"), &line->out_count);
	line->gaps = take_numbers(json_object_get(root, "gap"));
}

void golden_open(
	struct golden_file *file, const char *directory, const char *name)
{
	char path[512], *text = NULL;
	size_t room = 0;
	FILE *stream;

	*file = (struct golden_file){0};
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	stream = fopen(path, "re");
	CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
	while (getline(&text, &room, stream) > 0) {
		json_t *root = json_loads(text, 0, NULL);
		struct golden_line *lines = reallocarray(
			file->lines, file->count + 1, sizeof(*lines));

		CU_ASSERT_FATAL(root && lines);
		file->lines = lines;
		take_line(root, &lines[file->count++]);
		json_decref(root);
	}
	free(text);
	fclose(stream);
	CU_ASSERT_FATAL(file->count > 0);
}

void golden_close(struct golden_file *file)
{
	for (uint32_t i = 0; i < file->count; i++) {
		free(file->lines[i].ids);
		free(file->lines[i].logprobs);
		free(file->lines[i].margins);
		free(file->lines[i].out);
		free(file->lines[i].gaps);
	}
	free(file->lines);
}
