/* memmgr_model.c - DeepSeek-V2-Lite's bytes, on the real policy code */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/check.h"
#include "bench/memmgr_model.h"
#include "tests/esft_counts.h"
#include "tests/fake/fake_vmm.h"

#define HANDLE_BYTES ((size_t)64 << 20)
#define HIDDEN UINT64_C(2048)
#define INTER UINT64_C(1408)

const struct kv_shape memmgr_kv_shape = {
	.layer_count = 27,
	.key_width = 512 + 64,
	.type = DTYPE_BF16,
};

uint64_t memmgr_dense_bytes(void)
{
	const uint64_t heads = 16, nope = 128, rope = 64, value = 128;
	const uint64_t latent = 512, vocab = 102400, shared = 2 * INTER;
	uint64_t attention = heads * (nope + rope) * HIDDEN +
			     (latent + rope) * HIDDEN + latent +
			     heads * (nope + value) * latent +
			     HIDDEN * heads * value + 2 * HIDDEN;
	uint64_t moe = MEMMGR_EXPERTS * HIDDEN + 3 * shared * HIDDEN;
	uint64_t dense = 3 * UINT64_C(10944) * HIDDEN;

	return 2 *
	       (2 * vocab * HIDDEN + HIDDEN + (MEMMGR_LAYERS + 1) * attention +
		       dense + MEMMGR_LAYERS * moe);
}

static uint64_t layer_bytes(void)
{
	return MEMMGR_EXPERTS * MEMMGR_SLOT_BYTES;
}

uint64_t memmgr_base_bytes(void)
{
	return memmgr_dense_bytes() + MEMMGR_LAYERS * layer_bytes();
}

uint64_t memmgr_base_pages(void)
{
	return div_up(memmgr_dense_bytes(), MEMMGR_PAGE_BYTES) +
	       MEMMGR_LAYERS * div_up(layer_bytes(), MEMMGR_PAGE_BYTES);
}

static int create_store(struct memmgr_run *run, struct error *err)
{
	struct expert_store_config config = {
		.shape = {.layer_count = MEMMGR_LAYERS,
			.base_count = MEMMGR_EXPERTS,
			.hidden = (uint32_t)HIDDEN,
			.inter = (uint32_t)INTER,
			.format = {.type = DTYPE_BF16}},
		.first_extent = 1,
		.instance_count_max = 32,
		.adapter_slot_count_max = 256,
	};
	int rc = expert_shape_finish(&config.shape, err);

	if (rc)
		return rc;
	assert(config.shape.slot_size_bytes == MEMMGR_SLOT_BYTES);
	rc = expert_store_create(run->pool, &config, &run->store, err);
	if (rc == 0)
		expert_store_publish_base(run->store);
	return rc;
}

/* On the back end that is there. */
static int open_run(
	struct memmgr_run *run, uint32_t movable_pages, struct error *err)
{
	uint32_t extents[MEMMGR_LAYERS + 1];
	struct page_pool_config config = {
		.page_size_bytes = MEMMGR_PAGE_BYTES,
		.movable_page_count = movable_pages,
		.extent_page_counts = extents,
		.extent_count = MEMMGR_LAYERS + 1,
		.extent_handle_bytes = HANDLE_BYTES,
	};
	int rc;

	extents[0] = (uint32_t)div_up(memmgr_dense_bytes(), MEMMGR_PAGE_BYTES);
	for (uint32_t l = 1; l <= MEMMGR_LAYERS; l++)
		extents[l] = (uint32_t)div_up(layer_bytes(), MEMMGR_PAGE_BYTES);
	rc = page_pool_create(&run->vmm, &config, &run->pool, err);
	if (rc == 0)
		rc = create_store(run, err);
	if (rc)
		memmgr_close(run);
	return rc;
}

int memmgr_open(
	struct memmgr_run *run, uint32_t movable_pages, struct error *err)
{
	*run = (struct memmgr_run){0};
	fake_vmm_init(&run->vmm, MEMMGR_PAGE_BYTES, NULL);
	return open_run(run, movable_pages, err);
}

int memmgr_open_host(
	struct memmgr_run *run, uint32_t movable_pages, struct error *err)
{
	const struct vmm_host_config host = {
		.granularity_bytes = MEMMGR_PAGE_BYTES};
	int rc;

	*run = (struct memmgr_run){.on_host = true};
	rc = vmm_host_init(&run->vmm, &host, err);
	return rc ? rc : open_run(run, movable_pages, err);
}

void memmgr_close(struct memmgr_run *run)
{
	expert_store_destroy(run->store);
	page_pool_destroy(run->pool, false);
	if (run->on_host)
		vmm_host_destroy(&run->vmm);
	else if (run->vmm.ops)
		fake_vmm_destroy(&run->vmm);
	*run = (struct memmgr_run){0};
}

int memmgr_add(struct memmgr_run *run, uint32_t which, uint32_t *out_instance,
	struct error *err)
{
	static uint16_t list[MEMMGR_EXPERTS];
	const uint16_t *ids[MEMMGR_LAYERS];
	int rc;

	_Static_assert(MEMMGR_LAYERS == ESFT_LAYER_COUNT, "the same model");
	for (uint16_t e = 0; e < MEMMGR_EXPERTS; e++)
		list[e] = e; /* which ones they are changes no byte */
	for (uint32_t l = 0; l < MEMMGR_LAYERS; l++)
		ids[l] = list;
	rc = expert_store_add(run->store,
		esft_counts[which % ESFT_ADAPTER_COUNT].counts, ids,
		out_instance, err);
	if (rc == 0)
		expert_store_publish(run->store, *out_instance);
	return rc;
}

uint32_t memmgr_total(uint32_t which)
{
	return esft_counts[which % ESFT_ADAPTER_COUNT].total;
}

uint32_t memmgr_widest(uint32_t which)
{
	const uint32_t *counts = esft_counts[which % ESFT_ADAPTER_COUNT].counts;
	uint32_t most = 0;

	for (uint32_t l = 0; l < MEMMGR_LAYERS; l++)
		if (counts[l] > most)
			most = counts[l];
	return most;
}

uint64_t memmgr_tokens(uint64_t pages)
{
	struct kv_layout layout;
	int rc = kv_layout_choose(
		&memmgr_kv_shape, MEMMGR_PAGE_BYTES, &layout, NULL);

	assert(rc == 0);
	return pages / layout.pages_per_block * layout.block_tokens;
}
