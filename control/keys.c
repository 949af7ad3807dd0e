/* keys.c - API keys, hashed (file -> struct front_key) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/keys.h"

#define HASH_BYTES 32
#define HEX_BYTES ((size_t)2 * HASH_BYTES)

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

static bool parse_hex(const char *text, uint8_t out[HASH_BYTES])
{
	for (size_t i = 0; i < HASH_BYTES; i++) {
		int high = hex_value(text[2 * i]);
		int low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* Printable and without spaces: it ends up in logs and metrics. */
static bool tenant_ok(const char *text, size_t length)
{
	if (length == 0 || length >= sizeof(((struct front_key *)0)->tenant))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isgraph((unsigned char)text[i]) || text[i] == '"' ||
			text[i] == '\\')
			return false;
	return true;
}

static int parse_line(const char *line, size_t length, struct front_key *out,
	struct error *err)
{
	size_t at = HEX_BYTES;

	if (length < HEX_BYTES || !parse_hex(line, out->sha256))
		return error_set(err, EINVAL,
			"does not begin with the 64 hex digits of a SHA-256");
	if (at == length || !isblank((unsigned char)line[at]))
		return error_set(
			err, EINVAL, "has no space and tenant after the hash");
	while (at < length && isblank((unsigned char)line[at]))
		at++;
	while (length > at && isspace((unsigned char)line[length - 1]))
		length--;
	if (!tenant_ok(line + at, length - at))
		return error_set(err, EINVAL,
			"the tenant must be 1 to %zu printable characters "
			"without spaces",
			sizeof(out->tenant) - 1);
	memset(out->tenant, 0, sizeof(out->tenant));
	memcpy(out->tenant, line + at, length - at);
	return 0;
}

static int add(struct front_key *keys, uint32_t *count,
	const struct front_key *key, struct error *err)
{
	for (uint32_t i = 0; i < *count; i++)
		if (memcmp(keys[i].sha256, key->sha256, HASH_BYTES) == 0)
			return error_set(
				err, EINVAL, "this key stands here twice");
	if (*count == FRONT_KEY_COUNT_MAX)
		return error_set(
			err, EINVAL, "more than %d keys", FRONT_KEY_COUNT_MAX);
	keys[(*count)++] = *key;
	return 0;
}

static int parse_into(const char *text, size_t length, const char *name,
	struct front_key *keys, uint32_t *count, struct error *err)
{
	size_t at = 0;

	for (unsigned line = 1; at < length; line++) {
		const char *end = memchr(text + at, '\n', length - at);
		size_t size = end ? (size_t)(end - text) - at : length - at;
		const char *begin = text + at;
		struct front_key key;
		int rc;

		at += size + 1;
		while (size > 0 && isspace((unsigned char)*begin)) {
			begin++;
			size--;
		}
		if (size == 0 || *begin == '#')
			continue;
		rc = parse_line(begin, size, &key, err);
		if (rc == 0)
			rc = add(keys, count, &key, err);
		if (rc) {
			error_prefix(err, "%s:%u", name, line);
			return rc;
		}
	}
	/* An empty file would open the door instead of closing it. */
	if (*count == 0)
		return error_set(err, EINVAL, "%s: holds no key", name);
	return 0;
}

int keys_parse(const char *text, size_t length, const char *name,
	struct front_key keys[FRONT_KEY_COUNT_MAX], uint32_t *out_count,
	struct error *err)
{
	struct front_key *fresh = calloc(FRONT_KEY_COUNT_MAX, sizeof(*fresh));
	uint32_t count = 0;
	int rc;

	if (!fresh)
		return error_set(err, ENOMEM, "%s: out of memory", name);
	rc = parse_into(text, length, name, fresh, &count, err);
	if (rc == 0) {
		memcpy(keys, fresh, FRONT_KEY_COUNT_MAX * sizeof(*fresh));
		*out_count = count;
	}
	free(fresh);
	return rc;
}

int keys_load(const char *path, struct front_key keys[FRONT_KEY_COUNT_MAX],
	uint32_t *out_count, struct error *err)
{
	char *text = malloc(KEYS_FILE_BYTES_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t length = 0;
	ssize_t got = 1;
	int rc;

	if (fd < 0 || !text)
		rc = error_set(err, fd < 0 ? errno : ENOMEM, "%s: %s", path,
			strerror(fd < 0 ? errno : ENOMEM));
	else {
		while (got > 0 && length <= KEYS_FILE_BYTES_MAX) {
			got = read(fd, text + length,
				KEYS_FILE_BYTES_MAX + 1 - length);
			length += got > 0 ? (size_t)got : 0;
		}
		if (got < 0)
			rc = error_set(
				err, errno, "%s: %s", path, strerror(errno));
		else if (length > KEYS_FILE_BYTES_MAX)
			rc = error_set(err, EFBIG, "%s: larger than %d bytes",
				path, KEYS_FILE_BYTES_MAX);
		else
			rc = keys_parse(
				text, length, path, keys, out_count, err);
	}
	if (fd >= 0)
		close(fd);
	free(text);
	return rc;
}

int keys_line(const char *key, size_t length, const char *tenant,
	char out[KEYS_LINE_BYTES], struct error *err)
{
	unsigned char hash[EVP_MAX_MD_SIZE];

	if (length == 0)
		return error_set(err, EINVAL, "the key is empty");
	if (!tenant_ok(tenant, strlen(tenant)))
		return error_set(err, EINVAL,
			"the tenant must be 1 to 63 printable characters "
			"without spaces");
	if (!EVP_Digest(key, length, hash, NULL, EVP_sha256(), NULL))
		return error_set(err, EIO, "SHA-256 failed");
	for (size_t i = 0; i < HASH_BYTES; i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
	snprintf(out + HEX_BYTES, KEYS_LINE_BYTES - HEX_BYTES, " %s", tenant);
	return 0;
}
