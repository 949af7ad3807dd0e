/* serve_summary.c - what a run says (plan with results -> figures) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_summary.h"

#define BIN_S_MIN 0.1

uint32_t serve_output_tokens(const struct serve_result *result)
{
	return result->has_usage ? result->completion_tokens
				 : result->chunk_count;
}

uint32_t serve_input_tokens(
	const struct serve_item *item, const struct serve_result *result)
{
	return result->has_usage ? result->prompt_tokens : item->input_tokens;
}

static double seconds(uint64_t later_ns, uint64_t earlier_ns)
{
	return later_ns > earlier_ns ? (double)(later_ns - earlier_ns) / 1e9
				     : 0;
}

double serve_ttft(const struct serve_result *result)
{
	return seconds(result->first_ns, result->due_ns);
}

double serve_e2el(const struct serve_result *result)
{
	return seconds(result->end_ns, result->due_ns);
}

double serve_tpot(const struct serve_result *result)
{
	uint32_t tokens = serve_output_tokens(result);

	if (tokens < 2 || !result->first_ns)
		return 0;
	return seconds(result->end_ns, result->first_ns) / (tokens - 1);
}

bool serve_is_good(
	const struct serve_result *result, const struct serve_goodput *goodput)
{
	if (goodput->ttft_ms > 0 && serve_ttft(result) * 1e3 > goodput->ttft_ms)
		return false;
	if (goodput->tpot_ms > 0 && serve_tpot(result) * 1e3 > goodput->tpot_ms)
		return false;
	return !(goodput->e2el_ms > 0 &&
		 serve_e2el(result) * 1e3 > goodput->e2el_ms);
}

static bool is_complete(const struct serve_result *result)
{
	return result->outcome == SERVE_COMPLETED;
}

/* --- counts and figures ---------------------------------------------------- */

static void count_one(struct serve_summary *summary,
	const struct serve_item *item, const struct serve_result *result,
	const struct serve_goodput *goodput)
{
	double end_s = (double)result->end_ns / 1e9;

	if (end_s > summary->duration_s)
		summary->duration_s = end_s;
	switch ((enum serve_outcome)result->outcome) {
	case SERVE_NOT_SENT:
		summary->not_sent++;
		return;
	case SERVE_RUNNING: /* waited to be sent again */
	case SERVE_CANCELLED:
		summary->cancelled++;
		return;
	case SERVE_FAILED:
		summary->failed++;
		return;
	case SERVE_COMPLETED:
		break;
	}
	summary->completed++;
	summary->input_tokens += serve_input_tokens(item, result);
	summary->output_tokens += serve_output_tokens(result);
	if (serve_is_good(result, goodput))
		summary->good_count++;
}

static void count_all(const struct serve_plan *plan,
	const struct serve_goodput *goodput, struct serve_summary *summary)
{
	double length;

	for (size_t i = 0; i < plan->count; i++)
		count_one(summary, &plan->items[i], &plan->results[i], goodput);
	length = summary->duration_s;
	if (length <= 0)
		return;
	summary->request_rate = (double)summary->completed / length;
	summary->good_rate = (double)summary->good_count / length;
	summary->output_rate = (double)summary->output_tokens / length;
	summary->total_rate =
		summary->output_rate + (double)summary->input_tokens / length;
}

/* Samples of a kind into values[]; how many. */
typedef bool sample_function(const struct serve_result *result, double *out);

static bool sample_ttft(const struct serve_result *result, double *out)
{
	*out = serve_ttft(result);
	return result->first_ns > 0;
}

static bool sample_tpot(const struct serve_result *result, double *out)
{
	*out = serve_tpot(result);
	return serve_output_tokens(result) > 1 && result->first_ns > 0;
}

static bool sample_e2el(const struct serve_result *result, double *out)
{
	*out = serve_e2el(result);
	return true;
}

static bool sample_ttft_sent(const struct serve_result *result, double *out)
{
	*out = seconds(result->first_ns, result->sent_ns);
	return result->first_ns > 0;
}

static bool sample_e2el_sent(const struct serve_result *result, double *out)
{
	*out = seconds(result->end_ns, result->sent_ns);
	return true;
}

static bool sample_lag(const struct serve_result *result, double *out)
{
	*out = seconds(result->sent_ns, result->due_ns);
	return true;
}

static void figures(const struct serve_plan *plan, sample_function *sample,
	double *values, struct serve_figures *out)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->count; i++)
		if (is_complete(&plan->results[i]) &&
			sample(&plan->results[i], &values[count]))
			count++;
	serve_figures_of(values, count, out);
}

static int gap_figures(
	const struct serve_plan *plan, struct serve_summary *summary)
{
	size_t total = 0, count = 0;
	uint32_t *scratch;

	for (size_t i = 0; i < plan->count; i++)
		if (is_complete(&plan->results[i]))
			total += plan->results[i].gap_count;
	summary->itls = calloc(total + 1, sizeof(*summary->itls));
	scratch = calloc(total + 1, sizeof(*scratch));
	if (!summary->itls || !scratch) {
		free(scratch);
		return -ENOMEM;
	}
	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];

		if (!is_complete(result) || !result->gap_count)
			continue;
		memcpy(summary->itls + count,
			plan->gaps + plan->items[i].gap_offset,
			result->gap_count * sizeof(uint32_t));
		count += result->gap_count;
	}
	serve_figures_of_ticks(summary->itls, count, scratch, &summary->itl);
	free(scratch);
	return 0;
}

static int all_figures(
	const struct serve_plan *plan, struct serve_summary *summary)
{
	size_t room = plan->count + 1;
	double *scratch = calloc(room, sizeof(*scratch));
	int rc = -ENOMEM;

	summary->ttfts = calloc(room, sizeof(double));
	summary->tpots = calloc(room, sizeof(double));
	summary->e2els = calloc(room, sizeof(double));
	if (!scratch || !summary->ttfts || !summary->tpots || !summary->e2els)
		goto out;
	figures(plan, sample_ttft, summary->ttfts, &summary->ttft);
	figures(plan, sample_tpot, summary->tpots, &summary->tpot);
	figures(plan, sample_e2el, summary->e2els, &summary->e2el);
	figures(plan, sample_ttft_sent, scratch, &summary->ttft_sent);
	figures(plan, sample_e2el_sent, scratch, &summary->e2el_sent);
	figures(plan, sample_lag, scratch, &summary->lag);
	rc = gap_figures(plan, summary);
out:
	free(scratch);
	return rc;
}

/* --- over time ------------------------------------------------------------- */

/* The gaps of an item; NULL where there are none at all. */
static const uint32_t *gaps_of(const struct serve_plan *plan, size_t item)
{
	return plan->gaps ? plan->gaps + plan->items[item].gap_offset : NULL;
}

/* Where chunks are counted by when they came. */
struct token_times {
	double bin_s;
	size_t count;
	double *bins; /* how many chunks in each */
};

static void count_at(const struct token_times *times, uint64_t at_ns)
{
	size_t bin = (size_t)((double)at_ns / 1e9 / times->bin_s);

	times->bins[bin < times->count ? bin : times->count - 1]++;
}

static void count_tokens(
	const struct serve_plan *plan, const struct token_times *times)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];
		const uint32_t *gaps = gaps_of(plan, i);
		uint64_t at_ns = result->first_ns;

		if (!result->chunk_count)
			continue;
		count_at(times, at_ns);
		for (uint32_t k = 0; k < result->gap_count; k++) {
			at_ns += (uint64_t)gaps[k] * SERVE_TICK_NS;
			count_at(times, at_ns);
		}
	}
}

/* The part of [from, to) that lies in each bin, in bins. */
static void cover(struct serve_series *series, uint64_t from_ns, uint64_t to_ns)
{
	double from = (double)from_ns / 1e9 / series->bin_s;
	double to = (double)to_ns / 1e9 / series->bin_s;

	for (size_t bin = (size_t)from; bin < series->count; bin++) {
		double low = (double)bin > from ? (double)bin : from;
		double high = (double)bin + 1 < to ? (double)bin + 1 : to;

		if (high <= low)
			break;
		series->in_flight[bin] += high - low;
	}
}

static void fill_series(
	const struct serve_plan *plan, struct serve_summary *summary)
{
	struct serve_series *series = &summary->series;
	struct token_times times;

	series->bin_s = summary->duration_s / SERVE_BIN_COUNT_MAX;
	if (series->bin_s < BIN_S_MIN)
		series->bin_s = BIN_S_MIN;
	series->count = (size_t)(summary->duration_s / series->bin_s) + 1;
	if (series->count > SERVE_BIN_COUNT_MAX)
		series->count = SERVE_BIN_COUNT_MAX;
	times = (struct token_times){
		series->bin_s, series->count, series->output_rate};
	count_tokens(plan, &times);
	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];
		size_t bin =
			(size_t)((double)result->end_ns / 1e9 / series->bin_s);

		if (result->sent_ns)
			cover(series, result->sent_ns, result->end_ns);
		if (is_complete(result))
			series->request_rate[bin < series->count
						     ? bin
						     : series->count - 1]++;
	}
	for (size_t i = 0; i < series->count; i++) {
		series->output_rate[i] /= series->bin_s;
		series->request_rate[i] /= series->bin_s;
	}
}

static int peak_second(
	const struct serve_plan *plan, struct serve_summary *summary)
{
	size_t count = (size_t)summary->duration_s + 1;
	double *bins = calloc(count, sizeof(*bins));

	if (!bins)
		return -ENOMEM;
	count_tokens(plan, &(struct token_times){1, count, bins});
	for (size_t i = 0; i < count; i++)
		if (bins[i] > summary->peak_output_rate)
			summary->peak_output_rate = bins[i];
	free(bins);
	return 0;
}

static int compare_edges(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

/* An edge is twice the instant, plus 1 where a request is sent: at the same
 * instant ends come first. */
static int peak_in_flight(
	const struct serve_plan *plan, struct serve_summary *summary)
{
	uint64_t *edges = calloc(2 * plan->count + 1, sizeof(*edges));
	size_t count = 0, now = 0;

	if (!edges)
		return -ENOMEM;
	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];

		if (!result->sent_ns || !result->end_ns)
			continue;
		edges[count++] = 2 * result->sent_ns + 1;
		edges[count++] = 2 * result->end_ns;
	}
	qsort(edges, count, sizeof(*edges), compare_edges);
	for (size_t i = 0; i < count; i++) {
		now = edges[i] % 2 ? now + 1 : now - 1;
		if (now > summary->peak_in_flight)
			summary->peak_in_flight = now;
	}
	free(edges);
	return 0;
}

static uint64_t tokens_between(
	const struct serve_plan *plan, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t count = 0;

	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];
		const uint32_t *gaps = gaps_of(plan, i);
		uint64_t at_ns = result->first_ns;

		if (!result->chunk_count)
			continue;
		count += at_ns >= from_ns && at_ns < to_ns;
		for (uint32_t k = 0; k < result->gap_count; k++) {
			at_ns += (uint64_t)gaps[k] * SERVE_TICK_NS;
			count += at_ns >= from_ns && at_ns < to_ns;
		}
	}
	return count;
}

static void fill_plateau(
	const struct serve_plan *plan, struct serve_plateau *out)
{
	uint64_t from_ns = UINT64_MAX, to_ns = 0, ended = 0, under_way = 0;
	double length;

	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];

		if (is_complete(result) && result->end_ns < from_ns)
			from_ns = result->end_ns;
		if (result->sent_ns > to_ns)
			to_ns = result->sent_ns;
	}
	if (from_ns >= to_ns)
		return;
	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *result = &plan->results[i];
		uint64_t low =
			result->sent_ns > from_ns ? result->sent_ns : from_ns;
		uint64_t high = result->end_ns < to_ns ? result->end_ns : to_ns;

		ended += is_complete(result) && result->end_ns >= from_ns &&
			 result->end_ns < to_ns;
		if (result->sent_ns && high > low)
			under_way += high - low;
	}
	length = seconds(to_ns, from_ns);
	out->from_s = (double)from_ns / 1e9;
	out->to_s = (double)to_ns / 1e9;
	out->request_rate = (double)ended / length;
	out->output_rate =
		(double)tokens_between(plan, from_ns, to_ns) / length;
	out->in_flight = (double)under_way / 1e9 / length;
}

int serve_summarise(const struct serve_plan *plan,
	const struct serve_goodput *goodput, struct serve_summary *out,
	struct error *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	count_all(plan, goodput, out);
	rc = all_figures(plan, out);
	if (rc == 0)
		rc = peak_second(plan, out);
	if (rc == 0)
		rc = peak_in_flight(plan, out);
	if (rc) {
		serve_summary_release(out);
		return error_set(err, -rc, "no memory for figures");
	}
	fill_series(plan, out);
	fill_plateau(plan, &out->plateau);
	return 0;
}

void serve_summary_release(struct serve_summary *summary)
{
	free(summary->ttfts);
	free(summary->tpots);
	free(summary->e2els);
	free(summary->itls);
	memset(summary, 0, sizeof(*summary));
}
