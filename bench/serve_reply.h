/* serve_reply.h - one answer, checked as it comes (bytes -> verdict, times) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    HTTP framing, events, JSON and the rules of OpenAI's streams: same
 *          id, model and creation time in every chunk, the role first, one
 *          finish_reason, usage when asked for, [DONE] last.
 * Tokens:  a chunk with text counts as one output; its time is the one that
 *          was passed with the last of its bytes. A token may have no text of
 *          its own (half a character), so chunks may be fewer than tokens,
 *          never more, except for one that flushes what was held back.
 * First fault wins; after one of content the answer is read to its end, so
 *          that the connection can be used again.
 * Whatever the pieces: the verdict does not depend on how bytes are split.
 * Memory:  buffers grow with the largest event or body (bounded) and are
 *          kept for the next answer of the connection.
 * Threads: one per connection.
 */
#ifndef HEDDLE_BENCH_SERVE_REPLY_H
#define HEDDLE_BENCH_SERVE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/serve_fault.h"
#include "bench/serve_http.h"
#include "bench/serve_sse.h"

#define SERVE_BODY_BYTES_MAX ((size_t)16 << 20)
#define SERVE_ID_BYTES 128
#define SERVE_MODEL_BYTES 160
#define SERVE_EXAMPLE_BYTES 160

/* What the request asked for. */
struct serve_expect {
	bool chat;
	bool stream;
	bool include_usage;
	bool exact_chunks; /* the server sends a chunk per token */
	bool ignore_eos; /* exactly output_tokens are due */
	bool keep_text;
	uint32_t output_tokens; /* the most that may come; 0 = no bound */
};

enum serve_finish {
	SERVE_FINISH_NONE,
	SERVE_FINISH_STOP,
	SERVE_FINISH_LENGTH,
	SERVE_FINISH_OTHER
};

/* What the answer was, as far as it came. */
struct serve_verdict {
	enum serve_fault fault;
	enum serve_finish finish;
	int status;
	uint32_t chunk_count; /* with text */
	uint32_t prompt_tokens, completion_tokens, cached_tokens;
	bool has_usage;
	uint64_t text_hash; /* FNV-1a of the text, escapes undone */
	uint64_t text_bytes;
	uint64_t first_ns, last_ns; /* of chunks with text, as passed */
	uint64_t byte_count; /* of the answer */
};

enum serve_reply_state {
	SERVE_REPLY_MORE,
	SERVE_REPLY_DONE, /* whole, good or not: see the verdict */
	SERVE_REPLY_BROKEN /* framing is lost: close */
};

struct serve_reply {
	struct serve_verdict verdict;
	char example[SERVE_EXAMPLE_BYTES]; /* of the fault: what was seen */
	struct serve_http http;
	struct serve_bytes text; /* keep_text: the text so far */
	struct serve_expect expect; /* private from here on */
	uint32_t *gaps; /* borrowed: ticks between chunks with text */
	uint32_t gap_room;
	uint32_t event_count;
	bool role_seen, usage_seen, done_seen;
	bool has_id, has_model, has_created;
	char id[SERVE_ID_BYTES], model[SERVE_MODEL_BYTES];
	int64_t created;
	struct serve_sse sse;
	struct serve_bytes body;
	struct serve_bytes scratch;
};

/*
 * Ready for an answer; the struct is zeroed or used before. `gaps` takes up to
 * gap_room gaps (verdict.chunk_count - 1 of them, as far as there is room).
 */
void serve_reply_start(struct serve_reply *reply,
	const struct serve_expect *expect, uint32_t *gaps, uint32_t gap_room);

/* Bytes that came at now_ns; *out_taken < length only with DONE or BROKEN. */
enum serve_reply_state serve_reply_feed(struct serve_reply *reply,
	const char *data, size_t length, uint64_t now_ns, size_t *out_taken);

/* The connection ended. */
enum serve_reply_state serve_reply_eof(struct serve_reply *reply);

/* Set the fault unless there is one; `example` may be NULL. */
void serve_reply_fault(struct serve_reply *reply, enum serve_fault fault,
	const char *example, size_t length);

void serve_reply_release(struct serve_reply *reply);

uint64_t serve_text_hash(uint64_t hash, const char *data, size_t length);
#define SERVE_TEXT_HASH_START UINT64_C(0xcbf29ce484222325)

#endif
