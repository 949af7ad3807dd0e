/* governor.c - how fast a load may copy while requests run (steps -> waits) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/governor.h"

/* A stretch that another thread was put before is no measure of its own. */
#define BUSY_NS_MAX 100000000u

/* A sleep is some 60 us too long: less is not worth one. */
#define GATHER_NS 500000

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

void governor_busy(struct governor *governor)
{
	set_share(governor, GOVERNOR_SHARE_MIN);
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

uint64_t governor_owes(const struct governor *governor,
	struct governor_lane *lane, uint32_t lanes, uint64_t now_ns)
{
	uint64_t busy_ns = lane->since_ns ? now_ns - lane->since_ns : 0;
	uint64_t wait_ns = governor_wait_ns(governor, busy_ns);

	lane->since_ns = now_ns;
	if (wait_ns == 0) {
		lane->owed_ns = 0;
		return 0;
	}
	if (busy_ns > BUSY_NS_MAX)
		busy_ns = BUSY_NS_MAX;
	/* The other lanes' turns are waited for, too. */
	wait_ns = wait_ns * lanes + busy_ns * (lanes - 1);
	lane->owed_ns += (int64_t)wait_ns;
	return lane->owed_ns < GATHER_NS ? 0 : (uint64_t)lane->owed_ns;
}

void governor_slept(
	struct governor_lane *lane, uint64_t slept_ns, uint64_t now_ns)
{
	lane->owed_ns -= (int64_t)slept_ns;
	if (lane->owed_ns < -GATHER_NS)
		lane->owed_ns = -GATHER_NS;
	lane->since_ns = now_ns;
}
