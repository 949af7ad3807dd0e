/* ahead.c - memory made ready before it is written (places -> pages) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/ahead.h"

static uint64_t block_of(vmm_addr at)
{
	return at / AHEAD_BLOCK_BYTES;
}

/* Blocks of addresses that a place touches. */
static uint64_t blocks_of(const struct ahead_place *place)
{
	return place->size_bytes == 0
		       ? 0
		       : block_of(place->at + place->size_bytes - 1) -
				 block_of(place->at) + 1;
}

static int compare_addresses(const void *left, const void *right)
{
	const struct ahead_block *a = left, *b = right;

	return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static int compare_turns(const void *left, const void *right)
{
	const struct ahead_block *a = left, *b = right;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* The parts of one place; behind the last one. */
static struct ahead_block *cut(const struct ahead_place *place, uint32_t index,
	struct ahead_block *out)
{
	vmm_addr end = place->at + place->size_bytes;

	for (vmm_addr at = place->at; at < end;) {
		vmm_addr stop = (block_of(at) + 1) * AHEAD_BLOCK_BYTES;

		stop = stop < end ? stop : end;
		*out++ = (struct ahead_block){at, stop, index, index};
		at = stop;
	}
	return out;
}

/* Parts of one block without a gap become one; how many there are then. */
static uint32_t join(struct ahead_block *parts, uint32_t count)
{
	uint32_t kept = 0;

	for (uint32_t i = 1; i < count; i++) {
		struct ahead_block *to = &parts[kept];
		const struct ahead_block *from = &parts[i];

		if (block_of(to->begin) != block_of(from->begin) ||
			from->begin > to->end + AHEAD_GAP_BYTES) {
			parts[++kept] = *from;
			continue;
		}
		to->end = from->end > to->end ? from->end : to->end;
		to->first = from->first < to->first ? from->first : to->first;
		to->last = from->last > to->last ? from->last : to->last;
	}
	return count ? kept + 1 : 0;
}

static int plan(
	const struct ahead_place *places, uint32_t count, struct ahead *ahead)
{
	struct ahead_block *end;
	uint64_t total = 0;
	uint32_t parts;

	for (uint32_t i = 0; i < count; i++)
		total += blocks_of(&places[i]);
	if (!u32_ok(total, &parts))
		return -EOVERFLOW;
	ahead->blocks = calloc((size_t)parts + 1, sizeof(*ahead->blocks));
	if (!ahead->blocks)
		return -ENOMEM;
	end = ahead->blocks;
	for (uint32_t i = 0; i < count; i++)
		end = cut(&places[i], i, end);
	qsort(ahead->blocks, parts, sizeof(*ahead->blocks), compare_addresses);
	ahead->count = join(ahead->blocks, parts);
	qsort(ahead->blocks, ahead->count, sizeof(*ahead->blocks),
		compare_turns);
	return 0;
}

/* The next block that is not written yet, or NULL. */
static const struct ahead_block *take_block(struct ahead *ahead)
{
	uint32_t at = __atomic_load_n(&ahead->next, __ATOMIC_RELAXED);

	while (at < ahead->count) {
		const struct ahead_block *block = &ahead->blocks[at];

		if (__atomic_compare_exchange_n(&ahead->next, &at, at + 1,
			    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
			block->last >= __atomic_load_n(&ahead->reached,
					       __ATOMIC_RELAXED))
			return block;
		at = __atomic_load_n(&ahead->next, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *prepare_all(void *arg)
{
	struct ahead *ahead = arg;
	const struct ahead_block *block;

	while ((block = take_block(ahead)))
		ahead->vmm->ops->prepare(
			ahead->vmm, block->begin, block->end - block->begin);
	return NULL;
}

int ahead_begin(struct vmm *vmm, const struct ahead_place *places,
	uint32_t count, uint32_t thread_count, struct ahead *out)
{
	int rc;

	assert(thread_count <= AHEAD_THREAD_COUNT_MAX);
	*out = (struct ahead){.vmm = vmm};
	rc = plan(places, count, out);
	if (rc)
		return rc;
	while (out->thread_count < thread_count &&
		out->thread_count < out->count &&
		pthread_create(&out->threads[out->thread_count], NULL,
			prepare_all, out) == 0)
		out->thread_count++;
	return 0;
}

void ahead_reached(struct ahead *ahead, uint32_t place)
{
	__atomic_store_n(&ahead->reached, place, __ATOMIC_RELAXED);
}

void ahead_end(struct ahead *ahead)
{
	__atomic_store_n(&ahead->next, ahead->count, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < ahead->thread_count; i++)
		pthread_join(ahead->threads[i], NULL);
	free(ahead->blocks);
	*ahead = (struct ahead){0};
}
