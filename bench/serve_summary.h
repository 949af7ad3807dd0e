/* serve_summary.h - what a run says (plan with results -> figures) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TTFT:    first chunk with text, from when the request was DUE; E2E: last
 *          byte of the answer, from when it was due. Counting from when it
 *          was sent would leave out the wait that a slow server causes
 *          (coordinated omission); those figures stand beside, as *_sent.
 * TPOT:    (E2E - TTFT) / (output tokens - 1), once per request.
 * ITL:     gaps between chunks with text, over all requests.
 * Tokens:  usage where the server sends it, else chunks with text.
 * Only requests that completed without a fault count; the series over time
 *          and the plateau's tokens show every chunk that came.
 * Plateau: from the first completion to the last sending: without the ramp,
 *          while answers were only beginning, and without the drain.
 * Ownership: serve_summary_release() frees the series.
 */
#ifndef HEDDLE_BENCH_SERVE_SUMMARY_H
#define HEDDLE_BENCH_SERVE_SUMMARY_H

#include "base/error.h"
#include "bench/serve_options.h"
#include "bench/serve_plan.h"
#include "bench/serve_stats.h"

#define SERVE_BIN_COUNT_MAX 60

struct serve_plateau {
	double from_s, to_s; /* equal: there was none */
	double request_rate, output_rate, in_flight;
};

/* Over time, in bins of equal width. */
struct serve_series {
	double bin_s;
	size_t count;
	double output_rate[SERVE_BIN_COUNT_MAX]; /* tokens per second */
	double request_rate[SERVE_BIN_COUNT_MAX]; /* completed per second */
	double in_flight[SERVE_BIN_COUNT_MAX]; /* mean */
};

struct serve_summary {
	size_t completed, failed, cancelled, not_sent;
	uint64_t input_tokens, output_tokens;
	double duration_s; /* start to the last end */
	double request_rate, output_rate, total_rate;
	size_t good_count;
	double good_rate; /* requests per second within all limits */
	double peak_output_rate; /* tokens in the best second */
	size_t peak_in_flight;
	struct serve_figures ttft, tpot, itl, e2el; /* seconds */
	struct serve_figures ttft_sent, e2el_sent, lag; /* lag: sent - due */
	struct serve_plateau plateau;
	struct serve_series series;
	double *ttfts, *tpots, *e2els; /* owned, ascending */
	uint32_t *itls; /* owned, ascending, ticks */
};

/* -ENOMEM; then *out is empty. */
int serve_summarise(const struct serve_plan *plan,
	const struct serve_goodput *goodput, struct serve_summary *out,
	struct error *err);
void serve_summary_release(struct serve_summary *summary);

uint32_t serve_output_tokens(const struct serve_result *result);
uint32_t serve_input_tokens(
	const struct serve_item *item, const struct serve_result *result);

/* Seconds; tpot is 0 for answers of one token. */
double serve_ttft(const struct serve_result *result);
double serve_tpot(const struct serve_result *result);
double serve_e2el(const struct serve_result *result);

/* Within every limit that is set. */
bool serve_is_good(
	const struct serve_result *result, const struct serve_goodput *goodput);

#endif
