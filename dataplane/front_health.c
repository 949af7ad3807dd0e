/* front_health.c - is work getting done? (beats of roles -> /health) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idle is green. Red is a rank whose sign of life is old, or one that has
 * work and does none of it.
 */
#include <unistd.h>

#include "dataplane/front_private.h"

static const char *const state_names[BEAT_STATE_COUNT] = {
	"absent", "starting", "ready", "draining", "dead"};

/* A word of another process's beat, whole. */
static uint64_t word(const uint64_t *from)
{
	return __atomic_load_n(from, __ATOMIC_RELAXED);
}

static uint32_t state_of(const struct role_beat *beat)
{
	uint32_t state = __atomic_load_n(&beat->state, __ATOMIC_ACQUIRE);

	return state < BEAT_STATE_COUNT ? state : (uint32_t)BEAT_DEAD;
}

void front_rank_look(struct front *front, uint32_t index)
{
	const struct role_beat *beat =
		segment_beat(front->segment, ROLE_INDEX_RANK0 + index);
	struct front_rank *rank = &front->ranks[index];
	uint64_t progress = word(&beat->progress),
		 beaten = word(&beat->beat_ns);
	bool fresh = beaten + FRONT_STANDSTILL_NS > front->now_ns;
	bool moves;

	if (progress != rank->progress || word(&beat->pending) == 0) {
		rank->progress = progress;
		rank->progress_ns = front->now_ns;
	}
	moves = front->now_ns - rank->progress_ns < FRONT_STANDSTILL_NS;
	rank->life = __atomic_load_n(&beat->life, __ATOMIC_RELAXED);
	rank->ready = state_of(beat) == BEAT_READY && fresh;
	rank->healthy = rank->ready && moves;
}

void front_beat(struct front *front, enum beat_state state)
{
	struct role_beat *beat = front->beat;

	if (state == BEAT_READY && front->draining)
		state = BEAT_DRAINING;
	for (uint32_t i = 0; i < front->segment->shape.rank_count; i++)
		front_rank_look(front, i);
	counter_set(&front->counters->slots_used, front->slot_used);
	counter_set(&front->counters->pages_used, front->page_used);
	__atomic_store_n(&beat->pid, (uint32_t)getpid(), __ATOMIC_RELAXED);
	__atomic_store_n(&beat->pending, front->slot_used, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->progress, front->turn_count, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->beat_ns, front->now_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->state, (uint32_t)state, __ATOMIC_RELEASE);
	front->beat_ns = front->now_ns;
}

bool front_is_ready(struct front *front)
{
	return !front->draining &&
	       front_rank_choose(front, UINT32_MAX) != FRONT_NONE;
}

bool front_is_healthy(const struct front *front)
{
	for (uint32_t i = 0; i < front->segment->shape.rank_count; i++)
		if (!front->ranks[i].healthy)
			return false;
	return true;
}

void front_health_write(const struct front *front, struct api_text *out)
{
	api_text_printf(out, "{\"status\":\"%s\",\"ranks\":[",
		front_is_healthy(front) ? "ok" : "unhealthy");
	for (uint32_t i = 0; i < front->segment->shape.rank_count; i++) {
		const struct role_beat *beat =
			segment_beat(front->segment, ROLE_INDEX_RANK0 + i);

		api_text_printf(out,
			"%s{\"rank\":%u,\"state\":\"%s\",\"healthy\":%s}",
			i > 0 ? "," : "", i, state_names[state_of(beat)],
			front->ranks[i].healthy ? "true" : "false");
	}
	api_text_puts(out, "]}");
}
