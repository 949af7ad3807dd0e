/* frontend_load.c - loads for the front end (what to send -> plan, figures) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/frontend_load.h"
#include "bench/node.h"
#include "bench/serve_compose.h"

#define PROMPT                                                                 \
	"[100,101,102,103,104,105,106,107,108,109,110,111,112,113,114,115]"
#define BODY_BYTES 512
#define TIMEOUT_NS (120 * NS_PER_S)
#define RETRY_COUNT 100 /* a refusal for want of room is no failure here */

enum item_kind { ITEM_STREAM, ITEM_INTRUDER };

static struct serve_call stream_call(
	char body[BODY_BYTES], uint32_t seed, uint32_t tokens, bool stream)
{
	int length = snprintf(body, BODY_BYTES,
		"{\"model\":\"" BENCH_MODEL_NAME "\",\"prompt\":" PROMPT
		",\"max_tokens\":%u,\"ignore_eos\":true,\"seed\":%u%s}",
		tokens, seed,
		stream ? ",\"stream\":true,\"stream_options\":{"
			 "\"include_usage\":true}"
		       : "");

	return (struct serve_call){.method = "POST",
		.path = "/v1/completions",
		.body = body,
		.body_bytes = (size_t)length};
}

/* --- before a run ---------------------------------------------------------- */

static int add_whole(const struct serve_target *target, uint32_t tokens,
	struct serve_plan *plan)
{
	struct serve_bytes data = {0};
	int rc = 0;

	for (uint32_t seed = 0; rc == 0 && seed < FRONTEND_SEED_COUNT; seed++) {
		char body[BODY_BYTES];
		struct serve_call call = stream_call(body, seed, tokens, false);

		rc = serve_compose_add(plan, &data, target, &call,
			(struct serve_item){.output_tokens = tokens});
	}
	plan->data = data.data;
	plan->data_bytes = data.length;
	return rc ? rc : serve_plan_seal(plan);
}

/* All at once: a paced node takes as long for one as for all. */
int frontend_references(const struct serve_target *target, uint32_t token_count,
	uint64_t hashes[FRONTEND_SEED_COUNT], struct error *err)
{
	struct serve_plan plan = {.expect = {.ignore_eos = true}};
	const struct serve_run_setup setup = {.target = target,
		.plan = &plan,
		.thread_count = 1,
		.connection_max = FRONTEND_SEED_COUNT,
		.timeout_ns = TIMEOUT_NS,
		.signal_fd = -1};
	struct serve_run run;
	int rc;

	plan.items = calloc(FRONTEND_SEED_COUNT, sizeof(*plan.items));
	if (!plan.items || add_whole(target, token_count, &plan))
		rc = error_set(err, ENOMEM, "no memory for references");
	else
		rc = serve_run(&setup, &run, err);
	assert(rc || plan.results);
	for (uint32_t i = 0; rc == 0 && i < FRONTEND_SEED_COUNT; i++) {
		hashes[i] = plan.results[i].text_hash;
		if (plan.results[i].outcome != SERVE_COMPLETED)
			rc = error_set(err, EPROTO, "reference %u: %s", i,
				serve_fault_name(
					(enum serve_fault)plan.results[i]
						.fault));
	}
	serve_plan_release(&plan);
	return rc;
}

int frontend_record(const struct serve_target *target, uint32_t token_count,
	struct serve_bytes *out, struct error *err)
{
	char body[BODY_BYTES];
	struct serve_call call = stream_call(body, 0, token_count, true);

	return serve_call_raw(target, &call, out, err);
}

/* --- the plan -------------------------------------------------------------- */

static int add_streams(const struct frontend_load *load,
	struct serve_plan *plan, struct serve_bytes *data)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < load->stream_count; i++) {
		uint32_t seed = i % FRONTEND_SEED_COUNT;
		char body[BODY_BYTES];
		struct serve_call call =
			stream_call(body, seed, load->token_count, true);

		rc = serve_compose_add(plan, data, load->target, &call,
			(struct serve_item){
				.due_ns = (uint64_t)(i * 1e9 / load->rate),
				.output_tokens = load->token_count,
				.kind = ITEM_STREAM,
				.text_hash =
					load->hashes ? load->hashes[seed] : 0});
	}
	return rc;
}

/* A prompt of words, of about that many bytes; one token is asked for. */
static int add_intruder(const struct frontend_load *load,
	struct serve_plan *plan, struct serve_bytes *data, uint32_t bytes,
	uint64_t due_ns)
{
	static const char head[] = "{\"model\":\"" BENCH_MODEL_NAME
				   "\",\"max_tokens\":1,\"ignore_eos\":true,"
				   "\"stream\":true,\"stream_options\":{"
				   "\"include_usage\":true},\"prompt\":\"";
	static const char words[] =
		"the quick brown fox jumps over a lazy dog, ";
	struct serve_bytes body = {0};
	int rc = serve_bytes_add(&body, head, sizeof(head) - 1, SIZE_MAX / 4);

	while (rc == 0 && body.length < bytes)
		rc = serve_bytes_add(
			&body, words, sizeof(words) - 1, SIZE_MAX / 4);
	if (rc == 0)
		rc = serve_bytes_add(&body, "\"}", 2, SIZE_MAX / 4);
	if (rc == 0) {
		const struct serve_call call = {.method = "POST",
			.path = "/v1/completions",
			.body = body.data,
			.body_bytes = body.length};

		rc = serve_compose_add(plan, data, load->target, &call,
			(struct serve_item){.due_ns = due_ns,
				.output_tokens = 1,
				.kind = ITEM_INTRUDER});
	}
	serve_bytes_release(&body);
	return rc;
}

static int add_intruders(const struct frontend_load *load,
	struct serve_plan *plan, struct serve_bytes *data)
{
	const struct frontend_intruders *intruders = &load->intruders;
	uint64_t due_ns = intruders->from_ns;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < intruders->count; i++) {
		rc = add_intruder(
			load, plan, data, intruders->small_bytes, due_ns);
		due_ns += intruders->every_ns;
		if (rc == 0)
			rc = add_intruder(load, plan, data,
				intruders->large_bytes, due_ns);
		due_ns += intruders->every_ns;
	}
	return rc;
}

static int by_due(const void *a, const void *b)
{
	const struct serve_item *x = a;
	const struct serve_item *y = b;

	if (x->due_ns != y->due_ns)
		return (x->due_ns > y->due_ns) - (x->due_ns < y->due_ns);
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int make_plan(const struct frontend_load *load, struct serve_plan *plan)
{
	struct serve_bytes data = {0};
	size_t room = load->stream_count + 2 * (size_t)load->intruders.count;
	int rc;

	memset(plan, 0, sizeof(*plan));
	plan->expect = (struct serve_expect){
		.stream = true, .include_usage = true, .ignore_eos = true};
	plan->items = calloc(room, sizeof(*plan->items));
	if (!plan->items)
		return -ENOMEM;
	rc = add_streams(load, plan, &data);
	if (rc == 0)
		rc = add_intruders(load, plan, &data);
	plan->data = data.data;
	plan->data_bytes = data.length;
	qsort(plan->items, plan->count, sizeof(*plan->items), by_due);
	if (rc == 0)
		rc = serve_plan_seal(plan);
	return rc;
}

/* --- the run --------------------------------------------------------------- */

static void count(const struct serve_plan *plan, struct frontend_outcome *out)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];
		bool done = result->outcome == SERVE_COMPLETED;

		if (plan->items[i].kind == ITEM_INTRUDER) {
			out->intruders_done += done;
			out->intruders_failed += !done;
			continue;
		}
		out->completed += done;
		out->failed += !done;
		out->event_count += result->chunk_count;
	}
}

static int summarise(const struct serve_plan *plan, const struct serve_run *run,
	struct frontend_outcome *out, struct error *err)
{
	const struct serve_goodput none = {0};
	struct serve_summary summary;
	int rc = serve_summarise(plan, &none, &summary, err);

	if (rc)
		return rc;
	count(plan, out);
	out->duration_s = summary.duration_s;
	out->peak_in_flight = summary.peak_in_flight;
	out->itl_p99_s = summary.itl.points[SERVE_P99];
	out->itl_median_s = summary.itl.median;
	out->faults = run->faults;
	out->interrupted = run->interrupted;
	out->refused_count = run->retries;
	serve_summary_release(&summary);
	return 0;
}

int frontend_load_run(const struct frontend_load *load,
	struct frontend_outcome *out, struct error *err)
{
	struct serve_plan plan;
	struct serve_run run;
	const struct serve_run_setup setup = {.target = load->target,
		.plan = &plan,
		.thread_count = load->thread_count,
		.connection_max = serve_run_connection_max(),
		.timeout_ns = TIMEOUT_NS,
		.retry_max = RETRY_COUNT,
		.progress = load->progress,
		.signal_fd = load->signal_fd,
		.note = load->all_open,
		.note_arg = load->all_open_arg,
		.note_ns = (uint64_t)(load->stream_count * 1e9 / load->rate)};
	int rc = make_plan(load, &plan);

	memset(out, 0, sizeof(*out));
	if (rc)
		error_set(err, -rc, "no memory for the load");
	if (rc == 0)
		rc = serve_run(&setup, &run, err);
	if (rc == 0)
		rc = summarise(&plan, &run, out, err);
	serve_plan_release(&plan);
	return rc;
}
