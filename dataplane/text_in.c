/* text_in.c - a body becomes token ids (JSON -> template -> tokenizer) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "dataplane/api_reply.h"
#include "dataplane/text_worker.h"

#define COMPLETION_TOKENS_DEFAULT 16 /* max_tokens of OpenAI's completions */
#define RENDER_TIME_NS (5 * NS_PER_S)

struct job {
	const struct text_shared *shared;
	struct tokenizer_scratch *scratch;
	size_t text_bytes_max;
	struct text_request *request;
	struct api_error *error;
};

/* --- tokenise -------------------------------------------------------------- */

static int encode(const struct job *job, const struct tokenizer_input *input,
	const char *param, struct api_prompt *prompt)
{
	size_t capacity, count = 0;
	uint32_t *ids, *fit;
	int rc;

	if (input->length > job->text_bytes_max ||
		!mul_ok(input->length, 2, &capacity) ||
		!add_ok(capacity, (size_t)2 * TOKENIZER_TEMPLATE_IDS_MAX,
			&capacity))
		return api_fail(job->error, 400, param,
			"the prompt is %zu bytes long; the most is %zu",
			input->length, job->text_bytes_max);
	ids = malloc(capacity * sizeof(*ids));
	if (!ids)
		return api_fail(job->error, 500, NULL, "out of memory");
	rc = tokenizer_encode(job->scratch, input, ids, capacity, &count);
	if (rc) {
		free(ids);
		return api_fail(job->error, 400, param,
			"the prompt cannot be tokenised within this server's "
			"limits");
	}
	fit = realloc(ids, (count ? count : 1) * sizeof(*ids));
	free(prompt->ids);
	prompt->ids = fit;
	if (!fit)
		prompt->ids = ids;
	prompt->id_count = (uint32_t)count;
	return 0;
}

static int encode_texts(const struct job *job)
{
	struct api_request *api = &job->request->api;

	for (uint32_t i = 0; i < api->prompt_count; i++) {
		struct api_prompt *prompt = &api->prompts[i];
		/* No spans: no byte of a client's text is trusted. */
		const struct tokenizer_input input = {.text = prompt->text,
			.length = prompt->length,
			.add_special = api->add_special};

		if (prompt->text && encode(job, &input, "prompt", prompt))
			return -EINVAL;
	}
	return 0;
}

/* --- chat ------------------------------------------------------------------ */

static int render_failed(const struct job *job, int rc, const struct error *err)
{
	if (rc == -ENOMEM)
		return api_fail(job->error, 400, "messages",
			"the conversation needs more memory than this "
			"server gives to a template");
	return api_fail(job->error, 400, "messages",
		"the chat template refuses this conversation: %s", err->text);
}

static int render(const struct job *job, struct jinja_output *out)
{
	struct api_request *api = &job->request->api;
	struct jinja_limits limits = jinja_limits_default();
	struct error err = {0};
	time_t now = time(NULL);
	struct chat_request chat = {.messages = api->messages,
		.documents = api->documents,
		.client_kwargs = api->kwargs,
		.add_generation_prompt = api->add_generation_prompt,
		.trust = CHAT_TRUST_TEMPLATE};
	struct tm utc;
	int rc;

	if (!job->shared->chat)
		return api_fail(job->error, 400, "messages",
			"this model has no chat template; use "
			"/v1/completions");
	gmtime_r(&now, &utc);
	chat.now = &utc;
	limits.output_bytes = job->text_bytes_max;
	limits.deadline = mono_add(mono_now(), RENDER_TIME_NS);
	rc = chat_render(job->shared->chat, &chat, &limits, out, &err);
	return rc ? render_failed(job, rc, &err) : 0;
}

static int encode_chat(const struct job *job)
{
	struct api_request *api = &job->request->api;
	struct jinja_output text;
	struct tokenizer_input input;
	int rc = render(job, &text);

	if (rc)
		return rc;
	input = (struct tokenizer_input){.text = text.text,
		.length = text.length,
		.spans = text.spans,
		.span_count = text.span_count,
		.add_special = api->add_special};
	assert(!api->prompts);
	api->prompts = calloc(1, sizeof(*api->prompts));
	if (api->prompts) {
		api->prompt_count = 1;
		rc = encode(job, &input, "messages", &api->prompts[0]);
	} else {
		rc = api_fail(job->error, 500, NULL, "out of memory");
	}
	jinja_output_release(&text);
	return rc;
}

/* --- lengths ----------------------------------------------------------------
 */

static int check_length(const struct job *job, uint32_t prompt_tokens)
{
	struct api_sampling *sampling = &job->request->api.sampling;
	uint32_t positions = job->shared->model->position_count;
	bool chat = job->request->route == API_CHAT;
	const char *param = chat ? "messages" : "prompt";

	if (prompt_tokens == 0)
		return api_fail(job->error, 400, param, "the prompt is empty");
	if (prompt_tokens >= positions) {
		api_fail(job->error, 400, param,
			"the prompt has %u tokens; this model's context holds "
			"%u, prompt and output together",
			prompt_tokens, positions);
	} else if (sampling->output_max > positions - prompt_tokens) {
		api_fail(job->error, 400, "max_tokens",
			"the prompt has %u tokens and %u were asked for; this "
			"model's context holds %u, prompt and output together",
			prompt_tokens, sampling->output_max, positions);
	} else {
		return 0;
	}
	job->error->code = "context_length_exceeded";
	return -EINVAL;
}

/* What the client left open: as many as OpenAI gives, or as fit. */
static int default_length(const struct job *job, uint32_t longest)
{
	struct api_sampling *sampling = &job->request->api.sampling;
	uint32_t room = job->shared->model->position_count - longest;
	uint32_t most = job->request->route == API_CHAT
				? job->shared->limits->output_default
				: COMPLETION_TOKENS_DEFAULT;

	if (sampling->output_max == 0)
		sampling->output_max = most < room ? most : room;
	if (sampling->output_min > sampling->output_max)
		return api_fail(job->error, 400, "min_tokens",
			"'min_tokens' is %u, above the %u tokens that this "
			"request may have",
			sampling->output_min, sampling->output_max);
	return 0;
}

static int check_lengths(const struct job *job)
{
	struct api_request *api = &job->request->api;
	uint32_t longest = 0;

	for (uint32_t i = 0; i < api->prompt_count; i++) {
		if (check_length(job, api->prompts[i].id_count))
			return -EINVAL;
		if (api->prompts[i].id_count > longest)
			longest = api->prompts[i].id_count;
	}
	return default_length(job, longest);
}

/* --- what generation needs ------------------------------------------------- */

/* The text of a prompt of ids, for echo. */
static int decode(
	const struct job *job, struct api_prompt *prompt, bool skip_special)
{
	struct detokenizer *d = malloc(sizeof(*d));
	struct api_text text = {0};
	struct detokenizer_text part;

	if (!d)
		return api_fail(job->error, 500, NULL, "out of memory");
	detokenizer_init(d, job->shared->tok, NULL, skip_special);
	for (uint32_t i = 0; i <= prompt->id_count; i++) {
		part = i < prompt->id_count
			       ? detokenizer_push(d, prompt->ids[i])
			       : detokenizer_finish(d);
		api_text_put(&text, part.text, part.length);
	}
	free(d);
	if (text.failed || !api_text_reserve(&text, 1)) {
		api_text_release(&text);
		return api_fail(job->error, 500, NULL, "out of memory");
	}
	prompt->text = text.data;
	prompt->length = text.length;
	return 0;
}

static int make_choices(const struct job *job)
{
	struct text_request *request = job->request;
	struct api_request *api = &request->api;
	uint32_t n = api->sampling.choice_count;
	uint32_t count = api->prompt_count * n;

	assert(count > 0);
	request->choices = calloc(count, sizeof(*request->choices));
	if (!request->choices)
		return api_fail(job->error, 500, NULL, "out of memory");
	request->choice_count = request->open_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct text_choice *choice = &request->choices[i];

		choice->prompt = i / n;
		choice->log.page = choice->top.page = PAYLOAD_NONE;
		choice->log_page = choice->top_page = PAYLOAD_NONE;
		detokenizer_init(&choice->detok, job->shared->tok,
			api->sampling.stops, api->sampling.skip_special);
	}
	return 0;
}

static int prepare(const struct job *job)
{
	struct text_request *request = job->request;
	struct api_request *api = &request->api;

	if (check_lengths(job))
		return -EINVAL;
	for (uint32_t i = 0; api->sampling.echo && i < api->prompt_count; i++)
		if (!api->prompts[i].text &&
			decode(job, &api->prompts[i],
				api->sampling.skip_special))
			return -EINVAL;
	if (make_choices(job))
		return -EINVAL;
	api_reply_prepare(request);
	if (request->lead.failed)
		return api_fail(job->error, 500, NULL, "out of memory");
	return 0;
}

/* --- /tokenize, /detokenize ------------------------------------------------- */

static void reply_tokens(const struct job *job)
{
	struct text_request *request = job->request;
	const struct api_prompt *prompt = &request->api.prompts[0];
	struct api_text *out = &request->reply;

	api_text_puts(out, "{\"count\":");
	api_text_u64(out, prompt->id_count);
	api_text_puts(out, ",\"max_model_len\":");
	api_text_u64(out, job->shared->model->position_count);
	api_text_puts(out, ",\"tokens\":[");
	for (uint32_t i = 0; i < prompt->id_count; i++) {
		if (i > 0)
			api_text_put(out, ",", 1);
		api_text_u64(out, prompt->ids[i]);
	}
	api_text_puts(out, "],\"token_strs\":");
	if (!request->api.return_token_strs) {
		api_text_puts(out, "null}");
		return;
	}
	for (uint32_t i = 0; i < prompt->id_count; i++) {
		size_t length = 0;
		const char *bytes = tokenizer_token_bytes(
			job->shared->tok, prompt->ids[i], &length);

		api_text_put(out, i > 0 ? "," : "[", 1);
		api_text_string(out, bytes ? bytes : "", bytes ? length : 0);
	}
	api_text_puts(out, prompt->id_count > 0 ? "]}" : "[]}");
}

static int reply_text(const struct job *job)
{
	struct text_request *request = job->request;
	struct api_prompt *prompt = &request->api.prompts[0];

	if (decode(job, prompt, false))
		return -EINVAL;
	api_text_puts(&request->reply, "{\"prompt\":");
	api_text_string(&request->reply, prompt->text, prompt->length);
	api_text_puts(&request->reply, "}");
	return 0;
}

static int run_route(const struct job *job)
{
	struct text_request *request = job->request;
	struct api_request *api = &request->api;
	int rc;

	if (request->route == API_DETOKENIZE)
		return reply_text(job);
	rc = api->messages ? encode_chat(job) : encode_texts(job);
	if (rc)
		return rc;
	if (request->route != API_TOKENIZE)
		return prepare(job);
	reply_tokens(job);
	return 0;
}

void text_in_run(const struct text_shared *shared,
	struct tokenizer_scratch *scratch, size_t text_bytes_max,
	struct text_request *request)
{
	const struct api_context context = {shared->model, shared->limits,
		shared->segment ? segment_adapter_table(shared->segment)
				: NULL};
	const struct job job = {
		shared, scratch, text_bytes_max, request, &request->error};
	int rc;

	if (__atomic_load_n(&request->cancelled, __ATOMIC_RELAXED))
		rc = api_fail_code(
			job.error, 408, "cancelled", "the client has gone");
	else
		rc = api_request_parse(request->route, request->body,
			request->body_length, &context, &request->api,
			job.error);
	free(request->body);
	request->body = NULL;
	if (rc == 0)
		rc = run_route(&job);
	if (request->reply.failed)
		rc = api_fail(job.error, 500, NULL, "out of memory");
	/* What only this thread needs does not wait for the answer. */
	json_decref(request->api.messages);
	json_decref(request->api.documents);
	json_decref(request->api.kwargs);
	request->api.messages = request->api.documents = NULL;
	request->api.kwargs = NULL;
	assert((rc != 0) == (request->error.status != 0));
}
