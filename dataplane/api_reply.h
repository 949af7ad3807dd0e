/* api_reply.h - completions and chat as OpenAI writes them (text -> JSON, SSE) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  the bytes of answers. A streamed answer is a row of events
 *
 *            lead INDEX middle TEXT logprobs finish usage
 *
 *        of which only TEXT, logprobs and usage differ from token to token;
 *        `lead` is made once per request.
 * Threads: pure functions over their arguments; the log is read, never
 *        written.
 */
#ifndef HEDDLE_DATAPLANE_API_REPLY_H
#define HEDDLE_DATAPLANE_API_REPLY_H

#include "dataplane/text_worker.h"

/* Tokens [from, to) of a choice, for log probabilities. */
struct api_span {
	uint32_t from, to;
};

/* Make request->lead. */
void api_reply_prepare(struct text_request *request);

/* The event that says who speaks, or the echo of a prompt. */
void api_event_first(const struct text_request *request, uint32_t choice,
	struct api_text *out);

/* An event: begin, any number of api_text_escape(), end. */
void api_event_begin(const struct text_request *request, uint32_t choice,
	struct api_text *out);
void api_event_end(const struct text_shared *shared,
	struct text_request *request, uint32_t choice, struct api_span span,
	struct api_text *out);

/* The event with the finish reason; the last ones of all. */
void api_event_finish(const struct text_request *request, uint32_t choice,
	struct api_text *out);
void api_event_last(const struct text_request *request, struct api_text *out);
void api_event_error(const struct api_error *error, struct api_text *out);

/* The whole answer of a request that is not streamed. */
void api_body_write(const struct text_shared *shared,
	struct text_request *request, struct api_text *out);

/* "logprobs":VALUE for a span, in the route's shape (api_logprobs.c). */
void api_logprobs_write(const struct text_shared *shared,
	struct text_request *request, uint32_t choice, struct api_span span,
	struct api_text *out);

/*
 * Record `index` of a chain of payload pages, from a cursor that only moves
 * forwards; a cursor behind it starts again. false: the chain is too short.
 */
bool api_record(const struct text_shared *shared, uint32_t first_page,
	struct text_cursor *cursor, uint32_t index, struct token_record *out);

/* "stop", "length"; NULL where generation failed. */
const char *api_finish_name(enum finish_reason reason);

#endif
