/* test_adapters.c - the registry of adapters against ranks that are played */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test is the ranks and the dataplane: it answers commands when it likes,
 * binds requests by a copy of the table that lags behind, and lets ranks die.
 * Whatever the order, a request must find what it was bound to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/adapters.h"
#include "tests/suite.h"

#define RANKS 2u
#define NAMES 5u
#define TICKETS 4096u

/* What a rank has under one number. */
struct held {
	uint32_t serial; /* 0 = nothing */
	bool loading, resident;
	uint32_t users, drops; /* drops: asked for and not answered */
	bool now;
};

struct played_rank {
	bool runs;
	uint32_t first_left; /* LOADs that it waits for before it serves */
	struct held held[INSTANCE_COUNT_MAX];
	uint32_t weight[ADAPTER_ENTRY_COUNT_MAX];
};

struct world {
	struct segment segment;
	int fd;
	struct adapters *adapters;
	struct played_rank ranks[RANKS];
	/* the dataplane's copy of the table */
	struct adapter_entry seen[ADAPTER_ENTRY_COUNT_MAX];
	uint64_t seen_version;
	uint32_t lives[RANKS], seen_lives[RANKS];
	bool asked[TICKETS], ended[TICKETS];
	struct adapters_result results[TICKETS];
	uint32_t ticket; /* given last */
	/* every send that comes when this is 0 fails; -1 = none does */
	int fail_in;
	uint32_t sends, binds;
};

/* --- the registry's other side ---------------------------------------------------- */

static int send_command(
	void *arg, uint32_t rank, const struct engine_command *command)
{
	struct world *w = arg;
	struct played_rank *r = &w->ranks[rank];
	struct held *h = &r->held[command->instance];

	w->sends++;
	CU_ASSERT_FATAL(r->runs);
	if (w->fail_in >= 0 && w->fail_in-- == 0)
		return -EAGAIN;
	if (command->kind == ENGINE_ADAPTER_LOAD) {
		/* A number is free before it is given again. */
		CU_ASSERT_EQUAL(h->serial, 0);
		CU_ASSERT_TRUE(command->files.experts.fd >= 0);
		*h = (struct held){.serial = command->serial, .loading = true};
		r->weight[command->entry] = command->weight;
		if (r->first_left > 0)
			r->first_left--;
		return 0;
	}
	if (command->kind == ENGINE_ADAPTER_WEIGHT) {
		CU_ASSERT_EQUAL(r->first_left, 0);
		r->weight[command->entry] = command->weight;
		return 0;
	}
	CU_ASSERT_EQUAL(h->serial, command->serial);
	CU_ASSERT_EQUAL(command->kind, ENGINE_ADAPTER_DROP);
	CU_ASSERT_EQUAL(r->first_left, 0);
	h->drops++;
	h->now = h->now || command->now;
	return 0;
}

static void ended(
	void *arg, uint64_t ticket, const struct adapters_result *result)
{
	struct world *w = arg;

	CU_ASSERT_FATAL(ticket > 0 && ticket < TICKETS);
	CU_ASSERT_TRUE(w->asked[ticket]);
	CU_ASSERT_FALSE(w->ended[ticket]);
	w->ended[ticket] = true;
	w->results[ticket] = *result;
}

static uint64_t new_ticket(struct world *w)
{
	CU_ASSERT_FATAL(w->ticket + 1 < TICKETS);
	w->asked[++w->ticket] = true;
	return w->ticket;
}

static void answer(struct world *w, uint32_t rank, uint32_t number,
	enum engine_command_kind kind, int rc)
{
	const struct engine_answer answer = {.kind = kind,
		.instance = number,
		.serial = w->ranks[rank].held[number].serial,
		.rc = rc,
		.err = {.code = rc, .text = "the tensor is bad"}};

	adapters_answered(w->adapters, rank, &answer);
}

static void answer_load(struct world *w, uint32_t rank, uint32_t number, int rc)
{
	struct held *h = &w->ranks[rank].held[number];
	struct engine_answer a = {.kind = ENGINE_ADAPTER_LOAD,
		.instance = number,
		.serial = h->serial,
		.rc = rc,
		.err = {.code = rc, .text = "the tensor is bad"}};

	h->loading = false;
	h->resident = rc == 0;
	if (rc && h->drops == 0)
		h->serial = 0;
	adapters_answered(w->adapters, rank, &a);
}

/* Once nobody uses it: all DROPs are answered, the memory is free. */
static void answer_drops(struct world *w, uint32_t rank, uint32_t number)
{
	struct held *h = &w->ranks[rank].held[number];
	struct engine_answer a = {.kind = ENGINE_ADAPTER_DROP,
		.instance = number,
		.serial = h->serial};
	uint32_t count = h->drops;

	CU_ASSERT_TRUE(h->users == 0 || h->now);
	if (h->loading)
		answer_load(w, rank, number, -ECANCELED);
	*h = (struct held){0};
	while (count-- > 0)
		adapters_answered(w->adapters, rank, &a);
}

/* --- the dataplane -------------------------------------------------------------------- */

static void look(struct world *w)
{
	w->seen_version =
		adapter_table_copy(segment_adapter_table(&w->segment), w->seen);
	memcpy(w->seen_lives, w->lives, sizeof(w->lives));
}

static void tell(struct world *w)
{
	__atomic_store_n(&segment_adapter_table(&w->segment)->seen[0],
		w->seen_version, __ATOMIC_RELEASE);
}

/* A request by the copy: what it is bound to must be there, and not going. */
static void bind_one(struct world *w, uint32_t index, uint32_t rank)
{
	const struct adapter_entry *entry = &w->seen[index];
	struct played_rank *r = &w->ranks[rank];
	struct held *h = &r->held[entry->instance];

	if (!entry->instance || !(entry->rank_mask >> rank & 1u) || !r->runs ||
		r->first_left > 0)
		return;
	/* A rank that began anew says itself that it has it no more. */
	if (w->lives[rank] != w->seen_lives[rank])
		return;
	CU_ASSERT_EQUAL(h->serial, entry->serial);
	CU_ASSERT_TRUE(h->resident);
	CU_ASSERT_EQUAL(h->drops, 0);
	h->users++;
	w->binds++;
}

/* --- a world ---------------------------------------------------------------------------- */

static void start_rank(struct world *w, uint32_t rank)
{
	struct played_rank *r = &w->ranks[rank];

	memset(r, 0, sizeof(*r));
	w->lives[rank]++;
	r->first_left = adapters_rank_starts(w->adapters, rank);
	r->runs = true;
	adapters_rank_up(w->adapters, rank, true);
}

static void kill_rank(struct world *w, uint32_t rank, bool resumes)
{
	w->ranks[rank].runs = false;
	adapters_rank_died(w->adapters, rank, resumes);
}

static void open_world(struct world *w)
{
	const struct segment_shape shape = {4, 4, 16, RANKS, 1};
	struct adapters_hooks hooks = {w, send_command, ended};
	struct error err = {0};

	memset(w, 0, sizeof(*w));
	w->fail_in = -1;
	CU_ASSERT_EQUAL_FATAL(
		segment_create(&shape, &w->segment, &w->fd, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		adapters_create(&w->segment, &hooks, &w->adapters), 0);
	for (uint32_t i = 0; i < RANKS; i++)
		start_rank(w, i);
}

static void close_world(struct world *w)
{
	adapters_destroy(w->adapters);
	segment_detach(&w->segment);
	close(w->fd);
}

static struct adapter_files some_files(void)
{
	struct adapter_files files;

	adapter_files_init(&files);
	files.experts.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CU_ASSERT_TRUE_FATAL(files.experts.fd >= 0);
	return files;
}

enum order_kind { LOAD, REPLACE, DRAIN };

/* Returns the ticket; 0 = it was refused. */
static uint64_t order(struct world *w, const char *name, enum order_kind kind,
	struct error *err)
{
	struct adapter_files files = some_files();
	struct adapters_order what = {.name = name,
		.directory = "/d",
		.files = &files,
		.drain = kind == DRAIN,
		.ticket = new_ticket(w)};
	int rc = kind == LOAD ? adapters_load(w->adapters, &what, err)
			      : adapters_replace(w->adapters, &what, err);

	if (rc)
		w->asked[what.ticket] = false;
	return rc ? 0 : what.ticket;
}

static uint64_t unload(
	struct world *w, const char *name, bool now, struct error *err)
{
	uint64_t ticket = new_ticket(w);

	if (adapters_unload(w->adapters, name, now, ticket, err) == 0)
		return ticket;
	w->asked[ticket] = false;
	return 0;
}

static uint32_t number_of(const struct world *w, const char *name)
{
	return adapters_name(w->adapters, adapters_find(w->adapters, name))
		->current;
}

static bool in_table(const struct world *w, const char *name)
{
	struct adapter_entry entry;

	return adapter_table_find(segment_adapter_table(&w->segment), name,
		       strlen(name), &entry, NULL) != 0;
}

/* A name that serves on all ranks. */
static uint32_t make_live(struct world *w, const char *name)
{
	struct error err = {0};
	uint64_t ticket = order(w, name, LOAD, &err);
	uint32_t number;

	CU_ASSERT_NOT_EQUAL_FATAL(ticket, 0);
	number = number_of(w, name);
	for (uint32_t r = 0; r < RANKS; r++)
		answer_load(w, r, number, 0);
	CU_ASSERT_TRUE(w->ended[ticket]);
	return number;
}

static void see_all(struct world *w)
{
	look(w);
	tell(w);
	adapters_turn(w->adapters);
}

/* --- one thing at a time ------------------------------------------------------------------ */

static void test_load__serves_when_it_is_on_every_rank(void)
{
	static struct world w;
	struct error err = {0};
	struct adapter_entry entry;
	uint64_t ticket;

	open_world(&w);
	ticket = order(&w, "a", LOAD, &err);
	CU_ASSERT_FALSE(in_table(&w, "a"));
	answer_load(&w, 1, number_of(&w, "a"), 0);
	CU_ASSERT_FALSE(in_table(&w, "a"));
	CU_ASSERT_FALSE(w.ended[ticket]);
	answer_load(&w, 0, number_of(&w, "a"), 0);
	CU_ASSERT_TRUE(w.ended[ticket]);
	CU_ASSERT_EQUAL(w.results[ticket].err.code, 0);
	CU_ASSERT_NOT_EQUAL(
		adapter_table_find(segment_adapter_table(&w.segment), "a", 1,
			&entry, NULL),
		0);
	CU_ASSERT_EQUAL(entry.rank_mask, 3);
	CU_ASSERT_EQUAL(entry.weight, 1);
	CU_ASSERT_EQUAL(order(&w, "a", LOAD, &err), 0);
	CU_ASSERT_EQUAL(err.code, -EEXIST);
	close_world(&w);
}

static void test_load__a_failure_is_taken_back_everywhere(void)
{
	static struct world w;
	struct error err = {0};
	uint64_t ticket;
	uint32_t number;

	open_world(&w);
	ticket = order(&w, "a", LOAD, &err);
	number = number_of(&w, "a");
	answer_load(&w, 0, number, 0);
	answer_load(&w, 1, number, -EINVAL);
	CU_ASSERT_FALSE(w.ended[ticket]);
	CU_ASSERT_EQUAL(w.ranks[0].held[number].drops, 1);
	answer_drops(&w, 0, number);
	CU_ASSERT_TRUE(w.ended[ticket]);
	CU_ASSERT_EQUAL(w.results[ticket].err.code, -EINVAL);
	CU_ASSERT_STRING_EQUAL(
		w.results[ticket].err.text, "rank 1: the tensor is bad");
	CU_ASSERT_EQUAL(adapters_find(w.adapters, "a"), 0);
	CU_ASSERT_FALSE(in_table(&w, "a"));
	close_world(&w);
}

static void test_load__names(void)
{
	static const char *const bad[] = {
		"", "-a", " a", "a ", "a\nb", "a\"", "a\\", "\xff", "a\x7f"};
	static struct world w;
	char longest[ADAPTER_NAME_BYTES + 1];
	uint32_t before = suite_count_descriptors();

	open_world(&w);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(order(&w, bad[i], LOAD, &err), 0);
		CU_ASSERT_EQUAL(err.code, -EINVAL);
	}
	memset(longest, 'x', sizeof(longest));
	longest[ADAPTER_NAME_BYTES] = '\0';
	CU_ASSERT_EQUAL(order(&w, longest, LOAD, NULL), 0);
	longest[ADAPTER_NAME_BYTES - 1] = '\0';
	CU_ASSERT_NOT_EQUAL(order(&w, longest, LOAD, NULL), 0);
	CU_ASSERT_NOT_EQUAL(order(&w, "a b", LOAD, NULL), 0);
	close_world(&w);
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
}

static void test_load__as_many_as_there_are_numbers(void)
{
	static struct world w;
	struct error err = {0};
	char name[16];

	open_world(&w);
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		(void)make_live(&w, name);
	}
	CU_ASSERT_EQUAL(order(&w, "more", LOAD, &err), 0);
	CU_ASSERT_EQUAL(err.code, -ENOSPC);
	CU_ASSERT_EQUAL(order(&w, "n7", REPLACE, NULL), 0);
	close_world(&w);
}

static void test_unload__drops_after_the_dataplane_has_seen(void)
{
	static struct world w;
	struct error err = {0};
	uint32_t number;
	uint64_t first, second;

	open_world(&w);
	number = make_live(&w, "a");
	look(&w);
	tell(&w);
	bind_one(&w, adapters_find(w.adapters, "a"), 0);
	first = unload(&w, "a", false, &err);
	CU_ASSERT_FALSE(in_table(&w, "a"));
	adapters_turn(w.adapters);
	CU_ASSERT_EQUAL(w.ranks[0].held[number].drops, 0);
	CU_ASSERT_TRUE(adapters_pending(w.adapters));
	/* Bound by what it knew: allowed until it has said so. */
	bind_one(&w, 1, 1);
	see_all(&w);
	CU_ASSERT_EQUAL(w.ranks[0].held[number].drops, 1);
	second = unload(&w, "a", true, &err);
	CU_ASSERT_EQUAL(w.ranks[0].held[number].drops, 2);
	CU_ASSERT_TRUE(w.ranks[0].held[number].now);
	answer_drops(&w, 1, number);
	CU_ASSERT_FALSE(w.ended[first]);
	answer_drops(&w, 0, number);
	CU_ASSERT_TRUE(w.ended[first] && w.ended[second]);
	CU_ASSERT_EQUAL(w.results[first].err.code, 0);
	CU_ASSERT_EQUAL(adapters_find(w.adapters, "a"), 0);
	close_world(&w);
}

static void test_unload__counts_the_pages_and_believes_the_books(void)
{
	static struct world w;
	struct adapter_book book = {
		.state = ADAPTER_RESIDENT, .page_bytes = 7 * UINT64_C(65536)};
	uint32_t number;
	uint64_t ticket;

	open_world(&w);
	number = make_live(&w, "a");
	book.serial = w.ranks[0].held[number].serial;
	for (uint32_t r = 0; r < RANKS; r++) {
		struct rank_books *books = segment_rank_books(&w.segment, r);

		books->page_size_bytes = 65536;
		adapter_book_write(books, number, &book);
	}
	ticket = unload(&w, "a", false, NULL);
	see_all(&w);
	adapter_book_write(segment_rank_books(&w.segment, 0), number,
		&(struct adapter_book){0});
	answer_drops(&w, 0, number);
	answer_drops(&w, 1, number); /* and its book stays */
	CU_ASSERT_TRUE(w.ended[ticket]);
	CU_ASSERT_EQUAL(w.results[ticket].page_count, 14);
	CU_ASSERT_EQUAL(w.results[ticket].page_bytes, 14 * UINT64_C(65536));
	CU_ASSERT_EQUAL(w.results[ticket].err.code, -EIO);
	close_world(&w);
}

static void test_unload__pinned_busy_unknown(void)
{
	static struct world w;
	struct error err = {0};

	open_world(&w);
	CU_ASSERT_EQUAL(unload(&w, "a", false, &err), 0);
	CU_ASSERT_EQUAL(err.code, -ENOENT);
	error_clear(&err);
	CU_ASSERT_EQUAL(adapters_pin(w.adapters, "a", true, &err), -ENOENT);
	(void)make_live(&w, "a");
	error_clear(&err);
	CU_ASSERT_EQUAL(adapters_pin(w.adapters, "a", true, &err), 0);
	CU_ASSERT_EQUAL(unload(&w, "a", true, &err), 0);
	CU_ASSERT_EQUAL(err.code, -EPERM);
	CU_ASSERT_TRUE(in_table(&w, "a"));
	CU_ASSERT_NOT_EQUAL(order(&w, "a", REPLACE, NULL), 0);
	CU_ASSERT_EQUAL(adapters_pin(w.adapters, "a", false, NULL), 0);
	error_clear(&err);
	CU_ASSERT_EQUAL(unload(&w, "a", true, &err), 0);
	CU_ASSERT_EQUAL(err.code, -EBUSY);
	close_world(&w);
}

static void test_unload_now__cancels_a_load(void)
{
	static struct world w;
	struct error err = {0};
	uint64_t load, gone;
	uint32_t number;

	open_world(&w);
	load = order(&w, "a", LOAD, &err);
	number = number_of(&w, "a");
	CU_ASSERT_EQUAL(unload(&w, "a", false, &err), 0);
	CU_ASSERT_EQUAL(err.code, -EBUSY);
	gone = unload(&w, "a", true, NULL);
	CU_ASSERT_TRUE(w.ended[load]);
	CU_ASSERT_EQUAL(w.results[load].err.code, -ECANCELED);
	CU_ASSERT_EQUAL(w.ranks[0].held[number].drops, 1);
	answer_drops(&w, 0, number);
	/* This one was there before the DROP came. */
	answer_load(&w, 1, number, 0);
	CU_ASSERT_FALSE(in_table(&w, "a"));
	answer_drops(&w, 1, number);
	CU_ASSERT_TRUE(w.ended[gone]);
	CU_ASSERT_EQUAL(w.results[gone].err.code, 0);
	close_world(&w);
}

static void test_replace__old_requests_keep_the_old(void)
{
	static struct world w;
	struct error err = {0};
	struct adapter_entry entry;
	uint32_t old, fresh;
	uint64_t ticket;

	open_world(&w);
	old = make_live(&w, "a");
	look(&w);
	bind_one(&w, 1, 0);
	ticket = order(&w, "a", REPLACE, &err);
	fresh = adapters_name(w.adapters, 1)->other;
	answer_load(&w, 0, fresh, 0);
	(void)adapter_table_find(
		segment_adapter_table(&w.segment), "a", 1, &entry, NULL);
	CU_ASSERT_EQUAL(entry.instance, old);
	answer_load(&w, 1, fresh, 0);
	(void)adapter_table_find(
		segment_adapter_table(&w.segment), "a", 1, &entry, NULL);
	CU_ASSERT_EQUAL(entry.instance, fresh);
	CU_ASSERT_FALSE(w.ended[ticket]);
	see_all(&w);
	CU_ASSERT_TRUE(w.ended[ticket]);
	CU_ASSERT_EQUAL(w.results[ticket].instance, fresh);
	/* The old one is still in use. */
	CU_ASSERT_EQUAL(order(&w, "a", REPLACE, &err), 0);
	CU_ASSERT_EQUAL(err.code, -EBUSY);
	w.ranks[0].held[old].users = 0;
	answer_drops(&w, 0, old);
	answer_drops(&w, 1, old);
	CU_ASSERT_NOT_EQUAL(order(&w, "a", REPLACE, NULL), 0);
	close_world(&w);
}

static void test_replace__no_room_keeps_the_old_and_offers_drain(void)
{
	static struct world w;
	uint32_t old, fresh;
	uint64_t ticket;

	open_world(&w);
	old = make_live(&w, "a");
	ticket = order(&w, "a", REPLACE, NULL);
	fresh = adapters_name(w.adapters, 1)->other;
	answer_load(&w, 0, fresh, -ENOMEM);
	answer_drops(&w, 1, fresh);
	CU_ASSERT_TRUE(w.ended[ticket]);
	CU_ASSERT_EQUAL(w.results[ticket].err.code, -ENOMEM);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(w.results[ticket].err.text, "replace with --drain"));
	CU_ASSERT_EQUAL(number_of(&w, "a"), old);
	CU_ASSERT_TRUE(in_table(&w, "a"));
	close_world(&w);
}

static void test_replace_drain__one_copy_at_a_time(void)
{
	static struct world w;
	struct adapter_entry entry;
	uint32_t old, fresh;
	uint64_t ticket;

	open_world(&w);
	old = make_live(&w, "a");
	ticket = order(&w, "a", DRAIN, NULL);
	fresh = number_of(&w, "a");
	(void)adapter_table_find(
		segment_adapter_table(&w.segment), "a", 1, &entry, NULL);
	CU_ASSERT_EQUAL(entry.rank_mask, 0);
	see_all(&w);
	CU_ASSERT_EQUAL(w.ranks[0].held[fresh].serial, 0);
	answer_drops(&w, 0, old);
	answer_drops(&w, 1, old);
	CU_ASSERT_TRUE(w.ranks[0].held[fresh].loading);
	answer_load(&w, 0, fresh, 0);
	answer_load(&w, 1, fresh, 0);
	CU_ASSERT_TRUE(w.ended[ticket]);
	(void)adapter_table_find(
		segment_adapter_table(&w.segment), "a", 1, &entry, NULL);
	CU_ASSERT_EQUAL(entry.rank_mask, 3);
	/* And when the new one cannot be had, the name is gone. */
	ticket = order(&w, "a", DRAIN, NULL);
	old = fresh;
	fresh = number_of(&w, "a");
	see_all(&w);
	answer_drops(&w, 0, old);
	answer_drops(&w, 1, old);
	answer_load(&w, 0, fresh, -EINVAL);
	answer_drops(&w, 1, fresh);
	CU_ASSERT_TRUE(w.ended[ticket]);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(w.results[ticket].err.text, "unloaded first"));
	CU_ASSERT_FALSE(in_table(&w, "a"));
	CU_ASSERT_EQUAL(adapters_find(w.adapters, "a"), 0);
	close_world(&w);
}

/* Ranks, the table and the registry say the same of every name that serves. */
static void check_weights(const struct world *w)
{
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
		const struct adapters_name *name =
			adapters_name(w->adapters, i);
		struct adapter_entry entry;

		if (!name || !in_table(w, name->name))
			continue;
		(void)adapter_table_find(segment_adapter_table(&w->segment),
			name->name, strlen(name->name), &entry, NULL);
		CU_ASSERT_EQUAL(entry.weight, name->weight);
		for (uint32_t r = 0; r < RANKS; r++)
			CU_ASSERT_EQUAL(w->ranks[r].weight[i], name->weight);
	}
}

static void test_weigh__every_rank_hears_of_it(void)
{
	static struct world w;
	struct error err = {0};

	open_world(&w);
	CU_ASSERT_EQUAL(adapters_weigh(w.adapters, "a", 2, &err), -ENOENT);
	(void)make_live(&w, "b");
	(void)make_live(&w, "a");
	CU_ASSERT_EQUAL(adapters_weigh(w.adapters, "a", 0, NULL), -EINVAL);
	CU_ASSERT_EQUAL(adapters_weigh(w.adapters, "a", 1001, NULL), -EINVAL);
	check_weights(&w);
	CU_ASSERT_EQUAL(adapters_weigh(w.adapters, "a", 7, &err), 0);
	CU_ASSERT_EQUAL(
		adapters_name(w.adapters, adapters_find(w.adapters, "a"))
			->weight,
		7);
	check_weights(&w);
	CU_ASSERT_FALSE(adapters_pending(w.adapters));
	/* The second rank takes nothing now, and is told later. */
	w.fail_in = 1;
	CU_ASSERT_EQUAL(adapters_weigh(w.adapters, "a", 1000, &err), 0);
	CU_ASSERT_EQUAL(w.ranks[1].weight[adapters_find(w.adapters, "a")], 7);
	CU_ASSERT_TRUE(adapters_pending(w.adapters));
	adapters_turn(w.adapters);
	CU_ASSERT_FALSE(adapters_pending(w.adapters));
	check_weights(&w);
	/* One that is down hears of it with its loads. */
	kill_rank(&w, 0, false);
	CU_ASSERT_EQUAL(adapters_weigh(w.adapters, "a", 3, &err), 0);
	start_rank(&w, 0);
	check_weights(&w);
	close_world(&w);
}

static void test_death__the_next_life_gets_what_lives(void)
{
	static struct world w;
	struct adapter_entry entry;
	uint32_t live, going;
	uint64_t ticket;

	open_world(&w);
	live = make_live(&w, "a");
	going = make_live(&w, "b");
	ticket = unload(&w, "b", false, NULL);
	see_all(&w);
	answer_drops(&w, 1, going);
	kill_rank(&w, 0, true);
	(void)adapter_table_find(
		segment_adapter_table(&w.segment), "a", 1, &entry, NULL);
	CU_ASSERT_EQUAL(entry.rank_mask, 2);
	CU_ASSERT_FALSE(w.ended[ticket]);
	start_rank(&w, 0);
	CU_ASSERT_TRUE(w.ranks[0].held[live].loading);
	CU_ASSERT_TRUE(w.ranks[0].held[going].loading);
	CU_ASSERT_EQUAL(w.ranks[0].first_left, 0);
	CU_ASSERT_TRUE(adapters_rank_loads(w.adapters, 0));
	answer_load(&w, 0, live, 0);
	answer_load(&w, 0, going, 0);
	CU_ASSERT_FALSE(adapters_rank_loads(w.adapters, 0));
	CU_ASSERT_EQUAL(w.ranks[0].held[going].drops, 1);
	answer_drops(&w, 0, going);
	CU_ASSERT_TRUE(w.ended[ticket]);
	(void)adapter_table_find(
		segment_adapter_table(&w.segment), "a", 1, &entry, NULL);
	CU_ASSERT_EQUAL(entry.rank_mask, 3);
	/* Where nobody waits, what was going is gone. */
	going = make_live(&w, "b");
	ticket = unload(&w, "b", false, NULL);
	see_all(&w);
	answer_drops(&w, 1, going);
	kill_rank(&w, 0, false);
	CU_ASSERT_TRUE(w.ended[ticket]);
	/* A life that cannot have it serves without. */
	start_rank(&w, 0);
	answer_load(&w, 0, live, -ENOMEM);
	(void)adapter_table_find(
		segment_adapter_table(&w.segment), "a", 1, &entry, NULL);
	CU_ASSERT_EQUAL(entry.rank_mask, 2);
	close_world(&w);
}

static void test_answers__of_nothing_that_is_there(void)
{
	static struct world w;

	open_world(&w);
	(void)make_live(&w, "a");
	answer(&w, 0, 1, ENGINE_ADAPTER_LOAD, -EIO);
	answer(&w, 0, 1, ENGINE_ADAPTER_DROP, 0);
	answer(&w, 0, 9, ENGINE_ADAPTER_DROP, 0);
	adapters_answered(w.adapters, RANKS, &(struct engine_answer){0});
	adapters_answered(
		w.adapters, 0, &(struct engine_answer){.instance = UINT32_MAX});
	CU_ASSERT_TRUE(in_table(&w, "a"));
	close_world(&w);
}

/* --- every send fails once ------------------------------------------------------------------ */

static void finish_all(struct world *w)
{
	for (int round = 0; round < 64; round++) {
		for (uint32_t r = 0; r < RANKS; r++)
			for (uint32_t n = 1; n < INSTANCE_COUNT_MAX; n++) {
				struct held *h = &w->ranks[r].held[n];

				if (h->loading && h->drops == 0)
					answer_load(w, r, n, 0);
				h->users = 0;
				if (h->drops > 0)
					answer_drops(w, r, n);
			}
		see_all(w);
	}
}

static void test_send__the_nth_fails_for_every_n(void)
{
	static struct world w;
	uint32_t before = suite_count_descriptors();

	for (int n = 0;; n++) {
		open_world(&w);
		w.fail_in = n;
		CU_ASSERT_NOT_EQUAL(order(&w, "a", LOAD, NULL), 0);
		finish_all(&w);
		CU_ASSERT_EQUAL(adapters_weigh(w.adapters, "a", 5, NULL), 0);
		CU_ASSERT_NOT_EQUAL(order(&w, "a", REPLACE, NULL), 0);
		finish_all(&w);
		check_weights(&w);
		CU_ASSERT_NOT_EQUAL(order(&w, "a", DRAIN, NULL), 0);
		finish_all(&w);
		CU_ASSERT_TRUE(in_table(&w, "a"));
		CU_ASSERT_NOT_EQUAL(unload(&w, "a", false, NULL), 0);
		finish_all(&w);
		for (uint32_t t = 1; t <= w.ticket; t++) {
			CU_ASSERT_TRUE(w.ended[t]);
			CU_ASSERT_EQUAL(w.results[t].err.code, 0);
		}
		CU_ASSERT_EQUAL(adapters_find(w.adapters, "a"), 0);
		close_world(&w);
		if (w.fail_in >= 0)
			break;
	}
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
}

/* --- anything in any order ------------------------------------------------------------------- */

static void answer_something(struct world *w, uint64_t *random)
{
	uint32_t r = suite_below(random, RANKS);
	uint32_t from = suite_below(random, INSTANCE_COUNT_MAX);

	for (uint32_t i = 0; i < INSTANCE_COUNT_MAX; i++) {
		uint32_t n = (from + i) % INSTANCE_COUNT_MAX;
		struct held *h = &w->ranks[r].held[n];

		if (!w->ranks[r].runs || !h->serial)
			continue;
		if (h->drops > 0 && (h->users == 0 || h->now)) {
			answer_drops(w, r, n);
			return;
		}
		if (h->loading) {
			answer_load(
				w, r, n, suite_below(random, 8) ? 0 : -ENOMEM);
			return;
		}
	}
}

/* One of the names that the copy holds. */
static void bind_something(struct world *w, uint64_t *random)
{
	uint32_t from = suite_below(random, ADAPTER_ENTRY_COUNT_MAX);

	for (uint32_t i = 0; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
		uint32_t index = (from + i) % ADAPTER_ENTRY_COUNT_MAX;

		if (!w->seen[index].instance)
			continue;
		bind_one(w, index, suite_below(random, RANKS));
		return;
	}
}

static void end_a_request(struct world *w, uint64_t *random)
{
	struct held *h =
		&w->ranks[suite_below(random, RANKS)]
			 .held[suite_below(random, INSTANCE_COUNT_MAX)];

	for (uint32_t r = 0; h->users == 0 && r < RANKS; r++)
		for (uint32_t n = 1; h->users == 0 && n < INSTANCE_COUNT_MAX;
			n++)
			h = &w->ranks[r].held[n];
	if (h->users > 0)
		h->users--;
}

static void ask_something(struct world *w, uint64_t *random)
{
	char name[] = {(char)('a' + suite_below(random, NAMES)), '\0'};
	uint32_t what = suite_below(random, 12);

	(void)adapters_weigh(
		w->adapters, name, 1 + suite_below(random, 1000), NULL);
	if (what < 4)
		(void)order(w, name, LOAD, NULL);
	else if (what < 7)
		(void)order(w, name, REPLACE, NULL);
	else if (what < 8)
		(void)order(w, name, DRAIN, NULL);
	else
		(void)unload(w, name, what == 11, NULL);
}

static void live_or_die(struct world *w, uint64_t *random)
{
	uint32_t r = suite_below(random, RANKS);

	if (!w->ranks[r].runs)
		start_rank(w, r);
	else if (suite_below(random, 4) == 0)
		kill_rank(w, r, suite_below(random, 2) == 0);
}

/* A copy of the naive kind: who is there, and how many of a name. */
static void check_names(const struct world *w)
{
	uint32_t of_name[ADAPTER_ENTRY_COUNT_MAX] = {0};

	for (uint32_t n = 1; n < INSTANCE_COUNT_MAX; n++) {
		const struct adapters_instance *instance =
			adapters_instance(w->adapters, n);

		if (instance) {
			CU_ASSERT_TRUE(++of_name[instance->name] <= 2);
			continue;
		}
		/* What the registry forgot is on no rank that runs. */
		for (uint32_t r = 0; r < RANKS; r++)
			CU_ASSERT_TRUE(!w->ranks[r].runs ||
				       w->ranks[r].held[n].serial == 0);
	}
}

static void test_random__a_request_finds_what_it_is_bound_to(void)
{
	static struct world w;
	uint64_t random = suite_seed(20260901);
	uint32_t before = suite_count_descriptors();

	open_world(&w);
	for (uint32_t step = 0; step < 30000; step++) {
		switch (suite_below(&random, 8)) {
		case 0:
			if (w.ticket + 2 < TICKETS)
				ask_something(&w, &random);
			break;
		case 1:
			look(&w);
			break;
		case 2:
			tell(&w);
			adapters_turn(w.adapters);
			break;
		case 3:
			bind_something(&w, &random);
			break;
		case 4:
			end_a_request(&w, &random);
			break;
		case 5:
			w.fail_in = (int)suite_below(&random, 4) - 1;
			if (suite_below(&random, 64) == 0)
				live_or_die(&w, &random);
			break;
		default:
			answer_something(&w, &random);
		}
		if (step % 16 == 0)
			check_names(&w);
	}
	w.fail_in = -1;
	for (uint32_t r = 0; r < RANKS; r++)
		if (!w.ranks[r].runs)
			start_rank(&w, r);
	finish_all(&w);
	check_weights(&w);
	for (uint32_t i = 0; i < NAMES; i++)
		(void)unload(&w, (char[]){(char)('a' + i), '\0'}, true, NULL);
	finish_all(&w);
	for (uint32_t t = 1; t <= w.ticket; t++)
		CU_ASSERT_EQUAL(w.asked[t], w.ended[t]);
	for (uint32_t n = 1; n < INSTANCE_COUNT_MAX; n++)
		CU_ASSERT_PTR_NULL(adapters_instance(w.adapters, n));
	check_names(&w);
	printf(" (%u operations, %u sends, %u requests) ", w.ticket, w.sends,
		w.binds);
	CU_ASSERT_TRUE(w.binds > 300);
	close_world(&w);
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(load__serves_when_it_is_on_every_rank),
		SUITE_CASE(load__a_failure_is_taken_back_everywhere),
		SUITE_CASE(load__names),
		SUITE_CASE(load__as_many_as_there_are_numbers),
		SUITE_CASE(unload__drops_after_the_dataplane_has_seen),
		SUITE_CASE(unload__counts_the_pages_and_believes_the_books),
		SUITE_CASE(unload__pinned_busy_unknown),
		SUITE_CASE(unload_now__cancels_a_load),
		SUITE_CASE(replace__old_requests_keep_the_old),
		SUITE_CASE(replace__no_room_keeps_the_old_and_offers_drain),
		SUITE_CASE(replace_drain__one_copy_at_a_time),
		SUITE_CASE(weigh__every_rank_hears_of_it),
		SUITE_CASE(death__the_next_life_gets_what_lives),
		SUITE_CASE(answers__of_nothing_that_is_there),
		SUITE_CASE(send__the_nth_fails_for_every_n),
		SUITE_CASE(random__a_request_finds_what_it_is_bound_to),
	};

	return SUITE_MAIN("adapters", cases);
}
