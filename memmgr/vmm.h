/* vmm.h - the operating system under the memory manager, as one table */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   every effect on physical memory, mappings and time goes through
 *        these functions, so the real policy runs unchanged on a GPU (cuda),
 *        on memory files (host) and on a fake that counts calls and fails
 *        the n-th of them.
 *
 * Rules: those of CUDA's virtual memory management (CUDA driver API 13.0,
 *        cuMem*), the strictest of the back ends, hold for all of them:
 *        - every size and address is a multiple of the granularity (but for
 *          copy_in, copy_out, clear and prepare, which take any bytes);
 *        - a handle is mapped whole, at offset 0, and only onto reserved
 *          addresses where nothing is mapped;
 *        - one handle may be mapped at several addresses;
 *        - unmap takes whole mappings: the range starts where one starts and
 *          ends where one ends;
 *        - mapped memory may be touched only after set_access, which covers
 *          a fully mapped range and may span many handles;
 *        - unmapping what running work may touch is undefined: fence first,
 *          unless access was given after the work began (a rollback);
 *        - release drops the handle; the memory goes when no mapping is left;
 *        - nothing here is ordered with the work of a stream.
 *        Breaking a rule is our bug: the fake and the host assert it.
 *
 * Errors: 0 or -errno: -ENOMEM (memory, addresses or the system's limit on
 *         mappings), -EIO (the device says no). On error nothing changed.
 * Ownership: who reserves unreserves, who creates releases.
 * Threads: one thread per context at a time, except now, prepare and copy_in,
 *         which any thread may call.
 */
#ifndef HEDDLE_MEMMGR_VMM_H
#define HEDDLE_MEMMGR_VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"

/* An address of the device; on the host it is a pointer's value. */
typedef uint64_t vmm_addr;

/* Physical memory; 0 in `id` is "none". Opaque to all but the back end. */
struct vmm_handle {
	uint64_t id;
};

struct vmm {
	const struct vmm_ops *ops;
	void *context; /* the back end's; owned by it */
	size_t granularity_bytes;
};

struct vmm_ops {
	const char *name; /* "host", "cuda", "fake" */

	/* Reserve addresses; nothing is mapped there yet. */
	int (*reserve)(struct vmm *vmm, size_t size_bytes, vmm_addr *out);
	/* Give back a whole reservation in which nothing is mapped. */
	void (*unreserve)(struct vmm *vmm, vmm_addr addr, size_t size_bytes);

	int (*create)(
		struct vmm *vmm, size_t size_bytes, struct vmm_handle *out);
	void (*release)(struct vmm *vmm, struct vmm_handle handle);

	/* Map all of `handle` (size_bytes as created) at addr. */
	int (*map)(struct vmm *vmm, vmm_addr addr, size_t size_bytes,
		struct vmm_handle handle);
	int (*set_access)(struct vmm *vmm, vmm_addr addr, size_t size_bytes);
	/* Cannot fail on ranges that map and set_access made. */
	void (*unmap)(struct vmm *vmm, vmm_addr addr, size_t size_bytes);

	/* Return when all work submitted to the device before has ended. */
	int (*fence)(struct vmm *vmm);

	/* Write into, read from and clear accessible memory. */
	int (*copy_in)(struct vmm *vmm, vmm_addr to, const void *from,
		size_t size_bytes);
	int (*copy_out)(
		struct vmm *vmm, void *to, vmm_addr from, size_t size_bytes);
	int (*clear)(struct vmm *vmm, vmm_addr at, size_t size_bytes);

	/*
	 * The range is about to be written, all of it: make ready what the
	 * first touch of each page of the system would make one by one. Only
	 * advice; any thread, while the range stays mapped.
	 */
	void (*prepare)(struct vmm *vmm, vmm_addr at, size_t size_bytes);

	struct mono (*now)(struct vmm *vmm);

	/*
	 * The address as a pointer that this process may use, or NULL where
	 * device memory is not addressable by the CPU.
	 */
	void *(*host_pointer)(struct vmm *vmm, vmm_addr addr);
};

/*
 * Host back end: physical memory is one memory file (memfd) that grows at
 * create; a mapping is a shared mmap of it. granularity_bytes is a power of
 * two and at least PAGE_SIZE_BYTES_MIN. mapping_count_max is what this
 * back end may use of the system's limit (vm.max_map_count), 0 = read the
 * limit and keep a tenth of it in reserve; a map or reserve that could exceed
 * it is refused with -ENOMEM. Neighbouring mappings of neighbouring file
 * ranges count as one, as the kernel merges them; the count kept here is an
 * upper bound (twice the spans, for the gaps beside them, and one for each
 * reservation). The file grows ahead of use, by doubling; physical memory is
 * the system's until a page is first touched, and its again when a handle is
 * released and no mapping is left. Handles of whole large pages of the system
 * (2 MiB) begin at such a boundary of the file, reservations at one of the
 * addresses; where most are such, prepare() puts large pages under them.
 */
struct vmm_host_config {
	size_t granularity_bytes;
	uint64_t mapping_count_max;
	/*
	 * Whether `descriptor` is the memory file, made by someone who keeps
	 * it open so that pages outlive this process. It is duplicated. Its
	 * first head_bytes (a multiple of the granularity) are not touched.
	 * Handles lie in the file in the order of their creation, one behind
	 * the other but for gaps that follow from their sizes: who creates the
	 * same ones again finds their bytes.
	 * What is released stays in the file.
	 */
	bool adopts;
	int descriptor;
	uint64_t head_bytes;
};

int vmm_host_init(struct vmm *vmm, const struct vmm_host_config *config,
	struct error *err);

/* All reservations and handles must be gone. A zeroed struct is allowed. */
void vmm_host_destroy(struct vmm *vmm);

/*
 * The descriptor of the memory file (borrowed; for control, which keeps it
 * open so that the pages outlive an engine) and the file's size.
 */
int vmm_host_descriptor(const struct vmm *vmm, size_t *out_size_bytes);

/*
 * Largest part of the system's mapping limit that a process may plan for:
 * vm.max_map_count less a tenth; 65530 less a tenth where it cannot be read.
 */
uint64_t vmm_host_mapping_limit(void);

/*
 * How many large pages prepare() asked for, how many of these the system did
 * not give, and the errno of the last such; any thread. A system that has none
 * at all is asked once. Of another back end: zeros.
 */
struct vmm_large_pages {
	uint64_t asked_count, refused_count;
	int code;
};

void vmm_host_large_pages(const struct vmm *vmm, struct vmm_large_pages *out);

#endif
