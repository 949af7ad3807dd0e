/* serve_fault.h - what can be wrong with an answer, each with a name */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     "3 requests failed" helps nobody; each way to fail is counted on
 *          its own, under a name that a report can carry.
 */
#ifndef HEDDLE_BENCH_SERVE_FAULT_H
#define HEDDLE_BENCH_SERVE_FAULT_H

/* name, what it means */
#define SERVE_FAULTS(X)                                                        \
	X(NONE, "none", "the answer was whole")                                \
	X(CONNECT, "connect_failed", "no connection could be opened")          \
	X(SEND, "send_failed", "the connection broke while sending")           \
	X(RECEIVE, "receive_failed", "the connection was reset")               \
	X(CLOSED, "closed_early", "the connection ended inside the answer")    \
	X(TIMEOUT, "timeout", "no whole answer in time")                       \
	X(HTTP, "http_malformed", "HTTP framing")                              \
	X(STATUS, "http_status", "a status that is not 200")                   \
	X(TYPE, "content_type", "neither events nor JSON, as was asked")       \
	X(SSE, "sse_framing", "a line or an end that is no event's")           \
	X(JSON, "json_malformed", "a chunk that is not JSON")                  \
	X(SHAPE, "chunk_shape", "a field is missing or of another type")       \
	X(STREAM_ERROR, "stream_error", "an error object inside the stream")   \
	X(ID, "id_changed", "chunks of different ids")                         \
	X(MODEL, "model_changed", "chunks of different models")                \
	X(CREATED, "created_changed", "chunks of different times")             \
	X(ROLE, "role", "the role is missing, repeated or late")               \
	X(AFTER_FINISH, "token_after_finish", "text after finish_reason")      \
	X(FINISH_MISSING, "finish_missing", "no finish_reason")                \
	X(FINISH_REPEATED, "finish_repeated", "more than one finish_reason")   \
	X(DONE_MISSING, "done_missing", "no [DONE]")                           \
	X(AFTER_DONE, "data_after_done", "data after [DONE]")                  \
	X(USAGE_MISSING, "usage_missing", "no usage though asked for")         \
	X(USAGE_REPEATED, "usage_repeated", "more than one usage")             \
	X(USAGE_MISMATCH, "usage_mismatch", "usage is not what was seen")      \
	X(LENGTH, "length_mismatch", "more or fewer tokens than asked for")    \
	X(TEXT, "text_differs", "the text is not that of the reference")       \
	X(TRAILING, "bytes_after_end", "bytes that belong to no answer")       \
	X(MEMORY, "client_memory", "the client has no memory left")

#define SERVE_FAULT_ENUM(name, text, meaning) SERVE_FAULT_##name,

enum serve_fault { SERVE_FAULTS(SERVE_FAULT_ENUM) SERVE_FAULT_COUNT };

/* "id_changed" and the sentence that explains it. */
const char *serve_fault_name(enum serve_fault fault);
const char *serve_fault_meaning(enum serve_fault fault);

#endif
