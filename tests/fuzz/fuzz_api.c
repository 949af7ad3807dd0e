/* fuzz_api.c - any bytes as the body of a POST (bytes -> request or error) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first byte chooses the route. What is accepted must lie within the
 * bounds that everything behind the parser relies on; what is refused must
 * say why.
 */
#include <stdlib.h>
#include <string.h>

#include "dataplane/api.h"
#include "tests/fuzz/fuzz.h"

static const struct front_model model = {.name = {"m"},
	.name_count = 1,
	.vocab = 1000,
	.position_count = 4096,
	.temperature = 1,
	.top_p = 1,
	.repetition_penalty = 1};
static const struct front_limits limits = {
	.prompt_list_count = 16, .output_default = 100};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_prompts(const struct api_request *request)
{
	uint32_t n = request->sampling.choice_count;

	require(request->prompt_count * n <= limits.prompt_list_count);
	for (uint32_t i = 0; i < request->prompt_count; i++) {
		const struct api_prompt *prompt = &request->prompts[i];

		require(prompt->text || prompt->ids);
		for (uint32_t k = 0; k < prompt->id_count; k++)
			require(prompt->ids[k] < model.vocab);
	}
}

static void check(const struct api_request *request)
{
	const struct api_sampling *s = &request->sampling;

	require(s->choice_count >= 1 && s->choice_count <= 128);
	require(s->temperature >= 0 && s->temperature <= 2);
	require(s->logprob_count <= LOGPROB_TOP_MAX);
	require(s->bias_count <= LOGIT_BIAS_COUNT_MAX);
	require(s->stop_id_count <= API_STOP_ID_COUNT_MAX);
	for (uint32_t i = 0; i < s->stop_id_count; i++)
		require(s->stop_ids[i] < model.vocab);
	for (uint32_t i = 0; i < s->bias_count; i++)
		require(s->bias[i].id < model.vocab);
	require(request->route != API_CHAT ||
		json_array_size(request->messages) > 0);
	check_prompts(request);
}

/* What control relies on. */
static void check_ask(const struct front_ask *ask, enum api_route route)
{
	require(adapter_name_ok(ask->name, strlen(ask->name)));
	require((ask->path[0] != '\0') == (route == API_LOAD_ADAPTER));
	require(!strpbrk(ask->path, "\n\r\t"));
}

static void ask_one(enum api_route route, const uint8_t *data, size_t size)
{
	struct api_error error = {0};
	struct front_ask ask;

	if (api_adapter_parse(route, (const char *)data, size, &ask, &error) ==
		0)
		check_ask(&ask, route);
	else
		require(error.status >= 400 && error.message[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum api_route routes[] = {
		API_COMPLETIONS, API_CHAT, API_TOKENIZE, API_DETOKENIZE};
	const struct api_context context = {&model, &limits, NULL};
	struct api_request request;
	struct api_error error = {0};
	struct api_text text = {0};

	if (size == 0)
		return 0;
	if (data[0] >= 254) {
		ask_one(data[0] == 255 ? API_LOAD_ADAPTER : API_UNLOAD_ADAPTER,
			data + 1, size - 1);
		return 0;
	}
	if (api_request_parse(routes[data[0] % 4], (const char *)data + 1,
		    size - 1, &context, &request, &error) == 0) {
		require(error.status == 0);
		check(&request);
		api_request_release(&request);
		return 0;
	}
	require(error.status >= 400 && error.type && error.message[0]);
	api_error_write(&error, &text);
	require(text.length > 0 && !memchr(text.data, '\n', text.length));
	api_text_release(&text);
	return 0;
}
