/* dataplane_run.h - a server, its wire and its clients, turned together */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    one of five ways from a client to the dataplane: a ring in memory,
 *          the same with TLS, shared memory (memif), DPDK's af_packet on one
 *          end of a veth pair, or the kernel's sockets on the same end; the
 *          client is the same, at the other end.
 * Latency: from the moment a token was published in its ring to the moment its
 *          event was found at the client's end of the wire.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_DATAPLANE_RUN_H
#define HEDDLE_BENCH_DATAPLANE_RUN_H

#include "bench/dataplane_client.h"
#include "bench/dataplane_world.h"

enum dataplane_way {
	DATAPLANE_RING,
	DATAPLANE_RING_TLS,
	DATAPLANE_MEMIF,
	DATAPLANE_VETH,
	DATAPLANE_KERNEL
};
#define DATAPLANE_WAY_COUNT 5

struct dataplane_place {
	const char *model;
	/* Ends of the veth pair; NULL = there is none. */
	const char *nic, *wire;
};

struct dataplane_run_setup {
	enum dataplane_way way;
	uint32_t streams; /* that are asked for at once, at most */
	uint32_t tokens; /* of each */
	uint32_t ends; /* connections; at least streams */
	uint32_t seed_count; /* seeds are the numbers below; 0 = streams */
	/* Each so-manieth far end asks to be served once; 0 = none does. */
	uint32_t close_every;
	uint64_t fault_seed; /* the wire can harm; 0 = it cannot */
};

struct dataplane_run {
	struct dataplane_run_setup setup;
	struct dataplane_wire *wire; /* owned */
	struct dataplane_world world;
	struct dataplane_client client;
	/* latencies of the events so far, where they are taken */
	bool timed;
	uint32_t *samples; /* owned, nanoseconds */
	size_t sample_count, sample_room;
	/* of each step of engine 0: when the last event of it came */
	uint64_t *last_ns; /* owned, [DATAPLANE_STEP_COUNT] */
	uint64_t token_count, done_count;
	void (*on_done)(struct dataplane_run *run, uint32_t i); /* or NULL */
	void (*on_first)(struct dataplane_run *run, uint32_t i); /* or NULL */
	void (*on_token)(struct dataplane_run *run, uint32_t i); /* or NULL */
	void *arg;
};

/* -errno with a text; the server's MAC is known. */
int dataplane_run_open(const struct dataplane_place *place,
	const struct dataplane_run_setup *setup, struct dataplane_run *run,
	struct error *err);
void dataplane_run_close(struct dataplane_run *run);

void dataplane_run_turn(struct dataplane_run *run);
void dataplane_run_for(struct dataplane_run *run, double seconds);

/* Open far ends [from, to), some at a time. -ETIMEDOUT with a text. */
int dataplane_run_connect(struct dataplane_run *run, uint32_t from, uint32_t to,
	struct error *err);
/* Ask of [from, to) and, if `wait`, until all are answered. -ETIMEDOUT. */
int dataplane_run_ask(struct dataplane_run *run, uint32_t from, uint32_t to,
	bool wait, struct error *err);
/* Does far end i ask for one answer alone? */
bool dataplane_run_closes(const struct dataplane_run *run, uint32_t i);
/* Turn until no answer is open. */
int dataplane_run_settle(struct dataplane_run *run, struct error *err);

/* Of what has been sampled since the last reset, in nanoseconds. */
void dataplane_run_reset(struct dataplane_run *run);
double dataplane_percentile(uint32_t *values, size_t count, double percent);

#endif
