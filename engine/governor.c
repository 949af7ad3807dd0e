/* governor.c - how fast a load may copy while requests run (steps -> waits) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/governor.h"

/* A stretch that another thread was put before is no measure of its own. */
#define BUSY_NS_MAX 100000000u

static void set_share(struct governor *governor, uint32_t share)
{
	if (share < GOVERNOR_SHARE_MIN)
		share = GOVERNOR_SHARE_MIN;
	if (share > GOVERNOR_WHOLE)
		share = GOVERNOR_WHOLE;
	__atomic_store_n(&governor->share, share, __ATOMIC_RELAXED);
}

void governor_idle(struct governor *governor)
{
	set_share(governor, GOVERNOR_WHOLE);
}

void governor_step(
	struct governor *governor, uint64_t took_ns, uint64_t quiet_ns)
{
	uint32_t share = governor->share;

	if (took_ns / GOVERNOR_SLOW >= quiet_ns / GOVERNOR_WHOLE)
		set_share(governor, share - share / 4);
	else
		set_share(governor, share + GOVERNOR_RISE);
}

uint64_t governor_wait_ns(const struct governor *governor, uint64_t busy_ns)
{
	uint32_t share = __atomic_load_n(&governor->share, __ATOMIC_RELAXED);

	if (share >= GOVERNOR_WHOLE)
		return 0;
	if (share < GOVERNOR_SHARE_MIN)
		share = GOVERNOR_SHARE_MIN;
	if (busy_ns > BUSY_NS_MAX)
		busy_ns = BUSY_NS_MAX;
	return busy_ns * (GOVERNOR_WHOLE - share) / share;
}
