/* api_sampling.c - how to sample, stop and stream (JSON -> api_sampling) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/api_json.h"

#define TEMPERATURE_MAX 2.0
#define PENALTY_MAX 2.0
#define REPETITION_MAX 100.0
#define BIAS_MAX 100.0
#define PRIORITY_ZERO (INT64_C(1) << 31)

static void numbers(const struct api_fields *fields,
	const struct front_model *model, struct api_sampling *out)
{
	struct api_range penalty = {-PENALTY_MAX, PENALTY_MAX, false};
	int64_t top_k;

	out->temperature = api_field_float(fields, "temperature",
		(struct api_range){0, TEMPERATURE_MAX, false},
		model->temperature);
	out->top_p = api_field_float(
		fields, "top_p", (struct api_range){0, 1, true}, model->top_p);
	out->min_p = api_field_float(
		fields, "min_p", (struct api_range){0, 1, false}, 0);
	out->presence_penalty =
		api_field_float(fields, "presence_penalty", penalty, 0);
	out->frequency_penalty =
		api_field_float(fields, "frequency_penalty", penalty, 0);
	out->repetition_penalty = api_field_float(fields, "repetition_penalty",
		(struct api_range){0, REPETITION_MAX, true},
		model->repetition_penalty);
	/* -1 and 0 both mean "all", as in vLLM. */
	top_k = api_field_integer(
		fields, "top_k", -1, MODEL_VOCAB_MAX, model->top_k);
	out->top_k = top_k > 0 ? (uint32_t)top_k : 0;
	out->has_seed = api_field(fields, "seed") != NULL;
	out->seed = (uint64_t)api_field_integer(
		fields, "seed", INT64_MIN, INT64_MAX, 0);
	out->priority = (uint32_t)(api_field_integer(fields, "priority",
					   INT32_MIN, INT32_MAX, 0) +
				   PRIORITY_ZERO);
}

static void lengths(const struct api_fields *fields, enum api_route route,
	const struct api_context *context, struct api_sampling *out)
{
	uint32_t most = context->model->position_count;
	uint32_t max = api_field_u32(fields, "max_tokens", 1, UINT32_MAX, 0);

	/* The newer name wins, as OpenAI deprecates the other. */
	if (route == API_CHAT)
		max = api_field_u32(
			fields, "max_completion_tokens", 1, UINT32_MAX, max);
	out->output_max = max;
	out->output_min = api_field_u32(fields, "min_tokens", 0, most, 0);
	if (max > 0 && out->output_min > max)
		api_fail(fields->error, 400, "min_tokens",
			"'min_tokens' is %u, above 'max_tokens', which is %u",
			out->output_min, max);
	out->choice_count =
		api_field_u32(fields, "n", 1, REQUEST_CHOICE_COUNT_MAX, 1);
	out->ignore_eos = api_field_bool(fields, "ignore_eos", false);
	out->skip_special = api_field_bool(fields, "skip_special_tokens", true);
}

static void logprobs(const struct api_fields *fields, enum api_route route,
	struct api_sampling *out)
{
	if (route == API_COMPLETIONS) {
		out->want_logprob = api_field(fields, "logprobs") != NULL;
		out->logprob_count = api_field_u32(
			fields, "logprobs", 0, LOGPROB_TOP_MAX, 0);
		return;
	}
	out->want_logprob = api_field_bool(fields, "logprobs", false);
	out->logprob_count =
		api_field_u32(fields, "top_logprobs", 0, LOGPROB_TOP_MAX, 0);
	if (out->logprob_count > 0 && !out->want_logprob)
		api_fail(fields->error, 400, "top_logprobs",
			"'top_logprobs' needs 'logprobs' to be true");
}

static void streaming(const struct api_fields *fields, struct api_sampling *out)
{
	json_t *options = api_field_object(fields, "stream_options");
	struct api_fields inner = {options, fields->error};

	out->stream = api_field_bool(fields, "stream", false);
	if (!options)
		return;
	if (!out->stream) {
		api_fail(fields->error, 400, "stream_options",
			"'stream_options' needs 'stream' to be true");
		return;
	}
	out->include_usage = api_field_bool(&inner, "include_usage", false);
	out->continuous_usage =
		out->include_usage &&
		api_field_bool(&inner, "continuous_usage_stats", false);
}

/* A decimal number without sign or blank: the key of a logit_bias. */
static bool decimal(const char *text, uint64_t *out)
{
	uint64_t value = 0;
	size_t length = strlen(text);

	if (length == 0 || length > 10)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(text[i] - '0');
	}
	*out = value;
	return true;
}

static bool bias_one(const struct api_fields *fields, const char *key,
	const json_t *value, uint32_t vocab, struct api_bias *out)
{
	double bias = json_number_value(value);
	uint64_t id;

	if (!decimal(key, &id) || id >= vocab) {
		api_fail(fields->error, 400, "logit_bias",
			"'logit_bias' has a key that is no token id of this "
			"model (0 to %u)",
			vocab - 1);
		return false;
	}
	if (!json_is_number(value) || !(bias >= -BIAS_MAX) ||
		!(bias <= BIAS_MAX)) {
		api_fail(fields->error, 400, "logit_bias",
			"'logit_bias' of token %u must be a number from -100 "
			"to 100",
			(uint32_t)id);
		return false;
	}
	out->id = (uint32_t)id;
	out->bias = (float)bias;
	return true;
}

static void biases(const struct api_fields *fields, uint32_t vocab,
	struct api_sampling *out)
{
	json_t *object = api_field_object(fields, "logit_bias"), *value;
	const char *key;

	if (json_object_size(object) > LOGIT_BIAS_COUNT_MAX) {
		api_fail(fields->error, 400, "logit_bias",
			"'logit_bias' must have at most %d entries, not %zu",
			LOGIT_BIAS_COUNT_MAX, json_object_size(object));
		return;
	}
	json_object_foreach(object, key, value)
	{
		if (!bias_one(fields, key, value, vocab,
			    &out->bias[out->bias_count]))
			return;
		out->bias_count++;
	}
}

static void stop_ids(const struct api_fields *fields, uint32_t vocab,
	struct api_sampling *out)
{
	json_t *array = api_field_array(
		fields, "stop_token_ids", API_STOP_ID_COUNT_MAX);

	for (size_t i = 0; i < json_array_size(array); i++) {
		if (!api_token_id(fields, "stop_token_ids",
			    json_array_get(array, i), vocab, &out->stop_ids[i]))
			return;
		out->stop_id_count++;
	}
}

static void stop_texts(const struct api_fields *fields, const char **texts,
	const size_t *lengths_bytes, size_t count, struct api_sampling *out)
{
	int rc;

	if (count == 0)
		return;
	out->stops = calloc(1, sizeof(*out->stops));
	if (!out->stops) {
		api_fail(fields->error, 500, NULL, "out of memory");
		return;
	}
	rc = stop_set_init(out->stops, texts, lengths_bytes, count);
	if (rc)
		api_fail(fields->error, 400, "stop",
			"'stop' must be 1 to %d strings of 1 to %d bytes",
			STOP_COUNT_MAX, STOP_BYTES_MAX);
}

static void stops(const struct api_fields *fields, struct api_sampling *out)
{
	json_t *value = api_field(fields, "stop");
	const char *texts[STOP_COUNT_MAX];
	size_t length[STOP_COUNT_MAX], count = 1;

	if (!value)
		return;
	if (json_is_array(value))
		count = json_array_size(value);
	if (count > STOP_COUNT_MAX) {
		api_fail(fields->error, 400, "stop",
			"'stop' must have at most %d strings, not %zu",
			STOP_COUNT_MAX, count);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const json_t *one =
			json_is_array(value) ? json_array_get(value, i) : value;

		if (!json_is_string(one)) {
			api_fail(fields->error, 400, "stop",
				"'stop' must be a string or an array of "
				"strings");
			return;
		}
		texts[i] = json_string_value(one);
		length[i] = json_string_length(one);
	}
	stop_texts(fields, texts, length, count, out);
}

static void salt(const struct api_fields *fields, struct api_sampling *out)
{
	const char *text =
		api_field_text(fields, "cache_salt", API_SALT_BYTES_MAX);

	if (!text)
		return;
	if (!text[0])
		api_fail(fields->error, 400, "cache_salt",
			"'cache_salt' must not be empty");
	memcpy(out->salt, text, strlen(text) + 1);
}

void api_sampling_parse(const struct api_fields *fields, enum api_route route,
	const struct api_context *context, struct api_sampling *out)
{
	numbers(fields, context->model, out);
	lengths(fields, route, context, out);
	logprobs(fields, route, out);
	streaming(fields, out);
	biases(fields, context->model->vocab, out);
	stop_ids(fields, context->model->vocab, out);
	stops(fields, out);
	salt(fields, out);
	if (route == API_COMPLETIONS)
		out->echo = api_field_bool(fields, "echo", false);
	if (out->echo && out->want_logprob)
		api_fail(fields->error, 400, "logprobs",
			"'logprobs' together with 'echo' is not supported: "
			"this server has no log probabilities of prompts");
}
