/* stream_tls.h - TLS 1.3 between two buffers (records <-> plain text) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       OpenSSL without a socket: it takes records from and puts
 *             records into whatever the two functions of struct tls_pipe
 *             reach. TLS 1.3 only; no session tickets, no early data, no
 *             client certificates; ALPN "http/1.1" where a client offers any.
 * Ownership:  the context belongs to the loop, a session to its stream;
 *             pipe.arg is borrowed for the session's life. A context that was
 *             destroyed lives on until its last session is.
 * Memory:     OpenSSL allocates for a session and during its handshake.
 * Threads:    as the loop's.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_TLS_H
#define HEDDLE_DATAPLANE_STREAM_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Most plain bytes of a record, and what the record adds to them. */
#define TLS_RECORD_BYTES_MAX 16384
#define TLS_RECORD_EXTRA_BYTES 22

struct tls_context;
struct tls_session;

struct tls_pipe {
	/* Take up to `size` bytes of the peer's records; 0 = none now. */
	size_t (*take)(void *arg, uint8_t *to, size_t size);
	/* Queue up to `size` bytes for the peer; 0 = no room now. */
	size_t (*put)(void *arg, const uint8_t *from, size_t size);
	void *arg;
};

enum tls_result {
	TLS_OK,
	TLS_AGAIN, /* needs more records, or room for its own */
	TLS_DONE, /* the peer has said close_notify */
	TLS_FAILED /* an alert is in the pipe */
};

/* PEM texts. -EINVAL (said which), -ENOMEM. */
int tls_context_create(const char *certificate, size_t certificate_length,
	const char *key, size_t key_length, struct tls_context **out,
	struct error *err);
void tls_context_destroy(struct tls_context *context); /* NULL is allowed */

/* NULL: no memory. */
struct tls_session *tls_session_create(
	struct tls_context *context, const struct tls_pipe *pipe);
void tls_session_destroy(struct tls_session *session); /* NULL is allowed */

/* TLS_OK once the handshake is complete. */
enum tls_result tls_handshake(struct tls_session *session);

/* TLS_OK with 1 to `size` plain bytes in *out_length. */
enum tls_result tls_read(struct tls_session *session, uint8_t *to, size_t size,
	size_t *out_length);

/*
 * One record of 1 to TLS_RECORD_BYTES_MAX plain bytes; the pipe must have
 * room for it, so that it is never TLS_AGAIN.
 */
enum tls_result tls_write(
	struct tls_session *session, const uint8_t *from, size_t size);

/* close_notify, into the pipe. */
void tls_close(struct tls_session *session);

#endif
