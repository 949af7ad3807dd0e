/* jinja_memory.c - memory that dies together (chunks -> blocks) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja_private.h"

#define CHUNK_BYTES_FIRST ((size_t)16 * 1024)
#define CHUNK_BYTES_MOST ((size_t)1024 * 1024)
#define BLOCK_ALIGN ((size_t)16)

struct jchunk {
	struct jchunk *next;
	size_t size_bytes;
};

_Static_assert(sizeof(struct jchunk) % BLOCK_ALIGN == 0, "blocks stay aligned");

void jarena_init(struct jarena *arena, size_t max_bytes)
{
	*arena = (struct jarena){.max_bytes = max_bytes};
}

void jarena_release(struct jarena *arena)
{
	struct jchunk *chunk = arena->chunks;

	while (chunk) {
		struct jchunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
	*arena = (struct jarena){0};
}

/* A chunk with room for size_bytes becomes the newest. */
static bool jarena_add_chunk(struct jarena *arena, size_t size_bytes)
{
	size_t want = arena->chunks ? 2 * arena->chunks->size_bytes
				    : CHUNK_BYTES_FIRST;
	size_t need, left = arena->max_bytes - arena->taken_bytes;
	struct jchunk *chunk;

	if (!add_ok(size_bytes, sizeof(*chunk), &need))
		return false;
	if (want > CHUNK_BYTES_MOST)
		want = CHUNK_BYTES_MOST;
	if (want > left)
		want = left;
	if (want < need)
		want = need;
	if (want > left)
		return false;
	chunk = malloc(want);
	if (!chunk) {
		arena->out_of_memory = true;
		return false;
	}
	chunk->next = arena->chunks;
	chunk->size_bytes = want;
	arena->chunks = chunk;
	arena->taken_bytes += want;
	arena->top = (char *)(chunk + 1);
	arena->end = (char *)chunk + want;
	return true;
}

void *jarena_take(struct jarena *arena, size_t size_bytes)
{
	size_t rounded;
	void *block;

	if (!round_up_ok(size_bytes ? size_bytes : 1, BLOCK_ALIGN, &rounded))
		return NULL;
	if ((!arena->chunks || (size_t)(arena->end - arena->top) < rounded) &&
		!jarena_add_chunk(arena, rounded + BLOCK_ALIGN))
		return NULL;
	assert((size_t)(arena->end - arena->top) >= rounded);
	block = arena->top;
	arena->top += rounded;
	return block;
}

void *jarena_grow(
	struct jarena *arena, void *block, size_t old_bytes, size_t new_bytes)
{
	size_t old_rounded, new_rounded;
	void *larger;

	assert(old_bytes <= new_bytes);
	if (block && round_up_ok(old_bytes, BLOCK_ALIGN, &old_rounded) &&
		old_rounded > 0 && (char *)block + old_rounded == arena->top) {
		if (!round_up_ok(new_bytes, BLOCK_ALIGN, &new_rounded))
			return NULL;
		if ((size_t)(arena->end - (char *)block) >= new_rounded) {
			arena->top = (char *)block + new_rounded;
			return block;
		}
	}
	larger = jarena_take(arena, new_bytes);
	if (larger && block && old_bytes > 0)
		memcpy(larger, block, old_bytes);
	return larger;
}
