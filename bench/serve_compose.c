/* serve_compose.c - the requests of a run (options, source -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_compose.h"

#define BODY_MAX (SIZE_MAX / 4)
#define OUTPUT_DEFAULT 128
#define INPUT_DEFAULT 1024

/* Draws of different purposes come from different sequences. */
enum draw { DRAW_LENGTHS = 2, DRAW_MODELS, DRAW_PROMPTS };

struct composer {
	const struct serve_options *options;
	const struct serve_target *target;
	const struct serve_source *source;
	struct serve_plan *plan;
	struct serve_bytes data, body;
	struct serve_random lengths, models;
	double *sums; /* owned, of the models' weights */
	char **names; /* owned, the models' as JSON strings */
	char *extra; /* owned, ",\"key\":value..." or "" */
	uint64_t seed;
	struct error *err;
};

void serve_model_sums(const struct serve_options *options, double *out)
{
	double sum = 0;

	for (uint32_t i = 0; i < options->model_count; i++) {
		sum += options->law == SERVE_MODELS_ZIPF
			       ? pow(i + 1, -options->law_parameter)
			       : options->models[i].weight;
		out[i] = sum;
	}
}

uint32_t serve_model_draw(const struct serve_options *options,
	const double *sums, uint64_t index, struct serve_random *random)
{
	uint32_t count = options->model_count;

	switch (options->law) {
	case SERVE_MODELS_ROUND_ROBIN:
		return (uint32_t)(index % count);
	case SERVE_MODELS_POWER:
		return serve_random_power(
			random, count, options->law_parameter);
	case SERVE_MODELS_WEIGHTED:
	case SERVE_MODELS_ZIPF:
		break;
	}
	return serve_random_weighted(random, sums, count);
}

/* --- pieces of a body ------------------------------------------------------ */

static int put(struct serve_bytes *bytes, const char *text)
{
	return serve_bytes_add(bytes, text, strlen(text), BODY_MAX);
}

static int put_prompt(
	struct composer *composer, size_t index, struct serve_item *item)
{
	const struct serve_source *source = composer->source;
	const struct serve_options *options = composer->options;
	const struct serve_trace_row *row = NULL;

	if (source->prompt_count) {
		const struct serve_prompt *prompt =
			&source->prompts[index % source->prompt_count];

		item->input_tokens = prompt->input_tokens;
		if (prompt->output_tokens)
			item->output_tokens = prompt->output_tokens;
		return serve_bytes_add(&composer->body, prompt->member,
			prompt->bytes, BODY_MAX);
	}
	if (source->trace.count) {
		row = &source->trace.rows[index % source->trace.count];
		item->input_tokens = row->input_tokens;
		item->output_tokens = row->output_tokens;
	} else {
		struct serve_range range = options->input;

		if (!range.high)
			range.low = range.high = INPUT_DEFAULT;
		item->input_tokens = serve_random_between(
			&composer->lengths, range.low, range.high);
	}
	return serve_source_random(source,
		serve_random_mix(composer->seed, DRAW_PROMPTS), index,
		item->input_tokens, row, &composer->body);
}

static int put_parameters(
	struct composer *composer, const struct serve_item *item)
{
	const struct serve_options *options = composer->options;
	char text[64];
	int rc;

	snprintf(text, sizeof(text), ",\"%s\":%u",
		options->chat ? "max_completion_tokens" : "max_tokens",
		item->output_tokens);
	rc = put(&composer->body, text);
	if (rc == 0 && !options->no_stream)
		rc = put(&composer->body, ",\"stream\":true");
	if (rc == 0 && !options->no_stream && !options->no_usage)
		rc = put(&composer->body,
			",\"stream_options\":{\"include_usage\":true}");
	if (rc == 0 && options->ignore_eos)
		rc = put(&composer->body, ",\"ignore_eos\":true");
	if (rc == 0)
		rc = put(&composer->body, composer->extra);
	return rc ? rc : put(&composer->body, "}");
}

static int compose_body(
	struct composer *composer, size_t index, struct serve_item *item)
{
	const struct serve_options *options = composer->options;
	struct serve_range range = options->output;
	int rc;

	if (!range.high)
		range.low = range.high = OUTPUT_DEFAULT;
	item->output_tokens =
		serve_random_between(&composer->lengths, range.low, range.high);
	item->model = serve_model_draw(
		options, composer->sums, index, &composer->models);
	composer->body.length = 0;
	rc = put(&composer->body, "{\"model\":");
	if (rc == 0)
		rc = put(&composer->body, composer->names[item->model]);
	if (rc == 0)
		rc = put(&composer->body, ",");
	if (rc == 0)
		rc = put_prompt(composer, index, item);
	return rc ? rc : put_parameters(composer, item);
}

int serve_compose_add(struct serve_plan *plan, struct serve_bytes *data,
	const struct serve_target *target, const struct serve_call *call,
	struct serve_item item)
{
	int rc;

	item.offset = data->length;
	rc = serve_call_head(target, call, data);
	if (rc == 0)
		rc = serve_bytes_add(
			data, call->body, call->body_bytes, BODY_MAX);
	if (rc)
		return rc;
	item.bytes = data->length - item.offset;
	plan->items[plan->count++] = item;
	return 0;
}

static int compose_one(struct composer *composer, size_t index)
{
	const struct serve_options *options = composer->options;
	struct serve_item item = {0};
	struct serve_call call = {.method = "POST",
		.path = options->chat ? "/v1/chat/completions"
				      : "/v1/completions",
		.api_key = options->api_key};
	int rc = compose_body(composer, index, &item);

	if (rc)
		return rc;
	call.body = composer->body.data;
	call.body_bytes = composer->body.length;
	return serve_compose_add(
		composer->plan, &composer->data, composer->target, &call, item);
}

/* --- the whole ------------------------------------------------------------- */

static int check_memory(const struct composer *composer)
{
	struct serve_plan *plan = composer->plan;
	size_t bytes, most = composer->options->memory_max_bytes;

	plan->data_bytes = composer->data.room;
	bytes = serve_plan_bytes(plan);
	if (bytes <= most)
		return 0;
	return error_set(composer->err, EFBIG,
		"the run needs more than --memory-max: %zu MiB after %zu of "
		"its "
		"requests, %zu MiB allowed",
		bytes >> 20, plan->count, most >> 20);
}

static int compose_all(struct composer *composer, size_t count)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = compose_one(composer, i);
		if (rc)
			return error_set(composer->err, -rc, "request %zu: %s",
				i, strerror(-rc));
		if (i % 256 == 255 || i == count - 1)
			rc = check_memory(composer);
	}
	return rc;
}

static int set_instants(struct composer *composer, size_t count)
{
	const struct serve_options *options = composer->options;
	const struct serve_trace *trace = &composer->source->trace;
	struct serve_item *items = composer->plan->items;
	struct serve_arrivals arrivals = options->arrivals;
	uint64_t *at_ns;

	if (trace->count) {
		for (size_t i = 0; i < count; i++)
			items[i].due_ns =
				(uint64_t)(trace->rows[i].at_s /
					   options->trace_speed * 1e9);
		return 0;
	}
	at_ns = calloc(count, sizeof(*at_ns));
	if (!at_ns)
		return error_set(
			composer->err, ENOMEM, "no memory for instants");
	arrivals.seed = composer->seed;
	if (options->max_concurrency)
		arrivals.kind = SERVE_AT_ONCE;
	serve_arrivals_fill(&arrivals, at_ns, count);
	for (size_t i = 0; i < count; i++)
		items[i].due_ns = at_ns[i];
	free(at_ns);
	return 0;
}

/* The members of --extra-body, each behind a comma. */
static char *read_extra(const struct serve_options *options, struct error *err)
{
	json_error_t fault;
	json_t *object;
	char *text = NULL;

	if (!options->extra_body)
		return strdup("");
	object =
		json_loads(options->extra_body, JSON_REJECT_DUPLICATES, &fault);
	if (!json_is_object(object)) {
		error_set(err, EINVAL, "--extra-body: %s",
			object ? "not an object" : fault.text);
		json_decref(object);
		return NULL;
	}
	text = json_dumps(object, JSON_COMPACT);
	if (text) {
		size_t length = strlen(text);

		/* {"a":1} becomes ,"a":1 and {} becomes nothing. */
		text[0] = ',';
		text[length - 1] = '\0';
		if (length == 2)
			text[0] = '\0';
	}
	json_decref(object);
	return text;
}

static int prepare(struct composer *composer)
{
	const struct serve_options *options = composer->options;
	uint32_t count = options->model_count;

	composer->extra = read_extra(options, composer->err);
	if (!composer->extra)
		return error_set(composer->err, ENOMEM, "no memory");
	composer->sums = calloc(count, sizeof(*composer->sums));
	composer->names = calloc(count, sizeof(*composer->names));
	if (!composer->sums || !composer->names)
		return error_set(composer->err, ENOMEM, "no memory");
	serve_model_sums(options, composer->sums);
	for (uint32_t i = 0; i < count; i++) {
		json_t *name = json_string(options->models[i].name);

		composer->names[i] =
			name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
		json_decref(name);
		if (!composer->names[i])
			return error_set(composer->err, EINVAL,
				"model name is not UTF-8");
	}
	return 0;
}

static void release(struct composer *composer)
{
	for (uint32_t i = 0;
		composer->names && i < composer->options->model_count; i++)
		free(composer->names[i]);
	free(composer->names);
	free(composer->sums);
	free(composer->extra);
	serve_bytes_release(&composer->body);
}

static void set_expect(
	const struct serve_options *options, struct serve_expect *out)
{
	*out = (struct serve_expect){.chat = options->chat,
		.stream = !options->no_stream,
		.include_usage = !options->no_usage,
		.exact_chunks = options->exact_chunks,
		.ignore_eos = options->ignore_eos,
		.keep_text = options->detail};
}

int serve_compose(const struct serve_options *options,
	const struct serve_target *target, const struct serve_source *source,
	struct serve_draw draw, struct serve_plan *out, struct error *err)
{
	struct composer composer = {.options = options,
		.target = target,
		.source = source,
		.plan = out,
		.lengths = {serve_random_mix(draw.seed, DRAW_LENGTHS)},
		.models = {serve_random_mix(draw.seed, DRAW_MODELS)},
		.seed = draw.seed,
		.err = err};
	int rc;

	memset(out, 0, sizeof(*out));
	set_expect(options, &out->expect);
	out->items = calloc(draw.count, sizeof(*out->items));
	if (!out->items)
		return error_set(err, ENOMEM, "no memory for requests");
	rc = prepare(&composer);
	if (rc == 0)
		rc = compose_all(&composer, draw.count);
	out->data = composer.data.data;
	if (rc == 0)
		rc = set_instants(&composer, draw.count);
	if (rc == 0 && serve_plan_seal(out))
		rc = error_set(err, ENOMEM, "no memory for results");
	release(&composer);
	if (rc)
		serve_plan_release(out);
	return rc;
}
