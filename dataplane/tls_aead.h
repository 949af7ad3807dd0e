/* tls_aead.h - the ciphers of TLS 1.3, and keys from secrets (OpenSSL's EVP) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       the three suites of RFC 8446 appendix B.4 that everybody has,
 *             HKDF-Expand-Label, and sealing and opening one record's bytes.
 * Why so:     a key is plain data of its connection (tls_record.h), but a
 *             cipher wants its schedule: setting one up takes some 200 ns, as
 *             much as half of a short record, and one that is kept takes 1.2
 *             KB. So there is a table of ready ciphers for sealing, one place
 *             per connection until there are more connections than places;
 *             what is not in its place is set up again. It is a cache: all of
 *             it follows from plain data. For opening there is one per suite,
 *             as clients send few records, or many in a row.
 * Ownership:  the caller's; keys are copied in and wiped by forget.
 * Memory:     a ready cipher is allocated when a place is used first; without
 *             memory, a shared one that exists from the start is set up for
 *             each record.
 * Threads:    one.
 */
#ifndef HEDDLE_DATAPLANE_TLS_AEAD_H
#define HEDDLE_DATAPLANE_TLS_AEAD_H

#include <stddef.h>
#include <stdint.h>

#define TLS_AES_128_GCM 0x1301
#define TLS_AES_256_GCM 0x1302
#define TLS_CHACHA20_POLY1305 0x1303

#define TLS_SECRET_BYTES_MAX 48
#define TLS_KEY_BYTES_MAX 32
#define TLS_NONCE_BYTES 12
#define TLS_TAG_BYTES 16

struct tls_aead;

/* The key of one direction; bytes behind the suite's own are 0. */
struct tls_key {
	uint16_t suite;
	uint8_t bytes[TLS_KEY_BYTES_MAX];
};

/* A piece of bytes to seal or to open, and what goes with it. */
struct tls_text {
	uint8_t nonce[TLS_NONCE_BYTES];
	const uint8_t *header; /* authenticated, not encrypted */
	size_t header_length;
	const uint8_t *from;
	size_t length; /* without the tag */
};

/* 0 = not one of the three. */
size_t tls_suite_secret_bytes(uint16_t suite);
size_t tls_suite_key_bytes(uint16_t suite);

/*
 * HKDF-Expand-Label with an empty context (RFC 8446 section 7.1); `length` is
 * at most the secret's. -ENOMEM.
 */
int tls_expand_label(uint16_t suite, const uint8_t *secret, const char *label,
	uint8_t *out, size_t length);

/* -ENOMEM. place_count > 0. */
int tls_aead_create(uint32_t place_count, struct tls_aead **out);
void tls_aead_destroy(struct tls_aead *a); /* NULL is allowed */

/* length + TLS_TAG_BYTES to `to`, which may be text->from. -ENOMEM. */
int tls_aead_seal(struct tls_aead *a, uint32_t place, const struct tls_key *key,
	const struct tls_text *text, uint8_t *to);
/*
 * length bytes to `to`, which may be text->from; the tag stands behind them.
 * -EBADMSG: not sealed so; what is in `to` then is not to be used. -ENOMEM.
 */
int tls_aead_open(struct tls_aead *a, const struct tls_key *key,
	const struct tls_text *text, uint8_t *to);

/* The connection of this place has ended: nothing of its keys is left here. */
void tls_aead_forget(struct tls_aead *a, uint32_t place,
	const struct tls_key *in, const struct tls_key *out);

#endif
