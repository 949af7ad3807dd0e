/* backend_fast.c - workers and memory of the AVX2 and AVX-512 back ends */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "gpu/cpu/backend_fast.h"

void *fast_scratch(struct fast_backend *fast, uint32_t worker, size_t bytes)
{
	assert(worker < fast->thread_count);
	assert(bytes <= fast->scratch_size_bytes);
	return fast->arena + fast->shared_size_bytes +
	       worker * fast->scratch_size_bytes;
}

void *fast_shared(struct fast_backend *fast, size_t bytes)
{
	assert(bytes <= fast->shared_size_bytes);
	return fast->arena;
}

static int arena_create(struct fast_backend *fast, const struct fast_need *need)
{
	size_t all;

	fast->shared_size_bytes = fast_room(0, need->shared, 1);
	fast->scratch_size_bytes = fast_room(0, need->scratch, 1);
	all = fast_room(fast->shared_size_bytes, fast->thread_count,
		fast->scratch_size_bytes);
	if (fast->shared_size_bytes == SIZE_MAX ||
		fast->scratch_size_bytes == SIZE_MAX || all == SIZE_MAX)
		return -ENOMEM;
	/* Not touched before it is used: it takes no memory until then. */
	fast->arena = aligned_alloc(
		CACHE_LINE_BYTES, all > 0 ? all : CACHE_LINE_BYTES);
	return fast->arena ? 0 : -ENOMEM;
}

int fast_backend_create(const struct ops_limits *limits,
	const struct fast_need *need, uint32_t thread_count,
	const uint32_t *cores, struct fast_backend **out)
{
	struct fast_backend *fast;
	int status;

	assert(thread_count >= 1 && thread_count <= WORKER_COUNT_MAX);
	fast = calloc(1, sizeof(*fast));
	if (!fast)
		return -ENOMEM;
	fast->limits = *limits;
	fast->thread_count = thread_count;
	status = arena_create(fast, need);
	if (status)
		goto err_free_fast;
	status = workers_create(thread_count, cores, &fast->workers);
	if (status)
		goto err_free_arena;
	*out = fast;
	return 0;

err_free_arena:
	free(fast->arena);
err_free_fast:
	free(fast);
	return status;
}

void fast_backend_destroy(struct fast_backend *fast)
{
	workers_destroy(fast->workers);
	free(fast->arena);
	free(fast);
}
