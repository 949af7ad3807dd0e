/* test_bench_serve.c - the load generator's client: answers good and bad */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/serve.h"
#include "bench/serve_compose.h"
#include "bench/serve_json.h"
#include "bench/serve_run.h"
#include "bench/serve_summary.h"
#include "tests/bench_server.h"
#include "tests/suite.h"

#define ANSWER_BYTES 8192

/* --- answers to build on --------------------------------------------------- */

#define HEAD                                                                   \
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"               \
	"Transfer-Encoding: chunked\r\n\r\n"
#define IDENTITY                                                               \
	"\"id\":\"c-1\",\"created\":7,\"model\":\"m\","                        \
	"\"object\":\"text_completion\""
#define CHUNK(text, finish)                                                    \
	"data: {" IDENTITY ",\"choices\":[{\"index\":0,\"text\":\"" text       \
	"\",\"logprobs\":null,\"finish_reason\":" finish                       \
	"}],\"usage\":null}\n\n"
#define USAGE(counts)                                                          \
	"data: {" IDENTITY ",\"choices\":[],\"usage\":{" counts "}}\n\n"
#define GOOD_USAGE                                                             \
	USAGE("\"prompt_tokens\":3,\"completion_tokens\":3,"                   \
	      "\"total_tokens\":6")
#define DONE "data: [DONE]\n\n"
#define THREE CHUNK("a", "null") CHUNK("\\u00e9\\n", "null") CHUNK("c", "null")
#define FINISH CHUNK("", "\"length\"")
#define GOOD THREE FINISH GOOD_USAGE DONE

/* Events as chunks of HTTP, one a frame; the pieces are those of `events`. */
static size_t frame(const char *head, const char *events, char *out)
{
	size_t at = (size_t)sprintf(out, "%s", head);

	while (*events) {
		const char *end = strstr(events, "\n\n");
		size_t length =
			end ? (size_t)(end - events) + 2 : strlen(events);

		at += (size_t)sprintf(out + at, "%zx\r\n%.*s\r\n", length,
			(int)length, events);
		events += length;
	}
	at += (size_t)sprintf(out + at, "0\r\n\r\n");
	CU_ASSERT_FATAL(at < ANSWER_BYTES);
	return at;
}

static const struct serve_expect plain = {.stream = true,
	.include_usage = true,
	.exact_chunks = true,
	.ignore_eos = true,
	.keep_text = true,
	.output_tokens = 3};

/* Feed in pieces that end at `cuts`; the state after the last byte. */
static enum serve_reply_state feed(
	struct serve_reply *reply, const char *data, size_t length, size_t cut)
{
	static uint32_t gaps[16];
	enum serve_reply_state state;
	size_t taken;

	serve_reply_start(reply, &plain, gaps, 16);
	state = serve_reply_feed(reply, data, cut, 100, &taken);
	if (state != SERVE_REPLY_MORE)
		return state;
	CU_ASSERT_EQUAL(taken, cut);
	return serve_reply_feed(reply, data + cut, length - cut, 200, &taken);
}

static bool same_verdict(
	const struct serve_reply *a, const struct serve_reply *b)
{
	const struct serve_verdict *x = &a->verdict;
	const struct serve_verdict *y = &b->verdict;

	return x->fault == y->fault && x->finish == y->finish &&
	       x->chunk_count == y->chunk_count &&
	       x->text_hash == y->text_hash && x->status == y->status &&
	       x->completion_tokens == y->completion_tokens;
}

/* --- the parser ------------------------------------------------------------ */

static void test_reply__good_at_every_split(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, ": ping\n\n" GOOD, answer);
	struct serve_reply reply = {0};

	for (size_t cut = 0; cut <= length; cut++) {
		/* Bytes of its own, so that a sanitizer sees the end. */
		char *copy = suite_calloc(length, 1);

		memcpy(copy, answer, length);
		CU_ASSERT_EQUAL(
			feed(&reply, copy, length, cut), SERVE_REPLY_DONE);
		free(copy);
		CU_ASSERT_EQUAL(reply.verdict.fault, SERVE_FAULT_NONE);
		CU_ASSERT_EQUAL(reply.verdict.status, 200);
		CU_ASSERT_EQUAL(reply.verdict.chunk_count, 3);
		CU_ASSERT_EQUAL(reply.verdict.completion_tokens, 3);
		CU_ASSERT_EQUAL(reply.verdict.prompt_tokens, 3);
		CU_ASSERT_EQUAL(reply.verdict.finish, SERVE_FINISH_LENGTH);
		CU_ASSERT_EQUAL(reply.text.length, 5);
		CU_ASSERT_EQUAL(memcmp(reply.text.data, "a\xc3\xa9\nc", 5), 0);
		CU_ASSERT_EQUAL(reply.verdict.text_hash,
			serve_text_hash(
				SERVE_TEXT_HASH_START, "a\xc3\xa9\nc", 5));
	}
	serve_reply_release(&reply);
}

static void test_reply__times_are_those_of_the_pieces(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	const char *second = strstr(answer, "\\u00e9");
	struct serve_reply reply = {0};

	CU_ASSERT_EQUAL(feed(&reply, answer, length, (size_t)(second - answer)),
		SERVE_REPLY_DONE);
	CU_ASSERT_EQUAL(reply.verdict.first_ns, 100);
	CU_ASSERT_EQUAL(reply.verdict.last_ns, 200);
	CU_ASSERT_EQUAL(reply.gaps[0], 1);
	CU_ASSERT_EQUAL(reply.gaps[1], 0);
	serve_reply_release(&reply);
}

struct bad_stream {
	enum serve_fault fault;
	const char *head, *events; /* HEAD where NULL */
};

static const struct bad_stream bad_streams[] = {
	{SERVE_FAULT_SSE, NULL, THREE FINISH GOOD_USAGE "what is this\n\n"},
	{SERVE_FAULT_SSE, NULL, THREE FINISH GOOD_USAGE DONE "data: half"},
	{SERVE_FAULT_JSON, NULL, CHUNK("a", "null") "data: {\"a\":}\n\n"},
	{SERVE_FAULT_JSON, NULL, "data: {\"id\":\"x\"} {}\n\n"},
	{SERVE_FAULT_JSON, NULL, CHUNK("\xff", "null")},
	{SERVE_FAULT_JSON, NULL, CHUNK("\\ud800", "null")},
	{SERVE_FAULT_SHAPE, NULL, "data: {\"id\":\"c-1\"}\n\n"},
	{SERVE_FAULT_SHAPE, NULL,
		"data: {\"id\":\"c-1\",\"created\":7,\"model\":\"m\","
		"\"object\":\"chat.completion.chunk\",\"choices\":[]}\n\n"},
	{SERVE_FAULT_SHAPE, NULL, "data: {" IDENTITY ",\"choices\":[]}\n\n"},
	{SERVE_FAULT_SHAPE, NULL, CHUNK("a", "5")},
	{SERVE_FAULT_STREAM_ERROR, NULL,
		CHUNK("a", "null") "data: {\"error\":{\"message\":\"x\"}}\n\n"},
	{SERVE_FAULT_ID, NULL,
		CHUNK("a", "null") "data: {\"id\":\"c-2\",\"created\":7,"
				   "\"model\":\"m\",\"object\":"
				   "\"text_completion\",\"choices\":[]}\n\n"},
	{SERVE_FAULT_MODEL, NULL,
		CHUNK("a", "null") "data: {\"id\":\"c-1\",\"created\":7,"
				   "\"model\":\"n\",\"object\":"
				   "\"text_completion\",\"choices\":[]}\n\n"},
	{SERVE_FAULT_CREATED, NULL,
		CHUNK("a", "null") "data: {\"id\":\"c-1\",\"created\":8,"
				   "\"model\":\"m\",\"object\":"
				   "\"text_completion\",\"choices\":[]}\n\n"},
	{SERVE_FAULT_AFTER_FINISH, NULL, FINISH CHUNK("a", "null")},
	{SERVE_FAULT_FINISH_MISSING, NULL, THREE GOOD_USAGE DONE},
	{SERVE_FAULT_FINISH_REPEATED, NULL, THREE FINISH FINISH},
	{SERVE_FAULT_DONE_MISSING, NULL, THREE FINISH GOOD_USAGE},
	{SERVE_FAULT_AFTER_DONE, NULL, GOOD DONE},
	{SERVE_FAULT_USAGE_MISSING, NULL, THREE FINISH DONE},
	{SERVE_FAULT_USAGE_REPEATED, NULL, THREE FINISH GOOD_USAGE GOOD_USAGE},
	{SERVE_FAULT_USAGE_MISMATCH, NULL,
		THREE FINISH USAGE("\"prompt_tokens\":3,\"completion_tokens\":"
				   "3,\"total_tokens\":7") DONE},
	{SERVE_FAULT_USAGE_MISMATCH, NULL,
		THREE FINISH USAGE("\"prompt_tokens\":3,\"completion_tokens\":"
				   "4,\"total_tokens\":7") DONE},
	{SERVE_FAULT_LENGTH, NULL,
		CHUNK("a", "null") CHUNK("b", "null") FINISH USAGE(
			"\"prompt_tokens\":3,\"completion_tokens\":2,"
			"\"total_tokens\":5") DONE},
	{SERVE_FAULT_LENGTH, NULL,
		CHUNK("d", "null") THREE FINISH USAGE(
			"\"prompt_tokens\":3,\"completion_tokens\":4,"
			"\"total_tokens\":7") DONE},
	{SERVE_FAULT_TYPE,
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
		"Transfer-Encoding: chunked\r\n\r\n",
		GOOD},
	{SERVE_FAULT_STATUS,
		"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n",
		"{\"error\":{}}"},
	{SERVE_FAULT_HTTP, "HTTP/2 200\r\n\r\n", ""},
	{SERVE_FAULT_HTTP, "HTTP/1.1 20 OK\r\n\r\n", ""},
	{SERVE_FAULT_HTTP, "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", ""},
	{SERVE_FAULT_HTTP, "HTTP/1.1 200 OK\nA: b\n\n", ""},
	{SERVE_FAULT_HTTP, HEAD "zz\r\n", ""},
	{SERVE_FAULT_HTTP, HEAD "2\r\nabc\r\n", ""},
	{SERVE_FAULT_HTTP,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
		"Transfer-Encoding: chunked\r\n\r\n",
		""},
	{SERVE_FAULT_HTTP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		""},
	{SERVE_FAULT_HTTP,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: "
		"2\r\n\r\n",
		""},
};

#define BAD_COUNT (sizeof(bad_streams) / sizeof(bad_streams[0]))

static size_t bad_answer(const struct bad_stream *bad, char *out)
{
	return frame(bad->head ? bad->head : HEAD, bad->events, out);
}

static void test_reply__every_fault_at_every_split(void)
{
	struct serve_reply first = {0}, reply = {0};

	for (size_t i = 0; i < BAD_COUNT; i++) {
		char answer[ANSWER_BYTES];
		size_t length = bad_answer(&bad_streams[i], answer);

		feed(&first, answer, length, length);
		CU_ASSERT_EQUAL(first.verdict.fault, bad_streams[i].fault);
		if (first.verdict.fault != bad_streams[i].fault)
			printf("stream %zu: %s, not %s\n", i,
				serve_fault_name(first.verdict.fault),
				serve_fault_name(bad_streams[i].fault));
		for (size_t cut = 0; cut < length; cut++) {
			feed(&reply, answer, length, cut);
			if (!same_verdict(&first, &reply))
				CU_FAIL("the verdict depends on the split");
		}
	}
	serve_reply_release(&first);
	serve_reply_release(&reply);
}

static void test_reply__an_end_inside_is_found_everywhere(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer), taken;
	struct serve_reply reply = {0};

	for (size_t cut = 0; cut < length; cut++) {
		serve_reply_start(&reply, &plain, NULL, 0);
		CU_ASSERT_EQUAL(
			serve_reply_feed(&reply, answer, cut, 1, &taken),
			SERVE_REPLY_MORE);
		CU_ASSERT_EQUAL(serve_reply_eof(&reply), SERVE_REPLY_BROKEN);
		CU_ASSERT_EQUAL(reply.verdict.fault, SERVE_FAULT_CLOSED);
	}
	serve_reply_release(&reply);
}

static void test_reply__chat_wants_the_role_first(void)
{
#define CHAT                                                                   \
	"\"id\":\"c\",\"created\":7,\"model\":\"m\",\"object\":"               \
	"\"chat.completion.chunk\",\"choices\":[{\"index\":0,"
#define ROLE                                                                   \
	"data: {" CHAT "\"delta\":{\"role\":\"assistant\",\"content\":"        \
	"\"\"},\"finish_reason\":null}]}\n\n"
#define SAID "data: {" CHAT "\"delta\":{\"content\":\"x\"}}]}\n\n"
#define OVER "data: {" CHAT "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	static const struct {
		const char *events;
		enum serve_fault fault;
	} cases[] = {{ROLE SAID OVER DONE, SERVE_FAULT_NONE},
		{SAID OVER DONE, SERVE_FAULT_ROLE},
		{SAID ROLE OVER DONE, SERVE_FAULT_ROLE},
		{ROLE ROLE OVER DONE, SERVE_FAULT_ROLE}};
	const struct serve_expect expect = {.chat = true, .stream = true};
	struct serve_reply reply = {0};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char answer[ANSWER_BYTES];
		size_t length = frame(HEAD, cases[i].events, answer), taken;

		serve_reply_start(&reply, &expect, NULL, 0);
		CU_ASSERT_EQUAL(
			serve_reply_feed(&reply, answer, length, 1, &taken),
			SERVE_REPLY_DONE);
		CU_ASSERT_EQUAL(reply.verdict.fault, cases[i].fault);
	}
	serve_reply_release(&reply);
}

static void test_reply__whole_answers_without_events(void)
{
	static const char body[] =
		"{" IDENTITY ",\"choices\":[{\"index\":0,\"text\":\"abc\","
		"\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":"
		"1,\"completion_tokens\":3,\"total_tokens\":4}}";
	struct serve_expect expect = plain;
	struct serve_reply reply = {0};
	char answer[ANSWER_BYTES];
	size_t taken, length;

	expect.stream = false;
	length = (size_t)sprintf(answer,
		"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
		"content-length: %zu\r\n\r\n%s",
		strlen(body), body);
	for (size_t cut = 0; cut < length; cut++) {
		serve_reply_start(&reply, &expect, NULL, 0);
		CU_ASSERT_EQUAL(
			serve_reply_feed(&reply, answer, cut, 1, &taken),
			SERVE_REPLY_MORE);
		CU_ASSERT_EQUAL(serve_reply_feed(&reply, answer + cut,
					length - cut, 2, &taken),
			SERVE_REPLY_DONE);
		CU_ASSERT_EQUAL(reply.verdict.fault, SERVE_FAULT_NONE);
		CU_ASSERT_EQUAL(reply.verdict.text_bytes, 3);
	}
	serve_reply_release(&reply);
}

static void test_json__strict(void)
{
	static const char *const good[] = {"{}", "[]", "{\"a\":[1,-2.5e+3]}",
		" {\"a\" : \"\\ud83d\\ude00\xf0\x9f\x98\x80\"} ", "[[],{}]"};
	static const char *const bad[] = {"", "{", "{}}", "{\"a\"}", "{a:1}",
		"[1,]", "[,1]", "{\"a\":1,}", "[01]", "[1.]", "[.5]", "[1e]",
		"[\"\n\"]", "[\"\\x\"]", "[\"\\u12g4\"]", "[\"\\udc00\"]",
		"[\"\\ud800x\"]", "[\"\xc0\x80\"]", "[\"\xed\xa0\x80\"]",
		"[\"\xf4\x90\x80\x80\"]", "[nul]", "[tru]", "[\"", "[1 2]",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]"};
	struct serve_json json;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		serve_json_init(&json, good[i], strlen(good[i]));
		serve_json_skip(&json);
		CU_ASSERT(serve_json_at_end(&json));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		serve_json_init(&json, bad[i], strlen(bad[i]));
		serve_json_skip(&json);
		CU_ASSERT(!serve_json_at_end(&json));
	}
}

/* --- whole runs ------------------------------------------------------------ */

struct one_run {
	struct serve_options options;
	struct serve_plan plan;
	struct serve_run run;
	struct serve_summary summary;
};

/* argv as after "heddle-bench", a NULL at the end. */
static void carry_out_at(const char *url, char **argv, struct one_run *out)
{
	struct serve_source source;
	struct serve_target target;
	struct serve_run_setup setup = {.target = &target,
		.plan = &out->plan,
		.thread_count = 1,
		.connection_max = 32,
		.timeout_ns = 20 * NS_PER_S,
		.signal_fd = -1};
	struct error err = {0};
	int argc = 0;

	memset(out, 0, sizeof(*out));
	while (argv[argc])
		argc++;
	CU_ASSERT_EQUAL_FATAL(
		serve_options_parse(argc, argv, &out->options, &err), 0);
	CU_ASSERT_EQUAL_FATAL(serve_target_parse(url, &target, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		serve_source_open(&out->options, &target, &source, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		serve_compose(&out->options, &target, &source,
			(struct serve_draw){out->options.prompt_count, 1},
			&out->plan, &err),
		0);
	setup.concurrency = out->options.max_concurrency;
	setup.retry_max = out->options.retry_max;
	setup.fresh = out->options.fresh;
	setup.thread_count = out->options.thread_count;
	setup.timeout_ns = (uint64_t)(out->options.timeout_s * 1e9);
	setup.duration_ns = (uint64_t)(out->options.duration_s * 1e9);
	CU_ASSERT_EQUAL_FATAL(serve_run(&setup, &out->run, &err), 0);
	CU_ASSERT_EQUAL_FATAL(serve_summarise(&out->plan, &out->options.goodput,
				      &out->summary, &err),
		0);
	serve_source_release(&source);
}

static void carry_out(
	const struct bench_server *server, char **argv, struct one_run *out)
{
	carry_out_at(bench_server_url(server), argv, out);
}

static void release(struct one_run *run)
{
	serve_summary_release(&run->summary);
	serve_plan_release(&run->plan);
	serve_options_release(&run->options);
}

#define ARGS(model, ...)                                                       \
	(char *[])                                                             \
	{                                                                      \
		"serve", "--url", "http://unused", "--model", model,           \
			"--vocab", "100", "--random-input-len", "3",           \
			"--random-output-len", "3", "--ignore-eos",            \
			"--exact-chunks", __VA_ARGS__, NULL                    \
	}

static void test_run__connections_are_kept_and_used_again(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	const struct bench_script script = {
		.model = "m", .bytes = answer, .length = length};
	struct bench_server *server = bench_server_start(&script, 1);
	struct one_run run;

	carry_out(server,
		ARGS("m", "--num-prompts", "50", "--max-concurrency", "4"),
		&run);
	CU_ASSERT_EQUAL(run.summary.completed, 50);
	CU_ASSERT_EQUAL(run.summary.output_tokens, 150);
	CU_ASSERT_EQUAL(run.summary.itl.count, 100);
	CU_ASSERT(run.summary.peak_in_flight <= 4);
	CU_ASSERT(bench_server_accepted(server) <= 4);
	CU_ASSERT_EQUAL(bench_server_answered(server), 50);
	release(&run);
	carry_out(server,
		ARGS("m", "--num-prompts", "20", "--max-concurrency", "4",
			"--fresh", "--threads", "2"),
		&run);
	CU_ASSERT_EQUAL(run.summary.completed, 20);
	CU_ASSERT(bench_server_accepted(server) >= 20);
	release(&run);
	bench_server_stop(server);
}

static void test_run__open_loop_counts_from_when_it_was_due(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	const struct bench_script script = {
		.model = "m", .bytes = answer, .length = length};
	struct bench_server *server = bench_server_start(&script, 1);
	struct one_run run;

	carry_out(server,
		ARGS("m", "--num-prompts", "100", "--request-rate", "2000"),
		&run);
	CU_ASSERT_EQUAL(run.summary.completed, 100);
	for (size_t i = 0; i < 100; i++) {
		const struct serve_result *result = &run.plan.results[i];

		CU_ASSERT_EQUAL(result->due_ns, run.plan.items[i].due_ns);
		CU_ASSERT(result->sent_ns >= result->due_ns);
		CU_ASSERT(result->first_ns > result->sent_ns);
		CU_ASSERT(result->end_ns >= result->last_ns);
	}
	release(&run);
	bench_server_stop(server);
}

/* The bad streams again, through sockets, each under a model of its own. */
static void test_run__every_fault_is_counted_by_name(void)
{
	static char answers[BAD_COUNT][ANSWER_BYTES];
	static char names[BAD_COUNT][16];
	struct bench_script scripts[BAD_COUNT];
	struct bench_server *server;

	for (size_t i = 0; i < BAD_COUNT; i++) {
		snprintf(names[i], sizeof(names[i]), "bad-%zu-", i);
		scripts[i] = (struct bench_script){.model = names[i],
			.bytes = answers[i],
			.length = bad_answer(&bad_streams[i], answers[i])};
	}
	server = bench_server_start(scripts, BAD_COUNT);
	for (size_t i = 0; i < BAD_COUNT; i++) {
		struct one_run run;

		carry_out(server, ARGS(names[i], "--num-prompts", "2"), &run);
		CU_ASSERT_EQUAL(run.summary.failed, 2);
		CU_ASSERT_EQUAL(run.run.faults.counts[bad_streams[i].fault], 2);
		if (run.run.faults.counts[bad_streams[i].fault] != 2)
			printf("stream %zu: %s is not counted\n", i,
				serve_fault_name(bad_streams[i].fault));
		release(&run);
	}
	bench_server_stop(server);
}

static void check_fault(struct bench_server *server, char **argv,
	enum serve_fault fault, uint64_t count)
{
	struct one_run run;

	carry_out(server, argv, &run);
	CU_ASSERT_EQUAL(run.run.faults.counts[fault], count);
	if (run.run.faults.counts[fault] != count)
		printf("%s: %llu\n", serve_fault_name(fault),
			(unsigned long long)run.run.faults.counts[fault]);
	CU_ASSERT_EQUAL(run.summary.failed, count);
	release(&run);
}

static void test_run__broken_connections(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	const struct bench_script scripts[] = {{.model = "cut",
						       .bytes = answer,
						       .length = length - 9,
						       .after = BENCH_CLOSE},
		{.model = "reset",
			.bytes = answer,
			.length = length / 2,
			.after = BENCH_RESET},
		{.model = "silent", .bytes = answer, .length = 5},
		{.model = "empty", .bytes = answer, .after = BENCH_CLOSE}};
	struct bench_server *server = bench_server_start(scripts, 4);
	struct one_run run;

	check_fault(server, ARGS("cut", "--num-prompts", "3"),
		SERVE_FAULT_CLOSED, 3);
	check_fault(server, ARGS("empty", "--num-prompts", "3"),
		SERVE_FAULT_CLOSED, 3);
	check_fault(server,
		ARGS("silent", "--num-prompts", "3", "--timeout", "0.05"),
		SERVE_FAULT_TIMEOUT, 3);
	/* Bytes in flight may or may not be dropped: one of two faults. */
	carry_out(server, ARGS("reset", "--num-prompts", "3"), &run);
	CU_ASSERT_EQUAL(run.summary.failed, 3);
	CU_ASSERT_EQUAL(run.run.faults.counts[SERVE_FAULT_RECEIVE] +
				run.run.faults.counts[SERVE_FAULT_CLOSED],
		3);
	release(&run);
	bench_server_stop(server);
}

static void test_run__trailing_bytes_and_no_server(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	struct bench_script script = {.model = "m", .bytes = answer};
	struct bench_server *server;
	struct one_run run;
	char url[64];

	memset(answer + length, 'x', 4);
	script.length = length + 4;
	server = bench_server_start(&script, 1);
	check_fault(server, ARGS("m", "--num-prompts", "2"),
		SERVE_FAULT_TRAILING, 2);
	bench_server_stop(server);
	/* Nobody listens on a port that was just given back. */
	server = bench_server_start(&script, 1);
	snprintf(url, sizeof(url), "%s", bench_server_url(server));
	bench_server_stop(server);
	carry_out_at(url, ARGS("m", "--num-prompts", "2"), &run);
	CU_ASSERT_EQUAL(run.run.faults.counts[SERVE_FAULT_CONNECT], 2);
	CU_ASSERT_PTR_NOT_NULL(strstr(
		run.run.faults.examples[SERVE_FAULT_CONNECT], "refused"));
	release(&run);
}

static void test_run__429_is_counted_or_sent_again(void)
{
	static const char refusal[] =
		"HTTP/1.1 429 Too Many Requests\r\nretry-after: 9\r\n"
		"retry-after-ms: 1\r\nContent-Length: 2\r\n\r\n{}";
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	const struct bench_script scripts[] = {
		{.model = "once",
			.bytes = answer,
			.length = length,
			.first_bytes = refusal,
			.first_length = sizeof(refusal) - 1},
		{.model = "full",
			.bytes = refusal,
			.length = sizeof(refusal) - 1}};
	struct bench_server *server = bench_server_start(scripts, 2);
	struct one_run run;

	carry_out(server, ARGS("full", "--num-prompts", "3"), &run);
	CU_ASSERT_EQUAL(run.summary.failed, 3);
	CU_ASSERT_EQUAL(run.run.faults.statuses[429], 3);
	CU_ASSERT_EQUAL(run.run.retries, 0);
	release(&run);
	carry_out(server, ARGS("full", "--num-prompts", "3", "--retry", "2"),
		&run);
	CU_ASSERT_EQUAL(run.run.faults.statuses[429], 3);
	CU_ASSERT_EQUAL(run.run.retries, 6);
	release(&run);
	carry_out(server, ARGS("once", "--num-prompts", "1", "--retry", "1"),
		&run);
	CU_ASSERT_EQUAL(run.summary.completed, 1);
	CU_ASSERT_EQUAL(run.run.retries, 1);
	CU_ASSERT_EQUAL(run.plan.results[0].retry_count, 1);
	release(&run);
	bench_server_stop(server);
}

static void test_run__kept_connection_that_ended_costs_no_request(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	/* Says that it keeps the connection and closes it. */
	const struct bench_script script = {.model = "m",
		.bytes = answer,
		.length = length,
		.after = BENCH_CLOSE};
	struct bench_server *server = bench_server_start(&script, 1);
	struct one_run run;

	carry_out(server,
		ARGS("m", "--num-prompts", "20", "--max-concurrency", "1"),
		&run);
	CU_ASSERT_EQUAL(run.summary.completed, 20);
	CU_ASSERT_EQUAL(run.summary.failed, 0);
	CU_ASSERT_EQUAL(bench_server_accepted(server), 20);
	release(&run);
	bench_server_stop(server);
}

static void test_run__ends_when_its_time_is_over(void)
{
	char answer[ANSWER_BYTES];
	size_t length = frame(HEAD, GOOD, answer);
	const struct bench_script script = {
		.model = "m", .bytes = answer, .length = length};
	struct bench_server *server = bench_server_start(&script, 1);
	struct one_run run;

	/* The second request is due in an hour or so. */
	carry_out(server,
		ARGS("m", "--num-prompts", "2", "--request-rate", "0.00001",
			"--arrival", "constant", "--duration", "0.02"),
		&run);
	CU_ASSERT_EQUAL(run.summary.not_sent, 2);
	CU_ASSERT_EQUAL(run.summary.failed, 0);
	release(&run);
	bench_server_stop(server);
}

/* --- the command ----------------------------------------------------------- */

static int silent_main(int argc, char **argv)
{
	int held = dup(1), null = open("/dev/null", O_WRONLY | O_CLOEXEC), rc;

	fflush(stdout);
	dup2(null, 1);
	rc = serve_main(argc, argv);
	fflush(stdout);
	dup2(held, 1);
	close(held);
	close(null);
	return rc;
}

static const char *const result_keys[] = {"date", "backend", "label",
	"model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness",
	"max_concurrency", "duration", "completed", "failed",
	"total_input_tokens", "total_output_tokens", "request_throughput",
	"request_goodput", "output_throughput", "total_token_throughput",
	"mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "p50_ttft_ms",
	"p90_ttft_ms", "p95_ttft_ms", "p99_ttft_ms", "p99.9_ttft_ms",
	"mean_tpot_ms", "median_tpot_ms", "std_tpot_ms", "p99_tpot_ms",
	"mean_itl_ms", "median_itl_ms", "std_itl_ms", "p99_itl_ms",
	"mean_e2el_ms", "median_e2el_ms", "std_e2el_ms", "p99_e2el_ms",
	"input_lens", "output_lens", "ttfts", "itls", "start_times",
	"generated_texts", "errors"};

static void check_result(const char *path)
{
	json_t *result = json_load_file(path, 0, NULL);

	CU_ASSERT_PTR_NOT_NULL_FATAL(result);
	for (size_t i = 0; i < sizeof(result_keys) / sizeof(result_keys[0]);
		i++) {
		CU_ASSERT_PTR_NOT_NULL(json_object_get(result, result_keys[i]));
		if (!json_object_get(result, result_keys[i]))
			printf("no %s\n", result_keys[i]);
	}
	CU_ASSERT_EQUAL(
		json_integer_value(json_object_get(result, "completed")), 5);
	CU_ASSERT_EQUAL(json_array_size(json_object_get(result, "itls")), 5);
	CU_ASSERT_STRING_EQUAL(
		json_string_value(json_array_get(
			json_object_get(result, "generated_texts"), 4)),
		"a\xc3\xa9\nc");
	json_decref(result);
}

static void check_page(const char *path)
{
	char *page = suite_calloc(1, 1 << 20);
	FILE *file = fopen(path, "re");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	CU_ASSERT(fread(page, 1, (1 << 20) - 1, file) > 1000);
	fclose(file);
	CU_ASSERT_PTR_NOT_NULL(strstr(page, "</html>"));
	CU_ASSERT_PTR_NOT_NULL(strstr(page, "&lt;label&gt;"));
	CU_ASSERT_PTR_NULL(strstr(page, "src="));
	CU_ASSERT_PTR_NULL(strstr(page, "href="));
	CU_ASSERT_PTR_NULL(strstr(page, "nan"));
	free(page);
}

static void test_main__writes_result_and_page(void)
{
	char answer[ANSWER_BYTES], url[64];
	char folder[] = "/tmp/heddle-bench-XXXXXX", result[64], page[64];
	const struct bench_script script = {.model = "m",
		.bytes = answer,
		.length = frame(HEAD, GOOD, answer)};
	struct bench_server *server = bench_server_start(&script, 1);
	char *argv[] = {"serve", "--url", url, "--model", "m", "--vocab", "9",
		"--num-prompts", "5", "--random-output-len", "3", "--quiet",
		"--num-warmups", "2", "--detail", "--result", result, "--html",
		page, "--label", "<label>", NULL};

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	snprintf(url, sizeof(url), "%s", bench_server_url(server));
	snprintf(result, sizeof(result), "%s/result.json", folder);
	snprintf(page, sizeof(page), "%s/page.html", folder);
	CU_ASSERT_EQUAL(silent_main(21, argv), 0);
	/* Warm-up requests were answered and are not in the result. */
	CU_ASSERT_EQUAL(bench_server_answered(server), 7);
	check_result(result);
	check_page(page);
	argv[4] = "unknown";
	CU_ASSERT_EQUAL(silent_main(21, argv), 1);
	unlink(result);
	unlink(page);
	rmdir(folder);
	bench_server_stop(server);
}

static void test_options__are_refused_by_name(void)
{
	static char *const cases[][4] = {{"--request-rate", "-1"},
		{"--num-prompts", "0"}, {"--num-prompts", "1e3"},
		{"--goodput", "ttft"}, {"--random-input-len", "5:4"},
		{"--model-dist", "zipf:x"}, {"--endpoint", "embeddings"},
		{"--what"}, {"--seed"}, {"extra"},
		{"--max-concurrency", "3", "--request-rate", "5"},
		{"--arrival", "weekly"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *argv[8] = {"serve", "--url", "http://127.0.0.1:1"};
		struct serve_options options;
		struct error err = {0};
		int argc = 3;

		for (int k = 0; k < 4 && cases[i][k]; k++)
			argv[argc++] = cases[i][k];
		CU_ASSERT_EQUAL(serve_options_parse(argc, argv, &options, &err),
			-EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text,
			strcmp(cases[i][0], "--seed") == 0 ? "missing"
							   : cases[i][0]));
	}
}

static void test_target__parts_of_a_url(void)
{
	static const char *const bad[] = {"https://a", "a:80", "http://",
		"http://a b", "http://h:99999x", "http://[::1", "http://h?x",
		"http://u@h"};
	struct serve_target target;
	struct error err = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_EQUAL(
			serve_target_parse(bad[i], &target, NULL), -EINVAL);
	CU_ASSERT_EQUAL(
		serve_target_parse("https://a", &target, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "TLS"));
	CU_ASSERT_EQUAL(
		serve_target_parse("http://127.0.0.1:81/x/", &target, NULL), 0);
	CU_ASSERT_STRING_EQUAL(target.prefix, "/x");
	CU_ASSERT_STRING_EQUAL(target.authority, "127.0.0.1:81");
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(reply__good_at_every_split),
		SUITE_CASE(reply__times_are_those_of_the_pieces),
		SUITE_CASE(reply__every_fault_at_every_split),
		SUITE_CASE(reply__an_end_inside_is_found_everywhere),
		SUITE_CASE(reply__chat_wants_the_role_first),
		SUITE_CASE(reply__whole_answers_without_events),
		SUITE_CASE(json__strict),
		SUITE_CASE(run__connections_are_kept_and_used_again),
		SUITE_CASE(run__open_loop_counts_from_when_it_was_due),
		SUITE_CASE(run__every_fault_is_counted_by_name),
		SUITE_CASE(run__broken_connections),
		SUITE_CASE(run__trailing_bytes_and_no_server),
		SUITE_CASE(run__429_is_counted_or_sent_again),
		SUITE_CASE(run__kept_connection_that_ended_costs_no_request),
		SUITE_CASE(run__ends_when_its_time_is_over),
		SUITE_CASE(main__writes_result_and_page),
		SUITE_CASE(options__are_refused_by_name),
		SUITE_CASE(target__parts_of_a_url),
	};

	return SUITE_MAIN("bench_serve", cases);
}
