/* stream_kernel_output.c - bytes out (handler -> blocks -> socket) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "dataplane/stream_kernel_private.h"

static size_t less(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Room behind the last byte that is queued in a block of ours. */
static size_t tail_room(const struct kernel_stream *s)
{
	const struct stream_block *last = s->last;

	if (!last || last->data != last->bytes)
		return 0;
	return STREAM_BLOCK_ROOM - last->end;
}

size_t stream_output_room(
	const struct stream_kernel *k, const struct kernel_stream *s)
{
	size_t pool = tail_room(s) + k->free_block_count * STREAM_BLOCK_ROOM;

	return s->out_bytes < k->limits.send_bytes
		       ? less(k->limits.send_bytes - s->out_bytes, pool)
		       : 0;
}

static struct stream_block *append_block(
	struct stream_kernel *k, struct kernel_stream *s)
{
	struct stream_block *block = stream_block_get(k);

	if (s->last)
		s->last->next = block;
	else
		s->first = block;
	s->last = block;
	return block;
}

/* Blocks are there: the caller has looked. */
static void append_bytes(struct stream_kernel *k, struct kernel_stream *s,
	const uint8_t *from, size_t length)
{
	s->out_bytes += (uint32_t)length;
	while (length > 0) {
		size_t part = less(tail_room(s), length);

		if (part == 0) {
			append_block(k, s);
			continue;
		}
		memcpy(s->last->bytes + s->last->end, from, part);
		s->last->end += (uint32_t)part;
		from += part;
		length -= part;
	}
}

static void append_constant(struct stream_kernel *k, struct kernel_stream *s,
	const struct stream_segment *segment)
{
	struct stream_block *block = append_block(k, s);

	block->data = segment->data;
	block->end = (uint32_t)segment->length;
	s->out_bytes += (uint32_t)segment->length;
}

/* A block can hold the reference or the bytes: only long ones are worth it. */
static bool is_reference(const struct stream_segment *segment)
{
	return segment->constant && segment->length > STREAM_BLOCK_ROOM;
}

/* Blocks that the segments take when the long constant ones are referred to. */
static size_t blocks_needed(const struct kernel_stream *s,
	const struct stream_segment *segments, uint32_t count)
{
	size_t room = tail_room(s), blocks = 0;

	for (uint32_t i = 0; i < count; i++) {
		size_t length = segments[i].length;

		if (is_reference(&segments[i])) {
			blocks++;
			room = 0;
			continue;
		}
		if (length > room) {
			size_t more = (length - room + STREAM_BLOCK_ROOM - 1) /
				      STREAM_BLOCK_ROOM;

			blocks += more;
			room += more * STREAM_BLOCK_ROOM;
		}
		room -= length;
	}
	return blocks;
}

static void add_all(struct stream_kernel *k, struct kernel_stream *s,
	const struct stream_segment *segments, uint32_t count)
{
	/* References may cut up blocks; copying always fits, see room(). */
	bool refer = blocks_needed(s, segments, count) <= k->free_block_count;

	for (uint32_t i = 0; i < count; i++)
		if (refer && is_reference(&segments[i]))
			append_constant(k, s, &segments[i]);
		else
			append_bytes(
				k, s, segments[i].data, segments[i].length);
}

int stream_output_add(struct stream_kernel *k, struct kernel_stream *s,
	const struct stream_segment *segments, uint32_t count)
{
	size_t length = 0;

	for (uint32_t i = 0; i < count; i++)
		if (__builtin_add_overflow(length, segments[i].length, &length))
			return -EMSGSIZE;
	if (length > k->limits.send_bytes)
		return -EMSGSIZE;
	if (length > stream_output_room(k, s))
		return -EAGAIN;
	add_all(k, s, segments, count);
	stream_mark(k, s);
	return 0;
}

static void queue_send(struct stream_kernel *k, struct kernel_stream *s)
{
	struct io_uring_sqe *sqe =
		stream_ring_entry(k, stream_index(k, s), STREAM_OP_SEND);
	const struct stream_block *block = s->first;
	struct stream_message *message;
	size_t used = 0;

	s->in_flight |= STREAM_OP_SEND;
	if (!block->next) {
		io_uring_prep_send(sqe, s->fd, block->data + block->start,
			block->end - block->start, MSG_NOSIGNAL);
		return;
	}
	/* The kernel reads header and vector when the entry is submitted. */
	message = &k->messages[k->message_count++];
	for (; block && used < STREAM_VECTOR_COUNT; block = block->next) {
		message->vector[used++] = (struct iovec){
			(void *)(uintptr_t)(block->data + block->start),
			block->end - block->start};
	}
	message->header =
		(struct msghdr){.msg_iov = message->vector, .msg_iovlen = used};
	io_uring_prep_sendmsg(sqe, s->fd, &message->header, MSG_NOSIGNAL);
}

static void drop_first(struct stream_kernel *k, struct kernel_stream *s)
{
	struct stream_block *block = s->first;

	s->first = block->next;
	if (!s->first)
		s->last = NULL;
	stream_block_put(k, block);
}

/* Give back the blocks of `length` bytes that the socket has taken. */
static void consume(
	struct stream_kernel *k, struct kernel_stream *s, size_t length)
{
	assert(length <= s->out_bytes);
	s->out_bytes -= (uint32_t)length;
	while (s->first) {
		size_t part = less(s->first->end - s->first->start, length);

		s->first->start += (uint32_t)part;
		length -= part;
		if (s->first->start < s->first->end)
			break;
		drop_first(k, s);
	}
	assert(length == 0);
}

void stream_sent(struct stream_kernel *k, struct kernel_stream *s, int res)
{
	if (res >= 0)
		consume(k, s, (size_t)res);
	else if (s->state != STREAM_IS_ENDING && stream_is_passing(-res))
		stream_starve(k, s);
	else
		stream_finish(k, s, stream_end_of(-res));
	if (s->state == STREAM_IS_ENDING ||
		(res >= 0 && (s->first || s->want > 0 ||
				     s->state != STREAM_IS_OPEN)))
		stream_mark(k, s);
}

void stream_output_drop(struct stream_kernel *k, struct kernel_stream *s)
{
	assert(!(s->in_flight & STREAM_OP_SEND));
	while (s->first)
		drop_first(k, s);
	s->out_bytes = 0;
}

void stream_output_settle(struct stream_kernel *k, struct kernel_stream *s)
{
	struct stream_event event = {.kind = STREAM_WRITABLE};

	if (s->state == STREAM_IS_OPEN && s->want > 0) {
		if (stream_output_room(k, s) >= s->want) {
			s->want = 0;
			stream_emit(k, s, &event);
		} else if ((size_t)s->out_bytes + s->want <=
			   k->limits.send_bytes) {
			/* Not its own bound but the pool's. */
			stream_starve(k, s);
		}
	}
	if (s->first && !(s->in_flight & STREAM_OP_SEND) &&
		s->state < STREAM_IS_ENDING)
		queue_send(k, s);
}
