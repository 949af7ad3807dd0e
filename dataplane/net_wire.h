/* net_wire.h - numbers of Ethernet, IP and ICMP, and big-endian access */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_DATAPLANE_NET_WIRE_H
#define HEDDLE_DATAPLANE_NET_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ETHERNET_BYTES 14
#define VLAN_BYTES 4
#define IP4_BYTES 20
#define IP6_BYTES 40
#define ARP_BYTES 28
#define ICMP_BYTES 8
#define TCP_BYTES 20

enum net_ether_type {
	ETHER_IP4 = 0x0800,
	ETHER_ARP = 0x0806,
	ETHER_VLAN = 0x8100,
	ETHER_IP6 = 0x86dd
};

enum net_protocol {
	IP_HOP_BY_HOP = 0,
	IP_ICMP4 = 1,
	IP_TCP = 6,
	IP_UDP = 17,
	IP_ROUTING = 43,
	IP_FRAGMENT = 44,
	IP_ICMP6 = 58,
	IP_NONE = 59,
	IP_DESTINATION = 60
};

enum net_icmp_type {
	ICMP4_ECHO_REPLY = 0,
	ICMP4_UNREACHABLE = 3,
	ICMP4_QUENCH = 4,
	ICMP4_ECHO = 8,
	ICMP4_TIME_EXCEEDED = 11,
	ICMP4_PARAMETER = 12,
	ICMP6_UNREACHABLE = 1,
	ICMP6_TOO_BIG = 2,
	ICMP6_TIME_EXCEEDED = 3,
	ICMP6_PARAMETER = 4,
	ICMP6_ECHO = 128,
	ICMP6_ECHO_REPLY = 129,
	ICMP6_QUERY = 130, /* MLD, versions 1 and 2 */
	ICMP6_SOLICIT = 135,
	ICMP6_ADVERTISE = 136,
	ICMP6_REPORT = 143
};

static inline uint16_t net_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t net_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

static inline void net_put16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline void net_put32(uint8_t *p, uint32_t value)
{
	net_put16(p, value >> 16);
	net_put16(p + 2, value);
}

#endif
