/* unit_pool.c - equal pieces of one reserved mapping, by index */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#include "base/check.h"
#include "dataplane/unit_pool.h"

int unit_pool_init(struct unit_pool *p, uint32_t unit_bytes, uint32_t count)
{
	size_t bytes, total;
	void *memory;

	assert(unit_bytes % 8 == 0 && unit_bytes > 0 && count > 0);
	*p = (struct unit_pool){.unit_bytes = unit_bytes,
		.count = count,
		.free_head = UNIT_NONE};
	if (!mul_ok(unit_bytes, count, &bytes) ||
		!mul_ok(sizeof(*p->next), count, &total) ||
		!add_ok(total, bytes, &total))
		return -ENOMEM;
	memory = mmap(NULL, total, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	p->memory = memory;
	p->mapped_bytes = total;
	p->next = (uint32_t *)(void *)(p->memory + bytes);
	return 0;
}

void unit_pool_release(struct unit_pool *p)
{
	if (p->memory)
		munmap(p->memory, p->mapped_bytes);
	p->memory = NULL;
}

uint32_t unit_pool_get(struct unit_pool *p)
{
	uint32_t unit = p->free_head;

	if (unit != UNIT_NONE)
		p->free_head = p->next[unit];
	else if (p->fresh < p->count)
		unit = p->fresh++;
	else
		return UNIT_NONE;
	p->next[unit] = UNIT_NONE;
	p->used_count++;
	return unit;
}

void unit_pool_put(struct unit_pool *p, uint32_t unit)
{
	assert(unit < p->fresh && p->used_count > 0);
	p->next[unit] = p->free_head;
	p->free_head = unit;
	p->used_count--;
}
