/* test_bench_frontend.c - the front end's benchmark, without a front end */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/frontend_bare.h"
#include "bench/frontend_load.h"
#include "bench/frontend_metrics.h"
#include "bench/node.h"
#include "tests/suite.h"

#define HEAD                                                                   \
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"               \
	"Transfer-Encoding: chunked\r\n\r\n"

/* --- the recording --------------------------------------------------------- */

static void add_event(struct serve_bytes *out, const char *data)
{
	char text[512];
	int length = snprintf(text, sizeof(text), "%zx\r\ndata: %s\n\n\r\n",
		strlen(data) + 8, data);

	CU_ASSERT_EQUAL(
		serve_bytes_add(out, text, (size_t)length, SIZE_MAX / 4), 0);
}

/* A whole stream of `tokens` tokens, as a server would send it. */
static void make_recording(struct serve_bytes *out, uint32_t tokens)
{
	static const char identity[] =
		"{\"id\":\"c\",\"object\":\"text_completion\",\"created\":1,"
		"\"model\":\"bench\",\"choices\":";
	char text[400];

	CU_ASSERT_EQUAL(
		serve_bytes_add(out, HEAD, strlen(HEAD), SIZE_MAX / 4), 0);
	for (uint32_t i = 0; i < tokens; i++) {
		snprintf(text, sizeof(text),
			"%s[{\"index\":0,\"text\":\"t%u\",\"finish_reason\":%s}"
			"]}",
			identity, i, i + 1 == tokens ? "\"length\"" : "null");
		add_event(out, text);
	}
	snprintf(text, sizeof(text),
		"%s[],\"usage\":{\"prompt_tokens\":16,\"completion_tokens\":%u,"
		"\"total_tokens\":%u}}",
		identity, tokens, tokens + 16);
	add_event(out, text);
	add_event(out, "[DONE]");
	CU_ASSERT_EQUAL(serve_bytes_add(out, "0\r\n\r\n", 5, SIZE_MAX / 4), 0);
}

static void test_bare_cut__one_piece_for_each_event(void)
{
	struct serve_bytes recording = {0};
	size_t ends[64], count, start = 0;

	make_recording(&recording, 5);
	count = frontend_bare_cut(recording.data, recording.length, ends, 64);
	/* Five tokens, usage, [DONE] with the end of the chunks. */
	CU_ASSERT_EQUAL(count, 7);
	CU_ASSERT_EQUAL(ends[count - 1], recording.length);
	for (size_t i = 0; i < count; i++) {
		const char *piece = recording.data + start;

		CU_ASSERT_PTR_NOT_NULL(
			memmem(piece, ends[i] - start, "data: ", 6));
		CU_ASSERT(ends[i] > start);
		start = ends[i];
	}
	/* With too little room the last piece holds the rest. */
	CU_ASSERT_EQUAL(
		frontend_bare_cut(recording.data, recording.length, ends, 3),
		3);
	CU_ASSERT_EQUAL(ends[2], recording.length);
	serve_bytes_release(&recording);
}

static void run_bare(uint32_t streams, uint32_t tokens, const uint64_t *hashes,
	struct frontend_outcome *out)
{
	struct serve_bytes recording = {0};
	struct frontend_bare bare;
	struct frontend_load load = {.stream_count = streams,
		.token_count = tokens,
		.rate = 1e6,
		.hashes = hashes,
		.thread_count = 1,
		.signal_fd = -1};
	struct error err = {0};
	double cpu_s = -1;

	make_recording(&recording, tokens);
	CU_ASSERT_EQUAL_FATAL(
		frontend_bare_start(&recording, streams, &bare, &err), 0);
	load.target = &bare.target;
	CU_ASSERT_EQUAL_FATAL(frontend_load_run(&load, out, &err), 0);
	CU_ASSERT_EQUAL(frontend_bare_end(&bare, &cpu_s, &err), 0);
	CU_ASSERT(cpu_s >= 0);
	CU_ASSERT_EQUAL(bare.event_count, tokens + 2);
	serve_bytes_release(&recording);
}

static void test_bare__every_stream_gets_the_recording(void)
{
	struct frontend_outcome outcome;

	run_bare(40, 300, NULL, &outcome);
	CU_ASSERT_EQUAL(outcome.completed, 40);
	CU_ASSERT_EQUAL(outcome.failed, 0);
	CU_ASSERT_EQUAL(outcome.event_count, 12000);
	CU_ASSERT_EQUAL(outcome.peak_in_flight, 40);
}

static void test_load__another_text_is_found(void)
{
	uint64_t hashes[FRONTEND_SEED_COUNT];
	struct frontend_outcome outcome;
	uint64_t right = serve_text_hash(SERVE_TEXT_HASH_START, "t0t1t2", 6);

	for (int i = 0; i < FRONTEND_SEED_COUNT; i++)
		hashes[i] = right + (i == 3);
	run_bare(FRONTEND_SEED_COUNT, 3, hashes, &outcome);
	CU_ASSERT_EQUAL(outcome.completed, FRONTEND_SEED_COUNT - 1);
	CU_ASSERT_EQUAL(outcome.failed, 1);
	CU_ASSERT_EQUAL(outcome.faults.counts[SERVE_FAULT_TEXT], 1);
}

/* --- metrics --------------------------------------------------------------- */

static const char before_page[] =
	"# TYPE d_seconds histogram\n"
	"d_seconds_bucket{engine=\"0\",le=\"0.001\"} 10\n"
	"d_seconds_bucket{engine=\"0\",le=\"0.01\"} 10\n"
	"d_seconds_bucket{engine=\"0\",le=\"+Inf\"} 10\n"
	"d_seconds_count{engine=\"0\"} 10\n"
	"other_bucket{le=\"0.001\"} 7\n";
static const char after_page[] =
	"d_seconds_bucket{engine=\"0\",le=\"0.001\"} 60\n"
	"d_seconds_bucket{engine=\"0\",le=\"0.01\"} 100\n"
	"d_seconds_bucket{engine=\"0\",le=\"+Inf\"} 100\n"
	"d_seconds_bucket{engine=\"1\",le=\"0.001\"} 0\n"
	"d_seconds_bucket{engine=\"1\",le=\"0.01\"} 10\n"
	"d_seconds_bucket{engine=\"1\",le=\"+Inf\"} 10\n";

static void test_histogram__percentiles_of_what_came_between(void)
{
	struct frontend_histogram before, after;

	CU_ASSERT_EQUAL(
		frontend_histogram_parse(before_page, "d_seconds", &before), 0);
	CU_ASSERT_EQUAL(
		frontend_histogram_parse(after_page, "d_seconds", &after), 0);
	CU_ASSERT_EQUAL(after.count, 3);
	CU_ASSERT_EQUAL(after.sums[1], 110);
	/* 100 came: 50 below 1 ms, 50 from 1 to 10 ms. */
	CU_ASSERT(fabs(frontend_histogram_percentile(&before, &after, 25) -
			  0.0005) < 1e-12);
	CU_ASSERT(fabs(frontend_histogram_percentile(&before, &after, 50) -
			  0.001) < 1e-12);
	CU_ASSERT(fabs(frontend_histogram_percentile(&before, &after, 99) -
			  0.00982) < 1e-12);
	CU_ASSERT_EQUAL(frontend_histogram_percentile(&after, &after, 99), 0);
	CU_ASSERT_EQUAL(
		frontend_histogram_parse(after_page, "e_seconds", &after),
		-ENODATA);
}

/* --- processes ------------------------------------------------------------- */

static void test_node__reads_proc(void)
{
	double before = bench_cpu_s(getpid());

	CU_ASSERT(before > 0);
	CU_ASSERT(bench_cpu_s(getpid()) > before);
	CU_ASSERT(bench_memory_bytes(getpid()) > 100000);
	/* No process has the number -1. */
	CU_ASSERT_EQUAL(bench_cpu_s(-1), 0);
	CU_ASSERT_EQUAL(bench_memory_bytes(-1), 0);
}

static void test_node__says_why_it_did_not_start(void)
{
	const char *const none[] = {NULL};
	const struct bench_node_setup setup = {"/bin/false", "none", none};
	struct bench_node node;
	struct error err = {0};

	CU_ASSERT_EQUAL(bench_node_start(&setup, &node, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "heddled ended"));
	CU_ASSERT_EQUAL(node.pid, 0);
	bench_node_stop(&node);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(bare_cut__one_piece_for_each_event),
		SUITE_CASE(bare__every_stream_gets_the_recording),
		SUITE_CASE(load__another_text_is_found),
		SUITE_CASE(histogram__percentiles_of_what_came_between),
		SUITE_CASE(node__reads_proc),
		SUITE_CASE(node__says_why_it_did_not_start),
	};

	return SUITE_MAIN("bench_frontend", cases);
}
