/* dataplane_private.h - what the files of dataplane*.c share */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_DATAPLANE_PRIVATE_H
#define HEDDLE_BENCH_DATAPLANE_PRIVATE_H

#include "bench/dataplane_run.h"
#include "bench/report.h"

#define DATAPLANE_ROUND_COUNT_MAX 32

struct dataplane_session {
	struct dataplane_place place;
	uint32_t parts; /* bits */
	double seconds; /* of a measurement */
	uint32_t rounds; /* of cost and attack, whose medians are told */
	double rate; /* events a second, where they are paced */
	uint32_t streams[8], stream_count; /* sizes of load */
	uint32_t exact, idle, many, soak_streams;
	double soak_seconds;
	uint64_t seed; /* of what soak does */
	const char *json, *svg;
	bool quiet, memif;
	struct report report;
	struct error err;
	bool missed;
};

/* A row without a limit, and one with the most that it may be. */
void dataplane_plain(struct dataplane_session *s, const char *name,
	double value, const char *unit);
void dataplane_bounded(struct dataplane_session *s, const char *name,
	double value, const char *unit, double limit);

/* dataplane_run_open() in memory of its own; NULL with s->err. */
struct dataplane_run *dataplane_run_new(
	struct dataplane_session *s, const struct dataplane_run_setup *setup);
void dataplane_run_free(struct dataplane_run *run);

/* Each a part; 0 or -errno with s->err. */
int dataplane_part_cost(struct dataplane_session *s);
int dataplane_part_exact(struct dataplane_session *s);
int dataplane_part_idle(struct dataplane_session *s);
int dataplane_part_attack(struct dataplane_session *s);
int dataplane_part_soak(struct dataplane_session *s);

#endif
