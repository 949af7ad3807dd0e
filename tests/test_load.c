/* test_load.c - a model comes into memory whole, or not at all */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/model_dir.h"
#include "engine/load.h"
#include "tests/fake/fake_os.h"
#include "tests/st_builder.h"
#include "tests/suite.h"

#define MIB (UINT64_C(1) << 20)

#ifndef __has_feature /* clang's way to ask; gcc defines a macro instead */
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#else
#define UNDER_ASAN 0
#endif

static const struct model_options small_options = {
	.page_size_bytes = PAGE_SIZE_BYTES_MIN,
	.kv_type = DTYPE_BF16,
	.kv_token_count = 300,
	.adapter_page_count = 5,
	.instance_count_max = 3,
	.adapter_slot_count_max = 8,
};

static void open_files(const char *directory, struct model_files *files)
{
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(model_dir_open(directory, files, &err), 0);
}

/* The whole life of a model; what a fault may interrupt anywhere. */
static int load_once(const struct model_files *files, struct error *err)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model *model;
	struct vmm vmm;
	int rc;

	rc = vmm_host_init(&vmm, &host, err);
	if (rc)
		return rc;
	rc = model_load(&vmm, files, &small_options, &model, err);
	if (rc == 0) {
		page_pool_check(model->pool);
		expert_store_check(model->experts);
		model_destroy(model);
	}
	vmm_host_destroy(&vmm);
	return rc;
}

/* Calls whose failure has a stated fallback. */
static bool may_be_survived(enum fake_os_call call)
{
	switch (call) {
	case FAKE_OS_URING_INIT: /* pread instead */
	case FAKE_OS_OPEN: /* of vm.max_map_count: its usual value instead */
	case FAKE_OS_READ:
	case FAKE_OS_FCNTL: /* without O_DIRECT */
	case FAKE_OS_FALLOCATE: /* a hole that is not punched at release */
		return true;
	default:
		return false;
	}
}

/*
 * Fail the n-th call of any kind for n = 1, 2, ... until a load has no call
 * left to fail. It must be told, unless it has a fallback; nothing may be
 * left either way.
 */
static uint64_t fail_each_call(const char *directory, int code)
{
	struct model_files files;
	uint64_t n, silent = 0, leaks = 0, survived = 0, wrong = 0;

	open_files(directory, &files);
	for (n = 1;; n++) {
		struct error err = {0};
		int rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, n, code);
		rc = load_once(&files, &err);
		if (!fake_os_has_failed()) {
			CU_ASSERT_EQUAL(rc, 0);
			break;
		}
		survived += rc == 0;
		wrong += rc == 0 && !may_be_survived(fake_os_failed_call());
		silent += rc != 0 && err.text[0] == '\0';
		leaks += !fake_os_check_empty();
	}
	fake_os_disarm();
	fake_os_reset();
	model_files_close(&files);
	printf("%" PRIu64 " calls, %" PRIu64 " survived by a fallback ", n - 1,
		survived);
	CU_ASSERT_EQUAL(silent, 0);
	CU_ASSERT_EQUAL(leaks, 0);
	CU_ASSERT_EQUAL(wrong, 0);
	return n - 1;
}

static void test_model_load__every_call_fails_once(void)
{
	CU_ASSERT(fail_each_call("tests/golden/deepseek_v3_fp8", EIO) > 100);
	CU_ASSERT(fail_each_call("tests/golden/qwen3_moe", ENOMEM) > 100);
	CU_ASSERT(fail_each_call("tests/golden/granitemoe", EIO) > 100);
}

static void test_model_load__again_after_a_fault(void)
{
	struct model_files files;
	struct error err = {0};

	open_files("tests/golden/mixtral", &files);
	fake_os_reset();
	fake_os_fail(FAKE_OS_ANY, 60, ENOMEM);
	CU_ASSERT_NOT_EQUAL(load_once(&files, &err), 0);
	fake_os_disarm();
	error_clear(&err);
	CU_ASSERT_EQUAL(load_once(&files, &err), 0);
	model_files_close(&files);
}

static void test_model_load__impossible_sizes(void)
{
	static const uint64_t tokens[] = {UINT64_MAX, UINT64_C(1) << 40};
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_options options = small_options;
	struct model_files files;

	open_files("tests/golden/mixtral", &files);
	for (size_t i = 0; i < 2; i++) {
		struct error err = {0};
		struct model *model;
		struct vmm vmm;

		CU_ASSERT_EQUAL_FATAL(vmm_host_init(&vmm, &host, &err), 0);
		options.kv_token_count = tokens[i];
		CU_ASSERT_NOT_EQUAL(
			model_load(&vmm, &files, &options, &model, &err), 0);
		CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
		vmm_host_destroy(&vmm);
	}
	model_files_close(&files);
}

/* A vector's and a matrix's bytes as they are in the file. */
static void test_model_load__bytes_are_in_place(void)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_files files;
	struct model_plan plan;
	struct error err = {0};
	struct model *model;
	struct vmm vmm;
	uint32_t checked = 0, wrong = 0;

	open_files("tests/golden/qwen2_moe", &files);
	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&vmm, &host, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_load(&vmm, &files, &small_options, &model, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_plan_create(&files, &model->config, &plan, &err), 0);
	for (uint32_t i = 0; i < plan.count; i++) {
		const struct plan_item *item = &plan.items[i];
		const struct layer_weights *w =
			&model->weights.layers[item->layer];
		uint8_t *raw = malloc(item->size_bytes);
		const void *loaded = w->matrix[item->role].data;

		if (item->role == ROLE_EXPERT_UP)
			loaded = (const uint8_t *)(uintptr_t)
					 expert_store_base_slot(model->experts,
						 w->moe_layer, item->expert) +
				 expert_store_shape(model->experts)
					 ->up_offset_bytes;
		CU_ASSERT_EQUAL(
			pread(files.weights[item->file].fd, raw,
				item->size_bytes, (off_t)item->offset_bytes),
			(ssize_t)item->size_bytes);
		if (loaded && !tensor_role_is_vector(item->role)) {
			checked++;
			wrong += memcmp(raw, loaded, item->size_bytes) != 0;
		}
		free(raw);
	}
	CU_ASSERT(checked > 40);
	CU_ASSERT_EQUAL(wrong, 0);
	model_plan_release(&plan);
	model_destroy(model);
	vmm_host_destroy(&vmm);
	model_files_close(&files);
}

/* --- memory ------------------------------------------------------------------ */

#define BIG_HIDDEN 1024
#define BIG_INTER 2048
#define BIG_EXPERTS 8
#define BIG_LAYERS 2
#define BIG_VOCAB 2000

static const char big_config[] =
	"{\"model_type\":\"mixtral\",\"architectures\":[\"MixtralForCausalLM\"]"
	","
	"\"vocab_size\":2000,\"hidden_size\":1024,\"intermediate_size\":2048,"
	"\"num_hidden_layers\":2,\"num_attention_heads\":8,"
	"\"num_key_value_heads\":8,\"num_local_experts\":8,"
	"\"num_experts_per_tok\":2,\"max_position_embeddings\":4096,"
	"\"rms_norm_eps\":1e-5,\"rope_theta\":1e6,\"hidden_act\":\"silu\","
	"\"sliding_window\":null,\"tie_word_embeddings\":false}";

static void add_matrix(
	struct st_builder *b, const char *name, uint64_t rows, uint64_t cols)
{
	uint64_t shape[2] = {rows, cols};

	st_add(b, name, "BF16", 2, shape);
}

static void add_layer(struct st_builder *b, int l)
{
	static const char *const norms[] = {
		"input_layernorm", "post_attention_layernorm"};
	static const char projections[] = "qkvo";
	uint64_t hidden = BIG_HIDDEN;
	char name[128];

	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "model.layers.%d.%s.weight", l,
			norms[i]);
		st_add(b, name, "BF16", 1, &hidden);
	}
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name),
			"model.layers.%d.self_attn.%c_proj.weight", l,
			projections[i]);
		add_matrix(b, name, BIG_HIDDEN, BIG_HIDDEN);
	}
	snprintf(name, sizeof(name),
		"model.layers.%d.block_sparse_moe.gate.weight", l);
	add_matrix(b, name, BIG_EXPERTS, BIG_HIDDEN);
	for (int e = 0; e < BIG_EXPERTS; e++)
		for (int w = 1; w <= 3; w++) {
			snprintf(name, sizeof(name),
				"model.layers.%d.block_sparse_moe.experts.%d."
				"w%d.weight",
				l, e, w);
			add_matrix(b, name, w == 2 ? BIG_HIDDEN : BIG_INTER,
				w == 2 ? BIG_INTER : BIG_HIDDEN);
		}
}

static void memory_file(struct model_file *file, const char *name, int fd)
{
	CU_ASSERT_FATAL(fd >= 0);
	snprintf(file->name, sizeof(file->name), "%s", name);
	file->fd = fd;
	file->size_bytes = st_fd_size(fd);
}

/* 210 MB of weights in memory files, which nobody maps. */
static uint64_t make_big(struct model_files *files)
{
	uint64_t hidden = BIG_HIDDEN, bytes;
	struct st_builder b;

	st_init(&b);
	add_matrix(&b, "model.embed_tokens.weight", BIG_VOCAB, BIG_HIDDEN);
	for (int l = 0; l < BIG_LAYERS; l++)
		add_layer(&b, l);
	st_add(&b, "model.norm.weight", "BF16", 1, &hidden);
	add_matrix(&b, "lm_head.weight", BIG_VOCAB, BIG_HIDDEN);
	st_layout(&b);
	bytes = st_data_bytes(&b);
	model_files_init(files);
	memory_file(&files->config, "config.json",
		st_memfd_bytes(big_config, sizeof(big_config) - 1));
	files->weights = suite_calloc(1, sizeof(*files->weights));
	files->weight_count = 1;
	memory_file(&files->weights[0], "model.safetensors", st_memfd(&b));
	st_release(&b);
	return bytes;
}

/* Proportional set size: a page mapped twice counts once. */
static uint64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	uint64_t kib = 0;
	char line[256];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "Pss:", 4) == 0)
			kib = strtoull(line + 4, NULL, 10);
	fclose(file);
	return kib * 1024;
}

static void test_model_load__no_second_copy(void)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_options options = {
		.kv_type = DTYPE_BF16,
		.kv_token_count = 4096,
	};
	uint64_t kv = UINT64_C(4096) * BIG_LAYERS * 2 * BIG_HIDDEN * 2;
	struct model_files files;
	struct error err = {0};
	struct model *model;
	struct vmm vmm;
	uint64_t weights, resident, limit;

	if (UNDER_ASAN) {
		suite_skip("resident memory means nothing under "
			   "AddressSanitizer");
		return;
	}
	weights = make_big(&files);
	limit = (weights + kv) / 10 * 11 + 64 * MIB;
	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&vmm, &host, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_load(&vmm, &files, &options, &model, &err), 0);
	resident = resident_bytes();
	printf("%" PRIu64 " MiB resident for %" PRIu64 " + %" PRIu64
	       " MiB, limit %" PRIu64 " ",
		resident / MIB, weights / MIB, kv / MIB, limit / MIB);
	CU_ASSERT(resident >= weights);
	CU_ASSERT(resident <= limit);
	model_destroy(model);
	vmm_host_destroy(&vmm);
	model_files_close(&files);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(model_load__every_call_fails_once),
		SUITE_CASE(model_load__again_after_a_fault),
		SUITE_CASE(model_load__impossible_sizes),
		SUITE_CASE(model_load__bytes_are_in_place),
		SUITE_CASE(model_load__no_second_copy),
	};

	return SUITE_MAIN("load", cases);
}
