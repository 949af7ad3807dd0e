/* serve_reply_chunk.h - the JSON of an answer (chunk or body -> verdict) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the rules of content apart from those of framing; private to
 *          serve_reply.c.
 */
#ifndef HEDDLE_BENCH_SERVE_REPLY_CHUNK_H
#define HEDDLE_BENCH_SERVE_REPLY_CHUNK_H

#include <stdint.h>

#include "bench/serve_reply.h"

/* One event of a stream: reply->sse.data. */
void serve_reply_event(struct serve_reply *reply, uint64_t now_ns);

/* The whole body of an answer that is no stream: reply->body. */
void serve_reply_body(struct serve_reply *reply);

#endif
