/* safetensors.h - the header of one weight file, trusted by nobody */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Format: 8 bytes little-endian header length N, N bytes of JSON
 *        {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...,
 *        "__metadata__": {string: string}}, then the data; offsets count
 *        from the end of the header (github.com/huggingface/safetensors,
 *        README "Format").
 * Invariants: after a successful parse: N <= 100,000,000 and fits the file;
 *        names are unique, printable and at most 512 bytes; every shape
 *        times its type's size equals end - begin without overflow; the
 *        tensors, in order of offset, cover the data section exactly: no
 *        gap, no overlap, no byte beyond. Nothing is read from the data.
 * Ownership: the header owns its names and arrays until release.
 * Threads: immutable after parse.
 */
#ifndef HEDDLE_ENGINE_SAFETENSORS_H
#define HEDDLE_ENGINE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/limits.h"

/* Types that exist in files; those without a dtype cannot be loaded. */
struct safetensors_tensor {
	char *name; /* owned by the header */
	char type_name[12]; /* as written: "BF16", "I64", ... */
	enum dtype type; /* DTYPE_COUNT: a valid type that we cannot load */
	uint32_t rank;
	uint64_t shape[SAFETENSORS_RANK_MAX];
	uint64_t offset_bytes; /* from the beginning of the file */
	uint64_t size_bytes;
};

struct safetensors_header {
	struct safetensors_tensor *tensors; /* in order of offset */
	uint32_t count;
	uint64_t data_offset_bytes; /* where the data section begins */
};

/* Parse the JSON alone; data_size_bytes is what the file holds after it. */
int safetensors_parse(const char *json, size_t length, uint64_t data_size_bytes,
	struct safetensors_header *out, struct error *err);

/*
 * Read and parse the header of an open file (pread; the descriptor's offset
 * is not used). file_name is for errors only. -EINVAL with a text that
 * names file, tensor and reason; -EIO; -ENOMEM.
 */
int safetensors_read(int fd, const char *file_name,
	struct safetensors_header *out, struct error *err);

#define SAFETENSORS_LENGTH_BYTES 8 /* of a header's length */

/*
 * How many bytes of JSON follow the first SAFETENSORS_LENGTH_BYTES of a file of
 * that size. -EINVAL.
 */
int safetensors_header_length(const uint8_t prefix[SAFETENSORS_LENGTH_BYTES],
	uint64_t file_bytes, uint64_t *out, struct error *err);

/*
 * A header covers its file exactly, so its end tells the size: -EINVAL where
 * that is not what the file had when it was opened.
 */
int safetensors_check_size(const struct safetensors_header *header,
	const char *file_name, uint64_t opened_bytes, struct error *err);

/* A zeroed struct is allowed. */
void safetensors_release(struct safetensors_header *header);

#endif
