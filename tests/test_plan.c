/* test_plan.c - whole checkpoints of every family, right and wrong */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/model_dir.h"
#include "engine/names.h"
#include "engine/plan.h"
#include "tests/checkpoint.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

static int plan(
	const struct checkpoint *c, struct model_plan *out, struct error *err)
{
	int rc;

	*err = (struct error){0};
	*out = (struct model_plan){0};
	rc = checkpoint_plan(c, out, err);
	CU_ASSERT_EQUAL(rc, err->code);
	return rc;
}

/* A plan of what has to be right. */
static struct model_plan accept(const struct checkpoint *c)
{
	struct model_plan out;
	struct error err;

	if (plan(c, &out, &err))
		printf("\n    %s\n", err.text);
	CU_ASSERT_EQUAL(err.code, 0);
	return out;
}

static const struct plan_item *find_item(const struct model_plan *plan,
	enum tensor_role role, uint32_t layer, uint32_t expert)
{
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];

		if (item->role == role && item->layer == layer &&
			item->expert == expert)
			return item;
	}
	return NULL;
}

/* The same where it has to be there. */
static const struct plan_item *need_item(const struct model_plan *plan,
	enum tensor_role role, uint32_t layer, uint32_t expert)
{
	const struct plan_item *item = find_item(plan, role, layer, expert);

	assert(item);
	return item;
}

/* What holds for each item of a plan, whatever the model. */
static void check_items(const struct model_plan *plan)
{
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];
		uint64_t count = item->expert_count ? item->expert_count : 1;

		CU_ASSERT_EQUAL(
			item->size_bytes, count * item->rows * item->cols *
						  dtype_size(item->type));
		CU_ASSERT_PTR_NOT_NULL(item->name);
		CU_ASSERT_EQUAL(item->type == DTYPE_F8_E4M3,
			item->scale_size_bytes > 0);
		CU_ASSERT_PTR_EQUAL(
			find_item(plan, item->role, item->layer, item->expert),
			item);
	}
}

/* ---- what is right ---- */

static void check_family(enum model_family family)
{
	struct checkpoint c;
	struct model_plan got;
	uint32_t count;

	checkpoint_init(&c, family, false);
	count = (uint32_t)(c.files[0].tensors.count + c.files[1].tensors.count);
	got = accept(&c);
	CU_ASSERT_EQUAL(got.count, count);
	CU_ASSERT_EQUAL(got.skipped_count, 0);
	CU_ASSERT_EQUAL(got.expert_type, DTYPE_BF16);
	CU_ASSERT_EQUAL(got.ignored_file_count, 0);
	check_items(&got);
	model_plan_release(&got);
	CU_ASSERT_PTR_NULL(got.items);
	checkpoint_release(&c);
}

static void test_plan__every_family(void)
{
	for (int family = 0; family < FAMILY_COUNT; family++)
		check_family((enum model_family)family);
}

/* One file, the names of transformers 5, no index. */
static void check_fused(
	enum model_family family, const char *type, enum dtype expert_type)
{
	struct checkpoint c;
	struct model_plan got;
	const struct plan_item *up, *down;
	uint32_t layer, inter, experts;

	checkpoint_init(&c, family, false);
	st_release(&c.files[0].tensors);
	st_model_add(&c.files[0].tensors, &c.config, ST_TRANSFORMERS5, type);
	strcpy(c.files[0].name, "model.safetensors");
	c.files[1].absent = true;
	checkpoint_layout(&c);
	free(c.index_text);
	c.index_text = NULL;
	got = accept(&c);
	check_items(&got);
	CU_ASSERT_EQUAL(got.count, c.files[0].tensors.count);
	CU_ASSERT_EQUAL(got.expert_type, expert_type);
	layer = c.config.is_moe[0] ? 0 : c.config.is_moe[1] ? 1 : 2;
	inter = c.config.expert_inter;
	experts = c.config.router.expert_count;
	up = need_item(&got, ROLE_EXPERT_GATE_UP, layer, 0);
	down = need_item(&got, ROLE_EXPERT_DOWN, layer, 0);
	CU_ASSERT_EQUAL(up->expert_count, experts);
	CU_ASSERT_EQUAL(up->rows, 2 * inter);
	CU_ASSERT_EQUAL(up->cols, c.config.hidden);
	CU_ASSERT_EQUAL(down->expert_count, experts);
	CU_ASSERT_EQUAL(down->rows, c.config.hidden);
	CU_ASSERT_EQUAL(down->cols, inter);
	CU_ASSERT_PTR_NULL(find_item(&got, ROLE_EXPERT_GATE, layer, 0));
	model_plan_release(&got);
	checkpoint_release(&c);
}

static void test_plan__fused_experts(void)
{
	static const struct {
		const char *name;
		enum dtype type;
	} types[] = {
		{"BF16", DTYPE_BF16}, {"F16", DTYPE_F16}, {"F32", DTYPE_F32}};

	for (int family = 0; family < FAMILY_COUNT; family++)
		for (int t = 0; t < 3; t++)
			check_fused((enum model_family)family, types[t].name,
				types[t].type);
}

static void test_plan__items_of_mla(void)
{
	struct checkpoint c;
	struct model_plan got;
	const struct plan_item *item;

	checkpoint_init(&c, FAMILY_DEEPSEEK_V3, false);
	got = accept(&c);
	item = need_item(&got, ROLE_KV_A, 2, 0);
	CU_ASSERT_EQUAL(item->rows, 14);
	CU_ASSERT_EQUAL(item->cols, 24);
	CU_ASSERT_EQUAL(item->expert_count, 0);
	CU_ASSERT_STRING_EQUAL(item->name,
		"model.layers.2.self_attn.kv_a_proj_with_mqa.weight");
	item = need_item(&got, ROLE_EXPERT_UP, 1, 3);
	CU_ASSERT_EQUAL(item->rows, 6);
	CU_ASSERT_EQUAL(item->expert_count, 1);
	CU_ASSERT_STRING_EQUAL(
		item->name, "model.layers.1.mlp.experts.3.up_proj.weight");
	item = need_item(&got, ROLE_DENSE_DOWN, 0, 0);
	CU_ASSERT_EQUAL(item->cols, 20);
	CU_ASSERT_PTR_NULL(find_item(&got, ROLE_DENSE_DOWN, 1, 0));
	CU_ASSERT_EQUAL(got.items[0].role, ROLE_EMBED);
	model_plan_release(&got);
	checkpoint_release(&c);
}

/* fp8 linears have scales; the layer after the last is skipped. */
static void test_plan__fp8(void)
{
	struct checkpoint c;
	struct model_plan got;
	const struct plan_item *item;
	struct st_builder skipped;

	checkpoint_init(&c, FAMILY_DEEPSEEK_V3, true);
	st_init(&skipped);
	st_model_add_mtp(&skipped, &c.config);
	st_layout(&skipped);
	got = accept(&c);
	check_items(&got);
	CU_ASSERT_EQUAL(got.expert_type, DTYPE_BF16);
	CU_ASSERT_EQUAL(got.skipped_count, skipped.count);
	CU_ASSERT_EQUAL(got.skipped_bytes, st_data_bytes(&skipped));
	item = need_item(&got, ROLE_Q_B, 1, 0);
	CU_ASSERT_EQUAL(item->type, DTYPE_F8_E4M3);
	CU_ASSERT_EQUAL(item->rows, 20);
	CU_ASSERT_EQUAL(item->scale_size_bytes, sizeof(float[2][1]));
	item = need_item(&got, ROLE_KV_A, 1, 0);
	CU_ASSERT_EQUAL(item->scale_size_bytes, sizeof(float[1][3]));
	CU_ASSERT_NOT_EQUAL(item->scale_file, item->file);
	st_release(&skipped);
	model_plan_release(&got);
	checkpoint_release(&c);
}

/* Where a model in fp8 keeps some matrices in another type. */
static void test_plan__fp8_is_per_tensor(void)
{
	struct checkpoint c;
	struct checkpoint_file *file;
	struct model_plan got;
	struct st_tensor *tensor;

	checkpoint_init(&c, FAMILY_DEEPSEEK_V3, true);
	tensor = checkpoint_find(
		&c, "model.layers.1.self_attn.o_proj.weight_scale_inv", &file);
	st_remove(&file->tensors, tensor);
	tensor = checkpoint_find(
		&c, "model.layers.1.self_attn.o_proj.weight", &file);
	strcpy(tensor->type, "F32");
	checkpoint_layout(&c);
	checkpoint_write_index(&c);
	got = accept(&c);
	model_plan_release(&got);
	checkpoint_release(&c);
}

static void test_plan__known_and_unused(void)
{
	struct checkpoint c;
	struct model_plan got;
	struct st_builder *b;

	/* Qwen3's head is tied here. */
	checkpoint_init(&c, FAMILY_QWEN3_MOE, false);
	b = &c.files[1].tensors;
	st_add(b, "lm_head.weight", "BF16", 2, (uint64_t[]){40, 24});
	st_add(b, "model.rotary_emb.inv_freq", "F32", 1, (uint64_t[]){4});
	st_add(b, "model.layers.2.self_attn.rotary_emb.inv_freq", "F32", 1,
		(uint64_t[]){4});
	checkpoint_layout(&c);
	checkpoint_write_index(&c);
	got = accept(&c);
	CU_ASSERT_EQUAL(got.skipped_count, 3);
	CU_ASSERT_EQUAL(got.skipped_bytes, 40 * 24 * 2 + 16 + 16);
	CU_ASSERT_PTR_NULL(find_item(&got, ROLE_HEAD, 0, 0));
	model_plan_release(&got);
	checkpoint_release(&c);
}

static void test_plan__files_that_nothing_names(void)
{
	struct checkpoint c;
	struct model_plan got;

	checkpoint_init(&c, FAMILY_MIXTRAL, false);
	for (size_t i = 0; i < c.files[1].tensors.count; i++) {
		const struct st_tensor *t = &c.files[1].tensors.tensors[i];

		st_add(&c.files[0].tensors, t->name, t->type, t->rank,
			t->shape);
	}
	st_release(&c.files[1].tensors);
	checkpoint_layout(&c);
	checkpoint_write_index(&c);
	/* Not even its header is read. */
	c.files[1].length_field = 1;
	got = accept(&c);
	CU_ASSERT_EQUAL(got.ignored_file_count, 1);
	CU_ASSERT_STRING_EQUAL(
		got.ignored_files[0], "model-00002-of-00002.safetensors");
	model_plan_release(&got);
	strcpy(c.files[0].name, "model.safetensors");
	strcpy(c.files[1].name, "zzz.safetensors");
	free(c.index_text);
	c.index_text = NULL;
	got = accept(&c);
	CU_ASSERT_EQUAL(got.ignored_file_count, 1);
	model_plan_release(&got);
	checkpoint_release(&c);
}

/* ---- what is wrong ---- */

enum change {
	CONFIG, /* in config.json: a -> b */
	RENAME, /* tensor a is called b, in the index, too */
	RENAME_IN_FILE, /* not in the index */
	DROP, /* tensor a */
	DROP_IN_FILE, /* not in the index */
	TYPE, /* tensor a has type b */
	SHAPE, /* tensor a has shape b: "3,4" */
	ADD, /* tensor a of BF16 and shape b */
	COPY, /* tensor a is in the other file, too */
	MOVE, /* tensor a is in the other file; not in the index */
	FUSE, /* the experts of layer a, under the name b */
	HEADER, /* in the header of the first file: a -> b */
	HEADER_IS, /* the header of the first file is a */
	HEADER_LENGTH, /* the first file says that it is a */
	BYTES, /* the first file has so many bytes more */
	SIZE_CHANGED, /* by so many bytes after the first file was opened */
	INDEX, /* in the index: a -> b */
	INDEX_IS, /* the index is a; NULL = there is none */
	FILE_GONE /* the second file */
};

enum base { V2, V3, FP8, QWEN2, QWEN3, MIXTRAL, OLMOE, GRANITE };

struct hostile {
	enum base base;
	enum change change;
	const char *a, *b;
	const char *expect; /* part of the error */
};

#define LAYER "model.layers.1."
#define EXPERT LAYER "mlp.experts.2."
#define FILE_1 "model-00001-of-00002.safetensors"
#define FILE_2 "model-00002-of-00002.safetensors"
#define INDEX_NAME "model.safetensors.index.json"
#define EMBED                                                                  \
	"\"model.embed_tokens.weight\":{\"dtype\":\"BF16\","                   \
	"\"shape\":[40,24],\"data_offsets\":[0,1920]}"

static const struct hostile hostiles[] = {
	/* missing */
	{V3, DROP, EXPERT "up_proj.weight", 0,
		"tensor \"" EXPERT "up_proj.weight\" is missing "
		"(1 missing in all)"},
	{V3, DROP, "model.embed_tokens.weight", 0,
		"\"model.embed_tokens.weight\" is missing"},
	{V3, DROP, "model.norm.weight", 0, "\"model.norm.weight\" is missing"},
	{V3, DROP, "lm_head.weight", 0, "\"lm_head.weight\" is missing"},
	{V3, DROP, LAYER "input_layernorm.weight", 0, "is missing"},
	{V3, DROP, LAYER "post_attention_layernorm.weight", 0, "is missing"},
	{V3, DROP, LAYER "self_attn.q_a_proj.weight", 0, "is missing"},
	{V3, DROP, LAYER "self_attn.q_a_layernorm.weight", 0, "is missing"},
	{V3, DROP, LAYER "self_attn.q_b_proj.weight", 0, "is missing"},
	{V3, DROP, LAYER "self_attn.kv_a_layernorm.weight", 0, "is missing"},
	{V3, DROP, LAYER "self_attn.kv_b_proj.weight", 0, "is missing"},
	{V3, DROP, LAYER "mlp.gate.weight", 0, "is missing"},
	{V3, DROP, LAYER "mlp.gate.e_score_correction_bias", 0,
		"e_score_correction_bias\" is missing"},
	{V3, DROP, LAYER "mlp.shared_experts.up_proj.weight", 0, "is missing"},
	{V3, DROP, "model.layers.0.mlp.gate_proj.weight", 0, "is missing"},
	{V2, DROP, LAYER "self_attn.q_proj.weight", 0, "is missing"},
	{QWEN2, DROP, "model.layers.2.self_attn.k_proj.bias", 0,
		"k_proj.bias\" is missing"},
	{QWEN2, DROP, "model.layers.0.mlp.shared_expert_gate.weight", 0,
		"shared_expert_gate.weight\" is missing"},
	{QWEN3, DROP, LAYER "self_attn.q_norm.weight", 0, "is missing"},
	{OLMOE, DROP, LAYER "self_attn.k_norm.weight", 0, "is missing"},
	{MIXTRAL, DROP, LAYER "block_sparse_moe.experts.2.w3.weight", 0,
		"block_sparse_moe.experts.2.w3.weight\" is missing"},
	{GRANITE, DROP, LAYER "block_sparse_moe.input_linear.weight", 0,
		"block_sparse_moe.input_linear.weight\" is missing"},
	{GRANITE, DROP, LAYER "block_sparse_moe.router.layer.weight", 0,
		"block_sparse_moe.router.layer.weight\" is missing"},
	{V3, CONFIG, "\"n_routed_experts\": 4", "\"n_routed_experts\": 6",
		"shape [4, 24], expected [6, 24]"},
	{MIXTRAL, CONFIG, "\"num_hidden_layers\": 2",
		"\"num_hidden_layers\": 3",
		"\"model.layers.2.input_layernorm.weight\" is missing "
		"(19 missing in all)"},
	{GRANITE, CONFIG, "\"num_hidden_layers\": 2",
		"\"num_hidden_layers\": 3", "(9 missing in all)"},
	{FP8, DROP, EXPERT "up_proj.weight_scale_inv", 0,
		"\"" EXPERT "up_proj.weight_scale_inv\" is missing"},
	{FP8, DROP, EXPERT "up_proj.weight", 0,
		"\"" EXPERT "up_proj.weight\" is missing"},
	/* surplus */
	{V3, ADD, LAYER "mlp.experts.4.up_proj.weight", "6,24",
		"is surplus: this deepseek_v3 model has no such tensor"},
	{V3, ADD, LAYER "mlp.experts.02.up_proj.weight", "6,24", "is surplus"},
	{V3, ADD, LAYER "mlp.experts.2.up_proj.weights", "6,24", "is surplus"},
	{V3, ADD, LAYER "mlp.experts.2.up_proj", "6,24", "is surplus"},
	{V3, ADD, LAYER "mlp.experts..up_proj.weight", "6,24", "is surplus"},
	{V3, ADD, LAYER "mlp.experts.2", "6,24", "is surplus"},
	{V3, ADD, LAYER "mlp.experts.99999999999.up_proj.weight", "6,24",
		"is surplus"},
	{V3, ADD, "model.layers.5.input_layernorm.weight", "24", "is surplus"},
	{V3, ADD, "model.layers.4294967297.input_layernorm.weight", "24",
		"is surplus"},
	{V3, ADD, "model.layers.01.input_layernorm.weight", "24", "is surplus"},
	{V3, ADD, "model.layers.input_layernorm.weight", "24", "is surplus"},
	{V3, ADD, "model.layers.1", "24", "is surplus"},
	{V3, ADD, "model.layers.", "24", "is surplus"},
	{V3, ADD, "layers.1.input_layernorm.weight", "24", "is surplus"},
	{V3, ADD, "model.embed_tokens.bias", "24", "is surplus"},
	{V3, ADD, LAYER "self_attn.q_proj.weight", "20,24", "is surplus"},
	{V3, ADD, LAYER "self_attn.k_proj.weight", "20,24", "is surplus"},
	{V3, ADD, LAYER "self_attn.o_proj.bias", "24", "is surplus"},
	{V3, ADD, LAYER "mlp.gate_proj.weight", "20,24", "is surplus"},
	{V3, ADD, "model.layers.0.mlp.gate.weight", "4,24", "is surplus"},
	{V3, ADD, "model.layers.0.mlp.experts.0.up_proj.weight", "6,24",
		"is surplus"},
	{V3, ADD, EXPERT "up_proj.weight_scale_inv", "1,1",
		"fp8 scales without quantization_config"},
	{V3, ADD, LAYER "input_layernorm.weight_scale_inv", "1", "is surplus"},
	{V2, ADD, LAYER "mlp.gate.e_score_correction_bias", "4", "is surplus"},
	{V2, ADD, "model.layers.3.enorm.weight", "24", "is surplus"},
	{QWEN3, ADD, LAYER "self_attn.q_proj.bias", "32", "is surplus"},
	{QWEN3, ADD, LAYER "mlp.shared_expert_gate.weight", "1,24",
		"is surplus"},
	{QWEN2, ADD, LAYER "mlp.gate.weight", "4,24", "is surplus"},
	{OLMOE, ADD, LAYER "mlp.shared_expert.up_proj.weight", "6,24",
		"is surplus"},
	{MIXTRAL, ADD, LAYER "mlp.experts.0.w1.weight", "6,24", "is surplus"},
	{MIXTRAL, ADD, LAYER "mlp.gate.weight", "4,24",
		"is there twice, as \"" LAYER "block_sparse_moe.gate"},
	{GRANITE, ADD, LAYER "block_sparse_moe.router.weight", "4,24",
		"is there twice"},
	{GRANITE, ADD, "lm_head.weight", "40,25",
		"shape [40, 25], expected [40, 24]"},
	{V3, CONFIG, "\"num_nextn_predict_layers\": 1",
		"\"num_nextn_predict_layers\": 1, \"q_lora_rank\": 8",
		"duplicate object key"},
	{FP8, CONFIG, "\"num_nextn_predict_layers\": 1",
		"\"num_nextn_predict_layers\": 0", "is surplus"},
	/* shapes */
	{V3, SHAPE, EXPERT "up_proj.weight", "6,23",
		"tensor \"" EXPERT "up_proj.weight\": shape [6, 23], expected "
		"[6, 24]"},
	{V3, SHAPE, EXPERT "up_proj.weight", "24,6",
		"shape [24, 6], expected [6, 24]"},
	{V3, SHAPE, EXPERT "up_proj.weight", "144",
		"shape [144], expected [6, 24]"},
	{V3, SHAPE, EXPERT "up_proj.weight", "1,6,24",
		"shape [1, 6, 24], expected [6, 24]"},
	{V3, SHAPE, EXPERT "up_proj.weight", "0,24", "shape [0, 24]"},
	{V3, SHAPE, EXPERT "up_proj.weight", "", "shape [], expected"},
	{V3, SHAPE, EXPERT "up_proj.weight", "1,1,1,1,1,1,6,24",
		"shape [1, 1, 1, 1, 1, 1, 6, 24]"},
	{V3, SHAPE, EXPERT "up_proj.weight", "1,1,1,1,1,1,1,6,24",
		"rank 9, at most 8"},
	{V3, SHAPE, LAYER "input_layernorm.weight", "25",
		"shape [25], expected [24]"},
	{V3, SHAPE, LAYER "input_layernorm.weight", "1,24",
		"shape [1, 24], expected [24]"},
	{V3, SHAPE, LAYER "self_attn.kv_a_layernorm.weight", "14",
		"shape [14], expected [10]"},
	{V3, SHAPE, "model.embed_tokens.weight", "41,24",
		"shape [41, 24], expected [40, 24]"},
	{V3, SHAPE, LAYER "mlp.gate.e_score_correction_bias", "5",
		"shape [5], expected [4]"},
	{QWEN2, SHAPE, "model.layers.0.mlp.shared_expert_gate.weight", "24",
		"shape [24], expected [1, 24]"},
	{OLMOE, SHAPE, LAYER "self_attn.k_norm.weight", "24",
		"shape [24], expected [12]"},
	{GRANITE, SHAPE, LAYER "block_sparse_moe.input_linear.weight", "4,6,24",
		"shape [4, 6, 24], expected [4, 12, 24]"},
	{GRANITE, SHAPE, LAYER "block_sparse_moe.output_linear.weight",
		"3,24,6", "shape [3, 24, 6], expected [4, 24, 6]"},
	{FP8, SHAPE, LAYER "self_attn.q_b_proj.weight_scale_inv", "1,2",
		"shape [1, 2], expected [2, 1]"},
	{FP8, CONFIG, "[16, 8]", "[8, 16]", "_scale_inv\": shape"},
	{V3, CONFIG, "\"vocab_size\": 40", "\"vocab_size\": 41",
		"\"model.embed_tokens.weight\": shape [40, 24]"},
	/* types */
	{V3, TYPE, EXPERT "up_proj.weight", "I16", "type I16 cannot be loaded"},
	{V3, TYPE, LAYER "input_layernorm.weight", "F64",
		"type F64 cannot be loaded"},
	{V3, TYPE, EXPERT "up_proj.weight", "F32", "is f32, other experts"},
	{V3, TYPE, EXPERT "up_proj.weight", "F16", "is f16, other experts"},
	{V3, TYPE, EXPERT "up_proj.weight", "F8_E4M3",
		"type F8_E4M3 without quantization_config"},
	{V3, TYPE, EXPERT "up_proj.weight", "F8_E5M2",
		"type F8_E5M2 cannot be loaded"},
	{V3, TYPE, EXPERT "up_proj.weight", "Q4_0", "unknown dtype \"Q4_0\""},
	{FP8, TYPE, LAYER "input_layernorm.weight", "F8_E4M3",
		"type F8_E4M3 for a vector"},
	{FP8, TYPE, EXPERT "up_proj.weight", "BF16",
		"has fp8 scales, but is bf16"},
	{FP8, TYPE, EXPERT "up_proj.weight_scale_inv", "BF16",
		"type BF16, scales are F32"},
	/* fused experts */
	{V3, FUSE, "1", "mlp.experts.gate_up_proj", "both fused and separate"},
	{V3, ADD, LAYER "mlp.experts.gate_up_proj", "4,12,24",
		"layer 1: experts are both fused and separate"},
	{V3, ADD, LAYER "mlp.experts.down_proj", "4,24,6",
		"both fused and separate"},
	{FP8, ADD, LAYER "mlp.experts.gate_up_proj_scale_inv", "4,1,3",
		"is surplus"},
	{MIXTRAL, ADD, LAYER "mlp.experts.gate_up_proj", "4,12,24",
		"both fused and separate"},
	{GRANITE, ADD, LAYER "block_sparse_moe.experts.gate_up_proj", "4,12,24",
		"is there twice"},
	/* headers; tests/test_safetensors.c has many more */
	{V3, HEADER, EMBED, "\"model.embed_tokens.weight\":{}",
		FILE_1 ": tensor \"model.embed_tokens.weight\": has other"},
	{V3, HEADER, "[0,1920]", "[1920,0]", "data_offsets are reversed"},
	{V3, HEADER, "[0,1920]", "[0,1918]", "span 1918 bytes"},
	{V3, HEADER, "[0,1920]", "[-2,1918]", "no two offsets"},
	{V3, HEADER, "[0,1920]", "[0.0,1920]", "no two offsets"},
	{V3, HEADER, "[40,24]", "[40.0,24]", "what is no size"},
	{V3, HEADER, "[40,24]", "[4611686018427387944,24]", "overflows"},
	{V3, HEADER, "[40,24],\"data_offsets\":[0,1920]",
		"[39,24],\"data_offsets\":[48,1920]", "leaves a gap"},
	{V3, HEADER, "[40,24],\"data_offsets\":[0,1920]",
		"[41,24],\"data_offsets\":[0,1968]", "overlaps"},
	{V3, HEADER, "{", "{\"__metadata__\":{\"a\":1},", "is no string"},
	{V3, HEADER, "{", " {", "does not begin with {"},
	{V3, HEADER, "{", "{" EMBED ",", "duplicate object key"},
	{V3, HEADER, "model.embed_tokens", "model.embed_tokens\\u0001",
		"byte 0x01 in its name"},
	{V3, HEADER_IS, "{}", 0, "that no tensor covers"},
	{V3, HEADER_IS, "{\"a\":", 0, FILE_1 ": header: line 1 column"},
	{V3, HEADER_LENGTH, "100000001", 0, "header length 100000001"},
	{V3, HEADER_LENGTH, "99999999", 0, "truncated: header of 99999999"},
	{V3, HEADER_LENGTH, "18446744073709551615", 0, "header length"},
	{V3, BYTES, "-1", 0, "the file holds"},
	{V3, BYTES, "1", 0, "1 bytes of data that no tensor covers"},
	{V3, SIZE_CHANGED, "-1", 0, FILE_1 ": changed:"},
	{V3, SIZE_CHANGED, "1", 0, "when it was opened, now"},
	/* files and index */
	{V3, RENAME_IN_FILE, "model.norm.weight", "model.norm.wait",
		"tensor \"model.norm.wait\": is not in the index"},
	{V3, RENAME, "model.norm.weight", "model.norm.wait", "is surplus"},
	{V3, DROP_IN_FILE, "model.norm.weight", 0,
		FILE_2 ": tensor \"model.norm.weight\": is not in the file, "
		       "although the index says so"},
	{V3, MOVE, "model.embed_tokens.weight", 0,
		FILE_2 ": tensor \"model.embed_tokens.weight\": the index says "
		       "that it is in " FILE_1},
	{V3, COPY, "model.embed_tokens.weight", 0,
		FILE_2 ": tensor \"model.embed_tokens.weight\": the index"},
	{V3, FILE_GONE, 0, 0, "which is not there"},
	{V3, INDEX, "\"" FILE_1 "\"", "\"../" FILE_1 "\"",
		"is in \"../" FILE_1 "\", which is not there"},
	{V3, INDEX, "\"" FILE_1 "\"", "\"/etc/passwd\"",
		"is in \"/etc/passwd\", which is not there"},
	{V3, INDEX, "\"" FILE_1 "\"", "\"\"", "which is not there"},
	{V3, INDEX, "\"" FILE_1 "\"", "1", "is in no file"},
	{V3, INDEX, "\"" FILE_1 "\"", "[\"" FILE_1 "\"]", "is in no file"},
	{V3, INDEX, "\"" FILE_1 "\",", "\"" FILE_1 "\"",
		INDEX_NAME ": line 4 column"},
	{V3, INDEX, "weight_map", "weights", "weight_map is no object"},
	{V3, INDEX, "\"weight_map\": {", "\"weight_map\": {\n\"x\": \"x\",",
		"tensor \"x\": is in \"x\", which is not there"},
	{V3, INDEX, "\"weight_map\": {",
		"\"weight_map\": {\n\"x\": \"" FILE_1 "\",",
		"tensor \"x\": is not in the file, although"},
	{V3, INDEX, "\"weight_map\": {",
		"\"weight_map\": {\n\"lm_head.weight\": \"" FILE_1 "\",",
		"duplicate object key"},
	{V3, INDEX_IS, "[]", 0, "is not a JSON object"},
	{V3, INDEX_IS, "", 0, INDEX_NAME ": line"},
	{V3, INDEX_IS, "{\"weight_map\": []}", 0, "weight_map is no object"},
	{V3, INDEX_IS, "{\"weight_map\": {}}", 0,
		"\"model.embed_tokens.weight\" is missing (67 missing in all)"},
	{V3, INDEX_IS, NULL, 0, "neither model.safetensors nor an index"},
};

static void change_tensor(struct checkpoint *c, const struct hostile *h)
{
	struct checkpoint_file *file;
	struct st_tensor *tensor = checkpoint_find(c, h->a, &file), copy;
	struct checkpoint_file *other = &c->files[file == &c->files[0]];
	const char *next = h->b;

	switch (h->change) {
	case RENAME:
	case RENAME_IN_FILE:
		snprintf(tensor->name, sizeof(tensor->name), "%s", h->b);
		break;
	case DROP:
	case DROP_IN_FILE:
		st_remove(&file->tensors, tensor);
		break;
	case TYPE:
		snprintf(tensor->type, sizeof(tensor->type), "%s", h->b);
		break;
	case SHAPE:
		for (tensor->rank = 0; *next; tensor->rank++) {
			char *end;

			tensor->shape[tensor->rank] = strtoull(next, &end, 10);
			next = end + (*end == ',');
		}
		break;
	default:
		copy = *tensor;
		if (h->change == MOVE)
			st_remove(&file->tensors, tensor);
		st_add(&other->tensors, copy.name, copy.type, copy.rank,
			copy.shape);
		break;
	}
}

static void add_tensor(
	struct checkpoint *c, const char *name, const char *shape)
{
	struct st_tensor *tensor =
		st_add(&c->files[1].tensors, name, "BF16", 0, NULL);

	while (*shape) {
		char *end;

		tensor->shape[tensor->rank++] = strtoull(shape, &end, 10);
		shape = end + (*end == ',');
	}
}

/* One expert's matrix gives way to all of them in one tensor. */
static void fuse_experts(struct checkpoint *c, const struct hostile *h)
{
	char name[128];
	struct checkpoint_file *file;
	struct st_tensor *tensor;

	snprintf(name, sizeof(name),
		"model.layers.%s.mlp.experts.0."
		"gate_proj.weight",
		h->a);
	tensor = checkpoint_find(c, name, &file);
	snprintf(tensor->name, sizeof(tensor->name), "model.layers.%s.%s", h->a,
		h->b);
	tensor->rank = 3;
	tensor->shape[0] = c->config.router.expert_count;
	tensor->shape[1] = (uint64_t)2 * c->config.expert_inter;
	tensor->shape[2] = c->config.hidden;
}

static void change_files(struct checkpoint *c, const struct hostile *h)
{
	struct checkpoint_file *first = &c->files[0];

	switch (h->change) {
	case HEADER:
		first->header = st_header(&first->tensors);
		text_replace(&first->header, h->a, h->b);
		break;
	case HEADER_IS:
		first->header = strdup(h->a);
		break;
	case HEADER_LENGTH:
		first->length_field = strtoull(h->a, NULL, 10);
		break;
	case BYTES:
		first->more_bytes = strtoll(h->a, NULL, 10);
		break;
	case SIZE_CHANGED:
		first->size_change = strtoll(h->a, NULL, 10);
		break;
	case INDEX:
		text_replace(&c->index_text, h->a, h->b);
		break;
	case INDEX_IS:
		free(c->index_text);
		c->index_text = h->a ? strdup(h->a) : NULL;
		break;
	case FILE_GONE:
		c->files[1].absent = true;
		break;
	default:
		text_replace(&c->config_text, h->a, h->b);
		break;
	}
}

static void make_hostile(struct checkpoint *c, const struct hostile *h)
{
	static const enum model_family families[] = {
		[V2] = FAMILY_DEEPSEEK_V2,
		[V3] = FAMILY_DEEPSEEK_V3,
		[FP8] = FAMILY_DEEPSEEK_V3,
		[QWEN2] = FAMILY_QWEN2_MOE,
		[QWEN3] = FAMILY_QWEN3_MOE,
		[MIXTRAL] = FAMILY_MIXTRAL,
		[OLMOE] = FAMILY_OLMOE,
		[GRANITE] = FAMILY_GRANITE_MOE,
	};
	bool reindex = false;

	checkpoint_init(c, families[h->base], h->base == FP8);
	switch (h->change) {
	case RENAME:
	case DROP:
	case TYPE:
	case SHAPE:
	case RENAME_IN_FILE:
	case DROP_IN_FILE:
	case COPY:
	case MOVE:
		change_tensor(c, h);
		reindex = h->change == RENAME || h->change == DROP;
		break;
	case ADD:
		add_tensor(c, h->a, h->b);
		reindex = true;
		break;
	case FUSE:
		fuse_experts(c, h);
		reindex = true;
		break;
	default:
		change_files(c, h);
		break;
	}
	checkpoint_layout(c);
	if (reindex)
		checkpoint_write_index(c);
}

static void test_plan__hostile_checkpoints(void)
{
	size_t count = sizeof(hostiles) / sizeof(hostiles[0]);

	for (size_t i = 0; i < count; i++) {
		const struct hostile *h = &hostiles[i];
		struct checkpoint c;
		struct model_plan got;
		struct error err;
		int rc;

		make_hostile(&c, h);
		rc = plan(&c, &got, &err);
		if (rc != -EINVAL || !strstr(err.text, h->expect))
			printf("\n    %zu: got %d \"%s\", expected \"%s\"\n", i,
				rc, err.text, h->expect);
		CU_ASSERT_EQUAL(rc, -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, h->expect));
		CU_ASSERT_PTR_NULL(got.items);
		if (rc == 0)
			model_plan_release(&got);
		checkpoint_release(&c);
	}
	printf("%zu checkpoints ", count);
}

/* Fused experts in fp8 would need scales of three dimensions. */
static void test_plan__fused_fp8_is_refused(void)
{
	struct checkpoint c;
	struct model_config plain;
	struct model_plan got;
	struct error err;

	checkpoint_init(&c, FAMILY_DEEPSEEK_V3, true);
	plain = c.config;
	plain.fp8 = false;
	st_release(&c.files[0].tensors);
	st_release(&c.files[1].tensors);
	st_model_add(&c.files[0].tensors, &plain, ST_TRANSFORMERS5, "BF16");
	strcpy(st_find(&c.files[0].tensors,
		       "model.layers.1.mlp.experts.gate_up_proj")
			->type,
		"F8_E4M3");
	checkpoint_layout(&c);
	checkpoint_write_index(&c);
	CU_ASSERT_EQUAL(plan(&c, &got, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "for fused experts"));
	checkpoint_release(&c);
}

/* ---- names ---- */

/* Every published name is found again under the name that is shown. */
static void test_name_format__round_trip(void)
{
	for (int family = 0; family < FAMILY_COUNT; family++) {
		struct checkpoint c;

		checkpoint_init(&c, (enum model_family)family, false);
		for (size_t i = 0; i < c.files[0].tensors.count; i++) {
			const char *name = c.files[0].tensors.tensors[i].name;
			struct name_match match = name_match(&c.config, name);
			char shown[256];

			CU_ASSERT_EQUAL(match.kind, NAME_WEIGHT);
			name_format(&c.config, &match, shown, sizeof(shown));
			CU_ASSERT_STRING_EQUAL(shown, name);
		}
		checkpoint_release(&c);
	}
}

static void test_tensor_role_name__all_differ(void)
{
	for (int a = 0; a < ROLE_COUNT; a++)
		for (int b = 0; b < a; b++)
			CU_ASSERT_STRING_NOT_EQUAL(
				tensor_role_name((enum tensor_role)a),
				tensor_role_name((enum tensor_role)b));
}

/* ---- files as they are published ---- */

static void check_golden(const char *path)
{
	struct generation_config generation;
	struct model_config config;
	struct model_files files;
	struct model_plan got = {0};
	struct error err = {0};
	size_t length = 0, more = 0;
	char *text = NULL, *extra = NULL;
	int rc = model_dir_open(path, &files, &err);

	if (rc == 0)
		rc = model_file_text(&files.config, &text, &length, &err);
	if (rc == 0)
		rc = model_config_parse(
			text, length, files.config.name, &config, &err);
	if (rc == 0)
		rc = model_file_text(&files.generation, &extra, &more, &err);
	if (rc == 0)
		rc = generation_config_parse(
			extra, more, text, length, &config, &generation, &err);
	if (rc == 0)
		rc = model_plan_create(&files, &config, &got, &err);
	if (rc)
		printf("\n    %s: %s\n", path, err.text);
	CU_ASSERT_EQUAL(rc, 0);
	if (rc == 0) {
		CU_ASSERT(generation.eos_count > 0);
		check_items(&got);
	}
	model_plan_release(&got);
	model_files_close(&files);
	free(text);
	free(extra);
}

static void test_plan__golden_checkpoints(void)
{
	DIR *list = opendir("tests/golden");
	struct dirent *entry;
	unsigned count = 0;
	char path[512];

	while (list && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "tests/golden/%s/config.json",
			entry->d_name);
		if (access(path, F_OK) == 0) {
			*strrchr(path, '/') = '\0';
			check_golden(path);
			count++;
		}
	}
	if (list)
		closedir(list);
	printf("%u checkpoints ", count);
	CU_ASSERT(count >= 12);
}

/* ---- faults ---- */

/* What a call returns after the armed fault, or without one. */
static int expected_rc(void)
{
	if (!fake_os_has_failed())
		return 0;
	return fake_os_failed_call() == FAKE_OS_ALLOCATE ? -ENOMEM : -EIO;
}

/* Each call fails in turn: an error, and nothing is left behind. */
static void check_faults(enum model_family family, bool fp8)
{
	struct checkpoint c;
	struct model_files files;
	uint64_t n = 0;
	int rc;

	checkpoint_init(&c, family, fp8);
	checkpoint_open(&c, &files);
	do {
		struct model_plan got = {0};
		struct error err = {0};

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, ++n, EIO);
		rc = model_plan_create(&files, &c.config, &got, &err);
		CU_ASSERT_EQUAL(rc, expected_rc());
		CU_ASSERT_EQUAL(err.code, rc);
		CU_ASSERT(rc == 0 || got.items == NULL);
		model_plan_release(&got);
		CU_ASSERT(fake_os_check_empty());
	} while (fake_os_has_failed() && n < 100000);
	fake_os_disarm();
	CU_ASSERT(n > 500);
	printf("%llu calls ", (unsigned long long)n);
	model_files_close(&files);
	checkpoint_release(&c);
}

static void test_plan__nth_call_fails(void)
{
	check_faults(FAMILY_GRANITE_MOE, false);
	check_faults(FAMILY_DEEPSEEK_V3, true);
}

static void test_model_file_text__limits(void)
{
	struct model_file file = {.name = "big.json"};
	struct error err = {0};
	size_t length;
	char *text;

	file.fd = st_memfd_bytes("{}", 2);
	file.size_bytes = (uint64_t)MODEL_JSON_BYTES_MAX + 1;
	CU_ASSERT_EQUAL(model_file_text(&file, &text, &length, &err), -EFBIG);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "big.json: 67108865 bytes"));
	error_clear(&err);
	file.size_bytes = 1;
	CU_ASSERT_EQUAL(model_file_text(&file, &text, &length, &err), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "changed while"));
	error_clear(&err);
	file.size_bytes = 3;
	CU_ASSERT_EQUAL(model_file_text(&file, &text, &length, &err), -EIO);
	error_clear(&err);
	file.size_bytes = 2;
	fake_os_reset();
	fake_os_fail(FAKE_OS_READ, 1, EINTR);
	CU_ASSERT_EQUAL(model_file_text(&file, &text, &length, &err), 0);
	CU_ASSERT(fake_os_has_failed());
	fake_os_disarm();
	CU_ASSERT_EQUAL(length, 2);
	CU_ASSERT_STRING_EQUAL(text, "{}");
	free(text);
	close(file.fd);
}

static const struct suite_case cases[] = {
	SUITE_CASE(plan__every_family),
	SUITE_CASE(plan__fused_experts),
	SUITE_CASE(plan__items_of_mla),
	SUITE_CASE(plan__fp8),
	SUITE_CASE(plan__fp8_is_per_tensor),
	SUITE_CASE(plan__known_and_unused),
	SUITE_CASE(plan__files_that_nothing_names),
	SUITE_CASE(plan__hostile_checkpoints),
	SUITE_CASE(plan__fused_fp8_is_refused),
	SUITE_CASE(name_format__round_trip),
	SUITE_CASE(tensor_role_name__all_differ),
	SUITE_CASE(plan__golden_checkpoints),
	SUITE_CASE(plan__nth_call_fails),
	SUITE_CASE(model_file_text__limits),
};

int main(void)
{
	return SUITE_MAIN("plan", cases);
}
