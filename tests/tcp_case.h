/* tcp_case.h - a stack on a wire, with an application that checks bytes */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  the server's side of the wire tests. Its application sends
 *        pattern(send_seed) of a given length on every connection and expects
 *        pattern(receive_seed); seeds are those of the peer at that port, so
 *        connections may end and be opened again.
 */
#ifndef HEDDLE_TESTS_TCP_CASE_H
#define HEDDLE_TESTS_TCP_CASE_H

#include "dataplane/net.h"
#include "tests/wire.h"

#define CASE_PORT 80
#define CASE_STREAM_COUNT 8

enum case_ending {
	CASE_AFTER_PEER, /* closes when all is sent and the peer is done */
	CASE_FIRST, /* closes as soon as all is sent */
	CASE_HALF, /* finishes when all is sent, closes after the peer */
	CASE_NEVER /* leaves it open */
};

/* The application's side of one connection, named by the peer's port. */
struct case_stream {
	uint16_t port;
	uint64_t send_seed, receive_seed, send_total;
	enum case_ending ending;
	uint32_t piece_max; /* bytes of one tcp_send() */
	bool lazy; /* consumes only a part of what it sees */
	/* What happened. */
	struct tcp_id id;
	bool open, wrong, peer_done, finished, closed;
	uint32_t opened_count, closed_count;
	uint64_t sent, received;
	enum tcp_end end;
};

struct tcp_case {
	struct wire *wire;
	uint8_t end; /* of the wire */
	struct net_config config;
	struct net_stack *net;
	struct tcp *tcp;
	struct case_stream streams[CASE_STREAM_COUNT];
	uint32_t stream_count;
	uint64_t random;
	uint8_t frame[WIRE_FRAME_BYTES];
	uint64_t checksum_count, cut_count; /* what the device did */
};

struct net_config case_config(void);
/* Ends the program when the stack cannot be made. */
void case_init(struct tcp_case *c, struct wire *w, uint8_t end,
	const struct net_config *config);
void case_release(struct tcp_case *c);

/* Take news and act; part of the end's poll. */
void case_serve(struct tcp_case *c);

/* The stream's send_total has grown: send it. */
void case_push(struct tcp_case *c, struct case_stream *s);

bool case_is_empty(const struct tcp_case *c);
struct case_stream *case_stream_at(struct tcp_case *c, uint16_t port);

/* The device: puts in checksums and cuts, where offloads are on. */
uint8_t *case_frame_get(void *arg, size_t size);
void case_frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload);

#endif
