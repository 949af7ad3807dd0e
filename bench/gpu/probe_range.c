/* probe_range.c - sets of memory handles and the ranges they map into */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

CUmemAllocationProp probe_properties(const struct probe *p, unsigned flags)
{
	CUmemAllocationProp properties = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE,
			.id = p->device},
	};

	if (flags & PROBE_EXPORTABLE)
		properties.requestedHandleTypes =
			CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	if (flags & PROBE_RDMA)
		properties.allocFlags.gpuDirectRDMACapable = 1;
	return properties;
}

unsigned probe_product_flags(const struct probe *p)
{
	unsigned flags = PROBE_PLAIN;
	int can = 0;

	if (probe_attribute(p,
		    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
		    &can) == 0 &&
		can)
		flags |= PROBE_EXPORTABLE;
	if (probe_attribute(p,
		    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
		    &can) == 0 &&
		can)
		flags |= PROBE_RDMA;
	return flags;
}

int probe_handles_make(struct probe *p, struct probe_handles *set, size_t count,
	unsigned flags, double *us)
{
	CUmemAllocationProp properties = probe_properties(p, flags);

	assert(set->handle == NULL && set->handle_bytes > 0 && count > 0);
	set->handle = calloc(count, sizeof(*set->handle));
	if (set->handle == NULL)
		return probe_stop(
			p, -ENOMEM, "no memory for %zu handles", count);
	for (size_t i = 0; i < count; i++) {
		uint64_t begin = probe_now_ns();
		CUresult result = p->cu.create(
			&set->handle[i], set->handle_bytes, &properties, 0);

		if (us != NULL)
			us[i] = (double)(probe_now_ns() - begin) / 1e3;
		if (probe_cu(p, result, "cuMemCreate") != 0)
			return -EIO;
		set->count++;
	}
	return 0;
}

void probe_handles_release(struct probe *p, struct probe_handles *set)
{
	for (size_t i = 0; i < set->count; i++)
		(void)probe_cu(
			p, p->cu.release(set->handle[i]), "cuMemRelease");
	free(set->handle);
	*set = (struct probe_handles){.handle_bytes = set->handle_bytes};
}

int probe_range_init(struct probe *p, struct probe_range *range,
	uint64_t slot_bytes, size_t slot_count)
{
	assert(range->at == 0 && slot_count > 0);
	assert(slot_bytes % PROBE_PAGE == 0);
	range->mapped = calloc(slot_count, 1);
	if (range->mapped == NULL)
		return probe_stop(
			p, -ENOMEM, "no memory for %zu slots", slot_count);
	if (probe_cu(p,
		    p->cu.reserve(&range->at, slot_bytes * slot_count,
			    PROBE_PAGE, 0, 0),
		    "cuMemAddressReserve") != 0) {
		free(range->mapped);
		*range = (struct probe_range){.at = 0};
		return -EIO;
	}
	range->bytes = slot_bytes * slot_count;
	range->slot_bytes = slot_bytes;
	range->slot_count = slot_count;
	return 0;
}

void probe_range_release(struct probe *p, struct probe_range *range)
{
	if (range->at == 0)
		return;
	for (size_t i = 0; i < range->slot_count; i++)
		if (range->mapped[i])
			(void)probe_range_unmap(p, range, i, 1);
	(void)probe_cu(p, p->cu.reserve_free(range->at, range->bytes),
		"cuMemAddressFree");
	free(range->mapped);
	*range = (struct probe_range){.at = 0};
}

int probe_range_map(struct probe *p, struct probe_range *range, size_t slot,
	CUmemGenericAllocationHandle handle)
{
	assert(slot < range->slot_count && !range->mapped[slot]);
	if (probe_cu(p,
		    p->cu.map(probe_range_at(range, slot), range->slot_bytes, 0,
			    handle, 0),
		    "cuMemMap") != 0)
		return -EIO;
	range->mapped[slot] = 1;
	return 0;
}

int probe_range_access(
	struct probe *p, struct probe_range *range, size_t slot, size_t count)
{
	CUmemAccessDesc access = {
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE,
			.id = p->device},
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};

	assert(count > 0 && slot + count <= range->slot_count);
	return probe_cu(p,
		p->cu.set_access(probe_range_at(range, slot),
			count * range->slot_bytes, &access, 1),
		"cuMemSetAccess");
}

int probe_range_unmap(
	struct probe *p, struct probe_range *range, size_t slot, size_t count)
{
	assert(count > 0 && slot + count <= range->slot_count);
	if (probe_cu(p,
		    p->cu.unmap(probe_range_at(range, slot),
			    count * range->slot_bytes),
		    "cuMemUnmap") != 0)
		return -EIO;
	for (size_t i = 0; i < count; i++) {
		assert(range->mapped[slot + i]);
		range->mapped[slot + i] = 0;
	}
	return 0;
}

int probe_range_map_all(struct probe *p, struct probe_range *range,
	const struct probe_handles *set)
{
	for (size_t i = 0; i < set->count; i++)
		if (probe_range_map(p, range, i, set->handle[i]) != 0)
			return -EIO;
	return probe_range_access(p, range, 0, set->count);
}
