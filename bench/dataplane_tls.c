/* dataplane_tls.c - far ends that speak TLS 1.3 (plain <-> records) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "bench/dataplane_tls.h"

#define LIFE_S 86400

struct dataplane_tls {
	SSL_CTX *context;
	SSL **ends; /* owned, each */
	uint32_t count;
};

/* --- the server's identity --- */

/* What `bio` holds as a file; frees it. -1. */
static int file_of(BIO *bio, bool written)
{
	char *text;
	long length = BIO_get_mem_data(bio, &text);
	int fd = written ? memfd_create("heddle-bench", MFD_CLOEXEC) : -1;

	if (fd >= 0 && write(fd, text, (size_t)length) != length) {
		close(fd);
		fd = -1;
	}
	BIO_free(bio);
	return fd;
}

static bool make_certificate(X509 *certificate, EVP_PKEY *key)
{
	return X509_set_version(certificate, 2) == 1 &&
	       X509_gmtime_adj(X509_getm_notBefore(certificate), -LIFE_S) &&
	       X509_gmtime_adj(X509_getm_notAfter(certificate), LIFE_S) &&
	       X509_set_pubkey(certificate, key) == 1 &&
	       X509_sign(certificate, key, EVP_sha256()) > 0;
}

int dataplane_tls_identity(
	int *out_certificate_fd, int *out_key_fd, struct error *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	BIO *first = BIO_new(BIO_s_mem()), *second = BIO_new(BIO_s_mem());
	bool made = key && certificate && first && second &&
		    make_certificate(certificate, key);

	*out_certificate_fd = file_of(
		first, made && PEM_write_bio_X509(first, certificate) == 1);
	*out_key_fd = file_of(
		second, made && PEM_write_bio_PrivateKey(second, key, NULL,
					NULL, 0, NULL, NULL) == 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
	if (*out_certificate_fd >= 0 && *out_key_fd >= 0)
		return 0;
	if (*out_certificate_fd >= 0)
		close(*out_certificate_fd);
	if (*out_key_fd >= 0)
		close(*out_key_fd);
	*out_certificate_fd = *out_key_fd = -1;
	return error_set(err, EIO, "no certificate can be made");
}

/* --- the clients --- */

int dataplane_tls_create(
	uint32_t count, struct dataplane_tls **out, struct error *err)
{
	struct dataplane_tls *tls = calloc(1, sizeof(*tls));

	*out = NULL;
	if (!tls)
		return error_set(err, ENOMEM, "no memory for TLS");
	tls->count = count;
	tls->ends = calloc(count, sizeof(SSL *));
	tls->context = SSL_CTX_new(TLS_client_method());
	if (!tls->ends || !tls->context ||
		SSL_CTX_set_min_proto_version(tls->context, TLS1_3_VERSION) !=
			1) {
		dataplane_tls_destroy(tls);
		return error_set(err, ENOMEM, "no memory for TLS");
	}
	(void)SSL_CTX_set_mode(tls->context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify(tls->context, SSL_VERIFY_NONE, NULL);
	*out = tls;
	return 0;
}

void dataplane_tls_destroy(struct dataplane_tls *tls)
{
	if (!tls)
		return;
	for (uint32_t i = 0; tls->ends && i < tls->count; i++)
		SSL_free(tls->ends[i]);
	SSL_CTX_free(tls->context);
	free(tls->ends);
	free(tls);
}

/* True: done, or it waits for more. */
static bool shake_hands(SSL *ssl)
{
	int rc = SSL_do_handshake(ssl);

	return rc == 1 || SSL_get_error(ssl, rc) == SSL_ERROR_WANT_READ;
}

bool dataplane_tls_begin(struct dataplane_tls *tls, uint32_t i)
{
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

	SSL_free(tls->ends[i]);
	tls->ends[i] = SSL_new(tls->context);
	if (!tls->ends[i] || !in || !out) {
		BIO_free(in);
		BIO_free(out);
		return false;
	}
	SSL_set_bio(tls->ends[i], in, out);
	SSL_set_connect_state(tls->ends[i]);
	return shake_hands(tls->ends[i]);
}

bool dataplane_tls_input(
	struct dataplane_tls *tls, uint32_t i, const uint8_t *p, size_t n)
{
	SSL *ssl = tls->ends[i];

	return ssl && n <= INT_MAX &&
	       BIO_write(SSL_get_rbio(ssl), p, (int)n) == (int)n &&
	       (SSL_is_init_finished(ssl) || shake_hands(ssl));
}

bool dataplane_tls_is_open(const struct dataplane_tls *tls, uint32_t i)
{
	return tls->ends[i] && SSL_is_init_finished(tls->ends[i]);
}

bool dataplane_tls_write(
	struct dataplane_tls *tls, uint32_t i, const char *text, size_t n)
{
	size_t written;

	return SSL_write_ex(tls->ends[i], text, n, &written) == 1 &&
	       written == n;
}

size_t dataplane_tls_read(
	struct dataplane_tls *tls, uint32_t i, uint8_t *out, size_t room)
{
	size_t got = 0;

	if (SSL_read_ex(tls->ends[i], out, room, &got) == 1)
		return got;
	ERR_clear_error();
	return 0;
}

size_t dataplane_tls_take(
	struct dataplane_tls *tls, uint32_t i, char *out, size_t room)
{
	size_t got = 0;
	BIO *bio = SSL_get_wbio(tls->ends[i]);

	return BIO_pending(bio) > 0 && BIO_read_ex(bio, out, room, &got) == 1
		       ? got
		       : 0;
}
