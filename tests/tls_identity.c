/* tls_identity.c - certificates for tests (nothing -> PEM texts) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "tests/suite.h"
#include "tests/tls_identity.h"

void tls_identity_text(BIO *bio, char out[PEM_BYTES_MAX])
{
	int length = BIO_read(bio, out, PEM_BYTES_MAX - 1);

	CU_ASSERT_FATAL(length > 0);
	out[length] = '\0';
	BIO_free(bio);
}

void tls_identity_make(struct tls_identity *out)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	X509_NAME *name = X509_get_subject_name(certificate);
	BIO *bio;

	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
		(const unsigned char *)"localhost", -1, -1, 0);
	X509_set_issuer_name(certificate, name);
	X509_set_pubkey(certificate, key);
	CU_ASSERT_FATAL(X509_sign(certificate, key, EVP_sha256()) > 0);
	bio = BIO_new(BIO_s_mem());
	CU_ASSERT_EQUAL_FATAL(PEM_write_bio_X509(bio, certificate), 1);
	tls_identity_text(bio, out->certificate);
	bio = BIO_new(BIO_s_mem());
	CU_ASSERT_EQUAL_FATAL(
		PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL),
		1);
	tls_identity_text(bio, out->key);
	X509_free(certificate);
	EVP_PKEY_free(key);
}
