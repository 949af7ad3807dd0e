/* eval_inspect.c - what a model's directory holds (headers -> a table) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/eval.h"
#include "control/model_dir.h"
#include "engine/plan.h"

enum part {
	PART_EMBED,
	PART_ATTENTION,
	PART_DENSE,
	PART_ROUTER,
	PART_SHARED,
	PART_EXPERTS,
	PART_VECTORS,
	PART_COUNT
};

static const char *const part_names[PART_COUNT] = {
	"embedding and head",
	"attention",
	"dense MLP",
	"routers",
	"shared experts",
	"routed experts",
	"norms and biases",
};

static enum part part_of(enum tensor_role role)
{
	if (tensor_role_is_vector(role))
		return PART_VECTORS;
	if (tensor_role_is_expert(role))
		return PART_EXPERTS;
	switch (role) {
	case ROLE_EMBED:
	case ROLE_HEAD:
		return PART_EMBED;
	case ROLE_DENSE_GATE:
	case ROLE_DENSE_UP:
	case ROLE_DENSE_DOWN:
		return PART_DENSE;
	case ROLE_ROUTER:
		return PART_ROUTER;
	case ROLE_SHARED_GATE:
	case ROLE_SHARED_UP:
	case ROLE_SHARED_DOWN:
	case ROLE_SHARED_SIGMOID:
		return PART_SHARED;
	default:
		return PART_ATTENTION;
	}
}

static void print_attention(const struct model_config *c)
{
	if (c->attention == ATTENTION_MLA)
		printf("attention    MLA, %u heads of %u + %u (v %u), latent "
		       "%u, q latent %u\n",
			c->head_count, c->nope_dim, c->rope_dim, c->value_dim,
			c->kv_lora_rank, c->q_lora_rank);
	else
		printf("attention    %u query heads, %u key-value heads of %u%s"
		       "%s\n",
			c->head_count, c->kv_head_count, c->head_dim,
			c->qkv_bias ? ", biases" : "",
			c->qk_norm == QK_NORM_HEAD   ? ", norm per head"
			: c->qk_norm == QK_NORM_FULL ? ", norm over all heads"
						     : "");
}

static void print_shape(const struct model_config *c)
{
	const struct router_params *r = &c->router;
	uint32_t kv = model_key_width(c) + model_value_width(c);

	printf("family       %s\n", model_family_name(c->family));
	printf("layers       %u, of which %u with experts\n", c->layer_count,
		c->moe_layer_count);
	printf("width        %u, vocabulary %u%s, positions %u\n", c->hidden,
		c->vocab, c->tied_head ? " (head tied)" : "",
		c->position_count);
	print_attention(c);
	printf("router       %u experts of width %u, %u per token, %s%s%s\n",
		r->expert_count, c->expert_inter, r->topk,
		r->score == ROUTER_SIGMOID   ? "sigmoid"
		: r->score == ROUTER_SOFTMAX ? "softmax"
					     : "softmax over the chosen",
		r->normalise ? ", normalised" : "",
		c->router_bias ? ", choice bias" : "");
	if (r->group != ROUTER_GROUP_NONE)
		printf("             %u groups, %u kept\n", r->group_count,
			r->group_topk);
	if (c->shared_inter)
		printf("shared       width %u%s\n", c->shared_inter,
			c->shared_gate ? ", gated" : "");
	printf("KV cache     %u bytes per token in bf16, %u in f32\n",
		kv * c->layer_count * 2, kv * c->layer_count * 4);
}

static void print_parts(const struct model_plan *plan)
{
	uint64_t bytes[PART_COUNT] = {0}, total = 0;
	uint32_t counts[PART_COUNT] = {0};

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];
		enum part part = part_of(item->role);

		counts[part]++;
		bytes[part] += item->size_bytes + item->scale_size_bytes;
	}
	printf("\n%-20s %8s %18s\n", "part", "tensors", "bytes");
	for (int p = 0; p < PART_COUNT; p++) {
		total += bytes[p];
		if (counts[p])
			printf("%-20s %8u %18llu\n", part_names[p], counts[p],
				(unsigned long long)bytes[p]);
	}
	printf("%-20s %8u %18llu\n", "all", plan->count,
		(unsigned long long)total);
	printf("expert type  %s\n", dtype_name(plan->expert_type));
}

static void print_unused(const struct model_plan *plan)
{
	printf("not used     %u tensors, %llu bytes\n", plan->skipped_count,
		(unsigned long long)plan->skipped_bytes);
	for (uint32_t i = 0; i < plan->ignored_file_count; i++)
		printf("not used     file %s\n", plan->ignored_files[i]);
}

static int inspect(const struct model_files *files, struct model_config *config,
	struct error *err)
{
	struct generation_config generation;
	struct model_plan plan = {0};
	int rc;

	rc = model_read_config(files, config, &generation, err);
	if (rc)
		return rc;
	rc = model_plan_create(files, config, &plan, err);
	if (rc)
		return rc;
	print_shape(config);
	print_parts(&plan);
	print_unused(&plan);
	model_plan_release(&plan);
	return 0;
}

int eval_inspect(const struct eval_options *options, struct error *err)
{
	struct model_config *config = malloc(sizeof(*config));
	struct model_files files;
	enum cpu_isa isa;
	int rc;

	if (!config)
		return error_set(err, ENOMEM, "no memory for a configuration");
	rc = cpu_isa_choose(&isa, err);
	if (rc == 0)
		rc = model_dir_open(options->model, &files, err);
	if (rc == 0) {
		rc = inspect(&files, config, err);
		if (rc == 0)
			printf("runs here    on %s\n", cpu_isa_name(isa));
		if (rc)
			error_prefix(err, "%s", options->model);
		model_files_close(&files);
	}
	free(config);
	return rc;
}
