/* adapters.c - which adapters there are, and what clients see (control) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/adapters_private.h"

/* --- life --------------------------------------------------------------------------- */

int adapters_create(const struct segment *segment,
	const struct adapters_hooks *hooks, struct adapters **out)
{
	struct adapters *adapters = calloc(1, sizeof(*adapters));

	if (!adapters)
		return -ENOMEM;
	adapters->segment = segment;
	adapters->table = segment_adapter_table(segment);
	adapters->hooks = *hooks;
	adapters->rank_count = segment->shape.rank_count;
	*out = adapters;
	return 0;
}

void adapters_destroy(struct adapters *adapters)
{
	if (!adapters)
		return;
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++)
		if (adapters->instances[i].phase != ADAPTERS_NONE)
			adapter_files_close(&adapters->instances[i].files);
	free(adapters);
}

/* --- looking ------------------------------------------------------------------------ */

const struct adapters_name *adapters_name(
	const struct adapters *adapters, uint32_t index)
{
	return index > 0 && index < ADAPTER_ENTRY_COUNT_MAX &&
			       adapters->names[index].used
		       ? &adapters->names[index]
		       : NULL;
}

uint32_t adapters_find(const struct adapters *adapters, const char *name)
{
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++)
		if (adapters->names[i].used &&
			strcmp(adapters->names[i].name, name) == 0)
			return i;
	return 0;
}

const struct adapters_instance *adapters_instance(
	const struct adapters *adapters, uint32_t number)
{
	return number > 0 && number < INSTANCE_COUNT_MAX &&
			       adapters->instances[number].phase !=
				       ADAPTERS_NONE
		       ? &adapters->instances[number]
		       : NULL;
}

const char *adapters_op_name(enum adapters_op op)
{
	static const char *const names[] = {
		[ADAPTERS_IDLE] = "idle",
		[ADAPTERS_LOAD] = "load",
		[ADAPTERS_UNLOAD] = "unload",
		[ADAPTERS_REPLACE] = "replace",
		[ADAPTERS_DRAIN_REPLACE] = "replace",
	};

	return names[op];
}

struct adapters_instance *registry_instance(
	struct adapters *adapters, uint32_t number)
{
	return number ? &adapters->instances[number] : NULL;
}

/* --- the table ------------------------------------------------------------------------ */

static uint64_t set_entry(struct adapters *adapters, uint32_t index,
	const struct adapter_entry *entry)
{
	if (memcmp(&adapters->entries[index], entry, sizeof(*entry)) == 0)
		return adapter_table_version(adapters->table);
	adapters->entries[index] = *entry;
	return adapter_table_set(adapters->table, index, entry);
}

static uint32_t resident_mask(
	const struct adapters *adapters, const struct adapters_instance *live)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; i < adapters->rank_count; i++)
		if (live->parts[i].resident)
			mask |= UINT32_C(1) << i;
	return mask;
}

/* The name as clients shall see it now: its current instance, or none. */
uint64_t registry_publish(struct adapters *adapters, uint32_t index)
{
	const struct adapters_name *name = &adapters->names[index];
	const struct adapters_instance *live =
		adapters_instance(adapters, name->current);
	struct adapter_entry entry = {0};

	if (name->op == ADAPTERS_UNLOAD || !live ||
		(live->phase != ADAPTERS_LIVE &&
			name->op != ADAPTERS_DRAIN_REPLACE))
		return set_entry(adapters, index, &entry);
	entry.instance = live->number;
	entry.serial = live->serial;
	entry.weight = name->weight;
	entry.created_s = name->created_s;
	memcpy(entry.name, name->name, sizeof(entry.name));
	if (live->phase == ADAPTERS_LIVE)
		entry.rank_mask = resident_mask(adapters, live);
	return set_entry(adapters, index, &entry);
}

/* --- instances ---------------------------------------------------------------------------- */

void registry_send_loads(
	struct adapters *adapters, struct adapters_instance *instance)
{
	instance->phase = ADAPTERS_LOADING;
	for (uint32_t i = 0; i < adapters->rank_count; i++)
		instance->parts[i].load_due = true;
}

/* From now on nothing new is bound to it. */
void registry_leave(struct adapters_instance *instance, uint64_t version)
{
	assert(instance->phase == ADAPTERS_LIVE);
	instance->phase = ADAPTERS_LEAVING;
	instance->leave_version = version;
	instance->leave_ns = mono_now().ns;
}

void registry_free(
	struct adapters *adapters, struct adapters_instance *instance)
{
	struct adapters_name *name = &adapters->names[instance->name];

	if (name->current == instance->number)
		name->current = 0;
	if (name->other == instance->number)
		name->other = 0;
	name->page_count += instance->page_count;
	name->page_bytes += instance->page_bytes;
	adapter_files_close(&instance->files);
	instance->phase = ADAPTERS_NONE;
}

/* --- the end of an operation ------------------------------------------------------------ */

void registry_end(struct adapters *adapters, uint32_t index)
{
	struct adapters_name *name = &adapters->names[index];
	const struct adapters_instance *live =
		adapters_instance(adapters, name->current);
	struct adapters_result result = {.err = name->err,
		.op = name->op,
		.page_count = name->page_count,
		.page_bytes = name->page_bytes};
	uint64_t tickets[ADAPTERS_TICKET_COUNT_MAX];
	uint32_t count = name->ticket_count;

	memcpy(result.name, name->name, sizeof(result.name));
	if (live) {
		result.instance = live->number;
		result.serial = live->serial;
		result.load_ns = live->live_ns - live->begun_ns;
	}
	/* Whoever hears of it may begin the next. */
	memcpy(tickets, name->tickets, sizeof(tickets));
	name->op = ADAPTERS_IDLE;
	name->ticket_count = 0;
	error_clear(&name->err);
	if (!name->current && !name->other)
		name->used = false;
	for (uint32_t i = 0; i < count; i++)
		adapters->hooks.ended(adapters->hooks.arg, tickets[i], &result);
}
