/* adapters_turn.c - what becomes of adapters (answers of ranks, turns) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/adapters_private.h"

/* --- ranks ------------------------------------------------------------------------------------ */

static void part_died(
	struct adapters_instance *instance, uint32_t rank, bool resumes)
{
	struct adapters_part *part = &instance->parts[rank];
	bool had = part->resident;

	*part = (struct adapters_part){0};
	if (instance->phase == ADAPTERS_LOADING ||
		instance->phase == ADAPTERS_LIVE)
		part->load_due = true;
	else if (instance->phase >= ADAPTERS_LEAVING && had && resumes)
		part->load_due = part->must_load = true;
}

void adapters_rank_died(struct adapters *adapters, uint32_t rank, bool resumes)
{
	adapters->up[rank] = false;
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++)
		if (adapters->instances[i].phase != ADAPTERS_NONE)
			part_died(&adapters->instances[i], rank, resumes);
	adapters_turn(adapters);
}

uint32_t adapters_rank_starts(struct adapters *adapters, uint32_t rank)
{
	uint32_t count = 0;

	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		struct adapters_part *part =
			&adapters->instances[i].parts[rank];

		if (adapters->instances[i].phase == ADAPTERS_NONE ||
			!part->load_due)
			continue;
		part->must_load = true;
		count++;
	}
	return count;
}

void adapters_rank_up(struct adapters *adapters, uint32_t rank, bool up)
{
	adapters->up[rank] = up;
	if (up)
		adapters_turn(adapters);
}

bool adapters_rank_loads(const struct adapters *adapters, uint32_t rank)
{
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++)
		if (adapters->instances[i].phase != ADAPTERS_NONE &&
			adapters->instances[i].parts[rank].must_load)
			return true;
	return false;
}

/* --- answers ----------------------------------------------------------------------------------- */

static void on_load(struct adapters *adapters,
	struct adapters_instance *instance, uint32_t rank,
	const struct engine_answer *answer)
{
	struct adapters_part *part = &instance->parts[rank];

	part->load_open = part->must_load = false;
	part->resident = answer->rc == 0;
	if (answer->rc == 0 || instance->phase >= ADAPTERS_LEAVING)
		return;
	error_set(&instance->err, -answer->rc, "%s",
		answer->err.text[0] ? answer->err.text : strerror(-answer->rc));
	if (adapters->rank_count > 1)
		error_prefix(&instance->err, "rank %u", rank);
	if (instance->phase == ADAPTERS_LOADING)
		instance->phase = ADAPTERS_DROPPING;
	else
		log_error("adapter \"%s\" is not on rank %u any more: %s",
			adapters->names[instance->name].name, rank,
			instance->err.text);
}

static void on_drop(struct adapters *adapters,
	struct adapters_instance *instance, uint32_t rank)
{
	struct adapters_part *part = &instance->parts[rank];
	struct adapter_book book;

	part->drops_open--;
	if (part->drops_open == 0)
		part->resident = false;
	if (adapter_book_read(segment_rank_books(adapters->segment, rank),
		    instance->number, instance->serial, &book) &&
		book.state != ADAPTER_ABSENT)
		log_error("rank %u says that instance %u is dropped, and books "
			  "%llu bytes for it",
			rank, instance->number,
			(unsigned long long)book.page_bytes);
	else
		return;
	error_set(&adapters->names[instance->name].err, EIO,
		"rank %u did not give its memory back", rank);
}

void adapters_answered(struct adapters *adapters, uint32_t rank,
	const struct engine_answer *answer)
{
	struct adapters_instance *instance;
	struct adapters_part *part;

	if (answer->instance < 1 || answer->instance >= INSTANCE_COUNT_MAX ||
		rank >= adapters->rank_count)
		return;
	instance = &adapters->instances[answer->instance];
	part = &instance->parts[rank];
	if (instance->phase == ADAPTERS_NONE ||
		instance->serial != answer->serial)
		return;
	if (answer->kind == ENGINE_ADAPTER_LOAD && part->load_open)
		on_load(adapters, instance, rank, answer);
	else if (answer->kind == ENGINE_ADAPTER_DROP && part->drops_open > 0)
		on_drop(adapters, instance, rank);
	adapters_turn(adapters);
}

/* --- the turn ------------------------------------------------------------------------------------ */

static bool part_is_empty(const struct adapters_part *part)
{
	return !part->load_due && !part->load_open && !part->resident &&
	       !part->drop_due && part->drops_open == 0;
}

static bool all_resident(const struct adapters *adapters,
	const struct adapters_instance *instance)
{
	for (uint32_t i = 0; i < adapters->rank_count; i++)
		if (!instance->parts[i].resident)
			return false;
	return true;
}

/* What a DROP will give back, as the rank books it now. */
static void count_pages(
	struct adapters *adapters, struct adapters_instance *instance)
{
	instance->page_count = instance->page_bytes = 0;
	for (uint32_t i = 0; i < adapters->rank_count; i++) {
		const struct rank_books *books =
			segment_rank_books(adapters->segment, i);
		uint64_t size = __atomic_load_n(
			&books->page_size_bytes, __ATOMIC_RELAXED);
		struct adapter_book book;

		if (!adapter_book_read(
			    books, instance->number, instance->serial, &book))
			continue;
		instance->page_bytes += book.page_bytes;
		instance->page_count += size ? book.page_bytes / size : 0;
	}
}

/* What is due on a rank of an instance that goes. */
static void drop_part(
	const struct adapters_instance *instance, struct adapters_part *part)
{
	if (part->load_due && !part->must_load)
		part->load_due = false;
	/* A load that failed before the DROP could be sent left nothing. */
	part->drop_due = false;
	if (part->load_due || !(part->load_open || part->resident))
		return;
	if (!part->dropped || (instance->now && !part->dropped_now))
		part->drop_due = true;
}

static void go_on_dropping(
	struct adapters *adapters, struct adapters_instance *instance)
{
	bool gone = true;

	for (uint32_t i = 0; i < adapters->rank_count; i++) {
		drop_part(instance, &instance->parts[i]);
		gone = gone && part_is_empty(&instance->parts[i]);
	}
	if (!gone)
		return;
	if (error_is_set(&instance->err))
		error_set(&adapters->names[instance->name].err,
			-instance->err.code, "%s", instance->err.text);
	registry_free(adapters, instance);
}

/* What every front has seen. */
static uint64_t seen_by_all(const struct adapters *adapters)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < adapters->segment->shape.front_count; i++) {
		uint64_t seen = __atomic_load_n(
			&adapters->table->seen[i], __ATOMIC_ACQUIRE);

		least = seen < least ? seen : least;
	}
	return least;
}

static void go_on_instance(
	struct adapters *adapters, struct adapters_instance *instance)
{
	uint64_t seen = seen_by_all(adapters);

	if (instance->phase == ADAPTERS_LOADING &&
		all_resident(adapters, instance)) {
		instance->phase = ADAPTERS_LIVE;
		instance->live_ns = mono_now().ns;
	}
	if (instance->phase == ADAPTERS_LEAVING &&
		seen >= instance->leave_version) {
		instance->phase = ADAPTERS_DROPPING;
		count_pages(adapters, instance);
	}
	if (instance->phase == ADAPTERS_DROPPING)
		go_on_dropping(adapters, instance);
}

/* The second instance is on all ranks: requests that come take it. */
static void switch_over(struct adapters *adapters, uint32_t index)
{
	struct adapters_name *name = &adapters->names[index];
	uint32_t old = name->current;

	name->current = name->other;
	name->other = old;
	registry_leave(registry_instance(adapters, old),
		registry_publish(adapters, index));
}

static bool no_room(int code)
{
	return code == -ENOMEM || code == -ENFILE || code == -ENOSPC;
}

static void go_on_replace(struct adapters *adapters, uint32_t index)
{
	struct adapters_name *name = &adapters->names[index];
	const struct adapters_instance *other =
		adapters_instance(adapters, name->other);

	if (other && other->phase == ADAPTERS_LIVE)
		switch_over(adapters, index);
	other = adapters_instance(adapters, name->other);
	if (!other && no_room(name->err.code)) {
		struct error err = {0};

		error_set(&err, -name->err.code,
			"%s; if two copies do not fit: replace with --drain",
			name->err.text);
		name->err = err;
	}
	/* Gone: it failed. Past LEAVING: nothing is bound to the old one. */
	if (!other || (other->phase == ADAPTERS_DROPPING && name->current &&
			      other->leave_ns))
		registry_end(adapters, index);
}

static void go_on_drain_replace(struct adapters *adapters, uint32_t index)
{
	struct adapters_name *name = &adapters->names[index];
	struct adapters_instance *fresh =
		registry_instance(adapters, name->current);

	if (fresh && fresh->phase == ADAPTERS_HELD && !name->other)
		registry_send_loads(adapters, fresh);
	if (fresh && fresh->phase == ADAPTERS_LIVE)
		registry_end(adapters, index);
	if (fresh)
		return;
	error_prefix(&name->err, "the old one was unloaded first, and then");
	registry_end(adapters, index);
}

static void go_on_name(struct adapters *adapters, uint32_t index)
{
	struct adapters_name *name = &adapters->names[index];
	const struct adapters_instance *current =
		adapters_instance(adapters, name->current);

	switch (name->op) {
	case ADAPTERS_IDLE:
		break;
	case ADAPTERS_LOAD:
		if (current && current->phase != ADAPTERS_LIVE)
			break;
		registry_publish(adapters, index);
		registry_end(adapters, index);
		break;
	case ADAPTERS_UNLOAD:
		if (!name->current && !name->other)
			registry_end(adapters, index);
		break;
	case ADAPTERS_REPLACE:
		go_on_replace(adapters, index);
		break;
	case ADAPTERS_DRAIN_REPLACE:
		go_on_drain_replace(adapters, index);
		break;
	}
	registry_publish(adapters, index);
}

static void send_load(struct adapters *adapters,
	struct adapters_instance *instance, uint32_t rank)
{
	struct adapters_part *part = &instance->parts[rank];
	const struct adapters_name *name = &adapters->names[instance->name];
	struct engine_command command = {.kind = ENGINE_ADAPTER_LOAD,
		.instance = instance->number,
		.serial = instance->serial,
		.entry = instance->name,
		.weight = name->weight,
		.files = instance->files};

	memcpy(command.name, name->name, sizeof(command.name));
	if (adapters->hooks.send(adapters->hooks.arg, rank, &command))
		return;
	part->load_due = false;
	part->load_open = true;
}

static void send_drop(struct adapters *adapters,
	struct adapters_instance *instance, uint32_t rank)
{
	struct adapters_part *part = &instance->parts[rank];
	struct engine_command command = {.kind = ENGINE_ADAPTER_DROP,
		.instance = instance->number,
		.serial = instance->serial,
		.entry = instance->name,
		.weight = adapters->names[instance->name].weight,
		.now = instance->now};

	memcpy(command.name, adapters->names[instance->name].name,
		sizeof(command.name));
	adapter_files_init(&command.files);
	if (adapters->hooks.send(adapters->hooks.arg, rank, &command))
		return;
	part->drop_due = false;
	part->dropped = true;
	part->dropped_now = instance->now;
	part->drops_open++;
}

/* A load that is still to be sent says it anyway; no answer comes. */
static void send_weight(
	struct adapters *adapters, uint32_t index, uint32_t rank)
{
	struct adapters_name *name = &adapters->names[index];
	const struct adapters_instance *live =
		adapters_instance(adapters, name->current);
	struct engine_command command = {.kind = ENGINE_ADAPTER_WEIGHT,
		.entry = index,
		.weight = name->weight};

	if (live && live->phase > ADAPTERS_HELD &&
		!live->parts[rank].load_due) {
		command.instance = live->number;
		command.serial = live->serial;
		memcpy(command.name, name->name, sizeof(command.name));
		adapter_files_init(&command.files);
		if (adapters->hooks.send(adapters->hooks.arg, rank, &command))
			return;
	}
	name->weight_due &= ~(UINT32_C(1) << rank);
}

/*
 * What its rank counts on goes first: it counts LOADs, and begins to serve
 * when it has as many as it was told of.
 */
static bool send_must(struct adapters *adapters, uint32_t rank)
{
	bool all = true;

	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		struct adapters_instance *instance = &adapters->instances[i];
		const struct adapters_part *part = &instance->parts[rank];

		if (instance->phase == ADAPTERS_NONE || !part->must_load)
			continue;
		if (part->load_due)
			send_load(adapters, instance, rank);
		all = all && !part->load_due;
	}
	return all;
}

static void send_due(struct adapters *adapters, uint32_t rank)
{
	if (!send_must(adapters, rank))
		return;
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		struct adapters_instance *instance = &adapters->instances[i];

		if (instance->phase == ADAPTERS_NONE)
			continue;
		if (instance->parts[rank].load_due)
			send_load(adapters, instance, rank);
		if (instance->parts[rank].drop_due)
			send_drop(adapters, instance, rank);
	}
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++)
		if (adapters->names[i].used &&
			adapters->names[i].weight_due >> rank & 1)
			send_weight(adapters, i, rank);
}

void adapters_turn(struct adapters *adapters)
{
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++)
		go_on_instance(adapters, &adapters->instances[i]);
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++)
		if (adapters->names[i].used)
			go_on_name(adapters, i);
	for (uint32_t i = 0; i < adapters->rank_count; i++)
		if (adapters->up[i])
			send_due(adapters, i);
}

static bool weight_pending(const struct adapters *adapters)
{
	uint32_t up = 0, due = 0;

	for (uint32_t r = 0; r < adapters->rank_count; r++)
		up |= (uint32_t)adapters->up[r] << r;
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++)
		if (adapters->names[i].used)
			due |= adapters->names[i].weight_due;
	return (up & due) != 0;
}

bool adapters_pending(const struct adapters *adapters)
{
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		const struct adapters_instance *instance =
			&adapters->instances[i];

		if (instance->phase == ADAPTERS_HELD ||
			instance->phase == ADAPTERS_LEAVING)
			return true;
		for (uint32_t r = 0; r < adapters->rank_count; r++)
			if (instance->phase != ADAPTERS_NONE &&
				adapters->up[r] &&
				(instance->parts[r].load_due ||
					instance->parts[r].drop_due))
				return true;
	}
	return weight_pending(adapters);
}
