/* tls_duo.h - OpenSSL's client and our server's half, over memory */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the record layer is tested against somebody else's, with no socket
 *        between them: what each says is a buffer that the test may cut.
 * Use:   duo_begin(), duo_connect(); from then on the server's half is
 *        `record`, and the two buffers are `to_server` and `to_client`.
 */
#ifndef HEDDLE_TESTS_TLS_DUO_H
#define HEDDLE_TESTS_TLS_DUO_H

#include <openssl/ssl.h>

#include "dataplane/tls_handshake.h"

struct duo {
	struct tls_context *context;
	struct tls_handshake *handshake;
	struct tls_record record;
	struct tls_aead *aead;
	SSL_CTX *client_context;
	SSL *client;
	BIO *to_server, *to_client; /* the client's */
	SSL_SESSION *session; /* of the last ticket */
	uint32_t ticket_count;
	size_t step_bytes; /* most that the handshake moves at once; 0 = any */
	bool once_full; /* every other put finds no room */
};

void duo_begin(struct duo *d, const char *suites);
/* Another connection of the same two; false: no handshake. */
bool duo_connect(struct duo *d, SSL_SESSION *session);
void duo_end(struct duo *d);

/* Seal and hand over; `length` <= 2^14. */
void duo_send(struct duo *d, const uint8_t *data, size_t length);
/* What the client reads now; < 0: -SSL_get_error(). */
int duo_client_read(struct duo *d, uint8_t *to, int size);
/* Open what the client has sent, into to[size]; the plain bytes. */
size_t duo_receive(struct duo *d, uint8_t *to, size_t size,
	enum tls_record_result *out_result);

#endif
