/* test_front.c - the dataplane role: requests in, answers out, to the byte */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/fake_os.h"
#include "tests/front_case.h"
#include "tests/suite.h"
#include "tests/text_case.h"

#define OUTPUT_BYTES ((size_t)1 << 20)

#define CHAT_HEAD "{\"model\":\"alias\",\"messages\":[{\"role\":\"user\","
#define CHAT CHAT_HEAD "\"content\":\"Hi\"}]"
#define TEXT "{\"model\":\"qwen/test\",\"prompt\":\"Hi\""

#define JSON_HEAD                                                              \
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-type: application/json\r\n"     \
	"x-request-id: R\r\n"
#define SSE_HEAD                                                               \
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-type: text/event-stream; "      \
	"charset=utf-8\r\nx-request-id: R\r\ncache-control: no-cache\r\n"      \
	"transfer-encoding: chunked\r\n\r\n"

static struct front_case c;
static char output[OUTPUT_BYTES];

static const char *out_of(uint32_t client)
{
	return front_case_output(client, output, sizeof(output));
}

static void expect(uint32_t client, const char *text)
{
	CU_ASSERT(front_case_expect(&c, client, text));
}

static bool has(uint32_t client, const char *text)
{
	return strstr(fake_stream_output(client, NULL), text) != NULL;
}

/* The chunks of the first answer, joined; sizes checked. */
static char *unchunk(uint32_t client)
{
	const char *at = strstr(out_of(client), "\r\n\r\n");
	static char body[OUTPUT_BYTES];
	const char *raw = strstr(fake_stream_output(client, NULL), "\r\n\r\n");
	size_t used = 0;

	CU_ASSERT(at && raw);
	body[0] = '\0';
	if (!at || !raw)
		return body;
	raw += 4;
	for (;;) {
		char *end;
		size_t size = strtoul(raw, &end, 16);

		CU_ASSERT_EQUAL_FATAL(memcmp(end, "\r\n", 2), 0);
		raw = end + 2;
		memcpy(body + used, raw, size);
		used += size;
		CU_ASSERT_EQUAL_FATAL(memcmp(raw + size, "\r\n", 2), 0);
		raw += size + 2;
		if (size == 0)
			break;
	}
	body[used] = '\0';
	return body;
}

static uint32_t count_of(const char *text, const char *what)
{
	uint32_t count = 0;

	while ((text = strstr(text, what)) != NULL) {
		count++;
		text += strlen(what);
	}
	return count;
}

/* All "content" or "text" deltas, joined as they stand (escaped). */
static const char *deltas(const char *body, const char *key)
{
	static char joined[OUTPUT_BYTES];
	size_t used = 0;

	while ((body = strstr(body, key)) != NULL) {
		const char *end;

		body += strlen(key);
		end = body;
		while (*end != '"')
			end += *end == '\\' ? 2 : 1;
		memcpy(joined + used, body, (size_t)(end - body));
		used += (size_t)(end - body);
		body = end;
	}
	joined[used] = '\0';
	return joined;
}

/* --- whole answers ----------------------------------------------------------------- */

static void test_front__chat_stream_to_the_byte(void)
{
#define CHUNK(rest)                                                            \
	"data: {\"id\":\"chatcmpl-ID\",\"object\":\"chat.completion.chunk\","  \
	"\"created\":T,\"model\":\"alias\",\"choices\":[" rest "}\n\n"
#define DELTA(delta, finish)                                                   \
	CHUNK("{\"index\":0,\"delta\":{" delta                                 \
	      "},\"logprobs\":null,\"finish_reason\":" finish                  \
	      "}],\"usage\":null")
	static const char want[] = DELTA(
		"\"role\":\"assistant\",\"content\":\"\"", "null")
		DELTA("\"content\":\" there\"", "null") DELTA(
			"\"content\":\"\\n\"", "null") DELTA("", "\"stop\"")
			CHUNK("],\"usage\":{\"prompt_tokens\":17,"
			      "\"completion_tokens\":2,\"total_tokens\":19,"
			      "\"prompt_tokens_details\":{\"cached_tokens\":0},"
			      "\"completion_tokens_details\":{\"reasoning_"
			      "tokens\":0}}") "data: [DONE]\n\n";
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/chat/completions", "",
		CHAT ",\"stream\":true,\"stream_options\":{\"include_usage\":"
		     "true}}");
	m = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(m.kind, RING_SUBMIT);
	/* The head does not come before the first token. */
	front_case_settle(&c);
	CU_ASSERT_STRING_EQUAL(fake_stream_output(client, NULL), "");
	front_case_answer(&c, &m, " there\n", FINISH_STOP_TOKEN);
	expect(client, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	unchunk(client);
	CU_ASSERT_EQUAL(strncmp(out_of(client), SSE_HEAD, strlen(SSE_HEAD)), 0);
	{
		char body[8192];

		snprintf(body, sizeof(body), "%s", unchunk(client));
		fake_stream_clear(client);
		CU_ASSERT_EQUAL(
			count_of(body, "data: "), count_of(want, "data: "));
		CU_ASSERT_STRING_EQUAL(deltas(body, "\"content\":\""),
			deltas(want, "\"content\":\""));
		CU_ASSERT_PTR_NOT_NULL(strstr(body,
			"\"choices\":[{\"index\":0,\"delta\":{\"content\":"
			"\"\\n\"},\"logprobs\":null,\"finish_reason\":null}],"
			"\"usage\":null}\n\n"));
		CU_ASSERT_PTR_NOT_NULL(strstr(body,
			"\"delta\":{},\"logprobs\":null,\"finish_reason\":"
			"\"stop\"}],\"usage\":null}\n\n"));
		CU_ASSERT_PTR_NOT_NULL(
			strstr(body, strstr(want, "\"choices\":[],\"usage\"")));
	}
	front_case_close(&c);
}

static void test_front__completion_to_the_byte(void)
{
	static const char want[] = JSON_HEAD
		"content-length: L\r\n\r\n"
		"{\"id\":\"cmpl-ID\",\"object\":\"text_completion\","
		"\"created\":"
		"T,\"model\":\"qwen/test\",\"choices\":[{\"index\":0,\"text\":"
		"\" there\",\"logprobs\":null,\"finish_reason\":\"length\"}],"
		"\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":1,"
		"\"total_tokens\":3,\"prompt_tokens_details\":{\"cached_"
		"tokens\":0},\"completion_tokens_details\":{\"reasoning_"
		"tokens\":0}}}";
	struct ring_message m;
	const char *raw;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "", TEXT "}");
	m = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(
		segment_slot(&c.segment, m.slot)->params.output_max, 16);
	front_case_answer(&c, &m, " there", FINISH_LENGTH);
	expect(client, "}}}");
	front_case_settle(&c);
	CU_ASSERT_STRING_EQUAL(out_of(client), want);
	raw = strstr(fake_stream_output(client, NULL), "content-length: ");
	CU_ASSERT_EQUAL(strtoul(raw + 16, NULL, 10),
		strlen(strstr(raw, "\r\n\r\n") + 4));
	front_case_close(&c);
}

static void test_front__chat_answer_is_a_message(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/chat/completions", "", CHAT "}");
	m = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(
		segment_slot(&c.segment, m.slot)->params.output_max, 64);
	front_case_answer(&c, &m, "He said \"no\"\n", FINISH_STOP_TOKEN);
	expect(client, "\"object\":\"chat.completion\",");
	front_case_settle(&c);
	CU_ASSERT(has(client,
		"\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
		"\"content\":\"He said \\\"no\\\"\\n\",\"refusal\":null},"
		"\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":"));
	front_case_close(&c);
}

static void test_front__http_10_gets_no_chunks(void)
{
	static const char body[] = TEXT ",\"stream\":true}";
	struct ring_message m;
	uint32_t client;
	char head[256];

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	snprintf(head, sizeof(head),
		"POST /v1/completions HTTP/1.0\r\nContent-Length: %zu\r\n\r\n",
		strlen(body));
	front_case_say(client, head);
	front_case_say(client, body);
	m = front_case_pop(&c, 0);
	front_case_answer(&c, &m, " there", FINISH_LENGTH);
	expect(client, "data: [DONE]\n\n");
	front_case_settle(&c);
	CU_ASSERT(!has(client, "chunked"));
	CU_ASSERT(has(client, "\r\n\r\ndata: {"));
	CU_ASSERT(fake_stream_is_closed(client));
	front_case_close(&c);
}

/* --- log probabilities --------------------------------------------------------------- */

static uint32_t id_of(const char *text)
{
	uint32_t ids[8];

	CU_ASSERT_EQUAL_FATAL(
		text_encode(c.tok, text, strlen(text), ids, 8), 1);
	return ids[0];
}

static void write_two(const struct ring_message *m)
{
	front_case_run(&c, m->slot);
	front_case_write(&c, m->slot, id_of(" there"), -0.25f);
	front_case_write_top(&c, m->slot, 0, id_of(" there"), -0.25f);
	front_case_write_top(&c, m->slot, 1, id_of("."), -1.5f);
	front_case_write(&c, m->slot, id_of("."), -0.125f);
	front_case_write_top(&c, m->slot, 0, id_of("."), -0.125f);
	front_case_write_top(&c, m->slot, 1, id_of(","), -3);
	front_case_tell(&c, m);
	front_case_finish(&c, m, FINISH_LENGTH);
}

static void test_front__logprobs_of_chat(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/chat/completions", "",
		CHAT ",\"logprobs\":true,\"top_logprobs\":2}");
	m = front_case_pop(&c, 0);
	CU_ASSERT_TRUE(segment_slot(&c.segment, m.slot)->params.want_logprob);
	write_two(&m);
	expect(client, "}}}");
	front_case_settle(&c);
	CU_ASSERT(has(client,
		"\"logprobs\":{\"content\":[{\"token\":\" there\",\"logprob\":"
		"-0.25,\"bytes\":[32,116,104,101,114,101],\"top_logprobs\":[{"
		"\"token\":\" there\",\"logprob\":-0.25,\"bytes\":[32,116,104,"
		"101,114,101]},{\"token\":\".\",\"logprob\":-1.5,\"bytes\":[46]"
		"}]},{\"token\":\".\",\"logprob\":-0.125,\"bytes\":[46],"
		"\"top_logprobs\":[{\"token\":\".\",\"logprob\":-0.125,"
		"\"bytes\":[46]},{\"token\":\",\",\"logprob\":-3,\"bytes\":[44]"
		"}]}],\"refusal\":null}"));
	front_case_close(&c);
}

static void test_front__logprobs_of_a_completion_stream(void)
{
	struct ring_message m;
	const char *body;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "",
		TEXT ",\"logprobs\":2,\"stream\":true}");
	m = front_case_pop(&c, 0);
	write_two(&m);
	expect(client, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	body = unchunk(client);
	CU_ASSERT_PTR_NOT_NULL(strstr(body,
		"\"text\":\" there\",\"logprobs\":{\"text_offset\":[0],"
		"\"token_logprobs\":[-0.25],\"tokens\":[\" there\"],"
		"\"top_logprobs\":[{\" there\":-0.25,\".\":-1.5}]},"
		"\"finish_reason\":null}]}\n\n"));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(body, "\"text\":\".\",\"logprobs\":{\"text_offset\":[6],"
			     "\"token_logprobs\":[-0.125],\"tokens\":[\".\"],"
			     "\"top_logprobs\":[{\".\":-0.125,\",\":-3}]},"));
	front_case_close(&c);
}

/* --- choices, echo, stops, usage -------------------------------------------------------- */

static void test_front__two_prompts_with_two_choices(void)
{
	const struct front_counters *counters;
	struct request_slot *slots[4];
	struct ring_message m[4];
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "",
		"{\"model\":\"alias\",\"prompt\":[\"Hi\",\"Hi there\"],\"n\":2,"
		"\"seed\":7,\"logit_bias\":{\"3\":1.5},\"stop_token_ids\":[5]"
		"}");
	for (int i = 0; i < 4; i++) {
		m[i] = front_case_pop(&c, 0);
		slots[i] = segment_slot(&c.segment, m[i].slot);
		CU_ASSERT_EQUAL(slots[i]->params.seed, 7);
		CU_ASSERT_EQUAL(slots[i]->params.choice, (uint32_t)i % 2);
	}
	CU_ASSERT_EQUAL(slots[1]->prompt_page, slots[0]->prompt_page);
	CU_ASSERT_EQUAL(slots[1]->parent, m[0].slot);
	CU_ASSERT_EQUAL(slots[3]->prompt_page, slots[2]->prompt_page);
	CU_ASSERT_NOT_EQUAL(slots[2]->prompt_page, slots[0]->prompt_page);
	CU_ASSERT_EQUAL(slots[0]->params.prompt_count, 2);
	CU_ASSERT_EQUAL(slots[2]->params.prompt_count, 3);
	CU_ASSERT_EQUAL(segment_page(&c.segment, slots[1]->params.bias_page)
				->used_bytes,
		8);
	CU_ASSERT_EQUAL(
		segment_page(&c.segment, slots[3]->params.stop_page)->bytes[0],
		5);
	for (int i = 3; i >= 0; i--)
		front_case_answer(
			&c, &m[i], i % 2 ? "." : " there", FINISH_LENGTH);
	expect(client, "}}}");
	front_case_settle(&c);
	CU_ASSERT(has(client, "[{\"index\":0,\"text\":\" there\""));
	CU_ASSERT(has(client, ",{\"index\":1,\"text\":\".\""));
	CU_ASSERT(has(client, ",{\"index\":2,\"text\":\" there\""));
	CU_ASSERT(has(client, ",{\"index\":3,\"text\":\".\""));
	CU_ASSERT(has(client, "\"prompt_tokens\":5,\"completion_tokens\":4,"));
	counters = segment_front_counters(&c.segment);
	CU_ASSERT_EQUAL(counters->prompt_tokens.count, 4);
	CU_ASSERT_EQUAL(counters->prompt_tokens.sum, 10);
	CU_ASSERT_EQUAL(counters->output_tokens.count, 4);
	CU_ASSERT_EQUAL(counters->output_tokens.sum, 4);
	CU_ASSERT_EQUAL(counters->choices_asked.count, 1);
	CU_ASSERT_EQUAL(counters->choices_asked.sum, 2);
	CU_ASSERT_EQUAL(counters->output_asked.count, 1);
	front_case_close(&c);
}

static void test_front__echo_of_text_and_of_ids(void)
{
	struct ring_message m;
	uint32_t client;
	char body[256];

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "", TEXT ",\"echo\":true}");
	m = front_case_pop(&c, 0);
	front_case_answer(&c, &m, " there", FINISH_LENGTH);
	expect(client, "\"text\":\"Hi there\"");
	front_case_settle(&c);
	fake_stream_clear(client);
	snprintf(body, sizeof(body),
		"{\"model\":\"alias\",\"prompt\":[%u],\"echo\":true,"
		"\"stream\":true}",
		id_of("."));
	front_case_post(client, "/v1/completions", "", body);
	m = front_case_pop(&c, 0);
	front_case_answer(&c, &m, " there", FINISH_LENGTH);
	expect(client, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	CU_ASSERT_STRING_EQUAL(
		deltas(unchunk(client), "\"text\":\""), ". there");
	front_case_close(&c);
}

static void test_front__stop_string_over_two_tokens(void)
{
	struct ring_message m, finish;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "",
		TEXT ",\"stop\":\"re.\",\"stream\":true,"
		     "\"stream_options\":{\"include_usage\":true}}");
	m = front_case_pop(&c, 0);
	front_case_run(&c, m.slot);
	front_case_write(&c, m.slot, id_of(","), 0);
	front_case_write(&c, m.slot, id_of(" there"), 0);
	front_case_write(&c, m.slot, id_of("."), 0);
	front_case_write(&c, m.slot, id_of(" there"), 0);
	front_case_tell(&c, &m);
	finish = front_case_pop(&c, 0);
	CU_ASSERT_EQUAL(finish.kind, RING_FINISH_AT);
	CU_ASSERT_EQUAL(finish.value, 3);
	CU_ASSERT_EQUAL(finish.slot, m.slot);
	CU_ASSERT_EQUAL(segment_slot(&c.segment, m.slot)->finish_at, 3);
	expect(client, "\r\n0\r\n\r\n");
	/* The answer is whole, but the engine still holds the slot. */
	front_case_settle(&c);
	CU_ASSERT_EQUAL(c.front->slot_used, 1);
	CU_ASSERT_STRING_EQUAL(deltas(unchunk(client), "\"text\":\""), ", the");
	CU_ASSERT(has(client, "\"finish_reason\":\"stop\""));
	CU_ASSERT(has(client, "\"completion_tokens\":3,"));
	front_case_finish(&c, &m, FINISH_STOP_TEXT);
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__usage_in_every_chunk(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "",
		TEXT ",\"stream\":true,\"stream_options\":{\"include_usage\":"
		     "true,\"continuous_usage_stats\":true}}");
	m = front_case_pop(&c, 0);
	segment_slot(&c.segment, m.slot)->cached_count = 0;
	front_case_answer(&c, &m, " there.", FINISH_LENGTH);
	expect(client, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	CU_ASSERT(has(client, "\"completion_tokens\":1,\"total_tokens\":3,"));
	CU_ASSERT_EQUAL(
		count_of(unchunk(client), "\"completion_tokens\":2,"), 3);
	CU_ASSERT_EQUAL(count_of(unchunk(client), "\"usage\":null"), 0);
	front_case_close(&c);
}

static void test_front__eos_is_no_text(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_prepare(&c, 1);
	c.setup.model.eos[0] = id_of(".");
	c.setup.model.eos_count = 1;
	front_case_start(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "", TEXT "}");
	m = front_case_pop(&c, 0);
	front_case_answer(&c, &m, " there.", FINISH_STOP_TOKEN);
	expect(client, "\"text\":\" there\"");
	front_case_settle(&c);
	CU_ASSERT(has(client, "\"completion_tokens\":2,"));
	front_case_post(
		client, "/v1/completions", "", TEXT ",\"ignore_eos\":true}");
	m = front_case_pop(&c, 0);
	CU_ASSERT_TRUE(segment_slot(&c.segment, m.slot)->params.ignore_eos);
	front_case_answer(&c, &m, " there.", FINISH_LENGTH);
	expect(client, "\"text\":\" there.\"");
	front_case_settle(&c);
	front_case_close(&c);
}

/* --- prompts ------------------------------------------------------------------------------ */

static void test_front__markers_of_a_client_are_text(void)
{
	static const char marker[] = "<|im_start|>";
	uint32_t special, ids[512], count, seen = 0;
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	special = tokenizer_id_of(c.tok, marker, strlen(marker));
	CU_ASSERT_NOT_EQUAL_FATAL(special, TOKENIZER_NONE);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/chat/completions", "",
		CHAT_HEAD "\"content\":\"<|im_start|>system\"}]}");
	m = front_case_pop(&c, 0);
	count = front_case_prompt(&c, m.slot, ids, 512);
	for (uint32_t i = 0; i < count; i++)
		seen += ids[i] == special;
	/* One before the user's turn, one before the assistant's. */
	CU_ASSERT_EQUAL(seen, 2);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	front_case_settle(&c);
	front_case_close(&c);
}

static void test_front__prompt_over_several_pages(void)
{
	uint32_t ids[FRONT_CASE_POSITIONS], want[FRONT_CASE_POSITIONS];
	char *body = suite_calloc(1, 65536);
	struct ring_message m;
	uint32_t client, count;
	size_t at;

	front_case_open(&c);
	at = (size_t)sprintf(body, "{\"model\":\"alias\",\"prompt\":[");
	for (uint32_t i = 0; i < 1500; i++) {
		want[i] = i * 7 % 200;
		at += (size_t)sprintf(
			body + at, "%s%u", i > 0 ? "," : "", want[i]);
	}
	memcpy(body + at, "]}", 3);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "", body);
	m = front_case_pop(&c, 0);
	count = front_case_prompt(&c, m.slot, ids, FRONT_CASE_POSITIONS);
	CU_ASSERT_EQUAL(count, 1500);
	CU_ASSERT_EQUAL(memcmp(ids, want, 1500 * sizeof(ids[0])), 0);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	front_case_settle(&c);
	front_case_close(&c);
	free(body);
}

static void test_front__tokenize_and_back(void)
{
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/tokenize", "",
		"{\"prompt\":\" there.\",\"return_token_strs\":true}");
	expect(client, "{\"count\":2,\"max_model_len\":2048,\"tokens\":[");
	CU_ASSERT(has(client, "\"token_strs\":[\" there\",\".\"]}"));
	{
		char body[128];

		fake_stream_clear(client);
		snprintf(body, sizeof(body), "{\"tokens\":[%u,%u]}",
			id_of(" there"), id_of("."));
		front_case_post(client, "/detokenize", "", body);
		expect(client, "{\"prompt\":\" there.\"}");
	}
	fake_stream_clear(client);
	front_case_post(client, "/tokenize", "",
		"{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
	expect(client, "{\"count\":17,");
	CU_ASSERT(has(client, "\"token_strs\":null}"));
	front_case_settle(&c);
	front_case_close(&c);
}

/* --- HTTP ------------------------------------------------------------------------------------ */

static void test_front__pipelined_answers_keep_their_order(void)
{
	struct ring_message first, second;
	const char *at;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "", TEXT "}");
	front_case_post(
		client, "/v1/completions", "", TEXT ",\"stream\":true}");
	front_case_get(client, "/version");
	first = front_case_pop(&c, 0);
	second = front_case_pop(&c, 0);
	front_case_answer(&c, &second, ".", FINISH_LENGTH);
	front_case_settle(&c);
	CU_ASSERT_STRING_EQUAL(fake_stream_output(client, NULL), "");
	front_case_answer(&c, &first, ",", FINISH_LENGTH);
	expect(client, "{\"version\":\"0.0.1\"}");
	front_case_settle(&c);
	at = strstr(fake_stream_output(client, NULL), "\"text\":\",\"");
	at = at ? strstr(at, "\"text\":\".\"") : NULL;
	CU_ASSERT(at && strstr(at, "{\"version\":\"0.0.1\"}"));
	front_case_close(&c);
}

static void test_front__a_full_row_stops_reading(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "", TEXT "}");
	for (int i = 0; i < 6; i++)
		front_case_get(client, "/version");
	m = front_case_pop(&c, 0);
	front_case_settle(&c);
	CU_ASSERT(fake_stream_unread(client) > 0);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	front_case_settle(&c);
	CU_ASSERT_EQUAL(fake_stream_unread(client), 0);
	CU_ASSERT_EQUAL(count_of(fake_stream_output(client, NULL),
				"{\"version\":\"0.0.1\"}"),
		6);
	front_case_close(&c);
}

static void test_front__expect_head_and_labels(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_say(client,
		"POST /v1/completions HTTP/1.1\r\nHost: h\r\nExpect: "
		"100-continue\r\nContent-Length: 32\r\nX-Request-Id: mine\r\n"
		"traceparent: 00-ab-cd-01\r\n\r\n");
	expect(client, "HTTP/1.1 100 Continue\r\n\r\n");
	front_case_say(client, "{\"model\":\"alias\",\"prompt\":\"Hi\" }");
	m = front_case_pop(&c, 0);
	front_case_answer(&c, &m, ".", FINISH_LENGTH);
	expect(client, "x-request-id: mine\r\ntraceparent: 00-ab-cd-01\r\n");
	front_case_settle(&c);
	fake_stream_clear(client);
	front_case_say(client, "HEAD /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
	expect(client, "content-length: ");
	front_case_settle(&c);
	CU_ASSERT(!has(client, "\"object\""));
	front_case_close(&c);
}

static void test_front__small_pages(void)
{
	uint32_t client, admin;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	admin = front_case_connect(&c, 1);
	front_case_get(client, "/v1/models/qwen/test");
	expect(client, "{\"id\":\"qwen/test\",\"object\":\"model\",");
	front_case_get(client, "/v1/models/none");
	expect(client, "\"code\":\"model_not_found\"");
	front_case_get(client, "/live");
	expect(client, "{\"status\":\"live\"}");
	front_case_get(client, "/ready");
	expect(client, "{\"status\":\"ready\"}");
	front_case_get(client, "/metrics");
	expect(client, "\"code\":\"not_found\"");
	front_case_get(admin, "/metrics");
	expect(admin, "text/plain; version=0.0.4");
	expect(admin, "vllm:num_requests_running{model_name=\"qwen/test\"");
	front_case_settle(&c);
	front_case_close(&c);
}

/* --- whose turn it is --------------------------------------------------------------------------- */

#define EVEN_COUNT 4u

/* Clients that stream, and what their engine was asked; all are running. */
static void stream_even(struct ring_message requests[EVEN_COUNT])
{
	for (uint32_t i = 0; i < EVEN_COUNT; i++) {
		front_case_post(front_case_connect(&c, 0), "/v1/completions",
			"", TEXT ",\"max_tokens\":20,\"stream\":true}");
		requests[i] = front_case_pop(&c, 0);
		front_case_run(&c, requests[i].slot);
	}
	front_case_settle(&c);
}

static void end_even(const struct ring_message requests[EVEN_COUNT])
{
	for (uint32_t i = 0; i < EVEN_COUNT; i++)
		front_case_finish(&c, &requests[i], FINISH_LENGTH);
	front_case_settle(&c);
}

/* A step: one token of each, told in the order of the rows. */
static void step_even(const struct ring_message requests[EVEN_COUNT])
{
	uint32_t id = id_of(" there");

	for (uint32_t i = 0; i < EVEN_COUNT; i++) {
		front_case_write(&c, requests[i].slot, id, 0);
		front_case_tell(&c, &requests[i]);
	}
}

/* The slot whose job stands at a place of the worker's ring, done or not. */
static uint32_t slot_at(size_t at)
{
	const struct text_ring *jobs = &c.front->workers[0].text.out_jobs;
	struct text_message job;

	memcpy(&job, jobs->data + (at & (jobs->capacity - 1)), sizeof(job));
	CU_ASSERT_EQUAL(job.kind, TEXT_TOKENS);
	for (uint32_t i = 0; i < FRONT_CASE_SLOTS; i++)
		if (c.front->slots[i].exchange != FRONT_NONE &&
			c.front->exchanges[c.front->slots[i].exchange].text ==
				job.request)
			return i;
	return FRONT_NONE;
}

static void test_front__who_is_first_changes_with_each_step(void)
{
	struct ring_message requests[EVEN_COUNT];
	uint32_t first[FRONT_CASE_SLOTS] = {0}, last[FRONT_CASE_SLOTS] = {0};

	front_case_open(&c);
	stream_even(requests);
	for (uint32_t step = 0; step < 2 * EVEN_COUNT; step++) {
		size_t at = c.front->workers[0].text.out_jobs.head;
		uint32_t slot;

		step_even(requests);
		front_case_settle(&c);
		slot = slot_at(at);
		CU_ASSERT_FATAL(slot < FRONT_CASE_SLOTS);
		first[slot]++;
		slot = slot_at(
			at + (EVEN_COUNT - 1) * sizeof(struct text_message));
		CU_ASSERT_FATAL(slot < FRONT_CASE_SLOTS);
		last[slot]++;
	}
	for (uint32_t i = 0; i < EVEN_COUNT; i++) {
		CU_ASSERT_EQUAL(first[requests[i].slot], 2);
		CU_ASSERT_EQUAL(last[requests[i].slot], 2);
	}
	end_even(requests);
	front_case_close(&c);
}

/* However much of the one there is, a turn does some of the other. */
static void test_front__each_turn_reads_and_sends(void)
{
	struct ring_message requests[EVEN_COUNT], late[2];
	uint32_t clients[2];
	size_t parsed, told;

	front_case_open(&c);
	stream_even(requests);
	for (uint32_t i = 0; i < 2; i++)
		clients[i] = front_case_connect(&c, 0);
	front_case_settle(&c);
	for (uint32_t i = 0; i < 2; i++)
		front_case_post(clients[i], "/v1/completions", "", TEXT "}");
	for (uint32_t i = 0; i < FRONT_CASE_RING / EVEN_COUNT; i++)
		step_even(requests);
	parsed = c.front->workers[0].text.in_jobs.head;
	told = c.front->workers[0].text.out_jobs.head;
	front_turn(c.front, (struct mono){0});
	CU_ASSERT_EQUAL(c.front->workers[0].text.in_jobs.head - parsed,
		2 * sizeof(struct text_message));
	CU_ASSERT_EQUAL(c.front->workers[0].text.out_jobs.head - told,
		EVEN_COUNT * sizeof(struct text_message));
	for (uint32_t i = 0; i < 2; i++) {
		late[i] = front_case_pop(&c, 0);
		front_case_answer(&c, &late[i], ".", FINISH_LENGTH);
	}
	end_even(requests);
	front_case_close(&c);
}

/* --- who does the text --------------------------------------------------------------------------- */

/* True when what `tokens` more are has gone out in one turn. */
static bool goes_out_at_once(const struct ring_message *m, uint32_t tokens)
{
	uint64_t sends;

	front_case_settle(&c);
	sends = fake_stream_sends();
	for (uint32_t i = 0; i < tokens; i++)
		front_case_write(&c, m->slot, id_of(" there"), 0);
	front_case_tell(&c, m);
	front_turn(c.front, (struct mono){0});
	return fake_stream_sends() > sends;
}

/*
 * The worker is told at the end of a turn, so what goes out in it was done by
 * the network thread. It may find the worker awake, but not always.
 */
static void test_front__a_few_tokens_wake_no_thread(void)
{
	struct ring_message m;
	uint32_t client, tries = 0;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "",
		TEXT ",\"max_tokens\":500,\"stream\":true}");
	m = front_case_pop(&c, 0);
	front_case_run(&c, m.slot);
	while (!goes_out_at_once(&m, 1) && tries < 100)
		tries++;
	CU_ASSERT(tries < 100);
	/* So many are the worker's. */
	CU_ASSERT_FALSE(goes_out_at_once(&m, 50));
	front_case_settle(&c);
	front_case_finish(&c, &m, FINISH_LENGTH);
	expect(client, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	front_case_close(&c);
}

/* Their notes may be longer than the ring is, so the worker makes them. */
static void test_front__logprobs_are_the_workers(void)
{
	struct ring_message m;
	uint32_t client;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	front_case_post(client, "/v1/completions", "",
		TEXT ",\"max_tokens\":500,\"stream\":true,\"logprobs\":1}");
	m = front_case_pop(&c, 0);
	front_case_run(&c, m.slot);
	for (uint32_t i = 0; i < 10; i++)
		CU_ASSERT_FALSE(goes_out_at_once(&m, 1));
	front_case_settle(&c);
	front_case_finish(&c, &m, FINISH_LENGTH);
	expect(client, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	front_case_close(&c);
}

/* --- memory ------------------------------------------------------------------------------------ */

/*
 * Whoever does the text of a token is counted: the network thread is this one,
 * and the worker has nothing else to do.
 */
static void test_front__no_allocation_per_token(void)
{
	struct ring_message m;
	uint32_t client, id;
	uint64_t before = 0, sends = 0;

	front_case_open(&c);
	client = front_case_connect(&c, 0);
	id = id_of(" there");
	front_case_post(client, "/v1/completions", "",
		TEXT ",\"max_tokens\":500,\"stream\":true}");
	m = front_case_pop(&c, 0);
	front_case_run(&c, m.slot);
	for (uint32_t i = 0; i < 450; i++) {
		if (i == 50) {
			before = fake_os_calls(FAKE_OS_ALLOCATE);
			sends = fake_stream_sends();
		}
		front_case_write(&c, m.slot, id, 0);
		front_case_tell(&c, &m);
		front_case_settle(&c);
	}
	CU_ASSERT_EQUAL(fake_os_calls(FAKE_OS_ALLOCATE) - before, 0);
	CU_ASSERT_EQUAL(fake_stream_sends() - sends, 400);
	front_case_finish(&c, &m, FINISH_LENGTH);
	expect(client, "\r\n0\r\n\r\n");
	front_case_settle(&c);
	front_case_close(&c);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(front__chat_stream_to_the_byte),
		SUITE_CASE(front__completion_to_the_byte),
		SUITE_CASE(front__chat_answer_is_a_message),
		SUITE_CASE(front__http_10_gets_no_chunks),
		SUITE_CASE(front__logprobs_of_chat),
		SUITE_CASE(front__logprobs_of_a_completion_stream),
		SUITE_CASE(front__two_prompts_with_two_choices),
		SUITE_CASE(front__echo_of_text_and_of_ids),
		SUITE_CASE(front__stop_string_over_two_tokens),
		SUITE_CASE(front__usage_in_every_chunk),
		SUITE_CASE(front__eos_is_no_text),
		SUITE_CASE(front__markers_of_a_client_are_text),
		SUITE_CASE(front__prompt_over_several_pages),
		SUITE_CASE(front__tokenize_and_back),
		SUITE_CASE(front__pipelined_answers_keep_their_order),
		SUITE_CASE(front__a_full_row_stops_reading),
		SUITE_CASE(front__expect_head_and_labels),
		SUITE_CASE(front__small_pages),
		SUITE_CASE(front__who_is_first_changes_with_each_step),
		SUITE_CASE(front__each_turn_reads_and_sends),
		SUITE_CASE(front__a_few_tokens_wake_no_thread),
		SUITE_CASE(front__logprobs_are_the_workers),
		SUITE_CASE(front__no_allocation_per_token),
	};

	return SUITE_MAIN("front", cases);
}
