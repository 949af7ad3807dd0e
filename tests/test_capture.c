/* test_capture.c - frames of a polled port into a file */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/capture.h"
#include "tests/suite.h"

#define FILE_HEAD_BYTES 24
#define FRAME_HEAD_BYTES 16
#define FRAME_BYTES_MAX 1514

static struct capture_counters counters, second;

static struct capture *create_taps(uint32_t count)
{
	struct capture_counters *const all[] = {&counters, &second};
	struct capture *c;

	CU_ASSERT_EQUAL_FATAL(capture_create(all, count, &c), 0);
	return c;
}

static struct capture *create(void)
{
	return create_taps(1);
}

/* The capture gets a descriptor, the test keeps one. */
static int start(struct capture *c, uint64_t serial, uint64_t max_bytes)
{
	struct error err = {0};
	int fd = memfd_create("capture", MFD_CLOEXEC);
	int rc = capture_start(c, dup(fd), max_bytes, serial, &err);

	if (rc)
		printf("\n%s\n", err.text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	return fd;
}

/* Frame `number`: its length and its bytes follow from it. */
static size_t make_frame(uint32_t number, uint8_t *out)
{
	size_t length =
		14 + number * UINT64_C(2654435761) % (FRAME_BYTES_MAX - 14);

	for (size_t i = 0; i < length; i++)
		out[i] = (uint8_t)(number + i);
	return length;
}

static void put(struct capture *c, uint32_t number)
{
	uint8_t frame[FRAME_BYTES_MAX];
	size_t length = make_frame(number, frame);

	capture_put(&c->taps[0], frame, length, mono_now());
}

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* Reads all of the file: frames first..first+n, n is returned. */
static uint32_t read_frames(int fd, uint32_t first)
{
	struct stat st;
	uint8_t *file, frame[FRAME_BYTES_MAX];
	size_t at = FILE_HEAD_BYTES;
	uint32_t count = 0;

	CU_ASSERT_EQUAL_FATAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL((uint64_t)st.st_size, counters.bytes);
	file = malloc((size_t)st.st_size);
	CU_ASSERT_EQUAL_FATAL(
		pread(fd, file, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	CU_ASSERT_EQUAL(word(file), 0xa1b23c4d);
	CU_ASSERT_EQUAL(word(file + 4), 2 | 4 << 16);
	CU_ASSERT_EQUAL(word(file + 20), 1);
	for (; at < (size_t)st.st_size; count++) {
		size_t length = make_frame(first + count, frame);

		/* After 2026, before it wraps. */
		CU_ASSERT(word(file + at) > 1767225600);
		CU_ASSERT(word(file + at + 4) < 1000000000);
		CU_ASSERT_EQUAL_FATAL(word(file + at + 8), length);
		CU_ASSERT_EQUAL(word(file + at + 12), length);
		at += FRAME_HEAD_BYTES;
		CU_ASSERT_EQUAL_FATAL(memcmp(file + at, frame, length), 0);
		at += length;
	}
	CU_ASSERT_EQUAL(at, (size_t)st.st_size);
	free(file);
	return count;
}

static void test_capture__what_was_put_is_in_the_file(void)
{
	struct capture *c = create();
	struct error err = {0};
	int fd;

	CU_ASSERT_FALSE(capture_wants(NULL));
	CU_ASSERT_FALSE(capture_wants(&c->taps[0]));
	put(c, 7); /* nobody wants it */
	fd = start(c, 1, UINT64_C(1) << 30);
	CU_ASSERT(capture_wants(&c->taps[0]));
	CU_ASSERT_EQUAL(counters.state, CAPTURE_RUNS);
	for (uint32_t i = 0; i < 1000; i++)
		put(c, i);
	CU_ASSERT_EQUAL(capture_stop(c, &err), 0);
	CU_ASSERT_FALSE(capture_wants(&c->taps[0]));
	CU_ASSERT_EQUAL(counters.state, CAPTURE_STOPPED);
	CU_ASSERT_EQUAL(counters.frames, 1000);
	CU_ASSERT_EQUAL(counters.dropped, 0);
	CU_ASSERT_EQUAL(read_frames(fd, 0), 1000);
	CU_ASSERT_EQUAL(capture_stop(c, &err), -ENOENT);
	/* A second one has its own frames alone. */
	fd = start(c, 2, UINT64_C(1) << 30);
	put(c, 5000);
	put(c, 5001);
	CU_ASSERT_EQUAL(capture_stop(c, &err), 0);
	CU_ASSERT_EQUAL(counters.serial, 2);
	CU_ASSERT_EQUAL(read_frames(fd, 5000), 2);
	capture_destroy(c);
}

static void test_capture__ends_before_it_is_too_large(void)
{
	struct capture *c = create();
	struct stat st;
	int fd = start(c, 3, 10000);
	uint32_t i = 0;

	while (counter_read(&counters.state) == CAPTURE_RUNS) {
		put(c, i++);
		sched_yield();
	}
	CU_ASSERT_FALSE(capture_wants(&c->taps[0]));
	/* Ended already; now its thread is gone, too. */
	CU_ASSERT_EQUAL(capture_stop(c, NULL), 0);
	CU_ASSERT_EQUAL(counters.state, CAPTURE_FULL);
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT(st.st_size <= 10000 &&
		  st.st_size + FRAME_HEAD_BYTES + FRAME_BYTES_MAX > 10000);
	CU_ASSERT_EQUAL(read_frames(fd, 0), counters.frames);
	/* Another may begin without a stop. */
	fd = start(c, 4, CAPTURE_BYTES_MIN);
	while (counter_read(&counters.state) == CAPTURE_RUNS) {
		put(c, i++);
		sched_yield();
	}
	close(fd);
	fd = start(c, 5, 10000);
	put(c, 1);
	capture_destroy(c);
	CU_ASSERT_EQUAL(read_frames(fd, 1), 1);
}

static void test_capture__refusals(void)
{
	struct capture *c = create();
	struct error err = {0};
	int ends[2], fd = start(c, 6, 10000);

	CU_ASSERT_EQUAL(
		capture_start(c, memfd_create("x", 0), 10000, 7, &err), -EBUSY);
	CU_ASSERT_EQUAL(capture_stop(c, NULL), 0);
	CU_ASSERT_EQUAL(read_frames(fd, 0), 0);
	CU_ASSERT_EQUAL(capture_start(c, memfd_create("x", 0),
				CAPTURE_BYTES_MIN - 1, 7, NULL),
		-EINVAL);
	err = (struct error){0};
	CU_ASSERT_EQUAL(
		capture_start(c, open("/dev/null", O_RDONLY), 10000, 7, &err),
		-EBADF);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "cannot be written"));
	CU_ASSERT_EQUAL(counters.serial, 6);
	/* A file that fails later. */
	CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
	CU_ASSERT_EQUAL(capture_start(c, ends[1], 10000, 8, NULL), 0);
	close(ends[0]);
	while (counter_read(&counters.state) == CAPTURE_RUNS) {
		put(c, 1);
		sched_yield();
	}
	capture_destroy(c);
	CU_ASSERT_EQUAL(counters.state, CAPTURE_FAILED);
}

/* A pipe that nobody reads stops the thread: the ring fills, and drops. */
static void test_capture__drops_what_does_not_fit(void)
{
	struct capture *c = create();
	uint8_t sink[65536];
	uint32_t i = 0;
	int ends[2];

	CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
	CU_ASSERT_EQUAL_FATAL(
		capture_start(c, ends[1], UINT64_C(1) << 40, 9, NULL), 0);
	while (counter_read(&counters.dropped) == 0)
		put(c, i++);
	CU_ASSERT(i > CAPTURE_RING_BYTES / (FRAME_BYTES_MAX + 100));
	/* Let it go on to its end. */
	CU_ASSERT_EQUAL(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	atomic_store(&c->serial, 0);
	atomic_store(&c->ending, true);
	while (counter_read(&counters.state) == CAPTURE_RUNS)
		if (read(ends[0], sink, sizeof(sink)) <= 0)
			sched_yield();
	capture_destroy(c);
	CU_ASSERT_EQUAL(counters.state, CAPTURE_STOPPED);
	CU_ASSERT_EQUAL(counters.frames + counters.dropped, i);
	close(ends[0]);
}

static void test_capture_create__an_earlier_life_has_failed(void)
{
	struct capture *c;

	counters.state = CAPTURE_RUNS;
	c = create();
	CU_ASSERT_EQUAL(counters.state, CAPTURE_FAILED);
	capture_destroy(c);
	capture_destroy(NULL);
}

/* Of two loops: what each has put, and what either has dropped. */
static void test_capture__two_taps_in_one_file(void)
{
	struct capture *c = create_taps(2);
	static const uint8_t large[40000], small[100];
	struct error err = {0};
	struct stat st;
	int fd = start(c, 1, UINT64_C(1) << 30);

	second.dropped = 0;
	capture_put(&c->taps[1], large, sizeof(large), mono_now());
	for (int i = 0; i < 300; i++)
		capture_put(&c->taps[i % 2], small, sizeof(small), mono_now());
	CU_ASSERT_EQUAL(capture_stop(c, &err), 0);
	CU_ASSERT_EQUAL(counters.frames, 300);
	CU_ASSERT_EQUAL(counters.dropped, 0);
	CU_ASSERT_EQUAL(second.dropped, 1);
	CU_ASSERT_EQUAL(second.frames, 0);
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL(
		st.st_size, FILE_HEAD_BYTES + 300 * (FRAME_HEAD_BYTES + 100));
	close(fd);
	capture_destroy(c);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(capture__what_was_put_is_in_the_file),
		SUITE_CASE(capture__ends_before_it_is_too_large),
		SUITE_CASE(capture__refusals),
		SUITE_CASE(capture__two_taps_in_one_file),
		SUITE_CASE(capture__drops_what_does_not_fit),
		SUITE_CASE(capture_create__an_earlier_life_has_failed),
	};

	/* The pipe's other end is closed on purpose. */
	signal(SIGPIPE, SIG_IGN);
	return SUITE_MAIN("capture", cases);
}
