/* tokenizer_cache.c - words that were encoded before (piece -> ids) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each piece has one slot, and takes it from whatever is there: a text repeats
 * a few words often, and finding that out costs more than it saves.
 */
#include <assert.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

_Static_assert(TOKENIZER_STEP_COUNT_MAX < 32, "a level has 5 bits");
_Static_assert(CACHE_ID_COUNT < 8, "a count has 3 bits");

struct cache_slot *cache_find(struct cache_slot *cache, uint32_t level,
	const char *piece, size_t length, bool *hit)
{
	uint64_t hash = text_hash(piece, length, true) ^ level;
	struct cache_slot *slot = &cache[hash % CACHE_SLOT_COUNT];

	assert(length > 0 && length <= CACHE_KEY_BYTES);
	*hit = slot->hash == hash && slot->key_bytes == length &&
	       slot->level == level && memcmp(slot->key, piece, length) == 0;
	return slot;
}

void cache_put(struct cache_slot *slot, uint32_t level, const char *piece,
	size_t length, const struct id_list *out, size_t before)
{
	size_t count = out->count - before;

	/* Deeper levels may have used the slot; what is in it is replaced. */
	slot->key_bytes = 0;
	if (count > CACHE_ID_COUNT)
		return;
	slot->hash = text_hash(piece, length, true) ^ level;
	slot->key_bytes = (uint8_t)length;
	slot->id_count = count & 7;
	slot->level = level & 31;
	memcpy(slot->key, piece, length);
	memcpy(slot->ids, out->ids + before, count * sizeof(*slot->ids));
}
