/* adapters.c - heddle-bench adapters: what adapters cost steps and loads */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On a random model whose steps are mostly reading experts, in one process:
 *   idle      a step of base rows with 20 adapters loaded / with none
 *   reroute   the routers of a step with the expert map - without, as a share
 *             of the step
 *   mixed     a step over 4, 8 and 20 adapters / the same rows of the base,
 *             against what both read
 *   load      files in the page cache to RESIDENT / memcpy of as many bytes
 *   governor  what loads beside decode do to the time between tokens, and how
 *             fast they are; with a thread on each core, and with a core
 *             that only loads have (governor.spare)
 * How pairs are measured, and what the bound is: bench/adapters_pairs.h.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/adapters.h"
#include "bench/adapters_load.h"
#include "bench/adapters_steps.h"
#include "bench/report.h"

#define PAIRS 2000u
#define LOAD_ROUNDS 9u
#define IDLE_LIMIT 1.005
#define REROUTE_LIMIT 0.5 /* % of a step */
#define MIXED_FACTOR 1.05
#define LOAD_GOAL 0.8 /* of memcpy */
#define ITL_LIMIT 1.2
#define BESIDE_GOAL 0.25 /* of the idle rate */

struct bench {
	struct world world;
	struct world_config config;
	const char *parts, *json;
	uint32_t pairs;
	struct report report;
};

static const char usage[] =
	"usage: heddle-bench adapters --dir DIR [--pairs N] [--threads N]\n"
	"         [--parts LIST] [--small] [--json FILE]\n"
	"What adapters cost steps and loads, by alternating pairs in one "
	"process.\n"
	"--dir DIR    where the random model is, or is written\n"
	"--pairs N    measurements of each side [2000]\n"
	"--threads N  of the back end [all cores]\n"
	"--parts LIST of idle,reroute,mixed,load,governor [all]\n"
	"--small      a model of some MB: does it work at all?\n";

static void print_stats(
	const char *name, const struct pair_stats *s, const char *unit)
{
	printf("%-10s %u pairs: median %.5g %s, 95 %% interval %.5g to %.5g; "
	       "%.3f and %.3f ms\n",
		name, s->count, s->median, unit, s->low, s->high,
		s->first / 1e6, s->second / 1e6);
}

static void add_ratio(
	struct bench *b, const char *name, double value, double limit)
{
	report_add_named(&b->report,
		&(struct report_row){.value = value,
			.unit = "x",
			.limit = limit,
			.goal_share = 1,
			.less_is_better = true},
		"adapters.%s", name);
}

static void add_plain(
	struct bench *b, const char *name, double value, const char *unit)
{
	report_add_named(&b->report,
		&(struct report_row){
			.value = value, .unit = unit, .less_is_better = true},
		"adapters.%s", name);
}

static int run_idle(struct bench *b, struct error *err)
{
	struct pair_stats s;
	int rc = steps_idle(&b->world, b->pairs, &s, err);

	if (rc)
		return rc;
	print_stats("idle", &s, "x");
	add_ratio(b, "idle", s.high, IDLE_LIMIT);
	add_plain(b, "idle.median", s.median, "x");
	add_plain(b, "step", s.second / 1e6, "ms");
	return 0;
}

static int run_reroute(struct bench *b, struct error *err)
{
	struct steps_reroute r;
	int rc = steps_reroute(&b->world, b->pairs, &r, err);
	double share = 100 / r.step_ns;

	if (rc)
		return rc;
	print_stats("reroute", &r.routers, "ns");
	report_add_named(&b->report,
		&(struct report_row){.value = r.routers.high * share,
			.unit = "%",
			.limit = REROUTE_LIMIT,
			.goal_share = 1,
			.less_is_better = true},
		"adapters.reroute");
	add_plain(b, "reroute.median", r.routers.median * share, "%");
	add_plain(b, "reroute.routers", r.routers.first / 1e3, "us");
	return 0;
}

static int run_mixed(struct bench *b, struct error *err)
{
	static const uint32_t adapters[] = {4, 8, 20};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < 3; i++) {
		struct steps_mixed m = {.adapters = adapters[i],
			.rows = adapters[i] > STEPS_ROWS ? adapters[i]
							 : STEPS_ROWS};
		char name[48];

		rc = steps_mixed(&b->world, b->pairs, &m, err);
		if (rc)
			break;
		snprintf(name, sizeof(name), "mixed.%u", m.adapters);
		print_stats(name, &m.time, "x");
		printf("%-10s %u rows; the base reads %.1f MB, %.4f times as "
		       "much with adapters\n",
			"", m.rows, m.step_bytes / 1e6, m.byte_ratio);
		add_ratio(b, name, m.time.high, MIXED_FACTOR * m.byte_ratio);
		snprintf(name, sizeof(name), "mixed.%u.median", m.adapters);
		add_plain(b, name, m.time.median, "x");
		snprintf(name, sizeof(name), "mixed.%u.bytes", m.adapters);
		add_plain(b, name, m.byte_ratio, "x");
	}
	return rc;
}

static void add_load(
	struct bench *b, const char *name, double rate, double copy_rate)
{
	report_add_named(&b->report,
		&(struct report_row){.value = rate / 1e9,
			.unit = "GB/s",
			.limit = copy_rate / 1e9,
			.goal_share = LOAD_GOAL},
		"adapters.%s", name);
}

static int run_load(struct bench *b, struct error *err)
{
	uint32_t rounds = b->config.small ? 2 : LOAD_ROUNDS;
	uint32_t threads = b->config.thread_count < READER_LANE_COUNT_MAX
				   ? b->config.thread_count
				   : READER_LANE_COUNT_MAX;
	struct load_rates r;
	int rc = load_measure(&b->world, rounds, 1, &r, err);

	if (rc)
		return rc;
	add_load(b, "load.one", r.used, r.copy_used);
	add_load(b, "load.one.fresh", r.fresh, r.copy_fresh);
	rc = load_measure(&b->world, rounds, threads, &r, err);
	if (rc)
		return rc;
	printf("load       %.0f MB by %u threads, and by one; the limit is "
	       "memcpy by as many into memory as used, or as fresh, in large "
	       "pages on both sides\n",
		(double)b->world.whole_bytes / 1e6, threads);
	add_load(b, "load", r.used, r.copy_used);
	add_load(b, "load.fresh", r.fresh, r.copy_fresh);
	add_plain(b, "load.stage", r.stage_ns / 1e3, "us");
	add_plain(b, "load.map", r.map_ns / 1e3, "us");
	add_plain(b, "load.copy", r.copy_ns / 1e3, "us");
	add_plain(b, "load.publish", r.publish_ns / 1e3, "us");
	add_plain(b, "unload", r.unload_ns / 1e3, "us");
	return 0;
}

/* Beside so many threads that compute, and the others' cores for the copy. */
static int run_governor(struct bench *b, const char *name,
	const struct lane_cores *cores, struct error *err)
{
	struct load_governed g;
	int rc = load_governed(&b->world, cores, b->pairs, &g, err);

	if (rc)
		return rc;
	printf("%-10s %u threads compute, %d cores; %u steps beside %u loads; "
	       "median %.3f ms, quiet %.3f ms; p99 %.3f ms, quiet %.3f ms\n",
		name, b->world.config.thread_count, CPU_COUNT(&cores->all),
		g.step_count, g.load_count, g.beside_median_ns / 1e6,
		g.quiet_median_ns / 1e6, g.beside_p99_ns / 1e6,
		g.quiet_p99_ns / 1e6);
	add_ratio(b, name, g.beside_p99_ns / g.quiet_p99_ns, ITL_LIMIT);
	report_add_named(&b->report,
		&(struct report_row){
			.value = g.beside_median_ns / g.quiet_median_ns,
			.unit = "x",
			.less_is_better = true},
		"adapters.%s.median", name);
	report_add_named(&b->report,
		&(struct report_row){.value = g.beside_rate / 1e9,
			.unit = "GB/s",
			.limit = g.idle_rate / 1e9,
			.goal_share = BESIDE_GOAL},
		"adapters.%s.rate", name);
	return 0;
}

/* One core is left to the copy: as on a node with one to spare. */
static int run_spare(struct bench *b, struct error *err)
{
	struct world_config config = b->config;
	struct lane_cores cores;
	cpu_set_t first, rest;
	int rc;

	lane_cores_init(&cores, 0);
	config.thread_count = (uint32_t)CPU_COUNT(&cores.all) - 1;
	if (config.thread_count == 0)
		return 0;
	lane_cores_init(&cores, config.thread_count);
	cores_split(&cores.all, config.thread_count, &first, &rest);
	/* This thread computes; the back end's others have its cores. */
	if (sched_setaffinity(0, sizeof(first), &first))
		return error_set(err, errno, "the cores: %s", strerror(errno));
	rc = world_open(&b->world, &config, err);
	if (rc == 0)
		rc = run_governor(b, "governor.spare", &cores, err);
	world_close(&b->world);
	(void)sched_setaffinity(0, sizeof(cores.all), &cores.all);
	return rc;
}

/* ---- all of it ---- */

static bool wants(const struct bench *b, const char *part)
{
	size_t length = strlen(part);

	for (const char *at = b->parts; at && *at;) {
		size_t end = strcspn(at, ",");

		if (end == length && memcmp(at, part, length) == 0)
			return true;
		at += end + (at[end] == ',');
	}
	return !b->parts;
}

static int run_parts(struct bench *b, struct error *err)
{
	struct lane_cores cores;
	bool loaded =
		wants(b, "idle") || wants(b, "reroute") || wants(b, "mixed");
	int rc = loaded ? world_load(&b->world, err) : 0;

	lane_cores_init(&cores, 0);
	if (rc == 0 && wants(b, "idle"))
		rc = run_idle(b, err);
	if (rc == 0 && wants(b, "reroute"))
		rc = run_reroute(b, err);
	if (rc == 0 && wants(b, "mixed"))
		rc = run_mixed(b, err);
	if (rc == 0 && loaded)
		rc = world_unload(&b->world, err);
	if (rc == 0 && wants(b, "load"))
		rc = run_load(b, err);
	if (rc == 0 && wants(b, "governor"))
		rc = run_governor(b, "governor", &cores, err);
	return rc;
}

static int run_all(struct bench *b, struct error *err)
{
	int rc = world_open(&b->world, &b->config, err);

	if (rc == 0)
		rc = run_parts(b, err);
	world_close(&b->world);
	if (rc == 0 && wants(b, "governor"))
		rc = run_spare(b, err);
	if (rc)
		return rc;
	report_print_table(&b->report, stdout);
	return report_write(&b->report, b->json, NULL, err);
}

static bool known_parts(const char *parts)
{
	static const char *const known[] = {
		"idle", "reroute", "mixed", "load", "governor"};
	const struct bench all = {.parts = parts};
	size_t count = 0, wanted = 1;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		count += wants(&all, known[i]);
	for (const char *at = parts; *at; at++)
		wanted += *at == ',';
	return count == wanted;
}

static bool parse_number(const char *text, uint32_t most, uint32_t *out)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	*out = (uint32_t)value;
	return *text >= '0' && *text <= '9' && *end == '\0' && value > 0 &&
	       value <= most;
}

static int parse(int argc, char **argv, struct bench *b)
{
	static const struct option options[] = {
		{"dir", required_argument, NULL, 'd'},
		{"pairs", required_argument, NULL, 'p'},
		{"threads", required_argument, NULL, 't'},
		{"parts", required_argument, NULL, 'l'},
		{"small", no_argument, NULL, 's'},
		{"json", required_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool good = true;
	int key;

	while ((key = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (key == 'h')
			return 1;
		if (key == 'd')
			b->config.directory = optarg;
		else if (key == 'j')
			b->json = optarg;
		else if (key == 'l')
			good = good && known_parts(b->parts = optarg);
		else if (key == 's')
			b->config.small = true;
		else if (key == 'p')
			good = good && parse_number(optarg, 1000000, &b->pairs);
		else if (key == 't')
			good = good && parse_number(optarg, 1024,
					       &b->config.thread_count);
		else
			good = false;
	}
	return good && optind == argc && b->config.directory ? 0 : -EINVAL;
}

int adapters_main(int argc, char **argv)
{
	static struct bench bench; /* a large struct, used once */
	struct error err = {0};
	int rc;

	bench.pairs = PAIRS;
	bench.config.thread_count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	rc = parse(argc, argv, &bench);
	if (rc) {
		fputs(usage, rc > 0 ? stdout : stderr);
		return rc > 0 ? 0 : 2;
	}
	if (run_all(&bench, &err) == 0)
		return 0;
	fprintf(stderr, "heddle-bench adapters: %s\n", err.text);
	return 1;
}
