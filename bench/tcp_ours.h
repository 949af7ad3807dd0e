/* tcp_ours.h - our TCP with far ends, without a NIC (calls -> frames) */
/* SPDX-License-Identifier: Apache-2.0 */
/* Frames are built in place and forgotten; the clock is the caller's. */
#ifndef HEDDLE_BENCH_TCP_OURS_H
#define HEDDLE_BENCH_TCP_OURS_H

#include "base/error.h"
#include "dataplane/net.h"

struct tcp_ours;

/* `count` open connections; checksums: the device does them. */
int tcp_ours_create(uint32_t count, bool checksums, struct tcp_ours **out,
	struct error *err);
void tcp_ours_destroy(struct tcp_ours *o);

/* Add to the clock. */
void tcp_ours_pass(struct tcp_ours *o, uint64_t ns);
/* An event on connection i; false: no room. */
bool tcp_ours_send(struct tcp_ours *o, uint32_t i);
/* Far end i acknowledges all it has seen. */
void tcp_ours_ack(struct tcp_ours *o, uint32_t i);
/* A SYN of a far end that has no connection. */
void tcp_ours_syn(struct tcp_ours *o, uint32_t i);
void tcp_ours_poll(struct tcp_ours *o);
/* Frames that have left so far. */
uint64_t tcp_ours_frame_count(const struct tcp_ours *o);
void tcp_ours_usage(const struct tcp_ours *o, struct tcp_usage *out);

#endif
