/* role_cores.c - which cores a role keeps to (cores of the node -> a part) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "control/role_cores.h"

/* The cores first .. end - 1 of the set, counted ascending, into `out`. */
static void add_range(
	const cpu_set_t *all, uint32_t first, uint32_t end, cpu_set_t *out)
{
	uint32_t seen = 0;

	for (size_t core = 0; core < CPU_SETSIZE; core++) {
		if (!CPU_ISSET(core, all))
			continue;
		if (seen >= first && seen < end)
			CPU_SET(core, out);
		seen++;
	}
}

/* Where part `index` begins. */
static uint32_t part_begin(uint32_t total, uint32_t count, uint32_t index)
{
	return (uint32_t)(((uint64_t)index * total + count - 1) / count);
}

/* Of the dataplane's loops, those that run in one part. */
static uint32_t part_loops(const struct role_cores *cores)
{
	uint32_t parts = cores->rank_count ? cores->rank_count : 1;

	return cores->loop_count ? (cores->loop_count + parts - 1) / parts : 1;
}

uint32_t role_cores_compute(const struct role_cores *cores, uint32_t count)
{
	uint32_t threads = cores->thread_count, spare, loops;

	if (threads == 0 || threads >= count)
		return count;
	spare = count - threads;
	loops = part_loops(cores);
	if (loops > spare)
		loops = spare;
	return count - (loops > spare - spare / 2 ? loops : spare - spare / 2);
}

bool role_cores_rank(const cpu_set_t *all, const struct role_cores *cores,
	uint32_t index, cpu_set_t *out)
{
	uint32_t total = (uint32_t)CPU_COUNT(all);
	uint32_t count = cores->rank_count;

	assert(index < count);
	CPU_ZERO(out);
	if (total < count)
		return false;
	add_range(all, part_begin(total, count, index),
		part_begin(total, count, index + 1), out);
	return true;
}

bool role_cores_front(
	const cpu_set_t *all, const struct role_cores *cores, cpu_set_t *out)
{
	uint32_t total = (uint32_t)CPU_COUNT(all);
	uint32_t count = cores->rank_count;

	CPU_ZERO(out);
	if (total < count)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t begin = part_begin(total, count, i);
		uint32_t end = part_begin(total, count, i + 1);
		uint32_t own = role_cores_compute(cores, end - begin);

		add_range(all, begin + (own < end - begin ? own : 1), end, out);
	}
	return CPU_COUNT(out) > 0;
}

bool role_cores_apart(const cpu_set_t *all, const struct role_cores *cores)
{
	uint32_t total = (uint32_t)CPU_COUNT(all);
	uint32_t count = cores->rank_count, spare = 0;

	if (total < count)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t part = part_begin(total, count, i + 1) -
				part_begin(total, count, i);
		uint32_t own = role_cores_compute(cores, part);

		if (own == part)
			return false;
		spare += part - own;
	}
	return spare >= cores->loop_count;
}
