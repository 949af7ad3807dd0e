/* serve_report_json.c - what a run says, for tools (summary -> vLLM's JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "bench/serve_report.h"

/* Counts of json_object_set_new() that failed: one look at the end. */
struct writer {
	json_t *object;
	bool failed;
};

static void put(struct writer *writer, const char *key, json_t *value)
{
	if (!value || json_object_set_new(writer->object, key, value))
		writer->failed = true;
}

static void put_real(struct writer *writer, const char *key, double value)
{
	put(writer, key, json_real(value));
}

static void put_count(struct writer *writer, const char *key, uint64_t value)
{
	put(writer, key, json_integer((json_int_t)value));
}

/* A text from outside: what is no UTF-8 is left out. */
static json_t *text_or_null(const char *text)
{
	json_t *value = text ? json_string(text) : NULL;

	return value ? value : json_null();
}

static void put_figures(struct writer *writer, const char *name,
	const struct serve_figures *figures)
{
	static const char *const points[SERVE_POINT_COUNT] = {
		"p50", "p90", "p95", "p99", "p99.9"};
	char key[64];

	snprintf(key, sizeof(key), "mean_%s_ms", name);
	put_real(writer, key, figures->mean * 1e3);
	snprintf(key, sizeof(key), "median_%s_ms", name);
	put_real(writer, key, figures->median * 1e3);
	snprintf(key, sizeof(key), "std_%s_ms", name);
	put_real(writer, key, figures->std * 1e3);
	for (int i = 0; i < SERVE_POINT_COUNT; i++) {
		snprintf(key, sizeof(key), "%s_%s_ms", points[i], name);
		put_real(writer, key, figures->points[i] * 1e3);
	}
}

static void put_setup(struct writer *writer, const struct serve_report *report)
{
	const struct serve_options *options = report->options;
	double rate = options->arrivals.rate;

	put(writer, "date", json_string(report->date));
	put(writer, "endpoint_type",
		json_string(options->chat ? "openai-chat" : "openai"));
	put(writer, "backend",
		json_string(options->chat ? "openai-chat" : "openai"));
	put(writer, "label", text_or_null(options->label));
	put(writer, "model_id", text_or_null(options->models[0].name));
	put(writer, "tokenizer_id", text_or_null(options->models[0].name));
	put_count(writer, "num_prompts", report->plan->count);
	put(writer, "request_rate",
		rate > 0 ? json_real(rate) : json_string("inf"));
	put_real(writer, "burstiness", options->arrivals.burstiness);
	put(writer, "max_concurrency",
		options->max_concurrency
			? json_integer(options->max_concurrency)
			: json_null());
	put_count(writer, "seed", options->seed);
}

static void put_totals(struct writer *writer, const struct serve_report *report)
{
	const struct serve_summary *summary = report->summary;
	bool has_goodput = serve_goodput_is_set(&report->options->goodput);

	put_real(writer, "duration", summary->duration_s);
	put_count(writer, "completed", summary->completed);
	put_count(writer, "failed", summary->failed);
	put_count(writer, "cancelled", summary->cancelled + summary->not_sent);
	put_count(writer, "total_input_tokens", summary->input_tokens);
	put_count(writer, "total_output_tokens", summary->output_tokens);
	put_real(writer, "request_throughput", summary->request_rate);
	put(writer, "request_goodput",
		has_goodput ? json_real(summary->good_rate) : json_null());
	put_real(writer, "output_throughput", summary->output_rate);
	put_real(writer, "total_token_throughput", summary->total_rate);
	put_real(writer, "max_output_tokens_per_s", summary->peak_output_rate);
	put_count(writer, "max_concurrent_requests", summary->peak_in_flight);
	put_figures(writer, "ttft", &summary->ttft);
	put_figures(writer, "tpot", &summary->tpot);
	put_figures(writer, "itl", &summary->itl);
	put_figures(writer, "e2el", &summary->e2el);
	put_figures(writer, "ttft_sent", &summary->ttft_sent);
	put_figures(writer, "e2el_sent", &summary->e2el_sent);
	put_figures(writer, "lag", &summary->lag);
}

static void put_ours(struct writer *writer, const struct serve_report *report)
{
	const struct serve_plateau *plateau = &report->summary->plateau;
	struct serve_fault_row rows[SERVE_FAULT_ROW_COUNT_MAX];
	size_t count = serve_fault_rows(&report->run->faults, rows);
	json_t *faults = json_object();

	for (size_t i = 0; i < count; i++)
		if (json_object_set_new(faults, rows[i].name,
			    json_integer((json_int_t)rows[i].count)))
			writer->failed = true;
	put(writer, "faults", faults);
	put(writer, "plateau",
		json_pack("{s:f, s:f, s:f, s:f, s:f}", "from_s",
			plateau->from_s, "to_s", plateau->to_s,
			"request_throughput", plateau->request_rate,
			"output_throughput", plateau->output_rate,
			"concurrent_requests", plateau->in_flight));
	put(writer, "interrupted", json_boolean(report->run->interrupted));
	put_count(writer, "retries", report->run->retries);
	put_count(writer, "waited_for_connection", report->run->waited);
	put_count(writer, "reconnects", report->run->reconnects);
}

/* --- the details ------------------------------------------------------------ */

struct details {
	json_t *input_lens, *output_lens, *ttfts, *itls, *starts, *texts,
		*errors;
};

static json_t *gaps_of(const struct serve_plan *plan, size_t index)
{
	const struct serve_result *result = &plan->results[index];
	json_t *list = json_array();

	for (uint32_t i = 0; i < result->gap_count; i++)
		json_array_append_new(list,
			json_real(
				plan->gaps[plan->items[index].gap_offset + i] *
				(SERVE_TICK_NS * 1e-9)));
	return list;
}

static json_t *error_of(const struct serve_result *result)
{
	char text[64];

	if (result->outcome == SERVE_COMPLETED)
		return json_string("");
	if (result->outcome != SERVE_FAILED)
		return json_string("cancelled");
	if (result->fault == SERVE_FAULT_STATUS)
		snprintf(text, sizeof(text), "http_%u", result->status);
	else
		snprintf(text, sizeof(text), "%s",
			serve_fault_name((enum serve_fault)result->fault));
	return json_string(text);
}

static void put_request(
	struct details *details, const struct serve_plan *plan, size_t i)
{
	const struct serve_result *result = &plan->results[i];
	json_t *text = result->text ? json_string(result->text) : NULL;

	json_array_append_new(details->input_lens,
		json_integer(serve_input_tokens(&plan->items[i], result)));
	json_array_append_new(details->output_lens,
		json_integer(serve_output_tokens(result)));
	json_array_append_new(details->ttfts, json_real(serve_ttft(result)));
	json_array_append_new(details->itls, gaps_of(plan, i));
	json_array_append_new(
		details->starts, json_real((double)result->sent_ns / 1e9));
	json_array_append_new(details->texts, text ? text : json_string(""));
	json_array_append_new(details->errors, error_of(result));
}

static void put_details(struct writer *writer, const struct serve_plan *plan)
{
	struct details details = {json_array(), json_array(), json_array(),
		json_array(), json_array(), json_array(), json_array()};

	for (size_t i = 0; i < plan->count; i++)
		put_request(&details, plan, i);
	put(writer, "input_lens", details.input_lens);
	put(writer, "output_lens", details.output_lens);
	put(writer, "ttfts", details.ttfts);
	put(writer, "itls", details.itls);
	put(writer, "start_times", details.starts);
	put(writer, "generated_texts", details.texts);
	put(writer, "errors", details.errors);
}

int serve_report_json(
	const struct serve_report *report, const char *path, struct error *err)
{
	struct writer writer = {.object = json_object()};
	FILE *out;
	int rc = 0;

	if (!writer.object)
		return error_set(err, ENOMEM, "%s: no memory", path);
	put_setup(&writer, report);
	put_totals(&writer, report);
	put_ours(&writer, report);
	if (report->options->detail)
		put_details(&writer, report->plan);
	out = fopen(path, "we");
	if (!out)
		rc = error_set(err, errno, "%s: %s", path, strerror(errno));
	else if (writer.failed)
		rc = error_set(err, ENOMEM, "%s: no memory", path);
	else if (json_dumpf(writer.object, out, JSON_INDENT(1)) ||
		 fputc('\n', out) == EOF)
		rc = error_set(err, EIO, "%s: writing failed", path);
	if (out && fclose(out) && rc == 0)
		rc = error_set(err, EIO, "%s: writing failed", path);
	json_decref(writer.object);
	return rc;
}
