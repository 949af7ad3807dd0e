/* dataplane.c - what a token event costs the dataplane (argv -> table, JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/arguments.h"
#include "bench/dataplane.h"
#include "bench/dataplane_private.h"

#define COUNT_MAX 1000000

static const char *const part_names[] = {
	"cost", "exact", "idle", "attack", "soak", NULL};
static int (*const parts[])(struct dataplane_session *s) = {dataplane_part_cost,
	dataplane_part_exact, dataplane_part_idle, dataplane_part_attack,
	dataplane_part_soak};

#define PART_COUNT (sizeof(parts) / sizeof(parts[0]))

void dataplane_plain(struct dataplane_session *s, const char *name,
	double value, const char *unit)
{
	report_add(&s->report,
		&(struct report_row){
			.name = name, .value = value, .unit = unit});
}

void dataplane_bounded(struct dataplane_session *s, const char *name,
	double value, const char *unit, double limit)
{
	s->missed |= value > limit;
	report_add(&s->report, &(struct report_row){.name = name,
				       .value = value,
				       .unit = unit,
				       .limit = limit,
				       .less_is_better = true});
}

static void usage(FILE *out)
{
	fprintf(out,
		"usage: heddle-bench dataplane --model DIR [OPTION...]\n\n"
		"  --parts LIST      of cost,exact,idle,attack,soak (default: "
		"all)\n"
		"  --veth NIC,WIRE   ends of a veth pair: NIC has 10.9.0.2/16 "
		"and the\n"
		"                    back ends, WIRE the client; without it "
		"the ring alone\n"
		"  --memif           cost over DPDK's shared memory, too\n"
		"  --streams LIST    of cost (default 64,1024,10000)\n"
		"  --rate N          events a second, where they are paced "
		"(default 50000)\n"
		"  --seconds S       of each measurement (default 2)\n"
		"  --rounds N        of cost and attack: medians are told "
		"(default 3)\n"
		"  --exact N         streams byte for byte (default 10000)\n"
		"  --idle N          idle connections (default 100000)\n"
		"  --many N          connections of attack (default 10000)\n"
		"  --soak N          streams of soak (default 1024)\n"
		"  --soak-seconds S  of soak (default 60)\n"
		"  --seed N          of what soak does (default: another each "
		"time)\n"
		"  --json FILE, --svg FILE  write the figures, and a picture\n"
		"  --quiet           no progress\n\n"
		"Exit status: 0 every limit was kept, 1 one was not, 2 no "
		"measurement.\n");
}

static bool parse_streams(char *text, struct dataplane_session *s)
{
	const uint32_t room = sizeof(s->streams) / sizeof(s->streams[0]);
	char *name;

	s->stream_count = 0;
	while ((name = strsep(&text, ",")))
		if (s->stream_count == room ||
			!argument_count(name, COUNT_MAX,
				&s->streams[s->stream_count++]))
			return false;
	return true;
}

static bool parse_number(const char *text, double least, double *out)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && *end == '\0' && *out >= least && *out <= 1e6;
}

static bool parse_veth(char *text, struct dataplane_place *place)
{
	char *comma = strchr(text, ',');

	if (!comma || comma == text || !comma[1])
		return false;
	*comma = '\0';
	place->nic = text;
	place->wire = comma + 1;
	return true;
}

static bool parse_option(struct dataplane_session *s, int id, char *text)
{
	switch (id) {
	case 'M':
		s->place.model = text;
		return true;
	case 'p':
		return argument_parts(text, part_names, &s->parts);
	case 'v':
		return parse_veth(text, &s->place);
	case 's':
		return parse_streams(text, s);
	case 'r':
		return parse_number(text, 1, &s->rate);
	case 'S':
		return parse_number(text, 0.05, &s->seconds);
	case 'T':
		return parse_number(text, 0.3, &s->soak_seconds);
	case 'n':
		return argument_count(
			text, DATAPLANE_ROUND_COUNT_MAX, &s->rounds);
	case 'e':
		return argument_count(text, COUNT_MAX, &s->exact);
	case 'i':
		return argument_count(text, COUNT_MAX, &s->idle);
	case 'm':
		return argument_count(text, COUNT_MAX, &s->many);
	case 'k':
		return argument_count(text, COUNT_MAX, &s->soak_streams);
	case 'd':
		s->seed = strtoull(text, NULL, 0);
		return s->seed > 0;
	case 'j':
		s->json = text;
		return true;
	case 'g':
		s->svg = text;
		return true;
	case 'I':
		s->memif = true;
		return true;
	case 'q':
		s->quiet = true;
		return true;
	default:
		return false;
	}
}

/* 0, 1 = help, -EINVAL with what is wrong. */
static int parse(struct dataplane_session *s, int argc, char **argv)
{
	static const struct option options[] = {
		{"model", required_argument, NULL, 'M'},
		{"parts", required_argument, NULL, 'p'},
		{"veth", required_argument, NULL, 'v'},
		{"streams", required_argument, NULL, 's'},
		{"rate", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 'S'},
		{"rounds", required_argument, NULL, 'n'},
		{"soak-seconds", required_argument, NULL, 'T'},
		{"exact", required_argument, NULL, 'e'},
		{"idle", required_argument, NULL, 'i'},
		{"many", required_argument, NULL, 'm'},
		{"soak", required_argument, NULL, 'k'},
		{"seed", required_argument, NULL, 'd'},
		{"json", required_argument, NULL, 'j'},
		{"svg", required_argument, NULL, 'g'},
		{"memif", no_argument, NULL, 'I'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'}, {0}};
	int id;

	optind = 0;
	opterr = 0;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'h')
			return 1;
		if (id == '?' || !parse_option(s, id, optarg))
			return error_set(&s->err, EINVAL,
				"%s: unknown, or its value is wrong",
				argv[optind - 1]);
	}
	if (optind < argc || !s->place.model)
		return error_set(&s->err, EINVAL, "want --model DIR");
	return 0;
}

static int run_parts(struct dataplane_session *s)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < PART_COUNT; i++) {
		if (!(s->parts & 1u << i))
			continue;
		if (!s->quiet)
			fprintf(stderr, "%s\n", part_names[i]);
		rc = parts[i](s);
	}
	report_print_table(&s->report, stdout);
	if (rc == 0 && !s->quiet)
		report_print_bars(&s->report, stdout);
	return rc ? rc : report_write(&s->report, s->json, s->svg, &s->err);
}

int dataplane_main(int argc, char **argv)
{
	/* A report is too large for a stack. */
	struct dataplane_session *s = calloc(1, sizeof(*s));
	int rc;

	if (!s) {
		fprintf(stderr, "heddle-bench dataplane: no memory\n");
		return 2;
	}
	*s = (struct dataplane_session){.parts = (1u << PART_COUNT) - 1,
		.seconds = 2,
		.rounds = 3,
		.rate = 50000,
		.streams = {64, 1024, 10000},
		.stream_count = 3,
		.exact = 10000,
		.idle = 100000,
		.many = 10000,
		.soak_streams = 1024,
		.soak_seconds = 60};
	rc = parse(s, argc, argv);
	if (rc == 1)
		usage(stdout);
	if (rc == 0) {
		rc = run_parts(s);
		if (rc == 0)
			rc = s->missed;
	} else {
		rc = rc == 1 ? 0 : rc;
	}
	if (rc < 0)
		fprintf(stderr, "heddle-bench dataplane: %s\n", s->err.text);
	free(s);
	return rc < 0 ? 2 : rc;
}
