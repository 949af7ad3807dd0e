/* live_case.h - control and dataplane of adapters that come and go, for tests */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the test plays control and dataplane: it has a table of names, binds
 *        requests by it, posts loads, replaces and drops, and knows by a naive
 *        list what must be there. The truth of a request under an adapter is
 *        what an engine whose base was merged with that adapter says to it
 *        alone, to the bit. Every turn is followed by all checks.
 * Errors: CUnit assertions, and counts of what went wrong in the world.
 */
#ifndef HEDDLE_TESTS_LIVE_CASE_H
#define HEDDLE_TESTS_LIVE_CASE_H

#include "engine/rank_adapters.h"
#include "tests/serve_case.h"

#define LIVE_SOURCES 4u
#define LIVE_NAMES 3u /* entries 1 .. LIVE_NAMES of the table */
#define LIVE_NUMBERS 8u /* instances 1 .. LIVE_NUMBERS - 1 */

/* An adapter, and the truth of each kind of request under it. */
struct live_source {
	struct adapter_case a;
	struct serve_kind *kinds;
};

/* Shared by the cases: what a fixture costs is mostly its truth. */
struct live_library {
	struct model_config config;
	struct serve_kind *base;
	struct live_source sources[LIVE_SOURCES];
	bool made;
};

enum live_life { LIFE_NONE, LIFE_LOADS, LIFE_THERE, LIFE_LEAVES };

/* What the test knows of an instance. */
struct live_naive {
	enum live_life life;
	uint32_t serial, source, entry, drops;
	bool now; /* its requests may end as cancelled */
	bool may_fail; /* its files are not good, or change */
	bool changed; /* they are not what was signed */
	int rc; /* of its load */
	uint32_t served; /* requests that were told to the engine */
};

struct live_world {
	struct serve_stage stage;
	struct engine_mail *mail;
	struct live_naive naive[LIVE_NUMBERS];
	uint32_t current[LIVE_NAMES + 1]; /* instance of a name, 0 = none */
	uint32_t next[LIVE_NAMES + 1]; /* that is being loaded for it */
	uint32_t serial;
	/* of the request in a slot */
	uint32_t carries[SERVE_SLOTS], serial_of[SERVE_SLOTS];
	uint32_t source_of[SERVE_SLOTS];
	bool first_of[SERVE_SLOTS];
	uint64_t random;
	bool signs; /* files have hashes */
	bool changes; /* and those of the next load are not theirs */
	uint32_t finished, cancelled, loaded, refused, dropped, replaced;
	uint32_t kills, wrong, cached, foreign_hits;
};

/* Made with the first world. */
extern struct live_library live_library;
void live_library_release(void);

/* A small engine with room for a few adapters. */
struct engine_serve_options live_options(void);

/* options NULL: the engine that only pretends. */
void live_open(
	struct live_world *w, const struct engine_serve_options *options);
void live_close(struct live_world *w);

/* A mailbox for the engine that comes. */
void live_open_mail(struct live_world *w);

/* --- control's part --- */

/* A new instance for a name, which has one or not; bad files, unless good. */
void live_load(
	struct live_world *w, uint32_t entry, uint32_t source, bool good);
void live_unload(struct live_world *w, uint32_t entry, bool now);

/* The commands themselves. */
void live_post_load(struct live_world *w, uint32_t number);
void live_post_drop(struct live_world *w, uint32_t number, bool now);

/* --- the dataplane's part --- */

/* A request of that kind to that name, entry 0 = the base. */
void live_submit(
	struct live_world *w, uint32_t index, uint32_t kind, uint32_t entry);

/* --- time --- */

/* One turn; ends are judged, everything is checked. */
void live_turn(struct live_world *w);

/* Until every request has ended and every command is answered. */
void live_settle(struct live_world *w);

/* Load good files, until they are there. */
void live_must_load(struct live_world *w, uint32_t entry, uint32_t source);

/* All names go; not a page is left. */
void live_leave(struct live_world *w);

#endif
