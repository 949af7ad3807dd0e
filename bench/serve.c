/* serve.c - the load generator as a command (argv -> run -> reports) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/serve.h"
#include "bench/serve_compose.h"
#include "bench/serve_report.h"

#define PROMPT_COUNT_DEFAULT 1000
#define WARMUP_CONCURRENCY 16

struct session {
	struct serve_options options;
	struct serve_target target;
	struct serve_source source;
	struct serve_plan plan;
	int signal_fd;
	char date[32];
	struct error err;
};

/* The first model that the server lists. */
static int ask_model(struct session *session)
{
	struct serve_bytes body = {0};
	const struct serve_call call = {.method = "GET",
		.path = "/v1/models",
		.api_key = session->options.api_key};
	const char *name;
	json_t *reply = NULL;
	int status, rc;

	rc = serve_call(&session->target, &call, &body, &status, &session->err);
	if (rc)
		return rc;
	if (status == 200)
		reply = json_loadb(body.data, body.length, 0, NULL);
	name = json_string_value(json_object_get(
		json_array_get(json_object_get(reply, "data"), 0), "id"));
	if (name)
		rc = serve_options_add_model(&session->options, name, 1);
	else
		rc = error_set(&session->err, EPROTO,
			"/v1/models: status %d, no model: say --model NAME",
			status);
	json_decref(reply);
	serve_bytes_release(&body);
	return rc;
}

static size_t request_count(const struct session *session)
{
	const struct serve_source *source = &session->source;
	size_t count = session->options.prompt_count;

	if (source->trace.count)
		return source->trace.count;
	return count ? count : PROMPT_COUNT_DEFAULT;
}

static int prepare(struct session *session)
{
	struct serve_options *options = &session->options;
	uint32_t most = serve_run_connection_max();
	int rc = serve_target_parse(
		options->url, &session->target, &session->err);

	if (!options->connection_max || options->connection_max > most)
		options->connection_max = most;
	if (rc == 0 && options->model_count == 0)
		rc = ask_model(session);
	if (rc == 0)
		rc = serve_source_open(options, &session->target,
			&session->source, &session->err);
	if (rc == 0)
		rc = serve_compose(options, &session->target, &session->source,
			(struct serve_draw){
				request_count(session), options->seed},
			&session->plan, &session->err);
	return rc;
}

static void set_run(const struct session *session, struct serve_run_setup *out)
{
	const struct serve_options *options = &session->options;
	uint32_t threads = options->thread_count;

	if (options->max_concurrency && options->max_concurrency < threads)
		threads = options->max_concurrency;
	*out = (struct serve_run_setup){.target = &session->target,
		.thread_count = threads,
		.concurrency = options->max_concurrency,
		.connection_max = options->connection_max,
		.retry_max = options->retry_max,
		.timeout_ns = (uint64_t)(options->timeout_s * 1e9),
		.duration_ns = (uint64_t)(options->duration_s * 1e9),
		.fresh = options->fresh,
		.progress = !options->quiet,
		.signal_fd = session->signal_fd};
}

/* Requests of their own, drawn from another seed; what comes is dropped. */
static int warm_up(struct session *session, bool *interrupted)
{
	const struct serve_options *options = &session->options;
	struct serve_run_setup setup;
	struct serve_plan plan;
	struct serve_run run;
	size_t count = options->warmup_count;
	int rc;

	if (session->source.trace.count && count > session->source.trace.count)
		count = session->source.trace.count;
	if (!count)
		return 0;
	rc = serve_compose(options, &session->target, &session->source,
		(struct serve_draw){count, options->seed ^ UINT64_MAX}, &plan,
		&session->err);
	if (rc)
		return rc;
	set_run(session, &setup);
	setup.plan = &plan;
	setup.thread_count = 1;
	setup.duration_ns = 0;
	setup.progress = false;
	if (!setup.concurrency)
		setup.concurrency = WARMUP_CONCURRENCY;
	rc = serve_run(&setup, &run, &session->err);
	*interrupted = run.interrupted;
	serve_plan_release(&plan);
	return rc;
}

static void announce(const struct session *session)
{
	const struct serve_options *options = &session->options;
	const struct serve_plan *plan = &session->plan;

	if (options->quiet)
		return;
	fprintf(stderr,
		"%s: %zu requests, %s, %u model%s, seed %llu; up to %u "
		"connections; at most %zu MiB for requests and samples\n",
		options->url, plan->count,
		options->max_concurrency ? "closed loop" : "open loop",
		options->model_count, options->model_count == 1 ? "" : "s",
		(unsigned long long)options->seed, options->connection_max,
		(serve_plan_bytes(plan) >> 20) + 1);
	if (session->source.trace.failed_count)
		fprintf(stderr, "%s: %zu rows without tokens left out\n",
			options->trace, session->source.trace.failed_count);
}

static int write_reports(struct session *session, const struct serve_run *run,
	const struct serve_summary *summary)
{
	const struct serve_report report = {
		&session->options, &session->plan, run, summary, session->date};
	int rc = 0;

	serve_report_print(&report, stdout);
	if (session->options.result)
		rc = serve_report_json(
			&report, session->options.result, &session->err);
	if (session->options.html && rc == 0)
		rc = serve_report_html(
			&report, session->options.html, &session->err);
	return rc;
}

static int carry_out(struct session *session, size_t *failed)
{
	struct serve_run_setup setup;
	struct serve_summary summary;
	struct serve_run run;
	bool interrupted = false;
	int rc = warm_up(session, &interrupted);

	if (rc || interrupted)
		return rc ? rc : -EINTR;
	announce(session);
	set_run(session, &setup);
	setup.plan = &session->plan;
	rc = serve_run(&setup, &run, &session->err);
	if (rc)
		return rc;
	rc = serve_summarise(&session->plan, &session->options.goodput,
		&summary, &session->err);
	if (rc)
		return rc;
	rc = write_reports(session, &run, &summary);
	*failed = summary.failed;
	serve_summary_release(&summary);
	return rc;
}

static void set_date(char out[32])
{
	time_t now = time(NULL);
	struct tm local;

	localtime_r(&now, &local);
	strftime(out, 32, "%Y%m%d-%H%M%S", &local);
}

int serve_main(int argc, char **argv)
{
	struct session session = {.signal_fd = -1};
	size_t failed = 0;
	int rc =
		serve_options_parse(argc, argv, &session.options, &session.err);

	if (rc == 1) {
		serve_options_help(stdout);
		return 0;
	}
	set_date(session.date);
	if (rc == 0) {
		session.signal_fd = serve_run_block_signals();
		rc = prepare(&session);
	}
	if (rc == 0)
		rc = carry_out(&session, &failed);
	if (rc && rc != -EINTR)
		fprintf(stderr, "heddle-bench serve: %s\n",
			session.err.text[0] ? session.err.text : strerror(-rc));
	serve_plan_release(&session.plan);
	serve_source_release(&session.source);
	serve_options_release(&session.options);
	if (rc)
		return 2;
	return failed ? 1 : 0;
}
