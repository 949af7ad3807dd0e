/* cpu_model.c - a random model of a given size (shape + seed -> directory) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/cpu_model.h"

#define BLOCK_VALUES 16384 /* written at a time */
#define BF16_ONE 0x3f80

struct tensor {
	char name[96];
	uint32_t rows, cols; /* rows 0: a vector of ones, [cols] */
	float gain; /* output deviation for inputs of deviation 1 */
};

typedef int (*tensor_fn)(void *arg, const struct tensor *tensor);

static uint64_t tensor_values(const struct tensor *tensor)
{
	return (uint64_t)(tensor->rows ? tensor->rows : 1) * tensor->cols;
}

struct walk {
	const struct cpu_model *model;
	tensor_fn visit;
	void *arg;
	int rc;
};

__attribute__((format(printf, 5, 6))) static void give(struct walk *walk,
	uint32_t rows, uint32_t cols, float gain, const char *format, ...)
{
	struct tensor tensor = {.rows = rows, .cols = cols, .gain = gain};
	va_list args;

	if (walk->rc)
		return;
	va_start(args, format);
	vsnprintf(tensor.name, sizeof(tensor.name), format, args);
	va_end(args);
	walk->rc = walk->visit(walk->arg, &tensor);
}

static void give_layer(struct walk *walk, uint32_t l)
{
	const struct cpu_model *m = walk->model;
	uint32_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;

#define LAYER "model.layers.%u."
	give(walk, 0, m->hidden, 1, LAYER "input_layernorm.weight", l);
	give(walk, q, m->hidden, 1, LAYER "self_attn.q_proj.weight", l);
	give(walk, kv, m->hidden, 1, LAYER "self_attn.k_proj.weight", l);
	give(walk, kv, m->hidden, 1, LAYER "self_attn.v_proj.weight", l);
	give(walk, m->hidden, q, 0.5f, LAYER "self_attn.o_proj.weight", l);
	give(walk, 0, m->head_dim, 1, LAYER "self_attn.q_norm.weight", l);
	give(walk, 0, m->head_dim, 1, LAYER "self_attn.k_norm.weight", l);
	give(walk, 0, m->hidden, 1, LAYER "post_attention_layernorm.weight", l);
	give(walk, m->experts, m->hidden, 2, LAYER "mlp.gate.weight", l);
	for (uint32_t e = 0; e < m->experts; e++) {
#define EXPERT LAYER "mlp.experts.%u."
		give(walk, m->inter, m->hidden, 1, EXPERT "gate_proj.weight", l,
			e);
		give(walk, m->inter, m->hidden, 1, EXPERT "up_proj.weight", l,
			e);
		give(walk, m->hidden, m->inter, 1, EXPERT "down_proj.weight", l,
			e);
	}
#undef EXPERT
#undef LAYER
}

/* Every tensor in the order of the file. */
static int for_each(const struct cpu_model *m, tensor_fn visit, void *arg)
{
	struct walk walk = {m, visit, arg, 0};

	give(&walk, m->vocab, m->hidden, sqrtf((float)m->hidden),
		"model.embed_tokens.weight");
	for (uint32_t l = 0; l < m->layers; l++)
		give_layer(&walk, l);
	give(&walk, 0, m->hidden, 1, "model.norm.weight");
	give(&walk, m->vocab, m->hidden, 3, "lm_head.weight");
	return walk.rc;
}

/* --- the file --- */

struct writer {
	FILE *file;
	uint64_t offset; /* in the data */
	uint64_t state; /* of the random numbers */
	bool is_first;
};

static int put_header(void *arg, const struct tensor *tensor)
{
	struct writer *w = arg;
	uint64_t end = w->offset + 2 * tensor_values(tensor);

	fprintf(w->file, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[",
		w->is_first ? "{" : ",", tensor->name);
	if (tensor->rows)
		fprintf(w->file, "%u,", tensor->rows);
	fprintf(w->file, "%u],\"data_offsets\":[%llu,%llu]}", tensor->cols,
		(unsigned long long)w->offset, (unsigned long long)end);
	w->offset = end;
	w->is_first = false;
	return 0;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t random64(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Uniform values whose deviation is gain / sqrt(cols). */
static void fill_block(
	uint16_t *block, size_t count, float width, uint64_t *state)
{
	for (size_t i = 0; i < count; i += 4) {
		uint64_t bits = random64(state);

		for (size_t k = 0; k < 4 && i + k < count; k++) {
			int32_t part = (int16_t)(bits >> (16 * k));
			float value = (float)part * width;
			uint32_t word;

			memcpy(&word, &value, sizeof(word));
			block[i + k] = (uint16_t)(word >> 16);
		}
	}
}

static int put_data(void *arg, const struct tensor *tensor)
{
	struct writer *w = arg;
	uint64_t left = tensor_values(tensor);
	float width = tensor->gain * sqrtf(3 / (float)tensor->cols) / 32768;
	uint16_t block[BLOCK_VALUES];

	while (left > 0) {
		size_t count = left < BLOCK_VALUES ? left : BLOCK_VALUES;

		if (tensor->rows)
			fill_block(block, count, width, &w->state);
		else
			for (size_t i = 0; i < count; i++)
				block[i] = BF16_ONE;
		if (fwrite(block, sizeof(*block), count, w->file) != count)
			return -EIO;
		left -= count;
	}
	return 0;
}

/* Length of the header as it will be written, padded to whole words. */
static uint64_t header_length(const struct cpu_model *model)
{
	char *text = NULL;
	size_t length = 0;
	struct writer w = {
		.file = open_memstream(&text, &length), .is_first = true};

	if (!w.file)
		return 0;
	for_each(model, put_header, &w);
	fclose(w.file);
	free(text);
	return (length + 1 + 7) / 8 * 8;
}

static int write_weights(
	const struct cpu_model *model, const char *path, struct error *err)
{
	uint64_t length = header_length(model);
	struct writer w = {.file = fopen(path, "we"), .is_first = true};
	int rc = 0;
	long at;

	if (!w.file)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	w.state = model->seed;
	if (length == 0 || fwrite(&length, sizeof(length), 1, w.file) != 1)
		rc = -EIO;
	for_each(model, put_header, &w);
	fputc('}', w.file);
	for (at = ftell(w.file); rc == 0 && at < (long)(8 + length); at++)
		fputc(' ', w.file);
	if (rc == 0)
		rc = for_each(model, put_data, &w);
	if (ferror(w.file))
		rc = -EIO;
	if (fclose(w.file) || rc)
		return error_set(err, EIO, "%s: writing failed", path);
	return 0;
}

static int config_text(const struct cpu_model *m, char *out, size_t size)
{
	return snprintf(out, size,
		"{\"architectures\": [\"Qwen3MoeForCausalLM\"],\n"
		" \"model_type\": \"qwen3_moe\", \"hidden_act\": \"silu\",\n"
		" \"torch_dtype\": \"bfloat16\", \"rms_norm_eps\": 1e-06,\n"
		" \"rope_theta\": 1000000.0, \"rope_scaling\": null,\n"
		" \"tie_word_embeddings\": false, \"vocab_size\": %u,\n"
		" \"hidden_size\": %u, \"intermediate_size\": %u,\n"
		" \"num_hidden_layers\": %u, \"num_attention_heads\": %u,\n"
		" \"num_key_value_heads\": %u, \"head_dim\": %u,\n"
		" \"moe_intermediate_size\": %u, \"num_experts\": %u,\n"
		" \"num_experts_per_tok\": %u, \"norm_topk_prob\": true,\n"
		" \"decoder_sparse_step\": 1, \"mlp_only_layers\": [],\n"
		" \"attention_bias\": false, \"use_sliding_window\": false,\n"
		" \"max_position_embeddings\": 16384,\n"
		" \"bos_token_id\": 0, \"eos_token_id\": 1,\n"
		" \"bench_seed\": %llu}\n",
		m->vocab, m->hidden, m->inter, m->layers, m->heads, m->kv_heads,
		m->head_dim, m->inter, m->experts, m->topk,
		(unsigned long long)m->seed);
}

/* Does the file hold exactly this text? */
static bool holds(const char *path, const char *text, size_t length)
{
	char have[2048];
	FILE *file = fopen(path, "re");
	size_t got;

	if (!file)
		return false;
	got = fread(have, 1, sizeof(have), file);
	fclose(file);
	return got == length && memcmp(have, text, length) == 0;
}

/* config.json comes last: where it is, the weights are whole. */
int cpu_model_write(
	const struct cpu_model *model, const char *directory, struct error *err)
{
	char config[2048], path[512];
	size_t length = (size_t)config_text(model, config, sizeof(config));
	FILE *file;
	int rc;

	if (mkdir(directory, 0777) && errno != EEXIST)
		return error_set(
			err, errno, "%s: %s", directory, strerror(errno));
	snprintf(path, sizeof(path), "%s/config.json", directory);
	if (holds(path, config, length))
		return 0;
	(void)unlink(path); /* it speaks of other weights */
	snprintf(path, sizeof(path), "%s/model.safetensors", directory);
	rc = write_weights(model, path, err);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/config.json", directory);
	file = fopen(path, "we");
	if (!file)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	if (fwrite(config, 1, length, file) != length)
		rc = -EIO;
	if (fclose(file) || rc)
		return error_set(err, EIO, "%s: writing failed", path);
	return 0;
}

/* --- what is in it --- */

uint64_t cpu_model_layer_bytes(const struct cpu_model *m)
{
	uint64_t q = (uint64_t)m->heads * m->head_dim;
	uint64_t kv = (uint64_t)m->kv_heads * m->head_dim;

	return (uint64_t)2 * m->hidden * (2 * q + 2 * kv + m->experts);
}

uint64_t cpu_model_expert_bytes(const struct cpu_model *m)
{
	return UINT64_C(2) * 3 * m->hidden * m->inter;
}

uint64_t cpu_model_head_bytes(const struct cpu_model *m)
{
	return UINT64_C(2) * m->vocab * m->hidden;
}

uint32_t cpu_model_token(
	const struct cpu_model *model, uint32_t sequence, uint32_t at)
{
	uint32_t mixed = (sequence * 1000003u + at * 7919u + 17u) * 2654435761u;

	return (mixed >> 7) % model->vocab;
}
