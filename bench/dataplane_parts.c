/* dataplane_parts.c - many streams, many idle (runs -> rows) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of them over the ring: there a frame is lost only where somebody says
 * so, and counts can be compared to the last one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/dataplane_private.h"
#include "bench/node.h"

#define SEED_COUNT 64u
#define EXACT_TOKENS 100u
#define IDLE_KIB_MAX 4.0
#define FIRST_COUNT 64u /* connections of a server for a few */
#define STILL_THERE 1000u /* every so-manieth is asked once more */
#define COUNT_S 0.25 /* counters are written ten times a second */

struct dataplane_run *dataplane_run_new(
	struct dataplane_session *s, const struct dataplane_run_setup *setup)
{
	struct dataplane_run *run = malloc(sizeof(*run));

	if (!run)
		error_set(&s->err, ENOMEM, "no memory for a run");
	else if (dataplane_run_open(&s->place, setup, run, &s->err) == 0)
		return run;
	free(run);
	return NULL;
}

void dataplane_run_free(struct dataplane_run *run)
{
	dataplane_run_close(run);
	free(run);
}

/* --- many streams, byte for byte ------------------------------------------- */

static int exact(struct dataplane_session *s, struct dataplane_run *run)
{
	uint64_t hashes[SEED_COUNT];
	uint32_t same = 0;
	int rc = dataplane_run_connect(run, 0, s->exact, &s->err);

	run->client.check = FAR_CHECK_BYTES;
	/* Alone, one after the other: what each seed's answer is. */
	for (uint32_t i = 0; i < SEED_COUNT && rc == 0; i++) {
		rc = dataplane_run_ask(run, i, i + 1, true, &s->err);
		hashes[i] = run->client.ends[i].hash;
	}
	if (rc == 0)
		rc = dataplane_run_ask(run, 0, s->exact, true, &s->err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < s->exact; i++)
		same += run->client.ends[i].hash == hashes[i % SEED_COUNT] &&
			run->client.ends[i].event_count == EXACT_TOKENS + 1;
	dataplane_plain(s, "dataplane.exact", same, "streams");
	return same == s->exact
		       ? 0
		       : error_set(&s->err, EPROTO,
				 "%u of %u streams are not as they are alone",
				 s->exact - same, s->exact);
}

int dataplane_part_exact(struct dataplane_session *s)
{
	const struct dataplane_run_setup setup = {.streams = s->exact,
		.ends = s->exact,
		.tokens = EXACT_TOKENS,
		.seed_count = SEED_COUNT};
	struct dataplane_run *run = dataplane_run_new(s, &setup);
	int rc;

	if (!run)
		return -s->err.code;
	rc = exact(s, run);
	dataplane_run_free(run);
	return rc;
}

/* --- idle connections -------------------------------------------------------- */

/* Open all far ends, each used once. */
static int use_all(struct dataplane_session *s, struct dataplane_run *run)
{
	uint32_t all = run->setup.ends;
	int rc = 0;

	run->client.plain = true;
	for (uint32_t at = 0; at < all && rc == 0; at += FIRST_COUNT) {
		uint32_t end = at + FIRST_COUNT < all ? at + FIRST_COUNT : all;

		rc = dataplane_run_connect(run, at, end, &s->err);
		if (rc == 0)
			rc = dataplane_run_ask(run, at, end, true, &s->err);
	}
	dataplane_run_for(run, COUNT_S);
	return rc;
}

/* Bytes of this process with so many idle connections, the client's not. */
static int weigh(struct dataplane_session *s, uint32_t ends, double *out_bytes,
	uint64_t *out_held)
{
	const struct dataplane_run_setup setup = {
		.streams = 64, .ends = ends, .tokens = 16};
	struct dataplane_run *run = dataplane_run_new(s, &setup);
	int rc;

	if (!run)
		return -s->err.code;
	rc = use_all(s, run);
	*out_bytes = (double)bench_memory_bytes(getpid()) -
		     (double)(ends * sizeof(*run->client.ends));
	for (uint32_t i = 0; i < ends && rc == 0; i += STILL_THERE)
		rc = dataplane_run_ask(run, i, i + 1, true, &s->err);
	*out_held = run->world.front->counters->connections_open;
	dataplane_run_free(run);
	return rc;
}

/*
 * Tables are made for as many connections as there may be, and partly written
 * when they are made: so the figure is that of a server for many beside one for
 * a few, not of what is added as they come.
 */
int dataplane_part_idle(struct dataplane_session *s)
{
	double few, many;
	uint64_t held;
	int rc = weigh(s, FIRST_COUNT, &few, &held);

	if (rc == 0)
		rc = weigh(s, s->idle + FIRST_COUNT, &many, &held);
	if (rc)
		return rc;
	dataplane_plain(s, "dataplane.idle_held", (double)held, "connections");
	dataplane_bounded(s, "dataplane.idle_connection",
		(many - few) / 1024 / s->idle, "KiB", IDLE_KIB_MAX);
	return 0;
}
