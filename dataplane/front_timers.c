/* front_timers.c - deadlines of connections and requests (clock -> ends) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "dataplane/front_private.h"

void front_timers_init(struct front *front)
{
	for (int kind = 0; kind < FRONT_TIMER_COUNT; kind++) {
		struct front_timer *head = &front->timers[kind];

		head->prev = head->next = head;
	}
}

static uint64_t duration(const struct front *front, enum front_timer_kind kind)
{
	const struct front_limits *limits = &front->setup.limits;

	switch (kind) {
	case FRONT_TIMER_IDLE:
		return limits->idle_timeout_ns;
	case FRONT_TIMER_HEADER:
		return limits->header_timeout_ns;
	case FRONT_TIMER_BODY:
		return limits->body_timeout_ns;
	case FRONT_TIMER_PROBE:
		return FRONT_PROBE_NS;
	case FRONT_TIMER_STALL:
		return limits->stall_timeout_ns;
	default:
		return limits->request_timeout_ns;
	}
}

void front_timer_stop(struct front_timer *timer)
{
	if (!timer->next)
		return;
	timer->prev->next = timer->next;
	timer->next->prev = timer->prev;
	timer->prev = timer->next = NULL;
}

void front_timer_start(struct front *front, struct front_timer *timer,
	enum front_timer_kind kind)
{
	struct front_timer *head = &front->timers[kind];

	front_timer_stop(timer);
	timer->deadline_ns =
		mono_add((struct mono){front->now_ns}, duration(front, kind))
			.ns;
	timer->prev = head->prev;
	timer->next = head;
	head->prev->next = timer;
	head->prev = timer;
}

static void expire(
	struct front *front, enum front_timer_kind kind, uint32_t owner)
{
	struct connection *connection;

	if (kind == FRONT_TIMER_REQUEST) {
		exchange_timeout(front, &front->exchanges[owner]);
		return;
	}
	connection = &front->connections[owner];
	assert(connection->open);
	if (kind == FRONT_TIMER_STALL)
		connection_abort(front, connection);
	else if (kind == FRONT_TIMER_PROBE)
		connection_probe(front, connection);
	else if (kind == FRONT_TIMER_BODY &&
		 connection->receiving != FRONT_NONE)
		exchange_timeout(
			front, &front->exchanges[connection->receiving]);
	else
		connection_close(front, connection);
}

uint32_t front_timers_run(struct front *front)
{
	uint32_t count = 0;

	for (int kind = 0; kind < FRONT_TIMER_COUNT; kind++) {
		struct front_timer *head = &front->timers[kind];

		while (head->next != head &&
			head->next->deadline_ns <= front->now_ns) {
			struct front_timer *timer = head->next;

			front_timer_stop(timer);
			expire(front, (enum front_timer_kind)kind,
				timer->owner);
			count++;
		}
	}
	return count;
}

uint64_t front_timers_next(const struct front *front, uint64_t latest)
{
	for (int kind = 0; kind < FRONT_TIMER_COUNT; kind++) {
		const struct front_timer *head = &front->timers[kind];

		if (head->next != head && head->next->deadline_ns < latest)
			latest = head->next->deadline_ns;
	}
	return latest;
}
