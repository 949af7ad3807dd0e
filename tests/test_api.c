/* test_api.c - bodies, paths and keys: what is taken and what is refused */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/api.h"
#include "tests/suite.h"

static const struct front_model model = {.name = {"m", "org/other"},
	.name_count = 2,
	.created_s = 7,
	.vocab = 1000,
	.position_count = 4096,
	.temperature = 0.5f,
	.top_p = 0.9f,
	.top_k = 40,
	.repetition_penalty = 1.1f};

static const struct front_limits limits = {.prompt_list_count = 16,
	.output_default = 100,
	.request_body_bytes = 65536};

static const struct adapter_entry no_adapters[ADAPTER_ENTRY_COUNT_MAX];
static const struct api_context context = {&model, &limits, NULL};

static int parse(enum api_route route, const char *body,
	struct api_request *out, struct api_error *error)
{
	*error = (struct api_error){0};
	return api_request_parse(
		route, body, strlen(body), &context, out, error);
}

/* --- bodies that are refused ---------------------------------------------------- */

#define CHAT                                                                   \
	"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}" \
	"]"
#define TEXT "{\"model\":\"m\",\"prompt\":\"a\""

struct bad {
	enum api_route route;
	int status;
	const char *body;
	const char *param; /* "" = null */
};

static const struct bad bad_bodies[] = {
	/* JSON */
	{API_CHAT, 400, "", ""},
	{API_CHAT, 400, "nul", ""},
	{API_CHAT, 400, "[]", ""},
	{API_CHAT, 400, "\"text\"", ""},
	{API_CHAT, 400, "{\"model\":\"m\"", ""},
	{API_CHAT, 400, "{\"model\":\"m\"} x", ""},
	{API_CHAT, 400, "{\"model\":\"m\",\"model\":\"m\"}", ""},
	{API_CHAT, 400, "{\"model\":\"\xff\"}", ""},
	{API_CHAT, 400, "{\"model\":\"\\u0000\"}", ""},
	{API_CHAT, 400, "{\"model\":\"\\ud800\"}", ""},
	/* model */
	{API_COMPLETIONS, 400, "{\"prompt\":\"a\"}", "model"},
	{API_COMPLETIONS, 400, "{\"model\":3,\"prompt\":\"a\"}", "model"},
	{API_COMPLETIONS, 404, "{\"model\":\"x\",\"prompt\":\"a\"}", ""},
	{API_COMPLETIONS, 404, "{\"model\":\"M\",\"prompt\":\"a\"}", ""},
	/* prompt */
	{API_COMPLETIONS, 400, "{\"model\":\"m\"}", "prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":null}", "prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":[]}", "prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":{}}", "prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":5}", "prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":[1,\"a\"]}",
		"prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":[\"a\",1]}",
		"prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":[[1],[]]}",
		"prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":[1000]}", "prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":[-1]}", "prompt"},
	{API_COMPLETIONS, 400, "{\"model\":\"m\",\"prompt\":[1.5]}", "prompt"},
	{API_COMPLETIONS, 400,
		"{\"model\":\"m\",\"prompt\":[18446744073709551616]}", ""},
	{API_COMPLETIONS, 400,
		"{\"model\":\"m\",\"n\":9,\"prompt\":[\"a\",\"b\"]}", "prompt"},
	{API_COMPLETIONS, 400, TEXT ",\"n\":17}", "n"},
	/* messages */
	{API_CHAT, 400, "{\"model\":\"m\"}", "messages"},
	{API_CHAT, 400, "{\"model\":\"m\",\"messages\":[]}", "messages"},
	{API_CHAT, 400, "{\"model\":\"m\",\"messages\":\"a\"}", "messages"},
	{API_CHAT, 400, "{\"model\":\"m\",\"messages\":[1]}", "messages"},
	{API_CHAT, 400, "{\"model\":\"m\",\"messages\":[{}]}", "messages"},
	{API_CHAT, 400, "{\"model\":\"m\",\"messages\":[{\"role\":1}]}",
		"messages"},
	{API_CHAT, 400, "{\"model\":\"m\",\"messages\":[{\"role\":\"\"}]}",
		"messages"},
	{API_CHAT, 400,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
		"\"content\":5}]}",
		"messages"},
	{API_CHAT, 400,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
		"\"content\":[\"a\"]}]}",
		"messages"},
	{API_CHAT, 400,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
		"\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]}",
		"messages"},
	{API_CHAT, 400,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
		"\"content\":[{\"type\":\"input_audio\"}]}]}",
		"messages"},
	{API_CHAT, 400,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
		"\"content\":[{\"type\":\"text\"}]}]}",
		"messages"},
	/* numbers */
	{API_CHAT, 400, CHAT ",\"temperature\":\"1\"}", "temperature"},
	{API_CHAT, 400, CHAT ",\"temperature\":-0.1}", "temperature"},
	{API_CHAT, 400, CHAT ",\"temperature\":2.1}", "temperature"},
	{API_CHAT, 400, CHAT ",\"temperature\":true}", "temperature"},
	{API_CHAT, 400, CHAT ",\"temperature\":1e999}", ""},
	{API_CHAT, 400, CHAT ",\"top_p\":0}", "top_p"},
	{API_CHAT, 400, CHAT ",\"top_p\":1.01}", "top_p"},
	{API_CHAT, 400, CHAT ",\"min_p\":-1}", "min_p"},
	{API_CHAT, 400, CHAT ",\"top_k\":-2}", "top_k"},
	{API_CHAT, 400, CHAT ",\"top_k\":1.0}", "top_k"},
	{API_CHAT, 400, CHAT ",\"presence_penalty\":2.5}", "presence_penalty"},
	{API_CHAT, 400, CHAT ",\"frequency_penalty\":-2.5}",
		"frequency_penalty"},
	{API_CHAT, 400, CHAT ",\"repetition_penalty\":0}",
		"repetition_penalty"},
	{API_CHAT, 400, CHAT ",\"seed\":1.5}", "seed"},
	{API_CHAT, 400, CHAT ",\"seed\":9223372036854775808}", ""},
	{API_CHAT, 400, CHAT ",\"priority\":2147483648}", "priority"},
	/* lengths */
	{API_CHAT, 400, CHAT ",\"max_tokens\":0}", "max_tokens"},
	{API_CHAT, 400, CHAT ",\"max_tokens\":-1}", "max_tokens"},
	{API_CHAT, 400, CHAT ",\"max_tokens\":\"5\"}", "max_tokens"},
	{API_CHAT, 400, CHAT ",\"max_completion_tokens\":0}",
		"max_completion_tokens"},
	{API_CHAT, 400, CHAT ",\"max_tokens\":4294967296}", "max_tokens"},
	{API_CHAT, 400, CHAT ",\"max_tokens\":2,\"min_tokens\":3}",
		"min_tokens"},
	{API_CHAT, 400, CHAT ",\"min_tokens\":5000}", "min_tokens"},
	{API_CHAT, 400, CHAT ",\"n\":0}", "n"},
	{API_CHAT, 400, CHAT ",\"n\":17}", "n"},
	{API_CHAT, 400, CHAT ",\"n\":129}", "n"},
	{API_CHAT, 400, CHAT ",\"n\":16384}", "n"},
	/* log probabilities */
	{API_CHAT, 400, CHAT ",\"logprobs\":1}", "logprobs"},
	{API_CHAT, 400, CHAT ",\"logprobs\":true,\"top_logprobs\":21}",
		"top_logprobs"},
	{API_CHAT, 400, CHAT ",\"top_logprobs\":2}", "top_logprobs"},
	{API_COMPLETIONS, 400, TEXT ",\"logprobs\":true}", "logprobs"},
	{API_COMPLETIONS, 400, TEXT ",\"logprobs\":21}", "logprobs"},
	{API_COMPLETIONS, 400, TEXT ",\"logprobs\":1,\"echo\":true}",
		"logprobs"},
	/* switches and streams */
	{API_CHAT, 400, CHAT ",\"stream\":1}", "stream"},
	{API_CHAT, 400, CHAT ",\"stream_options\":{}}", "stream_options"},
	{API_CHAT, 400, CHAT ",\"stream\":true,\"stream_options\":5}",
		"stream_options"},
	{API_CHAT, 400,
		CHAT ",\"stream\":true,\"stream_options\":{\"include_usage\":"
		     "1}}",
		"include_usage"},
	{API_CHAT, 400, CHAT ",\"ignore_eos\":\"no\"}", "ignore_eos"},
	{API_COMPLETIONS, 400, TEXT ",\"echo\":0}", "echo"},
	/* stops */
	{API_CHAT, 400, CHAT ",\"stop\":5}", "stop"},
	{API_CHAT, 400, CHAT ",\"stop\":[5]}", "stop"},
	{API_CHAT, 400, CHAT ",\"stop\":\"\"}", "stop"},
	{API_CHAT, 400, CHAT ",\"stop\":[\"a\",\"\"]}", "stop"},
	{API_CHAT, 400,
		CHAT ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\","
		     "\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\","
		     "\"h\"]}",
		"stop"},
	{API_CHAT, 400, CHAT ",\"stop_token_ids\":[1000]}", "stop_token_ids"},
	{API_CHAT, 400, CHAT ",\"stop_token_ids\":[\"1\"]}", "stop_token_ids"},
	{API_CHAT, 400, CHAT ",\"stop_token_ids\":7}", "stop_token_ids"},
	/* biases and salts */
	{API_CHAT, 400, CHAT ",\"logit_bias\":[]}", "logit_bias"},
	{API_CHAT, 400, CHAT ",\"logit_bias\":{\"1000\":1}}", "logit_bias"},
	{API_CHAT, 400, CHAT ",\"logit_bias\":{\"x\":1}}", "logit_bias"},
	{API_CHAT, 400, CHAT ",\"logit_bias\":{\"+1\":1}}", "logit_bias"},
	{API_CHAT, 400, CHAT ",\"logit_bias\":{\"1\":101}}", "logit_bias"},
	{API_CHAT, 400, CHAT ",\"logit_bias\":{\"1\":\"5\"}}", "logit_bias"},
	{API_CHAT, 400, CHAT ",\"cache_salt\":\"\"}", "cache_salt"},
	{API_CHAT, 400, CHAT ",\"cache_salt\":5}", "cache_salt"},
	/* known, not supported */
	{API_CHAT, 400, CHAT ",\"response_format\":{\"type\":\"json_object\"}}",
		"response_format"},
	{API_CHAT, 400, CHAT ",\"tools\":[{}]}", "tools"},
	{API_CHAT, 400, CHAT ",\"tool_choice\":\"auto\"}", "tool_choice"},
	{API_CHAT, 400, CHAT ",\"functions\":[{}]}", "functions"},
	{API_CHAT, 400, CHAT ",\"audio\":{}}", "audio"},
	{API_CHAT, 400, CHAT ",\"modalities\":[\"text\",\"audio\"]}",
		"modalities"},
	{API_CHAT, 400, CHAT ",\"chat_template\":\"x\"}", "chat_template"},
	{API_CHAT, 400, CHAT ",\"guided_json\":{}}", "guided_json"},
	{API_CHAT, 400, CHAT ",\"use_beam_search\":true}", "use_beam_search"},
	{API_COMPLETIONS, 400, TEXT ",\"suffix\":\"x\"}", "suffix"},
	{API_COMPLETIONS, 400, TEXT ",\"best_of\":2}", "best_of"},
	{API_COMPLETIONS, 400, TEXT ",\"prompt_logprobs\":0}",
		"prompt_logprobs"},
	{API_COMPLETIONS, 400, TEXT ",\"bad_words\":[\"x\"]}", "bad_words"},
	{API_COMPLETIONS, 400, TEXT ",\"return_token_ids\":true}",
		"return_token_ids"},
	/* tokenize */
	{API_TOKENIZE, 400, "{}", "prompt"},
	{API_TOKENIZE, 400, "{\"prompt\":[1]}", "prompt"},
	{API_TOKENIZE, 404, "{\"prompt\":\"a\",\"model\":\"x\"}", ""},
	{API_TOKENIZE, 400, "{\"prompt\":\"a\",\"add_special_tokens\":1}",
		"add_special_tokens"},
	{API_DETOKENIZE, 400, "{}", "tokens"},
	{API_DETOKENIZE, 400, "{\"tokens\":\"a\"}", "tokens"},
	{API_DETOKENIZE, 400, "{\"tokens\":[1000]}", "tokens"},
};

#define BAD_COUNT (sizeof(bad_bodies) / sizeof(bad_bodies[0]))

static void test_api_request_parse__bad_bodies_name_the_field(void)
{
	CU_ASSERT(BAD_COUNT >= 60);
	for (size_t i = 0; i < BAD_COUNT; i++) {
		const struct bad *bad = &bad_bodies[i];
		struct api_request request;
		struct api_error error;
		int rc = parse(bad->route, bad->body, &request, &error);
		bool good = rc == -EINVAL && error.status == bad->status &&
			    strcmp(error.param, bad->param) == 0 &&
			    error.message[0] != '\0' && !request.prompts;

		if (!good)
			printf("\n%s\n  %d '%s' '%s'\n", bad->body,
				error.status, error.param, error.message);
		CU_ASSERT(good);
		if (rc == 0)
			api_request_release(&request);
	}
}

static void test_api_request_parse__malformed_json_has_a_position(void)
{
	struct api_request request;
	struct api_error error;

	CU_ASSERT_EQUAL(parse(API_CHAT, "{\n \"a\": tru\n}", &request, &error),
		-EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "line 2 column"));
	CU_ASSERT_STRING_EQUAL(error.code, "invalid_json");
}

static void test_api_request_parse__more_values_than_a_prompt_needs(void)
{
	size_t count = 4u << 20, at;
	char *body = suite_calloc(1, count + 64);
	struct api_request request;
	struct api_error error;

	at = (size_t)sprintf(body, "{\"model\":\"m\",\"prompt\":[1");
	while (at < count) {
		body[at++] = ',';
		body[at++] = '1';
	}
	memcpy(body + at, "]}", 3);
	CU_ASSERT_EQUAL(
		parse(API_COMPLETIONS, body, &request, &error), -EINVAL);
	CU_ASSERT_EQUAL(error.status, 400);
	free(body);
}

/* --- bodies that are taken -------------------------------------------------------- */

static void test_api_request_parse__defaults_are_the_models(void)
{
	struct api_request request;
	struct api_error error;
	const struct api_sampling *s = &request.sampling;

	CU_ASSERT_EQUAL_FATAL(parse(API_CHAT, CHAT "}", &request, &error), 0);
	CU_ASSERT_EQUAL(s->temperature, 0.5f);
	CU_ASSERT_EQUAL(s->top_p, 0.9f);
	CU_ASSERT_EQUAL(s->top_k, 40);
	CU_ASSERT_EQUAL(s->repetition_penalty, 1.1f);
	CU_ASSERT_EQUAL(s->output_max, 0);
	CU_ASSERT_EQUAL(s->choice_count, 1);
	CU_ASSERT_EQUAL(s->priority, UINT32_C(1) << 31);
	CU_ASSERT_FALSE(s->has_seed);
	CU_ASSERT_TRUE(s->skip_special);
	CU_ASSERT_TRUE(request.add_generation_prompt);
	CU_ASSERT_FALSE(request.add_special);
	CU_ASSERT_PTR_NULL(s->stops);
	api_request_release(&request);
}

static void test_api_request_parse__every_field_arrives(void)
{
	static const char body[] = TEXT
		",\"n\":3,\"max_tokens\":9,\"min_tokens\":2,\"temperature\":0,"
		"\"top_p\":0.25,\"top_k\":7,\"min_p\":0.5,"
		"\"presence_penalty\":-1,\"frequency_penalty\":1.5,"
		"\"repetition_penalty\":2,\"seed\":-3,\"priority\":-1,"
		"\"logprobs\":4,\"ignore_eos\":true,"
		"\"skip_special_tokens\":false,\"stream\":true,"
		"\"stream_options\":{\"include_usage\":true,"
		"\"continuous_usage_stats\":true},"
		"\"logit_bias\":{\"5\":-100,\"6\":1.5},"
		"\"stop_token_ids\":[8,9],\"stop\":[\"ab\",\"c\"],"
		"\"cache_salt\":\"s\",\"unknown_field\":{\"x\":[1]}}";
	struct api_request request;
	struct api_error error;
	const struct api_sampling *s = &request.sampling;

	CU_ASSERT_EQUAL_FATAL(
		parse(API_COMPLETIONS, body, &request, &error), 0);
	CU_ASSERT_EQUAL(s->choice_count, 3);
	CU_ASSERT_EQUAL(s->output_max, 9);
	CU_ASSERT_EQUAL(s->output_min, 2);
	CU_ASSERT_EQUAL(s->temperature, 0);
	CU_ASSERT_EQUAL(s->top_p, 0.25f);
	CU_ASSERT_EQUAL(s->top_k, 7);
	CU_ASSERT_EQUAL(s->min_p, 0.5f);
	CU_ASSERT_EQUAL(s->presence_penalty, -1);
	CU_ASSERT_EQUAL(s->frequency_penalty, 1.5f);
	CU_ASSERT_EQUAL(s->repetition_penalty, 2);
	CU_ASSERT_TRUE(s->has_seed);
	CU_ASSERT_EQUAL(s->seed, (uint64_t)-3);
	CU_ASSERT_EQUAL(s->priority, (UINT32_C(1) << 31) - 1);
	CU_ASSERT_TRUE(s->want_logprob);
	CU_ASSERT_EQUAL(s->logprob_count, 4);
	CU_ASSERT_TRUE(s->ignore_eos);
	CU_ASSERT_FALSE(s->skip_special);
	CU_ASSERT_TRUE(s->stream && s->include_usage && s->continuous_usage);
	CU_ASSERT_EQUAL(s->bias_count, 2);
	CU_ASSERT_EQUAL(s->bias[0].id + s->bias[1].id, 11);
	CU_ASSERT_EQUAL(s->bias[0].bias + s->bias[1].bias, -98.5f);
	CU_ASSERT_EQUAL(s->stop_id_count, 2);
	CU_ASSERT_EQUAL(s->stop_ids[1], 9);
	CU_ASSERT(s->stops && s->stops->count == 2);
	CU_ASSERT_STRING_EQUAL(s->salt, "s");
	api_request_release(&request);
}

static uint32_t prompts_of(const char *prompt, struct api_request *request)
{
	struct api_error error;
	char body[256];

	snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":%s}", prompt);
	if (parse(API_COMPLETIONS, body, request, &error) != 0)
		return 0;
	return request->prompt_count;
}

static void test_api_request_parse__prompts_in_four_shapes(void)
{
	struct api_request request;

	CU_ASSERT_EQUAL(prompts_of("\"abc\"", &request), 1);
	CU_ASSERT_STRING_EQUAL(request.prompts[0].text, "abc");
	api_request_release(&request);
	CU_ASSERT_EQUAL(prompts_of("[\"a\",\"bc\"]", &request), 2);
	CU_ASSERT_STRING_EQUAL(request.prompts[1].text, "bc");
	api_request_release(&request);
	CU_ASSERT_EQUAL(prompts_of("[3,999,0]", &request), 1);
	CU_ASSERT_EQUAL(request.prompts[0].id_count, 3);
	CU_ASSERT_EQUAL(request.prompts[0].ids[1], 999);
	CU_ASSERT_PTR_NULL(request.prompts[0].text);
	api_request_release(&request);
	CU_ASSERT_EQUAL(prompts_of("[[3],[4,5]]", &request), 2);
	CU_ASSERT_EQUAL(request.prompts[1].ids[1], 5);
	api_request_release(&request);
}

static void test_api_request_parse__parts_become_one_string(void)
{
	static const char body[] =
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
		"["
		"{\"type\":\"text\",\"text\":\"a\"},"
		"{\"type\":\"text\",\"text\":\"b\"}]},"
		"{\"role\":\"assistant\",\"content\":null}]}";
	struct api_request request;
	struct api_error error;
	const json_t *first;

	CU_ASSERT_EQUAL_FATAL(parse(API_CHAT, body, &request, &error), 0);
	first = json_array_get(request.messages, 0);
	CU_ASSERT_STRING_EQUAL(
		json_string_value(json_object_get(first, "content")), "a\nb");
	api_request_release(&request);
}

static void test_api_request_parse__values_that_ask_for_nothing(void)
{
	static const char *const bodies[] = {CHAT
		",\"tools\":[],\"tool_choice\":\"none\"}",
		CHAT ",\"response_format\":{\"type\":\"text\"}}",
		CHAT ",\"modalities\":[\"text\"],\"n\":null,\"stop\":null}",
		CHAT ",\"use_beam_search\":false,\"length_penalty\":1.0}",
		CHAT ",\"user\":\"me\",\"store\":true,\"metadata\":{}}",
		CHAT ",\"stop\":[],\"logit_bias\":{},\"stop_token_ids\":[]}",
		CHAT ",\"max_tokens\":1,\"max_completion_tokens\":5,"
		     "\"min_tokens\":4}"};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct api_request request;
		struct api_error error;

		CU_ASSERT_EQUAL(
			parse(API_CHAT, bodies[i], &request, &error), 0);
		if (error.status)
			printf("\n%s\n", error.message);
		else
			api_request_release(&request);
	}
}

/* --- errors -------------------------------------------------------------------------- */

static void test_api_error_write__has_all_four_keys(void)
{
	struct api_error error = {0};
	struct api_text out = {0};

	api_fail(&error, 400, "n", "a \"quoted\" %s", "\x01\xff");
	api_fail(&error, 500, NULL, "an echo");
	api_error_write(&error, &out);
	api_text_put(&out, "", 1);
	CU_ASSERT_STRING_EQUAL(out.data,
		"{\"error\":{\"message\":\"a \\\"quoted\\\" "
		"\\u0001\xef\xbf\xbd\",\"type\":\"invalid_request_error\","
		"\"param\":\"n\",\"code\":null}}");
	api_text_release(&out);
}

/* --- paths, keys, models ---------------------------------------------------------------- */

static struct http_text text_of(const char *string)
{
	return (struct http_text){string, strlen(string)};
}

struct path_case {
	const char *path;
	enum http_method method;
	enum front_service service;
	enum api_route route;
	int status;
};

static const struct path_case paths[] = {
	{"/v1/completions", HTTP_POST, FRONT_API, API_COMPLETIONS, 0},
	{"/v1/chat/completions", HTTP_POST, FRONT_API, API_CHAT, 0},
	{"/v1/models", HTTP_GET, FRONT_API, API_MODELS, 0},
	{"/v1/models", HTTP_HEAD, FRONT_API, API_MODELS, 0},
	{"/v1/models/org/other", HTTP_GET, FRONT_API, API_MODEL, 0},
	{"/health", HTTP_GET, FRONT_ADMIN, API_HEALTH, 0},
	{"/health", HTTP_GET, FRONT_API, API_HEALTH, 0},
	{"/metrics", HTTP_GET, FRONT_ADMIN, API_METRICS, 0},
	{"/metrics", HTTP_GET, FRONT_API, API_NONE, 404},
	{"/v1/chat/completions", HTTP_POST, FRONT_ADMIN, API_NONE, 404},
	{"/v1/completions", HTTP_GET, FRONT_API, API_COMPLETIONS, 405},
	{"/v1/models", HTTP_POST, FRONT_API, API_MODELS, 405},
	{"/v1/models", HTTP_OPTIONS, FRONT_API, API_MODELS, 405},
	{"/", HTTP_GET, FRONT_API, API_NONE, 404},
	{"/v1/models/", HTTP_GET, FRONT_API, API_NONE, 404},
	{"/v1/completions/", HTTP_POST, FRONT_API, API_NONE, 404},
};

static void test_api_route_find__paths_and_methods(void)
{
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const struct path_case *p = &paths[i];
		struct http_request request = {
			.method = p->method, .path = text_of(p->path)};
		struct api_error error = {0};
		struct api_target target;

		CU_ASSERT_EQUAL(api_route_find(&request, p->service, &target,
					&error) != 0,
			p->status != 0);
		CU_ASSERT_EQUAL(error.status, p->status);
		CU_ASSERT_EQUAL(target.route, p->route);
	}
}

static struct http_request with_key(const char *value)
{
	struct http_request request = {.header_count = 1};

	request.headers[0].name = text_of("authorization");
	request.headers[0].value = text_of(value);
	return request;
}

/* SHA-256 of "secret". */
static const struct front_key keys[2] = {
	{{1}, "one"}, {{0x2b, 0xb8, 0x0d, 0x53, 0x7b, 0x1d, 0xa3, 0xe3, 0x8b,
			       0xd3, 0x03, 0x61, 0xaa, 0x85, 0x56, 0x86, 0xbd,
			       0xe0, 0xea, 0xcd, 0x71, 0x62, 0xfe, 0xf6, 0xa2,
			       0x5f, 0xe9, 0x7b, 0xf5, 0x27, 0xa2, 0x5b},
			      "two"}};

static void test_api_key_find__bearer_only(void)
{
	struct http_request good = with_key("Bearer secret");
	struct http_request lower = with_key("bearer  secret");
	struct http_request wrong = with_key("Bearer Secret");
	struct http_request basic = with_key("Basic secret");
	struct http_request empty = with_key("Bearer ");
	struct http_request none = {0};

	CU_ASSERT_EQUAL(api_key_find(keys, 2, &good), 1);
	CU_ASSERT_EQUAL(api_key_find(keys, 2, &lower), 1);
	CU_ASSERT_EQUAL(api_key_find(keys, 2, &wrong), -1);
	CU_ASSERT_EQUAL(api_key_find(keys, 2, &basic), -1);
	CU_ASSERT_EQUAL(api_key_find(keys, 2, &empty), -1);
	CU_ASSERT_EQUAL(api_key_find(keys, 2, &none), -1);
	CU_ASSERT_EQUAL(api_key_find(keys, 1, &good), -1);
}

static void test_api_tenant_key__differs_by_tenant_and_salt(void)
{
	const uint8_t secret[32] = {9}, other[32] = {8};
	uint8_t out[5][32];

	CU_ASSERT_TRUE(api_tenant_key(secret, "a", "bc", out[0]));
	CU_ASSERT_TRUE(api_tenant_key(secret, "ab", "c", out[1]));
	CU_ASSERT_TRUE(api_tenant_key(secret, "a", "", out[2]));
	CU_ASSERT_TRUE(api_tenant_key(other, "a", "bc", out[3]));
	CU_ASSERT_TRUE(api_tenant_key(secret, "a", "bc", out[4]));
	for (int i = 1; i < 4; i++)
		CU_ASSERT_NOT_EQUAL(memcmp(out[0], out[i], 32), 0);
	CU_ASSERT_EQUAL(memcmp(out[0], out[4], 32), 0);
}

static void test_api_models__list_and_one(void)
{
	struct api_text out = {0};
	struct api_error error = {0};

	api_models_write(&model, no_adapters, &out);
	api_text_put(&out, "", 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, "\"id\":\"org/other\""));
	api_text_clear(&out);
	CU_ASSERT_EQUAL(api_model_write(&model, no_adapters,
				text_of("org/other"), &out, &error),
		0);
	CU_ASSERT_NOT_EQUAL(api_model_write(&model, no_adapters, text_of("org"),
				    &out, &error),
		0);
	CU_ASSERT_EQUAL(error.status, 404);
	CU_ASSERT_STRING_EQUAL(error.code, "model_not_found");
	api_text_release(&out);
}

/* --- the text buffer --------------------------------------------------------------------- */

static void test_api_text__escapes_and_numbers(void)
{
	struct api_text out = {0};

	api_text_string(&out, "a\"\\\n\t\x1f\xc3\xa9\xc3", 9);
	api_text_u64(&out, 0);
	api_text_u64(&out, UINT64_MAX);
	api_text_float(&out, -0.5f);
	api_text_float(&out, -1.0f / 0.0f);
	api_text_put(&out, "", 1);
	CU_ASSERT_STRING_EQUAL(out.data,
		"\"a\\\"\\\\\\n\\t\\u001f\xc3\xa9\xef\xbf\xbd\""
		"018446744073709551615-0.5-9999");
	/* The ends of lines of Unicode, and their neighbours. */
	api_text_clear(&out);
	api_text_string(&out,
		"\xc2\x84\xc2\x85\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9"
		"\xe2\x80\xaa\xe2\x80",
		18);
	api_text_put(&out, "", 1);
	CU_ASSERT_STRING_EQUAL(out.data,
		"\"\xc2\x84\\u0085\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa"
		"\xef\xbf\xbd\"");
	api_text_release(&out);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(api_request_parse__bad_bodies_name_the_field),
		SUITE_CASE(api_request_parse__malformed_json_has_a_position),
		SUITE_CASE(api_request_parse__more_values_than_a_prompt_needs),
		SUITE_CASE(api_request_parse__defaults_are_the_models),
		SUITE_CASE(api_request_parse__every_field_arrives),
		SUITE_CASE(api_request_parse__prompts_in_four_shapes),
		SUITE_CASE(api_request_parse__parts_become_one_string),
		SUITE_CASE(api_request_parse__values_that_ask_for_nothing),
		SUITE_CASE(api_error_write__has_all_four_keys),
		SUITE_CASE(api_route_find__paths_and_methods),
		SUITE_CASE(api_key_find__bearer_only),
		SUITE_CASE(api_tenant_key__differs_by_tenant_and_salt),
		SUITE_CASE(api_models__list_and_one),
		SUITE_CASE(api_text__escapes_and_numbers),
	};

	return SUITE_MAIN("api", cases);
}
