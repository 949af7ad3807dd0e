/* tls_peer.h - OpenSSL's own record layer, to be measured beside ours */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_TLS_PEER_H
#define HEDDLE_BENCH_TLS_PEER_H

#include <openssl/ssl.h>

#include "base/error.h"

/* A server and its client, connected through memory. */
struct tls_peer {
	SSL_CTX *server_context, *client_context;
	SSL *server, *client;
};

/* `suite` in OpenSSL's words. -EPROTO with a text; then nothing is left. */
int tls_peer_open(struct tls_peer *p, const char *suite, struct error *err);
void tls_peer_close(struct tls_peer *p);
/* Memory of one server that is connected and idle, on average of some. */
double tls_peer_idle_bytes(struct tls_peer *p);

#endif
