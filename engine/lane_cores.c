/* lane_cores.c - where the lanes of a load run (cores of a rank -> a part) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lane_cores.h"

void cores_split(
	const cpu_set_t *all, uint32_t count, cpu_set_t *first, cpu_set_t *rest)
{
	uint32_t seen = 0;

	CPU_ZERO(first);
	CPU_ZERO(rest);
	for (size_t i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, all))
			CPU_SET(i, seen++ < count ? first : rest);
}

void lane_cores_init(struct lane_cores *cores, uint32_t compute_count)
{
	cpu_set_t compute;

	if (sched_getaffinity(0, sizeof(cores->all), &cores->all))
		CPU_ZERO(&cores->all);
	cores_split(&cores->all, compute_count, &compute, &cores->beside);
	if (compute_count == 0 || CPU_COUNT(&cores->beside) == 0)
		cores->beside = cores->all;
}

uint32_t lane_cores_count(const struct lane_cores *cores, uint32_t threads)
{
	uint32_t count = (uint32_t)CPU_COUNT(&cores->all);

	return CPU_EQUAL(&cores->all, &cores->beside) ? threads : count;
}

void lane_cores_keep(
	const struct lane_cores *cores, bool beside, enum lane_place *place)
{
	enum lane_place now = beside ? LANE_BESIDE : LANE_ALL;
	const cpu_set_t *set = beside ? &cores->beside : &cores->all;

	if (*place == now || CPU_COUNT(set) == 0)
		return;
	*place = now;
	/* A wish: without it only the time of a step is another. */
	(void)sched_setaffinity(0, sizeof(*set), set);
}
