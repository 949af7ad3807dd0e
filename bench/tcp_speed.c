/* tcp_speed.c - what a segment costs our TCP (argv -> table, JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pair (tcp_side.h) beside liblwip's and the kernel's, from 64 connections
 * to 100,000. No NIC: frames are built in place and forgotten; our device does
 * checksums but for the row that says otherwise.
 * Noise:  all sides are open at once and take turns of some milliseconds, and
 *         it is the processor time of the turns that counts, so that whatever
 *         else the machine does hits all of them alike. The figure is the
 *         median of the turns.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "bench/median.h"
#include "bench/report.h"
#include "bench/tcp_flood.h"
#include "bench/tcp_ours.h"
#include "bench/tcp_side.h"
#include "bench/tcp_speed.h"

#define ROUND_COUNT 11
#define PAIR_COUNT 16384u /* of a turn */
/* liblwip looks at 10,000 connections for each ACK, and more. */
#define PAIR_COUNT_LIST TCP_SIDE_BURST
#define SIZE_COUNT 4u
#define SIDE_COUNT_MAX (3 * SIZE_COUNT + 1)

static const uint32_t sizes[SIZE_COUNT] = {64, 1024, 9984, 100032};

struct line {
	char name[48];
	struct tcp_side side;
	uint64_t pairs, warm; /* of a turn */
	double runs[ROUND_COUNT];
	double ns; /* the median */
};

struct speed {
	struct line lines[SIDE_COUNT_MAX];
	uint32_t count;
	struct line *ours[SIZE_COUNT], *lwip[SIZE_COUNT], *kernel[SIZE_COUNT];
	struct line *software; /* checksums */
	struct report report;
	struct error err;
	bool missed;
};

uint64_t tcp_side_run(struct tcp_side *side, uint64_t pairs)
{
	uint64_t done = 0;

	while (done < pairs) {
		if (!side->turn(side->arg, side->next))
			return 0;
		side->next = (side->next + TCP_SIDE_BURST) % side->count;
		done += TCP_SIDE_BURST;
	}
	return done;
}

static uint64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* --- the sides --- */

static struct line *line_add(struct speed *s, const char *kind, uint32_t count)
{
	struct line *l = &s->lines[s->count++];

	snprintf(l->name, sizeof(l->name), "tcp.%s.c%u", kind, count);
	l->pairs = PAIR_COUNT;
	/* Into the caches what fits there. */
	l->warm = count < PAIR_COUNT ? count : PAIR_COUNT / 4;
	return l;
}

/* A peer that is not there is no row, and says why. */
static bool peer_is_there(struct speed *s, struct line **line, int rc)
{
	if (rc == 0)
		return true;
	printf("%s: not measured: %s\n", (*line)->name, s->err.text);
	error_clear(&s->err);
	s->count--;
	*line = NULL;
	return false;
}

/*
 * Loopback has no ports for 100,000, nor a process its files: the most that
 * there may be are opened, and fewer are the first of them.
 */
static void open_kernel(struct speed *s, uint32_t count_max)
{
	const struct tcp_side *all = NULL;

	for (uint32_t i = SIZE_COUNT - 1; i-- > 0;) {
		struct line *l;
		int rc = 0;

		if (sizes[i] > count_max)
			continue;
		l = s->kernel[i] = line_add(s, "kernel", sizes[i]);
		if (all)
			tcp_side_first_of(all, sizes[i], &l->side);
		else
			rc = tcp_side_kernel(sizes[i], &l->side, &s->err);
		if (peer_is_there(s, &s->kernel[i], rc))
			all = all ? all : &l->side;
	}
}

static int open_sides(struct speed *s, uint32_t count_max)
{
	int rc;

	for (uint32_t i = 0; i < SIZE_COUNT && sizes[i] <= count_max; i++) {
		uint32_t n = sizes[i];

		s->ours[i] = line_add(s, "pair", n);
		rc = tcp_side_ours(n, true, &s->ours[i]->side, &s->err);
		if (rc) {
			s->count--;
			return rc;
		}
		s->lwip[i] = line_add(s, "lwip", n);
		rc = tcp_side_lwip(n, &s->lwip[i]->side, &s->err);
		if (peer_is_there(s, &s->lwip[i], rc) && n > 1024) {
			s->lwip[i]->pairs = PAIR_COUNT_LIST;
			s->lwip[i]->warm = 0;
		}
	}
	open_kernel(s, count_max);
	s->software = line_add(s, "pair.software-sum", 1024);
	rc = tcp_side_ours(1024, false, &s->software->side, &s->err);
	s->count -= rc != 0;
	return rc;
}

static void close_sides(struct speed *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		s->lines[i].side.end(s->lines[i].side.arg);
}

static int run_line(struct speed *s, struct line *l, uint32_t round)
{
	uint64_t from, done;

	if (l->warm && tcp_side_run(&l->side, l->warm) == 0)
		return error_set(&s->err, EPROTO, "%s has stalled", l->name);
	from = processor_ns();
	done = tcp_side_run(&l->side, l->pairs);
	if (done == 0)
		return error_set(&s->err, EPROTO, "%s has stalled", l->name);
	l->runs[round] = (double)(processor_ns() - from) / (double)done;
	return 0;
}

static int run_all(struct speed *s)
{
	int rc = 0;

	for (uint32_t round = 0; round < ROUND_COUNT && rc == 0; round++)
		for (uint32_t i = 0; i < s->count && rc == 0; i++)
			rc = run_line(s, &s->lines[i], round);
	for (uint32_t i = 0; i < s->count && rc == 0; i++)
		s->lines[i].ns = median(s->lines[i].runs, ROUND_COUNT);
	return rc;
}

/* --- the figures --- */

static void add(struct speed *s, const struct report_row *row)
{
	report_add(&s->report, row);
	s->missed |= row->goal_share > 0 && !report_row_reached(row);
}

static void add_line(struct speed *s, const struct line *l, double limit,
	const struct line *peer)
{
	if (l)
		add(s, &(struct report_row){.name = l->name,
			       .value = l->ns,
			       .unit = "ns",
			       .limit = limit,
			       .goal_share = limit > 0,
			       .peer = peer ? peer->name : NULL,
			       .peer_value = peer ? peer->ns : 0,
			       .less_is_better = true});
}

static void add_lines(struct speed *s)
{
	for (uint32_t i = 0; i < SIZE_COUNT; i++)
		add_line(s, s->ours[i], i ? 1.5 * s->ours[0]->ns : 0,
			s->lwip[i] ? s->lwip[i] : s->kernel[i]);
	add_line(s, s->software, 0, s->lwip[1]);
	for (uint32_t i = 0; i < SIZE_COUNT; i++)
		add_line(s, s->lwip[i], 0, NULL);
	for (uint32_t i = 0; i < SIZE_COUNT; i++)
		add_line(s, s->kernel[i], 0, NULL);
}

static void add_usage(struct speed *s)
{
	struct tcp_usage usage;

	tcp_ours_usage(s->software->side.arg, &usage);
	add(s, &(struct report_row){.name = "tcp.idle",
		       .value = (double)usage.idle_bytes,
		       .unit = "bytes",
		       .limit = 2048,
		       .goal_share = 1,
		       .less_is_better = true});
}

static int add_flood(struct speed *s)
{
	struct tcp_flood flood;
	int rc = tcp_flood_measure(&flood, &s->err);

	if (rc)
		return rc;
	add(s, &(struct report_row){.name = "tcp.flood.limit",
		       .value = flood.limit,
		       .unit = "SYN/s"});
	add(s, &(struct report_row){.name = "tcp.flood.offered",
		       .value = flood.offered,
		       .unit = "SYN/s"});
	add(s, &(struct report_row){.name = "tcp.flood.syn-lost",
		       .value = flood.lost,
		       .unit = "%",
		       .less_is_better = true});
	add(s, &(struct report_row){.name = "tcp.flood.half-open",
		       .value = flood.half_open,
		       .unit = "",
		       .limit = 16,
		       .goal_share = 1,
		       .less_is_better = true});
	add(s, &(struct report_row){.name = "tcp.flood.events",
		       .value = flood.events_flooded,
		       .unit = "events/s",
		       .limit = flood.events});
	add(s, &(struct report_row){.name = "tcp.flood.kept",
		       .value = flood.kept,
		       .unit = "%",
		       .limit = 100,
		       .goal_share = 0.9});
	return 0;
}

static int measure(struct speed *s, uint32_t count_max)
{
	int rc = open_sides(s, count_max);

	if (rc == 0)
		rc = run_all(s);
	if (rc == 0) {
		add_lines(s);
		add_usage(s);
	}
	close_sides(s);
	return rc ? rc : add_flood(s);
}

static void usage_text(FILE *out)
{
	fprintf(out,
		"usage: heddle-bench tcp [--json FILE] "
		"[--connections MAX]\n\n"
		"What an event of 220 bytes and its ACK cost our TCP, from "
		"64 connections to\nMAX (100032), beside liblwip's and the "
		"kernel's; and what a flood of SYNs\nleaves to streams. "
		"Exit status 1: a goal was missed.\n");
}

int tcp_speed_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", required_argument, NULL, 'j'},
		{"connections", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'}, {0}};
	static struct speed s;
	const char *json = NULL;
	uint32_t count_max = UINT32_MAX;
	int id, rc;

	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'j') {
			json = optarg;
		} else if (id == 'c') {
			count_max = (uint32_t)strtoul(optarg, NULL, 10);
		} else {
			usage_text(id == 'h' ? stdout : stderr);
			return id == 'h' ? 0 : 2;
		}
	}
	rc = measure(&s, count_max);
	report_print_table(&s.report, stdout);
	if (rc == 0)
		rc = report_write(&s.report, json, NULL, &s.err);
	if (rc) {
		fprintf(stderr, "heddle-bench tcp: %s\n", s.err.text);
		return 2;
	}
	return s.missed ? 1 : 0;
}
