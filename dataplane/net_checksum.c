/* net_checksum.c - the Internet checksum (RFC 1071) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <string.h>

#include "dataplane/net_checksum.h"
#include "dataplane/net_private.h"

uint64_t net_sum(uint64_t sum, const uint8_t *data, size_t length)
{
	uint32_t word;
	uint16_t half;

	/* 32-bit words into 64 bits: no carry is lost below 16 GiB. */
	while (length >= 16) {
		uint64_t pair[2];

		memcpy(pair, data, 16);
		sum += (pair[0] & UINT32_MAX) + (pair[0] >> 32);
		sum += (pair[1] & UINT32_MAX) + (pair[1] >> 32);
		data += 16;
		length -= 16;
	}
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
	size_t skip = net_is_ip4(to) ? 12 : 0;
	uint64_t sum = net_sum(0, from->bytes + skip, 16 - skip);
	uint8_t tail[8] = {0};

	net_put32(tail, (uint32_t)length);
	tail[7] = protocol;
	sum = net_sum(sum, to->bytes + skip, 16 - skip);
	return net_sum(sum, tail, sizeof(tail));
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
