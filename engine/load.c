/* load.c - a model in memory, ready for steps (files -> struct model) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/siphash.h"
#include "engine/fill.h"
#include "engine/load.h"

#define MIB (UINT64_C(1) << 20)
#define SMALL_MODEL_BYTES (512 * MIB)
#define BASE_HANDLE_BYTES (64 * MIB)

/* Extent 0 is everything but routed experts; MoE layer l is extent 1 + l. */
#define DENSE_EXTENT 0
#define FIRST_EXPERT_EXTENT 1

struct loading {
	struct vmm *vmm;
	const struct model_files *files;
	const struct model_options *options;
	struct model *model;
	struct model_plan plan;
	uint64_t *offset; /* [plan.count] */
	struct expert_shape shape;
	struct kv_layout kv_layout;
	uint32_t kv_block_count;
	struct error *err;
};

size_t model_page_size(uint64_t weight_bytes)
{
	/* Pages of 2 MiB as on CUDA; a small model would only waste them. */
	return weight_bytes < SMALL_MODEL_BYTES ? PAGE_SIZE_BYTES_MIN : 2 * MIB;
}

int model_read_config(const struct model_files *files,
	struct model_config *config, struct generation_config *generation,
	struct error *err)
{
	char *text = NULL, *generation_text = NULL;
	size_t length, generation_length = 0;
	int rc;

	if (files->config.fd < 0)
		return error_set(err, ENOENT, "config.json is missing");
	rc = model_file_text(&files->config, &text, &length, err);
	if (rc == 0 && files->generation.fd >= 0)
		rc = model_file_text(&files->generation, &generation_text,
			&generation_length, err);
	if (rc == 0)
		rc = model_config_parse(
			text, length, files->config.name, config, err);
	if (rc == 0)
		rc = generation_config_parse(generation_text, generation_length,
			text, length, config, generation, err);
	free(generation_text);
	free(text);
	return rc;
}

static size_t page_size(const struct loading *loading)
{
	uint64_t weights = loading->model->dense_bytes +
			   (uint64_t)loading->shape.layer_count *
				   loading->shape.base_count *
				   loading->shape.slot_size_bytes;

	return loading->options->page_size_bytes
		       ? loading->options->page_size_bytes
		       : model_page_size(weights);
}

/* Pages of each extent; out has 1 + MoE layers entries. */
static int measure_extents(struct loading *loading, size_t page, uint32_t *out)
{
	uint32_t per_layer;
	int rc;

	rc = expert_shape_base_pages(&loading->shape, page, &per_layer);
	if (rc || !u32_ok(div_up(loading->model->dense_bytes, page),
			  &out[DENSE_EXTENT]))
		return error_set(loading->err, EOVERFLOW,
			"the weights need "
			"more pages than can be counted; use larger pages");
	for (uint32_t l = 0; l < loading->shape.layer_count; l++)
		out[FIRST_EXPERT_EXTENT + l] = per_layer;
	return 0;
}

static int choose_kv(struct loading *loading, size_t page, uint32_t *out_pages)
{
	const struct model_config *config = &loading->model->config;
	struct kv_shape shape = {
		.layer_count = config->layer_count,
		.key_width = model_key_width(config),
		.value_width = model_value_width(config),
		.type = loading->options->kv_type,
	};
	size_t pages;
	int rc;

	rc = kv_layout_choose(&shape, page, &loading->kv_layout, loading->err);
	if (rc)
		return rc;
	/* Far beyond any memory, and still far from wrapping. */
	if (loading->options->kv_token_count >
		(uint64_t)PAGE_COUNT_MAX * KV_BLOCK_TOKENS_MAX)
		return error_set(loading->err, EINVAL,
			"a KV cache of %llu tokens is more than can be counted",
			(unsigned long long)loading->options->kv_token_count);
	loading->kv_block_count = kv_layout_blocks(
		&loading->kv_layout, loading->options->kv_token_count);
	if (loading->options->kv_token_count == 0)
		loading->kv_block_count = UINT32_MAX; /* the pool's bound */
	if (loading->options->pool_bytes)
		return 0;
	if (!mul_ok(loading->kv_block_count, loading->kv_layout.pages_per_block,
		    &pages) ||
		!u32_ok(pages, out_pages))
		return error_set(loading->err, EINVAL,
			"a KV cache of %llu "
			"tokens needs more pages than can be counted",
			(unsigned long long)loading->options->kv_token_count);
	return 0;
}

/* Pages for adapters; the last page of each run may be partly used. */
static int choose_adapters(
	struct loading *loading, size_t page, uint32_t *out_pages)
{
	const struct model_options *options = loading->options;
	size_t bytes, pages;

	if (!mul_ok(options->adapter_expert_count,
		    loading->shape.slot_size_bytes, &bytes) ||
		!add_ok(div_up(bytes, page), options->adapter_run_count,
			&pages) ||
		!add_ok(pages, options->adapter_page_count, &pages) ||
		!u32_ok(pages, out_pages) || *out_pages > PAGE_COUNT_MAX)
		return error_set(loading->err, EINVAL,
			"%llu experts of adapters need more pages than can be "
			"counted",
			(unsigned long long)options->adapter_expert_count);
	return 0;
}

/* One pool for KV and adapters: KV may have all of it. */
static int choose_pool(
	struct loading *loading, size_t page, uint32_t *out_pages)
{
	uint32_t per_block = loading->kv_layout.pages_per_block;

	if (!u32_ok(loading->options->pool_bytes / page, out_pages) ||
		*out_pages > PAGE_COUNT_MAX)
		return error_set(loading->err, EINVAL,
			"a pool of %llu bytes has more pages than can be "
			"counted",
			(unsigned long long)loading->options->pool_bytes);
	if (*out_pages < per_block)
		return error_set(loading->err, EINVAL,
			"a pool of %llu bytes has %u pages of %zu bytes, a "
			"block of the KV cache needs %u",
			(unsigned long long)loading->options->pool_bytes,
			*out_pages, page, per_block);
	if (loading->kv_block_count > *out_pages / per_block)
		loading->kv_block_count = *out_pages / per_block;
	return 0;
}

static int create_pool(struct loading *loading, uint32_t *extents)
{
	const struct model_options *options = loading->options;
	size_t page = page_size(loading);
	size_t handle = options->base_handle_bytes ? options->base_handle_bytes
						   : BASE_HANDLE_BYTES;
	uint32_t kv_pages = 0, adapter_pages = 0, movable;
	int rc;

	rc = measure_extents(loading, page, extents);
	if (rc == 0)
		rc = choose_kv(loading, page, &kv_pages);
	if (rc == 0)
		rc = choose_adapters(loading, page, &adapter_pages);
	if (rc)
		return rc;
	if (kv_pages > PAGE_COUNT_MAX - adapter_pages)
		return error_set(loading->err, EINVAL,
			"%u pages for KV and %u for adapters are too many",
			kv_pages, adapter_pages);
	movable = kv_pages + adapter_pages;
	if (options->pool_bytes) {
		rc = choose_pool(loading, page, &movable);
		if (rc)
			return rc;
	}
	return page_pool_create(loading->vmm,
		&(struct page_pool_config){
			.page_size_bytes = page,
			.movable_page_count = movable,
			.extent_page_counts = extents,
			.extent_count = FIRST_EXPERT_EXTENT +
					loading->shape.layer_count,
			.extent_handle_bytes = handle < page ? page : handle,
		},
		&loading->model->pool, loading->err);
}

static int create_memory(struct loading *loading)
{
	struct model *model = loading->model;
	uint32_t *extents;
	int rc;

	extents = calloc(FIRST_EXPERT_EXTENT + loading->shape.layer_count,
		sizeof(*extents));
	if (!extents)
		return error_set(loading->err, ENOMEM,
			"no memory for the "
			"table of extents");
	rc = create_pool(loading, extents);
	free(extents);
	if (rc)
		return rc;
	rc = expert_store_create(model->pool,
		&(struct expert_store_config){
			.shape = loading->shape,
			.first_extent = FIRST_EXPERT_EXTENT,
			.instance_count_max =
				loading->options->instance_count_max
					? loading->options->instance_count_max
					: 1,
			.adapter_slot_count_max =
				loading->options->adapter_slot_count_max,
		},
		&model->experts, loading->err);
	if (rc)
		return rc;
	return kv_store_create(model->pool, &loading->kv_layout,
		loading->kv_block_count, &model->kv, loading->err);
}

static int plan_model(struct loading *loading)
{
	struct model *model = loading->model;
	int rc;

	rc = model_read_config(loading->files, &model->config,
		&model->generation, loading->err);
	if (rc)
		return rc;
	rc = model_plan_create(
		loading->files, &model->config, &loading->plan, loading->err);
	if (rc)
		return rc;
	loading->offset =
		calloc(loading->plan.count + 1, sizeof(*loading->offset));
	if (!loading->offset)
		return error_set(loading->err, ENOMEM,
			"no memory for %u "
			"tensors",
			loading->plan.count);
	rc = weights_place(
		&loading->plan, loading->offset, &model->dense_bytes);
	if (rc)
		return error_set(loading->err, -rc,
			"the weights are larger "
			"than the address space");
	return weights_expert_shape(&loading->plan, &model->config,
		loading->options->layout, &loading->shape, loading->err);
}

/* Lanes of the reader: more threads than cores would only take turns. */
static uint32_t lane_count(const struct model_options *options)
{
	uint32_t count = options->thread_count;
	cpu_set_t set;

	if (count == 0)
		count = sched_getaffinity(0, sizeof(set), &set)
				? 1
				: (uint32_t)CPU_COUNT(&set);
	return count < READER_LANE_COUNT_MAX ? count : READER_LANE_COUNT_MAX;
}

static void add_number(struct siphash *state, uint64_t number)
{
	siphash_add(state, &number, sizeof(number));
}

static void add_file(struct siphash *state, const struct model_file *file)
{
	struct stat st = {0};

	if (file->fd < 0 || fstat(file->fd, &st) != 0)
		return;
	add_number(state, (uint64_t)st.st_dev);
	add_number(state, (uint64_t)st.st_ino);
	add_number(state, (uint64_t)st.st_size);
	add_number(state, (uint64_t)st.st_mtim.tv_sec);
	add_number(state, (uint64_t)st.st_mtim.tv_nsec);
}

static void add_item(struct siphash *state, const struct plan_item *item)
{
	add_number(state, item->role);
	add_number(state, (uint64_t)item->layer << 32 | item->expert);
	add_number(state, (uint64_t)item->rows << 32 | item->cols);
	add_number(state, (uint64_t)item->type << 32 | item->file);
	add_number(state, item->offset_bytes);
	add_number(state, item->size_bytes);
}

/*
 * What decides which byte stands where. No secret: it tells a change of the
 * model or of this program, not an enemy.
 */
static uint64_t fingerprint(const struct loading *loading)
{
	static const uint8_t key[SIPHASH_KEY_BYTES] = "heddle base v1";
	const struct model_files *files = loading->files;
	struct siphash state;

	siphash_init(&state, key);
	add_file(&state, &files->config);
	for (uint32_t i = 0; i < files->weight_count; i++)
		add_file(&state, &files->weights[i]);
	for (uint32_t i = 0; i < loading->plan.count; i++) {
		add_item(&state, &loading->plan.items[i]);
		add_number(&state, loading->offset[i]);
	}
	add_number(&state, loading->options->layout);
	add_number(&state, page_pool_page_size(loading->model->pool));
	add_number(&state, page_pool_page_count(loading->model->pool));
	add_number(&state, loading->options->base_handle_bytes);
	add_number(&state, loading->options->adapter_slot_count_max);
	return siphash_end(&state);
}

/* Read every weight, unless an earlier life has. */
static int fill_base(const struct loading *loading, const struct fill *fill)
{
	struct model_keep *keep = loading->options->keep;
	struct model *model = loading->model;
	uint64_t own;
	int rc;

	if (!keep)
		return fill_run(fill, &model->reader, loading->err);
	own = fingerprint(loading);
	/* Pairs with the release below, of a life that may be gone. */
	if (__atomic_load_n(&keep->filled, __ATOMIC_ACQUIRE) == 1 &&
		keep->fingerprint == own) {
		model->was_kept = true;
		return 0;
	}
	__atomic_store_n(&keep->filled, 0, __ATOMIC_RELEASE);
	rc = fill_run(fill, &model->reader, loading->err);
	if (rc)
		return rc;
	keep->fingerprint = own;
	__atomic_store_n(&keep->filled, 1, __ATOMIC_RELEASE);
	return 0;
}

static int fill_memory(struct loading *loading)
{
	struct model *model = loading->model;
	vmm_addr dense = page_pool_address(
		model->pool, page_pool_extent_page(model->pool, DENSE_EXTENT));
	struct fill fill = {
		.files = loading->files,
		.plan = &loading->plan,
		.config = &model->config,
		.layout = loading->options->layout,
		.lane_count = lane_count(loading->options),
		.offset = loading->offset,
		.dense = dense,
		.experts = model->experts,
		.vmm = loading->vmm,
		.progress = loading->options->progress,
		.progress_arg = loading->options->progress_arg,
	};
	int rc;

	rc = weights_bind(&loading->plan, &model->config, fill.layout,
		loading->offset, dense, &model->weights);
	if (rc)
		return error_set(loading->err, -rc,
			"no memory for the table "
			"of weights");
	rc = fill_base(loading, &fill);
	if (rc)
		return rc;
	expert_store_publish_base(model->experts);
	return 0;
}

static int load_parts(struct loading *loading)
{
	int rc;

	rc = plan_model(loading);
	if (rc == 0)
		rc = create_memory(loading);
	if (rc == 0)
		rc = fill_memory(loading);
	model_plan_release(&loading->plan);
	free(loading->offset);
	return rc;
}

int model_load(struct vmm *vmm, const struct model_files *files,
	const struct model_options *options, struct model **out,
	struct error *err)
{
	struct model *model = calloc(1, sizeof(*model));
	struct loading loading = {
		.vmm = vmm,
		.files = files,
		.options = options,
		.model = model,
		.err = err,
	};
	int rc;

	assert(options->kv_type == DTYPE_F32 || options->kv_type == DTYPE_BF16);
	if (!model)
		return error_set(err, ENOMEM, "no memory for a model");
	model->vmm = vmm;
	rc = load_parts(&loading);
	if (rc) {
		model_destroy(model);
		return rc;
	}
	*out = model;
	return 0;
}

void model_destroy(struct model *model)
{
	if (!model)
		return;
	if (model->kv)
		kv_store_destroy(model->kv);
	if (model->experts)
		expert_store_destroy(model->experts);
	page_pool_destroy(model->pool, false);
	weights_release(&model->weights);
	free(model);
}

void model_kv_view(const struct model *model, struct kv_view *out)
{
	const struct kv_layout *layout = kv_store_layout(model->kv);

	*out = (struct kv_view){
		.window = (void *)(uintptr_t)page_pool_window(model->pool),
		.page_size_bytes = layout->page_size_bytes,
		.layer_stride_bytes = layout->layer_stride_bytes,
		.token_stride_bytes = layout->token_stride_bytes,
		/* MLA keeps no values: they are the beginning of the keys. */
		.value_offset_bytes = layout->shape.value_width
					      ? layout->value_offset_bytes
					      : 0,
		.block_tokens = layout->block_tokens,
		.pages_per_block = layout->pages_per_block,
		.layers_per_page = layout->layers_per_page,
		.type = layout->shape.type,
	};
}
