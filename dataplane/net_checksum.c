/* net_checksum.c - the Internet checksum (RFC 1071) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <string.h>

#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"

/* What is carried out above comes in below: one's complement. */
static uint64_t add(uint64_t sum, uint64_t value)
{
	sum += value;
	return sum + (sum < value);
}

uint64_t net_sum(uint64_t sum, const uint8_t *data, size_t length)
{
	uint64_t second = 0;
	uint32_t word;
	uint16_t half;

	/* Two sums: neither waits for the other. */
	while (length >= 16) {
		uint64_t pair[2];

		memcpy(pair, data, 16);
		sum = add(sum, pair[0]);
		second = add(second, pair[1]);
		data += 16;
		length -= 16;
	}
	/* Then there is room for what follows, here and above. */
	sum = (sum & UINT32_MAX) + (sum >> 32) + (second & UINT32_MAX) +
	      (second >> 32);
	while (length >= 4) {
		memcpy(&word, data, 4);
		sum += word;
		data += 4;
		length -= 4;
	}
	if (length >= 2) {
		memcpy(&half, data, 2);
		sum += half;
		data += 2;
		length -= 2;
	}
	if (length > 0)
		sum += htobe16((uint16_t)(data[0] << 8));
	return sum;
}

uint64_t net_sum_pseudo(const struct net_address *from,
	const struct net_address *to, uint8_t protocol, size_t length)
{
	uint64_t sum = (uint64_t)htobe32((uint32_t)length) + htobe16(protocol);
	uint32_t words[2];

	if (net_is_ip4(to)) {
		memcpy(&words[0], from->bytes + 12, 4);
		memcpy(&words[1], to->bytes + 12, 4);
		return sum + words[0] + words[1];
	}
	sum = net_sum(sum, from->bytes, 16);
	return net_sum(sum, to->bytes, 16);
}

uint16_t net_sum_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

void net_sum_store(uint8_t *field, uint64_t sum)
{
	uint16_t value = (uint16_t)~net_sum_fold(sum);

	memcpy(field, &value, 2);
}
