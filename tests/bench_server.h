/* bench_server.h - a server that says what a test tells it (script -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a load generator is proven against servers that are wrong in every
 *          way, which no real one is.
 * Use:     a script is chosen by the request's "model"; its bytes are the
 *          whole answer, head included. Unknown models get status 404.
 * Threads: one of its own, between start and stop.
 */
#ifndef HEDDLE_TESTS_BENCH_SERVER_H
#define HEDDLE_TESTS_BENCH_SERVER_H

#include <stddef.h>

enum bench_after {
	BENCH_KEEP, /* the connection stays open */
	BENCH_CLOSE, /* after the answer */
	BENCH_RESET /* after the answer, without goodbye */
};

struct bench_script {
	const char *model;
	const char *bytes;
	size_t length;
	enum bench_after after;
	const char *first_bytes; /* NULL, or said instead the first time */
	size_t first_length;
};

struct bench_server; /* private */

/* On a free port of 127.0.0.1; the scripts are borrowed. Never NULL. */
struct bench_server *bench_server_start(
	const struct bench_script *scripts, size_t count);

/* "http://127.0.0.1:PORT" */
const char *bench_server_url(const struct bench_server *server);

/* Connections that were accepted, and requests that were answered. */
unsigned bench_server_accepted(const struct bench_server *server);
unsigned bench_server_answered(const struct bench_server *server);
void bench_server_stop(struct bench_server *server);

#endif
