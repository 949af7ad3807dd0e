/* vmm_host.c - memory management on a memory file (vmm calls -> mmap) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Books first, kernel later: map() only writes down which handle is where;
 * set_access() turns what was written down into as few mmap calls as there are
 * spans of neighbouring file ranges. A window of half a million pages is then
 * one system call, and memory without access stays as unreachable as CUDA's.
 *
 * A reservation has one 32-bit entry per granule: the handle mapped there, and
 * on the first granule of a mapping two flags. All rules are checked on these
 * entries; a broken rule is an assert, because it is a bug of the caller.
 *
 * System mappings: a reservation with k spans is at most 2k + 1 areas of the
 * kernel (spans and the gaps around them), so 2 * spans + reservations is
 * the bound that is held against the limit.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/limits.h"
#include "memmgr/vmm.h"

#define ENTRY_START (UINT32_C(1) << 31)
#define ENTRY_ACCESS (UINT32_C(1) << 30)
#define ENTRY_HANDLE (ENTRY_ACCESS - 1)

#define MAPPING_LIMIT_DEFAULT 65530 /* the kernel's, where it cannot be read */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* linux/mman.h; the C library may be older */
#endif
#define LARGE_PAGE_BYTES ((size_t)2 << 20) /* the system's, on x86-64 */
#define SMALL_PAGE_BYTES ((size_t)4096)
#define HANDLE_COUNT_FIRST 256
#define GRANULARITY_BYTES_MIN ((size_t)PAGE_SIZE_BYTES_MIN)

enum handle_state {
	HANDLE_LIVE,
	HANDLE_RELEASED, /* mappings are left */
	HANDLE_SPARE /* its range of the file waits for a new handle */
};

struct handle {
	uint64_t offset_bytes; /* in the memory file */
	uint64_t size_bytes;
	uint32_t mapping_count;
	uint32_t next_spare; /* id, 0 = last */
	enum handle_state state;
};

/* Spare file ranges of one size. There are as many as sizes were asked for. */
struct size_class {
	uint64_t size_bytes;
	uint32_t spare; /* handle id, 0 = none */
};

struct reservation {
	vmm_addr addr;
	uint64_t size_bytes;
	void *raw; /* owns the mapping; addr is the first aligned byte */
	size_t raw_bytes;
	uint32_t *entries; /* owned, one per granule, 0 = nothing mapped */
};

struct vmm_host {
	int descriptor; /* owned */
	bool adopted; /* the file is kept by others, too */
	uint64_t file_bytes;
	uint64_t used_bytes; /* of the file, by all handles so far */
	uint32_t large_count; /* of them, multiples of LARGE_PAGE_BYTES */
	/* atomic: prepare() is called by any thread */
	uint64_t asked_count, refused_count;
	int refused_code;
	bool has_no_large;
	uint64_t granule_bytes;
	uint64_t mapping_count_max;
	uint64_t span_count;

	struct handle *handles; /* owned; id - 1 is the index */
	uint32_t handle_count;
	uint32_t handle_capacity;
	uint32_t live_count;

	struct size_class *classes; /* owned */
	uint32_t class_count;

	struct reservation *reservations; /* owned, by ascending address */
	uint32_t reservation_count;
};

static struct vmm_host *host_of(const struct vmm *vmm)
{
	return vmm->context;
}

static struct handle *handle_of(const struct vmm_host *host, uint32_t id)
{
	assert(id >= 1 && id <= host->handle_count);
	return &host->handles[id - 1];
}

static uint32_t granules(const struct vmm_host *host, uint64_t size_bytes)
{
	return (uint32_t)(size_bytes / host->granule_bytes);
}

static void *pointer_to(vmm_addr addr)
{
	return (void *)(uintptr_t)addr;
}

/* Index of the first reservation that ends above `addr`. */
static uint32_t reservation_index(const struct vmm_host *host, vmm_addr addr)
{
	uint32_t low = 0;
	uint32_t high = host->reservation_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct reservation *r = &host->reservations[middle];

		if (r->addr + r->size_bytes <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The reservation that holds all of a range, and the range in granules. */
static struct reservation *find_range(const struct vmm_host *host,
	vmm_addr addr, uint64_t size_bytes, uint32_t *out_from,
	uint32_t *out_to)
{
	uint32_t index = reservation_index(host, addr);
	struct reservation *r = &host->reservations[index];

	assert(addr % host->granule_bytes == 0);
	assert(size_bytes > 0 && size_bytes % host->granule_bytes == 0);
	assert(index < host->reservation_count && addr >= r->addr);
	assert(size_bytes <= r->addr + r->size_bytes - addr);
	*out_from = granules(host, addr - r->addr);
	*out_to = *out_from + granules(host, size_bytes);
	return r;
}

/* Does the mapping that begins at granule `at` go on where its left ends? */
static bool joins_left(
	const struct vmm_host *host, const struct reservation *r, uint32_t at)
{
	const struct handle *left, *right;

	if (at == 0 || at == granules(host, r->size_bytes))
		return false;
	if (r->entries[at] == 0 || r->entries[at - 1] == 0)
		return false;
	left = handle_of(host, r->entries[at - 1] & ENTRY_HANDLE);
	right = handle_of(host, r->entries[at] & ENTRY_HANDLE);
	return left->offset_bytes + left->size_bytes == right->offset_bytes;
}

/*
 * From granule `from` to the end of the span that the kernel can map with one
 * call: neighbours in the file that have, or have not, access.
 */
static uint32_t span_end(const struct vmm_host *host,
	const struct reservation *r, uint32_t from, uint32_t to)
{
	uint32_t access = r->entries[from] & ENTRY_ACCESS;
	uint32_t at = from;

	do {
		uint32_t entry = r->entries[at];

		assert(entry & ENTRY_START);
		at += granules(host,
			handle_of(host, entry & ENTRY_HANDLE)->size_bytes);
		assert(at <= to);
	} while (at < to && joins_left(host, r, at) &&
		 (r->entries[at] & ENTRY_ACCESS) == access);
	return at;
}

/*
 * Make a range unreachable again, the addresses stay reserved. A mapping that
 * cannot be withdrawn would show the pages of the next owner: stop instead.
 */
static void withdraw(vmm_addr addr, uint64_t size_bytes)
{
	void *at = mmap(pointer_to(addr), size_bytes, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	assert(at != MAP_FAILED);
}

static int host_reserve(struct vmm *vmm, size_t size_bytes, vmm_addr *out)
{
	struct vmm_host *host = host_of(vmm);
	size_t granule = vmm->granularity_bytes;
	/* Addresses and the file agree modulo a large page. */
	size_t align = granule > LARGE_PAGE_BYTES ? granule : LARGE_PAGE_BYTES;
	struct reservation r = {.size_bytes = size_bytes};
	struct reservation *grown;
	uint32_t at;

	assert(size_bytes > 0 && size_bytes % granule == 0);
	if (!add_ok(size_bytes, align, &r.raw_bytes) ||
		size_bytes / granule > UINT32_MAX ||
		2 * host->span_count + host->reservation_count >=
			host->mapping_count_max)
		return -ENOMEM;
	grown = reallocarray(host->reservations,
		host->reservation_count + (size_t)1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	host->reservations = grown;
	r.entries = calloc(size_bytes / granule, sizeof(*r.entries));
	if (!r.entries)
		return -ENOMEM;
	r.raw = mmap(NULL, r.raw_bytes, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r.raw == MAP_FAILED) {
		free(r.entries);
		return -ENOMEM;
	}
	r.addr = ((uintptr_t)r.raw + align - 1) & ~((vmm_addr)align - 1);
	at = reservation_index(host, r.addr);
	memmove(grown + at + 1, grown + at,
		(host->reservation_count - at) * sizeof(*grown));
	grown[at] = r;
	host->reservation_count++;
	*out = r.addr;
	return 0;
}

static void host_unreserve(struct vmm *vmm, vmm_addr addr, size_t size_bytes)
{
	struct vmm_host *host = host_of(vmm);
	uint32_t from, to;
	struct reservation *r = find_range(host, addr, size_bytes, &from, &to);

	assert(from == 0 && r->size_bytes == size_bytes);
	for (uint32_t i = from; i < to; i++)
		assert(r->entries[i] == 0);
	munmap(r->raw, r->raw_bytes);
	free(r->entries);
	host->reservation_count--;
	memmove(r, r + 1,
		(size_t)(host->reservations + host->reservation_count - r) *
			sizeof(*r));
}

/* The class of a size; made when it is first asked for. NULL: no memory. */
static struct size_class *class_of(struct vmm_host *host, uint64_t size_bytes)
{
	struct size_class *grown;

	for (uint32_t i = 0; i < host->class_count; i++)
		if (host->classes[i].size_bytes == size_bytes)
			return &host->classes[i];
	grown = reallocarray(
		host->classes, host->class_count + (size_t)1, sizeof(*grown));
	if (!grown)
		return NULL;
	host->classes = grown;
	grown[host->class_count] = (struct size_class){size_bytes, 0};
	return &grown[host->class_count++];
}

static int grow_table(struct vmm_host *host)
{
	uint32_t capacity = host->handle_capacity;
	struct handle *grown;

	if (host->handle_count < capacity)
		return 0;
	if (capacity > ENTRY_HANDLE / 2)
		return -ENOMEM;
	capacity = capacity ? 2 * capacity : HANDLE_COUNT_FIRST;
	grown = reallocarray(host->handles, capacity, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	host->handles = grown;
	host->handle_capacity = capacity;
	return 0;
}

/* The file doubles: an empty part costs nothing, a call per page would. */
static int grow_file(struct vmm_host *host, uint64_t size_bytes)
{
	uint64_t need, size;

	if (__builtin_add_overflow(host->used_bytes, size_bytes, &need) ||
		need > INT64_MAX / 2)
		return -ENOMEM;
	if (need <= host->file_bytes)
		return 0;
	size = 2 * host->file_bytes > need ? 2 * host->file_bytes : need;
	if (ftruncate(host->descriptor, (off_t)size) != 0)
		return -ENOMEM;
	host->file_bytes = size;
	return 0;
}

static int host_create(
	struct vmm *vmm, size_t size_bytes, struct vmm_handle *out)
{
	struct vmm_host *host = host_of(vmm);
	struct size_class *class;
	struct handle *handle;

	assert(size_bytes > 0 && size_bytes % vmm->granularity_bytes == 0);
	class = class_of(host, size_bytes);
	if (!class)
		return -ENOMEM;
	if (class->spare) {
		out->id = class->spare;
		handle = handle_of(host, class->spare);
		class->spare = handle->next_spare;
		handle->next_spare = 0;
		handle->state = HANDLE_LIVE;
	} else {
		bool large = size_bytes % LARGE_PAGE_BYTES == 0;
		uint64_t gap = large ? -host->used_bytes % LARGE_PAGE_BYTES : 0;

		if (grow_table(host) != 0 ||
			grow_file(host, gap + size_bytes) != 0)
			return -ENOMEM;
		host->used_bytes += gap;
		host->large_count += large;
		handle = &host->handles[host->handle_count++];
		*handle = (struct handle){.offset_bytes = host->used_bytes,
			.size_bytes = size_bytes};
		host->used_bytes += size_bytes;
		out->id = host->handle_count;
	}
	host->live_count++;
	return 0;
}

/* Nobody can reach the handle's memory any more: give it to the system. */
static void retire_handle(struct vmm_host *host, struct handle *handle)
{
	struct size_class *class = class_of(host, handle->size_bytes);

	assert(class); /* made by create */
	/*
	 * If this fails the memory stays with the file until the next handle
	 * of this size takes it; there is nothing better to do. In a file that
	 * others keep it stays on purpose.
	 */
	if (!host->adopted)
		(void)fallocate(host->descriptor,
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)handle->offset_bytes, (off_t)handle->size_bytes);
	handle->state = HANDLE_SPARE;
	handle->next_spare = class->spare;
	class->spare = (uint32_t)(handle - host->handles) + 1;
}

static void host_release(struct vmm *vmm, struct vmm_handle id)
{
	struct vmm_host *host = host_of(vmm);
	struct handle *handle;

	assert(id.id <= host->handle_count);
	handle = handle_of(host, (uint32_t)id.id);
	assert(handle->state == HANDLE_LIVE);
	handle->state = HANDLE_RELEASED;
	host->live_count--;
	if (handle->mapping_count == 0)
		retire_handle(host, handle);
}

static int host_map(
	struct vmm *vmm, vmm_addr addr, size_t size_bytes, struct vmm_handle id)
{
	struct vmm_host *host = host_of(vmm);
	uint32_t from, to;
	struct reservation *r = find_range(host, addr, size_bytes, &from, &to);
	struct handle *handle;
	uint64_t spans;

	assert(id.id <= host->handle_count);
	handle = handle_of(host, (uint32_t)id.id);
	assert(handle->state == HANDLE_LIVE);
	assert(handle->size_bytes == size_bytes);
	for (uint32_t i = from; i < to; i++)
		assert(r->entries[i] == 0);

	r->entries[from] = ENTRY_START | (uint32_t)id.id;
	for (uint32_t i = from + 1; i < to; i++)
		r->entries[i] = (uint32_t)id.id;
	spans = host->span_count + 1 - joins_left(host, r, from) -
		joins_left(host, r, to);
	if (2 * spans + host->reservation_count > host->mapping_count_max) {
		memset(r->entries + from, 0, (to - from) * sizeof(*r->entries));
		return -ENOMEM;
	}
	host->span_count = spans;
	handle->mapping_count++;
	return 0;
}

/* Undo the first part of a set_access: what had no access loses it again. */
static void undo_access(const struct vmm_host *host,
	const struct reservation *r, uint32_t from, uint32_t to)
{
	for (uint32_t end, at = from; at < to; at = end) {
		end = span_end(host, r, at, to);
		if (!(r->entries[at] & ENTRY_ACCESS))
			withdraw(r->addr + at * host->granule_bytes,
				(end - at) * host->granule_bytes);
	}
}

static int host_set_access(struct vmm *vmm, vmm_addr addr, size_t size_bytes)
{
	struct vmm_host *host = host_of(vmm);
	uint32_t from, to;
	struct reservation *r = find_range(host, addr, size_bytes, &from, &to);

	for (uint32_t end, at = from; at < to; at = end) {
		const struct handle *first;

		end = span_end(host, r, at, to);
		if (r->entries[at] & ENTRY_ACCESS)
			continue;
		first = handle_of(host, r->entries[at] & ENTRY_HANDLE);
		if (mmap(pointer_to(r->addr + at * host->granule_bytes),
			    (end - at) * host->granule_bytes,
			    PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
			    host->descriptor,
			    (off_t)first->offset_bytes) == MAP_FAILED) {
			undo_access(host, r, from, at);
			return -ENOMEM;
		}
	}
	for (uint32_t i = from; i < to; i++)
		if (r->entries[i] & ENTRY_START)
			r->entries[i] |= ENTRY_ACCESS;
	return 0;
}

static void host_unmap(struct vmm *vmm, vmm_addr addr, size_t size_bytes)
{
	struct vmm_host *host = host_of(vmm);
	uint32_t from, to;
	struct reservation *r = find_range(host, addr, size_bytes, &from, &to);
	bool access = false;

	for (uint32_t end, at = from; at < to; at = end) {
		struct handle *handle;
		uint32_t entry = r->entries[at];

		assert(entry & ENTRY_START);
		handle = handle_of(host, entry & ENTRY_HANDLE);
		end = at + granules(host, handle->size_bytes);
		assert(end <= to);
		access = access || (entry & ENTRY_ACCESS);
	}
	if (access)
		withdraw(addr, size_bytes);
	for (uint32_t end, at = from; at < to; at = end) {
		struct handle *handle =
			handle_of(host, r->entries[at] & ENTRY_HANDLE);

		end = at + granules(host, handle->size_bytes);
		host->span_count = host->span_count - 1 +
				   joins_left(host, r, at) +
				   joins_left(host, r, end);
		memset(r->entries + at, 0, (end - at) * sizeof(*r->entries));
		assert(handle->mapping_count > 0);
		handle->mapping_count--;
		if (handle->mapping_count == 0 &&
			handle->state == HANDLE_RELEASED)
			retire_handle(host, handle);
	}
}

/* The host computes in the calling thread: nothing is ever in flight. */
static int host_fence(struct vmm *vmm)
{
	(void)vmm;
	return 0;
}

/* No look at the books here: other threads may call while one maps. */
static int host_copy_in(
	struct vmm *vmm, vmm_addr to, const void *from, size_t size_bytes)
{
	(void)vmm;
	memcpy(pointer_to(to), from, size_bytes);
	return 0;
}

static int host_copy_out(
	struct vmm *vmm, void *to, vmm_addr from, size_t size_bytes)
{
	(void)vmm;
	memcpy(to, pointer_to(from), size_bytes);
	return 0;
}

static int host_clear(struct vmm *vmm, vmm_addr at, size_t size_bytes)
{
	(void)vmm;
	memset(pointer_to(at), 0, size_bytes);
	return 0;
}

/*
 * For want of memory now another one may be given; else none ever is, unless
 * some were: a page that others write just then is refused for many reasons.
 */
static void note_refusal(struct vmm_host *host, int code)
{
	uint64_t refused =
		__atomic_add_fetch(&host->refused_count, 1, __ATOMIC_RELAXED);
	bool none = refused >=
		    __atomic_load_n(&host->asked_count, __ATOMIC_RELAXED);

	__atomic_store_n(&host->refused_code, code, __ATOMIC_RELAXED);
	if (none && code != ENOMEM && code != EBUSY && code != EAGAIN)
		__atomic_store_n(&host->has_no_large, true, __ATOMIC_RELAXED);
}

/*
 * Whether `size_bytes` from `first` on are large pages now. There has to be
 * something to join, so of each the first small page is taken before.
 */
static bool join(vmm_addr first, size_t size_bytes)
{
	for (size_t at = 0; at < size_bytes; at += LARGE_PAGE_BYTES)
		if (madvise(pointer_to(first + at), SMALL_PAGE_BYTES,
			    MADV_POPULATE_READ))
			return false;
	return madvise(pointer_to(first), size_bytes, MADV_COLLAPSE) == 0;
}

/*
 * The system's large pages where one begins in the range: one entry of its
 * tables instead of 512, so that mapping them elsewhere, reading them and
 * taking them out again cost next to nothing. Made once, by whoever stores the
 * first byte; what was there before is kept. All at once, because the kernel
 * waits for all processors before it begins; one by one where that failed, to
 * know for which. A kernel that has no large one to give leaves small ones.
 */
static void join_pages(struct vmm_host *host, vmm_addr at, size_t size_bytes)
{
	const vmm_addr large = LARGE_PAGE_BYTES;
	vmm_addr first = (at + large - 1) / large * large;
	vmm_addr end = (at + size_bytes + large - 1) / large * large;

	/* Pages are by far the most handles: are they large ones? */
	if (host->large_count <= host->handle_count / 2 || first >= end ||
		__atomic_load_n(&host->has_no_large, __ATOMIC_RELAXED))
		return;
	if (end - first > large && join(first, end - first)) {
		__atomic_fetch_add(&host->asked_count, (end - first) / large,
			__ATOMIC_RELAXED);
		return;
	}
	for (; first < end &&
		!__atomic_load_n(&host->has_no_large, __ATOMIC_RELAXED);
		first += large) {
		__atomic_fetch_add(&host->asked_count, 1, __ATOMIC_RELAXED);
		if (!join(first, large))
			note_refusal(host, errno);
	}
}

/*
 * A write to a shared mapping faults once for each page of 4 KiB; to populate
 * by reading maps them by the dozen, writable, and takes the file's pages that
 * were never touched. A kernel that cannot do it leaves it to the writes.
 */
static void host_prepare(struct vmm *vmm, vmm_addr at, size_t size_bytes)
{
	const vmm_addr unit = SMALL_PAGE_BYTES;
	vmm_addr first = at / unit * unit;
	vmm_addr end = (at + size_bytes + unit - 1) / unit * unit;

	join_pages(host_of(vmm), at, size_bytes);
	(void)madvise(
		pointer_to(first), (size_t)(end - first), MADV_POPULATE_READ);
}

static struct mono host_now(struct vmm *vmm)
{
	(void)vmm;
	return mono_now();
}

static void *host_pointer(struct vmm *vmm, vmm_addr addr)
{
	(void)vmm;
	return pointer_to(addr);
}

static const struct vmm_ops host_ops = {
	.name = "host",
	.reserve = host_reserve,
	.unreserve = host_unreserve,
	.create = host_create,
	.release = host_release,
	.map = host_map,
	.set_access = host_set_access,
	.unmap = host_unmap,
	.fence = host_fence,
	.copy_in = host_copy_in,
	.copy_out = host_copy_out,
	.clear = host_clear,
	.prepare = host_prepare,
	.now = host_now,
	.host_pointer = host_pointer,
};

/* The file that others keep, or a new one. */
static int open_file(struct vmm_host *host,
	const struct vmm_host_config *config, struct error *err)
{
	struct stat st;
	int code;

	if (!config->adopts) {
		host->descriptor = memfd_create("heddle-pages", MFD_CLOEXEC);
		return host->descriptor >= 0
			       ? 0
			       : error_set(err, errno,
					 "host memory: memfd_create: %s",
					 strerror(errno));
	}
	assert(config->head_bytes % config->granularity_bytes == 0);
	host->descriptor = fcntl(config->descriptor, F_DUPFD_CLOEXEC, 3);
	if (host->descriptor < 0)
		return error_set(err, errno, "host memory: its file: %s",
			strerror(errno));
	host->adopted = true;
	host->used_bytes = config->head_bytes;
	if (fstat(host->descriptor, &st) == 0 &&
		((uint64_t)st.st_size >= config->head_bytes ||
			ftruncate(host->descriptor,
				(off_t)config->head_bytes) == 0)) {
		host->file_bytes = (uint64_t)st.st_size > config->head_bytes
					   ? (uint64_t)st.st_size
					   : config->head_bytes;
		return 0;
	}
	code = errno;
	close(host->descriptor);
	return error_set(
		err, code, "host memory: its file: %s", strerror(code));
}

int vmm_host_init(struct vmm *vmm, const struct vmm_host_config *config,
	struct error *err)
{
	struct vmm_host *host;
	int rc;

	*vmm = (struct vmm){0};
	if (!is_power_of_two(config->granularity_bytes) ||
		config->granularity_bytes < GRANULARITY_BYTES_MIN)
		return error_set(err, EINVAL,
			"host memory: a granularity of %zu bytes is not a "
			"power of two of at least %zu",
			config->granularity_bytes, GRANULARITY_BYTES_MIN);
	host = calloc(1, sizeof(*host));
	if (!host)
		return error_set(err, ENOMEM, "host memory: no memory");
	rc = open_file(host, config, err);
	if (rc) {
		free(host);
		return rc;
	}
	host->granule_bytes = config->granularity_bytes;
	host->mapping_count_max = config->mapping_count_max
					  ? config->mapping_count_max
					  : vmm_host_mapping_limit();
	*vmm = (struct vmm){.ops = &host_ops,
		.context = host,
		.granularity_bytes = config->granularity_bytes};
	return 0;
}

void vmm_host_destroy(struct vmm *vmm)
{
	struct vmm_host *host = host_of(vmm);

	if (!host)
		return;
	assert(host->reservation_count == 0);
	assert(host->live_count == 0);
	assert(host->span_count == 0);
	close(host->descriptor);
	free(host->reservations);
	free(host->classes);
	free(host->handles);
	free(host);
	*vmm = (struct vmm){0};
}

int vmm_host_descriptor(const struct vmm *vmm, size_t *out_size_bytes)
{
	const struct vmm_host *host = host_of(vmm);

	assert(vmm->ops == &host_ops);
	*out_size_bytes = host->file_bytes;
	return host->descriptor;
}

uint64_t vmm_host_mapping_limit(void)
{
	uint64_t limit = MAPPING_LIMIT_DEFAULT;
	char text[32];
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		ssize_t length = read(fd, text, sizeof(text) - 1);

		if (length > 0) {
			text[length] = '\0';
			limit = strtoull(text, NULL, 10);
		}
		if (limit == 0)
			limit = MAPPING_LIMIT_DEFAULT;
		close(fd);
	}
	return limit - limit / 10;
}

void vmm_host_large_pages(const struct vmm *vmm, struct vmm_large_pages *out)
{
	const struct vmm_host *host = host_of(vmm);

	*out = (struct vmm_large_pages){0};
	if (vmm->ops != &host_ops)
		return;
	*out = (struct vmm_large_pages){
		.asked_count =
			__atomic_load_n(&host->asked_count, __ATOMIC_RELAXED),
		.refused_count =
			__atomic_load_n(&host->refused_count, __ATOMIC_RELAXED),
		.code = __atomic_load_n(&host->refused_code, __ATOMIC_RELAXED),
	};
}
