/* serve_reply_chunk.c - the JSON of an answer (chunk or body -> verdict) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/serve_json.h"
#include "bench/serve_reply_chunk.h"
#include "bench/serve_stats.h"

/* What one object says; a text is empty where the field is absent. */
struct chunk {
	struct serve_json_text object, id, model, text, finish, role;
	int64_t created;
	bool has_created, has_choice, has_text, has_role, has_error, has_usage;
	int64_t prompt_tokens, completion_tokens, total_tokens, cached_tokens;
};

uint64_t serve_text_hash(uint64_t hash, const char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)data[i]) *
		       UINT64_C(0x100000001b3);
	return hash;
}

/* --- reading the object ---------------------------------------------------- */

/* A string or null. */
static bool read_text(struct serve_json *json, struct serve_json_text *out)
{
	return serve_json_string(json, out) || serve_json_null(json);
}

static bool read_details(struct serve_json *json, struct chunk *chunk)
{
	struct serve_json_text key;

	if (!serve_json_open(json, '{'))
		return serve_json_null(json);
	while (serve_json_key(json, &key)) {
		if (!serve_json_is(key, "cached_tokens"))
			serve_json_skip(json);
		else if (!serve_json_integer(json, &chunk->cached_tokens) &&
			 !serve_json_null(json))
			return false;
	}
	return true;
}

static bool read_usage(struct serve_json *json, struct chunk *chunk)
{
	struct serve_json_text key;
	bool ok = true;

	if (!serve_json_open(json, '{'))
		return serve_json_null(json);
	chunk->has_usage = true;
	chunk->prompt_tokens = chunk->completion_tokens = -1;
	chunk->total_tokens = -1;
	while (ok && serve_json_key(json, &key)) {
		if (serve_json_is(key, "prompt_tokens"))
			ok = serve_json_integer(json, &chunk->prompt_tokens);
		else if (serve_json_is(key, "completion_tokens"))
			ok = serve_json_integer(
				json, &chunk->completion_tokens);
		else if (serve_json_is(key, "total_tokens"))
			ok = serve_json_integer(json, &chunk->total_tokens);
		else if (serve_json_is(key, "prompt_tokens_details"))
			ok = read_details(json, chunk);
		else
			serve_json_skip(json);
	}
	return ok;
}

/* "delta" of a chunk, "message" of a body. */
static bool read_message(struct serve_json *json, struct chunk *chunk)
{
	struct serve_json_text key;
	bool ok = true;

	if (!serve_json_open(json, '{'))
		return false;
	while (ok && serve_json_key(json, &key)) {
		if (serve_json_is(key, "content")) {
			ok = read_text(json, &chunk->text);
			chunk->has_text = true;
		} else if (serve_json_is(key, "role")) {
			ok = read_text(json, &chunk->role);
			chunk->has_role = chunk->role.length > 0;
		} else {
			serve_json_skip(json);
		}
	}
	return ok;
}

static bool read_choice(struct serve_json *json,
	const struct serve_reply *reply, struct chunk *chunk)
{
	const struct serve_expect *expect = &reply->expect;
	const char *message = expect->stream ? "delta" : "message";
	struct serve_json_text key;
	int64_t index = 0;
	bool ok = true;

	if (!serve_json_open(json, '{'))
		return false;
	while (ok && serve_json_key(json, &key)) {
		if (serve_json_is(key, "finish_reason")) {
			ok = read_text(json, &chunk->finish);
		} else if (serve_json_is(key, "index")) {
			ok = serve_json_integer(json, &index) && index == 0;
		} else if (expect->chat && serve_json_is(key, message)) {
			ok = read_message(json, chunk);
		} else if (!expect->chat && serve_json_is(key, "text")) {
			ok = read_text(json, &chunk->text);
			chunk->has_text = true;
		} else {
			serve_json_skip(json);
		}
	}
	return ok;
}

/* One choice, or none beside a usage. */
static bool read_choices(struct serve_json *json,
	const struct serve_reply *reply, struct chunk *chunk)
{
	if (!serve_json_open(json, '['))
		return false;
	while (serve_json_item(json)) {
		if (chunk->has_choice || !read_choice(json, reply, chunk))
			return false;
		chunk->has_choice = true;
	}
	return true;
}

static bool read_member(struct serve_json *json,
	const struct serve_reply *reply, struct serve_json_text key,
	struct chunk *chunk)
{
	if (serve_json_is(key, "id"))
		return serve_json_string(json, &chunk->id);
	if (serve_json_is(key, "object"))
		return serve_json_string(json, &chunk->object);
	if (serve_json_is(key, "model"))
		return serve_json_string(json, &chunk->model);
	if (serve_json_is(key, "created")) {
		chunk->has_created = true;
		return serve_json_integer(json, &chunk->created);
	}
	if (serve_json_is(key, "choices"))
		return read_choices(json, reply, chunk);
	if (serve_json_is(key, "usage"))
		return read_usage(json, chunk);
	if (serve_json_is(key, "error"))
		chunk->has_error = !serve_json_null(json);
	if (!serve_json_is(key, "error") || chunk->has_error)
		serve_json_skip(json);
	return true;
}

static enum serve_fault read_chunk(const struct serve_reply *reply,
	const char *data, size_t length, struct chunk *chunk)
{
	struct serve_json json;
	struct serve_json_text key;
	bool ok;

	memset(chunk, 0, sizeof(*chunk));
	serve_json_init(&json, data, length);
	ok = serve_json_open(&json, '{');
	while (ok && serve_json_key(&json, &key))
		ok = read_member(&json, reply, key, chunk);
	if (json.bad || (ok && !serve_json_at_end(&json)))
		return SERVE_FAULT_JSON;
	return ok ? SERVE_FAULT_NONE : SERVE_FAULT_SHAPE;
}

/* --- the rules ------------------------------------------------------------- */

/* The same text as before, or the first one; false where it differs. */
static bool same(
	struct serve_json_text text, char *held, size_t room, bool *has)
{
	size_t length = text.length < room - 1 ? text.length : room - 1;

	if (*has)
		return strlen(held) == length &&
		       memcmp(held, text.text, length) == 0;
	memcpy(held, text.text, length);
	held[length] = '\0';
	*has = true;
	return true;
}

static enum serve_fault check_identity(
	struct serve_reply *reply, const struct chunk *chunk)
{
	static const char *const objects[2][2] = {
		{"text_completion", "text_completion"},
		{"chat.completion", "chat.completion.chunk"}};
	const char *due = objects[reply->expect.chat][reply->expect.stream];

	if (chunk->id.length == 0 || chunk->model.length == 0 ||
		!chunk->has_created || !serve_json_is(chunk->object, due))
		return SERVE_FAULT_SHAPE;
	if (!same(chunk->id, reply->id, sizeof(reply->id), &reply->has_id))
		return SERVE_FAULT_ID;
	if (!same(chunk->model, reply->model, sizeof(reply->model),
		    &reply->has_model))
		return SERVE_FAULT_MODEL;
	if (!reply->has_created)
		reply->created = chunk->created;
	reply->has_created = true;
	return chunk->created == reply->created ? SERVE_FAULT_NONE
						: SERVE_FAULT_CREATED;
}

static bool fits(int64_t count)
{
	return count >= 0 && count <= UINT32_MAX;
}

static enum serve_fault take_usage(
	struct serve_reply *reply, const struct chunk *chunk)
{
	struct serve_verdict *verdict = &reply->verdict;

	if (reply->usage_seen)
		return SERVE_FAULT_USAGE_REPEATED;
	if (!fits(chunk->prompt_tokens) || !fits(chunk->completion_tokens) ||
		!fits(chunk->cached_tokens))
		return SERVE_FAULT_SHAPE;
	reply->usage_seen = verdict->has_usage = true;
	verdict->prompt_tokens = (uint32_t)chunk->prompt_tokens;
	verdict->completion_tokens = (uint32_t)chunk->completion_tokens;
	verdict->cached_tokens = (uint32_t)chunk->cached_tokens;
	if (chunk->total_tokens !=
		chunk->prompt_tokens + chunk->completion_tokens)
		return SERVE_FAULT_USAGE_MISMATCH;
	return SERVE_FAULT_NONE;
}

static enum serve_finish finish_of(struct serve_json_text reason)
{
	if (serve_json_is(reason, "stop"))
		return SERVE_FINISH_STOP;
	if (serve_json_is(reason, "length"))
		return SERVE_FINISH_LENGTH;
	return SERVE_FINISH_OTHER;
}

static void add_gap(struct serve_reply *reply, uint64_t now_ns)
{
	struct serve_verdict *verdict = &reply->verdict;
	uint32_t index = verdict->chunk_count;

	if (index == 0)
		verdict->first_ns = now_ns;
	else if (index - 1 < reply->gap_room)
		reply->gaps[index - 1] = serve_ticks(now_ns - verdict->last_ns);
	verdict->last_ns = now_ns;
	verdict->chunk_count++;
}

static enum serve_fault take_text(
	struct serve_reply *reply, struct serve_json_text text)
{
	struct serve_verdict *verdict = &reply->verdict;
	size_t length = text.length;

	/* Most have no escape and need no copy. */
	if (memchr(text.text, '\\', length)) {
		reply->scratch.length = 0;
		if (serve_bytes_add(&reply->scratch, text.text, length,
			    SERVE_BODY_BYTES_MAX))
			return SERVE_FAULT_MEMORY;
		length = serve_json_decode(text, reply->scratch.data);
		text.text = reply->scratch.data;
	}
	verdict->text_hash =
		serve_text_hash(verdict->text_hash, text.text, length);
	verdict->text_bytes += length;
	if (reply->expect.keep_text && serve_bytes_add(&reply->text, text.text,
					       length, SERVE_BODY_BYTES_MAX))
		return SERVE_FAULT_MEMORY;
	return SERVE_FAULT_NONE;
}

static enum serve_fault take_role(
	struct serve_reply *reply, const struct chunk *chunk)
{
	if (!chunk->has_role)
		return SERVE_FAULT_NONE;
	if (reply->role_seen || !serve_json_is(chunk->role, "assistant") ||
		reply->event_count > 0)
		return SERVE_FAULT_ROLE;
	reply->role_seen = true;
	return SERVE_FAULT_NONE;
}

static enum serve_fault take_choice(
	struct serve_reply *reply, const struct chunk *chunk, uint64_t now_ns)
{
	struct serve_verdict *verdict = &reply->verdict;
	bool finished = verdict->finish != SERVE_FINISH_NONE;
	enum serve_fault fault = take_role(reply, chunk);

	if (fault != SERVE_FAULT_NONE)
		return fault;
	if (chunk->text.length) {
		if (finished)
			return SERVE_FAULT_AFTER_FINISH;
		if (reply->expect.stream)
			add_gap(reply, now_ns);
		fault = take_text(reply, chunk->text);
	}
	if (fault == SERVE_FAULT_NONE && chunk->finish.length) {
		if (finished)
			return SERVE_FAULT_FINISH_REPEATED;
		verdict->finish = finish_of(chunk->finish);
	}
	return fault;
}

static enum serve_fault take_chunk(
	struct serve_reply *reply, const struct chunk *chunk, uint64_t now_ns)
{
	enum serve_fault fault;

	if (chunk->has_error)
		return SERVE_FAULT_STREAM_ERROR;
	fault = check_identity(reply, chunk);
	if (fault != SERVE_FAULT_NONE)
		return fault;
	if (!chunk->has_choice && !chunk->has_usage)
		return SERVE_FAULT_SHAPE;
	if (chunk->has_choice)
		fault = take_choice(reply, chunk, now_ns);
	if (fault == SERVE_FAULT_NONE && chunk->has_usage)
		fault = take_usage(reply, chunk);
	return fault;
}

void serve_reply_event(struct serve_reply *reply, uint64_t now_ns)
{
	const char *data = reply->sse.data;
	size_t length = reply->sse.data_bytes;
	struct chunk chunk;
	enum serve_fault fault;

	if (reply->done_seen) {
		fault = SERVE_FAULT_AFTER_DONE;
	} else if (length == 6 && memcmp(data, "[DONE]", 6) == 0) {
		reply->done_seen = true;
		return;
	} else {
		fault = read_chunk(reply, data, length, &chunk);
		if (fault == SERVE_FAULT_NONE)
			fault = take_chunk(reply, &chunk, now_ns);
	}
	reply->event_count++;
	if (fault != SERVE_FAULT_NONE)
		serve_reply_fault(reply, fault, data, length);
}

void serve_reply_body(struct serve_reply *reply)
{
	struct chunk chunk;
	enum serve_fault fault =
		read_chunk(reply, reply->body.data, reply->body.length, &chunk);

	if (fault == SERVE_FAULT_NONE)
		fault = take_chunk(reply, &chunk, 0);
	if (fault == SERVE_FAULT_NONE && !chunk.has_choice)
		fault = SERVE_FAULT_SHAPE;
	if (fault != SERVE_FAULT_NONE)
		serve_reply_fault(
			reply, fault, reply->body.data, reply->body.length);
}
