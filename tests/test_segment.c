/* test_segment.c - the shared memory of a node, and what is asleep on it */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/segment.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

static const struct segment_shape small = {64, 100, 16, 2, 1};

static void test_segment_size__bounds(void)
{
	static const struct segment_shape bad[] = {
		{0, 100, 16, 1, 1},
		{REQUEST_SLOT_COUNT_MAX + 1, 100, 16, 1, 1},
		{64, 0, 16, 1, 1},
		{64, PAYLOAD_PAGE_COUNT_MAX + 1, 16, 1, 1},
		{64, 100, 0, 1, 1},
		{64, 100, 1, 1, 1},
		{64, 100, 24, 1, 1},
		{64, 100, 2 * SEGMENT_RING_COUNT_MAX, 1, 1},
		{64, 100, 16, 0, 1},
		{64, 100, 16, RANK_COUNT_MAX + 1, 1},
		{64, 100, 16, 1, 0},
		{64, 100, 16, 1, FRONT_COUNT_MAX + 1},
		{1, 100, 16, 1, 2},
		{64, 1, 16, 1, 2},
	};
	struct segment_shape most = {REQUEST_SLOT_COUNT_MAX,
		PAYLOAD_PAGE_COUNT_MAX, SEGMENT_RING_COUNT_MAX, RANK_COUNT_MAX,
		FRONT_COUNT_MAX};
	size_t size = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct segment segment;
		struct error err = {0};
		int fd = -1;

		CU_ASSERT_EQUAL(segment_size(&bad[i], &size), -EINVAL);
		CU_ASSERT_EQUAL(
			segment_create(&bad[i], &segment, &fd, &err), -EINVAL);
		CU_ASSERT_EQUAL(fd, -1);
	}
	CU_ASSERT_EQUAL(size, 0);
	CU_ASSERT_EQUAL(segment_size(&most, &size), 0);
	CU_ASSERT_TRUE(
		size > (size_t)PAYLOAD_PAGE_COUNT_MAX * PAYLOAD_PAGE_BYTES);
}

/* The bytes from `at` on are zero and become `mark`: areas do not overlap. */
static void claim(const void *at, size_t length, const struct segment *segment,
	unsigned char *claimed)
{
	size_t from = (size_t)((const char *)at - (const char *)segment->base);

	CU_ASSERT_FATAL(from + length <= segment->size_bytes);
	for (size_t i = from; i < from + length; i++) {
		CU_ASSERT_EQUAL_FATAL(claimed[i], 0);
		claimed[i] = 1;
	}
}

static void test_segment_create__areas_are_apart(void)
{
	static unsigned char claimed[4 << 20];
	struct segment s;
	struct error err = {0};
	int fd;

	CU_ASSERT_EQUAL_FATAL(segment_create(&small, &s, &fd, &err), 0);
	CU_ASSERT_FATAL(s.size_bytes <= sizeof(claimed));
	memset(claimed, 0, sizeof(claimed));
	memset(claimed, 1, 4096); /* the header's page */
	for (uint32_t i = 0; i < ROLE_INDEX_RANK0 + small.rank_count; i++) {
		claim(segment_beat(&s, i), sizeof(struct role_beat), &s,
			claimed);
		claim(segment_wake(&s, i), sizeof(struct wake), &s, claimed);
		claim(segment_control_ring(&s, i), ring_size(16), &s, claimed);
	}
	claim(segment_adapter_table(&s), sizeof(struct adapter_table), &s,
		claimed);
	claim(segment_front_counters(&s), sizeof(struct front_counters), &s,
		claimed);
	for (uint32_t i = 0; i < small.rank_count; i++) {
		claim(segment_request_ring(&s, i), ring_size(16), &s, claimed);
		claim(segment_token_ring(&s, i), ring_size(16), &s, claimed);
		claim(segment_rank_books(&s, i), sizeof(struct rank_books), &s,
			claimed);
		claim(segment_engine_counters(&s, i),
			sizeof(struct engine_counters), &s, claimed);
	}
	for (uint32_t i = 0; i < small.slot_count; i++)
		claim(segment_slot(&s, i), sizeof(struct request_slot), &s,
			claimed);
	for (uint32_t i = 0; i < small.page_count; i++)
		claim(segment_page(&s, i), PAYLOAD_PAGE_BYTES, &s, claimed);
	segment_detach(&s);
	segment_detach(&s);
	close(fd);
}

/* What a front has of its own is nobody else's, and all of it is somebody's. */
static void test_segment_view__fronts_share_nothing(void)
{
	static const struct segment_shape three = {65, 100, 16, 2, 3};
	static unsigned char claimed[4 << 20];
	uint32_t slots = 0, pages = 0;
	struct segment s;
	struct error err = {0};
	int fd;

	CU_ASSERT_EQUAL_FATAL(segment_create(&three, &s, &fd, &err), 0);
	CU_ASSERT_FATAL(s.size_bytes <= sizeof(claimed));
	memset(claimed, 0, sizeof(claimed));
	for (uint32_t f = 0; f < three.front_count; f++) {
		struct segment v = segment_view(&s, f);
		struct segment_share own = segment_slot_share(&v);

		claim(segment_beat(&v, ROLE_INDEX_FRONT),
			sizeof(struct role_beat), &v, claimed);
		claim(segment_wake(&v, ROLE_INDEX_FRONT), sizeof(struct wake),
			&v, claimed);
		claim(segment_control_ring(&v, ROLE_INDEX_FRONT), ring_size(16),
			&v, claimed);
		claim(segment_front_counters(&v), sizeof(struct front_counters),
			&v, claimed);
		for (uint32_t i = 0; i < three.rank_count; i++) {
			claim(segment_request_ring(&v, i), ring_size(16), &v,
				claimed);
			claim(segment_token_ring(&v, i), ring_size(16), &v,
				claimed);
			CU_ASSERT_PTR_EQUAL(
				segment_wake(&v, ROLE_INDEX_RANK0 + i),
				segment_wake(&s, ROLE_INDEX_RANK0 + i));
		}
		CU_ASSERT_EQUAL(own.first, slots);
		for (uint32_t i = 0; i < own.count; i++)
			CU_ASSERT_EQUAL(
				segment_slot_front(&v, own.first + i), f);
		slots += own.count;
		own = segment_page_share(&v);
		CU_ASSERT_EQUAL(own.first, pages);
		pages += own.count;
	}
	CU_ASSERT_EQUAL(slots, three.slot_count);
	CU_ASSERT_EQUAL(pages, three.page_count);
	for (uint32_t i = 0; i < three.rank_count; i++)
		claim(segment_engine_counters(&s, i),
			sizeof(struct engine_counters), &s, claimed);
	segment_detach(&s);
	close(fd);
}

static void test_segment_front_total__adds_up(void)
{
	static const struct segment_shape two = {4, 4, 16, 1, 2};
	struct front_counters *one, total;
	struct segment s, v;
	struct error err = {0};
	int fd;

	CU_ASSERT_EQUAL_FATAL(segment_create(&two, &s, &fd, &err), 0);
	for (uint32_t f = 0; f < two.front_count; f++) {
		v = segment_view(&s, f);
		one = segment_front_counters(&v);
		counter_add(&one->requests_total, 3 + f);
		histogram_add(&one->first_token, 1000);
		counter_set(&one->nic.port_count, 2);
		counter_set(&one->nic.link_up, 1);
		counter_add(&one->nic.in_frames_total, 10);
		counter_set(&one->capture.serial, 5 + f);
	}
	segment_front_total(&v, &total);
	CU_ASSERT_EQUAL(total.requests_total, 7);
	CU_ASSERT_EQUAL(total.first_token.count, 2);
	CU_ASSERT_EQUAL(total.nic.port_count, 2);
	CU_ASSERT_EQUAL(total.nic.link_up, 1);
	CU_ASSERT_EQUAL(total.nic.in_frames_total, 20);
	CU_ASSERT_EQUAL(total.capture.serial, 5);
	segment_detach(&s);
	close(fd);
}

/* Everyone who has the segment or its descriptors can ring; a copy is whole. */
static void test_segment_ring_bell__ends_the_sleep_of_one_front(void)
{
	static const struct segment_shape two = {4, 4, 16, 1, 2};
	struct segment s, other, mine, theirs;
	struct error err = {0};
	eventfd_t rung = 0;
	struct pollfd bells[2];
	int fd;

	CU_ASSERT_EQUAL_FATAL(segment_create(&two, &s, &fd, &err), 0);
	CU_ASSERT_EQUAL_FATAL(segment_attach(fd, &other, &err), 0);
	mine = segment_view(&s, 1);
	theirs = segment_view(&other, 1);
	CU_ASSERT_EQUAL(segment_bell(&theirs), -1);
	other.bell_fds[1] = s.bell_fds[1];
	theirs = segment_view(&other, 1);
	for (int i = 0; i < 2; i++)
		bells[i] =
			(struct pollfd){.fd = s.bell_fds[i], .events = POLLIN};
	/* Nobody sleeps: no system call. */
	segment_ring_bell(&theirs);
	CU_ASSERT_EQUAL(poll(bells, 2, 0), 0);
	(void)wake_arm(segment_wake(&mine, ROLE_INDEX_FRONT));
	segment_ring_bell(&theirs);
	CU_ASSERT_EQUAL(poll(bells, 2, 0), 1);
	CU_ASSERT(bells[1].revents & POLLIN);
	CU_ASSERT_EQUAL(eventfd_read(s.bell_fds[1], &rung), 0);
	wake_disarm(segment_wake(&mine, ROLE_INDEX_FRONT));
	segment_ring_bell(&theirs);
	CU_ASSERT_EQUAL(poll(bells, 2, 0), 0);
	/* What an attached one was given is not its own to close. */
	segment_detach(&other);
	CU_ASSERT_EQUAL(eventfd_write(s.bell_fds[1], 1), 0);
	segment_detach(&s);
	CU_ASSERT_EQUAL(poll(bells, 2, 0), 2);
	CU_ASSERT(bells[1].revents & POLLNVAL);
	close(fd);
}

static void test_segment_create__starts_empty(void)
{
	struct segment s;
	struct error err = {0};
	struct ring_message message;
	uint32_t count = 0;
	int fd;

	CU_ASSERT_EQUAL_FATAL(segment_create(&small, &s, &fd, &err), 0);
	for (uint32_t i = 0; i < small.slot_count; i++) {
		CU_ASSERT_EQUAL(segment_slot(&s, i)->front_state, FRONT_FREE);
		CU_ASSERT_EQUAL(segment_slot(&s, i)->engine_state, ENGINE_IDLE);
	}
	for (uint32_t i = 0; i < small.rank_count; i++) {
		struct ring *ring = segment_request_ring(&s, i);

		CU_ASSERT_EQUAL(ring_attach(ring, s.ring_stride, &count), 0);
		CU_ASSERT_EQUAL(count, small.ring_count);
		CU_ASSERT_EQUAL(ring_pop(ring, count, &message, 1), 0);
	}
	CU_ASSERT_EQUAL(segment_beat(&s, ROLE_INDEX_FRONT)->state, BEAT_ABSENT);
	segment_detach(&s);
	close(fd);
}

static void test_segment_create__size_is_sealed(void)
{
	struct segment s;
	struct error err = {0};
	int fd;

	CU_ASSERT_EQUAL_FATAL(segment_create(&small, &s, &fd, &err), 0);
	CU_ASSERT_EQUAL(ftruncate(fd, 4096), -1);
	CU_ASSERT_EQUAL(ftruncate(fd, (off_t)s.size_bytes + 4096), -1);
	CU_ASSERT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	segment_detach(&s);
	close(fd);
}

/* What a child finds and leaves there; its exit status says what is wrong. */
static int be_another_process(int fd)
{
	struct segment s;
	struct error err = {0};
	struct ring_message message;
	struct ring *in, *out;
	uint32_t count;

	if (segment_attach(fd, &s, &err))
		return 1;
	if (memcmp(&s.shape, &small, sizeof(small)) != 0)
		return 2;
	in = segment_request_ring(&s, 1);
	out = segment_token_ring(&s, 1);
	if (ring_attach(in, s.ring_stride, &count) ||
		ring_pop(in, count, &message, 1) != 1)
		return 3;
	if (segment_slot(&s, message.slot)->generation != 77 ||
		memcmp(segment_page(&s, 99)->bytes, "prompt", 7) != 0)
		return 4;
	message.kind = RING_DONE;
	if (!ring_push(out, count, &message))
		return 5;
	segment_beat(&s, ROLE_INDEX_RANK0 + 1)->progress = 5;
	histogram_add(&segment_engine_counters(&s, 1)->step, 3);
	return 0;
}

static void test_segment_attach__from_another_process(void)
{
	struct ring_message message = {RING_SUBMIT, 63, 77, 0};
	struct segment s;
	struct error err = {0};
	int fd, status = -1;
	pid_t child;

	CU_ASSERT_EQUAL_FATAL(segment_create(&small, &s, &fd, &err), 0);
	segment_slot(&s, 63)->generation = 77;
	memcpy(segment_page(&s, 99)->bytes, "prompt", 7);
	CU_ASSERT_TRUE(ring_push(segment_request_ring(&s, 1), 16, &message));
	child = fork();
	if (child == 0)
		_exit(be_another_process(fd));
	CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL(
		ring_pop(segment_token_ring(&s, 1), 16, &message, 1), 1);
	CU_ASSERT_EQUAL(message.kind, RING_DONE);
	CU_ASSERT_EQUAL(segment_beat(&s, ROLE_INDEX_RANK0 + 1)->progress, 5);
	CU_ASSERT_EQUAL(segment_engine_counters(&s, 1)->step.count, 1);
	CU_ASSERT_EQUAL(segment_engine_counters(&s, 0)->step.count, 0);
	segment_detach(&s);
	close(fd);
}

/* The n-th 32-bit word of the header becomes `value`: refused? */
static void spoil_word(int fd, size_t word, uint32_t value)
{
	struct segment s;
	struct error err = {0};
	uint32_t before;
	off_t at = (off_t)(word * sizeof(value));

	CU_ASSERT_EQUAL_FATAL(pread(fd, &before, sizeof(before), at), 4);
	if (before == value)
		return;
	CU_ASSERT_EQUAL(pwrite(fd, &value, sizeof(value), at), 4);
	CU_ASSERT_EQUAL(segment_attach(fd, &s, &err), -EINVAL);
	CU_ASSERT_PTR_NULL(s.base);
	CU_ASSERT_TRUE(error_is_set(&err));
	CU_ASSERT_EQUAL(pwrite(fd, &before, sizeof(before), at), 4);
}

static void test_segment_attach__every_word_of_the_header_is_checked(void)
{
	/* Each of them moves an area or is out of bounds. */
	static const uint32_t values[] = {
		0, 1, 4096, UINT32_C(1) << 31, UINT32_MAX};
	struct segment s;
	struct error err = {0};
	int fd;

	CU_ASSERT_EQUAL_FATAL(segment_create(&small, &s, &fd, &err), 0);
	segment_detach(&s);
	for (size_t word = 0; word < 12; word++)
		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
			spoil_word(fd, word, values[i]);
	CU_ASSERT_EQUAL(segment_attach(fd, &s, &err), 0);
	segment_detach(&s);
	close(fd);
}

static void test_segment_attach__header_of_a_larger_one(void)
{
	struct segment_shape large = {64, 1000, 16, 2, 1};
	struct segment s;
	struct error err = {0};
	char header[64];
	int fd, other;

	CU_ASSERT_EQUAL_FATAL(segment_create(&small, &s, &fd, &err), 0);
	segment_detach(&s);
	CU_ASSERT_EQUAL_FATAL(segment_create(&large, &s, &other, &err), 0);
	memcpy(header, s.base, sizeof(header));
	segment_detach(&s);
	CU_ASSERT_EQUAL(pwrite(fd, header, sizeof(header), 0), sizeof(header));
	CU_ASSERT_EQUAL(segment_attach(fd, &s, &err), -EINVAL);
	close(fd);
	close(other);
}

static void test_segment_attach__no_segment_at_all(void)
{
	struct segment s;
	struct error err = {0};
	int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CU_ASSERT_EQUAL_FATAL(ftruncate(fd, 10), 0);
	CU_ASSERT_EQUAL(segment_attach(fd, &s, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "not sealed"));
	error_clear(&err);
	CU_ASSERT_EQUAL(fcntl(fd, F_ADD_SEALS,
				F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
		0);
	CU_ASSERT_EQUAL(segment_attach(fd, &s, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "too small"));
	close(fd);
	error_clear(&err);
	CU_ASSERT_EQUAL(segment_attach(-1, &s, &err), -EBADF);
}

static void test_segment_create__every_call_can_fail(void)
{
	for (uint64_t nth = 1;; nth++) {
		struct segment s;
		struct error err = {0};
		int fd = -1, rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, nth, ENOMEM);
		rc = segment_create(&small, &s, &fd, &err);
		if (!fake_os_has_failed()) {
			CU_ASSERT_EQUAL(rc, 0);
			CU_ASSERT_TRUE(nth > 3);
			segment_detach(&s);
			close(fd);
			break;
		}
		CU_ASSERT_EQUAL(rc, -ENOMEM);
		CU_ASSERT_EQUAL(fd, -1);
		CU_ASSERT_TRUE(error_is_set(&err));
		CU_ASSERT_TRUE(fake_os_check_empty());
	}
	fake_os_disarm();
}

struct sleeper {
	struct wake *wake;
	uint32_t rounds; /* atomic: pieces of work made so far */
	uint32_t slept_long;
};

#define ROUNDS 50000u

static void *sleep_and_count(void *arg)
{
	struct sleeper *sleeper = arg;
	uint32_t done = 0;

	while (done < ROUNDS) {
		struct mono until = mono_add(mono_now(), 20 * NS_PER_S);
		uint32_t seen = wake_arm(sleeper->wake);
		uint32_t made =
			__atomic_load_n(&sleeper->rounds, __ATOMIC_ACQUIRE);

		if (made == done)
			wake_wait(sleeper->wake, seen, until);
		wake_disarm(sleeper->wake);
		sleeper->slept_long += !mono_before(mono_now(), until);
		done = __atomic_load_n(&sleeper->rounds, __ATOMIC_ACQUIRE);
	}
	return NULL;
}

static void test_wake_post__no_work_is_slept_over(void)
{
	static struct wake wake;
	struct sleeper sleeper = {&wake, 0, 0};
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, sleep_and_count, &sleeper), 0);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		__atomic_fetch_add(&sleeper.rounds, 1, __ATOMIC_RELEASE);
		wake_post(&wake);
		if (i % 3 == 0)
			sched_yield();
	}
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(sleeper.slept_long, 0);
}

static void test_wake_wait__ends_in_time_or_when_the_word_has_changed(void)
{
	static struct wake wake;
	struct mono start = mono_now();
	uint32_t seen = wake_arm(&wake);

	wake_wait(&wake, seen + 1, mono_add(start, 1000 * NS_PER_S));
	wake_wait(&wake, seen, mono_add(start, NS_PER_MS));
	CU_ASSERT_FALSE(mono_before(mono_now(), mono_add(start, NS_PER_MS)));
	wake_disarm(&wake);
	CU_ASSERT_EQUAL(wake.asleep, 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(segment_size__bounds),
		SUITE_CASE(segment_create__areas_are_apart),
		SUITE_CASE(segment_create__starts_empty),
		SUITE_CASE(segment_ring_bell__ends_the_sleep_of_one_front),
		SUITE_CASE(segment_create__size_is_sealed),
		SUITE_CASE(segment_create__every_call_can_fail),
		SUITE_CASE(segment_attach__from_another_process),
		SUITE_CASE(segment_attach__every_word_of_the_header_is_checked),
		SUITE_CASE(segment_attach__header_of_a_larger_one),
		SUITE_CASE(segment_attach__no_segment_at_all),
		SUITE_CASE(segment_view__fronts_share_nothing),
		SUITE_CASE(segment_front_total__adds_up),
		SUITE_CASE(wake_post__no_work_is_slept_over),
		SUITE_CASE(
			wake_wait__ends_in_time_or_when_the_word_has_changed),
	};

	return SUITE_MAIN("segment", cases);
}
