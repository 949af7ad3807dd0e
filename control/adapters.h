/* adapters.h - which adapters there are, and what becomes of them (control) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  the registry of names, and the life of the instances behind them on
 *        all ranks. Nothing here waits: operations begin, go on by answers of
 *        ranks, by what the dataplane has seen (base/adapters.h) and by
 *        turns, and end with one call of `ended` for each who asked.
 *
 *   load:    LOAD to every rank -> all resident -> the name is in the table
 *   unload:  the name leaves the table -> seen -> DROP to every rank -> all
 *            answered: the memory is free
 *   replace: LOAD of a second instance -> all resident -> the name leads to
 *            it -> seen (the operation ends) -> DROP of the first
 *   replace with drain: the name leads to no rank -> seen -> DROP -> LOAD
 *
 * Instance: HELD -> LOADING -> LIVE -> LEAVING -> DROPPING -> gone. A LOAD
 *        that fails on one rank goes to DROPPING: it is taken back on all.
 *        At most two instances of a name are there at a time.
 * Ranks: one that dies loses everything; its next life is sent LOADs of all
 *        that lives here, and where requests wait for it also of what they
 *        are the last users of (adapters_rank_starts()).
 * Pinned: unload refuses; replace does not, the name stays.
 * Ownership: files are the registry's while an instance is there, so that a
 *        later life of a rank can load it whatever became of the directory.
 * Threads: one.
 */
#ifndef HEDDLE_CONTROL_ADAPTERS_H
#define HEDDLE_CONTROL_ADAPTERS_H

#include "base/clock.h"
#include "base/segment.h"
#include "engine/mail.h"

#define ADAPTERS_TICKET_COUNT_MAX 8 /* who wait for one operation */
#define ADAPTERS_DIRECTORY_BYTES 1024

enum adapters_phase {
	ADAPTERS_NONE,
	ADAPTERS_HELD, /* waits for the memory of the one it replaces */
	ADAPTERS_LOADING,
	ADAPTERS_LIVE,
	ADAPTERS_LEAVING, /* until the dataplane binds nothing to it */
	ADAPTERS_DROPPING
};

/* What there is with one rank about one instance. */
struct adapters_part {
	bool load_due; /* to be sent */
	bool must_load; /* its rank counts on it */
	bool load_open; /* sent, not answered */
	bool resident;
	bool drop_due;
	bool dropped; /* a DROP was sent in this life */
	bool dropped_now; /* one with `now` */
	uint32_t drops_open;
};

struct adapters_instance {
	enum adapters_phase phase;
	uint32_t number, serial, name; /* name: index of the entry */
	struct adapters_part parts[RANK_COUNT_MAX];
	struct adapter_files files; /* owned */
	char directory[ADAPTERS_DIRECTORY_BYTES];
	bool now; /* its users are cancelled */
	uint64_t leave_version; /* the dataplane must have seen it */
	uint64_t begun_ns, live_ns, leave_ns;
	uint64_t page_count, page_bytes; /* that a DROP gives back */
	struct error err; /* why it failed, or is not on some rank */
};

enum adapters_op {
	ADAPTERS_IDLE,
	ADAPTERS_LOAD,
	ADAPTERS_UNLOAD,
	ADAPTERS_REPLACE,
	ADAPTERS_DRAIN_REPLACE
};

struct adapters_name {
	bool used;
	char name[ADAPTER_NAME_BYTES];
	bool pinned;
	uint32_t weight;
	uint32_t weight_due; /* mask of ranks that have not been told */
	uint64_t created_s;
	uint32_t current, other; /* instances; 0 = none */
	enum adapters_op op;
	uint64_t tickets[ADAPTERS_TICKET_COUNT_MAX];
	uint32_t ticket_count;
	uint64_t page_count, page_bytes; /* given back by this operation */
	struct error err; /* of this operation */
};

struct adapters_result {
	struct error err; /* code 0 = done */
	enum adapters_op op;
	char name[ADAPTER_NAME_BYTES];
	uint32_t instance, serial; /* that serves now */
	uint64_t page_count, page_bytes; /* that came back */
	uint64_t load_ns;
};

struct adapters_hooks {
	void *arg;
	/* Hand a command to a rank; what fails is tried again. */
	int (*send)(
		void *arg, uint32_t rank, const struct engine_command *command);
	void (*ended)(void *arg, uint64_t ticket,
		const struct adapters_result *result);
};

struct adapters; /* private */

/* The segment's table and books; borrowed. -ENOMEM. */
int adapters_create(const struct segment *segment,
	const struct adapters_hooks *hooks, struct adapters **out);
/* Closes the files; ends nothing. NULL is allowed. */
void adapters_destroy(struct adapters *adapters);

/* --- operations: 0 = begun, `ended` follows for the ticket --------------------- */

struct adapters_order {
	const char *name;
	const char *directory; /* for people */
	struct adapter_files *files; /* taken in any case */
	uint32_t weight; /* 0 = 1, or as it was */
	bool pinned;
	bool drain; /* replace: unload first */
	uint64_t ticket; /* 0 = nobody waits */
};

/* -EINVAL, -EEXIST, -EBUSY, -ENOSPC: nothing has changed. */
int adapters_load(struct adapters *adapters, const struct adapters_order *order,
	struct error *err);

/* -ENOENT, -EBUSY (loading, or two instances are there). */
int adapters_replace(struct adapters *adapters,
	const struct adapters_order *order, struct error *err);

/*
 * -ENOENT, -EPERM (pinned), -EBUSY. With `now` a load is cancelled, and an
 * unload that waits for its users waits no longer.
 */
int adapters_unload(struct adapters *adapters, const char *name, bool now,
	uint64_t ticket, struct error *err);

/* -ENOENT. */
int adapters_pin(struct adapters *adapters, const char *name, bool pinned,
	struct error *err);

/*
 * The share of a name, from now on; no load carries an older one. -ENOENT,
 * -EINVAL.
 */
int adapters_weigh(struct adapters *adapters, const char *name, uint32_t weight,
	struct error *err);

/* --- events ------------------------------------------------------------------------ */

/* Its process ended; `resumes`: requests wait for the next one. */
void adapters_rank_died(struct adapters *adapters, uint32_t rank, bool resumes);

/* A process is about to start; returns how many LOADs it will be sent. */
uint32_t adapters_rank_starts(struct adapters *adapters, uint32_t rank);

/* May commands be sent to it? */
void adapters_rank_up(struct adapters *adapters, uint32_t rank, bool up);

void adapters_answered(struct adapters *adapters, uint32_t rank,
	const struct engine_answer *answer);

/* Go on with everything. */
void adapters_turn(struct adapters *adapters);

/* Does a turn soon make sense, though nothing happened? */
bool adapters_pending(const struct adapters *adapters);

/* Is a LOAD that the rank counts on not answered yet? */
bool adapters_rank_loads(const struct adapters *adapters, uint32_t rank);

/* --- looking ------------------------------------------------------------------------ */

/* Entry 1 .. ADAPTER_ENTRY_COUNT_MAX - 1; NULL: not used. */
const struct adapters_name *adapters_name(
	const struct adapters *adapters, uint32_t index);
/* Index, 0 = there is no such name. */
uint32_t adapters_find(const struct adapters *adapters, const char *name);
/* NULL for 0. */
const struct adapters_instance *adapters_instance(
	const struct adapters *adapters, uint32_t number);
const char *adapters_op_name(enum adapters_op op);

#endif
