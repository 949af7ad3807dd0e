/* names.c - names of tensors in published checkpoints (name <-> role) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/names.h"

#define IN(family) (1u << (family))
#define DEEPSEEK (IN(FAMILY_DEEPSEEK_V2) | IN(FAMILY_DEEPSEEK_V3))
#define QWEN (IN(FAMILY_QWEN2_MOE) | IN(FAMILY_QWEN3_MOE))
#define MIXTRAL IN(FAMILY_MIXTRAL)
#define OLMOE IN(FAMILY_OLMOE)
#define GRANITE IN(FAMILY_GRANITE_MOE)
#define HEADS (QWEN | MIXTRAL | OLMOE | GRANITE)
#define ALL (DEEPSEEK | HEADS)
/* Experts under mlp., each with gate_proj, up_proj and down_proj. */
#define PLAIN (DEEPSEEK | QWEN | OLMOE)

#define MODEL_PREFIX "model."
#define LAYER_PREFIX "model.layers."
#define ADAPTER_EXPERTS "mlp.experts."
#define SCALE_SUFFIX "_scale_inv"

struct name_entry {
	unsigned families;
	enum tensor_role role;
	const char *text;
};

/* The first entry of a role is the published name, the others are known. */
static const struct name_entry global_names[] = {
	{ALL, ROLE_EMBED, "model.embed_tokens.weight"},
	{ALL, ROLE_FINAL_NORM, "model.norm.weight"},
	{ALL, ROLE_HEAD, "lm_head.weight"},
};

/* After model.layers.N. */
static const struct name_entry layer_names[] = {
	{ALL, ROLE_ATTENTION_NORM, "input_layernorm.weight"},
	{ALL, ROLE_MLP_NORM, "post_attention_layernorm.weight"},
	{ALL, ROLE_Q, "self_attn.q_proj.weight"},
	{HEADS, ROLE_K, "self_attn.k_proj.weight"},
	{HEADS, ROLE_V, "self_attn.v_proj.weight"},
	{ALL, ROLE_O, "self_attn.o_proj.weight"},
	{QWEN, ROLE_Q_BIAS, "self_attn.q_proj.bias"},
	{QWEN, ROLE_K_BIAS, "self_attn.k_proj.bias"},
	{QWEN, ROLE_V_BIAS, "self_attn.v_proj.bias"},
	{QWEN | OLMOE, ROLE_Q_NORM, "self_attn.q_norm.weight"},
	{QWEN | OLMOE, ROLE_K_NORM, "self_attn.k_norm.weight"},
	{DEEPSEEK, ROLE_Q_A, "self_attn.q_a_proj.weight"},
	{DEEPSEEK, ROLE_Q_A_NORM, "self_attn.q_a_layernorm.weight"},
	{DEEPSEEK, ROLE_Q_B, "self_attn.q_b_proj.weight"},
	{DEEPSEEK, ROLE_KV_A, "self_attn.kv_a_proj_with_mqa.weight"},
	{DEEPSEEK, ROLE_KV_A_NORM, "self_attn.kv_a_layernorm.weight"},
	{DEEPSEEK, ROLE_KV_B, "self_attn.kv_b_proj.weight"},
	{PLAIN, ROLE_DENSE_GATE, "mlp.gate_proj.weight"},
	{PLAIN, ROLE_DENSE_UP, "mlp.up_proj.weight"},
	{PLAIN, ROLE_DENSE_DOWN, "mlp.down_proj.weight"},
	{PLAIN, ROLE_ROUTER, "mlp.gate.weight"},
	{MIXTRAL, ROLE_ROUTER, "block_sparse_moe.gate.weight"},
	{MIXTRAL, ROLE_ROUTER, "mlp.gate.weight"},
	{GRANITE, ROLE_ROUTER, "block_sparse_moe.router.layer.weight"},
	{GRANITE, ROLE_ROUTER, "block_sparse_moe.router.weight"},
	{DEEPSEEK, ROLE_ROUTER_BIAS, "mlp.gate.e_score_correction_bias"},
	{DEEPSEEK, ROLE_SHARED_GATE, "mlp.shared_experts.gate_proj.weight"},
	{DEEPSEEK, ROLE_SHARED_UP, "mlp.shared_experts.up_proj.weight"},
	{DEEPSEEK, ROLE_SHARED_DOWN, "mlp.shared_experts.down_proj.weight"},
	{QWEN, ROLE_SHARED_GATE, "mlp.shared_expert.gate_proj.weight"},
	{QWEN, ROLE_SHARED_UP, "mlp.shared_expert.up_proj.weight"},
	{QWEN, ROLE_SHARED_DOWN, "mlp.shared_expert.down_proj.weight"},
	{QWEN, ROLE_SHARED_SIGMOID, "mlp.shared_expert_gate.weight"},
};

/* After model.layers.N.; one tensor holds all experts. */
static const struct name_entry fused_names[] = {
	{GRANITE, ROLE_EXPERT_GATE_UP, "block_sparse_moe.input_linear.weight"},
	{GRANITE, ROLE_EXPERT_DOWN, "block_sparse_moe.output_linear.weight"},
	{GRANITE, ROLE_EXPERT_GATE_UP, "block_sparse_moe.experts.gate_up_proj"},
	{GRANITE, ROLE_EXPERT_DOWN, "block_sparse_moe.experts.down_proj"},
	{PLAIN | MIXTRAL, ROLE_EXPERT_GATE_UP, "mlp.experts.gate_up_proj"},
	{PLAIN | MIXTRAL, ROLE_EXPERT_DOWN, "mlp.experts.down_proj"},
};

/* After model.layers.N. and the family's prefix and the expert's number. */
static const struct name_entry expert_names[] = {
	{PLAIN, ROLE_EXPERT_GATE, "gate_proj.weight"},
	{PLAIN, ROLE_EXPERT_UP, "up_proj.weight"},
	{PLAIN, ROLE_EXPERT_DOWN, "down_proj.weight"},
	{MIXTRAL, ROLE_EXPERT_GATE, "w1.weight"},
	{MIXTRAL, ROLE_EXPERT_UP, "w3.weight"},
	{MIXTRAL, ROLE_EXPERT_DOWN, "w2.weight"},
};

/* After model.layers.N.mlp.experts.E. in the adapters of every family. */
static const struct name_entry adapter_names[] = {
	{ALL, ROLE_EXPERT_GATE, "gate_proj.weight"},
	{ALL, ROLE_EXPERT_UP, "up_proj.weight"},
	{ALL, ROLE_EXPERT_DOWN, "down_proj.weight"},
};

/* Buffers of older versions, computed from the config. */
static const char *const skipped_names[] = {
	"model.rotary_emb.inv_freq",
	"self_attn.rotary_emb.inv_freq", /* after model.layers.N. */
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const char *expert_prefix(enum model_family family)
{
	return family == FAMILY_MIXTRAL ? "block_sparse_moe.experts."
					: "mlp.experts.";
}

/* What follows the prefix, or NULL. */
static const char *after(const char *text, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(text, prefix, length) ? NULL : text + length;
}

/* "12.rest" -> 12 and "rest"; one spelling of each number. NULL = no. */
static const char *after_number(const char *text, uint32_t *out)
{
	const char *c = text;
	uint32_t n = 0;

	for (; *c >= '0' && *c <= '9'; c++) {
		if (c - text == 9)
			return NULL;
		n = n * 10 + (uint32_t)(*c - '0');
	}
	if (c == text || *c != '.' || (*text == '0' && c - text > 1))
		return NULL;
	*out = n;
	return c + 1;
}

/*
 * Find `text` in a table. With `scaled` it has to go on with the suffix that
 * fp8 scales carry.
 */
static const struct name_entry *find(const struct name_entry *table,
	size_t count, enum model_family family, const char *text, bool scaled)
{
	for (size_t i = 0; i < count; i++) {
		const char *rest;

		if (!(table[i].families & IN(family)))
			continue;
		rest = after(text, table[i].text);
		if (rest && !strcmp(rest, scaled ? SCALE_SUFFIX : ""))
			return &table[i];
	}
	return NULL;
}

static void match_expert(const struct model_config *config, const char *text,
	bool scaled, struct name_match *match)
{
	const struct name_entry *entry;

	text = after_number(text, &match->expert);
	if (!text || match->expert >= config->router.expert_count)
		return;
	entry = find(expert_names, COUNT(expert_names), config->family, text,
		scaled);
	if (!entry)
		return;
	match->kind = scaled ? NAME_SCALE : NAME_WEIGHT;
	match->role = entry->role;
}

static void match_layer(const struct model_config *config, const char *text,
	bool scaled, struct name_match *match)
{
	enum model_family family = config->family;
	const char *rest = after(text, expert_prefix(family));
	const struct name_entry *entry;

	if (!strcmp(text, skipped_names[1])) {
		match->kind = NAME_SKIPPED;
		return;
	}
	if (rest && *rest >= '0' && *rest <= '9') {
		match_expert(config, rest, scaled, match);
		return;
	}
	entry = find(layer_names, COUNT(layer_names), family, text, scaled);
	if (!entry) {
		entry = find(
			fused_names, COUNT(fused_names), family, text, scaled);
		match->fused = entry != NULL;
	}
	if (!entry)
		return;
	match->kind = scaled ? NAME_SCALE : NAME_WEIGHT;
	match->role = entry->role;
}

static bool is_scale(const char *name)
{
	size_t length = strlen(name), suffix = strlen(SCALE_SUFFIX);

	return length > suffix && !strcmp(name + length - suffix, SCALE_SUFFIX);
}

struct name_match name_match(
	const struct model_config *config, const char *name)
{
	const char *rest = after(name, LAYER_PREFIX);
	struct name_match match = {.kind = NAME_UNKNOWN};
	const struct name_entry *entry;
	uint32_t layer, last = config->layer_count + config->mtp_layer_count;
	bool scaled = is_scale(name);

	if (!rest) {
		entry = find(global_names, COUNT(global_names), config->family,
			name, scaled);
		if (entry) {
			match.kind = scaled ? NAME_SCALE : NAME_WEIGHT;
			match.role = entry->role;
		} else if (!strcmp(name, skipped_names[0])) {
			match.kind = NAME_SKIPPED;
		}
		return match;
	}
	rest = after_number(rest, &layer);
	if (!rest || layer >= last)
		return match;
	if (layer >= config->layer_count) {
		match.kind = NAME_SKIPPED;
		return match;
	}
	match.layer = layer;
	match_layer(config, rest, scaled, &match);
	return match;
}

/* After the expert prefix: "E.PART". */
static bool match_adapter(const struct model_config *config, const char *text,
	const struct name_entry *table, size_t count, struct name_match *match)
{
	const struct name_entry *entry;

	text = after_number(text, &match->expert);
	if (!text || match->expert >= config->router.expert_count)
		return false;
	entry = find(table, count, config->family, text, false);
	if (!entry)
		return false;
	match->kind = NAME_WEIGHT;
	match->role = entry->role;
	return true;
}

struct name_match name_match_adapter(
	const struct model_config *config, const char *name)
{
	const char *rest = after(name, MODEL_PREFIX), *own, *generic;
	struct name_match match = {.kind = NAME_UNKNOWN};

	rest = after(rest ? rest : name, "layers.");
	if (rest)
		rest = after_number(rest, &match.layer);
	if (!rest || match.layer >= config->layer_count ||
		!config->is_moe[match.layer])
		return match;
	own = after(rest, expert_prefix(config->family));
	generic = after(rest, ADAPTER_EXPERTS);
	if (own && match_adapter(config, own, expert_names, COUNT(expert_names),
			   &match))
		return match;
	if (generic)
		match_adapter(config, generic, adapter_names,
			COUNT(adapter_names), &match);
	return match;
}

static const char *published(const struct name_entry *table, size_t count,
	enum model_family family, enum tensor_role role)
{
	for (size_t i = 0; i < count; i++)
		if ((table[i].families & IN(family)) && table[i].role == role)
			return table[i].text;
	return NULL;
}

void name_format(const struct model_config *config,
	const struct name_match *match, char *out, size_t size)
{
	enum model_family family = config->family;
	const char *suffix = match->kind == NAME_SCALE ? SCALE_SUFFIX : "";
	const char *text = published(
		global_names, COUNT(global_names), family, match->role);

	if (text) {
		snprintf(out, size, "%s%s", text, suffix);
		return;
	}
	text = published(layer_names, COUNT(layer_names), family, match->role);
	if (!text && match->fused)
		text = published(
			fused_names, COUNT(fused_names), family, match->role);
	if (text) {
		snprintf(out, size, LAYER_PREFIX "%u.%s%s", match->layer, text,
			suffix);
		return;
	}
	text = published(
		expert_names, COUNT(expert_names), family, match->role);
	assert(text);
	snprintf(out, size, LAYER_PREFIX "%u.%s%u.%s%s", match->layer,
		expert_prefix(family), match->expert, text, suffix);
}

void name_format_adapter(const struct model_config *config,
	enum tensor_role role, uint32_t layer, uint32_t expert, char *out,
	size_t size)
{
	const char *prefix = expert_prefix(config->family);
	const char *text = published(
		expert_names, COUNT(expert_names), config->family, role);

	if (!text) {
		prefix = ADAPTER_EXPERTS;
		text = published(adapter_names, COUNT(adapter_names),
			config->family, role);
	}
	assert(text);
	snprintf(out, size, LAYER_PREFIX "%u.%s%u.%s", layer, prefix, expert,
		text);
}
