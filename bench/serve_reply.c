/* serve_reply.c - one answer, checked as it comes (bytes -> verdict, times) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "bench/serve_reply.h"
#include "bench/serve_reply_chunk.h"

/* What is kept of an answer that is an error. */
#define ERROR_BODY_BYTES 2048

void serve_reply_start(struct serve_reply *reply,
	const struct serve_expect *expect, uint32_t *gaps, uint32_t gap_room)
{
	memset(&reply->verdict, 0, sizeof(reply->verdict));
	reply->verdict.text_hash = SERVE_TEXT_HASH_START;
	reply->example[0] = '\0';
	reply->expect = *expect;
	reply->gaps = gaps;
	reply->gap_room = gap_room;
	reply->event_count = 0;
	reply->role_seen = reply->usage_seen = reply->done_seen = false;
	reply->has_id = reply->has_model = reply->has_created = false;
	reply->body.length = reply->text.length = 0;
	serve_http_init(&reply->http);
	serve_sse_reset(&reply->sse);
}

void serve_reply_release(struct serve_reply *reply)
{
	serve_sse_release(&reply->sse);
	serve_bytes_release(&reply->body);
	serve_bytes_release(&reply->text);
	serve_bytes_release(&reply->scratch);
}

void serve_reply_fault(struct serve_reply *reply, enum serve_fault fault,
	const char *example, size_t length)
{
	if (reply->verdict.fault != SERVE_FAULT_NONE)
		return;
	reply->verdict.fault = fault;
	if (!example)
		return;
	if (length > SERVE_EXAMPLE_BYTES - 1)
		length = SERVE_EXAMPLE_BYTES - 1;
	memcpy(reply->example, example, length);
	reply->example[length] = '\0';
}

static void fault_text(
	struct serve_reply *reply, enum serve_fault fault, const char *text)
{
	serve_reply_fault(reply, fault, text, strlen(text));
}

/* --- at the end ------------------------------------------------------------ */

static void check_counts(struct serve_reply *reply)
{
	const struct serve_verdict *verdict = &reply->verdict;
	const struct serve_expect *expect = &reply->expect;
	uint32_t tokens = verdict->completion_tokens;

	if (!verdict->has_usage) {
		if (expect->include_usage || !expect->stream)
			serve_reply_fault(
				reply, SERVE_FAULT_USAGE_MISSING, NULL, 0);
		return;
	}
	if (expect->stream && expect->exact_chunks &&
		tokens != verdict->chunk_count)
		fault_text(reply, SERVE_FAULT_USAGE_MISMATCH,
			"completion_tokens is not the number of chunks");
	/* One chunk may flush what was held back. */
	if (expect->stream && verdict->chunk_count > tokens + 1)
		fault_text(reply, SERVE_FAULT_USAGE_MISMATCH,
			"more chunks than completion_tokens");
	if (expect->output_tokens && tokens > expect->output_tokens)
		fault_text(reply, SERVE_FAULT_LENGTH, "more than asked for");
	if (expect->ignore_eos && tokens != expect->output_tokens)
		fault_text(reply, SERVE_FAULT_LENGTH, "not what was asked for");
}

static void check_stream(struct serve_reply *reply)
{
	if (!serve_sse_is_whole(&reply->sse))
		fault_text(reply, SERVE_FAULT_SSE, "half an event at the end");
	if (reply->verdict.finish == SERVE_FINISH_NONE)
		serve_reply_fault(reply, SERVE_FAULT_FINISH_MISSING, NULL, 0);
	if (!reply->done_seen)
		serve_reply_fault(reply, SERVE_FAULT_DONE_MISSING, NULL, 0);
	if (reply->expect.chat && !reply->role_seen)
		fault_text(reply, SERVE_FAULT_ROLE, "missing");
}

static enum serve_reply_state finish(struct serve_reply *reply)
{
	struct serve_verdict *verdict = &reply->verdict;

	verdict->status = reply->http.status;
	if (verdict->status != 200)
		serve_reply_fault(reply, SERVE_FAULT_STATUS, reply->body.data,
			reply->body.length);
	if (verdict->fault != SERVE_FAULT_NONE)
		return SERVE_REPLY_DONE;
	if (reply->expect.stream) {
		check_stream(reply);
	} else {
		serve_reply_body(reply);
		if (verdict->fault == SERVE_FAULT_NONE &&
			verdict->finish == SERVE_FINISH_NONE)
			serve_reply_fault(
				reply, SERVE_FAULT_FINISH_MISSING, NULL, 0);
	}
	check_counts(reply);
	return SERVE_REPLY_DONE;
}

/* --- as it comes ----------------------------------------------------------- */

static void feed_events(struct serve_reply *reply, const char *data,
	size_t length, uint64_t now_ns)
{
	size_t at = 0, taken = 0;

	/* After a fault only the end of the answer matters. */
	while (at < length && reply->verdict.fault == SERVE_FAULT_NONE) {
		enum serve_sse_event event = serve_sse_feed(
			&reply->sse, data + at, length - at, &taken);

		at += taken;
		if (event == SERVE_SSE_DATA)
			serve_reply_event(reply, now_ns);
		else if (event == SERVE_SSE_BAD)
			fault_text(reply, SERVE_FAULT_SSE, reply->sse.reason);
	}
}

static void feed_body(struct serve_reply *reply, uint64_t now_ns)
{
	const char *data = reply->http.piece;
	size_t length = reply->http.piece_bytes;
	bool is_error = reply->http.status != 200;
	enum serve_http_type due =
		reply->expect.stream ? SERVE_TYPE_EVENTS : SERVE_TYPE_JSON;

	if (!is_error && reply->http.type != due) {
		serve_reply_fault(reply, SERVE_FAULT_TYPE, NULL, 0);
		return;
	}
	if (!is_error && reply->expect.stream) {
		feed_events(reply, data, length, now_ns);
		return;
	}
	if (is_error && length > ERROR_BODY_BYTES - reply->body.length)
		length = ERROR_BODY_BYTES - reply->body.length;
	if (!is_error) {
		if (!reply->verdict.first_ns)
			reply->verdict.first_ns = now_ns;
		reply->verdict.last_ns = now_ns;
	}
	if (serve_bytes_add(&reply->body, data, length, SERVE_BODY_BYTES_MAX))
		serve_reply_fault(reply, SERVE_FAULT_MEMORY, NULL, 0);
}

static enum serve_reply_state broken(
	struct serve_reply *reply, enum serve_fault fault)
{
	reply->verdict.status = reply->http.status;
	fault_text(reply, fault, reply->http.reason);
	return SERVE_REPLY_BROKEN;
}

enum serve_reply_state serve_reply_feed(struct serve_reply *reply,
	const char *data, size_t length, uint64_t now_ns, size_t *out_taken)
{
	size_t at = 0, taken;
	enum serve_http_event event;

	assert(now_ns > 0);
	do {
		event = serve_http_feed(
			&reply->http, data + at, length - at, &taken);
		at += taken;
		if (event == SERVE_HTTP_BODY)
			feed_body(reply, now_ns);
	} while (event == SERVE_HTTP_BODY);
	*out_taken = at;
	reply->verdict.byte_count += at;
	if (event == SERVE_HTTP_END)
		return finish(reply);
	if (event == SERVE_HTTP_BAD)
		return broken(reply, SERVE_FAULT_HTTP);
	return SERVE_REPLY_MORE;
}

enum serve_reply_state serve_reply_eof(struct serve_reply *reply)
{
	if (serve_http_eof(&reply->http) == SERVE_HTTP_END)
		return finish(reply);
	return broken(reply, SERVE_FAULT_CLOSED);
}
