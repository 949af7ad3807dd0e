/* test_reader.c - file ranges through staging buffers */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/reader.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

#define FILES 3
#define SEGMENTS_MAX 200
#define CUT_BYTES 4096

/* Files of random bytes on a disk, and what each segment received. */
struct fixture {
	struct model_file file[FILES];
	struct model_files files;
	uint8_t *bytes[FILES];
	struct read_segment segments[SEGMENTS_MAX];
	uint32_t count;
	uint8_t *got[SEGMENTS_MAX];
	_Atomic uint64_t got_bytes;
	uint64_t last_progress;
	int sink_code;
	uint32_t lane_count; /* 0 = 1 */
	bool cached;
	bool cuts; /* the file while it is read, to CUT_BYTES */
	uint64_t lane_bytes[READER_LANE_COUNT_MAX + 1];
};

static void make_file(
	struct fixture *f, uint32_t index, size_t size, uint64_t *state)
{
	struct model_file *file = &f->file[index];
	char path[] = "build-reader-XXXXXX";

	f->bytes[index] = malloc(size);
	for (size_t i = 0; i < size; i++)
		f->bytes[index][i] = (uint8_t)suite_random(state);
	file->fd = mkostemp(path, O_CLOEXEC);
	CU_ASSERT_FATAL(file->fd >= 0);
	unlink(path);
	CU_ASSERT_EQUAL_FATAL(
		write(file->fd, f->bytes[index], size), (ssize_t)size);
	file->size_bytes = size;
	snprintf(file->name, sizeof(file->name), "file-%u", index);
}

static void open_fixture(struct fixture *f, uint64_t *state)
{
	static const size_t sizes[FILES] = {1, 70001, 5 * 1024 * 1024 + 77};

	*f = (struct fixture){0};
	for (uint32_t i = 0; i < FILES; i++)
		make_file(f, i, sizes[i], state);
	f->files.weights = f->file;
	f->files.weight_count = FILES;
}

static void close_fixture(struct fixture *f)
{
	for (uint32_t i = 0; i < f->count; i++)
		free(f->got[i]);
	for (uint32_t i = 0; i < FILES; i++) {
		close(f->file[i].fd);
		free(f->bytes[i]);
	}
}

/* Segments of random length with random gaps, some empty, some touching. */
static void random_segments(struct fixture *f, uint64_t *state)
{
	for (uint32_t i = 0; i < f->count; i++)
		free(f->got[i]);
	f->count = 0;
	f->got_bytes = f->last_progress = 0;
	for (uint32_t file = 0; file < FILES; file++) {
		uint64_t size = f->file[file].size_bytes, at = 0;

		while (at < size && f->count < SEGMENTS_MAX) {
			uint64_t gap = suite_below(state, 3)
					       ? 0
					       : suite_below(state, 300000);
			uint64_t length = suite_below(state, 4)
						  ? suite_below(state, 5000)
						  : suite_below(state, 3000000);

			if (at + gap >= size)
				break;
			at += gap;
			if (length > size - at)
				length = size - at;
			f->segments[f->count] =
				(struct read_segment){file, at, length,
					suite_below(state, 3) *
						suite_below(state, 90000)};
			f->got[f->count++] = calloc(1, length + 1);
			at += length;
		}
	}
}

static int take(void *arg, uint32_t lane, uint32_t segment, uint64_t offset,
	const uint8_t *data, size_t length)
{
	struct fixture *f = arg;

	if (f->sink_code)
		return f->sink_code;
	/* CUnit counts on one thread, so a wrong call ends the run. */
	if (lane > f->lane_count || segment >= f->count || length == 0 ||
		offset + length > f->segments[segment].size_bytes)
		return -EDOM;
	if (f->cuts && ftruncate(f->file[2].fd, CUT_BYTES))
		return -EDOM;
	f->lane_bytes[lane] += length;
	memcpy(f->got[segment] + offset, data, length);
	f->got_bytes += length;
	return 0;
}

static void progress(void *arg, uint64_t done)
{
	struct fixture *f = arg;

	CU_ASSERT(done >= f->last_progress);
	f->last_progress = done;
}

static int run(struct fixture *f, struct reader_info *info, struct error *err)
{
	struct reader_sink sink = {take, progress, f, f->lane_count, f->cached};

	return reader_run(&f->files, f->segments, f->count, &sink, info, err);
}

/* Everything arrived, once, where it belongs. */
static void check_bytes(const struct fixture *f)
{
	uint64_t total = 0;
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < f->count; i++) {
		const struct read_segment *s = &f->segments[i];

		total += s->size_bytes;
		wrong += memcmp(f->got[i], f->bytes[s->file] + s->offset_bytes,
				 s->size_bytes) != 0;
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(f->got_bytes, total);
	CU_ASSERT_EQUAL(f->last_progress, total);
}

static void test_reader_run__random_segments(void)
{
	uint64_t state = suite_seed(11);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	for (int round = 0; round < 12; round++) {
		int flags = fcntl(f.file[2].fd, F_GETFL);

		random_segments(&f, &state);
		CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
		check_bytes(&f);
		CU_ASSERT_EQUAL(fcntl(f.file[2].fd, F_GETFL), flags);
	}
	printf("io_uring %s, direct on %u of %d files ",
		info.used_io_uring ? "yes" : "no", info.direct_file_count,
		FILES);
	close_fixture(&f);
}

/* What was just written is found in the cache, by one lane or many. */
static void test_reader_run__from_the_page_cache(void)
{
	uint64_t state = suite_seed(24);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	for (int round = 0; round < 12; round++) {
		f.cached = round > 0;
		f.lane_count = 1 + (uint32_t)round % 3;
		random_segments(&f, &state);
		CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
		check_bytes(&f);
		if (f.cached) {
			CU_ASSERT_EQUAL(
				info.cached_file_count + info.direct_file_count,
				FILES);
		} else {
			CU_ASSERT_EQUAL(info.cached_file_count, 0);
		}
		/* What O_DIRECT read may have left the cache: it comes back. */
		for (uint32_t i = 0; i < FILES; i++)
			CU_ASSERT(pread(f.file[i].fd, f.bytes[i],
					  f.file[i].size_bytes, 0) > 0);
	}
	printf("%u of %d files in the cache ", info.cached_file_count, FILES);
	close_fixture(&f);
}

/* Several lanes: every byte once, and a failure of one ends all. */
static void test_reader_run__many_lanes(void)
{
	uint64_t state = suite_seed(19);
	struct reader_info info;
	struct fixture f;

	open_fixture(&f, &state);
	for (uint32_t round = 0; round < 12; round++) {
		struct error err = {0};

		f.lane_count = 2 + round % (READER_LANE_COUNT_MAX - 1);
		random_segments(&f, &state);
		CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
		CU_ASSERT_EQUAL(info.lane_count, f.lane_count);
		check_bytes(&f);
		f.sink_code = -ENOSPC;
		CU_ASSERT_EQUAL(run(&f, &info, &err), -ENOSPC);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "storing the bytes"));
		f.sink_code = 0;
	}
	for (uint32_t n = 1; n < 6; n++) {
		struct error err = {0};

		f.last_progress = 0;
		fake_os_reset();
		fake_os_fail(FAKE_OS_URING_SUBMIT, n, EBADR);
		CU_ASSERT_EQUAL(
			run(&f, &info, &err), fake_os_has_failed() ? -EIO : 0);
	}
	fake_os_disarm();
	close_fixture(&f);
}

static void test_reader_run__without_io_uring(void)
{
	uint64_t state = suite_seed(12);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	random_segments(&f, &state);
	fake_os_reset();
	fake_os_fail(FAKE_OS_URING_INIT, 1, ENOSYS);
	CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
	CU_ASSERT_TRUE(fake_os_has_failed());
	CU_ASSERT_FALSE(info.used_io_uring);
	check_bytes(&f);
	fake_os_disarm();
	close_fixture(&f);
}

static void test_reader_run__nothing_to_read(void)
{
	uint64_t state = suite_seed(13);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
	f.segments[0] = (struct read_segment){1, 10, 0, 0};
	f.got[0] = calloc(1, 1);
	f.count = 1;
	CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
	CU_ASSERT_EQUAL(f.got_bytes, 0);
	close_fixture(&f);
}

/* A file that shrank after its header was checked. */
static void expect_short_file(bool uring)
{
	uint64_t state = suite_seed(14);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	f.segments[0] = (struct read_segment){2, 100, 4 << 20, 0};
	f.got[0] = calloc(1, 4 << 20);
	f.count = 1;
	CU_ASSERT_EQUAL(ftruncate(f.file[2].fd, 3000000), 0);
	fake_os_reset();
	if (!uring)
		fake_os_fail(FAKE_OS_URING_INIT, 1, EPERM);
	CU_ASSERT_EQUAL(run(&f, &info, &err), -EIO);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(err.text, "file-2: ends at byte 3000000"));
	fake_os_disarm();
	close_fixture(&f);
}

static void test_reader_run__file_shrank(void)
{
	expect_short_file(true);
	expect_short_file(false);
}

/* It is cut when some of it is on its way. */
static void test_reader_run__file_is_cut(void)
{
	uint64_t state = suite_seed(25);
	struct reader_info info;
	struct fixture f;

	for (uint32_t lanes = 1; lanes <= 3; lanes++) {
		struct error err = {0};

		open_fixture(&f, &state);
		f.segments[0] = (struct read_segment){2, 100, 4 << 20, 0};
		f.got[0] = calloc(1, 4 << 20);
		f.count = 1;
		f.lane_count = lanes;
		f.cached = f.cuts = true;
		CU_ASSERT_EQUAL(run(&f, &info, &err), -EIO);
		CU_ASSERT_PTR_NOT_NULL(
			strstr(err.text, "file-2: ends at byte 4096"));
		close_fixture(&f);
	}
}

/* A file that cannot be mapped is read. */
static void test_reader_run__without_mapping(void)
{
	uint64_t state = suite_seed(26);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	random_segments(&f, &state);
	f.cached = true;
	f.lane_count = 2;
	for (uint64_t n = 1; n <= FILES; n++) {
		f.last_progress = 0;
		f.got_bytes = 0;
		fake_os_reset();
		fake_os_fail(FAKE_OS_MMAP, n, ENOMEM);
		CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
		CU_ASSERT(fake_os_has_failed() || n > info.cached_file_count);
		check_bytes(&f);
	}
	fake_os_disarm();
	close_fixture(&f);
}

static void test_reader_run__read_fails(void)
{
	uint64_t state = suite_seed(15);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;
	int ends[2];

	open_fixture(&f, &state);
	f.segments[0] = (struct read_segment){1, 5, 1000, 0};
	f.got[0] = calloc(1, 1000);
	f.count = 1;
	/* A descriptor that cannot be read at an offset. */
	CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
	close(f.file[1].fd);
	f.file[1].fd = ends[1];
	CU_ASSERT_EQUAL(run(&f, &info, &err), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "file-1: reading at byte 0"));
	close(ends[0]);
	close_fixture(&f);
}

static void test_reader_run__sink_fails(void)
{
	uint64_t state = suite_seed(16);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	random_segments(&f, &state);
	f.sink_code = -ENOSPC;
	CU_ASSERT_EQUAL(run(&f, &info, &err), -ENOSPC);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "storing the bytes"));
	close_fixture(&f);
}

/* Whatever is in flight when submitting fails has to be waited for. */
static void test_reader_run__submit_fails(void)
{
	uint64_t state = suite_seed(17);
	struct fixture f;

	open_fixture(&f, &state);
	random_segments(&f, &state);
	for (uint64_t n = 1; n < 6; n++) {
		struct reader_info info;
		struct error err = {0};

		f.last_progress = 0;
		fake_os_reset();
		fake_os_fail(FAKE_OS_URING_SUBMIT, n, EBADR);
		CU_ASSERT_EQUAL(run(&f, &info, &err), -EIO);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "submitting reads"));
	}
	fake_os_disarm();
	close_fixture(&f);
}

/* A file system that has no O_DIRECT: the page cache serves. */
static void test_reader_run__without_direct(void)
{
	uint64_t state = suite_seed(18);
	struct reader_info info;
	struct error err = {0};
	struct fixture f;

	open_fixture(&f, &state);
	random_segments(&f, &state);
	fake_os_reset();
	fake_os_fail(FAKE_OS_FCNTL, 2, EINVAL);
	CU_ASSERT_EQUAL(run(&f, &info, &err), 0);
	CU_ASSERT_EQUAL(info.direct_file_count, FILES - 1);
	check_bytes(&f);
	fake_os_disarm();
	close_fixture(&f);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(reader_run__random_segments),
		SUITE_CASE(reader_run__from_the_page_cache),
		SUITE_CASE(reader_run__many_lanes),
		SUITE_CASE(reader_run__without_io_uring),
		SUITE_CASE(reader_run__nothing_to_read),
		SUITE_CASE(reader_run__file_shrank),
		SUITE_CASE(reader_run__file_is_cut),
		SUITE_CASE(reader_run__without_mapping),
		SUITE_CASE(reader_run__read_fails),
		SUITE_CASE(reader_run__sink_fails),
		SUITE_CASE(reader_run__submit_fails),
		SUITE_CASE(reader_run__without_direct),
	};

	return SUITE_MAIN("reader", cases);
}
