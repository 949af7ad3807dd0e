/* workers.c - a small pool of threads that split an array of items */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "gpu/cpu/workers.h"

struct worker_thread {
	struct workers *pool; /* borrows: the pool outlives its threads */
	uint32_t index;
	pthread_t thread;
};

struct workers {
	uint32_t count;

	pthread_mutex_t mutex; /* guards all below, up to threads */
	pthread_cond_t start; /* round or stop has changed */
	pthread_cond_t finish; /* pending has become 0 */
	uint64_t round; /* counts runs, so that none is done twice */
	bool stop;
	uint32_t pending; /* threads that still work on this round */
	size_t item_count;
	workers_fn fn;
	const void *arg;

	struct worker_thread threads[]; /* owns; [count - 1], 1 .. count - 1 */
};

/* First item of worker `index`; that of `count` is item_count. */
static size_t range_first(size_t item_count, uint32_t count, uint32_t index)
{
	size_t extra = item_count % count;

	return item_count / count * index + (index < extra ? index : extra);
}

static void run_range(const struct workers *workers, uint32_t index)
{
	size_t first = range_first(workers->item_count, workers->count, index);
	size_t end =
		range_first(workers->item_count, workers->count, index + 1);

	workers->fn(workers->arg, first, end, index);
}

/*
 * A thread with an empty range may sleep through rounds: the caller does not
 * wait for it. One with a range cannot, so reading the round's fields outside
 * the mutex is safe: they change only when pending is 0.
 */
static void *thread_main(void *arg)
{
	const struct worker_thread *self = arg;
	struct workers *pool = self->pool;
	uint64_t seen = 0;

	pthread_mutex_lock(&pool->mutex);
	for (;;) {
		while (!pool->stop && pool->round == seen)
			pthread_cond_wait(&pool->start, &pool->mutex);
		if (pool->stop)
			break;
		seen = pool->round;
		if (self->index >= pool->item_count)
			continue;
		pthread_mutex_unlock(&pool->mutex);
		run_range(pool, self->index);
		pthread_mutex_lock(&pool->mutex);
		if (--pool->pending == 0)
			pthread_cond_signal(&pool->finish);
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

/* End the first `thread_count` threads and free the pool. */
static void stop_and_free(struct workers *workers, uint32_t thread_count)
{
	pthread_mutex_lock(&workers->mutex);
	assert(workers->pending == 0);
	workers->stop = true;
	pthread_cond_broadcast(&workers->start);
	pthread_mutex_unlock(&workers->mutex);
	for (uint32_t i = 0; i < thread_count; i++)
		pthread_join(workers->threads[i].thread, NULL);
	pthread_cond_destroy(&workers->finish);
	pthread_cond_destroy(&workers->start);
	pthread_mutex_destroy(&workers->mutex);
	free(workers);
}

int workers_create(uint32_t count, struct workers **out)
{
	struct workers *workers;

	assert(count >= 1 && count <= WORKER_COUNT_MAX);
	workers = calloc(1,
		sizeof(*workers) + (count - 1) * sizeof(workers->threads[0]));
	if (!workers)
		return -ENOMEM;
	workers->count = count;
	/* With default attributes these cannot fail on Linux. */
	pthread_mutex_init(&workers->mutex, NULL);
	pthread_cond_init(&workers->start, NULL);
	pthread_cond_init(&workers->finish, NULL);
	for (uint32_t i = 0; i < count - 1; i++) {
		struct worker_thread *self = &workers->threads[i];

		self->pool = workers;
		self->index = i + 1;
		if (pthread_create(&self->thread, NULL, thread_main, self)) {
			stop_and_free(workers, i);
			return -EAGAIN;
		}
	}
	*out = workers;
	return 0;
}

void workers_destroy(struct workers *workers)
{
	if (workers)
		stop_and_free(workers, workers->count - 1);
}

uint32_t workers_count(const struct workers *workers)
{
	return workers->count;
}

void workers_run(struct workers *workers, size_t item_count, workers_fn fn,
	const void *arg)
{
	uint32_t busy = workers->count;

	if (item_count == 0)
		return;
	if (busy == 1 || item_count == 1) {
		fn(arg, 0, item_count, 0);
		return;
	}
	if (item_count < busy)
		busy = (uint32_t)item_count;
	pthread_mutex_lock(&workers->mutex);
	assert(workers->pending == 0); /* a run within a run */
	workers->item_count = item_count;
	workers->fn = fn;
	workers->arg = arg;
	workers->pending = busy - 1;
	workers->round++;
	pthread_cond_broadcast(&workers->start);
	pthread_mutex_unlock(&workers->mutex);

	run_range(workers, 0);

	pthread_mutex_lock(&workers->mutex);
	while (workers->pending > 0)
		pthread_cond_wait(&workers->finish, &workers->mutex);
	workers->fn = NULL;
	workers->arg = NULL;
	pthread_mutex_unlock(&workers->mutex);
}
