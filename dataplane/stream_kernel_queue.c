/* stream_kernel_queue.c - lists of streams, and the two pools */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "dataplane/stream_kernel_private.h"

/* The edges of the state machine, as bits of the states that may follow. */
void stream_set_state(struct kernel_stream *s, enum stream_state state)
{
	static const uint8_t next[] = {
		[STREAM_IS_FREE] = 1 << STREAM_IS_ACCEPTING,
		[STREAM_IS_ACCEPTING] =
			1 << STREAM_IS_FREE | 1 << STREAM_IS_OPEN,
		[STREAM_IS_OPEN] =
			1 << STREAM_IS_FLUSHING | 1 << STREAM_IS_ENDING,
		[STREAM_IS_FLUSHING] =
			1 << STREAM_IS_LINGERING | 1 << STREAM_IS_ENDING,
		[STREAM_IS_LINGERING] = 1 << STREAM_IS_ENDING,
		[STREAM_IS_ENDING] = 1 << STREAM_IS_CLOSING,
		[STREAM_IS_CLOSING] = 1 << STREAM_IS_FREE,
	};

	assert(next[s->state] & 1 << state);
	s->state = (uint8_t)state;
}

static struct stream_list *queue_of(
	struct stream_kernel *k, enum stream_queue queue)
{
	switch (queue) {
	case STREAM_ON_FREE:
		return &k->free;
	case STREAM_ON_DIRTY:
		return &k->dirty;
	default:
		assert(queue == STREAM_ON_STARVED);
		return &k->starved;
	}
}

void stream_unqueue(struct stream_kernel *k, struct kernel_stream *s)
{
	if (s->queue == STREAM_ON_NONE)
		return;
	TAILQ_REMOVE(queue_of(k, (enum stream_queue)s->queue), s, link);
	s->queue = STREAM_ON_NONE;
}

void stream_mark(struct stream_kernel *k, struct kernel_stream *s)
{
	if (s->queue == STREAM_ON_DIRTY)
		return;
	stream_unqueue(k, s);
	TAILQ_INSERT_TAIL(&k->dirty, s, link);
	s->queue = STREAM_ON_DIRTY;
}

void stream_starve(struct stream_kernel *k, struct kernel_stream *s)
{
	if (k->retry_ns == 0)
		k->retry_ns = k->now_ns + STREAM_RETRY_NS;
	/* Dirty ones are tried sooner. */
	if (s->queue != STREAM_ON_NONE)
		return;
	TAILQ_INSERT_TAIL(&k->starved, s, link);
	s->queue = STREAM_ON_STARVED;
}

void stream_linger_end(struct stream_kernel *k, struct kernel_stream *s)
{
	if (s->lingers)
		TAILQ_REMOVE(&k->lingering, s, linger_link);
	s->lingers = false;
}

/* All for the same time, so that the list is in the order of its ends. */
void stream_linger(struct stream_kernel *k, struct kernel_stream *s)
{
	assert(!s->lingers);
	s->deadline_ns = k->now_ns + STREAM_LINGER_NS;
	s->lingers = true;
	TAILQ_INSERT_TAIL(&k->lingering, s, linger_link);
}

void stream_buffer_put(struct stream_kernel *k, struct stream_buffer *buffer)
{
	if (!buffer->memory)
		return;
	assert(k->stock_count < k->buffer_count);
	k->stock[k->stock_count++] = buffer->index;
	k->returned = true;
	*buffer = (struct stream_buffer){0};
}

uint32_t stream_buffer_compact(
	const struct stream_kernel *k, struct stream_buffer *buffer)
{
	uint32_t length = buffer->end - buffer->start;

	if (buffer->start > 0) {
		memmove(buffer->memory, buffer->memory + buffer->start, length);
		buffer->start = 0;
		buffer->end = length;
	}
	return (uint32_t)k->limits.receive_bytes - length;
}

/* Let the kernel have free buffers again. */
void stream_buffers_post(struct stream_kernel *k)
{
	int mask = io_uring_buf_ring_mask(k->posted_ring_count);
	int added = 0;

	while (k->posted_count < k->posted_max && k->stock_count > 0) {
		uint32_t index = k->stock[--k->stock_count];

		io_uring_buf_ring_add(k->posted,
			k->buffers + (size_t)index * k->limits.receive_bytes,
			(unsigned)k->limits.receive_bytes,
			(unsigned short)index, mask, added);
		k->posted_count++;
		added++;
	}
	if (added > 0)
		io_uring_buf_ring_advance(k->posted, added);
}

struct stream_block *stream_block_get(struct stream_kernel *k)
{
	struct stream_block *block = k->free_blocks;

	assert(k->free_block_count > 0);
	k->free_block_count--;
	if (block) {
		k->free_blocks = block->next;
	} else {
		block = (struct stream_block *)(void *)k->fresh_blocks;
		k->fresh_blocks += STREAM_BLOCK_BYTES;
	}
	block->next = NULL;
	block->data = block->bytes;
	block->start = 0;
	block->end = 0;
	return block;
}

void stream_block_put(struct stream_kernel *k, struct stream_block *block)
{
	block->next = k->free_blocks;
	k->free_blocks = block;
	k->free_block_count++;
	k->returned = true;
}
