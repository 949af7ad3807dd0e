/* tcp_queue.c - bytes that were sent above and are not acknowledged */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain of blocks of the pool. The cursor remembers the block that was read
 * last, since reading goes forward but for what is sent again.
 */
#include "dataplane/tcp_private.h"

uint32_t tcp_queue_room(const struct tcp *t, const struct tcp_connection *c)
{
	uint64_t blocks =
		(uint64_t)unit_pool_left(&t->blocks) * TCP_BLOCK_BYTES;
	uint64_t room = blocks;

	if (c->last_block != UNIT_NONE)
		room += TCP_BLOCK_BYTES - c->last_used;
	return (uint32_t)min_u64(room, t->config.send_bytes - c->queued_bytes);
}

static void block_add(struct tcp *t, struct tcp_connection *c)
{
	uint32_t block = unit_pool_get(&t->blocks);

	assert(block != UNIT_NONE);
	if (c->last_block == UNIT_NONE) {
		c->first_block = block;
		c->first_offset = 0;
	} else {
		t->blocks.next[c->last_block] = block;
	}
	c->last_block = block;
	c->last_used = 0;
	c->block_count++;
}

void tcp_queue_add(struct tcp *t, struct tcp_connection *c, const uint8_t *data,
	size_t length)
{
	while (length > 0) {
		size_t part;

		if (c->last_block == UNIT_NONE ||
			c->last_used == TCP_BLOCK_BYTES)
			block_add(t, c);
		part = TCP_BLOCK_BYTES - c->last_used;
		if (part > length)
			part = length;
		memcpy(unit_pool_bytes(&t->blocks, c->last_block) +
				c->last_used,
			data, part);
		c->last_used += (uint32_t)part;
		c->queued_bytes += (uint32_t)part;
		data += part;
		length -= part;
	}
}

static void first_block_drop(struct tcp *t, struct tcp_connection *c)
{
	uint32_t block = c->first_block;

	if (c->cursor_block == block)
		c->cursor_block = UNIT_NONE;
	c->first_block = t->blocks.next[block];
	c->first_offset = 0;
	if (c->first_block == UNIT_NONE)
		c->last_block = UNIT_NONE;
	unit_pool_put(&t->blocks, block);
	c->block_count--;
}

void tcp_queue_drop(struct tcp *t, struct tcp_connection *c, uint32_t bytes)
{
	assert(bytes <= c->queued_bytes);
	c->queued_bytes -= bytes;
	while (bytes > 0) {
		uint32_t part = TCP_BLOCK_BYTES - c->first_offset;

		if (part > bytes) {
			c->first_offset += bytes;
			break;
		}
		bytes -= part;
		first_block_drop(t, c);
	}
	/* A block that is read to its end is not kept for what may come. */
	if (c->queued_bytes == 0 && c->first_block != UNIT_NONE)
		first_block_drop(t, c);
}

void tcp_queue_clear(struct tcp *t, struct tcp_connection *c)
{
	while (c->first_block != UNIT_NONE)
		first_block_drop(t, c);
	c->queued_bytes = 0;
}

static void cursor_seek(
	const struct tcp *t, struct tcp_connection *c, uint32_t seq)
{
	if (c->cursor_block == UNIT_NONE || seq_lt(seq, c->cursor_seq)) {
		c->cursor_block = c->first_block;
		c->cursor_seq = c->snd_una - c->first_offset;
	}
	while (seq - c->cursor_seq >= TCP_BLOCK_BYTES) {
		c->cursor_block = t->blocks.next[c->cursor_block];
		c->cursor_seq += TCP_BLOCK_BYTES;
		assert(c->cursor_block != UNIT_NONE);
	}
}

void tcp_queue_copy(struct tcp *t, struct tcp_connection *c, uint32_t seq,
	uint8_t *out, uint32_t length)
{
	assert(seq - c->snd_una <= c->queued_bytes &&
		length <= c->queued_bytes - (seq - c->snd_una));
	while (length > 0) {
		uint32_t at, part;

		cursor_seek(t, c, seq);
		at = seq - c->cursor_seq;
		part = min_u32(TCP_BLOCK_BYTES - at, length);
		memcpy(out, unit_pool_bytes(&t->blocks, c->cursor_block) + at,
			part);
		out += part;
		seq += part;
		length -= part;
	}
}
