/* adapters_load.c - how fast an adapter is there: idle machine */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/adapters_load.h"
#include "bench/median.h"

#define NAME "whole"
#define LARGE_BYTES ((size_t)2 << 20) /* a large page of the system */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* linux/mman.h; the C library may be older */
#endif

enum part { PART_STAGE, PART_MAP, PART_COPY, PART_PUBLISH, PART_COUNT };

/* A part of a memcpy. */
struct copying {
	pthread_t thread;
	uint8_t *to;
	const uint8_t *from;
	size_t bytes;
	bool fresh; /* large pages are asked for first, as the engine does */
};

struct rounds {
	uint32_t threads;
	double *used, *copy_used; /* [count] */
	double *parts[PART_COUNT], *unload;
	uint32_t count;
};

static double since(struct mono begin)
{
	return (double)mono_diff(mono_now(), begin);
}

static void *copy_part(void *arg)
{
	const struct copying *part = arg;

	for (size_t i = 0; part->fresh && i < part->bytes; i += LARGE_BYTES) {
		(void)madvise(part->to + i, 4096, MADV_POPULATE_READ);
		(void)madvise(part->to + i, LARGE_BYTES, MADV_COLLAPSE);
	}
	memcpy(part->to, part->from, part->bytes);
	return NULL;
}

/* By so many threads, the caller being one; ns. */
static double copy_all(uint8_t *to, const uint8_t *from, size_t bytes,
	uint32_t threads, bool fresh)
{
	struct copying parts[READER_LANE_COUNT_MAX] = {{0}};
	size_t pages = (bytes + LARGE_BYTES - 1) / LARGE_BYTES;
	size_t each = pages < threads ? bytes / threads
				      : pages / threads * LARGE_BYTES;
	struct mono begin = mono_now();
	uint32_t started = 1;

	for (uint32_t i = 0; i < threads; i++) {
		parts[i].to = to + i * each;
		parts[i].from = from + i * each;
		parts[i].bytes = i + 1 < threads ? each : bytes - i * each;
		parts[i].fresh = fresh;
	}
	while (started < threads && pthread_create(&parts[started].thread, NULL,
					    copy_part, &parts[started]) == 0)
		started++;
	copy_part(&parts[0]);
	for (uint32_t i = 1; i < threads; i++)
		if (i < started)
			pthread_join(parts[i].thread, NULL);
		else
			copy_part(&parts[i]);
	return since(begin);
}

/* One load in its parts, ns each. */
static int load_once(struct world *w, uint32_t threads,
	double parts[PART_COUNT], struct error *err)
{
	struct adapter *adapter = NULL;
	struct reader_info info;
	struct mono begin = mono_now();
	int rc = adapter_stage(
		w->with.set, NAME, false, &w->whole, &adapter, err);

	parts[PART_STAGE] = since(begin);
	if (rc)
		return rc;
	begin = mono_now();
	rc = adapter_map(w->with.set, adapter, err);
	parts[PART_MAP] = since(begin);
	begin = mono_now();
	if (rc == 0)
		rc = adapter_copy(adapter, threads, NULL, &info, err);
	parts[PART_COPY] = since(begin);
	if (rc) {
		adapter_abandon(w->with.set, adapter);
		return rc;
	}
	begin = mono_now();
	adapter_publish(w->with.set, adapter);
	parts[PART_PUBLISH] = since(begin);
	return 0;
}

static int unload_once(struct world *w, double *out_ns, struct error *err)
{
	struct mono begin = mono_now();
	int rc = adapter_unload(w->with.set, NAME, err);

	*out_ns = since(begin);
	return rc;
}

static double sum(const double parts[PART_COUNT])
{
	return parts[PART_STAGE] + parts[PART_MAP] + parts[PART_COPY] +
	       parts[PART_PUBLISH];
}

/* The system's pages under what nobody has are given back. */
static void make_fresh(struct world *w)
{
	struct page_pool *pool = w->with.model->pool;
	size_t page = page_pool_page_size(pool);
	struct vmm *vmm = page_pool_vmm(pool);

	for (uint32_t i = 0; i < page_pool_page_count(pool); i++) {
		uint32_t id;

		if (page_pool_owner(pool, i, &id) == PAGE_FREE)
			(void)madvise(vmm->ops->host_pointer(
					      vmm, page_pool_address(pool, i)),
				page, MADV_REMOVE);
	}
}

/* A new memory file, mapped where large pages may be put under it. */
static uint8_t *map_fresh(size_t size, void **out_room)
{
	int fd = memfd_create("bench-copy", MFD_CLOEXEC);
	uint8_t *at = MAP_FAILED, *room;

	*out_room = mmap(NULL, size + LARGE_BYTES, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fd >= 0 && *out_room != MAP_FAILED &&
		ftruncate(fd, (off_t)size) == 0) {
		room = *out_room;
		at = mmap(room + -(uintptr_t)room % LARGE_BYTES, size,
			PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	}
	if (fd >= 0)
		close(fd);
	return at == MAP_FAILED ? NULL : at;
}

/* memcpy into memory that this call makes: of the same kind as a pool's. */
static int copy_fresh(
	const uint8_t *from, size_t bytes, uint32_t threads, double *out_rate)
{
	size_t size = (bytes + LARGE_BYTES - 1) / LARGE_BYTES * LARGE_BYTES;
	void *room;
	uint8_t *to = map_fresh(size, &room);

	if (to)
		*out_rate = (double)bytes * 1e9 /
			    copy_all(to, from, bytes, threads, true);
	if (room != MAP_FAILED)
		munmap(room, size + LARGE_BYTES);
	return to ? 0 : -ENOMEM;
}

static int measure_fresh(struct world *w, const struct rounds *r,
	const uint8_t *source, struct load_rates *out, struct error *err)
{
	uint32_t rounds = r->count;
	double *loads = calloc((size_t)2 * rounds, sizeof(*loads));
	double *copies;
	int rc = 0;

	if (!loads)
		return error_set(err, ENOMEM, "no memory to measure");
	copies = loads + rounds;
	for (uint32_t i = 0; rc == 0 && i < rounds; i++) {
		double parts[PART_COUNT] = {0}, unload;

		make_fresh(w);
		rc = load_once(w, r->threads, parts, err);
		if (rc == 0)
			rc = unload_once(w, &unload, err);
		loads[i] = (double)w->whole_bytes * 1e9 / sum(parts);
		if (rc == 0 && copy_fresh(source, w->whole_bytes, r->threads,
				       &copies[i]))
			rc = error_set(err, ENOMEM, "no memory to copy into");
	}
	if (rc == 0) {
		out->fresh = median(loads, rounds);
		out->copy_fresh = median(copies, rounds);
	}
	free(loads);
	return rc;
}

/* Load, copy and unload in turn: what disturbs one disturbs the others. */
static int measure_used(struct world *w, struct rounds *r, uint8_t *source,
	uint8_t *target, struct error *err)
{
	int rc = 0;

	for (int64_t i = -1; rc == 0 && i < r->count; i++) {
		uint32_t at = i < 0 ? 0 : (uint32_t)i; /* the first touches */
		double parts[PART_COUNT] = {0};

		rc = load_once(w, r->threads, parts, err);
		r->copy_used[at] = (double)w->whole_bytes * 1e9 /
				   copy_all(target, source, w->whole_bytes,
					   r->threads, false);
		source[at] = target[w->whole_bytes - 1]; /* it is needed */
		if (rc == 0)
			rc = unload_once(w, &r->unload[at], err);
		r->used[at] = (double)w->whole_bytes * 1e9 / sum(parts);
		for (int p = 0; p < PART_COUNT; p++)
			r->parts[p][at] = parts[p];
	}
	return rc;
}

static void take_medians(struct rounds *r, struct load_rates *out)
{
	out->used = median(r->used, r->count);
	out->copy_used = median(r->copy_used, r->count);
	out->stage_ns = median(r->parts[PART_STAGE], r->count);
	out->map_ns = median(r->parts[PART_MAP], r->count);
	out->copy_ns = median(r->parts[PART_COPY], r->count);
	out->publish_ns = median(r->parts[PART_PUBLISH], r->count);
	out->unload_ns = median(r->unload, r->count);
}

/* Memory that memcpy uses: in large pages, as the engine's is. */
static uint8_t *make_buffer(size_t bytes, int value)
{
	uint8_t *buffer = aligned_alloc(LARGE_BYTES,
		(bytes + LARGE_BYTES - 1) / LARGE_BYTES * LARGE_BYTES);

	if (!buffer)
		return NULL;
	(void)madvise(buffer, bytes, MADV_HUGEPAGE);
	memset(buffer, value, bytes);
	return buffer;
}

int load_measure(struct world *w, uint32_t rounds, uint32_t threads,
	struct load_rates *out, struct error *err)
{
	double *room = calloc((size_t)rounds * (3 + PART_COUNT), sizeof(*room));
	uint8_t *source = make_buffer(w->whole_bytes, 1);
	uint8_t *target = make_buffer(w->whole_bytes, 2);
	struct rounds r = {.threads = threads, .count = rounds};
	int rc = room && source && target ? 0 : -ENOMEM;

	assert(rounds > 0);
	if (rc == 0) {
		r.used = room;
		r.copy_used = room + rounds;
		r.unload = room + (size_t)2 * rounds;
		for (uint32_t p = 0; p < PART_COUNT; p++)
			r.parts[p] = room + (size_t)(3 + p) * rounds;
		rc = measure_used(w, &r, source, target, err);
	} else {
		error_set(err, ENOMEM, "no memory to copy");
	}
	if (rc == 0) {
		take_medians(&r, out);
		rc = measure_fresh(w, &r, source, out, err);
	}
	free(target);
	free(source);
	free(room);
	return rc;
}
