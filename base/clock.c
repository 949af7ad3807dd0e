/* clock.c - monotonic time as a type of its own */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <time.h>

#include "base/clock.h"

struct mono mono_now(void)
{
	struct timespec now;
	int rc = clock_gettime(CLOCK_MONOTONIC, &now);

	assert(rc == 0);
	return (struct mono){
		(uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec};
}

struct mono mono_add(struct mono from, uint64_t ns)
{
	uint64_t sum;

	if (__builtin_add_overflow(from.ns, ns, &sum))
		sum = UINT64_MAX;
	return (struct mono){sum};
}

uint64_t mono_diff(struct mono later, struct mono earlier)
{
	return later.ns > earlier.ns ? later.ns - earlier.ns : 0;
}
