/* batch_single.c - one stream beside heddle-eval (heddled -> figures) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token's time in three clocks, so that it is seen who takes it: the
 * client's, from chunk to chunk; the engine's, from token to token in its log;
 * and that of its steps alone. What lies between the last two is not computing:
 * plans, messages, and threads that wait for each other. On a machine with no
 * processor to spare the steps themselves get longer by what the dataplane and
 * the client take of it, so their processor time per token is told, too.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/batch_private.h"
#include "bench/frontend_metrics.h"
#include "bench/median.h"
#include "bench/process.h"

#define TPOT_SHARE 1.05
#define NUMBER_BYTES 24

/* What has been used until now, in seconds. */
struct account {
	double steps, prompts, decodes; /* of the engine's histograms */
	double engine, dataplane, client; /* processor time */
};

/* Of a token, in ms. */
struct single {
	double client, engine, steps;
	double engine_cpu, dataplane_cpu, client_cpu;
};

static int take_account(struct batch_session *session,
	const struct bench_node *node, struct account *out)
{
	const struct {
		const char *name;
		double *value;
	} numbers[] = {
		{"heddle_step_seconds_sum", &out->steps},
		{"vllm:request_prefill_time_seconds_sum", &out->prompts},
		{"vllm:request_decode_time_seconds_sum", &out->decodes},
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		int rc = frontend_number_get(&node->admin, numbers[i].name,
			numbers[i].value, &session->err);

		if (rc)
			return rc;
	}
	out->dataplane = bench_cpu_s(node->front_pid);
	out->engine = bench_node_cpu_s(node) - out->dataplane;
	out->client = bench_cpu_s(getpid());
	return 0;
}

static void settle(const struct account *before, const struct account *after,
	uint32_t count, struct single *out)
{
	double each = 1e3 / count;

	out->engine = each * (after->decodes - before->decodes);
	/* The prompt's steps are all that lies before the first token. */
	out->steps = each * (after->steps - before->steps -
				    (after->prompts - before->prompts));
	out->engine_cpu = each * (after->engine - before->engine);
	out->dataplane_cpu = each * (after->dataplane - before->dataplane);
	out->client_cpu = each * (after->client - before->client);
}

/*
 * Where a core is spare, the client keeps to the dataplane's cores: as one on
 * another machine it leaves those alone that compute.
 */
static int run_client(struct batch_session *session,
	const struct bench_node *node, const struct batch_load *load,
	struct serve_plan *out)
{
	cpu_set_t all, front;
	bool moves =
		sched_getaffinity(0, sizeof(all), &all) == 0 &&
		session->threads < (uint32_t)CPU_COUNT(&all) &&
		sched_getaffinity(node->front_pid, sizeof(front), &front) == 0;
	int rc;

	if (moves && sched_setaffinity(0, sizeof(front), &front))
		return error_set(&session->err, errno,
			"the client cannot keep to the dataplane's cores: %s",
			strerror(errno));
	rc = batch_load_run(load, out, &session->err);
	if (moves)
		(void)sched_setaffinity(0, sizeof(all), &all);
	return rc;
}

static int our_tpot(struct batch_session *session,
	const struct bench_node *node, struct single *out)
{
	struct batch_load load = batch_load_usual(session, node);
	struct account before, after;
	const struct serve_result *r;
	struct serve_plan plan;
	uint32_t count;
	int rc;

	load.groups[0].count = 1;
	load.groups[0].output_tokens *= BATCH_SINGLE_FACTOR;
	count = load.groups[0].output_tokens - 1;
	rc = take_account(session, node, &before);
	if (rc == 0)
		rc = run_client(session, node, &load, &plan);
	if (rc)
		return rc;
	rc = batch_require_whole(session, &plan);
	if (rc == 0)
		rc = take_account(session, node, &after);
	r = plan.results;
	out->client = (double)(r->last_ns - r->first_ns) / 1e6 / count;
	if (rc == 0)
		settle(&before, &after, count, out);
	serve_plan_release(&plan);
	return rc;
}

/* --- heddle-eval ----------------------------------------------------------- */

/* "...; decode N tokens, X ms each" of its standard error. */
static int read_eval(FILE *from, double *out_ms)
{
	char line[1024];
	const char *at = NULL;

	while (fgets(line, sizeof(line), from)) {
		const char *decode = strstr(line, "; decode ");

		at = decode ? strstr(decode, "tokens, ") : NULL;
		if (at)
			*out_ms = strtod(at + strlen("tokens, "), NULL);
	}
	return *out_ms > 0 ? 0 : -EPROTO;
}

static int eval_tpot(struct batch_session *session, double *out_ms)
{
	char tokens[NUMBER_BYTES], threads[NUMBER_BYTES];
	char *prompt = batch_prompt(
		session->vocab, session->seed, session->input_tokens);
	const char *argv[] = {"/bin/sh", "-c",
		"exec \"$0\" \"$@\" 2>&1 >/dev/null", session->eval, "generate",
		"--model", session->model, "--ids", prompt, "--max-tokens",
		tokens, "--threads", threads, "--ignore-eos", "--temperature",
		"1", NULL};
	FILE *from = NULL;
	pid_t pid;
	int rc = prompt ? 0 : error_set(&session->err, ENOMEM, "no memory");

	*out_ms = 0;
	snprintf(tokens, sizeof(tokens), "%u",
		BATCH_SINGLE_FACTOR * session->output_tokens);
	snprintf(threads, sizeof(threads), "%u", session->threads);
	if (rc == 0)
		rc = process_spawn(argv, &pid, NULL, &from, &session->err);
	free(prompt);
	if (rc)
		return rc;
	if (read_eval(from, out_ms))
		rc = error_set(&session->err, EPROTO,
			"%s generate says no time", session->eval);
	fclose(from);
	(void)waitpid(pid, NULL, 0);
	return rc;
}

/* --- the part -------------------------------------------------------------- */

static void print_round(const struct single *s, double eval_ms)
{
	printf("single: %.3f ms per token at the client, %.3f in the engine, "
	       "%.3f in its steps; heddle-eval %.3f; processor time: engine "
	       "%.3f, dataplane %.3f, client %.3f\n",
		s->client, s->engine, s->steps, eval_ms, s->engine_cpu,
		s->dataplane_cpu, s->client_cpu);
}

/* Names of the rows of a figure. */
struct single_names {
	const char *client, *engine, *steps;
};

static void add_rows(struct batch_session *session,
	const struct single_names *names, struct single *ours, double *theirs)
{
	double of[3][BATCH_ROUND_COUNT_MAX];
	double eval_ms = median(theirs, session->rounds);

	for (uint32_t i = 0; i < session->rounds; i++) {
		of[0][i] = ours[i].client;
		of[1][i] = ours[i].engine;
		of[2][i] = ours[i].steps;
	}
	batch_figure(session, &(struct report_row){.name = names->client,
				      .value = median(of[0], session->rounds),
				      .unit = "ms",
				      .limit = TPOT_SHARE * eval_ms,
				      .peer = "heddle-eval generate",
				      .peer_value = eval_ms,
				      .less_is_better = true,
				      .goal_share = 1});
	batch_figure(session, &(struct report_row){.name = names->engine,
				      .value = median(of[1], session->rounds),
				      .unit = "ms",
				      .peer = "heddle-eval generate",
				      .peer_value = eval_ms,
				      .less_is_better = true});
	batch_figure(session, &(struct report_row){.name = names->steps,
				      .value = median(of[2], session->rounds),
				      .unit = "ms",
				      .peer = "heddle-eval generate",
				      .peer_value = eval_ms,
				      .less_is_better = true});
}

static int measure(
	struct batch_session *session, const struct single_names *names)
{
	struct single ours[BATCH_ROUND_COUNT_MAX];
	double theirs[BATCH_ROUND_COUNT_MAX];
	struct bench_node node;
	int rc = batch_start_usual(session, 4 * session->concurrency, &node);

	if (rc)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < session->rounds; i++) {
		rc = our_tpot(session, &node, &ours[i]);
		if (rc == 0)
			rc = eval_tpot(session, &theirs[i]);
		if (rc == 0)
			print_round(&ours[i], theirs[i]);
	}
	bench_node_stop(&node);
	if (rc == 0)
		add_rows(session, names, ours, theirs);
	return rc;
}

/* As was asked for and, if that leaves no core, with one to spare, too. */
int batch_single(struct batch_session *session)
{
	static const struct single_names asked = {
		"serve.tpot.single", "serve.tpot.engine", "serve.tpot.steps"};
	static const struct single_names spare = {"serve.tpot.single.spare",
		"serve.tpot.engine.spare", "serve.tpot.steps.spare"};
	uint32_t threads = session->threads;
	cpu_set_t set;
	int rc = measure(session, &asked);

	if (rc || threads < 2 || sched_getaffinity(0, sizeof(set), &set) ||
		threads < (uint32_t)CPU_COUNT(&set))
		return rc;
	session->threads = (uint32_t)CPU_COUNT(&set) - 1;
	printf("single: %u threads on both sides, and a core to spare:\n",
		session->threads);
	rc = measure(session, &spare);
	session->threads = threads;
	return rc;
}
