/* serve_report.c - what a run says, for people (summary -> console) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/serve_report.h"

#define WIDTH 54

size_t serve_fault_rows(const struct serve_faults *faults,
	struct serve_fault_row rows[SERVE_FAULT_ROW_COUNT_MAX])
{
	const size_t statuses =
		sizeof(faults->statuses) / sizeof(faults->statuses[0]);
	size_t count = 0;

	for (int i = 1; i < SERVE_FAULT_COUNT; i++) {
		enum serve_fault fault = (enum serve_fault)i;
		struct serve_fault_row row = {.count = faults->counts[i],
			.meaning = serve_fault_meaning(fault),
			.example = faults->examples[i]};

		if (!row.count || fault == SERVE_FAULT_STATUS)
			continue;
		snprintf(row.name, sizeof(row.name), "%s",
			serve_fault_name(fault));
		rows[count++] = row;
	}
	for (size_t i = 0; i < statuses && count < SERVE_FAULT_ROW_COUNT_MAX;
		i++) {
		if (!faults->statuses[i])
			continue;
		snprintf(rows[count].name, sizeof(rows[count].name), "http_%zu",
			i);
		rows[count].count = faults->statuses[i];
		rows[count].meaning = serve_fault_meaning(SERVE_FAULT_STATUS);
		rows[count++].example = faults->examples[SERVE_FAULT_STATUS];
	}
	return count;
}

/* --- the console ----------------------------------------------------------- */

static void rule(const char *title, char fill, FILE *out)
{
	int length = (int)strlen(title), left = (WIDTH - length) / 2;

	for (int i = 0; i < left; i++)
		fputc(fill, out);
	fputs(title, out);
	for (int i = left + length; i < WIDTH; i++)
		fputc(fill, out);
	fputc('\n', out);
}

static void whole(const char *name, uint64_t value, FILE *out)
{
	fprintf(out, "%-42s %-10llu\n", name, (unsigned long long)value);
}

static void real(const char *name, double value, FILE *out)
{
	fprintf(out, "%-42s %-10.2f\n", name, value);
}

static void section(const char *title, const char *name,
	const struct serve_figures *figures, FILE *out)
{
	static const char *const points[SERVE_POINT_COUNT] = {
		"P50", "P90", "P95", "P99", "P99.9"};
	char label[64];

	rule(title, '-', out);
	snprintf(label, sizeof(label), "Mean %s (ms):", name);
	real(label, figures->mean * 1e3, out);
	snprintf(label, sizeof(label), "Median %s (ms):", name);
	real(label, figures->median * 1e3, out);
	snprintf(label, sizeof(label), "Std %s (ms):", name);
	real(label, figures->std * 1e3, out);
	for (int i = 0; i < SERVE_POINT_COUNT; i++) {
		snprintf(label, sizeof(label), "%s %s (ms):", points[i], name);
		real(label, figures->points[i] * 1e3, out);
	}
}

static void print_faults(const struct serve_report *report, FILE *out)
{
	struct serve_fault_row rows[SERVE_FAULT_ROW_COUNT_MAX];
	size_t count = serve_fault_rows(&report->run->faults, rows);

	if (!count)
		return;
	rule("Faults", '-', out);
	for (size_t i = 0; i < count; i++) {
		fprintf(out, "%-22s %8llu  %s\n", rows[i].name,
			(unsigned long long)rows[i].count, rows[i].meaning);
		if (rows[i].example[0])
			fprintf(out, "    e.g. %.*s\n",
				(int)strcspn(rows[i].example, "\r\n"),
				rows[i].example);
	}
}

static void print_counts(const struct serve_report *report, FILE *out)
{
	const struct serve_summary *summary = report->summary;
	const struct serve_options *options = report->options;

	whole("Successful requests:", summary->completed, out);
	whole("Failed requests:", summary->failed, out);
	if (summary->cancelled + summary->not_sent)
		whole("Cut off by the end of the run:",
			summary->cancelled + summary->not_sent, out);
	if (report->run->retries)
		whole("Sent again after 429:", report->run->retries, out);
	if (options->max_concurrency)
		whole("Maximum request concurrency:", options->max_concurrency,
			out);
	if (options->arrivals.rate > 0)
		real("Request rate configured (RPS):", options->arrivals.rate,
			out);
	real("Benchmark duration (s):", summary->duration_s, out);
	whole("Total input tokens:", summary->input_tokens, out);
	whole("Total generated tokens:", summary->output_tokens, out);
	real("Request throughput (req/s):", summary->request_rate, out);
	if (serve_goodput_is_set(&options->goodput))
		real("Request goodput (req/s):", summary->good_rate, out);
	real("Output token throughput (tok/s):", summary->output_rate, out);
	real("Peak output token throughput (tok/s):", summary->peak_output_rate,
		out);
	whole("Peak concurrent requests:", summary->peak_in_flight, out);
	real("Total token throughput (tok/s):", summary->total_rate, out);
}

static void print_plateau(const struct serve_report *report, FILE *out)
{
	const struct serve_plateau *plateau = &report->summary->plateau;
	char title[64];

	if (plateau->to_s <= plateau->from_s)
		return;
	snprintf(title, sizeof(title), "Plateau (%.1f s to %.1f s)",
		plateau->from_s, plateau->to_s);
	rule(title, '-', out);
	real("Request throughput (req/s):", plateau->request_rate, out);
	real("Output token throughput (tok/s):", plateau->output_rate, out);
	real("Mean concurrent requests:", plateau->in_flight, out);
}

static void print_client(const struct serve_report *report, FILE *out)
{
	const struct serve_summary *summary = report->summary;

	rule("From when it was sent, and the client", '-', out);
	real("Median TTFT from sending (ms):", summary->ttft_sent.median * 1e3,
		out);
	real("P99 TTFT from sending (ms):",
		summary->ttft_sent.points[SERVE_P99] * 1e3, out);
	real("P99 E2EL from sending (ms):",
		summary->e2el_sent.points[SERVE_P99] * 1e3, out);
	real("P99 from due to sent (ms):", summary->lag.points[SERVE_P99] * 1e3,
		out);
	if (report->run->waited)
		whole("Waited for a free connection:", report->run->waited,
			out);
	if (report->run->reconnects)
		whole("Kept connections that had ended:",
			report->run->reconnects, out);
}

void serve_report_print(const struct serve_report *report, FILE *out)
{
	const struct serve_summary *summary = report->summary;

	rule(" Serving Benchmark Result ", '=', out);
	if (report->run->interrupted)
		fprintf(out,
			"Interrupted: the figures are of the run so far.\n");
	print_counts(report, out);
	section("Time to First Token", "TTFT", &summary->ttft, out);
	section("Time per Output Token (excl. 1st token)", "TPOT",
		&summary->tpot, out);
	section("Inter-token Latency", "ITL", &summary->itl, out);
	section("End-to-end Latency", "E2EL", &summary->e2el, out);
	print_plateau(report, out);
	print_client(report, out);
	print_faults(report, out);
	rule("", '=', out);
}
