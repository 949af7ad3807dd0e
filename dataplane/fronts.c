/* fronts.c - the loops of the dataplane role, side by side (front.h x N) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/front_private.h"
#include "dataplane/fronts.h"

struct loop {
	struct segment view;
	struct front *front; /* owned */
	pthread_t thread; /* of all but the first */
	struct error err;
};

struct fronts {
	struct front_group group;
	struct loop loops[FRONT_COUNT_MAX];
};

/* --- shares ------------------------------------------------------------------- */

/* Part `index` of `all`; the first ones have what is left over. */
static uint32_t part(uint32_t all, uint32_t count, uint32_t index)
{
	return all / count + (index < all % count);
}

static void close_listeners(const struct front_setup *setup)
{
	for (uint32_t i = 0; i < setup->listener_count; i++)
		if (setup->listeners[i].fd >= 0)
			close(setup->listeners[i].fd);
}

/* The API's, each by a descriptor of its own: a loop closes what it has. */
static int copy_listeners(const struct front_setup *from,
	struct front_setup *setup, struct error *err)
{
	setup->listener_count = 0;
	for (uint32_t i = 0; i < from->listener_count; i++) {
		struct front_listener listener = from->listeners[i];

		if (listener.service == FRONT_ADMIN)
			continue;
		if (listener.fd >= 0)
			listener.fd = fcntl(listener.fd, F_DUPFD_CLOEXEC, 3);
		if (listener.fd < 0 && from->listeners[i].fd >= 0) {
			int rc = error_set(
				err, errno, "a listener: %s", strerror(errno));

			close_listeners(setup);
			return rc;
		}
		setup->listeners[setup->listener_count++] = listener;
	}
	return 0;
}

static int open_loop(struct fronts *fronts, const struct front_setup *all,
	uint32_t index, struct error *err)
{
	struct front_setup *setup = malloc(sizeof(*setup));
	struct loop *loop = &fronts->loops[index];
	uint32_t count = fronts->group.count;
	int rc = 0;

	if (!setup)
		return error_set(err, ENOMEM, "no memory for the dataplane");
	*setup = *all;
	setup->limits.connection_count =
		part(all->limits.connection_count, count, index);
	setup->text_worker_count = part(all->text_worker_count, count, index);
	if (setup->text_worker_count == 0)
		setup->text_worker_count = 1;
	if (index > 0)
		rc = copy_listeners(all, setup, err);
	if (rc == 0) {
		rc = front_create_in(
			&fronts->group, setup, &loop->view, &loop->front, err);
		if (rc && index > 0)
			close_listeners(setup);
	}
	free(setup);
	return rc;
}

/* --- life --------------------------------------------------------------------- */

int fronts_create(const struct front_setup *setup,
	const struct segment *segment, struct fronts **out, struct error *err)
{
	uint32_t count = segment->shape.front_count;
	struct fronts *fronts;
	int rc = 0;

	*out = NULL;
	if (setup->limits.connection_count < count)
		return error_set(err, EINVAL,
			"%u connections are too few for %u loops",
			setup->limits.connection_count, count);
	fronts = calloc(1, sizeof(*fronts));
	if (!fronts)
		return error_set(err, ENOMEM, "no memory for the dataplane");
	fronts->group.count = count;
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		fronts->group.open[i] = 1; /* until it drains and says */
		fronts->loops[i].view = segment_view(segment, i);
		rc = open_loop(fronts, setup, i, err);
		if (i == 0)
			fronts->group.first = fronts->loops[0].front;
	}
	if (rc) {
		fronts_destroy(fronts);
		return rc;
	}
	*out = fronts;
	return 0;
}

void fronts_destroy(struct fronts *fronts)
{
	if (!fronts)
		return;
	/* The first one owns what the others read. */
	for (uint32_t i = fronts->group.count; i-- > 0;)
		front_destroy(fronts->loops[i].front);
	free(fronts);
}

static void *run_loop(void *arg)
{
	struct loop *loop = arg;

	(void)front_run(loop->front, &loop->err);
	return NULL;
}

int fronts_run(struct fronts *fronts, struct error *err)
{
	uint32_t started = 1;
	int rc = 0;

	for (; rc == 0 && started < fronts->group.count; started++) {
		struct loop *loop = &fronts->loops[started];

		rc = pthread_create(&loop->thread, NULL, run_loop, loop);
		if (rc)
			break;
	}
	if (rc) {
		(void)error_set(err, rc, "a thread cannot start");
		fronts_stop(fronts);
		fronts_stop(fronts);
	} else {
		rc = front_run(fronts->loops[0].front, err);
	}
	for (uint32_t i = 1; i < started; i++)
		pthread_join(fronts->loops[i].thread, NULL);
	return rc > 0 ? -rc : rc;
}

/* --- what is said to all, or to the first ---------------------------------------- */

void fronts_stop(struct fronts *fronts)
{
	for (uint32_t i = 0; i < fronts->group.count; i++)
		front_stop(fronts->loops[i].front);
}

int fronts_reload(struct fronts *fronts, const struct front_setup *setup,
	struct error *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < fronts->group.count; i++)
		rc = front_reload(fronts->loops[i].front, setup, err);
	return rc;
}

void fronts_set_control(
	struct fronts *fronts, const struct front_control *control)
{
	front_set_control(fronts->loops[0].front, control);
}

void fronts_control_answer(
	struct fronts *fronts, uint64_t id, int status, const char *text)
{
	front_control_answer(fronts->loops[0].front, id, status, text);
}

int fronts_capture_start(struct fronts *fronts, int fd, uint64_t max_bytes,
	uint64_t serial, struct error *err)
{
	return front_capture_start(
		fronts->loops[0].front, fd, max_bytes, serial, err);
}

int fronts_capture_stop(struct fronts *fronts, struct error *err)
{
	return front_capture_stop(fronts->loops[0].front, err);
}
