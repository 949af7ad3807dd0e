/* api_reply.c - completions and chat as OpenAI writes them (text -> JSON, SSE) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dataplane/api_reply.h"

const char *api_finish_name(enum finish_reason reason)
{
	switch (reason) {
	case FINISH_STOP_TOKEN:
	case FINISH_STOP_TEXT:
		return "stop";
	case FINISH_LENGTH:
		return "length";
	default:
		return NULL;
	}
}

static bool is_chat(const struct text_request *request)
{
	return request->route == API_CHAT;
}

void api_reply_prepare(struct text_request *request)
{
	bool stream = request->api.sampling.stream;
	const char *object = is_chat(request) ? stream ? "chat.completion.chunk"
						       : "chat.completion"
					      : "text_completion";
	struct api_text *lead = &request->lead;

	api_text_puts(lead, stream ? "data: {\"id\":\"" : "{\"id\":\"");
	api_text_puts(lead, request->id);
	api_text_puts(lead, "\",\"object\":\"");
	api_text_puts(lead, object);
	api_text_puts(lead, "\",\"created\":");
	api_text_u64(lead, request->created_s);
	api_text_puts(lead, ",\"model\":");
	api_text_string(lead, request->api.model, strlen(request->api.model));
	api_text_puts(lead, ",\"choices\":[");
}

static void put_lead(const struct text_request *request, uint32_t choice,
	struct api_text *out)
{
	api_text_put(out, request->lead.data, request->lead.length);
	api_text_puts(out, "{\"index\":");
	api_text_u64(out, choice);
}

static void put_usage(const struct text_request *request, uint64_t prompt,
	uint64_t output, struct api_text *out)
{
	api_text_puts(out, "{\"prompt_tokens\":");
	api_text_u64(out, prompt);
	api_text_puts(out, ",\"completion_tokens\":");
	api_text_u64(out, output);
	api_text_puts(out, ",\"total_tokens\":");
	api_text_u64(out, prompt + output);
	api_text_puts(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
	api_text_u64(out, request->cached_count);
	api_text_puts(out,
		"},\"completion_tokens_details\":{\"reasoning_tokens\":0}}");
}

static uint64_t prompt_tokens(const struct text_request *request)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < request->api.prompt_count; i++)
		sum += request->api.prompts[i].id_count;
	return sum;
}

/* Close the choice and the event. */
static void put_tail(const struct text_request *request, uint32_t choice,
	struct api_text *out)
{
	const struct api_sampling *sampling = &request->api.sampling;
	const struct text_choice *c = &request->choices[choice];

	api_text_puts(out, "}]");
	if (sampling->continuous_usage) {
		api_text_puts(out, ",\"usage\":");
		put_usage(request, request->api.prompts[c->prompt].id_count,
			c->done_count, out);
	} else if (sampling->include_usage) {
		api_text_puts(out, ",\"usage\":null");
	}
	api_text_puts(out, "}\n\n");
}

void api_event_begin(const struct text_request *request, uint32_t choice,
	struct api_text *out)
{
	put_lead(request, choice, out);
	api_text_puts(out, is_chat(request) ? ",\"delta\":{\"content\":\""
					    : ",\"text\":\"");
}

void api_event_end(const struct text_shared *shared,
	struct text_request *request, uint32_t choice, struct api_span span,
	struct api_text *out)
{
	api_text_puts(out, is_chat(request) ? "\"}," : "\",");
	api_logprobs_write(shared, request, choice, span, out);
	api_text_puts(out, ",\"finish_reason\":null");
	put_tail(request, choice, out);
}

void api_event_first(const struct text_request *request, uint32_t choice,
	struct api_text *out)
{
	const struct text_choice *c = &request->choices[choice];
	const struct api_prompt *prompt = &request->api.prompts[c->prompt];

	if (!is_chat(request) && !request->api.sampling.echo)
		return;
	put_lead(request, choice, out);
	if (is_chat(request)) {
		api_text_puts(out, ",\"delta\":{\"role\":\"assistant\","
				   "\"content\":\"\"}");
	} else {
		api_text_puts(out, ",\"text\":");
		api_text_string(
			out, prompt->text ? prompt->text : "", prompt->length);
	}
	api_text_puts(out, ",\"logprobs\":null,\"finish_reason\":null");
	put_tail(request, choice, out);
}

static void put_finish(const struct text_choice *choice, struct api_text *out)
{
	const char *reason = api_finish_name(choice->reason);

	api_text_puts(out, ",\"finish_reason\":\"");
	api_text_puts(out, reason ? reason : "stop");
	api_text_puts(out, "\"");
}

void api_event_finish(const struct text_request *request, uint32_t choice,
	struct api_text *out)
{
	put_lead(request, choice, out);
	api_text_puts(
		out, is_chat(request) ? ",\"delta\":{}" : ",\"text\":\"\"");
	api_text_puts(out, ",\"logprobs\":null");
	put_finish(&request->choices[choice], out);
	put_tail(request, choice, out);
}

void api_event_last(const struct text_request *request, struct api_text *out)
{
	if (request->api.sampling.include_usage) {
		api_text_put(out, request->lead.data, request->lead.length);
		api_text_puts(out, "],\"usage\":");
		put_usage(request, prompt_tokens(request),
			request->output_count, out);
		api_text_puts(out, "}\n\n");
	}
	api_text_puts(out, "data: [DONE]\n\n");
}

void api_event_error(const struct api_error *error, struct api_text *out)
{
	api_text_puts(out, "data: ");
	api_error_write(error, out);
	api_text_puts(out, "\n\n");
}

static void put_body_choice(const struct text_shared *shared,
	struct text_request *request, uint32_t choice, struct api_text *out)
{
	struct text_choice *c = &request->choices[choice];
	const struct api_prompt *prompt = &request->api.prompts[c->prompt];
	struct api_span all = {0, c->kept_count};

	api_text_puts(out, choice > 0 ? ",{\"index\":" : "{\"index\":");
	api_text_u64(out, choice);
	api_text_puts(out, is_chat(request) ? ",\"message\":{\"role\":"
					      "\"assistant\",\"content\":\""
					    : ",\"text\":\"");
	if (request->api.sampling.echo && prompt->text)
		api_text_escape(out, prompt->text, prompt->length);
	if (c->text.length > 0)
		api_text_escape(out, c->text.data, c->text.length);
	if (c->text.failed)
		out->failed = true;
	api_text_puts(out, is_chat(request) ? "\",\"refusal\":null}," : "\",");
	api_logprobs_write(shared, request, choice, all, out);
	put_finish(c, out);
	api_text_puts(out, "}");
}

void api_body_write(const struct text_shared *shared,
	struct text_request *request, struct api_text *out)
{
	api_text_put(out, request->lead.data, request->lead.length);
	for (uint32_t i = 0; i < request->choice_count; i++)
		put_body_choice(shared, request, i, out);
	api_text_puts(out, "],\"usage\":");
	put_usage(request, prompt_tokens(request), request->output_count, out);
	api_text_puts(out, "}");
}
