/* out_dir.h - a directory that appears whole or not at all (files -> path) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a checkpoint that was half written when the disk was full looks like
 *        a checkpoint. Files are made in a directory beside the wanted one,
 *        under a temporary name, and it is renamed when all of them are on
 *        disk.
 * Ownership: the struct owns the temporary directory until commit or abort;
 *        descriptors from out_dir_create() are the caller's.
 * Threads: one.
 */
#ifndef HEDDLE_CONTROL_OUT_DIR_H
#define HEDDLE_CONTROL_OUT_DIR_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct out_dir {
	char path[4096]; /* wanted */
	char temporary[4096];
	int fd; /* of the temporary one */
};

/* -EEXIST: the path is there already; nothing is ever overwritten. */
int out_dir_begin(const char *path, struct out_dir *out, struct error *err);

/* A new file of that name, open for reading and writing. */
int out_dir_create(
	struct out_dir *dir, const char *name, int *out_fd, struct error *err);

/* Write all of it at that offset; name is for errors. */
int out_dir_write(int fd, const char *name, const void *data, size_t size,
	uint64_t offset, struct error *err);

/* Copy `size_bytes` of `from` into `to`, both from their beginnings. */
int out_dir_copy(int to, int from, const char *name, uint64_t size_bytes,
	struct error *err);

/* Put everything on disk and give it its name; on error it is aborted. */
int out_dir_commit(struct out_dir *dir, struct error *err);

/* Remove what was made. */
void out_dir_abort(struct out_dir *dir);

#endif
