/*
 * fake_cuda_memory.c - memory of the driver library with no card behind it
 *
 * A handle is a memory file, a mapping maps it, and set-access makes it
 * readable, so touching a page without access is a crash here as it is there.
 * Checked: sizes and places in whole pages, offset 0, whole handles, no map
 * over a map, no freeing of a range that holds mappings. Memory is given back
 * when the handle is released and its last mapping is gone.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/fake_cuda.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((size_t)2 << 20)
enum { HANDLES = 4096, MAPPINGS = 8192, BLOCKS = 64 };

struct handle {
	int file; /* descriptor + 1; 0: free */
	size_t bytes;
	bool held; /* not released yet */
	unsigned mappings;
};

struct mapping {
	uint64_t at; /* 0: free */
	size_t bytes;
	size_t handle;
	bool open; /* access was granted */
};

struct block { /* of addresses, of device memory or of host memory */
	uint64_t at; /* 0: free */
	size_t bytes;
};

static struct {
	struct handle handle[HANDLES];
	struct mapping mapping[MAPPINGS];
	struct block range[BLOCKS];
	struct block device[BLOCKS];
	struct block host[BLOCKS];
	size_t used_bytes;
} memory;

static void *pointer(uint64_t at)
{
	return (void *)(uintptr_t)at;
}

size_t fake_memory_leaks(void)
{
	size_t sum = 0;

	for (size_t i = 0; i < BLOCKS; i++)
		sum += (size_t)(memory.range[i].at != 0) +
		       (size_t)(memory.device[i].at != 0) +
		       (size_t)(memory.host[i].at != 0);
	for (size_t i = 0; i < HANDLES; i++)
		sum += memory.handle[i].file != 0 ? 1 : 0;
	for (size_t i = 0; i < MAPPINGS; i++)
		sum += memory.mapping[i].at != 0 ? 1 : 0;
	return sum;
}

static bool inside(const struct block *block, uint64_t at, uint64_t bytes)
{
	return block->at != 0 && at >= block->at &&
	       at + bytes <= block->at + block->bytes;
}

static struct mapping *mapping_at(uint64_t at)
{
	for (size_t i = 0; i < MAPPINGS; i++)
		if (memory.mapping[i].at != 0 && at >= memory.mapping[i].at &&
			at < memory.mapping[i].at + memory.mapping[i].bytes)
			return &memory.mapping[i];
	return NULL;
}

bool fake_accessible(uint64_t at, uint64_t bytes)
{
	for (size_t i = 0; i < BLOCKS; i++)
		if (inside(&memory.device[i], at, bytes) ||
			inside(&memory.host[i], at, bytes))
			return true;
	for (uint64_t done = 0; done < bytes;) {
		const struct mapping *m = mapping_at(at + done);

		if (m == NULL || !m->open)
			return false;
		done = m->at + m->bytes - at;
	}
	return true;
}

CUresult fake_fill(uint64_t at, uint32_t word, size_t count)
{
	uint32_t *words = pointer(at);

	if (!fake_accessible(at, count * 4))
		return fake_breach("filling what is not mapped");
	for (size_t i = 0; i < count; i++)
		words[i] = word;
	return CUDA_SUCCESS;
}

/* ---- plain buffers ------------------------------------------------------ */

static struct block *block_find(struct block *block, uint64_t at)
{
	for (size_t i = 0; i < BLOCKS; i++)
		if (block[i].at == at)
			return &block[i];
	return NULL;
}

static CUresult block_new(struct block *block, size_t bytes, uint64_t *at)
{
	struct block *slot = block_find(block, 0);
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (slot == NULL || room == MAP_FAILED || bytes == 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	slot->at = (uint64_t)(uintptr_t)room;
	slot->bytes = bytes;
	*at = slot->at;
	return CUDA_SUCCESS;
}

static CUresult block_drop(struct block *block, uint64_t at)
{
	struct block *slot = at == 0 ? NULL : block_find(block, at);

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (slot == NULL)
		return fake_breach("freeing what is not there");
	munmap(pointer(slot->at), slot->bytes);
	slot->at = 0;
	return CUDA_SUCCESS;
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*free_bytes = fake_total_bytes() - memory.used_bytes;
	*total_bytes = fake_total_bytes();
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *at, size_t bytes)
{
	uint64_t place = 0;
	CUresult result;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	result = block_new(memory.device, bytes, &place);
	if (result == CUDA_SUCCESS)
		*at = place;
	return result;
}

CUresult cuMemFree(CUdeviceptr at)
{
	return block_drop(memory.device, at);
}

CUresult cuMemHostAlloc(void **at, size_t bytes, unsigned flags)
{
	uint64_t place = 0;
	CUresult result;

	(void)flags;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	result = block_new(memory.host, bytes, &place);
	if (result == CUDA_SUCCESS)
		*at = pointer(place);
	return result;
}

CUresult cuMemFreeHost(void *at)
{
	return block_drop(memory.host, (uint64_t)(uintptr_t)at);
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *at, void *host, unsigned flags)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (flags != 0 ||
		block_find(memory.host, (uint64_t)(uintptr_t)host) == NULL)
		return fake_breach("no host memory of ours");
	*at = (CUdeviceptr)(uintptr_t)host;
	return CUDA_SUCCESS;
}

/* ---- copies -------------------------------------------------------------- */

static CUresult copy(void *to, const void *from, size_t bytes, uint64_t device)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (!fake_accessible(device, bytes))
		return fake_breach("copying what is not mapped");
	memmove(to, from, bytes);
	return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(
	CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	(void)stream;
	return copy(pointer(to), from, bytes, to);
}

CUresult cuMemcpyDtoHAsync(
	void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	(void)stream;
	return copy(to, pointer(from), bytes, from);
}

CUresult cuMemcpyDtoDAsync(
	CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	(void)stream;
	if (!fake_accessible(from, bytes))
		return fake_breach("copying what is not mapped");
	return copy(pointer(to), pointer(from), bytes, to);
}

/* ---- handles -------------------------------------------------------------- */

static bool whole_pages(uint64_t number)
{
	return number % PAGE == 0;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes,
	const CUmemAllocationProp *properties,
	CUmemAllocationGranularity_flags option)
{
	(void)properties;
	(void)option;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*bytes = PAGE;
	return CUDA_SUCCESS;
}

/* The free slot at or after `from`, counted as handle `number` - 1. */
static CUresult handle_new(
	int file, size_t bytes, CUmemGenericAllocationHandle *number)
{
	for (size_t i = 0; i < HANDLES; i++) {
		if (memory.handle[i].file != 0)
			continue;
		memory.handle[i] = (struct handle){
			.file = file + 1, .bytes = bytes, .held = true};
		memory.used_bytes += bytes;
		*number = i + 1;
		return CUDA_SUCCESS;
	}
	close(file);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

static struct handle *handle_find(CUmemGenericAllocationHandle number)
{
	if (number == 0 || number > HANDLES ||
		memory.handle[number - 1].file == 0)
		return NULL;
	return &memory.handle[number - 1];
}

static void handle_settle(struct handle *handle)
{
	if (handle->held || handle->mappings > 0)
		return;
	close(handle->file - 1);
	memory.used_bytes -= handle->bytes;
	*handle = (struct handle){.file = 0};
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *number, size_t bytes,
	const CUmemAllocationProp *properties, unsigned long long flags)
{
	int file;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (flags != 0 || bytes == 0 || !whole_pages(bytes) ||
		properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
		properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return fake_breach("a handle that cannot be");
	if (bytes > fake_total_bytes() - memory.used_bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	file = memfd_create("fake_cuda", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, (off_t)bytes) != 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	return handle_new(file, bytes, number);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle number)
{
	struct handle *handle = handle_find(number);

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (handle == NULL || !handle->held)
		return fake_breach("releasing what is not held");
	handle->held = false;
	handle_settle(handle);
	return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void *shared,
	CUmemGenericAllocationHandle number, CUmemAllocationHandleType type,
	unsigned long long flags)
{
	struct handle *handle = handle_find(number);
	int file;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (handle == NULL || flags != 0 ||
		type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return fake_breach("exporting what is not held");
	file = fcntl(handle->file - 1, F_DUPFD_CLOEXEC, 0);
	if (file < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	memcpy(shared, &file, sizeof(file));
	return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *number,
	void *shared, CUmemAllocationHandleType type)
{
	struct stat status;
	int file;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	file = fcntl((int)(uintptr_t)shared, F_DUPFD_CLOEXEC, 0);
	if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || file < 0 ||
		fstat(file, &status) != 0)
		return fake_breach("importing what is no descriptor");
	return handle_new(file, (size_t)status.st_size, number);
}

CUresult cuMemGetHandleForAddressRange(void *shared, CUdeviceptr at,
	size_t bytes, CUmemRangeHandleType type, unsigned long long flags)
{
	int file;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (type != CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD || flags != 0 ||
		!fake_accessible(at, bytes))
		return fake_breach("a dma-buf of what is not mapped");
	file = memfd_create("fake_dmabuf", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, (off_t)bytes) != 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	memcpy(shared, &file, sizeof(file));
	return CUDA_SUCCESS;
}

/* ---- address ranges -------------------------------------------------------- */

CUresult cuMemAddressReserve(CUdeviceptr *at, size_t bytes, size_t alignment,
	CUdeviceptr fixed, unsigned long long flags)
{
	struct block *slot = block_find(memory.range, 0);
	uint64_t place;
	void *room;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (!whole_pages(bytes) || bytes == 0 || alignment > PAGE ||
		fixed != 0 || flags != 0)
		return fake_breach("a range that cannot be");
	room = mmap(NULL, bytes + PAGE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slot == NULL || room == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	place = ((uint64_t)(uintptr_t)room + PAGE - 1) / PAGE * PAGE;
	if (place > (uint64_t)(uintptr_t)room)
		munmap(room, place - (uint64_t)(uintptr_t)room);
	munmap(pointer(place + bytes),
		(uint64_t)(uintptr_t)room + PAGE - place);
	slot->at = place;
	slot->bytes = bytes;
	*at = place;
	return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr at, size_t bytes)
{
	struct block *slot = at == 0 ? NULL : block_find(memory.range, at);

	if (slot != NULL && slot->bytes != bytes)
		return fake_breach("freeing a part of a range");
	for (size_t i = 0; i < MAPPINGS; i++)
		if (slot != NULL && inside(slot, memory.mapping[i].at, 1))
			return fake_breach("freeing a range with mappings");
	return block_drop(memory.range, at);
}

CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset,
	CUmemGenericAllocationHandle number, unsigned long long flags)
{
	struct handle *handle = handle_find(number);
	struct mapping *free_slot = NULL;
	bool reserved = false;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	for (size_t i = 0; i < BLOCKS; i++)
		reserved = reserved || inside(&memory.range[i], at, bytes);
	for (size_t i = 0; i < MAPPINGS && free_slot == NULL; i++)
		if (memory.mapping[i].at == 0)
			free_slot = &memory.mapping[i];
	if (handle == NULL || !reserved || !whole_pages(at) || offset != 0 ||
		bytes != handle->bytes || flags != 0 || free_slot == NULL)
		return fake_breach("a mapping that cannot be");
	for (uint64_t done = 0; done < bytes; done += PAGE)
		if (mapping_at(at + done) != NULL)
			return fake_breach("mapping over a mapping");
	if (mmap(pointer(at), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED,
		    handle->file - 1, 0) == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*free_slot = (struct mapping){
		.at = at, .bytes = bytes, .handle = (size_t)number - 1};
	handle->mappings++;
	return CUDA_SUCCESS;
}

/* True when [at, at + bytes) is made of whole mappings and nothing else. */
static bool whole_mappings(uint64_t at, size_t bytes)
{
	for (uint64_t done = 0; done < bytes;) {
		const struct mapping *m = mapping_at(at + done);

		if (m == NULL || m->at != at + done || done + m->bytes > bytes)
			return false;
		done += m->bytes;
	}
	return bytes > 0;
}

CUresult cuMemSetAccess(CUdeviceptr at, size_t bytes,
	const CUmemAccessDesc *access, size_t count)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (count != 1 || access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE ||
		!whole_mappings(at, bytes))
		return fake_breach("access to what is not mapped");
	for (uint64_t done = 0; done < bytes;) {
		struct mapping *m = mapping_at(at + done);

		m->open = true;
		done += m->bytes;
	}
	return mprotect(pointer(at), bytes, PROT_READ | PROT_WRITE) == 0
		       ? CUDA_SUCCESS
		       : CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult cuMemUnmap(CUdeviceptr at, size_t bytes)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (!whole_mappings(at, bytes))
		return fake_breach("unmapping what is not mapped");
	for (uint64_t done = 0; done < bytes;) {
		struct mapping *m = mapping_at(at + done);
		struct handle *handle = &memory.handle[m->handle];

		done += m->bytes;
		m->at = 0;
		handle->mappings--;
		handle_settle(handle);
	}
	return mmap(pointer(at), bytes, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		       -1, 0) == MAP_FAILED
		       ? CUDA_ERROR_OPERATING_SYSTEM
		       : CUDA_SUCCESS;
}
