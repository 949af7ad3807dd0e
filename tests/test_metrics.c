/* test_metrics.c - the page of numbers, line by line */
/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/front_private.h"
#include "tests/suite.h"

static struct segment segment;
static int segment_fd;
static const struct front_model model = {.name = {"a\"b\\c"}, .name_count = 1};

static void open_segment(void)
{
	const struct segment_shape shape = {4, 4, 16, 2, 1};
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(
		segment_create(&shape, &segment, &segment_fd, &err), 0);
}

static void close_segment(void)
{
	segment_detach(&segment);
	close(segment_fd);
}

static char *page_text(void)
{
	struct api_text out = {0};

	metrics_write(&model, &segment, &out);
	api_text_put(&out, "", 1);
	CU_ASSERT_FALSE_FATAL(out.failed);
	return out.data;
}

static bool name_ok(const char *name, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_' &&
			name[i] != ':')
			return false;
	return length > 0;
}

/* NAME{labels} VALUE, by the text format 0.0.4. */
static bool sample_ok(const char *line, size_t length)
{
	const char *brace = memchr(line, '{', length);
	const char *end;
	char *rest;

	if (!brace || !name_ok(line, (size_t)(brace - line)))
		return false;
	for (end = brace + 1; *end != '}'; end++) {
		if (*end != '"')
			continue;
		for (end++; *end != '"'; end++)
			end += *end == '\\';
	}
	if (end[1] != ' ')
		return false;
	(void)strtod(end + 2, &rest);
	return rest == line + length;
}

static void test_metrics_write__every_line_is_of_the_format(void)
{
	const char *at;
	uint32_t count = 0;
	char *text;

	open_segment();
	text = page_text();
	for (at = text; *at;) {
		size_t length = strcspn(at, "\n");
		bool good = strncmp(at, "# HELP ", 7) == 0 ||
			    strncmp(at, "# TYPE ", 7) == 0 ||
			    sample_ok(at, length);

		if (!good)
			printf("\n%.*s\n", (int)length, at);
		CU_ASSERT(good);
		CU_ASSERT_EQUAL_FATAL(at[length], '\n');
		at += length + 1;
		count++;
	}
	CU_ASSERT(count > 100);
	free(text);
	close_segment();
}

static void test_metrics_write__counters_and_histograms(void)
{
	struct front_counters *front;
	char *text;

	open_segment();
	front = segment_front_counters(&segment);
	front->names[0].output_tokens_total = 41;
	front->finished_total[FINISH_STOP_TOKEN] = 2;
	front->finished_total[FINISH_STOP_TEXT] = 3;
	histogram_add(&front->inter_token, 400 * NS_PER_US);
	histogram_add(&front->inter_token, 4 * NS_PER_MS);
	tally_add(&front->prompt_tokens, 1);
	tally_add(&front->prompt_tokens, 700);
	tally_add(&front->output_tokens, 2000000);
	segment_engine_counters(&segment, 1)->running = 9;
	text = page_text();
#define LABELS(rank) "{model_name=\"a\\\"b\\\\c\",engine=\"" rank "\""
#define HAS(line) CU_ASSERT_PTR_NOT_NULL(strstr(text, line "\n"))
	HAS("# TYPE vllm:generation_tokens_total counter");
	HAS("vllm:generation_tokens_total" LABELS("0") "} 41");
	HAS("vllm:num_requests_running" LABELS("0") "} 0");
	HAS("vllm:num_requests_running" LABELS("1") "} 9");
	HAS("vllm:request_success_total" LABELS(
		"0") ",finished_reason=\"stop\"} 5");
	HAS("vllm:inter_token_latency_seconds_bucket" LABELS(
		"0") ",le=\"0.0002\"} 0");
	HAS("vllm:inter_token_latency_seconds_bucket" LABELS(
		"0") ",le=\"0.0005\"} 1");
	HAS("vllm:inter_token_latency_seconds_bucket" LABELS(
		"0") ",le=\"0.005\"} 2");
	HAS("vllm:inter_token_latency_seconds_bucket" LABELS(
		"0") ",le=\"+Inf\"} 2");
	HAS("vllm:inter_token_latency_seconds_sum" LABELS("0") "} 0.0044");
	HAS("vllm:inter_token_latency_seconds_count" LABELS("0") "} 2");
	HAS("# TYPE vllm:request_prompt_tokens histogram");
	HAS("vllm:request_prompt_tokens_bucket" LABELS("0") ",le=\"1\"} 1");
	HAS("vllm:request_prompt_tokens_bucket" LABELS("0") ",le=\"500\"} 1");
	HAS("vllm:request_prompt_tokens_bucket" LABELS("0") ",le=\"1000\"} 2");
	HAS("vllm:request_prompt_tokens_bucket" LABELS("0") ",le=\"+Inf\"} 2");
	HAS("vllm:request_prompt_tokens_sum" LABELS("0") "} 701");
	HAS("vllm:request_prompt_tokens_count" LABELS("0") "} 2");
	HAS("vllm:request_generation_tokens_bucket" LABELS(
		"0") ",le=\"1000000\"} 0");
	HAS("vllm:request_generation_tokens_bucket" LABELS(
		"0") ",le=\"+Inf\"} 1");
	HAS("vllm:request_generation_tokens_sum" LABELS("0") "} 2000000");
	HAS("vllm:request_params_n_count" LABELS("0") "} 0");
	HAS("vllm:request_params_max_tokens_count" LABELS("0") "} 0");
	HAS("vllm:kv_cache_usage_perc" LABELS("0") "} 0");
	free(text);
	close_segment();
}

static void test_metrics_write__a_polled_port(void)
{
	struct poll_counters *poll;
	struct nic_counters *nic;
	char *text;

	open_segment();
	nic = &segment_front_counters(&segment)->nic;
	poll = &segment_front_counters(&segment)->poll;
	text = page_text();
	CU_ASSERT_PTR_NULL(strstr(text, "heddle_nic_"));
	/* The loop over sockets is measured as well. */
	HAS("heddle_poll_turns_total" LABELS("0") "} 0");
	free(text);
	nic->port_count = 1;
	nic->in_frames_total = 70;
	nic->in_lost_tcp_total = 6;
	nic->out_lost_neighbor_total = 5;
	poll->turns_total = 8;
	poll->busy_turns_total = 3;
	poll->empty_turns_total = 5;
	poll->bursts_total = 2;
	poll->stage_ns_total[POLL_STACK] = 250 * NS_PER_MS;
	poll->cpu_ns_total = 1500 * NS_PER_MS;
	poll->idle_ns_total = 10 * NS_PER_S;
	poll->idle_cpu_ns_total = 100 * NS_PER_MS;
	histogram_add(&poll->sleep, 400 * NS_PER_US);
	histogram_add(&poll->wake, 15 * NS_PER_US);
	text = page_text();
	HAS("# TYPE heddle_nic_in_frames_total counter");
	HAS("heddle_nic_in_frames_total" LABELS("0") "} 70");
	HAS("heddle_nic_lost_total" LABELS("0") ",where=\"in_tcp\"} 6");
	HAS("heddle_nic_lost_total" LABELS("0") ",where=\"out_neighbor\"} 5");
	HAS("heddle_nic_lost_total" LABELS("0") ",where=\"in_port\"} 0");
	HAS("heddle_poll_turns_total" LABELS("0") "} 8");
	HAS("heddle_poll_busy_turns_total" LABELS("0") "} 3");
	HAS("heddle_poll_empty_turns_total" LABELS("0") "} 5");
	HAS("heddle_poll_bursts_total" LABELS("0") "} 2");
	HAS("heddle_poll_stage_seconds_total" LABELS(
		"0") ",stage=\"stack\"} 0.25");
	HAS("heddle_poll_stage_seconds_total" LABELS("0") ",stage=\"rx\"} 0");
	HAS("# TYPE heddle_poll_cpu_seconds_total counter");
	HAS("heddle_poll_cpu_seconds_total" LABELS("0") "} 1.5");
	HAS("heddle_poll_idle_seconds_total" LABELS("0") "} 10");
	HAS("heddle_poll_idle_cpu_seconds_total" LABELS("0") "} 0.1");
	HAS("heddle_poll_sleep_seconds_count" LABELS("0") "} 1");
	HAS("heddle_poll_wake_seconds_bucket" LABELS("0") ",le=\"1e-05\"} 0");
	HAS("heddle_poll_wake_seconds_bucket" LABELS("0") ",le=\"2e-05\"} 1");
	for (const char *at = text; *at; at = strchr(at, '\n') + 1)
		CU_ASSERT(at[0] == '#' || sample_ok(at, strcspn(at, "\n")));
	free(text);
	close_segment();
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(metrics_write__every_line_is_of_the_format),
		SUITE_CASE(metrics_write__counters_and_histograms),
		SUITE_CASE(metrics_write__a_polled_port),
	};

	return SUITE_MAIN("metrics", cases);
}
