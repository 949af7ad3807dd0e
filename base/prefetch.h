/* prefetch.h - ask for memory before it is looked at (address -> cache) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     with thousands of streams nearly all that an event touches has left
 *          the caches since the last one. What the events behind it need is
 *          asked for while it is worked on. Any address is allowed.
 * Threads: any.
 */
#ifndef HEDDLE_BASE_PREFETCH_H
#define HEDDLE_BASE_PREFETCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/* The lines of `size` bytes from `from` on, to be written. */
static inline void prefetch(const void *from, size_t size)
{
	/* Not a pointer: to add to one that is NULL means nothing. */
	uintptr_t at = (uintptr_t)from;

	for (size_t i = 0; i < size; i += CACHE_LINE_BYTES)
		__builtin_prefetch((const void *)(at + i), 1);
}

#endif
