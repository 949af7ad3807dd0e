/* out_dir.c - a directory that appears whole or not at all (files -> path) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/out_dir.h"

#define COPY_BYTES ((size_t)1 << 20)
#define TEMPORARY_SUFFIX ".partial-XXXXXX"

static int fail(const char *name, struct error *err)
{
	return error_set(err, errno, "%s: %s", name, strerror(errno));
}

int out_dir_begin(const char *path, struct out_dir *out, struct error *err)
{
	size_t length = strlen(path);
	struct stat st;

	*out = (struct out_dir){.fd = -1};
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length == 0 ||
		length + sizeof(TEMPORARY_SUFFIX) > sizeof(out->temporary))
		return error_set(err, EINVAL, "\"%.64s\": is no path", path);
	memcpy(out->path, path, length);
	memcpy(out->temporary, path, length);
	memcpy(out->temporary + length, TEMPORARY_SUFFIX,
		sizeof(TEMPORARY_SUFFIX));
	if (lstat(out->path, &st) == 0)
		return error_set(
			err, EEXIST, "%s: is there already", out->path);
	if (!mkdtemp(out->temporary))
		return fail(out->temporary, err);
	out->fd = open(out->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (out->fd < 0) {
		int rc = fail(out->temporary, err);

		rmdir(out->temporary);
		return rc;
	}
	return 0;
}

int out_dir_create(
	struct out_dir *dir, const char *name, int *out_fd, struct error *err)
{
	*out_fd = openat(dir->fd, name,
		O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	return *out_fd < 0 ? fail(name, err) : 0;
}

int out_dir_write(int fd, const char *name, const void *data, size_t size,
	uint64_t offset, struct error *err)
{
	const uint8_t *bytes = data;

	while (size > 0) {
		ssize_t n = pwrite(fd, bytes, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(name, err);
		bytes += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

struct copy {
	int to, from;
	const char *name;
	uint8_t *buffer; /* COPY_BYTES */
};

static int copy_piece(const struct copy *copy, uint64_t offset, size_t size,
	struct error *err)
{
	ssize_t n = pread(copy->from, copy->buffer, size, (off_t)offset);

	if (n < 0)
		return fail(copy->name, err);
	if ((size_t)n != size)
		return error_set(
			err, EIO, "%s: changed while it was read", copy->name);
	return out_dir_write(
		copy->to, copy->name, copy->buffer, size, offset, err);
}

int out_dir_copy(int to, int from, const char *name, uint64_t size_bytes,
	struct error *err)
{
	struct copy copy = {to, from, name, malloc(COPY_BYTES)};
	int rc = 0;

	if (!copy.buffer)
		return error_set(err, ENOMEM, "%s: no memory to copy", name);
	for (uint64_t at = 0; rc == 0 && at < size_bytes; at += COPY_BYTES) {
		uint64_t left = size_bytes - at;

		rc = copy_piece(&copy, at,
			left < COPY_BYTES ? (size_t)left : COPY_BYTES, err);
	}
	free(copy.buffer);
	return rc;
}

/* Call for each name in the directory; ends with the first error. */
static int each_name(struct out_dir *dir, int (*take)(int fd, const char *name))
{
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	if (!list) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (rc == 0 && (entry = readdir(list)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 &&
			strcmp(entry->d_name, "..") != 0)
			rc = take(dir->fd, entry->d_name);
	closedir(list);
	return rc;
}

static int sync_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -1;
	rc = fsync(fd);
	close(fd);
	return rc;
}

static int remove_file(int dir, const char *name)
{
	unlinkat(dir, name, 0);
	return 0;
}

int out_dir_commit(struct out_dir *dir, struct error *err)
{
	int rc = 0;

	assert(dir->fd >= 0);
	/* mkdtemp makes it private; what it holds is as public as its parent. */
	if (each_name(dir, sync_file) || fchmod(dir->fd, 0755) ||
		fsync(dir->fd))
		rc = fail(dir->temporary, err);
	if (rc == 0 && renameat2(AT_FDCWD, dir->temporary, AT_FDCWD, dir->path,
			       RENAME_NOREPLACE))
		rc = fail(dir->path, err);
	if (rc) {
		out_dir_abort(dir);
		return rc;
	}
	close(dir->fd);
	dir->fd = -1;
	return 0;
}

void out_dir_abort(struct out_dir *dir)
{
	if (dir->fd < 0)
		return;
	each_name(dir, remove_file);
	close(dir->fd);
	dir->fd = -1;
	rmdir(dir->temporary);
}
