/* ask.c - one question to a server, its answer as it comes (argv -> text) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text goes to standard output token by token, the times to standard
 * error: the first thing that one does with a new server.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/ask.h"
#include "bench/serve_client.h"
#include "bench/serve_reply.h"

#define TOKENS_DEFAULT 128
#define TOKENS_MAX 1000000

static const char usage[] =
	"usage: heddle-bench ask --url URL [OPTION...] TEXT\n\n"
	"  --url URL           server, http://HOST:PORT[/PREFIX] (required)\n"
	"  --model NAME        default: the first one that the server lists\n"
	"  --complete          continue TEXT instead of answering it\n"
	"  --system TEXT       what the model is told before the question\n"
	"  --max-tokens N      default 128\n"
	"  --temperature T     0 = always the likeliest token\n"
	"  --seed N            the same seed gives the same answer\n"
	"  --api-key KEY       default: $OPENAI_API_KEY, if set\n"
	"  --help              this text\n";

struct ask {
	const char *url, *model, *system, *api_key, *text;
	bool complete;
	json_int_t max_tokens, seed;
	double temperature;
	bool has_seed, has_temperature;
	struct serve_target target;
	char *listed_model; /* owned */
	/* the answer */
	struct serve_reply reply;
	size_t printed;
	uint64_t begin_ns;
};

/* --- options -------------------------------------------------------------------- */

static int take_integer(
	const char *text, json_int_t max, json_int_t *out, struct error *err)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno || end == text || *end || value < 0 || value > max)
		return error_set(err, EINVAL, "%s: not a number from 0 to %lld",
			text, (long long)max);
	*out = value;
	return 0;
}

static int take_real(const char *text, double *out, struct error *err)
{
	char *end;

	*out = strtod(text, &end);
	if (end == text || *end || !(*out >= 0 && *out <= 1000))
		return error_set(
			err, EINVAL, "%s: not a number from 0 to 1000", text);
	return 0;
}

static int take_option(struct ask *ask, int option, struct error *err)
{
	switch (option) {
	case 'u':
		ask->url = optarg;
		return 0;
	case 'm':
		ask->model = optarg;
		return 0;
	case 'c':
		ask->complete = true;
		return 0;
	case 'y':
		ask->system = optarg;
		return 0;
	case 'k':
		ask->api_key = optarg;
		return 0;
	case 'n':
		return take_integer(optarg, TOKENS_MAX, &ask->max_tokens, err);
	case 's':
		ask->has_seed = true;
		return take_integer(optarg, INT64_MAX, &ask->seed, err);
	case 't':
		ask->has_temperature = true;
		return take_real(optarg, &ask->temperature, err);
	default:
		/* getopt_long() has said what is wrong. */
		return error_set(err, EINVAL, "see heddle-bench ask --help");
	}
}

static int take_options(
	struct ask *ask, int argc, char **argv, struct error *err)
{
	static const struct option options[] = {
		{"url", required_argument, NULL, 'u'},
		{"model", required_argument, NULL, 'm'},
		{"complete", no_argument, NULL, 'c'},
		{"system", required_argument, NULL, 'y'},
		{"max-tokens", required_argument, NULL, 'n'},
		{"temperature", required_argument, NULL, 't'},
		{"seed", required_argument, NULL, 's'},
		{"api-key", required_argument, NULL, 'k'}, {0}};
	int option, rc = 0;

	ask->max_tokens = TOKENS_DEFAULT;
	ask->api_key = getenv("OPENAI_API_KEY");
	while (rc == 0 &&
		(option = getopt_long(argc, argv, "", options, NULL)) != -1)
		rc = take_option(ask, option, err);
	if (rc)
		return rc;
	if (!ask->url || optind + 1 != argc)
		return error_set(err, EINVAL,
			"one --url and one TEXT are needed; see heddle-bench "
			"ask --help");
	ask->text = argv[optind];
	if (ask->complete && ask->system)
		return error_set(err, EINVAL,
			"--system belongs to a chat, not to --complete");
	return serve_target_parse(ask->url, &ask->target, err);
}

/* --- the question ----------------------------------------------------------------- */

/* The server's first model, where none was named. */
static int find_model(struct ask *ask, struct error *err)
{
	const struct serve_call call = {
		.method = "GET", .path = "/v1/models", .api_key = ask->api_key};
	struct serve_bytes body = {0};
	json_t *root, *id;
	int status = 0, rc;

	if (ask->model)
		return 0;
	rc = serve_call(&ask->target, &call, &body, &status, err);
	if (rc)
		return rc;
	root = json_loadb(body.data ? body.data : "", body.length, 0, NULL);
	id = json_object_get(
		json_array_get(json_object_get(root, "data"), 0), "id");
	if (status == 200 && json_is_string(id))
		ask->listed_model = strdup(json_string_value(id));
	json_decref(root);
	serve_bytes_release(&body);
	ask->model = ask->listed_model;
	if (ask->model)
		return 0;
	return error_set(err, ENOENT,
		"%s lists no models (status %d); name one with --model",
		ask->url, status);
}

static json_t *chat_messages(const struct ask *ask)
{
	json_t *list = json_array();

	if (ask->system)
		json_array_append_new(
			list, json_pack("{s:s,s:s}", "role", "system",
				      "content", ask->system));
	json_array_append_new(list,
		json_pack("{s:s,s:s}", "role", "user", "content", ask->text));
	return list;
}

/* malloc()ed JSON, or NULL where the text is no UTF-8. */
static char *make_body(const struct ask *ask)
{
	json_t *root = json_pack("{s:s,s:I,s:b,s:{s:b}}", "model", ask->model,
		"max_tokens", ask->max_tokens, "stream", 1, "stream_options",
		"include_usage", 1);
	char *text = NULL;
	int rc;

	if (ask->complete)
		rc = json_object_set_new(
			root, "prompt", json_string(ask->text));
	else
		rc = json_object_set_new(root, "messages", chat_messages(ask));
	if (ask->has_seed)
		rc |= json_object_set_new(
			root, "seed", json_integer(ask->seed));
	if (ask->has_temperature)
		rc |= json_object_set_new(
			root, "temperature", json_real(ask->temperature));
	if (rc == 0)
		text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static int send_question(const struct ask *ask, int fd, struct error *err)
{
	struct serve_call call = {.method = "POST",
		.path = ask->complete ? "/v1/completions"
				      : "/v1/chat/completions",
		.api_key = ask->api_key};
	struct serve_bytes bytes = {0};
	char *body = make_body(ask);
	size_t at = 0;
	int rc;

	if (!body)
		return error_set(err, EINVAL, "the text is not UTF-8");
	call.body = body;
	call.body_bytes = strlen(body);
	rc = serve_call_head(&ask->target, &call, &bytes);
	if (rc == 0)
		rc = serve_bytes_add(
			&bytes, body, call.body_bytes, SIZE_MAX / 4);
	while (rc == 0 && at < bytes.length) {
		ssize_t count = write(fd, bytes.data + at, bytes.length - at);

		if (count < 0)
			rc = -errno;
		else
			at += (size_t)count;
	}
	free(body);
	serve_bytes_release(&bytes);
	return rc ? error_set(
			    err, -rc, "sending the question: %s", strerror(-rc))
		  : 0;
}

/* --- the answer ------------------------------------------------------------------- */

static void print_new(struct ask *ask)
{
	const struct serve_bytes *text = &ask->reply.text;

	if (text->length == ask->printed)
		return;
	fwrite(text->data + ask->printed, 1, text->length - ask->printed,
		stdout);
	fflush(stdout);
	ask->printed = text->length;
}

/* The server's own words where it refused. */
static int say_fault(const struct ask *ask, struct error *err)
{
	const struct serve_verdict *verdict = &ask->reply.verdict;

	return error_set(err, EPROTO, "%s%s (status %d)%s%s",
		ask->printed ? "after the text above: " : "",
		serve_fault_meaning(verdict->fault), verdict->status,
		ask->reply.example[0] ? ": " : "", ask->reply.example);
}

static int receive_answer(struct ask *ask, int fd, struct error *err)
{
	enum serve_reply_state state = SERVE_REPLY_MORE;
	char data[16384];

	while (state == SERVE_REPLY_MORE) {
		ssize_t count = read(fd, data, sizeof(data));
		size_t taken;

		if (count < 0)
			return error_set(err, errno, "%s: %s",
				ask->target.authority, strerror(errno));
		state = count == 0
				? serve_reply_eof(&ask->reply)
				: serve_reply_feed(&ask->reply, data,
					  (size_t)count, mono_now().ns, &taken);
		print_new(ask);
	}
	return ask->reply.verdict.fault == SERVE_FAULT_NONE
		       ? 0
		       : say_fault(ask, err);
}

static void print_times(const struct ask *ask)
{
	const struct serve_verdict *verdict = &ask->reply.verdict;
	double first = (double)(verdict->first_ns - ask->begin_ns) / 1e6;
	double rest = (double)(verdict->last_ns - verdict->first_ns) / 1e9;
	uint32_t count = verdict->completion_tokens;

	if (verdict->chunk_count == 0) {
		fprintf(stderr, "[no text]\n");
		return;
	}
	fprintf(stderr, "\n[%u + %u tokens, first after %.0f ms",
		verdict->prompt_tokens, count, first);
	if (count > 1 && rest > 0)
		fprintf(stderr, ", then %.1f tokens/s", (count - 1) / rest);
	fprintf(stderr, "]\n");
}

static int converse(struct ask *ask, struct error *err)
{
	const struct serve_expect expect = {.chat = !ask->complete,
		.stream = true,
		.include_usage = true,
		.keep_text = true,
		.output_tokens = (uint32_t)ask->max_tokens};
	int fd, rc = find_model(ask, err);

	if (rc)
		return rc;
	fd = serve_target_connect(&ask->target, err);
	if (fd < 0)
		return fd;
	serve_reply_start(&ask->reply, &expect, NULL, 0);
	ask->begin_ns = mono_now().ns;
	rc = send_question(ask, fd, err);
	if (rc == 0)
		rc = receive_answer(ask, fd, err);
	close(fd);
	if (rc == 0)
		print_times(ask);
	return rc;
}

int ask_main(int argc, char **argv)
{
	struct ask ask = {0};
	struct error err = {0};
	int rc;

	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	rc = take_options(&ask, argc, argv, &err);
	if (rc) {
		fprintf(stderr, "heddle-bench ask: %s\n", err.text);
		return 2;
	}
	rc = converse(&ask, &err);
	if (rc)
		fprintf(stderr, "heddle-bench ask: %s\n", err.text);
	serve_reply_release(&ask.reply);
	free(ask.listed_model);
	return rc ? 1 : 0;
}
