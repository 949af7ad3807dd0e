/* adapters_ops.c - what operators ask of the registry (orders -> begun) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control/adapters_private.h"
#include "dataplane/utf8.h"

/* --- making ---------------------------------------------------------------------------- */

static uint32_t free_number(struct adapters *adapters)
{
	for (uint32_t i = 0; i < INSTANCE_COUNT_MAX - 1; i++) {
		uint32_t number = 1 + (adapters->last_number + i) %
					      (INSTANCE_COUNT_MAX - 1);

		if (adapters->instances[number].phase == ADAPTERS_NONE) {
			adapters->last_number = number;
			return number;
		}
	}
	return 0;
}

/* A place that had the same name keeps its numbers for the metrics. */
static uint32_t free_name(struct adapters *adapters, const char *name)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < ADAPTER_ENTRY_COUNT_MAX - 1; i++) {
		uint32_t index = 1 + (adapters->last_name + i) %
					     (ADAPTER_ENTRY_COUNT_MAX - 1);

		if (adapters->names[index].used)
			continue;
		if (strcmp(adapters->names[index].name, name) == 0)
			return index;
		if (found == 0)
			found = index;
	}
	if (found)
		adapters->last_name = found;
	return found;
}

/* Takes the files; NULL: there is no number left, and they are closed. */
static struct adapters_instance *make_instance(struct adapters *adapters,
	uint32_t name, const struct adapters_order *order, struct error *err)
{
	uint32_t number = free_number(adapters);
	struct adapters_instance *instance = &adapters->instances[number];

	if (number == 0) {
		error_set(err, ENOSPC, "%d adapters are there: no more fit",
			INSTANCE_COUNT_MAX - 1);
		return NULL;
	}
	*instance = (struct adapters_instance){.phase = ADAPTERS_HELD,
		.number = number,
		.serial = ++adapters->serial,
		.name = name,
		.files = *order->files,
		.begun_ns = mono_now().ns};
	adapter_files_init(order->files);
	snprintf(instance->directory, sizeof(instance->directory), "%s",
		order->directory);
	return instance;
}

static void begin_op(
	struct adapters_name *name, enum adapters_op op, uint64_t ticket)
{
	name->op = op;
	name->page_count = name->page_bytes = 0;
	error_clear(&name->err);
	name->ticket_count = 0;
	if (ticket)
		name->tickets[name->ticket_count++] = ticket;
}

/* --- operations --------------------------------------------------------------------------- */

static int check_name(const char *name, struct error *err)
{
	size_t length = strlen(name);

	if (adapter_name_ok(name, length) &&
		utf8_valid_prefix(name, length) == length)
		return 0;
	return error_set(err, EINVAL,
		"\"%.128s\" is no name: 1 to %d bytes of UTF-8, without "
		"quotes, backslashes and control characters, not beginning "
		"with a dash, nor with a blank at either end",
		name, ADAPTER_NAME_BYTES - 1);
}

static int begin_load(struct adapters *adapters,
	const struct adapters_order *order, struct error *err)
{
	struct adapters_instance *instance;
	struct adapters_name *name;
	uint32_t index;
	int rc = check_name(order->name, err);

	if (rc)
		return rc;
	index = adapters_find(adapters, order->name);
	if (index && adapters->names[index].op == ADAPTERS_UNLOAD)
		return error_set(err, EBUSY,
			"adapter \"%s\" is being unloaded; try again",
			order->name);
	if (index)
		return error_set(err, EEXIST,
			"adapter \"%s\" is there already: use replace",
			order->name);
	index = free_name(adapters, order->name);
	if (index == 0)
		return error_set(err, ENOSPC, "too many adapters are there");
	instance = make_instance(adapters, index, order, err);
	if (!instance)
		return -ENOSPC;
	name = &adapters->names[index];
	*name = (struct adapters_name){.used = true,
		.pinned = order->pinned,
		.weight = order->weight ? order->weight : 1,
		.created_s = (uint64_t)time(NULL),
		.current = instance->number};
	snprintf(name->name, sizeof(name->name), "%s", order->name);
	begin_op(name, ADAPTERS_LOAD, order->ticket);
	registry_send_loads(adapters, instance);
	return 0;
}

int adapters_load(struct adapters *adapters, const struct adapters_order *order,
	struct error *err)
{
	int rc = begin_load(adapters, order, err);

	adapter_files_close(order->files);
	if (rc == 0)
		adapters_turn(adapters);
	return rc;
}

static int find_idle(struct adapters *adapters, const char *text,
	struct adapters_name **out, struct error *err)
{
	uint32_t index = adapters_find(adapters, text);
	struct adapters_name *name = &adapters->names[index];

	if (index == 0)
		return error_set(
			err, ENOENT, "there is no adapter \"%.128s\"", text);
	*out = name;
	if (name->op != ADAPTERS_IDLE)
		return error_set(err, EBUSY,
			"adapter \"%s\" is busy: %s is not done yet",
			name->name, adapters_op_name(name->op));
	return 0;
}

static int begin_replace(struct adapters *adapters,
	const struct adapters_order *order, struct error *err)
{
	struct adapters_instance *fresh;
	struct adapters_name *name = NULL;
	uint32_t index;
	int rc = find_idle(adapters, order->name, &name, err);

	if (rc)
		return rc;
	assert(name);
	if (name->other)
		return error_set(err, EBUSY,
			"adapter \"%s\" is busy: instance %u, which was "
			"replaced, still serves requests",
			name->name, name->other);
	index = (uint32_t)(name - adapters->names);
	fresh = make_instance(adapters, index, order, err);
	if (!fresh)
		return -ENOSPC;
	if (order->weight)
		name->weight = order->weight;
	if (!order->drain) {
		begin_op(name, ADAPTERS_REPLACE, order->ticket);
		name->other = fresh->number;
		registry_send_loads(adapters, fresh);
		return 0;
	}
	begin_op(name, ADAPTERS_DRAIN_REPLACE, order->ticket);
	name->other = name->current;
	name->current = fresh->number;
	registry_leave(registry_instance(adapters, name->other),
		registry_publish(adapters, index));
	return 0;
}

int adapters_replace(struct adapters *adapters,
	const struct adapters_order *order, struct error *err)
{
	int rc = begin_replace(adapters, order, err);

	adapter_files_close(order->files);
	if (rc == 0)
		adapters_turn(adapters);
	return rc;
}

static int add_ticket(
	struct adapters_name *name, uint64_t ticket, struct error *err)
{
	if (ticket == 0)
		return 0;
	if (name->ticket_count == ADAPTERS_TICKET_COUNT_MAX)
		return error_set(err, EBUSY,
			"adapter \"%s\": too many wait for its end",
			name->name);
	name->tickets[name->ticket_count++] = ticket;
	return 0;
}

static void hurry(struct adapters *adapters, struct adapters_name *name)
{
	struct adapters_instance *other =
		registry_instance(adapters, name->other);

	if (name->current)
		adapters->instances[name->current].now = true;
	if (other && other->phase >= ADAPTERS_LEAVING)
		other->now = true;
}

/* A load that is not wanted any more is taken back, and says so. */
static void cancel_load(
	struct adapters *adapters, struct adapters_name *name, uint64_t ticket)
{
	struct adapters_instance *instance =
		registry_instance(adapters, name->current);
	uint32_t index = (uint32_t)(name - adapters->names);

	error_set(&name->err, ECANCELED,
		"adapter \"%s\" was unloaded while it was loading", name->name);
	registry_end(adapters, index);
	begin_op(name, ADAPTERS_UNLOAD, ticket);
	if (instance->phase == ADAPTERS_LOADING)
		instance->phase = ADAPTERS_DROPPING;
	instance->now = true;
}

static int begin_unload(struct adapters *adapters, const char *text, bool now,
	uint64_t ticket, struct error *err)
{
	uint32_t index = adapters_find(adapters, text);
	struct adapters_name *name = &adapters->names[index];
	int rc;

	if (index && name->pinned && name->op != ADAPTERS_UNLOAD)
		return error_set(err, EPERM,
			"adapter \"%s\" is pinned: unpin it first", text);
	if (index && now && name->op == ADAPTERS_LOAD) {
		cancel_load(adapters, name, ticket);
		return 0;
	}
	if (index && name->op == ADAPTERS_UNLOAD) {
		rc = add_ticket(name, ticket, err);
		if (rc == 0 && now)
			hurry(adapters, name);
		return rc;
	}
	rc = find_idle(adapters, text, &name, err);
	if (rc)
		return rc;
	begin_op(name, ADAPTERS_UNLOAD, ticket);
	registry_leave(registry_instance(adapters, name->current),
		registry_publish(adapters, index));
	if (now)
		hurry(adapters, name);
	return 0;
}

int adapters_unload(struct adapters *adapters, const char *name, bool now,
	uint64_t ticket, struct error *err)
{
	int rc = begin_unload(adapters, name, now, ticket, err);

	if (rc == 0)
		adapters_turn(adapters);
	return rc;
}

int adapters_pin(struct adapters *adapters, const char *name, bool pinned,
	struct error *err)
{
	uint32_t index = adapters_find(adapters, name);

	if (index == 0)
		return error_set(
			err, ENOENT, "there is no adapter \"%.128s\"", name);
	adapters->names[index].pinned = pinned;
	return 0;
}

int adapters_weigh(struct adapters *adapters, const char *name, uint32_t weight,
	struct error *err)
{
	uint32_t index = adapters_find(adapters, name);

	if (index == 0)
		return error_set(
			err, ENOENT, "there is no adapter \"%.128s\"", name);
	if (weight < 1 || weight > ADAPTER_WEIGHT_MAX)
		return error_set(err, EINVAL,
			"adapter \"%.128s\": a weight is from 1 to %u", name,
			ADAPTER_WEIGHT_MAX);
	adapters->names[index].weight = weight;
	adapters->names[index].weight_due =
		(uint32_t)((UINT64_C(1) << adapters->rank_count) - 1);
	registry_publish(adapters, index);
	adapters_turn(adapters);
	return 0;
}
