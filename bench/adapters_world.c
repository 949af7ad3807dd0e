/* adapters_world.c - engines with and without adapters, on one base */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/adapters_world.h"
#include "control/model_dir.h"
#include "engine/names.h"
#include "gpu/cpu/cpu.h"
#include "tests/st_builder.h"

#define SLOT_WORDS ((EXPERT_SLOT_COUNT_MAX + 1) / 64)
#define INSTANCES (WORLD_ADAPTERS + 4)

/* A step of some milliseconds, most of which is reading experts. */
static const struct cpu_model large = {.hidden = 1024,
	.layers = 3,
	.vocab = 2048,
	.heads = 8,
	.kv_heads = 2,
	.head_dim = 64,
	.experts = 32,
	.topk = 2,
	.inter = 128,
	.seed = 9};

static const struct cpu_model small = {.hidden = 128,
	.layers = 2,
	.vocab = 256,
	.heads = 4,
	.kv_heads = 2,
	.head_dim = 32,
	.experts = 16,
	.topk = 2,
	.inter = 32,
	.seed = 9};

/* ---- the adapters' files ---- */

/* Values of about the size of the base's own. */
static void fill_values(uint16_t *values, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t mixed = (uint32_t)i * 2654435761u;

		values[i] = (uint16_t)(0x3c80 | (mixed >> 25) |
				       (mixed >> 9 & 0x8000));
	}
}

/* What was written to memory, into a file of the directory. */
static int write_file(
	const char *directory, const char *name, int fd, struct error *err)
{
	char path[512];
	uint64_t left = st_fd_size(fd);
	int out, rc = 0;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	while (out >= 0 && rc == 0 && left > 0) {
		ssize_t done = sendfile(out, fd, NULL, left);

		if (done <= 0)
			rc = -EIO;
		else
			left -= (uint64_t)done;
	}
	close(fd);
	if (out < 0 || fsync(out) || close(out) || rc)
		return error_set(err, EIO, "%s: writing failed", path);
	return 0;
}

static void add_expert(
	const struct world *w, struct st_builder *file, uint32_t l, uint32_t e)
{
	static const enum tensor_role roles[] = {
		ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN};
	const uint64_t wide[] = {w->shape.inter, w->shape.hidden};
	const uint64_t tall[] = {w->shape.hidden, w->shape.inter};
	char name[SAFETENSORS_NAME_BYTES_MAX];

	for (int p = 0; p < ADAPTER_PART_COUNT; p++) {
		name_format_adapter(&w->with.model->config, roles[p], l, e,
			name, sizeof(name));
		st_add(file, name, "BF16", 2, p == ADAPTER_DOWN ? tall : wide)
			->data = w->values;
	}
}

static int make_files(struct world *w, const char *name, uint32_t tuned,
	struct adapter_files *files, uint64_t *out_bytes, struct error *err)
{
	struct st_builder file;
	char directory[400], *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	int rc;

	snprintf(directory, sizeof(directory), "%s/%s", w->config.directory,
		name);
	if (!out || (mkdir(directory, 0777) && errno != EEXIST))
		return error_set(
			err, errno, "%s: %s", directory, strerror(errno));
	st_init(&file);
	fputs("{\"experts\": {", out);
	for (uint32_t l = 0; l < w->shape.layers; l++) {
		fprintf(out, "%s\"%u\": [", l > 0 ? ", " : "", l);
		for (uint32_t i = 0; i < tuned; i++) {
			uint32_t e = i * w->shape.experts / tuned;

			fprintf(out, "%s%u", i > 0 ? ", " : "", e);
			add_expert(w, &file, l, e);
		}
		fputs("]", out);
	}
	fputs("}, \"shared_experts\": false, \"non_expert_modules\": false}",
		out);
	fclose(out);
	st_layout(&file);
	*out_bytes = st_data_bytes(&file);
	rc = write_file(
		directory, "expert_cfg.json", st_memfd_bytes(text, size), err);
	if (rc == 0)
		rc = write_file(
			directory, "model.safetensors", st_memfd(&file), err);
	st_release(&file);
	free(text);
	return rc ? rc : adapter_dir_open(directory, files, err);
}

static int make_adapters(struct world *w, struct error *err)
{
	size_t count = (size_t)w->shape.hidden * w->shape.inter;
	int rc;

	w->values = malloc(count * sizeof(*w->values));
	if (!w->values)
		return error_set(err, ENOMEM, "no memory for a matrix");
	fill_values(w->values, count);
	rc = make_files(w, "some", w->tuned, &w->files, &w->file_bytes, err);
	return rc ? rc
		  : make_files(w, "whole", w->shape.experts, &w->whole,
			    &w->whole_bytes, err);
}

/* ---- engines ---- */

static void count_experts(
	struct world_ops *counting, const struct moe_args *args)
{
	uint64_t seen[SLOT_WORDS] = {0};

	for (size_t i = 0; i < (size_t)args->rows.count * args->topk; i++) {
		uint64_t bit = UINT64_C(1) << args->slot[i] % 64;

		counting->expert_count += !(seen[args->slot[i] / 64] & bit);
		seen[args->slot[i] / 64] |= bit;
	}
}

static int counted_moe(struct ops *ops, const struct moe_args *args)
{
	struct world_ops *counting = (struct world_ops *)ops;

	count_experts(counting, args);
	return counting->inner.table->moe(&counting->inner, args);
}

static int load_model(struct world *w, struct world_engine *engine,
	enum cpu_isa isa, struct error *err)
{
	uint32_t experts = w->shape.layers *
			   (WORLD_ADAPTERS * w->tuned + w->shape.experts);
	const struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN,
		.adopts = true,
		.descriptor = w->memory_fd,
		.head_bytes = PAGE_SIZE_BYTES_MIN,
	};
	const struct model_options options = {
		.layout = cpu_isa_layout(isa),
		/* As a model of some GB has them. */
		.page_size_bytes = w->config.small ? 0 : (size_t)2 << 20,
		.kv_type = DTYPE_BF16,
		.kv_token_count = (uint64_t)WORLD_ROWS *
				  (w->context + 1 + KV_BLOCK_TOKENS_MAX),
		.adapter_expert_count = experts,
		.adapter_run_count = INSTANCES, /* a tail for each */
		.instance_count_max = INSTANCES,
		.adapter_slot_count_max =
			WORLD_ADAPTERS * w->tuned + w->shape.experts,
		.keep = &w->keep,
	};
	struct model_files files;
	int rc = vmm_host_init(&engine->vmm, &host, err);

	if (rc == 0)
		rc = model_dir_open(w->config.directory, &files, err);
	if (rc)
		return rc;
	rc = model_load(&engine->vmm, &files, &options, &engine->model, err);
	model_files_close(&files);
	return rc ? rc : adapter_set_create(engine->model, &engine->set, err);
}

static int open_ops(struct world *w, enum cpu_isa isa,
	const struct step_capacity *capacity, struct error *err)
{
	struct ops_limits limits;
	int rc;

	forward_ops_limits(&w->with.model->config, capacity, &limits);
	rc = ops_create_cpu(
		isa, &limits, w->config.thread_count, NULL, &w->ops.inner);
	if (rc)
		return error_set(err, -rc, "starting %u threads failed: %s",
			w->config.thread_count, strerror(-rc));
	w->ops.table = *w->ops.inner.table;
	w->ops.table.moe = counted_moe;
	w->ops.ops = (struct ops){&w->ops.table, w->ops.inner.context};
	return 0;
}

static uint32_t token_of(const struct world *w, uint32_t sequence,
	uint32_t position, uint32_t variant)
{
	return cpu_model_token(
		&w->shape, sequence + WORLD_ROWS * variant, position);
}

/* The prompt of one sequence, in a step of its own. */
static int read_prompt(struct world *w, struct world_engine *engine,
	uint32_t index, struct error *err)
{
	const struct kv_layout *layout = kv_store_layout(engine->model->kv);
	struct world_sequence *s = &engine->sequences[index];
	uint32_t blocks = kv_layout_blocks(layout, w->context + 1);
	uint32_t at;

	s->blocks = calloc(blocks, sizeof(*s->blocks));
	s->pages = calloc(
		(size_t)blocks * layout->pages_per_block, sizeof(*s->pages));
	if (!s->blocks || !s->pages)
		return error_set(err, ENOMEM, "no memory for a sequence");
	for (; s->block_count < blocks; s->block_count++)
		if (kv_block_take(engine->model->kv, &s->blocks[s->block_count],
			    s->pages + (size_t)s->block_count *
					       layout->pages_per_block))
			return error_set(err, ENOMEM, "no KV block is left");
	step_clear(&w->step, 0, 0);
	at = step_add_sequence(
		&w->step, s->pages, blocks * layout->pages_per_block);
	for (uint32_t i = 0; i < w->context; i++)
		step_add_row(&w->step, token_of(w, index, i, 0), i, at,
			INSTANCE_BASE);
	return forward_run(engine->forward, &w->step, err);
}

static int start_engine(struct world *w, struct world_engine *engine,
	const struct step_capacity *capacity, struct error *err)
{
	int rc = forward_create(
		engine->model, &w->ops.ops, capacity, &engine->forward, err);

	for (uint32_t i = 0; rc == 0 && i < WORLD_ROWS; i++)
		rc = read_prompt(w, engine, i, err);
	return rc;
}

static int open_engines(struct world *w, enum cpu_isa isa, struct error *err)
{
	struct step_capacity capacity = {
		.row_count = w->context > WORLD_ROWS ? w->context : WORLD_ROWS,
		.sequence_count = WORLD_ROWS,
		.sample_count = WORLD_ROWS,
	};
	const struct kv_layout *layout;
	int rc = load_model(w, &w->with, isa, err);

	if (rc == 0)
		rc = load_model(w, &w->without, isa, err);
	if (rc == 0)
		rc = open_ops(w, isa, &capacity, err);
	if (rc)
		return rc;
	assert(w->without.model->was_kept);
	layout = kv_store_layout(w->with.model->kv);
	capacity.table_stride = kv_layout_blocks(layout, w->context + 1) *
				layout->pages_per_block;
	if (step_init(&w->step, &capacity))
		return error_set(err, ENOMEM, "no memory for a step");
	rc = start_engine(w, &w->with, &capacity, err);
	return rc ? rc : start_engine(w, &w->without, &capacity, err);
}

int world_open(
	struct world *w, const struct world_config *config, struct error *err)
{
	enum cpu_isa isa;
	int rc;

	*w = (struct world){.config = *config, .memory_fd = -1};
	w->shape = config->small ? small : large;
	w->tuned = w->shape.experts * 3 / 16;
	w->context = config->small ? 24 : 256;
	adapter_files_init(&w->files);
	adapter_files_init(&w->whole);
	w->memory_fd = memfd_create("bench-pages", MFD_CLOEXEC);
	if (w->memory_fd < 0)
		return error_set(err, errno, "memfd: %s", strerror(errno));
	rc = cpu_isa_choose(&isa, err);
	if (rc == 0)
		rc = cpu_model_write(&w->shape, config->directory, err);
	if (rc == 0)
		rc = open_engines(w, isa, err);
	return rc ? rc : make_adapters(w, err);
}

static void close_engine(struct world_engine *engine)
{
	for (uint32_t i = 0; i < WORLD_ROWS; i++) {
		struct world_sequence *s = &engine->sequences[i];

		while (s->block_count > 0)
			kv_block_put(
				engine->model->kv, s->blocks[--s->block_count]);
		free(s->blocks);
		free(s->pages);
	}
	forward_destroy(engine->forward);
	adapter_set_destroy(engine->set);
	model_destroy(engine->model);
	vmm_host_destroy(&engine->vmm);
}

void world_close(struct world *w)
{
	close_engine(&w->with);
	close_engine(&w->without);
	step_release(&w->step);
	if (w->ops.inner.table)
		w->ops.inner.table->destroy(&w->ops.inner);
	adapter_files_close(&w->files);
	adapter_files_close(&w->whole);
	free(w->values);
	if (w->memory_fd >= 0)
		close(w->memory_fd);
}

/* ---- adapters ---- */

static void name_of(uint32_t adapter, char out[ADAPTER_NAME_BYTES])
{
	snprintf(out, ADAPTER_NAME_BYTES, "adapter-%u", adapter);
}

int world_load(struct world *w, struct error *err)
{
	char name[ADAPTER_NAME_BYTES];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < WORLD_ADAPTERS; i++) {
		name_of(i, name);
		rc = adapter_load(w->with.set, name, &w->files, 1, err);
		if (rc == 0)
			rc = adapter_bind(w->with.set, name, &w->instances[i]);
	}
	return rc;
}

int world_unload(struct world *w, struct error *err)
{
	char name[ADAPTER_NAME_BYTES];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < WORLD_ADAPTERS; i++) {
		name_of(i, name);
		adapter_release(w->with.set, w->instances[i]);
		rc = adapter_unload(w->with.set, name, err);
	}
	return rc;
}

/* ---- steps ---- */

static void make_step(struct world *w, const struct world_step *step)
{
	const struct world_engine *engine = step->engine;
	const struct kv_layout *layout = kv_store_layout(engine->model->kv);
	struct sample_params greedy = {.top_p = 1,
		.repetition_penalty = 1,
		.position = w->context + 1};

	step_clear(&w->step, expert_store_epoch(engine->model->experts), 0);
	for (uint32_t i = 0; i < step->rows; i++) {
		const struct world_sequence *s = &engine->sequences[i];
		uint32_t sequence = step_add_sequence(&w->step, s->pages,
			s->block_count * layout->pages_per_block);
		uint32_t instance = step->adapters
					    ? w->instances[i % step->adapters]
					    : INSTANCE_BASE;
		uint32_t row = step_add_row(&w->step,
			token_of(w, i, w->context, step->variant), w->context,
			sequence, instance);

		step_add_sample(&w->step, row, &greedy);
	}
}

int world_run(struct world *w, const struct world_step *step, double *out_ns,
	struct error *err)
{
	struct mono begin;
	int rc;

	make_step(w, step);
	begin = mono_now();
	rc = forward_run(step->engine->forward, &w->step, err);
	*out_ns = (double)mono_diff(mono_now(), begin);
	return rc;
}

int world_step_bytes(struct world *w, const struct world_step *step,
	uint64_t *out, struct error *err)
{
	uint64_t fixed = w->shape.layers * cpu_model_layer_bytes(&w->shape) +
			 cpu_model_head_bytes(&w->shape);
	uint64_t token = UINT64_C(2) * 2 * w->shape.layers * w->shape.kv_heads *
			 w->shape.head_dim;
	double ns;
	int rc;

	w->ops.expert_count = 0;
	rc = world_run(w, step, &ns, err);
	*out = fixed + w->ops.expert_count * cpu_model_expert_bytes(&w->shape) +
	       (uint64_t)step->rows * (w->context + 1) * token;
	return rc;
}
