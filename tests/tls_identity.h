/* tls_identity.h - certificates for tests (nothing -> PEM texts) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_TESTS_TLS_IDENTITY_H
#define HEDDLE_TESTS_TLS_IDENTITY_H

#include <openssl/bio.h>

#define PEM_BYTES_MAX 4096

struct tls_identity {
	char certificate[PEM_BYTES_MAX], key[PEM_BYTES_MAX];
};

/* A self-signed certificate of "localhost" on a fresh P-256 key. */
void tls_identity_make(struct tls_identity *out);
/* What was written into it, as a text; frees it. */
void tls_identity_text(BIO *bio, char out[PEM_BYTES_MAX]);

#endif
