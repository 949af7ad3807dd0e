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
#include "tests/load_check.h"
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
	.layout = WEIGHT_PANELS,
	.thread_count = 2,
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

/* --- where the bytes are --- */

static void check_places(const struct model_files *files,
	const struct model_options *options, uint64_t tensor_min)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct vmm_large_pages pages;
	struct load_tally tally;
	struct error err = {0};
	struct model *model;
	struct vmm vmm;

	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&vmm, &host, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_load(&vmm, files, options, &model, &err), 0);
	vmm_host_large_pages(&vmm, &pages);
	CU_ASSERT_EQUAL(
		pages.asked_count > 0, options->page_size_bytes >= 2 * MIB);
	load_check_model(files, model, options->layout, &tally);
	CU_ASSERT(tally.tensors >= tensor_min);
	CU_ASSERT_EQUAL(tally.wrong, 0);
	model_destroy(model);
	vmm_host_destroy(&vmm);
}

/* f32, bf16, f16, fp8; both fused forms; both halves of MLA. */
static void test_model_load__every_element_in_place(void)
{
	static const char *const names[] = {"qwen2_moe", "deepseek_v2_full",
		"deepseek_v3_fp8", "mixtral_top1", "qwen3_moe_v5",
		"granitemoe"};
	struct model_options options = small_options;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct model_files files;
		char directory[256];

		snprintf(directory, sizeof(directory), "tests/golden/%s",
			names[i]);
		open_files(directory, &files);
		options.layout = WEIGHT_ROWS;
		check_places(&files, &options, 40);
		options.layout = WEIGHT_PANELS;
		check_places(&files, &options, 40);
		model_files_close(&files);
	}
}

/* --- memory ------------------------------------------------------------------ */

/* A Mixtral of any size. */
struct shape {
	uint32_t hidden, inter, experts, layers, vocab;
};

static int config_file(const struct shape *shape)
{
	char text[1024];
	int length;

	length = snprintf(text, sizeof(text),
		"{\"model_type\":\"mixtral\","
		"\"architectures\":[\"MixtralForCausalLM\"],"
		"\"vocab_size\":%u,\"hidden_size\":%u,"
		"\"intermediate_size\":%u,\"num_hidden_layers\":%u,"
		"\"num_attention_heads\":8,\"num_key_value_heads\":8,"
		"\"num_local_experts\":%u,\"num_experts_per_tok\":2,"
		"\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,"
		"\"rope_theta\":1e6,\"hidden_act\":\"silu\","
		"\"sliding_window\":null,\"tie_word_embeddings\":false}",
		shape->vocab, shape->hidden, shape->inter, shape->layers,
		shape->experts);
	return st_memfd_bytes(text, (size_t)length);
}

static void add_matrix(
	struct st_builder *b, const char *name, uint64_t rows, uint64_t cols)
{
	uint64_t shape[2] = {rows, cols};

	st_add(b, name, "BF16", 2, shape);
}

static void add_layer(
	struct st_builder *b, const struct shape *shape, uint32_t l)
{
	static const char *const norms[] = {
		"input_layernorm", "post_attention_layernorm"};
	static const char projections[] = "qkvo";
	uint64_t hidden = shape->hidden;
	char name[128];

	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "model.layers.%u.%s.weight", l,
			norms[i]);
		st_add(b, name, "BF16", 1, &hidden);
	}
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name),
			"model.layers.%u.self_attn.%c_proj.weight", l,
			projections[i]);
		add_matrix(b, name, hidden, hidden);
	}
	snprintf(name, sizeof(name),
		"model.layers.%u.block_sparse_moe.gate.weight", l);
	add_matrix(b, name, shape->experts, hidden);
	for (uint32_t e = 0; e < shape->experts; e++)
		for (int w = 1; w <= 3; w++) {
			snprintf(name, sizeof(name),
				"model.layers.%u.block_sparse_moe.experts.%u."
				"w%d.weight",
				l, e, w);
			add_matrix(b, name, w == 2 ? hidden : shape->inter,
				w == 2 ? shape->inter : hidden);
		}
}

static void memory_file(struct model_file *file, const char *name, int fd)
{
	CU_ASSERT_FATAL(fd >= 0);
	snprintf(file->name, sizeof(file->name), "%s", name);
	file->fd = fd;
	file->size_bytes = st_fd_size(fd);
}

/* The header has a length that leaves the data at an odd address. */
static int odd_file(const struct st_builder *b)
{
	char *header = st_header(b);
	size_t length = strlen(header), odd = length | 1;
	char *padded = suite_calloc(1, odd + 1);
	int fd;

	snprintf(padded, odd + 1, "%s ", header);
	fd = st_memfd_raw(b, padded, odd, odd, st_data_bytes(b));
	free(padded);
	free(header);
	return fd;
}

static uint8_t *random_data(struct st_builder *b)
{
	uint64_t state = suite_seed(20);
	uint64_t bytes = st_data_bytes(b);
	uint8_t *data = suite_calloc(1, bytes + 8);

	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = suite_random(&state);

		memcpy(data + i, &word, 8);
	}
	for (size_t i = 0; i < b->count; i++)
		b->tensors[i].data = data + b->tensors[i].begin;
	return data;
}

/* Weights in memory files, which nobody maps; zeros, or random and odd. */
static uint64_t make_model(
	const struct shape *shape, bool is_odd, struct model_files *files)
{
	uint64_t hidden = shape->hidden, bytes;
	uint8_t *data = NULL;
	struct st_builder b;

	st_init(&b);
	add_matrix(&b, "model.embed_tokens.weight", shape->vocab, hidden);
	for (uint32_t l = 0; l < shape->layers; l++)
		add_layer(&b, shape, l);
	st_add(&b, "model.norm.weight", "BF16", 1, &hidden);
	add_matrix(&b, "lm_head.weight", shape->vocab, hidden);
	st_layout(&b);
	bytes = st_data_bytes(&b);
	if (is_odd)
		data = random_data(&b);
	model_files_init(files);
	memory_file(&files->config, "config.json", config_file(shape));
	files->weights = suite_calloc(1, sizeof(*files->weights));
	files->weight_count = 1;
	memory_file(&files->weights[0], "model.safetensors",
		is_odd ? odd_file(&b) : st_memfd(&b));
	st_release(&b);
	free(data);
	return bytes;
}

/*
 * Reads end in the middle of rows, panels and elements, and three threads put
 * the pieces together.
 */
static void test_model_load__reads_that_cut_elements(void)
{
	static const struct shape shape = {
		.hidden = 272,
		.inter = 4008,
		.experts = 2,
		.layers = 1,
		.vocab = 501,
	};
	struct model_options options = small_options;
	struct model_files files;

	make_model(&shape, true, &files);
	options.thread_count = 3;
	check_places(&files, &options, 10);
	options.layout = WEIGHT_ROWS;
	check_places(&files, &options, 10);
	options.page_size_bytes = 2 * MIB;
	check_places(&files, &options, 10);
	options.layout = WEIGHT_PANELS;
	check_places(&files, &options, 10);
	model_files_close(&files);
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
		.layout = WEIGHT_PANELS,
		.kv_type = DTYPE_BF16,
		.kv_token_count = 4096,
	};
	static const struct shape shape = {
		.hidden = 1024,
		.inter = 2048,
		.experts = 8,
		.layers = 2,
		.vocab = 2000,
	};
	uint64_t kv = UINT64_C(4096) * 2 * shape.layers * 2 * shape.hidden;
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
	weights = make_model(&shape, false, &files);
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
		SUITE_CASE(model_load__every_element_in_place),
		SUITE_CASE(model_load__reads_that_cut_elements),
		SUITE_CASE(model_load__no_second_copy),
	};

	return SUITE_MAIN("load", cases);
}
