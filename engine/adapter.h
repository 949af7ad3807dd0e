/* adapter.h - the adapters of one rank: load, unload, replace, bind */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   an adapter has a name, which clients choose by, and instances, which
 *        requests carry; the memory manager knows only instances. This is
 *        where names become instances, and where an adapter comes and goes
 *        while others are in use.
 *
 * States of an instance:
 *        ABSENT -> STAGING -> LOADING -> RESIDENT -> DRAINING -> ABSENT
 *        STAGING   files are being read and checked; no memory is taken
 *        LOADING   slots and pages are taken, bytes are on their way
 *        RESIDENT  published; requests may be bound to it
 *        DRAINING  no request is bound any more; it goes with the last one
 *        From STAGING and LOADING a failure leads back to ABSENT, with
 *        nothing left behind. Should the fence before that fail, the
 *        instance is DRAINING under no name, and adapter_reap() tries again.
 *
 * Two ways: by name, with the rules below; or by handle (adapter_reserve()),
 *        for whoever has a table of names of its own and only wants
 *        instances to come and go beside each other.
 * Invariants: by name, at most one RESIDENT instance per name, at most two
 *        not ABSENT; an instance in LOADING, RESIDENT or DRAINING has a row
 *        of the expert map, and every row but the base's has an instance; a
 *        row is retired only when its users are 0, after a fence.
 * Replace: the new instance is loaded beside the old one; requests that carry
 *        the old one keep it to their end. A failed replace changes nothing.
 * Ownership: the set borrows the model until destroy; files are borrowed from
 *        stage to publish or abandon. Instances belong to the set.
 * Threads: one, the rank's, except adapter_copy(), which any one thread may
 *        run while the rank's thread runs steps, and which ends before
 *        adapter_publish() or adapter_abandon().
 */
#ifndef HEDDLE_ENGINE_ADAPTER_H
#define HEDDLE_ENGINE_ADAPTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/adapters.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/adapter_fill.h"
#include "engine/adapter_plan.h"
#include "engine/load.h"
#include "engine/reader.h"

/* What is known of one instance. */
struct adapter_info {
	char name[ADAPTER_NAME_BYTES]; /* "" = its load failed */
	enum adapter_state state;
	uint32_t instance; /* INSTANCE_NONE while staging */
	uint32_t expert_count; /* over all layers */
	uint32_t user_count; /* requests that carry it */
	uint64_t file_bytes; /* of its tensors, as stored */
	uint64_t done_bytes; /* of these, read so far */
	uint64_t used_bytes, page_bytes; /* slots, and the pages under them */
	struct mono since[ADAPTER_STATE_COUNT]; /* when it entered a state */
};

struct adapter; /* private; one instance on its way */
struct adapter_set; /* private */

/* Room for as many instances as the model's expert map has rows. -ENOMEM. */
int adapter_set_create(
	struct model *model, struct adapter_set **out, struct error *err);

/*
 * Nobody may use an instance any more; NULL is allowed. What a failing fence
 * keeps is the expert store's to destroy.
 */
void adapter_set_destroy(struct adapter_set *set);

/* ---- all at once ---- */

/*
 * -EEXIST: that name is there; -ENFILE: no free instance; -ENOMEM: pages or
 * slots are short; -EINVAL and others as adapter_plan_create() and
 * adapter_fill_run() say. On error nothing has changed. lane_count threads
 * read, at most READER_LANE_COUNT_MAX.
 */
int adapter_load(struct adapter_set *set, const char *name,
	const struct adapter_files *files, uint32_t lane_count,
	struct error *err);

/* -ENOENT: no such name is resident; -EBUSY: two instances of it are live. */
int adapter_replace(struct adapter_set *set, const char *name,
	const struct adapter_files *files, uint32_t lane_count,
	struct error *err);

/*
 * No request is bound to the name any more. 0: its pages are free; -EBUSY:
 * requests still carry it (the text says how many), adapter_reap() will
 * free them; -EIO: the fence failed, the same; -ENOENT. Calling it again is
 * allowed.
 */
int adapter_unload(
	struct adapter_set *set, const char *name, struct error *err);

/*
 * Free every DRAINING instance that no request carries. Returns how many are
 * left; err tells of a fence that failed.
 */
uint32_t adapter_reap(struct adapter_set *set, struct error *err);

/* ---- requests ---- */

/* The instance that a new request of this name carries; -ENOENT. */
int adapter_bind(struct adapter_set *set, const char *name, uint32_t *out);

/* One more request carries the instance, which some request carries. */
void adapter_hold(struct adapter_set *set, uint32_t instance);

/* A request that carried the instance has ended. */
void adapter_release(struct adapter_set *set, uint32_t instance);

/* ---- a load in its parts, to run steps in between ---- */

/*
 * Check the name and the files. `replace`: the name has to be resident, else
 * it must not be there.
 */
int adapter_stage(struct adapter_set *set, const char *name, bool replace,
	const struct adapter_files *files, struct adapter **out,
	struct error *err);

/* What adapter_map() will take of the pool, in pages. */
uint64_t adapter_page_count(
	const struct adapter_set *set, const struct adapter *adapter);

/* Take slots and pages and map them. On error it is still STAGING. */
int adapter_map(
	struct adapter_set *set, struct adapter *adapter, struct error *err);

/* Read every byte. May be called again after an error. pace: NULL = none. */
int adapter_copy(struct adapter *adapter, uint32_t lane_count,
	const struct adapter_pace *pace, struct reader_info *out,
	struct error *err);

/* After a copy that succeeded: new requests get it from now on. */
void adapter_publish(struct adapter_set *set, struct adapter *adapter);

/* Instead of publishing, from any state before. */
void adapter_abandon(struct adapter_set *set, struct adapter *adapter);

/*
 * The same, unmapping at most page_count_max of its pages. -EAGAIN: some are
 * left, and it is LOADING until a later call, or adapter_abandon(), is
 * through; nothing else may be done with it. 0: the handle is gone.
 */
int adapter_abandon_some(struct adapter_set *set, struct adapter *adapter,
	uint32_t page_count_max);

/* ---- by handle: names are for messages only ---- */

/*
 * Room for an instance, beside whatever has that name. STAGING, its files not
 * yet looked at: adapter_check() does that before adapter_map(). -ENFILE.
 */
int adapter_reserve(struct adapter_set *set, const char *name,
	const struct adapter_files *files, struct adapter **out,
	struct error *err);

/*
 * As adapter_copy(), any one thread may run it. -EINVAL and others. pace: as
 * the bytes of files that have a hash are read, by lane 0; NULL = none.
 */
int adapter_check(struct adapter *adapter, const struct adapter_pace *pace,
	struct error *err);

/* One more request carries it; adapter_release() as ever. */
void adapter_use(struct adapter *adapter);

/* RESIDENT -> DRAINING. */
void adapter_retire(struct adapter *adapter);

/*
 * DRAINING, and no request carries it: unmap at most page_count_max of its
 * pages, and when none is left free them all; the handle is gone. -EAGAIN:
 * some are left, call again. -EIO: the fence failed, this call changed nothing.
 */
int adapter_drop(struct adapter_set *set, struct adapter *adapter,
	uint32_t page_count_max, struct error *err);

/* ---- to look at ---- */

void adapter_look(const struct adapter *adapter, struct adapter_info *out);

/* Instances that are not ABSENT. */
uint32_t adapter_count(const struct adapter_set *set);

/* Number `index` < adapter_count() of them, in no particular order. */
void adapter_info_at(const struct adapter_set *set, uint32_t index,
	struct adapter_info *out);

/* Assert all invariants, the expert store's too. */
void adapter_set_check(const struct adapter_set *set);

#endif
