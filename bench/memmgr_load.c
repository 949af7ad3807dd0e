/* memmgr_load.c - a whole load and unload of an adapter, with real bytes */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "bench/median.h"
#include "bench/memmgr_load.h"
#include "engine/adapter.h"
#include "engine/names.h"
#include "tests/esft_counts.h"
#include "tests/st_builder.h"

#define PAGE_BYTES ((size_t)2 << 20)
#define ROUNDS 7
#define LAW 1 /* in esft_counts */
#define HIDDEN 512
#define INTER 352
#define MATRIX_BYTES ((size_t)2 * HIDDEN * INTER)
#define STRING(x) #x
#define TEXT(x) STRING(x)

static const char config_text[] =
	"{\"model_type\": \"deepseek_v2\", \"q_lora_rank\": null,"
	" \"topk_method\": \"greedy\", \"hidden_size\": " TEXT(
		HIDDEN) ","
			" \"moe_intermediate_size\": " TEXT(
				INTER) ","
				       " \"intermediate_size\": 2736, "
				       "\"num_hidden_layers\": 27,"
				       " \"num_attention_heads\": 16, "
				       "\"num_key_value_heads\": 16,"
				       " \"kv_lora_rank\": 128, "
				       "\"qk_nope_head_dim\": 32,"
				       " \"qk_rope_head_dim\": 16, "
				       "\"v_head_dim\": 32,"
				       " \"n_routed_experts\": 64, "
				       "\"n_shared_experts\": 2,"
				       " \"num_experts_per_tok\": 6, "
				       "\"first_k_dense_replace\": 1,"
				       " \"max_position_embeddings\": 4096, "
				       "\"vocab_size\": 1024,"
				       " \"rms_norm_eps\": 1e-06, "
				       "\"rope_theta\": 10000,"
				       " \"hidden_act\": \"silu\", "
				       "\"eos_token_id\": 1}";

struct bench {
	struct vmm vmm;
	struct model model;
	struct adapter_set *set;
	struct adapter_files files;
	uint8_t *values; /* of one matrix, the same for all */
	uint8_t *source, *target; /* of memcpy */
	uint64_t bytes;
};

/* ---- the adapter's files, in memory ---- */

static void set_file(struct model_file *file, const char *name, int fd)
{
	snprintf(file->name, sizeof(file->name), "%s", name);
	file->fd = fd;
	file->size_bytes = st_fd_size(fd);
}

static void add_tensors(struct bench *b, struct st_builder *file, FILE *text)
{
	static const enum tensor_role roles[] = {
		ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN};
	static const uint64_t shapes[][2] = {
		{INTER, HIDDEN}, {INTER, HIDDEN}, {HIDDEN, INTER}};
	char name[SAFETENSORS_NAME_BYTES_MAX];

	fputs("{\"experts\": {", text);
	for (uint32_t l = 0; l < ESFT_LAYER_COUNT; l++) {
		fprintf(text, "%s\"%u\": [", l > 0 ? ", " : "", l + 1);
		for (uint32_t e = 0; e < esft_counts[LAW].counts[l]; e++) {
			fprintf(text, "%s%u", e > 0 ? ", " : "", e);
			for (int p = 0; p < ADAPTER_PART_COUNT; p++) {
				name_format_adapter(&b->model.config, roles[p],
					l + 1, e, name, sizeof(name));
				st_add(file, name, "BF16", 2, shapes[p])->data =
					b->values;
			}
		}
		fputs("]", text);
	}
	fputs("}, \"shared_experts\": false, \"non_expert_modules\": false}",
		text);
}

static int make_files(struct bench *b, struct error *err)
{
	struct st_builder file;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	b->values = malloc(MATRIX_BYTES);
	b->files.model.weights = calloc(1, sizeof(struct model_file));
	if (!out || !b->values || !b->files.model.weights)
		return error_set(err, ENOMEM, "no memory for an adapter");
	for (size_t i = 0; i < MATRIX_BYTES; i++)
		b->values[i] = (uint8_t)(i * 2654435761u >> 24);
	st_init(&file);
	add_tensors(b, &file, out);
	fclose(out);
	st_layout(&file);
	b->bytes = st_data_bytes(&file);
	set_file(&b->files.experts, "expert_cfg.json",
		st_memfd_bytes(text, size));
	set_file(&b->files.model.weights[0], "model.safetensors",
		st_memfd(&file));
	b->files.model.weight_count = 1;
	st_release(&file);
	free(text);
	return 0;
}

/* ---- the memory of a model whose base nobody reads ---- */

static int make_memory(
	struct bench *b, enum weight_layout layout, struct error *err)
{
	uint32_t extents[ESFT_LAYER_COUNT], run_pages;
	struct expert_store_config store = {
		.shape = {.layer_count = ESFT_LAYER_COUNT,
			.base_count = 64,
			.hidden = HIDDEN,
			.inter = INTER,
			.format = {.type = DTYPE_BF16, .layout = layout}},
		.instance_count_max = 4,
		.adapter_slot_count_max = 64,
	};
	struct page_pool_config pages = {
		.page_size_bytes = PAGE_BYTES,
		.extent_page_counts = extents,
		.extent_count = ESFT_LAYER_COUNT,
		.extent_handle_bytes = (size_t)64 << 20,
	};
	int rc = expert_shape_finish(&store.shape, err);

	if (rc == 0)
		rc = expert_shape_base_pages(
			&store.shape, PAGE_BYTES, &run_pages);
	if (rc)
		return rc;
	for (uint32_t l = 0; l < ESFT_LAYER_COUNT; l++)
		extents[l] = run_pages;
	pages.movable_page_count = (uint32_t)expert_shape_run_pages(
		&store.shape, PAGE_BYTES, esft_counts[LAW].total);
	b->model.vmm = &b->vmm;
	rc = page_pool_create(&b->vmm, &pages, &b->model.pool, err);
	if (rc == 0)
		rc = expert_store_create(
			b->model.pool, &store, &b->model.experts, err);
	if (rc)
		return rc;
	expert_store_publish_base(b->model.experts);
	return adapter_set_create(&b->model, &b->set, err);
}

static int open_bench(
	struct bench *b, enum weight_layout layout, struct error *err)
{
	int rc = vmm_host_init(&b->vmm,
		&(struct vmm_host_config){.granularity_bytes = PAGE_BYTES},
		err);

	if (rc == 0)
		rc = model_config_parse(config_text, sizeof(config_text) - 1,
			"config.json", &b->model.config, err);
	if (rc == 0)
		rc = make_files(b, err);
	if (rc == 0)
		rc = make_memory(b, layout, err);
	if (rc)
		return rc;
	b->source = malloc(b->bytes);
	b->target = malloc(b->bytes);
	if (!b->source || !b->target)
		return error_set(err, ENOMEM, "no memory to copy");
	memset(b->source, 1, b->bytes);
	memset(b->target, 2, b->bytes);
	return 0;
}

static void close_bench(struct bench *b)
{
	free(b->target);
	free(b->source);
	adapter_set_destroy(b->set);
	expert_store_destroy(b->model.experts);
	page_pool_destroy(b->model.pool, false);
	adapter_files_close(&b->files);
	free(b->values);
	vmm_host_destroy(&b->vmm);
}

static double rate(uint64_t bytes, struct mono begin)
{
	return (double)bytes * 1e9 / (double)mono_diff(mono_now(), begin);
}

/* Load, copy and unload in turn: what disturbs one disturbs the others. */
static int measure(struct bench *b, struct memmgr_load *out, struct error *err)
{
	double loads[ROUNDS], copies[ROUNDS], unloads[ROUNDS];

	for (int i = -1; i < ROUNDS; i++) { /* the first touches the pages */
		int at = i < 0 ? 0 : i;
		struct mono begin = mono_now();
		int rc = adapter_load(b->set, "law", &b->files, 1, err);

		if (rc)
			return rc;
		loads[at] = rate(b->bytes, begin);
		begin = mono_now();
		memcpy(b->target, b->source, b->bytes);
		copies[at] = rate(b->bytes, begin);
		b->source[at] = b->target[b->bytes - 1]; /* it is needed */
		begin = mono_now();
		rc = adapter_unload(b->set, "law", err);
		if (rc)
			return rc;
		unloads[at] = (double)mono_diff(mono_now(), begin);
	}
	out->load_rate = median(loads, ROUNDS);
	out->copy_rate = median(copies, ROUNDS);
	out->unload_ns = median(unloads, ROUNDS);
	return 0;
}

int memmgr_load_measure(
	enum weight_layout layout, struct memmgr_load *out, struct error *err)
{
	static struct bench b; /* a model's configuration is large */
	int rc;

	memset(&b, 0, sizeof(b));
	adapter_files_init(&b.files);
	rc = open_bench(&b, layout, err);
	*out = (struct memmgr_load){
		.adapter_bytes = b.bytes,
		.expert_count = esft_counts[LAW].total,
		.round_count = ROUNDS,
	};
	if (rc == 0)
		rc = measure(&b, out, err);
	close_bench(&b);
	return rc;
}
