/* dataplane_client.h - far ends that ask and read streams (frames <-> events) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    a packet-level client. Each far end is a TCP connection that was
 *          opened from here, sends one request at a time and acknowledges
 *          every segment that comes, at once: no client asks more of a server.
 *          It never waits for the server: when to ask is the caller's.
 * Answer:  an event of a stream ends with an empty line; the last one is
 *          "[DONE]". What the answer says goes into a hash: all of its bytes
 *          but its head and each event's id and time; or its text alone, which
 *          is the same where a server tells several tokens in one event.
 * Loss:    a segment that does not follow is not taken, and acknowledged
 *          again, so that the server repeats; a SYN or a request that nothing
 *          answers for a second is sent again. Who is sent something for a
 *          connection that he does not have resets it, as all hosts do.
 * Slow:    a far end that is slow takes FAR_SLOW_BYTES and then no more, until
 *          the caller has it read.
 * TLS:     an end is open when its hands are shaken; nothing that was lost is
 *          sent again then, so the wire may lose nothing.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_DATAPLANE_CLIENT_H
#define HEDDLE_BENCH_DATAPLANE_CLIENT_H

#include "bench/dataplane_frame.h"
#include "bench/dataplane_tls.h"
#include "bench/dataplane_wire.h"

#define FAR_SLOW_BYTES 4096u

enum far_state { FAR_CLOSED, FAR_OPENING, FAR_OPEN, FAR_GONE };

enum far_check { FAR_CHECK_NONE, FAR_CHECK_BYTES, FAR_CHECK_TEXT };

struct far_end {
	uint32_t seq, ack, ts_recent;
	uint8_t state; /* enum far_state */
	bool counted; /* among those that are open */
	bool asked; /* a request is open */
	bool in_body;
	bool line_end; /* the last byte was one */
	bool slow;
	bool in_text, escaped; /* of FAR_CHECK_TEXT */
	uint8_t matched; /* of the name that it begins with */
	uint32_t unread; /* bytes, of one that is slow */
	uint32_t head_tail, head_bytes; /* the last four of the head; all */
	uint32_t tail_bytes; /* that are missing behind [DONE] */
	uint32_t line, column; /* bytes of this line, of this event so far */
	uint32_t event_count; /* of this answer, without [DONE] */
	uint32_t request_bytes; /* not acknowledged */
	uint64_t sent_ns; /* what waits for an answer */
	uint64_t hash;
};

/* What the client tells; all may be NULL. */
struct dataplane_hooks {
	void *arg;
	/* Event number `k` of far end i is here whole. */
	void (*event)(void *arg, uint32_t i, uint32_t k);
	/* All of an answer: [DONE] of a stream. */
	void (*done)(void *arg, uint32_t i);
	/* Write the request of far end i, at most FAR_FRAME_PAYLOAD_MAX. */
	size_t (*request)(void *arg, uint32_t i, char *out);
};

struct dataplane_client {
	struct dataplane_wire *wire; /* borrowed */
	struct far_net net;
	struct far_end *ends; /* owned */
	uint32_t count;
	struct dataplane_tls *tls; /* owned; NULL = plain */
	enum far_check check;
	bool plain; /* answers are short and no streams: one segment */
	struct dataplane_hooks hooks;
	uint64_t now_ns; /* of the last turn */
	uint64_t swept_ns;
	/* counts */
	uint64_t events, segments_in, segments_out, again_in, gaps_in, resets;
	uint64_t asked_again, arp_in, arp_out, refused;
	uint64_t overruns; /* segments beyond a window that was told */
	uint32_t open_count, asked_count;
};

/* address: the server's. -ENOMEM. */
int dataplane_client_init(struct dataplane_client *client,
	struct dataplane_wire *wire, uint32_t address, uint32_t count,
	struct error *err);
void dataplane_client_release(struct dataplane_client *client);

/* Ask for the server's MAC, from the address of each far end. */
void dataplane_client_greet(struct dataplane_client *client);
bool dataplane_client_knows_server(const struct dataplane_client *client);

void dataplane_client_open(struct dataplane_client *client, uint32_t i);
/* Its answers so far are forgotten. */
void dataplane_client_ask(struct dataplane_client *client, uint32_t i);
/* A piece of a request that the caller makes up. */
void dataplane_client_say(struct dataplane_client *client, uint32_t i,
	const char *text, size_t length);
/* Reset it; in_window false: a forger's, which the server must not believe. */
void dataplane_client_reset(
	struct dataplane_client *client, uint32_t i, bool in_window);
/* One that is slow reads what it has. */
void dataplane_client_read(struct dataplane_client *client, uint32_t i);
/* Data of a connection that there is not, of somebody beyond all far ends. */
void dataplane_client_stray(struct dataplane_client *client, uint32_t number);
/* A SYN of somebody, beyond all far ends, who never answers. */
void dataplane_client_flood(struct dataplane_client *client, uint32_t number);

/* Take what has come, answer, send. Returns frames taken. */
uint32_t dataplane_client_turn(struct dataplane_client *client);

#endif
