/* serve_report.h - what a run says, for people and for tools (-> text, JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms:   the console block titled "Serving Benchmark Result"; the result
 *          JSON that vLLM's tools read, with what is ours beside it; a page
 *          of HTML with plots (serve_html.c) that needs nothing else.
 */
#ifndef HEDDLE_BENCH_SERVE_REPORT_H
#define HEDDLE_BENCH_SERVE_REPORT_H

#include <stdio.h>

#include "bench/serve_run.h"
#include "bench/serve_summary.h"

struct serve_report {
	const struct serve_options *options;
	const struct serve_plan *plan;
	const struct serve_run *run;
	const struct serve_summary *summary;
	const char *date; /* "20261122-050816", local time at the start */
};

void serve_report_print(const struct serve_report *report, FILE *out);

/* -EIO, -ENOMEM, or why the file cannot be opened. */
int serve_report_json(
	const struct serve_report *report, const char *path, struct error *err);
int serve_report_html(
	const struct serve_report *report, const char *path, struct error *err);

/* "http_429", "id_changed": the i-th kind of fault that was seen. */
struct serve_fault_row {
	char name[48];
	uint64_t count;
	const char *meaning, *example;
};

#define SERVE_FAULT_ROW_COUNT_MAX 64

size_t serve_fault_rows(const struct serve_faults *faults,
	struct serve_fault_row rows[SERVE_FAULT_ROW_COUNT_MAX]);

#endif
