/* batch.c - heddle-bench batch: the batching engine beside others (argv) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts, all through the API of a heddled that computes:
 *   throughput  requests at once, beside llama.cpp's batched decoding
 *   single      one stream, beside heddle-eval generate
 *   prompts     streams while long prompts come, cut to the step's budget and
 *               uncut, by the engine's own account of its steps
 *   overload    answers in time at once and twice the rate that is sustained
 * Whoever is compared takes turns, round by round; medians are told.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/arguments.h"
#include "bench/batch.h"
#include "bench/batch_private.h"

#define OPTION_TEXT_BYTES 16

static const char *const part_names[] = {
	"throughput", "single", "prompts", "overload", NULL};
static int (*const part_runs[])(struct batch_session *session) = {
	batch_throughput, batch_single, batch_prompts, batch_overload};

#define PART_SINGLE (1u << 1)
#define PART_ALL 15u

static const char usage[] =
	"usage: heddle-bench batch --heddled PATH --model DIR [OPTION...]\n\n"
	"  --parts LIST     of throughput,single,prompts,overload (default: "
	"all)\n"
	"  --eval PATH      heddle-eval, for the part single\n"
	"  --gguf FILE      the same model for llama.cpp, with\n"
	"    --python PROGRAM --driver tools/bench/peer.py\n"
	"  --threads N      that compute (default: one per core)\n"
	"  --rounds N       (default 3)\n"
	"  --concurrency N  requests at once (default 32)\n"
	"  --input N        tokens of a prompt (default 64)\n"
	"  --output N       tokens of an answer (default 64)\n"
	"  --streams N      of the part prompts (default 8)\n"
	"  --long N         tokens of its long prompts (default 8192)\n"
	"  --seconds S      of a phase of prompts and overload, at least "
	"(default 20)\n"
	"  --json FILE      write the figures\n\n"
	"Exit status: 0 every aim was reached, 1 one was not, 2 no "
	"measurement.\n";

void batch_figure(struct batch_session *session, const struct report_row *row)
{
	report_add(&session->report, row);
	if (!report_row_reached(row))
		session->missed = true;
}

int batch_start(struct batch_session *session, const char *const *options,
	struct bench_node *node)
{
	char threads[OPTION_TEXT_BYTES];
	const char *all[BENCH_NODE_OPTION_COUNT_MAX + 1] = {"--device", "cpu",
		"--cpu-threads", threads, "--pages", "16384", "--connections",
		"1024"};
	const struct bench_node_setup setup = {
		session->heddled, session->model, all};
	uint32_t count = 8;

	snprintf(threads, sizeof(threads), "%u", session->threads);
	for (; *options && count < BENCH_NODE_OPTION_COUNT_MAX; options++)
		all[count++] = *options;
	return bench_node_start(&setup, node, &session->err);
}

/* --- options --------------------------------------------------------------- */

enum option_id {
	OPTION_PARTS,
	OPTION_SECONDS,
	OPTION_HELP,
	OPTION_TEXT, /* and those of its table */
	OPTION_NUMBER
};

static const struct option options[] = {
	{"parts", required_argument, NULL, OPTION_PARTS},
	{"seconds", required_argument, NULL, OPTION_SECONDS},
	{"help", no_argument, NULL, OPTION_HELP},
	{"heddled", required_argument, NULL, OPTION_TEXT},
	{"model", required_argument, NULL, OPTION_TEXT},
	{"eval", required_argument, NULL, OPTION_TEXT},
	{"json", required_argument, NULL, OPTION_TEXT},
	{"gguf", required_argument, NULL, OPTION_TEXT},
	{"python", required_argument, NULL, OPTION_TEXT},
	{"driver", required_argument, NULL, OPTION_TEXT},
	{"threads", required_argument, NULL, OPTION_NUMBER},
	{"rounds", required_argument, NULL, OPTION_NUMBER},
	{"concurrency", required_argument, NULL, OPTION_NUMBER},
	{"input", required_argument, NULL, OPTION_NUMBER},
	{"output", required_argument, NULL, OPTION_NUMBER},
	{"streams", required_argument, NULL, OPTION_NUMBER},
	{"long", required_argument, NULL, OPTION_NUMBER},
	{0},
};

static bool take_text(
	struct batch_session *session, const char *name, const char *value)
{
	const struct {
		const char *name;
		const char **text;
	} texts[] = {
		{"heddled", &session->heddled},
		{"model", &session->model},
		{"eval", &session->eval},
		{"json", &session->json},
		{"gguf", &session->peer_config.gguf},
		{"python", &session->peer_config.python},
		{"driver", &session->peer_config.driver},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(name, texts[i].name) == 0)
			*texts[i].text = value;
	return true;
}

static bool take_number(
	struct batch_session *session, const char *name, const char *value)
{
	const struct {
		const char *name;
		uint32_t *number, max;
	} numbers[] = {
		{"threads", &session->threads, MACHINE_THREAD_COUNT_MAX},
		{"rounds", &session->rounds, BATCH_ROUND_COUNT_MAX},
		{"concurrency", &session->concurrency, 1024},
		{"input", &session->input_tokens, 1000000},
		{"output", &session->output_tokens, 1000000},
		{"streams", &session->streams, 1024},
		{"long", &session->long_tokens, 1000000},
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (strcmp(name, numbers[i].name) == 0)
			return argument_count(
				value, numbers[i].max, numbers[i].number);
	return false;
}

static bool take_option(
	struct batch_session *session, int id, const char *name, char *value)
{
	char *end;

	switch (id) {
	case OPTION_PARTS:
		return argument_parts(value, part_names, &session->parts);
	case OPTION_SECONDS:
		session->seconds = strtod(value, &end);
		return *end == '\0' && session->seconds >= 0.5 &&
		       session->seconds <= 3600;
	case OPTION_TEXT:
		return take_text(session, name, value);
	case OPTION_NUMBER:
		return take_number(session, name, value);
	default:
		return false;
	}
}

/* 0, 1 = help, -EINVAL with what is wrong. */
static int parse(struct batch_session *session, int argc, char **argv)
{
	const struct cpu_peer_config *peer = &session->peer_config;
	int id, index = 0;

	optind = 0;
	opterr = 0;
	while ((id = getopt_long(argc, argv, "", options, &index)) != -1) {
		if (id == OPTION_HELP)
			return 1;
		if (id == '?' ||
			!take_option(session, id, options[index].name, optarg))
			return error_set(&session->err, EINVAL,
				"%s: unknown, or its value is wrong",
				argv[optind - 1]);
	}
	if (optind < argc || !session->heddled || !session->model)
		return error_set(&session->err, EINVAL,
			"want --heddled PATH and --model DIR");
	if (!peer->gguf != !peer->python || !peer->gguf != !peer->driver)
		return error_set(&session->err, EINVAL,
			"--gguf, --python and --driver belong together");
	if (!session->eval)
		session->parts &= ~PART_SINGLE;
	return 0;
}

/* --- the run --------------------------------------------------------------- */

static int read_model(struct batch_session *session)
{
	char path[1024];
	json_error_t fault;
	json_t *root;

	snprintf(path, sizeof(path), "%s/config.json", session->model);
	root = json_load_file(path, 0, &fault);
	session->vocab = (uint32_t)json_integer_value(
		json_object_get(root, "vocab_size"));
	session->position_count = (uint32_t)json_integer_value(
		json_object_get(root, "max_position_embeddings"));
	json_decref(root);
	if (!session->vocab || !session->position_count)
		return error_set(&session->err, EINVAL,
			"%s: no vocab_size or max_position_embeddings", path);
	if (session->long_tokens > session->position_count - 2)
		session->long_tokens = session->position_count - 2;
	return 0;
}

static int prepare(struct batch_session *session)
{
	cpu_set_t set;
	int rc;

	if (session->threads == 0)
		session->threads = sched_getaffinity(0, sizeof(set), &set)
					   ? 1
					   : (uint32_t)CPU_COUNT(&set);
	rc = machine_cores(session->threads, session->cores, &session->err);
	/* A peer that dies is an error of its pipe, not the end of us. */
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	session->signal_fd = serve_run_block_signals();
	return rc ? rc : read_model(session);
}

static int run_parts(struct batch_session *session)
{
	int rc = 0;

	printf("%s: %u threads, %u rounds\n", session->model, session->threads,
		session->rounds);
	if (!session->peer_config.gguf)
		printf("NO PEER: no llama.cpp to compare with\n");
	for (uint32_t i = 0; rc == 0 && part_names[i]; i++)
		if (session->parts & 1u << i)
			rc = part_runs[i](session);
	printf("\n");
	report_print_table(&session->report, stdout);
	if (rc)
		return rc;
	return report_write(
		&session->report, session->json, NULL, &session->err);
}

int batch_main(int argc, char **argv)
{
	struct batch_session session = {.rounds = 3,
		.concurrency = 32,
		.input_tokens = 64,
		.output_tokens = 64,
		.streams = 8,
		.long_tokens = 8192,
		.seconds = 20,
		.parts = PART_ALL,
		.seed = 1};
	int rc = parse(&session, argc, argv);

	if (rc == 1) {
		fputs(usage, stdout);
		return 0;
	}
	if (rc == 0)
		rc = prepare(&session);
	if (rc == 0)
		rc = run_parts(&session);
	if (rc) {
		fprintf(stderr, "heddle-bench batch: %s\n", session.err.text);
		return 2;
	}
	return session.missed ? 1 : 0;
}
