/* test_config.c - config.json of every family, right and wrong */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"
#include "tests/fake/fake_os.h"
#include "tests/published_configs.h"
#include "tests/suite.h"

static bool is_near(double a, double b)
{
	return fabs(a - b) <= 1e-6 * fabs(b);
}

static int parse(const char *text, struct model_config *out, struct error *err)
{
	*err = (struct error){0};
	return model_config_parse(text, strlen(text), "config.json", out, err);
}

/* The config of a text that has to be accepted. */
static struct model_config accept(const char *text)
{
	struct model_config config = {0};
	struct error err;

	if (parse(text, &config, &err))
		printf("\n    %s\n", err.text);
	CU_ASSERT_EQUAL(err.code, 0);
	return config;
}

/* `text` with the first `from` replaced; the caller frees. */
static char *edit(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	size_t size = strlen(text) + strlen(to) + 1;
	char *out = malloc(size);

	assert(at && out);
	snprintf(out, size, "%.*s%s%s", (int)(at - text), text, to,
		at + strlen(from));
	return out;
}

static struct model_config accept_edit(
	const char *text, const char *from, const char *to)
{
	char *edited = edit(text, from, to);
	struct model_config config = accept(edited);

	free(edited);
	return config;
}

/* ---- published configs ---- */

static void test_config__v2_lite(void)
{
	struct model_config c = accept(published_v2_lite);

	CU_ASSERT_EQUAL(c.family, FAMILY_DEEPSEEK_V2);
	CU_ASSERT_EQUAL(c.vocab, 102400);
	CU_ASSERT_EQUAL(c.hidden, 2048);
	CU_ASSERT_EQUAL(c.layer_count, 27);
	CU_ASSERT_EQUAL(c.position_count, 163840);
	CU_ASSERT_EQUAL(c.attention, ATTENTION_MLA);
	CU_ASSERT_EQUAL(c.head_count, 16);
	CU_ASSERT_EQUAL(c.kv_head_count, 1);
	CU_ASSERT_EQUAL(c.head_dim, 192);
	CU_ASSERT_EQUAL(c.q_lora_rank, 0);
	CU_ASSERT_EQUAL(c.kv_lora_rank, 512);
	CU_ASSERT_EQUAL(c.value_dim, 128);
	CU_ASSERT(fabs(c.attention_scale - 0.11472) < 5e-6);
	CU_ASSERT_EQUAL(c.rope.dim, 64);
	CU_ASSERT(c.rope.interleaved);
	CU_ASSERT_EQUAL(c.rope.scale, 1);
	CU_ASSERT_FALSE(c.is_moe[0]);
	CU_ASSERT(c.is_moe[1] && c.is_moe[26]);
	CU_ASSERT_EQUAL(c.moe_layer_count, 26);
	CU_ASSERT_EQUAL(c.dense_inter, 10944);
	CU_ASSERT_EQUAL(c.expert_inter, 1408);
	CU_ASSERT_EQUAL(c.shared_inter, 2816);
	CU_ASSERT_FALSE(c.shared_gate || c.router_bias || c.tied_head);
	CU_ASSERT_EQUAL(c.router.score, ROUTER_SOFTMAX);
	CU_ASSERT_EQUAL(c.router.group, ROUTER_GROUP_NONE);
	CU_ASSERT_EQUAL(c.router.expert_count, 64);
	CU_ASSERT_EQUAL(c.router.topk, 6);
	CU_ASSERT_FALSE(c.router.normalise);
	CU_ASSERT_EQUAL(c.router.scale, 1);
	CU_ASSERT_EQUAL(model_key_width(&c), 576);
	CU_ASSERT_EQUAL(model_value_width(&c), 0);
	CU_ASSERT_EQUAL(c.embed_scale, 1);
	CU_ASSERT_EQUAL(c.logit_scale, 1);
	CU_ASSERT_STRING_EQUAL(model_family_name(c.family), "deepseek_v2");
}

/* The adapters' base has no YaRN, so no mscale in the softmax either. */
static void test_config__esft_has_no_yarn(void)
{
	struct model_config c = accept(published_esft);

	CU_ASSERT(is_near(c.attention_scale, 1 / sqrt(192)));
	CU_ASSERT_EQUAL(c.position_count, 4096);
	CU_ASSERT(is_near(c.rope.inv_freq[31], pow(10000, -62.0 / 64)));
}

static void test_config__v2_groups(void)
{
	struct model_config c = accept(published_v2);

	CU_ASSERT_EQUAL(c.q_lora_rank, 1536);
	CU_ASSERT_EQUAL(c.router.group, ROUTER_GROUP_MAX);
	CU_ASSERT_EQUAL(c.router.group_count, 8);
	CU_ASSERT_EQUAL(c.router.group_topk, 3);
	CU_ASSERT_EQUAL(c.router.scale, 16);
	CU_ASSERT_FALSE(c.router.normalise);
}

static void check_v3(const struct model_config *c)
{
	CU_ASSERT_EQUAL(c->family, FAMILY_DEEPSEEK_V3);
	CU_ASSERT_EQUAL(c->layer_count, 61);
	CU_ASSERT_EQUAL(c->moe_layer_count, 58);
	CU_ASSERT_FALSE(c->is_moe[2]);
	CU_ASSERT(c->is_moe[3]);
	CU_ASSERT_EQUAL(c->router.score, ROUTER_SIGMOID);
	CU_ASSERT_EQUAL(c->router.group, ROUTER_GROUP_TOP2);
	CU_ASSERT_EQUAL(c->router.group_count, 8);
	CU_ASSERT_EQUAL(c->router.group_topk, 4);
	CU_ASSERT(c->router.normalise && c->router_bias);
	CU_ASSERT_EQUAL(c->router.normalise_epsilon, 1e-20f);
	CU_ASSERT_EQUAL(c->router.scale, 2.5f);
	CU_ASSERT_EQUAL(c->shared_inter, 2048);
	CU_ASSERT(fabs(c->attention_scale * sqrt(192) - 1.8739) < 5e-5);
	CU_ASSERT_EQUAL(c->rope.scale, 1);
	CU_ASSERT(c->rope.interleaved);
	CU_ASSERT_EQUAL(c->mtp_layer_count, 1);
}

static void test_config__v3(void)
{
	struct model_config c = accept(published_v3);

	check_v3(&c);
	CU_ASSERT(c.fp8);
	CU_ASSERT_EQUAL(c.fp8_block_rows, 128);
	CU_ASSERT_EQUAL(c.fp8_block_cols, 128);
}

static void test_config__v3_written_by_5(void)
{
	struct model_config c = accept(written5_v3);

	check_v3(&c);
	CU_ASSERT_FALSE(c.fp8);
}

static void check_qwen2(const struct model_config *c)
{
	CU_ASSERT_EQUAL(c->family, FAMILY_QWEN2_MOE);
	CU_ASSERT_EQUAL(c->attention, ATTENTION_HEADS);
	CU_ASSERT_EQUAL(c->head_dim, 128);
	CU_ASSERT_EQUAL(c->value_dim, 128);
	CU_ASSERT(c->qkv_bias && c->shared_gate);
	CU_ASSERT_EQUAL(c->qk_norm, QK_NORM_NONE);
	CU_ASSERT_EQUAL(c->shared_inter, 5632);
	CU_ASSERT_EQUAL(c->expert_inter, 1408);
	CU_ASSERT_EQUAL(c->dense_inter, 0);
	CU_ASSERT_EQUAL(c->moe_layer_count, 24);
	CU_ASSERT_FALSE(c->rope.interleaved);
	CU_ASSERT_FALSE(c->router.normalise);
	CU_ASSERT(is_near(c->attention_scale, 1 / sqrt(128)));
	CU_ASSERT(is_near(c->rope.inv_freq[63], 1.24093776e-06));
	CU_ASSERT_EQUAL(model_key_width(c), 2048);
	CU_ASSERT_EQUAL(model_value_width(c), 2048);
}

static void test_config__qwen2(void)
{
	struct model_config c = accept(published_qwen2);

	check_qwen2(&c);
	for (uint32_t l = 0; l < c.layer_count; l++)
		CU_ASSERT_EQUAL(c.window[l], 0);
}

static void test_config__qwen2_written_by_5(void)
{
	struct model_config c = accept(written5_qwen2);

	check_qwen2(&c);
	for (uint32_t l = 0; l < c.layer_count; l++)
		CU_ASSERT_EQUAL(c.window[l], l % 2 ? 0 : 4096);
}

static void check_qwen3(const struct model_config *c)
{
	CU_ASSERT_EQUAL(c->family, FAMILY_QWEN3_MOE);
	CU_ASSERT_EQUAL(c->head_dim, 128);
	CU_ASSERT_EQUAL(c->head_count, 32);
	CU_ASSERT_EQUAL(c->kv_head_count, 4);
	CU_ASSERT_EQUAL(c->qk_norm, QK_NORM_HEAD);
	CU_ASSERT_FALSE(c->qkv_bias);
	CU_ASSERT_EQUAL(c->router.expert_count, 128);
	CU_ASSERT_EQUAL(c->router.topk, 8);
	CU_ASSERT(c->router.normalise);
	CU_ASSERT_EQUAL(c->router.normalise_epsilon, 0);
	CU_ASSERT_EQUAL(c->expert_inter, 768);
	CU_ASSERT_EQUAL(c->window[47], 0);
	CU_ASSERT_EQUAL(model_key_width(c), 512);
}

static void test_config__qwen3(void)
{
	struct model_config c = accept(published_qwen3);

	check_qwen3(&c);
	c = accept(written5_qwen3);
	check_qwen3(&c);
}

static void test_config__mixtral(void)
{
	struct model_config c = accept(published_mixtral);

	CU_ASSERT_EQUAL(c.family, FAMILY_MIXTRAL);
	CU_ASSERT_EQUAL(c.expert_inter, 14336);
	CU_ASSERT_EQUAL(c.dense_inter, 0);
	CU_ASSERT_EQUAL(c.kv_head_count, 8);
	CU_ASSERT_EQUAL(c.router.score, ROUTER_SOFTMAX);
	CU_ASSERT(c.router.normalise);
	CU_ASSERT_EQUAL(c.router.normalise_epsilon, 0);
	CU_ASSERT_EQUAL(c.window[0], 0);
	CU_ASSERT_EQUAL(c.norm_epsilon, 1e-5f);
	CU_ASSERT(is_near(c.rope.inv_freq[32], 1e-3));
}

static void test_config__olmoe(void)
{
	struct model_config c = accept(published_olmoe);

	CU_ASSERT_EQUAL(c.family, FAMILY_OLMOE);
	CU_ASSERT_EQUAL(c.qk_norm, QK_NORM_FULL);
	CU_ASSERT_EQUAL(c.qkv_clip, 0);
	CU_ASSERT_FALSE(c.router.normalise);
	/* The published file does not say; the class does. */
	CU_ASSERT_EQUAL(c.norm_epsilon, 1e-5f);
}

static void test_config__granite(void)
{
	struct model_config c = accept(published_granite);

	CU_ASSERT_EQUAL(c.family, FAMILY_GRANITE_MOE);
	CU_ASSERT_EQUAL(c.attention_scale, 0.015625f);
	CU_ASSERT_EQUAL(c.embed_scale, 12);
	CU_ASSERT_EQUAL(c.residual_scale, 0.22f);
	CU_ASSERT(is_near(c.logit_scale, 1.0 / 6));
	CU_ASSERT_EQUAL(c.router.score, ROUTER_TOPK_SOFTMAX);
	CU_ASSERT_FALSE(c.router.normalise);
	CU_ASSERT_EQUAL(c.head_dim, 64);
	CU_ASSERT(c.tied_head);
}

/* ---- semantics that bite ---- */

/* Normalised weights are not scaled; with one expert it is the reverse. */
static void test_config__v2_normalises_or_scales(void)
{
	char *scaled = edit(published_v2_lite, "\"routed_scaling_factor\": 1.0",
		"\"routed_scaling_factor\": 1.7");
	struct model_config c = accept(scaled);
	char *normalised = edit(scaled, "\"norm_topk_prob\": false",
		"\"norm_topk_prob\": true");

	CU_ASSERT_FALSE(c.router.normalise);
	CU_ASSERT_EQUAL(c.router.scale, 1.7f);
	c = accept(normalised);
	CU_ASSERT(c.router.normalise);
	CU_ASSERT_EQUAL(c.router.normalise_epsilon, 1e-20f);
	CU_ASSERT_EQUAL(c.router.scale, 1);
	c = accept_edit(normalised, "\"num_experts_per_tok\": 6",
		"\"num_experts_per_tok\": 1");
	CU_ASSERT_FALSE(c.router.normalise);
	CU_ASSERT_EQUAL(c.router.scale, 1.7f);
	free(normalised);
	free(scaled);
}

static void test_config__groups_of_one_are_none(void)
{
	struct model_config c =
		accept_edit(published_v2, "\"n_group\": 8", "\"n_group\": 1");

	CU_ASSERT_EQUAL(c.router.group, ROUTER_GROUP_NONE);
	c = accept_edit(published_v3, "\"n_group\": 8", "\"n_group\": null");
	CU_ASSERT_EQUAL(c.router.group, ROUTER_GROUP_NONE);
	c = accept_edit(published_v2, "group_limited_greedy", "greedy");
	CU_ASSERT_EQUAL(c.router.group, ROUTER_GROUP_NONE);
}

/* Frequencies and scales as transformers 5.23 computes them in float32. */
static void check_frequencies(const struct model_config *c, size_t step,
	const double *want, double want_last)
{
	for (size_t i = 0; i < 8; i++)
		CU_ASSERT(is_near(c->rope.inv_freq[i * step], want[i]));
	CU_ASSERT(is_near(c->rope.inv_freq[c->rope.dim / 2 - 1], want_last));
}

static void test_config__yarn_of_deepseek(void)
{
	static const double want[8] = {1, 0.316227764, 0.100000001,
		0.0268793609, 0.00550000044, 0.000790569407, 2.49999994e-05,
		7.90569447e-06};
	struct model_config c = accept(published_v2_lite);
	double half = 0.1 * 0.5 * log(40) + 1;
	char *text;

	check_frequencies(&c, 4, want, 3.33380353e-06);
	text = edit(published_v2_lite,
		"\"mscale\": 0.707, \"mscale_all_dim\": 0.707",
		"\"mscale\": 1.0, \"mscale_all_dim\": 0.5");
	c = accept(text);
	free(text);
	check_frequencies(&c, 4, want, 3.33380353e-06);
	CU_ASSERT(is_near(c.rope.scale, 1.15572199));
	CU_ASSERT(is_near(c.attention_scale, half * half / sqrt(192)));
}

/* No pair turns once in six tokens: all but the first are slowed down. */
static void test_config__yarn_without_a_ramp(void)
{
	struct model_config c = accept_edit(published_v2_lite,
		"\"original_max_position_embeddings\": 4096",
		"\"original_max_position_embeddings\": 6");

	CU_ASSERT_EQUAL(c.rope.inv_freq[0], 1);
	CU_ASSERT(is_near(c.rope.inv_freq[1], pow(10000, -1.0 / 32) / 40));
}

static void test_config__yarn_of_others(void)
{
	static const double want[8] = {1, 0.177827939, 0.0316227786,
		0.00537532149, 0.000602941145, 4.44569851e-05, 7.90569356e-06,
		1.40585337e-06};
	static const double real[8] = {1, 0.177827939, 0.0316227786,
		0.00551727042, 0.000607408001, 4.44569851e-05, 7.90569356e-06,
		1.40585337e-06};
	struct model_config c = accept_edit(published_qwen3,
		"\"rope_scaling\": null",
		"\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
		"\"original_max_position_embeddings\": 32768}");

	check_frequencies(&c, 8, want, 3.10234441e-07);
	CU_ASSERT(is_near(c.rope.scale, 1.13862944));
	CU_ASSERT(is_near(c.attention_scale, 1 / sqrt(128)));
	c = accept_edit(published_qwen3, "\"rope_scaling\": null",
		"\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
		"\"original_max_position_embeddings\": 32768, "
		"\"truncate\": false, \"attention_factor\": 1.25}");
	check_frequencies(&c, 8, real, 3.10234441e-07);
	CU_ASSERT_EQUAL(c.rope.scale, 1.25f);
}

static void test_config__rope_defaults(void)
{
	struct model_config c = accept_edit(
		published_mixtral, "\"rope_theta\": 1000000.0,", "");

	CU_ASSERT(is_near(c.rope.inv_freq[32], 1e-3));
	c = accept_edit(published_olmoe, "\"rope_theta\": 10000.0,", "");
	CU_ASSERT(is_near(c.rope.inv_freq[32], 1e-2));
	c = accept_edit(written5_v3, "\"rope_interleave\": true",
		"\"rope_interleave\": false");
	CU_ASSERT_FALSE(c.rope.interleaved);
	c = accept_edit(published_qwen3, "\"rope_scaling\": null",
		"\"rope_scaling\": {\"type\": \"default\"}");
	CU_ASSERT_EQUAL(c.rope.scale, 1);
}

static void test_config__windows(void)
{
	char *text = edit(published_qwen2, "\"use_sliding_window\": false",
		"\"use_sliding_window\": true");
	struct model_config c = accept(text);

	free(text);
	CU_ASSERT_EQUAL(c.window[20], 0);
	CU_ASSERT_EQUAL(c.window[21], 32768);
	CU_ASSERT_EQUAL(c.window[23], 32768);
	c = accept_edit(published_mixtral, "\"sliding_window\": null",
		"\"sliding_window\": 4096");
	CU_ASSERT_EQUAL(c.window[0], 4096);
	CU_ASSERT_EQUAL(c.window[31], 4096);
	/* What is switched off may say anything. */
	c = accept_edit(published_qwen3, "\"sliding_window\": null",
		"\"sliding_window\": 0");
	CU_ASSERT_EQUAL(c.window[47], 0);
	text = edit(published_qwen3, "\"max_window_layers\": 48,",
		"\"sliding_window\": 7,");
	c = accept_edit(text, "\"sliding_window\": null, ", "");
	free(text);
	CU_ASSERT_EQUAL(c.window[0], 0);
}

static void test_config__sparse_layers(void)
{
	struct model_config c = accept_edit(published_qwen2,
		"\"decoder_sparse_step\": 1",
		"\"decoder_sparse_step\": 2, \"mlp_only_layers\": [1, 4]");

	CU_ASSERT_FALSE(c.is_moe[0] || c.is_moe[1] || c.is_moe[2]);
	CU_ASSERT(c.is_moe[3] && c.is_moe[23]);
	CU_ASSERT_EQUAL(c.moe_layer_count, 11);
	CU_ASSERT_EQUAL(c.dense_inter, 5632);
	c = accept_edit(published_v2_lite, "\"moe_layer_freq\": 1",
		"\"moe_layer_freq\": 3");
	CU_ASSERT_FALSE(c.is_moe[1] || c.is_moe[2]);
	CU_ASSERT(c.is_moe[3] && c.is_moe[6]);
}

static void test_config__norm_epsilon_of_mla(void)
{
	struct model_config c = accept_edit(published_v2_lite,
		"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-05");

	CU_ASSERT_EQUAL(c.norm_epsilon, 1e-5f);
}

static void test_config__class_defaults(void)
{
	struct model_config c =
		accept_edit(published_qwen3, "\"norm_topk_prob\": true,", "");

	CU_ASSERT_FALSE(c.router.normalise);
	c = accept_edit(published_v3, "\"norm_topk_prob\": true,", "");
	CU_ASSERT(c.router.normalise);
	c = accept_edit(
		published_granite, "\"tie_word_embeddings\": true,", "");
	CU_ASSERT_FALSE(c.tied_head);
	c = accept_edit(
		published_qwen2, "\"use_cache\": true", "\"qkv_bias\": false");
	CU_ASSERT_FALSE(c.qkv_bias);
	c = accept_edit(
		published_olmoe, "\"clip_qkv\": null", "\"clip_qkv\": 8");
	CU_ASSERT_EQUAL(c.qkv_clip, 8);
	c = accept_edit(published_v2_lite, "\"n_shared_experts\": 2",
		"\"n_shared_experts\": null");
	CU_ASSERT_EQUAL(c.shared_inter, 0);
	c = accept_edit(published_mixtral, "\"num_key_value_heads\": 8",
		"\"num_key_value_heads\": null, \"head_dim\": 80");
	CU_ASSERT_EQUAL(c.kv_head_count, 32);
	CU_ASSERT_EQUAL(c.head_dim, 80);
}

/* ---- refusals ---- */

struct refusal {
	const char *text;
	const char *from, *to;
	const char *expect; /* part of the error */
};

static const struct refusal refusals[] = {
	/* shapes */
	{published_qwen3, "\"qwen3_moe\"", "\"qwen4_moe\"",
		"model_type is \"qwen4_moe\", which is not supported"},
	{published_qwen3, "\"model_type\"", "\"type_of_model\"",
		"model_type is missing"},
	{published_qwen3, "\"qwen3_moe\"", "3", "model_type is no string"},
	{published_qwen3, "\"hidden_size\": 2048", "\"hidden_size\": 0",
		"hidden_size is 0, expected 1 to 65536"},
	{published_qwen3, "\"hidden_size\": 2048", "\"hidden_size\": 65537",
		"hidden_size is 65537"},
	{published_qwen3, "\"hidden_size\": 2048", "\"hidden_size\": 2048.0",
		"hidden_size is no integer"},
	{published_qwen3, "\"hidden_size\": 2048", "\"hidden_size\": \"2048\"",
		"hidden_size is no integer"},
	{published_qwen3, "\"hidden_size\": 2048", "\"hidden_size\": true",
		"hidden_size is no integer"},
	{published_qwen3, "\"hidden_size\": 2048", "\"hidden_size\": -1",
		"hidden_size is -1"},
	{published_qwen3, "\"hidden_size\": 2048",
		"\"hidden_size\": 4294969344", "hidden_size is 4294969344"},
	{published_qwen3, "\"hidden_size\": 2048",
		"\"hidden_size\": 18446744073709551616", "too big integer"},
	{published_qwen3, "\"hidden_size\": 2048,", "",
		"hidden_size is missing"},
	{published_qwen3, "\"hidden_size\": 2048", "\"hidden_size\": null",
		"hidden_size is missing"},
	{published_qwen3, "\"vocab_size\": 151936", "\"vocab_size\": 4194305",
		"vocab_size is 4194305"},
	{published_qwen3, "\"num_hidden_layers\": 48",
		"\"num_hidden_layers\": 257", "num_hidden_layers is 257"},
	{published_qwen3, "\"num_attention_heads\": 32",
		"\"num_attention_heads\": 1025", "num_attention_heads is"},
	{published_qwen3, "\"num_key_value_heads\": 4",
		"\"num_key_value_heads\": 5", "does not divide 32 heads"},
	{published_qwen3, "\"num_key_value_heads\": 4",
		"\"num_key_value_heads\": 64", "does not divide 32 heads"},
	{published_qwen3, "\"num_key_value_heads\": 4,", "",
		"num_key_value_heads is missing"},
	{published_qwen3, "\"head_dim\": 128", "\"head_dim\": 1025",
		"head_dim is 1025"},
	{published_qwen3, "\"head_dim\": 128", "\"head_dim\": 127",
		"head_dim is 127, rotary embedding needs an even number"},
	{published_qwen2, "\"num_attention_heads\": 16",
		"\"num_attention_heads\": 48", "hidden_size is 2048, which 48"},
	{published_olmoe, "\"clip_qkv\": null", "\"head_dim\": 64",
		"head_dim is 64, expected hidden_size /"},
	{published_qwen3, "\"max_position_embeddings\": 40960",
		"\"max_position_embeddings\": 16777217",
		"max_position_embeddings is"},
	{published_qwen3, "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 0",
		"rms_norm_eps is 0"},
	{published_qwen3, "\"rms_norm_eps\": 1e-06",
		"\"rms_norm_eps\": \"1e-06\"", "rms_norm_eps is no number"},
	{published_qwen3, "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e999",
		"overflow"},
	{published_v2_lite, "\"q_lora_rank\": null,", "",
		"q_lora_rank is missing"},
	{published_v2_lite, "\"kv_lora_rank\": 512", "\"kv_lora_rank\": 1000",
		"kv_lora_rank and qk_rope_head_dim are 1064"},
	{published_v2_lite, "\"qk_nope_head_dim\": 128",
		"\"qk_nope_head_dim\": 1000",
		"qk_nope_head_dim and qk_rope_head_dim are 1064"},
	{published_v2_lite, "\"qk_rope_head_dim\": 64",
		"\"qk_rope_head_dim\": 63", "qk_rope_head_dim is 63"},
	{published_v2_lite, "\"num_key_value_heads\": 16",
		"\"num_key_value_heads\": 8", "one for each of 16 heads"},
	/* experts and routers */
	{published_qwen3, "\"num_experts\": 128", "\"num_experts\": 1025",
		"num_experts is 1025"},
	{published_qwen3, "\"num_experts\": 128", "\"experts\": 128",
		"num_experts is missing"},
	{published_qwen3, "\"num_experts\": 128",
		"\"num_experts\": 128, \"num_local_experts\": 64",
		"num_local_experts is 64, another field says 128"},
	{published_qwen3, "\"num_experts_per_tok\": 8",
		"\"num_experts_per_tok\": 33", "num_experts_per_tok is 33"},
	{published_mixtral, "\"num_experts_per_tok\": 2",
		"\"num_experts_per_tok\": 9", "is 9 of 8 experts"},
	{published_qwen3, "\"moe_intermediate_size\": 768",
		"\"moe_intermediate_size\": 1048577",
		"moe_intermediate_size is 1048577"},
	{published_v2_lite, "\"n_shared_experts\": 2",
		"\"n_shared_experts\": 1000", "n_shared_experts is 1000"},
	{published_v2_lite, "\"n_shared_experts\": 2,", "",
		"n_shared_experts is missing"},
	{published_qwen2, "\"shared_expert_intermediate_size\": 5632,", "",
		"shared_expert_intermediate_size is missing"},
	{published_qwen3, "\"norm_topk_prob\": true", "\"norm_topk_prob\": 1",
		"norm_topk_prob is neither"},
	{published_qwen3, "\"norm_topk_prob\": true",
		"\"norm_topk_prob\": null", "norm_topk_prob is neither"},
	{published_v2, "\"n_group\": 8", "\"n_group\": 7",
		"n_group is 7, which does not divide 160 experts"},
	{published_v2, "\"n_group\": 8", "\"n_group\": 65", "n_group is 65"},
	{published_v2, "\"topk_group\": 3", "\"topk_group\": 9",
		"topk_group is 9"},
	{published_v2, "\"topk_group\": 3", "\"topk_group\": null",
		"topk_group is missing"},
	{published_v2, "\"n_routed_experts\": 160", "\"n_routed_experts\": 8",
		"num_experts_per_tok is 6, 3 groups have 3 experts"},
	{published_v3, "\"n_group\": 8, \"n_routed_experts\": 256",
		"\"n_group\": 8, \"n_routed_experts\": 8", "a group needs two"},
	{published_v3, "\"n_group\": 8,", "", "n_group is missing"},
	{published_v3, "\"noaux_tc\"", "\"greedy\"",
		"topk_method is \"greedy\", only \"noaux_tc\""},
	{published_v3, "\"sigmoid\"", "\"softmax\"",
		"scoring_func is \"softmax\""},
	{published_v2, "\"group_limited_greedy\"", "\"noaux_tc\"",
		"topk_method is \"noaux_tc\""},
	{published_v2, "\"scoring_func\": \"softmax\"",
		"\"scoring_func\": \"sigmoid\"", "scoring_func is \"sigmoid\""},
	{published_v3, "\"num_experts_per_tok\": 8",
		"\"num_experts_per_tok\": 1", "versions of the original"},
	{published_v3, "\"routed_scaling_factor\": 2.5",
		"\"routed_scaling_factor\": 0", "routed_scaling_factor is 0"},
	{published_v3, "\"routed_scaling_factor\": 2.5,", "",
		"routed_scaling_factor is missing"},
	{published_v3, "\"num_nextn_predict_layers\": 1",
		"\"num_nextn_predict_layers\": 17",
		"num_nextn_predict_layers is 17"},
	/* layers */
	{published_v2_lite, "\"first_k_dense_replace\": 1",
		"\"first_k_dense_replace\": 27", "no layer among them"},
	{published_v2_lite, "\"first_k_dense_replace\": 1,", "",
		"first_k_dense_replace is missing"},
	{published_v2_lite, "\"moe_layer_freq\": 1", "\"moe_layer_freq\": 0",
		"moe_layer_freq is 0"},
	{published_v2_lite, "\"intermediate_size\": 10944,", "",
		"intermediate_size is missing"},
	{published_qwen3, "\"mlp_only_layers\": []",
		"\"mlp_only_layers\": [48]", "mlp_only_layers [0] is no layer"},
	{published_qwen3, "\"mlp_only_layers\": []",
		"\"mlp_only_layers\": [1.0]", "mlp_only_layers [0]"},
	{published_qwen3, "\"mlp_only_layers\": []", "\"mlp_only_layers\": 3",
		"mlp_only_layers is no array"},
	{published_qwen3, "\"decoder_sparse_step\": 1",
		"\"decoder_sparse_step\": 49", "no layer among them"},
	/* windows */
	{published_mixtral, "\"sliding_window\": null", "\"sliding_window\": 0",
		"sliding_window is 0"},
	{published_olmoe, "\"clip_qkv\": null", "\"sliding_window\": 4096",
		"sliding_window is set, which is not supported for olmoe"},
	{published_qwen3,
		"\"sliding_window\": null, \"tie_word_embeddings\": false,\n"
		"\"use_cache\": true, \"use_sliding_window\": false",
		"\"sliding_window\": 64, \"use_sliding_window\": true",
		"max_window_layers is 48 with a sliding window"},
	{written5_qwen2, "\"full_attention\", ", "",
		"layer_types has 23 entries, expected 24"},
	{written5_qwen2, "\"full_attention\"", "\"chunked_attention\"",
		"layer_types [1] is \"chunked_attention\""},
	{written5_qwen2, "\"full_attention\"", "7", "layer_types [1] is"},
	{written5_qwen2, "\"use_sliding_window\": true",
		"\"use_sliding_window\": false",
		"layer_types [0] slides, but there is no sliding_window"},
	{published_mixtral, "\"num_hidden_layers\": 32",
		"\"num_hidden_layers\": 1, \"layer_types\": "
		"[\"sliding_attention\"]",
		"layer_types [0] slides"},
	/* rotary embedding */
	{published_qwen3, "\"rope_scaling\": null",
		"\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}",
		"rope_scaling.type is \"linear\", which is not supported"},
	{published_qwen3, "\"rope_scaling\": null",
		"\"rope_scaling\": {\"rope_type\": \"llama3\"}",
		"rope_scaling.rope_type is \"llama3\""},
	{published_qwen3, "\"rope_scaling\": null",
		"\"rope_scaling\": {\"type\": \"yarn\", "
		"\"rope_type\": \"default\"}",
		"rope_scaling.type is \"yarn\", rope_type is \"default\""},
	{published_qwen3, "\"rope_scaling\": null",
		"\"rope_scaling\": {\"type\": \"yarn\"}",
		"rope_scaling.factor is missing"},
	{published_qwen3, "\"rope_scaling\": null", "\"rope_scaling\": []",
		"rope_scaling is no object"},
	{published_qwen3, "\"rope_scaling\": null",
		"\"rope_scaling\": {\"rope_type\": \"default\"}, "
		"\"rope_parameters\": {\"rope_type\": \"default\"}",
		"rope_scaling and rope_parameters are both given"},
	{written5_qwen3, "\"rope_type\": \"default\"",
		"\"full_attention\": {\"rope_theta\": 5}",
		"rope_parameters.full_attention is nested"},
	{written5_qwen3, "\"pad_token_id\": null", "\"rope_theta\": 5",
		"rope_parameters.rope_theta is 1e+06, rope_theta is 5"},
	{published_qwen3, "\"rope_theta\": 1000000.0", "\"rope_theta\": 1",
		"rope_theta is 1, expected"},
	{published_qwen3, "\"use_cache\": true",
		"\"partial_rotary_factor\": 0.5", "partial_rotary_factor is"},
	{written5_qwen3, "\"rope_type\": \"default\"",
		"\"partial_rotary_factor\": 0.5",
		"rope_parameters.partial_rotary_factor is not 1"},
	{published_qwen3, "\"use_cache\": true", "\"rope_interleave\": true",
		"rope_interleave is true"},
	{published_v2_lite, "\"use_cache\": true", "\"rope_interleave\": false",
		"rope_interleave is false"},
	{published_v2_lite, "\"factor\": 40", "\"factor\": 0.5",
		"rope_scaling.factor is 0.5"},
	{published_v2_lite, "\"factor\": 40",
		"\"factor\": 40, \"attention_factor\": 1.5",
		"rope_scaling.attention_factor is not used"},
	{published_v2_lite, "\"factor\": 40",
		"\"factor\": 40, \"truncate\": false",
		"rope_scaling.truncate is false"},
	{published_v2_lite, "\"original_max_position_embeddings\": 4096,", "",
		"rope_scaling.original_max_position_embeddings is missing"},
	{published_v2_lite, "\"beta_fast\": 32", "\"beta_fast\": \"32\"",
		"rope_scaling.beta_fast is no number"},
	/* what other families compute */
	{published_qwen3, "\"silu\"", "\"gelu\"", "hidden_act is \"gelu\""},
	{published_qwen3, "\"attention_bias\": false",
		"\"attention_bias\": true", "attention_bias is set"},
	{published_v2_lite, "\"attention_bias\": false",
		"\"attention_bias\": true", "attention_bias is set"},
	{published_v2_lite, "\"use_cache\": true", "\"mlp_bias\": true",
		"mlp_bias is set"},
	{published_mixtral, "\"use_cache\": true", "\"clip_qkv\": 8.0",
		"clip_qkv is set, which is not supported for mixtral"},
	{published_olmoe, "\"clip_qkv\": null", "\"clip_qkv\": 0",
		"clip_qkv is 0"},
	{published_mixtral, "\"use_cache\": true", "\"logits_scaling\": 6.0",
		"logits_scaling is set"},
	{published_mixtral, "\"use_cache\": true",
		"\"final_logit_softcapping\": 30.0",
		"final_logit_softcapping is set"},
	{published_granite, "\"logits_scaling\": 6.0", "\"logits_scaling\": 0",
		"logits_scaling is 0"},
	{published_granite, "\"logits_scaling\": 6.0",
		"\"logits_scaling\": 6.0, "
		"\"position_embedding_type\": \"nope\"",
		"position_embedding_type is \"nope\""},
	{published_granite, "\"use_cache\": true",
		"\"shared_intermediate_size\": 1024",
		"shared_intermediate_size is set"},
	/* quantisation */
	{published_v3, "\"quant_method\": \"fp8\"", "\"quant_method\": \"awq\"",
		"quantization_config.quant_method is \"awq\""},
	{published_v3, "\"quant_method\": \"fp8\",", "",
		"quantization_config.quant_method is missing"},
	{published_v3, "\"e4m3\"", "\"e5m2\"",
		"quantization_config.fmt is \"e5m2\""},
	{published_v3, "\"dynamic\"", "\"static\"",
		"quantization_config.activation_scheme is \"static\""},
	{published_v3, "[128, 128]", "[128]",
		"quantization_config.weight_block_size is not"},
	{published_v3, "[128, 128]", "[128, 0]",
		"quantization_config.weight_block_size is not"},
	{published_v3, "[128, 128]", "null",
		"quantization_config.weight_block_size is not"},
	{published_mixtral, "\"use_cache\": true",
		"\"quantization_config\": {\"quant_method\": \"fp8\"}",
		"quantization_config is not supported for mixtral"},
	/* syntax: where it is */
	{published_qwen3, "\"hidden_act\": \"silu\",",
		"\"hidden_act\": \"silu\"", "config.json: line 5 column"},
	{published_qwen3, "\"hidden_act\": \"silu\",",
		"\"hidden_act\": \"silu\", \"hidden_act\": \"silu\",",
		"duplicate object key"},
	{published_qwen3, "\n}\n", "\n} x", "end of file expected"},
	{published_qwen3, "\"4.51.0\"", "\"\\u0000\"", "line 20 column"},
	{published_qwen3, "\"4.51.0\"", "\"\xff\"", "unable to decode"},
	{published_qwen3, "\n}\n", "", "end of file"},
};

static void test_config__refusals(void)
{
	const unsigned char *bytes;
	struct model_config config;

	memset(&config, 0x5a, sizeof(config));
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *r = &refusals[i];
		char *text = edit(r->text, r->from, r->to);
		struct error err;
		int rc = parse(text, &config, &err);

		if (rc != -EINVAL || !strstr(err.text, r->expect) ||
			strncmp(err.text, "config.json: ", 13) != 0)
			printf("\n    %zu: got %d \"%s\", expected \"%s\"\n", i,
				rc, err.text, r->expect);
		CU_ASSERT_EQUAL(rc, -EINVAL);
		CU_ASSERT_EQUAL(err.code, -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, r->expect));
		CU_ASSERT_EQUAL(strncmp(err.text, "config.json: ", 13), 0);
		free(text);
	}
	bytes = (const unsigned char *)&config;
	for (size_t i = 0; i < sizeof(config); i++)
		CU_ASSERT_EQUAL(bytes[i], 0x5a);
}

static void test_config__not_an_object(void)
{
	struct model_config config;
	struct error err;

	CU_ASSERT_EQUAL(parse("[1]", &config, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "is not a JSON object"));
	CU_ASSERT_EQUAL(parse("", &config, &err), -EINVAL);
	CU_ASSERT_EQUAL(parse("7", &config, &err), -EINVAL);
	CU_ASSERT_EQUAL(
		model_config_parse("{}", 2, "config.json", &config, NULL),
		-EINVAL);
}

/* Refused before the parser sees it. */
static void test_config__too_many_values(void)
{
	size_t size = 200000;
	char *text = malloc(size + 1);
	struct model_config config;
	struct error err;

	assert(text);
	memset(text, ',', size);
	text[size] = '\0';
	CU_ASSERT_EQUAL(parse(text, &config, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "65536 values"));
	memset(text, '[', size);
	CU_ASSERT_EQUAL(parse(text, &config, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "4096 arrays"));
	memset(text, '{', size);
	CU_ASSERT_EQUAL(parse(text, &config, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "4096 objects"));
	free(text);
}

/* Each allocation fails in turn: -ENOMEM, and nothing is left behind. */
static void test_config__nth_allocation_fails(void)
{
	struct model_config config;
	uint64_t n = 0;
	int rc;

	do {
		struct error err;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, ++n, ENOMEM);
		rc = parse(published_v3, &config, &err);
		CU_ASSERT(rc == (fake_os_has_failed() ? -ENOMEM : 0));
		CU_ASSERT_EQUAL(err.code, rc);
		CU_ASSERT(fake_os_check_empty());
	} while (fake_os_has_failed() && n < 100000);
	fake_os_disarm();
	CU_ASSERT(n > 100);
}

/* ---- generation_config.json ---- */

static int generate(const char *text, const char *config_text,
	struct generation_config *out, struct error *err)
{
	struct model_config config = accept(published_qwen3);

	*err = (struct error){0};
	return generation_config_parse(text, text ? strlen(text) : 0,
		config_text, strlen(config_text), &config, out, err);
}

static void test_generation__of_qwen3(void)
{
	struct generation_config g;
	struct error err;
	int rc = generate("{\"bos_token_id\": 151643, \"do_sample\": true,\n"
			  "\"eos_token_id\": [151645, 151643, 151645],\n"
			  "\"pad_token_id\": 151643, \"temperature\": 0.6,\n"
			  "\"top_k\": 20, \"top_p\": 0.95,\n"
			  "\"transformers_version\": \"4.51.0\"}",
		published_qwen3, &g, &err);

	CU_ASSERT_EQUAL(rc, 0);
	CU_ASSERT_EQUAL(g.eos_count, 2);
	CU_ASSERT_EQUAL(g.eos[0], 151645);
	CU_ASSERT_EQUAL(g.eos[1], 151643);
	CU_ASSERT_EQUAL(g.bos, 151643);
	CU_ASSERT(g.has_sampling);
	CU_ASSERT_EQUAL(g.temperature, 0.6f);
	CU_ASSERT_EQUAL(g.top_p, 0.95f);
	CU_ASSERT_EQUAL(g.top_k, 20);
	CU_ASSERT_EQUAL(g.repetition_penalty, 1);
}

static void test_generation__falls_back_to_config(void)
{
	struct generation_config g;
	struct error err;

	CU_ASSERT_EQUAL(generate(NULL, published_qwen3, &g, &err), 0);
	CU_ASSERT_EQUAL(g.eos_count, 1);
	CU_ASSERT_EQUAL(g.eos[0], 151645);
	CU_ASSERT_EQUAL(g.bos, 151643);
	CU_ASSERT_FALSE(g.has_sampling);
	CU_ASSERT_EQUAL(g.temperature, 1);
	CU_ASSERT_EQUAL(g.top_p, 1);
	CU_ASSERT_EQUAL(g.top_k, 0);
	CU_ASSERT_EQUAL(generate("{\"eos_token_id\": null, \"top_k\": null}",
				published_qwen3, &g, &err),
		0);
	CU_ASSERT_EQUAL(g.eos[0], 151645);
	/* The first that speaks decides alone. */
	CU_ASSERT_EQUAL(
		generate("{\"eos_token_id\": 7}", published_qwen3, &g, &err),
		0);
	CU_ASSERT_EQUAL(g.eos_count, 1);
	CU_ASSERT_EQUAL(g.eos[0], 7);
	CU_ASSERT_EQUAL(generate(NULL, written5_qwen3, &g, &err), 0);
	CU_ASSERT_EQUAL(g.eos_count, 0);
	CU_ASSERT_EQUAL(g.bos, UINT32_MAX);
}

static const struct {
	const char *text;
	const char *expect;
} generation_refusals[] = {
	{"{\"eos_token_id\": 151936}",
		"eos_token_id is no token of a vocabulary of 151936"},
	{"{\"eos_token_id\": [1, -1]}", "eos_token_id is no token"},
	{"{\"eos_token_id\": [1, [2]]}", "eos_token_id is no token"},
	{"{\"eos_token_id\": \"</s>\"}", "eos_token_id is no token"},
	{"{\"eos_token_id\": 1.0}", "eos_token_id is no token"},
	{"{\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}",
		"eos_token_id holds more than 16"},
	{"{\"bos_token_id\": 151936}", "bos_token_id is 151936"},
	{"{\"bos_token_id\": [1]}", "bos_token_id is no integer"},
	{"{\"temperature\": -0.5}", "temperature is -0.5"},
	{"{\"temperature\": \"hot\"}", "temperature is no number"},
	{"{\"top_p\": 0}", "top_p is 0"},
	{"{\"top_p\": 1.5}", "top_p is 1.5"},
	{"{\"top_k\": -1}", "top_k is -1"},
	{"{\"repetition_penalty\": 0}", "repetition_penalty is 0"},
	{"{\"do_sample\": \"yes\"}", "do_sample is neither"},
	{"{\n \"do_sample\": truth}", "line 2 column"},
	{"[]", "is not a JSON object"},
};

static void test_generation__refusals(void)
{
	size_t count =
		sizeof(generation_refusals) / sizeof(generation_refusals[0]);

	for (size_t i = 0; i < count; i++) {
		const char *expect = generation_refusals[i].expect;
		struct generation_config g;
		struct error err;
		int rc = generate(
			generation_refusals[i].text, published_qwen3, &g, &err);

		if (rc != -EINVAL || !strstr(err.text, expect))
			printf("\n    %zu: %d \"%s\"\n", i, rc, err.text);
		CU_ASSERT_EQUAL(rc, -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, expect));
		CU_ASSERT_PTR_NOT_NULL(
			strstr(err.text, "generation_config.json: "));
	}
}

static void test_generation__nth_allocation_fails(void)
{
	struct model_config config = accept(published_qwen3);
	const char *text = "{\"eos_token_id\": [1, 2], \"top_k\": 3}";
	struct generation_config g;
	uint64_t n = 0;
	int rc;

	do {
		struct error err = {0};

		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, ++n, ENOMEM);
		rc = generation_config_parse(text, strlen(text),
			published_qwen3, strlen(published_qwen3), &config, &g,
			&err);
		CU_ASSERT(rc == (fake_os_has_failed() ? -ENOMEM : 0));
		CU_ASSERT(fake_os_check_empty());
	} while (fake_os_has_failed() && n < 100000);
	fake_os_disarm();
	CU_ASSERT(n > 50);
}

static const struct suite_case cases[] = {
	SUITE_CASE(config__v2_lite),
	SUITE_CASE(config__esft_has_no_yarn),
	SUITE_CASE(config__v2_groups),
	SUITE_CASE(config__v3),
	SUITE_CASE(config__v3_written_by_5),
	SUITE_CASE(config__qwen2),
	SUITE_CASE(config__qwen2_written_by_5),
	SUITE_CASE(config__qwen3),
	SUITE_CASE(config__mixtral),
	SUITE_CASE(config__olmoe),
	SUITE_CASE(config__granite),
	SUITE_CASE(config__v2_normalises_or_scales),
	SUITE_CASE(config__groups_of_one_are_none),
	SUITE_CASE(config__yarn_of_deepseek),
	SUITE_CASE(config__yarn_without_a_ramp),
	SUITE_CASE(config__yarn_of_others),
	SUITE_CASE(config__rope_defaults),
	SUITE_CASE(config__windows),
	SUITE_CASE(config__sparse_layers),
	SUITE_CASE(config__norm_epsilon_of_mla),
	SUITE_CASE(config__class_defaults),
	SUITE_CASE(config__refusals),
	SUITE_CASE(config__not_an_object),
	SUITE_CASE(config__too_many_values),
	SUITE_CASE(config__nth_allocation_fails),
	SUITE_CASE(generation__of_qwen3),
	SUITE_CASE(generation__falls_back_to_config),
	SUITE_CASE(generation__refusals),
	SUITE_CASE(generation__nth_allocation_fails),
};

int main(void)
{
	return SUITE_MAIN("config", cases);
}
