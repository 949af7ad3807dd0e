/* test_bus_guard.c - mapped files that are cut while they are read */
/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bus_guard.h"
#include "tests/suite.h"

#define PAGE ((size_t)4096)
#define PAGES 8u

struct mapped {
	int fd;
	uint8_t *bytes;
};

static void open_mapped(struct mapped *m)
{
	static uint8_t bytes[PAGES * PAGE];

	memset(bytes, 7, sizeof(bytes));
	m->fd = memfd_create("bus-guard", MFD_CLOEXEC);
	CU_ASSERT_FATAL(m->fd >= 0);
	CU_ASSERT_EQUAL_FATAL(
		write(m->fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	m->bytes = mmap(NULL, sizeof(bytes), PROT_READ, MAP_SHARED, m->fd, 0);
	CU_ASSERT_FATAL(m->bytes != MAP_FAILED);
}

static void close_mapped(struct mapped *m)
{
	munmap(m->bytes, PAGES * PAGE);
	close(m->fd);
}

static unsigned byte_of(const struct mapped *m, unsigned page)
{
	return *(const volatile uint8_t *)(m->bytes + page * PAGE + 11);
}

/* Nobody else wants it: the process ends as it would have. */
static void test_bus_guard__not_guarded(void)
{
	struct mapped m;
	pid_t child;
	int status = 0;

	open_mapped(&m);
	CU_ASSERT_EQUAL(ftruncate(m.fd, 0), 0);
	child = fork();
	if (child == 0) {
		_exit(bus_guard_install() || byte_of(&m, 0) > 255 ? 3 : 0);
	}
	CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
	CU_ASSERT(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
	close_mapped(&m);
}

static sigjmp_buf back;

static void on_other(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	(void)context;
	siglongjmp(back, 1);
}

/* What is not the guard's goes to whom it went before. */
static void test_bus_guard__another_handler(void)
{
	struct sigaction action = {
		.sa_sigaction = on_other, .sa_flags = SA_SIGINFO};
	struct bus_guard guard;
	struct mapped m;
	volatile unsigned seen = 0;

	open_mapped(&m);
	CU_ASSERT_EQUAL(ftruncate(m.fd, (off_t)PAGE), 0);
	CU_ASSERT_EQUAL(sigaction(SIGBUS, &action, NULL), 0);
	CU_ASSERT_EQUAL(bus_guard_install(), 0);
	CU_ASSERT_EQUAL(bus_guard_install(), 0);
	if (sigsetjmp(back, 1) == 0)
		seen = 1 + byte_of(&m, 3);
	CU_ASSERT_EQUAL(seen, 0);
	/* Another range is guarded. */
	bus_guard_begin(&guard, m.bytes, PAGE);
	if (sigsetjmp(back, 1) == 0)
		seen = 1 + byte_of(&m, 3);
	CU_ASSERT_EQUAL(seen, 0);
	CU_ASSERT_TRUE(bus_guard_end(&guard));
	close_mapped(&m);
}

static void test_bus_guard__zeros_instead(void)
{
	struct bus_guard guard;
	struct mapped m;

	open_mapped(&m);
	CU_ASSERT_EQUAL(bus_guard_install(), 0);
	bus_guard_begin(&guard, m.bytes + 5, PAGES * PAGE - 9);
	CU_ASSERT_EQUAL(byte_of(&m, 3), 7);
	CU_ASSERT_EQUAL(ftruncate(m.fd, (off_t)(3 * PAGE)), 0);
	CU_ASSERT_EQUAL(byte_of(&m, 2), 7);
	CU_ASSERT_EQUAL(byte_of(&m, 4), 0);
	CU_ASSERT_EQUAL(byte_of(&m, 7), 0);
	CU_ASSERT_EQUAL(byte_of(&m, 3), 0);
	CU_ASSERT_EQUAL(byte_of(&m, 1), 7);
	CU_ASSERT_FALSE(bus_guard_end(&guard));
	bus_guard_begin(&guard, m.bytes, 3 * PAGE);
	CU_ASSERT_EQUAL(byte_of(&m, 0), 7);
	CU_ASSERT_TRUE(bus_guard_end(&guard));
	close_mapped(&m);
}

struct reading {
	struct mapped *m;
	unsigned page;
	bool cut, whole;
};

static void *read_pages(void *arg)
{
	struct reading *r = arg;
	struct bus_guard guard;
	unsigned sum = 0;

	bus_guard_begin(&guard, r->m->bytes + r->page * PAGE, 2 * PAGE);
	for (unsigned i = 0; i < 1000; i++) {
		if (i == 500 && r->cut)
			(void)!ftruncate(r->m->fd, (off_t)(4 * PAGE));
		sum += byte_of(r->m, r->page) + byte_of(r->m, r->page + 1);
	}
	r->whole = bus_guard_end(&guard) && sum == 14 * 1000;
	return NULL;
}

/* Each thread is told of its own range. */
static void test_bus_guard__threads(void)
{
	struct mapped m;
	struct reading r[] = {{&m, 0, false, false}, {&m, 2, false, false},
		{&m, 4, true, true}};
	pthread_t threads[3];

	open_mapped(&m);
	CU_ASSERT_EQUAL(bus_guard_install(), 0);
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&threads[i], NULL, read_pages, &r[i]),
			0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT_TRUE(r[0].whole);
	CU_ASSERT_TRUE(r[1].whole);
	CU_ASSERT_FALSE(r[2].whole);
	close_mapped(&m);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(bus_guard__not_guarded),
		SUITE_CASE(bus_guard__another_handler),
		SUITE_CASE(bus_guard__zeros_instead),
		SUITE_CASE(bus_guard__threads),
	};

	return SUITE_MAIN("bus_guard", cases);
}
