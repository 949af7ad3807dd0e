/* compute.c - the thread that runs steps (step -> results) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/compute.h"
#include "engine/lane_cores.h"

enum task { TASK_NONE, TASK_RUN, TASK_QUIT };

struct compute {
	struct compute_config config;
	struct model *model; /* borrowed */
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	enum task task;
	struct step *step; /* borrowed while it runs */
	bool opened; /* back end and forward pass are there, or failed */
	int rc;
	uint64_t took_ns;
	struct error err;
	uint32_t done; /* atomic: the step has run */
	/* the thread's own */
	struct ops ops;
	struct forward *forward;
};

/* Before the back end's threads are there: they inherit it. */
static void keep_to_first(uint32_t core_count)
{
	cpu_set_t all, first, rest;

	if (core_count == 0 || sched_getaffinity(0, sizeof(all), &all) ||
		(uint32_t)CPU_COUNT(&all) <= core_count)
		return;
	cores_split(&all, core_count, &first, &rest);
	/* A wish: without it only the time of a step is another. */
	(void)sched_setaffinity(0, sizeof(first), &first);
}

/*
 * A thread for each processor that there is gets one for itself. Else two that
 * woke at the same time may share one for many steps while another idles.
 * Fewer threads have room, in which the kernel places them.
 */
static const uint32_t *choose_cores(uint32_t count, uint32_t *cores)
{
	uint32_t found = 0;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) ||
		(uint32_t)CPU_COUNT(&set) != count)
		return NULL;
	for (uint32_t i = 0; found < count; i++)
		if (CPU_ISSET(i, &set))
			cores[found++] = i;
	return cores;
}

static int open_back_end(struct compute *c)
{
	uint32_t cores[CPU_SETSIZE];
	struct ops_limits limits;
	int rc;

	keep_to_first(c->config.core_count);
	forward_ops_limits(&c->model->config, &c->config.capacity, &limits);
	rc = ops_create_cpu(c->config.isa, &limits, c->config.thread_count,
		choose_cores(c->config.thread_count, cores), &c->ops);
	if (rc)
		return error_set(&c->err, -rc,
			"starting %u compute threads failed: %s",
			c->config.thread_count, strerror(-rc));
	return forward_create(
		c->model, &c->ops, &c->config.capacity, &c->forward, &c->err);
}

static void close_back_end(struct compute *c)
{
	forward_destroy(c->forward);
	if (c->ops.table)
		c->ops.table->destroy(&c->ops);
}

/* Under the lock, which is let go of and taken again. */
static void run_step(struct compute *c)
{
	struct mono begin;
	struct step *step = c->step;
	int rc;

	pthread_mutex_unlock(&c->lock);
	begin = mono_now();
	rc = forward_run(c->forward, step, &c->err);
	pthread_mutex_lock(&c->lock);
	c->rc = rc;
	c->took_ns = mono_diff(mono_now(), begin);
	c->task = TASK_NONE;
	__atomic_store_n(&c->done, 1, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	/* Without the lock: whoever wakes up now may want it. */
	if (!c->config.ended || !c->config.ended(c->config.arg))
		wake_post(c->config.wake);
	pthread_mutex_lock(&c->lock);
}

static void *thread_main(void *arg)
{
	struct compute *c = arg;
	int rc = open_back_end(c);

	pthread_mutex_lock(&c->lock);
	c->rc = rc;
	c->opened = true;
	pthread_cond_broadcast(&c->changed);
	while (c->task != TASK_QUIT)
		if (c->task == TASK_RUN)
			run_step(c);
		else
			pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
	close_back_end(c);
	return NULL;
}

int compute_create(struct model *model, const struct compute_config *config,
	struct compute **out, struct error *err)
{
	struct compute *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return error_set(err, ENOMEM, "no memory for a thread");
	c->config = *config;
	c->model = model;
	/* With these attributes neither can fail on Linux. */
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	rc = pthread_create(&c->thread, NULL, thread_main, c);
	if (rc) {
		free(c);
		return error_set(
			err, rc, "cannot start a thread: %s", strerror(rc));
	}
	pthread_mutex_lock(&c->lock);
	while (!c->opened)
		pthread_cond_wait(&c->changed, &c->lock);
	rc = c->rc;
	pthread_mutex_unlock(&c->lock);
	if (rc) {
		if (err)
			*err = c->err;
		compute_destroy(c);
		return rc;
	}
	*out = c;
	return 0;
}

static void set_task(struct compute *c, enum task task)
{
	while (c->task != TASK_NONE)
		pthread_cond_wait(&c->changed, &c->lock);
	c->task = task;
	pthread_cond_broadcast(&c->changed);
}

void compute_destroy(struct compute *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	set_task(c, TASK_QUIT);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void compute_begin(struct compute *c, struct step *step)
{
	pthread_mutex_lock(&c->lock);
	assert(c->task == TASK_NONE);
	c->step = step;
	__atomic_store_n(&c->done, 0, __ATOMIC_RELAXED);
	set_task(c, TASK_RUN);
	pthread_mutex_unlock(&c->lock);
}

bool compute_is_done(const struct compute *c)
{
	/* Pairs with the release in run_step(): the results are there. */
	return __atomic_load_n(&c->done, __ATOMIC_ACQUIRE) != 0;
}

const uint32_t *compute_done_word(const struct compute *c)
{
	return &c->done;
}

int compute_end(struct compute *c, uint64_t *out_ns, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->lock);
	while (c->task == TASK_RUN)
		pthread_cond_wait(&c->changed, &c->lock);
	rc = c->rc;
	*out_ns = c->took_ns;
	if (rc && err)
		*err = c->err;
	__atomic_store_n(&c->done, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&c->lock);
	return rc;
}
