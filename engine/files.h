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

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"

struct model_file {
	char name[256]; /* inside the model's directory, for errors */
	int fd; /* O_RDONLY */
	uint64_t size_bytes;
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
 * -EFBIG above MODEL_JSON_BYTES_MAX, -EIO, -ENOMEM; each names the file.
 */
int model_file_text(const struct model_file *file, char **out,
	size_t *out_length, struct error *err);

/* All of that range; -EIO, also where the file ends early. */
int model_file_read(const struct model_file *file, uint64_t offset_bytes,
	size_t size_bytes, void *out, struct error *err);

#endif
