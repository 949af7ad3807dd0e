/* tls_aead.c - the ciphers of TLS 1.3, and keys from secrets (OpenSSL's EVP) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "dataplane/tls_aead.h"

#define SUITE_COUNT 3
#define LABEL_BYTES_MAX 32 /* with what stands around it */

struct suite {
	const char *name;
	uint8_t key_bytes, secret_bytes;
};

/* By the suite's number, less that of the first. */
static const struct suite suites[SUITE_COUNT] = {
	{"AES-128-GCM", 16, 32},
	{"AES-256-GCM", 32, 48},
	{"ChaCha20-Poly1305", 32, 32},
};

/* A cipher that is set up for a key. */
struct ready {
	EVP_CIPHER_CTX *context; /* owned; NULL = none yet */
	struct tls_key key; /* suite 0: for none */
};

struct tls_aead {
	EVP_CIPHER *ciphers[SUITE_COUNT]; /* owned */
	struct ready opening[SUITE_COUNT], sealing[SUITE_COUNT];
	struct ready *places; /* owned */
	uint32_t place_count;
};

static const struct suite *suite_of(uint16_t suite)
{
	uint32_t index = (uint32_t)suite - TLS_AES_128_GCM;

	return index < SUITE_COUNT ? &suites[index] : NULL;
}

size_t tls_suite_secret_bytes(uint16_t suite)
{
	const struct suite *s = suite_of(suite);

	return s ? s->secret_bytes : 0;
}

size_t tls_suite_key_bytes(uint16_t suite)
{
	const struct suite *s = suite_of(suite);

	return s ? s->key_bytes : 0;
}

/* --- secrets ------------------------------------------------------------------ */

/*
 * HKDF-Expand (RFC 5869) of no more than one hash is HMAC(secret, info | 1),
 * and info is length, label and context, each with its own length before it.
 */
int tls_expand_label(uint16_t suite, const uint8_t *secret, const char *label,
	uint8_t *out, size_t length)
{
	const struct suite *s = suite_of(suite);
	size_t label_length = strlen(label), at = 0;
	uint8_t info[LABEL_BYTES_MAX], block[EVP_MAX_MD_SIZE];
	const EVP_MD *hash;

	assert(s && length <= s->secret_bytes);
	assert(label_length + 11 <= sizeof(info));
	info[at++] = 0;
	info[at++] = (uint8_t)length;
	info[at++] = (uint8_t)(6 + label_length);
	memcpy(info + at, "tls13 ", 6);
	at += 6;
	memcpy(info + at, label, label_length);
	at += label_length;
	info[at++] = 0;
	info[at++] = 1;
	hash = s->secret_bytes == 48 ? EVP_sha384() : EVP_sha256();
	if (!HMAC(hash, secret, s->secret_bytes, info, at, block, NULL)) {
		ERR_clear_error();
		return -ENOMEM;
	}
	memcpy(out, block, length);
	OPENSSL_cleanse(block, sizeof(block));
	return 0;
}

/* --- ready ciphers ------------------------------------------------------------ */

static void ready_wipe(struct ready *ready)
{
	/* OpenSSL clears what it frees. */
	EVP_CIPHER_CTX_free(ready->context);
	OPENSSL_cleanse(ready, sizeof(*ready));
	ready->context = NULL;
}

static bool is_for(const struct ready *ready, const struct tls_key *key)
{
	return ready->key.suite == key->suite &&
	       CRYPTO_memcmp(
		       ready->key.bytes, key->bytes, sizeof(key->bytes)) == 0;
}

/* With the key where it has another. */
static bool set_up(const struct tls_aead *a, struct ready *ready,
	const struct tls_key *key, const uint8_t *nonce, int seal)
{
	const EVP_CIPHER *cipher = NULL;
	const uint8_t *bytes = NULL;

	if (!is_for(ready, key)) {
		bytes = key->bytes;
		if (ready->key.suite != key->suite)
			cipher = a->ciphers[key->suite - TLS_AES_128_GCM];
	}
	if (!ready->context)
		ready->context = EVP_CIPHER_CTX_new();
	if (!ready->context || EVP_CipherInit_ex(ready->context, cipher, NULL,
				       bytes, nonce, seal) != 1) {
		ERR_clear_error();
		ready_wipe(ready);
		return false;
	}
	if (bytes)
		ready->key = *key;
	return true;
}

/* The place's own cipher, or where memory is short the shared one. */
static EVP_CIPHER_CTX *sealing(struct tls_aead *a, uint32_t place,
	const struct tls_key *key, const uint8_t *nonce)
{
	struct ready *ready = &a->places[place % a->place_count];

	if (set_up(a, ready, key, nonce, 1))
		return ready->context;
	ready = &a->sealing[key->suite - TLS_AES_128_GCM];
	return set_up(a, ready, key, nonce, 1) ? ready->context : NULL;
}

static bool make_shared(
	struct tls_aead *a, struct ready *ready, uint32_t index, int seal)
{
	static const uint8_t none[TLS_KEY_BYTES_MAX];

	ready->context = EVP_CIPHER_CTX_new();
	if (!ready->context ||
		EVP_CipherInit_ex(ready->context, a->ciphers[index], NULL, none,
			none, seal) != 1)
		return false;
	ready->key.suite = (uint16_t)(TLS_AES_128_GCM + index);
	return true;
}

int tls_aead_create(uint32_t place_count, struct tls_aead **out)
{
	struct tls_aead *a = calloc(1, sizeof(*a));
	bool made;

	assert(place_count > 0);
	if (!a)
		return -ENOMEM;
	a->place_count = place_count;
	a->places = calloc(place_count, sizeof(*a->places));
	made = a->places != NULL;
	for (uint32_t i = 0; i < SUITE_COUNT && made; i++) {
		a->ciphers[i] = EVP_CIPHER_fetch(NULL, suites[i].name, NULL);
		made = a->ciphers[i] && make_shared(a, &a->opening[i], i, 0) &&
		       make_shared(a, &a->sealing[i], i, 1);
	}
	if (!made) {
		ERR_clear_error();
		tls_aead_destroy(a);
		return -ENOMEM;
	}
	*out = a;
	return 0;
}

void tls_aead_destroy(struct tls_aead *a)
{
	if (!a)
		return;
	for (uint32_t i = 0; i < a->place_count && a->places; i++)
		ready_wipe(&a->places[i]);
	for (uint32_t i = 0; i < SUITE_COUNT; i++) {
		ready_wipe(&a->opening[i]);
		ready_wipe(&a->sealing[i]);
		EVP_CIPHER_free(a->ciphers[i]);
	}
	free(a->places);
	free(a);
}

/* --- records ------------------------------------------------------------------ */

int tls_aead_seal(struct tls_aead *a, uint32_t place, const struct tls_key *key,
	const struct tls_text *text, uint8_t *to)
{
	EVP_CIPHER_CTX *context = sealing(a, place, key, text->nonce);
	int length;

	if (!context)
		return -ENOMEM;
	if (EVP_EncryptUpdate(context, NULL, &length, text->header,
		    (int)text->header_length) != 1 ||
		EVP_EncryptUpdate(context, to, &length, text->from,
			(int)text->length) != 1 ||
		EVP_EncryptFinal_ex(context, to + length, &length) != 1 ||
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG,
			TLS_TAG_BYTES, to + text->length) != 1) {
		ERR_clear_error();
		return -ENOMEM;
	}
	return 0;
}

int tls_aead_open(struct tls_aead *a, const struct tls_key *key,
	const struct tls_text *text, uint8_t *to)
{
	struct ready *ready = &a->opening[key->suite - TLS_AES_128_GCM];
	uint8_t tag[TLS_TAG_BYTES];
	int length;

	if (!set_up(a, ready, key, text->nonce, 0))
		return -ENOMEM;
	memcpy(tag, text->from + text->length, sizeof(tag));
	if (EVP_CIPHER_CTX_ctrl(ready->context, EVP_CTRL_AEAD_SET_TAG,
		    TLS_TAG_BYTES, tag) != 1 ||
		EVP_DecryptUpdate(ready->context, NULL, &length, text->header,
			(int)text->header_length) != 1 ||
		EVP_DecryptUpdate(ready->context, to, &length, text->from,
			(int)text->length) != 1 ||
		EVP_DecryptFinal_ex(ready->context, to + length, &length) !=
			1) {
		ERR_clear_error();
		return -EBADMSG;
	}
	return 0;
}

/* A shared one stays, set up for a key that is nobody's. */
static void reset(struct ready *ready)
{
	static const uint8_t none[TLS_KEY_BYTES_MAX];

	if (!ready->context)
		return;
	if (EVP_CipherInit_ex(ready->context, NULL, NULL, none, none, -1) != 1)
		ready_wipe(ready);
	else
		OPENSSL_cleanse(ready->key.bytes, sizeof(ready->key.bytes));
}

void tls_aead_forget(struct tls_aead *a, uint32_t place,
	const struct tls_key *in, const struct tls_key *out)
{
	struct ready *own = &a->places[place % a->place_count];

	if (is_for(own, out))
		ready_wipe(own);
	/* Whoever's they are: it may be a key from before a KeyUpdate. */
	reset(&a->opening[in->suite - TLS_AES_128_GCM]);
	reset(&a->sealing[out->suite - TLS_AES_128_GCM]);
}
