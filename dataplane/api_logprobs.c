/* api_logprobs.c - log probabilities in both of OpenAI's shapes (log -> JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token ids and numbers come from the engine through shared memory; what is
 * not possible was refused when the token went through the detokenizer, and
 * is left out here.
 */
#include <string.h>

#include "dataplane/api_reply.h"
#include "dataplane/utf8.h"

bool api_record(const struct text_shared *shared, uint32_t first_page,
	struct text_cursor *cursor, uint32_t index, struct token_record *out)
{
	uint32_t page_index = index / (uint32_t)PAYLOAD_RECORDS_PER_PAGE;
	size_t at = index % PAYLOAD_RECORDS_PER_PAGE * sizeof(*out);
	const struct payload_page *page;

	if (cursor->page == PAYLOAD_NONE || cursor->at > page_index) {
		cursor->page = first_page;
		cursor->at = 0;
	}
	while (cursor->page != PAYLOAD_NONE && cursor->at < page_index) {
		cursor->page = shared->page_next[cursor->page];
		cursor->at++;
	}
	if (cursor->page == PAYLOAD_NONE)
		return false;
	page = segment_page(shared->segment, cursor->page);
	memcpy(out, page->bytes + at, sizeof(*out));
	return true;
}

static struct token_record record(const struct text_shared *shared,
	struct text_choice *choice, uint32_t index)
{
	struct token_record out = {0};

	(void)api_record(shared, choice->log_page, &choice->log, index, &out);
	return out;
}

/* The k-th alternative of a token; false: the engine stored none. */
static bool alternative(const struct text_shared *shared,
	struct text_request *request, struct text_choice *choice,
	uint32_t index, uint32_t k, struct token_record *out)
{
	uint32_t count = request->api.sampling.logprob_count;

	return choice->top_page != PAYLOAD_NONE &&
	       api_record(shared, choice->top_page, &choice->top,
		       index * count + k, out);
}

static void put_token(
	const struct text_shared *shared, uint32_t id, struct api_text *out)
{
	size_t length = 0;
	const char *bytes = tokenizer_token_bytes(shared->tok, id, &length);

	api_text_string(out, bytes ? bytes : "", bytes ? length : 0);
}

/* Characters of a token's text as put_token() writes it. */
static uint64_t token_chars(const struct text_shared *shared, uint32_t id)
{
	size_t length = 0, at = 0;
	const char *bytes = tokenizer_token_bytes(shared->tok, id, &length);
	uint64_t count = 0;

	for (; bytes && at < length; count++)
		at += utf8_next(bytes + at, length - at).size_bytes;
	return count;
}

static void put_chat_one(const struct text_shared *shared,
	struct token_record token, struct api_text *out)
{
	uint32_t id = token.token_flags & TOKEN_ID_MASK;
	size_t length = 0;
	const char *bytes = tokenizer_token_bytes(shared->tok, id, &length);

	api_text_puts(out, "{\"token\":");
	put_token(shared, id, out);
	api_text_puts(out, ",\"logprob\":");
	api_text_float(out, token.logprob);
	api_text_puts(out, ",\"bytes\":[");
	for (size_t i = 0; bytes && i < length; i++) {
		if (i > 0)
			api_text_put(out, ",", 1);
		api_text_u64(out, (unsigned char)bytes[i]);
	}
	api_text_puts(out, "]");
}

static void put_chat(const struct text_shared *shared,
	struct text_request *request, struct text_choice *choice,
	struct api_span span, struct api_text *out)
{
	uint32_t count = request->api.sampling.logprob_count;

	api_text_puts(out, "{\"content\":[");
	for (uint32_t i = span.from; i < span.to; i++) {
		struct token_record top;

		if (i > span.from)
			api_text_put(out, ",", 1);
		put_chat_one(shared, record(shared, choice, i), out);
		api_text_puts(out, ",\"top_logprobs\":[");
		for (uint32_t k = 0; k < count; k++) {
			if (!alternative(shared, request, choice, i, k, &top))
				break;
			if (k > 0)
				api_text_put(out, ",", 1);
			put_chat_one(shared, top, out);
			api_text_put(out, "}", 1);
		}
		api_text_puts(out, "]}");
	}
	api_text_puts(out, "],\"refusal\":null}");
}

static void put_top_map(const struct text_shared *shared,
	struct text_request *request, struct text_choice *choice,
	uint32_t index, struct api_text *out)
{
	uint32_t count = request->api.sampling.logprob_count;
	struct token_record top;

	if (count == 0) {
		api_text_puts(out, "null");
		return;
	}
	api_text_put(out, "{", 1);
	for (uint32_t k = 0; k < count; k++) {
		if (!alternative(shared, request, choice, index, k, &top))
			break;
		if (k > 0)
			api_text_put(out, ",", 1);
		put_token(shared, top.token_flags & TOKEN_ID_MASK, out);
		api_text_put(out, ":", 1);
		api_text_float(out, top.logprob);
	}
	api_text_put(out, "}", 1);
}

/* One of the four parallel arrays of a completion's log probabilities. */
enum column { TEXT_OFFSETS, LOGPROBS, TOKENS, TOPS };

static void put_column(const struct text_shared *shared,
	struct text_request *request, struct text_choice *choice,
	struct api_span span, enum column column, struct api_text *out)
{
	uint64_t offset = choice->text_offset;

	for (uint32_t i = span.from; i < span.to; i++) {
		struct token_record token = record(shared, choice, i);
		uint32_t id = token.token_flags & TOKEN_ID_MASK;

		if (i > span.from)
			api_text_put(out, ",", 1);
		if (column == TEXT_OFFSETS) {
			api_text_u64(out, offset);
			offset += token_chars(shared, id);
		} else if (column == LOGPROBS) {
			api_text_float(out, token.logprob);
		} else if (column == TOKENS) {
			put_token(shared, id, out);
		} else {
			put_top_map(shared, request, choice, i, out);
		}
	}
	if (column == TEXT_OFFSETS)
		choice->text_offset = offset;
}

static void put_completion(const struct text_shared *shared,
	struct text_request *request, struct text_choice *choice,
	struct api_span span, struct api_text *out)
{
	api_text_puts(out, "{\"text_offset\":[");
	put_column(shared, request, choice, span, TEXT_OFFSETS, out);
	api_text_puts(out, "],\"token_logprobs\":[");
	put_column(shared, request, choice, span, LOGPROBS, out);
	api_text_puts(out, "],\"tokens\":[");
	put_column(shared, request, choice, span, TOKENS, out);
	api_text_puts(out, "],\"top_logprobs\":[");
	put_column(shared, request, choice, span, TOPS, out);
	api_text_puts(out, "]}");
}

void api_logprobs_write(const struct text_shared *shared,
	struct text_request *request, uint32_t choice, struct api_span span,
	struct api_text *out)
{
	struct text_choice *c = &request->choices[choice];

	api_text_puts(out, "\"logprobs\":");
	if (!request->api.sampling.want_logprob)
		api_text_puts(out, "null");
	else if (request->route == API_CHAT)
		put_chat(shared, request, c, span, out);
	else
		put_completion(shared, request, c, span, out);
}
