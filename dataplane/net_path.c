/* net_path.c - how large a packet gets through (RFC 1191, RFC 8201) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/net_private.h"

#define PATH_NS (600 * NS_PER_S)
/* What a forged message can push a path down to. */
#define PATH4_MTU_MIN 552
#define PATH6_MTU_MIN 1280

static uint32_t place(const struct net_stack *n, const struct net_address *to)
{
	return (uint32_t)siphash_1_3(&n->table_key, to->bytes, 16) %
	       NET_PATH_COUNT;
}

uint32_t net_path_mtu(const struct net_stack *n, const struct net_address *to)
{
	const struct net_path *path = &n->paths[place(n, to)];

	if (n->now.ns < path->until_ns && net_same(&path->address, to))
		return path->mtu_bytes;
	return n->config.mtu_bytes;
}

void net_path_learn(
	struct net_stack *n, const struct net_address *to, uint32_t mtu_bytes)
{
	uint32_t least = net_is_ip4(to) ? PATH4_MTU_MIN : PATH6_MTU_MIN;

	if (mtu_bytes < least)
		mtu_bytes = least;
	if (mtu_bytes >= net_path_mtu(n, to))
		return;
	n->paths[place(n, to)] =
		(struct net_path){*to, n->now.ns + PATH_NS, mtu_bytes};
}
