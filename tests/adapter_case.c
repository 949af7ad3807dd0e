/* adapter_case.c - random ESFT adapters in memory files (model -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/names.h"
#include "gpu/cpu/panels.h"
#include "tests/adapter_case.h"
#include "tests/suite.h"

static const char *const part_names[ADAPTER_PART_COUNT] = {
	"gate", "up", "down"};

static size_t matrix_size(const struct adapter_case *a)
{
	return (size_t)a->config->hidden * a->config->expert_inter;
}

static size_t expert_count(const struct adapter_case *a)
{
	return (size_t)a->config->moe_layer_count *
	       a->config->router.expert_count;
}

const float *adapter_case_values(const struct adapter_case *a,
	uint32_t moe_layer, uint32_t expert, uint32_t part)
{
	size_t at = (size_t)moe_layer * a->config->router.expert_count + expert;

	return a->values + (at * ADAPTER_PART_COUNT + part) * matrix_size(a);
}

static void choose_experts(struct adapter_case *a, uint64_t *state)
{
	uint32_t experts = a->config->router.expert_count;
	uint32_t most = a->options.layer_expert_max;

	if (most == 0 || most > experts)
		most = experts;
	for (size_t i = 0; a->options.every_expert &&
			   i < (size_t)a->config->moe_layer_count * experts;
		i++, a->total++)
		a->has[i] = true;
	while (a->total == 0)
		for (uint32_t l = 0; l < a->config->moe_layer_count; l++)
			for (uint32_t n = suite_below(state, most + 1); n > 0;
				n--) {
				size_t at = (size_t)l * experts +
					    suite_below(state, experts);

				a->total += !a->has[at];
				a->has[at] = true;
			}
}

/* Lists in falling order: no adapter promises the rising one. */
static void write_config(struct adapter_case *a)
{
	uint32_t experts = a->config->router.expert_count;
	size_t size = 0;
	FILE *out = open_memstream(&a->config_text, &size);

	assert(out);
	fputs("{\"experts\": {", out);
	for (uint32_t l = a->config->moe_layer_count; l-- > 0;) {
		const char *separator = "";

		fprintf(out, "\"%u\": [", model_layer(a->config, l));
		for (uint32_t e = experts; e-- > 0;) {
			if (!a->has[(size_t)l * experts + e])
				continue;
			fprintf(out, "%s%u", separator, e);
			separator = ", ";
		}
		fprintf(out, "]%s", l > 0 ? ", " : "");
	}
	fputs("}, \"shared_experts\": false, \"non_expert_modules\": false}",
		out);
	fclose(out);
}

/* One tensor into a file of chance; its values are those of the type. */
static void add_tensor(struct adapter_case *a, uint32_t layer, uint32_t expert,
	uint32_t part, uint64_t *state)
{
	static const char *const types[] = {"F32", "BF16", "F16"};
	size_t experts = a->config->router.expert_count, size = matrix_size(a);
	size_t at = (layer * experts + expert) * ADAPTER_PART_COUNT + part;
	size_t element = dtype_size(a->options.type);
	float *values = a->values + at * size;
	uint8_t *bytes = (uint8_t *)a->bytes + at * size * element;
	uint64_t shape[2] = {a->config->expert_inter, a->config->hidden};
	char name[160];

	for (size_t i = 0; i < size; i++) {
		float value = suite_gauss(state) * 0.1f;

		dtype_store(bytes, a->options.type, i, value);
		values[i] = dtype_load(bytes, a->options.type, i);
	}
	if (part == ADAPTER_DOWN) {
		shape[0] = a->config->hidden;
		shape[1] = a->config->expert_inter;
	}
	snprintf(name, sizeof(name),
		"%slayers.%u.mlp.experts.%u.%s_proj.weight",
		a->options.with_model_prefix ? "model." : "",
		model_layer(a->config, layer), expert, part_names[part]);
	st_add(&a->files[suite_below(state, a->options.file_count)], name,
		types[a->options.type], 2, shape)
		->data = bytes;
}

void adapter_case_make(struct adapter_case *a,
	const struct model_config *config,
	const struct adapter_case_options *options)
{
	uint64_t state = options->seed;
	size_t experts = config->router.expert_count;
	size_t count = config->moe_layer_count * experts * ADAPTER_PART_COUNT;

	_Static_assert(DTYPE_F32 == 0 && DTYPE_BF16 == 1 && DTYPE_F16 == 2,
		"names of the types above");
	*a = (struct adapter_case){.options = *options, .config = config};
	a->has = suite_calloc(expert_count(a), sizeof(*a->has));
	a->values = suite_calloc(count * matrix_size(a), sizeof(float));
	a->bytes = suite_calloc(count * matrix_size(a), sizeof(float));
	for (uint32_t i = 0; i < options->file_count; i++)
		st_init(&a->files[i]);
	choose_experts(a, &state);
	write_config(a);
	for (size_t i = 0; i < expert_count(a); i++)
		for (uint32_t part = 0; a->has[i] && part < ADAPTER_PART_COUNT;
			part++)
			add_tensor(a, (uint32_t)(i / experts),
				(uint32_t)(i % experts), part, &state);
	for (uint32_t i = 0; i < options->file_count; i++)
		st_layout(&a->files[i]);
}

void adapter_case_release(struct adapter_case *a)
{
	for (uint32_t i = 0; i < a->options.file_count; i++)
		st_release(&a->files[i]);
	free(a->base_text);
	free(a->config_text);
	free(a->bytes);
	free(a->values);
	free(a->has);
	*a = (struct adapter_case){0};
}

struct st_tensor *adapter_case_find(struct adapter_case *a, const char *name)
{
	struct st_tensor *found = NULL;

	for (uint32_t i = 0; i < a->options.file_count && !found; i++)
		found = st_find(&a->files[i], name);
	assert(found);
	return found;
}

static void set_file(struct model_file *file, const char *name, int fd)
{
	snprintf(file->name, sizeof(file->name), "%s", name);
	file->fd = fd;
	file->size_bytes = st_fd_size(fd);
}

static int weights_file(const struct adapter_case *a, uint32_t file)
{
	const struct st_builder *b = &a->files[file];
	char *header = st_header(b), *padded;
	size_t length = strlen(header);
	int fd;

	if (a->options.odd)
		length |= 1;
	else
		length = (length + 7) / 8 * 8;
	padded = suite_calloc(1, length + 1);
	snprintf(padded, length + 1, "%s%8s", header, "");
	fd = st_memfd_raw(b, padded, length, length, st_data_bytes(b));
	free(padded);
	free(header);
	return fd;
}

void adapter_case_open(const struct adapter_case *a, struct adapter_files *out)
{
	char name[64];

	adapter_files_init(out);
	if (a->config_text)
		set_file(&out->experts, "expert_cfg.json",
			st_memfd_bytes(a->config_text, strlen(a->config_text)));
	if (a->base_text)
		set_file(&out->model.config, "config.json",
			st_memfd_bytes(a->base_text, strlen(a->base_text)));
	out->model.weights =
		suite_calloc(a->options.file_count, sizeof(struct model_file));
	out->model.weight_count = a->options.file_count;
	for (uint32_t i = 0; i < a->options.file_count; i++) {
		snprintf(name, sizeof(name), "model-%05u.safetensors", i + 1);
		set_file(&out->model.weights[i], name, weights_file(a, i));
	}
}

static void hash_file(struct model_file *file)
{
	if (file->fd < 0)
		return;
	if (model_file_hash(file, NULL, file->hash, NULL))
		abort();
	file->has_hash = true;
}

void adapter_case_hash(struct adapter_files *files)
{
	hash_file(&files->experts);
	hash_file(&files->model.config);
	for (uint32_t i = 0; i < files->model.weight_count; i++)
		hash_file(&files->model.weights[i]);
}

void adapter_case_flip(const struct model_file *file, uint64_t bit)
{
	uint8_t byte;

	if (pread(file->fd, &byte, 1, (off_t)(bit / 8)) != 1)
		abort();
	byte ^= (uint8_t)(1u << bit % 8);
	if (pwrite(file->fd, &byte, 1, (off_t)(bit / 8)) != 1)
		abort();
}

/* Row-major place of element (row, col) in the layout of the slots. */
static uint8_t *element_at(const struct expert_shape *shape, vmm_addr slot,
	uint32_t part, size_t row_major)
{
	bool down = part == ADAPTER_DOWN;
	uint64_t offset = part == ADAPTER_UP ? shape->up_offset_bytes
			  : down             ? shape->down_offset_bytes
					     : 0;
	struct panels panels = {
		.layout = shape->format.layout,
		.type = shape->format.type,
		.rows = down ? shape->hidden : shape->inter,
		.cols = down ? shape->inter : shape->hidden,
	};

	return (uint8_t *)(uintptr_t)(slot + offset) +
	       panels_index(&panels, (uint32_t)(row_major / panels.cols),
		       (uint32_t)(row_major % panels.cols)) *
		       dtype_size(panels.type);
}

void adapter_case_merge(const struct adapter_case *a, struct model *model)
{
	const struct expert_shape *shape = expert_store_shape(model->experts);

	for (uint32_t l = 0; l < shape->layer_count; l++)
		for (uint32_t e = 0; e < shape->base_count; e++) {
			vmm_addr slot =
				expert_store_base_slot(model->experts, l, e);

			if (!a->has[(size_t)l * shape->base_count + e])
				continue;
			for (uint32_t p = 0; p < ADAPTER_PART_COUNT; p++)
				for (size_t i = 0; i < matrix_size(a); i++)
					dtype_store(
						element_at(shape, slot, p, i),
						shape->format.type, 0,
						adapter_case_values(
							a, l, e, p)[i]);
		}
}

static uint64_t wrong_in_expert(const struct adapter_case *a,
	const struct expert_shape *shape, vmm_addr slot, uint32_t l, uint32_t e)
{
	size_t size = dtype_size(shape->format.type);
	uint64_t wrong = 0;

	for (uint32_t p = 0; p < ADAPTER_PART_COUNT; p++)
		for (size_t i = 0; i < matrix_size(a); i++) {
			uint8_t want[sizeof(float)] = {0};

			dtype_store(want, shape->format.type, 0,
				adapter_case_values(a, l, e, p)[i]);
			wrong += memcmp(element_at(shape, slot, p, i), want,
					 size) != 0;
		}
	return wrong;
}

uint64_t adapter_case_wrong(const struct adapter_case *a,
	const struct model *model, uint32_t instance)
{
	const struct expert_shape *shape = expert_store_shape(model->experts);
	uint64_t wrong = 0;

	for (uint32_t l = 0; l < shape->layer_count; l++)
		for (uint32_t e = 0; e < shape->base_count; e++)
			if (a->has[(size_t)l * shape->base_count + e])
				wrong += wrong_in_expert(a, shape,
					expert_store_instance_slot(
						model->experts, instance, l, e),
					l, e);
	return wrong;
}
