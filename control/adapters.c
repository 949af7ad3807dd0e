/* adapters.c - which adapters there are, and what becomes of them (control) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "control/adapters.h"
#include "dataplane/utf8.h"

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

static struct adapters_instance *instance_of(
	struct adapters *adapters, uint32_t number)
{
	return number ? &adapters->instances[number] : NULL;
}

static bool part_is_empty(const struct adapters_part *part)
{
	return !part->load_due && !part->load_open && !part->resident &&
	       !part->drop_due && part->drops_open == 0;
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
static uint64_t publish(struct adapters *adapters, uint32_t index)
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

static void send_loads(
	struct adapters *adapters, struct adapters_instance *instance)
{
	instance->phase = ADAPTERS_LOADING;
	for (uint32_t i = 0; i < adapters->rank_count; i++)
		instance->parts[i].load_due = true;
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

static void free_instance(
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

static void end_op(struct adapters *adapters, uint32_t index)
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
		"blanks, "
		"quotes, backslashes and control characters, not beginning "
		"with a dash",
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
	send_loads(adapters, instance);
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

/* From now on nothing new is bound to it. */
static void leave(struct adapters_instance *instance, uint64_t version)
{
	assert(instance->phase == ADAPTERS_LIVE);
	instance->phase = ADAPTERS_LEAVING;
	instance->leave_version = version;
	instance->leave_ns = mono_now().ns;
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
		send_loads(adapters, fresh);
		return 0;
	}
	begin_op(name, ADAPTERS_DRAIN_REPLACE, order->ticket);
	name->other = name->current;
	name->current = fresh->number;
	leave(instance_of(adapters, name->other), publish(adapters, index));
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
	struct adapters_instance *other = instance_of(adapters, name->other);

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
		instance_of(adapters, name->current);
	uint32_t index = (uint32_t)(name - adapters->names);

	error_set(&name->err, ECANCELED,
		"adapter \"%s\" was unloaded while it was loading", name->name);
	end_op(adapters, index);
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
	leave(instance_of(adapters, name->current), publish(adapters, index));
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
	free_instance(adapters, instance);
}

static void go_on_instance(
	struct adapters *adapters, struct adapters_instance *instance)
{
	uint64_t seen =
		__atomic_load_n(&adapters->table->seen, __ATOMIC_ACQUIRE);

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
	leave(instance_of(adapters, old), publish(adapters, index));
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
		end_op(adapters, index);
}

static void go_on_drain_replace(struct adapters *adapters, uint32_t index)
{
	struct adapters_name *name = &adapters->names[index];
	struct adapters_instance *fresh = instance_of(adapters, name->current);

	if (fresh && fresh->phase == ADAPTERS_HELD && !name->other)
		send_loads(adapters, fresh);
	if (fresh && fresh->phase == ADAPTERS_LIVE)
		end_op(adapters, index);
	if (fresh)
		return;
	error_prefix(&name->err, "the old one was unloaded first, and then");
	end_op(adapters, index);
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
		publish(adapters, index);
		end_op(adapters, index);
		break;
	case ADAPTERS_UNLOAD:
		if (!name->current && !name->other)
			end_op(adapters, index);
		break;
	case ADAPTERS_REPLACE:
		go_on_replace(adapters, index);
		break;
	case ADAPTERS_DRAIN_REPLACE:
		go_on_drain_replace(adapters, index);
		break;
	}
	publish(adapters, index);
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
	return false;
}
