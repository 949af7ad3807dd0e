/* batch_prompts.c - streams while long prompts come (heddled -> gaps) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two nodes, one that cuts prompts to the step's budget and one that does not,
 * take turns. In each turn streams run alone, then others to which after a
 * third of the time long prompts come, one behind the other. Gaps of steps in
 * which all streams decode, from the engine's account; those without prompts
 * are taken where the streams are as long as beside them.
 */
#include <errno.h>
#include <stdio.h>

#include "bench/batch_private.h"
#include "bench/batch_steps.h"
#include "bench/median.h"

#define GAP_FACTOR 2.2
#define NUMBER_BYTES 24
#define PROMPT_COUNT 3u
#define STREAM_INPUT 16u

enum { CUT, UNCUT, NODE_COUNT };

struct turns {
	/* seconds, of each round */
	double quiet_p99[BATCH_ROUND_COUNT_MAX];
	double quiet_median[BATCH_ROUND_COUNT_MAX];
	double prompts_p99[BATCH_ROUND_COUNT_MAX];
	double over_p99[BATCH_ROUND_COUNT_MAX]; /* ratios */
	double over_median[BATCH_ROUND_COUNT_MAX];
};

/* What a stream may make without meeting its end. */
static uint32_t stream_tokens(const struct batch_session *session)
{
	return session->position_count / 2;
}

static int start(struct batch_session *session, const char *budget,
	struct bench_node *node)
{
	char sequences[NUMBER_BYTES], tokens[NUMBER_BYTES];
	const char *const options[] = {"--cpu-sequences", sequences,
		"--kv-tokens", tokens, "--step-budget", budget, "--log-level",
		"debug", NULL};

	snprintf(sequences, sizeof(sequences), "%u",
		session->streams + PROMPT_COUNT);
	snprintf(tokens, sizeof(tokens), "%u",
		session->streams * (STREAM_INPUT + stream_tokens(session)) +
			PROMPT_COUNT * (session->long_tokens + 64));
	return batch_start(session, options, node);
}

/* The steps of streams alone, and of others beside prompts. */
struct turn {
	struct batch_steps quiet, busy;
};

static int note_turn(struct batch_session *session, const struct turn *turn,
	uint32_t round, const char *name, struct turns *out)
{
	struct batch_choice busy_choice = {
		.kind = BATCH_STEPS_PROMPTS, .streams = session->streams};
	struct batch_choice quiet_choice;
	struct serve_figures quiet, busy, error;

	batch_steps_range(&turn->busy, &busy_choice);
	quiet_choice = busy_choice;
	quiet_choice.kind = BATCH_STEPS_QUIET;
	if (batch_steps_gaps(&turn->quiet, &quiet_choice, &quiet) ||
		batch_steps_gaps(&turn->busy, &busy_choice, &busy) ||
		batch_steps_errors(&turn->busy, &busy_choice, &error))
		return error_set(&session->err, ENOMEM, "no memory for gaps");
	if (!quiet.count || !busy.count)
		return error_set(&session->err, ERANGE,
			"%s: %zu gaps without and %zu with prompts: say more "
			"--seconds",
			name, quiet.count, busy.count);
	out->quiet_median[round] = quiet.median;
	out->quiet_p99[round] = quiet.points[SERVE_P99];
	out->prompts_p99[round] = busy.points[SERVE_P99];
	out->over_p99[round] = busy.points[SERVE_P99] / quiet.points[SERVE_P99];
	out->over_median[round] = busy.points[SERVE_P99] / quiet.median;
	printf("%s: gap median %.2f ms, p99 %.2f; with prompts %.2f, p99 %.2f "
	       "(%.2f of the p99, %.2f of the median without); steps took %.2f "
	       "of what was expected, p99 %.2f\n",
		name, quiet.median * 1e3, quiet.points[SERVE_P99] * 1e3,
		busy.median * 1e3, busy.points[SERVE_P99] * 1e3,
		out->over_p99[round], out->over_median[round], error.median,
		error.points[SERVE_P99]);
	return 0;
}

/* Run streams, and prompts if there are any, and read the account. */
static int run_streams(struct batch_session *session,
	const struct bench_node *node, uint32_t prompts, double seconds,
	struct batch_steps *out)
{
	const struct batch_load load = {.target = &node->api,
		.vocab = session->vocab,
		.groups = {{.count = session->streams,
				   .prompt_tokens = STREAM_INPUT,
				   .output_tokens = stream_tokens(session)},
			{.count = prompts,
				.prompt_tokens = session->long_tokens,
				.output_tokens = 1,
				.from_ns = (uint64_t)(seconds * 1e9 / 3)}},
		.duration_ns = (uint64_t)(seconds * 1e9),
		.seed = session->seed++,
		.signal_fd = session->signal_fd};
	struct serve_plan plan;
	long offset = 0;
	int rc = batch_steps_read(node->log, &offset, out, &session->err);

	if (rc)
		return rc;
	batch_steps_release(out);
	rc = batch_load_run(&load, &plan, &session->err);
	if (rc)
		return rc;
	serve_plan_release(&plan);
	return batch_steps_read(node->log, &offset, out, &session->err);
}

static int take_turn(struct batch_session *session,
	const struct bench_node *node, uint32_t round, const char *name,
	struct turns *out)
{
	struct turn turn = {0};
	/* Alone they are faster, and as far in less time. */
	int rc = run_streams(
		session, node, 0, session->seconds * 2 / 3, &turn.quiet);

	if (rc == 0)
		rc = run_streams(session, node, PROMPT_COUNT, session->seconds,
			&turn.busy);
	if (rc == 0)
		rc = note_turn(session, &turn, round, name, out);
	batch_steps_release(&turn.quiet);
	batch_steps_release(&turn.busy);
	return rc;
}

static void add_rows(
	struct batch_session *session, struct turns *cut, struct turns *uncut)
{
	uint32_t rounds = session->rounds;

	batch_figure(
		session, &(struct report_row){.name = "serve.itl.quiet",
				 .value = 1e3 * median(cut->quiet_p99, rounds),
				 .unit = "ms"});
	batch_figure(session,
		&(struct report_row){.name = "serve.itl.prompts",
			.value = 1e3 * median(cut->prompts_p99, rounds),
			.unit = "ms",
			.peer = "--step-budget 0",
			.peer_value =
				1e3 * median(uncut->prompts_p99, rounds)});
	batch_figure(session,
		&(struct report_row){.name = "serve.itl.prompts_over_quiet",
			.value = median(cut->over_p99, rounds),
			.unit = "x",
			.limit = GAP_FACTOR,
			.peer = "--step-budget 0",
			.peer_value = median(uncut->over_p99, rounds),
			.less_is_better = true,
			.goal_share = 1});
	batch_figure(session,
		&(struct report_row){.name = "serve.itl.prompts_over_median",
			.value = median(cut->over_median, rounds),
			.unit = "x",
			.limit = GAP_FACTOR,
			.peer = "--step-budget 0",
			.peer_value = median(uncut->over_median, rounds),
			.less_is_better = true});
}

int batch_prompts(struct batch_session *session)
{
	static const char *const names[NODE_COUNT] = {"cut", "uncut"};
	struct bench_node nodes[NODE_COUNT] = {{0}, {0}};
	struct turns turns[NODE_COUNT];
	int rc = start(session, "200", &nodes[CUT]);

	if (rc == 0)
		rc = start(session, "0", &nodes[UNCUT]);
	for (uint32_t i = 0; rc == 0 && i < session->rounds; i++)
		for (int n = 0; rc == 0 && n < NODE_COUNT; n++)
			rc = take_turn(
				session, &nodes[n], i, names[n], &turns[n]);
	for (int n = 0; n < NODE_COUNT; n++)
		bench_node_stop(&nodes[n]);
	if (rc == 0)
		add_rows(session, &turns[CUT], &turns[UNCUT]);
	return rc;
}
