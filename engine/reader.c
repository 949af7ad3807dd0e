/* reader.c - stream byte ranges of files through staging (disk -> sink) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/reader.h"

/* One aligned stretch of a file and the segments that it covers. */
struct chunk {
	uint32_t file;
	uint32_t first_segment;
	uint64_t offset_bytes; /* aligned */
	uint32_t need_bytes; /* that segments lie in */
	uint32_t length_bytes; /* need, rounded up to the alignment */
	uint32_t filled_bytes;
	bool direct; /* queued while the file had O_DIRECT */
	uint8_t *buffer; /* READER_CHUNK_BYTES, owned by the run */
};

struct run {
	const struct model_files *files;
	const struct read_segment *segments;
	uint32_t count;
	const struct reader_sink *sink;
	struct error *err;

	/* where the next chunk begins */
	uint32_t next_segment;
	uint64_t next_offset; /* in the file */

	struct io_uring ring;
	uint8_t *staging;
	struct chunk chunks[READER_DEPTH];
	int *saved_flags; /* [weight_count], -1 = unchanged */
	uint64_t delivered_bytes;
	struct reader_info info;
};

static uint64_t segment_end(const struct read_segment *segment)
{
	return segment->offset_bytes + segment->size_bytes;
}

/*
 * The next stretch: it begins where the last one ended and takes in every
 * segment of the file that begins within it. False at the end.
 */
static bool next_chunk(struct run *run, struct chunk *chunk)
{
	const struct read_segment *segment;
	uint64_t limit, need;
	uint32_t last;

	while (run->next_segment < run->count &&
		run->segments[run->next_segment].size_bytes == 0)
		run->next_segment++;
	if (run->next_segment == run->count)
		return false;
	segment = &run->segments[run->next_segment];
	if (run->next_offset < segment->offset_bytes)
		run->next_offset = segment->offset_bytes;
	chunk->file = segment->file;
	chunk->first_segment = run->next_segment;
	chunk->offset_bytes =
		run->next_offset / READER_ALIGN_BYTES * READER_ALIGN_BYTES;
	limit = chunk->offset_bytes + READER_CHUNK_BYTES;
	last = run->next_segment;
	while (last + 1 < run->count &&
		run->segments[last + 1].file == chunk->file &&
		run->segments[last + 1].offset_bytes < limit)
		last++;
	need = segment_end(&run->segments[last]);
	if (need > limit) {
		need = limit;
		run->next_segment = last;
		run->next_offset = limit;
	} else {
		run->next_segment = last + 1;
		run->next_offset = 0;
	}
	chunk->need_bytes = (uint32_t)(need - chunk->offset_bytes);
	chunk->length_bytes = (chunk->need_bytes + READER_ALIGN_BYTES - 1) /
			      READER_ALIGN_BYTES * READER_ALIGN_BYTES;
	chunk->filled_bytes = 0;
	chunk->direct = run->saved_flags[chunk->file] >= 0;
	return true;
}

/* Hand the chunk's part of each segment to the sink. */
static int deliver(struct run *run, const struct chunk *chunk)
{
	uint64_t begin = chunk->offset_bytes;
	uint64_t end = begin + chunk->need_bytes;

	for (uint32_t i = chunk->first_segment; i < run->count; i++) {
		const struct read_segment *segment = &run->segments[i];
		uint64_t from = segment->offset_bytes;
		uint64_t to = segment_end(segment);
		int rc;

		if (segment->file != chunk->file || from >= end)
			break;
		if (from < begin)
			from = begin;
		if (to > end)
			to = end;
		if (from >= to)
			continue;
		rc = run->sink->take(run->sink->arg, i,
			from - segment->offset_bytes,
			chunk->buffer + (from - begin), (size_t)(to - from));
		if (rc)
			return error_set(run->err, -rc,
				"%s: storing the bytes "
				"at offset %llu failed: %s",
				run->files->weights[chunk->file].name,
				(unsigned long long)from, strerror(-rc));
		run->delivered_bytes += to - from;
	}
	if (run->sink->progress)
		run->sink->progress(run->sink->arg, run->delivered_bytes);
	return 0;
}

static int read_failed(struct run *run, const struct chunk *chunk, int code)
{
	const struct model_file *file = &run->files->weights[chunk->file];
	uint64_t at = chunk->offset_bytes + chunk->filled_bytes;
	struct stat now;

	if (code == 0)
		return error_set(run->err, EIO,
			"%s: ends at byte %lld, its header promised more",
			file->name,
			fstat(file->fd, &now) ? -1LL : (long long)now.st_size);
	return error_set(run->err, EIO, "%s: reading at byte %llu failed: %s",
		file->name, (unsigned long long)at, strerror(-code));
}

static void set_direct(struct run *run, uint32_t file)
{
	int fd = run->files->weights[file].fd;
	int flags = fcntl(fd, F_GETFL);

	run->saved_flags[file] = -1;
	if (flags < 0 || (flags & O_DIRECT))
		return;
	if (fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
		run->saved_flags[file] = flags;
		run->info.direct_file_count++;
	}
}

static void clear_direct(struct run *run, uint32_t file)
{
	if (run->saved_flags[file] < 0)
		return;
	/* Going back to what it was cannot fail in a way that matters. */
	(void)fcntl(
		run->files->weights[file].fd, F_SETFL, run->saved_flags[file]);
	run->saved_flags[file] = -1;
}

/*
 * What a finished read means: 1 = chunk complete, 0 = read on, < 0 = failed.
 * A file system may accept the flag O_DIRECT and refuse the read.
 */
static int account_read(struct run *run, struct chunk *chunk, int result)
{
	if (result == -EINTR || result == -EAGAIN)
		return 0;
	if (result == -EINVAL && chunk->direct) {
		if (run->saved_flags[chunk->file] >= 0)
			run->info.direct_file_count--;
		clear_direct(run, chunk->file);
		chunk->direct = false;
		return 0;
	}
	if (result <= 0)
		return read_failed(run, chunk, result);
	chunk->filled_bytes += (uint32_t)result;
	run->info.read_bytes += (uint64_t)result;
	return chunk->filled_bytes >= chunk->need_bytes;
}

static int run_pread(struct run *run)
{
	struct chunk *chunk = &run->chunks[0];

	while (next_chunk(run, chunk)) {
		int rc = 0;

		while (rc == 0) {
			ssize_t got = pread(run->files->weights[chunk->file].fd,
				chunk->buffer + chunk->filled_bytes,
				chunk->length_bytes - chunk->filled_bytes,
				(off_t)(chunk->offset_bytes +
					chunk->filled_bytes));

			rc = account_read(
				run, chunk, got < 0 ? -errno : (int)got);
		}
		if (rc > 0)
			rc = deliver(run, chunk);
		if (rc)
			return rc;
	}
	return 0;
}

static void queue_read(struct run *run, struct chunk *chunk)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&run->ring);

	assert(sqe); /* one entry per chunk */
	io_uring_prep_read(sqe, run->files->weights[chunk->file].fd,
		chunk->buffer + chunk->filled_bytes,
		chunk->length_bytes - chunk->filled_bytes,
		chunk->offset_bytes + chunk->filled_bytes);
	io_uring_sqe_set_data(sqe, chunk);
}

/* Wait for what the kernel still writes into the buffers. */
static void drain(struct run *run, uint32_t in_flight)
{
	while (in_flight > 0) {
		struct io_uring_cqe *cqe;

		if (io_uring_wait_cqe(&run->ring, &cqe) == 0) {
			io_uring_cqe_seen(&run->ring, cqe);
			in_flight--;
		}
	}
}

static int run_uring(struct run *run)
{
	uint32_t in_flight = 0;
	int rc = 0;

	for (uint32_t i = 0; i < READER_DEPTH; i++)
		if (next_chunk(run, &run->chunks[i])) {
			queue_read(run, &run->chunks[i]);
			in_flight++;
		}
	while (in_flight > 0) {
		struct io_uring_cqe *cqe;
		struct chunk *chunk;
		int result;

		rc = io_uring_submit_and_wait(&run->ring, 1);
		if (rc < 0 && rc != -EINTR) {
			rc = error_set(run->err, EIO,
				"io_uring: submitting reads failed: %s",
				strerror(-rc));
			break;
		}
		if (io_uring_peek_cqe(&run->ring, &cqe) != 0)
			continue;
		chunk = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&run->ring, cqe);
		in_flight--;
		rc = account_read(run, chunk, result);
		if (rc > 0) {
			rc = deliver(run, chunk);
			if (rc == 0 && !next_chunk(run, chunk))
				continue;
		}
		if (rc < 0)
			break;
		queue_read(run, chunk);
		in_flight++;
	}
	/* Reads that were queued and never submitted do not come back. */
	if (rc < 0)
		drain(run, in_flight - io_uring_sq_ready(&run->ring));
	return rc < 0 ? rc : 0;
}

static int prepare(struct run *run)
{
	size_t size = (size_t)READER_DEPTH * READER_CHUNK_BYTES;
	void *staging;

	run->saved_flags = malloc(
		(run->files->weight_count + 1) * sizeof(*run->saved_flags));
	if (!run->saved_flags)
		return -ENOMEM;
	if (posix_memalign(&staging, READER_ALIGN_BYTES, size)) {
		free(run->saved_flags);
		return -ENOMEM;
	}
	run->staging = staging;
	for (uint32_t i = 0; i < READER_DEPTH; i++)
		run->chunks[i].buffer =
			run->staging + (size_t)i * READER_CHUNK_BYTES;
	for (uint32_t i = 0; i < run->files->weight_count; i++)
		set_direct(run, i);
	return 0;
}

int reader_run(const struct model_files *files,
	const struct read_segment *segments, uint32_t count,
	const struct reader_sink *sink, struct reader_info *out,
	struct error *err)
{
	struct run run = {
		.files = files,
		.segments = segments,
		.count = count,
		.sink = sink,
		.err = err,
	};
	int rc;

	*out = (struct reader_info){0};
	rc = prepare(&run);
	if (rc)
		return error_set(err, -rc,
			"no memory to stage reads of the "
			"model's files");
	run.info.used_io_uring =
		io_uring_queue_init(READER_DEPTH, &run.ring, 0) == 0;
	if (run.info.used_io_uring) {
		rc = run_uring(&run);
		io_uring_queue_exit(&run.ring);
	} else {
		rc = run_pread(&run);
	}
	for (uint32_t i = 0; i < files->weight_count; i++)
		clear_direct(&run, i);
	free(run.staging);
	free(run.saved_flags);
	*out = run.info;
	return rc;
}
