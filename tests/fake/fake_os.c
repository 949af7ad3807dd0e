/* fake_os.c - the system calls of the code under test, counted and failable */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "tests/fake/fake_os.h"

struct io_uring;

/*
 * --wrap=f turns f into __wrap_f and __real_f into f. A test that does not
 * wrap f never calls __wrap_f; weak lets it link without a __real_f.
 */
#define REAL extern __attribute__((weak))

REAL void *__real_malloc(size_t size);
REAL void *__real_calloc(size_t count, size_t size);
REAL void *__real_realloc(void *old, size_t size);
REAL void *__real_reallocarray(void *old, size_t count, size_t size);
REAL char *__real_strdup(const char *text);
REAL char *__real_strndup(const char *text, size_t length);
REAL int __real_posix_memalign(void **out, size_t alignment, size_t size);
REAL void *__real_aligned_alloc(size_t alignment, size_t size);
REAL void __real_free(void *memory);
REAL int __real_memfd_create(const char *name, unsigned flags);
REAL int __real_eventfd(unsigned count, int flags);
REAL int __real_ftruncate(int fd, off_t size);
REAL int __real_fallocate(int fd, int mode, off_t at, off_t size);
REAL void *__real_mmap(
	void *at, size_t size, int protection, int flags, int fd, off_t offset);
REAL int __real_mprotect(void *at, size_t size, int protection);
REAL int __real_madvise(void *at, size_t size, int advice);
REAL int __real_munmap(void *at, size_t size);
REAL int __real_open(const char *path, int flags, ...);
REAL int __real_openat(int folder, const char *path, int flags, ...);
REAL int __real_fstat(int fd, struct stat *out);
REAL ssize_t __real_read(int fd, void *to, size_t size);
REAL ssize_t __real_pread(int fd, void *to, size_t size, off_t offset);
REAL int __real_close(int fd);
REAL int __real_io_uring_queue_init(
	unsigned entries, struct io_uring *ring, unsigned flags);
REAL int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
REAL int __real_fcntl(int fd, int command, ...);
REAL void __real_io_uring_queue_exit(struct io_uring *ring);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size);
void *__wrap_mmap(
	void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_mprotect(void *at, size_t size, int protection);
int __wrap_madvise(void *at, size_t size, int advice);
int __wrap_munmap(void *at, size_t size);
int __wrap_open(const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_fstat(int fd, struct stat *out);
ssize_t __wrap_read(int fd, void *to, size_t size);
ssize_t __wrap_pread(int fd, void *to, size_t size, off_t offset);
int __wrap_close(int fd);
int __wrap_io_uring_queue_init(
	unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __wrap_fcntl(int fd, int command, ...);
void __wrap_io_uring_queue_exit(struct io_uring *ring);

/* The one piece of state: the functions under test have no context for us. */
static struct {
	_Atomic uint64_t calls[FAKE_OS_CALL_COUNT];
	_Atomic uint64_t left; /* calls until the fault, 0 = not armed */
	_Atomic int failed_call; /* FAKE_OS_ANY = none yet */
	enum fake_os_call armed;
	int code;
	bool withdrawal;
	_Atomic int64_t allocations, descriptors, mappings, rings;
} os = {.failed_call = FAKE_OS_ANY};

const char *fake_os_call_name(enum fake_os_call call)
{
	static const char *const names[] = {"allocate", "memfd_create",
		"eventfd", "ftruncate", "fallocate", "mmap", "mprotect",
		"madvise", "open", "fstat", "read", "fcntl",
		"io_uring_queue_init", "io_uring_submit_and_wait", "any"};

	assert(call <= FAKE_OS_ANY);
	return names[call];
}

void fake_os_reset(void)
{
	fake_os_disarm();
	for (int i = 0; i < FAKE_OS_CALL_COUNT; i++)
		os.calls[i] = 0;
	os.allocations = 0;
	os.descriptors = 0;
	os.mappings = 0;
	os.rings = 0;
}

void fake_os_fail(enum fake_os_call call, uint64_t nth, int code)
{
	os.armed = call;
	os.code = code;
	os.failed_call = FAKE_OS_ANY;
	os.left = nth;
}

void fake_os_fail_withdrawal(void)
{
	os.withdrawal = true;
}

void fake_os_disarm(void)
{
	os.left = 0;
	os.failed_call = FAKE_OS_ANY;
	os.withdrawal = false;
}

bool fake_os_has_failed(void)
{
	return os.failed_call != FAKE_OS_ANY;
}

enum fake_os_call fake_os_failed_call(void)
{
	return (enum fake_os_call)os.failed_call;
}

uint64_t fake_os_calls(enum fake_os_call call)
{
	uint64_t sum = 0;

	if (call != FAKE_OS_ANY)
		return os.calls[call];
	for (int i = 0; i < FAKE_OS_CALL_COUNT; i++)
		sum += os.calls[i];
	return sum;
}

struct fake_os_balance fake_os_live(void)
{
	return (struct fake_os_balance){
		os.allocations, os.descriptors, os.mappings, os.rings};
}

bool fake_os_check_empty(void)
{
	struct fake_os_balance live = fake_os_live();

	if (live.allocations == 0 && live.descriptors == 0 &&
		live.mappings == 0 && live.rings == 0)
		return true;
	printf("left over: %lld allocations, %lld descriptors, %lld mappings, "
	       "%lld rings\n",
		(long long)live.allocations, (long long)live.descriptors,
		(long long)live.mappings, (long long)live.rings);
	return false;
}

/* Count a call; true when it is the one to fail. */
static bool fails(enum fake_os_call call)
{
	uint64_t left;

	os.calls[call]++;
	if (os.armed != call && os.armed != FAKE_OS_ANY)
		return false;
	left = os.left;
	do {
		if (left == 0)
			return false;
	} while (!atomic_compare_exchange_weak(&os.left, &left, left - 1));
	if (left != 1)
		return false;
	os.failed_call = (int)call;
	errno = call == FAKE_OS_ALLOCATE ? ENOMEM : os.code;
	return true;
}

static void *counted(void *memory)
{
	os.allocations += memory != NULL;
	return memory;
}

static int counted_fd(int fd)
{
	os.descriptors += fd >= 0;
	return fd;
}

void *__wrap_malloc(size_t size)
{
	return fails(FAKE_OS_ALLOCATE) ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails(FAKE_OS_ALLOCATE) ? NULL
				       : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	void *memory;

	if (fails(FAKE_OS_ALLOCATE))
		return NULL;
	memory = __real_realloc(old, size);
	return old ? memory : counted(memory);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	void *memory;

	if (fails(FAKE_OS_ALLOCATE))
		return NULL;
	memory = __real_reallocarray(old, count, size);
	return old ? memory : counted(memory);
}

char *__wrap_strdup(const char *text)
{
	return fails(FAKE_OS_ALLOCATE) ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t length)
{
	return fails(FAKE_OS_ALLOCATE) ? NULL
				       : counted(__real_strndup(text, length));
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size)
{
	int rc;

	if (fails(FAKE_OS_ALLOCATE))
		return ENOMEM;
	rc = __real_posix_memalign(out, alignment, size);
	os.allocations += rc == 0;
	return rc;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails(FAKE_OS_ALLOCATE)
		       ? NULL
		       : counted(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *memory)
{
	os.allocations -= memory != NULL;
	__real_free(memory);
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
	return fails(FAKE_OS_MEMFD_CREATE)
		       ? -1
		       : counted_fd(__real_memfd_create(name, flags));
}

int __wrap_eventfd(unsigned count, int flags)
{
	return fails(FAKE_OS_EVENTFD)
		       ? -1
		       : counted_fd(__real_eventfd(count, flags));
}

int __wrap_ftruncate(int fd, off_t size)
{
	return fails(FAKE_OS_FTRUNCATE) ? -1 : __real_ftruncate(fd, size);
}

int __wrap_fallocate(int fd, int mode, off_t at, off_t size)
{
	return fails(FAKE_OS_FALLOCATE) ? -1
					: __real_fallocate(fd, mode, at, size);
}

void *__wrap_mmap(
	void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	bool withdrawal = (flags & MAP_FIXED) && (flags & MAP_ANONYMOUS);
	void *memory;

	if (withdrawal && os.withdrawal) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	if (!withdrawal && fails(FAKE_OS_MMAP))
		return MAP_FAILED;
	memory = __real_mmap(at, size, protection, flags, fd, offset);
	os.mappings += memory != MAP_FAILED && !(flags & MAP_FIXED);
	return memory;
}

int __wrap_mprotect(void *at, size_t size, int protection)
{
	return fails(FAKE_OS_MPROTECT) ? -1
				       : __real_mprotect(at, size, protection);
}

int __wrap_madvise(void *at, size_t size, int advice)
{
	return fails(FAKE_OS_MADVISE) ? -1 : __real_madvise(at, size, advice);
}

int __wrap_munmap(void *at, size_t size)
{
	os.mappings--;
	return __real_munmap(at, size);
}

/* A mode is passed only with flags that create. */
static bool has_mode(int flags)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

int __wrap_open(const char *path, int flags, ...)
{
	va_list args;
	int mode;

	va_start(args, flags);
	mode = has_mode(flags) ? va_arg(args, int) : 0;
	va_end(args);
	return fails(FAKE_OS_OPEN) ? -1
				   : counted_fd(__real_open(path, flags, mode));
}

int __wrap_openat(int folder, const char *path, int flags, ...)
{
	va_list args;
	int mode;

	va_start(args, flags);
	mode = has_mode(flags) ? va_arg(args, int) : 0;
	va_end(args);
	return fails(FAKE_OS_OPEN)
		       ? -1
		       : counted_fd(__real_openat(folder, path, flags, mode));
}

int __wrap_fstat(int fd, struct stat *out)
{
	return fails(FAKE_OS_FSTAT) ? -1 : __real_fstat(fd, out);
}

ssize_t __wrap_read(int fd, void *to, size_t size)
{
	return fails(FAKE_OS_READ) ? -1 : __real_read(fd, to, size);
}

ssize_t __wrap_pread(int fd, void *to, size_t size, off_t offset)
{
	return fails(FAKE_OS_READ) ? -1 : __real_pread(fd, to, size, offset);
}

int __wrap_close(int fd)
{
	os.descriptors -= fd >= 0;
	return __real_close(fd);
}

int __wrap_io_uring_queue_init(
	unsigned entries, struct io_uring *ring, unsigned flags)
{
	int rc;

	if (fails(FAKE_OS_URING_INIT))
		return -os.code;
	rc = __real_io_uring_queue_init(entries, ring, flags);
	os.rings += rc == 0;
	return rc;
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
	if (fails(FAKE_OS_URING_SUBMIT))
		return -os.code;
	return __real_io_uring_submit_and_wait(ring, count);
}

/* All commands in use here take one number or none. */
int __wrap_fcntl(int fd, int command, ...)
{
	va_list args;
	long value;

	va_start(args, command);
	value = va_arg(args, long);
	va_end(args);
	if ((command != F_SETFL || (value & O_DIRECT)) &&
		fails(FAKE_OS_FCNTL)) {
		errno = os.code;
		return -1;
	}
	return __real_fcntl(fd, command, value);
}

void __wrap_io_uring_queue_exit(struct io_uring *ring)
{
	os.rings--;
	__real_io_uring_queue_exit(ring);
}
