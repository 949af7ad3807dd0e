/* stream_tls.c - TLS 1.3 between two buffers (records <-> plain text) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "dataplane/stream_tls.h"

struct tls_context {
	SSL_CTX *ssl; /* owned */
	BIO_METHOD *method; /* owned: how OpenSSL reaches a pipe */
	uint32_t users; /* sessions, and the loop */
};

struct tls_session {
	struct tls_context *context;
	SSL *ssl; /* owned, with its BIO */
	struct tls_pipe pipe;
};

static int pipe_read(BIO *bio, char *to, int size)
{
	const struct tls_session *session = BIO_get_data(bio);
	size_t taken = 0;

	if (size > 0)
		taken = session->pipe.take(
			session->pipe.arg, (uint8_t *)to, (size_t)size);
	BIO_clear_retry_flags(bio);
	if (taken > 0)
		return (int)taken;
	BIO_set_retry_read(bio);
	return -1;
}

static int pipe_write(BIO *bio, const char *from, int size)
{
	const struct tls_session *session = BIO_get_data(bio);
	size_t put = 0;

	if (size > 0)
		put = session->pipe.put(
			session->pipe.arg, (const uint8_t *)from, (size_t)size);
	BIO_clear_retry_flags(bio);
	if (put > 0)
		return (int)put;
	BIO_set_retry_write(bio);
	return -1;
}

static long pipe_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	/* The queue is always on its way; everything else is not ours. */
	return command == BIO_CTRL_FLUSH;
}

/* Only HTTP/1.1 is spoken here; a client that offers ALPN must offer it. */
static int select_protocol(SSL *ssl, const unsigned char **out,
	unsigned char *out_length, const unsigned char *in,
	unsigned int in_length, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *found;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&found, out_length, ours, sizeof(ours) - 1,
		    in, in_length) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = found;
	return SSL_TLSEXT_ERR_OK;
}

/* The text of OpenSSL's first complaint; the queue is empty after it. */
static int refuse(struct error *err, const char *what)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return error_set(
		err, EINVAL, "%s: %s", what, reason ? reason : "not usable");
}

static int load_certificate(
	SSL_CTX *ssl, const char *text, int length, struct error *err)
{
	static const char what[] = "TLS certificate";
	BIO *bio = BIO_new_mem_buf(text, length);
	X509 *leaf, *next;
	int ok;

	if (!bio)
		return error_set(err, ENOMEM, "%s: no memory", what);
	leaf = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	ok = leaf && SSL_CTX_use_certificate(ssl, leaf) == 1;
	X509_free(leaf);
	while (ok && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		ok = SSL_CTX_add0_chain_cert(ssl, next) == 1;
		if (!ok)
			X509_free(next);
	}
	BIO_free(bio);
	/* The chain ends where no further PEM block begins. */
	if (ok && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		ok = 0;
	if (!ok)
		return refuse(err, what);
	ERR_clear_error();
	return 0;
}

static int load_key(
	SSL_CTX *ssl, const char *text, int length, struct error *err)
{
	static const char what[] = "TLS key";
	BIO *bio = BIO_new_mem_buf(text, length);
	char nothing[] = "";
	EVP_PKEY *key;
	int ok;

	if (!bio)
		return error_set(err, ENOMEM, "%s: no memory", what);
	/* An empty password: a key that is encrypted fails, nobody is asked. */
	key = PEM_read_bio_PrivateKey(bio, NULL, NULL, nothing);
	BIO_free(bio);
	ok = key && SSL_CTX_use_PrivateKey(ssl, key) == 1;
	EVP_PKEY_free(key);
	if (!ok)
		return refuse(err, what);
	if (SSL_CTX_check_private_key(ssl) != 1)
		return refuse(err, "TLS key does not fit the certificate");
	return 0;
}

static bool make_method(struct tls_context *context)
{
	context->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");
	return context->method &&
	       BIO_meth_set_read(context->method, pipe_read) &&
	       BIO_meth_set_write(context->method, pipe_write) &&
	       BIO_meth_set_ctrl(context->method, pipe_control);
}

static bool set_options(SSL_CTX *ssl)
{
	SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_alpn_select_cb(ssl, select_protocol, NULL);
	return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_num_tickets(ssl, 0) == 1 &&
	       SSL_CTX_set_max_early_data(ssl, 0) == 1;
}

int tls_context_create(const char *certificate, size_t certificate_length,
	const char *key, size_t key_length, struct tls_context **out,
	struct error *err)
{
	struct tls_context *context;
	int rc = 0;

	if (!certificate || !key)
		return error_set(err, EINVAL,
			"a TLS listener needs a certificate and a key");
	if (certificate_length > INT_MAX || key_length > INT_MAX)
		return error_set(
			err, EINVAL, "TLS certificate or key: too large");
	context = calloc(1, sizeof(*context));
	if (!context)
		return error_set(err, ENOMEM, "TLS: no memory");
	context->users = 1;
	context->ssl = SSL_CTX_new(TLS_server_method());
	if (!context->ssl || !make_method(context) ||
		!set_options(context->ssl))
		rc = error_set(err, ENOMEM, "TLS: no memory");
	if (rc == 0)
		rc = load_certificate(context->ssl, certificate,
			(int)certificate_length, err);
	if (rc == 0)
		rc = load_key(context->ssl, key, (int)key_length, err);
	if (rc) {
		tls_context_destroy(context);
		return rc;
	}
	*out = context;
	return 0;
}

void tls_context_destroy(struct tls_context *context)
{
	if (!context || --context->users > 0)
		return;
	SSL_CTX_free(context->ssl);
	BIO_meth_free(context->method);
	free(context);
}

struct tls_session *tls_session_create(
	struct tls_context *context, const struct tls_pipe *pipe)
{
	struct tls_session *session = calloc(1, sizeof(*session));
	BIO *bio = NULL;

	if (!session)
		return NULL;
	session->pipe = *pipe;
	session->context = context;
	context->users++;
	session->ssl = SSL_new(context->ssl);
	if (session->ssl)
		bio = BIO_new(context->method);
	if (!bio) {
		ERR_clear_error();
		tls_session_destroy(session);
		return NULL;
	}
	BIO_set_data(bio, session);
	BIO_set_init(bio, 1);
	SSL_set_bio(session->ssl, bio, bio);
	SSL_set_accept_state(session->ssl);
	return session;
}

void tls_session_destroy(struct tls_session *session)
{
	if (!session)
		return;
	SSL_free(session->ssl);
	tls_context_destroy(session->context);
	free(session);
}

/* What a call that returned `rc` <= 0 means. */
static enum tls_result result_of(struct tls_session *session, int rc)
{
	int code = SSL_get_error(session->ssl, rc);

	ERR_clear_error();
	switch (code) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return TLS_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_DONE;
	default:
		return TLS_FAILED;
	}
}

enum tls_result tls_handshake(struct tls_session *session)
{
	int rc = SSL_do_handshake(session->ssl);

	return rc == 1 ? TLS_OK : result_of(session, rc);
}

enum tls_result tls_read(struct tls_session *session, uint8_t *to, size_t size,
	size_t *out_length)
{
	int rc = SSL_read_ex(session->ssl, to, size, out_length);

	return rc == 1 ? TLS_OK : result_of(session, rc);
}

enum tls_result tls_write(
	struct tls_session *session, const uint8_t *from, size_t size)
{
	size_t written;
	int rc;

	assert(size > 0 && size <= TLS_RECORD_BYTES_MAX);
	rc = SSL_write_ex(session->ssl, from, size, &written);
	if (rc != 1)
		return result_of(session, rc);
	assert(written == size);
	return TLS_OK;
}

void tls_close(struct tls_session *session)
{
	/* Its answer is the peer's business; nothing here waits for it. */
	(void)SSL_shutdown(session->ssl);
	ERR_clear_error();
}
