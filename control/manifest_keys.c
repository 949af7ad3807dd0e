/* manifest_keys.c - who may sign an adapter (PEM files -> ed25519 keys) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/manifest_keys.h"

#define KEY_SUFFIX ".pem"
#define BASE64_BYTES 88

/* --- public keys ---------------------------------------------------------------------- */

static int add_key(struct manifest_keys *keys, const EVP_PKEY *key,
	const char *name, struct error *err)
{
	size_t length = MANIFEST_KEY_BYTES;

	if (EVP_PKEY_get_id(key) != EVP_PKEY_ED25519)
		return error_set(err, EINVAL,
			"%s: holds a key that is no ed25519", name);
	if (keys->count == MANIFEST_KEY_COUNT_MAX)
		return error_set(err, EINVAL, "%s: more than %u keys", name,
			MANIFEST_KEY_COUNT_MAX);
	if (EVP_PKEY_get_raw_public_key(key, keys->key[keys->count], &length) !=
			1 ||
		length != MANIFEST_KEY_BYTES)
		return error_set(err, EINVAL, "%s: holds a bad key", name);
	keys->count++;
	return 0;
}

/* One block of PEM; what is no public key is not ours to judge. */
static int take_block(const char *kind, const unsigned char *data, long length,
	const char *name, struct manifest_keys *keys, struct error *err)
{
	EVP_PKEY *key;
	int rc;

	if (strcmp(kind, PEM_STRING_PUBLIC) != 0)
		return 0;
	key = d2i_PUBKEY(NULL, &data, length);
	rc = key ? add_key(keys, key, name, err)
		 : error_set(err, EINVAL, "%s: holds a bad public key", name);
	EVP_PKEY_free(key);
	return rc;
}

/* Every key of the file; at its end PEM says that nothing begins. */
static int read_keys(FILE *in, const char *name, struct manifest_keys *keys,
	struct error *err)
{
	uint32_t before = keys->count;
	int rc = 0;

	ERR_clear_error();
	while (rc == 0) {
		char *kind = NULL, *header = NULL;
		unsigned char *data = NULL;
		long length;

		if (PEM_read(in, &kind, &header, &data, &length) != 1)
			break;
		rc = take_block(kind, data, length, name, keys, err);
		OPENSSL_free(kind);
		OPENSSL_free(header);
		OPENSSL_free(data);
	}
	if (rc == 0 &&
		ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		rc = error_set(err, EINVAL, "%s: is no PEM", name);
	ERR_clear_error();
	if (rc == 0 && keys->count == before)
		rc = error_set(
			err, EINVAL, "%s: holds no public key in PEM", name);
	return rc;
}

/* Takes the descriptor. */
static int read_open(
	int fd, const char *name, struct manifest_keys *keys, struct error *err)
{
	FILE *in = fdopen(fd, "r");
	int rc;

	if (!in) {
		close(fd);
		return error_set(err, ENOMEM, "%s: no memory to read", name);
	}
	rc = read_keys(in, name, keys, err);
	(void)fclose(in);
	return rc;
}

static bool is_key_name(const char *name)
{
	size_t length = strlen(name), suffix = strlen(KEY_SUFFIX);

	return name[0] != '.' && length > suffix &&
	       strcmp(name + length - suffix, KEY_SUFFIX) == 0;
}

static int read_folder(DIR *list, const char *path, struct manifest_keys *keys,
	struct error *err)
{
	const struct dirent *entry;
	int rc = 0;

	while (rc == 0 && (entry = readdir(list)) != NULL) {
		char name[512];
		int fd;

		if (!is_key_name(entry->d_name))
			continue;
		snprintf(name, sizeof(name), "%.200s/%s", path, entry->d_name);
		fd = openat(dirfd(list), entry->d_name,
			O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		rc = fd < 0 ? error_set(err, errno, "%s: %s", name,
				      strerror(errno))
			    : read_open(fd, name, keys, err);
	}
	if (rc == 0 && keys->count == 0)
		rc = error_set(err, EINVAL, "%s: holds no *" KEY_SUFFIX, path);
	return rc;
}

int manifest_keys_read(
	const char *path, struct manifest_keys *out, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
	struct stat st;
	DIR *list;

	*out = (struct manifest_keys){0};
	if (fd < 0 || fstat(fd, &st)) {
		rc = error_set(err, errno, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	if (!S_ISDIR(st.st_mode))
		return read_open(fd, path, out, err);
	list = fdopendir(fd);
	if (!list) {
		close(fd);
		return error_set(err, ENOMEM, "%s: no memory to list", path);
	}
	rc = read_folder(list, path, out, err);
	closedir(list);
	return rc;
}

bool manifest_keys_hold(
	const struct manifest_keys *keys, const uint8_t key[MANIFEST_KEY_BYTES])
{
	for (uint32_t i = 0; i < keys->count; i++)
		if (memcmp(keys->key[i], key, MANIFEST_KEY_BYTES) == 0)
			return true;
	return false;
}

/* --- signatures ------------------------------------------------------------------------- */

/* 0, -EBADMSG, -ENOMEM. */
static int verify(const uint8_t raw[MANIFEST_KEY_BYTES], const void *text,
	size_t length, const uint8_t signature[MANIFEST_SIGNATURE_BYTES])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(
		EVP_PKEY_ED25519, NULL, raw, MANIFEST_KEY_BYTES);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int rc = -ENOMEM;

	if (key && context &&
		EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1)
		rc = EVP_DigestVerify(context, signature,
			     MANIFEST_SIGNATURE_BYTES, text, length) == 1
			     ? 0
			     : -EBADMSG;
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return rc;
}

int manifest_keys_verify(const struct manifest_keys *keys, const void *text,
	size_t length, const uint8_t signature[MANIFEST_SIGNATURE_BYTES])
{
	int rc = -EBADMSG;

	for (uint32_t i = 0; rc == -EBADMSG && i < keys->count; i++)
		rc = verify(keys->key[i], text, length, signature);
	return rc;
}

/* One way to write 64 bytes: what decodes to them is encoded again. */
static bool from_base64(
	const uint8_t *bytes, uint8_t out[MANIFEST_SIGNATURE_BYTES])
{
	uint8_t again[BASE64_BYTES + 1];
	uint8_t decoded[BASE64_BYTES / 4 * 3];

	if (EVP_DecodeBlock(decoded, bytes, BASE64_BYTES) !=
		(int)sizeof(decoded))
		return false;
	EVP_EncodeBlock(again, decoded, MANIFEST_SIGNATURE_BYTES);
	if (memcmp(again, bytes, BASE64_BYTES) != 0)
		return false;
	memcpy(out, decoded, MANIFEST_SIGNATURE_BYTES);
	return true;
}

int manifest_signature_parse(const uint8_t *bytes, size_t length,
	uint8_t out[MANIFEST_SIGNATURE_BYTES], struct error *err)
{
	if (length == MANIFEST_SIGNATURE_BYTES) {
		memcpy(out, bytes, MANIFEST_SIGNATURE_BYTES);
		return 0;
	}
	if (length == BASE64_BYTES + 1 && bytes[BASE64_BYTES] == '\n')
		length--;
	else if (length == BASE64_BYTES + 2 &&
		 memcmp(bytes + BASE64_BYTES, "\r\n", 2) == 0)
		length -= 2;
	if (length == BASE64_BYTES && from_base64(bytes, out))
		return 0;
	return error_set(err, EINVAL,
		"is no ed25519 signature of 64 bytes, as they are or in "
		"base64");
}

/* --- signing ------------------------------------------------------------------------------ */

int manifest_signer_open(
	const char *path, struct manifest_signer *out, struct error *err)
{
	/* Asked for a passphrase, it has an empty one. */
	static char none[] = "";
	size_t length = MANIFEST_KEY_BYTES;
	FILE *in = fopen(path, "re");
	EVP_PKEY *key;

	*out = (struct manifest_signer){0};
	if (!in)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	key = PEM_read_PrivateKey(in, NULL, NULL, none);
	(void)fclose(in);
	ERR_clear_error();
	if (!key)
		return error_set(err, EINVAL,
			"%s: holds no private key in PEM without a passphrase",
			path);
	if (EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
		EVP_PKEY_get_raw_public_key(key, out->public_key, &length) !=
			1) {
		EVP_PKEY_free(key);
		return error_set(err, EINVAL,
			"%s: holds a key that is no ed25519", path);
	}
	out->key = key;
	return 0;
}

void manifest_signer_close(struct manifest_signer *signer)
{
	EVP_PKEY_free(signer->key);
	signer->key = NULL;
}

int manifest_sign(const struct manifest_signer *signer, const void *text,
	size_t length, uint8_t out[MANIFEST_SIGNATURE_BYTES], struct error *err)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t size = MANIFEST_SIGNATURE_BYTES;
	bool done = context &&
		    EVP_DigestSignInit(
			    context, NULL, NULL, NULL, signer->key) == 1 &&
		    EVP_DigestSign(context, out, &size, text, length) == 1;

	EVP_MD_CTX_free(context);
	ERR_clear_error();
	return done ? 0 : error_set(err, ENOMEM, "signing failed");
}
