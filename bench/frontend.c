/* frontend.c - the front end's ceiling beside a bare loop (heddled -> figures) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts, each with a node of its own, freshly started:
 *   ceiling   streams as fast as they go, beside the bare loop
 *   steady    the highest rate at which nine in ten tokens of a step are on
 *             their sockets before those of the next step come
 *   paced     streams at half of that rate: delay from token to socket
 *   many      10,000 streams at half of that rate, exact to the byte
 *   prompts   the paced streams while prompts of 100 kB and 1 MB come
 *   idle      what a connection costs that has been used and is kept
 * A ceiling says nothing of delays: tokens that wait for each other go out
 * together, and so as many as that are never seen one by one.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/arguments.h"
#include "bench/frontend.h"
#include "bench/frontend_bare.h"
#include "bench/frontend_load.h"
#include "bench/frontend_metrics.h"
#include "bench/node.h"
#include "bench/report.h"

#define DELAY_METRIC "heddle_token_to_socket_seconds"
#define ROWS_PER_RANK_MAX 1024 /* a step's tokens come in one burst */
#define START_RATE 20000.0 /* streams per second, as they are opened */
#define RUN_S 6.0 /* how long a paced part streams, unless said */
#define STEADY_RUN_S 2.0
#define STEADY_FACTOR 0.8 /* from one rate to the next that is tried */
#define STEADY_TRY_COUNT 12
#define STEADY_DELAY_S 0.001 /* whoever is that quick has no backlog */
#define STEADY_SHARE 0.8 /* of the events that were due: first steps are late */
#define BARE_NAME "bare io_uring loop"

/* What is aimed at. */
#define CEILING_SHARE 0.7
#define DELAY_LIMIT_MS 20.0
#define PROMPT_LIMIT_MS 5.0
#define IDLE_LIMIT_KIB 16.0

/* In the order in which they run. */
enum part {
	PART_CEILING = 1,
	PART_STEADY = 2,
	PART_PACED = 4,
	PART_PROMPTS = 8,
	PART_MANY = 16,
	PART_IDLE = 32,
	PART_ALL = 63
};

struct session {
	const char *heddled, *model, *json;
	uint32_t streams, tokens, many, idle, text_workers, threads;
	uint32_t parts;
	double seconds; /* of a paced part */
	bool quiet;
	int signal_fd;
	double ceiling; /* events per second, 0 = not measured */
	double steady; /* the same, measured or given */
	double bare; /* events per CPU second of the bare loop, 0 = unknown */
	double paced_p99_ms; /* of the paced part, 0 = not measured */
	bool missed;
	struct report report;
	struct error err;
};

/* --- a figure -------------------------------------------------------------- */

static void figure(struct session *session, const struct report_row *row)
{
	report_add(&session->report, row);
	if (!report_row_reached(row))
		session->missed = true;
}

static void plain(struct session *session, const char *name, double value,
	const char *unit)
{
	figure(session, &(struct report_row){
				.name = name, .value = value, .unit = unit});
}

/* A time or size that may be at most `limit`. */
static void bounded(struct session *session, const char *name, double value,
	const char *unit, double limit)
{
	figure(session, &(struct report_row){.name = name,
				.value = value,
				.unit = unit,
				.limit = limit,
				.less_is_better = true,
				.goal_share = 1});
}

static void print_faults(const struct frontend_outcome *outcome)
{
	for (int i = 1; i < SERVE_FAULT_COUNT; i++)
		if (outcome->faults.counts[i])
			fprintf(stderr, "  %s: %llu, e.g. %s\n",
				serve_fault_name((enum serve_fault)i),
				(unsigned long long)outcome->faults.counts[i],
				outcome->faults.examples[i]);
}

/* Every stream must be whole, or the figures mean nothing. */
static int require_whole(struct session *session, const char *part,
	const struct frontend_outcome *outcome)
{
	if (outcome->interrupted)
		return error_set(&session->err, EINTR, "interrupted");
	if (outcome->refused_count)
		fprintf(stderr, "  %llu refused with 429 and sent again\n",
			(unsigned long long)outcome->refused_count);
	if (!outcome->failed && !outcome->intruders_failed)
		return 0;
	print_faults(outcome);
	return error_set(&session->err, EPROTO,
		"%s: %zu of %zu streams and %zu prompts failed", part,
		outcome->failed, outcome->failed + outcome->completed,
		outcome->intruders_failed);
}

/* --- nodes ----------------------------------------------------------------- */

static uint32_t rank_count(uint32_t streams)
{
	return (streams + ROWS_PER_RANK_MAX - 1) / ROWS_PER_RANK_MAX;
}

/* For so many streams at once; `rate` events per second, 0 = free running. */
static int start_node(struct session *session, uint32_t streams, double rate,
	struct bench_node *node)
{
	uint32_t ranks = rank_count(streams);
	char devices[256] = "null", step[16], rows[16], workers[16];
	const char *const options[] = {"--device", devices, "--null-step-us",
		step, "--null-rows", rows, "--text-workers", workers,
		"--connections", "16384", NULL};
	const struct bench_node_setup setup = {
		session->heddled, session->model, options};

	for (uint32_t i = 1; i < ranks; i++)
		strncat(devices, ",null",
			sizeof(devices) - strlen(devices) - 1);
	snprintf(step, sizeof(step), "%u",
		rate > 0 ? (uint32_t)(streams * 1e6 / rate) : 0);
	snprintf(rows, sizeof(rows), "%u", (streams + ranks - 1) / ranks + 8);
	snprintf(workers, sizeof(workers), "%u", session->text_workers);
	return bench_node_start(&setup, node, &session->err);
}

static struct frontend_load load_of(const struct session *session,
	const struct serve_target *target, uint32_t tokens)
{
	return (struct frontend_load){.target = target,
		.stream_count = session->streams,
		.token_count = tokens,
		.rate = START_RATE,
		.thread_count = session->threads,
		.progress = !session->quiet,
		.signal_fd = session->signal_fd};
}

/* CPU time of the front end, and of the whole node, of a run. */
struct costs {
	double front_s, node_s;
	struct frontend_outcome outcome;
	double delay_p90_s, delay_p99_s; /* token to socket */
	double stolen_s; /* processor time that went to other machines */
};

/* Delays are counted from when all streams are open: opening has its own. */
struct delays {
	const struct bench_node *node;
	struct frontend_histogram before;
	struct error err;
	int rc;
};

static void begin_delays(void *arg)
{
	struct delays *d = arg;

	d->rc = frontend_histogram_get(
		&d->node->admin, DELAY_METRIC, &d->before, &d->err);
}

static int end_delays(
	struct session *session, struct delays *d, struct costs *out)
{
	struct frontend_histogram after;

	if (d->rc)
		return error_set(&session->err, -d->rc, "%s", d->err.text);
	d->rc = frontend_histogram_get(
		&d->node->admin, DELAY_METRIC, &after, &session->err);
	if (d->rc)
		return d->rc;
	out->delay_p90_s =
		frontend_histogram_percentile(&d->before, &after, 90);
	out->delay_p99_s =
		frontend_histogram_percentile(&d->before, &after, 99);
	return 0;
}

static int run_load(struct session *session, const struct bench_node *node,
	const struct frontend_load *load, struct costs *out)
{
	struct delays delays = {.node = node, .rc = -ENODATA};
	struct frontend_load noted = *load;
	int rc;

	noted.all_open = begin_delays;
	noted.all_open_arg = &delays;
	out->front_s = bench_cpu_s(node->front_pid);
	out->node_s = bench_node_cpu_s(node);
	out->stolen_s = bench_stolen_s();
	rc = frontend_load_run(&noted, &out->outcome, &session->err);
	out->front_s = bench_cpu_s(node->front_pid) - out->front_s;
	out->node_s = bench_node_cpu_s(node) - out->node_s;
	out->stolen_s = bench_stolen_s() - out->stolen_s;
	return rc ? rc : end_delays(session, &delays, out);
}

static double events_per_s(const struct costs *costs)
{
	return (double)costs->outcome.event_count / costs->outcome.duration_s;
}

/* --- ceiling --------------------------------------------------------------- */

static int run_bare(struct session *session,
	const struct serve_bytes *recording, double *rate)
{
	struct frontend_bare bare;
	struct frontend_outcome outcome;
	struct frontend_load load;
	double cpu_s;
	int rc = frontend_bare_start(
		recording, session->streams, &bare, &session->err);

	if (rc)
		return rc;
	load = load_of(session, &bare.target, session->tokens);
	rc = frontend_load_run(&load, &outcome, &session->err);
	if (rc == 0)
		rc = require_whole(session, "bare loop", &outcome);
	if (rc)
		return rc;
	rc = frontend_bare_end(&bare, &cpu_s, &session->err);
	session->bare = (double)outcome.event_count / cpu_s;
	*rate = (double)outcome.event_count / outcome.duration_s;
	return rc;
}

/* Events per CPU second, with the bare loop as limit and as peer. */
static void beside_bare(struct session *session, const char *name, double value,
	double goal_share)
{
	figure(session, &(struct report_row){.name = name,
				.value = value,
				.unit = "1/s",
				.limit = session->bare,
				.peer = session->bare > 0 ? BARE_NAME : NULL,
				.peer_value = session->bare,
				.goal_share = goal_share});
}

static void report_ceiling(
	struct session *session, const struct costs *costs, double bare_rate)
{
	double events = (double)costs->outcome.event_count;

	beside_bare(session, "frontend.events_per_cpu_s",
		events / costs->front_s, CEILING_SHARE);
	beside_bare(session, "frontend.node_events_per_cpu_s",
		events / costs->node_s, 0);
	figure(session, &(struct report_row){.name = "frontend.events_per_s",
				.value = session->ceiling,
				.unit = "1/s",
				.peer = BARE_NAME,
				.peer_value = bare_rate});
}

static int part_ceiling(struct session *session)
{
	struct serve_bytes recording = {0};
	struct bench_node node;
	struct frontend_load load;
	struct costs costs;
	double bare_rate;
	int rc = start_node(session, session->streams, 0, &node);

	if (rc)
		return rc;
	rc = frontend_record(
		&node.api, session->tokens, &recording, &session->err);
	load = load_of(session, &node.api, session->tokens);
	if (rc == 0)
		rc = run_load(session, &node, &load, &costs);
	bench_node_stop(&node);
	if (rc == 0)
		rc = require_whole(session, "ceiling", &costs.outcome);
	if (rc == 0)
		rc = run_bare(session, &recording, &bare_rate);
	if (rc == 0) {
		session->ceiling = events_per_s(&costs);
		report_ceiling(session, &costs, bare_rate);
	}
	serve_bytes_release(&recording);
	return rc;
}

/* --- a rate ---------------------------------------------------------------- */

/* Streams at `rate` events a second in all, for about `seconds`. */
struct pace {
	uint32_t streams;
	double rate, seconds;
	double open_rate; /* streams per second, as they are opened */
	struct frontend_intruders intruders;
};

/* Tokens per stream, so that all streams run together for some seconds. */
static uint32_t tokens_for(const struct pace *pace)
{
	double seconds = pace->seconds + pace->streams / pace->open_rate;
	double tokens = pace->rate * seconds / pace->streams;

	return tokens > 4 ? (uint32_t)tokens : 4;
}

static int run_pace(
	struct session *session, const struct pace *pace, struct costs *out)
{
	struct bench_node node;
	struct frontend_load load;
	uint64_t hashes[FRONTEND_SEED_COUNT];
	uint32_t tokens = tokens_for(pace);
	int rc = start_node(session, pace->streams, pace->rate, &node);

	if (rc)
		return rc;
	rc = frontend_references(&node.api, tokens, hashes, &session->err);
	load = load_of(session, &node.api, tokens);
	load.stream_count = pace->streams;
	load.rate = pace->open_rate;
	load.hashes = hashes;
	load.intruders = pace->intruders;
	if (rc == 0)
		rc = run_load(session, &node, &load, out);
	bench_node_stop(&node);
	return rc;
}

/* What other machines took of this one, which delays nobody's fault made. */
static void report_stolen(
	struct session *session, const char *name, const struct costs *costs)
{
	double all_s = costs->outcome.duration_s *
		       (double)sysconf(_SC_NPROCESSORS_ONLN);

	plain(session, name, 100 * costs->stolen_s / all_s, "%");
}

/* --- steady ---------------------------------------------------------------- */

static int part_steady(struct session *session)
{
	double rate = session->ceiling;
	struct costs costs;

	for (uint32_t i = 0; i < STEADY_TRY_COUNT; i++) {
		const struct pace pace = {session->streams, rate,
			fmin(session->seconds, STEADY_RUN_S), START_RATE, {0}};
		double late_s = fmax(session->streams / rate, STEADY_DELAY_S);
		int rc = run_pace(session, &pace, &costs);

		if (rc == 0)
			rc = require_whole(session, "steady", &costs.outcome);
		if (rc)
			return rc;
		if (events_per_s(&costs) >= STEADY_SHARE * rate &&
			costs.delay_p90_s <= late_s)
			break;
		rate *= STEADY_FACTOR;
	}
	session->steady = rate;
	plain(session, "frontend.steady_events_per_s", rate, "1/s");
	return 0;
}

/* --- paced, and prompts ---------------------------------------------------- */

static int part_paced(struct session *session)
{
	const struct pace pace = {session->streams, session->steady / 2,
		session->seconds, START_RATE, {0}};
	struct costs costs;
	int rc = run_pace(session, &pace, &costs);

	if (rc == 0)
		rc = require_whole(session, "paced", &costs.outcome);
	if (rc)
		return rc;
	session->paced_p99_ms = costs.delay_p99_s * 1e3;
	beside_bare(session, "frontend.paced_events_per_cpu_s",
		(double)costs.outcome.event_count / costs.front_s, 0);
	plain(session, "frontend.paced_events_per_s", events_per_s(&costs),
		"1/s");
	bounded(session, "frontend.paced_delay_p99", session->paced_p99_ms,
		"ms", DELAY_LIMIT_MS);
	plain(session, "frontend.paced_itl_p99", costs.outcome.itl_p99_s * 1e3,
		"ms");
	report_stolen(session, "frontend.paced_stolen", &costs);
	return 0;
}

static int part_prompts(struct session *session)
{
	const struct pace pace = {session->streams, session->steady / 2,
		session->seconds, START_RATE,
		{.count = 10,
			.from_ns = (uint64_t)(session->seconds * 1e9 / 6),
			.every_ns = (uint64_t)(session->seconds * 1e9 / 30),
			.small_bytes = 100000,
			.large_bytes = 1000000}};
	struct costs costs;
	double p99_ms, more_ms;
	int rc = run_pace(session, &pace, &costs);

	if (rc == 0)
		rc = require_whole(session, "prompts", &costs.outcome);
	if (rc)
		return rc;
	p99_ms = costs.delay_p99_s * 1e3;
	more_ms = p99_ms - session->paced_p99_ms;
	plain(session, "frontend.prompts_delay_p99", p99_ms, "ms");
	plain(session, "frontend.prompts_itl_p99",
		costs.outcome.itl_p99_s * 1e3, "ms");
	if (session->paced_p99_ms > 0)
		bounded(session, "frontend.prompts_delay_more",
			more_ms > 0.001 ? more_ms : 0.001, "ms",
			PROMPT_LIMIT_MS);
	report_stolen(session, "frontend.prompts_stolen", &costs);
	return 0;
}

/* --- many ------------------------------------------------------------------ */

static int part_many(struct session *session)
{
	const struct pace pace = {session->many, session->steady / 2,
		session->seconds, START_RATE / 4, {0}};
	struct costs costs;
	int rc = run_pace(session, &pace, &costs);

	if (rc == 0)
		rc = require_whole(session, "many", &costs.outcome);
	if (rc)
		return rc;
	plain(session, "frontend.many_exact", (double)costs.outcome.completed,
		"streams");
	plain(session, "frontend.many_at_once",
		(double)costs.outcome.peak_in_flight, "streams");
	plain(session, "frontend.many_events_per_s", events_per_s(&costs),
		"1/s");
	bounded(session, "frontend.many_delay_p99", costs.delay_p99_s * 1e3,
		"ms", DELAY_LIMIT_MS);
	plain(session, "frontend.many_itl_p99", costs.outcome.itl_p99_s * 1e3,
		"ms");
	report_stolen(session, "frontend.many_stolen", &costs);
	return 0;
}

/* --- idle ------------------------------------------------------------------ */

/* A request and its answer; the connection stays. */
static int use_connection(const struct serve_target *target, int fd)
{
	static const struct serve_call call = {
		.method = "GET", .path = "/v1/models"};
	struct serve_bytes head = {0};
	struct serve_http http;
	char data[4096];
	enum serve_http_event event = SERVE_HTTP_MORE;
	int rc = serve_call_head(target, &call, &head);

	if (rc == 0 && send(fd, head.data, head.length, MSG_NOSIGNAL) !=
			       (ssize_t)head.length)
		rc = -EIO;
	serve_bytes_release(&head);
	serve_http_init(&http);
	while (rc == 0 && event != SERVE_HTTP_END) {
		ssize_t count = recv(fd, data, sizeof(data), 0);
		size_t at = 0, taken;

		if (count <= 0)
			return -EIO;
		do {
			event = serve_http_feed(
				&http, data + at, (size_t)count - at, &taken);
			at += taken;
		} while (event == SERVE_HTTP_BODY);
		if (event == SERVE_HTTP_BAD)
			return -EPROTO;
	}
	return rc;
}

static int open_connections(struct session *session,
	const struct serve_target *target, int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int rc;

		fds[i] = serve_target_connect(target, &session->err);
		if (fds[i] < 0)
			return fds[i];
		rc = use_connection(target, fds[i]);
		if (rc)
			return error_set(&session->err, -rc,
				"connection %u: %s", i, strerror(-rc));
	}
	return 0;
}

/* The first connections pay for what all share: they are not counted. */
static int part_idle(struct session *session)
{
	const uint32_t first = 64;
	uint32_t total = session->idle + first;
	int *fds = calloc(total, sizeof(*fds));
	uint64_t before = 0, after = 0;
	struct bench_node node;
	int rc;

	if (!fds)
		return error_set(&session->err, ENOMEM, "no memory");
	memset(fds, -1, total * sizeof(*fds));
	rc = start_node(session, 1, 0, &node);
	if (rc == 0)
		rc = open_connections(session, &node.api, fds, first);
	if (rc == 0) {
		before = bench_memory_bytes(node.front_pid);
		rc = open_connections(
			session, &node.api, fds + first, session->idle);
		after = bench_memory_bytes(node.front_pid);
	}
	for (uint32_t i = 0; i < total; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(fds);
	bench_node_stop(&node);
	if (rc == 0)
		bounded(session, "frontend.idle_connection",
			after > before ? (double)(after - before) / 1024 /
						 session->idle
				       : 0.001,
			"KiB", IDLE_LIMIT_KIB);
	return rc;
}

/* --- the command ----------------------------------------------------------- */

static const char *const part_names[] = {
	"ceiling", "steady", "paced", "prompts", "many", "idle", NULL};
static int (*const part_runs[])(struct session *session) = {part_ceiling,
	part_steady, part_paced, part_prompts, part_many, part_idle};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: heddle-bench frontend --heddled PATH --model DIR "
		"[OPTION...]\n\n"
		"  --parts LIST      of ceiling,steady,paced,prompts,many,idle "
		"(default:\n"
		"                    all)\n"
		"  --streams N       of ceiling, paced and prompts (default "
		"1024)\n"
		"  --tokens N        per stream of ceiling (default 1000)\n"
		"  --many N          streams of many (default 10000)\n"
		"  --idle N          connections of idle (default 4000)\n"
		"  --seconds S       of paced, prompts and many (default 6)\n"
		"  --steady RATE     events/s, where steady is not measured\n"
		"  --text-workers N  of heddled (default 1)\n"
		"  --threads N       of the client (default 1)\n"
		"  --json FILE       write the figures\n"
		"  --quiet           no progress\n\n"
		"Exit status: 0 every limit was kept, 1 one was not, 2 no "
		"measurement.\n");
}

static bool parse_option(struct session *session, int id, char *text)
{
	uint32_t *const counts[] = {['s'] = &session->streams,
		['t'] = &session->tokens,
		['m'] = &session->many,
		['i'] = &session->idle,
		['w'] = &session->text_workers,
		['n'] = &session->threads};
	char *end;

	switch (id) {
	case 'H':
		session->heddled = text;
		return true;
	case 'M':
		session->model = text;
		return true;
	case 'j':
		session->json = text;
		return true;
	case 'q':
		session->quiet = true;
		return true;
	case 'p':
		return argument_parts(text, part_names, &session->parts);
	case 'c':
		session->steady = strtod(text, &end);
		return *end == '\0' && session->steady >= 1;
	case 'S':
		session->seconds = strtod(text, &end);
		return *end == '\0' && session->seconds >= 0.1 &&
		       session->seconds <= 3600;
	default:
		return id < (int)(sizeof(counts) / sizeof(counts[0])) &&
		       counts[id] && argument_count(text, 1000000, counts[id]);
	}
}

/* 0, 1 = help, -EINVAL with what is wrong. */
static int parse(struct session *session, int argc, char **argv)
{
	static const struct option options[] = {
		{"heddled", required_argument, NULL, 'H'},
		{"model", required_argument, NULL, 'M'},
		{"parts", required_argument, NULL, 'p'},
		{"streams", required_argument, NULL, 's'},
		{"tokens", required_argument, NULL, 't'},
		{"many", required_argument, NULL, 'm'},
		{"idle", required_argument, NULL, 'i'},
		{"steady", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 'S'},
		{"text-workers", required_argument, NULL, 'w'},
		{"threads", required_argument, NULL, 'n'},
		{"json", required_argument, NULL, 'j'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'}, {0}};
	int id;

	optind = 0;
	opterr = 0;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'h')
			return 1;
		if (id == '?' || !parse_option(session, id, optarg))
			return error_set(&session->err, EINVAL,
				"%s: unknown, or its value is wrong",
				argv[optind - 1]);
	}
	if (optind < argc || !session->heddled || !session->model)
		return error_set(&session->err, EINVAL,
			"want --heddled PATH and --model DIR");
	if ((session->parts & PART_STEADY) && !(session->parts & PART_CEILING))
		return error_set(&session->err, EINVAL,
			"the part steady begins where the part ceiling ends");
	if (!(session->parts & PART_STEADY) && session->steady <= 0 &&
		(session->parts & (PART_PACED | PART_MANY | PART_PROMPTS)))
		return error_set(&session->err, EINVAL,
			"without the part steady, say --steady RATE");
	return 0;
}

static int run_parts(struct session *session)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && part_names[i]; i++) {
		if (!(session->parts & 1u << i))
			continue;
		if (!session->quiet)
			fprintf(stderr, "%s\n", part_names[i]);
		rc = part_runs[i](session);
	}
	report_print_table(&session->report, stdout);
	if (rc)
		return rc;
	return report_write(
		&session->report, session->json, NULL, &session->err);
}

int frontend_main(int argc, char **argv)
{
	struct session session = {.streams = 1024,
		.tokens = 1000,
		.many = 10000,
		.idle = 4000,
		.seconds = RUN_S,
		.text_workers = 1,
		.threads = 1,
		.parts = PART_ALL};
	int rc = parse(&session, argc, argv);

	if (rc == 1) {
		usage(stdout);
		return 0;
	}
	if (rc == 0) {
		(void)serve_run_connection_max();
		session.signal_fd = serve_run_block_signals();
		rc = run_parts(&session);
	}
	if (rc) {
		fprintf(stderr, "heddle-bench frontend: %s\n",
			session.err.text);
		return 2;
	}
	return session.missed ? 1 : 0;
}
