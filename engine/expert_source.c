/* expert_source.c - where a checkpoint keeps each matrix of each expert */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "engine/expert_source.h"
#include "engine/names.h"
#include "engine/weights.h"

/* Piece `piece` of the item, of `size` bytes, is that matrix. */
static void note(struct expert_source *out, const struct plan_item *item,
	uint32_t piece, uint64_t size)
{
	assert(!out->item); /* a plan has each once */
	*out = (struct expert_source){
		.item = item,
		.offset_bytes = item->offset_bytes + piece * size,
		.size_bytes = size,
	};
}

static void note_item(struct expert_sources *sources,
	const struct plan_item *item, uint32_t moe_layer)
{
	size_t first = (size_t)moe_layer * sources->expert_count + item->expert;
	bool both = item->role == ROLE_EXPERT_GATE_UP;
	uint32_t pieces = item->expert_count * (both ? 2 : 1);
	uint64_t size = item->size_bytes / pieces;

	for (uint32_t i = 0; i < item->expert_count; i++) {
		struct expert_source *parts = sources->parts[first + i];

		if (both) { /* of each expert the gate half, then the up half */
			note(&parts[ADAPTER_GATE], item, 2 * i, size);
			note(&parts[ADAPTER_UP], item, 2 * i + 1, size);
		} else if (item->role == ROLE_EXPERT_GATE) {
			note(&parts[ADAPTER_GATE], item, i, size);
		} else if (item->role == ROLE_EXPERT_UP) {
			note(&parts[ADAPTER_UP], item, i, size);
		} else {
			note(&parts[ADAPTER_DOWN], item, i, size);
		}
	}
}

int expert_sources_create(const struct model_plan *plan,
	const struct model_config *config, struct expert_sources *out,
	struct error *err)
{
	size_t count =
		(size_t)config->moe_layer_count * config->router.expert_count;

	*out = (struct expert_sources){
		.expert_count = config->router.expert_count,
		.parts = calloc(count, sizeof(*out->parts)),
	};
	if (!out->parts)
		return error_set(
			err, ENOMEM, "no memory for %zu experts", count);
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];

		if (tensor_role_is_expert(item->role))
			note_item(out, item,
				model_moe_layer(config, item->layer));
	}
	for (size_t i = 0; i < count; i++)
		for (int part = 0; part < ADAPTER_PART_COUNT; part++)
			assert(out->parts[i][part].item);
	return 0;
}

void expert_sources_release(struct expert_sources *sources)
{
	free(sources->parts);
	*sources = (struct expert_sources){0};
}
