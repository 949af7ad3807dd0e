/* node_threads.c - a node whose roles are threads (setup -> running roles) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/node_threads.h"
#include "dataplane/fronts.h"

struct rank_thread {
	struct node_threads *node;
	pthread_t thread;
	uint32_t rank;
	uint32_t stop; /* atomic */
	bool started;
	struct error err;
};

struct node_threads {
	const struct node_setup *setup; /* borrowed */
	struct segment segment;
	int segment_fd;
	struct fronts *fronts;
	pthread_t front_thread;
	bool front_started;
	struct error front_err;
	struct rank_thread ranks[RANK_COUNT_MAX];
};

static void *run_front(void *arg)
{
	struct node_threads *node = arg;

	(void)fronts_run(node->fronts, &node->front_err);
	return NULL;
}

static void *run_rank(void *arg)
{
	struct rank_thread *rank = arg;
	struct node_threads *node = rank->node;
	const struct engine_place place = {.segment = &node->segment,
		.rank = rank->rank,
		.stop = &rank->stop};

	(void)engine_null_run(&place, &node->setup->null, &rank->err);
	return NULL;
}

/* The dataplane owns the listeners that it is given: it gets copies. */
static int create_front(struct node_threads *node, struct error *err)
{
	struct front_setup *copy = malloc(sizeof(*copy));
	uint32_t count = node->setup->front.listener_count;
	int rc = 0;

	if (!copy)
		return error_set(err, ENOMEM, "out of memory");
	*copy = node->setup->front;
	for (uint32_t i = 0; i < count; i++) {
		/* The polled port's have none. */
		if (copy->listeners[i].fd < 0)
			continue;
		copy->listeners[i].fd =
			fcntl(copy->listeners[i].fd, F_DUPFD_CLOEXEC, 3);
		if (copy->listeners[i].fd < 0 && rc == 0)
			rc = error_set(
				err, errno, "a listener: %s", strerror(errno));
	}
	if (rc == 0)
		rc = fronts_create(copy, &node->segment, &node->fronts, err);
	free(copy);
	return rc;
}

static int start_ranks(struct node_threads *node, struct error *err)
{
	for (uint32_t i = 0; i < node->segment.shape.rank_count; i++) {
		struct rank_thread *rank = &node->ranks[i];
		int rc;

		rank->node = node;
		rank->rank = i;
		rc = pthread_create(&rank->thread, NULL, run_rank, rank);
		if (rc)
			return error_set(err, rc, "a thread: %s", strerror(rc));
		rank->started = true;
	}
	return 0;
}

static int start_front(struct node_threads *node, struct error *err)
{
	int rc = create_front(node, err);

	if (rc)
		return rc;
	rc = pthread_create(&node->front_thread, NULL, run_front, node);
	if (rc)
		return error_set(err, rc, "a thread: %s", strerror(rc));
	node->front_started = true;
	return 0;
}

static void wait_beat(const struct segment *segment, uint32_t role)
{
	const struct role_beat *beat = segment_beat(segment, role);

	while (__atomic_load_n(&beat->state, __ATOMIC_ACQUIRE) != BEAT_READY)
		usleep(1000);
}

static void wait_ready(const struct node_threads *node)
{
	const struct segment_shape *shape = &node->segment.shape;

	for (uint32_t i = 0; i < shape->rank_count; i++)
		wait_beat(&node->segment, ROLE_INDEX_RANK0 + i);
	for (uint32_t i = 0; i < shape->front_count; i++) {
		const struct segment view = segment_view(&node->segment, i);

		wait_beat(&view, ROLE_INDEX_FRONT);
	}
}

int node_threads_start(const struct node_setup *setup,
	struct node_threads **out, struct error *err)
{
	struct node_threads *node = calloc(1, sizeof(*node));
	struct error ignored = {0};
	int rc;

	*out = NULL;
	if (setup->cpu_count > 0) {
		free(node);
		return error_set(err, ENOTSUP,
			"a node of threads has null devices only");
	}
	if (!node)
		return error_set(err, ENOMEM, "out of memory");
	node->setup = setup;
	node->segment_fd = -1;
	rc = segment_create(
		&setup->shape, &node->segment, &node->segment_fd, err);
	if (rc == 0)
		rc = start_ranks(node, err);
	if (rc == 0)
		rc = start_front(node, err);
	if (rc) {
		(void)node_threads_stop(node, &ignored);
		return rc;
	}
	wait_ready(node);
	*out = node;
	return 0;
}

const struct segment *node_threads_segment(const struct node_threads *node)
{
	return &node->segment;
}

static void stop_rank(struct node_threads *node, struct rank_thread *rank)
{
	if (!rank->started)
		return;
	__atomic_store_n(&rank->stop, 1, __ATOMIC_RELEASE);
	wake_post(segment_wake(&node->segment, ROLE_INDEX_RANK0 + rank->rank));
	pthread_join(rank->thread, NULL);
}

int node_threads_stop(struct node_threads *node, struct error *err)
{
	int rc = 0;

	if (!node)
		return 0;
	if (node->front_started) {
		fronts_stop(node->fronts);
		pthread_join(node->front_thread, NULL);
	}
	for (uint32_t i = 0; i < RANK_COUNT_MAX; i++) {
		stop_rank(node, &node->ranks[i]);
		if (rc == 0 && error_is_set(&node->ranks[i].err))
			rc = error_set(err, -node->ranks[i].err.code, "%s",
				node->ranks[i].err.text);
	}
	if (rc == 0 && error_is_set(&node->front_err))
		rc = error_set(
			err, -node->front_err.code, "%s", node->front_err.text);
	fronts_destroy(node->fronts);
	segment_detach(&node->segment);
	if (node->segment_fd >= 0)
		close(node->segment_fd);
	free(node);
	return rc;
}
