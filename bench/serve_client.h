/* serve_client.h - one call at a time, before or after a run (URL -> body) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a benchmark asks for the model's name, for token ids, for metrics:
 *          single calls that may block.
 * Limits:  http:// only; a call ends after CLIENT_TIMEOUT_S; bodies up to
 *          CLIENT_BODY_BYTES_MAX.
 * Threads: any; a target is read only once parsed.
 */
#ifndef HEDDLE_BENCH_SERVE_CLIENT_H
#define HEDDLE_BENCH_SERVE_CLIENT_H

#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"
#include "bench/serve_sse.h"

#define CLIENT_TIMEOUT_S 60
#define CLIENT_BODY_BYTES_MAX ((size_t)64 << 20)

struct serve_target {
	char authority[300]; /* host:port, as the Host header says it */
	char prefix[256]; /* of every path: "" or "/base" */
	struct sockaddr_storage address;
	socklen_t address_bytes;
};

/* "http://HOST[:PORT][/PREFIX]"; resolves the name. -EINVAL, -ENOENT. */
int serve_target_parse(
	const char *url, struct serve_target *out, struct error *err);

struct serve_call {
	const char *method, *path; /* path without the prefix */
	const char *api_key; /* NULL = none */
	const char *body; /* NULL = none */
	size_t body_bytes;
};

/*
 * The body of a whole answer is appended to *body, its status in *status.
 * With `raw`, the bytes as they came, head and framing included.
 */
int serve_call(const struct serve_target *target, const struct serve_call *call,
	struct serve_bytes *body, int *status, struct error *err);
int serve_call_raw(const struct serve_target *target,
	const struct serve_call *call, struct serve_bytes *raw,
	struct error *err);

/* Connected, blocking, with the timeout set; -errno. */
int serve_target_connect(const struct serve_target *target, struct error *err);

/* "POST path HTTP/1.1 ...\r\n\r\n", appended; -ENOMEM. */
int serve_call_head(const struct serve_target *target,
	const struct serve_call *call, struct serve_bytes *out);

#endif
