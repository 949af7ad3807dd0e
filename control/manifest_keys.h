/* manifest_keys.h - who may sign an adapter (PEM files -> ed25519 keys) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  ed25519 (RFC 8032) by OpenSSL's libcrypto. A public key comes as PEM
 *        ("BEGIN PUBLIC KEY"), one or several in a file, or as *.pem in a
 *        directory. A signature is 64 bytes as they are or in base64, with
 *        a newline behind them or without; there is one way to write each.
 * Threads: any; a struct belongs to one.
 */
#ifndef HEDDLE_CONTROL_MANIFEST_KEYS_H
#define HEDDLE_CONTROL_MANIFEST_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "control/manifest.h"

#define MANIFEST_KEY_COUNT_MAX 64u
#define MANIFEST_SIGNATURE_BYTES 64
#define MANIFEST_SIGNATURE_FILE_BYTES_MAX 90 /* base64 and \r\n */

struct manifest_keys {
	uint8_t key[MANIFEST_KEY_COUNT_MAX][MANIFEST_KEY_BYTES];
	uint32_t count; /* at least 1 after a successful read */
};

/*
 * Of a file, or of every *.pem of a directory that is not hidden. -ENOENT and
 * others of the system, -EINVAL: no public key is in it, or one of another
 * kind, or too many; each names the file.
 */
int manifest_keys_read(
	const char *path, struct manifest_keys *out, struct error *err);

bool manifest_keys_hold(const struct manifest_keys *keys,
	const uint8_t key[MANIFEST_KEY_BYTES]);

/* -EBADMSG: none of the keys made it; -ENOMEM. */
int manifest_keys_verify(const struct manifest_keys *keys, const void *text,
	size_t length, const uint8_t signature[MANIFEST_SIGNATURE_BYTES]);

/* The bytes of a signature file. -EINVAL. */
int manifest_signature_parse(const uint8_t *bytes, size_t length,
	uint8_t out[MANIFEST_SIGNATURE_BYTES], struct error *err);

/* One who signs: a private key. */
struct manifest_signer {
	void *key; /* EVP_PKEY, owned */
	uint8_t public_key[MANIFEST_KEY_BYTES];
};

/* A private key in PEM, without a passphrase. */
int manifest_signer_open(
	const char *path, struct manifest_signer *out, struct error *err);
void manifest_signer_close(struct manifest_signer *signer);

int manifest_sign(const struct manifest_signer *signer, const void *text,
	size_t length, uint8_t out[MANIFEST_SIGNATURE_BYTES],
	struct error *err);

#endif
