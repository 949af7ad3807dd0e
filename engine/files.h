/* files.h - the open files of a model, as control hands them over */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   only control opens files (beneath configured roots); loaders take
 *        descriptors and never paths.
 * Ownership: the struct owns the descriptors and names until
 *        model_files_close().
 * Threads: one thread.
 */
#ifndef HEDDLE_ENGINE_FILES_H
#define HEDDLE_ENGINE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"

#define FILE_HASH_BYTES 32 /* SHA-256 */

/*
 * A file that has a hash is used only as bytes that fit it. Whoever may write
 * to it can change it at any time, also while we read; so what is hashed and
 * what is used are the same bytes in our memory, never two readings.
 */
struct model_file {
	char name[256]; /* inside the model's directory, for errors */
	int fd; /* O_RDONLY */
	uint64_t size_bytes;
	bool has_hash;
	uint8_t hash[FILE_HASH_BYTES]; /* of all its size_bytes */
};

struct model_files {
	struct model_file config; /* fd -1 = absent, for each of these */
	struct model_file generation;
	struct model_file index; /* model.safetensors.index.json */
	struct model_file *weights; /* every *.safetensors, sorted by name */
	uint32_t weight_count;
};

/* Start value: nothing open. */
void model_files_init(struct model_files *files);

/* Close everything; safe after init and after a failed open. */
void model_files_close(struct model_files *files);

/* The open files of an adapter. */
struct adapter_files {
	struct model_file experts; /* expert_cfg.json */
	struct model_files model; /* config.json (or fd -1) and weights */
};

/* Start value: nothing open. */
void adapter_files_init(struct adapter_files *files);

/* Close everything; safe after init and after a failed open. */
void adapter_files_close(struct adapter_files *files);

/*
 * The whole text of a small file, NUL-terminated, to be freed by the caller.
 * -EFBIG above MODEL_JSON_BYTES_MAX, -EIO, -ENOMEM, -EBADMSG: it does not fit
 * its hash; each names the file.
 */
int model_file_text(const struct model_file *file, char **out,
	size_t *out_length, struct error *err);

/* What becomes of the bytes of a file, from its beginning on; not 0 ends. */
struct file_sink {
	int (*take)(void *arg, uint64_t offset_bytes, const uint8_t *data,
		size_t length);
	void *arg;
};

/*
 * SHA-256 of its size_bytes, of which each was given to the sink (NULL: none)
 * as it was hashed. -EIO, -ENOMEM, what the sink says.
 */
int model_file_hash(const struct model_file *file, const struct file_sink *sink,
	uint8_t out[FILE_HASH_BYTES], struct error *err);

/* The same of a file that has a hash. -EBADMSG: what the sink got is not it. */
int model_file_prove(const struct model_file *file,
	const struct file_sink *sink, struct error *err);

/* All of that range; -EIO, also where the file ends early. */
int model_file_read(const struct model_file *file, uint64_t offset_bytes,
	size_t size_bytes, void *out, struct error *err);

#endif
