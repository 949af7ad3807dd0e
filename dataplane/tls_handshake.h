/* tls_handshake.h - OpenSSL, until a TLS 1.3 connection has its keys */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       OpenSSL without a socket: it takes records from and puts records
 *             into whatever the two functions of struct tls_pipe reach. Once
 *             the handshake is complete its secrets and its place in the
 *             sequence of records go into a struct tls_record, and OpenSSL is
 *             done with the connection. TLS 1.3 only; no early data, no client
 *             certificates; ALPN "http/1.1" where a client offers any.
 * Secrets:    OpenSSL tells traffic secrets in one documented way, the key log
 *             callback (SSL_CTX_set_keylog_callback), in the format that debug
 *             tools read; nothing is written anywhere. The exporter (RFC 8446
 *             section 7.5) gives other secrets, and what kernel TLS is handed
 *             is internal and different in each version.
 * Tickets:    one after each handshake, sealed with a key of the context, so
 *             that nothing is kept here. OpenSSL sends it under the traffic
 *             keys, so our records go on behind it: the records that it has
 *             sealed since it had the server's traffic secret are counted by
 *             the message callback. A resumed handshake still does
 *             Diffie-Hellman; a new identity does not know the old's tickets.
 * Ownership:  the context belongs to the loop, a handshake to its stream;
 *             pipe.arg is borrowed for the handshake's life. A context that
 *             was destroyed lives on until its last handshake is.
 * Memory:     OpenSSL allocates for a handshake, some 50 KB; all of it is
 *             free again after it.
 * Threads:    as the loop's.
 */
#ifndef HEDDLE_DATAPLANE_TLS_HANDSHAKE_H
#define HEDDLE_DATAPLANE_TLS_HANDSHAKE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "dataplane/tls_record.h"

struct tls_context;
struct tls_handshake;

struct tls_pipe {
	/* Take up to `size` bytes of the peer's records; 0 = none now. */
	size_t (*take)(void *arg, uint8_t *to, size_t size);
	/* Queue up to `size` bytes for the peer; 0 = no room now. */
	size_t (*put)(void *arg, const uint8_t *from, size_t size);
	void *arg;
};

enum tls_handshake_result {
	TLS_HANDSHAKE_DONE,
	TLS_HANDSHAKE_MORE, /* needs more records */
	TLS_HANDSHAKE_FULL, /* needs room for its own */
	TLS_HANDSHAKE_FAILED /* an alert is in the pipe, if there was room */
};

/* PEM texts. -EINVAL (said which), -ENOMEM. */
int tls_context_create(const char *certificate, size_t certificate_length,
	const char *key, size_t key_length, struct tls_context **out,
	struct error *err);
void tls_context_destroy(struct tls_context *context); /* NULL is allowed */

/* NULL: no memory. */
struct tls_handshake *tls_handshake_create(
	struct tls_context *context, const struct tls_pipe *pipe);
void tls_handshake_destroy(struct tls_handshake *h); /* NULL is allowed */

/* Go on; with TLS_HANDSHAKE_DONE *out is the connection's. */
enum tls_handshake_result tls_handshake_turn(
	struct tls_handshake *h, struct tls_record *out);

#endif
