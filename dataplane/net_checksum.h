/* net_checksum.h - the Internet checksum (RFC 1071) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sum is kept unfolded in 64 bits and folded once at the end. Sums of
 * pieces may be added when each piece but the last has an even length.
 * Threads: pure functions.
 */
#ifndef HEDDLE_DATAPLANE_NET_CHECKSUM_H
#define HEDDLE_DATAPLANE_NET_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "dataplane/tcp.h"

/* The sum of 16-bit words in the machine's order, on top of `sum`. */
uint64_t net_sum(uint64_t sum, const uint8_t *data, size_t length);

/* Of the pseudo header: both addresses, the protocol, the length. */
uint64_t net_sum_pseudo(const struct net_address *from,
	const struct net_address *to, uint8_t protocol, size_t length);

/* Fold into 16 bits as they stand in memory, not complemented. */
uint16_t net_sum_fold(uint64_t sum);

/* Store the complement of the sum; the field was 0 while summed. */
void net_sum_store(uint8_t *field, uint64_t sum);

#endif
