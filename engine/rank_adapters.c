/* rank_adapters.c - which instances a rank has, and who uses them */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/rank_adapters.h"

/* The books are written this often, and at each change. */
#define BOOKS_NS (100 * NS_PER_MS)

struct instance {
	enum adapter_state state;
	bool loads; /* its LOAD has not been answered */
	uint32_t drop_count; /* DROPs that have not been answered */
	bool asked; /* a DROP waits for the rings to be read up to `mark` */
	bool now; /* and its requests are to be cancelled then */
	bool told; /* a drop that failed was logged */
	struct rank_mark mark;
	uint32_t user_count;
	struct engine_command command; /* its LOAD; files until answered */
	uint64_t since_ns[ADAPTER_STATE_COUNT];
};

struct rank_adapters {
	struct rank *rank; /* borrowed */
	struct engine_mail *mail; /* borrowed */
	struct adapter_back back;
	struct rank_books *books; /* in the segment */
	struct instance instances[INSTANCE_COUNT_MAX];
	uint32_t queue[INSTANCE_COUNT_MAX]; /* loads, oldest first */
	uint32_t queue_head, queue_count;
	uint32_t first_loads, answered_loads;
	uint32_t asked_count; /* instances that are `asked` */
	uint64_t books_ns, retry_ns;
	bool changed; /* since the books were written */
};

int rank_adapters_create(struct rank *rank, struct engine_mail *mail,
	const struct adapter_back *back, uint32_t first_loads,
	struct rank_adapters **out)
{
	struct rank_adapters *adapters = calloc(1, sizeof(*adapters));

	if (!adapters)
		return -ENOMEM;
	adapters->rank = rank;
	adapters->mail = mail;
	adapters->back = *back;
	adapters->first_loads = first_loads;
	adapters->changed = true;
	adapters->books = segment_rank_books(rank->segment, rank->config.rank);
	rank->adapters = adapters;
	*out = adapters;
	return 0;
}

void rank_adapters_destroy(struct rank_adapters *adapters)
{
	if (!adapters)
		return;
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		struct instance *it = &adapters->instances[i];

		for (; it->user_count > 0; it->user_count--)
			adapters->back.release(adapters->back.arg, i);
		if (it->loads)
			adapter_files_close(&it->command.files);
	}
	adapters->rank->adapters = NULL;
	free(adapters);
}

static struct instance *instance_of(
	struct rank_adapters *adapters, uint32_t number)
{
	assert(number >= 1 && number < INSTANCE_COUNT_MAX);
	return &adapters->instances[number];
}

static uint32_t number_of(
	const struct rank_adapters *adapters, const struct instance *it)
{
	return (uint32_t)(it - adapters->instances);
}

static void set_state(struct rank_adapters *adapters, struct instance *it,
	enum adapter_state state, struct mono now)
{
	if (it->state != state)
		it->since_ns[state] = now.ns;
	it->state = state;
	adapters->changed = true;
}

/* --- books ---------------------------------------------------------------------- */

static void write_pages(struct rank_adapters *adapters)
{
	struct rank_books *to = adapters->books, now = {0};

	adapters->back.pages(adapters->back.arg, &now);
	assert(now.base_pages + now.adapter_pages + now.kv_held_pages +
			now.kv_idle_pages + now.free_pages ==
		now.page_count);
	__atomic_store_n(
		&to->page_size_bytes, now.page_size_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&to->page_count, now.page_count, __ATOMIC_RELAXED);
	__atomic_store_n(&to->base_pages, now.base_pages, __ATOMIC_RELAXED);
	__atomic_store_n(
		&to->adapter_pages, now.adapter_pages, __ATOMIC_RELAXED);
	__atomic_store_n(
		&to->kv_held_pages, now.kv_held_pages, __ATOMIC_RELAXED);
	__atomic_store_n(
		&to->kv_idle_pages, now.kv_idle_pages, __ATOMIC_RELAXED);
	__atomic_store_n(&to->free_pages, now.free_pages, __ATOMIC_RELAXED);
	__atomic_store_n(
		&to->base_used_bytes, now.base_used_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&to->adapter_used_bytes, now.adapter_used_bytes,
		__ATOMIC_RELAXED);
}

static void write_book(struct rank_adapters *adapters, uint32_t number)
{
	const struct instance *it = &adapters->instances[number];
	struct adapter_book book = {0};

	if (it->state != ADAPTER_ABSENT) {
		adapters->back.look(adapters->back.arg, number, &book);
		book.serial = it->command.serial;
		book.state = it->state;
		book.user_count = it->user_count;
		memcpy(book.since_ns, it->since_ns, sizeof(book.since_ns));
	} else if (adapters->books->instances[number].serial == 0) {
		return;
	}
	adapter_book_write(adapters->books, number, &book);
}

/* Loads make progress inside the back end: where they are is asked there. */
static void follow_load(struct rank_adapters *adapters, struct mono now)
{
	struct adapter_book book = {0};
	struct instance *it;
	uint32_t number;

	if (adapters->queue_count == 0)
		return;
	number = adapters->queue[adapters->queue_head];
	it = instance_of(adapters, number);
	adapters->back.look(adapters->back.arg, number, &book);
	if (book.state == ADAPTER_LOADING && it->state == ADAPTER_STAGING)
		set_state(adapters, it, ADAPTER_LOADING, now);
}

static void write_books(struct rank_adapters *adapters, struct mono now)
{
	if (!adapters->changed && now.ns - adapters->books_ns < BOOKS_NS)
		return;
	adapters->changed = false;
	adapters->books_ns = now.ns;
	write_pages(adapters);
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++)
		write_book(adapters, i);
}

/* --- answers -------------------------------------------------------------------- */

static void answer(struct rank_adapters *adapters,
	const struct engine_command *command, int rc, const struct error *err)
{
	struct engine_answer answer = {
		.kind = command->kind,
		.instance = command->instance,
		.serial = command->serial,
		.rc = rc,
	};

	if (rc)
		answer.err = *err;
	adapters->answered_loads += command->kind == ENGINE_ADAPTER_LOAD;
	adapters->changed = true;
	engine_mail_answer(adapters->mail, &answer);
}

/* It is gone: whoever asked for that hears it. */
static void answer_drops(struct rank_adapters *adapters, struct instance *it)
{
	const struct engine_command drop = {
		.kind = ENGINE_ADAPTER_DROP,
		.instance = number_of(adapters, it),
		.serial = it->command.serial,
	};

	for (; it->drop_count > 0; it->drop_count--)
		answer(adapters, &drop, 0, NULL);
}

static void forget(
	struct rank_adapters *adapters, struct instance *it, struct mono now)
{
	assert(it->user_count == 0 && !it->loads);
	set_state(adapters, it, ADAPTER_ABSENT, now);
	adapters->asked_count -= it->asked;
	write_books(adapters, now);
	answer_drops(adapters, it);
	*it = (struct instance){0};
}

/* --- commands -------------------------------------------------------------------- */

static int check_load(struct rank_adapters *adapters,
	const struct engine_command *command, struct error *err)
{
	if (command->instance < 1 || command->instance >= INSTANCE_COUNT_MAX ||
		command->serial == 0 ||
		command->entry >= ADAPTER_ENTRY_COUNT_MAX ||
		command->weight < 1 || command->weight > ADAPTER_WEIGHT_MAX ||
		!memchr(command->name, '\0', sizeof(command->name)))
		return error_set(err, EINVAL,
			"rank %u: a command to load instance %u, serial %u, "
			"entry %u with weight %u",
			adapters->rank->config.rank, command->instance,
			command->serial, command->entry, command->weight);
	if (adapters->instances[command->instance].state != ADAPTER_ABSENT)
		return error_set(err, EEXIST,
			"rank %u: adapter \"%s\": instance %u is in use",
			adapters->rank->config.rank, command->name,
			command->instance);
	return 0;
}

static void take_load(struct rank_adapters *adapters,
	struct engine_command *command, struct mono now)
{
	struct error err = {0};
	int rc = check_load(adapters, command, &err);
	struct instance *it;

	if (rc) {
		adapter_files_close(&command->files);
		answer(adapters, command, rc, &err);
		return;
	}
	it = instance_of(adapters, command->instance);
	*it = (struct instance){.loads = true, .command = *command};
	set_state(adapters, it, ADAPTER_STAGING, now);
	assert(adapters->queue_count < INSTANCE_COUNT_MAX);
	adapters->queue[(adapters->queue_head + adapters->queue_count++) %
			INSTANCE_COUNT_MAX] = command->instance;
	adapters->back.weight(
		adapters->back.arg, command->entry, command->weight);
}

static void take_drop(
	struct rank_adapters *adapters, const struct engine_command *command)
{
	struct instance *it = NULL;

	if (command->instance >= 1 && command->instance < INSTANCE_COUNT_MAX)
		it = instance_of(adapters, command->instance);
	if (!it || it->state == ADAPTER_ABSENT ||
		it->command.serial != command->serial) {
		answer(adapters, command, 0, NULL);
		return;
	}
	it->drop_count++;
	it->now = it->now || command->now;
	adapters->asked_count += !it->asked;
	it->asked = true;
	it->mark = rank_ring_mark(adapters->rank);
}

static void take_mail(struct rank_adapters *adapters, struct mono now)
{
	struct engine_command command;

	while (engine_mail_take(adapters->mail, &command)) {
		switch (command.kind) {
		case ENGINE_ADAPTER_LOAD:
			take_load(adapters, &command, now);
			break;
		case ENGINE_ADAPTER_DROP:
			adapter_files_close(&command.files);
			take_drop(adapters, &command);
			break;
		case ENGINE_ADAPTER_WEIGHT:
			adapter_files_close(&command.files);
			if (command.entry < ADAPTER_ENTRY_COUNT_MAX &&
				command.weight >= 1 &&
				command.weight <= ADAPTER_WEIGHT_MAX)
				adapters->back.weight(adapters->back.arg,
					command.entry, command.weight);
			break;
		}
	}
}

/* --- loads ------------------------------------------------------------------------- */

/* The oldest load goes on; true: the next one may begin. */
static bool go_on(struct rank_adapters *adapters, struct mono now)
{
	uint32_t number = adapters->queue[adapters->queue_head];
	struct instance *it = instance_of(adapters, number);
	struct error err = {0};
	/* What resumed requests carry is there before it goes. */
	bool stop = it->drop_count > 0 && !rank_adapters_opening(adapters);
	int rc = adapters->back.load(
		adapters->back.arg, number, &it->command, stop, &err);

	if (rc == -EINPROGRESS) {
		follow_load(adapters, now);
		return false;
	}
	adapters->queue_head = (adapters->queue_head + 1) % INSTANCE_COUNT_MAX;
	adapters->queue_count--;
	it->loads = false;
	adapter_files_close(&it->command.files);
	/* The books first: whoever hears the answer may look at them. */
	set_state(adapters, it, rc ? ADAPTER_ABSENT : ADAPTER_RESIDENT, now);
	write_books(adapters, now);
	answer(adapters, &it->command, rc, &err);
	if (rc)
		forget(adapters, it, now);
	return true;
}

static void go_on_all(struct rank_adapters *adapters, struct mono now)
{
	while (adapters->queue_count > 0 && go_on(adapters, now))
		;
}

/* --- drops ------------------------------------------------------------------------- */

static void cancel_users(struct rank_adapters *adapters, uint32_t number)
{
	struct rank *rank = adapters->rank;

	for (uint32_t i = 0; i < rank->segment->shape.slot_count; i++) {
		const struct rank_request *request = &rank->requests[i];

		if (request->holds && request->instance == number &&
			rank_is_live(request))
			adapters->back.cancel(adapters->back.arg, i);
	}
}

void rank_adapters_taken_in(struct rank_adapters *adapters, struct mono now)
{
	for (uint32_t i = 1;
		adapters->asked_count > 0 && i < INSTANCE_COUNT_MAX; i++) {
		struct instance *it = &adapters->instances[i];

		/* A load that was told to stop has its answer first. */
		if (!it->asked || it->loads ||
			!rank_ring_passed(adapters->rank, &it->mark))
			continue;
		it->asked = false;
		adapters->asked_count--;
		set_state(adapters, it, ADAPTER_DRAINING, now);
		if (it->now)
			cancel_users(adapters, i);
	}
}

static bool is_free(const struct instance *it)
{
	return it->state == ADAPTER_DRAINING && it->user_count == 0;
}

/* One in a turn that frees something: a gap between two steps is short. */
static void free_drained(struct rank_adapters *adapters, struct mono now)
{
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		struct instance *it = &adapters->instances[i];
		struct error err = {0};
		int rc;

		if (!is_free(it) ||
			(it->told && now.ns - adapters->retry_ns < BOOKS_NS))
			continue;
		adapters->retry_ns = now.ns;
		rc = adapters->back.drop(adapters->back.arg, i, &err);
		if (rc == 0)
			forget(adapters, it, now);
		if (rc == 0 || rc == -EAGAIN)
			return;
		if (!it->told) {
			log_warnx("rank %u: %s; it is tried again",
				adapters->rank->config.rank, err.text);
			it->told = true;
		}
	}
}

/* --- turns -------------------------------------------------------------------------- */

bool rank_adapters_turn(struct rank_adapters *adapters, struct mono now)
{
	take_mail(adapters, now);
	/* What comes back here a load may wait for. */
	free_drained(adapters, now);
	go_on_all(adapters, now);
	follow_load(adapters, now);
	write_books(adapters, now);
	return rank_adapters_due(adapters);
}

bool rank_adapters_due(const struct rank_adapters *adapters)
{
	if (engine_mail_pending(adapters->mail))
		return true;
	if (adapters->queue_count > 0 &&
		adapters->back.ready(adapters->back.arg))
		return true;
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++)
		if (is_free(&adapters->instances[i]) &&
			!adapters->instances[i].told)
			return true;
	return false;
}

bool rank_adapters_opening(const struct rank_adapters *adapters)
{
	return adapters->answered_loads < adapters->first_loads;
}

bool rank_adapters_leaves(
	const struct rank_adapters *adapters, uint32_t instance)
{
	const struct instance *it = &adapters->instances[instance];

	/* A load that was told to stop may stand behind the one that asks. */
	return !rank_adapters_opening(adapters) && !it->loads &&
	       (it->asked || it->state == ADAPTER_DRAINING);
}

/* --- requests ------------------------------------------------------------------------ */

bool rank_adapters_hold(
	struct rank_adapters *adapters, uint32_t instance, uint32_t serial)
{
	struct instance *it;

	if (instance < 1 || instance >= INSTANCE_COUNT_MAX)
		return false;
	it = instance_of(adapters, instance);
	if (it->state != ADAPTER_RESIDENT || it->command.serial != serial)
		return false;
	it->user_count++;
	adapters->back.hold(adapters->back.arg, instance);
	return true;
}

void rank_adapters_release(struct rank_adapters *adapters, uint32_t instance)
{
	struct instance *it = instance_of(adapters, instance);

	assert(it->user_count > 0);
	it->user_count--;
	adapters->back.release(adapters->back.arg, instance);
}

/* --- to look at ---------------------------------------------------------------------- */

void rank_adapters_check(const struct rank_adapters *adapters)
{
	const struct rank *rank = adapters->rank;
	uint32_t users[INSTANCE_COUNT_MAX] = {0}, loads = 0, asked = 0;

	for (uint32_t i = 0; i < rank->segment->shape.slot_count; i++) {
		const struct rank_request *request = &rank->requests[i];

		assert(!request->holds || rank_is_live(request));
		if (request->holds)
			users[request->instance]++;
	}
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		const struct instance *it = &adapters->instances[i];

		assert(it->user_count == users[i]);
		assert(it->user_count == 0 || it->state >= ADAPTER_RESIDENT);
		assert(it->loads == (it->state == ADAPTER_STAGING ||
					    it->state == ADAPTER_LOADING));
		loads += it->loads;
		asked += it->asked;
	}
	assert(loads == adapters->queue_count);
	assert(asked == adapters->asked_count);
}
