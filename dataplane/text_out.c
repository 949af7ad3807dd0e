/* text_out.c - tokens become an answer (log -> detokenizer -> SSE or JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "dataplane/api_reply.h"
#include "dataplane/text_worker.h"

#define BODY_FIRST_BYTES 4096

struct out {
	struct text_worker *worker;
	const struct text_shared *shared;
	struct text_request *request;
	struct api_text *event;
	uint64_t stamp_ns;
};

static void note(
	const struct out *out, struct text_message message, const char *bytes)
{
	message.exchange = out->request->exchange;
	message.generation = out->request->generation;
	message.stamp_ns = out->stamp_ns;
	text_note(out->worker, &out->worker->out_notes, &message, bytes);
}

/* What was written so far goes out, in pieces; an empty one says "done". */
static void flush(const struct out *out, uint32_t choice)
{
	struct text_message message = {.kind = TEXT_BYTES,
		.choice = choice,
		.value = out->request->choices[choice].done_count};
	size_t at = 0;

	do {
		size_t left = out->event->length - at;

		message.length = (uint32_t)(left < TEXT_PIECE_BYTES_MAX
						    ? left
						    : TEXT_PIECE_BYTES_MAX);
		note(out, message,
			message.length ? out->event->data + at : NULL);
		at += message.length;
	} while (at < out->event->length);
	out->request->began |= out->event->length > 0;
	api_text_clear(out->event);
}

static void end(const struct out *out, bool failed)
{
	out->request->ended = true;
	note(out, (struct text_message){.kind = TEXT_END, .value = failed},
		NULL);
}

static void send_body(const struct out *out, int status, struct api_text *body)
{
	note(out,
		(struct text_message){.kind = TEXT_BODY,
			.value = (uint32_t)status,
			.size = body->length,
			.body = body->data},
		NULL);
	*body = (struct api_text){0};
}

/* An error: the whole answer where nothing was sent, else the last event. */
static void fail(const struct out *out, const struct api_error *error)
{
	struct text_request *request = out->request;
	struct api_text body = {0};

	if (request->ended)
		return;
	api_text_clear(out->event);
	if (request->began) {
		api_event_error(error, out->event);
		flush(out, 0);
	} else {
		api_error_write(error, &body);
		if (body.failed)
			api_text_release(&body);
		send_body(out, error->status, &body);
	}
	end(out, true);
}

static void fail_with(const struct out *out, int status, const char *code,
	const char *message)
{
	struct api_error error = {0};

	(void)api_fail_code(&error, status, code, "%s", message);
	fail(out, &error);
}

static void fail_memory(const struct out *out)
{
	fail_with(out, 500, "internal_error", "out of memory");
}

static void fail_reason(const struct out *out, enum finish_reason reason)
{
	switch (reason) {
	case FINISH_DEADLINE:
		fail_with(out, 504, "request_timeout",
			"the request took longer than this server allows");
		break;
	case FINISH_ENGINE_LOST:
		fail_with(out, 500, "engine_lost",
			"the engine that served this request has died; send "
			"it again");
		break;
	case FINISH_CANCELLED:
		fail_with(out, 503, "cancelled", "the server is shutting down");
		break;
	case FINISH_NO_TOKEN:
		fail_with(out, 500, "no_token",
			"no token could follow: everything is masked or the "
			"model gave no numbers");
		break;
	default:
		fail_with(out, 500, "internal_error",
			"the engine gave a result that cannot be");
	}
}

/* --- the end of a choice ----------------------------------------------------
 */

static void finish_body(const struct out *out)
{
	struct api_text body = {0};

	(void)api_text_reserve(&body, BODY_FIRST_BYTES);
	api_body_write(out->shared, out->request, &body);
	if (body.failed) {
		api_text_release(&body);
		fail_memory(out);
		return;
	}
	send_body(out, 200, &body);
	end(out, false);
}

static void finish_request(const struct out *out, uint32_t choice)
{
	if (!out->request->api.sampling.stream) {
		finish_body(out);
		return;
	}
	api_event_last(out->request, out->event);
	flush(out, choice);
	end(out, false);
}

static void finish_choice(
	const struct out *out, uint32_t index, enum finish_reason reason)
{
	struct text_request *request = out->request;
	struct text_choice *choice = &request->choices[index];

	choice->ended = true;
	choice->reason = reason;
	choice->kept_count = choice->done_count;
	request->output_count += choice->kept_count;
	if (request->api.sampling.stream) {
		if (!choice->began)
			api_event_first(request, index, out->event);
		choice->began = true;
		api_event_finish(request, index, out->event);
	}
	note(out,
		(struct text_message){.kind = TEXT_CHOICE,
			.choice = index,
			.value = choice->kept_count,
			.reason = reason},
		NULL);
	assert(request->open_count > 0);
	if (--request->open_count == 0)
		finish_request(out, index);
}

/* --- tokens ----------------------------------------------------------------- */

/* Tokens that end a text are no part of it. */
static bool is_hidden(const struct out *out, uint32_t id)
{
	const struct api_sampling *sampling = &out->request->api.sampling;
	const struct front_model *model = out->shared->model;

	for (uint32_t i = 0; !sampling->ignore_eos && i < model->eos_count; i++)
		if (model->eos[i] == id)
			return true;
	for (uint32_t i = 0; i < sampling->stop_id_count; i++)
		if (sampling->stop_ids[i] == id)
			return true;
	return false;
}

/* An event that is being written: tokens [from, done). */
struct event {
	bool open;
	uint32_t from;
};

static void event_open(
	const struct out *out, uint32_t index, struct event *event)
{
	struct text_choice *choice = &out->request->choices[index];

	if (!choice->began)
		api_event_first(out->request, index, out->event);
	choice->began = true;
	if (!event->open)
		api_event_begin(out->request, index, out->event);
	event->open = true;
}

static void event_close(
	const struct out *out, uint32_t index, struct event *event)
{
	uint32_t done = out->request->choices[index].done_count;

	if (event->open)
		api_event_end(out->shared, out->request, index,
			(struct api_span){event->from, done}, out->event);
	event->open = false;
	event->from = done;
}

static void add_text(const struct out *out, uint32_t index, struct event *event,
	struct detokenizer_text text)
{
	const struct api_sampling *sampling = &out->request->api.sampling;
	struct text_choice *choice = &out->request->choices[index];

	if (!sampling->stream) {
		api_text_put(&choice->text, text.text, text.length);
		return;
	}
	if (text.length == 0 && !sampling->want_logprob && choice->began)
		return;
	event_open(out, index, event);
	api_text_escape(out->event, text.text, text.length);
}

/* One token of the log; false: the choice or the request has ended. */
static bool take_token(
	const struct out *out, uint32_t index, struct event *event)
{
	struct text_choice *choice = &out->request->choices[index];
	struct detokenizer_text text = {"", 0, -1, 0, 0};
	struct token_record record;
	uint32_t id;

	if (!api_record(out->shared, choice->log_page, &choice->log,
		    choice->done_count, &record))
		return false;
	id = record.token_flags & TOKEN_ID_MASK;
	if (id >= out->shared->model->vocab)
		return false;
	if (!is_hidden(out, id))
		text = detokenizer_push(&choice->detok, id);
	choice->done_count++;
	add_text(out, index, event, text);
	if (text.stop < 0)
		return true;
	event_close(out, index, event);
	note(out,
		(struct text_message){.kind = TEXT_FINISH_AT,
			.choice = index,
			.value = choice->done_count},
		NULL);
	finish_choice(out, index, FINISH_STOP_TEXT);
	return false;
}

static void bad_log(const struct out *out, uint32_t choice)
{
	note(out, (struct text_message){.kind = TEXT_BAD, .choice = choice},
		NULL);
	fail_reason(out, FINISH_NONE);
}

/* All tokens below `count`; false when the choice has ended. */
static bool take_tokens(
	const struct out *out, uint32_t index, uint32_t count, bool joined)
{
	struct text_choice *choice = &out->request->choices[index];
	struct event event = {false, choice->done_count};

	while (choice->done_count < count) {
		if (!take_token(out, index, &event)) {
			if (!choice->ended)
				bad_log(out, index);
			return false;
		}
		if (!joined)
			event_close(out, index, &event);
	}
	event_close(out, index, &event);
	return true;
}

static bool has_failed(const struct out *out, uint32_t index)
{
	return out->event->failed || out->request->choices[index].text.failed;
}

static void on_tokens(const struct out *out, const struct text_message *message)
{
	struct text_request *request = out->request;
	uint32_t index = message->choice;

	if (take_tokens(out, index, message->value,
		    message->reason == TEXT_TOKENS_JOINED)) {
		if (has_failed(out, index)) {
			fail_memory(out);
			return;
		}
		flush(out, index);
		return;
	}
	if (!request->ended)
		flush(out, index);
}

static void on_done(const struct out *out, const struct text_message *message)
{
	struct text_request *request = out->request;
	struct text_choice *choice = &request->choices[message->choice];
	enum finish_reason reason = (enum finish_reason)message->reason;
	struct event event = {false, 0};
	struct detokenizer_text rest;

	if (!take_tokens(out, message->choice, message->value, false)) {
		if (!request->ended)
			flush(out, message->choice);
		return;
	}
	if (!api_finish_name(reason)) {
		fail_reason(out, reason);
		return;
	}
	request->cached_count += message->cached;
	rest = detokenizer_finish(&choice->detok);
	event.from = choice->done_count;
	if (rest.length > 0)
		add_text(out, message->choice, &event, rest);
	event_close(out, message->choice, &event);
	if (has_failed(out, message->choice)) {
		fail_memory(out);
		return;
	}
	finish_choice(out, message->choice,
		rest.stop >= 0 ? FINISH_STOP_TEXT : reason);
	if (!request->ended)
		flush(out, message->choice);
}

static void release(const struct out *out)
{
	note(out, (struct text_message){.kind = TEXT_RELEASED}, NULL);
	text_request_destroy(out->request);
}

void text_out_run(
	struct text_worker *worker, const struct text_message *message)
{
	const struct out out = {worker, worker->shared, message->request,
		&worker->event, message->stamp_ns};
	struct text_request *request = message->request;

	if (message->kind == TEXT_RELEASE) {
		release(&out);
		return;
	}
	if (request->ended)
		return;
	if (message->kind == TEXT_FAIL) {
		fail_reason(&out, (enum finish_reason)message->reason);
		return;
	}
	assert(message->choice < request->choice_count);
	if (request->choices[message->choice].ended)
		return;
	if (message->kind == TEXT_TOKENS)
		on_tokens(&out, message);
	else if (message->kind == TEXT_DONE)
		on_done(&out, message);
}
