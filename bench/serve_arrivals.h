/* serve_arrivals.h - when each request is due (a law, a seed -> instants) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     an open loop sends on time whatever the server does, and counts
 *          latency from the instant that was due. So all instants are fixed
 *          before the start; a slow answer cannot thin the load out.
 * Threads: pure.
 */
#ifndef HEDDLE_BENCH_SERVE_ARRIVALS_H
#define HEDDLE_BENCH_SERVE_ARRIVALS_H

#include <stddef.h>
#include <stdint.h>

enum serve_arrival {
	SERVE_AT_ONCE, /* rate inf: all at instant 0 */
	SERVE_CONSTANT, /* i / rate */
	SERVE_POISSON,
	SERVE_GAMMA /* gaps of shape `burstiness`, mean 1 / rate */
};

struct serve_arrivals {
	enum serve_arrival kind;
	double rate; /* requests per second, > 0 (not SERVE_AT_ONCE) */
	double burstiness; /* SERVE_GAMMA: 1 / cv^2; 1 is Poisson */
	uint64_t seed;
};

/* Nanoseconds after the start, ascending, the first after one gap. */
void serve_arrivals_fill(
	const struct serve_arrivals *arrivals, uint64_t *at_ns, size_t count);

#endif
