/* tls_duo.c - OpenSSL's client and our server's half, over memory */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "tests/suite.h"
#include "tests/tls_duo.h"
#include "tests/tls_identity.h"

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	struct duo *d = SSL_get_app_data(ssl);

	d->ticket_count++;
	SSL_SESSION_free(d->session);
	d->session = session;
	return 1;
}

void duo_begin(struct duo *d, const char *suites)
{
	static struct tls_identity who;
	struct error err = {0};

	if (!who.key[0])
		tls_identity_make(&who);
	*d = (struct duo){.step_bytes = 0};
	CU_ASSERT_EQUAL_FATAL(
		tls_context_create(who.certificate, strlen(who.certificate),
			who.key, strlen(who.key), &d->context, &err),
		0);
	CU_ASSERT_EQUAL_FATAL(tls_aead_create(4, &d->aead), 0);
	d->client_context = SSL_CTX_new(TLS_client_method());
	CU_ASSERT_PTR_NOT_NULL_FATAL(d->client_context);
	CU_ASSERT_EQUAL_FATAL(
		SSL_CTX_set_ciphersuites(d->client_context, suites), 1);
	SSL_CTX_set_session_cache_mode(
		d->client_context, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(d->client_context, keep_ticket);
}

static size_t take(void *arg, uint8_t *to, size_t size)
{
	struct duo *d = arg;
	int got;

	if (d->step_bytes > 0 && size > d->step_bytes)
		size = d->step_bytes;
	got = BIO_read(d->to_server, to, (int)size);
	return got > 0 ? (size_t)got : 0;
}

static size_t put(void *arg, const uint8_t *from, size_t size)
{
	struct duo *d = arg;

	if (d->step_bytes > 0) {
		d->once_full = !d->once_full;
		if (d->once_full)
			return 0;
		if (size > d->step_bytes)
			size = d->step_bytes;
	}
	return (size_t)BIO_write(d->to_client, from, (int)size);
}

static void end_connection(struct duo *d)
{
	tls_handshake_destroy(d->handshake);
	d->handshake = NULL;
	/* Else its session may not be resumed. */
	if (d->client)
		SSL_set_shutdown(
			d->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(d->client);
	d->client = NULL;
	tls_record_wipe(&d->record);
}

bool duo_connect(struct duo *d, SSL_SESSION *session)
{
	const struct tls_pipe pipe = {take, put, d};
	enum tls_handshake_result result = TLS_HANDSHAKE_MORE;
	int rc = 0;

	end_connection(d);
	d->client = SSL_new(d->client_context);
	CU_ASSERT_PTR_NOT_NULL_FATAL(d->client);
	d->to_server = BIO_new(BIO_s_mem());
	d->to_client = BIO_new(BIO_s_mem());
	SSL_set_bio(d->client, d->to_client, d->to_server);
	SSL_set_app_data(d->client, d);
	if (session)
		SSL_set_session(d->client, session);
	d->handshake = tls_handshake_create(d->context, &pipe);
	CU_ASSERT_PTR_NOT_NULL_FATAL(d->handshake);
	for (int i = 0; i < 20000 && (rc != 1 || result); i++) {
		if (rc != 1)
			rc = SSL_connect(d->client);
		if (result == TLS_HANDSHAKE_MORE ||
			result == TLS_HANDSHAKE_FULL)
			result = tls_handshake_turn(d->handshake, &d->record);
		if (result == TLS_HANDSHAKE_FAILED)
			break;
	}
	tls_handshake_destroy(d->handshake);
	d->handshake = NULL;
	ERR_clear_error();
	return rc == 1 && result == TLS_HANDSHAKE_DONE;
}

void duo_end(struct duo *d)
{
	end_connection(d);
	SSL_SESSION_free(d->session);
	SSL_CTX_free(d->client_context);
	tls_aead_destroy(d->aead);
	tls_context_destroy(d->context);
	ERR_clear_error();
}

void duo_send(struct duo *d, const uint8_t *data, size_t length)
{
	static uint8_t record[TLS_RECORD_BYTES_MAX + TLS_RECORD_EXTRA_BYTES];

	if (tls_record_update_due(&d->record)) {
		CU_ASSERT_EQUAL_FATAL(tls_record_seal_key_update(
					      &d->record, d->aead, 0, record),
			0);
		BIO_write(d->to_client, record, TLS_RECORD_KEY_UPDATE_BYTES);
	}
	memcpy(record + TLS_RECORD_HEADER_BYTES, data, length);
	CU_ASSERT_EQUAL_FATAL(
		tls_record_seal(&d->record, d->aead, 0, record, length), 0);
	BIO_write(d->to_client, record, (int)(length + TLS_RECORD_EXTRA_BYTES));
}

int duo_client_read(struct duo *d, uint8_t *to, int size)
{
	int rc = SSL_read(d->client, to, size), error;

	if (rc > 0)
		return rc;
	error = SSL_get_error(d->client, rc);
	ERR_clear_error();
	return -error;
}

size_t duo_receive(struct duo *d, uint8_t *to, size_t size,
	enum tls_record_result *out_result)
{
	static uint8_t plain[TLS_RECORD_SEALED_BYTES_MAX];
	const uint8_t *bytes;
	size_t length = (size_t)BIO_get_mem_data(d->to_server, &bytes);
	size_t at = 0, done = 0;
	struct tls_opened o;

	for (;;) {
		*out_result = tls_record_open(&d->record, d->aead, bytes + at,
			length - at, plain, &o);
		if (*out_result != TLS_RECORD_DATA)
			break;
		CU_ASSERT_FATAL(o.length <= size - done);
		memcpy(to + done, plain, o.length);
		done += o.length;
		at += o.taken;
	}
	(void)BIO_reset(d->to_server);
	return done;
}
