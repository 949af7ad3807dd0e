/* test_bench_load.c - the load generator's arithmetic: laws, traces, figures */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_arrivals.h"
#include "bench/serve_compose.h"
#include "bench/serve_live.h"
#include "bench/serve_stats.h"
#include "bench/serve_summary.h"
#include "bench/serve_trace.h"
#include "tests/suite.h"

#define DRAW_COUNT 200000

static bool near(double value, double wanted, double tolerance)
{
	bool ok = fabs(value - wanted) <= tolerance;

	if (!ok)
		printf("%g is not %g within %g ", value, wanted, tolerance);
	return ok;
}

/* --- arrivals -------------------------------------------------------------- */

/* Mean and coefficient of variation of the gaps. */
static void moments(const struct serve_arrivals *arrivals, double *mean_s,
	double *variation)
{
	uint64_t *at_ns = suite_calloc(DRAW_COUNT, sizeof(*at_ns));
	double sum = 0, squares = 0, variance;
	uint64_t last = 0;

	serve_arrivals_fill(arrivals, at_ns, DRAW_COUNT);
	for (size_t i = 0; i < DRAW_COUNT; i++) {
		double gap = (double)(at_ns[i] - last) / 1e9;

		sum += gap;
		squares += gap * gap;
		last = at_ns[i];
	}
	*mean_s = sum / DRAW_COUNT;
	variance = squares / DRAW_COUNT - *mean_s * *mean_s;
	*variation = sqrt(fmax(variance, 0)) / *mean_s;
	free(at_ns);
}

static void test_arrivals__moments_are_those_of_the_law(void)
{
	static const struct {
		enum serve_arrival kind;
		double burstiness, variation;
	} cases[] = {{SERVE_CONSTANT, 1, 0}, {SERVE_POISSON, 1, 1},
		{SERVE_GAMMA, 1, 1}, {SERVE_GAMMA, 4, 0.5},
		{SERVE_GAMMA, 0.25, 2}};
	uint64_t seed = suite_seed(7);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct serve_arrivals arrivals = {
			cases[i].kind, 50, cases[i].burstiness, seed};
		double mean_s, variation;

		moments(&arrivals, &mean_s, &variation);
		/* Six deviations of the mean of that many draws. */
		CU_ASSERT(near(mean_s, 0.02,
			0.02 * 6 * (cases[i].variation + 1e-6) /
				sqrt(DRAW_COUNT)));
		CU_ASSERT(near(variation, cases[i].variation, 0.05));
	}
}

static void test_arrivals__ascend_and_repeat_from_the_seed(void)
{
	struct serve_arrivals arrivals = {SERVE_GAMMA, 1000, 0.5, 3};
	uint64_t first[100], again[100];

	serve_arrivals_fill(&arrivals, first, 100);
	serve_arrivals_fill(&arrivals, again, 100);
	CU_ASSERT_EQUAL(memcmp(first, again, sizeof(first)), 0);
	for (int i = 1; i < 100; i++)
		CU_ASSERT(first[i] >= first[i - 1]);
	arrivals.seed = 4;
	serve_arrivals_fill(&arrivals, again, 100);
	CU_ASSERT_NOT_EQUAL(memcmp(first, again, sizeof(first)), 0);
	arrivals.kind = SERVE_AT_ONCE;
	serve_arrivals_fill(&arrivals, again, 100);
	CU_ASSERT_EQUAL(again[99], 0);
}

/* --- shares of models ------------------------------------------------------ */

static void draw_shares(
	struct serve_options *options, double *shares, uint64_t seed)
{
	struct serve_random random = {seed};
	double sums[8];

	serve_model_sums(options, sums);
	memset(shares, 0, options->model_count * sizeof(*shares));
	for (uint64_t i = 0; i < DRAW_COUNT; i++)
		shares[serve_model_draw(options, sums, i, &random)] +=
			1.0 / DRAW_COUNT;
}

static void check_shares(struct serve_options *options, const double *wanted)
{
	double shares[8];
	uint64_t seed = suite_seed(11);

	draw_shares(options, shares, seed);
	for (uint32_t i = 0; i < options->model_count; i++)
		CU_ASSERT(near(shares[i], wanted[i], 0.008));
}

static void make_models(struct serve_options *options, const double *weights)
{
	memset(options, 0, sizeof(*options));
	for (int i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(serve_options_add_model(
					options, "m", weights ? weights[i] : 1),
			0);
}

static void test_models__shares_follow_weights(void)
{
	const double weights[] = {1, 2, 3, 4, 10};
	const double wanted[] = {0.05, 0.1, 0.15, 0.2, 0.5};
	struct serve_options options;

	make_models(&options, weights);
	check_shares(&options, wanted);
	serve_options_release(&options);
}

/* P(floor(n U^(1/a)) = i) = ((i+1)/n)^a - (i/n)^a. */
static void test_models__shares_follow_the_power_law(void)
{
	static const double alphas[] = {0.1, 0.3, 0.6, 1};
	struct serve_options options;
	double wanted[5];

	make_models(&options, NULL);
	options.law = SERVE_MODELS_POWER;
	for (int k = 0; k < 4; k++) {
		options.law_parameter = alphas[k];
		for (int i = 0; i < 5; i++)
			wanted[i] = pow((i + 1) / 5.0, alphas[k]) -
				    pow(i / 5.0, alphas[k]);
		check_shares(&options, wanted);
	}
	serve_options_release(&options);
}

static void test_models__shares_follow_zipf(void)
{
	struct serve_options options;
	double wanted[5], sum = 0;

	make_models(&options, NULL);
	options.law = SERVE_MODELS_ZIPF;
	options.law_parameter = 1.1;
	for (int i = 0; i < 5; i++) {
		wanted[i] = pow(i + 1, -1.1);
		sum += wanted[i];
	}
	for (int i = 0; i < 5; i++)
		wanted[i] /= sum;
	check_shares(&options, wanted);
	options.law = SERVE_MODELS_ROUND_ROBIN;
	for (int i = 0; i < 5; i++)
		wanted[i] = 0.2;
	check_shares(&options, wanted);
	serve_options_release(&options);
}

/* --- figures --------------------------------------------------------------- */

static void test_percentile__is_linear_between_ranks(void)
{
	const double values[] = {10, 20, 30, 40, 50};

	CU_ASSERT_EQUAL(serve_percentile(values, 5, 0), 10);
	CU_ASSERT_EQUAL(serve_percentile(values, 5, 50), 30);
	CU_ASSERT_EQUAL(serve_percentile(values, 5, 90), 46);
	CU_ASSERT(near(serve_percentile(values, 5, 99.9), 49.96, 1e-9));
	CU_ASSERT_EQUAL(serve_percentile(values, 5, 100), 50);
	CU_ASSERT_EQUAL(serve_percentile(values, 1, 99), 10);
}

static void test_figures__ticks_agree_with_seconds(void)
{
	enum { COUNT = 10007 };
	uint64_t state = suite_seed(5);
	uint32_t *ticks = suite_calloc(COUNT, sizeof(*ticks));
	uint32_t *scratch = suite_calloc(COUNT, sizeof(*scratch));
	double *values = suite_calloc(COUNT, sizeof(*values));
	struct serve_figures exact, of_ticks;

	for (int i = 0; i < COUNT; i++) {
		/* All sizes, so that every digit of the sort is used. */
		ticks[i] = (uint32_t)suite_random(&state) >>
			   suite_below(&state, 32);
		values[i] = ticks[i] * (SERVE_TICK_NS * 1e-9);
	}
	serve_figures_of(values, COUNT, &exact);
	serve_figures_of_ticks(ticks, COUNT, scratch, &of_ticks);
	CU_ASSERT_EQUAL(of_ticks.count, COUNT);
	CU_ASSERT(near(of_ticks.mean, exact.mean, exact.mean * 1e-9));
	CU_ASSERT(near(of_ticks.std, exact.std, exact.std * 1e-9));
	CU_ASSERT(near(of_ticks.max, exact.max, exact.max * 1e-12));
	for (int i = 0; i < SERVE_POINT_COUNT; i++)
		CU_ASSERT(near(of_ticks.points[i], exact.points[i],
			exact.points[i] * 1e-9));
	for (int i = 1; i < COUNT; i++)
		CU_ASSERT(ticks[i] >= ticks[i - 1]);
	free(ticks);
	free(scratch);
	free(values);
}

static void test_figures__deviation_is_of_the_population(void)
{
	double values[] = {2, 4, 4, 4, 5, 5, 7, 9};
	struct serve_figures figures;

	serve_figures_of(values, 8, &figures);
	CU_ASSERT_EQUAL(figures.mean, 5);
	CU_ASSERT_EQUAL(figures.std, 2);
	CU_ASSERT_EQUAL(figures.median, 4.5);
	serve_figures_of(values, 0, &figures);
	CU_ASSERT_EQUAL(figures.count, 0);
	CU_ASSERT_EQUAL(figures.mean, 0);
}

static void test_ticks__round_and_saturate(void)
{
	CU_ASSERT_EQUAL(serve_ticks(0), 0);
	CU_ASSERT_EQUAL(serve_ticks(49), 0);
	CU_ASSERT_EQUAL(serve_ticks(50), 1);
	CU_ASSERT_EQUAL(serve_ticks(1000), 10);
	CU_ASSERT_EQUAL(serve_ticks(UINT64_C(1000000000000)), UINT32_MAX);
}

static void test_live__percentile_is_within_a_bucket(void)
{
	static struct serve_live lives[2];
	const size_t offset = offsetof(struct serve_live, itl);

	CU_ASSERT_EQUAL(serve_live_percentile(lives, 2, offset, 50), 0);
	for (uint64_t us = 1; us <= 1000; us++)
		serve_live_time(&lives[us % 2].itl, us * 1000);
	for (int percent = 10; percent <= 100; percent += 10) {
		double wanted = percent * 1e4;
		double found = (double)serve_live_percentile(
			lives, 2, offset, percent);

		CU_ASSERT(found >= wanted && found <= wanted * 1.13 + 1000);
	}
	serve_live_time(&lives[0].itl, UINT64_MAX);
	serve_live_add(&lives[0].done, 3);
	serve_live_add(&lives[1].done, 4);
	CU_ASSERT_EQUAL(
		serve_live_sum(lives, 2, offsetof(struct serve_live, done)), 7);
}

/* --- goodput and summary --------------------------------------------------- */

/* Four requests: 100 ms apart, first token after 10 ms * (i + 1), then nine
 * more tokens every 10 ms. */
static void make_plan(struct serve_plan *plan)
{
	memset(plan, 0, sizeof(*plan));
	plan->expect.stream = true;
	plan->items = suite_calloc(4, sizeof(*plan->items));
	plan->count = 4;
	for (int i = 0; i < 4; i++)
		plan->items[i].output_tokens = 10;
	CU_ASSERT_EQUAL(serve_plan_seal(plan), 0);
	for (uint32_t i = 0; i < 4; i++) {
		struct serve_result *result = &plan->results[i];

		result->due_ns = 100000000ull * (i + 1);
		result->sent_ns = result->due_ns + 1000000;
		result->first_ns = result->due_ns + 10000000ull * (i + 1);
		result->last_ns = result->first_ns + 90000000;
		result->end_ns = result->last_ns;
		result->outcome = SERVE_COMPLETED;
		result->chunk_count = 10;
		result->gap_count = 9;
		result->has_usage = true;
		result->prompt_tokens = 5;
		result->completion_tokens = 10;
		for (size_t k = 0; k < 9; k++)
			plan->gaps[plan->items[i].gap_offset + k] =
				serve_ticks(10000000);
	}
}

static void test_summary__figures_of_a_known_run(void)
{
	const struct serve_goodput none = {0};
	struct serve_summary summary;
	struct serve_plan plan;

	make_plan(&plan);
	CU_ASSERT_EQUAL(serve_summarise(&plan, &none, &summary, NULL), 0);
	CU_ASSERT_EQUAL(summary.completed, 4);
	CU_ASSERT_EQUAL(summary.input_tokens, 20);
	CU_ASSERT_EQUAL(summary.output_tokens, 40);
	CU_ASSERT(near(summary.duration_s, 0.53, 1e-9));
	CU_ASSERT(near(summary.request_rate, 4 / 0.53, 1e-9));
	CU_ASSERT(near(summary.ttft.mean, 0.025, 1e-9));
	CU_ASSERT(near(summary.ttft_sent.mean, 0.024, 1e-9));
	CU_ASSERT(near(summary.lag.mean, 0.001, 1e-9));
	CU_ASSERT(near(summary.tpot.mean, 0.01, 1e-9));
	CU_ASSERT(near(summary.itl.median, 0.01, 1e-9));
	CU_ASSERT_EQUAL(summary.itl.count, 36);
	CU_ASSERT(near(summary.e2el.max, 0.13, 1e-9));
	CU_ASSERT_EQUAL(summary.peak_in_flight, 2);
	CU_ASSERT_EQUAL(summary.peak_output_rate, 40);
	/* From the first end, 0.2 s, to the last sending, 0.401 s. */
	CU_ASSERT(near(summary.plateau.from_s, 0.2, 1e-9));
	CU_ASSERT(near(summary.plateau.to_s, 0.401, 1e-9));
	CU_ASSERT(near(summary.plateau.request_rate, 2 / 0.201, 1e-6));
	serve_summary_release(&summary);
	serve_plan_release(&plan);
}

static void test_summary__failures_and_cut_off_count_apart(void)
{
	const struct serve_goodput none = {0};
	struct serve_summary summary;
	struct serve_plan plan;

	make_plan(&plan);
	plan.results[0].outcome = SERVE_FAILED;
	plan.results[1].outcome = SERVE_CANCELLED;
	memset(&plan.results[2], 0, sizeof(plan.results[2]));
	CU_ASSERT_EQUAL(serve_summarise(&plan, &none, &summary, NULL), 0);
	CU_ASSERT_EQUAL(summary.completed, 1);
	CU_ASSERT_EQUAL(summary.failed, 1);
	CU_ASSERT_EQUAL(summary.cancelled, 1);
	CU_ASSERT_EQUAL(summary.not_sent, 1);
	CU_ASSERT_EQUAL(summary.itl.count, 9);
	CU_ASSERT_EQUAL(summary.ttft.count, 1);
	serve_summary_release(&summary);
	serve_plan_release(&plan);
}

static size_t good(const struct serve_plan *plan, const char *limits)
{
	struct serve_goodput goodput;
	struct serve_summary summary;
	size_t count;

	CU_ASSERT_EQUAL(serve_goodput_parse(limits, &goodput, NULL), 0);
	CU_ASSERT_EQUAL(serve_summarise(plan, &goodput, &summary, NULL), 0);
	count = summary.good_count;
	CU_ASSERT(near(summary.good_rate, (double)count / 0.53, 1e-9));
	serve_summary_release(&summary);
	return count;
}

static void test_goodput__counts_what_meets_every_limit(void)
{
	struct serve_plan plan;

	make_plan(&plan);
	CU_ASSERT_EQUAL(good(&plan, ""), 4);
	CU_ASSERT_EQUAL(good(&plan, "ttft:25"), 2);
	CU_ASSERT_EQUAL(good(&plan, "ttft:25 tpot:9.9"), 0);
	CU_ASSERT_EQUAL(good(&plan, "tpot:10.1 e2el:125"), 3);
	CU_ASSERT_EQUAL(good(&plan, "ttft:25,e2el:105"), 1);
	serve_plan_release(&plan);
}

static void test_goodput_parse__refuses_what_it_does_not_know(void)
{
	static const char *const bad[] = {"ttft", "ttft:", "ttft:x", "itl:5",
		"ttft:-1", "ttft:0", "ttft:5ms", "ttft:nan"};
	struct serve_goodput goodput;
	struct error err = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_EQUAL(
			serve_goodput_parse(bad[i], &goodput, NULL), -EINVAL);
	CU_ASSERT_EQUAL(serve_goodput_parse("foo:1", &goodput, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "foo:1"));
}

/* --- traces ---------------------------------------------------------------- */

static int read_trace(const char *text, size_t row_max,
	struct serve_trace *trace, struct error *err)
{
	FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	int rc = serve_trace_read(file, "t", row_max, trace, err);

	fclose(file);
	return rc;
}

static void test_trace__burstgpt_in_both_forms(void)
{
	static const char old[] = "Timestamp,Model,Request tokens,Response "
				  "tokens,Total tokens,Log Type\n"
				  "5,ChatGPT,472,18,490,Conversation log\n"
				  "45,ChatGPT,1087,0,1087,API log\n"
				  "118,GPT-4,417,276,693,API log\n";
	static const char new[] = "Timestamp,Session ID,Elapsed time,Model,"
				  "Request tokens,Response tokens,Total "
				  "tokens,Log Type\r\n"
				  "7.5,1,0.5,ChatGPT,10,20,30,API log\r\n"
				  "7.25,2,0.5,ChatGPT,30,40,70,API log\r\n\r\n";
	struct serve_trace trace;

	CU_ASSERT_EQUAL(read_trace(old, SIZE_MAX, &trace, NULL), 0);
	CU_ASSERT_EQUAL(trace.count, 2);
	CU_ASSERT_EQUAL(trace.failed_count, 1);
	CU_ASSERT_EQUAL(trace.rows[0].at_s, 0);
	CU_ASSERT_EQUAL(trace.rows[1].at_s, 113);
	CU_ASSERT_EQUAL(trace.rows[1].input_tokens, 417);
	CU_ASSERT_EQUAL(trace.rows[1].output_tokens, 276);
	serve_trace_release(&trace);
	CU_ASSERT_EQUAL(read_trace(new, SIZE_MAX, &trace, NULL), 0);
	CU_ASSERT_EQUAL(trace.count, 2);
	CU_ASSERT_EQUAL(trace.rows[0].input_tokens, 30);
	CU_ASSERT_EQUAL(trace.rows[1].at_s, 0.25);
	serve_trace_release(&trace);
	CU_ASSERT_EQUAL(read_trace(old, 1, &trace, NULL), 0);
	CU_ASSERT_EQUAL(trace.count, 1);
	serve_trace_release(&trace);
}

static void test_trace__mooncake_keeps_blocks(void)
{
	static const char text[] =
		"{\"timestamp\": 1000, \"input_length\": 600, "
		"\"output_length\": 52, \"hash_ids\": [46, 47]}\n"
		"{\"timestamp\": 1500, \"input_length\": 500, "
		"\"output_length\": 1, \"hash_ids\": [46]}\n"
		"{\"timestamp\": 1500, \"input_length\": 7, "
		"\"output_length\": 2}\n";
	struct serve_trace trace;

	CU_ASSERT_EQUAL(read_trace(text, SIZE_MAX, &trace, NULL), 0);
	CU_ASSERT_EQUAL(trace.count, 3);
	CU_ASSERT_EQUAL(trace.rows[1].at_s, 0.5);
	CU_ASSERT_EQUAL(trace.rows[1].input_tokens, 500);
	CU_ASSERT_EQUAL(trace.rows[2].input_tokens, 7);
	CU_ASSERT_EQUAL(trace.rows[0].hash_count, 2);
	CU_ASSERT_EQUAL(trace.hashes[trace.rows[1].hash_offset], 46);
	serve_trace_release(&trace);
}

static void test_trace__bad_lines_are_named(void)
{
#define CSV "Timestamp,Request tokens,Response tokens\n"
#define MOON "{\"timestamp\":1,\"input_length\":1,\"output_length\":1"
	static const struct {
		const char *text, *said;
	} cases[] = {{"Time,Model\n", "t:1: no column \"Timestamp\""},
		{"Timestamp,Request tokens\n1,2\n", "Response tokens"},
		{CSV "1,2,3\n1,x,3\n", "t:3: column 2"},
		{CSV "1,2\n", "t:2: too few"},
		{CSV "-1,2,3\n", "t:2: column 1"},
		{CSV "1,2,1e300\n", "t:2: column 3"},
		{CSV "1,2,3 4\n", "t:2: column 3"},
		{MOON "}\n{broken\n", "t:2:"},
		{MOON "}\n[1]\n", "t:2: not an object"},
		{"{\"timestamp\":\"1\"}\n", "t:1: timestamp"},
		{"{\"timestamp\":1,\"input_length\":0}\n", "input_length"},
		{"{\"timestamp\":1,\"input_length\":5}\n", "output_length"},
		{MOON ",\"hash_ids\":3}\n", "t:1: hash_ids: not a list"},
		{MOON ",\"hash_ids\":[\"a\"]}\n", "t:1: hash_ids: not an int"},
		{CSV, "t: no row"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct serve_trace trace;
		struct error err = {0};

		CU_ASSERT(
			read_trace(cases[i].text, SIZE_MAX, &trace, &err) < 0);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, cases[i].said));
		CU_ASSERT_PTR_NULL(trace.rows);
	}
}

/* --- prompts --------------------------------------------------------------- */

static const char *random_prompt(struct serve_source *source, uint64_t index,
	const struct serve_trace_row *row, struct serve_bytes *out)
{
	out->length = 0;
	CU_ASSERT_EQUAL(
		serve_source_random(source, 9, index, 1024, row, out), 0);
	CU_ASSERT_EQUAL(serve_bytes_add(out, "", 1, SIZE_MAX / 4), 0);
	return out->data;
}

/* Where the text of the 512th id begins. */
static size_t half_of(const char *text)
{
	size_t at = 0;

	for (int commas = 0; commas < SERVE_TRACE_BLOCK_TOKENS; at++)
		commas += text[at] == ',';
	return at;
}

static void test_source__equal_blocks_are_equal_tokens(void)
{
	uint64_t hashes[] = {5, 6, 5, 7};
	struct serve_source source = {.vocab = 1000};
	const struct serve_trace_row rows[] = {
		{.hash_offset = 0, .hash_count = 2},
		{.hash_offset = 2, .hash_count = 2}};
	struct serve_bytes a = {0}, b = {0};
	const char *first, *second;
	size_t half;

	source.trace.hashes = hashes;
	first = random_prompt(&source, 0, &rows[0], &a);
	second = random_prompt(&source, 1, &rows[1], &b);
	half = half_of(first);
	CU_ASSERT_EQUAL(strncmp(first, second, half), 0);
	CU_ASSERT_NOT_EQUAL(strcmp(first + half, second + half), 0);
	second = random_prompt(&source, 0, &rows[0], &b);
	CU_ASSERT_STRING_EQUAL(first, second);
	second = random_prompt(&source, 0, NULL, &b);
	CU_ASSERT_NOT_EQUAL(strncmp(first, second, half), 0);
	serve_bytes_release(&a);
	serve_bytes_release(&b);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(arrivals__moments_are_those_of_the_law),
		SUITE_CASE(arrivals__ascend_and_repeat_from_the_seed),
		SUITE_CASE(models__shares_follow_weights),
		SUITE_CASE(models__shares_follow_the_power_law),
		SUITE_CASE(models__shares_follow_zipf),
		SUITE_CASE(percentile__is_linear_between_ranks),
		SUITE_CASE(figures__ticks_agree_with_seconds),
		SUITE_CASE(figures__deviation_is_of_the_population),
		SUITE_CASE(ticks__round_and_saturate),
		SUITE_CASE(live__percentile_is_within_a_bucket),
		SUITE_CASE(summary__figures_of_a_known_run),
		SUITE_CASE(summary__failures_and_cut_off_count_apart),
		SUITE_CASE(goodput__counts_what_meets_every_limit),
		SUITE_CASE(goodput_parse__refuses_what_it_does_not_know),
		SUITE_CASE(trace__burstgpt_in_both_forms),
		SUITE_CASE(trace__mooncake_keeps_blocks),
		SUITE_CASE(trace__bad_lines_are_named),
		SUITE_CASE(source__equal_blocks_are_equal_tokens),
	};

	return SUITE_MAIN("bench_load", cases);
}
