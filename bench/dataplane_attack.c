/* dataplane_attack.c - how long others wait beside an attack (runs -> rows) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A few clients ask for short streams at fixed times, whatever becomes of the
 * answers; the time to the first token runs from when one should have been
 * asked. That is done in quiet, and then beside each of the attacks, which
 * come over the same wire. Rounds of it, whose medians are told: a virtual
 * machine is taken off its cores for 40 ms now and then, and one such pause is
 * a round's p99.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/dataplane_private.h"
#include "bench/median.h"

#define PROBE_COUNT 64u
#define PROBE_EVERY_NS (2 * NS_PER_MS)
#define PROBE_TOKENS 2u
#define STEP_US 200u
#define FLOOD_EVERY_NS (20 * NS_PER_US) /* 50,000 a second */
#define STORM_EVERY_NS (50 * NS_PER_US)
#define DRIP_EVERY_NS (1 * NS_PER_S)
#define SAMPLE_COUNT_MAX 65536u

enum attack {
	ATTACK_NONE,
	ATTACK_SYN,
	ATTACK_RESET,
	ATTACK_SLOW,
	ATTACK_IDLE,
	ATTACK_COUNT
};

struct siege {
	struct dataplane_session *session;
	struct dataplane_run *run;
	enum attack attack;
	uint64_t due_ns; /* the next probe */
	uint64_t next_ns; /* the attack's next frame */
	uint64_t asked_ns[PROBE_COUNT]; /* when it should have been */
	uint32_t next_probe, number;
	uint32_t *samples; /* owned */
	size_t count;
};

static void on_first(struct dataplane_run *run, uint32_t i)
{
	struct siege *g = run->arg;

	if (i < PROBE_COUNT && g->count < SAMPLE_COUNT_MAX)
		g->samples[g->count++] =
			(uint32_t)(run->client.now_ns - g->asked_ns[i]);
}

/* Those that are due, of whom a connection is free for. */
static void probe(struct siege *g)
{
	uint64_t now = mono_now().ns;

	while (g->due_ns <= now) {
		uint32_t i = g->next_probe % PROBE_COUNT;

		if (g->run->client.ends[i].asked)
			return;
		g->asked_ns[i] = g->due_ns;
		dataplane_client_ask(&g->run->client, i);
		g->due_ns += PROBE_EVERY_NS;
		g->next_probe++;
	}
}

/* A connection is opened, and reset once it is; and a forged one comes. */
static void storm(struct siege *g)
{
	struct dataplane_client *client = &g->run->client;
	uint32_t i = PROBE_COUNT + g->number % (client->count - PROBE_COUNT);

	if (client->ends[i].state == FAR_OPEN)
		dataplane_client_reset(client, i, true);
	else if (client->ends[i].state != FAR_OPENING)
		dataplane_client_open(client, i);
	dataplane_client_reset(client, g->number % PROBE_COUNT, false);
}

/* A byte of a head, of each connection once a second. */
static void drip(struct siege *g)
{
	struct dataplane_client *client = &g->run->client;
	uint32_t i = PROBE_COUNT + g->number % (client->count - PROBE_COUNT);

	dataplane_client_say(client, i, g->number % 7 ? "a" : "G", 1);
}

static void strike(struct siege *g)
{
	uint32_t others = g->run->client.count - PROBE_COUNT;
	const uint64_t every[ATTACK_COUNT] = {[ATTACK_SYN] = FLOOD_EVERY_NS,
		[ATTACK_RESET] = STORM_EVERY_NS,
		[ATTACK_SLOW] = DRIP_EVERY_NS / others};
	uint64_t now = mono_now().ns;

	if (every[g->attack] == 0)
		return;
	for (int i = 0; i < 256 && g->next_ns <= now; i++) {
		if (g->attack == ATTACK_SYN)
			dataplane_client_flood(&g->run->client, g->number);
		else if (g->attack == ATTACK_RESET)
			storm(g);
		else
			drip(g);
		g->number++;
		g->next_ns += every[g->attack];
	}
}

static void hold_out(struct siege *g, double seconds)
{
	uint64_t until;

	g->due_ns = g->next_ns = mono_now().ns;
	until = g->due_ns + (uint64_t)(seconds * 1e9);
	g->count = 0;
	do {
		probe(g);
		strike(g);
		dataplane_run_turn(g->run);
	} while (g->run->client.now_ns < until);
}

/* Connections beside the probes, where the attack is by those. */
static int gather(struct siege *g)
{
	struct dataplane_client *client = &g->run->client;

	if (g->attack == ATTACK_SLOW || g->attack == ATTACK_IDLE)
		return dataplane_run_connect(
			g->run, PROBE_COUNT, client->count, &g->session->err);
	return 0;
}

static void scatter(struct siege *g)
{
	struct dataplane_client *client = &g->run->client;

	for (uint32_t i = PROBE_COUNT; i < client->count; i++) {
		if (client->ends[i].state == FAR_OPEN)
			dataplane_client_reset(client, i, true);
		client->ends[i].state = FAR_CLOSED;
		if (i % 256 == 0)
			dataplane_run_turn(g->run);
	}
	dataplane_run_for(g->run, 0.1);
}

static int besiege(struct siege *g, double *out_p99_us)
{
	int rc = gather(g);

	if (rc)
		return rc;
	hold_out(g, 0.2);
	hold_out(g, g->session->seconds);
	*out_p99_us = dataplane_percentile(g->samples, g->count, 99) / 1e3;
	rc = dataplane_run_settle(g->run, &g->session->err);
	if (rc == 0)
		scatter(g);
	return rc;
}

static void rows(struct dataplane_session *s,
	double (*p99_us)[DATAPLANE_ROUND_COUNT_MAX])
{
	static const char *const names[ATTACK_COUNT] = {
		[ATTACK_NONE] = "dataplane.ttft.quiet",
		[ATTACK_SYN] = "dataplane.ttft.syn_flood",
		[ATTACK_RESET] = "dataplane.ttft.reset_storm",
		[ATTACK_SLOW] = "dataplane.ttft.slowloris",
		[ATTACK_IDLE] = "dataplane.ttft.idle"};
	double quiet = median(p99_us[ATTACK_NONE], s->rounds);

	dataplane_plain(s, names[ATTACK_NONE], quiet, "us p99");
	for (int i = ATTACK_NONE + 1; i < ATTACK_COUNT; i++)
		dataplane_bounded(s, names[i], median(p99_us[i], s->rounds),
			"us p99", 1.1 * quiet + 1000);
}

static int all(struct siege *g)
{
	struct dataplane_session *s = g->session;
	double p99_us[ATTACK_COUNT][DATAPLANE_ROUND_COUNT_MAX];
	int rc = dataplane_run_connect(g->run, 0, PROBE_COUNT, &s->err);

	for (uint32_t r = 0; r < s->rounds; r++)
		for (int i = 0; i < ATTACK_COUNT && rc == 0; i++) {
			g->attack = (enum attack)i;
			rc = besiege(g, &p99_us[i][r]);
		}
	if (rc == 0)
		rows(s, p99_us);
	return rc;
}

int dataplane_part_attack(struct dataplane_session *s)
{
	const struct dataplane_run_setup setup = {.streams = PROBE_COUNT,
		.ends = PROBE_COUNT + s->many,
		.tokens = PROBE_TOKENS};
	struct dataplane_run *run = malloc(sizeof(*run));
	struct siege g = {.session = s, .run = run};
	int rc = -ENOMEM;

	g.samples = malloc(SAMPLE_COUNT_MAX * sizeof(*g.samples));
	if (!run || !g.samples)
		error_set(&s->err, ENOMEM, "no memory for a run");
	else
		rc = dataplane_run_open(&s->place, &setup, run, &s->err);
	if (rc == 0) {
		run->arg = &g;
		run->on_first = on_first;
		dataplane_world_pace(&run->world, STEP_US);
		rc = all(&g);
		dataplane_run_close(run);
	}
	free(g.samples);
	free(run);
	return rc;
}
