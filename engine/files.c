/* files.c - the open files of a model (descriptors -> text) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/files.h"

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
