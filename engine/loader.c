/* loader.c - a thread for what would hold up steps (job -> result) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/loader.h"

struct loader {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	struct wake *wake; /* borrowed */
	bool started, busy; /* the rank's thread alone */
	/* under the lock */
	bool waiting, ends;
	int (*run)(void *arg, struct error *err);
	void *arg;
	int rc;
	struct error err;
	bool done; /* read without the lock */
};

int loader_create(struct wake *wake, struct loader **out)
{
	struct loader *loader = calloc(1, sizeof(*loader));

	if (!loader)
		return -ENOMEM;
	if (pthread_mutex_init(&loader->lock, NULL)) {
		free(loader);
		return -ENOMEM;
	}
	if (pthread_cond_init(&loader->changed, NULL)) {
		pthread_mutex_destroy(&loader->lock);
		free(loader);
		return -ENOMEM;
	}
	loader->wake = wake;
	*out = loader;
	return 0;
}

void loader_destroy(struct loader *loader)
{
	if (!loader)
		return;
	if (loader->started) {
		pthread_mutex_lock(&loader->lock);
		loader->ends = true;
		pthread_cond_broadcast(&loader->changed);
		pthread_mutex_unlock(&loader->lock);
		pthread_join(loader->thread, NULL);
	}
	pthread_cond_destroy(&loader->changed);
	pthread_mutex_destroy(&loader->lock);
	free(loader);
}

static void *loader_main(void *arg)
{
	struct loader *loader = arg;

	pthread_mutex_lock(&loader->lock);
	while (loader->waiting || !loader->ends) {
		if (!loader->waiting) {
			pthread_cond_wait(&loader->changed, &loader->lock);
			continue;
		}
		loader->waiting = false;
		pthread_mutex_unlock(&loader->lock);
		loader->err = (struct error){0};
		loader->rc = loader->run(loader->arg, &loader->err);
		pthread_mutex_lock(&loader->lock);
		__atomic_store_n(&loader->done, true, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&loader->changed);
		wake_post(loader->wake);
	}
	pthread_mutex_unlock(&loader->lock);
	return NULL;
}

int loader_begin(struct loader *loader,
	int (*run)(void *arg, struct error *err), void *arg, struct error *err)
{
	assert(!loader->busy);
	if (!loader->started) {
		int rc = pthread_create(
			&loader->thread, NULL, loader_main, loader);

		if (rc)
			return error_set(err, rc, "no thread to load on: %s",
				strerror(rc));
		loader->started = true;
	}
	pthread_mutex_lock(&loader->lock);
	loader->run = run;
	loader->arg = arg;
	loader->waiting = true;
	__atomic_store_n(&loader->done, false, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&loader->changed);
	pthread_mutex_unlock(&loader->lock);
	loader->busy = true;
	return 0;
}

bool loader_is_busy(const struct loader *loader)
{
	return loader->busy;
}

bool loader_is_done(const struct loader *loader)
{
	/* Pairs with the release store of the loader's thread. */
	return loader->busy && __atomic_load_n(&loader->done, __ATOMIC_ACQUIRE);
}

int loader_end(struct loader *loader, struct error *err)
{
	int rc;

	assert(loader->busy);
	pthread_mutex_lock(&loader->lock);
	while (!loader->done)
		pthread_cond_wait(&loader->changed, &loader->lock);
	rc = loader->rc;
	pthread_mutex_unlock(&loader->lock);
	loader->busy = false;
	if (rc && err)
		*err = loader->err;
	return rc;
}
