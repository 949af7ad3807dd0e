/* reader.h - stream byte ranges of files through staging (disk -> sink) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   weights are read once, straight to where they stay. Reads are large,
 *        aligned and many at a time (io_uring), past the page cache where
 *        the file system allows it (O_DIRECT), so that loading costs neither
 *        a second copy in memory nor everybody else's cache. Offsets in
 *        checkpoints are not aligned, so bytes pass through staging buffers.
 *        What is done with them costs more than reading: so a run may have
 *        several lanes, each with a thread, a queue and READER_DEPTH buffers
 *        of READER_CHUNK_BYTES of its own. A lane that stores a chunk has
 *        its next ones on their way.
 * Cache: a sink may say that what the page cache holds is to be taken from
 *        there (an adapter that was there a minute ago, or was just written).
 *        Such a file is mapped, and the sink gets its bytes where they lie. A
 *        file that is cut meanwhile fails the run (base/bus_guard.h), the sink
 *        may have had zeros before. Where it cannot be mapped it is read
 *        without O_DIRECT in pieces of READER_CACHED_BYTES by the lane itself:
 *        they are still in the processor's cache when the sink stores them.
 * Fallbacks, each told in struct reader_info: no io_uring (kernel, seccomp)
 *        -> pread; no O_DIRECT -> through the page cache; a thread could not
 *        be started -> fewer lanes.
 * Ownership: descriptors and segments are borrowed; the descriptors' status
 *        flags are restored.
 * Threads: the caller is the first lane; reader_run() returns when all lanes
 *        have ended.
 */
#ifndef HEDDLE_ENGINE_READER_H
#define HEDDLE_ENGINE_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/files.h"

#define READER_CHUNK_BYTES (1u << 20)
#define READER_CACHED_BYTES (128u << 10)
#define READER_DEPTH 8 /* of a lane */
#define READER_LANE_COUNT_MAX 8
#define READER_ALIGN_BYTES 4096 /* of offsets, lengths and buffers */

struct read_segment {
	uint32_t file; /* index into model_files.weights */
	uint64_t offset_bytes; /* in the file */
	uint64_t size_bytes;
	/*
	 * What the sink stores best at a time: where the page cache is read,
	 * pieces end on multiples of it. 0 = anywhere.
	 */
	uint32_t unit_bytes;
};

struct reader_info {
	bool used_io_uring; /* in every lane */
	uint32_t direct_file_count; /* files read with O_DIRECT */
	uint32_t cached_file_count; /* found in the page cache */
	uint32_t lane_count; /* that ran */
	uint64_t read_bytes;
};

struct reader_sink {
	/*
	 * `length` bytes of segment `segment`, from `offset_bytes` of it on;
	 * called by all lanes at once, lane < lane_count. Returns 0 or -errno,
	 * which ends the run.
	 */
	int (*take)(void *arg, uint32_t lane, uint32_t segment,
		uint64_t offset_bytes, const uint8_t *data, size_t length);
	/*
	 * After each chunk, by one lane at a time: bytes of segments delivered
	 * so far. May be NULL.
	 */
	void (*progress)(void *arg, uint64_t done_bytes);
	void *arg;
	uint32_t lane_count; /* 0 = 1; at most READER_LANE_COUNT_MAX */
	bool cached; /* files in the page cache are read from there */
};

/*
 * Deliver every byte of every segment to the sink exactly once, in no
 * particular order. segments are sorted by file, then offset, and do not overlap. -EIO when a file ends
 * early or a read fails (the text names the file), -ENOMEM.
 */
int reader_run(const struct model_files *files,
	const struct read_segment *segments, uint32_t count,
	const struct reader_sink *sink, struct reader_info *out,
	struct error *err);

#endif
