/* fake_os.h - the system calls of the code under test, counted and failable */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   every error exit is reached by counting: run a case with the n-th
 *        call failing, for n = 1, 2, ... until a run ends without a fault.
 * Use:   link with -Wl,--wrap=NAME for each function that the case should
 *        pass through here (memfd_create, ftruncate, fallocate, mmap,
 *        mprotect, madvise, munmap, malloc, calloc, realloc, reallocarray, strdup,
 *        strndup, posix_memalign, aligned_alloc, free, open, openat, fstat,
 *        read, pread, close, fcntl, io_uring_queue_init,
 *        io_uring_submit_and_wait, io_uring_queue_exit). What
 *        is not wrapped goes to the system and is not counted. To balance,
 *        wrap the allocators together with free, open with close, mmap with
 *        munmap.
 *        With nothing armed every call goes straight through.
 * Not failable: free, munmap, close, io_uring_queue_exit, an fcntl that sets
 *        flags without O_DIRECT (back to what they were), and an mmap that
 *        puts nothing (MAP_FIXED | MAP_ANONYMOUS) over a range: they give
 *        back, and nobody can act on their failure. fake_os_fail_withdrawal()
 *        fails the last of these alone.
 * Threads: the counters are atomic; arm and disarm while no other thread
 *        of the test runs.
 */
#ifndef HEDDLE_TESTS_FAKE_OS_H
#define HEDDLE_TESTS_FAKE_OS_H

#include <stdbool.h>
#include <stdint.h>

enum fake_os_call {
	FAKE_OS_ALLOCATE, /* all allocators */
	FAKE_OS_MEMFD_CREATE,
	FAKE_OS_EVENTFD,
	FAKE_OS_FTRUNCATE,
	FAKE_OS_FALLOCATE,
	FAKE_OS_MMAP,
	FAKE_OS_MPROTECT,
	FAKE_OS_MADVISE,
	FAKE_OS_OPEN, /* open, openat */
	FAKE_OS_FSTAT,
	FAKE_OS_READ, /* read, pread */
	FAKE_OS_FCNTL,
	FAKE_OS_URING_INIT,
	FAKE_OS_URING_SUBMIT,
	FAKE_OS_CALL_COUNT,
	FAKE_OS_ANY = FAKE_OS_CALL_COUNT
};

const char *fake_os_call_name(enum fake_os_call call);

/* Forget counts, balances and faults. */
void fake_os_reset(void);

/*
 * The nth (1 = the next) call of this kind fails with `code`; allocators with
 * ENOMEM. Later calls work. Replaces what was armed before.
 */
void fake_os_fail(enum fake_os_call call, uint64_t nth, int code);
void fake_os_fail_withdrawal(void);
void fake_os_disarm(void);

/* Has the armed fault happened, and to which call? */
bool fake_os_has_failed(void);
enum fake_os_call fake_os_failed_call(void);

/* Calls since the reset; FAKE_OS_ANY: of all failable kinds. */
uint64_t fake_os_calls(enum fake_os_call call);

/* What was taken and not given back since the reset. */
struct fake_os_balance {
	int64_t allocations;
	int64_t descriptors; /* memfd_create, eventfd, open, openat - close */
	int64_t mappings; /* mmap without MAP_FIXED - munmap */
	int64_t rings;
};

struct fake_os_balance fake_os_live(void);

/* Is all of the balance zero? Prints what is not. */
bool fake_os_check_empty(void);

#endif
