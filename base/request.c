/* request.c - the slot in which one request lives, shared by three roles */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/request.h"

#define EDGE(to) (1u << (to))

/* Bit t of entry s: the edge s -> t exists. */
static const uint8_t front_edges[FRONT_STATE_COUNT] = {
	[FRONT_FREE] = EDGE(FRONT_PARSING),
	[FRONT_PARSING] = EDGE(FRONT_SUBMITTED) | EDGE(FRONT_CLOSED),
	[FRONT_SUBMITTED] = EDGE(FRONT_STREAMING) | EDGE(FRONT_CLOSED),
	[FRONT_STREAMING] = EDGE(FRONT_CLOSED),
	[FRONT_CLOSED] = EDGE(FRONT_FREE),
};

static const uint8_t engine_edges[ENGINE_STATE_COUNT] = {
	[ENGINE_IDLE] = EDGE(ENGINE_QUEUED),
	[ENGINE_QUEUED] = EDGE(ENGINE_RUNNING) | EDGE(ENGINE_FINISHED) |
			  EDGE(ENGINE_FAILED),
	[ENGINE_RUNNING] = EDGE(ENGINE_PREEMPTED) | EDGE(ENGINE_FINISHED) |
			   EDGE(ENGINE_FAILED),
	[ENGINE_PREEMPTED] = EDGE(ENGINE_RUNNING) | EDGE(ENGINE_FINISHED) |
			     EDGE(ENGINE_FAILED),
	[ENGINE_FINISHED] = EDGE(ENGINE_IDLE),
	[ENGINE_FAILED] = EDGE(ENGINE_IDLE),
};

static const char *const front_names[FRONT_STATE_COUNT] = {
	"FREE",
	"PARSING",
	"SUBMITTED",
	"STREAMING",
	"CLOSED",
};

static const char *const engine_names[ENGINE_STATE_COUNT] = {
	"IDLE",
	"QUEUED",
	"RUNNING",
	"PREEMPTED",
	"FINISHED",
	"FAILED",
};

const char *front_state_name(enum front_state state)
{
	assert((unsigned)state < FRONT_STATE_COUNT);
	return front_names[state];
}

const char *engine_state_name(enum engine_state state)
{
	assert((unsigned)state < ENGINE_STATE_COUNT);
	return engine_names[state];
}

bool front_edge_ok(enum front_state from, enum front_state to)
{
	assert((unsigned)from < FRONT_STATE_COUNT);
	assert((unsigned)to < FRONT_STATE_COUNT);
	return front_edges[from] & EDGE(to);
}

bool engine_edge_ok(enum engine_state from, enum engine_state to)
{
	assert((unsigned)from < ENGINE_STATE_COUNT);
	assert((unsigned)to < ENGINE_STATE_COUNT);
	return engine_edges[from] & EDGE(to);
}

void front_set_state(
	struct request_slot *slot, enum front_state *own, enum front_state to)
{
	assert(front_edge_ok(*own, to));
	*own = to;
	/* Pairs with the acquire load in front_state_read(). */
	__atomic_store_n(&slot->front_state, (uint32_t)to, __ATOMIC_RELEASE);
}

void engine_set_state(
	struct request_slot *slot, enum engine_state *own, enum engine_state to)
{
	assert(engine_edge_ok(*own, to));
	*own = to;
	/* Pairs with the acquire load in engine_state_read(). */
	__atomic_store_n(&slot->engine_state, (uint32_t)to, __ATOMIC_RELEASE);
}

bool front_state_read(const struct request_slot *slot, enum front_state *out)
{
	uint32_t value = __atomic_load_n(&slot->front_state, __ATOMIC_ACQUIRE);

	if (value >= FRONT_STATE_COUNT)
		return false;
	*out = (enum front_state)value;
	return true;
}

bool engine_state_read(const struct request_slot *slot, enum engine_state *out)
{
	uint32_t value = __atomic_load_n(&slot->engine_state, __ATOMIC_ACQUIRE);

	if (value >= ENGINE_STATE_COUNT)
		return false;
	*out = (enum engine_state)value;
	return true;
}
