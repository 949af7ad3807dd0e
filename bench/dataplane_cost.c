/* dataplane_cost.c - nanoseconds and delays of a token event (runs -> rows) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps:   one step is an event of every stream. In the part that costs are
 *          taken from, a step is published when the client has all of the
 *          last one: as fast as it goes, and no two events of a stream share
 *          a frame. In the paced part a step comes every so often, whatever
 *          has become of the last.
 * Kernel:  its network thread sends, but acknowledgements are taken in within
 *          the client's calls that send them, as over any veth. What that
 *          costs is measured in a part of its own (dataplane_wire.h), told as
 *          a row, and belongs to the kernel's side where our core does the
 *          same work itself. What handing a frame to the client's socket
 *          costs the kernel stays in, in place of a card's driver.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/dataplane_private.h"
#include "bench/median.h"

#define WARM_S 0.3
#define RATE_MAX 800000.0 /* events a second, more than will come */
#define BURST_STREAMS 1024u
#define BURST_US 25000u
#define TLS_STREAMS_MAX 4096u /* each has an OpenSSL client */

/* All of them 0: not measured. */
struct cost {
	double net_ns, text_ns; /* an event */
	double receive_ns; /* an event, of the kernel: in the client's calls */
	double rate, frames; /* a second; an event */
	double p50_us, p99_us, p999_us; /* paced */
	double burst_p50_us, burst_p99_us, last_p50_us, last_p99_us;
	double again, again_quick, stolen_s;
};

union figures {
	struct cost cost;
	double each[sizeof(struct cost) / sizeof(double)];
};

static const char *const way_names[DATAPLANE_WAY_COUNT] = {
	[DATAPLANE_RING] = "ring",
	[DATAPLANE_RING_TLS] = "tls",
	[DATAPLANE_MEMIF] = "memif",
	[DATAPLANE_VETH] = "veth",
	[DATAPLANE_KERNEL] = "kernel"};

static void ask_again(struct dataplane_run *run, uint32_t i)
{
	dataplane_world_forget(&run->world, i % run->setup.seed_count);
	dataplane_client_ask(&run->client, i);
}

/* --- as fast as it goes --- */

static void run_steps(struct dataplane_run *run, double seconds)
{
	uint64_t until = mono_now().ns + (uint64_t)(seconds * 1e9);
	uint64_t base =
		dataplane_world_published(&run->world) - run->token_count;

	do {
		dataplane_world_gate(&run->world,
			dataplane_world_published(&run->world) - base >
				run->token_count);
		dataplane_run_turn(run);
	} while (run->client.now_ns < until);
	dataplane_world_gate(&run->world, false);
}

static void measure_cost(
	struct dataplane_run *run, double seconds, struct cost *out)
{
	struct dataplane_cpu before, after;
	uint64_t frames;

	dataplane_world_pace(&run->world, 0);
	run_steps(run, WARM_S);
	dataplane_run_reset(run);
	frames = run->client.segments_in;
	dataplane_world_cpu(&run->world, &before);
	run_steps(run, seconds);
	dataplane_world_cpu(&run->world, &after);
	if (run->token_count == 0)
		return;
	out->net_ns = (double)(after.net_ns - before.net_ns) /
		      (double)run->token_count;
	out->text_ns = (double)(after.text_ns - before.text_ns) /
		       (double)run->token_count;
	out->rate = (double)run->token_count / seconds;
	out->frames = (double)(run->client.segments_in - frames) /
		      (double)run->token_count;
	out->stolen_s += after.stolen_s - before.stolen_s;
}

/* What the kernel's side costs that its thread is not asked for. */
static void measure_receive(
	struct dataplane_run *run, double seconds, struct cost *out)
{
	struct dataplane_wire *wire = run->wire;

	dataplane_run_reset(run);
	wire->compares = true;
	run_steps(run, seconds);
	wire->compares = false;
	if (run->token_count > 0 && wire->taken_ns > wire->untaken_ns)
		out->receive_ns = (double)(wire->taken_ns - wire->untaken_ns) /
				  (double)run->token_count;
}

/* --- at a pace --- */

static void paced(struct dataplane_run *run, uint32_t step_us, double seconds)
{
	dataplane_world_pace(&run->world, step_us);
	dataplane_run_for(run, WARM_S);
	dataplane_run_reset(run);
	run->timed = true;
	dataplane_run_for(run, seconds);
	run->timed = false;
}

static double percentile_us(struct dataplane_run *run, double percent)
{
	return dataplane_percentile(run->samples, run->sample_count, percent) /
	       1e3;
}

static void measure_delays(struct dataplane_run *run, double rate,
	double seconds, struct cost *out)
{
	struct dataplane_cpu before, after;

	dataplane_world_cpu(&run->world, &before);
	paced(run, (uint32_t)(run->setup.streams * 1e6 / rate), seconds);
	dataplane_world_cpu(&run->world, &after);
	out->p50_us = percentile_us(run, 50);
	out->p99_us = percentile_us(run, 99);
	out->p999_us = percentile_us(run, 99.9);
	out->stolen_s += after.stolen_s - before.stolen_s;
}

/* How long after its step the last event of each came. */
static void take_last(struct dataplane_run *run, struct cost *out)
{
	const struct dataplane_engine *e = &run->world.engines[0];
	uint32_t *late = malloc(DATAPLANE_STEP_COUNT * sizeof(*late));
	size_t count = 0;

	if (!late)
		return;
	for (uint32_t i = 0; i < DATAPLANE_STEP_COUNT; i++)
		if (run->last_ns[i] > e->step_ns[i] && e->step_ns[i])
			late[count++] =
				(uint32_t)(run->last_ns[i] - e->step_ns[i]);
	out->last_p50_us = dataplane_percentile(late, count, 50) / 1e3;
	out->last_p99_us = dataplane_percentile(late, count, 99) / 1e3;
	free(late);
}

static void measure_burst(
	struct dataplane_run *run, double seconds, struct cost *out)
{
	paced(run, BURST_US, seconds);
	out->burst_p50_us = percentile_us(run, 50);
	out->burst_p99_us = percentile_us(run, 99);
	take_last(run, out);
}

/* --- all of it --- */

static int measure(struct dataplane_session *s, enum dataplane_way way,
	uint32_t streams, struct cost *out)
{
	const struct dataplane_run_setup setup = {.way = way,
		.streams = streams,
		.ends = streams,
		.tokens =
			(uint32_t)(RATE_MAX * (s->seconds + WARM_S) / streams) +
			1000};
	struct dataplane_run *run = malloc(sizeof(*run));
	int rc;

	if (!run)
		return error_set(&s->err, ENOMEM, "no memory for a run");
	rc = dataplane_run_open(&s->place, &setup, run, &s->err);
	if (rc) {
		free(run);
		return rc;
	}
	dataplane_world_pace(&run->world, 20000);
	run->on_done = ask_again;
	rc = dataplane_run_connect(run, 0, streams, &s->err);
	if (rc == 0)
		rc = dataplane_run_ask(run, 0, streams, false, &s->err);
	if (rc == 0) {
		dataplane_run_for(run, WARM_S);
		measure_delays(run, s->rate, s->seconds, out);
		if (streams == BURST_STREAMS)
			measure_burst(run, s->seconds, out);
		measure_cost(run, s->seconds, out);
		if (way == DATAPLANE_KERNEL)
			measure_receive(run, s->seconds, out);
		out->again = (double)run->client.again_in;
		out->again_quick = (double)run->world.again_quick;
	}
	dataplane_run_close(run);
	free(run);
	return rc;
}

static void row(struct dataplane_session *s, const char *name, uint32_t streams,
	const struct report_row *row)
{
	if (row->value > 0)
		report_add_named(
			&s->report, row, "dataplane.%s.s%u", name, streams);
	if (row->limit > 0 && row->value > row->limit)
		s->missed = true;
}

/* One figure of both back ends: ours over `way`, the kernel's as the peer. */
static void rows(struct dataplane_session *s, enum dataplane_way way,
	uint32_t streams, const struct cost *c, const struct cost *kernel)
{
	/* The limits are those of a core that does nothing else. */
	bool judged = way == DATAPLANE_RING;
	const char *peer = kernel->rate > 0 ? "kernel over veth" : NULL;
	/* Over a veth ours is taken in within the client's calls, too. */
	double receive_ns = way == DATAPLANE_VETH ? 0 : kernel->receive_ns;
	double poll_limit = streams <= 64 ? 600 : 1000;
	const struct {
		const char *name, *unit;
		double value, peer, limit, factor;
	} all[] = {
		{"net", "ns/event", c->net_ns, kernel->net_ns + receive_ns,
			judged ? poll_limit : 0, 5},
		{"text", "ns/event", c->text_ns, kernel->text_ns, 0, 0},
		{"all", "ns/event", c->net_ns + c->text_ns,
			kernel->net_ns + receive_ns + kernel->text_ns,
			judged ? 1500 : 0, 5},
		{"rate", "events/s", c->rate, kernel->rate, 0, 0},
		{"frames", "frames/event", c->frames, kernel->frames, 0, 0},
		{"delay_p50", "us", c->p50_us, kernel->p50_us, 0, 0},
		{"delay_p99", "us", c->p99_us, kernel->p99_us, 0, 0},
		{"delay_p999", "us", c->p999_us, kernel->p999_us, 0, 0},
		{"burst_p50", "us", c->burst_p50_us, kernel->burst_p50_us,
			judged ? 1000 : 0, 0},
		{"burst_p99", "us", c->burst_p99_us, kernel->burst_p99_us,
			judged ? 2000 : 0, 0},
		{"burst_last_p50", "us", c->last_p50_us, kernel->last_p50_us, 0,
			0},
		{"burst_last_p99", "us", c->last_p99_us, kernel->last_p99_us, 0,
			0},
		{"again", "segments", c->again, kernel->again, 0, 0},
		{"again_quick", "segments", c->again_quick, 0, 0, 0},
		{"stolen", "s", c->stolen_s, kernel->stolen_s, 0, 0},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s.%s", way_names[way],
			all[i].name);
		row(s, name, streams,
			&(struct report_row){.value = all[i].value,
				.unit = all[i].unit,
				.limit = all[i].limit,
				.peer = all[i].peer > 0 ? peer : NULL,
				.peer_value = peer ? all[i].peer : 0,
				.less_is_better = i != 3,
				.goal_share = 1,
				.goal_factor =
					judged && peer ? all[i].factor : 0});
	}
}

/* Of what the kernel's side is made up. */
static void kernel_rows(struct dataplane_session *s, uint32_t streams,
	const struct cost *kernel)
{
	row(s, "kernel.net", streams,
		&(struct report_row){
			.value = kernel->net_ns, .unit = "ns/event"});
	row(s, "kernel.receive", streams,
		&(struct report_row){
			.value = kernel->receive_ns, .unit = "ns/event"});
	row(s, "kernel.text", streams,
		&(struct report_row){
			.value = kernel->text_ns, .unit = "ns/event"});
}

/* Does this session measure that way with so many streams? */
static bool is_chosen(const struct dataplane_session *s, enum dataplane_way way,
	uint32_t streams)
{
	switch (way) {
	case DATAPLANE_RING:
		return true;
	case DATAPLANE_RING_TLS:
		return streams <= TLS_STREAMS_MAX;
	case DATAPLANE_MEMIF:
		return s->memif;
	default:
		return s->place.nic != NULL;
	}
}

static struct cost medians(
	union figures (*rounds)[DATAPLANE_WAY_COUNT], uint32_t count, int way)
{
	double values[DATAPLANE_ROUND_COUNT_MAX];
	union figures out;

	for (size_t i = 0; i < sizeof(out.each) / sizeof(out.each[0]); i++) {
		for (uint32_t r = 0; r < count; r++)
			values[r] = rounds[r][way].each[i];
		out.each[i] = median(values, count);
	}
	return out.cost;
}

/* Every way in turn, and so again: what disturbs for a while disturbs all. */
static int measure_rounds(struct dataplane_session *s, uint32_t streams,
	union figures (*rounds)[DATAPLANE_WAY_COUNT])
{
	int rc = 0;

	for (uint32_t r = 0; r < s->rounds; r++)
		for (int way = 0; way < DATAPLANE_WAY_COUNT && rc == 0; way++)
			if (is_chosen(s, (enum dataplane_way)way, streams))
				rc = measure(s, (enum dataplane_way)way,
					streams, &rounds[r][way].cost);
	return rc;
}

static int cost_of(struct dataplane_session *s, uint32_t streams)
{
	union figures rounds[DATAPLANE_ROUND_COUNT_MAX][DATAPLANE_WAY_COUNT];
	struct cost cost[DATAPLANE_WAY_COUNT];
	int rc;

	memset(rounds, 0, sizeof(rounds));
	rc = measure_rounds(s, streams, rounds);
	if (rc)
		return rc;
	for (int way = 0; way < DATAPLANE_WAY_COUNT; way++)
		cost[way] = medians(rounds, s->rounds, way);
	for (int way = 0; way < DATAPLANE_KERNEL; way++)
		if (cost[way].rate > 0)
			rows(s, (enum dataplane_way)way, streams, &cost[way],
				&cost[DATAPLANE_KERNEL]);
	kernel_rows(s, streams, &cost[DATAPLANE_KERNEL]);
	return 0;
}

int dataplane_part_cost(struct dataplane_session *s)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < s->stream_count; i++)
		rc = cost_of(s, s->streams[i]);
	return rc;
}
