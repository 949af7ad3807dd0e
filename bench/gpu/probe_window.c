/* probe_window.c - a whole pool of 2 MiB handles in one range (window) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { WINDOW_SEED = 0x3131 };

struct window {
	struct probe_handles set;
	struct probe_range range;
	CUdeviceptr sink;
	double *create_us; /* [wanted] */
	double *map_us; /* [wanted] */
	size_t wanted;
};

/* Create and map handle after handle until all are there or time is up. */
static int window_build(struct probe *p, struct window *w, uint64_t until_ns)
{
	CUmemAllocationProp properties =
		probe_properties(p, probe_product_flags(p));

	for (size_t i = 0; i < w->wanted && probe_now_ns() < until_ns; i++) {
		uint64_t begin = probe_now_ns();
		CUresult result = p->cu.create(
			&w->set.handle[i], w->set.handle_bytes, &properties, 0);

		/* Memory that others took meanwhile only makes it smaller. */
		if (result == CUDA_ERROR_OUT_OF_MEMORY && i > 0)
			break;
		if (probe_cu(p, result, "cuMemCreate") != 0)
			return -EIO;
		w->set.count++;
		w->create_us[i] = (double)(probe_now_ns() - begin) / 1e3;
		begin = probe_now_ns();
		if (probe_range_map(p, &w->range, i, w->set.handle[i]) != 0)
			return -EIO;
		w->map_us[i] = (double)(probe_now_ns() - begin) / 1e3;
	}
	return 0;
}

static void window_report(struct probe *p, struct window *w)
{
	size_t count = w->set.count;
	size_t tail = count < 10 ? count : count / 10;
	char note[PROBE_TEXT_MAX];

	snprintf(note, sizeof(note), "%.1f GiB of %.1f GiB free; wanted %zu",
		(double)(count * w->set.handle_bytes) / (double)PROBE_GIB,
		(double)p->free_bytes / (double)PROBE_GIB, w->wanted);
	probe_value(p, "window.handles", (double)count, note);
	/* The tail first: reporting sorts. */
	probe_times(
		p, "window.create.last", w->create_us + count - tail, tail, "");
	probe_times(p, "window.map.last", w->map_us + count - tail, tail, "");
	probe_times(p, "window.create", w->create_us, count, "");
	probe_times(p, "window.map", w->map_us, count, "");
}

static int op_window_read(struct probe *p, void *context)
{
	struct window *w = context;
	uint64_t steps = w->set.count * w->set.handle_bytes / PROBE_STEP_BYTES;
	void *args[] = {&w->range.at, &steps, &w->sink};

	return probe_launch(p, "k_read",
		(struct probe_grid){(unsigned)p->sm_count * 4, PROBE_THREADS},
		args);
}

static int window_use(struct probe *p, struct window *w)
{
	uint64_t bytes = w->set.count * w->set.handle_bytes;
	struct probe_rate rate = {"window.read", (double)bytes / 1e9,
		p->peak_gb_s, 5, "compare with mem.read"};
	uint64_t bad = 0;

	if (probe_fill(p, w->range.at, bytes, WINDOW_SEED) != 0 ||
		probe_check(p, w->range.at, bytes, WINDOW_SEED, &bad) != 0)
		return -EIO;
	probe_bool(p, "window.right", bad == 0, "every word written and read");
	if (bad != 0)
		probe_wrong(p, "%llu words of the window are wrong",
			(unsigned long long)bad);
	return probe_rate(p, &rate, op_window_read, w, NULL);
}

static int window_take_down(struct probe *p, struct window *w)
{
	uint64_t begin = probe_now_ns();
	size_t count = w->set.count;

	if (probe_range_unmap(p, &w->range, 0, count) != 0)
		return -EIO;
	probe_value(p, "window.unmap", (double)(probe_now_ns() - begin) / 1e9,
		"one call");
	begin = probe_now_ns();
	while (w->set.count > 0) {
		w->set.count--;
		if (probe_cu(p, p->cu.release(w->set.handle[w->set.count]),
			    "cuMemRelease") != 0)
			return -EIO;
	}
	probe_value(p, "window.release", (double)(probe_now_ns() - begin) / 1e9,
		"one call per handle");
	return 0;
}

static int window_run(struct probe *p, struct window *w)
{
	uint64_t begin = probe_now_ns();
	uint64_t half = (p->deadline_ns - begin) / 2;
	uint64_t access_begin;
	int error = window_build(p, w, begin + half);

	if (error != 0)
		return error;
	assert(w->set.count > 0);
	access_begin = probe_now_ns();
	if (probe_range_access(p, &w->range, 0, w->set.count) != 0)
		return -EIO;
	probe_value(p, "window.access",
		(double)(probe_now_ns() - access_begin) / 1e9, "one call");
	probe_value(p, "window.build", (double)(probe_now_ns() - begin) / 1e9,
		"create, map, set-access");
	window_report(p, w);
	error = window_use(p, w);
	return error != 0 ? error : window_take_down(p, w);
}

int probe_section_window(struct probe *p)
{
	struct window w = {.set = {.handle_bytes = PROBE_PAGE}};
	int error = -ENOMEM;

	w.wanted = (size_t)(p->free_bytes / 4 * 3 / PROBE_PAGE);
	if (p->quick && w.wanted > 500)
		w.wanted = 500;
	if (w.wanted == 0 || probe_late(p))
		return probe_stop(p, -ENOTSUP, "no memory or time left");
	w.set.handle = calloc(w.wanted, sizeof(*w.set.handle));
	w.create_us = calloc(w.wanted, sizeof(*w.create_us));
	w.map_us = calloc(w.wanted, sizeof(*w.map_us));
	if (w.set.handle == NULL || w.create_us == NULL || w.map_us == NULL)
		(void)probe_stop(p, error, "no host memory");
	else if (probe_cu(p,
			 p->cu.memory_alloc(
				 &w.sink, (size_t)p->sm_count * 4 * 4),
			 "cuMemAlloc") != 0)
		error = -EIO;
	else
		error = probe_range_init(p, &w.range, PROBE_PAGE, w.wanted);
	if (error == 0)
		error = window_run(p, &w);
	probe_range_release(p, &w.range);
	probe_handles_release(p, &w.set);
	if (w.sink != 0)
		(void)p->cu.memory_free(w.sink);
	free(w.map_us);
	free(w.create_us);
	return error;
}
