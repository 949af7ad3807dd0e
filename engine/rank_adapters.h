/* rank_adapters.h - which instances a rank has, and who uses them */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   adapters come and go by control's commands while requests run. What
 *        that means for requests, answers and books is the same for an engine
 *        that computes and one that only pretends: it is here. What it means
 *        for memory is the engine's, behind struct adapter_back.
 *
 *   engine_mail -> instances -> adapter_back (bytes, pages)
 *   requests -> hold, release        answers, struct rank_books <-
 *
 * Life:  LOAD -> (loads wait for each other, oldest first) STAGING -> LOADING
 *        -> RESIDENT -> DROP, once the request ring has been read up to where
 *        it was when the DROP was taken -> DRAINING -> last user gone ->
 *        ABSENT. A DROP of a load that is not done ends it.
 * Requests: carry (instance, serial). One whose instance is not RESIDENT with
 *        that serial is not taken; one that holds its instance keeps it to
 *        its end.
 * Ownership: files of commands that were taken; rank, mail, back end and
 *        segment are borrowed.
 * Threads: the rank's.
 */
#ifndef HEDDLE_ENGINE_RANK_ADAPTERS_H
#define HEDDLE_ENGINE_RANK_ADAPTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/adapters.h"
#include "base/clock.h"
#include "engine/mail.h"
#include "engine/rank.h"

/* A request may hold it from RESIDENT on, and does until it ends. */
struct adapter_back {
	void *arg;
	/*
	 * Begin or go on with a load. 0: it is there; -EINPROGRESS: it goes
	 * on, and the rank's wake is posted or `until` comes when there is
	 * more to do; else it failed and left nothing. `stop`: end it soon
	 * with -ECANCELED, or let it become resident. Between steps.
	 */
	int (*load)(void *arg, uint32_t instance,
		const struct engine_command *command, bool stop,
		struct error *err);
	/* Can load() do something now? */
	bool (*ready)(void *arg);
	/* A request holds it, a request lets go of it. */
	void (*hold)(void *arg, uint32_t instance);
	void (*release)(void *arg, uint32_t instance);
	/*
	 * Nobody holds it: free it. -EAGAIN: a part was freed, the next one
	 * waits for the next turn; -EIO: not now. Between steps.
	 */
	int (*drop)(void *arg, uint32_t instance, struct error *err);
	void (*weight)(void *arg, uint32_t entry, uint32_t weight);
	/* It shall end as cancelled, now or soon. */
	void (*cancel)(void *arg, uint32_t slot_index);
	/* State while loading, counts and bytes of an instance. */
	void (*look)(void *arg, uint32_t instance, struct adapter_book *out);
	/* All but the instances; the parts add up. */
	void (*pages)(void *arg, struct rank_books *out);
};

struct rank_adapters; /* private */

/*
 * The mail is taken from now on. first_loads: how many LOADs are answered
 * before the rank says that it is ready. Writes rank->adapters. -ENOMEM.
 */
int rank_adapters_create(struct rank *rank, struct engine_mail *mail,
	const struct adapter_back *back, uint32_t first_loads,
	struct rank_adapters **out);

/*
 * NULL is allowed. Holds that are left are released to the back end, loads
 * that are not done are not ended: the back end comes down after this.
 */
void rank_adapters_destroy(struct rank_adapters *adapters);

/*
 * Between steps: take commands, go on with a load, free what is free, write
 * the books if they are due. True: there may be more to do at once.
 */
bool rank_adapters_turn(struct rank_adapters *adapters, struct mono now);

/* Would a turn find something to do? */
bool rank_adapters_due(const struct rank_adapters *adapters);

/* After messages were taken in: drops whose requests have all come. */
void rank_adapters_taken_in(struct rank_adapters *adapters, struct mono now);

/* Some of the first loads have not been answered. */
bool rank_adapters_opening(const struct rank_adapters *adapters);

/*
 * Does it go as soon as its users have ended, without anything else that has
 * to come first? Never while first loads are open: users begin after them.
 */
bool rank_adapters_leaves(
	const struct rank_adapters *adapters, uint32_t instance);

/* False: no such instance takes requests. */
bool rank_adapters_hold(
	struct rank_adapters *adapters, uint32_t instance, uint32_t serial);

void rank_adapters_release(struct rank_adapters *adapters, uint32_t instance);

/* Assert all invariants, against the requests, too. */
void rank_adapters_check(const struct rank_adapters *adapters);

#endif
