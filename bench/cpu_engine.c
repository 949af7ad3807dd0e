/* cpu_engine.c - our engine under the stop-watch (directory -> times) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ticks.h"
#include "bench/cpu_engine.h"
#include "control/model_dir.h"

#define PROBE_ROWS 64 /* steps in which every row may be sampled */

static int load(struct cpu_engine *engine, struct error *err)
{
	const struct cpu_engine_config *config = &engine->config;
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_options options = {
		.layout = cpu_isa_layout(config->isa),
		.thread_count = config->thread_count,
		.kv_type = DTYPE_BF16,
		.kv_token_count = (uint64_t)CPU_SEQUENCE_COUNT_MAX *
				  (config->token_count + KV_BLOCK_TOKENS_MAX),
	};
	struct model_files files;
	int rc;

	rc = vmm_host_init(&engine->vmm, &host, err);
	if (rc)
		return rc;
	rc = model_dir_open(config->directory, &files, err);
	if (rc)
		return rc;
	rc = model_load(&engine->vmm, &files, &options, &engine->model, err);
	model_files_close(&files);
	return rc;
}

static int make_sequences(struct cpu_engine *engine, uint32_t stride)
{
	for (uint32_t i = 0; i < CPU_SEQUENCE_COUNT_MAX; i++) {
		struct cpu_sequence *s = &engine->sequences[i];

		s->blocks = calloc(stride, sizeof(*s->blocks));
		s->pages = calloc(stride, sizeof(*s->pages));
		if (!s->blocks || !s->pages)
			return -ENOMEM;
	}
	return 0;
}

static int start(struct cpu_engine *engine, struct error *err)
{
	const struct cpu_engine_config *config = &engine->config;
	const struct kv_layout *layout = kv_store_layout(engine->model->kv);
	struct step_capacity capacity = {
		.row_count = config->row_count,
		.sequence_count = CPU_SEQUENCE_COUNT_MAX,
		.sample_count = PROBE_ROWS,
	};
	struct ops_limits limits;
	int rc;

	capacity.table_stride = kv_layout_blocks(layout, config->token_count) *
				layout->pages_per_block;
	forward_ops_limits(&engine->model->config, &capacity, &limits);
	rc = ops_create_cpu(config->isa, &limits, config->thread_count,
		config->cores, &engine->ops);
	if (rc)
		return error_set(err, -rc, "starting %u threads failed: %s",
			config->thread_count, strerror(-rc));
	counted_ops_init(&engine->counted, &engine->ops);
	rc = forward_create(engine->model, &engine->counted.outer, &capacity,
		&engine->forward, err);
	if (rc)
		return rc;
	forward_time(engine->forward, &engine->times);
	if (make_sequences(engine, capacity.table_stride) ||
		step_init(&engine->step, &capacity))
		return error_set(err, ENOMEM, "no memory for a step");
	return 0;
}

int cpu_engine_open(struct cpu_engine *engine, const struct cpu_model *model,
	const struct cpu_engine_config *config, struct error *err)
{
	int rc;

	*engine = (struct cpu_engine){.config = *config, .model_shape = model};
	rc = load(engine, err);
	if (rc == 0)
		rc = start(engine, err);
	if (rc)
		cpu_engine_close(engine);
	return rc;
}

void cpu_engine_close(struct cpu_engine *engine)
{
	cpu_engine_reset(engine);
	for (uint32_t i = 0; i < CPU_SEQUENCE_COUNT_MAX; i++) {
		free(engine->sequences[i].blocks);
		free(engine->sequences[i].pages);
	}
	step_release(&engine->step);
	forward_destroy(engine->forward);
	if (engine->ops.table)
		engine->ops.table->destroy(&engine->ops);
	model_destroy(engine->model);
	vmm_host_destroy(&engine->vmm);
	*engine = (struct cpu_engine){0};
}

void cpu_engine_reset(struct cpu_engine *engine)
{
	for (uint32_t i = 0; i < CPU_SEQUENCE_COUNT_MAX; i++) {
		struct cpu_sequence *s = &engine->sequences[i];

		while (s->block_count > 0)
			kv_block_put(
				engine->model->kv, s->blocks[--s->block_count]);
		s->done = 0;
	}
}

static int grow(
	struct cpu_engine *engine, struct cpu_sequence *s, uint32_t tokens)
{
	struct kv_store *kv = engine->model->kv;
	const struct kv_layout *layout = kv_store_layout(kv);

	while (s->block_count < kv_layout_blocks(layout, tokens)) {
		uint32_t at = s->block_count;
		int rc = kv_block_take(kv, &s->blocks[at],
			s->pages + (size_t)at * layout->pages_per_block);

		if (rc)
			return rc;
		s->block_count++;
	}
	return 0;
}

static int add_rows(struct cpu_engine *engine, uint32_t index, uint32_t rows,
	bool all_logits)
{
	const struct kv_layout *layout = kv_store_layout(engine->model->kv);
	struct cpu_sequence *s = &engine->sequences[index];
	struct sample_params greedy = {.top_p = 1, .repetition_penalty = 1};
	uint32_t sequence;

	assert(s->done + rows <= engine->config.token_count);
	if (grow(engine, s, s->done + rows))
		return -ENOMEM;
	sequence = step_add_sequence(&engine->step, s->pages,
		s->block_count * layout->pages_per_block);
	for (uint32_t i = 0; i < rows; i++, s->done++) {
		uint32_t token =
			cpu_model_token(engine->model_shape, index, s->done);
		uint32_t row = step_add_row(
			&engine->step, token, s->done, sequence, INSTANCE_BASE);

		greedy.position = s->done + 1;
		if (all_logits || i + 1 == rows)
			step_add_sample(&engine->step, row, &greedy);
	}
	return 0;
}

int cpu_engine_step(struct cpu_engine *engine, uint32_t sequences,
	uint32_t rows, bool all_logits, struct cpu_step_cost *out,
	struct error *err)
{
	uint64_t ticks, inside;
	struct mono begin;
	int rc;

	assert(!all_logits || sequences * rows <= PROBE_ROWS);
	step_clear(&engine->step, 0, 0);
	for (uint32_t i = 0; i < sequences; i++)
		if (add_rows(engine, i, rows, all_logits))
			return error_set(err, ENOMEM, "no KV block is left");
	engine->counted.expert_count = 0;
	engine->times = (struct program_times){0};
	begin = mono_now();
	ticks = ticks_now();
	rc = forward_run(engine->forward, &engine->step, err);
	ticks = ticks_now() - ticks;
	out->ns = mono_diff(mono_now(), begin);
	inside = engine->times.inside_ticks;
	out->host_ns = (uint64_t)((double)out->ns * (double)(ticks - inside) /
				  (double)ticks);
	out->expert_count = engine->counted.expert_count;
	return rc;
}

const float *cpu_engine_logits(const struct cpu_engine *engine)
{
	return forward_logits(engine->forward);
}
