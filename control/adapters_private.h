/* adapters_private.h - what the files of the registry share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  adapters.c keeps the names, the instances and what clients see of
 *        them; adapters_ops.c begins what operators ask for; adapters_turn.c
 *        goes on with it, by answers of ranks and by turns.
 * Threads: one.
 */
#ifndef HEDDLE_CONTROL_ADAPTERS_PRIVATE_H
#define HEDDLE_CONTROL_ADAPTERS_PRIVATE_H

#include "control/adapters.h"

struct adapters {
	struct adapter_table *table; /* borrowed */
	const struct segment *segment; /* borrowed */
	struct adapters_hooks hooks;
	uint32_t rank_count;
	bool up[RANK_COUNT_MAX];
	uint32_t serial; /* the last that was given */
	uint32_t last_number, last_name; /* given last: used again late */
	struct adapters_instance instances[INSTANCE_COUNT_MAX];
	struct adapters_name names[ADAPTER_ENTRY_COUNT_MAX];
	struct adapter_entry entries[ADAPTER_ENTRY_COUNT_MAX]; /* as set */
};

/* NULL for 0, which is no instance. */
struct adapters_instance *registry_instance(
	struct adapters *adapters, uint32_t number);

/*
 * The name as clients shall see it now: its current instance, or none. Returns
 * the version of the table.
 */
uint64_t registry_publish(struct adapters *adapters, uint32_t index);

/* From now on nothing new is bound to it; `version` is the table's. */
void registry_leave(struct adapters_instance *instance, uint64_t version);

/* To all ranks, with the next turn. */
void registry_send_loads(
	struct adapters *adapters, struct adapters_instance *instance);

/* It is on no rank; closes its files. */
void registry_free(
	struct adapters *adapters, struct adapters_instance *instance);

/* Tells everybody who waits; whoever hears of it may begin the next. */
void registry_end(struct adapters *adapters, uint32_t index);

#endif
