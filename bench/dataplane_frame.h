/* dataplane_frame.h - frames of far ends that are like real clients' */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    Ethernet, IPv4 and TCP with the options of today's clients: MSS,
 *          SACK permitted, window scale, timestamps (but no SACK blocks: a
 *          client of a wire that loses permits none). Far end i has the address `first` +
 *          i / FAR_PORT_COUNT and a port of its own there, so that a frame
 *          says by itself whom it is for.
 * Threads: pure, but for the struct that is being filled.
 */
#ifndef HEDDLE_BENCH_DATAPLANE_FRAME_H
#define HEDDLE_BENCH_DATAPLANE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAR_PORT_COUNT 50000u
#define FAR_FRAME_PAYLOAD_MAX 1400u

#define FAR_WINDOW_SCALE 7
#define FAR_WINDOW_MAX UINT16_MAX

enum far_flags {
	FAR_FIN = 1,
	FAR_SYN = 2,
	FAR_RST = 4,
	FAR_PSH = 8,
	FAR_ACK = 16
};

struct far_net {
	uint8_t mac[6], server_mac[6];
	uint32_t server_address, first; /* IPv4, as numbers */
	uint16_t server_port;
	bool no_sack;
};

/* What a segment says, either way. */
struct far_segment {
	uint32_t i; /* the far end */
	uint8_t flags;
	uint32_t seq, ack;
	uint32_t ts_value, ts_echo;
	uint16_t window; /* as it is written; 0 of what is read */
	const uint8_t *data;
	uint32_t length;
};

/* Returns the frame's length. */
size_t far_frame_make(
	const struct far_net *net, const struct far_segment *s, uint8_t *out);

/* A segment of the server's to one of ours; false: it is none. */
bool far_frame_read(const struct far_net *net, const uint8_t *frame,
	size_t length, struct far_segment *out);

/* Who has the server's address? Asked by far end i. */
size_t far_arp_ask(const struct far_net *net, uint32_t i, uint8_t *out);
/*
 * ARP of the server's: its MAC is taken from an answer; a question for one of
 * ours is answered into `out`. Returns the answer's length, 0 = none.
 */
size_t far_arp_input(
	struct far_net *net, const uint8_t *frame, size_t length, uint8_t *out);

#endif
