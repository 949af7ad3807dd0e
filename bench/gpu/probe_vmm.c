/* probe_vmm.c - cost of the calls of virtual memory (sections vmm, window) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { VMM_SEED = 0x77aa, SPAN_MAX = 1000, SPAN_RUNS = 20 };

struct vmm_size {
	const char *label;
	uint64_t bytes;
	unsigned flags;
	size_t count;
};

static double us_since(uint64_t begin)
{
	return (double)(probe_now_ns() - begin) / 1e3;
}

static void vmm_times(struct probe *p, const char *call,
	const struct vmm_size *size, double *us, size_t count)
{
	char name[PROBE_NAME_MAX];

	snprintf(name, sizeof(name), "vmm.%s.%s", call, size->label);
	probe_times(p, name, us, count, "");
}

/* Bytes written through the mapping are there: it is memory, not a promise. */
static int check_usable(
	struct probe *p, const struct probe_range *range, uint64_t *bad)
{
	uint64_t more = 0;

	if (probe_fill(p, range->at, range->bytes, VMM_SEED) != 0 ||
		probe_check(p, range->at, range->bytes, VMM_SEED, &more) != 0)
		return -EIO;
	*bad += more;
	return 0;
}

/* The five calls, one handle at a time. */
static int measure_calls(struct probe *p, const struct vmm_size *size,
	struct probe_handles *set, struct probe_range *range, double *us)
{
	uint64_t bad = 0;
	int error = probe_handles_make(p, set, size->count, size->flags, us);

	if (error != 0)
		return error;
	vmm_times(p, "create", size, us, size->count);
	for (size_t i = 0; i < size->count; i++) {
		uint64_t begin = probe_now_ns();

		if (probe_range_map(p, range, i, set->handle[i]) != 0)
			return -EIO;
		us[i] = us_since(begin);
	}
	vmm_times(p, "map", size, us, size->count);
	for (size_t i = 0; i < size->count; i++) {
		uint64_t begin = probe_now_ns();

		if (probe_range_access(p, range, i, 1) != 0)
			return -EIO;
		us[i] = us_since(begin);
	}
	vmm_times(p, "access", size, us, size->count);
	if (check_usable(p, range, &bad) != 0)
		return -EIO;
	if (bad != 0)
		probe_wrong(p, "%s handles: %llu words are wrong", size->label,
			(unsigned long long)bad);
	for (size_t i = 0; i < size->count; i++) {
		uint64_t begin = probe_now_ns();

		if (probe_range_unmap(p, range, i, 1) != 0)
			return -EIO;
		us[i] = us_since(begin);
	}
	vmm_times(p, "unmap", size, us, size->count);
	return 0;
}

static int measure_release(struct probe *p, const struct vmm_size *size,
	struct probe_handles *set, double *us)
{
	size_t count = set->count;

	/* From the end, so that the set's books stay right at any failure. */
	for (size_t i = 0; i < count; i++) {
		uint64_t begin = probe_now_ns();

		set->count--;
		if (probe_cu(p, p->cu.release(set->handle[set->count]),
			    "cuMemRelease") != 0)
			return -EIO;
		us[i] = us_since(begin);
	}
	vmm_times(p, "release", size, us, count);
	return 0;
}

static int measure_size(struct probe *p, struct vmm_size size)
{
	struct probe_handles set = {.handle_bytes = size.bytes};
	struct probe_range range = {.at = 0};
	uint64_t fit = p->free_bytes / 2 / size.bytes;
	double *us;
	int error;

	if (p->quick && size.count > 8)
		size.count = 8;
	if (size.count > fit)
		size.count = fit;
	if (size.count == 0)
		return 0;
	us = calloc(size.count, sizeof(*us));
	if (us == NULL)
		return probe_stop(p, -ENOMEM, "no memory for times");
	error = probe_range_init(p, &range, size.bytes, size.count);
	if (error == 0)
		error = measure_calls(p, &size, &set, &range, us);
	if (error == 0)
		error = measure_release(p, &size, &set, us);
	probe_range_release(p, &range);
	probe_handles_release(p, &set);
	free(us);
	return error;
}

/* Map `n` handles, grant access with one call, unmap them with one call. */
static int measure_span(struct probe *p, const struct probe_handles *set,
	struct probe_range *range, size_t n)
{
	double access[SPAN_RUNS];
	double unmap[SPAN_RUNS];
	unsigned runs = p->quick ? 2 : SPAN_RUNS;
	char name[PROBE_NAME_MAX];

	for (unsigned r = 0; r < runs; r++) {
		uint64_t begin;

		for (size_t i = 0; i < n; i++)
			if (probe_range_map(p, range, i, set->handle[i]) != 0)
				return -EIO;
		begin = probe_now_ns();
		if (probe_range_access(p, range, 0, n) != 0)
			return -EIO;
		access[r] = us_since(begin);
		begin = probe_now_ns();
		if (probe_range_unmap(p, range, 0, n) != 0)
			return -EIO;
		unmap[r] = us_since(begin);
	}
	snprintf(name, sizeof(name), "vmm.access_span.n%zu", n);
	probe_times(p, name, access, runs, "");
	snprintf(name, sizeof(name), "vmm.unmap_span.n%zu", n);
	probe_times(p, name, unmap, runs, "");
	return 0;
}

static int measure_spans(struct probe *p)
{
	static const size_t spans[] = {1, 4, 16, 64, 256, 512, SPAN_MAX};
	struct probe_handles set = {.handle_bytes = PROBE_PAGE};
	struct probe_range range = {.at = 0};
	size_t count = SPAN_MAX;
	int error;

	if (count > p->free_bytes / 2 / PROBE_PAGE)
		count = p->free_bytes / 2 / PROBE_PAGE;
	if (count == 0)
		return 0;
	error = probe_handles_make(
		p, &set, count, probe_product_flags(p), NULL);
	if (error == 0)
		error = probe_range_init(p, &range, PROBE_PAGE, count);
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		if (error != 0 || spans[i] > count || probe_late(p))
			break;
		error = measure_span(p, &set, &range, spans[i]);
	}
	probe_range_release(p, &range);
	probe_handles_release(p, &set);
	return error;
}

static int measure_reserve(struct probe *p)
{
	double us[50];

	for (size_t i = 0; i < 50; i++) {
		uint64_t begin = probe_now_ns();
		CUdeviceptr at = 0;

		if (probe_cu(p,
			    p->cu.reserve(
				    &at, 64 * PROBE_GIB, PROBE_PAGE, 0, 0),
			    "cuMemAddressReserve") != 0)
			return -EIO;
		us[i] = us_since(begin);
		if (probe_cu(p, p->cu.reserve_free(at, 64 * PROBE_GIB),
			    "cuMemAddressFree") != 0)
			return -EIO;
	}
	probe_times(p, "vmm.reserve", us, 50, "");
	return 0;
}

int probe_section_vmm(struct probe *p)
{
	const unsigned product = probe_product_flags(p);
	const struct vmm_size sizes[] = {
		{"2m", PROBE_PAGE, PROBE_PLAIN, 500},
		{"2m_product", PROBE_PAGE, product, 500},
		{"16m", 8 * PROBE_PAGE, product, 200},
		{"64m", 32 * PROBE_PAGE, product, 100},
	};
	int error = measure_reserve(p);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (error == 0)
			error = measure_size(p, sizes[i]);
	if (error == 0)
		error = measure_spans(p);
	if (error == 0)
		probe_bool(p, "vmm.usable", !p->wrong,
			"2m_product: exportable and RDMA-capable if supported");
	return error;
}
