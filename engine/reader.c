/* reader.c - stream byte ranges of files through staging (disk -> sink) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bus_guard.h"
#include "engine/reader.h"

#define TMPFS_MAGIC 0x01021994 /* linux/magic.h */
#define CACHE_PROBES 16 /* places where a file is looked up in the cache */

/* One aligned stretch of a file and the segments that it covers. */
struct chunk {
	uint32_t file;
	uint32_t first_segment;
	uint64_t offset_bytes; /* aligned */
	uint32_t need_bytes; /* that segments lie in */
	uint32_t length_bytes; /* need, rounded up to the alignment */
	uint32_t filled_bytes;
	bool direct; /* queued while the file had O_DIRECT */
	bool cached; /* read by the lane itself */
	uint8_t *buffer; /* READER_CHUNK_BYTES of the lane's staging */
};

/* What the lanes share; the lock guards all that is written after start. */
struct run {
	const struct model_files *files;
	const struct read_segment *segments;
	uint32_t count;
	const struct reader_sink *sink;
	struct error *err;

	pthread_mutex_t lock;
	/* where the next chunk begins */
	uint32_t next_segment;
	uint64_t next_offset; /* in the file */
	int *saved_flags; /* [weight_count], -1 = unchanged */
	bool *cached; /* [weight_count] */
	uint8_t **mapped; /* [weight_count] a cached file, or NULL; owned */
	uint64_t delivered_bytes;
	int rc; /* of the first lane that failed; ends the others */
	struct reader_info info;
};

struct lane {
	struct run *run;
	uint32_t index;
	pthread_t thread;
	struct io_uring ring;
	bool has_ring;
	uint8_t *staging; /* owned */
	struct chunk chunks[READER_DEPTH];
	uint64_t read_bytes;
};

static uint64_t segment_end(const struct read_segment *segment)
{
	return segment->offset_bytes + segment->size_bytes;
}

/* The last end of a unit of the segment that lies in (from, limit], or limit. */
static uint64_t last_unit(
	const struct read_segment *segment, uint64_t from, uint64_t limit)
{
	uint64_t end;

	if (segment->unit_bytes == 0 || limit <= segment->offset_bytes)
		return limit;
	end = segment->offset_bytes + (limit - segment->offset_bytes) /
					      segment->unit_bytes *
					      segment->unit_bytes;
	return end > from ? end : limit;
}

/*
 * The next stretch: it begins where the last one ended and takes in every
 * segment of the file that begins within it. False at the end.
 */
static bool next_chunk_locked(struct run *run, struct chunk *chunk)
{
	const struct read_segment *segment;
	uint64_t limit, need;
	uint32_t last;

	while (run->next_segment < run->count &&
		run->segments[run->next_segment].size_bytes == 0)
		run->next_segment++;
	if (run->next_segment == run->count || run->rc)
		return false;
	segment = &run->segments[run->next_segment];
	if (run->next_offset < segment->offset_bytes)
		run->next_offset = segment->offset_bytes;
	chunk->file = segment->file;
	chunk->first_segment = run->next_segment;
	chunk->cached = run->cached[chunk->file];
	chunk->offset_bytes = run->next_offset;
	limit = chunk->offset_bytes + (run->mapped[chunk->file]
						      ? READER_CHUNK_BYTES
						      : READER_CACHED_BYTES);
	if (!chunk->cached) {
		chunk->offset_bytes = run->next_offset / READER_ALIGN_BYTES *
				      READER_ALIGN_BYTES;
		limit = chunk->offset_bytes + READER_CHUNK_BYTES;
	}
	last = run->next_segment;
	while (last + 1 < run->count &&
		run->segments[last + 1].file == chunk->file &&
		run->segments[last + 1].offset_bytes < limit)
		last++;
	need = segment_end(&run->segments[last]);
	if (need > limit) {
		if (chunk->cached)
			limit = last_unit(&run->segments[last],
				chunk->offset_bytes, limit);
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

static bool next_chunk(struct run *run, struct chunk *chunk)
{
	bool found;

	pthread_mutex_lock(&run->lock);
	found = next_chunk_locked(run, chunk);
	pthread_mutex_unlock(&run->lock);
	return found;
}

/* The first failure is the run's; the other lanes find it and stop. */
__attribute__((format(printf, 3, 4))) static int fail(
	struct run *run, int code, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&run->lock);
	if (!run->rc) {
		run->rc = -code;
		va_start(args, format);
		error_setv(run->err, code, format, args);
		va_end(args);
	}
	pthread_mutex_unlock(&run->lock);
	return -code;
}

static void account_delivery(struct run *run, uint64_t bytes)
{
	pthread_mutex_lock(&run->lock);
	run->delivered_bytes += bytes;
	if (run->sink->progress)
		run->sink->progress(run->sink->arg, run->delivered_bytes);
	pthread_mutex_unlock(&run->lock);
}

/* Hand the chunk's part of each segment to the sink. */
static int deliver(struct lane *lane, const struct chunk *chunk)
{
	struct run *run = lane->run;
	uint64_t begin = chunk->offset_bytes;
	uint64_t end = begin + chunk->need_bytes;
	uint64_t delivered = 0;

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
		rc = run->sink->take(run->sink->arg, lane->index, i,
			from - segment->offset_bytes,
			chunk->buffer + (from - begin), (size_t)(to - from));
		if (rc)
			return fail(run, -rc,
				"%s: storing the bytes "
				"at offset %llu failed: %s",
				run->files->weights[chunk->file].name,
				(unsigned long long)from, strerror(-rc));
		delivered += to - from;
	}
	account_delivery(run, delivered);
	return 0;
}

static int read_failed(struct run *run, const struct chunk *chunk, int code)
{
	const struct model_file *file = &run->files->weights[chunk->file];
	uint64_t at = chunk->offset_bytes + chunk->filled_bytes;
	struct stat now;

	if (code == 0)
		return fail(run, EIO,
			"%s: ends at byte %lld, its header promised more",
			file->name,
			fstat(file->fd, &now) ? -1LL : (long long)now.st_size);
	return fail(run, EIO, "%s: reading at byte %llu failed: %s", file->name,
		(unsigned long long)at, strerror(-code));
}

/* Is what the segments of the file need in the page cache? By samples. */
static bool is_cached(const struct model_file *file)
{
	uint8_t byte;
	struct iovec to = {&byte, 1};
	struct statfs fs;

	/* What lies in memory alone cannot be anywhere else. */
	if (fstatfs(file->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		return true;
	for (uint64_t i = 0; i < CACHE_PROBES && file->size_bytes > 0; i++)
		if (preadv2(file->fd, &to, 1,
			    (off_t)((file->size_bytes - 1) / CACHE_PROBES * i),
			    RWF_NOWAIT) != 1)
			return false;
	return file->size_bytes > 0;
}

/* Where that cannot be, the file is read. */
static void map_file(struct run *run, uint32_t file)
{
	const struct model_file *from = &run->files->weights[file];
	void *at = MAP_FAILED;

	if (bus_guard_install() == 0)
		at = mmap(NULL, from->size_bytes, PROT_READ, MAP_SHARED,
			from->fd, 0);
	run->mapped[file] = at == MAP_FAILED ? NULL : at;
}

static void unmap_file(struct run *run, uint32_t file)
{
	if (run->mapped[file])
		munmap(run->mapped[file], run->files->weights[file].size_bytes);
}

static void set_direct(struct run *run, uint32_t file)
{
	int fd = run->files->weights[file].fd;
	int flags = fcntl(fd, F_GETFL);

	run->saved_flags[file] = -1;
	if (flags < 0 || (flags & O_DIRECT))
		return;
	run->cached[file] =
		run->sink->cached && is_cached(&run->files->weights[file]);
	run->info.cached_file_count += run->cached[file];
	if (run->cached[file]) {
		map_file(run, file);
		return;
	}
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
static int account_read(struct lane *lane, struct chunk *chunk, int result)
{
	struct run *run = lane->run;

	if (result == -EINTR || result == -EAGAIN)
		return 0;
	if (result == -EINVAL && chunk->direct) {
		pthread_mutex_lock(&run->lock);
		if (run->saved_flags[chunk->file] >= 0)
			run->info.direct_file_count--;
		clear_direct(run, chunk->file);
		pthread_mutex_unlock(&run->lock);
		chunk->direct = false;
		return 0;
	}
	if (result <= 0)
		return read_failed(run, chunk, result);
	chunk->filled_bytes += (uint32_t)result;
	lane->read_bytes += (uint64_t)result;
	return chunk->filled_bytes >= chunk->need_bytes;
}

/*
 * Hand over a chunk as it lies in the page cache. A file that is cut meanwhile
 * leaves zeros, which fail the run before anybody uses what was stored.
 */
static int deliver_mapped(struct lane *lane, struct chunk *chunk)
{
	struct run *run = lane->run;
	const struct model_file *file = &run->files->weights[chunk->file];
	uint64_t end = chunk->offset_bytes + chunk->need_bytes;
	struct bus_guard guard;
	struct stat now;
	bool whole;
	int rc;

	chunk->buffer = run->mapped[chunk->file] + chunk->offset_bytes;
	bus_guard_begin(&guard, chunk->buffer, chunk->need_bytes);
	rc = deliver(lane, chunk);
	whole = bus_guard_end(&guard);
	if (fstat(file->fd, &now))
		return read_failed(run, chunk, -errno);
	if ((uint64_t)now.st_size < end)
		return read_failed(run, chunk, 0);
	if (!whole)
		return read_failed(run, chunk, -EIO);
	lane->read_bytes += chunk->need_bytes;
	return rc;
}

/* Read the chunk and hand it over; 0 or negative. */
static int read_chunk(struct lane *lane, struct chunk *chunk)
{
	int rc;

	if (lane->run->mapped[chunk->file]) {
		struct chunk mapped = *chunk; /* which keeps its buffer */

		return deliver_mapped(lane, &mapped);
	}
	do {
		ssize_t got = pread(lane->run->files->weights[chunk->file].fd,
			chunk->buffer + chunk->filled_bytes,
			chunk->length_bytes - chunk->filled_bytes,
			(off_t)(chunk->offset_bytes + chunk->filled_bytes));

		rc = account_read(lane, chunk, got < 0 ? -errno : (int)got);
	} while (rc == 0);
	return rc > 0 ? deliver(lane, chunk) : rc;
}

static void run_pread(struct lane *lane)
{
	struct chunk *chunk = &lane->chunks[0];
	int rc = 0;

	while (rc >= 0 && next_chunk(lane->run, chunk))
		rc = read_chunk(lane, chunk);
}

static void queue_read(struct lane *lane, struct chunk *chunk)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&lane->ring);

	assert(sqe); /* one entry per chunk */
	io_uring_prep_read(sqe, lane->run->files->weights[chunk->file].fd,
		chunk->buffer + chunk->filled_bytes,
		chunk->length_bytes - chunk->filled_bytes,
		chunk->offset_bytes + chunk->filled_bytes);
	io_uring_sqe_set_data(sqe, chunk);
}

/* Wait for what the kernel still writes into the buffers. */
static void drain(struct lane *lane, uint32_t in_flight)
{
	while (in_flight > 0) {
		struct io_uring_cqe *cqe;

		if (io_uring_wait_cqe(&lane->ring, &cqe) == 0) {
			io_uring_cqe_seen(&lane->ring, cqe);
			in_flight--;
		}
	}
}

/*
 * Queue what is read next, if there is anything: true when there was. What is
 * in the page cache is not waited for, and is delivered here.
 */
static bool queue_next(struct lane *lane, struct chunk *chunk)
{
	while (next_chunk(lane->run, chunk)) {
		if (!chunk->cached) {
			queue_read(lane, chunk);
			return true;
		}
		if (read_chunk(lane, chunk) < 0)
			return false; /* told to all lanes */
	}
	return false;
}

/*
 * One finished read: the chunk goes on, or is delivered and its buffer takes
 * the next one. 1 = queued again, 0 = nothing more to read, < 0 = failed.
 */
static int finish_read(struct lane *lane, struct io_uring_cqe *cqe)
{
	struct chunk *chunk = io_uring_cqe_get_data(cqe);
	int result = cqe->res;
	int rc;

	io_uring_cqe_seen(&lane->ring, cqe);
	rc = account_read(lane, chunk, result);
	if (rc == 0) {
		queue_read(lane, chunk);
		return 1;
	}
	if (rc > 0)
		rc = deliver(lane, chunk);
	return rc ? rc : queue_next(lane, chunk);
}

static void run_uring(struct lane *lane)
{
	uint32_t in_flight = 0;
	int rc = 0;

	for (uint32_t i = 0; i < READER_DEPTH; i++)
		in_flight += queue_next(lane, &lane->chunks[i]);
	while (in_flight > 0 && rc >= 0) {
		struct io_uring_cqe *cqe;

		rc = io_uring_submit_and_wait(&lane->ring, 1);
		if (rc < 0 && rc != -EINTR) {
			fail(lane->run, EIO,
				"io_uring: submitting reads failed: %s",
				strerror(-rc));
			break;
		}
		rc = 0;
		if (io_uring_peek_cqe(&lane->ring, &cqe) != 0)
			continue;
		in_flight--;
		rc = finish_read(lane, cqe);
		in_flight += rc > 0;
	}
	/* Reads that were queued and never submitted do not come back. */
	if (rc < 0)
		drain(lane, in_flight - io_uring_sq_ready(&lane->ring));
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;

	if (lane->has_ring)
		run_uring(lane);
	else
		run_pread(lane);
	return NULL;
}

static int lane_init(struct lane *lane, struct run *run, uint32_t index)
{
	size_t size = (size_t)READER_DEPTH * READER_CHUNK_BYTES;
	void *staging;

	lane->run = run;
	lane->index = index;
	if (posix_memalign(&staging, READER_ALIGN_BYTES, size))
		return -ENOMEM;
	lane->staging = staging;
	for (uint32_t i = 0; i < READER_DEPTH; i++)
		lane->chunks[i].buffer =
			lane->staging + (size_t)i * READER_CHUNK_BYTES;
	lane->has_ring = io_uring_queue_init(READER_DEPTH, &lane->ring, 0) == 0;
	return 0;
}

static void lane_release(struct lane *lane)
{
	if (lane->has_ring)
		io_uring_queue_exit(&lane->ring);
	free(lane->staging);
}

/* Start the other lanes, be the first, wait for all. */
static void run_lanes(struct run *run, struct lane *lanes, uint32_t count)
{
	uint32_t started = 1;

	run->info.used_io_uring = lanes[0].has_ring;
	while (started < count && pthread_create(&lanes[started].thread, NULL,
					  lane_main, &lanes[started]) == 0)
		started++;
	lane_main(&lanes[0]);
	run->info.read_bytes = lanes[0].read_bytes;
	for (uint32_t i = 1; i < started; i++) {
		pthread_join(lanes[i].thread, NULL);
		run->info.read_bytes += lanes[i].read_bytes;
		run->info.used_io_uring &= lanes[i].has_ring;
	}
	run->info.lane_count = started;
}

static int run_all(struct run *run, uint32_t count)
{
	struct lane *lanes = calloc(count, sizeof(*lanes));
	size_t files = run->files->weight_count;
	int rc = 0;

	run->saved_flags = malloc((files + 1) * sizeof(*run->saved_flags));
	run->cached = calloc(files + 1, sizeof(*run->cached));
	run->mapped = calloc(files + 1, sizeof(*run->mapped));
	if (!lanes || !run->saved_flags || !run->cached || !run->mapped)
		rc = -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = lane_init(&lanes[i], run, i);
	if (rc == 0) {
		for (uint32_t i = 0; i < files; i++)
			set_direct(run, i);
		run_lanes(run, lanes, count);
		for (uint32_t i = 0; i < files; i++) {
			clear_direct(run, i);
			unmap_file(run, i);
		}
		rc = run->rc;
	} else {
		error_set(run->err, -rc,
			"no memory to stage reads of the model's files");
	}
	for (uint32_t i = 0; lanes && i < count; i++)
		lane_release(&lanes[i]);
	free(run->mapped);
	free(run->cached);
	free(run->saved_flags);
	free(lanes);
	return rc;
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
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	int rc;

	assert(sink->lane_count <= READER_LANE_COUNT_MAX);
	rc = run_all(&run, sink->lane_count ? sink->lane_count : 1);
	*out = run.info;
	return rc;
}
