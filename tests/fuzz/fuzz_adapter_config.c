/* fuzz_adapter_config.c - any bytes as expert_cfg.json (text -> lists) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "engine/adapter_config.h"
#include "engine/names.h"
#include "tests/fuzz/fuzz.h"
#include "tests/st_model.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What the plan and the expert store rely on. */
static void check(
	const struct adapter_config *c, const struct model_config *model)
{
	uint32_t total = 0;

	require(c->layer_count == model->moe_layer_count);
	for (uint32_t l = 0; l < c->layer_count; l++) {
		require(c->first[l] == total);
		require(c->lists[l] == c->ids + total);
		require(model->is_moe[model_layer(model, l)]);
		for (uint32_t i = 0; i < c->counts[l]; i++) {
			require(c->lists[l][i] < model->router.expert_count);
			require(i == 0 || c->lists[l][i - 1] < c->lists[l][i]);
		}
		total += c->counts[l];
	}
	require(total == c->total && total > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct model_config model;
	const char *text = (const char *)data;
	struct adapter_config config;
	struct error err = {0};

	if (model.layer_count == 0) {
		const char *own = st_model_config_text(FAMILY_DEEPSEEK_V2);

		require(model_config_parse(own, strlen(own), "config.json",
				&model, &err) == 0);
	}
	if (adapter_config_parse(
		    text, size, "expert_cfg.json", &model, &config, &err)) {
		require(err.text[0] && !config.ids);
		return 0;
	}
	check(&config, &model);
	adapter_config_release(&config);
	return 0;
}
