/* memmgr_overhead.c - what an engine needs beside weights and KV (-> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "bench/memmgr_model.h"
#include "bench/memmgr_overhead.h"
#include "engine/adapter.h"
#include "engine/forward.h"
#include "engine/kv_cache.h"

/* heddled's own defaults of a step, and the adapters' longest sequence. */
#define ROWS 512u
#define SEQUENCES 64u
#define TOKENS 4096u

static const char config_text[] =
	"{\"model_type\": \"deepseek_v2\", \"q_lora_rank\": null,"
	" \"topk_method\": \"greedy\", \"hidden_size\": 2048,"
	" \"moe_intermediate_size\": 1408, \"intermediate_size\": 10944,"
	" \"num_hidden_layers\": 27, \"num_attention_heads\": 16,"
	" \"num_key_value_heads\": 16, \"kv_lora_rank\": 512,"
	" \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64,"
	" \"v_head_dim\": 128, \"n_routed_experts\": 64,"
	" \"n_shared_experts\": 2, \"num_experts_per_tok\": 6,"
	" \"first_k_dense_replace\": 1, \"max_position_embeddings\": 4096,"
	" \"vocab_size\": 102400, \"rms_norm_eps\": 1e-06,"
	" \"rope_theta\": 10000, \"hidden_act\": \"silu\","
	" \"eos_token_id\": 1}";

struct engine {
	struct memmgr_run run; /* on the host back end */
	struct model model;
	struct adapter_set *set;
	struct kv_cache *cache;
	struct forward *forward;
	struct step steps[2]; /* one runs, one is filled */
	struct ops ops; /* of nothing: no step is run */
};

static uint64_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static int open_kv(struct engine *e, uint32_t pages, struct error *err)
{
	struct kv_layout layout;
	uint32_t blocks;
	int rc = kv_layout_choose(
		&memmgr_kv_shape, MEMMGR_PAGE_BYTES, &layout, err);

	if (rc)
		return rc;
	blocks = pages / layout.pages_per_block;
	rc = kv_store_create(e->run.pool, &layout, blocks, &e->model.kv, err);
	if (rc == 0 && kv_cache_create(e->model.kv, blocks, &e->cache))
		rc = error_set(err, ENOMEM, "no memory for a prefix cache");
	return rc;
}

static int open_steps(
	struct engine *e, struct memmgr_overhead *out, struct error *err)
{
	const struct kv_layout *layout = kv_store_layout(e->model.kv);
	const struct step_capacity capacity = {
		.row_count = ROWS,
		.sequence_count = SEQUENCES,
		.sample_count = SEQUENCES,
		.table_stride = kv_layout_blocks(layout, TOKENS) *
				layout->pages_per_block,
	};
	int rc =
		forward_create(&e->model, &e->ops, &capacity, &e->forward, err);

	if (rc)
		return rc;
	if (step_init(&e->steps[0], &capacity) ||
		step_init(&e->steps[1], &capacity))
		return error_set(err, ENOMEM, "no memory for steps");
	out->activation_bytes = forward_bytes(e->forward);
	out->row_count = ROWS;
	out->sequence_count = SEQUENCES;
	return 0;
}

static int open_engine(struct engine *e, uint32_t pages,
	struct memmgr_overhead *out, struct error *err)
{
	int rc = model_config_parse(config_text, sizeof(config_text) - 1,
		"config.json", &e->model.config, err);

	if (rc == 0)
		rc = memmgr_open_host(&e->run, pages, err);
	if (rc)
		return rc;
	e->model.vmm = &e->run.vmm;
	e->model.pool = e->run.pool;
	e->model.experts = e->run.store;
	rc = adapter_set_create(&e->model, &e->set, err);
	if (rc == 0)
		rc = open_kv(e, pages, err);
	return rc ? rc : open_steps(e, out, err);
}

int memmgr_overhead_measure(
	uint32_t movable_pages, struct memmgr_overhead *out, struct error *err)
{
	static struct engine e; /* a model's configuration is large */
	uint64_t before = allocated();
	int rc;

	memset(&e, 0, sizeof(e));
	*out = (struct memmgr_overhead){0};
	rc = open_engine(&e, movable_pages, out, err);
	if (rc == 0)
		out->book_bytes = allocated() - before;
	step_release(&e.steps[0]);
	step_release(&e.steps[1]);
	forward_destroy(e.forward);
	kv_cache_destroy(e.cache);
	kv_store_destroy(e.model.kv);
	adapter_set_destroy(e.set);
	memmgr_close(&e.run);
	return rc;
}
