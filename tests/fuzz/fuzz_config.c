/* fuzz_config.c - any bytes as config.json and generation_config.json */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "engine/model.h"
#include "engine/names.h"
#include "tests/fuzz/fuzz.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What everything after the parser relies on. */
static void check(const struct model_config *c)
{
	const struct router_params *router = &c->router;
	struct role_shape shape;

	require(c->vocab > 0 && c->hidden > 0 && c->head_count > 0);
	require(c->layer_count > 0 && c->layer_count <= MODEL_LAYER_COUNT_MAX);
	require(c->moe_layer_count > 0);
	require(c->head_count % c->kv_head_count == 0);
	require(c->head_dim <= MODEL_HEAD_DIM_MAX);
	require(model_key_width(c) > 0);
	require(c->rope.dim % 2 == 0 && c->rope.dim <= c->head_dim);
	require(isfinite(c->rope.scale) && isfinite(c->attention_scale));
	for (uint32_t i = 0; i < c->rope.dim / 2; i++)
		require(isfinite(c->rope.inv_freq[i]) &&
			c->rope.inv_freq[i] >= 0);
	require(router->topk > 0 && router->topk <= router->expert_count);
	require(router->expert_count % router->group_count == 0);
	require(router->topk <=
		router->group_topk *
			(router->expert_count / router->group_count));
	require(isfinite(c->logit_scale) && isfinite(c->norm_epsilon));
	require(!c->fp8 || (c->fp8_block_rows > 0 && c->fp8_block_cols > 0));
	for (uint32_t l = 0; l < c->layer_count; l++)
		for (int role = 0; role < ROLE_COUNT; role++)
			if (role_shape(c, (enum tensor_role)role, l, &shape))
				require(shape.rows > 0 && shape.cols > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char plain[] = "{\"eos_token_id\": 2}";
	const char *text = (const char *)data;
	struct generation_config generation;
	struct model_config config;
	struct error err = {0};

	if (model_config_parse(text, size, "config.json", &config, &err)) {
		require(error_is_set(&err) && err.text[0]);
		config = (struct model_config){.vocab = 1000};
	} else {
		check(&config);
	}
	generation_config_parse(text, size, plain, sizeof(plain) - 1, &config,
		&generation, NULL);
	generation_config_parse(
		NULL, 0, text, size, &config, &generation, NULL);
	return 0;
}
