/*
 * probe_main.c - the card probe: what a real GPU does (sections -> table, JSON)
 *
 * The parent never opens the driver. It runs each section as a process of its
 * own with a deadline, prints what comes back, and writes the JSON file after
 * every section. It is also the process without a context that holds the
 * descriptors in the section "hold".
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_args.h"
#include "probe_child.h"
#include "probe_fds.h"
#include "probe_names.h"
#include "probe_report.h"
#include "probe_section.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_BAD_ARGUMENTS = 2, EXIT_NO_CARD = 77, TIME_LEFT_MIN_S = 2 };

/* ---- a section's own process -------------------------------------------- */

typedef int section_function(struct probe *p);

/* hold is three processes, so it has no function of its own. */
static section_function *const section_functions[PROBE_CHILD_COUNT] = {
	[PROBE_info] = probe_section_info,
	[PROBE_mem] = probe_section_mem,
	[PROBE_host] = probe_section_host,
	[PROBE_launch] = probe_section_launch,
	[PROBE_vmm] = probe_section_vmm,
	[PROBE_remap] = probe_section_remap,
	[PROBE_alias] = probe_section_alias,
	[PROBE_rows] = probe_section_rows,
	[PROBE_busy] = probe_section_busy,
	[PROBE_near] = probe_section_near,
	[PROBE_share] = probe_section_share,
	[PROBE_rdma] = probe_section_rdma,
	[PROBE_scatter] = probe_section_scatter,
	[PROBE_mma] = probe_section_mma,
	[PROBE_window] = probe_section_window,
	[PROBE_cublaslt] = probe_section_cublaslt,
	[PROBE_hold_make] = probe_section_hold_make,
	[PROBE_hold_check] = probe_section_hold_check,
	[PROBE_hold_after] = probe_section_hold_after,
};

static const char *status_of(const struct probe *p, int error)
{
	if (error == -ENODEV)
		return "nocard";
	if (error == -ENOTSUP)
		return "skipped";
	return error != 0 || p->wrong || p->why[0] != '\0' ? "failed" : "ok";
}

static int child_main(const struct probe_args *args)
{
	section_function *run = section_functions[args->child];
	struct probe p;
	struct probe_record status = {
		.kind = PROBE_STATUS, .value = NAN, .p99 = NAN, .limit = NAN};
	int error = probe_open(&p, args);

	if (error == 0)
		error = run != NULL ? run(&p)
				    : probe_stop(&p, -EINVAL, "no process");
	if (p.out == NULL) {
		fprintf(stderr, "gpu-probe: --child: %s\n", p.why);
		return EXIT_BAD_ARGUMENTS;
	}
	probe_text_set(status.name, sizeof(status.name), status_of(&p, error));
	probe_text_set(status.text, sizeof(status.text), p.why);
	probe_record_write(&p, &status);
	/* Ending as a crash would: the driver alone cleans up. */
	if (p.abandon)
		_exit(0);
	probe_close(&p);
	return 0;
}

/* ---- the parent --------------------------------------------------------- */

struct run {
	const struct probe_args *args;
	struct probe_report report;
	double deadline_s; /* of the whole run, on now_s() */
	/* of the process at hand */
	bool answered;
	struct probe_record status;
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void keep(struct run *run, const struct probe_record *record)
{
	if (record->kind == PROBE_RESULT)
		probe_report_print(stdout, record);
	if (probe_report_add(&run->report, record) != 0)
		fprintf(stderr, "gpu-probe: no memory to keep %s\n",
			record->name);
}

static void take_record(void *context, const struct probe_record *record)
{
	struct run *run = context;

	if (record->kind == PROBE_STATUS) {
		run->answered = true;
		run->status = *record;
		return;
	}
	keep(run, record);
}

static const char *constant_status(const char *name)
{
	static const char *const known[] = {"ok", "skipped", "nocard"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], name) == 0)
			return known[i];
	return "failed";
}

/* What became of a process, in words. */
static void judge(const struct run *run, const struct probe_child_end *end,
	struct probe_outcome *outcome)
{
	if (end->timed_out) {
		outcome->status = "timeout";
		snprintf(outcome->why, sizeof(outcome->why),
			"killed after %.1f s%s", end->seconds,
			end->stuck ? ", and it does not die" : "");
	} else if (WIFSIGNALED(end->wait_status)) {
		outcome->status = "failed";
		snprintf(outcome->why, sizeof(outcome->why),
			"ended by signal %d (%s)", WTERMSIG(end->wait_status),
			strsignal(WTERMSIG(end->wait_status)));
	} else if (!run->answered) {
		outcome->status = "failed";
		snprintf(outcome->why, sizeof(outcome->why),
			"ended with status %d and no word",
			WEXITSTATUS(end->wait_status));
	} else {
		outcome->status = constant_status(run->status.name);
		probe_text_set(
			outcome->why, sizeof(outcome->why), run->status.text);
	}
	if (end->bad_lines != 0 && strcmp(outcome->status, "ok") == 0) {
		outcome->status = "failed";
		snprintf(outcome->why, sizeof(outcome->why),
			"%zu lines could not be read", end->bad_lines);
	}
}

/* Run one process; adds its seconds to outcome->seconds. */
static void run_process(
	struct run *run, int section, int socket, struct probe_outcome *outcome)
{
	struct probe_child child = {.section = section,
		.args = run->args,
		.limit_s = probe_section_names[section].limit_s,
		.socket = socket,
		.take = take_record,
		.context = run};
	struct probe_child_end end;
	double left = run->deadline_s - now_s();
	int error;

	if (left < TIME_LEFT_MIN_S) {
		outcome->status = "skipped";
		probe_text_set(outcome->why, sizeof(outcome->why),
			"no time was left (see --time-limit)");
		return;
	}
	if (run->args->section_limit_s != 0)
		child.limit_s = run->args->section_limit_s;
	if (left < child.limit_s)
		child.limit_s = (unsigned)left;
	run->answered = false;
	error = probe_child_run(&child, &end);
	if (error != 0) {
		outcome->status = "failed";
		snprintf(outcome->why, sizeof(outcome->why),
			"no process could be started: %s", strerror(-error));
		return;
	}
	outcome->seconds += end.seconds;
	judge(run, &end, outcome);
}

/* ---- memory that outlives its process ----------------------------------- */

static double result_of(const struct run *run, const char *name)
{
	const struct probe_record *record =
		probe_report_find(&run->report, PROBE_RESULT, name);

	return record != NULL ? record->value : NAN;
}

static void keep_bool(struct run *run, const char *name, bool yes)
{
	struct probe_record record = {.kind = PROBE_RESULT,
		.value = yes ? 1 : 0,
		.p99 = NAN,
		.limit = NAN,
		.runs = 1,
		.text = "from free memory; others on the card disturb it"};

	probe_text_set(record.name, sizeof(record.name), name);
	keep(run, &record);
}

/* Did the memory stay taken, and did it come back? */
static void judge_hold(struct run *run)
{
	double before = result_of(run, "hold.free.before");
	double size = before - result_of(run, "hold.free.with");
	double held = before - result_of(run, "hold.free.held");
	double after = before - result_of(run, "hold.free.after");

	if (!(size > 0))
		return;
	if (!isnan(held))
		keep_bool(run, "hold.usage_persisted", held >= 0.9 * size);
	if (!isnan(after))
		keep_bool(run, "hold.usage_returned", after <= 0.1 * size);
}

static bool went_well(const struct probe_outcome *outcome)
{
	return strcmp(outcome->status, "ok") == 0;
}

/* maker -> parent (no context) -> checker; then a look at free memory. */
static void run_hold(struct run *run, struct probe_outcome *outcome)
{
	struct probe_fds fds = {.count = 0};
	int ends[2];
	int error;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		outcome->status = "failed";
		probe_text_set(outcome->why, sizeof(outcome->why),
			"no pair of sockets");
		return;
	}
	run_process(run, PROBE_hold_make, ends[1], outcome);
	if (went_well(outcome)) {
		error = probe_fds_receive(ends[0], &fds);
		if (error == 0)
			error = probe_fds_send(ends[0], &fds);
		if (error == 0) {
			run_process(run, PROBE_hold_check, ends[1], outcome);
		} else {
			outcome->status = "failed";
			snprintf(outcome->why, sizeof(outcome->why),
				"passing descriptors on: %s", strerror(-error));
		}
	}
	/* Both the copies here and those that may wait in the sockets. */
	probe_fds_close(&fds);
	close(ends[0]);
	close(ends[1]);
	if (went_well(outcome))
		run_process(run, PROBE_hold_after, -1, outcome);
	judge_hold(run);
}

/* ---- all of it ----------------------------------------------------------- */

static void save(const struct run *run, int *exit_code)
{
	int error = probe_report_save(&run->report, run->args->json_path);

	if (error == 0)
		return;
	fprintf(stderr, "gpu-probe: %s: %s\n", run->args->json_path,
		strerror(-error));
	*exit_code = EXIT_FAILURE;
}

/* One section; returns its status. */
static const char *run_section(struct run *run, int section, int *exit_code)
{
	struct probe_outcome outcome = {
		.name = probe_section_names[section].name, .status = "failed"};

	printf("--- %s: %s\n", outcome.name, probe_section_names[section].what);
	(void)fflush(stdout);
	if (section == PROBE_hold)
		run_hold(run, &outcome);
	else
		run_process(run, section, -1, &outcome);
	if (strcmp(outcome.status, "nocard") == 0) {
		/* The first section to say so is the answer of the run; a card
		 * lost later is a failure. */
		if (run->report.outcome_count == 0) {
			fprintf(stderr, "gpu-probe: no card: %s\n",
				outcome.why);
			return "nocard";
		}
		outcome.status = "failed";
	}
	printf("    %s %s (%.1f s)\n", outcome.status, outcome.why,
		outcome.seconds);
	(void)fflush(stdout);
	if (strcmp(outcome.status, "failed") == 0 ||
		strcmp(outcome.status, "timeout") == 0)
		*exit_code = EXIT_FAILURE;
	if (probe_report_close(&run->report, &outcome) != 0)
		*exit_code = EXIT_FAILURE;
	save(run, exit_code);
	return outcome.status;
}

static void print_card(const struct run *run)
{
	const struct probe_record *card =
		probe_report_find(&run->report, PROBE_ATTRIBUTE, "card");
	const struct probe_record *driver =
		probe_report_find(&run->report, PROBE_ATTRIBUTE, "driver");

	if (card != NULL && driver != NULL)
		printf("card: %s, driver API %g, built with CUDA %d\n",
			card->text, driver->value, CUDA_VERSION);
}

static int run_all(const struct probe_args *args)
{
	struct run run = {
		.args = args, .deadline_s = now_s() + args->time_limit_s};
	int exit_code = EXIT_SUCCESS;
	const char *status;

	probe_report_init(&run.report);
	/* The card is asked for its name whatever was chosen. */
	status = run_section(&run, PROBE_info, &exit_code);
	if (strcmp(status, "nocard") == 0) {
		probe_report_release(&run.report);
		return EXIT_NO_CARD;
	}
	print_card(&run);
	for (int i = PROBE_info + 1; i < PROBE_SECTION_COUNT; i++)
		if (args->sections >> i & 1u)
			(void)run_section(&run, i, &exit_code);
	print_card(&run);
	printf("written: %s\n", args->json_path);
	probe_report_release(&run.report);
	return exit_code;
}

static void print_list(void)
{
	for (int i = 0; i < PROBE_SECTION_COUNT; i++)
		printf("%-10s %3u s  %s\n", probe_section_names[i].name,
			probe_section_names[i].limit_s,
			probe_section_names[i].what);
	printf("\n");
	for (size_t i = 0; i < probe_result_name_count; i++)
		printf("%-28s %-8s %s\n", probe_result_names[i].pattern,
			probe_result_names[i].unit, probe_result_names[i].what);
}

static void print_help(void)
{
	printf("gpu-probe: measure what a GPU does, before building on it\n"
	       "  --sections a,b,c  only these (info always runs)\n"
	       "  --json PATH       results (%s)\n"
	       "  --device N        which card (0)\n"
	       "  --quick           smaller and fewer: does it run at all\n"
	       "  --time-limit S    of the whole run (%d)\n"
	       "  --section-limit S of each section, instead of its own\n"
	       "  --list            sections and results with their meanings\n"
	       "exit: 0 all ran, 1 a section failed, 2 bad arguments, "
	       "77 no card\n",
		PROBE_JSON_PATH, PROBE_TIME_LIMIT_S);
}

int main(int argc, char **argv)
{
	struct probe_args args;
	char message[256];

	if (probe_args_parse(&args, argc, argv, message, sizeof(message)) !=
		0) {
		fprintf(stderr, "gpu-probe: %s\n", message);
		return EXIT_BAD_ARGUMENTS;
	}
	if (args.help || args.list) {
		if (args.help)
			print_help();
		else
			print_list();
		return EXIT_SUCCESS;
	}
	/* A reader that went away must not end the run before the file. */
	(void)signal(SIGPIPE, SIG_IGN);
	return args.child >= 0 ? child_main(&args) : run_all(&args);
}
