/* test_large_pages.c - the host's large pages: contents, books, refusals */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "memmgr/vmm.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)
#define LARGE ((size_t)2 << 20)

static vmm_addr reserve(struct vmm *vmm, size_t pages)
{
	vmm_addr addr = 0;

	assert(vmm->ops);
	CU_ASSERT_EQUAL_FATAL(vmm->ops->reserve(vmm, pages * PAGE, &addr), 0);
	assert(addr != 0);
	return addr;
}

static struct vmm_handle create(struct vmm *vmm, size_t pages)
{
	struct vmm_handle handle = {0};

	assert(vmm->ops);
	CU_ASSERT_EQUAL_FATAL(vmm->ops->create(vmm, pages * PAGE, &handle), 0);
	return handle;
}

static int map(
	struct vmm *vmm, vmm_addr addr, size_t pages, struct vmm_handle handle)
{
	return vmm->ops->map(vmm, addr, pages * PAGE, handle);
}

/* What the memory file has of the system's memory. */
static int64_t file_bytes(const struct vmm *vmm)
{
	struct stat status = {0};
	size_t size;

	CU_ASSERT_EQUAL(fstat(vmm_host_descriptor(vmm, &size), &status), 0);
	return status.st_blocks * 512;
}

/* A handle of a large page, seen by a window and by half of another place. */
struct large {
	struct vmm vmm;
	struct vmm_handle handle, other;
	vmm_addr window, place;
};

static void open_large(struct large *l, const struct vmm_host_config *config)
{
	struct vmm *vmm = &l->vmm;
	struct vmm_handle small;

	CU_ASSERT_EQUAL_FATAL(vmm_host_init(vmm, config, NULL), 0);
	small = create(vmm, 1); /* the next one does not lie behind it */
	vmm->ops->release(vmm, small);
	l->handle = create(vmm, LARGE / PAGE);
	l->other = create(vmm, LARGE / PAGE); /* most are large */
	l->window = reserve(vmm, LARGE / PAGE);
	l->place = reserve(vmm, 2 * LARGE / PAGE) + LARGE;
	CU_ASSERT_EQUAL(l->window % LARGE, 0);
	CU_ASSERT_EQUAL(l->place % LARGE, 0);
	CU_ASSERT_EQUAL(map(vmm, l->window, LARGE / PAGE, l->handle), 0);
	CU_ASSERT_EQUAL(map(vmm, l->place, LARGE / PAGE, l->handle), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, l->window, LARGE), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, l->place, LARGE), 0);
}

static void close_large(struct large *l)
{
	struct vmm *vmm = &l->vmm;

	vmm->ops->unmap(vmm, l->place, LARGE);
	vmm->ops->unmap(vmm, l->window, LARGE);
	vmm->ops->unreserve(vmm, l->place - LARGE, 2 * LARGE);
	vmm->ops->unreserve(vmm, l->window, LARGE);
	vmm->ops->release(vmm, l->handle);
	vmm->ops->release(vmm, l->other);
	vmm_host_destroy(vmm);
}

static uint32_t word_of(uint32_t i)
{
	return i * 2654435761u + 1;
}

/* Large pages or small ones under it: what was there stays, at both places. */
static void keep_every_byte(void)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	const uint32_t half = LARGE / 8;
	uint32_t *window, *place;
	struct large l;
	uint32_t wrong = 0;

	open_large(&l, &config);
	window = l.vmm.ops->host_pointer(&l.vmm, l.window);
	place = l.vmm.ops->host_pointer(&l.vmm, l.place);
	for (uint32_t i = 0; i < half; i++)
		window[i] = word_of(i); /* the second half: never touched */
	l.vmm.ops->prepare(&l.vmm, l.place, LARGE / 2);
	place[2 * half - 1] = 7;
	for (uint32_t i = 0; i < half; i++)
		wrong += place[i] != word_of(i);
	for (uint32_t i = half; i < 2 * half - 1; i++)
		wrong += window[i] != 0;
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(window[2 * half - 1], 7);
	close_large(&l);
}

static void test_vmm_host_prepare__keeps_every_byte(void)
{
	keep_every_byte();
}

/* A system without large pages, with none to spare, without any advice. */
static void test_vmm_host_prepare__is_only_advice(void)
{
	static const int codes[] = {ENOMEM, EBUSY, EAGAIN, EINVAL, EPERM};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		uint64_t n = 0;

		do {
			fake_os_reset();
			fake_os_fail(FAKE_OS_MADVISE, ++n, codes[i]);
			keep_every_byte();
			CU_ASSERT(fake_os_check_empty());
		} while (fake_os_has_failed() && n < 10);
		CU_ASSERT_EQUAL(n, 4); /* three are asked for */
	}
	fake_os_disarm();
}

/* What is short now may be there later; what is not known will not be. */
static void test_vmm_host_large_pages__says_what_was_refused(void)
{
	static const struct {
		int code;
		bool asks_again;
	} cases[] = {{ENOMEM, true}, {EBUSY, true}, {EAGAIN, true},
		{EINVAL, false}, {ENOSYS, false}, {EPERM, false}};
	const struct vmm_host_config config = {.granularity_bytes = PAGE};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmm_large_pages pages;
		struct large l;
		uint64_t calls;

		open_large(&l, &config);
		fake_os_reset();
		fake_os_fail(FAKE_OS_MADVISE, 2, cases[i].code);
		l.vmm.ops->prepare(&l.vmm, l.place + PAGE, PAGE);
		vmm_host_large_pages(&l.vmm, &pages);
		CU_ASSERT_EQUAL(pages.asked_count, 0); /* none begins there */
		fake_os_fail(FAKE_OS_MADVISE, 2, cases[i].code);
		l.vmm.ops->prepare(&l.vmm, l.place, LARGE);
		CU_ASSERT(fake_os_has_failed());
		vmm_host_large_pages(&l.vmm, &pages);
		CU_ASSERT_EQUAL(pages.asked_count, 1);
		CU_ASSERT_EQUAL(pages.refused_count, 1);
		CU_ASSERT_EQUAL(pages.code, cases[i].code);
		calls = fake_os_calls(FAKE_OS_MADVISE);
		l.vmm.ops->prepare(&l.vmm, l.place, LARGE);
		CU_ASSERT_EQUAL(fake_os_calls(FAKE_OS_MADVISE) - calls,
			cases[i].asks_again ? 3 : 1);
		fake_os_reset();
		close_large(&l);
	}
	fake_os_reset();
}

/* At once; where that fails, each by itself, and each is counted. */
static void check_several(uint64_t nth, int code, uint64_t refused)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	struct vmm_large_pages pages;
	struct vmm_handle handles[2];
	struct vmm host, *vmm = &host;
	vmm_addr addr;

	CU_ASSERT_EQUAL_FATAL(vmm_host_init(vmm, &config, NULL), 0);
	addr = reserve(vmm, 2 * LARGE / PAGE);
	for (size_t i = 0; i < 2; i++) {
		handles[i] = create(vmm, LARGE / PAGE);
		CU_ASSERT_EQUAL(
			map(vmm, addr + i * LARGE, LARGE / PAGE, handles[i]),
			0);
	}
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 2 * LARGE), 0);
	fake_os_reset();
	if (nth)
		fake_os_fail(FAKE_OS_MADVISE, nth, code);
	vmm->ops->prepare(vmm, addr, LARGE + PAGE);
	vmm_host_large_pages(vmm, &pages);
	CU_ASSERT_EQUAL(fake_os_has_failed(), nth > 0);
	CU_ASSERT_EQUAL(pages.asked_count, 2);
	CU_ASSERT_EQUAL(pages.refused_count, refused);
	fake_os_disarm();
	vmm->ops->unmap(vmm, addr, 2 * LARGE);
	for (size_t i = 0; i < 2; i++)
		vmm->ops->release(vmm, handles[i]);
	vmm->ops->unreserve(vmm, addr, 2 * LARGE);
	vmm_host_destroy(vmm);
	fake_os_reset();
}

static void test_vmm_host_prepare__several_at_once(void)
{
	struct vmm_large_pages pages;
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	struct large l;

	open_large(&l, &config);
	l.vmm.ops->prepare(&l.vmm, l.place, PAGE);
	vmm_host_large_pages(&l.vmm, &pages);
	close_large(&l);
	if (pages.refused_count > 0) {
		printf("no large page: %s\n", strerror(pages.code));
		return;
	}
	check_several(0, 0, 0);
	/* Two first pages, then both large ones. */
	for (uint64_t nth = 1; nth <= 3; nth++)
		check_several(nth, EINVAL, 0);
}

/* A pool of small pages is left alone: a large one would be of several. */
static void test_vmm_host_prepare__small_handles_stay_small(void)
{
	const size_t count = LARGE / PAGE;
	struct vmm_large_pages pages;
	struct vmm_handle handles[LARGE / PAGE];
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	struct vmm host, *vmm = &host;
	vmm_addr addr;

	CU_ASSERT_EQUAL_FATAL(vmm_host_init(vmm, &config, NULL), 0);
	addr = reserve(vmm, count);
	for (size_t i = 0; i < count; i++) {
		handles[i] = create(vmm, 1);
		CU_ASSERT_EQUAL(map(vmm, addr + i * PAGE, 1, handles[i]), 0);
	}
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, LARGE), 0);
	vmm->ops->prepare(vmm, addr, PAGE);
	vmm_host_large_pages(vmm, &pages);
	CU_ASSERT_EQUAL(pages.asked_count, 0);
	CU_ASSERT(file_bytes(vmm) <= (int64_t)PAGE);
	vmm->ops->unmap(vmm, addr, LARGE);
	for (size_t i = 0; i < count; i++)
		vmm->ops->release(vmm, handles[i]);
	vmm->ops->unreserve(vmm, addr, LARGE);
	vmm_host_destroy(vmm);
}

/* What is asked for is made at once, all of it, or said not to be there. */
static void test_vmm_host_prepare__makes_a_whole_one(void)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	struct vmm_large_pages pages;
	struct large l;

	open_large(&l, &config);
	l.vmm.ops->prepare(&l.vmm, l.place, PAGE);
	vmm_host_large_pages(&l.vmm, &pages);
	CU_ASSERT_EQUAL(pages.asked_count, 1);
	if (pages.refused_count > 0)
		printf("no large page: %s\n", strerror(pages.code));
	else
		CU_ASSERT(file_bytes(&l.vmm) >= (int64_t)LARGE);
	close_large(&l);
}

/* The memory goes whole, and the next owner finds nothing of it. */
static void test_vmm_host_release__a_large_page_goes(void)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	uint32_t left = 0;
	struct large l;
	uint8_t *bytes;

	open_large(&l, &config);
	l.vmm.ops->prepare(&l.vmm, l.place, LARGE);
	bytes = l.vmm.ops->host_pointer(&l.vmm, l.window);
	memset(bytes, 0x5a, LARGE);
	CU_ASSERT(file_bytes(&l.vmm) >= (int64_t)LARGE);
	l.vmm.ops->release(&l.vmm, l.handle);
	l.vmm.ops->unmap(&l.vmm, l.place, LARGE);
	CU_ASSERT(file_bytes(&l.vmm) >= (int64_t)LARGE);
	l.vmm.ops->unmap(&l.vmm, l.window, LARGE);
	CU_ASSERT_EQUAL(file_bytes(&l.vmm), 0);

	l.handle = create(&l.vmm, LARGE / PAGE);
	CU_ASSERT_EQUAL(map(&l.vmm, l.window, LARGE / PAGE, l.handle), 0);
	CU_ASSERT_EQUAL(map(&l.vmm, l.place, LARGE / PAGE, l.handle), 0);
	CU_ASSERT_EQUAL(l.vmm.ops->set_access(&l.vmm, l.window, LARGE), 0);
	CU_ASSERT_EQUAL(l.vmm.ops->set_access(&l.vmm, l.place, LARGE), 0);
	l.vmm.ops->prepare(&l.vmm, l.place, LARGE);
	for (size_t i = 0; i < LARGE; i++)
		left += bytes[i] != 0;
	CU_ASSERT_EQUAL(left, 0);
	close_large(&l);
}

/* A killed engine's next life: at the same places, joined or not. */
static void test_vmm_host_init__a_kept_file_keeps_large_pages(void)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE,
		.adopts = true,
		.descriptor = memfd_create("kept", MFD_CLOEXEC),
		.head_bytes = PAGE};
	struct stat st = {0};

	CU_ASSERT_FATAL(config.descriptor >= 0);
	for (uint32_t life = 0; life < 3; life++) {
		uint32_t wrong = 0;
		struct large l;
		uint32_t *words;

		open_large(&l, &config);
		words = l.vmm.ops->host_pointer(&l.vmm, l.place);
		if (life == 1)
			l.vmm.ops->prepare(&l.vmm, l.place, LARGE);
		for (uint32_t i = 0; i < LARGE / 4; i++) {
			wrong += words[i] != (life ? word_of(i) : 0);
			words[i] = word_of(i);
		}
		CU_ASSERT_EQUAL(wrong, 0);
		close_large(&l);
		CU_ASSERT_EQUAL(fstat(config.descriptor, &st), 0);
		CU_ASSERT(st.st_blocks * 512 >= (int64_t)LARGE);
	}
	close(config.descriptor);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(vmm_host_prepare__keeps_every_byte),
		SUITE_CASE(vmm_host_prepare__makes_a_whole_one),
		SUITE_CASE(vmm_host_prepare__is_only_advice),
		SUITE_CASE(vmm_host_prepare__several_at_once),
		SUITE_CASE(vmm_host_prepare__small_handles_stay_small),
		SUITE_CASE(vmm_host_large_pages__says_what_was_refused),
		SUITE_CASE(vmm_host_release__a_large_page_goes),
		SUITE_CASE(vmm_host_init__a_kept_file_keeps_large_pages),
	};

	return SUITE_MAIN("large_pages", cases);
}
