/*
 * probe_range.h - sets of memory handles and the address ranges they map into
 *
 * Why:        every section on virtual memory needs the same two things, and
 *             each must come apart again after any failed call.
 * Invariants: handle[0..count) are live; mapped[i] says whether slot i of the
 *             range holds a mapping; release undoes exactly what was done and
 *             takes a zeroed struct.
 * Ownership:  a set owns its handles, a range its addresses and mappings; a
 *             range must be released before or after its handles, both work:
 *             memory is freed when the last of the two is gone.
 * Threads:    one.
 * Limits:     slots of a range have one size, that of the handles mapped.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_RANGE_H
#define PROBE_RANGE_H

#include "probe.h"

enum probe_handle_flags {
	PROBE_PLAIN = 0,
	PROBE_EXPORTABLE = 1, /* may be exported as a file descriptor */
	PROBE_RDMA = 2, /* gpuDirectRDMACapable */
};

struct probe_handles {
	CUmemGenericAllocationHandle *handle;
	uint64_t handle_bytes;
	size_t count;
};

struct probe_range {
	CUdeviceptr at;
	uint64_t bytes;
	uint64_t slot_bytes;
	size_t slot_count;
	unsigned char *mapped; /* [slot_count] */
};

/* What cuMemCreate gets for `flags`. */
CUmemAllocationProp probe_properties(const struct probe *p, unsigned flags);

/*
 * Flags of the product's pool: exportable and fit for RDMA, as far as the
 * card's attributes say that it can.
 */
unsigned probe_product_flags(const struct probe *p);

/*
 * Make `count` handles. With `us` not NULL, us[i] is the time of call i.
 * 0 or -errno; what was made until then stays in the set.
 */
int probe_handles_make(struct probe *p, struct probe_handles *set, size_t count,
	unsigned flags, double *us);
void probe_handles_release(struct probe *p, struct probe_handles *set);

/* Reserve `slot_count` slots; 2 MiB alignment. 0 or -errno: nothing held. */
int probe_range_init(struct probe *p, struct probe_range *range,
	uint64_t slot_bytes, size_t slot_count);
/* Unmaps what is mapped, slot by slot, and frees the addresses. */
void probe_range_release(struct probe *p, struct probe_range *range);

/* Each is one driver call and keeps the books of the range. */
int probe_range_map(struct probe *p, struct probe_range *range, size_t slot,
	CUmemGenericAllocationHandle handle);
int probe_range_access(
	struct probe *p, struct probe_range *range, size_t slot, size_t count);
int probe_range_unmap(
	struct probe *p, struct probe_range *range, size_t slot, size_t count);

/* Map the whole set from slot 0 on and grant access with one call. */
int probe_range_map_all(struct probe *p, struct probe_range *range,
	const struct probe_handles *set);

static inline CUdeviceptr probe_range_at(
	const struct probe_range *range, size_t slot)
{
	return range->at + slot * range->slot_bytes;
}

#endif
