/* dataplane_soak.c - a long time at full load, harmed (runs -> books) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load:    all far ends ask, one answer after the other, as fast as tokens
 *          come; the wire loses, doubles, delays and breaks frames
 *          (dataplane_fault.h). One end in 16 reads slowly, one in 16 is served
 *          once per connection, some hang up in the middle of an answer, and
 *          resets that are forged and data of strangers come meanwhile.
 * Books:   each answer that was read to its end has the text, byte for byte,
 *          that it has alone on a whole wire. Frames that were made are those that came,
 *          and each that came was taken or lost for a cause with a name: both
 *          sides count for themselves. When all have hung up, nothing is in
 *          use, and the memory is what it was after the first quarter.
 */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/dataplane_fault.h"
#include "bench/dataplane_private.h"
#include "bench/node.h"
#include "bench/serve_random.h"

#define SEED_COUNT 64u
#define TOKENS 400u
#define SPECIAL_EVERY 16u /* ends that are slow; that are served once */
#define TEND_NS (2 * NS_PER_MS)
#define READ_TURNS 10u /* of tending: a slow end reads */
#define HANG_UP_EVERY 40000u /* events */
#define HANG_UP_MAX 64u /* of one turn */
#define FORGE_EVERY 8u /* of tending */
#define REST_NS (60 * NS_PER_S) /* for all to be let go */
#define COUNT_S 0.25 /* counters are written ten times a second */
#define SAY_NS (10 * NS_PER_S)
/* Pools are touched as far as they have ever been used. */
#define GROWTH_RSS_KIB 32768.0
#define GROWTH_HEAP_KIB 256.0

struct memory {
	double heap_kib, rss_kib;
};

struct soak {
	struct dataplane_session *session;
	struct dataplane_run *run;
	struct serve_random random;
	uint64_t hashes[SEED_COUNT];
	bool asking;
	bool *served; /* owned, [ends]: waits for the server to hang up */
	uint32_t hang_up[HANG_UP_MAX], hang_up_count;
	uint64_t whole, other, cut, strays; /* answers; segments */
	uint64_t tended_ns, tend_count, said_ns;
	struct memory before, after;
};

/* --- answers --- */

static void on_done(struct dataplane_run *run, uint32_t i)
{
	struct soak *k = run->arg;
	const struct far_end *e = &run->client.ends[i];

	if (e->hash == k->hashes[i % SEED_COUNT])
		k->whole++;
	else
		k->other++;
	k->served[i] = dataplane_run_closes(run, i);
	if (k->asking && !k->served[i])
		dataplane_client_ask(&run->client, i);
}

/* In the middle of one; it is done when the frame has been read. */
static void on_token(struct dataplane_run *run, uint32_t i)
{
	struct soak *k = run->arg;

	if (k->asking && k->hang_up_count < HANG_UP_MAX &&
		serve_random_below(&k->random, HANG_UP_EVERY) == 0)
		k->hang_up[k->hang_up_count++] = i;
}

static void hang_up(struct soak *k)
{
	struct dataplane_client *client = &k->run->client;

	for (uint32_t at = 0; at < k->hang_up_count; at++) {
		uint32_t i = k->hang_up[at];

		if (client->ends[i].state != FAR_OPEN)
			continue;
		k->cut += client->ends[i].asked;
		dataplane_client_reset(client, i, true);
	}
	k->hang_up_count = 0;
}

/* --- what goes on beside them --- */

static void tend_end(struct soak *k, uint32_t i)
{
	struct dataplane_client *client = &k->run->client;
	struct far_end *e = &client->ends[i];

	if (e->state == FAR_CLOSED || e->state == FAR_GONE) {
		k->served[i] = false;
		dataplane_client_open(client, i);
	} else if (e->state == FAR_OPEN && !e->asked && !k->served[i] &&
		   k->asking) {
		dataplane_client_ask(client, i);
	}
	if (e->slow && k->tend_count % READ_TURNS == 0)
		dataplane_client_read(client, i);
}

static void tend(struct soak *k)
{
	struct dataplane_client *client = &k->run->client;
	uint32_t i = serve_random_below(&k->random, client->count);

	if (client->now_ns - k->tended_ns < TEND_NS)
		return;
	k->tended_ns = client->now_ns;
	k->tend_count++;
	for (uint32_t at = 0; at < client->count; at++)
		tend_end(k, at);
	if (!k->asking || k->tend_count % FORGE_EVERY)
		return;
	if (client->ends[i].state == FAR_OPEN)
		dataplane_client_reset(client, i, false);
	dataplane_client_stray(client, (uint32_t)k->strays++);
}

static void turn(struct soak *k)
{
	dataplane_run_turn(k->run);
	hang_up(k);
	tend(k);
}

static void say(struct soak *k)
{
	uint64_t now = k->run->client.now_ns;

	if (k->session->quiet || now - k->said_ns < SAY_NS)
		return;
	k->said_ns = now;
	fprintf(stderr, "  %" PRIu64 " answers, %" PRIu64 " events, %.0f KiB\n",
		k->whole, k->run->client.events,
		(double)bench_memory_bytes(getpid()) / 1024);
}

static void load(struct soak *k, double seconds)
{
	uint64_t until = mono_now().ns + (uint64_t)(seconds * 1e9);

	k->asking = true;
	dataplane_fault_set(k->run->wire, true);
	do {
		turn(k);
		say(k);
	} while (k->run->client.now_ns < until);
	k->asking = false;
	dataplane_fault_set(k->run->wire, false);
}

/* --- rest --- */

static bool all_open(const struct soak *k)
{
	const struct dataplane_client *client = &k->run->client;

	for (uint32_t i = 0; i < client->count; i++)
		if (client->ends[i].state != FAR_OPEN || client->ends[i].asked)
			return false;
	return true;
}

static bool all_free(const struct soak *k)
{
	struct dataplane_usage u;

	dataplane_world_usage(&k->run->world, &u);
	return u.connections == 0 && u.exchanges == 0 && u.slots == 0 &&
	       u.tcp.connections == 0;
}

/* What is not there: the first end that has an answer open, and what is used. */
static void say_why(const struct soak *k)
{
	const struct dataplane_client *client = &k->run->client;
	struct dataplane_usage u;
	uint32_t i = 0;

	while (i + 1 < client->count && client->ends[i].state == FAR_OPEN &&
		!client->ends[i].asked)
		i++;
	dataplane_world_usage(&k->run->world, &u);
	fprintf(stderr,
		"end %u: state %d, asked %d, slow %d, closes %d, %u events, %u "
		"bytes of its request are out; %" PRIu64 " connections, %u "
		"requests, %u slots; TCP: %u connections\n",
		i, client->ends[i].state, client->ends[i].asked,
		client->ends[i].slow, dataplane_run_closes(k->run, i),
		client->ends[i].event_count, client->ends[i].request_bytes,
		u.connections, u.exchanges, u.slots, u.tcp.connections);
}

static int await(struct soak *k, bool (*is_so)(const struct soak *k),
	void (*go_on)(struct soak *k), const char *what)
{
	uint64_t until = mono_now().ns + REST_NS;

	while (!is_so(k)) {
		go_on(k);
		if (k->run->client.now_ns <= until)
			continue;
		say_why(k);
		return error_set(&k->session->err, ETIMEDOUT,
			"not all %s in time", what);
	}
	return 0;
}

static void turn_alone(struct soak *k)
{
	dataplane_run_turn(k->run);
}

/* All answers are read to their end, then all hang up. */
static int rest(struct soak *k, struct memory *out)
{
	struct dataplane_client *client = &k->run->client;
	int rc = await(k, all_open, turn, "answers have ended");

	for (uint32_t i = 0; rc == 0 && i < client->count; i++) {
		dataplane_client_reset(client, i, true);
		if (i % DATAPLANE_WIRE_BURST == 0)
			dataplane_run_turn(k->run);
	}
	if (rc == 0)
		rc = await(k, all_free, turn_alone, "connections are gone");
	if (rc)
		return rc;
	dataplane_run_for(k->run, COUNT_S);
	out->heap_kib =
		(double)(mallinfo2().uordblks + mallinfo2().hblkhd) / 1024;
	out->rss_kib = (double)bench_memory_bytes(getpid()) / 1024;
	return 0;
}

/* --- books --- */

/* A figure that has to be what somebody else has counted. */
static void same(struct dataplane_session *s, const char *name, uint64_t value,
	uint64_t wanted, const char *unit)
{
	char full[64];

	snprintf(full, sizeof(full), "dataplane.soak.%s", name);
	report_add_named(&s->report,
		&(struct report_row){.value = (double)value, .unit = unit},
		"%s", full);
	if (value == wanted)
		return;
	s->missed = true;
	fprintf(stderr, "%s is %" PRIu64 ", not %" PRIu64 "\n", full, value,
		wanted);
}

static void frames_in(struct soak *k)
{
	struct dataplane_session *s = k->session;
	struct net_stack *stack = stream_nic_stack(&k->run->world.front->loop);
	const struct nic_counters *nic = &k->run->world.front->counters->nic;
	const struct net_counters *net = net_stack_counters(stack);
	const struct tcp_counters *tcp = tcp_get_counters(net_stack_tcp(stack));
	const struct dataplane_client *client = &k->run->client;
	const uint64_t *fault = dataplane_fault_counts(k->run->wire)->in;
	uint64_t made = client->segments_out + client->arp_out;
	uint64_t lost =
		k->run->wire->lost + dataplane_fault_below(k->run->wire)->lost;

	same(s, "in.made", made, made, "frames");
	same(s, "in.wire_lost", fault[FAULT_LOST] + lost,
		fault[FAULT_LOST] + lost, "frames");
	same(s, "in.wire_twice", fault[FAULT_TWICE], fault[FAULT_TWICE],
		"frames");
	same(s, "in.wire_late", fault[FAULT_LATE], fault[FAULT_LATE], "frames");
	same(s, "in.frames", nic->in_frames_total,
		made - fault[FAULT_LOST] - lost + fault[FAULT_TWICE], "frames");
	same(s, "in.lost_port", nic->in_lost_port_total, 0, "frames");
	same(s, "in.lost_pieces", nic->in_lost_pieces_total, 0, "frames");
	same(s, "in.lost_link", net->in_dropped_link, fault[FAULT_MAC],
		"frames");
	same(s, "in.lost_ip", net->in_dropped_ip, fault[FAULT_HEADER],
		"frames");
	same(s, "in.lost_fragments", net->in_dropped_fragments,
		fault[FAULT_PIECE], "frames");
	same(s, "in.arp", client->arp_out, client->arp_out, "frames");
	same(s, "in.segments", tcp->in_segments,
		nic->in_frames_total - fault[FAULT_MAC] - fault[FAULT_HEADER] -
			fault[FAULT_PIECE] - client->arp_out,
		"segments");
	same(s, "in.lost_checksum", tcp->in_bad_checksum, fault[FAULT_SUM],
		"segments");
}

/* What TCP took, and for which causes it did not. */
static void segments_in(struct soak *k)
{
	struct dataplane_session *s = k->session;
	struct net_stack *stack = stream_nic_stack(&k->run->world.front->loop);
	const struct tcp_counters *tcp = tcp_get_counters(net_stack_tcp(stack));
	const struct nic_counters *nic = &k->run->world.front->counters->nic;
	const struct {
		const char *name;
		uint64_t value;
	} causes[] = {{"in.lost_malformed", tcp->in_malformed},
		{"in.lost_unknown", tcp->in_unknown},
		{"in.lost_unacceptable", tcp->in_unacceptable},
		{"in.lost_timestamp", tcp->in_old_timestamp},
		{"in.lost_ack", tcp->in_bad_ack},
		{"in.lost_no_slab", tcp->in_no_slab},
		{"in.lost_no_island", tcp->in_no_island},
		{"in.lost_syn", tcp->syn_dropped}};
	uint64_t lost = tcp->in_bad_checksum;

	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		same(s, causes[i].name, causes[i].value, causes[i].value,
			"segments");
		lost += causes[i].value;
	}
	same(s, "in.taken", tcp->in_segments - lost,
		nic->segments_in_total - nic->in_lost_tcp_total, "segments");
	if (tcp->in_unknown < k->strays / 2)
		same(s, "in.strays", tcp->in_unknown, k->strays, "segments");
}

static void frames_out(struct soak *k)
{
	struct dataplane_session *s = k->session;
	const struct nic_counters *nic = &k->run->world.front->counters->nic;
	const struct dataplane_client *client = &k->run->client;
	const struct dataplane_faults *faults =
		dataplane_fault_counts(k->run->wire);
	const uint64_t *fault = faults->out;

	same(s, "out.frames", nic->out_frames_total, faults->out_frames,
		"frames");
	same(s, "out.lost_port", nic->out_lost_port_total, 0, "frames");
	same(s, "out.lost_neighbor", nic->out_lost_neighbor_total,
		nic->out_lost_neighbor_total, "frames");
	same(s, "out.segments_again", nic->segments_again_total,
		nic->segments_again_total, "segments");
	same(s, "out.wire_lost", fault[FAULT_LOST], fault[FAULT_LOST],
		"frames");
	same(s, "out.wire_twice", fault[FAULT_TWICE], fault[FAULT_TWICE],
		"frames");
	same(s, "out.wire_late", fault[FAULT_LATE], fault[FAULT_LATE],
		"frames");
	same(s, "out.taken", client->segments_in + client->arp_in,
		faults->out_frames - fault[FAULT_LOST] + fault[FAULT_TWICE],
		"frames");
}

static void nothing_left(struct soak *k)
{
	struct dataplane_session *s = k->session;
	const struct dataplane_wire *wire = k->run->wire;
	struct dataplane_usage u;

	dataplane_world_usage(&k->run->world, &u);
	same(s, "left.buffers_port", u.buffers, 0, "mbufs");
	same(s, "left.buffers_client", wire->buffers_out(wire), 0, "mbufs");
	same(s, "left.connections", u.connections, 0, "connections");
	same(s, "left.exchanges", u.exchanges, 0, "requests");
	same(s, "left.slots", u.slots, 0, "slots");
	same(s, "left.pages", u.pages, 0, "pages");
	same(s, "left.body_bytes", u.body_bytes, 0, "bytes");
	same(s, "left.tcp_connections", u.tcp.connections, 0, "connections");
	same(s, "left.tcp_timers", u.tcp.timers, 0, "timers");
	same(s, "left.tcp_send_blocks", u.tcp.blocks, 0, "blocks");
	same(s, "left.tcp_receive_slabs", u.tcp.slabs, 0, "slabs");
}

static void answers(struct soak *k, uint64_t events)
{
	struct dataplane_session *s = k->session;

	dataplane_plain(s, "dataplane.soak.events_per_s",
		(double)events / s->soak_seconds, "events/s");
	same(s, "answers_whole", k->whole, k->whole, "answers");
	same(s, "answers_cut", k->cut, k->cut, "answers");
	same(s, "answers_other", k->other, 0, "answers");
	same(s, "answers_refused", k->run->client.refused, 0, "answers");
	if (k->whole == 0)
		same(s, "answers_none", 0, 1, "answers");
}

static void memory(struct soak *k)
{
	struct dataplane_session *s = k->session;

	dataplane_bounded(s, "dataplane.soak.memory_heap_grown",
		k->after.heap_kib - k->before.heap_kib, "KiB", GROWTH_HEAP_KIB);
	dataplane_bounded(s, "dataplane.soak.memory_rss_grown",
		k->after.rss_kib - k->before.rss_kib, "KiB", GROWTH_RSS_KIB);
	dataplane_plain(
		s, "dataplane.soak.memory_rss", k->after.rss_kib, "KiB");
}

/* --- all of it --- */

/* Alone, one after the other: what each seed's answer is. */
static int learn(struct soak *k)
{
	struct dataplane_run *run = k->run;
	int rc = dataplane_run_connect(
		run, 0, run->setup.ends, &k->session->err);

	for (uint32_t i = 0; i < SEED_COUNT && rc == 0; i++) {
		rc = dataplane_run_ask(run, i, i + 1, true, &k->session->err);
		k->hashes[i] = run->client.ends[i].hash;
	}
	for (uint32_t i = 0; i < run->setup.ends && rc == 0; i++)
		run->client.ends[i].slow =
			i % SPECIAL_EVERY == SPECIAL_EVERY / 2;
	return rc;
}

static int soak(struct soak *k)
{
	struct dataplane_session *s = k->session;
	uint64_t events;
	int rc = learn(k);

	if (rc)
		return rc;
	k->run->on_done = on_done;
	k->run->on_token = on_token;
	events = k->run->client.events;
	load(k, s->soak_seconds / 4);
	rc = rest(k, &k->before);
	if (rc == 0) {
		load(k, s->soak_seconds * 3 / 4);
		events = k->run->client.events - events;
		rc = rest(k, &k->after);
	}
	if (rc)
		return rc;
	answers(k, events);
	frames_in(k);
	segments_in(k);
	frames_out(k);
	nothing_left(k);
	memory(k);
	return 0;
}

int dataplane_part_soak(struct dataplane_session *s)
{
	uint64_t seed = s->seed ? s->seed : mono_now().ns;
	const struct dataplane_run_setup setup = {
		/* Those that were cut leave theirs a little later. */
		.streams = 2 * s->soak_streams,
		.ends = s->soak_streams,
		.tokens = TOKENS,
		.seed_count = SEED_COUNT,
		.close_every = SPECIAL_EVERY,
		.fault_seed = seed};
	struct soak k = {.session = s, .random = {seed + 1}};
	int rc;

	printf("soak: seed %" PRIu64 "\n", seed);
	if (s->soak_streams < SEED_COUNT)
		return error_set(&s->err, EINVAL,
			"a soak has %u streams at least", SEED_COUNT);
	k.served = calloc(s->soak_streams, sizeof(*k.served));
	k.run = dataplane_run_new(s, &setup);
	if (k.run) {
		k.run->arg = &k;
		k.run->client.check = FAR_CHECK_TEXT;
		rc = k.served ? soak(&k)
			      : error_set(&s->err, ENOMEM, "no memory");
		dataplane_run_free(k.run);
	} else {
		rc = -s->err.code;
	}
	free(k.served);
	return rc;
}
