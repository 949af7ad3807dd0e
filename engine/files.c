/* files.c - the open files of a model (descriptors -> text) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/files.h"

#define HASH_CHUNK_BYTES ((size_t)1 << 20)

void model_files_init(struct model_files *files)
{
	*files = (struct model_files){
		.config.fd = -1,
		.generation.fd = -1,
		.index.fd = -1,
	};
}

static void close_file(struct model_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

void model_files_close(struct model_files *files)
{
	close_file(&files->config);
	close_file(&files->generation);
	close_file(&files->index);
	for (uint32_t i = 0; i < files->weight_count; i++)
		close_file(&files->weights[i]);
	free(files->weights);
	model_files_init(files);
}

void adapter_files_init(struct adapter_files *files)
{
	*files = (struct adapter_files){.experts = {.fd = -1}};
	model_files_init(&files->model);
}

void adapter_files_close(struct adapter_files *files)
{
	if (files->experts.fd >= 0)
		close(files->experts.fd);
	model_files_close(&files->model);
	adapter_files_init(files);
}

/* One byte more than expected is asked for, so that growth is noticed. */
static int read_all(const struct model_file *file, char *text, size_t size,
	struct error *err)
{
	size_t done = 0;

	while (done <= size) {
		ssize_t n = pread(
			file->fd, text + done, size + 1 - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, EIO, "%s: cannot be read: %s",
				file->name, strerror(errno));
		if (n == 0)
			break;
		done += (size_t)n;
	}
	if (done != size)
		return error_set(
			err, EIO, "%s: changed while it was read", file->name);
	text[size] = '\0';
	return 0;
}

static int compare_hash(const struct model_file *file,
	const uint8_t hash[FILE_HASH_BYTES], struct error *err)
{
	if (memcmp(hash, file->hash, FILE_HASH_BYTES) == 0)
		return 0;
	return error_set(err, EBADMSG,
		"%s: its SHA-256 is not the one of the manifest", file->name);
}

static int check_text(const struct model_file *file, const char *text,
	size_t size, struct error *err)
{
	uint8_t hash[FILE_HASH_BYTES];

	if (EVP_Digest(text, size, hash, NULL, EVP_sha256(), NULL) != 1)
		return error_set(
			err, ENOMEM, "%s: no memory to hash", file->name);
	return compare_hash(file, hash, err);
}

int model_file_text(const struct model_file *file, char **out,
	size_t *out_length, struct error *err)
{
	size_t size;
	char *text;
	int rc;

	assert(file->fd >= 0);
	if (file->size_bytes > (uint64_t)MODEL_JSON_BYTES_MAX)
		return error_set(err, EFBIG, "%s: %llu bytes, at most %u",
			file->name, (unsigned long long)file->size_bytes,
			MODEL_JSON_BYTES_MAX);
	size = (size_t)file->size_bytes;
	text = malloc(size + 1);
	if (!text)
		return error_set(err, ENOMEM, "%s: no memory for %zu bytes",
			file->name, size);
	rc = read_all(file, text, size, err);
	if (rc == 0 && file->has_hash)
		rc = check_text(file, text, size, err);
	if (rc) {
		free(text);
		return rc;
	}
	*out = text;
	*out_length = size;
	return 0;
}

int model_file_read(const struct model_file *file, uint64_t offset_bytes,
	size_t size_bytes, void *out, struct error *err)
{
	uint8_t *bytes = out;
	size_t done = 0;

	while (done < size_bytes) {
		ssize_t n = pread(file->fd, bytes + done, size_bytes - done,
			(off_t)(offset_bytes + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, EIO, "%s: cannot be read: %s",
				file->name, strerror(errno));
		if (n == 0)
			return error_set(
				err, EIO, "%s: ends early", file->name);
		done += (size_t)n;
	}
	return 0;
}

/* A chunk is read once, hashed and handed on. */
static int hash_chunks(const struct model_file *file,
	const struct file_sink *sink, EVP_MD_CTX *context, uint8_t *chunk,
	struct error *err)
{
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < file->size_bytes;) {
		uint64_t left = file->size_bytes - at;
		size_t length = left < HASH_CHUNK_BYTES ? (size_t)left
							: HASH_CHUNK_BYTES;

		rc = model_file_read(file, at, length, chunk, err);
		if (rc == 0 && EVP_DigestUpdate(context, chunk, length) != 1)
			rc = error_set(err, ENOMEM, "%s: no memory to hash",
				file->name);
		if (rc == 0 && sink)
			rc = sink->take(sink->arg, at, chunk, length);
		if (rc)
			return error_set(
				err, -rc, "%s: %s", file->name, strerror(-rc));
		at += length;
	}
	return rc;
}

int model_file_hash(const struct model_file *file, const struct file_sink *sink,
	uint8_t out[FILE_HASH_BYTES], struct error *err)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t *chunk = malloc(HASH_CHUNK_BYTES);
	int rc = 0;

	assert(file->fd >= 0);
	if (!context || !chunk ||
		EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		rc = error_set(
			err, ENOMEM, "%s: no memory to hash", file->name);
	if (rc == 0)
		rc = hash_chunks(file, sink, context, chunk, err);
	if (rc == 0 && EVP_DigestFinal_ex(context, out, NULL) != 1)
		rc = error_set(
			err, ENOMEM, "%s: no memory to hash", file->name);
	free(chunk);
	EVP_MD_CTX_free(context);
	return rc;
}

int model_file_prove(const struct model_file *file,
	const struct file_sink *sink, struct error *err)
{
	uint8_t hash[FILE_HASH_BYTES];
	int rc;

	assert(file->has_hash);
	rc = model_file_hash(file, sink, hash, err);
	return rc ? rc : compare_hash(file, hash, err);
}
