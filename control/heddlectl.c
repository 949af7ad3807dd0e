/* heddlectl.c - talk to a node (arguments -> line -> answer; main) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "control/command.h"
#include "control/heddlectl_text.h"
#include "control/version.h"

#define ANSWER_BYTES_MAX ((size_t)1 << 20)
#define HEADER_EVERY 20

enum status { STATUS_DONE, STATUS_REFUSED, STATUS_USAGE, STATUS_NO_NODE };

struct request {
	const char *path;
	bool json, watch;
	char line[COMMAND_LINE_BYTES_MAX]; /* without its newline */
};

/* --- one command --------------------------------------------------------------- */

static int connect_to(const char *path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(
			err, ENAMETOOLONG, "%s: the path is too long", path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address,
			       sizeof(address)) == 0)
		return fd;
	rc = errno;
	if (fd >= 0)
		close(fd);
	return error_set(
		err, rc, "no node answers at %s: %s", path, strerror(rc));
}

static int send_line(int fd, const char *line, struct error *err)
{
	char text[COMMAND_LINE_BYTES_MAX + 1];
	int length = snprintf(text, sizeof(text), "%s\n", line);

	if (send(fd, text, (size_t)length, MSG_NOSIGNAL) != length)
		return error_set(err, errno ? errno : EIO,
			"the node does not listen: %s", strerror(errno));
	return 0;
}

/* Up to the empty line, which is taken off. */
static int read_answer(int fd, char *out, struct error *err)
{
	size_t length = 0;

	while (length + 1 < ANSWER_BYTES_MAX) {
		ssize_t got = recv(
			fd, out + length, ANSWER_BYTES_MAX - 1 - length, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return error_set(
				err, EPIPE, "the node closed the connection");
		length += (size_t)got;
		if (length >= 2 && memcmp(out + length - 2, "\n\n", 2) == 0) {
			out[length - 1] = '\0';
			return 0;
		}
	}
	return error_set(err, EFBIG, "the answer does not end");
}

/* The connection stays open in *fd for the next line. */
static int ask(
	const struct request *request, int *fd, char *answer, struct error *err)
{
	int rc = 0;

	if (*fd < 0)
		*fd = connect_to(request->path, err);
	if (*fd < 0)
		return *fd;
	rc = send_line(*fd, request->line, err);
	return rc ? rc : read_answer(*fd, answer, err);
}

static enum status refused(const char *answer, bool json)
{
	return strncmp(answer,
		       json ? "{\"error\":" : "error: ", json ? 9 : 7) == 0
		       ? STATUS_REFUSED
		       : STATUS_DONE;
}

static enum status run_once(const struct request *request, char *answer)
{
	struct error err = {0};
	enum status status;
	int fd = -1, rc = ask(request, &fd, answer, &err);

	if (fd >= 0)
		close(fd);
	if (rc) {
		fprintf(stderr, "heddlectl: %s\n", err.text);
		return STATUS_NO_NODE;
	}
	status = refused(answer, request->json);
	fputs(answer, status == STATUS_DONE ? stdout : stderr);
	return status;
}

/* --- stat --watch ------------------------------------------------------------------ */

struct sample {
	double requests, tokens, sent;
	double busy, cpu_ms; /* of the dataplane's loop */
};

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static void print_row(const json_t *now, const struct sample *before,
	double seconds, unsigned row)
{
	const json_t *first = json_object_get(now, "first_token");
	const json_t *inter = json_object_get(now, "inter_token");
	const json_t *poll = json_object_get(now, "poll");

	if (row % HEADER_EVERY == 0)
		puts("  conns running waiting    req/s      tok/s     MB/s "
		     "ttft-p50 ttft-p99  itl-p50  itl-p99  turns/s   cpu%");
	printf("%7.0f %7.0f %7.0f %8.1f %10.1f %8.2f %8.1f %8.1f %8.1f "
	       "%8.1f %8.0f %6.1f\n",
		number(now, "connections"), number(now, "running"),
		number(now, "waiting"),
		(number(now, "requests_total") - before->requests) / seconds,
		(number(now, "output_tokens_total") - before->tokens) / seconds,
		(number(now, "sent_bytes_total") - before->sent) / seconds /
			1e6,
		number(first, "p50_below_ms"), number(first, "p99_below_ms"),
		number(inter, "p50_below_ms"), number(inter, "p99_below_ms"),
		(number(poll, "busy_turns_total") - before->busy) / seconds,
		(number(poll, "cpu_ms") - before->cpu_ms) / seconds / 10);
	fflush(stdout);
}

static enum status watch(const struct request *request, char *answer)
{
	struct sample before = {0};
	struct mono last = {0};
	struct error err = {0};
	int fd = -1;

	for (unsigned row = 0;; row++) {
		struct timespec second = {.tv_sec = 1};
		struct mono now;
		json_t *json;

		if (ask(request, &fd, answer, &err))
			break;
		now = mono_now();
		json = json_loads(answer, 0, NULL);
		if (row > 0)
			print_row(json, &before,
				(double)mono_diff(now, last) / (double)NS_PER_S,
				row - 1);
		before = (struct sample){number(json, "requests_total"),
			number(json, "output_tokens_total"),
			number(json, "sent_bytes_total"),
			number(json_object_get(json, "poll"),
				"busy_turns_total"),
			number(json_object_get(json, "poll"), "cpu_ms")};
		json_decref(json);
		last = now;
		nanosleep(&second, NULL);
	}
	if (fd >= 0)
		close(fd);
	fprintf(stderr, "heddlectl: %s\n", err.text);
	return STATUS_NO_NODE;
}

/* --- arguments ----------------------------------------------------------------------- */

static bool add_text(struct request *request, const char *text)
{
	size_t used = strlen(request->line);
	size_t room = sizeof(request->line) - used;
	int length = snprintf(
		request->line + used, room, "%s%s", used ? " " : "", text);

	return length >= 0 && (size_t)length < room;
}

/* A newline would be a second command. */
static bool add_word(struct request *request, const char *word)
{
	char quoted[COMMAND_LINE_BYTES_MAX];

	return command_quote(word, quoted, sizeof(quoted)) &&
	       add_text(request, quoted);
}

/* What the flag alone asks for; -1 = go on. */
static int take_flag(struct request *request, int flag, const char *value)
{
	switch (flag) {
	case HEDDLECTL_CONTROL:
		request->path = value;
		return -1;
	case HEDDLECTL_OUTPUT:
		request->json = strcmp(value, "json") == 0;
		return request->json || strcmp(value, "text") == 0
			       ? -1
			       : STATUS_USAGE;
	case HEDDLECTL_WATCH:
		request->watch = true;
		return -1;
	case HEDDLECTL_COMPLETION:
		if (strcmp(value, "bash") != 0)
			return STATUS_USAGE;
		heddlectl_completion(stdout);
		return STATUS_DONE;
	case HEDDLECTL_MAN:
		heddlectl_man(stdout);
		return STATUS_DONE;
	case HEDDLECTL_HELP:
		heddlectl_help(stdout);
		return STATUS_DONE;
	default:
		puts("heddlectl " HEDDLE_VERSION);
		return STATUS_DONE;
	}
}

static int find_flag(const char *argument)
{
	for (int i = 0; i < HEDDLECTL_FLAG_COUNT; i++)
		if (strcmp(heddlectl_flag(i)->flag, argument) == 0)
			return i;
	return -1;
}

static int usage(const char *what)
{
	fprintf(stderr, "heddlectl: %s\n", what);
	return STATUS_USAGE;
}

/* -1: the request is complete; else the status to end with. */
static int parse(int argc, char **argv, struct request *request)
{
	for (int i = 1; i < argc; i++) {
		int flag = find_flag(argv[i]), status;
		bool takes = flag >= 0 && heddlectl_flag(flag)->value;
		bool value, own = command_is_flag(argv[i], &value);

		if (flag < 0 && argv[i][0] == '-' && !own)
			return usage("no such option; see --help");
		if (flag < 0 && !add_word(request, argv[i]))
			return usage("the command is too long, or holds a "
				     "newline");
		if (flag < 0)
			continue;
		if (takes && i + 1 == argc)
			return usage("a value is missing; see --help");
		status = take_flag(request, flag, takes ? argv[i + 1] : "");
		if (status == STATUS_USAGE)
			return usage("no such value; see --help");
		if (status >= 0)
			return status;
		i += takes;
	}
	return -1;
}

/* A path is meant from where the user stands; the node stands elsewhere. */
static int make_absolute(
	struct request *request, const struct command_call *call)
{
	char path[COMMAND_LINE_BYTES_MAX + PATH_MAX];
	char quoted[COMMAND_LINE_BYTES_MAX], line[COMMAND_LINE_BYTES_MAX];
	char here[PATH_MAX];
	int length;

	if (!getcwd(here, sizeof(here)))
		return usage("the working directory is not known");
	snprintf(path, sizeof(path), "%s/%s", here, call->path);
	if (!command_quote(path, quoted, sizeof(quoted)))
		return usage("the path is too long, or holds a newline");
	length = snprintf(line, sizeof(line), "%.*s%s%s", (int)call->path_at,
		request->line, quoted,
		request->line + call->path_at + call->path_length);
	if (length < 0 || (size_t)length >= sizeof(line))
		return usage("the path is too long");
	memcpy(request->line, line, (size_t)length + 1);
	return -1;
}

/* The node would say the same; here it is a matter of usage. */
static int check(struct request *request)
{
	struct command_call call;
	struct error err = {0};

	if (command_parse(request->line, strlen(request->line), &call, &err))
		return usage(err.text);
	if (request->watch && call.id != COMMAND_STAT)
		return usage("--watch is for stat");
	if (call.path[0] && call.path[0] != '/' &&
		make_absolute(request, &call) >= 0)
		return STATUS_USAGE;
	if (request->watch)
		request->json = true;
	if (request->json && !add_text(request, "-o json"))
		return usage("the line is too long");
	return -1;
}

int main(int argc, char **argv)
{
	struct request request = {.path = getenv("HEDDLE_CONTROL")};
	char *answer;
	int status;

	if (!request.path)
		request.path = HEDDLECTL_PATH;
	status = parse(argc, argv, &request);
	if (status < 0)
		status = check(&request);
	if (status >= 0)
		return status;
	answer = malloc(ANSWER_BYTES_MAX);
	if (!answer)
		return usage("out of memory");
	status = (int)(request.watch ? watch(&request, answer)
				     : run_once(&request, answer));
	free(answer);
	return status;
}
