/* tls_handshake.c - OpenSSL, until a TLS 1.3 connection has its keys */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "dataplane/tls_handshake.h"

struct tls_context {
	SSL_CTX *ssl; /* owned */
	BIO_METHOD *method; /* owned: how OpenSSL reaches a pipe */
	uint32_t users; /* handshakes, and the loop */
};

/* The secret of one direction; length 0: not told yet. */
struct secret {
	uint8_t bytes[TLS_SECRET_BYTES_MAX];
	size_t length;
};

struct tls_handshake {
	struct tls_context *context;
	SSL *ssl; /* owned, with its BIO */
	struct tls_pipe pipe;
	struct secret in, out;
	uint64_t out_sequence; /* records under the server's traffic key */
};

static int pipe_read(BIO *bio, char *to, int size)
{
	const struct tls_handshake *h = BIO_get_data(bio);
	size_t taken = 0;

	if (size > 0)
		taken = h->pipe.take(h->pipe.arg, (uint8_t *)to, (size_t)size);
	BIO_clear_retry_flags(bio);
	if (taken > 0)
		return (int)taken;
	BIO_set_retry_read(bio);
	return -1;
}

static int pipe_write(BIO *bio, const char *from, int size)
{
	const struct tls_handshake *h = BIO_get_data(bio);
	size_t put = 0;

	if (size > 0)
		put = h->pipe.put(
			h->pipe.arg, (const uint8_t *)from, (size_t)size);
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

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "LABEL CLIENT-RANDOM SECRET", the two in hexadecimal digits. */
static void take_secret(
	const char *line, const char *label, struct secret *secret)
{
	size_t length = strlen(label), at = 0;
	const char *digits = strrchr(line, ' ');

	if (strncmp(line, label, length) != 0 || line[length] != ' ')
		return;
	for (digits++; digits[0] && digits[1]; digits += 2) {
		int high = digit_of(digits[0]), low = digit_of(digits[1]);

		if (high < 0 || low < 0 || at == sizeof(secret->bytes))
			return;
		secret->bytes[at++] = (uint8_t)(high << 4 | low);
	}
	secret->length = at;
}

static void on_key_line(const SSL *ssl, const char *line)
{
	struct tls_handshake *h = SSL_get_app_data(ssl);

	take_secret(line, "CLIENT_TRAFFIC_SECRET_0", &h->in);
	take_secret(line, "SERVER_TRAFFIC_SECRET_0", &h->out);
}

/* Each record that is sealed is told once, by its header. */
/* NOLINTNEXTLINE(readability-function-size): the parameters are OpenSSL's */
static void on_message(int is_ours, int version, int content_type,
	const void *bytes, size_t length, SSL *ssl, void *arg)
{
	struct tls_handshake *h = SSL_get_app_data(ssl);

	(void)version;
	(void)bytes;
	(void)length;
	(void)arg;
	if (is_ours && content_type == SSL3_RT_HEADER && h->out.length > 0)
		h->out_sequence++;
}

static bool set_options(SSL_CTX *ssl)
{
	SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_keylog_callback(ssl, on_key_line);
	SSL_CTX_set_msg_callback(ssl, on_message);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_alpn_select_cb(ssl, select_protocol, NULL);
	return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
	       /* Those that tls_aead.h has, whatever the machine's defaults. */
	       SSL_CTX_set_ciphersuites(ssl, "TLS_AES_256_GCM_SHA384:"
					     "TLS_CHACHA20_POLY1305_SHA256:"
					     "TLS_AES_128_GCM_SHA256") == 1 &&
	       SSL_CTX_set_num_tickets(ssl, 1) == 1 &&
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

struct tls_handshake *tls_handshake_create(
	struct tls_context *context, const struct tls_pipe *pipe)
{
	struct tls_handshake *h = calloc(1, sizeof(*h));
	BIO *bio = NULL;

	if (!h)
		return NULL;
	h->pipe = *pipe;
	h->context = context;
	context->users++;
	h->ssl = SSL_new(context->ssl);
	if (h->ssl)
		bio = BIO_new(context->method);
	if (!bio || SSL_set_app_data(h->ssl, h) != 1) {
		BIO_free(bio);
		ERR_clear_error();
		tls_handshake_destroy(h);
		return NULL;
	}
	BIO_set_data(bio, h);
	BIO_set_init(bio, 1);
	SSL_set_bio(h->ssl, bio, bio);
	SSL_set_accept_state(h->ssl);
	return h;
}

void tls_handshake_destroy(struct tls_handshake *h)
{
	if (!h)
		return;
	SSL_free(h->ssl);
	tls_context_destroy(h->context);
	OPENSSL_cleanse(h, sizeof(*h));
	free(h);
}

/* The connection as it is behind the handshake; false: cannot be ours. */
static bool take_over(struct tls_handshake *h, struct tls_record *out)
{
	uint16_t suite =
		SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(h->ssl));
	size_t wanted = tls_suite_secret_bytes(suite);

	/* It reads no byte behind the handshake: that would be lost. */
	if (wanted == 0 || h->in.length != wanted || h->out.length != wanted ||
		SSL_has_pending(h->ssl) ||
		tls_record_init(out, suite, h->in.bytes, h->out.bytes))
		return false;
	out->out.sequence = h->out_sequence;
	return true;
}

enum tls_handshake_result tls_handshake_turn(
	struct tls_handshake *h, struct tls_record *out)
{
	int rc, code;

	ERR_clear_error();
	rc = SSL_do_handshake(h->ssl);
	if (rc == 1)
		return take_over(h, out) ? TLS_HANDSHAKE_DONE
					 : TLS_HANDSHAKE_FAILED;
	code = SSL_get_error(h->ssl, rc);
	ERR_clear_error();
	switch (code) {
	case SSL_ERROR_WANT_READ:
		return TLS_HANDSHAKE_MORE;
	case SSL_ERROR_WANT_WRITE:
		return TLS_HANDSHAKE_FULL;
	default:
		return TLS_HANDSHAKE_FAILED;
	}
}
