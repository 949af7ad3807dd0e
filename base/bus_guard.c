/* bus_guard.c - reading a mapped file that may be cut meanwhile */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bus_guard.h"

static _Thread_local struct bus_guard *volatile current;

static struct {
	pthread_once_t once;
	struct sigaction before;
	uintptr_t page_bytes;
	int rc;
} guards = {.once = PTHREAD_ONCE_INIT};

/*
 * Zeros from the page of `at` to the end of the range: is it its business? The
 * system is called as such, for the C library's function may be another's
 * while a program is analysed, which a handler must not call.
 */
static bool replace(struct bus_guard *guard, uintptr_t at)
{
	uintptr_t from = at / guards.page_bytes * guards.page_bytes;

	if (!guard || at < guard->begin || at >= guard->end)
		return false;
	if (syscall(SYS_mmap, from, guard->end - from, PROT_READ,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) < 0)
		return false;
	guard->lost = true;
	return true;
}

static void on_bus(int number, siginfo_t *info, void *context)
{
	int code = errno;
	bool known =
		info->si_code > 0 && replace(current, (uintptr_t)info->si_addr);

	errno = code;
	if (known)
		return;
	if (guards.before.sa_flags & SA_SIGINFO) {
		guards.before.sa_sigaction(number, info, context);
	} else if (guards.before.sa_handler == SIG_DFL ||
		   guards.before.sa_handler == SIG_IGN) {
		/* It comes again at once, and then ends the process. */
		(void)sigaction(SIGBUS, &guards.before, NULL);
		if (info->si_code <= 0)
			(void)raise(number);
	} else {
		guards.before.sa_handler(number);
	}
}

static void install(void)
{
	struct sigaction action = {
		.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	guards.page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, NULL, &guards.before) ||
		sigaction(SIGBUS, &action, NULL))
		guards.rc = -errno;
}

int bus_guard_install(void)
{
	pthread_once(&guards.once, install);
	return guards.rc;
}

void bus_guard_begin(
	struct bus_guard *guard, const void *from, size_t size_bytes)
{
	assert(!current && guards.page_bytes > 0);
	*guard = (struct bus_guard){
		.begin = (uintptr_t)from, .end = (uintptr_t)from + size_bytes};
	current = guard;
	atomic_signal_fence(memory_order_seq_cst);
}

bool bus_guard_end(const struct bus_guard *guard)
{
	atomic_signal_fence(memory_order_seq_cst);
	assert(current == guard);
	current = NULL;
	return !guard->lost;
}
