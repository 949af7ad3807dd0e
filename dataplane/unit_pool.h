/* unit_pool.h - equal pieces of one reserved mapping, by index */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        buffers of connections come from a bound set at start. Memory
 *             that was never used is reserved and not touched, so that the
 *             bound may be generous.
 * Invariants: used_count + those on the free list + those never used = count.
 * Ownership:  the mapping is the pool's; a unit is whoever's who got it. A
 *             unit that is out has a `next` of its owner's, for chains.
 * Threads:    one.
 */
#ifndef HEDDLE_DATAPLANE_UNIT_POOL_H
#define HEDDLE_DATAPLANE_UNIT_POOL_H

#include <stddef.h>
#include <stdint.h>

#define UNIT_NONE UINT32_MAX

struct unit_pool {
	uint8_t *memory; /* owned: units, then next[] */
	uint32_t *next;
	size_t mapped_bytes;
	uint32_t unit_bytes, count;
	uint32_t free_head, fresh, used_count;
};

/* -ENOMEM; unit_bytes a multiple of 8, count > 0. */
int unit_pool_init(struct unit_pool *p, uint32_t unit_bytes, uint32_t count);
void unit_pool_release(struct unit_pool *p);

/* UNIT_NONE when all are out; its next is UNIT_NONE. */
uint32_t unit_pool_get(struct unit_pool *p);
void unit_pool_put(struct unit_pool *p, uint32_t unit);

static inline uint32_t unit_pool_left(const struct unit_pool *p)
{
	return p->count - p->used_count;
}

static inline uint8_t *unit_pool_bytes(const struct unit_pool *p, uint32_t unit)
{
	return p->memory + (size_t)unit * p->unit_bytes;
}

#endif
