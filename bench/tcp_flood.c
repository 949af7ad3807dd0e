/* tcp_flood.c - streams beside a flood of SYNs (rates -> share kept) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time here is the processor time that our own work took, so that what else
 * the machine does is not in it: frames and events come by a schedule on that
 * clock, wait in a ring as a NIC has one, and are lost when it is full. The
 * loop is a poll-mode core's: a burst of frames, the events that are due, a
 * poll.
 * Limit:   how many SYNs a second this loop takes and answers when more come
 *          and there is nothing else.
 * Streams: 1,024 of them, whose events take a third of the core or less: a core
 *          that is busy with streams alone could not take half of the limit
 *          besides. Their ACKs come 100 us later, through the same ring.
 * Rounds:  a core's speed changes while its other half works or rests, so each
 *          round measures limit, streams and flooded streams one soon after
 *          the other, and the median of the rounds is what is reported.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/median.h"
#include "bench/tcp_flood.h"
#include "bench/tcp_ours.h"
#include "bench/tcp_side.h"

#define STREAM_COUNT 1024u
#define STREAM_SHARE 0.3 /* of the core */
#define RING_COUNT 1024u
#define RX_BURST 64u
#define ACK_NS (100 * NS_PER_US)
#define RESEND_NS (2 * NS_PER_MS) /* as long as the tail loss probe waits */
#define FIRST_SYN_COUNT 1000u /* these still get state: not of the flood */
#define PROBE_ROUND_COUNT 200u
#define ROUND_COUNT 15u
#define PHASE_NS (60 * NS_PER_MS)
#define LIMIT_GAP_NS 100 /* SYNs come faster than any core takes them */
#define SYN UINT32_MAX /* in the ring: no stream's ACK */

struct ring {
	uint32_t items[RING_COUNT];
	uint64_t in, out; /* free-running */
};

struct flood {
	struct tcp_ours *ours;
	uint64_t now_ns; /* processor time, and time that was waited */
	struct ring rx;
	/* ACKs on their way; each stream has at most one event in flight. */
	uint64_t ack_ns[STREAM_COUNT];
	uint32_t acks[STREAM_COUNT];
	uint64_t ack_in, ack_out;
	bool in_flight[STREAM_COUNT];
	uint64_t syn_gap_ns, syn_next_ns, event_gap_ns, event_next_ns;
	uint32_t stream; /* whose event is next */
	uint64_t syn_count, syn_lost, event_count; /* of this phase */
	uint64_t passed_ns;
	uint32_t half_open_max;
};

static uint64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static bool ring_put(struct ring *r, uint32_t item)
{
	if (r->in - r->out == RING_COUNT)
		return false;
	r->items[r->in++ % RING_COUNT] = item;
	return true;
}

static void ack_later(struct flood *f, uint32_t stream, uint64_t ns)
{
	uint64_t at = f->ack_in++ % STREAM_COUNT;

	f->ack_ns[at] = f->now_ns + ns;
	f->acks[at] = stream;
}

/* What the wire has brought by now. */
static void arrive(struct flood *f)
{
	while (f->syn_gap_ns && f->syn_next_ns <= f->now_ns) {
		f->syn_lost += !ring_put(&f->rx, SYN);
		f->syn_next_ns += f->syn_gap_ns;
		f->syn_count++;
	}
	while (f->ack_out < f->ack_in &&
		f->ack_ns[f->ack_out % STREAM_COUNT] <= f->now_ns) {
		uint32_t stream = f->acks[f->ack_out % STREAM_COUNT];

		/* A far end whose ACK is lost is asked again later. */
		f->ack_out++;
		if (!ring_put(&f->rx, stream))
			ack_later(f, stream, RESEND_NS);
	}
}

static void receive(struct flood *f)
{
	for (uint32_t i = 0; i < RX_BURST && f->rx.out < f->rx.in; i++) {
		uint32_t item = f->rx.items[f->rx.out++ % RING_COUNT];

		if (item == SYN) {
			tcp_ours_syn(f->ours, (uint32_t)f->rx.out);
			continue;
		}
		tcp_ours_ack(f->ours, item);
		f->in_flight[item] = false;
		f->event_count++;
	}
}

/* Send what is due; an event that would be late by a burst is not caught up. */
static void send_events(struct flood *f)
{
	for (uint32_t i = 0; i < RX_BURST && f->event_next_ns <= f->now_ns;
		i++) {
		uint32_t stream = f->stream++ % STREAM_COUNT;

		f->event_next_ns += f->event_gap_ns;
		if (f->in_flight[stream] || !tcp_ours_send(f->ours, stream))
			continue;
		f->in_flight[stream] = true;
		ack_later(f, stream, ACK_NS);
	}
	if (f->event_next_ns + RX_BURST * f->event_gap_ns < f->now_ns)
		f->event_next_ns = f->now_ns;
}

static uint64_t next_ns(const struct flood *f)
{
	uint64_t ns = f->event_next_ns;

	if (f->syn_gap_ns && f->syn_next_ns < ns)
		ns = f->syn_next_ns;
	if (f->ack_out < f->ack_in && f->ack_ns[f->ack_out % STREAM_COUNT] < ns)
		ns = f->ack_ns[f->ack_out % STREAM_COUNT];
	return ns;
}

/* What a phase leaves in the ring and on the wire is not the next one's. */
static void settle(struct flood *f)
{
	f->rx.out = f->rx.in;
	f->ack_out = f->ack_in;
	for (uint32_t i = 0; i < STREAM_COUNT; i++)
		if (f->in_flight[i])
			tcp_ours_ack(f->ours, i);
	tcp_ours_poll(f->ours);
	memset(f->in_flight, 0, sizeof(f->in_flight));
}

/* Let one phase pass; gaps of 0: none of them come. */
static void phase(struct flood *f, uint64_t syn_gap_ns, uint64_t event_gap_ns)
{
	uint64_t begin = f->now_ns;
	struct tcp_usage usage;

	f->event_next_ns = event_gap_ns ? begin : UINT64_MAX;
	f->syn_next_ns = begin;
	f->syn_gap_ns = syn_gap_ns;
	f->event_gap_ns = event_gap_ns;
	f->syn_count = f->syn_lost = f->event_count = 0;
	while (f->now_ns - begin < PHASE_NS) {
		uint64_t from = processor_ns(), took;

		arrive(f);
		receive(f);
		send_events(f);
		tcp_ours_poll(f->ours);
		took = processor_ns() - from;
		f->now_ns += took;
		tcp_ours_pass(f->ours, took);
		tcp_ours_usage(f->ours, &usage);
		if (usage.half_open > f->half_open_max)
			f->half_open_max = usage.half_open;
		if (f->rx.in == f->rx.out && next_ns(f) > f->now_ns) {
			tcp_ours_pass(f->ours, next_ns(f) - f->now_ns);
			f->now_ns = next_ns(f);
		}
	}
	f->passed_ns = f->now_ns - begin;
	settle(f);
}

static double per_second(const struct flood *f, uint64_t count)
{
	return (double)count * 1e9 / (double)f->passed_ns;
}

static double event_ns(struct flood *f)
{
	uint64_t from = processor_ns();

	for (uint32_t round = 0; round < PROBE_ROUND_COUNT; round++) {
		uint32_t first = round * RX_BURST % STREAM_COUNT;

		for (uint32_t i = 0; i < RX_BURST; i++)
			tcp_ours_send(f->ours, first + i);
		tcp_ours_poll(f->ours);
		for (uint32_t i = 0; i < RX_BURST; i++)
			tcp_ours_ack(f->ours, first + i);
		tcp_ours_poll(f->ours);
	}
	return (double)(processor_ns() - from) / (PROBE_ROUND_COUNT * RX_BURST);
}

/* What one round saw. */
enum figure {
	LIMIT,
	OFFERED,
	EVENTS,
	EVENTS_FLOODED,
	KEPT,
	LOST,
	FIGURE_COUNT
};

static void round_of(struct flood *f, double *figures)
{
	uint64_t event_gap_ns = (uint64_t)(event_ns(f) / STREAM_SHARE);

	phase(f, LIMIT_GAP_NS, 0);
	figures[LIMIT] = per_second(f, f->syn_count - f->syn_lost);
	phase(f, 0, event_gap_ns);
	figures[EVENTS] = per_second(f, f->event_count);
	phase(f, (uint64_t)(2e9 / figures[LIMIT]), event_gap_ns);
	figures[OFFERED] = per_second(f, f->syn_count);
	figures[EVENTS_FLOODED] = per_second(f, f->event_count);
	figures[LOST] = 100 * (double)f->syn_lost / (double)f->syn_count;
	figures[KEPT] = 100 * figures[EVENTS_FLOODED] / figures[EVENTS];
}

int tcp_flood_measure(struct tcp_flood *out, struct error *err)
{
	double rounds[FIGURE_COUNT][ROUND_COUNT], figures[FIGURE_COUNT];
	struct flood *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return error_set(err, ENOMEM, "no memory");
	rc = tcp_ours_create(STREAM_COUNT, true, &f->ours, err);
	if (rc) {
		free(f);
		return rc;
	}
	for (uint32_t i = 0; i < FIRST_SYN_COUNT; i++)
		tcp_ours_syn(f->ours, i);
	event_ns(f); /* warm */
	for (uint32_t i = 0; i < ROUND_COUNT; i++) {
		round_of(f, figures);
		for (uint32_t j = 0; j < FIGURE_COUNT; j++)
			rounds[j][i] = figures[j];
	}
	*out = (struct tcp_flood){.limit = median(rounds[LIMIT], ROUND_COUNT),
		.offered = median(rounds[OFFERED], ROUND_COUNT),
		.events = median(rounds[EVENTS], ROUND_COUNT),
		.events_flooded = median(rounds[EVENTS_FLOODED], ROUND_COUNT),
		.kept = median(rounds[KEPT], ROUND_COUNT),
		.lost = median(rounds[LOST], ROUND_COUNT),
		.half_open = f->half_open_max};
	tcp_ours_destroy(f->ours);
	free(f);
	return 0;
}
