/* stream_kernel_private.h - what the files of stream_kernel*.c share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A turn:     poll() settles every dirty stream (delivers what waits in it,
 *             queues its receive, its send, its end), enters the kernel once
 *             with all of that, then hands out what has completed. Handlers
 *             only change a stream and mark it dirty.
 * One each:   a stream has at most one receive and one send in flight; what
 *             else there is to send waits in its blocks and goes with the
 *             next one. So its memory is bounded to the byte: a receive that
 *             repeats itself (multishot) could not be stopped before it had
 *             emptied the socket.
 * Memory:     an idle stream has its struct and nothing else. A receive
 *             buffer leaves the pool when the kernel has put bytes into it
 *             (buffer selection) and goes back when they are consumed; a
 *             block leaves when there is output and goes back when the
 *             socket has taken it.
 * Queues:     a stream is on one of `dirty`, `starved` or `free`, or on none.
 *             Starved ones lacked a buffer, a block or kernel memory; all of
 *             them are tried again after one of ours came back, and at the
 *             latest after STREAM_RETRY_NS.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_KERNEL_PRIVATE_H
#define HEDDLE_DATAPLANE_STREAM_KERNEL_PRIVATE_H

#include <liburing.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/limits.h"
#include "dataplane/poll_meter.h"
#include "dataplane/stream_kernel.h"

/* Not a power of two: equal offsets of all blocks would share cache sets. */
#define STREAM_BLOCK_BYTES (4096 + CACHE_LINE_BYTES)
#define STREAM_SUBMISSION_COUNT_MAX 4096
#define STREAM_POSTED_COUNT_MAX 256 /* buffers that the kernel may fill */
#define STREAM_BURST_COUNT 256 /* handler calls of one turn */
#define STREAM_MESSAGE_COUNT 64
#define STREAM_VECTOR_COUNT 16
#define STREAM_ACCEPT_COUNT_MAX 16 /* accepts in flight per listener */
#define STREAM_SETTLE_COUNT 4 /* entries that one stream may need at once */
#define STREAM_BUFFER_GROUP 0

#define STREAM_RETRY_NS (10 * NS_PER_MS)
#define STREAM_ACCEPT_RETRY_NS (100 * NS_PER_MS)
#define STREAM_LINGER_NS (1 * NS_PER_S)

/* A piece of output: bytes of its own, or the caller's constant ones. */
struct stream_block {
	struct stream_block *next;
	const uint8_t *data;
	uint32_t start, end;
	uint8_t bytes[];
};

#define STREAM_BLOCK_ROOM (STREAM_BLOCK_BYTES - sizeof(struct stream_block))

/* A buffer of the receive pool; memory NULL = none. */
struct stream_buffer {
	uint8_t *memory;
	uint32_t index;
	uint32_t start, end; /* the bytes that were not consumed */
};

enum stream_state {
	STREAM_IS_FREE,
	STREAM_IS_ACCEPTING, /* reserved for an accept in flight */
	STREAM_IS_OPEN,
	STREAM_IS_FLUSHING, /* close() was called; output is on its way */
	STREAM_IS_LINGERING, /* all is sent; waiting for the peer's end */
	STREAM_IS_ENDING, /* what is in flight is called back */
	STREAM_IS_CLOSING /* CLOSED was delivered; the descriptor closes */
};

enum stream_queue {
	STREAM_ON_NONE,
	STREAM_ON_FREE,
	STREAM_ON_DIRTY,
	STREAM_ON_STARVED
};

/* What the kernel works on, as bits of in_flight and in user_data. */
enum stream_operation {
	STREAM_OP_ACCEPT = 1,
	STREAM_OP_RECEIVE = 2,
	STREAM_OP_SEND = 4,
	STREAM_OP_CANCEL = 8,
	STREAM_OP_CLOSE = 16,
	STREAM_OP_WAKE = 32, /* the loop's, not a stream's */
	STREAM_OP_DRAIN = 64, /* a listener's cancel */
	STREAM_OP_BELL = 128 /* the loop's, not a stream's */
};

struct kernel_stream {
	/* What each record of output touches: one cache line. */
	_Alignas(CACHE_LINE_BYTES) int fd;
	uint32_t generation;
	uint8_t state; /* enum stream_state */
	uint8_t queue; /* enum stream_queue */
	bool lingers; /* has a deadline */
	uint8_t in_flight; /* bits of enum stream_operation */
	uint8_t listener;
	uint8_t end; /* enum stream_end */
	bool opened : 1; /* OPENED was delivered, CLOSED is owed */
	bool stalled : 1; /* the handler consumed nothing */
	bool resume : 1; /* deliver again */
	bool peer_done : 1;
	bool socket_done : 1; /* the socket has said its end */
	bool drained : 1; /* the last receive emptied the socket */
	bool behind : 1; /* the receive in flight goes behind raw's bytes */
	uint32_t out_bytes; /* queued */
	uint32_t want; /* 0 = nobody waits for room */
	struct stream_block *first, *last; /* output */
	TAILQ_ENTRY(kernel_stream) link;
	uint64_t deadline_ns; /* of one that lingers */
	/* The rest. */
	struct stream_buffer raw; /* as received */
	TAILQ_ENTRY(kernel_stream) linger_link;
	struct stream_kernel *loop;
	struct sockaddr_in6 address; /* of the peer, or a sockaddr_in */
	socklen_t address_length;
};

_Static_assert(
	offsetof(struct kernel_stream, raw) == CACHE_LINE_BYTES, "one line");

TAILQ_HEAD(stream_list, kernel_stream);

struct kernel_listener {
	int fd; /* -1 = closed */
	bool cancelling; /* drain: its accepts are called back */
	uint32_t accept_count; /* in flight */
	uint64_t retry_ns; /* no accept before this */
};

struct stream_message {
	struct msghdr header;
	struct iovec vector[STREAM_VECTOR_COUNT];
};

struct stream_kernel {
	struct stream_limits limits;
	stream_handler *handler;
	void *arg;
	struct kernel_listener listeners[STREAM_LISTENER_COUNT_MAX];
	uint32_t listener_count;
	uint32_t accept_max; /* in flight per listener */

	struct kernel_stream *streams;
	struct stream_list free, dirty, starved;
	struct stream_list lingering; /* soonest first */
	uint64_t retry_ns; /* starved streams run again then; 0 = none */
	uint64_t now_ns;

	struct io_uring ring;
	uint64_t operation_count; /* in flight */
	struct stream_message *messages;

	/* Receive pool: buffers with the kernel are "posted". */
	uint8_t *memory; /* one mapping: ring of buffers, buffers, blocks */
	size_t memory_bytes;
	struct io_uring_buf_ring *posted;
	uint8_t *buffers;
	uint32_t *stock; /* indices that are free */
	uint32_t buffer_count, stock_count;
	uint32_t posted_ring_count; /* entries of the ring, a power of two */
	uint32_t posted_count, posted_max;

	/* Send pool: blocks that were never used are not yet on the list, so
	 * that their memory is not touched. */
	struct stream_block *free_blocks;
	uint8_t *fresh_blocks;
	size_t free_block_count; /* both kinds */

	uint64_t wake_value;
	int wake_fd;
	bool owns_wake; /* else it is the caller's */
	uint32_t rung; /* see struct stream_loop */
	int bell_fd; /* borrowed; 0 or -1 = none */
	uint32_t message_count; /* used by entries not yet submitted */
	uint32_t event_count; /* handler calls of this turn */
	bool ring_ready, ring_enabled;
	bool returned; /* a buffer or a block came back */
	bool draining;
	bool wake_armed, bell_armed;
	_Atomic bool woken, sleeping;
	struct poll_meter meter;
};

/* --- stream_kernel.c --- */
extern const struct stream_ops stream_kernel_ops;
struct kernel_stream *stream_find(struct stream_kernel *k, struct stream_id id);
uint32_t stream_index(
	const struct stream_kernel *k, const struct kernel_stream *s);
/* Call the handler. */
size_t stream_emit(struct stream_kernel *k, const struct kernel_stream *s,
	struct stream_event *event);

/* --- stream_kernel_create.c --- */
void stream_kernel_destroy(struct stream_loop *loop);

/* --- stream_kernel_queue.c: lists of streams, pools --- */
void stream_set_state(struct kernel_stream *s, enum stream_state state);
void stream_mark(struct stream_kernel *k, struct kernel_stream *s);
void stream_starve(struct stream_kernel *k, struct kernel_stream *s);
void stream_unqueue(struct stream_kernel *k, struct kernel_stream *s);
void stream_linger(struct stream_kernel *k, struct kernel_stream *s);
void stream_linger_end(struct stream_kernel *k, struct kernel_stream *s);
void stream_buffer_put(struct stream_kernel *k, struct stream_buffer *buffer);
/* Put the bytes at the buffer's start; returns the room behind them. */
uint32_t stream_buffer_compact(
	const struct stream_kernel *k, struct stream_buffer *buffer);
void stream_buffers_post(struct stream_kernel *k);
struct stream_block *stream_block_get(struct stream_kernel *k);
void stream_block_put(struct stream_kernel *k, struct stream_block *block);

/* --- stream_kernel_ring.c: the ring itself --- */
int stream_ring_create(struct stream_kernel *k, struct error *err);
void stream_ring_destroy(struct stream_kernel *k);
/* Is there room for STREAM_SETTLE_COUNT entries? Submits to make some. */
bool stream_ring_space(struct stream_kernel *k);
/* An entry; stream_ring_space() has said that there is one. */
struct io_uring_sqe *stream_ring_entry(
	struct stream_kernel *k, uint32_t index, enum stream_operation op);
/* Call an operation back; the call's own completion says `as`, as_index. */
void stream_ring_cancel(struct stream_kernel *k, uint32_t index,
	enum stream_operation op, enum stream_operation as, uint32_t as_index);
/* Submit what is queued; with wait_until_ns > now wait for a completion. */
void stream_ring_enter(struct stream_kernel *k, uint64_t wait_until_ns);

/* --- stream_kernel_accept.c: listeners --- */
int stream_listeners_init(struct stream_kernel *k,
	const struct stream_kernel_config *config, struct error *err);
void stream_listeners_settle(struct stream_kernel *k);
uint64_t stream_listeners_deadline(const struct stream_kernel *k);
void stream_accepted(struct stream_kernel *k, struct kernel_stream *s, int res);

/* --- stream_kernel_input.c --- */
void stream_received(struct stream_kernel *k, struct kernel_stream *s, int res,
	uint32_t flags);
void stream_input_settle(struct stream_kernel *k, struct kernel_stream *s);
void stream_input_drop(struct stream_kernel *k, struct kernel_stream *s);

/* --- stream_kernel_output.c --- */
void stream_sent(struct stream_kernel *k, struct kernel_stream *s, int res);
void stream_output_settle(struct stream_kernel *k, struct kernel_stream *s);
void stream_output_drop(struct stream_kernel *k, struct kernel_stream *s);
int stream_output_add(struct stream_kernel *k, struct kernel_stream *s,
	const struct stream_segment *segments, uint32_t count);
size_t stream_output_room(
	const struct stream_kernel *k, const struct kernel_stream *s);

/* --- stream_kernel_end.c --- */
enum stream_end stream_end_of(int error);
/* A result that passes: try again. */
bool stream_is_passing(int error);
void stream_finish(
	struct stream_kernel *k, struct kernel_stream *s, enum stream_end end);
/* As stream_finish(), and the peer gets a reset. */
void stream_reset(
	struct stream_kernel *k, struct kernel_stream *s, enum stream_end end);
/* Send what is queued, then end with `end`. */
void stream_begin_close(
	struct stream_kernel *k, struct kernel_stream *s, enum stream_end end);
void stream_end_settle(struct stream_kernel *k, struct kernel_stream *s);
void stream_cancelled(struct stream_kernel *k, struct kernel_stream *s);
void stream_closed(struct stream_kernel *k, struct kernel_stream *s);
void stream_timers_expire(struct stream_kernel *k);

#endif
