/* tcp_frame.h - frames of far ends that keep no state (numbers -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    an IPv4 segment without data from far end `i` to the server's port
 *          80. Far ends are told apart by address and port, so that a frame
 *          that leaves says by itself which one it is for.
 * Threads: one per struct.
 */
#ifndef HEDDLE_BENCH_TCP_FRAME_H
#define HEDDLE_BENCH_TCP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_FRAME_BYTES 54
#define TCP_FRAME_PORT 80

enum tcp_frame_flags { FRAME_SYN = 2, FRAME_RST = 4, FRAME_ACK = 16 };

struct tcp_frame {
	uint8_t bytes[TCP_FRAME_BYTES];
	uint32_t address; /* of far end 0 */
	uint32_t per_address; /* far ends that share one */
	bool checksum; /* of TCP; that of IP is always there */
};

/* To `mac` and `ip4`; the far ends are at 02:00:00:00:00:02. */
void tcp_frame_init(struct tcp_frame *f, const uint8_t mac[6],
	const uint8_t ip4[4], uint32_t address, uint32_t per_address);
/* Fill f->bytes. */
void tcp_frame_make(struct tcp_frame *f, uint32_t i, uint8_t flags,
	uint32_t seq, uint32_t ack);
/*
 * A frame that came from the server: whom it is for, and the number that
 * acknowledges all of it. False: no segment.
 */
bool tcp_frame_read(const struct tcp_frame *f, const uint8_t *frame,
	size_t length, uint32_t *out_i, uint32_t *out_ack);

/* "address is at our MAC": an ARP request for the server's own address. */
#define TCP_FRAME_ARP_BYTES 42
void tcp_frame_arp(const struct tcp_frame *f, uint32_t address,
	uint8_t out[TCP_FRAME_ARP_BYTES]);

#endif
