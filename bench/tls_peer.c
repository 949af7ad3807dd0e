/* tls_peer.c - OpenSSL's own record layer, to be measured beside ours */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <malloc.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "bench/tls_peer.h"

#define IDLE_COUNT 64

/* A fresh key, and a certificate that nobody looks at. */
static bool identify(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	bool done = key && certificate &&
		    X509_gmtime_adj(X509_getm_notBefore(certificate), 0) &&
		    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) &&
		    X509_set_pubkey(certificate, key) == 1 &&
		    X509_sign(certificate, key, EVP_sha256()) > 0 &&
		    SSL_CTX_use_certificate(context, certificate) == 1 &&
		    SSL_CTX_use_PrivateKey(context, key) == 1;

	X509_free(certificate);
	EVP_PKEY_free(key);
	return done;
}

static bool connect_pair(struct tls_peer *p, SSL **server, SSL **client)
{
	BIO *to_server = BIO_new(BIO_s_mem()),
	    *to_client = BIO_new(BIO_s_mem());
	int done = 0;

	*server = SSL_new(p->server_context);
	*client = SSL_new(p->client_context);
	if (!*server || !*client || !to_server || !to_client)
		return false;
	BIO_up_ref(to_server);
	BIO_up_ref(to_client);
	SSL_set_bio(*server, to_server, to_client);
	SSL_set_bio(*client, to_client, to_server);
	SSL_set_accept_state(*server);
	SSL_set_connect_state(*client);
	for (int i = 0; i < 10 && done != 2; i++)
		done = (SSL_do_handshake(*client) == 1) +
		       (SSL_do_handshake(*server) == 1);
	ERR_clear_error();
	return done == 2;
}

int tls_peer_open(struct tls_peer *p, const char *suite, struct error *err)
{
	*p = (struct tls_peer){SSL_CTX_new(TLS_server_method()),
		SSL_CTX_new(TLS_client_method()), NULL, NULL};
	if (p->server_context && p->client_context &&
		identify(p->server_context) &&
		SSL_CTX_set_ciphersuites(p->client_context, suite) == 1 &&
		connect_pair(p, &p->server, &p->client))
		return 0;
	tls_peer_close(p);
	return error_set(err, EPROTO, "%s: OpenSSL does not connect", suite);
}

void tls_peer_close(struct tls_peer *p)
{
	SSL_free(p->server);
	SSL_free(p->client);
	SSL_CTX_free(p->server_context);
	SSL_CTX_free(p->client_context);
	*p = (struct tls_peer){NULL, NULL, NULL, NULL};
}

double tls_peer_idle_bytes(struct tls_peer *p)
{
	SSL *servers[IDLE_COUNT] = {NULL};
	size_t before = mallinfo2().uordblks, after;
	bool done = true;

	for (int i = 0; i < IDLE_COUNT && done; i++) {
		SSL *client = NULL;

		done = connect_pair(p, &servers[i], &client);
		SSL_free(client);
		/* Its buffers are not what is measured. */
		if (done)
			SSL_set_bio(servers[i], BIO_new(BIO_s_null()),
				BIO_new(BIO_s_null()));
	}
	after = mallinfo2().uordblks;
	for (int i = 0; i < IDLE_COUNT; i++)
		SSL_free(servers[i]);
	return done ? (double)(after - before) / IDLE_COUNT : 0;
}
