/* stream_tls_private.h - what the files of stream_tls*.c share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues: a stream is on `again` when the handler has asked for something, on
 *         `starved` when it needs a buffer of the pool, or on none. `waiting`
 *         has those with a deadline, soonest first: all have the same
 *         patience.
 * Held:   a buffer holds plain bytes [start, end) and then `part` bytes of a
 *         record that has not come whole.
 * Rest:   the loop below has bytes that were not taken; it is told to go on
 *         when they can be.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_TLS_PRIVATE_H
#define HEDDLE_DATAPLANE_STREAM_TLS_PRIVATE_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "dataplane/stream_tls.h"
#include "dataplane/tls_handshake.h"
#include "dataplane/unit_pool.h"

#define TLS_SLACK_BYTES 128 /* below: KeyUpdate, close_notify or an alert */
#define TLS_PATIENCE_NS (10 * NS_PER_S)
#define TLS_FLIGHT_BYTES 1024 /* room for which a handshake waits */

enum tls_state {
	TLS_IS_FREE,
	TLS_IS_PLAIN, /* a listener without TLS */
	TLS_IS_HANDSHAKING, /* nobody above knows of it yet */
	TLS_IS_OPEN,
	TLS_IS_ENDING /* CLOSED is all that is still to come */
};

enum tls_queue { TLS_ON_NONE, TLS_ON_AGAIN, TLS_ON_STARVED };

struct tls_stream {
	uint32_t generation;
	uint8_t state; /* enum tls_state */
	uint8_t queue; /* enum tls_queue */
	bool opened : 1; /* OPENED was delivered, CLOSED is owed */
	bool stalled : 1; /* the handler consumed nothing */
	bool rest : 1; /* see above */
	bool waits : 1; /* has a deadline */
	bool in_done : 1; /* the peer's close_notify came */
	bool peer_done : 1; /* told */
	bool below_done : 1; /* the loop below has said so */
	bool failed : 1; /* it ends as reset */
	uint32_t want; /* 0 = nobody waits for room */
	uint32_t unit; /* of the pool; UNIT_NONE = none */
	uint32_t start, end, part; /* in it */
	uint32_t skip; /* of the record to come again: consumed already */
	struct tls_record record;
	struct tls_handshake *handshake; /* owned; NULL after it */
	uint64_t deadline_ns;
	TAILQ_ENTRY(tls_stream) link, wait_link;
	struct stream_peer peer;
	uint8_t listener;
};

TAILQ_HEAD(tls_stream_list, tls_stream);

struct stream_tls {
	struct stream_ops ops; /* ours, with the name of the loop below */
	struct stream_loop below; /* owned */
	struct stream_limits limits;
	uint32_t listeners; /* with TLS: bits */
	stream_handler *handler;
	void *arg;
	struct tls_context *context; /* of the next handshake */
	struct tls_context *_Atomic fresh; /* takes its place; any thread */
	struct tls_aead *aead; /* owned */
	struct tls_stream *streams; /* owned */
	struct tls_stream_list again, starved, waiting;
	struct unit_pool pool;
	uint64_t patience_ns;
	uint8_t *scratch; /* owned: one record, opened */
	uint8_t *sealed; /* owned: all records of a send() */
	uint32_t event_count; /* handler calls of this turn */
	bool returned; /* a buffer came back */
	/* of the handshake that is turned: what its pipe reaches */
	struct tls_stream *turned;
	const uint8_t *view;
	size_t view_length;
};

/* --- stream_tls.c --- */
uint32_t tls_index(const struct stream_tls *t, const struct tls_stream *s);
struct stream_id tls_id(const struct stream_tls *t, const struct tls_stream *s);
/* Call the handler. */
size_t tls_emit(struct stream_tls *t, const struct tls_stream *s,
	struct stream_event *event);
void tls_queue_set(
	struct stream_tls *t, struct tls_stream *s, enum tls_queue queue);
void tls_wait(struct stream_tls *t, struct tls_stream *s);
void tls_wait_end(struct stream_tls *t, struct tls_stream *s);

/* --- stream_tls_input.c --- */
/* A view of records; the bytes that were taken. */
size_t tls_input(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *view, size_t length);
/* What is held, once more; and what waits below. */
void tls_input_again(struct stream_tls *t, struct tls_stream *s);
void tls_input_peer_done(struct stream_tls *t, struct tls_stream *s);
void tls_input_drop(struct stream_tls *t, struct tls_stream *s);

/* --- stream_tls_output.c --- */
/* Plain bytes whose records fit in `room` bytes below, less the slack. */
size_t tls_output_plain(size_t room);
/* Bytes below that `plain` bytes take, with the slack. */
size_t tls_output_sealed(size_t plain);
size_t tls_output_room(const struct stream_tls *t, const struct tls_stream *s);
int tls_output_send(struct stream_tls *t, struct tls_stream *s,
	const struct stream_segment *segments, uint32_t count);
/* Say it if there is room, and close the stream below. */
void tls_output_end(
	struct stream_tls *t, struct tls_stream *s, enum tls_alert alert);
/* The stream below is reset. */
void tls_output_abort(struct stream_tls *t, struct tls_stream *s);

#endif
