/* dataplane_world.h - the whole dataplane and engines that pretend (-> turns) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    front.h over a back end, its text workers, and as many pretending
 *          engines (engine/null.h) as the rows take, in one process, so that
 *          what each part takes of a processor is known to the nanosecond.
 * Polled:  dataplane_world_turn() is the network thread: it turns the engines,
 *          then the front, and counts the time of the front's turns alone. So
 *          with the client's turn after it all happens in one thread, and two
 *          processors are enough: the other one is the text worker's.
 * Kernel:  the front has a thread of its own, which sleeps as in a node.
 * Again:   the client answers in the thread that asks. While that thread does
 *          not run within a turn no ACK can come, and TCP asks again; so what
 *          is sent again in turns that were not held up is counted apart.
 * Steps:   when each step of each engine was published is known for the last
 *          DATAPLANE_STEP_COUNT of them.
 * Threads: one calls all of these.
 */
#ifndef HEDDLE_BENCH_DATAPLANE_WORLD_H
#define HEDDLE_BENCH_DATAPLANE_WORLD_H

#include <pthread.h>

#include "dataplane/front_private.h"
#include "engine/null_private.h"

#define DATAPLANE_MODEL_NAME "bench"
#define DATAPLANE_STEP_COUNT 65536u /* a power of two */
#define DATAPLANE_RANK_COUNT_MAX 4u

struct dataplane_world_setup {
	const char *model; /* a folder with tokenizer.json */
	const char *device; /* of DPDK; NULL = the kernel's sockets */
	uint32_t address; /* IPv4 of the server */
	uint32_t connection_count, stream_count, output_max;
	bool tls;
};

struct dataplane_engine {
	struct null_engine null;
	uint64_t step_count;
	uint64_t step_ns[DATAPLANE_STEP_COUNT];
};

/* Nanoseconds of processors so far. */
struct dataplane_cpu {
	uint64_t net_ns; /* the network thread, where it had something to do */
	uint64_t text_ns; /* text workers */
	double stolen_s; /* of the machine */
};

/* What a polled world has in use. */
struct dataplane_usage {
	uint32_t buffers; /* of the port */
	uint64_t connections; /* of the front */
	uint32_t exchanges, slots, pages;
	size_t body_bytes;
	struct tcp_usage tcp;
};

struct dataplane_world {
	struct segment segment;
	int segment_fd, admin_fd, api_fd, tokenizer_fd;
	int certificate_fd, key_fd;
	struct front_setup *setup; /* owned */
	struct front *front; /* owned */
	struct dataplane_engine *engines; /* owned, [engine_count] */
	uint32_t engine_count;
	/* of the stream with seed i: its engine, and the step of token 0 */
	uint32_t *first_step; /* owned, [stream_count]; 0 = not yet */
	uint8_t *engine_of; /* owned, [stream_count] */
	uint32_t stream_count, started_count;
	bool polled, threaded;
	bool gate_closed; /* no step begins */
	pthread_t thread;
	struct error thread_err;
	uint64_t again_quick; /* segments sent again in turns that were short */
	uint64_t busy_ns; /* of turns with work, by the clock on the wall */
	uint64_t cpu_from_ns, wall_from_ns;
};

/* -errno with a text. */
int dataplane_world_open(const struct dataplane_world_setup *setup,
	struct dataplane_world *out, struct error *err);
/* Takes a zeroed struct. */
void dataplane_world_close(struct dataplane_world *world);

/* Steps last so long from now on; 0 = as fast as they are taken. */
void dataplane_world_pace(struct dataplane_world *world, uint32_t step_us);
/* While it is closed no step ends. */
void dataplane_world_gate(struct dataplane_world *world, bool closed);
/* The stream with this seed is asked for once more. */
void dataplane_world_forget(struct dataplane_world *world, uint32_t seed);
/* Tokens that were published so far. */
uint64_t dataplane_world_published(const struct dataplane_world *world);
void dataplane_world_turn(struct dataplane_world *world);
/* When token k of the stream with this seed was published; 0 = not known. */
uint64_t dataplane_world_token_ns(
	const struct dataplane_world *world, uint32_t seed, uint32_t k);
void dataplane_world_cpu(
	struct dataplane_world *world, struct dataplane_cpu *out);
void dataplane_world_usage(
	const struct dataplane_world *world, struct dataplane_usage *out);
#endif
